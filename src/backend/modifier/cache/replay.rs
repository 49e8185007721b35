//! A kept stream, given once more: at once, or piece by piece as it came.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Sleep, sleep};

use super::entry::Entry;
use crate::backend::{Frame, Frames, StreamEnd};
use crate::metrics::EndReason;

/// No pause is kept that is longer: nobody waits for what is there.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How a kept stream is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// All of it at once.
    AtOnce,
    /// In its pieces, with the pauses between them. What came before the first one is not waited for.
    Original,
}

/// The frames of a kept stream.
pub(super) struct Replay {
    entry: Arc<Entry>,
    pace: Pace,
    /// Which piece is next.
    next: usize,
    /// How much was given.
    given: usize,
    pause: Option<Pin<Box<Sleep>>>,
}

// === impl Replay ===

impl Replay {
    pub(super) fn new(entry: Arc<Entry>, pace: Pace) -> Self {
        Replay { entry, pace, next: 0, given: 0, pause: None }
    }

    fn rest(&self) -> Bytes {
        self.entry.bytes.slice(self.given.min(self.entry.bytes.len())..)
    }

    /// The next piece when it is due; all that is left where no pieces are kept apart.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Bytes> {
        let pieces = self.entry.pieces.as_deref().unwrap_or_default();
        let Some(piece) = pieces.get(self.next).copied().filter(|_| self.pace == Pace::Original) else {
            let rest = self.rest();
            self.given += rest.len();
            return Poll::Ready(rest);
        };
        if self.next > 0 && !piece.pause().is_zero() {
            let pause = piece.pause().min(LONGEST_PAUSE);
            let timer = self.pause.get_or_insert_with(|| Box::pin(sleep(pause)));
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
        self.pause = None;
        self.next += 1;
        let end = (piece.end as usize).clamp(self.given, self.entry.bytes.len());
        let bytes = self.entry.bytes.slice(self.given..end);
        self.given = end;
        Poll::Ready(bytes)
    }
}

impl Frames for Replay {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Frame> {
        while self.given < self.entry.bytes.len() {
            match self.poll_piece(cx) {
                Poll::Ready(bytes) if bytes.is_empty() => {}
                Poll::Ready(bytes) => return Poll::Ready(Frame::Data(bytes)),
                Poll::Pending => return Poll::Pending,
            }
        }
        let usage = self.entry.usage;
        Poll::Ready(Frame::End(Box::new(StreamEnd { reason: EndReason::Done, error: None, usage })))
    }
}
