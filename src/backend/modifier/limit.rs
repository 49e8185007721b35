//! `limit`: how much of one backend each client may have, and who answers beyond that. Limits are the user's own, so that
//! they are hard; counting them is the tally's affair.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use http::header::HeaderName;

use super::super::explain::Decision;
use super::super::group::Member;
use super::super::opened::close_by;
use super::super::tally::{Tally, Ticket, Words};
use super::super::virtual_model::Below;
use super::super::{Call, Outlook, Reply};
use super::{Modifier, Wrapped, explain};
use crate::backend::size::Size;
use crate::backend::strategy::Availability;
use crate::error::{Attempt, ProxyError};
use crate::quota::{Cause, Denial};

/// Who has a limit for himself.
#[derive(Debug, Clone, PartialEq)]
pub enum By {
    /// Each client, by the name of its key; all who need none share one.
    Client,
    /// All together.
    Group,
    /// Each value of a header; all who send none share one.
    Header(HeaderName),
}

/// Who has a limit, in a bucket's name.
const NOBODY: &str = "anonymous";
const EVERYBODY: &str = "all";

/// The backend.
pub struct Limited {
    /// Whom it hands requests to.
    pub wrapped: Wrapped,
    /// Who answers what is beyond a limit. `None`: nobody, it is refused.
    pub overflow: Option<Member>,
    /// Who has a limit for himself.
    pub by: By,
    /// What is used of them.
    pub tally: Arc<Tally>,
}

// === impl By ===

impl By {
    /// The bucket in which a call is counted.
    pub fn bucket<'c>(&self, call: &'c Call) -> &'c str {
        match self {
            By::Client => call.client.as_deref().unwrap_or(NOBODY),
            By::Group => EVERYBODY,
            By::Header(name) => {
                let headers = call.arrival.as_deref().map(|arrival| &arrival.headers);
                let value = headers.and_then(|headers| {
                    let (_, value) = headers.iter().find(|(given, _)| given == name)?;
                    value.to_str().ok().map(str::trim).filter(|value| !value.is_empty())
                });
                value.unwrap_or(NOBODY)
            }
        }
    }

    /// As the configuration writes it.
    pub fn word(&self) -> String {
        match self {
            By::Client => "client".to_owned(),
            By::Group => "group".to_owned(),
            By::Header(name) => format!("header:{name}"),
        }
    }

    /// Whose bucket it is, for people.
    pub fn who(&self, tally: &Tally, bucket: &str, group: &str) -> String {
        let shown: String = bucket.chars().take(64).collect();
        let who = match self {
            By::Client if bucket == NOBODY => "everybody without a key".to_owned(),
            By::Client => format!("client `{shown}`"),
            By::Group => format!("group `{group}`"),
            By::Header(name) if bucket == NOBODY => format!("everybody without `{name}`"),
            By::Header(name) => format!("`{name}: {shown}`"),
        };
        // Its own count may be nothing.
        if tally.is_crowded_out(bucket) { format!("{who}, counted together with others,") } else { who }
    }

    /// Whether it needs to know how a request came in.
    pub fn reads_arrival(&self) -> bool {
        matches!(self, By::Header(_))
    }
}

// === impl Limited ===

impl Limited {
    fn admit(&self, call: &Call) -> Result<Ticket, Denial> {
        let model = Arc::from(call.request.model.as_str());
        self.tally.admit(self.by.bucket(call), &model, Size::of(&call.request), |need| need)
    }

    fn check(&self, call: &Call) -> Result<f64, Denial> {
        let (size, at) = (Size::of(&call.request), call.moment());
        self.tally.check(self.by.bucket(call), &call.request.model, size, at, |need| need)
    }

    fn refuse(&self, call: &Call, denial: &Denial) -> ProxyError {
        let id = &self.wrapped.about.id;
        let who = self.by.who(&self.tally, self.by.bucket(call), id);
        let whose = format!("`limits` of group `{id}`");
        let now = call.moment().unwrap_or_else(|| self.tally.now());
        Words { who: &who, whose: &whose, limit: None, money: false }.refuse(denial, now)
    }
}

impl Modifier for Limited {
    fn wrapped(&self) -> &Wrapped {
        &self.wrapped
    }

    fn forward(self: Arc<Self>, call: Call) -> BoxFuture<'static, Result<Reply, ProxyError>> {
        match self.admit(&call) {
            Ok(ticket) => {
                self.wrapped.acted(&call, "passed");
                close_by(ticket, call, |call| self.wrapped.inner.ask(&call))
            }
            Err(denial) => {
                let refusal = self.refuse(&call, &denial);
                turned_away(&self.wrapped, self.overflow.as_ref(), &call, refusal)
            }
        }
    }

    fn outlook(&self, call: &Call) -> Result<Outlook, String> {
        let inner = self.wrapped.inner.outlook(call);
        beyond(inner, self.check(call), self.overflow.as_ref(), call)
    }

    fn ails(&self, call: &Call) -> Option<ProxyError> {
        let refused = self.check(call).err().map(|denial| self.refuse(call, &denial));
        ails(&self.wrapped, self.overflow.as_ref(), call, refused)
    }

    fn standing(&self, call: &Call) -> Option<Outlook> {
        let inner = self.wrapped.inner.standing(call)?;
        Some(bounded(inner, self.check(call)))
    }

    fn below(&self, asked: &str) -> Vec<Below<'_>> {
        [&self.wrapped.inner].into_iter().chain(&self.overflow).map(|member| member.below(asked)).collect()
    }

    fn reads_arrival(&self) -> bool {
        self.by.reads_arrival()
    }

    fn decide(&self, call: &Call) -> Decision<'_> {
        let (bucket, model, size) = (self.by.bucket(call), &call.request.model, Size::of(&call.request));
        let (limits, (prompt, answer)) = self.tally.stands(bucket, model, size, call.moment(), |need| need);
        let who = self.by.who(&self.tally, bucket, &self.wrapped.about.id);
        let mut why = explain::standing(&who, &limits, model, |amount| amount.to_string());
        why.push(format!("estimated at {prompt} tokens for the prompt and {answer} for the answer"));
        let refusal = self.check(call).err().map(|denial| (self.refuse(call, &denial), denial.until));
        explain::limited(&self.wrapped, self.overflow.as_ref(), call, why, refusal)
    }
}

/// Why one that refuses a call so, or hands it to the overflow, cannot serve it now.
pub(super) fn ails(
    wrapped: &Wrapped,
    overflow: Option<&Member>,
    call: &Call,
    refused: Option<ProxyError>,
) -> Option<ProxyError> {
    match (refused, overflow) {
        (None, _) => wrapped.inner.ails(call),
        (Some(_), Some(overflow)) => overflow.ails(call),
        (refused, None) => refused,
    }
}

/// Hands a call that is beyond a limit to the overflow, if there is one; else it is refused.
pub(super) fn turned_away(
    wrapped: &Wrapped,
    overflow: Option<&Member>,
    call: &Call,
    refusal: ProxyError,
) -> BoxFuture<'static, Result<Reply, ProxyError>> {
    match overflow {
        Some(to) => {
            wrapped.acted(call, "overflowed");
            overflowed(to, call, &wrapped.about.id, refusal)
        }
        None => {
            wrapped.acted(call, "refused");
            ready(Err(refusal)).boxed()
        }
    }
}

/// Hands a call on that is beyond a limit; the answer says so.
fn overflowed(
    to: &Member,
    call: &Call,
    id: &Arc<str>,
    refusal: ProxyError,
) -> BoxFuture<'static, Result<Reply, ProxyError>> {
    let label = explain::hop_label(refusal.kind);
    let hop = Attempt { backend: Arc::clone(id), label, reason: refusal.message };
    let (asked, label) = (to.ask(call), Arc::clone(&to.label));
    async move {
        match asked.await {
            Ok(mut reply) => {
                reply.served.attempts.insert(0, hop);
                Ok(reply)
            }
            Err(mut error) => {
                if error.attempts.is_empty() {
                    let reason = error.message.clone();
                    error.attempts.push(Attempt { backend: label, label: error.kind.label(), reason });
                }
                error.attempts.insert(0, hop);
                Err(error)
            }
        }
    }
    .boxed()
}

/// How one stands that hands on what is beyond a limit.
pub(super) fn beyond(
    inner: Result<Outlook, String>,
    checked: Result<f64, Denial>,
    overflow: Option<&Member>,
    call: &Call,
) -> Result<Outlook, String> {
    match (overflow, &checked) {
        (Some(overflow), Err(_)) => overflow.outlook(call),
        (None, Err(Denial { cause: Cause::NeverFits, limit, .. })) => {
            Err(format!("is too large for {limit}"))
        }
        _ => Ok(bounded(inner?, checked)),
    }
}

/// How a backend stands under a limit of ours.
pub(super) fn bounded(inner: Outlook, checked: Result<f64, Denial>) -> Outlook {
    match checked {
        Ok(share) => Outlook { share_left: inner.share_left.min(share), ..inner },
        Err(denial) => {
            let until = denial.until.map(|until| until.0);
            let availability = match inner.availability {
                Availability::At(known) => Availability::At(known.max(until)),
                Availability::Never => Availability::Never,
                Availability::Now => Availability::At(until),
            };
            Outlook { availability, share_left: 0.0, ..inner }
        }
    }
}

#[cfg(test)]
mod tests;
