//! The head of an answer: where it ends, its headers, and what it says of the body. It keeps no state.

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::FramingError;

/// What every head we can follow starts with.
const VERSION: &[u8] = b"HTTP/1.";

/// Most fields that a `Connection` field can name: each is looked for among all.
const MAX_NAMED: usize = 16;

/// Most fields of a head that are kept; it is bounded in bytes, too.
const MAX_FIELDS: usize = 256;
/// Room for the fields of most answers.
const EXPECTED_FIELDS: usize = 32;

/// A head, and how it says that its body is framed.
pub(super) struct Head {
    pub(super) version: u8,
    pub(super) status: u16,
    /// Less those that concern only the connection.
    pub(super) headers: HeaderMap,
    pub(super) content_length: Option<u64>,
    pub(super) chunked: bool,
    pub(super) close: bool,
}

/// What is wrong with bytes that cannot become a head, found at the first byte that shows it.
pub(super) fn garbage(head: &[u8]) -> Option<FramingError> {
    if head.iter().zip(VERSION).all(|(is, should)| is == should) {
        return None;
    }
    let what = match head.first() {
        // The content types of a TLS record: alert, handshake.
        Some(0x15 | 0x16) => "it answers with tls; does the provider's `url` start with https?",
        _ => "it does not answer with HTTP/1.1",
    };
    Some(FramingError::Protocol(what.to_owned()))
}

/// The length of the head with its empty line, if it is complete; `scanned` remembers how far there is no end.
pub(super) fn head_end(head: &[u8], scanned: &mut usize) -> Option<usize> {
    while let Some(found) = head.get(*scanned..).and_then(|rest| memchr::memchr(b'\n', rest)) {
        let after = *scanned + found + 1;
        match head.get(after..) {
            Some([b'\n', ..]) => return Some(after + 1),
            Some([b'\r', b'\n', ..]) => return Some(after + 2),
            // Too short to tell: look at this line end again with the next bytes.
            Some([] | [b'\r']) | None => {
                *scanned += found;
                return None;
            }
            Some(_) => *scanned = after,
        }
    }
    *scanned = head.len();
    None
}

/// Reads a complete head, without the fields that concern only this connection.
pub(super) fn read_head(head: &Bytes) -> Result<Head, FramingError> {
    let malformed = |what: &str| FramingError::Protocol(what.to_owned());
    let mut lines = Lines { rest: head };
    let (version, status) = match lines.next().unwrap_or_default() {
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor @ b'0'..=b'9', b' ', digits @ ..] => {
            let status = digits.get(..3).and_then(decimal).filter(|status| (100..1000).contains(status));
            let ended = matches!(digits.get(3), None | Some(b' '));
            match status {
                Some(status) if ended => (minor - b'0', status),
                _ => return Err(malformed("its status line has no status")),
            }
        }
        _ => return Err(malformed("it does not answer with HTTP/1.1")),
    };
    let mut read = Head {
        version,
        status: u16::try_from(status).unwrap_or_default(),
        headers: HeaderMap::with_capacity(EXPECTED_FIELDS),
        content_length: None,
        chunked: false,
        close: false,
    };
    let mut coded = false;
    let mut named: Vec<&[u8]> = Vec::new();
    let mut length: Option<&[u8]> = None;
    for line in lines.take_while(|line| !line.is_empty()) {
        let no_header = || malformed("a line of its head is no header");
        let colon = memchr::memchr(b':', line).ok_or_else(no_header)?;
        let (name, value) = line.split_at(colon);
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        if name.is_empty() || name.first().is_some_and(u8::is_ascii_whitespace) {
            return Err(no_header());
        }
        let name = HeaderName::from_bytes(name.trim_ascii_end()).map_err(|_| no_header())?;
        match name {
            header::CONTENT_LENGTH => {
                // A list of one number, said once or more often, is that number (RFC 9112 §6.3).
                for value in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                    let number =
                        decimal(value).ok_or_else(|| malformed("its content-length is not a number"))?;
                    if read.content_length.replace(number).is_some_and(|before| before != number) {
                        return Err(malformed("it has two content-lengths"));
                    }
                    length = Some(value);
                }
            }
            header::TRANSFER_ENCODING => {
                if read.version == 0 || coded {
                    return Err(malformed("it has a transfer-encoding that it may not have"));
                }
                coded = true;
                read.chunked = value.eq_ignore_ascii_case(b"chunked");
                if !read.chunked && !value.eq_ignore_ascii_case(b"identity") {
                    return Err(malformed("its transfer-encoding is not chunked"));
                }
            }
            header::CONNECTION => {
                for option in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                    if option.eq_ignore_ascii_case(b"close") {
                        read.close = true;
                    } else if !option.eq_ignore_ascii_case(b"keep-alive") && named.len() < MAX_NAMED {
                        named.push(option);
                    }
                }
            }
            name if is_hop_by_hop(&name) => {}
            name => {
                let value = HeaderValue::from_maybe_shared(head.slice_ref(value)).map_err(|_| no_header())?;
                if read.headers.len() >= MAX_FIELDS {
                    return Err(malformed("its head has too many headers"));
                }
                read.headers.append(name, value);
            }
        }
    }
    // A `Connection` field may name others that concern only this connection (RFC 9110 §7.6.1).
    for name in named.into_iter().filter_map(|name| HeaderName::from_bytes(name).ok()) {
        read.headers.remove(name);
    }
    // Kept only where it is the framing, so that it can contradict nothing.
    if let Some(value) = length.filter(|_| !read.chunked && !matches!(read.status, 204 | 304)) {
        let value = HeaderValue::from_maybe_shared(head.slice_ref(value));
        read.headers.insert(
            header::CONTENT_LENGTH,
            value.map_err(|_| malformed("its content-length is not a number"))?,
        );
    }
    Ok(read)
}

/// The lines of a head, without their ends.
struct Lines<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let end = memchr::memchr(b'\n', self.rest)?;
        let (line, rest) = self.rest.split_at(end);
        self.rest = rest.get(1..).unwrap_or_default();
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    }
}

fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(name.as_str(), "keep-alive" | "proxy-connection" | "te" | "trailer" | "upgrade")
}

/// A number of decimal digits and nothing else.
fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}
