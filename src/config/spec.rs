//! The configuration as it is written: one struct per table, one field per option. The JSON schema that files are
//! checked against is generated from here. Judges nothing but types; what values mean is `validate`'s affair.

pub(crate) mod routes;

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::backend::kind::KINDS;

/// The whole configuration of demuxai.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Spec {
    /// Where clients connect. Default: one listener on 127.0.0.1:6041.
    #[schemars(with = "BTreeMap<String, ListenerSpec>", extend("x-expects" = "a table for each, as in [listeners.NAME]"))]
    pub(crate) listeners: Map<String, Value>,
    /// The clients' keys. Default: none, any key or none is accepted.
    #[schemars(with = "BTreeMap<String, KeySpec>", extend("x-expects" = "a table for each client, as in [keys.NAME]"))]
    pub(crate) keys: Map<String, Value>,
    /// The upstream accounts; the id is the prefix of their models.
    #[schemars(with = "BTreeMap<String, ProviderSpec>", extend("x-expects" = "a table for each, as in [providers.NAME]"))]
    pub(crate) providers: Map<String, Value>,
    /// Groups of backends: virtual models over members.
    #[schemars(with = "BTreeMap<String, AnyGroup>", extend("x-expects" = "a table for each, as in [groups.NAME]"))]
    pub(crate) groups: Map<String, Value>,
    /// Routers: virtual models that send each request on by conditions.
    #[schemars(with = "BTreeMap<String, routes::RouterSpec>", extend("x-expects" = "a table for each, as in [routers.NAME]"))]
    pub(crate) routers: Map<String, Value>,
    /// Other names for models: what a client asks for, and what that stands for here.
    #[schemars(with = "BTreeMap<String, AliasSpec>")]
    pub(crate) aliases: Map<String, Value>,
    /// State on disk.
    pub(crate) state: StateSpec,
    /// Changes through `/demuxai/…`.
    pub(crate) admin: AdminSpec,
    /// What is logged.
    pub(crate) log: LogSpec,
}

/// A virtual model over members: what all types of groups have in common, and the rest for its type to read.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("required" = ["type"]))]
#[schemars(extend("x-expects" = "a table like [groups.NAME] with type = \"failover\""))]
pub(crate) struct GroupSpec {
    /// What it does with its members: failover, rotate, round-robin, random, least-latency, most-quota, soonest-reset,
    /// race, consensus; or with the one backend under `to`: cache, dedupe, tee, rewrite, limit, budget, static (none at
    /// all). Required.
    #[serde(rename = "type")]
    pub(crate) kind: Option<String>,
    /// A name for people. Default: none.
    pub(crate) name: Option<String>,
    /// A sentence for people. Default: none.
    pub(crate) description: Option<String>,
    /// Clients may ask for it, but it is not in the model list. Default: false.
    pub(crate) hidden: bool,
    /// The options of its type.
    #[serde(flatten)]
    #[schemars(skip)]
    pub(crate) options: Map<String, Value>,
}

/// A group with the options of every type; which ones belong to its type is asked when it is read.
struct AnyGroup;

impl JsonSchema for AnyGroup {
    fn schema_name() -> Cow<'static, str> {
        "GroupSpec".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut whole = GroupSpec::json_schema(generator);
        whole.insert("additionalProperties".to_owned(), Value::Bool(false));
        for options in KINDS.iter().flat_map(|kind| kind.options) {
            let more = options(generator);
            let more = more.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
            if let Some(Value::Object(known)) = whole.get_mut("properties") {
                for (key, schema) in more {
                    known.entry(key).or_insert(schema);
                }
            }
        }
        whole
    }
}

/// What a name stands for: "provider/model", the id of a group or router, "group/model", or a table that says more.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(extend("x-expects" = "what it stands for, such as \"mistral/codestral-latest\", or a table like { to = \"...\" }"))]
pub(crate) enum AliasSpec {
    To(String),
    Described(DescribedAlias),
}

/// What a name stands for, and what is said of it.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["to"]))]
pub(crate) struct DescribedAlias {
    /// What it stands for. Required.
    pub(crate) to: Option<String>,
    /// A name for people. Default: that of what it stands for.
    pub(crate) name: Option<String>,
    /// A sentence for people. Default: that of what it stands for.
    pub(crate) description: Option<String>,
    /// Clients may ask for it, but it is not in the model list. Default: false.
    pub(crate) hidden: bool,
}

/// A member: its id, or a table that says more.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(extend("x-expects" = "a member's id or a table like { to = \"...\", weight = 2 }"))]
pub(crate) enum MemberSpec {
    Id(String),
    Described(DescribedMember),
}

/// A member and how it is treated.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["to"]))]
pub(crate) struct DescribedMember {
    /// Its id. Required.
    pub(crate) to: Option<String>,
    /// Its share in round-robin and random. Default: 1.
    #[schemars(range(min = 1, max = 1000))]
    pub(crate) weight: Option<u64>,
    /// Request fields that it sets. Default: none.
    #[schemars(with = "BTreeMap<String, Value>", extend("x-whole" = true, "x-expects" = "a table like { temperature = 0.1 }"))]
    pub(crate) set: Map<String, Value>,
}

/// Where clients connect.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("x-expects" = "a table like [listeners.NAME] with address = \"127.0.0.1:6041\""))]
pub(crate) struct ListenerSpec {
    /// IP address and port. Default: "127.0.0.1:6041". Port 0 takes a free one; an address other than loopback
    /// needs keys.
    #[schemars(extend("x-expects" = "an address and a port such as \"127.0.0.1:6041\""))]
    pub(crate) address: Option<String>,
    /// What is served there. Default: all three.
    pub(crate) serves: Option<Vec<Service>>,
    /// Host names accepted besides IP addresses, localhost, *.local and host.docker.internal. Default: none.
    pub(crate) hosts: Vec<String>,
    /// Origins that browsers may call from; "*" is any. Default: none.
    pub(crate) origins: Vec<String>,
    /// Globs on the model ids that the model list shows here; others can still be asked for. Default: all.
    pub(crate) listed_models: Option<Vec<String>>,
    /// Largest request body. Default: "64MB".
    pub(crate) max_body: Option<Size>,
    /// HTTP worker threads. Default: the number of cores, at most 4.
    #[schemars(range(min = 1, max = 256))]
    pub(crate) workers: Option<u64>,
    /// Quiet time after which a waiting stream is kept alive with a comment. Default: 15 s.
    pub(crate) keep_alive: Option<Span>,
    /// A reader that takes nothing for this long is dropped. Default: 60 s.
    pub(crate) stalled_reader: Option<Span>,
    /// How long in-flight requests may go on after the first SIGTERM. Default: 120 s.
    pub(crate) drain: Option<Span>,
}

/// What a listener can serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Service {
    Api,
    Metrics,
    Admin,
}

/// A client's key and what it may do.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["key"]))]
#[schemars(extend("x-expects" = "a table like { key = \"${SOME_VARIABLE}\" }"))]
pub(crate) struct KeySpec {
    /// The key. Required.
    pub(crate) key: Option<SecretSpec>,
    /// Globs on the model ids it may use. Default: all.
    pub(crate) models: Option<Vec<String>>,
    /// Globs on those of them that the model list shows it. Default: all.
    pub(crate) listed_models: Option<Vec<String>>,
    /// What this client may have, whatever it asks for; never exceeded. Default: no limits.
    #[schemars(extend("x-expects" = "a list like [{ requests = 60, per = \"minute\" }]"))]
    pub(crate) limits: Vec<LimitSpec>,
}

/// One upstream account.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["type"]))]
#[schemars(extend("x-expects" = "a table like [providers.NAME] with type = \"ollama\""))]
pub(crate) struct ProviderSpec {
    /// The kind of upstream: ollama, ollama-cloud, github, mistral, codestral, fireworks, openai … Required.
    #[serde(rename = "type")]
    pub(crate) kind: Option<String>,
    /// A name for people. Default: none.
    pub(crate) name: Option<String>,
    /// A sentence for people. Default: none.
    pub(crate) description: Option<String>,
    /// Base URL, with or without a trailing /v1. Default: that of the type.
    #[schemars(extend("x-expects" = "a URL such as \"http://localhost:8080\""))]
    pub(crate) url: Option<String>,
    /// The key that the upstream wants. Default: none.
    pub(crate) api_key: Option<SecretSpec>,
    /// More headers for every request. Default: none.
    #[schemars(with = "BTreeMap<String, SecretSpec>", extend("x-header-names" = true, "x-expects" = "a table like { x-name = \"value\" }"))]
    pub(crate) headers: Map<String, Value>,
    /// Only models that match one of these globs. Default: all.
    pub(crate) include_models: Option<Vec<String>>,
    /// No models that match one of these globs; exclusion wins. Default: none.
    pub(crate) exclude_models: Option<Vec<String>>,
    /// Models that clients may ask for, but that are not in the model list: true for all, or globs. Default: false.
    pub(crate) hidden: Option<HiddenSpec>,
    /// Whether the model list shows every name that the upstream has for a model, or each model once. Default: true.
    pub(crate) list_aliases: Option<bool>,
    /// How long a model list is good. Default: 3600.
    pub(crate) cache_seconds: Option<Span>,
    /// When to give up.
    pub(crate) timeouts: TimeoutsSpec,
    /// No more requests than this at once; others wait for a place. Default: no bound.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(crate) max_in_flight: Option<u64>,
    /// How long a request waits for a free place before it is refused with 429. 0 refuses at once. Default: 30 s.
    pub(crate) max_wait: Option<Span>,
    /// No more requests than this wait. Default: 100.
    #[schemars(range(min = 0, max = 100_000))]
    pub(crate) max_queue: Option<u64>,
    /// Models added to the upstream's list, or the list where it has none. Default: none.
    pub(crate) models: Vec<ModelSpec>,
    /// PEM file with certificates trusted in addition to the platform's. Default: none.
    pub(crate) ca_file: Option<String>,
    /// Threads and HTTP clients for a busy provider, 1 to 64. Default: 1.
    #[schemars(range(min = 1, max = 64))]
    pub(crate) replicas: Option<u64>,
    /// Your limits, never exceeded. Default: the built-in catalogue's guesses; [] is none.
    #[schemars(extend("x-expects" = "a list like [{ requests = 60, per = \"minute\" }]"))]
    pub(crate) limits: Option<Vec<LimitSpec>>,
    /// A server on this machine or network: no quota, and time to load a model. Default: that of the type.
    pub(crate) local: Option<bool>,
}

/// Which models of a provider are not listed.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(extend("x-expects" = "true, or globs such as [\"*-preview\"]"))]
pub(crate) enum HiddenSpec {
    All(bool),
    These(Vec<String>),
}

/// When to give up on an upstream.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("x-expects" = "a table like { first_token = \"60s\", total = \"10m\" }"))]
pub(crate) struct TimeoutsSpec {
    /// TCP and TLS. Default: 10 s.
    pub(crate) connect: Option<Span>,
    /// Until the first part of a streamed answer. Default: 120 s, for local servers 600 s.
    pub(crate) first_token: Option<Span>,
    /// Between two parts of a streamed answer. Default: 120 s.
    pub(crate) idle: Option<Span>,
    /// A whole answer that is not streamed. Default: 600 s.
    pub(crate) total: Option<Span>,
    /// A whole streamed answer. Default: no bound.
    pub(crate) total_stream: Option<Span>,
}

/// A model: its id, or a table that says more.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(extend("x-expects" = "a model id or a table like { id = \"...\" }"))]
pub(crate) enum ModelSpec {
    Id(String),
    Described(DescribedModel),
}

/// A model and what is known of it.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["id"]))]
pub(crate) struct DescribedModel {
    /// The upstream's id. Required.
    pub(crate) id: Option<String>,
    /// chat, completion, fim, embedding, tools, vision, reasoning, streaming. Default: unknown.
    pub(crate) capabilities: Vec<String>,
    /// Context window in tokens. Default: unknown.
    #[schemars(range(min = 1))]
    pub(crate) context_length: Option<u64>,
}

/// One limit, such as `{ requests = 60, per = "minute" }`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("x-expects" = "a table like { requests = 60, per = \"minute\" }"))]
pub(crate) struct LimitSpec {
    /// How many requests.
    #[schemars(range(min = 1))]
    pub(crate) requests: Option<u64>,
    /// How many tokens in prompts.
    #[schemars(range(min = 1))]
    pub(crate) input_tokens: Option<u64>,
    /// How many tokens in answers.
    #[schemars(range(min = 1))]
    pub(crate) output_tokens: Option<u64>,
    /// How many tokens in prompts and answers together.
    #[schemars(range(min = 1))]
    pub(crate) tokens: Option<u64>,
    /// How many requests at the same time; has no `per`.
    #[schemars(range(min = 1))]
    pub(crate) concurrent: Option<u64>,
    /// The window: "minute", "hour", "day", "week", "month", or a length such as "5h".
    #[schemars(extend("x-expects" = "\"minute\", \"hour\", \"day\", \"week\", \"month\", or a length such as \"5h\""))]
    pub(crate) per: Option<String>,
    /// Glob on model ids; each matching model has the limit for itself. Default: the whole account.
    pub(crate) models: Option<String>,
    /// How the window moves. Default: "rolling".
    pub(crate) window: Option<Window>,
    /// IANA time zone of a calendar window. Default: "UTC".
    pub(crate) time_zone: Option<String>,
}

/// How a limit's window moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Window {
    Rolling,
    Fixed,
    Calendar,
    Bucket,
    Session,
}

/// Where counts and the history of use are kept, so that a restart forgets nothing.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("x-expects" = "a table like [state] with path = \"state.db\""))]
pub(crate) struct StateSpec {
    /// The file: absolute, ~/…, or relative to the configuration file; "none" keeps state in memory only. Default:
    /// demuxai/state.db in the platform's state directory (Linux: ~/.local/state).
    pub(crate) path: Option<String>,
    /// A server that several machines share. Reserved for a later version.
    pub(crate) url: Option<String>,
}

/// Changes through `/demuxai/…`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("x-expects" = "a table like [admin] with key = \"${SOME_VARIABLE}\""))]
pub(crate) struct AdminSpec {
    /// Key for changes. Default: none.
    pub(crate) key: Option<SecretSpec>,
}

/// What is logged, on stderr.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("x-expects" = "a table like [log] with level = \"info\""))]
pub(crate) struct LogSpec {
    /// error, warn, info, debug, trace, off, or `target=level` pairs separated by commas. Default: "info".
    pub(crate) level: Option<String>,
    /// "text" or "json". Default: "text".
    pub(crate) format: Option<LogFormat>,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    Text,
    Json,
}

/// A secret: text with `${VAR}` inside, or a reference.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(extend("x-expects" = "text such as \"${VAR}\", or { env = ... }, { file = ... }, { command = [...] }"))]
pub(crate) enum SecretSpec {
    Text(String),
    Reference(SecretReference),
}

/// Where a secret comes from; exactly one of the three.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("x-whole" = true))]
pub(crate) struct SecretReference {
    /// An environment variable.
    pub(crate) env: Option<String>,
    /// A file that holds the secret and nothing else; relative to the configuration file's directory.
    pub(crate) file: Option<String>,
    /// A program and its arguments (no shell) that prints the secret; 10 s.
    #[schemars(extend("x-expects" = "a program and its arguments, each by itself, such as [\"pass\", \"show\", \"mistral\"]"))]
    pub(crate) command: Option<Vec<String>>,
}

/// A length of time: seconds, or text such as "90s", "5m", "500ms", "1h30m".
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline, extend("x-expects" = "seconds as a number, or text such as \"90s\", \"5m\", \"500ms\""))]
pub(crate) enum Span {
    Seconds(f64),
    Text(String),
}

/// A number of bytes, or text such as "64MB".
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline, extend("x-expects" = "a number of bytes, or text such as \"64MB\""))]
pub(crate) enum Size {
    Bytes(u64),
    Text(String),
}

/// Without the text: it may be the secret itself.
impl std::fmt::Debug for SecretSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SecretSpec::Text(_) => f.write_str("Text(…)"),
            SecretSpec::Reference(reference) => reference.fmt(f),
        }
    }
}
