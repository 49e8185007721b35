//! A fake Fireworks AI Serverless, below `/inference`. Sources: docs.fireworks.ai (2026-08-22), the list as captured by
//! the original demuxai, tensorzero 7a6159a4 for usage and reasoning in streams, warpdotdev/warp#15107 (2026-08-13)
//! for the unknown model.

use serde_json::{Value, json};

use super::parrot::{self, Mind, Question, Reply, hex_id, token_id};
use super::recorded::{FIREWORKS_MODELS, FIREWORKS_UNAUTHORIZED};
use super::request::Received;
use super::script::{Answer, EventStream, Script};
use super::upstream::{CREATED, DATE, Setup, Spoken, seed, spoken};
use super::vectors::{self, Encoding};

/// A model that can be called though it is not in the list, as there are many.
const UNLISTED: &str = "accounts/fireworks/models/deepseek-v3p1";

/// What Fireworks does with a request.
pub(super) fn answer(setup: &Setup, received: &Received) -> Script {
    if !setup.admits(received) {
        return FIREWORKS_UNAUTHORIZED.script();
    }
    match (received.method.as_str(), received.path()) {
        ("GET", "/inference/v1/models") => FIREWORKS_MODELS.script(),
        ("POST", "/inference/v1/chat/completions") => chat(setup, received),
        ("POST", "/inference/v1/completions") => completion(setup, received),
        ("POST", "/inference/v1/embeddings") => embeddings(received),
        (_, path) => {
            let message = format!("Path not found: {path}");
            error(
                404,
                &json!({"object": "error", "type": "invalid_request_error", "code": "not_found",
                "message": message}),
            )
        }
    }
}

fn chat(setup: &Setup, received: &Received) -> Script {
    let body = match checked(received) {
        Ok(body) => body,
        Err(refusal) => return refusal,
    };
    let question = Question::read(&body, &["max_tokens", "max_completion_tokens"]);
    if !callable(&question.model, |model| flag(model, "supports_chat")) {
        return not_found();
    }
    let reasons = ["gpt-oss", "deepseek", "glm"].iter().any(|family| question.model.contains(family));
    let quick = body.get("reasoning_effort").is_some_and(|effort| effort == "none");
    let mind = if reasons && !quick { Mind::Thinking } else { Mind::Quick };
    let reply = parrot::chat("Fireworks", &question, mind);
    let seed = seed(received, &question);
    let call_id = format!("call_{}", token_id(&seed, 24));
    if question.stream {
        return chat_stream(setup, &question, &reply, &id(&seed), &call_id);
    }
    let mut message = json!({"role": "assistant"});
    if let Some(members) = message.as_object_mut() {
        if let Some((name, arguments)) = &reply.call {
            members.insert(
                "tool_calls".to_owned(),
                json!([{"index": 0, "id": call_id, "type": "function",
                    "function": {"name": name, "arguments": arguments}}]),
            );
        } else {
            members.insert("content".to_owned(), json!(reply.text()));
        }
        if !reply.thoughts.is_empty() {
            members.insert("reasoning_content".to_owned(), json!(reply.thinking()));
        }
    }
    limited().value(&json!({
        "id": id(&seed), "object": "chat.completion", "created": CREATED, "model": question.model,
        "choices": [{"index": 0, "message": message, "finish_reason": reply.finish}], "usage": usage(&reply),
    }))
}

/// A role-only first chunk; usage in the last one, asked for or not; tool arguments in pieces.
fn chat_stream(setup: &Setup, question: &Question, reply: &Reply, id: &str, call_id: &str) -> Script {
    let chunk = |delta: Value, finish: Option<&str>| {
        json!({"id": id, "object": "chat.completion.chunk", "created": CREATED, "model": question.model,
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
    };
    let mut stream = EventStream::new(limited_typed("text/event-stream; charset=utf-8"), setup.pace);
    stream.push(&chunk(json!({"role": "assistant"}), None).to_string());
    for token in spoken(reply) {
        let delta = match token {
            Spoken::Thought(text) => json!({"reasoning_content": text}),
            Spoken::Word(text) => json!({"content": text}),
        };
        stream.push(&chunk(delta, None).to_string());
    }
    if let Some((name, arguments)) = &reply.call {
        let first = json!({"tool_calls": [{"index": 0, "id": call_id, "type": "function",
            "function": {"name": name, "arguments": ""}}]});
        stream.push(&chunk(first, None).to_string());
        for piece in parrot::pieces(arguments) {
            let delta = json!({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]});
            stream.push(&chunk(delta, None).to_string());
        }
    }
    let mut last = chunk(json!({}), Some(reply.finish));
    if let Some(members) = last.as_object_mut() {
        members.insert("usage".to_owned(), usage(reply));
    }
    stream.push(&last.to_string());
    stream.push("[DONE]");
    stream.script()
}

fn completion(setup: &Setup, received: &Received) -> Script {
    let body = match checked(received) {
        Ok(body) => body,
        Err(refusal) => return refusal,
    };
    let question = Question::read(&body, &["max_tokens"]);
    if !callable(&question.model, |model| flag(model, "supports_chat")) {
        return not_found();
    }
    let reply = parrot::complete("Fireworks", &question);
    let id = id(&seed(received, &question));
    let whole = |text: &str, finish: Option<&str>| {
        json!({"id": id, "object": "text_completion", "created": CREATED, "model": question.model,
            "choices": [{"text": text, "index": 0, "logprobs": null, "finish_reason": finish}]})
    };
    let with_usage = |mut value: Value| {
        if let Some(members) = value.as_object_mut() {
            members.insert("usage".to_owned(), usage(&reply));
        }
        value
    };
    if !question.stream {
        return limited().value(&with_usage(whole(&reply.text(), Some(reply.finish))));
    }
    let mut stream = EventStream::new(limited_typed("text/event-stream; charset=utf-8"), setup.pace);
    for word in &reply.words {
        stream.push(&whole(word, None).to_string());
    }
    stream.push(&with_usage(whole("", Some(reply.finish))).to_string());
    stream.push("[DONE]");
    stream.script()
}

/// Vectors come as numbers whatever `encoding_format` says.
fn embeddings(received: &Received) -> Script {
    let body = match checked(received) {
        Ok(body) => body,
        Err(refusal) => return refusal,
    };
    let model = body.get("model").and_then(Value::as_str).unwrap_or_default();
    let embeds = |model: &Value| {
        model.get("kind").and_then(Value::as_str).is_some_and(|kind| kind.contains("EMBEDDING"))
    };
    if !callable(model, embeds) {
        return not_found();
    }
    let texts = vectors::inputs(body.get("input"));
    let wanted = body.get("dimensions").and_then(Value::as_u64).filter(|wanted| (1..1024).contains(wanted));
    let dimensions = usize::try_from(wanted.unwrap_or(1024)).unwrap_or(1024);
    let tokens = vectors::input_tokens(&texts);
    limited().value(&json!({
        "data": vectors::data(&texts, dimensions, Encoding::Float), "model": model, "object": "list",
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }))
}

fn checked(received: &Received) -> Result<Value, Script> {
    let body = received.json();
    if body.is_object() {
        return Ok(body);
    }
    let message = "Unable to parse request body as JSON";
    Err(error(400, &json!({"object": "error", "type": "invalid_request_error", "message": message})))
}

/// Whether a model can be called for a task; what is not listed can be, if it is real.
fn callable(id: &str, suits: impl Fn(&Value) -> bool) -> bool {
    let list = FIREWORKS_MODELS.json();
    let models = list.get("data").and_then(Value::as_array);
    let listed =
        models.and_then(|models| models.iter().find(|model| model.get("id").is_some_and(|one| one == id)));
    listed.map_or(id == UNLISTED, suits)
}

fn flag(model: &Value, key: &str) -> bool {
    model.get(key).and_then(Value::as_bool).unwrap_or_default()
}

fn not_found() -> Script {
    error(
        404,
        &json!({"object": "error", "message": "Model not found, inaccessible, and/or not deployed",
        "param": "model", "code": "NOT_FOUND", "type": "error"}),
    )
}

fn error(status: u16, inner: &Value) -> Script {
    typed(status, "application/json").value(&json!({"error": inner}))
}

fn usage(reply: &Reply) -> Value {
    json!({"prompt_tokens": reply.input, "total_tokens": reply.input + reply.output,
        "completion_tokens": reply.output, "prompt_tokens_details": {"cached_tokens": 0}})
}

/// A UUID.
fn id(seed: &[u8]) -> String {
    let digits = hex_id(seed);
    let part = |range| digits.get(range).unwrap_or_default();
    format!("{}-{}-4{}-8{}-{}", part(0..8), part(8..12), part(13..16), part(17..20), part(20..32))
}

fn typed(status: u16, content_type: &'static str) -> Answer {
    Answer::new(status)
        .header("date", DATE)
        .header("content-type", content_type)
        .header("server", "fireworks")
        .header("x-request-id", "3c1b7b7f-0a51-4b8e-9a3e-6f1d2a9b8c77")
}

fn limited() -> Answer {
    limited_typed("application/json")
}

/// A 200 with its limits; they are tokens per second (documented 2026-08-22).
fn limited_typed(content_type: &'static str) -> Answer {
    typed(200, content_type)
        .header("x-ratelimit-limit-requests", "10")
        .header("x-ratelimit-remaining-requests", "9")
        .header("x-ratelimit-limit-tokens-prompt", "60000")
        .header("x-ratelimit-remaining-tokens-prompt", "59900")
        .header("x-ratelimit-limit-tokens-generated", "600")
        .header("x-ratelimit-remaining-tokens-generated", "600")
}
