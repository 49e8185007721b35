//! How a running daemon is asked to read its configuration anew, or to say what that would change. Whoever serves sends
//! the wish, and one task (`app/reloader.rs`) grants one after another.

use std::path::PathBuf;

use tokio::sync::{mpsc, oneshot};

use crate::config::Difference;

/// No more wishes wait than this.
const MOST_WAITING: usize = 16;

/// Where wishes are left; cheap to clone.
#[derive(Clone)]
pub struct Reloads {
    wishes: mpsc::Sender<Wish>,
}

/// What is wished for, and who waits for the answer.
pub struct Wish {
    /// What is wished for.
    pub what: What,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Answer>,
}

/// What can be wished for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// Read the configuration anew and put it in force.
    Reload(Cause),
    /// Say what that would change. With files: what these would change.
    Compare(Vec<PathBuf>),
}

/// What asks for a reload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// SIGHUP.
    Signal,
    /// A file changed.
    Watch,
    /// `demuxai reload`.
    Command,
}

/// What came of a wish.
pub type Answer = Result<Outcome, Refusal>;

/// It was granted.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// What changed, or would.
    pub difference: Difference,
    /// What the new configuration remarks, as at start.
    pub notes: Vec<String>,
    /// What is probably not meant, though it works, as `demuxai check` says it.
    pub warnings: Vec<String>,
    /// The files that it is read from.
    pub files: Vec<PathBuf>,
}

/// It was not granted; nothing changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The configuration is bad.
    Bad {
        /// All that is wrong with it, as `demuxai check` says it.
        problems: String,
        /// The files that were read or should have been.
        files: Vec<PathBuf>,
    },
    /// It cannot be done here, or something failed on the way; in words.
    Impossible(String),
    /// It cannot be done now, whatever the configuration is; in words.
    NotNow(String),
}

// === impl Cause ===

impl Cause {
    /// The word in logs.
    pub fn label(self) -> &'static str {
        match self {
            Cause::Signal => "signal",
            Cause::Watch => "watch",
            Cause::Command => "command",
        }
    }
}

// === impl Reloads ===

impl Reloads {
    /// A place for wishes, and where they come out.
    pub fn new() -> (Reloads, mpsc::Receiver<Wish>) {
        let (wishes, granted) = mpsc::channel(MOST_WAITING);
        (Reloads { wishes }, granted)
    }

    /// Wishes for something and waits for what comes of it.
    ///
    /// # Errors
    /// Why it is not granted.
    pub async fn ask(&self, what: What) -> Answer {
        let impossible = |text: &str| Err(Refusal::Impossible(text.to_owned()));
        let (answer, granted) = oneshot::channel();
        match self.wishes.try_send(Wish { what, answer }) {
            Ok(()) => granted.await.unwrap_or_else(|_| impossible("demuxai ends")),
            Err(mpsc::error::TrySendError::Full(_)) => {
                Err(Refusal::NotNow("too many reloads wait already; try again".to_owned()))
            }
            Err(mpsc::error::TrySendError::Closed(_)) => {
                impossible("this demuxai was not started from files, so that there is nothing to read anew")
            }
        }
    }
}
