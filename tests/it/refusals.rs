//! Refusals in disguise and requests that are sent twice, through the whole daemon: a limit inside a 200, a sick model
//! told as a bad request, a repetition that the ledger must not miss. And what usage endpoints tell.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use demuxai::demo::{Answer, Fake, Received, Script, Setup, Upstream};

use crate::support::proxy::{Proxy, provider};
use crate::support::{asked, eventually};

const PATH: &str = "/v1/chat/completions";
/// So many failures in a row open a breaker.
const OPENS: usize = 5;
const WORDS: &str = r#"{"id":"c","object":"chat.completion","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"ok"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":5,"total_tokens":8}}"#;
const LIMITED: &str = r#"{"error":{"code":429,"message":"Rate limit exceeded: free-models-per-day. Add 10 credits to unlock 1000 free model requests per day"}}"#;
const CHUNK: &str = r#"{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":"The"},"finish_reason":null}]}"#;

/// An upstream that lists enough models for one of them to be asked at a time.
fn upstream(answer: impl Fn(&Received) -> Script + Send + Sync + 'static) -> Fake {
    let entries: Vec<String> = (0..=OPENS).map(|n| format!(r#"{{"id":"m{n}","object":"model"}}"#)).collect();
    let list = format!(r#"{{"object":"list","data":[{}]}}"#, entries.join(","));
    Fake::start(move |received| {
        if received.path().ends_with("/models") {
            Answer::json(200).body(list.clone())
        } else {
            answer(received)
        }
    })
    .expect("fake upstream starts")
}

fn daemon(tables: &[String], more: &str) -> Proxy {
    let proxy = Proxy::start(&format!("{}\n{more}\n[state]\npath = \"none\"\n", tables.join("")));
    for table in tables {
        let id = table.trim_start_matches("[providers.").split(']').next().expect("an id");
        proxy.until_up(id);
    }
    proxy
}

fn chat(model: &str, more: &str) -> String {
    format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"hi"}}]{more}}}"#)
}

fn is_streamed(received: &Received) -> bool {
    String::from_utf8_lossy(&received.body).contains("\"stream\":true")
}

fn is_good(received: &Received) -> Script {
    if is_streamed(received) {
        let last = CHUNK.replace(r#""finish_reason":null"#, r#""finish_reason":"stop""#);
        Answer::events().chunked().event(CHUNK).event(last).event("[DONE]").last_chunk()
    } else {
        Answer::json(200).body(WORDS)
    }
}

/// The answers that hide a limit, whole and as a stream that has not begun.
fn hides_a_limit(received: &Received) -> Script {
    if is_streamed(received) {
        Answer::events().chunked().chunk(": PROCESSING\n\n").event(LIMITED).last_chunk()
    } else {
        Answer::json(200).body(LIMITED)
    }
}

#[test]
fn a_limit_inside_a_200_is_not_the_end_of_the_request_and_not_forgotten() {
    for more in ["", ",\"stream\":true"] {
        let (limited, good) = (upstream(hides_a_limit), upstream(is_good));
        let tables = [provider("up", "openai", &limited.url()), provider("other", "openai", &good.url())];
        let group = "[groups.free]\ntype = \"failover\"\nmembers = [\"up/m0\", \"other/m0\"]\n";
        let proxy = daemon(&tables, group);
        for _ in 0..3 {
            let answer = proxy.post(PATH, &chat("free", more));
            let complete = more.is_empty() || answer.text().contains("[DONE]");
            assert!(answer.status == 200 && complete, "{}", answer.text());
        }
        assert_eq!(asked(&limited), 1, "a day's limit is asked once");
        let refused = proxy.post(PATH, &chat("up/m1", more));
        assert_eq!(refused.status, 429, "{}", refused.text());
        let put_off = proxy.status_of("up")["put_off"].clone();
        assert_eq!(put_off.as_array().map(Vec::len), Some(2), "{put_off}");
        assert_eq!(put_off[0]["reason"], "window");
    }
}

#[test]
fn a_limit_inside_a_stream_that_has_begun_is_not_forgotten() {
    let fake = upstream(|_| Answer::events().chunked().event(CHUNK).event(LIMITED).last_chunk());
    let proxy = daemon(&[provider("up", "openai", &fake.url())], "");
    let answer = proxy.post(PATH, &chat("up/m0", ",\"stream\":true"));
    assert_eq!(answer.status, 200);
    assert!(!answer.text().contains("[DONE]"), "{}", answer.text());
    let put_off = proxy.status_of("up")["put_off"].clone();
    assert_eq!(put_off.as_array().map(Vec::len), Some(1), "{put_off}");
    let refused = proxy.post(PATH, &chat("up/m0", ""));
    assert_eq!((refused.status, asked(&fake)), (429, 1), "{}", refused.text());
}

#[test]
fn an_explanation_names_the_breaker_and_that_who_is_alone_is_asked_all_the_same() {
    let fake = upstream(|_| Answer::json(502).body(r#"{"error":{"message":"sick"}}"#));
    let proxy = daemon(&[provider("up", "openai", &fake.url())], "");
    for n in 0..=OPENS {
        assert_eq!(proxy.post(PATH, &chat(&format!("up/m{n}"), "")).status, 502);
    }
    let said = proxy.post("/demuxai/explain", r#"{"model":"up/m0"}"#);
    let step = &said.json()["step"];
    assert!(step["why"].to_string().contains("failed again and again"), "{}", said.text());
    assert_eq!((&step["state"], &said.json()["prediction"]["provider"]), (&"sends".into(), &"up".into()));
    assert_eq!(asked(&fake), OPENS + 1, "an explanation asks nobody");
}

/// How the breaker stands after so many failures, each of another model.
fn breaker_after(answer: impl Fn(&Received) -> Script + Send + Sync + 'static, status: u16) -> String {
    let fake = upstream(answer);
    let proxy = daemon(&[provider("up", "openai", &fake.url())], "");
    for n in 0..=OPENS {
        let answer = proxy.post(PATH, &chat(&format!("up/m{n}"), ""));
        assert_eq!(answer.status, status, "{}", answer.text());
    }
    assert_eq!(asked(&fake), OPENS + 1);
    proxy.status_of("up")["breaker"].as_str().expect("a breaker").to_owned()
}

#[test]
fn a_limit_inside_a_200_does_not_open_the_breaker_as_a_sick_upstream_does() {
    assert_eq!(breaker_after(hides_a_limit, 429), "closed");
    let sick = r#"{"error":{"code":502,"message":"Provider returned error"}}"#;
    assert_eq!(breaker_after(move |_| Answer::json(200).body(sick), 502), "open");
}

#[test]
fn a_sick_model_is_not_told_as_a_bad_request_and_is_left_alone_in_the_end() {
    let degraded = r#"{"status":400,"title":"Bad Request","detail":"Function id 'x': DEGRADED function cannot be invoked"}"#;
    assert_eq!(breaker_after(move |_| Answer::json(400).body(degraded), 502), "open");
    let bad = r#"{"error":{"message":"messages is empty","type":"invalid_request_error"}}"#;
    assert_eq!(breaker_after(move |_| Answer::json(400).body(bad), 400), "closed");
}

/// What a daemon with a limit has counted after so many requests of a client, and what the upstream got.
fn counted(requests: usize, answer: impl Fn(usize) -> Script + Send + Sync + 'static) -> (u64, usize) {
    let posts = Arc::new(AtomicUsize::new(0));
    let fake = upstream(move |_| answer(posts.fetch_add(1, Ordering::SeqCst)));
    let mut table = provider("up", "openai", &fake.url());
    table.push_str("limits = [{ requests = 9, per = \"hour\" }]\n");
    let proxy = daemon(&[table], "");
    for _ in 0..requests {
        let answer = proxy.post(PATH, &chat("up/m0", ",\"seed\":1"));
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let used = proxy.status_of("up")["limits"][0]["used"].as_u64().expect("a count");
    (used, asked(&fake))
}

#[test]
fn a_request_that_is_repeated_without_a_refused_field_is_not_counted_once() {
    let refuses =
        r#"{"error":{"message":"Unknown parameter: 'seed'.","param":"seed","code":"unknown_parameter"}}"#;
    let answer =
        move |n| if n == 0 { Answer::json(400).body(refuses) } else { Answer::json(200).body(WORDS) };
    assert_eq!(counted(1, answer), (2, 2));
}

#[test]
fn a_request_that_is_repeated_on_a_fresh_connection_is_not_counted_once() {
    let answer = |n| if n == 1 { Script::new().reset() } else { Answer::json(200).body(WORDS) };
    assert_eq!(counted(2, answer), (3, 3));
}

/// The limits of a provider of this type, once its usage endpoint was asked.
fn limits_told(kind: &str, fake: &Fake, path: &'static str) -> (Proxy, Vec<serde_json::Value>) {
    let proxy = daemon(&[provider("up", kind, &fake.url())], "");
    let was_asked = || fake.received().iter().any(|received| received.path() == path);
    eventually("its usage is asked", was_asked, |asked| *asked);
    let told = || proxy.status_of("up")["limits"].as_array().cloned().unwrap_or_default();
    let is_told = |limits: &Vec<serde_json::Value>| limits.iter().any(|limit| limit["source"] == "probe");
    eventually("it is noted", told, is_told);
    let limits = told();
    (proxy, limits)
}

#[test]
fn free_requests_that_somebody_else_used_are_not_sent_for_in_vain() {
    let key =
        r#"{"data":{"is_free_tier":true,"free_model_daily_requests":{"used":50,"limit":50,"remaining":0}}}"#;
    let list = r#"{"data":[{"id":"a/b:free"},{"id":"a/b"}]}"#;
    let fake = Fake::start(move |received| match received.path() {
        "/v1/models" => Answer::json(200).body(list),
        "/v1/key" => Answer::json(200).body(key),
        _ => Answer::json(200).body(WORDS),
    })
    .expect("fake upstream starts");
    let (proxy, limits) = limits_told("openrouter", &fake, "/v1/key");
    let day = limits.iter().find(|limit| limit["source"] == "probe").expect("the day");
    assert_eq!((&day["limit"], &day["remaining"]), (&50.into(), &0.into()), "{day}");
    let refused = proxy.post(PATH, &chat("up/a/b:free", ""));
    assert_eq!((refused.status, asked(&fake)), (429, 0), "{}", refused.text());
    assert_eq!(proxy.post(PATH, &chat("up/a/b", "")).status, 200, "a paid model goes on");
}

#[test]
fn ollamas_balance_is_not_overlooked_and_an_answer_of_another_shape_does_no_harm() {
    let upstream = Upstream::OllamaCloud.start(Setup::default()).expect("fake upstream starts");
    let (_proxy, limits) = limits_told("ollama-cloud", &upstream, "/api/balance");
    let month = limits.iter().find(|limit| limit["source"] == "probe").expect("the month");
    assert_eq!(
        (&month["limit"], &month["remaining"], &month["unit"]),
        (&100.into(), &73.into(), &"percent".into())
    );
}
