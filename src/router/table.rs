//! The routing table: an immutable picture of all backends, and what a model id means in it.
//! The RouterActor makes a new one when something changes; everyone else only reads.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use crate::backend::Backend;
use crate::error::{ErrorKind, ProxyError};
use crate::model_id::{self, ModelId};
use crate::provider::Model;
use crate::provider::handle::Provider;
use crate::provider::listing::nearest;

/// Where a request goes.
pub struct Target {
    /// Who answers it.
    pub backend: Arc<dyn Backend>,
    /// The model's id there.
    pub model: Arc<str>,
}

/// All backends by id.
#[derive(Default)]
pub struct Table {
    providers: Vec<Arc<Provider>>,
    by_id: HashMap<String, usize>,
}

/// How many near ids an error names.
const NEAR: usize = 3;

// === impl Table ===

impl Table {
    /// A table of these providers.
    pub fn new(providers: Vec<Arc<Provider>>) -> Self {
        let by_id =
            providers.iter().enumerate().map(|(index, provider)| (provider.id().to_owned(), index)).collect();
        Table { providers, by_id }
    }

    /// The providers, in the order of the configuration.
    pub fn providers(&self) -> &[Arc<Provider>] {
        &self.providers
    }

    /// The providers whose lists mean something: not those that are gone.
    fn serving(&self) -> impl Iterator<Item = &Arc<Provider>> {
        self.providers.iter().filter(|provider| !provider.retired())
    }

    /// The provider of this id.
    pub fn provider(&self, id: &str) -> Option<&Arc<Provider>> {
        self.by_id.get(id).and_then(|index| self.providers.get(*index))
    }

    /// Where a request for this model id goes.
    ///
    /// # Errors
    /// `model_not_found` (404) naming the nearest ids; `invalid_request` for a provider without a model, or a bare
    /// name that several providers list.
    pub async fn resolve(&self, text: &str) -> Result<Target, ProxyError> {
        match model_id::parse(text, |id| self.by_id.contains_key(id)) {
            ModelId::Of { backend, model } => {
                let provider = self.provider(backend).ok_or_else(|| self.unknown(text))?;
                let model = provider.resolve(model).await.map_err(|_| self.unknown(text))?;
                Ok(Target { backend: Arc::clone(provider) as Arc<dyn Backend>, model })
            }
            ModelId::Backend(id) => {
                let message = format!("`{id}` is a provider; name one of its models, as in `{id}/MODEL`");
                Err(ProxyError::new(ErrorKind::InvalidRequest, message).with_param("model"))
            }
            ModelId::Bare(name) => self.resolve_bare(name),
        }
    }

    /// A bare name means the provider that lists it, if it is exactly one. No list is waited for.
    fn resolve_bare(&self, name: &str) -> Result<Target, ProxyError> {
        let mut listing = self.serving().filter_map(|provider| {
            let models = provider.vitals().models.load();
            models.find(name).map(|model| (provider, Arc::<str>::from(model.id.as_str())))
        });
        let Some((provider, model)) = listing.next() else { return Err(self.unknown(name)) };
        let others: Vec<String> = listing.map(|(other, id)| format!("`{}/{id}`", other.id())).collect();
        if others.is_empty() {
            return Ok(Target { backend: Arc::clone(provider) as Arc<dyn Backend>, model });
        }
        let message = format!(
            "several providers list `{name}`; choose one: `{}/{model}`, {}",
            provider.id(),
            others.join(", ")
        );
        Err(ProxyError::new(ErrorKind::InvalidRequest, message).with_param("model"))
    }

    /// The model of this full or bare id as listed, with its provider.
    pub fn find_listed(&self, text: &str) -> Option<(Arc<Provider>, Model)> {
        let (provider, id) = match model_id::parse(text, |id| self.by_id.contains_key(id)) {
            ModelId::Of { backend, model } => {
                (self.provider(backend).filter(|provider| !provider.retired())?, model)
            }
            ModelId::Bare(name) => {
                let lists = |provider: &&Arc<Provider>| provider.vitals().models.load().find(name).is_some();
                (self.serving().find(lists)?, name)
            }
            ModelId::Backend(_) => return None,
        };
        let model = provider.vitals().models.load().find(id).cloned()?;
        Some((Arc::clone(provider), model))
    }

    fn unknown(&self, text: &str) -> ProxyError {
        let ids: Vec<String> = self
            .serving()
            .flat_map(|provider| {
                let models = provider.vitals().models.load();
                let full = |model: &Model| format!("{}/{}", provider.id(), model.id);
                models.models().iter().map(full).collect::<Vec<_>>()
            })
            .collect();
        let shown: String = text.chars().take(200).collect();
        let mut message = format!("no model `{shown}`");
        let near = nearest(ids.iter().map(String::as_str), text, NEAR);
        if !near.is_empty() {
            let near: Vec<String> = near.iter().map(|id| format!("`{id}`")).collect();
            message.push_str(&format!("; nearest: {}", near.join(", ")));
        } else if self.providers.is_empty() {
            message.push_str("; no provider is configured");
        } else {
            let known: Vec<String> =
                self.providers.iter().map(|provider| format!("`{}`", provider.id())).collect();
            message.push_str(&format!("; providers: {}", known.join(", ")));
        }
        ProxyError::new(ErrorKind::ModelNotFound, message).with_param("model")
    }

    /// Whether at least one provider can be sent requests now.
    pub fn ready(&self) -> bool {
        self.providers.iter().any(|provider| provider.usable())
    }

    /// Age of a provider's list, for people.
    pub fn list_age(provider: &Provider, now: Instant) -> Option<std::time::Duration> {
        provider.vitals().models.load().fetched().map(|at| now.saturating_duration_since(at))
    }
}
