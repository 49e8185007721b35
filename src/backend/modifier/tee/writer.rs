//! Writes the records of a tee, on a thread of its own. Nobody waits for it: what it cannot take is dropped and counted,
//! and what the disk refuses is lost, and said once until it is well again.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

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

/// The files that tees write to. One thread writes to each, whoever has what written there: several tees, or one that a
/// reload replaced and still has requests, and the one in its place.
#[derive(Default)]
pub struct Files(Mutex<HashMap<PathBuf, Place>>);

/// What is known of one file.
#[derive(Default)]
struct Place {
    thread: Weak<Thread>,
    /// Held by whoever writes: a thread whose tees have gone may still have something to write when there is another one.
    turn: Arc<Mutex<()>>,
}

/// One tee's way to the file.
pub(super) struct Writer {
    thread: Arc<Thread>,
    how: Arc<How>,
}

/// How one tee's records are written.
pub(super) struct How {
    /// What is taken out.
    pub(super) redact: Redact,
    /// The most bytes of a request and of an answer that are written.
    pub(super) max_record: usize,
    /// A file of so many bytes is put aside.
    pub(super) max_file: u64,
    /// So many that were put aside are kept.
    pub(super) keep_files: usize,
    /// Where it is counted.
    pub(super) meters: TeeMeters,
}

/// The way to the thread, which begins with the first record. Dropping it ends the thread, once what waits is written.
struct Thread {
    /// What the thread is to work with, until it does.
    worker: Mutex<Option<Worker>>,
    /// `None`: the system has no thread for it.
    jobs: OnceLock<Option<SyncSender<Job>>>,
    waiting: Arc<Waiting>,
}

/// What waits, and what did not have to.
#[derive(Default)]
struct Waiting {
    bytes: AtomicUsize,
    /// Records that were dropped and not yet told of.
    dropped: AtomicU64,
}

enum Job {
    Write(Box<Record>, Arc<How>),
    /// Tells when all before it is done.
    Settle(oneshot::Sender<()>),
}

/// What the thread works with.
struct Worker {
    lines: Lines,
    path: PathBuf,
    turn: Arc<Mutex<()>>,
    waiting: Arc<Waiting>,
    /// Why the file could not be written last.
    failed: Option<String>,
}

// === impl Files ===

impl Files {
    /// The way to this file. Nothing is touched yet.
    pub(super) fn writer(&self, path: PathBuf, how: How) -> Writer {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, place| place.thread.strong_count() > 0 || Arc::strong_count(&place.turn) > 1);
        let place = known.entry(path.clone()).or_default();
        let thread = place.thread.upgrade().unwrap_or_else(|| {
            let lines = Lines::new(path.clone(), how.max_file, how.keep_files);
            let (turn, waiting) = (Arc::clone(&place.turn), Arc::<Waiting>::default());
            let worker = Worker { lines, path, turn, waiting: Arc::clone(&waiting), failed: None };
            Arc::new(Thread { worker: Mutex::new(Some(worker)), jobs: OnceLock::new(), waiting })
        });
        place.thread = Arc::downgrade(&thread);
        Writer { thread, how: Arc::new(how) }
    }
}

// === impl Thread ===

impl Thread {
    fn start(&self) -> Option<SyncSender<Job>> {
        let mut worker = self.worker.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        let (jobs, receiver) = sync_channel(MOST_WAITING);
        let builder = std::thread::Builder::new().name("demuxai-tee".to_owned());
        builder.spawn(move || worker.run(&receiver)).ok().map(|_| jobs)
    }
}

// === impl Writer ===

impl Writer {
    /// Hands a record over, or drops it.
    pub(super) fn write(&self, record: Record) {
        let (size, waiting) = (record.size(), &self.thread.waiting);
        let before = waiting.bytes.fetch_add(size, Ordering::Relaxed);
        let fits = before == 0 || before.saturating_add(size) <= MOST_BYTES;
        let jobs = self.thread.jobs.get_or_init(|| self.thread.start()).as_ref();
        let job = Job::Write(Box::new(record), Arc::clone(&self.how));
        let taken = fits && jobs.is_some_and(|jobs| jobs.try_send(job).is_ok());
        if !taken {
            waiting.bytes.fetch_sub(size, Ordering::Relaxed);
            waiting.dropped.fetch_add(1, Ordering::Relaxed);
            self.how.meters.count(RecordUse::Dropped);
        }
    }

    /// Ready when all that waits is written.
    pub(super) fn settle(&self) -> BoxFuture<'static, ()> {
        let (done, wait) = oneshot::channel();
        if let Some(Some(jobs)) = self.thread.jobs.get() {
            // Where the job is not taken, its sender goes, and that is told, too.
            let _ = jobs.try_send(Job::Settle(done));
        }
        wait.map(|_| ()).boxed()
    }
}

// === impl Worker ===

impl Worker {
    fn run(&mut self, jobs: &Receiver<Job>) {
        let turn = Arc::clone(&self.turn);
        let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
        while let Ok(job) = jobs.recv() {
            match job {
                Job::Write(record, how) => self.write(*record, &how),
                Job::Settle(done) => {
                    let _ = done.send(());
                }
            }
        }
    }

    fn write(&mut self, record: Record, how: &How) {
        let size = record.size();
        let line = record.line(&how.redact, how.max_record);
        self.lines.bound(how.max_file, how.keep_files);
        let written = self.lines.add(&line);
        self.waiting.bytes.fetch_sub(size, Ordering::Relaxed);
        match written {
            Ok(()) => {
                how.meters.count(RecordUse::Written);
                if self.failed.take().is_some() {
                    how.meters.works(&self.path);
                }
                let dropped = self.waiting.dropped.swap(0, Ordering::Relaxed);
                if dropped > 0 {
                    how.meters.falls_behind(&self.path, dropped);
                }
            }
            Err(error) => {
                how.meters.count(RecordUse::Failed);
                let why = error.to_string();
                if self.failed.as_ref() != Some(&why) {
                    how.meters.fails(&self.path, &why);
                }
                self.failed = Some(why);
            }
        }
    }
}
