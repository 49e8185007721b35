//! Which requests a cache may answer, and which answers it may keep. Pure.

use std::time::Duration;

use http::header::{CACHE_CONTROL, HeaderName, HeaderValue};

use crate::dialect::{Request, Task};
use crate::wire::json::is_null;

/// The header by which a client asks for the cache, and is told of it.
const HEADER: &str = "x-demuxai-cache";
/// The word that asks.
const USE: &str = "use";

/// What a cache does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing.
    Bypass,
    /// It may keep the answer.
    Keep {
        /// And answer with one that is not older than this; `None`: however old it is, within what the cache allows.
        max_age: Option<Duration>,
    },
}

/// What to do with a request that came with these headers; `all`: whether its answer would be the same or not.
///
/// - `cache-control: no-store` keeps it out altogether.
/// - Else it is for the cache when its answer would be the same again: embeddings, `temperature` 0, or a `seed`; or when
///   somebody says that it may be: the configuration, or the client by `x-demuxai-cache: use`.
/// - `cache-control: no-cache` wants a fresh answer, `max-age` one that is not older; either is then kept for others.
pub(super) fn verdict(request: &Request, headers: &[(HeaderName, HeaderValue)], all: bool) -> Verdict {
    let Wishes { no_store, max_age } = wishes(headers);
    let own = HeaderName::from_static(HEADER);
    let asks = || words(headers, &own).any(|word| word == USE);
    if !no_store && (all || is_deterministic(request) || asks()) {
        Verdict::Keep { max_age }
    } else {
        Verdict::Bypass
    }
}

/// Whether a client wants an answer that nobody else was given.
pub(in super::super) fn wants_fresh(headers: &[(HeaderName, HeaderValue)]) -> bool {
    let Wishes { no_store, max_age } = wishes(headers);
    no_store || max_age.is_some_and(|limit| limit.is_zero())
}

/// What a client's `cache-control` asks for.
struct Wishes {
    no_store: bool,
    /// Zero: nothing old at all.
    max_age: Option<Duration>,
}

fn wishes(headers: &[(HeaderName, HeaderValue)]) -> Wishes {
    let mut wishes = Wishes { no_store: false, max_age: None };
    for word in words(headers, &CACHE_CONTROL) {
        let limit = match word.split_once('=') {
            // What cannot be read asks for nothing old (RFC 9111 §4.2.1 calls such an answer stale).
            Some(("max-age", seconds)) => seconds.trim_matches('"').parse().unwrap_or(0),
            None if word == "no-cache" => 0,
            None if word == "no-store" => {
                wishes.no_store = true;
                continue;
            }
            _ => continue,
        };
        let limit = Duration::from_secs(limit);
        wishes.max_age = Some(wishes.max_age.map_or(limit, |known| known.min(limit)));
    }
    wishes
}

/// The words of a header that is a list.
fn words<'h>(
    headers: &'h [(HeaderName, HeaderValue)],
    wanted: &'h HeaderName,
) -> impl Iterator<Item = String> + 'h {
    let values = headers.iter().filter(move |(name, _)| name == wanted);
    let texts = values.filter_map(|(_, value)| value.to_str().ok());
    texts.flat_map(|text| text.split(',')).map(|word| word.trim().to_ascii_lowercase())
}

/// Whether the client asked for an answer that would be the same again.
fn is_deterministic(request: &Request) -> bool {
    if request.task == Task::Embedding {
        return true;
    }
    // Where a key is written twice, the last one counts upstream.
    let last = |key: &str| {
        let member = request.members.iter().rfind(|member| member.key == key)?;
        request.body.get(member.value.clone())
    };
    let zero = |raw: &[u8]| std::str::from_utf8(raw).is_ok_and(|text| text.parse() == Ok(0.0_f64));
    last("temperature").is_some_and(zero) || last("seed").is_some_and(|raw| !is_null(raw))
}

#[cfg(test)]
mod tests {
    use super::super::super::scene::{call, call_at};
    use super::*;
    use crate::dialect::EMBEDDINGS;

    const KEEP: Verdict = Verdict::Keep { max_age: None };

    fn at_most(seconds: u64) -> Verdict {
        Verdict::Keep { max_age: Some(Duration::from_secs(seconds)) }
    }

    fn of(more: &str, headers: &[(&'static str, &str)], all: bool) -> Verdict {
        let headers: Vec<_> = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
            .collect();
        verdict(&call(&format!(r#""messages":[]{more}"#)).request, &headers, all)
    }

    #[test]
    fn deterministic_requests_are_for_the_cache_and_others_are_not() {
        for more in [r#","temperature":0"#, r#","temperature":0.0"#, r#","temperature":-0e3"#, r#","seed":7"#]
        {
            assert_eq!(of(more, &[], false), KEEP, "{more}");
        }
        for more in [
            "",
            r#","temperature":0.1"#,
            r#","temperature":null"#,
            r#","temperature":"0""#,
            r#","seed":null"#,
            r#","temperature":0,"temperature":1"#,
        ] {
            assert_eq!(of(more, &[], false), Verdict::Bypass, "{more}");
        }
        let embedding = call_at(&EMBEDDINGS, r#""input":"x""#);
        assert_eq!(verdict(&embedding.request, &[], false), KEEP);
    }

    #[test]
    fn the_configuration_or_the_client_may_ask_for_it() {
        assert_eq!(of("", &[], true), KEEP);
        assert_eq!(of("", &[("x-demuxai-cache", " Use ")], false), KEEP);
        assert_eq!(of("", &[("x-demuxai-cache", "yes")], false), Verdict::Bypass);
    }

    #[test]
    fn what_the_client_says_of_caching_is_honoured() {
        let zero = r#","temperature":0"#;
        let said = |value: &str| of(zero, &[("cache-control", value)], true);
        assert_eq!(said("no-store"), Verdict::Bypass);
        assert_eq!(said("max-age=5, No-Store"), Verdict::Bypass);
        assert_eq!(said("no-cache"), at_most(0));
        assert_eq!(said("max-age=60"), at_most(60));
        assert_eq!(said("max-age=60, no-cache"), at_most(0));
        assert_eq!(said("max-age=\"60\", max-age=7"), at_most(7));
        assert_eq!(said("max-age=soon"), at_most(0));
        assert_eq!(said("no-transform, private"), KEEP);
        let both = [("cache-control", "no-transform"), ("cache-control", "no-store")];
        assert_eq!(of(zero, &both, true), Verdict::Bypass);
        let wishes = [("cache-control", "no-store"), ("x-demuxai-cache", "use")];
        assert_eq!(of(zero, &wishes, false), Verdict::Bypass);
    }
}
