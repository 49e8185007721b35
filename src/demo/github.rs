//! A fake GitHub Models with its last published API (it was retired on 2026-07-30): `/catalog/models` and
//! `/inference/…`, answering as the Azure servers behind it did. Chunk shapes recalled; limits measured 2026-07-26.

use serde_json::{Value, json};

use super::openai::{embedding_list, usage};
use super::parrot::{self, Mind, Question, Reply, token_id};
use super::recorded::{GITHUB_GONE, GITHUB_MODELS, GITHUB_UNAUTHORIZED};
use super::request::Received;
use super::script::{Answer, EventStream, Script};
use super::upstream::{CREATED, DATE, Setup, Spoken, seed, spoken};

/// What GitHub Models did with a request.
pub(super) fn answer(setup: &Setup, received: &Received) -> Script {
    if setup.retired {
        return GITHUB_GONE.script();
    }
    let path = received.path();
    let inference = path.strip_prefix("/inference").or_else(|| {
        // /orgs/{org}/inference/… is the same, billed to an organisation.
        path.strip_prefix("/orgs/")
            .and_then(|rest| rest.split_once('/'))
            .and_then(|(_, rest)| rest.strip_prefix("inference"))
    });
    let task = match (received.method.as_str(), path, inference) {
        ("GET", "/catalog/models", _) => None,
        ("POST", _, Some(task @ ("/chat/completions" | "/embeddings"))) => Some(task),
        _ => {
            return Answer::new(404)
                .header("Content-Type", "text/plain; charset=utf-8")
                .body("404 page not found\n");
        }
    };
    if !setup.admits(received) {
        return GITHUB_UNAUTHORIZED.script();
    }
    match task {
        None => GITHUB_MODELS.script(),
        Some("/embeddings") => embeddings(received),
        Some(_) => chat(setup, received),
    }
}

fn chat(setup: &Setup, received: &Received) -> Script {
    let body = received.json();
    if body.get("messages").is_none() {
        return error(400, "BadRequest", "The request body must hold messages.");
    }
    let question = Question::read(&body, &["max_tokens", "max_completion_tokens"]);
    let Some(model) = find(&question.model).filter(|model| !embeds(model)) else {
        return unknown(&question.model);
    };
    let reasons = model
        .get("tags")
        .and_then(Value::as_array)
        .is_some_and(|tags| tags.iter().any(|tag| tag == "reasoning"));
    let reply = parrot::chat("GitHub Models", &question, if reasons { Mind::Thinking } else { Mind::Quick });
    let seed = seed(received, &question);
    let call_id = format!("call_{}", token_id(&seed, 24));
    let id = format!("chatcmpl-{}", token_id(&seed, 29));
    // The deployment behind the catalogue's name.
    let deployed = question.model.rsplit('/').next().unwrap_or_default().to_owned();
    if question.stream {
        return chat_stream(setup, &question, &reply, &deployed, &id, &call_id);
    }
    let mut message = json!({"annotations": [], "content": null, "refusal": null, "role": "assistant"});
    if let Some(members) = message.as_object_mut() {
        if let Some((name, arguments)) = &reply.call {
            let call = json!({"function": {"arguments": arguments, "name": name}, "id": call_id, "type": "function"});
            members.insert("tool_calls".to_owned(), json!([call]));
        } else {
            members.insert("content".to_owned(), json!(reply.text()));
        }
        if !reply.thoughts.is_empty() {
            members.insert("reasoning_content".to_owned(), json!(reply.thinking()));
        }
    }
    limited("application/json; charset=utf-8").value(&json!({
        "choices": [{"content_filter_results": {}, "finish_reason": reply.finish, "index": 0, "logprobs": null,
            "message": message}],
        "created": CREATED, "id": id, "model": deployed, "object": "chat.completion",
        "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": {}}],
        "system_fingerprint": "fp_178c8d546f", "usage": usage(&reply),
    }))
}

/// Azure's streams begin with a chunk that has no choices, no id and no model: the verdict on the prompt.
fn chat_stream(
    setup: &Setup,
    question: &Question,
    reply: &Reply,
    deployed: &str,
    id: &str,
    call_id: &str,
) -> Script {
    let mut stream = EventStream::new(limited("text/event-stream; charset=utf-8"), setup.pace);
    stream.push(
        &json!({"choices": [], "created": 0, "id": "", "model": "", "object": "",
            "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": {}}]})
        .to_string(),
    );
    let chunk = |choices: Value, usage: Option<Value>| {
        let mut chunk = json!({"choices": choices, "created": CREATED, "id": id, "model": deployed,
            "object": "chat.completion.chunk", "system_fingerprint": "fp_178c8d546f"});
        if let (Some(members), true) = (chunk.as_object_mut(), question.include_usage) {
            members.insert("usage".to_owned(), usage.unwrap_or(Value::Null));
        }
        chunk.to_string()
    };
    let choice = |delta: Value, finish: Option<&str>| json!([{"content_filter_results": {}, "delta": delta, "finish_reason": finish, "index": 0, "logprobs": null}]);
    let mut deltas = vec![json!({"content": "", "refusal": null, "role": "assistant"})];
    deltas.extend(spoken(reply).map(|token| match token {
        Spoken::Thought(text) => json!({"reasoning_content": text}),
        Spoken::Word(text) => json!({"content": text}),
    }));
    if let Some((name, arguments)) = &reply.call {
        deltas.push(
            json!({"tool_calls": [{"function": {"arguments": "", "name": name}, "id": call_id, "index": 0,
            "type": "function"}]}),
        );
        deltas.extend(
            parrot::pieces(arguments)
                .into_iter()
                .map(|piece| json!({"tool_calls": [{"function": {"arguments": piece}, "index": 0}]})),
        );
    }
    for delta in deltas {
        stream.push(&chunk(choice(delta, None), None));
    }
    stream.push(&chunk(choice(json!({}), Some(reply.finish)), None));
    if question.include_usage {
        stream.push(&chunk(json!([]), Some(usage(reply))));
    }
    stream.push("[DONE]");
    stream.script()
}

fn embeddings(received: &Received) -> Script {
    let body = received.json();
    let model = body.get("model").and_then(Value::as_str).unwrap_or_default();
    if find(model).is_none_or(|model| !embeds(&model)) {
        return unknown(model);
    }
    let deployed = model.rsplit('/').next().unwrap_or_default();
    limited("application/json").value(&embedding_list(&body, deployed))
}

fn find(id: &str) -> Option<Value> {
    let list = GITHUB_MODELS.json();
    list.as_array()?.iter().find(|model| model.get("id").is_some_and(|one| one == id)).cloned()
}

fn embeds(model: &Value) -> bool {
    let output = model.get("supported_output_modalities").and_then(Value::as_array);
    output.is_some_and(|all| all.iter().any(|one| one == "embeddings"))
}

fn unknown(id: &str) -> Script {
    error(400, "unknown_model", &format!("Unknown model: {id}"))
}

fn error(status: u16, code: &str, message: &str) -> Script {
    typed(status, "application/json; charset=utf-8")
        .value(&json!({"error": {"code": code, "message": message, "details": message}}))
}

fn typed(status: u16, content_type: &'static str) -> Answer {
    Answer::new(status)
        .header("Content-Type", content_type)
        .header("Date", DATE)
        .header("X-GitHub-Request-Id", "8C02:1B4E:9F3A21:A0C4D7:6921A840")
}

/// A 200 with its limits, which were not the binding ones (measured 2026-07-26).
fn limited(content_type: &'static str) -> Answer {
    typed(200, content_type)
        .header("x-ratelimit-limit-requests", "20000")
        .header("x-ratelimit-remaining-requests", "19999")
        .header("x-ratelimit-renewalperiod-requests", "60")
        .header("x-ratelimit-limit-tokens", "2000000")
        .header("x-ratelimit-remaining-tokens", "1999985")
        .header("apim-request-id", "5c1f8a0e-4f1b-4b7e-9d0a-2f3e4d5c6b7a")
}
