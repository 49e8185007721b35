//! What the upstreams below a call reported that it cost, each for itself. One answer may be made of several of theirs (a
//! panel's), or of none (a cache's), which its own token counts do not tell.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::dialect::Usage;
use crate::metrics::ModelMeters;

/// Collects the costs of one call, wherever below they arise.
#[derive(Default)]
pub struct Costs {
    told: Mutex<Told>,
    /// Whoever counts further up, for whom all of it counts, too.
    above: Option<Arc<Costs>>,
}

/// What was told so far.
#[derive(Default, Clone)]
pub struct Told {
    /// Answers that began, and of which nobody has reported what they cost.
    pub open: u64,
    /// The reported ones.
    pub parts: Vec<Part>,
}

/// What one upstream's answer cost.
#[derive(Clone)]
pub struct Part {
    /// The provider's id.
    pub provider: Arc<str>,
    /// The model's id at the upstream.
    pub model: Arc<str>,
    /// The metric handles of both.
    pub meters: Arc<ModelMeters>,
    /// Tokens, as reported.
    pub usage: Usage,
}

// === impl Costs ===

impl Costs {
    /// For a call below `above`.
    pub fn below(above: Option<&Arc<Costs>>) -> Arc<Self> {
        Arc::new(Costs { told: Mutex::default(), above: above.cloned() })
    }

    /// An upstream answers, so that it costs something.
    pub fn begun(&self) {
        self.lock().open += 1;
        if let Some(above) = &self.above {
            above.begun();
        }
    }

    /// An answer that began is over, and this is what its upstream says of it. What says nothing stays open.
    pub fn reported(&self, part: &Part) {
        if part.usage.is_empty() {
            return;
        }
        {
            let mut told = self.lock();
            told.open = told.open.saturating_sub(1);
            told.parts.push(part.clone());
        }
        if let Some(above) = &self.above {
            above.reported(part);
        }
    }

    /// All of it until now.
    pub fn told(&self) -> Told {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn what_is_reported_below_counts_for_all_above_and_what_is_not_stays_open() {
        let outer = Costs::below(None);
        let inner = Costs::below(Some(&outer));
        let part = |input| Part {
            provider: Arc::from("p"),
            model: Arc::from("m"),
            meters: Metrics::new().unwrap().meters("p", "m"),
            usage: Usage { input, ..Usage::default() },
        };
        inner.begun();
        inner.begun();
        outer.begun();
        inner.reported(&part(Some(3)));
        inner.reported(&part(None));
        for (costs, open) in [(&inner, 1), (&outer, 2)] {
            let Told { open: left, parts } = costs.told();
            assert_eq!((left, parts.len(), parts[0].usage.input), (open, 1, Some(3)));
        }
    }
}
