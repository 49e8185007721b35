//! What was counted under one true limit, and when room in it frees. Whoever reads it has moved it on to that moment.

use std::collections::VecDeque;

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use super::{TrueLimit, Unit, Window};

/// What was counted.
#[derive(Debug, Clone)]
pub(super) enum Count {
    /// When and how much, the oldest first, and the sum.
    Log(VecDeque<(i64, u64)>, u64),
    /// In the window that ends then.
    Span { ends: i64, used: u64 },
    /// How far the bucket was emptied at that moment.
    Bucket { used: f64, at: i64 },
    /// What is held now.
    Held(u64),
}

// === impl Count ===

impl Count {
    /// Nothing was counted yet.
    pub(super) fn new(limit: &TrueLimit) -> Self {
        if limit.unit == Unit::Concurrent {
            return Count::Held(0);
        }
        match limit.window {
            Window::Rolling(_) => Count::Log(VecDeque::new(), 0),
            Window::Bucket(_) => Count::Bucket { used: 0.0, at: i64::MIN },
            Window::Aligned(_) | Window::FromFirst(_) | Window::Day(_) | Window::Month(_) => {
                Count::Span { ends: i64::MIN, used: 0 }
            }
            Window::Request => Count::Held(0),
        }
    }

    /// Forgets what no longer counts.
    pub(super) fn move_on(&mut self, limit: &TrueLimit, now: i64) {
        match self {
            Count::Log(log, sum) => {
                let gone = now.saturating_sub(limit.window.length());
                while let Some((_, n)) = log.pop_front_if(|(at, _)| *at <= gone) {
                    *sum = sum.saturating_sub(n);
                }
            }
            Count::Span { ends, used } if now >= *ends => *used = 0,
            Count::Bucket { used, at } if now > *at => {
                let gone = precise(now.saturating_sub(*at));
                *used = (*used - gone * limit.per_millisecond()).max(0.0);
                *at = now;
            }
            Count::Span { .. } | Count::Bucket { .. } | Count::Held(_) => {}
        }
    }

    /// How much is used.
    pub(super) fn used(&self, limit: &TrueLimit, now: i64) -> u64 {
        match self {
            Count::Log(_, sum) => *sum,
            Count::Span { ends, used } => {
                if now < *ends {
                    *used
                } else {
                    0
                }
            }
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "never negative, and saturates"
            )]
            // What is a rounding error above a whole number is that number.
            Count::Bucket { used, .. } => (used - 1e-6).ceil().max(0.0) as u64,
            Count::Held(_) if limit.is_ceiling() => 0,
            Count::Held(held) => *held,
        }
    }

    /// Counts so much more.
    pub(super) fn add(&mut self, limit: &TrueLimit, n: u64, now: i64) {
        match self {
            Count::Log(log, sum) => {
                log.push_back((now, n));
                *sum = sum.saturating_add(n);
            }
            Count::Span { ends, used } => {
                if now >= *ends {
                    *ends = end_of(&limit.window, now);
                }
                *used = used.saturating_add(n);
            }
            #[expect(clippy::cast_precision_loss, reason = "tokens and requests are far below 2^52")]
            Count::Bucket { used, .. } => *used += n as f64,
            Count::Held(held) => *held = held.saturating_add(n),
        }
    }

    /// So many requests ended.
    pub(super) fn give_back(&mut self, n: u64) {
        if let Count::Held(held) = self {
            *held = held.saturating_sub(n);
        }
    }

    /// When `n` more fit. `None`: when others end.
    pub(super) fn frees_at(&self, limit: &TrueLimit, n: u64, now: i64) -> Option<i64> {
        match self {
            Count::Log(log, sum) => {
                let mut over = sum.saturating_add(n).saturating_sub(limit.amount);
                for (at, entry) in log {
                    over = over.saturating_sub(*entry);
                    if over == 0 {
                        return Some(at.saturating_add(limit.window.length()));
                    }
                }
                Some(now)
            }
            Count::Span { ends, .. } => Some((*ends).max(now)),
            Count::Bucket { used, .. } => {
                #[expect(clippy::cast_precision_loss, reason = "tokens and requests are far below 2^52")]
                let over = used + n as f64 - limit.amount as f64;
                Some(now.saturating_add(whole(over / limit.per_millisecond())))
            }
            Count::Held(_) => None,
        }
    }

    /// In how many milliseconds all is free again.
    pub(super) fn whole_in(&self, limit: &TrueLimit, now: i64) -> i64 {
        match self {
            Count::Log(log, _) => {
                log.back().map_or(0, |(at, _)| at.saturating_add(limit.window.length()).saturating_sub(now))
            }
            Count::Span { ends, .. } => ends.saturating_sub(now).max(0),
            Count::Bucket { used, .. } => whole(used / limit.per_millisecond()),
            Count::Held(_) => 0,
        }
    }
}

// === impl TrueLimit ===

impl TrueLimit {
    #[expect(clippy::cast_precision_loss, reason = "amounts are far below 2^52")]
    fn per_millisecond(&self) -> f64 {
        self.amount.max(1) as f64 / precise(self.window.length().max(1))
    }
}

/// When the window ends that a moment is in, or that begins there.
fn end_of(window: &Window, now: i64) -> i64 {
    match window {
        Window::Aligned(length) => {
            let length = (*length).max(1);
            (now.div_euclid(length) + 1).saturating_mul(length)
        }
        Window::Day(zone) => calendar(zone, now, false),
        Window::Month(zone) => calendar(zone, now, true),
        Window::Rolling(_) | Window::FromFirst(_) | Window::Bucket(_) | Window::Request => {
            now.saturating_add(window.length())
        }
    }
}

fn calendar(zone: &TimeZone, now: i64, month: bool) -> i64 {
    let end = || {
        let here = Timestamp::from_millisecond(now).ok()?.to_zoned_datetime(zone.clone());
        let next = if month {
            here.first_of_month().ok()?.checked_add(1.month()).ok()?
        } else {
            here.checked_add(1.day()).ok()?
        };
        Some(next.start_of_day().ok()?.timestamp().as_millisecond())
    };
    end().unwrap_or(i64::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "windows are far shorter than 2^52 milliseconds")]
fn precise(milliseconds: i64) -> f64 {
    milliseconds as f64
}

#[expect(clippy::cast_possible_truncation, reason = "saturates")]
fn whole(milliseconds: f64) -> i64 {
    // A rounding error above a whole millisecond is that millisecond.
    (milliseconds - 1e-6).ceil().max(0.0) as i64
}
