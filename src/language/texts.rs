//! Finds the texts of a request that tell its language, from its end backwards, and copies of each a bounded part.
//!
//! A body may have 64 MB, of which nobody needs more than the last messages. So the messages are walked from the last one
//! back, and no further than [`FAR`] bytes and [`STEPS`] steps: neither long, nor dense, nor hostile bodies take longer.

use std::ops::Range;

use memchr::memrchr;

use crate::dialect::{Request, Task};
use crate::wire::json;

/// How far back from the end of the messages is looked.
const FAR: usize = 1024 * 1024;
/// How many steps that may take: strings, brackets, escaped quotes, stretches of white space.
const STEPS: usize = 16 * 1024;
/// Messages that are looked at besides the user's last one.
const OTHERS: usize = 6;
/// Messages that are passed on the way to that one.
const PASSED: usize = 100;
/// Parts of one message.
const PARTS: usize = 8;
/// Bytes of the user's last message, and of any other.
const LONG: usize = 16 * 1024;
const SHORT: usize = 6 * 1024;
/// Bytes of a completion's prompt before the cursor, and of its suffix.
const PREFIX: usize = 12 * 1024;
const SUFFIX: usize = 2 * 1024;
/// The longest key or role that matters, with its quotes; what is longer is not even unescaped.
const NAME: usize = 64;

/// What a text is to the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The user's last message.
    Asked,
    /// The end of the last message, which is too long to see whose it is, and whether that is text at all.
    Cut,
    /// Another message, or the calls of tools in it.
    Said,
    /// The prompt of a completion, without what follows the cursor.
    Prompt,
    /// What is embedded.
    Input,
}

/// Calls for each text of a request, that of most weight first, until one call returns something: the user's last
/// message, then others from the last one back (not the system's); a prompt with its suffix. The bytes are unescaped.
pub(super) fn each<T>(request: &Request, mut call: impl FnMut(Kind, &[u8], &[u8]) -> Option<T>) -> Option<T> {
    let mut text = Vec::new();
    match request.task {
        Task::Chat => {
            for (kind, message) in messages(request) {
                text.clear();
                message.read(&request.body, if kind == Kind::Said { SHORT } else { LONG }, &mut text);
                if let Some(found) = call(kind, &text, &[]) {
                    return Some(found);
                }
            }
            None
        }
        Task::Completion | Task::Fim => {
            copy(request.value("prompt")?, PREFIX, &mut text);
            let mut suffix = Vec::new();
            if let Some(inner) = request.value("suffix").and_then(inner_of) {
                unescape(inner, SUFFIX, &mut suffix);
            }
            call(Kind::Prompt, &text, &suffix)
        }
        Task::Embedding => {
            copy(request.value("input")?, SHORT, &mut text);
            call(Kind::Input, &text, &[])
        }
    }
}

/// The user's last message, unescaped as far as it is looked at.
pub(super) fn asked(request: &Request) -> Option<Vec<u8>> {
    if request.task != Task::Chat {
        return None;
    }
    let (_, message) = messages(request).into_iter().find(|(kind, _)| *kind == Kind::Asked)?;
    let mut text = Vec::new();
    message.read(&request.body, LONG, &mut text);
    Some(text)
}

/// What of a message may be text.
#[derive(Debug, Default)]
struct Message {
    content: Option<Range<usize>>,
    calls: Option<Range<usize>>,
    user: bool,
    system: bool,
    /// Its begin was not found, so that nothing is known but its end.
    cut: bool,
}

fn messages(request: &Request) -> Vec<(Kind, Message)> {
    let Some(member) = request.member("messages") else { return Vec::new() };
    let mut walk = Backwards::new(&request.body, member.value.clone());
    let mut found = Vec::new();
    let mut others = 0;
    if !walk.enter(b']') {
        return found;
    }
    for _ in 0..PASSED {
        let asked = found.iter().any(|(kind, _)| *kind == Kind::Asked);
        if asked && others == OTHERS {
            break;
        }
        let Some(message) = walk.message() else { break };
        if message.cut {
            if found.is_empty() {
                found.push((Kind::Cut, message));
            }
            break;
        }
        if message.user && !asked {
            found.insert(0, (Kind::Asked, message));
        } else if others < OTHERS && !message.system {
            found.push((Kind::Said, message));
            others += 1;
        }
    }
    found
}

// === impl Message ===

impl Message {
    /// Appends at most so many bytes of what it says.
    fn read(&self, body: &[u8], room: usize, text: &mut Vec<u8>) {
        let range = |range: &Option<Range<usize>>| body.get(range.clone()?);
        if self.cut {
            // The end of an array of objects: `…text"}]`.
            let raw = range(&self.content).unwrap_or_default();
            unescape(raw, room, text);
            return;
        }
        match range(&self.content) {
            Some(raw) if raw.starts_with(b"[") => {
                for part in parts(body, self.content.clone().unwrap_or_default()).into_iter().rev() {
                    let raw = body.get(part).unwrap_or_default();
                    let left = room.saturating_sub(text.len());
                    match inner_of(raw) {
                        Some(inner) => unescape(inner, left, text),
                        // A file's description: its name is what matters.
                        None => unescape(raw.get(..512).unwrap_or(raw), left, text),
                    }
                    text.push(b'\n');
                }
            }
            Some(raw) => copy(raw, room, text),
            None => {}
        }
        if let Some(calls) = range(&self.calls) {
            text.push(b'\n');
            unescape(calls, room.saturating_sub(text.len()), text);
        }
    }
}

/// Where the texts and files of a message's parts are, the last one first.
fn parts(body: &[u8], content: Range<usize>) -> Vec<Range<usize>> {
    let mut walk = Backwards::new(body, content);
    let mut found = Vec::new();
    if !walk.enter(b']') {
        return found;
    }
    while found.len() < PARTS
        && walk.element(|key, value| {
            if matches!(key, b"text" | b"content" | b"file" | b"input_file" | b"document") {
                found.push(value);
            }
        })
    {}
    found
}

/// A string without its quotes.
fn inner_of(raw: &[u8]) -> Option<&[u8]> {
    raw.strip_prefix(b"\"")?.strip_suffix(b"\"")
}

/// Appends a string, unescaped, or the first string of an array of them: at most so many bytes, the last of them if
/// there are more, and some of the first.
fn copy(raw: &[u8], room: usize, text: &mut Vec<u8>) {
    if let Some(inner) = inner_of(raw) {
        unescape(inner, room, text);
    } else if let Some(first) = raw.strip_prefix(b"[") {
        // Only the begin is walked, and an array of numbers ends that at once.
        let near = first.get(..room).unwrap_or(first).trim_ascii_start();
        unescape(near.strip_prefix(b"\"").unwrap_or_default(), room, text);
    }
}

fn unescape(inner: &[u8], room: usize, text: &mut Vec<u8>) {
    if inner.len() <= room {
        return unescape_all(inner, text);
    }
    let (first, last) = (room / 4, room - room / 4);
    unescape_all(inner.get(..first).unwrap_or_default(), text);
    text.push(b'\n');
    unescape_all(inner.get(inner.len() - last..).unwrap_or_default(), text);
}

/// Appends it without its escapes. Where it was cut in one, that is text: it decides nothing.
fn unescape_all(mut inner: &[u8], text: &mut Vec<u8>) {
    while let Some(at) = memchr::memchr(b'\\', inner) {
        let (plain, escape) = inner.split_at(at);
        text.extend_from_slice(plain);
        let (byte, length) = match escape.get(1) {
            Some(b'n') => (b'\n', 2),
            Some(b't') => (b'\t', 2),
            Some(b'r') => (b'\r', 2),
            Some(b'b' | b'f') => (b' ', 2),
            Some(b'u') => {
                // Halves of a surrogate pair become U+FFFD: no clue is among such characters.
                let digits = escape.get(2..6).and_then(|digits| std::str::from_utf8(digits).ok());
                let unit = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
                let plain = unit.and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER);
                text.extend_from_slice(plain.encode_utf8(&mut [0; 4]).as_bytes());
                inner = escape.get(6..).unwrap_or_default();
                continue;
            }
            Some(other) => (*other, 2),
            None => (b'\\', 1),
        };
        text.push(byte);
        inner = escape.get(length..).unwrap_or_default();
    }
    text.extend_from_slice(inner);
}

/// Reads valid JSON from its end. On anything else, and when its steps are used up, it stops early.
#[derive(Debug)]
struct Backwards<'a> {
    bytes: &'a [u8],
    /// What is left to read is before it.
    at: usize,
    /// Nothing before this is read.
    low: usize,
    steps: usize,
}

impl<'a> Backwards<'a> {
    fn new(bytes: &'a [u8], range: Range<usize>) -> Self {
        let low = range.start.max(range.end.saturating_sub(FAR));
        Backwards { bytes, at: range.end, low, steps: STEPS }
    }

    fn last(&self) -> Option<u8> {
        self.bytes.get(self.low..self.at)?.last().copied()
    }

    fn spend(&mut self, steps: usize) -> Option<()> {
        // Used up is used up: nothing smaller is tried after what was too much.
        let left = self.steps.checked_sub(steps);
        self.steps = left.unwrap_or_default();
        left.map(|_| ())
    }

    /// Steps over white space, and says what is there.
    fn token(&mut self) -> Option<u8> {
        let near = self.low.max(self.at.saturating_sub(16 * self.steps));
        let left = self.bytes.get(near..self.at)?;
        let space = left.len() - left.trim_ascii_end().len();
        self.spend(1 + space / 16)?;
        self.at -= space;
        self.last()
    }

    /// Steps over this byte, if it is there.
    fn enter(&mut self, byte: u8) -> bool {
        let there = self.token() == Some(byte);
        self.at -= usize::from(there);
        there
    }

    /// The string that ends here, with its quotes.
    fn string(&mut self) -> Option<Range<usize>> {
        let end = self.at;
        let mut quote = end.checked_sub(1)?;
        loop {
            self.spend(1)?;
            quote = self.low + memrchr(b'"', self.bytes.get(self.low..quote)?)?;
            let before = self.bytes.get(self.low..quote)?;
            let escapes = before.iter().rev().take_while(|byte| **byte == b'\\').count();
            self.spend(escapes / 16)?;
            if escapes % 2 == 0 {
                self.at = quote;
                return Some(quote..end);
            }
        }
    }

    /// The value that ends here.
    fn value(&mut self) -> Option<Range<usize>> {
        let first = self.token()?;
        let end = self.at;
        let mut depth = 0_u32;
        match first {
            b'"' => return self.string(),
            b']' | b'}' => {}
            _ => {
                let word = self.bytes.get(self.low..end)?;
                let length = word.iter().rev().take_while(|byte| !b",:[{ \n\t\r".contains(byte)).count();
                self.spend(length / 16)?;
                self.at = end - length;
                return (length > 0).then_some(self.at..end);
            }
        }
        loop {
            match self.token()? {
                b'"' => {
                    self.string()?;
                    continue;
                }
                b']' | b'}' => depth += 1,
                b'[' | b'{' => depth = depth.checked_sub(1)?,
                _ => {}
            }
            self.at -= 1;
            if depth == 0 {
                return Some(self.at..end);
            }
        }
    }

    /// Reads an element of an array that is an object, the last one first; calls with each key and where its value is.
    /// False at the begin of the array, or where reading ends early.
    fn element(&mut self, call: impl FnMut(&[u8], Range<usize>)) -> bool {
        self.enter(b',');
        match self.token() {
            Some(b'}') => self.members(call).is_some(),
            Some(b'[') | None => false,
            // No object: passed over, unless that is impossible.
            Some(_) => self.value().is_some(),
        }
    }

    fn members(&mut self, mut call: impl FnMut(&[u8], Range<usize>)) -> Option<()> {
        self.at -= 1;
        loop {
            match self.token()? {
                b'{' => {
                    self.at -= 1;
                    return Some(());
                }
                b',' => self.at -= 1,
                _ => {}
            }
            if self.token()? == b'{' {
                continue;
            }
            let value = self.value()?;
            if !self.enter(b':') || self.token()? != b'"' {
                return None;
            }
            let key = self.bytes.get(self.string()?)?;
            if key.len() <= NAME {
                call(json::key_bytes(key).as_ref(), value);
            }
        }
    }

    /// The message that ends here. One whose begin is too far away is told by its end alone.
    fn message(&mut self) -> Option<Message> {
        let mut message = Message::default();
        let (end, bytes) = (self.at, self.bytes);
        let whole = self.element(|key, value| {
            let raw = bytes.get(value.clone()).unwrap_or_default();
            match key {
                b"role" if raw.len() <= NAME => {
                    message.user = json::string_is(raw, "user");
                    message.system = json::string_is(raw, "system") || json::string_is(raw, "developer");
                }
                b"content" => message.content = Some(value),
                b"tool_calls" | b"function_call" => message.calls = Some(value),
                _ => {}
            }
        });
        if whole {
            return Some(message);
        }
        // Either there is none, or reading it ended early: then there is no more to be had behind it.
        let cut = self.low > 0 && self.last().is_some_and(|byte| byte != b'[') || self.steps < 2;
        self.steps = 0;
        cut.then(|| Message {
            content: Some(end.saturating_sub(2 * LONG).max(self.low)..end.saturating_sub(2)),
            cut: true,
            ..Message::default()
        })
    }
}
