//! How groups hang together: members before those that name them, no group inside itself, and no more below one than
//! a request can look at.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::{Map, Value};

use super::super::settings::GroupConfig;
use super::Check;

/// Most groups on the way from a group to a provider.
const MOST_DEPTH: usize = 8;
/// Most providers below a group, each as often as it is named: a request asks all of them how they stand.
const MOST_BELOW: usize = 1000;
/// No more circles are told at once.
const MOST_CIRCLES: usize = 20;

/// What is below a group.
#[derive(Clone, Copy)]
struct Below {
    depth: usize,
    providers: usize,
    /// It, or one below it, is too much; that was said once.
    told: bool,
}

/// Puts members before those that name them. Every circle is reported with its whole way, and every group that is too
/// deep or too wide unless one below it is. Where a provider has a group's id, which was told, the provider is meant.
pub(super) fn ordered(
    check: &mut Check<'_>,
    groups: Vec<GroupConfig>,
    providers: &Map<String, Value>,
) -> Vec<GroupConfig> {
    let mut left = Left::new(&groups, providers);
    let mut order = left.free();
    for _ in 0..MOST_CIRCLES {
        let Some(way) = left.circle() else { break };
        // The last one names the first; a group that names itself is both.
        let last = way.len().checked_sub(2).and_then(|at| way.get(at));
        if let (Some(first), Some(last)) = (way.first(), last) {
            let text = format!("contains itself: {}; take one of these members out", way.join(" -> "));
            check.problem(&["groups", first, "members"], text);
            // As if that member were out: what else is wrong is told at the same time.
            left.cut(last, first);
        }
        order.extend(left.free());
    }
    let mut by_id: BTreeMap<String, GroupConfig> =
        groups.into_iter().map(|group| (group.id.clone(), group)).collect();
    let ordered: Vec<GroupConfig> = order.iter().filter_map(|id| by_id.remove(id)).collect();
    bounded(check, &ordered);
    ordered
}

/// The groups that are not placed yet, and whom they wait for.
struct Left {
    /// The groups that each one names, once each.
    waits: BTreeMap<String, BTreeSet<String>>,
    /// Who names them.
    named_by: BTreeMap<String, Vec<String>>,
    /// As they are written.
    ids: Vec<String>,
    ready: VecDeque<String>,
}

// === impl Left ===

impl Left {
    fn new(groups: &[GroupConfig], providers: &Map<String, Value>) -> Self {
        let ids = groups.iter().map(|group| group.id.as_str());
        let known: BTreeSet<&str> = ids.filter(|id| !providers.contains_key(*id)).collect();
        let mut named_by: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut waits = BTreeMap::new();
        let mut ready = VecDeque::new();
        for group in groups {
            let members = group.members.iter().map(|member| &member.backend);
            let names: BTreeSet<String> = members.filter(|id| known.contains(id.as_str())).cloned().collect();
            for name in &names {
                named_by.entry(name.clone()).or_default().push(group.id.clone());
            }
            if names.is_empty() {
                ready.push_back(group.id.clone());
            }
            waits.insert(group.id.clone(), names);
        }
        Left { waits, named_by, ids: groups.iter().map(|group| group.id.clone()).collect(), ready }
    }

    /// Takes out all groups that wait for nobody, in the order in which they can be built.
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

fn bounded(check: &mut Check<'_>, ordered: &[GroupConfig]) {
    let mut known: BTreeMap<&str, Below> = BTreeMap::new();
    for group in ordered {
        let mut below = Below { depth: 1, providers: 0, told: false };
        for member in &group.members {
            match known.get(member.backend.as_str()) {
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
                "are groups in groups, {} deep; at most {MOST_DEPTH} are looked through",
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
            check.problem(&["groups", &group.id, "members"], text);
            below.told = true;
        }
        known.insert(&group.id, below);
    }
}
