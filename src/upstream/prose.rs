//! What a refusal says in numbers, in prose or beside it: the limit, what is used of it, how long to wait. Pure.
//! Each form names who writes it, as of 2026-11; `demo/limits.rs` has whole answers and their sources.

use std::time::{Duration, SystemTime};

use super::rate_headers::{LONGEST, wait};
use super::refusal::{Violation, Words};
use crate::quota::{Period, Statement, Unit};

/// What stands in parentheses behind a limit's name (Groq, OpenAI).
const DIMENSIONS: [(&str, Unit, Period); 4] = [
    ("(rpm)", Unit::Requests, Period::MINUTE),
    ("(rpd)", Unit::Requests, Period::DAY),
    ("(tpm)", Unit::Tokens, Period::MINUTE),
    ("(tpd)", Unit::Tokens, Period::DAY),
];

/// A wait is given in whole seconds, and may be rounded up to a few.
const ROUNDED: Duration = Duration::from_secs(5);

/// The limits that the words of a refusal state. `told` is the wait that it asks for.
pub(super) fn statements(words: &Words, told: Option<Duration>) -> Vec<Statement> {
    let text = words.text();
    let violated = words.violations();
    let in_words = [of_dimension(text, told), of_api_calls(text), of_rate(text, told)];
    in_words.into_iter().flatten().chain(violated.iter().filter_map(of_violation)).collect()
}

/// Groq and OpenAI: "requests per minute (RPM): Limit 30, Used 30, Requested 1". Both refill continuously; of others with
/// the same words the wait shows whether theirs do.
fn of_dimension(text: &str, told: Option<Duration>) -> Option<Statement> {
    let (dimension, unit, period) = DIMENSIONS.iter().find(|(word, _, _)| text.contains(word))?;
    let (_, numbers) = text.split_once(dimension)?;
    let amount = number_after(numbers, "limit ")?;
    let used = number_after(numbers, "used ");
    let missing = used.zip(number_after(numbers, "requested "));
    let missing = missing.map(|(used, requested)| used.saturating_add(requested).saturating_sub(amount));
    let gives = |missing: u64| time_to_refill(*period, amount, missing);
    let longest = missing.and_then(gives).map(|time| time.saturating_mul(2) + ROUNDED);
    Some(Statement {
        unit: *unit,
        period: Some(*period),
        per_model: true,
        amount: Some(amount),
        remaining: used.map(|used| amount.saturating_sub(used)),
        resets_in: None,
        refills: told.zip(longest).is_none_or(|(told, longest)| told <= longest),
    })
}

/// How long what refills continuously takes to give so much.
fn time_to_refill(period: Period, amount: u64, missing: u64) -> Option<Duration> {
    let Period::Millis(length) = period else { return None };
    let millis = u128::from(length) * u128::from(missing) / u128::from(amount.max(1));
    u64::try_from(millis).ok().map(Duration::from_millis)
}

/// Cohere: "a Trial key, which is limited to 20 API calls / minute". The key's, whatever the model.
fn of_api_calls(text: &str) -> Option<Statement> {
    const BEFORE: &str = "limited to ";
    let amount = number_after(text, BEFORE)?;
    let (_, rest) = text.split_once(BEFORE)?;
    let (what, per) = rest.split_once('/')?;
    if !what.trim_end().ends_with("api calls") {
        return None;
    }
    let word: String = per.trim_start().chars().take_while(char::is_ascii_alphabetic).collect();
    let period = Period::read(&word).filter(|period| *period != Period::Request)?;
    Some(Statement {
        unit: Unit::Requests,
        period: Some(period),
        per_model: false,
        amount: Some(amount),
        remaining: None,
        resets_in: None,
        refills: false,
    })
}

/// GitHub: "Rate limit of 50 per 86400s exceeded for UserByModelByDay. Please wait 5631 seconds before retrying."
/// `per 0s` is about those in flight.
fn of_rate(text: &str, told: Option<Duration>) -> Option<Statement> {
    const BEFORE: &str = "rate limit of ";
    let amount = number_after(text, BEFORE)?;
    let (_, rest) = text.split_once(BEFORE)?;
    let seconds = number_after(rest, " per ")?;
    let (_, name) = rest.split_once("s exceeded for ")?;
    let per_model = name.starts_with("userbymodel");
    if seconds == 0 {
        return Some(Statement {
            unit: Unit::Concurrent,
            // It has none; this is how one without is written.
            period: Some(Period::MINUTE),
            per_model,
            amount: Some(amount),
            remaining: None,
            resets_in: None,
            refills: false,
        });
    }
    Some(Statement {
        unit: if name.contains("token") { Unit::Tokens } else { Unit::Requests },
        period: Some(Period::Millis(seconds.checked_mul(1000)?)),
        per_model,
        amount: Some(amount),
        remaining: Some(0),
        resets_in: told,
        refills: false,
    })
}

/// Gemini: the quota's id says what it counts, its value how many. When it is free again is not said.
fn of_violation(violation: &Violation) -> Option<Statement> {
    Some(Statement {
        unit: unit_of_id(&violation.id)?,
        period: Some(period_of_id(&violation.id)?),
        per_model: violation.id.contains("permodel"),
        amount: Some(violation.value?),
        remaining: None,
        resets_in: None,
        refills: false,
    })
}

/// What a quota of this id counts: `GenerateRequestsPerDay…`, `GenerateContentInputTokensPerModelPerMinute…`.
pub(super) fn unit_of_id(id: &str) -> Option<Unit> {
    const UNITS: [(&str, Unit); 4] = [
        ("inputtoken", Unit::InputTokens),
        ("outputtoken", Unit::OutputTokens),
        ("token", Unit::Tokens),
        ("request", Unit::Requests),
    ];
    UNITS.iter().find(|(word, _)| id.contains(word)).map(|(_, unit)| *unit)
}

/// The window of a quota of this id.
pub(super) fn period_of_id(id: &str) -> Option<Period> {
    const PERIODS: [(&str, Period); 3] =
        [("perday", Period::DAY), ("perhour", Period::Millis(3_600_000)), ("perminute", Period::MINUTE)];
    PERIODS.iter().find(|(word, _)| id.contains(word)).map(|(_, period)| *period)
}

/// The wait that a text asks for: "Please try again in 7.66s", "Please wait 52220 seconds before retrying", "Retry after
/// 1 seconds", "try again in 2 minutes", Gemini's `retryDelay`. The text is in lower case.
pub(super) fn wait_told(text: &str, now: SystemTime) -> Option<Duration> {
    const BEFORE: [&str; 5] = ["try again in ", "please wait ", "retry after ", "retry in ", "retrydelay "];
    const UNITS: [(&str, u32); 3] = [("minute", 60), ("hour", 3600), ("day", 86_400)];
    let told = BEFORE.iter().find_map(|before| {
        let (_, rest) = text.split_once(before)?;
        let mut rest = rest.split_whitespace().map(|word| word.trim_end_matches(['.', ',', ';', ')']));
        let (first, unit) = (rest.next()?, rest.next().unwrap_or(""));
        let told = wait(first, now)?;
        if !first.ends_with(|last: char| last.is_ascii_digit()) {
            return Some(told);
        }
        if unit.starts_with("ms") || unit.starts_with("millisecond") {
            return Some(told / 1000);
        }
        let scale = UNITS.iter().find(|(word, _)| unit.starts_with(word)).map_or(1, |(_, scale)| *scale);
        Some(told.saturating_mul(scale).min(LONGEST))
    });
    told.or_else(|| access_regained(text, now))
}

/// Anthropic: "You will regain access on 2026-12-01 at 00:00 UTC."
fn access_regained(text: &str, now: SystemTime) -> Option<Duration> {
    let (_, rest) = text.split_once("regain access on ")?;
    let (day, rest) = rest.split_once(" at ")?;
    let (time, _) = rest.split_once(" utc")?;
    (day.len() == 10 && time.len() == 5).then(|| wait(&format!("{day}T{time}:00Z"), now))?
}

/// The whole number right behind the first of these words; commas between thousands are read over.
fn number_after(text: &str, before: &str) -> Option<u64> {
    let (_, rest) = text.split_once(before)?;
    let is_part = |c: &char| c.is_ascii_digit() || *c == ',';
    let digits: String = rest.chars().take_while(is_part).filter(char::is_ascii_digit).collect();
    digits.parse().ok().filter(|number| *number < 1 << 50)
}

#[cfg(test)]
mod tests;
