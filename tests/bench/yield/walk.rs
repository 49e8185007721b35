//! One request on its way through a group with the `failover` strategy, as a state that events move on. What it does next
//! is the product's own plan (`backend/plan.rs`) in virtual time; here is only who is asked, and what he says.

use std::time::Duration;

use demuxai::backend::Guesses;
use demuxai::backend::plan::{Failed, Next, Plan};
use demuxai::backend::strategy::{Availability, MemberView};
use demuxai::error::Denial;
use demuxai::quota::Mode;

use crate::account::{Account, Ask, Denied, Outlook, Seat};
use crate::tiers::Group;
use crate::traffic::Request;

/// The mean of the jitter of pauses.
const JITTER: f64 = 0.75;

/// One request on its way.
pub struct Walk {
    pub request: usize,
    pub began: i64,
    plan: Plan,
    order: Vec<usize>,
    /// Places that were handed over: tier, model, what is held.
    pub given: Vec<(usize, &'static str, Seat)>,
    /// A place was handed over since the last wait began.
    pub woken: bool,
    /// Counts the waits, so that the alarm of an earlier one means nothing.
    pub pauses: u64,
    /// It waits, and a place ends that.
    pub pausing: Option<bool>,
    pub over: bool,
}

/// What comes next.
pub enum Step {
    /// This member was asked, and has this seat.
    Ask(usize, Seat),
    /// Nothing before that moment, unless a place wakes it.
    Pause(i64),
    /// Nobody can answer.
    GiveUp,
}

/// What a refusal by an upstream means for the request.
#[derive(Clone, Copy)]
pub struct Failure {
    /// It may be sent to the same member again.
    pub here: bool,
    /// It goes nowhere else.
    pub fatal: bool,
    /// In how many milliseconds a retry makes sense, as it says.
    pub retry_after: Option<i64>,
}

// === impl Walk ===

impl Walk {
    pub fn new(request: usize, began: i64, group: &Group) -> Self {
        let wait = Some(span(group.wait));
        let most = (group.members.len() * 2).clamp(1, 50);
        Walk {
            request,
            began,
            plan: Plan::new(group.members.iter().map(|_| wait), most),
            order: Vec::new(),
            given: Vec::new(),
            woken: false,
            pauses: 0,
            pausing: None,
            over: false,
        }
    }

    /// Leaves out those that cannot serve it at all, and begins the first round.
    pub fn begin(&mut self, group: &Group, request: &Request, accounts: &[Account], now: i64) {
        for (index, (tier, model)) in group.members.iter().enumerate() {
            if accounts[*tier].outlook(model, request.size(), now) == Outlook::Never {
                self.plan.leave_out(index);
            }
        }
        self.round(group, request, accounts, now);
    }

    fn round(&mut self, group: &Group, request: &Request, accounts: &[Account], now: i64) {
        let view = |(tier, model): &(usize, &'static str)| MemberView {
            weight: 1,
            availability: match accounts[*tier].outlook(model, request.size(), now) {
                Outlook::Now => Availability::Now,
                Outlook::Later => Availability::At(None),
                Outlook::Never => Availability::Never,
            },
            share_left: 1.0,
            next_reset: None,
            in_flight: 0,
        };
        let views: Vec<MemberView> = group.members.iter().map(view).collect();
        self.order = self.plan.order((0..views.len()).collect(), &views, self.since(now));
        self.order.reverse();
    }

    /// Time since it came, as the plan counts it.
    fn since(&self, now: i64) -> Duration {
        span(now - self.began)
    }

    /// Goes on until a member is asked, or there is nothing but to wait.
    pub fn go_on(
        &mut self,
        number: usize,
        group: &Group,
        request: &Request,
        accounts: &mut [Account],
        now: i64,
    ) -> Step {
        loop {
            while let Some(index) = self.order.pop() {
                if self.plan.attempts_left() == 0 {
                    break;
                }
                let (tier, model) = group.members[index];
                let held = self.given.iter().position(|(known, of, _)| *known == tier && *of == model);
                if let Some(held) = held {
                    let (_, _, seat) = self.given.swap_remove(held);
                    return Step::Ask(index, seat);
                }
                let mode = match self.plan.guesses() {
                    Guesses::Hold => Mode::Keep,
                    Guesses::Probe => Mode::Probe,
                    Guesses::Last => Mode::Last,
                    Guesses::Alone => Mode::Alone,
                };
                let ask = Ask { model, size: request.size(), walk: number, mode, waits: self.plan.waits() };
                match accounts[tier].admit(&ask, now) {
                    Ok(seat) => return Step::Ask(index, seat),
                    Err(denied) => self.denied(index, denied, now),
                }
            }
            // The round is over, and nobody answered.
            match self.plan.next(self.since(now)) {
                Next::GiveUp => return Step::GiveUp,
                Next::Round => self.round(group, request, accounts, now),
                Next::Wait { woken: true, .. } if self.woken => self.resume(group, request, accounts, now),
                Next::Wait { until, woken } => {
                    self.pauses += 1;
                    self.pausing = Some(woken);
                    return Step::Pause(self.began.saturating_add(millis(until)));
                }
            }
        }
    }

    /// The wait is over.
    pub fn resume(&mut self, group: &Group, request: &Request, accounts: &[Account], now: i64) {
        self.pausing = None;
        self.woken = false;
        self.round(group, request, accounts, now);
    }

    fn denied(&mut self, index: usize, denied: Denied, now: i64) {
        let how = if denied.never {
            // Told as the request's own fault, which counts as an attempt.
            Failed::default()
        } else {
            let denial = Some(Denial { full: denied.full.map(span), probe: denied.probe });
            Failed { denial, unsent: true, retry_after: denied.wait.map(span), ..Failed::default() }
        };
        self.plan.failed(index, how, self.since(now), JITTER);
    }

    /// A member was sent it, and refused.
    pub fn failed(&mut self, index: usize, failure: Failure, now: i64) {
        let how =
            Failed { here: failure.here, retry_after: failure.retry_after.map(span), ..Failed::default() };
        self.plan.failed(index, how, self.since(now), JITTER);
    }
}

fn span(millis: i64) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}
