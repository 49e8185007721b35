//! What an upstream rejects: what is known is dropped or renamed beforehand, what is learned is dropped from then on,
//! and every edit is named. A refusal of a value, or of what makes the request, is the client's to know.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use demuxai::demo::{Answer, Fake, Received, Script, Upstream};
use serde_json::{Value, json};

use crate::support::client::Answer as Got;
use crate::support::proxy::{Proxy, provider};
use crate::support::upstreams::{calls, heard, last_call, listing, ok_chat, playing};

fn before(kind: &str, fake: &Fake) -> Proxy {
    heard(&provider("up", kind, &fake.url()))
}

/// A chat request to this model with these fields besides.
fn ask(proxy: &Proxy, model: &str, more: &Value) -> Got {
    let mut body = json!({"model": format!("up/{model}"), "messages": [{"role": "user", "content": "x"}]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    proxy.post("/v1/chat/completions", &body.to_string())
}

/// An upstream of two models that refuses requests with this field in these words, and answers all others.
fn refusing(field: &'static str, status: u16, words: &'static str) -> Fake {
    listing(json!([{"id": "m"}, {"id": "n"}]), move |received: &Received| {
        if received.json().get(field).is_some() { Answer::json(status).body(words) } else { ok_chat() }
    })
}

#[test]
fn a_field_refused_by_name_is_dropped_the_call_repeated_once_and_the_fact_remembered() {
    for (status, words) in [
        (
            400,
            r#"{"error":{"message":"Unrecognized request argument supplied: verbosity","type":"invalid_request_error","param":null,"code":null}}"#,
        ),
        (
            400,
            r#"{"error":{"message":"Unsupported parameter: 'verbosity' is not supported with this model.","type":"invalid_request_error","param":"verbosity","code":"unsupported_parameter"}}"#,
        ),
        (
            422,
            r#"{"detail":[{"type":"extra_forbidden","loc":["body","verbosity"],"msg":"Extra inputs are not permitted","input":"low"}]}"#,
        ),
        (
            400,
            r#"[{"error":{"code":400,"message":"Invalid JSON payload received. Unknown name \"verbosity\": Cannot find field.","status":"INVALID_ARGUMENT"}}]"#,
        ),
        (
            422,
            r#"{"object":"error","message":{"detail":[{"type":"extra_forbidden","loc":["body","verbosity"],"msg":"Extra inputs are not permitted"}]}}"#,
        ),
        (400, r#"{"error":"json: unknown field \"verbosity\""}"#),
        (
            400,
            r#"{"error":{"message":"property 'verbosity' is unsupported","type":"invalid_request_error"}}"#,
        ),
    ] {
        let fake = refusing("verbosity", status, words);
        let proxy = before("openai", &fake);
        for (round, sent) in [(0, 2), (1, 3), (2, 4)] {
            let answer = ask(&proxy, "m", &json!({"verbosity": "low", "temperature": 1}));
            assert_eq!(answer.status, 200, "{words} in round {round}: {}", answer.text());
            assert_eq!(answer.header("x-demuxai-edits"), Some("drop:verbosity"), "{words}");
            assert_eq!(calls(&fake).len(), sent, "{words}");
            let body = last_call(&fake).json();
            assert_eq!((body.get("verbosity"), &body["temperature"]), (None, &json!(1)));
        }
        // Who does not send it is not told of it, and another model is asked for itself.
        assert_eq!(ask(&proxy, "m", &json!({})).header("x-demuxai-edits"), None);
        assert_eq!(ask(&proxy, "n", &json!({"verbosity": "low"})).status, 200);
        assert_eq!(calls(&fake).len(), 4 + 1 + 2, "{words}");
        assert_eq!(proxy.status_of("up")["health"], "up", "a refusal is no illness");
    }
}

#[test]
fn calls_that_learn_the_same_thing_at_once_all_succeed() {
    let fake = refusing("verbosity", 400, r#"{"error":{"message":"Unknown parameter: 'verbosity'."}}"#);
    let proxy = before("openai", &fake);
    std::thread::scope(|scope| {
        let all: Vec<_> =
            (0..16).map(|_| scope.spawn(|| ask(&proxy, "m", &json!({"verbosity": "low"})).status)).collect();
        assert!(all.into_iter().all(|one| one.join().unwrap() == 200));
    });
    assert!(calls(&fake).len() <= 32, "{}", calls(&fake).len());
}

#[test]
fn a_refused_field_is_dropped_from_streams_too() {
    let fake = listing(json!([{"id": "m"}]), |received: &Received| {
        if received.json().get("verbosity").is_some() {
            return Answer::json(400).body(r#"{"error":{"message":"Unknown parameter: 'verbosity'."}}"#);
        }
        demuxai::demo::faults::good_stream("m", &["Hello"]).script()
    });
    let proxy = before("openai", &fake);
    let answer = ask(&proxy, "m", &json!({"verbosity": "low", "stream": true}));
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.complete && answer.text().contains("Hello") && answer.text().ends_with("[DONE]\n\n"));
    assert_eq!(answer.header("x-demuxai-edits"), Some("drop:verbosity, add:stream_options.include_usage"));
    assert_eq!(calls(&fake).len(), 2);
}

#[test]
fn what_we_added_ourselves_and_is_refused_costs_nobody_anything() {
    let fake = listing(json!([{"id": "m"}]), |received: &Received| {
        if received.json().get("stream_options").is_some() {
            return Answer::json(422).body(
                r#"{"detail":[{"type":"extra_forbidden","loc":["body","stream_options"],"msg":"Extra inputs are not permitted"}]}"#,
            );
        }
        demuxai::demo::faults::good_stream("m", &["Hello"]).script()
    });
    let proxy = before("openai", &fake);
    for (asked, sent) in [(false, 2), (false, 3), (true, 4)] {
        let mut more = json!({"stream": true});
        if asked {
            more["stream_options"] = json!({"include_usage": true});
        }
        let answer = ask(&proxy, "m", &more);
        assert_eq!((answer.status, answer.complete), (200, true), "{}", answer.text());
        assert_eq!(answer.header("x-demuxai-edits"), asked.then_some("drop:stream_options"));
        assert_eq!(calls(&fake).len(), sent);
    }
}

#[test]
fn several_fields_refused_in_one_report_are_dropped_together() {
    let fake = listing(json!([{"id": "m"}]), |received: &Received| {
        let sent = received.json();
        let refused: Vec<Value> = ["store", "verbosity", "user"]
            .iter()
            .filter(|field| sent.get(**field).is_some())
            .map(|field| json!({"type": "extra_forbidden", "loc": ["body", field], "msg": "Extra inputs are not permitted"}))
            .collect();
        if refused.is_empty() { ok_chat() } else { Answer::json(422).value(&json!({"detail": refused})) }
    });
    let proxy = before("openai", &fake);
    let more = json!({"store": false, "user": "u", "verbosity": "low", "seed": 1});
    for sent in [2, 3] {
        let answer = ask(&proxy, "m", &more);
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.header("x-demuxai-edits"), Some("drop:store, drop:user, drop:verbosity"));
        assert_eq!(calls(&fake).len(), sent);
    }
}

#[test]
fn a_second_field_refused_after_the_first_is_remembered_for_the_next_call() {
    let fake = listing(json!([{"id": "m"}]), |received: &Received| {
        let sent = received.json();
        let refuse = |name: &str| {
            Answer::json(400).value(&json!({"error": {"message": format!("Unknown parameter: '{name}'."), "param": name, "code": "unknown_parameter"}}))
        };
        match ["store", "verbosity"].into_iter().find(|field| sent.get(*field).is_some()) {
            Some(field) => refuse(field),
            None => ok_chat(),
        }
    });
    let proxy = before("openai", &fake);
    let more = json!({"store": false, "verbosity": "low"});
    let first = ask(&proxy, "m", &more);
    assert!(
        first.status == 400 && first.text().contains("verbosity"),
        "repeated once, no more: {}",
        first.text()
    );
    assert_eq!(calls(&fake).len(), 2);
    let second = ask(&proxy, "m", &more);
    assert_eq!(second.status, 200, "{}", second.text());
    assert_eq!(calls(&fake).len(), 3, "both are known by now");
}

#[test]
fn an_upstream_that_always_refuses_is_never_asked_in_a_loop() {
    // It names a field that is not there any more, or another one each time.
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let fake = listing(json!([{"id": "m"}]), move |received: &Received| -> Script {
        let turn = counted.fetch_add(1, Ordering::SeqCst);
        let sent = received.json();
        let fields: Vec<&String> =
            sent.as_object().unwrap().keys().filter(|key| key.starts_with("x_")).collect();
        let name = fields.get(turn % fields.len().max(1)).map_or("x_0", |name| name.as_str());
        Answer::json(400)
            .value(&json!({"error": {"message": format!("Unknown parameter: '{name}'."), "param": name}}))
    });
    let proxy = before("openai", &fake);
    let many: serde_json::Map<String, Value> = (0..100).map(|at| (format!("x_{at}"), json!(1))).collect();
    let mut last = 0;
    for _ in 0..40 {
        assert_eq!(ask(&proxy, "m", &Value::Object(many.clone())).status, 400);
        let now = count.load(Ordering::SeqCst);
        assert!((1..=2).contains(&(now - last)), "{} calls for one request", now - last);
        last = now;
    }
    let answer = ask(&proxy, "m", &json!({"x_0": 1}));
    assert_eq!(answer.status, 400);
    assert!(count.load(Ordering::SeqCst) - last <= 2);
}

#[test]
fn a_value_at_fault_is_the_clients_to_know() {
    for (field, value, words) in [
        (
            "temperature",
            json!(9),
            r#"{"error":{"message":"Invalid 'temperature': decimal above maximum value. Expected a value <= 2, but got 9 instead.","type":"invalid_request_error","param":"temperature","code":"decimal_above_max_value"}}"#,
        ),
        (
            "messages",
            json!([]),
            r#"{"error":{"message":"Unsupported parameter: 'messages'","param":"messages","code":"unsupported_parameter"}}"#,
        ),
        (
            "tools",
            json!([{"type": "x"}]),
            r#"{"error":{"message":"Unknown parameter: 'tools[0].strict'.","param":"tools[0].strict","code":"unknown_parameter"}}"#,
        ),
        (
            "seed",
            json!("x"),
            r#"{"detail":[{"type":"int_parsing","loc":["body","seed"],"msg":"Input should be a valid integer"}]}"#,
        ),
    ] {
        let fake = refusing(field, 400, words);
        let proxy = before("openai", &fake);
        let mut more = json!({});
        more[field] = value;
        for sent in [1, 2] {
            let answer = ask(&proxy, "m", &more);
            assert_eq!((answer.status, calls(&fake).len()), (400, sent), "{words}");
            assert_eq!(answer.header("x-demuxai-edits"), None);
            assert!(last_call(&fake).json().get(field).is_some(), "{field} is still sent");
        }
    }
}

#[test]
fn a_strict_provider_gets_only_what_it_knows_inside_messages_too() {
    let (fake, table) = playing(Upstream::Mistral);
    let proxy = heard(&table);
    let schema = json!({"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}});
    let body = json!({
        "model": "mistral/mistral-small-latest",
        "messages": [
            {"role": "user", "content": "weather?", "name": null},
            {"role": "assistant", "content": "", "refusal": null, "reasoning_content": "hm", "annotations": [],
             "tool_calls": [{"id": "call_abcdef0123456789abcdef01", "type": "function", "function": {"name": "w", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "call_abcdef0123456789abcdef01", "content": "sunny"}],
        "response_format": schema, "max_tokens": 9, "max_completion_tokens": 8,
    });
    let answer = proxy.post("/v1/chat/completions", &body.to_string());
    assert_eq!(answer.status, 200, "{}", answer.text());
    let sent = last_call(&fake).json();
    let call = sent["messages"][1]["tool_calls"][0]["id"].as_str().unwrap();
    assert!(call.len() == 9 && call.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{call}");
    assert_eq!(sent["messages"][2]["tool_call_id"], call, "the result still belongs to its call");
    assert_eq!(
        sent["messages"][1].as_object().unwrap().keys().collect::<Vec<_>>(),
        ["role", "content", "tool_calls"]
    );
    assert_eq!((&sent["response_format"], &sent["max_tokens"]), (&schema, &json!(9)), "its own word counts");
    let edits = answer.header("x-demuxai-edits").unwrap();
    for edit in [
        "drop:messages[].name",
        "drop:messages[].refusal",
        "drop:messages[].reasoning_content",
        "drop:messages[].annotations",
        "replace:tool_call_id",
        "drop:max_completion_tokens",
    ] {
        assert!(edits.split(", ").any(|one| one == edit), "{edit} in {edits}");
    }
}

#[test]
fn openais_reasoning_models_get_the_words_they_know() {
    let (fake, table) = playing(Upstream::Openai);
    let proxy = heard(&table);
    let body = |model: &str| {
        json!({"model": format!("openai/{model}"), "messages": [{"role": "user", "content": "x"}], "max_tokens": 9, "temperature": 0.2})
            .to_string()
    };
    let answer = proxy.post("/v1/chat/completions", &body("gpt-5-mini"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let sent = last_call(&fake).json();
    assert_eq!((&sent["max_completion_tokens"], sent.get("temperature")), (&json!(9), None));
    assert_eq!(answer.header("x-demuxai-edits"), Some("rename:max_tokens, drop:temperature"));
    let answer = proxy.post("/v1/chat/completions", &body("gpt-4.1-mini"));
    assert_eq!((answer.status, answer.header("x-demuxai-edits")), (200, None));
    assert_eq!(last_call(&fake).json()["temperature"], 0.2);
}

#[test]
fn the_names_of_edits_cannot_carry_anything_else() {
    let (_fake, table) = playing(Upstream::Mistral);
    let proxy = heard(&table);
    let mut body =
        json!({"model": "mistral/mistral-small-latest", "messages": [{"role": "user", "content": "x"}]});
    body["a\r\nx-evil: 1"] = json!("secret value");
    body["ключ, drop:model"] = json!(1);
    let answer = proxy.post("/v1/chat/completions", &body.to_string());
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("x-evil"), None);
    assert_eq!(answer.header("x-demuxai-edits"), Some("drop:a??x-evil??1, drop:??????drop?model"));
    for at in 0..500 {
        body[format!("{at:0>60}")] = json!(1);
    }
    let answer = proxy.post("/v1/chat/completions", &body.to_string());
    let edits = answer.header("x-demuxai-edits").unwrap();
    assert!(answer.status == 200 && edits.len() <= 2048 && edits.ends_with(", more"), "{edits}");
}
