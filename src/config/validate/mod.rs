//! From tables of the right types to a [`Config`] of valid values: everything that is wrong is found at once.
//! The only I/O is what values ask for: secrets and certificate files, and a look at the files that groups write to.

mod aliases;
mod doubts;
mod files;
mod groups;
mod ids;
mod keys;
mod limits;
mod listeners;
mod nesting;
mod prices;
mod providers;
mod routers;
mod state;
mod target;
mod writable;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use config::Value as ConfigValue;
use globset::{Glob, GlobSet, GlobSetBuilder};
use http::header::HeaderValue;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

pub(crate) use files::{Form, Written};
pub(crate) use groups::Reading;
pub(super) use listeners::free_id;

use super::image::{Image, Veiled};
use super::interpolate::is_name;
use super::place::{KeyPath, Places, Tree, show, spot_of};
use super::quantity;
use super::reference::{self, Fetched, Surroundings};
use super::report::{Findings, Problem};
use super::secret::Secret;
use super::settings::{Config, Log};
use super::spec::{LogFormat, SecretReference, SecretSpec, Span, Spec};
use super::{Kind, Programs};

/// Most globs in one list.
const MOST_GLOBS: usize = 1000;

/// What is judged, against what, and what was found.
pub(crate) struct Check<'a> {
    /// The whole environment.
    pub(crate) env: &'a BTreeMap<String, String>,
    /// The kinds of upstreams there are.
    pub(crate) kinds: &'a [Kind<'a>],
    /// demuxai's directory in the platform's state directory.
    pub(crate) state_dir: Option<&'a Path>,
    /// Where values come from.
    pub(crate) places: &'a Places,
    /// The layers, lowest first, for finding places.
    pub(crate) layers: &'a [Tree],
    /// Where something was taken out already; nothing is missed there.
    pub(crate) removed: BTreeSet<KeyPath>,
    /// Texts that hold the values of variables, and which; they are not quoted.
    pub(crate) filled: BTreeMap<KeyPath, Vec<String>>,
    /// Keys of providers that are not there because these variables are not set.
    pub(crate) unset: BTreeMap<KeyPath, Vec<String>>,
    /// What is compared and not shown.
    pub(crate) veiled: Veiled,
    /// The files that options name and whose contents count.
    pub(crate) files: BTreeSet<PathBuf>,
    /// The files that groups write to.
    pub(crate) written: Vec<Written>,
    /// Programs may be run for secrets.
    pub(crate) programs: Programs,
    /// What is wrong.
    pub(crate) findings: Findings,
    /// What is probably not meant.
    pub(crate) warnings: Findings,
    /// What is worth a line at start.
    pub(crate) notes: Vec<String>,
}

/// Judges the merged configuration. The result is complete only if nothing was found.
pub(crate) fn configuration(check: &mut Check<'_>, spec: &Spec) -> Config {
    ids::namespace(check, spec);
    let keys = keys::all(check, spec);
    let listeners = listeners::all(check, spec);
    let addresses: Vec<_> =
        listeners.iter().map(|listener| (listener.id.as_str(), listener.address)).collect();
    let providers = providers::all(check, spec, &addresses);
    let groups = groups::all(check, spec);
    let routers = routers::all(check, spec, &listeners);
    let order = nesting::order(check, &groups, &routers, &spec.providers);
    routers::unservable(check, &providers, &groups, &routers, &order);
    prices::unknown(check, &providers, &groups, &routers);
    let (groups, routers) = nesting::ordered(groups, routers, &order);
    let aliases = aliases::all(check, spec);
    let state = state::state(check, &spec.state);
    let admin_key = keys::admin(check, spec, &keys);
    files::apart(check, &state);
    files::of_state(check, &state);
    let log = log(check, spec);
    let notes = std::mem::take(&mut check.notes);
    let (image, files, warnings) = (Image::default(), Vec::new(), Vec::new());
    let mut config = Config {
        listeners,
        keys,
        providers,
        groups,
        routers,
        aliases,
        state,
        admin_key,
        log,
        image,
        files,
        notes,
        warnings,
    };
    doubts::all(check, spec, &config);
    config.warnings = std::mem::take(&mut check.warnings).into_report().problems;
    config
}

fn log(check: &mut Check<'_>, spec: &Spec) -> Log {
    let level = spec.log.level.clone().unwrap_or_else(|| "info".to_owned());
    let levels = ["off", "error", "warn", "info", "debug", "trace"];
    let is_target = |text: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | ':'))
    };
    let valid = level.split(',').all(|part| match part.split_once('=') {
        Some((target, level)) => is_target(target) && levels.contains(&level),
        None => levels.contains(&part),
    });
    if !valid {
        let forms = "write one of error, warn, info, debug, trace, off, or pairs such as \"info,demuxai::quota=debug\"";
        check.problem(&["log", "level"], format!("not a log level; {forms}"));
    }
    Log { level, json: spec.log.format == Some(LogFormat::Json) }
}

// === impl Check ===

impl<'a> Check<'a> {
    /// Reports a problem at a path.
    pub(crate) fn problem(&mut self, path: &[&str], message: impl Into<String>) {
        let spot = spot_of(self.layers, path).unwrap_or((usize::MAX, 0));
        let origin = || self.places.name(spot);
        self.findings.add(spot, || Problem { origin: origin(), key: show(path), message: message.into() });
    }

    /// Reports what is probably not meant at a path, unless something was taken out there as wrong.
    pub(crate) fn warn(&mut self, path: &[&str], message: impl Into<String>) {
        let spot = spot_of(self.layers, path).unwrap_or((usize::MAX, 0));
        let origin = || self.places.name(spot);
        self.warnings.add(spot, || Problem { origin: origin(), key: show(path), message: message.into() });
    }

    /// Reports that a required value is missing, unless something was taken out there as wrong.
    pub(crate) fn missing(&mut self, path: &[&str], message: impl Into<String>) {
        if !self.was_removed(path) {
            self.problem(path, message);
        }
    }

    /// Whether something was taken out as wrong at this path, around it or in it.
    pub(crate) fn was_removed(&self, path: &[&str]) -> bool {
        let same = |(removed, step): (&String, &&str)| removed == *step;
        self.removed.iter().any(|removed| removed.iter().zip(path).all(same))
    }

    /// Keeps a line for the start.
    pub(crate) fn note(&mut self, path: &[&str], message: &str) {
        self.notes.push(format!("{}: {message}", show(path)));
    }

    /// A value in a message: quoted, or the name of the variable that it came from.
    pub(crate) fn quote(&self, path: &[&str], value: &str) -> String {
        let path: KeyPath = path.iter().map(|step| (*step).to_owned()).collect();
        match self.filled.get(&path) {
            Some(variables) => format!("the value of {}", variables.join(", ")),
            None => format!("`{}`", value.chars().take(64).flat_map(char::escape_debug).collect::<String>()),
        }
    }

    /// The entries of a section that have its type.
    pub(crate) fn entries<T: DeserializeOwned>(
        &mut self,
        section: &str,
        written: &Map<String, Value>,
    ) -> Vec<(String, T)> {
        let mut entries = Vec::new();
        for (id, value) in written {
            match T::deserialize(value) {
                Ok(entry) => entries.push((id.clone(), entry)),
                // Cannot be after the walk; said without serde's words, which quote values.
                Err(_) => self.problem(&[section, id], "cannot be read"),
            }
        }
        entries
    }

    /// A secret that is set, or nothing.
    pub(crate) fn secret(&mut self, path: &[&str], written: &SecretSpec) -> Option<Secret> {
        let key_path: KeyPath = path.iter().map(|step| (*step).to_owned()).collect();
        let text = match written {
            SecretSpec::Text(text) if text.is_empty() && self.filled.contains_key(&key_path) => {
                let variables = self.filled.get(&key_path).cloned().unwrap_or_default();
                self.unset.insert(key_path, variables);
                return None;
            }
            SecretSpec::Text(text) => text.clone(),
            SecretSpec::Reference(SecretReference { env: None, file: None, command: None }) => {
                self.missing(path, "needs one of env, file, command");
                self.removed.insert(key_path);
                return None;
            }
            SecretSpec::Reference(reference) => {
                let directory = spot_of(self.layers, path).and_then(|spot| self.places.directory(spot));
                if let Some(file) = &reference.file {
                    let around = Surroundings::new(self.env, directory);
                    self.files.extend(reference::located(file, &around).ok());
                }
                if self.programs == Programs::Refused && reference.command.is_some() {
                    self.problem(
                        path,
                        "wants a program to be run, which is only done for the files that are served",
                    );
                    self.removed.insert(key_path);
                    return None;
                }
                match reference::fetch(reference, &Surroundings::new(self.env, directory)) {
                    Ok(Fetched::Text(text, warning)) => {
                        if let Some(warning) = warning {
                            self.note(path, &warning);
                        }
                        text
                    }
                    Ok(Fetched::Unset(name)) => {
                        self.unset.insert(key_path, vec![name]);
                        return None;
                    }
                    Err(why) => {
                        self.problem(path, why);
                        self.removed.insert(key_path);
                        return None;
                    }
                }
            }
        };
        let is_key = path.last().is_some_and(|step| ["api_key", "key"].contains(step));
        if let Some(doubt) = doubt(&text, is_key) {
            self.warn(path, doubt);
        }
        if text.trim() != text || HeaderValue::from_str(&text).is_err() {
            self.problem(
                path,
                "cannot be sent in a header: it has a line break, another odd character or a space at an end",
            );
            self.removed.insert(key_path);
            return None;
        }
        self.veiled.secrets.insert(key_path, Secret::new(text.as_str()));
        Some(Secret::new(text))
    }

    /// The variables that a secret waits for.
    pub(crate) fn unset_variables(&self, path: &[&str]) -> Option<String> {
        let path: KeyPath = path.iter().map(|step| (*step).to_owned()).collect();
        self.unset.get(&path).map(|names| names.join(", "))
    }

    /// A list of globs as one set; an empty list is reported.
    pub(crate) fn globs(&mut self, path: &[&str], written: Option<&Vec<String>>) -> Option<GlobSet> {
        let patterns = written?;
        if patterns.is_empty() || patterns.len() > MOST_GLOBS {
            self.problem(
                path,
                "needs at least one glob (and at most 1000); leave the option out for no restriction",
            );
            return None;
        }
        let mut builder = GlobSetBuilder::new();
        for (index, pattern) in patterns.iter().enumerate() {
            let step = super::place::index_step(index);
            let mut element = path.to_vec();
            element.push(&step);
            match glob(pattern) {
                Ok(valid) => {
                    builder.add(valid);
                }
                Err(why) if pattern.is_empty() => self.problem(&element, why),
                Err(why) => {
                    let quoted = self.quote(&element, pattern);
                    self.problem(&element, format!("{quoted} is not a glob: {why}"));
                }
            }
        }
        match builder.build() {
            Ok(set) => Some(set),
            Err(_) => {
                self.problem(path, "the globs are too complex together");
                None
            }
        }
    }

    /// A length of time within bounds, or its default.
    pub(crate) fn span(
        &mut self,
        path: &[&str],
        written: Option<&Span>,
        default: Duration,
        least: Duration,
        most: Duration,
    ) -> Duration {
        let Some(written) = written else { return default };
        match quantity::span(written) {
            Ok(length) if length >= least && length <= most => return length,
            Ok(_) if least.is_zero() => {
                self.problem(path, format!("must be at most {}", quantity::shown_span(most)));
            }
            Ok(_) => {
                let (least, most) = (quantity::shown_span(least), quantity::shown_span(most));
                self.problem(path, format!("must be at least {least} and at most {most}"));
            }
            Err(why) => self.problem(path, why),
        }
        default
    }
}

/// What is odd about a secret: it seems to be what stands for one.
fn doubt(secret: &str, is_key: bool) -> Option<&'static str> {
    let inside = |open: &str, close: &str| secret.strip_prefix(open)?.strip_suffix(close);
    let name = secret.strip_prefix('$').or_else(|| inside("%", "%"));
    if name.is_some_and(is_name) {
        Some("is the name of a variable, it seems, and not its value; write \"${NAME}\"")
    } else if inside("<", ">").is_some() || secret == "..." {
        Some("stands for a key, it seems, and is none; put the key in its place")
    } else if is_key && secret.get(..7).is_some_and(|begin| begin.eq_ignore_ascii_case("bearer ")) {
        Some("begins with `Bearer`, which is put before it anyway; leave that out")
    } else {
        None
    }
}

/// One glob.
///
/// # Errors
/// What is wrong with it, without the glob.
pub(crate) fn glob(pattern: &str) -> Result<Glob, String> {
    if pattern.is_empty() {
        return Err("is empty".to_owned());
    }
    if pattern.len() > 1000 {
        return Err("it is longer than 1000 bytes".to_owned());
    }
    Glob::new(pattern).map_err(|error| error.kind().to_string())
}

/// A tree without origins, for serde; nothing is converted into another type.
pub(crate) fn plain(value: ConfigValue) -> Value {
    use config::ValueKind;
    match value.kind {
        ValueKind::Nil => Value::Null,
        ValueKind::Boolean(truth) => Value::Bool(truth),
        ValueKind::I64(number) => Value::from(number),
        ValueKind::U64(number) => Value::from(number),
        ValueKind::Float(number) => Value::from(number),
        // No format that is read here has integers this long.
        ValueKind::I128(_) | ValueKind::U128(_) => Value::Null,
        ValueKind::String(text) => Value::String(text),
        ValueKind::Table(table) => plain_table(table),
        ValueKind::Array(items) => Value::Array(items.into_iter().map(plain).collect()),
    }
}

/// [`plain`] for a table.
pub(crate) fn plain_table(table: Tree) -> Value {
    Value::Object(table.into_iter().map(|(key, value)| (key, plain(value))).collect())
}
