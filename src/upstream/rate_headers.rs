//! What the headers of an answer state about limits. Pure: headers and the time in, statements out.
//! Names and formats differ by provider, sometimes with one name for two things, so that each provider's form is a
//! row of [`FORMS`], by their documentation and by measurements (2026-11).

use std::time::{Duration, SystemTime};

use http::HeaderMap;
use http::header::RETRY_AFTER;
use serde::Deserialize;

use crate::quota::Unit::{self, InputTokens, OutputTokens, Requests, Tokens};
use crate::quota::{Period, Statement};
use Kind::{Account, Model, ModelBucket};
use RateForm::{Anthropic, Cerebras, Groq, Mistral, Openai, Openrouter};

/// No upstream may put us off for longer.
pub(super) const LONGEST: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// What is longer than any window there is, is no wait but a mistake, or another word for "never".
const ABSURD: Duration = Duration::from_secs(366 * 24 * 60 * 60);
/// Larger numbers are no limits but nonsense.
const MOST: u64 = 1 << 50;

/// How a provider writes its limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RateForm {
    /// It states none, or none that bind.
    None,
    /// `x-ratelimit-{limit,remaining,reset}-{requests,tokens}`, both by minute, as OpenAI's (refilling continuously).
    #[default]
    Openai,
    /// The same names, but requests are by day.
    Groq,
    /// By minute, hour and day.
    Cerebras,
    /// Requests by model and wall-clock minute, tokens by minute and month.
    Mistral,
    /// `anthropic-ratelimit-*`.
    Anthropic,
    /// `x-ratelimit-*` of the free models' day, or of their minute.
    Openrouter,
}

/// One limit's headers.
struct Form {
    form: RateForm,
    unit: Unit,
    period: Period,
    per_model: bool,
    refills: bool,
    amount: &'static str,
    remaining: &'static str,
    reset: &'static str,
}

const HOUR: Period = Period::Millis(3_600_000);

const fn row(
    form: RateForm,
    unit: Unit,
    period: Period,
    kind: Kind,
    [amount, remaining, reset]: [&'static str; 3],
) -> Form {
    let per_model = matches!(kind, Kind::Model | Kind::ModelBucket);
    let refills = matches!(kind, Kind::ModelBucket);
    Form { form, unit, period, per_model, refills, amount, remaining, reset }
}

#[derive(Clone, Copy)]
enum Kind {
    Account,
    Model,
    ModelBucket,
}

/// The three names of most providers.
macro_rules! ratelimit {
    ($what:literal) => {
        [
            concat!("x-ratelimit-limit-", $what),
            concat!("x-ratelimit-remaining-", $what),
            concat!("x-ratelimit-reset-", $what),
        ]
    };
}

/// Those of Anthropic.
macro_rules! anthropic {
    ($what:literal) => {
        [
            concat!("anthropic-ratelimit-", $what, "-limit"),
            concat!("anthropic-ratelimit-", $what, "-remaining"),
            concat!("anthropic-ratelimit-", $what, "-reset"),
        ]
    };
}

/// Every limit that is stated somewhere.
const FORMS: [Form; 19] = [
    row(Openai, Requests, Period::MINUTE, ModelBucket, ratelimit!("requests")),
    row(Openai, Tokens, Period::MINUTE, ModelBucket, ratelimit!("tokens")),
    row(Groq, Requests, Period::DAY, ModelBucket, ratelimit!("requests")),
    row(Groq, Tokens, Period::MINUTE, ModelBucket, ratelimit!("tokens")),
    row(Cerebras, Requests, Period::MINUTE, Model, ratelimit!("requests-minute")),
    row(Cerebras, Requests, HOUR, Model, ratelimit!("requests-hour")),
    row(Cerebras, Requests, Period::DAY, Model, ratelimit!("requests-day")),
    row(Cerebras, Tokens, Period::MINUTE, Model, ratelimit!("tokens-minute")),
    row(Cerebras, Tokens, HOUR, Model, ratelimit!("tokens-hour")),
    row(Cerebras, Tokens, Period::DAY, Model, ratelimit!("tokens-day")),
    row(
        Mistral,
        Requests,
        Period::MINUTE,
        Model,
        ["x-ratelimit-limit-req-minute", "x-ratelimit-remaining-req-minute", ""],
    ),
    row(
        Mistral,
        Tokens,
        Period::MINUTE,
        Account,
        ["x-ratelimit-limit-tokens-minute", "x-ratelimit-remaining-tokens-minute", ""],
    ),
    row(
        Mistral,
        Tokens,
        Period::Month,
        Account,
        ["x-ratelimit-limit-tokens-month", "x-ratelimit-remaining-tokens-month", ""],
    ),
    row(Anthropic, Requests, Period::MINUTE, ModelBucket, anthropic!("requests")),
    row(Anthropic, Tokens, Period::MINUTE, ModelBucket, anthropic!("tokens")),
    row(Anthropic, InputTokens, Period::MINUTE, ModelBucket, anthropic!("input-tokens")),
    row(Anthropic, OutputTokens, Period::MINUTE, ModelBucket, anthropic!("output-tokens")),
    // Or the minute: see `of_openrouter`. All free models share both, as the catalogue knows; where the user
    // replaced its limits, nothing is drawn for the models that are paid for.
    row(
        Openrouter,
        Requests,
        Period::DAY,
        Model,
        ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"],
    ),
    row(Openai, Requests, Period::DAY, Model, ratelimit!("requests-day")),
];

/// What these headers state. What cannot be read is left out; a limit without an amount and without a remainder is
/// none; a negative number means nothing.
pub fn statements(headers: &HeaderMap, form: RateForm, now: SystemTime) -> Vec<Statement> {
    let text =
        |name: &str| if name.is_empty() { None } else { headers.get(name)?.to_str().ok().map(str::trim) };
    let rows = FORMS.iter().filter(|row| row.form == form);
    rows.filter_map(|row| {
        let amount = text(row.amount).and_then(count);
        let remaining = text(row.remaining).and_then(count);
        if amount.is_none() && remaining.is_none() {
            return None;
        }
        let resets_in = text(row.reset).and_then(|value| wait(value, now));
        let period = match form {
            RateForm::Openrouter => of_openrouter(amount, resets_in, now),
            _ => Some(row.period),
        };
        Some(Statement {
            unit: row.unit,
            period,
            per_model: row.per_model,
            amount,
            remaining,
            resets_in,
            refills: row.refills,
        })
    })
    .collect()
}

/// Which of OpenRouter's two windows one trio of headers is about: 20 requests a minute, or 50 (1000) a day that ends at
/// 00:00 UTC (openrouter.ai/docs/api_reference/limits, 2026-10-17). A reset further away than a minute is the day's;
/// a near one is the minute's, unless the day is about to end and the amount is more than a minute's.
fn of_openrouter(amount: Option<u64>, resets_in: Option<Duration>, now: SystemTime) -> Option<Period> {
    const MOST_A_MINUTE: u64 = 20;
    const DAY_SECONDS: u64 = 86_400;
    /// Clocks differ.
    const SLACK: Duration = Duration::from_secs(5);
    let is_large = amount.map(|amount| amount > MOST_A_MINUTE);
    // A moment that is past tells nothing.
    let Some(resets_in) = resets_in.filter(|wait| !wait.is_zero()) else {
        return is_large.map(|large| if large { Period::DAY } else { Period::MINUTE });
    };
    if resets_in > Duration::from_secs(60) + SLACK {
        return Some(Period::DAY);
    }
    let of_day = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs() % DAY_SECONDS;
    let to_midnight = Duration::from_secs(DAY_SECONDS - of_day);
    let at_midnight = resets_in.abs_diff(to_midnight) <= SLACK;
    Some(if at_midnight && is_large == Some(true) { Period::DAY } else { Period::MINUTE })
}

fn count(text: &str) -> Option<u64> {
    let whole = text.split('.').next()?;
    whole.parse::<u64>().ok().filter(|number| *number <= MOST)
}

/// How long from now, in any of the forms there are: a Go duration (`2m59.56s`, `825ms`), seconds (`57`, `11726.28`),
/// seconds or milliseconds since the epoch (by their size), RFC 3339, an HTTP date. A moment that is past is zero,
/// nothing is longer than 30 days, and what is none of these, or more than a year away, is `None`.
pub fn wait(text: &str, now: SystemTime) -> Option<Duration> {
    let text = text.trim();
    if let Some(number) = decimal(text) {
        return number_of(number, now);
    }
    let found = go_duration(text).or_else(|| {
        let moment = text
            .parse::<jiff::Timestamp>()
            .ok()
            .and_then(|stamp| SystemTime::try_from(stamp).ok())
            .or_else(|| httpdate::parse_http_date(text).ok())?;
        Some(moment.duration_since(now).unwrap_or(Duration::ZERO))
    })?;
    bounded(found)
}

fn bounded(wait: Duration) -> Option<Duration> {
    (wait <= ABSURD).then(|| wait.min(LONGEST))
}

/// When the upstream says that a retry makes sense: `retry-after-ms`, else `Retry-After` in any form of [`wait`].
pub fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let milliseconds = text("retry-after-ms").and_then(decimal);
    match milliseconds {
        Some(number) => number_of(number / 1000.0, now),
        None => wait(text(RETRY_AFTER.as_str())?, now),
    }
}

/// A plain number: without sign and exponent, and no word such as `inf`.
fn decimal(text: &str) -> Option<f64> {
    let text = text.trim();
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    text.parse().ok().filter(|number: &f64| is_plain && number.is_finite())
}

/// Seconds from now, or seconds or milliseconds since the epoch, by the size of the number.
fn number_of(number: f64, now: SystemTime) -> Option<Duration> {
    let since_epoch = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let seconds = if number < 1e9 {
        number
    } else if number < 1e11 {
        number - since_epoch
    } else {
        number / 1000.0 - since_epoch
    };
    Duration::try_from_secs_f64(seconds.max(0.0)).ok().and_then(bounded)
}

/// A duration as Go prints it: numbers, each with a unit.
fn go_duration(text: &str) -> Option<Duration> {
    let units =
        [("ms", 0.001), ("us", 1e-6), ("µs", 1e-6), ("ns", 1e-9), ("h", 3600.0), ("m", 60.0), ("s", 1.0)];
    let (mut rest, mut seconds) = (text, 0.0);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at_checked(end)?;
        let number = number.parse::<f64>().ok()?;
        let (unit, scale) = units.iter().find(|(unit, _)| tail.starts_with(unit))?;
        seconds += number * scale;
        rest = tail.strip_prefix(unit)?;
    }
    (!text.is_empty()).then(|| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
}

#[cfg(test)]
mod tests;
