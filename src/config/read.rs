//! Finds the configuration files and reads TOML into trees whose values know where they were written.
//! Bounded in size and depth; merges nothing and judges nothing but the syntax.

use std::fs::{File, Metadata};
use std::io::Read;
use std::path::{Path, PathBuf};

use config::{Value, ValueKind};
use toml::de::{DeTable, DeValue};

use super::place::{Places, Tree};
use super::quantity::shown_size;
use super::syntax;

/// Largest configuration file.
const MOST_BYTES: u64 = 4 * 1024 * 1024;
/// Most files in `conf.d`.
const MOST_FILES: usize = 1000;

/// What is wrong with a text, and at which byte.
pub(crate) type SyntaxProblem = (usize, String);

/// The files of the platform's directory that exist: `config.toml`, then `conf.d/*.toml` sorted by name.
///
/// # Errors
/// The path and a sentence, when a directory exists and cannot be listed.
pub(crate) fn default_files(directory: &Path) -> Result<Vec<PathBuf>, (PathBuf, String)> {
    let main = directory.join("config.toml");
    let mut files = Vec::new();
    // `symlink_metadata`: a link that leads nowhere is a mistake to report, not a file that is absent.
    if main.symlink_metadata().is_ok() {
        files.push(main);
    }
    let parts = directory.join("conf.d");
    let entries = match std::fs::read_dir(&parts) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(files),
        Err(error) => return Err((parts, format!("cannot be listed: {error}"))),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = match entry {
            Ok(entry) => entry.path(),
            Err(error) => return Err((parts, format!("cannot be listed: {error}"))),
        };
        let hidden = path.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'));
        if !hidden && path.extension().is_some_and(|extension| extension == "toml") {
            found.push(path);
        }
        if found.len() > MOST_FILES {
            return Err((parts, format!("more than {MOST_FILES} files")));
        }
    }
    found.sort();
    files.extend(found);
    Ok(files)
}

/// Reads a text file of at most `most` bytes.
///
/// # Errors
/// A sentence that says why not: missing, unreadable, no regular file, too large, not UTF-8, a NUL inside.
pub(crate) fn text(path: &Path, most: u64) -> Result<(String, Metadata), String> {
    let metadata = std::fs::metadata(path).map_err(|error| reading_failed(&error))?;
    if metadata.is_dir() {
        return Err("is a directory; name a file".to_owned());
    }
    // A pipe or a terminal could be waited for forever; `/dev/null` is the usual name for "nothing".
    if !metadata.is_file() && path != Path::new("/dev/null") {
        return Err("is not a regular file; name one that holds text".to_owned());
    }
    let mut bytes = Vec::new();
    let opened = File::open(path).and_then(|file| file.take(most + 1).read_to_end(&mut bytes));
    opened.map_err(|error| reading_failed(&error))?;
    if bytes.len() as u64 > most {
        return Err(format!("is larger than {}; is it the right one?", shown_size(most)));
    }
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err("is UTF-16; save the file as UTF-8".to_owned());
    }
    let line_of =
        |offset: usize| 1 + memchr::memchr_iter(b'\n', bytes.get(..offset).unwrap_or_default()).count();
    if let Some(offset) = memchr::memchr(0, &bytes) {
        return Err(format!("line {}: contains a NUL character; is it text?", line_of(offset)));
    }
    if let Err(error) = std::str::from_utf8(&bytes) {
        return Err(format!(
            "line {}: is not valid UTF-8; save the file as UTF-8",
            line_of(error.valid_up_to())
        ));
    }
    let whole = String::from_utf8(bytes).map_err(|_| "is not valid UTF-8".to_owned())?;
    Ok((whole.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(whole), metadata))
}

/// The text of a configuration file.
pub(crate) fn configuration_text(path: &Path) -> Result<String, String> {
    text(path, MOST_BYTES).map(|(whole, _)| whole)
}

/// Why a file cannot be read, with what helps.
fn reading_failed(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "no such file".to_owned(),
        std::io::ErrorKind::PermissionDenied => {
            "cannot be read: permission denied; let the user read it that demuxai runs as".to_owned()
        }
        _ => format!("cannot be read: {error}"),
    }
}

/// Parses a TOML document; values carry the place and their offset in it.
///
/// # Errors
/// What is wrong, without a piece of the text: it may hold a secret.
pub(crate) fn toml_table(text: &str, place: usize) -> Result<Tree, Vec<SyntaxProblem>> {
    let document = match DeTable::parse(text) {
        Ok(document) => document,
        Err(error) => return Err(vec![syntax::problem(text, &error)]),
    };
    let mut problems = Vec::new();
    let tree = table(document.into_inner(), place, &mut problems);
    if problems.is_empty() { Ok(tree) } else { Err(problems) }
}

/// Parses one TOML value; the value carries offset 0, what is inside it another one.
pub(crate) fn toml_value(text: &str, place: usize) -> Option<Value> {
    let parsed = DeValue::parse(text).ok()?;
    let mut problems = Vec::new();
    let found = value(parsed.into_inner(), place, 1, &mut problems)?;
    problems.is_empty().then(|| Value::new(Some(&Places::origin(place, 0)), found.kind))
}

/// A value that another part of the program made.
pub(crate) fn value_of(value: &toml::Value, place: usize) -> Value {
    let kind = match value {
        toml::Value::String(text) => ValueKind::String(text.clone()),
        toml::Value::Integer(number) => ValueKind::I64(*number),
        toml::Value::Float(number) => ValueKind::Float(*number),
        toml::Value::Boolean(truth) => ValueKind::Boolean(*truth),
        toml::Value::Datetime(date) => ValueKind::String(date.to_string()),
        toml::Value::Array(items) => {
            ValueKind::Array(items.iter().map(|item| value_of(item, place)).collect())
        }
        toml::Value::Table(table) => {
            ValueKind::Table(table.iter().map(|(key, item)| (key.clone(), value_of(item, place))).collect())
        }
    };
    Value::new(Some(&Places::origin(place, 0)), kind)
}

fn table(parsed: DeTable<'_>, place: usize, problems: &mut Vec<SyntaxProblem>) -> Tree {
    let mut tree = Tree::new();
    for (key, item) in parsed {
        // The key's own offset: the line where a person looks for it, also for a `[table]`.
        let offset = key.span().start;
        if let Some(found) = value(item.into_inner(), place, offset, problems) {
            tree.insert(key.into_inner().into_owned(), found);
        }
    }
    tree
}

fn value(
    parsed: DeValue<'_>,
    place: usize,
    offset: usize,
    problems: &mut Vec<SyntaxProblem>,
) -> Option<Value> {
    let kind = match parsed {
        DeValue::String(text) => ValueKind::String(text.into_owned()),
        DeValue::Boolean(truth) => ValueKind::Boolean(truth),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => ValueKind::I64(number),
            Err(_) => {
                problems.push((
                    offset,
                    "the integer does not fit into 64 bits; no option takes one so large".to_owned(),
                ));
                return None;
            }
        },
        DeValue::Float(number) => ValueKind::Float(number.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Datetime(_) => {
            problems.push((
                offset,
                "no option takes a date or a time without quotes; put it in quotes".to_owned(),
            ));
            return None;
        }
        DeValue::Array(items) => {
            let mut list = Vec::new();
            for item in items {
                // Never 0: at a variable that is the offset of the value as a whole.
                let start = item.span().start.max(1);
                list.extend(value(item.into_inner(), place, start, problems));
            }
            ValueKind::Array(list)
        }
        DeValue::Table(inner) => ValueKind::Table(table(inner, place, problems)),
    };
    Some(Value::new(Some(&Places::origin(place, offset)), kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_know_the_offset_of_their_key() {
        let text = "[a]\nb = [1, { c = 'x' }]\n";
        let tree = toml_table(text, 7).unwrap();
        let b = super::super::place::at(&tree, &["a", "b"]).unwrap();
        assert_eq!(b.origin(), Some("7:4"));
        let c = super::super::place::at(&tree, &["a", "b", "[1]", "c"]).unwrap();
        assert_eq!(c.origin().unwrap(), format!("7:{}", text.find("c =").unwrap()));
    }

    #[test]
    fn syntax_problems_do_not_quote_the_text() {
        for text in [
            "api_key = sk-secret",
            "api_key = \"sk-secret",
            "api_key = 'sk-secret' x sk-secret",
            "a = [sk-secret",
        ] {
            let problems = toml_table(text, 0).unwrap_err();
            assert!(!problems.is_empty());
            for (_, message) in problems {
                assert!(!message.contains("secret"), "{message}");
            }
        }
    }

    #[test]
    fn depth_and_size_are_bounded() {
        let deep = format!("a = {}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(toml_table(&deep, 0).is_err());
        assert!(toml_value(&"[".repeat(100_000), 0).is_none());
        assert!(toml_value(&"{a=".repeat(100_000), 0).is_none());
        assert!(toml_table(&format!("{}=1", vec!["a"; 100_000].join(".")), 0).is_err());
        let directory = tempfile::tempdir().unwrap();
        let large = directory.path().join("large.toml");
        std::fs::write(&large, "#".repeat(MOST_BYTES as usize + 1)).unwrap();
        assert_eq!(configuration_text(&large).unwrap_err(), "is larger than 4 MB; is it the right one?");
    }

    #[test]
    fn what_is_no_text_is_refused_with_its_line() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("x.toml");
        std::fs::write(&file, b"a = 1\nb = \"\0\"\n").unwrap();
        assert_eq!(configuration_text(&file).unwrap_err(), "line 2: contains a NUL character; is it text?");
        std::fs::write(&file, b"a = 1\n\nb = \"\xff\"\n").unwrap();
        assert_eq!(
            configuration_text(&file).unwrap_err(),
            "line 3: is not valid UTF-8; save the file as UTF-8"
        );
        assert_eq!(configuration_text(directory.path()).unwrap_err(), "is a directory; name a file");
        assert_eq!(configuration_text(&directory.path().join("none")).unwrap_err(), "no such file");
        std::fs::write(&file, b"\xef\xbb\xbfa = 1").unwrap();
        assert_eq!(configuration_text(&file).unwrap(), "a = 1");
    }

    #[test]
    fn what_the_system_refuses_is_said_with_what_helps() {
        use std::io::{Error, ErrorKind};
        let said = |kind| reading_failed(&Error::from(kind));
        assert_eq!(said(ErrorKind::NotFound), "no such file");
        assert_eq!(
            said(ErrorKind::PermissionDenied),
            "cannot be read: permission denied; let the user read it that demuxai runs as"
        );
        assert_eq!(said(ErrorKind::TimedOut), "cannot be read: timed out");
    }

    #[test]
    fn default_files_are_the_main_file_and_the_sorted_parts() {
        let directory = tempfile::tempdir().unwrap();
        assert!(default_files(directory.path()).unwrap().is_empty());
        let parts = directory.path().join("conf.d");
        std::fs::create_dir(&parts).unwrap();
        for name in ["20-b.toml", "10-a.toml", ".hidden.toml", "note.txt"] {
            std::fs::write(parts.join(name), "").unwrap();
        }
        std::fs::write(directory.path().join("config.toml"), "").unwrap();
        let names: Vec<_> = default_files(directory.path())
            .unwrap()
            .iter()
            .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
            .collect();
        assert_eq!(names, ["config.toml", "10-a.toml", "20-b.toml"]);
    }
}
