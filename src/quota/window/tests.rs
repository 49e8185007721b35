//! Windows of every kind: what is used, when it frees, and what the calendar does.

use proptest::prelude::*;

use super::super::limit::Source;
use super::*;

fn limit(amount: u64, per: &str, window: &str, zone: Option<&str>) -> Limit {
    Limit::parse("requests", amount, Some(per), None, false, Some(window), zone, Source::Configured).unwrap()
}

/// Counted where nothing was before.
fn alone(at: i64, n: u64) -> Counted {
    Counted { at, n, before: 0, all: true }
}

fn at(text: &str) -> i64 {
    text.parse::<Timestamp>().unwrap().as_millisecond()
}

#[test]
fn a_rolling_window_frees_each_part_when_it_has_grown_old() {
    let limit = limit(3, "minute", "rolling", None);
    let mut count = Count::new(&limit, 0);
    for when in [0, 10_000, 20_000] {
        count.add(&limit, 3, 1, when);
    }
    assert_eq!(count.used(&limit, 3, 59_999), 3);
    assert_eq!(count.frees_at(&limit, 3, 1, 30_000), Some(60_000));
    assert_eq!(count.frees_at(&limit, 3, 2, 30_000), Some(70_000));
    assert_eq!(count.used(&limit, 3, 60_000), 2);
    assert_eq!(count.whole_at(&limit, 3, 60_000), Some(80_000));
    assert_eq!(count.frees_at(&limit, 3, 4, 0), None, "larger than the whole window");
}

#[test]
fn a_fixed_window_begins_with_the_wall_clock_minute_or_where_the_upstream_said() {
    let limit = limit(2, "minute", "fixed", None);
    let mut count = Count::new(&limit, 59_000);
    count.add(&limit, 2, 2, 59_000);
    assert_eq!(count.frees_at(&limit, 2, 1, 59_500), Some(60_000));
    assert_eq!(count.used(&limit, 2, 60_000), 0);
    count.set(&limit, 2, 2, Some(85_000), 61_000);
    assert_eq!(count.used(&limit, 2, 84_999), 2);
    assert_eq!(count.used(&limit, 2, 85_000), 0);
    count.add(&limit, 2, 1, 90_000);
    assert_eq!(count.whole_at(&limit, 2, 90_000), Some(145_000), "it goes on from there");
}

#[test]
fn a_bucket_refills_all_the_time() {
    let limit = limit(60, "minute", "bucket", None);
    let mut count = Count::new(&limit, 0);
    count.add(&limit, 60, 60, 0);
    assert_eq!(count.frees_at(&limit, 60, 1, 0), Some(1000));
    assert_eq!(count.used(&limit, 60, 30_000), 30);
    assert_eq!(count.used(&limit, 60, 600_000), 0);
}

#[test]
fn a_day_of_los_angeles_ends_at_its_midnight_with_and_without_daylight_saving() {
    let day = limit(20, "day", "calendar", Some("America/Los_Angeles"));
    let ends = |now: &str| match Count::new(&day, at(now)) {
        Count::Span { ends, starts, .. } => (starts, ends),
        _ => (0, 0),
    };
    assert_eq!(ends("2026-07-18T12:00:00Z").1, at("2026-07-19T07:00:00Z"));
    assert_eq!(ends("2026-12-18T12:00:00Z").1, at("2026-12-19T08:00:00Z"));
    let (starts, end) = ends("2026-11-01T12:00:00Z");
    assert_eq!(end - starts, 25 * 3_600_000, "the day on which the clocks go back");
    let (starts, end) = ends("2026-03-08T12:00:00Z");
    assert_eq!(end - starts, 23 * 3_600_000);
}

#[test]
fn months_have_their_own_lengths_and_weeks_begin_on_monday() {
    let span = |per: &str, now: &str| match Count::new(&limit(1, per, "calendar", Some("UTC")), at(now)) {
        Count::Span { starts, ends, .. } => (starts, ends),
        _ => (0, 0),
    };
    assert_eq!(
        span("month", "2028-02-29T23:59:59Z"),
        (at("2028-02-01T00:00:00Z"), at("2028-03-01T00:00:00Z"))
    );
    assert_eq!(span("month", "2026-12-31T00:00:00Z").1, at("2027-01-01T00:00:00Z"));
    assert_eq!(
        span("week", "2026-11-27T10:00:00Z"),
        (at("2026-11-23T00:00:00Z"), at("2026-11-30T00:00:00Z"))
    );
    assert_eq!(
        span("hour", "2026-11-27T10:30:00Z"),
        (at("2026-11-27T10:00:00Z"), at("2026-11-27T11:00:00Z"))
    );
}

#[test]
fn what_has_left_the_window_is_not_taken_from_those_that_are_in_it() {
    let rolling = limit(100, "minute", "rolling", None);
    let mut count = Count::new(&rolling, 0);
    count.add(&rolling, 100, 60, 0);
    count.add(&rolling, 100, 60, 61_000);
    count.take_back(&rolling, 100, alone(0, 50), 62_000);
    assert_eq!(count.used(&rolling, 100, 62_000), 60);
    let bucket = limit(2, "minute", "bucket", None);
    let mut count = Count::new(&bucket, 0);
    count.add(&bucket, 2, 2, 0);
    count.add(&bucket, 2, 1, 30_000);
    // The first one's half was drained meanwhile, as it was counted.
    count.take_back(&bucket, 2, alone(0, 1), 30_000);
    assert_eq!(count.used(&bucket, 2, 30_000), 2);
}

proptest! {
    #[test]
    fn taking_back_never_takes_more_than_is_there(steps in prop::collection::vec((0u64..50, 0i64..5000, any::<bool>()), 1..60), kind in 0usize..3) {
        let limit = limit(100, "minute", ["rolling", "fixed", "bucket"][kind], None);
        let mut count = Count::new(&limit, 0);
        let mut now = 0;
        for (n, step, add) in steps {
            let before = count.used(&limit, 100, now);
            if add {
                count.add(&limit, 100, n, now);
                prop_assert!(count.used(&limit, 100, now) >= before);
            } else {
                count.take_back(&limit, 100, alone(now - step, n), now);
                prop_assert!(count.used(&limit, 100, now) <= before);
            }
            now += step;
        }
    }
}

#[test]
fn entries_that_are_merged_again_and_again_do_not_move() {
    let limit = limit(u64::MAX, "hour", "rolling", None);
    let mut count = Count::new(&limit, 0);
    let hour = 3_600_000;
    for at in (0..hour).step_by(500) {
        count.add(&limit, u64::MAX, 1, at);
    }
    // Each is free within one grain after its own hour, whatever was merged since.
    for at in (0..hour).step_by(60_000) {
        let left = count.used(&limit, u64::MAX, hour + at);
        let exact = u64::try_from((hour - at) / 500).unwrap_or(0);
        assert!((exact - 1..=exact + 15).contains(&left), "{left} of {exact} at {at}");
    }
}

#[test]
fn what_is_sent_in_a_windows_last_moment_and_may_come_in_the_next_is_not_forgotten_there() {
    let limit = limit(10, "minute", "fixed", None);
    let mut count = Count::new(&limit, 0);
    count.add(&limit, 10, 3, 50_000);
    count.add(&limit, 10, 2, 59_900);
    assert_eq!([count.used(&limit, 10, 59_999), count.used(&limit, 10, 60_000)], [5, 2]);
    count.take_back(&limit, 10, alone(59_900, 1), 60_050);
    count.add(&limit, 10, 4, 60_100);
    assert_eq!(count.used(&limit, 10, 60_100), 5);
    assert_eq!(count.frees_at(&limit, 10, 9, 60_100), Some(120_000));
    assert_eq!(count.used(&limit, 10, 120_000), 0, "nor carried for ever");
}

#[test]
fn a_session_does_not_run_before_somebody_asks() {
    const HOUR: i64 = 3_600_000;
    let limit = limit(2, "5h", "session", None);
    let mut count = Count::new(&limit, 0);
    assert_eq!(count.frees_at(&limit, 2, 2, 7 * HOUR), Some(7 * HOUR));
    count.add(&limit, 2, 1, 8 * HOUR);
    count.add(&limit, 2, 1, 12 * HOUR);
    let ends = 13 * HOUR + IN_TRANSIT;
    assert_eq!(count.used(&limit, 2, ends - 1), 2);
    assert_eq!(count.frees_at(&limit, 2, 1, 12 * HOUR), Some(ends));
    // All of it ends at once, and the next one waits for its first request again.
    assert_eq!(count.used(&limit, 2, ends), 0);
    assert_eq!(count.frees_at(&limit, 2, 2, 20 * HOUR), Some(20 * HOUR));
    count.add(&limit, 2, 2, 20 * HOUR);
    assert_eq!(count.whole_at(&limit, 2, 21 * HOUR), Some(25 * HOUR + IN_TRANSIT));
    // What was never sent began none.
    count.take_back(&limit, 2, alone(20 * HOUR, 2), 21 * HOUR);
    count.add(&limit, 2, 1, 22 * HOUR);
    assert_eq!(count.whole_at(&limit, 2, 22 * HOUR), Some(27 * HOUR + IN_TRANSIT));
}

#[test]
fn what_came_late_in_a_session_is_not_forgotten_in_the_next_one() {
    const HOUR: i64 = 3_600_000;
    let limit = limit(2, "5h", "session", None);
    let mut count = Count::new(&limit, 0);
    count.add(&limit, 2, 1, HOUR);
    // It may be there when the upstream's session is over, and begin another.
    count.add(&limit, 2, 1, 6 * HOUR + 100);
    assert_eq!(count.used(&limit, 2, 6 * HOUR + IN_TRANSIT), 1);
    assert!(count.frees_at(&limit, 2, 2, 7 * HOUR).unwrap() > 10 * HOUR);
}

#[test]
fn what_an_upstream_counts_and_nobody_here_did_does_not_lame_a_day() {
    let limit = limit(20, "day", "rolling", None);
    let mut count = Count::new(&limit, 0);
    count.set(&limit, 20, 20, None, DAY);
    let frees = count.frees_at(&limit, 20, 1, DAY).unwrap();
    assert!((DAY + DAY / 48..DAY + DAY / 10).contains(&frees), "asked again soon, not at once: {frees}");
}

#[test]
fn what_is_taken_back_from_a_bucket_does_not_leave_it_fuller_than_without() {
    let day = limit(86_400, "day", "bucket", None);
    let mut count = Count::new(&day, 0);
    count.add(&day, 86_400, 10_000, 0);
    for request in 0..100 {
        let at = request * 10_000;
        let before = count.used(&day, 86_400, at);
        count.add(&day, 86_400, 500, at);
        count.take_back(&day, 86_400, Counted { at, n: 500, before, all: true }, at + 5_000);
    }
    // One drains each second.
    assert_eq!(count.used(&day, 86_400, 1_000_000), 9_000);
}

#[test]
fn an_answer_that_was_given_in_a_windows_last_moment_does_not_count_in_the_next_one() {
    let minute = limit(1_000, "minute", "fixed", None);
    let mut count = Count::new(&minute, 0);
    count.add(&minute, 1_000, 300, 59_900);
    count.give(&minute, 1_000, 200, 59_950);
    assert_eq!([count.used(&minute, 1_000, 59_999), count.used(&minute, 1_000, 60_000)], [500, 300]);
}
