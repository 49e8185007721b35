//! An answer that is counted: what its upstream reports at the end takes the place of what was reserved.

use std::sync::Arc;
use std::task::{Context, Poll};

use super::super::{Frame, Frames, Reply, ReplyBody, ReplyStream};
use super::Ticket;
use crate::dialect::Usage;
use crate::error::{ErrorKind, Fault, ProxyError};
use crate::metrics::ModelMeters;
use crate::quota::Actual;

/// Makes of an answer's tokens, none where nobody reported any, what it took in the unit of the limits. What it does not say
/// counts as it was reserved.
pub type Bill = Box<dyn FnOnce(Usage) -> Actual + Send>;

/// Tokens, as they were reported.
pub fn as_reported() -> Bill {
    Box::new(|usage| Actual { input_tokens: usage.input, output_tokens: usage.output, refused: false })
}

/// A stream whose end settles what was reserved.
struct Counted {
    stream: ReplyStream,
    open: Option<(Ticket, Bill)>,
}

// === impl Ticket ===

impl Ticket {
    /// Settles with what becomes of the request; a stream when it ends.
    ///
    /// # Errors
    /// The error that was passed.
    pub fn settled_by(
        self,
        answered: Result<Reply, ProxyError>,
        bill: impl FnOnce() -> Bill,
    ) -> Result<Reply, ProxyError> {
        let Reply { status, headers, body, served, waited, lease } = match answered {
            Ok(reply) => reply,
            Err(error) => {
                self.failed(&error);
                return Err(error);
            }
        };
        let bill = bill();
        let body = match body {
            ReplyBody::Whole { bytes, usage } => {
                self.charged(usage, bill);
                ReplyBody::Whole { bytes, usage }
            }
            ReplyBody::Stream(stream) => {
                let first = stream.time_to_first_token;
                let counted = Counted { stream, open: Some((self, bill)) };
                ReplyBody::Stream(ReplyStream::made(counted, first))
            }
        };
        Ok(Reply { status, headers, body, served, waited, lease })
    }

    /// It ended with this usage.
    fn charged(mut self, usage: Usage, bill: Bill) {
        // Embeddings have no answer.
        let output = usage.output.or(self.size.max_tokens.filter(|most| *most == 0));
        let actual = bill(Usage { output, ..usage });
        self.settle(actual, usage.input, usage.output);
    }

    /// It ended, and nobody reported what its answer took.
    pub fn unreported(mut self, bill: Bill) {
        let actual = bill(Usage::default());
        self.settle(actual, None, None);
    }

    /// It ended without an answer: what demuxai refused was never sent, all else counts as a request that took nothing.
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

impl Frames for Counted {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Frame> {
        let Poll::Ready(frame) = self.stream.poll_frame(cx) else { return Poll::Pending };
        if let Frame::End(end) = &frame
            && let Some((ticket, bill)) = self.open.take()
        {
            if end.error.is_some() && end.usage.is_empty() {
                ticket.unreported(bill);
            } else {
                ticket.charged(end.usage, bill);
            }
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

impl Drop for Counted {
    fn drop(&mut self) {
        // Whoever it was for has left.
        if let Some((ticket, bill)) = self.open.take() {
            ticket.unreported(bill);
        }
    }
}
