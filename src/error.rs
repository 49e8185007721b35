//! The one error of a request: what went wrong, whose fault it is, and whether and where it may be retried.
//! It knows no HTTP response and no dialect; `server/respond.rs` alone turns it into one.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};

use crate::quota::{Refusal, Statement};

/// What went wrong. Closed and small: every kind is a metric label and a log field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request is malformed: not JSON, a field missing or of the wrong type (400).
    InvalidRequest,
    /// The request body is larger than the listener allows (413).
    BodyTooLarge,
    /// The client's key is missing or wrong (401).
    Unauthorized,
    /// Host, Origin or the key's restrictions forbid it (403).
    Forbidden,
    /// The request came through demuxai too often: providers point at each other in a circle (508).
    Loop,
    /// No such route (404).
    NotFound,
    /// The route exists, the method does not (405).
    MethodNotAllowed,
    /// No provider or model of that name (404).
    ModelNotFound,
    /// The model or its provider cannot do what was asked (400).
    Unsupported,
    /// An explicit limit of ours is reached: `max_in_flight` (429).
    Overloaded,
    /// demuxai is draining (503).
    ShuttingDown,
    /// A fault of demuxai itself (500).
    Internal,
    /// The upstream answered with an error status; status and body are kept.
    UpstreamStatus,
    /// The upstream refused our key (502).
    UpstreamAuthentication,
    /// The upstream announced that it is shut down for good (410).
    ProviderRetired,
    /// An error object arrived inside a successful answer (502).
    UpstreamInBand,
    /// No connection: DNS, TCP or TLS failed, or the connection was reset before an answer (502).
    Connect,
    /// `connect`, `first_token`, `idle` or `total` ran out (504).
    Timeout,
    /// The answer ended before it was complete (502).
    Truncated,
    /// The answer is not what the protocol promises: garbage, bad framing, too large (502).
    UpstreamProtocol,
    /// The answer ended without any content, where a group takes that for a failure (502).
    EmptyAnswer,
    /// The provider's actor is down or was replaced while it held the request (503).
    ProviderDown,
    /// A limit of the upstream account is used up, or it asked us to wait (429); nothing was sent.
    QuotaExhausted,
    /// The upstream failed again and again and is left alone for a moment (503); nothing was sent.
    BreakerOpen,
    /// A group of type `static` answers with this error; the status is the configured one.
    Static,
    /// No member of a group could answer (429 when quota was the reason anywhere, else 503).
    Exhausted,
}

impl ErrorKind {
    /// The label in metrics, logs and the `x-demuxai-attempts` header.
    pub fn label(self) -> &'static str {
        match self {
            ErrorKind::InvalidRequest => "invalid_request",
            ErrorKind::BodyTooLarge => "body_too_large",
            ErrorKind::Unauthorized => "unauthorized",
            ErrorKind::Forbidden => "forbidden",
            ErrorKind::Loop => "loop",
            ErrorKind::NotFound => "not_found",
            ErrorKind::MethodNotAllowed => "method_not_allowed",
            ErrorKind::ModelNotFound => "model_not_found",
            ErrorKind::Unsupported => "unsupported",
            ErrorKind::Overloaded => "overloaded",
            ErrorKind::ShuttingDown => "shutting_down",
            ErrorKind::Internal => "internal",
            ErrorKind::UpstreamStatus => "upstream_status",
            ErrorKind::UpstreamAuthentication => "upstream_authentication",
            ErrorKind::ProviderRetired => "provider_retired",
            ErrorKind::UpstreamInBand => "upstream_error",
            ErrorKind::Connect => "connect",
            ErrorKind::Timeout => "timeout",
            ErrorKind::Truncated => "truncated",
            ErrorKind::UpstreamProtocol => "upstream_protocol",
            ErrorKind::EmptyAnswer => "empty_answer",
            ErrorKind::ProviderDown => "provider_down",
            ErrorKind::QuotaExhausted => "quota_exhausted",
            ErrorKind::BreakerOpen => "breaker_open",
            ErrorKind::Static => "static",
            ErrorKind::Exhausted => "exhausted",
        }
    }
}

/// Whose fault an error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The client asked for something that cannot be.
    Client,
    /// demuxai itself.
    Demuxai,
    /// The upstream, or the way to it.
    Upstream,
}

/// Whether and where a failed request may be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Retry {
    /// Nowhere: the request itself is at fault, or it already took effect downstream.
    No,
    /// Not here, but on another backend (failover).
    Elsewhere,
    /// Here again after a moment, or elsewhere.
    Here,
}

/// An error answer as the upstream sent it, kept so that it can pass through unchanged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamAnswer {
    /// The HTTP status.
    pub status: u16,
    /// The body, bounded by the upstream client's limit for error bodies.
    pub body: Bytes,
    /// Those of its headers that may come down.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// `Retry-After` as it came, if any.
    pub retry_after: Option<String>,
}

/// There is no capacity now; and what could change that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Denial {
    /// Only requests in flight are in the way: a place frees when one of them ends. So long it is worth waiting for.
    pub full: Option<Duration>,
    /// Only guesses are in the way: a lone probe may try.
    pub probe: bool,
}

/// One hop of a request that did not lead to an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// The backend's id.
    pub backend: Arc<str>,
    /// The error kind's label, or `skipped`.
    pub label: &'static str,
    /// Why, for people.
    pub reason: String,
}

/// An error on the way of one request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ProxyError {
    /// What went wrong.
    pub kind: ErrorKind,
    /// Whose fault it is.
    pub fault: Fault,
    /// Whether and where it may be tried again.
    pub retry: Retry,
    /// For people: lowercase, no full stop, names the operand and the remedy; never a secret, never a prompt.
    pub message: String,
    /// The request field at fault, for `error.param`.
    pub param: Option<String>,
    /// `error.code`, where it is more exact than the kind's label.
    pub code: Option<String>,
    /// The upstream's own answer, when there is one.
    pub upstream: Option<Box<UpstreamAnswer>>,
    /// When a retry makes sense, if that is known.
    pub retry_after: Option<Duration>,
    /// The upstream loads the model and will then answer: so long it is worth waiting for.
    pub patience: Option<Duration>,
    /// A local server takes no connections: it may be starting, so that whoever waits for capacity waits for it, too.
    pub starting: bool,
    /// The provider it happened at, if it got that far.
    pub provider: Option<String>,
    /// Set when want of capacity is the reason.
    pub denial: Option<Denial>,
    /// What the upstream's refusal means for the account's capacity.
    pub refusal: Option<Box<Refusal>>,
    /// What the upstream stated about its limits beside the error.
    pub statements: Vec<Statement>,
    /// The hops before this one, in a group.
    pub attempts: Vec<Attempt>,
}

impl ProxyError {
    /// An error of `kind` with the fault and retry rule that the kind has by default.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let (fault, retry) = match kind {
            ErrorKind::InvalidRequest
            | ErrorKind::BodyTooLarge
            | ErrorKind::Unauthorized
            | ErrorKind::Forbidden
            | ErrorKind::Loop
            | ErrorKind::NotFound
            | ErrorKind::MethodNotAllowed
            | ErrorKind::ModelNotFound => (Fault::Client, Retry::No),
            ErrorKind::Unsupported => (Fault::Client, Retry::Elsewhere),
            ErrorKind::Overloaded | ErrorKind::QuotaExhausted | ErrorKind::BreakerOpen => {
                (Fault::Demuxai, Retry::Here)
            }
            ErrorKind::Exhausted => (Fault::Upstream, Retry::Elsewhere),
            ErrorKind::ShuttingDown => (Fault::Demuxai, Retry::No),
            ErrorKind::Internal | ErrorKind::Static => (Fault::Demuxai, Retry::Elsewhere),
            ErrorKind::ProviderDown => (Fault::Demuxai, Retry::Elsewhere),
            ErrorKind::Connect | ErrorKind::Timeout => (Fault::Upstream, Retry::Here),
            ErrorKind::UpstreamStatus
            | ErrorKind::UpstreamAuthentication
            | ErrorKind::ProviderRetired
            | ErrorKind::UpstreamInBand
            | ErrorKind::Truncated
            | ErrorKind::EmptyAnswer
            | ErrorKind::UpstreamProtocol => (Fault::Upstream, Retry::Elsewhere),
        };
        ProxyError {
            kind,
            fault,
            retry,
            message: message.into(),
            param: None,
            code: None,
            upstream: None,
            retry_after: None,
            patience: None,
            starting: false,
            provider: None,
            denial: None,
            refusal: None,
            statements: Vec::new(),
            attempts: Vec::new(),
        }
    }

    /// The same error, naming the request field at fault.
    pub fn with_param(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// The same error with a more exact `error.code`.
    pub fn with_code(mut self, code: impl Into<String>) -> Self {
        self.code = Some(code.into());
        self
    }

    /// Whether it speaks against the upstream as such, so that it may be left alone for a moment: it cannot be
    /// reached, breaks its protocol, or says that it is sick. Never what a request itself caused, a quota, or a
    /// client that left; and no 500 either, which upstreams answer to requests that they cannot digest. That
    /// counts when another member of the group then served the same request (`backend/attempts.rs`).
    pub fn counts_against_upstream(&self) -> bool {
        let is_sick = |status| match status {
            408 | 498 | 502..=504 | 520..=530 => true,
            // NVIDIA NIM tells of a sick model so.
            400 => self.fault == Fault::Upstream,
            _ => false,
        };
        match self.kind {
            ErrorKind::Connect | ErrorKind::Timeout | ErrorKind::Truncated | ErrorKind::UpstreamProtocol => {
                true
            }
            ErrorKind::UpstreamStatus | ErrorKind::UpstreamInBand => {
                self.refusal.is_none() && self.upstream.as_ref().is_some_and(|answer| is_sick(answer.status))
            }
            _ => false,
        }
    }

    /// The same error, naming the provider it happened at.
    pub fn at(mut self, provider: &str) -> Self {
        self.provider = Some(provider.to_owned());
        self
    }
}
