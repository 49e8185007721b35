//! Ids: what they may look like, and that providers, groups, routers and listeners share one namespace.

use std::collections::BTreeMap;

use super::super::environment::fold;
use super::super::place::spot_of;
use super::super::spec::Spec;
use super::Check;

/// Longest id.
const MOST_BYTES: usize = 64;

/// Checks all ids. A new kind of named thing is one more row in `sections`.
pub(super) fn namespace(check: &mut Check<'_>, spec: &Spec) {
    let sections = [
        ("listeners", &spec.listeners),
        ("providers", &spec.providers),
        ("groups", &spec.groups),
        ("routers", &spec.routers),
    ];
    let shared = sections.iter().flat_map(|(section, table)| table.keys().map(|id| (*section, id.as_str())));
    unique(check, shared.collect());
    // A key's id is a client's name and stands nowhere where a backend's could.
    unique(check, spec.keys.keys().map(|id| ("keys", id.as_str())).collect());
}

fn unique(check: &mut Check<'_>, mut named: Vec<(&str, &str)>) {
    // In the order of the text, so that the later one is at fault.
    named.sort_by_key(|(section, id)| spot_of(check.layers, &[section, id]));
    let mut taken: BTreeMap<String, (&str, &str)> = BTreeMap::new();
    for (section, id) in named {
        if let Some(why) = fault(id) {
            check.problem(&[section, id], why);
            continue;
        }
        let Some((other_section, other)) = taken.insert(fold(id), (section, id)) else { continue };
        let place =
            spot_of(check.layers, &[other_section, other]).map(|spot| check.places.name(spot).to_string());
        let place = place.map_or_else(String::new, |origin| format!(" ({origin})"));
        let why = if other == id { "the id is taken" } else { "the id differs only in `_` and `-`" };
        let joint = if other == id { "by" } else { "from" };
        check.problem(
            &[section, id],
            format!("{why} {joint} {other_section}.{other}{place}; rename one of them"),
        );
    }
}

/// What is wrong with an id, and a better one.
fn fault(id: &str) -> Option<String> {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let fits =
        id.len() <= MOST_BYTES && id.starts_with(good) && id.chars().all(|c| good(c) || c == '_' || c == '-');
    if fits {
        return None;
    }
    let mapped: String =
        id.to_lowercase().chars().map(|c| if good(c) || c == '_' { c } else { '-' }).collect();
    let better: String = mapped.trim_matches(['-', '_']).chars().take(MOST_BYTES).collect();
    let hint = if better.is_empty() { String::new() } else { format!("; `{better}` would be one") };
    Some(format!("not an id: use a-z, 0-9, `_` and `-`, a letter or digit first, at most {MOST_BYTES}{hint}"))
}
