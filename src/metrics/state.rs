//! What happens to the state on disk: its metrics, and one struct per event as in `events`.

use std::path::Path;

use prometheus::{IntCounterVec, IntGauge, IntGaugeVec, Registry};
use tracing::{error, info, warn};

use super::{counters, gauges};

/// The families; their series appear when there is a state to be kept.
pub(super) struct StateFamilies {
    up: IntGaugeVec,
    writes: IntCounterVec,
    journal: IntGaugeVec,
}

/// The handles of whoever keeps the state.
#[derive(Clone)]
pub struct StateMeters {
    up: IntGauge,
    writes: IntCounterVec,
    journal: IntGauge,
}

/// The state is kept on disk: from the start, or again.
pub struct StateKept<'a> {
    /// Where it is counted.
    pub meters: &'a StateMeters,
    /// The file.
    pub file: &'a Path,
    /// It was not before.
    pub again: Again,
}

/// Whether something is so from the start or once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// From the start.
    First,
    /// Once more.
    Again,
}

/// The state cannot be kept on disk, for a new reason.
pub struct StateInMemory<'a> {
    /// Where it is counted.
    pub meters: &'a StateMeters,
    /// The file.
    pub file: &'a Path,
    /// Why.
    pub why: &'a str,
}

/// Another process wrote to the file while it could not be had here; what it counted counts here, too.
pub struct StateTakenOver<'a> {
    /// The file.
    pub file: &'a Path,
    /// How many rows it changed.
    pub rows: usize,
}

/// A batch was written, or was not.
pub struct StateWritten<'a> {
    /// Where it is counted.
    pub meters: &'a StateMeters,
    /// `ok`, or why not.
    pub outcome: &'static str,
}

/// A corrupt file was moved out of the way.
pub struct StatePutAside<'a> {
    /// The file.
    pub file: &'a Path,
    /// Where it is now.
    pub aside: &'a Path,
    /// What is wrong with it.
    pub why: &'a str,
}

/// There is no place for a file, and nobody said that there should be none.
pub struct StateHomeless {
    /// Why, and what helps.
    pub why: &'static str,
}

/// The daemon ends, and not all could be written.
pub struct StateLost<'a> {
    /// The file.
    pub file: &'a Path,
    /// How many rows.
    pub rows: usize,
}

// === impl StateFamilies ===

impl StateFamilies {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        Ok(StateFamilies {
            up: gauges(
                registry,
                "demuxai_state_up",
                "1 while the state is kept on disk, 0 while it is in memory only because it cannot be.",
                &[],
            )?,
            writes: counters(
                registry,
                "demuxai_state_writes_total",
                "Batches for the state on disk by outcome.",
                &["outcome"],
            )?,
            journal: gauges(
                registry,
                "demuxai_state_journal_rows",
                "Rows that wait to be written to disk.",
                &[],
            )?,
        })
    }

    pub(super) fn meters(&self) -> StateMeters {
        for outcome in ["ok", "error", "panic", "hang"] {
            self.writes.with_label_values(&[outcome]).inc_by(0);
        }
        let none: [&str; 0] = [];
        StateMeters {
            up: self.up.with_label_values(&none),
            writes: self.writes.clone(),
            journal: self.journal.with_label_values(&none),
        }
    }
}

// === impl StateMeters ===

impl StateMeters {
    /// How many rows wait.
    pub fn waiting(&self, rows: usize) {
        self.journal.set(i64::try_from(rows).unwrap_or(i64::MAX));
    }
}

impl StateKept<'_> {
    /// Says so.
    pub fn emit(&self) {
        self.meters.up.set(1);
        match self.again {
            Again::First => info!(file = %self.file.display(), "state is kept on disk"),
            Again::Again => info!(file = %self.file.display(), "state is kept on disk again"),
        }
    }
}

impl StateInMemory<'_> {
    /// Says so, loudly.
    pub fn emit(&self) {
        self.meters.up.set(0);
        warn!(
            file = %self.file.display(),
            error = self.why,
            "state cannot be kept on disk: counting in memory, trying again"
        );
    }
}

impl StateTakenOver<'_> {
    /// Says so.
    pub fn emit(&self) {
        let rows = self.rows;
        info!(file = %self.file.display(), rows, "what another demuxai counted on this file meanwhile counts here, too");
    }
}

impl StateWritten<'_> {
    /// Counts it.
    pub fn emit(&self) {
        self.meters.writes.with_label_values(&[self.outcome]).inc();
    }
}

impl StatePutAside<'_> {
    /// Says so, loudly.
    pub fn emit(&self) {
        warn!(
            file = %self.file.display(),
            aside = %self.aside.display(),
            error = self.why,
            "state file is corrupt: moved aside, a fresh one is begun"
        );
    }
}

impl StateHomeless {
    /// Says so, loudly.
    pub fn emit(&self) {
        warn!(error = self.why, "state is in memory only");
    }
}

impl StateLost<'_> {
    /// Says so, loudly.
    pub fn emit(&self) {
        error!(file = %self.file.display(), rows = self.rows, "state could not be written before the end");
    }
}
