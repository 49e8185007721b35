//! What a panel would do with a call now, for explanations: nobody is admitted or asked.

use std::sync::Arc;

use super::super::Call;
use super::super::explain::{Decision, Own, Turn, Way};
use super::super::group::Member;
use super::combine::Combine;
use super::plan::{OnQuota, Refusal, Standing, plan};
use super::{Panel, alone, standing};
use crate::error::{Denial, ErrorKind, ProxyError};

impl Panel {
    /// Whom it would ask, and what their answers would come to.
    pub(super) fn decide(&self, call: &Call) -> Decision<'_> {
        if let Some(error) = self.objection(call) {
            let ways =
                self.members.iter().chain(&self.judge).map(|member| passed(member, call.clone(), None));
            return Decision::handing_on(Vec::new(), ways.collect(), Some(Own::fails(error, None)));
        }
        if let Some(why) = alone(&call.request) {
            let mut ways: Vec<Way<'_>> =
                self.members.iter().map(|member| passed(member, call.clone(), None)).collect();
            let judge = self.judge.as_ref().map(|judge| {
                let own = Call { model: Arc::from(""), ..call.clone() };
                Way { turn: Turn::Asked(1), ..passed(judge, judge.call(&own, call.round.clone()), None) }
            });
            ways.extend(judge);
            let why = vec![format!("requests with `{why}` go to the judge alone")];
            return Decision::handing_on(why, ways, None);
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
            Some(Standing::Unfit) => Err(Own::cannot("its judge cannot serve this request".to_owned())),
            _ => plan(&members, judge_stands, self.quorum, self.on_quota)
                .map_err(|refusal| self.refuses(refusal)),
        };
        let ready = planned.as_ref().ok();
        let mut ways = Vec::new();
        for (index, (member, own)) in self.members.iter().zip(calls).enumerate() {
            let place = ready.and_then(|ready| ready.iter().position(|one| *one == index));
            let (turn, why) = match (outlooks.get(index), place) {
                (Some(Err(reason)), _) => (Turn::Skipped, Some(reason.clone())),
                (_, Some(place)) => (Turn::Consulted(place + 1), None),
                _ if members.get(index) == Some(&Standing::Ready) => (Turn::Passed, None),
                _ => {
                    let kind =
                        member.backend.ails(&own).map_or(ErrorKind::QuotaExhausted, |error| error.kind);
                    (Turn::Lacks(kind.label()), Some("has no capacity now".to_owned()))
                }
            };
            ways.push(Way { turn, ..passed(member, own, why) });
        }
        let own = match &planned {
            Err(refused) => Some(refused.clone()),
            Ok(ready) => self.combines(call, ready),
        };
        if let Some((judge, its)) = judge {
            let turn = match (ready, &own) {
                (None, _) => Turn::Passed,
                (Some(ready), Some(_)) if self.in_its_own_name(call) => Turn::Judges(ready.len() + 1),
                (Some(ready), _) => Turn::Asked(ready.len() + 1),
            };
            ways.push(Way { turn, ..passed(judge, its, Some("the judge".to_owned())) });
        }
        let why = format!(
            "asks members side by side, of which {} must answer, and makes one answer of theirs by \"{}\"",
            self.quorum,
            self.combine.word()
        );
        // All that are asked have a part in it, and who answers first is not known.
        Decision { sure: false, hands_on: false, ..Decision::handing_on(vec![why], ways, own) }
    }

    /// What it answers in its own name, or would if its judge fails. `None`: the judge answers.
    fn combines(&self, call: &Call, ready: &[usize]) -> Option<Own> {
        if !self.in_its_own_name(call) && self.fallback.is_none() {
            return None;
        }
        let only = || match ready {
            [only] => self.members.get(*only).map(|member| Arc::clone(&member.label)),
            _ => None,
        };
        let model = if call.request.stream { Some(Arc::clone(&self.about.id)) } else { only() };
        Some(Own::Combines { model, at_once: call.request.stream && self.shows() })
    }

    /// Whether the answer's head names the panel: that of a rule, one that is chosen, and that of a stream which begins
    /// with the members' words. Else it is the judge's.
    fn in_its_own_name(&self, call: &Call) -> bool {
        self.combine != Combine::Judge || (call.request.stream && self.shows())
    }

    /// Why nobody would be asked, as a client would be told.
    fn refuses(&self, refusal: Refusal) -> Own {
        let label = |index: usize| self.members.get(index).map_or("", |member| &member.label);
        let (why, until) = match (refusal, self.on_quota) {
            (Refusal::Unfit, _) => {
                return Own::cannot(format!("needs {} members that can serve this request", self.quorum));
            }
            (Refusal::Judge(until), _) => ("its judge has no capacity".to_owned(), until),
            (Refusal::Member(index, until), OnQuota::Refuse) => {
                (format!("its `on_quota` is \"refuse\", and `{}` has no capacity", label(index)), until)
            }
            (Refusal::Member(index, until), OnQuota::Shrink) => {
                (format!("no quorum of its members has capacity; it waits for `{}`", label(index)), until)
            }
        };
        let mut error = ProxyError::new(ErrorKind::Exhausted, why).with_code("refused");
        error.denial = Some(Denial::default());
        error.retry_after = self.time_until(until);
        Own::fails(error, until)
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
