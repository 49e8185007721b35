//! `soonest-reset`: spends the tier first whose longest window ends soonest, whether something of it is used or not, since
//! what is left of it then is lost. Members without a window come after those with one, in the configured order. Pure.

use std::time::Instant;

use super::{MemberView, Strategy, StrategyState};

/// The soonest whole first.
pub(super) struct SoonestReset;

impl Strategy for SoonestReset {
    fn says(&self) -> &'static str {
        "by what is lost soonest, the first first"
    }

    fn order(
        &self,
        members: &[MemberView],
        _state: &mut StrategyState,
        _now: Instant,
        _rng: &mut fastrand::Rng,
    ) -> Vec<usize> {
        let mut order: Vec<usize> = (0..members.len()).collect();
        order.sort_by_key(|index| {
            members.get(*index).and_then(|member| member.next_reset).unwrap_or(i64::MAX)
        });
        order
    }
}
