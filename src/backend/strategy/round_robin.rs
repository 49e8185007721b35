//! `round-robin`: members take turns by weight, evenly spread (the smooth form that nginx made known): of weights 2 and
//! 1 come a, b, a. Pure.

use std::time::Instant;

use super::{Availability, MemberView, Strategy, StrategyState};

/// Turns by weight.
pub(super) struct RoundRobin;

impl Strategy for RoundRobin {
    fn says(&self) -> &'static str {
        "by turns, by weight"
    }

    fn order(
        &self,
        members: &[MemberView],
        state: &mut StrategyState,
        _now: Instant,
        _rng: &mut fastrand::Rng,
    ) -> Vec<usize> {
        state.credit.resize(members.len(), 0);
        let credit = |index: &usize| {
            let known = state.credit.get(*index).copied().unwrap_or(0);
            known + members.get(*index).map_or(0, earned)
        };
        let mut order: Vec<usize> = (0..members.len()).collect();
        order.sort_by_key(|index| std::cmp::Reverse(credit(index)));
        order
    }

    fn took(&self, members: &[MemberView], state: &mut StrategyState, index: usize, _now: Instant) {
        state.credit.resize(members.len(), 0);
        for (credit, member) in state.credit.iter_mut().zip(members) {
            *credit += earned(member);
        }
        if let Some(credit) = state.credit.get_mut(index) {
            *credit -= members.iter().map(earned).sum::<i64>();
        }
    }
}

/// What a member earns while another one has its turn. Those that cannot be asked save up no turns.
fn earned(member: &MemberView) -> i64 {
    if member.availability == Availability::Now { i64::from(member.weight) } else { 0 }
}
