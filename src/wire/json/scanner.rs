//! The validating scanner below `json.rs`: a position in bytes that moves over one token or value at a time.
//! It recurses nowhere and allocates nothing. UTF-8 is the caller's check.

use std::ops::Range;

use wide::u8x16;

use super::{JsonError, MAX_DEPTH};

/// A position in a document.
#[derive(Debug, Clone)]
pub(super) struct Scanner<'a> {
    bytes: &'a [u8],
    position: usize,
    /// The most containers that one value had open at once.
    deepest: u32,
}

/// Bytes looked at one word at a time before the search for a string's end is left to `memchr`, whose start costs
/// more than a short string.
const SHORT: usize = 32;

/// Bytes looked at together where there are escapes.
const BLOCK: usize = 64;

/// [`is_simple_escape`] as a table: where there are many escapes it costs a fifth less.
#[expect(clippy::indexing_slicing, reason = "evaluated when it is compiled")]
static SIMPLE_ESCAPES: [bool; 256] = {
    let mut simple = [false; 256];
    let mut byte = 0_u8;
    while byte < u8::MAX {
        simple[byte as usize] = is_simple_escape(byte);
        byte += 1;
    }
    simple
};

/// So many blocks in a row without quote and backslash mean plain text, over which `memchr` is faster.
const PLAIN_BLOCKS: u32 = 4;

impl<'a> Scanner<'a> {
    pub(super) fn new(bytes: &'a [u8], position: usize) -> Self {
        Scanner { bytes, position, deepest: 0 }
    }

    #[inline]
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.position).copied()
    }

    fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.position..).unwrap_or_default()
    }

    pub(super) fn incomplete(&self, expected: &'static str) -> JsonError {
        JsonError::Incomplete { at: self.bytes.len(), expected }
    }

    /// The error for what is here instead of what was expected.
    #[cold]
    fn unexpected(&self, expected: &'static str) -> JsonError {
        if self.position >= self.bytes.len() {
            return self.incomplete(expected);
        }
        JsonError::Syntax { at: self.position, expected }
    }

    /// Moves to the next byte that is not whitespace, and tells it.
    #[inline]
    pub(super) fn skip_whitespace(&mut self) -> Option<u8> {
        loop {
            match self.peek() {
                Some(b' ' | b'\n' | b'\t' | b'\r') => self.position += 1,
                other => return other,
            }
        }
    }

    /// Nothing but whitespace may be left.
    pub(super) fn end(&mut self) -> Result<(), JsonError> {
        match self.skip_whitespace() {
            None => Ok(()),
            Some(_) => Err(self.unexpected("the end of the document")),
        }
    }

    /// At `{`: moves to the first key and is true, or behind the `}` of an empty object and is false.
    #[inline]
    pub(super) fn open_object(&mut self) -> Result<bool, JsonError> {
        self.position += 1;
        match self.skip_whitespace() {
            Some(b'"') => Ok(true),
            Some(b'}') => {
                self.position += 1;
                Ok(false)
            }
            _ => Err(self.unexpected("a key or `}`")),
        }
    }

    /// At `[`: moves to the first element and is true, or behind the `]` of an empty array and is false.
    #[inline]
    pub(super) fn open_array(&mut self) -> Result<bool, JsonError> {
        self.position += 1;
        match self.skip_whitespace() {
            Some(b']') => {
                self.position += 1;
                Ok(false)
            }
            Some(_) => Ok(true),
            None => Err(self.unexpected("a value or `]`")),
        }
    }

    /// At the `"` of a key: moves behind its colon.
    #[inline]
    pub(super) fn key(&mut self) -> Result<Range<usize>, JsonError> {
        let start = self.position;
        self.string()?;
        let end = self.position;
        match self.skip_whitespace() {
            Some(b':') => {
                self.position += 1;
                Ok(start..end)
            }
            _ => Err(self.unexpected("`:`")),
        }
    }

    /// After a member's value: moves to the next key and is true, or behind the `}` and is false.
    #[inline]
    pub(super) fn next_member(&mut self) -> Result<bool, JsonError> {
        match self.skip_whitespace() {
            Some(b',') => {
                self.position += 1;
                match self.skip_whitespace() {
                    Some(b'"') => Ok(true),
                    _ => Err(self.unexpected("a key")),
                }
            }
            Some(b'}') => {
                self.position += 1;
                Ok(false)
            }
            _ => Err(self.unexpected("`,` or `}`")),
        }
    }

    /// After an element: moves behind the comma and is true, or behind the `]` and is false.
    #[inline]
    pub(super) fn next_element(&mut self) -> Result<bool, JsonError> {
        match self.skip_whitespace() {
            Some(b',') => {
                self.position += 1;
                Ok(true)
            }
            Some(b']') => {
                self.position += 1;
                Ok(false)
            }
            _ => Err(self.unexpected("`,` or `]`")),
        }
    }

    /// The next value, from its first byte to behind its last.
    #[inline]
    pub(super) fn ranged_value(&mut self, depth: u32) -> Result<Range<usize>, JsonError> {
        self.skip_whitespace();
        let start = self.position;
        self.value(depth)?;
        Ok(start..self.position)
    }

    /// How many containers the values since the last call had open at once, at most.
    pub(super) fn take_deepest(&mut self) -> u32 {
        std::mem::take(&mut self.deepest)
    }

    /// Moves over one value of any kind, inside of `depth` open containers.
    pub(super) fn value(&mut self, depth: u32) -> Result<(), JsonError> {
        // One bit for each container opened here, the innermost lowest: 1 is an object.
        let mut kinds: u128 = 0;
        let mut open: u32 = 0;
        loop {
            let opened = match self.skip_whitespace() {
                Some(b'"') => {
                    self.string()?;
                    false
                }
                Some(bracket @ (b'{' | b'[')) => {
                    if depth + open >= MAX_DEPTH {
                        return Err(JsonError::TooDeep { at: self.position });
                    }
                    let object = bracket == b'{';
                    let filled = if object { self.open_object()? } else { self.open_array()? };
                    self.deepest = self.deepest.max(open + 1);
                    if filled {
                        open += 1;
                        kinds = (kinds << 1) | u128::from(object);
                    }
                    filled
                }
                Some(b'-' | b'0'..=b'9') => {
                    self.number()?;
                    false
                }
                Some(b't') => self.literal(b"true")?,
                Some(b'f') => self.literal(b"false")?,
                Some(b'n') => self.literal(b"null")?,
                _ => return Err(self.unexpected("a value")),
            };
            if !opened {
                loop {
                    if open == 0 {
                        return Ok(());
                    }
                    let more = if kinds & 1 == 1 { self.next_member()? } else { self.next_element()? };
                    if more {
                        break;
                    }
                    open -= 1;
                    kinds >>= 1;
                }
            }
            if kinds & 1 == 1 {
                self.key()?;
            }
        }
    }

    /// Always false on success: a literal opens nothing.
    fn literal(&mut self, word: &'static [u8]) -> Result<bool, JsonError> {
        let rest = self.rest();
        if rest.starts_with(word) {
            self.position += word.len();
            return Ok(false);
        }
        if word.starts_with(rest) {
            return Err(self.incomplete("the rest of `true`, `false` or `null`"));
        }
        Err(self.unexpected("`true`, `false` or `null`"))
    }

    fn number(&mut self) -> Result<(), JsonError> {
        if self.peek() == Some(b'-') {
            self.position += 1;
        }
        if self.peek() == Some(b'0') {
            self.position += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.position += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.position += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.position += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    /// At least one digit.
    fn digits(&mut self) -> Result<(), JsonError> {
        let start = self.position;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.position += 1;
        }
        if self.position == start {
            return Err(self.unexpected("a digit"));
        }
        Ok(())
    }

    /// At the opening quote: moves behind the closing one.
    #[inline]
    fn string(&mut self) -> Result<(), JsonError> {
        self.position += 1;
        loop {
            let rest = self.rest();
            let Some(offset) = find_special(rest) else {
                return Err(self.incomplete("`\"`"));
            };
            self.position += offset;
            match rest.get(offset) {
                Some(b'"') => {
                    self.position += 1;
                    return Ok(());
                }
                Some(b'\\') => self.escape()?,
                _ => return Err(self.unexpected("an escape in place of a control character")),
            }
            // Where one escape is there are mostly more: source code has one every few words.
            if self.string_blocks() {
                return Ok(());
            }
        }
    }

    /// Inside a string, not inside an escape: moves on by whole blocks as long as all is well in them, and is true
    /// behind the closing quote. What is not well is left to the slower way, which names it.
    fn string_blocks(&mut self) -> bool {
        let mut plain = 0;
        // Whether the last byte of the block before is a backslash that escapes the first of this one.
        let mut open_escape = false;
        while let Some(block) = self.rest().first_chunk() {
            let Some(marks) = Marks::of(block) else { break };
            let (escaped, goes_on) = escaped(marks.backslashes, open_escape);
            let ends = marks.quotes & !escaped;
            let inside = ends.wrapping_sub(1) & !ends;
            if !self.escapes_are_good(block, escaped & inside & !marks.usual) {
                break;
            }
            if ends != 0 {
                self.position += ends.trailing_zeros() as usize + 1;
                return true;
            }
            self.position += BLOCK;
            open_escape = goes_on;
            plain = if marks.backslashes == 0 { plain + 1 } else { 0 };
            if plain == PLAIN_BLOCKS {
                break;
            }
        }
        self.position -= usize::from(open_escape);
        false
    }

    /// Whether each of these bytes of the block that starts here may follow a backslash.
    #[inline]
    fn escapes_are_good(&self, block: &[u8; BLOCK], mut escaped: u64) -> bool {
        let mut good = true;
        while escaped != 0 {
            let offset = escaped.trailing_zeros() as usize;
            let byte = block.get(offset).copied().unwrap_or_default();
            good &= SIMPLE_ESCAPES.get(usize::from(byte)).is_some_and(|simple| *simple)
                || (byte == b'u' && Scanner::new(self.bytes, self.position + offset - 1).escape().is_ok());
            escaped &= escaped - 1;
        }
        good
    }

    /// At the backslash: moves behind the escape.
    fn escape(&mut self) -> Result<(), JsonError> {
        self.position += 1;
        match self.peek() {
            Some(byte) if is_simple_escape(byte) => {
                self.position += 1;
                Ok(())
            }
            Some(b'u') => {
                self.position += 1;
                for _ in 0..4 {
                    if !self.peek().is_some_and(|byte| byte.is_ascii_hexdigit()) {
                        return Err(self.unexpected("four hexadecimal digits"));
                    }
                    self.position += 1;
                }
                Ok(())
            }
            _ => Err(self.unexpected("an escape such as `\\n` or `\\u00e9`")),
        }
    }
}

/// The first byte that a string cannot simply contain: a quote, a backslash or a control character.
#[inline]
fn find_special(bytes: &[u8]) -> Option<usize> {
    let (words, tail) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().take(SHORT / 8).enumerate() {
        let mask = special_mask(u64::from_le_bytes(*word));
        if mask != 0 {
            return Some(index * 8 + mask.trailing_zeros() as usize / 8);
        }
    }
    if words.len() >= SHORT / 8 {
        return find_special_far(bytes, SHORT);
    }
    let behind_words = bytes.len() - tail.len();
    tail.iter().position(|byte| is_special(*byte)).map(|offset| behind_words + offset)
}

/// The same from byte `from` on, made for long strings.
fn find_special_far(bytes: &[u8], from: usize) -> Option<usize> {
    let far = bytes.get(from..).unwrap_or_default();
    let end = memchr::memchr2(b'"', b'\\', far);
    let before = far.get(..end.unwrap_or(far.len())).unwrap_or_default();
    // Without an early exit this becomes vector instructions.
    let control = before.iter().fold(false, |found, byte| found | (*byte < 0x20));
    if control {
        return before.iter().position(|byte| *byte < 0x20).map(|offset| from + offset);
    }
    end.map(|offset| from + offset)
}

/// Where the quotes and backslashes of a block are: one bit for each byte, the first lowest.
struct Marks {
    quotes: u64,
    backslashes: u64,
    /// What mostly stands behind a backslash: a quote, a backslash or an `n`. Blocks with other escapes are rare
    /// enough to look at each of theirs.
    usual: u64,
}

impl Marks {
    /// `None` if the block has a control character.
    #[inline]
    fn of(block: &[u8; BLOCK]) -> Option<Marks> {
        let (quote, backslash, control) = (u8x16::splat(b'"'), u8x16::splat(b'\\'), u8x16::splat(0x1F));
        let line_feed = u8x16::splat(b'n');
        let mut marks = Marks { quotes: 0, backslashes: 0, usual: 0 };
        let mut controls = u8x16::splat(0);
        for (index, bytes) in block.as_chunks::<16>().0.iter().enumerate() {
            let bytes = u8x16::new(*bytes);
            controls |= bytes.min(control).simd_eq(bytes);
            marks.quotes |= u64::from(bytes.simd_eq(quote).to_bitmask()) << (16 * index);
            marks.usual |= u64::from(bytes.simd_eq(line_feed).to_bitmask()) << (16 * index);
            marks.backslashes |= u64::from(bytes.simd_eq(backslash).to_bitmask()) << (16 * index);
        }
        marks.usual |= marks.quotes | marks.backslashes;
        (controls.to_bitmask() == 0).then_some(marks)
    }
}

/// Which bytes of a block are escaped, and whether the first one after it is: those behind an odd number of
/// backslashes. An addition carries through each run of them, which tells odd from even without a loop
/// (Langdale and Lemire, "Parsing gigabytes of JSON per second", 2019, §3.1.1).
#[inline]
fn escaped(backslashes: u64, first: bool) -> (u64, bool) {
    const EVEN: u64 = 0x5555_5555_5555_5555;
    let backslashes = backslashes & !u64::from(first);
    let behind = backslashes << 1 | u64::from(first);
    let starts_on_odd = backslashes & !EVEN & !behind;
    let (carried, goes_on) = starts_on_odd.overflowing_add(backslashes);
    ((EVEN ^ (carried << 1)) & behind, goes_on)
}

/// Whether this byte behind a backslash is a whole escape.
#[inline]
const fn is_simple_escape(byte: u8) -> bool {
    matches!(byte, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't')
}

fn is_special(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

/// The high bit of every special byte of a little-endian word. Bits above the lowest one set may be false alarms
/// (a borrow runs upwards), the lowest never is.
#[inline]
fn special_mask(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let quotes = word ^ (ONES * b'"' as u64);
    let backslashes = word ^ (ONES * b'\\' as u64);
    let controls = word.wrapping_sub(ONES * 0x20) & !word;
    let found =
        (quotes.wrapping_sub(ONES) & !quotes) | (backslashes.wrapping_sub(ONES) & !backslashes) | controls;
    found & HIGHS
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_escaped_is_what_comes_behind_an_odd_number_of_backslashes(
            dense in any::<u64>(), sparse in any::<u64>(), first in any::<bool>(),
        ) {
            for backslashes in [dense, dense | sparse, dense & sparse, !0, 0] {
                let (mut expected, mut open) = (0, first);
                for bit in 0..64 {
                    expected |= u64::from(open) << bit;
                    open = !open && backslashes >> bit & 1 == 1;
                }
                prop_assert_eq!(escaped(backslashes, first), (expected, open), "{:b}", backslashes);
            }
        }
    }
}
