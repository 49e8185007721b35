//! `language`: the programming language of a request's content; `natural_language`: the language its user writes in.
//! Both are read once for a request, however many routes ask.

use serde_json::Value;

use super::reading::{self, Fault};
use super::{Condition, Facts, Names};
use crate::config::did_you_mean;
use crate::language::{Language, natural_language_called, natural_languages};

struct Programming(Language);

struct Natural(&'static str);

/// Reads the name of a programming language, as in the tag of a fence.
pub(super) fn read(value: &Value, _names: &Names<'_>) -> Result<Box<dyn Condition>, Fault> {
    let name = reading::text(value)?;
    let language = Language::named(name).ok_or_else(|| {
        let known: Vec<&str> = Language::all().map(Language::name).collect();
        let hint = did_you_mean(name, known.iter().copied());
        Fault::from(format!("is no programming language known here{hint} (one of: {})", known.join(", ")))
    })?;
    Ok(Box::new(Programming(language)))
}

/// Whether two names are those of one language: `py` and `python`.
pub(super) fn within(wide: &Value, narrow: &Value) -> bool {
    let named = |value: &Value| Language::named(value.as_str()?);
    named(wide).zip(named(narrow)).is_some_and(|(wide, narrow)| wide == narrow)
}

/// Whether two codes are those of one language: `de` and `DE`.
pub(super) fn within_natural(wide: &Value, narrow: &Value) -> bool {
    let texts = wide.as_str().zip(narrow.as_str());
    texts.is_some_and(|(wide, narrow)| wide.trim().eq_ignore_ascii_case(narrow.trim()))
}

/// Reads the code of a language that people write.
pub(super) fn read_natural(value: &Value, _names: &Names<'_>) -> Result<Box<dyn Condition>, Fault> {
    let code = reading::text(value)?;
    let small = code.trim().to_ascii_lowercase();
    let known = natural_languages().find(|known| *known == small).ok_or_else(|| {
        let known: Vec<&str> = natural_languages().collect();
        let hint = match natural_language_called(&small) {
            Some(meant) => format!("; write \"{meant}\""),
            None => ", such as \"en\"".to_owned(),
        };
        Fault::from(format!("is no code of a language known here{hint} (one of: {})", known.join(", ")))
    })?;
    Ok(Box::new(Natural(known)))
}

impl Condition for Programming {
    fn holds(&self, facts: &Facts<'_>) -> bool {
        facts.content.language(facts.request) == Some(self.0)
    }

    fn seen(&self, facts: &Facts<'_>) -> Option<String> {
        let Some(found) = facts.content.found(facts.request) else {
            return Some("no programming language is found in it".to_owned());
        };
        let by = found.evidence.label();
        Some(match found.probability < 1.0 {
            true => format!(
                "its language is {} (by its {by}, {:.0} %)",
                found.language.name(),
                found.probability * 100.0
            ),
            false => format!("its language is {} (by a {by})", found.language.name()),
        })
    }
}

impl Condition for Natural {
    fn holds(&self, facts: &Facts<'_>) -> bool {
        facts.content.natural_language(facts.request) == Some(self.0)
    }

    fn seen(&self, facts: &Facts<'_>) -> Option<String> {
        Some(match facts.content.natural_language(facts.request) {
            Some(code) => format!("its user writes in {code}"),
            None => "it is not clear in which language its user writes".to_owned(),
        })
    }
}
