//! How the minute of a limit moves where nobody told of it: with the clock, or as the last sixty seconds. What the
//! upstream says is used, beside what was sent to it, shows that; and so do the counts at which it refuses. Pure.

use std::collections::VecDeque;

use super::admission::Charge;
use super::evidence::LEAST_EVIDENCE;
use super::learn::{Change, MINUTE};
use super::ledger::Ledger;
use super::limit::{Limit, Period, Source, Unit, Window};
use super::log::Log;
use super::standing::{Out, Refusals, Rule, State};
use super::window::{Count, IN_TRANSIT};

/// So often a limit is tried anew when a minute of the clock is over.
const MOST_TURNS: u32 = 3;
/// Two counts are the same that differ by no more than such a part: some of what is counted is still on its way.
const ALIKE: u64 = 20;
/// Two counts tell nothing that differ by less than this, or than such a part of the limit.
const LEAST_APART: u64 = 3;
const PART_APART: u64 = 10;
/// What was refused longer ago than this may have been refused for another limit than there is now.
const FRESH: i64 = 10 * MINUTE;
/// In so many minutes an upstream's count has to be that of the last sixty seconds: others may use the same key.
const MOST_MINUTES: u32 = 2;
/// What was sent is remembered up to so many entries.
const MOST_SENT: usize = 1_000;

/// What an account took under one limit of the minute, whatever the upstream says of it.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    /// When and how much, the oldest first.
    log: VecDeque<(i64, u64)>,
    /// Of what was before nothing is known.
    since: i64,
    /// In how many minutes the upstream's count was that of the last sixty seconds, and the last of them.
    rolling: u32,
    minute: i64,
}

// === impl Sent ===

impl Sent {
    /// Nothing was sent yet.
    pub(super) fn new(now: i64) -> Self {
        Sent { log: VecDeque::new(), since: now, rolling: 0, minute: i64::MIN }
    }

    /// So much was taken at that moment.
    fn add(&mut self, at: i64, n: u64, now: i64) {
        let old = now.saturating_sub(2 * MINUTE);
        while self.log.len() >= MOST_SENT || self.log.front().is_some_and(|(at, _)| *at < old) {
            let Some((gone, _)) = self.log.pop_front() else { break };
            self.since = self.since.max(gone.saturating_add(1));
        }
        if n > 0 {
            let place = self.log.partition_point(|(known, _)| *known <= at);
            self.log.insert(place, (at, n));
        }
    }

    /// What was taken, and what prompts on their way take, from the one moment to the other.
    fn between(&self, out: &[Out], from: i64, to: i64) -> u64 {
        let within = |at: i64| from <= at && at <= to;
        let over = self.log.iter().filter(|(at, _)| within(*at)).map(|(_, n)| *n);
        let coming = out.iter().filter(|out| within(out.at)).map(|out| out.n.saturating_sub(out.output));
        over.chain(coming).fold(0, u64::saturating_add)
    }
}

// === impl Ledger ===

impl Ledger {
    /// Whether a limit that was drawn from refusals turned out to be one of the clock's minutes.
    pub(super) fn goes_by_the_clock(&self) -> bool {
        self.rules.iter().any(|rule| is_watched(&rule.limit) && rule.limit.window == Window::Fixed)
    }

    /// One of its limits turned out to be of the clock's minutes: then so are those of which that is not known yet. No
    /// upstream is known that has minutes of two kinds.
    pub(super) fn all_go_by_the_clock(&mut self, now: i64) {
        let open =
            |rule: &&mut Rule| rule.is_watched() && !rule.shown && rule.limit.window == Window::Rolling;
        for rule in self.rules.iter_mut().filter(open) {
            let limit = &rule.limit;
            for state in rule.states.values_mut().filter(|state| state.source == Source::Learned) {
                state.amount =
                    state.evidence.refused_at.map_or(state.amount, |known| known.by_the_clock(limit));
            }
            rule.goes_by_the_clock(now);
        }
    }
}

// === impl Rule ===

impl Rule {
    /// Whether it is to be found out how its minute moves.
    fn is_watched(&self) -> bool {
        is_watched(&self.limit)
    }

    /// Whether a lone request may find out if the minute of the clock that has begun is a new one for the upstream, too.
    pub(super) fn may_have_turned(&self, state: &State, now: i64) -> bool {
        let begin = now.div_euclid(MINUTE) * MINUTE;
        let open = self.is_watched() && !self.shown && self.limit.window == Window::Rolling;
        // What was sent before it was known of is not half of nothing.
        let known = state.sent.since <= begin;
        let since = || state.sent.between(&state.out, begin, i64::MAX).saturating_mul(2) < state.amount;
        open && known && !state.source.is_guess() && state.probe.is_none() && since()
    }

    /// When that is the next time.
    pub(super) fn may_turn_at(&self, state: &State, now: i64) -> i64 {
        let open = self.is_watched() && !self.shown && self.limit.window == Window::Rolling;
        if !open || state.source.is_guess() {
            i64::MAX
        } else if self.may_have_turned(state, now) {
            now
        } else {
            (now.div_euclid(MINUTE) + 1) * MINUTE
        }
    }

    /// The upstream says that so much is used, in the answer to the request of this charge.
    pub(super) fn tells_its_minute(
        &mut self,
        key: &str,
        used: u64,
        charge: &Charge,
        refused: bool,
        now: i64,
    ) -> Option<Change> {
        if !self.is_watched() {
            return None;
        }
        let state = self.states.get_mut(key)?;
        if state.goes_with(used, charge, refused)? {
            state.sent.rolling = 0;
            self.shown = true;
            return (self.limit.window != Window::Fixed).then(|| self.goes_by_the_clock(now));
        }
        let minute = charge.at.div_euclid(MINUTE);
        if state.sent.minute != minute {
            (state.sent.minute, state.sent.rolling) = (minute, state.sent.rolling.saturating_add(1));
        }
        if state.sent.rolling < MOST_MINUTES {
            return None;
        }
        self.shown = true;
        (self.limit.window != Window::Rolling).then(|| self.goes_by_the_last_minute())
    }

    /// A lone request that tried whether the minute of the clock is the upstream's was refused.
    pub(super) fn has_not_turned(&mut self, key: &str, charge: &Charge) {
        let watched = self.is_watched();
        let tried = |state: &&mut State| state.probe == Some(charge.sequence) && !state.source.is_guess();
        if let Some(state) = self.states.get_mut(key).filter(tried).filter(|_| watched) {
            (self.shown, state.dirty) = (true, true);
        }
    }

    /// What was taken for the last sixty seconds turned out to be the clock's minute.
    pub(super) fn goes_by_the_clock(&mut self, now: i64) -> Change {
        for state in self.states.values_mut() {
            state.count = state.count.as_span(&self.limit, now);
            state.counts_anew();
        }
        self.limit.window = Window::Fixed;
        Change { what: format!("{} goes by the clock", self.limit.named(self.limit.amount)) }
    }

    /// What was taken for the clock's minute turned out to be the last sixty seconds.
    pub(super) fn goes_by_the_last_minute(&mut self) -> Change {
        for state in self.states.values_mut() {
            let mut log = Log::from(state.sent.log.clone());
            for out in &state.out {
                log.insert(out.n, out.at);
            }
            state.count = Count::Rolling { log };
            state.counts_anew();
        }
        self.limit.window = Window::Rolling;
        Change { what: format!("{} is of the last sixty seconds", self.limit.named(self.limit.amount)) }
    }
}

// === impl State ===

impl State {
    /// What was the most that was served, and the least that was refused, was counted in another window.
    fn counts_anew(&mut self) {
        (self.evidence.best, self.evidence.over, self.evidence.doubts) = (0, 0, 0);
        self.dirty = true;
    }

    /// A request that was sent then took so much, and its answer so much.
    pub(super) fn took(&mut self, limit: &Limit, at: i64, prompt: u64, answer: u64, now: i64) {
        if is_watched(limit) {
            self.sent.add(at, prompt, now);
            self.sent.add(now, answer, now);
        }
    }

    /// Whether what an upstream says was used, when the request of this charge came, is what was taken since the
    /// clock's minute began, rather than what was taken in the sixty seconds before.
    fn goes_with(&self, used: u64, charge: &Charge, refused: bool) -> Option<bool> {
        let seen = charge.at;
        let begin = seen.div_euclid(MINUTE) * MINUTE;
        let knows = self.sent.since <= seen.saturating_sub(MINUTE + IN_TRANSIT);
        if !knows || seen.saturating_add(IN_TRANSIT) >= begin.saturating_add(MINUTE) {
            // Nobody knows in which minute it came.
            return None;
        }
        let own = self.out.iter().find(|out| !refused && out.sequence == charge.sequence);
        let own = own.map_or(0, |out| out.n.saturating_sub(out.output));
        let between = |from: i64, to: i64| self.sent.between(&self.out, from, to);
        let (before, after) = (seen.saturating_sub(IN_TRANSIT), seen.saturating_add(IN_TRANSIT));
        let least = between(begin, before).saturating_add(own);
        let most = between(begin.saturating_sub(IN_TRANSIT), after);
        let rolling = between(before.saturating_sub(MINUTE - 2 * IN_TRANSIT), before).saturating_add(own);
        let apart = rolling.checked_sub(most)?;
        if apart < LEAST_APART.max(self.amount / PART_APART) {
            return None;
        }
        if used <= most.saturating_add(apart / 4) {
            // Where it is less than what came since, the upstream's window is a shorter one.
            return (used.saturating_mul(10) >= least.saturating_mul(9)).then_some(true);
        }
        (used.saturating_add(apart / 4) >= rolling).then_some(false)
    }

    /// Whether it may be exceeded although it was refused lately: the minute of the clock is over in which that was, and
    /// it may be the clock's.
    pub(super) fn has_turned(&self, limit: &Limit, now: i64) -> bool {
        let begin = now.div_euclid(MINUTE) * MINUTE;
        let turned = self.evidence.refused_at.is_some_and(|known| known.minute < begin);
        let may_be = limit.source.is_own() && limit.period == Period::MINUTE;
        let since = || self.count.since(begin).is_some_and(|since| since < self.amount / 2);
        may_be && turned && self.evidence.turns < MOST_TURNS && since()
    }

    /// Until when it is left alone.
    pub(super) fn rests_until(&self, limit: &Limit, now: i64) -> i64 {
        if self.has_turned(limit, now) { now } else { self.evidence.rest_until }
    }

    /// Whether what was taken for the clock's minute is the last sixty seconds: one was refused soon after a minute began,
    /// when as much as fits had been taken in the sixty seconds before. Its own `n` is not counted.
    pub(super) fn was_refused_early(&self, limit: &Limit, n: u64, now: i64) -> bool {
        let knows = self.sent.since <= now.saturating_sub(MINUTE);
        if !knows || !is_watched(limit) || limit.window != Window::Fixed {
            return false;
        }
        let since = self.count.used(limit, self.amount, now).saturating_sub(n);
        let rolling = self.sent.between(&self.out, now.saturating_sub(MINUTE), now).saturating_sub(n);
        since.saturating_mul(2) < self.amount && rolling.saturating_add(self.amount / ALIKE) >= self.amount
    }

    /// Whether the upstream's minutes are those of the clock: refusals in different minutes came after the same count
    /// since the minute began, and after quite different ones in the sixty seconds before. The one that was refused
    /// has reserved `n`, of which `prompt` is its prompt's.
    pub(super) fn goes_by_the_clock(&mut self, limit: &Limit, n: u64, prompt: u64, now: i64) -> bool {
        let begin = now.div_euclid(MINUTE) * MINUTE;
        if limit.period != Period::MINUTE || limit.unit == Unit::Concurrent {
            return false;
        }
        let Some(since) = self.count.since(begin) else { return false };
        let most = |count: u64| count.saturating_sub(n).saturating_add(prompt.saturating_sub(1));
        let (since, rolling) = (most(since), most(self.count.used(limit, self.amount, now)));
        let one = Refusals { minute: begin, since: (since, since), rolling: (rolling, rolling) };
        let Some(known) = self.evidence.refused_at else {
            self.evidence.refused_at = Some(one);
            return false;
        };
        let both = |(least, most): (u64, u64), count: u64| (least.min(count), most.max(count));
        let all = Refusals {
            minute: begin,
            since: both(known.since, since),
            rolling: both(known.rolling, rolling),
        };
        let about = prompt.max(since / ALIKE);
        let same = apart(all.since) <= about;
        self.evidence.refused_at = Some(if same { all } else { one });
        // Within one minute that may as well be a longer window, which is over when the minute is not.
        let by_the_clock = same && known.minute != begin && apart(all.rolling) > about.saturating_mul(2);
        if by_the_clock {
            self.amount = all.by_the_clock(limit);
        }
        by_the_clock
    }

    /// A request that was sent then was answered: whether that shows that the upstream's minutes are those of the
    /// clock. As much or more had been taken in the sixty seconds before as when others were refused, in a minute of
    /// the clock that is over; or those were refused in that minute whatever had been taken before it.
    pub(super) fn went_by_the_clock(&mut self, limit: &Limit, at: i64, prompt: u64, now: i64) -> bool {
        let open = limit.window == Window::Rolling && self.source == Source::Learned && is_watched(limit);
        let Some(known) = self.evidence.refused_at.filter(|_| open) else { return false };
        let begin = at.div_euclid(MINUTE) * MINUTE;
        let (least, most) = known.rolling;
        let fresh = begin > known.minute && begin <= known.minute.saturating_add(FRESH);
        if !fresh || known.since.1 < LEAST_EVIDENCE {
            return false;
        }
        let others = self.out.iter().filter(|out| out.at >= at).map(|out| out.n);
        let used = self.count.used(limit, self.amount, now);
        let used = others.fold(used.saturating_sub(self.taken_since(at)), u64::saturating_sub);
        let about = prompt.max(known.since.1 / ALIKE);
        let whatever = apart(known.since) <= about && most - least > (2 * about).max(known.since.1 / 4);
        let by_the_clock = whatever || used > least.saturating_add(about);
        if by_the_clock {
            self.amount = known.by_the_clock(limit);
            self.source = Source::Learned;
        }
        by_the_clock
    }
}

// === impl Refusals ===

impl Refusals {
    /// The limit of the clock's minute that explains them: of requests the count is exact, of tokens it may be too low.
    fn by_the_clock(&self, limit: &Limit) -> u64 {
        let (least, most) = self.since;
        if limit.unit == Unit::Requests { least } else { most }.max(1)
    }
}

fn apart((least, most): (u64, u64)) -> u64 {
    most.saturating_sub(least)
}

/// Whether it is to be found out how the minute of a limit moves.
fn is_watched(limit: &Limit) -> bool {
    let counts = !matches!(limit.unit, Unit::Concurrent | Unit::Percent);
    let moves = matches!(limit.window, Window::Fixed | Window::Rolling);
    counts && moves && limit.source.is_own() && limit.period == Period::MINUTE
}

#[cfg(test)]
mod tests;
