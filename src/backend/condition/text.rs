//! `regex`: a pattern in the last message of the user (or the prompt), or in the system prompt. Linear in the text
//! whatever the pattern, which is bounded itself; of a long text only the begin and the end are searched.

use regex::{Regex, RegexBuilder};
use serde_json::Value;

use super::reading::{self, Fault};
use super::{Condition, Facts, Names};

/// Longest pattern.
const MOST_BYTES: usize = 4096;
/// Most memory of a compiled pattern, and of its automaton while it is searched for.
const MOST_SIZE: usize = 1 << 20;
/// So much of a text is searched.
pub(super) const SEARCHED: usize = 64 * 1024;

/// Where all that are given must be found.
struct Patterns {
    user: Option<Regex>,
    system: Option<Regex>,
}

/// Reads a pattern for the user's text, or a table of one for each.
pub(super) fn read(value: &Value, _names: &Names<'_>) -> Result<Box<dyn Condition>, Vec<Fault>> {
    if let Some(pattern) = value.as_str() {
        let user = Some(compiled(pattern).map_err(|fault| vec![fault])?);
        return Ok(Box::new(Patterns { user, system: None }));
    }
    let mut faults = Vec::new();
    let mut of = |key: &str| {
        let pattern = value.get(key).map(|pattern| compiled(reading::text(pattern)?)).transpose();
        reading::kept(pattern, key, &mut faults)
    };
    let (Some(user), Some(system)) = (of("user"), of("system")) else { return Err(faults) };
    if user.is_none() && system.is_none() {
        let text = "needs a pattern: text, or { user = \"...\", system = \"...\" }";
        return Err(vec![Fault::from(text)]);
    }
    Ok(Box::new(Patterns { user, system }))
}

fn compiled(pattern: &str) -> Result<Regex, Fault> {
    if pattern.is_empty() || pattern.len() > MOST_BYTES {
        return Err(Fault::from(format!("needs a pattern of 1 to {MOST_BYTES} bytes")));
    }
    let built = RegexBuilder::new(pattern).size_limit(MOST_SIZE).dfa_size_limit(MOST_SIZE).build();
    built.map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => {
            Fault::from("is too large a pattern; make its repetitions smaller")
        }
        // Its last line says what is wrong; those before show where.
        error => {
            let text = error.to_string();
            let why = text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            Fault::from(format!(
                "is no regular expression: {why} (look-around and references back are not known; `.*` stands for any text)"
            ))
        }
    })
}

impl Condition for Patterns {
    fn holds(&self, facts: &Facts<'_>) -> bool {
        self.user.as_ref().is_none_or(|pattern| pattern.is_match(facts.user_text()))
            && self.system.as_ref().is_none_or(|pattern| pattern.is_match(facts.system_text()))
    }
}
