//! What an upstream's refusal means: whose fault it is, whether and where to try again, and when.
//! Pure; the quota ledger and the breaker draw their own conclusions from the same answer.
//! By the providers' documentation and by measurements (2026-11); `demo/limits.rs` has whole answers and their sources.

use std::time::SystemTime;

use bytes::Bytes;
use http::HeaderMap;
use http::header::RETRY_AFTER;

use super::limits;
use super::rate_headers::{RateForm, retry_after};
use super::refusal::Words;
use crate::error::{ErrorKind, Fault, ProxyError, Retry, UpstreamAnswer};
use crate::quota::{Period, RefusalClass};

/// How much of a refusal's body is kept.
const MAX_KEPT_BODY: usize = 64 * 1024;

/// Too big for this model: another may have a larger window.
const TOO_BIG: [&str; 10] = [
    "context_length_exceeded",                 // OpenAI
    "maximum context length",                  // OpenAI, vLLM, Mistral
    "prompt is too long",                      // Anthropic
    "input token count",                       // Gemini: input token count (n) exceeds the maximum
    "too large for model with",                // Mistral
    "exceed_context_size_error",               // llama.cpp
    "exceeds the available context size",      // llama.cpp
    "exceeds max length",                      // Z.ai 1261
    "input length exceeds the context length", // Ollama
    "request too large",                       // Groq
];
/// The upstream will not do something that others may.
const UNSUPPORTED: [&str; 12] = [
    "unknown name",
    "unrecognized request argument",
    "extra_forbidden",
    "unsupported parameter",
    "unsupported_parameter",
    "unsupported value",
    "unsupported_value",
    "unknown parameter",
    "unknown_parameter",
    "unknown field",
    "does not support",
    "not supported",
];
/// The model is gone or never was.
const MODEL_GONE: [&str; 6] = [
    "model_decommissioned",      // Groq
    "reached its end of life",   // NVIDIA
    "no endpoints found",        // OpenRouter
    "model_not_found",           // OpenAI
    "not found, try pulling it", // Ollama
    "invalid model",             // Mistral: Invalid model: x
];
/// The key is good, but not for this model, or not for such a request.
const TIER_GATE: [&str; 12] = [
    "requires a subscription", // Ollama Cloud
    "not allowed to access model",
    "does not have access to model",
    "upgrade",
    "model",
    "moderation",
    "region",
    "content policy",
    "content filter",
    "content_filter",
    "flagged",
    "safety",
];
/// A 400 that is about the key (Gemini).
const BAD_KEY: [&str; 3] = ["api key not valid", "api key expired", "api_key_invalid"];
/// Codes of a limit that is reached, in lower case.
const LIMIT_CODES: [&str; 12] = [
    "1302",
    "insufficient_quota",
    "queue_exceeded",
    "rate_limit_error",
    "rate_limit_exceeded",
    "rate_limited",
    "ratelimitreached",
    "request_quota_exceeded",
    "resource_exhausted",
    "token_quota_exceeded",
    "too_many_requests",
    "too_many_requests_error",
];
/// The same in words.
const LIMIT_WORDS: [&str; 5] =
    ["rate limit exceeded", "rate limit reached", "rate limit of ", "too many requests", "usage limit"];

/// The status of an error inside an answer that names none.
const UNNAMED: u16 = 502;

/// What is known of the upstream that answered.
#[derive(Debug, Clone, Copy, Default)]
pub struct Respondent {
    /// A key of ours went with the request.
    pub sent_key: bool,
    /// How its headers state limits.
    pub rate_headers: RateForm,
    /// A limit that it does not name is one of the account, not one of the model.
    pub shared: bool,
}

/// Whose fault it is and where to try again.
type Verdict = (Fault, Retry);

/// The error for an answer whose status is not 2xx.
pub fn classify(
    status: u16,
    headers: &HeaderMap,
    body: &Bytes,
    who: Respondent,
    now: SystemTime,
) -> ProxyError {
    let words = Words::read(body);
    let code = words.code();
    let said = limits::read(status, headers, &words, who, now);
    let mut error = match status {
        300..=399 => ProxyError::new(
            ErrorKind::UpstreamProtocol,
            format!(
                "the upstream redirects ({status}), which is not followed; set the provider's `url` to where it leads"
            ),
        ),
        410 if code == Some("github_models_retirement_brownout") => ProxyError::new(
            ErrorKind::ProviderRetired,
            "GitHub has shut GitHub Models down (410); remove this provider or replace it with another",
        ),
        _ if said.refusal.is_none() && is_about_our_key(status, &words) => {
            let remedy = match who.sent_key {
                true => "refused the key; set the provider's `api_key` to a valid one",
                false => "wants a key and none is configured; set the provider's `api_key`",
            };
            ProxyError::new(ErrorKind::UpstreamAuthentication, format!("the upstream {remedy} ({status})"))
        }
        _ => {
            let message = match code {
                Some(code) => format!("the upstream answered {status} ({code})"),
                None => format!("the upstream answered {status}"),
            };
            let refused = said.refusal.as_ref().map(|refusal| refusal.class);
            let (fault, retry) = verdict(status, &words, refused);
            ProxyError { fault, retry, ..ProxyError::new(ErrorKind::UpstreamStatus, message) }
        }
    };
    error.code = match error.kind {
        ErrorKind::UpstreamStatus => code.map(str::to_owned),
        _ => None,
    };
    error.retry_after =
        retry_after(headers, now).or_else(|| said.refusal.as_ref().and_then(|refusal| refusal.retry_after));
    error.refusal = said.refusal.map(Box::new);
    error.statements = said.statements;
    error.upstream = Some(Box::new(UpstreamAnswer {
        status,
        body: body.slice(..body.len().min(MAX_KEPT_BODY)),
        headers: Vec::new(),
        retry_after: headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()).map(str::to_owned),
    }));
    error
}

/// What an error inside a successful answer means: as much as if it had come with the status that it names. One that
/// names none, but speaks of a limit, is a 429.
pub fn inside(error: ProxyError, who: Respondent, now: SystemTime) -> ProxyError {
    let Some(answer) = error.upstream.as_deref().filter(|_| error.kind == ErrorKind::UpstreamInBand) else {
        return error;
    };
    let words = Words::read(&answer.body);
    let is_limit = || words.is_coded(&LIMIT_CODES) || words.say(&LIMIT_WORDS);
    let status = if answer.status == UNNAMED && is_limit() { 429 } else { answer.status };
    let read = classify(status, &HeaderMap::new(), &answer.body, who, now);
    let upstream = UpstreamAnswer { status, ..answer.clone() };
    // What it means that an upstream is sick while it answers is in the error already.
    let (fault, retry) = if status < 500 { (read.fault, read.retry) } else { (error.fault, error.retry) };
    ProxyError {
        fault,
        retry,
        upstream: Some(Box::new(upstream)),
        retry_after: read.retry_after,
        refusal: read.refusal,
        statements: read.statements,
        ..error
    }
}

/// Whether the upstream will answer as soon as it has loaded the model (llama.cpp).
pub fn is_loading(error: &ProxyError) -> bool {
    let answer = error.upstream.as_deref().filter(|answer| answer.status == 503);
    answer.is_some_and(|answer| Words::read(&answer.body).say(&["loading model"]))
}

/// Whether the refusal is about our key rather than about the request or the model.
fn is_about_our_key(status: u16, words: &Words) -> bool {
    match status {
        401 => true,
        // A page in place of JSON comes from something in front of the upstream, which knows no keys.
        403 => words.is_json() && !words.say(&TIER_GATE),
        400 => words.say(&BAD_KEY),
        _ => false,
    }
}

fn verdict(status: u16, words: &Words, refused: Option<RefusalClass>) -> Verdict {
    match status {
        400 if refused == Some(RefusalClass::Payment) => (Fault::Upstream, Retry::Elsewhere),
        400 | 413 | 422 => request_verdict(status, words),
        // The model, the route or the plan is not there for us; it may be elsewhere.
        404 | 410 | 451 => (Fault::Client, Retry::Elsewhere),
        402 | 403 | 412 => (Fault::Upstream, Retry::Elsewhere),
        429 if refused == Some(RefusalClass::TooLarge) => (Fault::Client, Retry::Elsewhere),
        429 if refused.is_some_and(is_lasting) => (Fault::Upstream, Retry::Elsewhere),
        // 498 is Groq's flex capacity, 529 Anthropic's overload, 520-530 Cloudflare between us and the upstream.
        408 | 409 | 425 | 429 | 498 | 502..=504 | 520..=530 => (Fault::Upstream, Retry::Here),
        // 499 is Ollama's for a client that left. Some 500 are caused by the request (an image sent to a text model),
        // so that the same upstream is not asked again.
        499..=599 => (Fault::Upstream, Retry::Elsewhere),
        _ => (Fault::Client, Retry::No),
    }
}

/// Waiting here does not help this request: the window is of an hour or more, or it is no matter of time.
fn is_lasting(class: RefusalClass) -> bool {
    const HOUR: Period = Period::Millis(3_600_000);
    match class {
        RefusalClass::Window(period) => period.is_some_and(|period| period >= HOUR),
        RefusalClass::Payment
        | RefusalClass::NoAllowance
        | RefusalClass::ModelGone
        | RefusalClass::NotServed
        | RefusalClass::TooLarge => true,
        RefusalClass::Concurrency | RefusalClass::Overloaded => false,
    }
}

/// A refusal of the request itself.
fn request_verdict(status: u16, words: &Words) -> Verdict {
    // NVIDIA NIM reports a sick model as a 400.
    if words.say(&["degraded function cannot be invoked"]) {
        return (Fault::Upstream, Retry::Elsewhere);
    }
    let elsewhere = status == 413
        || words.say(&TOO_BIG)
        || words.say(&UNSUPPORTED)
        || words.say(&MODEL_GONE)
        || words.say(&["not allowed to access model"]);
    (Fault::Client, if elsewhere { Retry::Elsewhere } else { Retry::No })
}

#[cfg(test)]
mod tests;
