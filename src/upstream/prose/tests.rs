//! The sentences as they were seen, and sentences that state nothing.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;

fn stated(message: &str, told: Option<u64>) -> Vec<Statement> {
    let body = serde_json::json!({"error": {"message": message}}).to_string();
    statements(&Words::read(&Bytes::from(body)), told.map(Duration::from_secs))
}

/// Unit, window, whether it is for the model alone, amount, and what is left.
type Brief = (Unit, Option<Period>, bool, Option<u64>, Option<u64>);

/// What it says of amounts, in short.
fn brief(message: &str) -> Option<Brief> {
    let mut found = stated(message, None);
    assert!(found.len() < 2, "{found:?}");
    found.pop().map(|one| (one.unit, one.period, one.per_model, one.amount, one.remaining))
}

#[test]
fn groqs_numbers_are_not_lost() {
    let of = |what: &str| {
        brief(&format!(
            "Rate limit reached for model `x` in organization `o` on {what}. Please try again in 2s"
        ))
    };
    let (requests, tokens) = (Unit::Requests, Unit::Tokens);
    assert_eq!(
        of("requests per minute (RPM): Limit 30, Used 30, Requested 1"),
        Some((requests, Some(Period::MINUTE), true, Some(30), Some(0)))
    );
    assert_eq!(
        of("tokens per day (TPD): Limit 200000, Used 199123, Requested 3331"),
        Some((tokens, Some(Period::DAY), true, Some(200_000), Some(877)))
    );
    assert_eq!(
        of("tokens per minute (TPM): Limit 6,000, Requested 6791"),
        Some((tokens, Some(Period::MINUTE), true, Some(6_000), None))
    );
    assert!(stated("(RPD): Limit 1000, Used 1001", None)[0].refills);
}

#[test]
fn a_day_that_frees_only_when_it_moves_is_not_taken_for_one_that_refills() {
    let what = "Rate limit reached on requests per day (RPD): Limit 20, Used 20, Requested 1.";
    let refills = |told| stated(what, Some(told))[0].refills;
    assert!(refills(4_320), "a twentieth of a day");
    assert!(refills(2));
    assert!(!refills(65_945), "only when the first of them is a day old");
}

#[test]
fn coheres_and_githubs_numbers_are_not_lost() {
    let cohere = "You are using a Trial key, which is limited to 20 API calls / minute. You can";
    assert_eq!(brief(cohere), Some((Unit::Requests, Some(Period::MINUTE), false, Some(20), None)));
    let month = "which is limited to 1000 API calls / month";
    assert_eq!(brief(month), Some((Unit::Requests, Some(Period::Month), false, Some(1000), None)));
    let day = "Rate limit of 50 per 86400s exceeded for UserByModelByDay. Please wait 5631 seconds";
    assert_eq!(brief(day), Some((Unit::Requests, Some(Period::DAY), true, Some(50), Some(0))));
    assert_eq!(stated(day, Some(5631))[0].resets_in, Some(Duration::from_secs(5631)));
    let minute = "Rate limit of 24 per 60s exceeded for UserByMinute.";
    assert_eq!(brief(minute), Some((Unit::Requests, Some(Period::MINUTE), false, Some(24), Some(0))));
    let at_once = "Rate limit of 5 per 0s exceeded for UserConcurrentRequests.";
    assert_eq!(brief(at_once), Some((Unit::Concurrent, Some(Period::MINUTE), false, Some(5), None)));
}

#[test]
fn what_cannot_be_counted_here_is_not_made_a_limit() {
    for message in [
        "AiError: you have used up your daily free allocation of 10,000 neurons",
        "This request would exceed your organization's rate limit of 50,000 input tokens per minute",
        "limited to 20 API calls",
        "limited to many API calls / minute",
        "limited to 20 API calls / request",
        "(RPM): no limit",
        "Rate limit of 99999999999999999999 per 60s exceeded for UserByMinute",
        "Rate limit exceeded",
        "",
    ] {
        assert_eq!(brief(message), None, "{message}");
    }
}

#[test]
fn the_unit_of_a_wait_is_not_overlooked() {
    let millis = |text: &str| wait_told(text, SystemTime::UNIX_EPOCH).map(|wait| wait.as_millis());
    assert_eq!(millis("please try again in 7.66s."), Some(7_660));
    assert_eq!(millis("please try again in 17m39.9s. need more"), Some(1_059_900));
    assert_eq!(millis("please wait 52220 seconds before retrying"), Some(52_220_000));
    assert_eq!(millis("retry after 1 seconds"), Some(1_000));
    assert_eq!(millis("try again in 2 minutes"), Some(120_000));
    assert_eq!(millis("try again in 1 hour."), Some(3_600_000));
    assert_eq!(millis("try again in 500 ms"), Some(500));
    assert_eq!(millis("try again in 6ms"), Some(6));
    assert_eq!(millis("retrydelay 38.2s"), Some(38_200));
    assert_eq!(millis("please wait or upgrade to continue"), None);
    assert_eq!(millis("try again in a moment"), None);
    assert_eq!(millis("try again in 99 days"), Some(LONGEST.as_millis()));
}

proptest! {
    #[test]
    fn no_sentence_panics(text in "\\PC{0,60}", number in "[0-9,]{0,24}") {
        for before in ["(rpm) limit ", "limited to ", "rate limit of ", "try again in ", "please wait "] {
            let message = format!("{before}{number}{text}");
            stated(&message, Some(1));
            wait_told(&message, SystemTime::UNIX_EPOCH);
        }
    }
}
