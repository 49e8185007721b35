//! What a split would do with a call: for each condition of each route whether it holds, and what was seen.

use super::super::Call;
use super::super::explain::{Decision, Own, Told, Turn, Way};
use super::Split;

impl Split {
    /// What it would do with this call now.
    pub(super) fn decide(&self, call: &Call) -> Decision<'_> {
        let standing = |of: &str| self.standing(of, call);
        let learned = || self.learned(call);
        let facts = self.facts(call, &standing, &learned);
        let mut taken: Option<usize> = None;
        let mut fails: Option<String> = None;
        let mut ways = Vec::new();
        for (index, route) in self.routes.iter().enumerate() {
            let mut there = call.clone();
            let (turn, why, conditions) = if taken.is_some() {
                let unseen = route.conditions.in_words().into_iter();
                let unseen = unseen.map(|condition| Told { condition, holds: None, seen: None });
                (Turn::Passed, Some("not looked at: a route above is taken".to_owned()), unseen.collect())
            } else {
                let told = route.conditions.tell(&facts);
                if route.conditions.hold(&facts) {
                    taken = Some(index);
                    let why = told.is_empty().then(|| "takes all that comes to it".to_owned());
                    match route.model_for(&call.model, &self.about.id) {
                        Ok(model) => {
                            there = call.passed_on(Some(&model), &route.set);
                            (Turn::Asked(1), why, told)
                        }
                        Err(wrong) => {
                            fails =
                                Some(format!("route {} of router `{}` {wrong}", index + 1, self.about.id));
                            (Turn::Passed, fails.clone(), told)
                        }
                    }
                } else {
                    (Turn::Passed, None, told)
                }
            };
            ways.push(Way {
                label: &route.label,
                backend: &*route.backend,
                call: there,
                turn,
                why,
                conditions,
            });
        }
        let why = match taken {
            Some(index) => format!("route {} is the first whose conditions all hold", index + 1),
            None => "no route's conditions all hold".to_owned(),
        };
        if taken.is_none() {
            fails = Some(self.no_route(call).message);
        }
        let route = Some(taken.map(|index| index + 1));
        Decision { route, ..Decision::handing_on(vec![why], ways, fails.map(Own::cannot)) }
    }
}
