//! What was counted within one window, and when room in it frees. Reading changes nothing, so that anybody may look.

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use serde::{Deserialize, Serialize};

use super::limit::{Limit, Period, Unit, Window};
use super::log::Log;

/// A day in milliseconds.
pub(super) const DAY: i64 = 24 * 60 * 60 * 1000;
/// What is sent now is counted at the upstream a little later, so that it leaves its window there later, too: so much
/// longer it counts here. Within that, a request may take its time on the way.
pub(super) const IN_TRANSIT: i64 = 250;
/// What the upstream counts and nobody here did is thought to leave its window within such a part of that.
const SOON: i64 = 20;
/// What is no more than this above a whole number is that number.
const ROUNDING: f64 = 1e-6;

/// What was counted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Count {
    /// When and how much, the oldest first.
    Rolling { log: Log },
    /// In the window from `starts` to before `ends`. What was sent so `late` in it that it may come in the next one
    /// counts in both.
    Span {
        starts: i64,
        ends: i64,
        used: u64,
        #[serde(default)]
        late: u64,
        /// What of it came late in the window before.
        #[serde(default)]
        carried: u64,
    },
    /// How far the bucket was emptied at that moment.
    Bucket { used: f64, at: i64 },
    /// What is held now.
    Held { used: u64 },
}

/// What was counted at some moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counted {
    pub(super) at: i64,
    pub(super) n: u64,
    /// What of the count was there before it, at least.
    pub(super) before: u64,
    /// It is all that was counted of a request, which the upstream never counted, then.
    pub(super) all: bool,
}

// === impl Count ===

impl Count {
    /// Nothing was counted yet.
    pub(super) fn new(limit: &Limit, now: i64) -> Self {
        if limit.unit == Unit::Concurrent || limit.period == Period::Request {
            return Count::Held { used: 0 };
        }
        match &limit.window {
            Window::Rolling => Count::Rolling { log: Log::default() },
            Window::Fixed | Window::Calendar(_) => {
                let (starts, ends) = span(limit, now);
                Count::Span { starts, ends, used: 0, late: 0, carried: 0 }
            }
            Window::Session => Count::Span { starts: now, ends: now, used: 0, late: 0, carried: 0 },
            Window::Bucket => Count::Bucket { used: 0.0, at: now },
        }
    }

    /// Whether this is what that limit counts in.
    pub(super) fn fits(&self, limit: &Limit) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(&Count::new(limit, 0))
    }

    /// How much is used now, of this amount.
    pub(super) fn used(&self, limit: &Limit, amount: u64, now: i64) -> u64 {
        match self {
            Count::Rolling { log } => log.after(now.saturating_sub(length(limit.period))),
            Count::Span { ends, used, .. } if now < *ends => *used,
            Count::Span { ends, late, .. } => carried(limit, *ends, *late, now),
            Count::Bucket { used, at } => ceil(emptied(*used, *at, limit, amount, now)),
            Count::Held { used } => *used,
        }
    }

    /// Counts so much more.
    pub(super) fn add(&mut self, limit: &Limit, amount: u64, n: u64, now: i64) {
        match self {
            Count::Rolling { log } => {
                let length = length(limit.period);
                // What has just left is still looked at by those who allow for the time on the way.
                log.add(n, now, length, now.saturating_sub(length).saturating_sub(IN_TRANSIT));
            }
            Count::Span { starts, ends, used, late, carried: before } => {
                if now >= *ends {
                    *used = carried(limit, *ends, *late, now);
                    (*late, *before) = (0, *used);
                    (*starts, *ends) = next_span(limit, *ends, now);
                }
                *used = used.saturating_add(n);
                if now >= late_from(limit, *starts, *ends) {
                    *late = late.saturating_add(n);
                }
            }
            Count::Bucket { used, at } => {
                *used = emptied(*used, *at, limit, amount, now) + precise(n);
                *at = now;
            }
            Count::Held { used } => *used = used.saturating_add(n),
        }
    }

    /// Counts so much of an answer: it was given before it came here, so never in the window after this one.
    pub(super) fn give(&mut self, limit: &Limit, amount: u64, n: u64, now: i64) {
        self.add(limit, amount, n, now);
        if let Count::Span { starts, ends, late, .. } = self
            && now >= late_from(limit, *starts, *ends)
        {
            *late = late.saturating_sub(n);
        }
    }

    /// Counts so much more of what was counted then, as far as it still counts.
    pub(super) fn add_to(&mut self, limit: &Limit, amount: u64, at: i64, n: u64, now: i64) {
        match self {
            Count::Rolling { log } => {
                if at.saturating_add(length(limit.period)) > now {
                    log.insert(n, at);
                }
            }
            Count::Span { starts, ends, used, late, carried } => {
                if at >= starts.saturating_sub(IN_TRANSIT) {
                    *used = used.saturating_add(n);
                    *carried = carried.saturating_add(if at < *starts { n } else { 0 });
                }
                if at >= late_from(limit, *starts, *ends) {
                    *late = late.saturating_add(n);
                }
            }
            Count::Bucket { .. } | Count::Held { .. } => self.add(limit, amount, n, now),
        }
    }

    /// Takes back what was counted, as far as it still counts: what has left the window, or has drained from the bucket,
    /// is not taken from others. A bucket drains at one pace however full it is, so that what was counted first drains
    /// first.
    pub(super) fn take_back(&mut self, limit: &Limit, amount: u64, counted: Counted, now: i64) {
        let Counted { at: counted_at, n, before, all } = counted;
        match self {
            Count::Rolling { log } => {
                if counted_at.saturating_add(length(limit.period)) > now {
                    log.take_back(n, counted_at);
                }
            }
            Count::Span { starts, ends, used, late, carried } => {
                if counted_at >= starts.saturating_sub(IN_TRANSIT) {
                    *used = used.saturating_sub(n);
                }
                if (starts.saturating_sub(IN_TRANSIT)..*starts).contains(&counted_at) {
                    *carried = carried.saturating_sub(n).min(*used);
                }
                if counted_at >= late_from(limit, *starts, *ends) {
                    *late = late.saturating_sub(n);
                }
                if limit.window == Window::Session && *used == 0 {
                    // What would have begun it was never counted.
                    *ends = (*ends).min(now);
                } else if limit.window == Window::Session
                    && all
                    && (starts.saturating_sub(IN_TRANSIT)..=*starts).contains(&counted_at)
                {
                    // Another one began it, at some time since: what comes until it is over may as well be in the next one.
                    *ends = span(limit, now).1;
                }
            }
            Count::Bucket { used, at } => {
                let with_others = emptied(precise(before.saturating_add(n)), counted_at, limit, amount, now);
                let left = with_others.min(precise(n));
                *used = (emptied(*used, *at, limit, amount, now) - left).max(0.0);
                *at = now.max(*at);
            }
            Count::Held { used } => *used = used.saturating_sub(n),
        }
    }

    /// Makes the count what the upstream says it is; the window ends then, if it says so.
    pub(super) fn set(&mut self, limit: &Limit, amount: u64, n: u64, ends_at: Option<i64>, now: i64) {
        let known = self.used(limit, amount, now);
        match self {
            Count::Rolling { log } if n >= known => {
                if n > known {
                    let length = length(limit.period);
                    // What nobody here counted was counted at any time; most likely it is what is thought to have just
                    // left the window. It is asked about again before long.
                    let soon = now.saturating_sub(length - length / SOON);
                    let at = ends_at.map_or(soon, |ends| ends.saturating_sub(length).min(now));
                    log.insert(n - known, at);
                }
            }
            Count::Rolling { log } => log.take_off(known - n),
            Count::Span { starts, ends, used, late, carried } => {
                if now >= *ends {
                    (*starts, *ends) = next_span(limit, *ends, now);
                    *late = 0;
                }
                *carried = 0;
                if let Some(told) = ends_at.filter(|told| *told > now) {
                    // Whatever is said: no window lasts longer than its length. A day may have an hour more.
                    *ends = told.min(now.saturating_add(longest(limit)));
                    let began =
                        if limit.window == Window::Session { *ends - length(limit.period) } else { *starts };
                    *starts = (*starts).max(began).min(now);
                }
                *used = n;
            }
            Count::Bucket { used, at } => {
                *used = precise(n);
                *at = now;
            }
            Count::Held { used } => *used = n,
        }
    }

    /// What is counted that may be counted in the window before instead, or have left it.
    pub(super) fn unsure(&self, limit: &Limit, now: i64) -> u64 {
        match self {
            Count::Rolling { log } => log.unsure_after(now.saturating_sub(length(limit.period))),
            _ => self.carried(now),
        }
    }

    /// What is counted although it was sent in the window before.
    pub(super) fn carried(&self, now: i64) -> u64 {
        match self {
            Count::Span { ends, carried, .. } if now < *ends => *carried,
            Count::Span { late, .. } => *late,
            Count::Rolling { .. } | Count::Bucket { .. } | Count::Held { .. } => 0,
        }
    }

    /// The upstream said that `n` more fit at that moment: what is counted beyond that leaves the window by then.
    pub(super) fn promised(&mut self, limit: &Limit, amount: u64, n: u64, at: i64) {
        let over = self.used(limit, amount, at).saturating_add(n).saturating_sub(amount);
        let Count::Rolling { log } = self else { return };
        if over > 0 {
            log.move_back(over, at.saturating_sub(length(limit.period)));
        }
    }

    /// When `n` more fit under `amount`. `None`: that is not a matter of time.
    pub(super) fn frees_at(&self, limit: &Limit, amount: u64, n: u64, now: i64) -> Option<i64> {
        if n > amount {
            return None;
        }
        match self {
            Count::Rolling { log } => {
                let over = self.used(limit, amount, now).saturating_add(n).saturating_sub(amount);
                let length = length(limit.period);
                let gone = log.when_gone(over, now.saturating_sub(length));
                Some(gone.map_or(now, |at| at.saturating_add(length)))
            }
            Count::Span { ends, late, .. } if is_over(limit, *ends, now) => {
                // The next one begins with whoever comes next, unless somebody came late.
                let over = carried(limit, *ends, *late, now).saturating_add(n) > amount;
                Some(if over { ends.saturating_add(length(limit.period)) } else { now })
            }
            Count::Span { ends, .. } => Some(end_of(limit, *ends, now)),
            Count::Bucket { used, at } => {
                // Nothing drained before it was counted.
                let now = now.max(*at);
                let over = emptied(*used, *at, limit, amount, now) + precise(n) - precise(amount);
                let per = precise(amount) / precise(length(limit.period).unsigned_abs().max(1));
                #[expect(clippy::cast_possible_truncation, reason = "bounded by the window's length")]
                let wait = (over.max(0.0) / per - ROUNDING).ceil().max(0.0) as i64;
                Some(now.saturating_add(wait))
            }
            Count::Held { .. } => None,
        }
    }

    /// When all that was used is free again.
    pub(super) fn whole_at(&self, limit: &Limit, amount: u64, now: i64) -> Option<i64> {
        if self.used(limit, amount, now) == 0 {
            return None;
        }
        match self {
            Count::Rolling { log } => log.last().map(|at| at.saturating_add(length(limit.period))),
            Count::Span { ends, .. } => Some(end_of(limit, *ends, now)),
            Count::Bucket { .. } => self.frees_at(limit, amount, amount, now),
            Count::Held { .. } => None,
        }
    }

    /// When what is used by now, or would be if it were used now, is free again: the end of a window that has one, used or
    /// not; a bucket that is full loses what it does not give now.
    pub(super) fn renewed_at(&self, limit: &Limit, amount: u64, now: i64) -> i64 {
        let unused = match self {
            Count::Rolling { .. } => now.saturating_add(length(limit.period)),
            Count::Span { ends, .. } if now < *ends => *ends,
            Count::Span { ends, .. } => next_span(limit, *ends, now).1,
            Count::Bucket { .. } | Count::Held { .. } => now,
        };
        self.whole_at(limit, amount, now).unwrap_or(unused)
    }

    /// What was counted by a clock that was ahead stays counted, for no longer than its window from now on; and what
    /// no honest counting leaves behind is made sense of.
    pub(super) fn not_after(&mut self, limit: &Limit, now: i64) {
        match self {
            Count::Rolling { log } => log.not_after(now, length(limit.period)),
            // A window that has not begun yet was begun by a clock that was ahead.
            Count::Span { starts, ends, .. }
                if *starts > now || *ends > now.saturating_add(longest(limit)) || *ends < *starts =>
            {
                (*starts, *ends) = span(limit, now);
            }
            Count::Span { .. } => {}
            Count::Bucket { used, at } => {
                *at = (*at).min(now);
                if !used.is_finite() || *used < 0.0 {
                    *used = 0.0;
                }
            }
            Count::Held { .. } => {}
        }
    }

    /// When the window began that a moment is in; `None` where windows do not begin.
    pub(super) fn began(&self, limit: &Limit, now: i64) -> Option<i64> {
        match self {
            Count::Span { starts, ends, .. } => {
                Some(if now < *ends { *starts } else { next_span(limit, *ends, now).0 })
            }
            Count::Rolling { .. } | Count::Bucket { .. } | Count::Held { .. } => None,
        }
    }

    /// How much was counted since then, where single entries are known.
    pub(super) fn since(&self, moment: i64) -> Option<u64> {
        match self {
            Count::Rolling { log } => Some(log.after(moment.saturating_sub(1))),
            Count::Span { .. } | Count::Bucket { .. } | Count::Held { .. } => None,
        }
    }

    /// The same count in the wall-clock window of that moment.
    pub(super) fn as_span(&self, limit: &Limit, now: i64) -> Count {
        let (starts, ends) = span(limit, now);
        Count::Span { starts, ends, used: self.since(starts).unwrap_or(0), late: 0, carried: 0 }
    }

    /// The same count in a bucket.
    pub(super) fn as_bucket(&self, limit: &Limit, amount: u64, now: i64) -> Count {
        Count::Bucket { used: precise(self.used(limit, amount, now)), at: now }
    }
}

/// How long a window may last from now on, at most: a calendar day has 25 hours where the clocks are put back.
fn longest(limit: &Limit) -> i64 {
    let more = match limit.window {
        Window::Calendar(_) => DAY / 24,
        Window::Session => IN_TRANSIT,
        Window::Rolling | Window::Fixed | Window::Bucket => 0,
    };
    length(limit.period).saturating_add(more)
}

/// How long a period is, at most.
pub(super) fn length(period: Period) -> i64 {
    match period {
        Period::Request => 0,
        Period::Millis(length) => i64::try_from(length).unwrap_or(i64::MAX / 4).min(400 * DAY),
        Period::Month => 31 * DAY,
    }
}

/// The span after the one that ended: by the calendar or the clock, or, where the upstream anchored it, from its end on.
fn next_span(limit: &Limit, ended: i64, now: i64) -> (i64, i64) {
    let length = length(limit.period).max(1);
    if limit.window == Window::Session {
        return span(limit, now);
    }
    let aligned = matches!(limit.window, Window::Calendar(_)) || ended % length == 0;
    if aligned {
        return span(limit, now);
    }
    let starts = ended + now.saturating_sub(ended) / length * length;
    (starts, starts.saturating_add(length))
}

/// Whether a window that begins with a request is over, and no other has begun.
fn is_over(limit: &Limit, ended: i64, now: i64) -> bool {
    limit.window == Window::Session && now >= ended
}

/// When the window ends that a moment is in, where the last known one ended then.
fn end_of(limit: &Limit, ended: i64, now: i64) -> i64 {
    if now < ended { ended } else { next_span(limit, ended, now).1 }
}

/// From when on what is sent in a window may come in the next one: shortly before it ends, or once it may have ended.
fn late_from(limit: &Limit, starts: i64, ends: i64) -> i64 {
    let late = ends.saturating_sub(IN_TRANSIT);
    if limit.window != Window::Session {
        return late;
    }
    late.min(starts.saturating_add(length(limit.period)))
}

/// What was sent late in the window that ended then, if this is the next one.
fn carried(limit: &Limit, ended: i64, late: u64, now: i64) -> u64 {
    let next = ended.saturating_add(length(limit.period));
    if now < next { late } else { 0 }
}

/// The span that a moment is in.
fn span(limit: &Limit, now: i64) -> (i64, i64) {
    span_of(&limit.window, limit.period, now)
}

/// The same of a window of this kind and length.
pub(super) fn span_of(window: &Window, period: Period, now: i64) -> (i64, i64) {
    let length = length(period).max(1);
    if let Window::Calendar(zone) = window
        && let Some(found) = calendar(zone, period, now)
    {
        return found;
    }
    if *window == Window::Session {
        // It begins at the upstream when this arrives there.
        return (now, now.saturating_add(length).saturating_add(IN_TRANSIT));
    }
    let starts = now.div_euclid(length) * length;
    (starts, starts.saturating_add(length))
}

/// The hour, day, week (from Monday) or month of a time zone that a moment is in.
fn calendar(zone: &TimeZone, period: Period, now: i64) -> Option<(i64, i64)> {
    const HOUR: u64 = 60 * 60 * 1000;
    let here = Timestamp::from_millisecond(now).ok()?.to_zoned_datetime(zone.clone());
    let day = || here.start_of_day();
    let (starts, ends) = match period {
        Period::Millis(HOUR) => {
            // By the clock on the wall, which may go back by half an hour (Lord Howe).
            let clock = now.saturating_add(i64::from(here.offset().seconds()) * 1000);
            let starts = now.saturating_sub(clock.rem_euclid(HOUR.cast_signed()));
            return Some((starts, starts.saturating_add(HOUR.cast_signed())));
        }
        Period::Millis(length) if length == 7 * DAY.unsigned_abs() => {
            let back = i64::from(here.weekday().to_monday_zero_offset());
            let starts = day().ok()?.checked_sub(back.days()).ok()?;
            let ends = starts.checked_add(7.days()).ok()?;
            (starts, ends)
        }
        Period::Month => {
            let starts = here.first_of_month().ok()?.start_of_day().ok()?;
            let ends = starts.checked_add(1.month()).ok()?;
            (starts, ends)
        }
        _ => {
            let starts = day().ok()?;
            let ends = starts.checked_add(1.day()).ok()?;
            (starts, ends)
        }
    };
    Some((starts.timestamp().as_millisecond(), ends.timestamp().as_millisecond()))
}

pub(super) fn emptied(used: f64, at: i64, limit: &Limit, amount: u64, now: i64) -> f64 {
    emptied_within(length(limit.period), used, at, amount, now)
}

/// What is left now of what was used then, where so much drains within that length.
pub(super) fn emptied_within(length: i64, used: f64, at: i64, amount: u64, now: i64) -> f64 {
    let per = precise(amount) / precise(length.unsigned_abs().max(1));
    (used - per * precise(now.saturating_sub(at).max(0).unsigned_abs())).max(0.0)
}

#[expect(clippy::cast_precision_loss, reason = "amounts and lengths are far below 2^52")]
pub(super) fn precise(n: u64) -> f64 {
    n as f64
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "never negative, and saturates")]
pub(super) fn ceil(n: f64) -> u64 {
    (n - ROUNDING).ceil().max(0.0) as u64
}

#[cfg(test)]
mod tests;
