//! Follows one HTTP/1.1 answer on a connection: where its head ends, how long its body is, and whether it is complete.
//! Pure: bytes in, bytes out; no socket, no clock. What leaves here is a head that says `HTTP/1.0` without hop-by-hop
//! fields, and then the body with its transfer coding undone; the end of the answer is the end of the stream.
//!
//! awc reads that shape right, and only that one: on its own it takes a body that broke off for a complete one, a body
//! that ends with the connection for an empty one, and a 103 for the answer (awc 3.11, measured 2026-11).

mod chunk;
mod head;

use bytes::BytesMut;

use chunk::Chunk;
use head::{copy_head, garbage, head_end};

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
    head: BytesMut,
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

fn at_most(available: usize, left: u64) -> usize {
    usize::try_from(left).map_or(available, |left| left.min(available))
}

#[cfg(test)]
mod tests;
