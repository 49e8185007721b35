//! A split: a backend that sends each request to one of its targets, by conditions; `[routers.*]` in the configuration.
//! Routes are looked at in their order and the first that matches is taken, whatever becomes of the request there:
//! failing over is a group's affair. It knows its targets only by the seam, so that they can be providers, groups or
//! splits again. The decision is [`Conditions`]', pure; here is only what it needs to know.

mod explain;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use jiff::Timestamp;

use super::condition::{Conditions, Content, Facts, Standing};
use super::explain::Decision;
use super::modifier::price::{Price, Prices};
use super::strategy::Availability;
use super::virtual_model::{About, Below, VirtualModel, dearest_of, leaves_of, most_input_tokens};
use super::{Backend, Call, Outlook, Reply};
use crate::dialect::Request;
use crate::error::{ErrorKind, ProxyError};
use crate::metrics::events::Routed;
use crate::metrics::{Metrics, ModelMeters};
use crate::model_id::same_model;

/// A split as a backend. Cheap to clone.
#[derive(Clone)]
pub struct SplitBackend {
    split: Arc<Split>,
}

/// What a split is made of.
pub struct Split {
    /// What it is called.
    pub about: About,
    /// Where requests go, in the configured order.
    pub routes: Vec<Route>,
    /// The backends whose standing its conditions ask for, by their names there, and the model meant.
    pub watched: Vec<(String, Arc<dyn Backend>, Arc<str>)>,
    /// Tells the time to conditions.
    pub clock: fn() -> Timestamp,
    /// Where is recorded.
    pub metrics: Arc<Metrics>,
}

/// One way through a split.
pub struct Route {
    /// The target as configured: `mistral/codestral-latest`.
    pub label: Arc<str>,
    /// Who answers.
    pub backend: Arc<dyn Backend>,
    /// The model there. `None`: the one that was asked for.
    pub model: Option<Arc<str>>,
    /// It says which models it is for, so that one that was asked for by another name may become its own.
    pub renames: bool,
    /// Request fields that it sets: name and JSON.
    pub set: Vec<(String, Bytes)>,
    /// The target is a provider, which answers for no model but one that is named.
    pub needs_model: bool,
    /// What a request must be like.
    pub conditions: Arc<Conditions>,
}

// === impl SplitBackend ===

impl SplitBackend {
    /// The split as a backend.
    pub fn new(split: Split) -> Self {
        SplitBackend { split: Arc::new(split) }
    }

    /// What it is made of.
    pub fn split(&self) -> &Split {
        &self.split
    }
}

impl Backend for SplitBackend {
    fn id(&self) -> &str {
        &self.split.about.id
    }

    fn outlook(&self, call: &Call) -> Result<Outlook, String> {
        let (_, route, model) = self.split.choose(call).map_err(|refused| refused.error.message)?;
        route
            .backend
            .outlook(&call.passed_on(Some(&model), &route.set))
            .map_err(|reason| format!("`{}`: {reason}", route.label))
    }

    fn leaves(&self) -> BTreeSet<String> {
        leaves_of(&self.below(""))
    }

    fn ails(&self, call: &Call) -> Option<ProxyError> {
        let (_, route, model) = self.split.choose(call).ok()?;
        route.backend.ails(&call.passed_on(Some(&model), &route.set))
    }

    fn standing(&self, call: &Call) -> Option<Outlook> {
        let (_, route, model) = self.split.choose(call).ok()?;
        route.backend.standing(&call.passed_on(Some(&model), &route.set))
    }

    fn waits(&self) -> Option<Duration> {
        self.split.routes.iter().filter_map(|route| route.backend.waits()).max()
    }

    fn input_tokens(&self, model: &str, request: &Request) -> Option<u64> {
        most_input_tokens(&self.below(model), model, request)
    }

    fn dearest(&self, model: &str, request: &Request, prices: &Prices) -> Result<Price, String> {
        dearest_of(&self.below(model), model, request, prices)
    }

    fn meters(&self, _model: &str) -> Arc<ModelMeters> {
        // Nobody answered yet; who does is known with the reply.
        self.split.metrics.meters("none", "none")
    }

    fn forward(&self, call: Call) -> BoxFuture<'static, Result<Reply, ProxyError>> {
        let split = &self.split;
        let chosen = split.choose(&call);
        let number = match &chosen {
            Ok((index, ..)) => Some(index + 1),
            Err(refused) => refused.route.map(|index| index + 1),
        };
        if let Some(arrival) = &call.arrival {
            arrival.took(&split.about.id, number);
        }
        let to = number.and_then(|number| split.routes.get(number - 1)).map(|route| &*route.label);
        Routed { router: &split.about.id, route: number, to }.emit(&split.metrics, &call.request_id);
        let (backend, call) = match chosen {
            Ok((_, route, model)) => (Arc::clone(&route.backend), call.passed_on(Some(&model), &route.set)),
            Err(refused) => return ready(Err(refused.error)).boxed(),
        };
        if call.round.is_some() {
            // Whoever is above knows what it is called there, and asks others if it is not there.
            return backend.forward(call);
        }
        async move {
            let model = backend.known_as(Arc::clone(&call.model)).await?;
            backend.forward(Call { model, ..call }).await
        }
        .boxed()
    }
}

impl VirtualModel for SplitBackend {
    fn about(&self) -> &About {
        &self.split.about
    }

    fn reads_arrival(&self) -> bool {
        true
    }

    fn below(&self, asked: &str) -> Vec<Below<'_>> {
        self.split.below(asked)
    }

    fn decide(&self, call: &Call) -> Decision<'_> {
        self.split.decide(call)
    }
}

/// Why a request goes nowhere, and which route it was that it took, if one.
struct Refused {
    route: Option<usize>,
    error: ProxyError,
}

// === impl Split ===

impl Split {
    fn below(&self, asked: &str) -> Vec<Below<'_>> {
        let below = self.routes.iter().map(|route| Below {
            label: &route.label,
            backend: &*route.backend,
            model: route.model.as_deref(),
            takes: route.takes(asked),
        });
        below.collect()
    }

    /// The first route that matches, which one that is, and the model that the call means there.
    fn choose(&self, call: &Call) -> Result<(usize, &Route, Arc<str>), Box<Refused>> {
        let standing = |of: &str| self.standing(of, call);
        let learned = || self.learned(call);
        let facts = self.facts(call, &standing, &learned);
        let mut routes = self.routes.iter().enumerate();
        let Some((index, route)) = routes.find(|(_, route)| route.conditions.hold(&facts)) else {
            return Err(Box::new(Refused { route: None, error: self.no_route(call) }));
        };
        match route.model_for(&call.model, &self.about.id) {
            Ok(model) => Ok((index, route, model)),
            Err(why) => {
                let text = format!("route {} of router `{}` {why}", index + 1, self.about.id);
                let error = ProxyError::new(ErrorKind::Unsupported, text).with_param("model");
                Err(Box::new(Refused { route: Some(index), error }))
            }
        }
    }

    /// The most that any of its targets would count: one number for all routes, so that neighbouring ranges leave no
    /// gap; and the most, because a prompt that is too long is refused, and one that only seems so costs more.
    fn learned(&self, call: &Call) -> Option<u64> {
        most_input_tokens(&self.below(&call.model), &call.model, &call.request)
    }

    /// What conditions look at.
    fn facts<'f>(
        &self,
        call: &'f Call,
        standing: &'f dyn Fn(&str) -> Option<Standing>,
        input_tokens: &'f dyn Fn() -> Option<u64>,
    ) -> Facts<'f> {
        Facts {
            request: &call.request,
            model: &call.model,
            client: call.client.as_deref(),
            arrival: call.arrival.as_deref(),
            now: call.at().unwrap_or_else(self.clock),
            standing,
            input_tokens,
            content: Content::default(),
        }
    }

    fn no_route(&self, call: &Call) -> ProxyError {
        let text = format!(
            "no route of router `{id}` matches this {} request; a last route without conditions takes the rest: \
             add {{ to = \"BACKEND\" }} at the end of `routes` of [routers.{id}]",
            call.request.task.label(),
            id = self.about.id,
        );
        ProxyError::new(ErrorKind::Unsupported, text).with_param("model").with_code("no_route_matches")
    }

    /// How a backend stands that a condition names.
    fn standing(&self, of: &str, call: &Call) -> Option<Standing> {
        let (_, backend, model) = self.watched.iter().find(|(name, ..)| name == of)?;
        let outlook = backend.standing(&Call { model: Arc::clone(model), ..call.clone() })?;
        let available = outlook.availability == Availability::Now;
        Some(Standing { available, share_left: outlook.share_left })
    }
}

// === impl Route ===

impl Route {
    /// Whether it may answer for this model, if it is taken.
    pub fn takes(&self, asked: &str) -> bool {
        asked.is_empty() || self.renames || self.model.as_deref().is_none_or(|own| same_model(own, asked))
    }

    /// The model at its target for a request that asked for this one.
    ///
    /// # Errors
    /// Why it has none: for people, after "route 2 of router …".
    fn model_for(&self, asked: &Arc<str>, router: &str) -> Result<Arc<str>, String> {
        match &self.model {
            Some(own) if self.takes(asked) => Ok(Arc::clone(own)),
            Some(_) => {
                let shown: String = asked.chars().take(200).collect();
                Err(format!(
                    "goes to `{}`, which is not `{shown}`; ask for `{router}` alone, or let the route say by `model` \
                     which models it stands for",
                    self.label
                ))
            }
            None if self.needs_model && asked.is_empty() => Err(format!(
                "passes the model on to `{}`, and none was named; ask for `{router}/MODEL`, or name one in its `to`",
                self.label
            )),
            None => Ok(Arc::clone(asked)),
        }
    }
}

#[cfg(test)]
mod tests;
