//! Whose turn it is: the order in which a group's members are tried. Pure: time and randomness are arguments, what a
//! strategy remembers is passed in. Whether a member can be asked at all is not decided here; [`available_first`] puts
//! those that cannot now last.
//!
//! A new strategy is one file beside this one and one row of [`STRATEGIES`].

mod failover;
mod least_latency;
mod most_quota;
mod random;
mod rotate;
mod round_robin;
mod soonest_reset;

use std::time::{Duration, Instant};

/// Whether a member could take a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Availability {
    /// Now.
    Now,
    /// Not now; at that moment (milliseconds since the epoch), where it is known.
    At(Option<i64>),
    /// Not this request.
    Never,
}

/// A member as a strategy sees it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MemberView {
    /// Its share, at least 1.
    pub weight: u32,
    /// Whether it could take the request.
    pub availability: Availability,
    /// The smallest share left of its limits, 0 to 1; 1 without limits.
    pub share_left: f64,
    /// When the first of its used windows is whole again.
    pub next_reset: Option<i64>,
    /// Its requests in flight.
    pub in_flight: usize,
}

/// What strategies remember, each what it needs; bounded by the number of members.
#[derive(Debug, Clone, Default)]
pub struct StrategyState {
    /// Where `rotate` stays, and of how many.
    active: usize,
    count: usize,
    /// The credit of each member in `round-robin`.
    credit: Vec<i64>,
    /// How fast each member was in `least-latency`.
    speeds: Vec<least_latency::Speed>,
}

/// One way to choose. A request asks once, however often it comes by; what asking costs is spent in `took`, by the
/// one that it goes to.
pub trait Strategy: Send + Sync {
    /// All members, the one to try first at the head. Whether they are available need not be looked at.
    fn order(
        &self,
        members: &[MemberView],
        state: &mut StrategyState,
        now: Instant,
        rng: &mut fastrand::Rng,
    ) -> Vec<usize>;

    /// How it orders members, in words that follow "members are asked".
    fn says(&self) -> &'static str {
        "in the order of their strategy"
    }

    /// A request goes to this member, which is available, because `order` and availability said so.
    fn took(&self, _members: &[MemberView], _state: &mut StrategyState, _index: usize, _now: Instant) {}

    /// A member answered, with its time to the first token.
    fn succeeded(&self, _state: &mut StrategyState, _index: usize, _first: Duration, _now: Instant) {}

    /// A member failed.
    fn failed(&self, _state: &mut StrategyState, _index: usize, _now: Instant) {}
}

/// Every strategy by the group type that uses it.
pub const STRATEGIES: [(&str, &dyn Strategy); 8] = [
    ("failover", &failover::Failover),
    ("rotate", &rotate::Rotate),
    ("round-robin", &round_robin::RoundRobin),
    ("random", &random::Random),
    ("least-latency", &least_latency::LeastLatency),
    ("most-quota", &most_quota::MostQuota),
    ("soonest-reset", &soonest_reset::SoonestReset),
    // Members of a race start in the configured order.
    ("race", &failover::Failover),
];

/// The strategy of a group type.
pub fn strategy(kind: &str) -> Option<&'static dyn Strategy> {
    STRATEGIES.iter().find(|(name, _)| *name == kind).map(|(_, strategy)| *strategy)
}

/// The order with those that are available first, each part in the order in which it was.
pub fn available_first(order: Vec<usize>, members: &[MemberView]) -> Vec<usize> {
    let rank = |index: &usize| {
        members.get(*index).map_or(2, |member| match member.availability {
            Availability::Now => 0,
            Availability::At(_) => 1,
            Availability::Never => 2,
        })
    };
    let mut order = order;
    order.sort_by_key(rank);
    order
}

// === impl Availability ===

impl Availability {
    /// The better of two.
    pub fn sooner(self, other: Availability) -> Availability {
        match (self, other) {
            (Availability::Now, _) | (_, Availability::Now) => Availability::Now,
            (Availability::Never, other) => other,
            (known, Availability::Never) => known,
            (Availability::At(Some(one)), Availability::At(Some(other))) => {
                Availability::At(Some(one.min(other)))
            }
            (Availability::At(one), Availability::At(other)) => Availability::At(one.or(other)),
        }
    }
}

#[cfg(test)]
mod tests;
