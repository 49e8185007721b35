//! The place of the state's file: its directory, who may work on it, and where a corrupt one goes. It knows nothing of
//! what is in the file.
//!
//! One process works on a file at a time: it holds `<file>.lock` for as long as it lives. Two would not harm the
//! database, but each would write its counts over the other's.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use super::sqlite::{Identity, SqliteStore};
use super::store::{Fault, Saved, Shelf, Store, StoreError};
use crate::metrics::state::StatePutAside;
use crate::quota::Moment;

/// How many corrupt files one process puts aside before it takes the disk for broken.
const MOST_PUT_ASIDE: u32 = 3;

/// What SQLite puts beside its file.
const BESIDE: [&str; 2] = ["-wal", "-shm"];

/// The file at one path.
pub struct FileShelf {
    path: PathBuf,
    lock: Mutex<Option<Held>>,
    put_aside: AtomicU32,
}

/// The lock of this process. It goes with the process, however that ends.
struct Held {
    _file: Option<File>,
    identity: Option<Identity>,
}

// === impl FileShelf ===

impl FileShelf {
    /// Nothing is touched yet.
    pub fn new(path: PathBuf) -> Self {
        FileShelf { path, lock: Mutex::new(None), put_aside: AtomicU32::new(0) }
    }

    fn beside(&self, ending: &str) -> PathBuf {
        let mut name = OsString::from(self.path.as_os_str());
        name.push(ending);
        PathBuf::from(name)
    }

    /// Makes this process the one that works on the file.
    fn hold(&self) -> Result<(), StoreError> {
        let path = self.beside(".lock");
        let mut lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever deletes the lock's file lets another process in; then the file is not ours alone any more.
        if lock.as_ref().is_some_and(|held| held.identity == Identity::of(&path)) {
            return Ok(());
        }
        let mut file = private().open(&path).map_err(|error| failed("open", &path, &error))?;
        let held = match file.try_lock() {
            Ok(()) => Some(file),
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Only for the message.
                let _ = (&mut file).take(32).read_to_string(&mut holder);
                return Err(in_use(&self.path, holder.trim()));
            }
            // Some file systems have no locks; most people run one demuxai.
            Err(TryLockError::Error(_)) => None,
        };
        if let Some(mut file) = held.as_ref() {
            let _ = file.set_len(0).and_then(|()| write!(file, "{}", std::process::id()));
        }
        *lock = Some(Held { _file: held, identity: Identity::of(&path) });
        Ok(())
    }

    /// The file, readable by its owner alone. What SQLite puts beside it gets the same rights.
    fn make_private(&self) -> Result<(), StoreError> {
        make_private(&self.path).map_err(|error| failed("open", &self.path, &error))
    }

    /// A name that is free.
    fn free_name(&self) -> PathBuf {
        let stamp = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
        let named = |number: u32| match number {
            0 => self.beside(&format!(".corrupt-{stamp}")),
            _ => self.beside(&format!(".corrupt-{stamp}-{number}")),
        };
        (0..100).map(named).find(|path| !path.exists()).unwrap_or_else(|| named(100))
    }
}

/// Makes the directory of a file, for its owner alone, if it is not there.
///
/// # Errors
/// When it cannot be made.
pub fn make_directory(file: &Path) -> io::Result<()> {
    let Some(directory) = file.parent().filter(|parent| !parent.as_os_str().is_empty()) else {
        return Ok(());
    };
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt;
        builder.mode(0o700);
    }
    builder.create(directory)
}

/// Makes a database's file, readable by its owner alone; of one that is there, others lose the right.
pub(super) fn make_private(path: &Path) -> io::Result<()> {
    if !path.exists() {
        // Left over from a file that somebody deleted. A thread that hangs may still have them open: a fresh file
        // gets fresh ones.
        for ending in BESIDE {
            let mut name = OsString::from(path.as_os_str());
            name.push(ending);
            let _ = fs::remove_file(PathBuf::from(name));
        }
    }
    match private().open(path) {
        Ok(file) => {
            close_to_others(&file);
            Ok(())
        }
        // SQLite can still read it, and says the rest.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(()),
        Err(error) => Err(error),
    }
}

/// How a file is opened that is its owner's alone.
pub fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    options
}

/// Takes the rights to a file from all but its owner.
#[cfg(unix)]
pub fn close_to_others(file: &File) {
    use std::os::unix::fs::PermissionsExt;
    let open = file.metadata().is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0);
    if open {
        // Where it cannot be done, it is a file system without rights.
        let _ = file.set_permissions(fs::Permissions::from_mode(0o600));
    }
}

/// Takes the rights to a file from all but its owner.
#[cfg(not(unix))]
pub fn close_to_others(_file: &File) {}

fn in_use(path: &Path, holder: &str) -> StoreError {
    let process = if holder.chars().all(|c| c.is_ascii_digit()) && !holder.is_empty() {
        format!(" (process {holder})")
    } else {
        String::new()
    };
    StoreError::new(
        Fault::InUse,
        format!(
            "{} is in use by another demuxai{process} and is taken over when that ends; if both are to run, give this one \
             another file with [state] path",
            path.display()
        ),
    )
}

fn failed(what: &str, path: &Path, error: &io::Error) -> StoreError {
    let fault = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Fault::Full,
        ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied => Fault::ReadOnly,
        _ => Fault::Other,
    };
    StoreError::new(
        fault,
        format!("cannot {what} {}: {error}; name another file with [state] path", path.display()),
    )
}

impl Shelf for FileShelf {
    fn open(&self) -> Result<Box<dyn Store>, StoreError> {
        make_directory(&self.path).map_err(|error| failed("make the directory of", &self.path, &error))?;
        self.hold()?;
        self.make_private()?;
        let store = match SqliteStore::open(&self.path) {
            Err(error) if error.fault == Fault::Corrupt => {
                self.put_aside(&error)?;
                self.make_private()?;
                SqliteStore::open(&self.path)?
            }
            opened => opened?,
        };
        Ok(Box::new(store))
    }

    fn put_aside(&self, why: &StoreError) -> Result<(), StoreError> {
        if self.put_aside.fetch_add(1, Ordering::Relaxed) >= MOST_PUT_ASIDE {
            let text = format!("{why}; it was corrupt {MOST_PUT_ASIDE} times before, check the disk");
            return Err(StoreError::new(Fault::Other, text));
        }
        let to = self.free_name();
        fs::rename(&self.path, &to).map_err(|error| failed("move aside", &self.path, &error))?;
        for ending in BESIDE {
            let mut name = OsString::from(to.as_os_str());
            name.push(ending);
            // They may not be there; if they are and stay, SQLite throws them away with a fresh file.
            let _ = fs::rename(self.beside(ending), PathBuf::from(name));
        }
        StatePutAside { file: &self.path, aside: &to, why: &why.text }.emit();
        Ok(())
    }

    fn read(&self, now: Moment) -> Option<Saved> {
        SqliteStore::read(&self.path, now)
    }

    fn release(&self) {
        *self.lock.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

#[cfg(test)]
mod tests;
