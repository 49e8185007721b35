//! `demuxai check`: all of the start-up but the sockets, and what would be started, in words.

use clap::Args;

use super::load::{load, registry};
use super::{ConfigArgs, Exit, answer, complain};
use crate::app::Plan;
use crate::config;
use crate::config::settings::{Config, MemberConfig, RouteConfig};
use crate::state::HOMELESS;

/// Options of `check`.
#[derive(Debug, Args, Default)]
pub struct CheckArgs {
    /// Where the configuration comes from.
    #[command(flatten)]
    pub files: ConfigArgs,
    /// Warnings fail, too, with exit code 2.
    #[arg(long)]
    pub strict: bool,
}

/// Checks the configuration, and says what would be started.
pub fn run(args: &CheckArgs) -> Exit {
    let config = match load(&args.files, None) {
        Ok(config) => config,
        Err(exit) => return exit,
    };
    let plan = match Plan::new(config, &registry()) {
        Ok(plan) => plan,
        Err(error) => {
            complain(&error.to_string());
            return Exit::of(&error);
        }
    };
    let warnings = &plan.config().warnings;
    if !warnings.is_empty() {
        complain(&config::warned(warnings));
    }
    match answer(&summary(plan.config())) {
        Exit::Success if args.strict && (!warnings.is_empty() || serves_nothing(plan.config())) => {
            Exit::Configuration
        }
        exit => exit,
    }
}

/// Whether nobody could be answered by anybody.
fn serves_nothing(config: &Config) -> bool {
    config.providers.is_empty() && config.groups.is_empty()
}

/// What would be started, for people.
fn summary(config: &Config) -> String {
    let good = match config.warnings.len() {
        0 if serves_nothing(config) => "configuration is good, but there is nothing to serve".to_owned(),
        0 => "configuration is good".to_owned(),
        1 => "configuration is good, with one warning".to_owned(),
        count => format!("configuration is good, with {count} warnings"),
    };
    let mut lines = vec![good];
    for listener in &config.listeners {
        let mut serves = Vec::new();
        for (on, name) in [(listener.api, "api"), (listener.metrics, "metrics"), (listener.admin, "admin")] {
            if on {
                serves.push(name);
            }
        }
        lines.push(format!("  listener {:<16} {} ({})", listener.id, listener.address, serves.join(", ")));
    }
    for key in &config.keys {
        lines.push(format!("  key      {}", key.id));
    }
    for provider in &config.providers {
        let key = if provider.api_key.is_some() { "with a key" } else { "without a key" };
        lines.push(format!("  provider {:<16} {} at {} {key}", provider.id, provider.kind, provider.url));
    }
    for group in &config.groups {
        let members: Vec<String> = group.members.iter().map(in_words).collect();
        let over = if members.is_empty() { "" } else { " over " };
        lines.push(format!("  group    {:<16} {}{over}{}", group.id, group.kind, members.join(", ")));
    }
    for router in &config.routers {
        let routes: Vec<String> = router.routes.iter().map(RouteConfig::label).collect();
        let takes_all = router.routes.iter().any(|route| route.conditions.is_empty());
        let rest = if takes_all { "" } else { "; what no route matches is refused" };
        lines.push(format!("  router   {:<16} to {}{rest}", router.id, routes.join(", ")));
    }
    for alias in &config.aliases {
        lines.push(format!("  alias    {:<16} {}", alias.id, alias.to));
    }
    match &config.state.file {
        Some(file) => lines.push(format!("  state    {}", file.display())),
        None if config.state.homeless => lines.push(format!("  state    in memory only: {HOMELESS}")),
        None => lines.push("  state    in memory only".to_owned()),
    }
    for note in &config.notes {
        lines.push(format!("  note: {note}"));
    }
    lines.join("\n")
}

/// A member of a group, and what is special about it.
fn in_words(member: &MemberConfig) -> String {
    let mut remarks = Vec::new();
    if member.model.is_none() {
        remarks.push("the model that is asked for".to_owned());
    }
    if member.weight != 1 {
        remarks.push(format!("weight {}", member.weight));
    }
    if !member.set.is_empty() {
        let fields: Vec<&str> = member.set.iter().map(|(key, _)| key.as_str()).collect();
        remarks.push(format!("sets {}", fields.join(", ")));
    }
    let label = member.label();
    if remarks.is_empty() { label } else { format!("{label} ({})", remarks.join("; ")) }
}
