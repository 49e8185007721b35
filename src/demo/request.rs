//! Reads HTTP/1.1 requests out of the bytes of a connection. Pure: bytes in, requests out; no socket, no clock.
//! Deliberately not the parser of any HTTP library, so that the fake upstreams judge the product's wire independently.

use bytes::{Buf, Bytes, BytesMut};
use serde_json::Value;

/// Longest request head that is read.
pub(super) const MAX_HEAD: usize = 64 * 1024;

/// Longest line of a chunk size, with its extensions, and longest trailer section.
const MAX_CHUNK_LINE: usize = 8 * 1024;

/// One request as it arrived.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Received {
    /// Position among all requests of this fake, from 0.
    pub order: u64,
    /// The connection it came on, from 0: two requests with the same number shared a connection.
    pub connection: u64,
    /// As written.
    pub method: String,
    /// As written: path and query.
    pub target: String,
    /// In the order and spelling they came; values trimmed.
    pub headers: Vec<(String, String)>,
    /// With chunk framing taken off.
    pub body: Bytes,
}

impl Received {
    /// The first header of this name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The target without its query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// The body as JSON, or `Null` when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// The token of `Authorization: Bearer …`, if there is one.
    pub fn bearer(&self) -> Option<&str> {
        let (scheme, token) = self.header("authorization")?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    }
}

/// Why a request cannot be read. The connection is of no further use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The head is longer than 64 KB.
    #[error("request head over {MAX_HEAD} bytes")]
    HeadTooLarge,
    /// The request line or a header line is not HTTP/1.x.
    #[error("request head is not HTTP/1.x")]
    Head,
    /// `Content-Length` is no number, or stands beside `Transfer-Encoding`.
    #[error("request framing is ambiguous")]
    Framing,
    /// The body is longer than the fake takes.
    #[error("request body too large")]
    BodyTooLarge,
    /// A chunk size or chunk end is malformed.
    #[error("request body is badly chunked")]
    Chunk,
}

/// A request head, and what it says about the body and the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    /// The request with an empty body.
    pub received: Received,
    /// How the body is framed.
    pub framing: Framing,
    /// `Expect: 100-continue`.
    pub expects_continue: bool,
    /// HTTP/1.0 without keep-alive, or `Connection: close`.
    pub close: bool,
}

/// How a request body is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// So many bytes; 0 without a body.
    Length(usize),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

/// Takes a complete head off the front of `buffer`; `None` while it is not complete.
///
/// # Errors
/// When the head is too large or no HTTP/1.x.
pub(super) fn take_head(buffer: &mut BytesMut) -> Result<Option<Head>, Malformed> {
    // A robust server skips empty lines before a request line (RFC 9112 §2.2).
    while buffer.starts_with(b"\r\n") {
        buffer.advance(2);
    }
    let Some(end) = find(buffer, b"\r\n\r\n") else {
        return if buffer.len() > MAX_HEAD { Err(Malformed::HeadTooLarge) } else { Ok(None) };
    };
    if end > MAX_HEAD {
        return Err(Malformed::HeadTooLarge);
    }
    let bytes = buffer.split_to(end + 4);
    let text = String::from_utf8_lossy(bytes.get(..end).unwrap_or_default());
    parse_head(&text).map(Some)
}

fn parse_head(text: &str) -> Result<Head, Malformed> {
    let mut lines = text.split("\r\n");
    let mut parts = lines.next().unwrap_or_default().split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Malformed::Head);
    };
    if method.is_empty() || target.is_empty() || !version.starts_with("HTTP/1.") {
        return Err(Malformed::Head);
    }
    let mut headers = Vec::new();
    for line in lines {
        let (name, value) = line.split_once(':').ok_or(Malformed::Head)?;
        if name.is_empty() || name.ends_with(' ') {
            return Err(Malformed::Head);
        }
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
    let received =
        Received { method: method.to_owned(), target: target.to_owned(), headers, ..Received::default() };
    let framing = framing(&received)?;
    let expects_continue =
        received.header("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue"));
    let connection = received.header("connection").unwrap_or_default().to_ascii_lowercase();
    let close = connection.contains("close") || (version == "HTTP/1.0" && !connection.contains("keep-alive"));
    Ok(Head { received, framing, expects_continue, close })
}

fn framing(received: &Received) -> Result<Framing, Malformed> {
    let chunked =
        received.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"));
    match (received.header("content-length"), chunked) {
        (Some(_), true) => Err(Malformed::Framing),
        (None, true) => Ok(Framing::Chunked),
        (None, false) => Ok(Framing::Length(0)),
        (Some(length), false) => length.parse().map(Framing::Length).map_err(|_| Malformed::Framing),
    }
}

/// Collects a body out of the bytes that follow a head.
#[derive(Debug)]
pub(super) struct BodyReader {
    framing: Framing,
    max: usize,
    collected: BytesMut,
    state: ChunkState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ChunkState {
    Size,
    Data(usize),
    DataEnd,
    Trailers,
}

impl BodyReader {
    /// A reader for this framing that refuses more than `max` bytes.
    pub fn new(framing: Framing, max: usize) -> BodyReader {
        BodyReader { framing, max, collected: BytesMut::new(), state: ChunkState::Size }
    }

    /// Takes what it can off the front of `buffer`; the whole body once it is complete.
    ///
    /// # Errors
    /// When the body is longer than allowed or badly chunked.
    pub fn take(&mut self, buffer: &mut BytesMut) -> Result<Option<Bytes>, Malformed> {
        match self.framing {
            Framing::Length(length) if length > self.max => Err(Malformed::BodyTooLarge),
            Framing::Length(length) => {
                if self.collected.is_empty() && buffer.len() >= length {
                    return Ok(Some(buffer.split_to(length).freeze()));
                }
                let missing = length.saturating_sub(self.collected.len());
                self.collected.extend_from_slice(&buffer.split_to(missing.min(buffer.len())));
                Ok((self.collected.len() == length).then(|| self.collected.split().freeze()))
            }
            Framing::Chunked => self.take_chunks(buffer),
        }
    }

    fn take_chunks(&mut self, buffer: &mut BytesMut) -> Result<Option<Bytes>, Malformed> {
        loop {
            match self.state {
                ChunkState::Size => {
                    let Some(line) = take_line(buffer)? else { return Ok(None) };
                    let digits =
                        line.as_ref().split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
                    let size = std::str::from_utf8(digits)
                        .ok()
                        .filter(|digits| !digits.starts_with('+'))
                        .and_then(|digits| usize::from_str_radix(digits, 16).ok())
                        .ok_or(Malformed::Chunk)?;
                    if size > self.max.saturating_sub(self.collected.len()) {
                        return Err(Malformed::BodyTooLarge);
                    }
                    self.state = if size == 0 { ChunkState::Trailers } else { ChunkState::Data(size) };
                }
                ChunkState::Data(left) => {
                    let taken = buffer.split_to(left.min(buffer.len()));
                    self.collected.extend_from_slice(&taken);
                    if taken.len() < left {
                        self.state = ChunkState::Data(left - taken.len());
                        return Ok(None);
                    }
                    self.state = ChunkState::DataEnd;
                }
                ChunkState::DataEnd => {
                    if buffer.len() < 2 {
                        return Ok(None);
                    }
                    if !buffer.split_to(2).starts_with(b"\r\n") {
                        return Err(Malformed::Chunk);
                    }
                    self.state = ChunkState::Size;
                }
                ChunkState::Trailers => {
                    let Some(line) = take_line(buffer)? else { return Ok(None) };
                    if line.is_empty() {
                        return Ok(Some(self.collected.split().freeze()));
                    }
                }
            }
        }
    }
}

/// A line without its CRLF; `None` while it is not complete.
fn take_line(buffer: &mut BytesMut) -> Result<Option<BytesMut>, Malformed> {
    let Some(end) = find(buffer, b"\r\n") else {
        return if buffer.len() > MAX_CHUNK_LINE { Err(Malformed::Chunk) } else { Ok(None) };
    };
    let line = buffer.split_to(end);
    buffer.advance(2);
    Ok(Some(line))
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> Result<Option<Head>, Malformed> {
        take_head(&mut BytesMut::from(text.as_bytes()))
    }

    #[test]
    fn a_head_is_taken_only_when_complete_and_leaves_the_body() {
        assert_eq!(head("GET / HTTP/1.1\r\nHost: x\r\n"), Ok(None));
        let mut buffer = BytesMut::from(&b"\r\nPOST /a?b=1 HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}"[..]);
        let taken = take_head(&mut buffer).unwrap().unwrap();
        assert_eq!((taken.received.method.as_str(), taken.received.path()), ("POST", "/a"));
        assert_eq!(taken.framing, Framing::Length(2));
        assert!(!taken.close);
        assert_eq!(&buffer[..], b"{}");
    }

    #[test]
    fn ambiguous_or_broken_heads_are_refused() {
        for (text, error) in [
            ("GET /\r\n\r\n", Malformed::Head),
            ("GET / HTTP/2\r\n\r\n", Malformed::Head),
            ("GET / HTTP/1.1\r\nno colon\r\n\r\n", Malformed::Head),
            ("POST / HTTP/1.1\r\nContent-Length: 1x\r\n\r\n", Malformed::Framing),
            (
                "POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
                Malformed::Framing,
            ),
        ] {
            assert_eq!(head(text), Err(error), "{text:?}");
        }
        assert_eq!(head(&"x".repeat(MAX_HEAD + 1)), Err(Malformed::HeadTooLarge));
    }

    #[test]
    fn old_and_closing_clients_are_noticed() {
        assert!(head("GET / HTTP/1.0\r\n\r\n").unwrap().unwrap().close);
        assert!(!head("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n").unwrap().unwrap().close);
        assert!(head("GET / HTTP/1.1\r\nconnection: close\r\n\r\n").unwrap().unwrap().close);
        let expecting = head("PUT / HTTP/1.1\r\nExpect: 100-Continue\r\n\r\n").unwrap().unwrap();
        assert!(expecting.expects_continue);
    }

    #[test]
    fn a_chunked_body_reads_the_same_however_it_is_cut() {
        let wire = b"5;name=value\r\nhello\r\n6\r\n world\r\n0\r\nTrailer: x\r\n\r\nNEXT";
        for cut in 0..wire.len() {
            let mut reader = BodyReader::new(Framing::Chunked, 100);
            let mut buffer = BytesMut::from(&wire[..cut]);
            let mut body = reader.take(&mut buffer).unwrap();
            buffer.extend_from_slice(&wire[cut..]);
            if body.is_none() {
                body = reader.take(&mut buffer).unwrap();
            }
            assert_eq!(body.unwrap(), "hello world");
            assert_eq!(&buffer[..], b"NEXT");
        }
    }

    #[test]
    fn bodies_over_the_limit_and_broken_chunks_are_refused() {
        let take = |framing, max, wire: &[u8]| BodyReader::new(framing, max).take(&mut BytesMut::from(wire));
        assert_eq!(take(Framing::Length(11), 10, b""), Err(Malformed::BodyTooLarge));
        assert_eq!(take(Framing::Chunked, 10, b"b\r\n"), Err(Malformed::BodyTooLarge));
        assert_eq!(take(Framing::Chunked, 10, b"zz\r\n"), Err(Malformed::Chunk));
        assert_eq!(take(Framing::Chunked, 10, b"1\r\nabc"), Err(Malformed::Chunk));
        assert_eq!(take(Framing::Chunked, 10, b"ffffffffffffffffffff\r\n"), Err(Malformed::Chunk));
    }
}
