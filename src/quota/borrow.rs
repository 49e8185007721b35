//! Room under a limit on tokens that is only reserved: kept for answers that are on their way, and for what estimates
//! may be wrong by. An upstream, as a rule, counts an answer when it is given, so that until then it takes another
//! prompt. Where nobody else has capacity that room is lent, to one request at a time at first and to more as that goes
//! well; refusals in a row end it for a while. Under the user's own limits what is reserved is taken. Pure.

use super::admission::{Charge, Mode, Need, Short};
use super::ledger::{Ledger, safety};
use super::limit::{Limit, Period, Source, Unit, Window};
use super::standing::{Rule, State};
use super::window::{DAY, IN_TRANSIT};

/// After so many refusals in a row nothing is lent for so long, doubled with each further one.
const MOST_REFUSALS: u32 = 3;
const STRICT: i64 = 60_000;
/// A refusal comes back sooner than this; who was not refused by then was let in.
const LET_IN: i64 = 1_000;
/// No more requests are out there at once that may be refused.
const MOST_AT_ONCE: u32 = 8;
/// What an estimate of a prompt is wrong by, at most, as a share of it.
const WRONG: u64 = 5;
/// What a count may be wrong by whatever estimates say, as a share of the limit.
const FIFTIETH: u64 = 50;
/// What a limit on tokens that was drawn from refusals may be more than thought, as a share of it.
const LEARNED: u64 = 400;
/// So many prompts, each smaller than the last, are refused in a row before nothing is asked any more.
const MOST_SMALLER: u32 = 5;
/// And so many that were thought to fit.
const MOST_BELIEVED: u32 = 2;

/// What room there is for a request that does not fit beside what is used and reserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    /// None before the window moves.
    Taken,
    /// There may be when one of those that are out is over.
    Soon,
    /// The upstream takes it now, most likely.
    Lent,
}

/// What was lent under one limit.
#[derive(Debug, Clone, Default)]
pub(super) struct Loans {
    /// The requests that are out there.
    out: Vec<Loan>,
    /// What was refused in the window that is now.
    refused: Option<TooLarge>,
}

/// A request in what is only reserved.
#[derive(Debug, Clone, Copy)]
struct Loan {
    sequence: u64,
    at: i64,
    /// It was likely to fit, so that a refusal says something.
    likely: bool,
}

/// Prompts that were refused.
#[derive(Debug, Clone, Copy)]
struct TooLarge {
    /// The smallest, in tokens.
    size: u64,
    until: i64,
}

// === impl State ===

impl State {
    /// What room there is for this request, of which `used` is not free.
    pub(super) fn room(&self, need: &Need<'_>, limit: &Limit, used: u64, mode: Mode, now: i64) -> Room {
        if !is_tokens(limit.unit) {
            return Room::Taken;
        }
        let spent = used.saturating_sub(self.expected());
        let doubts: f64 = self.out.iter().map(|out| out.spread).sum();
        // What is out may turn out to be smaller than it was thought to be.
        let least = spent.saturating_sub(safety(doubts));
        let waits = |n: u64| !self.out.is_empty() && least.saturating_add(n) <= self.amount;
        if self.source == Source::Configured {
            let n = need.reserves(limit.unit, self.amount, true);
            let fits = waits(n.saturating_add(safety(need.reserved_spread(limit.unit, true))));
            return if fits { Room::Soon } else { Room::Taken };
        }
        let prompt = need.at_least(limit.unit);
        let refused = self.loans.refused.filter(|known| now < known.until);
        if refused.is_some_and(|known| prompt >= known.size) {
            return Room::Taken;
        }
        let off = need.off.saturating_mul(2).min(prompt / WRONG);
        let smallest = prompt.saturating_sub(off);
        // What was drawn from refusals is known only as well as what was counted then: who cannot wait finds out, once in
        // a window.
        let drawn = self.source == Source::Learned && limit.window != Window::Bucket;
        let unsure = if drawn && mode == Mode::Last && refused.is_none() { self.amount / LEARNED } else { 0 };
        // Who can wait does, until it is likely to fit. Who cannot goes where it may fit, as it fails otherwise, but not
        // into what answers are likely to take: others fail for that, as they do while a refusal is heeded. At a bucket,
        // whose edge everybody is at all day long, it goes where it more likely fits than not. Where there is nobody
        // else, trying beats failing.
        let off = safety(doubts + need.prompt_spread(limit.unit));
        let likely = spent.saturating_add(prompt).saturating_add(off);
        let (taken, at_once) = match mode {
            Mode::Keep | Mode::Probe => (likely, self.evidence.lent.saturating_add(1).min(MOST_AT_ONCE)),
            Mode::Last => {
                let own = if limit.window == Window::Bucket { prompt } else { smallest };
                (likely.min(used.saturating_sub(safety(doubts)).saturating_add(own)), u32::MAX)
            }
            Mode::Alone => (least.saturating_add(smallest), u32::MAX),
        };
        let out = self.loans.out.iter().filter(|loan| now.saturating_sub(loan.at) < LET_IN).count();
        let is_free = u32::try_from(out).is_ok_and(|out| out < at_once);
        if is_free && self.evidence.strict_until <= now && taken <= self.amount + unsure {
            Room::Lent
        } else if waits(smallest) {
            Room::Soon
        } else {
            Room::Taken
        }
    }

    /// What of the count is kept for answers that nobody has counted yet.
    fn expected(&self) -> u64 {
        self.out.iter().fold(0, |sum, out| sum.saturating_add(out.expected()))
    }

    /// What is used for certain.
    pub(super) fn spent(&self, limit: &Limit, now: i64) -> u64 {
        let used = self.count.used(limit, self.amount, now).saturating_add(self.crossing(limit, now));
        used.saturating_sub(self.expected())
    }

    /// What is left under a limit of the user's own for a request that does not fit, and is estimated to be `off` by so
    /// much. `None`: the limit is used up, or does not count tokens.
    pub(super) fn short(&self, need: &Need<'_>, limit: &Limit, off: u64, now: i64) -> Option<Short> {
        if !is_tokens(limit.unit) {
            return None;
        }
        let answers = limit.unit != Unit::InputTokens;
        let answer = if answers { need.output_tokens.max(need.most_output.unwrap_or(0)) } else { 0 };
        let takes = need.of(limit.unit).max(need.longest(limit.unit).unwrap_or(0)).saturating_add(off);
        let left = self.amount.saturating_sub(self.spent(limit, now));
        // Who is out may take what is left; where nobody is, it leaves the window in this moment.
        let is_short = left > 0 && (takes > left || !self.out.is_empty());
        let (prompt, bounded) = (takes.saturating_sub(answer), need.most_output.is_some());
        is_short.then_some(Short { takes, prompt, left, bounded })
    }

    /// A request goes into what is only reserved.
    pub(super) fn lend(&mut self, sequence: u64, mode: Mode, now: i64) {
        self.loans.out.push(Loan { sequence, at: now, likely: mode == Mode::Probe });
    }

    /// It was answered.
    pub(super) fn lent_well(&mut self, sequence: u64) {
        if self.is_lent_to(sequence) {
            self.evidence.strict = 0;
            self.evidence.lent = self.evidence.lent.saturating_add(1).min(MOST_AT_ONCE);
            self.no_longer_lent(sequence);
        }
    }

    /// It is over, or it says nothing any more.
    pub(super) fn no_longer_lent(&mut self, sequence: u64) {
        self.loans.out.retain(|loan| loan.sequence != sequence);
    }

    fn is_lent_to(&self, sequence: u64) -> bool {
        self.loans.out.iter().any(|loan| loan.sequence == sequence)
    }

    /// Whether estimates explain that this request was refused. Where they do not, a guess was too high.
    fn may_be_wrong_by(&self, limit: &Limit, charge: &Charge, now: i64) -> bool {
        let Some(own) = self.out.iter().find(|out| out.sequence == charge.sequence) else { return false };
        let spent = self.spent(limit, now);
        let doubts = safety(self.out.iter().map(|out| out.spread).sum());
        let prompt_fitted_by = self.amount.saturating_sub(spent);
        own.n > 0 && (!self.source.is_guess() || prompt_fitted_by <= doubts.max(self.amount / FIFTIETH))
    }

    /// There was less room than a request was refused for: what is counted makes up for that.
    fn crowded(&mut self, limit: &Limit, charge: &Charge, prompt: u64, now: i64) {
        let spent = self.spent(limit, now);
        let others = spent.saturating_sub(prompt);
        // Its prompt may have been larger than it was thought to be, and what is out as well.
        let most = others.saturating_add(prompt).saturating_add(prompt / WRONG);
        let most = most.saturating_add(self.doubts());
        if most < self.amount && self.source == Source::Learned {
            self.amount = most.max(1);
        } else if most < self.amount {
            self.count.add(limit, self.amount, self.amount - most, now);
        }
        let frees = self.count.frees_at(limit, self.amount, prompt, now).unwrap_or(now);
        let known = self.loans.refused.filter(|known| now < known.until);
        let size = known.map_or(prompt, |known| known.size.min(prompt));
        self.loans.refused = Some(TooLarge { size, until: frees.saturating_add(IN_TRANSIT) });
        self.evidence.crowded = self.evidence.crowded.saturating_add(1);
        let loan = self.loans.out.iter().find(|loan| loan.sequence == charge.sequence);
        if loan.is_some_and(|loan| loan.likely) {
            self.evidence.lent /= 2;
            self.evidence.strict = self.evidence.strict.saturating_add(1);
            if let Some(more) = self.evidence.strict.checked_sub(MOST_REFUSALS) {
                self.evidence.strict_until = now.saturating_add((STRICT << more.min(10)).min(DAY));
            }
        }
        self.no_longer_lent(charge.sequence);
        self.dirty = true;
    }
}

// === impl Ledger ===

impl Ledger {
    /// The limit under which a request was refused that there was no room for, though by our count there was: the one
    /// under which it went into reserved room, else one on tokens that is as good as used up, and no other is.
    /// What was lent badly is noted. True where nothing more is to be drawn from it.
    pub(super) fn was_crowded_out(
        &mut self,
        unit: Option<Unit>,
        period: Option<Period>,
        model: &str,
        charge: &Charge,
        now: i64,
    ) -> bool {
        let lent = |rule: &Rule, key: &str| {
            rule.states.get(key).is_some_and(|state| state.is_lent_to(charge.sequence))
        };
        let window = period.unwrap_or(Period::MINUTE);
        let meant = |rule: &Rule| {
            let same = unit.is_none_or(|unit| rule.limit.unit == unit);
            let of_it = rule.limit.period == window && rule.limit.unit != Unit::Concurrent;
            of_it && same && is_settled(rule)
        };
        let found = self.applying(model).find(|(rule, key)| lent(rule, key)).or_else(|| {
            // Requests are counted exactly: where as many went well before, it is not they.
            let suspect = |rule: &Rule, state: &State| {
                let used = state.count.used(&rule.limit, state.amount, now);
                is_tokens(rule.limit.unit) || used > state.evidence.best || used > state.amount
            };
            let full = |rule: &Rule, key: &str| {
                let state = rule.states.get(key).filter(|state| suspect(rule, state));
                state.is_some_and(|state| state.is_as_good_as_full(&rule.limit, now))
            };
            let full = || self.applying(model).filter(|(rule, key)| meant(rule) && full(rule, key));
            let all_tokens = full().all(|(rule, _)| is_tokens(rule.limit.unit));
            full().next().filter(|(rule, key)| {
                let state = rule.states.get(*key);
                all_tokens && state.is_some_and(|state| state.may_be_wrong_by(&rule.limit, charge, now))
            })
        });
        let Some((id, key)) = found.map(|(rule, key)| (rule.id, key.to_owned())) else { return false };
        let Some(part) = charge.parts.iter().find(|part| part.rule == id) else { return false };
        let prompt = part.n.saturating_sub(part.output(charge.input_tokens));
        let Some(rule) = self.rules.iter_mut().find(|rule| rule.id == id) else { return false };
        let Some(state) = rule.states.get_mut(&key) else { return false };
        let (own, was_lent) = (rule.limit.source.is_own(), state.is_lent_to(charge.sequence));
        let by_the_clock = own && !rule.shown && state.goes_by_the_clock(&rule.limit, part.n, prompt, now);
        state.crowded(&rule.limit, charge, prompt, now);
        let alone = state.evidence.crowded < if was_lent { MOST_SMALLER } else { MOST_BELIEVED };
        if by_the_clock {
            rule.goes_by_the_clock(now);
            self.all_go_by_the_clock(now);
        }
        alone
    }
}

/// Whether it is known when the window of a limit moves. Of one that was drawn from refusals it is not, until minutes
/// turned out to be the clock's.
pub(super) fn is_settled(rule: &Rule) -> bool {
    !rule.limit.source.is_own() || rule.limit.window != Window::Rolling || rule.shown
}

/// Whether what is reserved of this unit for answers is lent.
pub(super) fn is_lent(unit: Unit, source: Source) -> bool {
    is_tokens(unit) && source != Source::Configured
}

/// Whether a prompt is smaller than another one by more than estimates of them are wrong by.
pub(super) fn is_smaller(prompt: u64, than: u64) -> bool {
    prompt.saturating_add(prompt / WRONG) < than
}

fn is_tokens(unit: Unit) -> bool {
    matches!(unit, Unit::Tokens | Unit::InputTokens | Unit::OutputTokens)
}

#[cfg(test)]
mod tests;
