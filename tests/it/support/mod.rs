//! What all integration tests share: the whole daemon on port 0 in its own thread, and a client that shows bytes.

pub mod client;
pub mod edge;
pub mod program;
pub mod proxy;
pub mod stage;
pub mod upstreams;

use std::time::{Duration, Instant};

/// Waits until something holds, looking often, and fails with what it was when it never does.
#[track_caller]
pub fn eventually<T: std::fmt::Debug>(
    what: &str,
    mut look: impl FnMut() -> T,
    holds: impl Fn(&T) -> bool,
) -> T {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let seen = look();
        if holds(&seen) {
            return seen;
        }
        assert!(Instant::now() < deadline, "never: {what}; last seen {seen:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
