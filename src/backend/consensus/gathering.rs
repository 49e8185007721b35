//! The members of a panel that are asked side by side: what each says as it comes. It decides nothing: how long they are
//! waited for and what their answers come to is `consult.rs`.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;

use super::super::gate::{Gate, Progress};
use super::super::lease::Lease;
use super::super::{Frame, Reply, ReplyBody, ReplyStream};
use super::plan::Muster;
use crate::dialect::{Usage, said_in_events};
use crate::error::{ErrorKind, ProxyError};

/// The longest text of a member that is kept, in bytes: some 60,000 tokens. A longer one is no answer that a judge could
/// read beside others.
pub(super) const LONGEST_ANSWER: usize = 256 * 1024;

/// A member's request on its way.
pub(super) type Asking = BoxFuture<'static, Result<Reply, ProxyError>>;

/// The members that are asked.
#[derive(Default)]
pub(super) struct Gathering {
    asked: Vec<Asked>,
    /// Whose turn it is to be listened to first, so that one who says much does not keep the others waiting.
    turn: usize,
}

struct Asked {
    member: usize,
    label: Arc<str>,
    gate: Gate,
    state: State,
}

enum State {
    Asking(Asking),
    /// It answered or failed; nobody was told.
    Came(Box<Result<Reply, ProxyError>>),
    Speaking {
        stream: Box<ReplyStream>,
        _lease: Lease,
        draft: Draft,
    },
    Over,
}

/// What a member said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Draft {
    /// Its text.
    pub(super) text: String,
    /// Why it ends.
    pub(super) finish: Option<String>,
}

/// What was heard of a member.
pub(super) enum Heard {
    /// It says something.
    Said(usize, String),
    /// It has ended, and cost so much.
    Ended(usize, Result<Draft, ProxyError>, Usage),
}

// === impl Gathering ===

impl Gathering {
    /// Asks one more member.
    pub(super) fn ask(&mut self, member: usize, label: Arc<str>, gate: Gate, asking: Asking) {
        self.asked.push(Asked { member, label, gate, state: State::Asking(asking) });
    }

    /// Those that are asked, and whether each one is still at it.
    pub(super) fn members(&self) -> impl Iterator<Item = (usize, bool)> {
        self.asked.iter().map(|asked| (asked.member, !matches!(asked.state, State::Over)))
    }

    /// How far all of them are on their way to be admitted, having gone on with it.
    pub(super) fn muster(&mut self, cx: &mut Context<'_>) -> Muster {
        let mut muster = Muster::default();
        for asked in &mut self.asked {
            if let State::Asking(asking) = &mut asked.state
                && let Poll::Ready(came) = asking.as_mut().poll(cx)
            {
                asked.state = State::Came(Box::new(came));
            }
            match (&asked.state, asked.gate.progress()) {
                (State::Came(came), _) => match came.as_ref() {
                    Ok(_) => muster.ready += 1,
                    Err(error) => {
                        muster.failed += 1;
                        muster.denied |= error.denial.is_some();
                    }
                },
                (State::Over, _) => muster.failed += 1,
                (_, Progress::Arrived) => muster.ready += 1,
                (_, Progress::Queued) => muster.queued += 1,
                (_, Progress::Coming) => muster.coming += 1,
            }
        }
        muster
    }

    /// Those that failed before anything was listened to.
    pub(super) fn failed(&self) -> Vec<(usize, &ProxyError)> {
        let errors = self.asked.iter().filter_map(|asked| match &asked.state {
            State::Came(came) => came.as_ref().as_ref().err().map(|error| (asked.member, error)),
            _ => None,
        });
        errors.collect()
    }

    /// Those of whom it is not known yet whether they are admitted.
    pub(super) fn waiting(&self) -> Vec<usize> {
        let waits = |asked: &&Asked| {
            matches!(asked.state, State::Asking(_)) && asked.gate.progress() != Progress::Arrived
        };
        self.asked.iter().filter(waits).map(|asked| asked.member).collect()
    }

    /// What is heard next. `None`: all have ended.
    pub(super) fn poll_heard(&mut self, cx: &mut Context<'_>) -> Poll<Option<Heard>> {
        let count = self.asked.len();
        let mut over = true;
        for step in 0..count {
            let place = (self.turn + step) % count;
            let Some(asked) = self.asked.get_mut(place) else { continue };
            match asked.poll_heard(cx) {
                Poll::Ready(Some(heard)) => {
                    self.turn = place + 1;
                    return Poll::Ready(Some(heard));
                }
                Poll::Ready(None) => {}
                Poll::Pending => over = false,
            }
        }
        if over { Poll::Ready(None) } else { Poll::Pending }
    }

    /// Gives up those that have not ended, which cancels them at their upstreams; and says who they were.
    pub(super) fn give_up(&mut self) -> Vec<usize> {
        let mut left = Vec::new();
        for asked in &mut self.asked {
            if !matches!(std::mem::replace(&mut asked.state, State::Over), State::Over) {
                left.push(asked.member);
            }
        }
        left
    }

    /// demuxai ends before they do.
    pub(super) fn shut_down(&mut self) {
        for asked in &mut self.asked {
            if let State::Speaking { stream, .. } = &mut asked.state {
                stream.shut_down();
            }
        }
    }
}

// === impl Asked ===

impl Asked {
    fn poll_heard(&mut self, cx: &mut Context<'_>) -> Poll<Option<Heard>> {
        loop {
            match &mut self.state {
                State::Over => return Poll::Ready(None),
                State::Asking(asking) => match asking.as_mut().poll(cx) {
                    Poll::Ready(came) => self.state = State::Came(Box::new(came)),
                    Poll::Pending => return Poll::Pending,
                },
                State::Came(_) => {
                    if let Some(error) = self.begin() {
                        return self.end(Err(error), Usage::default());
                    }
                }
                State::Speaking { stream, draft, .. } => match stream.poll_frame(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Frame::Data(events)) => {
                        let said = said_in_events(&events);
                        draft.finish = said.finish.or(draft.finish.take());
                        draft.text.push_str(&said.text);
                        if draft.text.len() > LONGEST_ANSWER {
                            let error = self.too_long();
                            return self.end(Err(error), Usage::default());
                        }
                        if !said.text.is_empty() {
                            return Poll::Ready(Some(Heard::Said(self.member, said.text)));
                        }
                    }
                    Poll::Ready(Frame::End(end)) => {
                        let draft = std::mem::take(draft);
                        let result = match end.error {
                            Some(error) => Err(error),
                            None if draft.text.trim().is_empty() => Err(self.empty()),
                            None if draft.finish.is_none() => Err(self.unfinished()),
                            None => Ok(draft),
                        };
                        return self.end(result, end.usage);
                    }
                },
            }
        }
    }

    /// Listens to the reply that came, or says why there is nothing to listen to.
    fn begin(&mut self) -> Option<ProxyError> {
        let State::Came(came) = std::mem::replace(&mut self.state, State::Over) else { return None };
        match *came {
            Ok(Reply { body: ReplyBody::Stream(stream), lease, .. }) => {
                let stream = Box::new(stream);
                self.state = State::Speaking { stream, _lease: lease, draft: Draft::default() };
                None
            }
            Ok(_) => Some(ProxyError::new(ErrorKind::Internal, "answered a request for a stream with none")),
            Err(error) => Some(error),
        }
    }

    fn end(&mut self, result: Result<Draft, ProxyError>, usage: Usage) -> Poll<Option<Heard>> {
        self.state = State::Over;
        Poll::Ready(Some(Heard::Ended(self.member, result, usage)))
    }

    fn too_long(&self) -> ProxyError {
        let text = format!("`{}` answered with over {} KB of text", self.label, LONGEST_ANSWER / 1024);
        ProxyError::new(ErrorKind::UpstreamProtocol, text)
    }

    /// Nobody knows whether it is whole, and no reason is invented for it.
    fn unfinished(&self) -> ProxyError {
        let text = format!("`{}` ended its answer without a finish reason", self.label);
        ProxyError::new(ErrorKind::UpstreamProtocol, text)
    }

    fn empty(&self) -> ProxyError {
        ProxyError::new(ErrorKind::EmptyAnswer, format!("`{}` answered without any text", self.label))
    }
}
