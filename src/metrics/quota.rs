//! What is left of each limit, shown when somebody looks: gauges that are set anew with each scrape.

use prometheus::{GaugeVec, Opts, Registry};

use super::registered;
use crate::quota::{BlockView, LimitView};

/// No more series of one family than this; a provider with more models than anybody looks at shows the first ones.
const MOST: usize = 2_000;

/// The gauges.
pub struct QuotaGauges {
    limit: GaugeVec,
    used: GaugeVec,
    remaining: GaugeVec,
    reset: GaugeVec,
    cooldown: GaugeVec,
}

const LABELS: [&str; 5] = ["provider", "scope", "window", "unit", "source"];

impl QuotaGauges {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            registered(registry, GaugeVec::new(Opts::new(name, help), labels)?)
        };
        Ok(QuotaGauges {
            limit: gauges("demuxai_quota_limit", "A limit of an upstream account.", &LABELS)?,
            used: gauges("demuxai_quota_used", "What of it is used or reserved.", &LABELS)?,
            remaining: gauges("demuxai_quota_remaining", "What is left of it.", &LABELS)?,
            reset: gauges(
                "demuxai_quota_reset_timestamp_seconds",
                "When all of it is free again; absent while nothing is used.",
                &LABELS,
            )?,
            cooldown: gauges(
                "demuxai_cooldown_until_timestamp_seconds",
                "Until when a scope of an upstream account is not asked.",
                &["provider", "scope", "reason"],
            )?,
        })
    }

    /// Shows these; what is not among them is shown no more.
    pub fn show<'a>(&self, providers: impl Iterator<Item = (&'a str, Vec<LimitView>, Vec<BlockView>)>) {
        for family in [&self.limit, &self.used, &self.remaining, &self.reset, &self.cooldown] {
            family.reset();
        }
        for (provider, limits, blocks) in providers {
            for view in limits.iter().take(MOST) {
                let scope = view.model.as_deref().unwrap_or(&view.scope);
                let source = format!("{:?}", view.source).to_lowercase();
                let labels = [provider, scope, &view.window, view.unit.word(), &source];
                self.limit.with_label_values(&labels).set(precise(view.amount));
                self.used.with_label_values(&labels).set(precise(view.used));
                let left = view.amount.saturating_sub(view.used);
                self.remaining.with_label_values(&labels).set(precise(left));
                if let Some(at) = view.resets_at {
                    self.reset.with_label_values(&labels).set(seconds(at.0));
                }
            }
            for block in blocks.iter().take(MOST) {
                let scope = block.model.as_deref().unwrap_or("account");
                let labels = [provider, scope, block.class.label()];
                self.cooldown.with_label_values(&labels).set(seconds(block.until.0));
            }
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a gauge needs no more than 52 bits")]
fn precise(amount: u64) -> f64 {
    amount as f64
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds of this millennium fit in 52 bits")]
fn seconds(milliseconds: i64) -> f64 {
    milliseconds as f64 / 1000.0
}
