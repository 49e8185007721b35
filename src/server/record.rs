//! The record of one request, filled as it goes its way and told once when it is over or dropped.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::veil::Veil;
use crate::backend::Marks;
use crate::backend::arrival::Arrival;
use crate::dialect::{Task, Usage};
use crate::error::ProxyError;
use crate::metrics::events::RequestEnded;
use crate::metrics::{Metrics, ModelMeters};

/// What is known of a request so far. Dropping it writes the line and counts the metric, so a request that is
/// cancelled at any point is told, too.
pub struct Record {
    metrics: Arc<Metrics>,
    /// Our id of the request.
    pub request_id: Arc<str>,
    listener: Arc<str>,
    /// The client's name, where keys are configured.
    pub client: Option<String>,
    /// What it wants, once that is read.
    pub task: Option<Task>,
    /// When it was fully read; until then, when its head was.
    pub received: Instant,
    /// The model id as the client wrote it, shortened, once that is read.
    pub model: Option<String>,
    /// The group that was asked, if it is one.
    pub group: Option<Arc<str>>,
    /// The router that was asked, if it is one.
    pub router: Option<Arc<str>>,
    /// How it came in, and which routes it took, where there are routers.
    pub arrival: Option<Arc<Arrival>>,
    /// Who answers, once that is known.
    pub meters: Option<Arc<ModelMeters>>,
    /// How long it took to find out whom the model id means.
    pub resolving: Duration,
    /// demuxai's own share of the time.
    overhead: Option<Duration>,
    /// For streams.
    pub time_to_first_token: Option<Duration>,
    /// Tokens as reported.
    pub usage: Usage,
    /// What modifiers on the way had to say.
    marks: Marks,
    /// What its client is not to be told. `None`: it is told all.
    pub veil: Option<Box<Veil>>,
    status: u16,
    outcome: &'static str,
    error: Option<String>,
}

// === impl Record ===

impl Record {
    /// A record of a request whose head was just read.
    pub fn new(metrics: Arc<Metrics>, listener: Arc<str>, request_id: Arc<str>) -> Self {
        Record {
            metrics,
            request_id,
            listener,
            client: None,
            task: None,
            model: None,
            received: Instant::now(),
            group: None,
            router: None,
            arrival: None,
            meters: None,
            resolving: Duration::ZERO,
            overhead: None,
            time_to_first_token: None,
            usage: Usage::default(),
            marks: Marks::default(),
            veil: None,
            status: 0,
            outcome: "cancelled",
            error: None,
        }
    }

    /// The routes that it took, if a router was asked.
    pub fn routes(&self) -> Option<String> {
        self.arrival.as_ref().and_then(|arrival| arrival.routes())
    }

    /// The same as the client is told.
    pub fn routes_told(&self) -> Option<String> {
        let routes = self.routes()?;
        let told = self.veil.as_ref().map_or(routes.clone(), |veil| veil.routes(&routes));
        (!told.is_empty()).then_some(told)
    }

    /// The error as the client is told.
    pub fn told<'e>(&self, error: &'e ProxyError) -> Cow<'e, ProxyError> {
        self.veil.as_ref().map_or(Cow::Borrowed(error), |veil| veil.error(error))
    }

    /// Notes who answers, what modifiers on the way had to say, and demuxai's own share of the time until then: without
    /// what was waited for the upstream.
    pub fn answered(&mut self, meters: Arc<ModelMeters>, marks: Marks, waited: Duration) {
        self.overhead = Some(self.received.elapsed().saturating_sub(waited + self.resolving));
        self.meters = Some(meters);
        self.marks = marks;
    }

    /// Notes that the answer begins with this status. Until it is finished, its end would be a cancellation.
    pub fn answering(&mut self, status: u16) {
        self.status = status;
    }

    /// Notes that the answer is complete.
    pub fn finished(&mut self) {
        self.outcome = "ok";
    }

    /// Notes that it was the client that let the answer down.
    pub fn left(&mut self) {
        self.outcome = "cancelled";
    }

    /// Notes the error that ends the request.
    pub fn failed(&mut self, error: &ProxyError) {
        self.outcome = error.kind.label();
        self.error = Some(error.message.clone());
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let route = self.routes();
        RequestEnded {
            request_id: &self.request_id,
            listener: &self.listener,
            client: self.client.as_deref(),
            task: self.task,
            group: self.group.as_ref(),
            router: self.router.as_ref(),
            route: route.as_deref(),
            meters: self.meters.as_deref(),
            model: self.model.as_deref(),
            status: self.status,
            outcome: self.outcome,
            duration: self.received.elapsed(),
            overhead: self.overhead,
            time_to_first_token: self.time_to_first_token,
            usage: self.usage,
            cache: self.marks.cache,
            share: self.marks.share,
            error: self.error.as_deref(),
        }
        .emit(&self.metrics);
    }
}
