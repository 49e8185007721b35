//! What a request says and asks for, for those who decide by it where it goes: how long its prompt is, what the user
//! and the system said, and whether it wants sounds, a format or reasoning.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::ops::Range;

use super::needs::Span;
use super::{Request, Task};
use crate::wire::json::{self, elements_of, is_empty, members_of, string_is, string_value};

/// A text is cut at most so many bytes before the place where it is too long.
const MOST_BACK: usize = 4096;

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

    /// What the user said last, or the prompt; parts of a message one below the other. Of what is longer than `most` bytes
    /// as written, the begin and the end.
    pub fn user_text(&self, most: usize) -> String {
        if self.task != Task::Embedding && self.member("messages").is_some() {
            return self.text_at(self.needs().user, most);
        }
        let values = ["prompt", "input"].iter().filter_map(|key| self.member(key));
        let texts: Vec<&[u8]> = values.flat_map(|member| self.texts(member.value.clone(), most)).collect();
        joined(&texts, most)
    }

    /// What the first message of the system or developer says, likewise.
    pub fn system_text(&self, most: usize) -> String {
        self.text_at(self.needs().system, most)
    }

    fn text_at(&self, content: Option<Span>, most: usize) -> String {
        let Some((start, end)) = content else { return String::new() };
        joined(&self.texts(start..end, most), most)
    }

    /// A text, or all texts in a list, as written: strings, and the `text` of parts. Of many, only those at the begin and at
    /// the end that have `most` bytes each.
    fn texts(&self, range: Range<usize>, most: usize) -> Vec<&[u8]> {
        let raw = self.body.get(range.clone()).unwrap_or_default();
        let is_text = |raw: &[u8]| raw.starts_with(b"\"");
        if is_text(raw) {
            return vec![raw];
        }
        let mut ends = Ends { most, ..Ends::default() };
        for element in elements_of(&self.body, range) {
            if is_text(element.raw) {
                ends.take(element.raw);
            } else {
                let fields = members_of(&self.body, element.range).filter(|field| field.is("text"));
                fields.map(|field| field.raw).filter(|raw| is_text(raw)).for_each(|raw| ends.take(raw));
            }
        }
        ends.begin.into_iter().chain(ends.end).collect()
    }
}

/// Texts at the begin and at the end of a list, of `most` bytes each.
#[derive(Default)]
struct Ends<'a> {
    most: usize,
    begin: Vec<&'a [u8]>,
    begun: usize,
    end: VecDeque<&'a [u8]>,
    ended: usize,
}

impl<'a> Ends<'a> {
    fn take(&mut self, raw: &'a [u8]) {
        if self.begun < self.most {
            self.begun += raw.len();
            self.begin.push(raw);
            return;
        }
        self.ended += raw.len();
        self.end.push_back(raw);
        while let Some(front) = self.end.front().filter(|front| self.ended - front.len() >= self.most) {
            self.ended -= front.len();
            self.end.pop_front();
        }
    }
}

/// Texts one below the other: all of them, or of more than `most` bytes as written the first half of that and the last.
fn joined(texts: &[&[u8]], most: usize) -> String {
    let mut text = String::new();
    let length: usize = texts.iter().map(|raw| raw.len()).sum();
    if length <= most {
        texts.iter().for_each(|raw| add(raw, &mut text));
        return text;
    }
    let mut room = most / 2;
    for raw in texts {
        if room == 0 {
            break;
        }
        add(&first(raw, room), &mut text);
        room = room.saturating_sub(raw.len());
    }
    let (mut room, mut end) = (most / 2, Vec::new());
    for raw in texts.iter().rev() {
        if room == 0 {
            break;
        }
        end.push(last(raw, room));
        room = room.saturating_sub(raw.len());
    }
    end.iter().rev().for_each(|raw| add(raw, &mut text));
    text
}

fn add(raw: &[u8], text: &mut String) {
    let Some(more) = string_value(raw) else { return };
    if !text.is_empty() {
        text.push('\n');
    }
    text.push_str(&more);
}

/// The begin of a string as written, as a string again, of no more than so many bytes.
fn first(raw: &[u8], room: usize) -> Cow<'_, [u8]> {
    if raw.len() <= room {
        return Cow::Borrowed(raw);
    }
    let cut = (1..room).rev().take(MOST_BACK).find(|at| may_cut(raw, *at)).unwrap_or(1);
    Cow::Owned([raw.get(..cut).unwrap_or_default(), b"\""].concat())
}

/// The same of its end.
fn last(raw: &[u8], room: usize) -> Cow<'_, [u8]> {
    if raw.len() <= room {
        return Cow::Borrowed(raw);
    }
    let upto = raw.len() - 1;
    let cut = (raw.len() - room..upto).take(MOST_BACK).find(|at| may_cut(raw, *at)).unwrap_or(upto);
    Cow::Owned([b"\"", raw.get(cut..).unwrap_or_default()].concat())
}

/// Whether a string as written may be cut before this byte: neither in a character nor in an escape. Not for every place
/// where that is so, but for one near every other, unless the text is of nothing but backslashes.
fn may_cut(raw: &[u8], at: usize) -> bool {
    // A `\u` escape goes on for five bytes behind its backslash.
    let before = raw.get(at.saturating_sub(5)..at).unwrap_or_default();
    let Some(byte) = raw.get(at) else { return false };
    let begins = *byte == b'\\' && before.last() != Some(&b'\\');
    begins || (!(0x80..0xC0).contains(byte) && !before.contains(&b'\\'))
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
        assert_eq!(request(&EMBEDDINGS, r#""input":"text""#).user_text(99), "text");
    }

    #[test]
    fn of_a_long_text_the_begin_and_the_end_are_left_whatever_it_is_cut_in() {
        for filling in ["x", "é", "这", r"\n", r"\u00e9", r"\ud83d\ude00", r#"\""#, "a b", r"\\ "] {
            let long = format!("first {} last", filling.repeat(2_000));
            let parts = |text: &str| {
                format!(r#"[{{"type":"text","text":"{text}"}},{{"type":"text","text":"and more"}}]"#)
            };
            for (content, end) in [(format!("\"{long}\""), " last"), (parts(&long), " last\nand more")] {
                let said = chat(&format!(r#""messages":[{{"role":"user","content":{content}}}]"#));
                for most in [300, 301, 302, 303, 304, 305, 306, 307] {
                    let text = said.user_text(most);
                    assert!(text.starts_with("first ") && text.ends_with(end), "{filling}: {text}");
                    assert!(text.len() <= most + 2 && text.len() > most / 8, "{filling}: {}", text.len());
                    let wrong = text.matches(char::REPLACEMENT_CHARACTER).count();
                    assert!(wrong <= 2, "{filling}: {text}");
                }
            }
        }
        let hostile =
            chat(&format!(r#""messages":[{{"role":"user","content":"{}"}}]"#, r"\\".repeat(50_000)));
        assert!(hostile.user_text(20_000).len() <= 20_000);
        let many = r#"{"type":"text","text":"a"},"#.repeat(500);
        let many = chat(&format!(r#""messages":[{{"role":"user","content":[{many}"z"]}}]"#));
        let text = many.user_text(30);
        assert!(text.starts_with("a\na") && text.ends_with("a\nz") && text.len() < 30, "{text}");
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
