//! Names that nobody can use: models that globs hide, ids that stand before other names, keys that open nothing, backends
//! that no key leads to.

use std::collections::BTreeSet;

use super::super::super::place::index_step;
use super::super::super::settings::Config;
use super::super::super::spec::{KeySpec, ListenerSpec, Spec};
use super::super::Check;
use super::allows;

/// Models of the configuration that its own globs hide.
pub(super) fn hidden_models(check: &mut Check<'_>, config: &Config) {
    for provider in &config.providers {
        for (index, model) in provider.models.iter().enumerate() {
            if allows(provider, &model.id) {
                continue;
            }
            let text = "is hidden by include_models or exclude_models of the same provider, so that nobody can ask for \
                        it; allow it there, or take it out here";
            check.warn(&["providers", &provider.id, "models", &index_step(index)], text);
        }
    }
}

/// Ids that stand before the bare names of models, and prefixes that stand before models' own.
pub(super) fn shadowed(check: &mut Check<'_>, config: &Config) {
    let groups = config.groups.iter().map(|group| ("groups", group.id.as_str()));
    let routers = config.routers.iter().map(|router| ("routers", router.id.as_str()));
    let providers = config.providers.iter().map(|provider| ("providers", provider.id.as_str()));
    let ids: Vec<(&str, &str)> = providers.chain(groups).chain(routers).collect();
    let kinds = check.kinds;
    for provider in &config.providers {
        let kind = kinds.iter().find(|kind| kind.name == provider.kind);
        let of_kind = kind.map(|kind| kind.models).unwrap_or_default();
        for model in of_kind.iter().chain(&provider.models).filter(|model| allows(provider, &model.id)) {
            let hides = ids.iter().find(|(_, id)| *id == model.id);
            if let Some((section, id)) = hides {
                let text = format!(
                    "has the name of a model of `{}`: asked for by its bare name, this answers; that model is \
                     `{}/{}`. Rename this one, unless that is meant",
                    provider.id, provider.id, model.id
                );
                check.warn(&[section, id], text);
            }
        }
        for (index, model) in provider.models.iter().enumerate() {
            let Some((first, _)) = model.id.split_once('/') else { continue };
            let Some((_, id)) = ids.iter().find(|(_, id)| *id == first && *id != provider.id) else {
                continue;
            };
            let text = format!(
                "begins with the id of another backend: a client that asks for `{}` asks `{id}`; this one is `{}/{}`. \
                 Rename `{id}`, unless that is meant",
                model.id, provider.id, model.id
            );
            check.warn(&["providers", &provider.id, "models", &index_step(index)], text);
        }
    }
}

/// Globs of keys and listeners that no id of a model can match.
pub(super) fn keys(check: &mut Check<'_>, spec: &Spec, config: &Config) {
    let mut lists: Vec<(&str, String, &str, Vec<String>)> = Vec::new();
    for (id, entry) in check.entries::<KeySpec>("keys", &spec.keys) {
        lists.push(("keys", id.clone(), "models", entry.models.unwrap_or_default()));
        lists.push(("keys", id, "listed_models", entry.listed_models.unwrap_or_default()));
    }
    for (id, entry) in check.entries::<ListenerSpec>("listeners", &spec.listeners) {
        lists.push(("listeners", id, "listed_models", entry.listed_models.unwrap_or_default()));
    }
    let virtuals: Vec<&str> = virtuals(config).collect();
    let providers: Vec<&str> = config.providers.iter().map(|provider| provider.id.as_str()).collect();
    let backends: Vec<&str> = virtuals.iter().chain(&providers).copied().collect();
    let known = if backends.is_empty() { "none".to_owned() } else { backends.join(", ") };
    for (section, id, key, patterns) in lists {
        for (index, pattern) in patterns.iter().enumerate() {
            let Ok(glob) = super::super::glob(pattern) else { continue };
            let matcher = glob.compile_matcher();
            let may = config.aliases.iter().any(|alias| matcher.is_match(&alias.id))
                || virtuals.iter().any(|virtual_id| matcher.is_match(virtual_id))
                || backends.iter().any(|backend| may_match(pattern, backend));
            if !may {
                let text = format!(
                    "matches no model: ids begin with that of a provider, group or router (known: {known}), as in \
                     \"mistral/*\"; mend it, or take it out"
                );
                check.warn(&[section, &id, key, &index_step(index)], text);
            }
        }
    }
}

/// Whether a glob may match a model of this backend, as far as its begin tells.
fn may_match(pattern: &str, backend: &str) -> bool {
    let literal: &str = pattern.split(['*', '?', '[', '{', '\\']).next().unwrap_or_default();
    let prefix = format!("{backend}/");
    prefix.starts_with(literal) && literal.len() < pattern.len() || literal.starts_with(&prefix)
}

fn virtuals(config: &Config) -> impl Iterator<Item = &str> {
    let groups = config.groups.iter().map(|group| group.id.as_str());
    groups.chain(config.routers.iter().map(|router| router.id.as_str()))
}

/// Backends that no key may ask for, nor anything that a key may ask for leads to. Where somebody may ask for anything,
/// everything is reached.
pub(super) fn unreachable(check: &mut Check<'_>, spec: &Spec, config: &Config) {
    if config.keys.is_empty() || config.keys.iter().any(|key| key.models.is_none()) {
        return;
    }
    let entries: Vec<(String, KeySpec)> = check.entries("keys", &spec.keys);
    let patterns: Vec<String> = entries.into_iter().flat_map(|(_, key)| key.models).flatten().collect();
    let mut reached: BTreeSet<&str> = BTreeSet::new();
    let ids = virtuals(config).chain(config.providers.iter().map(|provider| provider.id.as_str()));
    for id in ids {
        let bare = config.keys.iter().filter_map(|key| key.models.as_ref()).any(|globs| globs.is_match(id));
        let is_provider = config.providers.iter().any(|provider| provider.id == id);
        if (bare && !is_provider) || patterns.iter().any(|pattern| may_match(pattern, id)) {
            reached.insert(id);
        }
    }
    let asked =
        |id: &str| config.keys.iter().filter_map(|key| key.models.as_ref()).any(|globs| globs.is_match(id));
    for alias in config.aliases.iter().filter(|alias| asked(&alias.id)) {
        reached.insert(alias.to.split_once('/').map_or(alias.to.as_str(), |(backend, _)| backend));
    }
    // What is reached leads to those that it names.
    loop {
        let before = reached.len();
        for group in config.groups.iter() {
            if reached.contains(group.id.as_str()) {
                reached.extend(group.members.iter().map(|member| member.backend.as_str()));
            }
        }
        for router in config.routers.iter() {
            if reached.contains(router.id.as_str()) {
                reached.extend(router.routes.iter().map(|route| route.backend.as_str()));
            }
        }
        if reached.len() == before {
            break;
        }
    }
    let groups = config.groups.iter().map(|group| ("groups", group.id.as_str()));
    let routers = config.routers.iter().map(|router| ("routers", router.id.as_str()));
    let providers = config.providers.iter().map(|provider| ("providers", provider.id.as_str()));
    for (section, id) in providers.chain(groups).chain(routers).filter(|(_, id)| !reached.contains(id)) {
        let text = "is unused: no key may ask for it (see `models` of each of [keys]), and nothing that a key may ask for \
                    leads to it; allow it, or take it out";
        check.warn(&[section, id], text);
    }
}
