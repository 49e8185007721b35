//! What every worker of one listener shares.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::closing::Closing;
use crate::backend::tally::Tallies;
use crate::config::secret::Secret;
use crate::config::settings::{ClientKey, Listener};
use crate::metrics::Metrics;
use crate::reload::Reloads;
use crate::router::Routes;
use crate::state::State;

/// One listener's view of the daemon, as one request sees it from its begin to its end.
#[derive(Clone)]
pub struct Edge {
    /// The listener's id.
    pub id: Arc<str>,
    /// The listener's configuration.
    pub listener: Arc<Listener>,
    /// The ids of all listeners.
    pub listeners: Arc<[Arc<str>]>,
    /// The clients' keys.
    pub keys: Arc<Vec<ClientKey>>,
    /// The key for changes, if there is one.
    pub admin_key: Option<Arc<Secret>>,
    /// Where the routing table is.
    pub routes: Arc<Routes>,
    /// Where is recorded.
    pub metrics: Arc<Metrics>,
    /// What outlives the process.
    pub state: State,
    /// What clients have used of limits that are theirs.
    pub tallies: Arc<Tallies>,
    /// How far the listener's end has come.
    pub closing: Arc<Closing>,
    /// Where reloads are asked for.
    pub reloads: Reloads,
}

/// Where a listener's requests find its view of the daemon. Reading is one atomic load.
pub struct Door(ArcSwap<Edge>);

// === impl Edge ===

impl Edge {
    /// Whether no new requests are taken.
    pub fn draining(&self) -> bool {
        self.closing.is_draining()
    }
}

// === impl Door ===

impl Door {
    /// A door with this behind it.
    pub fn new(edge: Edge) -> Self {
        Door(ArcSwap::from_pointee(edge))
    }

    /// What is behind it now.
    pub fn edge(&self) -> Arc<Edge> {
        self.0.load_full()
    }

    /// From now on this is behind it.
    pub fn open(&self, edge: Edge) {
        self.0.store(Arc::new(edge));
    }
}
