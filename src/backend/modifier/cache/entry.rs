//! One kept answer, and how it is written down. Pure.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::super::recording::Piece;
use crate::dialect::Usage;
use crate::quota::Moment;

/// An answer from the future is not believed; clocks that are set differ by less.
const LEAP: Duration = Duration::from_secs(60);
/// What an entry takes beside its bytes, about.
const OVERHEAD: usize = 256;

/// A kept answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// When it was given.
    pub(super) made: Moment,
    /// The answer as the client got it.
    pub(super) bytes: Bytes,
    /// For a stream, how it came.
    pub(super) pieces: Option<Vec<Piece>>,
    /// The model that gave it, as its upstream calls it.
    pub(super) model: String,
    /// What was changed in the request.
    pub(super) edits: Vec<String>,
    /// What it cost then.
    pub(super) usage: Usage,
}

/// What is written before the answer, on one line.
#[derive(Serialize, Deserialize)]
struct Head {
    made: i64,
    pieces: Option<Vec<(u32, u32)>>,
    model: String,
    edits: Vec<String>,
    usage: [Option<u64>; 4],
}

// === impl Entry ===

impl Entry {
    /// How old it is; `None` if it is from the future.
    pub(super) fn age(&self, now: Moment) -> Option<Duration> {
        match u64::try_from(now.0.saturating_sub(self.made.0)) {
            Ok(milliseconds) => Some(Duration::from_millis(milliseconds)),
            Err(_) => {
                let ahead = Duration::from_millis(self.made.0.abs_diff(now.0));
                (ahead <= LEAP).then_some(Duration::ZERO)
            }
        }
    }

    /// How much memory it takes, about.
    pub(super) fn size(&self) -> usize {
        let pieces = self.pieces.as_ref().map_or(0, |pieces| pieces.len() * size_of::<Piece>());
        let edits: usize = self.edits.iter().map(|edit| edit.len() + size_of::<String>()).sum();
        OVERHEAD + self.bytes.len() + pieces + self.model.len() + edits
    }

    /// As bytes.
    pub(super) fn written(&self) -> Vec<u8> {
        let head = Head {
            made: self.made.0,
            pieces: self
                .pieces
                .as_ref()
                .map(|pieces| pieces.iter().map(|piece| (piece.end, piece.after)).collect()),
            model: self.model.clone(),
            edits: self.edits.clone(),
            usage: [self.usage.input, self.usage.output, self.usage.reasoning, self.usage.cached],
        };
        // Numbers and texts can always be written.
        let mut written = serde_json::to_vec(&head).unwrap_or_default();
        written.push(b'\n');
        written.extend_from_slice(&self.bytes);
        written
    }

    /// From bytes; `None` if they are none of ours.
    pub(super) fn read(written: &[u8]) -> Option<Self> {
        let line = memchr::memchr(b'\n', written)?;
        let head: Head = serde_json::from_slice(written.get(..line)?).ok()?;
        let bytes = Bytes::copy_from_slice(written.get(line + 1..)?);
        let pieces: Option<Vec<Piece>> =
            head.pieces.map(|pieces| pieces.into_iter().map(|(end, after)| Piece { end, after }).collect());
        if let Some(pieces) = &pieces {
            let whole = pieces.last().is_some_and(|last| last.end as usize == bytes.len());
            if !whole || !pieces.is_sorted_by_key(|piece| piece.end) {
                return None;
            }
        }
        let [input, output, reasoning, cached] = head.usage;
        let usage = Usage { input, output, reasoning, cached };
        Some(Entry { made: Moment(head.made), bytes, pieces, model: head.model, edits: head.edits, usage })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(pieces: Option<Vec<Piece>>) -> Entry {
        Entry {
            made: Moment(1_000_000),
            bytes: Bytes::from_static(b"{\"a\":\n\"\xc3\xa9\"}"),
            pieces,
            model: "m/x".to_owned(),
            edits: vec!["drop:seed".to_owned()],
            usage: Usage { input: Some(3), output: Some(5), reasoning: None, cached: Some(0) },
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let last = u32::try_from(entry(None).bytes.len()).unwrap();
        for pieces in [None, Some(vec![Piece { end: 2, after: 7 }, Piece { end: last, after: 0 }])] {
            let entry = entry(pieces);
            assert_eq!(Entry::read(&entry.written()), Some(entry));
        }
    }

    #[test]
    fn what_is_broken_is_not_read() {
        let piece = |end| Piece { end, after: 0 };
        for pieces in [vec![], vec![piece(2)], vec![piece(99)], vec![piece(5), piece(2), piece(11)]] {
            assert_eq!(Entry::read(&entry(Some(pieces)).written()), None);
        }
        for bytes in [&b""[..], b"\n", b"{}\nx", b"no line", b"[1]\n"] {
            assert_eq!(Entry::read(bytes), None);
        }
    }

    #[test]
    fn an_entry_from_the_future_has_no_age() {
        let entry = entry(None);
        let age = |now| entry.age(Moment(now));
        assert_eq!(age(1_000_500), Some(Duration::from_millis(500)));
        assert_eq!(age(999_000), Some(Duration::ZERO));
        assert_eq!(age(1_000_000 - 61_000), None);
        assert_eq!(age(i64::MIN), None);
    }
}
