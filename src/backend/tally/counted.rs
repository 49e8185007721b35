//! An answer that is counted: what its upstream reports at the end takes the place of what was reserved.

use std::task::{Context, Poll};

use super::super::{Frame, Frames, Reply, ReplyBody, ReplyStream, Served};
use super::Ticket;
use crate::dialect::Usage;
use crate::error::{ErrorKind, Fault, ProxyError};
use crate::quota::Actual;

/// Makes of an answer's tokens what it took in the unit of the limits.
pub type Bill = Box<dyn FnOnce(Usage) -> Actual + Send>;

/// Tokens, as they were reported.
pub fn as_reported(_served: &Served) -> Bill {
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
        bill: impl FnOnce(&Served) -> Bill,
    ) -> Result<Reply, ProxyError> {
        let Reply { status, headers, body, served, waited, lease } = match answered {
            Ok(reply) => reply,
            Err(error) => {
                self.failed(&error);
                return Err(error);
            }
        };
        let bill = bill(&served);
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
            // Of one that broke off nobody knows: dropped, it counts as it was reserved.
            && (end.error.is_none() || end.usage != Usage::default())
        {
            ticket.charged(end.usage, bill);
        }
        Poll::Ready(frame)
    }

    fn shut_down(&mut self) {
        self.stream.shut_down();
    }

    fn may_be_continued(&self) -> bool {
        self.stream.may_be_continued()
    }
}
