//! The upstream half of a streamed answer: reads the body, lets the pure rewriter do its work, and feeds a bounded
//! channel. Backpressure is the channel: a slow client fills it, reading stops, the upstream's window closes.

use std::pin::{Pin, pin};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::task::yield_now;
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use crate::backend::frames::{FrameSender, Sent};
use crate::backend::{Frame, StreamEnd};
use crate::config::settings::Timeouts;
use crate::dialect::{DONE_EVENT, Rewrite, Step, StreamRewriter, Usage};
use crate::error::{ErrorKind, ProxyError};
use crate::metrics::EndReason;
use crate::upstream::{AnswerBody, UNINTERRUPTED};

/// What may be held back before the first semantic event.
const MAX_HELD: usize = 1024 * 1024;
/// After `[DONE]` the connection is read to its end, so that it can be used again, but not for longer than this.
const TAIL: Duration = Duration::from_secs(1);

/// A streamed answer being read.
pub(super) struct Pump {
    body: AnswerBody,
    rewriter: StreamRewriter,
    /// Events for the client that are not sent yet.
    held: BytesMut,
    /// A single event, kept apart so that it need not be copied.
    single: Option<Bytes>,
    ended: Option<Ended>,
    sent: Instant,
    /// Bytes that were read without a pause.
    unpaused: usize,
}

pub(super) type Ended = Result<(), ProxyError>;

// === impl Pump ===

impl Pump {
    /// A stream whose request was sent at that moment.
    pub(super) fn new(body: AnswerBody, rewrite: Rewrite, sent: Instant) -> Self {
        Pump {
            body,
            rewriter: StreamRewriter::new(rewrite),
            held: BytesMut::new(),
            single: None,
            ended: None,
            sent,
            unpaused: 0,
        }
    }

    /// Reads up to the first semantic event, which is then held.
    ///
    /// # Errors
    /// Whatever ends the stream before it: nothing was sent downstream yet, so it may go elsewhere.
    pub(super) async fn until_commit(&mut self) -> Result<(), ProxyError> {
        loop {
            let chunk = self.body.chunk().await;
            let semantic = self.take(chunk);
            self.give_way().await;
            match self.ended.take() {
                Some(Err(error)) if !semantic => return Err(error),
                Some(ended) => {
                    self.ended = Some(ended);
                    return Ok(());
                }
                None if semantic => return Ok(()),
                None if self.held.len() > MAX_HELD => {
                    let text = "upstream sent over 1 MB of events without content";
                    return Err(ProxyError::new(ErrorKind::UpstreamProtocol, text));
                }
                None => {}
            }
        }
    }

    /// Takes one chunk (or the end) through the rewriter. Returns whether something semantic was in it.
    fn take(&mut self, chunk: Option<Result<Bytes, ProxyError>>) -> bool {
        let mut semantic = false;
        match chunk {
            Some(Ok(bytes)) => {
                self.unpaused += bytes.len();
                self.rewriter.push(bytes);
            }
            // The answer is whole; what became of the connection after it is of no concern.
            Some(Err(_)) if self.rewriter.finish_seen() => self.rewriter.finish(),
            Some(Err(error)) => {
                self.ended = Some(Err(error));
                return false;
            }
            None => self.rewriter.finish(),
        }
        while let Some(step) = self.rewriter.next_step() {
            match step {
                Step::Event { bytes, semantic: meaning } => {
                    semantic |= meaning;
                    self.hold(bytes);
                }
                Step::Done => {
                    self.hold(Bytes::from_static(DONE_EVENT));
                    self.ended = Some(Ok(()));
                }
                Step::Failed(error) => self.ended = Some(Err(error)),
            }
        }
        semantic
    }

    fn hold(&mut self, bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        if self.held.is_empty() && self.single.is_none() {
            self.single = Some(bytes);
            return;
        }
        if let Some(single) = self.single.take() {
            self.held.extend_from_slice(&single);
        }
        self.held.extend_from_slice(&bytes);
    }

    fn release(&mut self) -> Option<Bytes> {
        match self.single.take() {
            Some(single) => Some(single),
            None if self.held.is_empty() => None,
            None => Some(self.held.split().freeze()),
        }
    }

    /// Feeds the channel until the stream ends, the client leaves, or a deadline passes. What ended it is read by `read`
    /// before anybody is `told`. Says what became of the last frame.
    pub(super) async fn run(
        mut self: Box<Self>,
        frames: FrameSender,
        timeouts: &Timeouts,
        stalled_reader: Duration,
        read: impl Fn(ProxyError) -> ProxyError,
        told: impl Fn(&Ended, Usage),
    ) -> Sent {
        let total = timeouts.total_stream.map(|limit| self.sent + limit);
        let next = |now: Instant| total.map_or(now + timeouts.idle, |total| total.min(now + timeouts.idle));
        let mut timer = pin!(sleep_until(next(Instant::now())));
        let mut left = pin!(frames.closed());
        loop {
            if let Some(bytes) = self.release() {
                let sent = frames.send(Frame::Data(bytes), stalled_reader).await;
                if sent != Sent::Yes {
                    return sent;
                }
                if self.rewriter.finish_seen() {
                    frames.is_whole(matches!(self.ended, Some(Ok(()))));
                }
            }
            if let Some(ended) = self.ended.take() {
                let ended = ended.map_err(&read);
                // Before the client hears of the end, so that its next request finds the place free.
                told(&ended, self.rewriter.usage());
                return self.end(ended, &frames, stalled_reader).await;
            }
            let now = Instant::now();
            let deadline = next(now);
            let late = || Some(Err(timed_out(timeouts, total.is_some_and(|total| deadline == total))));
            // What is always ready would never meet its deadline.
            let chunk = if deadline <= now {
                late()
            } else {
                tokio::select! {
                    biased;
                    () = &mut left => return Sent::Left,
                    chunk = self.body.chunk() => chunk,
                    () = until(timer.as_mut(), deadline) => late(),
                }
            };
            self.take(chunk);
            self.give_way().await;
        }
    }

    /// Lets others have their turn after a while.
    async fn give_way(&mut self) {
        if self.unpaused >= UNINTERRUPTED {
            self.unpaused = 0;
            yield_now().await;
        }
    }

    async fn end(&mut self, ended: Ended, frames: &FrameSender, stalled_reader: Duration) -> Sent {
        let (reason, error) = match ended {
            Ok(()) => (EndReason::Done, None),
            Err(error) => (reason_of(&error), Some(error)),
        };
        let done = error.is_none();
        let end = Box::new(StreamEnd { reason, error, usage: self.rewriter.usage() });
        let sent = frames.send(Frame::End(end), stalled_reader).await;
        if done {
            // Read the terminator, so that the connection can be used again.
            let _ = timeout(TAIL, async { while let Some(Ok(_)) = self.body.chunk().await {} }).await;
        }
        sent
    }
}

/// Ready at `deadline`. The timer is moved only when it fires too early, which costs less than one for each event;
/// so a deadline must not come before those that went before it.
async fn until(mut timer: Pin<&mut Sleep>, deadline: Instant) {
    loop {
        timer.as_mut().await;
        if Instant::now() >= deadline {
            return;
        }
        timer.as_mut().reset(deadline);
    }
}

fn timed_out(timeouts: &Timeouts, in_total: bool) -> ProxyError {
    let text = match timeouts.total_stream.filter(|_| in_total) {
        Some(limit) => format!("the stream took longer than {limit:?} (timeouts.total_stream)"),
        None => format!("upstream sent nothing for {:?} (timeouts.idle)", timeouts.idle),
    };
    ProxyError::new(ErrorKind::Timeout, text)
}

fn reason_of(error: &ProxyError) -> EndReason {
    match error.kind {
        ErrorKind::Truncated => EndReason::Truncated,
        ErrorKind::Timeout => EndReason::Idle,
        _ => EndReason::UpstreamError,
    }
}
