//! What is drawn from statements and refusals, named after what must not happen.

use std::time::Duration;

use super::super::admission::{Actual, Cause, Mode, Need};
use super::super::ledger::LONGEST;
use super::super::said::Refusal;
use super::*;

mod counts;

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

fn guess(amount: u64, per: &str, window: &str) -> Limit {
    let zone = (window == "calendar").then_some("America/Los_Angeles");
    Limit::parse("requests", amount, Some(per), Some("*"), true, Some(window), zone, Source::Catalogue)
        .unwrap()
}

fn refusal(class: RefusalClass, seconds: Option<u64>) -> Refusal {
    Refusal {
        class,
        per_model: true,
        unit: Some(Unit::Requests),
        retry_after: seconds.map(Duration::from_secs),
    }
}

fn stated(period: Period, amount: u64, remaining: u64) -> Statement {
    Statement {
        unit: Unit::Requests,
        period: Some(period),
        per_model: true,
        amount: Some(amount),
        remaining: Some(remaining),
        resets_in: Some(Duration::from_secs(30)),
        refills: false,
    }
}

fn spend(ledger: &mut Ledger, model: &str, times: usize, now: i64) -> usize {
    let mut served = 0;
    while served < times
        && let Ok(charge) = ledger.admit(&need(model), Mode::Keep, Moment(now))
    {
        ledger.settle(charge, Actual::default(), Moment(now));
        served += 1;
    }
    served
}

#[test]
fn what_the_upstream_states_replaces_a_guess_in_either_direction() {
    for (amount, remaining) in [(5, 2), (100, 97)] {
        let mut ledger = Ledger::new(vec![guess(20, "minute", "fixed")]);
        let charge = ledger.admit(&need("m"), Mode::Keep, Moment(0)).unwrap();
        let change = ledger.state(
            &stated(Period::MINUTE, amount, remaining),
            Source::Header,
            "m",
            Some(&charge),
            Moment(5),
        );
        assert!(change.is_some());
        ledger.settle(charge, Actual::default(), Moment(6));
        assert_eq!(spend(&mut ledger, "m", 1000, 10) as u64, remaining);
    }
}

#[test]
fn a_configured_limit_is_not_moved_by_what_the_upstream_says() {
    let own =
        Limit::parse("requests", 2, Some("minute"), None, false, None, None, Source::Configured).unwrap();
    let mut ledger = Ledger::new(vec![own]);
    ledger.state(&stated(Period::MINUTE, 1000, 1000), Source::Header, "m", None, Moment(0));
    assert_eq!(spend(&mut ledger, "m", 10, 1), 2);
    let mut tighter = Ledger::new(vec![guess(50, "minute", "fixed")]);
    tighter.state(&stated(Period::MINUTE, 3, 3), Source::Header, "m", None, Moment(0));
    assert_eq!(spend(&mut tighter, "m", 10, 1), 3, "and a tighter one counts beside it");
}

#[test]
fn a_refusal_fixes_a_guess_that_was_too_high_for_the_windows_that_come() {
    let mut ledger = Ledger::new(vec![guess(20, "minute", "fixed")]);
    assert_eq!(spend(&mut ledger, "m", 11, 0), 11);
    ledger.refuse(&refusal(RefusalClass::Window(Some(Period::MINUTE)), None), "m", None, None, Moment(10));
    assert_eq!(ledger.check(&need("m"), Moment(59_000)).unwrap_err().cause, Cause::Refused);
    assert_eq!(spend(&mut ledger, "m", 100, 60_000 + IN_TRANSIT), 10);
}

/// Groq, of tokens per day: "Limit 100000, Used 100000, Requested 5. Please try again in 4.32s".
#[test]
fn our_guess_at_a_requests_size_does_not_outlast_the_wait_that_was_told_for_it() {
    let mut ledger = Ledger::new(Vec::new());
    let charge = ledger.admit(&need("m"), Mode::Keep, Moment(0)).unwrap();
    let statement = Statement {
        unit: Unit::Tokens,
        period: Some(Period::DAY),
        per_model: true,
        amount: Some(100_000),
        remaining: Some(0),
        resets_in: None,
        refills: true,
    };
    ledger.state(&statement, Source::Header, "m", Some(&charge), Moment(10));
    let told = Refusal {
        class: RefusalClass::Window(Some(Period::DAY)),
        per_model: true,
        unit: Some(Unit::Tokens),
        retry_after: Some(Duration::from_millis(4_320)),
    };
    ledger.refuse(&told, "m", None, Some(&charge), Moment(10));
    ledger.settle(charge, Actual { refused: true, ..Actual::default() }, Moment(11));
    let larger = Need { output_tokens: 5_000, ..need("m") };
    assert!(ledger.check(&larger, Moment(4_330)).is_err(), "it was told of the smaller one");
    let until = ledger.check(&need("m"), Moment(4_000)).unwrap_err().until;
    assert_eq!(until, Some(Moment(4_330)), "not the three minutes that its 200 tokens take to refill");
    assert!(ledger.admit(&need("m"), Mode::Keep, Moment(4_330)).is_ok());
    assert!(ledger.check(&need("m"), Moment(4_331)).is_err(), "of one, not of many");
}

/// An upstream that allows five requests in ten seconds, and says nothing.
#[test]
fn a_bare_429_does_not_hold_up_for_a_minute_what_is_free_in_seconds() {
    let mut ledger = Ledger::new(Vec::new());
    let bare = refusal(RefusalClass::Window(None), None);
    assert_eq!(spend(&mut ledger, "m", 10, 0), 10);
    let refused = ledger.admit(&need("m"), Mode::Keep, Moment(0)).unwrap();
    ledger.refuse(&bare, "m", None, Some(&refused), Moment(10));
    ledger.settle(refused, Actual { refused: true, ..Actual::default() }, Moment(10));
    let soon = ledger.admit(&need("m"), Mode::Probe, Moment(1_000)).unwrap_err();
    assert_eq!((soon.cause, soon.until), (Cause::Refused, Some(Moment(10_010))));
    // While others have capacity it is left alone; when nobody has, one request tries, and no second one.
    let kept = ledger.admit(&need("m"), Mode::Keep, Moment(10_010)).unwrap_err();
    assert!(kept.probe, "a group learns that trying may help");
    let lone = ledger.admit(&need("m"), Mode::Probe, Moment(10_010)).unwrap();
    assert!(ledger.admit(&need("m"), Mode::Probe, Moment(10_011)).is_err());
    // In vain: the next one comes after three times as long.
    ledger.refuse(&bare, "m", None, Some(&lone), Moment(10_020));
    ledger.settle(lone, Actual { refused: true, ..Actual::default() }, Moment(10_020));
    let again = ledger.admit(&need("m"), Mode::Probe, Moment(11_000)).unwrap_err();
    assert_eq!(again.until, Some(Moment(40_020)));
    let lone = ledger.admit(&need("m"), Mode::Probe, Moment(40_020)).unwrap();
    assert!(ledger.succeeded(&lone, "m", Moment(40_030)).is_some(), "more than that fits in a minute");
    ledger.settle(lone, Actual::default(), Moment(40_030));
    assert!(ledger.admit(&need("m"), Mode::Keep, Moment(40_040)).is_ok());
    assert!(ledger.admit(&need("m"), Mode::Probe, Moment(40_050)).is_ok());
}

#[test]
fn a_limit_nobody_knew_of_is_learned_from_the_minute_in_which_it_was_met() {
    let mut ledger = Ledger::new(Vec::new());
    assert_eq!(spend(&mut ledger, "m", 41, 0), 41);
    assert!(ledger.refuse(&refusal(RefusalClass::Window(None), None), "m", None, None, Moment(1)).is_some());
    assert_eq!(spend(&mut ledger, "m", 100, 120_000), 40);
}

#[test]
fn a_minutes_refusal_never_becomes_a_days_bench_and_is_longer_each_time() {
    let mut ledger = Ledger::new(Vec::new());
    let mut now = 0;
    for _ in 0..20 {
        let charge = ledger.admit(&need("m"), Mode::Probe, Moment(now)).unwrap();
        ledger.refuse(&refusal(RefusalClass::Window(None), None), "m", None, Some(&charge), Moment(now));
        ledger.settle(charge, Actual { refused: true, ..Actual::default() }, Moment(now));
        let until = ledger.check(&need("m"), Moment(now)).unwrap_err().until.unwrap().0;
        assert!(until - now <= HOUR, "{}", until - now);
        now = until;
    }
    assert!(now > 5 * HOUR, "it is not asked every minute either");
}

#[test]
fn a_days_refusal_is_not_tried_again_each_minute_whatever_short_wait_comes_with_it() {
    let mut ledger = Ledger::new(vec![guess(20, "day", "calendar")]);
    let noon = "2026-07-18T19:00:00Z".parse::<jiff::Timestamp>().unwrap().as_millisecond();
    assert_eq!(spend(&mut ledger, "m", 12, noon), 12);
    ledger.refuse(&refusal(RefusalClass::Window(Some(Period::DAY)), Some(38)), "m", None, None, Moment(noon));
    let until = ledger.check(&need("m"), Moment(noon)).unwrap_err().until.unwrap();
    let midnight = "2026-07-19T07:00:00Z".parse::<jiff::Timestamp>().unwrap().as_millisecond();
    assert_eq!(until, Moment(midnight + IN_TRANSIT));
}

#[test]
fn a_models_refusal_does_not_bench_the_account() {
    let mut ledger = Ledger::new(Vec::new());
    ledger.refuse(&refusal(RefusalClass::NoAllowance, None), "m", None, None, Moment(0));
    assert_eq!(ledger.check(&need("m"), Moment(HOUR)).unwrap_err().cause, Cause::NoAllowance);
    assert!(ledger.check(&need("other"), Moment(0)).is_ok());
}

#[test]
fn a_limit_of_zero_is_no_allowance_and_no_division_by_zero() {
    let mut ledger = Ledger::new(vec![guess(20, "minute", "bucket")]);
    let zero = Statement { amount: Some(0), remaining: Some(0), ..stated(Period::MINUTE, 0, 0) };
    ledger.state(&zero, Source::Header, "m", None, Moment(0));
    assert_eq!(ledger.check(&need("m"), Moment(1)).unwrap_err().cause, Cause::NoAllowance);
    assert!(ledger.share_left(&need("m"), Moment(1)).is_finite());
}

#[test]
fn too_many_at_once_costs_a_second_and_payment_a_day() {
    let mut ledger = Ledger::new(Vec::new());
    ledger.refuse(&refusal(RefusalClass::Concurrency, None), "m", None, None, Moment(0));
    assert!(ledger.check(&need("m"), Moment(999)).is_err() && ledger.check(&need("m"), Moment(1000)).is_ok());
    ledger.refuse(&refusal(RefusalClass::Payment, Some(1)), "m", None, None, Moment(1000));
    assert_eq!(ledger.check(&need("m"), Moment(HOUR)).unwrap_err().cause, Cause::Payment);
}

#[test]
fn a_request_that_was_too_large_teaches_the_ceiling_and_puts_nobody_off() {
    let mut ledger = Ledger::new(Vec::new());
    ledger.refuse(&refusal(RefusalClass::TooLarge, Some(10)), "m", Some(100), None, Moment(0));
    assert_eq!(ledger.check(&need("m"), Moment(1)).unwrap_err().cause, Cause::NeverFits);
    let smaller = Need { input_tokens: 99, ..need("m") };
    assert!(ledger.check(&smaller, Moment(1)).is_ok());
}

#[test]
fn a_shorter_pause_for_another_reason_does_not_end_a_longer_one() {
    let mut ledger = Ledger::new(Vec::new());
    let payment = Refusal { per_model: false, ..refusal(RefusalClass::Payment, None) };
    let crowded = Refusal { per_model: false, ..refusal(RefusalClass::Concurrency, None) };
    ledger.refuse(&payment, "m", None, None, Moment(0));
    ledger.refuse(&crowded, "m", None, None, Moment(10));
    assert_eq!(ledger.check(&need("m"), Moment(HOUR)).unwrap_err().cause, Cause::Payment);
}

#[test]
fn nothing_is_put_off_for_longer_than_a_month_whatever_is_asked_for() {
    let mut ledger = Ledger::new(Vec::new());
    let long = refusal(RefusalClass::Window(Some(Period::DAY)), Some(u64::MAX / 4000));
    ledger.refuse(&long, "m", None, None, Moment(0));
    assert!(ledger.check(&need("m"), Moment(LONGEST)).is_ok());
}

#[test]
fn what_was_learned_survives_a_restart_and_can_be_forgotten() {
    let mut ledger = Ledger::new(vec![guess(20, "minute", "fixed")]);
    ledger.state(&stated(Period::MINUTE, 7, 7), Source::Header, "m", None, Moment(0));
    ledger.state(&stated(Period::DAY, 70, 60), Source::Header, "m", None, Moment(0));
    ledger.refuse(&refusal(RefusalClass::Payment, None), "m", None, None, Moment(0));
    let rows = ledger.dirty();
    assert!(ledger.dirty().is_empty());
    let borrowed: Vec<(&str, &str)> = rows.iter().map(|(key, json)| (key.as_str(), json.as_str())).collect();
    let mut after = Ledger::new(vec![guess(20, "minute", "fixed")]);
    after.restore(&borrowed, Moment(1000));
    assert_eq!(after.check(&need("m"), Moment(1000)).unwrap_err().cause, Cause::Payment);
    let amounts: Vec<u64> = after.views(Moment(1000)).iter().map(|view| view.amount).collect();
    assert_eq!(amounts, [7, 70]);
    let gone = after.forget_learned(None);
    assert!(gone.iter().any(|key| key.starts_with("block:")) && gone.iter().any(|key| key.contains("said")));
    assert!(after.check(&need("m"), Moment(1000)).is_ok());
    let amounts: Vec<u64> = after.views(Moment(1000)).iter().map(|view| view.amount).collect();
    assert_eq!(amounts, [20]);
}

/// Sends one request that may exceed a guess, and lets it succeed or be refused.
fn try_one(ledger: &mut Ledger, now: i64, refused: bool) -> bool {
    let Ok(charge) = ledger.admit(&need("m"), Mode::Probe, Moment(now)) else { return false };
    if refused {
        let minute = refusal(RefusalClass::Window(Some(Period::MINUTE)), Some(1));
        ledger.refuse(&minute, "m", None, Some(&charge), Moment(now));
    } else {
        ledger.succeeded(&charge, "m", Moment(now));
    }
    ledger.settle(charge, Actual::default(), Moment(now));
    true
}

#[test]
fn a_limit_that_was_refused_is_not_exceeded_again_at_once() {
    let mut ledger = Ledger::new(vec![guess(20, "minute", "fixed")]);
    // The true limit is 10 in each minute; whoever asks all day is refused ever more seldom.
    let mut refusals = Vec::new();
    for minute in 0..600 {
        let mut served = 0;
        for second in 0..60 {
            let now = minute * MINUTE + second * SECOND;
            let over = served >= 10;
            if try_one(&mut ledger, now, over) {
                if over { refusals.push(minute) } else { served += 1 }
            }
        }
        assert_eq!(served, 10, "in minute {minute}");
    }
    assert!(refusals.len() <= 8, "{refusals:?}");
    // The first time its own word on when to come again was believed.
    assert!(refusals[1..].windows(2).all(|pair| pair[1] - pair[0] >= 10), "{refusals:?}");
}

#[test]
fn a_guess_far_too_low_is_soon_left_behind() {
    let mut ledger = Ledger::new(vec![guess(100, "minute", "fixed")]);
    let mut served = 0;
    while served < 1000 && try_one(&mut ledger, 0, false) {
        served += 1;
    }
    assert_eq!(served, 1000);
    assert!(ledger.views(Moment(1))[0].amount >= 1000);
}

#[test]
fn a_refusal_without_a_window_says_nothing_of_the_day() {
    let mut ledger = Ledger::new(vec![guess(20, "minute", "fixed"), guess(1000, "day", "fixed")]);
    assert_eq!(spend(&mut ledger, "m", 11, 0), 11);
    let unnamed = Refusal { unit: None, ..refusal(RefusalClass::Window(None), None) };
    ledger.refuse(&unnamed, "m", None, None, Moment(10));
    let amounts: Vec<u64> = ledger.views(Moment(11)).iter().map(|view| view.amount).collect();
    assert_eq!(amounts, [10, 1000]);
}

#[test]
fn a_refusal_without_a_unit_is_about_the_one_that_was_used_up_most() {
    let tokens =
        Limit::parse("tokens", 1000, Some("minute"), Some("*"), true, Some("fixed"), None, Source::Catalogue);
    let mut ledger = Ledger::new(vec![guess(20, "minute", "fixed"), tokens.unwrap()]);
    assert_eq!(spend(&mut ledger, "m", 4, 0), 4);
    let unnamed = Refusal { unit: None, ..refusal(RefusalClass::Window(None), None) };
    let charge = ledger.admit(&need("m"), Mode::Keep, Moment(0)).unwrap();
    ledger.refuse(&unnamed, "m", None, Some(&charge), Moment(10));
    let amounts: Vec<u64> = ledger.views(Moment(11)).iter().map(|view| view.amount).collect();
    assert_eq!(amounts, [20, 899], "and all but one token of the prompt that was refused");
}

#[test]
fn less_than_was_served_before_is_not_believed_to_be_the_limit_at_once() {
    let mut ledger = Ledger::new(vec![guess(20, "minute", "fixed")]);
    for _ in 0..15 {
        assert!(try_one(&mut ledger, 0, false));
    }
    // Somebody else uses the key: three are refused in minutes in which we had five.
    for minute in 1..=3 {
        let now = minute * 5 * MINUTE;
        for _ in 0..5 {
            assert!(try_one(&mut ledger, now, false));
        }
        assert_eq!(ledger.views(Moment(now))[0].amount, 20, "after {} refusals", minute - 1);
        assert!(try_one(&mut ledger, now, true));
    }
    assert_eq!(ledger.views(Moment(16 * MINUTE))[0].amount, 5, "then it is");
}

#[test]
fn what_one_model_taught_is_no_limit_for_another() {
    let mut ledger = Ledger::new(Vec::new());
    ledger.state(&stated(Period::DAY, 70, 0), Source::Header, "m", None, Moment(0));
    assert_eq!(spend(&mut ledger, "m", 1, 1), 0);
    assert_eq!(spend(&mut ledger, "other", 100, 1), 100);
}

#[test]
fn nothing_left_of_the_last_minute_is_not_nothing_left_of_this_one() {
    let mut ledger = Ledger::new(vec![guess(10, "minute", "fixed")]);
    let late = ledger.admit(&need("m"), Mode::Keep, Moment(59_600)).unwrap();
    let said = Statement { resets_in: None, ..stated(Period::MINUTE, 10, 0) };
    ledger.state(&said, Source::Header, "m", Some(&late), Moment(60_100));
    ledger.settle(late, Actual::default(), Moment(60_100));
    assert_eq!(spend(&mut ledger, "m", 100, 60_200), 10);
}

#[test]
fn what_is_left_above_a_guess_raises_it() {
    let mut ledger = Ledger::new(vec![guess(10, "minute", "fixed")]);
    assert_eq!(spend(&mut ledger, "m", 4, 0), 4);
    let said = Statement { amount: None, resets_in: None, ..stated(Period::MINUTE, 0, 90) };
    ledger.state(&said, Source::Header, "m", None, Moment(1));
    assert_eq!(spend(&mut ledger, "m", 1000, 2), 90);
}

#[test]
fn a_window_that_refills_all_the_time_is_not_waited_for_to_its_end() {
    let mut ledger = Ledger::new(vec![guess(60, "minute", "fixed")]);
    assert_eq!(spend(&mut ledger, "m", 100, 0), 60);
    let said = Statement { refills: true, ..stated(Period::MINUTE, 60, 0) };
    ledger.state(&said, Source::Header, "m", None, Moment(0));
    let until = ledger.check(&need("m"), Moment(0)).unwrap_err().until;
    assert_eq!(until, Some(Moment(SECOND + IN_TRANSIT)));
    assert_eq!(spend(&mut ledger, "m", 100, 30 * SECOND), 30);
    // And a refusal for its day says truly when the next one fits.
    let mut day = Ledger::new(vec![guess(1000, "day", "bucket")]);
    day.refuse(&refusal(RefusalClass::Window(Some(Period::DAY)), Some(90)), "m", None, None, Moment(0));
    assert!(day.check(&need("m"), Moment(91 * SECOND)).is_ok());
}

#[test]
fn no_stated_reset_parks_a_minute_for_a_month() {
    let mut ledger = Ledger::new(vec![guess(10, "minute", "fixed")]);
    let said =
        Statement { resets_in: Some(Duration::from_secs(30 * 24 * 3600)), ..stated(Period::MINUTE, 10, 0) };
    ledger.state(&said, Source::Header, "m", None, Moment(0));
    assert!(ledger.check(&need("m"), Moment(59_999)).is_err());
    assert!(ledger.check(&need("m"), Moment(60_000 + IN_TRANSIT)).is_ok());
}

#[test]
fn a_cap_on_requests_at_the_same_time_is_learned_kept_and_let_up() {
    let mut ledger = Ledger::new(Vec::new());
    let mut out: Vec<Charge> =
        (0..4).map(|_| ledger.admit(&need("m"), Mode::Keep, Moment(0)).unwrap()).collect();
    let fourth = out.pop().unwrap();
    let crowded = Refusal { unit: None, ..refusal(RefusalClass::Concurrency, Some(0)) };
    assert!(ledger.refuse(&crowded, "m", None, Some(&fourth), Moment(1)).is_some());
    for charge in out.drain(..).chain([fourth]) {
        ledger.settle(charge, Actual::default(), Moment(2));
    }
    let hold = |ledger: &mut Ledger, mode, now| ledger.admit(&need("m"), mode, Moment(now));
    out.extend((0..3).map(|_| hold(&mut ledger, Mode::Keep, 3).unwrap()));
    assert_eq!(hold(&mut ledger, Mode::Probe, 4).unwrap_err().cause, Cause::Full);
    let probe = hold(&mut ledger, Mode::Probe, 2 * MINUTE).unwrap();
    assert!(ledger.succeeded(&probe, "m", Moment(2 * MINUTE)).is_some());
    out.push(probe);
    assert!(hold(&mut ledger, Mode::Keep, 2 * MINUTE).is_ok(), "raised");
}

#[test]
fn rows_that_no_honest_counting_leaves_behind_do_not_park_a_limit() {
    let fresh = || Ledger::new(vec![guess(10, "minute", "fixed")]);
    let mut ledger = fresh();
    assert_eq!(spend(&mut ledger, "m", 3, 0), 3);
    let rows = ledger.rows();
    let (key, json) = &rows[0];
    let far = json.replace("\"ends\":60000", "\"ends\":9000000000000000");
    assert_ne!(&far, json);
    let mut after = fresh();
    after.restore(&[(key, &far)], Moment(1000));
    assert!(after.check(&need("m"), Moment(61_000)).is_ok() && spend(&mut after, "m", 20, 61_000) == 10);
    let many: Vec<(String, String)> =
        (0..5000).map(|number| (format!("{}{number}", key.trim_end_matches('m')), json.clone())).collect();
    let borrowed: Vec<(&str, &str)> = many.iter().map(|(key, json)| (key.as_str(), json.as_str())).collect();
    after.restore(&borrowed, Moment(1000));
    assert!(after.views(Moment(1000)).len() <= 2001);
}

#[test]
fn a_limit_that_was_learned_does_not_outlast_the_wait_that_the_upstream_asked_for() {
    let mut ledger = Ledger::new(Vec::new());
    assert_eq!(spend(&mut ledger, "m", 10, 0), 10);
    let charge = ledger.admit(&need("m"), Mode::Keep, Moment(0)).unwrap();
    let unnamed = Refusal { unit: None, ..refusal(RefusalClass::Window(None), Some(3)) };
    ledger.refuse(&unnamed, "m", None, Some(&charge), Moment(0));
    ledger.settle(charge, Actual { refused: true, ..Actual::default() }, Moment(0));
    let until = ledger.check(&need("m"), Moment(100)).unwrap_err().until;
    assert_eq!(until, Some(Moment(3 * SECOND)));
    assert!(ledger.admit(&need("m"), Mode::Probe, Moment(3 * SECOND)).is_ok());
}

#[test]
fn a_user_s_own_limit_that_the_upstream_states_too_does_not_move_in_another_window() {
    let own =
        Limit::parse("requests", 3, Some("minute"), None, false, None, None, Source::Configured).unwrap();
    let mut ledger = Ledger::new(vec![own]);
    let said = Statement { resets_in: None, ..stated(Period::MINUTE, 3, 2) };
    for second in [30, 35, 40] {
        let now = Moment(second * SECOND);
        let charge = ledger.admit(&need("m"), Mode::Keep, now).unwrap();
        let left = (40 - second).unsigned_abs() / 5;
        ledger.state(
            &Statement { remaining: Some(left), ..said.clone() },
            Source::Header,
            "m",
            Some(&charge),
            now,
        );
        ledger.settle(charge, Actual::default(), now);
    }
    assert!(ledger.check(&need("m"), Moment(61 * SECOND)).is_err(), "not by the clock");
    assert!(ledger.check(&need("m"), Moment(90 * SECOND + IN_TRANSIT)).is_ok());
}

#[test]
fn nobody_waits_for_one_that_tries_a_pause_whose_end_our_own_count_knows() {
    let mut ledger = Ledger::new(vec![guess(10, "minute", "fixed")]);
    assert_eq!(spend(&mut ledger, "m", 9, 0), 9);
    let refused = refusal(RefusalClass::Window(Some(Period::MINUTE)), None);
    ledger.refuse(&refused, "m", None, None, Moment(1));
    assert!(ledger.check(&need("m"), Moment(30 * SECOND)).is_err());
    let now = MINUTE + 2 * IN_TRANSIT;
    let _tries = ledger.admit(&need("m"), Mode::Keep, Moment(now)).unwrap();
    assert!(ledger.admit(&need("m"), Mode::Keep, Moment(now + 1)).is_ok());
}
