//! How minutes are told apart, named after what must not happen.

use super::super::Moment;
use super::super::admission::{Actual, Cause, Mode, Need};
use super::super::ledger::Ledger;
use super::super::said::{Refusal, RefusalClass, Statement};
use super::*;

const SECOND: i64 = 1000;

fn need() -> Need<'static> {
    Need {
        model: "m",
        input_tokens: 100,
        output_tokens: 100,
        off: 0,
        answer_off: 0,
        most_output: None,
        stream: false,
    }
}

/// Thirty a minute, of which so many are used; when the minute ends is not said.
fn used(n: u64) -> Statement {
    Statement {
        unit: Unit::Requests,
        period: Some(Period::MINUTE),
        per_model: true,
        amount: Some(30),
        remaining: Some(30 - n),
        resets_in: None,
        refills: false,
    }
}

/// Sends a request to an upstream that then says that so many are used, and answers.
fn ask(ledger: &mut Ledger, mode: Mode, now: i64, said: u64) -> Result<Option<Change>, Cause> {
    let charge = ledger.admit(&need(), mode, Moment(now)).map_err(|denial| denial.cause)?;
    let change = ledger.state(&used(said), Source::Header, "m", Some(&charge), Moment(now + 100));
    ledger.succeeded(&charge, "m", Moment(now + 100));
    ledger.settle(charge, Actual::default(), Moment(now + 100));
    Ok(change)
}

/// A minute of the clock with requests in its second half, as many as go; how many the upstream has taken since.
fn busy(ledger: &mut Ledger, minute: i64, clock: bool) -> u64 {
    let mut taken = 0;
    for half in 60..120 {
        let now = minute * MINUTE + half * SECOND / 2;
        // Nothing was sent in the second half of the minute before but in the one before that.
        let said = if clock { taken + 1 } else { (taken + 1).min(30) };
        if ask(ledger, Mode::Keep, now, said).is_ok() {
            taken += 1;
        }
    }
    taken
}

#[test]
fn a_minute_of_the_last_sixty_seconds_is_not_taken_for_the_clocks() {
    let mut ledger = Ledger::new(Vec::new());
    ask(&mut ledger, Mode::Keep, 0, 1).unwrap();
    // Busy again and again across the turn of the minute.
    for minute in [2, 5, 8] {
        assert_eq!(busy(&mut ledger, minute, false), 30);
        let turn = (minute + 1) * MINUTE;
        // One may find out; it is refused, as nothing has left the last sixty seconds yet.
        if let Ok(lone) = ledger.admit(&need(), Mode::Probe, Moment(turn + SECOND)) {
            assert_eq!(minute, 2, "once it is known, nobody tries any more");
            let no = Refusal {
                class: RefusalClass::Window(Some(Period::MINUTE)),
                per_model: true,
                unit: Some(Unit::Requests),
                retry_after: None,
            };
            assert!(ledger.admit(&need(), Mode::Probe, Moment(turn + SECOND)).is_err(), "one at a time");
            ledger.refuse(&no, "m", None, Some(&lone), Moment(turn + SECOND + 100));
            let refused = Actual { input_tokens: Some(0), output_tokens: Some(0), refused: true };
            ledger.settle(lone, refused, Moment(turn + SECOND + 100));
        }
        let burst = (0..30).filter(|_| ledger.admit(&need(), Mode::Probe, Moment(turn + 2 * SECOND)).is_ok());
        assert_eq!(burst.count(), 0, "what was sent half a minute ago still counts");
    }
}

#[test]
fn a_minute_of_the_clock_is_not_taken_for_the_last_sixty_seconds() {
    let mut ledger = Ledger::new(Vec::new());
    ask(&mut ledger, Mode::Keep, 0, 1).unwrap();
    assert_eq!(busy(&mut ledger, 2, true), 30);
    let turn = 3 * MINUTE + SECOND;
    assert!(ask(&mut ledger, Mode::Keep, turn, 1).is_err(), "others have capacity, and may have it");
    let change = ask(&mut ledger, Mode::Probe, turn, 1).unwrap();
    assert!(change.is_some_and(|change| change.what.contains("goes by the clock")));
    let more = (0..40).filter(|n| ask(&mut ledger, Mode::Keep, turn + SECOND, n + 2).is_ok()).count();
    assert_eq!(more, 29, "the clock's minute is a new one");
    // And it is known after a restart.
    let rows = ledger.rows();
    let rows: Vec<(&str, &str)> = rows.iter().map(|(key, json)| (key.as_str(), json.as_str())).collect();
    let mut after = Ledger::new(Vec::new());
    after.restore(&rows, Moment(turn + 10 * SECOND));
    assert!(after.admit(&need(), Mode::Probe, Moment(turn + 20 * SECOND)).is_err(), "the minute is full");
    assert!(after.admit(&need(), Mode::Keep, Moment(4 * MINUTE + SECOND)).is_ok());
}

#[test]
fn another_user_of_the_key_does_not_make_the_clocks_minute_one_of_the_last_sixty_seconds() {
    let mut ledger = Ledger::new(Vec::new());
    ask(&mut ledger, Mode::Keep, 0, 1).unwrap();
    busy(&mut ledger, 2, true);
    ask(&mut ledger, Mode::Probe, 3 * MINUTE + SECOND, 1).unwrap();
    // Once, the upstream's count is as high as that of the last sixty seconds.
    busy(&mut ledger, 4, true);
    let change = ask(&mut ledger, Mode::Keep, 5 * MINUTE + SECOND, 29).unwrap();
    assert_eq!(change, None);
    busy(&mut ledger, 6, true);
    assert!(ask(&mut ledger, Mode::Keep, 7 * MINUTE + SECOND, 1).is_ok(), "still the clock's");
}

/// An upstream that says nothing but no, and takes ten tens of requests in each minute of the clock.
#[test]
fn refusals_all_through_a_minute_do_not_teach_twice_the_clocks_limit() {
    let mut ledger = Ledger::new(Vec::new());
    let no = Refusal { class: RefusalClass::Window(None), per_model: true, unit: None, retry_after: None };
    let (mut refused, mut minute, mut taken) = (Vec::new(), 0, 0);
    for second in 30 * 60..36 * 60 {
        if second / 60 != minute {
            (minute, taken) = (second / 60, 0);
        }
        // Ever more within the first minutes, then as many as go.
        for part in 0..if second < 30 * 60 + 90 { 2 } else { 5 } {
            let now = second * SECOND + part * 100;
            let Ok(charge) = ledger.admit(&need(), Mode::Probe, Moment(now)) else { continue };
            let is_refused = taken >= 100;
            if is_refused {
                refused.push(minute);
                ledger.refuse(&no, "m", None, Some(&charge), Moment(now));
            } else {
                taken += 1;
                ledger.succeeded(&charge, "m", Moment(now));
            }
            let actual = Actual { input_tokens: Some(100), output_tokens: Some(0), refused: is_refused };
            ledger.settle(charge, actual, Moment(now));
        }
    }
    let late = refused.iter().filter(|minute| **minute >= 34).count();
    assert!(late <= 2, "by then it is known: {refused:?}");
    let view = ledger.views(Moment(36 * MINUTE));
    let learned = view.iter().find(|view| view.unit == Unit::Requests && view.model.is_some());
    assert!(learned.is_some_and(|view| (95..=110).contains(&view.amount)), "{view:?}");
}

#[test]
fn an_upstreams_tokens_are_not_taken_for_the_last_sixty_seconds_where_its_requests_go_by_the_clock() {
    let own = |unit: &str, amount, window: &str| {
        let source = Source::Learned;
        Limit::parse(unit, amount, Some("minute"), None, false, Some(window), None, source).unwrap()
    };
    let mut ledger = Ledger::new(vec![own("requests", 100, "rolling"), own("tokens", 4_000, "rolling")]);
    let ask = |ledger: &mut Ledger, now| ledger.admit(&need(), Mode::Keep, Moment(now));
    for request in 0..10 {
        let charge = ask(&mut ledger, MINUTE / 2 + request).unwrap();
        ledger.settle(charge, Actual::default(), Moment(MINUTE / 2 + request));
    }
    assert_eq!(ledger.views(Moment(MINUTE + SECOND))[1].used, 2_000);
    ledger.all_go_by_the_clock(MINUTE + SECOND);
    assert_eq!(ledger.views(Moment(MINUTE + SECOND))[1].used, 0);
    assert!(ledger.goes_by_the_clock());
}

/// What was drawn from refusals by mistake: thirty in each minute of the clock, where it is thirty in sixty seconds.
#[test]
fn a_minute_that_was_taken_for_the_clocks_by_mistake_does_not_stay_so() {
    let own = Limit::parse("requests", 30, Some("minute"), None, false, Some("fixed"), None, Source::Learned);
    let mut ledger = Ledger::new(vec![own.unwrap()]);
    let serve = |ledger: &mut Ledger, now| {
        let charge = ledger.admit(&need(), Mode::Keep, Moment(now)).unwrap();
        ledger.succeeded(&charge, "m", Moment(now));
        ledger.settle(charge, Actual::default(), Moment(now));
    };
    serve(&mut ledger, 0);
    for second in 0..30 {
        serve(&mut ledger, 2 * MINUTE + (30 + second) * SECOND);
    }
    let early = 3 * MINUTE + SECOND;
    let charge = ledger.admit(&need(), Mode::Keep, Moment(early)).unwrap();
    let no = Refusal { class: RefusalClass::Window(None), per_model: false, unit: None, retry_after: None };
    let change = ledger.refuse(&no, "m", None, Some(&charge), Moment(early + 100));
    ledger.settle(charge, Actual { refused: true, ..Actual::default() }, Moment(early + 100));
    assert!(change.is_some_and(|change| change.what.ends_with("is of the last sixty seconds")));
    let view = &ledger.views(Moment(early + SECOND))[0];
    assert_eq!((view.amount, view.used), (30, 30), "thirty it is, and they still count");
    assert!(ledger.admit(&need(), Mode::Keep, Moment(3 * MINUTE + 20 * SECOND)).is_err());
    assert!(ledger.admit(&need(), Mode::Keep, Moment(3 * MINUTE + 40 * SECOND)).is_ok());
}
