//! Requests byte for byte as they go upstream, for real kinds with their real data.

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::dialect::{self, CHAT_COMPLETIONS, COMPLETIONS, EMBEDDINGS, ENDPOINTS, Endpoint, FIM_COMPLETIONS};
use crate::error::Retry;
use crate::provider::Capabilities;
use crate::provider::registry::{Kind, Registry};

fn kind(name: &str) -> Kind {
    Registry::builtin().kind(name).unwrap()
}

fn read(endpoint: &Endpoint, body: &str) -> Request {
    dialect::read(endpoint, Bytes::copy_from_slice(body.as_bytes())).unwrap()
}

fn try_with(
    name: &str,
    endpoint: &Endpoint,
    body: &str,
    remembered: &[&str],
) -> Result<Prepared, ProxyError> {
    let kind = kind(name);
    let remembered: Vec<String> = remembered.iter().map(|field| (*field).to_owned()).collect();
    prepare(&read(endpoint, body), "upstream-model", kind.adapter, &kind.facts, &remembered)
}

fn with(name: &str, endpoint: &Endpoint, body: &str) -> Prepared {
    try_with(name, endpoint, body, &[]).unwrap()
}

fn text(prepared: &Prepared) -> String {
    String::from_utf8(prepared.body.to_bytes().to_vec()).unwrap()
}

/// A target by the very name that the client used.
fn as_asked() -> Target<'static> {
    Target { provider: "any", model: "" }
}

#[test]
fn nothing_to_edit_but_the_model_leaves_every_other_byte() {
    let before = "{ \"temperature\" : 1e0, \"x\":{\"model\":\"no\"},\n\t\"model\" : ";
    let after = " , \"messages\":[{\"role\":\"user\",\"content\":\"h\\u00e9\\/ é\"}],\"big\":12345678901234567890.0 }\r\n";
    let prepared = with("openai", &CHAT_COMPLETIONS, &format!("{before}\"p\\u002fm\"{after}"));
    assert_eq!(text(&prepared), format!("{before}\"upstream-model\"{after}"));
    assert_eq!(prepared.edits, Vec::<String>::new());
    assert_eq!(prepared.path, "/v1/chat/completions");
    assert!(!prepared.strip_usage);
}

#[test]
fn the_upstream_id_is_escaped_for_json() {
    let kind = kind("openai");
    let request = read(&CHAT_COMPLETIONS, r#"{"model":"p/x","messages":[]}"#);
    let prepared = prepare(&request, "a\"b\\c\né", kind.adapter, &kind.facts, &[]).unwrap();
    assert_eq!(text(&prepared), "{\"model\":\"a\\\"b\\\\c\\né\",\"messages\":[]}");
}

#[test]
fn usage_is_asked_for_and_stripped_only_when_the_client_did_not_ask() {
    let asked = with("openai", &CHAT_COMPLETIONS, r#"{"model":"p/m","messages":[],"stream":true}"#);
    assert_eq!(
        text(&asked),
        r#"{"model":"upstream-model","messages":[],"stream":true,"stream_options":{"include_usage":true}}"#
    );
    assert!(asked.strip_usage);
    assert_eq!(asked.edits, ["add:stream_options.include_usage"]);

    let own =
        r#"{"model":"upstream-model","messages":[],"stream":true,"stream_options":{"include_usage":true}}"#;
    let prepared = with("openai", &CHAT_COMPLETIONS, own);
    assert_eq!((text(&prepared), prepared.strip_usage), (own.to_owned(), false));
    assert!(!with("openai", &CHAT_COMPLETIONS, r#"{"model":"p/m","messages":[]}"#).strip_usage);
}

#[test]
fn the_clients_other_stream_options_stay() {
    for (written, expected) in [
        (r#"{"include_obfuscation":false}"#, r#"{"include_obfuscation":false,"include_usage":true}"#),
        (r#"{ "include_usage": false, "a":1}"#, r#"{ "include_usage": true, "a":1}"#),
        ("{}", r#"{"include_usage":true}"#),
        ("null", r#"{"include_usage":true}"#),
    ] {
        let body =
            format!(r#"{{"model":"p/m","messages":[],"stream":true,"stream_options":{written},"n":1}}"#);
        let prepared = with("openai", &CHAT_COMPLETIONS, &body);
        let wanted = format!(
            r#"{{"model":"upstream-model","messages":[],"stream":true,"stream_options":{expected},"n":1}}"#
        );
        assert_eq!(text(&prepared), wanted);
        assert!(prepared.strip_usage);
    }
    let odd = with(
        "openai",
        &CHAT_COMPLETIONS,
        r#"{"model":"p/m","messages":[],"stream":true,"stream_options":"x"}"#,
    );
    assert!(
        !odd.strip_usage && text(&odd).contains(r#""stream_options":"x""#),
        "the upstream says what is wrong"
    );
}

#[test]
fn usage_is_not_asked_for_where_it_comes_anyway_or_was_rejected() {
    let body = r#"{"model":"p/m","messages":[],"stream":true}"#;
    for name in ["mistral", "codestral", "fireworks"] {
        let prepared = with(name, &CHAT_COMPLETIONS, body);
        assert!(!prepared.strip_usage && !text(&prepared).contains("stream_options"), "{name}");
    }
    let learned = try_with("openai", &CHAT_COMPLETIONS, body, &["stream_options"]).unwrap();
    assert!(!learned.strip_usage && !text(&learned).contains("stream_options"));
}

#[test]
fn a_field_that_was_rejected_before_is_dropped_and_named() {
    let body = r#"{"model":"p/m","seed":7,"messages":[],"top_k":5}"#;
    let prepared = try_with("openai", &CHAT_COMPLETIONS, body, &["seed", "top_k", "absent"]).unwrap();
    assert_eq!(text(&prepared), r#"{"model":"upstream-model","messages":[]}"#);
    assert_eq!(prepared.edits, ["drop:seed", "drop:top_k"]);
    let essential = try_with("openai", &CHAT_COMPLETIONS, body, &["messages", "model", "stream"]).unwrap();
    assert!(text(&essential).contains("messages"), "a request without them would be another one");
}

#[test]
fn fields_are_told_in_the_words_in_which_they_were_sent() {
    let body = r#"{"model":"p/m","messages":[],"max_completion_tokens":5,"stream":true}"#;
    let prepared = with("ollama", &CHAT_COMPLETIONS, body);
    assert_eq!(prepared.fields(), ["model", "messages", "max_tokens", "stream", "stream_options"]);
    // Whichever word the upstream used in its refusal, the field is left out the next time.
    for word in ["max_tokens", "max_completion_tokens"] {
        let again = try_with("ollama", &CHAT_COMPLETIONS, body, &[word, "stream_options"]).unwrap();
        assert_eq!(text(&again), r#"{"model":"upstream-model","messages":[],"stream":true}"#);
    }
    let added = r#"{"model":"p/m","messages":[]}"#;
    let refused = try_with("cloudflare", &CHAT_COMPLETIONS, added, &["max_tokens"]).unwrap();
    assert!(!text(&refused).contains("max_tokens"), "nor is it added");
}

#[test]
fn the_path_is_the_upstreams_and_never_the_clients() {
    for (name, endpoint, path, shape) in [
        ("ollama", CHAT_COMPLETIONS, "/v1/chat/completions", Shape::Chat),
        ("ollama", FIM_COMPLETIONS, "/v1/completions", Shape::Text),
        ("fireworks", FIM_COMPLETIONS, "/v1/completions", Shape::Text),
        ("mistral", FIM_COMPLETIONS, "/v1/fim/completions", Shape::Chat),
        ("mistral", COMPLETIONS, "/v1/fim/completions", Shape::Chat),
        ("codestral", COMPLETIONS, "/v1/fim/completions", Shape::Chat),
        ("github", CHAT_COMPLETIONS, "/inference/chat/completions", Shape::Chat),
        ("gemini", CHAT_COMPLETIONS, "/chat/completions", Shape::Chat),
        ("deepseek", FIM_COMPLETIONS, "/beta/completions", Shape::Text),
        ("mistral", EMBEDDINGS, "/v1/embeddings", Shape::Embedding),
    ] {
        let body = r#"{"model":"p/m","messages":[],"prompt":"a","suffix":"b","input":"c"}"#;
        let prepared = with(name, &endpoint, body);
        assert_eq!(
            (prepared.path.as_str(), prepared.upstream_shape),
            (path, shape),
            "{name} {}",
            endpoint.path
        );
    }
}

#[test]
fn a_task_without_a_route_is_refused_with_a_way_out() {
    let fim = r#"{"model":"github/openai/gpt-4o","prompt":"a","suffix":"b"}"#;
    let error = try_with("github", &FIM_COMPLETIONS, fim, &[]).unwrap_err();
    assert_eq!((error.kind, error.retry), (ErrorKind::Unsupported, Retry::Elsewhere));
    assert_eq!(
        error.message,
        "`github/openai/gpt-4o` has no fill-in-the-middle endpoint; use a model with the fim capability, such as codestral"
    );
    let kind = kind("github");
    assert_eq!(check_route(&read(&FIM_COMPLETIONS, fim), kind.adapter, &kind.facts, as_asked()), Err(error));
    let chat = read(&CHAT_COMPLETIONS, r#"{"model":"g/m","messages":[]}"#);
    assert_eq!(check_route(&chat, kind.adapter, &kind.facts, as_asked()), Ok(()));
    let error = try_with("codestral", &EMBEDDINGS, r#"{"model":"c/m","input":"x"}"#, &[]).unwrap_err();
    assert!(error.message.contains("no embeddings endpoint"), "{error}");
    let error = try_with("groq", &COMPLETIONS, r#"{"model":"g/m","prompt":"x"}"#, &[]).unwrap_err();
    assert!(error.message.contains("/v1/chat/completions"), "{error}");
}

#[test]
fn a_suffix_never_goes_to_a_server_that_would_ignore_it() {
    let body = r#"{"model":"l/m","prompt":"a","suffix":"b"}"#;
    for name in ["llamacpp", "vllm", "lmstudio"] {
        assert!(try_with(name, &COMPLETIONS, body, &[]).is_err(), "{name}");
    }
    // Without one it is a plain completion, whichever route it came in by.
    let plain = with("vllm", &FIM_COMPLETIONS, r#"{"model":"l/m","prompt":"a","suffix":""}"#);
    assert_eq!(
        (plain.path.as_str(), text(&plain)),
        ("/v1/completions", r#"{"model":"upstream-model","prompt":"a"}"#.to_owned())
    );
}

#[test]
fn what_the_upstream_says_a_model_cannot_do_is_refused_and_the_unknown_is_not() {
    let fim = read(&COMPLETIONS, r#"{"model":"ollama/llama3.2","prompt":"a","suffix":"b"}"#);
    let mut model = Model::default();
    assert!(check_capability(&fim, &model, as_asked()).is_ok());
    model.capabilities = Capabilities { fim: Some(false), completion: Some(true), ..Capabilities::default() };
    let error = check_capability(&fim, &model, as_asked()).unwrap_err();
    assert_eq!(
        error.message,
        "`ollama/llama3.2` cannot fill in the middle; use a model with the fim capability, such as codestral"
    );
    let marked = read(&COMPLETIONS, r#"{"model":"m","prompt":"[SUFFIX]b[PREFIX]a","stop":["[SUFFIX]"]}"#);
    assert_eq!(marked.task, Task::Fim);
    assert!(check_capability(&marked, &model, as_asked()).is_ok(), "its suffix is in the prompt");
    model.capabilities.completion = Some(false);
    assert!(check_capability(&marked, &model, as_asked()).is_err());

    let chat = read(&CHAT_COMPLETIONS, r#"{"model":"m","messages":[]}"#);
    model.capabilities = Capabilities { chat: Some(false), ..Capabilities::default() };
    let chosen = Target { provider: "lab", model: "small" };
    let error =
        check_capability(&read(&CHAT_COMPLETIONS, r#"{"model":"auto","messages":[]}"#), &model, chosen);
    assert!(
        error.unwrap_err().message.starts_with("`lab/small` cannot chat"),
        "what a router chose is named"
    );
    assert_eq!(check_capability(&chat, &model, as_asked()).unwrap_err().kind, ErrorKind::Unsupported);
}

#[test]
fn a_monstrous_model_id_does_not_fill_the_message() {
    let body = json!({"model": "x\n".repeat(100_000), "prompt": "a", "suffix": "b"}).to_string();
    let error = try_with("github", &FIM_COMPLETIONS, &body, &[]).unwrap_err();
    assert!(error.message.len() < 300 && !error.message.contains('\n'));
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[ -~é\"\\\\]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        let keys = prop_oneof![
            "[a-z_]{1,8}",
            Just("reasoning".to_owned()),
            Just("tool_call_id".to_owned()),
            Just("id".to_owned())
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((keys, inner), 0..4)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

proptest! {
    /// Whatever the client says: the body stays JSON, the model is the upstream's, and a field is either as it was or
    /// named among the edits.
    #[test]
    fn every_difference_is_named(
        extra in prop::collection::vec((prop_oneof![
            Just("seed"), Just("max_completion_tokens"), Just("max_tokens"), Just("stream_options"), Just("user"),
            Just("response_format"), Just("tools"), Just("unheard_of"), Just("suffix")], any_json()), 0..5),
        messages in prop::collection::vec(any_json(), 0..4),
        stream in any::<bool>(),
        endpoint in 0_usize..4,
        name in prop_oneof![Just("openai"), Just("mistral"), Just("ollama"), Just("cohere"), Just("nvidia"), Just("cloudflare")],
    ) {
        let mut body = json!({"model": "p/m", "prompt": "a", "input": "b", "stream": stream});
        body["messages"] = Value::from(messages);
        for (key, value) in extra {
            body[key] = value;
        }
        let endpoint = &ENDPOINTS[endpoint];
        let request = dialect::read(endpoint, Bytes::from(body.to_string())).unwrap();
        let kind = kind(name);
        let Ok(prepared) = prepare(&request, "m", kind.adapter, &kind.facts, &[]) else {
            return Ok(());
        };
        let sent: Value = serde_json::from_slice(&prepared.body.to_bytes()).unwrap();
        prop_assert_eq!(&sent["model"], "m");
        for (key, value) in body.as_object().unwrap().iter().filter(|(key, _)| *key != "model") {
            let named = |edit: &String| edit.split_once(':').is_some_and(|(_, field)| {
                field.split(['.', '[']).next() == Some(key) || (key == "messages" && field == "tool_call_id")
            });
            prop_assert!(sent.get(key) == Some(value) || prepared.edits.iter().any(named), "{key}: {:?}", prepared.edits);
        }
        for edit in &prepared.edits {
            prop_assert!(edit.len() <= 80 && edit.bytes().all(|byte| byte.is_ascii_graphic()), "{edit}");
        }
    }
}
