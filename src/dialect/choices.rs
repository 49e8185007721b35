//! The `choices` of an answer: what they say, and their translation between the shapes of chat and of text.
//! Whole answers (`message`) and chunks (`delta`) alike; framing and the other members are not its business.

use std::borrow::Cow;
use std::ops::Range;

use super::Shape;
use crate::wire::json::{
    as_u64, elements_of, is_empty, is_null, key_bytes, members_of, quoted, string_is, string_value,
};
use crate::wire::splice::{Edits, ObjectEdit};

/// How many choices of one answer are translated. Nobody asks for as many; a flood of empty ones would cost a
/// multiple of its size in edits.
const MAX_CHOICES: usize = 1024;

/// What the choices of one answer or chunk say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Choices {
    /// There is at least one.
    pub(super) any: bool,
    /// One has content, a tool call, reasoning or the like.
    pub(super) content: bool,
    /// One has a `finish_reason`.
    pub(super) finished: bool,
    /// One has the `finish_reason` `error` (Mistral, OpenRouter).
    pub(super) failed: bool,
    /// One bit for each choice by its `index`: those that are there.
    pub(super) seen: u128,
    /// One bit for each choice by its `index`: those with a `finish_reason`.
    pub(super) ended: u128,
}

/// Reads the array written at `range` of the validated `payload`.
pub(super) fn read_choices(payload: &[u8], range: Range<usize>) -> Choices {
    let mut choices = Choices::default();
    for choice in elements_of(payload, range) {
        choices.any = true;
        let mut index = 0;
        let mut finished = false;
        for field in members_of(payload, choice.range) {
            match field.key_bytes().as_ref() {
                b"index" => index = as_u64(field.raw).unwrap_or(0),
                b"delta" | b"message" => choices.content |= has_content(payload, field.range),
                b"text" => choices.content |= !is_empty(field.raw),
                b"finish_reason" if !is_empty(field.raw) => {
                    finished = true;
                    choices.failed |= string_is(field.raw, "error");
                }
                _ => {}
            }
        }
        choices.finished |= finished;
        choices.seen |= bit_of(index);
        choices.ended |= if finished { bit_of(index) } else { 0 };
    }
    choices
}

/// The bit that stands for a choice; none for an index that nobody uses.
pub(super) fn bit_of(index: u64) -> u128 {
    u32::try_from(index).ok().and_then(|index| 1_u128.checked_shl(index)).unwrap_or(0)
}

/// Whether a delta or message says anything that a person or program waits for. A role alone does not.
/// `images` and `reasoning_details` are OpenRouter's.
fn has_content(payload: &[u8], delta: Range<usize>) -> bool {
    members_of(payload, delta).any(|field| {
        !is_empty(field.raw)
            && matches!(
                field.key_bytes().as_ref(),
                b"content"
                    | b"tool_calls"
                    | b"function_call"
                    | b"reasoning"
                    | b"reasoning_content"
                    | b"reasoning_details"
                    | b"refusal"
                    | b"audio"
                    | b"images"
            )
    })
}

/// Whether an answer is whole or a chunk of a stream: they differ in names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Whole,
    Chunk,
}

impl Form {
    /// `object` of an answer in the shape of chat or text.
    pub(super) fn object_name(self, shape: Shape) -> Option<&'static [u8]> {
        match (shape, self) {
            (Shape::Chat, Form::Whole) => Some(b"\"chat.completion\""),
            (Shape::Chat, Form::Chunk) => Some(b"\"chat.completion.chunk\""),
            (Shape::Text, _) => Some(b"\"text_completion\""),
            (Shape::Embedding, _) => None,
        }
    }

    fn container(self) -> &'static str {
        match self {
            Form::Whole => "message",
            Form::Chunk => "delta",
        }
    }
}

/// Each choice's `delta` or `message` becomes `"text":…`, in its place. A choice without either gets an empty text,
/// since clients join the texts of all chunks.
pub(super) fn chat_to_text<'a>(payload: &'a [u8], choices: Range<usize>, edits: &mut Edits<'a>) {
    for choice in elements_of(payload, choices).take(MAX_CHOICES) {
        let Some(mut object) = ObjectEdit::nested(payload, choice.range.clone()) else {
            continue;
        };
        let said = members_of(payload, choice.range).find(|field| field.is("delta") || field.is("message"));
        let text =
            said.and_then(|field| content_as_text(payload, field.range)).unwrap_or(Cow::Borrowed(b"\"\""));
        object.remove("text");
        if object.rename("delta", "text") {
            object.remove("message");
        } else {
            object.rename("message", "text");
        }
        object.set("text", text);
        set_finish_reason(&mut object);
        edits.object(object);
    }
}

/// The `content` as one JSON string: strings as written, of an array its text parts (Mistral's reasoning models put
/// thinking and text into one array). `None` when there is none.
pub(super) fn content_as_text(payload: &[u8], delta: Range<usize>) -> Option<Cow<'_, [u8]>> {
    let content = members_of(payload, delta).find(|field| field.is("content"))?;
    match content.raw.first()? {
        b'"' => Some(Cow::Borrowed(content.raw)),
        b'[' => {
            let texts =
                elements_of(payload, content.range).filter_map(|part| text_of_part(payload, part.range));
            let joined: String = texts.collect();
            Some(Cow::Owned(quoted(&joined)))
        }
        _ => None,
    }
}

fn text_of_part(payload: &[u8], part: Range<usize>) -> Option<Cow<'_, str>> {
    let mut text = None;
    for field in members_of(payload, part) {
        match key_bytes(field.raw_key).as_ref() {
            b"type" if !string_is(field.raw, "text") => return None,
            b"text" => text = string_value(field.raw),
            _ => {}
        }
    }
    text
}

/// Each choice's `text` becomes a `delta` or `message` with it as `content`, in its place.
/// `needs_role` is asked once for each choice, with its `index`: the role belongs into a stream's first delta only.
pub(super) fn text_to_chat<'a>(
    payload: &'a [u8],
    choices: Range<usize>,
    form: Form,
    mut needs_role: impl FnMut(u64) -> bool,
    edits: &mut Edits<'a>,
) {
    for choice in elements_of(payload, choices).take(MAX_CHOICES) {
        let Some(mut object) = ObjectEdit::nested(payload, choice.range.clone()) else {
            continue;
        };
        let find = |key: &str| members_of(payload, choice.range.clone()).find(|field| field.is(key));
        let index = find("index").and_then(|field| as_u64(field.raw)).unwrap_or(0);
        let text = find("text").filter(|field| !is_null(field.raw));
        let mut said = b"{".to_vec();
        if needs_role(index) {
            said.extend_from_slice(b"\"role\":\"assistant\",");
        }
        said.extend_from_slice(b"\"content\":");
        said.extend_from_slice(text.map_or(b"\"\"", |field| field.raw));
        said.push(b'}');
        object.remove(form.container());
        object.rename("text", form.container());
        object.set(form.container(), said);
        set_finish_reason(&mut object);
        edits.object(object);
    }
}

/// Mistral's SDK refuses a choice in which the key is missing.
fn set_finish_reason(object: &mut ObjectEdit<'_>) {
    if !object.has("finish_reason") {
        object.set("finish_reason", b"null".as_slice());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::json::scan_object;

    fn choices_range(payload: &str) -> Range<usize> {
        scan_object(payload.as_bytes()).unwrap().remove(0).value
    }

    fn read(choices: &str) -> Choices {
        let payload = format!(r#"{{"choices":{choices}}}"#);
        read_choices(payload.as_bytes(), choices_range(&payload))
    }

    #[test]
    fn content_of_every_kind_is_seen() {
        for delta in [
            r#"{"content":"x"}"#,
            r#"{"content":[{"type":"thinking"}]}"#,
            r#"{"role":"assistant","content":null,"tool_calls":[{"index":0}]}"#,
            r#"{"function_call":{"name":"f"}}"#,
            r#"{"content":"","reasoning":"x"}"#,
            r#"{"reasoning_content":"x"}"#,
            r#"{"refusal":"no"}"#,
            r#"{"audio":{"id":"a"}}"#,
        ] {
            let choices = read(&format!(r#"[{{"index":0,"delta":{delta},"finish_reason":null}}]"#));
            assert_eq!(
                choices,
                Choices { any: true, content: true, seen: 1, ..Choices::default() },
                "{delta}"
            );
        }
        assert!(read(r#"[{"text":"x"}]"#).content);
        assert!(read(r#"[{"index":0},{"index":1,"message":{"content":"x"}}]"#).content);
    }

    #[test]
    fn roles_and_emptiness_are_not_content() {
        for choice in [
            r#"{"index":0,"delta":{"role":"assistant"},"finish_reason":null}"#,
            r#"{"delta":{"role":"assistant","content":"","tool_calls":[],"refusal":null,"reasoning":""}}"#,
            r#"{"delta":{}}"#,
            r#"{"delta":null}"#,
            r#"{"text":""}"#,
            r#"{"text":null}"#,
            "{}",
            "7",
        ] {
            assert_eq!(
                read(&format!("[{choice}]")),
                Choices { any: true, seen: 1, ..Choices::default() },
                "{choice}"
            );
        }
        assert_eq!(read("[]"), Choices::default());
        assert_eq!(read("null"), Choices::default());
    }

    #[test]
    fn finish_reasons_are_seen() {
        let stopped = read(r#"[{"delta":{},"finish_reason":"stop"}]"#);
        assert!(stopped.finished && !stopped.failed && !stopped.content);
        assert!(read(r#"[{"delta":{},"finish_reason":"error"}]"#).failed);
        assert!(!read(r#"[{"delta":{},"finish_reason":""}]"#).finished);
    }

    fn to_text(payload: &str) -> String {
        let mut edits = Edits::new();
        chat_to_text(payload.as_bytes(), choices_range(payload), &mut edits);
        String::from_utf8(edits.apply(payload.as_bytes())).unwrap()
    }

    fn to_chat(payload: &str, form: Form, role: bool) -> String {
        let mut edits = Edits::new();
        text_to_chat(payload.as_bytes(), choices_range(payload), form, |_| role, &mut edits);
        String::from_utf8(edits.apply(payload.as_bytes())).unwrap()
    }

    #[test]
    fn a_delta_becomes_a_text() {
        for (choice, expected) in [
            (
                r#"{"index":0,"delta":{"role":"assistant","content":"a\u00e9\n"},"finish_reason":null}"#,
                r#"{"index":0,"text":"a\u00e9\n","finish_reason":null}"#,
            ),
            (r#"{"delta":{},"finish_reason":"stop"}"#, r#"{"text":"","finish_reason":"stop"}"#),
            (r#"{"delta":{"content":null},"finish_reason":null}"#, r#"{"text":"","finish_reason":null}"#),
            (
                r#"{"message":{"content":"x"},"finish_reason":"length"}"#,
                r#"{"text":"x","finish_reason":"length"}"#,
            ),
            (r#"{"index":0}"#, r#"{"index":0,"text":"","finish_reason":null}"#),
        ] {
            assert_eq!(
                to_text(&format!(r#"{{"choices":[{choice}]}}"#)),
                format!(r#"{{"choices":[{expected}]}}"#)
            );
        }
    }

    #[test]
    fn of_an_array_of_parts_only_the_text_is_taken() {
        let parts = r#"[{"type":"thinking","thinking":[{"type":"text","text":"hm"}]},{"type":"text","text":"a\""},{"type":"text","text":"b"}]"#;
        assert_eq!(
            to_text(&format!(r#"{{"choices":[{{"delta":{{"content":{parts}}},"finish_reason":null}}]}}"#)),
            r#"{"choices":[{"text":"a\"b","finish_reason":null}]}"#
        );
    }

    #[test]
    fn a_text_becomes_a_delta_or_a_message() {
        let source = r#"{"choices":[{"text":"a\u00e9","index":0,"logprobs":null,"finish_reason":null}]}"#;
        assert_eq!(
            to_chat(source, Form::Chunk, false),
            r#"{"choices":[{"delta":{"content":"a\u00e9"},"index":0,"logprobs":null,"finish_reason":null}]}"#
        );
        assert_eq!(
            to_chat(source, Form::Whole, true),
            r#"{"choices":[{"message":{"role":"assistant","content":"a\u00e9"},"index":0,"logprobs":null,"finish_reason":null}]}"#
        );
        assert_eq!(
            to_chat(r#"{"choices":[{"index":1,"text":null}]}"#, Form::Chunk, false),
            r#"{"choices":[{"index":1,"delta":{"content":""},"finish_reason":null}]}"#
        );
    }

    #[test]
    fn a_flood_of_choices_is_translated_in_part() {
        let payload = format!(r#"{{"choices":[{}]}}"#, vec![r#"{"delta":{}}"#; MAX_CHOICES + 5].join(","));
        assert_eq!(to_text(&payload).matches(r#""text""#).count(), MAX_CHOICES);
    }
}
