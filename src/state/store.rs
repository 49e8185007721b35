//! What can be kept where: the seam between the state's actor and whatever holds the data. A file is the first kind;
//! several machines that share accounts will be another. Pure data and two traits; no I/O, no clock.

use std::fmt;
use std::sync::Arc;

use crate::quota::Moment;

/// A day, in milliseconds.
pub const DAY_MS: i64 = 24 * 3_600_000;
/// Rows that nobody touched for this long are let go.
pub const KEPT_MS: i64 = 400 * DAY_MS;
/// Most ledger rows that are kept, loaded or waited for.
pub const MOST_LEDGER_ROWS: usize = 20_000;
/// Most rows of usage that wait for the store at a time, and that one look into the history gives.
pub const MOST_USAGE_ROWS: usize = 20_000;
/// Most of anything that is counted in one row: sums of two such still fit.
const MOST_COUNT: u64 = 1 << 53;

/// Where a ledger row belongs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowId {
    /// The provider's id.
    pub provider: Arc<str>,
    /// The row's name within it.
    pub key: Arc<str>,
}

/// What a ledger row says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The row itself; only its owner reads it.
    pub json: Arc<str>,
    /// When it was saved.
    pub updated: Moment,
}

/// One change of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Which row.
    pub id: RowId,
    /// What it is to say; `None`: it is deleted.
    pub kept: Option<Kept>,
}

/// What was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Spent {
    /// Requests sent upstream.
    pub requests: u64,
    /// Tokens in prompts.
    pub input_tokens: u64,
    /// Tokens in answers.
    pub output_tokens: u64,
    /// Those of them that were reasoning.
    pub reasoning: u64,
    /// Tokens of prompts that the upstream had cached.
    pub cached: u64,
    /// Requests that failed.
    pub errors: u64,
}

/// In which hour, where.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UsageId {
    /// Hours since the Unix epoch.
    pub hour: i64,
    /// The provider's id.
    pub provider: Arc<str>,
    /// The model, as the provider lists it.
    pub model: Arc<str>,
}

/// What was used in one hour, of one model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageRow {
    /// When and where.
    pub id: UsageId,
    /// How much.
    pub spent: Spent,
}

/// Changes that are written as a whole or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The journal that it comes from: one per process.
    pub journal: i64,
    /// Its number in that journal, rising.
    pub number: i64,
    /// It holds every row that the journal knows, not only what changed.
    pub whole: bool,
    /// When it was made.
    pub at: Moment,
    /// Changes of the ledger.
    pub ledger: Vec<Change>,
    /// What is added to the usage.
    pub usage: Vec<UsageRow>,
}

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// It is kept; now or since an earlier try.
    Done,
    /// The store is new to the journal and wants all of it first; nothing was written.
    WantsAll,
}

/// A ledger row as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedRow {
    /// The provider's id.
    pub provider: String,
    /// The row's name within it.
    pub key: String,
    /// The row itself.
    pub json: String,
    /// When it was saved, in milliseconds since the Unix epoch.
    pub updated_ms: i64,
}

/// All that is needed at start.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Saved {
    /// The ledger's rows.
    pub ledger: Vec<SavedRow>,
}

impl Saved {
    /// The rows of one provider: key and text.
    pub fn rows_of<'a>(&'a self, provider: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        let own = self.ledger.iter().filter(move |row| row.provider == provider);
        own.map(|row| (row.key.as_str(), row.json.as_str()))
    }
}

/// Which part of the history is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// From the hour that this moment is in.
    pub from: Moment,
    /// To the hour that this moment is in, that hour included.
    pub until: Moment,
    /// One provider's alone.
    pub provider: Option<String>,
}

/// Why the store cannot do what it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// What it holds makes no sense.
    Corrupt,
    /// There is no room.
    Full,
    /// Nothing may be written there.
    ReadOnly,
    /// Another program holds it for a moment.
    Locked,
    /// Another demuxai works on it.
    InUse,
    /// It is not ours, or of a newer demuxai.
    NotOurs,
    /// Anything else.
    Other,
}

/// A fault, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreError {
    /// What kind.
    pub fault: Fault,
    /// What, where, and what helps.
    pub text: String,
}

/// An open store. Every call may block.
pub trait Store: Send {
    /// All that is needed at start; what is too old at `now` is let go.
    ///
    /// # Errors
    /// When it cannot be read.
    fn load(&mut self, now: Moment) -> Result<Saved, StoreError>;

    /// Writes a batch as a whole, or nothing. One that it has already, by its journal and number, it does not write
    /// again: an acknowledgement may have been lost.
    ///
    /// # Errors
    /// When it cannot be written; whether it was is then not known.
    fn write(&mut self, batch: &Batch) -> Result<Written, StoreError>;

    /// What was used, the oldest hour first, at most some twenty thousand rows, of the newest hours.
    ///
    /// # Errors
    /// When it cannot be read.
    fn history(&mut self, asked: &Asked) -> Result<Vec<UsageRow>, StoreError>;

    /// Whether it is still where it was opened.
    fn is_there(&self) -> bool;
}

/// Where a store is to be had, again and again.
pub trait Shelf: Send + Sync + 'static {
    /// Opens the store. May block.
    ///
    /// # Errors
    /// When it cannot be had.
    fn open(&self) -> Result<Box<dyn Store>, StoreError>;

    /// Moves a corrupt store out of the way, so that the next one is a fresh one.
    ///
    /// # Errors
    /// When it cannot be moved.
    fn put_aside(&self, why: &StoreError) -> Result<(), StoreError>;

    /// What is needed at start, of a store that cannot be opened to be written to, as far as it can be read. May block;
    /// changes nothing.
    fn read(&self, now: Moment) -> Option<Saved>;

    /// Lets other processes have the store; until the next opening.
    fn release(&self);
}

// === impl Spent ===

impl Spent {
    /// Adds what was used, within bounds.
    pub fn add(&mut self, more: Spent) {
        let sums = [
            (&mut self.requests, more.requests),
            (&mut self.input_tokens, more.input_tokens),
            (&mut self.output_tokens, more.output_tokens),
            (&mut self.reasoning, more.reasoning),
            (&mut self.cached, more.cached),
            (&mut self.errors, more.errors),
        ];
        for (sum, count) in sums {
            *sum = sum.saturating_add(count).min(MOST_COUNT);
        }
    }
}

// === impl Moment ===

/// The hour, since the Unix epoch, that a moment is in.
pub fn hour_of(moment: Moment) -> i64 {
    moment.0.div_euclid(3_600_000)
}

// === impl StoreError ===

impl StoreError {
    /// A fault in words.
    pub fn new(fault: Fault, text: impl Into<String>) -> Self {
        StoreError { fault, text: text.into() }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for StoreError {}
