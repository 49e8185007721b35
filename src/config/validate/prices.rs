//! Whether a budget knows what its models cost: one whose price is not known is never sent.

use std::any::Any;

use super::super::settings::{GroupConfig, ProviderConfig, RouterConfig};
use super::Check;
use crate::backend::Whereabouts;
use crate::backend::kind::Leaf;
use crate::backend::kind::budget::Budgeting;
use crate::base_url::BaseUrl;

/// Groups and routers are no deeper than this; where they are, that is told elsewhere.
const MOST_DEPTH: usize = 16;

/// What there is to look through.
struct Graph<'a> {
    providers: &'a [ProviderConfig],
    groups: &'a [GroupConfig],
    routers: &'a [RouterConfig],
}

/// Reports the models that a budget's backend names and that have no price; of providers that are asked for whatever model
/// was named, a warning says so.
pub(super) fn unknown(
    check: &mut Check<'_>,
    providers: &[ProviderConfig],
    groups: &[GroupConfig],
    routers: &[RouterConfig],
) {
    let graph = Graph { providers, groups, routers };
    for group in groups {
        let build: &dyn Any = &*group.build;
        let Some(budget) = build.downcast_ref::<Budgeting>() else { continue };
        let Some(wrapped) = group.members.first() else { continue };
        // A price that is written and wrong was told.
        if check.was_removed(&["groups", &group.id, "prices"]) {
            continue;
        }
        let mut leaves = Vec::new();
        graph.leaves(&wrapped.backend, wrapped.model.as_deref(), MOST_DEPTH, &mut leaves);
        let mut named = Vec::new();
        let mut open = Vec::new();
        for leaf in leaves {
            // No model has an empty name; what matches it, matches all.
            let known = budget.prices.of(&leaf, leaf.model.as_deref().unwrap_or_default()).is_some();
            match (&leaf.model, known) {
                (_, true) => {}
                (Some(model), false) => named.push(format!("\"{}/{model}\"", leaf.provider)),
                (None, false) => open.push(leaf.provider),
            }
        }
        named.sort();
        named.dedup();
        if let Some(first) = named.first() {
            let text = format!(
                "has no price for {}; add it, in dollars per million tokens, such as {first} = {{ input = 0.1, output = 0.3 }}",
                named.join(", ")
            );
            check.problem(&["groups", &group.id, "prices"], text);
        }
        open.sort();
        open.dedup();
        if let Some(first) = open.first() {
            let text = format!(
                "models of {} that none of these globs matches have no price, and requests for them are refused; add them, \
                 in dollars per million tokens, such as \"{first}/*\" = {{ input = 0.1, output = 0.3 }}",
                open.iter().map(|id| format!("`{id}`")).collect::<Vec<_>>().join(", ")
            );
            check.warn(&["groups", &group.id, "prices"], text);
        }
    }
}

// === impl Graph ===

impl Graph<'_> {
    fn leaves(&self, id: &str, model: Option<&str>, depth: usize, leaves: &mut Vec<Leaf>) {
        let Some(depth) = depth.checked_sub(1) else { return };
        if let Some(provider) = self.providers.iter().find(|provider| provider.id == id) {
            leaves.push(Leaf {
                provider: id.to_owned(),
                model: model.map(str::to_owned),
                whereabouts: Whereabouts {
                    host: BaseUrl::parse(&provider.url).ok().map(|url| url.host),
                    local: provider.local,
                },
            });
        } else if let Some(group) = self.groups.iter().find(|group| group.id == id) {
            for member in &group.members {
                self.leaves(&member.backend, member.model.as_deref().or(model), depth, leaves);
            }
        } else if let Some(router) = self.routers.iter().find(|router| router.id == id) {
            for route in &router.routes {
                self.leaves(&route.backend, route.model.as_deref().or(model), depth, leaves);
            }
        }
    }
}
