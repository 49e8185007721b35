//! What the tests of the edge have in common: the daemon in front of an upstream as plain as can be, and the one
//! shape that every refusal has.

use demuxai::demo::script::{Answer as Plain, Script};
use demuxai::demo::server::Fake;
use serde_json::Value;

use super::asked;
use super::client::{self, Answer};
use super::proxy::{Proxy, provider};

/// A good request for a plain answer.
pub const CHAT: &str = r#"{"model":"up/m","messages":[{"role":"user","content":"hi"}]}"#;
/// A good request for a stream.
pub const STREAM: &str = r#"{"model":"up/m","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;

const LIST: &str =
    r#"{"object":"list","data":[{"id":"m","object":"model"},{"id":"other-model","object":"model"}]}"#;
const ANSWER: &str = r#"{"id":"c","object":"chat.completion","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"ok"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":5,"total_tokens":8}}"#;

/// A daemon in front of a plain upstream, which is up.
pub struct Stage {
    pub proxy: Proxy,
    pub fake: Fake,
}

/// Lists `m` and `other-model`, answers at once, and streams in two parts with the gate `second` between them.
pub fn upstream() -> Fake {
    Fake::start(|received| {
        if received.path().ends_with("/models") {
            return Plain::json(200).body(LIST);
        }
        // Not parsed: some bodies are 64 MB.
        let begin = String::from_utf8_lossy(&received.body[..received.body.len().min(200)]);
        if begin.contains("\"stream\":true") { streamed() } else { Plain::json(200).body(ANSWER) }
    })
    .expect("fake upstream starts")
}

/// One chunk of a stream.
pub fn delta(text: &str) -> String {
    format!(
        r#"{{"id":"c","object":"chat.completion.chunk","model":"m","choices":[{{"index":0,"delta":{{"content":"{text}"}},"finish_reason":null}}]}}"#
    )
}

/// The last chunk of a stream.
pub fn finish() -> String {
    r#"{"id":"c","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#
        .to_owned()
}

fn streamed() -> Script {
    let events = Plain::events().chunked().event(delta("first")).gate("second").event(delta("second"));
    events.event(finish()).event("[DONE]").last_chunk()
}

/// Starts the daemon with this configuration beside the provider `up`.
pub fn stage(more: &str) -> Stage {
    let fake = upstream();
    let proxy = Proxy::start(&format!("{}{more}", provider("up", "openai", &fake.url())));
    proxy.until_up("up");
    Stage { proxy, fake }
}

impl Stage {
    /// How many requests reached the upstream, other than those for its list.
    pub fn reached(&self) -> usize {
        asked(&self.fake)
    }

    /// Sends these bytes, exactly.
    pub fn send(&self, bytes: &[u8]) -> Answer {
        client::exchange(self.proxy.address, bytes).finish()
    }

    /// A POST with these header lines (each with its CRLF) besides host and length.
    pub fn post_with(&self, path: &str, headers: &str, body: &[u8]) -> Answer {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\n{headers}content-length: {}\r\n\r\n",
            body.len()
        );
        self.send(&[head.as_bytes(), body].concat())
    }

    /// A GET with these header lines (each with its CRLF) besides the host.
    pub fn get_with(&self, path: &str, headers: &str) -> Answer {
        self.send(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n").as_bytes())
    }
}

/// Holds an answer to the shape that every refusal has, and gives its error object.
#[track_caller]
pub fn refusal(answer: &Answer, status: u16, what: &str) -> Value {
    assert_eq!(answer.status, status, "{what}: {}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/json"), "{what}");
    let id = answer.header("x-request-id").unwrap_or_else(|| panic!("{what}: no x-request-id"));
    assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{what}: {id}");
    let body = answer.json();
    let keys: Vec<_> = body.as_object().expect("an object").keys().collect();
    assert_eq!(keys, ["error"], "{what}");
    let keys: Vec<_> = body["error"].as_object().expect("an object").keys().map(String::as_str).collect();
    assert_eq!(keys, ["message", "type", "param", "code"], "{what}");
    assert!(body["error"]["message"].as_str().is_some_and(|message| !message.is_empty()), "{what}: {body}");
    assert!(body["error"]["type"].is_string(), "{what}: {body}");
    body["error"].clone()
}
