//! The engine of the fake upstreams: a raw TCP server on loopback that plays scripts and counts what it received.
//! No HTTP library; no provider is known here.

use std::borrow::Cow;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::{AbortHandle, JoinSet};

use super::connection::serve;
use super::request::Received;
use super::script::Script;
use super::shared::{EarlyHandler, Handler, OpenConnection, Shared};
use super::turnstile::Turnstile;

pub use super::shared::{Counts, Limits};

/// Waiting for counts took too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the fake upstream did not get there in {WAIT:?}, it stands at {counts:?}")]
pub struct WaitTimeout {
    /// The counts when waiting ended.
    pub counts: Counts,
}

/// How long [`Fake::wait_for`] waits.
const WAIT: Duration = Duration::from_secs(10);

/// A fake upstream, listening on loopback until it is dropped.
pub struct Fake {
    address: SocketAddr,
    shared: Arc<Shared>,
    runtime: Handle,
    life: Life,
}

/// What ends with the fake.
enum Life {
    /// A thread with a runtime of its own, and the word that ends it.
    Thread(Option<oneshot::Sender<()>>, Option<thread::JoinHandle<()>>),
    /// A task of somebody else's runtime.
    Task(AbortHandle),
}

impl Fake {
    /// Starts a fake upstream in a thread of its own, on a free port of 127.0.0.1. Its clock is the real one,
    /// whatever the caller's runtime does with time.
    ///
    /// # Errors
    /// When no thread, runtime or port can be had.
    pub fn start(handler: impl Fn(&Received) -> Script + Send + Sync + 'static) -> io::Result<Fake> {
        Fake::start_with(Options::new(handler))
    }

    /// As [`Fake::start`], with all options.
    ///
    /// # Errors
    /// When no thread, runtime or port can be had.
    pub fn start_with(options: Options) -> io::Result<Fake> {
        let (address, shared) = (options.address, options.shared());
        let (stop, stopped) = oneshot::channel();
        let (ready, started) = mpsc::sync_channel(1);
        let for_thread = Arc::clone(&shared);
        let thread = thread::Builder::new().name("fake-upstream".to_owned()).spawn(move || {
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return drop(ready.send(Err(error))),
            };
            runtime.block_on(async {
                let listener = match bind(address).await {
                    Ok((listener, bound)) => {
                        let _ = ready.send(Ok((Handle::current(), bound)));
                        listener
                    }
                    Err(error) => return drop(ready.send(Err(error))),
                };
                tokio::select! {
                    () = accept(listener, for_thread) => {}
                    _ = stopped => {}
                }
            });
        })?;
        let (runtime, address) =
            started.recv().map_err(|_| io::Error::other("the fake upstream's thread ended early"))??;
        Ok(Fake { address, shared, runtime, life: Life::Thread(Some(stop), Some(thread)) })
    }

    /// Starts a fake upstream as a task of the current tokio runtime, so that it shares the caller's clock, paused
    /// or not.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start_here(options: Options) -> io::Result<Fake> {
        let (address, shared) = (options.address, options.shared());
        let (listener, bound) = bind(address).await?;
        let task = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Fake { address: bound, shared, runtime: Handle::current(), life: Life::Task(task.abort_handle()) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:…`, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The requests received so far, oldest first, as far as they are kept.
    pub fn received(&self) -> Vec<Received> {
        self.shared.log().requests.iter().cloned().collect()
    }

    /// The newest request received.
    pub fn last_received(&self) -> Option<Received> {
        self.shared.log().requests.back().cloned()
    }

    /// What happened so far.
    pub fn counts(&self) -> Counts {
        *self.shared.counts.borrow()
    }

    /// Bytes written to clients so far; stands still while readers are slow.
    pub fn written(&self) -> u64 {
        self.shared.written.load(Ordering::Relaxed)
    }

    /// Waits until the counts are as wanted.
    ///
    /// # Errors
    /// When they are not within ten seconds of the fake's clock.
    pub async fn wait_for(
        &self,
        wanted: impl FnMut(&Counts) -> bool + Send + 'static,
    ) -> Result<Counts, WaitTimeout> {
        let mut counts = self.shared.counts.subscribe();
        // The wait runs on the fake's own runtime: a caller whose clock is paused would see the time-out at once.
        let waiting = self.runtime.spawn(async move {
            let reached = tokio::time::timeout(WAIT, counts.wait_for(wanted)).await;
            matches!(reached, Ok(Ok(_)))
        });
        if matches!(waiting.await, Ok(true)) {
            Ok(self.counts())
        } else {
            Err(WaitTimeout { counts: self.counts() })
        }
    }

    /// Lets scripts pass the gate of this name, those that wait there and those that come.
    pub fn open_gate(&self, name: impl Into<Cow<'static, str>>) {
        self.shared.gates.send_modify(|open| {
            open.insert(name.into());
        });
    }

    /// Shuts the gate of this name again for those that come.
    pub fn close_gate(&self, name: &str) {
        self.shared.gates.send_modify(|open| {
            open.remove(name);
        });
    }

    /// Closes every open connection at once, idle or not, without a word; new ones are accepted.
    pub fn hang_up(&self) {
        self.shared.hang_ups.send_modify(|count| *count += 1);
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        match &mut self.life {
            Life::Thread(stop, thread) => {
                drop(stop.take());
                if let Some(handle) = thread.take() {
                    let _ = handle.join();
                }
            }
            Life::Task(task) => task.abort(),
        }
    }
}

impl std::fmt::Debug for Fake {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Fake")
            .field("address", &self.address)
            .field("counts", &self.counts())
            .finish_non_exhaustive()
    }
}

/// How a fake upstream is started.
#[derive(Clone)]
pub struct Options {
    handler: Handler,
    early: Option<EarlyHandler>,
    turnstile: Option<Arc<Turnstile>>,
    address: SocketAddr,
    limits: Limits,
}

impl Options {
    /// A free port of 127.0.0.1, the default limits, and this handler.
    pub fn new(handler: impl Fn(&Received) -> Script + Send + Sync + 'static) -> Options {
        Options {
            handler: Arc::new(handler),
            early: None,
            turnstile: None,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            limits: Limits::default(),
        }
    }

    /// A handler that may answer before the body is read; the connection is closed after such an answer.
    pub fn early(mut self, early: impl Fn(&Received) -> Option<Script> + Send + Sync + 'static) -> Options {
        self.early = Some(Arc::new(early));
        self
    }

    /// True limits: what is over them is refused in the provider's own words, whatever the handler would answer. A fake
    /// that comes back with the same one goes on where it was.
    pub fn turnstile(mut self, turnstile: Arc<Turnstile>) -> Options {
        self.turnstile = Some(turnstile);
        self
    }

    /// Another address, for an upstream that comes back where it was.
    pub fn address(mut self, address: SocketAddr) -> Options {
        self.address = address;
        self
    }

    /// Other limits.
    pub fn limits(mut self, limits: Limits) -> Options {
        self.limits = limits;
        self
    }

    fn shared(self) -> Arc<Shared> {
        Arc::new(Shared::new(self.handler, self.early, self.turnstile, self.limits))
    }
}

async fn bind(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address).await?;
    let bound = listener.local_addr()?;
    Ok((listener, bound))
}

/// Accepts until dropped; the connections end with it.
async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    let mut next_number = 0;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        let Ok((stream, _)) = accepted else {
            // Out of file descriptors, most likely: one that closes makes room.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        if shared.counts.borrow().open_connections >= shared.limits.max_connections {
            shared.count(|counts| counts.refused_connections += 1);
            continue;
        }
        let number = next_number;
        next_number += 1;
        shared.count(|counts| {
            counts.connections += 1;
            counts.open_connections += 1;
        });
        let open = OpenConnection(Arc::clone(&shared));
        let mut hang_ups = shared.hang_ups.subscribe();
        let for_connection = Arc::clone(&shared);
        connections.spawn(async move {
            let _open = open;
            tokio::select! {
                () = serve(stream, number, for_connection) => {}
                _ = hang_ups.changed() => {}
            }
        });
    }
}

#[cfg(test)]
mod tests;
