//! The admission that a request holds while it is served. Whoever admitted it says what releasing means; here it is
//! only held, so that groups, relays and queues need not know what is counted.

use std::sync::{Arc, Weak};

use super::size::Size;
use crate::dialect::Usage;
use crate::error::ProxyError;
use crate::quota::{Refusal, Statement};

/// Identifies one replica's incarnation: one arbiter with one actor and one client.
pub type Generation = u64;

/// What an admission can be told. Implemented by whoever grants leases; what it does not count it need not hear.
pub trait Hold: Send + Sync {
    /// This replica carries the request out.
    fn assign(&self, _generation: Generation) {}

    /// The request is of another size than was thought.
    ///
    /// # Errors
    /// What is in the way of one of that size; then nothing is admitted any more.
    fn resized(&self, _size: Size) -> Result<(), ProxyError> {
        Ok(())
    }

    /// The request is about to be sent: from now on it counts at the upstream. Called once for each time it is sent.
    fn sent(&self) {}

    /// The upstream stated this about its limits, in the head of its answer.
    fn stated(&self, _statements: &[Statement], _refused: bool) {}

    /// The upstream answered it: the commit point is reached.
    fn succeeded(&self) {}

    /// The upstream refused it for reasons of quota, and took nothing of it unless it had answered.
    fn refused(&self, _refusal: &Refusal) {}

    /// What it cost, as the upstream reports.
    fn used(&self, _usage: Usage) {}

    /// It is over. Called any number of times; only the first one counts.
    fn release(&self);
}

/// The admission of one request. Dropping it, on whatever way, settles it exactly once.
pub struct Lease {
    hold: Arc<dyn Hold>,
}

/// Releases a lease though somebody still holds it, who may never let go of it. Keeps nothing admitted itself.
pub struct Recall {
    hold: Weak<dyn Hold>,
}

/// Nothing was admitted.
struct Nothing;

impl Hold for Nothing {
    fn release(&self) {}
}

// === impl Lease ===

impl Lease {
    /// The lease of an answer that no upstream was asked for.
    pub fn nothing() -> Self {
        Lease { hold: Arc::new(Nothing) }
    }

    /// A lease on what was admitted.
    pub fn new(hold: Arc<dyn Hold>) -> Self {
        Lease { hold }
    }

    /// The request is about to be sent, or to be sent once more.
    pub fn sent(&self) {
        self.hold.sent();
    }

    /// The request is of another size than was thought.
    ///
    /// # Errors
    /// What is in the way of one of that size; then nothing is admitted any more.
    pub fn resized(&self, size: Size) -> Result<(), ProxyError> {
        self.hold.resized(size)
    }

    /// This replica carries the request out.
    pub fn assign(&self, generation: Generation) {
        self.hold.assign(generation);
    }

    /// The upstream stated this about its limits.
    pub fn stated(&self, statements: &[Statement], refused: bool) {
        self.hold.stated(statements, refused);
    }

    /// The upstream answered it.
    pub fn succeeded(&self) {
        self.hold.succeeded();
    }

    /// The upstream refused it for reasons of quota, and took nothing of it.
    pub fn refused(&self, refusal: &Refusal) {
        self.hold.refused(refusal);
    }

    /// What the request cost, as the upstream reports.
    pub fn used(&self, usage: Usage) {
        self.hold.used(usage);
    }

    /// A way to release it from elsewhere.
    pub fn recall(&self) -> Recall {
        Recall { hold: Arc::downgrade(&self.hold) }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.hold.release();
    }
}

// === impl Recall ===

impl Recall {
    /// What the request cost, as the upstream reports; nothing if the lease is gone.
    pub fn used(&self, usage: Usage) {
        if let Some(hold) = self.hold.upgrade() {
            hold.used(usage);
        }
    }

    /// The upstream stated this about its limits, after the commit point.
    pub fn stated(&self, statements: &[Statement], refused: bool) {
        if let Some(hold) = self.hold.upgrade() {
            hold.stated(statements, refused);
        }
    }

    /// The upstream refused to go on, for reasons of quota.
    pub fn refused(&self, refusal: &Refusal) {
        if let Some(hold) = self.hold.upgrade() {
            hold.refused(refusal);
        }
    }

    /// Releases the lease, unless that is done.
    pub fn release(&self) {
        if let Some(hold) = self.hold.upgrade() {
            hold.release();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[derive(Default)]
    struct Counting(AtomicUsize);

    impl Hold for Counting {
        fn release(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_dropped_lease_is_released_and_a_late_recall_finds_nothing() {
        let counting = Arc::new(Counting::default());
        let lease = Lease::new(Arc::clone(&counting) as Arc<dyn Hold>);
        let recall = lease.recall();
        drop(lease);
        assert_eq!(counting.0.load(Ordering::Relaxed), 1);
        drop(counting);
        recall.release();
    }
}
