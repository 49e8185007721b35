//! The base URL of a provider, taken apart. Pure; it opens nothing and resolves nothing.

use http::Uri;

use crate::error::{ErrorKind, ProxyError};

/// The parts of a base URL.
pub(super) struct BaseUrl {
    pub(super) tls: bool,
    /// As in a URL: an IPv6 address has its brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// Without a slash at its end.
    pub(super) path: String,
}

// === impl BaseUrl ===

impl BaseUrl {
    /// Takes a URL apart; the message of an error never repeats what may be a secret.
    pub(super) fn parse(url: &str) -> Result<BaseUrl, ProxyError> {
        let invalid = |what: &str| ProxyError::new(ErrorKind::Internal, format!("url {what}"));
        let uri: Uri = url.parse().map_err(|_| invalid("is not a valid url"))?;
        let authority = uri.authority().ok_or_else(|| invalid("has no host; write http://host:port"))?;
        if authority.as_str().contains('@') {
            return Err(invalid("may not contain a user or password; use `api_key` or `headers`"));
        }
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(invalid(&format!("`{url}` must start with http:// or https://"))),
        };
        if uri.query().is_some() {
            return Err(invalid(&format!("`{url}` may not contain a query")));
        }
        let has_port = authority.as_str().len() > authority.host().len();
        if authority.host().is_empty() || (has_port && authority.port_u16().is_none()) {
            return Err(invalid(&format!("`{url}` has no valid host and port")));
        }
        Ok(BaseUrl {
            tls,
            host: authority.host().to_ascii_lowercase(),
            port: authority.port_u16().unwrap_or(if tls { 443 } else { 80 }),
            path: uri.path().trim_end_matches('/').to_owned(),
        })
    }
}
