//! Aliases: names that clients bring along, and what they stand for.

use std::collections::BTreeSet;

use super::super::settings::AliasConfig;
use super::super::spec::{AliasSpec, DescribedAlias, Spec};
use super::{Check, target};

/// The longest name.
const MOST_BYTES: usize = 256;

/// All aliases that are valid.
pub(super) fn all(check: &mut Check<'_>, spec: &Spec) -> Vec<AliasConfig> {
    let known = target::backends(spec);
    let entries = check.entries::<AliasSpec>("aliases", &spec.aliases);
    entries.iter().filter_map(|(id, entry)| one(check, spec, id, entry, &known)).collect()
}

fn one(
    check: &mut Check<'_>,
    spec: &Spec,
    id: &str,
    entry: &AliasSpec,
    known: &BTreeSet<&str>,
) -> Option<AliasConfig> {
    if let Some(why) = fault(id, known) {
        check.problem(&["aliases", id], why);
        return None;
    }
    let nothing = DescribedAlias::default();
    let (to, described, place) = match entry {
        AliasSpec::To(to) => (Some(to), &nothing, vec!["aliases", id]),
        AliasSpec::Described(described) => (described.to.as_ref(), described, vec!["aliases", id, "to"]),
    };
    let Some(to) = to else {
        check.missing(&place, target::MISSING);
        return None;
    };
    if spec.aliases.contains_key(to) && !known.contains(to.as_str()) {
        check.problem(&place, "is an alias itself; write what that one stands for");
        return None;
    }
    let (backend, model) = target::read(check, &place, to, known)?;
    if model.is_none() && spec.providers.contains_key(&backend) {
        check.problem(&place, format!("is a provider; name one of its models, as in \"{backend}/MODEL\""));
        return None;
    }
    Some(AliasConfig {
        id: id.to_owned(),
        to: to.clone(),
        name: described.name.clone(),
        description: described.description.clone(),
        hidden: described.hidden,
    })
}

/// What is wrong with a name.
fn fault(id: &str, known: &BTreeSet<&str>) -> Option<String> {
    let odd = |c: char| c.is_control() || c.is_whitespace();
    if id.is_empty() || id.len() > MOST_BYTES || id.contains(odd) {
        return Some(format!("not a model's name: 1 to {MOST_BYTES} bytes without spaces"));
    }
    if known.contains(id) {
        return Some(format!("`{id}` is the id of a provider, group or router; choose another name"));
    }
    let prefix = id.split_once('/').map(|(prefix, _)| prefix).filter(|prefix| known.contains(prefix))?;
    Some(format!("what begins with `{prefix}/` is a model of `{prefix}`; choose another name"))
}
