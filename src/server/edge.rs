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

// === impl Place ===

impl Place {
    /// This listener as another configuration has it: what sockets and threads were made with stays as it is.
    pub fn as_bound(&self, next: &Listener) -> Listener {
        let Listener { address, workers, stalled_reader, drain, .. } = *self.bound;
        Listener { address, workers, stalled_reader, drain, ..next.clone() }
    }
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cli::load::read;
    use crate::config::Sources;
    use crate::provider::registry::Registry;

    fn listener(options: &str) -> Listener {
        let text = format!("[listeners.l]\n{options}\n[state]\npath = \"none\"\n");
        let sources = Sources { texts: vec![("test".to_owned(), text)], ..Sources::default() };
        let config = read(&sources, &Registry::builtin()).unwrap_or_else(|report| panic!("{report}"));
        config.listeners.into_iter().next().unwrap()
    }

    #[test]
    fn what_a_socket_was_made_with_stays_and_the_rest_is_as_it_is_written_now() {
        let bound = listener("address = \"127.0.0.1:1\"\nworkers = 1\nstalled_reader = 2\ndrain = 3");
        let place = Place {
            id: Arc::from("l"),
            address: bound.address,
            bound: Arc::new(bound),
            number: 0,
            listeners: Arc::new([]),
            metrics: Arc::new(Metrics::new().unwrap()),
            state: State::nowhere(),
            tallies: Arc::new(Tallies::nowhere()),
            closing: Arc::default(),
            reloads: Reloads::new().0,
        };
        let next = listener(
            "address = \"127.0.0.1:9\"\nworkers = 9\nstalled_reader = 9\ndrain = 9\nkeep_alive = 9\nhosts = [\"box\"]",
        );
        let now = place.as_bound(&next);
        let seconds = |length: Duration| length.as_secs();
        assert_eq!((now.address.port(), now.workers), (1, 1));
        assert_eq!((seconds(now.stalled_reader), seconds(now.drain)), (2, 3));
        assert_eq!((seconds(now.keep_alive), now.hosts), (9, vec!["box".to_owned()]));
    }
}
