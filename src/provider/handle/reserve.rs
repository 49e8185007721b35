//! A place that is held for a call which is made later.

use std::sync::Arc;

use super::super::capacity::Ask;
use super::Provider;
use crate::backend::size::Size;
use crate::backend::waiter::Waiter;
use crate::backend::{Call, Guesses};
use crate::error::ProxyError;

impl Provider {
    /// Has the waiter hold what a call like this takes. `None`: that is nothing that could be said now.
    pub(super) fn reserved(&self, call: &Call, place: &Arc<Waiter>) -> Option<Result<(), ProxyError>> {
        let model = self.offered(&call.model).ok()?;
        if !self.usable_or_unknown() {
            return None;
        }
        let admitted = self.vitals.capacity.admit(&Ask {
            model: &model,
            size: Size::of(&call.request),
            client: call.client.as_ref(),
            guesses: call.round.as_ref().map_or(Guesses::Alone, |round| round.guesses),
            waiter: Some(place),
            generation: None,
        });
        Some(admitted.map(|lease| place.give(Arc::clone(&self.about.id), model, lease)))
    }
}
