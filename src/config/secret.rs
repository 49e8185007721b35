//! Secrets: values that are in no log, error, header or metric.
//! Only holds and compares them; `reference.rs` fetches them.

use subtle::{Choice, ConstantTimeEq};

/// Secrets are compared in pieces of this many bytes, so that time tells their length only this roughly.
const PIECE: usize = 256;

/// A secret text. Has no `Debug`, no `Display`, no `Serialize`; comparison is in constant time.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret value.
    pub fn new(value: impl Into<String>) -> Self {
        Secret(value.into())
    }

    /// The value, for the one place that sends it upstream.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether it is the same text. The time depends on the lengths only in steps of 256 bytes and not on the
    /// contents.
    pub fn matches(&self, other: &str) -> bool {
        let ours = self.0.as_bytes();
        let theirs = other.as_bytes();
        let pieces = ours.len().max(theirs.len()).div_ceil(PIECE).max(1);
        let mut same = (ours.len() as u64).ct_eq(&(theirs.len() as u64));
        for number in 0..pieces {
            same &= same_piece(piece(ours, number), piece(theirs, number));
        }
        same.into()
    }
}

fn same_piece(ours: [u8; PIECE], theirs: [u8; PIECE]) -> Choice {
    ours.as_slice().ct_eq(theirs.as_slice())
}

/// The n-th piece, filled up with zeroes.
fn piece(text: &[u8], number: usize) -> [u8; PIECE] {
    let mut filled = [0; PIECE];
    let part = text.chunks(PIECE).nth(number).unwrap_or_default();
    for (slot, byte) in filled.iter_mut().zip(part) {
        *slot = *byte;
    }
    filled
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_matches_itself_only() {
        let long = "k".repeat(1000);
        for text in ["", "a", "sk-123", &long] {
            assert!(Secret::new(text).matches(text));
            assert!(!Secret::new(text).matches(&format!("{text}x")));
            assert!(!Secret::new(format!("{text}x")).matches(text));
        }
        assert!(!Secret::new("abc").matches("abd"));
        assert!(!Secret::new(format!("{long}a")).matches(&format!("{long}b")));
    }

    #[test]
    fn padding_is_not_mistaken_for_content() {
        assert!(!Secret::new("abc").matches("abc\0"));
        assert!(!Secret::new("abc\0").matches("abc"));
        assert!(!Secret::new("").matches("\0"));
    }
}
