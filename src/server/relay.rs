//! The downstream half of an answer: a body that actix-web polls. Keeps waiting clients alive with comments,
//! ends a broken stream with an error event and without `[DONE]`, and holds the record until the last byte is taken.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use actix_web::body::{BodySize, MessageBody};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::time::Sleep;

use super::closing::{Closing, Over};
use super::record::Record;
use crate::backend::lease::Lease;
use crate::backend::{Frame, Reply, ReplyBody, ReplyStream};
use crate::dialect::error_event;
use crate::error::{ErrorKind, ProxyError};
use crate::metrics::EndReason;

/// A comment and ONE newline: to openai-go before 3.43 a blank line behind it is an empty event, at which it gives up.
const KEEP_ALIVE: &[u8] = b": keep-alive\n";

/// A reply that is still on its way.
pub type PendingReply = BoxFuture<'static, Result<Reply, ProxyError>>;

/// A whole answer; the record ends when its bytes are taken or dropped.
pub struct WholeBody {
    bytes: Option<Bytes>,
    size: u64,
    record: Record,
}

/// A streamed answer.
pub struct StreamBody {
    state: State,
    record: Record,
    /// The daemon's end, which ends this one, too.
    over: Over,
    keep_alive: Duration,
    /// When the next keep-alive comment is due. Re-armed lazily: moved only when it fires too early.
    timer: Pin<Box<Sleep>>,
    last: Instant,
}

enum State {
    /// The status line is out, but no backend has reached its commit point yet.
    Waiting(PendingReply),
    Streaming {
        stream: Box<ReplyStream>,
        _lease: Lease,
    },
    /// The error event is handed over: the connection sends it, and closes without an end.
    Cutting,
    Finished,
}

// === impl WholeBody ===

impl WholeBody {
    /// A body of these bytes.
    pub fn new(bytes: Bytes, record: Record) -> Self {
        WholeBody { size: bytes.len() as u64, bytes: Some(bytes), record }
    }
}

impl MessageBody for WholeBody {
    type Error = io::Error;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.size)
    }

    fn poll_next(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, io::Error>>> {
        let bytes = self.bytes.take();
        if bytes.is_some() {
            self.record.finished();
        }
        Poll::Ready(bytes.map(Ok))
    }
}

// === impl StreamBody ===

impl StreamBody {
    /// A stream whose commit point is passed.
    pub fn committed(
        stream: ReplyStream,
        lease: Lease,
        record: Record,
        keep_alive: Duration,
        over: Over,
    ) -> Self {
        Self::new(State::Streaming { stream: Box::new(stream), _lease: lease }, record, keep_alive, over)
    }

    /// A stream that is started only to keep the client alive while the backend still works on it.
    pub fn waiting(reply: PendingReply, record: Record, keep_alive: Duration, over: Over) -> Self {
        let mut body = Self::new(State::Waiting(reply), record, keep_alive, over);
        // The quiet time is over already: the first comment is due now.
        body.timer = Box::pin(tokio::time::sleep(Duration::ZERO));
        body.last = body.last.checked_sub(keep_alive).unwrap_or(body.last);
        body
    }

    fn new(state: State, record: Record, keep_alive: Duration, over: Over) -> Self {
        let timer = Box::pin(tokio::time::sleep(keep_alive));
        StreamBody { state, record, over, keep_alive, timer, last: Instant::now() }
    }

    fn poll_keep_alive(&mut self, cx: &mut Context<'_>) -> Poll<Bytes> {
        loop {
            if self.timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if let State::Streaming { stream, .. } = &self.state
                && let Some(passed) = stream.passed()
            {
                self.last = self.last.max(passed);
            }
            let quiet = self.last.elapsed();
            let due = quiet >= self.keep_alive;
            let wait = if due { self.keep_alive } else { self.keep_alive.saturating_sub(quiet) };
            self.timer.as_mut().reset(tokio::time::Instant::now() + wait);
            if due {
                self.last = Instant::now();
                return Poll::Ready(Bytes::from_static(KEEP_ALIVE));
            }
        }
    }

    /// Notes who answers, where the head could not say so.
    fn note_who_answers(&mut self) {
        if let State::Streaming { stream, .. } = &self.state
            && let Some(meters) = stream.answering()
        {
            self.record.meters = Some(meters);
        }
    }

    fn fail(&mut self, error: &ProxyError) -> Bytes {
        self.record.failed(error);
        self.note_who_answers();
        self.state = State::Cutting;
        error_event(&self.record.told(error))
    }

    /// Ends what outlasted the daemon's own end; `None` when nothing is to be ended any more.
    fn cut_short(&mut self) -> Option<Bytes> {
        match &mut self.state {
            State::Waiting(_) => {}
            State::Streaming { stream, .. } => stream.shut_down(),
            State::Cutting | State::Finished => return None,
        }
        Some(self.fail(&Closing::cut()))
    }

    fn adopt(&mut self, reply: Reply) {
        let Reply { body, served, waited, lease, .. } = reply;
        let body = match &self.record.veil {
            Some(veil) => veil.body(&served, body),
            None => body,
        };
        self.record.answered(served.meters, served.marks, waited);
        match body {
            ReplyBody::Stream(stream) => {
                self.record.time_to_first_token = Some(stream.time_to_first_token);
                self.state = State::Streaming { stream: Box::new(stream), _lease: lease };
            }
            // A backend answers a request for a stream with a stream; anything else is our own fault.
            ReplyBody::Whole { .. } => {
                let text = "a backend answered a request for a stream with a plain answer";
                self.record.failed(&ProxyError::new(ErrorKind::Internal, text));
                self.state = State::Cutting;
            }
        }
    }
}

impl Drop for StreamBody {
    fn drop(&mut self) {
        // Of one that the client leaves, too, which has no end.
        self.note_who_answers();
    }
}

impl MessageBody for StreamBody {
    type Error = io::Error;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, io::Error>>> {
        let this = &mut *self;
        if Pin::new(&mut this.over).poll(cx).is_ready()
            && let Some(event) = this.cut_short()
        {
            return Poll::Ready(Some(Ok(event)));
        }
        loop {
            match &mut this.state {
                State::Waiting(reply) => match reply.as_mut().poll(cx) {
                    Poll::Ready(Ok(reply)) => this.adopt(reply),
                    Poll::Ready(Err(error)) => return Poll::Ready(Some(Ok(this.fail(&error)))),
                    Poll::Pending => return this.poll_keep_alive(cx).map(|comment| Some(Ok(comment))),
                },
                State::Streaming { stream, .. } => match stream.poll_frame(cx) {
                    Poll::Ready(Frame::Data(bytes)) => {
                        this.last = Instant::now();
                        return Poll::Ready(Some(Ok(bytes)));
                    }
                    Poll::Ready(Frame::End(end)) => {
                        this.record.usage = end.usage;
                        match end.error {
                            None => {
                                this.record.finished();
                                this.note_who_answers();
                                this.state = State::Finished;
                            }
                            Some(error) => {
                                let event = this.fail(&error);
                                if end.reason == EndReason::StalledReader {
                                    this.record.left();
                                }
                                return Poll::Ready(Some(Ok(event)));
                            }
                        }
                    }
                    Poll::Pending => return this.poll_keep_alive(cx).map(|comment| Some(Ok(comment))),
                },
                State::Cutting => {
                    this.state = State::Finished;
                    let text = "the stream did not end well";
                    return Poll::Ready(Some(Err(io::Error::other(text))));
                }
                State::Finished => return Poll::Ready(None),
            }
        }
    }
}
