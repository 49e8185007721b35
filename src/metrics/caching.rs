//! What caches, dedupes and tees do: their metrics, and one struct per event as in `events`.

use std::path::Path;
use std::sync::Arc;

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry};
use tracing::{debug, info, warn};

use super::events::ModifierActed;
use super::{Metrics, counters, gauges};
use crate::dialect::Usage;

/// The families; their series appear with the modifiers.
pub(super) struct CachingFamilies {
    saved: IntCounterVec,
    entries: IntGaugeVec,
    bytes: IntGaugeVec,
    disk: IntCounterVec,
    disk_up: IntGaugeVec,
    shared_bytes: IntGaugeVec,
    records: IntCounterVec,
}

/// The handles of one cache.
#[derive(Clone)]
pub struct CacheMeters {
    input: IntCounter,
    output: IntCounter,
    entries: IntGauge,
    bytes: IntGauge,
}

/// The handles of what one cache keeps on disk.
#[derive(Clone)]
pub struct DiskMeters {
    group: Arc<str>,
    uses: IntCounterVec,
    up: IntGauge,
}

/// The handle of one dedupe.
#[derive(Clone)]
pub struct SharedMeters(IntGauge);

/// The handles of one tee.
#[derive(Clone)]
pub struct TeeMeters {
    group: Arc<str>,
    records: IntCounterVec,
}

/// How a cache dealt with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheUse {
    /// It answered.
    Hit,
    /// It had no answer; that of the backend below may be kept.
    Miss,
    /// It was not asked: the answer would be another one the next time, or the client did not want it kept.
    Bypass,
}

/// Whether the call that answered a request was its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// It was made for this request; others may have joined it.
    Leader,
    /// It was made for another one, that asked the same.
    Follower,
    /// It could not be shared.
    Alone,
}

/// What became of a job for a cache's disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskUse {
    /// An answer was written.
    Kept,
    /// Too many jobs waited already.
    Busy,
    /// A request did not wait any longer.
    Late,
    /// The file could not be used.
    Failed,
}

/// A job for a cache's disk was given up.
pub struct DiskDropped<'a> {
    /// Where it is counted.
    pub meters: &'a DiskMeters,
    /// Why.
    pub why: DiskUse,
}

/// A follower of a shared stream was left behind: it read too slowly for what is kept for it.
pub struct FollowerCut<'a> {
    /// The dedupe's id.
    pub group: &'a str,
}

/// What became of a record of a tee.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordUse {
    /// It is in the file.
    Written,
    /// Too many waited already.
    Dropped,
    /// The file could not be written.
    Failed,
}

// === impl CachingFamilies ===

impl CachingFamilies {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        Ok(CachingFamilies {
            saved: counters(
                registry,
                "demuxai_cache_saved_tokens_total",
                "Tokens of answers that a cache gave again, as their upstreams reported them then.",
                &["backend", "type"],
            )?,
            entries: gauges(
                registry,
                "demuxai_cache_entries",
                "Answers that a cache has in memory.",
                &["backend"],
            )?,
            bytes: gauges(registry, "demuxai_cache_bytes", "Bytes of memory that they take.", &["backend"])?,
            disk: counters(
                registry,
                "demuxai_cache_disk_total",
                "Jobs for a cache's file by outcome: kept, busy (too many waited), late (a request did not wait), failed.",
                &["backend", "outcome"],
            )?,
            disk_up: gauges(
                registry,
                "demuxai_cache_disk_up",
                "1 while a cache's file can be used, 0 while it keeps its answers in memory only.",
                &["backend"],
            )?,
            shared_bytes: gauges(
                registry,
                "demuxai_dedupe_bytes",
                "Bytes of answers that are kept for requests that may join them.",
                &["backend"],
            )?,
            records: counters(
                registry,
                "demuxai_tee_records_total",
                "Records for a tee's file by outcome: written, dropped (too many waited), failed.",
                &["backend", "outcome"],
            )?,
        })
    }
}

impl CachingFamilies {
    pub(super) fn counters(&self) -> [&IntCounterVec; 3] {
        [&self.saved, &self.disk, &self.records]
    }

    pub(super) fn gauges(&self) -> [&IntGaugeVec; 4] {
        [&self.entries, &self.bytes, &self.disk_up, &self.shared_bytes]
    }

    /// Those that only groups of this type have.
    pub(super) fn of_kind(&self, kind: &str) -> (Vec<&IntCounterVec>, Vec<&IntGaugeVec>) {
        match kind {
            "cache" => (vec![&self.saved, &self.disk], vec![&self.entries, &self.bytes, &self.disk_up]),
            "dedupe" => (Vec::new(), vec![&self.shared_bytes]),
            "tee" => (vec![&self.records], Vec::new()),
            _ => (Vec::new(), Vec::new()),
        }
    }
}

impl Metrics {
    /// The handles of this cache; its series appear with this.
    pub fn cache(&self, group: &str) -> CacheMeters {
        let saved = |kind: &str| self.caching.saved.with_label_values(&[group, kind]);
        CacheMeters {
            input: saved("input"),
            output: saved("output"),
            entries: self.caching.entries.with_label_values(&[group]),
            bytes: self.caching.bytes.with_label_values(&[group]),
        }
    }

    /// The handles of this cache's disk; its series appear with this.
    pub fn cache_disk(&self, group: &Arc<str>) -> DiskMeters {
        for outcome in [DiskUse::Kept, DiskUse::Busy, DiskUse::Late, DiskUse::Failed] {
            self.caching.disk.with_label_values(&[&**group, outcome.label()]).inc_by(0);
        }
        DiskMeters {
            group: Arc::clone(group),
            uses: self.caching.disk.clone(),
            up: self.caching.disk_up.with_label_values(&[&**group]),
        }
    }

    /// How many bytes this dedupe keeps for those that may join.
    pub fn dedupe(&self, group: &str) -> SharedMeters {
        SharedMeters(self.caching.shared_bytes.with_label_values(&[group]))
    }

    /// The handles of this tee; its series appear with this.
    pub fn tee(&self, group: &Arc<str>) -> TeeMeters {
        for outcome in [RecordUse::Written, RecordUse::Dropped, RecordUse::Failed] {
            self.caching.records.with_label_values(&[&**group, outcome.label()]).inc_by(0);
        }
        TeeMeters { group: Arc::clone(group), records: self.caching.records.clone() }
    }
}

// === impl CacheMeters ===

impl CacheMeters {
    /// An answer that cost this was given again.
    pub fn saved(&self, usage: Usage) {
        self.input.inc_by(usage.input.unwrap_or(0));
        self.output.inc_by(usage.output.unwrap_or(0));
    }

    /// What is in memory now.
    pub fn holds(&self, entries: usize, bytes: usize) {
        self.entries.set(i64::try_from(entries).unwrap_or(i64::MAX));
        self.bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}

// === impl SharedMeters ===

impl SharedMeters {
    /// So many bytes more are kept.
    pub fn keeps(&self, bytes: usize) {
        self.0.add(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// So many bytes were let go.
    pub fn lets_go(&self, bytes: usize) {
        self.0.sub(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}

// === impl CacheUse ===

impl CacheUse {
    /// The label in metrics and lines, and the word in the header.
    pub fn label(self) -> &'static str {
        match self {
            CacheUse::Hit => "hit",
            CacheUse::Miss => "miss",
            CacheUse::Bypass => "bypass",
        }
    }

    /// Counts it, with a line for those who look for it: the line of the request names it, too.
    pub fn emit(self, metrics: &Metrics, group: &str, request_id: &str) {
        ModifierActed { group, kind: "cache", outcome: self.label() }.emit(metrics, request_id);
    }
}

// === impl Share ===

impl Share {
    /// The label in metrics and lines, and the word in the header.
    pub fn label(self) -> &'static str {
        match self {
            Share::Leader => "leader",
            Share::Follower => "follower",
            Share::Alone => "alone",
        }
    }

    /// Counts it, with a line for those who look for it: the line of the request names it, too.
    pub fn emit(self, metrics: &Metrics, group: &str, request_id: &str) {
        ModifierActed { group, kind: "dedupe", outcome: self.label() }.emit(metrics, request_id);
    }
}

// === impl DiskUse ===

impl DiskUse {
    fn label(self) -> &'static str {
        match self {
            DiskUse::Kept => "kept",
            DiskUse::Busy => "busy",
            DiskUse::Late => "late",
            DiskUse::Failed => "failed",
        }
    }
}

impl DiskMeters {
    /// Counts what became of a job.
    pub fn count(&self, outcome: DiskUse) {
        self.uses.with_label_values(&[&*self.group, outcome.label()]).inc();
    }

    /// The file can be used, from the start or again.
    pub fn works(&self, file: &Path) {
        self.up.set(1);
        info!(group = &*self.group, file = %file.display(), "answers are kept on disk, too");
    }

    /// The file cannot be used, for a new reason. Says so, loudly.
    pub fn fails(&self, file: &Path, why: &str) {
        self.up.set(0);
        warn!(
            group = &*self.group,
            file = %file.display(),
            error = why,
            "answers cannot be kept on disk: keeping them in memory, trying again"
        );
    }
}

impl DiskDropped<'_> {
    /// Counts it, with a line for those who look for it.
    pub fn emit(&self) {
        self.meters.count(self.why);
        debug!(group = &*self.meters.group, why = self.why.label(), "the disk of a cache is too slow");
    }
}

impl FollowerCut<'_> {
    /// Counts it, loudly: a client was told of it.
    pub fn emit(&self, metrics: &Metrics, request_id: &str) {
        ModifierActed { group: self.group, kind: "dedupe", outcome: "cut" }.emit(metrics, request_id);
        warn!(request_id, group = self.group, "a client read a shared answer too slowly and was left behind");
    }
}

// === impl RecordUse ===

impl RecordUse {
    fn label(self) -> &'static str {
        match self {
            RecordUse::Written => "written",
            RecordUse::Dropped => "dropped",
            RecordUse::Failed => "failed",
        }
    }
}

impl TeeMeters {
    /// Counts what became of a record.
    pub fn count(&self, outcome: RecordUse) {
        self.records.with_label_values(&[&*self.group, outcome.label()]).inc();
    }

    /// The file cannot be written, for a new reason. Says so, loudly.
    pub fn fails(&self, file: &Path, why: &str) {
        warn!(
            group = &*self.group,
            file = %file.display(),
            error = why,
            "records are lost: the file cannot be written, trying again with each of them"
        );
    }

    /// The file can be written again.
    pub fn works(&self, file: &Path) {
        info!(group = &*self.group, file = %file.display(), "records are written again");
    }

    /// Records were dropped since this was last said.
    pub fn falls_behind(&self, file: &Path, dropped: u64) {
        warn!(
            group = &*self.group,
            file = %file.display(),
            dropped,
            "records were dropped: the disk is slower than the requests"
        );
    }
}
