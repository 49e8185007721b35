//! Reads JSON by byte ranges: one validating pass finds the members of the top-level object, lazy iterators go deeper.
//! It builds no values and changes no bytes; edits are `splice.rs`.
//!
//! What is accepted is what `serde_json` accepts for an ignored value (RFC 8259; trailing whitespace, numbers of any
//! size and escapes of lone surrogates included), with these differences: the document must be UTF-8 throughout,
//! nesting is bounded by [`MAX_DEPTH`] and the members of the top-level object by [`MAX_MEMBERS`].

mod digest;
mod lazy;
mod scanner;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::ops::Range;

pub use digest::{Digest, Digester};
pub use lazy::{Element, Elements, Field, Members, elements_of, members_of};
use scanner::Scanner;

/// How many containers may be open at once; `serde_json` refuses a 128th too.
pub const MAX_DEPTH: u32 = 127;

/// How many members a top-level object may have. No API comes near it; without it a body of empty members would
/// cost many times its own size.
pub const MAX_MEMBERS: usize = 1024;

/// One top-level member of a JSON object, by its byte ranges in the body it was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The key, unescaped.
    pub key: String,
    /// The key with its quotes.
    pub key_range: Range<usize>,
    /// The value, as written.
    pub value: Range<usize>,
    /// How many containers are open at once in the value: 0 for a string, 1 for `[]`, 2 for `[{}]`.
    pub depth: u32,
}

/// A member by its ranges alone, for those who compare keys as bytes and want no allocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// The key with its quotes.
    pub key: Range<usize>,
    /// The value, as written.
    pub value: Range<usize>,
    /// How many containers are open at once in the value.
    pub depth: u32,
}

/// Why a document was refused, and at which byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// A byte sequence that is not UTF-8.
    #[error("not valid UTF-8 at byte {at}")]
    NotUtf8 {
        /// The first byte of that sequence.
        at: usize,
    },
    /// The document ends in the middle: more bytes could have made it valid.
    #[error("ends too early, at byte {at}, where {expected} is missing")]
    Incomplete {
        /// The length of what there is.
        at: usize,
        /// What would have to follow.
        expected: &'static str,
    },
    /// A byte that no valid document can have there.
    #[error("not valid JSON at byte {at}: expected {expected}")]
    Syntax {
        /// The offending byte.
        at: usize,
        /// What was expected instead.
        expected: &'static str,
    },
    /// More than [`MAX_DEPTH`] open containers.
    #[error("nested more than {MAX_DEPTH} levels deep at byte {at}")]
    TooDeep {
        /// The bracket or brace that went too far.
        at: usize,
    },
    /// More than [`MAX_MEMBERS`] members in the top-level object.
    #[error("more than {MAX_MEMBERS} members, at byte {at}")]
    TooManyMembers {
        /// The first member too many.
        at: usize,
    },
    /// Valid JSON, but not an object.
    #[error("not a JSON object")]
    NotAnObject,
}

/// Validates a whole document and lists the members of its top-level object in the order written, duplicates included.
///
/// # Errors
/// Everything that [`JsonError`] names.
pub fn scan_object(bytes: &[u8]) -> Result<Vec<Member>, JsonError> {
    let mut spans = Vec::with_capacity(16);
    scan_spans(bytes, &mut spans)?;
    let members = spans.into_iter().map(|span| Member {
        key: bytes.get(span.key.clone()).and_then(string_value).unwrap_or_default().into_owned(),
        key_range: span.key,
        value: span.value,
        depth: span.depth,
    });
    Ok(members.collect())
}

/// [`scan_object`] into a list that the caller keeps and reuses; what was in it is dropped.
///
/// # Errors
/// Everything that [`JsonError`] names.
pub fn scan_spans(bytes: &[u8], spans: &mut Vec<Span>) -> Result<(), JsonError> {
    spans.clear();
    check_utf8(bytes)?;
    let mut scanner = Scanner::new(bytes, 0);
    match scanner.skip_whitespace() {
        Some(b'{') => {}
        None => return Err(scanner.incomplete("a JSON object")),
        Some(_) => {
            scanner.value(0)?;
            scanner.end()?;
            return Err(JsonError::NotAnObject);
        }
    }
    if scanner.open_object()? {
        loop {
            let key = scanner.key()?;
            let value = scanner.ranged_value(1)?;
            let depth = scanner.take_deepest();
            if spans.len() == MAX_MEMBERS {
                return Err(JsonError::TooManyMembers { at: key.start });
            }
            spans.push(Span { key, value, depth });
            if !scanner.next_member()? {
                break;
            }
        }
    }
    scanner.end()
}

/// Validates a whole document of any kind.
///
/// # Errors
/// Everything that [`JsonError`] names but `NotAnObject` and `TooManyMembers`.
pub fn check(bytes: &[u8]) -> Result<(), JsonError> {
    check_utf8(bytes)?;
    let mut scanner = Scanner::new(bytes, 0);
    scanner.value(0)?;
    scanner.end()
}

/// A document from this length on is checked for UTF-8 by vector instructions, which pay less for text that is not
/// ASCII. The events of a stream are shorter: when they come one by one, the less code to bring into the cache the better.
const LONG: usize = 4096;

/// A character that is cut off by the end of the document is incomplete, not wrong.
fn check_utf8(bytes: &[u8]) -> Result<(), JsonError> {
    let (valid_up_to, cut) = if bytes.len() < LONG {
        match std::str::from_utf8(bytes) {
            Ok(_) => return Ok(()),
            Err(error) => (error.valid_up_to(), error.error_len().is_none()),
        }
    } else {
        match simdutf8::compat::from_utf8(bytes) {
            Ok(_) => return Ok(()),
            Err(error) => (error.valid_up_to(), error.error_len().is_none()),
        }
    };
    if cut {
        return Err(JsonError::Incomplete { at: bytes.len(), expected: "the rest of a character" });
    }
    Err(JsonError::NotUtf8 { at: valid_up_to })
}

/// The text of a string value given with its quotes, unescaped; `None` when it is no string.
/// Escapes of lone surrogates, which no text can hold, become U+FFFD.
pub fn string_value(raw: &[u8]) -> Option<Cow<'_, str>> {
    let inner = raw.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    let text = std::str::from_utf8(inner).ok()?;
    if memchr::memchr(b'\\', inner).is_none() {
        return Some(Cow::Borrowed(text));
    }
    unescape(text).map(Cow::Owned)
}

/// `None` when an escape is not one, which validated bytes cannot have.
fn unescape(text: &str) -> Option<String> {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        plain.push_str(before);
        let mut chars = after.chars();
        match chars.next()? {
            '"' => plain.push('"'),
            '\\' => plain.push('\\'),
            '/' => plain.push('/'),
            'b' => plain.push('\u{8}'),
            'f' => plain.push('\u{c}'),
            'n' => plain.push('\n'),
            'r' => plain.push('\r'),
            't' => plain.push('\t'),
            'u' => {
                let (unit, behind) = hex4(chars.as_str())?;
                let (decoded, left) = code_point(unit, behind);
                plain.push(decoded);
                rest = left;
                continue;
            }
            _ => return None,
        }
        rest = chars.as_str();
    }
    plain.push_str(rest);
    Some(plain)
}

/// Four hexadecimal digits and what stands behind them.
fn hex4(text: &str) -> Option<(u32, &str)> {
    let (digits, behind) = text.split_at_checked(4)?;
    // `from_str_radix` takes a sign; JSON does not.
    if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    Some((u32::from_str_radix(digits, 16).ok()?, behind))
}

/// The character of a `\u` escape, with a second escape where the first is the first half of a surrogate pair.
fn code_point(unit: u32, behind: &str) -> (char, &str) {
    if let Some(character) = char::from_u32(unit) {
        return (character, behind);
    }
    if unit < 0xDC00
        && let Some((low @ 0xDC00..=0xDFFF, left)) = behind.strip_prefix("\\u").and_then(hex4)
        && let Some(character) = char::from_u32(0x1_0000 + ((unit - 0xD800) << 10) + (low - 0xDC00))
    {
        return (character, left);
    }
    (char::REPLACEMENT_CHARACTER, behind)
}

/// The bytes of a key given with its quotes, unescaped where it has escapes. Cheaper to match on than a string.
pub fn key_bytes(raw: &[u8]) -> Cow<'_, [u8]> {
    let inner = raw.strip_prefix(b"\"").and_then(|tail| tail.strip_suffix(b"\"")).unwrap_or_default();
    if inner.contains(&b'\\') {
        return Cow::Owned(string_value(raw).unwrap_or_default().into_owned().into_bytes());
    }
    Cow::Borrowed(inner)
}

/// Whether a key or string, given with its quotes, says exactly `text`.
pub fn string_is(raw: &[u8], text: &str) -> bool {
    raw.starts_with(b"\"") && key_bytes(raw).as_ref() == text.as_bytes()
}

/// A whole number that fits, written in digits alone; `None` for everything else (`-1`, `1.0`, `1e3`, `"1"`).
pub fn as_u64(raw: &[u8]) -> Option<u64> {
    if !raw.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(raw).ok()?.parse().ok()
}

/// `true` or `false`; `None` for everything else.
pub fn as_bool(raw: &[u8]) -> Option<bool> {
    match raw {
        b"true" => Some(true),
        b"false" => Some(false),
        _ => None,
    }
}

/// Whether the value is `null`.
pub fn is_null(raw: &[u8]) -> bool {
    raw == b"null"
}

/// Whether the value says nothing: `null`, `""`, `[]`, `{}` (with any whitespace inside).
pub fn is_empty(raw: &[u8]) -> bool {
    match raw {
        b"null" | b"\"\"" | b"[]" | b"{}" => true,
        [b'[', inner @ .., b']'] | [b'{', inner @ .., b'}'] => {
            inner.iter().all(|byte| matches!(byte, b' ' | b'\n' | b'\t' | b'\r'))
        }
        _ => false,
    }
}

/// Appends `text` as a JSON string with its quotes.
pub fn push_quoted(target: &mut Vec<u8>, text: &str) {
    target.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'"' => target.extend_from_slice(b"\\\""),
            b'\\' => target.extend_from_slice(b"\\\\"),
            b'\n' => target.extend_from_slice(b"\\n"),
            b'\r' => target.extend_from_slice(b"\\r"),
            b'\t' => target.extend_from_slice(b"\\t"),
            0x00..=0x1F => {
                let digit = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
                target.extend_from_slice(b"\\u00");
                target.extend_from_slice(&[digit(byte >> 4), digit(byte & 0xF)]);
            }
            _ => target.push(byte),
        }
    }
    target.push(b'"');
}

/// `text` as a JSON string with its quotes.
pub fn quoted(text: &str) -> Vec<u8> {
    let mut target = Vec::with_capacity(text.len() + 2);
    push_quoted(&mut target, text);
    target
}
