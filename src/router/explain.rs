//! Explains what would become of a request, by the routing table as it is: which backend its model means, and what each
//! on the way would do. The same for a running daemon and for a table of providers at rest. Nothing is sent, no list is
//! fetched, no turn is spent.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderName, HeaderValue};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::table::Table;
use crate::backend::Call;
use crate::backend::arrival::{Arrival, session};
use crate::backend::condition::is_secret;
use crate::backend::explain::{self as walked, End, Step, explain as walk};
use crate::backend::opened::Opened;
use crate::backend::size::Size;
use crate::backend::tally::{OfKeys, key_refused, left_of};
use crate::config::settings::ClientKey;
use crate::dialect::{
    self, CHAT_COMPLETIONS, COMPLETIONS, EMBEDDINGS, ENDPOINTS, Endpoint, FIM_COMPLETIONS, Request,
};
use crate::error::{ErrorKind, ProxyError};
use crate::provider::headers::goes_up;
use crate::quota::Moment;

/// What is asked.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Question {
    /// The model, instead of the one that the body names.
    pub model: Option<String>,
    /// `chat`, `completion`, `fim` or `embedding`. Default: what the body looks like, else chat.
    pub endpoint: Option<String>,
    /// The request's body. Default: a short one.
    pub body: Option<String>,
    /// The client's headers.
    pub headers: Vec<(String, String)>,
    /// The client: the id of a key.
    pub client: Option<String>,
    /// Where it comes in. Default: the listener that is asked, or the first one.
    pub listener: Option<String>,
    /// The moment in question, as in RFC 3339. Default: now.
    pub at: Option<String>,
}

/// What it is asked of.
pub struct Surroundings<'a> {
    /// The backends.
    pub table: &'a Table,
    /// The clients' keys.
    pub keys: &'a [ClientKey],
    /// What clients have used of the limits of their keys.
    pub tallies: &'a OfKeys,
    /// The listener that is meant where the question names none.
    pub listener: &'a str,
    /// All of them.
    pub listeners: &'a [Arc<str>],
    /// How a client is told of a failure.
    pub refused: fn(&ProxyError) -> Refused,
}

/// A failure as a client gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The HTTP status.
    pub status: u16,
    /// `error.code`.
    pub code: String,
    /// `Retry-After`, in seconds.
    pub retry_after: Option<u64>,
    /// `x-demuxai-attempts`; empty: without.
    pub attempts: String,
}

/// The answer.
#[derive(Debug, Serialize)]
pub struct Explanation {
    /// The model that was asked for.
    pub model: String,
    /// What is wanted of it.
    pub endpoint: &'static str,
    /// The moment in question.
    pub at: String,
    /// What there is to say beside the way.
    pub notes: Vec<String>,
    /// The way through the graph.
    pub step: Option<Step>,
    /// What becomes of the request if every upstream that is asked answers.
    pub prediction: Prediction,
}

/// What becomes of the request.
#[derive(Debug, Default, Serialize)]
pub struct Prediction {
    /// Who answers, as `x-demuxai-provider` would have it; none: it fails.
    pub provider: Option<String>,
    /// The model there.
    pub model: Option<String>,
    /// As `x-demuxai-attempts` would have it.
    pub attempts: Option<String>,
    /// As `x-demuxai-route` would have it.
    pub route: Option<String>,
    /// Where it fails, the `error.code` that the client gets.
    pub error: Option<String>,
    /// The HTTP status that the client gets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The `Retry-After` that the client gets, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
    /// When it would not fail any more, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// Why it fails.
    pub why: Option<String>,
    /// Nothing but the upstreams' own answers can make this untrue.
    pub sure: bool,
}

/// Explains what would become of the request.
///
/// # Errors
/// When the question itself makes no sense: a body that is no request, an unknown endpoint, client or listener.
pub fn explain(question: &Question, around: &Surroundings<'_>) -> Result<Explanation, ProxyError> {
    let (endpoint, request) = request(question)?;
    let client = client(question, around)?;
    let listener = listener(question, around)?;
    let asked_at = moment(question)?;
    let at = asked_at.unwrap_or_else(Timestamp::now);
    let mut explanation = Explanation {
        model: request.model.clone(),
        endpoint: request.task.label(),
        at: at.round(jiff::Unit::Second).unwrap_or(at).to_string(),
        notes: Vec::new(),
        step: None,
        prediction: Prediction::default(),
    };
    let target = match around.table.resolve_known(&request.model) {
        Ok(target) => target,
        Err(error) => {
            explanation.prediction = Prediction::failed(&error, around);
            return Ok(explanation);
        }
    };
    if let Some(alias) = target.alias.as_deref() {
        let means = full_id(target.backend.id(), &target.model);
        explanation.notes.push(format!("`{alias}` is another name for `{means}`"));
    }
    if let Some(text) = forbidden(client, target.alias.as_deref(), target.backend.id(), &target.model) {
        let error = ProxyError::new(ErrorKind::Forbidden, text);
        explanation.prediction = Prediction::failed(&error, around);
        return Ok(explanation);
    }
    match client {
        Some(key) => {
            let model = full_id(target.backend.id(), &target.model);
            if let Err(error) = within(key, around, &model, &request, asked_at, &mut explanation.notes) {
                explanation.prediction = Prediction::failed(&error, around);
                return Ok(explanation);
            }
        }
        None if !around.keys.is_empty() => explanation.notes.push(
            "no client is named, so that `models` and `limits` of [keys.*] are not looked at".to_owned(),
        ),
        _ => {}
    }
    let (headers, up) = (headers(question)?, headers_up(question)?);
    let mut arrival = Arrival::new(Arc::from(listener), &format!("/v1/{}", endpoint.path), headers);
    arrival.at = asked_at;
    let told = |name: &str| arrival.headers.iter().find(|(known, _)| known == name)?.1.to_str().ok();
    let session = session(told);
    let call = Call {
        request: Arc::new(request),
        model: target.model,
        headers: Arc::new(up),
        received: Instant::now(),
        request_id: Arc::from("explained"),
        stalled_reader: Duration::ZERO,
        client: client.map(|key| Arc::from(key.id.as_str())),
        session,
        arrival: Some(Arc::new(arrival)),
        edits: Arc::default(),
        gate: None,
        costs: None,
        opened: Opened::default(),
        place: None,
        so_far: None,
        round: None,
    };
    let find = |id: &str| around.table.find_virtual(id).cloned();
    let (step, course) = walk(&*target.backend, &call, &find);
    let (route, attempts, sure) = (course.routes(), course.attempts(), course.sure);
    explanation.prediction = match course.end {
        End::Answers { by, model } => {
            let model = Some(model).filter(|model| !model.is_empty());
            Prediction { provider: Some(by), model, attempts, route, sure, ..Prediction::default() }
        }
        End::Fails { error, until, .. } => {
            let until = until.map(walked::moment);
            Prediction { route, until, sure, ..Prediction::failed(&error, around) }
        }
    };
    explanation.step = Some(step);
    Ok(explanation)
}

/// The request that is asked about, and by which endpoint it comes.
fn request(question: &Question) -> Result<(&'static Endpoint, Request), ProxyError> {
    let given: Option<Value> = question.body.as_deref().and_then(|body| serde_json::from_str(body).ok());
    let endpoint = endpoint(question.endpoint.as_deref(), given.as_ref())?;
    let body = match &question.body {
        None => default_body(endpoint, question.model.as_deref().unwrap_or_default()),
        Some(body) => match (&question.model, given) {
            // It names no model, or not as a text: the one that is asked about.
            (Some(model), Some(Value::Object(mut table))) if !names_model(&table) => {
                table.insert("model".to_owned(), Value::from(model.as_str()));
                Value::Object(table).to_string()
            }
            _ => body.clone(),
        },
    };
    let mut request = dialect::read(endpoint, Bytes::from(body))?;
    if let Some(model) = &question.model {
        request.model.clone_from(model);
    }
    Ok((endpoint, request))
}

fn names_model(body: &Map<String, Value>) -> bool {
    body.get("model").and_then(Value::as_str).is_some_and(|id| !id.is_empty())
}

fn endpoint(word: Option<&str>, body: Option<&Value>) -> Result<&'static Endpoint, ProxyError> {
    let has = |key: &str| body.is_some_and(|body| body.get(key).is_some_and(|value| !value.is_null()));
    let found = match word {
        Some("fim") => &FIM_COMPLETIONS,
        Some(word) => {
            let known = ENDPOINTS.iter().find(|endpoint| endpoint.task.label() == word);
            known.ok_or_else(|| {
                let words: Vec<&str> = ENDPOINTS.iter().map(|endpoint| endpoint.task.label()).collect();
                let shown: String = word.chars().take(64).collect();
                let text = format!("`{shown}` is no endpoint (one of: {})", words.join(", "));
                ProxyError::new(ErrorKind::InvalidRequest, text).with_param("endpoint")
            })?
        }
        None if has("messages") => &CHAT_COMPLETIONS,
        None if has("input") => &EMBEDDINGS,
        None if has("prompt") => &COMPLETIONS,
        None => &CHAT_COMPLETIONS,
    };
    Ok(found)
}

/// A short request.
fn default_body(endpoint: &Endpoint, model: &str) -> String {
    let body = match endpoint.task {
        dialect::Task::Chat => json!({"model": model, "messages": [{"role": "user", "content": "Hello"}]}),
        dialect::Task::Completion => json!({"model": model, "prompt": "Hello"}),
        dialect::Task::Fim => json!({"model": model, "prompt": "a = ", "suffix": "print(a)"}),
        dialect::Task::Embedding => json!({"model": model, "input": "Hello"}),
    };
    body.to_string()
}

fn client<'k>(question: &Question, around: &Surroundings<'k>) -> Result<Option<&'k ClientKey>, ProxyError> {
    let Some(id) = &question.client else { return Ok(None) };
    let found = around.keys.iter().find(|key| key.id == *id);
    found.map(Some).ok_or_else(|| {
        let known: Vec<&str> = around.keys.iter().map(|key| key.id.as_str()).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        let shown: String = id.chars().take(64).collect();
        let text =
            format!("there is no client `{shown}` (known: {known}); a client is named by its [keys.NAME]");
        ProxyError::new(ErrorKind::InvalidRequest, text).with_param("client")
    })
}

/// The listener that is meant.
fn listener<'q>(question: &'q Question, around: &Surroundings<'q>) -> Result<&'q str, ProxyError> {
    let Some(id) = question.listener.as_deref() else { return Ok(around.listener) };
    if around.listeners.iter().any(|known| **known == *id) {
        return Ok(id);
    }
    let shown: String = id.chars().take(64).collect();
    let text = format!("there is no listener `{shown}` (known: {})", around.listeners.join(", "));
    Err(ProxyError::new(ErrorKind::InvalidRequest, text).with_param("listener"))
}

/// Why a client's key may not use the model.
fn forbidden(client: Option<&ClientKey>, alias: Option<&str>, backend: &str, model: &str) -> Option<String> {
    let ClientKey { id, models: Some(globs), .. } = client? else { return None };
    let full = full_id(backend, model);
    (!globs.is_match(&full) && !alias.is_some_and(|alias| globs.is_match(alias)))
        .then(|| format!("key `{id}` may not use `{full}`; see `models` of `[keys.{id}]`"))
}

/// Whether a request is within the limits of its client's key, if it has any, of which notes say how they stand.
///
/// # Errors
/// Which one is used up.
fn within(
    key: &ClientKey,
    around: &Surroundings<'_>,
    model: &str,
    request: &Request,
    at: Option<Timestamp>,
    notes: &mut Vec<String>,
) -> Result<(), ProxyError> {
    let Some(tally) = around.tallies.get(&key.id) else { return Ok(()) };
    let (size, at) = (Size::of(request), at.map(|at| Moment(at.as_millisecond())));
    let (limits, _) = tally.stands(&key.id, model, size, at, |need| need);
    let told = limits.iter().map(|view| left_of(view, |amount| amount.to_string()));
    notes.extend(told.map(|text| format!("client `{}`: {text}", key.id)));
    let checked = tally.check(&key.id, model, size, at, |need| need);
    checked.map(|_| ()).map_err(|denial| key_refused(&key.id, &denial, at.unwrap_or_else(|| tally.now())))
}

/// Those of the headers that would go upstream.
fn headers_up(question: &Question) -> Result<Vec<(HeaderName, HeaderValue)>, ProxyError> {
    let kept = |name: &HeaderName| goes_up(name.as_str()) && *name != CONTENT_TYPE && *name != ACCEPT;
    Ok(headers(question)?.into_iter().filter(|(name, _)| kept(name)).collect())
}

fn moment(question: &Question) -> Result<Option<Timestamp>, ProxyError> {
    let Some(written) = &question.at else { return Ok(None) };
    written.parse().map(Some).map_err(|_| {
        let shown: String = written.chars().take(64).collect();
        let text = format!("`{shown}` is no moment; write one such as 2026-12-24T18:00:00Z");
        ProxyError::new(ErrorKind::InvalidRequest, text).with_param("at")
    })
}

fn full_id(backend: &str, model: &str) -> String {
    if model.is_empty() { backend.to_owned() } else { format!("{backend}/{model}") }
}

fn headers(question: &Question) -> Result<Vec<(HeaderName, HeaderValue)>, ProxyError> {
    let mut headers = Vec::new();
    for (name, value) in &question.headers {
        let parsed = HeaderName::from_bytes(name.as_bytes()).ok().zip(HeaderValue::from_str(value).ok());
        let Some((name, value)) = parsed else {
            let shown: String = name.chars().take(64).collect();
            let text = format!("`{shown}` and its value are no header; write NAME:VALUE");
            return Err(ProxyError::new(ErrorKind::InvalidRequest, text).with_param("headers"));
        };
        // As with real requests, no condition sees what holds secrets.
        if !is_secret(&name) {
            headers.push((name, value));
        }
    }
    Ok(headers)
}

// === impl Prediction ===

impl Prediction {
    fn failed(error: &ProxyError, around: &Surroundings<'_>) -> Self {
        let Refused { status, code, retry_after, attempts } = (around.refused)(error);
        Prediction {
            attempts: Some(attempts).filter(|attempts| !attempts.is_empty()),
            error: Some(code),
            status: Some(status),
            retry_after,
            why: Some(error.message.clone()),
            sure: true,
            ..Prediction::default()
        }
    }
}
