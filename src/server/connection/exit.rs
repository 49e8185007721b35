//! Where a stream's short way ends: the client's socket, with each piece as a chunk of its own. It is the provider's
//! thread that writes here.

use std::io::{IoSlice, Write};
use std::sync::Arc;
use std::task::Waker;

use bytes::BytesMut;
use tokio::net::tcp::OwnedWriteHalf;

use crate::backend::lane;

/// Longest line that begins a chunk: 16 digits.
const SIZE_LINE: usize = 18;
const LINE_END: &[u8] = b"\r\n";

/// A client's socket, while its connection has nothing to send.
pub(super) struct Exit {
    socket: Arc<OwnedWriteHalf>,
    /// The connection's.
    waker: Waker,
}

// === impl Exit ===

impl Exit {
    pub(super) fn new(socket: Arc<OwnedWriteHalf>, waker: Waker) -> Self {
        Exit { socket, waker }
    }
}

impl lane::Exit for Exit {
    fn send(&self, frame: &[u8], rest: &mut BytesMut) {
        if frame.is_empty() {
            // As a chunk it would be the last.
            return;
        }
        let mut line = [0; SIZE_LINE];
        let mut left = line.as_mut_slice();
        // It is long enough for any.
        let _ = write!(left, "{:X}\r\n", frame.len());
        let room = left.len();
        let line = line.get(..SIZE_LINE - room).unwrap_or_default();
        let pieces = [line, frame, LINE_END];
        // Whatever the error, the connection will meet it as well.
        let mut sent = self.socket.try_write_vectored(&pieces.map(IoSlice::new)).unwrap_or(0);
        for piece in pieces {
            let taken = sent.min(piece.len());
            rest.extend_from_slice(piece.get(taken..).unwrap_or_default());
            sent -= taken;
        }
        if !rest.is_empty() {
            self.waker.wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests;
