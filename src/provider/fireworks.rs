//! Fireworks AI, serverless. The list is a short, featured one: models that are not on it can still be called.
//! Facts: list captured by the Python demuxai; `Portkey-AI/gateway` (2026-05-25); docs.fireworks.ai (2026-08-22).

use serde_json::Value;

use super::model_list::{collect, entries, flag, model};
use super::{Adapter, Model};

/// OpenAI's paths throughout; FIM by `suffix`, and whether a model has it is not told.
pub struct Fireworks;

impl Adapter for Fireworks {
    fn models(&self, body: &[u8]) -> Result<Vec<Model>, String> {
        Ok(collect(&entries(body, &["data"])?, list_entry))
    }
}

fn list_entry(entry: &Value) -> Option<Model> {
    let mut mapped = model(entry)?;
    let kind = entry.get("kind").and_then(Value::as_str).unwrap_or_default();
    let embeds = kind.contains("EMBEDDING");
    let known = &mut mapped.capabilities;
    known.chat = flag(entry, "supports_chat").or(known.chat);
    known.tools = flag(entry, "supports_tools").or(known.tools);
    known.vision = flag(entry, "supports_image_input").or(known.vision);
    known.embedding = if kind.is_empty() { known.embedding } else { Some(embeds) };
    known.streaming = known.chat;
    if mapped.input_modalities.is_empty() && known.vision.is_some() {
        let image = known.vision.unwrap_or_default().then(|| "image".to_owned());
        mapped.input_modalities = std::iter::once("text".to_owned()).chain(image).collect();
    }
    Some(mapped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_supports_flags_become_capabilities() {
        let body = br#"{"object":"list","data":[
          {"id":"accounts/fireworks/models/kimi-k2-instruct-0905","object":"model","owned_by":"fireworks","created":1757018994,
           "kind":"HF_BASE_MODEL","supports_chat":true,"supports_image_input":false,"supports_tools":true,"context_length":262144},
          {"id":"accounts/fireworks/models/flux-1-dev","object":"model","created":1729532889,"kind":"FLUMINA_BASE_MODEL",
           "supports_chat":false,"supports_image_input":false,"supports_tools":false},
          {"id":"accounts/fireworks/models/qwen3-embedding-8b","kind":"EMBEDDING_MODEL","supports_chat":false,"context_length":40960}]}"#;
        let models = Fireworks.models(body).unwrap();
        let kimi = &models[0];
        assert_eq!(kimi.id, "accounts/fireworks/models/kimi-k2-instruct-0905");
        assert_eq!(kimi.context_length, Some(262_144));
        assert_eq!(kimi.input_modalities, ["text"]);
        let can = kimi.capabilities;
        assert_eq!(
            (can.chat, can.tools, can.vision, can.embedding),
            (Some(true), Some(true), Some(false), Some(false))
        );
        assert_eq!(
            (can.fim, can.completion, can.reasoning),
            (None, None, None),
            "not told, so never refused"
        );
        assert_eq!(models[1].capabilities.chat, Some(false));
        assert_eq!(models[2].capabilities.embedding, Some(true));
    }
}
