//! What a refusal says about quota: which window, for whom, until when, and what it states of the limits themselves.
//! Pure; the ledger draws the conclusions. What the request itself caused is none of it. As of 2026-11;
//! `demo/limits.rs` has the answers that it was made by, and their sources.

use std::time::{Duration, SystemTime};

use http::HeaderMap;

use super::classify::Respondent;
use super::prose::{self, period_of_id, unit_of_id, wait_told};
use super::rate_headers::{RateForm, retry_after, statements};
use super::refusal::{Violation, Words};
use crate::quota::{Period, Refusal, RefusalClass, Statement, Unit};

const HOUR: Period = Period::Millis(3_600_000);
const FIVE_HOURS: Period = Period::Millis(18_000_000);
const WEEK: Period = Period::Millis(604_800_000);
/// An upstream that asks for no more than this has too many requests at once, not too many in a window.
const AT_ONCE: Duration = Duration::from_secs(1);
/// A purse that is full again so soon was empty only for what is in flight (OpenRouter's 402 with a Retry-After).
const SOON: Duration = Duration::from_secs(60);

/// It wants money: waiting does not help.
const MONEY: [&str; 7] = [
    "insufficient_quota",
    "insufficient balance",
    "insufficient_balance",
    "payment required",
    "payment_method_required",
    "depleted your monthly included credits",
    "exceeded and account balance",
];
/// What is left is too little for this request; a smaller one, or one for another model, is served (OpenRouter).
const TOO_DEAR: [&str; 2] = ["can only afford", "fewer max_tokens"];
/// OpenRouter: the free models are served without credits.
const OF_PAID_MODELS: [&str; 2] = ["requires more credits", "openrouter.ai/settings/credits"];
/// The user's own limit at the upstream (Anthropic).
const OWN_LIMIT: [&str; 1] = ["usage limits"];
/// There is no such model, or not for this key; another list may have it.
const NO_MODEL: [&str; 2] = [
    "model_not_found",           // OpenAI
    "not found, try pulling it", // Ollama
];
/// A 403 that is about what was asked, or from where, though it speaks of the model.
const ABOUT_THE_REQUEST: [&str; 4] = ["moderation", "flagged", "region", "country"];
/// Suspended or unpaid (Fireworks 412).
const SUSPENDED: [&str; 3] = ["is suspended", "spending limit", "past invoices"];

/// Texts by what they mean, the more particular first.
const TEXTS: [(&[&str], RefusalClass); 12] = [
    (&MONEY, RefusalClass::Payment),
    // Larger than the whole minute: waiting is no use, though some send a Retry-After with it.
    (&["request too large"], RefusalClass::TooLarge),
    (&["queue_exceeded", "concurrent", "too many requests in parallel"], RefusalClass::Concurrency),
    // The last is OpenRouter's: somebody behind it is limited, whoever asks.
    (
        &["service tier capacity exceeded", "overloaded", "no capacity", "rate-limited upstream"],
        RefusalClass::Overloaded,
    ),
    (&["session usage limit"], RefusalClass::Window(Some(FIVE_HOURS))),
    (&["weekly usage limit", "per week"], RefusalClass::Window(Some(WEEK))),
    (&["hourly usage limit", "per hour"], RefusalClass::Window(Some(HOUR))),
    (&["monthly usage limit", "per month", "calls / month"], RefusalClass::Window(Some(Period::Month))),
    (&["free-models-per-day", "daily free allocation", "neurons"], RefusalClass::Window(Some(Period::DAY))),
    // Before "per day": the minute's words may end with how many a day one could buy.
    (&["free-models-per-min"], RefusalClass::Window(Some(Period::MINUTE))),
    (
        &["perday", "per day", "per 86400s", "(rpd)", "(tpd)", "bymodelbyday", "userbyday", "calls / day"],
        RefusalClass::Window(Some(Period::DAY)),
    ),
    (
        &["perminute", "per minute", "per 60s", "(rpm)", "(tpm)", "byminute", "/ minute"],
        RefusalClass::Window(Some(Period::MINUTE)),
    ),
];

/// Words for a window of one model, and for one of the whole account; the former first (`UserByModelByDay`). All free
/// models of OpenRouter share theirs, which its statement says; the models that are paid for must not suffer by it.
const OF_A_MODEL: [&str; 4] = ["for model `", "permodel", "bymodel", "free-models-per-"];
const OF_THE_ACCOUNT: [&str; 4] = ["userby", "trial key", "usage limit", "free allocation"];

/// Words for what is counted, the more particular first.
const UNITS: [(&[&str], Unit); 4] = [
    (&["input tokens per", "inputtokensper"], Unit::InputTokens),
    (&["output tokens per", "outputtokensper"], Unit::OutputTokens),
    (&["(tpm)", "(tpd)", "tokens per", "tokensper", "token_quota_exceeded"], Unit::Tokens),
    (
        &[
            "(rpm)",
            "(rpd)",
            "requests per",
            "requestsper",
            "request_quota_exceeded",
            "requests rate limit",
            "api calls",
            "free-models-per-",
            "userby",
        ],
        Unit::Requests,
    ),
];

/// All that an answer says about limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    /// What it means for the account's capacity; `None`: nothing, it is about the request, or the upstream is sick.
    pub(super) refusal: Option<Refusal>,
    /// What it states, in headers and in words.
    pub(super) statements: Vec<Statement>,
}

/// Reads an answer that is not a success.
pub(super) fn read(
    status: u16,
    headers: &HeaderMap,
    words: &Words,
    who: Respondent,
    now: SystemTime,
) -> Said {
    let told = retry_after(headers, now);
    let refusal = refusal(status, headers, words, who, told.or_else(|| wait_told(words.text(), now)));
    let mut stated = statements(headers, who.rate_headers, now);
    let Some(mut refusal) = refusal else { return Said { refusal: None, statements: stated } };
    if stated.is_empty() {
        stated = statements(&words.headers(), who.rate_headers, now);
    }
    if who.rate_headers == RateForm::Openrouter
        && let RefusalClass::Window(Some(period)) = refusal.class
    {
        // Its words are surer than its headers, which have one name for two windows.
        stated.iter_mut().for_each(|statement| statement.period = Some(period));
    }
    name_the_window(&mut refusal, &stated);
    if words.violations().iter().any(is_longer_than_an_hour) {
        // The delay that comes with a day's violation is a minute's all the same (Gemini, four repositories).
        refusal.retry_after = told;
    }
    stated.extend(prose::statements(words, refusal.retry_after));
    Said { refusal: Some(refusal), statements: stated }
}

fn refusal(
    status: u16,
    headers: &HeaderMap,
    words: &Words,
    who: Respondent,
    told: Option<Duration>,
) -> Option<Refusal> {
    let class = match status {
        402 if words.say(&TOO_DEAR) => return None,
        402 if told.is_some_and(|wait| wait <= SOON) => RefusalClass::Concurrency,
        402 => RefusalClass::Payment,
        400 | 403 if words.say(&MONEY) || words.say(&OWN_LIMIT) => RefusalClass::Payment,
        412 if words.say(&MONEY) || words.say(&SUSPENDED) => RefusalClass::Payment,
        403 if words.say(&["requires a subscription", "does not have access to model"]) => {
            RefusalClass::NoAllowance
        }
        400 | 403 if words.say(&["not allowed to access model"]) => RefusalClass::NoAllowance,
        404 | 410
            if words.say(&["model_decommissioned", "reached its end of life", "no endpoints found"]) =>
        {
            RefusalClass::ModelGone
        }
        404 if words.say(&NO_MODEL) => RefusalClass::NotServed,
        403 if words.say(&["model"]) && !words.say(&ABOUT_THE_REQUEST) => RefusalClass::NotServed,
        503 | 529 if told.is_some() => RefusalClass::Overloaded,
        413 if words.say(&["tokens per minute", "(tpm)"]) => RefusalClass::TooLarge,
        429 if no_allowance(headers, words) => RefusalClass::NoAllowance,
        429 => of_429(words, told),
        _ => return None,
    };
    let violation = words.violations().into_iter().max_by_key(|violation| period_of_id(&violation.id));
    let per_model = match class {
        RefusalClass::Payment => words.say(&OF_PAID_MODELS),
        RefusalClass::Concurrency => false,
        RefusalClass::NoAllowance
        | RefusalClass::NotServed
        | RefusalClass::ModelGone
        | RefusalClass::TooLarge
        | RefusalClass::Overloaded => true,
        RefusalClass::Window(_) => match &violation {
            Some(violation) => violation.id.contains("permodel"),
            None if words.say(&OF_A_MODEL) => true,
            None if words.say(&OF_THE_ACCOUNT) => false,
            None => !who.shared,
        },
    };
    let unit = match class {
        RefusalClass::Window(_) => {
            violation.as_ref().and_then(|violation| unit_of_id(&violation.id)).or_else(|| unit(words))
        }
        RefusalClass::TooLarge => unit(words),
        _ => None,
    };
    Some(Refusal { class, per_model, unit, retry_after: told })
}

fn of_429(words: &Words, told: Option<Duration>) -> RefusalClass {
    if words.is_coded(&["1302"]) {
        // Z.ai, measured 2026-07-26: free again in less than 5 s.
        return RefusalClass::Concurrency;
    }
    match TEXTS.iter().find(|(texts, _)| words.say(texts)) {
        Some((_, class)) => *class,
        None if told.is_some_and(|wait| wait <= AT_ONCE) => RefusalClass::Concurrency,
        None => RefusalClass::Window(None),
    }
}

fn unit(words: &Words) -> Option<Unit> {
    let said = UNITS.iter().find(|(texts, _)| words.say(texts)).map(|(_, unit)| *unit);
    // Groq and OpenAI put it into `error.type`.
    let coded = || words.is_coded(&["requests"]).then_some(Unit::Requests);
    said.or_else(coded).or_else(|| words.is_coded(&["tokens"]).then_some(Unit::Tokens))
}

/// A limit of zero: the key has no allowance here, whatever is waited for (Mistral, since 2026-09-29).
fn no_allowance(headers: &HeaderMap, words: &Words) -> bool {
    let limits = headers.iter().filter(|(name, _)| name.as_str().starts_with("x-ratelimit-limit"));
    let mut limits = limits.map(|(_, value)| value.to_str().ok().map(str::trim));
    limits.any(|value| value == Some("0"))
        || words.violations().iter().any(|violation| violation.value == Some(0))
}

/// A refusal that names no window is about the one that the headers say is used up; of several, the longest.
fn name_the_window(refusal: &mut Refusal, stated: &[Statement]) {
    if refusal.class != RefusalClass::Window(None) {
        return;
    }
    let used_up = stated.iter().filter(|statement| statement.remaining == Some(0));
    if let Some(found) = used_up.max_by_key(|statement| statement.period) {
        refusal.class = RefusalClass::Window(found.period);
        refusal.per_model = found.per_model;
        refusal.unit = Some(found.unit);
    }
}

fn is_longer_than_an_hour(violation: &Violation) -> bool {
    period_of_id(&violation.id).is_some_and(|period| period > HOUR)
}

#[cfg(test)]
mod tests;
