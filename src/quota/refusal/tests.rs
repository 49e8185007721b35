//! For how long what refused is left alone, named after what must not happen.

use super::super::admission::{Actual, Mode, Need};
use super::super::limit::{Limit, Source};
use super::*;

fn need() -> Need<'static> {
    Need { model: "m", input_tokens: 100, output_tokens: 100, off: 0, most_output: None, stream: false }
}

fn bare() -> Refusal {
    Refusal { class: RefusalClass::Window(None), per_model: true, unit: None, retry_after: None }
}

/// Asks while others have capacity; what the upstream says.
fn ask(ledger: &mut Ledger, now: i64, refusal: Option<&Refusal>) -> bool {
    let Ok(charge) = ledger.admit(&need(), Mode::Keep, Moment(now)) else { return false };
    match refusal {
        Some(refusal) => {
            ledger.refuse(refusal, "m", None, Some(&charge), Moment(now));
        }
        None => {
            ledger.succeeded(&charge, "m", Moment(now));
        }
    }
    let refused = refusal.is_some();
    let tokens = Some(if refused { 0 } else { 100 });
    ledger.settle(charge, Actual { input_tokens: tokens, output_tokens: Some(0), refused }, Moment(now));
    true
}

/// An upstream with an hour that refills by one in two minutes, and says nothing but no.
#[test]
fn what_takes_one_and_refuses_the_next_is_not_asked_each_minute() {
    let mut ledger = Ledger::new(Vec::new());
    let (mut room, mut refused) = (0.0_f64, 0);
    for second in 0..3600 {
        room += 1.0 / 120.0;
        let no = (room < 1.0).then(bare);
        if second % 5 == 0 && ask(&mut ledger, second * SECOND, no.as_ref()) {
            if no.is_some() { refused += 1 } else { room -= 1.0 }
        }
    }
    assert!(refused <= 8, "refused {refused} times within the hour");
}

#[test]
fn what_serves_well_again_is_not_left_alone_for_longer_the_next_time() {
    let mut ledger = Ledger::new(Vec::new());
    for hour in 0..20 {
        let begin = hour * HOUR;
        assert!(ask(&mut ledger, begin, Some(&bare())), "a refusal in hour {hour} lasted too long");
        for second in 0..30 {
            assert!(ask(&mut ledger, begin + 10 * MINUTE + second * SECOND, None));
        }
    }
}

#[test]
fn a_refusal_in_a_quiet_minute_does_not_teach_what_a_minute_takes() {
    let mut ledger = Ledger::new(Vec::new());
    for second in 0..60 {
        assert!(ask(&mut ledger, second * SECOND, None));
    }
    // A longer window is used up: there were far more within a minute before.
    for second in 0..20 {
        assert!(ask(&mut ledger, 5 * MINUTE + second * SECOND, None));
    }
    assert!(ask(&mut ledger, 5 * MINUTE + 20 * SECOND, Some(&bare())));
    assert!(ledger.views(Moment(6 * MINUTE)).is_empty(), "{:?}", ledger.views(Moment(6 * MINUTE)));
    assert!(!ask(&mut ledger, 5 * MINUTE + 21 * SECOND, None), "it is put off all the same");
}

#[test]
fn a_day_that_refills_is_not_left_alone_for_hours() {
    let limit =
        Limit::parse("tokens", 86_400, Some("day"), None, false, Some("bucket"), None, Source::Catalogue);
    let mut ledger = Ledger::new(vec![limit.unwrap()]);
    let day = Refusal {
        class: RefusalClass::Window(Some(Period::DAY)),
        per_model: true,
        unit: Some(Unit::Tokens),
        retry_after: None,
    };
    // All but a few are used; it gives one in a second.
    for second in 0..431 {
        assert!(ask(&mut ledger, second * SECOND, None));
    }
    let mut now = 600 * SECOND;
    for time in 0..4 {
        let asked = (0..7_200).find(|second| ask(&mut ledger, now + second * SECOND, Some(&day)));
        now += asked.expect("it is asked again within two hours") * SECOND;
        let waited = (1..7_200).find(|second| ask(&mut ledger, now + second * SECOND, None));
        let waited = waited.expect("and again");
        assert!(waited <= 1_200, "refusal {time} lasted for {waited} s");
        now += waited * SECOND;
    }
}
