//! What is tried, and what must hold.

use demuxai::demo::allowance::Frankness;

use crate::tiers::Knowledge;

/// One row of the report.
pub struct Scenario {
    pub name: &'static str,
    pub knowledge: Knowledge,
    pub frankness: Frankness,
    pub restarts: u32,
    pub target: Option<Target>,
}

/// What must hold, besides that no client fails while there is capacity.
#[derive(Clone, Copy)]
pub struct Target {
    /// The least share of what the oracle serves, in percent.
    pub share: f64,
    /// The most refusals per 1000 served.
    pub refusals: f64,
}

const RIGHT: Target = Target { share: 99.0, refusals: 0.0 };
const LEARNS: Target = Target { share: 97.0, refusals: 5.0 };

const fn row(name: &'static str, knowledge: Knowledge, frankness: Frankness, target: Target) -> Scenario {
    Scenario { name, knowledge, frankness, restarts: 0, target: Some(target) }
}

/// All of them.
pub fn all() -> Vec<Scenario> {
    use Frankness::{Bodies, Nothing, Real};
    use Knowledge::{Configured, Guesses};
    let none = Knowledge::Nothing;
    let mut all = vec![
        row("right, headers", Guesses(1.0), Real, RIGHT),
        row("right, no headers", Guesses(1.0), Bodies, RIGHT),
        row("half, headers", Guesses(0.5), Real, LEARNS),
        row("half, no headers", Guesses(0.5), Bodies, LEARNS),
        row("double, headers", Guesses(2.0), Real, LEARNS),
        row("double, no headers", Guesses(2.0), Bodies, LEARNS),
        row("none, headers", none, Real, LEARNS),
        row("none, no headers", none, Bodies, LEARNS),
        row("configured, headers", Configured(1.0), Real, RIGHT),
        row("configured, no headers", Configured(1.0), Bodies, RIGHT),
        row("configured below, headers", Configured(0.7), Real, RIGHT),
        Scenario { restarts: 5, ..row("restarts, right, headers", Guesses(1.0), Real, RIGHT) },
        Scenario { restarts: 5, ..row("restarts, none, headers", none, Real, LEARNS) },
        Scenario { restarts: 5, ..row("restarts, configured, no headers", Configured(1.0), Bodies, RIGHT) },
    ];
    // Upstreams that say nothing but no, for comparison.
    all.push(Scenario { target: None, ..row("mute, none known", none, Nothing, LEARNS) });
    all
}

// === impl Scenario ===

impl Scenario {
    /// The share of the true limits that may be used.
    pub fn ceiling(&self) -> f64 {
        match self.knowledge {
            Knowledge::Configured(factor) => factor.min(1.0),
            Knowledge::Guesses(_) | Knowledge::Nothing => 1.0,
        }
    }

    /// Whether the user's own limits are judged.
    pub fn is_configured(&self) -> bool {
        matches!(self.knowledge, Knowledge::Configured(_))
    }
}
