//! Members and targets that can never serve what is asked of them, or that differ from their neighbours in a way that
//! leaves requests without a choice.

use std::collections::BTreeSet;

use super::super::super::place::index_step;
use super::super::super::settings::{Config, GroupConfig, MemberConfig, ProviderConfig, StaticModel};
use super::super::Check;
use super::serving::{Serves, Serving, TASKS};
use super::{allows, provider};
use crate::backend::kind::KINDS;
use crate::dialect::Task;
use crate::model_id::same_model;

/// The type whose members have their turn one after the other.
const FAILOVER: &str = "failover";

/// A place where a backend and a model are named.
struct Named<'c> {
    path: Vec<String>,
    backend: &'c str,
    model: &'c str,
}

/// All places where a model of a backend is named.
fn named(config: &Config) -> Vec<Named<'_>> {
    let mut all = Vec::new();
    for group in &config.groups {
        for member in &group.members {
            let Some(model) = &member.model else { continue };
            all.push(Named { path: path_of(group, member), backend: &member.backend, model });
        }
    }
    for router in &config.routers {
        for (index, route) in router.routes.iter().enumerate() {
            let path = ["routers", &router.id, "routes", &index_step(index)].map(str::to_owned);
            if let Some(model) = &route.model {
                let path = [&path[..], &["to".to_owned()]].concat();
                all.push(Named { path, backend: &route.backend, model });
            }
        }
    }
    all
}

fn path_of(group: &GroupConfig, member: &MemberConfig) -> Vec<String> {
    let begin = ["groups".to_owned(), group.id.clone()];
    begin.into_iter().chain(member.place.iter().cloned()).collect()
}

fn steps(path: &[String]) -> Vec<&str> {
    path.iter().map(String::as_str).collect()
}

/// Models that the provider's own globs exclude: a contradiction, and no request could ever be served there.
pub(super) fn excluded(check: &mut Check<'_>, config: &Config) {
    for Named { path, backend, model } in named(config) {
        let Some(provider) = provider(config, backend).filter(|provider| !allows(provider, model)) else {
            continue;
        };
        let text = format!(
            "can never serve: providers.{} leaves `{model}` out ({}); allow it there, or name another model",
            provider.id,
            globs_of(provider)
        );
        check.problem(&steps(&path), text);
    }
}

fn globs_of(provider: &ProviderConfig) -> &'static str {
    match (&provider.include_models, &provider.exclude_models) {
        (Some(_), Some(_)) => "include_models, exclude_models",
        (Some(_), None) => "include_models",
        _ => "exclude_models",
    }
}

/// Models that a provider does not have whose models are all known from the files.
pub(super) fn not_offered(check: &mut Check<'_>, config: &Config) {
    for Named { path, backend, model } in named(config) {
        let Some(provider) = provider(config, backend) else { continue };
        let Some(kind) = check.kinds.iter().find(|kind| kind.name == provider.kind) else { continue };
        let lists = kind.lists || kind.open_list;
        let known: Vec<&StaticModel> = provider.models.iter().chain(kind.models).collect();
        if lists || known.is_empty() || known.iter().any(|known| same_model(&known.id, model)) {
            continue;
        }
        let all: Vec<&str> = known.iter().map(|known| known.id.as_str()).collect();
        let text = format!(
            "can never serve: `{backend}` has no `{model}` (type {} lists no models itself; known: {}); add it to \
             `models` of providers.{backend}, or name one of these",
            kind.name,
            all.join(", ")
        );
        check.warn(&steps(&path), text);
    }
}

/// Members that are in one list twice with nothing to tell them apart.
pub(super) fn twice(check: &mut Check<'_>, config: &Config) {
    for group in config.groups.iter().filter(|group| !group.build.repeats()) {
        for (index, member) in group.members.iter().enumerate() {
            let same = |other: &&MemberConfig| {
                other.backend == member.backend
                    && other.model == member.model
                    && other.set == member.set
                    && other.place.len() > 1
                    && other.place.first() == member.place.first()
            };
            let Some(first) = group.members.iter().take(index).find(same) else { continue };
            let text = format!(
                "is the same as {}: it would only be asked twice; take one out (`weight` gives one a larger share)",
                first.place.concat()
            );
            check.warn(&steps(&path_of(group, member)), text);
        }
    }
}

/// Members that share no endpoint with the rest, and those that alone can fill in the middle.
pub(super) fn apart(check: &mut Check<'_>, config: &Config) {
    let serving = Serving::of(check, config);
    for group in &config.groups {
        let serves = |member: &MemberConfig| serving.backend(&member.backend, member.model.as_deref());
        // Only what is in one list stands for one another.
        let listed: Vec<&MemberConfig> =
            group.members.iter().filter(|member| member.place.len() > 1).collect();
        if listed.len() < 2 {
            continue;
        }
        let all: Vec<Serves> = listed.iter().map(|member| serves(member)).collect();
        for (index, (member, own)) in listed.iter().zip(&all).enumerate() {
            let others =
                || all.iter().enumerate().filter(move |(other, _)| *other != index).map(|(_, one)| one);
            let shares = |task: usize| others().any(|other| at(other, task) != Some(false));
            let certain = own.iter().all(Option::is_some) && others().flatten().all(Option::is_some);
            let lonely =
                (0..TASKS.len()).filter(|task| at(own, *task) == Some(true)).all(|task| !shares(task));
            if certain && lonely {
                let text = format!(
                    "serves nothing that the other members serve ({} alone), so that its requests have nobody to go on to; \
                     put it into a group of its own, or send to it by a router's `endpoint`",
                    words(own)
                );
                check.warn(&steps(&path_of(group, member)), text);
                continue;
            }
            let fim = TASKS.iter().position(|task| *task == Task::Fim).unwrap_or(2);
            if at(own, fim) == Some(true) && others().all(|other| at(other, fim) == Some(false)) {
                let text = "alone of these members can fill in the middle: such requests have nobody to go on to; add \
                            another one that can, or send them to it by a router's `endpoint = \"fim\"`";
                check.warn(&steps(&path_of(group, member)), text);
            }
        }
    }
}

/// Members of an ordered list behind one that answers all by itself: they are never asked.
pub(super) fn behind(check: &mut Check<'_>, config: &Config) {
    let answers = |member: &MemberConfig| {
        let group = config.groups.iter().find(|group| group.id == member.backend)?;
        group.options.get("answer").filter(|_| group.build.serves(Task::Chat, false))
    };
    for group in config.groups.iter().filter(|group| group.kind == FAILOVER) {
        let Some(first) = group.members.iter().position(|member| answers(member).is_some()) else { continue };
        for member in group.members.iter().skip(first + 1) {
            // Fixed texts have no embeddings, which those behind them may have.
            let serving = Serving::of(check, config).backend(&member.backend, member.model.as_deref());
            if at(&serving, TASKS.len() - 1) == Some(true) {
                continue;
            }
            let text =
                format!("is never asked: members[{first}] answers everything before it; put that one last");
            check.warn(&steps(&path_of(group, member)), text);
        }
    }
}

fn at(serves: &Serves, task: usize) -> Option<bool> {
    serves.get(task).copied().flatten()
}

fn words(serves: &Serves) -> String {
    let named = TASKS.iter().zip(serves).filter(|(_, serves)| **serves == Some(true));
    named.map(|(task, _)| task.label()).collect::<Vec<_>>().join(", ")
}

/// Embeddings of different models in one group: a request never moves from one to the other.
pub(super) fn spaces(check: &mut Check<'_>, config: &Config) {
    let serving = Serving::of(check, config);
    let embedding = TASKS.len() - 1;
    let mut generator = schemars::generate::SchemaSettings::draft2020_12().into_generator();
    let asks: BTreeSet<&str> = KINDS
        .iter()
        .filter(|kind| {
            let mut tables = kind.options.iter().map(|options| options(&mut generator));
            tables.any(|table| table.pointer("/properties/same_space").is_some())
        })
        .map(|kind| kind.word)
        .collect();
    for group in config.groups.iter().filter(|group| asks.contains(group.kind)) {
        if group.options.get("same_space").and_then(serde_json::Value::as_bool) == Some(true) {
            continue;
        }
        let embeds = |member: &&MemberConfig| {
            let known = at(&serving.backend(&member.backend, member.model.as_deref()), embedding);
            let called = member.model.as_deref().is_some_and(|model| model.contains("embed"));
            known == Some(true) && serves_only(&serving, member, embedding) || (known.is_none() && called)
        };
        let mut first: Option<&str> = None;
        for member in group.members.iter().filter(embeds) {
            let Some(model) = member.model.as_deref() else { continue };
            match first {
                None => first = Some(model),
                Some(known) if same_model(known, model) => {}
                Some(known) => {
                    let text = format!(
                        "its embeddings are not those of `{known}`, so no request ever moves here from there; name the \
                         same model, or say that they are of one space: same_space = true"
                    );
                    check.warn(&steps(&path_of(group, member)), text);
                }
            }
        }
    }
}

fn serves_only(serving: &Serving<'_>, member: &MemberConfig, task: usize) -> bool {
    let serves = serving.backend(&member.backend, member.model.as_deref());
    serves.iter().enumerate().all(|(index, known)| index == task || *known == Some(false))
}
