//! Each condition of the routers in `config/examples/` has a request that holds it, and is sent that way.
#![cfg(unix)]

use std::path::Path;

use serde_json::{Value, json};

use crate::config_examples::{Served, served};
use crate::support::client;

/// A request: its path, what is in its body, headers, and the route that it takes.
type Sent<'a> = (&'a str, Value, &'a [(&'a str, &'a str)], &'a str);

const CHAT: &str = "/v1/chat/completions";

fn says(text: &str) -> Value {
    json!({ "messages": [{ "role": "user", "content": text }] })
}

/// Sends all of them to the file of this name.
fn sends(name: &str, all: &[Sent<'_>]) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples").join(name);
    let Served { program, .. } = &served(&file);
    let router = all.first().map_or("", |(.., route)| route.split(' ').next().unwrap_or_default());
    for (path, body, headers, route) in all {
        let mut body = body.clone();
        if body["model"].is_null() {
            body["model"] = Value::from(router);
        }
        let body = body.to_string();
        let headers = [headers, &[("content-type", "application/json")][..]].concat();
        let answer = client::open(program.address(), "POST", path, &headers, body.as_bytes()).finish();
        assert_eq!(answer.header("x-demuxai-route"), Some(*route), "{name}: {body}: {}", answer.text());
    }
}

#[test]
fn the_kind_of_a_request_and_what_it_has_send_it_on() {
    let named = |model: &str| json!({ "model": model, "messages": [{ "role": "user", "content": "hi" }] });
    let mut tools = says("hi");
    tools["tools"] = json!([{ "type": "function", "function": { "name": "f", "parameters": {} } }]);
    let image = json!({ "messages": [{ "role": "user", "content": [
        { "type": "image_url", "image_url": { "url": "data:image/png;base64,iVBORw0KGgo=" } },
    ] }] });
    sends(
        "router.toml",
        &[
            ("/v1/fim/completions", json!({ "prompt": "a", "suffix": "b" }), &[], "auto 1"),
            ("/v1/completions", json!({ "prompt": "a" }), &[], "auto 1"),
            ("/v1/embeddings", json!({ "input": "a" }), &[], "auto 2"),
            (CHAT, named("auto/gpt-4o"), &[], "auto 3"),
            (CHAT, tools, &[], "auto 4"),
            (CHAT, image, &[], "auto 4"),
            (CHAT, says(&"word ".repeat(30_000)), &[], "auto 5"),
            (CHAT, says("hi"), &[], "auto 6"),
        ],
    );
}

#[test]
fn who_asks_and_how_sends_a_request_on() {
    let ide = ("authorization", "Bearer value-of-DEMUXAI_IDE_KEY");
    let phone = ("authorization", "Bearer value-of-DEMUXAI_PHONE_KEY");
    sends(
        "router-clients.toml",
        &[
            (CHAT, says("hi"), &[ide, ("x-team", "research-7")], "auto 2"),
            (CHAT, says("hi"), &[phone, ("x-team", "ml")], "auto 2"),
            ("/v1/fim/completions", json!({ "prompt": "a", "suffix": "b" }), &[ide], "auto 3"),
            (CHAT, says("hi"), &[ide, ("x-team", "sales")], "auto 5"),
            (CHAT, says("hi"), &[phone], "auto 5"),
        ],
    );
}

#[test]
fn the_languages_of_a_request_send_it_on() {
    sends(
        "router-language.toml",
        &[
            (CHAT, says("Why does it fail?\n```rust\nlet x = 1;\n```"), &[], "coder 1"),
            (
                CHAT,
                says("Bonjour, pouvez-vous m'expliquer pourquoi le ciel est bleu aujourd'hui ?"),
                &[],
                "coder 2",
            ),
            (CHAT, says("Why is the sky blue, and why is it red in the evening?"), &[], "coder 3"),
        ],
    );
}

#[test]
fn words_of_a_request_send_it_on() {
    let system = json!({ "messages": [
        { "role": "system", "content": "All of this is Confidential." },
        { "role": "user", "content": "hi" },
    ] });
    sends(
        "router-quota.toml",
        &[(CHAT, says("this is private, please"), &[], "thrifty 1"), (CHAT, system, &[], "thrifty 1")],
    );
}

/// The way that the running program foretells for a question about the file of this name.
fn foretold(name: &str, question: &Value) -> Value {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples").join(name);
    let Served { program, .. } = &served(&file);
    let said = client::post(program.address(), "/demuxai/explain", &question.to_string());
    assert_eq!(said.status, 200, "{name}: {}", said.text());
    said.json()["prediction"]["route"].clone()
}

#[test]
fn the_hour_and_the_listener_send_a_request_on() {
    let body = r#"{"model":"thrifty","messages":[{"role":"user","content":"hi"}]}"#;
    // A Thursday and a Saturday; with all of its quota left.
    for (at, route) in [("2026-12-24T22:30:00Z", "thrifty 2"), ("2026-12-26T22:30:00Z", "thrifty 5")] {
        assert_eq!(foretold("router-quota.toml", &json!({ "body": body, "at": at })), route, "{at}");
    }
    let body = r#"{"model":"auto","messages":[{"role":"user","content":"hi"}]}"#;
    for (listener, route) in [("lan", "auto 1"), ("desk", "auto 5")] {
        let question = json!({ "body": body, "client": "phone", "listener": listener });
        assert_eq!(foretold("router-clients.toml", &question), route, "{listener}");
    }
}
