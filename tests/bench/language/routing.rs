//! Measures what it costs to choose among twenty routes, when only the last one matches: once by conditions about how a
//! request came in and what it asks for, once by its texts and languages as well. Needs no corpus: `-- --routing` measures
//! this alone.

use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use demuxai::backend::arrival::Arrival;
use demuxai::backend::condition::{Conditions, Content, Facts, Names, Standing};
use demuxai::dialect::{CHAT_COMPLETIONS, Request, read};
use http::header::{HeaderName, HeaderValue};
use serde_json::{Value, json};

use crate::cost::{in_micros, median};

/// By the head alone, whatever the size of the body that was read.
const BY_HEAD: Duration = Duration::from_micros(20);
/// By the texts of a prompt of 8 KB.
const BY_TEXT: Duration = Duration::from_micros(300);
/// By the texts of a body of 4 MB, whose messages are gone through for what they need and for the user's last one.
const LONG: Duration = Duration::from_millis(5);

/// Nineteen routes that a chat does not take, and one that it does.
fn routes(conditions: &[Value]) -> Vec<Conditions> {
    let names = Names {
        listeners: ["local", "lan"].into(),
        clients: ["ide", "phone"].into(),
        backends: ["a"].into(),
    };
    let last = json!({});
    let rows = conditions.iter().cycle().take(19).chain([&last]);
    rows.map(|row| Conditions::read(row.as_object().expect("a table"), &names).expect("valid conditions"))
        .collect()
}

/// What tells how a request came in and what it asks for.
fn by_head() -> Vec<Value> {
    vec![
        json!({ "endpoint": ["fim", "completion"] }),
        json!({ "model": ["gpt-*", "o3*", "*/claude-*"] }),
        json!({ "listener": "lan" }),
        json!({ "client": "phone", "path": "/v1/fim/*" }),
        json!({ "header": { "x-team": ["ml-*", "ops"] } }),
        json!({ "time": { "days": "sun", "from": "22:00", "to": "06:00", "time_zone": "Europe/Berlin" } }),
        json!({ "quota": { "of": "a", "left": "<20%" } }),
        json!({ "not": [{ "client": "ide" }, { "endpoint": "embedding" }] }),
    ]
}

/// And what its texts say.
fn by_text() -> Vec<Value> {
    let own = [
        json!({ "has": ["images", "audio", "response_format"] }),
        json!({ "input_tokens": ">4000000" }),
        json!({ "regex": "(?i)\\bconfidential\\b" }),
        json!({ "regex": { "system": "you are a pirate" } }),
        json!({ "language": ["haskell", "erlang"] }),
        json!({ "natural_language": ["fr", "it"] }),
    ];
    by_head().into_iter().chain(own).collect()
}

fn chat(bytes: usize) -> Request {
    let line = "    for (index, value) in values.iter().enumerate() { total += value * index; }\n";
    let code = line.repeat(bytes.div_ceil(line.len()));
    let body = json!({ "model": "auto", "messages": [
        { "role": "system", "content": "You are a coding assistant." },
        { "role": "user", "content": format!("Please explain what this loop does and how it could be faster.\n\n{code}") },
    ]});
    read(&CHAT_COMPLETIONS, Bytes::from(body.to_string())).expect("a request")
}

/// Prints the medians; whether all bounds hold.
pub fn measure() -> bool {
    println!("choosing the last of twenty routes, medians in microseconds");
    let header = |name, value| (HeaderName::from_static(name), HeaderValue::from_static(value));
    let headers = vec![header("user-agent", "editor/1.0"), header("x-team", "web")];
    let arrival = Arrival::new("local".into(), "/v1/chat/completions", headers);
    let now = "2026-11-28T12:00:00Z".parse().expect("a time");
    let mut held = true;
    for (what, rows, bounds) in
        [("head", by_head(), [BY_HEAD; 3]), ("texts too", by_text(), [BY_TEXT, BY_TEXT, LONG])]
    {
        let routes = routes(&rows);
        for ((size, bytes), bound) in
            [("200 B", 200), ("8 KB", 8_000), ("4 MB", 4_000_000)].into_iter().zip(bounds)
        {
            let template = chat(bytes);
            let mut index = None;
            // What a request's body says is read once, so each round gets a request of its own.
            let took = median(
                || read(&CHAT_COMPLETIONS, template.body.clone()).expect("a request"),
                |request| {
                    let facts = Facts {
                        request,
                        model: "",
                        client: Some("ide"),
                        arrival: Some(&arrival),
                        now,
                        standing: &|_| Some(Standing { available: true, share_left: 0.9 }),
                        input_tokens: &|| None,
                        content: Content::default(),
                    };
                    index = black_box(&routes).iter().position(|route| route.hold(black_box(&facts)));
                },
            );
            assert_eq!(index, Some(19), "the last one matches");
            let over = took > bound;
            held &= !over;
            println!("by {what:<10} {size:>6} {:>9.1}{}", in_micros(took), if over { "  OVER" } else { "" });
        }
    }
    println!(
        "bounds: {BY_HEAD:?} by the head, {BY_TEXT:?} by a prompt of 8 KB, {LONG:?} by one of 4 MB: {}",
        if held { "held" } else { "MISSED" }
    );
    held
}
