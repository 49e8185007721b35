//! A provider whose configuration changed: another one in its place, over as much of what is known of its account as
//! still holds. The old one ends what is in flight.

use std::sync::Arc;

use super::about::About;
use super::capacity::Capacity;
use super::handle::Provider;
use super::models::ModelList;
use super::vitals::Vitals;
use crate::config::secret::Secret;
use crate::config::settings::ProviderConfig;

/// What two configurations of one provider have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kinship {
    /// The account: all that is known of it holds.
    Account,
    /// The upstream, asked with another key or other headers: what was counted holds.
    Upstream,
    /// Nothing.
    None,
}

/// What two configurations of one provider have in common.
pub fn kinship(old: &ProviderConfig, new: &ProviderConfig) -> Kinship {
    if (&old.kind, &old.url) != (&new.kind, &new.url) {
        return Kinship::None;
    }
    let same = |old: &Secret, new: &Secret| old.matches(new.expose());
    let same_key = match (&old.api_key, &new.api_key) {
        (Some(old), Some(new)) => same(old, new),
        (old, new) => old.is_none() && new.is_none(),
    };
    let same_headers = old.headers.len() == new.headers.len()
        && old
            .headers
            .iter()
            .all(|(name, old)| new.headers.iter().any(|(other, new)| name == other && same(old, new)));
    if same_key && same_headers { Kinship::Account } else { Kinship::Upstream }
}

// === impl Provider ===

impl Provider {
    /// Starts a provider in the place of this one, which has the upstream in common with it. Must be called inside an
    /// actix system.
    pub fn succeeded_by(&self, about: About) -> Arc<Provider> {
        let about = Arc::new(about);
        let vitals = self.vitals();
        reconfigure(&vitals.capacity, &about);
        let models = as_configured(&vitals.models.load(), &about);
        let vitals = if kinship(&self.about().config, &about.config) == Kinship::Account {
            Arc::clone(vitals)
        } else {
            vitals.mute();
            vitals.capacity.has_new_key();
            Arc::new(Vitals::new(about.metrics.up(&about.id), Arc::clone(&vitals.capacity)))
        };
        vitals.models.store(Arc::new(models));
        Provider::over(about, vitals).running()
    }

    /// Starts a provider over what was counted for its account before.
    pub fn start_again(about: About, capacity: Arc<Capacity>) -> Arc<Provider> {
        let about = Arc::new(about);
        reconfigure(&capacity, &about);
        let vitals = Vitals::new(about.metrics.up(&about.id), capacity);
        Provider::over(about, Arc::new(vitals)).running()
    }
}

fn reconfigure(capacity: &Arc<Capacity>, about: &About) {
    capacity.reconfigure(about.limits(), about.waiting(), about.local());
}

fn as_configured(list: &ModelList, about: &About) -> ModelList {
    let (config, facts) = (&about.config, &about.facts);
    let (include, exclude) = (config.include_models.clone(), config.exclude_models.clone());
    list.as_configured(&config.models, facts.static_models(), facts.open_list, include, exclude)
}
