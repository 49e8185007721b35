//! The one loop of retry and failover: a request goes from member to member of a group until one answers, in rounds,
//! and waits between rounds where that can help. What counts as failure and where it may go is the error's own word
//! (`error.rs`) and the group's `fail_on`; which member is next, the strategy's; what comes after a round, the plan's
//! (`plan.rs`).
//!
//! 1. First round: every member that can serve the request, in the strategy's order; guesses at limits hold, nobody
//!    waits. A member without capacity, or whose breaker is open, is passed over; nothing is sent to it.
//! 2. Nobody could: once more at once, now with guesses probed and a place in the queue of every full member.
//! 3. Still nobody: wait for what comes first, a freed place, a backoff before a retry of a member that failed for a
//!    moment, or the moment a limit frees (within two seconds, or what `on_exhausted` allows); then another round.
//! 4. Nothing is worth waiting for: one last round, in which room that is only reserved is tried, too.
//!
//! A group inside a group makes one round for each of the outer one and leaves the waiting to it; the outer one waits for
//! it as long as the inner one's `on_exhausted` says, if that is longer than its own.

use std::sync::Arc;
use std::time::Instant;

use futures_util::FutureExt;
use futures_util::TryFutureExt;
use futures_util::future::BoxFuture;

use super::emptiness::{refuse_empty, refuse_mute};
use super::group::{Group, Member};
use super::plan::{Failed, Next, Plan};
use super::race;
use super::resume::Resume;
use super::strategy::{Availability, MemberView};
use super::trail::Trail;
use super::{Call, Outlook, Reply, ReplyBody, Round};
use crate::error::{ErrorKind, ProxyError, Retry};
use crate::metrics::events::FailedOver;

/// One request on its way through one group.
pub(super) struct Walk<'g> {
    pub(super) group: &'g Group,
    pub(super) call: Call,
    /// The call as each member gets it.
    calls: Vec<Call>,
    plan: Plan,
    /// In which order members are asked; the strategy is asked once for each request.
    preference: Option<Vec<usize>>,
    trail: Trail,
    began: Instant,
    /// Whom the next attempt comes after, and why.
    left: Option<(usize, &'static str)>,
    /// Who answered in the end.
    answered_by: usize,
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
        if let Some(member) = group.members.get(*index) {
            walk.plan.leave_out(*index);
            walk.trail.skipped(&member.label, "broke off".to_owned());
        }
    }
    walk.left = broken.last().map(|last| (*last, reason));
    walk.answer().await
}

impl<'g> Walk<'g> {
    fn new(group: &'g Group, mut call: Call) -> Self {
        if group.racing.is_some() {
            call.opened = call.opened.in_part();
        }
        Walk {
            group,
            calls: group.members.iter().map(|member| member.call(&call, None)).collect(),
            call,
            preference: None,
            plan: Plan::new(
                group.members.iter().map(|member| group.wait.max(member.backend.waits())),
                group.attempts,
            ),
            trail: Trail::default(),
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
                        format!("group `{}` did not answer within {limit:?} (its `timeout`)", group.about.id);
                    let mut error = ProxyError::new(ErrorKind::Timeout, text);
                    for index in self.plan.asked() {
                        let Some(member) = group.members.get(index) else { continue };
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
        let mut round = Round { guesses: self.plan.guesses(), waiter: None };
        let mut outlooks = Some(outlooks);
        loop {
            let known = outlooks.take().unwrap_or_else(|| self.group.outlooks(&self.call.model, &self.calls));
            if let Some(outcome) = self.round(&round, &known).await {
                return outcome;
            }
            let next = self.plan.next(self.began.elapsed());
            round.guesses = self.plan.guesses();
            if self.plan.waits() {
                round.waiter.get_or_insert_default();
            }
            match (next, &round.waiter) {
                (Next::GiveUp, _) => return Err(self.exhausted()),
                (Next::Round, _) => {}
                (Next::Wait { until, woken }, waiter) => {
                    if let Some(gate) = &self.call.gate {
                        gate.waits(woken);
                    }
                    let sleep = tokio::time::sleep_until((self.began + until).into());
                    match waiter.as_ref().filter(|_| woken) {
                        Some(waiter) => {
                            tokio::select! {
                                biased;
                                () = waiter.woken() => {}
                                () = sleep => {}
                            }
                        }
                        None => sleep.await,
                    }
                }
            }
        }
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
            if self.plan.attempts_left() == 0 {
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
        let now = self.began.elapsed();
        let views: Vec<MemberView> = self
            .group
            .members
            .iter()
            .zip(outlooks)
            .enumerate()
            .map(|(index, (member, outlook))| {
                let outlook = outlook.as_ref().ok().filter(|_| self.plan.may_ask(index, now));
                member.view(outlook)
            })
            .collect();
        let preference = match &self.preference {
            Some(known) => known.clone(),
            None => self.preference.insert(self.group.preference(&self.call, &views)).clone(),
        };
        self.plan.order(preference, &views, now)
    }

    /// Leaves out the members that cannot serve the request at all, before anybody is asked, and says why.
    fn skip_those_that_cannot(&mut self) -> Vec<Result<Outlook, String>> {
        let outlooks = self.group.outlooks(&self.call.model, &self.calls);
        for (index, (member, outlook)) in self.group.members.iter().zip(&outlooks).enumerate() {
            if let Err(reason) = outlook {
                self.plan.leave_out(index);
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
            let event =
                FailedOver { group: &self.group.about.id, from: &left.label, to: &member.label, reason };
            event.emit(&self.group.metrics, &self.call.request_id);
        }
        let call = Call { round: Some(round.clone()), ..self.calls.get(index)?.clone() };
        let answered = member.backend.forward(call);
        self.plan.asks(index);
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
        for member in self.plan.suspects().into_iter().filter_map(|index| self.group.members.get(index)) {
            member.backend.blamed();
        }
        self.leave_others(index);
        let mut hops = self.trail.hops().to_vec();
        hops.append(&mut reply.served.attempts);
        reply.served.attempts = hops;
        // Time that went by at others was no time of ours.
        reply.waited += sent.saturating_duration_since(self.began);
        reply
    }

    /// Those that are still being asked in a race are cancelled.
    fn leave_others(&mut self, index: usize) {
        for other in self.plan.asked().into_iter().filter(|other| *other != index) {
            if let Some(member) = self.group.members.get(other) {
                self.trail.cancelled(&member.label);
            }
        }
    }

    /// Notes a failure. `Some`: it ends the request here.
    pub(super) fn failed(&mut self, index: usize, error: ProxyError) -> Option<ProxyError> {
        let Some(member) = self.group.members.get(index) else { return Some(error) };
        // What may be starting is waited for where the group waits for capacity.
        let wait = self.plan.wait_for(index);
        let patience = error.patience.or((error.starting && !wait.is_zero()).then_some(wait));
        if patience.is_some() && self.plan.loads(index) {
            self.trail.noted(&error);
        } else {
            self.trail.failed(&member.label, &error);
        }
        self.left = Some((index, error.kind.label()));
        let unsent = error.denial.is_some() && error.attempts.iter().all(|hop| is_unsent(hop.label));
        let suspect = error.refusal.is_none()
            && error.attempts.is_empty()
            && error.upstream.as_ref().is_some_and(|answer| answer.status == 500);
        let how = Failed {
            denial: error.denial,
            unsent,
            retry_after: error.retry_after,
            here: error.retry == Retry::Here,
            patience,
            suspect,
        };
        self.plan.failed(index, how, self.began.elapsed(), 0.5 + fastrand::f64() / 2.0);
        if !unsent {
            self.group.failed(index, Instant::now());
            if !self.group.fail_on.covers(&error) {
                self.leave_others(index);
                return Some(ProxyError { attempts: self.trail.hops().to_vec(), ..error });
            }
        }
        None
    }

    fn exhausted(&self) -> ProxyError {
        self.trail.exhausted(&self.group.about.id)
    }

    /// How many more calls may be sent.
    pub(super) fn attempts_left(&self) -> usize {
        self.plan.attempts_left()
    }
}

/// Whether a hop says that nothing was sent.
fn is_unsent(label: &str) -> bool {
    let unsent = [ErrorKind::Overloaded, ErrorKind::QuotaExhausted, ErrorKind::BreakerOpen];
    label == "skipped" || unsent.iter().any(|kind| kind.label() == label)
}

// === impl Member ===

impl Member {
    /// How a strategy sees it. `None`: it is not asked.
    pub(super) fn view(&self, outlook: Option<&Outlook>) -> MemberView {
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
        Call { round, ..call.passed_on(self.model.as_ref(), &self.set) }
    }
}
