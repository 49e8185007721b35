//! The daemon's word to all connections that it drains.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// Whether the daemon drains; begins once and is never taken back.
#[derive(Debug, Default)]
pub struct Drain {
    begun: AtomicBool,
    told: Notify,
}

// === impl Drain ===

impl Drain {
    /// Tells all who wait, and all who will.
    pub fn begin(&self) {
        self.begun.store(true, Ordering::SeqCst);
        self.told.notify_waiters();
    }

    /// Whether no new requests are taken.
    pub fn begun(&self) -> bool {
        self.begun.load(Ordering::Relaxed)
    }

    /// Until it begins.
    pub async fn wait(&self) {
        // In this order: who looks first could be told in between, and would wait for ever.
        let told = self.told.notified();
        if !self.begun.load(Ordering::SeqCst) {
            told.await;
        }
    }
}
