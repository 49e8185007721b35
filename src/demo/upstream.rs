//! The kinds of fake upstreams by name, and what they have in common: a key to check and a pace to stream at. What is
//! peculiar to a provider is in the file of its name.

use std::io;
use std::time::Duration;

use super::parrot::{Question, Reply};
use super::request::Received;
use super::script::Script;
use super::server::{Fake, Options};
use super::{codestral, fireworks, github, mistral, ollama, ollama_cloud, openai};

/// When all answers of all fakes were made (2026-11-22 12:00:00 UTC), so that they are the same every time.
pub(super) const CREATED: u64 = 1_795_348_800;

/// The same moment as an HTTP date.
pub(super) const DATE: &str = "Sun, 22 Nov 2026 12:00:00 GMT";

/// A kind of upstream that can be faked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Upstream {
    /// A local Ollama.
    Ollama,
    /// ollama.com.
    OllamaCloud,
    /// GitHub Models, as it was before 2026-07-30.
    Github,
    /// api.mistral.ai.
    Mistral,
    /// codestral.mistral.ai.
    Codestral,
    /// Fireworks AI Serverless.
    Fireworks,
    /// api.openai.com, for anything OpenAI-compatible.
    Openai,
}

/// How a fake upstream behaves.
#[derive(Clone, Default)]
pub struct Setup {
    /// The key it wants; `None` takes every key and none.
    pub key: Option<String>,
    /// The pause between two events of a stream.
    pub pace: Duration,
    /// GitHub Models only: everything is answered with the 410 of its retirement.
    pub retired: bool,
}

impl Setup {
    /// Whether the request carries the wanted key.
    pub(super) fn admits(&self, received: &Received) -> bool {
        self.key.as_deref().is_none_or(|key| received.bearer() == Some(key))
    }
}

impl Upstream {
    /// All kinds.
    pub const ALL: [Upstream; 7] = [
        Upstream::Ollama,
        Upstream::OllamaCloud,
        Upstream::Github,
        Upstream::Mistral,
        Upstream::Codestral,
        Upstream::Fireworks,
        Upstream::Openai,
    ];

    /// The provider type of the configuration that speaks to it; also the folder of its transcripts.
    pub fn label(self) -> &'static str {
        match self {
            Upstream::Ollama => "ollama",
            Upstream::OllamaCloud => "ollama-cloud",
            Upstream::Github => "github",
            Upstream::Mistral => "mistral",
            Upstream::Codestral => "codestral",
            Upstream::Fireworks => "fireworks",
            Upstream::Openai => "openai",
        }
    }

    /// What its base URL has after the host.
    pub fn base_path(self) -> &'static str {
        match self {
            Upstream::Fireworks => "/inference",
            Upstream::Ollama
            | Upstream::OllamaCloud
            | Upstream::Github
            | Upstream::Mistral
            | Upstream::Codestral
            | Upstream::Openai => "",
        }
    }

    /// Whether it asks for a key.
    pub fn wants_key(self) -> bool {
        self != Upstream::Ollama
    }

    /// What it does with a request.
    pub fn answer(self, setup: &Setup, received: &Received) -> Script {
        match self {
            Upstream::Ollama => ollama::answer(setup, received),
            Upstream::OllamaCloud => ollama_cloud::answer(setup, received),
            Upstream::Github => github::answer(setup, received),
            Upstream::Mistral => mistral::answer(setup, received),
            Upstream::Codestral => codestral::answer(setup, received),
            Upstream::Fireworks => fireworks::answer(setup, received),
            Upstream::Openai => openai::answer(setup, received),
        }
    }

    /// Starts a fake of this kind in a thread of its own.
    ///
    /// # Errors
    /// When no thread, runtime or port can be had.
    pub fn start(self, setup: Setup) -> io::Result<Fake> {
        Fake::start_with(self.options(setup))
    }

    /// The options of a fake of this kind, for [`Fake::start_here`] and for other limits.
    pub fn options(self, setup: Setup) -> Options {
        Options::new(move |received| self.answer(&setup, received))
    }
}

/// The tokens that a chat answer or a completion streams: reasoning first, then words.
pub(super) fn spoken(reply: &Reply) -> impl Iterator<Item = Spoken<'_>> {
    let thoughts = reply.thoughts.iter().map(|text| Spoken::Thought(text));
    thoughts.chain(reply.words.iter().map(|text| Spoken::Word(text)))
}

/// One token of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spoken<'a> {
    /// Of the reasoning.
    Thought(&'a str),
    /// Of the answer.
    Word(&'a str),
}

/// The bytes that an id of an answer is made of.
pub(super) fn seed(received: &Received, question: &Question) -> Vec<u8> {
    [received.path().as_bytes(), question.model.as_bytes(), &received.body].concat()
}

#[cfg(test)]
mod tests;
