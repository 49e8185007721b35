//! Connections of one upstream that wait for the next request. Newest first, so that what is not needed grows old and
//! is closed; a connection that its peer has closed is noticed within a second and never lingers half closed.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::Instant;

use super::connect::Wire;

/// How long a connection waits for the next request.
const KEEP_ALIVE: Duration = Duration::from_secs(60);
/// Most connections that wait; more are closed at once.
const MAX_IDLE: usize = 64;
/// How often waiting connections are looked at.
const SWEEP: Duration = Duration::from_secs(1);

/// The waiting connections of one client.
#[derive(Default)]
pub(super) struct Pool {
    idle: RefCell<Vec<Idle>>,
    sweeping: Cell<bool>,
}

struct Idle {
    wire: Wire,
    since: Instant,
    /// The monotonic clock stands still while a laptop sleeps, and its connections die meanwhile.
    since_wall: SystemTime,
}

// === impl Pool ===

impl Pool {
    /// A connection that is alive as far as can be seen from here.
    pub(super) fn take(&self) -> Option<Wire> {
        let mut idle = self.idle.borrow_mut();
        while let Some(mut candidate) = idle.pop() {
            if candidate.is_fit() {
                return Some(candidate.wire);
            }
        }
        None
    }

    /// Keeps a connection for the next request. Must be called on an arbiter.
    pub(super) fn put(self: &Rc<Self>, wire: Wire) {
        let entry = Idle { wire, since: Instant::now(), since_wall: SystemTime::now() };
        {
            let mut idle = self.idle.borrow_mut();
            if idle.len() >= MAX_IDLE {
                return;
            }
            idle.push(entry);
        }
        if !self.sweeping.replace(true) {
            // Ends by itself: a sweep after the pool is empty or gone.
            let pool = Rc::downgrade(self);
            actix_rt::spawn(async move {
                loop {
                    tokio::time::sleep(SWEEP).await;
                    match pool.upgrade() {
                        Some(pool) if pool.sweep() => {}
                        _ => return,
                    }
                }
            });
        }
    }

    /// Closes what is too old or was closed by its peer; whether anything is left to look after.
    fn sweep(&self) -> bool {
        let mut idle = self.idle.borrow_mut();
        idle.retain_mut(Idle::is_fit);
        let any = !idle.is_empty();
        self.sweeping.set(any);
        any
    }
}

// === impl Idle ===

impl Idle {
    fn is_fit(&mut self) -> bool {
        let slept_through = self.since_wall.elapsed().is_ok_and(|age| age > KEEP_ALIVE);
        if slept_through || self.since.elapsed() > KEEP_ALIVE {
            return false;
        }
        // Nothing may arrive between two answers: not the end of the connection, and no byte either.
        let mut byte = [0_u8; 1];
        let mut context = Context::from_waker(Waker::noop());
        Pin::new(&mut self.wire).poll_read(&mut context, &mut ReadBuf::new(&mut byte)).is_pending()
    }
}

#[cfg(test)]
mod tests;
