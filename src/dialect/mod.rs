//! The API shapes that clients speak: which paths, what a request says, and how an answer is read and rewritten.
//! Pure: bytes in, bytes out. Nothing here knows a provider, a clock or a socket.

mod addition;
mod assembly;
mod choices;
mod compose;
mod content;
mod continuation;
mod ending;
mod error_body;
mod needs;
mod plain;
mod prompt;
mod renamed;
mod request;
mod rewrite;
mod said;
mod stream;
mod system;
mod written;

use std::sync::OnceLock;

use bytes::Bytes;

use crate::wire::json;
pub use crate::wire::json::Member;
use crate::wire::splice::{Edits, ObjectEdit};
pub use crate::wire::usage::Usage;
pub use assembly::assembled;
pub use compose::{Bill, Composer, usage_object};
pub use content::{events_say_or_finish, events_say_something, says_something};
pub use continuation::{Continuation, can_be_continued, plain_text};
pub use ending::Ending;
pub use error_body::{error_event, openai_error, upstream_message};
pub use needs::Needs;
pub use plain::{Plain, rewrite_plain};
pub use renamed::{renamed, renamed_events};
pub use request::read;
pub use rewrite::Rewrite;
pub use said::{said_in_events, said_whole};
pub use stream::{DONE_EVENT, Step, StreamRewriter};
pub use system::SystemText;
pub use written::Written;

/// What a request wants done. One task needs one capability of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Task {
    /// `POST /v1/chat/completions`.
    Chat,
    /// `POST /v1/completions` without a suffix.
    Completion,
    /// Fill in the middle: `POST /v1/fim/completions`, and `POST /v1/completions` with a suffix.
    Fim,
    /// `POST /v1/embeddings`.
    Embedding,
}

impl Task {
    /// The `endpoint` label in metrics and logs, and the word in messages and configuration.
    pub fn label(self) -> &'static str {
        match self {
            Task::Chat => "chat",
            Task::Completion => "completion",
            Task::Fim => "fim",
            Task::Embedding => "embedding",
        }
    }
}

/// The shape of an answer, as the client or the upstream writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shape {
    /// `choices[].message.content`, in streams `choices[].delta.content`; object `chat.completion[.chunk]`.
    Chat,
    /// `choices[].text`; object `text_completion`.
    Text,
    /// `data[].embedding`.
    Embedding,
}

/// One inference endpoint as clients see it: a row of [`ENDPOINTS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoint {
    /// The path without `/v1/` or a leading slash.
    pub path: &'static str,
    /// What a request wants done, unless its body says otherwise (a `/completions` with a suffix is [`Task::Fim`]).
    pub task: Task,
    /// The shape in which the client expects the answer.
    pub shape: Shape,
    /// The field, apart from `model`, without which a request makes no sense.
    pub required: &'static str,
}

/// `POST /v1/chat/completions`.
pub const CHAT_COMPLETIONS: Endpoint =
    Endpoint { path: "chat/completions", task: Task::Chat, shape: Shape::Chat, required: "messages" };

/// `POST /v1/completions`.
pub const COMPLETIONS: Endpoint =
    Endpoint { path: "completions", task: Task::Completion, shape: Shape::Text, required: "prompt" };

/// `POST /v1/fim/completions`, which answers in the shape of chat (Mistral's SDK, 2026-06-30).
pub const FIM_COMPLETIONS: Endpoint =
    Endpoint { path: "fim/completions", task: Task::Fim, shape: Shape::Chat, required: "prompt" };

/// `POST /v1/embeddings`.
pub const EMBEDDINGS: Endpoint =
    Endpoint { path: "embeddings", task: Task::Embedding, shape: Shape::Embedding, required: "input" };

/// All inference endpoints. Each is a POST, with and without `/v1`.
pub const ENDPOINTS: [Endpoint; 4] = [CHAT_COMPLETIONS, COMPLETIONS, FIM_COMPLETIONS, EMBEDDINGS];

/// A client's request, read once: the bytes as they came and what of them decides.
#[derive(Debug, Clone)]
pub struct Request {
    /// What it wants done.
    pub task: Task,
    /// The shape in which the client expects the answer.
    pub shape: Shape,
    /// The model id as the client wrote it.
    pub model: String,
    /// Whether the answer is to be streamed.
    pub stream: bool,
    /// `stream_options.include_usage` as the client set it; false when absent.
    pub include_usage: bool,
    /// `encoding_format` is `base64` (embeddings only).
    pub base64: bool,
    /// The body, untouched.
    pub body: Bytes,
    /// Its top-level members in the order written. No key that decides anything is there twice.
    pub members: Vec<Member>,
    /// What it needs of a model, once somebody wanted to know.
    needs: OnceLock<Needs>,
}

impl Request {
    /// What it needs of a model beyond its task. Read from the body the first time; most who do not choose among models
    /// need not ask.
    pub fn needs(&self) -> &Needs {
        self.needs.get_or_init(|| needs::read(self))
    }

    /// The member with this key, if the client sent it.
    pub fn member(&self, key: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.key == key)
    }

    /// The value of this key as written, if the client sent it.
    pub fn value(&self, key: &str) -> Option<&[u8]> {
        self.member(key).and_then(|member| self.body.get(member.value.clone()))
    }

    /// How many tokens the answer may have, if the client says so. Zero is no bound: servers that do not refuse it answer
    /// at whatever length they like.
    pub fn max_tokens(&self) -> Option<u64> {
        let stated = |key: &&str| json::as_u64(self.value(key)?).filter(|most| *most > 0);
        ["max_completion_tokens", "max_tokens"].iter().find_map(stated)
    }

    /// How many answers it asks for, those among which the upstream chooses counted: `n` and `best_of`.
    pub fn answers(&self) -> u64 {
        let asked = ["n", "best_of"].iter().filter_map(|key| json::as_u64(self.value(key)?));
        asked.max().unwrap_or(1).max(1)
    }

    /// Whether its messages may have more in them than text, told by how deep they are nested; who needs to know reads
    /// [`Request::needs`].
    pub fn may_have_media(&self) -> bool {
        // The messages, a message, its content, a part of it.
        const PART: u32 = 4;
        self.task == Task::Chat && self.member("messages").is_some_and(|messages| messages.depth >= PART)
    }

    /// The same request with these top-level fields set, each a name and JSON; all else keeps its bytes.
    pub fn with(&self, set: &[(String, Bytes)]) -> Request {
        let mut top = ObjectEdit::top(&self.body, &self.members);
        for (key, value) in set {
            top.set(key.as_str(), &value[..]);
        }
        let mut edits = Edits::new();
        edits.object(top);
        self.edited(edits)
    }

    /// The same request with these edits of its body; all else keeps its bytes.
    pub fn edited(&self, edits: Edits<'_>) -> Request {
        let body = Bytes::from(edits.apply(&self.body));
        match json::scan_object(&body) {
            Ok(members) => Request { body, members, needs: OnceLock::new(), ..self.clone() },
            // Values that are no JSON are refused with the configuration, so this is never reached.
            Err(_) => self.clone(),
        }
    }

    /// What a conversation begins with, and keeps as it goes on: its messages up to the first of the user's, or the
    /// begin of its prompt.
    pub fn opening(&self) -> Vec<&[u8]> {
        const MOST_MESSAGES: usize = 8;
        const MOST_PROMPT: usize = 1024;
        if let Some(prompt) = self.value("prompt") {
            return vec![prompt.get(..MOST_PROMPT).unwrap_or(prompt)];
        }
        let Some(messages) = self.member("messages") else { return Vec::new() };
        let mut opening = Vec::new();
        for message in json::elements_of(&self.body, messages.value.clone()).take(MOST_MESSAGES) {
            let mut fields = json::members_of(&self.body, message.range.clone());
            opening.push(message.raw);
            if fields.any(|field| field.is("role") && json::string_is(field.raw, "user")) {
                break;
            }
        }
        opening
    }
}
