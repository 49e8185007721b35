//! Who knows the true limits: serves a request as soon as any member may, in the group's order, as long as the request
//! waits. Greedy: it does not see the requests that are still to come.

use std::collections::BTreeMap;

use demuxai::demo::allowance::Allowance;

use crate::simulation::Totals;
use crate::tiers::World;
use crate::traffic::Request;

enum Event {
    Try(usize),
    Leave { tier: usize, model: &'static str, request: usize },
}

/// What can be served of these requests with this share of the true limits.
pub fn run(world: &World, requests: &[Request], share: f64) -> Totals {
    let truth = |tier: &crate::tiers::Tier| Allowance::new(tier.truth(share).unwrap_or_default());
    let mut accounts: Vec<Allowance> = world.tiers.iter().map(truth).collect();
    let mut result = Totals { tiers: vec![Default::default(); world.tiers.len()], ..Totals::default() };
    let mut events: BTreeMap<(i64, u64), Event> = BTreeMap::new();
    let mut next = 0;
    let mut at = |events: &mut BTreeMap<(i64, u64), Event>, at: i64, event: Event| {
        next += 1;
        events.insert((at, next), event);
    };
    // Those that wait for a place at a tier that is full.
    let mut waiting: Vec<Vec<usize>> = vec![Vec::new(); world.tiers.len()];
    for (number, request) in requests.iter().enumerate() {
        at(&mut events, request.at, Event::Try(number));
    }
    let mut over = vec![false; requests.len()];
    while let Some(((now, _), event)) = events.pop_first() {
        let number = match event {
            Event::Try(number) if over[number] => continue,
            Event::Try(number) => number,
            Event::Leave { tier, model, request } => {
                accounts[tier].done(now, model, requests[request].output);
                for number in std::mem::take(&mut waiting[tier]) {
                    at(&mut events, now, Event::Try(number));
                }
                continue;
            }
        };
        let request = &requests[number];
        let group = &world.groups[request.group];
        let mut again: Option<i64> = None;
        let mut places = Vec::new();
        for (tier, model) in &group.members {
            let Some(refused) = accounts[*tier].check(now, model, request.input) else {
                accounts[*tier].count(now, model, request.input);
                let (_, last) = world.tiers[*tier].pace(request.output);
                at(&mut events, now + last, Event::Leave { tier: *tier, model, request: number });
                result.served += 1;
                result.tokens += request.input + request.output;
                result.tiers[*tier].served += 1;
                over[number] = true;
                break;
            };
            match refused.frees_at {
                Some(frees) => again = Some(again.map_or(frees, |known: i64| known.min(frees))),
                None if !refused.never => places.push(*tier),
                None => {}
            }
        }
        if over[number] {
            continue;
        }
        let deadline = request.at + group.wait;
        let again = again.map(|again| again.max(now + 1)).filter(|again| *again <= deadline);
        if again.is_none() && places.is_empty() || now > deadline {
            over[number] = true;
            result.failed += 1;
            continue;
        }
        if let Some(again) = again {
            at(&mut events, again, Event::Try(number));
        }
        for tier in places {
            waiting[tier].push(number);
            if again.is_none() {
                at(&mut events, deadline + 1, Event::Try(number));
            }
        }
    }
    result
}
