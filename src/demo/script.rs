//! What a fake upstream does with one request: a sequence of steps, from exact bytes to a connection reset; and the
//! builders that frame ordinary answers. Pure: a script is data, `connection.rs` plays it.

use std::borrow::Cow;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use serde_json::Value;

/// One step of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// These bytes, exactly, handed to the socket in one piece.
    Write(Bytes),
    /// These bytes as one HTTP chunk, size line and end included, in one piece.
    Chunk(Bytes),
    /// The chunk that ends a chunked body.
    LastChunk,
    /// These bytes, exactly, so many times, as fast as the reader takes them.
    Repeat(Bytes, u64),
    /// Nothing for so long (tokio's clock).
    Pause(Duration),
    /// Nothing until somebody opens the gate of this name.
    Gate(Cow<'static, str>),
    /// The connection is closed in order: FIN.
    Close,
    /// The connection is torn down: RST.
    Reset,
    /// Nothing, until the client leaves. The answer is never complete.
    Hang,
}

/// The steps of one answer. When they have been played and none of them ended the connection, the connection waits
/// for the next request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Script {
    steps: Vec<Step>,
}

impl Script {
    /// No step at all: the request stays without an answer, the connection stays open.
    pub fn new() -> Script {
        Script::default()
    }

    /// The steps in order.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Adds any step.
    pub fn step(mut self, step: Step) -> Script {
        self.steps.push(step);
        self
    }

    /// Adds [`Step::Write`].
    pub fn write(self, bytes: impl Into<Bytes>) -> Script {
        self.step(Step::Write(bytes.into()))
    }

    /// Adds [`Step::Chunk`]. An empty chunk would end the body, so it is left out.
    pub fn chunk(self, bytes: impl Into<Bytes>) -> Script {
        let bytes = bytes.into();
        if bytes.is_empty() { self } else { self.step(Step::Chunk(bytes)) }
    }

    /// Adds one chunk that holds the server-sent event `data: …`.
    pub fn event(self, data: impl AsRef<str>) -> Script {
        self.chunk(event_frame(data.as_ref()))
    }

    /// Adds [`Step::LastChunk`].
    pub fn last_chunk(self) -> Script {
        self.step(Step::LastChunk)
    }

    /// Adds [`Step::Repeat`].
    pub fn repeat(self, bytes: impl Into<Bytes>, times: u64) -> Script {
        self.step(Step::Repeat(bytes.into(), times))
    }

    /// Adds [`Step::Pause`], unless the duration is zero.
    pub fn pause(self, duration: Duration) -> Script {
        if duration.is_zero() { self } else { self.step(Step::Pause(duration)) }
    }

    /// Adds [`Step::Gate`].
    pub fn gate(self, name: impl Into<Cow<'static, str>>) -> Script {
        self.step(Step::Gate(name.into()))
    }

    /// Adds [`Step::Close`].
    pub fn close(self) -> Script {
        self.step(Step::Close)
    }

    /// Adds [`Step::Reset`].
    pub fn reset(self) -> Script {
        self.step(Step::Reset)
    }

    /// Adds [`Step::Hang`].
    pub fn hang(self) -> Script {
        self.step(Step::Hang)
    }

    /// This script and then another.
    pub fn then(mut self, next: Script) -> Script {
        self.steps.extend(next.steps);
        self
    }

    /// The same bytes without any pause.
    pub fn without_pauses(mut self) -> Script {
        self.steps.retain(|step| !matches!(step, Step::Pause(_)));
        self
    }

    /// All bytes that the script puts on the wire, without its pauses; a repetition counts once.
    pub fn wire(&self) -> Bytes {
        let mut wire = BytesMut::new();
        for step in &self.steps {
            match step {
                Step::Write(bytes) | Step::Repeat(bytes, _) => wire.extend_from_slice(bytes),
                Step::Chunk(bytes) => wire.extend_from_slice(&chunk_frame(bytes)),
                Step::LastChunk => wire.extend_from_slice(LAST_CHUNK),
                Step::Pause(_) | Step::Gate(_) | Step::Close | Step::Reset | Step::Hang => {}
            }
        }
        wire.freeze()
    }
}

/// The bytes that end a chunked body.
pub(super) const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// A chunk with its size line and end.
pub(super) fn chunk_frame(bytes: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(bytes.len() + 12);
    frame.extend_from_slice(format!("{:x}\r\n", bytes.len()).as_bytes());
    frame.extend_from_slice(bytes);
    frame.extend_from_slice(b"\r\n");
    frame.freeze()
}

/// A server-sent event with this payload.
pub(super) fn event_frame(data: &str) -> Bytes {
    Bytes::from(format!("data: {data}\n\n"))
}

/// The head of an answer, to be framed in one way or another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    status: u16,
    headers: Vec<(Cow<'static, str>, Cow<'static, str>)>,
}

impl Answer {
    /// An answer with this status and no headers yet.
    pub fn new(status: u16) -> Answer {
        Answer { status, headers: Vec::new() }
    }

    /// An answer with `content-type: application/json`.
    pub fn json(status: u16) -> Answer {
        Answer::new(status).header("content-type", "application/json")
    }

    /// A 200 with `content-type: text/event-stream`.
    pub fn events() -> Answer {
        Answer::new(200).header("content-type", "text/event-stream")
    }

    /// Adds a header, spelled and placed exactly so.
    pub fn header(
        mut self,
        name: impl Into<Cow<'static, str>>,
        value: impl Into<Cow<'static, str>>,
    ) -> Answer {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The bytes of the head, blank line included.
    pub fn head(&self) -> Bytes {
        let mut text = format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status));
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        Bytes::from(text)
    }

    /// The whole answer with a `content-length`, head and body in one piece.
    pub fn body(self, body: impl Into<Bytes>) -> Script {
        let body = body.into();
        let head = self.declared(body.len()).head();
        let mut whole = BytesMut::with_capacity(head.len() + body.len());
        whole.extend_from_slice(&head);
        whole.extend_from_slice(&body);
        Script::new().write(whole.freeze())
    }

    /// The whole answer with this JSON value as its body.
    pub fn value(self, body: &Value) -> Script {
        self.body(body.to_string())
    }

    /// The same head with a `content-length` that may be true or not.
    pub fn declared(self, length: usize) -> Answer {
        self.header("content-length", length.to_string())
    }

    /// The head of a chunked answer; chunks follow, and [`Script::last_chunk`].
    pub fn chunked(self) -> Script {
        Script::new().write(self.header("transfer-encoding", "chunked").head())
    }

    /// The head of an answer whose body ends with the connection; writes follow, and [`Script::close`].
    pub fn until_close(self) -> Script {
        Script::new().write(self.header("connection", "close").head())
    }
}

/// A streamed answer before it is framed: the point where faults are put in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventStream {
    /// The head, without framing.
    pub answer: Answer,
    /// Whole frames: `data: …` with its blank line, or a comment.
    pub frames: Vec<Bytes>,
    /// The pause between two frames.
    pub pace: Duration,
}

impl EventStream {
    /// A stream without events.
    pub fn new(answer: Answer, pace: Duration) -> EventStream {
        EventStream { answer, frames: Vec::new(), pace }
    }

    /// Adds the event with this payload.
    pub fn push(&mut self, data: &str) {
        self.frames.push(event_frame(data));
    }

    /// The frames as text, for looking into them.
    pub fn text(&self) -> String {
        self.frames.iter().map(|frame| String::from_utf8_lossy(frame).into_owned()).collect()
    }

    /// The stream as it should be: one chunk for each event, and the last chunk.
    pub fn script(self) -> Script {
        self.open().last_chunk()
    }

    /// The stream without its last chunk, for those that do not end well.
    pub fn open(self) -> Script {
        let mut script = self.answer.chunked();
        for (position, frame) in self.frames.into_iter().enumerate() {
            if position > 0 {
                script = script.pause(self.pace);
            }
            script = script.chunk(frame);
        }
        script
    }
}

/// The reason phrase of a status.
fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        103 => "Early Hints",
        200 => "OK",
        204 => "No Content",
        302 => "Found",
        307 => "Temporary Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        410 => "Gone",
        412 => "Precondition Failed",
        413 => "Payload Too Large",
        422 => "Unprocessable Entity",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_with_a_body_says_its_length() {
        let script = Answer::json(404).header("X-A", "1").body("{}");
        let wire = "HTTP/1.1 404 Not Found\r\ncontent-type: application/json\r\nX-A: 1\r\ncontent-length: 2\r\n\r\n{}";
        assert_eq!(script.wire(), wire);
        assert_eq!(script.steps().len(), 1);
    }

    #[test]
    fn an_event_stream_is_one_chunk_for_each_event_with_pauses_between() {
        let mut stream = EventStream::new(Answer::events(), Duration::from_millis(5));
        stream.push("a");
        stream.push("[DONE]");
        let script = stream.script();
        assert_eq!(
            script.steps()[1..],
            [
                Step::Chunk(Bytes::from("data: a\n\n")),
                Step::Pause(Duration::from_millis(5)),
                Step::Chunk(Bytes::from("data: [DONE]\n\n")),
                Step::LastChunk
            ]
        );
        let body = "9\r\ndata: a\n\n\r\ne\r\ndata: [DONE]\n\n\r\n0\r\n\r\n";
        assert!(script.wire().ends_with(body.as_bytes()));
    }

    #[test]
    fn pauses_can_be_taken_out() {
        let script = Script::new().write("a").pause(Duration::from_secs(1)).write("b");
        assert_eq!(script.without_pauses(), Script::new().write("a").write("b"));
    }

    #[test]
    fn an_empty_chunk_never_ends_the_body_by_mistake() {
        assert_eq!(Script::new().chunk(""), Script::new());
    }
}
