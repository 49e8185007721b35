//! The API shapes that clients speak: which paths, what a request says, and how an answer is read and rewritten.
//! Pure: bytes in, bytes out. Nothing here knows a provider, a clock or a socket.

use bytes::Bytes;

pub use crate::wire::json::Member;
pub use crate::wire::usage::Usage;

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
    /// Its top-level members in the order written; no key twice.
    pub members: Vec<Member>,
}

impl Request {
    /// The member with this key, if the client sent it.
    pub fn member(&self, key: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.key == key)
    }

    /// The value of this key as written, if the client sent it.
    pub fn value(&self, key: &str) -> Option<&[u8]> {
        self.member(key).and_then(|member| self.body.get(member.value.clone()))
    }
}
