//! Whether an answer is one that would be given again: it says something, and each of its choices ended because it was
//! over. What a filter cut, an upstream interrupted, or nobody explained may be another one the next time.

use bytes::Bytes;

use super::choices::{bit_of, read_choices};
use crate::wire::json::{as_u64, elements_of, is_empty, key_bytes, members_of, scan_spans, string_value};
use crate::wire::sse;

/// Why a choice ended, where it ended as it should. `length` too: the bound is the request's or the model's own, so
/// that the same request is cut at the same place. Those besides OpenAI's are Mistral's (`model_length`) and what
/// servers of open models pass on (`eos`, `stop_sequence`, `end_turn`, `max_tokens`).
const WELL: [&str; 9] = [
    "stop",
    "length",
    "tool_calls",
    "function_call",
    "model_length",
    "eos",
    "stop_sequence",
    "end_turn",
    "max_tokens",
];

/// What was seen of an answer's ending, whole or event by event.
#[derive(Debug, Default)]
pub struct Ending {
    says_something: bool,
    /// One bit for each choice: those that were seen, and those that ended well.
    seen: u128,
    ended: u128,
    /// A choice ended for another reason, or something could not be read.
    doubtful: bool,
    embeds: bool,
}

// === impl Ending ===

impl Ending {
    /// Looks at a whole answer.
    pub fn of(body: &[u8]) -> Self {
        let mut ending = Ending::default();
        ending.note(body);
        ending
    }

    /// Looks at the next whole events of a stream.
    pub fn note_events(&mut self, events: &Bytes) {
        let mut decoder = sse::Decoder::default();
        decoder.push(events.clone());
        while let Ok(Some(event)) = decoder.next_event() {
            if event.data.as_ref() != b"[DONE]" {
                self.note(&event.data);
            }
        }
    }

    fn note(&mut self, payload: &[u8]) {
        let mut spans = Vec::with_capacity(16);
        if scan_spans(payload, &mut spans).is_err() {
            self.doubtful = true;
            return;
        }
        for span in spans {
            match payload.get(span.key).map(key_bytes).unwrap_or_default().as_ref() {
                b"choices" => {
                    let choices = read_choices(payload, span.value.clone());
                    self.says_something |= choices.content;
                    self.seen |= choices.seen;
                    for choice in elements_of(payload, span.value) {
                        self.note_choice(payload, choice.range);
                    }
                }
                b"data" => self.embeds |= payload.get(span.value).is_some_and(|raw| !is_empty(raw)),
                _ => {}
            }
        }
    }

    fn note_choice(&mut self, payload: &[u8], choice: std::ops::Range<usize>) {
        let (mut index, mut reason) = (0, None);
        for field in members_of(payload, choice) {
            match field.key_bytes().as_ref() {
                b"index" => index = as_u64(field.raw).unwrap_or(0),
                b"finish_reason" if !is_empty(field.raw) => reason = Some(field.raw),
                _ => {}
            }
        }
        let Some(reason) = reason else { return };
        let well = string_value(reason).is_some_and(|word| WELL.contains(&&*word));
        self.doubtful |= !well;
        self.ended |= bit_of(index);
    }

    /// Whether the answer, which is all here, would be given again.
    pub fn is_good(&self) -> bool {
        let whole = self.says_something && self.seen != 0 && self.seen == self.ended;
        !self.doubtful && (whole || self.embeds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(body: &str) -> bool {
        Ending::of(body.as_bytes()).is_good()
    }

    fn streamed(payloads: &[&str]) -> bool {
        let mut ending = Ending::default();
        for payload in payloads {
            ending.note_events(&Bytes::from(format!("data: {payload}\n\n")));
        }
        ending.is_good()
    }

    #[test]
    fn answers_that_ended_as_they_should_would_be_given_again() {
        for reason in WELL {
            assert!(
                whole(&format!(
                    r#"{{"choices":[{{"message":{{"content":"x"}},"finish_reason":"{reason}"}}]}}"#
                )),
                "{reason}"
            );
        }
        assert!(whole(r#"{"choices":[{"text":"x","finish_reason":"stop"}]}"#));
        assert!(whole(r#"{"object":"list","data":[{"embedding":[1]}]}"#));
        assert!(streamed(&[
            r#"{"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}]}"#,
            r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#,
            r#"{"choices":[],"usage":{"prompt_tokens":1}}"#,
            "[DONE]",
        ]));
    }

    #[test]
    fn answers_that_were_cut_filtered_or_empty_would_not() {
        for body in [
            r#"{"choices":[{"message":{"content":"x"},"finish_reason":"content_filter"}]}"#,
            r#"{"choices":[{"message":{"content":"x"},"finish_reason":"insufficient_system_resource"}]}"#,
            r#"{"choices":[{"message":{"content":"x"},"finish_reason":null}]}"#,
            r#"{"choices":[{"message":{"content":"x"},"finish_reason":7}]}"#,
            r#"{"choices":[{"message":{"content":""},"finish_reason":"stop"}]}"#,
            r#"{"choices":[{"index":0,"message":{"content":"x"},"finish_reason":"stop"},{"index":1,"message":{"content":"x"}}]}"#,
            r#"{"choices":[]}"#,
            r#"{"data":[]}"#,
            r#"{"object":"x"}"#,
            "no json",
        ] {
            assert!(!whole(body), "{body}");
        }
        let word = r#"{"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}]}"#;
        assert!(!streamed(&[word, "[DONE]"]));
        assert!(!streamed(&[
            word,
            "{broken",
            r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#
        ]));
        assert!(!streamed(&[word, r#"{"choices":[{"index":1,"delta":{},"finish_reason":"stop"}]}"#]));
    }
}
