//! What is forgotten and what outlives the process, named after what must not happen.

use std::time::Duration;

use super::super::admission::{Actual, Mode, Need};
use super::super::said::{Refusal, Statement};
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

fn catalogue() -> Vec<Limit> {
    let limit = Limit::parse("requests", 20, Some("minute"), Some("*"), true, None, None, Source::Catalogue);
    vec![limit.unwrap()]
}

fn spend(ledger: &mut Ledger, times: usize, now: i64) {
    for _ in 0..times {
        let charge = ledger.admit(&NEED, Mode::Keep, Moment(now)).unwrap();
        ledger.settle(charge, Actual::default(), Moment(now));
    }
}

fn restored(limits: Vec<Limit>, rows: &[(String, String)], now: i64) -> Ledger {
    let borrowed: Vec<(&str, &str)> = rows.iter().map(|(key, json)| (key.as_str(), json.as_str())).collect();
    let mut ledger = Ledger::new(limits);
    ledger.restore(&borrowed, Moment(now));
    ledger
}

#[test]
fn a_rest_after_a_refusal_does_not_outlast_a_reset_even_where_the_amount_is_the_catalogues() {
    let mut ledger = Ledger::new(catalogue());
    spend(&mut ledger, 20, 0);
    let probe = ledger.admit(&NEED, Mode::Probe, Moment(1)).unwrap();
    let refusal = Refusal {
        class: RefusalClass::Window(Some(Period::MINUTE)),
        per_model: true,
        unit: Some(Unit::Requests),
        retry_after: None,
    };
    ledger.refuse(&refusal, "m", None, Some(&probe), Moment(2));
    ledger.settle(probe, Actual { refused: true, ..Actual::default() }, Moment(3));
    assert_eq!(ledger.views(Moment(4))[0].source, Source::Catalogue, "as it was");
    assert!(ledger.admit(&NEED, Mode::Probe, Moment(4)).is_err());
    ledger.dirty();
    ledger.forget_learned(None);
    assert!(ledger.admit(&NEED, Mode::Probe, Moment(5)).is_ok());
    let after = restored(catalogue(), &ledger.dirty(), 6);
    let evidence = after.rules[0].states["m"].evidence;
    assert_eq!(evidence, Evidence::default(), "nor does it come back from the disk");
}

#[test]
fn a_restart_does_not_lose_what_was_counted_in_a_window_that_turned_out_to_refill() {
    let mut ledger = Ledger::new(catalogue());
    spend(&mut ledger, 12, 0);
    let statement = Statement {
        unit: Unit::Requests,
        period: Some(Period::MINUTE),
        per_model: true,
        amount: Some(20),
        remaining: Some(8),
        resets_in: Some(Duration::from_secs(36)),
        refills: true,
    };
    ledger.state(&statement, Source::Header, "m", None, Moment(0));
    let told = |ledger: &Ledger, now: i64| {
        let view = ledger.views(Moment(now)).remove(0);
        (view.used, view.amount, view.source, view.resets_at)
    };
    let after = restored(catalogue(), &ledger.rows(), 1);
    assert_eq!(told(&after, 1), told(&ledger, 1));
    assert_eq!(told(&after, 1).0, 12);
    assert_eq!(told(&after, 30_000), told(&ledger, 30_000), "and it refills");
    // What the user has written is not changed by a row.
    let own = Limit { source: Source::Configured, ..catalogue().remove(0) };
    let rows: Vec<(String, String)> =
        ledger.rows().into_iter().map(|(key, json)| (key.replace("guess", "own"), json)).collect();
    assert_eq!(restored(vec![own], &rows, 1).rules[0].limit.window, Window::Rolling);
}
