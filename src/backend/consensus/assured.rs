//! The judge's place, before anybody is asked: several requests could else spend their members' quota for a judge that has
//! room for one of them. What is reserved is held until the judge is asked, which takes it over (`Call::place`), or the
//! request ends; it is as large as the request, and grows by the answers when the judge is asked.
//!
//! A judge on an account of its own is waited for before the members are asked, who then hold nothing yet: for a place, or
//! for the moment when a limit frees, if both are within `deadline`. Such a moment is the hope of one request at a time; the
//! others wait for their turn. A judge on the account of a member is asked for its place when the members have theirs, and
//! not waited for: it could be one of theirs.

use std::sync::Arc;

use tokio::sync::OwnedMutexGuard;
use tokio::time::{Instant, timeout_at};

use super::super::group::Member;
use super::super::waiter::Waiter;
use super::session::Session;
use crate::error::{Denial, ProxyError};

/// How sure it is that the judge will have capacity when it is asked.
pub(super) enum Assured {
    /// It is reserved.
    Place(Arc<Waiter>),
    /// It will have some in time, and no other request of this panel counts on that.
    Hope {
        /// Held as long as it does.
        _turn: OwnedMutexGuard<()>,
    },
    /// Nothing is known but how it stands.
    Not,
}

/// What is to be done where the judge has no capacity now.
enum Next {
    /// It may have a place soon.
    Queue(Instant),
    /// It will have capacity then.
    Moment,
    /// Nothing is worth waiting for.
    Refuse,
    /// Only guesses are in the way.
    Try,
}

/// Reserves the judge's place, or waits for it.
///
/// # Errors
/// What is in the way, where that takes longer than a request may.
pub(super) async fn assured(session: &Session, judge: &Member, due: Instant) -> Result<Assured, ProxyError> {
    let panel = &session.panel;
    let own = panel.judge_call(&session.call, Arc::clone(&session.call.request));
    let place = Arc::new(Waiter::default());
    let mut turn: Option<OwnedMutexGuard<()>> = None;
    let mut patience: Option<Instant> = None;
    // Whoever is above has others to ask.
    let waits = session.call.round.is_none();
    loop {
        let error = match judge.backend.reserve(&own, &place) {
            None => return Ok(Assured::Not),
            Some(Ok(())) => return Ok(Assured::Place(place)),
            Some(Err(error)) => error,
        };
        match next(&error, due) {
            Next::Try => return Ok(Assured::Not),
            Next::Refuse => return Err(error),
            Next::Queue(_) if !waits => return Err(error),
            Next::Queue(until) => {
                let until = *patience.get_or_insert(until);
                if let Some(gate) = &session.call.gate {
                    gate.waits(true);
                }
                if timeout_at(until, place.woken()).await.is_err() {
                    return Err(error);
                }
            }
            Next::Moment => match turn.take() {
                Some(_turn) => return Ok(Assured::Hope { _turn }),
                None if waits => {
                    let next = timeout_at(due, Arc::clone(&panel.hope).lock_owned());
                    turn = Some(next.await.map_err(|_| error)?);
                }
                None => turn = Some(Arc::clone(&panel.hope).try_lock_owned().map_err(|_| error)?),
            },
        }
    }
}

/// Reserves a place at a judge whose account members share, if it has one now.
///
/// # Errors
/// What is in the way, if that is no place that others hold and no matter of a moment.
pub(super) fn shared(session: &Session, judge: &Member) -> Result<Assured, ProxyError> {
    let panel = &session.panel;
    let own = panel.judge_call(&session.call, Arc::clone(&session.call.request));
    let place = Arc::new(Waiter::default());
    match judge.backend.reserve(&own, &place) {
        None => Ok(Assured::Not),
        Some(Ok(())) => Ok(Assured::Place(place)),
        Some(Err(error)) => match next(&error, Instant::now() + panel.deadline) {
            Next::Refuse => Err(error),
            Next::Queue(_) | Next::Moment | Next::Try => Ok(Assured::Not),
        },
    }
}

fn next(error: &ProxyError, due: Instant) -> Next {
    let now = Instant::now();
    match error.denial {
        Some(Denial { full: Some(patience), .. }) => Next::Queue(due.min(now + patience)),
        Some(Denial { probe: true, .. }) => Next::Try,
        Some(_) if error.retry_after.is_some_and(|wait| now + wait <= due) => Next::Moment,
        _ => Next::Refuse,
    }
}
