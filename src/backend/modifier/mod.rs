//! Modifiers: backends over one other, that change a request, count it, or answer in its place. What all of them pass on
//! is here; what one does is its own file. It knows the backend below only by the seam.

pub mod budget;
pub mod cache;
pub mod dedupe;
mod explain;
pub mod fixed;
mod identity;
pub mod limit;
pub mod price;
mod recording;
pub mod rewrite;
#[cfg(test)]
pub(super) mod scene;
pub mod tee;

pub use identity::Among;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};

use super::explain::Decision;
use super::group::Member;
use super::kind::Site;
use super::virtual_model::{About, Below, Memory, VirtualModel, dearest_of, leaves_of, most_input_tokens};
use super::waiter::Waiter;
use super::{Backend, Call, Outlook, Reply};
use crate::dialect::Request;
use crate::error::{ErrorKind, ProxyError};
use crate::metrics::events::ModifierActed;
use crate::metrics::{Metrics, ModelMeters};
use crate::wire::json::Digest;
use price::{Price, Prices};

/// A modifier and the backend that it wraps.
pub struct Wrapped {
    /// What the modifier is called.
    pub about: About,
    /// Whom it hands requests to.
    pub inner: Member,
    /// How all that is below is configured.
    pub below: Digest,
    /// Where is recorded.
    pub metrics: Arc<Metrics>,
}

/// What a modifier does; all that it does not say is passed on to the backend that it wraps.
pub trait Modifier: Send + Sync + 'static {
    /// What it wraps.
    fn wrapped(&self) -> &Wrapped;

    /// Answers the call, mostly by [`Member::ask`] of the backend that it wraps.
    fn forward(self: Arc<Self>, call: Call) -> BoxFuture<'static, Result<Reply, ProxyError>>;

    /// How it stands towards this call.
    ///
    /// # Errors
    /// Why it cannot serve it at all.
    fn outlook(&self, call: &Call) -> Result<Outlook, String> {
        self.wrapped().inner.outlook(call)
    }

    /// Why it cannot serve this call now, as far as it is known.
    fn ails(&self, call: &Call) -> Option<ProxyError> {
        self.wrapped().inner.ails(call)
    }

    /// How its capacity stands, whatever the request needs.
    fn standing(&self, call: &Call) -> Option<Outlook> {
        self.wrapped().inner.standing(call)
    }

    /// Whom it can hand a request to that asks for this model.
    fn below(&self, asked: &str) -> Vec<Below<'_>> {
        vec![self.wrapped().inner.below(asked)]
    }

    /// Whether it looks at how requests came in.
    fn reads_arrival(&self) -> bool {
        false
    }

    /// What it remembers and is to know again when the configuration is reloaded and has it unchanged.
    fn memory(&self) -> Option<Memory> {
        None
    }

    /// What it would do with this call now, for explanations: nothing is counted, written or sent.
    fn decide(&self, call: &Call) -> Decision<'_>;

    /// Ready when what it keeps beyond requests is written.
    fn settle(&self) -> BoxFuture<'static, ()> {
        ready(()).boxed()
    }
}

/// A modifier as a backend.
pub struct Modified<M>(Arc<M>);

// === impl Wrapped ===

impl Wrapped {
    /// The first backend of the site, which must be there.
    ///
    /// # Errors
    /// When it is not, which the check of the configuration rules out.
    pub fn of(site: Site) -> Result<Wrapped, String> {
        let (wrapped, _) = Self::with_others(site)?;
        Ok(wrapped)
    }

    /// The first backend of the site, and those behind it.
    ///
    /// # Errors
    /// When there is none, which the check of the configuration rules out.
    pub fn with_others(site: Site) -> Result<(Wrapped, Vec<Member>), String> {
        let Site { about, members, means, below, .. } = site;
        let mut members = members.into_iter();
        let inner = members.next().ok_or_else(|| format!("group `{}`: nothing to wrap", about.id))?;
        Ok((Wrapped { about, inner, below, metrics: means.metrics }, members.collect()))
    }

    /// Tells what it did with a call.
    fn acted(&self, call: &Call, outcome: &'static str) {
        let About { id, kind, .. } = &self.about;
        ModifierActed { group: id, kind, outcome }.emit(&self.metrics, &call.request_id);
    }
}

// === impl Modified ===

impl<M: Modifier> Modified<M> {
    /// The modifier as a backend.
    pub fn new(modifier: M) -> Self {
        Modified(Arc::new(modifier))
    }
}

impl<M: Modifier> Backend for Modified<M> {
    fn id(&self) -> &str {
        &self.0.wrapped().about.id
    }

    fn outlook(&self, call: &Call) -> Result<Outlook, String> {
        self.0.outlook(call)
    }

    fn standing(&self, call: &Call) -> Option<Outlook> {
        self.0.standing(call)
    }

    fn ails(&self, call: &Call) -> Option<ProxyError> {
        self.0.ails(call)
    }

    fn input_tokens(&self, model: &str, request: &Request) -> Option<u64> {
        most_input_tokens(&self.below(model), model, request)
    }

    fn dearest(&self, model: &str, request: &Request, prices: &Prices) -> Result<Price, String> {
        dearest_of(&self.below(model), model, request, prices)
    }

    fn meters(&self, model: &str) -> Arc<ModelMeters> {
        let inner = &self.0.wrapped().inner;
        inner.backend.meters(inner.model.as_deref().unwrap_or(model))
    }

    fn forward(&self, call: Call) -> BoxFuture<'static, Result<Reply, ProxyError>> {
        Arc::clone(&self.0).forward(call)
    }

    fn leaves(&self) -> BTreeSet<String> {
        leaves_of(&self.below(""))
    }

    fn reserve(&self, call: &Call, place: &Arc<Waiter>) -> Option<Result<(), ProxyError>> {
        let inner = &self.0.wrapped().inner;
        inner.backend.reserve(&inner.call(call, call.round.clone()), place)
    }

    fn waits(&self) -> Option<Duration> {
        self.0.wrapped().inner.backend.waits()
    }

    fn blamed(&self) {
        self.0.wrapped().inner.backend.blamed();
    }
}

impl<M: Modifier> VirtualModel for Modified<M> {
    fn about(&self) -> &About {
        &self.0.wrapped().about
    }

    fn below(&self, asked: &str) -> Vec<Below<'_>> {
        self.0.below(asked)
    }

    fn reads_arrival(&self) -> bool {
        self.0.reads_arrival()
    }

    fn memory(&self) -> Option<Memory> {
        self.0.memory()
    }

    fn decide(&self, call: &Call) -> Decision<'_> {
        self.0.decide(call)
    }

    fn settle(&self) -> BoxFuture<'static, ()> {
        self.0.settle()
    }
}

// === impl Member ===

impl Member {
    /// How it stands towards a call as it would get it.
    ///
    /// # Errors
    /// Why it cannot serve it at all.
    pub fn outlook(&self, call: &Call) -> Result<Outlook, String> {
        if !self.takes(&call.model) {
            return Err(self.is_another(&call.model));
        }
        self.backend.outlook(&self.call(call, call.round.clone()))
    }

    /// Why it cannot serve a call now, as far as it is known.
    pub fn ails(&self, call: &Call) -> Option<ProxyError> {
        self.backend.ails(&self.call(call, call.round.clone()))
    }

    /// How its capacity stands for the model that the call means there.
    pub fn standing(&self, call: &Call) -> Option<Outlook> {
        self.backend.standing(&self.call(call, call.round.clone()))
    }

    /// Hands a call on to it. Where nobody above tries it elsewhere, the model is looked up there first.
    pub fn ask(&self, call: &Call) -> BoxFuture<'static, Result<Reply, ProxyError>> {
        if !self.takes(&call.model) {
            let text = self.is_another(&call.model);
            let error = ProxyError::new(ErrorKind::Unsupported, text).with_param("model");
            return ready(Err(error)).boxed();
        }
        let call = self.call(call, call.round.clone());
        if call.round.is_some() {
            return self.backend.forward(call);
        }
        let backend = Arc::clone(&self.backend);
        async move {
            let model = backend.known_as(Arc::clone(&call.model)).await?;
            backend.forward(Call { model, ..call }).await
        }
        .boxed()
    }

    fn is_another(&self, asked: &str) -> String {
        let shown: String = asked.chars().take(200).collect();
        format!("`{}` names a model of its own, which is not `{shown}`", self.label)
    }
}
