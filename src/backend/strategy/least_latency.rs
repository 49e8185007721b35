//! `least-latency`: the member with the shortest average time to the first token first. One that was not measured yet
//! is tried by one request, and now and then another one than the best is. What was measured fades, so that nobody is
//! avoided for ever for what it once was. Pure.

use std::time::{Duration, Instant};

use super::{Availability, MemberView, Strategy, StrategyState};

/// How much the newest measurement weighs, at least.
const WEIGHT: f64 = 0.3;
/// How often another one than the best is tried.
const EXPLORE: f64 = 0.05;
/// What a failure costs in the average, at least.
const PENALTY: f64 = 2.0;
/// In so many seconds an average comes to count half: one of ten times the best's is tried again after some minutes,
/// one that is nearly as fast after seconds.
const HALF_LIFE: f64 = 60.0;
/// So long a first try may take before somebody else tries as well.
const TRIAL: Duration = Duration::from_secs(10);

/// The fastest first.
pub(super) struct LeastLatency;

/// How fast a member was.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Speed {
    measured: Option<Measured>,
    /// How often it was tried without having been measured yet, and when last.
    trials: u32,
    tried: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Measured {
    seconds: f64,
    samples: u32,
    last: Instant,
}

// === impl LeastLatency ===

impl Strategy for LeastLatency {
    fn says(&self) -> &'static str {
        "by their average time to the first token, the fastest first"
    }

    fn order(
        &self,
        members: &[MemberView],
        state: &mut StrategyState,
        now: Instant,
        rng: &mut fastrand::Rng,
    ) -> Vec<usize> {
        state.speeds.resize(members.len(), Speed::default());
        let rank = |index: &usize| state.speeds.get(*index).copied().unwrap_or_default().rank(now);
        let mut order: Vec<usize> = (0..members.len()).collect();
        order.sort_by(|one, other| {
            let ((kind, seconds), (other_kind, other_seconds)) = (rank(one), rank(other));
            kind.cmp(&other_kind).then(seconds.total_cmp(&other_seconds))
        });
        let is_available =
            |index: &usize| members.get(*index).is_some_and(|one| one.availability == Availability::Now);
        let others: Vec<usize> = order.iter().copied().filter(is_available).skip(1).collect();
        if rng.f64() < EXPLORE
            && let Some(explored) = rng.choice(others)
        {
            order.retain(|index| *index != explored);
            order.insert(0, explored);
        }
        order
    }

    fn took(&self, _members: &[MemberView], state: &mut StrategyState, index: usize, now: Instant) {
        if let Some(speed) = state.speeds.get_mut(index).filter(|speed| speed.measured.is_none()) {
            speed.trials = speed.trials.saturating_add(1);
            speed.tried = Some(now);
        }
    }

    fn succeeded(&self, state: &mut StrategyState, index: usize, first: Duration, now: Instant) {
        let Some(speed) = state.speeds.get_mut(index) else { return };
        let seconds = first.as_secs_f64();
        let measured = match speed.measured {
            None => Measured { seconds, samples: 1, last: now },
            Some(known) => {
                // What is old, and what rests on few measurements, gives way sooner.
                let few = 1.0 / f64::from(known.samples.saturating_add(1));
                let weight = (1.0 - (1.0 - WEIGHT) * known.freshness(now)).max(few);
                Measured {
                    seconds: known.seconds + (seconds - known.seconds) * weight,
                    samples: known.samples.saturating_add(1),
                    last: now,
                }
            }
        };
        speed.measured = Some(measured);
    }

    fn failed(&self, state: &mut StrategyState, index: usize, now: Instant) {
        let slowest = state.speeds.iter().filter_map(|speed| speed.measured);
        let slowest = slowest.map(|measured| measured.seconds).fold(0.0, f64::max);
        let Some(speed) = state.speeds.get_mut(index) else { return };
        let known = speed.measured.map_or(0.0, |measured| measured.seconds);
        // It may only rise: a fast failure is no fast answer.
        let seconds = (known * PENALTY).max(slowest).clamp(0.1, 600.0);
        let samples = speed.measured.map_or(0, |measured| measured.samples);
        speed.measured = Some(Measured { seconds, samples, last: now });
    }
}

// === impl Speed ===

impl Speed {
    /// Nobody measured it and nobody is at it: first. Then by the average. One that is being measured for the first
    /// time comes last, so that requests that come together do not all wait for the same unknown.
    fn rank(&self, now: Instant) -> (u8, f64) {
        if let Some(measured) = self.measured {
            return (1, measured.seconds * measured.freshness(now));
        }
        let is_tried = self.tried.is_some_and(|at| now.saturating_duration_since(at) < TRIAL);
        (if is_tried { 2 } else { 0 }, f64::from(self.trials))
    }
}

// === impl Measured ===

impl Measured {
    fn freshness(&self, now: Instant) -> f64 {
        0.5_f64.powf(now.saturating_duration_since(self.last).as_secs_f64() / HALF_LIFE)
    }
}
