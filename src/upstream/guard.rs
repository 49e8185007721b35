//! The connection as awc sees it: one request, one answer, with the gaps of awc closed by [`Framing`].
//! After the answer the socket goes back to the [`Pool`] or is closed, and awc keeps an empty husk.
//!
//! 1. An answer that broke off is an error, never a clean end.
//! 2. A reused connection that dies soon and before the first byte is [`FailureKind::Stale`].
//! 3. An answer that comes while the request is still being sent (413, 401) is read, and the rest of the request is
//!    swallowed (awc would report the broken pipe: actix/actix-web#2109).

use std::io;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use actix_rt::net::{ActixStream, Ready};
use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connect::Wire;
use super::failure::{Failure, FailureKind};
use super::framing::{Framing, FramingError};
use super::pool::Pool;

/// What is read at once while a request is still being sent.
const EARLY_READ: usize = 4096;

/// A connection that was closed while it waited shows so within a round trip. One that dies later took the request and
/// may have worked on it: sending that again could cost twice.
const STALE_WITHIN: Duration = Duration::from_secs(2);

/// One request's hold on a connection.
#[derive(Debug)]
pub(super) struct Guard {
    /// Gone once the answer is complete or broken.
    wire: Option<Wire>,
    pool: Weak<Pool>,
    reused: bool,
    since: Instant,
    framing: Framing,
    /// Decoded bytes that the reader has not taken yet.
    ready: BytesMut,
    /// The rest of the request is not sent: the upstream has answered already, or is gone.
    swallowing: bool,
    write_error: Option<io::Error>,
}

// === impl Guard ===

impl Guard {
    pub(super) fn fresh(wire: Wire, pool: &Rc<Pool>) -> Self {
        Guard::new(wire, pool, false)
    }

    pub(super) fn reused(wire: Wire, pool: &Rc<Pool>) -> Self {
        Guard::new(wire, pool, true)
    }

    fn new(wire: Wire, pool: &Rc<Pool>, reused: bool) -> Self {
        Guard {
            wire: Some(wire),
            pool: Rc::downgrade(pool),
            reused,
            since: Instant::now(),
            framing: Framing::new(),
            ready: BytesMut::new(),
            swallowing: false,
            write_error: None,
        }
    }

    /// The answer is complete: the socket waits for the next request, or is closed.
    fn retire(&mut self) {
        let Some(wire) = self.wire.take() else { return };
        if self.framing.is_reusable()
            && !self.swallowing
            && let Some(pool) = self.pool.upgrade()
        {
            pool.put(wire);
        }
    }

    /// The connection ended, cleanly or by `error`, and with it what was still to come.
    fn ended(&mut self, error: Option<io::Error>) -> Result<(), Failure> {
        if !self.framing.seen_anything() {
            self.wire = None;
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
                self.wire = None;
                Err(Failure::new(FailureKind::Truncated, error.to_string()))
            }
            _ => {
                self.framing.end();
                Ok(())
            }
        }
    }

    /// What is already known about the next read, without the socket.
    fn settled(&mut self, buf: &mut ReadBuf<'_>) -> Option<io::Result<()>> {
        if !self.ready.is_empty() {
            let count = self.ready.len().min(buf.remaining());
            buf.put_slice(self.ready.get(..count).unwrap_or_default());
            self.ready.advance(count);
            if self.framing.is_complete() {
                self.retire();
            }
            return Some(Ok(()));
        }
        if let Some(error) = self.framing.error() {
            let failure = match error {
                FramingError::Truncated(cause) => Failure::new(FailureKind::Truncated, *cause),
                FramingError::Protocol(cause) => Failure::new(FailureKind::Protocol, cause.as_str()),
            };
            self.wire = None;
            return Some(Err(failure.into_io()));
        }
        if self.framing.is_complete() {
            self.retire();
            return Some(Ok(()));
        }
        if self.wire.is_none() || buf.remaining() == 0 {
            return Some(Ok(()));
        }
        None
    }

    /// Whether the upstream has refused the request (or gone) before all of it was sent.
    fn refused_early(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(wire) = self.wire.as_mut() else { return true };
        while self.framing.in_head() {
            let mut bytes = [0_u8; EARLY_READ];
            let mut buf = ReadBuf::new(&mut bytes);
            match Pin::new(&mut *wire).poll_read(cx, &mut buf) {
                Poll::Pending => return false,
                // The end shows itself again to whoever reads next.
                Poll::Ready(Err(_)) => return true,
                Poll::Ready(Ok(())) if buf.filled().is_empty() => return true,
                Poll::Ready(Ok(())) => self.framing.push(buf.filled(), &mut self.ready),
            }
        }
        self.framing.error().is_some() || self.framing.status() >= 300
    }

    /// What awc is told about a write or flush.
    fn sent<T>(
        &mut self,
        cx: &mut Context<'_>,
        result: Poll<io::Result<T>>,
        swallowed: T,
    ) -> Poll<io::Result<T>> {
        match result {
            Poll::Ready(Ok(done)) => Poll::Ready(Ok(done)),
            Poll::Ready(Err(error)) => {
                self.write_error = Some(error);
                self.swallowing = true;
                Poll::Ready(Ok(swallowed))
            }
            Poll::Pending if self.refused_early(cx) => {
                self.swallowing = true;
                Poll::Ready(Ok(swallowed))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Guard {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let guard = self.get_mut();
        loop {
            if let Some(result) = guard.settled(buf) {
                return Poll::Ready(result);
            }
            let Some(wire) = guard.wire.as_mut() else { return Poll::Ready(Ok(())) };
            let before = buf.filled().len();
            let ended = match Pin::new(wire).poll_read(cx, buf) {
                Poll::Pending => match guard.write_error.take() {
                    None => return Poll::Pending,
                    // Whatever the upstream said before it went is read by now.
                    error => guard.ended(error),
                },
                Poll::Ready(Err(error)) => guard.ended(Some(error)),
                Poll::Ready(Ok(())) if buf.filled().len() == before => guard.ended(None),
                Poll::Ready(Ok(())) => Ok(()),
            };
            if let Err(failure) = ended {
                return Poll::Ready(Err(failure.into_io()));
            }
            let arrived = buf.filled_mut().get_mut(before..).unwrap_or_default();
            if guard.framing.in_head() {
                guard.framing.push(arrived, &mut guard.ready);
                buf.set_filled(before);
                continue;
            }
            let kept = guard.framing.body(arrived);
            buf.set_filled(before + kept);
            if guard.framing.is_complete() {
                guard.retire();
            }
            if kept > 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl AsyncWrite for Guard {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let guard = self.get_mut();
        let Some(wire) = guard.wire.as_mut().filter(|_| !guard.swallowing) else {
            return Poll::Ready(Ok(buf.len()));
        };
        let result = Pin::new(wire).poll_write(cx, buf);
        guard.sent(cx, result, buf.len())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let guard = self.get_mut();
        let Some(wire) = guard.wire.as_mut().filter(|_| !guard.swallowing) else {
            return Poll::Ready(Ok(()));
        };
        let result = Pin::new(wire).poll_flush(cx);
        guard.sent(cx, result, ())
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut().wire.as_mut() {
            Some(wire) => Pin::new(wire).poll_shutdown(cx),
            None => Poll::Ready(Ok(())),
        }
    }
}

impl ActixStream for Guard {
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        match &self.wire {
            Some(wire) => wire.poll_read_ready(cx),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        match &self.wire {
            Some(wire) => wire.poll_write_ready(cx),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}
