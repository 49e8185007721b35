//! A fake codestral.mistral.ai: chat and FIM of Mistral's API for two models, with a key of its own and no embeddings.
//! Sources: docs.mistral.ai (code generation), user reports (continuedev#7178, simonw/llm-mistral#16).

use super::mistral::Host;
use super::recorded::CODESTRAL_MODELS;
use super::request::Received;
use super::script::Script;
use super::upstream::Setup;

const HOST: Host = Host { who: "Codestral", models: &CODESTRAL_MODELS, embeddings: false };

/// What codestral.mistral.ai does with a request.
pub(super) fn answer(setup: &Setup, received: &Received) -> Script {
    HOST.answer(setup, received)
}
