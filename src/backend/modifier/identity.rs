//! Which requests are one and the same: those that would get the same answer. Pure.
//!
//! All of the body counts but what says nothing to the model: who asks (`user`, `safety_identifier`), what is noted
//! beside the answer (`metadata`), where the upstream looks for its own cached prompts (`prompt_cache_key`,
//! `prompt_cache_retention`). `model` is that of the backend below, as the call means it there. A plain answer has no
//! `stream_options`; for a stream they decide which events come.
//! Of the headers that go up those that name a call (`idempotency-key`, `traceparent`, ours) do not count.
//! Streamed and plain requests are different ones: neither answer is made from the other, since each is given as it was.

use crate::backend::Call;
use crate::wire::json::{Digest, Digester, Member, is_null};

/// Fields that do not change the answer.
const SILENT: [&str; 7] = [
    "model",
    "stream",
    "user",
    "safety_identifier",
    "metadata",
    "prompt_cache_key",
    "prompt_cache_retention",
];

/// Headers that go up and do not change the answer.
const SILENT_HEADERS: [&str; 3] = ["idempotency-key", "traceparent", "x-demuxai-hops"];

/// Whose requests are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Among {
    /// Each client's own.
    OneClients,
    /// All clients' together.
    AllClients,
}

/// The digest of all that counts of a call, as the backend below gets it, within one scope.
pub(super) fn identity(scope: &[&[u8]], call: &Call, among: Among) -> Digest {
    let request = &call.request;
    let mut digester = Digester::default();
    for part in scope {
        digester.part("scope", part);
    }
    match (among, &call.client) {
        (Among::OneClients, Some(client)) => digester.part("client", client.as_bytes()),
        // Where there are no keys there is one client.
        _ => digester.part("any client", b""),
    }
    digester.part("endpoint", request.task.label().as_bytes());
    digester.part("shape", format!("{:?}", request.shape).as_bytes());
    digester.part("model", call.model.as_bytes());
    digester.part("stream", if request.stream { b"1" } else { b"0" });
    let mut headers: Vec<_> =
        call.headers.iter().filter(|(name, _)| !SILENT_HEADERS.contains(&name.as_str())).collect();
    headers.sort_by_key(|(name, _)| name.as_str());
    for (name, value) in headers {
        digester.part("header", name.as_str().as_bytes());
        digester.part("value", value.as_bytes());
    }
    let counts = |member: &&Member| {
        let of_streams = member.key == "stream_options" && !request.stream;
        // A null is what is not there, to every API that is spoken here.
        let says = request.body.get(member.value.clone()).is_some_and(|raw| !is_null(raw));
        says && !of_streams && !SILENT.contains(&member.key.as_str())
    };
    let mut members: Vec<&Member> = request.members.iter().filter(counts).collect();
    members.sort_by(|one, other| one.key.cmp(&other.key));
    for member in members {
        digester.value(&member.key, &request.body, member.value.clone());
    }
    digester.finish()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::header::{HeaderName, HeaderValue};

    use super::super::scene::call;
    use super::*;

    fn of(call: &Call) -> Digest {
        identity(&[b"c"], call, Among::OneClients)
    }

    fn chat(more: &str) -> Call {
        call(&format!(r#""messages":[{{"role":"user","content":"hi"}}]{more}"#))
    }

    #[test]
    fn what_says_nothing_to_the_model_does_not_count() {
        let plain = of(&chat(""));
        for more in [
            r#","user":"me""#,
            r#","metadata":{"a":"b"}"#,
            r#","safety_identifier":"x","prompt_cache_key":"y","prompt_cache_retention":"24h""#,
            r#","stream_options":{"include_usage":true}"#,
            r#","stream":false"#,
            r#","stop":null"#,
        ] {
            assert_eq!(of(&chat(more)), plain, "{more}");
        }
        let spaced = call("\"messages\" : [ { \"content\":\"\\u0068i\", \"role\":\"user\" } ] ");
        assert_eq!(of(&spaced), plain);
        let (early, late) = (chat(r#","top_p":1,"seed":2"#), chat(r#","seed":2,"top_p":1"#));
        assert_eq!(of(&early), of(&late));
    }

    #[test]
    fn what_may_change_the_answer_counts() {
        let mut all = vec![
            of(&chat("")),
            of(&chat(r#","temperature":0"#)),
            of(&chat(r#","temperature":0.0"#)),
            of(&chat(r#","seed":1"#)),
            of(&chat(r#","max_tokens":1"#)),
            of(&chat(r#","store":true"#)),
            of(&chat(r#","x-unknown":1"#)),
            of(&chat(r#","stream":true"#)),
            of(&chat(r#","stream":true,"stream_options":{"include_usage":true}"#)),
            of(&call(r#""messages":[{"role":"user","content":"ho"}]"#)),
            of(&Call { model: Arc::from("other"), ..chat("") }),
            of(&Call { client: Some(Arc::from("me")), ..chat("") }),
            identity(&[b"d"], &chat(""), Among::OneClients),
            identity(&[b"c", b""], &chat(""), Among::OneClients),
        ];
        let beta = (HeaderName::from_static("openai-beta"), HeaderValue::from_static("x"));
        all.push(of(&Call { headers: Arc::new(vec![beta]), ..chat("") }));
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count);
    }

    #[test]
    fn what_names_a_call_does_not_count_and_clients_only_where_they_are_kept_apart() {
        let header = |name| (HeaderName::from_static(name), HeaderValue::from_static("x"));
        let named = SILENT_HEADERS.map(header).to_vec();
        assert_eq!(of(&Call { headers: Arc::new(named), ..chat("") }), of(&chat("")));
        let of_client = |client: &str, among| {
            identity(&[b"c"], &Call { client: Some(Arc::from(client)), ..chat("") }, among)
        };
        assert_eq!(of_client("me", Among::AllClients), of_client("you", Among::AllClients));
        assert_ne!(of_client("me", Among::OneClients), of_client("you", Among::OneClients));
    }
}
