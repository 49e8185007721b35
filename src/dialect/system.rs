//! A text before and behind what the system says in a request, by byte range: all else keeps its bytes.

use std::ops::Range;

use super::{Request, Task};
use crate::wire::json::{self, elements_of, members_of, quoted};
use crate::wire::splice::Edits;

/// Between a text of ours and what was there.
const GAP: &str = "\n\n";

/// What is added to what the system says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SystemText {
    /// Before it.
    pub prepend: Option<String>,
    /// Behind it.
    pub append: Option<String>,
}

// === impl SystemText ===

impl SystemText {
    /// Adds it to a request. Gives whether anything was changed.
    ///
    /// - Chat: to the first message of role `system` or `developer`, be its content a text or a list of parts; where there
    ///   is none, a system message becomes the first one.
    /// - Completions have no system: all of it goes before the prompt, with a blank line between, as an instruction does.
    ///   Prompts of tokens stay as they are.
    /// - Fill in the middle and embeddings are about a text alone, and stay as they are.
    pub fn add(&self, request: &Request, edits: &mut Edits<'_>) -> bool {
        match request.task {
            Task::Chat => self.to_messages(request, edits),
            Task::Completion => self.to_prompt(request, edits),
            Task::Fim | Task::Embedding => false,
        }
    }

    /// Both texts as one.
    fn whole(&self) -> Option<String> {
        match (&self.prepend, &self.append) {
            (Some(before), Some(after)) => Some(format!("{before}{GAP}{after}")),
            (one, other) => one.clone().or_else(|| other.clone()),
        }
    }

    fn to_messages(&self, request: &Request, edits: &mut Edits<'_>) -> bool {
        let Some(messages) = request.member("messages") else { return false };
        let body = &request.body;
        for message in elements_of(body, messages.value.clone()) {
            let mut content = None;
            let mut is_system = false;
            for field in members_of(body, message.range.clone()) {
                if field.is("role") {
                    is_system =
                        json::string_is(field.raw, "system") || json::string_is(field.raw, "developer");
                } else if field.is("content") {
                    content = Some(field.range.clone());
                }
            }
            if is_system {
                return match content {
                    Some(content) => self.to_content(body, content, edits),
                    None => self.as_content(message.range.start + 1, edits),
                };
            }
        }
        let Some(whole) = self.whole() else { return false };
        // Behind the opening bracket; an empty list needs no comma.
        let at = messages.value.start + 1;
        let empty = elements_of(body, messages.value.clone()).next().is_none();
        let mut added = br#"{"role":"system","content":"#.to_vec();
        added.extend_from_slice(&quoted(&whole));
        added.extend_from_slice(if empty { b"}" } else { b"}," });
        edits.insert(at, added);
        true
    }

    /// A message of the system has none: what we say becomes its content. It has other fields, such as its role.
    fn as_content(&self, at: usize, edits: &mut Edits<'_>) -> bool {
        let Some(whole) = self.whole() else { return false };
        edits.insert(at, [br#""content":"#, &quoted(&whole)[..], b","].concat());
        true
    }

    fn to_content(&self, body: &[u8], content: Range<usize>, edits: &mut Edits<'_>) -> bool {
        match body.get(content.start) {
            Some(b'"') => {
                let is_empty = content.len() == 2;
                let gap = if is_empty { "" } else { GAP };
                if let Some(before) = &self.prepend {
                    edits.insert(content.start + 1, inside(&format!("{before}{gap}")));
                }
                if let Some(after) = &self.append {
                    let gap = if is_empty && self.prepend.is_none() { "" } else { GAP };
                    edits.insert(content.end - 1, inside(&format!("{gap}{after}")));
                }
                true
            }
            Some(b'[') => {
                let is_empty = elements_of(body, content.clone()).next().is_none();
                if is_empty {
                    let Some(whole) = self.whole() else { return false };
                    edits.insert(content.start + 1, part(&whole));
                    return true;
                }
                if let Some(before) = &self.prepend {
                    edits.insert(content.start + 1, [part(before), b",".to_vec()].concat());
                }
                if let Some(after) = &self.append {
                    edits.insert(content.end - 1, [b",".to_vec(), part(after)].concat());
                }
                true
            }
            _ => {
                let Some(whole) = self.whole() else { return false };
                edits.replace(content, quoted(&whole));
                true
            }
        }
    }

    fn to_prompt(&self, request: &Request, edits: &mut Edits<'_>) -> bool {
        let (Some(prompt), Some(whole)) = (request.member("prompt"), self.whole()) else { return false };
        let body = &request.body;
        let text = inside(&format!("{whole}{GAP}"));
        if body.get(prompt.value.start) == Some(&b'"') {
            edits.insert(prompt.value.start + 1, text);
            return true;
        }
        let mut changed = false;
        for element in
            elements_of(body, prompt.value.clone()).filter(|element| element.raw.starts_with(b"\""))
        {
            edits.insert(element.range.start + 1, text.clone());
            changed = true;
        }
        changed
    }
}

/// A text as it stands between the quotes.
fn inside(text: &str) -> Vec<u8> {
    let mut raw = quoted(text);
    raw.pop();
    raw.remove(0);
    raw
}

fn part(text: &str) -> Vec<u8> {
    [br#"{"type":"text","text":"#.to_vec(), quoted(text), b"}".to_vec()].concat()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::{CHAT_COMPLETIONS, COMPLETIONS, EMBEDDINGS, Endpoint, FIM_COMPLETIONS, read};
    use super::*;

    fn added(endpoint: &Endpoint, body: &str) -> String {
        let request = read(endpoint, Bytes::copy_from_slice(body.as_bytes())).unwrap();
        let system = SystemText { prepend: Some("A \"1\"".into()), append: Some("Z".into()) };
        let mut edits = Edits::new();
        system.add(&request, &mut edits);
        let out = String::from_utf8(edits.apply(&request.body)).unwrap();
        serde_json::from_str::<serde_json::Value>(&out).unwrap();
        out
    }

    fn chat(messages: &str) -> String {
        let out = added(&CHAT_COMPLETIONS, &format!(r#"{{"model":"m","messages":{messages}}}"#));
        out.strip_prefix(r#"{"model":"m","messages":"#).unwrap().strip_suffix('}').unwrap().to_owned()
    }

    #[test]
    fn a_system_message_that_is_there_keeps_its_bytes_between_ours() {
        assert_eq!(
            chat(r#"[{"content" : "be\u0020kind","role":"system", "x":1},{"role":"user","content":"hi"}]"#),
            r#"[{"content" : "A \"1\"\n\nbe\u0020kind\n\nZ","role":"system", "x":1},{"role":"user","content":"hi"}]"#
        );
        assert_eq!(
            chat(r#"[{"role":"developer","content":[{"type":"text","text":"b"}]}]"#),
            r#"[{"role":"developer","content":[{"type":"text","text":"A \"1\""},{"type":"text","text":"b"},{"type":"text","text":"Z"}]}]"#
        );
        assert_eq!(
            chat(r#"[{"role":"system","content":""}]"#),
            r#"[{"role":"system","content":"A \"1\"\n\nZ"}]"#
        );
        assert_eq!(
            chat(r#"[{"role":"system","content":null}]"#),
            r#"[{"role":"system","content":"A \"1\"\n\nZ"}]"#
        );
        assert_eq!(chat(r#"[{"role":"system"}]"#), r#"[{"content":"A \"1\"\n\nZ","role":"system"}]"#);
        assert_eq!(
            chat(r#"[{"role":"system","content":[]}]"#),
            r#"[{"role":"system","content":[{"type":"text","text":"A \"1\"\n\nZ"}]}]"#
        );
    }

    #[test]
    fn without_a_system_message_one_becomes_the_first() {
        assert_eq!(
            chat(r#"[ {"role":"user","content":"hi"}]"#),
            r#"[{"role":"system","content":"A \"1\"\n\nZ"}, {"role":"user","content":"hi"}]"#
        );
        assert_eq!(chat("[]"), r#"[{"role":"system","content":"A \"1\"\n\nZ"}]"#);
    }

    #[test]
    fn a_completion_gets_it_before_its_prompt_and_what_is_no_conversation_stays() {
        assert_eq!(
            added(&COMPLETIONS, r#"{"model":"m","prompt":"go"}"#),
            r#"{"model":"m","prompt":"A \"1\"\n\nZ\n\ngo"}"#
        );
        assert_eq!(
            added(&COMPLETIONS, r#"{"model":"m","prompt":["a",[1,2]]}"#),
            r#"{"model":"m","prompt":["A \"1\"\n\nZ\n\na",[1,2]]}"#
        );
        for (endpoint, body) in [
            (&COMPLETIONS, r#"{"model":"m","prompt":[1,2]}"#),
            (&FIM_COMPLETIONS, r#"{"model":"m","prompt":"a","suffix":"b"}"#),
            (&EMBEDDINGS, r#"{"model":"m","input":"a"}"#),
        ] {
            assert_eq!(added(endpoint, body), body);
        }
    }
}
