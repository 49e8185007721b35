//! The configuration as the commands see it: read it, anew if need be, and say what is wrong with it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::Uri;

use super::{ConfigArgs, Exit, complain};
use crate::app::reloader::{Load, same_files};
use crate::config::settings::{Config, StaticModel};
use crate::config::{self, Kind, Programs, Report, Sources};
use crate::dialect::Task;
use crate::provider::registry::Registry;
use crate::server::token;

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
/// empty for a moment: that is no configuration. Nor is it one without its main file, or with one of which only the name
/// is left: the clients' keys may have been in there.
pub fn loader(sources: Sources, registry: Registry) -> Load {
    let known = Mutex::new(saying(&config::named_files(&sources).unwrap_or_default()));
    let main = sources.config_dir.as_ref().map(|directory| directory.join("config.toml"));
    Arc::new(move |files| {
        let own = config::named_files(&sources);
        if !files.is_empty() && !own.as_ref().is_ok_and(|own| same_files(files, own)) {
            let (files, texts) = (files.to_vec(), Vec::new());
            return read(
                &Sources { files, texts, programs: Programs::Refused, ..sources.clone() },
                &registry,
            );
        }
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        // Reading says what of them cannot be listed.
        if let Ok(own) = &own
            && let Some((file, what)) = missed(&known, own, main.as_deref())
        {
            let text = format!(
                "{what}: perhaps it is being written; put it back, or restart demuxai to serve without it"
            );
            return Err(Report::of(Some(file), text));
        }
        let config = read(&sources, &registry)?;
        *known = saying(&own.unwrap_or_default());
        Ok(config)
    })
}

/// Those of the files that are not empty.
fn saying(files: &[PathBuf]) -> Vec<PathBuf> {
    files.iter().filter(|file| !is_empty(file)).cloned().collect()
}

fn is_empty(file: &Path) -> bool {
    file.metadata().is_ok_and(|about| about.is_file() && about.len() == 0)
}

/// What said something when it was read last, cannot be left out, and is missing now; and how.
fn missed(known: &[PathBuf], now: &[PathBuf], main: Option<&Path>) -> Option<(PathBuf, &'static str)> {
    let emptied = known.iter().find(|file| now.contains(file) && is_empty(file));
    if let Some(file) = emptied {
        return Some((file.clone(), "is empty"));
    }
    let nothing_is_left = now.iter().all(|file| is_empty(file));
    let is_needed = |file: &PathBuf| nothing_is_left || main == Some(file.as_path());
    let gone = known.iter().find(|file| !now.contains(file) && is_needed(file))?;
    Some((gone.clone(), "is there no more"))
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
pub(super) fn with_kinds<T>(registry: &Registry, then: impl FnOnce(&[Kind<'_>]) -> T) -> T {
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
pub(super) fn answers(url: &str) -> bool {
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
