//! `demuxai models`: asks every provider for its list and prints what clients would see.

use std::sync::Arc;

use futures_util::future::join_all;

use super::load::{self, registry};
use super::{ConfigArgs, Exit, answer, complain};
use crate::app::Plan;
use crate::backend::Backend;
use crate::config::settings::Config;
use crate::provider::handle::Provider;
use crate::provider::models::each_once;
use crate::provider::vitals::Health;
use crate::provider::{Capabilities, Model};

/// Prints all models; a provider that cannot list is named with its reason.
pub fn run(args: &ConfigArgs) -> Exit {
    let config = match load::load(args, None) {
        Ok(config) => config,
        Err(exit) => return exit,
    };
    let notes = config.notes.clone();
    let virtuals = virtuals(&config);
    let plan = match Plan::new(config, &registry()) {
        Ok(plan) => plan,
        Err(error) => {
            complain(&error.to_string());
            return Exit::of(&error);
        }
    };
    actix_rt::System::new().block_on(async move {
        let providers = plan.start_providers();
        if providers.is_empty() {
            // Among them what to do about it.
            for note in notes {
                complain(&note);
            }
            return Exit::Configuration;
        }
        join_all(providers.iter().map(|provider| provider.refresh())).await;
        let lines: Vec<String> = providers.iter().flat_map(lines).chain(virtuals).collect();
        let printed = if lines.is_empty() { Exit::Success } else { answer(&lines.join("\n")) };
        if providers.iter().map(answers).fold(false, |any, good| any | good) {
            printed
        } else {
            Exit::Failure
        }
    })
}

fn lines(provider: &Arc<Provider>) -> Vec<String> {
    let list = provider.vitals().models.load();
    let config = &provider.about().config;
    let hidden = |model: &Model| config.hidden.as_ref().is_some_and(|globs| globs.is_match(&model.id));
    let shown: Vec<&Model> = list.models().iter().filter(|model| !hidden(model)).collect();
    if config.list_aliases {
        return shown.into_iter().map(|model| line(provider.id(), model)).collect();
    }
    each_once(&shown).iter().map(|model| line(provider.id(), model)).collect()
}

/// Groups, routers and aliases, less those that are hidden.
fn virtuals(config: &Config) -> Vec<String> {
    let groups = config.groups.iter().filter(|group| !group.hidden);
    let groups = groups.map(|group| (&group.id, format!("group, {}", group.kind)));
    let routers = config.routers.iter().filter(|router| !router.hidden);
    let routers = routers.map(|router| (&router.id, "router".to_owned()));
    let aliases = config.aliases.iter().filter(|alias| !alias.hidden);
    let aliases = aliases.map(|alias| (&alias.id, format!("alias of {}", alias.to)));
    let all = groups.chain(routers).chain(aliases);
    all.map(|(id, what)| format!("{id:<56} {:>9}  {what}", "-")).collect()
}

/// Whether the provider could be asked; if not, says why.
fn answers(provider: &Arc<Provider>) -> bool {
    let health = provider.vitals().health();
    if health == Health::Up {
        return true;
    }
    let remark = provider.vitals().remark().unwrap_or_else(|| "no answer in time".to_owned());
    complain(&format!("{}: {} ({remark})", provider.id(), health.label()));
    false
}

fn line(provider: &str, model: &Model) -> String {
    let mut line = format!("{provider}/{}", model.id);
    let words = words(&model.capabilities);
    if let Some(context) = model.context_length {
        line = format!("{line:<56} {context:>9}");
    } else if !words.is_empty() {
        line = format!("{line:<56} {:>9}", "-");
    }
    if !words.is_empty() {
        line = format!("{line}  {}", words.join(" "));
    }
    line
}

fn words(capabilities: &Capabilities) -> Vec<&'static str> {
    let all = [
        (capabilities.chat, "chat"),
        (capabilities.completion, "completion"),
        (capabilities.fim, "fim"),
        (capabilities.embedding, "embedding"),
        (capabilities.tools, "tools"),
        (capabilities.vision, "vision"),
        (capabilities.reasoning, "reasoning"),
    ];
    all.into_iter().filter(|(can, _)| *can == Some(true)).map(|(_, word)| word).collect()
}
