//! What names a backend, alone or with a model there: `mistral/codestral-latest`, `coder`, `free/gpt-oss-120b`; and the
//! request fields that are set for it.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde_json::{Map, Value};

use super::super::report::did_you_mean;
use super::super::spec::Spec;
use super::Check;

/// What is said where no backend is named.
pub(super) const MISSING: &str = "is missing: the id of a provider, group or router, with or without a model";

/// Fields that cannot be set: without them it is another request.
pub(super) const ESSENTIAL: [&str; 6] = ["model", "messages", "prompt", "input", "stream", "suffix"];

/// The sections whose ids name backends.
const SECTIONS: [&str; 3] = ["providers", "groups", "routers"];

/// The ids of all backends.
pub(super) fn backends(spec: &Spec) -> BTreeSet<&str> {
    let sections = [&spec.providers, &spec.groups, &spec.routers];
    sections.iter().flat_map(|section| section.keys()).map(String::as_str).collect()
}

/// The backend and the model that a text names; what is wrong with it is reported at its place.
pub(super) fn read(
    check: &mut Check<'_>,
    place: &[&str],
    written: &str,
    known: &BTreeSet<&str>,
) -> Option<(String, Option<String>)> {
    let (backend, model) = match written.split_once('/') {
        Some((backend, model)) if !model.is_empty() => (backend, Some(model.to_owned())),
        Some(_) => {
            let text = "has no model behind the `/`; leave the `/` out for the model that is asked for";
            check.problem(place, text);
            return None;
        }
        None => (written, None),
    };
    if known.contains(backend) {
        return Some((backend.to_owned(), model));
    }
    // What is wrong with one that was taken out was said where it is.
    if written.is_empty() {
        check
            .problem(place, "is empty; write the id of a provider, group or router, with or without a model");
    } else if !SECTIONS.iter().any(|section| check.was_removed(&[section, backend])) {
        let quoted = check.quote(place, backend);
        let hint = match (known.get(backend.trim()), backend.split_once(':')) {
            (Some(meant), _) => format!("; take the space out: `{meant}`"),
            (None, Some((first, model))) if known.contains(first) => {
                format!("; did you mean `{first}/{model}`?")
            }
            _ => did_you_mean(backend, known.iter().copied()),
        };
        let all: Vec<&str> = known.iter().copied().collect();
        let all = if all.is_empty() { "none".to_owned() } else { all.join(", ") };
        check
            .problem(place, format!("no provider, group or router has the id {quoted} (known: {all}){hint}"));
    }
    None
}

/// The request fields that are set at this place: name and JSON.
pub(super) fn set(
    check: &mut Check<'_>,
    place: &[&str],
    written: &Map<String, Value>,
) -> Vec<(String, Bytes)> {
    let mut set = Vec::new();
    for (key, value) in written {
        if ESSENTIAL.contains(&key.as_str()) {
            let path = [place, &[key.as_str()]].concat();
            check.problem(&path, "cannot be set: without it, it is another request");
            continue;
        }
        set.push((key.clone(), Bytes::from(value.to_string())));
    }
    set
}
