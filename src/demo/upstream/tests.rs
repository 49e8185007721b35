//! The personalities, route by route.

mod transcripts;

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::*;
use crate::demo::Step;
use transcripts::transcript;

const KEY: &str = "demo-key";

/// Asks a fake without a socket.
fn ask(upstream: Upstream, method: &str, path: &str, body: &Value) -> Script {
    ask_with(upstream, Some(KEY), method, path, body)
}

fn ask_with(upstream: Upstream, bearer: Option<&str>, method: &str, path: &str, body: &Value) -> Script {
    let setup = Setup {
        key: upstream.wants_key().then(|| KEY.to_owned()),
        pace: Duration::from_millis(25),
        ..Setup::default()
    };
    let headers = bearer.map(|key| ("Authorization".to_owned(), format!("Bearer {key}")));
    let received = Received {
        method: method.to_owned(),
        target: path.to_owned(),
        headers: headers.into_iter().collect(),
        body: if body.is_null() { bytes::Bytes::new() } else { body.to_string().into() },
        ..Received::default()
    };
    upstream.answer(&setup, &received)
}

fn post(upstream: Upstream, path: &str, body: &Value) -> Script {
    ask(upstream, "POST", path, body)
}

fn status(script: &Script) -> u16 {
    let wire = script.wire();
    std::str::from_utf8(&wire[9..12]).unwrap().parse().unwrap()
}

fn head(script: &Script) -> String {
    let wire = String::from_utf8(script.wire().to_vec()).unwrap();
    wire.split_once("\r\n\r\n").unwrap().0.to_ascii_lowercase()
}

/// The body of an answer with a length.
fn text(script: &Script) -> String {
    let wire = String::from_utf8(script.wire().to_vec()).unwrap();
    wire.split_once("\r\n\r\n").unwrap().1.to_owned()
}

fn body(script: &Script) -> Value {
    serde_json::from_str(&text(script)).unwrap_or_else(|_| panic!("no JSON: {}", text(script)))
}

/// The events of a stream; `[DONE]` is the last and is taken off.
fn events(script: &Script) -> Vec<Value> {
    assert_eq!(script.steps().last(), Some(&Step::LastChunk));
    let mut payloads: Vec<String> = Vec::new();
    for step in script.steps() {
        if let Step::Chunk(bytes) = step {
            let frame = std::str::from_utf8(bytes).unwrap();
            let payload = frame.strip_prefix("data: ").and_then(|rest| rest.strip_suffix("\n\n")).unwrap();
            payloads.push(payload.to_owned());
        }
    }
    assert_eq!(payloads.pop().as_deref(), Some("[DONE]"));
    payloads.iter().map(|payload| serde_json::from_str(payload).unwrap()).collect()
}

fn chat(model: &str, more: Value) -> Value {
    let mut body = json!({"model": model, "messages": [{"role": "user", "content": "Say hi"}]});
    for (key, value) in more.as_object().into_iter().flatten() {
        body[key] = value.clone();
    }
    body
}

fn tools() -> Value {
    json!([{"type": "function", "function": {"name": "weather", "parameters": {"type": "object",
        "properties": {"city": {"type": "string"}}, "required": ["city"]}}}])
}

/// A chat path and a model that can chat and call tools.
fn chat_of(upstream: Upstream) -> (&'static str, &'static str) {
    match upstream {
        Upstream::Ollama => ("/v1/chat/completions", "llama3.2:3b"),
        Upstream::OllamaCloud => ("/v1/chat/completions", "gemma4:31b"),
        Upstream::Github => ("/inference/chat/completions", "openai/gpt-4.1-mini"),
        Upstream::Mistral => ("/v1/chat/completions", "mistral-small-latest"),
        Upstream::Codestral => ("/v1/chat/completions", "codestral-latest"),
        Upstream::Fireworks => {
            ("/inference/v1/chat/completions", "accounts/fireworks/models/kimi-k2-instruct-0905")
        }
        Upstream::Openai => ("/v1/chat/completions", "gpt-4.1-mini"),
    }
}

#[test]
fn every_kind_answers_a_plain_chat_with_text_and_usage() {
    for upstream in Upstream::ALL {
        let (path, model) = chat_of(upstream);
        let answer = body(&post(upstream, path, &chat(model, json!({}))));
        let content = answer["choices"][0]["message"]["content"].as_str().unwrap();
        assert!(content.contains("“Say hi”"), "{upstream:?}: {content}");
        assert_eq!(answer["choices"][0]["finish_reason"], "stop");
        assert_eq!(answer["object"], "chat.completion");
        let usage = |key: &str| answer["usage"][key].as_u64().unwrap();
        assert_eq!(
            usage("total_tokens"),
            usage("prompt_tokens") + usage("completion_tokens"),
            "{upstream:?}"
        );
        assert_eq!(usage("completion_tokens") as usize, content.split(' ').count());
    }
}

#[test]
fn every_kind_streams_the_same_text_word_by_word_at_its_pace() {
    for upstream in Upstream::ALL {
        let (path, model) = chat_of(upstream);
        let plain = body(&post(upstream, path, &chat(model, json!({}))));
        let script = post(upstream, path, &chat(model, json!({"stream": true})));
        let events = events(&script);
        let streamed: String = events
            .iter()
            .filter_map(|event| event.pointer("/choices/0/delta/content").and_then(Value::as_str))
            .collect();
        assert_eq!(plain["choices"][0]["message"]["content"], streamed, "{upstream:?}");
        let finishes = events.iter().filter(|event| {
            event.pointer("/choices/0/finish_reason").is_some_and(|reason| !reason.is_null())
        });
        assert_eq!(finishes.count(), 1, "{upstream:?}");
        let roles = events.iter().filter(|event| event.pointer("/choices/0/delta/role").is_some()).count();
        assert_eq!(roles, 1, "{upstream:?}");
        let pauses = script.steps().iter().filter(|step| matches!(step, Step::Pause(_))).count();
        assert_eq!(pauses, events.len(), "{upstream:?}");
        assert!(head(&script).contains("content-type: text/event-stream"), "{upstream:?}");
    }
}

#[test]
fn every_kind_calls_an_offered_tool_in_both_ways() {
    for upstream in Upstream::ALL {
        let (path, model) = chat_of(upstream);
        let plain = body(&post(upstream, path, &chat(model, json!({"tools": tools()}))));
        let call = &plain["choices"][0]["message"]["tool_calls"][0];
        assert_eq!(call["function"]["name"], "weather", "{upstream:?}");
        assert_eq!(call["function"]["arguments"], r#"{"city":"Say hi"}"#);
        assert_eq!(plain["choices"][0]["finish_reason"], "tool_calls");
        let streamed = events(&post(upstream, path, &chat(model, json!({"tools": tools(), "stream": true}))));
        let arguments: String = streamed
            .iter()
            .filter_map(|event| event.pointer("/choices/0/delta/tool_calls/0/function/arguments"))
            .filter_map(Value::as_str)
            .collect();
        assert_eq!(arguments, r#"{"city":"Say hi"}"#, "{upstream:?}");
        let ids: BTreeSet<&str> = streamed
            .iter()
            .filter_map(|event| event.pointer("/choices/0/delta/tool_calls/0/id").and_then(Value::as_str))
            .collect();
        assert!(ids.len() == 1 && !ids.contains(""), "{upstream:?}: {ids:?}");
    }
}

#[test]
fn usage_in_streams_comes_as_each_provider_sends_it() {
    for upstream in Upstream::ALL {
        let (path, model) = chat_of(upstream);
        let always = matches!(upstream, Upstream::Mistral | Upstream::Codestral | Upstream::Fireworks);
        let unasked = events(&post(upstream, path, &chat(model, json!({"stream": true}))));
        let has_usage = |event: &Value| event.get("usage").is_some_and(Value::is_object);
        assert_eq!(
            unasked.iter().filter(|event| has_usage(event)).count(),
            usize::from(always),
            "{upstream:?}"
        );
        if always {
            let last = unasked.last().unwrap();
            assert!(has_usage(last) && !last["choices"][0]["finish_reason"].is_null(), "{upstream:?}");
            continue;
        }
        let more = json!({"stream": true, "stream_options": {"include_usage": true}});
        let asked = events(&post(upstream, path, &chat(model, more)));
        let last = asked.last().unwrap();
        assert_eq!((&last["choices"], has_usage(last)), (&json!([]), true), "{upstream:?}");
    }
}

#[test]
fn a_wrong_or_missing_key_is_refused_in_the_providers_own_form() {
    for upstream in Upstream::ALL.into_iter().filter(|upstream| upstream.wants_key()) {
        let (path, model) = chat_of(upstream);
        for bearer in [None, Some("wrong")] {
            let refused = ask_with(upstream, bearer, "POST", path, &chat(model, json!({})));
            assert_eq!(status(&refused), 401, "{upstream:?}");
            let folder = upstream.label();
            assert_eq!(refused, transcript(folder, "error_401").unwrap().script(), "{upstream:?}");
        }
    }
    let unchecked = ask_with(Upstream::Ollama, None, "GET", "/v1/models", &Value::Null);
    assert_eq!(status(&unchecked), 200);
    let public = ask_with(Upstream::OllamaCloud, None, "GET", "/api/tags", &Value::Null);
    assert_eq!(status(&public), 200);
}

#[test]
fn lists_have_their_true_shape() {
    let list = |upstream, path| body(&ask(upstream, "GET", path, &Value::Null));
    let ids = |list: &Value, key: &str| -> Vec<String> {
        list.as_array().unwrap().iter().map(|model| model[key].as_str().unwrap().to_owned()).collect()
    };
    for upstream in [Upstream::Ollama, Upstream::OllamaCloud] {
        let tags = list(upstream, "/api/tags");
        let models = list(upstream, "/v1/models");
        assert_eq!(ids(&tags["models"], "name"), ids(&models["data"], "id"), "{upstream:?}");
    }
    let catalogue = list(Upstream::Github, "/catalog/models");
    assert!(catalogue.is_array() && catalogue[0]["limits"]["max_input_tokens"].is_u64());
    let mistral = list(Upstream::Mistral, "/v1/models");
    let latest =
        mistral["data"].as_array().unwrap().iter().find(|one| one["id"] == "codestral-latest").unwrap();
    assert_eq!(latest["aliases"], json!(["codestral-2508"]));
    assert_eq!(latest["capabilities"]["completion_fim"], true);
    assert_eq!(
        ids(&list(Upstream::Codestral, "/v1/models")["data"], "id"),
        ["codestral-2508", "codestral-latest"]
    );
    let fireworks = list(Upstream::Fireworks, "/inference/v1/models");
    assert_eq!(fireworks["data"][0]["supports_tools"], true);
    assert_eq!(list(Upstream::Openai, "/v1/models")["data"][0]["id"], "gpt-4.1-mini");
}

#[test]
fn ollama_shows_capabilities_and_refuses_what_a_model_cannot() {
    let ollama = Upstream::Ollama;
    let shown = body(&post(ollama, "/api/show", &json!({"model": "qwen2.5-coder:7b"})));
    assert_eq!(shown["capabilities"], json!(["completion", "tools", "insert"]));
    assert_eq!(shown["model_info"]["qwen2.context_length"], 32768);
    assert!(shown["template"].as_str().unwrap().contains(".Suffix"));
    assert_eq!(status(&post(ollama, "/api/show", &json!({"model": "nothing"}))), 404);
    let chat_path = "/v1/chat/completions";
    let refusals = [
        (chat_path, chat("gemma3:4b", json!({"tools": tools()})), 400, "does not support tools"),
        (chat_path, chat("nomic-embed-text", json!({})), 400, "does not support chat"),
        (
            chat_path,
            chat("llama3.2:3b", json!({"reasoning_effort": "high"})),
            400,
            "does not support thinking",
        ),
        (chat_path, json!({"model": "llama3.2:3b", "messages": []}), 400, "too short"),
        (
            "/v1/completions",
            json!({"model": "llama3.2:3b", "prompt": "a", "suffix": "b"}),
            400,
            "does not support insert",
        ),
        ("/v1/completions", json!({"model": "llama3.2:3b", "prompt": ["a"]}), 400, "cannot unmarshal"),
        ("/v1/embeddings", json!({"model": "llama3.2:3b", "input": "a"}), 400, "does not support embeddings"),
        (chat_path, Value::Null, 400, "EOF"),
    ];
    for (path, request, expected, message) in refusals {
        let answer = post(ollama, path, &request);
        assert_eq!(status(&answer), expected, "{request}");
        assert!(body(&answer)["error"]["message"].as_str().unwrap().contains(message), "{request}");
    }
    assert_eq!(status(&ask(ollama, "GET", "/nowhere", &Value::Null)), 404);
    assert_eq!(status(&ask(ollama, "GET", chat_path, &Value::Null)), 405);
    assert_eq!(text(&ask(ollama, "GET", "/", &Value::Null)), "Ollama is running");
    assert!(text(&ask(ollama, "HEAD", "/", &Value::Null)).is_empty());
    assert_eq!(status(&ask(ollama, "GET", "/v1/models/qwen3:8b", &Value::Null)), 200);
    assert_eq!(status(&ask(ollama, "GET", "/v1/models/nothing", &Value::Null)), 404);
}

#[test]
fn ollama_ignores_unknown_fields_and_the_limit_it_does_not_know() {
    let more = json!({"max_completion_tokens": 2, "logit_bias": {}, "store": true, "anything": 1});
    let answer = body(&post(Upstream::Ollama, "/v1/chat/completions", &chat("llama3.2:3b", more)));
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    let short = chat("llama3.2:3b", json!({"max_tokens": 2}));
    let answer = body(&post(Upstream::Ollama, "/v1/chat/completions", &short));
    assert_eq!(
        (&answer["choices"][0]["finish_reason"], &answer["usage"]["completion_tokens"]),
        (&json!("length"), &json!(2))
    );
}

#[test]
fn ollama_completion_streams_carry_zero_usage_before_the_real_one() {
    let request = json!({"model": "qwen2.5-coder:7b", "prompt": "x = ", "suffix": "\n", "stream": true,
        "stream_options": {"include_usage": true}});
    let events = events(&post(Upstream::Ollama, "/v1/completions", &request));
    let (last, before) = events.split_last().unwrap();
    assert!(before.iter().all(|event| event["usage"]["total_tokens"] == 0));
    assert!(last["usage"]["total_tokens"].as_u64().unwrap() > 0);
    let text: String = before.iter().filter_map(|event| event["choices"][0]["text"].as_str()).collect();
    assert!(text.starts_with("42"));
}

#[test]
fn reasoning_comes_in_each_providers_field() {
    let first_delta = |upstream, path, model, field: &str| {
        let events = events(&post(upstream, path, &chat(model, json!({"stream": true}))));
        events.iter().any(|event| event["choices"][0]["delta"].get(field).is_some_and(Value::is_string))
    };
    assert!(first_delta(Upstream::Ollama, "/v1/chat/completions", "qwen3:8b", "reasoning"));
    assert!(first_delta(Upstream::OllamaCloud, "/v1/chat/completions", "gpt-oss:120b", "reasoning"));
    let fireworks = "/inference/v1/chat/completions";
    let glm = "accounts/fireworks/models/glm-5";
    assert!(first_delta(Upstream::Fireworks, fireworks, glm, "reasoning_content"));
    let request = chat("magistral-medium-latest", json!({}));
    let magistral = body(&post(Upstream::Mistral, "/v1/chat/completions", &request));
    let content = &magistral["choices"][0]["message"]["content"];
    assert_eq!((&content[0]["type"], &content[1]["type"]), (&json!("thinking"), &json!("text")));
    let quiet = chat("qwen3:8b", json!({"reasoning_effort": "none"}));
    let quiet = body(&post(Upstream::Ollama, "/v1/chat/completions", &quiet));
    assert!(quiet["choices"][0]["message"].get("reasoning").is_none());
}

#[test]
fn mistral_refuses_every_field_it_does_not_know_by_name() {
    let more =
        json!({"stream_options": {"include_usage": true}, "seed": 1, "user": "me", "temperature": 0.5});
    let answer = post(Upstream::Mistral, "/v1/chat/completions", &chat("mistral-small-latest", more));
    assert_eq!(status(&answer), 422);
    let detail = body(&answer)["detail"].clone();
    let named: Vec<&Value> = detail.as_array().unwrap().iter().map(|one| &one["loc"][1]).collect();
    assert_eq!(named, ["stream_options", "seed", "user"]);
    assert_eq!(detail[0]["type"], "extra_forbidden");
    assert_eq!(detail[0]["input"], json!({"include_usage": true}));
    let message = json!({"model": "mistral-small-latest", "messages": [
        {"role": "assistant", "content": "a", "refusal": null}, {"role": "user", "content": "b"}]});
    let detail = body(&post(Upstream::Mistral, "/v1/chat/completions", &message))["detail"].clone();
    assert_eq!(detail[0]["loc"], json!(["body", "messages", 0, "assistant", "refusal"]));
    let last = json!({"model": "mistral-small-latest", "messages": [{"role": "assistant", "content": "a"}]});
    assert_eq!(status(&post(Upstream::Mistral, "/v1/chat/completions", &last)), 400);
    let missing = body(&post(Upstream::Mistral, "/v1/chat/completions", &json!({"model": "m"})));
    assert_eq!(missing["detail"][0]["type"], "missing");
    let fim = json!({"model": "codestral-latest", "prompt": "a", "n": 2});
    assert_eq!(status(&post(Upstream::Codestral, "/v1/fim/completions", &fim)), 422);
}

#[test]
fn fim_answers_in_chat_shape_and_only_where_a_model_has_it() {
    let request = json!({"model": "codestral-latest", "prompt": "x = ", "suffix": "\nprint(x)"});
    for upstream in [Upstream::Mistral, Upstream::Codestral] {
        let answer = body(&post(upstream, "/v1/fim/completions", &request));
        assert!(answer["choices"][0]["message"]["content"].as_str().unwrap().starts_with("42"));
        assert_eq!(answer["object"], "chat.completion");
        let mut streamed = request.clone();
        streamed["stream"] = json!(true);
        let events = events(&post(upstream, "/v1/fim/completions", &streamed));
        assert_eq!(events[0]["object"], "chat.completion.chunk");
        assert!(events.iter().all(|event| event["p"].is_string()));
    }
    let wrong = json!({"model": "mistral-small-latest", "prompt": "x"});
    assert_eq!(status(&post(Upstream::Mistral, "/v1/fim/completions", &wrong)), 400);
    for (upstream, path) in [
        (Upstream::Codestral, "/v1/completions"),
        (Upstream::Codestral, "/v1/embeddings"),
        (Upstream::Mistral, "/v1/completions"),
    ] {
        let answer = post(upstream, path, &json!({}));
        assert_eq!(status(&answer), 404);
        assert_eq!(body(&answer)["message"], "no Route matched with those values");
    }
    let suffix =
        json!({"model": "accounts/fireworks/models/kimi-k2-instruct-0905", "prompt": "a", "suffix": "b"});
    let answer = body(&post(Upstream::Fireworks, "/inference/v1/completions", &suffix));
    assert!(answer["choices"][0]["text"].as_str().unwrap().starts_with("42"));
}

#[test]
fn embeddings_are_floats_and_base64_only_where_the_real_one_has_it() {
    let cases = [
        (Upstream::Ollama, "/v1/embeddings", "nomic-embed-text", 768, true),
        (Upstream::Github, "/inference/embeddings", "openai/text-embedding-3-small", 1536, true),
        (Upstream::Mistral, "/v1/embeddings", "mistral-embed", 1024, true),
        (
            Upstream::Fireworks,
            "/inference/v1/embeddings",
            "accounts/fireworks/models/qwen3-embedding-8b",
            1024,
            false,
        ),
        (Upstream::Openai, "/v1/embeddings", "text-embedding-3-small", 1536, true),
    ];
    for (upstream, path, model, dimensions, base64) in cases {
        let request = json!({"model": model, "input": ["a", "b"]});
        let floats = body(&post(upstream, path, &request));
        assert_eq!(floats["data"][1]["embedding"].as_array().unwrap().len(), dimensions, "{upstream:?}");
        assert_eq!(floats["data"][1]["index"], 1);
        assert_eq!(floats, body(&post(upstream, path, &request)), "{upstream:?}");
        let mut encoded = request.clone();
        encoded["encoding_format"] = json!("base64");
        let encoded = body(&post(upstream, path, &encoded));
        assert_eq!(encoded["data"][0]["embedding"].is_string(), base64, "{upstream:?}");
    }
}

#[test]
fn unknown_models_and_routes_are_refused_in_the_providers_own_form() {
    let cases = [
        (Upstream::Ollama, 404, "/error/message", "model 'nothing' not found"),
        (Upstream::OllamaCloud, 404, "/error/message", "model 'nothing' not found"),
        (Upstream::Github, 400, "/error/code", "unknown_model"),
        (Upstream::Mistral, 400, "/message", "Invalid model: nothing"),
        (Upstream::Codestral, 400, "/code", "1500"),
        (Upstream::Fireworks, 404, "/error/message", "Model not found, inaccessible, and/or not deployed"),
        (Upstream::Openai, 404, "/error/code", "model_not_found"),
    ];
    for (upstream, expected, pointer, message) in cases {
        let answer = post(upstream, chat_of(upstream).0, &chat("nothing", json!({})));
        assert_eq!(status(&answer), expected, "{upstream:?}");
        assert_eq!(body(&answer).pointer(pointer).unwrap(), message, "{upstream:?}");
        assert_eq!(status(&post(upstream, "/no/such/route", &json!({}))), 404, "{upstream:?}");
    }
}

#[test]
fn some_models_are_listed_and_not_callable_others_callable_and_not_listed() {
    let listed = chat("qwen3-coder:480b", json!({}));
    let answer = post(Upstream::OllamaCloud, "/v1/chat/completions", &listed);
    assert_eq!(status(&answer), 403);
    let unlisted = chat("accounts/fireworks/models/deepseek-v3p1", json!({}));
    assert_eq!(status(&post(Upstream::Fireworks, "/inference/v1/chat/completions", &unlisted)), 200);
    let org = chat("openai/gpt-4.1", json!({}));
    assert_eq!(status(&post(Upstream::Github, "/orgs/acme/inference/chat/completions", &org)), 200);
    let balance = ask(Upstream::OllamaCloud, "GET", "/api/balance", &Value::Null);
    assert_eq!(body(&balance)["included"]["allowance_usd"], 100);
}

#[test]
fn openai_refuses_what_newer_models_no_longer_take() {
    let answer =
        post(Upstream::Openai, "/v1/chat/completions", &chat("gpt-5-mini", json!({"max_tokens": 5})));
    assert_eq!((status(&answer), &body(&answer)["error"]["param"]), (400, &json!("max_tokens")));
    let answer = post(Upstream::Openai, "/v1/completions", &json!({"model": "gpt-4.1-mini", "prompt": "a"}));
    assert_eq!(status(&answer), 404);
    let answer =
        post(Upstream::Openai, "/v1/completions", &json!({"model": "gpt-3.5-turbo-instruct", "prompt": "a"}));
    assert_eq!(body(&answer)["object"], "text_completion");
}

#[test]
fn mistral_shows_its_limits_on_plain_answers_and_not_on_streams() {
    let plain =
        head(&post(Upstream::Mistral, "/v1/chat/completions", &chat("mistral-small-latest", json!({}))));
    let stream = chat("mistral-small-latest", json!({"stream": true}));
    let stream = head(&post(Upstream::Mistral, "/v1/chat/completions", &stream));
    assert!(plain.contains("x-ratelimit-remaining-tokens-minute: 49"));
    assert!(!stream.contains("x-ratelimit"));
}

#[test]
fn a_retired_github_answers_410_to_everything() {
    let setup = Setup { retired: true, ..Setup::default() };
    for target in ["/catalog/models", "/inference/chat/completions"] {
        let received = Received { target: target.to_owned(), ..Received::default() };
        let answer = Upstream::Github.answer(&setup, &received);
        assert_eq!(status(&answer), 410);
        assert_eq!(body(&answer)["error"]["code"], "github_models_retirement_brownout");
    }
}
