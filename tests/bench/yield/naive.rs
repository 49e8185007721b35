//! What many do: members in turns, the next one on an error, and the error to the client when all of them refused.

use std::collections::BTreeMap;

use demuxai::demo::allowance::{Admission, Allowance};

use crate::simulation::Totals;
use crate::tiers::World;
use crate::traffic::Request;

/// A member's answer, or its refusal, takes so long to come back.
const LATENCY: i64 = 130;

enum Event {
    Try { request: usize, member: usize, left: usize },
    Leave { tier: usize, model: &'static str, request: usize },
}

/// What is served of these requests.
pub fn run(world: &World, requests: &[Request]) -> Totals {
    let truth = |tier: &crate::tiers::Tier| Allowance::new(tier.truth(1.0).unwrap_or_default());
    let mut accounts: Vec<Allowance> = world.tiers.iter().map(truth).collect();
    let mut shadows = accounts.clone();
    let mut result = Totals { tiers: vec![Default::default(); world.tiers.len()], ..Totals::default() };
    let mut turns = vec![0; world.groups.len()];
    let mut events: BTreeMap<(i64, usize), Event> = BTreeMap::new();
    let mut next = 0;
    for (number, request) in requests.iter().enumerate() {
        let left = world.groups[request.group].members.len();
        turns[request.group] += 1;
        events.insert((request.at, next), Event::Try { request: number, member: turns[request.group], left });
        next += 1;
    }
    while let Some(((now, _), event)) = events.pop_first() {
        next += 1;
        match event {
            Event::Leave { tier, model, request } => {
                accounts[tier].done(now, model, requests[request].output);
                shadows[tier].done(now, model, requests[request].output);
            }
            Event::Try { request: number, left: 0, .. } => {
                let request = &requests[number];
                result.failed += 1;
                for (tier, model) in &world.groups[request.group].members {
                    if shadows[*tier].admit(now, model, request.input) == Admission::Admitted {
                        shadows[*tier].done(now, model, request.output);
                        result.missed += 1;
                        break;
                    }
                }
            }
            Event::Try { request: number, member, left } => {
                let request = &requests[number];
                let members = &world.groups[request.group].members;
                let (tier, model) = members[member % members.len()];
                if accounts[tier].admit(now, model, request.input) == Admission::Admitted {
                    shadows[tier].count(now, model, request.input);
                    result.served += 1;
                    result.tokens += request.input + request.output;
                    result.tiers[tier].served += 1;
                    let (_, last) = world.tiers[tier].pace(request.output);
                    events.insert((now + last, next), Event::Leave { tier, model, request: number });
                } else {
                    result.refused += 1;
                    result.tiers[tier].refused += 1;
                    let again = Event::Try { request: number, member: member + 1, left: left - 1 };
                    events.insert((now + LATENCY, next), again);
                }
            }
        }
    }
    result
}
