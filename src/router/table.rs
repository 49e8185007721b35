//! The routing table: an immutable picture of all backends, and what a model id means in it.
//! The RouterActor makes a new one when something changes; everyone else only reads.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use futures_util::future::join_all;

use crate::backend::Backend;
use crate::backend::virtual_model::{Section, VirtualModel};
use crate::config::settings::AliasConfig;
use crate::error::{ErrorKind, ProxyError};
use crate::model_id::{self, ModelId};
use crate::provider::Model;
use crate::provider::handle::Provider;
use crate::provider::listing::nearest;
use crate::provider::models::{FRESH, Lookup};
use crate::provider::offer::offer;

/// Where a request goes.
pub struct Target {
    /// Who answers it.
    pub backend: Arc<dyn Backend>,
    /// The model's id there; empty for a group or router that was asked by its bare id.
    pub model: Arc<str>,
    /// Its id, if it is a group.
    pub group: Option<Arc<str>>,
    /// Its id, if it is a router.
    pub router: Option<Arc<str>>,
    /// The alias that was asked for, if it was one.
    pub alias: Option<Arc<str>>,
}

/// All backends by id.
#[derive(Default)]
pub struct Table {
    providers: Vec<Arc<Provider>>,
    by_id: HashMap<String, usize>,
    virtuals: Vec<Arc<dyn VirtualModel>>,
    aliases: BTreeMap<Arc<str>, AliasConfig>,
}

/// How many near ids an error names.
const NEAR: usize = 3;

// === impl Table ===

impl Table {
    /// A table of these providers and virtual models.
    pub fn new(providers: Vec<Arc<Provider>>, virtuals: Vec<Arc<dyn VirtualModel>>) -> Self {
        let by_id =
            providers.iter().enumerate().map(|(index, provider)| (provider.id().to_owned(), index)).collect();
        Table { providers, by_id, virtuals, aliases: BTreeMap::new() }
    }

    /// The same table with other names for models.
    pub fn with_aliases(self, aliases: Vec<AliasConfig>) -> Self {
        let aliases = aliases.into_iter().map(|alias| (Arc::from(alias.id.as_str()), alias)).collect();
        Table { aliases, ..self }
    }

    /// The other names for models, by id.
    pub fn aliases(&self) -> impl Iterator<Item = &AliasConfig> {
        self.aliases.values()
    }

    /// The alias of this id.
    pub fn alias(&self, id: &str) -> Option<&AliasConfig> {
        self.aliases.get(id)
    }

    /// The providers, in the order of the configuration.
    pub fn providers(&self) -> &[Arc<Provider>] {
        &self.providers
    }

    /// The providers whose lists mean something: not those that are gone.
    fn serving(&self) -> impl Iterator<Item = &Arc<Provider>> {
        self.providers.iter().filter(|provider| !provider.retired())
    }

    /// The groups and then the routers, members before those that name them.
    pub fn virtuals(&self) -> impl Iterator<Item = &Arc<dyn VirtualModel>> {
        self.virtuals.iter()
    }

    /// The group or router of this id.
    pub fn find_virtual(&self, id: &str) -> Option<&Arc<dyn VirtualModel>> {
        self.virtuals.iter().find(|known| known.id() == id)
    }

    /// Whether anybody looks at how requests came in.
    pub fn reads_arrivals(&self) -> bool {
        self.virtuals.iter().any(|known| known.reads_arrival())
    }

    /// Whether a provider, a group or a router has this id.
    pub fn is_backend(&self, id: &str) -> bool {
        self.by_id.contains_key(id) || self.find_virtual(id).is_some()
    }

    /// The provider of this id.
    pub fn provider(&self, id: &str) -> Option<&Arc<Provider>> {
        self.by_id.get(id).and_then(|index| self.providers.get(*index))
    }

    /// Where a request for this model id goes. An alias means what it stands for.
    ///
    /// # Errors
    /// `model_not_found` (404) naming the nearest ids; `invalid_request` for a provider without a model, or a bare
    /// name that several providers list.
    pub async fn resolve(&self, text: &str) -> Result<Target, ProxyError> {
        let Some((id, alias)) = self.aliases.get_key_value(text) else { return self.resolve_id(text).await };
        let target = self.resolve_id(&alias.to).await.map_err(|error| alias.failed(error))?;
        Ok(Target { alias: Some(Arc::clone(id)), ..target })
    }

    async fn resolve_id(&self, text: &str) -> Result<Target, ProxyError> {
        match model_id::parse(text, |id| self.is_backend(id)) {
            ModelId::Of { backend, model } => {
                if let Some(found) = self.find_virtual(backend) {
                    return self.resolve_in(found, model).await;
                }
                let provider = self.provider(backend).ok_or_else(|| self.unknown(text))?;
                let model = provider.resolve(model).await.map_err(|_| self.unknown(text))?;
                Ok(to_provider(provider, model))
            }
            ModelId::Backend(id) => {
                if let Some(found) = self.find_virtual(id) {
                    return Ok(to_virtual(found, ""));
                }
                Err(without_model(id))
            }
            ModelId::Bare(name) => self.resolve_bare(name),
        }
    }

    /// The same without fetching any list anew: where the request would go by what is known now.
    ///
    /// # Errors
    /// As [`Table::resolve`], by the lists as they are.
    pub fn resolve_known(&self, text: &str) -> Result<Target, ProxyError> {
        let Some((id, alias)) = self.aliases.get_key_value(text) else { return self.known_id(text) };
        let target = self.known_id(&alias.to).map_err(|error| alias.failed(error))?;
        Ok(Target { alias: Some(Arc::clone(id)), ..target })
    }

    fn known_id(&self, text: &str) -> Result<Target, ProxyError> {
        match model_id::parse(text, |id| self.is_backend(id)) {
            ModelId::Of { backend, model } => {
                if let Some(found) = self.find_virtual(backend) {
                    return match self.lacks(found, model) {
                        true => Err(self.not_in(found, model, &self.passed_to(found))),
                        false => Ok(to_virtual(found, model)),
                    };
                }
                let provider = self.provider(backend).ok_or_else(|| self.unknown(text))?;
                let models = provider.vitals().models.load();
                match models.look_up(model, Instant::now(), FRESH) {
                    _ if provider.retired() => Ok(to_provider(provider, Arc::from(model))),
                    Lookup::Listed(listed) => Ok(to_provider(provider, Arc::from(listed.id.as_str()))),
                    Lookup::Unlisted => Ok(to_provider(provider, Arc::from(model))),
                    Lookup::Stale | Lookup::Absent | Lookup::Excluded => Err(self.unknown(text)),
                }
            }
            ModelId::Backend(id) => match self.find_virtual(id) {
                Some(found) => Ok(to_virtual(found, "")),
                None => Err(without_model(id)),
            },
            ModelId::Bare(name) => self.resolve_bare(name),
        }
    }

    /// A model of a group or router: one that a member names, or that is passed on to a member's provider. As with a
    /// provider, it is denied only after the lists that lack it were fetched anew.
    async fn resolve_in(&self, found: &Arc<dyn VirtualModel>, model: &str) -> Result<Target, ProxyError> {
        if self.lacks(found, model) {
            let passed_to = self.passed_to(found);
            join_all(passed_to.iter().map(|provider| provider.resolve(model))).await;
            if self.lacks(found, model) {
                return Err(self.not_in(found, model, &passed_to));
            }
        }
        Ok(to_virtual(found, model))
    }

    /// Whether nobody below could mean anything by this model.
    fn lacks(&self, found: &Arc<dyn VirtualModel>, model: &str) -> bool {
        found.below(model).iter().all(|below| {
            let id = below.backend.id();
            match (below.model, self.find_virtual(id), self.provider(id)) {
                (Some(_), ..) => !below.takes,
                (None, Some(inner), _) => self.lacks(inner, model),
                (None, None, provider) => provider.is_none_or(|provider| provider.lacks(model)),
            }
        })
    }

    /// The providers that get the model that a group or router is asked for.
    fn passed_to(&self, found: &Arc<dyn VirtualModel>) -> Vec<&Arc<Provider>> {
        let passing = found.below("").into_iter().filter(|below| below.model.is_none());
        passing
            .flat_map(|below| match self.find_virtual(below.backend.id()) {
                Some(inner) => self.passed_to(inner),
                None => self.provider(below.backend.id()).into_iter().collect(),
            })
            .collect()
    }

    /// The group or router has no such model; and what it has.
    fn not_in(&self, found: &Arc<dyn VirtualModel>, model: &str, passed_to: &[&Arc<Provider>]) -> ProxyError {
        let id = found.id();
        let shown: String = model.chars().take(200).collect();
        let mut message = format!("{} `{id}` has no model `{shown}`", found.about().section.word());
        let below = found.below("");
        let named: Vec<String> = below
            .iter()
            .filter(|below| below.model.is_some())
            .map(|below| format!("`{}`", below.label))
            .collect();
        if !named.is_empty() {
            message.push_str(&format!("; ask for `{id}` alone, which is {}", named.join(", ")));
        }
        let listed: BTreeSet<String> = passed_to.iter().flat_map(|provider| listed(provider)).collect();
        let near = nearest(listed.iter().map(String::as_str), model, NEAR);
        if !near.is_empty() {
            let near: Vec<String> = near.iter().map(|near| format!("`{id}/{near}`")).collect();
            message.push_str(&format!("; nearest: {}", near.join(", ")));
        } else if !passed_to.is_empty() {
            let known: Vec<String> =
                passed_to.iter().map(|provider| format!("`{}`", provider.id())).collect();
            message.push_str(&format!("; `{id}/MODEL` is what one of these lists: {}", known.join(", ")));
        }
        ProxyError::new(ErrorKind::ModelNotFound, message).with_param("model")
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
            return Ok(to_provider(provider, model));
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

    /// What a group or router offers, as one model.
    pub fn offer(&self, found: &Arc<dyn VirtualModel>) -> Model {
        let mut models = Vec::new();
        self.collect(found, None, &mut models);
        let about = found.about();
        offer(&about.id, about.name.as_deref(), about.description.as_deref(), &models)
    }

    /// The group or router and the model of `group/model`, where that could mean anything by what is known now.
    pub fn find_in_virtual<'t>(&self, text: &'t str) -> Option<(&Arc<dyn VirtualModel>, &'t str)> {
        let ModelId::Of { backend, model } = model_id::parse(text, |id| self.is_backend(id)) else {
            return None;
        };
        let found = self.find_virtual(backend)?;
        (!self.lacks(found, model)).then_some((found, model))
    }

    /// What a group or router offers when this model of it is asked for, under this id.
    pub fn offer_in(&self, found: &Arc<dyn VirtualModel>, model: &str, id: &str) -> Model {
        let mut models = Vec::new();
        self.collect(found, Some(model), &mut models);
        let about = found.about();
        offer(id, about.name.as_deref(), about.description.as_deref(), &models)
    }

    /// What an alias stands for, as one model under its own id. `None`: a provider that says that it has no such model.
    pub fn offer_alias(&self, alias: &AliasConfig) -> Option<Model> {
        let (backend, model) = match alias.to.split_once('/') {
            Some((backend, model)) => (backend, Some(model)),
            None => (alias.to.as_str(), None),
        };
        let mut models = Vec::new();
        let (mut name, mut description) = (alias.name.clone(), alias.description.clone());
        if let Some(found) = self.find_virtual(backend) {
            self.collect(found, model, &mut models);
            name = name.or_else(|| found.about().name.clone());
            description = description.or_else(|| found.about().description.clone());
        } else {
            let (provider, model) = (self.provider(backend)?, model?);
            if provider.retired() || provider.lacks(model) {
                return None;
            }
            if let Some(listed) = provider.vitals().models.load().find(model) {
                name = name.or_else(|| listed.name.clone());
                description = description.or_else(|| listed.description.clone());
                models.push(listed.clone());
            }
        }
        Some(offer(&alias.id, name.as_deref(), description.as_deref(), &models))
    }

    /// The listed models behind a group's members or a router's targets; `asked` is for those that pass the model on.
    fn collect(&self, found: &Arc<dyn VirtualModel>, asked: Option<&str>, models: &mut Vec<Model>) {
        let first = models.len();
        models.extend(found.own());
        for below in found.below("") {
            let model = below.model.or(asked);
            if let Some(inner) = self.find_virtual(below.backend.id()) {
                self.collect(inner, model, models);
            } else if let Some(provider) = self.provider(below.backend.id())
                && let Some(model) = model
            {
                models.extend(provider.vitals().models.load().find(model).cloned());
            }
        }
        models.iter_mut().skip(first).for_each(|model| found.narrow(&mut model.capabilities));
    }

    fn unknown(&self, text: &str) -> ProxyError {
        // What is hidden is not listed here, either.
        let virtuals =
            self.virtuals().filter(|found| !found.about().hidden).map(|found| found.id().to_owned());
        let aliases = self.aliases.values().filter(|alias| !alias.hidden).map(|alias| alias.id.clone());
        let of_provider = |provider: &Arc<Provider>| {
            listed(provider).into_iter().map(|id| format!("{}/{id}", provider.id())).collect::<Vec<_>>()
        };
        let ids: Vec<String> = self.serving().flat_map(of_provider).chain(virtuals).chain(aliases).collect();
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

// === impl AliasConfig ===

impl AliasConfig {
    /// What it stands for cannot be had.
    fn failed(&self, error: ProxyError) -> ProxyError {
        let message = format!("`{}` stands for `{}`: {}", self.id, self.to, error.message);
        ProxyError { message, ..error }
    }
}

/// The ids of a provider's models that are not hidden.
fn listed(provider: &Provider) -> Vec<String> {
    let hidden = &provider.about().config.hidden;
    let models = provider.vitals().models.load();
    let ids = models.models().iter().map(|model| &model.id);
    ids.filter(|id| hidden.as_ref().is_none_or(|globs| !globs.is_match(id))).cloned().collect()
}

fn without_model(id: &str) -> ProxyError {
    let message = format!("`{id}` is a provider; name one of its models, as in `{id}/MODEL`");
    ProxyError::new(ErrorKind::InvalidRequest, message).with_param("model")
}

fn to_provider(provider: &Arc<Provider>, model: Arc<str>) -> Target {
    Target {
        backend: Arc::clone(provider) as Arc<dyn Backend>,
        model,
        group: None,
        router: None,
        alias: None,
    }
}

fn to_virtual(found: &Arc<dyn VirtualModel>, model: &str) -> Target {
    let about = found.about();
    let id = |section: Section| (about.section == section).then(|| Arc::clone(&about.id));
    Target {
        backend: Arc::clone(found) as Arc<dyn Backend>,
        model: Arc::from(model),
        group: id(Section::Group),
        router: id(Section::Router),
        alias: None,
    }
}
