//! One admitted request: what it holds of the account's capacity, and how that is settled, whatever becomes of it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Ask, Capacity, Size, moment};
use crate::backend::lease::{Generation, Hold};
use crate::dialect::Usage;
use crate::quota::{Actual, Charge, Refusal, Source, Statement};

/// One admitted request.
pub(super) struct Seat {
    capacity: Arc<Capacity>,
    number: u64,
    model: Arc<str>,
    size: Size,
    /// It is the lone request that finds out whether a sick upstream is well again.
    probes_health: bool,
    sent: AtomicBool,
    released: AtomicBool,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    charge: Option<Charge>,
    usage: Usage,
    /// The upstream took nothing of it.
    refused: bool,
}

// === impl Seat ===

impl Seat {
    /// A seat of this number, which holds what was charged.
    pub(super) fn new(
        capacity: Arc<Capacity>,
        number: u64,
        ask: &Ask<'_>,
        probes_health: bool,
        charge: Charge,
    ) -> Self {
        Seat {
            capacity,
            number,
            model: Arc::clone(ask.model),
            size: ask.size,
            probes_health,
            sent: AtomicBool::new(false),
            released: AtomicBool::new(false),
            held: Mutex::new(Held { charge: Some(charge), usage: Usage::default(), refused: false }),
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hold for Seat {
    fn assign(&self, generation: Generation) {
        if let Some(open) = self.capacity.lock().open.get_mut(&self.number) {
            open.generation = Some(generation);
        }
    }

    fn sent(&self) {
        self.sent.store(true, Ordering::Relaxed);
    }

    fn succeeded(&self, statements: &[Statement]) {
        let now = moment();
        let held = self.held();
        let mut inner = self.capacity.lock();
        if self.probes_health {
            // Others need not wait until a long answer is complete.
            inner.breaker.succeeded();
        }
        if let Some(charge) = &held.charge {
            let change = inner.ledger.succeeded(charge, &self.model, now);
            self.capacity.tell(change, &self.model);
        }
        self.capacity.note(&mut inner, statements, Source::Header, &self.model, held.charge.as_ref());
        drop(inner);
        self.capacity.state.changed();
    }

    fn refused(&self, refusal: &Refusal) {
        let now = moment();
        let mut held = self.held();
        held.refused = true;
        let mut inner = self.capacity.lock();
        let size = Some(inner.need(&self.model, self.size).input_tokens);
        let change = inner.ledger.refuse(refusal, &self.model, size, held.charge.as_ref(), now);
        drop(inner);
        self.capacity.tell(change, &self.model);
        self.capacity.state.changed();
    }

    fn used(&self, usage: Usage) {
        self.held().usage = usage;
    }

    fn release(&self) {
        if self.released.swap(true, Ordering::Relaxed) {
            return;
        }
        let (charge, usage, refused) = {
            let mut held = self.held();
            (held.charge.take(), held.usage, held.refused)
        };
        let now = moment();
        let somebody_waits = {
            let mut inner = self.capacity.lock();
            inner.open.remove(&self.number);
            if self.probes_health {
                // Unless it was settled by an answer; then this changes nothing.
                inner.breaker.dropped(now);
            }
            if let Some(charge) = charge {
                if self.sent.load(Ordering::Relaxed) {
                    inner.estimator.learn(&self.model, self.size.bytes, usage.input, usage.output);
                    let actual = if refused {
                        Actual { input_tokens: Some(0), output_tokens: Some(0) }
                    } else {
                        Actual { input_tokens: usage.input, output_tokens: usage.output }
                    };
                    inner.ledger.settle(charge, actual, now);
                } else {
                    inner.ledger.refund(charge, now);
                }
            }
            !inner.queue.is_empty()
        };
        self.capacity.state.changed();
        if somebody_waits {
            self.capacity.hand_over();
        }
    }
}
