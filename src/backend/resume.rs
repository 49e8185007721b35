//! `resume = "continue"`: when a stream breaks after its commit point, another member of the group goes on from the text
//! so far. Only for plain chats of one choice, and only by upstreams that are known to continue what was begun.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::attempts;
use super::group::Group;
use super::{Call, Reply, ReplyBody, StreamEnd};
use crate::dialect::{can_be_continued, plain_text};
use crate::error::{ErrorKind, Fault, ProxyError};
use crate::metrics::EndReason;

/// Longer answers are not kept in mind.
const MOST_TEXT: usize = 256 * 1024;
/// The longest reason why nobody went on, in characters.
const MOST_REASON: usize = 500;

/// What it takes to go on with an answer.
pub(super) struct Resume {
    group: Arc<Group>,
    call: Call,
    /// Who broke off; they are not asked to go on.
    broken: Vec<usize>,
    text: String,
    asking: Option<Asking>,
}

struct Asking {
    /// How the stream ended, for the client if nobody goes on.
    end: Box<StreamEnd>,
    answer: BoxFuture<'static, Result<(usize, Reply), ProxyError>>,
}

// === impl Resume ===

impl Resume {
    /// For a stream that this member sends, if its answer can be continued.
    pub(super) fn of(group: &Arc<Group>, call: &Call, member: usize) -> Option<Self> {
        if !group.resume || !can_be_continued(&call.request) {
            return None;
        }
        // What continues another answer is continued by whoever began that.
        if call.so_far.is_some() {
            return None;
        }
        let call = Call { round: None, ..call.clone() };
        Some(Resume {
            group: Arc::clone(group),
            call,
            broken: vec![member],
            text: String::new(),
            asking: None,
        })
    }

    /// Notes events that go to the client. False: from here on the answer cannot be continued.
    pub(super) fn note(&mut self, events: &Bytes) -> bool {
        let Some(text) = plain_text(events) else { return false };
        self.text.push_str(&text);
        self.text.len() <= MOST_TEXT
    }

    /// Looks for somebody to go on; gives the end back if there is no point in that.
    pub(super) fn begin(&mut self, end: Box<StreamEnd>) -> Option<Box<StreamEnd>> {
        let Some(error) = &end.error else { return Some(end) };
        let is_upstreams = error.fault != Fault::Client && end.reason != EndReason::StalledReader;
        if !is_upstreams || !self.group.fail_on.covers(error) || self.text.is_empty() {
            return Some(end);
        }
        let group = Arc::clone(&self.group);
        let mut call = self.call.clone();
        call.so_far = Some(Arc::from(self.text.as_str()));
        call.received = Instant::now();
        let (broken, reason) = (self.broken.clone(), error.kind.label());
        let answer = async move { attempts::go_on(&group, call, &broken, reason).await }.boxed();
        self.asking = Some(Asking { end, answer });
        None
    }

    pub(super) fn is_asking(&self) -> bool {
        self.asking.is_some()
    }

    /// The stream of whoever goes on, or the end as it was.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Reply, Box<StreamEnd>>> {
        let Some(asking) = &mut self.asking else { return Poll::Pending };
        let Poll::Ready(answered) = asking.answer.as_mut().poll(cx) else { return Poll::Pending };
        let Some(Asking { mut end, .. }) = self.asking.take() else { return Poll::Pending };
        let why = match answered {
            Ok((member, reply)) if matches!(reply.body, ReplyBody::Stream(_)) => {
                self.broken.push(member);
                return Poll::Ready(Ok(reply));
            }
            Ok(_) => ProxyError::new(ErrorKind::Internal, "not a stream"),
            Err(error) => error,
        };
        if let Some(error) = &mut end.error {
            let reason: String = why.message.chars().take(MOST_REASON).collect();
            error.message = format!("{}; nobody went on with it: {reason}", error.message);
        }
        Poll::Ready(Err(end))
    }
}
