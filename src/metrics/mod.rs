//! What is measured: the registry, the families and the handles. The only place that names `prometheus`.
//! Label values come from the configuration and the listed models; never a key, a path or a user.

pub mod caching;
pub mod consensus;
pub mod events;
pub mod quota;
pub mod reload;
pub mod state;
pub mod stream;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use prometheus::core::Collector;
use prometheus::{
    CounterVec, Encoder, Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::dialect::{Task, Usage};

/// Why a stream ended: the `reason` label of `demuxai_stream_ends_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EndReason {
    /// With its finish reason or `[DONE]`.
    Done,
    /// The client went away.
    Cancelled,
    /// The upstream stopped before the end.
    Truncated,
    /// The upstream sent an error, or something that is not its protocol.
    UpstreamError,
    /// The upstream said nothing for too long.
    Idle,
    /// The client took nothing for too long.
    StalledReader,
    /// demuxai was shut down, and the stream took longer than that waits.
    Shutdown,
}

impl EndReason {
    /// The label value.
    pub fn label(self) -> &'static str {
        match self {
            EndReason::Done => "done",
            EndReason::Cancelled => "cancelled",
            EndReason::Truncated => "truncated",
            EndReason::UpstreamError => "upstream_error",
            EndReason::Idle => "idle",
            EndReason::StalledReader => "stalled_reader",
            EndReason::Shutdown => "shutdown",
        }
    }
}

/// All metric families of one running demuxai. Not a singleton: each `App` has its own.
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    attempts: IntCounterVec,
    failovers: IntCounterVec,
    routed: IntCounterVec,
    modified: IntCounterVec,
    consensus: consensus::ConsensusFamilies,
    cost: CounterVec,
    quota: quota::QuotaGauges,
    tokens: IntCounterVec,
    first_token: HistogramVec,
    per_token: HistogramVec,
    duration: HistogramVec,
    overhead: HistogramVec,
    streams: IntGaugeVec,
    stream_ends: IntCounterVec,
    up: IntGaugeVec,
    restarts: IntCounterVec,
    state: state::StateFamilies,
    caching: caching::CachingFamilies,
    reload: reload::ReloadGauges,
    meters: Mutex<HashMap<String, HashMap<String, Arc<ModelMeters>>>>,
}

/// The handles of one provider and model, resolved once and kept by whoever records.
pub struct ModelMeters {
    /// The `provider` label.
    pub provider: String,
    /// The `model` label: a listed model, else `other`.
    pub model: String,
    requests: IntCounterVec,
    requests_resolved: Mutex<Vec<(RequestKey, IntCounter)>>,
    attempts: IntCounterVec,
    attempt_ok: IntCounter,
    input_tokens: IntCounter,
    output_tokens: IntCounter,
    reasoning_tokens: IntCounter,
    cached_tokens: IntCounter,
    first_token: Histogram,
    per_token: Histogram,
    duration: HistogramVec,
    /// By task, resolved on first use: a model rarely serves more than two, and each is fifteen series.
    duration_resolved: [OnceLock<Histogram>; 4],
    overhead: Histogram,
    streams: IntGauge,
    stream_ends: IntCounterVec,
}

/// Listener, backend (`None`: the provider itself), endpoint, outcome.
type RequestKey = (Arc<str>, Option<Arc<str>>, &'static str, &'static str);

/// A gauge that is 1 or 0.
#[derive(Clone)]
pub struct Switch(IntGauge);

impl Switch {
    /// Turns it on or off.
    pub fn set(&self, on: bool) {
        self.0.set(i64::from(on));
    }
}

/// How many distinct models per provider get a label of their own; the rest is `other`.
const MAX_MODELS: usize = 300;

const FIRST_TOKEN_BUCKETS: &[f64] =
    &[0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 8.0, 13.0, 20.0, 30.0, 60.0];
const PER_TOKEN_BUCKETS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5];
const DURATION_BUCKETS: &[f64] = &[0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 600.0];
const OVERHEAD_BUCKETS: &[f64] =
    &[0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1];

// === impl Metrics ===

impl Metrics {
    /// A fresh registry with all families.
    ///
    /// # Errors
    /// When two families collide, which only a programming error can cause.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let metrics = Metrics {
            requests: counters(
                &registry,
                "demuxai_requests_total",
                "Client requests by outcome.",
                &["listener", "backend", "provider", "model", "endpoint", "outcome"],
            )?,
            attempts: counters(
                &registry,
                "demuxai_upstream_attempts_total",
                "Calls to upstreams by outcome and reason.",
                &["provider", "model", "outcome", "reason"],
            )?,
            failovers: counters(
                &registry,
                "demuxai_failovers_total",
                "Requests that a group moved from one member to another, by the reason.",
                &["backend", "from", "to", "reason"],
            )?,
            routed: counters(
                &registry,
                "demuxai_routed_requests_total",
                "Requests that a router sent on, by the route (counted from 1; none: no route matched) and its target.",
                &["router", "route", "to"],
            )?,
            modified: counters(
                &registry,
                "demuxai_modified_requests_total",
                "Requests that came to a modifier, by its type and what it did.",
                &["backend", "type", "outcome"],
            )?,
            consensus: consensus::ConsensusFamilies::new(&registry)?,
            cost: registered(
                &registry,
                CounterVec::new(
                    Opts::new(
                        "demuxai_cost_usd_total",
                        "US dollars that answers below a budget cost, by the tokens that upstreams reported and the known prices.",
                    ),
                    &["backend", "provider", "model"],
                )?,
            )?,
            quota: quota::QuotaGauges::new(&registry)?,
            tokens: counters(
                &registry,
                "demuxai_tokens_total",
                "Tokens as reported by upstreams; estimates carry source=\"estimated\".",
                &["provider", "model", "type", "source"],
            )?,
            first_token: histograms(
                &registry,
                "demuxai_time_to_first_token_seconds",
                "Request fully read to first semantic event of the stream.",
                &["provider", "model"],
                FIRST_TOKEN_BUCKETS,
            )?,
            per_token: histograms(
                &registry,
                "demuxai_time_per_output_token_seconds",
                "(last event - first event) / (output tokens - 1) of a stream.",
                &["provider", "model"],
                PER_TOKEN_BUCKETS,
            )?,
            duration: histograms(
                &registry,
                "demuxai_request_duration_seconds",
                "Request fully read to the end of the answer.",
                &["provider", "model", "endpoint"],
                DURATION_BUCKETS,
            )?,
            overhead: histograms(
                &registry,
                "demuxai_overhead_seconds",
                "demuxai's own share: time until the answer (or its first event) is handed on, less waiting for the upstream.",
                &["provider"],
                OVERHEAD_BUCKETS,
            )?,
            streams: gauges(
                &registry,
                "demuxai_streams_active",
                "Streams being relayed now.",
                &["provider"],
            )?,
            stream_ends: counters(
                &registry,
                "demuxai_stream_ends_total",
                "How streams ended.",
                &["provider", "reason"],
            )?,
            up: gauges(&registry, "demuxai_provider_up", "1 while the provider is usable.", &["provider"])?,
            restarts: counters(
                &registry,
                "demuxai_actor_restarts_total",
                "Restarts of the provider's actor, and fresh arbiters for it.",
                &["provider"],
            )?,
            state: state::StateFamilies::new(&registry)?,
            caching: caching::CachingFamilies::new(&registry)?,
            reload: reload::ReloadGauges::new(&registry)?,
            meters: Mutex::new(HashMap::new()),
            registry,
        };
        metrics.register_build_info()?;
        metrics.register_process()?;
        Ok(metrics)
    }

    /// Where quotas are shown.
    pub fn quota(&self) -> &quota::QuotaGauges {
        &self.quota
    }

    /// The text exposition format, version 0.0.4.
    ///
    /// # Errors
    /// When a family cannot be encoded.
    pub fn encode(&self) -> Result<Vec<u8>, prometheus::Error> {
        let mut text = Vec::with_capacity(16 * 1024);
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }

    /// The handles for a provider and a model; `model` must be a listed one, else pass `other`.
    pub fn meters(&self, provider: &str, model: &str) -> Arc<ModelMeters> {
        let mut meters = self.meters.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = meters.get(provider).and_then(|of_provider| of_provider.get(model)) {
            return Arc::clone(known);
        }
        let of_provider = meters.entry(provider.to_owned()).or_default();
        let name = if of_provider.len() < MAX_MODELS { model } else { "other" };
        let resolved =
            of_provider.entry(name.to_owned()).or_insert_with(|| Arc::new(self.resolve(provider, name)));
        Arc::clone(resolved)
    }

    /// Counts a request that came no further than the edge.
    pub fn refused(&self, listener: &str, endpoint: &str, outcome: &str) {
        self.requests.with_label_values(&[listener, "none", "none", "none", endpoint, outcome]).inc();
    }

    /// The switch that says whether a provider is usable; off at first.
    pub fn up(&self, provider: &str) -> Switch {
        let gauge = self.up.with_label_values(&[provider]);
        gauge.set(0);
        Switch(gauge)
    }

    fn routed(&self, labels: [&str; 3]) {
        self.routed.with_label_values(&labels).inc();
    }

    fn modified(&self, labels: [&str; 3]) {
        self.modified.with_label_values(&labels).inc();
    }

    fn spent(&self, labels: [&str; 3], nanodollars: u64) {
        #[expect(
            clippy::cast_precision_loss,
            reason = "a float by its nature, and exact for millions of dollars"
        )]
        self.cost.with_label_values(&labels).inc_by(nanodollars as f64 / 1e9);
    }

    fn failed_over(&self, labels: [&str; 4]) {
        self.failovers.with_label_values(&labels).inc();
    }

    /// Counts a restart of a provider's actor.
    pub fn restarted(&self, provider: &str) {
        self.restarts.with_label_values(&[provider]).inc();
    }

    /// The handles of whoever keeps the state on disk; their series appear with this.
    pub fn state_meters(&self) -> state::StateMeters {
        self.state.meters()
    }

    /// Makes the provider's series appear with their zero before anything happens.
    pub fn announce(&self, provider: &str) {
        self.restarts.with_label_values(&[provider]).inc_by(0);
    }

    fn resolve(&self, provider: &str, model: &str) -> ModelMeters {
        let labels = [provider, model];
        let tokens = |kind: &str| self.tokens.with_label_values(&[provider, model, kind, "upstream"]);
        ModelMeters {
            provider: provider.to_owned(),
            model: model.to_owned(),
            requests: self.requests.clone(),
            requests_resolved: Mutex::new(Vec::new()),
            attempts: self.attempts.clone(),
            attempt_ok: self.attempts.with_label_values(&[provider, model, "ok", "none"]),
            input_tokens: tokens("input"),
            output_tokens: tokens("output"),
            reasoning_tokens: tokens("reasoning"),
            cached_tokens: tokens("cached"),
            first_token: self.first_token.with_label_values(&labels),
            per_token: self.per_token.with_label_values(&labels),
            duration: self.duration.clone(),
            duration_resolved: Default::default(),
            overhead: self.overhead.with_label_values(&[provider]),
            streams: self.streams.with_label_values(&[provider]),
            stream_ends: self.stream_ends.clone(),
        }
    }

    fn register_build_info(&self) -> Result<(), prometheus::Error> {
        let opts = Opts::new("demuxai_build_info", "A constant 1, labelled with the version.")
            .const_label("version", env!("CARGO_PKG_VERSION"));
        let info = Gauge::with_opts(opts)?;
        info.set(1.0);
        self.registry.register(Box::new(info))
    }

    #[cfg(target_os = "linux")]
    fn register_process(&self) -> Result<(), prometheus::Error> {
        self.registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))
    }

    #[cfg(not(target_os = "linux"))]
    fn register_process(&self) -> Result<(), prometheus::Error> {
        Ok(())
    }
}

fn registered<C: Collector + Clone + 'static>(
    registry: &Registry,
    family: C,
) -> Result<C, prometheus::Error> {
    registry.register(Box::new(family.clone()))?;
    Ok(family)
}

fn counters(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<IntCounterVec, prometheus::Error> {
    registered(registry, IntCounterVec::new(Opts::new(name, help), labels)?)
}

fn gauges(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<IntGaugeVec, prometheus::Error> {
    registered(registry, IntGaugeVec::new(Opts::new(name, help), labels)?)
}

fn histograms(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
    buckets: &[f64],
) -> Result<HistogramVec, prometheus::Error> {
    let opts = HistogramOpts::new(name, help).buckets(buckets.to_vec());
    registered(registry, HistogramVec::new(opts, labels)?)
}

// === impl ModelMeters ===

impl ModelMeters {
    fn request(&self, listener: &Arc<str>, backend: Option<&Arc<str>>, task: Task, outcome: &'static str) {
        let mut resolved = self.requests_resolved.lock().unwrap_or_else(PoisonError::into_inner);
        let known = resolved.iter().find(|((id, by, endpoint, label), _)| {
            id == listener && by.as_ref() == backend && *endpoint == task.label() && *label == outcome
        });
        if let Some((_, counter)) = known {
            counter.inc();
            return;
        }
        let asked = backend.map_or(self.provider.as_str(), |id| id);
        let labels = [&**listener, asked, &self.provider, &self.model, task.label(), outcome];
        let counter = self.requests.with_label_values(&labels);
        counter.inc();
        resolved.push(((Arc::clone(listener), backend.cloned(), task.label(), outcome), counter));
    }

    /// Keeps no handles of requests that asked for this backend.
    fn let_go(&self, backend: &str) {
        let mut resolved = self.requests_resolved.lock().unwrap_or_else(PoisonError::into_inner);
        resolved.retain(|((_, by, ..), _)| by.as_deref() != Some(backend));
    }

    fn duration(&self, task: Task) -> &Histogram {
        let [chat, completion, fim, embedding] = &self.duration_resolved;
        let resolved = match task {
            Task::Chat => chat,
            Task::Completion => completion,
            Task::Fim => fim,
            Task::Embedding => embedding,
        };
        resolved.get_or_init(|| {
            self.duration.with_label_values(&[self.provider.as_str(), self.model.as_str(), task.label()])
        })
    }

    fn tokens(&self, usage: Usage) {
        let counts = [
            (&self.input_tokens, usage.input),
            (&self.output_tokens, usage.output),
            (&self.reasoning_tokens, usage.reasoning),
            (&self.cached_tokens, usage.cached),
        ];
        for (counter, count) in counts {
            counter.inc_by(count.unwrap_or(0));
        }
    }
}
