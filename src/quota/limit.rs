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
    /// Begins with the first request after the last one ended.
    Session,
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

// === impl Glob ===

impl Glob {
    /// Reads a glob.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Glob, String> {
        // `{models/,}gemini-*` is meant to match without `models/`, too.
        let glob = globset::GlobBuilder::new(text).empty_alternates(true).build();
        let glob = glob.map_err(|error| error.kind().to_string())?;
        Ok(Glob { text: Arc::from(text), matcher: glob.compile_matcher() })
    }
}

// === impl Source ===

impl Source {
    /// Whether it is a guess, which a lone probe may exceed.
    pub fn is_guess(self) -> bool {
        matches!(self, Source::Catalogue | Source::Learned)
    }

    /// Whether demuxai found it out by itself: neither the user nor the catalogue names it.
    pub(super) fn is_own(self) -> bool {
        !matches!(self, Source::Configured | Source::Catalogue)
    }
}

// === impl Unit ===

impl Unit {
    /// The word for it, as the configuration writes it.
    pub fn word(self) -> &'static str {
        match self {
            Unit::Requests => "requests",
            Unit::InputTokens => "input_tokens",
            Unit::OutputTokens => "output_tokens",
            Unit::Tokens => "tokens",
            Unit::Concurrent => "concurrent",
            Unit::Percent => "percent",
        }
    }

    fn read(word: &str) -> Option<Unit> {
        let all = [Unit::Requests, Unit::InputTokens, Unit::OutputTokens, Unit::Tokens, Unit::Concurrent];
        all.into_iter().find(|unit| unit.word() == word)
    }
}

// === impl Period ===

const SECOND: u64 = 1000;
const LONGEST: u64 = 366 * 86_400 * SECOND;
const NAMED: [(&str, u64); 5] = [
    ("second", SECOND),
    ("minute", 60 * SECOND),
    ("hour", 3600 * SECOND),
    ("day", 86_400 * SECOND),
    ("week", 604_800 * SECOND),
];

impl Period {
    /// A minute.
    pub const MINUTE: Period = Period::Millis(60 * SECOND);
    /// A day of 24 hours.
    pub const DAY: Period = Period::Millis(86_400 * SECOND);

    /// Reads `second`, `minute`, `hour`, `day`, `week`, `month`, `request`, or a length from a second to 366 days such
    /// as `5h`, `1d12h` or `1.5h`.
    pub fn read(text: &str) -> Option<Period> {
        if let Some((_, length)) = NAMED.iter().find(|(name, _)| *name == text) {
            return Some(Period::Millis(*length));
        }
        match text {
            "month" => return Some(Period::Month),
            "request" => return Some(Period::Request),
            _ => {}
        }
        length(text).filter(|length| (SECOND..=LONGEST).contains(length)).map(Period::Millis)
    }

    /// The word for it: `minute`, `5h`.
    pub fn word(self) -> String {
        match self {
            Period::Request => "request".to_owned(),
            Period::Month => "month".to_owned(),
            Period::Millis(length) => match NAMED.iter().find(|(_, named)| *named == length) {
                Some((name, _)) => (*name).to_owned(),
                None if length % (3600 * SECOND) == 0 => format!("{}h", length / (3600 * SECOND)),
                None => format!("{}s", length / SECOND),
            },
        }
    }
}

/// A length of time in milliseconds: numbers, each with its unit.
fn length(text: &str) -> Option<u64> {
    let units = [("s", SECOND), ("m", 60 * SECOND), ("h", 3600 * SECOND), ("d", 86_400 * SECOND)];
    let (mut rest, mut sum) = (text.trim(), 0.0);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at_checked(end)?;
        let number = number.parse::<f64>().ok()?;
        let (unit, scale) = units.iter().find(|(unit, _)| tail.trim_start().starts_with(unit))?;
        sum += number * std::time::Duration::from_millis(*scale).as_secs_f64() * 1000.0;
        rest = tail.trim_start().strip_prefix(unit)?.trim_start();
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "never negative, and saturates"
    )]
    let millis = sum.round() as u64;
    (!text.trim().is_empty()).then_some(millis)
}

// === impl Limit ===

impl Limit {
    /// Reads a limit as the configuration and the catalogue write it. Without `window` it is rolling.
    ///
    /// # Errors
    /// What cannot be read, naming it.
    #[expect(clippy::too_many_arguments, reason = "one for each key of the table")]
    pub fn parse(
        unit: &str,
        amount: u64,
        per: Option<&str>,
        models: Option<&str>,
        each_model: bool,
        window: Option<&str>,
        time_zone: Option<&str>,
        source: Source,
    ) -> Result<Limit, String> {
        let counted = Unit::read(unit).ok_or_else(|| format!("no unit `{unit}`"))?;
        let period = match per {
            None => Period::MINUTE,
            Some(per) => Period::read(per).ok_or_else(|| format!("no window `{per}`"))?,
        };
        let zone = time_zone.unwrap_or("UTC");
        let window = match window {
            None | Some("rolling") => Window::Rolling,
            Some("fixed") => Window::Fixed,
            Some("bucket") => Window::Bucket,
            Some("session") => Window::Session,
            Some("calendar") => {
                let found = TimeZone::get(zone).map_err(|_| {
                    format!("no time zone `{zone}`; write \"UTC\" or one such as \"America/Los_Angeles\"")
                })?;
                Window::Calendar(found)
            }
            Some(other) => return Err(format!("no window `{other}`")),
        };
        let scope = match models {
            None => Scope::Account,
            Some(text) => {
                let glob = Glob::parse(text)?;
                if each_model { Scope::Each(glob) } else { Scope::Pool(glob) }
            }
        };
        Ok(Limit { unit: counted, amount, period, window, scope, source })
    }

    /// The limit for people, with this amount: `20 requests per minute`.
    pub fn named(&self, amount: u64) -> String {
        let unit = self.unit.word().replace('_', " ");
        match (self.unit, self.period) {
            (Unit::Concurrent, _) => format!("{amount} requests at a time"),
            (Unit::Percent, period) => format!("share of the {}", period.word()),
            (_, period) => format!("{amount} {unit} per {}", period.word()),
        }
    }

    /// The scope for people: `account`, or the glob.
    pub fn scope_word(&self) -> &str {
        match &self.scope {
            Scope::Account => "account",
            Scope::Pool(glob) | Scope::Each(glob) => &glob.text,
        }
    }
}
