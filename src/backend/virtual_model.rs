//! Virtual models: backends over other backends, which clients ask for by their id. What the routing table, the model
//! list and explanations need to know of one, whatever its type.

use std::any::Any;
use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};

use super::explain::Decision;
use super::modifier::price::{Price, Prices};
use super::{Backend, Call};
use crate::dialect::Request;
use crate::provider::{Capabilities, Model};

/// A backend over others, that clients ask for by its id.
pub trait VirtualModel: Backend {
    /// What is known of it beside what it does.
    fn about(&self) -> &About;

    /// Whom it can hand a request to that asks for this model, in the order of the configuration. Empty: it answers by
    /// itself.
    fn below(&self, asked: &str) -> Vec<Below<'_>>;

    /// Whether it looks at how a request came in: its path and headers.
    fn reads_arrival(&self) -> bool {
        self.about().section == Section::Router
    }

    /// What it can do by itself, as a model, where it answers without those below.
    fn own(&self) -> Option<Model> {
        None
    }

    /// Takes out of what one below it can do what it never asks it for.
    fn narrow(&self, _capabilities: &mut Capabilities) {}

    /// Ready when what it keeps beyond requests is written, as far as it can be.
    fn settle(&self) -> BoxFuture<'static, ()> {
        ready(()).boxed()
    }

    /// What it would do with this call now, for explanations: no turn is spent, nothing is reserved or sent. A type that
    /// does not say is told by those below it alone.
    fn decide(&self, call: &Call) -> Decision<'_> {
        Decision::of(self.below(&call.model), call)
    }

    /// What it remembers and is to know again when the configuration is reloaded and has it unchanged; its type gets it
    /// back in [`super::kind::Site`].
    fn memory(&self) -> Option<Memory> {
        None
    }
}

/// What a virtual model remembers; only its own type knows what that is.
pub type Memory = Arc<dyn Any + Send + Sync>;

/// What a virtual model is called.
#[derive(Debug, Clone)]
pub struct About {
    /// Its id in the configuration.
    pub id: Arc<str>,
    /// Where it is configured.
    pub section: Section,
    /// Its type: `failover`, `cache`; routers have none but their own name.
    pub kind: &'static str,
    /// A name for people.
    pub name: Option<String>,
    /// A sentence for people.
    pub description: Option<String>,
    /// It can be asked for but is not listed.
    pub hidden: bool,
}

/// Where a virtual model is configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    /// `[groups.*]`.
    Group,
    /// `[routers.*]`.
    Router,
}

/// One backend below a virtual model.
pub struct Below<'a> {
    /// As it is configured: `mistral/codestral-latest`.
    pub label: &'a str,
    /// Who answers.
    pub backend: &'a dyn Backend,
    /// The model there. `None`: the one that is asked for.
    pub model: Option<&'a str>,
    /// Whether it may answer for the model in question.
    pub takes: bool,
}

/// The most tokens that any of these counts in the text of a request that asked for this model, as far as that was learned.
pub fn most_input_tokens(below: &[Below<'_>], asked: &str, request: &Request) -> Option<u64> {
    let takers = below.iter().filter(|one| one.takes);
    takers.filter_map(|one| one.backend.input_tokens(one.model.unwrap_or(asked), request)).max()
}

/// The providers that calls to these can come to, by their ids.
pub fn leaves_of(below: &[Below<'_>]) -> BTreeSet<String> {
    below.iter().flat_map(|below| below.backend.leaves()).collect()
}

/// What a token of a request for this model costs at most, by the dearest of these that may answer it.
///
/// # Errors
/// The model without a price.
pub fn dearest_of(
    below: &[Below<'_>],
    asked: &str,
    request: &Request,
    prices: &Prices,
) -> Result<Price, String> {
    Ok(Price::of_so_many(&each_price(below, asked, request, prices)?, 1))
}

/// The same for each that may answer it.
///
/// # Errors
/// The model without a price.
pub fn each_price(
    below: &[Below<'_>],
    asked: &str,
    request: &Request,
    prices: &Prices,
) -> Result<Vec<Price>, String> {
    let takers = below.iter().filter(|one| one.takes);
    takers.map(|one| one.backend.dearest(one.model.unwrap_or(asked), request, prices)).collect()
}

// === impl Section ===

impl Section {
    /// What it is called in messages.
    pub fn word(self) -> &'static str {
        match self {
            Section::Group => "group",
            Section::Router => "router",
        }
    }

    /// What those below are called.
    pub fn members(self) -> &'static str {
        match self {
            Section::Group => "members",
            Section::Router => "routes",
        }
    }
}
