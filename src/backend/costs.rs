//! What was bought for one request: each call to a provider, whoever made it and whatever became of the answer. One answer
//! may be made of several (a panel's), or be somebody else's (a cache's), which its own token counts do not tell; and what
//! lost a race, or was given up, was asked all the same.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Call;
use crate::backend::size::Size;
use crate::dialect::Usage;
use crate::metrics::ModelMeters;

/// Collects the costs of one call, wherever below they arise.
#[derive(Default)]
pub struct Costs {
    calls: Mutex<Vec<Arc<Mutex<Cost>>>>,
    /// Whoever counts further up, for whom all of it counts, too.
    above: Option<Arc<Costs>>,
}

/// One call to a provider.
#[derive(Clone)]
pub struct Cost {
    /// The provider's id.
    pub provider: Arc<str>,
    /// The model's id at the upstream.
    pub model: Arc<str>,
    /// How large the request was.
    pub size: Size,
    /// The metric handles of both.
    pub meters: Arc<ModelMeters>,
    /// What became of it.
    pub became: Became,
}

/// What became of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Became {
    /// It was not sent.
    Unsent,
    /// It was sent, and nobody said what it took: it was given up, or is not over.
    Sent,
    /// It was sent and failed without an answer.
    Failed,
    /// It was answered, and took this, as far as its upstream says.
    Answered(Usage),
}

/// Where a provider writes down what becomes of one call; nowhere, if nobody wants to know.
pub struct Slip(Option<Arc<Mutex<Cost>>>);

// === impl Costs ===

impl Costs {
    /// For a call below `above`.
    pub fn below(above: Option<&Arc<Costs>>) -> Arc<Self> {
        Arc::new(Costs { calls: Mutex::default(), above: above.cloned() })
    }

    /// All of them, as they are now.
    pub fn told(&self) -> Vec<Cost> {
        lock(&self.calls).iter().map(|cost| lock(cost).clone()).collect()
    }

    fn add(&self, cost: &Arc<Mutex<Cost>>) {
        lock(&self.calls).push(Arc::clone(cost));
        if let Some(above) = &self.above {
            above.add(cost);
        }
    }
}

// === impl Slip ===

impl Slip {
    /// For a call that this provider is about to send.
    pub fn of(call: &Call, provider: &Arc<str>, meters: &Arc<ModelMeters>) -> Slip {
        Slip(call.costs.as_ref().map(|costs| {
            let cost = Arc::new(Mutex::new(Cost {
                provider: Arc::clone(provider),
                model: Arc::clone(&call.model),
                size: Size::of(&call.request),
                meters: Arc::clone(meters),
                became: Became::Unsent,
            }));
            costs.add(&cost);
            cost
        }))
    }

    /// It is sent, or sent once more.
    pub fn sent(&self) {
        self.became(Became::Sent);
    }

    /// It came to no answer.
    pub fn failed(&self) {
        if self.0.as_ref().is_some_and(|cost| lock(cost).became == Became::Sent) {
            self.became(Became::Failed);
        }
    }

    /// It was answered, and this is what its upstream says that it cost.
    pub fn answered(&self, usage: Usage) {
        self.became(Became::Answered(usage));
    }

    fn became(&self, became: Became) {
        if let Some(cost) = &self.0 {
            lock(cost).became = became;
        }
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing in there can be half-changed.
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::modifier::scene::call;
    use crate::metrics::Metrics;

    const CHAT: &str = r#""messages":[{"role":"user","content":"hi"}]"#;

    #[test]
    fn what_is_bought_below_counts_for_all_above_as_it_stands_when_somebody_looks() {
        let outer = Costs::below(None);
        let inner = Costs::below(Some(&outer));
        let meters = Metrics::new().unwrap().meters("p", "m");
        let slip = |costs: &Arc<Costs>| {
            let call = Call { costs: Some(Arc::clone(costs)), ..call(&format!("{CHAT},\"max_tokens\":7")) };
            Slip::of(&call, &Arc::from("p"), &meters)
        };
        let usage = Usage { input: Some(3), ..Usage::default() };
        let (answered, left, failed, waits) = (slip(&inner), slip(&inner), slip(&inner), slip(&inner));
        let own = slip(&outer);
        for slip in [&answered, &left, &failed, &own] {
            slip.sent();
        }
        answered.answered(usage);
        failed.failed();
        drop((left, waits));
        let became = |costs: &Costs| costs.told().iter().map(|cost| cost.became).collect::<Vec<_>>();
        let all = [Became::Answered(usage), Became::Sent, Became::Failed, Became::Unsent];
        assert_eq!(became(&inner), all);
        assert_eq!(became(&outer), [&all[..], &[Became::Sent]].concat());
        assert_eq!(inner.told()[0].size.max_tokens, Some(7));
        Slip::of(&call(CHAT), &Arc::from("p"), &meters).answered(usage);
    }
}
