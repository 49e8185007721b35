//! What can go wrong between us and the upstream.

use crate::error::{ErrorKind, ProxyError};

/// `error.code` of a time-out before there was a connection: nobody is there, as far as can be told.
pub const NO_CONNECTION: &str = "connect_timeout";

/// What went wrong; decides the error kind and whether the client tries again by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FailureKind {
    /// The host name has no address.
    Resolve,
    /// No TCP connection.
    Tcp,
    /// No TLS session.
    Tls,
    /// Name, TCP and TLS together took longer than allowed.
    TimedOut,
    /// A reused connection died soon and before the first byte of the answer: worth one try on a fresh one.
    Stale,
    /// A connection died before the first byte of the answer, and may have been at work on it.
    Closed,
    /// The connection died in the middle of the answer.
    Truncated,
    /// The answer is not HTTP/1.1 as we can follow it.
    Protocol,
    /// A fault of ours.
    Internal,
}

/// A failure and its cause in words; the peer's name is added by whoever knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) kind: FailureKind,
    pub(super) cause: String,
}

// === impl Failure ===

impl Failure {
    pub(super) fn new(kind: FailureKind, cause: impl Into<String>) -> Self {
        Failure { kind, cause: cause.into() }
    }

    /// The error for the request, naming `peer` (`host:port`).
    pub(super) fn into_error(self, peer: &str) -> ProxyError {
        let cause = self.cause;
        match self.kind {
            FailureKind::Resolve => ProxyError::new(
                ErrorKind::Connect,
                format!(
                    "cannot resolve the host of {peer}: {cause}; check the provider's `url` and the network"
                ),
            ),
            FailureKind::Tcp => {
                ProxyError::new(ErrorKind::Connect, format!("cannot connect to {peer}: {cause}"))
            }
            FailureKind::Tls => {
                ProxyError::new(ErrorKind::Connect, format!("tls handshake with {peer} failed: {cause}"))
            }
            FailureKind::TimedOut => {
                ProxyError::new(ErrorKind::Timeout, format!("no connection to {peer} {cause}"))
                    .with_code(NO_CONNECTION)
            }
            FailureKind::Stale | FailureKind::Closed => ProxyError::new(
                ErrorKind::Connect,
                format!("{peer} closed the connection before it answered: {cause}"),
            ),
            FailureKind::Truncated => {
                ProxyError::new(ErrorKind::Truncated, format!("the answer of {peer} broke off: {cause}"))
            }
            FailureKind::Protocol => ProxyError::new(
                ErrorKind::UpstreamProtocol,
                format!("the answer of {peer} is not valid http: {cause}"),
            ),
            FailureKind::Internal => {
                ProxyError::new(ErrorKind::Internal, format!("cannot send a request to {peer}: {cause}"))
            }
        }
    }
}
