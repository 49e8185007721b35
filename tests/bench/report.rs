//! The numbers of all rounds: medians, ratios, the bounds, and the table for the README. No clock and no input.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::process::Subject;

/// One row of the table.
pub struct Metric {
    pub key: &'static str,
    label: &'static str,
    unit: &'static str,
    decimals: usize,
}

/// What must hold for the daemon, or the run fails.
struct Bound {
    key: &'static str,
    limit: f64,
    what: What,
}

/// What a bound looks at.
#[derive(PartialEq)]
enum What {
    Value,
    RatioToNginx,
}

/// All measurements of a run.
#[derive(Default)]
pub struct Samples {
    values: BTreeMap<(&'static str, u8), Vec<f64>>,
}

/// In the order of the table.
const METRICS: &[Metric] = &[
    row("plain_closed_cpu", "plain chat, closed loop (16 connections): CPU per request", "µs", 1),
    row("plain_closed_rate", "… requests a second", "", 0),
    row("plain_rate_cpu", "plain chat, 1,000 a second: CPU per request", "µs", 1),
    row("plain_rate_p50", "… latency p50", "µs", 0),
    row("plain_rate_p99", "… latency p99", "µs", 0),
    row("added_p50", "… added to direct, p50", "µs", 0),
    row("added_p99", "… added to direct, p99", "µs", 0),
    row("stream_1_cpu", "1 stream, event each 20 ms: CPU per chunk", "µs", 1),
    row("stream_1_p50", "… chunk delay p50", "ms", 2),
    row("stream_1_p99", "… chunk delay p99", "ms", 2),
    row("stream_50_cpu", "50 streams, event each 20 ms: CPU per chunk", "µs", 1),
    row("stream_50_p50", "… chunk delay p50", "ms", 2),
    row("stream_50_p99", "… chunk delay p99", "ms", 2),
    row("stream_50_step", "… chunks delayed by 35–60 ms", "%", 2),
    row("stream_500_cpu", "500 streams, event each 50 ms: CPU per chunk", "µs", 1),
    row("stream_500_p50", "… chunk delay p50", "ms", 2),
    row("stream_500_p99", "… chunk delay p99", "ms", 2),
    row("stream_500_rss", "… resident memory", "MB", 1),
    row("flood_cpu", "flood (4 connections, 200 events without a pause): CPU per chunk", "µs", 1),
    row("flood_rate", "… chunks a second", "", 0),
    row("flood_step", "… streams with a pause of 35–60 ms", "%", 2),
    row("body_cpu", "256 KB request body (4 connections): CPU per request", "µs", 1),
    row("body_p50", "… latency p50", "µs", 0),
    row("cancel_p50", "50 cancels in mid-stream: until the upstream sees it, p50", "ms", 2),
    row("cancel_max", "… the slowest", "ms", 2),
    row("early_cancel_p50", "50 cancels before the first token: until the upstream sees it, p50", "ms", 2),
    row("early_cancel_max", "… the slowest", "ms", 2),
    row("start", "from start to the first relayed answer", "ms", 1),
    row("idle_rss", "resident memory, idle after one request", "MB", 1),
];

/// One limit for each promise; ratios are the medians of the rounds' own ratios.
const BOUNDS: &[Bound] = &[
    Bound { key: "plain_closed_cpu", limit: 2.2, what: What::RatioToNginx },
    Bound { key: "plain_rate_cpu", limit: 2.2, what: What::RatioToNginx },
    Bound { key: "stream_1_cpu", limit: 1.7, what: What::RatioToNginx },
    Bound { key: "stream_50_cpu", limit: 1.7, what: What::RatioToNginx },
    Bound { key: "stream_500_cpu", limit: 1.7, what: What::RatioToNginx },
    Bound { key: "stream_50_p99", limit: 10.0, what: What::Value },
    // A delayed acknowledgement would hit every second chunk, and nearly every flood; a busy machine, one in a hundred.
    Bound { key: "stream_50_step", limit: 1.0, what: What::Value },
    Bound { key: "flood_step", limit: 5.0, what: What::Value },
    Bound { key: "body_cpu", limit: 2.0, what: What::RatioToNginx },
    Bound { key: "idle_rss", limit: 20.0, what: What::Value },
    Bound { key: "stream_500_rss", limit: 45.0, what: What::Value },
    Bound { key: "start", limit: 60.0, what: What::Value },
    Bound { key: "cancel_max", limit: 50.0, what: What::Value },
    Bound { key: "early_cancel_max", limit: 50.0, what: What::Value },
];

const fn row(key: &'static str, label: &'static str, unit: &'static str, decimals: usize) -> Metric {
    Metric { key, label, unit, decimals }
}

/// The value at `percent` of a sorted list; 0 for an empty one.
pub fn percentile(sorted: &[f64], percent: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * percent / 100.0).round() as usize).copied().unwrap_or(0.0)
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    percentile(&sorted, 50.0)
}

// === impl Samples ===

impl Samples {
    /// Keeps one measurement; they come round by round, the same ones in each.
    pub fn add(&mut self, key: &'static str, subject: Subject, value: f64) {
        self.values.entry((key, subject as u8)).or_default().push(value);
    }

    /// The newest measurement.
    pub fn last(&self, key: &'static str, subject: Subject) -> Option<f64> {
        self.of(key, subject).last().copied()
    }

    fn of(&self, key: &'static str, subject: Subject) -> &[f64] {
        self.values.get(&(key, subject as u8)).map(Vec::as_slice).unwrap_or_default()
    }

    /// The median of the rounds' ratios: what changes from round to round on a shared machine cancels out.
    fn ratio(&self, key: &'static str) -> f64 {
        let pairs = self.of(key, Subject::Demuxai).iter().zip(self.of(key, Subject::Nginx));
        median(&pairs.map(|(ours, nginx)| ours / nginx).collect::<Vec<_>>())
    }

    /// The table, in Markdown.
    pub fn table(&self) -> String {
        let mut text = String::from(
            "| median of the rounds | | direct | nginx | demuxai | ratio |\n|---|---|--:|--:|--:|--:|\n",
        );
        for metric in METRICS {
            let cell = |subject| {
                let values = self.of(metric.key, subject);
                if values.is_empty() {
                    String::new()
                } else {
                    format!("{:.*}", metric.decimals, median(values))
                }
            };
            if self.of(metric.key, Subject::Demuxai).is_empty() {
                continue;
            }
            let (direct, nginx, ours) = (cell(Subject::Direct), cell(Subject::Nginx), cell(Subject::Demuxai));
            // A share of nothing, or a latency below the noise, has no ratio.
            let ratio = Some(self.ratio(metric.key)).filter(|ratio| ratio.is_finite() && *ratio > 0.0);
            let ratio = ratio.map(|ratio| format!("{ratio:.2}")).unwrap_or_default();
            let Metric { label, unit, .. } = metric;
            writeln!(text, "| {label} | {unit} | {direct} | {nginx} | {ours} | {ratio} |").ok();
        }
        text
    }

    /// One line for each bound, and whether all hold; unless `whole`, what was not measured is left out.
    pub fn verdict(&self, whole: bool) -> (String, bool) {
        let mut text = String::new();
        let mut all_hold = true;
        for Bound { key, limit, what } in BOUNDS {
            let Some(metric) = METRICS.iter().find(|metric| metric.key == *key) else { continue };
            if !whole && self.of(key, Subject::Demuxai).is_empty() {
                continue;
            }
            let ratio = *what == What::RatioToNginx;
            let value = if ratio { self.ratio(key) } else { median(self.of(key, Subject::Demuxai)) };
            // Not `>`: what was not measured, or is no number, does not hold.
            let holds = value <= *limit && !self.of(key, Subject::Demuxai).is_empty();
            all_hold &= holds;
            let word = if holds { "holds " } else { "FAILED" };
            let unit = if ratio { "× nginx" } else { metric.unit };
            let label = full_label(metric);
            writeln!(text, "{word}  {value:8.2} ≤ {limit:5.1} {unit:8}{label}").ok();
        }
        (text, all_hold)
    }
}

/// A row's label with the words that it inherits from the rows above.
fn full_label(metric: &Metric) -> String {
    let at = METRICS.iter().position(|other| other.key == metric.key).unwrap_or(0);
    let above = METRICS.iter().take(at + 1).rev().find(|other| !other.label.starts_with('…'));
    match (metric.label.strip_prefix("… "), above.and_then(|above| above.label.split(':').next())) {
        (Some(own), Some(above)) => format!("{above}: {own}"),
        _ => metric.label.to_owned(),
    }
}
