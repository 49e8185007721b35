//! The user's own limits, which are hard and nevertheless used up, named after what must not happen.

use super::*;

#[test]
fn what_was_sent_in_the_window_before_does_not_take_the_last_place_of_the_users_own() {
    let own = limit("requests", 2, Some("minute"), "fixed", Source::Configured);
    let mut ledger = Ledger::new(vec![own]);
    // It may come in this minute or in the next one; it was sent in this one.
    let late = admitted(&mut ledger, Mode::Keep, MINUTE - 100).unwrap();
    ledger.settle(late, Actual::default(), Moment(MINUTE + 100));
    assert!(admitted(&mut ledger, Mode::Keep, MINUTE + 1_000).is_some());
    assert!(
        admitted(&mut ledger, Mode::Keep, MINUTE + 2_000).is_none(),
        "with care, as long as others may answer"
    );
    assert!(admitted(&mut ledger, Mode::Last, MINUTE + 2_000).is_some());
    assert!(admitted(&mut ledger, Mode::Last, MINUTE + 3_000).is_none(), "these two were sent in it");
}

#[test]
fn under_the_users_own_limit_no_room_is_kept_beyond_the_longest_answer() {
    let mut ledger = Ledger::new(vec![limit("tokens", 1_000, Some("minute"), "fixed", Source::Configured)]);
    let known = Need { answer_off: 100, most_output: Some(500), ..need(500, 100) };
    assert!(ledger.check(&known, Moment(0)).is_ok());
    let charge = ledger.admit(&Need { input_tokens: 100, ..known }, Mode::Keep, Moment(0)).unwrap();
    ledger.settle(
        charge,
        Actual { input_tokens: Some(100), output_tokens: Some(0), refused: false },
        Moment(1),
    );
    assert!(ledger.check(&Need { input_tokens: 400, ..known }, Moment(2)).is_ok());
    let unbounded = Need { most_output: None, ..need(400, 400) };
    assert!(ledger.check(&unbounded, Moment(2)).is_ok());
    assert!(ledger.check(&Need { answer_off: 100, ..unbounded }, Moment(2)).is_err(), "that may be longer");
}

#[test]
fn a_prompt_that_was_larger_than_thought_does_not_count_in_the_window_after_its_own() {
    for window in ["fixed", "rolling"] {
        let mut ledger =
            Ledger::new(vec![limit("tokens", 1_000, Some("minute"), window, Source::Configured)]);
        let charge = ledger.admit(&need(100, 100), Mode::Keep, Moment(10_000)).unwrap();
        let actual = Actual { input_tokens: Some(300), output_tokens: Some(50), refused: false };
        ledger.settle(charge, actual, Moment(MINUTE + 5_000));
        let used = |now| ledger.views(Moment(now))[0].used;
        let before = if window == "rolling" { 350 } else { 50 };
        assert_eq!((used(MINUTE + 5_000), used(MINUTE + 10_000)), (before, 50), "{window}");
    }
}

#[test]
fn a_hard_limit_holds_even_if_the_answer_is_as_long_as_it_may_be() {
    let own = limit("tokens", 1000, Some("minute"), "rolling", Source::Configured);
    let mut ledger =
        Ledger::new(vec![own, limit("output_tokens", 5000, Some("minute"), "rolling", Source::Catalogue)]);
    let long = Need { most_output: Some(500), ..need(50, 50) };
    let first = ledger.admit(&long, Mode::Keep, Moment(0)).unwrap();
    assert!(ledger.check(&long, Moment(1)).is_err(), "550 are reserved");
    assert_eq!(ledger.views(Moment(1))[1].used, 50, "a guess has no use for that");
    ledger.settle(
        first,
        Actual { input_tokens: Some(50), output_tokens: Some(20), refused: false },
        Moment(2),
    );
    let second = ledger.admit(&long, Mode::Keep, Moment(3)).unwrap();
    ledger.settle(second, Actual::default(), Moment(4));
    assert_eq!(ledger.views(Moment(5))[0].used, 70 + 550, "nothing was reported: it may have been all of it");
}
