//! `model`: a glob on the model that the client asked for, as it wrote it (`auto/gpt-4o`), or on what of it is behind
//! the router's id (`gpt-4o`).

use globset::GlobMatcher;
use serde_json::Value;

use super::reading::{self, Fault};
use super::{Condition, Facts, Names};

struct Model(GlobMatcher);

/// Reads a glob.
pub(super) fn read(value: &Value, _names: &Names<'_>) -> Result<Box<dyn Condition>, Fault> {
    Ok(Box::new(Model(reading::glob(reading::text(value)?)?)))
}

/// Whether a glob matches all that another one does: the other is a name that it matches, or begins with all that it asks
/// for.
pub(super) fn within(wide: &Value, narrow: &Value) -> bool {
    const SPECIAL: [char; 6] = ['*', '?', '[', ']', '{', '\\'];
    let (Some(wide), Some(narrow)) = (wide.as_str(), narrow.as_str()) else { return false };
    let begins = |prefix: &str| !prefix.contains(SPECIAL) && narrow.starts_with(prefix);
    let matches = || !narrow.contains(SPECIAL) && reading::glob(wide).is_ok_and(|glob| glob.is_match(narrow));
    wide == narrow || wide.strip_suffix('*').is_some_and(begins) || matches()
}

impl Condition for Model {
    fn holds(&self, facts: &Facts<'_>) -> bool {
        self.0.is_match(&facts.request.model) || (!facts.model.is_empty() && self.0.is_match(facts.model))
    }

    fn seen(&self, facts: &Facts<'_>) -> Option<String> {
        let shown: String = facts.request.model.chars().take(200).collect();
        Some(format!("`{shown}` is asked for"))
    }
}
