//! A picture of a whole configuration, to be compared with another one: each option in force by its key path. What is
//! secret in it is compared, and never shown. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, Value};

use super::place::{KeyPath, index_step};
use super::secret::Secret;
use super::settings::{Config, Listener};

/// The options in force.
#[derive(Clone, Default)]
pub struct Image {
    leaves: BTreeMap<KeyPath, Leaf>,
}

/// One option's value.
#[derive(Clone)]
pub(super) enum Leaf {
    /// As it is.
    Open(Value),
    /// It is a secret, or came out of a variable.
    Hidden(Secret),
}

/// What is secret in a configuration, or is not written in it.
#[derive(Default)]
pub(crate) struct Veiled {
    /// The secrets, wherever they were fetched from.
    pub(crate) secrets: BTreeMap<KeyPath, Secret>,
    /// The contents of files that an option names.
    pub(crate) contents: BTreeMap<KeyPath, u64>,
    /// Where the files are that options name: the same words mean another one where they stand in another directory.
    pub(crate) located: BTreeMap<KeyPath, PathBuf>,
    /// The texts that hold the values of variables.
    pub(crate) filled: BTreeSet<KeyPath>,
}

/// Sections whose options are told as they are in force, defaults among them.
const EFFECTIVE: [&str; 2] = ["state", "log"];

// === impl Leaf ===

impl Leaf {
    pub(super) fn same(&self, other: &Leaf) -> bool {
        match (self, other) {
            (Leaf::Open(one), Leaf::Open(other)) => one == other,
            (Leaf::Hidden(one), Leaf::Hidden(other)) => one.matches(other.expose()),
            _ => false,
        }
    }
}

// === impl Image ===

impl Image {
    /// The picture of a configuration: `written` are its merged layers.
    pub(crate) fn of(config: &Config, written: &Map<String, Value>, veiled: &Veiled) -> Image {
        let mut image = Image::default();
        for (section, value) in written {
            if !EFFECTIVE.contains(&section.as_str()) {
                image.draw(&mut vec![section.clone()], value, veiled);
            }
        }
        // A key may come from nowhere in the text.
        for (path, secret) in &veiled.secrets {
            image.leaves.insert(path.clone(), Leaf::Hidden(secret.clone()));
        }
        for (path, contents) in &veiled.contents {
            let path = [path.as_slice(), &["contents".to_owned()]].concat();
            image.leaves.insert(path, Leaf::Open(Value::from(format!("{contents:016x}"))));
        }
        for listener in &config.listeners {
            for (option, value) in of_start(listener) {
                image.open(&["listeners", &listener.id, option], value);
            }
        }
        let file = config.state.file.as_ref().map_or("none".to_owned(), |file| file.display().to_string());
        image.open(&["state", "path"], Value::from(file));
        image.open(&["log", "level"], Value::from(config.log.level.as_str()));
        image.open(&["log", "format"], Value::from(if config.log.json { "json" } else { "text" }));
        image
    }

    fn open(&mut self, path: &[&str], value: Value) {
        self.leaves.insert(path.iter().map(|step| (*step).to_owned()).collect(), Leaf::Open(value));
    }

    fn draw(&mut self, path: &mut KeyPath, value: &Value, veiled: &Veiled) {
        if veiled.secrets.contains_key(path) {
            return;
        }
        if let Value::Object(table) = value {
            for (key, inner) in table {
                path.push(key.clone());
                self.draw(path, inner, veiled);
                path.pop();
            }
            return;
        }
        let file = veiled.located.get(path).map(|file| Value::from(file.display().to_string()));
        let value = file.unwrap_or_else(|| value.clone());
        let leaf = if is_filled(path, &value, &veiled.filled) {
            Leaf::Hidden(Secret::new(value.to_string()))
        } else {
            Leaf::Open(value)
        };
        self.leaves.insert(path.clone(), leaf);
    }

    /// The options, by their key paths.
    pub(super) fn leaves(&self) -> &BTreeMap<KeyPath, Leaf> {
        &self.leaves
    }

    /// What is in force when `new` was taken over while this one was: what only a restart changes stays as it was.
    pub fn with(&self, new: &Image) -> Image {
        let listeners = |image: &Image| -> BTreeSet<String> {
            let paths = image.leaves.keys().filter(|path| is_listeners(path));
            paths.filter_map(|path| path.get(1).cloned()).collect()
        };
        let (ours, theirs) = (listeners(self), listeners(new));
        // A listener that only one of the two has is as it is now: there, or not.
        let changes = |path: &KeyPath| {
            let in_both = |id: &String| ours.contains(id) && theirs.contains(id);
            !needs_restart(path) && (!is_listeners(path) || path.get(1).is_some_and(in_both))
        };
        let kept = self.leaves.iter().filter(|(path, _)| !changes(path));
        let taken = new.leaves.iter().filter(|(path, _)| changes(path));
        Image { leaves: kept.chain(taken).map(|(path, leaf)| (path.clone(), leaf.clone())).collect() }
    }
}

fn is_listeners(path: &[String]) -> bool {
    path.first().is_some_and(|first| first == "listeners")
}

/// Whether an option is only read at start: sockets, threads and files are made with it.
pub(super) fn needs_restart(path: &[String]) -> bool {
    let steps: Vec<&str> = path.iter().map(String::as_str).collect();
    match steps.as_slice() {
        ["listeners", _, option, ..] => {
            matches!(*option, "address" | "workers" | "stalled_reader" | "drain")
        }
        ["state", ..] | ["log", "format"] => true,
        _ => false,
    }
}

/// Whether a value, or a part of it, came out of a variable.
fn is_filled(path: &KeyPath, value: &Value, filled: &BTreeSet<KeyPath>) -> bool {
    if filled.contains(path) {
        return true;
    }
    match value {
        Value::Array(items) => items
            .iter()
            .enumerate()
            .any(|(index, item)| is_filled(&[path.as_slice(), &[index_step(index)]].concat(), item, filled)),
        Value::Object(table) => table.iter().any(|(key, item)| {
            is_filled(&[path.as_slice(), std::slice::from_ref(key)].concat(), item, filled)
        }),
        _ => false,
    }
}

/// A listener's options that only a restart changes, as they are in force: an address that is written now and was the
/// default before is none that changes.
fn of_start(listener: &Listener) -> [(&'static str, Value); 4] {
    let seconds = |length: &Duration| Value::from(format!("{} s", length.as_secs_f64()));
    [
        ("address", Value::from(listener.address.to_string())),
        ("workers", Value::from(listener.workers)),
        ("stalled_reader", seconds(&listener.stalled_reader)),
        ("drain", seconds(&listener.drain)),
    ]
}
