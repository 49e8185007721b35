//! Wire-faithful fake upstreams: what `demuxai demo` puts behind the daemon, and what the tests play against it.
//! Not a mock library: a raw TCP server that writes exact bytes. Nothing here may use the rest of the crate, or any
//! HTTP library, so that both sides of a test never share a mistake.
//!
//! A [`Fake`] answers with what its handler says, a [`Script`]:
//! ```
//! use demuxai::demo::{Answer, Fake, Setup, Upstream, faults, limits};
//!
//! # fn main() -> std::io::Result<()> {
//! let mistral = Upstream::Mistral.start(Setup::default())?;
//! let flaky = Fake::start(|received| match received.order {
//!     0 => limits::mistral::rate_limited(),
//!     1 => faults::reset_mid_stream(faults::good_stream("m", &["Hello", " you"]), 2),
//!     _ => Answer::json(200).body("{}"),
//! })?;
//! # assert_eq!((mistral.counts().requests, flaky.received().len()), (0, 0));
//! # Ok(())
//! # }
//! ```

pub mod allowance;
mod codestral;
mod connection;
pub mod faults;
mod fireworks;
mod github;
pub mod limits;
mod mistral;
mod ollama;
mod ollama_cloud;
mod openai;
mod parrot;
mod recorded;
pub mod request;
pub mod script;
pub mod server;
mod shared;
pub mod transcript;
pub mod turnstile;
pub mod upstream;
mod vectors;

use std::io;
use std::time::Duration;

pub use request::Received;
pub use script::{Answer, EventStream, Script, Step};
pub use server::{Counts, Fake, Limits, Options, WaitTimeout};
pub use transcript::{Transcript, TranscriptError};
pub use turnstile::Turnstile;
pub use upstream::{Setup, Upstream};

/// A fake upstream of each provider type that ships with its own adapter.
#[derive(Debug)]
pub struct Demo {
    providers: Vec<DemoProvider>,
}

/// One fake upstream, and what a configuration needs to reach it.
#[derive(Debug)]
pub struct DemoProvider {
    /// The provider id.
    pub id: &'static str,
    /// The provider type.
    pub kind: &'static str,
    /// The base URL.
    pub url: String,
    /// The key that it wants, if any.
    pub api_key: Option<&'static str>,
    /// The fake itself: its counts.
    pub fake: Fake,
}

impl Demo {
    /// Starts all six, streaming with this pause between two events. They keep nothing of what they receive: people
    /// leave a demo running, and what is typed into it is theirs.
    ///
    /// # Errors
    /// When no thread, runtime or port can be had.
    pub fn start(pace: Duration) -> io::Result<Demo> {
        let kinds = [
            Upstream::Ollama,
            Upstream::OllamaCloud,
            Upstream::Github,
            Upstream::Mistral,
            Upstream::Codestral,
            Upstream::Fireworks,
        ];
        let providers = kinds.into_iter().map(|kind| {
            let api_key = kind.wants_key().then_some("demo-key");
            let setup = Setup { key: api_key.map(str::to_owned), pace, ..Setup::default() };
            let limits = Limits { kept_requests: 0, kept_bytes: 0, ..Limits::default() };
            let fake = Fake::start_with(kind.options(setup).limits(limits))?;
            let url = format!("{}{}", fake.url(), kind.base_path());
            Ok(DemoProvider { id: kind.label(), kind: kind.label(), url, api_key, fake })
        });
        Ok(Demo { providers: providers.collect::<io::Result<_>>()? })
    }

    /// The fakes, Ollama first.
    pub fn providers(&self) -> &[DemoProvider] {
        &self.providers
    }
}

#[cfg(test)]
mod tests;
