//! What was said of a streamed answer, piece by piece, for those that keep it: bounded, in one buffer of its own, so that
//! nothing of an upstream's buffers is held longer than the stream needs.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

/// A stream being recorded.
pub(super) struct Recorder {
    bytes: BytesMut,
    pieces: Vec<Piece>,
    most: usize,
    last: Instant,
    overflowed: bool,
}

/// Where one piece ends, and how long after the one before it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    /// Bytes from the begin of the stream.
    pub(super) end: u32,
    /// Milliseconds.
    pub(super) after: u32,
}

// === impl Recorder ===

impl Recorder {
    /// At most so many bytes; what is more ends the recording.
    pub(super) fn new(most: usize, now: Instant) -> Self {
        let most = most.min(u32::MAX as usize);
        Recorder { bytes: BytesMut::new(), pieces: Vec::new(), most, last: now, overflowed: false }
    }

    /// Notes what came. After an overflow nothing more is noted.
    pub(super) fn note(&mut self, piece: &[u8], now: Instant) {
        if self.overflowed || self.bytes.len() + piece.len() > self.most {
            self.overflowed = true;
            return;
        }
        self.bytes.extend_from_slice(piece);
        let after = now.saturating_duration_since(self.last);
        self.last = now;
        self.pieces.push(Piece {
            end: u32::try_from(self.bytes.len()).unwrap_or(u32::MAX),
            after: u32::try_from(after.as_millis()).unwrap_or(u32::MAX),
        });
    }

    /// Whether something was left out.
    pub(super) fn overflowed(&self) -> bool {
        self.overflowed
    }

    /// All that was noted.
    pub(super) fn take(&mut self) -> (Bytes, Vec<Piece>) {
        let bytes = std::mem::take(&mut self.bytes);
        // A buffer that grew by doubling has room that nobody would use.
        (Bytes::copy_from_slice(&bytes), std::mem::take(&mut self.pieces))
    }
}

impl Piece {
    /// How long after the one before it came.
    pub(super) fn pause(self) -> Duration {
        Duration::from_millis(u64::from(self.after))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_keep_their_ends_and_pauses() {
        let start = Instant::now();
        let mut recorder = Recorder::new(100, start);
        recorder.note(b"abc", start + Duration::from_millis(5));
        recorder.note(b"d", start + Duration::from_millis(25));
        let (bytes, pieces) = recorder.take();
        assert_eq!(bytes, "abcd");
        assert_eq!(pieces, [Piece { end: 3, after: 5 }, Piece { end: 4, after: 20 }]);
        assert!(!recorder.overflowed());
    }

    #[test]
    fn what_is_more_than_the_bound_ends_the_recording() {
        let now = Instant::now();
        let mut recorder = Recorder::new(4, now);
        recorder.note(b"abcd", now);
        recorder.note(b"", now);
        assert!(!recorder.overflowed());
        recorder.note(b"e", now);
        recorder.note(b"", now);
        assert!(recorder.overflowed());
        assert_eq!(recorder.take().0, "abcd");
    }
}
