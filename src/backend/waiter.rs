//! A request that waits for capacity, in the queues of all the providers that could serve it. The one that frees a
//! place first hands it over as a lease; what the request does not use is given back when the waiter is dropped.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::lease::Lease;

/// One waiting request.
#[derive(Default)]
pub struct Waiter {
    held: Mutex<Vec<Held>>,
    woken: Notify,
}

/// A place that was handed over and not taken yet.
struct Held {
    provider: Arc<str>,
    model: Arc<str>,
    lease: Lease,
}

// === impl Waiter ===

impl Waiter {
    /// Hands a place over and wakes the request.
    pub fn give(&self, provider: Arc<str>, model: Arc<str>, lease: Lease) {
        self.lock().push(Held { provider, model, lease });
        self.woken.notify_one();
    }

    /// Wakes the request without a place: waiting is of no use any more where it did.
    pub fn look_again(&self) {
        self.woken.notify_one();
    }

    /// Takes the place that this provider handed over for this model, if it did.
    pub fn take(&self, provider: &str, model: &str) -> Option<Lease> {
        let mut held = self.lock();
        let at = held.iter().position(|place| &*place.provider == provider && &*place.model == model)?;
        Some(held.swap_remove(at).lease)
    }

    /// Waits until a place was handed over, or none will be.
    pub async fn woken(&self) {
        self.woken.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
