//! An answer that goes on where another upstream broke off: what had been said, and the second answer made to follow
//! it. Text only: what has tool calls, reasoning or several choices cannot be continued. Pure.

use std::ops::Range;

use bytes::Bytes;

use super::stream::framed;
use super::{DONE_EVENT, Request, Task};
use crate::wire::json::{
    Member, as_u64, elements_of, is_empty, is_null, members_of, push_quoted, quoted, scan_object, string_is,
    string_value,
};
use crate::wire::splice::{Edits, ObjectEdit};
use crate::wire::sse;

/// An exact repetition at least so long is an echo, also where none is expected: nobody says the same again.
const UNMISTAKABLE: usize = 32;

/// Whether the answer to a request can be continued by another upstream if it breaks off: a streamed chat of one choice
/// in plain text, without tools, that the client did not begin itself.
pub fn can_be_continued(request: &Request) -> bool {
    let value = |key: &str| request.value(key).filter(|raw| !is_null(raw));
    request.task == Task::Chat
        && request.stream
        && value("n").is_none_or(|raw| as_u64(raw) == Some(1))
        && ["response_format", "modalities", "audio", "logprobs"].iter().all(|key| value(key).is_none())
        && !request.needs().tools
        && !ends_with_the_assistant(request)
}

fn ends_with_the_assistant(request: &Request) -> bool {
    let Some(messages) = request.member("messages") else { return false };
    let last = elements_of(&request.body, messages.value.clone()).last();
    last.is_some_and(|message| {
        members_of(&request.body, message.range)
            .any(|field| field.is("role") && string_is(field.raw, "assistant"))
    })
}

/// The text in these whole events of a chat stream. `None` when there is anything in them that cannot be continued:
/// a finish reason, the end, or more than the text of one choice.
pub fn plain_text(events: &Bytes) -> Option<String> {
    let mut decoder = sse::Decoder::default();
    decoder.push(events.clone());
    let mut text = String::new();
    while let Ok(Some(event)) = decoder.next_event() {
        let members = scan_object(&event.data).ok()?;
        for member in members.iter().filter(|member| member.key == "choices") {
            text.push_str(&text_of_choices(&event.data, member.value.clone())?);
        }
    }
    Some(text)
}

fn text_of_choices(payload: &[u8], choices: Range<usize>) -> Option<String> {
    let mut text = String::new();
    for (place, choice) in elements_of(payload, choices).enumerate() {
        for field in members_of(payload, choice.range) {
            match field.key_bytes().as_ref() {
                b"index" if place > 0 || as_u64(field.raw) != Some(0) => return None,
                b"finish_reason" if !is_empty(field.raw) => return None,
                b"delta" => text.push_str(&text_of_delta(payload, field.range)?),
                _ => {}
            }
        }
    }
    Some(text)
}

fn text_of_delta(payload: &[u8], delta: Range<usize>) -> Option<String> {
    let mut text = String::new();
    for field in members_of(payload, delta) {
        match field.key_bytes().as_ref() {
            b"role" => {}
            b"content" if !is_null(field.raw) => text.push_str(&string_value(field.raw)?),
            _ if is_empty(field.raw) => {}
            _ => return None,
        }
    }
    Some(text)
}

/// The events of an answer that continues another one, as the client gets them: without a role of its own, without a
/// repetition of what was said before, and marked in its first event.
#[derive(Debug)]
pub struct Continuation {
    /// Who continues, until that is told.
    mark: Option<String>,
    /// What is left of the text before, if this answer repeats it; empty once that is settled.
    repeated: String,
    /// Events that seem to repeat it.
    held: Vec<u8>,
    settled: bool,
}

// === impl Continuation ===

impl Continuation {
    /// One by this model, of an answer that has this text so far. `echo`: the upstream is known to repeat it.
    pub fn new(by: &str, so_far: &str, echo: bool) -> Self {
        let expected = echo || so_far.len() >= UNMISTAKABLE;
        Continuation {
            mark: Some(by.to_owned()),
            repeated: if expected { so_far.to_owned() } else { String::new() },
            held: Vec::new(),
            settled: !expected,
        }
    }

    /// Takes whole events, gives those for the client.
    pub fn push(&mut self, events: &Bytes) -> Bytes {
        let mut ready = Vec::with_capacity(events.len());
        let mut decoder = sse::Decoder::default();
        decoder.push(events.clone());
        while let Ok(Some(event)) = decoder.next_event() {
            self.event(&event.data, &mut ready);
        }
        Bytes::from(ready)
    }

    /// What was held back when the answer ended.
    pub fn finish(&mut self) -> Bytes {
        self.settled = true;
        Bytes::from(std::mem::take(&mut self.held))
    }

    fn event(&mut self, payload: &Bytes, ready: &mut Vec<u8>) {
        let Ok(members) = scan_object(payload) else {
            ready.append(&mut self.held);
            ready.extend_from_slice(DONE_EVENT);
            return;
        };
        let deltas = deltas(payload, &members);
        let content = deltas
            .first()
            .and_then(|delta| members_of(payload, delta.clone()).find(|field| field.is("content")));
        let said = content.and_then(|field| string_value(field.raw)).unwrap_or_default();
        let mut kept = None;
        if !self.settled && !said.is_empty() {
            match self.without_repetition(&said) {
                Repetition::Goes => {
                    self.held.extend(self.edited(payload, &members, &deltas, None, false));
                    return;
                }
                Repetition::Over(rest) => {
                    self.held.clear();
                    kept = Some(rest);
                }
                Repetition::None => ready.append(&mut self.held),
            }
        }
        let marks = !members.is_empty();
        ready.extend(self.edited(payload, &members, &deltas, kept.as_deref(), marks));
        if marks {
            self.mark = None;
        }
    }

    fn without_repetition(&mut self, said: &str) -> Repetition {
        let left = self.repeated.as_str();
        if let Some(rest) = said.strip_prefix(left) {
            let rest = rest.to_owned();
            self.settled = true;
            return Repetition::Over(rest);
        }
        if let Some(more) = left.strip_prefix(said) {
            self.repeated = more.to_owned();
            return Repetition::Goes;
        }
        self.settled = true;
        // Upstreams cut off the white space at the end of what they are to continue.
        if left.trim().is_empty() { Repetition::Over(said.to_owned()) } else { Repetition::None }
    }

    fn edited(
        &self,
        payload: &Bytes,
        members: &[Member],
        deltas: &[Range<usize>],
        content: Option<&str>,
        marks: bool,
    ) -> Vec<u8> {
        let mut edits = Edits::new();
        for (place, delta) in deltas.iter().enumerate() {
            let Some(mut object) = ObjectEdit::nested(payload, delta.clone()) else { continue };
            object.remove("role");
            if let Some(content) = content.filter(|_| place == 0) {
                object.set("content", quoted(content));
            }
            edits.object(object);
        }
        if let Some(by) = self.mark.as_ref().filter(|_| marks) {
            let mut value = b"{\"continued_by\":".to_vec();
            push_quoted(&mut value, by);
            value.push(b'}');
            let mut top = ObjectEdit::top(payload, members);
            top.set("x_demuxai", value);
            edits.object(top);
        }
        framed(edits, payload).to_vec()
    }
}

enum Repetition {
    /// All of it may be repetition, and more may follow.
    Goes,
    /// It ends here; this is what follows it.
    Over(String),
    /// It is none.
    None,
}

pub(super) fn deltas(payload: &[u8], members: &[Member]) -> Vec<Range<usize>> {
    let choices = members.iter().filter(|member| member.key == "choices");
    choices
        .flat_map(|member| elements_of(payload, member.value.clone()))
        .filter_map(|choice| members_of(payload, choice.range).find(|field| field.is("delta")))
        .map(|field| field.range)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::{CHAT_COMPLETIONS, read};
    use super::*;

    fn event(delta: &str) -> String {
        format!(
            "data: {{\"id\":\"x\",\"choices\":[{{\"index\":0,\"delta\":{delta},\"finish_reason\":null}}]}}\n\n"
        )
    }

    fn content(text: &str) -> String {
        event(&format!(r#"{{"content":"{text}"}}"#))
    }

    fn text(events: &str) -> Option<String> {
        plain_text(&Bytes::from(events.to_owned()))
    }

    /// The text that a client joins, and all events.
    fn continued(so_far: &str, echo: bool, deltas: &[&str]) -> (String, String) {
        let mut continuation = Continuation::new("b/m", so_far, echo);
        let mut all = String::new();
        for delta in deltas {
            let ready = continuation.push(&Bytes::from(content(delta)));
            all.push_str(std::str::from_utf8(&ready).unwrap());
        }
        all.push_str(std::str::from_utf8(&continuation.finish()).unwrap());
        (text(&all).unwrap(), all)
    }

    #[test]
    fn nothing_but_a_plain_chat_of_one_choice_is_continued() {
        let can = |more: &str| {
            let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"hi"}}]{more}}}"#);
            can_be_continued(&read(&CHAT_COMPLETIONS, Bytes::from(body)).unwrap())
        };
        assert!(can(r#","stream":true"#) && can(r#","stream":true,"n":1,"logprobs":null"#));
        for more in ["", r#","n":2"#, r#","tools":[{}]"#, r#","response_format":{"type":"json_object"}"#] {
            assert!(!can(&format!("{more},\"stream\":{}", !more.is_empty())), "{more}");
        }
        let begun = r#"{"model":"m","stream":true,"messages":[{"role":"assistant","content":"I"}]}"#;
        assert!(!can_be_continued(&read(&CHAT_COMPLETIONS, Bytes::from(begun)).unwrap()));
    }

    #[test]
    fn nothing_but_text_that_is_not_over_can_be_continued() {
        let role = event(r#"{"role":"assistant","content":""}"#);
        assert_eq!(text(&format!("{role}{}{}", content("a\\n"), content("b"))).as_deref(), Some("a\nb"));
        assert_eq!(text("data: {\"choices\":[],\"usage\":{}}\n\n").as_deref(), Some(""));
        for delta in
            [r#"{"tool_calls":[{"index":0}]}"#, r#"{"reasoning":"hm"}"#, r#"{"content":[{"type":"text"}]}"#]
        {
            assert_eq!(text(&event(delta)), None, "{delta}");
        }
        assert_eq!(text("data: {\"choices\":[{\"index\":1,\"delta\":{\"content\":\"x\"}}]}\n\n"), None);
        assert_eq!(text("data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n"), None);
        assert_eq!(text("data: [DONE]\n\n"), None);
    }

    #[test]
    fn a_second_role_never_comes_through_and_who_continues_is_told_once() {
        let mut continuation = Continuation::new("b/m", "One", false);
        let first = continuation.push(&Bytes::from(event(r#"{"role":"assistant","content":" two"}"#)));
        assert_eq!(
            first,
            "data: {\"id\":\"x\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" two\"},\"finish_reason\":null}],\"x_demuxai\":{\"continued_by\":\"b/m\"}}\n\n"
        );
        let rest = format!("{}data: [DONE]\n\n", content(" three"));
        assert_eq!(continuation.push(&Bytes::from(rest.clone())), rest);
    }

    #[test]
    fn what_was_said_is_not_said_again() {
        for deltas in [&["One two", " three"][..], &["One ", "two three"], &["One two three"]] {
            assert_eq!(continued("One two", true, deltas).0, " three", "{deltas:?}");
        }
        let (joined, all) = continued("One two ", true, &["One", " two", "three"]);
        assert_eq!(joined, "three", "without the white space at the end");
        assert_eq!(all.matches("continued_by").count(), 1);
        let long = "It was a dark and stormy night, and";
        assert_eq!(continued(long, false, &[long, " the rain"]).0, " the rain");
    }

    #[test]
    fn what_only_looks_like_it_is_not_lost() {
        assert_eq!(continued("Ha", false, &["Ha", "!"]).0, "Ha!");
        assert_eq!(continued("One two", true, &["One ", "more"]).0, "One more");
        assert_eq!(continued("One two", true, &["One"]).0, "One", "it ended there");
        assert_eq!(continued("One two", true, &[" three"]).0, " three");
    }
}
