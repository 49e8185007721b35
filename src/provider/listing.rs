//! The one shape in which `/v1/models` lists every model, made to satisfy all clients at once; which models are visible;
//! and which ids are near to one that is not there. Pure: values in, JSON out.

use globset::GlobSet;
use serde_json::{Map, Value, json};

use super::timestamp::format_rfc3339;
use super::{Model, capability};

/// `type` means different things to different clients: Mistral's SDK needs `base`, Anthropic's `model`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryType {
    /// For everyone but Anthropic's clients.
    Base,
    /// For requests with an `anthropic-version` header.
    Model,
}

/// The entry of a provider's model: its id carries the provider's as a prefix.
pub fn provider_entry(provider: &str, model: &Model, entry_type: EntryType) -> Value {
    entry(&format!("{provider}/{}", model.id), provider, model, entry_type)
}

/// An entry under any id. What is not known is left out, but for what some client cannot do without: `created`,
/// `created_at`, `display_name`, `type` and `capabilities`.
pub fn entry(id: &str, owned_by: &str, model: &Model, entry_type: EntryType) -> Value {
    let created = model.created.unwrap_or(0).max(0);
    let mut entry = Map::new();
    let mut put = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            entry.insert(key.to_owned(), value);
        }
    };
    put("id", Some(id.into()));
    put("object", Some("model".into()));
    put("created", Some(created.into()));
    put("owned_by", Some(owned_by.into()));
    put("type", Some(if entry_type == EntryType::Base { "base" } else { "model" }.into()));
    put("display_name", Some(model.name.as_deref().unwrap_or(&model.id).into()));
    put("created_at", Some(format_rfc3339(created).into()));
    put("description", model.description.as_deref().map(Value::from));
    for key in ["context_length", "max_context_length", "max_input_tokens"] {
        put(key, model.context_length.map(Value::from));
    }
    put("max_output_tokens", model.max_output_tokens.map(Value::from));
    put("capabilities", Some(capabilities(model)));
    put("features", Some(capability::to_words(&model.capabilities).into()));
    let input = modalities(&model.input_modalities);
    let output = modalities(&model.output_modalities);
    if input.is_some() || output.is_some() {
        let mut architecture = Map::new();
        for (key, list) in [("input_modalities", &input), ("output_modalities", &output)] {
            if let Some(list) = list {
                architecture.insert(key.to_owned(), list.clone());
            }
        }
        put("architecture", Some(architecture.into()));
    }
    put("supported_input_modalities", input);
    put("supported_output_modalities", output);
    put("aliases", (!model.aliases.is_empty()).then(|| model.aliases.clone().into()));
    Value::Object(entry)
}

/// The whole list, with OpenAI's envelope and Anthropic's pagination, which always says that this is all.
pub fn list_body(entries: Vec<Value>) -> Value {
    let id = |entry: Option<&Value>| entry.and_then(|entry| entry.get("id")).cloned().unwrap_or(Value::Null);
    let (first, last) = (id(entries.first()), id(entries.last()));
    json!({ "object": "list", "data": entries, "has_more": false, "first_id": first, "last_id": last })
}

/// Whether a model of this upstream id is offered: one of `include` if there is such a list, and none of `exclude`.
pub fn visible(model_id: &str, include: &Option<GlobSet>, exclude: &Option<GlobSet>) -> bool {
    let included = include.as_ref().is_none_or(|globs| globs.is_match(model_id));
    included && !exclude.as_ref().is_some_and(|globs| globs.is_match(model_id))
}

/// At most `n` of the ids, those most like `wanted`, best first; none when nothing is like it.
/// A wrong provider before the right model counts as near, and so does a model name alone.
pub fn nearest<'a>(ids: impl IntoIterator<Item = &'a str>, wanted: &str, n: usize) -> Vec<&'a str> {
    const NEAR: f64 = 0.5;
    let wanted = shape(wanted);
    let tail = |id: &str| id.rsplit('/').next().map(str::to_owned).unwrap_or_default();
    let wanted_tail = tail(&wanted);
    // Bigrams cost no more than the texts are long, so that a client cannot buy much work with a long name.
    let likeness = |id: &str| {
        let id = shape(id);
        strsim::sorensen_dice(&id, &wanted).max(0.95 * strsim::sorensen_dice(&tail(&id), &wanted_tail))
    };
    let mut ranked: Vec<(f64, &str)> =
        ids.into_iter().map(|id| (likeness(id), id)).filter(|(score, _)| *score >= NEAR).collect();
    ranked.sort_by(|(a, left), (b, right)| b.total_cmp(a).then_with(|| left.cmp(right)));
    ranked.truncate(n);
    ranked.into_iter().map(|(_, id)| id).collect()
}

/// What counts in a comparison: case does not, nor what is longer than any id.
fn shape(id: &str) -> String {
    id.chars().take(128).flat_map(char::to_lowercase).collect()
}

/// The names of Mistral's list, and ours for what it has none for.
fn capabilities(model: &Model) -> Value {
    let known = &model.capabilities;
    let states = [
        ("completion_chat", known.chat),
        ("completion", known.completion),
        ("completion_fim", known.fim),
        ("embedding", known.embedding),
        ("function_calling", known.tools),
        ("vision", known.vision),
        ("reasoning", known.reasoning),
        ("streaming", known.streaming),
    ];
    let told = states.into_iter().filter_map(|(name, state)| Some((name.to_owned(), Value::Bool(state?))));
    Value::Object(told.collect())
}

fn modalities(list: &[String]) -> Option<Value> {
    if list.is_empty() { None } else { Some(list.to_vec().into()) }
}

#[cfg(test)]
mod tests;
