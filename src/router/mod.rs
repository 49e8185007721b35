//! RouterActor: owns the providers, publishes the routing table, and guards the providers' arbiters.
//! Requests read the published table and never wait in its mailbox; no body passes through here.

pub mod accounts;
pub mod explain;
pub mod graph;
pub mod in_force;
pub mod replacing;
pub mod table;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix::{Actor, AsyncContext, Context, Handler, Message, ResponseFuture, Supervised};
use futures_util::future::{join, join_all};

use crate::backend::virtual_model::About;
use crate::metrics::Metrics;
use crate::provider::handle::Provider;
use crate::state::State;
use accounts::Accounts;
use in_force::{InForce, Published};
use table::Table;

/// How often the providers' arbiters are asked for a sign of life.
const GUARD_INTERVAL: Duration = Duration::from_secs(2);

/// The actor that owns the table.
pub struct RouterActor {
    published: Arc<Published>,
    guarding: Vec<Guarding>,
    /// Those that were taken out or replaced, until they have ended what they have in flight.
    draining: Vec<Guarding>,
    /// Ids of providers that are there no more, until their series have ended.
    gone: BTreeSet<String>,
    /// Groups and routers that are there no more, or are of another type, until their series have ended.
    former: Vec<About>,
    accounts: Accounts,
    /// Known from the first replacement on; before it nobody is gone.
    metrics: Option<Arc<Metrics>>,
    state: State,
    state_busy: Arc<AtomicBool>,
}

#[derive(Clone)]
struct Guarding {
    provider: Arc<Provider>,
    busy: Arc<AtomicBool>,
}

/// A look at a provider that is under way.
struct Busy(Arc<AtomicBool>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// A round trip through the router, the state's and every provider's actor: true when all of them answer.
#[derive(Message)]
#[rtype(result = "bool")]
pub struct RoundTrip;

// === impl RouterActor ===

impl RouterActor {
    /// A router of what is in force at first, which it publishes at once.
    pub fn new(published: Arc<Published>, first: InForce, accounts: Accounts, state: State) -> Self {
        let guarding = guarding(&first.table, &[]);
        published.publish(first);
        RouterActor {
            published,
            guarding,
            draining: Vec::new(),
            gone: BTreeSet::new(),
            former: Vec::new(),
            accounts,
            metrics: None,
            state,
            state_busy: Arc::new(AtomicBool::new(false)),
        }
    }

    /// Starts one look after each provider and the state, unless the last one is still under way.
    fn guard(&self) {
        for Guarding { provider, busy } in self.guarding.iter().chain(&self.draining) {
            if busy.swap(true, Ordering::Relaxed) {
                continue;
            }
            let (provider, busy) = (Arc::clone(provider), Arc::clone(busy));
            actix_rt::spawn(async move {
                // Freed whatever happens, or a panic would leave the provider without a guard for ever.
                let _busy = Busy(busy);
                provider.guard().await;
            });
        }
        if self.state_busy.swap(true, Ordering::Relaxed) {
            return;
        }
        let (state, busy) = (self.state.clone(), Arc::clone(&self.state_busy));
        actix_rt::spawn(async move {
            let _busy = Busy(busy);
            state.guard().await;
        });
    }
}

/// A guard for each provider of the table; one that is guarded already keeps its own.
fn guarding(table: &Table, known: &[Guarding]) -> Vec<Guarding> {
    table.providers().iter().map(|provider| Guarding::of(provider, known)).collect()
}

// === impl Guarding ===

impl Guarding {
    /// The guard of this provider: the one it has, so that there are never two.
    fn of(provider: &Arc<Provider>, known: &[Guarding]) -> Self {
        let found = known.iter().find(|guarding| Arc::ptr_eq(&guarding.provider, provider));
        let new = || Guarding { provider: Arc::clone(provider), busy: Arc::default() };
        found.map_or_else(new, Guarding::clone)
    }
}

impl Actor for RouterActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(GUARD_INTERVAL, |router, _ctx| {
            router.end_idle();
            router.guard();
        });
    }
}

impl Supervised for RouterActor {}

impl Handler<RoundTrip> for RouterActor {
    type Result = ResponseFuture<bool>;

    fn handle(&mut self, _message: RoundTrip, _ctx: &mut Self::Context) -> Self::Result {
        let (table, state) = (self.published.table(), self.state.clone());
        Box::pin(async move {
            let providers = join_all(table.providers().iter().map(|provider| provider.ping()));
            let (providers, state) = join(providers, state.ping()).await;
            state && providers.into_iter().all(|alive| alive)
        })
    }
}
