//! `dedupe`: requests that ask the same while one of them is in flight share its call to the upstream. Each client gets
//! its own stream of the whole answer, at its own pace; what they share is `flight.rs`, which requests are the same
//! `identity.rs`. The call is over when nobody is left that it is for.
//!
//! An error before the commit point is everybody's. What the upstream counts, it counts once, and so do its ledger and
//! its metrics; each request has its own line and its own place in the counts of requests. What was reserved for one whose
//! client leaves is settled by what the call comes to for the others.

mod flight;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::identity::{Among, identity};
use super::{Modifier, Wrapped, explain};
use crate::backend::explain::Decision;
use crate::backend::virtual_model::Memory;
use crate::backend::{Call, Reply};
use crate::error::ProxyError;
use crate::metrics::caching::{Share, SharedMeters};
use crate::wire::json::Digest;
pub use flight::Flight;
use flight::Seat;

/// How a dedupe is configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Whose requests share a call.
    pub among: Among,
    /// The most bytes of an answer that are kept for those that join, or that lag behind.
    pub max_buffer: usize,
}

/// A backend that is asked once by those that ask the same.
pub struct Dedupe {
    wrapped: Wrapped,
    options: Options,
    flights: Flights,
    meters: SharedMeters,
}

/// The calls in flight by what they ask; they are held by the requests that they are for.
pub type Flights = Arc<InFlight>;
/// See [`Flights`].
pub type InFlight = Mutex<HashMap<Digest, Weak<Flight>>>;

// === impl Dedupe ===

impl Dedupe {
    /// Over this backend.
    pub fn new(wrapped: Wrapped, options: Options) -> Self {
        Self::over(wrapped, options, Flights::default())
    }

    /// The same with the calls in flight of one before it.
    pub fn over(wrapped: Wrapped, options: Options, flights: Flights) -> Self {
        let meters = wrapped.metrics.dedupe(&wrapped.about.id);
        Dedupe { wrapped, options, flights, meters }
    }

    fn key(&self, call: &Call) -> Digest {
        let below = self.wrapped.inner.call(call, None);
        // Calls that go different lengths to find capacity end differently where there is none.
        let round = call.round.as_ref().map(|round| (round.guesses, round.waiter.is_some()));
        let round = format!("{round:?}");
        // Calls in flight outlive a reload.
        let scope = [self.wrapped.inner.label.as_bytes(), round.as_bytes(), self.wrapped.below.as_bytes()];
        identity(&scope, &below, self.options.among)
    }

    /// Whether a call is in flight that asks the same and that another one can join.
    fn can_join(&self, call: &Call) -> bool {
        let key = self.key(call);
        let known = {
            let flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
            flights.get(&key).and_then(Weak::upgrade)
        };
        known.is_some_and(|flight| flight.is_open())
    }

    /// A place in the call that is in flight for what this one asks, or in a new one.
    fn join(self: &Arc<Self>, call: &Call) -> (Seat, Share) {
        let key = self.key(call);
        // Let go after the lock: the last one to hold a flight takes it.
        let known;
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        known = flights.get(&key).and_then(Weak::upgrade);
        if let Some(seat) = known.as_ref().and_then(|flight| flight.join(call.opened.keep())) {
            return (seat, Share::Follower);
        }
        let (this, kept, call) = (Arc::clone(self), call.opened.keep(), call.clone());
        let asking = async move { this.wrapped.inner.ask(&call).await }.boxed();
        let (flight, seat) = Flight::begin(
            asking,
            self.options.max_buffer,
            self.meters.clone(),
            (key, Arc::downgrade(&self.flights)),
            kept,
        );
        flights.insert(key, Arc::downgrade(&flight));
        (seat, Share::Leader)
    }
}

/// Whether a call is for its own request alone: one that goes on with another's answer, that waits for those of a panel to
/// be admitted, or whose client wants a fresh one.
fn is_alone(call: &Call) -> bool {
    let headers = call.arrival.as_ref().map_or(&[][..], |arrival| &arrival.headers);
    call.so_far.is_some() || call.gate.is_some() || super::cache::wants_fresh(headers)
}

impl Modifier for Dedupe {
    fn wrapped(&self) -> &Wrapped {
        &self.wrapped
    }

    fn reads_arrival(&self) -> bool {
        true
    }

    fn memory(&self) -> Option<Memory> {
        Some(Arc::clone(&self.flights) as Memory)
    }

    fn decide(&self, call: &Call) -> Decision<'_> {
        let (why, sure) = if is_alone(call) {
            ("asked for this request alone, which wants an answer of its own", true)
        } else if self.can_join(call) {
            (
                "a call that asks the same is in flight: this request would get its answer, whoever that is of",
                false,
            )
        } else {
            ("no call that asks the same is in flight", true)
        };
        let inner = &self.wrapped.inner;
        Decision { sure, ..explain::handed_on(inner, [inner], call, vec![why.to_owned()]) }
    }

    fn forward(self: Arc<Self>, call: Call) -> BoxFuture<'static, Result<Reply, ProxyError>> {
        let (metrics, id) = (&self.wrapped.metrics, &self.wrapped.about.id);
        if is_alone(&call) {
            Share::Alone.emit(metrics, id, &call.request_id);
            return self.wrapped.inner.ask(&call);
        }
        let (seat, share) = self.join(&call);
        share.emit(metrics, id, &call.request_id);
        async move { seat.reply(&self.wrapped, &call, share).await }.boxed()
    }
}
