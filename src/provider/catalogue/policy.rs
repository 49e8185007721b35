//! What an upstream is known to reject, ignore or call differently, as data. Applied by `prepare.rs`.

use std::collections::BTreeMap;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use serde::Deserialize;

use crate::dialect::Task;

/// What may be sent to one kind of upstream. Empty = everything, unchanged.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ParamPolicy {
    /// For upstreams that reject every field they do not know: the fields they know, after renaming.
    pub allow: AllowLists,
    /// Fields that are never sent.
    pub drop: Vec<String>,
    /// Fields that have another name there.
    pub rename: BTreeMap<String, String>,
    /// Fields that are sent with this value when the client sent none. Chat only.
    pub default: BTreeMap<String, serde_json::Value>,
    /// Fields that are sent with this value, whatever the client sent, when there are tools. Chat only.
    pub with_tools: BTreeMap<String, serde_json::Value>,
    /// Members of messages that are never sent.
    pub message_drop: Vec<String>,
    /// Keywords that are taken out of the schemas of tools.
    pub tool_schema_drop: Vec<String>,
    /// Members that are `null`, of the request and of its messages, are left out.
    pub drop_null: bool,
    /// `response_format` is left out when it says `text`, the default.
    pub drop_text_format: bool,
    /// Which ids of tool calls are accepted.
    pub tool_call_ids: ToolCallIds,
    /// Which forms of `prompt` are accepted.
    pub prompt: PromptForm,
    /// More for some models.
    pub models: Vec<ModelParams>,
}

/// The fields that an upstream knows, by task; a task without a list takes all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AllowLists {
    /// For chat completions.
    pub chat: Option<Vec<String>>,
    /// For plain completions.
    pub completion: Option<Vec<String>>,
    /// For FIM.
    pub fim: Option<Vec<String>>,
    /// For embeddings.
    pub embedding: Option<Vec<String>>,
}

/// What is left out or renamed for some models only.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelParams {
    /// For models that match one of these …
    pub only: Globs,
    /// … and none of these.
    #[serde(default)]
    pub except: Globs,
    /// Fields that are not sent.
    #[serde(default)]
    pub drop: Vec<String>,
    /// Fields that have another name.
    #[serde(default)]
    pub rename: BTreeMap<String, String>,
}

/// Which ids of tool calls an upstream accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ToolCallIds {
    /// Any text.
    #[default]
    Any,
    /// Nine letters or digits (Mistral).
    Alphanumeric9,
}

/// Which forms of `prompt` an upstream accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PromptForm {
    /// Whatever OpenAI accepts: a text, texts, token ids.
    #[default]
    Any,
    /// One text.
    Text,
}

/// Globs on model ids; `*` crosses slashes.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "Vec<String>")]
pub struct Globs {
    written: Vec<String>,
    set: GlobSet,
}

impl AllowLists {
    /// The list for a task, if there is one.
    pub fn of(&self, task: Task) -> Option<&[String]> {
        match task {
            Task::Chat => self.chat.as_deref(),
            Task::Completion => self.completion.as_deref(),
            Task::Fim => self.fim.as_deref(),
            Task::Embedding => self.embedding.as_deref(),
        }
    }
}

impl ModelParams {
    /// Whether this is for the model.
    pub fn applies_to(&self, model: &str) -> bool {
        self.only.set.is_match(model) && !self.except.set.is_match(model)
    }
}

// === impl Globs ===

impl Default for Globs {
    fn default() -> Self {
        Globs { written: Vec::new(), set: GlobSet::empty() }
    }
}

impl PartialEq for Globs {
    fn eq(&self, other: &Self) -> bool {
        self.written == other.written
    }
}

impl TryFrom<Vec<String>> for Globs {
    type Error = String;

    fn try_from(written: Vec<String>) -> Result<Self, String> {
        let mut builder = GlobSetBuilder::new();
        for pattern in &written {
            let glob = GlobBuilder::new(pattern).literal_separator(false).build();
            builder.add(glob.map_err(|error| error.to_string())?);
        }
        let set = builder.build().map_err(|error| error.to_string())?;
        Ok(Globs { written, set })
    }
}
