//! Holds back calls that were admitted, until all that belong together are: several calls to one account could else each
//! find capacity that only some of them have. A call that is held back has its lease and was not sent; what is given up
//! there costs nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{Notify, watch};

/// Where one call waits, between its admission and its being sent.
#[derive(Clone)]
pub struct Gate {
    arrived: Arc<AtomicBool>,
    bell: Arc<Notify>,
    open: watch::Receiver<bool>,
}

/// Opens the gates of the calls that belong together.
pub struct Gatekeeper {
    bell: Arc<Notify>,
    open: watch::Sender<bool>,
}

// === impl Gatekeeper ===

impl Default for Gatekeeper {
    fn default() -> Self {
        Gatekeeper { bell: Arc::default(), open: watch::Sender::new(false) }
    }
}

impl Gatekeeper {
    /// A gate for one more call.
    pub fn gate(&self) -> Gate {
        Gate { arrived: Arc::default(), bell: Arc::clone(&self.bell), open: self.open.subscribe() }
    }

    /// Waits until a call arrives at its gate. One that arrived meanwhile is not overlooked.
    pub async fn arrival(&self) {
        self.bell.notified().await;
    }

    /// Lets all of them go on, those that arrive later, too.
    pub fn open(&self) {
        self.open.send_replace(true);
    }
}

// === impl Gate ===

impl Gate {
    /// Waits until it is opened. False: it never will be.
    pub async fn pass(mut self) -> bool {
        self.arrived.store(true, Ordering::Release);
        self.bell.notify_one();
        self.open.wait_for(|open| *open).await.is_ok()
    }

    /// Whether the call was admitted.
    pub fn arrived(&self) -> bool {
        self.arrived.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn a_call_waits_until_all_may_go_and_learns_when_none_will() {
        let keeper = Gatekeeper::default();
        let (first, second, never) = (keeper.gate(), keeper.gate(), Gatekeeper::default().gate());
        let mut passing = Box::pin(first.clone().pass());
        assert_eq!((first.arrived(), (&mut passing).now_or_never()), (false, None));
        assert!(first.arrived() && !second.arrived());
        assert_eq!(keeper.arrival().now_or_never(), Some(()));
        keeper.open();
        assert_eq!(passing.now_or_never(), Some(true));
        assert_eq!(second.pass().now_or_never(), Some(true), "who comes later finds it open");
        assert_eq!(never.pass().now_or_never(), Some(false));
    }
}
