//! Which endpoints a member serves, as far as the configuration and the catalogue tell without asking anybody.

use std::collections::BTreeMap;

use super::super::super::settings::{Config, GroupConfig, StaticModel};
use super::super::Check;
use super::provider;
use crate::dialect::Task;

/// The endpoints, in the order of messages.
pub(super) const TASKS: [Task; 4] = [Task::Chat, Task::Completion, Task::Fim, Task::Embedding];

/// What something serves: for each endpoint whether it does; `None`: not known.
pub(super) type Serves = [Option<bool>; 4];

/// What backends serve, asked for once each.
pub(super) struct Serving<'a> {
    config: &'a Config,
    kinds: &'a [super::super::super::Kind<'a>],
    virtuals: BTreeMap<&'a str, Serves>,
}

// === impl Serving ===

impl<'a> Serving<'a> {
    pub(super) fn of(check: &Check<'a>, config: &'a Config) -> Serving<'a> {
        let mut serving = Serving { config, kinds: check.kinds, virtuals: BTreeMap::new() };
        // Members come first in either list, and groups and routers name each other: two rounds for each level would be
        // exact; what is not known yet is taken for not known, which only keeps doubts back.
        for _ in 0..2 {
            for group in &config.groups {
                let all = group
                    .members
                    .iter()
                    .map(|member| serving.backend(&member.backend, member.model.as_deref()));
                let all: Vec<Serves> = all.collect();
                serving.virtuals.insert(&group.id, of_group(group, any_of(&all)));
            }
            for router in &config.routers {
                let all =
                    router.routes.iter().map(|route| serving.backend(&route.backend, route.model.as_deref()));
                let all: Vec<Serves> = all.collect();
                serving.virtuals.insert(&router.id, any_of(&all));
            }
        }
        serving
    }

    /// What a backend serves, with this model.
    pub(super) fn backend(&self, id: &str, model: Option<&str>) -> Serves {
        let Some(found) = provider(self.config, id) else {
            return self.virtuals.get(id).copied().unwrap_or([None; 4]);
        };
        let Some(kind) = self.kinds.iter().find(|kind| kind.name == found.kind) else { return [None; 4] };
        let known = model.and_then(|model| {
            let same = |known: &&StaticModel| known.id == model && !known.capabilities.is_empty();
            found.models.iter().find(same).or_else(|| kind.models.iter().find(same))
        });
        TASKS.map(|task| {
            if kind.lacks.contains(&task) {
                return Some(false);
            }
            let words = &known?.capabilities;
            // Who says nothing of endpoints, but of tools alone, leaves them open.
            let tells = TASKS.iter().any(|task| words.iter().any(|word| word == task.label()));
            tells.then(|| words.iter().any(|word| word == task.label()))
        })
    }
}

/// What a group serves whose members do this.
fn of_group(group: &GroupConfig, below: Serves) -> Serves {
    let mut own = below;
    for (task, serves) in TASKS.iter().zip(&mut own) {
        let [with, without] = [true, false].map(|below| group.build.serves(*task, below));
        // Where it does not depend on the members, it is known.
        *serves =
            if with == without { Some(with) } else { serves.map(|below| group.build.serves(*task, below)) };
    }
    own
}

fn any_of(all: &[Serves]) -> Serves {
    let of = |index: usize| {
        let mut known = Some(false);
        for one in all.iter().map(|serves| serves.get(index).copied().flatten()) {
            match one {
                Some(true) => return Some(true),
                Some(false) => {}
                None => known = None,
            }
        }
        known
    };
    [of(0), of(1), of(2), of(3)]
}
