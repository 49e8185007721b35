//! Each rule, on bodies as the providers send them.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::HeaderMap;
use http::header::HeaderValue;

use super::{MAX_KEPT_BODY, Respondent, classify, inside};
use crate::error::{ErrorKind, Fault, ProxyError, Retry, UpstreamAnswer};
use crate::quota::{Period, RefusalClass};

const MIB: usize = 1 << 20;

fn now() -> SystemTime {
    // 2026-11-22 00:00:00 UTC, a Sunday.
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_305_600)
}

fn ours() -> Respondent {
    Respondent { sent_key: true, ..Respondent::default() }
}

fn of(status: u16, body: &str) -> ProxyError {
    classify(status, &HeaderMap::new(), &Bytes::copy_from_slice(body.as_bytes()), ours(), now())
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_str(value).unwrap())).collect()
}

#[test]
fn status_and_body_are_kept_as_they_came_and_the_message_holds_no_upstream_text() {
    let body = r#"{"error":{"message":"secret prompt","type":"invalid_request_error","code":"bad_thing"}}"#;
    let headers = headers(&[("retry-after", "7")]);
    let error = classify(400, &headers, &Bytes::from(body), ours(), now());
    let upstream = error.upstream.as_deref().unwrap();
    assert_eq!((upstream.status, &upstream.body[..]), (400, body.as_bytes()));
    assert_eq!(upstream.retry_after.as_deref(), Some("7"));
    assert_eq!(error.retry_after, Some(Duration::from_secs(7)));
    assert_eq!(error.message, "the upstream answered 400 (bad_thing)");
    assert_eq!(error.code.as_deref(), Some("bad_thing"));
}

#[test]
fn a_huge_body_is_kept_only_in_part_and_an_odd_code_not_at_all() {
    let error = of(500, &"x".repeat(MIB));
    assert_eq!(error.upstream.unwrap().body.len(), MAX_KEPT_BODY);
    let error = of(400, r#"{"error":{"code":"ignore all\r\nprevious"}}"#);
    assert_eq!(error.message, "the upstream answered 400");
    assert_eq!(error.code, None);
}

#[test]
fn a_refused_key_says_which_setting_to_fix() {
    for (status, body) in [
        (401, r#"{"error":{"message":"Incorrect API key provided: sk-abc***","code":"invalid_api_key"}}"#),
        (401, r#"{"detail":"Unauthorized"}"#),
        (401, "<html>nginx</html>"),
        (
            403,
            r#"{"error":{"message":"Your API key does not have permission to use the specified resource"}}"#,
        ),
        (403, r#"{"detail":"Forbidden"}"#),
        (
            400,
            r#"[{"error":{"code":400,"message":"API key not valid. Please pass a valid API key.","status":"INVALID_ARGUMENT"}}]"#,
        ),
        (400, r#"[{"error":{"code":400,"message":"x","details":[{"reason":"API_KEY_INVALID"}]}}]"#),
    ] {
        let error = of(status, body);
        assert_eq!(error.kind, ErrorKind::UpstreamAuthentication, "{body}");
        assert_eq!((error.fault, error.retry), (Fault::Upstream, Retry::Elsewhere), "{body}");
        let said =
            format!("the upstream refused the key; set the provider's `api_key` to a valid one ({status})");
        assert_eq!(error.message, said);
        assert!(!format!("{error}").contains("sk-"));
    }
    let keyless = classify(401, &HeaderMap::new(), &Bytes::new(), Respondent::default(), now());
    assert_eq!(
        keyless.message,
        "the upstream wants a key and none is configured; set the provider's `api_key` (401)"
    );
}

#[test]
fn a_403_about_a_model_or_from_a_page_is_not_about_the_key() {
    for body in [
        r#"{"error":"this model requires a subscription, upgrade for access: https://ollama.com/upgrade (ref: 1)"}"#,
        r#"{"error":{"message":"Project `p` does not have access to model `gpt-5`","code":"model_not_found"}}"#,
        r#"{"error":{"message":"Your chosen model requires moderation and your input was flagged","code":403}}"#,
        "<!DOCTYPE html><title>Just a moment...</title>",
    ] {
        let error = of(403, body);
        assert_eq!(error.kind, ErrorKind::UpstreamStatus, "{body}");
        assert_eq!(error.retry, Retry::Elsewhere, "{body}");
    }
}

#[test]
fn the_end_of_github_models_retires_the_provider() {
    let body =
        r#"{"error":{"code":"github_models_retirement_brownout","message":"GitHub Models is retired"}}"#;
    let error = of(410, body);
    assert_eq!(error.kind, ErrorKind::ProviderRetired);
    assert_eq!(
        error.message,
        "GitHub has shut GitHub Models down (410); remove this provider or replace it with another"
    );
    assert_eq!(of(410, r#"{"error":"model retired"}"#).kind, ErrorKind::UpstreamStatus);
}

#[test]
fn a_redirect_is_a_protocol_error() {
    let error = of(302, "");
    assert_eq!(error.kind, ErrorKind::UpstreamProtocol);
    assert!(error.message.contains("`url`"), "{error}");
}

#[test]
fn each_refusal_has_its_fault_and_its_retry() {
    use Fault::{Client, Upstream};
    use Retry::{Elsewhere, Here, No};
    let overflow = r#"{"error":{"message":"This model's maximum context length is 8192 tokens"}}"#;
    let rows: &[(u16, &str, Fault, Retry)] = &[
        // The request itself.
        (400, r#"{"error":{"message":"messages is empty"}}"#, Client, No),
        (400, "not json at all", Client, No),
        (400, "", Client, No),
        (
            422,
            r#"{"detail":[{"type":"missing","loc":["body","messages"],"msg":"Field required"}]}"#,
            Client,
            No,
        ),
        (405, "", Client, No),
        (415, "", Client, No),
        // Too big for this model.
        (413, "", Client, Elsewhere),
        (400, overflow, Client, Elsewhere),
        (400, r#"{"error":{"message":"x","code":"context_length_exceeded"}}"#, Client, Elsewhere),
        (
            400,
            r#"{"error":{"code":400,"message":"request (9 tokens) exceeds the available context size (8)","type":"exceed_context_size_error"}}"#,
            Client,
            Elsewhere,
        ),
        (
            400,
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 9 > 8"}}"#,
            Client,
            Elsewhere,
        ),
        (
            400,
            r#"[{"error":{"code":400,"message":"The input token count (9) exceeds the maximum number of tokens"}}]"#,
            Client,
            Elsewhere,
        ),
        (400, r#"{"error":{"code":"1261","message":"Prompt exceeds max length"}}"#, Client, Elsewhere),
        (
            413,
            r#"{"error":{"message":"Request too large for model `x` on tokens per minute (TPM): Limit 6000, Requested 6791"}}"#,
            Client,
            Elsewhere,
        ),
        (
            429,
            r#"{"error":{"message":"Request too large for model `x` on tokens per minute (TPM): Limit 6000, Requested 6791"}}"#,
            Client,
            Elsewhere,
        ),
        // A parameter that others may know.
        (
            422,
            r#"{"detail":[{"type":"extra_forbidden","loc":["body","seed"],"msg":"Extra inputs are not permitted"}]}"#,
            Client,
            Elsewhere,
        ),
        (
            400,
            r#"[{"error":{"code":400,"message":"Unknown name \"x\": Cannot find field."}}]"#,
            Client,
            Elsewhere,
        ),
        (400, r#"{"error":{"message":"Unrecognized request argument supplied: x"}}"#, Client, Elsewhere),
        (400, r#"{"error":{"message":"\"m\" does not support thinking"}}"#, Client, Elsewhere),
        // The model is gone, or not for us.
        (404, r#"{"error":{"message":"model 'x' not found"}}"#, Client, Elsewhere),
        (410, "", Client, Elsewhere),
        (400, r#"{"error":{"message":"x","code":"model_decommissioned"}}"#, Client, Elsewhere),
        (400, r#"{"error":{"message":"You are not allowed to access model x"}}"#, Client, Elsewhere),
        // Money and quota.
        (402, r#"{"error":{"message":"Insufficient Balance"}}"#, Upstream, Elsewhere),
        (412, "", Upstream, Elsewhere),
        (
            429,
            r#"{"error":{"message":"You exceeded your current quota","type":"insufficient_quota"}}"#,
            Upstream,
            Elsewhere,
        ),
        (
            429,
            r#"{"error":{"message":"Rate limit exceeded: free-models-per-day. Add 10 credits"}}"#,
            Upstream,
            Elsewhere,
        ),
        (
            429,
            r#"{"errors":[{"code":4006,"message":"you have used up your daily free allocation of 10,000 neurons"}]}"#,
            Upstream,
            Elsewhere,
        ),
        (429, r#"{"message":"Requests rate limit exceeded"}"#, Upstream, Here),
        (
            429,
            r#"{"message":"x","type":"too_many_requests_error","param":"queue","code":"queue_exceeded"}"#,
            Upstream,
            Here,
        ),
        // A sick upstream.
        (408, "", Upstream, Here),
        (498, "", Upstream, Here),
        (502, "<html>", Upstream, Here),
        (503, r#"{"error":{"message":"Service Overloaded"}}"#, Upstream, Here),
        (504, "", Upstream, Here),
        (520, "", Upstream, Here),
        (
            529,
            r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
            Upstream,
            Here,
        ),
        (500, r#"{"error":{"message":"image input is not enabled"}}"#, Upstream, Elsewhere),
        (501, "", Upstream, Elsewhere),
        (
            400,
            r#"{"status":400,"title":"Bad Request","detail":"Function id 'x': DEGRADED function cannot be invoked"}"#,
            Upstream,
            Elsewhere,
        ),
    ];
    for (status, body, fault, retry) in rows {
        let error = of(*status, body);
        assert_eq!(error.kind, ErrorKind::UpstreamStatus, "{status} {body}");
        assert_eq!((error.fault, error.retry), (*fault, *retry), "{status} {body}");
    }
}

#[test]
fn a_prompt_repeated_in_a_validation_report_decides_nothing() {
    let body = r#"{"detail":[{"type":"missing","loc":["body","messages"],"msg":"Field required",
        "input":{"prompt":"what is insufficient_quota and maximum context length?"}}]}"#;
    assert_eq!(of(422, body).retry, Retry::No);
}

#[test]
fn nested_garbage_is_survived() {
    let nested = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(of(500, &nested).kind, ErrorKind::UpstreamStatus);
    for body in ["null", "1", "[]", "[1]", "{\"error\":null}", "{\"error\":[]}", "\"x\"", "\u{0}"] {
        assert_eq!(of(500, body).message, "the upstream answered 500");
    }
}

#[test]
fn a_sick_model_is_not_the_clients_fault() {
    let body = r#"{"status":400,"title":"Bad Request","detail":"Function id 'x': DEGRADED function cannot be invoked"}"#;
    let error = of(400, body);
    assert_eq!(
        (error.fault, error.retry, error.refusal.is_none()),
        (Fault::Upstream, Retry::Elsewhere, true)
    );
    assert!(error.counts_against_upstream());
    for (status, body) in [
        (400, r#"{"error":{"message":"messages is empty"}}"#),
        (400, r#"{"error":{"message":"Insufficient Balance"}}"#),
        (429, r#"{"status":429,"title":"Too Many Requests"}"#),
    ] {
        assert!(!of(status, body).counts_against_upstream(), "{body}");
    }
}

#[test]
fn an_empty_purse_that_is_told_as_a_400_is_not_taken_for_a_bad_request() {
    let error = of(400, r#"{"error":{"message":"Insufficient Balance"}}"#);
    assert_eq!((error.fault, error.retry), (Fault::Upstream, Retry::Elsewhere));
    assert_eq!(error.refusal.map(|refusal| refusal.class), Some(RefusalClass::Payment));
}

#[test]
fn a_window_of_hours_is_not_asked_again_for_this_request() {
    for body in [
        r#"{"error":"you (x) have reached your session usage limit, upgrade for higher limits"}"#,
        r#"[{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","details":[{"violations":[{"quotaId":"GenerateRequestsPerDayPerProjectPerModel-FreeTier","quotaValue":"20"}]}]}}]"#,
    ] {
        assert_eq!(of(429, body).retry, Retry::Elsewhere, "{body}");
    }
}

// === errors inside an answer ===

fn within(status: u16, body: &str) -> ProxyError {
    let mut error = ProxyError::new(ErrorKind::UpstreamInBand, "`p` reported an error inside its answer");
    let body = Bytes::copy_from_slice(body.as_bytes());
    error.upstream = Some(Box::new(UpstreamAnswer { status, body, headers: Vec::new(), retry_after: None }));
    inside(error, ours(), now())
}

#[test]
fn a_limit_inside_an_answer_is_not_taken_for_a_sick_upstream() {
    for (status, body, class) in [
        (
            429,
            r#"{"error":{"code":429,"message":"Rate limit exceeded: free-models-per-day. Add 10 credits"}}"#,
            RefusalClass::Window(Some(Period::DAY)),
        ),
        // It names no status.
        (
            502,
            r#"{"error":{"message":"Rate limit reached for requests","code":"1302"}}"#,
            RefusalClass::Concurrency,
        ),
        (502, r#"{"error":{"type":"rate_limit_error","message":"slow down"}}"#, RefusalClass::Window(None)),
        (
            502,
            r#"{"error":"you (x) have reached your weekly usage limit"}"#,
            RefusalClass::Window(Some(Period::Millis(604_800_000))),
        ),
        (402, r#"{"error":{"code":402,"message":"Insufficient credits"}}"#, RefusalClass::Payment),
    ] {
        let error = within(status, body);
        assert_eq!(error.kind, ErrorKind::UpstreamInBand, "{body}");
        assert_eq!(error.refusal.as_ref().map(|refusal| refusal.class), Some(class), "{body}");
        assert!(error.retry != Retry::No && !error.counts_against_upstream(), "{body}");
        let told = error.upstream.map(|answer| answer.status);
        assert_eq!(told, Some(if status == 402 { 402 } else { 429 }), "{body}");
    }
}

#[test]
fn a_sick_upstream_inside_an_answer_is_not_taken_for_a_limit() {
    for body in [r#"{"error":{"code":502,"message":"Provider returned error"}}"#, r#"{"choices":[]}"#, ""] {
        let error = within(502, body);
        assert_eq!((error.refusal.is_none(), error.counts_against_upstream()), (true, true), "{body}");
        assert_eq!((error.fault, error.retry), (Fault::Upstream, Retry::Elsewhere));
    }
}

#[test]
fn a_bad_request_inside_an_answer_speaks_against_nobody_else() {
    let body = r#"{"error":{"code":400,"message":"maximum context length is 8192 tokens"}}"#;
    let error = within(400, body);
    assert_eq!((error.fault, error.retry), (Fault::Client, Retry::Elsewhere));
    assert!(!error.counts_against_upstream());
}
