//! What one request has reserved of a tally, and how it is settled.

use std::sync::Arc;

use super::Tally;
use crate::backend::size::Size;
use crate::dialect::Usage;
use crate::quota::{Actual, Charge};

/// What one request has reserved. Settles once, whatever becomes of it: dropped, with what was reserved.
pub struct Ticket {
    pub(super) tally: Arc<Tally>,
    pub(super) bucket: Arc<str>,
    pub(super) model: Arc<str>,
    pub(super) size: Size,
    pub(super) charge: Option<Charge>,
}

// === impl Ticket ===

impl Ticket {
    /// The request is over: what it took, in the unit of the limits.
    pub(super) fn settle(&mut self, actual: Actual, input: Option<u64>, output: Option<u64>) {
        let Some(charge) = self.charge.take() else { return };
        let now = self.tally.now();
        let mut inner = self.tally.lock();
        inner.learn(&self.model, self.size, input, output);
        if let Some(ledger) = inner.buckets.get_mut(&self.bucket) {
            ledger.settle(charge, actual, now);
        }
        drop(inner);
        self.tally.state.changed();
    }

    /// What a call of this size is thought to take: tokens of its prompt, and the most of its answer.
    pub fn expected(&self, size: Size) -> (u64, u64) {
        let inner = self.tally.lock();
        let need = size.need(&inner.estimator, &self.model);
        (need.input_tokens, need.output_tokens.max(need.most_output.unwrap_or(0)))
    }

    /// Settles with what several calls took together, in the unit of the limits, and learns from each.
    pub fn settle_all(mut self, input: u64, output: u64, calls: &[(Size, Usage)]) {
        {
            let mut inner = self.tally.lock();
            for (size, usage) in calls {
                inner.learn(&self.model, *size, usage.input, usage.output);
            }
        }
        let actual = Actual { input_tokens: Some(input), output_tokens: Some(output), refused: false };
        self.settle(actual, None, None);
    }

    /// The request was never sent: it took nothing.
    pub fn refund(mut self) {
        let Some(charge) = self.charge.take() else { return };
        let now = self.tally.now();
        if let Some(ledger) = self.tally.lock().buckets.get_mut(&self.bucket) {
            ledger.refund(charge, now);
        }
        self.tally.state.changed();
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        // Nobody said what it took: what was reserved is what counts.
        self.settle(Actual::default(), None, None);
    }
}
