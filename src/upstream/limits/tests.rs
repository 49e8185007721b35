//! Named after what must not happen, each with a body that was seen (by 2026-11).

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};

use super::*;

fn all_said(
    status: u16,
    headers: &[(&'static str, &'static str)],
    body: &'static str,
    who: Respondent,
) -> Said {
    let headers: HeaderMap = headers
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .collect();
    let words = Words::read(&Bytes::from_static(body.as_bytes()));
    super::read(status, &headers, &words, who, SystemTime::UNIX_EPOCH)
}

fn read(status: u16, headers: &[(&'static str, &'static str)], body: &'static str) -> Option<Refusal> {
    all_said(status, headers, body, Respondent::default()).refusal
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
    assert_eq!(class(429, &[], zai), Some(RefusalClass::Concurrency));
    // Such a number in a sentence is another matter.
    let other = r#"{"error":{"code":"1300","message":"Rate limit exceeded, request 1302"}}"#;
    assert_eq!(class(429, &[], other), Some(RefusalClass::Window(None)));
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

const GEMINI_DAY: &str = r#"[{"error":{"code":429,"message":"You exceeded your current quota, please check your plan and billing details. Please retry in 38.2s.","status":"RESOURCE_EXHAUSTED","details":[
    {"@type":"type.googleapis.com/google.rpc.QuotaFailure","violations":[{"quotaMetric":"generativelanguage.googleapis.com/generate_content_free_tier_requests","quotaId":"GenerateRequestsPerDayPerProjectPerModel-FreeTier","quotaDimensions":{"model":"gemini-3.5-flash"},"quotaValue":"20"}]},
    {"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"38.2s"}]}}]"#;

#[test]
fn geminis_day_is_not_taken_for_an_unnamed_window_nor_its_retry_delay_for_the_truth() {
    let said = all_said(429, &[], GEMINI_DAY, Respondent::default());
    let expected = Refusal {
        class: RefusalClass::Window(Some(Period::DAY)),
        per_model: true,
        unit: Some(Unit::Requests),
        retry_after: None,
    };
    assert_eq!(said.refusal, Some(expected));
    let stated = said.statements.iter().map(|one| (one.unit, one.period, one.amount, one.per_model));
    assert_eq!(stated.collect::<Vec<_>>(), [(Unit::Requests, Some(Period::DAY), Some(20), true)]);
}

#[test]
fn geminis_tokens_are_not_taken_for_requests_nor_its_minute_for_a_day() {
    let body = r#"[{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","details":[
        {"violations":[{"quotaId":"GenerateContentInputTokensPerModelPerMinute-FreeTier","quotaValue":"250000"}]},
        {"retryDelay":"12s"}]}}]"#;
    let said = all_said(429, &[], body, Respondent::default());
    let refusal = said.refusal.unwrap();
    assert_eq!((Some(refusal.class), refusal.unit), (MINUTE, Some(Unit::InputTokens)));
    assert_eq!(refusal.retry_after, Some(Duration::from_secs(12)));
    assert_eq!(said.statements[0].amount, Some(250_000));
}

#[test]
fn a_quota_of_zero_is_not_waited_for() {
    let body = r#"[{"error":{"code":429,"details":[{"violations":[{"quotaId":"GenerateRequestsPerDayPerProjectPerModel-FreeTier","quotaValue":"0"}]}]}}]"#;
    assert_eq!(class(429, &[], body), Some(RefusalClass::NoAllowance));
}

#[test]
fn what_is_for_the_whole_account_is_not_taken_for_one_models() {
    let shared = Respondent { shared: true, ..Respondent::default() };
    for (body, who) in [
        (
            r#"{"message":"You are using a Trial key, which is limited to 20 API calls / minute"}"#,
            Respondent::default(),
        ),
        (r#"{"status":429,"title":"Too Many Requests"}"#, shared),
        (
            r#"{"error":{"code":"rate_limit_exceeded","message":"Rate limit exceeded, please try again later"}}"#,
            shared,
        ),
        (
            r#"{"error":{"message":"Rate limit of 24 per 60s exceeded for UserByMinute. Please wait 55 seconds"}}"#,
            Respondent::default(),
        ),
    ] {
        let refusal = all_said(429, &[], body, who).refusal.unwrap();
        assert!(!refusal.per_model, "{body}");
        assert!(matches!(refusal.class, RefusalClass::Window(_)), "{body}");
    }
}

#[test]
fn what_is_for_one_model_is_not_taken_for_the_whole_accounts() {
    let shared = Respondent { shared: true, ..Respondent::default() };
    let groq = r#"{"error":{"message":"Rate limit reached for model `x` on requests per minute (RPM): Limit 30, Used 30, Requested 1"}}"#;
    assert!(all_said(429, &[], groq, shared).refusal.unwrap().per_model);
    let free = r#"{"error":{"code":429,"message":"Rate limit exceeded: free-models-per-min."}}"#;
    assert!(read(429, &[], free).unwrap().per_model, "a paid model goes on");
    assert!(read(429, &[], r#"{"message":"Rate limit exceeded"}"#).unwrap().per_model);
}

#[test]
fn a_unit_that_is_not_named_is_not_made_up() {
    for body in [
        r#"{"status":429,"title":"Too Many Requests"}"#,
        r#"{"error":"you (x) have reached your session usage limit, upgrade for higher limits"}"#,
        r#"{"errors":[{"code":4006,"message":"AiError: you have used up your daily free allocation of 10,000 neurons"}]}"#,
    ] {
        assert_eq!(read(429, &[], body).unwrap().unit, None, "{body}");
    }
    let input = r#"{"type":"error","error":{"type":"rate_limit_error","message":"This request would exceed your organization's rate limit of 50,000 input tokens per minute"}}"#;
    assert_eq!(read(429, &[], input).unwrap().unit, Some(Unit::InputTokens));
}

#[test]
fn a_window_that_the_headers_name_is_not_called_unnamed() {
    let mistral = Respondent { rate_headers: RateForm::Mistral, ..Respondent::default() };
    let body = r#"{"object":"error","message":"Rate limit exceeded","type":"rate_limited","code":"1300"}"#;
    let minute = [("x-ratelimit-limit-req-minute", "60"), ("x-ratelimit-remaining-req-minute", "0")];
    let refusal = all_said(429, &minute, body, mistral).refusal.unwrap();
    assert_eq!((Some(refusal.class), refusal.unit, refusal.per_model), (MINUTE, Some(Unit::Requests), true));
    let month = [
        ("x-ratelimit-limit-req-minute", "60"),
        ("x-ratelimit-remaining-req-minute", "59"),
        ("x-ratelimit-limit-tokens-month", "4000000"),
        ("x-ratelimit-remaining-tokens-month", "0"),
    ];
    let refusal = all_said(429, &month, body, mistral).refusal.unwrap();
    assert_eq!(refusal.class, RefusalClass::Window(Some(Period::Month)));
    assert_eq!((refusal.unit, refusal.per_model), (Some(Unit::Tokens), false));
}

#[test]
fn openrouters_words_are_not_overruled_by_its_headers() {
    let openrouter = Respondent { rate_headers: RateForm::Openrouter, ..Respondent::default() };
    let body = r#"{"error":{"code":429,"message":"Rate limit exceeded: free-models-per-min. Add 10 credits to unlock 1000 free model requests per day","metadata":{"headers":{"X-RateLimit-Limit":"60","X-RateLimit-Remaining":"0","X-RateLimit-Reset":"90000"}}}}"#;
    let said = all_said(429, &[], body, openrouter);
    assert_eq!(said.refusal.map(|refusal| refusal.class), MINUTE);
    let stated: Vec<_> = said.statements.iter().map(|one| (one.period, one.amount, one.remaining)).collect();
    assert_eq!(stated, [(Some(Period::MINUTE), Some(60), Some(0))]);
}

#[test]
fn a_purse_that_is_empty_for_a_moment_is_not_left_alone_for_a_day() {
    let body = r#"{"error":{"code":402,"message":"requests in flight exceed your balance"}}"#;
    assert_eq!(class(402, &[("retry-after", "5")], body), Some(RefusalClass::Concurrency));
    assert_eq!(class(402, &[], body), Some(RefusalClass::Payment));
}

#[test]
fn a_limit_of_somebody_behind_the_upstream_is_not_taken_for_ours() {
    let body = r#"{"error":{"code":429,"message":"Provider returned error","metadata":{"raw":"x:free is temporarily rate-limited upstream. Please retry shortly.","provider_name":"Chutes"}}}"#;
    assert_eq!(class(429, &[], body), Some(RefusalClass::Overloaded));
}

#[test]
fn what_is_no_refusal_states_nothing_in_words() {
    let body =
        r#"{"error":{"message":"you wrote: limited to 20 API calls / minute, (RPM): Limit 30, Used 30"}}"#;
    assert_eq!(
        all_said(400, &[], body, Respondent::default()),
        Said { refusal: None, statements: Vec::new() }
    );
}

#[test]
fn a_limit_that_the_user_set_at_the_upstream_is_not_taken_for_a_fault_of_the_request() {
    let anthropic = r#"{"type":"error","error":{"type":"invalid_request_error","message":"You have reached your specified API usage limits. You will regain access on 1970-01-03 at 00:00 UTC."}}"#;
    let found = read(400, &[], anthropic).unwrap();
    let told = Some(Duration::from_secs(2 * 86_400));
    assert_eq!((found.class, found.per_model, found.retry_after), (RefusalClass::Payment, false, told));
    let undated = r#"{"error":{"message":"You have reached your specified API usage limits."}}"#;
    let found = read(403, &[], undated).unwrap();
    assert_eq!((found.class, found.retry_after), (RefusalClass::Payment, None));
    for odd in ["soon at 00:00 UTC", "1970-01-03 at noon UTC", "1970-01-03", "1970-99-99 at 00:00 UTC"] {
        let text = format!("you will regain access on {odd}").to_lowercase();
        assert_eq!(wait_told(&text, SystemTime::UNIX_EPOCH), None, "{odd}");
    }
}

#[test]
fn a_request_that_is_too_dear_does_not_put_off_the_account() {
    let dear = r#"{"error":{"code":402,"message":"This request requires more credits, or fewer max_tokens. You requested up to 65536 tokens, but can only afford 8321. To increase, visit https://openrouter.ai/settings/credits"}}"#;
    assert_eq!(read(402, &[], dear), None);
    let empty = r#"{"error":{"code":402,"message":"Insufficient credits. Add more using https://openrouter.ai/settings/credits"}}"#;
    let found = read(402, &[], empty).unwrap();
    assert_eq!((found.class, found.per_model), (RefusalClass::Payment, true));
    assert!(!read(402, &[], r#"{"error":{"message":"Insufficient Balance"}}"#).unwrap().per_model);
}

#[test]
fn a_model_that_is_not_there_is_not_asked_for_with_every_request() {
    let missing = RefusalClass::NotServed;
    let ollama = r#"{"error":{"message":"model \"m\" not found, try pulling it first","type":"api_error"}}"#;
    let openai = r#"{"error":{"message":"The model `m` does not exist","code":"model_not_found"}}"#;
    let gate = r#"{"error":{"message":"Your organization must be verified to use the model `m`."}}"#;
    assert_eq!((class(404, &[], ollama), class(404, &[], openai)), (Some(missing), Some(missing)));
    assert_eq!(read(403, &[], gate).map(|found| (found.class, found.per_model)), Some((missing, true)));
    let flagged =
        r#"{"error":{"code":403,"message":"The model requires moderation, your input was flagged"}}"#;
    assert_eq!(class(403, &[], flagged), None, "it is about the request");
    assert_eq!(class(404, &[], r#"{"error":"no such route"}"#), None);
}

#[test]
fn an_overloaded_upstream_that_says_for_how_long_is_not_asked_before() {
    let busy = r#"{"error":{"message":"Service unavailable"}}"#;
    for status in [503, 529] {
        let found = read(status, &[("retry-after", "30")], busy).unwrap();
        let told = Some(Duration::from_secs(30));
        assert_eq!((found.class, found.retry_after), (RefusalClass::Overloaded, told));
        assert_eq!(class(status, &[], busy), None, "the breaker finds out");
    }
}
