//! Where a value of the configuration was written: a file with line and column, a variable, the command line.
//! Only remembers and names places; it neither reads files nor judges values.

use std::path::{Path, PathBuf};

use config::{Map, Value, ValueKind};

/// A table of the configuration, before it has a type.
pub(crate) type Tree = Map<String, Value>;

/// The way to a value: keys, and `[n]` for the n-th element of a list.
pub(crate) type KeyPath = Vec<String>;

/// Where something was written, for people.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Nowhere: it follows from what demuxai found by itself.
    BuiltIn,
    /// A file.
    File {
        /// The file, as it was named.
        path: PathBuf,
        /// Line, from 1, where it is known.
        line: Option<usize>,
        /// Column in characters, from 1, where it is known.
        column: Option<usize>,
    },
    /// An environment variable.
    Variable(String),
    /// The command line.
    CommandLine,
}

/// One source of values.
pub(crate) enum Place {
    /// Built in or discovered.
    BuiltIn,
    /// A file and its text; `None` where positions in it are not known.
    File(PathBuf, Option<String>),
    /// A variable and its text.
    Variable(String, String),
    /// The command line.
    CommandLine,
}

/// All sources of one load. A value's `origin()` is `<index of its place>:<offset in it>`.
#[derive(Default)]
pub(crate) struct Places(Vec<Place>);

/// An index into [`Places`] and an offset in that place.
pub(crate) type Spot = (usize, usize);

// === impl Places ===

impl Places {
    /// Adds a place; its index is for [`Places::origin`].
    pub(crate) fn add(&mut self, place: Place) -> usize {
        self.0.push(place);
        self.0.len() - 1
    }

    /// The text for [`Value::new`] that leads back to the place.
    pub(crate) fn origin(index: usize, offset: usize) -> String {
        format!("{index}:{offset}")
    }

    /// Reads what [`Places::origin`] wrote.
    pub(crate) fn spot(value: &Value) -> Option<Spot> {
        let (index, offset) = value.origin()?.split_once(':')?;
        Some((index.parse().ok()?, offset.parse().ok()?))
    }

    /// The whole text of the variable that a value stands for; nothing for a part of one.
    pub(crate) fn variable_text(&self, value: &Value) -> Option<&str> {
        match (self.0.get(Self::spot(value)?.0)?, Self::spot(value)?.1) {
            (Place::Variable(_, text), 0) => Some(text),
            _ => None,
        }
    }

    /// The directory that relative paths in a value written there start from.
    pub(crate) fn directory(&self, spot: Spot) -> Option<&Path> {
        match self.0.get(spot.0)? {
            Place::File(path, _) => path.parent(),
            _ => None,
        }
    }

    /// The files among them.
    pub(crate) fn files(&self) -> impl Iterator<Item = PathBuf> {
        self.0.iter().filter_map(|place| match place {
            Place::File(path, _) => Some(path.clone()),
            _ => None,
        })
    }

    /// The place for people.
    pub(crate) fn name(&self, spot: Spot) -> Origin {
        match self.0.get(spot.0) {
            None | Some(Place::BuiltIn) => Origin::BuiltIn,
            Some(Place::Variable(name, _)) => Origin::Variable(name.clone()),
            Some(Place::CommandLine) => Origin::CommandLine,
            Some(Place::File(path, text)) => {
                let position = text.as_deref().and_then(|known| line_and_column(known, spot.1));
                Origin::File {
                    path: path.clone(),
                    line: position.map(|found| found.0),
                    column: position.map(|found| found.1),
                }
            }
        }
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Origin::BuiltIn => f.write_str("built in"),
            Origin::Variable(name) => write!(f, "variable {name}"),
            Origin::CommandLine => f.write_str("command line"),
            Origin::File { path, line: None, .. } => write!(f, "{}", path.display()),
            Origin::File { path, line: Some(line), .. } => write!(f, "{}:{line}", path.display()),
        }
    }
}

/// Line and column, from 1, of a byte offset.
pub(crate) fn line_and_column(text: &str, offset: usize) -> Option<(usize, usize)> {
    let before = text.get(..offset)?;
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = 1 + memchr::memchr_iter(b'\n', before.as_bytes()).count();
    Some((line, 1 + before.get(line_start..)?.chars().count()))
}

/// The value at a path, if it is there.
pub(crate) fn at<'a>(tree: &'a Tree, path: &[&str]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    let mut value = tree.get(*first)?;
    for step in rest {
        value = match &value.kind {
            ValueKind::Table(table) => table.get(*step)?,
            ValueKind::Array(items) => items.get(index_of(step)?)?,
            _ => return None,
        };
    }
    Some(value)
}

/// The spot of a path in the uppermost layer that has it, else of the nearest table around it.
pub(crate) fn spot_of(layers: &[Tree], path: &[&str]) -> Option<Spot> {
    (1..=path.len()).rev().find_map(|length| {
        let part = path.get(..length)?;
        layers.iter().rev().find_map(|layer| Places::spot(at(layer, part)?))
    })
}

/// The step that leads to the n-th element of a list.
pub(crate) fn index_step(index: usize) -> String {
    format!("[{index}]")
}

fn index_of(step: &str) -> Option<usize> {
    step.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}

/// A key path for people: `providers.mistral.limits[0].per`, odd keys in quotes.
pub(crate) fn show(path: &[&str]) -> String {
    let mut shown = String::new();
    for step in path {
        if index_of(step).is_some() {
            shown.push_str(step);
            continue;
        }
        if !shown.is_empty() {
            shown.push('.');
        }
        let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if !step.is_empty() && step.len() <= 128 && step.chars().all(bare) {
            shown.push_str(step);
        } else {
            let short: String = step.chars().take(128).collect();
            shown.push_str(&format!("{short:?}"));
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_and_column_count_characters_from_one() {
        let text = "a = 1\nbé = 2\n";
        assert_eq!(line_and_column(text, 0), Some((1, 1)));
        assert_eq!(line_and_column(text, 6), Some((2, 1)));
        assert_eq!(line_and_column(text, 9), Some((2, 3)));
        assert_eq!(line_and_column(text, 99), None);
        assert_eq!(line_and_column(text, 8), None, "inside a character");
    }

    #[test]
    fn odd_keys_are_shown_quoted_and_escaped() {
        assert_eq!(show(&["providers", "a-b", "limits", "[0]", "per"]), "providers.a-b.limits[0].per");
        assert_eq!(show(&["a.b", "", "\u{1b}[31m"]), r#""a.b".""."\u{1b}[31m""#);
    }
}
