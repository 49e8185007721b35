//! Whether an answer says anything at all: for those who take one without a word for no answer. Looks at what goes to
//! the client, whole or as events.

use bytes::Bytes;

use super::choices::{Choices, read_choices};
use crate::wire::json::{is_empty, key_bytes, scan_spans};
use crate::wire::sse;

/// Whether a whole answer has content, a tool call, reasoning or the like in any choice, or an embedding.
pub fn says_something(body: &[u8]) -> bool {
    any_choices(body, |choices| choices.content)
}

/// Whether one of these whole events of a stream does.
pub fn events_say_something(events: &Bytes) -> bool {
    any_event(events, |choices| choices.content)
}

/// Whether one of these whole events of a stream does, or says why the answer ends.
pub fn events_say_or_finish(events: &Bytes) -> bool {
    any_event(events, |choices| choices.content || choices.finished)
}

fn any_choices(body: &[u8], is: impl Fn(Choices) -> bool) -> bool {
    let mut spans = Vec::with_capacity(16);
    if scan_spans(body, &mut spans).is_err() {
        return false;
    }
    spans.into_iter().any(|span| {
        let key = body.get(span.key).map(key_bytes).unwrap_or_default();
        match key.as_ref() {
            b"choices" => is(read_choices(body, span.value)),
            b"data" => body.get(span.value).is_some_and(|raw| !is_empty(raw)),
            _ => false,
        }
    })
}

fn any_event(events: &Bytes, is: impl Fn(Choices) -> bool) -> bool {
    let mut decoder = sse::Decoder::default();
    decoder.push(events.clone());
    while let Ok(Some(event)) = decoder.next_event() {
        if any_choices(&event.data, &is) {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_without_a_word_is_not_taken_for_one() {
        for body in [
            r#"{"choices":[{"message":{"role":"assistant","content":""},"finish_reason":"stop"}]}"#,
            r#"{"choices":[{"message":{"role":"assistant","content":null,"tool_calls":[]},"finish_reason":"stop"}]}"#,
            r#"{"choices":[]}"#,
            r#"{"object":"list","data":[]}"#,
            r#"{"choices":[{"text":"","finish_reason":"length"}]}"#,
        ] {
            assert!(!says_something(body.as_bytes()), "{body}");
        }
    }

    #[test]
    fn an_answer_of_any_kind_is_not_taken_for_none() {
        for body in [
            r#"{"choices":[{"message":{"content":"x"}}]}"#,
            r#"{"choices":[{"message":{"content":""}},{"message":{"content":"x"}}]}"#,
            r#"{"choices":[{"message":{"content":null,"tool_calls":[{"id":"1"}]}}]}"#,
            r#"{"choices":[{"message":{"content":"","reasoning_content":"hm"}}]}"#,
            r#"{"choices":[{"message":{"refusal":"no"}}]}"#,
            r#"{"choices":[{"text":"x"}]}"#,
            r#"{"data":[{"embedding":[1]}]}"#,
        ] {
            assert!(says_something(body.as_bytes()), "{body}");
        }
    }

    #[test]
    fn events_are_looked_through_to_the_last() {
        let role = "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n";
        let word = "data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\n";
        let end = "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
        assert!(!events_say_something(&Bytes::from(format!("{role}{end}"))));
        assert!(events_say_something(&Bytes::from(format!("{role}{word}{end}"))));
        assert!(events_say_or_finish(&Bytes::from(format!("{role}{end}"))));
        assert!(!events_say_or_finish(&Bytes::from(format!("{role}data: [DONE]\n\n"))));
    }
}
