//! What works and is probably not meant: members that never get their turn, names that hide others, models that nobody can
//! ask for. Warnings, unless no request could ever be served; then they are problems.
//!
//! Nothing here knows a type of group or of provider: what they can do is asked of the kinds, and what is not known is no
//! reason to doubt.

mod members;
mod names;
mod serving;

use super::super::settings::{Config, ProviderConfig};
use super::super::spec::Spec;
use super::Check;

/// Looks for all of them.
pub(super) fn all(check: &mut Check<'_>, spec: &Spec, config: &Config) {
    members::excluded(check, config);
    members::not_offered(check, config);
    members::twice(check, config);
    members::apart(check, config);
    members::behind(check, config);
    members::spaces(check, config);
    names::hidden_models(check, config);
    names::shadowed(check, config);
    names::keys(check, spec, config);
    names::unreachable(check, spec, config);
}

/// The provider of this id.
fn provider<'c>(config: &'c Config, id: &str) -> Option<&'c ProviderConfig> {
    config.providers.iter().find(|provider| provider.id == id)
}

/// Whether a provider's globs allow a model, as requests are told: a name without a tag and the same with `:latest` are
/// one model.
fn allows(provider: &ProviderConfig, model: &str) -> bool {
    let twin = match model.strip_suffix(":latest") {
        Some(bare) => Some(bare.to_owned()),
        None if model.contains(':') => None,
        None => Some(format!("{model}:latest")),
    };
    let matches = |globs: &globset::GlobSet| {
        globs.is_match(model) || twin.as_deref().is_some_and(|twin| globs.is_match(twin))
    };
    provider.include_models.as_ref().is_none_or(matches)
        && !provider.exclude_models.as_ref().is_some_and(matches)
}
