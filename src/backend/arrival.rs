//! How a request came in, for routers' conditions, and which routes it then took, for whoever tells of it.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use http::header::{HeaderName, HeaderValue};
use jiff::Timestamp;

/// No more routes are told: a request that many routers passed on is told by its first ones.
const MOST_TOLD: usize = 8;

/// How a request came in.
#[derive(Default)]
pub struct Arrival {
    /// The listener's id.
    pub listener: Arc<str>,
    /// The HTTP path without doubled or trailing slashes.
    pub path: String,
    /// The client's headers but those that hold secrets. Not for upstreams: what decides here is nobody else's affair.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The moment that is asked about, of a request that is only explained. `None`: now.
    pub at: Option<Timestamp>,
    taken: Mutex<Vec<Taken>>,
}

/// What agents send to say which conversation a request belongs to (seen by 2026-11), the first that is there.
const SESSION_HEADERS: [&str; 5] =
    ["x-demuxai-session", "x-session-id", "session-id", "x-claude-code-session-id", "thread-id"];

/// Which conversation a request belongs to, as its headers say.
pub fn session<'h>(header: impl Fn(&str) -> Option<&'h str>) -> Option<Arc<str>> {
    let told = |name: &&str| header(name).filter(|text| !text.is_empty());
    SESSION_HEADERS.iter().find_map(told).map(Arc::from)
}

/// A router, and which of its routes, counted from 1; `None`: none of them.
type Taken = (Arc<str>, Option<usize>);

// === impl Arrival ===

impl Arrival {
    /// At this listener, by this path, with these headers.
    pub fn new(listener: Arc<str>, path: &str, headers: Vec<(HeaderName, HeaderValue)>) -> Self {
        let mut plain = String::with_capacity(path.len());
        for segment in path.split('/').filter(|segment| !segment.is_empty()) {
            plain.push('/');
            plain.push_str(segment);
        }
        Arrival { listener, path: plain, headers, at: None, taken: Mutex::default() }
    }

    /// Notes that a router sent the request this way.
    pub(super) fn took(&self, router: &Arc<str>, route: Option<usize>) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let known = taken.iter().any(|(id, way)| id == router && *way == route);
        if !known && taken.len() < MOST_TOLD {
            taken.push((Arc::clone(router), route));
        }
    }

    /// The routes it took: `auto 2, inner 1`. `None`: no router was asked.
    pub fn routes(&self) -> Option<String> {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let mut told = String::new();
        for (router, route) in taken.iter() {
            let separator = if told.is_empty() { "" } else { ", " };
            // Writing into a text does not fail.
            let _ = match route {
                Some(number) => write!(told, "{separator}{router} {number}"),
                None => write!(told, "{separator}{router} none"),
            };
        }
        (!told.is_empty()).then_some(told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_has_no_slash_too_many() {
        let path = |written| Arrival::new(Arc::from("l"), written, Vec::new()).path;
        assert_eq!(path("//v1//chat/completions/"), "/v1/chat/completions");
        assert_eq!(path("/"), "");
    }

    #[test]
    fn routes_are_told_once_each_and_not_without_end() {
        let arrival = Arrival::default();
        assert_eq!(arrival.routes(), None);
        let (auto, inner) = (Arc::from("auto"), Arc::from("inner"));
        for (router, route) in [(&auto, Some(2)), (&inner, None), (&auto, Some(2))] {
            arrival.took(router, route);
        }
        assert_eq!(arrival.routes().as_deref(), Some("auto 2, inner none"));
        for number in 0..100 {
            arrival.took(&auto, Some(number));
        }
        assert_eq!(arrival.routes().unwrap().split(", ").count(), MOST_TOLD);
    }
}
