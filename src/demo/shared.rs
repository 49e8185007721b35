//! What the connections and the owner of a fake upstream share: the handler, the counts, the gates, the record of
//! requests. No socket here. Everything it keeps is bounded.

use std::borrow::Cow;
use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::request::Received;
use super::script::Script;
use super::turnstile::{Pass, Turn, Turnstile};

/// Decides what is done with a request.
pub type Handler = Arc<dyn Fn(&Received) -> Script + Send + Sync>;

/// Decides on a request by its head alone; `None` lets its body be read first.
pub type EarlyHandler = Arc<dyn Fn(&Received) -> Option<Script> + Send + Sync>;

/// What a fake upstream takes and keeps at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest request body; a longer one is answered with 413.
    pub max_body: usize,
    /// Connections open at one time; more are closed at once.
    pub max_connections: u64,
    /// Requests kept for `Fake::received`; the oldest make room.
    pub kept_requests: usize,
    /// Bytes of bodies kept for `Fake::received`; the oldest make room.
    pub kept_bytes: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            max_body: 80 * 1024 * 1024,
            max_connections: 2048,
            kept_requests: 4096,
            kept_bytes: 256 * 1024 * 1024,
        }
    }
}

/// What happened at a fake upstream so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Connections accepted.
    pub connections: u64,
    /// Connections open now.
    pub open_connections: u64,
    /// Connections closed at once because too many were open.
    pub refused_connections: u64,
    /// Requests read to their end, or answered early.
    pub requests: u64,
    /// Requests whose answer is not complete yet.
    pub open_requests: u64,
    /// Answers played to their end, resets and early closes that the script wanted included.
    pub completed: u64,
    /// Clients that left before the answer was complete.
    pub cancelled: u64,
    /// Connections given up because a request was unreadable or too large.
    pub malformed: u64,
    /// Clients that left in the middle of a request.
    pub cut_uploads: u64,
    /// Requests that the true limits let through, where there are any.
    pub served: u64,
    /// Requests that they refused.
    pub limited: u64,
}

/// What the connections and the owner of a fake share.
pub(super) struct Shared {
    handler: Handler,
    early: Option<EarlyHandler>,
    turnstile: Option<Arc<Turnstile>>,
    pub limits: Limits,
    pub counts: watch::Sender<Counts>,
    pub gates: watch::Sender<BTreeSet<Cow<'static, str>>>,
    pub hang_ups: watch::Sender<u64>,
    log: Mutex<Log>,
    orders: AtomicU64,
    pub written: AtomicU64,
}

/// The newest requests.
#[derive(Default)]
pub(super) struct Log {
    pub requests: VecDeque<Received>,
    bytes: usize,
}

impl Shared {
    /// The state of a fake that has seen nothing yet.
    pub fn new(
        handler: Handler,
        early: Option<EarlyHandler>,
        turnstile: Option<Arc<Turnstile>>,
        limits: Limits,
    ) -> Shared {
        Shared {
            handler,
            early,
            turnstile,
            limits,
            counts: watch::Sender::new(Counts::default()),
            gates: watch::Sender::new(BTreeSet::new()),
            hang_ups: watch::Sender::new(0),
            log: Mutex::new(Log::default()),
            orders: AtomicU64::new(0),
            written: AtomicU64::new(0),
        }
    }

    /// What to do with a request.
    pub fn answer(&self, received: &Received) -> Script {
        (self.handler)(received)
    }

    /// What to do with a request of which only the head is here.
    pub fn answer_early(&self, received: &Received) -> Option<Script> {
        self.early.as_ref().and_then(|early| early(received))
    }

    /// The answer that the true limits make of this one; what holds a place there, to be dropped when it is over.
    pub fn limited(&self, received: &Received, script: Script) -> (Script, Option<Pass>) {
        let Some(turnstile) = &self.turnstile else { return (script, None) };
        match turnstile.turn(received, script) {
            Turn::Free(script) => (script, None),
            Turn::Passed(script, pass) => {
                self.count(|counts| counts.served += 1);
                (script, Some(pass))
            }
            Turn::Refused(script) => {
                self.count(|counts| counts.limited += 1);
                (script, None)
            }
        }
    }

    /// Changes the counts and tells who waits for them.
    pub fn count(&self, change: impl FnOnce(&mut Counts)) {
        self.counts.send_modify(change);
    }

    /// Notes bytes written.
    pub fn wrote(&self, bytes: usize) {
        self.written.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Gives a request its place in the order.
    pub fn stamp(&self, mut received: Received) -> Received {
        received.order = self.orders.fetch_add(1, Ordering::Relaxed);
        received
    }

    /// Records a request; until the guard is completed its answer counts as open, and as cancelled if it never is.
    pub fn open(self: &Arc<Shared>, received: &Received) -> OpenRequest {
        let mut log = self.log();
        if self.limits.kept_requests > 0 {
            log.bytes += received.body.len();
            log.requests.push_back(received.clone());
        }
        while log.requests.len() > self.limits.kept_requests || log.bytes > self.limits.kept_bytes {
            let Some(oldest) = log.requests.pop_front() else { break };
            log.bytes = log.bytes.saturating_sub(oldest.body.len());
        }
        drop(log);
        self.count(|counts| {
            counts.requests += 1;
            counts.open_requests += 1;
        });
        OpenRequest { shared: Arc::clone(self), complete: false }
    }

    /// Waits until the gate of this name is open.
    ///
    /// # Errors
    /// When the fake is gone.
    pub async fn pass_gate(&self, name: &str) -> io::Result<()> {
        let mut gates = self.gates.subscribe();
        let open = gates.wait_for(|open| open.contains(name)).await;
        open.map(drop).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    /// The record of requests.
    pub fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request whose answer is under way.
pub(super) struct OpenRequest {
    shared: Arc<Shared>,
    complete: bool,
}

impl OpenRequest {
    /// The answer was played to its end.
    pub fn complete(mut self) {
        self.complete = true;
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.shared.count(|counts| {
            counts.open_requests = counts.open_requests.saturating_sub(1);
            if self.complete {
                counts.completed += 1;
            } else {
                counts.cancelled += 1;
            }
        });
    }
}

/// Counts a connection as open while it lives.
pub(super) struct OpenConnection(pub Arc<Shared>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.count(|counts| counts.open_connections = counts.open_connections.saturating_sub(1));
    }
}
