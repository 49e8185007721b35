//! A client's request with something added or left out, for those who ask others on its behalf. Values that are not
//! named stay as they were, byte for byte.

use std::ops::Range;
use std::sync::OnceLock;

use bytes::Bytes;

use super::{Request, Task};
use crate::wire::json::{self, elements_of, members_of, quoted, string_is};
use crate::wire::splice::Edits;

impl Request {
    /// The same request with this text added to the user's last word: behind the text of its last message, if that is the
    /// user's, else as a message of its own. So roles go on taking turns, which some templates of chats insist on.
    /// Of a request that is no chat, the same.
    pub fn with_last_word(&self, text: &str) -> Request {
        let messages = self.member("messages").filter(|_| self.task == Task::Chat);
        let Some(messages) = messages.map(|member| member.value.clone()) else { return self.clone() };
        let mut edits = Edits::new();
        match elements_of(&self.body, messages.clone()).last() {
            Some(last) => match self.content_of_user(last.range) {
                Some(content) => add_to_content(&self.body, content, text, &mut edits),
                None => {
                    edits.insert(messages.end.saturating_sub(1), [b",".as_slice(), &message(text)].concat())
                }
            },
            None => edits.insert(messages.end.saturating_sub(1), message(text)),
        }
        self.with_body(edits.apply(&self.body))
    }

    /// The conversation alone, to be answered as a whole, without all that was said of how the answer should be.
    pub fn bare(&self) -> Request {
        let mut body = b"{".to_vec();
        for key in ["model", "messages"] {
            let Some(value) = self.value(key) else { continue };
            let comma: &[u8] = if body.len() > 1 { b"," } else { b"" };
            body.extend_from_slice(&[comma, &quoted(key), b":", value].concat());
        }
        body.push(b'}');
        Request { stream: false, include_usage: false, ..self.with_body(body) }
    }

    /// The same request for a streamed answer.
    pub fn streamed(&self) -> Request {
        let set = [("stream".to_owned(), Bytes::from_static(b"true"))];
        Request { stream: true, ..self.with(&set) }
    }

    fn with_body(&self, body: Vec<u8>) -> Request {
        let body = Bytes::from(body);
        match json::scan_object(&body) {
            Ok(members) => Request { body, members, needs: OnceLock::new(), ..self.clone() },
            // What is put together from valid JSON is valid, so this is never reached.
            Err(_) => self.clone(),
        }
    }

    /// The content of a message of the user, if it has one that a text can be added to.
    fn content_of_user(&self, message: Range<usize>) -> Option<Range<usize>> {
        let field = |key: &str| members_of(&self.body, message.clone()).filter(|field| field.is(key)).last();
        let is_user = field("role").is_some_and(|role| string_is(role.raw, "user"));
        let content = field("content").filter(|_| is_user)?;
        matches!(content.raw.first(), Some(b'"' | b'[')).then_some(content.range)
    }
}

fn message(text: &str) -> Vec<u8> {
    [b"{\"role\":\"user\",\"content\":".as_slice(), &quoted(text), b"}"].concat()
}

fn add_to_content(body: &[u8], content: Range<usize>, text: &str, edits: &mut Edits<'_>) {
    let at = content.end.saturating_sub(1);
    if body.get(content.start) == Some(&b'"') {
        let added = quoted(&format!("\n\n{text}"));
        edits.insert(at, added.get(1..added.len() - 1).unwrap_or_default().to_vec());
        return;
    }
    let comma: &[u8] = if elements_of(body, content).next().is_some() { b"," } else { b"" };
    edits.insert(at, [comma, b"{\"type\":\"text\",\"text\":", &quoted(text), b"}"].concat());
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::{CHAT_COMPLETIONS, COMPLETIONS, read};
    use super::*;

    fn chat(messages: &str) -> Request {
        let body = format!(r#"{{"model":"m","temperature":1.0,"messages":{messages},"stop":"x"}}"#);
        read(&CHAT_COMPLETIONS, Bytes::from(body)).unwrap()
    }

    fn messages(request: &Request) -> Value {
        serde_json::from_slice::<Value>(&request.body).unwrap()["messages"].clone()
    }

    #[test]
    fn a_text_follows_the_users_last_word() {
        let added = chat(r#"[{"role":"user","content":"a \"b\""}]"#).with_last_word("c\n\"d\"");
        assert_eq!(messages(&added), json!([{"role": "user", "content": "a \"b\"\n\nc\n\"d\""}]));
        assert_eq!(added.value("temperature"), Some(b"1.0".as_slice()), "all else keeps its bytes");
        assert_eq!(added.value("stop"), Some(b"\"x\"".as_slice()), "and is found where it is now");
        let image = r#"{"type":"image_url","image_url":{"url":"x"}}"#;
        let parts = chat(&format!(r#"[{{"role":"user","content":[{image}]}}]"#)).with_last_word("c");
        assert_eq!(messages(&parts)[0]["content"][1], json!({"type": "text", "text": "c"}));
        assert_eq!(messages(&parts)[0]["content"][0]["type"], "image_url");
        let empty = chat(r#"[{"role":"user","content":[]}]"#).with_last_word("c");
        assert_eq!(messages(&empty)[0]["content"], json!([{"type": "text", "text": "c"}]));
    }

    #[test]
    fn where_the_last_word_is_another_s_it_is_a_message_of_its_own() {
        let word = json!({"role": "user", "content": "c"});
        assert_eq!(messages(&chat("[]").with_last_word("c")), json!([word]));
        for last in [r#"{"role":"assistant","content":"I"}"#, r#"{"role":"user","content":null}"#, "7"] {
            let added = messages(&chat(&format!("[{last}]")).with_last_word("c"));
            assert_eq!((added.as_array().unwrap().len(), &added[1]), (2, &word), "{last}");
        }
        let prompt = read(&COMPLETIONS, Bytes::from_static(br#"{"model":"m","prompt":"p"}"#)).unwrap();
        assert_eq!(prompt.with_last_word("c").body, prompt.body);
    }

    #[test]
    fn a_bare_request_has_the_conversation_and_nothing_else() {
        let bare = chat(r#"[{"role":"user","content":"a"}]"#).bare();
        assert_eq!(&bare.body[..], br#"{"model":"m","messages":[{"role":"user","content":"a"}]}"#);
        assert!(bare.value("temperature").is_none() && !bare.stream);
    }

    #[test]
    fn a_request_for_a_whole_answer_becomes_one_for_a_stream() {
        let streamed = chat(r#"[{"role":"user","content":"a"}]"#).streamed();
        assert!(streamed.stream);
        assert_eq!(streamed.value("stream"), Some(b"true".as_slice()));
    }
}
