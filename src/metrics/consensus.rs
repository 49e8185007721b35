//! What panels do: their metrics, and one struct per event as in `events`.

use std::time::Duration;

use prometheus::{IntCounterVec, Registry};
use tracing::debug;

use super::{Metrics, counters};

/// The families; their series appear with the first request of a panel.
pub(super) struct ConsensusFamilies {
    pub(super) requests: IntCounterVec,
    pub(super) members: IntCounterVec,
}

/// A request at a panel is over, or was dropped.
pub struct PanelEnded<'a> {
    /// The group's id.
    pub group: &'a str,
    /// How it makes one answer of several.
    pub combine: &'static str,
    /// `ok`, `fallback` (in place of the judge), `judge_alone`, `judge_failed`, `no_majority`, `below_quorum`, `refused`
    /// (for want of capacity), `unfit` (nobody can serve it), `cancelled`.
    pub outcome: &'static str,
    /// Its members as configured, and what became of each: `answered`, `empty`, `timeout`, `failed`, `no_capacity`,
    /// `cancelled`, `skipped`.
    pub members: Vec<(&'a str, &'static str)>,
    /// How long it took.
    pub duration: Duration,
}

// === impl ConsensusFamilies ===

impl ConsensusFamilies {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        Ok(ConsensusFamilies {
            requests: counters(
                registry,
                "demuxai_consensus_requests_total",
                "Requests that a panel was asked, by what they came to.",
                &["group", "combine", "outcome"],
            )?,
            members: counters(
                registry,
                "demuxai_consensus_members_total",
                "What became of the members of panels, once for each request.",
                &["group", "member", "state"],
            )?,
        })
    }
}

// === impl PanelEnded ===

impl PanelEnded<'_> {
    /// Counts it, with a line for those who look for it: the request has its own.
    pub fn emit(&self, metrics: &Metrics, request_id: &str) {
        let families = &metrics.consensus;
        families.requests.with_label_values(&[self.group, self.combine, self.outcome]).inc();
        for (member, state) in &self.members {
            families.members.with_label_values(&[self.group, member, state]).inc();
        }
        let states: Vec<String> =
            self.members.iter().map(|(member, state)| format!("{member} {state}")).collect();
        debug!(
            request_id,
            group = self.group,
            combine = self.combine,
            outcome = self.outcome,
            members = states.join(", "),
            duration_s = self.duration.as_secs_f64(),
            "panel"
        );
    }
}
