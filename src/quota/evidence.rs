//! What a refusal, for whatever it does not say, is evidence of: which guess was too high and at what it is fixed, and
//! which limit there must be that nobody knew of. Pure.

use super::admission::Charge;
use super::learn::{Change, HOUR, MINUTE, MOST_STATED, any_model, is_long, told};
use super::ledger::Ledger;
use super::limit::{Limit, Period, Scope, Source, Unit, Window};
use super::standing::{Evidence, Promise, state_of};
use super::window::DAY;

/// A limit that was refused is not exceeded again for so long at least.
const SHORTEST_REST: i64 = 10 * MINUTE;
/// So often in a row may less be refused than was served before, until that is believed.
const MOST_DOUBTS: u32 = 2;
/// Fewer requests in a minute are no evidence of a limit: another user of the key may have had the rest.
const LEAST_EVIDENCE: u64 = 5;

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
        for rule in &mut self.rules {
            let same = rule.limit.unit == unit && period.is_none_or(|period| rule.limit.period == period);
            let Some(key) = rule.key_for(model).filter(|_| same).map(str::to_owned) else { continue };
            let limit = &rule.limit;
            let state = state_of(&mut rule.states, limit, &key, now);
            if !state.source.is_guess() {
                continue;
            }
            let used = state.count.used(limit, state.amount, now);
            let refused = charge.and_then(|charge| charge.parts.iter().find(|part| part.rule == rule.id));
            // The one that was refused is among them.
            let least = u64::from(matches!(unit, Unit::Requests | Unit::Concurrent));
            let served = used.saturating_sub(refused.map_or(least, |part| part.n));
            state.probe = None;
            state.dirty = true;
            state.evidence.refused(limit, asked, now);
            if served >= state.amount || used == 0 {
                continue;
            }
            if served < state.evidence.best && state.evidence.doubts < MOST_DOUBTS {
                state.evidence.doubts += 1;
                continue;
            }
            let served = served.max(1);
            change = told(format!("{} fixed at {served}", limit.named(state.amount)));
            state.evidence.best = served;
            state.evidence.doubts = 0;
            state.amount = served;
            state.source = Source::Learned;
            state.since = Some(now);
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
                state.promise = Some(Promise { at: now.saturating_add(asked), n: charge.likely(unit) });
            }
        }
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
            (same && rule.limit.unit != Unit::Concurrent).then_some((beyond, share, rule.limit.unit))
        });
        shares.max_by_key(|(beyond, share, _)| (*beyond, *share)).map(|(.., unit)| unit)
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
        let (served, when) = (minute.total(unit, now).saturating_sub(refused), minute.seconds(unit, now));
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
            window: Window::Rolling,
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
        state.evidence.refused(limit, asked, now);
        state.since = Some(now);
        state.dirty = true;
        told(format!("{name} learned from a refusal"))
    }

    /// A request of this size was too large: that is the ceiling.
    pub(super) fn learn_ceiling(&mut self, model: &str, size: u64, now: i64) -> Option<Change> {
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
            return None;
        }
        state.amount = amount;
        state.since = Some(now);
        state.dirty = true;
        told(format!("{} learned from a refusal", rule.limit.named(amount)))
    }
}

// === impl Evidence ===

impl Evidence {
    /// It was exceeded, or too high, and that was refused: each time in a row it is left alone for longer.
    pub(super) fn refused(&mut self, limit: &Limit, asked: Option<i64>, now: i64) {
        let first = match limit.period {
            _ if limit.unit == Unit::Concurrent => MINUTE,
            Period::Millis(length) => i64::try_from(length).unwrap_or(DAY).clamp(SHORTEST_REST, DAY),
            Period::Month | Period::Request => DAY,
        };
        // The first time its own word on when to come again is believed.
        let believed = asked.filter(|_| self.refusals == 0);
        let rest = believed.unwrap_or((first << self.refusals.min(10)).min(DAY));
        self.refusals = self.refusals.saturating_add(1);
        self.successes = 0;
        self.rest_until = now.saturating_add(rest);
    }
}
