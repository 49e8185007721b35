//! Which headers go up and which come down. Pure.

use http::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, InvalidHeaderValue,
};

use crate::config::settings::ProviderConfig;

/// Headers of an upstream's answer that stop here: hop-by-hop ones, those about the connection or the
/// upstream's own site, and those that our server writes itself.
const STOPPED: &[&str] = &[
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "content-length",
    "content-encoding",
    "date",
    "set-cookie",
    "server",
    "alt-svc",
    "strict-transport-security",
    "www-authenticate",
    "vary",
];

/// Whether a client's header may go upstream. Credentials and cookies never do.
pub fn goes_up(name: &str) -> bool {
    matches!(name, "content-type" | "accept" | "idempotency-key" | "traceparent")
        || (name.starts_with("openai-") && name != "openai-api-key")
        || name.starts_with("anthropic-") && !name.contains("api-key")
}

/// The headers of an upstream's answer that come down, in their order.
pub fn coming_down(headers: &HeaderMap) -> Vec<(HeaderName, HeaderValue)> {
    let mut kept = Vec::with_capacity(headers.len());
    for (name, value) in headers {
        let text = name.as_str();
        if STOPPED.contains(&text) || text.starts_with("access-control-") || text.starts_with("x-demuxai-") {
            continue;
        }
        let name = if text == "x-request-id" {
            HeaderName::from_static("x-demuxai-upstream-request-id")
        } else {
            name.clone()
        };
        kept.push((name, value.clone()));
    }
    kept
}

/// The headers that every request to this provider carries: the adapter's, the key, and the configured ones,
/// where a later one replaces an earlier one of the same name.
///
/// # Errors
/// When the key or a configured value cannot be a header value; names the operand, not the value.
pub fn standing(
    config: &ProviderConfig,
    adapter: Vec<(HeaderName, HeaderValue)>,
) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
    let mut headers = adapter;
    if let Some(key) = &config.api_key {
        let value = sensitive(&format!("Bearer {}", key.expose().trim())).map_err(|_| {
            format!("the api_key of provider `{}` has characters that no header can carry", config.id)
        })?;
        replace(&mut headers, AUTHORIZATION, value);
    }
    for (name, secret) in &config.headers {
        let value = sensitive(secret.expose()).map_err(|_| {
            format!("header `{name}` of provider `{}` has characters that no header can carry", config.id)
        })?;
        replace(&mut headers, name.clone(), value);
    }
    Ok(headers)
}

/// All headers of one request: the standing ones, then the client's that may go up, unless a standing one has the
/// name. What the client sends more than once goes up more than once.
pub fn going_up(
    standing: &[(HeaderName, HeaderValue)],
    client: &[(HeaderName, HeaderValue)],
    stream: bool,
) -> Vec<(HeaderName, HeaderValue)> {
    let mut headers = Vec::with_capacity(standing.len() + client.len() + 2);
    headers.extend_from_slice(standing);
    for (name, value) in client {
        if *name != CONTENT_TYPE && !standing.iter().any(|(set, _)| set == name) {
            headers.push((name.clone(), value.clone()));
        }
    }
    if !headers.iter().any(|(name, _)| *name == CONTENT_TYPE) {
        // Clients send odd content types (none, text/plain); the body was read as JSON, so this is the truth.
        headers.push((CONTENT_TYPE, HeaderValue::from_static("application/json")));
    }
    if !headers.iter().any(|(name, _)| *name == ACCEPT) {
        let accept = if stream { "text/event-stream" } else { "application/json" };
        headers.push((ACCEPT, HeaderValue::from_static(accept)));
    }
    headers
}

fn sensitive(text: &str) -> Result<HeaderValue, InvalidHeaderValue> {
    let mut value = HeaderValue::from_str(text)?;
    value.set_sensitive(true);
    Ok(value)
}

fn replace(headers: &mut Vec<(HeaderName, HeaderValue)>, name: HeaderName, value: HeaderValue) {
    headers.retain(|(set, _)| *set != name);
    headers.push((name, value));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_and_cookies_never_go_up() {
        for name in ["authorization", "x-api-key", "api-key", "cookie", "host", "anthropic-api-key"] {
            assert!(!goes_up(name), "{name}");
        }
        for name in ["content-type", "openai-beta", "anthropic-version", "idempotency-key", "traceparent"] {
            assert!(goes_up(name), "{name}");
        }
    }

    #[test]
    fn cookies_and_connection_headers_stop_here_and_the_request_id_is_renamed() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("set-cookie", "a=b"),
            ("server", "x"),
            ("connection", "close"),
            ("x-request-id", "req_1"),
            ("x-ratelimit-limit-requests", "60"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let mut names: Vec<String> =
            coming_down(&headers).iter().map(|(name, _)| name.as_str().to_owned()).collect();
        names.sort();
        assert_eq!(names, ["x-demuxai-upstream-request-id", "x-ratelimit-limit-requests"]);
    }

    #[test]
    fn the_client_cannot_replace_a_standing_header() {
        let standing = [(ACCEPT, HeaderValue::from_static("application/vnd.github+json"))];
        let client = [(ACCEPT, HeaderValue::from_static("*/*"))];
        let headers = going_up(&standing, &client, true);
        let accepts: Vec<_> = headers.iter().filter(|(name, _)| *name == ACCEPT).collect();
        assert_eq!(accepts.len(), 1);
        assert_eq!(accepts[0].1, "application/vnd.github+json");
    }
}
