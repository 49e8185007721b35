//! The same for a minute: whether it is the clock's or the last sixty seconds (`clock.rs`), of requests and of tokens.

use super::worlds::{Cost, assert_within};
use super::*;

/// What an upstream tells of its minute.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Tells {
    Nothing,
    /// Its limit, when it refuses.
    Amount,
    /// Its limit and what is left, always.
    Left,
}

fn costs(unit: TrueUnit, truth: TrueWindow, tells: Tells) -> Cost {
    let (amount, size) = if unit == TrueUnit::Requests { (20, 10..11) } else { (4_000, 50..350) };
    let counted = if unit == TrueUnit::Requests { Unit::Requests } else { Unit::Tokens };
    let mut truth = Allowance::new(vec![TrueLimit::new(unit, amount, truth)]);
    let mut ledger = Ledger::new(Vec::new());
    let mut rng = fastrand::Rng::with_seed(3);
    let (mut at, mut cost) = (BEGIN + 11_000, Cost::default());
    while at < BEGIN + 120 * MINUTE {
        let part = if at < BEGIN + 40 * MINUTE { 0 } else { 2 };
        at += rng.i64(1_000..4_000);
        let input = rng.u64(size.clone());
        let (need, now) = (Need { input_tokens: input, ..need() }, Moment(at));
        let admitted =
            ledger.admit(&need, Mode::Keep, now).or_else(|_| ledger.admit(&need, Mode::Probe, now));
        let Ok(charge) = admitted else {
            cost[part + 1] += u64::from(truth.check(at, "m", input).is_none());
            continue;
        };
        let refused = truth.admit(at, "m", input) != Admission::Admitted;
        let used = truth.standings(at, "m")[0].used;
        let statement = Statement {
            unit: counted,
            period: Some(Period::MINUTE),
            per_model: true,
            amount: Some(amount),
            remaining: (tells == Tells::Left).then(|| amount - used),
            resets_in: None,
            refills: false,
        };
        let now = Moment(at + 100);
        if refused {
            cost[part] += 1;
            if tells != Tells::Nothing {
                ledger.state_refusing(&statement, Source::Header, "m", &charge, now);
            }
            let said = Refusal { unit: (tells != Tells::Nothing).then_some(counted), ..no(None) };
            ledger.refuse(&said, "m", Some(input), Some(&charge), now);
        } else {
            if tells == Tells::Left {
                ledger.state(&statement, Source::Header, "m", Some(&charge), now);
            }
            truth.done(at + 100, "m", 0);
            ledger.succeeded(&charge, "m", now);
        }
        let tokens = |n: u64| Some(if refused { 0 } else { n });
        ledger.settle(charge, Actual { input_tokens: tokens(input), output_tokens: tokens(0), refused }, now);
    }
    cost
}

#[test]
fn a_minute_is_not_taken_for_another_kind_of_minute_for_long() {
    let mut most = MOST.iter();
    let mut found = Vec::new();
    for unit in [TrueUnit::Requests, TrueUnit::Tokens] {
        for truth in [TrueWindow::Aligned(MINUTE), TrueWindow::Rolling(MINUTE)] {
            for tells in [Tells::Nothing, Tells::Amount, Tells::Left] {
                let cost = costs(unit, truth.clone(), tells);
                found.push((format!("{unit:?} {truth:?} {tells:?}"), cost, *most.next().unwrap()));
            }
        }
    }
    assert_within(&found);
}

/// Of some six hundred that are served before it is known, and twice as many from then on.
const MOST: [Cost; 12] = [
    [5, 5, 3, 7],
    [4, 203, 2, 419],
    [2, 5, 2, 7],
    [9, 40, 2, 60],
    [5, 32, 2, 60],
    [5, 38, 2, 82],
    [21, 138, 10, 250],
    [4, 203, 2, 405],
    [2, 5, 2, 7],
    [14, 104, 8, 35],
    [5, 29, 2, 39],
    [3, 20, 2, 44],
];
