//! The configuration after validation: only valid values, ready for use. Made by `validate`, read by everyone.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use globset::GlobSet;
use http::header::HeaderName;
use serde_json::{Map, Value};

use super::image::Image;
use super::report::Problem;
use super::secret::Secret;
use crate::backend::condition::Conditions;
use crate::backend::kind::Build;

/// The whole configuration.
pub struct Config {
    /// Where clients connect; at least one.
    pub listeners: Vec<Listener>,
    /// The clients' keys; none = any key or none is accepted.
    pub keys: Vec<ClientKey>,
    /// The upstreams, in the order of the files.
    pub providers: Vec<ProviderConfig>,
    /// The groups, members before those that name them.
    pub groups: Vec<GroupConfig>,
    /// The routers, likewise. Groups and routers may name each other.
    pub routers: Vec<RouterConfig>,
    /// Other names for models.
    pub aliases: Vec<AliasConfig>,
    /// Where state is kept.
    pub state: StateConfig,
    /// Key for changes through `/demuxai/…`, if any.
    pub admin_key: Option<Secret>,
    /// What is logged.
    pub log: Log,
    /// The options in force, to be compared with those of another configuration.
    pub image: Image,
    /// The files that it was read from, and those that its options name and whose contents count.
    pub files: Vec<PathBuf>,
    /// Things worth a line at start that are no errors: discovery and why, what was ignored.
    pub notes: Vec<String>,
    /// What is probably not meant, though it works.
    pub warnings: Vec<Problem>,
}

/// Where clients connect.
#[derive(Clone)]
pub struct Listener {
    /// Its id in the configuration.
    pub id: String,
    /// Address and port; port 0 takes a free one.
    pub address: SocketAddr,
    /// Serves the OpenAI API.
    pub api: bool,
    /// Serves `/metrics`.
    pub metrics: bool,
    /// Serves `/demuxai/…`.
    pub admin: bool,
    /// Host names accepted in addition to IP literals, localhost, `*.local` and host.docker.internal.
    pub hosts: Vec<String>,
    /// Origins that browsers may call from; `*` = any.
    pub origins: Vec<String>,
    /// Globs on the model ids that are listed here; `None` = all.
    pub listed: Option<GlobSet>,
    /// Largest request body in bytes (default 64 MB).
    pub max_body: usize,
    /// HTTP worker threads (default: the number of cores, at most 4).
    pub workers: usize,
    /// Quiet time after which a waiting stream is kept alive with a comment (default 15 s).
    pub keep_alive: Duration,
    /// A reader that takes nothing for this long is dropped (default 60 s).
    pub stalled_reader: Duration,
    /// How long in-flight requests may go on after the first SIGTERM (default 120 s).
    pub drain: Duration,
}

/// A client's key and what it may do.
#[derive(Clone)]
pub struct ClientKey {
    /// Its id in the configuration: the client's name.
    pub id: String,
    /// The key itself.
    pub key: Secret,
    /// Globs on model ids it may use; `None` = all.
    pub models: Option<GlobSet>,
    /// Globs on those of them that are listed for it; `None` = all.
    pub listed: Option<GlobSet>,
    /// What it may have, whatever it asks for.
    pub limits: Vec<Limit>,
}

/// One upstream account.
#[derive(Clone)]
pub struct ProviderConfig {
    /// Its id in the configuration: the prefix of its models.
    pub id: String,
    /// The type: a row of `provider/registry.rs`.
    pub kind: String,
    /// A name for people.
    pub name: Option<String>,
    /// A sentence for people.
    pub description: Option<String>,
    /// Base URL without a trailing slash and, whatever the user wrote, without the `/v1` that routes add.
    pub url: String,
    /// The key, if the upstream wants one.
    pub api_key: Option<Secret>,
    /// More headers for every request; secrets may be inside.
    pub headers: Vec<(HeaderName, Secret)>,
    /// Globs that a model must match; `None` = all.
    pub include_models: Option<GlobSet>,
    /// Globs that a model must not match; exclusion wins.
    pub exclude_models: Option<GlobSet>,
    /// Globs on models that can be asked for but are not listed; `None` = none of them.
    pub hidden: Option<GlobSet>,
    /// Every name that the upstream has for a model is listed; else each model once.
    pub list_aliases: bool,
    /// How long a model list is good (default 3600 s).
    pub cache: Duration,
    /// When to give up.
    pub timeouts: Timeouts,
    /// No more requests than this at once; `None` = no bound of ours.
    pub max_in_flight: Option<usize>,
    /// How long a request waits for a free place (30 s); zero refuses it at once.
    pub max_wait: Duration,
    /// No more requests than this wait (100).
    pub max_queue: usize,
    /// Static models: added to the upstream's list, or the list where it has none.
    pub models: Vec<StaticModel>,
    /// Certificates trusted in addition to the platform's.
    pub ca_file: Option<PathBuf>,
    /// Arbiters and clients for a busy provider (default 1).
    pub replicas: usize,
    /// Limits of the user; `None` = the catalogue's guesses, `Some([])` = none at all. Enforced by the quota ledger.
    pub limits: Option<Vec<Limit>>,
    /// A server on this machine or network (Ollama, LM Studio, llama.cpp, vLLM): no quota, never cooled down.
    pub local: bool,
}

/// A virtual model over members: what all types have in common, and what its type made of the rest.
#[derive(Debug, Clone)]
pub struct GroupConfig {
    /// Its id in the configuration.
    pub id: String,
    /// Its type: `failover`, `race`.
    pub kind: &'static str,
    /// A name for people.
    pub name: Option<String>,
    /// A sentence for people.
    pub description: Option<String>,
    /// It can be asked for but is not listed.
    pub hidden: bool,
    /// Whom it may hand a request to.
    pub members: Vec<MemberConfig>,
    /// Makes the backend.
    pub build: Arc<dyn Build>,
    /// Its options as they are written, for comparing: they are all that `build` depends on.
    pub options: Map<String, Value>,
}

/// Another name for a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AliasConfig {
    /// The name that clients ask for.
    pub id: String,
    /// What it stands for: `provider/model`, a group's or router's id, or `group/model`.
    pub to: String,
    /// A name for people; `None` = that of what it stands for.
    pub name: Option<String>,
    /// A sentence for people; likewise.
    pub description: Option<String>,
    /// It can be asked for but is not listed.
    pub hidden: bool,
}

/// A virtual model that sends each request on by conditions.
pub struct RouterConfig {
    /// Its id in the configuration.
    pub id: String,
    /// A name for people.
    pub name: Option<String>,
    /// A sentence for people.
    pub description: Option<String>,
    /// It can be asked for but is not listed.
    pub hidden: bool,
    /// Where requests go; the first that matches.
    pub routes: Vec<RouteConfig>,
}

/// One way through a router.
pub struct RouteConfig {
    /// A provider's, group's or router's id.
    pub backend: String,
    /// The model there; `None` = the one that is asked for.
    pub model: Option<String>,
    /// It says which models it is for, so that they may become its own.
    pub renames: bool,
    /// Request fields that it sets: name and JSON.
    pub set: Vec<(String, Bytes)>,
    /// What a request must be like.
    pub conditions: Arc<Conditions>,
}

/// A member of a group.
#[derive(Debug, Clone, PartialEq)]
pub struct MemberConfig {
    /// A provider's or group's id.
    pub backend: String,
    /// The model there; `None` = the one that is asked for.
    pub model: Option<String>,
    /// Its share, at least 1.
    pub weight: u32,
    /// Request fields that it sets: name and JSON.
    pub set: Vec<(String, Bytes)>,
    /// Where it is written inside the group: `members`, `[0]`.
    pub place: Vec<String>,
}

/// What counts as failure in a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FailOn {
    /// Whatever another upstream may do better.
    Default,
    /// One of these.
    These(Vec<FailWord>),
}

/// One kind of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailWord {
    /// An upstream's status, from the first to the last.
    Status(u16, u16),
    /// A timeout.
    Timeout,
    /// No connection.
    Connect,
    /// An answer that ended too early.
    Truncated,
    /// Our key was refused.
    Auth,
    /// A limit of the upstream is reached.
    Quota,
    /// An answer that makes no sense.
    Protocol,
    /// An answer without any content.
    Empty,
    /// Whatever another upstream may do better: the default, for lists that only add to it.
    Default,
    /// Any failure.
    Any,
}

/// Conversations stay where their prompt cache is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StickyConfig {
    /// What tells them apart.
    pub by: StickyBy,
    /// How long after the last answer.
    pub keep: Duration,
}

/// What tells conversations apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StickyBy {
    /// A header that names the session.
    Session,
    /// The request's `user`.
    User,
    /// How it begins.
    Conversation,
}

impl MemberConfig {
    /// As it is written: `mistral/codestral-latest`, or the backend alone.
    pub fn label(&self) -> String {
        match &self.model {
            Some(model) => format!("{}/{model}", self.backend),
            None => self.backend.clone(),
        }
    }
}

impl RouteConfig {
    /// The target as it is written: `mistral/codestral-latest`, or the backend alone.
    pub fn label(&self) -> String {
        match &self.model {
            Some(model) => format!("{}/{model}", self.backend),
            None => self.backend.clone(),
        }
    }
}

/// When to give up on an upstream. Zero is not allowed; `None` = never.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP and TLS (10 s).
    pub connect: Duration,
    /// Until the first semantic event of a stream (120 s, local 600 s).
    pub first_token: Duration,
    /// Between two events of a stream (120 s).
    pub idle: Duration,
    /// Streams: none by default. Plain answers: 600 s.
    pub total_stream: Option<Duration>,
    /// Plain answers, from sending to the last byte (600 s).
    pub total_plain: Duration,
}

/// A model that the configuration or the catalogue names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaticModel {
    /// The upstream's id.
    pub id: String,
    /// Capability words: chat, completion, fim, embedding, tools, vision, reasoning, streaming; empty = unknown.
    pub capabilities: Vec<String>,
    /// Context window in tokens.
    pub context_length: Option<u64>,
}

/// One limit as configured. Validated here; the quota ledger enforces it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// `requests`, `input_tokens`, `output_tokens`, `tokens` or `concurrent`.
    pub unit: String,
    /// How many.
    pub amount: u64,
    /// Length of the window; `None` for `concurrent`.
    pub per: Option<String>,
    /// Glob on model ids; `None` = the whole account.
    pub models: Option<String>,
    /// `rolling`, `fixed`, `calendar`, `bucket` or `session`.
    pub window: Option<String>,
    /// IANA time zone of a calendar window.
    pub time_zone: Option<String>,
}

/// The name of the file beside the state's that holds the token for changes.
pub const TOKEN_FILE: &str = "admin-token";

/// Where state is kept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StateConfig {
    /// The file; `None`: in memory only.
    pub file: Option<PathBuf>,
    /// In memory only because no file was named and the platform has no place for one.
    pub homeless: bool,
}

/// What is logged and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug`, `trace`, or `target=level` pairs separated by commas (default `info`).
    pub level: String,
    /// `text` or `json` lines on stderr.
    pub json: bool,
}
