//! The transcripts that the fake upstreams play or read, compiled in from `tests/transcripts/`: one truth for the demo
//! and the tests. Nothing is decided here.

use std::sync::LazyLock;

use super::transcript::Transcript;

/// A transcript that is read when it is first played.
pub(super) type Recorded = LazyLock<Transcript>;

macro_rules! recorded {
    ($($name:ident = $path:literal;)*) => {
        $(pub(super) static $name: Recorded = LazyLock::new(|| {
            Transcript::embedded(include_str!(concat!("../../tests/transcripts/", $path, ".http")))
        });)*

        /// All of them, by path, for the test that reads each.
        #[cfg(test)]
        pub(super) static ALL: &[(&str, &Recorded)] = &[$(($path, &$name)),*];
    };
}

recorded! {
    OLLAMA_TAGS = "ollama/tags";
    OLLAMA_MODELS = "ollama/models";
    OLLAMA_BUSY = "ollama/error_503";
    CLOUD_TAGS = "ollama-cloud/tags";
    CLOUD_MODELS = "ollama-cloud/models";
    CLOUD_UNAUTHORIZED = "ollama-cloud/error_401";
    CLOUD_SUBSCRIPTION = "ollama-cloud/error_403";
    CLOUD_SESSION_LIMIT = "ollama-cloud/error_429";
    GITHUB_MODELS = "github/models";
    GITHUB_UNAUTHORIZED = "github/error_401";
    GITHUB_DAILY_LIMIT = "github/error_429";
    GITHUB_GONE = "github/gone_410";
    MISTRAL_MODELS = "mistral/models";
    MISTRAL_UNAUTHORIZED = "mistral/error_401";
    MISTRAL_LIMIT = "mistral/error_429";
    MISTRAL_NO_ROUTE = "mistral/unknown_route";
    CODESTRAL_MODELS = "codestral/models";
    CODESTRAL_LIMIT = "codestral/error_429";
    FIREWORKS_MODELS = "fireworks/models";
    FIREWORKS_UNAUTHORIZED = "fireworks/error_401";
    FIREWORKS_LIMIT = "fireworks/error_429";
    FIREWORKS_OVERLOADED = "fireworks/error_503";
    OPENAI_MODELS = "openai/models";
    OPENAI_UNAUTHORIZED = "openai/error_401";
    OPENAI_LIMIT = "openai/error_429";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_transcript_compiled_in_can_be_read() {
        for (path, recorded) in ALL {
            let text = String::from_utf8(recorded.body().to_vec()).unwrap();
            assert!(recorded.json().is_object() || recorded.json().is_array(), "{path}: {text}");
        }
    }
}
