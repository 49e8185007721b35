//! Ollama Cloud: the same server behind `https://ollama.com` and a key. Ids carry no `-cloud` suffix here.
//! Facts: `ollama/ollama` fb307609 (2026-08-21), `server/cloud_proxy.go`, `docs/cloud.mdx`, `docs/api/authentication.mdx`.

use super::{Adapter, DetailRequest, Model, tags};

/// The routes and the list of the local server; no FIM route is documented, so a model's `insert` decides.
pub struct OllamaCloud;

impl Adapter for OllamaCloud {
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

    #[test]
    fn the_list_needs_no_follow_up_when_it_tells_capabilities() {
        let body = br#"{"models":[{"name":"gpt-oss:120b","model":"gpt-oss:120b","modified_at":"2025-08-05T00:00:00Z",
            "size":65369818941,"capabilities":["completion","tools","thinking"]}]}"#;
        let models = OllamaCloud.models(body).unwrap();
        assert_eq!(models[0].id, "gpt-oss:120b");
        assert_eq!(models[0].capabilities.fim, Some(false));
        assert_eq!(models[0].capabilities.reasoning, Some(true));
        assert_eq!(OllamaCloud.detail(&models[0]), None);
    }
}
