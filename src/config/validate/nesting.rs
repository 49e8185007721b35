//! How groups and routers hang together: members before those that name them, nothing inside itself, and no more below
//! one than a request can look at.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::{Map, Value};

use super::super::settings::{GroupConfig, RouteConfig, RouterConfig};
use super::Check;

/// Most groups and routers on the way from one to a provider.
const MOST_DEPTH: usize = 8;
/// Most providers below a group or router, each as often as it is named: a request asks all of them how they stand.
const MOST_BELOW: usize = 1000;
/// No more circles are told at once.
const MOST_CIRCLES: usize = 20;

/// What is below a group or router.
#[derive(Clone, Copy)]
struct Below {
    depth: usize,
    providers: usize,
    /// It, or one below it, is too much; that was said once.
    told: bool,
}

/// A group or router, as far as it matters how they hang together.
struct Knot<'a> {
    section: &'static str,
    id: &'a str,
    /// The key that names others.
    key: &'static str,
    /// Its members or targets, and the backends whose standing it asks for; as often as they are named.
    names: Vec<&'a str>,
}

// === impl Knot ===

impl<'a> Knot<'a> {
    fn all(groups: &'a [GroupConfig], routers: &'a [RouterConfig]) -> Vec<Knot<'a>> {
        let groups = groups.iter().map(|group| Knot {
            section: "groups",
            id: &group.id,
            key: if group.options.contains_key("to") { "to" } else { "members" },
            names: group.members.iter().map(|member| member.backend.as_str()).collect(),
        });
        let routers = routers.iter().map(|router| Knot {
            section: "routers",
            id: &router.id,
            key: "routes",
            names: router.routes.iter().flat_map(named).collect(),
        });
        groups.chain(routers).collect()
    }
}

fn named(route: &RouteConfig) -> impl Iterator<Item = &str> {
    let watched = route.conditions.backends().into_iter();
    let watched = watched.map(|name| name.split_once('/').map_or(name, |(backend, _)| backend));
    std::iter::once(route.backend.as_str()).chain(watched)
}

/// The order in which members come before those that name them. Every circle is reported with its whole way, and every
/// group or router that is too deep or too wide unless one below it is. Where a provider has a group's id, which was
/// told, the provider is meant.
pub(super) fn order(
    check: &mut Check<'_>,
    groups: &[GroupConfig],
    routers: &[RouterConfig],
    providers: &Map<String, Value>,
) -> Vec<String> {
    let knots = Knot::all(groups, routers);
    let by_id: BTreeMap<&str, &Knot<'_>> = knots.iter().map(|knot| (knot.id, knot)).collect();
    let mut left = Left::new(&knots, providers);
    let mut order = left.free();
    for _ in 0..MOST_CIRCLES {
        let Some(way) = left.circle() else { break };
        // The last one names the first; one that names itself is both.
        let last = way.len().checked_sub(2).and_then(|at| way.get(at));
        if let (Some(first), Some(last)) = (way.first(), last) {
            if let Some(knot) = by_id.get(first.as_str()) {
                let (verb, these) = match knot.section {
                    "groups" => ("contains", "members"),
                    _ => ("leads back to", "routes"),
                };
                let text = format!("{verb} itself: {}; take one of these {these} out", way.join(" -> "));
                check.problem(&[knot.section, first, knot.key], text);
            }
            // As if that member were out: what else is wrong is told at the same time.
            left.cut(last, first);
        }
        order.extend(left.free());
    }
    bounded(check, &order, &by_id);
    order
}

/// Groups and routers in this order; those that are not in it are out.
pub(super) fn ordered(
    groups: Vec<GroupConfig>,
    routers: Vec<RouterConfig>,
    order: &[String],
) -> (Vec<GroupConfig>, Vec<RouterConfig>) {
    let mut groups: BTreeMap<String, GroupConfig> =
        groups.into_iter().map(|group| (group.id.clone(), group)).collect();
    let mut routers: BTreeMap<String, RouterConfig> =
        routers.into_iter().map(|router| (router.id.clone(), router)).collect();
    (
        order.iter().filter_map(|id| groups.remove(id)).collect(),
        order.iter().filter_map(|id| routers.remove(id)).collect(),
    )
}

/// The groups and routers that are not placed yet, and whom they wait for.
struct Left {
    /// Those that each one names, once each.
    waits: BTreeMap<String, BTreeSet<String>>,
    /// Who names them.
    named_by: BTreeMap<String, Vec<String>>,
    /// As they are written.
    ids: Vec<String>,
    ready: VecDeque<String>,
}

// === impl Left ===

impl Left {
    fn new(knots: &[Knot<'_>], providers: &Map<String, Value>) -> Self {
        let ids = knots.iter().map(|knot| knot.id);
        let known: BTreeSet<&str> = ids.filter(|id| !providers.contains_key(*id)).collect();
        let mut named_by: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut waits = BTreeMap::new();
        let mut ready = VecDeque::new();
        for knot in knots {
            let names = knot.names.iter().filter(|id| known.contains(**id));
            let names: BTreeSet<String> = names.map(|id| (*id).to_owned()).collect();
            for name in &names {
                named_by.entry(name.clone()).or_default().push(knot.id.to_owned());
            }
            if names.is_empty() {
                ready.push_back(knot.id.to_owned());
            }
            waits.insert(knot.id.to_owned(), names);
        }
        Left { waits, named_by, ids: knots.iter().map(|knot| knot.id.to_owned()).collect(), ready }
    }

    /// Takes out all that wait for nobody, in the order in which they can be built.
    fn free(&mut self) -> Vec<String> {
        let mut freed = Vec::new();
        while let Some(id) = self.ready.pop_front() {
            if self.waits.remove(&id).is_none() {
                continue;
            }
            for other in self.named_by.get(&id).into_iter().flatten() {
                if let Some(names) = self.waits.get_mut(other)
                    && names.remove(&id)
                    && names.is_empty()
                {
                    self.ready.push_back(other.clone());
                }
            }
            freed.push(id);
        }
        freed
    }

    /// A circle among those that are left, which all wait for one of them; its first stands at its end again.
    fn circle(&self) -> Option<Vec<String>> {
        let mut way = vec![self.ids.iter().find(|id| self.waits.contains_key(*id))?.clone()];
        let mut seen = BTreeMap::from([(way.first()?.clone(), 0)]);
        loop {
            let next = self.waits.get(way.last()?)?.first()?.clone();
            if let Some(at) = seen.get(&next) {
                let mut circle = way.split_off(*at);
                circle.push(next);
                return Some(circle);
            }
            seen.insert(next.clone(), way.len());
            way.push(next);
        }
    }

    /// Takes out that `from` names `to`.
    fn cut(&mut self, from: &str, to: &str) {
        if let Some(names) = self.waits.get_mut(from)
            && names.remove(to)
            && names.is_empty()
        {
            self.ready.push_back(from.to_owned());
        }
    }
}

fn bounded(check: &mut Check<'_>, order: &[String], by_id: &BTreeMap<&str, &Knot<'_>>) {
    let mut known: BTreeMap<&str, Below> = BTreeMap::new();
    for knot in order.iter().filter_map(|id| by_id.get(id.as_str())) {
        let mut below = Below { depth: 1, providers: 0, told: false };
        for name in &knot.names {
            match known.get(name) {
                Some(inner) => {
                    below.depth = below.depth.max(inner.depth + 1);
                    below.providers = below.providers.saturating_add(inner.providers);
                    below.told |= inner.told;
                }
                None => below.providers = below.providers.saturating_add(1),
            }
        }
        let text = if below.depth > MOST_DEPTH {
            Some(format!(
                "are {}, {} deep; at most {MOST_DEPTH} are looked through",
                if knot.section == "groups" { "groups in groups" } else { "routers in routers or groups" },
                below.depth
            ))
        } else if below.providers > MOST_BELOW {
            let count = below.providers;
            Some(format!(
                "come to {count} providers, counting those of a group each time it is named; at most {MOST_BELOW}"
            ))
        } else {
            None
        };
        if let Some(text) = text
            && !below.told
        {
            check.problem(&[knot.section, knot.id, knot.key], text);
            below.told = true;
        }
        known.insert(knot.id, below);
    }
}
