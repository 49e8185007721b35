//! First guesses at the limits of free tiers, as data. Read and checked here, enforced by the quota ledger.

use serde::Deserialize;

use super::is_date;
use crate::config::settings::Limit;

/// How sure a guess is: the tags of the survey it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Certainty {
    /// Read in the upstream's source code.
    Verified,
    /// Measured live by somebody.
    Measured,
    /// In the provider's own documents.
    Documented,
    /// In somebody else's list.
    ThirdParty,
    /// From memory.
    Recalled,
}

/// One guess.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub struct LimitGuess {
    /// The limit itself.
    pub limit: Limit,
    /// Every model that matches has this limit for itself; otherwise they share one.
    pub each_model: bool,
    /// The day of the source.
    pub source_date: String,
    /// How sure it is.
    pub certainty: Certainty,
}

/// A guess as the file writes it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    requests: Option<u64>,
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    tokens: Option<u64>,
    concurrent: Option<u64>,
    per: Option<String>,
    models: Option<String>,
    #[serde(default)]
    each_model: bool,
    window: Option<String>,
    time_zone: Option<String>,
    source_date: String,
    certainty: Certainty,
}

impl TryFrom<Written> for LimitGuess {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let units = [
            ("requests", written.requests),
            ("input_tokens", written.input_tokens),
            ("output_tokens", written.output_tokens),
            ("tokens", written.tokens),
            ("concurrent", written.concurrent),
        ];
        let mut given = units.into_iter().filter_map(|(unit, amount)| Some((unit, amount?)));
        let Some((unit, amount)) = given.next() else {
            return Err(
                "a limit needs one of requests, input_tokens, output_tokens, tokens, concurrent".to_owned()
            );
        };
        if let Some((other, _)) = given.next() {
            return Err(format!("a limit counts one thing: `{unit}` or `{other}`, not both"));
        }
        if amount == 0 {
            return Err(format!("a limit of 0 {unit}: leave the model out instead"));
        }
        if (unit == "concurrent") == written.per.is_some() {
            return Err(format!("`{unit}`: every limit but `concurrent` needs `per`"));
        }
        if let Some(per) = written.per.as_deref().filter(|per| !is_period(per)) {
            return Err(format!(
                "`per = \"{per}\"`: minute, hour, day, week, month, or a number with s, m, h or d"
            ));
        }
        if let Some(window) = &written.window
            && !["rolling", "fixed", "calendar", "bucket", "session"].contains(&window.as_str())
        {
            return Err(format!("`window = \"{window}\"`: rolling, fixed, calendar, bucket or session"));
        }
        if (written.window.as_deref() == Some("calendar")) != written.time_zone.is_some() {
            return Err("`time_zone` belongs to `window = \"calendar\"`, and is needed there".to_owned());
        }
        if written.each_model && written.models.is_none() {
            return Err("`each_model` needs `models`".to_owned());
        }
        if let Some(glob) = &written.models {
            globset::Glob::new(glob).map_err(|error| error.to_string())?;
        }
        if !is_date(&written.source_date) {
            return Err(format!("`source_date = \"{}\"`: a day as in `2026-11-22`", written.source_date));
        }
        let limit = Limit {
            unit: unit.to_owned(),
            amount,
            per: written.per,
            models: written.models,
            window: written.window,
            time_zone: written.time_zone,
        };
        Ok(LimitGuess {
            limit,
            each_model: written.each_model,
            source_date: written.source_date,
            certainty: written.certainty,
        })
    }
}

/// A named period, or a whole number of seconds, minutes, hours or days (`5h`).
fn is_period(per: &str) -> bool {
    if ["minute", "hour", "day", "week", "month", "request"].contains(&per) {
        return true;
    }
    let number = per.strip_suffix(['s', 'm', 'h', 'd']).unwrap_or_default();
    !number.starts_with('0') && number.parse::<u32>().is_ok()
}
