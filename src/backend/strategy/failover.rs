//! `failover`: the configured order, always, so that the first one has its work back as soon as it can do it. Pure.

use std::time::Instant;

use super::{MemberView, Strategy, StrategyState};

/// The configured order.
pub(super) struct Failover;

impl Strategy for Failover {
    fn says(&self) -> &'static str {
        "in the configured order"
    }

    fn order(
        &self,
        members: &[MemberView],
        _state: &mut StrategyState,
        _now: Instant,
        _rng: &mut fastrand::Rng,
    ) -> Vec<usize> {
        (0..members.len()).collect()
    }
}
