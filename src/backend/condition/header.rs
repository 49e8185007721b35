//! `header`: globs on headers of the request, by name. A header that is there several times has any of its values.

use globset::GlobMatcher;
use http::header::HeaderName;
use serde_json::Value;

use super::reading::{self, Fault};
use super::{Condition, Facts, Names};

/// What holds secrets is no matter of routes: a client is told by its key's name.
const SECRET: [&str; 5] = ["authorization", "proxy-authorization", "x-api-key", "api-key", "cookie"];

/// All of these headers are there, each with a value that one of its globs matches.
struct Headers(Vec<(HeaderName, Vec<GlobMatcher>)>);

/// Whether no condition may look at a header.
pub fn is_secret(name: &HeaderName) -> bool {
    SECRET.contains(&name.as_str())
}

/// Reads a table of names and globs.
pub(super) fn read(value: &Value, _names: &Names<'_>) -> Result<Box<dyn Condition>, Fault> {
    let table = value.as_object().filter(|table| !table.is_empty());
    let Some(table) = table else {
        return Err(Fault::from("needs a header and a glob, such as { x-team = \"ml-*\" }"));
    };
    let mut headers = Vec::new();
    for (name, globs) in table {
        let parsed = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| Fault::from("is no name of a header").below(name))?;
        if is_secret(&parsed) {
            let text = "holds a secret, which no route looks at; use `client`, the name of the key";
            return Err(Fault::from(text).below(name));
        }
        let (globs, wrong) = reading::each(globs, |glob| reading::glob(reading::text(glob)?));
        if let Some(fault) = wrong.into_iter().next() {
            return Err(fault.below(name));
        }
        headers.push((parsed, globs));
    }
    Ok(Box::new(Headers(headers)))
}

/// Whether a table asks for no header that another one does not, and each with no value more.
pub(super) fn within(wide: &Value, narrow: &Value) -> bool {
    let (Some(wide), Some(narrow)) = (wide.as_object(), narrow.as_object()) else { return false };
    wide.iter().all(|(name, wide)| {
        let own = narrow.iter().find(|(own, _)| own.eq_ignore_ascii_case(name));
        own.is_some_and(|(_, narrow)| super::each_within(wide, narrow, super::model::within))
    })
}

impl Condition for Headers {
    fn holds(&self, facts: &Facts<'_>) -> bool {
        let Some(arrival) = facts.arrival else { return false };
        self.0.iter().all(|(name, globs)| {
            let values = arrival.headers.iter().filter(|(given, _)| given == name);
            // A value may have other characters than ASCII, and `*` stands for those, too.
            values.map(|(_, value)| String::from_utf8_lossy(value.as_bytes())).any(|value| {
                let value = value.trim();
                globs.iter().any(|glob| glob.is_match(value))
            })
        })
    }
}
