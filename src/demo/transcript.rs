//! Reads transcripts: text files that hold the exact bytes of one upstream answer, and when they come. Pure.
//!
//! # The format
//! First the head: the status line and headers as they go on the wire (each line gets its CRLF), then a blank line,
//! then the body, line by line, with LF where the file has LF. The newline that ends the file is not part of the body.
//! A line that begins with `@` is a directive and vanishes whole:
//!
//! | directive | meaning |
//! |---|---|
//! | `@# text` | a comment; also allowed before the status line, where the source is named |
//! | `@+text` | `text`, joined to the line before without a newline (long one-line bodies stay readable) |
//! | `@@text` | the line `@text` |
//! | `@hex 0d 0a` | these bytes |
//! | `@flush` | what is there so far is one write; in a chunked answer, one chunk |
//! | `@events [25ms]` | from here on each blank line ends a write, and so long a pause stands between two of them |
//! | `@pause 25ms` | a flush, then a pause (`ms` or `s`) |
//! | `@gate name` | a flush, then nothing until a test opens the gate |
//! | `@end` | the body ends here, with the newline before |
//! | `@close`, `@reset`, `@hang` | a flush, then FIN, RST, or nothing until the client leaves; the body is not completed |
//!
//! Framing follows the head: `content-length: *` is filled in, another length is sent as written, true or not;
//! `transfer-encoding: chunked` makes each write a chunk and ends with the last chunk; neither, and the connection is
//! closed after the body.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use serde_json::Value;

use super::script::Script;

/// One answer of an upstream, as a transcript tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transcript {
    status: u16,
    body: Bytes,
    script: Script,
}

/// Why a transcript cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct TranscriptError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub problem: &'static str,
}

impl Transcript {
    /// Reads a transcript.
    ///
    /// # Errors
    /// When there is no status line or head, a directive is unknown or malformed, or something follows the end.
    pub fn parse(text: &str) -> Result<Transcript, TranscriptError> {
        Parser::default().run(text)
    }

    /// Reads a transcript that is compiled in; a broken one becomes an answer that says so, and fails a test.
    pub(super) fn embedded(text: &str) -> Transcript {
        Transcript::parse(text).unwrap_or_else(|error| {
            let body = Bytes::from(error.to_string());
            Transcript { status: 500, script: super::Answer::new(500).body(body.clone()), body }
        })
    }

    /// The steps that play it.
    pub fn script(&self) -> Script {
        self.script.clone()
    }

    /// The status of the answer.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The body without any framing.
    pub fn body(&self) -> Bytes {
        self.body.clone()
    }

    /// The body as JSON, or `Null` when it is none.
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
}

/// How the body is framed, by the head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Framing {
    /// A `content-length`, true or not.
    Length,
    /// Chunks.
    Chunked,
    /// The end of the connection.
    #[default]
    Close,
}

#[derive(Default)]
struct Parser {
    head: String,
    status: Option<u16>,
    framing: Framing,
    fill_length: bool,
    in_body: bool,
    piece: BytesMut,
    newline_owed: bool,
    events: Option<Duration>,
    pause_owed: bool,
    body: BytesMut,
    steps: Script,
    ended: Option<Script>,
}

impl Parser {
    fn run(mut self, text: &str) -> Result<Transcript, TranscriptError> {
        let mut number = 0;
        for line in text.split('\n') {
            number += 1;
            // The split yields an empty piece after the newline that ends the file.
            if number > text.matches('\n').count() && line.is_empty() {
                break;
            }
            let taken = if self.in_body { self.body_line(line) } else { self.head_line(line) };
            taken.map_err(|problem| TranscriptError { line: number, problem })?;
        }
        let at_end = |problem| TranscriptError { line: number, problem };
        let status = self.status.ok_or_else(|| at_end("no status line"))?;
        if !self.in_body {
            return Err(at_end("no blank line after the head"));
        }
        self.flush();
        Ok(Transcript { status, body: self.body.clone().freeze(), script: self.script() })
    }

    fn head_line(&mut self, line: &str) -> Result<(), &'static str> {
        if line.starts_with("@#") && self.status.is_none() {
            return Ok(());
        }
        if self.status.is_none() {
            let mut parts = line.split(' ');
            let version = parts.next().unwrap_or_default();
            let status = parts.next().and_then(|digits| digits.parse().ok());
            if !version.starts_with("HTTP/1.") || status.is_none() {
                return Err("expected a status line");
            }
            self.status = status;
        } else if line.is_empty() {
            self.in_body = true;
            return Ok(());
        } else {
            let (name, value) = line.split_once(':').ok_or("expected a header")?;
            if name.eq_ignore_ascii_case("content-length") {
                self.framing = Framing::Length;
                if value.trim() == "*" {
                    self.fill_length = true;
                    // No header can hold a NUL, so it marks the place.
                    self.head.push_str(&format!("{name}: \0\r\n"));
                    return Ok(());
                }
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                self.framing = Framing::Chunked;
            }
        }
        self.head.push_str(line);
        self.head.push_str("\r\n");
        Ok(())
    }

    fn body_line(&mut self, line: &str) -> Result<(), &'static str> {
        if self.ended.is_some() {
            return if line.starts_with("@#") {
                Ok(())
            } else {
                Err("something follows the end of the body")
            };
        }
        let Some(directive) = line.strip_prefix('@') else {
            self.pay_newline();
            self.text(line);
            return Ok(());
        };
        if let Some(text) = directive.strip_prefix('+') {
            self.newline_owed = false;
            self.text(text);
            return Ok(());
        }
        if directive.starts_with('#') {
            return Ok(());
        }
        self.pay_newline();
        if directive.starts_with('@') {
            self.text(directive);
            return Ok(());
        }
        let (word, argument) = directive.split_once(' ').unwrap_or((directive, ""));
        match (word, argument.trim()) {
            ("flush", "") => self.flush(),
            ("events", argument) => {
                self.flush();
                self.events = Some(if argument.is_empty() { Duration::ZERO } else { duration(argument)? });
            }
            ("hex", argument) => self.piece.extend_from_slice(&bytes(argument)?),
            ("pause", argument) => {
                self.flush();
                let pause = duration(argument)?;
                self.add(|steps| steps.pause(pause));
            }
            ("gate", name) if !name.is_empty() => {
                self.flush();
                let name = name.to_owned();
                self.add(|steps| steps.gate(name));
            }
            ("end", "") => self.end(None),
            ("close", "") => self.end(Some(Script::new().close())),
            ("reset", "") => self.end(Some(Script::new().reset())),
            ("hang", "") => self.end(Some(Script::new().hang())),
            _ => return Err("unknown directive, or its argument is missing"),
        }
        Ok(())
    }

    fn text(&mut self, text: &str) {
        self.piece.extend_from_slice(text.as_bytes());
        self.newline_owed = true;
    }

    /// A line's newline is written when something follows it: the one that ends the file never is.
    fn pay_newline(&mut self) {
        if !std::mem::take(&mut self.newline_owed) {
            return;
        }
        self.piece.extend_from_slice(b"\n");
        if self.events.is_some() && self.piece.ends_with(b"\n\n") {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let piece = self.piece.split().freeze();
        if piece.is_empty() {
            return;
        }
        self.body.extend_from_slice(&piece);
        if let Some(pause) = self.events {
            if self.pause_owed {
                self.add(|steps| steps.pause(pause));
            }
            self.pause_owed = true;
        }
        match self.framing {
            Framing::Chunked => self.add(|steps| steps.chunk(piece)),
            Framing::Length | Framing::Close => self.add(|steps| steps.write(piece)),
        }
    }

    fn add(&mut self, step: impl FnOnce(Script) -> Script) {
        self.steps = step(std::mem::take(&mut self.steps));
    }

    fn end(&mut self, how: Option<Script>) {
        self.flush();
        self.ended = Some(how.unwrap_or_default());
    }

    fn script(self) -> Script {
        let head =
            if self.fill_length { self.head.replace('\0', &self.body.len().to_string()) } else { self.head };
        let mut head = BytesMut::from(format!("{head}\r\n").as_bytes());
        let mut steps = self.steps.steps().iter().cloned().peekable();
        // A whole answer in one piece is what servers write when they know its length.
        if self.framing == Framing::Length
            && let Some(super::Step::Write(first)) = steps.peek()
        {
            head.extend_from_slice(first);
            steps.next();
        }
        let script = steps.fold(Script::new().write(head.freeze()), Script::step);
        match (self.ended.filter(|how| !how.steps().is_empty()), self.framing) {
            (Some(how), _) => script.then(how),
            (None, Framing::Chunked) => script.last_chunk(),
            (None, Framing::Close) => script.close(),
            (None, Framing::Length) => script,
        }
    }
}

fn duration(text: &str) -> Result<Duration, &'static str> {
    let (digits, unit): (&str, fn(u64) -> Duration) = match text.strip_suffix("ms") {
        Some(digits) => (digits, Duration::from_millis),
        None => (text.strip_suffix('s').unwrap_or_default(), Duration::from_secs),
    };
    digits.parse().map(unit).map_err(|_| "expected a duration such as 25ms or 2s")
}

fn bytes(text: &str) -> Result<Vec<u8>, &'static str> {
    text.split_ascii_whitespace()
        .map(|pair| u8::from_str_radix(pair, 16).map_err(|_| "expected bytes in hexadecimal such as 0d 0a"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::Step;

    fn steps(text: &str) -> Vec<Step> {
        Transcript::parse(text).unwrap().script().steps().to_vec()
    }

    fn write(text: &'static str) -> Step {
        Step::Write(Bytes::from(text))
    }

    fn chunk(text: &'static str) -> Step {
        Step::Chunk(Bytes::from(text))
    }

    #[test]
    fn a_body_gets_its_length_and_loses_the_newline_that_ends_the_file() {
        let transcript = Transcript::parse(
            "@# source\nHTTP/1.1 404 Not Found\nContent-Length: *\nX: *\n\n{\"a\":[\n@+1,\n@+2]}\n",
        )
        .unwrap();
        assert_eq!((transcript.status(), transcript.body()), (404, Bytes::from("{\"a\":[1,2]}")));
        assert_eq!(
            transcript.script().steps(),
            [write("HTTP/1.1 404 Not Found\r\nContent-Length: 11\r\nX: *\r\n\r\n{\"a\":[1,2]}")]
        );
    }

    #[test]
    fn events_are_cut_at_blank_lines_with_pauses_between() {
        let text = "HTTP/1.1 200 OK\ntransfer-encoding: chunked\n\n@events 5ms\ndata: a\n\ndata: b\n\n@end\n";
        let head = write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
        let pause = Step::Pause(Duration::from_millis(5));
        assert_eq!(steps(text), [head, chunk("data: a\n\n"), pause, chunk("data: b\n\n"), Step::LastChunk]);
    }

    #[test]
    fn boundaries_pauses_gates_and_exact_bytes_stand_where_they_are_written() {
        let text = "HTTP/1.1 200 OK\ntransfer-encoding: chunked\n\nab\n@flush\n@@x\n@pause 2s\n@hex c3\n@gate go\n@hex a9 0d 0a\n@reset\n";
        let expected = [
            write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"),
            chunk("ab\n"),
            chunk("@x\n"),
            Step::Pause(Duration::from_secs(2)),
            Step::Chunk(Bytes::from_static(b"\xc3")),
            Step::Gate("go".into()),
            Step::Chunk(Bytes::from_static(b"\xa9\r\n")),
            Step::Reset,
        ];
        assert_eq!(steps(text), expected);
    }

    #[test]
    fn a_false_length_stays_and_no_framing_means_close() {
        let short = steps("HTTP/1.1 200 OK\ncontent-length: 9\n\nabc\n@close\n");
        assert_eq!(short, [write("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc\n"), Step::Close]);
        let close = steps("HTTP/1.1 200 OK\n\nabc\n");
        assert_eq!(close, [write("HTTP/1.1 200 OK\r\n\r\n"), write("abc"), Step::Close]);
        let empty = steps("HTTP/1.1 200 OK\ncontent-length: *\n\n");
        assert_eq!(empty, [write("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")]);
    }

    #[test]
    fn what_cannot_be_meant_is_an_error_with_its_line() {
        for (text, line) in [
            ("", 1),
            ("HTTP/2 200\n", 1),
            ("HTTP/1.1 200 OK\nnothing\n", 2),
            ("HTTP/1.1 200 OK\nA: b\n", 3),
            ("HTTP/1.1 200 OK\n\n@fly\n", 3),
            ("HTTP/1.1 200 OK\n\n@pause 3\n", 3),
            ("HTTP/1.1 200 OK\n\n@hex xx\n", 3),
            ("HTTP/1.1 200 OK\n\n@gate\n", 3),
            ("HTTP/1.1 200 OK\n\n@reset\nmore\n", 4),
        ] {
            assert_eq!(Transcript::parse(text).unwrap_err().line, line, "{text:?}");
        }
    }
}
