//! An answer under another name: for clients that are not to read whose it is. Pure.

use bytes::Bytes;

use super::DONE_EVENT;
use super::stream::framed;
use crate::wire::json::{quoted, scan_object, string_value};
use crate::wire::splice::{Edits, ObjectEdit};
use crate::wire::sse;

/// What an answer tells of its making: where it goes on, what it is made of.
const MAKING: &str = "x_demuxai";

/// A whole answer, told to be of this model.
pub fn renamed(body: &Bytes, model: &str) -> Bytes {
    Bytes::from(edited(body, model, |edits| edits.apply(body)))
}

/// The same of whole events of a stream.
pub fn renamed_events(events: &Bytes, model: &str) -> Bytes {
    let mut decoder = sse::Decoder::default();
    decoder.push(events.clone());
    let mut told = Vec::with_capacity(events.len());
    while let Ok(Some(event)) = decoder.next_event() {
        if event.data.trim_ascii() == b"[DONE]" {
            told.extend_from_slice(DONE_EVENT);
        } else {
            told.extend_from_slice(&edited(&event.data, model, |edits| framed(edits, &event.data).to_vec()));
        }
    }
    Bytes::from(told)
}

/// What is applied: another model, an id that does not say where it is from, and nothing of its making.
fn edited(payload: &[u8], model: &str, apply: impl FnOnce(Edits<'_>) -> Vec<u8>) -> Vec<u8> {
    let Ok(members) = scan_object(payload) else { return apply(Edits::new()) };
    let mut top = ObjectEdit::top(payload, &members);
    if top.has("model") {
        top.set("model", quoted(model));
    }
    let id = members.iter().find(|member| member.key == "id");
    let id = id.and_then(|member| string_value(payload.get(member.value.clone())?));
    if let Some((id, _)) = id.as_deref().and_then(|id| id.rsplit_once('@')) {
        top.set("id", quoted(id));
    }
    top.remove(MAKING);
    let mut edits = Edits::new();
    edits.object(top);
    apply(edits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_an_answer_is_is_not_in_it_and_all_else_is() {
        let body = Bytes::from_static(
            br#"{"id":"c@x@secret","model":"secret/m","choices":[{"model":"kept"}],"x_demuxai":{"a":1}}"#,
        );
        let told = renamed(&body, "coder");
        assert_eq!(told, r#"{"id":"c@x","model":"coder","choices":[{"model":"kept"}]}"#.as_bytes());
        let embeddings = Bytes::from_static(br#"{"object":"list","data":[]}"#);
        assert_eq!(renamed(&embeddings, "coder"), embeddings);
        let events = Bytes::from_static(
            b"data: {\"id\":\"c@secret\",\"model\":\"secret/m\",\"choices\":[]}\n\ndata: [DONE]\n\n",
        );
        let told = renamed_events(&events, "coder");
        let expected = "data: {\"id\":\"c\",\"model\":\"coder\",\"choices\":[]}\n\ndata: [DONE]\n\n";
        assert_eq!(told, expected.as_bytes());
    }
}
