//! The actor that talks to the store, on a thread of its own since every call may block; and the one place that starts
//! it, gives it up and starts another.
//!
//! What a `SyncArbiter` does with a panic: the thread ends and the actor is dropped with it, nothing restarts either;
//! the message that was being handled and all behind it answer `Closed`, and so does every later one. The address only
//! shows it after one more message. So whether the thread lives is seen from what it drops, not from the address.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use actix::{Actor, Addr, Handler, Message, SyncArbiter, SyncContext};
use tokio::sync::watch;
use tokio::time::timeout;

use super::now;
use super::store::{Asked, Batch, Fault, Saved, Shelf, Store, StoreError, UsageRow, Written};

/// Most threads at a time, those included that were given up and hang: a disk that takes calls and never returns from
/// them must not collect threads.
const MOST_THREADS: usize = 4;

/// Writes and reads; opens the store when it is needed.
struct StateActor {
    shelf: Arc<dyn Shelf>,
    store: Option<Box<dyn Store>>,
}

/// Write this.
#[derive(Message)]
#[rtype(result = "Result<Written, StoreError>")]
struct Write(Arc<Batch>);

/// Read what is there.
#[derive(Message)]
#[rtype(result = "Result<Saved, StoreError>")]
struct Load;

/// Look this up.
#[derive(Message)]
#[rtype(result = "Result<Vec<UsageRow>, StoreError>")]
struct LookUp(Asked);

/// Close the store and let others have it.
#[derive(Message)]
#[rtype(result = "()")]
struct Close;

/// Give a sign of life.
#[derive(Message)]
#[rtype(result = "()")]
struct Ping;

/// One actor on its thread.
pub(super) struct Worker {
    address: Addr<StateActor>,
    alive: Arc<AtomicBool>,
    /// Messages that have no answer yet.
    outstanding: AtomicUsize,
    /// Set when it is given up: whoever waits for it stops waiting.
    gone: watch::Sender<bool>,
}

/// Who is at work; one at a time.
pub(super) struct Crew {
    shelf: Arc<dyn Shelf>,
    /// What was opened at start, for the first actor.
    opened: Arc<Mutex<Option<Box<dyn Store>>>>,
    current: Mutex<Option<Arc<Worker>>>,
    threads: Arc<AtomicUsize>,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The store says why.
    Store(StoreError),
    /// The actor fell.
    Fell,
    /// The actor does not answer.
    Hangs,
    /// No actor could be started.
    NoThread,
}

/// Dropped when the thread ends, however it ends.
struct Life {
    alive: Arc<AtomicBool>,
    threads: Arc<AtomicUsize>,
}

/// One message under way.
struct Outstanding<'a>(&'a AtomicUsize);

// === impl StateActor ===

impl StateActor {
    fn store(&mut self) -> Result<&mut Box<dyn Store>, StoreError> {
        if self.store.as_ref().is_some_and(|store| !store.is_there()) {
            // Before the next is opened: closing it touches files by name.
            self.store = None;
        }
        let store = match self.store.take() {
            Some(store) => store,
            None => self.shelf.open()?,
        };
        Ok(self.store.insert(store))
    }

    /// Does something with the store; afterwards a store that can be of no use any more is closed.
    fn with<T>(
        &mut self,
        act: impl FnOnce(&mut dyn Store) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let done = self.store().and_then(|store| act(store.as_mut()));
        let Err(error) = &done else { return done };
        // A full or locked file is the same file when there is room again.
        if !matches!(error.fault, Fault::Full | Fault::Locked) {
            self.store = None;
        }
        if error.fault == Fault::Corrupt {
            self.shelf.put_aside(error)?;
        }
        done
    }
}

impl Actor for StateActor {
    type Context = SyncContext<Self>;
}

impl Handler<Write> for StateActor {
    type Result = Result<Written, StoreError>;

    fn handle(&mut self, Write(batch): Write, _ctx: &mut Self::Context) -> Self::Result {
        self.with(|store| store.write(&batch))
    }
}

impl Handler<Load> for StateActor {
    type Result = Result<Saved, StoreError>;

    fn handle(&mut self, _message: Load, _ctx: &mut Self::Context) -> Self::Result {
        self.with(|store| store.load(now()))
    }
}

impl Handler<LookUp> for StateActor {
    type Result = Result<Vec<UsageRow>, StoreError>;

    fn handle(&mut self, LookUp(asked): LookUp, _ctx: &mut Self::Context) -> Self::Result {
        self.with(|store| store.history(&asked))
    }
}

impl Handler<Close> for StateActor {
    type Result = ();

    fn handle(&mut self, _message: Close, _ctx: &mut Self::Context) {
        self.store = None;
        self.shelf.release();
    }
}

impl Handler<Ping> for StateActor {
    type Result = ();

    fn handle(&mut self, _message: Ping, _ctx: &mut Self::Context) {}
}

// === impl Crew ===

impl Crew {
    /// Nobody is at work yet; `opened` is the store that was opened already, if any.
    pub(super) fn new(shelf: Arc<dyn Shelf>, opened: Option<Box<dyn Store>>) -> Self {
        Crew {
            shelf,
            opened: Arc::new(Mutex::new(opened)),
            current: Mutex::new(None),
            threads: Arc::new(AtomicUsize::new(0)),
        }
    }

    /// Who is at work, dead or alive.
    pub(super) fn current(&self) -> Option<Arc<Worker>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Who is to be asked: whoever is at work and lives, else a fresh one.
    pub(super) fn worker(&self) -> Result<Arc<Worker>, Trouble> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(worker) = current.as_ref().filter(|worker| worker.lives()) {
            return Ok(Arc::clone(worker));
        }
        *current = None;
        let fresh = Arc::new(self.start()?);
        *current = Some(Arc::clone(&fresh));
        Ok(fresh)
    }

    fn start(&self) -> Result<Worker, Trouble> {
        if self.threads.load(Ordering::Relaxed) >= MOST_THREADS {
            return Err(Trouble::Hangs);
        }
        self.threads.fetch_add(1, Ordering::Relaxed);
        let alive = Arc::new(AtomicBool::new(true));
        let life = Life { alive: Arc::clone(&alive), threads: Arc::clone(&self.threads) };
        let (shelf, opened) = (Arc::clone(&self.shelf), Arc::clone(&self.opened));
        let make = move || {
            let _in_this_thread = &life;
            let store = opened.lock().unwrap_or_else(PoisonError::into_inner).take();
            StateActor { shelf: Arc::clone(&shelf), store }
        };
        let builder = || thread::Builder::new().name("demuxai-state".to_owned());
        // It panics when the system has no thread to give.
        let start = AssertUnwindSafe(|| SyncArbiter::start_with_thread_builder(1, builder, make));
        let address = catch_unwind(start).map_err(|_panic| Trouble::NoThread)?;
        let (gone, _) = watch::channel(false);
        Ok(Worker { address, alive, outstanding: AtomicUsize::new(0), gone })
    }

    /// Gives a worker up, unless that was done already. A thread that hangs cannot be ended; when it wakes, it finds
    /// its queue closed, and what it still writes the store knows by its number.
    pub(super) fn give_up(&self, worker: &Arc<Worker>) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.as_ref().is_some_and(|at_work| Arc::ptr_eq(at_work, worker)) {
            *current = None;
        }
        drop(current);
        worker.gone.send_replace(true);
    }

    /// Has the batch written.
    pub(super) async fn write(&self, batch: Arc<Batch>, patience: Duration) -> Result<Written, Trouble> {
        self.ask(Write(batch), patience).await?.map_err(Trouble::Store)
    }

    /// Has what is there read.
    pub(super) async fn load(&self, patience: Duration) -> Result<Saved, Trouble> {
        self.ask(Load, patience).await?.map_err(Trouble::Store)
    }

    /// Has the usage looked up.
    pub(super) async fn look_up(&self, asked: Asked, patience: Duration) -> Result<Vec<UsageRow>, Trouble> {
        self.ask(LookUp(asked), patience).await?.map_err(Trouble::Store)
    }

    /// Has the store closed, if it is open, and given back.
    pub(super) async fn close(&self, patience: Duration) {
        let Ok(worker) = self.worker() else { return };
        // Nothing can be lost any more if it does not answer.
        let _ = worker.ask(Close, patience).await;
        self.give_up(&worker);
    }

    async fn ask<M>(&self, message: M, patience: Duration) -> Result<M::Result, Trouble>
    where
        M: Message + Send + 'static,
        M::Result: Send,
        StateActor: Handler<M>,
    {
        let worker = self.worker()?;
        let answer = worker.ask(message, patience).await;
        if answer.is_err() {
            self.give_up(&worker);
        }
        answer
    }
}

// === impl Worker ===

impl Worker {
    /// Whether its thread runs. A thread that hangs does.
    pub(super) fn lives(&self) -> bool {
        self.alive.load(Ordering::Acquire) && self.address.connected()
    }

    /// Whether it has something to do.
    pub(super) fn is_busy(&self) -> bool {
        self.outstanding.load(Ordering::Relaxed) > 0
    }

    /// Whether it answers.
    pub(super) async fn answers(&self, patience: Duration) -> bool {
        self.lives() && self.ask(Ping, patience).await.is_ok()
    }

    async fn ask<M>(&self, message: M, patience: Duration) -> Result<M::Result, Trouble>
    where
        M: Message + Send + 'static,
        M::Result: Send,
        StateActor: Handler<M>,
    {
        let _outstanding = Outstanding::new(&self.outstanding);
        let mut gone = self.gone.subscribe();
        tokio::select! {
            biased;
            answer = timeout(patience, self.address.send(message)) => match answer {
                Ok(Ok(answer)) => Ok(answer),
                Ok(Err(_closed)) => Err(Trouble::Fell),
                Err(_elapsed) => Err(Trouble::Hangs),
            },
            _ = gone.wait_for(|given_up| *given_up) => Err(Trouble::Hangs),
        }
    }
}

// === impl Outstanding ===

impl<'a> Outstanding<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Outstanding(count)
    }
}

impl Drop for Outstanding<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

// === impl Life ===

impl Drop for Life {
    fn drop(&mut self) {
        self.alive.store(false, Ordering::Release);
        self.threads.fetch_sub(1, Ordering::Relaxed);
    }
}

// === impl Trouble ===

impl Trouble {
    /// The `outcome` label of a write that failed so.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Trouble::Store(_) => "error",
            Trouble::Fell => "panic",
            Trouble::Hangs => "hang",
            Trouble::NoThread => "no_thread",
        }
    }

    /// Another demuxai has the store.
    pub(super) fn is_in_use(&self) -> bool {
        matches!(self, Trouble::Store(error) if error.fault == Fault::InUse)
    }

    /// In words.
    pub(super) fn text(&self) -> &str {
        match self {
            Trouble::Store(error) => &error.text,
            Trouble::Fell => "the state's actor fell and is started anew",
            Trouble::Hangs => "the disk does not answer, or the state's actor hangs",
            Trouble::NoThread => "the system has no thread for the state's actor",
        }
    }
}

#[cfg(test)]
mod tests;
