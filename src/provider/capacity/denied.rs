//! What is in the way of a request, as the error that its client or its group gets. Pure.

use std::time::Duration;

use crate::error::{Denial as Reason, ErrorKind, ProxyError};
use crate::quota::{Cause, Denial, Moment};

/// What a client that met a full provider is told to wait.
const OVERLOAD_RETRY: Duration = Duration::from_secs(1);

/// Whether a place is worth waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// For so long.
    Worth(Duration),
    /// As many wait as may.
    Crowded,
    /// It is not a place that is missing, or waiting is switched off.
    None,
}

/// The provider failed again and again.
pub(super) fn shut(id: &str, until: Moment, now: Moment) -> ProxyError {
    let text = format!("`{id}` failed again and again and is left alone for a moment");
    let mut error = ProxyError::new(ErrorKind::BreakerOpen, text).at(id);
    error.retry_after = Some(between(now, until));
    // Where nobody else can answer, it is tried all the same.
    error.denial = Some(Reason { probe: true, ..Reason::default() });
    error
}

/// A limit is in the way.
pub(super) fn denied(id: &str, denial: &Denial, now: Moment, patience: Patience) -> ProxyError {
    let limit = &denial.limit;
    let when = denial.until.map(|until| between(now, until));
    let (kind, text) = match denial.cause {
        Cause::Full if patience == Patience::Crowded => (
            ErrorKind::Overloaded,
            format!("`{id}` has no free place ({limit}), and as many wait as may (max_queue)"),
        ),
        Cause::Full => (ErrorKind::Overloaded, format!("`{id}` has no free place: {limit}")),
        Cause::NeverFits => (ErrorKind::Unsupported, format!("the request is too large for `{id}`: {limit}")),
        Cause::NoAllowance => {
            (ErrorKind::QuotaExhausted, format!("the key of `{id}` has no allowance for this model"))
        }
        Cause::Payment => (ErrorKind::QuotaExhausted, format!("`{id}` wants payment")),
        Cause::ModelGone => (ErrorKind::QuotaExhausted, format!("`{id}` no longer serves this model")),
        Cause::Overloaded => (ErrorKind::BreakerOpen, format!("`{id}` is overloaded and asked us to wait")),
        Cause::NotServed => (ErrorKind::QuotaExhausted, format!("`{id}` does not serve this model to us")),
        Cause::Cooldown => (ErrorKind::QuotaExhausted, format!("`{id}` asked us to wait")),
        Cause::Refused => (ErrorKind::QuotaExhausted, format!("`{id}` {limit}")),
        Cause::Window => match &denial.short {
            Some(short) => {
                let words = short.words(&format!("its {limit}"), "take", |tokens| tokens.to_string(), true);
                (ErrorKind::QuotaExhausted, format!("`{id}`: {words}"))
            }
            None => (ErrorKind::QuotaExhausted, format!("`{id}` has used up its {limit}")),
        },
    };
    // Of a guess nobody knows whether it is free then.
    let then = match denial.cause {
        Cause::Refused => "tried again",
        _ if denial.short.is_some() => "it may fit",
        _ => "free",
    };
    let text = match when.filter(|_| kind == ErrorKind::QuotaExhausted) {
        Some(wait) => format!("{text}; {then} in {} s", wait.as_secs() + u64::from(wait.subsec_nanos() > 0)),
        None => text,
    };
    let mut error = ProxyError::new(kind, text).at(id);
    if kind == ErrorKind::Unsupported {
        // What is only guessed to be too small may be tried, once nobody else can.
        error.denial = denial.probe.then_some(Reason { full: None, probe: true });
        return error;
    }
    error.retry_after = when.or((denial.cause == Cause::Full).then_some(OVERLOAD_RETRY));
    let full = match patience {
        Patience::Worth(patience) => Some(patience),
        Patience::Crowded | Patience::None => None,
    };
    error.denial = Some(Reason { full, probe: denial.probe });
    error
}

fn between(now: Moment, until: Moment) -> Duration {
    Duration::from_millis(u64::try_from(until.0.saturating_sub(now.0)).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quota::Short;

    fn denial(cause: Cause, until: Option<i64>) -> Denial {
        let limit = "5 requests per minute".to_owned();
        Denial { cause, until: until.map(Moment), limit, probe: false, short: None }
    }

    #[test]
    fn a_used_up_window_says_which_and_when_it_is_free() {
        let error = denied("a", &denial(Cause::Window, Some(2_500)), Moment(1_000), Patience::None);
        assert_eq!(error.kind, ErrorKind::QuotaExhausted);
        assert_eq!(error.message, "`a` has used up its 5 requests per minute; free in 2 s");
        assert_eq!(error.retry_after, Some(Duration::from_millis(1_500)));
        assert_eq!(error.denial, Some(Reason { full: None, probe: false }));
    }

    #[test]
    fn a_window_that_is_not_used_up_says_what_is_left_of_it_and_what_helps() {
        let text = |short: Short| {
            let denial = Denial { short: Some(short), ..denial(Cause::Window, Some(2_500)) };
            denied("a", &denial, Moment(1_000), Patience::None).message
        };
        let short = Short { takes: 90, prompt: 20, left: 60, bounded: false };
        let begin =
            "`a`: 60 of its 5 requests per minute are left, and the request is estimated to take 90; ";
        for (short, help) in [
            (short, "it names no max_tokens: set that to at most 40"),
            (Short { bounded: true, ..short }, "lower max_tokens to at most 40"),
            (Short { prompt: 60, ..short }, "shorten it"),
        ] {
            assert_eq!(text(short), format!("{begin}{help}; it may fit in 2 s"));
        }
        let reserved = Short { takes: 60, ..short };
        assert!(text(reserved).contains("is reserved for requests in flight"), "{}", text(reserved));
    }

    #[test]
    fn a_wait_that_is_a_guess_is_not_said_to_be_the_upstreams_word() {
        let mut refused = denial(Cause::Refused, Some(2_500));
        refused.limit = "refused a request without saying for how long".to_owned();
        let text = |denial: &Denial| denied("a", denial, Moment(1_000), Patience::None).message;
        assert_eq!(text(&refused), "`a` refused a request without saying for how long; tried again in 2 s");
        let told = denial(Cause::Cooldown, Some(2_500));
        assert_eq!(text(&told), "`a` asked us to wait; free in 2 s");
    }

    #[test]
    fn a_full_provider_is_worth_waiting_for_unless_too_many_do() {
        let patience = Duration::from_secs(30);
        let full = |patience| denied("a", &denial(Cause::Full, None), Moment(0), patience);
        assert_eq!(
            full(Patience::Worth(patience)).denial,
            Some(Reason { full: Some(patience), probe: false })
        );
        assert!(full(Patience::Crowded).message.contains("max_queue"));
        let off = full(Patience::None);
        assert_eq!(
            (off.retry_after, off.denial.and_then(|reason| reason.full)),
            (Some(OVERLOAD_RETRY), None)
        );
    }

    #[test]
    fn a_request_that_never_fits_is_no_matter_of_waiting() {
        let error = denied("a", &denial(Cause::NeverFits, None), Moment(0), Patience::None);
        assert_eq!((error.kind, error.denial, error.retry_after), (ErrorKind::Unsupported, None, None));
    }
}
