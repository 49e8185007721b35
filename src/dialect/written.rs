//! Answers that demuxai writes itself, in OpenAI's shapes: a text, whole or as the events of a stream.

use bytes::Bytes;
use serde_json::{Value, json};

use super::{DONE_EVENT, Request, Shape};

/// The most choices of one answer; OpenAI's own bound on `n` (2026).
const MOST_CHOICES: u64 = 128;

/// An answer that no upstream gave.
#[derive(Debug, Clone, Copy)]
pub struct Written<'a> {
    /// What makes its id unique: our id of the request.
    pub id: &'a str,
    /// Unix seconds.
    pub created: i64,
    /// The model's id, as the client may ask for it.
    pub model: &'a str,
    /// What it says, in every choice.
    pub text: &'a str,
}

// === impl Written ===

impl Written<'_> {
    /// A whole answer to this request, which cost nothing.
    pub fn whole(&self, request: &Request) -> Bytes {
        let choice = |index: u64| match request.shape {
            Shape::Chat => json!({
                "index": index,
                "message": {"role": "assistant", "content": self.text},
                "logprobs": null,
                "finish_reason": "stop",
            }),
            _ => json!({"index": index, "text": self.text, "logprobs": null, "finish_reason": "stop"}),
        };
        let choices: Vec<Value> = (0..count(request)).map(choice).collect();
        let mut answer = self.envelope(request, choices, false);
        add_usage(&mut answer);
        Bytes::from(answer.to_string())
    }

    /// The events of a stream for this request, `[DONE]` the last of them. Usage, which is zero, only where it asks.
    pub fn events(&self, request: &Request) -> Vec<Bytes> {
        let indices = 0..count(request);
        let mut events = Vec::new();
        let mut push = |choices: Vec<Value>, last: bool| {
            let mut chunk = self.envelope(request, choices, true);
            match (request.include_usage, last) {
                (true, true) => add_usage(&mut chunk),
                (true, false) => add(&mut chunk, "usage", Value::Null),
                (false, _) => {}
            }
            events.push(Bytes::from(format!("data: {chunk}\n\n")));
        };
        let choice = |index: u64, delta: Option<Value>, finish: Option<&str>| match request.shape {
            Shape::Chat => json!({
                "index": index,
                "delta": delta.unwrap_or_else(|| json!({})),
                "logprobs": null,
                "finish_reason": finish,
            }),
            _ => json!({
                "index": index,
                "text": delta.unwrap_or_else(|| json!("")),
                "logprobs": null,
                "finish_reason": finish,
            }),
        };
        for index in indices {
            if request.shape == Shape::Chat {
                push(vec![choice(index, Some(json!({"role": "assistant", "content": ""})), None)], false);
                push(vec![choice(index, Some(json!({"content": self.text})), None)], false);
            } else {
                push(vec![choice(index, Some(json!(self.text)), None)], false);
            }
            push(vec![choice(index, None, Some("stop"))], false);
        }
        if request.include_usage {
            push(Vec::new(), true);
        }
        events.push(Bytes::from_static(DONE_EVENT));
        events
    }

    fn envelope(&self, request: &Request, choices: Vec<Value>, chunk: bool) -> Value {
        let (prefix, object) = match (request.shape, chunk) {
            (Shape::Chat, false) => ("chatcmpl", "chat.completion"),
            (Shape::Chat, true) => ("chatcmpl", "chat.completion.chunk"),
            _ => ("cmpl", "text_completion"),
        };
        json!({
            "id": format!("{prefix}-{}@{}", self.id, self.model),
            "object": object,
            "created": self.created,
            "model": self.model,
            "choices": choices,
        })
    }
}

fn count(request: &Request) -> u64 {
    request.answers().min(MOST_CHOICES)
}

fn add_usage(answer: &mut Value) {
    add(answer, "usage", json!({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}));
}

fn add(answer: &mut Value, key: &str, value: Value) {
    if let Some(object) = answer.as_object_mut() {
        object.insert(key.to_owned(), value);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{CHAT_COMPLETIONS, COMPLETIONS, Endpoint, FIM_COMPLETIONS, read};
    use super::*;

    const WRITTEN: Written<'_> = Written { id: "r1", created: 7, model: "sorry", text: "Back \"soon\"." };

    fn asked(endpoint: &Endpoint, body: &str) -> Request {
        read(endpoint, Bytes::copy_from_slice(body.as_bytes())).unwrap()
    }

    fn payloads(events: &[Bytes]) -> Vec<Value> {
        let texts = events.iter().map(|event| std::str::from_utf8(event).unwrap());
        let json = texts.filter_map(|text| text.strip_prefix("data: {"));
        json.map(|rest| serde_json::from_str(&format!("{{{}", rest.trim_end())).unwrap()).collect()
    }

    #[test]
    fn a_whole_answer_has_its_endpoints_shape_and_a_usage_of_zero() {
        let chat = asked(&CHAT_COMPLETIONS, r#"{"model":"sorry","messages":[],"n":2}"#);
        let answer: Value = serde_json::from_slice(&WRITTEN.whole(&chat)).unwrap();
        assert_eq!(answer["object"], "chat.completion");
        assert_eq!(answer["id"], "chatcmpl-r1@sorry");
        assert_eq!(answer["choices"].as_array().unwrap().len(), 2);
        assert_eq!(answer["choices"][1]["index"], 1);
        assert_eq!(answer["choices"][1]["message"]["content"], "Back \"soon\".");
        assert_eq!(answer["usage"]["total_tokens"], 0);
        let text = asked(&COMPLETIONS, r#"{"model":"sorry","prompt":"a"}"#);
        let answer: Value = serde_json::from_slice(&WRITTEN.whole(&text)).unwrap();
        assert_eq!(
            (&answer["object"], &answer["choices"][0]["text"]),
            (&json!("text_completion"), &json!(WRITTEN.text))
        );
        let fim = asked(&FIM_COMPLETIONS, r#"{"model":"sorry","prompt":"a","suffix":"b"}"#);
        let answer: Value = serde_json::from_slice(&WRITTEN.whole(&fim)).unwrap();
        assert_eq!(answer["choices"][0]["message"]["content"], WRITTEN.text, "fim answers in chat's shape");
    }

    #[test]
    fn a_stream_has_one_finish_for_each_choice_and_usage_only_where_it_is_asked_for() {
        let body =
            r#"{"model":"sorry","messages":[],"stream":true,"n":2,"stream_options":{"include_usage":true}}"#;
        let events = WRITTEN.events(&asked(&CHAT_COMPLETIONS, body));
        assert_eq!(events.last().unwrap(), DONE_EVENT);
        let chunks = payloads(&events);
        let finishes = chunks.iter().filter(|chunk| chunk["choices"][0]["finish_reason"] == "stop").count();
        assert_eq!((chunks.len(), finishes), (7, 2));
        let last = chunks.last().unwrap();
        assert_eq!((&last["choices"], &last["usage"]["prompt_tokens"]), (&json!([]), &json!(0)));
        assert!(chunks[..6].iter().all(|chunk| chunk["usage"].is_null() && chunk.get("usage").is_some()));
        let plain = asked(&COMPLETIONS, r#"{"model":"sorry","prompt":"a","stream":true}"#);
        let chunks = payloads(&WRITTEN.events(&plain));
        assert_eq!((chunks.len(), &chunks[0]["choices"][0]["text"]), (2, &json!(WRITTEN.text)));
        assert!(chunks.iter().all(|chunk| chunk.get("usage").is_none()));
    }
}
