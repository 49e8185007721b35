//! The numbers of a scenario as a line of text, and whether its targets hold.

use std::fmt::Write;

use crate::scenario::Scenario;
use crate::simulation::Totals;
use crate::tiers::World;

/// One scenario and what came of it.
pub struct Line<'a> {
    pub scenario: &'a Scenario,
    pub oracle: &'a Totals,
    pub system: &'a Totals,
    pub naive: &'a Totals,
}

/// What the columns are.
pub fn heading(days: u32, requests: usize) -> String {
    format!(
        "{requests} requests in {days} days. Requests and tokens are shares of the oracle's; refusals are upstream 429s per 1000 served;\n\
         missed are failures that clients saw while there was capacity; above are requests sent beyond the user's own limits.\n\n\
         {:<34} {:>9} {:>8} {:>9} {:>7} {:>6} {:>7}   round robin: {:>9} {:>9} {:>7}",
        "", "requests", "tokens", "refusals", "missed", "above", "", "requests", "refusals", "missed"
    )
}

#[expect(clippy::cast_precision_loss, reason = "a share needs no more than a few digits")]
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 100.0 } else { part as f64 * 100.0 / whole as f64 }
}

fn per_thousand(result: &Totals) -> f64 {
    share(result.refused, result.served.max(1)) * 10.0
}

impl Line<'_> {
    /// The line, and whether all targets hold.
    pub fn text(&self) -> (String, bool) {
        let Line { scenario, oracle, system, naive } = self;
        let requests = share(system.served, oracle.served);
        let tokens = share(system.tokens, oracle.tokens);
        let refusals = per_thousand(system);
        let holds = scenario.target.is_none_or(|target| {
            requests >= target.share && refusals <= target.refusals && system.missed == 0 && system.above == 0
        });
        let verdict = match scenario.target {
            None => "",
            Some(_) if holds => "ok",
            Some(_) => "MISSED",
        };
        let text = format!(
            "{:<34} {requests:>7.2} % {tokens:>6.2} % {refusals:>9.2} {:>7} {:>6} {verdict:>7}                {:>7.2} % {:>9.1} {:>7}",
            scenario.name,
            system.missed,
            system.above,
            share(naive.served, oracle.served),
            per_thousand(naive),
            naive.missed,
        );
        (text, holds)
    }

    /// Each tier by itself.
    pub fn detail(&self, world: &World) -> String {
        let mut text = format!(
            "    oracle: {} served, {} failed; system: {} served, {} failed\n",
            self.oracle.served, self.oracle.failed, self.system.served, self.system.failed
        );
        for ((tier, best), got) in world.tiers.iter().zip(&self.oracle.tiers).zip(&self.system.tiers) {
            let _ = writeln!(
                text,
                "    {:<14} oracle {:>6}  served {:>6}  refused {:>5} ({:>4} probes)  missed {:>5}  above {:>4}  {:?}",
                tier.id, best.served, got.served, got.refused, got.probes, got.missed, got.above, got.hit
            );
        }
        text
    }
}
