//! What is left of each limit, shown when somebody looks: gauges that are set anew with each scrape.

use prometheus::{GaugeVec, IntCounterVec, IntGaugeVec, Opts, Registry};

use super::registered;
use crate::quota::{BlockView, BreakerView, LimitView};

/// No more series of one family than this; a provider with more models than anybody looks at shows the first ones.
const MOST: usize = 2_000;

/// What one upstream account looks like now.
pub struct AccountView<'a> {
    /// The provider's id.
    pub provider: &'a str,
    /// Its limits.
    pub limits: Vec<LimitView>,
    /// What is not asked for a while.
    pub blocks: Vec<BlockView>,
    /// Its breaker.
    pub breaker: BreakerView,
    /// Requests that wait for a place.
    pub waiting: usize,
    /// How often what is known of its limits changed.
    pub changes: u64,
}

/// The gauges.
pub struct QuotaGauges {
    limit: GaugeVec,
    used: GaugeVec,
    remaining: GaugeVec,
    reset: GaugeVec,
    cooldown: GaugeVec,
    waiting: IntGaugeVec,
    changes: IntCounterVec,
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
            waiting: registered(
                registry,
                IntGaugeVec::new(
                    Opts::new("demuxai_queue_waiting", "Requests that wait for a place at a provider."),
                    &["provider"],
                )?,
            )?,
            changes: registered(
                registry,
                IntCounterVec::new(
                    Opts::new(
                        "demuxai_limit_changes_total",
                        "How often what is known of a provider's limits changed: stated, learned, raised, put off.",
                    ),
                    &["provider"],
                )?,
            )?,
        })
    }

    /// Shows these; what is not among them is shown no more.
    pub fn show<'a>(&self, accounts: impl Iterator<Item = AccountView<'a>>) {
        for family in [&self.limit, &self.used, &self.remaining, &self.reset, &self.cooldown] {
            family.reset();
        }
        self.waiting.reset();
        self.changes.reset();
        for AccountView { provider, limits, blocks, breaker, waiting, changes } in accounts {
            self.waiting.with_label_values(&[provider]).set(i64::try_from(waiting).unwrap_or(i64::MAX));
            self.changes.with_label_values(&[provider]).inc_by(changes);
            if let Some(until) = breaker.until {
                self.cooldown.with_label_values(&[provider, "account", "breaker"]).set(seconds(until.0));
            }
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
