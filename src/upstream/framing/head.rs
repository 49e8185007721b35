//! The head of an answer: where it ends, what it says of the body, and how it is handed on. It keeps no state.

use bytes::BytesMut;

use super::FramingError;

/// What every head we can follow starts with.
const VERSION: &[u8] = b"HTTP/1.";

/// Most fields that a `Connection` field can name: each is looked for among all lines.
const MAX_NAMED: usize = 16;

/// How a head says that its body is framed.
pub(super) struct HeadFields {
    pub(super) version: u8,
    pub(super) status: u16,
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

/// Copies a complete head to `out`: as `HTTP/1.0`, and without the fields that concern only this connection.
pub(super) fn copy_head(head: &[u8], out: &mut BytesMut) -> Result<HeadFields, FramingError> {
    let malformed = |what: &str| FramingError::Protocol(what.to_owned());
    let mut lines = Lines { rest: head };
    let status_line = lines.next().unwrap_or_default();
    let (version, status) = match status_line {
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
    let mut fields = HeadFields {
        version,
        status: u16::try_from(status).unwrap_or_default(),
        content_length: None,
        chunked: false,
        close: false,
    };
    let mut coded = false;

    out.reserve(head.len());
    out.extend_from_slice(VERSION);
    out.extend_from_slice(b"0");
    out.extend_from_slice(status_line.get(VERSION.len() + 1..).unwrap_or_default());
    out.extend_from_slice(b"\r\n");

    let fields_start = out.len();
    let mut named: Vec<&[u8]> = Vec::new();
    let mut length_line: Option<&[u8]> = None;
    for line in lines.take_while(|line| !line.is_empty()) {
        let Some(colon) = memchr::memchr(b':', line) else {
            return Err(malformed("a line of its head is no header"));
        };
        let (name, value) = line.split_at(colon);
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        if name.is_empty() || name.first().is_some_and(u8::is_ascii_whitespace) {
            return Err(malformed("a line of its head is no header"));
        }
        match name.trim_ascii_end() {
            name if name.eq_ignore_ascii_case(b"content-length") => {
                let length = decimal(value).ok_or_else(|| malformed("its content-length is not a number"))?;
                if fields.content_length.replace(length).is_some_and(|before| before != length) {
                    return Err(malformed("it has two content-lengths"));
                }
                length_line = Some(line);
            }
            name if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                if fields.version == 0 || coded {
                    return Err(malformed("it has a transfer-encoding that it may not have"));
                }
                coded = true;
                fields.chunked = value.eq_ignore_ascii_case(b"chunked");
                if !fields.chunked && !value.eq_ignore_ascii_case(b"identity") {
                    return Err(malformed("its transfer-encoding is not chunked"));
                }
            }
            name if name.eq_ignore_ascii_case(b"connection") => {
                for option in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                    if option.eq_ignore_ascii_case(b"close") {
                        fields.close = true;
                    } else if !option.eq_ignore_ascii_case(b"keep-alive") && named.len() < MAX_NAMED {
                        named.push(option);
                    }
                }
            }
            name if is_hop_by_hop(name) => {}
            _ => {
                out.extend_from_slice(line);
                out.extend_from_slice(b"\r\n");
            }
        }
    }
    if !named.is_empty() {
        let copied = out.split_off(fields_start);
        leave_out(&named, &copied, out);
    }
    // Kept only where it is the framing, so that it can contradict nothing.
    if let Some(line) = length_line.filter(|_| !fields.chunked && !matches!(fields.status, 204 | 304)) {
        out.extend_from_slice(line);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
    Ok(fields)
}

/// Copies the lines but for the fields of these names: a `Connection` field may name others that concern only this
/// connection (RFC 9110 §7.6.1). Hardly any answer has one.
fn leave_out(named: &[&[u8]], lines: &[u8], out: &mut BytesMut) {
    for line in (Lines { rest: lines }) {
        let name = line.split(|byte| *byte == b':').next().unwrap_or_default().trim_ascii_end();
        if !named.iter().any(|hop| name.eq_ignore_ascii_case(hop)) {
            out.extend_from_slice(line);
            out.extend_from_slice(b"\r\n");
        }
    }
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

fn is_hop_by_hop(name: &[u8]) -> bool {
    [b"keep-alive".as_slice(), b"proxy-connection", b"te", b"trailer", b"upgrade"]
        .iter()
        .any(|hop| name.eq_ignore_ascii_case(hop))
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
