//! The ledger of one upstream account: reserves before dispatch, settles with what was used, and says what is in the
//! way and until when. Pure: time is passed in, and nothing here knows who asks or where it goes.
//!
//! Configured limits are hard. The catalogue's and what was drawn from refusals are guesses: they hold while anybody
//! else has capacity; when nobody has, one request at a time may exceed a guess ([`Mode::Probe`]); its success raises
//! the guess, a refusal fixes it. What the upstream states replaces a guess at once (`learn.rs`). What is reserved under
//! any other limit than the user's own is lent then (`borrow.rs`).

use std::collections::{BTreeMap, HashMap};

use super::Moment;
use super::admission::{Actual, Cause, Charge, Denial, Mode, Need, Part};
use super::again::AT_ONCE;
use super::borrow::{Room, is_lent};
use super::lift::Broke;
use super::limit::{Limit, Period, Scope, Source, Unit};
use super::minute::Minute;
use super::standing::{Block, MOST_MODELS, Out, Rule, State, state_of};
use super::window::{IN_TRANSIT, length};

/// A clock that goes back by less than this has not been set, only read on another core.
const STEADY: i64 = 5_000;
/// While one request finds out whether a pause is really over, or what is reserved is taken, the others come again
/// after this.
const TRY: i64 = 250;
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
    next_rule: u32,
    pub(super) sequence: u64,
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
            next_rule: 0,
            sequence: 0,
            last: i64::MIN,
        };
        for limit in limits {
            ledger.add_rule(limit);
        }
        ledger
    }

    pub(super) fn add_rule(&mut self, limit: Limit) -> usize {
        self.next_rule += 1;
        self.rules.push(Rule { id: self.next_rule, limit, shown: false, states: HashMap::new() });
        self.rules.len() - 1
    }

    /// Whether a request would be admitted, guesses holding. Changes nothing.
    ///
    /// # Errors
    /// What is in the way.
    pub fn check(&self, need: &Need<'_>, now: Moment) -> Result<(), Denial> {
        self.look(need, self.steady(now), Mode::Keep).0.map_or(Ok(()), |found| Err(found.denial))
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
                parts.push(Part { rule: rule.id, key: key.to_owned(), n: 0, unit: limit.unit });
            }
            if limit.period == Period::Request || (need.of(limit.unit) == 0 && limit.unit != Unit::Concurrent)
            {
                continue;
            }
            let state = state_of(&mut rule.states, limit, key, now);
            let n = need.reserves(limit.unit, state.amount, hard);
            state.count.add(limit, state.amount, n, now);
            let part = Part { rule: rule.id, key: key.to_owned(), n, unit: limit.unit };
            state.out.push(Out {
                sequence,
                at: now,
                n,
                output: part.output(need.input_tokens),
                left: n,
                counted: false,
                spread: need.spread(limit.unit),
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
        self.end(&charge);
        for part in &charge.parts {
            self.close(part, &charge, Some(actual), now);
        }
    }

    /// The request was never sent: nothing was used.
    pub fn refund(&mut self, charge: Charge, now: Moment) {
        let now = self.heed(now);
        self.end(&charge);
        for part in &charge.parts {
            self.close(part, &charge, None, now);
        }
    }

    fn end(&mut self, charge: &Charge) {
        self.out = self.out.saturating_sub(1);
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
        let Some(state) = rule.states.get_mut(&part.key) else { return };
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
            state.count.take_back(limit, amount, charge.at.min(now), reserved - prompt, now);
        }
        let more = prompt.saturating_sub(reserved).saturating_add(answer);
        if more > 0 {
            state.count.add(limit, amount, more, now);
        }
        if answer > 0 {
            state.answers(answer, now);
        }
        if let Some(actual) = actual.filter(|actual| !actual.refused) {
            let taken = charge.used(part, actual);
            let given = actual.output_tokens.filter(|_| is_answered).map_or(0, |tokens| tokens.min(taken));
            state.took(&rule.limit, charge.at.min(now), taken - given, given, now);
        }
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

    /// What is in the way of a request, and under which limits it goes into room that is only reserved.
    fn look(&self, need: &Need<'_>, now: i64, mode: Mode) -> (Option<Found>, Vec<u32>) {
        let mut found: Option<Found> = None;
        let mut lent = Vec::new();
        let mut met =
            |cause: Cause, until: Option<i64>, limit: &dyn Fn() -> String, guess: Option<(u32, bool)>| {
                let probe = guess.is_some_and(|(_, free)| free);
                let new = Denial { cause, until: until.map(Moment), limit: limit(), probe };
                let known = found.take();
                found = Some(match known {
                    None => Found { denial: new, guesses: guess.map(|(id, _)| id).into_iter().collect() },
                    Some(mut known) => {
                        known.guesses.extend(guess.map(|(id, _)| id));
                        let probe = known.denial.probe && new.probe;
                        // What lasts longer counts; what no time frees, longest.
                        if rank(&new) > rank(&known.denial) {
                            known.denial = new;
                        }
                        known.denial.probe = probe;
                        known
                    }
                });
            };
        // Who cannot wait does not wait for the one that finds out, and goes as soon as it may fit: what left a window
        // here has left it at the upstream, too, or does before this one is there.
        let cannot_wait = matches!(mode, Mode::Last | Mode::Alone);
        // When a lone request may try what was put off without a word, whatever that taught of a minute.
        let mut lone: Option<i64> = None;
        if mode == Mode::Keep && self.is_broke_for(need.model) {
            met(Cause::Payment, None, &String::new, Some((0, true)));
        }
        for scope in ["", need.model] {
            if let Some(block) = self.blocks.get(scope).filter(|block| block.until > now) {
                if block.is_soft() {
                    if mode == Mode::Keep {
                        met(block.cause(), Some(block.until), &String::new, Some((0, true)));
                    }
                    continue;
                }
                if mode == Mode::Last && block.may_fit(need.input_tokens) {
                    continue;
                }
                let tried_at = block.tried_at();
                lone = lone.max(tried_at);
                let may = block.guess && (mode == Mode::Alone || tried_at.is_some_and(|at| at <= now));
                let guess = may.then_some((0, block.probe.is_none()));
                let until =
                    tried_at.map_or(block.until, |at| at.max(now.saturating_add(TRY)).min(block.until));
                let words = || "refused a request without saying for how long".to_owned();
                met(block.cause(), Some(until), &words, guess);
            } else if !cannot_wait && self.blocks.get(scope).is_some_and(Block::is_tried) {
                let words =
                    || "refused a request, and another one finds out whether it still would".to_owned();
                met(Cause::Refused, Some(now.saturating_add(TRY)), &words, None);
            }
        }
        for (rule, key) in self.applying(need.model) {
            let limit = &rule.limit;
            let known = rule.states.get(key);
            let (amount, source) =
                known.map_or((limit.amount, limit.source), |state| (state.amount, state.source));
            let guess = source.is_guess();
            let likely = need.of(limit.unit);
            let n = need.reserves(limit.unit, amount, source == Source::Configured);
            let out: f64 = known.map_or(0.0, |state| state.out.iter().map(|out| out.spread).sum());
            // No request is held up for ever by what it might be wrong by.
            let n = n.max(n.saturating_add(safety(out + need.spread(limit.unit))).min(amount));
            let name = || limit.named(amount);
            let beyond = || need.exceeding(&name(), limit.unit, amount, source == Source::Configured);
            if source == Source::Configured
                && let Some(longest) = need.longest(limit.unit).filter(|longest| *longest > amount)
                && need.at_least(limit.unit) <= amount
            {
                let words = || {
                    let most = need.most_output.unwrap_or(0);
                    format!("{} (with max_tokens = {most} it may take {longest}; lower max_tokens)", name())
                };
                met(Cause::NeverFits, None, &words, None);
                continue;
            }
            if limit.period == Period::Request {
                if likely > amount {
                    // What was drawn from a refusal is a guess at the size of what was refused.
                    let probing = (source == Source::Learned).then(|| {
                        let rests = |state: &State| mode != Mode::Alone && state.evidence.rest_until > now;
                        (rule.id, known.is_none_or(|state| state.probe.is_none() && !rests(state)))
                    });
                    met(Cause::NeverFits, None, &beyond, probing);
                }
                continue;
            }
            // The user's own counts from its sending on, whenever it arrives.
            let arrived = now.saturating_sub(match source {
                Source::Configured if cannot_wait => AT_ONCE,
                _ if mode == Mode::Alone => 0,
                _ => IN_TRANSIT,
            });
            let used = known.map_or(0, |state| {
                state.count.used(limit, amount, arrived).saturating_add(state.crossing(limit, now))
            });
            let over = if limit.unit == Unit::Percent {
                used >= amount
            } else {
                n > 0 && used.saturating_add(n) > amount
            };
            let promise = known.and_then(|state| state.promise).filter(|promise| likely <= promise.n);
            if !over || promise.is_some_and(|promise| promise.at <= now) {
                continue;
            }
            let room = known.map_or(Room::Taken, |state| state.room(need, limit, used, mode, now));
            if room == Room::Lent && mode != Mode::Keep {
                lent.push(rule.id);
                continue;
            }
            // Where there is nobody else at all, trying beats waiting.
            let lone =
                lone.filter(|_| guess && limit.period == Period::MINUTE && limit.unit != Unit::Concurrent);
            let rests = |state: &State| {
                let tries = mode == Mode::Alone
                    || lone.is_some_and(|at| at <= now)
                    || state.has_turned(limit, now)
                    || state.is_half_way(used.saturating_add(need.at_least(limit.unit)));
                state.evidence.rest_until > now && !tries
            };
            let free = |state: &State| state.probe.is_none() && !rests(state);
            let probing = guess.then(|| (rule.id, known.is_none_or(free)));
            let turned = known.is_some_and(|state| rule.may_have_turned(state, now));
            let probing = probing.or(turned.then_some((rule.id, true)));
            if limit.unit == Unit::Concurrent {
                met(Cause::Full, None, &name, probing);
            } else if n > amount && source != Source::Learned {
                met(Cause::NeverFits, None, &beyond, probing);
            } else {
                // What is kept for its answer is lent, so that its prompt is what has to fit.
                let prompt = need.at_least(limit.unit).saturating_add(safety(need.spread(limit.unit)));
                let least = match limit.unit {
                    Unit::Percent => 1,
                    _ if is_lent(limit.unit, source) => n.min(prompt).min(amount),
                    _ => n.min(amount),
                };
                let frees = known.and_then(|state| state.count.frees_at(limit, amount, least, arrived));
                let until = frees.map_or(now, |frees| frees.saturating_add(IN_TRANSIT));
                // A guess may be exceeded when its rest is over, which may be before that.
                let rest =
                    known.map(|state| state.rests_until(limit, now)).filter(|rest| guess && *rest > now);
                let until = rest.map_or(until, |rest| rest.min(until));
                let until = promise.map_or(until, |promise| promise.at.min(until));
                let until = known.map_or(until, |state| rule.may_turn_at(state, now).min(until));
                let until = lone.map_or(until, |at| at.max(now.saturating_add(TRY)).min(until));
                let is_tried = known.is_some_and(|state| state.probe.is_some());
                let soon = Some(now.saturating_add(TRY)).filter(|_| room != Room::Taken || is_tried);
                let until = soon.map_or(until, |soon| soon.min(until));
                met(Cause::Window, Some(until), &name, probing);
            }
        }
        (found, lent)
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
            self.last = now.0;
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
        }
        for key in ["", model] {
            match self.minute.get_mut(key) {
                Some(minute) => minute.count(tokens, now),
                None => self.minute.entry(key.to_owned()).or_default().count(tokens, now),
            }
        }
    }
}

/// What stands in the way, with the guesses among it.
struct Found {
    denial: Denial,
    guesses: Vec<u32>,
}

/// What is kept free for errors of estimates, of this sum of squares.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "never negative, and saturates")]
pub(super) fn safety(spread: f64) -> u64 {
    (SAFETY * spread.sqrt()) as u64
}

/// How long a denial lasts, for comparison.
fn rank(denial: &Denial) -> (u8, i64) {
    match (denial.cause, denial.until) {
        (Cause::NeverFits, _) => (3, 0),
        (Cause::Full, _) => (0, 0),
        (_, Some(until)) => (1, until.0),
        (_, None) => (2, 0),
    }
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
