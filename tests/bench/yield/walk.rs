//! One request on its way through a group: the policy of `backend/attempts.rs` with the `failover` strategy, as a state
//! that events move on.

use demuxai::quota::Mode;

use crate::account::{Account, Ask, Denied, Outlook, Seat};
use crate::tiers::Group;
use crate::traffic::Request;

const MOST_RETRIES: u32 = 2;
const FIRST_BACKOFF: i64 = 250;
const LONGEST_BACKOFF: i64 = 2_000;
const MOST_ROUNDS: u32 = 10_000;
const SHORTEST_WAIT: i64 = 20;
const GRACE: i64 = 250;

/// One request on its way.
pub struct Walk {
    pub request: usize,
    pub began: i64,
    stands: Vec<Stand>,
    attempts: usize,
    turn: u32,
    mode: Mode,
    waits: bool,
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

/// How a member stands towards this request.
#[derive(Clone, Copy, Default)]
struct Stand {
    out: bool,
    failures: u32,
    at: Option<i64>,
    full: Option<i64>,
    probe: bool,
    retry: bool,
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
        Walk {
            request,
            began,
            stands: vec![Stand::default(); group.members.len()],
            attempts: 0,
            turn: 0,
            mode: Mode::Keep,
            waits: false,
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
        for (stand, (tier, model)) in self.stands.iter_mut().zip(&group.members) {
            let outlook = accounts[*tier].outlook(model, request.size(), now);
            stand.out = outlook == Outlook::Never;
        }
        self.round(group, request, accounts, now);
    }

    fn round(&mut self, group: &Group, request: &Request, accounts: &[Account], now: i64) {
        let mut order: Vec<(Outlook, usize)> = Vec::new();
        for (index, (tier, model)) in group.members.iter().enumerate() {
            if self.may_ask(index, now) {
                let outlook = accounts[*tier].outlook(model, request.size(), now);
                order.push((outlook, index));
            }
        }
        order.sort();
        self.order = order.into_iter().rev().map(|(_, index)| index).collect();
    }

    fn may_ask(&self, index: usize, now: i64) -> bool {
        let stand = &self.stands[index];
        !stand.out && (!stand.retry || stand.at.is_none_or(|at| at <= now))
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
        let most = (group.members.len() * 2).clamp(1, 50);
        loop {
            while let Some(index) = self.order.pop() {
                if self.attempts >= most {
                    break;
                }
                let (tier, model) = group.members[index];
                let held = self.given.iter().position(|(known, of, _)| *known == tier && *of == model);
                if let Some(held) = held {
                    let (_, _, seat) = self.given.swap_remove(held);
                    return Step::Ask(index, seat);
                }
                let size = request.size();
                let ask = Ask { model, size, walk: number, mode: self.mode, waits: self.waits };
                match accounts[tier].admit(&ask, now) {
                    Ok(seat) => return Step::Ask(index, seat),
                    Err(denied) => self.denied(index, denied, now),
                }
            }
            // The round is over, and nobody answered.
            if self.attempts >= most || self.turn >= MOST_ROUNDS {
                return Step::GiveUp;
            }
            let first = self.turn == 0;
            self.turn += 1;
            if first && self.stands.iter().any(|stand| !stand.out && (stand.probe || stand.full.is_some())) {
                self.mode = Mode::Probe;
                self.waits = true;
                self.round(group, request, accounts, now);
                continue;
            }
            let Some((until, wakes)) = self.pause(group.wait, now) else {
                if self.mode == Mode::Last || self.stands.iter().all(|stand| stand.out) {
                    return Step::GiveUp;
                }
                self.mode = Mode::Last;
                self.round(group, request, accounts, now);
                continue;
            };
            self.waits = true;
            if self.mode == Mode::Keep {
                self.mode = Mode::Probe;
            }
            if wakes && self.woken {
                self.resume(group, request, accounts, now);
                continue;
            }
            self.pauses += 1;
            self.pausing = Some(wakes);
            return Step::Pause(until);
        }
    }

    /// The wait is over.
    pub fn resume(&mut self, group: &Group, request: &Request, accounts: &[Account], now: i64) {
        self.pausing = None;
        self.woken = false;
        self.round(group, request, accounts, now);
    }

    fn denied(&mut self, index: usize, denied: Denied, now: i64) {
        let stand = &mut self.stands[index];
        if denied.never {
            // Told as the request's own fault, which counts as an attempt.
            self.attempts += 1;
            *stand = Stand { failures: stand.failures + 1, out: true, ..Stand::default() };
            return;
        }
        stand.full = denied.full;
        stand.probe = denied.probe;
        stand.at = denied.wait.map(|wait| now + wait);
        stand.retry = false;
        stand.out = stand.full.is_none() && !stand.probe && stand.at.is_none();
    }

    /// A member was sent it, and refused.
    pub fn failed(&mut self, index: usize, failure: Failure, now: i64) {
        self.attempts += 1;
        let stand = &mut self.stands[index];
        let failures = stand.failures + 1;
        let backoff = failure.retry_after.unwrap_or_else(|| {
            // Three quarters: the mean of its jitter.
            (FIRST_BACKOFF << (failures - 1).min(8)).min(LONGEST_BACKOFF) * 3 / 4
        });
        *stand = Stand {
            failures,
            retry: backoff <= LONGEST_BACKOFF,
            at: Some(now + backoff),
            out: !(failure.here && failures <= MOST_RETRIES),
            ..Stand::default()
        };
    }

    fn pause(&self, patience: i64, now: i64) -> Option<(i64, bool)> {
        let patience = patience.max(LONGEST_BACKOFF);
        let mut pause: Option<(i64, bool)> = None;
        let mut earlier = |until: i64, wakes: bool| {
            let (known, woken) = pause.unwrap_or((until, false));
            pause = Some((known.min(until), wakes || woken));
        };
        for stand in self.stands.iter().filter(|stand| !stand.out) {
            if let Some(full) = stand.full {
                let until = self.began + full.max(patience);
                if now < until {
                    earlier(until, true);
                }
            }
            if let Some(at) = stand.at
                && (stand.retry || at <= self.began + patience + GRACE)
            {
                earlier(at.max(now + SHORTEST_WAIT), false);
            }
        }
        pause
    }
}
