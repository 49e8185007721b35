//! Requests and tokens of about the last minute, and what was served in the last month, in bounded memory, to learn a
//! limit from where none is known. Pure.

use std::collections::VecDeque;

use super::learn::{HOUR, MINUTE};
use super::limit::Unit;

/// So many seconds are kept apart.
const SECONDS: usize = 60;
/// What was served is remembered so long,
const MONTH: i64 = 31 * 24 * HOUR;
/// for so long by the minute, and then by the hour.
pub(super) const FINE: i64 = 3 * HOUR;

/// What was counted within the last minute, by the second.
#[derive(Debug)]
pub(super) struct Minute {
    /// The second, since the epoch, that was counted last.
    second: i64,
    /// Requests and tokens.
    counts: [[u64; 2]; SECONDS],
    /// The most that there were within a minute before.
    best: [u64; 2],
    /// When and how much was served, requests and tokens, the oldest first; each at the end of its minute or hour.
    served: VecDeque<(i64, [u64; 2])>,
}

impl Default for Minute {
    fn default() -> Self {
        Minute { second: i64::MIN, counts: [[0; 2]; SECONDS], best: [0; 2], served: VecDeque::new() }
    }
}

// === impl Minute ===

impl Minute {
    /// One more request of so many tokens at this moment, in milliseconds. What a clock that is set back counts, counts as the last second's.
    pub(super) fn count(&mut self, tokens: u64, now: i64) {
        let second = now.div_euclid(1000);
        if second > self.second {
            for (of, best) in self.best.iter_mut().enumerate() {
                let all = self.counts.iter().filter_map(|count| count.get(of));
                *best = (*best).max(all.fold(0, |sum, n| n.saturating_add(sum)));
            }
            // Those between were without requests.
            let quiet = second.saturating_sub(self.second).min(SECONDS as i64);
            for step in 0..quiet {
                if let Some(count) = self.counts.get_mut(place(second - step)) {
                    *count = [0; 2];
                }
            }
            self.second = second;
        }
        if let Some([requests, sum]) = self.counts.get_mut(place(self.second)) {
            *requests = requests.saturating_add(1);
            *sum = sum.saturating_add(tokens);
        }
    }

    /// A request of so many tokens was served.
    pub(super) fn serves(&mut self, tokens: u64, now: i64) {
        let minute = end_of(now, MINUTE);
        if self.served.back().is_none_or(|(last, _)| *last < minute) {
            let is_other_hour = |(last, _): &(i64, [u64; 2])| last.div_euclid(HOUR) < now.div_euclid(HOUR);
            if self.served.back().is_some_and(is_other_hour) {
                self.forget(now);
            }
            self.served.push_back((minute, [0; 2]));
        }
        if let Some((_, [requests, sum])) = self.served.back_mut() {
            *requests = requests.saturating_add(1);
            *sum = sum.saturating_add(tokens);
        }
    }

    /// What is older is known less finely, until it is not known at all.
    fn forget(&mut self, now: i64) {
        let mut kept: VecDeque<(i64, [u64; 2])> = VecDeque::new();
        for (at, [requests, tokens]) in
            self.served.drain(..).filter(|(at, _)| *at > now.saturating_sub(MONTH))
        {
            // Whole hours alone, or what came later in one would be before it.
            let hour = end_of(at, HOUR);
            let at = if hour < now.saturating_sub(FINE) { hour } else { at };
            match kept.back_mut().filter(|(last, _)| *last == at) {
                Some((_, [all, sum])) => {
                    (*all, *sum) = (all.saturating_add(requests), sum.saturating_add(tokens));
                }
                None => kept.push_back((at, [requests, tokens])),
            }
        }
        self.served = kept;
    }

    /// When and how many of a unit were served, requests or tokens, the oldest first.
    pub(super) fn served(&self, unit: Unit, now: i64) -> Vec<(i64, u64)> {
        let of = |[requests, tokens]: [u64; 2]| if unit == Unit::Requests { requests } else { tokens };
        self.served.iter().map(|(at, counts)| ((*at).min(now), of(*counts))).collect()
    }

    /// Whether there were clearly more in some minute before, of requests and of tokens alike: more than twice as many,
    /// as a minute of the clock lets pass within sixty seconds. Each time that counts for less: a limit may have been
    /// lowered.
    pub(super) fn took_more_before(&mut self, now: i64) -> bool {
        let [requests, tokens] = self.best;
        let more = |best: u64, unit: Unit| self.total(unit, now).saturating_mul(20) < best.saturating_mul(9);
        let took = more(requests, Unit::Requests) && more(tokens, Unit::Tokens);
        if took {
            self.best = self.best.map(|best| best - best / 20);
        }
        took
    }

    /// How many of a unit there were within the last minute, requests or tokens.
    pub(super) fn total(&self, unit: Unit, now: i64) -> u64 {
        self.seconds(unit, now).iter().map(|(_, count)| count).sum()
    }

    /// When they were, by the second, the oldest first; each at the second's end, or now.
    pub(super) fn seconds(&self, unit: Unit, now: i64) -> Vec<(i64, u64)> {
        let second = now.div_euclid(1000);
        let since = second.saturating_sub(SECONDS as i64);
        let counted = (0..SECONDS as i64).rev().map(|back| self.second.saturating_sub(back));
        let within = counted.filter(|counted| *counted > since && *counted <= second.max(self.second));
        within
            .filter_map(|counted| {
                let [requests, tokens] = *self.counts.get(place(counted))?;
                let count = if unit == Unit::Tokens { tokens } else { requests };
                Some((counted, count)).filter(|_| count > 0)
            })
            .map(|(counted, count)| (counted.saturating_mul(1000).saturating_add(999).min(now), count))
            .collect()
    }
}

/// The end of the minute or hour that a moment is in.
fn end_of(at: i64, length: i64) -> i64 {
    (at.div_euclid(length) + 1) * length - 1
}

fn place(second: i64) -> usize {
    usize::try_from(second.rem_euclid(SECONDS as i64)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_by_the_hour_does_not_swallow_what_is_known_by_the_minute() {
        let mut minute = Minute::default();
        for step in 0..300 {
            let now = 20 * MINUTE + step * 90_000;
            minute.serves(10, now);
            let served = minute.served(Unit::Requests, now);
            assert!(served.is_sorted(), "{served:?}");
            for (at, n) in served {
                let most = if at < now - FINE { 40 } else { 1 };
                assert!(n <= most, "{n} at {at}, {} ms ago", now - at);
            }
            let all = minute.served(Unit::Tokens, now).iter().map(|(_, n)| n).sum::<u64>();
            assert_eq!(all, 10 * (step.unsigned_abs() + 1));
        }
    }

    #[test]
    fn only_the_last_minute_counts_whatever_gaps_there_are() {
        let mut minute = Minute::default();
        assert_eq!(minute.total(Unit::Requests, 0), 0);
        for second in 0..90 {
            minute.count(10, second * 1000);
            minute.count(10, second * 1000 + 999);
        }
        assert_eq!(minute.total(Unit::Requests, 89_999), 120);
        assert_eq!(minute.total(Unit::Requests, 119_000), 2 * 30);
        assert_eq!(minute.total(Unit::Tokens, 119_000), 10 * 2 * 30);
        minute.count(10, 1_000_000);
        assert_eq!(minute.total(Unit::Requests, 1_000_500), 1);
        assert_eq!(minute.total(Unit::Requests, 1_060_000), 0);
        // The clock is set back: nothing is lost or counted twice.
        minute.count(10, 500_000);
        assert_eq!(minute.total(Unit::Requests, 500_000), 2);
    }
}
