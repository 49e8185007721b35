//! Takes our own secrets out of what an upstream says, for upstreams that repeat what they were sent: a key in an
//! error body or a header would otherwise reach the client and the log. Pure.

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use memchr::memmem::Finder;

use crate::config::settings::{Config, ProviderConfig};
use crate::error::ProxyError;

/// Shorter values are words that people write where no key is needed (`ollama`, `none`), not secrets.
const SHORTEST: usize = 12;
/// What stands in a secret's place.
pub const STANDS_IN: &str = "(secret)";

/// The secrets of one provider, ready to be looked for.
#[derive(Clone)]
pub struct Scrub {
    finders: Vec<Finder<'static>>,
}

// === impl Scrub ===

impl Scrub {
    /// The key and the configured headers of this provider.
    pub fn new(config: &ProviderConfig) -> Self {
        let headers = config.headers.iter().map(|(_, secret)| secret);
        Self::of(config.api_key.iter().chain(headers).map(|secret| secret.expose()))
    }

    /// All secrets of a configuration.
    pub fn of_all(config: &Config) -> Self {
        let providers = config.providers.iter().flat_map(|provider| {
            provider.api_key.iter().chain(provider.headers.iter().map(|(_, secret)| secret))
        });
        let ours = config.keys.iter().map(|client| &client.key).chain(&config.admin_key);
        Self::of(providers.chain(ours).map(|secret| secret.expose()))
    }

    /// These secrets.
    pub(crate) fn of<'s>(secrets: impl Iterator<Item = &'s str>) -> Self {
        // `Bearer KEY` in a header is said as `KEY`, too.
        let bare = |secret: &'s str| secret.rsplit(' ').next().unwrap_or(secret);
        let long = secrets.map(|secret| bare(secret.trim())).filter(|secret| secret.len() >= SHORTEST);
        Scrub { finders: long.map(|secret| Finder::new(secret.as_bytes()).into_owned()).collect() }
    }

    /// These and those of another one.
    pub fn and(mut self, other: &Scrub) -> Self {
        for finder in &other.finders {
            if self.finders.iter().all(|known| known.needle() != finder.needle()) {
                self.finders.push(finder.clone());
            }
        }
        self
    }

    /// The same error without secrets.
    pub fn error(&self, mut error: ProxyError) -> ProxyError {
        self.text(&mut error.message);
        if let Some(code) = &mut error.code {
            self.text(code);
        }
        if let Some(answer) = &mut error.upstream {
            if let Some(clean) = self.clean(&answer.body) {
                answer.body = Bytes::from(clean);
            }
            if let Some(text) = &mut answer.retry_after {
                self.text(text);
            }
            self.headers(&mut answer.headers);
        }
        error
    }

    /// The same body without secrets.
    pub fn body(&self, body: &Bytes) -> Bytes {
        self.clean(body).map_or_else(|| body.clone(), Bytes::from)
    }

    /// Leaves out the headers that hold a secret.
    pub fn headers(&self, headers: &mut Vec<(HeaderName, HeaderValue)>) {
        headers
            .retain(|(_, value)| self.finders.iter().all(|finder| finder.find(value.as_bytes()).is_none()));
    }

    /// The text without secrets, if there was one.
    pub fn plain(&self, text: &str) -> Option<String> {
        self.clean(text.as_bytes()).map(|clean| String::from_utf8_lossy(&clean).into_owned())
    }

    fn text(&self, text: &mut String) {
        if let Some(clean) = self.clean(text.as_bytes()) {
            *text = String::from_utf8_lossy(&clean).into_owned();
        }
    }

    /// The bytes without secrets, if there was one.
    fn clean(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut clean: Option<Vec<u8>> = None;
        for finder in &self.finders {
            let found: &[u8] = clean.as_deref().unwrap_or(bytes);
            let mut whole = Vec::new();
            let mut from = 0;
            for at in finder.find_iter(found) {
                whole.extend_from_slice(found.get(from..at).unwrap_or_default());
                whole.extend_from_slice(STANDS_IN.as_bytes());
                from = at + finder.needle().len();
            }
            if from > 0 {
                whole.extend_from_slice(found.get(from..).unwrap_or_default());
                clean = Some(whole);
            }
        }
        clean
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{ErrorKind, UpstreamAnswer};

    #[test]
    fn a_secret_is_taken_out_of_all_parts_of_an_error() {
        let scrub = Scrub::of(["sk-0123456789", "Bearer team-secret-1"].into_iter());
        let mut error =
            ProxyError::new(ErrorKind::UpstreamStatus, "bad key sk-0123456789").with_code("team-secret-1");
        error.upstream = Some(Box::new(UpstreamAnswer {
            status: 400,
            body: Bytes::from("sk-0123456789 and team-secret-1sk-0123456789!"),
            headers: vec![(HeaderName::from_static("x-echo"), HeaderValue::from_static("a sk-0123456789"))],
            retry_after: Some("sk-0123456789".to_owned()),
        }));
        let clean = scrub.error(error);
        assert_eq!((clean.message.as_str(), clean.code.as_deref()), ("bad key (secret)", Some("(secret)")));
        let answer = clean.upstream.unwrap();
        assert_eq!(answer.body, "(secret) and (secret)(secret)!");
        assert_eq!((answer.retry_after.as_deref(), answer.headers), (Some("(secret)"), Vec::new()));
    }

    #[test]
    fn what_holds_no_secret_stays_as_it_is_and_words_are_none() {
        let scrub = Scrub::of(["ollama", "", "sk-0123456789"].into_iter());
        let error = ProxyError::new(ErrorKind::UpstreamStatus, "ollama has no such model");
        assert_eq!(scrub.error(error.clone()), error);
    }

    #[test]
    fn headers_that_hold_a_secret_are_left_out() {
        let scrub = Scrub::of(["sk-0123456789"].into_iter());
        let header = |name, value| (HeaderName::from_static(name), HeaderValue::from_static(value));
        let mut headers = vec![header("x-echo", "Bearer sk-0123456789"), header("x-other", "1")];
        scrub.headers(&mut headers);
        assert_eq!(headers, [header("x-other", "1")]);
    }
}
