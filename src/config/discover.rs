//! What demuxai serves without a configuration file: a local Ollama that answers, and every kind whose key is set.
//! Pure but for the probe that is passed in.

use std::collections::BTreeMap;

use config::{Value, ValueKind};

use super::Kind;
use super::place::{Places, Tree};

/// The kind whose server is looked for on this machine.
pub(super) const OLLAMA: &str = "ollama";
/// Where Ollama listens, unless told otherwise.
const OLLAMA_PORT: u16 = 11434;

/// A provider that was found, and why it is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its id: the prefix of its models.
    pub id: String,
    /// Its type.
    pub kind: String,
    /// Its URL, where that is not the kind's own.
    pub url: Option<String>,
    /// The variable that holds its key.
    pub variable: Option<String>,
    /// Why it is there, for people.
    pub why: String,
}

/// Looks for providers.
pub fn discover(
    env: &BTreeMap<String, String>,
    kinds: &[Kind<'_>],
    probe: &dyn Fn(&str) -> bool,
) -> Vec<Found> {
    let mut found = Vec::new();
    found.extend(kinds.iter().find(|kind| kind.name == OLLAMA).and_then(|kind| ollama(env, kind, probe)));
    for kind in kinds.iter().filter(|kind| kind.discovered && kind.retired.is_none()) {
        // Only the kind's own variable: a key of one account is no reason to serve another one.
        let is_set = |name: &&&str| env.get(**name).is_some_and(|value| !value.trim().is_empty());
        if let Some(variable) = kind.api_key_env.first().filter(is_set) {
            found.push(Found {
                id: kind.name.to_owned(),
                kind: kind.name.to_owned(),
                url: None,
                variable: Some((*variable).to_owned()),
                why: format!("{variable} is set"),
            });
        }
    }
    found
}

fn ollama(env: &BTreeMap<String, String>, kind: &Kind<'_>, probe: &dyn Fn(&str) -> bool) -> Option<Found> {
    let configured = env.get("OLLAMA_HOST").map(|text| text.trim()).filter(|text| !text.is_empty());
    let url = configured.map_or_else(|| kind.url.map(str::to_owned), |text| Some(ollama_url(text)))?;
    if !probe(&url) {
        return None;
    }
    let named = if configured.is_some() { " (OLLAMA_HOST)" } else { "" };
    Some(Found {
        id: kind.name.to_owned(),
        kind: kind.name.to_owned(),
        why: format!("Ollama answers at {url}{named}"),
        url: Some(url).filter(|url| Some(url.as_str()) != kind.url),
        variable: None,
    })
}

/// The URL that a value of `OLLAMA_HOST` means to a client: host, host:port or URL; ports as Ollama fills them in
/// (ollama `envconfig/config.go`, `Host`). An address that means "all" becomes this machine's.
fn ollama_url(written: &str) -> String {
    let text = written.trim().trim_matches(['"', '\'']).trim();
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (scheme.to_ascii_lowercase(), rest),
        None => (String::new(), text),
    };
    let default_port = match scheme.as_str() {
        "http" => 80,
        "https" => 443,
        _ => OLLAMA_PORT,
    };
    let (place, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (host, port) = host_and_port(place);
    let port = port.and_then(|port| port.parse().ok()).filter(|port| *port != 0).unwrap_or(default_port);
    let host = match host.trim_matches(['[', ']']) {
        "" | "0.0.0.0" => "127.0.0.1".to_owned(),
        "::" => "[::1]".to_owned(),
        six if six.contains(':') => format!("[{six}]"),
        name => name.to_owned(),
    };
    let scheme = if scheme == "https" { "https" } else { "http" };
    let path = path.trim_end_matches('/');
    let slash = if path.is_empty() { "" } else { "/" };
    format!("{scheme}://{host}:{port}{slash}{path}")
}

fn host_and_port(place: &str) -> (&str, Option<&str>) {
    if let Some(end) = place.rfind(']') {
        let (host, behind) = place.split_at_checked(end + 1).unwrap_or((place, ""));
        return (host, behind.strip_prefix(':'));
    }
    match place.split_once(':') {
        // More than one colon without brackets is an IPv6 address without a port.
        Some((_, port)) if port.contains(':') => (place, None),
        Some((host, port)) => (host, Some(port)),
        None => (place, None),
    }
}

/// What to do when nothing was found.
pub(crate) fn nothing_found(kinds: &[Kind<'_>]) -> String {
    let of_kind = |kind: &Kind<'_>| kind.api_key_env.first().map(|name| (*name).to_owned());
    let variables: Vec<_> = kinds.iter().filter(|kind| kind.discovered).filter_map(of_kind).collect();
    format!(
        "nothing to serve was found: start Ollama, set one of {}, or write a configuration",
        variables.join(", ")
    )
}

/// What was found as a layer.
pub(crate) fn layer(found: &[Found], place: usize) -> Tree {
    let origin = Places::origin(place, 0);
    let value = |kind: ValueKind| Value::new(Some(&origin), kind);
    let mut providers = Tree::new();
    for found in found {
        let mut provider = Tree::new();
        provider.insert("type".to_owned(), value(ValueKind::String(found.kind.clone())));
        if let Some(url) = &found.url {
            provider.insert("url".to_owned(), value(ValueKind::String(url.replace("${", "$${"))));
        }
        if let Some(variable) = &found.variable {
            let reference = Tree::from_iter([("env".to_owned(), value(ValueKind::String(variable.clone())))]);
            provider.insert("api_key".to_owned(), value(ValueKind::Table(reference)));
        }
        providers.insert(found.id.clone(), value(ValueKind::Table(provider)));
    }
    Tree::from_iter([("providers".to_owned(), value(ValueKind::Table(providers)))])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ollama_host_is_read_as_ollama_reads_it() {
        let cases = [
            ("", "http://127.0.0.1:11434"),
            ("1.2.3.4", "http://1.2.3.4:11434"),
            (":1234", "http://127.0.0.1:1234"),
            ("nas:1234", "http://nas:1234"),
            ("0.0.0.0", "http://127.0.0.1:11434"),
            ("0.0.0.0:1234", "http://127.0.0.1:1234"),
            ("http://nas", "http://nas:80"),
            ("https://nas", "https://nas:443"),
            ("https://nas:1234/ollama/", "https://nas:1234/ollama"),
            ("[::1]", "http://[::1]:11434"),
            ("[::]:1234", "http://[::1]:1234"),
            ("::", "http://[::1]:11434"),
            ("nas:99999", "http://nas:11434"),
            ("nas:x", "http://nas:11434"),
            (" \"nas\" ", "http://nas:11434"),
        ];
        for (written, expected) in cases {
            assert_eq!(ollama_url(written), expected, "{written}");
        }
    }
}
