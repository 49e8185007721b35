//! The original Python demuxai's `config.yml`, turned into the tables of today's configuration.
//! Reads YAML for this one purpose only; its keys that no longer mean anything become notes, not errors.

mod composites;
mod lines;

use std::collections::BTreeMap;
use std::path::Path;

use config::{FileFormat, Format, Value, ValueKind};

use super::interpolate::expand;
use super::place::{Places, Tree};
use super::quantity::shown_size;
use super::report::did_you_mean;
use super::validate::free_id;
use lines::Lines;

/// Largest such file.
const MOST_BYTES: usize = 1024 * 1024;
/// Deepest indentation of a line, and most nested `- ` and `? ` in one: keeps YAML's nesting bounded.
const MOST_INDENT: usize = 200;
/// Most `*alias`es: they are copied where they stand, so that many of them could grow without bound.
const MOST_ALIASES: usize = 16;
/// An offset that is in no file, so that no line is told.
const NOWHERE: usize = usize::MAX;
/// Stand for `${` and `}` of a variable while the text is YAML, where braces have a meaning.
const OPEN: char = '\u{e000}';
const CLOSE: char = '\u{e001}';

/// The keys at its top, and those of a provider.
const KEYS: &[&str] =
    &["listen", "port", "cache_seconds", "timeout_seconds", "api_key", "providers", "composites"];
const PROVIDER_KEYS: &[&str] = &[
    "type",
    "name",
    "description",
    "url",
    "api_key",
    "cache_seconds",
    "timeout_seconds",
    "include_models",
    "exclude_models",
];
/// Its names of types that have another one today.
const TYPES: &[(&str, &str)] = &[("mistralai", "mistral"), ("github-models", "github")];

/// What came out.
pub(crate) struct Converted {
    /// The tables of today.
    pub(crate) tree: Tree,
    /// What was left out.
    pub(crate) notes: Vec<String>,
}

/// Key, message, and the offset where that is known, of what is wrong.
pub(crate) type LegacyProblem = (String, String, Option<usize>);

/// Whether a file is of this form: by its extension, else by its first key.
pub(crate) fn is_legacy(path: &Path, text: &str) -> bool {
    let extension = path.extension().map(|extension| extension.to_string_lossy().to_ascii_lowercase());
    match extension.as_deref() {
        Some("yml" | "yaml") => true,
        Some("toml") => false,
        _ => {
            let significant =
                |line: &&str| !line.trim().is_empty() && !line.starts_with('#') && *line != "---";
            text.lines().find(significant).is_some_and(|line| line.trim_end().starts_with("demuxai:"))
        }
    }
}

/// Reads such a file.
///
/// # Errors
/// All problems: no YAML, too large, no `demuxai:`, values of a wrong type.
pub(crate) fn read(
    text: &str,
    place: usize,
    env: &BTreeMap<String, String>,
) -> Result<Converted, Vec<LegacyProblem>> {
    let whole = |message: String| vec![(String::new(), message, None)];
    bounded(text).map_err(whole)?;
    let lines = Lines::of(text);
    let parsed = FileFormat::Yaml.parse(None, &masked(text));
    let mut parsed = parsed.map_err(|error| whole(not_yaml(&error.to_string())))?;
    let top = match parsed.shift_remove("demuxai").map(|value| value.kind) {
        Some(ValueKind::Table(top)) => top,
        Some(_) => {
            let text = "has nothing below it that could be read; the lines behind it begin with two spaces, as in `  providers:`";
            return Err(vec![("demuxai".to_owned(), text.to_owned(), lines.at("demuxai"))]);
        }
        None if text.trim().is_empty() => {
            return Err(whole("is empty; a file of the Python demuxai begins with `demuxai:`".to_owned()));
        }
        None => {
            let wrong =
                "is YAML without `demuxai:` at its top; demuxai's own configuration is TOML (name.toml)";
            return Err(whole(wrong.to_owned()));
        }
    };
    let mut conversion =
        Conversion { place, lines, env, tree: Tree::new(), notes: Vec::new(), problems: Vec::new() };
    for key in parsed.keys() {
        conversion.notes.push(format!("`{}` is not known: ignored", shown(key)));
    }
    let top = conversion.clean(top, "demuxai");
    conversion.top(top);
    if conversion.problems.is_empty() {
        Ok(Converted { tree: conversion.tree, notes: conversion.notes })
    } else {
        Err(conversion.problems)
    }
}

/// What the YAML parser says, without the words of its own code.
fn not_yaml(theirs: &str) -> String {
    let plain = theirs
        .replace("String(\"", "`")
        .replace("\"): duplicated key in mapping", "` is there twice in one table");
    let hint = if theirs.contains("tabs disallowed") { "; indent with spaces" } else { "" };
    format!("not valid YAML: {plain}{hint}")
}

/// Refuses what could nest or grow without bound inside the YAML parser.
fn bounded(text: &str) -> Result<(), String> {
    if text.len() > MOST_BYTES {
        return Err(format!("is larger than {}; is it the right one?", shown_size(MOST_BYTES as u64)));
    }
    let mut aliases = 0;
    for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
        let lead = line.chars().take_while(|c| matches!(c, ' ' | '\t' | '-' | '?' | ':')).count();
        if lead > MOST_INDENT {
            return Err("is nested too deeply; a configuration needs no more than ten levels".to_owned());
        }
        let starts = line.match_indices('*').filter(|(at, _)| {
            let before = line.get(..*at).and_then(|part| part.chars().next_back());
            before.is_none_or(|c| matches!(c, ' ' | '\t' | '[' | ',' | '{' | ':' | '-'))
        });
        aliases += starts.count();
    }
    if aliases > MOST_ALIASES {
        Err("has too many `*` aliases; write the values out".to_owned())
    } else {
        Ok(())
    }
}

/// `${NAME}` without its braces.
fn masked(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        masked.push_str(before);
        match after.split_once('}') {
            Some((name, behind)) if super::interpolate::is_name(name) => {
                masked.extend([OPEN]);
                masked.push_str(name);
                masked.extend([CLOSE]);
                rest = behind;
            }
            _ => {
                // As in the original, what is no variable is plain text.
                masked.push_str("$${");
                rest = after;
            }
        }
    }
    masked.push_str(rest);
    masked
}

fn unmasked(text: &str) -> String {
    text.replace(OPEN, "${").replace(CLOSE, "}")
}

fn shown(key: &str) -> String {
    key.chars().take(64).flat_map(char::escape_debug).collect()
}

struct Conversion<'a> {
    place: usize,
    lines: Lines,
    env: &'a BTreeMap<String, String>,
    tree: Tree,
    notes: Vec<String>,
    problems: Vec<LegacyProblem>,
}

// === impl Conversion ===

impl Conversion<'_> {
    /// Variables as `${NAME}` again, filled in in keys; without what is null or an empty list. Each value with its place.
    fn clean(&self, table: Tree, path: &str) -> Tree {
        let mut cleaned = Tree::new();
        for (key, value) in table {
            let key = unmasked(&key);
            let inner = format!("{path}.{key}");
            let key = match expand(&key, self.env) {
                Some(Ok(expanded)) => expanded.text,
                _ => key,
            };
            let value = self.clean_value(value, &inner);
            let nothing = matches!(&value.kind, ValueKind::Nil)
                || matches!(&value.kind, ValueKind::Array(items) if items.is_empty());
            if !nothing {
                cleaned.insert(key, value);
            }
        }
        cleaned
    }

    fn clean_value(&self, value: Value, path: &str) -> Value {
        let kind = match value.kind {
            ValueKind::String(text) => ValueKind::String(unmasked(&text)),
            ValueKind::Table(table) => ValueKind::Table(self.clean(table, path)),
            ValueKind::Array(items) => {
                let items = items.into_iter().enumerate();
                ValueKind::Array(
                    items.map(|(index, item)| self.clean_value(item, &format!("{path}[{index}]"))).collect(),
                )
            }
            other => other,
        };
        self.value_at(path, kind)
    }

    /// Keeps a problem.
    fn problem(&mut self, key: String, message: &str) {
        let offset = self.lines.at(&key);
        self.problems.push((key, message.to_owned(), offset));
    }

    fn top(&mut self, mut top: Tree) {
        self.unknown("demuxai", &top, KEYS);
        let listen = self.text(&mut top, "demuxai", "listen");
        let port = self.text(&mut top, "demuxai", "port");
        if listen.is_some() || port.is_some() {
            let listened = listen.is_some();
            let host = listen.unwrap_or_else(|| "127.0.0.1".to_owned());
            let host = if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host };
            let address = format!("{host}:{}", port.unwrap_or_else(|| "6041".to_owned()));
            let at = if listened { "demuxai.listen" } else { "demuxai.port" };
            let listener = self.table([("address", self.value_at(at, ValueKind::String(address)))]);
            let id = free_id(|id| {
                matches!(top.get("providers").map(|value| &value.kind),
                    Some(ValueKind::Table(providers)) if providers.contains_key(id))
            });
            let listeners = self.table([(id, listener)]);
            self.tree.insert("listeners".to_owned(), listeners);
        }
        if let Some(key) = self.text(&mut top, "demuxai", "api_key").filter(|key| !key.is_empty()) {
            let client = self.table([("key", self.value_at("demuxai.api_key", ValueKind::String(key)))]);
            let keys = self.table([("client", client)]);
            self.tree.insert("keys".to_owned(), keys);
        }
        let cache = self.seconds(&mut top, "demuxai", "cache_seconds");
        let timeout = self.seconds(&mut top, "demuxai", "timeout_seconds");
        if let Some(composites) = self.tables(&mut top, "demuxai", "composites") {
            self.composites(composites);
        }
        let Some(providers) = self.tables(&mut top, "demuxai", "providers") else { return };
        let mut converted = Tree::new();
        for (id, value) in providers {
            let place = format!("demuxai.providers.{}", shown(&id));
            let ValueKind::Table(provider) = value.kind else {
                self.problem(place, "expected a table with type, url, api_key …");
                continue;
            };
            let table = self.provider(&place, provider, cache.as_ref(), timeout.as_ref());
            converted.insert(id, self.value_at(&place, ValueKind::Table(table)));
        }
        let providers = self.value(ValueKind::Table(converted));
        self.tree.insert("providers".to_owned(), providers);
    }

    fn provider(
        &mut self,
        place: &str,
        mut provider: Tree,
        cache: Option<&Value>,
        timeout: Option<&Value>,
    ) -> Tree {
        self.unknown(place, &provider, PROVIDER_KEYS);
        let cache = self.seconds(&mut provider, place, "cache_seconds").or_else(|| cache.cloned());
        let timeout = self.seconds(&mut provider, place, "timeout_seconds").or_else(|| timeout.cloned());
        if let Some(ValueKind::String(kind)) = provider.get_mut("type").map(|value| &mut value.kind)
            && let Some((_, today)) = TYPES.iter().find(|(theirs, _)| *theirs == kind.as_str())
        {
            *kind = (*today).to_owned();
        }
        provider.retain(|key, _| PROVIDER_KEYS.contains(&key.as_str()));
        provider.extend(cache.map(|cache| ("cache_seconds".to_owned(), cache)));
        if let Some(timeout) = timeout {
            let parts = ["first_token", "idle", "total"].map(|part| (part, timeout.clone()));
            provider.insert("timeouts".to_owned(), self.table(parts));
        }
        provider
    }

    fn unknown(&mut self, place: &str, table: &Tree, known: &[&str]) {
        for key in table.keys().filter(|key| !known.contains(&key.as_str())) {
            let hint = did_you_mean(key, known.iter().copied());
            self.notes.push(format!("{place}.{} is not known: ignored{hint}", shown(key)));
        }
    }

    /// A scalar as text, with its variables filled in only when that cannot wait.
    fn text(&mut self, table: &mut Tree, place: &str, key: &str) -> Option<String> {
        match table.shift_remove(key)?.kind {
            ValueKind::String(text) => Some(text),
            kind @ (ValueKind::I64(_) | ValueKind::Float(_) | ValueKind::Boolean(_)) => {
                Some(kind.to_string())
            }
            _ => {
                self.problem(format!("{place}.{key}"), "expected text or a number");
                None
            }
        }
    }

    /// A number of seconds; a variable counts with its value.
    fn seconds(&mut self, table: &mut Tree, place: &str, key: &str) -> Option<Value> {
        let text = self.text(table, place, key)?;
        let expanded = match expand(&text, self.env) {
            None => text,
            Some(Ok(expanded)) => expanded.text,
            Some(Err(_)) => {
                self.problem(format!("{place}.{key}"), "a variable in it is not set");
                return None;
            }
        };
        match expanded.trim().parse::<f64>() {
            Ok(seconds) if seconds.is_finite() => {
                Some(self.value_at(&format!("{place}.{key}"), ValueKind::Float(seconds)))
            }
            _ => {
                self.problem(format!("{place}.{key}"), "expected a number of seconds");
                None
            }
        }
    }

    fn tables(&mut self, table: &mut Tree, place: &str, key: &str) -> Option<Tree> {
        match table.shift_remove(key)?.kind {
            ValueKind::Table(inner) => Some(inner),
            _ => {
                self.problem(
                    format!("{place}.{key}"),
                    "expected keys and values below it, such as `local: {type: ollama}`",
                );
                None
            }
        }
    }

    /// A value that stands nowhere in the file.
    fn value(&self, kind: ValueKind) -> Value {
        Value::new(Some(&Places::origin(self.place, NOWHERE)), kind)
    }

    /// A value that stands at this path, or below it.
    fn value_at(&self, path: &str, kind: ValueKind) -> Value {
        let offset = self.lines.at(path).unwrap_or(NOWHERE);
        Value::new(Some(&Places::origin(self.place, offset)), kind)
    }

    fn table<const N: usize>(&self, entries: [(&str, Value); N]) -> Value {
        let tree = entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        self.value(ValueKind::Table(tree))
    }
}

#[cfg(test)]
mod tests;
