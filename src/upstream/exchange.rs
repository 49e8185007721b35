//! One request and its answer on one connection, HTTP/1.1. Afterwards the connection goes back to the [`Pool`] or is
//! closed; dropping an exchange before its end closes it at once.
//!
//! 1. An answer that broke off is an error, never a clean end.
//! 2. A reused connection that dies soon and before the first byte is [`FailureKind::Stale`].
//! 3. Sending and reading go on side by side: an answer may come while the request is still on its way. One that refuses
//!    it (413, 401) ends the sending; what broke the sending is told only when nothing of an answer can be read.

use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;
use tokio::io::{AsyncReadExt, AsyncWrite};

use super::connect::Wire;
use super::failure::{Failure, FailureKind};
use super::framing::{Framing, FramingError};
use super::pool::Pool;
use crate::wire::rope::Rope;

/// Room for the first read; what fills it makes the next one larger.
const FIRST_READ: usize = 8 * 1024;
/// Most that is read at once.
const LARGEST_READ: usize = 32 * 1024;
/// With less room than this left, a new buffer is begun.
const LEAST_ROOM: usize = 1024;
/// Most pieces of a request that go out in one call.
const PIECES: usize = 32;

/// A connection that was closed while it waited shows so within a round trip. One that dies later took the request and
/// may have worked on it: sending that again could cost twice.
const STALE_WITHIN: Duration = Duration::from_secs(2);

/// One request's hold on a connection.
#[derive(Debug)]
pub(super) struct Exchange {
    /// Gone once the answer is complete or broken.
    wire: Option<Wire>,
    pool: Weak<Pool>,
    reused: bool,
    since: Instant,
    framing: Framing,
    /// What came off the wire: the head as long as it is incomplete, then what the reader has not taken of the body.
    arrived: BytesMut,
    /// How much the next buffer holds.
    room: usize,
    /// What is still to be sent; gone when all of it was, and when no more of it is wanted.
    unsent: Option<Rope>,
    /// All of the request went out.
    sent: bool,
    write_error: Option<io::Error>,
}

// === impl Exchange ===

impl Exchange {
    /// On a connection just opened.
    pub(super) fn fresh(request: Rope, wire: Wire, pool: &Rc<Pool>) -> Self {
        Exchange::new(request, wire, pool, false)
    }

    /// On a connection that waited in the pool.
    pub(super) fn reused(request: Rope, wire: Wire, pool: &Rc<Pool>) -> Self {
        Exchange::new(request, wire, pool, true)
    }

    fn new(request: Rope, wire: Wire, pool: &Rc<Pool>, reused: bool) -> Self {
        Exchange {
            wire: Some(wire),
            pool: Rc::downgrade(pool),
            reused,
            since: Instant::now(),
            framing: Framing::new(),
            arrived: BytesMut::new(),
            room: FIRST_READ,
            unsent: Some(request),
            sent: false,
            write_error: None,
        }
    }

    /// Sends the request and reads the head of the answer: its status and headers.
    ///
    /// # Errors
    /// `Stale` and `Closed` without an answer, `Truncated` and `Protocol` with half a head.
    pub(super) async fn head(&mut self) -> Result<(u16, HeaderMap), Failure> {
        poll_fn(|cx| {
            loop {
                if let Some((status, headers)) = self.framing.take_head() {
                    if status >= 300 {
                        self.unsent = None;
                    }
                    return Poll::Ready(Ok((status, headers)));
                }
                if let Some(failure) = self.broken() {
                    return Poll::Ready(Err(failure));
                }
                ready!(self.poll_exchange(cx))?;
            }
        })
        .await
    }

    /// The next bytes of the body; `None` after the last.
    pub(super) fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Failure>>> {
        loop {
            if !self.arrived.is_empty() {
                return Poll::Ready(Some(Ok(self.arrived.split().freeze())));
            }
            if self.framing.is_complete() {
                return Poll::Ready(None);
            }
            if let Some(failure) = self.broken() {
                return Poll::Ready(Some(Err(failure)));
            }
            if let Err(failure) = ready!(self.poll_exchange(cx)) {
                return Poll::Ready(Some(Err(failure)));
            }
        }
    }

    /// What makes the answer unreadable from here on. What came before it is good.
    fn broken(&mut self) -> Option<Failure> {
        let failure = match self.framing.error()? {
            FramingError::Truncated(cause) => Failure::new(FailureKind::Truncated, *cause),
            FramingError::Protocol(cause) => Failure::new(FailureKind::Protocol, cause.as_str()),
        };
        self.wire = None;
        Some(failure)
    }

    /// Sends on as far as the connection takes it.
    fn poll_send(&mut self, cx: &mut Context<'_>) {
        while let (Some(unsent), Some(wire)) = (self.unsent.as_mut(), self.wire.as_mut()) {
            let wire = Pin::new(wire);
            let result = if unsent.has_remaining() {
                let mut slices = [IoSlice::new(&[]); PIECES];
                let count = unsent.chunks_vectored(&mut slices);
                wire.poll_write_vectored(cx, slices.get(..count).unwrap_or_default())
            } else {
                wire.poll_flush(cx).map_ok(|()| 0)
            };
            match result {
                Poll::Pending => return,
                Poll::Ready(Ok(0)) => {
                    self.sent = !unsent.has_remaining();
                    self.unsent = None;
                }
                Poll::Ready(Ok(count)) => unsent.advance(count),
                // What the upstream said before it broke is still to be read.
                Poll::Ready(Err(error)) => {
                    self.write_error = Some(error);
                    self.unsent = None;
                }
            }
        }
    }

    /// Sends on, and reads once. When that succeeds, the framing knows more than before.
    fn poll_exchange(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.poll_send(cx);
        let Some(wire) = self.wire.as_mut() else { return Poll::Ready(self.ended(None)) };
        if self.arrived.capacity() - self.arrived.len() < LEAST_ROOM {
            self.arrived.reserve(self.room);
        }
        let room = self.arrived.capacity() - self.arrived.len();
        Poll::Ready(match ready!(pin!(wire.read_buf(&mut self.arrived)).poll(cx)) {
            Err(error) => self.ended(Some(error)),
            Ok(0) => self.ended(None),
            Ok(count) => {
                if count == room {
                    self.room = (self.room * 2).min(LARGEST_READ);
                }
                self.framing.push(&mut self.arrived);
                if self.framing.is_complete() {
                    self.retire();
                }
                Ok(())
            }
        })
    }

    /// The answer is complete: the connection waits for the next request, or is closed.
    fn retire(&mut self) {
        let Some(wire) = self.wire.take() else { return };
        if self.framing.is_reusable()
            && self.sent
            && let Some(pool) = self.pool.upgrade()
        {
            pool.put(wire);
        }
    }

    /// The connection ended, cleanly or by `error`, and with it what was still to come.
    fn ended(&mut self, error: Option<io::Error>) -> Result<(), Failure> {
        self.wire = None;
        if !self.framing.seen_anything() {
            let stale = self.reused && self.since.elapsed() < STALE_WITHIN;
            let kind = if stale { FailureKind::Stale } else { FailureKind::Closed };
            let cause = match self.write_error.take().or(error) {
                Some(error) => error.to_string(),
                None => "no answer came".to_owned(),
            };
            return Err(Failure::new(kind, cause));
        }
        match error {
            Some(error) if !self.framing.is_complete() => {
                Err(Failure::new(FailureKind::Truncated, error.to_string()))
            }
            _ => {
                self.framing.end();
                Ok(())
            }
        }
    }
}
