//! The state that outlives the process: the ledger's rows and the history of what was used. Whoever counts hands it
//! over without waiting; one task writes it to disk within a tenth of a second, and a store that fails only costs
//! memory of what was. It knows nothing of what the rows mean.

mod actor;
mod file;
mod journal;
mod keeper;
mod sqlite;
mod store;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Weak, mpsc};
use std::thread;
use std::time::{Duration, SystemTime};

use crate::config::settings::StateConfig;
use crate::metrics::Metrics;
use crate::metrics::state::StateHomeless;
use crate::quota::Moment;
use file::FileShelf;
pub(crate) use file::{close_to_others, make_directory, private};
use journal::Journal;
use keeper::{Keeper, Pace, Unopened};
pub use sqlite::Answers;
pub use store::{
    Asked, Batch, Change, Fault, Kept, RowId, Saved, SavedRow, Shelf, Spent, Store, StoreError, UsageId,
    UsageRow, Written, hour_of,
};

/// Why there is no file where none was named.
pub const HOMELESS: &str =
    "this platform has no state directory (is HOME set?); name a file with [state] path";

/// What keeps the state; cheap to clone.
#[derive(Clone)]
pub struct State {
    /// `None`: nothing is kept.
    keeper: Option<Arc<Keeper>>,
    /// Nothing is kept because there is no place for it.
    homeless: bool,
}

/// A ledger row as its provider has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its name within the provider.
    pub key: String,
    /// What it says; only its owner reads it.
    pub json: String,
}

/// Whoever has rows: asked for those that changed shortly after it said [`State::changed`].
pub trait Source: Send + Sync {
    /// The rows that changed since the last call.
    fn changed_rows(&self) -> Vec<Row>;

    /// What was used since the last call, by hour, provider and model.
    fn spent(&self) -> Vec<(UsageId, Spent)>;

    /// Takes over what another process wrote meanwhile: `before` are the rows that were there when this one began, as
    /// far as it could read them, `found` those that are there now.
    fn merge(&self, before: &[(&str, &str)], found: &[(&str, &str)]);
}

/// How things stand, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The file; `None`: in memory only, as configured or for want of a place.
    pub file: Option<PathBuf>,
    /// Why it is in memory only nonetheless.
    pub trouble: Option<String>,
    /// Since when it has been so; the start, if it never was otherwise.
    pub since: Option<Moment>,
    /// Rows that wait to be written.
    pub waiting: usize,
    /// Rows that were given up because there were too many, or they were too large.
    pub lost: u64,
}

/// The open store and what it held; or why it could not be opened, and what could be read of it nonetheless.
type Opened = (Result<Box<dyn Store>, StoreError>, Saved);

// === impl State ===

impl State {
    /// Opens the state and reads what is needed at start. It blocks while the disk does, for some seconds at most, and
    /// never fails: what cannot be opened is said, tried again later, and meanwhile kept in memory.
    /// Must be called inside an actix system.
    pub fn open(config: &StateConfig, metrics: &Metrics) -> (State, Saved) {
        match &config.file {
            Some(file) => {
                let shelf = Arc::new(FileShelf::new(file.clone()));
                Self::on(shelf, file.clone(), Pace::default(), metrics)
            }
            None => {
                if config.homeless {
                    StateHomeless { why: HOMELESS }.emit();
                }
                (State { keeper: None, homeless: config.homeless }, Saved::default())
            }
        }
    }

    /// What a file holds, without opening it to write and whoever works on it. `None`: there is none that can be read.
    pub fn peek(config: &StateConfig) -> Option<Saved> {
        FileShelf::new(config.file.clone()?).read(now())
    }

    /// Keeps nothing.
    pub fn nowhere() -> State {
        State { keeper: None, homeless: false }
    }

    /// Whether anything is kept, on disk or while that is in trouble.
    pub fn is_kept(&self) -> bool {
        self.keeper.is_some()
    }

    fn on(shelf: Arc<dyn Shelf>, file: PathBuf, pace: Pace, metrics: &Metrics) -> (State, Saved) {
        let (opened, saved) = open_within(&shelf, pace.patience);
        let opened = opened.map_err(|error| Unopened { why: error.text, known: saved.clone() });
        let mut journal = Journal::new(fastrand::i64(..));
        journal.loaded(&saved);
        let keeper = Arc::new(Keeper::new(file, pace, shelf, journal, opened, metrics.state_meters()));
        actix_rt::spawn(Arc::clone(&keeper).run());
        (State { keeper: Some(keeper), homeless: false }, saved)
    }

    /// Keeps the latest text of these rows.
    pub fn save(&self, provider: &str, rows: Vec<Row>) {
        if let Some(keeper) = &self.keeper {
            keeper.keep(&Arc::from(provider), rows, Vec::new());
        }
    }

    /// Asks this source for its rows from now on, as long as it lives. What it still has when it ends, it saves itself.
    pub fn watch(&self, provider: &Arc<str>, source: Weak<dyn Source>) {
        if let Some(keeper) = &self.keeper {
            keeper.watch(Arc::clone(provider), source);
        }
    }

    /// A source has changed rows. For every request: it costs no more than a look at a flag.
    pub fn changed(&self) {
        if let Some(keeper) = &self.keeper {
            keeper.touched();
        }
    }

    /// Deletes these rows.
    pub fn forget(&self, provider: &str, keys: &[String]) {
        let Some(keeper) = &self.keeper else { return };
        let provider = Arc::<str>::from(provider);
        keeper.change(|journal| {
            for key in keys {
                journal.forget(RowId { provider: Arc::clone(&provider), key: Arc::from(key.as_str()) });
            }
        });
    }

    /// Adds to the history what was used at this moment.
    pub fn count_usage(&self, at: Moment, provider: &str, model: &str, spent: Spent) {
        let id = UsageId { hour: hour_of(at), provider: Arc::from(provider), model: Arc::from(model) };
        self.count_all(vec![(id, spent)]);
    }

    /// Adds to the history what was used.
    pub fn count_all(&self, used: Vec<(UsageId, Spent)>) {
        let Some(keeper) = &self.keeper else { return };
        keeper.change(|journal| used.into_iter().for_each(|(id, spent)| journal.count(id, spent)));
    }

    /// What was used, by hour, provider and model, the oldest hour first; what was counted within the last tenth of a
    /// second may be missing.
    ///
    /// # Errors
    /// Why it cannot be looked up, in words.
    pub async fn history(&self, asked: Asked) -> Result<Vec<UsageRow>, String> {
        let Some(keeper) = &self.keeper else { return Ok(Vec::new()) };
        keeper.look_up(asked).await
    }

    /// Writes all that waits, within bounds, and closes the store. What is handed over afterwards is lost.
    pub async fn drain(&self, within: Duration) {
        if let Some(keeper) = &self.keeper {
            keeper.drain(within).await;
        }
    }

    /// Replaces an actor that is dead or gives no sign of life. While there is nothing to do it costs nothing.
    pub async fn guard(&self) {
        if let Some(keeper) = &self.keeper {
            keeper.guard().await;
        }
    }

    /// Whether the actor answers, or is known not to.
    pub async fn ping(&self) -> bool {
        match &self.keeper {
            Some(keeper) => keeper.ping().await,
            None => true,
        }
    }

    /// How things stand.
    pub fn status(&self) -> Status {
        let Some(keeper) = &self.keeper else {
            let trouble = self.homeless.then(|| HOMELESS.to_owned());
            return Status { file: None, trouble, since: None, waiting: 0, lost: 0 };
        };
        let (waiting, lost) = keeper.journal();
        let condition = keeper.condition();
        Status {
            file: Some(keeper.file.clone()),
            trouble: condition.trouble,
            since: Some(condition.since),
            waiting,
            lost,
        }
    }
}

/// Opens and reads the store on a thread of its own: a disk that hangs must not keep the daemon from starting.
fn open_within(shelf: &Arc<dyn Shelf>, patience: Duration) -> Opened {
    let (done, opened) = mpsc::sync_channel(1);
    let opener = Arc::clone(shelf);
    let spawned = thread::Builder::new().name("demuxai-state".to_owned()).spawn(move || {
        // Nobody may be waiting any more; then the store is closed again.
        let _ = done.send(catch_unwind(AssertUnwindSafe(|| open(opener.as_ref()))));
    });
    let failed = |text: &str| (Err(StoreError::new(Fault::Other, text)), Saved::default());
    if spawned.is_err() {
        return failed("the system has no thread to open the state");
    }
    match opened.recv_timeout(patience) {
        Ok(Ok(opened)) => opened,
        Ok(Err(_panic)) => failed("opening the state fell over itself"),
        Err(_elapsed) => failed("the disk does not answer"),
    }
}

fn open(shelf: &dyn Shelf) -> Opened {
    match open_to_write(shelf) {
        Ok((store, saved)) => (Ok(store), saved),
        // What was counted before counts, even where nothing more can be written down, or only by somebody else.
        Err(error) if matches!(error.fault, Fault::ReadOnly | Fault::Full | Fault::InUse) => {
            let saved = shelf.read(now()).unwrap_or_default();
            (Err(error), saved)
        }
        Err(error) => (Err(error), Saved::default()),
    }
}

fn open_to_write(shelf: &dyn Shelf) -> Result<(Box<dyn Store>, Saved), StoreError> {
    let mut store = shelf.open()?;
    match store.load(now()) {
        Err(error) if error.fault == Fault::Corrupt => {
            drop(store);
            shelf.put_aside(&error)?;
            let mut fresh = shelf.open()?;
            let saved = fresh.load(now())?;
            Ok((fresh, saved))
        }
        loaded => Ok((store, loaded?)),
    }
}

/// The time by the clock on the wall: what is kept outlives the process.
pub(crate) fn now() -> Moment {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Moment(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests;
