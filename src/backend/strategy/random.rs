//! `random`: members by lot, by weight, without putting a lot back. Pure: the randomness is passed in.

use std::time::Instant;

use super::{MemberView, Strategy, StrategyState};

/// By lot.
pub(super) struct Random;

impl Strategy for Random {
    fn says(&self) -> &'static str {
        "by lot, by weight"
    }

    fn order(
        &self,
        members: &[MemberView],
        _state: &mut StrategyState,
        _now: Instant,
        rng: &mut fastrand::Rng,
    ) -> Vec<usize> {
        let mut left: Vec<(usize, u64)> = members
            .iter()
            .enumerate()
            .map(|(index, member)| (index, u64::from(member.weight.max(1))))
            .collect();
        let mut order = Vec::with_capacity(left.len());
        while !left.is_empty() {
            let total: u64 = left.iter().map(|(_, weight)| weight).sum();
            let mut lot = rng.u64(0..total.max(1));
            let drawn = left.iter().position(|(_, weight)| {
                let hit = lot < *weight;
                lot = lot.saturating_sub(*weight);
                hit
            });
            order.push(left.remove(drawn.unwrap_or(0)).0);
        }
        order
    }
}
