//! Holds back calls that were admitted, until all that belong together are: several calls to one account could else each
//! find capacity that only some of them have. A call that is held back has its lease and was not sent; what is given up
//! there costs nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::sync::{Notify, watch};

/// Where one call waits, between its admission and its being sent.
#[derive(Clone)]
pub struct Gate {
    progress: Arc<AtomicU8>,
    bell: Arc<Notify>,
    open: watch::Receiver<bool>,
}

/// How far a call is on its way to its gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Progress {
    /// It is not there yet.
    Coming = 0,
    /// It waits for a place, which somebody else has to free first: it may be one of those that wait at their gates.
    Queued = 1,
    /// It was admitted.
    Arrived = 2,
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
        Gate { progress: Arc::default(), bell: Arc::clone(&self.bell), open: self.open.subscribe() }
    }

    /// Waits until a call comes further on its way to its gate. One that did so meanwhile is not overlooked.
    pub async fn progress(&self) {
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
        self.is(Progress::Arrived);
        self.open.wait_for(|open| *open).await.is_ok()
    }

    /// The call waits on its way: for a place, or for something that time brings.
    pub fn waits(&self, for_a_place: bool) {
        if self.progress() != Progress::Arrived {
            self.is(if for_a_place { Progress::Queued } else { Progress::Coming });
        }
    }

    /// How far the call is.
    pub fn progress(&self) -> Progress {
        match self.progress.load(Ordering::Acquire) {
            0 => Progress::Coming,
            1 => Progress::Queued,
            _ => Progress::Arrived,
        }
    }

    fn is(&self, progress: Progress) {
        // Only what is news rings: who looks has it said again, and would look for ever.
        if self.progress.swap(progress as u8, Ordering::AcqRel) != progress as u8 {
            self.bell.notify_one();
        }
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
        first.waits(true);
        assert_eq!((first.progress(), keeper.progress().now_or_never()), (Progress::Queued, Some(())));
        assert_eq!((&mut passing).now_or_never(), None);
        assert_eq!((first.progress(), second.progress()), (Progress::Arrived, Progress::Coming));
        assert_eq!(keeper.progress().now_or_never(), Some(()));
        first.waits(true);
        assert_eq!(first.progress(), Progress::Arrived, "in a group another one may wait beside it");
        keeper.open();
        assert_eq!(passing.now_or_never(), Some(true));
        assert_eq!(second.pass().now_or_never(), Some(true), "who comes later finds it open");
        assert_eq!(never.pass().now_or_never(), Some(false));
    }
}
