//! A long text in pieces that share memory: an edited body of many kilobytes is mostly what the client sent, and
//! need not be copied to be sent on.

use bytes::{Bytes, BytesMut};

/// Bytes in pieces, in their order.
#[derive(Debug, Clone, Default)]
pub struct Rope {
    parts: Vec<Bytes>,
}

impl Rope {
    /// Adds a piece at the end.
    pub fn push(&mut self, part: Bytes) {
        if !part.is_empty() {
            self.parts.push(part);
        }
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
        if let [only] = self.parts.as_slice() {
            return only.clone();
        }
        let mut whole = BytesMut::with_capacity(self.len());
        for part in &self.parts {
            whole.extend_from_slice(part);
        }
        whole.freeze()
    }

    /// The pieces, cut so that none is longer than `most`; those of a long part are about the same length, so that no
    /// small one is left over at its end.
    pub fn into_pieces(self, most: usize) -> impl Iterator<Item = Bytes> {
        let most = most.max(1);
        self.parts.into_iter().flat_map(move |mut rest| {
            let length = rest.len().div_ceil(rest.len().div_ceil(most).max(1));
            std::iter::from_fn(move || {
                (!rest.is_empty()).then(|| {
                    let end = rest.len().min(length);
                    rest.split_to(end)
                })
            })
        })
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
    fn pieces_are_cut_and_lose_nothing() {
        let mut rope = Rope::from(Bytes::from_static(b"hello"));
        rope.push(Bytes::new());
        rope.push(Bytes::from_static(b", world"));
        assert_eq!(rope.len(), 12);
        assert_eq!(rope.to_bytes(), "hello, world");
        let pieces: Vec<Bytes> = rope.into_pieces(4).collect();
        assert_eq!(pieces, ["hel", "lo", ", wo", "rld"]);
    }

    #[test]
    fn nothing_has_no_pieces() {
        assert!(Rope::from(Bytes::new()).is_empty());
        assert_eq!(Rope::default().into_pieces(0).count(), 0);
    }
}
