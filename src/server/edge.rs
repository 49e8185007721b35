//! What every worker of one listener shares.

use std::sync::Arc;

use super::closing::Closing;
use crate::config::secret::Secret;
use crate::config::settings::{ClientKey, Listener};
use crate::metrics::Metrics;
use crate::router::Routes;
use crate::state::State;

/// One listener's view of the daemon.
#[derive(Clone)]
pub struct Edge {
    /// The listener's id.
    pub id: Arc<str>,
    /// The listener's configuration.
    pub listener: Arc<Listener>,
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
    /// How far the listener's end has come.
    pub closing: Arc<Closing>,
}

impl Edge {
    /// Whether no new requests are taken.
    pub fn draining(&self) -> bool {
        self.closing.is_draining()
    }
}
