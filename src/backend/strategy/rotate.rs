//! `rotate`: stays with the member that works, goes on to the next one when it fails or has nothing left and another one
//! has, and does not come back by itself. Pure.

use std::time::Instant;

use super::{Availability, MemberView, Strategy, StrategyState};

/// Stays where it works.
pub(super) struct Rotate;

impl Strategy for Rotate {
    fn says(&self) -> &'static str {
        "from the one that worked last"
    }

    fn order(
        &self,
        members: &[MemberView],
        state: &mut StrategyState,
        _now: Instant,
        _rng: &mut fastrand::Rng,
    ) -> Vec<usize> {
        let count = members.len();
        state.count = count;
        (0..count).map(|step| (state.active + step) % count).collect()
    }

    fn took(&self, members: &[MemberView], state: &mut StrategyState, index: usize, _now: Instant) {
        // One that cannot serve this request may well serve the next one.
        let left = members.get(state.active).map(|active| active.availability);
        if matches!(left, Some(Availability::At(_))) {
            state.active = index;
        }
    }

    fn failed(&self, state: &mut StrategyState, index: usize, _now: Instant) {
        // Requests that were under way at a member that was left already move nobody on.
        if state.active == index {
            state.active = (index + 1) % state.count.max(1);
        }
    }
}
