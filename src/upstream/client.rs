//! The HTTP client of one provider: one request out, one answer back, bytes untouched. The only file that names awc.
//! It retries nothing but a reused connection that turned out dead, follows no redirect, and has no timeout but the
//! one for connecting: first token, idle and total belong to whoever reads the answer.

use std::path::PathBuf;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::body::{BodySize, MessageBody};
use actix_web::error::{ParseError, PayloadError};
use awc::error::{ConnectError, SendRequestError};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Uri};
use rustls::pki_types::ServerName;

use super::connect::Target;
use super::connector::{Connector, FRESH};
use super::failure::{Failure, FailureKind};
use super::pool::Pool;
use super::tls;
use crate::base_url::BaseUrl;
use crate::error::{ErrorKind, ProxyError};
use crate::wire::rope::Rope;

/// How much of a request body awc copies at a time.
const UPLOAD_PIECE: usize = 128 * 1024;
/// So much of a whole answer is read before others have their turn.
const UNINTERRUPTED: usize = 4 * 1024 * 1024;
/// awc's own bound on connections. Admission is the provider's business; `0` would overflow on 32-bit platforms.
const AWC_LIMIT: usize = 1 << 20;
/// awc's own bound on connecting, which must never be the one that strikes.
const AWC_CONNECT_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

/// What a client needs to know of its provider.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// Base URL, `http` or `https`, possibly with a path.
    pub url: String,
    /// Name, TCP and TLS together.
    pub connect_timeout: Duration,
    /// Certificates trusted in addition to the platform's, in PEM format.
    pub ca_file: Option<PathBuf>,
    /// `User-Agent` of every request that does not bring its own.
    pub user_agent: String,
}

/// A request to the provider.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// The method; `HEAD` is not allowed.
    pub method: Method,
    /// Appended to the base URL's path; with its query, and percent-encoded.
    pub path: String,
    /// Headers as they go out. Those that belong to the connection (`connection`, `content-length`,
    /// `transfer-encoding`, `expect`, `accept-encoding` …) are ours and left out; a `host` replaces ours.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body.
    pub body: Rope,
}

/// What the provider answered, with any status.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The headers, less those that concern only the connection.
    pub headers: HeaderMap,
    /// The body, still on its way.
    pub body: AnswerBody,
}

/// The body of an answer. Dropping it before its end closes the connection at once.
pub struct AnswerBody {
    response: Option<awc::ClientResponse>,
    peer: Rc<str>,
}

/// The HTTP client of one provider. Cheap; not `Send`: it lives and dies on one arbiter.
pub struct Client {
    awc: awc::Client,
    base_path: String,
    authority: Authority,
    fresh_authority: Authority,
    host: HeaderValue,
    user_agent: HeaderValue,
    peer: Rc<str>,
}

/// A request body that awc copies piece by piece: a large one is never in memory twice.
struct Upload<I> {
    length: u64,
    pieces: I,
}

// === impl Client ===

impl Client {
    /// A client for one provider. Opens no connection.
    ///
    /// # Errors
    /// When `url`, `ca_file` or `user_agent` cannot be used.
    pub fn new(options: &ClientOptions) -> Result<Client, ProxyError> {
        let unusable = |what: String| ProxyError::new(ErrorKind::Internal, what);
        let base = BaseUrl::parse_trimmed(&options.url).map_err(|what| unusable(format!("url: {what}")))?;
        let tls = match base.encrypted {
            false => None,
            true => {
                let name = ServerName::try_from(base.host.clone())
                    .map_err(|_| unusable(format!("url `{}` has no valid host name", options.url)))?;
                Some((tls::config(options.ca_file.as_deref())?.into(), name))
            }
        };
        let written_host = base.host_in_url();
        let peer = format!("{written_host}:{}", base.port);
        let default_port = if base.encrypted { 443 } else { 80 };
        let host = if base.port == default_port { written_host.as_str() } else { peer.as_str() };
        let authority = |text: &str| {
            Authority::try_from(text)
                .map_err(|_| unusable(format!("url `{}` has no valid host", options.url)))
        };
        let header_value = |text: &str, operand: &str| {
            HeaderValue::from_str(text)
                .map_err(|_| unusable(format!("{operand} holds a character that no header may hold")))
        };

        let target = Target { host: base.host, port: base.port, tls, timeout: options.connect_timeout };
        let connector = Connector { target: Rc::new(target), pool: Rc::new(Pool::default()) };
        Ok(Client {
            awc: build_awc(connector),
            authority: authority(&peer)?,
            fresh_authority: authority(&format!("{FRESH}@{peer}"))?,
            host: header_value(host, "url")?,
            user_agent: header_value(&options.user_agent, "the user agent")?,
            base_path: base.path,
            peer: peer.into(),
        })
    }

    /// Sends a request and returns the answer as soon as its head is there, whatever its status.
    /// Dropping the future closes the connection.
    ///
    /// # Errors
    /// `Connect`, `Timeout` (connecting only), `Truncated` and `UpstreamProtocol`.
    pub async fn send(&self, request: Outgoing) -> Result<Answer, ProxyError> {
        self.send_telling(request, || {}).await
    }

    /// As [`Client::send`]; `sending` is called each time the request is about to go out, which may be twice: whoever
    /// counts requests must count both, as nobody knows what became of the first.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn send_telling(&self, request: Outgoing, sending: impl Fn()) -> Result<Answer, ProxyError> {
        sending();
        let result = match self.attempt(&request, &self.authority).await {
            Err(failure) if failure.kind == FailureKind::Stale => {
                tracing::debug!(peer = %self.peer, "a reused connection was dead; trying once on a fresh one");
                sending();
                self.attempt(&request, &self.fresh_authority).await
            }
            result => result,
        };
        let response = result.map_err(|failure| failure.into_error(&self.peer))?;
        let status = response.status().as_u16();
        let body = AnswerBody { response: None, peer: Rc::clone(&self.peer) };
        let mut headers: HeaderMap =
            response.headers().iter().map(|(name, value)| (name.clone(), value.clone())).collect();

        match content_encoding(&headers) {
            None => Ok(Answer { status, headers, body: AnswerBody { response: Some(response), ..body } }),
            Some(encoding) if status < 300 => Err(Failure::new(
                FailureKind::Protocol,
                format!("its content-encoding is `{encoding}`, which was not asked for"),
            )
            .into_error(&self.peer)),
            // The status of a refusal counts more than its text, which nobody here can read.
            Some(_) => {
                headers.remove(header::CONTENT_ENCODING);
                headers.remove(header::CONTENT_LENGTH);
                Ok(Answer { status, headers, body })
            }
        }
    }

    async fn attempt(
        &self,
        request: &Outgoing,
        authority: &Authority,
    ) -> Result<awc::ClientResponse, Failure> {
        if request.method == Method::HEAD {
            return Err(Failure::new(FailureKind::Internal, "head requests are not supported"));
        }
        let path = format!("{}{}", self.base_path, request.path);
        let uri = PathAndQuery::try_from(path)
            .ok()
            .filter(|path| path.as_str().starts_with('/'))
            .and_then(|path| {
                let builder = Uri::builder().scheme(Scheme::HTTP).authority(authority.clone());
                builder.path_and_query(path).build().ok()
            })
            .ok_or_else(|| {
                Failure::new(FailureKind::Internal, format!("path `{}` is not percent-encoded", request.path))
            })?;

        let mut outgoing = self
            .awc
            .request(request.method.clone(), uri)
            .no_decompress()
            .insert_header((header::HOST, self.host.clone()))
            .insert_header((header::USER_AGENT, self.user_agent.clone()));
        let headers = outgoing.headers_mut();
        for (name, value) in &request.headers {
            match name {
                &header::HOST | &header::USER_AGENT => drop(headers.insert(name.clone(), value.clone())),
                name if belongs_to_connection(name) => {}
                name => headers.append(name.clone(), value.clone()),
            }
        }
        let sending = if request.body.is_empty() && request.method == Method::GET {
            outgoing.send_body(actix_web::body::None::new())
        } else {
            let length = request.body.len() as u64;
            outgoing.send_body(Upload { length, pieces: request.body.clone().into_pieces(UPLOAD_PIECE) })
        };
        sending.await.map_err(|error| failure_of(&error))
    }
}

fn build_awc(connector: Connector) -> awc::Client {
    // A keep-alive of zero leaves awc's pool empty: ours, in `pool.rs`, holds the connections.
    let connector = awc::Connector::new()
        .connector(connector)
        .timeout(AWC_CONNECT_TIMEOUT)
        .conn_keep_alive(Duration::ZERO)
        .limit(AWC_LIMIT);
    awc::Client::builder()
        .connector(connector)
        .disable_timeout()
        .disable_redirects()
        .no_default_headers()
        .finish()
}

/// Headers that are the connection's business, or that would change what the answer looks like on the wire.
fn belongs_to_connection(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authorization"
            | "content-length"
            | "transfer-encoding"
            | "te"
            | "trailer"
            | "upgrade"
            | "expect"
            | "accept-encoding"
    )
}

/// The first coding of the body that is not `identity`.
fn content_encoding(headers: &HeaderMap) -> Option<String> {
    headers
        .get_all(header::CONTENT_ENCODING)
        .iter()
        .map(|value| value.to_str().unwrap_or("?").trim())
        .find(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case("identity"))
        .map(str::to_owned)
}

fn failure_of(error: &SendRequestError) -> Failure {
    match error {
        SendRequestError::Connect(ConnectError::Io(error))
        | SendRequestError::Send(error)
        | SendRequestError::Response(ParseError::Io(error)) => Failure::from_io(error),
        SendRequestError::Response(error) => Failure::new(FailureKind::Protocol, error.to_string()),
        SendRequestError::Connect(ConnectError::Disconnected) => {
            Failure::new(FailureKind::Closed, "no answer came")
        }
        other => Failure::new(FailureKind::Internal, other.to_string()),
    }
}

// === impl AnswerBody ===

impl AnswerBody {
    /// The next bytes of the body, or `None` after the last. After an error there is nothing more. Dropping the future
    /// loses nothing, so it may be raced against other events. Read on to `None`: then the connection is used again.
    ///
    /// # Errors
    /// `Truncated` when the connection ends before the body does, `UpstreamProtocol` when its framing is broken.
    pub async fn chunk(&mut self) -> Option<Result<Bytes, ProxyError>> {
        let next = self.response.as_mut()?.next().await;
        match next {
            Some(Ok(bytes)) => Some(Ok(bytes)),
            Some(Err(error)) => {
                self.response = None;
                Some(Err(body_failure(&error).into_error(&self.peer)))
            }
            None => {
                self.response = None;
                None
            }
        }
    }

    /// The whole body, if it has at most `limit` bytes.
    ///
    /// # Errors
    /// As [`AnswerBody::chunk`], and `UpstreamProtocol` for a longer body.
    pub async fn collect(mut self, limit: usize) -> Result<Bytes, ProxyError> {
        let Some(first) = self.chunk().await.transpose()? else {
            return Ok(Bytes::new());
        };
        let mut next = Some(first);
        let mut whole = BytesMut::new();
        let mut pause = UNINTERRUPTED;
        while let Some(bytes) = next {
            if bytes.len() > limit.saturating_sub(whole.len()) {
                let cause = format!("its body is larger than {limit} bytes");
                return Err(Failure::new(FailureKind::Protocol, cause).into_error(&self.peer));
            }
            next = self.chunk().await.transpose()?;
            if next.is_none() && whole.is_empty() {
                return Ok(bytes);
            }
            whole.extend_from_slice(&bytes);
            if whole.len() >= pause {
                // What is always ready would never meet its deadline: timers go on only while nothing runs.
                pause = whole.len() + UNINTERRUPTED;
                tokio::task::yield_now().await;
            }
        }
        Ok(whole.freeze())
    }
}

impl std::fmt::Debug for AnswerBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AnswerBody").field("peer", &self.peer).finish_non_exhaustive()
    }
}

fn body_failure(error: &PayloadError) -> Failure {
    match error {
        PayloadError::Io(error) | PayloadError::Incomplete(Some(error)) => {
            let failure = Failure::from_io(error);
            match failure.kind {
                FailureKind::Closed | FailureKind::Stale => {
                    Failure { kind: FailureKind::Truncated, ..failure }
                }
                _ => failure,
            }
        }
        other => Failure::new(FailureKind::Truncated, other.to_string()),
    }
}

// === impl Upload ===

impl<I: Iterator<Item = Bytes> + Unpin> MessageBody for Upload<I> {
    type Error = std::convert::Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.length)
    }

    fn poll_next(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Poll::Ready(self.get_mut().pieces.next().map(Ok))
    }
}

#[cfg(test)]
mod tests;
