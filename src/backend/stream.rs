//! A streamed answer as whoever relays it takes it, from its first semantic event on: frames of one upstream, or of
//! several where a group lets another one go on with what broke off.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::watch;

use super::frames::{self, FrameReceiver, FrameSender};
use super::lane::Lane;
use super::lease::Lease;
use super::resume::Resume;
use super::{Frame, Reply, ReplyBody, StreamEnd};
use crate::dialect::{Continuation, DONE_EVENT, Usage};
use crate::error::{ErrorKind, ProxyError};
use crate::metrics::stream::StreamMeter;
use crate::metrics::{EndReason, ModelMeters};

/// The downstream end of a streamed answer, from its first semantic event on.
pub struct ReplyStream {
    source: Source,
    /// What is ready for the client.
    ahead: VecDeque<Frame>,
    /// What makes this answer follow the one that it continues.
    continuation: Option<Box<Continuation>>,
    /// Who goes on when it breaks off.
    resume: Option<Box<Resume>>,
    /// The admissions of those that went on; the first one's is the reply's.
    leases: Vec<Lease>,
    /// Request fully read → first semantic event.
    pub time_to_first_token: Duration,
}

/// Where a stream's frames come from.
enum Source {
    /// An upstream.
    Leg(Leg),
    /// A backend that makes them, of its own or of another stream's.
    Made(Box<dyn Frames>),
}

/// Frames that a backend makes: of its own, or of another stream's that it looks at or changes.
pub trait Frames: Send {
    /// The next frame: whole SSE events, then exactly one [`Frame::End`], after which it is not called again.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Frame>;

    /// demuxai ends before the stream does. What holds another stream hands this on to it.
    fn shut_down(&mut self) {}

    /// Whether another backend may go on with it, within what is held here.
    fn may_be_continued(&self) -> bool {
        false
    }

    /// Who answers, where that came out only behind the commit point.
    fn answering(&self) -> Option<Arc<ModelMeters>> {
        None
    }
}

/// The part of a stream that one upstream sends.
struct Leg {
    /// Whole SSE events, then exactly one [`Frame::End`]. A channel that closes without it is an error, never an end.
    frames: FrameReceiver,
    /// Ready when the arbiter that feeds the channel was given up.
    gone: BoxFuture<'static, ()>,
    /// Settles what is measured of the stream when it is dropped.
    meter: StreamMeter,
    /// A reader that takes nothing for this long is given up.
    patience: Duration,
    /// Its provider fell after all of the answer had come; the end is given in its place.
    fallen: bool,
}

// === impl ReplyStream ===

impl ReplyStream {
    /// The two ends of a stream that has begun; the downstream one carries its meter.
    pub(crate) fn channel(
        meter: StreamMeter,
        mut gone: watch::Receiver<bool>,
        patience: Duration,
    ) -> (Self, FrameSender) {
        let (sender, frames) = frames::channel();
        let time_to_first_token = meter.time_to_first_token();
        let gone = Box::pin(async move {
            // A sender that is dropped was given up, too.
            let _ = gone.wait_for(|given_up| *given_up).await;
        });
        let stream = ReplyStream {
            source: Source::Leg(Leg { frames, gone, meter, patience, fallen: false }),
            ahead: VecDeque::new(),
            continuation: None,
            resume: None,
            leases: Vec::new(),
            time_to_first_token,
        };
        (stream, sender)
    }

    /// A stream of frames that a backend makes.
    pub fn made(frames: impl Frames + 'static, time_to_first_token: Duration) -> Self {
        ReplyStream {
            source: Source::Made(Box::new(frames)),
            ahead: VecDeque::new(),
            continuation: None,
            resume: None,
            leases: Vec::new(),
            time_to_first_token,
        }
    }

    /// The next frame. After [`Frame::End`] it must not be called again.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Frame> {
        loop {
            let frame = match self.ahead.pop_front() {
                Some(frame) => frame,
                None => match self.poll_next(cx) {
                    Poll::Ready(Some(frame)) => frame,
                    Poll::Ready(None) => continue,
                    Poll::Pending => return Poll::Pending,
                },
            };
            let Some(resume) = &mut self.resume else { return Poll::Ready(frame) };
            match frame {
                Frame::Data(bytes) => {
                    if !resume.note(&bytes) {
                        self.resume = None;
                    }
                    return Poll::Ready(Frame::Data(bytes));
                }
                Frame::End(end) => match resume.begin(end) {
                    None => {}
                    Some(end) => return Poll::Ready(Frame::End(end)),
                },
            }
        }
    }

    /// `None`: look again.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Frame>> {
        if let Some(resume) = self.resume.as_mut().filter(|resume| resume.is_asking()) {
            let Poll::Ready(answered) = resume.poll(cx) else { return Poll::Pending };
            return Poll::Ready(match answered {
                Ok(reply) => {
                    self.go_on(reply);
                    None
                }
                Err(end) => {
                    self.resume = None;
                    Some(Frame::End(end))
                }
            });
        }
        let Poll::Ready(frame) = self.source.poll_frame(cx) else { return Poll::Pending };
        let Some(continuation) = &mut self.continuation else { return Poll::Ready(Some(frame)) };
        let bytes = match frame {
            Frame::Data(bytes) => continuation.push(&bytes),
            Frame::End(end) => {
                let held = continuation.finish();
                self.ahead.push_back(Frame::End(end));
                held
            }
        };
        Poll::Ready((!bytes.is_empty()).then_some(Frame::Data(bytes)))
    }

    fn go_on(&mut self, reply: Reply) {
        // A request for a stream is answered with one; `Resume` sees to it.
        let ReplyBody::Stream(stream) = reply.body else { return };
        self.source = stream.source;
        self.ahead = stream.ahead;
        self.continuation = stream.continuation;
        self.leases.extend(stream.leases);
        self.leases.push(reply.lease);
    }

    /// demuxai ends before the stream does; nobody else is at fault.
    pub(crate) fn shut_down(&mut self) {
        match &mut self.source {
            Source::Leg(leg) => leg.meter.ended(EndReason::Shutdown, Usage::default()),
            Source::Made(frames) => frames.shut_down(),
        }
    }

    /// Gives back frames that were only looked at, in their order; they come first again.
    pub(super) fn put_back(&mut self, frames: Vec<Frame>) {
        for frame in frames.into_iter().rev() {
            self.ahead.push_front(frame);
        }
    }

    /// This answer continues another one.
    pub(crate) fn continues(&mut self, continuation: Continuation) {
        self.continuation = Some(Box::new(continuation));
    }

    /// Another backend goes on when it breaks off. The first one to say so, the innermost group, counts.
    pub(super) fn resumed_by(&mut self, resume: Resume) {
        if !self.may_be_continued() {
            self.resume = Some(Box::new(resume));
        }
    }

    /// The short way that its events may take when they were waited for in vain; none where they are looked at here.
    pub fn lane(&self) -> Option<&Arc<Lane>> {
        match &self.source {
            Source::Leg(leg) if self.resume.is_none() && self.continuation.is_none() => {
                Some(leg.frames.lane())
            }
            Source::Leg(_) | Source::Made(_) => None,
        }
    }

    /// When an event took the short way last.
    pub fn passed(&self) -> Option<Instant> {
        self.lane()?.passed()
    }

    /// Who answers, where that came out only behind the commit point; the head of the reply could not say so.
    pub fn answering(&self) -> Option<Arc<ModelMeters>> {
        match &self.source {
            Source::Leg(_) => None,
            Source::Made(frames) => frames.answering(),
        }
    }

    /// Whether another backend may go on with it.
    pub fn may_be_continued(&self) -> bool {
        self.resume.is_some() || matches!(&self.source, Source::Made(frames) if frames.may_be_continued())
    }
}

// === impl Source ===

impl Source {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Frame> {
        match self {
            Source::Leg(leg) => leg.poll_frame(cx),
            Source::Made(frames) => frames.poll_frame(cx),
        }
    }
}

impl Frames for ReplyStream {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Frame> {
        ReplyStream::poll_frame(self, cx)
    }

    fn shut_down(&mut self) {
        ReplyStream::shut_down(self);
    }

    fn may_be_continued(&self) -> bool {
        ReplyStream::may_be_continued(self)
    }

    fn answering(&self) -> Option<Arc<ModelMeters>> {
        ReplyStream::answering(self)
    }
}

// === impl Leg ===

impl Leg {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Frame> {
        let frame = match self.frames.poll_next(cx) {
            _ if self.fallen => ended_all_the_same(),
            Poll::Ready(Some(frame)) => frame,
            Poll::Ready(None) if self.frames.stalled() => stalled(),
            Poll::Ready(None) => self.fell(),
            Poll::Pending => match self.gone.as_mut().poll(cx) {
                Poll::Ready(()) => self.fell(),
                Poll::Pending => return Poll::Pending,
            },
        };
        match &frame {
            Frame::Data(_) => self.meter.event(),
            Frame::End(end) => {
                self.note_passed();
                self.meter.ended(end.reason, end.usage);
            }
        }
        Poll::Ready(frame)
    }
}

impl Leg {
    fn note_passed(&mut self) {
        if let Some(passed) = self.frames.lane().passed() {
            self.meter.event_at(passed);
        }
    }

    /// What comes when the provider fell without a word. An answer whose finish reason came is whole: what is missing
    /// is at most that it says so, and the token counts.
    fn fell(&mut self) -> Frame {
        match self.frames.whole() {
            None => fell(),
            Some(true) => ended_all_the_same(),
            Some(false) => {
                self.fallen = true;
                Frame::Data(Bytes::from_static(DONE_EVENT))
            }
        }
    }
}

impl Drop for Leg {
    fn drop(&mut self) {
        self.note_passed();
        // A client that takes nothing is not there to be told the end. Should the kernel be the first to give it up,
        // its connection just goes; half of the time tells it from one that leaves of its own will.
        let takes_nothing = || self.frames.waiting() && self.meter.quiet() >= self.patience / 2;
        if !self.meter.has_ended() && (self.frames.stalled() || takes_nothing()) {
            self.meter.ended(EndReason::StalledReader, Usage::default());
        }
    }
}

/// The end of a stream whose client took nothing for too long, and now does.
fn stalled() -> Frame {
    let error = ProxyError::new(ErrorKind::Timeout, "the client took nothing for too long (stalled_reader)");
    let reason = EndReason::StalledReader;
    Frame::End(Box::new(StreamEnd { reason, error: Some(error), usage: Usage::default() }))
}

/// The end of a stream that was whole when its provider fell.
fn ended_all_the_same() -> Frame {
    Frame::End(Box::new(StreamEnd { reason: EndReason::Done, error: None, usage: Usage::default() }))
}

/// The end of a stream whose provider fell without a word.
fn fell() -> Frame {
    let error = ProxyError::new(
        ErrorKind::ProviderDown,
        "the provider's actor was replaced while it held the stream",
    );
    let reason = EndReason::UpstreamError;
    Frame::End(Box::new(StreamEnd { reason, error: Some(error), usage: Usage::default() }))
}
