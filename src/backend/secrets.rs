//! The secrets of what is configured now, for backends that write down what passes. A change of the configuration
//! reaches those that stay as they are, too.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use crate::provider::scrub::Scrub;

/// What must not be written down now.
pub struct Secrets {
    now: ArcSwap<Scrub>,
    /// Those of the present configuration alone.
    configured: Mutex<Scrub>,
}

// === impl Secrets ===

impl Secrets {
    /// These.
    pub fn new(configured: Scrub) -> Self {
        Secrets { now: ArcSwap::from_pointee(configured.clone()), configured: Mutex::new(configured) }
    }

    /// As they are now.
    pub fn now(&self) -> Arc<Scrub> {
        self.now.load_full()
    }

    /// These take the place of those there are. What was secret until now still is, until the next change: what is on its
    /// way may hold it, and it may be in use elsewhere.
    pub fn change(&self, configured: Scrub) {
        let mut before = self.configured.lock().unwrap_or_else(PoisonError::into_inner);
        self.now.store(Arc::new(configured.clone().and(&before)));
        *before = configured;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_is_replaced_stays_secret_for_one_change_more() {
        let of = |secret: &'static str| Scrub::of([secret].into_iter());
        let secrets = Secrets::new(of("first-0123456789"));
        let shown = |text: &str| secrets.now().plain(text);
        assert_eq!(shown("a first-0123456789").as_deref(), Some("a (secret)"));
        secrets.change(of("second-0123456789"));
        let both = "first-0123456789 second-0123456789";
        assert_eq!(shown(both).as_deref(), Some("(secret) (secret)"));
        secrets.change(of("third-0123456789"));
        assert_eq!(shown(both).as_deref(), Some("first-0123456789 (secret)"));
        assert_eq!(shown("third-0123456789").as_deref(), Some("(secret)"));
    }
}
