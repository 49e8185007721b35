//! Reads model lists of any OpenAI-compatible upstream: tolerant of what is missing or odd, bounded in all it keeps.
//! It maps only what the entry itself says; what a kind of upstream means beyond that is its adapter's business.
//! Lists are rare and small, so they are read as values; nothing here is on the way of a request.

use serde_json::Value;

use super::timestamp::parse_rfc3339;
use super::{Capabilities, Model};

/// More models than this are cut off; the largest public list had under a thousand in 2026.
pub const MAX_MODELS: usize = 10_000;
/// Longer ids are no ids.
pub const MAX_ID_BYTES: usize = 512;
const MAX_NAME_BYTES: usize = 256;
const MAX_DESCRIPTION_BYTES: usize = 2_048;
const MAX_WORDS: usize = 64;
const MAX_WORD_BYTES: usize = 64;

/// The entries of a list: a bare array, or an object that holds one under any of `keys`. `null` there is an empty list,
/// as Go servers write one (`ollama/ollama` `openai/openai.go`, 2026-08-21).
///
/// # Errors
/// When the body is not JSON, or neither of these: an error body must not pass for an empty list.
pub fn entries(body: &[u8], keys: &[&str]) -> Result<Vec<Value>, String> {
    let value: Value =
        serde_json::from_slice(body).map_err(|error| format!("model list is not json: {error}"))?;
    let mut list = match value {
        Value::Array(list) => list,
        Value::Object(mut object) => {
            match keys
                .iter()
                .find_map(|key| object.remove(*key).filter(|list| list.is_array() || list.is_null()))
            {
                Some(Value::Array(list)) => list,
                Some(_) => Vec::new(),
                None => return Err(format!("model list has no array `{}`", keys.join("` or `"))),
            }
        }
        _ => return Err("model list is neither an array nor an object".to_owned()),
    };
    list.truncate(MAX_MODELS);
    Ok(list)
}

/// Maps every entry with `map` and keeps the first of each id; entries without a usable id are skipped.
pub fn collect(entries: &[Value], map: impl Fn(&Value) -> Option<Model>) -> Vec<Model> {
    let mut seen = std::collections::HashSet::new();
    entries.iter().filter_map(map).filter(|model| seen.insert(model.id.clone())).collect()
}

/// A usable model id: not empty, not longer than [`MAX_ID_BYTES`], without control characters.
pub fn usable_id(id: &str) -> Option<String> {
    let usable = !id.is_empty() && id.len() <= MAX_ID_BYTES && !id.chars().any(char::is_control);
    usable.then(|| id.to_owned())
}

/// One entry, mapped by what it says under any of the names that are in use; unknown stays unknown.
/// `None` without a usable `id`, and for an entry that says `"active": false` (Groq).
pub fn model(entry: &Value) -> Option<Model> {
    if flag(entry, "active") == Some(false) {
        return None;
    }
    let mut model = Model {
        id: usable_id(entry.get("id")?.as_str()?)?,
        name: text(entry, &["display_name", "name"]),
        description: description(entry),
        created: created(entry),
        input_modalities: first_words(
            entry,
            &["/architecture/input_modalities", "/input_modalities", "/supported_input_modalities"],
        ),
        output_modalities: first_words(
            entry,
            &["/architecture/output_modalities", "/output_modalities", "/supported_output_modalities"],
        ),
        context_length: context_length(entry),
        max_output_tokens: number(
            entry,
            &[
                "/max_output_tokens",
                "/max_completion_tokens",
                "/top_provider/max_completion_tokens",
                "/limits/max_output_tokens",
            ],
        ),
        aliases: words(entry.get("aliases")),
        ..Model::default()
    };
    model.capabilities = capabilities(entry, &model);
    Some(model)
}

/// What is nearest to the truth comes first: what a server has loaded before what the model was trained for
/// (LM Studio `/api/v0/models`, llama.cpp `meta`), what a host serves before what the model could do (OpenRouter).
fn context_length(entry: &Value) -> Option<u64> {
    const PLACES: [&str; 11] = [
        "/loaded_context_length",
        "/top_provider/context_length",
        "/context_length",
        "/context_window",
        "/max_context_length",
        "/max_model_len",
        "/max_input_tokens",
        "/limits/max_input_tokens",
        "/limits/max_context_window_tokens",
        "/meta/n_ctx",
        "/meta/n_ctx_train",
    ];
    // Hugging Face's router tells it per backend; asking for the bare id may reach any of them.
    let of_backend = |backend: &Value| number(backend, &["/context_length"]);
    number(entry, &PLACES).or_else(|| backends(entry).filter_map(of_backend).max())
}

fn capabilities(entry: &Value, model: &Model) -> Capabilities {
    let mut known = Capabilities::default();
    let outputs = &model.output_modalities;
    if !outputs.is_empty() {
        // llama.cpp says `text` of a server that embeds (PyPI: xllamacpp, 2026-11-22), so its absence says nothing.
        known.embedding = outputs.iter().any(|word| word.starts_with("embedding")).then_some(true);
        known.chat = Some(outputs.iter().any(|word| word == "text"));
    }
    if !model.input_modalities.is_empty() {
        known.vision = Some(model.input_modalities.iter().any(|word| word == "image"));
    }
    of_type(entry, &mut known);
    // OpenRouter, Chutes: what is not in these lists is not offered.
    for list in ["supported_parameters", "supported_features"] {
        if entry.get(list).is_some_and(Value::is_array) {
            let offered = words(entry.get(list));
            let has = |word: &str| offered.iter().any(|one| one == word);
            known.tools = Some(has("tools"));
            known.reasoning = Some(has("reasoning") || has("include_reasoning"));
        }
    }
    if let Some(tools) =
        backends(entry).filter_map(|backend| flag(backend, "supports_tools")).reduce(|a, b| a || b)
    {
        known.tools = Some(tools);
    }
    match entry.get("capabilities") {
        // The vocabulary is the server's own, so a word that is missing says nothing.
        Some(Value::Array(_)) => {
            for word in words(entry.get("capabilities")) {
                set(&mut known, &word, true);
            }
        }
        Some(Value::Object(object)) => {
            // Before the others: what it means for chat gives way to a word for just that.
            let is_first = |(word, _): &(&String, &Value)| *word == "completion";
            let first = object.iter().filter(is_first);
            for (word, value) in first.chain(object.iter().take(MAX_WORDS).filter(|pair| !is_first(pair))) {
                if let Some(state) = value.as_bool().or_else(|| flag(value, "supported")) {
                    set(&mut known, word, state);
                }
            }
        }
        _ => {}
    }
    known
}

/// `type` as Together and LM Studio write it; Mistral's `base` and Anthropic's `model` say nothing.
fn of_type(entry: &Value, known: &mut Capabilities) {
    let Some(kind) = entry.get("type").and_then(Value::as_str) else { return };
    let (chat, embedding) = match kind {
        "chat" | "llm" | "vlm" => (Some(true), Some(false)),
        "language" | "code" => (None, Some(false)),
        "embedding" | "embeddings" => (Some(false), Some(true)),
        "image" | "moderation" | "rerank" | "audio" | "transcribe" | "video" => (Some(false), Some(false)),
        _ => return,
    };
    known.chat = chat.or(known.chat);
    known.embedding = embedding;
    if matches!(kind, "language" | "code") {
        known.completion = Some(true);
    }
    if kind == "vlm" {
        known.vision = Some(true);
    }
}

/// One word of any server's vocabulary; a word that is not known changes nothing.
pub fn set(known: &mut Capabilities, word: &str, state: bool) {
    let field = match word {
        "chat" | "completion_chat" | "chat_completion" | "chat-completion" => &mut known.chat,
        // llama.cpp's and Ollama's word for a text model: it chats and completes.
        "completion" => {
            known.chat = Some(state);
            &mut known.completion
        }
        "fim" | "completion_fim" | "insert" => &mut known.fim,
        "embedding" | "embeddings" => &mut known.embedding,
        "tools" | "tool_use" | "tool-calling" | "tool_calling" | "tool_calls" | "function_calling"
        | "function-calling" => &mut known.tools,
        "vision" | "image_input" | "image-input" => &mut known.vision,
        "reasoning" | "thinking" => &mut known.reasoning,
        "streaming" => &mut known.streaming,
        _ => return,
    };
    *field = Some(state);
}

fn description(entry: &Value) -> Option<String> {
    let text = ["description", "summary"].iter().find_map(|key| entry.get(*key)?.as_str())?;
    shortened(text, MAX_DESCRIPTION_BYTES)
}

fn created(entry: &Value) -> Option<i64> {
    let seconds = entry.get("created").and_then(|value| value.as_i64().or(value.as_f64().map(|x| x as i64)));
    seconds
        .filter(|seconds| *seconds > 0)
        .or_else(|| entry.get("created_at").and_then(Value::as_str).and_then(parse_rfc3339))
}

/// The hosts behind one entry of Hugging Face's router.
fn backends(entry: &Value) -> impl Iterator<Item = &Value> {
    entry.get("providers").and_then(Value::as_array).into_iter().flatten().take(MAX_WORDS)
}

/// A text for people under the first of these keys that has one.
pub fn text(entry: &Value, keys: &[&str]) -> Option<String> {
    keys.iter().find_map(|key| shortened(entry.get(*key)?.as_str()?, MAX_NAME_BYTES))
}

/// A boolean under this key.
pub fn flag(entry: &Value, key: &str) -> Option<bool> {
    entry.get(key)?.as_bool()
}

/// The first positive whole number at any of these JSON pointers.
pub fn number(entry: &Value, pointers: &[&str]) -> Option<u64> {
    pointers.iter().find_map(|pointer| entry.pointer(pointer)?.as_u64().filter(|number| *number > 0))
}

/// The strings of an array; anything else in it, and what is too long or too much, is left out.
pub fn words(value: Option<&Value>) -> Vec<String> {
    let list = value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let usable =
        |word: &&str| !word.is_empty() && word.len() <= MAX_WORD_BYTES && !word.chars().any(char::is_control);
    list.iter().filter_map(Value::as_str).filter(usable).take(MAX_WORDS).map(str::to_owned).collect()
}

fn first_words(entry: &Value, pointers: &[&str]) -> Vec<String> {
    pointers
        .iter()
        .map(|pointer| words(entry.pointer(pointer)))
        .find(|list| !list.is_empty())
        .unwrap_or_default()
}

/// The text without control characters and without surrounding space, cut at a character; `None` when nothing is left.
fn shortened(text: &str, limit: usize) -> Option<String> {
    let mut kept = String::with_capacity(text.len().min(limit));
    for character in text.trim().chars() {
        if kept.len() + character.len_utf8() > limit {
            break;
        }
        kept.push(if character.is_control() { ' ' } else { character });
    }
    if kept.is_empty() { None } else { Some(kept) }
}

#[cfg(test)]
mod tests;
