//! A fake api.openai.com, for anything that is plainly OpenAI-compatible. Shapes after OpenAI's own API description
//! (version 2.3.0); whitespace, padding and error texts recalled.

use serde_json::{Value, json};

use super::parrot::{self, Mind, Question, Reply, token_id};
use super::recorded::{OPENAI_MODELS, OPENAI_UNAUTHORIZED};
use super::request::Received;
use super::script::{Answer, EventStream, Script};
use super::upstream::{CREATED, DATE, Setup, Spoken, seed, spoken};
use super::vectors::{self, Encoding};

/// What api.openai.com does with a request.
pub(super) fn answer(setup: &Setup, received: &Received) -> Script {
    if !setup.admits(received) {
        return OPENAI_UNAUTHORIZED.script();
    }
    match (received.method.as_str(), received.path()) {
        ("GET", "/v1/models") => OPENAI_MODELS.script(),
        ("GET", path) if path.starts_with("/v1/models/") => {
            let id = path.strip_prefix("/v1/models/").unwrap_or_default();
            find(id).map_or_else(|| unknown_model(id), |entry| pretty(typed(200), &entry))
        }
        ("POST", "/v1/chat/completions") => chat(setup, received),
        ("POST", "/v1/completions") => completion(setup, received),
        ("POST", "/v1/embeddings") => embeddings(received),
        (method, path) => error(404, &format!("Invalid URL ({method} {path})"), None, None),
    }
}

fn chat(setup: &Setup, received: &Received) -> Script {
    let body = match checked(received, "messages") {
        Ok(body) => body,
        Err(refusal) => return refusal,
    };
    let question = Question::read(&body, &["max_completion_tokens", "max_tokens"]);
    if find(&question.model).is_none() || question.model.contains("embedding") {
        return unknown_model(&question.model);
    }
    if question.model.starts_with("gpt-5") && body.get("max_tokens").is_some() {
        let message = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.";
        return error(400, message, Some("max_tokens"), Some("unsupported_parameter"));
    }
    let reply = parrot::chat("OpenAI", &question, Mind::Quick);
    let seed = seed(received, &question);
    let shape = ChatShape { question: &question, reply: &reply, seed: &seed };
    if question.stream {
        shape.stream(setup).script()
    } else {
        pretty(limited("application/json"), &shape.whole())
    }
}

/// A chat answer in OpenAI's shapes.
struct ChatShape<'a> {
    question: &'a Question,
    reply: &'a Reply,
    seed: &'a [u8],
}

impl ChatShape<'_> {
    fn id(&self) -> String {
        format!("chatcmpl-{}", token_id(self.seed, 29))
    }

    fn call_id(&self) -> String {
        format!("call_{}", token_id(self.seed, 24))
    }

    fn whole(&self) -> Value {
        let reply = self.reply;
        let mut message = json!({"role": "assistant", "content": null});
        if let Some(members) = message.as_object_mut() {
            match &reply.call {
                Some((name, arguments)) => {
                    let call = json!({"id": self.call_id(), "type": "function",
                        "function": {"name": name, "arguments": arguments}});
                    members.insert("tool_calls".to_owned(), json!([call]));
                }
                None => {
                    members.insert("content".to_owned(), json!(reply.text()));
                }
            }
            members.insert("refusal".to_owned(), Value::Null);
            members.insert("annotations".to_owned(), json!([]));
        }
        json!({
            "id": self.id(), "object": "chat.completion", "created": CREATED, "model": self.question.model,
            "choices": [{"index": 0, "message": message, "logprobs": null, "finish_reason": reply.finish}],
            "usage": usage(reply), "service_tier": "default", "system_fingerprint": "fp_50cad350e4",
        })
    }

    /// With `include_usage` all chunks but the last say `usage: null`; `obfuscation` is padding.
    fn stream(&self, setup: &Setup) -> EventStream {
        let (question, reply, id) = (self.question, self.reply, self.id());
        let mut stream = EventStream::new(limited("text/event-stream; charset=utf-8"), setup.pace);
        let chunk = |choices: Value, usage: Value, padding: &str| {
            let mut chunk = json!({"id": id, "object": "chat.completion.chunk", "created": CREATED,
                "model": question.model, "service_tier": "default", "system_fingerprint": "fp_50cad350e4",
                "choices": choices});
            if let Some(members) = chunk.as_object_mut() {
                if question.include_usage {
                    members.insert("usage".to_owned(), usage);
                }
                members.insert("obfuscation".to_owned(), json!(padding));
            }
            chunk.to_string()
        };
        let mut deltas = vec![json!({"role": "assistant", "content": "", "refusal": null})];
        if let Some((name, arguments)) = &reply.call {
            deltas = vec![json!({"role": "assistant", "content": null, "tool_calls": [{"index": 0,
                "id": self.call_id(), "type": "function", "function": {"name": name, "arguments": ""}}],
                "refusal": null})];
            deltas.extend(
                parrot::pieces(arguments)
                    .into_iter()
                    .map(|piece| json!({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]})),
            );
        }
        deltas.extend(spoken(reply).map(|token| match token {
            Spoken::Thought(text) | Spoken::Word(text) => json!({"content": text}),
        }));
        let padding = "Zq3vN8kPw1Lx";
        for delta in deltas {
            let choice = json!([{"index": 0, "delta": delta, "logprobs": null, "finish_reason": null}]);
            stream.push(&chunk(choice, Value::Null, padding));
        }
        let last = json!([{"index": 0, "delta": {}, "logprobs": null, "finish_reason": reply.finish}]);
        stream.push(&chunk(last, Value::Null, ""));
        if question.include_usage {
            stream.push(&chunk(json!([]), usage(reply), "k"));
        }
        stream.push("[DONE]");
        stream
    }
}

fn completion(setup: &Setup, received: &Received) -> Script {
    let body = match checked(received, "prompt") {
        Ok(body) => body,
        Err(refusal) => return refusal,
    };
    let question = Question::read(&body, &["max_tokens"]);
    if find(&question.model).is_none() {
        return unknown_model(&question.model);
    }
    if !question.model.contains("instruct") {
        let message = "This is a chat model and not supported in the v1/completions endpoint. Did you mean to use v1/chat/completions?";
        return error(404, message, Some("model"), None);
    }
    let reply = parrot::complete("OpenAI", &question);
    let id = format!("cmpl-{}", token_id(&seed(received, &question), 29));
    let whole = |text: &str, finish: Option<&str>| {
        json!({"id": id, "object": "text_completion", "created": CREATED, "model": question.model,
            "choices": [{"text": text, "index": 0, "logprobs": null, "finish_reason": finish}]})
    };
    if !question.stream {
        let mut answer = whole(&reply.text(), Some(reply.finish));
        if let Some(members) = answer.as_object_mut() {
            members.insert("usage".to_owned(), reply.usage());
        }
        return pretty(limited("application/json"), &answer);
    }
    let mut stream = EventStream::new(limited("text/event-stream"), setup.pace);
    for word in &reply.words {
        stream.push(&whole(word, None).to_string());
    }
    stream.push(&whole("", Some(reply.finish)).to_string());
    if question.include_usage {
        let last = json!({"id": id, "object": "text_completion", "created": CREATED, "model": question.model,
            "choices": [], "usage": reply.usage()});
        stream.push(&last.to_string());
    }
    stream.push("[DONE]");
    stream.script()
}

fn embeddings(received: &Received) -> Script {
    let body = match checked(received, "input") {
        Ok(body) => body,
        Err(refusal) => return refusal,
    };
    let model = body.get("model").and_then(Value::as_str).unwrap_or_default();
    if find(model).is_none() || !model.contains("embedding") {
        return unknown_model(model);
    }
    pretty(limited("application/json"), &embedding_list(&body, model))
}

/// Embeddings in OpenAI's shape, with `dimensions` and `encoding_format`.
pub(super) fn embedding_list(body: &Value, model: &str) -> Value {
    let texts = vectors::inputs(body.get("input"));
    let wanted = body.get("dimensions").and_then(Value::as_u64).filter(|wanted| (1..1536).contains(wanted));
    let dimensions = usize::try_from(wanted.unwrap_or(1536)).unwrap_or(1536);
    let tokens = vectors::input_tokens(&texts);
    json!({"object": "list", "data": vectors::data(&texts, dimensions, Encoding::of(body)), "model": model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens}})
}

fn checked(received: &Received, required: &str) -> Result<Value, Script> {
    let body = received.json();
    let Some(members) = body.as_object() else {
        let message = "We could not parse the JSON body of your request. (HINT: This likely means you aren't using your HTTP library correctly. The OpenAI API expects a JSON payload, but what was sent was not valid JSON.)";
        return Err(error(400, message, None, None));
    };
    for field in ["model", required] {
        if !members.contains_key(field) {
            let message = format!("Missing required parameter: '{field}'.");
            return Err(error(400, &message, Some(field), Some("missing_required_parameter")));
        }
    }
    Ok(body)
}

fn find(id: &str) -> Option<Value> {
    let list = OPENAI_MODELS.json();
    list.get("data")?.as_array()?.iter().find(|model| model.get("id").is_some_and(|one| one == id)).cloned()
}

fn unknown_model(id: &str) -> Script {
    let message = format!("The model `{id}` does not exist or you do not have access to it.");
    error(404, &message, None, Some("model_not_found"))
}

/// Errors are indented by four spaces, unlike answers.
fn error(status: u16, message: &str, param: Option<&str>, code: Option<&str>) -> Script {
    let quoted = |text: Option<&str>| json!(text).to_string();
    let body = format!(
        "{{\n    \"error\": {{\n        \"message\": {},\n        \"type\": \"invalid_request_error\",\n        \"param\": {},\n        \"code\": {}\n    }}\n}}\n",
        json!(message),
        quoted(param),
        quoted(code)
    );
    typed(status).body(body)
}

/// The usage of a chat answer, with all its details.
pub(super) fn usage(reply: &Reply) -> Value {
    json!({
        "prompt_tokens": reply.input, "completion_tokens": reply.output, "total_tokens": reply.input + reply.output,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": reply.thoughts.len(), "audio_tokens": 0,
            "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0},
    })
}

/// Answers that are not streamed are pretty-printed, with a newline at the end.
fn pretty(answer: Answer, body: &Value) -> Script {
    answer.body(format!("{body:#}\n"))
}

fn typed(status: u16) -> Answer {
    headers(Answer::new(status).header("Date", DATE).header("Content-Type", "application/json"))
}

fn headers(answer: Answer) -> Answer {
    answer
        .header("openai-version", "2020-10-01")
        .header("openai-organization", "demo")
        .header("openai-processing-ms", "87")
        .header("x-request-id", "req_2f0d5d0f6f6c4a5e8a1b0c9d8e7f6a5b")
        .header("set-cookie", "__cf_bm=u6Zt; path=/; domain=.api.openai.com; HttpOnly; Secure; SameSite=None")
        .header("Server", "cloudflare")
}

/// A 200 with its limits; the resets are Go durations (measured 2026-07).
fn limited(content_type: &'static str) -> Answer {
    headers(Answer::new(200).header("Date", DATE).header("Content-Type", content_type))
        .header("x-ratelimit-limit-requests", "500")
        .header("x-ratelimit-limit-tokens", "200000")
        .header("x-ratelimit-remaining-requests", "499")
        .header("x-ratelimit-remaining-tokens", "199985")
        .header("x-ratelimit-reset-requests", "120ms")
        .header("x-ratelimit-reset-tokens", "4ms")
}
