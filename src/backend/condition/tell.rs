//! Conditions in words, and whether they hold, for explanations and pictures of the graph. Says what was seen of a request
//! in words of its own; the only words of the request are the ids and paths that routes are made for.

use serde_json::Value;

use super::super::explain::Told;
use super::{Conditions, Facts};

/// The longest text of one value, in characters: a pattern may be long.
const LONGEST: usize = 200;

/// A condition as it is written: `language: python or rust`.
pub(super) fn in_words(name: &str, value: &Value) -> String {
    format!("{name}: {}", words(value))
}

fn words(value: &Value) -> String {
    match value {
        Value::String(text) if text.chars().count() > LONGEST => {
            format!("{}…", text.chars().take(LONGEST).collect::<String>())
        }
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(words).collect::<Vec<_>>().join(" or "),
        Value::Object(table) => {
            let parts = table.iter().map(|(key, value)| format!("{key} {}", words(value)));
            parts.collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

// === impl Conditions ===

impl Conditions {
    /// Each of them in words; all have to hold.
    pub fn in_words(&self) -> Vec<String> {
        let all = self.all.iter().map(|asked| asked.words.clone());
        all.chain(self.none.iter().map(Conditions::inverted)).collect()
    }

    fn inverted(&self) -> String {
        format!("not ({})", self.in_words().join(" and "))
    }

    /// Whether each of them holds, and what was seen.
    pub fn tell(&self, facts: &Facts<'_>) -> Vec<Told> {
        let all = self.all.iter().map(|asked| {
            let mut seen: Vec<String> = asked.any.iter().filter_map(|one| one.seen(facts)).collect();
            seen.dedup();
            let seen = (!seen.is_empty()).then(|| seen.join("; "));
            Told { condition: asked.words.clone(), holds: Some(asked.holds(facts)), seen }
        });
        let none = self.none.iter().map(|other| {
            let seen: Vec<String> = other.tell(facts).into_iter().filter_map(|told| told.seen).collect();
            let seen = (!seen.is_empty()).then(|| seen.join("; "));
            Told { condition: other.inverted(), holds: Some(!other.hold(facts)), seen }
        });
        all.chain(none).collect()
    }
}
