//! Conditions of routes: what a request must be like to take one. Pure: the request, how it came in, the time and how
//! backends stand are arguments.
//!
//! All conditions of a route must hold; where one is a list, one of its values must; `not` inverts what it holds.
//! A new condition is one file beside this one, one row of [`KINDS`] and its description in `config/spec/routes.rs`.

mod client;
mod comparison;
mod endpoint;
mod has;
mod header;
mod input_tokens;
mod language;
mod listener;
mod model;
mod path;
mod quota;
mod reading;
mod tell;
mod text;
mod time;
pub mod union;

use std::cell::OnceCell;
use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::arrival::Arrival;
use crate::dialect::{Request, Task};
use crate::language::{self as content, Found, Language};
pub use header::is_secret;
pub use reading::Fault;

/// What conditions look at.
pub struct Facts<'a> {
    /// What the client sent.
    pub request: &'a Request,
    /// The model that is asked for behind the router's id; empty without one.
    pub model: &'a str,
    /// The client's name, where keys are configured.
    pub client: Option<&'a str>,
    /// How the request came in.
    pub arrival: Option<&'a Arrival>,
    /// Now.
    pub now: Timestamp,
    /// How a backend that a condition names stands: by its name there. `None` where that cannot be said.
    pub standing: &'a dyn Fn(&str) -> Option<Standing>,
    /// How many tokens its text has, as far as that was learned of the models that may answer it.
    pub input_tokens: &'a dyn Fn() -> Option<u64>,
    /// What the request is about.
    pub content: Content,
}

/// What a request is about, found out when it is asked for, and once.
#[derive(Default)]
pub struct Content {
    language: OnceCell<Option<Found>>,
    natural: OnceCell<Option<&'static str>>,
    input_tokens: OnceCell<f64>,
    user: OnceCell<String>,
    system: OnceCell<String>,
}

/// How a backend stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Standing {
    /// It could take the request now.
    pub available: bool,
    /// The smallest share left of its limits, 0 to 1; 1 without limits.
    pub share_left: f64,
}

/// One condition.
pub trait Condition: Send + Sync {
    /// Whether it holds.
    fn holds(&self, facts: &Facts<'_>) -> bool;

    /// What of the request decides, in words for explanations; never words of the request itself.
    fn seen(&self, _facts: &Facts<'_>) -> Option<String> {
        None
    }

    /// What is certain for every request to this endpoint, for those who look for routes that can never match.
    fn certainly(&self, _task: Task) -> Option<bool> {
        None
    }

    /// The backends whose standing it asks for, as they are written.
    fn backends(&self) -> Vec<&str> {
        Vec::new()
    }
}

/// What a condition may name.
pub struct Names<'a> {
    /// The listeners that serve the API.
    pub listeners: BTreeSet<&'a str>,
    /// The clients: ids of keys.
    pub clients: BTreeSet<&'a str>,
    /// Providers, groups and routers.
    pub backends: BTreeSet<&'a str>,
}

/// Reads one value of a condition, which is no list, or one of those in it; errors are for people.
type Read = fn(&Value, &Names<'_>) -> Result<Box<dyn Condition>, Vec<Fault>>;

/// Whether whatever holds for the second of two values of a condition holds for the first, as far as that is certain.
type Within = fn(&Value, &Value) -> bool;

/// One kind of condition.
pub struct Kind {
    /// The key in a route.
    pub name: &'static str,
    read: Read,
    within: Within,
}

/// Every kind of condition.
pub const KINDS: [Kind; 13] = [
    Kind { name: "endpoint", read: |value, names| one(endpoint::read(value, names)), within: is_same },
    Kind { name: "model", read: |value, names| one(model::read(value, names)), within: model::within },
    Kind { name: "has", read: |value, names| one(has::read(value, names)), within: is_same },
    Kind {
        name: "input_tokens",
        read: |value, names| one(input_tokens::read(value, names)),
        within: input_tokens::within,
    },
    Kind { name: "listener", read: |value, names| one(listener::read(value, names)), within: is_same },
    Kind { name: "client", read: |value, names| one(client::read(value, names)), within: is_same },
    Kind { name: "header", read: |value, names| one(header::read(value, names)), within: header::within },
    Kind { name: "path", read: |value, names| one(path::read(value, names)), within: model::within },
    Kind { name: "time", read: time::read, within: time::within },
    Kind { name: "quota", read: quota::read, within: quota::within },
    Kind { name: "regex", read: text::read, within: is_same },
    Kind {
        name: "language",
        read: |value, names| one(language::read(value, names)),
        within: language::within,
    },
    Kind {
        name: "natural_language",
        read: |value, names| one(language::read_natural(value, names)),
        within: language::within_natural,
    },
];

/// What is read of a value in which one thing can be wrong.
fn one(read: Result<Box<dyn Condition>, Fault>) -> Result<Box<dyn Condition>, Vec<Fault>> {
    read.map_err(|fault| vec![fault])
}

/// The key of what must not hold.
pub const NOT: &str = "not";
/// Most values of one condition.
const MOST_VALUES: usize = 1000;

/// The conditions of a route.
#[derive(Default)]
pub struct Conditions {
    /// All of these hold: of each list one.
    all: Vec<Asked>,
    /// None of these.
    none: Vec<Conditions>,
}

/// One condition of a route: one of its values has to hold.
struct Asked {
    /// As it is written, in words.
    words: String,
    any: Vec<Box<dyn Condition>>,
}

// === impl Content ===

impl Content {
    /// The programming language of its content.
    fn language(&self, request: &Request) -> Option<Language> {
        self.found(request).map(|found| found.language)
    }

    /// The same, and why.
    fn found(&self, request: &Request) -> Option<&Found> {
        self.language.get_or_init(|| content::of(request)).as_ref()
    }

    /// The language its user writes in.
    fn natural_language(&self, request: &Request) -> Option<&'static str> {
        *self.natural.get_or_init(|| content::natural(request))
    }
}

impl Facts<'_> {
    /// What the user said last, or the prompt: as much of it as is searched.
    fn user_text(&self) -> &str {
        self.content.user.get_or_init(|| self.request.user_text(text::SEARCHED))
    }

    /// What the system prompt says, likewise.
    fn system_text(&self) -> &str {
        self.content.system.get_or_init(|| self.request.system_text(text::SEARCHED))
    }

    /// How many tokens its text has: learned, else estimated.
    fn input_tokens(&self) -> f64 {
        *self
            .content
            .input_tokens
            .get_or_init(|| input_tokens::of((self.input_tokens)(), || self.request.prompt_bytes()))
    }
}

// === impl Conditions ===

impl Conditions {
    /// Reads the conditions of a route; other keys than those of conditions are left alone.
    ///
    /// # Errors
    /// All that is wrong.
    pub fn read(written: &Map<String, Value>, names: &Names<'_>) -> Result<Conditions, Vec<Fault>> {
        let (mut conditions, mut faults) = (Conditions::default(), Vec::new());
        for kind in &KINDS {
            let Some(value) = written.get(kind.name) else { continue };
            let (any, wrong) = reading::each_with_all_faults(value, |one| (kind.read)(one, names));
            faults.extend(wrong.into_iter().map(|fault| fault.below(kind.name)));
            conditions.all.push(Asked { words: tell::in_words(kind.name, value), any });
        }
        if let Some(value) = written.get(NOT) {
            let (none, wrong) = reading::each_table(value, |table| Conditions::read(table, names));
            faults.extend(wrong.into_iter().map(|fault| fault.below(NOT)));
            conditions.none = none;
        }
        if faults.is_empty() { Ok(conditions) } else { Err(faults) }
    }

    /// Whether they hold.
    pub fn hold(&self, facts: &Facts<'_>) -> bool {
        self.all.iter().all(|asked| asked.holds(facts)) && !self.none.iter().any(|other| other.hold(facts))
    }

    /// What is certain for every request to this endpoint.
    pub fn certainly(&self, task: Task) -> Option<bool> {
        let any = |of: &Asked| one_of(of.any.iter().map(|one| one.certainly(task)));
        let none = one_of(self.none.iter().map(|other| other.certainly(task)));
        // All hold unless one does not.
        let negated = self.all.iter().map(any).map(|certain| certain.map(|holds| !holds));
        one_of(negated.chain([none])).map(|fails| !fails)
    }

    /// Whether there is none, so that they hold always.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty() && self.none.is_empty()
    }

    /// The backends whose standing they ask for, as they are written.
    pub fn backends(&self) -> BTreeSet<&str> {
        let own = self.all.iter().flat_map(|asked| &asked.any).flat_map(|one| one.backends());
        own.chain(self.none.iter().flat_map(Conditions::backends)).collect()
    }
}

// === impl Asked ===

impl Asked {
    fn holds(&self, facts: &Facts<'_>) -> bool {
        self.any.iter().any(|one| one.holds(facts))
    }
}

/// Whether one of them is true: certainly, certainly not, or not known.
fn one_of(certain: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    let mut known = Some(false);
    for one in certain {
        match one {
            Some(true) => return Some(true),
            Some(false) => {}
            None => known = None,
        }
    }
    known
}

/// Whether whatever the one's conditions let through, the other's do, as far as that is seen from how they are written:
/// each condition of the other is there too, with no value that is not within one of its own.
pub fn covers(other: &Map<String, Value>, one: &Map<String, Value>) -> bool {
    let there = KINDS.iter().filter_map(|kind| Some((kind, other.get(kind.name)?)));
    let mut all = there.map(|(kind, wide)| {
        let within = |wide: &Value, narrow: &Value| is_same(wide, narrow) || (kind.within)(wide, narrow);
        one.get(kind.name).is_some_and(|narrow| each_within(wide, narrow, within))
    });
    // What must not hold is the other way round: the more, the narrower.
    let excludes = |more: &Value, fewer: &Value| match (more, fewer) {
        (Value::Object(more), Value::Object(fewer)) => covers(more, fewer),
        _ => false,
    };
    all.all(|covered| covered)
        && other
            .get(NOT)
            .is_none_or(|fewer| one.get(NOT).is_some_and(|more| each_within(more, fewer, excludes)))
}

/// Whether what holds for the narrow value of this kind of condition holds for the wide one, as far as that is certain.
fn within(kind: &str, wide: &Value, narrow: &Value) -> bool {
    KINDS.iter().any(|known| known.name == kind && (is_same(wide, narrow) || (known.within)(wide, narrow)))
}

/// Whether each of the narrow values is within one of the wide ones; either is one value or a list.
fn each_within(wide: &Value, narrow: &Value, within: impl Fn(&Value, &Value) -> bool) -> bool {
    list(narrow).iter().all(|narrow| list(wide).iter().any(|wide| within(wide, narrow)))
}

/// One value, or all of a list.
fn list(value: &Value) -> &[Value] {
    match value {
        Value::Array(values) => values,
        single => std::slice::from_ref(single),
    }
}

/// What is written alike means the same.
fn is_same(wide: &Value, narrow: &Value) -> bool {
    wide == narrow
}

#[cfg(test)]
mod tests;
