//! What became of a request at each member of a group, and the one error when none of them could answer it. Pure.

use std::sync::Arc;
use std::time::Duration;

use crate::error::{Attempt, Denial, ErrorKind, Fault, ProxyError};

/// More hops than this are not told one by one.
const MAX_HOPS: usize = 64;
/// The longest reason of one hop, in characters.
const MAX_REASON: usize = 300;

/// The hops of one request through one group, in their order.
#[derive(Debug, Default)]
pub(super) struct Trail {
    hops: Vec<Attempt>,
    /// What the first failure at fault with the request itself was.
    clients_fault: Option<ProxyError>,
    /// Somebody was at fault other than the request, or nothing is known.
    others_fault: bool,
    denial: Option<Denial>,
    soonest: Option<Duration>,
}

// === impl Trail ===

impl Trail {
    /// Forgets what stood in the way, before another round; the hops stay.
    pub(super) fn next_round(&mut self) {
        self.denial = None;
        self.soonest = None;
    }

    /// A member that cannot serve the request at all.
    pub(super) fn skipped(&mut self, member: &Arc<str>, reason: String) {
        self.hop(Attempt { backend: Arc::clone(member), label: "skipped", reason });
    }

    /// A member that failed or had no capacity.
    pub(super) fn failed(&mut self, member: &Arc<str>, error: &ProxyError) {
        for inner in &error.attempts {
            self.hop(inner.clone());
        }
        if error.attempts.is_empty() {
            let reason: String = error.message.chars().take(MAX_REASON).collect();
            self.hop(Attempt { backend: Arc::clone(member), label: error.kind.label(), reason });
        }
        let refused_for_quota = error.upstream.as_ref().is_some_and(|answer| answer.status == 429);
        if error.kind == ErrorKind::BreakerOpen {
            // It is sick, which is no matter of quota; but when it may be asked again is known.
            self.others_fault = true;
            self.soonest = self.soonest.into_iter().chain(error.retry_after).min();
        } else if error.denial.is_some() || refused_for_quota {
            let new = error.denial.unwrap_or_default();
            let known = self.denial.unwrap_or_default();
            self.denial = Some(Denial { full: known.full.max(new.full), probe: known.probe || new.probe });
            self.soonest = match (self.soonest, error.retry_after) {
                (Some(known), Some(new)) => Some(known.min(new)),
                (known, new) => known.or(new),
            };
        } else if error.fault == Fault::Client {
            self.clients_fault.get_or_insert_with(|| error.clone());
        } else {
            self.others_fault = true;
            self.soonest = self.soonest.into_iter().chain(error.retry_after).min();
        }
    }

    /// The hops so far.
    pub(super) fn hops(&self) -> &[Attempt] {
        &self.hops
    }

    /// The error when nobody could answer: 429 if quota was the reason anywhere, with the soonest moment that frees;
    /// the request's own fault if all that tried it said so; else 503. It lists each one's reason.
    pub(super) fn exhausted(&self, group: &str) -> ProxyError {
        if self.denial.is_none()
            && !self.others_fault
            && let Some(error) = &self.clients_fault
        {
            return ProxyError { attempts: self.hops.clone(), ..error.clone() };
        }
        let only_skips = self.denial.is_none() && !self.others_fault;
        let kind = if only_skips { ErrorKind::Unsupported } else { ErrorKind::Exhausted };
        let mut message = format!("no member of `{group}` could answer");
        for (index, hop) in self.hops.iter().enumerate() {
            let separator = if index == 0 { ": " } else { "; " };
            message.push_str(separator);
            if hop.reason.contains(&format!("`{}`", hop.backend)) {
                message.push_str(&hop.reason);
            } else {
                message.push_str(&format!("`{}`: {}", hop.backend, hop.reason));
            }
        }
        let mut error = ProxyError::new(kind, message);
        error.denial = self.denial;
        error.retry_after = self.soonest;
        error.attempts = self.hops.clone();
        error
    }

    fn hop(&mut self, hop: Attempt) {
        if self.hops.len() < MAX_HOPS {
            self.hops.push(hop);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str) -> Arc<str> {
        Arc::from(name)
    }

    fn denied(seconds: u64) -> ProxyError {
        let mut error = ProxyError::new(ErrorKind::QuotaExhausted, "20 requests per minute are used up");
        error.denial = Some(Denial::default());
        error.retry_after = Some(Duration::from_secs(seconds));
        error
    }

    #[test]
    fn quota_anywhere_makes_it_a_429_with_the_soonest_moment() {
        let mut trail = Trail::default();
        trail.failed(&member("a/m"), &ProxyError::new(ErrorKind::Connect, "refused"));
        trail.failed(&member("b/m"), &denied(40));
        trail.failed(&member("c/m"), &denied(12));
        let error = trail.exhausted("free");
        assert_eq!(error.kind, ErrorKind::Exhausted);
        assert_eq!(error.retry_after, Some(Duration::from_secs(12)));
        assert!(error.denial.is_some());
        let labels: Vec<_> = error.attempts.iter().map(|hop| (&*hop.backend, hop.label)).collect();
        assert_eq!(labels, [("a/m", "connect"), ("b/m", "quota_exhausted"), ("c/m", "quota_exhausted")]);
        assert!(error.message.starts_with("no member of `free` could answer: `a/m`: refused; `b/m`: 20 "));
    }

    #[test]
    fn without_quota_it_is_no_429() {
        let mut trail = Trail::default();
        trail.failed(&member("a/m"), &ProxyError::new(ErrorKind::Timeout, "slow"));
        let error = trail.exhausted("free");
        assert_eq!((error.kind, error.denial, error.retry_after), (ErrorKind::Exhausted, None, None));
    }

    #[test]
    fn what_a_sick_member_says_of_when_it_is_well_again_is_not_lost() {
        let mut trail = Trail::default();
        for seconds in [40, 30] {
            let mut sick = ProxyError::new(ErrorKind::UpstreamStatus, "the upstream answered 503");
            sick.retry_after = Some(Duration::from_secs(seconds));
            trail.failed(&member("a/m"), &sick);
        }
        let error = trail.exhausted("free");
        assert_eq!((error.denial, error.retry_after), (None, Some(Duration::from_secs(30))));
    }

    #[test]
    fn a_sick_member_makes_no_429() {
        let mut trail = Trail::default();
        let mut open = ProxyError::new(ErrorKind::BreakerOpen, "left alone");
        open.denial = Some(Denial::default());
        open.retry_after = Some(Duration::from_secs(4));
        trail.failed(&member("a/m"), &open);
        let error = trail.exhausted("free");
        assert_eq!((error.denial, error.retry_after), (None, Some(Duration::from_secs(4))));
    }

    #[test]
    fn what_every_member_calls_the_requests_fault_is_told_as_the_first_one_said_it() {
        let too_long = ProxyError {
            fault: Fault::Client,
            ..ProxyError::new(ErrorKind::UpstreamStatus, "maximum context length is 8192")
        };
        let mut trail = Trail::default();
        trail.skipped(&member("a/m"), "no tools".to_owned());
        trail.failed(&member("b/m"), &too_long);
        let error = trail.exhausted("free");
        assert_eq!(
            (error.kind, &*error.message),
            (ErrorKind::UpstreamStatus, "maximum context length is 8192")
        );
        assert_eq!(error.attempts.len(), 2);
        trail.failed(&member("c/m"), &denied(3));
        assert_eq!(trail.exhausted("free").kind, ErrorKind::Exhausted, "a 429 is not masked by a 400");
    }

    #[test]
    fn a_request_that_nobody_can_serve_is_the_clients_to_change() {
        let mut trail = Trail::default();
        trail.skipped(&member("a/m"), "no tools".to_owned());
        let error = trail.exhausted("free");
        assert_eq!(error.kind, ErrorKind::Unsupported);
        assert_eq!(error.message, "no member of `free` could answer: `a/m`: no tools");
    }

    #[test]
    fn hops_and_reasons_are_bounded() {
        let mut trail = Trail::default();
        for _ in 0..1000 {
            trail.failed(&member("a/m"), &ProxyError::new(ErrorKind::Connect, "x".repeat(10_000)));
        }
        assert!(trail.hops().len() == MAX_HOPS && trail.exhausted("g").message.len() < 64 * 400);
    }
}
