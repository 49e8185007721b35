//! The configuration as the commands see it: load it and say what is wrong; check it; write a first one.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::{ConfigArgs, Exit, InitArgs, complain, say};
use crate::app::Plan;
use crate::config::settings::Config;
use crate::config::{self, Sources};
use crate::provider::registry::Registry;

/// The registry of the product.
pub fn registry() -> Registry {
    Registry::builtin()
}

/// Loads the configuration; what is wrong is said on stderr.
///
/// # Errors
/// The exit code.
pub fn load(files: &ConfigArgs, listen: Option<SocketAddr>) -> Result<Config, Exit> {
    let sources = Sources { files: files.config.clone(), listen, ..Sources::from_process() };
    config::load(&sources, &registry()).map_err(|report| {
        complain(&report.to_string());
        Exit::Configuration
    })
}

/// `demuxai check`: all of the start-up but the sockets.
pub fn check(args: &ConfigArgs) -> Exit {
    let config = match load(args, None) {
        Ok(config) => config,
        Err(exit) => return exit,
    };
    let plan = match Plan::new(config, &registry()) {
        Ok(plan) => plan,
        Err(error) => {
            complain(&error.to_string());
            return super::serve::exit_of(&error);
        }
    };
    say(&summary(plan.config()));
    Exit::Success
}

/// What would be started, for people.
fn summary(config: &Config) -> String {
    let mut lines = vec!["configuration is good".to_owned()];
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
    for note in &config.notes {
        lines.push(format!("  note: {note}"));
    }
    lines.join("\n")
}

/// `demuxai init`: writes a starting configuration, never over an existing one unless told to.
pub fn init(args: &InitArgs) -> Exit {
    let found = match config::discover(&Sources::from_process(), &registry()) {
        Ok(found) => found,
        Err(report) => {
            complain(&report.to_string());
            return Exit::Configuration;
        }
    };
    let text = config::starting_configuration(&found);
    let path = match args.output.clone().or_else(config::default_file) {
        Some(path) if path == PathBuf::from("-") => {
            say(text.trim_end());
            return Exit::Success;
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

fn write_new(path: &PathBuf, text: &str, force: bool) -> Result<(), String> {
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
    options.write(true).create_new(!force).create(true).truncate(force);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        // Keys may be written into it by hand later.
        options.mode(0o600);
    }
    let mut file = options.open(path).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)
}

/// The environment as a map, for whoever needs one variable.
pub fn environment() -> BTreeMap<String, String> {
    config::process_environment()
}
