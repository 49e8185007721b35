//! The unchanging description of one configured provider: what the configuration, the registry and the catalogue say.

use std::sync::Arc;

use http::header::{HeaderName, HeaderValue};

use super::Adapter;
use super::catalogue::KindFacts;
use super::headers;
use super::registry::Kind;
use crate::config::settings::ProviderConfig;
use crate::metrics::Metrics;

/// What is known of a provider before it is asked anything.
pub struct About {
    /// Its id, ready to be shared.
    pub id: Arc<str>,
    /// Its configuration.
    pub config: ProviderConfig,
    /// What is peculiar about its kind.
    pub adapter: &'static dyn Adapter,
    /// The catalogue's facts about its kind.
    pub facts: Arc<KindFacts>,
    /// The headers of every request to it.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Where it records.
    pub metrics: Arc<Metrics>,
}

impl About {
    /// Puts the description together.
    ///
    /// # Errors
    /// When the key or a configured header cannot be sent as a header; names the operand.
    pub fn new(config: ProviderConfig, kind: &Kind, metrics: Arc<Metrics>) -> Result<Self, String> {
        let headers = headers::standing(&config, kind.adapter.headers())?;
        let (adapter, facts) = (kind.adapter, Arc::clone(&kind.facts));
        Ok(About { id: Arc::from(config.id.as_str()), config, adapter, facts, headers, metrics })
    }
}
