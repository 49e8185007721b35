//! `most-quota`: the member with the largest share left first; of equal ones, in the configured order. Pure.

use std::time::Instant;

use super::{MemberView, Strategy, StrategyState};

/// The fullest first.
pub(super) struct MostQuota;

impl Strategy for MostQuota {
    fn says(&self) -> &'static str {
        "by the share of their limits that is left, the fullest first"
    }

    fn order(
        &self,
        members: &[MemberView],
        _state: &mut StrategyState,
        _now: Instant,
        _rng: &mut fastrand::Rng,
    ) -> Vec<usize> {
        let mut order: Vec<usize> = (0..members.len()).collect();
        let share = |index: &usize| members.get(*index).map_or(0.0, |member| member.share_left);
        order.sort_by(|one, other| share(other).total_cmp(&share(one)));
        order
    }
}
