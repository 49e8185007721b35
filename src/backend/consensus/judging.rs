//! The judge's part: it is asked for the final answer, or which of the members' it is. What the members said commits it to
//! nothing: as a group it fails over until its own first word. Where it fails, `fallback` may take its place.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::super::emptiness::refuse_empty;
use super::super::group::Member;
use super::super::strategy::Availability;
use super::super::{Call, Reply, ReplyBody};
use super::assured::Assured;
use super::combine::{Combine, choice};
use super::consult::{Verdict, ask};
use super::frame::{CHOOSE, WRITE, text, unused};
use super::session::Session;
use crate::dialect::{Request, Usage, said_whole};
use crate::error::{ErrorKind, Fault, ProxyError};

/// What lies between the two looks at whether the judge has capacity in time, at most.
const LEEWAY: Duration = Duration::from_secs(1);

/// Asks the judge. `assured`: what is reserved for it; `began`: when the members were asked.
///
/// # Errors
/// Why it failed, where nothing takes its place.
pub(super) async fn judged(
    session: &Arc<Session>,
    assured: &Assured,
    began: Instant,
) -> Result<Verdict, ProxyError> {
    let panel = &session.panel;
    // The check of the configuration sees to it that there is one.
    let no_judge = || ProxyError::new(ErrorKind::Internal, format!("`{}` has no judge", panel.about.id));
    let judge = panel.judge.as_ref().ok_or_else(no_judge)?;
    let number = session.lock().tally.asked(&judge.label, "judge");
    let answered = match panel.combine {
        Combine::Best => chooses(session, judge, number, (assured, began)).await,
        _ => writes(session, judge, number, (assured, began)).await,
    };
    let error = match answered {
        Ok(verdict) => return Ok(verdict),
        Err(error) => error,
    };
    {
        let mut inner = session.lock();
        inner.trail.failed(&judge.label, &error);
        inner.tally.ended(number, "failed");
        inner.outcome = "judge_failed";
    }
    let Some((rule, (label, draft))) = panel.fallback.and_then(|rule| Some((rule, session.chosen(rule)?)))
    else {
        return Err(failed(session, judge, error));
    };
    let mut inner = session.lock();
    inner.outcome = "fallback";
    inner.remark(&format!(
        "[the judge {} failed: {}; the {} answer takes its place, that of {label}]\n\n",
        judge.label,
        error.kind.label(),
        rule.word()
    ));
    Ok(Verdict::Chosen { label, draft })
}

/// What the judge is asked.
fn question(session: &Session, to: Request, instruction: &str) -> Request {
    let inner = session.lock();
    let answers = inner.texts();
    let mark = unused(&answers, || uuid::Uuid::new_v4().simple().to_string());
    let instruction = session.panel.prompt.as_deref().unwrap_or(instruction);
    to.with_last_word(&text(instruction, &answers, &mark))
}

async fn writes(
    session: &Session,
    judge: &Member,
    number: usize,
    capacity: (&Assured, Instant),
) -> Result<Verdict, ProxyError> {
    let request = question(session, (*session.call.request).clone(), WRITE);
    let call = in_time(session, judge, request, capacity).await;
    let reply = refuse_empty(ask(judge, call).await?).await?;
    if let ReplyBody::Whole { usage, .. } = &reply.body {
        answered(session, number, *usage);
    }
    Ok(Verdict::Judged { reply: Box::new(reply), number })
}

async fn chooses(
    session: &Session,
    judge: &Member,
    number: usize,
    capacity: (&Assured, Instant),
) -> Result<Verdict, ProxyError> {
    let request = question(session, session.call.request.bare(), CHOOSE);
    let call = in_time(session, judge, request, capacity).await;
    let Reply { body: ReplyBody::Whole { bytes, usage }, .. } = ask(judge, call).await? else {
        return Err(ProxyError::new(
            ErrorKind::Internal,
            "answered a request for a whole answer with a stream",
        ));
    };
    answered(session, number, usage);
    let inner = session.lock();
    let chosen = choice(&said_whole(&bytes).text, inner.answers.len());
    let chosen = chosen.and_then(|index| inner.answers.get(index)).and_then(|(member, draft)| {
        Some(Verdict::Chosen {
            label: Arc::clone(&session.panel.members.get(*member)?.label),
            draft: draft.clone(),
        })
    });
    chosen.ok_or_else(|| {
        ProxyError::new(
            ErrorKind::UpstreamProtocol,
            "named none of the answers, though it was asked for a number",
        )
    })
}

/// The judge's call, with what is reserved for it. Else its capacity is waited for, if it has it in the time for which the
/// panel was asked all the same.
async fn in_time(
    session: &Session,
    judge: &Member,
    request: Request,
    (assured, began): (&Assured, Instant),
) -> Call {
    let call = session.panel.judge_call(&session.call, Arc::new(request));
    if let Assured::Place(place) = assured {
        return Call { place: Some(Arc::clone(place)), ..call };
    }
    if let Ok(Availability::At(until)) = judge.backend.outlook(&call).map(|outlook| outlook.availability) {
        let left = session.panel.deadline.saturating_add(LEEWAY).saturating_sub(began.elapsed());
        if let Some(wait) = session.time_until(until).filter(|wait| *wait <= left) {
            sleep(wait).await;
        }
    }
    call
}

fn answered(session: &Session, number: usize, usage: Usage) {
    let mut inner = session.lock();
    inner.tally.used(number, usage);
    inner.tally.ended(number, "answered");
}

/// The judge's error as that of the panel: what became of the members is part of it.
fn failed(session: &Session, judge: &Member, error: ProxyError) -> ProxyError {
    let attempts = session.lock().trail.hops().to_vec();
    if error.fault == Fault::Client {
        return ProxyError { attempts, ..error };
    }
    let text = format!(
        "the members of `{}` answered, but its judge failed: `{}`: {}",
        session.panel.about.id, judge.label, error.message
    );
    let mut failed = ProxyError::new(ErrorKind::Exhausted, text).with_code("judge_failed");
    failed.denial = error.denial;
    failed.retry_after = error.retry_after;
    failed.attempts = attempts;
    failed
}
