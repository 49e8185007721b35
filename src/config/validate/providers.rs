//! Providers: kind, URL, key, headers, timeouts, models. Names no kind itself; they are passed in.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use globset::GlobSet;
use http::header::HeaderName;

use super::super::Kind;
use super::super::place::{index_step, spot_of};
use super::super::read;
use super::super::reference::{Surroundings, located};
use super::super::report::did_you_mean;
use super::super::secret::Secret;
use super::super::settings::{ProviderConfig, StaticModel, Timeouts};
use super::super::spec::{HiddenSpec, ModelSpec, ProviderSpec, SecretSpec, Spec, TimeoutsSpec};
use super::{Check, limits};
use crate::base_url::BaseUrl;

/// What a static model may be said to do.
const CAPABILITIES: &[&str] =
    &["chat", "completion", "fim", "embedding", "tools", "vision", "reasoning", "streaming"];
/// Headers that belong to the connection, not to the user.
const RESERVED: &[&str] = &[
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "te",
    "trailer",
    "upgrade",
    "expect",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "content-type",
    "content-encoding",
    "accept-encoding",
];
/// Names of services that people take for types, and the type.
const OTHER_NAMES: &[(&str, &str)] = &[
    ("google", "gemini"),
    ("vertex", "gemini"),
    ("hf", "huggingface"),
    ("mistralai", "mistral"),
    ("mistral-ai", "mistral"),
    ("la-plateforme", "mistral"),
    ("chatgpt", "openai"),
    ("openai-compatible", "openai"),
    ("openai_compatible", "openai"),
    ("localai", "openai"),
    ("llama-server", "llamacpp"),
    ("workers-ai", "cloudflare"),
    ("zhipu", "zai"),
    ("z.ai", "zai"),
    ("togetherai", "together"),
];
const MOST_CA_BYTES: u64 = 4 * 1024 * 1024;

const DAY: Duration = Duration::from_secs(86_400);
const MILLISECOND: Duration = Duration::from_millis(1);

/// All providers that are valid.
pub(super) fn all(
    check: &mut Check<'_>,
    spec: &Spec,
    listeners: &[(&str, SocketAddr)],
) -> Vec<ProviderConfig> {
    let mut providers = Vec::new();
    for (id, entry) in check.entries::<ProviderSpec>("providers", &spec.providers) {
        providers.extend(one(check, &id, &entry, listeners));
    }
    providers
}

/// How long a request waits for a free place, the longest that can be asked for, and how many wait.
const MAX_WAIT: Duration = Duration::from_secs(30);
const LONGEST_WAIT: Duration = Duration::from_secs(3600);
const MAX_QUEUE: usize = 100;

fn one(
    check: &mut Check<'_>,
    id: &str,
    entry: &ProviderSpec,
    listeners: &[(&str, SocketAddr)],
) -> Option<ProviderConfig> {
    let at = |key: &'static str| ["providers", id, key];
    let kind = kind(check, id, entry);
    // Where it has a url of its own, what answers there will tell.
    if let Some(why) = kind.and_then(|kind| kind.retired).filter(|_| entry.url.is_none()) {
        check.note(&["providers", id], why);
    }
    let url = url(check, id, entry, kind, listeners);
    let api_key = api_key(check, id, entry, kind, url.as_ref());
    if api_key.is_none() && entry.headers.is_empty() && entry.url.is_none() {
        not_elsewhere(check, &at("url"), kind);
    }
    let headers = headers(check, id, entry, api_key.is_some());
    let local = entry.local.unwrap_or_else(|| kind.is_some_and(|kind| kind.local));
    let include_models = check.globs(&at("include_models"), entry.include_models.as_ref());
    let exclude_models = check.globs(&at("exclude_models"), entry.exclude_models.as_ref());
    let hidden = hidden(check, &at("hidden"), entry.hidden.as_ref());
    let cache = check.span(
        &at("cache_seconds"),
        entry.cache_seconds.as_ref(),
        Duration::from_secs(3600),
        Duration::ZERO,
        30 * DAY,
    );
    let timeouts = timeouts(check, id, &entry.timeouts, local);
    let models = models(check, id, &entry.models);
    let ca_file = ca_file(check, &at("ca_file"), entry.ca_file.as_deref());
    let max_wait =
        check.span(&at("max_wait"), entry.max_wait.as_ref(), MAX_WAIT, Duration::ZERO, LONGEST_WAIT);
    let limits = entry.limits.as_ref().map(|limits| limits::all(check, &at("limits"), limits));
    Some(ProviderConfig {
        id: id.to_owned(),
        kind: kind?.name.to_owned(),
        name: entry.name.clone(),
        description: entry.description.clone(),
        url: url?.text,
        api_key,
        headers,
        include_models,
        exclude_models,
        hidden,
        list_aliases: entry.list_aliases.unwrap_or(true),
        cache,
        timeouts,
        max_in_flight: entry.max_in_flight.map(|number| usize::try_from(number).unwrap_or(usize::MAX)),
        max_wait,
        max_queue: entry.max_queue.map_or(MAX_QUEUE, |number| usize::try_from(number).unwrap_or(MAX_QUEUE)),
        models,
        ca_file,
        replicas: entry.replicas.and_then(|number| usize::try_from(number).ok()).unwrap_or(1),
        limits,
        local,
    })
}

/// Who forgot the url of a server of their own must not send their prompts to the company that the type is named after.
fn not_elsewhere(check: &mut Check<'_>, path: &[&str], kind: Option<&Kind<'_>>) {
    let Some(Kind { url: Some(url), local: false, requires_key: false, retired: None, .. }) = kind else {
        return;
    };
    let example = "write url = \"http://localhost:8080\" for a server of your own, or set api_key";
    check.missing(path, format!("is missing: without it this is {url}, which wants a key; {example}"));
}

fn kind<'a>(check: &mut Check<'a>, id: &str, entry: &ProviderSpec) -> Option<&'a Kind<'a>> {
    let path = ["providers", id, "type"];
    let kinds = check.kinds;
    let find = |word: &str| kinds.iter().find(|kind| kind.name == word || kind.aliases.contains(&word));
    let known = || kinds.iter().map(|kind| kind.name);
    let Some(written) = entry.kind.as_deref() else {
        let hint = find(id).map_or_else(
            || format!("one of: {}", known().collect::<Vec<_>>().join(", ")),
            |kind| format!("type = \"{}\"", kind.name),
        );
        check.missing(&path, format!("is missing: write {hint}"));
        return None;
    };
    let found = find(written);
    if found.is_none() {
        let names = known().collect::<Vec<_>>().join(", ");
        let hint = match OTHER_NAMES.iter().find(|(theirs, _)| *theirs == written.trim().to_lowercase()) {
            Some((_, ours)) if find(ours).is_some() => format!("; did you mean `{ours}`?"),
            _ => did_you_mean(written, known()),
        };
        let quoted = check.quote(&path, written);
        let hint = match hint.as_str() {
            "" => "; for any other OpenAI-compatible server write type = \"openai\" and a url",
            near => near,
        };
        check.problem(&path, format!("unknown type {quoted} (known: {names}){hint}"));
    }
    found
}

fn url(
    check: &mut Check<'_>,
    id: &str,
    entry: &ProviderSpec,
    kind: Option<&Kind<'_>>,
    listeners: &[(&str, SocketAddr)],
) -> Option<BaseUrl> {
    let path = ["providers", id, "url"];
    let Some(written) = entry.url.as_deref().or_else(|| kind?.url) else {
        if let Some(kind) = kind {
            let example = "url = \"http://localhost:8080\"";
            check.missing(
                &path,
                format!("is missing: type \"{}\" has no url of its own; write {example}", kind.name),
            );
        }
        return None;
    };
    let parsed = match BaseUrl::parse(written) {
        Ok(parsed) => parsed,
        Err(why) => {
            check.problem(&path, why);
            return None;
        }
    };
    if let Some((listener, address)) = listeners.iter().find(|(_, address)| parsed.reaches(*address)) {
        let message =
            format!("is demuxai itself (listeners.{listener}, {address}); give the upstream's address");
        check.problem(&path, message);
    }
    Some(parsed)
}

fn api_key(
    check: &mut Check<'_>,
    id: &str,
    entry: &ProviderSpec,
    kind: Option<&Kind<'_>>,
    url: Option<&BaseUrl>,
) -> Option<Secret> {
    let path = ["providers", id, "api_key"];
    let secret = entry.api_key.as_ref().and_then(|written| check.secret(&path, written));
    let secret = secret.filter(|secret| !secret.expose().is_empty());
    let Some(kind) = kind else { return secret };
    if secret.is_some() {
        if url.is_some_and(|url| !url.encrypted && !url.is_nearby()) {
            check.note(&path, "is sent unencrypted: the url begins with http://");
        }
        return secret;
    }
    let unset = check.unset_variables(&path);
    let optional = !kind.requires_key || kind.retired.is_some();
    match unset {
        Some(variables) if optional => check.warn(
            &path,
            format!("variable {variables} is not set: no key is sent; set it, or take this out"),
        ),
        Some(variables) => {
            check.problem(&path, format!("variable {variables} is not set or empty; set it to your key"))
        }
        None if optional => {}
        None => {
            let variable = kind.api_key_env.first().copied().unwrap_or("SOME_VARIABLE");
            check.missing(
                &path,
                format!("is missing: write api_key = \"${{{variable}}}\" and set that variable"),
            );
        }
    }
    None
}

fn headers(
    check: &mut Check<'_>,
    id: &str,
    entry: &ProviderSpec,
    has_key: bool,
) -> Vec<(HeaderName, Secret)> {
    let mut headers: Vec<(HeaderName, Secret)> = Vec::new();
    let written: Vec<(String, SecretSpec)> = check.entries("headers", &entry.headers);
    for (key, value) in written {
        let path = ["providers", id, "headers", key.as_str()];
        let Ok(name) = HeaderName::from_bytes(key.as_bytes()) else {
            check.problem(&path, "not the name of a header");
            continue;
        };
        if RESERVED.contains(&name.as_str()) {
            check.problem(&path, "this header belongs to the connection and cannot be set");
        }
        if name == http::header::AUTHORIZATION && has_key {
            check.problem(&path, "api_key sets this header already; leave one of them out");
        }
        if headers.iter().any(|(known, _)| *known == name) {
            check.problem(&path, "the same header is there in another spelling; take one of the two out");
        }
        let secret = check.secret(&path, &value);
        if let Some(variables) = check.unset_variables(&path) {
            check.problem(&path, format!("variable {variables} is not set or empty"));
        }
        headers.extend(secret.map(|secret| (name, secret)));
    }
    headers
}

/// Globs on the models that are not listed.
fn hidden(check: &mut Check<'_>, place: &[&str], written: Option<&HiddenSpec>) -> Option<GlobSet> {
    match written? {
        HiddenSpec::All(false) => None,
        HiddenSpec::All(true) => check.globs(place, Some(&vec!["*".to_owned()])),
        HiddenSpec::These(globs) => check.globs(place, Some(globs)),
    }
}

fn timeouts(check: &mut Check<'_>, id: &str, entry: &TimeoutsSpec, local: bool) -> Timeouts {
    let at = |key: &'static str| ["providers", id, "timeouts", key];
    let seconds = Duration::from_secs;
    let first_token = seconds(if local { 600 } else { 120 });
    let total_stream = entry.total_stream.as_ref();
    Timeouts {
        connect: check.span(&at("connect"), entry.connect.as_ref(), seconds(10), MILLISECOND, DAY),
        first_token: check.span(
            &at("first_token"),
            entry.first_token.as_ref(),
            first_token,
            MILLISECOND,
            DAY,
        ),
        idle: check.span(&at("idle"), entry.idle.as_ref(), seconds(120), MILLISECOND, DAY),
        total_stream: total_stream
            .map(|written| check.span(&at("total_stream"), Some(written), DAY, MILLISECOND, DAY)),
        total_plain: check.span(&at("total"), entry.total.as_ref(), seconds(600), MILLISECOND, DAY),
    }
}

fn models(check: &mut Check<'_>, id: &str, written: &[ModelSpec]) -> Vec<StaticModel> {
    let mut models: Vec<StaticModel> = Vec::new();
    let mut known = BTreeSet::new();
    for (index, entry) in written.iter().enumerate() {
        let step = index_step(index);
        let path = ["providers", id, "models", step.as_str()];
        let model = match entry {
            ModelSpec::Id(id) => {
                StaticModel { id: id.clone(), capabilities: Vec::new(), context_length: None }
            }
            ModelSpec::Described(model) => {
                let capabilities = capabilities(check, &path, &model.capabilities);
                let id = model.id.clone().unwrap_or_default();
                StaticModel { id, capabilities, context_length: model.context_length }
            }
        };
        if model.id.is_empty() || model.id.chars().any(|c| c.is_control() || c.is_whitespace()) {
            // An id that was taken out was told.
            check.missing(
                &path,
                "needs the upstream's id of the model, without spaces, such as { id = \"qwen3:8b\" }",
            );
        } else if !known.insert(model.id.clone()) {
            check.problem(&path, "the same model is in the list twice");
        }
        models.push(model);
    }
    models
}

fn capabilities(check: &mut Check<'_>, model: &[&str], written: &[String]) -> Vec<String> {
    for (index, word) in written.iter().enumerate() {
        if !CAPABILITIES.contains(&word.as_str()) {
            let step = index_step(index);
            let path = [model, &["capabilities", step.as_str()]].concat();
            let hint = did_you_mean(word, CAPABILITIES.iter().copied());
            check.problem(&path, format!("unknown word (one of: {}){hint}", CAPABILITIES.join(", ")));
        }
    }
    written.to_vec()
}

fn ca_file(check: &mut Check<'_>, path: &[&str], written: Option<&str>) -> Option<PathBuf> {
    let directory = spot_of(check.layers, path).and_then(|spot| check.places.directory(spot));
    let file = match located(written?, &Surroundings::new(check.env, directory)) {
        Ok(file) => file,
        Err(why) => {
            check.problem(path, why);
            return None;
        }
    };
    // Also one that cannot be used: it may be there later.
    check.files.insert(file.clone());
    match read::text(&file, MOST_CA_BYTES) {
        Ok((text, _)) if text.contains("-----BEGIN CERTIFICATE-----") => {
            let path = path.iter().map(|step| (*step).to_owned()).collect();
            check.veiled.contents.insert(path, digest(&text));
            return Some(file);
        }
        Ok(_) => check.problem(path, format!("{} holds no certificate in PEM form", file.display())),
        Err(why) => check.problem(path, format!("{}: {why}", file.display())),
    }
    None
}

/// Tells a file's contents from others, within this process.
fn digest(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}
