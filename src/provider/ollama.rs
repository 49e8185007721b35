//! Ollama on this machine or network. No key, no quota; FIM only for models that say `insert`.
//! Facts: `ollama/ollama` fb307609 (2026-08-21), `server/routes.go`, `openai/openai.go`.

use super::{Adapter, DetailRequest, Model, tags};

/// Speaks OpenAI's paths, but tells what a model can do only in its native list.
pub struct Ollama;

impl Adapter for Ollama {
    fn models_path(&self) -> &'static str {
        tags::LIST_PATH
    }

    fn models(&self, body: &[u8]) -> Result<Vec<Model>, String> {
        tags::models(body)
    }

    fn detail(&self, model: &Model) -> Option<DetailRequest> {
        tags::detail(model)
    }

    fn apply_detail(&self, model: &mut Model, body: &[u8]) {
        tags::apply_detail(model, body);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::{Shape, Task};
    use crate::provider::Route;

    #[test]
    fn fim_goes_to_completions_and_answers_as_text() {
        let route = Route { path: "/v1/completions", shape: Shape::Text };
        assert_eq!(Ollama.route(Task::Fim), Some(route));
        assert_eq!(Ollama.route(Task::Completion), Some(route));
    }

    #[test]
    fn the_list_is_the_native_one() {
        assert_eq!(Ollama.models_path(), "/api/tags");
        let models = Ollama.models(br#"{"models":[{"name":"qwen3:8b","model":"qwen3:8b"}]}"#).unwrap();
        assert_eq!(models[0].id, "qwen3:8b");
        assert_eq!(Ollama.detail(&models[0]).unwrap().path, "/api/show");
    }
}
