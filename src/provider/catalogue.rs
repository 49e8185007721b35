//! The provider facts that age: base URLs, key variables, parameter policies, static models, first guesses at limits.
//! They are data (`config/providers.toml`, compiled in); this file gives them types and refuses what makes no sense.
//! It knows no adapter and decides nothing about a request.

mod limits;
mod policy;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use serde::Deserialize;

pub use limits::{Certainty, LimitGuess};
pub use policy::{AllowLists, Globs, ModelParams, ParamPolicy, PromptForm, ToolCallIds};

use super::capability::{CAPABILITY_WORDS, model_from_words};
use super::model_list::usable_id;
use super::prefix::PrefixFacts;
use super::{Adapter, Model, Route};
use crate::base_url::BaseUrl;
use crate::dialect::{Shape, Task};
use crate::quota::Glob;
use crate::upstream::RateForm;

const BUILTIN: &str = include_str!("../../config/providers.toml");

/// All tables by the name of the kind they describe.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Catalogue {
    kinds: BTreeMap<String, Arc<KindFacts>>,
}

/// What is data about one kind of upstream. Everything has a default, so that a table names only what is peculiar.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KindFacts {
    /// The day on which somebody last looked these facts up, `2026-11-22`.
    pub as_of: String,
    /// A name for people.
    pub display_name: Option<String>,
    /// The row of the registry this kind builds upon, if it is not one itself.
    pub adapter: Option<String>,
    /// The base URL when the configuration gives none, without the `/v1` that paths bring along.
    pub url: Option<String>,
    /// Environment variables that usually hold the key; the first that is set counts.
    pub api_key_env: Vec<String>,
    /// Whether a key is needed at all.
    pub requires_key: bool,
    /// A server on this machine or network: no quota, never cooled down, longer timeouts.
    pub local: bool,
    /// The model list is not complete: ids that are not on it are sent unchecked.
    pub open_list: bool,
    /// How token counts get into a stream.
    pub usage_in_stream: UsageInStream,
    /// How its headers state limits.
    pub rate_headers: RateForm,
    /// All models share its limits: a refusal that does not say whom it is for is for the account.
    pub shared_limits: bool,
    /// Paths that differ from the adapter's.
    pub paths: Paths,
    /// How it goes on with an answer that was begun, if it is known to be able to.
    pub prefix: Option<PrefixFacts>,
    /// What may be sent.
    pub params: ParamPolicy,
    /// Models that are served, listed or not; they stand in for a list that cannot be had.
    pub models: Vec<ModelFacts>,
    /// A glob on the ids of models that cost no credits.
    pub free_models: Option<String>,
    /// Where the day ends at whose end it gives a used-up day's allowance anew: a time zone.
    pub day_ends: Option<String>,
    /// First guesses at the free tier's limits.
    pub limits: Vec<LimitGuess>,
    /// Set when the owner shut the upstream down.
    pub retired: Option<Retired>,
}

/// How an upstream reports token counts in a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UsageInStream {
    /// When `stream_options.include_usage` asks for it.
    #[default]
    Ask,
    /// Without being asked.
    Always,
    /// Not at all.
    Never,
}

/// Paths below the base URL that differ from the adapter's; an empty one means that there is no such route.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Paths {
    /// The model list.
    pub models: Option<String>,
    /// Chat completions.
    pub chat: Option<String>,
    /// Plain completions.
    pub completion: Option<String>,
    /// Fill in the middle.
    pub fim: Option<String>,
    /// Embeddings.
    pub embedding: Option<String>,
    /// What is left of the account, where the upstream tells; read by `usage.rs`.
    pub usage: Option<String>,
}

/// A model that is known to be served.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelFacts {
    /// The upstream's id.
    pub id: String,
    /// Capability words, all that apply; none = unknown.
    #[serde(default)]
    pub capabilities: Vec<String>,
    /// Context window in tokens.
    #[serde(default)]
    pub context_length: Option<u64>,
    /// Other ids of the same model.
    #[serde(default)]
    pub aliases: Vec<String>,
}

/// The end of an upstream, and how it announces that.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retired {
    /// The day it ended.
    pub since: String,
    /// What to tell people.
    pub message: String,
    /// The status it answers with.
    pub status: u16,
    /// A text that its body holds, so that the same status of one missing model is not taken for the end.
    pub mark: String,
}

/// Where a request goes, overrides applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpstreamRoute<'a> {
    /// Path below the base URL.
    pub path: &'a str,
    /// The shape of the upstream's answer.
    pub shape: Shape,
}

impl Catalogue {
    /// The catalogue that is compiled in, read once. A text that cannot be read would be an empty one;
    /// a test proves that it can.
    pub fn builtin() -> &'static Catalogue {
        static CATALOGUE: OnceLock<Catalogue> = OnceLock::new();
        CATALOGUE.get_or_init(|| Catalogue::parse(BUILTIN).unwrap_or_default())
    }

    /// Reads a catalogue from TOML, one table per kind.
    ///
    /// # Errors
    /// The first thing that is not TOML, not known, or makes no sense, with the table it is in.
    pub fn parse(text: &str) -> Result<Self, String> {
        let tables: toml::Table = text.parse().map_err(|error: toml::de::Error| error.to_string())?;
        let mut kinds = BTreeMap::new();
        for (name, table) in tables {
            let facts: KindFacts = table
                .try_into()
                .map_err(|error: toml::de::Error| format!("provider type `{name}`: {error}"))?;
            facts.check().map_err(|error| format!("provider type `{name}`: {error}"))?;
            kinds.insert(name, Arc::new(facts));
        }
        Ok(Catalogue { kinds })
    }

    /// The facts of this kind.
    pub fn facts(&self, name: &str) -> Option<Arc<KindFacts>> {
        self.kinds.get(name).cloned()
    }

    /// All names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.kinds.keys().map(String::as_str)
    }
}

impl KindFacts {
    /// Where a task goes: the adapter's route unless the catalogue knows another path; `None` when there is none.
    pub fn route<'a>(&'a self, adapter: &dyn Adapter, task: Task) -> Option<UpstreamRoute<'a>> {
        let native = adapter.route(task);
        let Some(path) = self.paths.of(task) else {
            return native.map(|Route { path, shape }| UpstreamRoute { path, shape });
        };
        let shape = native.map_or(task_shape(task), |route| route.shape);
        if path.is_empty() { None } else { Some(UpstreamRoute { path, shape }) }
    }

    /// The path of the model list; `None` when the upstream has none.
    pub fn models_path<'a>(&'a self, adapter: &dyn Adapter) -> Option<&'a str> {
        let path = self.paths.models.as_deref().unwrap_or(adapter.models_path());
        if path.is_empty() { None } else { Some(path) }
    }

    /// The path that tells what is left of the account; `None` when the upstream has none that is known.
    pub fn usage_path(&self) -> Option<&str> {
        self.paths.usage.as_deref().filter(|path| !path.is_empty())
    }

    /// The models that cost no credits.
    pub fn free_models(&self) -> Option<Glob> {
        Glob::parse(self.free_models.as_deref()?).ok()
    }

    /// How long a day's allowance that is used up stays so; `None` where that is not known.
    pub fn until_day_ends(&self, now: SystemTime) -> Option<Duration> {
        let zone = TimeZone::get(self.day_ends.as_deref()?).ok()?;
        let here = Timestamp::try_from(now).ok()?.to_zoned_datetime(zone);
        let ends = here.start_of_day().ok()?.checked_add(1.day()).ok()?;
        SystemTime::try_from(ends.timestamp()).ok()?.duration_since(now).ok()
    }

    /// The static models in the shape of a list.
    pub fn static_models(&self) -> Vec<Model> {
        self.models.iter().map(ModelFacts::model).collect()
    }

    fn check(&self) -> Result<(), String> {
        if !is_date(&self.as_of) {
            return Err(
                "`as_of` must say on which day the facts were looked up, as in `2026-11-22`".to_owned()
            );
        }
        if let Some(url) = &self.url
            && BaseUrl::parse(url)?.text != *url
        {
            return Err(format!("write the url as `{}`", BaseUrl::parse(url)?.text));
        }
        if let Some(path) = self.paths.all().into_iter().flatten().find(|path| !is_path(path)) {
            return Err(format!("path `{path}` must be empty or begin with a slash"));
        }
        if let Some(model) = self.models.iter().find(|model| usable_id(&model.id).is_none()) {
            return Err(format!("`{}` cannot be a model id", model.id.escape_debug()));
        }
        if let Some(Err(error)) = self.free_models.as_deref().map(Glob::parse) {
            return Err(format!("`free_models`: {error}"));
        }
        if let Some(zone) = self.day_ends.as_deref().filter(|zone| TimeZone::get(zone).is_err()) {
            return Err(format!("`day_ends`: no time zone `{zone}`"));
        }
        let words = self.models.iter().flat_map(|model| &model.capabilities);
        if let Some(word) = words.into_iter().find(|word| !CAPABILITY_WORDS.contains(&word.as_str())) {
            return Err(format!("unknown capability `{word}` (known: {})", CAPABILITY_WORDS.join(", ")));
        }
        Ok(())
    }
}

impl Paths {
    /// The path for a task, if the catalogue has its own.
    pub fn of(&self, task: Task) -> Option<&str> {
        match task {
            Task::Chat => self.chat.as_deref(),
            Task::Completion => self.completion.as_deref(),
            Task::Fim => self.fim.as_deref(),
            Task::Embedding => self.embedding.as_deref(),
        }
    }

    fn all(&self) -> [&Option<String>; 6] {
        [&self.models, &self.chat, &self.completion, &self.fim, &self.embedding, &self.usage]
    }
}

impl ModelFacts {
    /// The same in the shape of a list.
    pub fn model(&self) -> Model {
        Model {
            context_length: self.context_length,
            aliases: self.aliases.clone(),
            ..model_from_words(&self.id, &self.capabilities)
        }
    }
}

impl Retired {
    /// Whether this answer is the upstream's announcement of its end.
    pub fn announced_by(&self, status: u16, body: &[u8]) -> bool {
        status == self.status && memchr::memmem::find(body, self.mark.as_bytes()).is_some()
    }
}

/// The shape that OpenAI answers a task in.
fn task_shape(task: Task) -> Shape {
    match task {
        Task::Chat => Shape::Chat,
        Task::Completion | Task::Fim => Shape::Text,
        Task::Embedding => Shape::Embedding,
    }
}

fn is_path(path: &str) -> bool {
    path.is_empty()
        || (path.starts_with('/') && !path.contains(['?', '#', ' ']) && !path.chars().any(char::is_control))
}

fn is_date(text: &str) -> bool {
    super::timestamp::parse_rfc3339(&format!("{text}T00:00:00Z")).is_some()
}

#[cfg(test)]
mod tests;
