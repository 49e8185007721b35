//! What is counted beside what the upstream says it counts, named after what must not happen.

use super::*;

/// What is refused takes nothing.
const NOTHING: Actual = Actual { input_tokens: Some(0), output_tokens: Some(0), refused: true };

fn tokens(amount: u64, per: &str, window: &str) -> Limit {
    Limit::parse("tokens", amount, Some(per), None, false, Some(window), None, Source::Catalogue).unwrap()
}

#[test]
fn a_settled_request_does_not_lower_the_upstreams_own_count() {
    let mut ledger = Ledger::new(vec![tokens(9000, "minute", "fixed")]);
    let charge = ledger.admit(&need("m"), Mode::Keep, Moment(0)).unwrap();
    let said = Statement { unit: Unit::Tokens, per_model: false, ..stated(Period::MINUTE, 8000, 7000) };
    ledger.state(&said, Source::Header, "m", Some(&charge), Moment(1));
    let actual = Actual { input_tokens: Some(10), output_tokens: Some(10), refused: false };
    ledger.settle(charge, actual, Moment(2));
    assert_eq!(ledger.views(Moment(3))[0].used, 1000);
}

#[test]
fn a_streams_answer_is_counted_though_its_head_stated_a_count() {
    let mut ledger = Ledger::new(vec![tokens(9000, "minute", "fixed")]);
    let streamed = Need { stream: true, ..need("m") };
    let charge = ledger.admit(&streamed, Mode::Keep, Moment(0)).unwrap();
    let said = Statement { unit: Unit::Tokens, per_model: false, ..stated(Period::MINUTE, 8000, 7880) };
    ledger.state(&said, Source::Header, "m", Some(&charge), Moment(1));
    assert_eq!(ledger.views(Moment(1))[0].used, 120 + 100, "what is stated, and the answer that comes");
    let actual = Actual { input_tokens: Some(120), output_tokens: Some(2000), refused: false };
    ledger.settle(charge, actual, Moment(2));
    assert_eq!(ledger.views(Moment(3))[0].used, 2120);
}

#[test]
fn what_the_upstream_has_counted_already_is_not_counted_twice_while_it_is_out() {
    let mut ledger = Ledger::new(vec![tokens(9000, "minute", "fixed"), guess(20, "minute", "fixed")]);
    let streamed = Need { stream: true, ..need("m") };
    let mut out: Vec<Charge> =
        (0..4).map(|_| ledger.admit(&streamed, Mode::Keep, Moment(0)).unwrap()).collect();
    out.insert(0, ledger.admit(&streamed, Mode::Keep, Moment(SECOND)).unwrap());
    // All five are there, with 100 tokens of prompt each; the last one's head tells of it.
    let tokens = Statement { unit: Unit::Tokens, per_model: false, ..stated(Period::MINUTE, 9000, 8500) };
    ledger.state(&tokens, Source::Header, "m", Some(&out[0]), Moment(SECOND));
    ledger.state(&stated(Period::MINUTE, 20, 15), Source::Header, "m", Some(&out[0]), Moment(SECOND));
    let used = |ledger: &Ledger| {
        let views = ledger.views(Moment(2 * SECOND));
        [views[0].used, views[1].used]
    };
    assert_eq!(used(&ledger), [500 + 5 * 100, 5], "and the five answers that come");
    for charge in out.drain(..) {
        let actual = Actual { input_tokens: Some(100), output_tokens: Some(30), refused: false };
        ledger.settle(charge, actual, Moment(2 * SECOND));
    }
    assert_eq!(used(&ledger), [500 + 5 * 30, 5]);
}

#[test]
fn a_place_is_free_again_whatever_the_upstream_says_of_places() {
    let places = Limit::parse("concurrent", 3, None, None, false, None, None, Source::Catalogue);
    let mut ledger = Ledger::new(vec![places.unwrap()]);
    let charges: Vec<Charge> =
        (0..3).map(|_| ledger.admit(&need("m"), Mode::Keep, Moment(0)).unwrap()).collect();
    let said = Statement { unit: Unit::Concurrent, per_model: false, ..stated(Period::MINUTE, 3, 2) };
    ledger.state(&said, Source::Header, "m", Some(&charges[0]), Moment(5));
    for charge in charges {
        ledger.settle(charge, Actual::default(), Moment(9));
    }
    assert_eq!(ledger.views(Moment(10))[0].used, 0);
}

#[test]
fn requests_that_were_sent_together_are_not_counted_twice_whichever_came_first() {
    let mut ledger = Ledger::new(vec![guess(60, "minute", "fixed")]);
    let sent: Vec<Charge> =
        (0..20).map(|at| ledger.admit(&need("m"), Mode::Keep, Moment(1000 + at)).unwrap()).collect();
    // The first that was sent came last, and the last one first: their heads say 20 and 1.
    ledger.state(&stated(Period::MINUTE, 60, 40), Source::Header, "m", Some(&sent[0]), Moment(1200));
    assert_eq!(ledger.views(Moment(1200))[0].used, 20);
    ledger.state(&stated(Period::MINUTE, 60, 59), Source::Header, "m", Some(&sent[19]), Moment(1210));
    assert_eq!(ledger.views(Moment(1210))[0].used, 20);
    for charge in sent {
        ledger.settle(charge, Actual::default(), Moment(1300));
    }
    assert_eq!(ledger.views(Moment(1300))[0].used, 20);
}

#[test]
fn answers_that_were_given_since_are_not_forgotten_when_less_is_stated() {
    let mut ledger = Ledger::new(vec![tokens(9000, "minute", "fixed")]);
    let slow = ledger.admit(&need("m"), Mode::Keep, Moment(0)).unwrap();
    let quick = ledger.admit(&need("m"), Mode::Keep, Moment(SECOND)).unwrap();
    let used = Actual { input_tokens: Some(100), output_tokens: Some(700), refused: false };
    ledger.settle(slow, used, Moment(2 * SECOND));
    // What its head states is what was so when it came: both prompts, and no answer.
    let said = Statement { unit: Unit::Tokens, per_model: false, ..stated(Period::MINUTE, 9000, 8800) };
    ledger.state(&said, Source::Header, "m", Some(&quick), Moment(3 * SECOND));
    assert_eq!(
        ledger.views(Moment(3 * SECOND))[0].used,
        200 + 700 + 100,
        "and its own, as long as it is not told"
    );
    ledger.settle(quick, used, Moment(3 * SECOND));
    assert_eq!(ledger.views(Moment(3 * SECOND))[0].used, 200 + 2 * 700);
}

#[test]
fn an_answer_that_went_beyond_a_guess_does_not_raise_it() {
    let mut ledger = Ledger::new(vec![tokens(250, "minute", "fixed")]);
    assert_eq!(spend(&mut ledger, "m", 1, 0), 1);
    // 200 are used; its prompt of 100 exceeds the guess, the one of 30 does not, whatever is answered.
    let small = Need { input_tokens: 30, ..need("m") };
    let charge = ledger.admit(&small, Mode::Probe, Moment(1)).unwrap();
    assert!(ledger.succeeded(&charge, "m", Moment(2)).is_none());
    ledger.settle(charge, Actual { output_tokens: Some(9), ..Actual::default() }, Moment(3));
    let charge = ledger.admit(&need("m"), Mode::Probe, Moment(4)).unwrap();
    assert!(ledger.succeeded(&charge, "m", Moment(5)).is_some());
}

#[test]
fn what_came_late_in_the_minute_before_does_not_raise_a_guess_that_is_right() {
    let mut ledger = Ledger::new(vec![guess(10, "minute", "fixed")]);
    // It may be there in this minute or in the next one, and counts in both.
    assert_eq!(spend(&mut ledger, "m", 1, MINUTE - 100), 1);
    assert_eq!(spend(&mut ledger, "m", 20, MINUTE + SECOND), 9);
    let tenth = ledger.admit(&need("m"), Mode::Probe, Moment(MINUTE + 2 * SECOND)).unwrap();
    assert_eq!(ledger.succeeded(&tenth, "m", Moment(MINUTE + 2 * SECOND)), None);
    ledger.settle(tenth, Actual::default(), Moment(MINUTE + 2 * SECOND));
    let eleventh = ledger.admit(&need("m"), Mode::Probe, Moment(MINUTE + 3 * SECOND)).unwrap();
    assert!(ledger.succeeded(&eleventh, "m", Moment(MINUTE + 3 * SECOND)).is_some());
}

#[test]
fn what_was_refused_is_not_left_in_the_count_of_the_day() {
    let mut ledger = Ledger::new(vec![guess(3, "day", "rolling")]);
    for hour in 0..3 {
        assert_eq!(spend(&mut ledger, "m", 1, hour * HOUR), 1);
    }
    let charge = ledger.admit(&need("m"), Mode::Probe, Moment(3 * HOUR)).unwrap();
    let said = Statement { resets_in: None, ..stated(Period::DAY, 3, 0) };
    ledger.state_refusing(&said, Source::Header, "m", &charge, Moment(3 * HOUR + 100));
    let wait = Some(21 * 3600);
    let no = refusal(RefusalClass::Window(Some(Period::DAY)), wait);
    ledger.refuse(&no, "m", None, Some(&charge), Moment(3 * HOUR + 100));
    ledger.settle(charge, Actual { refused: true, ..Actual::default() }, Moment(3 * HOUR + 100));
    assert_eq!(ledger.views(Moment(4 * HOUR))[0].used, 3);
    assert_eq!(spend(&mut ledger, "m", 3, DAY + IN_TRANSIT + 100), 1, "one each hour, as they came");
    assert_eq!(spend(&mut ledger, "m", 3, DAY + HOUR + IN_TRANSIT + 100), 1);
}

#[test]
fn answers_that_overtake_each_other_do_not_lower_the_count() {
    let mut ledger = Ledger::new(vec![guess(10, "minute", "fixed")]);
    let first = ledger.admit(&need("m"), Mode::Keep, Moment(0)).unwrap();
    let second = ledger.admit(&need("m"), Mode::Keep, Moment(0)).unwrap();
    ledger.state(&stated(Period::MINUTE, 10, 8), Source::Header, "m", Some(&second), Moment(1));
    ledger.settle(second, Actual::default(), Moment(1));
    ledger.state(&stated(Period::MINUTE, 10, 9), Source::Header, "m", Some(&first), Moment(2));
    ledger.settle(first, Actual::default(), Moment(2));
    assert_eq!(ledger.views(Moment(3))[0].used, 2);
    let third = ledger.admit(&need("m"), Mode::Keep, Moment(3)).unwrap();
    ledger.state(&stated(Period::MINUTE, 10, 7), Source::Header, "m", Some(&third), Moment(4));
    ledger.settle(third, Actual::default(), Moment(4));
    assert_eq!(spend(&mut ledger, "m", 100, 5), 7);
}

#[test]
fn a_plain_answer_is_not_forgotten_nor_counted_twice_whether_its_head_counts_it_or_not() {
    // It answers with 300 tokens, three times as many as was thought.
    for (head_counts, said) in [(false, 100), (true, 400)] {
        let mut ledger = Ledger::new(vec![tokens(9000, "day", "fixed")]);
        let charge = ledger.admit(&need("m"), Mode::Keep, Moment(0)).unwrap();
        let statement = Statement {
            unit: Unit::Tokens,
            per_model: false,
            resets_in: None,
            ..stated(Period::DAY, 9000, 9000 - said)
        };
        ledger.state(&statement, Source::Header, "m", Some(&charge), Moment(SECOND));
        let actual = Actual { input_tokens: Some(100), output_tokens: Some(300), refused: false };
        ledger.settle(charge, actual, Moment(SECOND));
        assert_eq!(ledger.views(Moment(SECOND))[0].used, 400, "its head counts it: {head_counts}");
    }
}

#[test]
fn a_request_that_came_later_and_is_over_is_not_forgotten_when_a_slower_one_tells_of_less() {
    let mut ledger = Ledger::new(vec![guess(60, "minute", "rolling")]);
    let slow = ledger.admit(&need("m"), Mode::Keep, Moment(0)).unwrap();
    for later in 1..=5 {
        assert_eq!(spend(&mut ledger, "m", 1, later * SECOND), 1);
    }
    let said = Statement { resets_in: None, ..stated(Period::MINUTE, 60, 59) };
    ledger.state(&said, Source::Header, "m", Some(&slow), Moment(6 * SECOND));
    ledger.settle(slow, Actual::default(), Moment(6 * SECOND));
    assert_eq!(ledger.views(Moment(6 * SECOND))[0].used, 6);
}

#[test]
fn a_small_prompt_does_not_wait_for_room_that_a_large_one_was_told_to_wait_for() {
    let mut ledger = Ledger::new(vec![tokens(86_400, "day", "bucket")]);
    let full = Statement {
        unit: Unit::Tokens,
        per_model: false,
        resets_in: None,
        ..stated(Period::DAY, 86_400, 700)
    };
    ledger.state(&full, Source::Header, "m", None, Moment(0));
    let large = Need { input_tokens: 700, ..need("m") };
    let charge = ledger.admit(&large, Mode::Last, Moment(SECOND)).unwrap();
    let no =
        Refusal { unit: Some(Unit::Tokens), ..refusal(RefusalClass::Window(Some(Period::DAY)), Some(90)) };
    ledger.refuse(&no, "m", None, Some(&charge), Moment(SECOND));
    ledger.settle(charge, NOTHING, Moment(SECOND));
    let small = need("m");
    assert!(ledger.admit(&small, Mode::Probe, Moment(2 * SECOND)).is_err(), "others may answer");
    assert!(ledger.admit(&Need { input_tokens: 690, ..small }, Mode::Last, Moment(2 * SECOND)).is_err());
    ledger.admit(&small, Mode::Last, Moment(2 * SECOND)).unwrap();
}

#[test]
fn a_wait_that_was_told_to_one_request_is_no_promise_to_another_that_may_be_larger() {
    let unsure = |input_tokens| Need { input_tokens, off: 40, ..need("m") };
    let mut ledger = Ledger::new(vec![tokens(86_400, "day", "bucket")]);
    let full = Statement {
        unit: Unit::Tokens,
        per_model: false,
        resets_in: None,
        ..stated(Period::DAY, 86_400, 490)
    };
    ledger.state(&full, Source::Header, "m", None, Moment(0));
    let large = unsure(500);
    let charge = ledger.admit(&large, Mode::Last, Moment(20 * SECOND)).unwrap();
    // It was larger than it was thought to be; in 40 s it fits.
    let no =
        Refusal { unit: Some(Unit::Tokens), ..refusal(RefusalClass::Window(Some(Period::DAY)), Some(40)) };
    ledger.refuse(&no, "m", None, Some(&charge), Moment(20 * SECOND));
    ledger.settle(charge, NOTHING, Moment(20 * SECOND));
    let then = Moment(60 * SECOND + IN_TRANSIT);
    assert!(ledger.check(&unsure(490), then).is_err(), "as large as it, for all one knows");
    assert!(ledger.check(&large, then).is_ok(), "to that one it was told");
    assert!(ledger.check(&unsure(380), then).is_ok(), "and this one is smaller for certain");
}
