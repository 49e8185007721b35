//! What became of a request at each member of a group, and the one error when none of them could answer it. Pure.

use std::sync::Arc;
use std::time::Duration;

use crate::dialect::upstream_message;
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
    /// Somebody answered, but not enough did.
    answered: bool,
    denial: Option<Denial>,
    soonest: Option<Duration>,
    /// Somebody loads the model: so long it is worth waiting for.
    patience: Option<Duration>,
    /// Somebody may be starting.
    starting: bool,
}

// === impl Trail ===

impl Trail {
    /// Forgets what stood in the way, before another round; the hops stay.
    pub(super) fn next_round(&mut self) {
        self.denial = None;
        self.soonest = None;
        self.patience = None;
        self.starting = false;
    }

    /// A member that cannot serve the request at all.
    pub(super) fn skipped(&mut self, member: &Arc<str>, reason: String) {
        self.hop(Attempt { backend: Arc::clone(member), label: "skipped", reason });
    }

    /// A member that had not answered when another one did, or nobody would any more.
    pub(super) fn cancelled(&mut self, member: &Arc<str>) {
        let reason = "had not answered yet".to_owned();
        self.hop(Attempt { backend: Arc::clone(member), label: "cancelled", reason });
    }

    /// A member that answered, where more than one has to.
    pub(super) fn answered(&mut self, member: &Arc<str>) {
        self.answered = true;
        self.hop(Attempt { backend: Arc::clone(member), label: "answered", reason: "answered".to_owned() });
    }

    /// A member that failed or had no capacity.
    pub(super) fn failed(&mut self, member: &Arc<str>, error: &ProxyError) {
        for inner in &error.attempts {
            self.hop(inner.clone());
        }
        if error.attempts.is_empty() {
            let text = match accounts_word(error) {
                Some(word) if !error.message.contains(&word) => format!("{}: {word}", error.message),
                _ => error.message.clone(),
            };
            let reason: String = text.chars().take(MAX_REASON).collect();
            self.hop(Attempt { backend: Arc::clone(member), label: error.kind.label(), reason });
        }
        self.noted(error);
    }

    /// What a failure means for the whole, where it needs no hop of its own.
    pub(super) fn noted(&mut self, error: &ProxyError) {
        self.patience = self.patience.max(error.patience);
        self.starting |= error.starting;
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

    /// Whether quota was the reason anywhere.
    pub(super) fn is_denied(&self) -> bool {
        self.denial.is_some()
    }

    /// The hops so far.
    pub(super) fn hops(&self) -> &[Attempt] {
        &self.hops
    }

    /// The error when nobody could answer: 429 if quota was the reason anywhere, with the soonest moment that frees;
    /// the request's own fault if all that tried it said so; else 503. It lists each one's reason.
    pub(super) fn exhausted(&self, group: &str) -> ProxyError {
        self.told(&format!("no member of `{group}` could answer"))
    }

    /// The same where it begins with other words.
    pub(super) fn told(&self, head: &str) -> ProxyError {
        let no_fault_but_the_clients = self.denial.is_none() && !self.others_fault && !self.answered;
        if no_fault_but_the_clients && let Some(error) = &self.clients_fault {
            return ProxyError { attempts: self.hops.clone(), ..error.clone() };
        }
        let kind = if no_fault_but_the_clients { ErrorKind::Unsupported } else { ErrorKind::Exhausted };
        let mut message = head.to_owned();
        for (index, (hop, times)) in self.told_once().into_iter().enumerate() {
            let separator = if index == 0 { ": " } else { "; " };
            message.push_str(separator);
            if hop.reason.contains(&format!("`{}`", hop.backend)) {
                message.push_str(&hop.reason);
            } else {
                message.push_str(&format!("`{}`: {}", hop.backend, hop.reason));
            }
            if times > 1 {
                message.push_str(&format!(" ({times} times)"));
            }
        }
        let mut error = ProxyError::new(kind, message);
        error.denial = self.denial;
        error.retry_after = self.soonest;
        error.patience = self.patience;
        error.starting = self.starting;
        error.attempts = self.hops.clone();
        error
    }

    /// Each member once for each way in which it failed, with its last words and how often that was.
    fn told_once(&self) -> Vec<(&Attempt, usize)> {
        let mut told: Vec<(&Attempt, usize)> = Vec::new();
        for hop in &self.hops {
            let same = |(known, _): &&mut (&Attempt, usize)| {
                known.backend == hop.backend && known.label == hop.label
            };
            match told.iter_mut().find(same) {
                Some(known) => *known = (hop, known.1 + 1),
                None => told.push((hop, 1)),
            }
        }
        told
    }

    fn hop(&mut self, hop: Attempt) {
        if self.hops.len() < MAX_HOPS {
            self.hops.push(hop);
        }
    }
}

/// What an upstream said of the account or the model, in its own words. What it says of a request may quote it, and
/// goes to nobody but whoever asked that one upstream.
fn accounts_word(error: &ProxyError) -> Option<String> {
    let answer = error.upstream.as_ref()?;
    let is_about_account = error.kind == ErrorKind::UpstreamStatus
        && error.fault != Fault::Client
        && matches!(answer.status, 402 | 403 | 429);
    let quotes = ["moderation", "flagged"];
    let word = upstream_message(&answer.body).filter(|_| is_about_account)?;
    let low = word.to_ascii_lowercase();
    (!quotes.iter().any(|quote| low.contains(quote))).then_some(word)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::error::UpstreamAnswer;

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
    fn a_member_that_was_asked_again_is_told_once_with_how_often() {
        let mut trail = Trail::default();
        for _ in 0..3 {
            trail.failed(&member("a/m"), &ProxyError::new(ErrorKind::Connect, "connection refused"));
            trail.failed(&member("b/m"), &denied(9));
        }
        trail.failed(&member("a/m"), &ProxyError::new(ErrorKind::Timeout, "slow"));
        let error = trail.exhausted("g");
        assert_eq!(
            error.message,
            "no member of `g` could answer: `a/m`: connection refused (3 times); `b/m`: 20 requests per minute are \
             used up (3 times); `a/m`: slow"
        );
        assert_eq!(error.attempts.len(), 7, "every hop is there");
    }

    #[test]
    fn what_an_upstream_says_of_the_account_is_told_and_what_it_says_of_the_request_is_not() {
        let refused = |status: u16, body: &'static str, fault| {
            let upstream = UpstreamAnswer {
                status,
                body: Bytes::from_static(body.as_bytes()),
                headers: Vec::new(),
                retry_after: None,
            };
            let error = ProxyError::new(ErrorKind::UpstreamStatus, format!("the upstream answered {status}"));
            let mut trail = Trail::default();
            trail.failed(&member("a/m"), &ProxyError { fault, upstream: Some(Box::new(upstream)), ..error });
            trail.failed(&member("b/m"), &ProxyError::new(ErrorKind::Connect, "refused"));
            trail.exhausted("g").message
        };
        let told = refused(403, r#"{"error":"this model requires a subscription"}"#, Fault::Upstream);
        assert!(
            told.contains("`a/m`: the upstream answered 403: this model requires a subscription;"),
            "{told}"
        );
        let quoted = refused(400, r#"{"error":"cannot digest: my secret prompt"}"#, Fault::Client);
        assert!(quoted.contains("answered 400;"), "{quoted}");
        let flagged = refused(403, r#"{"error":"flagged: my secret prompt"}"#, Fault::Upstream);
        assert!(flagged.contains("answered 403;"), "{flagged}");
    }

    #[test]
    fn that_somebody_loads_or_starts_is_told_to_the_group_above() {
        let mut trail = Trail::default();
        let loading = ProxyError {
            patience: Some(Duration::from_secs(600)),
            ..ProxyError::new(ErrorKind::UpstreamStatus, "loading model")
        };
        trail.failed(&member("a/m"), &loading);
        trail.failed(
            &member("b/m"),
            &ProxyError { starting: true, ..ProxyError::new(ErrorKind::Connect, "x") },
        );
        let error = trail.exhausted("g");
        assert_eq!((error.patience, error.starting), (Some(Duration::from_secs(600)), true));
        trail.next_round();
        assert_eq!(trail.exhausted("g").patience, None);
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
