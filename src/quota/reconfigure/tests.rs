//! What was used stays used, whatever becomes of the limits.

use super::*;
use crate::quota::{Actual, LimitView, Mode, Need};

fn limit(unit: &str, amount: u64, per: Option<&str>, window: Option<&str>, source: Source) -> Limit {
    Limit::parse(unit, amount, per, None, false, window, None, source).unwrap()
}

fn own(amount: u64, per: &str) -> Limit {
    limit("requests", amount, Some(per), None, Source::Configured)
}

fn guess(amount: u64, per: &str) -> Limit {
    limit("requests", amount, Some(per), None, Source::Catalogue)
}

fn need() -> Need<'static> {
    Need {
        model: "m",
        input_tokens: 1,
        output_tokens: 1,
        off: 0,
        answer_off: 0,
        most_output: None,
        stream: false,
    }
}

/// The time of all of it, but where it says otherwise: well within a minute, an hour and a day.
const NOW: Moment = Moment(1_700_000_030_000);

fn later(seconds: i64) -> Moment {
    Moment(NOW.0 + seconds * 1000)
}

/// A ledger with this limit, under which so many requests were sent.
fn used(limit: Limit, requests: usize) -> Ledger {
    let mut ledger = Ledger::new(vec![limit]);
    for _ in 0..requests {
        send(&mut ledger, NOW);
    }
    ledger
}

fn send(ledger: &mut Ledger, now: Moment) {
    let charge = ledger.admit(&need(), Mode::Keep, now).unwrap();
    let actual = Actual { input_tokens: Some(1), output_tokens: Some(1), refused: false };
    ledger.settle(charge, actual, now);
}

fn views(ledger: &Ledger, now: Moment) -> Vec<(String, u64, u64)> {
    let told = |view: LimitView| (view.window, view.used, view.amount);
    ledger.views(now).into_iter().map(told).collect()
}

#[track_caller]
fn assert_only(ledger: &Ledger, now: Moment, window: &str, used: u64, amount: u64) {
    assert_eq!(views(ledger, now), [(window.to_owned(), used, amount)]);
}

#[test]
fn another_amount_keeps_the_count_and_a_smaller_one_holds_at_once() {
    let mut ledger = used(own(10, "minute"), 4);
    ledger.reconfigure(vec![own(20, "minute")], NOW);
    assert_only(&ledger, NOW, "minute", 4, 20);
    ledger.reconfigure(vec![own(4, "minute")], NOW);
    assert_only(&ledger, NOW, "minute", 4, 4);
    assert!(ledger.admit(&need(), Mode::Alone, NOW).is_err(), "the user's own limit is hard");
    assert!(ledger.admit(&need(), Mode::Alone, later(61)).is_ok());
}

#[test]
fn another_way_for_the_window_to_move_keeps_what_was_used() {
    for window in ["rolling", "fixed", "bucket", "session"] {
        for next in ["rolling", "fixed", "bucket", "session"] {
            let of = |window| limit("requests", 10, Some("day"), Some(window), Source::Configured);
            let mut ledger = used(of(window), 3);
            ledger.reconfigure(vec![of(next)], NOW);
            assert_only(&ledger, NOW, "day", 3, 10);
        }
    }
}

#[test]
fn a_guess_that_the_user_makes_his_own_keeps_the_count_and_so_does_the_way_back() {
    let mut ledger = used(guess(10, "minute"), 4);
    ledger.reconfigure(vec![own(5, "minute")], NOW);
    assert_only(&ledger, NOW, "minute", 4, 5);
    ledger.reconfigure(vec![guess(10, "minute")], NOW);
    assert_only(&ledger, NOW, "minute", 4, 10);
    assert_eq!(ledger.views(NOW)[0].source, Source::Catalogue);
}

#[test]
fn a_longer_window_begins_with_what_is_known_of_it_and_a_shorter_one_with_what_is_in_it() {
    let mut ledger = used(own(10, "minute"), 4);
    ledger.reconfigure(vec![own(100, "hour")], NOW);
    assert_only(&ledger, NOW, "hour", 4, 100);
    send(&mut ledger, later(600));
    ledger.reconfigure(vec![own(10, "minute")], later(601));
    assert_only(&ledger, later(601), "minute", 1, 10);
}

#[test]
fn a_limit_that_was_taken_out_comes_back_with_its_count() {
    let mut ledger = used(own(10, "day"), 4);
    ledger.reconfigure(Vec::new(), NOW);
    assert_eq!(views(&ledger, NOW), []);
    send(&mut ledger, NOW);
    ledger.reconfigure(vec![own(10, "day")], later(60));
    assert_only(&ledger, later(60), "day", 4, 10);
}

#[test]
fn what_is_in_flight_settles_under_the_limit_as_it_is_now() {
    let mut ledger = Ledger::new(vec![limit("tokens", 1_000, Some("day"), None, Source::Configured)]);
    let big = Need { output_tokens: 499, ..need() };
    let charge = ledger.admit(&big, Mode::Keep, NOW).unwrap();
    ledger.reconfigure(vec![limit("tokens", 2_000, Some("day"), None, Source::Configured)], NOW);
    assert_only(&ledger, NOW, "day", 500, 2_000);
    ledger.settle(charge, Actual { input_tokens: Some(1), output_tokens: Some(9), refused: false }, later(1));
    assert_only(&ledger, later(1), "day", 10, 2_000);
}

#[test]
fn places_are_held_by_those_in_flight_and_given_back_once_whatever_became_of_the_limit() {
    let places = |amount| limit("concurrent", amount, None, None, Source::Configured);
    let actual = Actual { input_tokens: None, output_tokens: None, refused: false };
    // It is new, larger, gone, and back: those in flight hold their places in each.
    for between in [vec![], vec![places(9)], vec![places(3)]] {
        let mut ledger = Ledger::new(between.clone());
        let charges: Vec<Charge> = (0..2).map(|_| ledger.admit(&need(), Mode::Keep, NOW).unwrap()).collect();
        ledger.reconfigure(vec![], NOW);
        ledger.reconfigure(vec![places(3)], NOW);
        assert_eq!(ledger.views(NOW)[0].used, 2, "{between:?}");
        let third = ledger.admit(&need(), Mode::Keep, NOW).unwrap();
        assert!(ledger.admit(&need(), Mode::Keep, NOW).is_err(), "{between:?}");
        for charge in charges.into_iter().chain([third]) {
            ledger.settle(charge, actual, NOW);
        }
        assert_eq!(ledger.views(NOW)[0].used, 0, "{between:?}");
        for _ in 0..3 {
            ledger.admit(&need(), Mode::Keep, NOW).unwrap();
        }
        assert!(ledger.admit(&need(), Mode::Keep, NOW).is_err(), "{between:?}");
    }
}

#[test]
fn what_the_upstream_stated_outlasts_the_configuration() {
    let statement = crate::quota::Statement {
        unit: Unit::Requests,
        period: Some(Period::MINUTE),
        per_model: false,
        amount: Some(30),
        remaining: Some(20),
        resets_in: None,
        refills: false,
    };
    let mut ledger = Ledger::new(Vec::new());
    ledger.state(&statement, Source::Header, "m", None, NOW);
    let before = ledger.views(NOW);
    assert_eq!(before.len(), 1);
    ledger.reconfigure(Vec::new(), NOW);
    assert_eq!(ledger.views(NOW), before);
}

#[test]
fn a_file_that_is_rewritten_for_ever_takes_no_room_for_ever() {
    let mut ledger = Ledger::new(Vec::new());
    for seconds in 1..1_000 {
        ledger.reconfigure(vec![own(10, &format!("{seconds}s"))], NOW);
    }
    assert!(ledger.former.len() <= MOST_FORMER);
}

#[test]
fn what_was_counted_under_a_guess_is_not_lost_when_the_users_own_limit_comes_back() {
    let mut ledger = used(own(10, "day"), 1);
    ledger.reconfigure(vec![guess(10, "day")], NOW);
    send(&mut ledger, NOW);
    ledger.reconfigure(Vec::new(), NOW);
    ledger.reconfigure(vec![own(10, "minute")], NOW);
    send(&mut ledger, NOW);
    ledger.reconfigure(vec![own(10, "day")], later(1));
    assert_only(&ledger, later(1), "day", 2, 10);
}
