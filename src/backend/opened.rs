//! What was opened for a request (a reservation of a limit, of money) and is closed by what becomes of it. Its client may
//! leave while the call below goes on for others that share it; then whoever carries that call on closes it, by what the
//! upstream reports in the end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::tally::Open;
use super::{Call, Reply};
use crate::dialect::Usage;
use crate::error::ProxyError;

/// All that was opened for a call on its way, for those that may carry it on.
#[derive(Clone, Default)]
pub struct Opened {
    last: Option<Arc<Node>>,
    /// The call is a part of what was opened for, so that what it comes to does not close that.
    in_part: bool,
}

struct Node {
    one: Weak<dyn Closes>,
    above: Option<Arc<Node>>,
}

/// What is kept open for a call that is carried on; dropped, nobody knows what it came to.
#[derive(Default)]
pub struct Kept {
    each: Vec<Arc<dyn Closes>>,
    in_part: bool,
}

/// What can be closed for a client that has left.
trait Closes: Send + Sync {
    /// What it was opened for came to this, if nobody waits for it any more.
    fn over(&self, came: Result<Usage, &ProxyError>);
}

struct Shared<O> {
    open: Mutex<Option<O>>,
    left: AtomicBool,
}

/// It in the hands of whoever waits for the answer.
struct Held<O>(Arc<Shared<O>>);

/// Asks, and closes what was opened for it by what becomes of the request.
pub fn close_by<O: Open>(
    open: O,
    call: Call,
    ask: impl FnOnce(Call) -> BoxFuture<'static, Result<Reply, ProxyError>>,
) -> BoxFuture<'static, Result<Reply, ProxyError>> {
    let shared = Arc::new(Shared { open: Mutex::new(Some(open)), left: AtomicBool::new(false) });
    let one: Weak<dyn Closes> = Arc::<Shared<O>>::downgrade(&shared);
    let held = Held(shared);
    let above = Opened { last: Some(Arc::new(Node { one, above: call.opened.last })), ..call.opened };
    let answered = ask(Call { opened: above, ..call });
    async move { held.closed_by(answered.await) }.boxed()
}

// === impl Opened ===

impl Opened {
    /// The same for one of several calls that are made for one request.
    pub fn in_part(&self) -> Opened {
        Opened { last: self.last.clone(), in_part: true }
    }

    /// Keeps all of it open.
    pub fn keep(&self) -> Kept {
        let mut each = Vec::new();
        let mut next = self.last.as_ref();
        while let Some(node) = next {
            each.extend(node.one.upgrade());
            next = node.above.as_ref();
        }
        Kept { each, in_part: self.in_part }
    }
}

// === impl Kept ===

impl Kept {
    /// The call came to this.
    pub fn over(self, came: Result<Usage, &ProxyError>) {
        if !self.in_part {
            self.each.iter().for_each(|one| one.over(came));
        }
    }
}

// === impl Shared ===

impl<O> Shared<O> {
    fn take(&self) -> Option<O> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl<O: Open> Closes for Shared<O> {
    fn over(&self, came: Result<Usage, &ProxyError>) {
        let has_left = self.left.load(Ordering::Acquire);
        let Some(open) = has_left.then(|| self.take()).flatten() else { return };
        match came {
            Ok(usage) => open.answered(usage),
            Err(error) => open.failed(error),
        }
    }
}

// === impl Held ===

impl<O: Open> Open for Held<O> {
    fn answered(self, usage: Usage) {
        if let Some(open) = self.0.take() {
            open.answered(usage);
        }
    }

    fn failed(self, error: &ProxyError) {
        if let Some(open) = self.0.take() {
            open.failed(error);
        }
    }
}

impl<O> Drop for Held<O> {
    fn drop(&mut self) {
        self.0.left.store(true, Ordering::Release);
    }
}
