//! What is lent of reserved room, named after what must not happen.

use super::super::admission::{Actual, Cause, Denial};
use super::super::said::{Refusal, RefusalClass};
use super::super::{Moment, Source};
use super::*;

const MINUTE: i64 = 60_000;

fn ledger(source: Source) -> Ledger {
    let limit = Limit::parse("tokens", 1_000, Some("minute"), None, false, Some("fixed"), None, source);
    Ledger::new(vec![limit.unwrap()])
}

fn need(input: u64, output: u64) -> Need<'static> {
    Need {
        model: "m",
        input_tokens: input,
        output_tokens: output,
        off: 0,
        answer_off: 0,
        most_output: None,
        stream: false,
    }
}

fn crowded() -> Refusal {
    Refusal { class: RefusalClass::Window(None), per_model: true, unit: None, retry_after: None }
}

fn admit(ledger: &mut Ledger, need: &Need<'_>, mode: Mode, now: i64) -> Result<Charge, Denial> {
    ledger.admit(need, mode, Moment(now))
}

fn refuse(ledger: &mut Ledger, charge: Charge, now: i64) {
    ledger.refuse(&crowded(), "m", None, Some(&charge), Moment(now));
    let nothing = Actual { input_tokens: Some(0), output_tokens: Some(0), refused: true };
    ledger.settle(charge, nothing, Moment(now));
}

fn answer(ledger: &mut Ledger, charge: Charge, tokens: (u64, u64), now: i64) {
    ledger.succeeded(&charge, "m", Moment(now));
    let (input, output) = tokens;
    let actual = Actual { input_tokens: Some(input), output_tokens: Some(output), refused: false };
    ledger.settle(charge, actual, Moment(now));
}

#[test]
fn nobody_fails_for_room_that_is_only_reserved() {
    let mut ledger = ledger(Source::Catalogue);
    let first = admit(&mut ledger, &need(300, 500), Mode::Keep, 0).unwrap();
    assert!(admit(&mut ledger, &need(300, 50), Mode::Keep, 1).is_err(), "others may have room");
    let lent = admit(&mut ledger, &need(300, 50), Mode::Probe, 1).unwrap();
    answer(&mut ledger, lent, (300, 50), 2);
    answer(&mut ledger, first, (300, 40), 3);
    assert_eq!(ledger.views(Moment(4))[0].used, 690, "what was used is counted once");
}

#[test]
fn the_users_own_limit_is_lent_to_nobody_but_waited_for() {
    let mut ledger = ledger(Source::Configured);
    let first = admit(&mut ledger, &need(300, 500), Mode::Keep, 0).unwrap();
    for mode in [Mode::Keep, Mode::Probe, Mode::Last, Mode::Alone] {
        let denial = admit(&mut ledger, &need(300, 50), mode, 1).unwrap_err();
        let soon = denial.until.is_some_and(|until| until.0 < 1_000);
        assert!(denial.cause == Cause::Window && soon && !denial.probe, "{mode:?}: {denial:?}");
    }
    answer(&mut ledger, first, (300, 500), 2);
    let denial = admit(&mut ledger, &need(300, 50), Mode::Last, 3).unwrap_err();
    assert_eq!(denial.until.map(|until| until.0 / 1_000), Some(60), "now it is used");
}

#[test]
fn room_that_is_spent_is_not_lent() {
    let mut ledger = ledger(Source::Catalogue);
    let first = admit(&mut ledger, &need(800, 100), Mode::Keep, 0).unwrap();
    let denial = admit(&mut ledger, &need(201, 1), Mode::Keep, 1).unwrap_err();
    assert_eq!(denial.until.map(|until| until.0 / 1_000), Some(60));
    // It may exceed the guess, as a probe.
    let probe = admit(&mut ledger, &need(201, 1), Mode::Probe, 1).unwrap();
    assert!(admit(&mut ledger, &need(201, 1), Mode::Last, 2).is_err(), "alone");
    drop((first, probe));
}

#[test]
fn not_all_are_let_in_at_once_before_one_was() {
    let mut ledger = ledger(Source::Header);
    let _first = admit(&mut ledger, &need(100, 850), Mode::Keep, 0).unwrap();
    let small = need(50, 20);
    let lent = admit(&mut ledger, &small, Mode::Probe, 1).unwrap();
    let denial = admit(&mut ledger, &small, Mode::Probe, 2).unwrap_err();
    assert!(denial.until.is_some_and(|until| until.0 < 1_000), "{denial:?}");
    answer(&mut ledger, lent, (50, 20), 100);
    let both: Vec<_> = (0..2).map(|_| admit(&mut ledger, &small, Mode::Probe, 101)).collect();
    assert!(both.iter().all(Result::is_ok), "it went well once");
    assert!(admit(&mut ledger, &small, Mode::Probe, 102).is_err());
    assert!(admit(&mut ledger, &small, Mode::Last, 102).is_ok(), "who cannot wait goes");
}

#[test]
fn a_prompt_that_was_refused_is_not_followed_by_a_larger_one_and_puts_no_smaller_one_off() {
    let mut ledger = ledger(Source::Header);
    let first = admit(&mut ledger, &need(600, 390), Mode::Keep, 0).unwrap();
    let lent = admit(&mut ledger, &need(300, 20), Mode::Probe, 1).unwrap();
    refuse(&mut ledger, lent, 2);
    for mode in [Mode::Probe, Mode::Last] {
        assert!(admit(&mut ledger, &need(300, 20), mode, 1_500).is_err());
    }
    assert!(ledger.blocks(Moment(3)).is_empty());
    let smaller = admit(&mut ledger, &need(100, 20), Mode::Probe, 1_500).unwrap();
    answer(&mut ledger, smaller, (100, 20), 1_600);
    answer(&mut ledger, first, (600, 10), 1_700);
    assert!(admit(&mut ledger, &need(300, 20), Mode::Keep, MINUTE + IN_TRANSIT).is_ok(), "a new window");
}

#[test]
fn an_upstream_that_counts_answers_in_advance_is_not_tried_each_minute() {
    let mut ledger = ledger(Source::Header);
    let mut refused = 0;
    for minute in 0..600 {
        let now = minute * MINUTE + IN_TRANSIT;
        let Ok(first) = admit(&mut ledger, &need(500, 490), Mode::Keep, now) else { continue };
        for step in 1..30 {
            if let Ok(lent) = admit(&mut ledger, &need(200, 20), Mode::Probe, now + step * 1_000) {
                refuse(&mut ledger, lent, now + step * 1_000 + 10);
                refused += 1;
            }
        }
        answer(&mut ledger, first, (500, 490), now + 40_000);
    }
    assert!((3..=14).contains(&refused), "{refused}");
}

#[test]
fn who_cannot_wait_any_longer_does_not_fail_for_what_an_estimate_may_be_wrong_by() {
    let mut ledger = ledger(Source::Header);
    let first = admit(&mut ledger, &need(850, 10), Mode::Keep, 0).unwrap();
    answer(&mut ledger, first, (850, 10), 1);
    let unsure = Need { off: 20, ..need(140, 20) };
    assert!(admit(&mut ledger, &unsure, Mode::Probe, 2).is_err(), "it may well be refused");
    let larger = Need { off: 20, ..need(180, 20) };
    assert!(admit(&mut ledger, &larger, Mode::Last, 2).is_err(), "it is refused for certain");
    let perhaps = Need { off: 20, ..need(160, 20) };
    let charge = admit(&mut ledger, &perhaps, Mode::Last, 2).unwrap();
    refuse(&mut ledger, charge, 3);
    assert!(admit(&mut ledger, &perhaps, Mode::Last, 4).is_err(), "that was refused");
    assert!(admit(&mut ledger, &unsure, Mode::Last, 4).is_ok());
}

#[test]
fn who_cannot_wait_is_not_sent_into_what_answers_will_take() {
    let mut ledger = ledger(Source::Header);
    let first = admit(&mut ledger, &need(300, 600), Mode::Keep, 0).unwrap();
    // Half as large as it may turn out to be, it would be refused as often as not.
    let unsure = Need { off: 200, ..need(400, 300) };
    assert!(admit(&mut ledger, &unsure, Mode::Last, 1).is_err(), "its answer was promised that room");
    assert!(admit(&mut ledger, &need(80, 30), Mode::Last, 1).is_ok(), "and this fits beside it");
    answer(&mut ledger, first, (300, 600), 2);
}

#[test]
fn who_is_at_the_edge_of_a_bucket_all_day_is_not_refused_as_often_as_not() {
    let day = Limit::parse("tokens", 86_400, Some("day"), None, false, Some("bucket"), None, Source::Header);
    let mut ledger = Ledger::new(vec![day.unwrap()]);
    let first = admit(&mut ledger, &need(86_300, 10), Mode::Keep, 0).unwrap();
    answer(&mut ledger, first, (86_300, 10), 1);
    let unsure = |input| Need { off: 20, ..need(input, 20) };
    assert!(admit(&mut ledger, &unsure(110), Mode::Last, 2).is_err(), "in some seconds it fits");
    assert!(admit(&mut ledger, &unsure(85), Mode::Last, 2).is_ok());
}

#[test]
fn who_cannot_wait_does_not_fail_for_what_a_learned_limit_may_be_wrong_by() {
    for (source, fits) in [(Source::Learned, true), (Source::Header, false)] {
        let mut ledger = ledger(source);
        let first = admit(&mut ledger, &need(900, 10), Mode::Keep, 0).unwrap();
        answer(&mut ledger, first, (890, 10), 1);
        // It was exceeded in vain not long ago.
        ledger.rules[0].states.values_mut().for_each(|state| state.evidence.rest_until = MINUTE);
        assert!(admit(&mut ledger, &need(103, 1), Mode::Last, 3).is_err());
        assert_eq!(admit(&mut ledger, &need(102, 1), Mode::Last, 3).is_ok(), fits, "{source:?}");
    }
}
