//! Whether a file can be written where it is named, as far as that shows without writing anything: a cache, a tee and the
//! state touch theirs only when they have something to keep, which may be long after the start.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use super::files::Form;

/// What is in the way of writing this file, in words that go on a sentence; `None`: nothing that shows.
pub(super) fn obstacle(file: &Path, form: Form) -> Option<String> {
    let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match fs::metadata(file) {
        Ok(_) if !may_write(file) => Some(format!("this user may not write {}", file.display())),
        // SQLite keeps files of its own beside it.
        Ok(_) if form == Form::Database => in_directory(directory),
        Ok(_) => None,
        Err(_) => in_directory(directory),
    }
}

/// What is in the way of a file in this directory, which is made if it is not there.
fn in_directory(directory: &Path) -> Option<String> {
    for place in directory.ancestors() {
        let place = if place.as_os_str().is_empty() { Path::new(".") } else { place };
        match fs::metadata(place) {
            Ok(about) if !about.is_dir() => return Some(format!("{} is no directory", place.display())),
            Ok(_) if !may_add(place) => {
                return Some(format!("this user may not write in {}", place.display()));
            }
            Ok(_) => return None,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
            Err(error) => return Some(format!("{} cannot be looked into: {error}", place.display())),
        }
    }
    None
}

#[cfg(unix)]
fn may_write(file: &Path) -> bool {
    rustix::fs::access(file, rustix::fs::Access::WRITE_OK).is_ok()
}

#[cfg(unix)]
fn may_add(directory: &Path) -> bool {
    use rustix::fs::Access;
    rustix::fs::access(directory, Access::WRITE_OK | Access::EXEC_OK).is_ok()
}

#[cfg(not(unix))]
fn may_write(file: &Path) -> bool {
    file.metadata().is_ok_and(|about| !about.permissions().readonly())
}

/// The mark of a directory says nothing about what may be put into it.
#[cfg(not(unix))]
fn may_add(_directory: &Path) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(file: &Path, form: Form) -> String {
        let root = file.ancestors().find(|place| place.is_dir()).unwrap().display().to_string();
        obstacle(file, form).unwrap_or_default().replace(&root, "ROOT")
    }

    #[test]
    fn a_file_where_a_directory_should_be_is_in_the_way_of_all_below_it() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("file"), "").unwrap();
        for below in ["file/t.jsonl", "file/a/b/t.jsonl"] {
            assert_eq!(told(&root.path().join(below), Form::Lines), "ROOT/file is no directory");
        }
        for good in ["file", "t.jsonl", "a/b/t.jsonl"] {
            assert_eq!(told(&root.path().join(good), Form::Lines), "");
        }
    }

    #[cfg(unix)]
    #[test]
    fn what_this_user_may_not_write_is_in_the_way_unless_he_may_do_all() {
        use std::os::unix::fs::PermissionsExt;
        let root = tempfile::tempdir().unwrap();
        let (shut, file) = (root.path().join("shut"), root.path().join("shut/file"));
        fs::create_dir(&shut).unwrap();
        fs::write(&file, "").unwrap();
        let rights = |path: &Path, mode: u32| fs::set_permissions(path, fs::Permissions::from_mode(mode));
        rights(&file, 0o444).unwrap();
        rights(&shut, 0o555).unwrap();
        let may_do_all = rustix::process::geteuid().is_root();
        let expected = |text: &str| if may_do_all { String::new() } else { text.to_owned() };
        assert_eq!(told(&file, Form::Lines), expected("this user may not write ROOT/file"));
        assert_eq!(told(&shut.join("new/file"), Form::Lines), expected("this user may not write in ROOT"));
        rights(&file, 0o644).unwrap();
        assert_eq!(told(&file, Form::Lines), "");
        assert_eq!(told(&file, Form::Database), expected("this user may not write in ROOT"));
        rights(&shut, 0o755).unwrap();
        assert_eq!(told(&file, Form::Database), "");
    }
}
