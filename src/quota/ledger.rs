//! The ledger of one upstream account: reserves before dispatch, settles with what was used, and says what is in the
//! way and until when. Pure: time is passed in, and nothing here knows who asks or where it goes.
//!
//! Configured limits are hard. The catalogue's and what was drawn from refusals are guesses: they hold while anybody
//! else has capacity; when nobody has, one request at a time may exceed a guess ([`Mode::Probe`]); its success raises
//! the guess, a refusal fixes it. What the upstream states replaces a guess at once (`learn.rs`). What is reserved under
//! any other limit than the user's own is lent then (`borrow.rs`).

use std::collections::{BTreeMap, HashMap};

use super::Moment;
use super::admission::{Actual, Charge, Denial, Mode, Need, Part};
use super::lift::Broke;
use super::limit::{Limit, Period, Scope, Source, Unit};
use super::minute::Minute;
use super::shared::state_of_part;
use super::standing::{Block, MOST_MODELS, Out, Rule, State, state_of};
use super::window::{Counted, length};

/// A clock that goes back by less than this has not been set, only read on another core.
const STEADY: i64 = 5_000;
/// So many times the usual error of all that is out is kept free.
const SAFETY: f64 = 2.0;
/// Nothing is put off for longer than this, whatever an upstream says.
pub(super) const LONGEST: i64 = 32 * super::window::DAY;

/// One account's ledger.
#[derive(Debug)]
pub struct Ledger {
    pub(super) rules: Vec<Rule>,
    pub(super) blocks: BTreeMap<String, Block>,
    /// Requests and tokens of the last minute by model, to learn a limit from where none is known; "" is all.
    pub(super) minute: HashMap<String, Minute>,
    /// Requests that are out.
    pub(super) out: u64,
    /// The account's credits are used up.
    pub(super) broke: Option<Broke>,
    /// Keys of rows that are no more, to be written.
    pub(super) gone: Vec<String>,
    /// Limits that were taken out, with what they had counted.
    pub(super) former: Vec<Rule>,
    next_rule: u32,
    pub(super) sequence: u64,
    /// All was counted from this moment on.
    pub(super) began: i64,
    last: i64,
}

// === impl Ledger ===

impl Ledger {
    /// The ledger of an account with these limits.
    pub fn new(limits: Vec<Limit>) -> Self {
        let mut ledger = Ledger {
            rules: Vec::new(),
            blocks: BTreeMap::new(),
            minute: HashMap::new(),
            out: 0,
            broke: None,
            gone: Vec::new(),
            former: Vec::new(),
            next_rule: 0,
            sequence: 0,
            began: i64::MIN,
            last: i64::MIN,
        };
        for limit in limits {
            ledger.add_rule(limit);
        }
        ledger
    }

    pub(super) fn add_rule(&mut self, limit: Limit) -> usize {
        let rule = self.new_rule(limit);
        self.rules.push(rule);
        self.rules.len() - 1
    }

    pub(super) fn new_rule(&mut self, limit: Limit) -> Rule {
        self.next_rule += 1;
        Rule {
            id: self.next_rule,
            limit,
            shown: false,
            ways: Vec::new(),
            unnamed: false,
            elsewhere: 0,
            joined: None,
            states: HashMap::new(),
        }
    }

    /// Whether a request would be admitted, guesses holding. Changes nothing.
    ///
    /// # Errors
    /// What is in the way.
    pub fn check(&self, need: &Need<'_>, now: Moment) -> Result<(), Denial> {
        self.would_admit(need, Mode::Keep, now)
    }

    /// Whether a request would be admitted in this mode. Changes nothing.
    ///
    /// # Errors
    /// What is in the way.
    pub fn would_admit(&self, need: &Need<'_>, mode: Mode, now: Moment) -> Result<(), Denial> {
        match self.look(need, self.steady(now), mode).0 {
            Some(found) if mode == Mode::Keep || !found.denial.probe => Err(found.denial),
            _ => Ok(()),
        }
    }

    /// Reserves what a request needs under all limits that apply, or nothing.
    ///
    /// # Errors
    /// What is in the way.
    pub fn admit(&mut self, need: &Need<'_>, mode: Mode, now: Moment) -> Result<Charge, Denial> {
        let now = self.heed(now);
        let (found, lent) = self.look(need, now, mode);
        let mut exceeded: Vec<u32> = Vec::new();
        if let Some(found) = found {
            if mode == Mode::Keep || !found.denial.probe {
                return Err(found.denial);
            }
            exceeded = found.guesses;
        }
        self.sequence += 1;
        let sequence = self.sequence;
        for scope in ["", need.model] {
            if let Some(block) =
                self.blocks.get_mut(scope).filter(|block| block.until > now || block.strikes > 0)
            {
                block.probe = Some(sequence);
            }
        }
        let mut parts = Vec::new();
        for rule in &mut self.rules {
            let Some(key) = rule.key_for(need.model) else { continue };
            let limit = &rule.limit;
            let hard = limit.source == Source::Configured;
            if limit.period == Period::Request && exceeded.contains(&rule.id) {
                let state = state_of(&mut rule.states, limit, key, now);
                state.probe = Some(sequence);
                parts.push(Part { rule: rule.id, key: key.to_owned(), n: 0, unit: limit.unit, before: 0 });
            }
            if limit.period == Period::Request || need.is_nothing(limit.unit) {
                continue;
            }
            let state = state_of(&mut rule.states, limit, key, now);
            let n = need.reserves(limit.unit, state.amount, hard);
            let before = state.spent(limit, now);
            state.count.add(limit, state.amount, n, now);
            let part = Part { rule: rule.id, key: key.to_owned(), n, unit: limit.unit, before };
            state.out.push(Out {
                sequence,
                at: now,
                n,
                output: part.output(need.input_tokens),
                left: n,
                counted: false,
                spread: need.reserved_spread(limit.unit, hard),
            });
            state.asked = now;
            state.promise = state.promise.filter(|promise| promise.at > now);
            state.dirty = true;
            if exceeded.contains(&rule.id) {
                state.probe = Some(sequence);
            }
            if lent.contains(&rule.id) {
                state.lend(sequence, mode, now);
            }
            parts.push(part);
        }
        self.count_minute(need.model, need.of(Unit::Tokens), now);
        self.out = self.out.saturating_add(1);
        Ok(Charge {
            sequence,
            at: now,
            parts,
            input_tokens: need.input_tokens,
            output_tokens: need.output_tokens,
            stream: need.stream,
        })
    }

    /// The request is over: what it used takes the place of what was reserved.
    pub fn settle(&mut self, charge: Charge, actual: Actual, now: Moment) {
        let now = self.heed(now);
        self.end(&charge, now);
        for part in &charge.parts {
            self.close(part, &charge, Some(actual), now);
        }
    }

    /// The request was never sent: nothing was used.
    pub fn refund(&mut self, charge: Charge, now: Moment) {
        let now = self.heed(now);
        self.end(&charge, now);
        for part in &charge.parts {
            self.close(part, &charge, None, now);
        }
    }

    fn end(&mut self, charge: &Charge, now: i64) {
        self.out = self.out.saturating_sub(1);
        self.leaves(charge, now);
        self.free_blocks(charge);
    }

    fn free_blocks(&mut self, charge: &Charge) {
        for block in self.blocks.values_mut().filter(|block| block.probe == Some(charge.sequence)) {
            block.probe = None;
        }
    }

    /// One part of a charge is over; without `actual` it was never sent.
    fn close(&mut self, part: &Part, charge: &Charge, actual: Option<Actual>, now: i64) {
        let Some(rule) = self.rules.iter_mut().find(|rule| rule.id == part.rule) else { return };
        let Some(state) = state_of_part(&mut rule.states, &part.key) else { return };
        state.dirty = true;
        if state.probe == Some(charge.sequence) {
            state.probe = None;
        }
        state.no_longer_lent(charge.sequence);
        if rule.limit.period == Period::Request {
            // A ceiling counts nothing.
            return;
        }
        let place = state.out.iter().position(|out| out.sequence == charge.sequence);
        let out = place.map(|place| state.out.swap_remove(place));
        let (reserved, used) = match out.filter(|out| out.counted) {
            // The upstream's own count has it, but for what of the answer came after its word.
            Some(Out { left, .. }) => {
                let output = actual.and_then(|actual| actual.output_tokens);
                (left, output.filter(|_| left > 0).unwrap_or(left))
            }
            // Upstreams do not count what they refuse; under the user's own limit it was sent all the same.
            None if rule.limit.source == Source::Configured && part.unit == Unit::Requests => {
                (part.n, actual.map_or(0, |_| part.n))
            }
            None => (part.n, actual.map_or(0, |actual| charge.used(part, actual))),
        };
        // An answer counts from when it is given on, whatever was reserved for it when its prompt was sent.
        let is_answered = matches!(part.unit, Unit::Tokens | Unit::OutputTokens);
        let answer = actual.and_then(|actual| actual.output_tokens).filter(|_| is_answered);
        let answer = answer.map_or(0, |tokens| tokens.min(used));
        let (limit, amount, prompt) = (&rule.limit, state.amount, used - answer);
        if reserved > prompt {
            let never = used == 0;
            let counted = Counted { all: never, ..part.counted(charge.at.min(now), reserved - prompt) };
            state.count.take_back(limit, amount, counted, now);
        }
        let more = prompt.saturating_sub(reserved);
        if more > 0 {
            state.count.add_to(limit, amount, charge.at.min(now), more, now);
        }
        if answer > 0 {
            state.count.give(limit, amount, answer, now);
        }
        if let Some(actual) = actual.filter(|actual| !actual.refused) {
            let taken = charge.used(part, actual);
            let given = actual.output_tokens.filter(|_| is_answered).map_or(0, |tokens| tokens.min(taken));
            let sent = charge.at.min(now);
            state.takes(taken - given, sent);
            state.takes(given, now);
            state.took(&rule.limit, sent, taken - given, given, now);
        }
    }

    /// Whether no request is out.
    pub fn is_idle(&self) -> bool {
        self.out == 0
    }

    /// The smallest share left of all limits that apply to a request; 1 where there are none.
    pub fn share_left(&self, need: &Need<'_>, now: Moment) -> f64 {
        let now = self.steady(now);
        let mut share: f64 = 1.0;
        for (rule, key) in self.applying(need.model) {
            let Some(state) = rule.states.get(key) else { continue };
            if rule.limit.period == Period::Request || state.amount == 0 {
                continue;
            }
            let used = state.count.used(&rule.limit, state.amount, now).min(state.amount);
            #[expect(clippy::cast_precision_loss, reason = "a share needs no more than a few digits")]
            let left = (state.amount - used) as f64 / state.amount as f64;
            share = share.min(left);
        }
        share
    }

    /// When what is left now of the longest window is lost or given back: that window is the tier, shorter ones within
    /// it only say how fast it may be spent. `None`: there is none.
    pub fn next_reset(&self, need: &Need<'_>, now: Moment) -> Option<Moment> {
        let now = self.steady(now);
        let windows = self.applying(need.model).filter_map(|(rule, key)| {
            let limit = &rule.limit;
            if limit.unit == Unit::Concurrent || limit.period == Period::Request {
                return None;
            }
            let renewed = match rule.states.get(key) {
                Some(state) => state.count.renewed_at(limit, state.amount, now),
                None => State::new(limit, now).count.renewed_at(limit, limit.amount, now),
            };
            Some((length(limit.period), renewed))
        });
        windows.max().map(|(_, renewed)| Moment(renewed))
    }

    /// Whether a request for the one model could take a place for which one for the other waits. It cannot where the
    /// latter waits for a place that the former does not need.
    pub fn takes_place_of(&self, waiting: &str, asking: &str) -> bool {
        let mut contends = false;
        for (rule, key) in self.applying(waiting).filter(|(rule, _)| rule.limit.unit == Unit::Concurrent) {
            if rule.key_for(asking) == Some(key) {
                contends = true;
                continue;
            }
            let is_full = |state: &State| state.count.used(&rule.limit, state.amount, 0) >= state.amount;
            if rule.states.get(key).is_some_and(is_full) {
                return false;
            }
        }
        contends
    }

    pub(super) fn applying<'s>(&'s self, model: &'s str) -> impl Iterator<Item = (&'s Rule, &'s str)> {
        self.rules.iter().filter_map(move |rule| Some((rule, rule.key_for(model)?)))
    }

    /// The time to go by. What was counted by a clock that was ahead counts from now on.
    pub(super) fn heed(&mut self, now: Moment) -> i64 {
        if self.last != i64::MIN && now.0 < self.last.saturating_sub(STEADY) {
            let delta = now.0.saturating_sub(self.last);
            for rule in &mut self.rules {
                for state in rule.states.values_mut() {
                    state.count.not_after(&rule.limit, now.0);
                    let rest = state.evidence.rest_until.saturating_add(delta);
                    state.evidence.rest_until = state.evidence.rest_until.min(rest.max(0));
                    let strict = state.evidence.strict_until.saturating_add(delta);
                    state.evidence.strict_until = state.evidence.strict_until.min(strict.max(0));
                    state.dirty = true;
                }
            }
            for block in self.blocks.values_mut() {
                block.until = block.until.saturating_add(delta);
                block.try_at = block.try_at.saturating_add(delta);
                block.dirty = true;
            }
            self.minute.clear();
            self.began = now.0;
            self.last = now.0;
        }
        if self.began == i64::MIN {
            self.began = now.0;
        }
        self.last = self.last.max(now.0);
        self.last
    }

    pub(super) fn steady(&self, now: Moment) -> i64 {
        if now.0 < self.last.saturating_sub(STEADY) { now.0 } else { now.0.max(self.last) }
    }

    fn count_minute(&mut self, model: &str, tokens: u64, now: i64) {
        if self.minute.len() > MOST_MODELS {
            self.minute.clear();
            self.began = now;
        }
        for key in ["", model] {
            match self.minute.get_mut(key) {
                Some(minute) => minute.count(tokens, now),
                None => self.minute.entry(key.to_owned()).or_default().count(tokens, now),
            }
        }
    }
}

/// What is kept free for errors of estimates, of this sum of squares.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "never negative, and saturates")]
pub(super) fn safety(spread: f64) -> u64 {
    (SAFETY * spread.sqrt()) as u64
}

// === impl Limit ===

impl Limit {
    /// Where a model's requests are counted under this limit; `None`: it does not apply to it.
    pub(super) fn key_for<'m>(&self, model: &'m str) -> Option<&'m str> {
        match &self.scope {
            Scope::Account => Some(""),
            Scope::Pool(glob) => glob.matcher.is_match(model).then_some(""),
            Scope::Each(glob) => glob.matcher.is_match(model).then_some(model),
        }
    }
}

#[cfg(test)]
mod tests;
