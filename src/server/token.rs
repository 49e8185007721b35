//! The token that lets the command line change a running daemon where no `[admin] key` is configured: a
//! random word in a file beside the state that only its owner can read. The daemon makes it, `demuxai quota reset` reads it.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use crate::config::secret::Secret;
use crate::config::settings::TOKEN_FILE;

/// Shorter ones were not made by us, or not wholly.
const LENGTH: usize = 64;

/// Where the token is, beside this state file.
pub fn place(state: &Path) -> PathBuf {
    state.with_file_name(TOKEN_FILE)
}

/// The token in that file, made if there is none that is safe to use. The directory is made by whoever keeps the state.
///
/// # Errors
/// What the system says.
pub fn obtain(file: &Path) -> io::Result<Secret> {
    if let Some(token) = read(file) {
        return Ok(token);
    }
    // Cut short, or readable by others: what anybody may know is no secret.
    match fs::remove_file(file) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let token = format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(file)?.write_all(token.as_bytes())?;
    Ok(Secret::new(token))
}

/// The token in that file; `None` if there is none, or others than its owner can read it.
pub fn read(file: &Path) -> Option<Secret> {
    let mut opened = fs::File::open(file).ok()?;
    let about = opened.metadata().ok()?;
    #[cfg(unix)]
    if std::os::unix::fs::PermissionsExt::mode(&about.permissions()) & 0o077 != 0 {
        return None;
    }
    if about.len() != LENGTH as u64 {
        return None;
    }
    let mut token = String::with_capacity(LENGTH);
    opened.read_to_string(&mut token).ok()?;
    token.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| Secret::new(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_made_once_and_only_its_owner_can_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = place(&folder.path().join("state.db"));
        assert!(read(&file).is_none());
        let made = obtain(&file).unwrap();
        assert!(made.matches(obtain(&file).unwrap().expose()) && made.matches(read(&file).unwrap().expose()));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
            fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
            assert!(read(&file).is_none());
            let fresh = obtain(&file).unwrap();
            assert!(!fresh.matches(made.expose()), "what others could read is not used again");
            assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        }
        fs::write(&file, "short").unwrap();
        assert_eq!(obtain(&file).unwrap().expose().len(), LENGTH);
        assert!(obtain(&folder.path().join("absent/token")).is_err());
    }
}
