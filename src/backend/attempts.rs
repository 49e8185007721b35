//! The one loop of retry and failover: a request goes from member to member of a group until one answers, in rounds,
//! and waits between rounds where that can help. What counts as failure and where it may go is the error's own word
//! (`error.rs`) and the group's `fail_on`; which member is next, the strategy's.
//!
//! 1. First round: every member that can serve the request, in the strategy's order; guesses at limits hold, nobody
//!    waits. A member without capacity, or whose breaker is open, is passed over; nothing is sent to it.
//! 2. Nobody could: once more at once, now with guesses probed and a place in the queue of every full member.
//! 3. Still nobody: wait for what comes first, a freed place, a backoff before a retry of a member that failed for a
//!    moment, or the moment a limit frees (within two seconds, or what `on_exhausted` allows); then another round.
//! 4. Nothing is worth waiting for: one last round, in which room that is only reserved is tried, too.
//!
//! A group inside a group makes one round for each of the outer one and leaves the waiting to it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::TryFutureExt;
use futures_util::future::BoxFuture;

use super::emptiness::{refuse_empty, refuse_mute};
use super::group::{Group, Member};
use super::race;
use super::resume::Resume;
use super::strategy::{Availability, MemberView, available_first};
use super::trail::Trail;
use super::waiter::Waiter;
use super::{Call, Guesses, LOADING_PAUSE, Outlook, Reply, ReplyBody, Round};
use crate::error::{ErrorKind, ProxyError, Retry};
use crate::metrics::events::FailedOver;

/// The same member is sent a request again at most so often, and not before this (doubled each time, with jitter).
const MOST_RETRIES: u32 = 2;
const FIRST_BACKOFF: Duration = Duration::from_millis(250);
/// A member that asks for more patience than this is not retried, but waited for if the group waits.
const LONGEST_BACKOFF: Duration = Duration::from_secs(2);
/// Limits are thought to free this much later than they may, as a request takes its time on the way: what misses the end
/// of a wait by no more is waited for.
const GRACE: Duration = Duration::from_millis(250);
/// Rounds are bounded whatever members say; with the shortest wait between them this is far beyond every deadline.
const MOST_ROUNDS: u32 = 10_000;
/// No wait between rounds is shorter, so that a member that names moments in the past is not asked in a circle.
const SHORTEST_WAIT: Duration = Duration::from_millis(20);

/// One request on its way through one group.
pub(super) struct Walk<'g> {
    pub(super) group: &'g Group,
    pub(super) call: Call,
    /// The call as each member gets it.
    calls: Vec<Call>,
    stands: Vec<Stand>,
    /// In which order members are asked; the strategy is asked once for each request.
    preference: Option<Vec<usize>>,
    trail: Trail,
    /// Calls that were sent, by anybody below.
    attempts: usize,
    began: Instant,
    /// Whom the next attempt comes after, and why.
    left: Option<(usize, &'static str)>,
    /// Who answered in the end.
    answered_by: usize,
}

/// How a member stands towards this request.
#[derive(Debug, Clone, Copy, Default)]
struct Stand {
    /// It will not be asked again.
    out: bool,
    /// How often it was sent the request and failed.
    failures: u32,
    /// When it may be asked again, if it said so or a backoff does.
    at: Option<Instant>,
    /// A place frees when somebody else is done; so long it is worth waiting.
    full: Option<Duration>,
    /// A probe may help.
    probe: bool,
    /// Asked again because it failed for a moment, not because it has no capacity.
    retry: bool,
    /// It is being asked now.
    asked: bool,
    /// It loads the model: asked again until it has, without that counting.
    loads: bool,
    /// It answered 500, which the request may have caused.
    suspect: bool,
}

/// What the next round waits for.
struct Pause {
    until: Instant,
    /// A freed place ends it.
    woken: bool,
}

// === impl Walk ===

/// Answers the call by the members of the group.
pub(super) async fn walk(group: &Arc<Group>, call: Call) -> Result<Reply, ProxyError> {
    let mut walk = Walk::new(group, call);
    let (member, mut reply) = walk.answer().await?;
    if let ReplyBody::Stream(stream) = &mut reply.body
        && let Some(resume) = Resume::of(group, &walk.call, member)
    {
        stream.resumed_by(resume);
    }
    Ok(reply)
}

/// Finds a member that goes on with an answer that others broke off, the last of them for this reason.
pub(super) async fn go_on(
    group: &Arc<Group>,
    call: Call,
    broken: &[usize],
    reason: &'static str,
) -> Result<(usize, Reply), ProxyError> {
    let mut walk = Walk::new(group, call);
    for index in broken {
        if let (Some(stand), Some(member)) = (walk.stands.get_mut(*index), group.members.get(*index)) {
            stand.out = true;
            walk.trail.skipped(&member.label, "broke off".to_owned());
        }
    }
    walk.left = broken.last().map(|last| (*last, reason));
    walk.answer().await
}

impl<'g> Walk<'g> {
    fn new(group: &'g Group, call: Call) -> Self {
        Walk {
            group,
            calls: group.members.iter().map(|member| member.call(&call, None)).collect(),
            call,
            preference: None,
            stands: vec![Stand::default(); group.members.len()],
            trail: Trail::default(),
            attempts: 0,
            began: Instant::now(),
            left: None,
            answered_by: 0,
        }
    }
}

impl Walk<'_> {
    /// The answer, and which member it is from.
    async fn answer(&mut self) -> Result<(usize, Reply), ProxyError> {
        let group = self.group;
        let outcome = match group.timeout {
            None => self.rounds().await,
            Some(limit) => match tokio::time::timeout(limit, self.rounds()).await {
                Ok(outcome) => outcome,
                Err(_) => {
                    let text =
                        format!("group `{}` did not answer within {limit:?} (its `timeout`)", group.id);
                    let mut error = ProxyError::new(ErrorKind::Timeout, text);
                    let members = self.stands.iter().zip(&group.members).enumerate();
                    for (index, (_, member)) in members.filter(|(_, (stand, _))| stand.asked) {
                        self.trail.failed(&member.label, &error);
                        // The strategy must not begin with it again.
                        group.failed(index, Instant::now());
                    }
                    error.attempts = self.trail.hops().to_vec();
                    Err(error)
                }
            },
        };
        outcome.map(|reply| (self.answered_by, reply))
    }

    async fn rounds(&mut self) -> Result<Reply, ProxyError> {
        let outlooks = self.skip_those_that_cannot();
        if let Some(round) = self.call.round.clone() {
            // Whoever is above makes the next round.
            let outcome = self.round(&round, &outlooks).await;
            return outcome.unwrap_or_else(|| Err(self.exhausted()));
        }
        let mut round = Round { guesses: Guesses::Hold, waiter: None };
        for turn in 0..MOST_ROUNDS {
            let outcome = if turn == 0 {
                self.round(&round, &outlooks).await
            } else {
                let outlooks = self.group.outlooks(&self.call.model, &self.calls);
                self.round(&round, &outlooks).await
            };
            if let Some(outcome) = outcome {
                return outcome;
            }
            if self.attempts >= self.group.attempts {
                break;
            }
            let now = Instant::now();
            if turn == 0
                && self.stands.iter().any(|stand| !stand.out && (stand.probe || stand.full.is_some()))
            {
                round = Round { guesses: Guesses::Probe, waiter: Some(Arc::new(Waiter::default())) };
                continue;
            }
            let Some(pause) = self.pause(now) else {
                if round.guesses == Guesses::Last || self.stands.iter().all(|stand| stand.out) {
                    break;
                }
                round.guesses = Guesses::Last;
                continue;
            };
            let waiter = Arc::clone(round.waiter.get_or_insert_default());
            if round.guesses == Guesses::Hold {
                round.guesses = Guesses::Probe;
            }
            let sleep = tokio::time::sleep_until(pause.until.into());
            if pause.woken {
                tokio::select! {
                    biased;
                    () = waiter.woken() => {}
                    () = sleep => {}
                }
            } else {
                sleep.await;
            }
        }
        Err(self.exhausted())
    }

    /// Asks each member once that may be asked now. `None`: nobody answered, but somebody may later.
    async fn round(
        &mut self,
        round: &Round,
        outlooks: &[Result<Outlook, String>],
    ) -> Option<Result<Reply, ProxyError>> {
        self.trail.next_round();
        let order = self.order(outlooks);
        if let Some(racing) = self.group.racing {
            return race::race(self, &order, round, racing).await;
        }
        for index in order {
            if self.attempts >= self.group.attempts {
                return None;
            }
            let sent = Instant::now();
            let answered = match self.ask(index, round) {
                Some(asking) => asking.await,
                None => continue,
            };
            match answered {
                Ok(reply) => return Some(Ok(self.arrived(index, reply, sent))),
                Err(error) => {
                    if let Some(fatal) = self.failed(index, error) {
                        return Some(Err(fatal));
                    }
                }
            }
        }
        None
    }

    /// The members to ask in this round: by preference, but those that are available first.
    fn order(&mut self, outlooks: &[Result<Outlook, String>]) -> Vec<usize> {
        let views: Vec<MemberView> = self
            .group
            .members
            .iter()
            .zip(outlooks)
            .enumerate()
            .map(|(index, (member, outlook))| {
                let outlook = outlook.as_ref().ok().filter(|_| self.may_ask(index));
                member.view(outlook)
            })
            .collect();
        let preference = match &self.preference {
            Some(known) => known.clone(),
            None => self.preference.insert(self.group.preference(&self.call, &views)).clone(),
        };
        let mut order = available_first(preference, &views);
        order.retain(|index| self.may_ask(*index));
        order
    }

    fn may_ask(&self, index: usize) -> bool {
        let now = Instant::now();
        self.stands.get(index).is_some_and(|stand| {
            // What has no capacity is asked in every round: only its own admission knows.
            !stand.out && (!stand.retry || stand.at.is_none_or(|at| at <= now))
        })
    }

    /// Leaves out the members that cannot serve the request at all, before anybody is asked, and says why.
    fn skip_those_that_cannot(&mut self) -> Vec<Result<Outlook, String>> {
        let outlooks = self.group.outlooks(&self.call.model, &self.calls);
        for ((stand, member), outlook) in self.stands.iter_mut().zip(&self.group.members).zip(&outlooks) {
            if let Err(reason) = outlook {
                stand.out = true;
                self.trail.skipped(&member.label, reason.clone());
            }
        }
        outlooks
    }

    /// Begins to ask a member. The future owns all it needs, so that several can run at once.
    pub(super) fn ask(
        &mut self,
        index: usize,
        round: &Round,
    ) -> Option<BoxFuture<'static, Result<Reply, ProxyError>>> {
        let member = self.group.members.get(index)?;
        if let Some((from, reason)) = self.left.take()
            && from != index
            && let Some(left) = self.group.members.get(from)
        {
            let event = FailedOver { group: &self.group.id, from: &left.label, to: &member.label, reason };
            event.emit(&self.group.metrics, &self.call.request_id);
        }
        let call = Call { round: Some(round.clone()), ..self.calls.get(index)?.clone() };
        let answered = member.backend.forward(call);
        if let Some(stand) = self.stands.get_mut(index) {
            stand.asked = true;
        }
        Some(if self.call.so_far.is_some() {
            answered.and_then(refuse_mute).boxed()
        } else if self.group.fail_on.names_empty() {
            answered.and_then(refuse_empty).boxed()
        } else {
            answered
        })
    }

    /// Notes who answered, and completes the reply with the way it took.
    pub(super) fn arrived(&mut self, index: usize, mut reply: Reply, sent: Instant) -> Reply {
        let now = Instant::now();
        let first = match &reply.body {
            ReplyBody::Stream(_) => now.saturating_duration_since(sent),
            ReplyBody::Whole { .. } => reply.waited,
        };
        self.group.succeeded(&self.call, index, first, now);
        self.answered_by = index;
        for (stand, member) in self.stands.iter().zip(&self.group.members) {
            if stand.suspect {
                member.backend.blamed();
            }
        }
        let mut hops = self.trail.hops().to_vec();
        hops.append(&mut reply.served.attempts);
        reply.served.attempts = hops;
        // Time that went by at others was no time of ours.
        reply.waited += sent.saturating_duration_since(self.began);
        reply
    }

    /// Notes a failure. `Some`: it ends the request here.
    pub(super) fn failed(&mut self, index: usize, error: ProxyError) -> Option<ProxyError> {
        let now = Instant::now();
        let (Some(member), Some(stand)) = (self.group.members.get(index), self.stands.get_mut(index)) else {
            return Some(error);
        };
        stand.asked = false;
        let loads = error.patience.is_some();
        if !(loads && stand.loads) {
            self.trail.failed(&member.label, &error);
        }
        self.left = Some((index, error.kind.label()));
        let unsent = error.denial.is_some() && error.attempts.iter().all(|hop| is_unsent(hop.label));
        if !unsent {
            if !loads {
                self.attempts += 1;
                stand.failures += 1;
            }
            self.group.failed(index, now);
            if !self.group.fail_on.covers(&error) {
                return Some(ProxyError { attempts: self.trail.hops().to_vec(), ..error });
            }
        }
        let asked = error.retry_after;
        match error.denial {
            Some(denial) => {
                stand.full = denial.full;
                stand.probe = denial.probe;
                stand.at = asked.map(|wait| now + wait);
                stand.retry = false;
                // What nothing but a changed account could free is not waited for.
                stand.out = stand.full.is_none() && !stand.probe && stand.at.is_none();
            }
            None if loads => {
                let again = now + LOADING_PAUSE;
                let out = error.patience.is_none_or(|patience| again > self.began + patience);
                let failures = stand.failures;
                *stand = Stand { failures, out, at: Some(again), retry: true, loads, ..Stand::default() };
            }
            None => {
                let backoff = asked.unwrap_or_else(|| backoff(stand.failures));
                let again = error.retry == Retry::Here && stand.failures <= MOST_RETRIES;
                let suspect = error.refusal.is_none()
                    && error.attempts.is_empty()
                    && error.upstream.as_ref().is_some_and(|answer| answer.status == 500);
                *stand = Stand { failures: stand.failures, suspect, ..Stand::default() };
                stand.retry = backoff <= LONGEST_BACKOFF;
                stand.at = Some(now + backoff);
                stand.out = !again;
            }
        }
        None
    }

    /// What is worth waiting for after a round in which nobody answered.
    fn pause(&self, now: Instant) -> Option<Pause> {
        // What frees in a moment is worth that moment, even where a group does not wait.
        let patient_until = self.began + self.group.wait.unwrap_or_default().max(LONGEST_BACKOFF) + GRACE;
        let mut pause: Option<Pause> = None;
        let mut earlier = |until: Instant, woken: bool| {
            let known = pause.take();
            let until = known.as_ref().map_or(until, |known| known.until.min(until));
            pause = Some(Pause { until, woken: woken || known.is_some_and(|known| known.woken) });
        };
        for stand in self.stands.iter().filter(|stand| !stand.out) {
            if let Some(patience) = stand.full {
                let until = self.began + patience.max(self.group.wait.unwrap_or_default());
                if now < until {
                    earlier(until, true);
                }
            }
            if let Some(at) = stand.at {
                let worth = stand.retry || at <= patient_until;
                if worth {
                    earlier(at.max(now + SHORTEST_WAIT), false);
                }
            }
        }
        pause
    }

    fn exhausted(&self) -> ProxyError {
        self.trail.exhausted(&self.group.id)
    }

    /// How many more calls may be sent.
    pub(super) fn attempts_left(&self) -> usize {
        self.group.attempts.saturating_sub(self.attempts)
    }
}

/// Whether a hop says that nothing was sent.
fn is_unsent(label: &str) -> bool {
    let unsent = [ErrorKind::Overloaded, ErrorKind::QuotaExhausted, ErrorKind::BreakerOpen];
    label == "skipped" || unsent.iter().any(|kind| kind.label() == label)
}

/// How long the same member is left alone after so many failures: doubled each time, and between half and whole, so
/// that clients that failed together do not come back together.
fn backoff(failures: u32) -> Duration {
    let whole = FIRST_BACKOFF.saturating_mul(1 << failures.saturating_sub(1).min(8)).min(LONGEST_BACKOFF);
    whole.mul_f64(0.5 + fastrand::f64() / 2.0)
}

// === impl Member ===

impl Member {
    /// How a strategy sees it. `None`: it is not asked.
    fn view(&self, outlook: Option<&Outlook>) -> MemberView {
        let weight = self.weight;
        match outlook {
            Some(outlook) => MemberView {
                weight,
                availability: outlook.availability,
                share_left: outlook.share_left,
                next_reset: outlook.next_reset,
                in_flight: outlook.in_flight,
            },
            None => MemberView {
                weight,
                availability: Availability::Never,
                share_left: 0.0,
                next_reset: None,
                in_flight: 0,
            },
        }
    }

    /// The call as this member gets it.
    pub(super) fn call(&self, call: &Call, round: Option<Round>) -> Call {
        let mut own = call.clone();
        own.round = round;
        if let Some(model) = &self.model {
            own.model = Arc::clone(model);
        }
        if !self.set.is_empty() {
            own.request = Arc::new(call.request.with(&self.set));
            let set = self.set.iter().map(|(key, _)| format!("set:{key}"));
            own.edits = Arc::new(call.edits.iter().cloned().chain(set).collect());
        }
        own
    }
}
