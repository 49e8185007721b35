//! What was counted in a window that rolls, and when: exactly, as long as that takes bounded memory. Pure.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::window::{emptied_within, precise};

/// So many entries are kept as they are: the two thousand requests of a day that one free tier gives, and some.
const EXACT: usize = 2_500;
/// More are merged with their neighbours into the latest of them, which frees them a little late, never early: within
/// such a part of the window at first, and where that is not enough within this larger one.
const FINE: i64 = 10_000;
const COARSE: i64 = 500;

/// Entries of a window of the last so-many milliseconds, the oldest first.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "VecDeque<(i64, u64)>", into = "VecDeque<(i64, u64)>")]
pub(super) struct Log {
    entries: VecDeque<(i64, u64)>,
    sum: u128,
    /// Entries no further apart than this may be merged; 0: none are.
    merged: i64,
}

impl From<VecDeque<(i64, u64)>> for Log {
    fn from(entries: VecDeque<(i64, u64)>) -> Self {
        let mut log = Log { entries, sum: 0, merged: 0 };
        log.sum_up();
        log
    }
}

impl From<Log> for VecDeque<(i64, u64)> {
    fn from(log: Log) -> Self {
        log.entries
    }
}

// === impl Log ===

impl Log {
    /// How much was counted after that moment.
    pub(super) fn after(&self, moment: i64) -> u64 {
        let gone = self.entries.iter().take_while(|(at, _)| *at <= moment);
        let gone: u128 = gone.map(|(_, n)| u128::from(*n)).sum();
        u64::try_from(self.sum.saturating_sub(gone)).unwrap_or(u64::MAX)
    }

    /// What of that may have been counted before it, and was merged with what came later.
    pub(super) fn unsure_after(&self, moment: i64) -> u64 {
        let until = moment.saturating_add(self.merged);
        let merged = self.entries.iter().skip_while(|(at, _)| *at <= moment);
        merged.take_while(|(at, _)| *at <= until).fold(0, |sum, (_, n)| n.saturating_add(sum))
    }

    /// Counts so much more at that moment, in a window of that length; what came before `old` is forgotten.
    pub(super) fn add(&mut self, n: u64, now: i64, length: i64, old: i64) {
        while let Some((_, gone)) = self.entries.pop_front_if(|(at, _)| *at <= old) {
            self.sum = self.sum.saturating_sub(gone.into());
        }
        match self.entries.back_mut().filter(|(at, _)| *at >= now) {
            Some((_, last)) => {
                let before = *last;
                *last = last.saturating_add(n);
                self.sum += u128::from(*last - before);
            }
            None if n > 0 => {
                self.entries.push_back((now, n));
                self.sum += u128::from(n);
            }
            None => {}
        }
        self.bound(length);
    }

    /// Takes back what was counted at that moment.
    pub(super) fn take_back(&mut self, n: u64, counted_at: i64) {
        // A merged entry carries the later moment.
        let place = self.entries.partition_point(|(at, _)| *at < counted_at);
        let Some((_, entry)) = self.entries.get_mut(place) else { return };
        let part = n.min(*entry);
        *entry -= part;
        self.sum -= u128::from(part);
        if *entry == 0 {
            self.entries.remove(place);
        }
    }

    /// Counts so much more, at a moment among the others.
    pub(super) fn insert(&mut self, n: u64, at: i64) {
        let place = self.entries.partition_point(|(known, _)| *known <= at);
        self.entries.insert(place, (at, n));
        self.sum += u128::from(n);
    }

    /// Takes so much off the oldest ones.
    pub(super) fn take_off(&mut self, n: u64) {
        let mut left = n;
        for (_, entry) in &mut self.entries {
            let part = left.min(*entry);
            *entry -= part;
            left -= part;
        }
        self.sum_up();
    }

    /// What is counted after the moment `gone`, so much of it, was counted then: the latest of it.
    pub(super) fn move_back(&mut self, n: u64, gone: i64) {
        let mut left = n;
        for (_, entry) in self.entries.iter_mut().rev().filter(|(at, _)| *at > gone) {
            let part = left.min(*entry);
            *entry -= part;
            left -= part;
        }
        self.sum_up();
        if n > left {
            self.insert(n - left, gone);
        }
    }

    /// What was counted after that moment, the oldest first.
    pub(super) fn later_than(&self, moment: i64) -> impl Iterator<Item = (i64, u64)> {
        self.entries.iter().copied().skip_while(move |(at, _)| *at <= moment)
    }

    /// Of how much all is used at that moment, if it refills within that length all the time and was full before the
    /// first entry.
    pub(super) fn refilled(&self, length: i64, now: i64) -> u64 {
        let is_used_up = |amount: u64| {
            let first = (0.0, self.entries.front().map_or(now, |(at, _)| *at));
            let (used, last) = self.entries.iter().fold(first, |(used, last), (at, n)| {
                (emptied_within(length, used, last, amount, *at) + precise(*n), *at)
            });
            emptied_within(length, used, last, amount, now) >= precise(amount)
        };
        let (mut least, mut most) = (0, u64::try_from(self.sum).unwrap_or(u64::MAX));
        while least < most {
            let amount = least + (most - least).div_ceil(2);
            (least, most) = if is_used_up(amount) { (amount, most) } else { (least, amount - 1) };
        }
        least
    }

    /// The moment of the entry with which so much of what was counted after `since` has left.
    pub(super) fn when_gone(&self, n: u64, since: i64) -> Option<i64> {
        let mut left = n;
        let counted = self.entries.iter().skip_while(|(at, _)| *at <= since);
        counted.filter(|_| n > 0).find_map(|(at, entry)| {
            left = left.saturating_sub(*entry);
            (left == 0).then_some(*at)
        })
    }

    /// The moment of the last entry.
    pub(super) fn last(&self) -> Option<i64> {
        self.entries.back().map(|(at, _)| *at)
    }

    /// What was counted by a clock that was ahead was counted now. What others wrote may have been merged by them.
    pub(super) fn not_after(&mut self, now: i64, length: i64) {
        for (at, _) in &mut self.entries {
            *at = (*at).min(now);
        }
        self.entries.make_contiguous().sort_unstable_by_key(|(at, _)| *at);
        if self.entries.len() > EXACT / 4 {
            self.merged = self.merged.max(length / COARSE);
        }
        self.bound(length);
        self.entries.truncate(EXACT);
        self.sum_up();
    }

    /// Adds what another log has more, or less, than both had before, in a window of that length since that moment. What
    /// is in the same grain of time is compared, as it may be merged in one of them.
    pub(super) fn take_over(&mut self, before: Option<&Log>, theirs: &Log, length: i64, since: i64) {
        let grain = (length / COARSE).max(1);
        let sums = |log: &Log| {
            let mut sums: VecDeque<(i64, u64)> =
                log.entries.iter().copied().filter(|(at, _)| *at > since).collect();
            merge(&mut sums, |at| (at.div_euclid(grain), 0));
            sums
        };
        let (before, theirs) = (before.map(sums).unwrap_or_default(), sums(theirs));
        let place = |at: i64| at.div_euclid(grain);
        let of = |sums: &VecDeque<(i64, u64)>, at: i64| {
            sums.binary_search_by_key(&place(at), |(other, _)| place(*other))
                .ok()
                .and_then(|index| sums.get(index))
                .map_or(0, |(_, n)| *n)
        };
        for (at, known) in &before {
            let mut less = known.saturating_sub(of(&theirs, *at));
            for (_, entry) in self.entries.iter_mut().filter(|(other, _)| place(*other) == place(*at)) {
                let part = less.min(*entry);
                *entry -= part;
                less -= part;
            }
        }
        for (at, n) in &theirs {
            self.entries.push_back((*at, n.saturating_sub(of(&before, *at))));
        }
        // Of what was compared by the grain, only that is known.
        self.merged = self.merged.max(grain);
        self.entries.make_contiguous().sort_unstable_by_key(|(at, _)| *at);
        self.sum_up();
        self.bound(length);
    }

    /// Merges neighbours where there are too many entries. The grains lie fast, so that merging again moves nothing, and
    /// the finer ones lie within the coarser ones.
    fn bound(&mut self, length: i64) {
        if self.entries.len() <= EXACT {
            return;
        }
        let (fine, coarse) = ((length / FINE).max(1), (length / COARSE).max(1));
        self.merged = self.merged.max(fine);
        merge(&mut self.entries, |at| (at.div_euclid(coarse), at.div_euclid(fine)));
        if self.entries.len() > EXACT / 4 * 3 {
            self.merged = coarse;
            merge(&mut self.entries, |at| (at.div_euclid(coarse), 0));
        }
    }

    fn sum_up(&mut self) {
        self.entries.retain(|(_, n)| *n > 0);
        self.sum = self.entries.iter().map(|(_, n)| u128::from(*n)).sum();
    }
}

/// Merges the entries of each grain of time into the latest of them.
fn merge(entries: &mut VecDeque<(i64, u64)>, grain: impl Fn(i64) -> (i64, i64)) {
    let mut merged: VecDeque<(i64, u64)> = VecDeque::with_capacity(entries.len() / 2);
    for (at, n) in entries.drain(..) {
        match merged.back_mut().filter(|last| grain(at) == grain(last.0)) {
            Some(last) => *last = (at, last.1.saturating_add(n)),
            None => merged.push_back((at, n)),
        }
    }
    *entries = merged;
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400_000;

    fn add(log: &mut Log, n: u64, at: i64) {
        log.add(n, at, DAY, at - DAY);
    }

    #[test]
    fn no_request_of_a_days_two_thousand_frees_later_than_it_does_upstream() {
        let mut log = Log::default();
        for request in 0..2_000 {
            add(&mut log, 1, request * 1_500);
        }
        for request in 0..2_000 {
            let left = u64::try_from(1_999 - request).unwrap();
            assert_eq!(log.after(request * 1_500), left, "when number {request} has left");
            assert_eq!(log.unsure_after(request * 1_500), 0);
        }
    }

    #[test]
    fn what_is_merged_never_leaves_early_and_is_known_to_be_unsure() {
        let mut log = Log::default();
        let moments = || (0..40_000).map(|request| request * 2_000);
        for at in moments() {
            add(&mut log, 1, at);
        }
        assert!(log.entries.len() <= EXACT, "{}", log.entries.len());
        for late in [0, 1_000, 1_000_000, 40_000_000] {
            let exact = moments().filter(|at| *at > late).count() as u64;
            let (counted, unsure) = (log.after(late), log.unsure_after(late));
            assert!((exact..=exact + unsure).contains(&counted), "{exact}, {counted}, {unsure} at {late}");
        }
    }

    #[test]
    fn all_is_used_of_what_refilled_since_and_of_no_more() {
        let mut log = Log::default();
        assert_eq!(log.refilled(DAY, 0), 0);
        // A thousand at once, and after half a day the half that came back.
        add(&mut log, 1_000, 0);
        assert_eq!(log.refilled(DAY, 0), 1_000);
        add(&mut log, 500, DAY / 2);
        assert_eq!(log.refilled(DAY, DAY / 2), 1_000);
        assert_eq!(
            log.refilled(DAY, DAY / 2 + DAY / 20),
            967,
            "there was room again, unless it is a smaller one"
        );
        assert_eq!(log.later_than(0).collect::<Vec<_>>(), [(DAY / 2, 500)]);
    }

    #[test]
    fn the_sum_is_that_of_the_entries_whatever_is_done() {
        let mut log = Log::default();
        add(&mut log, u64::MAX, 0);
        add(&mut log, u64::MAX, 1);
        assert_eq!(log.after(-1), u64::MAX);
        log.take_back(u64::MAX, 0);
        assert_eq!((log.after(-1), log.after(1)), (u64::MAX, 0));
        log.take_off(u64::MAX - 5);
        log.insert(3, 0);
        assert_eq!((log.after(-1), log.after(0)), (8, 5));
        log.move_back(2, 0);
        assert_eq!((log.after(-1), log.after(0)), (8, 3));
        log.not_after(0, DAY);
        assert_eq!((log.after(-1), log.after(0)), (8, 0));
        let rows = serde_json::to_string(&log).unwrap();
        assert_eq!(serde_json::from_str::<Log>(&rows).unwrap().after(-1), 8);
    }
}
