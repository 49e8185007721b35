//! Who may talk to us: Host and Origin against DNS rebinding, CORS for named origins, client keys. Pure decisions.

use std::net::IpAddr;

use crate::config::secret::Secret;
use crate::config::settings::{ClientKey, Listener};
use crate::error::{ErrorKind, ProxyError};

/// Origins of editors and local web pages that may call without being named (as of 2026-11).
const EDITOR_SCHEMES: &[&str] = &["vscode-webview", "app", "vscode-file", "tauri", "capacitor"];

/// What the Origin header means for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// No browser, or a page of this very server.
    None,
    /// A page that may call: answer with CORS headers.
    Allowed,
}

/// Checks the Host header (or the request line's authority).
///
/// # Errors
/// `forbidden` when the name is none of ours: a page elsewhere whose name was pointed at this address.
pub fn check_host(listener: &Listener, host: Option<&str>) -> Result<(), ProxyError> {
    // HTTP/1.0 clients and unix tools may send none; no browser does that.
    let Some(host) = host else { return Ok(()) };
    let name = host_name(host);
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    let known = name.parse::<IpAddr>().is_ok()
        || name == "localhost"
        || name.ends_with(".localhost")
        || name.ends_with(".local")
        || name == "host.docker.internal"
        || listener.hosts.iter().any(|allowed| allowed.eq_ignore_ascii_case(&name));
    if known {
        return Ok(());
    }
    let shown: String = name.chars().take(100).collect();
    let text = format!("host `{shown}` is not served here; add it to `hosts` of listener `{}`", listener.id);
    Err(ProxyError::new(ErrorKind::Forbidden, text).with_code("host_not_allowed"))
}

/// Checks the Origin header.
///
/// # Errors
/// `forbidden` for an origin that is neither local, nor an editor's, nor named in `origins`.
pub fn check_origin(listener: &Listener, origin: Option<&str>) -> Result<Origin, ProxyError> {
    let Some(origin) = origin else { return Ok(Origin::None) };
    let named =
        |allowed: &String| allowed == "*" || allowed.eq_ignore_ascii_case(origin.trim_end_matches('/'));
    if listener.origins.iter().any(named) {
        return Ok(Origin::Allowed);
    }
    if let Some((scheme, rest)) = origin.split_once("://") {
        let host = host_name(rest).to_ascii_lowercase();
        let loopback = host == "localhost"
            || host.ends_with(".localhost")
            || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        if EDITOR_SCHEMES.contains(&scheme) || (matches!(scheme, "http" | "https") && loopback) {
            return Ok(Origin::Allowed);
        }
    }
    let shown: String = origin.chars().take(100).collect();
    let text = format!("origin `{shown}` may not call; add it to `origins` of listener `{}`", listener.id);
    Err(ProxyError::new(ErrorKind::Forbidden, text).with_code("origin_not_allowed"))
}

/// The host of `host[:port]` or `[v6][:port]`.
fn host_name(authority: &str) -> &str {
    if let Some((address, rest)) = authority.strip_prefix('[').and_then(|inside| inside.split_once(']')) {
        let bare = rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port);
        return if bare { address } else { authority };
    }
    match authority.rsplit_once(':') {
        Some((name, port)) if is_port(port) => name,
        _ => authority,
    }
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The client that a key belongs to; with no keys configured everyone is welcome, with any key or none.
///
/// # Errors
/// `unauthorized` when keys are configured and this is none of them.
pub fn authenticate<'k>(
    keys: &'k [ClientKey],
    given: Option<&str>,
) -> Result<Option<&'k ClientKey>, ProxyError> {
    if keys.is_empty() {
        return Ok(None);
    }
    let Some(given) = given.map(str::trim).filter(|key| !key.is_empty()) else {
        let text = "this demuxai wants a key; send it as `Authorization: Bearer KEY`";
        return Err(ProxyError::new(ErrorKind::Unauthorized, text).with_code("missing_api_key"));
    };
    // All keys are compared, so that the time tells nothing about which one came near.
    let mut found = None;
    for key in keys {
        if key.key.matches(given) {
            found = Some(key);
        }
    }
    found.map(Some).ok_or_else(|| {
        ProxyError::new(ErrorKind::Unauthorized, "the key is none of those in `[keys]`")
            .with_code("invalid_api_key")
    })
}

/// Whether this is the key of `[admin]`.
///
/// # Errors
/// `forbidden` when none is configured, `unauthorized` when this is not it.
pub fn check_admin(key: Option<&Secret>, given: Option<&str>) -> Result<(), ProxyError> {
    let Some(key) = key else {
        let text = "changes want a key, and there is none: set `key` of `[admin]`, or let demuxai keep its state in a file, with a token beside it";
        return Err(ProxyError::new(ErrorKind::Forbidden, text));
    };
    if given.is_some_and(|given| key.matches(given.trim())) {
        return Ok(());
    }
    let text = "changes want the key of `[admin]`, or the token beside the state file; send it as `Authorization: Bearer KEY`";
    Err(ProxyError::new(ErrorKind::Unauthorized, text).with_code("invalid_api_key"))
}

/// The key in the headers: `Authorization: Bearer`, `x-api-key` or `api-key`; the first that is not blank.
pub fn given_key<'h>(header: impl Fn(&str) -> Option<&'h str>) -> Option<&'h str> {
    let bearer = header("authorization").and_then(|value| {
        let (scheme, key) = value.trim().split_once(' ').unwrap_or((value.trim(), ""));
        scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
    });
    let blank = |key: &&str| !key.trim().is_empty();
    bearer
        .filter(blank)
        .or_else(|| header("x-api-key").filter(blank))
        .or_else(|| header("api-key").filter(blank))
}

/// Whether a client's key may use a model: the one that its id was found to mean, however the client wrote it, or the
/// alias by which it was asked for.
///
/// # Errors
/// `forbidden` when the key is restricted to other models.
pub fn check_model(
    client: Option<&ClientKey>,
    alias: Option<&str>,
    backend: &str,
    model: &str,
) -> Result<(), ProxyError> {
    let Some(ClientKey { id, models: Some(globs), .. }) = client else { return Ok(()) };
    if globs.is_match(full_id(backend, model)) || alias.is_some_and(|alias| globs.is_match(alias)) {
        return Ok(());
    }
    let text = format!("key `{id}` may not use this model; see `models` of `[keys.{id}]`");
    Err(ProxyError::new(ErrorKind::Forbidden, text).with_param("model").with_code("model_not_allowed"))
}

/// A model's id as clients write it; a group's is bare.
pub(super) fn full_id(backend: &str, model: &str) -> String {
    if model.is_empty() { backend.to_owned() } else { format!("{backend}/{model}") }
}

/// Whether this client is to see a part of the models only: what its key may use, what is listed for it or here.
pub fn sees_a_part(listener: &Listener, client: Option<&ClientKey>) -> bool {
    listener.listed.is_some() || client.is_some_and(|key| key.models.is_some() || key.listed.is_some())
}

/// The same error for such a client: without the ids of models that it is not to see, but with the nearest of those that
/// it does.
pub fn veil(error: ProxyError, near: &[&str]) -> ProxyError {
    let mut text =
        "no such model, or not exactly one; GET /v1/models lists those that are for you".to_owned();
    if !near.is_empty() {
        let near: Vec<String> = near.iter().map(|id| format!("`{id}`")).collect();
        text.push_str(&format!("; nearest: {}", near.join(", ")));
    }
    ProxyError { message: text, ..error }
}

#[cfg(test)]
mod tests;
