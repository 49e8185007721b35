//! Whether a limit that was drawn from one model's refusals is for all: others are refused while it is used up, and
//! served while it is not. Pure.

use std::collections::HashMap;

use super::admission::Charge;
use super::learn::{Change, told};
use super::ledger::Ledger;
use super::limit::{Period, Scope, Unit};
use super::rows::key_of;
use super::standing::{Rule, State};

/// So often in a row another model is refused while it is used up, until it is for all.
const MOST_ELSEWHERE: u32 = 2;

// === impl Ledger ===

impl Ledger {
    /// A request for this model was refused, and nothing that is known of the model explains it.
    pub(super) fn refused_elsewhere(
        &mut self,
        unit: Option<Unit>,
        model: &str,
        charge: Option<&Charge>,
        now: i64,
    ) -> Option<Change> {
        let suspects = self.rules.iter().enumerate().filter(|(_, rule)| rule.is_of_others(model));
        let suspects = suspects.filter(|(_, rule)| unit.is_none_or(|unit| rule.limit.unit == unit));
        let fullest = suspects.filter_map(|(index, rule)| {
            let (_, state) = rule.fullest(now)?;
            let used = state.count.used(&rule.limit, state.amount, now);
            let share = u128::from(used) * 1_000_000 / u128::from(state.amount.max(1));
            state.is_as_good_as_full(&rule.limit, now).then_some((share, index))
        });
        let (_, index) = fullest.max()?;
        let rule = self.rules.get_mut(index)?;
        rule.elsewhere = rule.elsewhere.saturating_add(1);
        if rule.elsewhere < MOST_ELSEWHERE {
            return None;
        }
        // What that model took of it was not counted there.
        let minute = self.minute.get(model).map(|minute| minute.seconds(rule.limit.unit, now));
        let begin = rule.fullest(now).and_then(|(_, state)| state.count.began(&rule.limit, now));
        let mut taken = minute.unwrap_or_default();
        taken.retain(|(at, _)| begin.is_none_or(|begin| *at >= begin));
        let refused = charge.map_or(0, |charge| charge.likely(rule.limit.unit));
        let taken = taken.iter().fold(0_u64, |sum, (_, n)| n.saturating_add(sum)).saturating_sub(refused);
        self.gone.extend(rule.states.keys().map(|key| key_of(&rule.limit, key)));
        rule.is_for_all(taken, now)
    }

    /// A request for this model was served: what is used up elsewhere is not shared by it.
    pub(super) fn served_elsewhere(&mut self, model: &str, now: i64) {
        for rule in self.rules.iter_mut().filter(|rule| rule.elsewhere > 0 && rule.is_of_others(model)) {
            // For certain, without what is only reserved or estimated.
            let is_full =
                |state: &State| state.spent(&rule.limit, now).saturating_sub(state.doubts()) >= state.amount;
            if rule.states.values().any(is_full) {
                rule.elsewhere = 0;
            }
        }
    }
}

// === impl Rule ===

impl Rule {
    /// Whether it was learned for other models than this one.
    fn is_of_others(&self, model: &str) -> bool {
        let own = self.limit.source.is_own() && matches!(self.limit.scope, Scope::Each(_));
        let counts = !matches!(self.limit.unit, Unit::Concurrent | Unit::Percent);
        own && counts && self.limit.period == Period::MINUTE && !self.states.contains_key(model)
    }

    /// The state of which most is used.
    fn fullest(&self, now: i64) -> Option<(&String, &State)> {
        self.states.iter().max_by_key(|(_, state)| state.count.used(&self.limit, state.amount, now))
    }

    /// It is for the account, of which so much was taken that was not counted here.
    fn is_for_all(&mut self, taken: u64, now: i64) -> Option<Change> {
        let key = self.fullest(now).map(|(key, _)| key.clone())?;
        let mut all = self.states.remove(&key)?;
        for (_, other) in self.states.drain() {
            let used = other.count.used(&self.limit, other.amount, now);
            all.count.add(&self.limit, all.amount, used, now);
            all.out.extend(other.out);
        }
        all.count.add(&self.limit, all.amount, taken, now);
        (all.probe, all.dirty) = (None, true);
        let change = told(format!("{} is for all models", self.limit.named(all.amount)));
        self.states.insert(String::new(), all);
        self.limit.scope = Scope::Account;
        change
    }
}

/// The state in which a part of a charge was counted, whatever it is for by now.
pub(super) fn state_of_part<'s>(states: &'s mut HashMap<String, State>, key: &str) -> Option<&'s mut State> {
    let key = if states.contains_key(key) { key } else { "" };
    states.get_mut(key)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::Moment;
    use super::super::admission::{Actual, Mode, Need};
    use super::super::said::{Refusal, RefusalClass};
    use super::*;

    const SECOND: i64 = 1_000;
    const MINUTE: i64 = 60 * SECOND;

    fn need(model: &str) -> Need<'_> {
        Need {
            model,
            input_tokens: 100,
            output_tokens: 100,
            off: 0,
            answer_off: 0,
            most_output: None,
            stream: false,
        }
    }

    fn spend(ledger: &mut Ledger, model: &str, times: usize, now: i64) -> usize {
        let mut served = 0;
        while served < times
            && let Ok(charge) = ledger.admit(&need(model), Mode::Keep, Moment(now))
        {
            ledger.succeeded(&charge, model, Moment(now));
            ledger.settle(charge, Actual::default(), Moment(now));
            served += 1;
        }
        served
    }

    fn refuse(ledger: &mut Ledger, model: &str, now: i64) {
        let charge = ledger.admit(&need(model), Mode::Alone, Moment(now)).unwrap();
        let no = Refusal {
            class: RefusalClass::Window(None),
            per_model: true,
            unit: None,
            retry_after: Some(Duration::from_secs(1)),
        };
        ledger.refuse(&no, model, None, Some(&charge), Moment(now));
        let nothing = Actual { input_tokens: Some(0), output_tokens: Some(0), refused: true };
        ledger.settle(charge, nothing, Moment(now));
    }

    /// The account takes ten requests in a minute, of whatever models; one has met that.
    fn met() -> Ledger {
        let mut ledger = Ledger::new(Vec::new());
        assert_eq!(spend(&mut ledger, "large", 10, 0), 10);
        refuse(&mut ledger, "large", SECOND);
        ledger
    }

    #[test]
    fn what_all_models_share_is_not_met_by_each_of_them_again_and_again() {
        let mut ledger = met();
        refuse(&mut ledger, "small", 2 * SECOND);
        let next = 2 * MINUTE;
        assert_eq!(spend(&mut ledger, "large", 10, next), 10);
        refuse(&mut ledger, "small", next + SECOND);
        let later = 4 * MINUTE;
        assert_eq!(spend(&mut ledger, "large", 4, later), 4);
        assert_eq!(spend(&mut ledger, "small", 20, later), 6);
        let after = 6 * MINUTE;
        assert_eq!(spend(&mut ledger, "small", 20, after), 10);
    }

    #[test]
    fn what_is_each_models_own_is_not_taken_for_the_accounts() {
        let mut ledger = met();
        refuse(&mut ledger, "small", 2 * SECOND);
        for minute in [2, 4, 6] {
            let now = minute * MINUTE;
            assert_eq!(spend(&mut ledger, "large", 10, now), 10);
            assert_eq!(spend(&mut ledger, "small", 3, now + SECOND), 3, "served while that is used up");
            refuse(&mut ledger, "small", now + 2 * SECOND);
        }
        let now = 8 * MINUTE;
        assert_eq!(spend(&mut ledger, "large", 10, now), 10);
        assert!(spend(&mut ledger, "small", 3, now + SECOND) > 0);
    }

    #[test]
    fn what_was_out_when_a_limit_became_the_accounts_is_settled_there_and_kept_across_a_restart() {
        let mut ledger = met();
        refuse(&mut ledger, "small", 2 * SECOND);
        let now = 2 * MINUTE;
        ledger.dirty();
        assert_eq!(spend(&mut ledger, "large", 1, now), 1);
        let out = ledger.admit(&need("large"), Mode::Keep, Moment(now)).unwrap();
        assert_eq!(spend(&mut ledger, "large", 8, now), 8);
        refuse(&mut ledger, "small", now + SECOND);
        ledger.refund(out, Moment(now + 2 * SECOND));
        let used = |ledger: &Ledger| {
            let views = ledger.views(Moment(now + 3 * SECOND));
            views.into_iter().find(|view| view.model.is_none()).map(|view| (view.used, view.amount))
        };
        assert_eq!(used(&ledger), Some((9, 10)));
        let rows = ledger.dirty();
        assert!(rows.iter().any(|(key, json)| key.ends_with("|large") && json == "null"), "{rows:?}");
        let rows: Vec<(&str, &str)> = rows.iter().map(|(key, json)| (key.as_str(), json.as_str())).collect();
        let mut after = Ledger::new(Vec::new());
        after.restore(&rows, Moment(now + 3 * SECOND));
        assert_eq!(used(&after), Some((9, 10)));
    }
}
