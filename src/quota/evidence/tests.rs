//! What refusals are evidence of over a long time, named after what must not happen.

use super::super::Moment;
use super::super::admission::{Actual, Cause, Mode, Need};
use super::super::said::{Refusal, RefusalClass};
use super::*;

mod ceilings;

const SECOND: i64 = 1000;

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

/// Requests in each minute of the clock, by the catalogue.
fn guess(amount: u64) -> Limit {
    let window = Some("fixed");
    Limit::parse("requests", amount, Some("minute"), Some("*"), true, window, None, Source::Catalogue)
        .unwrap()
}

fn refusal(period: Option<Period>, unit: Option<Unit>) -> Refusal {
    Refusal { class: RefusalClass::Window(period), per_model: true, unit, retry_after: None }
}

fn spend(ledger: &mut Ledger, model: &str, times: usize, now: i64) -> usize {
    let admitted = (0..times).map_while(|_| ledger.admit(&need(model), Mode::Keep, Moment(now)).ok());
    let charges: Vec<Charge> = admitted.collect();
    let served = charges.len();
    charges.into_iter().for_each(|charge| ledger.settle(charge, Actual::default(), Moment(now)));
    served
}

/// Sends one request that may exceed a guess, and lets it succeed or be refused.
fn try_one(ledger: &mut Ledger, now: i64, refused: bool) -> bool {
    let Ok(charge) = ledger.admit(&need("m"), Mode::Probe, Moment(now)) else { return false };
    if refused {
        let minute = refusal(Some(Period::MINUTE), Some(Unit::Requests));
        ledger.refuse(&minute, "m", None, Some(&charge), Moment(now));
    } else {
        ledger.succeeded(&charge, "m", Moment(now));
    }
    ledger.settle(charge, Actual { refused, ..Actual::default() }, Moment(now));
    true
}

/// Asks each second of so many minutes, of an upstream that allows ten in each minute of the clock. When it refused.
fn ask_all_day(ledger: &mut Ledger, minutes: std::ops::Range<i64>) -> (Vec<i64>, u64) {
    let (mut refused, mut served) = (Vec::new(), 0);
    for minute in minutes {
        let mut now_served = 0;
        // Not from the beginning of each, so that the last sixty seconds hold more than the minute.
        for second in (minute * 7 % 30)..60 {
            let over = now_served >= 10;
            if try_one(ledger, minute * MINUTE + second * SECOND, over) {
                if over { refused.push(minute) } else { now_served += 1 }
            }
        }
        served += now_served;
    }
    (refused, served)
}

#[test]
fn a_guess_that_turned_out_true_is_not_exceeded_again_the_same_day() {
    let mut ledger = Ledger::new(vec![guess(10)]);
    let (refused, served) = ask_all_day(&mut ledger, 0..1_440);
    assert_eq!((refused.len(), served), (1, 14_400), "seen once, it is believed");
    // Nor after a restart.
    let rows = ledger.rows();
    let borrowed: Vec<(&str, &str)> = rows.iter().map(|(key, json)| (key.as_str(), json.as_str())).collect();
    let mut after = Ledger::new(vec![guess(10)]);
    after.restore(&borrowed, Moment(1_440 * MINUTE));
    assert_eq!(ask_all_day(&mut after, 1_440..2_000).0.len(), 1);
}

#[test]
fn minutes_of_the_clock_are_not_taken_for_the_last_sixty_seconds_for_ever() {
    let mut ledger = Ledger::new(Vec::new());
    ask_all_day(&mut ledger, 0..120);
    let (refused, served) = ask_all_day(&mut ledger, 120..240);
    assert!(served >= 1_190 && refused.len() <= 3, "{served} served, {} refused", refused.len());
}

#[test]
fn what_is_shared_does_not_teach_a_limit_of_the_one_that_met_it_last() {
    let mut ledger = Ledger::new(Vec::new());
    assert_eq!(spend(&mut ledger, "m", 40, 0), 40);
    let refused = refusal(None, None);
    ledger.refuse(&refused, "m", None, None, Moment(1));
    assert_eq!(spend(&mut ledger, "other", 8, 2), 8);
    ledger.refuse(&refused, "other", None, None, Moment(3));
    let models: Vec<_> = ledger.views(Moment(4)).into_iter().filter_map(|view| view.model).collect();
    assert_eq!(models, ["m"]);
}

#[test]
fn a_limit_that_was_only_learned_shuts_no_request_out_for_good() {
    let mut ledger = Ledger::new(Vec::new());
    assert_eq!(spend(&mut ledger, "m", 20, 0), 20);
    let tokens = refusal(None, Some(Unit::Tokens));
    ledger.refuse(&tokens, "m", None, None, Moment(1));
    let large = Need { input_tokens: 100_000, ..need("m") };
    assert_eq!(ledger.check(&large, Moment(2 * MINUTE)).unwrap_err().cause, Cause::Window);
}

#[test]
fn a_days_guess_is_not_raised_because_what_left_it_was_merged_with_what_came_later() {
    let day = Limit::parse("requests", 10_000, Some("day"), None, false, None, None, Source::Catalogue);
    let mut ledger = Ledger::new(vec![day.unwrap()]);
    for request in 0..10_000 {
        assert_eq!(spend(&mut ledger, "m", 1, request * 5 * SECOND), 1);
    }
    // Twenty have left the day, of which a merged log knows nothing yet.
    let now = DAY + 100 * SECOND;
    assert!(ledger.check(&need("m"), Moment(now)).is_err());
    assert!(try_one(&mut ledger, now, false));
    assert_eq!(ledger.views(Moment(now))[0].amount, 10_000);
}
