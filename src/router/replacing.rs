//! How the router puts another configuration's backends in the place of those that serve: what is unchanged stays, what
//! changed gets a successor, and what is gone ends what it has in flight.

use std::collections::BTreeSet;
use std::sync::Arc;

use actix::{Context, Handler, Message};
use tracing::{debug, info};

use super::graph::{Before, Graph};
use super::in_force::{Access, InForce};
use super::table::Table;
use super::{Guarding, RouterActor, guarding};
use crate::backend::Backend;
use crate::backend::kind::Means;
use crate::backend::virtual_model::About;
use crate::config::settings::{AliasConfig, GroupConfig, RouterConfig};
use crate::provider::about::About as OfProvider;
use crate::provider::handle::Provider;
use crate::provider::succession::{Kinship, kinship};

/// Put these backends in the place of those there are.
#[derive(Message)]
#[rtype(result = "Result<(), String>")]
pub struct Replace {
    /// The providers, in the order of the configuration.
    pub providers: Vec<Next>,
    /// The groups, as in [`crate::config::settings::Config`].
    pub groups: Vec<GroupConfig>,
    /// The routers, likewise.
    pub routers: Vec<RouterConfig>,
    /// The groups and routers among them that are as they were: they stay, or keep what they remember.
    pub same: BTreeSet<String>,
    /// Other names for models.
    pub aliases: Vec<AliasConfig>,
    /// Who may ask.
    pub access: Access,
    /// What all backends share.
    pub means: Means,
}

/// A provider of the next configuration.
pub enum Next {
    /// The one of this id, as it is.
    Same(String),
    /// A new one, or one whose configuration changed.
    New(Box<OfProvider>),
}

// === impl RouterActor ===

impl RouterActor {
    fn replace(&mut self, next: Replace) -> Result<(), String> {
        let old = self.published.table();
        let same = old.virtuals().filter(|known| next.same.contains(known.id()));
        let virtuals = same.map(|known| (known.id().to_owned(), Arc::clone(known))).collect();
        let mut before = Before { virtuals, ..Before::default() };
        let mut providers = Vec::with_capacity(next.providers.len());
        for entry in next.providers {
            providers.push(match entry {
                Next::Same(id) => {
                    let same = old.provider(&id).map(Arc::clone);
                    let same = same.ok_or_else(|| format!("provider `{id}` is not there"))?;
                    before.same.insert(id);
                    same
                }
                Next::New(about) => self.started(*about, &old),
            });
        }
        let graph = Graph::build(&next.groups, &next.routers, &providers, &next.means, &before)?;
        let tallies = next.means.tallies.of_keys(&next.access.keys)?;
        let table = Arc::new(Table::new(providers, graph.into_virtuals()).with_aliases(next.aliases));
        for provider in old.providers() {
            match table.provider(provider.id()) {
                Some(same) if Arc::ptr_eq(same, provider) => continue,
                Some(_) => {}
                None => {
                    self.accounts.leave(provider);
                    provider.vitals().mute();
                    next.means.metrics.no_longer_up(provider.id());
                    self.gone.insert(provider.id().to_owned());
                }
            }
            provider.drain();
            self.draining.push(Guarding::of(provider, &self.guarding));
        }
        self.gone.retain(|id| !table.is_backend(id));
        let left = old.virtuals().map(|known| known.about()).filter(|about| !goes_on(about, &table));
        self.former.extend(left.cloned());
        self.former.retain(|about| !goes_on(about, &table));
        self.guarding = guarding(&table, &self.guarding);
        self.metrics = Some(next.means.metrics);
        self.published.publish(InForce { table, access: next.access, tallies });
        Ok(())
    }

    /// The provider of this description: in the place of the one of that id, if there is one.
    fn started(&mut self, about: OfProvider, old: &Table) -> Arc<Provider> {
        let Some(before) = old.provider(&about.id) else { return self.accounts.start(about) };
        if kinship(&before.about().config, &about.config) != Kinship::None {
            return before.succeeded_by(about);
        }
        self.accounts.leave(before);
        before.vitals().mute();
        self.accounts.start(about)
    }

    /// Ends the providers that have nothing in flight any more, and the series of those that are there no more.
    pub(super) fn end_idle(&mut self) {
        self.draining.retain(|draining| {
            let idle = Provider::is_idle(&draining.provider);
            if idle {
                info!(
                    provider = draining.provider.id(),
                    "provider's old actor has ended what it had in flight"
                );
            }
            !idle
        });
        let Some(metrics) = &self.metrics else { return };
        let draining = &self.draining;
        self.gone.retain(|id| {
            let drains = draining.iter().any(|draining| draining.provider.id() == id);
            let forgotten = !drains && metrics.forget(id);
            if forgotten {
                debug!(provider = id, "series of a provider that is gone have ended");
            }
            !forgotten
        });
        let table = self.published.table();
        self.former.retain(|about| {
            // The counts of requests know it by its id.
            metrics.let_go(&about.id);
            // Whoever is still served by it holds its id.
            if Arc::strong_count(&about.id) > 1 {
                return true;
            }
            if table.is_backend(&about.id) {
                // Another type under its id.
                metrics.forget_kind(&about.id, about.kind);
                return false;
            }
            !metrics.forget(&about.id)
        });
    }
}

/// Whether the table has this group or router, or another one of its type in its place.
fn goes_on(about: &About, table: &Table) -> bool {
    table.find_virtual(&about.id).is_some_and(|found| found.about().kind == about.kind)
}

impl Handler<Replace> for RouterActor {
    type Result = Result<(), String>;

    fn handle(&mut self, message: Replace, _ctx: &mut Context<Self>) -> Self::Result {
        self.replace(message)
    }
}
