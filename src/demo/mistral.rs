//! A fake api.mistral.ai: strict bodies, chat-shaped FIM, usage in the last chunk, padding in every chunk.
//! Sources: mistralai/client-python 05629d23 (2026-06-30) for fields and shapes, user reports for the error texts.

use serde_json::{Value, json};

use super::parrot::{self, Mind, Question, Reply, hex_id, token_id};
use super::recorded::{MISTRAL_MODELS, MISTRAL_NO_ROUTE, MISTRAL_UNAUTHORIZED, Recorded};
use super::request::Received;
use super::script::{Answer, EventStream, Script};
use super::upstream::{CREATED, DATE, Setup, Spoken, seed, spoken};
use super::vectors::{self, Encoding};

/// What sets one host with this API apart from another.
pub(super) struct Host {
    /// How the parrot calls itself.
    pub who: &'static str,
    /// `GET /v1/models`: also says which models there are and what they can do.
    pub models: &'static Recorded,
    /// Whether it has `/v1/embeddings`.
    pub embeddings: bool,
}

const API: Host = Host { who: "Mistral", models: &MISTRAL_MODELS, embeddings: true };

/// What api.mistral.ai does with a request.
pub(super) fn answer(setup: &Setup, received: &Received) -> Script {
    API.answer(setup, received)
}

const CHAT_FIELDS: &[&str] = &[
    "model",
    "messages",
    "temperature",
    "top_p",
    "max_tokens",
    "stream",
    "stop",
    "random_seed",
    "metadata",
    "response_format",
    "tools",
    "tool_choice",
    "presence_penalty",
    "frequency_penalty",
    "n",
    "prediction",
    "parallel_tool_calls",
    "reasoning_effort",
    "prompt_mode",
    "guardrails",
    "prompt_cache_key",
    "safe_prompt",
];

const FIM_FIELDS: &[&str] = &[
    "model",
    "prompt",
    "suffix",
    "temperature",
    "top_p",
    "max_tokens",
    "min_tokens",
    "stream",
    "stop",
    "random_seed",
    "metadata",
    "prompt_cache_key",
];

const EMBEDDING_FIELDS: &[&str] =
    &["model", "input", "metadata", "output_dimension", "output_dtype", "encoding_format"];

const MESSAGE_FIELDS: &[&str] = &["role", "content", "tool_calls", "prefix", "tool_call_id", "name"];

impl Host {
    /// What this host does with a request.
    pub fn answer(&self, setup: &Setup, received: &Received) -> Script {
        let path = received.path();
        let model = path.strip_prefix("/v1/models/");
        let known = matches!(
            (received.method.as_str(), path),
            ("GET", "/v1/models") | ("POST", "/v1/chat/completions" | "/v1/fim/completions")
        ) || (received.method == "GET" && model.is_some())
            || (self.embeddings && received.method == "POST" && path == "/v1/embeddings");
        if !known {
            return MISTRAL_NO_ROUTE.script();
        }
        if !setup.admits(received) {
            return MISTRAL_UNAUTHORIZED.script();
        }
        match (path, model) {
            ("/v1/models", _) => self.models.script(),
            (_, Some(id)) => match self.find(id) {
                Some(entry) => ok().value(&entry),
                None => error(404, &format!("Model not found: {id}"), "invalid_model", "1500"),
            },
            ("/v1/chat/completions", _) => self.chat(setup, received),
            ("/v1/fim/completions", _) => self.fim(setup, received),
            _ => self.embeddings(received),
        }
    }

    fn chat(&self, setup: &Setup, received: &Received) -> Script {
        let body = match checked(received, CHAT_FIELDS, "messages") {
            Ok(body) => body,
            Err(refusal) => return refusal,
        };
        if let Some(refusal) = check_messages(&body) {
            return refusal;
        }
        let question = Question::read(&body, &["max_tokens"]);
        let Some(model) = self.find(&question.model).filter(|model| can(model, "completion_chat")) else {
            return invalid_model(&question.model);
        };
        let mind = if can(&model, "reasoning") { Mind::Thinking } else { Mind::Quick };
        let reply = parrot::chat(self.who, &question, mind);
        respond(setup, received, &question, &reply)
    }

    fn fim(&self, setup: &Setup, received: &Received) -> Script {
        let body = match checked(received, FIM_FIELDS, "prompt") {
            Ok(body) => body,
            Err(refusal) => return refusal,
        };
        let question = Question::read(&body, &["max_tokens"]);
        if self.find(&question.model).is_none_or(|model| !can(&model, "completion_fim")) {
            return invalid_model(&question.model);
        }
        let reply = parrot::complete(self.who, &question);
        respond(setup, received, &question, &reply)
    }

    fn embeddings(&self, received: &Received) -> Script {
        let body = match checked(received, EMBEDDING_FIELDS, "input") {
            Ok(body) => body,
            Err(refusal) => return refusal,
        };
        let question = Question::read(&body, &[]);
        let embeds = question.model.contains("embed") && self.find(&question.model).is_some();
        if !embeds {
            return invalid_model(&question.model);
        }
        let texts = vectors::inputs(body.get("input"));
        let full = if question.model.starts_with("codestral") { 1536 } else { 1024 };
        let wanted =
            body.get("output_dimension").and_then(Value::as_u64).filter(|wanted| (1..full).contains(wanted));
        let dimensions = usize::try_from(wanted.unwrap_or(full)).unwrap_or(1024);
        let tokens = vectors::input_tokens(&texts);
        limited(tokens).value(&json!({
            "id": hex_id(&seed(received, &question)),
            "object": "list",
            "data": vectors::data(&texts, dimensions, Encoding::of(&body)),
            "model": question.model,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens, "completion_tokens": 0},
        }))
    }

    fn find(&self, id: &str) -> Option<Value> {
        let list = self.models.json();
        let models = list.get("data")?.as_array()?;
        models.iter().find(|model| model.get("id").and_then(Value::as_str) == Some(id)).cloned()
    }
}

/// Chat and FIM answer in the same shape.
fn respond(setup: &Setup, received: &Received, question: &Question, reply: &Reply) -> Script {
    let seed = seed(received, question);
    let id = hex_id(&seed);
    let calls = reply.call.as_ref().map(|(name, arguments)| {
        // Mistral's call ids have nine letters or digits.
        json!([{"id": token_id(&seed, 9), "function": {"name": name, "arguments": arguments}, "index": 0}])
    });
    if question.stream {
        return stream(setup, question, reply, calls, &id);
    }
    let content = if reply.thoughts.is_empty() {
        json!(reply.text())
    } else {
        json!([thinking(&reply.thinking(), true), {"type": "text", "text": reply.text()}])
    };
    limited(reply.input + reply.output).value(&json!({
        "id": id,
        "created": CREATED,
        "model": question.model,
        "usage": usage(reply),
        "object": "chat.completion",
        "choices": [{"index": 0, "finish_reason": reply.finish,
            "message": {"role": "assistant", "tool_calls": calls, "content": content}}],
    }))
}

/// Role in a first chunk of its own; tool calls, finish reason and usage in the last one; `p` is padding.
fn stream(setup: &Setup, question: &Question, reply: &Reply, calls: Option<Value>, id: &str) -> Script {
    let mut events = Vec::new();
    events.push((json!({"role": "assistant", "content": ""}), None));
    for token in spoken(reply) {
        let content = match token {
            Spoken::Thought(text) => json!([thinking(text, false)]),
            Spoken::Word(text) => json!(text),
        };
        events.push((json!({"content": content}), None));
    }
    let last = match calls {
        Some(calls) => json!({"content": "", "tool_calls": calls}),
        None => json!({"content": ""}),
    };
    events.push((last, Some(reply.finish)));
    // Streamed answers carry no limits (measured 2026-07-26).
    let answer = ok_typed("text/event-stream; charset=utf-8");
    let mut stream = EventStream::new(answer, setup.pace);
    for (position, (delta, finish)) in events.into_iter().enumerate() {
        let mut chunk = json!({"id": id, "object": "chat.completion.chunk", "created": CREATED,
            "model": question.model});
        if let Some(members) = chunk.as_object_mut() {
            members
                .insert("choices".to_owned(), json!([{"index": 0, "delta": delta, "finish_reason": finish}]));
            if finish.is_some() {
                members.insert("usage".to_owned(), usage(reply));
            }
            members.insert("p".to_owned(), json!(padding(position)));
        }
        stream.push(&chunk.to_string());
    }
    stream.push("[DONE]");
    stream.script()
}

fn thinking(text: &str, closed: bool) -> Value {
    let mut part = json!({"type": "thinking", "thinking": [{"type": "text", "text": text}]});
    if let (true, Some(members)) = (closed, part.as_object_mut()) {
        members.insert("closed".to_owned(), json!(true));
    }
    part
}

fn usage(reply: &Reply) -> Value {
    json!({"prompt_tokens": reply.input, "total_tokens": reply.input + reply.output,
        "completion_tokens": reply.output})
}

/// The real padding is random; this one differs from chunk to chunk in the same way.
fn padding(position: usize) -> String {
    "abcdefghijklmnopqrstuvwxyz0123456789".chars().take(1 + position * 7 % 36).collect()
}

/// The body, if all its fields are known and the required one is there.
fn checked(received: &Received, fields: &[&str], required: &str) -> Result<Value, Script> {
    let parsed: Result<Value, _> = serde_json::from_slice(&received.body);
    let body = parsed.map_err(|problem| {
        detail(json!([{"type": "json_invalid", "loc": ["body", problem.column()], "msg": "JSON decode error",
            "input": {}, "ctx": {"error": "Expecting value"}}]))
    })?;
    let Some(members) = body.as_object() else {
        return Err(detail(json!([{"type": "model_attributes_type", "loc": ["body"],
            "msg": "Input should be a valid dictionary or object to extract fields from", "input": body}])));
    };
    let mut problems = Vec::new();
    for field in ["model", required] {
        if !members.contains_key(field) {
            problems.push(json!({"type": "missing", "loc": ["body", field], "msg": "Field required",
                "input": body}));
        }
    }
    for (key, value) in members {
        if !fields.contains(&key.as_str()) {
            problems.push(extra(json!(["body", key]), value));
        }
    }
    if problems.is_empty() { Ok(body) } else { Err(detail(Value::Array(problems))) }
}

/// Messages are checked as strictly as the body, and the last one must be somebody else's than the model's.
fn check_messages(body: &Value) -> Option<Script> {
    let messages = body.get("messages").and_then(Value::as_array)?;
    let mut problems = Vec::new();
    for (position, message) in messages.iter().enumerate() {
        let role = message.get("role").and_then(Value::as_str).unwrap_or("user");
        for (key, value) in message.as_object()? {
            if !MESSAGE_FIELDS.contains(&key.as_str()) {
                problems.push(extra(json!(["body", "messages", position, role, key]), value));
            }
        }
    }
    if !problems.is_empty() {
        return Some(detail(Value::Array(problems)));
    }
    let last = messages.last()?;
    let by_model = last.get("role").is_some_and(|role| role == "assistant");
    let prefix = last.get("prefix").and_then(Value::as_bool).unwrap_or_default();
    (by_model && !prefix).then(|| {
        let message =
            "Expected last role User or Tool (or Assistant with prefix True) for serving but got assistant";
        error(400, message, "invalid_request_message_order", "3230")
    })
}

fn extra(location: Value, value: &Value) -> Value {
    json!({"type": "extra_forbidden", "loc": location, "msg": "Extra inputs are not permitted", "input": value})
}

fn detail(problems: Value) -> Script {
    typed(422, "application/json").value(&json!({"detail": problems}))
}

fn invalid_model(model: &str) -> Script {
    error(400, &format!("Invalid model: {model}"), "invalid_model", "1500")
}

fn error(status: u16, message: &str, kind: &str, code: &str) -> Script {
    let body = json!({"object": "error", "message": message, "type": kind, "param": null, "code": code});
    typed(status, "application/json").value(&body)
}

fn can(model: &Value, capability: &str) -> bool {
    let flag = model.get("capabilities").and_then(|capabilities| capabilities.get(capability));
    flag.and_then(Value::as_bool).unwrap_or_default()
}

fn ok() -> Answer {
    ok_typed("application/json")
}

fn ok_typed(content_type: &'static str) -> Answer {
    typed(200, content_type)
        .header("x-kong-upstream-latency", "212")
        .header("x-kong-proxy-latency", "5")
        .header("cf-cache-status", "DYNAMIC")
        .header("set-cookie", "__cf_bm=Fk2j0; path=/; domain=.mistral.ai; HttpOnly; Secure; SameSite=None")
        .header("alt-svc", "h3=\":443\"; ma=86400")
}

fn typed(status: u16, content_type: &'static str) -> Answer {
    Answer::new(status)
        .header("date", DATE)
        .header("content-type", content_type)
        .header("mistral-correlation-id", "019ab0c4-5d1e-7c3a-9f0b-2f6d7e8a9b0c")
        .header("server", "cloudflare")
}

/// A plain 200 with the limits that it carries (measured 2026-07-26).
fn limited(cost: usize) -> Answer {
    ok().header("x-ratelimit-limit-req-minute", "60")
        .header("x-ratelimit-remaining-req-minute", "59")
        .header("x-ratelimit-limit-tokens-minute", "50000")
        .header("x-ratelimit-remaining-tokens-minute", 50_000_usize.saturating_sub(cost).to_string())
        .header("x-ratelimit-limit-tokens-month", "4000000")
        .header("x-ratelimit-remaining-tokens-month", 4_000_000_usize.saturating_sub(cost).to_string())
        .header("x-ratelimit-tokens-query-cost", cost.to_string())
}
