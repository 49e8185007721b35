//! What it costs to find out how a window moves, over all ways in which it may, lengths, and things that an upstream may
//! say: how often it refuses, and what it would have served, until that is known and from then on.

use super::*;

/// When requests come.
#[derive(Debug, Clone, Copy)]
enum Traffic {
    /// Every so many minutes.
    Steady(i64),
    /// From nine to five, that often.
    Office(i64),
    /// So many at once, a second apart, every three hours.
    Bursts(i64),
}

/// What a refusal says.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Says {
    /// Nothing.
    Nothing,
    /// How long its window is.
    Length,
    /// And how many fit.
    Amount,
}

/// What it may cost: refusals until it is known, and what was not asked in vain; then the same from then on.
pub(super) type Cost = [u64; 4];

struct Case {
    amount: u64,
    truth: TrueWindow,
    says: Says,
    traffic: Traffic,
}

fn zone(name: &str) -> TimeZone {
    TimeZone::get(name).unwrap()
}

/// The moments of so many days of this traffic, which keeps to no clock.
fn moments(traffic: Traffic, days: std::ops::Range<i64>) -> Vec<i64> {
    let (from, to) = (BEGIN + days.start * DAY + 37 * MINUTE, BEGIN + days.end * DAY);
    let mut rng = fastrand::Rng::with_seed(7);
    let (step, n) = match traffic {
        Traffic::Steady(minutes) | Traffic::Office(minutes) => (minutes * MINUTE, 1),
        Traffic::Bursts(n) => (3 * HOUR, n),
    };
    let is_open =
        |at: i64| !matches!(traffic, Traffic::Office(_)) || (9..17).contains(&(at.rem_euclid(DAY) / HOUR));
    let mut moments = Vec::new();
    let mut at = from;
    while at < to {
        if is_open(at) {
            moments.extend((0..n).map(|second| at + second * 1_000));
        }
        at += step / 2 + rng.i64(0..step);
    }
    moments
}

/// How long the period of a window is, in days of getting to know it.
fn period(truth: &TrueWindow) -> (Period, i64) {
    match truth {
        TrueWindow::Month(_) => (Period::Month, 40),
        window if window.length() >= 28 * DAY => (Period::Month, 40),
        window => {
            let length = window.length();
            (Period::Millis(length.unsigned_abs()), if length > DAY { 17 } else { 4 })
        }
    }
}

fn costs(case: &Case) -> Cost {
    let mut world = World::new(case.amount, case.truth.clone());
    let (period, days) = period(&case.truth);
    let refusal = no((case.says != Says::Nothing).then_some(period));
    let stated = Statement { period: Some(period), ..a_day_of(case.amount) };
    let stated = (case.says == Says::Amount).then_some(&stated);
    let mut cost = Cost::default();
    for part in 0..2 {
        for at in moments(case.traffic, part as i64 * days..(part as i64 + 1) * days) {
            world.ask(&refusal, stated, at);
        }
        cost[2 * part] = world.refused;
        cost[2 * part + 1] = world.missed;
        world.counts_anew();
        world.restart(BEGIN + days * DAY);
    }
    cost
}

/// Tells all that cost more than they may.
pub(super) fn assert_within(found: &[(String, Cost, Cost)]) {
    let more =
        |(_, cost, most): &&(String, Cost, Cost)| cost.iter().zip(most).any(|(cost, most)| cost > most);
    let worse: Vec<_> = found.iter().filter(more).collect();
    let told: Vec<_> =
        worse.iter().map(|(what, cost, most)| format!("COST {what}: {cost:?} of {most:?}")).collect();
    assert!(worse.is_empty(), "{}", told.join("\n"));
}

/// What all things that an upstream may say may cost: nothing, the length of its window, its limit too.
fn cases(amount: u64, truth: &TrueWindow, traffic: Traffic, most: [Cost; 3]) -> Vec<(String, Cost, Cost)> {
    let says = [Says::Nothing, Says::Length, Says::Amount];
    let of = |(says, most): (Says, Cost)| {
        let case = Case { amount, truth: truth.clone(), says, traffic };
        (format!("{truth:?} {amount} {says:?} {traffic:?}"), costs(&case), most)
    };
    says.into_iter().zip(most).map(of).collect()
}

#[test]
fn an_hour_is_not_taken_for_another_kind_of_hour_for_long() {
    let mut found = Vec::new();
    let truth = TrueWindow::Rolling(HOUR);
    found.extend(cases(40, &truth, Traffic::Bursts(60), [[20, 3, 10, 3], [10, 3, 5, 3], [3, 3, 2, 3]]));
    found.extend(cases(40, &truth, Traffic::Steady(1), [[15, 29, 6, 21], [9, 29, 6, 21], [4, 12, 2, 8]]));
    let truth = TrueWindow::Aligned(HOUR);
    found.extend(cases(40, &truth, Traffic::Bursts(60), [[20, 3, 10, 3], [10, 3, 5, 3], [3, 3, 2, 3]]));
    found.extend(cases(40, &truth, Traffic::Steady(1), [[17, 4, 6, 4], [10, 4, 6, 4], [3, 4, 2, 4]]));
    let truth = TrueWindow::FromFirst(HOUR);
    found.extend(cases(40, &truth, Traffic::Bursts(60), [[20, 3, 10, 3], [10, 3, 5, 3], [3, 3, 2, 3]]));
    found.extend(cases(40, &truth, Traffic::Steady(1), [[16, 7, 6, 4], [10, 7, 6, 4], [3, 7, 2, 4]]));
    assert_within(&found);
}

#[test]
fn a_day_is_not_taken_for_another_kind_of_day_for_long() {
    let mut found = Vec::new();
    let truth = TrueWindow::Rolling(DAY);
    found.extend(cases(100, &truth, Traffic::Bursts(30), [[32, 3, 34, 3], [8, 3, 6, 3], [6, 3, 2, 3]]));
    found.extend(cases(100, &truth, Traffic::Office(3), [[20, 10, 6, 10], [8, 10, 6, 10], [7, 10, 2, 3]]));
    found.extend(cases(100, &truth, Traffic::Steady(5), [[26, 11, 6, 12], [14, 11, 6, 12], [8, 9, 2, 3]]));
    let truth = TrueWindow::Day(TimeZone::UTC);
    found.extend(cases(100, &truth, Traffic::Bursts(30), [[17, 3, 6, 3], [8, 3, 6, 3], [5, 3, 2, 3]]));
    found.extend(cases(100, &truth, Traffic::Office(3), [[20, 3, 6, 3], [8, 3, 6, 3], [6, 3, 2, 3]]));
    found.extend(cases(100, &truth, Traffic::Steady(5), [[21, 3, 6, 3], [11, 3, 6, 3], [6, 3, 2, 3]]));
    let truth = TrueWindow::Day(zone("America/Los_Angeles"));
    found.extend(cases(100, &truth, Traffic::Bursts(30), [[11, 3, 5, 3], [8, 3, 5, 3], [6, 3, 2, 3]]));
    found.extend(cases(100, &truth, Traffic::Office(3), [[20, 3, 6, 3], [8, 3, 6, 3], [6, 3, 2, 3]]));
    found.extend(cases(100, &truth, Traffic::Steady(5), [[15, 3, 6, 3], [9, 3, 6, 3], [7, 3, 2, 3]]));
    let truth = TrueWindow::FromFirst(DAY);
    found.extend(cases(100, &truth, Traffic::Bursts(30), [[21, 3, 11, 180], [10, 36, 9, 3], [6, 36, 2, 3]]));
    found.extend(cases(100, &truth, Traffic::Office(3), [[20, 13, 6, 24], [8, 13, 6, 24], [7, 11, 2, 41]]));
    found.extend(cases(100, &truth, Traffic::Steady(5), [[26, 8, 6, 3], [14, 8, 6, 3], [7, 8, 2, 3]]));
    assert_within(&found);
}

#[test]
fn weeks_and_months_are_not_asked_each_hour_nor_left_alone_for_days() {
    let mut found = Vec::new();
    let truth = TrueWindow::Rolling(7 * DAY);
    found.extend(cases(600, &truth, Traffic::Office(5), [[30, 104, 21, 63], [7, 40, 10, 14], [6, 27, 2, 3]]));
    found.extend(cases(
        600,
        &truth,
        Traffic::Steady(10),
        [[20, 22, 12, 21], [14, 22, 12, 21], [10, 16, 2, 3]],
    ));
    let truth = TrueWindow::FromFirst(7 * DAY);
    found.extend(cases(600, &truth, Traffic::Office(5), [[24, 41, 22, 75], [8, 15, 6, 3], [5, 15, 2, 3]]));
    found.extend(cases(600, &truth, Traffic::Steady(10), [[28, 6, 10, 3], [16, 6, 10, 3], [9, 6, 2, 3]]));
    let truth = TrueWindow::Month(TimeZone::UTC);
    found.extend(cases(600, &truth, Traffic::Office(5), [[51, 3, 3, 3], [32, 3, 3, 3], [29, 3, 2, 3]]));
    found.extend(cases(600, &truth, Traffic::Steady(10), [[53, 3, 4, 3], [38, 3, 3, 3], [34, 3, 2, 3]]));
    assert_within(&found);
}
