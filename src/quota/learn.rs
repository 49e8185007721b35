//! What the ledger draws from what an upstream says: statements replace guesses, refusals fix them and put a scope off,
//! success raises what a probe exceeded. Pure.

use std::sync::Arc;

use globset::Glob as Pattern;

use super::Moment;
use super::admission::Charge;
use super::ledger::{LONGEST, Ledger};
use super::limit::{Glob, Limit, Period, Scope, Source, Unit, Window};
use super::said::{Refusal, RefusalClass, Statement};
use super::standing::{Block, Evidence, Out, Rule, State, state_of};
use super::window::{DAY, IN_TRANSIT};

const SECOND: i64 = 1000;
pub(super) const MINUTE: i64 = 60 * SECOND;
pub(super) const HOUR: i64 = 60 * MINUTE;
/// So often in a row what names no window is taken for a minute's, and asked again in the next one.
const WHOLE_MINUTES: u32 = 2;
/// No more limits of its own are taken from one upstream.
pub(super) const MOST_STATED: usize = 64;
/// No more scopes are put off at once.
pub(super) const MOST_BLOCKS: usize = 2_000;

/// A change in what is known, for a line in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// In words.
    pub what: String,
}

/// What a refusal says of the window that was used up, as far as it does.
struct Asked {
    period: Option<Period>,
    unit: Option<Unit>,
    /// In how many milliseconds it wants to be asked again.
    wait: Option<i64>,
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
            let newer = |block: &&mut Block| block.strikes > 0 && charge.sequence > block.after;
            if let Some(block) = self.blocks.get_mut(scope).filter(newer) {
                block.strikes = 0;
                block.dirty = true;
                if block.probe == Some(charge.sequence) || block.is_soft() {
                    // It was put off for longer than was needed.
                    if block.until > now {
                        (block.tries, lone) = (0, true);
                    }
                    block.until = now;
                }
            }
        }
        let mut change = None;
        for part in &charge.parts {
            let Some(rule) = self.rules.iter_mut().find(|rule| rule.id == part.rule) else { continue };
            let Some(state) = rule.states.get_mut(&part.key) else { continue };
            let used = state.count.used(&rule.limit, state.amount, now);
            let others =
                state.out.iter().filter(|out| out.sequence != charge.sequence).map(|out| out.left).sum();
            let served = used.saturating_sub(others);
            state.lent_well(charge.sequence);
            state.evidence.crowded = 0;
            let evidence = &mut state.evidence;
            if rule.limit.unit != Unit::Concurrent && served > evidence.best {
                (evidence.best, evidence.doubts) = (served, 0);
            }
            if state.probe != Some(charge.sequence) {
                continue;
            }
            state.probe = None;
            if rule.limit.period == Period::Request {
                change = state.outgrown(&rule.limit, charge.likely(rule.limit.unit), now).or(change);
                continue;
            }
            // Requests are counted as they come, so that those before it passed as well; tokens when they are known, and
            // what was there when it came is what it exceeded.
            let exceeded = match rule.limit.unit {
                Unit::Requests | Unit::Concurrent | Unit::Percent => used,
                Unit::Tokens | Unit::InputTokens | Unit::OutputTokens => {
                    let answers =
                        state.answered_since(charge.at).saturating_add(part.output(charge.input_tokens));
                    served.saturating_sub(answers).saturating_sub(state.doubts())
                }
            };
            if rule.limit.unit != Unit::Concurrent && exceeded <= state.amount {
                // By now it exceeds nothing, and teaches nothing.
                continue;
            }
            let evidence = &mut state.evidence;
            // Each further success takes a larger step, so that a guess far too low is left behind soon.
            let step = (state.amount / 10).max(1).saturating_mul(1 << evidence.successes.min(3));
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
        let now = self.heed(now);
        if statement.amount == Some(0) {
            return self.put_off(model, RefusalClass::NoAllowance, now.saturating_add(DAY), false, now);
        }
        let index = self.rule_for(statement, source, model)?;
        let sequence = self.sequence;
        let rule = self.rules.get_mut(index)?;
        let key = rule.limit.key_for(model)?.to_owned();
        if statement.refills {
            rule.refills(now);
        }
        let limit = &rule.limit;
        let state = state_of(&mut rule.states, limit, &key, now);
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
        let known = state.count.used(limit, state.amount, now);
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
        let left = |out: &Out, last: i64| match charge {
            // A place is held until the request is over, whatever is said.
            Some(charge) if limit.unit == Unit::Concurrent && charge.sequence == out.sequence => (0, false),
            // The head of a stream comes before its answer is counted.
            Some(charge) if charge.sequence == out.sequence => {
                (if charge.stream { out.output } else { 0 }, true)
            }
            _ if limit.unit != Unit::Concurrent && out.at <= last => (out.output, true),
            _ => (out.n, false),
        };
        let told = state.amount.saturating_sub(remaining);
        let counted = |last: i64| {
            let out = state.out.iter().map(|out| left(out, last).0);
            out.fold(told.saturating_add(state.answered_since(last)), u64::saturating_add)
        };
        let (least, most) = (counted(after), counted(before));
        // Answers overtake each other: only a request sent after the last word may lower the count.
        let newer = charge.is_none_or(|charge| charge.sequence > state.stated);
        let (count, last) = if known < least {
            (least, Some(after))
        } else if known > most && newer {
            (most, Some(before))
        } else {
            (known, None)
        };
        if let Some(last) = last {
            for out in state.out.iter_mut().filter(|_| limit.unit != Unit::Concurrent) {
                (out.left, out.counted) = left(out, last);
            }
        }
        if newer || last.is_some() {
            state.stated = sequence;
        }
        state.count.set(limit, state.amount, count, ends, now);
        change
    }

    /// The upstream refused a request for reasons of quota; `size` is about its prompt's, in tokens, `charge` what it
    /// has reserved.
    pub fn refuse(
        &mut self,
        refusal: &Refusal,
        model: &str,
        size: Option<u64>,
        charge: Option<&Charge>,
        now: Moment,
    ) -> Option<Change> {
        let now = self.heed(now);
        let scope = if refusal.per_model { model } else { "" };
        let asked = refusal.retry_after.map(|wait| millis(wait.as_millis()).min(LONGEST));
        match refusal.class {
            RefusalClass::Overloaded => {
                // What it does not say is the breaker's to find out. Others are asked so long; alone it is tried.
                let wait = asked.filter(|wait| *wait > 0)?.min(10 * MINUTE);
                self.put_off(scope, refusal.class, now.saturating_add(wait), true, now)
            }
            RefusalClass::NotServed => {
                let until = now.saturating_add(asked.unwrap_or(5 * MINUTE).min(HOUR));
                self.put_off(model, refusal.class, until, true, now)
            }
            RefusalClass::Concurrency => {
                let learned = self.fix(Some(Unit::Concurrent), None, model, charge, None, now);
                let learned = learned.or_else(|| self.learn_places(scope, model, now));
                if asked == Some(0) {
                    // At once, it says.
                    return learned;
                }
                let wait = asked.unwrap_or(SECOND).clamp(SECOND / 4, MINUTE);
                let off = self.put_off(scope, refusal.class, now.saturating_add(wait), asked.is_none(), now);
                learned.or(off)
            }
            RefusalClass::NoAllowance => {
                let until = now.saturating_add(asked.unwrap_or(DAY).max(HOUR));
                self.put_off(model, refusal.class, until, true, now)
            }
            RefusalClass::ModelGone => {
                self.put_off(model, refusal.class, now.saturating_add(asked.unwrap_or(HOUR)), true, now)
            }
            RefusalClass::Payment => {
                let until = now.saturating_add(asked.unwrap_or(DAY).max(HOUR));
                self.put_off(scope, refusal.class, until, true, now)
            }
            RefusalClass::TooLarge if self.states(refusal.unit, model) => None,
            RefusalClass::TooLarge => self.learn_ceiling(model, size?, charge, now),
            RefusalClass::Window(None) if asked.is_none() && self.tried_in_vain(scope, charge, now) => None,
            RefusalClass::Window(period) => {
                let asked_of = Asked { period, unit: refusal.unit, wait: asked };
                self.refuse_window(refusal.class, &asked_of, scope, model, charge, now)
            }
        }
    }

    /// Whether the request was the lone one that tried whether what was put off is over: it teaches nothing but that it
    /// is not, and the next one comes later.
    fn tried_in_vain(&mut self, scope: &str, charge: Option<&Charge>, now: i64) -> bool {
        let (Some(block), Some(charge)) = (self.blocks.get_mut(scope), charge) else { return false };
        let tried = block.until > now && block.probe == Some(charge.sequence) && block.tried_at().is_some();
        if tried {
            block.tries = block.tries.saturating_add(1);
            block.try_at = Block::next_try(block.tries, now);
            (block.after, block.dirty) = (self.sequence, true);
        }
        tried
    }

    /// A window was used up, by the upstream's count.
    fn refuse_window(
        &mut self,
        class: RefusalClass,
        said: &Asked,
        scope: &str,
        model: &str,
        charge: Option<&Charge>,
        now: i64,
    ) -> Option<Change> {
        let Asked { period, unit, wait } = *said;
        let is_long = period.is_some_and(is_long);
        // What names no window is the one that was exceeded knowingly, else most likely the shortest.
        let exceeded = charge.and_then(|charge| self.exceeded_by(charge));
        let suspect = charge.filter(|_| exceeded.is_none() && !is_long);
        let crowded = suspect.is_some_and(|charge| self.was_crowded_out(unit, period, model, charge, now));
        let first = self.blocks.get(scope).is_none_or(|block| block.strikes == 0) && wait.is_none();
        if crowded && first {
            return None;
        }
        let full = charge.is_some_and(|charge| self.is_full_without(charge, now));
        let (unit, window) = match exceeded {
            Some((exceeded, window)) if unit.is_none() && period.is_none() => (Some(exceeded), window),
            _ => (unit, period.unwrap_or(Period::MINUTE)),
        };
        let learned =
            if crowded { None } else { self.learn_window(unit, said, window, scope, model, charge, now) };
        if let (Some(asked), Some(charge)) = (wait, charge) {
            self.promised(unit, window, model, charge, asked, now);
        }
        if full && first && !is_long {
            // Our own count says so, too, and lets nobody through before there is room.
            return learned;
        }
        let (until, counted) = self.window_ends(period, wait, scope, model, now);
        let guess = wait.is_none() && !is_long;
        let off = self.put_off(scope, class, until, guess, now);
        if let Some(block) = self.blocks.get_mut(scope).filter(|block| block.until == until) {
            block.counted = counted;
        }
        learned.or(off)
    }

    /// What a refusal teaches of this window: that a guess was too high, or a limit that nobody knew.
    #[expect(clippy::too_many_arguments, reason = "all that is known of one refusal")]
    fn learn_window(
        &mut self,
        unit: Option<Unit>,
        said: &Asked,
        window: Period,
        scope: &str,
        model: &str,
        charge: Option<&Charge>,
        now: i64,
    ) -> Option<Change> {
        // What was used up by our own count is the reason, and no limit that nobody knows; nor one of this model, where
        // that was learned for another.
        let used_up = self.used_up_until(said.period, model, now);
        let elsewhere = unit.is_none() && used_up.is_some_and(|(_, own)| !own);
        // Short waits for a long window are no promise (Gemini).
        let believed = said.wait.filter(|wait| !is_long(window) || *wait >= HOUR);
        let mut learned = None;
        if !elsewhere {
            learned = self.fix(unit, Some(window), model, charge, believed, now);
        }
        if used_up.is_some() || window != Period::MINUTE {
            return learned;
        }
        // More requests than these went well before: then it is their tokens.
        for of in [Unit::Requests, Unit::Tokens] {
            if learned.is_none() && unit.is_none_or(|unit| unit == of) {
                learned = self.learn_minute(of, scope, model, charge, believed, now);
            }
        }
        learned
    }

    /// When a window that was refused is free again, and whether our own count says so: the upstream's word, else the
    /// window's own end, else longer each time. A refusal that names no window, or a minute, never lasts longer than an
    /// hour.
    fn window_ends(
        &self,
        period: Option<Period>,
        asked: Option<i64>,
        scope: &str,
        model: &str,
        now: i64,
    ) -> (i64, bool) {
        let strikes = self.blocks.get(scope).map_or(0, |block| block.strikes).min(8);
        let is_long = period.is_some_and(is_long);
        // Where a day refills continuously (Groq), the next request fits long before the day is over.
        let refills = || {
            self.applying(model).any(|(rule, _)| {
                Some(rule.limit.period) == period && matches!(rule.limit.window, Window::Bucket)
            })
        };
        if let Some(asked) = asked
            // A day's refusal with a minute's advice (Gemini) is a day's refusal.
            && (!is_long || asked >= HOUR || refills())
        {
            // And what is said to be a minute's is not a day's, whatever is asked for.
            let most = if period == Some(Period::MINUTE) { HOUR } else { LONGEST };
            return (now.saturating_add(asked.clamp(SECOND / 4, most)), false);
        }
        if strikes < 1
            && let Some((frees, _)) = self.used_up_until(period, model, now)
        {
            return (frees.max(now.saturating_add(SECOND / 4)), true);
        }
        let of_rule = self.applying(model).filter(|(rule, _)| Some(rule.limit.period) == period).find_map(
            |(rule, key)| {
                let state = rule.states.get(key)?;
                match rule.limit.window {
                    Window::Fixed | Window::Calendar(_) => {
                        state.count.whole_at(&rule.limit, state.amount, now)
                    }
                    Window::Rolling | Window::Bucket => None,
                }
            },
        );
        if let Some(ends) = of_rule.filter(|ends| *ends > now) {
            return (ends, true);
        }
        if is_long {
            return (now.saturating_add((HOUR << strikes).min(DAY)), false);
        }
        if strikes < WHOLE_MINUTES {
            // The next wall-clock minute; where the window is another one, the next refusals say so.
            return ((now / MINUTE + 1) * MINUTE, false);
        }
        (now.saturating_add((MINUTE << (strikes - WHOLE_MINUTES + 1)).min(HOUR)), false)
    }

    /// When there is room again under the limits of this window that are as good as used up by our own count; and
    /// whether they are the model's own. Otherwise they were learned for another, and may be for all.
    fn used_up_until(&self, period: Option<Period>, model: &str, now: i64) -> Option<(i64, bool)> {
        let window = period.unwrap_or(Period::MINUTE);
        let meant = |rule: &Rule| {
            rule.limit.period == window && !matches!(rule.limit.unit, Unit::Concurrent | Unit::Percent)
        };
        let frees = |rule: &Rule, state: &State| {
            let is_full = state.is_as_good_as_full(&rule.limit, now);
            is_full.then(|| state.count.frees_at(&rule.limit, state.amount, 1, now))?
        };
        let own = self.applying(model).filter(|(rule, _)| meant(rule));
        let own = own.filter_map(|(rule, key)| frees(rule, rule.states.get(key)?)).max();
        let others = || {
            let learned = self.rules.iter().filter(|rule| meant(rule) && rule.limit.source.is_own());
            learned.flat_map(|rule| rule.states.values().filter_map(move |state| frees(rule, state))).max()
        };
        let own = own.map(|frees| (frees, true));
        let found = own.or_else(|| others().map(|frees| (frees, false)));
        found.map(|(frees, own)| (frees.saturating_add(IN_TRANSIT), own))
    }

    /// Does not ask a scope before that moment.
    fn put_off(
        &mut self,
        scope: &str,
        class: RefusalClass,
        until: i64,
        guess: bool,
        now: i64,
    ) -> Option<Change> {
        if self.blocks.len() >= MOST_BLOCKS && !self.blocks.contains_key(scope) {
            self.blocks.retain(|_, block| block.until > now);
            if self.blocks.len() >= MOST_BLOCKS {
                return None;
            }
        }
        let until = until.min(now.saturating_add(LONGEST));
        let known = self.blocks.get(scope);
        if known.is_some_and(|block| block.until > until && block.class != class) {
            // Another reason lasts longer.
            return None;
        }
        let running = known.is_some_and(|block| block.until > now && block.class == class);
        let strikes = known.map_or(0, |block| block.strikes).saturating_add(u32::from(!running));
        let longest = known.filter(|_| running).map_or(until, |block| block.until.max(until));
        let tries = known.map_or(0, |block| block.tries);
        let try_at = known.filter(|_| running).map_or(Block::next_try(tries, now), |block| block.try_at);
        let after = self.sequence;
        self.blocks.insert(
            scope.to_owned(),
            Block {
                until: longest,
                class,
                strikes,
                guess,
                try_at,
                tries,
                counted: false,
                probe: None,
                after,
                dirty: true,
            },
        );
        let whom = if scope.is_empty() { "the account" } else { scope };
        (!running).then(|| Change {
            what: format!(
                "{whom} is put off for {} s ({}, {})",
                (longest - now + SECOND - 1) / SECOND,
                class.label(),
                if guess { "guessed" } else { "told" }
            ),
        })
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
        } else if statement.resets_in.is_some() || period == Period::MINUTE {
            Window::Fixed
        } else {
            Window::Rolling
        };
        let scope = if statement.per_model { any_model()? } else { Scope::Account };
        Some(self.add_rule(Limit { unit: statement.unit, amount, period, window, scope, source }))
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

fn millis(wait: u128) -> i64 {
    i64::try_from(wait).unwrap_or(i64::MAX / 4)
}

#[cfg(test)]
mod tests;
