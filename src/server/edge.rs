//! What every worker of one listener shares.

use std::net::SocketAddr;
use std::sync::Arc;

use super::closing::Closing;
use crate::backend::tally::Tallies;
use crate::config::settings::Listener;
use crate::metrics::Metrics;
use crate::reload::Reloads;
use crate::router::in_force::{InForce, Published};
use crate::state::State;

/// What of one listener stays as long as demuxai runs.
pub struct Place {
    /// The listener's id.
    pub id: Arc<str>,
    /// As it was bound at start.
    pub bound: Arc<Listener>,
    /// Where it listens, with the port that it got.
    pub address: SocketAddr,
    /// Which one it is, in the order in which they were bound.
    pub number: usize,
    /// The ids of all listeners.
    pub listeners: Arc<[Arc<str>]>,
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
pub struct Door {
    place: Place,
    published: Arc<Published>,
}

/// One listener's view of the daemon, as one request sees it from its begin to its end.
pub struct Edge<'d> {
    /// What stays.
    pub place: &'d Place,
    /// What was in force when the request came.
    pub now: Arc<InForce>,
    /// The listener's configuration, of then.
    pub listener: Arc<Listener>,
}

// === impl Door ===

impl Door {
    /// A door to what is published there.
    pub fn new(place: Place, published: Arc<Published>) -> Self {
        Door { place, published }
    }

    /// What of it stays.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// What is behind it now.
    pub fn edge(&self) -> Edge<'_> {
        let (place, now) = (&self.place, self.published.now());
        let listener = Arc::clone(now.access.listeners.get(place.number).unwrap_or(&place.bound));
        Edge { place, now, listener }
    }
}

// === impl Edge ===

impl Edge<'_> {
    /// Whether no new requests are taken.
    pub fn draining(&self) -> bool {
        self.place.closing.is_draining()
    }
}
