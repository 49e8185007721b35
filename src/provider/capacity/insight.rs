//! What an account's capacity says of one request, and which limit binds: for explanations. Admits nothing.

use super::{Capacity, moment};
use crate::backend::size::Size;
use crate::error::ProxyError;
use crate::quota::{Cause, LimitView, Mode, Moment, Unit};

use super::denied::{Patience, denied, shut};

/// How an account stands towards one request, and why.
pub struct Insight {
    /// Estimated tokens of the prompt and of the answer.
    pub estimate: (u64, u64),
    /// Why it would not be admitted while others may have capacity, as the error that would be told.
    pub denial: Option<ProxyError>,
    /// When that has passed, in milliseconds since the epoch.
    pub until: Option<i64>,
    /// Why it would not be admitted where there is nobody else to ask.
    pub denied_alone: Option<ProxyError>,
    /// It would be tried in a group's last round, when nobody in it has capacity.
    pub last_resort: bool,
    /// The limit of which the smallest share is left, in words, and when it is whole again.
    pub tightest: Option<(String, Option<Moment>)>,
    /// Requests in flight.
    pub in_flight: usize,
    /// Requests that wait for a place.
    pub waiting: usize,
}

// === impl Capacity ===

impl Capacity {
    /// How it stands towards a request for this model, now or at another moment.
    pub fn insight(&self, model: &str, size: Size, at: Option<Moment>) -> Insight {
        let now = at.unwrap_or_else(moment);
        let mut inner = self.lock();
        let waiting = inner.queue.waiting();
        let need = inner.need(model, size);
        let told = |mode: Mode| {
            let denial = inner.ledger.would_admit(&need, mode, now).err()?;
            // As a request is told that can wait, if there is something to wait for.
            let patience = match denial.cause {
                Cause::Full if !inner.waiting.most.is_zero() => Patience::Worth(inner.waiting.most),
                _ => Patience::None,
            };
            Some((denied(&self.id, &denial, now, patience), denial.until))
        };
        let shut_until = match inner.breaker.check(now) {
            crate::quota::Gate::Shut { until } => Some(until),
            _ => None,
        };
        let denial = match shut_until {
            Some(until) => Some((shut(&self.id, until, now), Some(until))),
            None => told(Mode::Keep),
        };
        let until = denial.as_ref().and_then(|(_, until)| *until).map(|until| until.0);
        Insight {
            estimate: (need.input_tokens, need.output_tokens),
            denial: denial.map(|(error, _)| error),
            until,
            denied_alone: told(Mode::Alone).map(|(error, _)| error),
            last_resort: inner.ledger.would_admit(&need, Mode::Last, now).is_ok(),
            tightest: tightest(inner.ledger.views(now), model),
            in_flight: inner.open.len(),
            waiting,
        }
    }
}

/// The limit that applies to a model and of which the smallest share is left.
fn tightest(limits: Vec<LimitView>, model: &str) -> Option<(String, Option<Moment>)> {
    let applies = |view: &LimitView| {
        let for_it = match (&view.model, view.scope.as_str()) {
            (Some(own), _) => own == model,
            (None, "account") => true,
            (None, glob) => globset::Glob::new(glob).is_ok_and(|glob| glob.compile_matcher().is_match(model)),
        };
        for_it && view.amount > 0 && view.window != "request"
    };
    let left = |view: &LimitView| view.amount.saturating_sub(view.used);
    #[expect(clippy::cast_precision_loss, reason = "for comparing")]
    let share = |view: &LimitView| left(view) as f64 / view.amount as f64;
    let found =
        limits.into_iter().filter(applies).min_by(|one, other| share(one).total_cmp(&share(other)))?;
    let per = if found.unit == Unit::Concurrent { String::new() } else { format!(" per {}", found.window) };
    let unit = found.unit.word().replace('_', " ");
    let text = format!("{} of {} {unit}{per} left (known by {})", left(&found), found.amount, source(&found));
    Some((text, found.resets_at))
}

fn source(view: &LimitView) -> String {
    serde_json::to_value(view.source)
        .ok()
        .and_then(|word| word.as_str().map(str::to_owned))
        .unwrap_or_else(|| "others".to_owned())
}
