//! What an upstream's refusal means: whose fault it is, whether and where to try again, and when.
//! Pure; the quota ledger and the breaker draw their own conclusions from the same answer.
//! Sources: providers.md §1.2-1.3 and §2 (2026-11), which cite each provider's documentation and measurements.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::HeaderMap;
use http::header::RETRY_AFTER;

use super::limits::refusal;
use super::refusal::Words;
use crate::error::{ErrorKind, Fault, ProxyError, Retry, UpstreamAnswer};

/// How much of a refusal's body is kept.
const MAX_KEPT_BODY: usize = 64 * 1024;
/// No upstream may park us for longer than this.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(30 * 24 * 60 * 60);

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
/// The key is good, but not for this model.
const TIER_GATE: [&str; 7] = [
    "requires a subscription", // Ollama Cloud
    "not allowed to access model",
    "does not have access to model",
    "upgrade",
    "model",
    "moderation",
    "region",
];
/// A 400 that is about the key (Gemini).
const BAD_KEY: [&str; 3] = ["api key not valid", "api key expired", "api_key_invalid"];
/// No money: waiting does not help.
const NO_MONEY: [&str; 6] = [
    "insufficient_quota",
    "insufficient balance",
    "insufficient_balance",
    "payment required",
    "payment_method_required",
    "depleted your monthly included credits",
];
/// A quota of a day or more: waiting here does not help this request.
const LONG_QUOTA: [&str; 7] =
    ["perday", "per day", "per 86400s", "free-models-per-day", "daily free allocation", "weekly", "monthly"];

/// Whose fault it is and where to try again.
type Verdict = (Fault, Retry);

/// The error for an answer whose status is not 2xx. `sent_key` tells whether a key of ours went with the request.
pub fn classify(
    status: u16,
    headers: &HeaderMap,
    body: &Bytes,
    sent_key: bool,
    now: SystemTime,
) -> ProxyError {
    let words = Words::read(body);
    let code = words.code();
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
        _ if is_about_our_key(status, &words) => {
            let remedy = match sent_key {
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
            let (fault, retry) = verdict(status, &words);
            ProxyError { fault, retry, ..ProxyError::new(ErrorKind::UpstreamStatus, message) }
        }
    };
    error.code = match error.kind {
        ErrorKind::UpstreamStatus => code.map(str::to_owned),
        _ => None,
    };
    let refusal = refusal(status, headers, &words, now);
    error.retry_after =
        retry_after(headers, now).or_else(|| refusal.as_ref().and_then(|refusal| refusal.retry_after));
    error.refusal = refusal.map(Box::new);
    error.upstream = Some(Box::new(UpstreamAnswer {
        status,
        body: body.slice(..body.len().min(MAX_KEPT_BODY)),
        headers: Vec::new(),
        retry_after: headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()).map(str::to_owned),
    }));
    error
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

fn verdict(status: u16, words: &Words) -> Verdict {
    match status {
        400 | 413 | 422 => request_verdict(status, words),
        // The model, the route or the plan is not there for us; it may be elsewhere.
        404 | 410 | 451 => (Fault::Client, Retry::Elsewhere),
        402 | 403 | 412 => (Fault::Upstream, Retry::Elsewhere),
        429 if words.say(&["request too large"]) => (Fault::Client, Retry::Elsewhere),
        429 if words.say(&NO_MONEY) || words.say(&LONG_QUOTA) => (Fault::Upstream, Retry::Elsewhere),
        // 498 is Groq's flex capacity, 529 Anthropic's overload, 520-530 Cloudflare between us and the upstream.
        408 | 409 | 425 | 429 | 498 | 502..=504 | 520..=530 => (Fault::Upstream, Retry::Here),
        // 499 is Ollama's for a client that left. Some 500 are caused by the request (an image sent to a text model),
        // so that the same upstream is not asked again.
        499..=599 => (Fault::Upstream, Retry::Elsewhere),
        _ => (Fault::Client, Retry::No),
    }
}

/// A refusal of the request itself.
fn request_verdict(status: u16, words: &Words) -> Verdict {
    // NVIDIA NIM reports a sick model as a 400.
    if words.say(&["degraded function cannot be invoked"]) || words.say(&NO_MONEY) {
        return (Fault::Upstream, Retry::Elsewhere);
    }
    let elsewhere = status == 413
        || words.say(&TOO_BIG)
        || words.say(&UNSUPPORTED)
        || words.say(&MODEL_GONE)
        || words.say(&["not allowed to access model"]);
    (Fault::Client, if elsewhere { Retry::Elsewhere } else { Retry::No })
}

/// When the upstream says a retry makes sense: `retry-after-ms`, else `Retry-After` as seconds or HTTP-date.
/// A moment that is past is zero; nothing is longer than 30 days; what cannot be read is `None`.
pub fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let milliseconds = text("retry-after-ms").and_then(|value| number(value, 1000.0));
    milliseconds.or_else(|| {
        let value = text(RETRY_AFTER.as_str())?;
        number(value, 1.0).or_else(|| {
            let moment = httpdate::parse_http_date(value).ok()?;
            Some(moment.duration_since(now).unwrap_or(Duration::ZERO).min(MAX_RETRY_AFTER))
        })
    })
}

/// A plain decimal number of units, of which `per_second` make a second.
fn number(value: &str, per_second: f64) -> Option<Duration> {
    if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return None;
    }
    let seconds = value.parse::<f64>().ok()? / per_second;
    Some(Duration::try_from_secs_f64(seconds).unwrap_or(MAX_RETRY_AFTER).min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests;
