//! The HTTP client of one provider: one request out, one answer back, bytes untouched.
//! It retries nothing but a reused connection that turned out dead, follows no redirect, and has no timeout but the
//! one for connecting: first token, idle and total belong to whoever reads the answer.

use std::future::poll_fn;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::Method;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery};
use rustls::pki_types::ServerName;

use super::connect::{Target, Wire};
use super::exchange::Exchange;
use super::failure::{Failure, FailureKind};
use super::pool::Pool;
use super::tls;
use crate::base_url::BaseUrl;
use crate::error::{ErrorKind, ProxyError};
use crate::wire::rope::Rope;

/// So much of an answer is read before others have their turn: what is always ready would let no timer fire and no other
/// request of the provider come forward.
pub const UNINTERRUPTED: usize = 256 * 1024;
/// Room for the head of most requests.
const EXPECTED_HEAD: usize = 1024;

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
    /// The method; `HEAD` and `CONNECT` are not allowed.
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
    exchange: Option<Box<Exchange>>,
    peer: Rc<str>,
}

/// The HTTP client of one provider. Cheap; not `Send`: it lives and dies on one arbiter.
pub struct Client {
    target: Target,
    pool: Rc<Pool>,
    base_path: String,
    host: HeaderValue,
    user_agent: HeaderValue,
    peer: Rc<str>,
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
        if Authority::try_from(peer.as_str()).is_err() {
            return Err(unusable(format!("url `{}` has no valid host", options.url)));
        }
        let header_value = |text: &str, operand: &str| {
            HeaderValue::from_str(text)
                .map_err(|_| unusable(format!("{operand} holds a character that no header may hold")))
        };

        Ok(Client {
            target: Target { host: base.host, port: base.port, tls, timeout: options.connect_timeout },
            pool: Rc::new(Pool::default()),
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
        let head = self.head(&request).map_err(|failure| failure.into_error(&self.peer))?;
        let mut whole = Rope::from(head);
        whole.append(request.body);
        sending();
        let result = match self.attempt(whole.clone(), self.pool.take()).await {
            Err(failure) if failure.kind == FailureKind::Stale => {
                tracing::debug!(peer = %self.peer, "a reused connection was dead; trying once on a fresh one");
                sending();
                Box::pin(self.attempt(whole, None)).await
            }
            result => result,
        };
        let (status, mut headers, exchange) = result.map_err(|failure| failure.into_error(&self.peer))?;
        let body = AnswerBody { exchange: None, peer: Rc::clone(&self.peer) };
        match content_encoding(&headers) {
            None => Ok(Answer { status, headers, body: AnswerBody { exchange: Some(exchange), ..body } }),
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

    /// Sends the request on this connection, or on a fresh one, and reads the answer's head.
    async fn attempt(
        &self,
        request: Rope,
        waiting: Option<Wire>,
    ) -> Result<(u16, HeaderMap, Box<Exchange>), Failure> {
        let mut exchange = Box::new(match waiting {
            Some(wire) => Exchange::reused(request, wire, &self.pool),
            // In a box: name, TCP and TLS take a lot of room, and most requests find a connection.
            None => Exchange::fresh(request, Box::pin(self.target.dial()).await?, &self.pool),
        });
        let (status, headers) = exchange.head().await?;
        Ok((status, headers, exchange))
    }

    /// The request's head as it goes out (RFC 9112 §3).
    fn head(&self, request: &Outgoing) -> Result<Bytes, Failure> {
        let Outgoing { method, path, headers, body } = request;
        if matches!(*method, Method::HEAD | Method::CONNECT) {
            return Err(Failure::new(FailureKind::Internal, format!("{method} requests are not supported")));
        }
        let target = PathAndQuery::try_from(format!("{}{path}", self.base_path))
            .ok()
            .filter(|target| target.as_str().starts_with('/'))
            .ok_or_else(|| {
                Failure::new(FailureKind::Internal, format!("path `{path}` is not percent-encoded"))
            })?;
        let given = |name: HeaderName, ours| {
            headers.iter().rfind(|(is, _)| *is == name).map_or(ours, |(_, value)| value)
        };
        let mut head = BytesMut::with_capacity(EXPECTED_HEAD);
        for piece in [method.as_str(), " ", target.as_str(), " HTTP/1.1"] {
            head.put_slice(piece.as_bytes());
        }
        let mut put = |name: &str, value: &[u8]| {
            for piece in [b"\r\n", name.as_bytes(), b": ", value] {
                head.put_slice(piece);
            }
        };
        put("host", given(header::HOST, &self.host).as_bytes());
        put("user-agent", given(header::USER_AGENT, &self.user_agent).as_bytes());
        for (name, value) in headers {
            if !matches!(*name, header::HOST | header::USER_AGENT) && !belongs_to_connection(name) {
                put(name.as_str(), value.as_bytes());
            }
        }
        if *method != Method::GET || !body.is_empty() {
            put("content-length", body.len().to_string().as_bytes());
        }
        head.put_slice(b"\r\n\r\n");
        Ok(head.freeze())
    }
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

// === impl AnswerBody ===

impl AnswerBody {
    /// The next bytes of the body, or `None` after the last. After an error there is nothing more. Dropping the future
    /// loses nothing, so it may be raced against other events. Read on to `None`: then the connection is used again.
    ///
    /// # Errors
    /// `Truncated` when the connection ends before the body does, `UpstreamProtocol` when its framing is broken.
    pub async fn chunk(&mut self) -> Option<Result<Bytes, ProxyError>> {
        let exchange = self.exchange.as_mut()?;
        let next = poll_fn(|cx| exchange.poll_chunk(cx)).await;
        if !matches!(next, Some(Ok(_))) {
            self.exchange = None;
        }
        next.map(|result| result.map_err(|failure| failure.into_error(&self.peer)))
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

#[cfg(test)]
mod tests;
