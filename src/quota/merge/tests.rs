//! Two ledgers of one account, named after what must not happen.

use std::time::Duration;

use super::super::admission::{Actual, Mode, Need};
use super::super::said::{Refusal, RefusalClass};
use super::*;

const NEED: Need<'_> = Need {
    model: "m",
    input_tokens: 1,
    output_tokens: 1,
    off: 0,
    answer_off: 0,
    most_output: None,
    stream: false,
};

type Rows = Vec<(String, String)>;

fn limit(window: &str, per: &str) -> Limit {
    Limit::parse("requests", 1_000, Some(per), None, false, Some(window), None, Source::Configured).unwrap()
}

fn begun(window: &str, per: &str, rows: &Rows, now: i64) -> Ledger {
    let mut ledger = Ledger::new(vec![limit(window, per)]);
    ledger.restore(&borrowed(rows), Moment(now));
    ledger
}

fn borrowed(rows: &Rows) -> Vec<(&str, &str)> {
    rows.iter().map(|(key, json)| (key.as_str(), json.as_str())).collect()
}

fn spend(ledger: &mut Ledger, times: usize, now: i64) {
    for _ in 0..times {
        let charge = ledger.admit(&NEED, Mode::Keep, Moment(now)).unwrap();
        ledger.settle(charge, Actual::default(), Moment(now));
    }
}

fn used(ledger: &Ledger, now: i64) -> u64 {
    ledger.views(Moment(now))[0].used
}

/// What the successor has counted in the end: `first` before it began, then `second` by the old one and `own` by itself.
fn taken_over(window: &str, per: &str, first: usize, second: usize, own: usize) -> u64 {
    const BEGUN: i64 = 10_000_000;
    let mut old = begun(window, per, &Rows::new(), BEGUN);
    spend(&mut old, first, BEGUN);
    let before = old.rows();
    let mut new = begun(window, per, &before, BEGUN + 1_000);
    spend(&mut old, second, BEGUN + 2_000);
    spend(&mut new, own, BEGUN + 2_500);
    new.merge(&borrowed(&before), &borrowed(&old.rows()), Moment(BEGUN + 3_000));
    used(&new, BEGUN + 3_000)
}

#[test]
fn what_the_old_one_counted_at_its_end_is_counted_once_whatever_the_window() {
    for (window, per) in [("rolling", "hour"), ("fixed", "day"), ("calendar", "month")] {
        assert_eq!(taken_over(window, per, 5, 3, 2), 10, "{window}");
        assert_eq!(taken_over(window, per, 0, 3, 0), 3, "{window}");
        assert_eq!(taken_over(window, per, 5, 0, 2), 7, "{window}");
    }
    // A bucket of a day has given back less than one of them by then.
    assert_eq!(taken_over("bucket", "day", 5, 3, 2), 10);
}

#[test]
fn entries_that_both_have_merged_are_not_counted_twice() {
    let mut old = begun("rolling", "day", &Rows::new(), 0);
    for second in 0..590 {
        spend(&mut old, 1, second * 1_000);
    }
    let before = old.rows();
    let mut new = begun("rolling", "day", &before, 600_000);
    for second in 600..620 {
        spend(&mut old, 1, second * 1_000);
        spend(&mut new, 1, second * 1_000 + 1);
    }
    new.merge(&borrowed(&before), &borrowed(&old.rows()), Moment(700_000));
    assert_eq!(used(&new, 700_000), 590 + 20 + 20);
}

#[test]
fn what_was_only_reserved_when_the_successor_began_is_given_back() {
    let mut old = begun("rolling", "hour", &Rows::new(), 0);
    let charge = old.admit(&NEED, Mode::Keep, Moment(1_000)).unwrap();
    let before = old.rows();
    let mut new = begun("rolling", "hour", &before, 2_000);
    assert_eq!(used(&new, 2_000), 1);
    old.refund(charge, Moment(3_000));
    new.merge(&borrowed(&before), &borrowed(&old.rows()), Moment(4_000));
    assert_eq!(used(&new, 4_000), 0);
}

#[test]
fn a_window_of_the_old_one_that_is_over_counts_no_more() {
    let mut old = begun("fixed", "minute", &Rows::new(), 1_000);
    spend(&mut old, 7, 1_000);
    let mut new = begun("fixed", "minute", &Rows::new(), 61_000);
    spend(&mut new, 2, 61_000);
    new.merge(&[], &borrowed(&old.rows()), Moment(62_000));
    assert_eq!(used(&new, 62_000), 2);
}

#[test]
fn a_limit_that_the_old_one_learned_and_a_pause_it_was_told_are_not_lost() {
    let refusal = Refusal {
        class: RefusalClass::Window(None),
        per_model: true,
        unit: None,
        retry_after: Some(Duration::from_secs(300)),
    };
    let mut old = begun("rolling", "hour", &Rows::new(), 0);
    let before = old.rows();
    let mut new = begun("rolling", "hour", &before, 0);
    let charge = old.admit(&NEED, Mode::Keep, Moment(1_000)).unwrap();
    old.refuse(&refusal, "m", None, Some(&charge), Moment(1_500));
    old.settle(charge, Actual { refused: true, ..Actual::default() }, Moment(1_600));
    assert!(new.check(&NEED, Moment(2_000)).is_ok());
    new.merge(&borrowed(&before), &borrowed(&old.rows()), Moment(2_000));
    let until = new.check(&NEED, Moment(2_000)).unwrap_err().until;
    assert_eq!(until, Some(Moment(301_500)));
    assert!(!new.dirty().is_empty(), "and it is written");
}
