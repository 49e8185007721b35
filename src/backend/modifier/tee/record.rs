//! What a tee tells of one request, and how it is written. Pure.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::redact::Redact;
use crate::dialect::{Request, Usage, assembled};

/// One request and its answer.
pub(super) struct Record {
    /// When it came.
    pub(super) time: Timestamp,
    /// Our id of it.
    pub(super) request_id: Arc<str>,
    /// The client's name.
    pub(super) client: Option<Arc<str>>,
    /// The request, as it came here.
    pub(super) request: Arc<Request>,
    /// Who answered, and with which model.
    pub(super) served: Option<(Arc<str>, Arc<str>)>,
    /// What was changed in the request below.
    pub(super) edits: Vec<String>,
    /// The answer, as far as it came.
    pub(super) answer: Answer,
    /// What it cost, as the upstream says.
    pub(super) usage: Usage,
    /// `ok`, `cancelled`, or an error's label.
    pub(super) outcome: &'static str,
    /// What the error says.
    pub(super) error: Option<String>,
    /// From the request's last byte to the answer's.
    pub(super) latency: Duration,
    /// And to the first that says something, of a stream.
    pub(super) time_to_first_token: Option<Duration>,
}

/// An answer, as it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// None.
    Nothing,
    /// A plain one.
    Whole(Bytes),
    /// The events of a stream, all or only the first of them.
    Events {
        /// The events.
        events: Bytes,
        /// There were more than are kept.
        cut: bool,
    },
}

// === impl Record ===

impl Record {
    /// How much memory it holds, about.
    pub(super) fn size(&self) -> usize {
        let answer = match &self.answer {
            Answer::Nothing => 0,
            Answer::Whole(bytes) | Answer::Events { events: bytes, .. } => bytes.len(),
        };
        1024 + self.request.body.len() + answer
    }

    /// As a line, without what `redact` takes out; of request and answer each that is over `most` bytes only that it was.
    pub(super) fn line(self, redact: &Redact, most: usize) -> Vec<u8> {
        let mut cut = Vec::new();
        let request = serde_json::from_slice(&self.request.body).unwrap_or(Value::Null);
        let answer = match self.answer {
            Answer::Nothing => Value::Null,
            Answer::Whole(bytes) => serde_json::from_slice(&bytes).unwrap_or(Value::Null),
            Answer::Events { events, cut: more } => {
                if more {
                    cut.push("answer");
                }
                assembled(events)
            }
        };
        let mut fitting = |name: &'static str, mut value: Value| {
            redact.value(&mut value);
            if value.to_string().len() > most {
                if !cut.contains(&name) {
                    cut.push(name);
                }
                return Value::Null;
            }
            value
        };
        let (request, answer) = (fitting("request", request), fitting("answer", answer));
        let mut line = Map::new();
        let mut put = |name: &str, value: Value| {
            if !value.is_null() {
                line.insert(name.to_owned(), value);
            }
        };
        put("time", Value::from(self.time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()));
        put("request_id", Value::from(&*self.request_id));
        put("client", Value::from(self.client.as_deref()));
        put("endpoint", Value::from(self.request.task.label()));
        put("stream", Value::from(self.request.stream));
        if let Some((provider, model)) = &self.served {
            put("provider", Value::from(&**provider));
            put("model", Value::from(&**model));
        }
        put("outcome", Value::from(self.outcome));
        put("error", self.error.map_or(Value::Null, |text| Value::from(redact.clean(&text))));
        put("latency_ms", Value::from(milliseconds(self.latency)));
        put("ttft_ms", self.time_to_first_token.map_or(Value::Null, |time| Value::from(milliseconds(time))));
        let Usage { input, output, reasoning, cached } = self.usage;
        if !self.usage.is_empty() {
            put(
                "tokens",
                json!({"input": input, "output": output, "reasoning": reasoning, "cached": cached}),
            );
        }
        if !self.edits.is_empty() {
            put("edits", Value::from(self.edits));
        }
        if !cut.is_empty() {
            put("cut", Value::from(cut));
        }
        put("request", request);
        put("answer", answer);
        let mut text = Value::Object(line).to_string().into_bytes();
        text.push(b'\n');
        text
    }
}

fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 10_000.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::super::super::scene::call;
    use super::super::redact::Media;
    use super::*;
    use crate::backend::secrets::Secrets;
    use crate::provider::scrub::Scrub;

    const MOST: usize = 10_000;

    fn record(fields: &str, answer: Answer) -> Record {
        Record {
            time: "2026-11-28T11:22:33.1239Z".parse().unwrap(),
            request_id: "r1".into(),
            client: Some("ide".into()),
            request: call(fields).request,
            served: Some(("mistral".into(), "small".into())),
            edits: vec!["drop:seed".to_owned()],
            answer,
            usage: Usage { input: Some(3), output: Some(2), ..Usage::default() },
            outcome: "ok",
            error: None,
            latency: Duration::from_micros(812_340),
            time_to_first_token: Some(Duration::from_millis(120)),
        }
    }

    fn line(record: Record, most: usize) -> Value {
        let secrets = Secrets::new(Scrub::of(["own-secret-0123456789"].into_iter()));
        let redact = Redact::new(Arc::new(secrets), Media::Cut).unwrap();
        let line = record.line(&redact, most);
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
        serde_json::from_slice(&line).unwrap()
    }

    #[test]
    fn a_stream_is_written_as_the_answer_that_it_is() {
        let events = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"own-secret-\"}}]}\n\n\
                      data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"0123456789\\n\"},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":3}}\n\n";
        let answer = Answer::Events { events: Bytes::from(events), cut: false };
        let fields =
            r#""messages":[{"role":"user","content":"my key is own-secret-0123456789"}],"stream":true"#;
        assert_eq!(
            line(record(fields, answer), MOST),
            json!({
                "time": "2026-11-28T11:22:33.123Z", "request_id": "r1", "client": "ide", "endpoint": "chat",
                "stream": true, "provider": "mistral", "model": "small", "outcome": "ok", "latency_ms": 812.3,
                "ttft_ms": 120.0, "edits": ["drop:seed"],
                "tokens": {"input": 3, "output": 2, "reasoning": null, "cached": null},
                "request": {"model": "asked", "messages": [{"role": "user", "content": "my key is (secret)"}],
                    "stream": true},
                "answer": {"choices": [{"index": 0, "message": {"content": "(secret)\n"}, "finish_reason": "stop"}],
                    "usage": {"prompt_tokens": 3}},
            })
        );
    }

    #[test]
    fn what_is_too_long_is_left_out_and_said_to_be() {
        let whole = Answer::Whole(Bytes::from(format!(r#"{{"text":"{}"}}"#, "x".repeat(200))));
        let long = line(record(r#""messages":[]"#, whole), 100);
        assert_eq!((&long["cut"], &long["answer"]), (&json!(["answer"]), &Value::Null));
        assert!(long["request"].is_object());
        let events = Answer::Events { events: Bytes::new(), cut: true };
        let fields = format!(r#""messages":["{}"]"#, "x".repeat(200));
        let long = line(record(&fields, events), 100);
        assert_eq!(long["cut"], json!(["answer", "request"]));
    }

    #[test]
    fn a_failure_says_what_it_was_without_secrets() {
        let failed = Record {
            outcome: "upstream_status",
            error: Some("bad key own-secret-0123456789".to_owned()),
            served: None,
            client: None,
            ..record(r#""messages":[]"#, Answer::Nothing)
        };
        let line = line(failed, MOST);
        assert_eq!(
            (&line["outcome"], &line["error"]),
            (&json!("upstream_status"), &json!("bad key (secret)"))
        );
        assert!(
            line.get("answer").is_none() && line.get("provider").is_none() && line.get("client").is_none()
        );
    }
}
