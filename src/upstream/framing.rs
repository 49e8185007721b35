//! Follows one HTTP/1.1 answer on a connection: where its head ends, how long its body is, and whether it is complete
//! (RFC 9112). Pure: bytes in, bytes out; no socket, no clock. What leaves here is a head without hop-by-hop fields, and
//! then the body with its transfer coding undone.
//!
//! Two readers of the same bytes must never see two answers, so where the RFC leaves a choice between guessing and
//! refusing, this refuses, and the request ends with 502 or goes elsewhere:
//!
//! - A line that continues the one before (`obs-fold`): a gateway may join them or answer 502 (§5.2).
//! - An empty line before the status line: only servers are to skip one before a request (§2.2); from an upstream it is
//!   the end of an earlier answer that was longer than it said.
//! - White space before the first field (§2.2), a line without a colon, and a name or value that no field may have.
//! - More than 64 KB or 256 fields in a head, 32 heads with a 1xx status, or a 101 that nobody asked for: a client sets
//!   its own bounds (RFC 9110 §5.4), and no upstream that is known comes near.
//! - A transfer coding other than `chunked`, twice `chunked`, or any in an answer of HTTP/1.0 (§6.1); `identity`, which
//!   the RFC knows no longer, changes nothing and passes.
//! - Lengths that contradict each other or are no number. The same number several times, in one field or in several, is
//!   that number (§6.3). A length beside `chunked` does not count, and the connection is not used again (§6.1).
//!
//! Where the RFC says how to read on, it is read on: a bare LF ends a line (§2.2), white space before a colon is taken
//! away (§5.1), a reason phrase may be missing with its space, and an answer with neither length nor coding ends with
//! the connection (§6.3) — over TLS with the session, so that nobody can shorten it (§9.8).

mod chunk;
mod head;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;

use chunk::Chunk;
use head::{garbage, head_end, read_head};

/// Longest head, in bytes.
pub(super) const MAX_HEAD: usize = 64 * 1024;
/// Most heads with a 1xx status before the answer.
const MAX_INFORMATIONAL: u8 = 32;

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

/// The state machine for one answer.
#[derive(Debug)]
pub(super) struct Framing {
    state: State,
    error: Option<FramingError>,
    /// The answer's headers, until they are taken.
    headers: Option<HeaderMap>,
    /// So far there is no end of a head in what came of it.
    scanned: usize,
    informational: u8,
    status: u16,
    seen: bool,
    persistent: bool,
    overrun: bool,
}

// === impl Framing ===

impl Framing {
    pub(super) fn new() -> Self {
        Framing {
            state: State::Head,
            error: None,
            headers: None,
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
    #[cfg(test)]
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

    /// Status and headers, once, as soon as they are there; hop-by-hop fields are left out.
    pub(super) fn take_head(&mut self) -> Option<(u16, HeaderMap)> {
        self.headers.take().map(|headers| (self.status, headers))
    }

    /// Takes what came off the wire. As long as the head is incomplete it stays in `wire`, and more is to be added
    /// behind it; after that what is left in `wire` is the body's, for the reader to take before more is added.
    pub(super) fn push(&mut self, wire: &mut BytesMut) {
        self.seen |= !wire.is_empty();
        while self.in_head() && !wire.is_empty() {
            if let Some(error) = garbage(wire) {
                self.fail(error);
                break;
            }
            let end = match head_end(wire, &mut self.scanned) {
                Some(end) if end <= MAX_HEAD => end,
                None if wire.len() <= MAX_HEAD => return,
                _ => {
                    self.fail(FramingError::Protocol("its head is larger than 64 KB".to_owned()));
                    break;
                }
            };
            self.scanned = 0;
            let head = wire.split_to(end).freeze();
            if let Err(error) = self.read_head(&head) {
                self.fail(error);
            }
        }
        let kept = self.body(wire);
        wire.truncate(kept);
    }

    /// Takes bytes of the body in place: what the reader may see moves to the front, and its length is returned.
    /// What lies beyond the answer is dropped, and makes the connection unfit for another.
    fn body(&mut self, bytes: &mut [u8]) -> usize {
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
                        Ok(Chunk::End) => self.state = State::Complete,
                        Ok(next) => self.state = State::Chunked(next),
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

    fn fail(&mut self, error: FramingError) {
        self.state = State::Failed;
        self.persistent = false;
        self.error = Some(error);
    }

    /// Reads one complete head: an informational one is swallowed, the answer's own is kept.
    fn read_head(&mut self, head: &Bytes) -> Result<(), FramingError> {
        let fields = read_head(head)?;
        if fields.status < 200 {
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
        self.headers = Some(fields.headers);
        Ok(())
    }
}

fn at_most(available: usize, left: u64) -> usize {
    usize::try_from(left).map_or(available, |left| left.min(available))
}

#[cfg(test)]
mod tests;
