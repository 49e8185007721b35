//! `least-latency`: the member with the shortest average time to the first token first. One that was not measured yet
//! is, and now and then another one is tried, so that an average does not stay what it once was. Pure.

use std::time::{Duration, Instant};

use super::{Availability, MemberView, Strategy, StrategyState, available_first};

/// How much the newest measurement weighs.
const WEIGHT: f64 = 0.3;
/// How often another one than the best is tried.
const EXPLORE: f64 = 0.05;
/// What a failure costs in the average, at least.
const PENALTY: f64 = 2.0;

/// The fastest first.
pub(super) struct LeastLatency;

impl Strategy for LeastLatency {
    fn order(
        &self,
        members: &[MemberView],
        state: &mut StrategyState,
        _now: Instant,
        rng: &mut fastrand::Rng,
    ) -> Vec<usize> {
        state.latency.resize(members.len(), None);
        let mut order: Vec<usize> = (0..members.len()).collect();
        // Unmeasured is faster than all: it is tried, and then it is measured.
        let of = |index: &usize| state.latency.get(*index).copied().flatten().unwrap_or(0.0);
        order.sort_by(|one, other| of(one).total_cmp(&of(other)));
        let mut order = available_first(order, members);
        let available = members.iter().filter(|member| member.availability == Availability::Now).count();
        if available > 1 && rng.f64() < EXPLORE {
            let other = rng.usize(1..available);
            let explored = order.remove(other);
            order.insert(0, explored);
        }
        order
    }

    fn succeeded(&self, state: &mut StrategyState, index: usize, first: Duration, _now: Instant) {
        let Some(known) = state.latency.get_mut(index) else { return };
        let measured = first.as_secs_f64();
        *known = Some(known.map_or(measured, |average| average + (measured - average) * WEIGHT));
    }

    fn failed(&self, state: &mut StrategyState, index: usize, _now: Instant) {
        let slowest = state.latency.iter().flatten().copied().fold(0.0, f64::max);
        let Some(known) = state.latency.get_mut(index) else { return };
        // It may only rise: a fast failure is no fast answer.
        *known = Some((known.unwrap_or(0.0) * PENALTY).max(slowest).clamp(0.1, 600.0));
    }
}
