//! The file of a tee: lines behind each other, its owner's alone, put aside when it is large. Every call may block.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::state::{close_to_others, make_directory, private};

/// Lines in a file.
pub(super) struct Lines {
    path: PathBuf,
    /// A file of so many bytes is put aside.
    most: u64,
    /// So many that were put aside are kept.
    kept: usize,
    open: Option<Open>,
}

struct Open {
    file: File,
    length: u64,
}

// === impl Lines ===

impl Lines {
    /// Nothing is touched yet.
    pub(super) fn new(path: PathBuf, most: u64, kept: usize) -> Self {
        Lines { path, most, kept, open: None }
    }

    /// From now on a file of so many bytes is put aside, and so many of those are kept.
    pub(super) fn bound(&mut self, most: u64, kept: usize) {
        (self.most, self.kept) = (most, kept);
    }

    /// Adds a line, which has its line end.
    ///
    /// # Errors
    /// When it is not in the file; nothing of it is, then.
    pub(super) fn add(&mut self, line: &[u8]) -> io::Result<()> {
        let written = self.write(line);
        if written.is_err() {
            self.open = None;
        }
        written
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        if self.open.as_ref().is_some_and(|open| !open.is(&self.path)) {
            // Somebody moved or deleted it.
            self.open = None;
        }
        let size = line.len() as u64;
        if self.opened()?.length.saturating_add(size) > self.most && self.opened()?.length > 0 {
            self.open = None;
            self.put_aside()?;
        }
        let open = self.opened()?;
        if let Err(error) = open.file.write_all(line) {
            // Half a line would spoil the next one.
            let _ = open.file.set_len(open.length);
            return Err(error);
        }
        open.length = open.length.saturating_add(size);
        Ok(())
    }

    fn opened(&mut self) -> io::Result<&mut Open> {
        let open = match self.open.take() {
            Some(open) => open,
            None => Open::at(&self.path)?,
        };
        Ok(self.open.insert(open))
    }

    /// `x.jsonl` becomes `x.jsonl.1`, that `x.jsonl.2` and so on; the last one goes.
    fn put_aside(&self) -> io::Result<()> {
        for number in (1..self.kept).rev() {
            match fs::rename(self.numbered(number), self.numbered(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        fs::rename(&self.path, self.numbered(1))
    }

    fn numbered(&self, number: usize) -> PathBuf {
        let mut name = OsString::from(self.path.as_os_str());
        name.push(format!(".{number}"));
        PathBuf::from(name)
    }
}

// === impl Open ===

impl Open {
    fn at(path: &Path) -> io::Result<Self> {
        make_directory(path)?;
        let mut file = private().append(true).open(path)?;
        close_to_others(&file);
        let mut length = file.metadata()?.len();
        if length > 0 {
            // A process that was killed may have left half a line.
            file.seek(SeekFrom::Start(length - 1))?;
            let mut last = [0];
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                file.write_all(b"\n")?;
                length += 1;
            }
        }
        Ok(Open { file, length })
    }

    /// Whether this is the file that has this name now.
    #[cfg(unix)]
    fn is(&self, path: &Path) -> bool {
        use std::os::unix::fs::MetadataExt;
        let (Ok(own), Ok(named)) = (self.file.metadata(), fs::metadata(path)) else { return false };
        (own.dev(), own.ino()) == (named.dev(), named.ino())
    }

    /// Whether there is a file that has this name now; all that can be said here.
    #[cfg(not(unix))]
    fn is(&self, path: &Path) -> bool {
        path.exists()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("below/tee.jsonl");
        (directory, path)
    }

    fn text(path: &Path) -> String {
        fs::read_to_string(path).unwrap()
    }

    #[test]
    fn a_large_file_is_put_aside_and_so_many_are_kept() {
        let (_directory, path) = place();
        let mut lines = Lines::new(path.clone(), 10, 2);
        for line in
            ["aaaa\n", "bbbb\n", "cccc\n", "dddd\n", "eeee\n", "ffff\n", "a line that is longer than all\n"]
        {
            lines.add(line.as_bytes()).unwrap();
        }
        assert_eq!(text(&path), "a line that is longer than all\n");
        assert_eq!(text(&lines.numbered(1)), "eeee\nffff\n");
        assert_eq!(text(&lines.numbered(2)), "cccc\ndddd\n");
        assert!(!lines.numbered(3).exists());
    }

    #[cfg(unix)]
    #[test]
    fn file_and_directory_are_the_owners_alone() {
        use std::os::unix::fs::PermissionsExt;
        let (_directory, path) = place();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        Lines::new(path.clone(), 100, 1).add(b"a\n").unwrap();
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        Lines::new(path.clone(), 100, 1).add(b"b\n").unwrap();
        assert_eq!((mode(&path), text(&path).as_str()), (0o600, "a\nb\n"));
    }

    #[test]
    fn half_a_line_of_a_process_that_was_killed_spoils_nothing() {
        let (_directory, path) = place();
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "a\nhal").unwrap();
        Lines::new(path.clone(), 100, 1).add(b"b\n").unwrap();
        assert_eq!(text(&path), "a\nhal\nb\n");
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_somebody_moved_is_begun_anew() {
        let (_directory, path) = place();
        let mut lines = Lines::new(path.clone(), 100, 1);
        lines.add(b"a\n").unwrap();
        fs::rename(&path, path.with_extension("old")).unwrap();
        lines.add(b"b\n").unwrap();
        assert_eq!((text(&path), text(&path.with_extension("old"))), ("b\n".to_owned(), "a\n".to_owned()));
    }

    #[test]
    fn a_place_that_cannot_be_written_is_an_error_and_can_be_later() {
        let (_directory, path) = place();
        fs::write(path.parent().unwrap(), "a file where a directory should be").unwrap();
        let mut lines = Lines::new(path.clone(), 100, 1);
        assert!(lines.add(b"a\n").is_err());
        fs::remove_file(path.parent().unwrap()).unwrap();
        lines.add(b"b\n").unwrap();
        assert_eq!(text(&path), "b\n");
    }
}
