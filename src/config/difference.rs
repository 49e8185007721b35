//! What would change from one configuration to another: which providers, groups, routers, keys and listeners are added,
//! changed, removed or as they were, and by which options. A secret's value is in none of it. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::{Value, json};

use super::image::{Image, Leaf, needs_restart};
use super::place::{KeyPath, show};

/// Sections of named things, in the order in which they are told.
const NAMED: [(&str, &str); 6] = [
    ("listeners", "listener"),
    ("keys", "key"),
    ("providers", "provider"),
    ("groups", "group"),
    ("routers", "router"),
    ("aliases", "alias"),
];
/// A longer value is told as its beginning.
const MOST_SHOWN: usize = 60;

/// What would change.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Difference {
    /// All things of both configurations.
    pub things: Vec<Thing>,
}

/// A provider, group, router, key or listener; or a section that has no named things.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thing {
    /// The section: `providers`, `log`.
    pub section: String,
    /// Its id; `None`: the section itself.
    pub id: Option<String>,
    /// What becomes of it.
    pub fate: Fate,
    /// The options that differ, if it is changed.
    pub options: Vec<OptionChange>,
    /// It can only change with a restart, as a whole or in options that say so.
    pub needs_restart: bool,
}

/// What becomes of a thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// It is new.
    Added,
    /// It is there in both, and differs.
    Changed,
    /// It is there no more.
    Removed,
    /// It is the same.
    Unchanged,
}

/// An option that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptionChange {
    /// Its key path, as in messages.
    pub key: String,
    /// What it was; `None`: it was not set.
    pub from: Option<Shown>,
    /// What it is to be.
    pub to: Option<Shown>,
    /// It can only change with a restart.
    pub needs_restart: bool,
}

/// A value for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    /// As the configuration writes it, or its beginning.
    Value(String),
    /// It is not shown.
    Secret,
}

// === impl Difference ===

impl Difference {
    /// From one to the other.
    pub fn between(old: &Image, new: &Image) -> Difference {
        let (old, new) = (things(old), things(new));
        let mut names: Vec<&Name> = old.keys().chain(new.keys()).collect();
        names.sort();
        names.dedup();
        let nothing = BTreeMap::new();
        let things = names.into_iter().map(|name| {
            let (before, after) = (old.get(name), new.get(name));
            let is_listener = name.1 == "listeners";
            let (fate, options) = match (before, after) {
                (None, _) => (Fate::Added, Vec::new()),
                (_, None) => (Fate::Removed, Vec::new()),
                (before, after) => {
                    let options = changes(before.unwrap_or(&nothing), after.unwrap_or(&nothing));
                    (if options.is_empty() { Fate::Unchanged } else { Fate::Changed }, options)
                }
            };
            let whole = is_listener && matches!(fate, Fate::Added | Fate::Removed);
            let needs_restart = whole || options.iter().any(|option| option.needs_restart);
            Thing { section: name.1.clone(), id: name.2.clone(), fate, options, needs_restart }
        });
        Difference { things: things.collect() }
    }

    /// Whether nothing would change.
    pub fn is_empty(&self) -> bool {
        self.things.iter().all(|thing| thing.fate == Fate::Unchanged)
    }

    /// The ids of a section's things with this fate.
    pub fn ids(&self, section: &str, fate: Fate) -> BTreeSet<&str> {
        let meant = self.things.iter().filter(|thing| thing.section == section && thing.fate == fate);
        meant.filter_map(|thing| thing.id.as_deref()).collect()
    }

    /// How many things have this fate.
    pub fn count(&self, fate: Fate) -> usize {
        self.things.iter().filter(|thing| thing.fate == fate).count()
    }

    /// The key paths that only a restart changes.
    pub fn for_restart(&self) -> Vec<String> {
        let mut keys = Vec::new();
        for thing in self.things.iter().filter(|thing| thing.needs_restart) {
            if matches!(thing.fate, Fate::Added | Fate::Removed) {
                keys.push(thing.path());
            }
            let options = thing.options.iter().filter(|option| option.needs_restart);
            keys.extend(options.map(|option| option.key.clone()));
        }
        keys
    }

    /// The same for programs.
    pub fn to_json(&self) -> Value {
        let things: Vec<Value> = self.things.iter().map(Thing::to_json).collect();
        json!({"changes": things, "needs_restart": self.for_restart(), "unchanged": self.count(Fate::Unchanged)})
    }

    /// Reads what [`Difference::to_json`] wrote. What is no such thing is left out.
    pub fn from_json(value: &Value) -> Difference {
        let things = value.get("changes").and_then(Value::as_array).into_iter().flatten();
        Difference { things: things.filter_map(Thing::from_json).collect() }
    }
}

/// The rank of a section, its name, and an id in it.
type Name = (usize, String, Option<String>);

/// The options of each thing.
fn things(image: &Image) -> BTreeMap<Name, BTreeMap<&KeyPath, &Leaf>> {
    let mut things: BTreeMap<Name, BTreeMap<&KeyPath, &Leaf>> = BTreeMap::new();
    for (path, leaf) in image.leaves() {
        let Some(section) = path.first() else { continue };
        let rank = NAMED.iter().position(|(name, _)| name == section);
        let id = rank.and_then(|_| path.get(1).cloned());
        let name = (rank.unwrap_or(NAMED.len()), section.clone(), id);
        things.entry(name).or_default().insert(path, leaf);
    }
    things
}

fn changes(old: &BTreeMap<&KeyPath, &Leaf>, new: &BTreeMap<&KeyPath, &Leaf>) -> Vec<OptionChange> {
    let paths: BTreeSet<&&KeyPath> = old.keys().chain(new.keys()).collect();
    let change = |path: &&KeyPath| {
        let (from, to) = (old.get(*path), new.get(*path));
        if let (Some(from), Some(to)) = (from, to)
            && from.same(to)
        {
            return None;
        }
        let steps: Vec<&str> = path.iter().map(String::as_str).collect();
        Some(OptionChange {
            key: show(&steps),
            from: from.map(|leaf| shown(leaf)),
            to: to.map(|leaf| shown(leaf)),
            needs_restart: needs_restart(path),
        })
    };
    paths.into_iter().filter_map(change).collect()
}

fn shown(leaf: &Leaf) -> Shown {
    match leaf {
        Leaf::Hidden(_) => Shown::Secret,
        Leaf::Open(value) => {
            let text = value.to_string();
            match text.char_indices().nth(MOST_SHOWN) {
                Some((end, _)) => Shown::Value(format!("{}…", text.get(..end).unwrap_or_default())),
                None => Shown::Value(text),
            }
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return write!(f, "nothing changes ({} things are as they were)", self.count(Fate::Unchanged));
        }
        for thing in self.things.iter().filter(|thing| thing.fate != Fate::Unchanged) {
            let restart = if thing.needs_restart && thing.options.is_empty() { RESTART } else { "" };
            writeln!(f, "{} {}{restart}", thing.fate.sign(), thing.path())?;
            for option in &thing.options {
                writeln!(f, "    {option}")?;
            }
        }
        write!(
            f,
            "{} added, {} changed, {} removed, {} as they were",
            self.count(Fate::Added),
            self.count(Fate::Changed),
            self.count(Fate::Removed),
            self.count(Fate::Unchanged)
        )
    }
}

/// Behind what only a restart changes.
const RESTART: &str = "  (needs a restart)";

// === impl Thing ===

impl Thing {
    /// Its key path.
    pub fn path(&self) -> String {
        let steps: Vec<&str> = std::iter::once(self.section.as_str()).chain(self.id.as_deref()).collect();
        show(&steps)
    }

    fn to_json(&self) -> Value {
        let kind =
            NAMED.iter().find(|(section, _)| *section == self.section).map_or("section", |(_, kind)| kind);
        let options: Vec<Value> = self.options.iter().map(OptionChange::to_json).collect();
        json!({
            "kind": kind,
            "section": self.section,
            "id": self.id,
            "change": self.fate.word(),
            "options": options,
            "needs_restart": self.needs_restart,
        })
    }

    fn from_json(value: &Value) -> Option<Thing> {
        let text = |key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
        let options = value.get("options").and_then(Value::as_array).into_iter().flatten();
        Some(Thing {
            section: text("section")?,
            id: text("id"),
            fate: Fate::read(&text("change")?)?,
            options: options.filter_map(OptionChange::from_json).collect(),
            needs_restart: value.get("needs_restart").and_then(Value::as_bool).unwrap_or(false),
        })
    }
}

// === impl Fate ===

impl Fate {
    const ALL: [Fate; 4] = [Fate::Added, Fate::Changed, Fate::Removed, Fate::Unchanged];

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Fate::Added => "added",
            Fate::Changed => "changed",
            Fate::Removed => "removed",
            Fate::Unchanged => "unchanged",
        }
    }

    fn sign(self) -> &'static str {
        match self {
            Fate::Added => "+",
            Fate::Changed => "~",
            Fate::Removed => "-",
            Fate::Unchanged => " ",
        }
    }

    fn read(word: &str) -> Option<Fate> {
        Fate::ALL.into_iter().find(|fate| fate.word() == word)
    }
}

// === impl OptionChange ===

impl OptionChange {
    fn to_json(&self) -> Value {
        let value = |shown: &Option<Shown>| match shown {
            None => json!({"set": false}),
            Some(Shown::Secret) => json!({"set": true, "secret": true}),
            Some(Shown::Value(text)) => json!({"set": true, "value": text}),
        };
        json!({
            "key": self.key,
            "from": value(&self.from),
            "to": value(&self.to),
            "needs_restart": self.needs_restart,
        })
    }

    fn from_json(value: &Value) -> Option<OptionChange> {
        let shown = |key: &str| {
            let side = value.get(key)?;
            if !side.get("set")?.as_bool()? {
                return None;
            }
            Some(match side.get("value").and_then(Value::as_str) {
                Some(text) => Shown::Value(text.to_owned()),
                None => Shown::Secret,
            })
        };
        Some(OptionChange {
            key: value.get("key")?.as_str()?.to_owned(),
            from: shown("from"),
            to: shown("to"),
            needs_restart: value.get("needs_restart").and_then(Value::as_bool).unwrap_or(false),
        })
    }
}

impl fmt::Display for OptionChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.key)?;
        match (&self.from, &self.to) {
            (Some(Shown::Value(from)), Some(Shown::Value(to))) => write!(f, "{from} → {to}")?,
            (None, Some(Shown::Value(to))) => write!(f, "set to {to}")?,
            (Some(Shown::Value(from)), None) => write!(f, "no longer set (was {from})")?,
            (None, Some(Shown::Secret)) => f.write_str("set (secret, not shown)")?,
            (Some(Shown::Secret), None) => f.write_str("no longer set (secret, not shown)")?,
            _ => f.write_str("the secret changed (not shown)")?,
        }
        f.write_str(if self.needs_restart { RESTART } else { "" })
    }
}

#[cfg(test)]
mod tests;
