//! How a window of an hour or more moves, where nobody told: as the last so-many hours, with a calendar, or from its first
//! request on. Each of these ways says of our own count what was used when requests were served and when they were
//! refused, and so whether it can be the upstream's; and when there is room again. Where they differ in that, a lone
//! request finds out. Where none of them can be, it refills all the time. Pure.

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::admission::Charge;
use super::learn::{Change, HOUR, MINUTE, told};
use super::limit::{Limit, Period, Window};
use super::log::Log;
use super::minute::FINE;
use super::standing::{Rule, State};
use super::window::{Count, DAY, length, precise, span_of};

/// A way in which a window may move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Way {
    /// The last so-many hours, at every moment.
    Rolling,
    /// With the calendar or the clock of UTC.
    Utc,
    /// With California's calendar, as Google counts.
    Pacific,
    /// From the first request after the last one ended.
    Session,
}

/// All of them. The first is the most cautious: what it has room for, each of the others has room for, too.
const WAYS: [Way; 4] = [Way::Rolling, Way::Utc, Way::Pacific, Way::Session];
/// Counts that differ by one, or by such a part of the limit, are the same: some of what is counted is on its way.
const ALIKE: u64 = 100;
/// Of the lengths that windows have, those that nobody names are tried in this order.
const PERIODS: [Period; 4] =
    [Period::Millis(3_600_000), Period::DAY, Period::Millis(604_800_000), Period::Month];

/// So often in a row a window that ends is not mistaken for one that refills.
const MOST_CHANCES: u32 = 4;

/// What was seen of one limit's window, by model.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Course {
    /// Of each way.
    seen: Vec<Seen>,
    /// When the window began that begins with a request.
    session: i64,
    /// What was counted before this moment is known by the minute or the hour.
    since: i64,
    /// Everything was counted from this moment on.
    complete: i64,
    /// How often in a row it was tried in vain.
    in_vain: u32,
    /// When it is tried whatever the ways say: none of them may be right.
    ask_at: i64,
    /// How often in a row the time until all is free was as long as refilling what is used takes, and of how much.
    refills: u32,
    refilled: u64,
    /// When one was refused, and of how much all must have been used then, if it refills.
    full: Option<(i64, u64)>,
    /// It turned out not to refill.
    ends: bool,
}

/// What one way says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    way: Way,
    /// The most that was used when a request was served.
    served: u64,
    /// The least that was used when one was refused.
    refused: Option<u64>,
}

/// What a success or a refusal shows.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// Nothing of how the window moves.
    Nothing,
    /// A lone request went well where another way has room, so that the limit is not higher than was thought.
    Another,
    /// It moves otherwise than was thought.
    Turned(Change),
    /// In none of these ways.
    NoWay,
}

// === impl Way ===

impl Way {
    /// The window of a period that moves so; `None`: none is known that does.
    pub(super) fn window(self, period: Period) -> Option<Window> {
        let by_days = match period {
            Period::Millis(length) => length == DAY.unsigned_abs() || length == 7 * DAY.unsigned_abs(),
            Period::Month => true,
            Period::Request => return None,
        };
        match self {
            Way::Rolling => Some(Window::Rolling),
            Way::Utc if by_days => Some(Window::Calendar(TimeZone::UTC)),
            Way::Utc => Some(Window::Fixed),
            Way::Pacific if period == Period::DAY => {
                TimeZone::get("America/Los_Angeles").ok().map(Window::Calendar)
            }
            Way::Pacific => None,
            Way::Session => Some(Window::Session),
        }
    }

    /// The way in which the window of a limit moves; `None`: another one.
    fn of(limit: &Limit) -> Option<Way> {
        WAYS.into_iter().find(|way| way.window(limit.period).as_ref() == Some(&limit.window))
    }

    /// The window that a moment is in, where the last one that began with a request began at `session`.
    fn span(self, period: Period, session: i64, now: i64) -> Option<(i64, i64)> {
        let length = length(period);
        match self {
            Way::Rolling => Some((now.saturating_sub(length), now)),
            Way::Session if now < session.saturating_add(length) => {
                Some((session, session.saturating_add(length)))
            }
            Way::Session => Some((now, now.saturating_add(length))),
            Way::Utc | Way::Pacific => Some(span_of(&self.window(period)?, period, now)),
        }
    }
}

/// The ways in which a window of this length may move, where it is not told; none, where it is short.
pub(super) fn ways(period: Period) -> Vec<Way> {
    let is_long = length(period) >= HOUR;
    WAYS.into_iter().filter(|way| is_long && way.window(period).is_some()).collect()
}

/// The shortest length of a window longer than this one that is tried where none is named.
pub(super) fn longer_than(period: Period) -> Option<Period> {
    PERIODS.into_iter().find(|longer| length(*longer) > length(period))
}

// === impl Rule ===

impl Rule {
    /// Whether it is still open in which of several ways its window moves.
    pub(super) fn is_open(&self) -> bool {
        self.ways.len() > 1 && self.limit.window == Window::Rolling
    }

    /// Whether a lone request may find out if there is room for `n`: in one of the ways there is, or nobody knows.
    pub(super) fn may_have_moved(&self, state: &State, n: u64, now: i64) -> bool {
        let fits = |way: &Way| {
            let used = state.used_by(*way, &self.limit, now);
            state.refused_by(*way).is_none_or(|refused| used.saturating_add(n) <= refused)
        };
        let asks = state.course.ask_at <= now;
        self.is_open() && state.probe.is_none() && (asks || self.ways.iter().any(fits))
    }

    /// When the next of the ways says that there is room; never, where it is known how it moves.
    pub(super) fn may_have_room_at(&self, state: &State, now: i64) -> i64 {
        if !self.is_open() {
            return i64::MAX;
        }
        let (period, session) = (self.limit.period, state.course.session);
        let in_vain = state.course.in_vain;
        // What left a window of the last so-many hours is not found out one by one.
        let rolling = || {
            let from = now.saturating_sub(length(period));
            let Count::Rolling { log } = &state.count else { return None };
            let gone = log.when_gone(1_u64 << in_vain.min(10), from).or_else(|| log.last());
            gone.map(|at| at.saturating_add(length(period)))
        };
        let ends = self.ways.iter().filter_map(|way| match way {
            Way::Rolling => rolling(),
            way => way.span(period, session, now).map(|(_, ends)| ends),
        });
        ends.chain([state.course.ask_at]).filter(|at| *at > now).min().unwrap_or(i64::MAX)
    }

    /// Until when it is left alone after it was refused.
    pub(super) fn rests_for_now(&self, state: &State, now: i64) -> i64 {
        if self.is_open() {
            return self.may_have_room_at(state, now);
        }
        let n = (1_u64 << state.course.in_vain.min(10)).min(state.amount);
        let frees = state.count.frees_at(&self.limit, state.amount, n, now);
        frees.filter(|at| *at > now).unwrap_or(now.saturating_add(HOUR))
    }

    /// The upstream says that so much is used, and when all of it is free again: whether that is as long as refilling it
    /// takes, of different amounts in a row. Of a window that ends it is not, but by chance.
    pub(super) fn tells_its_refill(
        &mut self,
        key: &str,
        used: u64,
        whole_in: i64,
        now: i64,
    ) -> Option<Change> {
        let length = length(self.limit.period);
        let state = self.states.get_mut(key).filter(|state| state.amount > 0 && length > 0)?;
        if self.limit.window != Window::Fixed || !self.limit.source.is_own() || used > state.amount {
            return None;
        }
        let refill = i128::from(length) * i128::from(used) / i128::from(state.amount);
        let refill = i64::try_from(refill).unwrap_or(i64::MAX);
        let (off, course) = (refill.saturating_sub(whole_in).abs(), &mut state.course);
        if off > length / 50 {
            course.refills = 0;
        } else if off <= length / 200 && used.abs_diff(course.refilled) > state.amount / 50 {
            (course.refills, course.refilled) = (course.refills.saturating_add(1), used);
        }
        if course.refills < MOST_CHANCES {
            return None;
        }
        let name = self.limit.named(state.amount);
        self.refills(now);
        told(format!("{name} refills continuously"))
    }

    /// The request of this charge was served.
    pub(super) fn moved_well(&mut self, key: &str, charge: &Charge, now: i64) -> Shown {
        if self.ways.is_empty() {
            return Shown::Nothing;
        }
        let (is_open, limit) = (self.is_open(), &self.limit);
        let Some(state) = self.states.get_mut(key) else { return Shown::Nothing };
        (state.course.in_vain, state.course.ask_at) = (0, i64::MAX);
        if charge.at >= state.course.session.saturating_add(length(limit.period)) {
            state.course.session = charge.at;
        }
        let used = state.count.used(limit, state.amount, now);
        if !is_open || used.saturating_mul(2) < state.amount {
            return Shown::Nothing;
        }
        let alike = state.alike();
        let is_probe = state.probe == Some(charge.sequence);
        // What is out may be there later.
        let on_its_way = state.out.iter().fold(0_u64, |sum, out| out.n.saturating_add(sum));
        let mut wrong = Vec::new();
        for way in &self.ways {
            let unsure = state.rough(*way, limit, now).saturating_add(on_its_way);
            let least = state.used_by(*way, limit, now).saturating_sub(unsure);
            if state.refused_by(*way).is_some_and(|refused| least >= refused.saturating_add(alike)) {
                wrong.push(*way);
            }
            let seen = state.course.seen_by(*way);
            state.course.sees(Seen { served: seen.served.max(least), ..seen });
        }
        if !is_probe && wrong.is_empty() {
            return Shown::Nothing;
        }
        state.probe = state.probe.filter(|_| !is_probe);
        let lately = state.course.full.is_some_and(|(at, _)| now < at.saturating_add(length(limit.period)));
        if lately && wrong.len() == self.ways.len() && !self.unnamed {
            return Shown::Turned(self.turns_to_refill(now));
        }
        let is_unknown = state.refused_by(Way::Rolling).is_none() || wrong.len() == self.ways.len();
        if state.source.is_guess() && is_unknown && used > state.amount {
            // It is higher, whichever way it moves.
            state.amount = used.saturating_add((state.amount / 10).max(1));
            state.dirty = true;
        }
        if wrong.is_empty() { Shown::Another } else { self.leaves_out(&wrong, None, now) }
    }

    /// The request of this charge was refused, as this window is used up.
    pub(super) fn has_not_moved(
        &mut self,
        key: &str,
        charge: Option<&Charge>,
        again: bool,
        now: i64,
    ) -> Shown {
        let (is_open, limit, id) = (self.is_open(), &self.limit, self.id);
        let Some(state) = self.states.get_mut(key) else { return Shown::Nothing };
        let part = charge.and_then(|charge| charge.parts.iter().find(|part| part.rule == id));
        let own = part.map_or(0, |part| part.n);
        state.course.tried(again, now);
        state.dirty = true;
        let alike = state.alike();
        if !is_open {
            let used = state.count.used(limit, state.amount, now).saturating_sub(own);
            let far = used.saturating_add(alike) < state.amount / 2;
            return match self.ways.as_slice() {
                _ if !far => Shown::Nothing,
                // What is known of its length holds; another one is used up.
                [_] if self.unnamed => Shown::NoWay,
                [way, ..] => self.leaves_out(&[*way], Some(key), now),
                [] => Shown::Nothing,
            };
        }
        state.evidence.refused(limit, None, now);
        let stated = !state.source.is_guess();
        if let Count::Rolling { log } = &state.count
            && !state.course.ends
        {
            let least = log.refilled(length(limit.period), now).saturating_sub(own);
            let known = state.course.full.map_or(0, |(_, known)| known);
            let amount = if stated { state.amount } else { least.max(known).max(1) };
            state.course.full = Some((now, amount));
        }
        let (mut out, mut refused) = (Vec::new(), Vec::new());
        for way in &self.ways {
            let most = state.used_by(*way, limit, now).saturating_sub(own);
            let span = way.span(limit.period, state.course.session, now);
            if span.is_none_or(|(begin, _)| begin < state.course.complete) {
                // Nobody here counted all of it.
                continue;
            }
            let seen = state.course.seen_by(*way);
            let known = if stated { state.amount } else { seen.served };
            refused.push(Seen { way: *way, served: 0, refused: Some(most.max(1)) });
            if most.saturating_add(alike) < known {
                out.push(*way);
            } else if !stated {
                let refused = seen.refused.map_or(most, |known| known.min(most)).max(1);
                state.course.sees(Seen { refused: Some(refused), ..seen });
            }
        }
        if let Some(refused) = state.refused_by(Way::Rolling).filter(|_| !stated) {
            state.amount = refused;
        }
        if out.is_empty() {
            return Shown::Nothing;
        }
        let shown = self.leaves_out(&out, Some(key), now);
        if let Some(state) = self.states.get_mut(key).filter(|_| shown == Shown::NoWay) {
            // What was served before was served under another limit, or refilled: what comes next shows which.
            state.course.seen = refused;
        }
        shown
    }

    /// It does not move in these ways, but in the first of the others; `full` is where it was refused.
    fn leaves_out(&mut self, out: &[Way], full: Option<&str>, now: i64) -> Shown {
        self.ways.retain(|way| !out.contains(way));
        let Some(way) = self.ways.first().copied() else {
            self.opens(now);
            return Shown::NoWay;
        };
        if way == Way::Rolling {
            return Shown::Nothing;
        }
        let Some(window) = way.window(self.limit.period) else { return Shown::Nothing };
        let (period, limit) = (self.limit.period, Limit { window, ..self.limit.clone() });
        for (key, state) in &mut self.states {
            let session = state.course.session;
            let (starts, ends) = way.span(period, session, now).unwrap_or((now, now));
            let used = match &state.count {
                Count::Rolling { .. } => state.count.since(starts).unwrap_or(0),
                // How much of it came since then is not known any more.
                _ if full == Some(key.as_str()) => state.amount,
                other => other.used(&self.limit, state.amount, now),
            };
            if let Some(refused) = state.refused_by(way) {
                state.amount = refused;
            }
            state.count = Count::Span { starts, ends, used, late: 0, carried: 0 };
            state.probe = None;
            state.dirty = true;
        }
        self.limit = limit;
        let how = match way {
            Way::Rolling | Way::Utc => "the clock of UTC",
            Way::Pacific => "California's clock",
            Way::Session => "its first request",
        };
        let change = Change { what: format!("{} goes by {how}", self.limit.named(self.limit.amount)) };
        Shown::Turned(change)
    }

    /// It was refused, and served again sooner than any window ends: it refills all the time.
    fn turns_to_refill(&mut self, now: i64) -> Change {
        let limit = Limit { window: Window::Bucket, ..self.limit.clone() };
        for state in self.states.values_mut() {
            let (at, amount) = state.course.full.unwrap_or((now, state.amount.max(1)));
            let mut count = Count::Bucket { used: precise(amount), at };
            if let Count::Rolling { log } = &state.count {
                for (at, n) in log.later_than(at) {
                    count.add(&limit, amount, n, at);
                }
            }
            (state.amount, state.count, state.probe, state.dirty) = (amount, count, None, true);
        }
        self.ways.clear();
        self.limit = limit;
        Change { what: format!("{} refills continuously", self.limit.named(self.limit.amount)) }
    }

    /// What was seen to refill was refused when it should have had room: one of the other ways it is.
    pub(super) fn does_not_refill(&mut self, now: i64) {
        self.ways = ways(self.limit.period);
        for state in self.states.values_mut() {
            (state.course.full, state.course.ends) = (None, true);
        }
        self.opens(now);
    }

    /// How it moves is not known again.
    fn opens(&mut self, now: i64) {
        let was = self.limit.clone();
        self.ways = ways(was.period);
        self.limit.window = Window::Rolling;
        for state in self.states.values_mut() {
            let since = match &state.count {
                Count::Span { starts, .. } => Some(*starts),
                Count::Bucket { .. } => Some(now.saturating_sub(length(was.period) / 2)),
                Count::Rolling { .. } | Count::Held { .. } => None,
            };
            if let Some(since) = since {
                let used = state.count.used(&was, state.amount, now);
                let mut log = Log::default();
                log.insert(used, since);
                state.count = Count::Rolling { log };
            }
            state.course.seen.clear();
            state.dirty = true;
        }
    }
}

// === impl State ===

impl State {
    /// Begins to watch how a window moves of which so much was served before, known since `complete`: all of that shows
    /// what each way has room for.
    pub(super) fn watches(&mut self, limit: &Limit, before: &[(i64, u64)], complete: i64, now: i64) {
        let length = length(limit.period);
        let mut seen = State::new(&Limit { window: Window::Rolling, ..limit.clone() }, now);
        (seen.course.since, seen.course.complete, seen.course.ask_at) = (now, complete, i64::MAX);
        for (at, n) in before {
            seen.count.add(limit, self.amount, *n, *at);
            if *at >= seen.course.session.saturating_add(length) {
                seen.course.session = *at;
            }
            for way in ways(limit.period) {
                let served = seen.used_by(way, limit, *at).saturating_sub(seen.rough(way, limit, *at));
                let known = seen.course.seen_by(way);
                seen.course.sees(Seen { served: known.served.max(served), ..known });
            }
        }
        if limit.window == Window::Rolling {
            self.count = seen.count;
        } else if let Some(way) = Way::of(limit)
            && let Some((starts, ends)) = way.span(limit.period, seen.course.session, now)
        {
            let used = seen.used_by(way, limit, now);
            self.count = Count::Span { starts, ends, used, late: 0, carried: 0 };
        }
        self.course = seen.course;
        self.dirty = true;
    }

    /// What is used, in a window that moves so. Only where single entries are known.
    fn used_by(&self, way: Way, limit: &Limit, now: i64) -> u64 {
        match way.span(limit.period, self.course.session, now) {
            Some((begin, _)) if way == Way::Rolling => self.count.since(begin.saturating_add(1)).unwrap_or(0),
            Some((begin, _)) => self.count.since(begin).unwrap_or(0),
            None => 0,
        }
    }

    /// What of that may have been used before the window began.
    fn rough(&self, way: Way, limit: &Limit, now: i64) -> u64 {
        let Some((begin, _)) = way.span(limit.period, self.course.session, now) else { return 0 };
        let since = |moment: i64| self.count.since(moment).unwrap_or(0);
        let grain = match self.course.since.saturating_sub(begin) {
            ..=0 => 0,
            age if age < FINE => MINUTE,
            _ => HOUR,
        };
        let by_the_grain = since(begin).saturating_sub(since(begin.saturating_add(grain)));
        let unsure = if way == Way::Rolling { self.count.unsure(limit, now) } else { 0 };
        by_the_grain.max(unsure)
    }

    /// The least that was refused, by that way; what is stated is the limit in all ways.
    fn refused_by(&self, way: Way) -> Option<u64> {
        if !self.source.is_guess() {
            return Some(self.amount);
        }
        self.course.seen.iter().find(|seen| seen.way == way).and_then(|seen| seen.refused)
    }

    /// Whether it is counted as refilling since that was seen, and has room by that count before a request.
    pub(super) fn should_have_refilled(&self, before: u64) -> bool {
        let is_bucket = matches!(self.count, Count::Bucket { .. });
        is_bucket && self.course.full.is_some() && before < self.amount - self.amount / 10
    }

    /// Counts that differ by less are the same.
    pub(super) fn alike(&self) -> u64 {
        (self.amount / ALIKE).max(1)
    }
}

// === impl Course ===

impl Course {
    /// It was tried in vain; `again`, while it was left alone.
    fn tried(&mut self, again: bool, now: i64) {
        if !again {
            self.in_vain = self.in_vain.saturating_add(1);
            self.ask_at = now.saturating_add((HOUR << self.in_vain.min(10)).min(DAY));
        }
    }

    /// What that way says.
    fn seen_by(&self, way: Way) -> Seen {
        self.seen.iter().find(|seen| seen.way == way).copied().unwrap_or(Seen {
            way,
            served: 0,
            refused: None,
        })
    }

    /// It says this from now on.
    fn sees(&mut self, new: Seen) {
        self.seen.retain(|seen| seen.way != new.way);
        self.seen.push(new);
    }
}

#[cfg(test)]
mod tests;
