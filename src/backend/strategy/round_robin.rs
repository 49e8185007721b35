//! `round-robin`: members take turns by weight, evenly spread (the smooth form that nginx made known): of weights 2 and
//! 1 come a, b, a. Pure.

use std::time::Instant;

use super::{Availability, MemberView, Strategy, StrategyState, available_first};

/// Turns by weight.
pub(super) struct RoundRobin;

impl Strategy for RoundRobin {
    fn order(
        &self,
        members: &[MemberView],
        state: &mut StrategyState,
        _now: Instant,
        _rng: &mut fastrand::Rng,
    ) -> Vec<usize> {
        state.credit.resize(members.len(), 0);
        let mut total = 0;
        for (credit, member) in state.credit.iter_mut().zip(members) {
            // Those that cannot be asked save up no turns.
            if member.availability == Availability::Now {
                *credit += i64::from(member.weight);
                total += i64::from(member.weight);
            }
        }
        let mut order: Vec<usize> = (0..members.len()).collect();
        order.sort_by_key(|index| std::cmp::Reverse(state.credit.get(*index).copied().unwrap_or(0)));
        let order = available_first(order, members);
        if total > 0
            && let Some(credit) = order.first().and_then(|first| state.credit.get_mut(*first))
        {
            *credit -= total;
        }
        order
    }
}
