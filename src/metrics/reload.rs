//! What happens to the configuration while demuxai serves: its metrics, one struct per event as in `events`, and the end
//! of the series of providers that are there no more.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

use prometheus::core::{Collector, MetricVec, MetricVecBuilder};
use prometheus::{IntGauge, Opts, Registry};
use tracing::{error, info, warn};

use super::{Metrics, registered};
use crate::config::{Difference, Fate};

/// The gauges.
pub(super) struct ReloadGauges {
    success: IntGauge,
    at: IntGauge,
}

/// A configuration was put in force: at start, or anew.
pub struct ConfigLoaded<'a> {
    /// Where it is recorded.
    pub metrics: &'a Metrics,
    /// Seconds since the Unix epoch.
    pub at: i64,
}

/// A configuration was put in force in place of another.
pub struct ConfigReloaded<'a> {
    /// What asked for it.
    pub cause: &'a str,
    /// What changed.
    pub difference: &'a Difference,
}

/// A configuration was refused, and the one before serves on.
pub struct ConfigRefused<'a> {
    /// Where it is recorded.
    pub metrics: &'a Metrics,
    /// What asked for it.
    pub cause: &'a str,
    /// All that is wrong, as `check` says it.
    pub problems: &'a str,
}

// === impl ReloadGauges ===

impl ReloadGauges {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let gauge =
            |name: &str, help: &str| registered(registry, IntGauge::with_opts(Opts::new(name, help))?);
        Ok(ReloadGauges {
            success: gauge(
                "demuxai_config_reload_success",
                "1 if the configuration was put in force when it was last read, 0 if it was refused.",
            )?,
            at: gauge(
                "demuxai_config_reload_success_timestamp_seconds",
                "When a configuration was last put in force.",
            )?,
        })
    }
}

// === impl ConfigLoaded ===

impl ConfigLoaded<'_> {
    /// Counts it.
    pub fn emit(&self) {
        self.metrics.reload.success.set(1);
        self.metrics.reload.at.set(self.at);
    }
}

// === impl ConfigReloaded ===

impl ConfigReloaded<'_> {
    /// Says so, and what only a restart would change.
    pub fn emit(&self) {
        let count = |fate| self.difference.count(fate);
        info!(
            cause = self.cause,
            added = count(Fate::Added),
            changed = count(Fate::Changed),
            removed = count(Fate::Removed),
            unchanged = count(Fate::Unchanged),
            "configuration reloaded"
        );
        for key in self.difference.for_restart() {
            warn!(key, "needs a restart: it stays as it was");
        }
    }
}

// === impl ConfigRefused ===

impl ConfigRefused<'_> {
    /// Counts it and says so, loudly.
    pub fn emit(&self) {
        self.metrics.reload.success.set(0);
        error!(cause = self.cause, "configuration refused, the one before serves on: {}", self.problems);
    }
}

// === impl Metrics ===

impl Metrics {
    /// The provider is there no more: it is neither up nor down.
    pub fn no_longer_up(&self, provider: &str) {
        // There may have been none.
        let _ = self.up.remove_label_values(&[provider]);
    }

    /// Ends the series of a provider that is there no more. False while somebody may still record for it; then nothing
    /// is done.
    pub fn forget(&self, provider: &str) -> bool {
        let mut meters = self.meters.lock().unwrap_or_else(PoisonError::into_inner);
        let in_use =
            |meters: &HashMap<String, Arc<_>>| meters.values().any(|meter| Arc::strong_count(meter) > 1);
        if meters.get(provider).is_some_and(in_use) {
            return false;
        }
        meters.remove(provider);
        let of_provider = [("provider", provider)];
        for counters in [&self.requests, &self.attempts, &self.tokens, &self.stream_ends, &self.restarts] {
            remove(counters, &of_provider);
        }
        for histograms in [&self.first_token, &self.per_token, &self.duration, &self.overhead] {
            remove(histograms, &of_provider);
        }
        remove(&self.streams, &of_provider);
        remove(&self.failovers, &[("from", provider), ("to", provider)]);
        true
    }
}

/// Removes the series that have any of these labels.
fn remove<T: MetricVecBuilder>(family: &MetricVec<T>, labels: &[(&str, &str)]) {
    for described in family.collect() {
        for series in described.get_metric() {
            let of_it: HashMap<&str, &str> =
                series.get_label().iter().map(|pair| (pair.name(), pair.value())).collect();
            if labels.iter().any(|(name, value)| of_it.get(name) == Some(value)) {
                // It was there a moment ago.
                let _ = family.remove(&of_it);
            }
        }
    }
}
