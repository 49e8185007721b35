//! What a refusal says about quota: which window, for whom, and until when. Pure; the ledger draws the conclusions.
//! What the request itself caused is none of it. Sources: providers.md §1.3 (2026-11).

use std::time::{Duration, SystemTime};

use http::HeaderMap;

use super::classify::retry_after;
use super::rate_headers::wait;
use super::refusal::Words;
use crate::quota::{Period, Refusal, RefusalClass, Unit};

const HOUR: Period = Period::Millis(3_600_000);
const FIVE_HOURS: Period = Period::Millis(18_000_000);
const WEEK: Period = Period::Millis(604_800_000);
/// An upstream that asks for no more than this has too many requests at once, not too many in a window.
const AT_ONCE: Duration = Duration::from_secs(1);

/// Texts by what they mean, the more particular first.
const TEXTS: [(&[&str], RefusalClass, bool); 12] = [
    (
        &[
            "insufficient_quota",
            "insufficient balance",
            "payment required",
            "payment_method_required",
            "depleted your monthly included credits",
            "exceeded and account balance",
        ],
        RefusalClass::Payment,
        false,
    ),
    // Larger than the whole minute: waiting is no use, though some send a Retry-After with it.
    (&["request too large"], RefusalClass::TooLarge, true),
    (
        &["queue_exceeded", "concurrent", "\"1302\"", "too many requests in parallel"],
        RefusalClass::Concurrency,
        false,
    ),
    (&["service tier capacity exceeded", "overloaded", "no capacity"], RefusalClass::Overloaded, true),
    (&["session usage limit"], RefusalClass::Window(Some(FIVE_HOURS)), false),
    (&["weekly usage limit", "per week"], RefusalClass::Window(Some(WEEK)), false),
    (&["hourly usage limit", "per hour", "tokens per hour"], RefusalClass::Window(Some(HOUR)), false),
    (
        &["monthly usage limit", "per month", "calls / month"],
        RefusalClass::Window(Some(Period::Month)),
        false,
    ),
    (
        &["free-models-per-day", "daily free allocation", "neurons"],
        RefusalClass::Window(Some(Period::DAY)),
        false,
    ),
    (
        &["perday", "per day", "per 86400s", "(rpd)", "(tpd)", "bymodelbyday"],
        RefusalClass::Window(Some(Period::DAY)),
        true,
    ),
    (&["free-models-per-min"], RefusalClass::Window(Some(Period::MINUTE)), false),
    (
        &["perminute", "per minute", "per 60s", "(rpm)", "(tpm)", "byminute", "/ minute"],
        RefusalClass::Window(Some(Period::MINUTE)),
        true,
    ),
];

/// What a refusal means for the account's capacity; `None`: nothing, it is about the request or the upstream is sick.
pub(super) fn refusal(status: u16, headers: &HeaderMap, words: &Words, now: SystemTime) -> Option<Refusal> {
    let told = retry_after(headers, now).or_else(|| in_prose(words.text()));
    let known = TEXTS.iter().find(|(texts, _, _)| words.say(texts));
    let (class, per_model) = match status {
        402 => (RefusalClass::Payment, false),
        403 if words.say(&[
            "requires a subscription",
            "not allowed to access model",
            "does not have access to model",
        ]) =>
        {
            (RefusalClass::NoAllowance, true)
        }
        400 | 403 if words.say(&["not allowed to access model"]) => (RefusalClass::NoAllowance, true),
        404 | 410
            if words.say(&["model_decommissioned", "reached its end of life", "no endpoints found"]) =>
        {
            (RefusalClass::ModelGone, true)
        }
        413 if words.say(&["tokens per minute", "(tpm)"]) => (RefusalClass::TooLarge, true),
        429 if no_allowance(headers) => (RefusalClass::NoAllowance, true),
        429 => match known {
            Some((_, class, per_model)) => (*class, *per_model),
            None if told.is_some_and(|wait| wait <= AT_ONCE) => (RefusalClass::Concurrency, false),
            None => (RefusalClass::Window(None), true),
        },
        _ => return None,
    };
    let unit = if words.say(&["(tpm)", "(tpd)", "tokens per", "token_quota_exceeded"]) {
        Some(Unit::Tokens)
    } else if matches!(class, RefusalClass::Window(_)) {
        Some(Unit::Requests)
    } else {
        None
    };
    Some(Refusal { class, per_model, unit, retry_after: told })
}

/// A limit of zero: the key has no allowance here, whatever is waited for (Mistral, since 2026-09-29).
fn no_allowance(headers: &HeaderMap) -> bool {
    let limits = headers.iter().filter(|(name, _)| name.as_str().starts_with("x-ratelimit-limit"));
    let mut limits = limits.map(|(_, value)| value.to_str().ok().map(str::trim));
    limits.any(|value| value == Some("0"))
}

/// "Please try again in 7.66s", "Please wait 52220 seconds before retrying", "Retry after 1 seconds",
/// Gemini's `"retryDelay":"38.2s"`.
fn in_prose(text: &str) -> Option<Duration> {
    const BEFORE: [&str; 5] = ["try again in ", "please wait ", "retry after ", "retry in ", "retrydelay "];
    BEFORE.iter().find_map(|before| {
        let (_, rest) = text.split_once(before)?;
        let word = rest.split_whitespace().next()?.trim_end_matches(['.', ',', ';', ')']);
        wait(word, SystemTime::UNIX_EPOCH)
    })
}

#[cfg(test)]
mod tests;
