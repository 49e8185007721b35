//! What a group does next with one request: how each member stands towards it, which round comes, and what is worth
//! waiting for. Pure: moments are passed in, as time since the request came to the group, and nothing here asks
//! anybody. `attempts.rs` carries it out; so does the simulation in `tests/bench/yield`, in virtual time.

use std::time::Duration;

use super::strategy::{MemberView, available_first};
use super::{Guesses, LOADING_PAUSE};
use crate::error::Denial;

/// The same member is sent a request again at most so often, and not before this (doubled each time, with jitter).
const MOST_RETRIES: u32 = 2;
const FIRST_BACKOFF: Duration = Duration::from_millis(250);
/// A member that asks for more patience than this is not retried, but waited for if the group waits.
const LONGEST_BACKOFF: Duration = Duration::from_secs(2);
/// Limits are thought to free this much later than they may, as a request takes its time on the way: what misses the end
/// of a wait by no more is waited for.
const GRACE: Duration = Duration::from_millis(250);
/// And so often, when its time is over, a request waits for what frees within that.
const MOST_LINGERING: u32 = 4;
/// Rounds are bounded whatever members say; with the shortest wait between them this is far beyond every deadline.
const MOST_ROUNDS: u32 = 10_000;
/// No wait between rounds is shorter, so that a member that names moments in the past is not asked in a circle.
const SHORTEST_WAIT: Duration = Duration::from_millis(20);

/// One request's plan for one group.
#[derive(Debug)]
pub struct Plan {
    stands: Vec<Stand>,
    /// Most calls that may be sent, and how many were.
    most: usize,
    attempts: usize,
    /// Rounds that are over.
    turn: u32,
    guesses: Guesses,
    waits: bool,
    /// How often it waited for what frees in a moment, though its time was over.
    lingered: u32,
}

/// How a member stands towards this request.
#[derive(Debug, Clone, Copy, Default)]
struct Stand {
    /// So long it is waited for where it has no capacity.
    wait: Duration,
    /// It will not be asked again.
    out: bool,
    /// How often it was sent the request and failed.
    failures: u32,
    /// When it may be asked again, if it said so or a backoff does.
    at: Option<Duration>,
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

/// How a member failed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Failed {
    /// It has no capacity.
    pub denial: Option<Denial>,
    /// Nothing was sent for it.
    pub unsent: bool,
    /// When a retry makes sense, as it says.
    pub retry_after: Option<Duration>,
    /// It may be sent the request again.
    pub here: bool,
    /// It will answer when it is ready: so long after the request came it is worth waiting.
    pub patience: Option<Duration>,
    /// It answered 500, which the request may have caused.
    pub suspect: bool,
}

/// What comes after a round in which nobody answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Another round at once.
    Round,
    /// Another round at that moment.
    Wait {
        /// The moment.
        until: Duration,
        /// A freed place ends the wait.
        woken: bool,
    },
    /// Nobody can answer.
    GiveUp,
}

// === impl Plan ===

impl Plan {
    /// A plan for members that are waited for so long each, with so many calls at most. It begins with a round in which
    /// guesses hold and nobody waits.
    pub fn new(waits: impl Iterator<Item = Option<Duration>>, most: usize) -> Self {
        let stand = |wait: Option<Duration>| Stand { wait: wait.unwrap_or_default(), ..Stand::default() };
        let stands = waits.map(stand).collect();
        Plan { stands, most, attempts: 0, turn: 0, guesses: Guesses::Hold, waits: false, lingered: 0 }
    }

    /// How far this round goes.
    pub fn guesses(&self) -> Guesses {
        self.guesses
    }

    /// Whether the request joins the queues of full members in this round.
    pub fn waits(&self) -> bool {
        self.waits
    }

    /// How many more calls may be sent.
    pub fn attempts_left(&self) -> usize {
        self.most.saturating_sub(self.attempts)
    }

    /// A member cannot serve the request at all.
    pub fn leave_out(&mut self, index: usize) {
        if let Some(stand) = self.stands.get_mut(index) {
            stand.out = true;
        }
    }

    /// Whether a member may be asked now.
    pub fn may_ask(&self, index: usize, now: Duration) -> bool {
        self.stands.get(index).is_some_and(|stand| {
            // What has no capacity is asked in every round: only its own admission knows.
            !stand.out && (!stand.retry || stand.at.is_none_or(|at| at <= now))
        })
    }

    /// The members to ask in this round: by preference, but those that are available first.
    pub fn order(&self, preference: Vec<usize>, views: &[MemberView], now: Duration) -> Vec<usize> {
        let mut order = available_first(preference, views);
        order.retain(|index| self.may_ask(*index, now));
        order
    }

    /// A member is asked.
    pub fn asks(&mut self, index: usize) {
        if let Some(stand) = self.stands.get_mut(index) {
            stand.asked = true;
        }
    }

    /// Those that are being asked.
    pub fn asked(&self) -> Vec<usize> {
        self.those(|stand| stand.asked)
    }

    /// Those that answered 500, which the request may have caused.
    pub fn suspects(&self) -> Vec<usize> {
        self.those(|stand| stand.suspect)
    }

    fn those(&self, are: impl Fn(&Stand) -> bool) -> Vec<usize> {
        self.stands.iter().enumerate().filter(|(_, stand)| are(stand)).map(|(index, _)| index).collect()
    }

    /// Whether a member was already found loading.
    pub fn loads(&self, index: usize) -> bool {
        self.stands.get(index).is_some_and(|stand| stand.loads)
    }

    /// So long a member is waited for where it has no capacity.
    pub fn wait_for(&self, index: usize) -> Duration {
        self.stands.get(index).map_or(Duration::ZERO, |stand| stand.wait)
    }

    /// A member failed, or has no capacity. `jitter`, between a half and one, keeps clients that failed together from
    /// coming back together.
    pub fn failed(&mut self, index: usize, how: Failed, now: Duration, jitter: f64) {
        let Some(stand) = self.stands.get_mut(index) else { return };
        if !how.unsent && how.patience.is_none() {
            self.attempts += 1;
            stand.failures += 1;
        }
        let next = Stand { wait: stand.wait, failures: stand.failures, ..Stand::default() };
        let again = now + LOADING_PAUSE;
        let asked = how.retry_after;
        *stand = match (how.patience, how.denial) {
            (Some(patience), denial) if again <= patience => {
                let denial = denial.unwrap_or_default();
                let (full, probe) = (denial.full, denial.probe);
                Stand { at: Some(again), retry: true, loads: true, full, probe, ..next }
            }
            (_, Some(denial)) => {
                let (full, probe, at) = (denial.full, denial.probe, asked.map(|wait| now + wait));
                // What nothing but a changed account could free is not waited for.
                Stand { full, probe, at, out: full.is_none() && !probe && at.is_none(), ..next }
            }
            (Some(_), None) => Stand { out: true, loads: true, ..next },
            (None, None) => {
                let backoff = asked.unwrap_or_else(|| backoff(next.failures).mul_f64(jitter));
                Stand {
                    suspect: how.suspect,
                    retry: backoff <= LONGEST_BACKOFF,
                    at: Some(now + backoff),
                    out: !how.here || next.failures > MOST_RETRIES,
                    ..next
                }
            }
        };
    }

    /// What comes after a round in which nobody answered.
    pub fn next(&mut self, now: Duration) -> Next {
        if self.attempts_left() == 0 || self.turn >= MOST_ROUNDS {
            return Next::GiveUp;
        }
        let first = self.turn == 0;
        self.turn += 1;
        if first && self.stands.iter().any(|stand| !stand.out && (stand.probe || stand.full.is_some())) {
            self.guesses = Guesses::Probe;
            self.waits = true;
            return Next::Round;
        }
        let Some((until, woken)) = self.pause(now).or_else(|| self.linger(now)) else {
            if self.guesses == Guesses::Last || self.stands.iter().all(|stand| stand.out) {
                return Next::GiveUp;
            }
            self.guesses = Guesses::Last;
            return Next::Round;
        };
        self.waits = true;
        if self.guesses == Guesses::Hold {
            self.guesses = Guesses::Probe;
        }
        Next::Wait { until, woken }
    }

    /// What is worth waiting for after a round in which nobody answered, and whether a freed place ends that.
    fn pause(&self, now: Duration) -> Option<(Duration, bool)> {
        let mut pause: Option<(Duration, bool)> = None;
        let mut earlier = |until: Duration, woken: bool| {
            let (known, wakes) = pause.unwrap_or((until, false));
            pause = Some((known.min(until), woken || wakes));
        };
        for stand in self.stands.iter().filter(|stand| !stand.out) {
            if let Some(patience) = stand.full {
                let until = patience.max(stand.wait);
                if now < until {
                    earlier(until, true);
                }
            }
            if let Some(at) = stand.at {
                // What frees in a moment is worth that moment, even where a group does not wait.
                let patient_until = stand.wait.max(LONGEST_BACKOFF) + GRACE;
                if stand.retry || at <= patient_until {
                    earlier(at.max(now + SHORTEST_WAIT), false);
                }
            }
        }
        pause
    }

    /// What frees in a moment is waited for a few times, whatever the time: another one may be there first, and to wait
    /// is better than to fail for what is only lost on the way.
    fn linger(&mut self, now: Duration) -> Option<(Duration, bool)> {
        let open = self.stands.iter().filter(|stand| !stand.out && stand.full.is_none());
        let at = open.filter_map(|stand| stand.at).min().filter(|at| *at <= now + GRACE)?;
        if self.lingered >= MOST_LINGERING {
            return None;
        }
        self.lingered += 1;
        Some((at.max(now + SHORTEST_WAIT), false))
    }
}

/// How long the same member is left alone after so many failures, before jitter: doubled each time.
fn backoff(failures: u32) -> Duration {
    FIRST_BACKOFF.saturating_mul(1 << failures.saturating_sub(1).min(8)).min(LONGEST_BACKOFF)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn plan(waits: &[u64]) -> Plan {
        Plan::new(waits.iter().map(|wait| Some(SECOND * u32::try_from(*wait).unwrap())), 50)
    }

    fn used_up(seconds: u64) -> Failed {
        let retry_after = Some(Duration::from_secs(seconds));
        Failed { denial: Some(Denial::default()), unsent: true, retry_after, ..Failed::default() }
    }

    #[test]
    fn nobody_fails_for_what_frees_in_a_moment_nor_waits_for_that_for_ever() {
        let mut plan = plan(&[30]);
        let mut now = SECOND * 31;
        for time in 0..MOST_LINGERING {
            let frees = now + GRACE;
            plan.failed(0, Failed { retry_after: Some(GRACE), ..used_up(0) }, now, 1.0);
            assert_eq!(plan.next(now), Next::Wait { until: frees, woken: false }, "time {time}");
            now = frees;
        }
        plan.failed(0, Failed { retry_after: Some(GRACE), ..used_up(0) }, now, 1.0);
        assert_eq!(plan.next(now), Next::Round, "one last round");
        plan.failed(0, Failed { retry_after: Some(GRACE), ..used_up(0) }, now, 1.0);
        assert_eq!(plan.next(now), Next::GiveUp);
    }

    #[test]
    fn each_member_is_waited_for_as_long_as_it_says() {
        let mut plan = plan(&[0, 30]);
        plan.failed(0, used_up(20), Duration::ZERO, 1.0);
        plan.failed(1, used_up(40), Duration::ZERO, 1.0);
        assert_eq!(plan.next(Duration::ZERO), Next::Round, "one last round");
        assert_eq!(plan.next(Duration::ZERO), Next::GiveUp, "neither is worth it");
        let mut plan = super::tests::plan(&[0, 30]);
        plan.failed(0, used_up(10), Duration::ZERO, 1.0);
        plan.failed(1, used_up(20), Duration::ZERO, 1.0);
        let next = plan.next(Duration::ZERO);
        assert_eq!(next, Next::Wait { until: 20 * SECOND, woken: false }, "the second one is");
    }

    #[test]
    fn a_member_that_loads_is_asked_every_second_without_that_counting() {
        let mut plan = plan(&[0]);
        let loads = Failed { here: true, patience: Some(3 * SECOND), ..Failed::default() };
        for second in 0..2 {
            plan.failed(0, loads, second * SECOND, 1.0);
            assert_eq!(plan.attempts_left(), 50);
            assert!(!plan.may_ask(0, second * SECOND));
            let next = plan.next(second * SECOND);
            assert_eq!(next, Next::Wait { until: (second + 1) * SECOND, woken: false });
        }
        plan.failed(0, loads, 2 * SECOND + SECOND / 2, 1.0);
        assert_eq!(plan.next(3 * SECOND), Next::GiveUp);
    }

    #[test]
    fn a_group_below_that_is_full_and_loads_is_waited_for_on_both_accounts() {
        let mut plan = plan(&[0]);
        let denial = Some(Denial { full: Some(30 * SECOND), probe: false });
        let how = Failed { denial, unsent: true, patience: Some(60 * SECOND), ..Failed::default() };
        plan.failed(0, how, Duration::ZERO, 1.0);
        assert_eq!(plan.next(Duration::ZERO), Next::Round);
        assert_eq!(plan.next(Duration::ZERO), Next::Wait { until: SECOND, woken: true });
        plan.failed(0, Failed { patience: Some(SECOND / 2), ..how }, SECOND, 1.0);
        assert_eq!(
            plan.next(SECOND),
            Next::Wait { until: 30 * SECOND, woken: true },
            "it does not load any more"
        );
    }

    #[test]
    fn the_same_member_is_sent_a_request_three_times_with_growing_pauses() {
        let mut plan = plan(&[0]);
        let how = Failed { here: true, ..Failed::default() };
        let mut now = Duration::ZERO;
        for pause in [250, 500] {
            plan.failed(0, how, now, 1.0);
            let until = now + Duration::from_millis(pause);
            assert_eq!(plan.next(now), Next::Wait { until, woken: false });
            now = until;
        }
        plan.failed(0, how, now, 1.0);
        assert_eq!(plan.next(now), Next::GiveUp);
    }
}
