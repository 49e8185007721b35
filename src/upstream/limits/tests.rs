//! Named after what must not happen, each with a body that was seen (providers.md, 2026-11).

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};

use super::*;

fn read(status: u16, headers: &[(&'static str, &'static str)], body: &'static str) -> Option<Refusal> {
    let headers: HeaderMap = headers
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .collect();
    refusal(status, &headers, &Words::read(&Bytes::from_static(body.as_bytes())), SystemTime::UNIX_EPOCH)
}

fn class(status: u16, headers: &[(&'static str, &'static str)], body: &'static str) -> Option<RefusalClass> {
    read(status, headers, body).map(|refusal| refusal.class)
}

const MINUTE: Option<RefusalClass> = Some(RefusalClass::Window(Some(Period::MINUTE)));
const DAY: Option<RefusalClass> = Some(RefusalClass::Window(Some(Period::DAY)));

#[test]
fn a_days_refusal_is_not_taken_for_a_minutes_whatever_short_wait_comes_with_it() {
    let gemini = r#"[{"error":{"code":429,"message":"You exceeded your current quota: GenerateRequestsPerDayPerProjectPerModel-FreeTier. Please retry in 38.2s.","status":"RESOURCE_EXHAUSTED"}}]"#;
    assert_eq!(class(429, &[], gemini), DAY);
    let github = r#"{"error":{"code":"RateLimitReached","message":"Rate limit of 50 per 86400s exceeded for UserByModelByDay. Please wait 5631 seconds before retrying."}}"#;
    let found = read(429, &[], github).unwrap();
    assert_eq!((Some(found.class), found.retry_after), (DAY, Some(Duration::from_secs(5631))));
    let openrouter =
        r#"{"error":{"code":429,"message":"Rate limit exceeded: free-models-per-day. Add 10 credits"}}"#;
    assert_eq!(class(429, &[], openrouter), DAY);
}

#[test]
fn a_minutes_refusal_is_not_taken_for_a_days() {
    let groq = r#"{"error":{"message":"Rate limit reached for model `x` on requests per minute (RPM): Limit 30, Used 30, Requested 1. Please try again in 2s.","code":"rate_limit_exceeded"}}"#;
    let found = read(429, &[], groq).unwrap();
    assert_eq!((Some(found.class), found.retry_after), (MINUTE, Some(Duration::from_secs(2))));
    let tokens = r#"{"error":{"message":"Rate limit reached on tokens per minute (TPM): Limit 6000. Please try again in 7.66s."}}"#;
    let found = read(429, &[], tokens).unwrap();
    assert_eq!((found.unit, found.retry_after), (Some(Unit::Tokens), Some(Duration::from_millis(7660))));
    let mistral = r#"{"object":"error","message":"Rate limit exceeded","type":"rate_limited","code":"1300"}"#;
    assert_eq!(class(429, &[], mistral), Some(RefusalClass::Window(None)));
}

#[test]
fn too_many_at_once_is_not_taken_for_a_used_up_window() {
    let cerebras = r#"{"message":"We're experiencing high traffic","type":"too_many_requests_error","param":"queue","code":"queue_exceeded"}"#;
    assert_eq!(class(429, &[("x-should-retry", "false")], cerebras), Some(RefusalClass::Concurrency));
    let zai = r#"{"error":{"code":"1302","message":"Rate limit reached for requests"}}"#;
    assert_eq!(class(429, &[("retry-after", "1")], zai), Some(RefusalClass::Concurrency));
}

#[test]
fn an_empty_purse_is_not_asked_again_each_minute() {
    assert_eq!(class(402, &[], "{}"), Some(RefusalClass::Payment));
    let openai = r#"{"error":{"message":"You exceeded your current quota","code":"insufficient_quota"}}"#;
    assert_eq!(class(429, &[], openai), Some(RefusalClass::Payment));
}

#[test]
fn a_key_without_allowance_is_not_waited_for() {
    let zero = [("x-ratelimit-limit-req-minute", "0"), ("x-ratelimit-remaining-req-minute", "0")];
    let found = read(429, &zero, r#"{"message":"Rate limit exceeded"}"#).unwrap();
    assert_eq!((found.class, found.per_model), (RefusalClass::NoAllowance, true));
    let cloud = r#"{"error":"this model requires a subscription, upgrade for access"}"#;
    assert_eq!(class(403, &[], cloud), Some(RefusalClass::NoAllowance));
}

#[test]
fn weekly_and_session_limits_are_not_taken_for_a_minute() {
    let session =
        r#"{"error":"you (user) have reached your session usage limit, upgrade for higher limits"}"#;
    assert_eq!(class(429, &[], session), Some(RefusalClass::Window(Some(FIVE_HOURS))));
    let weekly = r#"{"error":"you have reached your weekly usage limit"}"#;
    assert_eq!(class(429, &[], weekly), Some(RefusalClass::Window(Some(WEEK))));
    let hourly = r#"{"error":"you've reached your hourly usage limit, please wait or upgrade to continue"}"#;
    assert_eq!(class(429, &[], hourly), Some(RefusalClass::Window(Some(HOUR))));
}

#[test]
fn what_the_request_itself_caused_puts_nobody_off() {
    for (status, body) in [
        (400, r#"{"error":{"message":"maximum context length is 8192","code":"context_length_exceeded"}}"#),
        (413, r#"{"error":{"message":"payload too large"}}"#),
        (422, r#"{"detail":[{"type":"extra_forbidden","loc":["body","x"]}]}"#),
        (500, r#"{"error":{"message":"image input is not supported"}}"#),
        (404, r#"{"error":{"message":"model 'x' not found"}}"#),
    ] {
        assert_eq!(class(status, &[], body), None, "{status} {body}");
    }
}

#[test]
fn a_request_larger_than_the_whole_minute_is_not_sent_again_after_the_wait_that_is_asked_for() {
    let groq = r#"{"error":{"message":"Request too large for model `x` on tokens per minute (TPM): Limit 6000, Requested 6791"}}"#;
    assert_eq!(class(429, &[("retry-after", "10")], groq), Some(RefusalClass::TooLarge));
    assert_eq!(class(413, &[], groq), Some(RefusalClass::TooLarge));
}
