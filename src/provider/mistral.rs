//! Mistral AI: FIM natively on a route of its own that answers in the shape of chat; no `/v1/completions`.
//! Facts: `mistralai/client-python` 05629d23 (2026-06-30), `src/mistralai/models`; list captured by the Python demuxai.

use serde_json::Value;

use super::model_list::{collect, entries, flag, model};
use super::{Adapter, Model, Route};
use crate::dialect::{Shape, Task};

/// Plain completions go to the FIM route too, with a prompt and no suffix: there is no other.
pub struct Mistral;

impl Adapter for Mistral {
    fn route(&self, task: Task) -> Option<Route> {
        Some(match task {
            Task::Chat => Route { path: "/v1/chat/completions", shape: Shape::Chat },
            Task::Completion | Task::Fim => Route { path: "/v1/fim/completions", shape: Shape::Chat },
            Task::Embedding => Route { path: "/v1/embeddings", shape: Shape::Embedding },
        })
    }

    fn models(&self, body: &[u8]) -> Result<Vec<Model>, String> {
        Ok(collect(&entries(body, &["data"])?, list_entry))
    }
}

/// There is no flag for embeddings: it is the id, in a model that does not chat.
fn list_entry(entry: &Value) -> Option<Model> {
    let mut mapped = model(entry)?;
    let known = &mut mapped.capabilities;
    let embeds = mapped.id.contains("embed") && known.chat != Some(true);
    known.embedding = Some(embeds);
    known.completion = known.fim;
    known.streaming = known.chat.zip(known.fim).map(|(chat, fim)| chat || fim);
    let audio = entry.get("capabilities").and_then(|told| flag(told, "audio"));
    let senses = [(Some(true), "text"), (known.vision, "image"), (audio, "audio")];
    let inputs = senses.into_iter().filter(|(can, _)| *can == Some(true));
    mapped.input_modalities = inputs.map(|(_, name)| name.to_owned()).collect();
    mapped.output_modalities = vec![if embeds { "embeddings" } else { "text" }.to_owned()];
    Some(mapped)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &[u8] = br#"{"object":"list","data":[
      {"id":"codestral-2501","object":"model","created":1768405801,"owned_by":"mistralai",
       "capabilities":{"completion_chat":true,"function_calling":true,"completion_fim":true,"fine_tuning":true,
        "vision":false,"ocr":false,"classification":false,"moderation":false,"audio":false},
       "name":"codestral-2501","description":"Our cutting-edge language model for coding.","max_context_length":256000,
       "aliases":["codestral-2412"],"deprecation":"2026-01-31T12:00:00Z",
       "deprecation_replacement_model":"codestral-latest","default_model_temperature":0.3,"type":"base"},
      {"id":"codestral-2412","object":"model","created":1768405801,"owned_by":"mistralai",
       "capabilities":{"completion_chat":true,"function_calling":true,"completion_fim":true,"vision":false},
       "max_context_length":256000,"aliases":["codestral-2501"],"type":"base"},
      {"id":"magistral-medium-latest","object":"model","created":1768405801,
       "capabilities":{"completion_chat":true,"function_calling":true,"completion_fim":false,"vision":true,"reasoning":true},
       "max_context_length":131072,"aliases":[],"type":"base"},
      {"id":"mistral-embed","object":"model","created":1768405801,
       "capabilities":{"completion_chat":false,"function_calling":false,"completion_fim":false,"vision":false},
       "max_context_length":8192,"aliases":["mistral-embed-2312"],"type":"base"},
      {"id":"codestral-embed","object":"model","capabilities":{"completion_chat":false},"max_context_length":8192,"type":"base"},
      {"id":"codestral-2412","object":"model","max_context_length":1,"type":"base"}]}"#;

    #[test]
    fn the_flags_of_the_list_become_capabilities() {
        let models = Mistral.models(LIST).unwrap();
        let first = &models[0];
        assert_eq!((first.id.as_str(), first.context_length), ("codestral-2501", Some(256_000)));
        assert_eq!(first.created, Some(1_768_405_801));
        let can = first.capabilities;
        assert_eq!(
            (can.chat, can.fim, can.completion, can.tools),
            (Some(true), Some(true), Some(true), Some(true))
        );
        assert_eq!((can.vision, can.embedding, can.streaming), (Some(false), Some(false), Some(true)));
    }

    #[test]
    fn embedding_models_are_told_by_id_wherever_embed_stands_in_it() {
        // The original looked for `-embed-` and dropped these two.
        let models = Mistral.models(LIST).unwrap();
        for id in ["mistral-embed", "codestral-embed"] {
            let model = models.iter().find(|model| model.id == id).unwrap();
            assert_eq!(model.capabilities.embedding, Some(true), "{id}");
            assert_eq!(model.capabilities.chat, Some(false), "{id}");
            assert_eq!(model.output_modalities, ["embeddings"], "{id}");
        }
    }

    #[test]
    fn the_reasoning_flag_is_not_ignored() {
        let models = Mistral.models(LIST).unwrap();
        let magistral = models.iter().find(|model| model.id == "magistral-medium-latest").unwrap();
        assert_eq!(magistral.capabilities.reasoning, Some(true));
        assert_eq!(magistral.capabilities.completion, Some(false));
        assert_eq!(magistral.input_modalities, ["text", "image"]);
    }

    #[test]
    fn aliases_are_kept_and_no_id_is_listed_twice() {
        let models = Mistral.models(LIST).unwrap();
        let ids: Vec<&str> = models.iter().map(|model| model.id.as_str()).collect();
        assert_eq!(
            ids,
            [
                "codestral-2501",
                "codestral-2412",
                "magistral-medium-latest",
                "mistral-embed",
                "codestral-embed"
            ]
        );
        assert_eq!(models[0].aliases, ["codestral-2412"]);
        assert_eq!(models[1].context_length, Some(256_000), "the first entry of an id stays");
    }

    #[test]
    fn completion_goes_to_the_fim_route_and_answers_like_chat() {
        for task in [Task::Completion, Task::Fim] {
            let route = Mistral.route(task).unwrap();
            assert_eq!((route.path, route.shape), ("/v1/fim/completions", Shape::Chat));
        }
    }
}
