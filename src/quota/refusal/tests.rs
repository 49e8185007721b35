//! For how long what refused is left alone, named after what must not happen.

use super::super::admission::{Actual, Mode, Need};
use super::super::limit::{Limit, Source};
use super::*;

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

/// A guess at the tokens of a minute of which all but a few are used.
fn nearly_used_up() -> Ledger {
    let limit =
        Limit::parse("tokens", 1_000, Some("minute"), None, false, Some("fixed"), None, Source::Catalogue);
    let mut ledger = Ledger::new(vec![limit.unwrap()]);
    for second in 0..9 {
        assert!(send(&mut ledger, second * SECOND, Mode::Keep, (100, 0), None));
    }
    ledger
}

/// Sends a prompt of so many tokens, and what the upstream says; an answer has so many.
fn send(
    ledger: &mut Ledger,
    now: i64,
    mode: Mode,
    (prompt, answer): (u64, u64),
    refusal: Option<&Refusal>,
) -> bool {
    let need = Need { input_tokens: prompt, output_tokens: 0, ..need() };
    let Ok(charge) = ledger.admit(&need, mode, Moment(now)) else { return false };
    let refused = refusal.is_some();
    match refusal {
        Some(refusal) => {
            ledger.refuse(refusal, "m", None, Some(&charge), Moment(now));
        }
        None => {
            ledger.succeeded(&charge, "m", Moment(now));
        }
    }
    let (prompt, answer) = if refused { (0, 0) } else { (prompt, answer) };
    let actual = Actual { input_tokens: Some(prompt), output_tokens: Some(answer), refused };
    ledger.settle(charge, actual, Moment(now));
    true
}

#[test]
fn a_prompt_as_large_as_one_that_was_refused_does_not_try_what_our_own_count_says_is_used_up() {
    let mut ledger = nearly_used_up();
    assert!(send(&mut ledger, 10 * SECOND, Mode::Keep, (40, 0), Some(&bare())));
    assert!(!send(&mut ledger, 11 * SECOND, Mode::Last, (38, 0), None), "estimates differ by more");
    assert!(send(&mut ledger, 11 * SECOND, Mode::Last, (20, 0), None), "this is smaller");
}

#[test]
fn a_smaller_prompt_that_is_refused_as_well_does_not_open_what_is_used_up() {
    let mut ledger = nearly_used_up();
    assert!(send(&mut ledger, 10 * SECOND, Mode::Keep, (40, 0), Some(&bare())));
    assert!(send(&mut ledger, 11 * SECOND, Mode::Last, (20, 0), Some(&bare())));
    for second in 12..60 {
        assert!(!send(&mut ledger, second * SECOND, Mode::Probe, (10, 0), None), "second {second}");
    }
    assert!(send(&mut ledger, MINUTE + IN_TRANSIT, Mode::Keep, (40, 0), None), "a new minute");
}

/// An answer is counted when it is given: that it went beyond the limit does not show that a prompt would have.
#[test]
fn an_answer_that_goes_beyond_a_limit_does_not_speak_for_a_guess_that_is_too_high() {
    let limit =
        Limit::parse("tokens", 2_000, Some("minute"), None, false, Some("fixed"), None, Source::Catalogue);
    let mut ledger = Ledger::new(vec![limit.unwrap()]);
    assert!(send(&mut ledger, SECOND, Mode::Keep, (900, 0), None));
    let need = Need { input_tokens: 40, output_tokens: 0, ..need() };
    let [long, other] = [2, 3].map(|at| ledger.admit(&need, Mode::Keep, Moment(at * SECOND)).unwrap());
    let took = |tokens| Actual { input_tokens: Some(40), output_tokens: Some(tokens), refused: false };
    ledger.succeeded(&long, "m", Moment(4 * SECOND));
    ledger.settle(long, took(600), Moment(4 * SECOND));
    ledger.succeeded(&other, "m", Moment(5 * SECOND));
    ledger.settle(other, took(0), Moment(5 * SECOND));
    let next = MINUTE + IN_TRANSIT;
    assert!(send(&mut ledger, next, Mode::Keep, (980, 0), None));
    assert!(send(&mut ledger, next + SECOND, Mode::Keep, (50, 0), Some(&bare())));
    assert_eq!(ledger.views(Moment(next + 2 * SECOND))[0].amount, 1_029);
}

#[test]
fn what_was_refused_does_not_put_a_day_off_for_longer() {
    let limit =
        Limit::parse("requests", 2, Some("day"), None, false, Some("rolling"), None, Source::Catalogue);
    let mut ledger = Ledger::new(vec![limit.unwrap()]);
    let day = Refusal { class: RefusalClass::Window(Some(Period::DAY)), ..bare() };
    assert!(send(&mut ledger, 0, Mode::Keep, (10, 0), None));
    assert!(send(&mut ledger, HOUR, Mode::Keep, (10, 0), None));
    assert!(send(&mut ledger, 2 * HOUR, Mode::Probe, (10, 0), Some(&day)));
    let free = DAY + 2 * IN_TRANSIT;
    assert!(!send(&mut ledger, DAY - SECOND, Mode::Keep, (10, 0), None), "nothing has left it");
    assert!(
        send(&mut ledger, free, Mode::Keep, (10, 0), None),
        "the first has: {:?}",
        ledger.blocks(Moment(free))
    );
}

/// An upstream whose day is used up, and that says nothing but no.
#[test]
fn a_day_that_is_used_up_is_not_taken_for_a_minute_for_ever() {
    let limit =
        Limit::parse("requests", 300, Some("day"), None, false, Some("rolling"), None, Source::Catalogue);
    let mut ledger = Ledger::new(vec![limit.unwrap()]);
    for request in 0..200 {
        assert!(send(&mut ledger, request * 20 * SECOND, Mode::Keep, (10, 0), None));
    }
    let begin = 4_000 * SECOND;
    let asked = (0..2_000)
        .filter(|step| send(&mut ledger, begin + step * 30 * SECOND, Mode::Keep, (10, 0), Some(&bare())));
    let asked = asked.count();
    assert!(asked <= 8, "asked {asked} times in vain");
    assert_eq!(ledger.views(Moment(begin))[0].amount, 200);
    assert!(send(&mut ledger, DAY + MINUTE, Mode::Keep, (10, 0), None), "it frees as it was used");
}

/// Those that are sent together come in any order.
#[test]
fn one_of_many_prompts_that_is_refused_does_not_lower_a_guess_by_all_that_were_sent_with_it() {
    let limit =
        Limit::parse("tokens", 1_200, Some("minute"), None, false, Some("fixed"), None, Source::Catalogue);
    let mut ledger = Ledger::new(vec![limit.unwrap()]);
    let need = Need { input_tokens: 100, output_tokens: 0, ..need() };
    let sent: Vec<_> =
        (0..11).map(|n| ledger.admit(&need, Mode::Keep, Moment(SECOND + n)).unwrap()).collect();
    ledger.refuse(&bare(), "m", None, sent.first(), Moment(SECOND + 50));
    assert_eq!(ledger.views(Moment(2 * SECOND))[0].amount, 1_099, "ten may have been there before it");
}

#[test]
fn what_a_minute_explains_is_refused_for_no_longer_window() {
    let mut ledger = nearly_used_up();
    // There were more within sixty seconds before, as where a minute of the clock turns.
    for request in 0..30 {
        ledger.minute.get_mut("m").unwrap().count(100, 10 * SECOND + request);
    }
    for second in 0..9 {
        assert!(send(&mut ledger, 2 * MINUTE + second * SECOND, Mode::Keep, (100, 0), None));
    }
    let now = 2 * MINUTE + 10 * SECOND;
    assert!(send(&mut ledger, now, Mode::Keep, (60, 0), Some(&bare())));
    assert!(ledger.views(Moment(now))[0].amount < 1_000, "{:?}", ledger.views(Moment(now)));
}

#[test]
fn a_guess_that_refusals_fixed_is_not_raised_far_beyond_them() {
    let mut ledger = nearly_used_up();
    assert!(send(&mut ledger, 10 * SECOND, Mode::Keep, (60, 0), Some(&bare())));
    assert_eq!(ledger.views(Moment(11 * SECOND))[0].amount, 959);
    let later = DAY + MINUTE;
    for second in 0..9 {
        assert!(send(&mut ledger, later + second * SECOND, Mode::Keep, (104, 0), None));
    }
    assert!(send(&mut ledger, later + 11 * SECOND, Mode::Probe, (30, 0), None));
    let amount = ledger.views(Moment(later + 12 * SECOND))[0].amount;
    assert!((966..=985).contains(&amount), "{amount}");
}
