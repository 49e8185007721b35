//! `static`: the same answer to every request, or the same error; for tests, for maintenance, and as the last member of
//! a group. It wraps nobody and asks nobody.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use jiff::Timestamp;

use super::super::explain::{Decision, Own};
use super::super::lease::Lease;
use super::super::strategy::Availability;
use super::super::virtual_model::{About, Below, VirtualModel};
use super::super::{
    Backend, Call, Frame, Frames, Marks, Outlook, Reply, ReplyBody, ReplyStream, Served, StreamEnd,
};
use super::price::{Price, Prices};
use crate::dialect::{Request, Task, Usage, Written};
use crate::error::{ErrorKind, Fault, ProxyError, UpstreamAnswer};
use crate::metrics::events::ModifierActed;
use crate::metrics::{EndReason, Metrics, ModelMeters};
use crate::provider::{Capabilities, Model};

/// What an answer costs that nobody was asked for.
const NOTHING: Usage = Usage { input: Some(0), output: Some(0), reasoning: None, cached: None };

/// What it answers.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// This text.
    Text(Arc<str>),
    /// An error.
    Error {
        /// Its HTTP status, 400 to 599.
        status: u16,
        /// Its message, for people.
        message: Arc<str>,
        /// When to come again, as it says.
        retry_after: Option<Duration>,
    },
}

/// The backend.
pub struct Fixed {
    /// What it is called.
    pub about: About,
    /// What it answers.
    pub answer: Answer,
    /// Tells the time that an answer bears.
    pub clock: fn() -> Timestamp,
    /// Where is recorded.
    pub metrics: Arc<Metrics>,
}

/// Events that are ready at once, and then the end of a stream that went well.
struct Ready(VecDeque<Bytes>);

// === impl Ready ===

impl Frames for Ready {
    fn poll_frame(&mut self, _cx: &mut Context<'_>) -> Poll<Frame> {
        Poll::Ready(match self.0.pop_front() {
            Some(event) => Frame::Data(event),
            None => Frame::End(Box::new(StreamEnd { reason: EndReason::Done, error: None, usage: NOTHING })),
        })
    }
}

// === impl Fixed ===

impl Fixed {
    fn answer(&self, call: &Call) -> Result<Reply, ProxyError> {
        if let Some(why) = unanswerable(call) {
            return Err(ProxyError::new(ErrorKind::Unsupported, self.cannot(why)));
        }
        let text = match &self.answer {
            Answer::Text(text) => text,
            Answer::Error { status, message, retry_after } => {
                return Err(self.refusal(*status, message, *retry_after));
            }
        };
        let written = Written {
            id: &call.request_id,
            created: (self.clock)().as_second(),
            model: &self.about.id,
            text,
        };
        let body = if call.request.stream {
            let events = Ready(written.events(&call.request).into());
            ReplyBody::Stream(ReplyStream::made(events, call.received.elapsed()))
        } else {
            ReplyBody::Whole { bytes: written.whole(&call.request), usage: NOTHING }
        };
        Ok(Reply {
            status: 200,
            headers: Vec::new(),
            body,
            served: Served {
                provider: Arc::clone(&self.about.id),
                model: Arc::clone(&self.about.id),
                edits: call.edits.to_vec(),
                attempts: Vec::new(),
                meters: self.meters(&call.model),
                marks: Marks::default(),
            },
            waited: Duration::ZERO,
            lease: Lease::nothing(),
        })
    }

    fn cannot(&self, why: &str) -> String {
        format!("group `{}` is static: it {why}", self.about.id)
    }

    fn refusal(&self, status: u16, message: &str, retry_after: Option<Duration>) -> ProxyError {
        let mut error = ProxyError::new(ErrorKind::Static, message).at(&self.about.id);
        error.fault = if status < 500 { Fault::Client } else { Fault::Demuxai };
        error.retry_after = retry_after;
        // Where statuses are looked at, this is its own.
        let (body, headers) = (Bytes::new(), Vec::new());
        error.upstream = Some(Box::new(UpstreamAnswer { status, body, headers, retry_after: None }));
        error
    }
}

/// Why a request cannot be answered with a text, whatever it is.
fn unanswerable(call: &Call) -> Option<&'static str> {
    if call.request.task == Task::Embedding {
        return Some("answers with a text, and has no embeddings");
    }
    call.so_far.is_some().then_some("cannot go on with what another one began")
}

impl Backend for Fixed {
    fn id(&self) -> &str {
        &self.about.id
    }

    fn outlook(&self, call: &Call) -> Result<Outlook, String> {
        if let Some(why) = unanswerable(call) {
            return Err(why.to_owned());
        }
        Ok(Outlook {
            model: Arc::clone(&call.model),
            availability: Availability::Now,
            share_left: 1.0,
            next_reset: None,
            in_flight: 0,
        })
    }

    fn dearest(&self, _model: &str, _request: &Request, _prices: &Prices) -> Result<Price, String> {
        Ok(Price::default())
    }

    fn meters(&self, _model: &str) -> Arc<ModelMeters> {
        self.metrics.meters(&self.about.id, &self.about.id)
    }

    fn forward(&self, call: Call) -> BoxFuture<'static, Result<Reply, ProxyError>> {
        let answered = self.answer(&call);
        let outcome = if answered.is_ok() { "answered" } else { "refused" };
        ModifierActed { group: &self.about.id, kind: self.about.kind, outcome }
            .emit(&self.metrics, &call.request_id);
        ready(answered).boxed()
    }
}

impl VirtualModel for Fixed {
    fn about(&self) -> &About {
        &self.about
    }

    fn below(&self, _asked: &str) -> Vec<Below<'_>> {
        Vec::new()
    }

    fn decide(&self, call: &Call) -> Decision<'_> {
        let (why, own) = match (unanswerable(call), &self.answer) {
            (Some(why), _) => ("it is asked for what it has not", Own::cannot(self.cannot(why))),
            (None, Answer::Text(_)) => {
                ("answers with its own text", Own::Answers(Arc::clone(&self.about.id)))
            }
            (None, Answer::Error { status, message, retry_after }) => {
                ("answers with its own error", Own::fails(self.refusal(*status, message, *retry_after), None))
            }
        };
        Decision::handing_on(vec![why.to_owned()], Vec::new(), Some(own))
    }

    fn own(&self) -> Option<Model> {
        let text = || vec!["text".to_owned()];
        Some(Model {
            id: self.about.id.to_string(),
            capabilities: Capabilities {
                chat: Some(true),
                completion: Some(true),
                fim: Some(true),
                embedding: Some(false),
                streaming: Some(true),
                ..Capabilities::default()
            },
            input_modalities: text(),
            output_modalities: text(),
            ..Model::default()
        })
    }
}
