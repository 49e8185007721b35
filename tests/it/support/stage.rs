//! A daemon in front of one fake upstream, and what tests of the relay ask of the two.

use std::time::Duration;

use demuxai::demo::{Answer, Fake, Received, Script};
use serde_json::json;

use super::client::{self, Reading};
use super::eventually;
use super::proxy::{Proxy, provider};

/// Provider `up` of type `openai`, whose list has the model `m`.
pub struct Stage {
    pub proxy: Proxy,
    pub fake: Fake,
}

/// A request for a streamed chat answer.
pub const STREAM: &str = r#"{"model":"up/m","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
/// A request for a plain chat answer.
pub const CHAT: &str = r#"{"model":"up/m","messages":[{"role":"user","content":"hi"}]}"#;
/// Where both go.
pub const PATH: &str = "/v1/chat/completions";

const LIST: &str = r#"{"object":"list","data":[{"id":"m","object":"model"}]}"#;

/// An upstream that lists `m`, and then closes that connection, and answers everything else with this.
pub fn upstream(answer: impl Fn(&Received) -> Script + Send + Sync + 'static) -> Fake {
    Fake::start(move |received| {
        if received.path().ends_with("/models") {
            return Answer::json(200).header("connection", "close").body(LIST).close();
        }
        answer(received)
    })
    .expect("fake upstream starts")
}

impl Stage {
    /// With all defaults.
    pub fn new(answer: impl Fn(&Received) -> Script + Send + Sync + 'static) -> Stage {
        Stage::with("", "", answer)
    }

    /// With more options for the provider (`timeouts = { … }`) and for the listener (`keep_alive = …`).
    pub fn with(
        of_provider: &str,
        of_listener: &str,
        answer: impl Fn(&Received) -> Script + Send + Sync + 'static,
    ) -> Stage {
        Stage::before(upstream(answer), "openai", of_provider, of_listener)
    }

    /// In front of this upstream, spoken to as a provider of this type.
    pub fn before(fake: Fake, kind: &str, of_provider: &str, of_listener: &str) -> Stage {
        let text = format!(
            "{}{of_provider}\n[listeners.test]\naddress = \"127.0.0.1:0\"\nworkers = 1\ndrain = 1\n{of_listener}\n",
            provider("up", kind, &fake.url())
        );
        let stage = Stage { proxy: Proxy::start(&text), fake };
        stage.proxy.until_up("up");
        stage
    }

    /// Asks for a plain chat answer.
    pub fn chat(&self) -> client::Answer {
        self.proxy.post(PATH, CHAT)
    }

    /// Asks for a streamed chat answer and reads all of it.
    pub fn stream(&self) -> client::Answer {
        self.open_stream().finish()
    }

    /// Asks for a streamed chat answer; its body is read step by step.
    pub fn open_stream(&self) -> Reading {
        self.proxy.open(PATH, STREAM)
    }

    /// The inference requests that reached the upstream.
    pub fn asked(&self) -> Vec<Received> {
        self.fake.received().into_iter().filter(|received| !received.path().ends_with("/models")).collect()
    }

    /// How many streams ended so.
    pub fn stream_ends(&self, reason: &str) -> f64 {
        let series = format!("demuxai_stream_ends_total{{provider=\"up\",reason=\"{reason}\"}}");
        self.proxy.find_metric(&series).unwrap_or(0.0)
    }

    /// How many chat requests ended so.
    pub fn outcomes(&self, outcome: &str) -> f64 {
        let series = format!(
            "demuxai_requests_total{{backend=\"up\",endpoint=\"chat\",listener=\"test\",model=\"m\",outcome=\"{outcome}\",provider=\"up\"}}"
        );
        self.proxy.find_metric(&series).unwrap_or(0.0)
    }

    /// How many calls to the upstream ended so.
    pub fn attempts(&self, outcome: &str, reason: &str) -> f64 {
        let series = format!(
            "demuxai_upstream_attempts_total{{model=\"m\",outcome=\"{outcome}\",provider=\"up\",reason=\"{reason}\"}}"
        );
        self.proxy.find_metric(&series).unwrap_or(0.0)
    }

    /// How many tokens of this type were counted.
    pub fn tokens(&self, kind: &str) -> f64 {
        let series = format!(
            "demuxai_tokens_total{{model=\"m\",provider=\"up\",source=\"upstream\",type=\"{kind}\"}}"
        );
        self.proxy.find_metric(&series).unwrap_or(0.0)
    }

    /// Nothing is left of any request: no seat, no stream; and the provider is held for well.
    #[track_caller]
    pub fn assert_settled(&self) {
        eventually(
            "no seat is taken",
            || self.proxy.status_of("up")["in_flight"].clone(),
            |seats| *seats == 0,
        );
        let active = "demuxai_streams_active{provider=\"up\"}";
        eventually(
            "no stream is active",
            || self.proxy.find_metric(active).unwrap_or(0.0),
            |count| *count == 0.0,
        );
        assert_eq!(self.proxy.status_of("up")["health"], "up");
    }
}

/// One chunk of a streamed chat answer, as it is upstream.
pub fn chunk(text: &str) -> String {
    json!({"id": "c1", "object": "chat.completion.chunk", "model": "m",
        "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": null}]})
    .to_string()
}

/// The chunk that ends a streamed chat answer.
pub fn finish() -> String {
    json!({"id": "c1", "object": "chat.completion.chunk", "model": "m",
        "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    .to_string()
}

/// A payload as the client gets it from provider `up`: the origin behind the id, the prefix before the model.
pub fn named(payload: &str) -> String {
    payload.replace("\"c1\"", "\"c1@up\"").replace("\"m\"", "\"up/m\"")
}

/// Longer than anything here takes, shorter than anybody waits.
pub const SOON: Duration = Duration::from_secs(1);
