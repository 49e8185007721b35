//! Iterators over one object or array inside bytes that were validated before. They find ranges and nothing else.
//! On bytes that are not valid they end early; they never panic and never run on.

use std::borrow::Cow;
use std::ops::Range;

use super::scanner::Scanner;
use super::{key_bytes, string_is, string_value};

/// One member of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field<'a> {
    /// The key as written, with its quotes.
    pub raw_key: &'a [u8],
    /// Where that is in the bytes the iterator was given.
    pub key_range: Range<usize>,
    /// The value as written.
    pub raw: &'a [u8],
    /// Where that is in the bytes the iterator was given.
    pub range: Range<usize>,
}

impl<'a> Field<'a> {
    /// Whether this is the key, escapes or not.
    pub fn is(&self, key: &str) -> bool {
        string_is(self.raw_key, key)
    }

    /// The bytes of the key, unescaped: the cheap way to match on it.
    pub fn key_bytes(&self) -> Cow<'a, [u8]> {
        key_bytes(self.raw_key)
    }

    /// The key, unescaped.
    pub fn key(&self) -> Cow<'a, str> {
        string_value(self.raw_key).unwrap_or_default()
    }
}

/// One element of an array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element<'a> {
    /// The value as written.
    pub raw: &'a [u8],
    /// Where that is in the bytes the iterator was given.
    pub range: Range<usize>,
}

/// The members of an object, in the order written. See [`members_of`].
#[derive(Debug, Clone)]
pub struct Members<'a> {
    bytes: &'a [u8],
    scanner: Scanner<'a>,
    state: State,
}

/// The elements of an array, in the order written. See [`elements_of`].
#[derive(Debug, Clone)]
pub struct Elements<'a> {
    bytes: &'a [u8],
    scanner: Scanner<'a>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Before,
    Within,
    Over,
}

/// The members of the object that is written at `range` of `bytes`; none if it is no object. Ranges are counted in `bytes`.
pub fn members_of(bytes: &[u8], range: Range<usize>) -> Members<'_> {
    let upto = bytes.get(..range.end).unwrap_or_default();
    Members { bytes: upto, scanner: Scanner::new(upto, range.start), state: State::Before }
}

/// The elements of the array that is written at `range` of `bytes`; none if it is no array. Ranges are counted in `bytes`.
pub fn elements_of(bytes: &[u8], range: Range<usize>) -> Elements<'_> {
    let upto = bytes.get(..range.end).unwrap_or_default();
    Elements { bytes: upto, scanner: Scanner::new(upto, range.start), state: State::Before }
}

impl<'a> Iterator for Members<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        let more = match self.state {
            State::Before if self.scanner.skip_whitespace() == Some(b'{') => self.scanner.open_object(),
            State::Within => self.scanner.next_member(),
            State::Before | State::Over => Ok(false),
        };
        // Until a whole member was read, the next one is none.
        self.state = State::Over;
        if !more.ok()? {
            return None;
        }
        let key_range = self.scanner.key().ok()?;
        let range = self.scanner.ranged_value(0).ok()?;
        self.state = State::Within;
        Some(Field {
            raw_key: self.bytes.get(key_range.clone())?,
            key_range,
            raw: self.bytes.get(range.clone())?,
            range,
        })
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = Element<'a>;

    fn next(&mut self) -> Option<Element<'a>> {
        let more = match self.state {
            State::Before if self.scanner.skip_whitespace() == Some(b'[') => self.scanner.open_array(),
            State::Within => self.scanner.next_element(),
            State::Before | State::Over => Ok(false),
        };
        self.state = State::Over;
        if !more.ok()? {
            return None;
        }
        let range = self.scanner.ranged_value(0).ok()?;
        self.state = State::Within;
        Some(Element { raw: self.bytes.get(range.clone())?, range })
    }
}
