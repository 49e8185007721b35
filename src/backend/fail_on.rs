//! What counts as failure in a group: one place for all of them. Pure.

use crate::config::settings::{FailOn, FailWord};
use crate::error::{ErrorKind, ProxyError, Retry};

impl FailOn {
    /// Whether this failure makes a request go to the next member; otherwise it is the answer.
    pub fn covers(&self, error: &ProxyError) -> bool {
        match self {
            FailOn::Default => error.retry != Retry::No,
            FailOn::These(words) => words.iter().any(|word| word.covers(error)),
        }
    }

    /// Whether an answer without any content is a failure. Only where it is named: `any` failure is not any answer.
    pub fn names_empty(&self) -> bool {
        matches!(self, FailOn::These(words) if words.contains(&FailWord::Empty))
    }
}

impl FailWord {
    fn covers(self, error: &ProxyError) -> bool {
        let status = error.upstream.as_ref().map(|answer| answer.status);
        match self {
            FailWord::Status(first, last) => status.is_some_and(|status| (first..=last).contains(&status)),
            FailWord::Timeout => error.kind == ErrorKind::Timeout,
            FailWord::Connect => error.kind == ErrorKind::Connect,
            FailWord::Truncated => error.kind == ErrorKind::Truncated,
            FailWord::Auth => error.kind == ErrorKind::UpstreamAuthentication,
            FailWord::Quota => {
                error.denial.is_some()
                    || error.refusal.is_some()
                    || status == Some(429)
                    || status == Some(402)
            }
            FailWord::Protocol => {
                matches!(error.kind, ErrorKind::UpstreamProtocol | ErrorKind::UpstreamInBand)
            }
            FailWord::Empty => error.kind == ErrorKind::EmptyAnswer,
            FailWord::Default => FailOn::Default.covers(error),
            FailWord::Any => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_the_errors_own_word_and_a_list_takes_its_place() {
        let (timeout, invalid) =
            (ProxyError::new(ErrorKind::Timeout, ""), ProxyError::new(ErrorKind::InvalidRequest, ""));
        assert!(FailOn::Default.covers(&timeout) && !FailOn::Default.covers(&invalid));
        let list = FailOn::These(vec![FailWord::Connect, FailWord::Status(500, 599)]);
        assert!(!list.covers(&timeout));
        assert!(list.covers(&ProxyError::new(ErrorKind::Connect, "")));
        assert!(FailOn::These(vec![FailWord::Any]).covers(&invalid));
        let added = FailOn::These(vec![FailWord::Default, FailWord::Empty]);
        assert!(added.covers(&timeout) && !added.covers(&invalid) && added.names_empty());
        assert!(!FailOn::Default.names_empty() && !FailOn::These(vec![FailWord::Any]).names_empty());
    }
}
