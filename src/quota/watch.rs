//! What a refusal says of a window of an hour or more of which nobody told how it moves: whether it is about that one,
//! how much fits into it, and until when it is left alone. How it moves is found out in `course.rs`. Pure.

use super::admission::Charge;
use super::course::{Shown, longer_than, ways};
use super::learn::{Change, HOUR, MOST_STATED, any_model, told};
use super::ledger::Ledger;
use super::limit::{Limit, Period, Scope, Source, Unit, Window};
use super::refusal::Asked;
use super::rows::key_of;
use super::said::RefusalClass;
use super::standing::{Rule, state_of};
use super::window::length;

/// A window, by what is counted in it and how long it is.
type Kind = (Unit, Period);

/// What of a refusal says which window it is about.
pub(super) struct Signs<'r> {
    pub(super) said: &'r Asked,
    /// A guess of this kind was exceeded knowingly.
    pub(super) exceeded: Option<Kind>,
    /// A minute is used up by our own count.
    pub(super) is_minute: bool,
    /// There were far more in minutes before.
    pub(super) is_quiet: bool,
    /// It has been refused for longer than minutes last.
    pub(super) in_vain: bool,
}

// === impl Ledger ===

impl Ledger {
    /// The window that a refusal is about, if it is watched how that moves: the one that is named, or that was exceeded;
    /// else, where no minute is used up, the one that was used up before, or is by our own count. What is refused for a
    /// quarter of an hour is one that nobody knows.
    pub(super) fn course_of(
        &mut self,
        signs: &Signs<'_>,
        (scope, model): (&str, &str),
        now: i64,
    ) -> Option<Kind> {
        let said = signs.said;
        if let Some(period) = said.period {
            // A short wait for a long window is no promise.
            if length(period) < HOUR || said.wait.is_some_and(|wait| wait >= HOUR) {
                return None;
            }
            let kind = (said.unit.unwrap_or(Unit::Requests), period);
            let is_new =
                !self.knows(period, said.unit, model) && self.watch(kind, false, scope, now).is_some();
            return if is_new { Some(kind) } else { self.watched(period, said.unit, model) };
        }
        if let Some((_, period)) = signs.exceeded {
            return self.watched(period, said.unit, model);
        }
        if signs.is_minute || said.wait.is_some() {
            return None;
        }
        let before = self.blocks.get(scope).filter(|block| block.strikes > 0).map(|block| block.class);
        let before = match before {
            Some(RefusalClass::Window(Some(period))) => self.watched(period, said.unit, model),
            _ => None,
        };
        let found = before.or_else(|| self.fullest_watched(signs, model, now));
        if found.is_some() || !signs.in_vain {
            return found;
        }
        let unit = said.unit.unwrap_or(Unit::Requests);
        let longer = std::iter::successors(longer_than(Period::MINUTE), |period| longer_than(*period));
        let unknown: Vec<_> = longer.filter(|period| !self.knows(*period, Some(unit), model)).collect();
        // One within which nothing was served is not used up.
        let mut kinds = unknown.into_iter().map(|period| (unit, period));
        kinds.find(|kind| self.watch(*kind, true, scope, now).is_some())
    }

    /// Whether a limit of this length is known for a model, whoever told.
    fn knows(&self, period: Period, unit: Option<Unit>, model: &str) -> bool {
        let mut all = self.applying(model);
        all.any(|(rule, _)| rule.limit.period == period && is_of(unit, rule))
    }

    /// The one of this length of which it is watched how it moves.
    fn watched(&self, period: Period, unit: Option<Unit>, model: &str) -> Option<Kind> {
        let mut all = self.applying(model).filter(|(rule, key)| !rule.ways.is_empty() && rule.has(key));
        let found = all.find(|(rule, _)| rule.limit.period == period && is_of(unit, rule));
        found.map(|(rule, _)| (rule.limit.unit, period))
    }

    /// The one that is used up by our own count. In a quiet minute that is so when it is as good as used up, and where
    /// waiting for minutes did not help, when half of it is.
    fn fullest_watched(&self, signs: &Signs<'_>, model: &str, now: i64) -> Option<Kind> {
        let shares = self.applying(model).filter_map(|(rule, key)| {
            let (limit, state) = (&rule.limit, rule.states.get(key)?);
            let used = state.count.used(limit, state.amount, now);
            let is_half = signs.in_vain && used.saturating_mul(2) >= state.amount;
            // An hour is soon over, and its edges tell.
            let is_about =
                (signs.is_quiet || length(limit.period) <= HOUR) && state.is_as_good_as_full(limit, now);
            let is_full = is_half || is_about || used.saturating_add(state.alike()) >= state.amount;
            let share = u128::from(used) * 1_000_000 / u128::from(state.amount.max(1));
            let meant = !rule.ways.is_empty() && is_of(signs.said.unit, rule) && is_full;
            meant.then_some((share, limit.unit, limit.period))
        });
        shares.max().map(|(_, unit, period)| (unit, period))
    }

    /// A window of which nobody told was used up: what was served within it is the first guess.
    fn watch(&mut self, (unit, period): Kind, unnamed: bool, scope: &str, now: i64) -> Option<Change> {
        let since = now.saturating_sub(length(period));
        let before = self.minute.get(scope)?.served(unit, now);
        let within = before.iter().filter(|(at, _)| *at > since);
        let amount = within.fold(0_u64, |sum, (_, n)| n.saturating_add(sum));
        let is_each = !scope.is_empty();
        let same = |rule: &Rule| {
            let (limit, each) = (&rule.limit, matches!(rule.limit.scope, Scope::Each(_)));
            !rule.ways.is_empty()
                && limit.source == Source::Learned
                && (limit.unit, limit.period, each) == (unit, period, is_each)
        };
        let known = self.rules.iter().position(same);
        if amount == 0 || known.is_none() && self.rules.len() >= MOST_STATED {
            return None;
        }
        let index = match known {
            Some(index) => index,
            None => {
                let (window, source) = (Window::Rolling, Source::Learned);
                let scope = if is_each { any_model()? } else { Scope::Account };
                let index = self.add_rule(Limit { unit, amount, period, window, scope, source });
                let rule = self.rules.get_mut(index)?;
                (rule.ways, rule.unnamed) = (ways(period), unnamed);
                index
            }
        };
        let began = self.began;
        let rule = self.rules.get_mut(index)?;
        let state = state_of(&mut rule.states, &rule.limit, scope, now);
        (state.amount, state.source, state.since) = (amount, Source::Learned, Some(now));
        state.watches(&rule.limit, &before, began, now);
        told(format!("{} learned from refusals", rule.limit.named(amount)))
    }

    /// A window was used up of which it is watched how it moves: what that teaches, and until when it is left alone.
    pub(super) fn refuse_course(
        &mut self,
        kind: Kind,
        (scope, model): (&str, &str),
        charge: Option<&Charge>,
        now: i64,
    ) -> Option<Change> {
        let again = self.blocks.get(scope).is_some_and(|block| block.until > now);
        let (unit, period) = kind;
        let of = |rule: &Rule| !rule.ways.is_empty() && (rule.limit.unit, rule.limit.period) == kind;
        let place = self.rules.iter().enumerate().filter(|(_, rule)| of(rule)).find_map(|(index, rule)| {
            let key = rule.key_for(model).filter(|key| rule.has(key))?;
            Some((index, key.to_owned()))
        });
        let (index, key) = place?;
        let rule = self.rules.get_mut(index)?;
        let was_open = rule.is_open();
        let shown = rule.has_not_moved(&key, charge, again, now);
        if shown == Shown::NoWay
            && rule.unnamed
            && let Some(longer) = longer_than(period)
            && (self.knows(longer, Some(unit), model)
                || self.watch((unit, longer), true, scope, now).is_some())
        {
            // It is a longer one, then.
            if let Some(rule) = self.rules.get_mut(index).filter(|_| was_open) {
                self.gone.push(key_of(&rule.limit, &key));
                rule.states.remove(&key);
            }
            return self.refuse_course((unit, longer), (scope, model), charge, now);
        }
        let turned = match shown {
            Shown::Turned(change) => Some(change),
            Shown::Nothing | Shown::Another | Shown::NoWay => None,
        };
        let is_known = self.rules.get(index).is_some_and(|rule| !rule.is_open()) && turned.is_none();
        let fixed =
            if is_known { self.fix(Some(unit), Some(period), model, charge, None, now) } else { None };
        let rule = self.rules.get(index)?;
        let until = rule.rests_for_now(rule.states.get(&key)?, now);
        // What the upstream names is no guess: nobody tries it before one of the ways has room.
        let guess = rule.unnamed;
        let off = self.put_off(scope, RefusalClass::Window(Some(period)), until, guess, now);
        turned.or(fixed).or(off)
    }
}

/// Whether the limit counts this unit, and is one that is used up.
fn is_of(unit: Option<Unit>, rule: &Rule) -> bool {
    let counts = !matches!(rule.limit.unit, Unit::Concurrent | Unit::Percent);
    counts && unit.is_none_or(|unit| rule.limit.unit == unit)
}
