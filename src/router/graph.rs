//! From the configuration's groups and routers to backends: each member is looked up by its id, members first.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::Value;

use crate::backend::Backend;
use crate::backend::group::Member;
use crate::backend::kind::{Leaf, Means, Site};
use crate::backend::split::{Route, Split, SplitBackend};
use crate::backend::virtual_model::{About, Memory, Section, VirtualModel};
use crate::config::settings::{GroupConfig, MemberConfig, RouteConfig, RouterConfig};
use crate::provider::handle::Provider;
use crate::wire::json::{Digest, Digester};

/// What was built, and over what.
pub struct Graph {
    leaves: Vec<Arc<dyn Backend>>,
    groups: Vec<Arc<dyn VirtualModel>>,
    routers: Vec<Arc<dyn VirtualModel>>,
    means: Means,
    /// How each of these is configured, with all below it.
    prints: HashMap<String, Digest>,
}

/// What there was before, where the configuration is reloaded.
#[derive(Default)]
pub struct Before {
    /// The groups and routers that are configured as they were.
    pub virtuals: HashMap<String, Arc<dyn VirtualModel>>,
    /// The providers that stay. What is over these alone stays as it is; another one is built anew, and remembers.
    pub same: BTreeSet<String>,
}

// === impl Graph ===

impl Graph {
    /// Builds groups and routers over these providers, with what there was before. The configuration has either in an
    /// order in which members come first, so that one of the two heads can always be built.
    ///
    /// # Errors
    /// A member or a strategy that is not there, which the configuration's own check rules out.
    pub fn build(
        groups: &[GroupConfig],
        routers: &[RouterConfig],
        providers: &[Arc<Provider>],
        means: &Means,
        before: &Before,
    ) -> Result<Graph, String> {
        let leaves = providers.iter().map(|provider| Arc::clone(provider) as Arc<dyn Backend>).collect();
        Graph::over(groups, routers, leaves, means, before)
    }

    /// The same over whatever answers at the ends.
    ///
    /// # Errors
    /// As [`Graph::build`].
    pub fn over(
        groups: &[GroupConfig],
        routers: &[RouterConfig],
        leaves: Vec<Arc<dyn Backend>>,
        means: &Means,
        before: &Before,
    ) -> Result<Graph, String> {
        let prints = leaves.iter().map(|leaf| (leaf.id().to_owned(), print_of_leaf(&**leaf))).collect();
        let mut graph =
            Graph { leaves, groups: Vec::new(), routers: Vec::new(), means: means.clone(), prints };
        let mut same = before.same.clone();
        let (mut groups, mut routers) = (groups.iter().peekable(), routers.iter().peekable());
        while groups.peek().is_some() || routers.peek().is_some() {
            let ready =
                |config: &&GroupConfig| config.members.iter().all(|member| graph.has(&member.backend));
            if let Some(config) = groups.next_if(ready) {
                let members = config.members.iter().map(|member| member.backend.as_str());
                let old = before.virtuals.get(&config.id);
                let group = match stays(old, members, &mut same) {
                    Some(group) => group,
                    None => graph.group(config, old.and_then(|old| old.memory()))?,
                };
                graph.groups.push(group);
                graph.prints.insert(config.id.clone(), graph.print_of_group(config));
            } else if let Some(config) = routers.next() {
                let old = before.virtuals.get(&config.id);
                let router = match stays(old, named(config), &mut same) {
                    Some(router) => router,
                    None => Arc::new(SplitBackend::new(graph.split(config)?)),
                };
                graph.routers.push(router);
                graph.prints.insert(config.id.clone(), graph.print_of_router(config));
            } else if let Some(config) = groups.next() {
                // Says what is missing.
                graph.group(config, None)?;
            }
        }
        Ok(graph)
    }

    /// The groups and then the routers, members before those that name them.
    pub fn into_virtuals(self) -> Vec<Arc<dyn VirtualModel>> {
        self.groups.into_iter().chain(self.routers).collect()
    }

    fn has(&self, id: &str) -> bool {
        self.find(id).is_some()
    }

    fn find(&self, id: &str) -> Option<Arc<dyn Backend>> {
        if let Some(leaf) = self.leaves.iter().find(|leaf| leaf.id() == id) {
            return Some(Arc::clone(leaf));
        }
        let found = self.groups.iter().chain(&self.routers).find(|found| found.id() == id)?;
        Some(Arc::clone(found) as Arc<dyn Backend>)
    }

    fn split(&self, config: &RouterConfig) -> Result<Split, String> {
        let found =
            |id: &str| self.find(id).ok_or_else(|| format!("router `{}`: no backend `{id}`", config.id));
        let route = |route: &RouteConfig| {
            Ok(Route {
                label: Arc::from(route.label()),
                backend: found(&route.backend)?,
                model: route.model.as_deref().map(Arc::from),
                renames: route.renames,
                set: route.set.clone(),
                needs_model: route.model.is_none()
                    && self.leaves.iter().any(|leaf| leaf.id() == route.backend),
                conditions: Arc::clone(&route.conditions),
            })
        };
        let routes: Vec<Route> = config.routes.iter().map(route).collect::<Result<_, String>>()?;
        let names: BTreeSet<&str> =
            config.routes.iter().flat_map(|route| route.conditions.backends()).collect();
        let watch = |name: &str| {
            let (id, model) = name.split_once('/').unwrap_or((name, ""));
            Ok((name.to_owned(), found(id)?, Arc::from(model)))
        };
        Ok(Split {
            about: About {
                id: Arc::from(config.id.as_str()),
                section: Section::Router,
                kind: "router",
                name: config.name.clone(),
                description: config.description.clone(),
                hidden: config.hidden,
            },
            routes,
            watched: names.into_iter().map(watch).collect::<Result<_, String>>()?,
            clock: Timestamp::now,
            metrics: Arc::clone(&self.means.metrics),
        })
    }

    fn group(&self, config: &GroupConfig, memory: Option<Memory>) -> Result<Arc<dyn VirtualModel>, String> {
        let members = config.members.iter().map(|member| {
            let backend = self
                .find(&member.backend)
                .ok_or_else(|| format!("group `{}`: no backend `{}`", config.id, member.backend))?;
            Ok(as_member(member, backend))
        });
        config.build.build(Site {
            about: About {
                id: Arc::from(config.id.as_str()),
                section: Section::Group,
                kind: config.kind,
                name: config.name.clone(),
                description: config.description.clone(),
                hidden: config.hidden,
            },
            members: members.collect::<Result<_, String>>()?,
            means: self.means.clone(),
            memory,
            leaves: config.members.first().map_or_else(Vec::new, |member| {
                let mut leaves = Vec::new();
                self.leaves_below(&member.backend, member.model.as_deref(), &mut leaves);
                leaves
            }),
            below: self.print_of_members(&config.members),
        })
    }

    fn print_of_group(&self, config: &GroupConfig) -> Digest {
        let mut digester = Digester::default();
        digester.part("type", config.kind.as_bytes());
        digester.part("options", Value::from(config.options.clone()).to_string().as_bytes());
        digester.part("members", self.print_of_members(&config.members).as_bytes());
        digester.finish()
    }

    /// When a route is taken does not count: it chooses among answers that are good.
    fn print_of_router(&self, config: &RouterConfig) -> Digest {
        let targets = config.routes.iter();
        self.print_of(targets.map(|route| (route.backend.as_str(), route.label(), &route.set)))
    }

    fn print_of_members(&self, members: &[MemberConfig]) -> Digest {
        self.print_of(members.iter().map(|member| (member.backend.as_str(), member.label(), &member.set)))
    }

    /// Of backends, each by its id, as it is written, and with the fields that are set for it.
    fn print_of<'a>(
        &self,
        named: impl Iterator<Item = (&'a str, String, &'a Vec<(String, Bytes)>)>,
    ) -> Digest {
        let mut digester = Digester::default();
        for (id, label, set) in named {
            digester.part("label", label.as_bytes());
            for (key, value) in set {
                digester.part(key, value);
            }
            digester.part("below", self.prints.get(id).map_or(&[][..], Digest::as_bytes));
        }
        digester.finish()
    }

    /// The providers below this backend, each as often as it is named.
    fn leaves_below(&self, id: &str, model: Option<&str>, leaves: &mut Vec<Leaf>) {
        if let Some(leaf) = self.leaves.iter().find(|leaf| leaf.id() == id) {
            leaves.push(Leaf {
                provider: id.to_owned(),
                model: model.map(str::to_owned),
                whereabouts: leaf.whereabouts(),
            });
        } else if let Some(found) = self.groups.iter().chain(&self.routers).find(|found| found.id() == id) {
            for below in found.below("") {
                self.leaves_below(below.backend.id(), below.model.or(model), leaves);
            }
        }
    }
}

/// Of a provider counts where it is: what it says, and how it is asked, is its upstream's affair.
fn print_of_leaf(leaf: &dyn Backend) -> Digest {
    let mut digester = Digester::default();
    digester.part("host", leaf.whereabouts().host.unwrap_or_default().as_bytes());
    digester.finish()
}

/// The one that was there, if it is configured as it was and all that it names stays, too.
fn stays<'n>(
    old: Option<&Arc<dyn VirtualModel>>,
    mut names: impl Iterator<Item = &'n str>,
    same: &mut BTreeSet<String>,
) -> Option<Arc<dyn VirtualModel>> {
    let stays = old.filter(|_| names.all(|name| same.contains(name)))?;
    same.insert(stays.id().to_owned());
    Some(Arc::clone(stays))
}

/// The ids of all backends that a router names: its targets, and those whose state its conditions look at.
fn named(config: &RouterConfig) -> impl Iterator<Item = &str> {
    config.routes.iter().flat_map(|route| {
        let watched = route
            .conditions
            .backends()
            .into_iter()
            .map(|name| name.split_once('/').map_or(name, |(id, _)| id));
        std::iter::once(route.backend.as_str()).chain(watched)
    })
}

fn as_member(config: &MemberConfig, backend: Arc<dyn Backend>) -> Member {
    Member {
        label: Arc::from(config.label()),
        backend,
        model: config.model.as_deref().map(Arc::from),
        weight: config.weight,
        set: config.set.clone(),
    }
}

#[cfg(test)]
mod tests;
