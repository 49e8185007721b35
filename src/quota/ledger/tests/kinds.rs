//! The same promises for every kind of limit: all units, lengths, ways to move, time zones with and without daylight
//! saving, and scopes, several at once. What an upstream would count is kept apart, by other means.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::*;
use crate::quota::limit::{Scope, Window};

const DAY: i64 = 24 * 60 * MINUTE;
const MODELS: [&str; 3] = ["free/a", "free/b", "paid/c"];
/// Beside changes of daylight saving, in both directions and hemispheres, by an hour and by half of one; the ends of
/// months, of a leap year's February and of a year; and one that is nothing of that.
const BEGINNINGS: [&str; 9] = [
    "2026-03-08T07:30:00Z",
    "2026-11-01T06:30:00Z",
    "2026-03-29T00:20:00Z",
    "2026-10-24T21:00:00Z",
    "2026-04-04T13:40:00Z",
    "2026-10-03T14:45:00Z",
    "2028-02-28T23:50:00Z",
    "2026-12-31T22:10:00Z",
    "2026-07-15T12:34:56.789Z",
];
const ZONES: [&str; 6] =
    ["UTC", "America/Los_Angeles", "Europe/Berlin", "Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Apia"];

/// A limit as a user may write it.
fn kind() -> impl Strategy<Value = Limit> {
    let unit =
        prop::sample::select(vec!["requests", "input_tokens", "output_tokens", "tokens", "concurrent"]);
    let window = prop_oneof![
        prop::sample::select(vec!["rolling", "fixed", "bucket", "session"]).prop_flat_map(|window| {
            let per =
                prop::sample::select(vec!["minute", "10m", "hour", "5h", "day", "week", "month", "request"]);
            (Just(window), per, Just("UTC"))
        }),
        prop::sample::select(vec!["hour", "day", "week", "month"]).prop_flat_map(|per| (
            Just("calendar"),
            Just(per),
            prop::sample::select(ZONES.to_vec())
        )),
    ];
    let scope = prop::sample::select(vec![(None, false), (Some("free/*"), true), (Some("free/*"), false)]);
    (unit, window, scope, 1u64..6).prop_map(|(unit, (window, per, zone), (models, each), amount)| {
        let amount = if matches!(unit, "requests" | "concurrent") { amount } else { amount * 40 };
        let per = if matches!(unit, "requests" | "concurrent") && per == "request" { "minute" } else { per };
        Limit::parse(unit, amount, Some(per), models, each, Some(window), Some(zone), Source::Configured)
            .unwrap()
    })
}

#[derive(Debug, Clone)]
enum Event {
    Ask {
        model: usize,
        input: u64,
        output: u64,
        mode: Mode,
    },
    End {
        which: usize,
        share: u64,
        refused: bool,
    },
    Refund {
        which: usize,
    },
    /// So much of the longest window.
    Wait {
        share: u64,
    },
    /// To the moment that a denial named, or just before it.
    Until {
        early: bool,
    },
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let mode = prop::sample::select(vec![Mode::Keep, Mode::Probe, Mode::Last, Mode::Alone]);
    let event = prop_oneof![
        6 => (0usize..3, 1u64..50, 0u64..50, mode).prop_map(|(model, input, output, mode)| Event::Ask { model, input, output, mode }),
        4 => (any::<usize>(), 0u64..=100, prop::bool::weighted(0.1)).prop_map(|(which, share, refused)| Event::End { which, share, refused }),
        1 => any::<usize>().prop_map(|which| Event::Refund { which }),
        2 => (0u64..1_200).prop_map(|share| Event::Wait { share }),
        2 => any::<bool>().prop_map(|early| Event::Until { early }),
    ];
    prop::collection::vec(event, 0..80)
}

/// What came to an upstream: when, and how much of prompt and answer.
#[derive(Debug, Clone)]
struct Came {
    sequence: u64,
    model: &'static str,
    at: i64,
    input: u64,
    /// When it was answered, and with how much.
    answered: Option<(i64, u64)>,
    over: bool,
}

/// What an upstream counts of it under this unit, and when.
fn counted(came: &Came, unit: Unit) -> Vec<(i64, u64)> {
    let answer = came.answered.iter().copied();
    match unit {
        Unit::Requests => vec![(came.at, 1)],
        Unit::InputTokens => vec![(came.at, came.input)],
        Unit::OutputTokens => answer.collect(),
        Unit::Tokens => std::iter::once((came.at, came.input)).chain(answer).collect(),
        Unit::Concurrent | Unit::Percent => Vec::new(),
    }
}

/// The name of the calendar's window that a moment is in.
fn page(zone: &TimeZone, period: Period, at: i64) -> String {
    let here = Timestamp::from_millisecond(at).unwrap().to_zoned_datetime(zone.clone());
    let form = match period {
        Period::Month => "%Y-%m",
        Period::DAY => "%Y-%m-%d",
        Period::Millis(604_800_000) => "%G-W%V",
        _ => "%Y-%m-%d %H %z",
    };
    here.strftime(form).to_string()
}

/// The most that is used at any time by what came, in the windows of this limit.
fn most_used(limit: &Limit, came: &[&Came], now: i64) -> u64 {
    if limit.unit == Unit::Concurrent {
        return came.iter().filter(|came| !came.over).count() as u64;
    }
    let length = match limit.period {
        Period::Request => {
            // A ceiling is about what was asked for, which the caller looks at.
            return 0;
        }
        Period::Millis(length) => length as i64,
        Period::Month => 31 * DAY,
    };
    let mut all: Vec<(i64, u64)> = came.iter().flat_map(|came| counted(came, limit.unit)).collect();
    all.sort_unstable();
    let sum = |within: &dyn Fn(i64) -> bool| all.iter().filter(|(at, _)| within(*at)).map(|(_, n)| n).sum();
    match &limit.window {
        Window::Rolling => sum(&|at| at > now - length),
        Window::Fixed => sum(&|at| at.div_euclid(length) == now.div_euclid(length)),
        Window::Calendar(zone) => {
            let this = page(zone, limit.period, now);
            sum(&|at| page(zone, limit.period, at) == this)
        }
        Window::Session => {
            // A session begins with what comes after the last one ended.
            let (mut begun, mut used) = (i64::MIN / 2, 0);
            for (at, n) in &all {
                if *at >= begun + length {
                    (begun, used) = (*at, 0);
                }
                used += n;
            }
            if now < begun + length { used } else { 0 }
        }
        Window::Bucket => {
            let (mut level, mut last) = (0.0_f64, 0);
            for (at, n) in &all {
                level =
                    (level - (at - last) as f64 * limit.amount as f64 / length as f64).max(0.0) + *n as f64;
                last = *at;
            }
            level = (level - (now - last) as f64 * limit.amount as f64 / length as f64).max(0.0);
            (level - 1e-6).ceil() as u64
        }
    }
}

/// Whom a limit is for: those that share it.
fn sharers(limit: &Limit) -> Vec<Vec<&'static str>> {
    match &limit.scope {
        Scope::Account => vec![MODELS.to_vec()],
        Scope::Pool(_) => vec![MODELS[..2].to_vec()],
        Scope::Each(_) => MODELS[..2].iter().map(|model| vec![*model]).collect(),
    }
}

fn longest(limits: &[Limit]) -> i64 {
    limits.iter().map(|limit| crate::quota::window::length(limit.period)).max().unwrap_or(MINUTE).max(MINUTE)
}

proptest! {
    #[test]
    fn no_kind_of_configured_limit_is_ever_exceeded(
        limits in prop::collection::vec(kind(), 1..4), begin in prop::sample::select(BEGINNINGS.to_vec()), events in events(),
    ) {
        let mut ledger = Ledger::new(limits.clone());
        let mut now = begin.parse::<Timestamp>().unwrap().as_millisecond();
        let (mut out, mut came) = (Vec::<Charge>::new(), Vec::<Came>::new());
        let mut until: Option<i64> = None;
        for event in events {
            match event {
                Event::Ask { model, input, output, mode } => {
                    let model = MODELS[model];
                    let asked = Need { model, most_output: Some(output), ..need(input, output) };
                    match ledger.admit(&asked, mode, Moment(now)) {
                        Ok(charge) => {
                            for limit in limits.iter().filter(|limit| limit.key_for(model).is_some() && limit.period == Period::Request) {
                                let n = asked.of(limit.unit);
                                prop_assert!(limit.unit == Unit::Concurrent || n <= limit.amount, "{n} of {limit:?}");
                            }
                            came.push(Came { sequence: charge.sequence, model, at: now, input, answered: None, over: false });
                            out.push(charge);
                        }
                        Err(denial) => {
                            prop_assert!(!denial.probe, "nobody probes the user's own");
                            until = denial.until.map(|until| until.0).or(until);
                        }
                    }
                }
                Event::End { which, share, refused } if !out.is_empty() => {
                    let charge = out.swap_remove(which % out.len());
                    let own = came.iter_mut().find(|came| came.sequence == charge.sequence).unwrap();
                    let output = charge.output_tokens * share / 100;
                    own.over = true;
                    if refused {
                        let no = Actual { input_tokens: Some(0), output_tokens: Some(0), refused };
                        ledger.settle(charge, no, Moment(now));
                        // It came all the same; its tokens were never read.
                        own.input = 0;
                    } else {
                        own.answered = Some((now, output));
                        let actual = Actual { input_tokens: Some(own.input), output_tokens: Some(output), refused };
                        ledger.settle(charge, actual, Moment(now));
                    }
                }
                Event::Refund { which } if !out.is_empty() => {
                    let charge = out.swap_remove(which % out.len());
                    came.retain(|came| came.sequence != charge.sequence);
                    ledger.refund(charge, Moment(now));
                }
                Event::Wait { share } => now += longest(&limits) / 1_000 * share as i64,
                Event::Until { early } => now = now.max(until.take().unwrap_or(now) - i64::from(early)),
                _ => {}
            }
            for limit in &limits {
                for models in sharers(limit) {
                    let theirs: Vec<&Came> = came.iter().filter(|came| models.contains(&came.model)).collect();
                    let used = most_used(limit, &theirs, now);
                    prop_assert!(used <= limit.amount, "{used} of {limit:?} for {models:?} at {now}");
                }
            }
        }
    }

    #[test]
    fn no_kind_of_limit_is_waited_for_longer_than_the_denial_says(
        limits in prop::collection::vec(kind(), 1..4), begin in prop::sample::select(BEGINNINGS.to_vec()), events in events(),
    ) {
        let mut ledger = Ledger::new(limits.clone());
        let mut now = begin.parse::<Timestamp>().unwrap().as_millisecond();
        for event in events {
            match event {
                Event::Ask { model, input, output, .. } => {
                    let asked = Need { model: MODELS[model], most_output: Some(output), ..need(input, output) };
                    match ledger.admit(&asked, Mode::Keep, Moment(now)) {
                        Ok(charge) => {
                            let actual = Actual { input_tokens: Some(input), output_tokens: Some(output), refused: false };
                            ledger.settle(charge, actual, Moment(now));
                        }
                        Err(denial) if denial.cause == Cause::Window => {
                            let until = denial.until.expect("nothing is out: it is a matter of time").0;
                            prop_assert!(until > now && until <= now + longest(&limits) + DAY / 24 + 2 * IN_TRANSIT, "{denial:?}");
                            prop_assert!(ledger.check(&asked, Moment(until)).is_ok(), "{:?}", ledger.check(&asked, Moment(until)));
                            // A bucket rounds by a millionth of what it holds.
                            let before = until - 1 - longest(&limits) / 100_000;
                            prop_assert!(before < now || ledger.check(&asked, Moment(before)).is_err(), "it frees before {until}");
                        }
                        Err(denial) => prop_assert_eq!(denial.cause, Cause::NeverFits),
                    }
                }
                Event::Wait { share } => now += longest(&limits) / 1_000 * share as i64,
                _ => {}
            }
        }
    }
}
