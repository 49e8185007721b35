//! The streamed answer of a panel: what the members say as reasoning while they say it, then the final answer. Shown is only
//! what the client takes; nothing goes on without it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::super::lease::Lease;
use super::super::{Frame, Frames, ReplyBody, ReplyStream, Served};
use super::Show;
use super::consult::{Verdict, consult};
use super::frame::Disarm;
use super::session::Session;
use crate::dialect::{Composer, DONE_EVENT};
use crate::error::{ErrorKind, ProxyError};
use crate::metrics::{EndReason, ModelMeters};

/// Harmony's channels in the text of a message (OpenAI, "Harmony response format", 2025-08): the analysis, and behind it
/// what the user is to see.
pub(super) const ANALYSIS: &str = "<|channel|>analysis<|message|>";
pub(super) const FINAL: &str = "<|end|><|start|>assistant<|channel|>final<|message|>";

/// The answer being made.
pub(super) struct Made {
    session: Arc<Session>,
    composer: Composer,
    disarm: Disarm,
    /// The analysis was begun, and not ended.
    in_analysis: bool,
    phase: Phase,
    ready: VecDeque<Frame>,
    /// Who answers, once a judge does.
    served: Option<Served>,
    /// The same behind the commit point, where the members' words were.
    answering: Option<Arc<ModelMeters>>,
}

enum Phase {
    Consulting(BoxFuture<'static, Result<Verdict, ProxyError>>),
    Relaying {
        stream: Box<ReplyStream>,
        _lease: Lease,
        /// The judge's number in the tally.
        number: usize,
        /// Token counts came.
        counted: bool,
        /// Its end came, and what it cost not yet.
        done: bool,
    },
    /// What is ready is all.
    Over,
}

// === impl Made ===

impl Made {
    /// The answer to the request of this session, by these names.
    pub(super) fn new(session: Arc<Session>, composer: Composer) -> Self {
        let consulting = consult(Arc::clone(&session)).boxed();
        Made {
            session,
            composer,
            disarm: Disarm::default(),
            in_analysis: false,
            phase: Phase::Consulting(consulting),
            ready: VecDeque::new(),
            served: None,
            answering: None,
        }
    }

    /// Who answers, if that is known.
    pub(super) fn take_served(&mut self) -> Option<Served> {
        self.served.take()
    }

    /// Gives back a frame that was only looked at.
    pub(super) fn put_back(&mut self, frame: Frame) {
        self.ready.push_front(frame);
    }

    /// What was said since the last time, as it is shown; at the end of it all that was held back, too.
    fn show(&mut self, at_end: bool) {
        let text = self.session.take_shown().unwrap_or_default();
        match self.session.panel.show {
            Show::Reasoning if !text.is_empty() => {
                let event = self.composer.delta("reasoning_content", &text);
                self.data(event);
            }
            Show::Harmony => {
                let mut shown = self.disarm.push(&text);
                if at_end {
                    shown.push_str(&self.disarm.finish());
                }
                if !shown.is_empty() && !std::mem::replace(&mut self.in_analysis, true) {
                    shown.insert_str(0, ANALYSIS);
                }
                if at_end && std::mem::take(&mut self.in_analysis) {
                    shown.push_str(FINAL);
                }
                if !shown.is_empty() {
                    let event = self.composer.delta("content", &shown);
                    self.data(event);
                }
            }
            Show::Reasoning | Show::Nothing => {}
        }
    }

    fn data(&mut self, events: Vec<u8>) {
        if !events.is_empty() {
            self.ready.push_back(Frame::Data(Bytes::from(events)));
        }
    }

    fn end(&mut self, reason: EndReason, error: Option<ProxyError>) {
        self.answering = self.answering();
        if error.is_none() {
            self.session.finished();
        }
        self.ready.push_back(self.session.end(reason, error));
        self.phase = Phase::Over;
    }

    fn decided(&mut self, verdict: Result<Verdict, ProxyError>) {
        self.show(true);
        match verdict {
            Err(error) => self.end(EndReason::UpstreamError, Some(error)),
            Ok(Verdict::Judged { reply, number }) => {
                self.answering = Some(Arc::clone(&reply.served.meters));
                self.served = Some(reply.served);
                match reply.body {
                    ReplyBody::Stream(stream) => {
                        let stream = Box::new(stream);
                        let _lease = reply.lease;
                        self.phase = Phase::Relaying { stream, _lease, number, counted: false, done: false };
                    }
                    ReplyBody::Whole { .. } => {
                        let text = "the judge answered a request for a stream with none";
                        let error = ProxyError::new(ErrorKind::Internal, text);
                        self.end(EndReason::UpstreamError, Some(error));
                    }
                }
            }
            Ok(Verdict::Chosen { draft, .. }) => {
                let mut events = self.composer.delta("content", &draft.text);
                events.extend(self.composer.finish(draft.finish.as_deref().unwrap_or_default()));
                if self.session.call.request.include_usage {
                    events.extend(self.composer.bill(&self.session.bill()));
                }
                events.extend_from_slice(DONE_EVENT);
                self.data(events);
                self.end(EndReason::Done, None);
            }
        }
    }

    /// Takes a frame of the judge's over.
    fn relay(&mut self, frame: Frame) {
        let Phase::Relaying { number, counted, done, .. } = &mut self.phase else { return };
        let number = *number;
        match frame {
            Frame::Data(events) => {
                let session = &self.session;
                let adopted = self.composer.adopt(&events, |usage| {
                    let mut inner = session.lock();
                    inner.tally.used(number, usage);
                    inner.tally.ended(number, "answered");
                    inner.tally.bill()
                });
                *counted |= adopted.counted;
                *done |= adopted.done;
                self.data(adopted.events);
            }
            Frame::End(end) => {
                let (counted, done) = (*counted, *done);
                {
                    let mut inner = self.session.lock();
                    inner.tally.used(number, end.usage);
                    inner.tally.ended(number, if end.error.is_none() { "answered" } else { "failed" });
                    if end.error.is_some() {
                        inner.outcome = "judge_failed";
                    }
                }
                if done {
                    let mut events = Vec::new();
                    if self.session.call.request.include_usage && !counted {
                        events.extend(self.composer.bill(&self.session.bill()));
                    }
                    events.extend_from_slice(DONE_EVENT);
                    self.data(events);
                }
                self.end(end.reason, end.error);
            }
        }
    }
}

impl Frames for Made {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Frame> {
        loop {
            if let Some(frame) = self.ready.pop_front() {
                return Poll::Ready(frame);
            }
            match &mut self.phase {
                Phase::Consulting(consulting) => match consulting.as_mut().poll(cx) {
                    Poll::Ready(verdict) => self.decided(verdict),
                    Poll::Pending => {
                        self.show(false);
                        if self.ready.is_empty() {
                            return Poll::Pending;
                        }
                    }
                },
                Phase::Relaying { stream, .. } => match stream.poll_frame(cx) {
                    Poll::Ready(frame) => self.relay(frame),
                    Poll::Pending => return Poll::Pending,
                },
                // Not called again after the end.
                Phase::Over => return Poll::Pending,
            }
        }
    }

    fn shut_down(&mut self) {
        match &mut self.phase {
            Phase::Consulting(_) => self.session.lock().gathering.shut_down(),
            Phase::Relaying { stream, .. } => stream.shut_down(),
            Phase::Over => {}
        }
    }

    fn answering(&self) -> Option<Arc<ModelMeters>> {
        let judge = match &self.phase {
            Phase::Relaying { stream, .. } => stream.answering(),
            Phase::Consulting(_) | Phase::Over => None,
        };
        judge.or_else(|| self.answering.clone())
    }
}
