//! Rules that hold for every strategy, and what each is for.

use super::*;
use crate::quota::{Ledger, Limit, Mode, Moment, Need, Source};

fn member(weight: u32, availability: Availability) -> MemberView {
    MemberView { weight, availability, share_left: 1.0, next_reset: None, in_flight: 0 }
}

fn now(weights: &[u32]) -> Vec<MemberView> {
    weights.iter().map(|weight| member(*weight, Availability::Now)).collect()
}

fn orders(kind: &str, members: &[MemberView], times: usize, seed: u64) -> Vec<Vec<usize>> {
    let (rule, mut state) = (strategy(kind).unwrap(), StrategyState::default());
    let (mut rng, at) = (fastrand::Rng::with_seed(seed), Instant::now());
    (0..times).map(|_| next(rule, members, &mut state, at, &mut rng)).collect()
}

/// The order for one request, which then goes to the first one.
fn next(
    rule: &dyn Strategy,
    members: &[MemberView],
    state: &mut StrategyState,
    now: Instant,
    rng: &mut fastrand::Rng,
) -> Vec<usize> {
    let order = available_first(rule.order(members, state, now, rng), members);
    if let Some(first) = order.first().filter(|first| members[**first].availability == Availability::Now) {
        rule.took(members, state, *first, now);
    }
    order
}

#[test]
fn every_strategy_gives_a_permutation_the_same_for_a_seed_with_the_available_first() {
    let members = [
        member(1, Availability::Never),
        member(2, Availability::At(Some(5))),
        member(3, Availability::Now),
        member(1, Availability::Now),
    ];
    for (kind, _) in STRATEGIES {
        let found = orders(kind, &members, 50, 7);
        assert_eq!(found, orders(kind, &members, 50, 7), "{kind}");
        for order in found {
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, [0, 1, 2, 3], "{kind}");
            assert!(order[0] >= 2 && order[1] >= 2 && order[2] == 1 && order[3] == 0, "{kind}: {order:?}");
        }
        assert!(orders(kind, &[], 1, 7)[0].is_empty(), "{kind}");
    }
}

#[test]
fn failover_goes_back_to_the_first_as_soon_as_it_is_available() {
    let mut members = now(&[1, 1]);
    members[0].availability = Availability::At(None);
    assert_eq!(orders("failover", &members, 1, 0)[0], [1, 0]);
    assert_eq!(orders("failover", &now(&[1, 1]), 1, 0)[0], [0, 1]);
}

#[test]
fn rotate_stays_where_it_works_and_late_failures_of_a_left_member_move_nobody() {
    let (rule, mut state) = (strategy("rotate").unwrap(), StrategyState::default());
    let (mut rng, at, members) = (fastrand::Rng::with_seed(0), Instant::now(), now(&[1, 1, 1]));
    assert_eq!(next(rule, &members, &mut state, at, &mut rng), [0, 1, 2]);
    rule.failed(&mut state, 0, at);
    rule.failed(&mut state, 0, at);
    assert_eq!(next(rule, &members, &mut state, at, &mut rng), [1, 2, 0]);
    // A late success of the one that was left does not bring it back.
    rule.succeeded(&mut state, 0, Duration::ZERO, at);
    assert_eq!(next(rule, &members, &mut state, at, &mut rng), [1, 2, 0]);
    rule.failed(&mut state, 1, at);
    rule.failed(&mut state, 2, at);
    assert_eq!(next(rule, &members, &mut state, at, &mut rng), [0, 1, 2]);
    rule.failed(&mut state, 0, at);
    assert_eq!(next(rule, &members, &mut state, at, &mut rng), [1, 2, 0]);
}

#[test]
fn rotate_does_not_come_back_to_a_member_that_was_only_exhausted() {
    let (rule, mut state) = (strategy("rotate").unwrap(), StrategyState::default());
    let (mut rng, at, mut members) = (fastrand::Rng::with_seed(0), Instant::now(), now(&[1, 1, 1]));
    members[0].availability = Availability::At(Some(5));
    assert_eq!(next(rule, &members, &mut state, at, &mut rng), [1, 2, 0]);
    members[0].availability = Availability::Now;
    assert_eq!(next(rule, &members, &mut state, at, &mut rng), [1, 2, 0]);
    // Nobody else is able: it stays.
    for member in &mut members {
        member.availability = Availability::At(None);
    }
    assert_eq!(next(rule, &members, &mut state, at, &mut rng), [1, 2, 0]);
    // A request that it cannot serve moves nobody.
    members = now(&[1, 1, 1]);
    members[1].availability = Availability::Never;
    assert_eq!(next(rule, &members, &mut state, at, &mut rng), [2, 0, 1]);
    assert_eq!(next(rule, &now(&[1, 1, 1]), &mut state, at, &mut rng), [1, 2, 0]);
}

#[test]
fn requests_that_start_together_do_not_all_wait_for_one_unmeasured_member() {
    let (rule, mut state) = (strategy("least-latency").unwrap(), StrategyState::default());
    let (mut rng, at, members) = (fastrand::Rng::with_seed(3), Instant::now(), now(&[1, 1, 1]));
    let mut firsts: Vec<usize> = (0..30).map(|_| next(rule, &members, &mut state, at, &mut rng)[0]).collect();
    firsts.sort_unstable();
    for index in 0..3 {
        let share = firsts.iter().filter(|first| **first == index).count();
        assert!((8..=12).contains(&share), "{firsts:?}");
    }
    // One answers: who comes now does not wait for those that nobody knows yet.
    rule.succeeded(&mut state, 1, Duration::from_millis(300), at);
    let known = (0..100).filter(|_| next(rule, &members, &mut state, at, &mut rng)[0] == 1).count();
    assert!(known > 85, "{known}");
    // A trial that came to nothing is made again.
    assert_ne!(rule.order(&members, &mut state, at + Duration::from_secs(11), &mut rng)[0], 1);
}

#[test]
fn one_slow_answer_does_not_keep_a_member_out() {
    let (rule, mut state) = (strategy("least-latency").unwrap(), StrategyState::default());
    let (mut rng, at, members) = (fastrand::Rng::with_seed(3), Instant::now(), now(&[1, 1]));
    next(rule, &members, &mut state, at, &mut rng);
    rule.succeeded(&mut state, 0, Duration::from_secs(20), at);
    let mut clock = at;
    let mut back = None;
    for step in 0..600 {
        clock = at + Duration::from_secs(step);
        // No luck needed: an order without exploring.
        let mut calm = fastrand::Rng::with_seed(3);
        let first = rule.order(&members, &mut state, clock, &mut calm)[0];
        if first == 0 {
            back = Some(step);
            break;
        }
        rule.succeeded(&mut state, 1, Duration::from_millis(200), clock);
    }
    assert!(back.is_some_and(|step| (60..500).contains(&step)), "{back:?}");
    // One good answer is enough by then.
    rule.succeeded(&mut state, 0, Duration::from_millis(50), clock);
    rule.succeeded(&mut state, 1, Duration::from_millis(900), clock);
    rule.succeeded(&mut state, 1, Duration::from_millis(900), clock);
    assert_eq!(rule.order(&members, &mut state, clock, &mut fastrand::Rng::with_seed(3))[0], 0);
}

#[test]
fn an_order_that_is_not_used_spends_no_turn() {
    let (rule, mut state) = (strategy("round-robin").unwrap(), StrategyState::default());
    let (mut rng, at, members) = (fastrand::Rng::with_seed(0), Instant::now(), now(&[1, 1]));
    assert_eq!(next(rule, &members, &mut state, at, &mut rng)[0], 0);
    for _ in 0..3 {
        assert_eq!(rule.order(&members, &mut state, at, &mut rng)[0], 1);
    }
    assert_eq!(next(rule, &members, &mut state, at, &mut rng)[0], 1);
}

#[test]
fn round_robin_spreads_turns_evenly_by_weight() {
    let firsts: Vec<usize> =
        orders("round-robin", &now(&[2, 1]), 6, 0).iter().map(|order| order[0]).collect();
    assert_eq!(firsts, [0, 1, 0, 0, 1, 0]);
}

#[test]
fn random_draws_by_weight() {
    let found = orders("random", &now(&[3, 1]), 4000, 11);
    let first = found.iter().filter(|order| order[0] == 0).count();
    assert!((2850..3150).contains(&first), "{first}");
}

#[test]
fn least_latency_takes_the_fastest_tries_others_now_and_then_and_a_fast_failure_is_not_fast() {
    let rule = strategy("least-latency").unwrap();
    let (mut state, mut rng, at) = (StrategyState::default(), fastrand::Rng::with_seed(3), Instant::now());
    let members = now(&[1, 1]);
    assert_eq!(next(rule, &members, &mut state, at, &mut rng).len(), 2);
    rule.succeeded(&mut state, 0, Duration::from_millis(900), at);
    rule.succeeded(&mut state, 1, Duration::from_millis(100), at);
    let firsts = |state: &mut StrategyState, rng: &mut fastrand::Rng| {
        (0..2000).filter(|_| next(rule, &members, state, at, rng)[0] == 1).count()
    };
    let fast = firsts(&mut state, &mut rng);
    assert!((1850..1950).contains(&fast), "{fast}");
    rule.failed(&mut state, 1, at);
    rule.failed(&mut state, 1, at);
    assert!(firsts(&mut state, &mut rng) < 200);
}

/// When a member with these limits renews, after so many requests.
fn renews(limits: &[(u64, &str, &str)], requests: usize, now: i64) -> MemberView {
    let limits = limits.iter().map(|(amount, per, window)| {
        Limit::parse("requests", *amount, Some(per), None, false, Some(window), None, Source::Catalogue)
            .unwrap()
    });
    let need = Need {
        model: "m",
        input_tokens: 1,
        output_tokens: 1,
        off: 0,
        answer_off: 0,
        most_output: None,
        stream: false,
    };
    let mut ledger = Ledger::new(limits.collect());
    for _ in 0..requests {
        assert!(ledger.admit(&need, Mode::Keep, Moment(now)).is_ok());
    }
    let next_reset = ledger.next_reset(&need, Moment(now)).map(|reset| reset.0);
    MemberView { next_reset, ..member(1, Availability::Now) }
}

#[test]
fn soonest_reset_does_not_leave_what_is_lost_soonest_for_last() {
    // A Wednesday, ten minutes past an hour.
    const NOW: i64 = 1_764_158_400_000 + 600_000;
    let first = |members: &[MemberView]| orders("soonest-reset", members, 1, 0)[0][0];
    let week = (100, "week", "calendar");
    let day = (100, "day", "calendar");
    let hour = (100, "hour", "calendar");
    let minute = (60, "minute", "rolling");
    for used in [0, 1] {
        for other in [0, 1] {
            assert_eq!(
                first(&[renews(&[week], used, NOW), renews(&[hour], other, NOW)]),
                1,
                "{used} {other}"
            );
            // How fast a tier may be spent does not hide how long it lasts.
            let fast_week = renews(&[minute, week], used, NOW);
            assert_eq!(first(&[fast_week, renews(&[day], other, NOW)]), 1, "{used} {other}");
        }
    }
    // What refills all the time loses at once what it does not give; what never ends has nothing to lose.
    let bucket = renews(&[(100, "day", "bucket")], 0, NOW);
    assert_eq!(first(&[renews(&[], 0, NOW), renews(&[hour], 0, NOW), bucket]), 2);
}

#[test]
fn most_quota_and_soonest_reset_look_at_what_is_left_and_until_when() {
    let mut members = now(&[1, 1, 1]);
    members[0].share_left = 0.2;
    members[2].share_left = 0.7;
    assert_eq!(orders("most-quota", &members, 1, 0)[0], [1, 2, 0]);
    members[1].next_reset = Some(90);
    members[2].next_reset = Some(30);
    assert_eq!(orders("soonest-reset", &members, 1, 0)[0], [2, 1, 0]);
}

#[test]
fn the_better_of_two_availabilities_is_the_sooner_one() {
    use Availability::{At, Never, Now};
    assert_eq!(Never.sooner(At(None)), At(None));
    assert_eq!(At(Some(9)).sooner(At(Some(3))), At(Some(3)));
    assert_eq!(At(Some(9)).sooner(Now), Now);
}
