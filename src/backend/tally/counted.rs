//! An answer that is counted: what its upstream reports at the end takes the place of what was reserved.

use std::sync::Arc;
use std::task::{Context, Poll};

use super::super::{Frame, Frames, Reply, ReplyBody, ReplyStream};
use super::Ticket;
use crate::dialect::Usage;
use crate::error::{ErrorKind, Fault, ProxyError};
use crate::metrics::ModelMeters;
use crate::quota::Actual;

/// What was opened for a request, and is closed by what becomes of it. Dropped, nobody knows.
pub trait Open: Send + Sized + 'static {
    /// Its answer is complete, with this usage, as its client is told.
    fn answered(self, usage: Usage);

    /// It came to no answer.
    fn failed(self, error: &ProxyError);

    /// Closed by what becomes of the request; a stream when it ends.
    ///
    /// # Errors
    /// The error that was passed.
    fn closed_by(self, answered: Result<Reply, ProxyError>) -> Result<Reply, ProxyError> {
        let mut reply = match answered {
            Ok(reply) => reply,
            Err(error) => {
                self.failed(&error);
                return Err(error);
            }
        };
        reply.body = match reply.body {
            ReplyBody::Whole { bytes, usage } => {
                self.answered(usage);
                ReplyBody::Whole { bytes, usage }
            }
            ReplyBody::Stream(stream) => {
                let first = stream.time_to_first_token;
                let counted = Counted { stream, open: Some(self) };
                ReplyBody::Stream(ReplyStream::made(counted, first))
            }
        };
        Ok(reply)
    }
}

/// A stream whose end closes what was opened for it.
struct Counted<O> {
    stream: ReplyStream,
    open: Option<O>,
}

// === impl Ticket ===

impl Open for Ticket {
    fn answered(mut self, usage: Usage) {
        // Embeddings have no answer.
        let output = usage.output.or(self.size.max_tokens.filter(|most| *most == 0));
        let actual = Actual { input_tokens: usage.input, output_tokens: output, refused: false };
        self.settle(actual, usage.input, usage.output);
    }

    /// What demuxai refused was never sent, all else counts as a request that took nothing.
    fn failed(mut self, error: &ProxyError) {
        let unsent = matches!(
            error.kind,
            ErrorKind::Unsupported
                | ErrorKind::ModelNotFound
                | ErrorKind::Overloaded
                | ErrorKind::QuotaExhausted
                | ErrorKind::BreakerOpen
                | ErrorKind::ProviderDown
                | ErrorKind::Connect
                | ErrorKind::ShuttingDown
        );
        if unsent && error.fault != Fault::Upstream || error.kind == ErrorKind::Connect {
            self.refund();
            return;
        }
        let nothing = Actual { input_tokens: Some(0), output_tokens: Some(0), refused: false };
        self.settle(nothing, None, None);
    }
}

impl<O: Open> Frames for Counted<O> {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Frame> {
        let Poll::Ready(frame) = self.stream.poll_frame(cx) else { return Poll::Pending };
        if let Frame::End(end) = &frame
            && let Some(open) = self.open.take()
            // Of one that broke off nobody knows.
            && (end.error.is_none() || !end.usage.is_empty())
        {
            open.answered(end.usage);
        }
        Poll::Ready(frame)
    }

    fn shut_down(&mut self) {
        self.stream.shut_down();
    }

    fn may_be_continued(&self) -> bool {
        self.stream.may_be_continued()
    }

    fn answering(&self) -> Option<Arc<ModelMeters>> {
        self.stream.answering()
    }
}
