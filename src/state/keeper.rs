//! The one task that carries the journal to the store: soon after something changed, one batch at a time; later and
//! later again while that fails; and to the end when the daemon ends. While nothing changes it sleeps without a timer.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};
use tracing::error;

use super::actor::{Crew, Trouble};
use super::journal::Journal;
use super::store::{Asked, Saved, Shelf, Store, UsageRow, Written};
use super::{Row, RowId, Source, Spent, UsageId, now};
use crate::metrics::state::{
    Again, StateInMemory, StateKept, StateLost, StateMeters, StateTakenOver, StateWritten,
};
use crate::quota::Moment;

/// The times of the keeper.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// From the end of one write to the begin of the next.
    pub(super) between: Duration,
    /// How long the store may take before its actor is given up.
    pub(super) patience: Duration,
    /// The first pause after a failure; doubled for each further one.
    pub(super) first_pause: Duration,
    /// The longest pause.
    pub(super) longest_pause: Duration,
    /// The longest pause while another demuxai has the store: that one may end at any moment.
    pub(super) longest_in_use: Duration,
}

/// A store that could not be had at start.
pub(super) struct Unopened {
    /// Why, in words.
    pub(super) why: String,
    /// What it was seen to hold nonetheless.
    pub(super) known: Saved,
}

/// A provider and who has its rows.
type Owner = (Arc<str>, Weak<dyn Source>);

/// How things stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Condition {
    /// Why nothing is written; `None` while all is well.
    pub(super) trouble: Option<String>,
    /// Since when it has been so, or well.
    pub(super) since: Moment,
}

/// Carries the journal to the store.
pub(super) struct Keeper {
    pub(super) file: PathBuf,
    pub(super) pace: Pace,
    pub(super) crew: Crew,
    journal: Mutex<Journal>,
    /// Who has rows, and the provider that they belong to.
    sources: Mutex<Vec<Owner>>,
    /// A source has rows that changed since it was last asked.
    stale: AtomicBool,
    /// Something changed.
    changed: Notify,
    condition: Mutex<Condition>,
    /// What the store was last known to hold, while others may write to it: before it is read, nothing is written there.
    unread: Mutex<Option<Saved>>,
    meters: StateMeters,
    closing: watch::Sender<bool>,
    closed: watch::Sender<bool>,
}

impl Default for Pace {
    fn default() -> Self {
        Pace {
            between: Duration::from_millis(50),
            patience: Duration::from_secs(5),
            first_pause: Duration::from_millis(50),
            longest_pause: Duration::from_secs(60),
            longest_in_use: Duration::from_secs(1),
        }
    }
}

// === impl Keeper ===

impl Keeper {
    /// A keeper that does nothing until it runs. `opened` is the store, or why there is none yet.
    pub(super) fn new(
        file: PathBuf,
        pace: Pace,
        shelf: Arc<dyn Shelf>,
        journal: Journal,
        opened: Result<Box<dyn Store>, Unopened>,
        meters: StateMeters,
    ) -> Self {
        let (store, trouble, unread) = match opened {
            Ok(store) => {
                StateKept { meters: &meters, file: &file, again: Again::First }.emit();
                (Some(store), None, None)
            }
            Err(Unopened { why, known }) => {
                StateInMemory { meters: &meters, file: &file, why: &why }.emit();
                (None, Some(why), Some(known))
            }
        };
        Keeper {
            crew: Crew::new(shelf, store),
            condition: Mutex::new(Condition { trouble, since: now() }),
            unread: Mutex::new(unread),
            journal: Mutex::new(journal),
            sources: Mutex::default(),
            stale: AtomicBool::new(false),
            changed: Notify::new(),
            closing: watch::channel(false).0,
            closed: watch::channel(false).0,
            file,
            pace,
            meters,
        }
    }

    /// Changes the journal, and sees to it that this comes to the store.
    pub(super) fn change(&self, change: impl FnOnce(&mut Journal)) {
        let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut journal);
        let waiting = journal.waiting();
        self.meters.waiting(waiting + self.unseen());
        drop(journal);
        if waiting > 0 {
            self.changed.notify_one();
        }
    }

    /// Asks this source for its rows from now on, as long as it lives.
    pub(super) fn watch(&self, provider: Arc<str>, source: Weak<dyn Source>) {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        sources.retain(|(_, source)| source.strong_count() > 0);
        sources.push((provider, source));
    }

    /// A source has changed rows. Costs next to nothing: they are fetched when there is time.
    pub(super) fn touched(&self) {
        if !self.stale.load(Ordering::Relaxed) && !self.stale.swap(true, Ordering::Release) {
            self.meters.waiting(self.journal().0);
            self.changed.notify_one();
        }
    }

    /// Takes these rows of a provider, and what was used, into the journal.
    pub(super) fn keep(&self, provider: &Arc<str>, rows: Vec<Row>, used: Vec<(UsageId, Spent)>) {
        let at = now();
        self.change(|journal| {
            for row in rows {
                let id = RowId { provider: Arc::clone(provider), key: Arc::from(row.key) };
                journal.save(id, &row.json, at);
            }
            used.into_iter().for_each(|(id, spent)| journal.count(id, spent));
        });
    }

    /// Takes what changed at the sources into the journal.
    fn gather(&self) {
        if !self.stale.swap(false, Ordering::Acquire) {
            return;
        }
        for (provider, source) in self.living() {
            let (rows, used) = (source.changed_rows(), source.spent());
            if rows.is_empty() && used.is_empty() {
                continue;
            }
            self.keep(&provider, rows, used);
        }
        self.meters.waiting(self.journal().0);
    }

    /// Who has rows now.
    fn living(&self) -> Vec<(Arc<str>, Arc<dyn Source>)> {
        let sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let living = |(provider, source): &Owner| Some((Arc::clone(provider), source.upgrade()?));
        sources.iter().filter_map(living).collect()
    }

    /// Takes over what others wrote to a store that could not be had before; it can be, now.
    fn take_over(&self, before: &Saved, found: &Saved) {
        let rows = self.journal.lock().unwrap_or_else(PoisonError::into_inner).found(before, found);
        if rows == 0 {
            return;
        }
        for (provider, source) in self.living() {
            let rows = |saved| Saved::rows_of(saved, &provider).collect::<Vec<_>>();
            source.merge(&rows(before), &rows(found));
        }
        self.stale.store(true, Ordering::Release);
        self.gather();
        StateTakenOver { file: &self.file, rows }.emit();
    }

    /// How many rows wait, and how many were given up.
    pub(super) fn journal(&self) -> (usize, u64) {
        let journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        (journal.waiting() + self.unseen(), journal.lost())
    }

    /// What a source has is not counted before it is fetched; that there is something is known.
    fn unseen(&self) -> usize {
        usize::from(self.stale.load(Ordering::Relaxed))
    }

    /// How things stand.
    pub(super) fn condition(&self) -> Condition {
        self.condition.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Runs until it is drained. A panic of its own is the end of neither it nor the daemon.
    pub(super) async fn run(self: Arc<Self>) {
        loop {
            let fallen = std::panic::AssertUnwindSafe(self.carry()).catch_unwind().await.is_err();
            if !fallen {
                break;
            }
            error!("the state's keeper fell");
            sleep(self.pace.patience).await;
        }
        self.closed.send_replace(true);
    }

    async fn carry(&self) {
        let mut failures = u32::from(self.condition().trouble.is_some());
        let mut longest = self.pace.longest_pause;
        loop {
            // While it fails, it tries whether anything changes or not: that it can be relied on again is news.
            if failures == 0 {
                self.until_changed().await;
            } else {
                self.pause(self.pause_after(failures).min(longest)).await;
            }
            self.gather();
            if self.is_closing() && self.journal().0 == 0 {
                self.crew.close(self.pace.patience).await;
                return;
            }
            failures = match self.write(failures > 0).await {
                Ok(()) => 0,
                Err(trouble) => {
                    let in_use = trouble.is_in_use();
                    longest = if in_use { self.pace.longest_in_use } else { self.pace.longest_pause };
                    failures.saturating_add(1)
                }
            };
            if failures == 0 && !self.is_closing() {
                self.pause(self.pace.between).await;
            }
        }
    }

    /// Looks the usage up.
    pub(super) async fn look_up(&self, asked: Asked) -> Result<Vec<UsageRow>, String> {
        if self.is_closing() {
            return Err("the state is closed: demuxai ends".to_owned());
        }
        self.crew.look_up(asked, self.pace.patience).await.map_err(|trouble| trouble.text().to_owned())
    }

    async fn until_changed(&self) {
        let mut closing = self.closing.subscribe();
        tokio::select! {
            () = self.changed.notified() => {}
            _ = closing.wait_for(|is_closing| *is_closing) => {}
        }
    }

    /// Pauses; the order to close ends it, but not one that begins after it.
    async fn pause(&self, length: Duration) {
        if self.is_closing() {
            sleep(length.min(self.pace.first_pause)).await;
            return;
        }
        let mut closing = self.closing.subscribe();
        let _ = timeout(length, closing.wait_for(|is_closing| *is_closing)).await;
    }

    fn is_closing(&self) -> bool {
        *self.closing.borrow()
    }

    fn pause_after(&self, failures: u32) -> Duration {
        let factor = 1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
        self.pace.first_pause.saturating_mul(factor).min(self.pace.longest_pause)
    }

    /// Writes one batch, if there is one; `even_if_empty` tries the store even so.
    async fn write(&self, even_if_empty: bool) -> Result<(), Trouble> {
        let unread = self.unread.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(before) = unread {
            match self.crew.load(self.pace.patience).await {
                Ok(found) => {
                    self.take_over(&before, &found);
                    *self.unread.lock().unwrap_or_else(PoisonError::into_inner) = None;
                }
                Err(trouble) => {
                    StateWritten { meters: &self.meters, outcome: trouble.label() }.emit();
                    self.ill(&trouble);
                    return Err(trouble);
                }
            }
        }
        let batch = {
            let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
            if even_if_empty { Some(journal.any_batch(now())) } else { journal.batch(now()) }
        };
        let Some(batch) = batch else { return Ok(()) };
        let number = batch.number;
        let answer = self.crew.write(batch, self.pace.patience).await;
        let outcome = answer.as_ref().map_or_else(Trouble::label, |_| "ok");
        StateWritten { meters: &self.meters, outcome }.emit();
        match answer {
            Ok(written) => {
                self.answered(number, written);
                self.well();
                Ok(())
            }
            Err(trouble) => {
                self.ill(&trouble);
                Err(trouble)
            }
        }
    }

    fn answered(&self, number: i64, written: Written) {
        self.change(|journal| journal.answered(number, written));
    }

    fn well(&self) {
        let mut condition = self.condition.lock().unwrap_or_else(PoisonError::into_inner);
        if condition.trouble.is_some() {
            *condition = Condition { trouble: None, since: now() };
            StateKept { meters: &self.meters, file: &self.file, again: Again::Again }.emit();
        }
    }

    fn ill(&self, trouble: &Trouble) {
        let mut condition = self.condition.lock().unwrap_or_else(PoisonError::into_inner);
        if condition.trouble.as_deref() == Some(trouble.text()) {
            return;
        }
        let since = if condition.trouble.is_some() { condition.since } else { now() };
        *condition = Condition { trouble: Some(trouble.text().to_owned()), since };
        StateInMemory { meters: &self.meters, file: &self.file, why: trouble.text() }.emit();
    }

    /// Writes all that waits and closes the store; what could not be written in time is said to be lost.
    pub(super) async fn drain(&self, within: Duration) {
        let mut closed = self.closed.subscribe();
        self.closing.send_replace(true);
        let in_time = timeout(within, closed.wait_for(|is_closed| *is_closed)).await.is_ok();
        let (rows, _) = self.journal();
        if !in_time && rows > 0 {
            StateLost { file: &self.file, rows }.emit();
        }
    }

    /// Replaces an actor that is dead or gives no sign of life.
    pub(super) async fn guard(&self) {
        let Some(worker) = self.crew.current() else { return };
        // One that has nothing to do cannot hang, and is left asleep.
        let is_well = worker.lives() && (!worker.is_busy() || worker.answers(self.pace.patience).await);
        if !is_well {
            self.crew.give_up(&worker);
        }
    }

    /// Whether the actor answers. One that was given up is not waited for: the daemon serves without it.
    pub(super) async fn ping(&self) -> bool {
        match self.crew.current() {
            Some(worker) => worker.answers(self.pace.patience).await,
            None => true,
        }
    }
}
