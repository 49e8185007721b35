//! The one seam: anything that answers a [`Call`] is a [`Backend`], be it one provider or a group of them.
//! A reply is handed over at the commit point: until then a failure may still go elsewhere.

pub mod arrival;
pub mod attempts;
pub mod condition;
pub mod consensus;
pub mod costs;
mod emptiness;
pub mod explain;
pub mod fail_on;
pub mod frames;
pub mod gate;
pub mod group;
pub mod kind;
pub mod lane;
pub mod lease;
pub mod modifier;
pub mod opened;
pub mod plan;
mod race;
mod resume;
pub mod secrets;
pub mod size;
pub mod split;
pub mod sticky;
pub mod strategy;
pub mod stream;
pub mod tally;
pub mod trail;
pub mod virtual_model;
pub mod waiter;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use http::header::{HeaderName, HeaderValue};

use crate::dialect::{Request, Usage};
use crate::error::{Attempt, ProxyError};
use crate::metrics::caching::{CacheUse, Share};
use crate::metrics::{EndReason, ModelMeters};
use arrival::Arrival;
use costs::Costs;
use explain::Account;
use gate::Gate;
use kind::Leaf;
use lease::Lease;
use modifier::price::{Price, Prices};
use opened::Opened;
use strategy::Availability;
pub use stream::{Frames, ReplyStream};
use waiter::Waiter;

/// One client request on its way to a backend. Cheap to clone: a group gives a copy to each member it tries.
#[derive(Clone)]
pub struct Call {
    /// What the client sent.
    pub request: Arc<Request>,
    /// The model's id at the upstream, as the router resolved it.
    pub model: Arc<str>,
    /// The client's headers that may go upstream; never credentials or cookies.
    pub headers: Arc<Vec<(HeaderName, HeaderValue)>>,
    /// When the request was fully read.
    pub received: Instant,
    /// Our id of the request.
    pub request_id: Arc<str>,
    /// A reader that takes nothing for this long is dropped.
    pub stalled_reader: Duration,
    /// The client's name, where keys are configured; queues are fair between clients.
    pub client: Option<Arc<str>>,
    /// The headers' word on which conversation this is, where the client says so.
    pub session: Option<Arc<str>>,
    /// How it came in, where somebody may ask: the conditions of routers, limits by a header.
    pub arrival: Option<Arc<Arrival>>,
    /// What groups changed in the request on the way, for `x-demuxai-edits`.
    pub edits: Arc<Vec<String>>,
    /// What another backend had said of the answer when it broke off; this one is to go on from there.
    pub so_far: Option<Arc<str>>,
    /// Which round of a group this call belongs to. `None`: nobody above retries it, so the backend that gets it
    /// probes and waits by itself.
    pub round: Option<Round>,
    /// Where it waits between its admission and its being sent, until others are admitted, too.
    pub gate: Option<Gate>,
    /// Where is written down what is bought for it. `None`: nobody counts that.
    pub costs: Option<Arc<Costs>>,
    /// What was opened for it and outlives its client where others share the call.
    pub opened: Opened,
    /// What was reserved for it before. `None`: nothing.
    pub place: Option<Arc<Waiter>>,
}

/// A server that loads a model is asked again after this.
pub const LOADING_PAUSE: Duration = Duration::from_secs(1);

/// One round of a group over its members: how far each member may go to serve the call.
#[derive(Clone)]
pub struct Round {
    /// Whether guesses at limits hold.
    pub guesses: Guesses,
    /// Who waits where there is no place. `None`: nobody, it goes to another member.
    pub waiter: Option<Arc<Waiter>>,
}

/// Whether a guess at a limit may be exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guesses {
    /// Guesses hold: somebody else may have capacity.
    Hold,
    /// Nobody else has capacity: one lone request may try.
    Probe,
    /// And the request cannot wait any longer.
    Last,
    /// There is nobody else at all: what was put off without the upstream saying for how long may be tried as well.
    Alone,
}

/// How a backend stands towards one call, without anything being admitted or sent. Advisory: only admission decides.
#[derive(Debug, Clone, PartialEq)]
pub struct Outlook {
    /// The model's id there; empty for a group without one.
    pub model: Arc<str>,
    /// Whether it could be sent now.
    pub availability: Availability,
    /// The smallest share left of all limits that apply, 0 to 1; 1 without limits.
    pub share_left: f64,
    /// When the first of the used windows is whole again, in milliseconds since the epoch.
    pub next_reset: Option<i64>,
    /// Requests in flight.
    pub in_flight: usize,
}

// === impl Call ===

impl Call {
    /// As a group or a split passes it on: for this model, if one is named there, with these request fields set.
    pub fn passed_on(&self, model: Option<&Arc<str>>, set: &[(String, Bytes)]) -> Call {
        let mut own = self.clone();
        if let Some(model) = model {
            own.model = Arc::clone(model);
        }
        if !set.is_empty() {
            own.request = Arc::new(self.request.with(set));
            let set = set.iter().map(|(key, _)| format!("set:{key}"));
            own.edits = Arc::new(self.edits.iter().cloned().chain(set).collect());
        }
        own
    }
}

#[cfg(test)]
impl Call {
    /// A call for this model as the tests send it: a request, and nobody and nothing around it.
    pub(crate) fn bare(request: Request, model: &str) -> Call {
        Call {
            request: Arc::new(request),
            model: Arc::from(model),
            headers: Arc::default(),
            received: Instant::now(),
            request_id: Arc::from("r1"),
            stalled_reader: Duration::from_secs(60),
            client: None,
            session: None,
            arrival: None,
            edits: Arc::default(),
            so_far: None,
            round: None,
            gate: None,
            costs: None,
            opened: Opened::default(),
            place: None,
        }
    }
}

/// Where a provider's upstream is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Whereabouts {
    /// Its host; `None` for what is no provider.
    pub host: Option<String>,
    /// It is on this machine or network.
    pub local: bool,
}

/// Anything that answers a [`Call`].
pub trait Backend: Send + Sync {
    /// Its id in the configuration.
    fn id(&self) -> &str;

    /// How it stands towards this call.
    ///
    /// # Errors
    /// Why it cannot serve it at all, whatever its capacity: for people, `no tools`.
    fn outlook(&self, call: &Call) -> Result<Outlook, String>;

    /// What it would do with this call now, for explanations; nothing is admitted or sent.
    fn account(&self, call: &Call) -> Account {
        Account::of(self.outlook(call), call)
    }

    /// Why it cannot serve this call now although it could serve it: what it would fail with. `None`: it is not known.
    fn ails(&self, _call: &Call) -> Option<ProxyError> {
        None
    }

    /// How its capacity stands, whatever the request needs; without a model, that of the whole account. `None`: it
    /// cannot be said.
    fn standing(&self, call: &Call) -> Option<Outlook> {
        self.outlook(call).ok()
    }

    /// How many tokens the text of a request has for this model, as far as that was learned from what upstreams reported;
    /// of several that may answer the most.
    fn input_tokens(&self, _model: &str, _request: &Request) -> Option<u64> {
        None
    }

    /// What a token of this request costs at most where it asks for this model, by these prices: of all calls together
    /// that are made for it.
    ///
    /// # Errors
    /// The model without a price, as `provider/model`.
    fn dearest(&self, model: &str, _request: &Request, prices: &Prices) -> Result<Price, String> {
        if model.is_empty() {
            return Ok(Price::default());
        }
        let leaf = Leaf { provider: self.id().to_owned(), model: None, whereabouts: self.whereabouts() };
        prices.of(&leaf, model).ok_or_else(|| format!("{}/{model}", leaf.provider))
    }

    /// The metric handles that a request for this model counts with until somebody has answered it.
    fn meters(&self, model: &str) -> Arc<ModelMeters>;

    /// Answers the call. Resolves at the commit point: a whole answer, or a stream whose first semantic event is there.
    /// Dropping the future cancels the call at the upstream.
    fn forward(&self, call: Call) -> BoxFuture<'static, Result<Reply, ProxyError>>;

    /// How long it is worth waiting for where it has no capacity, as the configuration says.
    fn waits(&self) -> Option<Duration> {
        None
    }

    /// What a model is called here, for a call that nobody above tries elsewhere.
    ///
    /// # Errors
    /// `model_not_found` when it is not there.
    fn known_as(&self, model: Arc<str>) -> BoxFuture<'static, Result<Arc<str>, ProxyError>> {
        ready(Ok(model)).boxed()
    }

    /// Where it is, if it is a provider.
    fn whereabouts(&self) -> Whereabouts {
        Whereabouts::default()
    }

    /// Reserves what a call like this takes, for one that is made later with `place`; where it is full, `place` waits in
    /// its queue. `None`: that cannot be said of it, or not now.
    fn reserve(&self, _call: &Call, _place: &Arc<Waiter>) -> Option<Result<(), ProxyError>> {
        None
    }

    /// The providers that its calls can come to, by their ids.
    fn leaves(&self) -> BTreeSet<String> {
        BTreeSet::from([self.id().to_owned()])
    }

    /// It answered 500 to a request that somebody else then served, so that the request was not at fault.
    fn blamed(&self) {}
}

/// An answer from the commit point on.
pub struct Reply {
    /// The upstream's status, 2xx.
    pub status: u16,
    /// The upstream's headers that may come down.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The answer itself.
    pub body: ReplyBody,
    /// Who answered.
    pub served: Served,
    /// How long demuxai waited for the upstream until now; the rest of the time was ours.
    pub waited: Duration,
    /// The admission this answer holds; settled when dropped.
    pub lease: Lease,
}

/// Who answered, and how the request was changed on the way. Ids and labels only.
#[derive(Clone)]
pub struct Served {
    /// The provider's id.
    pub provider: Arc<str>,
    /// The model's id at the upstream.
    pub model: Arc<str>,
    /// What was changed in the request: `drop:seed`, `rename:max_completion_tokens`.
    pub edits: Vec<String>,
    /// The hops before this one.
    pub attempts: Vec<Attempt>,
    /// The metric handles of this provider and model.
    pub meters: Arc<ModelMeters>,
    /// What modifiers on the way have to say of it.
    pub marks: Marks,
}

/// What modifiers on the way of an answer have to say of it. `None`: there was no such modifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Marks {
    /// How a cache dealt with the request.
    pub cache: Option<CacheUse>,
    /// Whether its call was shared.
    pub share: Option<Share>,
}

/// The body of a reply.
pub enum ReplyBody {
    /// A plain answer, complete.
    Whole {
        /// The bytes for the client.
        bytes: Bytes,
        /// What it cost, as the upstream says.
        usage: Usage,
    },
    /// A stream from its first semantic event on.
    Stream(ReplyStream),
}

/// One step of a streamed answer.
pub enum Frame {
    /// One or more whole SSE events, ready for the client.
    Data(Bytes),
    /// The end, with its reason; in a box, since a channel has room for many frames and this comes once.
    End(Box<StreamEnd>),
}

/// How a stream ended and what it cost.
pub struct StreamEnd {
    /// Why it ended.
    pub reason: EndReason,
    /// What to tell the client, unless it ended well.
    pub error: Option<ProxyError>,
    /// What it cost, as the upstream says.
    pub usage: Usage,
}
