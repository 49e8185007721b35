//! What providers say when a limit is reached, or a service is overloaded: status, headers and body as they were seen.
//! Ready to play for any request. Each function names its source; nothing here decides when a limit is reached.

use serde_json::{Value, json};

use super::script::{Answer, Script};

/// Mistral, api.mistral.ai.
pub mod mistral {
    use super::super::recorded::MISTRAL_LIMIT;
    use super::{Answer, Script, json};

    /// The minute is used up: limit and `remaining: 0`, no reset, no Retry-After (0 of 163 answers, measured
    /// 2026-07-26; body from a user report, 2026-09-14).
    pub fn rate_limited() -> Script {
        MISTRAL_LIMIT.script()
    }

    /// The key has no allowance for this model: a limit of 0 (measured by users since 2026-09-29). Waiting is no use.
    pub fn no_allowance() -> Script {
        Answer::json(429)
            .header("x-ratelimit-limit-req-minute", "0")
            .header("x-ratelimit-remaining-req-minute", "0")
            .value(&json!({"object": "error", "message": "Rate limit exceeded", "type": "rate_limited",
                "param": null, "code": "1300", "raw_status_code": 429}))
    }

    /// The model has no room, whoever asks (user report, 2025-06).
    pub fn capacity_exceeded() -> Script {
        Answer::json(429).value(&json!({"object": "error",
            "message": "Service tier capacity exceeded for this model.", "type": "invalid_request_error",
            "param": null, "code": "3505"}))
    }

    /// The older body (user reports, 2025).
    pub fn rate_limited_2025() -> Script {
        Answer::json(429).value(&json!({"message": "Requests rate limit exceeded"}))
    }

    /// The prepaid balance or the monthly usage is exhausted (developersdigest.tech, 2026-10).
    pub fn payment_required() -> Script {
        Answer::json(402).value(&json!({"object": "error", "message": "Monthly included usage exhausted",
            "type": "payment_required", "param": null, "code": "1400"}))
    }
}

/// Codestral, codestral.mistral.ai.
pub mod codestral {
    use super::super::recorded::CODESTRAL_LIMIT;
    use super::Script;

    /// As Mistral's, without any limit header.
    pub fn rate_limited() -> Script {
        CODESTRAL_LIMIT.script()
    }
}

/// Ollama, local.
pub mod ollama {
    use super::super::recorded::OLLAMA_BUSY;
    use super::Script;

    /// More than OLLAMA_MAX_QUEUE requests wait (ollama/ollama fb307609, 2026-08-21).
    pub fn busy_503() -> Script {
        OLLAMA_BUSY.script()
    }
}

/// Ollama Cloud, ollama.com.
pub mod ollama_cloud {
    use super::super::recorded::{CLOUD_SESSION_LIMIT, CLOUD_SUBSCRIPTION};
    use super::{Answer, Script, json};

    /// The session window of five hours is used up (user reports, 2026-03).
    pub fn session_limit() -> Script {
        CLOUD_SESSION_LIMIT.script()
    }

    /// The hour is used up (user reports, 2025-12).
    pub fn hourly_limit() -> Script {
        Answer::json(429).value(
            &json!({"error": "you've reached your hourly usage limit, please wait or upgrade to continue"}),
        )
    }

    /// The week is used up: the session's text with another word (assumed).
    pub fn weekly_limit() -> Script {
        Answer::json(429).value(&json!({"error":
            "you (demo) have reached your weekly usage limit, upgrade for higher limits: https://ollama.com/upgrade"}))
    }

    /// Too many at one time (docs.ollama.com names no text; assumed).
    pub fn too_many_at_once() -> Script {
        Answer::json(429).value(&json!({"error": "too many concurrent requests"}))
    }

    /// The model needs a better plan (user reports, 2026-08).
    pub fn subscription_required() -> Script {
        CLOUD_SUBSCRIPTION.script()
    }
}

/// GitHub Models, before 2026-07-30.
pub mod github {
    use super::super::recorded::GITHUB_DAILY_LIMIT;
    use super::{Answer, Script, json};

    /// The model's day is used up; `retry-after` is hours (tests of two public repositories; headers 2026-07-26).
    pub fn user_by_model_by_day() -> Script {
        GITHUB_DAILY_LIMIT.script()
    }

    /// The minute is used up (headers measured 2026-07-26; text as quoted 2026-01-25).
    pub fn user_by_minute() -> Script {
        limit("UserByMinute", "24 per 60s", 55)
    }

    /// Too many at one time: retry at once (measured 2026-07-26).
    pub fn concurrent() -> Script {
        limit("UserConcurrentRequests", "5 per 0s", 0)
    }

    /// The limit of this kind, `24 per 60s`, is used up for so many seconds.
    pub(in crate::demo) fn limit(kind: &'static str, rate: &str, wait: u64) -> Script {
        let message =
            format!("Rate limit of {rate} exceeded for {kind}. Please wait {wait} seconds before retrying.");
        Answer::new(429)
            .header("Content-Type", "application/json; charset=utf-8")
            .header("Retry-After", wait.to_string())
            .header("x-ratelimit-type", kind)
            .header("x-ratelimit-timeremaining", wait.to_string())
            .header("x-ratelimit-renewalperiod-requests", "60")
            .value(&json!({"error": {"code": "RateLimitReached", "message": message, "details": message}}))
    }
}

/// Fireworks AI Serverless.
pub mod fireworks {
    use super::super::recorded::{FIREWORKS_LIMIT, FIREWORKS_OVERLOADED};
    use super::{Answer, Script, Value, json};

    /// Over the adaptive limit (docs.fireworks.ai, 2026-08-22).
    pub fn rate_limited() -> Script {
        FIREWORKS_LIMIT.script()
    }

    /// Load is shed, even within the limits (docs.fireworks.ai, 2026-08-22).
    pub fn overloaded_503() -> Script {
        FIREWORKS_OVERLOADED.script()
    }

    /// A good answer at low priority: the limit is reached, and nothing but a header says so.
    pub fn over_limit_200(body: &Value) -> Script {
        Answer::json(200).header("x-ratelimit-over-limit", "yes").value(body)
    }

    /// Suspended or unpaid (recalled).
    pub fn suspended_412() -> Script {
        Answer::json(412).value(&json!({"error": {"object": "error", "type": "invalid_request_error",
            "code": "PRECONDITION_FAILED", "message": "Account is suspended, possibly due to reaching the monthly spending limit or failure to pay past invoices"}}))
    }
}

/// OpenAI, api.openai.com.
pub mod openai {
    use super::super::recorded::OPENAI_LIMIT;
    use super::{Answer, Script, json};

    /// The minute's requests are used up; Go durations and `retry-after-ms`.
    pub fn rate_limited() -> Script {
        OPENAI_LIMIT.script()
    }

    /// A limit is used up: `requests per min (RPM): Limit 3, Used 3, Requested 1`, for so many seconds.
    pub(in crate::demo) fn limit(what: &str, kind: &str, wait: f64) -> Script {
        let message = format!(
            "Rate limit reached for gpt-4.1-mini in organization org-demo on {what}. Please try again in {wait}s. Visit https://platform.openai.com/account/rate-limits to learn more."
        );
        Answer::json(429)
            .header("retry-after", wait.ceil().to_string())
            .header("retry-after-ms", (wait * 1000.0).ceil().to_string())
            .value(&json!({"error": {"message": message, "type": kind, "param": null, "code": "rate_limit_exceeded"}}))
    }

    /// Out of money, though the status is 429.
    pub fn insufficient_quota() -> Script {
        Answer::json(429).value(&json!({"error": {"message": "You exceeded your current quota, please check your plan and billing details.",
            "type": "insufficient_quota", "param": null, "code": "insufficient_quota"}}))
    }
}

/// Groq. Headers measured 2026-07-26: the request limit is per day, the token limit per minute.
pub mod groq {
    use super::{Answer, Script, json};

    /// Requests per minute, which no header shows.
    pub fn requests_per_minute() -> Script {
        limit(
            2,
            "requests per minute (RPM): Limit 30, Used 30, Requested 1. Please try again in 2s",
            "requests",
        )
    }

    /// Tokens per day.
    pub fn tokens_per_day() -> Script {
        let what =
            "tokens per day (TPD): Limit 200000, Used 199123, Requested 3331. Please try again in 17m39.9s";
        limit(1060, what, "tokens")
    }

    /// Larger than the whole bucket: never fits, though `retry-after` is there.
    pub fn too_large_413() -> Script {
        too_large("tokens per minute (TPM): Limit 6000, Requested 6791")
    }

    /// Larger than this limit.
    pub(in crate::demo) fn too_large(what: &str) -> Script {
        let message = format!(
            "Request too large for model `openai/gpt-oss-120b` in organization `org_demo` service tier `on_demand` on {what}, please reduce your message size and try again."
        );
        headers(413, 8)
            .value(&json!({"error": {"message": message, "type": "tokens", "code": "rate_limit_exceeded"}}))
    }

    /// This limit is used up for so many seconds.
    pub(in crate::demo) fn limit(wait: u64, what: &str, kind: &str) -> Script {
        let message = format!(
            "Rate limit reached for model `openai/gpt-oss-120b` in organization `org_demo` service tier `on_demand` on {what}. Need more tokens? Upgrade to Dev Tier today at https://console.groq.com/settings/billing"
        );
        headers(429, wait)
            .value(&json!({"error": {"message": message, "type": kind, "code": "rate_limit_exceeded"}}))
    }

    fn headers(status: u16, wait: u64) -> Answer {
        Answer::json(status)
            .header("retry-after", wait.to_string())
            .header("x-ratelimit-limit-requests", "1000")
            .header("x-ratelimit-limit-tokens", "8000")
            .header("x-ratelimit-remaining-requests", "999")
            .header("x-ratelimit-remaining-tokens", "7890")
            .header("x-ratelimit-reset-requests", "1m26.4s")
            .header("x-ratelimit-reset-tokens", "825ms")
    }
}

/// Cerebras. No limit headers on a 429 (measured 2026-07-26); flat bodies.
pub mod cerebras {
    use super::{Answer, Script, json};

    /// The minute's tokens are used up.
    pub fn token_quota() -> Script {
        tokens("minute", 57)
    }

    /// The tokens of a window are used up.
    pub(in crate::demo) fn tokens(window: &str, wait: u64) -> Script {
        let message = format!("Tokens per {window} limit exceeded - too many tokens processed.");
        Answer::json(429).header("retry-after", wait.to_string()).value(&json!({"message": message,
            "type": "too_many_tokens_error", "param": "quota", "code": "token_quota_exceeded"}))
    }

    /// The minute's requests are used up.
    pub fn request_quota() -> Script {
        requests("minute", 60)
    }

    /// The requests of a window are used up.
    pub(in crate::demo) fn requests(window: &str, wait: u64) -> Script {
        let message = format!("Requests per {window} limit exceeded - too many requests sent.");
        Answer::json(429).header("retry-after", wait.to_string()).value(&json!({"message": message,
            "type": "too_many_requests_error", "param": "quota", "code": "request_quota_exceeded"}))
    }

    /// The queue is full: the most retryable of all errors, whatever `x-should-retry` says.
    pub fn queue_exceeded() -> Script {
        Answer::json(429).header("x-should-retry", "false").value(&json!({
            "message": "We're experiencing high traffic right now! Please try again soon.",
            "type": "too_many_requests_error", "param": "queue", "code": "queue_exceeded"}))
    }
}

/// OpenRouter. openrouter.ai/docs/api_reference/limits; body from a user report, 2026-04.
pub mod openrouter {
    use super::super::script::EventStream;
    use super::{Answer, Script, json};

    /// The day's free requests are used up; the reset is in epoch milliseconds, in header and body.
    pub fn free_models_per_day() -> Script {
        per_day(50, 1_795_392_000_000)
    }

    /// The day's free requests, so many, are used up until that moment.
    pub(in crate::demo) fn per_day(limit: u64, reset: i64) -> Script {
        let text = "free-models-per-day. Add 10 credits to unlock 1000 free model requests per day";
        refused(text, limit, reset)
    }

    /// The minute's free requests are used up (user reports, 2025 on).
    pub(in crate::demo) fn per_minute(limit: u64, reset: i64) -> Script {
        refused("free-models-per-min. ", limit, reset)
    }

    fn refused(text: &str, limit: u64, reset: i64) -> Script {
        let (limit, reset) = (limit.to_string(), reset.to_string());
        let body = json!({"error": {"code": 429, "message": format!("Rate limit exceeded: {text}"),
            "metadata": {"headers": {"X-RateLimit-Limit": limit, "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": reset},
                "provider_name": null}}, "user_id": "user_demo"});
        Answer::json(429)
            .header("X-RateLimit-Limit", limit)
            .header("X-RateLimit-Remaining", "0")
            .header("X-RateLimit-Reset", reset)
            .value(&body)
    }

    /// The upstream behind OpenRouter is limited.
    pub fn upstream_limited() -> Script {
        Answer::json(429).value(&json!({"error": {"code": 429, "message": "Provider returned error",
            "metadata": {"raw": "qwen/qwen3-coder:free is temporarily rate-limited upstream. Please retry shortly.",
                "provider_name": "Chutes"}}}))
    }

    /// An error inside a 200, as the whole body.
    pub fn error_in_200() -> Script {
        Answer::json(200).value(&json!({"error": {"code": 502, "message": "Provider returned error"}}))
    }

    /// An error inside a 200 stream, after comments and a first word.
    pub fn error_in_stream() -> Script {
        let mut stream = EventStream::new(Answer::events(), std::time::Duration::ZERO);
        stream.frames.push(": OPENROUTER PROCESSING\n\n".into());
        let chunk = |delta: serde_json::Value, finish: Option<&str>| {
            json!({"id": "gen-1795348800-aB3dE5", "provider": "Chutes", "model": "qwen/qwen3-coder:free",
                "object": "chat.completion.chunk", "created": 1_795_348_800,
                "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
        };
        stream.push(&chunk(json!({"role": "assistant", "content": "The"}), None).to_string());
        let mut last = chunk(json!({"content": ""}), Some("error"));
        if let Some(members) = last.as_object_mut() {
            members.insert(
                "error".to_owned(),
                json!({"code": 502, "message": "Provider disconnected unexpectedly"}),
            );
        }
        stream.push(&last.to_string());
        stream.script()
    }
}

/// Gemini's OpenAI-compatible endpoint: the body is an array. Shapes from three issue reports and four repositories.
pub mod gemini {
    use super::{Answer, Script, Value, json};

    /// The model's day is used up; the retry delay is short all the same, the quota id tells the truth.
    pub fn per_day() -> Script {
        quota("GenerateRequestsPerDayPerProjectPerModel-FreeTier", "20", "38.2s")
    }

    /// The model's minute is used up.
    pub fn per_minute() -> Script {
        quota("GenerateRequestsPerMinutePerProjectPerModel-FreeTier", "5", "12s")
    }

    /// A bad key is a 400.
    pub fn bad_key_400() -> Script {
        error(
            400,
            &json!({"code": 400, "message": "API key not valid. Please pass a valid API key.",
            "status": "INVALID_ARGUMENT", "details": [{"@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": "API_KEY_INVALID", "domain": "googleapis.com"}]}),
        )
    }

    /// The quota of this id and value is used up; it says to wait that long.
    pub(in crate::demo) fn quota(id: &str, value: &str, delay: &str) -> Script {
        error(
            429,
            &json!({"code": 429,
            "message": format!("You exceeded your current quota, please check your plan and billing details. Please retry in {delay}."),
            "status": "RESOURCE_EXHAUSTED",
            "details": [
                {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{
                    "quotaMetric": "generativelanguage.googleapis.com/generate_content_free_tier_requests",
                    "quotaId": id, "quotaDimensions": {"location": "global", "model": "gemini-3.5-flash"},
                    "quotaValue": value}]},
                {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}]}),
        )
    }

    fn error(status: u16, error: &Value) -> Script {
        Answer::new(status)
            .header("Content-Type", "application/json; charset=UTF-8")
            .header("Server", "scaffolding on HTTPServer2")
            .value(&json!([{"error": error}]))
    }
}

/// Those with few words.
pub mod others {
    use super::{Answer, Script, json};

    /// NVIDIA NIM: no headers, no code (measured 2026-07-26).
    pub fn nvidia() -> Script {
        Answer::json(429).value(&json!({"status": 429, "title": "Too Many Requests"}))
    }

    /// Z.ai: a concurrency cap with a code in a string (measured 2026-07-26).
    pub fn zai() -> Script {
        Answer::json(429)
            .value(&json!({"error": {"code": "1302", "message": "Rate limit reached for requests"}}))
    }

    /// Cohere's trial key (measured 2026-07-26).
    pub fn cohere() -> Script {
        Answer::json(429).value(
            &json!({"message": "You are using a Trial key, which is limited to 20 API calls / minute"}),
        )
    }

    /// Cloudflare: the day's neurons are used up (many reports).
    pub fn cloudflare() -> Script {
        Answer::json(429)
            .value(&json!({"success": false, "result": null, "messages": [], "errors": [{"code": 4006,
            "message": "AiError: you have used up your daily free allocation of 10,000 neurons"}]}))
    }

    /// Hugging Face: exhaustion is a 402 with its text in a header (measured 2026-07-26).
    pub fn huggingface() -> Script {
        let message =
            "You have depleted your monthly included credits. Purchase pre-paid credits to continue.";
        Answer::json(402).header("x-error-message", message).value(&json!({"error": message}))
    }
}

#[cfg(test)]
mod tests;
