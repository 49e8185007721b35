//! What an answer of one choice says: its text and why it ends. For those who read answers themselves instead of
//! passing them on.

use std::ops::Range;

use bytes::Bytes;

use super::choices::content_as_text;
use crate::wire::json::{as_u64, check, elements_of, is_empty, members_of, string_value};
use crate::wire::sse;

/// What the first choice of an answer says. Reasoning, tool calls and the like are no text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Said {
    /// Its text; of content in parts the text parts.
    pub text: String,
    /// Its `finish_reason`.
    pub finish: Option<String>,
}

/// What these whole events of a chat stream say.
pub fn said_in_events(events: &Bytes) -> Said {
    let mut decoder = sse::Decoder::default();
    decoder.push(events.clone());
    let mut said = Said::default();
    while let Ok(Some(event)) = decoder.next_event() {
        take(&event.data, &mut said);
    }
    said
}

/// What a whole chat answer says.
pub fn said_whole(body: &[u8]) -> Said {
    let mut said = Said::default();
    take(body, &mut said);
    said
}

fn take(payload: &[u8], said: &mut Said) {
    if check(payload).is_err() {
        return;
    }
    let choices = members_of(payload, 0..payload.len()).filter(|field| field.is("choices"));
    for choice in choices.flat_map(|field| elements_of(payload, field.range)) {
        let field = |key: &str| members_of(payload, choice.range.clone()).find(|field| field.is(key));
        if field("index").and_then(|index| as_u64(index.raw)).unwrap_or(0) != 0 {
            continue;
        }
        for part in [field("delta"), field("message")].into_iter().flatten() {
            said.text.push_str(&text_of(payload, part.range));
        }
        if let Some(finish) = field("finish_reason").filter(|field| !is_empty(field.raw)) {
            said.finish = string_value(finish.raw).map(Into::into);
        }
    }
}

fn text_of(payload: &[u8], part: Range<usize>) -> String {
    let content = content_as_text(payload, part);
    content.and_then(|raw| string_value(&raw).map(Into::into)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_stream_is_joined_and_its_finish_reason_kept() {
        let events = concat!(
            "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\",\"reasoning_content\":\"hm\"}}]}\n\n",
            "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\\u00e9\"}},{\"index\":1,\"delta\":{\"content\":\"no\"}}]}\n\n",
            "data: {\"choices\":[{\"delta\":{\"content\":[{\"type\":\"thinking\"},{\"type\":\"text\",\"text\":\"\\nb\"}]},\"finish_reason\":\"length\"}]}\n\n",
            "data: {\"choices\":[],\"usage\":{}}\n\ndata: [DONE]\n\n",
        );
        let said = said_in_events(&Bytes::from_static(events.as_bytes()));
        assert_eq!(said, Said { text: "aé\nb".to_owned(), finish: Some("length".to_owned()) });
    }

    #[test]
    fn a_whole_answer_says_the_same() {
        let body = br#"{"choices":[{"index":0,"message":{"role":"assistant","content":"2"},"finish_reason":"stop"}]}"#;
        assert_eq!(said_whole(body), Said { text: "2".to_owned(), finish: Some("stop".to_owned()) });
        assert_eq!(said_whole(b"no json"), Said::default());
    }
}
