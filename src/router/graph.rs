//! From the configuration's groups to backends: each member is looked up by its id, members first.

use std::sync::Arc;

use crate::backend::Backend;
use crate::backend::group::{Group, GroupBackend, Member, Racing, Sticky, Turns};
use crate::backend::strategy::strategy;
use crate::config::settings::{GroupConfig, GroupKind, MemberConfig};
use crate::metrics::Metrics;
use crate::provider::handle::Provider;

/// Builds the groups over these providers. The configuration has them in an order in which members come first.
///
/// # Errors
/// A member or a strategy that is not there, which the configuration's own check rules out.
pub fn groups(
    configs: &[GroupConfig],
    providers: &[Arc<Provider>],
    metrics: &Arc<Metrics>,
) -> Result<Vec<GroupBackend>, String> {
    let mut built: Vec<GroupBackend> = Vec::new();
    for config in configs {
        let group = build(config, providers, &built, metrics)?;
        built.push(GroupBackend::new(group));
    }
    Ok(built)
}

fn build(
    config: &GroupConfig,
    providers: &[Arc<Provider>],
    built: &[GroupBackend],
    metrics: &Arc<Metrics>,
) -> Result<Group, String> {
    let members = config.members.iter().map(|member| {
        let backend = find(&member.backend, providers, built)
            .ok_or_else(|| format!("group `{}`: no backend `{}`", config.id, member.backend))?;
        Ok(as_member(member, backend))
    });
    let label = config.kind.label();
    let rule = strategy(label).ok_or_else(|| format!("group `{}`: no type `{label}`", config.id))?;
    Ok(Group {
        id: Arc::from(config.id.as_str()),
        name: config.name.clone(),
        description: config.description.clone(),
        members: members.collect::<Result<_, String>>()?,
        attempts: config.attempts,
        timeout: config.timeout,
        fail_on: config.fail_on.clone(),
        wait: config.wait,
        resume: config.resume,
        same_space: config.same_space,
        racing: (config.kind == GroupKind::Race)
            .then_some(Racing { delay: config.delay, width: config.width }),
        turns: Turns::new(rule, fastrand::Rng::new()),
        sticky: config.sticky.as_ref().map(|sticky| Sticky::new(sticky.by, sticky.keep)),
        metrics: Arc::clone(metrics),
    })
}

fn find(id: &str, providers: &[Arc<Provider>], built: &[GroupBackend]) -> Option<Arc<dyn Backend>> {
    let provider = providers.iter().find(|provider| provider.id() == id);
    if let Some(provider) = provider {
        return Some(Arc::clone(provider) as Arc<dyn Backend>);
    }
    let group = built.iter().find(|group| group.id() == id)?;
    Some(Arc::new(group.clone()))
}

fn as_member(config: &MemberConfig, backend: Arc<dyn Backend>) -> Member {
    Member {
        label: Arc::from(config.label()),
        backend,
        model: config.model.as_deref().map(Arc::from),
        weight: config.weight,
        set: config.set.clone(),
    }
}
