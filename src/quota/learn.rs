//! What the ledger draws from what an upstream says: statements replace guesses, refusals fix them and put a scope off,
//! success raises what a probe exceeded. Pure.

use std::sync::Arc;

use globset::Glob as Pattern;

use super::Moment;
use super::admission::Charge;
use super::course::{Shown, ways};
use super::ledger::Ledger;
use super::limit::{Glob, Limit, Period, Scope, Source, Unit, Window};
use super::said::{RefusalClass, Statement};
use super::shared::state_of_part;
use super::standing::{Block, Evidence, Out, Rule, State, state_of};
use super::window::{DAY, IN_TRANSIT};

pub(super) const SECOND: i64 = 1000;
pub(super) const MINUTE: i64 = 60 * SECOND;
pub(super) const HOUR: i64 = 60 * MINUTE;
/// No more limits of its own are taken from one upstream.
pub(super) const MOST_STATED: usize = 64;
/// What was served and what was refused are near each other within such a part of it.
const NEAR: u64 = 20;
/// No more scopes are put off at once.
pub(super) const MOST_BLOCKS: usize = 2_000;

/// A change in what is known, for a line in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// In words.
    pub what: String,
}

// === impl Ledger ===

impl Ledger {
    /// The upstream answered well: a guess that this request exceeded was too low, and what was put off in a row
    /// begins anew.
    pub fn succeeded(&mut self, charge: &Charge, model: &str, now: Moment) -> Option<Change> {
        let now = self.heed(now);
        // It tried what was put off, and that was over already.
        let mut lone = false;
        for scope in ["", model] {
            let newer = |block: &&mut Block| charge.sequence > block.after;
            if let Some(block) = self.blocks.get_mut(scope).filter(newer) {
                let over = block.strikes > 0;
                block.serves();
                if !over {
                    continue;
                }
                if block.probe == Some(charge.sequence) || block.is_soft() {
                    // It was put off for longer than was needed.
                    if block.until > now {
                        lone = true;
                    }
                    block.until = now;
                }
            }
        }
        self.served_elsewhere(model, now);
        for scope in ["", model] {
            if let Some(minute) = self.minute.get_mut(scope) {
                minute.serves(charge.likely(Unit::Tokens), now);
            }
        }
        let (mut change, mut by_the_clock) = (None, false);
        for part in &charge.parts {
            let Some(rule) = self.rules.iter_mut().find(|rule| rule.id == part.rule) else { continue };
            match rule.moved_well(&part.key, charge, now) {
                Shown::Turned(turned) => {
                    change = Some(turned);
                    continue;
                }
                Shown::Another => continue,
                Shown::Nothing | Shown::NoWay => {}
            }
            let Some(state) = state_of_part(&mut rule.states, &part.key) else { continue };
            let used = state.count.used(&rule.limit, state.amount, now);
            let others =
                state.out.iter().filter(|out| out.sequence != charge.sequence).map(|out| out.left).sum();
            let served = used.saturating_sub(others);
            state.lent_well(charge.sequence);
            let prompt = part.n.saturating_sub(part.output(charge.input_tokens));
            if state.went_by_the_clock(&rule.limit, charge.at, prompt, now) {
                state.probe = state.probe.filter(|probe| *probe != charge.sequence);
                change = Some(rule.goes_by_the_clock(now));
                by_the_clock = true;
                continue;
            }
            // Tokens are counted when they are known: what was there when it came, and its prompt, is what was let in.
            let is_of_tokens =
                matches!(rule.limit.unit, Unit::Tokens | Unit::InputTokens | Unit::OutputTokens);
            let stood = if is_of_tokens {
                let answers = state.taken_since(charge.at).saturating_add(part.output(charge.input_tokens));
                served.saturating_sub(answers).saturating_sub(state.doubts())
            } else {
                served
            };
            state.evidence.crowded = 0;
            let evidence = &mut state.evidence;
            if rule.limit.unit != Unit::Concurrent && stood > evidence.best {
                (evidence.best, evidence.doubts) = (stood, 0);
            }
            if state.probe != Some(charge.sequence) {
                continue;
            }
            state.probe = None;
            if !state.source.is_guess() {
                continue;
            }
            if rule.limit.period == Period::Request {
                change = state.outgrown(&rule.limit, charge.likely(rule.limit.unit), now).or(change);
                continue;
            }
            // Requests are counted as they come, so that those before it passed as well.
            let unsure = state.count.unsure(&rule.limit, now);
            let exceeded = if is_of_tokens { stood } else { used.saturating_sub(unsure) };
            if rule.limit.unit != Unit::Concurrent && exceeded <= state.amount {
                // By now it exceeds nothing, and teaches nothing.
                continue;
            }
            let evidence = &mut state.evidence;
            // Each further success takes a larger step, so that a guess far too low is left behind soon.
            // Near what was refused, that is about the limit, and steps are small.
            let near = evidence.over > 0 && exceeded.abs_diff(evidence.over) <= evidence.over / NEAR;
            let part = if near { NEAR * 5 } else { 10 };
            let step = (state.amount / part).max(1).saturating_mul(1 << evidence.successes.min(3));
            evidence.successes = evidence.successes.saturating_add(1);
            evidence.refusals = 0;
            evidence.turns = 0;
            if lone {
                evidence.rest_until = evidence.rest_until.min(now);
            }
            let mut raised = state.amount.max(exceeded).saturating_add(step);
            if evidence.over > exceeded {
                // So much was refused.
                raised = raised.min(exceeded.midpoint(evidence.over));
            }
            change = told(format!("{} raised to {raised}", rule.limit.named(state.amount)));
            state.amount = raised;
            state.source = Source::Learned;
            state.since = Some(now);
            state.dirty = true;
        }
        if by_the_clock {
            self.all_go_by_the_clock(now);
        }
        change
    }

    /// The upstream stated something about one of its limits. `charge` is the request whose answer says so.
    pub fn state(
        &mut self,
        statement: &Statement,
        source: Source,
        model: &str,
        charge: Option<&Charge>,
        now: Moment,
    ) -> Option<Change> {
        self.note(statement, source, model, charge.map(|charge| (charge, false)), now)
    }

    /// The same, where it refused that request, which is not in its count.
    pub fn state_refusing(
        &mut self,
        statement: &Statement,
        source: Source,
        model: &str,
        charge: &Charge,
        now: Moment,
    ) -> Option<Change> {
        self.note(statement, source, model, Some((charge, true)), now)
    }

    fn note(
        &mut self,
        statement: &Statement,
        source: Source,
        model: &str,
        said: Option<(&Charge, bool)>,
        now: Moment,
    ) -> Option<Change> {
        let (charge, refused) = said.unzip();
        let refused = refused.unwrap_or(false);
        let now = self.heed(now);
        if statement.amount == Some(0) {
            return self.put_off(model, RefusalClass::NoAllowance, now.saturating_add(DAY), false, now);
        }
        let index = self.rule_for(statement, source, model)?;
        let (sequence, began) = (self.sequence, self.began);
        let rule = self.rules.get_mut(index)?;
        let key = rule.limit.key_for(model)?.to_owned();
        // What was stated not to refill may be free again soon, too.
        if statement.refills && rule.ways.is_empty() {
            rule.refills(now);
        }
        let is_new = !rule.ways.is_empty() && !rule.has(&key);
        let limit = &rule.limit;
        let state = state_of(&mut rule.states, limit, &key, now);
        if is_new && let Some(minute) = self.minute.get(if key.is_empty() { "" } else { model }) {
            state.watches(limit, &minute.served(limit.unit, now), began, now);
        }
        let mut change = None;
        if let Some(amount) = statement.amount {
            change = state.restated(limit, amount, now);
        }
        state.dirty = true;
        let ends = statement.resets_in.map(|wait| now.saturating_add(millis(wait.as_millis())));
        let crossed = |charge: &Charge| state.count.began(limit, now).is_some_and(|began| charge.at < began);
        let Some(remaining) = statement.remaining else {
            state.source = source;
            return change;
        };
        if ends.is_none() && charge.is_some_and(crossed) {
            // What was left of the window in which it was sent, not of this one.
            return change;
        }
        let told = state.amount.saturating_sub(remaining);
        let whole_in = statement.resets_in.filter(|_| statement.amount.is_some());
        let refills =
            whole_in.and_then(|wait| rule.tells_its_refill(&key, told, millis(wait.as_millis()), now));
        let shown = match charge.filter(|_| ends.is_none()) {
            Some(charge) => rule.tells_its_minute(&key, told, charge, refused, now),
            None => None,
        };
        let limit = &rule.limit;
        let state = state_of(&mut rule.states, limit, &key, now);
        let known = state.count.used(limit, state.amount, now);
        change = change.or(refills).or(shown);
        if statement.amount.is_none() {
            if !state.source.is_guess() || remaining > state.amount {
                // More is left than was thought to be there at all.
                let amount = state.amount.max(remaining.saturating_add(known));
                change = state.restated(limit, amount, now);
            }
        } else {
            state.source = source;
        }
        // What is stated is what was so when the request came, however long its answer took. Those sent well before had
        // come, and only their answers are not counted yet; those sent well after had not. Of those sent with it nobody
        // knows, so that the count is between two bounds, and ours stays where it is between them.
        let seen = charge.map_or(now.saturating_sub(IN_TRANSIT), |charge| charge.at);
        let (before, after) = (seen.saturating_sub(IN_TRANSIT), seen.saturating_add(IN_TRANSIT));
        let left = |out: &Out, last: i64, is_least: bool| match charge {
            // A place is held until the request is over, whatever is said.
            Some(charge) if limit.unit == Unit::Concurrent && charge.sequence == out.sequence => (0, false),
            // What it refused it counts nowhere.
            Some(charge) if refused && charge.sequence == out.sequence => (out.n, false),
            // The head of a stream comes before its answer is counted. Of a plain answer nobody knows whether it is.
            Some(charge) if charge.sequence == out.sequence => {
                (if charge.stream || !is_least { out.output } else { 0 }, true)
            }
            _ if limit.unit != Unit::Concurrent && out.at <= last => (out.output, true),
            _ => (out.n, false),
        };
        let told = state.amount.saturating_sub(remaining);
        let counted = |last: i64, is_least: bool| {
            let out = state.out.iter().map(|out| left(out, last, is_least).0);
            out.fold(told.saturating_add(state.taken_since(last)), u64::saturating_add)
        };
        let (least, most) = (counted(after, true), counted(before, false));
        // Answers overtake each other: only a request sent after the last word may lower the count.
        let newer = charge.is_none_or(|charge| charge.sequence > state.stated);
        let (count, last) = if known < least {
            (least, Some((after, true)))
        } else if known > most && newer {
            (most, Some((before, false)))
        } else {
            (known, None)
        };
        if let Some((last, is_least)) = last {
            for out in state.out.iter_mut().filter(|_| limit.unit != Unit::Concurrent) {
                (out.left, out.counted) = left(out, last, is_least);
            }
        }
        if newer || last.is_some() {
            state.stated = sequence;
        }
        state.count.set(limit, state.amount, count, ends, now);
        change
    }

    /// The limit that a statement is about, made where it is a new one.
    fn rule_for(&mut self, statement: &Statement, source: Source, model: &str) -> Option<usize> {
        let fits = |limit: &Limit| {
            limit.unit == statement.unit
                && limit.source != Source::Configured
                && limit.period != Period::Request
                && limit.key_for(model).is_some()
                && statement.period.is_none_or(|period| limit.period == period)
        };
        let mut found = self.rules.iter().enumerate().filter(|(_, rule)| fits(&rule.limit));
        let exact = statement.amount.and_then(|amount| {
            found.clone().find(|(_, rule)| rule.limit.amount == amount).map(|(index, _)| index)
        });
        if let Some(index) = exact.or_else(|| found.next().map(|(index, _)| index)) {
            return Some(index);
        }
        let period = statement.period?;
        let amount = statement.amount?;
        if self.rules.len() >= MOST_STATED {
            return None;
        }
        // Where the user has the same limit, it moves as the user says.
        let same = |limit: &Limit| {
            let of = (limit.unit, limit.period, limit.amount);
            limit.source == Source::Configured && of == (statement.unit, period, amount)
        };
        let own = self.rules.iter().find(|rule| same(&rule.limit) && statement.resets_in.is_none());
        let window = if statement.refills {
            Window::Bucket
        } else if let Some(own) = own {
            own.limit.window.clone()
        } else if statement.resets_in.is_some() {
            Window::Fixed
        } else {
            Window::Rolling
        };
        let scope = if statement.per_model { any_model()? } else { Scope::Account };
        let open = window == Window::Rolling && own.is_none();
        let index = self.add_rule(Limit { unit: statement.unit, amount, period, window, scope, source });
        if let Some(rule) = self.rules.get_mut(index).filter(|_| open) {
            rule.ways = ways(period);
        }
        Some(index)
    }
}

// === impl Rule ===

impl Rule {
    /// What was taken for a window turned out to refill continuously.
    pub(super) fn refills(&mut self, now: i64) {
        if self.limit.window == Window::Bucket {
            return;
        }
        for state in self.states.values_mut() {
            state.count = state.count.as_bucket(&self.limit, state.amount, now);
            state.dirty = true;
        }
        self.limit.window = Window::Bucket;
        self.ways.clear();
    }
}

// === impl State ===

impl State {
    /// The upstream says that this is the limit; what refusals taught counts no more.
    fn restated(&mut self, limit: &Limit, amount: u64, now: i64) -> Option<Change> {
        let Evidence { best, strict, strict_until, lent, crowded, .. } = self.evidence;
        self.evidence = Evidence { best, strict, strict_until, lent, crowded, ..Evidence::default() };
        if amount == self.amount {
            return None;
        }
        let change = told(format!("{} is {amount}, as the upstream states", limit.named(self.amount)));
        self.since = Some(now);
        self.amount = amount;
        change
    }
}

/// Each model for itself, whatever it is called.
pub(super) fn any_model() -> Option<Scope> {
    let matcher = Pattern::new("*").ok()?.compile_matcher();
    Some(Scope::Each(Glob { text: Arc::from("*"), matcher }))
}

/// Longer than an hour.
pub(super) fn is_long(period: Period) -> bool {
    match period {
        Period::Millis(length) => length > 3_600_000,
        Period::Month => true,
        Period::Request => false,
    }
}

pub(super) fn told(what: String) -> Option<Change> {
    Some(Change { what })
}

pub(super) fn millis(wait: u128) -> i64 {
    i64::try_from(wait).unwrap_or(i64::MAX / 4)
}

#[cfg(test)]
mod tests;
