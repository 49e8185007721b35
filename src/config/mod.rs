//! Configuration: finds its files, merges the layers, checks everything and gives [`settings::Config`].
//!
//! The stages, each a file: `read` (files to trees that know their lines) · `legacy` (the Python demuxai's
//! `config.yml`) · `environment` (`DEMUXAI__…`) · `discover` (what is there without a file) · `walk` (against the
//! schema that `schema` generates from `spec`) · `fill` (`${VAR}`) · `validate` (everything else) · `report`.
//!
//! Depends on little of the rest of demuxai, and all of that pure: windows, endpoints, and the conditions of routes. The
//! kinds of providers and the probe are passed in. Only [`process_environment`] reads the process's environment.

mod difference;
mod discover;
mod environment;
mod fill;
pub mod image;
mod interpolate;
mod layers;
mod legacy;
mod loading;
mod place;
mod quantity;
mod read;
mod reference;
mod report;
mod schema;
pub mod secret;
pub mod settings;
pub(crate) mod spec;
mod starting;
mod syntax;
mod validate;
mod walk;
mod zone;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use difference::{Difference, Fate, OptionChange, Shown, Thing};
pub use discover::{Found, discover};
pub use place::Origin;
pub(crate) use report::did_you_mean;
pub use report::{Problem, Report, warned};
pub use schema::{published as published_schema, schema};
pub use starting::starting_configuration;
pub(crate) use validate::{Form, Reading};
pub(crate) use zone::zone;

use layers::merged;
use loading::Loading;
pub use loading::named_files;
use place::Tree;
use schema::Node;
use settings::Config;

use crate::dialect::Task;

/// Everything that a configuration is made from.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// Files that were named (`--config`), lowest first. They must exist.
    pub files: Vec<PathBuf>,
    /// Configurations that are in no file, each with a name for messages; read after the files.
    pub texts: Vec<(String, String)>,
    /// The whole environment.
    pub env: BTreeMap<String, String>,
    /// Options of the command line: key path, with dots and `<first>` for the first listener's id, and value.
    pub overrides: Vec<(String, toml::Value)>,
    /// demuxai's directory in the platform's configuration directory; used when no file is named.
    pub config_dir: Option<PathBuf>,
    /// demuxai's directory in the platform's state directory; without one, state is in memory only unless the
    /// configuration names a file.
    pub state_dir: Option<PathBuf>,
    /// Whether programs may be run for secrets.
    pub programs: Programs,
}

/// Whether programs that a configuration names may be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Programs {
    /// They are.
    #[default]
    Run,
    /// A secret that wants one is a problem: the files are not those that whoever started demuxai named.
    Refused,
}

/// What the configuration needs to know of a kind of upstream.
#[derive(Debug, Clone, Copy)]
pub struct Kind<'a> {
    /// The word for `type`.
    pub name: &'a str,
    /// Other words for it.
    pub aliases: &'a [&'a str],
    /// Where it is, unless the configuration says otherwise; without one, `url` is required.
    pub url: Option<&'a str>,
    /// The variables that usually hold its key; the first one is its own.
    pub api_key_env: &'a [&'a str],
    /// It does not answer without a key.
    pub requires_key: bool,
    /// A server on this machine or network.
    pub local: bool,
    /// With no configuration file, a key in the environment is reason enough to serve it.
    pub discovered: bool,
    /// Why it is gone, if its owner shut it down.
    pub retired: Option<&'a str>,
    /// The endpoints that it has not.
    pub lacks: &'a [Task],
    /// It lists its models.
    pub lists: bool,
    /// It serves models that it does not list.
    pub open_list: bool,
    /// Models that it is known to serve.
    pub models: &'a [settings::StaticModel],
}

/// The environment of this process; what is not UTF-8 is left out.
#[expect(clippy::disallowed_methods, reason = "the one place where the environment is read")]
pub fn process_environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// demuxai's directory in the platform's configuration directory (on Linux `~/.config/demuxai`).
pub fn platform_directory() -> Option<PathBuf> {
    directories::BaseDirs::new().map(|base| base.config_dir().join("demuxai"))
}

/// demuxai's directory in the platform's state directory (on Linux `~/.local/state/demuxai`), where there is such a
/// thing; else in that for the data of programs.
pub fn platform_state_directory() -> Option<PathBuf> {
    let base = directories::BaseDirs::new()?;
    Some(base.state_dir().unwrap_or_else(|| base.data_local_dir()).join("demuxai"))
}

/// Loads the configuration.
///
/// Layers, lowest first: built in, the files in their order, `DEMUXAI__…` variables, overrides. Tables merge key by
/// key, lists and secret references are replaced as a whole. What demuxai finds by itself is used only when there is
/// neither a file nor a variable that names a provider's type; other variables adjust what is found. `probe` says whether a URL answers.
///
/// # Errors
/// All problems at once.
pub fn load(sources: &Sources, kinds: &[Kind<'_>], probe: &dyn Fn(&str) -> bool) -> Result<Config, Report> {
    match glimpse(sources, kinds, probe) {
        (Some(config), report) if report.problems.is_empty() => Ok(config),
        (_, report) => Err(report),
    }
}

/// Loads the configuration as far as it can be made out, to find a daemon that serves an earlier version of it; and what
/// is wrong with it. Nothing can be made out where a file cannot be read.
pub fn glimpse(
    sources: &Sources,
    kinds: &[Kind<'_>],
    probe: &dyn Fn(&str) -> bool,
) -> (Option<Config>, Report) {
    let schema = schema();
    let root = Node::root(&schema);
    let mut loading = Loading::default();
    let files = loading.files(sources);
    let mut layers: Vec<Tree> = Vec::new();
    for path in &files {
        layers.extend(loading.file(path, root, &sources.env));
    }
    for (name, text) in &sources.texts {
        layers.extend(loading.text(Path::new(name), text.clone(), root, &sources.env));
    }
    let configured =
        !files.is_empty() || !sources.texts.is_empty() || environment::names_providers(&sources.env);
    if !configured && !loading.incomplete {
        layers.push(loading.discovered(&sources.env, kinds, probe));
    }
    let below = merged(&layers, &loading.whole);
    let mut variables =
        environment::layer(&sources.env, &below, root, &mut loading.places, &mut loading.findings);
    loading.walk(root, &mut variables);
    layers.push(variables);
    let below = merged(&layers, &loading.whole);
    let mut command_line = loading.overrides(&sources.overrides, &below);
    loading.walk(root, &mut command_line);
    layers.push(command_line);
    loading.finish(root, &layers, sources, kinds)
}

// === impl Sources ===

impl Sources {
    /// The sources of this process with the files that its command line names.
    pub fn of_process(files: Vec<PathBuf>) -> Self {
        Sources {
            files,
            env: process_environment(),
            config_dir: platform_directory(),
            state_dir: platform_state_directory(),
            ..Sources::default()
        }
    }
}

#[cfg(test)]
mod tests;
