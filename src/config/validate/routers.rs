//! Routers: that their targets are there, what is wrong with their conditions, and which of their routes can never be
//! taken. How groups and routers hang together is `nesting.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Map, Value};

use super::super::place::index_step;
use super::super::settings::{GroupConfig, Listener, ProviderConfig, RouteConfig, RouterConfig};
use super::super::spec::Spec;
use super::super::spec::routes::RouterSpec;
use super::{Check, target};
use crate::backend::condition::union::Routes;
use crate::backend::condition::{self, Conditions, Names};
use crate::dialect::Task;

/// Most routes of a router.
const MOST_ROUTES: usize = 200;
/// What is said of a route that excludes itself.
const EXCLUDES: &str =
    "can never match: its conditions exclude each other, whatever the endpoint; take one of them out";
/// The endpoints, in the order of messages.
const TASKS: [Task; 4] = [Task::Chat, Task::Completion, Task::Fim, Task::Embedding];

/// A route, as far as it could be read.
struct Read {
    /// As it is written.
    written: Map<String, Value>,
    /// Where it goes; `None`: that was wrong.
    target: Option<(String, Option<String>)>,
    /// The request fields that it sets.
    set: Vec<(String, Bytes)>,
    /// `None`: they, or some of them, were wrong.
    conditions: Option<Conditions>,
}

/// Checks all routers and gives those that are valid.
pub(super) fn all(check: &mut Check<'_>, spec: &Spec, listeners: &[Listener]) -> Vec<RouterConfig> {
    let entries: Vec<(String, RouterSpec)> = check.entries("routers", &spec.routers);
    let names = Names {
        listeners: listeners.iter().filter(|known| known.api).map(|known| known.id.as_str()).collect(),
        clients: spec.keys.keys().map(String::as_str).collect(),
        backends: target::backends(spec),
    };
    entries.iter().map(|(id, entry)| one(check, id, entry, &names)).collect()
}

fn one(check: &mut Check<'_>, id: &str, entry: &RouterSpec, names: &Names<'_>) -> RouterConfig {
    if entry.routes.is_empty() || entry.routes.len() > MOST_ROUTES {
        let text =
            format!("needs 1 to {MOST_ROUTES} routes, such as {{ to = \"mistral/mistral-small-latest\" }}");
        check.missing(&["routers", id, "routes"], text);
    }
    let routes: Vec<Read> = entry
        .routes
        .iter()
        .enumerate()
        .map(|(index, written)| read(check, id, &index_step(index), written, names))
        .collect();
    unreachable(check, id, &routes);
    let routes = routes.into_iter().filter_map(|read| {
        let (backend, model) = read.target?;
        let conditions = Arc::new(read.conditions.unwrap_or_default());
        let renames = read.written.contains_key("model");
        Some(RouteConfig { backend, model, renames, set: read.set, conditions })
    });
    RouterConfig {
        id: id.to_owned(),
        name: entry.name.clone(),
        description: entry.description.clone(),
        hidden: entry.hidden,
        routes: routes.collect(),
    }
}

fn read(
    check: &mut Check<'_>,
    id: &str,
    step: &str,
    written: &Map<String, Value>,
    names: &Names<'_>,
) -> Read {
    let place = ["routers", id, "routes", step];
    let below = |key| ["routers", id, "routes", step, key];
    let to = written.get("to").and_then(Value::as_str);
    if to.is_none() {
        check.missing(&below("to"), target::MISSING);
    }
    let set = written.get("set").and_then(Value::as_object);
    Read {
        written: written.clone(),
        target: to.and_then(|to| target::read(check, &below("to"), to, &names.backends)),
        set: set.map(|set| target::set(check, &below("set"), set)).unwrap_or_default(),
        conditions: conditions(check, &place, written, names),
    }
}

fn conditions(
    check: &mut Check<'_>,
    place: &[&str],
    written: &Map<String, Value>,
    names: &Names<'_>,
) -> Option<Conditions> {
    let in_doubt = is_in_doubt(check, place);
    match Conditions::read(written, names) {
        Ok(conditions) => Some(conditions).filter(|_| !in_doubt),
        Err(faults) => {
            for fault in faults {
                let path: Vec<&str> =
                    place.iter().copied().chain(fault.path.iter().map(String::as_str)).collect();
                // A key that was taken out is missing for a reason that was told.
                check.missing(&path, fault.message);
            }
            None
        }
    }
}

/// Whether something was taken out of a route.
fn is_in_doubt(check: &Check<'_>, place: &[&str]) -> bool {
    check.removed.iter().any(|removed| {
        let same = removed.iter().zip(place).all(|(removed, step)| removed == step);
        same && removed.len() >= place.len()
    })
}

/// Reports routes that no request ever takes: those that exclude themselves, and those whose requests are all taken
/// before.
fn unreachable(check: &mut Check<'_>, id: &str, routes: &[Read]) {
    // For each endpoint, the first route that takes all of its requests.
    let mut taken: [Option<usize>; 4] = [None; 4];
    let mut together =
        Routes::read(routes.iter().map(|read| read.conditions.is_some().then_some(&read.written)));
    for (index, read) in routes.iter().enumerate() {
        let Some(conditions) = &read.conditions else { continue };
        let certain = TASKS.map(|task| conditions.certainly(task));
        let step = index_step(index);
        let place = ["routers", id, "routes", step.as_str()];
        let possible = |(holds, _): &(&Option<bool>, &Option<usize>)| **holds != Some(false);
        let earlier = routes
            .iter()
            .take(index)
            .position(|other| other.conditions.is_some() && condition::covers(&other.written, &read.written));
        let before: BTreeSet<usize> = match earlier {
            Some(earlier) => [earlier].into(),
            None => certain.iter().zip(&taken).filter(possible).filter_map(|(_, by)| *by).collect(),
        };
        let itself = nots(&read.written).any(|not| condition::covers(not, &read.written));
        if itself {
            let text = "can never match: its `not` takes out all that its other conditions let through";
            check.problem(&place, text);
        } else if certain.iter().all(|holds| *holds == Some(false)) {
            check.problem(&place, EXCLUDES);
        } else if earlier.is_some() || certain.iter().zip(&taken).filter(possible).all(|(_, by)| by.is_some())
        {
            check.problem(&place, taken_before(before.into_iter().collect()));
        } else if let Some(takers) = together.takers(index) {
            check.problem(&place, if takers.is_empty() { EXCLUDES.to_owned() } else { taken_before(takers) });
        }
        for (holds, by) in certain.iter().zip(&mut taken) {
            if *holds == Some(true) && by.is_none() {
                *by = Some(index);
            }
        }
    }
}

/// What is said of a route whose requests these take.
fn taken_before(takers: Vec<usize>) -> String {
    let mut numbers: Vec<String> = takers.iter().map(|earlier| format!("routes[{earlier}]")).collect();
    let verb = if numbers.len() == 1 { "takes" } else { "take" };
    let last = numbers.pop().unwrap_or_default();
    let all = if numbers.is_empty() { last } else { format!("{} and {last}", numbers.join(", ")) };
    format!("can never match: {all} {verb} all of its requests before; put it further up, or take it out")
}

/// The tables of what must not hold.
fn nots(written: &Map<String, Value>) -> impl Iterator<Item = &Map<String, Value>> {
    let not = written.get(condition::NOT);
    let tables = match not {
        Some(Value::Array(tables)) => tables.as_slice(),
        _ => not.map(std::slice::from_ref).unwrap_or_default(),
    };
    tables.iter().filter_map(Value::as_object)
}

/// Reports routes whose target has none of the endpoints that they let through. Takes groups and routers in an order in
/// which members come first.
pub(super) fn unservable(
    check: &mut Check<'_>,
    providers: &[ProviderConfig],
    groups: &[GroupConfig],
    routers: &[RouterConfig],
    order: &[String],
) {
    let kinds = check.kinds;
    let lacks = |provider: &ProviderConfig, task: Task| {
        let kind = kinds.iter().find(|kind| kind.name == provider.kind);
        kind.is_some_and(|kind| kind.lacks.contains(&task))
    };
    let mut serves: BTreeMap<&str, [bool; 4]> = BTreeMap::new();
    for provider in providers {
        serves.insert(&provider.id, TASKS.map(|task| !lacks(provider, task)));
    }
    let groups: BTreeMap<&str, &GroupConfig> =
        groups.iter().map(|group| (group.id.as_str(), group)).collect();
    let routers: BTreeMap<&str, &RouterConfig> =
        routers.iter().map(|router| (router.id.as_str(), router)).collect();
    for id in order {
        // What is not known, because it was wrong, serves anything.
        let of = |serves: &BTreeMap<&str, [bool; 4]>, id: &str| serves.get(id).copied().unwrap_or([true; 4]);
        let mut own = [false; 4];
        if let Some(group) = groups.get(id.as_str()) {
            for member in &group.members {
                own = either(own, of(&serves, &member.backend));
            }
            for (task, serves) in TASKS.iter().zip(&mut own) {
                *serves = group.build.serves(*task, *serves);
            }
        } else if let Some(router) = routers.get(id.as_str()) {
            for (index, route) in router.routes.iter().enumerate() {
                let target = of(&serves, &route.backend);
                let lets = TASKS.map(|task| route.conditions.certainly(task) != Some(false));
                let both = |(lets, serves): (bool, bool)| lets && serves;
                let served: Vec<bool> = lets.into_iter().zip(target).map(both).collect();
                if lets.contains(&true) && !served.contains(&true) {
                    let named: Vec<&str> = TASKS
                        .iter()
                        .zip(lets)
                        .filter(|(_, lets)| *lets)
                        .map(|(task, _)| task.label())
                        .collect();
                    let text = format!(
                        "can never serve what this route lets through ({}): `{}` has no such endpoint",
                        named.join(", "),
                        route.backend
                    );
                    check.problem(&["routers", id, "routes", &index_step(index), "to"], text);
                }
                let served: [bool; 4] = served.try_into().unwrap_or([true; 4]);
                own = either(own, served);
            }
        }
        serves.insert(id, own);
    }
}

fn either(one: [bool; 4], other: [bool; 4]) -> [bool; 4] {
    let [a, b, c, d] = one;
    let [e, f, g, h] = other;
    [a || e, b || f, c || g, d || h]
}
