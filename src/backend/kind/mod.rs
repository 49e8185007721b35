//! The types of groups: one row each. A type says which options it has, reads them, and builds the backend.
//! A new type is a file here and a row in `KINDS`.

pub(crate) mod budget;
pub(crate) mod cache;
pub(crate) mod choosing;
pub(crate) mod consensus;
pub(crate) mod dedupe;
pub(crate) mod fixed;
pub(crate) mod limit;
pub(crate) mod rewrite;
pub(crate) mod tee;

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use schemars::{Schema, SchemaGenerator};

use super::Whereabouts;
use super::group::Member;
use super::modifier::tee::Files;
use super::secrets::Secrets;
use super::tally::Tallies;
use super::virtual_model::{About, Memory, VirtualModel};
use crate::config::Reading;
use crate::dialect::Task;
use crate::metrics::Metrics;
use crate::provider::scrub::Scrub;
use crate::wire::json::Digest;

/// A type of group.
pub(crate) struct Kind {
    /// As `type` names it.
    pub(crate) word: &'static str,
    /// The schemas of the tables that hold its options, beside those that all types have.
    pub(crate) options: &'static [fn(&mut SchemaGenerator) -> Schema],
    /// Reads its options; what is wrong is reported. `None`: too wrong to go on with.
    pub(crate) read: fn(&mut Reading<'_, '_>) -> Option<Read>,
}

/// A group as its type read it.
pub(crate) struct Read {
    /// Whom it may hand a request to, in the order in which it gets them back when it is built.
    pub(crate) members: Vec<crate::config::settings::MemberConfig>,
    /// Makes the backend.
    pub(crate) build: Arc<dyn Build>,
}

/// What a type made of its options: it makes the backend.
pub trait Build: Any + fmt::Debug + Send + Sync {
    /// The backend over these members, which are in the order in which its type gave them.
    ///
    /// # Errors
    /// What is missing, which the check of the configuration rules out.
    fn build(&self, site: Site) -> Result<Arc<dyn VirtualModel>, String>;

    /// One member may be in a list several times on purpose.
    fn repeats(&self) -> bool {
        false
    }

    /// Whether it serves such requests, where any of its members do or none does.
    fn serves(&self, _task: Task, below: bool) -> bool {
        below
    }
}

/// What a backend is built of.
pub struct Site {
    /// What it is called.
    pub about: About,
    /// Whom it may hand a request to.
    pub members: Vec<Member>,
    /// What all backends share.
    pub means: Means,
    /// What the one before it remembered, which was configured as this one is; see [`VirtualModel::memory`].
    pub memory: Option<Memory>,
    /// The providers that a request can come to by the first of the members.
    pub leaves: Vec<Leaf>,
    /// A digest of how all that is below is configured: where it differs, answers may.
    pub below: Digest,
}

/// What all backends share.
#[derive(Clone)]
pub struct Means {
    /// Where is recorded.
    pub metrics: Arc<Metrics>,
    /// What must not be written down.
    pub secrets: Arc<Secrets>,
    /// What clients have used, which outlives a change of the configuration.
    pub tallies: Arc<Tallies>,
    /// The files that tees write to.
    pub tees: Arc<Files>,
}

// === impl Means ===

impl Means {
    /// What there is at start.
    pub fn new(metrics: &Arc<Metrics>, secrets: Scrub, tallies: Tallies) -> Self {
        Means {
            metrics: Arc::clone(metrics),
            secrets: Arc::new(Secrets::new(secrets)),
            tallies: Arc::new(tallies),
            tees: Arc::default(),
        }
    }
}

/// A provider below a group, as often as it is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// Its id.
    pub provider: String,
    /// The model there. `None`: the one that is asked for.
    pub model: Option<String>,
    /// Where its upstream is, as far as that is known.
    pub whereabouts: Whereabouts,
}

/// All types, in the order of messages.
pub(crate) const KINDS: &[Kind] = &[
    choosing::kind("failover"),
    choosing::kind("rotate"),
    choosing::kind("round-robin"),
    choosing::kind("random"),
    choosing::kind("least-latency"),
    choosing::kind("most-quota"),
    choosing::kind("soonest-reset"),
    choosing::RACE,
    consensus::CONSENSUS,
    fixed::STATIC,
    cache::CACHE,
    dedupe::DEDUPE,
    tee::TEE,
    rewrite::REWRITE,
    limit::LIMIT,
    budget::BUDGET,
];

/// The words for all types.
pub(crate) fn words() -> impl Iterator<Item = &'static str> {
    KINDS.iter().map(|kind| kind.word)
}
