//! The configuration as the commands see it: load it and say what is wrong; check it; write a first one.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::Uri;

use super::{CheckArgs, ConfigArgs, Exit, InitArgs, answer, complain, say};
use crate::app::Plan;
use crate::app::reloader::{Load, same_files};
use crate::config::settings::{Config, MemberConfig, RouteConfig, StaticModel};
use crate::config::{self, Kind, Programs, Report, Sources};
use crate::dialect::Task;
use crate::provider::registry::Registry;
use crate::server::token;
use crate::state::HOMELESS;

/// The kinds that a key in the environment is reason enough to serve. Not GitHub: that host is gone, and its
/// variable is set on many machines for other reasons.
const DISCOVERED: [&str; 4] = ["ollama-cloud", "mistral", "codestral", "fireworks"];
/// The endpoints that a kind may lack.
const TASKS: [Task; 4] = [Task::Chat, Task::Completion, Task::Fim, Task::Embedding];
/// How long a local server may take to show that it is there.
const PROBE: Duration = Duration::from_millis(500);

/// The registry of the product.
pub fn registry() -> Registry {
    Registry::builtin()
}

/// Loads the configuration; what is wrong is said on stderr.
///
/// # Errors
/// The exit code.
pub fn load(files: &ConfigArgs, listen: Option<SocketAddr>) -> Result<Config, Exit> {
    load_from(&sources(files, listen))
}

/// What this process's configuration is made from.
pub fn sources(files: &ConfigArgs, listen: Option<SocketAddr>) -> Sources {
    let mut sources = Sources::of_process(files.config.clone());
    sources.overrides.extend(listen.map(listening));
    sources
}

/// Loads the configuration; what is wrong is said on stderr.
///
/// # Errors
/// The exit code.
pub fn load_from(sources: &Sources) -> Result<Config, Exit> {
    read(sources, &registry()).map_err(|report| {
        complain(&report.to_string());
        Exit::Configuration
    })
}

/// Reads the configuration anew from where it was read first, or from other files in its place. Those were named by
/// somebody who may change the daemon, but not by who started it: no program is run for them.
///
/// A daemon that was configured is not to serve whatever it finds, and to whoever asks, because its files are gone or
/// empty for a moment: that is no configuration.
pub fn loader(sources: Sources, registry: Registry) -> Load {
    let first = config::named_files(&sources).unwrap_or_default();
    let was_configured = !say_nothing(&first);
    Arc::new(move |files| {
        let own = config::named_files(&sources).unwrap_or_default();
        if files.is_empty() || same_files(files, &own) {
            if was_configured && say_nothing(&own) {
                let what = if own.is_empty() { "is there no more" } else { "is empty" };
                let text = format!(
                    "{what}: perhaps it is being written; put it back, or restart demuxai to serve without it"
                );
                return Err(Report::of(own.first().or(first.first()).cloned(), text));
            }
            return read(&sources, &registry);
        }
        let (files, texts) = (files.to_vec(), Vec::new());
        read(&Sources { files, texts, programs: Programs::Refused, ..sources.clone() }, &registry)
    })
}

/// Whether there are no such files, or all of them are empty.
fn say_nothing(files: &[PathBuf]) -> bool {
    let is_empty = |file: &PathBuf| file.metadata().is_ok_and(|about| about.is_file() && about.len() == 0);
    files.iter().all(is_empty)
}

/// The configuration as far as it can be made out, to find the daemon that serves an earlier version of it.
pub fn glimpse(files: &[PathBuf]) -> (Option<Config>, Report) {
    let sources = Sources::of_process(files.to_vec());
    with_kinds(&registry(), |kinds| config::glimpse(&sources, kinds, &answers))
}

/// The token beside the state file where nobody named one.
pub fn usual_token() -> Option<String> {
    let file = token::place(&config::platform_state_directory()?.join("state.db"));
    token::read(&file).map(|token| token.expose().to_owned())
}

/// The override that moves the first listener.
pub fn listening(address: SocketAddr) -> (String, toml::Value) {
    ("listeners.<first>.address".to_owned(), toml::Value::String(address.to_string()))
}

/// Reads the configuration with the kinds of this registry.
///
/// # Errors
/// All problems at once.
pub fn read(sources: &Sources, registry: &Registry) -> Result<Config, Report> {
    with_kinds(registry, |kinds| config::load(sources, kinds, &answers))
}

/// What the configuration needs to know of the registry's kinds.
fn with_kinds<T>(registry: &Registry, then: impl FnOnce(&[Kind<'_>]) -> T) -> T {
    let known: Vec<_> = registry.names().into_iter().filter_map(|name| registry.kind(name)).collect();
    let lacks: Vec<Vec<Task>> = known
        .iter()
        .map(|kind| {
            TASKS.into_iter().filter(|task| kind.facts.route(kind.adapter, *task).is_none()).collect()
        })
        .collect();
    let variables: Vec<Vec<&str>> =
        known.iter().map(|kind| kind.facts.api_key_env.iter().map(String::as_str).collect()).collect();
    let models: Vec<Vec<StaticModel>> = known
        .iter()
        .map(|kind| {
            let facts = kind.facts.models.iter();
            let model = facts.map(|model| StaticModel {
                id: model.id.clone(),
                capabilities: model.capabilities.clone(),
                context_length: model.context_length,
            });
            model.collect()
        })
        .collect();
    let kinds: Vec<Kind<'_>> = known
        .iter()
        .zip(&variables)
        .zip(&lacks)
        .zip(&models)
        .map(|(((kind, variables), lacks), models)| Kind {
            lacks,
            lists: kind.facts.models_path(kind.adapter).is_some(),
            open_list: kind.facts.open_list,
            models,
            name: &kind.name,
            aliases: registry.aliases(&kind.name),
            url: kind.facts.url.as_deref(),
            api_key_env: variables,
            requires_key: kind.facts.requires_key,
            local: kind.facts.local,
            discovered: DISCOVERED.contains(&kind.name.as_str()),
            retired: kind.facts.retired.as_ref().map(|retired| retired.message.as_str()),
        })
        .collect();
    then(&kinds)
}

/// Whether an HTTP server answers at this url.
fn answers(url: &str) -> bool {
    let Ok(uri) = url.parse::<Uri>() else { return false };
    let Some(host) = uri.host() else { return false };
    let encrypted = uri.scheme_str() == Some("https");
    let port = uri.port_u16().unwrap_or(if encrypted { 443 } else { 80 });
    let Ok(addresses) = (host.trim_matches(['[', ']']), port).to_socket_addrs() else { return false };
    let connected =
        addresses.into_iter().find_map(|address| TcpStream::connect_timeout(&address, PROBE).ok());
    // Behind TLS a connection has to be proof enough.
    connected.is_some_and(|stream| encrypted || speaks_http(stream, host))
}

fn speaks_http(mut stream: TcpStream, host: &str) -> bool {
    let request = format!("GET / HTTP/1.0\r\nhost: {host}\r\n\r\n");
    let mut begin = [0_u8; 5];
    stream.set_read_timeout(Some(PROBE)).is_ok()
        && stream.write_all(request.as_bytes()).is_ok()
        && stream.read_exact(&mut begin).is_ok()
        && begin == *b"HTTP/"
}

/// `demuxai check`: all of the start-up but the sockets.
pub fn check(args: &CheckArgs) -> Exit {
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

/// `demuxai init`: writes a starting configuration, never over an existing one unless told to.
pub fn init(args: &InitArgs) -> Exit {
    let environment = config::process_environment();
    let text = with_kinds(&registry(), |kinds| {
        config::starting_configuration(&config::discover(&environment, kinds, &answers), kinds)
    });
    let default = || config::platform_directory().map(|folder| folder.join("config.toml"));
    let path = match args.output.clone().or_else(default) {
        Some(path) if path == Path::new("-") => {
            return answer(text.trim_end());
        }
        Some(path) => path,
        None => {
            complain("this platform has no configuration directory; name a file with --output FILE");
            return Exit::Failure;
        }
    };
    if let Err(problem) = write_new(&path, &text, args.force) {
        complain(&problem);
        return Exit::Failure;
    }
    say(&format!("wrote {}; `demuxai check` checks it, `demuxai` serves it", path.display()));
    Exit::Success
}

fn write_new(path: &Path, text: &str, force: bool) -> Result<(), String> {
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            format!("{} is there already; --force replaces it, --output - prints instead", path.display())
        }
        _ => format!("cannot write {}: {error}", path.display()),
    };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(force).truncate(force).create_new(!force);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        // Keys may be written into it by hand later.
        options.mode(0o600);
    }
    let mut file = options.open(path).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)
}
