//! What is drawn from requests that were too large, named after what must not happen.

use super::super::super::Moment;
use super::super::super::admission::{Actual, Cause, Mode, Need};
use super::super::super::said::{Refusal, RefusalClass, Statement};
use super::super::*;

fn need(input_tokens: u64) -> Need<'static> {
    Need {
        model: "m",
        input_tokens,
        output_tokens: 1,
        off: 0,
        answer_off: 0,
        most_output: None,
        stream: false,
    }
}

/// Sends a request of this size, which is refused for it.
fn too_large(ledger: &mut Ledger, mode: Mode, size: u64, unit: Option<Unit>, now: i64) -> Option<Change> {
    let charge = ledger.admit(&need(size), mode, Moment(now)).unwrap();
    let refusal = Refusal { class: RefusalClass::TooLarge, per_model: true, unit, retry_after: None };
    let change = ledger.refuse(&refusal, "m", Some(size), Some(&charge), Moment(now));
    ledger.settle(charge, Actual { refused: true, ..Actual::default() }, Moment(now));
    change
}

#[test]
fn a_ceiling_that_was_drawn_from_an_estimate_does_not_hold_for_ever() {
    let mut ledger = Ledger::new(Vec::new());
    assert!(too_large(&mut ledger, Mode::Keep, 5_520, None, 0).is_some());
    let denial = ledger.check(&need(7_200), Moment(1)).unwrap_err();
    assert_eq!((denial.cause, denial.probe), (Cause::NeverFits, false), "it has just been refused");
    assert!(ledger.check(&need(5_519), Moment(1)).is_ok());
    // Where there is nobody else, the upstream says what it takes; else that is found out in a while.
    let refund = ledger.admit(&need(7_200), Mode::Alone, Moment(2)).unwrap();
    assert!(ledger.admit(&need(7_200), Mode::Alone, Moment(3)).is_err(), "one at a time");
    ledger.refund(refund, Moment(4));
    let later = SHORTEST_REST + 1;
    assert!(ledger.check(&need(7_200), Moment(later)).unwrap_err().probe);
    assert!(ledger.admit(&need(7_200), Mode::Keep, Moment(later)).is_err());
    let probe = ledger.admit(&need(7_200), Mode::Probe, Moment(later)).unwrap();
    assert!(ledger.succeeded(&probe, "m", Moment(later + 1)).is_some());
    let actual = Actual { input_tokens: Some(7_000), output_tokens: Some(1), refused: false };
    ledger.settle(probe, actual, Moment(later + 2));
    assert!(ledger.check(&need(7_200), Moment(later + 3)).is_ok());
    assert!(ledger.check(&need(7_201), Moment(later + 3)).is_err());
    assert_eq!(ledger.views(Moment(later + 3))[0].used, 0, "a ceiling counts nothing");
}

#[test]
fn a_ceiling_that_holds_is_not_tried_again_and_again() {
    let mut ledger = Ledger::new(Vec::new());
    too_large(&mut ledger, Mode::Keep, 5_520, None, 0);
    let mut now = SHORTEST_REST + 1;
    assert!(too_large(&mut ledger, Mode::Probe, 6_000, None, now).is_none());
    now += SHORTEST_REST + 1;
    assert!(!ledger.check(&need(6_000), Moment(now)).unwrap_err().probe, "each time it rests for longer");
    now += SHORTEST_REST;
    assert!(ledger.check(&need(6_000), Moment(now)).unwrap_err().probe);
    // What is smaller than what was refused before, and refused as well, lowers it.
    assert!(too_large(&mut ledger, Mode::Keep, 5_000, None, now).is_some());
    assert!(ledger.check(&need(5_000), Moment(now)).is_err());
}

#[test]
fn what_is_larger_than_a_stated_minute_teaches_no_ceiling_besides() {
    let mut ledger = Ledger::new(Vec::new());
    let statement = Statement {
        unit: Unit::Tokens,
        period: Some(Period::MINUTE),
        per_model: true,
        amount: Some(8_000),
        remaining: None,
        resets_in: None,
        refills: true,
    };
    ledger.state(&statement, Source::Header, "m", None, Moment(0));
    assert!(too_large(&mut ledger, Mode::Keep, 5_520, Some(Unit::Tokens), 1).is_none());
    assert!(ledger.check(&need(7_200), Moment(MINUTE)).is_ok());
    assert_eq!(ledger.check(&need(8_001), Moment(MINUTE)).unwrap_err().cause, Cause::NeverFits);
}
