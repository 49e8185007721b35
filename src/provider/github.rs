//! GitHub Models, shut down by its owner on 2026-07-30 (HTTP 410). The type works against its last published API,
//! so that old configurations load and say clearly what happened.
//! Facts: docs.github.com "Prototyping with AI models" (github/docs 0b47378f), github.blog changelog 2026-07-30.

use http::header::{ACCEPT, HeaderName, HeaderValue};
use serde_json::Value;

use super::model_list::{collect, entries, model, words};
use super::{Adapter, Model, Route};
use crate::dialect::{Shape, Task};

/// A catalogue as a bare array, and chat and embeddings under `/inference`; no completions, no FIM.
pub struct Github;

impl Adapter for Github {
    fn route(&self, task: Task) -> Option<Route> {
        match task {
            Task::Chat => Some(Route { path: "/inference/chat/completions", shape: Shape::Chat }),
            Task::Embedding => Some(Route { path: "/inference/embeddings", shape: Shape::Embedding }),
            Task::Completion | Task::Fim => None,
        }
    }

    fn models_path(&self) -> &'static str {
        "/catalog/models"
    }

    fn headers(&self) -> Vec<(HeaderName, HeaderValue)> {
        vec![
            (ACCEPT, HeaderValue::from_static("application/vnd.github+json")),
            (HeaderName::from_static("x-github-api-version"), HeaderValue::from_static("2022-11-28")),
        ]
    }

    fn models(&self, body: &[u8]) -> Result<Vec<Model>, String> {
        Ok(collect(&entries(body, &["data"])?, catalogue_entry))
    }
}

/// The vocabulary of `capabilities` and `tags` is known, so a word that is missing means no.
fn catalogue_entry(entry: &Value) -> Option<Model> {
    let mut mapped = model(entry)?;
    let told = words(entry.get("capabilities"));
    let tags = words(entry.get("tags"));
    let has = |word: &str| told.iter().any(|one| one == word);
    let known = &mut mapped.capabilities;
    known.completion = Some(false);
    known.fim = Some(false);
    known.embedding = Some(mapped.output_modalities.iter().any(|word| word == "embeddings"));
    known.tools = Some(has("tool-calling"));
    known.streaming = Some(has("streaming"));
    known.reasoning = Some(has("reasoning") || tags.iter().any(|tag| tag == "reasoning"));
    Some(mapped)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CATALOGUE: &[u8] = br#"[
      {"id":"openai/gpt-4.1-mini","name":"OpenAI GPT-4.1-mini","publisher":"OpenAI","summary":"Outperforms gpt-4o-mini",
       "rate_limit_tier":"low","supported_input_modalities":["text","image"],"supported_output_modalities":["text"],
       "tags":["multipurpose","multilingual"],"registry":"azure-openai","version":"2025-04-14",
       "capabilities":["agents","streaming","tool-calling","agentsV2"],
       "limits":{"max_input_tokens":1048576,"max_output_tokens":32768},
       "html_url":"https://github.com/marketplace/models/azure-openai/gpt-4-1-mini"},
      {"id":"openai/text-embedding-3-small","name":"OpenAI Text Embedding 3 (small)","publisher":"OpenAI",
       "rate_limit_tier":"embeddings","supported_input_modalities":["text"],"supported_output_modalities":["embeddings"],
       "tags":["rag"],"capabilities":[],"limits":{"max_input_tokens":8191,"max_output_tokens":null}},
      {"id":"deepseek/deepseek-r1","tags":["reasoning","coding"],"supported_output_modalities":["text"],
       "capabilities":["streaming"],"limits":{"max_input_tokens":128000}}]"#;

    #[test]
    fn the_catalogue_is_a_bare_array_under_its_own_path() {
        // The original asked `/v1/models` for `{data:[…]}`.
        assert_eq!(Github.models_path(), "/catalog/models");
        let models = Github.models(CATALOGUE).unwrap();
        assert_eq!(models.len(), 3);
        let mini = &models[0];
        assert_eq!(mini.id, "openai/gpt-4.1-mini");
        assert_eq!(mini.description.as_deref(), Some("Outperforms gpt-4o-mini"));
        assert_eq!((mini.context_length, mini.max_output_tokens), (Some(1_048_576), Some(32_768)));
        assert_eq!(mini.input_modalities, ["text", "image"]);
        let can = mini.capabilities;
        assert_eq!(
            (can.chat, can.tools, can.vision, can.streaming),
            (Some(true), Some(true), Some(true), Some(true))
        );
        assert_eq!((can.fim, can.embedding, can.reasoning), (Some(false), Some(false), Some(false)));
    }

    #[test]
    fn embeddings_and_reasoning_are_told_by_modality_and_tag() {
        let models = Github.models(CATALOGUE).unwrap();
        assert_eq!(models[1].capabilities.embedding, Some(true));
        assert_eq!(models[1].capabilities.chat, Some(false));
        assert_eq!(models[1].max_output_tokens, None);
        assert_eq!(models[2].capabilities.reasoning, Some(true));
    }

    #[test]
    fn every_request_carries_the_api_version_and_never_a_v1_path() {
        let headers = Github.headers();
        assert!(headers.iter().any(|(name, value)| name == "x-github-api-version" && value == "2022-11-28"));
        for task in [Task::Chat, Task::Embedding] {
            assert!(Github.route(task).unwrap().path.starts_with("/inference/"));
        }
        assert_eq!(Github.route(Task::Fim), None);
        assert_eq!(Github.route(Task::Completion), None);
    }
}
