//! The native model list of Ollama's server (`GET /api/tags`, `POST /api/show`), which its local and hosted kinds share.
//! Facts: `ollama/ollama` fb307609 (2026-08-21), `api/types.go`, `types/model/capability.go`, `server/routes.go`.

use serde_json::{Value, json};

use super::model_list::{collect, entries, number, usable_id, words};
use super::timestamp::parse_rfc3339;
use super::{Capabilities, DetailRequest, Model};

/// Where the list is.
pub const LIST_PATH: &str = "/api/tags";
const DETAIL_PATH: &str = "/api/show";

/// Maps the body of `GET /api/tags`. Recent servers tell capabilities and context length here.
///
/// # Errors
/// A sentence for the log when the body is not such a list.
pub fn models(body: &[u8]) -> Result<Vec<Model>, String> {
    // A server without models may leave the list out altogether; an error body has other members instead.
    let list = if body.trim_ascii() == b"{}" { Vec::new() } else { entries(body, &["models", "data"])? };
    Ok(collect(&list, model))
}

fn model(entry: &Value) -> Option<Model> {
    let id = ["name", "model", "id"].iter().find_map(|key| usable_id(entry.get(*key)?.as_str()?))?;
    let mut model = Model {
        id,
        created: entry.get("modified_at").and_then(Value::as_str).and_then(parse_rfc3339),
        context_length: number(entry, &["/details/context_length"]),
        ..Model::default()
    };
    apply_capabilities(&mut model, entry);
    Some(model)
}

/// Servers that do not tell capabilities in the list tell them here.
pub fn detail(model: &Model) -> Option<DetailRequest> {
    let told = model.capabilities != Capabilities::default();
    let body = json!({ "model": model.id }).to_string().into_bytes();
    if told { None } else { Some(DetailRequest { path: DETAIL_PATH, body }) }
}

/// Completes an entry from the answer of `POST /api/show`.
pub fn apply_detail(model: &mut Model, body: &[u8]) {
    let Ok(shown) = serde_json::from_slice::<Value>(body) else { return };
    apply_capabilities(model, &shown);
    if model.context_length.is_none() {
        let info = shown.get("model_info");
        let architecture = info.and_then(|info| info.get("general.architecture")).and_then(Value::as_str);
        let key = format!("{}.context_length", architecture.unwrap_or_default());
        let length = info.and_then(|info| info.get(key)).and_then(Value::as_u64);
        model.context_length = length.filter(|length| *length > 0);
    }
}

/// The vocabulary is known in full, so a word that is missing means no. Without a list nothing is known.
/// Embeddings are the exception: the server makes them with every model (`EmbedHandler` asks for no capability).
fn apply_capabilities(model: &mut Model, from: &Value) {
    if !from.get("capabilities").is_some_and(Value::is_array) {
        return;
    }
    let told = words(from.get("capabilities"));
    let has = |word: &str| told.iter().any(|one| one == word);
    model.capabilities = Capabilities {
        chat: Some(has("completion")),
        completion: Some(has("completion")),
        fim: Some(has("insert")),
        embedding: has("embedding").then_some(true),
        tools: Some(has("tools")),
        vision: Some(has("vision")),
        reasoning: Some(has("thinking")),
        streaming: Some(has("completion")),
    };
    let modality = |word: &str, name: &str| has(word).then(|| name.to_owned());
    model.input_modalities = std::iter::once("text".to_owned())
        .chain(modality("vision", "image"))
        .chain(modality("audio", "audio"))
        .collect();
    model.output_modalities = [("completion", "text"), ("embedding", "embeddings"), ("image", "image")]
        .into_iter()
        .filter_map(|(word, name)| modality(word, name))
        .collect();
}

#[cfg(test)]
mod tests;
