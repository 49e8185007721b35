//! What modifiers say of themselves in explanations: whom they hand a call on to, and how limits stand. Nothing is
//! counted, written or sent.

use super::super::explain::{Decision, Own, Turn, Way, moment};
use super::super::group::Member;
use super::super::tally::left_of;
use super::Wrapped;
use crate::backend::Call;
use crate::error::{ErrorKind, ProxyError};
use crate::quota::{LimitView, Moment};

/// A call that is handed on to one of these, as it would get it; the others are there for other calls.
pub(super) fn handed_on<'a>(
    to: &'a Member,
    members: impl IntoIterator<Item = &'a Member>,
    call: &Call,
    why: Vec<String>,
) -> Decision<'a> {
    let own = (!to.takes(&call.model)).then(|| Own::cannot(to.is_another(&call.model)));
    let ways = members.into_iter().map(|member| {
        let taken = std::ptr::eq(member, to) && own.is_none();
        way(member, call, if taken { Turn::Asked(1) } else { Turn::Passed })
    });
    let ways = ways.collect();
    Decision::handing_on(why, ways, own)
}

/// A call that is answered or refused without any of those below.
pub(super) fn kept<'a>(
    members: impl IntoIterator<Item = &'a Member>,
    call: &Call,
    why: Vec<String>,
    own: Own,
) -> Decision<'a> {
    let ways = members.into_iter().map(|member| way(member, call, Turn::Passed)).collect();
    Decision::handing_on(why, ways, Some(own))
}

fn way<'a>(member: &'a Member, call: &Call, turn: Turn) -> Way<'a> {
    Way {
        label: &member.label,
        backend: &*member.backend,
        call: member.call(call, call.round.clone()),
        turn,
        why: None,
        conditions: Vec::new(),
    }
}

/// A call to one that counts: within its limits the wrapped backend gets it, beyond them the overflow, if there is one.
pub(super) fn limited<'a>(
    wrapped: &'a Wrapped,
    overflow: Option<&'a Member>,
    call: &Call,
    why: Vec<String>,
    refusal: Option<(ProxyError, Option<Moment>)>,
) -> Decision<'a> {
    let members = || [&wrapped.inner].into_iter().chain(overflow);
    let mut why = why;
    let Some((error, until)) = refusal else {
        why.push("this request is within them".to_owned());
        return handed_on(&wrapped.inner, members(), call, why);
    };
    let Some(overflow) = overflow else {
        return kept(members(), call, why, Own::fails(error, until.map(|until| until.0)));
    };
    let until = until.map_or_else(String::new, |until| format!(", until {}", moment(until.0)));
    why.push(format!("{}{until}: its overflow answers", error.message));
    let hop = Some(hop_label(error.kind));
    Decision { hop, ..handed_on(overflow, members(), call, why) }
}

/// As `x-demuxai-attempts` tells of one that turned a call away.
pub(super) fn hop_label(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Unsupported => "skipped",
        kind => kind.label(),
    }
}

/// How limits stand for a request of this model, a sentence each; `amount` writes what is left of what.
pub(super) fn standing(
    who: &str,
    limits: &[LimitView],
    model: &str,
    amount: impl Fn(u64) -> String,
) -> Vec<String> {
    let applies = |view: &&LimitView| view.model.as_deref().is_none_or(|own| own == model);
    let told = limits.iter().filter(applies).map(|view| format!("{who}: {}", left_of(view, &amount)));
    told.collect()
}
