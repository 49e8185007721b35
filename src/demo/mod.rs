//! Wire-faithful fake upstreams: what `demuxai demo` puts behind the daemon, and what the tests play against it.
//! Not a mock library: a raw TCP server that writes exact bytes. Nothing here may use the rest of the crate, or any
//! HTTP library, so that both sides of a test never share a mistake.

mod connection;
mod parrot;
pub mod request;
pub mod script;
pub mod server;
pub mod transcript;
mod vectors;

pub use request::Received;
pub use script::{Answer, EventStream, Script, Step};
pub use server::{Counts, Fake, Limits, Options, WaitTimeout};
pub use transcript::{Transcript, TranscriptError};
