//! Routers as they are written: their routes, and what the conditions of a route look like. What they mean is
//! `backend/condition`'s affair; this is for those who complete and check files.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

/// A virtual model that sends each request on by conditions.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["routes"]))]
#[schemars(extend("x-expects" = "a table like [routers.NAME] with routes = [{ to = \"mistral/mistral-small-latest\" }]"))]
pub(crate) struct RouterSpec {
    /// A name for people. Default: none.
    pub(crate) name: Option<String>,
    /// A sentence for people. Default: none.
    pub(crate) description: Option<String>,
    /// Clients may ask for it, but it is not in the model list. Default: false.
    pub(crate) hidden: bool,
    /// Where requests go: the first route whose conditions all hold; one without conditions takes the rest. Required.
    #[schemars(with = "Vec<RouteSpec>", extend("x-each" = true, "x-expects" = "a list like [{ has = \"tools\", to = \"mistral/mistral-large-latest\" }, { to = \"ollama/qwen3:8b\" }]"))]
    pub(crate) routes: Vec<Map<String, Value>>,
}

/// One way through a router.
#[derive(JsonSchema)]
#[schemars(extend(
    "required" = ["to"], "additionalProperties" = false,
    "x-expects" = "a table like { endpoint = \"fim\", to = \"codestral/codestral-latest\" }"
))]
#[expect(dead_code, reason = "for the schema; a route is read key by key")]
pub(crate) struct RouteSpec {
    /// Who answers: "provider/model", "provider", the id of a group or router, or "group/model". Required.
    to: Option<String>,
    /// What must not hold: a table of conditions, which fails where they all hold, or a list of such tables, of which
    /// none may hold. Default: nothing.
    #[schemars(extend("x-expects" = "a table of conditions like { has = \"images\" }, or a list of such"))]
    not: Option<OneOrMany<ConditionsSpec>>,
    /// Request fields that it sets, such as { temperature = 0.1 }. Default: none.
    #[schemars(with = "Option<BTreeMap<String, Value>>", extend("x-whole" = true, "x-expects" = "a table like { temperature = 0.1 }"))]
    set: Option<Map<String, Value>>,
    #[schemars(flatten)]
    conditions: ConditionsSpec,
}

/// What a request must be like: all of these that are given; of a list one.
#[derive(JsonSchema)]
#[schemars(extend("additionalProperties" = false))]
#[expect(dead_code, reason = "for the schema; conditions are read key by key")]
pub(crate) struct ConditionsSpec {
    /// What is wanted. Default: anything.
    endpoint: Option<OneOrMany<EndpointWord>>,
    /// Globs on the model that was asked for, as it was written or behind the router's id. Default: any.
    model: Option<OneOrMany<String>>,
    /// What it brings along or asks for. Default: whatever.
    has: Option<OneOrMany<HasWord>>,
    /// The estimated length of the prompt: ">8000", "<=500", "1000-8000". Default: any.
    #[schemars(extend("x-expects" = "a comparison like \">8000\" or \"1000-8000\", or a list of such"))]
    input_tokens: Option<OneOrMany<String>>,
    /// Ids of listeners. Default: any.
    listener: Option<OneOrMany<String>>,
    /// Names of clients: ids of keys. Default: any.
    client: Option<OneOrMany<String>>,
    /// Headers that must all be there, each with a glob or several on its value. Default: any.
    #[schemars(extend("x-expects" = "a table like { x-team = \"ml-*\" }, or a list of such"))]
    header: Option<OneOrMany<BTreeMap<String, OneOrMany<String>>>>,
    /// Globs on the HTTP path, such as "/v1/fim/*". Default: any.
    path: Option<OneOrMany<String>>,
    /// Days of the week and a part of the day. Default: always.
    #[schemars(extend("x-expects" = "a table like { days = \"mon-fri\", from = \"09:00\", to = \"17:00\", time_zone = \"Europe/Berlin\" }, or a list of such"))]
    time: Option<OneOrMany<TimeSpec>>,
    /// How a backend stands. Default: however.
    #[schemars(extend("x-expects" = "a table like { of = \"mistral\", left = \"<20%\" }, or a list of such"))]
    quota: Option<OneOrMany<QuotaSpec>>,
    /// A pattern in the user's last message or the prompt; or a table that says where. Default: any text.
    regex: Option<OneOrMany<PatternSpec>>,
    /// Programming languages of the content, named as in the tag of a fence: "python", "rs". Default: any.
    language: Option<OneOrMany<String>>,
    /// Languages the user writes in, by their codes: "en", "de". Default: any.
    natural_language: Option<OneOrMany<String>>,
}

/// One value or a list of which one is enough.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "for the schema")]
pub(crate) enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

/// The endpoints.
#[derive(JsonSchema)]
#[serde(rename_all = "lowercase")]
#[expect(dead_code, reason = "for the schema")]
pub(crate) enum EndpointWord {
    Chat,
    Completion,
    Fim,
    Embedding,
}

/// What a request can have.
#[derive(JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(dead_code, reason = "for the schema")]
pub(crate) enum HasWord {
    Tools,
    Images,
    Audio,
    ResponseFormat,
    Reasoning,
}

/// A part of the week.
#[derive(JsonSchema)]
#[schemars(extend("additionalProperties" = false))]
#[expect(dead_code, reason = "for the schema")]
pub(crate) struct TimeSpec {
    /// mon to sun, or spans such as "mon-fri". Default: every day.
    days: Option<OneOrMany<String>>,
    /// Begins at this time of day, "09:00". Default: "00:00".
    from: Option<String>,
    /// Ends before this time of day; before `from`, it is that of the next day. Default: "24:00".
    to: Option<String>,
    /// IANA name, such as "Europe/Berlin". Default: "UTC".
    time_zone: Option<String>,
}

/// How a backend stands.
#[derive(JsonSchema)]
#[schemars(extend("required" = ["of"], "additionalProperties" = false))]
#[expect(dead_code, reason = "for the schema")]
pub(crate) struct QuotaSpec {
    /// "provider/model", "provider" for its account, or the id of a group or router. Required.
    of: Option<String>,
    /// The smallest share that is left of its limits: "<20%", ">=0.5". Default: any.
    #[schemars(extend("x-expects" = "a comparison like \"<20%\" or \">=0.5\""))]
    left: Option<String>,
    /// Whether it could take the request now. Default: either.
    state: Option<StateWord>,
}

/// Whether a backend could take a request.
#[derive(JsonSchema)]
#[serde(rename_all = "lowercase")]
#[expect(dead_code, reason = "for the schema")]
pub(crate) enum StateWord {
    Available,
    Exhausted,
}

/// A pattern for the user's text, or one for each text.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "for the schema")]
pub(crate) enum PatternSpec {
    User(String),
    Each(PatternsSpec),
}

/// Patterns, all of which must be found.
#[derive(JsonSchema)]
#[schemars(extend("additionalProperties" = false))]
#[expect(dead_code, reason = "for the schema")]
pub(crate) struct PatternsSpec {
    /// In the last message of the user, or the prompt. Default: none.
    user: Option<String>,
    /// In the system prompt. Default: none.
    system: Option<String>,
}
