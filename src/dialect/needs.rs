//! What a request needs of a model beyond its task: tools, images, room for its prompt. Read once, for requests that
//! have a choice of models or may have more than text in them.

use std::ops::Range;

use super::{Request, Task};
use crate::wire::json::{elements_of, is_empty, members_of, string_is};

/// What a request needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Needs {
    /// It offers tools or functions, or tells of calls of them.
    pub tools: bool,
    /// A message has an image.
    pub vision: bool,
    /// A message has a sound.
    pub audio: bool,
    /// The bytes of its text as written, without images and other media, whose size says nothing of their tokens.
    pub text_bytes: usize,
    /// Images, sounds and files among its parts.
    pub media: usize,
    /// The bytes of those as written.
    pub media_bytes: usize,
    /// Where the content of the user's last message is in the body; nowhere if it has none.
    pub user: Option<Span>,
    /// The same of the first message of the system or developer.
    pub system: Option<Span>,
}

/// A part of the body: from, and up to.
pub type Span = (usize, usize);

/// What parts with an image are called.
const IMAGES: [&str; 3] = ["image_url", "input_image", "image"];
/// What parts with another medium are called.
const OTHER_MEDIA: [&str; 5] = ["file", "input_file", "document", "video_url", "input_video"];
/// What parts with a sound are called.
const SOUNDS: [&str; 3] = ["input_audio", "audio", "audio_url"];

/// Fields that are text to the model besides the messages.
const TEXT_FIELDS: [&str; 4] = ["prompt", "suffix", "tools", "functions"];

/// Reads them. Embeddings have no text here: how much of a long input is used is the upstream's to say.
pub(super) fn read(request: &Request) -> Needs {
    let mut needs = Needs::default();
    if request.task == Task::Embedding {
        return needs;
    }
    for key in TEXT_FIELDS {
        needs.text_bytes += request.value(key).map_or(0, <[u8]>::len);
    }
    needs.tools =
        ["tools", "functions"].iter().any(|key| request.value(key).is_some_and(|raw| !is_empty(raw)));
    if let Some(messages) = request.member("messages") {
        for message in elements_of(&request.body, messages.value.clone()) {
            needs.message(&request.body, message.range);
        }
    }
    needs
}

// === impl Needs ===

impl Needs {
    fn message(&mut self, body: &[u8], message: Range<usize>) {
        let (mut user, mut system, mut content) = (false, false, (0, 0));
        for field in members_of(body, message) {
            let key = field.key_bytes();
            if key.as_ref() == b"content" {
                content = (field.range.start, field.range.end);
            }
            match key.as_ref() {
                b"role" => {
                    self.tools |= string_is(field.raw, "tool") || string_is(field.raw, "function");
                    user = string_is(field.raw, "user");
                    system = string_is(field.raw, "system") || string_is(field.raw, "developer");
                }
                b"content" if field.raw.starts_with(b"[") => {
                    for part in elements_of(body, field.range) {
                        self.part(body, part.range);
                    }
                }
                b"content" => self.text_bytes += field.raw.len(),
                b"tool_calls" | b"function_call" if !is_empty(field.raw) => {
                    self.tools = true;
                    self.text_bytes += field.raw.len();
                }
                _ => {}
            }
        }
        if user {
            self.user = Some(content);
        }
        if system {
            self.system.get_or_insert(content);
        }
    }

    fn part(&mut self, body: &[u8], part: Range<usize>) {
        let length = part.len();
        for field in members_of(body, part) {
            match field.key_bytes().as_ref() {
                b"text" => self.text_bytes += field.raw.len(),
                b"type" => {
                    let is_one_of = |kinds: &[&str]| kinds.iter().any(|kind| string_is(field.raw, kind));
                    let image = is_one_of(&IMAGES);
                    let sound = is_one_of(&SOUNDS);
                    self.vision |= image;
                    self.audio |= sound;
                    if image || sound || is_one_of(&OTHER_MEDIA) {
                        self.media += 1;
                        self.media_bytes += length;
                    }
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::{CHAT_COMPLETIONS, COMPLETIONS, EMBEDDINGS, Endpoint, read as read_request};
    use super::*;

    fn needs(endpoint: &Endpoint, body: &str) -> Needs {
        *read_request(endpoint, Bytes::from(body.to_owned())).unwrap().needs()
    }

    fn chat(more: &str) -> Needs {
        needs(&CHAT_COMPLETIONS, &format!(r#"{{"model":"m",{more}}}"#))
    }

    #[test]
    fn tools_are_not_overlooked_wherever_they_stand() {
        assert!(
            !chat(r#""messages":[{"role":"user","content":"a tool"}],"tools":[],"tool_choice":"none""#).tools
        );
        for body in [
            r#""messages":[],"tools":[{"type":"function"}]"#,
            r#""messages":[],"functions":[{"name":"f"}]"#,
            r#""messages":[{"role":"user","content":"x"},{"role":"tool","content":"y"}]"#,
            r#""messages":[{"role":"assistant","content":null,"tool_calls":[{"id":"1"}]}]"#,
            r#""messages":[{"role":"\u0074ool","content":"y"}]"#,
        ] {
            assert!(chat(body).tools, "{body}");
        }
    }

    #[test]
    fn images_are_not_overlooked_and_do_not_count_as_text() {
        let data = "A".repeat(10_000);
        let body = format!(
            r#""messages":[{{"role":"user","content":[{{"type":"text","text":"what?"}},{{"type":"image_url","image_url":{{"url":"data:image/png;base64,{data}"}}}}]}}]"#
        );
        let known = chat(&body);
        assert_eq!((known.tools, known.vision, known.text_bytes, known.media), (false, true, 7, 1));
        let rest = format!(r#"{{"model":"m",{body}}}"#).len() - known.media_bytes;
        assert!(known.media_bytes > 10_000 && rest < 100, "{rest} are no image");
        let sound = r#""messages":[{"role":"user","content":[{"type":"input_audio","input_audio":{}}]}]"#;
        assert_eq!((chat(sound).media, chat(sound).vision, chat(sound).audio), (1, false, true));
        assert!(
            chat(r#""messages":[{"role":"user","content":[{"type":"input_image","file_id":"f"}]}]"#).vision
        );
        assert!(
            !chat(r#""messages":[{"role":"user","content":[{"type":"text","text":"image_url"}]}]"#).vision
        );
    }

    #[test]
    fn all_that_is_text_to_the_model_counts_and_nothing_else() {
        let known = chat(r#""messages":[{"role":"user","content":"1234"}],"tools":[{}],"user":"0123456789""#);
        assert_eq!(known.text_bytes, 6 + 4);
        let fim = needs(&COMPLETIONS, r#"{"model":"m","prompt":"abc","suffix":"d"}"#);
        assert_eq!(fim.text_bytes, 5 + 3);
        assert_eq!(needs(&EMBEDDINGS, r#"{"model":"m","input":"abc"}"#).text_bytes, 0);
    }
}
