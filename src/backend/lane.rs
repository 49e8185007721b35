//! The short way of a stream's events: from the provider's thread straight into the client's socket, past the channel
//! and the thread that serves the connection. That thread opens it when it has nothing to send itself and waits for the
//! next frame; whoever has something to send that cannot go this way closes it first, so that nothing overtakes
//! anything. Nobody waits in here: what the socket does not take at once is the connection's to send.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::BytesMut;

/// Where a lane leads.
pub trait Exit: Send {
    /// Sends what it can without waiting, and puts the rest into `rest`, as it is to be sent. Then nothing more comes
    /// this way, and it wakes whoever sends the rest.
    fn send(&self, frame: &[u8], rest: &mut BytesMut);
}

/// One stream's short way, which is open or not.
#[derive(Default)]
pub struct Lane {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// How many frames are in the channel, or about to be.
    in_channel: usize,
    /// There while it is open.
    exit: Option<Box<dyn Exit>>,
    /// What the exit did not take.
    rest: BytesMut,
    /// When a frame went this way last.
    passed: Option<Instant>,
}

// === impl Lane ===

impl Lane {
    /// Sends whole events this way. False if they must go through the channel: then they are expected there.
    pub(crate) fn pass(&self, events: &[u8]) -> bool {
        let mut state = self.state();
        let State { exit: Some(exit), rest, .. } = &mut *state else {
            state.in_channel += 1;
            return false;
        };
        exit.send(events, rest);
        if !rest.is_empty() {
            state.exit = None;
        }
        state.passed = Some(Instant::now());
        true
    }

    /// A frame goes through the channel, whatever this is.
    pub(crate) fn go_round(&self) {
        let mut state = self.state();
        state.exit = None;
        state.in_channel += 1;
    }

    /// A frame was taken out of the channel.
    pub(crate) fn came_round(&self) {
        let mut state = self.state();
        state.in_channel = state.in_channel.saturating_sub(1);
    }

    /// Opens it, unless something is still to be sent before what would go this way.
    pub fn open(&self, exit: impl FnOnce() -> Box<dyn Exit>) {
        let mut state = self.state();
        if state.exit.is_none() && state.in_channel == 0 && state.rest.is_empty() {
            state.exit = Some(exit());
        }
    }

    /// Closes it, until it is opened anew. What came this way and was not sent is added to `unsent`.
    pub fn close(&self, unsent: &mut BytesMut) {
        let mut state = self.state();
        state.exit = None;
        state.give_rest(unsent);
    }

    /// Adds what came this way and was not sent to `unsent`.
    pub fn take_rest(&self, unsent: &mut BytesMut) {
        self.state().give_rest(unsent);
    }

    #[cfg(test)]
    pub(crate) fn is_open(&self) -> bool {
        self.state().exit.is_some()
    }

    /// When a frame went this way last.
    pub fn passed(&self) -> Option<Instant> {
        self.state().passed
    }

    /// Nothing in here can panic half way.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl State ===

impl State {
    fn give_rest(&mut self, unsent: &mut BytesMut) {
        if !self.rest.is_empty() {
            unsent.extend_from_slice(&std::mem::take(&mut self.rest));
        }
    }
}
