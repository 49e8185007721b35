//! What a cache keeps on disk, by a thread of its own: nobody waits for the disk longer than a moment, and a disk that
//! fails costs only what it would have remembered. The file itself is `state/sqlite/answers.rs`.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::entry::Entry;
use crate::metrics::caching::{DiskDropped, DiskMeters, DiskUse};
use crate::quota::Moment;
use crate::state::{Answers, StoreError};
use crate::wire::json::Digest;

/// A request waits no longer for what may be on disk.
const PATIENCE: Duration = Duration::from_millis(50);
/// Most jobs that wait for the disk, each with an answer or for one.
const MOST_JOBS: usize = 64;
/// A file that cannot be used is tried again after this.
const RETRY: Duration = Duration::from_secs(30);

/// The disk of a cache. Nothing is touched before the first request. Dropping it ends its thread, once what waits is written.
pub struct Disk {
    path: PathBuf,
    most: u64,
    clock: fn() -> Moment,
    /// The way to the thread, once it runs; `None`: the system has none for it.
    jobs: OnceLock<Option<SyncSender<Job>>>,
    /// It was too slow, and has not shown since that it works.
    late: Arc<AtomicBool>,
    /// A request waits no longer than this.
    patience: Duration,
    meters: DiskMeters,
}

enum Job {
    Find {
        key: Digest,
        found: oneshot::Sender<Option<Entry>>,
    },
    Keep {
        key: Digest,
        entry: Arc<Entry>,
        until: Moment,
    },
    /// Tells when all before it is done.
    Settle(oneshot::Sender<()>),
}

/// What the thread works with.
struct Worker {
    path: PathBuf,
    most: u64,
    answers: Option<Answers>,
    /// When the file was last tried in vain, and why that was.
    failed: Option<(Instant, String)>,
    clock: fn() -> Moment,
    meters: DiskMeters,
}

// === impl Disk ===

impl Disk {
    /// This file, of at most about so many bytes.
    pub fn new(path: PathBuf, most: u64, clock: fn() -> Moment, meters: DiskMeters) -> Self {
        Disk { path, most, clock, jobs: OnceLock::new(), late: Arc::default(), patience: PATIENCE, meters }
    }

    fn start(&self) -> Option<SyncSender<Job>> {
        let (jobs, waiting) = sync_channel(MOST_JOBS);
        let late = Arc::clone(&self.late);
        let mut worker = Worker {
            path: self.path.clone(),
            most: self.most,
            answers: None,
            failed: None,
            clock: self.clock,
            meters: self.meters.clone(),
        };
        let builder = std::thread::Builder::new().name("demuxai-cache".to_owned());
        builder.spawn(move || worker.run(&waiting, &late)).ok().map(|_| jobs)
    }

    /// What is there, if the disk says so soon enough.
    pub(super) async fn find(&self, key: &Digest) -> Option<Entry> {
        if self.late.load(Ordering::Relaxed) {
            return None;
        }
        let (found, wait) = oneshot::channel();
        self.send(Job::Find { key: *key, found });
        match timeout(self.patience, wait).await {
            Ok(found) => found.ok().flatten(),
            Err(_) => {
                self.late.store(true, Ordering::Relaxed);
                DiskDropped { meters: &self.meters, why: DiskUse::Late }.emit();
                None
            }
        }
    }

    /// Keeps an answer for so long, unless too much waits already.
    pub(super) fn keep(&self, key: Digest, entry: Arc<Entry>, ttl: Duration) {
        let ttl = i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX);
        let until = Moment(entry.made.0.saturating_add(ttl));
        self.send(Job::Keep { key, entry, until });
    }

    /// Ready when all that waits is written.
    pub(super) fn settle(&self) -> BoxFuture<'static, ()> {
        let (done, wait) = oneshot::channel();
        if self.jobs.get().is_some() {
            self.send(Job::Settle(done));
        }
        // Where the job was not taken its sender goes, and that is told, too.
        wait.map(|_| ()).boxed()
    }

    fn send(&self, job: Job) {
        let jobs = self.jobs.get_or_init(|| self.start());
        if jobs.as_ref().is_none_or(|jobs| jobs.try_send(job).is_err()) {
            DiskDropped { meters: &self.meters, why: DiskUse::Busy }.emit();
        }
    }
}

// === impl Worker ===

impl Worker {
    fn run(&mut self, waiting: &Receiver<Job>, late: &AtomicBool) {
        while let Ok(job) = waiting.recv() {
            self.work(job);
            late.store(false, Ordering::Relaxed);
        }
    }

    fn work(&mut self, job: Job) {
        match job {
            Job::Find { key, found } => {
                let now = (self.clock)();
                let written = self.with(|answers| answers.find(key.as_bytes(), now)).flatten();
                // Whoever asked may have gone on without it.
                let _ = found.send(written.and_then(|written| Entry::read(&written)));
            }
            Job::Keep { key, entry, until } => {
                let (now, most) = ((self.clock)(), self.most);
                let kept =
                    self.with(|answers| answers.keep(key.as_bytes(), &entry.written(), now, until, most));
                if kept.is_some() {
                    self.meters.count(DiskUse::Kept);
                }
            }
            Job::Settle(done) => {
                let _ = done.send(());
            }
        }
    }

    /// Does something with the file, if it can be had; one that fails is let go, and tried again later.
    fn with<T>(&mut self, act: impl FnOnce(&mut Answers) -> Result<T, StoreError>) -> Option<T> {
        if self.answers.is_none() {
            self.open();
        }
        match act(self.answers.as_mut()?) {
            Ok(done) => Some(done),
            Err(error) => {
                self.fail(error);
                None
            }
        }
    }

    fn open(&mut self) {
        if self.failed.as_ref().is_some_and(|(at, _)| at.elapsed() < RETRY) {
            return;
        }
        match Answers::open(&self.path) {
            Ok(answers) => {
                self.answers = Some(answers);
                self.meters.works(&self.path);
                self.failed = None;
            }
            Err(error) => self.fail(error),
        }
    }

    fn fail(&mut self, error: StoreError) {
        self.answers = None;
        self.meters.count(DiskUse::Failed);
        let known = self.failed.take().is_some_and(|(_, why)| why == error.text);
        if !known {
            self.meters.fails(&self.path, &error.text);
        }
        self.failed = Some((Instant::now(), error.text));
    }
}

#[cfg(test)]
mod tests;
