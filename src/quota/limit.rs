//! One limit: how much of what, in which window, for whom, and how demuxai knows of it. Pure data.

use std::sync::Arc;

use globset::GlobMatcher;
use jiff::tz::TimeZone;

/// What a limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Requests sent upstream.
    Requests,
    /// Tokens in prompts.
    InputTokens,
    /// Tokens in answers.
    OutputTokens,
    /// Both together.
    Tokens,
    /// Requests at the same time; has no window.
    Concurrent,
    /// A share that only the upstream can count, of 100 (Ollama Cloud's windows of GPU time).
    Percent,
}

/// How long a window is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Period {
    /// One request: a ceiling on its size.
    Request,
    /// So many milliseconds; minute, hour, day (24 h), week (7 d) and lengths such as `5h`.
    Millis(u64),
    /// A calendar month.
    Month,
}

/// How a window moves.
#[derive(Debug, Clone, PartialEq)]
pub enum Window {
    /// The last so-many milliseconds, at every moment.
    Rolling,
    /// Ends at multiples of its length since the epoch, or where the upstream last said that it ends.
    Fixed,
    /// Hours, days, weeks (from Monday) or months of a time zone.
    Calendar(TimeZone),
    /// Refills continuously, up to its amount, by its amount per period.
    Bucket,
}

/// Whom a limit is for.
#[derive(Debug, Clone)]
pub enum Scope {
    /// The whole account.
    Account,
    /// All models that match share it.
    Pool(Glob),
    /// Each model that matches has it for itself.
    Each(Glob),
}

/// A glob on model ids, with its text.
#[derive(Debug, Clone)]
pub struct Glob {
    /// As written.
    pub text: Arc<str>,
    /// Ready to match.
    pub matcher: GlobMatcher,
}

/// How demuxai knows of a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The user's own: hard.
    Configured,
    /// The shipped catalogue: a first guess.
    Catalogue,
    /// A header or body of the upstream stated it.
    Header,
    /// Drawn from refusals.
    Learned,
    /// A usage endpoint stated it.
    Probe,
}

/// One limit.
#[derive(Debug, Clone)]
pub struct Limit {
    /// What is counted.
    pub unit: Unit,
    /// How many.
    pub amount: u64,
    /// Length of the window; meaningless for [`Unit::Concurrent`].
    pub period: Period,
    /// How the window moves.
    pub window: Window,
    /// Whom it is for.
    pub scope: Scope,
    /// How demuxai knows of it.
    pub source: Source,
}
