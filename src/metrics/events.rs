//! What happened, one struct per event. `emit` is its metric and its log line; nobody else writes either.
//! Prompts, answers and secrets are in none of them.

use std::sync::Arc;
use std::time::Duration;

use tracing::{debug, info, warn};

use super::caching::{CacheUse, Share};
use super::{EndReason, Metrics, ModelMeters};
use crate::dialect::{Task, Usage};

/// A request is over: its last byte was handed to the client's connection, or it was dropped.
pub struct RequestEnded<'a> {
    /// Our id of the request.
    pub request_id: &'a str,
    /// The listener it came in at.
    pub listener: &'a Arc<str>,
    /// The client's name, where keys are configured.
    pub client: Option<&'a str>,
    /// What it wanted, if it could be read.
    pub task: Option<Task>,
    /// The group that was asked, if it was one.
    pub group: Option<&'a Arc<str>>,
    /// The router that was asked, if it was one.
    pub router: Option<&'a Arc<str>>,
    /// The routes that it took.
    pub route: Option<&'a str>,
    /// Who answered, or should have.
    pub meters: Option<&'a ModelMeters>,
    /// The model id as the client wrote it.
    pub model: Option<&'a str>,
    /// The status that went to the client; 0 when it left before one was sent.
    pub status: u16,
    /// `ok`, `cancelled`, or an error kind's label.
    pub outcome: &'static str,
    /// Request fully read → end.
    pub duration: Duration,
    /// demuxai's own share of it, if the upstream was reached.
    pub overhead: Option<Duration>,
    /// Request fully read → first semantic event, for streams.
    pub time_to_first_token: Option<Duration>,
    /// Tokens as reported.
    pub usage: Usage,
    /// How a cache dealt with it.
    pub cache: Option<CacheUse>,
    /// Whether its call was shared.
    pub share: Option<Share>,
    /// The error's text, if there was one.
    pub error: Option<&'a str>,
}

impl RequestEnded<'_> {
    /// Counts the request and writes the one line that tells all of it.
    pub fn emit(&self, metrics: &Metrics) {
        match (self.meters, self.task) {
            (Some(meters), Some(task)) => {
                let asked = self.group.or(self.router);
                meters.request(self.listener, asked, task, self.outcome);
                meters.duration(task).observe(self.duration.as_secs_f64());
                if let Some(overhead) = self.overhead {
                    meters.overhead.observe(overhead.as_secs_f64());
                }
            }
            (_, task) => metrics.refused(self.listener, task.map_or("none", Task::label), self.outcome),
        }
        info!(
            request_id = self.request_id,
            listener = &**self.listener,
            client = self.client,
            endpoint = self.task.map(Task::label),
            group = self.group.map(|id| &**id),
            router = self.router.map(|id| &**id),
            route = self.route,
            provider = self.meters.map(|meters| meters.provider.as_str()),
            model = self.model,
            status = self.status,
            outcome = self.outcome,
            duration_ms = milliseconds(self.duration),
            ttft_ms = self.time_to_first_token.map(milliseconds),
            input_tokens = self.usage.input,
            output_tokens = self.usage.output,
            cache = self.cache.map(CacheUse::label),
            dedupe = self.share.map(Share::label),
            error = self.error,
            "request"
        );
    }
}

fn milliseconds(duration: Duration) -> f64 {
    // Tenths are enough for people and keep the line short.
    (duration.as_secs_f64() * 10_000.0).round() / 10.0
}

/// A group moved a request from one member to another.
pub struct FailedOver<'a> {
    /// The group's id.
    pub group: &'a str,
    /// The member that failed or had no capacity, as configured.
    pub from: &'a str,
    /// The member that is asked now.
    pub to: &'a str,
    /// The label of the error that it left with.
    pub reason: &'static str,
}

impl FailedOver<'_> {
    /// Counts it, with a line for those who look for it: the failure itself had its own.
    pub fn emit(&self, metrics: &Metrics, request_id: &str) {
        metrics.failed_over([self.group, self.from, self.to, self.reason]);
        debug!(
            request_id,
            group = self.group,
            from = self.from,
            to = self.to,
            reason = self.reason,
            "failover"
        );
    }
}

/// A router sent a request on, or had no route for it.
pub struct Routed<'a> {
    /// The router's id.
    pub router: &'a str,
    /// Which route, counted from 1; `None`: none matched.
    pub route: Option<usize>,
    /// Where it goes, as configured.
    pub to: Option<&'a str>,
}

impl Routed<'_> {
    /// Counts it, with a line for those who look for it: the line of the request names the route, too.
    pub fn emit(&self, metrics: &Metrics, request_id: &str) {
        let route = self.route.map_or_else(|| "none".to_owned(), |number| number.to_string());
        metrics.routed([self.router, &route, self.to.unwrap_or("none")]);
        debug!(request_id, router = self.router, route, to = self.to, "routed");
    }
}

/// An answer cost money, as its upstream's token counts and the configured prices have it.
pub struct Spending<'a> {
    /// The budget's id.
    pub group: &'a str,
    /// Who answered.
    pub meters: &'a ModelMeters,
    /// How much.
    pub nanodollars: u64,
}

impl Spending<'_> {
    /// Counts it.
    pub fn emit(&self, metrics: &Metrics) {
        metrics.spent([self.group, &self.meters.provider, &self.meters.model], self.nanodollars);
        debug!(
            group = self.group,
            provider = self.meters.provider,
            model = self.meters.model,
            nanodollars = self.nanodollars,
            "spent"
        );
    }
}

/// A modifier dealt with a request.
pub struct ModifierActed<'a> {
    /// Its id.
    pub group: &'a str,
    /// Its type.
    pub kind: &'static str,
    /// What it did, in a word of its type.
    pub outcome: &'static str,
}

impl ModifierActed<'_> {
    /// Counts it, with a line for those who look for it.
    pub fn emit(&self, metrics: &Metrics, request_id: &str) {
        metrics.modified([self.group, self.kind, self.outcome]);
        debug!(request_id, group = self.group, kind = self.kind, outcome = self.outcome, "modified");
    }
}

/// One call to an upstream is over, or its stream began.
pub struct AttemptEnded<'a> {
    /// Provider and model.
    pub meters: &'a ModelMeters,
    /// The model as it was asked for: labels have only those that are listed, a line may have any.
    pub model: &'a str,
    /// `None`: it succeeded.
    pub failure: Option<(&'static str, &'a str)>,
}

impl AttemptEnded<'_> {
    /// Counts the attempt; a failure gets a line.
    pub fn emit(&self) {
        let Some((reason, message)) = self.failure else {
            self.meters.attempt_ok.inc();
            return;
        };
        let outcome = if reason == "cancelled" { "cancelled" } else { "error" };
        let labels = [&*self.meters.provider, &*self.meters.model, outcome, reason];
        self.meters.attempts.with_label_values(&labels).inc();
        let model = shortened(self.model);
        if outcome == "error" {
            warn!(provider = self.meters.provider, model, reason, error = message, "upstream failed");
        } else {
            debug!(provider = self.meters.provider, model, "upstream call cancelled");
        }
    }
}

/// The most bytes of a model's id in a line.
const MAX_SHOWN: usize = 200;

fn shortened(model: &str) -> &str {
    model.get(..model.floor_char_boundary(MAX_SHOWN)).unwrap_or(model)
}

/// A stream reached its commit point.
pub struct StreamStarted<'a> {
    /// Provider and model.
    pub meters: &'a ModelMeters,
    /// Request fully read → first semantic event.
    pub time_to_first_token: Duration,
}

impl StreamStarted<'_> {
    /// Records the time to the first token and one more active stream.
    pub fn emit(&self) {
        self.meters.first_token.observe(self.time_to_first_token.as_secs_f64());
        self.meters.streams.inc();
    }
}

/// A stream that had started is over.
pub struct StreamEnded<'a> {
    /// Provider and model.
    pub meters: &'a ModelMeters,
    /// Why.
    pub reason: EndReason,
    /// First → last event.
    pub span: Duration,
    /// Tokens as reported.
    pub usage: Usage,
}

impl StreamEnded<'_> {
    /// Records how it ended, the time per output token and the tokens.
    pub fn emit(&self) {
        self.meters.streams.dec();
        self.meters
            .stream_ends
            .with_label_values(&[self.meters.provider.as_str(), self.reason.label()])
            .inc();
        self.meters.tokens(self.usage);
        if let Some(tokens) = self.usage.output.filter(|count| *count > 1) {
            #[expect(clippy::cast_precision_loss, reason = "token counts are far below 2^52")]
            let gaps = (tokens - 1) as f64;
            self.meters.per_token.observe(self.span.as_secs_f64() / gaps);
        }
    }
}

/// A plain answer is complete.
pub struct AnswerCompleted<'a> {
    /// Provider and model.
    pub meters: &'a ModelMeters,
    /// Tokens as reported.
    pub usage: Usage,
}

impl AnswerCompleted<'_> {
    /// Records the tokens.
    pub fn emit(&self) {
        self.meters.tokens(self.usage);
    }
}
