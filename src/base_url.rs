//! The base URL of an upstream: parsed, checked, without the `/v1` that routes add. Pure; it resolves no names.
//! Messages do not quote the URL: it may hold a secret.

use std::net::{IpAddr, SocketAddr};

use http::Uri;

/// A base URL that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BaseUrl {
    /// Without a trailing slash and without a trailing `/v1`.
    pub(crate) text: String,
    /// Lower case, without brackets.
    pub(crate) host: String,
    /// As written or as the scheme has it.
    pub(crate) port: u16,
    /// Whether it is https.
    pub(crate) encrypted: bool,
    /// Without a slash at its end.
    pub(crate) path: String,
}

/// Ends of URLs that name one route instead of the base.
const ROUTES: &[&str] = &["/chat/completions", "/completions", "/embeddings", "/models", "/responses"];

impl BaseUrl {
    /// Parses a URL as a person writes it: one `/v1` at its end is trimmed.
    ///
    /// # Errors
    /// A sentence when it is no http or https URL, or has a user, a query, a fragment or a route in it.
    pub(crate) fn parse(written: &str) -> Result<Self, String> {
        let mut url = BaseUrl::parse_trimmed(written)?;
        let path = url.path.strip_suffix("/v1").unwrap_or(&url.path).trim_end_matches('/').to_owned();
        if let Some(route) = ROUTES.iter().find(|route| path.ends_with(*route)) {
            return Err(format!("is the URL of one route; leave `{route}` out"));
        }
        url.text.truncate(url.text.len() - url.path.len() + path.len());
        url.path = path;
        Ok(url)
    }

    /// Parses a URL that was trimmed before: its path stays.
    ///
    /// # Errors
    /// A sentence when it is no http or https URL, or has a user, a query or a fragment in it.
    pub(crate) fn parse_trimmed(written: &str) -> Result<Self, String> {
        let example = "write it like \"http://localhost:11434\"";
        if written.contains('#') || written.contains('?') {
            return Err("must not have a query or fragment; headers can carry more".to_owned());
        }
        let uri: Uri = written.parse().map_err(|_| format!("not a URL; {example}"))?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(format!("not a whole URL; {example}"));
        };
        let encrypted = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err("must begin with http:// or https://".to_owned()),
        };
        if authority.as_str().contains('@') {
            return Err("must not have a user or password; put the key into api_key".to_owned());
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        if host.is_empty() {
            return Err(format!("has no host; {example}"));
        }
        let colon_behind_host = authority.as_str().len() > authority.host().len();
        let port = match authority.port_u16() {
            Some(0) => return Err("port 0 is no port".to_owned()),
            Some(port) => port,
            None if colon_behind_host => return Err("the port is not a number from 1 to 65535".to_owned()),
            None if encrypted => 443,
            None => 80,
        };
        let path = uri.path().trim_end_matches('/');
        let place = authority.as_str().to_ascii_lowercase();
        let text = format!("{}://{place}{path}", if encrypted { "https" } else { "http" });
        Ok(BaseUrl { text, host, port, encrypted, path: path.to_owned() })
    }

    /// The host as a URL writes it: an IPv6 address has its brackets.
    pub(crate) fn host_in_url(&self) -> String {
        if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() }
    }

    /// The IP address, when the host is one.
    fn ip(&self) -> Option<IpAddr> {
        self.host.parse::<IpAddr>().ok().map(|ip| ip.to_canonical())
    }

    /// Whether the host is this machine by its name or address.
    fn is_this_machine(&self) -> bool {
        let name = self.host.trim_end_matches('.');
        let named = name == "localhost" || name.ends_with(".localhost");
        named || self.ip().is_some_and(|ip| ip.is_loopback() || ip.is_unspecified())
    }

    /// Whether the host is on this machine or in a private network, as far as its name tells.
    pub(crate) fn is_nearby(&self) -> bool {
        let private = |ip: IpAddr| match ip {
            IpAddr::V4(four) => four.is_private() || four.is_link_local(),
            IpAddr::V6(six) => six.is_unique_local() || six.is_unicast_link_local(),
        };
        let name = self.host.trim_end_matches('.');
        let local_name =
            !name.contains('.') || [".local", ".internal", ".lan"].iter().any(|end| name.ends_with(end));
        self.is_this_machine() || self.ip().map_or(local_name, private)
    }

    /// Whether a request to it would arrive at the listener; not known for port 0.
    pub(crate) fn reaches(&self, listener: SocketAddr) -> bool {
        let own = listener.ip().to_canonical();
        listener.port() == self.port
            && (self.ip() == Some(own)
                || (self.is_this_machine() && (own.is_loopback() || own.is_unspecified())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(written: &str) -> String {
        BaseUrl::parse(written).unwrap().text
    }

    #[test]
    fn slashes_and_one_v1_are_trimmed() {
        for written in ["http://h:1", "http://h:1/", "http://h:1/v1", "http://h:1/v1/", "HTTP://H:1//v1//"] {
            assert_eq!(text(written), "http://h:1", "{written}");
        }
        assert_eq!(text("https://api.example.com/inference/v1"), "https://api.example.com/inference");
        assert_eq!(text("https://h/v1/v1"), "https://h/v1");
        assert_eq!(text("http://[::1]:8080/Path"), "http://[::1]:8080/Path");
    }

    #[test]
    fn what_cannot_be_a_base_is_refused_without_quoting_it() {
        let cases = [
            ("", "not a URL"),
            ("secret", "not a whole URL"),
            ("/secret", "not a whole URL"),
            ("localhost:11434", "not a"),
            ("ftp://secret", "must begin with"),
            ("http://user:secret@h", "put the key into api_key"),
            ("http://h?key=secret", "query or fragment"),
            ("http://h#secret", "query or fragment"),
            ("http://h:0", "port 0"),
            ("http://h:99999", "not a"),
            ("http://h:", "port"),
            ("http:///x", "not a"),
            ("http://h y", "not a URL"),
            ("http://h/v1/chat/completions", "leave `/chat/completions` out"),
        ];
        for (written, expected) in cases {
            let message = BaseUrl::parse(written).unwrap_err();
            assert!(message.contains(expected), "{written}: {message}");
            assert!(!message.contains("secret"), "{message}");
        }
    }

    #[test]
    fn our_own_listeners_are_recognised() {
        let reaches =
            |url: &str, listener: &str| BaseUrl::parse(url).unwrap().reaches(listener.parse().unwrap());
        for url in [
            "http://localhost:6041/v1",
            "http://127.0.0.1:6041",
            "http://127.3.2.1:6041",
            "http://[::1]:6041",
        ] {
            assert!(reaches(url, "127.0.0.1:6041"), "{url}");
            assert!(reaches(url, "0.0.0.0:6041"), "{url}");
        }
        assert!(reaches("http://0.0.0.0:6041", "127.0.0.1:6041"));
        assert!(reaches("http://[::ffff:127.0.0.1]:6041", "127.0.0.1:6041"));
        assert!(reaches("http://10.0.0.5:6041", "10.0.0.5:6041"));
        assert!(reaches("http://localhost", "127.0.0.1:80"));
        assert!(!reaches("http://localhost:6042", "127.0.0.1:6041"));
        assert!(!reaches("http://10.0.0.6:6041", "10.0.0.5:6041"));
        assert!(!reaches("http://example.com:6041", "127.0.0.1:6041"));
    }

    #[test]
    fn nearness_is_told_by_name_or_address() {
        for url in
            ["http://localhost", "http://nas", "http://nas.local", "http://192.168.1.2", "http://[fd00::1]"]
        {
            assert!(BaseUrl::parse(url).unwrap().is_nearby(), "{url}");
        }
        for url in ["http://example.com", "http://8.8.8.8", "http://[2001:db8::1]"] {
            assert!(!BaseUrl::parse(url).unwrap().is_nearby(), "{url}");
        }
    }
}
