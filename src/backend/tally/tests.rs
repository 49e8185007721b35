//! What is counted for whom, that it is never more than the limit, and what outlives the process.

use std::cell::Cell;

use proptest::prelude::*;

use super::*;
use crate::quota::{Actual, Cause};

thread_local! {
    static NOW: Cell<i64> = const { Cell::new(1_800_000_000_000) };
}

fn clock() -> Moment {
    Moment(NOW.get())
}

fn limit(unit: &str, amount: u64, per: Option<&str>) -> settings::Limit {
    settings::Limit {
        unit: unit.to_owned(),
        amount,
        per: per.map(str::to_owned),
        models: None,
        window: None,
        time_zone: None,
    }
}

fn tally(limits: &[settings::Limit], rows: &[(&str, &str)]) -> Arc<Tally> {
    Tally::new("limit:g", limits, State::nowhere(), clock, rows).unwrap()
}

fn size(bytes: usize, max_tokens: u64) -> Size {
    Size { bytes, media: 0, max_tokens: Some(max_tokens), answers: 1, stream: false }
}

fn admit(tally: &Arc<Tally>, name: &str) -> Result<Ticket, Denial> {
    tally.admit(name, &Arc::from("m"), size(40, 10), |need| need)
}

fn used(tally: &Tally, name: &str) -> u64 {
    let views = tally.views();
    let of = views.iter().find(|view| &*view.name == name);
    of.map_or(0, |view| view.limits.iter().map(|limit| limit.used).sum())
}

#[test]
fn each_name_has_a_limit_of_its_own_until_the_window_is_over() {
    let tally = tally(&[limit("requests", 2, Some("minute"))], &[]);
    for name in ["ide", "agent"] {
        assert!(admit(&tally, name).is_ok() && admit(&tally, name).is_ok());
        let denial = admit(&tally, name).err().unwrap();
        assert_eq!((denial.cause, denial.limit.as_str()), (Cause::Window, "2 requests per minute"));
        assert!(denial.until.unwrap().0 > NOW.get());
    }
    NOW.set(NOW.get() + 70_000);
    assert!(admit(&tally, "ide").is_ok());
}

#[test]
fn what_is_reported_takes_the_place_of_what_was_reserved_and_what_is_dropped_keeps_it() {
    let tally = tally(&[limit("tokens", 1_000, Some("hour"))], &[]);
    let mut ticket = admit(&tally, "ide").unwrap();
    let reserved = used(&tally, "ide");
    assert!(reserved >= 20, "{reserved}");
    ticket.settle(Actual { input_tokens: Some(3), output_tokens: Some(4), refused: false }, Some(3), Some(4));
    assert_eq!(used(&tally, "ide"), 7);
    drop(ticket);
    assert_eq!(used(&tally, "ide"), 7, "it settles once");
    drop(admit(&tally, "agent").unwrap());
    assert!(used(&tally, "agent") >= 20, "nobody said what it took");
    admit(&tally, "nobody").unwrap().refund();
    assert_eq!(used(&tally, "nobody"), 0);
}

#[test]
fn what_was_refused_before_it_was_sent_counts_nothing_and_what_failed_is_a_request() {
    use super::counted::Open;
    use crate::error::{ErrorKind, Fault, ProxyError};
    let theirs = ProxyError { fault: Fault::Upstream, ..ProxyError::new(ErrorKind::Overloaded, "full") };
    let ours =
        [ErrorKind::QuotaExhausted, ErrorKind::Unsupported, ErrorKind::Connect, ErrorKind::ModelNotFound];
    let ours = ours.map(|kind| (ProxyError { fault: Fault::Demuxai, ..ProxyError::new(kind, "no") }, 0));
    let sent = [ErrorKind::Timeout, ErrorKind::UpstreamStatus].map(|kind| (ProxyError::new(kind, "no"), 1));
    for (error, counted) in ours.into_iter().chain(sent).chain([(theirs, 1)]) {
        let tally = tally(&[limit("requests", 9, Some("hour"))], &[]);
        let kind = error.kind;
        assert!(admit(&tally, "ide").unwrap().closed_by(Err(error)).is_err());
        assert_eq!(used(&tally, "ide"), counted, "{kind:?}");
    }
}

#[test]
fn places_are_free_again_when_requests_end() {
    let tally = tally(&[limit("concurrent", 1, None)], &[]);
    let ticket = admit(&tally, "ide").unwrap();
    assert_eq!(admit(&tally, "ide").err().map(|denial| denial.cause), Some(Cause::Full));
    drop(ticket);
    assert!(admit(&tally, "ide").is_ok());
}

#[test]
fn what_was_counted_outlives_the_process_and_a_change_of_the_limits() {
    let limits = [limit("requests", 2, Some("day"))];
    let before = tally(&limits, &[]);
    drop((admit(&before, "ide").unwrap(), admit(&before, "a | b").unwrap()));
    let rows = RowSource::changed_rows(&*before);
    let rows: Vec<(&str, &str)> = rows.iter().map(|row| (row.key.as_str(), row.json.as_str())).collect();
    let after = tally(&limits, &rows);
    assert!(admit(&after, "ide").is_ok() && admit(&after, "ide").is_err());
    assert!(admit(&after, "a | b").is_ok() && admit(&after, "a | b").is_err());

    let tallies = Tallies::nowhere();
    let first = tallies.of("limit:g", &limits).unwrap();
    drop(first.admit("ide", &Arc::from("m"), size(4, 1), |need| need).unwrap());
    assert!(Arc::ptr_eq(&first, &tallies.of("limit:g", &limits).unwrap()));
    let second = tallies.of("limit:g", &[limit("requests", 1, Some("day"))]).unwrap();
    assert!(second.admit("ide", &Arc::from("m"), size(4, 1), |need| need).is_err(), "one of one is used");
}

#[test]
fn what_is_in_flight_while_the_limits_change_is_settled_and_holds_its_place() {
    let tallies = Tallies::nowhere();
    let limits =
        |tokens, concurrent| [limit("tokens", tokens, Some("day")), limit("concurrent", concurrent, None)];
    let admit = |tally: &Arc<Tally>| tally.admit("ide", &Arc::from("m"), size(40, 100), |need| need);
    let mut before = admit(&tallies.of("limit:g", &limits(1_000, 2)).unwrap()).unwrap();
    let tally = tallies.of("limit:g", &limits(900, 1)).unwrap();
    assert_eq!(admit(&tally).err().map(|denial| denial.cause), Some(Cause::Full), "it is in flight");
    before.settle(Actual { input_tokens: Some(3), output_tokens: Some(4), refused: false }, Some(3), Some(4));
    let after = admit(&tally).unwrap();
    assert_eq!(tally.views()[0].limits[0].amount, 900);
    after.refund();
    assert_eq!(used(&tally, "ide"), 7);
}

#[test]
fn a_month_s_limit_is_whole_again_with_the_month_s_first_day_and_not_thirty_days_later() {
    let last_minute = "2027-02-28T23:59:00Z".parse::<jiff::Timestamp>().unwrap().as_millisecond();
    NOW.set(last_minute);
    let month =
        settings::Limit { window: Some("calendar".to_owned()), ..limit("requests", 1, Some("month")) };
    let tally = tally(&[month], &[]);
    admit(&tally, "ide").unwrap().settle_all(4, 6, &[]);
    let denial = admit(&tally, "ide").err().unwrap();
    assert!(denial.until.unwrap().0 - last_minute < 120_000, "{denial:?}");
    NOW.set(last_minute + 120_000);
    assert!(admit(&tally, "ide").is_ok());
}

#[test]
fn a_guess_at_an_answer_keeps_nobody_out_and_what_was_learned_does() {
    let tally = tally(&[limit("tokens", 600, Some("day"))], &[]);
    let open = |tally: &Arc<Tally>| {
        let size = Size { max_tokens: None, ..size(40, 0) };
        (
            tally.check("ide", "m", size, None, |need| need).is_ok(),
            tally.admit("ide", &Arc::from("m"), size, |need| need),
        )
    };
    let spend = |tokens: u64| {
        let ticket = tally.admit("ide", &Arc::from("other"), size(40, tokens), |need| need);
        ticket.unwrap().settle_all(tokens, 0, &[]);
    };
    spend(300);
    let (checked, first) = open(&tally);
    let mut first = first.expect("what is left may do");
    assert!(checked);
    let denial = open(&tally).1.err().expect("one at a time finds out");
    assert!(denial.until.is_some_and(|until| until.0 <= NOW.get() + 1_000), "it is over in a moment");
    first.settle(
        Actual { input_tokens: Some(5), output_tokens: Some(60), refused: false },
        Some(5),
        Some(60),
    );
    let (checked, short) = open(&tally);
    short.expect("answers are short").refund();
    assert!(checked);
    spend(200);
    let (checked, refused) = open(&tally);
    let denial = refused.err().expect("they are known to be longer than what is left");
    assert!(!checked && denial.until.is_some_and(|until| until.0 > NOW.get() + 3_600_000));
    let short = denial.short.unwrap();
    assert_eq!((short.left, short.bounded, short.is_reserved()), (35, false, false));
}

#[test]
fn what_is_used_up_is_named_before_what_is_thought_to_be_too_little() {
    let tally = tally(&[limit("tokens", 100, Some("hour")), limit("requests", 2, Some("hour"))], &[]);
    for _ in 0..2 {
        tally.admit("ide", &Arc::from("m"), size(4, 10), |need| need).unwrap().settle_all(5, 10, &[]);
        NOW.set(NOW.get() + 5_000);
    }
    let denial = tally.admit("ide", &Arc::from("m"), size(4, 99), |need| need).err().unwrap();
    assert_eq!((denial.limit.as_str(), denial.short), ("2 requests per hour", None));
}

#[test]
fn what_another_process_counted_is_added() {
    let limits = [limit("requests", 3, Some("day"))];
    let other = tally(&limits, &[]);
    drop((admit(&other, "ide").unwrap(), admit(&other, "ide").unwrap()));
    let rows = RowSource::changed_rows(&*other);
    let rows: Vec<(&str, &str)> = rows.iter().map(|row| (row.key.as_str(), row.json.as_str())).collect();
    let own = tally(&limits, &[]);
    drop(admit(&own, "ide").unwrap());
    RowSource::merge(&*own, &[], &rows);
    assert_eq!(used(&own, "ide"), 3);
    assert!(admit(&own, "ide").is_err());
}

#[test]
fn names_without_end_cost_bounded_memory_and_never_more_than_the_limit_each() {
    let tally = tally(&[limit("requests", 1, Some("minute"))], &[]);
    for number in 0..MOST_BUCKETS {
        assert!(admit(&tally, &format!("value-{number}")).is_ok());
    }
    assert!(admit(&tally, "one more").is_ok(), "those who are left share one");
    assert!(admit(&tally, "and another").is_err());
    assert!(tally.is_crowded_out("and another") && !tally.is_crowded_out("value-7"));
    assert!(admit(&tally, OTHERS).is_err(), "no value gets that one for itself");
    assert_eq!(tally.views().len(), MOST_BUCKETS + 1);
    NOW.set(NOW.get() + 120_000);
    assert!(admit(&tally, "later").is_ok());
    assert!(tally.views().len() < 10, "who has used nothing made room");
    let (one, other) = ("x".repeat(5_000), format!("{}y", "x".repeat(5_000)));
    assert!(named(&one).len() <= LONGEST_NAME && named(&one) != named(&other));
}

proptest! {
    #[test]
    fn no_window_ever_holds_more_requests_than_its_limit(
        steps in prop::collection::vec((0i64..40_000, 0u8..3, any::<bool>()), 1..60),
    ) {
        let tally = tally(&[limit("requests", 3, Some("minute"))], &[]);
        let mut sent: HashMap<u8, Vec<i64>> = HashMap::new();
        for (pause, who, refunded) in steps {
            NOW.set(NOW.get() + pause);
            let Ok(ticket) = admit(&tally, &format!("c{who}")) else { continue };
            if refunded {
                ticket.refund();
                continue;
            }
            drop(ticket);
            let all = sent.entry(who).or_default();
            all.push(NOW.get());
            let within = all.iter().filter(|at| **at > NOW.get() - 60_000).count();
            prop_assert!(within <= 3, "{within}");
        }
    }
}

#[test]
fn values_of_another_header_begin_anew_and_are_not_shown_with_those_of_the_former() {
    let limits = [limit("requests", 1, Some("day"))];
    let tallies = Tallies::nowhere();
    let of = |by: &str| tallies.of_group("limit:g", by, &limits).unwrap();
    drop(admit(&of("header:x-team"), "red").unwrap());
    assert!(admit(&of("header:x-team"), "red").is_err(), "it is the same one");
    let rows = RowSource::changed_rows(&*of("header:x-team"));
    assert!(of("header:x-squad").views().is_empty());
    assert!(admit(&of("header:x-squad"), "red").is_ok());
    let rows: Vec<(&str, &str)> = rows.iter().map(|row| (row.key.as_str(), row.json.as_str())).collect();
    for (by, known) in [("header:x-team", 1), ("header:x-squad", 0)] {
        let restarted = tally(&limits, &rows);
        restarted.count_by(by);
        assert_eq!(restarted.views().len(), known, "{by}");
    }
}
