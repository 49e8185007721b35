//! What a refusal, for whatever it does not say, is evidence of: which guess was too high and at what it is fixed, and
//! which limit there must be that nobody knew of. Pure.

use super::admission::Charge;
use super::borrow::is_settled;
use super::learn::{Change, HOUR, MINUTE, MOST_STATED, any_model, is_long, told};
use super::ledger::Ledger;
use super::limit::{Limit, Period, Scope, Source, Unit, Window};
use super::standing::{Evidence, Promise, State, state_of};
use super::window::{DAY, IN_TRANSIT};

/// A limit that was refused is not exceeded again for so long at least.
const SHORTEST_REST: i64 = 10 * MINUTE;
/// And never for longer than this.
pub(super) const LONGEST_REST: i64 = 7 * DAY;
/// So often in a row may less be refused than was served before, until that is believed.
const MOST_DOUBTS: u32 = 2;
/// Two counts are the same that differ by no more than such a part.
const ABOUT: u64 = 50;
/// Fewer requests in a minute are no evidence of a limit: another user of the key may have had the rest.
pub(super) const LEAST_EVIDENCE: u64 = 5;

// === impl Ledger ===

impl Ledger {
    /// A guess that was too high becomes what was served. Without a unit it is the one that was used up most.
    pub(super) fn fix(
        &mut self,
        unit: Option<Unit>,
        period: Option<Period>,
        model: &str,
        charge: Option<&Charge>,
        asked: Option<i64>,
        now: i64,
    ) -> Option<Change> {
        let unit = unit.or_else(|| self.most_used(period, model, now))?;
        let mut change = None;
        let mut by_the_clock = Vec::new();
        let (mut rolling, mut ends) = (Vec::new(), Vec::new());
        for rule in &mut self.rules {
            let same = rule.limit.unit == unit && period.is_none_or(|period| rule.limit.period == period);
            let Some(key) = rule.key_for(model).filter(|_| same).map(str::to_owned) else { continue };
            let is_open = rule.is_open();
            let limit = &rule.limit;
            let state = state_of(&mut rule.states, limit, &key, now);
            if !state.source.is_guess() || is_open {
                continue;
            }
            let used = state.count.used(limit, state.amount, now);
            let refused = charge.and_then(|charge| charge.parts.iter().find(|part| part.rule == rule.id));
            // The one that was refused is among them; and those that were sent after it say nothing yet.
            let least = u64::from(matches!(unit, Unit::Requests | Unit::Concurrent));
            let later =
                charge.filter(|_| unit != Unit::Concurrent).map_or(0, |charge| state.sent_after(charge));
            let before = used.saturating_sub(refused.map_or(least, |part| part.n)).saturating_sub(later);
            // The most that the limit can be: what was served, and all but one of the prompt that no longer fitted.
            let prompt =
                charge.zip(refused).map_or(least, |(charge, part)| part.n - part.output(charge.input_tokens));
            let served = before.saturating_add(prompt.saturating_sub(1)).saturating_add(state.doubts());
            // Of those that were sent at the same time, any may have been there before it.
            let is_of_tokens = !matches!(unit, Unit::Requests | Unit::Concurrent);
            let beside = charge.filter(|_| is_of_tokens).map_or(0, |charge| state.sent_beside(charge));
            let served = served.saturating_add(beside);
            // One that went beyond it was refused where all before were served: it is the limit, as well as it can be
            // known without being told.
            let exceeded = charge.is_some_and(|charge| state.probe == Some(charge.sequence));
            let about = if unit == Unit::Requests { 0 } else { prompt.max(state.amount / ABOUT) };
            let true_to_one = unit != Unit::Concurrent && before.abs_diff(state.amount) <= about;
            let seen = charge.map_or(now, |charge| charge.at).saturating_sub(IN_TRANSIT);
            let careful = state.count.used(limit, state.amount, seen).saturating_sub(used - before);
            if !exceeded && charge.is_some() && unit == Unit::Requests && careful >= state.amount {
                // It was sent as soon as there might be room again, and came too early.
                continue;
            }
            state.probe = None;
            state.dirty = true;
            if state.was_refused_early(limit, refused.map_or(least, |part| part.n), now) {
                rolling.push(rule.id);
                continue;
            }
            if state.should_have_refilled(before) {
                ends.push(rule.id);
                continue;
            }
            if exceeded && state.evidence.rest_until > now {
                state.evidence.turns = state.evidence.turns.saturating_add(1);
            }
            if limit.source.is_own()
                && !rule.shown
                && state.goes_by_the_clock(limit, refused.map_or(least, |part| part.n), prompt, now)
            {
                by_the_clock.push(rule.id);
            }
            state.evidence.refused(limit, asked, now);
            if exceeded && unit != Unit::Requests && before.saturating_add(prompt) > state.amount {
                let over = before.saturating_add(prompt);
                state.evidence.over =
                    if state.evidence.over > state.amount { over.min(state.evidence.over) } else { over };
            }
            if exceeded && true_to_one {
                state.evidence.confirmed(state.source, now);
            }
            if limit.window == Window::Bucket && state.amount.abs_diff(before) <= state.amount / ABOUT {
                // How much it is and how full it is are known equally well: all is used, what was refused is taken back.
                let all = state.amount.saturating_add(used - before);
                state.count.set(limit, state.amount, all.max(used), None, now);
                continue;
            }
            if served >= state.amount || used == 0 {
                continue;
            }
            if served < state.evidence.best && state.evidence.doubts < MOST_DOUBTS {
                state.evidence.doubts += 1;
                continue;
            }
            let served = served.max(1);
            change = told(format!("{} fixed at {served}", limit.named(state.amount)));
            state.evidence.best = before.max(1);
            state.evidence.doubts = 0;
            state.amount = served;
            state.source = Source::Learned;
            state.since = Some(now);
            // What refills is counted only as well as its amount is known.
            if is_of_tokens && limit.window != Window::Bucket {
                state.evidence.over = served.saturating_add(1);
            }
        }
        for rule in self.rules.iter_mut().filter(|rule| rolling.contains(&rule.id)) {
            rule.shown = true;
            change = Some(rule.goes_by_the_last_minute());
        }
        for rule in self.rules.iter_mut().filter(|rule| ends.contains(&rule.id)) {
            rule.does_not_refill(now);
        }
        for rule in self.rules.iter_mut().filter(|rule| by_the_clock.contains(&rule.id)) {
            change = Some(rule.goes_by_the_clock(now));
        }
        if !by_the_clock.is_empty() {
            self.all_go_by_the_clock(now);
        }
        change
    }

    /// The upstream said when what it refused will fit under a limit that it states: it knows its own count better than
    /// we know ours, and what the request really takes. Short waits for a long window are a promise only where it refills
    /// continuously.
    pub(super) fn promised(
        &mut self,
        unit: Option<Unit>,
        period: Period,
        model: &str,
        charge: &Charge,
        asked: i64,
        now: i64,
    ) {
        for rule in &mut self.rules {
            let limit = &rule.limit;
            let same = limit.period == period && unit.is_none_or(|unit| limit.unit == unit);
            let vague = is_long(period) && asked < HOUR && limit.window != Window::Bucket;
            let Some(key) = rule.key_for(model).filter(|_| same && !vague) else { continue };
            let (key, unit) = (key.to_owned(), limit.unit);
            let Some(state) = rule.states.get_mut(&key) else { continue };
            if matches!(state.source, Source::Header | Source::Probe) {
                let (at, n) = (now.saturating_add(asked), charge.likely(unit));
                let out = state.out.iter().find(|out| out.sequence == charge.sequence);
                let spread = out.map_or(0.0, |out| out.spread);
                if unit == Unit::Requests {
                    // Its own is taken back when it is over.
                    let own =
                        charge.parts.iter().filter(|part| part.rule == rule.id).map(|part| part.n).sum();
                    state.count.promised(&rule.limit, state.amount, n.saturating_sub(own), at);
                }
                state.promise = Some(Promise { at, n, prompt: charge.at_least(unit), spread });
            }
        }
    }

    /// Whether a window was used up, by our own count, before the request of this charge came.
    pub(super) fn is_full_without(&self, charge: &Charge, now: i64) -> bool {
        let arrived = now.saturating_sub(IN_TRANSIT);
        charge.parts.iter().any(|part| {
            let Some(rule) = self.rules.iter().find(|rule| rule.id == part.rule) else { return false };
            let Some(state) = rule.states.get(&part.key) else { return false };
            let is_window = rule.limit.unit != Unit::Concurrent && rule.limit.period != Period::Request;
            is_window
                && is_settled(rule)
                && state.count.used(&rule.limit, state.amount, arrived) > state.amount
        })
    }

    /// The guess that the request of this charge exceeded as a probe.
    pub(super) fn exceeded_by(&self, charge: &Charge) -> Option<(Unit, Period)> {
        charge.parts.iter().find_map(|part| {
            let rule = self.rules.iter().find(|rule| rule.id == part.rule)?;
            let state = rule.states.get(&part.key)?;
            (state.probe == Some(charge.sequence)).then_some((rule.limit.unit, rule.limit.period))
        })
    }

    /// The unit whose guess for this window is used up most.
    fn most_used(&self, period: Option<Period>, model: &str, now: i64) -> Option<Unit> {
        let shares = self.applying(model).filter_map(|(rule, key)| {
            let state = rule.states.get(key).filter(|state| state.source.is_guess() && state.amount > 0)?;
            let same = period.is_none_or(|period| rule.limit.period == period);
            let used = state.count.used(&rule.limit, state.amount, now);
            // Where as much went well before, it was more likely another.
            let beyond = used > state.evidence.best;
            let share = u128::from(used) * 1_000_000 / u128::from(state.amount);
            // And what is counted by estimates, rather than what is counted exactly.
            let unsure = rule.limit.unit != Unit::Requests && state.is_as_good_as_full(&rule.limit, now);
            (same && rule.limit.unit != Unit::Concurrent)
                .then_some(((beyond, unsure, share), rule.limit.unit))
        });
        shares.max_by_key(|(key, _)| *key).map(|(_, unit)| unit)
    }

    /// Where no limit on requests at the same time is known, those that were out are the first guess.
    pub(super) fn learn_places(&mut self, scope: &str, model: &str, now: i64) -> Option<Change> {
        let known = self.applying(model).any(|(rule, _)| rule.limit.unit == Unit::Concurrent);
        // The one that was refused is out, too.
        let amount = self.out.saturating_sub(1);
        if known || amount == 0 || self.rules.len() >= MOST_STATED {
            return None;
        }
        let scope = if scope.is_empty() { Scope::Account } else { any_model()? };
        let (unit, window) = (Unit::Concurrent, Window::Rolling);
        let limit = Limit { unit, amount, period: Period::MINUTE, window, scope, source: Source::Learned };
        let name = limit.named(amount);
        let index = self.add_rule(limit);
        let rule = self.rules.get_mut(index)?;
        let key = rule.limit.key_for(model)?.to_owned();
        let state = state_of(&mut rule.states, &rule.limit, &key, now);
        state.evidence.refused(&rule.limit, None, now);
        state.since = Some(now);
        state.dirty = true;
        told(format!("{name} learned from a refusal"))
    }

    /// Where no limit of the minute is known, what was served in the last one is the first guess.
    pub(super) fn learn_minute(
        &mut self,
        unit: Unit,
        scope: &str,
        model: &str,
        charge: Option<&Charge>,
        asked: Option<i64>,
        now: i64,
    ) -> Option<Change> {
        let minute = self.minute.get(scope)?;
        let refused = match (unit, charge) {
            (Unit::Tokens, Some(charge)) => charge.input_tokens.saturating_add(charge.output_tokens),
            (Unit::Tokens, None) => 0,
            _ => 1,
        };
        // What was sent after it says nothing yet.
        let later = charge.map_or(0, |charge| self.sequence.saturating_sub(charge.sequence));
        let later = if unit == Unit::Tokens { later.saturating_mul(refused) } else { later };
        let by_the_clock = self.goes_by_the_clock();
        let begin = if by_the_clock { now.div_euclid(MINUTE) * MINUTE } else { i64::MIN };
        let mut when = minute.seconds(unit, now);
        when.retain(|(at, _)| *at >= begin);
        let served = when.iter().fold(0, |sum, (_, n)| n.saturating_add(sum)).saturating_sub(refused);
        let served = served.saturating_sub(later.min(served / 2));
        let enough = minute.total(Unit::Requests, now) > LEAST_EVIDENCE;
        let known = |ledger: &Ledger| {
            ledger
                .applying(model)
                .any(|(rule, _)| rule.limit.unit == unit && rule.limit.period == Period::MINUTE)
        };
        if !enough || served == 0 || known(self) || self.rules.len() >= MOST_STATED {
            return None;
        }
        let scope = if scope.is_empty() { Scope::Account } else { any_model()? };
        let limit = Limit {
            unit,
            amount: served,
            period: Period::MINUTE,
            window: if by_the_clock { Window::Fixed } else { Window::Rolling },
            scope,
            source: Source::Learned,
        };
        let name = limit.named(served);
        let index = self.add_rule(limit);
        let rule = self.rules.get_mut(index)?;
        let key = rule.limit.key_for(model)?.to_owned();
        let limit = &rule.limit;
        let state = state_of(&mut rule.states, limit, &key, now);
        for (at, n) in when {
            state.count.add(limit, served, n, at);
        }
        let prompt = if unit == Unit::Tokens { charge.map_or(0, |charge| charge.input_tokens) } else { 1 };
        state.goes_by_the_clock(limit, refused, prompt, now);
        state.evidence.refused(limit, asked, now);
        state.since = Some(now);
        state.dirty = true;
        told(format!("{name} learned from a refusal"))
    }

    /// Whether the upstream states how much of this unit fits into one of its windows: then a request that is too large
    /// is larger than that, and there need be no other ceiling.
    pub(super) fn states(&self, unit: Option<Unit>, model: &str) -> bool {
        self.applying(model).any(|(rule, key)| {
            Some(rule.limit.unit) == unit
                && rule.limit.period != Period::Request
                && rule
                    .states
                    .get(key)
                    .is_some_and(|state| matches!(state.source, Source::Header | Source::Probe))
        })
    }

    /// A request of about this size was too large: that is the ceiling, as far as one can tell. A probe may exceed it.
    pub(super) fn learn_ceiling(
        &mut self,
        model: &str,
        size: u64,
        charge: Option<&Charge>,
        now: i64,
    ) -> Option<Change> {
        let amount = size.saturating_sub(1).max(1);
        let is_ceiling = |limit: &Limit| limit.period == Period::Request && limit.source == Source::Learned;
        let index = match self.rules.iter().position(|rule| is_ceiling(&rule.limit)) {
            Some(index) => index,
            None if self.rules.len() >= MOST_STATED => return None,
            None => self.add_rule(Limit {
                unit: Unit::InputTokens,
                amount: u64::MAX,
                period: Period::Request,
                window: Window::Rolling,
                scope: any_model()?,
                source: Source::Learned,
            }),
        };
        let rule = self.rules.get_mut(index)?;
        let state = state_of(&mut rule.states, &rule.limit, model, now);
        if amount >= state.amount {
            if charge.is_some_and(|charge| state.probe == Some(charge.sequence)) {
                state.probe = None;
                state.evidence.refused(&rule.limit, None, now);
                state.dirty = true;
            }
            return None;
        }
        state.evidence.refused(&rule.limit, None, now);
        state.amount = amount;
        state.since = Some(now);
        state.dirty = true;
        told(format!("{} learned from a refusal", rule.limit.named(amount)))
    }
}

// === impl State ===

impl State {
    /// A request above a learned ceiling was answered.
    pub(super) fn outgrown(&mut self, limit: &Limit, size: u64, now: i64) -> Option<Change> {
        if size <= self.amount {
            return None;
        }
        let change = told(format!("{} raised to {size}", limit.named(self.amount)));
        self.amount = size;
        self.evidence = Evidence::default();
        self.since = Some(now);
        self.dirty = true;
        change
    }

    /// Whether it may be exceeded by so little although more was refused: half-way between what was served and that.
    pub(super) fn is_half_way(&self, wanted: u64) -> bool {
        self.evidence.over > self.amount && wanted <= self.amount + (self.evidence.over - self.amount) / 2
    }
}

// === impl Evidence ===

impl Evidence {
    /// It was exceeded, or too high, and that was refused: each time in a row it is left alone for longer.
    pub(super) fn refused(&mut self, limit: &Limit, asked: Option<i64>, now: i64) {
        let first = match limit.period {
            _ if limit.unit == Unit::Concurrent => MINUTE,
            Period::Millis(length) => i64::try_from(length).unwrap_or(DAY).clamp(SHORTEST_REST, DAY),
            Period::Month => DAY,
            // The sizes of two requests are compared as they were estimated.
            Period::Request => SHORTEST_REST,
        };
        // The first time its own word on when to come again is believed.
        let believed = asked.filter(|_| self.refusals == 0);
        let rest = believed.unwrap_or((first << self.refusals.min(10)).min(DAY));
        self.refusals = self.refusals.saturating_add(1);
        self.successes = 0;
        self.rest_until = now.saturating_add(rest);
    }

    /// It turned out to be the limit to one: it is left alone for far longer. What the catalogue says and a refusal
    /// shows needs no third witness for a day; what was only drawn from refusals may have had another reason.
    fn confirmed(&mut self, source: Source, now: i64) {
        let times = self.refusals.saturating_sub(1).min(4);
        let rest = match source {
            Source::Catalogue => (DAY << times).min(LONGEST_REST),
            _ => (SHORTEST_REST << (2 * times)).min(DAY),
        };
        self.rest_until = self.rest_until.max(now.saturating_add(rest));
    }
}

#[cfg(test)]
mod tests;
