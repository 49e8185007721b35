//! Two ledgers of one account, named after what must not happen.

use std::time::Duration;

use super::super::admission::{Actual, Mode, Need};
use super::super::limit::{Period, Unit};
use super::super::said::{Refusal, RefusalClass, Statement};
use super::super::window::DAY;
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

/// What an upstream says of so many requests an hour.
fn stated(amount: u64, refills: bool) -> Statement {
    Statement {
        unit: Unit::Requests,
        period: Some(Period::Millis(3_600_000)),
        per_model: false,
        amount: Some(amount),
        remaining: Some(amount),
        resets_in: None,
        refills,
    }
}

fn guess(window: &str) -> Limit {
    Limit { source: Source::Catalogue, ..limit(window, "hour") }
}

#[test]
fn what_was_forgotten_meanwhile_does_not_come_back_with_what_the_old_one_never_touched() {
    let refusal = Refusal {
        class: RefusalClass::Payment,
        per_model: false,
        unit: None,
        retry_after: Some(Duration::from_secs(90_000)),
    };
    let mut old = begun("rolling", "hour", &Rows::new(), 0);
    old.refuse(&refusal, "m", None, None, Moment(0));
    let before = old.rows();
    let mut new = begun("rolling", "hour", &before, 1_000);
    new.forget_learned(None);
    new.merge(&borrowed(&before), &borrowed(&before), Moment(2_000));
    assert!(new.check(&NEED, Moment(2_000)).is_ok());
}

#[test]
fn a_pause_by_a_clock_that_was_far_ahead_does_not_last_for_ever_nor_does_one_that_is_over_begin() {
    let row = |until: i64| {
        let mut old = begun("rolling", "hour", &Rows::new(), 0);
        old.refuse(
            &Refusal { class: RefusalClass::Payment, per_model: false, unit: None, retry_after: None },
            "m",
            None,
            None,
            Moment(0),
        );
        let mut rows = old.rows();
        rows.retain(|(key, _)| key.starts_with("block:"));
        let json = rows[0].1.replace("\"until\":86400000", &format!("\"until\":{until}"));
        assert_ne!(json, rows[0].1);
        vec![(rows[0].0.clone(), json)]
    };
    let now = 10 * DAY;
    let mut new = begun("rolling", "hour", &Rows::new(), now);
    new.merge(&[], &borrowed(&row(now + 4_000 * DAY)), Moment(now));
    let until = new.check(&NEED, Moment(now)).unwrap_err().until.unwrap();
    assert!(until.0 <= now + LONGEST, "{until:?}");
    let mut new = begun("rolling", "hour", &Rows::new(), now);
    new.merge(&[], &borrowed(&row(now - 1)), Moment(now));
    assert!(new.blocks.is_empty());
}

#[test]
fn what_is_taken_over_is_written_all_of_it() {
    let mut old = begun("rolling", "hour", &Rows::new(), 0);
    let before = old.rows();
    let mut new = begun("rolling", "hour", &before, 0);
    spend(&mut old, 1, 1_000);
    spend(&mut new, 1, 1_000);
    let refusal = Refusal { class: RefusalClass::Payment, per_model: false, unit: None, retry_after: None };
    old.refuse(&refusal, "m", None, None, Moment(1_500));
    old.state(&stated(50, false), Source::Header, "m", None, Moment(1_500));
    new.dirty();
    new.merge(&borrowed(&before), &borrowed(&old.rows()), Moment(2_000));
    let mut keys: Vec<String> = new.dirty().into_iter().map(|(key, _)| key).collect();
    keys.sort();
    assert_eq!(keys, ["block:", "limit:own requests hour account|", "limit:said requests hour account|"]);
}

#[test]
fn what_was_learned_first_does_not_replace_what_was_learned_last_nor_the_users_own() {
    let begin = |limit: Limit, amount: Option<(u64, i64)>| {
        let mut ledger = Ledger::new(vec![limit]);
        if let Some((amount, at)) = amount {
            let charge = ledger.admit(&NEED, Mode::Keep, Moment(at)).unwrap();
            ledger.settle(charge, Actual::default(), Moment(at));
            for rule in &mut ledger.rules {
                for state in rule.states.values_mut() {
                    (state.amount, state.source, state.since) = (amount, Source::Header, Some(at));
                    state.evidence.rest_until = 9_000_000;
                }
            }
        }
        ledger
    };
    let amount = |ledger: &Ledger| ledger.views(Moment(5_000))[0].amount;
    for (theirs, ours, holds) in [(1_000, 2_000, 70), (2_000, 1_000, 30)] {
        let old = begin(guess("rolling"), Some((30, theirs)));
        let mut new = begin(guess("rolling"), Some((70, ours)));
        new.merge(&[], &borrowed(&old.rows()), Moment(5_000));
        assert_eq!(amount(&new), holds);
    }
    // It rests after its refusals there, too.
    let old = begin(guess("rolling"), Some((30, 2_000)));
    let mut new = begin(guess("rolling"), None);
    spend(&mut new, 1, 1_000);
    new.merge(&[], &borrowed(&old.rows()), Moment(5_000));
    let resting = new.rules[0].states.values().next().unwrap();
    assert_eq!((amount(&new), resting.evidence.rest_until), (30, 9_000_000));
    let old = begin(limit("rolling", "hour"), Some((30, 2_000)));
    let mut new = begin(limit("rolling", "hour"), None);
    spend(&mut new, 1, 1_000);
    new.merge(&[], &borrowed(&old.rows()), Moment(5_000));
    assert_eq!(amount(&new), 1_000, "the user's own is not learned");
}

#[test]
fn a_guess_that_turned_out_to_refill_is_not_waited_for_to_its_end_and_the_users_own_stays_as_it_is() {
    let mut old = Ledger::new(vec![guess("fixed")]);
    spend(&mut old, 500, 1_000);
    for rule in &mut old.rules {
        rule.refills(1_000);
    }
    let rows = old.rows();
    let mut new = Ledger::new(vec![guess("fixed")]);
    spend(&mut new, 1, 1_000);
    new.merge(&[], &borrowed(&rows), Moment(2_000));
    assert!((500..=501).contains(&used(&new, 2_000)), "{}", used(&new, 2_000));
    assert!((250..=251).contains(&used(&new, 902_000)), "a quarter of an hour gives a quarter back");
    let own: Rows =
        rows.iter().map(|(key, json)| (key.replace("limit:guess", "limit:own"), json.clone())).collect();
    let mut new = begun("fixed", "hour", &Rows::new(), 1_000);
    spend(&mut new, 1, 1_000);
    new.merge(&[], &borrowed(&own), Moment(2_000));
    assert!((500..=501).contains(&used(&new, 1_802_000)), "it is used up till its end");
}

#[test]
fn what_a_clock_that_was_ahead_counted_leaves_its_window() {
    let mut old = begun("rolling", "hour", &Rows::new(), 100 * DAY);
    spend(&mut old, 3, 100 * DAY);
    let mut new = begun("rolling", "hour", &Rows::new(), DAY);
    spend(&mut new, 1, DAY);
    new.merge(&[], &borrowed(&old.rows()), Moment(DAY));
    assert_eq!([used(&new, DAY), used(&new, DAY + 3_600_000)], [4, 0]);
}

#[test]
fn what_both_had_counted_in_the_window_before_is_not_taken_off_this_one_nor_added_to_it() {
    const TURN: i64 = 60_000;
    let mut old = begun("fixed", "minute", &Rows::new(), 1_000);
    spend(&mut old, 5, 1_000);
    let before = old.rows();
    let mut new = begun("fixed", "minute", &before, 2_000);
    spend(&mut new, 2, 2_000);
    spend(&mut old, 7, TURN + 1_000);
    new.merge(&borrowed(&before), &borrowed(&old.rows()), Moment(TURN + 2_000));
    assert_eq!(used(&new, TURN + 2_000), 7);
}

#[test]
fn what_was_reserved_in_a_bucket_and_never_sent_leaves_no_debt_and_none_is_beyond_measure() {
    let mut old = begun("bucket", "day", &Rows::new(), 0);
    let reserved: Vec<_> = (0..500).map(|_| old.admit(&NEED, Mode::Keep, Moment(0)).unwrap()).collect();
    let before = old.rows();
    let mut new = begun("bucket", "day", &Rows::new(), 0);
    spend(&mut new, 10, 0);
    for charge in reserved {
        old.refund(charge, Moment(0));
    }
    new.merge(&borrowed(&before), &borrowed(&old.rows()), Moment(0));
    spend(&mut new, 5, 0);
    assert_eq!(used(&new, 0), 5);
    let much: Rows = before.iter().map(|(key, json)| (key.clone(), json.replace("500.0", "5e18"))).collect();
    new.merge(&[], &borrowed(&much), Moment(0));
    let frees = new.check(&NEED, Moment(0)).unwrap_err().until.unwrap();
    assert!(frees.0 <= DAY + DAY / 100, "{frees:?}");
}

#[test]
fn what_was_counted_before_one_of_them_found_out_how_the_window_moves_is_counted_once() {
    let mut old = Ledger::new(vec![guess("fixed")]);
    spend(&mut old, 100, 1_000);
    let before = old.rows();
    let mut new = Ledger::new(vec![guess("fixed")]);
    new.restore(&borrowed(&before), Moment(1_000));
    for rule in &mut new.rules {
        rule.refills(1_000);
    }
    spend(&mut old, 30, 1_000);
    new.merge(&borrowed(&before), &borrowed(&old.rows()), Moment(1_000));
    assert_eq!(used(&new, 1_000), 130);
}
