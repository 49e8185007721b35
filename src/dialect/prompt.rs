//! What a request says and asks for, for those who decide by it where it goes: how long its prompt is, what the user
//! and the system said, and whether it wants sounds, a format or reasoning.

use super::{Request, Task};
use crate::wire::json::{self, elements_of, is_empty, is_null, members_of, string_is, string_value};

/// Fields that ask for reasoning, by the names that clients have for them.
const REASONING: [&str; 4] = ["reasoning_effort", "reasoning", "thinking", "think"];
/// What turns it off where it stands in one of them, or in a field of one.
const OFF: [&str; 4] = ["none", "disabled", "off", "false"];

impl Request {
    /// The bytes of its text as written, without images and other media; of embeddings those of the input.
    pub fn prompt_bytes(&self) -> usize {
        match self.task {
            Task::Embedding => self.value("input").map_or(0, <[u8]>::len),
            _ => self.needs().text_bytes,
        }
    }

    /// Whether the answer is to be spoken.
    pub fn wants_audio(&self) -> bool {
        let named =
            |raw: &[u8]| elements_of(raw, 0..raw.len()).any(|modality| string_is(modality.raw, "audio"));
        self.value("modalities").is_some_and(named) || self.value("audio").is_some_and(|raw| !is_empty(raw))
    }

    /// Whether the answer is to have another format than text.
    pub fn wants_format(&self) -> bool {
        let is_text = |raw: &[u8]| {
            members_of(raw, 0..raw.len()).any(|field| field.is("type") && string_is(field.raw, "text"))
        };
        self.value("response_format").is_some_and(|raw| !is_empty(raw) && !is_text(raw))
    }

    /// Whether it asks for reasoning, and does not turn it off in the same place.
    pub fn wants_reasoning(&self) -> bool {
        REASONING.iter().filter_map(|key| self.value(key)).any(|raw| {
            let off =
                |raw: &[u8]| json::as_bool(raw) == Some(false) || OFF.iter().any(|word| string_is(raw, word));
            let turned_off = members_of(raw, 0..raw.len())
                .any(|field| ["effort", "type", "enabled"].iter().any(|key| field.is(key)) && off(field.raw));
            !is_empty(raw) && !off(raw) && !turned_off
        })
    }

    /// What the user said last, or the prompt, as far as `most` bytes; parts of a message one below the other.
    pub fn user_text(&self, most: usize) -> String {
        let Some(messages) = self.member("messages") else {
            let mut text = String::new();
            for key in ["prompt", "input"] {
                if let Some(member) = self.member(key) {
                    self.take_text(member.value.clone(), most, &mut text);
                }
            }
            return text;
        };
        let of_user = |message: &json::Element<'_>| self.has_role(message, &["user"]);
        match elements_of(&self.body, messages.value.clone()).filter(of_user).last() {
            Some(message) => self.content(&message, most),
            None => String::new(),
        }
    }

    /// What the first message of the system or developer says, as far as `most` bytes.
    pub fn system_text(&self, most: usize) -> String {
        let Some(messages) = self.member("messages") else { return String::new() };
        let of_system = |message: &json::Element<'_>| self.has_role(message, &["system", "developer"]);
        match elements_of(&self.body, messages.value.clone()).find(of_system) {
            Some(message) => self.content(&message, most),
            None => String::new(),
        }
    }

    fn has_role(&self, message: &json::Element<'_>, roles: &[&str]) -> bool {
        let is_one = |raw: &[u8]| roles.iter().any(|role| string_is(raw, role));
        members_of(&self.body, message.range.clone()).any(|field| field.is("role") && is_one(field.raw))
    }

    fn content(&self, message: &json::Element<'_>, most: usize) -> String {
        let mut text = String::new();
        for field in members_of(&self.body, message.range.clone()).filter(|field| field.is("content")) {
            self.take_text(field.range, most, &mut text);
        }
        text
    }

    /// Adds a text, or all texts in a list: strings, and the `text` of parts.
    fn take_text(&self, range: std::ops::Range<usize>, most: usize, text: &mut String) {
        let raw = self.body.get(range.clone()).unwrap_or_default();
        if is_null(raw) {
            return;
        }
        if raw.starts_with(b"\"") {
            add(raw, most, text);
            return;
        }
        for element in elements_of(&self.body, range) {
            if element.raw.starts_with(b"\"") {
                add(element.raw, most, text);
            }
            for field in members_of(&self.body, element.range).filter(|field| field.is("text")) {
                add(field.raw, most, text);
            }
            if text.len() >= most {
                return;
            }
        }
    }
}

fn add(raw: &[u8], most: usize, text: &mut String) {
    let Some(more) = string_value(raw) else { return };
    if !text.is_empty() {
        text.push('\n');
    }
    let room = most.saturating_sub(text.len());
    text.push_str(more.get(..more.floor_char_boundary(room)).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::{CHAT_COMPLETIONS, COMPLETIONS, EMBEDDINGS, Endpoint, read};
    use super::*;

    fn request(endpoint: &Endpoint, more: &str) -> Request {
        read(endpoint, Bytes::from(format!(r#"{{"model":"m",{more}}}"#))).unwrap()
    }

    fn chat(more: &str) -> Request {
        request(&CHAT_COMPLETIONS, more)
    }

    #[test]
    fn the_last_word_of_the_user_and_the_first_of_the_system_are_found() {
        let long = chat(
            r#""messages":[{"role":"developer","content":"be \"brief\""},{"role":"system","content":"second"},
               {"content":"first","role":"user"},{"role":"assistant","content":"hm"},
               {"role":"user","content":[{"type":"text","text":"one"},{"type":"image_url","image_url":{"url":"x"}},{"type":"text","text":"two"}]},
               {"role":"tool","content":"result"}]"#,
        );
        assert_eq!(
            (long.user_text(99), long.system_text(99)),
            ("one\ntwo".to_owned(), "be \"brief\"".to_owned())
        );
        let none = chat(r#""messages":[{"role":"assistant","content":null}]"#);
        assert_eq!((none.user_text(99), none.system_text(99)), (String::new(), String::new()));
    }

    #[test]
    fn a_prompt_or_an_input_is_the_user_s_word() {
        assert_eq!(request(&COMPLETIONS, r#""prompt":["a","b"]"#).user_text(99), "a\nb");
        assert_eq!(request(&COMPLETIONS, r#""prompt":"def f""#).user_text(3), "def");
        assert_eq!(request(&EMBEDDINGS, r#""input":"text""#).user_text(99), "text");
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let said = chat(r#""messages":[{"role":"user","content":"aéé"}]"#);
        assert_eq!((said.user_text(2), said.user_text(3)), ("a".to_owned(), "aé".to_owned()));
    }

    #[test]
    fn reasoning_is_asked_for_in_several_ways_and_turned_off_in_the_same() {
        let asks = |field: &str| chat(&format!(r#""messages":[],{field}"#)).wants_reasoning();
        for field in [
            r#""reasoning_effort":"low""#,
            r#""reasoning":{"effort":"high"}"#,
            r#""thinking":{"type":"enabled","budget_tokens":1024}"#,
            r#""think":true"#,
        ] {
            assert!(asks(field), "{field}");
        }
        for field in [
            r#""reasoning_effort":"none""#,
            r#""reasoning_effort":null"#,
            r#""reasoning":{"effort":"none"}"#,
            r#""reasoning":{"enabled":false}"#,
            r#""thinking":{"type":"disabled"}"#,
            r#""think":false"#,
            r#""reasoning":{}"#,
            r#""temperature":1"#,
        ] {
            assert!(!asks(field), "{field}");
        }
    }

    #[test]
    fn a_format_other_than_text_and_a_spoken_answer_are_told() {
        let of = |field: &str| {
            let request = chat(&format!(r#""messages":[],{field}"#));
            (request.wants_format(), request.wants_audio())
        };
        assert_eq!(of(r#""response_format":{"type":"json_schema"}"#), (true, false));
        assert_eq!(of(r#""response_format":{"type":"text"}"#), (false, false));
        assert_eq!(of(r#""response_format":null"#), (false, false));
        assert_eq!(of(r#""modalities":["text","audio"]"#), (false, true));
        assert_eq!(of(r#""audio":{"voice":"x"}"#), (false, true));
        assert_eq!(of(r#""modalities":["text"]"#), (false, false));
    }

    #[test]
    fn the_length_of_a_prompt_is_that_of_its_text() {
        assert_eq!(chat(r#""messages":[{"role":"user","content":"12"}]"#).prompt_bytes(), 4);
        assert_eq!(request(&EMBEDDINGS, r#""input":"12345""#).prompt_bytes(), 7);
    }
}
