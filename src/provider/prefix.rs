//! How an upstream is asked to go on with an answer that was begun elsewhere: the text so far as an assistant message
//! that it continues. Pure.

use bytes::Bytes;
use serde::Deserialize;

use crate::dialect::Request;
use crate::wire::json::{elements_of, push_quoted};

/// Bytes of text to a token, for what is left of `max_tokens`.
const BYTES_PER_TOKEN: usize = 4;

/// What is known of an upstream that can do it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrefixFacts {
    /// What the request says.
    pub form: PrefixForm,
    /// Whether the answer repeats the text before it goes on.
    #[serde(default)]
    pub echo: bool,
}

/// How a request says that its last message is to be continued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PrefixForm {
    /// `"prefix": true` in the message (Mistral).
    Flag,
    /// `continue_final_message` beside the messages (vLLM).
    Field,
    /// It need not: a last message of the assistant's is continued (llama.cpp).
    Plain,
}

/// The request with the text so far as its last message. `None` when it has no messages.
pub fn continued(request: &Request, so_far: &str, form: PrefixForm) -> Option<Request> {
    let member = request.member("messages")?;
    let raw = request.value("messages")?;
    let mut messages = raw.strip_suffix(b"]")?.to_vec();
    if elements_of(&request.body, member.value.clone()).next().is_some() {
        messages.push(b',');
    }
    messages.extend_from_slice(b"{\"role\":\"assistant\",\"content\":");
    push_quoted(&mut messages, so_far);
    if form == PrefixForm::Flag {
        messages.extend_from_slice(b",\"prefix\":true");
    }
    messages.extend_from_slice(b"}]");
    let mut set = vec![("messages".to_owned(), Bytes::from(messages))];
    if form == PrefixForm::Field {
        set.push(("continue_final_message".to_owned(), Bytes::from_static(b"true")));
        set.push(("add_generation_prompt".to_owned(), Bytes::from_static(b"false")));
    }
    if let Some(most) = request.max_tokens() {
        let said = u64::try_from(so_far.len() / BYTES_PER_TOKEN).unwrap_or(u64::MAX);
        let left = most.saturating_sub(said).max(1).to_string();
        let keys =
            ["max_completion_tokens", "max_tokens"].into_iter().filter(|key| request.member(key).is_some());
        set.extend(keys.map(|key| (key.to_owned(), Bytes::from(left.clone()))));
    }
    Some(request.with(&set))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::{CHAT_COMPLETIONS, read};

    fn request(body: &str) -> Request {
        read(&CHAT_COMPLETIONS, Bytes::from(body.to_owned())).unwrap()
    }

    #[test]
    fn nothing_but_the_last_message_is_added() {
        let asked = request(r#"{"model":"m", "messages":[{"role":"user","content":"hi"} ],"x":1.0}"#);
        let flagged = continued(&asked, "a \"b\"", PrefixForm::Flag).unwrap();
        assert_eq!(
            flagged.body,
            r#"{"model":"m", "messages":[{"role":"user","content":"hi"} ,{"role":"assistant","content":"a \"b\"","prefix":true}],"x":1.0}"#
        );
        let field = continued(&asked, "a", PrefixForm::Field).unwrap();
        assert!(
            field.body.ends_with(br#""x":1.0,"continue_final_message":true,"add_generation_prompt":false}"#)
        );
        let plain = continued(&request(r#"{"model":"m","messages":[]}"#), "a", PrefixForm::Plain).unwrap();
        assert_eq!(plain.body, r#"{"model":"m","messages":[{"role":"assistant","content":"a"}]}"#);
    }

    #[test]
    fn the_whole_is_not_longer_than_was_asked_for() {
        let asked = request(r#"{"model":"m","messages":[],"max_tokens":100}"#);
        let left = |text: &str| continued(&asked, text, PrefixForm::Plain).unwrap().max_tokens();
        assert_eq!((left(&"x".repeat(80)), left(&"x".repeat(8000))), (Some(80), Some(1)));
    }
}
