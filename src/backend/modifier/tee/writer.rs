//! Writes the records of a tee, on a thread of its own. Nobody waits for it: what it cannot take is dropped and counted,
//! and what the disk refuses is lost, and said once until it is well again.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::oneshot;

use super::file::Lines;
use super::record::Record;
use super::redact::Redact;
use crate::metrics::caching::{RecordUse, TeeMeters};

/// Most records that wait.
const MOST_WAITING: usize = 256;
/// Most bytes of requests and answers that wait; a single larger record waits alone.
const MOST_BYTES: usize = 64 * 1024 * 1024;

/// The way to the thread, which begins with the first record. Dropping it ends the thread, once what waits is written.
pub(super) struct Writer {
    /// What the thread is to work with, until it does.
    worker: Mutex<Option<Worker>>,
    /// `None`: the system has no thread for it.
    jobs: OnceLock<Option<SyncSender<Job>>>,
    waiting: Arc<Waiting>,
    meters: TeeMeters,
}

/// What waits, and what did not have to.
#[derive(Default)]
struct Waiting {
    bytes: AtomicUsize,
    /// Records that were dropped and not yet told of.
    dropped: AtomicU64,
}

enum Job {
    Write(Box<Record>),
    /// Tells when all before it is done.
    Settle(oneshot::Sender<()>),
}

/// What the thread works with.
struct Worker {
    lines: Lines,
    path: PathBuf,
    redact: Redact,
    most: usize,
    waiting: Arc<Waiting>,
    /// Why the file could not be written last.
    failed: Option<String>,
    meters: TeeMeters,
}

// === impl Writer ===

impl Writer {
    /// Writes to this file, request and answer each of at most so many bytes. Nothing is touched yet.
    pub(super) fn new(path: PathBuf, lines: Lines, redact: Redact, most: usize, meters: TeeMeters) -> Self {
        let waiting = Arc::new(Waiting::default());
        let worker = Worker {
            lines,
            path,
            redact,
            most,
            waiting: Arc::clone(&waiting),
            failed: None,
            meters: meters.clone(),
        };
        Writer { worker: Mutex::new(Some(worker)), jobs: OnceLock::new(), waiting, meters }
    }

    fn start(&self) -> Option<SyncSender<Job>> {
        let mut worker = self.worker.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        let (jobs, receiver) = sync_channel(MOST_WAITING);
        let builder = std::thread::Builder::new().name("demuxai-tee".to_owned());
        builder.spawn(move || worker.run(&receiver)).ok().map(|_| jobs)
    }

    /// Hands a record over, or drops it.
    pub(super) fn write(&self, record: Record) {
        let size = record.size();
        let before = self.waiting.bytes.fetch_add(size, Ordering::Relaxed);
        let fits = before == 0 || before.saturating_add(size) <= MOST_BYTES;
        let jobs = self.jobs.get_or_init(|| self.start()).as_ref();
        let taken = fits && jobs.is_some_and(|jobs| jobs.try_send(Job::Write(Box::new(record))).is_ok());
        if !taken {
            self.waiting.bytes.fetch_sub(size, Ordering::Relaxed);
            self.waiting.dropped.fetch_add(1, Ordering::Relaxed);
            self.meters.count(RecordUse::Dropped);
        }
    }

    /// Ready when all that waits is written.
    pub(super) fn settle(&self) -> BoxFuture<'static, ()> {
        let (done, wait) = oneshot::channel();
        if let Some(Some(jobs)) = self.jobs.get() {
            // Where the job is not taken, its sender goes, and that is told, too.
            let _ = jobs.try_send(Job::Settle(done));
        }
        wait.map(|_| ()).boxed()
    }
}

// === impl Worker ===

impl Worker {
    fn run(&mut self, jobs: &Receiver<Job>) {
        while let Ok(job) = jobs.recv() {
            match job {
                Job::Write(record) => self.write(*record),
                Job::Settle(done) => {
                    let _ = done.send(());
                }
            }
        }
    }

    fn write(&mut self, record: Record) {
        let size = record.size();
        let line = record.line(&self.redact, self.most);
        let written = self.lines.add(&line);
        self.waiting.bytes.fetch_sub(size, Ordering::Relaxed);
        match written {
            Ok(()) => {
                self.meters.count(RecordUse::Written);
                if self.failed.take().is_some() {
                    self.meters.works(&self.path);
                }
                let dropped = self.waiting.dropped.swap(0, Ordering::Relaxed);
                if dropped > 0 {
                    self.meters.falls_behind(&self.path, dropped);
                }
            }
            Err(error) => {
                self.meters.count(RecordUse::Failed);
                let why = error.to_string();
                if self.failed.as_ref() != Some(&why) {
                    self.meters.fails(&self.path, &why);
                }
                self.failed = Some(why);
            }
        }
    }
}
