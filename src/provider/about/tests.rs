//! Every answer that speaks of a limit or of overload (`demo/limits.rs`), as the provider that sends it is read: one table,
//! each row with the fact behind it (2026-11).

use std::time::Duration;

use serde_json::json;

use super::*;
use crate::config::secret::Secret;
use crate::config::settings::Timeouts;
use crate::demo::Script;
use crate::demo::limits::{
    cerebras, codestral, fireworks, gemini, github, groq, mistral, ollama, ollama_cloud, openai, openrouter,
    others,
};
use crate::dialect::{Rewrite, Shape, Step, StreamRewriter, rewrite_plain};
use crate::error::Fault;
use crate::provider::registry::Registry;
use crate::quota::{Period, RefusalClass, Unit};
use RefusalClass::{Concurrency, ModelGone, NoAllowance, Overloaded, Payment, TooLarge, Window};
use Unit::{Requests, Tokens};

const MINUTE: RefusalClass = Window(Some(Period::MINUTE));
const HOUR: RefusalClass = Window(Some(Period::Millis(3_600_000)));
const FIVE_HOURS: RefusalClass = Window(Some(Period::Millis(18_000_000)));
const DAY: RefusalClass = Window(Some(Period::DAY));

fn about(kind: &str) -> About {
    let second = Duration::from_secs(1);
    let config = ProviderConfig {
        id: "p".to_owned(),
        kind: kind.to_owned(),
        name: None,
        description: None,
        url: "http://localhost:1".to_owned(),
        api_key: Some(Secret::new("a key".to_owned())),
        headers: Vec::new(),
        include_models: None,
        exclude_models: None,
        hidden: None,
        list_aliases: true,
        cache: second,
        timeouts: Timeouts {
            connect: second,
            first_token: second,
            idle: second,
            total_stream: None,
            total_plain: second,
        },
        max_in_flight: None,
        max_wait: second,
        max_queue: 1,
        models: Vec::new(),
        ca_file: None,
        replicas: 1,
        limits: None,
        local: false,
    };
    let kind = Registry::builtin().kind(kind).unwrap();
    About::new(config, &kind, Arc::new(Metrics::new().unwrap())).unwrap()
}

/// The status, the headers and the body of an answer on the wire.
fn parsed(script: &Script) -> (u16, HeaderMap, Bytes) {
    let wire = String::from_utf8(script.wire().to_vec()).unwrap();
    let (head, body) = wire.split_once("\r\n\r\n").unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers: HeaderMap = lines
        .map(|line| line.split_once(": ").unwrap())
        .map(|(name, value)| (HeaderName::try_from(name).unwrap(), HeaderValue::from_str(value).unwrap()))
        .collect();
    if !headers.contains_key("transfer-encoding") {
        return (status, headers, Bytes::from(body.to_owned()));
    }
    let chunks: String = body
        .lines()
        .filter(|line| line.starts_with("data:") || line.is_empty())
        .fold(String::new(), |text, line| text + line + "\n");
    (status, headers, Bytes::from(chunks))
}

/// What the provider of this kind is taken to say; `None`: no error at all.
fn said(kind: &str, script: &Script) -> Option<ProxyError> {
    let about = about(kind);
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_348_800);
    let (status, headers, body) = parsed(script);
    if !(200..300).contains(&status) {
        return Some(about.refusal(status, &headers, &body, now));
    }
    let plan = Rewrite::new("p", Shape::Chat);
    if !headers.contains_key("transfer-encoding") {
        return rewrite_plain(&body, &plan).err().map(|error| about.inside(error, now));
    }
    let mut stream = StreamRewriter::new(plan);
    stream.push(body);
    stream.finish();
    std::iter::from_fn(|| stream.next_step()).find_map(|step| match step {
        Step::Failed(error) => Some(about.inside(error, now)),
        _ => None,
    })
}

/// Class, unit, whether it is for the model alone, the wait that is asked for in seconds.
type Expected = Option<(RefusalClass, Option<Unit>, bool, Option<f64>)>;

/// What sends it, the answer, what it must be taken for, and why.
type Row = (&'static str, &'static str, Script, Expected, &'static str);

macro_rules! rows {
    ($($kind:literal $($name:ident)::+ ($($argument:expr)?) => $expected:expr, $fact:literal;)*) => {
        [$(($kind, stringify!($($name)::+), $($name)::+($($argument)?), $expected, $fact)),*]
    };
}

fn table() -> Vec<Row> {
    let (model, account) = (true, false);
    let good = json!({"choices": [{"index": 0, "message": {"content": "x"}, "finish_reason": "stop"}]});
    Vec::from(rows! {
        "mistral" mistral::rate_limited() => Some((MINUTE, Some(Requests), model, None)),
            "limit and remaining=0, never Retry-After; per model, wall-clock minute";
        "mistral" mistral::no_allowance() => Some((NoAllowance, None, model, None)),
            "limit = 0: bench the model, never retry";
        "mistral" mistral::capacity_exceeded() => Some((Overloaded, None, model, None)),
            "model overloaded: fail over, short bench";
        "mistral" mistral::rate_limited_2025() => Some((Window(None), Some(Requests), model, None)),
            "older body: requests are named, the window is not";
        "mistral" mistral::payment_required() => Some((Payment, None, account, None)),
            "402: balance, spend limit or monthly included usage";
        "codestral" codestral::rate_limited() => Some((Window(None), None, model, None)),
            "as Mistral; limit headers were never observed; per model";
        "ollama" ollama::busy_503() => None,
            "the queue of one's own server is full: no quota";
        "ollama-cloud" ollama_cloud::session_limit() => Some((FIVE_HOURS, None, account, None)),
            "five-hour window, metered in GPU time; per account";
        "ollama-cloud" ollama_cloud::hourly_limit() => Some((HOUR, None, account, None)),
            "429 of 2025-12";
        "ollama-cloud" ollama_cloud::weekly_limit() => Some((Window(Some(Period::Millis(7 * 86_400_000))), None, account, None)),
            "weekly window beside the five-hour one";
        "ollama-cloud" ollama_cloud::too_many_at_once() => Some((Concurrency, None, account, None)),
            "a plan bounds the requests at one time";
        "ollama-cloud" ollama_cloud::subscription_required() => Some((NoAllowance, None, model, None)),
            "403 on one model: bench that model";
        "github" github::user_by_model_by_day() => Some((DAY, Some(Requests), model, Some(5631.0))),
            "per 86400s, UserByModelByDay; retry-after is hours";
        "github" github::user_by_minute() => Some((MINUTE, Some(Requests), account, Some(55.0))),
            "per-minute user cap";
        "github" github::concurrent() => Some((Concurrency, None, account, Some(0.0))),
            "UserConcurrentRequests; 0 = retry now";
        "fireworks" fireworks::rate_limited() => Some((Window(None), None, account, None)),
            "over the adaptive limit; RPM per account";
        "fireworks" fireworks::overloaded_503() => None,
            "load shed even within limits: sickness";
        "fireworks" fireworks::over_limit_200(&good) => None,
            "a good answer at low priority";
        "fireworks" fireworks::suspended_412() => Some((Payment, None, account, None)),
            "412 suspended or unpaid";
        "openai" openai::rate_limited() => Some((MINUTE, Some(Requests), model, Some(19.992))),
            "retry-after-ms before retry-after";
        "openai" openai::insufficient_quota() => Some((Payment, None, account, None)),
            "429 + insufficient_quota: out of money";
        "groq" groq::requests_per_minute() => Some((MINUTE, Some(Requests), model, Some(2.0))),
            "the dimension in parentheses; per model";
        "groq" groq::tokens_per_day() => Some((DAY, Some(Tokens), model, Some(1060.0))),
            "TPD";
        "groq" groq::too_large_413() => Some((TooLarge, Some(Tokens), model, Some(8.0))),
            "larger than the whole bucket: never retry there, though retry-after is present";
        "cerebras" cerebras::token_quota() => Some((MINUTE, Some(Tokens), model, Some(57.0))),
            "token_quota_exceeded";
        "cerebras" cerebras::request_quota() => Some((MINUTE, Some(Requests), model, Some(60.0))),
            "request_quota_exceeded";
        "cerebras" cerebras::queue_exceeded() => Some((Concurrency, None, account, None)),
            "the most retryable error, whatever x-should-retry says";
        "openrouter" openrouter::free_models_per_day() => Some((DAY, Some(Requests), model, None)),
            "the day of all free models, which the statement says; the paid ones go on";
        "openrouter" openrouter::upstream_limited() => Some((Overloaded, None, model, None)),
            "error.metadata.raw: somebody behind it is limited";
        "openrouter" openrouter::error_in_200() => None,
            "200 with an error in the body: 502 is sickness";
        "openrouter" openrouter::error_in_stream() => None,
            "an error as a data event after 200";
        "gemini" gemini::per_day() => Some((DAY, Some(Requests), model, None)),
            "trust quotaId; the short retryDelay of a daily violation is not the truth";
        "gemini" gemini::per_minute() => Some((MINUTE, Some(Requests), model, Some(12.0))),
            "quotaId, and RetryInfo.retryDelay";
        "gemini" gemini::bad_key_400() => None,
            "a bad key is a 400";
        "nvidia" others::nvidia() => Some((Window(None), None, account, None)),
            "no headers, no code; 40 RPM per account";
        "zai" others::zai() => Some((Concurrency, None, account, None)),
            "1302 is a concurrency cap";
        "cohere" others::cohere() => Some((MINUTE, Some(Requests), account, None)),
            "20 API calls / minute of the trial key";
        "cloudflare" others::cloudflare() => Some((DAY, None, account, Some(43_200.0))),
            "neurons of the day; they cannot be counted here";
        "huggingface" others::huggingface() => Some((Payment, None, account, None)),
            "exhaustion is a 402";
    })
}

#[test]
fn no_limit_is_taken_for_another_one() {
    for (kind, name, script, expected, fact) in table() {
        let refusal = said(kind, &script).and_then(|error| error.refusal);
        let found = refusal.map(|refusal| {
            let wait = refusal.retry_after.map(|wait| wait.as_secs_f64());
            (refusal.class, refusal.unit, refusal.per_model, wait)
        });
        assert_eq!(found, expected, "{name}: {fact}");
    }
}

#[test]
fn no_limit_is_missing_in_the_table() {
    let source = include_str!("../../demo/limits.rs");
    let (rows, mut module, mut count) = (table(), "", 0);
    for line in source.lines() {
        if let Some(rest) = line.strip_prefix("pub mod ") {
            module = rest.trim_end_matches(" {");
        }
        if let Some(rest) = line.strip_prefix("    pub fn ") {
            let name = format!("{module}::{}", rest.split('(').next().unwrap());
            assert!(rows.iter().any(|row| row.1.replace(' ', "") == name), "{name}");
            count += 1;
        }
    }
    assert_eq!(count, rows.len());
}

#[test]
fn no_limit_counts_against_the_upstream_and_none_keeps_a_request_from_going_elsewhere() {
    for (kind, name, script, expected, _) in table() {
        let Some(error) = said(kind, &script) else { continue };
        assert!(error.retry != crate::error::Retry::No, "{name}");
        if let Some((class, ..)) = expected {
            assert!(!error.counts_against_upstream(), "{name}");
            let is_ours = matches!(class, TooLarge | ModelGone);
            assert!(is_ours || error.fault == Fault::Upstream, "{name}");
        }
    }
}

#[test]
fn what_a_refusal_states_is_not_lost() {
    let stated = |kind: &str, script: Script| {
        let statements = said(kind, &script).map(|error| error.statements).unwrap_or_default();
        let brief = statements.iter().map(|one| (one.unit, one.period, one.amount, one.remaining));
        brief.collect::<Vec<_>>()
    };
    let (minute, day) = (Some(Period::MINUTE), Some(Period::DAY));
    assert_eq!(
        stated("groq", groq::requests_per_minute()),
        [
            (Requests, day, Some(1000), Some(999)),
            (Tokens, minute, Some(8000), Some(7890)),
            (Requests, minute, Some(30), Some(0)),
        ]
    );
    assert_eq!(stated("groq", groq::tokens_per_day())[2], (Tokens, day, Some(200_000), Some(877)));
    assert_eq!(stated("cohere", others::cohere()), [(Requests, minute, Some(20), None)]);
    assert_eq!(stated("github", github::user_by_model_by_day()), [(Requests, day, Some(50), Some(0))]);
    assert_eq!(stated("gemini", gemini::per_day()), [(Requests, day, Some(20), None)]);
    assert_eq!(stated("gemini", gemini::per_minute()), [(Requests, minute, Some(5), None)]);
    // The header and the body say the same.
    assert_eq!(stated("openrouter", openrouter::free_models_per_day()), [(Requests, day, Some(50), Some(0))]);
    assert_eq!(stated("cloudflare", others::cloudflare()), []);
}

#[test]
fn who_refuses_the_key_is_heard_in_his_own_words_without_any_of_the_key() {
    let mut of = about("openai");
    of.config.api_key = Some(Secret::new("sk-0123456789abcdef".to_owned()));
    of.scrub = Scrub::new(&of.config);
    let said = |status: u16, body: String| {
        let error = of.refusal(status, &HeaderMap::new(), &Bytes::from(body), SystemTime::UNIX_EPOCH);
        assert_eq!(error.kind, ErrorKind::UpstreamAuthentication);
        error.message
    };
    let denied =
        json!({"error": {"message": "Your project\nis suspended, sk-0123456789abcdef", "code": null}});
    assert_eq!(
        said(403, denied.to_string()),
        "`p` refused the key (403): set `providers.p.api_key` to a valid one; it says: Your project is suspended, (secret)"
    );
    let masked = json!({"error": {"message": "Incorrect API key provided: sk-01***ef."}});
    assert!(said(401, masked.to_string()).ends_with("; it says: Incorrect API key provided: (secret)"));
    // A secret at the bound is no less one.
    let long = json!({"message": format!("{} sk-0123456789abcdef {}", "x".repeat(290), "y".repeat(900))});
    let text = said(401, long.to_string());
    assert!(!text.contains("sk-") && text.len() < 420, "{text}");
    assert!(said(401, "{}".to_owned()).ends_with("to a valid one"), "who says nothing is not quoted");
}
