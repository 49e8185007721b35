//! The files that groups write to: two that write to one file destroy what the other one wrote, and records in the
//! configuration are the end of it. Also what is there already, and is none of theirs.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::Check;
use super::writable::obstacle;
use crate::config::settings::{StateConfig, TOKEN_FILE};

/// How a file is written to, which says what else is written beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Lines at its end; put aside under its name and a number.
    Lines,
    /// A SQLite database.
    Database,
}

/// A file that a group writes to.
pub(crate) struct Written {
    pub(super) group: String,
    pub(super) key: &'static str,
    pub(super) file: PathBuf,
    pub(super) form: Form,
}

/// A file that somebody has.
struct Taken {
    file: PathBuf,
    /// `None`: it is only read, and nothing is beside it.
    form: Option<Form>,
    whose: String,
}

/// How a SQLite file begins (SQLite, "Database File Format", 1.3.1).
const DATABASE: &[u8] = b"SQLite format 3\0";
/// What is written beside a database: SQLite's own files, and the state's lock.
const BESIDE_DATABASE: [&str; 4] = ["-wal", "-shm", "-journal", ".lock"];

/// Reports each file that is another's, too, and warns of those that are there and are somebody else's.
pub(super) fn apart(check: &mut Check<'_>, state: &StateConfig) {
    let mut taken = others(check, state);
    for Written { group, key, file, form } in std::mem::take(&mut check.written) {
        let own =
            Taken { file: identity(&file), form: Some(form), whose: format!("the file of group `{group}`") };
        let at = ["groups", group.as_str(), key];
        if let Some(other) = taken.iter().find(|other| other.file == own.file) {
            check.problem(&at, format!("is {}, too; name another one", other.whose));
        } else if let Some(other) = taken.iter().find(|other| other.meets(&own) || own.meets(other)) {
            let whose = &other.whose;
            let text = format!("and {whose} would share what is kept beside them; name another one");
            check.problem(&at, text);
        } else if let Some(what) = foreign(&file, form) {
            check.warn(&at, what);
        } else if let Some(why) = obstacle(&file, form) {
            let without = match form {
                Form::Lines => "nothing is recorded",
                Form::Database => "answers are kept in memory only",
            };
            let text =
                format!("cannot be written: {why}; mend that or name another file, until then {without}");
            check.warn(&at, text);
        } else if !file.parent().is_some_and(Path::is_dir) {
            check.note(&at, "its directory is not there, and will be made");
        }
        taken.push(own);
    }
}

/// Warns of a state that is kept in memory only, unless that is meant.
pub(super) fn of_state(check: &mut Check<'_>, state: &StateConfig) {
    let Some(file) = &state.file else { return };
    if let Some(why) = obstacle(file, Form::Database) {
        let text = format!(
            "{} cannot be written: {why}; mend that, or name another file, or \"none\" for no file; until then \
             counts are in memory only, and a restart forgets them",
            file.display()
        );
        check.warn(&["state", "path"], text);
    }
}

/// What is read, and the state's own.
fn others(check: &Check<'_>, state: &StateConfig) -> Vec<Taken> {
    let read =
        |file: PathBuf, whose: &str| Taken { file: identity(&file), form: None, whose: whose.to_owned() };
    let configuration = check.places.files().map(|file| read(file, "a file of the configuration"));
    let named = check.files.iter().cloned();
    let named =
        named.map(|file| read(file, "a file that the configuration reads a secret or a certificate from"));
    let mut all: Vec<Taken> = configuration.chain(named).collect();
    if let Some(file) = &state.file {
        all.push(read(file.with_file_name(TOKEN_FILE), "the file of the token for changes"));
        let whose = "the file of [state]".to_owned();
        all.push(Taken { file: identity(file), form: Some(Form::Database), whose });
    }
    all
}

/// A file by the one name that it has whatever way leads to it; of one that is not there yet, by its directory's.
fn identity(file: &Path) -> PathBuf {
    let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    if let Ok(found) = fs::canonicalize(&file) {
        return found;
    }
    match (file.parent(), file.file_name()) {
        (Some(parent), Some(name)) => identity(parent).join(name),
        _ => file,
    }
}

/// What is there already and is not what such a group writes; `None` as well for what cannot be looked at.
fn foreign(file: &Path, form: Form) -> Option<&'static str> {
    if !file.metadata().is_ok_and(|about| about.is_file() && about.len() > 0) {
        return None;
    }
    let mut begin = Vec::new();
    let most = DATABASE.len() as u64;
    fs::File::open(file).ok()?.take(most).read_to_end(&mut begin).ok()?;
    match form {
        Form::Lines if !begin.starts_with(b"{") => {
            Some("is there already and does not hold records; they are written to its end")
        }
        Form::Database if begin != DATABASE => {
            Some("is there already and is no database; answers are kept in memory only")
        }
        _ => None,
    }
}

// === impl Taken ===

impl Taken {
    /// Whether the other one is where this one keeps something beside its file.
    fn meets(&self, other: &Taken) -> bool {
        let names = self.file.file_name().zip(other.file.file_name());
        let Some((name, other_name)) = names.filter(|_| self.file.parent() == other.file.parent()) else {
            return false;
        };
        let (name, other_name) = (name.to_string_lossy(), other_name.to_string_lossy());
        let Some(rest) = other_name.strip_prefix(&*name) else { return false };
        match self.form {
            Some(Form::Database) => BESIDE_DATABASE.contains(&rest),
            Some(Form::Lines) => rest.strip_prefix('.').is_some_and(|number| number.parse::<u16>().is_ok()),
            None => false,
        }
    }
}
