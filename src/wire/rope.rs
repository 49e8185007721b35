//! A long text in pieces that share memory: an edited body of many kilobytes is mostly what the client sent, and
//! need not be copied to be sent on.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};

/// Bytes in pieces, in their order.
#[derive(Debug, Clone, Default)]
pub struct Rope {
    parts: VecDeque<Bytes>,
}

impl Rope {
    /// Adds a piece at the end.
    pub fn push(&mut self, part: Bytes) {
        if !part.is_empty() {
            self.parts.push_back(part);
        }
    }

    /// Adds the pieces of another at the end.
    pub fn append(&mut self, mut other: Rope) {
        self.parts.append(&mut other.parts);
    }

    /// The length of all pieces in bytes.
    pub fn len(&self) -> usize {
        self.parts.iter().map(Bytes::len).sum()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// The whole in one piece; copied only if it is in several.
    pub fn to_bytes(&self) -> Bytes {
        if let (Some(only), 1) = (self.parts.front(), self.parts.len()) {
            return only.clone();
        }
        let mut whole = BytesMut::with_capacity(self.len());
        for part in &self.parts {
            whole.extend_from_slice(part);
        }
        whole.freeze()
    }
}

/// Reading takes the pieces away from the front.
impl Buf for Rope {
    fn remaining(&self) -> usize {
        self.len()
    }

    fn chunk(&self) -> &[u8] {
        self.parts.front().map_or(&[], |part| part)
    }

    fn has_remaining(&self) -> bool {
        !self.is_empty()
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let pairs = slices.iter_mut().zip(&self.parts);
        pairs.map(|(slice, part)| *slice = IoSlice::new(part)).count()
    }

    fn advance(&mut self, mut count: usize) {
        while let Some(part) = self.parts.front_mut() {
            if count < part.len() {
                part.advance(count);
                return;
            }
            count -= part.len();
            self.parts.pop_front();
        }
    }
}

impl PartialEq for Rope {
    fn eq(&self, other: &Rope) -> bool {
        self.to_bytes() == other.to_bytes()
    }
}

impl Eq for Rope {}

impl From<Bytes> for Rope {
    fn from(whole: Bytes) -> Self {
        let mut rope = Rope::default();
        rope.push(whole);
        rope
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_make_a_whole() {
        let mut rope = Rope::from(Bytes::from_static(b"hello"));
        rope.push(Bytes::new());
        rope.push(Bytes::from_static(b", world"));
        assert_eq!(rope.len(), 12);
        assert_eq!(rope.to_bytes(), "hello, world");
    }

    #[test]
    fn reading_takes_pieces_away_and_loses_nothing() {
        let mut rope = Rope::from(Bytes::from_static(b"hello"));
        rope.append(Rope::from(Bytes::from_static(b", world")));
        let mut slices = [IoSlice::new(&[]); 8];
        assert_eq!(rope.chunks_vectored(&mut slices), 2);
        assert_eq!((&*slices[0], &*slices[1]), (&b"hello"[..], &b", world"[..]));
        assert_eq!(rope.chunks_vectored(&mut [IoSlice::new(&[])]), 1);
        for (count, left) in [(0, "hello, world"), (2, "llo, world"), (3, ", world"), (7, "")] {
            rope.advance(count);
            assert_eq!(rope.to_bytes(), left);
            assert_eq!(rope.remaining(), left.len());
        }
        assert!(rope.chunk().is_empty() && !rope.has_remaining());
    }

    #[test]
    fn nothing_has_no_pieces() {
        assert!(Rope::from(Bytes::new()).is_empty());
        assert!(Rope::default().to_bytes().is_empty());
    }
}
