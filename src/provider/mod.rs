//! One supervised actor per upstream account, and the pure description of what is peculiar about each kind.
//!
//! # How to add a provider
//! Plainly OpenAI-compatible: nothing here, `type = "openai"` and a `url` in the configuration (and, for a preset,
//! a table in `config/providers.toml`). Otherwise one file next to this one that implements [`Adapter`], and one row
//! in `registry.rs`. Facts that age belong into `config/providers.toml`, not into the adapter.

pub mod about;
pub mod actor;
mod call;
pub mod capability;
pub mod capacity;
pub mod catalogue;
mod codestral;
mod fetch;
mod fireworks;
pub mod fitness;
mod github;
pub mod handle;
pub mod headers;
pub mod listing;
mod mistral;
mod model_list;
pub mod models;
pub mod offer;
mod ollama;
mod ollama_cloud;
pub mod openai;
mod params;
pub mod prefix;
pub mod prepare;
pub mod pump;
pub mod registry;
pub mod scrub;
pub mod succession;
pub mod supervisor;
mod tags;
mod timestamp;
pub mod usage;
pub mod vitals;

use http::header::{HeaderName, HeaderValue};

use crate::dialect::{Shape, Task};

/// Where a task goes at the upstream and in which shape it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Path below the provider's base URL, with a leading slash and with its `/v1` if the upstream has one.
    pub path: &'static str,
    /// The shape of the upstream's answer.
    pub shape: Shape,
}

/// What a model can do, as far as the upstream tells; `None` is unknown, and unknown is never refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Capabilities {
    /// Chat completions.
    pub chat: Option<bool>,
    /// Plain text completions.
    pub completion: Option<bool>,
    /// Fill in the middle.
    pub fim: Option<bool>,
    /// Embeddings.
    pub embedding: Option<bool>,
    /// Tool calls.
    pub tools: Option<bool>,
    /// Images as input.
    pub vision: Option<bool>,
    /// Reasoning before the answer.
    pub reasoning: Option<bool>,
    /// Streamed answers.
    pub streaming: Option<bool>,
}

impl Capabilities {
    /// Whether the task is possible: `Some(false)` only when the upstream says so.
    pub fn task(&self, task: Task) -> Option<bool> {
        match task {
            Task::Chat => self.chat,
            Task::Completion => self.completion,
            Task::Fim => self.fim,
            Task::Embedding => self.embedding,
        }
    }
}

/// One model of one provider, in the one shape that all providers' lists are mapped to.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Model {
    /// The upstream's id, exactly as written there.
    pub id: String,
    /// A name for people, where the upstream has one.
    pub name: Option<String>,
    /// A sentence for people, where the upstream has one.
    pub description: Option<String>,
    /// Unix seconds, where the upstream tells.
    pub created: Option<i64>,
    /// What it can do.
    pub capabilities: Capabilities,
    /// `text`, `image`, `audio` …, in the upstream's order; empty is unknown.
    pub input_modalities: Vec<String>,
    /// `text`, `embeddings` …; empty is unknown.
    pub output_modalities: Vec<String>,
    /// Context window in tokens.
    pub context_length: Option<u64>,
    /// Longest answer in tokens.
    pub max_output_tokens: Option<u64>,
    /// Other ids of the same model at the same upstream.
    pub aliases: Vec<String>,
}

/// A follow-up request that completes one model's entry (`POST /api/show` of old Ollama servers).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DetailRequest {
    /// Path below the base URL.
    pub path: &'static str,
    /// JSON body; the request is a POST.
    pub body: Vec<u8>,
}

/// The pure description of one kind of upstream. Every method has an OpenAI-compatible default.
/// No state, no client, no async: the actor and the HTTP client that use it are the same for all kinds.
pub trait Adapter: Send + Sync + 'static {
    /// Where a task goes, or `None` when the upstream has no such route.
    fn route(&self, task: Task) -> Option<Route> {
        Some(match task {
            Task::Chat => Route { path: "/v1/chat/completions", shape: Shape::Chat },
            Task::Completion | Task::Fim => Route { path: "/v1/completions", shape: Shape::Text },
            Task::Embedding => Route { path: "/v1/embeddings", shape: Shape::Embedding },
        })
    }

    /// The path that lists the models.
    fn models_path(&self) -> &'static str {
        "/v1/models"
    }

    /// Headers that every request to the upstream carries, apart from the key.
    fn headers(&self) -> Vec<(HeaderName, HeaderValue)> {
        Vec::new()
    }

    /// Maps the body of the model list.
    ///
    /// # Errors
    /// A sentence for the log when the body is not such a list.
    fn models(&self, body: &[u8]) -> Result<Vec<Model>, String>;

    /// The follow-up request that completes an entry of the list, if one is needed.
    fn detail(&self, _model: &Model) -> Option<DetailRequest> {
        None
    }

    /// Completes an entry with the answer to [`Adapter::detail`]. An answer that cannot be read changes nothing.
    fn apply_detail(&self, _model: &mut Model, _body: &[u8]) {}
}
