//! The running daemon that a command is about: where it is, and how it is asked. It is spoken to over HTTP at `/demuxai/…` of
//! the first listener with `admin`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http::header::{AUTHORIZATION, HeaderValue};
use serde_json::Value;

use super::{ConfigArgs, Exit, complain, load};
use crate::config::settings::Config;
use crate::server::token;
use crate::upstream::{Client, ClientOptions, Outgoing};

/// A daemon on this machine answers at once, or something is wrong.
const PATIENCE: Duration = Duration::from_secs(10);
/// The largest status that is read.
const MOST: usize = 16 * 1024 * 1024;

/// Where the daemon is, and the key for changes.
pub(super) fn daemon(url: Option<&str>, files: &ConfigArgs) -> Result<(String, Option<String>), Exit> {
    let config = load::load(files, None)?;
    let key = key_for(&config);
    let found = match url {
        Some(url) => url.trim_end_matches('/').to_owned(),
        None => listener(&config).ok_or_else(|| {
            complain("no listener serves admin; name one that does with --url");
            Exit::Configuration
        })?,
    };
    Ok((found, key))
}

/// The key for changes: `[admin] key`, else the token beside the state file.
pub(super) fn key_for(config: &Config) -> Option<String> {
    let token = || token::read(&token::place(config.state.file.as_deref()?));
    config.admin_key.clone().or_else(token).map(|key| key.expose().to_owned())
}

/// The url of the first listener with `admin`.
pub(super) fn listener(config: &Config) -> Option<String> {
    let mut address = config.listeners.iter().find(|listener| listener.admin)?.address;
    if address.ip().is_unspecified() {
        // Everywhere is here, too.
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    Some(format!("http://{address}"))
}

/// Why the daemon gives no answer that can be used.
pub(super) enum Failed {
    /// There is none, or what is there is none.
    NotThere(String),
    /// It refuses.
    Refused(String),
    /// It refuses the key.
    NotAllowed(String),
    /// It refuses a configuration: all that is wrong with it, as `check` tells it.
    Bad(String),
}

// === impl Failed ===

impl Failed {
    /// In words.
    pub(super) fn told(self) -> String {
        match self {
            Failed::NotThere(text) | Failed::Refused(text) | Failed::NotAllowed(text) | Failed::Bad(text) => {
                text
            }
        }
    }
}

/// Asks the daemon at this url.
pub(super) async fn ask(
    url: &str,
    method: Method,
    path: &str,
    key: Option<&str>,
    body: String,
) -> Result<Value, Failed> {
    ask_within(PATIENCE, url, method, path, key, body).await
}

/// The same, with more patience or less.
pub(super) async fn ask_within(
    patience: Duration,
    url: &str,
    method: Method,
    path: &str,
    key: Option<&str>,
    body: String,
) -> Result<Value, Failed> {
    let client = Client::new(&ClientOptions {
        url: url.to_owned(),
        connect_timeout: PATIENCE,
        ca_file: None,
        user_agent: concat!("demuxai/", env!("CARGO_PKG_VERSION")).to_owned(),
    })
    .map_err(|error| Failed::NotThere(error.message))?;
    let mut headers = Vec::new();
    if let Some(value) = key.and_then(|key| HeaderValue::from_str(&format!("Bearer {key}")).ok()) {
        headers.push((AUTHORIZATION, value));
    }
    let request = Outgoing { method, path: path.to_owned(), headers, body: Bytes::from(body).into() };
    let exchange = async {
        let answered = client.send(request).await?;
        Ok::<_, crate::error::ProxyError>((answered.status, answered.body.collect(MOST).await?))
    };
    let (status, body) = tokio::time::timeout(patience, exchange)
        .await
        .map_err(|_| Failed::NotThere(format!("{url} did not answer within {patience:?}")))?
        .map_err(|error| {
            let why = error.message;
            Failed::NotThere(format!("no demuxai answers at {url}: {why} (--url names another)"))
        })?;
    let said: Value = serde_json::from_slice(&body)
        .map_err(|_| Failed::NotThere(format!("{url} answers, but is no demuxai")))?;
    if status == 200 {
        return Ok(said);
    }
    let message = said.pointer("/error/message").and_then(Value::as_str).unwrap_or("no reason given");
    Err(match said.pointer("/error/code").and_then(Value::as_str) {
        Some("configuration_refused") => Failed::Bad(message.to_owned()),
        Some("invalid_api_key") => Failed::NotAllowed(format!("{url} refuses ({status}): {message}")),
        _ => Failed::Refused(format!("{url} refuses ({status}): {message}")),
    })
}
