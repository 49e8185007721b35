//! How a provider tells of its limits: the headers of a success, the status, headers and body of a refusal, filled with
//! how the true limits stand. Forms and sources are those of `limits.rs` and of the fakes. Pure.

use std::borrow::Cow;

use super::super::limits;
use super::super::recorded::{FIREWORKS_LIMIT, MISTRAL_LIMIT};
use super::super::script::{Answer, Script, Step};
use super::{Refused, Standing, TrueLimit, Unit, Window};

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;

/// Whose manner it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Limits and remainders of the minute and the month, no reset; nothing in a stream, no wait in a refusal.
    Mistral,
    /// Requests are by day, tokens by minute.
    Groq,
    /// Requests and tokens by minute.
    Openai,
    /// Limits that do not bind; its refusals say all.
    Github,
    /// Everything, but not in a refusal.
    Cerebras,
    /// Nothing but in a refusal.
    Openrouter,
    /// Nothing but the body of a refusal.
    Gemini,
    /// Nothing at all.
    Nvidia,
    /// Nothing but words.
    OllamaCloud,
    /// Requests and tokens, and words that say nothing.
    Fireworks,
}

/// How much of it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frankness {
    /// All that the real one tells.
    Real,
    /// No headers; bodies as they are.
    Bodies,
    /// Nothing but that it is a refusal.
    Nothing,
}

/// The headers about limits of a good answer, streamed or not.
pub fn success(
    form: Form,
    frankness: Frankness,
    standings: &[Standing],
    streamed: bool,
) -> Vec<(String, String)> {
    if frankness != Frankness::Real {
        return Vec::new();
    }
    let find = |unit: Unit, length: i64| {
        standings
            .iter()
            .find(|standing| standing.limit.unit == unit && standing.limit.window.length() == length)
    };
    let mut headers = Vec::new();
    match form {
        Form::Mistral if streamed => {}
        Form::Mistral => {
            let windows = [
                ("req-minute", find(Unit::Requests, MINUTE)),
                ("tokens-minute", find(Unit::Tokens, MINUTE)),
                ("tokens-month", find(Unit::Tokens, 30 * 24 * HOUR)),
            ];
            for (name, standing) in windows {
                amounts(&mut headers, name, standing);
            }
        }
        Form::Groq | Form::Openai => {
            let length = if form == Form::Groq { 24 * HOUR } else { MINUTE };
            let windows =
                [("requests", find(Unit::Requests, length)), ("tokens", find(Unit::Tokens, MINUTE))];
            for (name, standing) in windows {
                amounts(&mut headers, name, standing);
                let reset = standing.map(|standing| go_duration(standing.whole_in));
                headers.extend(reset.map(|reset| (format!("x-ratelimit-reset-{name}"), reset)));
            }
        }
        Form::Cerebras => {
            for unit in [Unit::Requests, Unit::Tokens] {
                for (word, length) in [("minute", MINUTE), ("hour", HOUR), ("day", 24 * HOUR)] {
                    let name = if unit == Unit::Requests { "requests" } else { "tokens" };
                    let name = format!("{name}-{word}");
                    let standing = find(unit, length);
                    amounts(&mut headers, &name, standing);
                    let reset = standing.map(|standing| seconds(standing.whole_in).to_string());
                    headers.extend(reset.map(|reset| (format!("x-ratelimit-reset-{name}"), reset)));
                }
            }
        }
        Form::Github => {
            for (name, value) in [
                ("x-ratelimit-limit-requests", "20000"),
                ("x-ratelimit-remaining-requests", "19999"),
                ("x-ratelimit-renewalperiod-requests", "60"),
                ("x-ratelimit-limit-tokens", "2000000"),
                ("x-ratelimit-remaining-tokens", "1999985"),
            ] {
                headers.push((name.to_owned(), value.to_owned()));
            }
        }
        Form::Fireworks => amounts(&mut headers, "requests", find(Unit::Requests, MINUTE)),
        Form::Openrouter | Form::Gemini | Form::Nvidia | Form::OllamaCloud => {}
    }
    headers
}

/// The whole answer of a refusal at that moment.
pub fn refusal(
    form: Form,
    frankness: Frankness,
    refused: &Refused,
    standings: &[Standing],
    now: i64,
) -> Script {
    let told = told(form, refused, standings, now);
    match frankness {
        Frankness::Real => told,
        Frankness::Bodies => with_headers(told, &[]),
        Frankness::Nothing => limits::others::nvidia(),
    }
}

fn told(form: Form, refused: &Refused, standings: &[Standing], now: i64) -> Script {
    let Standing { limit, used, .. } = &refused.standing;
    let wait = refused.frees_at.map_or(0, |at| at.saturating_sub(now).max(0));
    let whole_seconds = wait.unsigned_abs().div_ceil(1000);
    let window = word(limit);
    match form {
        Form::Mistral => {
            let mut headers = Vec::new();
            let requests = standings.iter().find(|standing| standing.limit.unit == Unit::Requests);
            amounts(&mut headers, "req-minute", requests);
            with_headers(MISTRAL_LIMIT.script(), &headers)
        }
        Form::Groq => {
            let (kind, name) = if limit.unit.is_tokens() { ("tokens", 'T') } else { ("requests", 'R') };
            let letter = window.chars().next().unwrap_or('m').to_ascii_uppercase();
            let (most, n) = (limit.amount, refused.requested);
            let name = format!("{kind} per {window} ({name}P{letter}): Limit {most}");
            if refused.never {
                return limits::groq::too_large(&format!("{name}, Requested {n}"));
            }
            let again = go_duration(wait);
            let what = format!("{name}, Used {used}, Requested {n}. Please try again in {again}");
            let mut headers = success(form, Frankness::Real, standings, false);
            headers.push(("retry-after".to_owned(), whole_seconds.to_string()));
            with_headers(limits::groq::limit(whole_seconds, &what, kind), &headers)
        }
        Form::Openai => {
            let (kind, letter) = if limit.unit.is_tokens() { ("tokens", 'T') } else { ("requests", 'R') };
            let per =
                if window == "minute" { format!("min ({letter}PM)") } else { format!("day ({letter}PD)") };
            let what = format!(
                "{kind} per {per}: Limit {}, Used {used}, Requested {}",
                limit.amount, refused.requested
            );
            let mut headers = success(form, Frankness::Real, standings, false);
            headers.push(("retry-after".to_owned(), whole_seconds.to_string()));
            headers.push(("retry-after-ms".to_owned(), wait.to_string()));
            with_headers(limits::openai::limit(&what, kind, seconds(wait)), &headers)
        }
        Form::Github => {
            let length = limit.window.length() / 1000;
            let (kind, rate) = match limit.unit {
                Unit::Concurrent => ("UserConcurrentRequests", format!("{} per 0s", limit.amount)),
                _ if length > 60 => ("UserByModelByDay", format!("{} per {length}s", limit.amount)),
                _ => ("UserByMinute", format!("{} per {length}s", limit.amount)),
            };
            if refused.never {
                return too_large(limit, refused.requested);
            }
            limits::github::limit(kind, &rate, whole_seconds)
        }
        Form::Cerebras => {
            let wait = if window == "minute" { 60 } else { whole_seconds };
            match limit.unit {
                Unit::Concurrent => limits::cerebras::queue_exceeded(),
                unit if unit.is_tokens() => limits::cerebras::tokens(window, wait),
                _ => limits::cerebras::requests(window, wait),
            }
        }
        Form::Openrouter => {
            let reset = refused.frees_at.unwrap_or(now);
            match window {
                "minute" => limits::openrouter::per_minute(limit.amount, reset),
                _ => limits::openrouter::per_day(limit.amount, reset),
            }
        }
        Form::Gemini => {
            let what = if limit.unit.is_tokens() { "InputTokens" } else { "Requests" };
            let (per, delay) = match window {
                "minute" => ("Minute", format!("{}s", seconds(wait))),
                // However long the day still is.
                _ => ("Day", "38.2s".to_owned()),
            };
            let id = format!("Generate{what}Per{per}PerProjectPerModel-FreeTier");
            limits::gemini::quota(&id, &limit.amount.to_string(), &delay)
        }
        Form::Nvidia => limits::others::nvidia(),
        Form::OllamaCloud => match window {
            _ if limit.unit == Unit::Concurrent => limits::ollama_cloud::too_many_at_once(),
            "hour" => limits::ollama_cloud::hourly_limit(),
            "week" => limits::ollama_cloud::weekly_limit(),
            _ => limits::ollama_cloud::session_limit(),
        },
        Form::Fireworks => {
            let headers = success(form, Frankness::Real, standings, false);
            with_headers(FIREWORKS_LIMIT.script(), &headers)
        }
    }
}

/// GitHub's answer to a prompt above its ceiling (recalled).
fn too_large(limit: &TrueLimit, requested: u64) -> Script {
    let message = format!(
        "Request body too large for gpt-4.1 model. Max size: {} tokens, requested {requested}.",
        limit.amount
    );
    Answer::json(413).value(&serde_json::json!({"error": {"code": "tokens_limit_reached",
        "message": message, "details": message}}))
}

/// The answer with these headers about limits in place of its own.
pub(in super::super) fn with_headers(script: Script, headers: &[(String, String)]) -> Script {
    let mut edited = Script::new();
    let mut first = true;
    for step in script.steps() {
        let step = match step {
            Step::Write(bytes) if first => {
                first = false;
                Step::Write(edit_head(bytes, headers).into())
            }
            other => other.clone(),
        };
        edited = edited.step(step);
    }
    edited
}

fn edit_head(bytes: &[u8], headers: &[(String, String)]) -> Vec<u8> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap_or(bytes.len());
    let (head, rest) = bytes.split_at(end);
    let head = String::from_utf8_lossy(head);
    let about_limits = |line: &str| {
        let line = line.to_ascii_lowercase();
        line.starts_with("x-ratelimit")
            || line.starts_with("retry-after")
            || line.starts_with("x-should-retry")
    };
    let kept = head.split("\r\n").filter(|line| !about_limits(line)).map(Cow::Borrowed);
    let added = headers.iter().map(|(name, value)| Cow::Owned(format!("{name}: {value}")));
    let lines: Vec<Cow<'_, str>> = kept.chain(added).collect();
    let mut edited = lines.join("\r\n").into_bytes();
    edited.extend_from_slice(rest);
    edited
}

fn amounts(headers: &mut Vec<(String, String)>, name: &str, standing: Option<&Standing>) {
    if let Some(standing) = standing {
        let left = standing.limit.amount.saturating_sub(standing.used);
        headers.push((format!("x-ratelimit-limit-{name}"), standing.limit.amount.to_string()));
        headers.push((format!("x-ratelimit-remaining-{name}"), left.to_string()));
    }
}

/// The word for a limit's window.
fn word(limit: &TrueLimit) -> &'static str {
    const DAY: i64 = 24 * HOUR;
    match &limit.window {
        Window::Month(_) => "month",
        window => match window.length() {
            length if length <= MINUTE => "minute",
            length if length <= HOUR => "hour",
            length if length < DAY => "session",
            DAY => "day",
            length if length <= 7 * DAY => "week",
            _ => "month",
        },
    }
}

/// As Go prints it: `2m59.56s`, `825ms`.
fn go_duration(milliseconds: i64) -> String {
    if milliseconds < 1000 {
        return format!("{milliseconds}ms");
    }
    let (hours, minutes) = (milliseconds / HOUR, milliseconds % HOUR / MINUTE);
    let rest = seconds(milliseconds % MINUTE);
    match (hours, minutes) {
        (0, 0) => format!("{rest}s"),
        (0, _) => format!("{minutes}m{rest}s"),
        _ => format!("{hours}h{minutes}m{rest}s"),
    }
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52 milliseconds")]
fn seconds(milliseconds: i64) -> f64 {
    milliseconds as f64 / 1000.0
}
