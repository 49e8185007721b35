//! What a group would do with a call: in which order it would ask its members now, and why. The strategy is asked with
//! a copy of what it remembers, so that nothing is spent.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use super::super::explain::{Decision, Turn, Way, round_below};
use super::super::plan::Plan;
use super::super::strategy::{Availability, MemberView};
use super::super::{Call, Outlook};
use super::{Group, Member};

impl Group {
    /// What it would do with this call now.
    pub(super) fn decide(&self, call: &Call) -> Decision<'_> {
        let calls: Vec<Call> = self.members.iter().map(|member| member.call(call, None)).collect();
        let outlooks = self.outlooks(&call.model, &calls);
        let mut plan = Plan::new(self.members.iter().map(|_| None), self.attempts);
        let mut views = Vec::new();
        for (index, (member, outlook)) in self.members.iter().zip(&outlooks).enumerate() {
            views.push(member.view(outlook.as_ref().ok()));
            if outlook.is_err() {
                plan.leave_out(index);
            }
        }
        let (preference, mut why) = self.peek(call, &views);
        let order = plan.order(preference, &views, Duration::ZERO);
        let ways = self.members.iter().zip(calls).zip(&outlooks).enumerate();
        let ways = ways.map(|(index, ((member, its), outlook))| Way {
            label: &member.label,
            backend: &*member.backend,
            call: Call { round: Some(round_below(call)), ..its },
            turn: match order.iter().position(|known| *known == index) {
                Some(place) => Turn::Asked(place + 1),
                None => Turn::Skipped,
            },
            why: reason(member, outlook),
            conditions: Vec::new(),
        });
        let ways: Vec<Way<'_>> = ways.collect();
        if let Some(racing) = self.racing {
            why.push(format!(
                "asks up to {} side by side, the next one after {:?}; who begins to answer first answers",
                racing.width, racing.delay
            ));
        }
        let sure = self.racing.is_none();
        Decision { why, ways, route: None, own: None, hands_on: false, hop: None, sure }
    }

    /// The order in which members would be asked, and why, without spending a turn.
    fn peek(&self, call: &Call, views: &[MemberView]) -> (Vec<usize>, Vec<String>) {
        let now = Instant::now();
        let (mut order, says) = {
            let guard = self.turns.state.lock().unwrap_or_else(PoisonError::into_inner);
            let (mut state, mut rng) = (guard.0.clone(), guard.1.clone());
            let strategy = self.turns.strategy;
            (strategy.order(views, &mut state, now, &mut rng), strategy.says())
        };
        let mut why = vec![format!("members are asked {says}, those with capacity first")];
        let home = self.home(call, now).filter(|home| *home < views.len());
        if let Some(home) = home {
            order.retain(|index| *index != home);
            order.insert(0, home);
            if let Some(member) = self.members.get(home) {
                why.push(format!("the conversation stays with `{}`, which answered it last", member.label));
            }
        }
        (order, why)
    }
}

/// What the strategy and the plan see of a member.
fn reason(member: &Member, outlook: &Result<Outlook, String>) -> Option<String> {
    let outlook = match outlook {
        Ok(outlook) => outlook,
        Err(reason) => return Some(reason.clone()),
    };
    let mut parts = Vec::new();
    if outlook.availability != Availability::Now {
        parts.push("no capacity now".to_owned());
    }
    if member.weight != 1 {
        parts.push(format!("weight {}", member.weight));
    }
    if outlook.share_left < 1.0 {
        parts.push(format!("{:.0} % of its limits left", outlook.share_left * 100.0));
    }
    if !member.set.is_empty() {
        let fields: Vec<&str> = member.set.iter().map(|(key, _)| key.as_str()).collect();
        parts.push(format!("sets {}", fields.join(", ")));
    }
    (!parts.is_empty()).then(|| parts.join(", "))
}
