//! The ledger's promises, most of them as properties over any course of events.

use proptest::prelude::*;

use super::super::admission::Cause;
use super::super::again::AT_ONCE;
use super::super::look::TRY;
use super::super::window::IN_TRANSIT;
use super::*;
use crate::quota::said::{Refusal, RefusalClass, Statement};

mod kinds;
mod own;

const MINUTE: i64 = 60_000;

fn limit(unit: &str, amount: u64, per: Option<&str>, window: &str, source: Source) -> Limit {
    Limit::parse(unit, amount, per, None, false, Some(window), None, source).unwrap()
}

fn need(input: u64, output: u64) -> Need<'static> {
    Need {
        model: "m",
        input_tokens: input,
        output_tokens: output,
        off: 0,
        answer_off: 0,
        most_output: None,
        stream: false,
    }
}

fn admitted(ledger: &mut Ledger, mode: Mode, now: i64) -> Option<Charge> {
    ledger.admit(&need(10, 10), mode, Moment(now)).ok()
}

#[test]
fn the_denial_names_the_limit_that_binds_longest_and_when_it_frees() {
    let mut ledger = Ledger::new(vec![
        limit("requests", 1, Some("minute"), "rolling", Source::Configured),
        limit("requests", 2, Some("hour"), "rolling", Source::Configured),
    ]);
    assert!(admitted(&mut ledger, Mode::Keep, 0).is_some());
    let denial = ledger.check(&need(1, 1), Moment(1000)).unwrap_err();
    assert_eq!(
        (denial.cause, denial.until, &*denial.limit),
        (Cause::Window, Some(Moment(MINUTE + IN_TRANSIT)), "1 requests per minute")
    );
    assert!(admitted(&mut ledger, Mode::Keep, MINUTE + IN_TRANSIT).is_some());
    let denial = ledger.check(&need(1, 1), Moment(MINUTE + IN_TRANSIT + 1)).unwrap_err();
    let hour = Some(Moment(60 * MINUTE + IN_TRANSIT));
    assert_eq!((denial.until, &*denial.limit), (hour, "2 requests per hour"));
}

#[test]
fn a_place_is_held_from_admission_to_the_end() {
    let mut ledger = Ledger::new(vec![limit("concurrent", 1, None, "rolling", Source::Configured)]);
    let held = admitted(&mut ledger, Mode::Keep, 0).unwrap();
    let denial = ledger.check(&need(1, 1), Moment(10)).unwrap_err();
    assert_eq!((denial.cause, denial.until, denial.probe), (Cause::Full, None, false));
    ledger.settle(held, Actual::default(), Moment(20));
    assert!(admitted(&mut ledger, Mode::Keep, 20).is_some());
}

#[test]
fn what_was_used_takes_the_place_of_what_was_reserved() {
    let mut ledger = Ledger::new(vec![limit("tokens", 100, Some("minute"), "rolling", Source::Configured)]);
    let charge = ledger.admit(&need(40, 40), Mode::Keep, Moment(0)).unwrap();
    assert!(ledger.check(&need(20, 10), Moment(1)).is_err());
    ledger.settle(
        charge,
        Actual { input_tokens: Some(30), output_tokens: Some(5), refused: false },
        Moment(2),
    );
    assert!(ledger.check(&need(50, 15), Moment(3)).is_ok());
    assert!(ledger.check(&need(50, 16), Moment(3)).is_err());
    let unsent = ledger.admit(&need(50, 15), Mode::Keep, Moment(4)).unwrap();
    ledger.refund(unsent, Moment(5));
    assert!(ledger.check(&need(50, 15), Moment(6)).is_ok());
}

#[test]
fn an_answer_that_may_be_longer_than_a_hard_limit_is_never_sent() {
    let of = |unit: &str, per: &str, source: Source| {
        Ledger::new(vec![limit(unit, 1000, Some(per), "rolling", source)])
    };
    let most = |most_output: u64| Need { most_output: Some(most_output), ..need(50, 50) };
    for (unit, fits) in [("tokens", 950), ("output_tokens", 1000)] {
        for per in ["minute", "request"] {
            let ledger = of(unit, per, Source::Configured);
            assert!(ledger.check(&most(fits), Moment(0)).is_ok(), "{unit} per {per}");
            let denial = ledger.check(&most(fits + 1), Moment(0)).unwrap_err();
            assert_eq!((denial.cause, denial.probe), (Cause::NeverFits, false), "{unit} per {per}");
            assert!(denial.limit.contains("lower max_tokens"), "{}", denial.limit);
            // Where nothing is said, an estimate has to do.
            assert!(ledger.check(&need(50, 50), Moment(0)).is_ok(), "{unit} per {per}");
        }
    }
    // What is guessed may be wrong, and prompts have no such bound.
    assert!(of("tokens", "minute", Source::Catalogue).check(&most(5000), Moment(0)).is_ok());
    assert!(of("input_tokens", "minute", Source::Configured).check(&most(5000), Moment(0)).is_ok());
}

#[test]
fn a_request_that_was_refused_leaves_no_room_for_one_more_under_a_hard_limit() {
    for (source, left) in [(Source::Configured, false), (Source::Catalogue, true)] {
        let mut ledger = Ledger::new(vec![limit("requests", 1, Some("minute"), "rolling", source)]);
        let charge = admitted(&mut ledger, Mode::Keep, 0).unwrap();
        ledger.settle(charge, Actual { refused: true, ..Actual::default() }, Moment(10));
        assert_eq!(ledger.check(&need(10, 10), Moment(20)).is_ok(), left, "{source:?}");
    }
}

#[test]
fn a_clock_that_runs_ahead_and_is_set_back_frees_nothing() {
    let mut ledger = Ledger::new(vec![limit("requests", 3, Some("hour"), "rolling", Source::Configured)]);
    assert!(admitted(&mut ledger, Mode::Keep, 0).is_some());
    assert!(admitted(&mut ledger, Mode::Keep, 30 * MINUTE).is_some());
    assert!(admitted(&mut ledger, Mode::Keep, MINUTE).is_some(), "set back");
    assert_eq!(ledger.views(Moment(MINUTE + 1))[0].used, 3);
    assert!(admitted(&mut ledger, Mode::Keep, 60 * MINUTE + IN_TRANSIT).is_some(), "the first has left");
    assert!(admitted(&mut ledger, Mode::Keep, 60 * MINUTE + IN_TRANSIT + 1).is_none());
}

#[test]
fn a_request_above_a_tiers_ceiling_never_fits() {
    let mut ledger =
        Ledger::new(vec![limit("input_tokens", 8000, Some("request"), "rolling", Source::Catalogue)]);
    let denial = ledger.admit(&need(8001, 1), Mode::Probe, Moment(0)).unwrap_err();
    assert_eq!((denial.cause, denial.until, denial.probe), (Cause::NeverFits, None, false));
    assert!(ledger.admit(&need(8000, 1), Mode::Keep, Moment(0)).is_ok());
}

#[test]
fn each_model_has_its_own_where_the_limit_says_so_and_a_pool_is_shared() {
    let each = |each| {
        Limit::parse("requests", 1, Some("day"), Some("free/*"), each, None, None, Source::Configured)
            .unwrap()
    };
    let of = |model| Need { model, ..need(1, 1) };
    for (own, second) in [(true, true), (false, false)] {
        let mut ledger = Ledger::new(vec![each(own)]);
        assert!(ledger.admit(&of("free/a"), Mode::Keep, Moment(0)).is_ok());
        assert_eq!(ledger.admit(&of("free/b"), Mode::Keep, Moment(0)).is_ok(), second);
        assert!(ledger.admit(&of("paid/a"), Mode::Keep, Moment(0)).is_ok());
    }
}

#[test]
fn a_guess_is_exceeded_by_one_probe_at_a_time_and_its_success_raises_it() {
    let mut ledger = Ledger::new(vec![limit("requests", 1, Some("hour"), "rolling", Source::Catalogue)]);
    assert!(admitted(&mut ledger, Mode::Keep, 0).is_some());
    assert!(admitted(&mut ledger, Mode::Keep, 1).is_none(), "it holds while others have capacity");
    let probe = admitted(&mut ledger, Mode::Probe, 2).unwrap();
    assert!(admitted(&mut ledger, Mode::Probe, 3).is_none(), "one at a time");
    assert!(ledger.succeeded(&probe, "m", Moment(4)).is_some());
    ledger.settle(probe, Actual::default(), Moment(5));
    assert!(admitted(&mut ledger, Mode::Keep, 6).is_some(), "raised");
}

#[test]
fn a_probe_that_was_cancelled_leaves_its_place_to_another() {
    let mut ledger = Ledger::new(vec![limit("requests", 1, Some("hour"), "rolling", Source::Catalogue)]);
    assert!(admitted(&mut ledger, Mode::Keep, 0).is_some());
    let probe = admitted(&mut ledger, Mode::Probe, 2).unwrap();
    ledger.refund(probe, Moment(3));
    assert!(admitted(&mut ledger, Mode::Probe, 4).is_some());
}

/// What can happen to a ledger.
#[derive(Debug, Clone)]
enum Step {
    Admit { input: u64, output: u64, probe: bool },
    Settle { which: usize, input: u64, output: u64 },
    Refund { which: usize },
    Wait(i64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0u64..40, 0u64..40, any::<bool>()).prop_map(|(input, output, probe)| Step::Admit { input, output, probe }),
        2 => (any::<usize>(), 0u64..40, 0u64..40).prop_map(|(which, input, output)| Step::Settle { which, input, output }),
        1 => any::<usize>().prop_map(|which| Step::Refund { which }),
        2 => (0i64..30_000).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 0..120)
}

fn limits(source: Source) -> Vec<Limit> {
    vec![
        limit("requests", 5, Some("minute"), "rolling", source),
        limit("requests", 12, Some("hour"), "fixed", source),
        limit("input_tokens", 200, Some("minute"), "fixed", source),
        limit("tokens", 500, Some("10m"), "rolling", source),
        limit("concurrent", 3, None, "rolling", source),
    ]
}

proptest! {
    #[test]
    fn it_never_admits_above_a_configured_limit(steps in steps()) {
        let mut ledger = Ledger::new(limits(Source::Configured));
        let (mut now, mut out) = (1_000_000i64, Vec::<Charge>::new());
        // Kept apart: when each request was sent, and how many are out.
        let mut sent: Vec<i64> = Vec::new();
        for step in steps {
            match step {
                Step::Admit { input, output, probe } => {
                    let mode = if probe { Mode::Probe } else { Mode::Keep };
                    if let Ok(charge) = ledger.admit(&need(input, output), mode, Moment(now)) {
                        sent.push(now);
                        out.push(charge);
                        prop_assert!(sent.iter().filter(|at| **at > now - MINUTE).count() <= 5);
                        let hour = now / (60 * MINUTE);
                        prop_assert!(sent.iter().filter(|at| **at / (60 * MINUTE) == hour).count() <= 12);
                        prop_assert!(out.len() <= 3);
                        for view in ledger.views(Moment(now)) {
                            prop_assert!(view.used <= view.amount.max(output + input), "{view:?}");
                        }
                    }
                }
                Step::Settle { which, input, output } if !out.is_empty() => {
                    let charge = out.swap_remove(which % out.len());
                    // An honest upstream uses no more than was reserved here, so that the views can be held to the amount.
                    let actual = Actual {
                        input_tokens: Some(input.min(charge.input_tokens)),
                        output_tokens: Some(output.min(charge.output_tokens)), refused: false };
                    ledger.settle(charge, actual, Moment(now));
                }
                Step::Refund { which } if !out.is_empty() => {
                    let charge = out.swap_remove(which % out.len());
                    let before = used_of(&ledger, now);
                    let mine: Vec<u64> = ledger.rules.iter().map(|rule| reserved(&charge, rule.id)).collect();
                    let theirs: Vec<u64> = ledger.rules.iter()
                        .map(|rule| out.iter().filter(|other| counts(&rule.limit, other.at, now))
                            .map(|other| reserved(other, rule.id)).sum())
                        .collect();
                    let sent_at = charge.at;
                    ledger.refund(charge, Moment(now));
                    for (index, after) in used_of(&ledger, now).into_iter().enumerate() {
                        prop_assert!(after <= before[index] && before[index] - after <= mine[index], "{index}");
                        prop_assert!(after >= theirs[index], "what others have reserved stays theirs: {index}");
                    }
                    sent.retain({ let mut once = true; move |at| { let drop = once && *at == sent_at; if drop { once = false; } !drop } });
                }
                Step::Wait(more) => now += more,
                _ => {}
            }
        }
    }

    #[test]
    fn above_a_guess_only_a_lone_probe_goes(steps in steps()) {
        let mut ledger = Ledger::new(vec![limit("requests", 3, Some("hour"), "rolling", Source::Catalogue)]);
        let (mut now, mut out, mut probes) = (0i64, Vec::<(Charge, bool)>::new(), 0usize);
        for step in steps {
            match step {
                Step::Admit { probe, .. } => {
                    let over = ledger.check(&need(1, 1), Moment(now)).is_err();
                    let mode = if probe { Mode::Probe } else { Mode::Keep };
                    if let Ok(charge) = ledger.admit(&need(1, 1), mode, Moment(now)) {
                        prop_assert!(!over || (probe && probes == 0));
                        probes += usize::from(over);
                        out.push((charge, over));
                    }
                }
                Step::Settle { which, .. } if !out.is_empty() => {
                    let (charge, over) = out.swap_remove(which % out.len());
                    probes -= usize::from(over);
                    ledger.settle(charge, Actual::default(), Moment(now));
                }
                Step::Refund { which } if !out.is_empty() => {
                    let (charge, over) = out.swap_remove(which % out.len());
                    probes -= usize::from(over);
                    ledger.refund(charge, Moment(now));
                }
                Step::Wait(more) => now += more,
                _ => {}
            }
        }
    }

    #[test]
    fn the_order_of_settles_does_not_matter(
        uses in prop::collection::vec((0u64..30, 0u64..30, 0i64..2_000), 1..8), seed in any::<u64>(),
        unit in prop::sample::select(vec!["requests", "input_tokens", "output_tokens", "tokens", "concurrent"]),
        window in prop::sample::select(vec!["rolling", "fixed", "calendar"]),
    ) {
        let run = |order: &[usize]| {
            let per = (unit != "concurrent").then_some("hour");
            let mut ledger = Ledger::new(vec![limit(unit, 1000, per, window, Source::Configured)]);
            let mut charges: Vec<Option<Charge>> = uses.iter().enumerate()
                .map(|(index, _)| ledger.admit(&need(20, 20), Mode::Keep, Moment(index as i64 * 100)).ok()).collect();
            let mut now = 1_000;
            for (index, (.., pause)) in order.iter().zip(&uses) {
                let (input, output, _) = uses[*index];
                let actual = Actual { input_tokens: Some(input), output_tokens: Some(output), refused: false };
                now += pause;
                ledger.settle(charges[*index].take().unwrap(), actual, Moment(now));
            }
            ledger.views(Moment(20_000))[0].used
        };
        let forth: Vec<usize> = (0..uses.len()).collect();
        let mut mixed = forth.clone();
        fastrand::Rng::with_seed(seed).shuffle(&mut mixed);
        prop_assert_eq!(run(&forth), run(&mixed));
    }

    #[test]
    fn a_clock_that_jumps_is_harmless(steps in prop::collection::vec((-40_000_000i64..40_000_000, any::<bool>()), 0..60)) {
        let mut ledger = Ledger::new(limits(Source::Configured));
        let (mut now, mut out) = (1_700_000_000_000i64, Vec::new());
        for (jump, settle) in steps {
            now += jump;
            if let Ok(charge) = ledger.admit(&need(5, 5), Mode::Keep, Moment(now)) { out.push(charge); }
            if settle && let Some(charge) = out.pop() { ledger.settle(charge, Actual::default(), Moment(now)); }
            for view in ledger.views(Moment(now)) { prop_assert!(view.used <= view.amount); }
        }
        for charge in out { ledger.settle(charge, Actual::default(), Moment(now)); }
        // Nothing is parked for ever.
        prop_assert!(ledger.check(&need(5, 5), Moment(now + 2 * 60 * MINUTE)).is_ok());
    }

    #[test]
    fn rows_and_restore_are_the_identity_and_what_was_reserved_counts(
        steps in steps(), words in prop::collection::vec(words(), 120),
    ) {
        let mut ledger = Ledger::new(limits(Source::Catalogue));
        let (mut now, mut out) = (1_000_000i64, Vec::<Charge>::new());
        for (step, word) in steps.into_iter().zip(words) {
            match step {
                Step::Admit { input, output, probe } => {
                    let mode = if probe { Mode::Alone } else { Mode::Keep };
                    out.extend(ledger.admit(&need(input, output), mode, Moment(now)).ok());
                }
                Step::Settle { which, .. } if !out.is_empty() => {
                    let charge = out.swap_remove(which % out.len());
                    let refused = matches!(word, Word::Refuses(_));
                    match word {
                        Word::States(statement) => { ledger.state(&statement, Source::Header, "m", Some(&charge), Moment(now)); }
                        Word::Refuses(refusal) => { ledger.refuse(&refusal, "m", Some(30), Some(&charge), Moment(now)); }
                        Word::Serves => { ledger.succeeded(&charge, "m", Moment(now)); }
                    }
                    ledger.settle(charge, Actual { refused, ..Actual::default() }, Moment(now));
                }
                Step::Refund { which } if !out.is_empty() => {
                    let charge = out.swap_remove(which % out.len());
                    ledger.refund(charge, Moment(now));
                }
                Step::Wait(more) => now += more,
                _ => {}
            }
        }
        let rows = ledger.rows();
        let borrowed: Vec<(&str, &str)> = rows.iter().map(|(key, json)| (key.as_str(), json.as_str())).collect();
        let mut after = Ledger::new(limits(Source::Catalogue));
        after.restore(&borrowed, Moment(now));
        let told = |ledger: &Ledger| -> Vec<_> {
            let mut told: Vec<_> = ledger.views(Moment(now)).into_iter().filter(|view| view.unit != Unit::Concurrent)
                .map(|view| (view.unit, view.window, view.scope, view.model, view.amount, view.used)).collect();
            told.sort();
            told
        };
        prop_assert_eq!(told(&ledger), told(&after));
        prop_assert_eq!(ledger.blocks(Moment(now)), after.blocks(Moment(now)));
        prop_assert_eq!(comparable(&ledger, now), comparable(&after, now));
        after.restore(&[("limit:own requests minute account|", "{"), ("nonsense", ""), ("block:x", "[]")], Moment(now));
    }
}

/// What is used of each limit.
fn used_of(ledger: &Ledger, now: i64) -> Vec<u64> {
    ledger.views(Moment(now)).iter().map(|view| view.used).collect()
}

/// What a charge has reserved under a limit.
fn reserved(charge: &Charge, rule: u32) -> u64 {
    charge.parts.iter().filter(|part| part.rule == rule).map(|part| part.n).sum()
}

/// Whether what was counted at that moment still counts.
fn counts(limit: &Limit, at: i64, now: i64) -> bool {
    let Period::Millis(length) = limit.period else { return true };
    let length = length as i64;
    match limit.window {
        _ if limit.unit == Unit::Concurrent => true,
        crate::quota::limit::Window::Fixed => at / length == now / length,
        _ => at > now - length,
    }
}

/// Rows that can be compared: without those that end with the process, and with what a bucket holds to the millionth.
fn comparable(ledger: &Ledger, now: i64) -> Vec<(String, serde_json::Value)> {
    let of_row = |(key, json): (String, String)| {
        let mut value: serde_json::Value = serde_json::from_str(&json).unwrap();
        let over = value["until"].as_i64().is_some_and(|until| until <= now);
        if let Some(used) = value.pointer_mut("/count/bucket/used") {
            *used = ((used.as_f64().unwrap() * 1e6).round() as u64).into();
        }
        (!over && !key.contains(" concurrent ")).then_some((key, value))
    };
    let mut rows: Vec<_> = ledger.rows().into_iter().filter_map(of_row).collect();
    rows.sort_by(|one, other| one.0.cmp(&other.0));
    rows
}

/// What an upstream may say.
#[derive(Debug, Clone)]
enum Word {
    States(Statement),
    Refuses(Refusal),
    Serves,
}

fn words() -> impl Strategy<Value = Word> {
    let windows = prop_oneof![
        Just((Unit::Requests, Period::MINUTE)),
        Just((Unit::Tokens, Period::Millis(600_000))),
        Just((Unit::OutputTokens, Period::DAY)),
    ];
    let states = (windows, any::<bool>(), 1u64..40, 0u64..40, 0u64..100, any::<bool>()).prop_map(
        |((unit, period), per_model, amount, remaining, seconds, refills)| {
            let resets_in = (seconds > 30).then_some(std::time::Duration::from_secs(seconds));
            let (period, remaining) = (Some(period), Some(remaining.min(amount)));
            Word::States(Statement {
                unit,
                period,
                per_model,
                amount: Some(amount),
                remaining,
                resets_in,
                refills,
            })
        },
    );
    let class = prop_oneof![
        Just(RefusalClass::Concurrency),
        Just(RefusalClass::Window(None)),
        Just(RefusalClass::Window(Some(Period::MINUTE))),
        Just(RefusalClass::Window(Some(Period::DAY))),
        Just(RefusalClass::NoAllowance),
        Just(RefusalClass::TooLarge),
    ];
    let refuses = (class, any::<bool>(), 0u64..60).prop_map(|(class, per_model, seconds)| {
        let retry_after = (seconds > 20).then_some(std::time::Duration::from_secs(seconds));
        Word::Refuses(Refusal { class, per_model, unit: None, retry_after })
    });
    prop_oneof![3 => states, 2 => refuses, 3 => Just(Word::Serves)]
}

#[test]
fn one_long_answer_does_not_lock_out_what_names_no_bound() {
    let mut ledger = Ledger::new(vec![limit("tokens", 1000, Some("minute"), "rolling", Source::Configured)]);
    let guessed_long = need(20, 3000);
    let first = ledger.admit(&guessed_long, Mode::Keep, Moment(0)).unwrap();
    assert_eq!(ledger.check(&guessed_long, Moment(1)).unwrap_err().cause, Cause::Window);
    ledger.settle(
        first,
        Actual { input_tokens: Some(20), output_tokens: Some(5), refused: false },
        Moment(2),
    );
    assert!(ledger.check(&guessed_long, Moment(MINUTE + 10 + IN_TRANSIT)).is_ok());
    // A prompt that is larger than the limit never fits.
    assert_eq!(ledger.check(&need(1001, 1), Moment(1)).unwrap_err().cause, Cause::NeverFits);
}

#[test]
fn an_answer_does_not_leave_its_window_before_others_that_were_given_with_it() {
    let mut ledger = Ledger::new(vec![limit("tokens", 1000, Some("minute"), "rolling", Source::Configured)]);
    let charge = ledger.admit(&need(400, 300), Mode::Keep, Moment(0)).unwrap();
    let actual = Actual { input_tokens: Some(400), output_tokens: Some(200), refused: false };
    ledger.settle(charge, actual, Moment(30_000));
    let used = |at| ledger.views(Moment(at))[0].used;
    assert_eq!([used(MINUTE - 1), used(MINUTE), used(MINUTE + 30_000)], [600, 200, 0]);
}

#[test]
fn an_answer_that_is_given_after_a_minutes_turn_does_not_count_in_the_minute_before() {
    let mut ledger = Ledger::new(vec![limit("tokens", 1000, Some("minute"), "fixed", Source::Configured)]);
    let charge = ledger.admit(&need(400, 300), Mode::Keep, Moment(50_000)).unwrap();
    // While it is out it is thought of, once it is given it is counted.
    let rest = need(701, 0);
    assert!(ledger.check(&rest, Moment(MINUTE + IN_TRANSIT)).is_err());
    assert!(ledger.check(&need(700, 0), Moment(MINUTE + IN_TRANSIT)).is_ok());
    let actual = Actual { input_tokens: Some(400), output_tokens: Some(299), refused: false };
    ledger.settle(charge, actual, Moment(MINUTE + 1_000));
    assert_eq!(ledger.views(Moment(MINUTE + 1_000))[0].used, 299);
}

#[test]
fn while_a_probe_is_out_nobody_is_told_to_wait_for_the_windows_end() {
    let mut ledger = Ledger::new(vec![limit("requests", 1, Some("hour"), "rolling", Source::Catalogue)]);
    assert!(admitted(&mut ledger, Mode::Keep, 0).is_some());
    let probe = admitted(&mut ledger, Mode::Probe, 2).unwrap();
    let denial = ledger.admit(&need(10, 10), Mode::Probe, Moment(3)).unwrap_err();
    assert_eq!(denial.until, Some(Moment(3 + TRY)));
    ledger.refund(probe, Moment(4));
}

#[test]
fn who_cannot_wait_any_longer_does_not_wait_for_what_is_on_its_way() {
    // The user's own holds for what is sent, and what was sent a little after its admission counts from then on.
    for (source, early, mode) in
        [(Source::Catalogue, 0, Mode::Alone), (Source::Configured, AT_ONCE, Mode::Last)]
    {
        let mut ledger = Ledger::new(vec![limit("requests", 1, Some("minute"), "rolling", source)]);
        assert!(admitted(&mut ledger, Mode::Keep, 0).is_some());
        assert!(admitted(&mut ledger, Mode::Keep, MINUTE + early - 1).is_none());
        assert!(admitted(&mut ledger, Mode::Keep, MINUTE + early).is_none());
        assert!(admitted(&mut ledger, mode, MINUTE + early).is_some());
    }
}

#[test]
fn a_request_that_is_too_large_is_told_the_limit_the_estimate_and_what_helps() {
    let said = |unit: &str, need: Need<'_>| {
        let own = limit(unit, 200, Some("request"), "rolling", Source::Configured);
        Ledger::new(vec![own]).check(&need, Moment(0)).unwrap_err().limit
    };
    assert_eq!(
        said("tokens", need(12, 500)),
        "200 tokens per request, and it is estimated to take 512, 12 for its prompt and 500 for the answer; it names \
         no max_tokens: set that to at most 188, or raise the limit"
    );
    assert_eq!(
        said("output_tokens", need(12, 500)),
        "200 output tokens per request, and its answer is estimated at 500; it names no max_tokens: set that to at \
         most 200, or raise the limit"
    );
    for unit in ["tokens", "input_tokens"] {
        let text = said(unit, need(300, 1));
        assert!(
            text.ends_with("its prompt is estimated at 300; shorten it, or raise the limit"),
            "{unit}: {text}"
        );
    }
    let bounded = Need { most_output: Some(190), ..need(12, 190) };
    let text = said("tokens", bounded);
    assert!(text.contains("with max_tokens = 190 it may take 202; lower max_tokens"), "{text}");
    // What is a guess the user cannot raise.
    let guess = limit("tokens", 200, Some("day"), "rolling", Source::Catalogue);
    let text = Ledger::new(vec![guess]).check(&need(300, 1), Moment(0)).unwrap_err().limit;
    assert_eq!(text, "200 tokens per day, and its prompt is estimated at 300; shorten it");
}

#[test]
fn an_answer_that_was_thought_to_be_empty_is_counted_as_it_was() {
    let mut ledger =
        Ledger::new(vec![limit("output_tokens", 100, Some("hour"), "rolling", Source::Configured)]);
    for (most_output, used) in [(None, 60), (Some(0), 60)] {
        let need = Need { most_output, ..need(10, 0) };
        let charge = ledger.admit(&need, Mode::Keep, Moment(0)).unwrap();
        let actual = Actual { input_tokens: Some(10), output_tokens: Some(60), refused: false };
        ledger.settle(charge, actual, Moment(1));
        assert_eq!(ledger.views(Moment(1))[0].used, used, "{most_output:?}: embeddings have no answer");
    }
}
