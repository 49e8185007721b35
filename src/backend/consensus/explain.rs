//! What a panel would do with a call now, for explanations: nobody is admitted or asked.

use std::sync::Arc;

use super::super::Call;
use super::super::explain::{Decision, Own, Turn, Way};
use super::super::group::Member;
use super::combine::Combine;
use super::plan::{OnQuota, Refusal, Standing, plan};
use super::{Panel, alone, standing};

impl Panel {
    /// Whom it would ask, and what their answers would come to.
    pub(super) fn decide(&self, call: &Call) -> Decision<'_> {
        if let Some(error) = self.objection(call) {
            let ways =
                self.members.iter().chain(&self.judge).map(|member| passed(member, call.clone(), None));
            return told(String::new(), ways.collect(), Some(error.message));
        }
        if let Some(why) = alone(&call.request) {
            let mut ways: Vec<Way<'_>> =
                self.members.iter().map(|member| passed(member, call.clone(), None)).collect();
            let judge = self.judge.as_ref().map(|judge| {
                let own = self.judge_call(call, Arc::clone(&call.request));
                Way { turn: Turn::Asked(1), ..passed(judge, own, None) }
            });
            ways.extend(judge);
            return told(format!("requests with `{why}` go to the judge alone"), ways, None);
        }
        self.asks(call)
    }

    fn asks(&self, call: &Call) -> Decision<'_> {
        let calls = self.calls(call);
        let outlooks = self.outlooks(call, &calls);
        let members: Vec<Standing> = outlooks.iter().map(standing).collect();
        let asked = self.judge.as_ref().filter(|_| self.combine.asks_judge());
        let judge = asked.map(|judge| (judge, self.judge_call(call, Arc::clone(&call.request))));
        let judge_stands = judge
            .as_ref()
            .filter(|_| self.fallback.is_none())
            .map(|(judge, own)| self.judge_standing(&judge.backend.outlook(own)));
        let planned = match judge_stands {
            Some(Standing::Unfit) => Err("its judge cannot serve this request".to_owned()),
            _ => plan(&members, judge_stands, self.quorum, self.on_quota)
                .map_err(|refusal| self.refuses(refusal)),
        };
        let ready = planned.as_ref().cloned().unwrap_or_default();
        let mut ways = Vec::new();
        for (index, (member, own)) in self.members.iter().zip(calls).enumerate() {
            let place = ready.iter().position(|one| *one == index);
            let (turn, why) = match (outlooks.get(index), place) {
                (Some(Err(reason)), _) => (Turn::Skipped, Some(reason.clone())),
                (_, Some(place)) if self.combine == Combine::Judge => (Turn::Consulted(place + 1), None),
                (_, Some(place)) => (Turn::Asked(place + 1), None),
                _ if members.get(index) == Some(&Standing::Ready) => (Turn::Passed, None),
                _ => (Turn::Passed, Some("has no capacity now".to_owned())),
            };
            ways.push(Way { turn, ..passed(member, own, why) });
        }
        if let Some((judge, own)) = judge {
            let turn = if planned.is_ok() { Turn::Asked(ready.len() + 1) } else { Turn::Passed };
            ways.push(Way { turn, ..passed(judge, own, Some("the judge".to_owned())) });
        }
        let why = format!(
            "asks members side by side, of which {} must answer, and makes one answer of theirs by \"{}\"",
            self.quorum,
            self.combine.word()
        );
        told(why, ways, planned.err())
    }

    /// Why nobody would be asked.
    fn refuses(&self, refusal: Refusal) -> String {
        let label = |index: usize| self.members.get(index).map_or("", |member| &member.label);
        match (refusal, self.on_quota) {
            (Refusal::Unfit, _) => format!("needs {} members that can serve this request", self.quorum),
            (Refusal::Judge(_), _) => "its judge has no capacity".to_owned(),
            (Refusal::Member(index, _), OnQuota::Refuse) => {
                format!("its `on_quota` is \"refuse\", and `{}` has no capacity", label(index))
            }
            (Refusal::Member(index, _), OnQuota::Shrink) => {
                format!("no quorum of its members has capacity; it waits for `{}`", label(index))
            }
        }
    }
}

fn passed(member: &Member, call: Call, why: Option<String>) -> Way<'_> {
    Way {
        label: &member.label,
        backend: &*member.backend,
        call,
        turn: Turn::Passed,
        why,
        conditions: Vec::new(),
    }
}

/// Whoever answers last, all that are asked have a part in it, which no course down the graph tells.
fn told(why: String, ways: Vec<Way<'_>>, fails: Option<String>) -> Decision<'_> {
    let why = if why.is_empty() { Vec::new() } else { vec![why] };
    let own = fails.map(Own::cannot);
    Decision { why, ways, route: None, own, hands_on: false, hop: None, sure: false }
}
