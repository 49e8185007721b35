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

/// A configuration was not read, for a reason that is not its own.
pub struct ReloadPutOff<'a> {
    /// What asked for it.
    pub cause: &'a str,
    /// Why not, in words.
    pub why: &'a str,
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

// === impl ReloadPutOff ===

impl ReloadPutOff<'_> {
    /// Says so; what is in force is as good as it was.
    pub fn emit(&self) {
        warn!(cause = self.cause, why = self.why, "configuration not read");
    }
}

// === impl Metrics ===

impl Metrics {
    /// The provider is there no more: it is neither up nor down.
    pub fn no_longer_up(&self, provider: &str) {
        // There may have been none.
        let _ = self.up.remove_label_values(&[provider]);
    }

    /// Ends the series of a provider, group or router that is there no more. False while somebody may still record for it;
    /// then nothing is done.
    pub fn forget(&self, id: &str) -> bool {
        // The word for "nobody" in these labels; it is there for others.
        if id == "none" {
            return true;
        }
        let mut meters = self.meters.lock().unwrap_or_else(PoisonError::into_inner);
        let in_use =
            |meters: &HashMap<String, Arc<_>>| meters.values().any(|meter| Arc::strong_count(meter) > 1);
        if meters.get(id).is_some_and(in_use) {
            return false;
        }
        meters.remove(id);
        let caching = &self.caching;
        let counters = [
            &self.requests,
            &self.attempts,
            &self.tokens,
            &self.stream_ends,
            &self.restarts,
            &self.failovers,
            &self.routed,
            &self.modified,
            &self.consensus.requests,
            &self.consensus.members,
        ];
        counters.into_iter().chain(caching.counters()).for_each(|family| remove(family, id));
        for histograms in [&self.first_token, &self.per_token, &self.duration, &self.overhead] {
            remove(histograms, id);
        }
        remove(&self.cost, id);
        std::iter::once(&self.streams).chain(caching.gauges()).for_each(|family| remove(family, id));
        true
    }

    /// Ends the series that only a group of this type has, where another type has its id now.
    pub fn forget_kind(&self, id: &str, kind: &str) {
        let (counters, gauges) = self.caching.of_kind(kind);
        counters.into_iter().for_each(|family| remove(family, id));
        gauges.into_iter().for_each(|family| remove(family, id));
    }

    /// Keeps no handles of series that tell of this backend: a request that ends makes its own.
    pub fn let_go(&self, id: &str) {
        let meters = self.meters.lock().unwrap_or_else(PoisonError::into_inner);
        meters.values().flat_map(HashMap::values).for_each(|meters| meters.let_go(id));
    }
}

/// The labels whose values are ids of backends, or begin with one: `mistral/codestral-latest`.
const NAMING: [&str; 7] = ["provider", "backend", "router", "group", "from", "to", "member"];

/// Removes the series that tell of this backend.
fn remove<T: MetricVecBuilder>(family: &MetricVec<T>, id: &str) {
    let tells_of_it = |(name, value): (&&str, &&str)| {
        NAMING.contains(name)
            && value.strip_prefix(id).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    for described in family.collect() {
        for series in described.get_metric() {
            let labels: HashMap<&str, &str> =
                series.get_label().iter().map(|pair| (pair.name(), pair.value())).collect();
            if labels.iter().any(tells_of_it) {
                // It was there a moment ago.
                let _ = family.remove(&labels);
            }
        }
    }
}
