//! A fake Ollama, after the source of ollama/ollama fb307609 (2026-08-21): `server/routes.go`, `middleware/openai.go`,
//! `openai/openai.go`, `api/types.go`. Ignores what it does not know; knows nothing of the product.
//! The native `/api/chat` and `/api/generate` are not played: demuxai speaks to the `/v1` routes.

use std::borrow::Cow;

use serde_json::{Value, json};

use super::parrot::{self, Mind, Question, Reply, fingerprint};
use super::recorded::{OLLAMA_MODELS, OLLAMA_TAGS, Recorded};
use super::request::Received;
use super::script::{Answer, EventStream, Script};
use super::upstream::{CREATED, DATE, Setup, Spoken, seed, spoken};
use super::vectors::{self, Encoding};

/// What sets one host with this API apart from another.
pub(super) struct Host {
    /// How the parrot calls itself.
    pub who: &'static str,
    /// `GET /api/tags`: also says which models there are and what they can do.
    pub tags: &'static Recorded,
    /// `GET /v1/models`.
    pub models: &'static Recorded,
    /// Headers after the content type.
    pub headers: &'static [(&'static str, &'static str)],
}

const LOCAL: Host =
    Host { who: "Ollama", tags: &OLLAMA_TAGS, models: &OLLAMA_MODELS, headers: &[("Date", DATE)] };

/// What a local Ollama does with a request.
pub(super) fn answer(setup: &Setup, received: &Received) -> Script {
    LOCAL.answer(setup, received)
}

impl Host {
    /// What this host does with a request.
    pub fn answer(&self, setup: &Setup, received: &Received) -> Script {
        let path = received.path();
        match (received.method.as_str(), path) {
            ("GET", "/") => self.typed(200, "text/plain; charset=utf-8").body("Ollama is running"),
            ("HEAD", "/") => {
                Script::new().write(self.typed(200, "text/plain; charset=utf-8").declared(17).head())
            }
            ("GET", "/api/version") => self.native(200, &json!({"version": "0.24.1"})),
            ("GET", "/api/tags") => self.tags.script(),
            ("GET", "/api/ps") => self.native(200, &json!({"models": []})),
            ("POST", "/api/show") => self.show(&received.json()),
            ("GET", "/v1/models") => self.models.script(),
            ("GET", _) if path.starts_with("/v1/models/") => {
                self.model(path.strip_prefix("/v1/models/").unwrap_or_default())
            }
            ("POST", "/v1/chat/completions") => self.chat(setup, received),
            ("POST", "/v1/completions") => self.completion(setup, received),
            ("POST", "/v1/embeddings") => self.embeddings(received),
            (_, "/api/tags" | "/api/show" | "/v1/models" | "/v1/chat/completions" | "/v1/completions") => {
                self.typed(405, "text/plain").body("405 method not allowed")
            }
            _ => self.typed(404, "text/plain").body("404 page not found"),
        }
    }

    fn show(&self, body: &Value) -> Script {
        let name = body.get("model").or_else(|| body.get("name")).and_then(Value::as_str).unwrap_or_default();
        let Some(model) = self.find(name) else {
            return self.native(404, &json!({"error": format!("model '{name}' not found")}));
        };
        let detail = |key: &str| model.pointer(&format!("/details/{key}")).cloned().unwrap_or(Value::Null);
        let family = detail("family").as_str().unwrap_or_default().to_owned();
        let template = if has(&model, "insert") {
            "{{- if .Suffix }}<|fim_prefix|>{{ .Prompt }}<|fim_suffix|>{{ .Suffix }}<|fim_middle|>{{ else }}{{ .Prompt }}{{ end }}"
        } else {
            "{{ .Prompt }}"
        };
        let mut info = json!({"general.architecture": family, "general.file_type": 15});
        if let Some(info) = info.as_object_mut() {
            info.insert(format!("{family}.context_length"), detail("context_length"));
            info.insert(format!("{family}.embedding_length"), detail("embedding_length"));
        }
        let shown = json!({
            "license": "demonstration only",
            "modelfile": format!("FROM {name}\n"),
            "parameters": "stop \"<|im_end|>\"",
            "template": template,
            "details": model.get("details"),
            "model_info": info,
            "capabilities": model.get("capabilities"),
            "modified_at": model.get("modified_at"),
        });
        self.native(200, &shown)
    }

    fn model(&self, id: &str) -> Script {
        let id = id.replace("%3A", ":").replace("%2F", "/");
        let list = self.models.json();
        let entry = list.get("data").and_then(Value::as_array).and_then(|models| {
            models.iter().find(|model| model.get("id").and_then(Value::as_str) == Some(&id))
        });
        match entry {
            Some(entry) => self.v1(200, entry),
            None => self.error(404, &format!("model '{id}' not found")),
        }
    }

    fn chat(&self, setup: &Setup, received: &Received) -> Script {
        let Some(body) = object(received) else { return self.malformed(received) };
        let question = Question::read(&body, &["max_tokens"]);
        let messages = body.get("messages").and_then(Value::as_array);
        if messages.is_none_or(Vec::is_empty) {
            return self.error(400, "[] is too short - 'messages'");
        }
        let Some(model) = self.find(&question.model) else { return self.unknown(&question.model) };
        if !has(&model, "completion") {
            return self.error(400, &format!("\"{}\" does not support chat", question.model));
        }
        if body.get("tools").and_then(Value::as_array).is_some_and(|tools| !tools.is_empty())
            && !has(&model, "tools")
        {
            return self.cannot(&question.model, "tools");
        }
        let effort = body.get("reasoning_effort").or_else(|| body.pointer("/reasoning/effort"));
        let effort = effort.and_then(Value::as_str);
        if effort.is_some_and(|effort| effort != "none") && !has(&model, "thinking") {
            return self.error(400, &format!("\"{}\" does not support thinking", question.model));
        }
        let mind =
            if has(&model, "thinking") && effort != Some("none") { Mind::Thinking } else { Mind::Quick };
        let reply = parrot::chat(self.who, &question, mind);
        let seed = seed(received, &question);
        let id = format!("chatcmpl-{}", fingerprint(&seed) % 999);
        let calls = reply.call.as_ref().map(|(name, arguments)| {
            json!([{"id": format!("call_{}", parrot::token_id(&seed, 8).to_lowercase()), "index": 0,
                "type": "function", "function": {"name": name, "arguments": arguments}}])
        });
        if question.stream {
            return self.chat_stream(setup, &question, &reply, calls, &id);
        }
        let mut message = json!({"role": "assistant", "content": reply.text()});
        set(&mut message, "reasoning", (!reply.thoughts.is_empty()).then(|| json!(reply.thinking())));
        set(&mut message, "tool_calls", calls);
        self.v1(
            200,
            &json!({"id": id, "object": "chat.completion", "created": CREATED, "model": question.model,
                "system_fingerprint": "fp_ollama",
                "choices": [{"index": 0, "message": message, "finish_reason": reply.finish}],
                "usage": reply.usage()}),
        )
    }

    /// Role only in the first chunk; the finish chunk is empty; the usage chunk comes only when it is asked for.
    fn chat_stream(
        &self,
        setup: &Setup,
        question: &Question,
        reply: &Reply,
        calls: Option<Value>,
        id: &str,
    ) -> Script {
        let chunk = |choices: Value| {
            json!({"id": id, "object": "chat.completion.chunk", "created": CREATED, "model": question.model,
                "system_fingerprint": "fp_ollama", "choices": choices})
        };
        let choice = |delta: Value, finish: Option<&str>| {
            chunk(json!([{"index": 0, "delta": delta, "finish_reason": finish}]))
        };
        let mut stream = self.stream(setup);
        let said = spoken(reply).map(|token| match token {
            Spoken::Thought(text) => json!({"content": "", "reasoning": text}),
            Spoken::Word(text) => json!({"content": text}),
        });
        let called = calls.map(|calls| json!({"content": "", "tool_calls": calls}));
        for (position, mut delta) in said.chain(called).enumerate() {
            if position == 0
                && let Some(members) = delta.as_object_mut()
            {
                members.shift_insert(0, "role".to_owned(), json!("assistant"));
            }
            stream.push(&go_json(&choice(delta, None)));
        }
        stream.push(&go_json(&choice(json!({}), Some(reply.finish))));
        if question.include_usage {
            let mut last = chunk(json!([]));
            set(&mut last, "usage", Some(reply.usage()));
            stream.push(&go_json(&last));
        }
        stream.push("[DONE]");
        stream.script()
    }

    fn completion(&self, setup: &Setup, received: &Received) -> Script {
        let Some(body) = object(received) else { return self.malformed(received) };
        if body.get("prompt").is_some_and(|prompt| !prompt.is_string() && !prompt.is_null()) {
            return self.error(
                400,
                "json: cannot unmarshal array into Go struct field CompletionRequest.prompt of type string",
            );
        }
        let question = Question::read(&body, &["max_tokens"]);
        let Some(model) = self.find(&question.model) else { return self.unknown(&question.model) };
        if !has(&model, "completion") {
            return self.error(400, &format!("\"{}\" does not support generate", question.model));
        }
        if question.suffix.is_some() && !has(&model, "insert") {
            return self.cannot(&question.model, "insert");
        }
        let reply = parrot::complete(self.who, &question);
        let id = format!("cmpl-{}", fingerprint(&seed(received, &question)) % 999);
        if question.stream {
            return self.completion_stream(setup, &question, &reply, &id);
        }
        self.v1(
            200,
            &json!({"id": id, "object": "text_completion", "created": CREATED, "model": question.model,
                "system_fingerprint": "fp_ollama",
                "choices": [{"text": reply.text(), "index": 0, "finish_reason": reply.finish}],
                "usage": reply.usage()}),
        )
    }

    /// With `include_usage` every chunk carries zeros before the real numbers come.
    fn completion_stream(&self, setup: &Setup, question: &Question, reply: &Reply, id: &str) -> Script {
        let chunk = |choices: Value, usage: Value| {
            let mut chunk = json!({"id": id, "object": "text_completion", "created": CREATED, "choices": choices,
                "model": question.model, "system_fingerprint": "fp_ollama"});
            set(&mut chunk, "usage", question.include_usage.then_some(usage));
            go_json(&chunk)
        };
        let zero = || json!({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0});
        let mut stream = self.stream(setup);
        for word in &reply.words {
            stream.push(&chunk(json!([{"text": word, "index": 0, "finish_reason": null}]), zero()));
        }
        stream.push(&chunk(json!([{"text": "", "index": 0, "finish_reason": reply.finish}]), zero()));
        if question.include_usage {
            stream.push(&chunk(json!([]), reply.usage()));
        }
        stream.push("[DONE]");
        stream.script()
    }

    fn embeddings(&self, received: &Received) -> Script {
        let Some(body) = object(received) else { return self.malformed(received) };
        let name = body.get("model").and_then(Value::as_str).unwrap_or_default();
        let texts = vectors::inputs(body.get("input"));
        if texts.is_empty() || texts.iter().any(|text| text.starts_with('[')) {
            return self.error(400, "invalid input");
        }
        let Some(model) = self.find(name) else { return self.unknown(name) };
        if !has(&model, "embedding") {
            return self.error(400, "this model does not support embeddings");
        }
        let length = model.pointer("/details/embedding_length").and_then(Value::as_u64).unwrap_or(768);
        let wanted =
            body.get("dimensions").and_then(Value::as_u64).filter(|wanted| (1..length).contains(wanted));
        let dimensions = usize::try_from(wanted.unwrap_or(length)).unwrap_or(768);
        let tokens = vectors::input_tokens(&texts);
        self.v1(
            200,
            &json!({"object": "list", "data": vectors::data(&texts, dimensions, Encoding::of(&body)), "model": name,
                "usage": {"prompt_tokens": tokens, "total_tokens": tokens}}),
        )
    }

    /// A model by its name; a name without a tag means `:latest`.
    fn find(&self, name: &str) -> Option<Value> {
        let tagged =
            if name.contains(':') { Cow::Borrowed(name) } else { Cow::Owned(format!("{name}:latest")) };
        let tags = self.tags.json();
        let models = tags.get("models")?.as_array()?;
        models.iter().find(|model| model.get("name").and_then(Value::as_str) == Some(&tagged)).cloned()
    }

    fn unknown(&self, model: &str) -> Script {
        self.error(404, &format!("model '{model}' not found"))
    }

    fn cannot(&self, model: &str, capability: &str) -> Script {
        self.error(400, &format!("registry.ollama.ai/library/{model} does not support {capability}"))
    }

    fn malformed(&self, received: &Received) -> Script {
        let message = if received.body.is_empty() {
            "EOF".to_owned()
        } else {
            let first = received.body.first().copied().map_or(' ', char::from);
            format!("invalid character '{first}' looking for beginning of value")
        };
        self.error(400, &message)
    }

    /// An error on a `/v1` route.
    pub fn error(&self, status: u16, message: &str) -> Script {
        let kind = match status {
            400 => "invalid_request_error",
            404 => "not_found_error",
            _ => "api_error",
        };
        self.v1(status, &json!({"error": {"message": message, "type": kind, "param": null, "code": null}}))
    }

    /// JSON as Go's encoder writes it on the `/v1` routes, with a newline at the end.
    fn v1(&self, status: u16, body: &Value) -> Script {
        self.typed(status, "application/json").body(format!("{}\n", go_json(body)))
    }

    fn native(&self, status: u16, body: &Value) -> Script {
        self.typed(status, "application/json; charset=utf-8").body(go_json(body))
    }

    fn stream(&self, setup: &Setup) -> EventStream {
        EventStream::new(self.typed(200, "text/event-stream"), setup.pace)
    }

    fn typed(&self, status: u16, content_type: &'static str) -> Answer {
        let answer = Answer::new(status).header("Content-Type", content_type);
        self.headers.iter().fold(answer, |answer, (name, value)| answer.header(*name, *value))
    }
}

/// The body when it is a JSON object.
fn object(received: &Received) -> Option<Value> {
    Some(received.json()).filter(Value::is_object)
}

fn has(model: &Value, capability: &str) -> bool {
    let capabilities = model.get("capabilities").and_then(Value::as_array);
    capabilities.is_some_and(|all| all.iter().any(|one| one == capability))
}

/// Adds a member to an object, unless there is no value.
fn set(object: &mut Value, key: &str, value: Option<Value>) {
    if let (Some(members), Some(value)) = (object.as_object_mut(), value) {
        members.insert(key.to_owned(), value);
    }
}

/// Go escapes `<`, `>` and `&` inside strings; JSON has them nowhere else.
fn go_json(value: &Value) -> String {
    value.to_string().replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}
