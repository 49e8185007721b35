//! When and how often an admitted request is really sent. One that waited after its admission counts from its sending
//! on, as it does at the upstream; one that is sent once more, because a field of it was refused or its connection was
//! dead, counts each time. Pure.

use super::Moment;
use super::admission::Charge;
use super::ledger::Ledger;
use super::limit::Unit;
use super::shared::state_of_part;

// === impl Charge ===

impl Charge {
    /// Whether so much time went by since its admission that it counts from its sending on.
    pub fn waited(&self, now: Moment) -> bool {
        now.0.saturating_sub(self.at) > AT_ONCE
    }
}

// === impl Ledger ===

/// What is sent within this time of its admission need not be counted anew.
pub(super) const AT_ONCE: i64 = 20;

impl Ledger {
    /// The request of this charge is sent now. If it was admitted a while ago, it counts from now on.
    pub fn departs(&mut self, charge: &mut Charge, now: Moment) {
        let now = self.heed(now);
        if !charge.waited(Moment(now)) {
            return;
        }
        for part in charge.parts.iter().filter(|part| part.unit != Unit::Concurrent) {
            let Some(rule) = self.rules.iter_mut().find(|rule| rule.id == part.rule) else { continue };
            let Some(state) = state_of_part(&mut rule.states, &part.key) else { continue };
            let counted = part.counted(charge.at.min(now), part.n);
            state.count.take_back(&rule.limit, state.amount, counted, now);
            state.count.add(&rule.limit, state.amount, part.n, now);
            state.out.iter_mut().filter(|out| out.sequence == charge.sequence).for_each(|out| out.at = now);
            state.dirty = true;
        }
        charge.at = now;
    }

    /// The request of this charge is sent once more. What was sent before stays counted; it took no tokens, as it was
    /// not answered, so that what is reserved of them holds for the next one.
    pub fn again(&mut self, charge: &Charge, model: &str, now: Moment) {
        let now = self.heed(now);
        for part in charge.parts.iter().filter(|part| part.unit == Unit::Requests) {
            let Some(rule) = self.rules.iter_mut().find(|rule| rule.id == part.rule) else { continue };
            let Some(state) = state_of_part(&mut rule.states, &part.key) else { continue };
            state.count.add(&rule.limit, state.amount, part.n, now);
            state.dirty = true;
        }
        for key in ["", model] {
            if let Some(minute) = self.minute.get_mut(key) {
                minute.count(0, now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quota::{Actual, Limit, Mode, Need, Source, Statement};

    const NEED: Need<'_> = Need {
        model: "m",
        input_tokens: 10,
        output_tokens: 20,
        off: 0,
        answer_off: 0,
        most_output: None,
        stream: false,
    };

    fn ledger(amount: u64) -> Ledger {
        let limit = |unit: &str, amount| {
            Limit::parse(unit, amount, Some("hour"), None, false, None, None, Source::Configured).unwrap()
        };
        Ledger::new(vec![limit("requests", amount), limit("tokens", 1_000)])
    }

    fn used(ledger: &Ledger, now: Moment) -> [u64; 2] {
        let views = ledger.views(now);
        [views[0].used, views[1].used]
    }

    #[test]
    fn a_request_that_waited_after_its_admission_does_not_leave_its_window_early() {
        let (mut ledger, now) = (ledger(1), Moment(0));
        let mut charge = ledger.admit(&NEED, Mode::Keep, now).unwrap();
        ledger.departs(&mut charge, Moment(600_000));
        ledger.settle(
            charge,
            Actual { input_tokens: Some(4), output_tokens: Some(6), refused: false },
            Moment(700_000),
        );
        assert_eq!(used(&ledger, Moment(4_199_999)), [1, 10]);
        assert_eq!(used(&ledger, Moment(4_200_000)), [0, 6], "the answer was given later");
        assert_eq!(used(&ledger, Moment(4_300_000)), [0, 0]);
    }

    #[test]
    fn a_second_request_on_one_charge_does_not_go_uncounted() {
        let (mut ledger, now) = (ledger(3), Moment(1_000_000));
        let charge = ledger.admit(&NEED, Mode::Keep, now).unwrap();
        ledger.again(&charge, "m", Moment(now.0 + 5));
        assert_eq!(used(&ledger, now), [2, 30]);
        let actual = Actual { input_tokens: Some(4), output_tokens: Some(6), refused: false };
        ledger.settle(charge, actual, Moment(now.0 + 10));
        assert_eq!(used(&ledger, Moment(now.0 + 10)), [2, 10]);
        assert!(ledger.admit(&NEED, Mode::Keep, Moment(now.0 + 20)).is_ok());
        assert!(ledger.admit(&NEED, Mode::Keep, Moment(now.0 + 30)).is_err());
    }

    #[test]
    fn what_the_upstream_counted_is_not_counted_again() {
        let limit = Limit::parse("requests", 9, Some("hour"), None, false, None, None, Source::Catalogue);
        let (mut ledger, now) = (Ledger::new(vec![limit.unwrap()]), Moment(1_000_000));
        let charge =
            ledger.admit(&Need { input_tokens: 0, output_tokens: 0, ..NEED }, Mode::Keep, now).unwrap();
        ledger.again(&charge, "m", now);
        let statement = Statement {
            unit: Unit::Requests,
            period: None,
            per_model: false,
            amount: Some(9),
            remaining: Some(7),
            resets_in: None,
            refills: false,
        };
        ledger.state(&statement, Source::Header, "m", Some(&charge), now);
        ledger.settle(charge, Actual::default(), now);
        assert_eq!(ledger.views(now)[0].used, 2);
    }
}
