//! The one error of a request: what went wrong, whose fault it is, and whether and where it may be retried.
//! It knows no HTTP response and no dialect; `server/respond.rs` alone turns it into one.

use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};

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
    /// The provider's actor is down or was replaced while it held the request (503).
    ProviderDown,
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
            ErrorKind::ProviderDown => "provider_down",
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
    /// The provider it happened at, if it got that far.
    pub provider: Option<String>,
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
            ErrorKind::Overloaded => (Fault::Demuxai, Retry::Here),
            ErrorKind::ShuttingDown => (Fault::Demuxai, Retry::No),
            ErrorKind::Internal => (Fault::Demuxai, Retry::Elsewhere),
            ErrorKind::ProviderDown => (Fault::Demuxai, Retry::Elsewhere),
            ErrorKind::Connect | ErrorKind::Timeout => (Fault::Upstream, Retry::Here),
            ErrorKind::UpstreamStatus
            | ErrorKind::UpstreamAuthentication
            | ErrorKind::ProviderRetired
            | ErrorKind::UpstreamInBand
            | ErrorKind::Truncated
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
            provider: None,
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

    /// The same error, naming the provider it happened at.
    pub fn at(mut self, provider: &str) -> Self {
        self.provider = Some(provider.to_owned());
        self
    }
}
