//! The way of one request through a panel.
//!
//! 1. How the members and the judge stand is looked at as a whole (`plan.rs`), and the judge's place is reserved
//!    (`assured.rs`); where it could come to nothing, nobody is asked. Only a panel that nobody above could replace goes on where `shrink` finds no quorum: what is in the way may be
//!    a guess, and admission, which costs nothing, knows better.
//! 2. Those with capacity are asked side by side. Each is held back after its admission until enough are admitted
//!    (`gate.rs`): several on one account could else be sent one after the other into a limit that holds only some of them.
//!    Where no quorum is admitted, or `refuse` finds one too few, all are given up, and nothing was sent. Who waits for a
//!    place alone is not waited for: it may be one that another one of them holds.
//! 3. They answer. Once the quorum has, the others have `grace` left, and in any case until `deadline`; then they are
//!    cancelled. Empty answers do not count. Below the quorum it is an error that says what became of each.
//! 4. One answer comes of them: by a rule, or the judge is asked (`judging.rs`).

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::{Instant, sleep, sleep_until};

use super::super::gate::Gatekeeper;
use super::super::group::Member;
use super::super::{Call, Reply};
use super::assured::{self, Assured, assured};
use super::combine::Combine;
use super::gathering::{Asking, Draft, Heard};
use super::judging::judged;
use super::plan::{OnQuota, Refusal, Standing, Start, plan};
use super::session::Session;
use super::standing;
use crate::error::{Denial, ErrorKind, ProxyError};

/// How long all are waited for to be admitted, so that they begin together; then those that are there go, if they are enough.
const ADMISSION: Duration = Duration::from_millis(100);

/// What a panel came to.
pub(super) enum Verdict {
    /// The judge answers.
    Judged {
        /// Its reply.
        reply: Box<Reply>,
        /// Its number in the tally.
        number: usize,
    },
    /// This member's answer it is.
    Chosen {
        /// The member.
        label: Arc<str>,
        /// Its answer.
        draft: Draft,
    },
}

/// Asks the panel.
///
/// # Errors
/// Why nobody could be asked, or nothing came of it.
pub(super) async fn consult(session: Arc<Session>) -> Result<Verdict, ProxyError> {
    let keeper = Gatekeeper::default();
    let panel = &session.panel;
    let before = match panel.needed_judge().filter(|_| !panel.shares && could_ask(&session)) {
        Some(judge) => assured(&session, judge, Instant::now() + panel.deadline).await,
        None => Ok(Assured::Not),
    };
    let began = Instant::now();
    let due = began + panel.deadline;
    ask_members(&session, &keeper, before.as_ref())?;
    let assured = admit(&session, &keeper, due, before.unwrap_or(Assured::Not)).await?;
    gather(&session, due).await;
    let answered = session.lock().answers.len();
    if answered < panel.quorum {
        let head = format!(
            "{answered} of {} members of `{}` answered, and {} must (its `quorum`)",
            panel.members.len(),
            panel.about.id,
            panel.quorum
        );
        return Err(session.failed("below_quorum", &head));
    }
    if panel.combine.asks_judge() {
        return judged(&session, &assured, began).await;
    }
    match session.chosen(panel.combine) {
        Some((label, draft)) => Ok(Verdict::Chosen { label, draft }),
        None => {
            let head = format!(
                "no answer of `{}` has a majority: {answered} answers differ too much",
                panel.about.id
            );
            Err(session.failed("no_majority", &head))
        }
    }
}

/// Whether the members, as they stand, are worth a judge.
fn could_ask(session: &Session) -> bool {
    let (panel, call) = (&session.panel, &session.call);
    let outlooks = panel.outlooks(call, &panel.calls(call));
    let members: Vec<Standing> = outlooks.iter().map(standing).collect();
    match plan(&members, None, panel.quorum, panel.on_quota) {
        Ok(_) => true,
        Err(Refusal::Member(..)) => panel.on_quota == OnQuota::Shrink && call.round.is_none(),
        Err(_) => false,
    }
}

/// Asks whoever it makes sense to ask; nothing is sent yet. `before`: how far the judge's place is reserved.
fn ask_members(
    session: &Session,
    keeper: &Gatekeeper,
    before: Result<&Assured, &ProxyError>,
) -> Result<(), ProxyError> {
    let (panel, call) = (&session.panel, &session.call);
    let calls = panel.calls(call);
    let outlooks = panel.outlooks(call, &calls);
    let members: Vec<Standing> = outlooks.iter().map(standing).collect();
    let mut inner = session.lock();
    for (member, outlook) in panel.members.iter().zip(&outlooks) {
        if let Err(reason) = outlook {
            inner.trail.skipped(&member.label, reason.clone());
        }
    }
    drop(inner);
    let judge = match before {
        Ok(Assured::Place(_) | Assured::Hope { .. }) => Some(Standing::Ready),
        Ok(Assured::Not) => judge_stands(session)?,
        Err(error) => Some(Standing::Lacks(session.moment_in(error.retry_after))),
    };
    let ready = match plan(&members, judge, panel.quorum, panel.on_quota) {
        Ok(ready) => ready,
        Err(Refusal::Unfit) => {
            let head =
                format!("`{}` needs {} members that can serve this request", panel.about.id, panel.quorum);
            return Err(session.failed("unfit", &head));
        }
        Err(Refusal::Member(..)) if panel.on_quota == OnQuota::Shrink && call.round.is_none() => {
            (0..members.len()).filter(|index| members.get(*index) != Some(&Standing::Unfit)).collect()
        }
        Err(refusal) => return Err(refused(session, &members, &calls, refusal)),
    };
    let mut inner = session.lock();
    for (index, mut own) in calls.into_iter().enumerate() {
        let Some(member) = panel.members.get(index) else { continue };
        if !ready.contains(&index) {
            if let Some(Standing::Lacks(until)) = members.get(index) {
                inner.failed(index, &member.label, &lacks(session, member, &own, *until));
            }
            continue;
        }
        let gate = keeper.gate();
        own.gate = Some(gate.clone());
        let number = inner.tally.asked(&member.label, "member");
        if let Some(known) = inner.numbers.get_mut(index) {
            *known = Some(number);
        }
        inner.gathering.ask(index, Arc::clone(&member.label), gate, ask(member, own));
    }
    Ok(())
}

/// Asks one backend. Where nobody above knows what a model is called there, the backend is asked for that, too.
pub(super) fn ask(member: &Member, call: Call) -> Asking {
    let backend = Arc::clone(&member.backend);
    async move {
        if call.round.is_some() {
            return backend.forward(call).await;
        }
        let model = backend.known_as(Arc::clone(&call.model)).await?;
        backend.forward(Call { model, ..call }).await
    }
    .boxed()
}

/// How the judge stands, if one is needed and nothing else can take its place.
fn judge_stands(session: &Session) -> Result<Option<Standing>, ProxyError> {
    let (panel, call) = (&session.panel, &session.call);
    let Some(judge) = panel.judge.as_ref().filter(|_| panel.combine.asks_judge()) else { return Ok(None) };
    let outlook = judge.backend.outlook(&panel.judge_call(call, Arc::clone(&call.request)));
    match (panel.judge_standing(&outlook), outlook) {
        _ if panel.fallback.is_some() => Ok(None),
        // It lacks a place alone, which may be one of the members'.
        (Standing::Lacks(_), _) if panel.shares && call.round.is_none() && is_full(session, judge) => {
            Ok(Some(Standing::Ready))
        }
        (Standing::Unfit, Err(reason)) => {
            session.lock().trail.skipped(&judge.label, reason);
            let head = format!("the judge of `{}` cannot serve this request", panel.about.id);
            Err(session.failed("unfit", &head))
        }
        (standing, _) => Ok(Some(standing)),
    }
}

fn is_full(session: &Session, judge: &Member) -> bool {
    let own = session.panel.judge_call(&session.call, Arc::clone(&session.call.request));
    let denial = judge.backend.ails(&own).and_then(|error| error.denial);
    denial.is_some_and(|denial| denial.full.is_some())
}

/// The error of a panel that is not asked because of its capacity, with the moment at which it would be.
fn refused(session: &Session, members: &[Standing], calls: &[Call], refusal: Refusal) -> ProxyError {
    let panel = &session.panel;
    let (binding, until) = match refusal {
        Refusal::Member(index, until) => (panel.members.get(index), until),
        Refusal::Judge(until) => (panel.judge.as_ref(), until),
        Refusal::Unfit => (None, None),
    };
    {
        let mut inner = session.lock();
        for (index, ((member, own), standing)) in panel.members.iter().zip(calls).zip(members).enumerate() {
            match standing {
                Standing::Unfit => {}
                Standing::Ready => {
                    inner.trail.skipped(&member.label, "could answer, and was not asked".to_owned());
                }
                Standing::Lacks(until) => {
                    inner.failed(index, &member.label, &lacks(session, member, own, *until));
                }
            }
        }
        if let (Refusal::Judge(_), Some(judge)) = (refusal, &panel.judge) {
            let own = panel.judge_call(&session.call, Arc::clone(&session.call.request));
            inner.trail.failed(&judge.label, &lacks(session, judge, &own, until));
        }
    }
    let name = binding.map_or("", |member| &member.label);
    // What cannot be reached does not lack quota.
    let denied = session.lock().trail.is_denied();
    let what = match (refusal, panel.on_quota, denied) {
        (Refusal::Judge(_), _, true) => "its judge has no capacity",
        (Refusal::Judge(_), _, false) => "its judge cannot be reached",
        (_, OnQuota::Refuse, true) => "its `on_quota` is \"refuse\", and not all members have capacity",
        (_, OnQuota::Refuse, false) => "its `on_quota` is \"refuse\", and not all members can be reached",
        (_, OnQuota::Shrink, true) => "no quorum of its members has capacity",
        (_, OnQuota::Shrink, false) => "no quorum of its members can be reached",
    };
    let head = format!("`{}` was not asked: {what}; it waits for `{name}`", panel.about.id);
    let mut error = session.failed("refused", &head);
    error.retry_after = session.time_until(until);
    error
}

/// What a member or a judge that was not asked would have failed with.
fn lacks(session: &Session, member: &Member, own: &Call, until: Option<i64>) -> ProxyError {
    member.backend.ails(own).unwrap_or_else(|| {
        let mut error = ProxyError::new(ErrorKind::QuotaExhausted, "has no capacity now");
        error.denial = Some(Denial::default());
        error.retry_after = session.time_until(until);
        error
    })
}

/// Waits until enough of those that are asked are admitted, and lets them go, or gives all of them up.
async fn admit(
    session: &Session,
    keeper: &Gatekeeper,
    due: Instant,
    before: Assured,
) -> Result<Assured, ProxyError> {
    if muster(session, keeper, due).await == Start::GiveUp {
        return Err(given_up(session, None));
    }
    let assured = match session.panel.needed_judge().filter(|_| session.panel.shares) {
        Some(judge) => {
            assured::shared(session, judge).map_err(|error| given_up(session, Some((judge, error))))?
        }
        None => before,
    };
    // A panel in a panel is admitted as one.
    if let Some(gate) = session.call.gate.clone()
        && !gate.pass().await
    {
        return Err(ProxyError::new(ErrorKind::Internal, "whoever asked is gone"));
    }
    keeper.open();
    Ok(assured)
}

/// Whether they are to be sent, once that is known.
async fn muster(session: &Session, keeper: &Gatekeeper, due: Instant) -> Start {
    let panel = &session.panel;
    let mut patience = pin!(sleep(ADMISSION));
    let mut timer = pin!(sleep_until(due));
    let mut patient = true;
    loop {
        let looked = poll_fn(|cx| {
            let muster = session.lock().gathering.muster(cx);
            if let Some(gate) = &session.call.gate {
                gate.waits(muster.coming == 0 && muster.queued > 0);
            }
            match muster.start(panel.quorum, panel.on_quota, patient) {
                Start::Wait => Poll::Pending,
                start => Poll::Ready(start),
            }
        });
        tokio::select! {
            biased;
            start = looked => return start,
            // Looks once more.
            () = keeper.progress() => {}
            () = &mut patience, if patient => patient = false,
            () = &mut timer => return Start::GiveUp,
        }
    }
}

/// Gives up all that are asked before anything was sent, for want of a quorum or for this judge's sake; the error says what
/// is in the way.
fn given_up(session: &Session, judge: Option<(&Member, ProxyError)>) -> ProxyError {
    let panel = &session.panel;
    let mut inner = session.lock();
    let denied = inner.gathering.failed().iter().any(|(_, error)| error.denial.is_some());
    let refused = denied && panel.on_quota == OnQuota::Refuse;
    let failed: Vec<(usize, ProxyError)> =
        inner.gathering.failed().into_iter().map(|(index, error)| (index, error.clone())).collect();
    for (index, error) in &failed {
        if let Some(member) = panel.members.get(*index) {
            inner.failed(*index, &member.label, error);
        }
    }
    let waiting = inner.gathering.waiting();
    let given_up = inner.gathering.give_up();
    for index in given_up.into_iter().filter(|index| failed.iter().all(|(other, _)| other != index)) {
        let Some(member) = panel.members.get(index) else { continue };
        if waiting.contains(&index) {
            inner.failed(index, &member.label, &not_admitted(panel.deadline, &panel.about.id));
        } else {
            inner.trail.skipped(&member.label, "could answer, and was not asked".to_owned());
        }
    }
    if let Some((judge, error)) = judge {
        inner.trail.failed(&judge.label, &error);
        drop(inner);
        let (id, label) = (&panel.about.id, &judge.label);
        let head = format!("`{id}` was not asked: its judge has no capacity; it waits for `{label}`");
        let mut failed = session.failed("refused", &head);
        failed.retry_after = error.retry_after;
        return failed;
    }
    drop(inner);
    let (outcome, what) = match (refused, denied) {
        (true, _) => ("refused", "its `on_quota` is \"refuse\", and not all members have capacity"),
        (_, true) => ("refused", "no quorum of its members has capacity"),
        (_, false) => ("below_quorum", "no quorum of its members can be reached"),
    };
    session.failed(outcome, &format!("`{}` was not asked: {what}", panel.about.id))
}

/// What stands for a member that was not admitted in time.
fn not_admitted(deadline: Duration, id: &str) -> ProxyError {
    ProxyError::new(ErrorKind::Timeout, format!("had no capacity within {deadline:?} (`deadline` of `{id}`)"))
}

/// Listens until more cannot or need not be waited for.
async fn gather(session: &Session, due: Instant) {
    let panel = &session.panel;
    let mut timer = pin!(sleep_until(due));
    let mut has_quorum = false;
    let late = loop {
        let heard = tokio::select! {
            biased;
            heard = poll_fn(|cx| session.lock().gathering.poll_heard(cx)) => heard,
            () = &mut timer => break true,
        };
        let mut inner = session.lock();
        let Some(heard) = heard else { break false };
        match heard {
            Heard::Said(member, text) => {
                inner.said(member, &text);
                continue;
            }
            Heard::Ended(member, result, usage) => {
                let Some(label) = panel.members.get(member).map(|member| &member.label) else { continue };
                if let Some(number) = inner.numbers.get(member).copied().flatten() {
                    inner.tally.used(number, usage);
                }
                match result {
                    Ok(draft) => inner.answered(member, label, draft),
                    Err(error) => inner.failed(member, label, &error),
                }
            }
        }
        let running = inner.gathering.members().filter(|(_, running)| *running).count();
        let answered = inner.answers.len();
        if answered + running < panel.quorum {
            break false;
        }
        if answered >= panel.quorum {
            if panel.combine.settled(&inner.texts(), answered + running) {
                break false;
            }
            if !has_quorum {
                has_quorum = true;
                timer.as_mut().reset(due.min(Instant::now() + panel.grace));
            }
        }
    };
    let overdue = late && Instant::now() >= due;
    let mut inner = session.lock();
    for index in inner.gathering.give_up() {
        let Some(label) = panel.members.get(index).map(|member| &member.label) else { continue };
        if overdue {
            let text =
                format!("did not answer within {:?} (`deadline` of `{}`)", panel.deadline, panel.about.id);
            inner.failed(index, label, &ProxyError::new(ErrorKind::Timeout, text));
        } else {
            inner.cancelled(index, label);
        }
    }
}

// === impl Session ===

impl Session {
    /// The answer that a rule finds, and whose it is.
    pub(super) fn chosen(&self, rule: Combine) -> Option<(Arc<str>, Draft)> {
        let inner = self.lock();
        let (member, draft) = inner.answers.get(rule.choose(&inner.texts())?)?;
        Some((Arc::clone(&self.panel.members.get(*member)?.label), draft.clone()))
    }
}
