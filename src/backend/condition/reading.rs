//! Reads values of conditions: one or a list of them, and what is wrong with which.

use std::collections::BTreeSet;

use globset::{GlobBuilder, GlobMatcher};
use serde_json::{Map, Value};

use super::MOST_VALUES;
use crate::config::did_you_mean;

/// No more known names are told.
const MOST_SHOWN: usize = 50;

/// What is wrong with a condition, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The steps from the route: `regex`, `[1]`, `user`.
    pub path: Vec<String>,
    /// For people: what is wrong, with the remedy.
    pub message: String,
}

/// A message about the value itself.
impl From<String> for Fault {
    fn from(message: String) -> Self {
        Fault { path: Vec::new(), message }
    }
}

impl From<&str> for Fault {
    fn from(message: &str) -> Self {
        Fault::from(message.to_owned())
    }
}

// === impl Fault ===

impl Fault {
    /// The same, seen from one step further up.
    pub(super) fn below(mut self, step: &str) -> Self {
        self.path.insert(0, step.to_owned());
        self
    }
}

/// Reads one value, or each one of a list.
pub(super) fn each<T>(
    value: &Value,
    mut read: impl FnMut(&Value) -> Result<T, Fault>,
) -> (Vec<T>, Vec<Fault>) {
    each_with_all_faults(value, |one| read(one).map_err(|fault| vec![fault]))
}

/// Reads one table, or each one of a list.
pub(super) fn each_table<T>(
    value: &Value,
    mut read: impl FnMut(&Map<String, Value>) -> Result<T, Vec<Fault>>,
) -> (Vec<T>, Vec<Fault>) {
    each_with_all_faults(value, |one| match one.as_object() {
        Some(table) if !table.is_empty() => read(table),
        _ => Err(vec![Fault::from("needs a condition, such as { endpoint = \"fim\" }")]),
    })
}

/// Reads one value, or each one of a list, of which each can be wrong in several ways.
pub(super) fn each_with_all_faults<T>(
    value: &Value,
    mut read: impl FnMut(&Value) -> Result<T, Vec<Fault>>,
) -> (Vec<T>, Vec<Fault>) {
    let (mut good, mut faults) = (Vec::new(), Vec::new());
    match value {
        Value::Array(values) if values.is_empty() => {
            faults.push(Fault::from("is an empty list, so that it never holds; leave the condition out"));
        }
        Value::Array(values) if values.len() > MOST_VALUES => {
            faults.push(Fault::from(format!(
                "has more than {MOST_VALUES} values; where globs are taken, `*` stands for many"
            )));
        }
        Value::Array(values) => {
            for (index, one) in values.iter().enumerate() {
                match read(one) {
                    Ok(read) => good.push(read),
                    Err(wrong) => {
                        let step = format!("[{index}]");
                        faults.extend(wrong.into_iter().map(|fault| fault.below(&step)));
                    }
                }
            }
        }
        one => match read(one) {
            Ok(read) => good.push(read),
            Err(wrong) => faults.extend(wrong),
        },
    }
    (good, faults)
}

/// What was read of the value of this key in a table; what is wrong with it is kept.
pub(super) fn kept<T>(read: Result<T, Fault>, key: &str, faults: &mut Vec<Fault>) -> Option<T> {
    read.map_err(|fault| faults.push(fault.below(key))).ok()
}

/// A text.
pub(super) fn text(value: &Value) -> Result<&str, Fault> {
    value.as_str().ok_or_else(|| Fault::from("expected text in quotes"))
}

/// A glob; `*` matches `/` as well, as in all lists of models.
pub(super) fn glob(pattern: &str) -> Result<GlobMatcher, Fault> {
    if pattern.is_empty() || pattern.len() > 1000 {
        return Err(Fault::from("is no glob: it is empty or too long; `*` stands for anything"));
    }
    let built = GlobBuilder::new(pattern).build();
    built
        .map(|glob| glob.compile_matcher())
        .map_err(|error| Fault::from(format!("is no glob: {}", error.kind())))
}

/// One of the words, or what is known.
pub(super) fn word<T: Copy>(value: &Value, known: &[(&str, T)]) -> Result<T, Fault> {
    let written = text(value)?;
    known.iter().find(|(word, _)| *word == written).map(|(_, meant)| *meant).ok_or_else(|| {
        let words: Vec<&str> = known.iter().map(|(word, _)| *word).collect();
        Fault::from(format!("unknown word (one of: {})", words.join(", ")))
    })
}

/// That there is no such thing, and what there is.
pub(super) fn unknown(what: &str, id: &str, known: &BTreeSet<&str>) -> String {
    let shown: String = id.chars().take(64).flat_map(char::escape_debug).collect();
    if known.is_empty() {
        return format!("there is no {what} `{shown}`, and no other");
    }
    let all: Vec<&str> = known.iter().copied().take(MOST_SHOWN).collect();
    let more = if known.len() > MOST_SHOWN { ", ..." } else { "" };
    format!(
        "there is no {what} `{shown}` (known: {}{more}){}",
        all.join(", "),
        did_you_mean(id, all.iter().copied())
    )
}
