//! A limit of a client's as the error that it gets. Pure.

use std::time::Duration;

use super::super::modifier::price::dollars;
use crate::error::{Denial as Reason, ErrorKind, ProxyError};
use crate::quota::{Cause, Denial, Moment};

/// After so long a place may be free.
const PLACE: Duration = Duration::from_secs(1);

/// Whose limit it is, in words.
pub struct Words<'a> {
    /// Who is refused: "client `ide`".
    pub who: &'a str,
    /// Whose limit it is: "`limits` of group `team`".
    pub whose: &'a str,
    /// The limit, where the ledger's own words are not those of its unit.
    pub limit: Option<String>,
    /// It is counted in nano-dollars.
    pub money: bool,
}

/// The error of a client that is beyond the limits of its own key.
pub fn key_refused(id: &str, denial: &Denial, now: Moment) -> ProxyError {
    let (who, whose) = (format!("client `{id}`"), format!("`limits` of keys.{id}"));
    Words { who: &who, whose: &whose, limit: None, money: false }.refuse(denial, now)
}

// === impl Words ===

impl Words<'_> {
    /// The error: 429 with the moment that frees it, or 400 for a request that can never be.
    pub fn refuse(&self, denial: &Denial, now: Moment) -> ProxyError {
        let Words { who, whose, limit, money } = self;
        let limit = limit.as_deref().unwrap_or(&denial.limit);
        let wait = denial
            .until
            .map(|until| Duration::from_millis(u64::try_from(until.0.saturating_sub(now.0)).unwrap_or(0)));
        let (kind, text) = match denial.cause {
            Cause::NeverFits => {
                (ErrorKind::Unsupported, format!("the request is too large for {who}: {limit} ({whose})"))
            }
            Cause::Full => (ErrorKind::Overloaded, format!("{who} has {limit} already ({whose})")),
            _ => match &denial.short {
                Some(short) => {
                    let limit = format!("{limit} ({whose})");
                    let words = match money {
                        true => short.words(&limit, "cost", |amount| format!("${}", dollars(amount)), false),
                        false => short.words(&limit, "take", |tokens| tokens.to_string(), true),
                    };
                    (ErrorKind::QuotaExhausted, format!("{who}: {words}"))
                }
                None => (ErrorKind::QuotaExhausted, format!("{who} has used up {limit} ({whose})")),
            },
        };
        let then = if denial.short.is_some() { "it may fit" } else { "it frees" };
        let text = match wait.filter(|_| kind == ErrorKind::QuotaExhausted) {
            Some(wait) => {
                format!("{text}; {then} in {} s", wait.as_secs() + u64::from(wait.subsec_nanos() > 0))
            }
            None => text,
        };
        let mut error = ProxyError::new(kind, text);
        if kind != ErrorKind::Unsupported {
            error.retry_after = wait.or((kind == ErrorKind::Overloaded).then_some(PLACE));
            error.denial = Some(Reason::default());
        }
        error
    }
}
