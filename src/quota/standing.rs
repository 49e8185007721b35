//! How each limit of an account stands: for whom it counts, what is out under it, what speaks for and against a guess;
//! and which scopes are not asked for a while. Pure data with what can be said of one entry alone.

use std::collections::{HashMap, VecDeque};

use super::admission::{Cause, Charge, Need};
use super::borrow::{Loans, is_smaller};
use super::clock::Sent;
use super::course::{Course, Way};
use super::ledger::safety;
use super::limit::{Limit, Scope, Source, Unit};
use super::said::RefusalClass;
use super::window::{Count, IN_TRANSIT, ceil, emptied, length, precise};

/// No more models are counted apart than this; the one that was not asked for longest is forgotten.
pub(super) const MOST_MODELS: usize = 2_000;
/// So much of what was taken last is remembered, to know of what a statement cannot tell yet.
const MOST_TAKEN: usize = 128;

/// One limit and what was counted under it.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) id: u32,
    pub(super) limit: Limit,
    /// Where nobody told how its minute moves, that was shown.
    pub(super) shown: bool,
    /// Where nobody told how its hours or days move: the ways that nothing speaks against, the one that is thought first.
    pub(super) ways: Vec<Way>,
    /// Its length is a guess, too.
    pub(super) unnamed: bool,
    /// How often in a row models were refused that it was not learned for, while it was used up.
    pub(super) elsewhere: u32,
    /// It came when requests up to this one were out, which are counted although they were not charged for it.
    pub(super) joined: Option<u64>,
    /// By model, where each has the limit for itself; else under "".
    pub(super) states: HashMap<String, State>,
}

/// How one limit stands for one model, or for all.
#[derive(Debug, Clone)]
pub(super) struct State {
    pub(super) count: Count,
    pub(super) amount: u64,
    pub(super) source: Source,
    /// When the amount was learned or stated.
    pub(super) since: Option<i64>,
    /// Requests that are out.
    pub(super) out: Vec<Out>,
    /// The request that exceeds the guess now.
    pub(super) probe: Option<u64>,
    /// What it took by our own account, as far as that shows how its minute moves.
    pub(super) sent: Sent,
    /// What was seen of how its hours or days move.
    pub(super) course: Course,
    /// What was sent into room that is only reserved.
    pub(super) loans: Loans,
    /// What those took that are over, prompts when they were sent and answers when they were given; the last ones.
    pub(super) taken: VecDeque<(i64, u64)>,
    /// Requests up to this one were out when the upstream last stated something.
    pub(super) stated: u64,
    pub(super) asked: i64,
    pub(super) dirty: bool,
    pub(super) evidence: Evidence,
    /// What the upstream said will fit again, and when.
    pub(super) promise: Option<Promise>,
}

/// The upstream refused a request under a stated limit, and said when it fits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Promise {
    pub(super) at: i64,
    /// What it was thought to take.
    pub(super) n: u64,
    /// What of that was its prompt's.
    pub(super) prompt: u64,
    /// The square of what that may be wrong by.
    pub(super) spread: f64,
}

/// A request that is out, as far as it concerns one limit.
#[derive(Debug, Clone)]
pub(super) struct Out {
    pub(super) sequence: u64,
    /// When it was sent.
    pub(super) at: i64,
    /// What it reserved.
    pub(super) n: u64,
    /// What of that is its answer's.
    pub(super) output: u64,
    /// What of it is in our count and not in the upstream's, as far as that has told of its own.
    pub(super) left: u64,
    /// The upstream's last word has it in its count.
    pub(super) counted: bool,
    /// The square of what `n` may be wrong by.
    pub(super) spread: f64,
}

/// What refusals and successes say about a guess.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    /// It is not exceeded before this moment, after a refusal.
    pub(super) rest_until: i64,
    /// How often in a row exceeding it was refused.
    pub(super) refusals: u32,
    /// How often in a row exceeding it went well.
    pub(super) successes: u32,
    /// The most that was served within one window.
    pub(super) best: u64,
    /// How often in a row less than that was refused: another user of the key may have had the rest.
    pub(super) doubts: u32,
    /// No request is sent into room that is only reserved before this moment, after some were refused there.
    pub(super) strict_until: i64,
    /// How often in a row that was refused, and how often it went well, less for each refusal.
    pub(super) strict: u32,
    pub(super) lent: u32,
    /// How often in a row a request was refused for which there was room by our own count, but for estimates.
    pub(super) crowded: u32,
    /// The least that was refused, of tokens that were used and asked for; none: 0. Between that and the limit nothing
    /// is known.
    pub(super) over: u64,
    /// How often it was exceeded in vain because a minute of the clock was over.
    pub(super) turns: u32,
    /// At which counts it was refused, where the window is not known.
    pub(super) refused_at: Option<Refusals>,
}

/// What was counted when requests were refused, at least and at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Refusals {
    /// When the clock's minute began, the last time.
    pub(super) minute: i64,
    /// What was counted since then.
    pub(super) since: (u64, u64),
    /// What was counted in the sixty seconds before.
    pub(super) rolling: (u64, u64),
}

/// A scope that is not asked for a while.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub(super) struct Block {
    pub(super) until: i64,
    pub(super) class: RefusalClass,
    /// How often in a row, so that it is longer each time where nothing says how long.
    pub(super) strikes: u32,
    /// The upstream did not say how long.
    #[serde(default)]
    pub(super) guess: bool,
    /// Where it did not say what was used up either: when a lone request may try, before `until`, if nobody else has
    /// capacity.
    #[serde(default)]
    pub(super) try_at: i64,
    /// How often in a row that was in vain.
    #[serde(default)]
    pub(super) tries: u32,
    /// The smallest prompt that was refused since it began, in tokens.
    #[serde(default)]
    pub(super) size: Option<u64>,
    /// How often in a row it was refused before the last success, less for each time that enough were served since.
    #[serde(default)]
    pub(super) before: u32,
    /// How many were served since.
    #[serde(default)]
    pub(super) served: u32,
    /// Our own count says when it is over, and goes on counting then.
    #[serde(default)]
    pub(super) counted: bool,
    /// And it is known how its window moves.
    #[serde(default)]
    pub(super) settled: bool,
    /// It was said to be about tokens, so that how long it lasts goes by the size.
    #[serde(default)]
    pub(super) of_tokens: bool,
    /// The request that tries it now.
    #[serde(skip)]
    pub(super) probe: Option<u64>,
    /// Requests up to this one were out when it was refused; their success says nothing.
    #[serde(skip)]
    pub(super) after: u64,
    #[serde(skip)]
    pub(super) dirty: bool,
}

/// The state under a key, made when it is first asked for.
pub(super) fn state_of<'s>(
    states: &'s mut HashMap<String, State>,
    limit: &Limit,
    key: &str,
    now: i64,
) -> &'s mut State {
    if states.len() >= MOST_MODELS && !states.contains_key(key) {
        let oldest =
            states.iter().filter(|(_, state)| state.out.is_empty()).min_by_key(|(_, state)| state.asked);
        if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
            states.remove(&oldest);
        }
    }
    states.entry(key.to_owned()).or_insert_with(|| State::new(limit, now))
}

// === impl Rule ===

impl Rule {
    /// Whether something was counted under this key.
    pub(super) fn has(&self, key: &str) -> bool {
        self.states.contains_key(key)
    }

    /// Where a model's requests are counted under this rule; `None`: it does not apply to it. What one model taught
    /// is no guess at another.
    pub(super) fn key_for<'m>(&self, model: &'m str) -> Option<&'m str> {
        let key = self.limit.key_for(model)?;
        let own = self.limit.source.is_own() && matches!(self.limit.scope, Scope::Each(_));
        (!own || self.states.contains_key(key)).then_some(key)
    }
}

// === impl State ===

impl State {
    pub(super) fn new(limit: &Limit, now: i64) -> Self {
        State {
            count: Count::new(limit, now),
            amount: limit.amount,
            source: limit.source,
            since: None,
            out: Vec::new(),
            probe: None,
            sent: Sent::new(now),
            course: Course::default(),
            loans: Loans::default(),
            taken: VecDeque::new(),
            stated: 0,
            asked: now,
            dirty: false,
            evidence: Evidence::default(),
            promise: None,
        }
    }

    /// What answers will take of this window that were asked for in the one before.
    pub(super) fn crossing(&self, limit: &Limit, now: i64) -> u64 {
        let began = match &self.count {
            Count::Rolling { .. } => Some(now.saturating_sub(length(limit.period)).saturating_add(1)),
            Count::Bucket { .. } if self.source == Source::Configured => return self.drained(limit, now),
            count => count.began(limit, now),
        };
        let Some(began) = began else { return 0 };
        let crossing = self.out.iter().filter(|out| out.at < began).map(Out::expected);
        crossing.fold(0, u64::saturating_add)
    }

    /// What has drained from a bucket that was reserved for answers which are still to come.
    fn drained(&self, limit: &Limit, now: i64) -> u64 {
        let drained = self.out.iter().map(|out| {
            let expected = precise(out.expected());
            ceil(expected - emptied(expected, out.at, limit, self.amount, now))
        });
        drained.fold(0, u64::saturating_add)
    }

    /// What was sent since then and is over, and the answers that were given since.
    pub(super) fn taken_since(&self, moment: i64) -> u64 {
        let later = self.taken.iter().filter(|(at, _)| *at > moment).map(|(_, tokens)| *tokens);
        later.fold(0, u64::saturating_add)
    }

    /// What was reserved for those that were sent after this one.
    pub(super) fn sent_after(&self, charge: &Charge) -> u64 {
        let later = self.out.iter().filter(|out| out.sequence > charge.sequence);
        later.fold(0, |sum, out| out.n.saturating_add(sum))
    }

    /// What was reserved for the prompts of those that were sent after this one, and may have come before it.
    pub(super) fn sent_beside(&self, charge: &Charge) -> u64 {
        let until = charge.at.saturating_add(IN_TRANSIT);
        let beside = self.out.iter().filter(|out| out.sequence > charge.sequence && out.at <= until);
        beside.fold(0, |sum, out| out.n.saturating_sub(out.output).saturating_add(sum))
    }

    /// What estimates of all that is out may be wrong by.
    pub(super) fn doubts(&self) -> u64 {
        safety(self.out.iter().map(|out| out.spread).sum())
    }

    /// A request that is over took so much at that moment.
    pub(super) fn takes(&mut self, n: u64, at: i64) {
        if n == 0 {
            return;
        }
        if self.taken.len() >= MOST_TAKEN {
            self.taken.pop_front();
        }
        self.taken.push_back((at, n));
    }

    /// Nine tenths of it are used, by our own count.
    pub(super) fn is_as_good_as_full(&self, limit: &Limit, now: i64) -> bool {
        let used = self.count.used(limit, self.amount, now);
        used.saturating_mul(10) >= self.amount.saturating_mul(9)
    }
}

// === impl Promise ===

/// Two estimates that differ by less than such a part are of the same request.
const SAME: u64 = 200;

impl Promise {
    /// Whether it holds for this request, too: it is the same one, or smaller whatever estimates of the two are wrong by.
    pub(super) fn is_for(&self, need: &Need<'_>, unit: Unit) -> bool {
        let (n, prompt) = (need.of(unit), need.at_least(unit));
        let about = |one: u64, other: u64| one.abs_diff(other) <= other / SAME;
        let off = safety(self.spread + need.prompt_spread(unit));
        about(n, self.n) && about(prompt, self.prompt)
            || n <= self.n && prompt.saturating_add(off) <= self.prompt
    }
}

// === impl Out ===

impl Out {
    /// What of our count is kept for its answer, which nobody has counted yet.
    pub(super) fn expected(&self) -> u64 {
        if self.counted { self.left } else { self.output }
    }
}

// === impl Block ===

/// What is put off without a word is tried again after this, and each time in vain after three times as long.
const FIRST_TRY: i64 = 10_000;
/// And at least so often.
const LAST_TRY: i64 = 3_600_000;

/// What is refused again after fewer than these is as used up as it was.
const FEW: u32 = 10;

impl Block {
    /// How often in a row it was refused, with a few that were served in between.
    pub(super) fn in_a_row(&self) -> u32 {
        self.strikes.max(self.before)
    }

    /// A request was served.
    pub(super) fn serves(&mut self) {
        if self.strikes > 0 {
            (self.before, self.strikes, self.served, self.dirty) = (self.strikes, 0, 0, true);
        }
        self.served = self.served.saturating_add(1);
        if self.served >= FEW && self.before + self.tries > 0 {
            self.before = self.before.saturating_sub(1);
            (self.tries, self.served, self.dirty) = (0, 0, true);
        }
    }

    /// When a lone request may try before it is over; `None`: it has to last.
    pub(super) fn tried_at(&self) -> Option<i64> {
        (self.guess && self.class == RefusalClass::Window(None) && !(self.is_sure() && self.settled))
            .then_some(self.try_at)
    }

    /// After so many tries in vain the next one comes then.
    pub(super) fn next_try(tries: u32, now: i64) -> i64 {
        now.saturating_add(FIRST_TRY.saturating_mul(3_i64.saturating_pow(tries)).min(LAST_TRY))
    }

    /// It is a reason to ask others first, but none to fail a request that nobody else can answer.
    pub(super) fn is_soft(&self) -> bool {
        matches!(self.class, RefusalClass::NotServed | RefusalClass::Overloaded)
    }

    /// A prompt of so many tokens was refused.
    pub(super) fn refuses(&mut self, size: u64) {
        self.size = Some(self.size.map_or(size, |known| known.min(size)));
    }

    /// A prompt of so many tokens may fit although others were refused.
    pub(super) fn may_fit(&self, size: u64) -> bool {
        let smaller = |known: u64| is_smaller(size, known);
        self.is_sure() && self.settled && self.size.is_none_or(smaller)
            || self.of_tokens && self.size.is_some_and(smaller)
    }

    /// Our own count says how long it lasts; where it was wrong before, that is not sure.
    pub(super) fn is_sure(&self) -> bool {
        self.counted && self.strikes <= 1
    }

    /// It is over, and one request finds out whether all is well again: the others come after it.
    pub(super) fn is_tried(&self) -> bool {
        self.strikes > 0
            && !self.is_sure()
            && self.probe.is_some()
            && matches!(self.class, RefusalClass::Window(_))
    }

    pub(super) fn cause(&self) -> Cause {
        match self.class {
            RefusalClass::NoAllowance => Cause::NoAllowance,
            RefusalClass::Payment => Cause::Payment,
            RefusalClass::ModelGone => Cause::ModelGone,
            RefusalClass::NotServed => Cause::NotServed,
            RefusalClass::Overloaded => Cause::Overloaded,
            _ if self.guess => Cause::Refused,
            _ => Cause::Cooldown,
        }
    }
}
