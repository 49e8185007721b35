//! Codestral's own host: chat and FIM for one family of models, with a key of its own.
//! Its list is often refused, so that the catalogue's static models stand in for it.
//! Facts: docs.mistral.ai code generation, `simonw/llm-mistral` #16, `continuedev/continue` #7178 and #13049 (2026-07).

use serde_json::Value;

use super::model_list::{collect, entries, model};
use super::{Adapter, Model, Route};
use crate::dialect::{Shape, Task};

/// FIM and plain completions share one route that answers in the shape of chat; embeddings are not offered.
pub struct Codestral;

impl Adapter for Codestral {
    fn route(&self, task: Task) -> Option<Route> {
        match task {
            Task::Chat => Some(Route { path: "/v1/chat/completions", shape: Shape::Chat }),
            Task::Completion | Task::Fim => Some(Route { path: "/v1/fim/completions", shape: Shape::Chat }),
            Task::Embedding => None,
        }
    }

    fn models(&self, body: &[u8]) -> Result<Vec<Model>, String> {
        Ok(collect(&entries(body, &["data"])?, list_entry))
    }
}

fn list_entry(entry: &Value) -> Option<Model> {
    let mut mapped = model(entry)?;
    mapped.capabilities.completion = mapped.capabilities.fim;
    mapped.capabilities.embedding = Some(false);
    Some(mapped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chat_is_served_as_well_as_fim() {
        // The original listed the model without chat.
        assert_eq!(Codestral.route(Task::Chat).unwrap().path, "/v1/chat/completions");
        assert_eq!(Codestral.route(Task::Fim).unwrap().path, "/v1/fim/completions");
        assert_eq!(Codestral.route(Task::Embedding), None);
    }

    #[test]
    fn a_list_is_mapped_where_the_host_gives_one() {
        let body = br#"{"object":"list","data":[{"id":"codestral-latest","object":"model","created":1768405801,
            "capabilities":{"completion_chat":true,"function_calling":true,"completion_fim":true},"max_context_length":256000}]}"#;
        let models = Codestral.models(body).unwrap();
        let can = models[0].capabilities;
        assert_eq!(
            (can.chat, can.fim, can.completion, can.embedding),
            (Some(true), Some(true), Some(true), Some(false))
        );
        assert_eq!(models[0].context_length, Some(256_000));
    }

    #[test]
    fn a_refused_list_is_an_error_for_the_static_models_to_make_good() {
        let kong = br#"{"message":"no Route matched with those values","request_id":"1f0a"}"#;
        assert!(Codestral.models(kong).is_err());
    }
}
