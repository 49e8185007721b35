//! Follows one HTTP/1.1 answer on a connection: where its head ends, how long its body is, and whether it is complete.
//! Pure: bytes in, bytes out; no socket, no clock. What leaves here is a head that says `HTTP/1.0` without hop-by-hop
//! fields, and then the body with its transfer coding undone; the end of the answer is the end of the stream.
//!
//! awc reads that shape right, and only that one: on its own it takes a body that broke off for a complete one, a body
//! that ends with the connection for an empty one, and a 103 for the answer (awc 3.11, measured 2026-11).

use bytes::BytesMut;

/// Longest head, in bytes.
pub(super) const MAX_HEAD: usize = 64 * 1024;
/// Longest line that starts a chunk, extensions included.
const MAX_CHUNK_LINE: usize = 4 * 1024;
/// Longest trailer section.
const MAX_TRAILERS: usize = 16 * 1024;
/// Most heads with a 1xx status before the answer.
const MAX_INFORMATIONAL: u8 = 32;
/// What every head we can follow starts with.
const VERSION: &[u8] = b"HTTP/1.";

/// Why an answer cannot be followed further.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FramingError {
    /// The connection ended before the answer did.
    Truncated(&'static str),
    /// The bytes break the protocol.
    Protocol(String),
}

/// Where in the answer we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before or inside a head.
    Head,
    /// This many bytes of the body are to come.
    Length(u64),
    /// Inside a chunked body.
    Chunked(Chunk),
    /// The body ends with the connection.
    UntilClose,
    /// The answer is over.
    Complete,
    /// The answer cannot be followed; `Framing::error` says why.
    Failed,
}

/// Where in a chunked body we are. The number that some carry bounds what may still come before a line ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chunk {
    /// Before the first digit of a size.
    SizeStart,
    /// After some digits.
    Size { size: u64, left: usize },
    /// After the size, up to the line's end: white space and extensions.
    Extension { size: u64, left: usize },
    /// Expecting the LF of a size line.
    SizeLf { size: u64 },
    /// This many bytes of data are to come.
    Data { left: u64 },
    /// Expecting the CR after the data.
    DataCr,
    /// Expecting the LF after the data.
    DataLf,
    /// At the start of a line after the last chunk.
    TrailerStart { left: usize },
    /// Inside a trailer.
    Trailer { left: usize },
    /// Expecting the very last LF.
    EndLf,
}

/// The state machine for one answer.
#[derive(Debug)]
pub(super) struct Framing {
    state: State,
    error: Option<FramingError>,
    head: BytesMut,
    scanned: usize,
    informational: u8,
    status: u16,
    seen: bool,
    persistent: bool,
    overrun: bool,
}

/// How a head says that its body is framed.
struct HeadFields {
    version: u8,
    status: u16,
    content_length: Option<u64>,
    chunked: bool,
    close: bool,
}

// === impl Framing ===

impl Framing {
    pub(super) fn new() -> Self {
        Framing {
            state: State::Head,
            error: None,
            head: BytesMut::new(),
            scanned: 0,
            informational: 0,
            status: 0,
            seen: false,
            persistent: false,
            overrun: false,
        }
    }

    /// Whether the answer's head is still to come or incomplete.
    pub(super) fn in_head(&self) -> bool {
        self.state == State::Head
    }

    /// Whether anything at all has arrived.
    pub(super) fn seen_anything(&self) -> bool {
        self.seen
    }

    /// The status of the answer; 0 until its head is complete.
    pub(super) fn status(&self) -> u16 {
        self.status
    }

    /// Whether the whole answer has arrived.
    pub(super) fn is_complete(&self) -> bool {
        self.state == State::Complete
    }

    /// Why the answer cannot be followed further, if so. What arrived before that point is good.
    pub(super) fn error(&self) -> Option<&FramingError> {
        self.error.as_ref()
    }

    /// Whether the connection may carry another request.
    pub(super) fn is_reusable(&self) -> bool {
        self.is_complete() && self.persistent && !self.overrun
    }

    /// Takes bytes off the wire and appends to `out` what the reader may see of them.
    pub(super) fn push(&mut self, wire: &[u8], out: &mut BytesMut) {
        if wire.is_empty() {
            return;
        }
        self.seen = true;
        if !self.in_head() {
            self.push_body(wire, out);
            return;
        }
        self.head.extend_from_slice(wire);
        while self.in_head() {
            if let Some(error) = garbage(&self.head) {
                self.fail(error);
                break;
            }
            let end = match head_end(&self.head, &mut self.scanned) {
                Some(end) if end <= MAX_HEAD => end,
                None if self.head.len() <= MAX_HEAD => return,
                _ => {
                    self.fail(FramingError::Protocol("its head is larger than 64 KB".to_owned()));
                    break;
                }
            };
            let head = self.head.split_to(end);
            self.scanned = 0;
            if let Err(error) = self.read_head(&head, out) {
                self.fail(error);
            }
        }
        let rest = std::mem::take(&mut self.head);
        self.push_body(&rest, out);
    }

    /// Takes bytes of the body in place: what the reader may see moves to the front, and its length is returned.
    /// What lies beyond the answer is dropped, and makes the connection unfit for another.
    pub(super) fn body(&mut self, bytes: &mut [u8]) -> usize {
        let mut kept = 0;
        let mut at = 0;
        while at < bytes.len() {
            let available = bytes.len() - at;
            let taken = match self.state {
                State::Head | State::Failed => break,
                State::Complete => {
                    self.overrun = true;
                    break;
                }
                State::UntilClose => available,
                State::Length(left) => {
                    let taken = at_most(available, left);
                    let after = left - taken as u64;
                    self.state = if after == 0 { State::Complete } else { State::Length(after) };
                    taken
                }
                State::Chunked(Chunk::Data { left }) => {
                    let taken = at_most(available, left);
                    let after = left - taken as u64;
                    self.state =
                        State::Chunked(if after == 0 { Chunk::DataCr } else { Chunk::Data { left: after } });
                    taken
                }
                State::Chunked(chunk) => {
                    let byte = bytes.get(at).copied().unwrap_or_default();
                    at += 1;
                    match chunk.step(byte) {
                        Ok(state) => self.state = state,
                        Err(what) => self.fail(FramingError::Protocol(what.to_owned())),
                    }
                    continue;
                }
            };
            if kept != at {
                bytes.copy_within(at..at + taken, kept);
            }
            kept += taken;
            at += taken;
        }
        kept
    }

    /// The connection has ended: completes an answer that ends so, and fails any other that is not complete.
    pub(super) fn end(&mut self) {
        match self.state {
            State::Head => {
                self.fail(FramingError::Truncated("the connection ended in the middle of the head"))
            }
            State::Length(_) => {
                self.fail(FramingError::Truncated(
                    "the connection ended before its content-length was reached",
                ));
            }
            State::Chunked(_) => {
                self.fail(FramingError::Truncated("the connection ended before the last chunk"));
            }
            State::UntilClose => self.state = State::Complete,
            State::Complete | State::Failed => {}
        }
    }

    fn push_body(&mut self, wire: &[u8], out: &mut BytesMut) {
        let start = out.len();
        out.extend_from_slice(wire);
        let kept = match out.get_mut(start..) {
            Some(fresh) => self.body(fresh),
            None => 0,
        };
        out.truncate(start + kept);
    }

    fn fail(&mut self, error: FramingError) {
        self.state = State::Failed;
        self.persistent = false;
        self.error = Some(error);
    }

    /// Reads one complete head: an informational one is swallowed, the answer's own is written to `out`.
    fn read_head(&mut self, head: &[u8], out: &mut BytesMut) -> Result<(), FramingError> {
        let start = out.len();
        let fields = copy_head(head, out).inspect_err(|_| out.truncate(start))?;
        if fields.status < 200 {
            out.truncate(start);
            if fields.status == 101 {
                return Err(FramingError::Protocol(
                    "it switches protocols, which nobody asked for".to_owned(),
                ));
            }
            self.informational += 1;
            if self.informational > MAX_INFORMATIONAL {
                return Err(FramingError::Protocol("it sends informational heads without end".to_owned()));
            }
            return Ok(());
        }
        self.status = fields.status;
        self.persistent = fields.version == 1 && !fields.close;
        self.state = match (fields.chunked, fields.content_length) {
            _ if matches!(fields.status, 204 | 304) => State::Complete,
            (true, length) => {
                // A length beside a coding is how answers are smuggled: the coding counts, the connection is spent.
                self.persistent &= length.is_none();
                State::Chunked(Chunk::SizeStart)
            }
            (false, Some(0)) => State::Complete,
            (false, Some(length)) => State::Length(length),
            (false, None) => {
                self.persistent = false;
                State::UntilClose
            }
        };
        Ok(())
    }
}

// === impl Chunk ===

impl Chunk {
    /// The state after one byte that is not data.
    fn step(self, byte: u8) -> Result<State, &'static str> {
        let next = match self {
            Chunk::SizeStart => {
                let digit = hex(byte).ok_or("a chunk does not start with its size")?;
                Chunk::Size { size: digit, left: MAX_CHUNK_LINE }
            }
            Chunk::Size { size, left } => match (hex(byte), byte) {
                (Some(digit), _) => {
                    let size = size
                        .checked_mul(16)
                        .and_then(|size| size.checked_add(digit))
                        .ok_or("the size of a chunk is not a number we can hold")?;
                    Chunk::Size { size, left: shorter(left)? }
                }
                (None, b'\r') => Chunk::SizeLf { size },
                (None, b';' | b' ' | b'\t') => Chunk::Extension { size, left: shorter(left)? },
                (None, _) => return Err("the size of a chunk is not hexadecimal"),
            },
            Chunk::Extension { size, left } => match byte {
                b'\r' => Chunk::SizeLf { size },
                b'\n' => return Err("the line of a chunk's size does not end with CRLF"),
                _ => Chunk::Extension { size, left: shorter(left)? },
            },
            Chunk::SizeLf { size } => match (byte, size) {
                (b'\n', 0) => Chunk::TrailerStart { left: MAX_TRAILERS },
                (b'\n', left) => Chunk::Data { left },
                _ => return Err("the line of a chunk's size does not end with CRLF"),
            },
            Chunk::Data { left } => Chunk::Data { left },
            Chunk::DataCr if byte == b'\r' => Chunk::DataLf,
            Chunk::DataLf if byte == b'\n' => Chunk::SizeStart,
            Chunk::DataCr | Chunk::DataLf => return Err("a chunk is longer than its size"),
            Chunk::TrailerStart { left } => match byte {
                b'\r' => Chunk::EndLf,
                _ => Chunk::Trailer { left: shorter(left)? },
            },
            Chunk::Trailer { left } => match byte {
                b'\n' => Chunk::TrailerStart { left: shorter(left)? },
                _ => Chunk::Trailer { left: shorter(left)? },
            },
            Chunk::EndLf if byte == b'\n' => return Ok(State::Complete),
            Chunk::EndLf => return Err("the last chunk does not end with CRLF"),
        };
        Ok(State::Chunked(next))
    }
}

/// One byte less of a bounded line.
fn shorter(left: usize) -> Result<usize, &'static str> {
    left.checked_sub(1).ok_or("a line of its chunked coding is too long")
}

fn hex(byte: u8) -> Option<u64> {
    char::from(byte).to_digit(16).map(u64::from)
}

fn at_most(available: usize, left: u64) -> usize {
    usize::try_from(left).map_or(available, |left| left.min(available))
}

/// What is wrong with bytes that cannot become a head, found at the first byte that shows it.
fn garbage(head: &[u8]) -> Option<FramingError> {
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
fn head_end(head: &[u8], scanned: &mut usize) -> Option<usize> {
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
fn copy_head(head: &[u8], out: &mut BytesMut) -> Result<HeadFields, FramingError> {
    let malformed = |what: &str| FramingError::Protocol(what.to_owned());
    let mut lines = head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));

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

    out.extend_from_slice(VERSION);
    out.extend_from_slice(b"0");
    out.extend_from_slice(status_line.get(VERSION.len() + 1..).unwrap_or_default());
    out.extend_from_slice(b"\r\n");

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
                fields.close |= value
                    .split(|byte| *byte == b',')
                    .any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"));
            }
            name if is_hop_by_hop(name) => {}
            _ => {
                out.extend_from_slice(line);
                out.extend_from_slice(b"\r\n");
            }
        }
    }
    // Kept only where it is the framing, so that it can contradict nothing.
    if let Some(line) = length_line.filter(|_| !fields.chunked && !matches!(fields.status, 204 | 304)) {
        out.extend_from_slice(line);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
    Ok(fields)
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

#[cfg(test)]
mod tests;
