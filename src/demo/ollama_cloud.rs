//! A fake ollama.com: the routes of Ollama behind a key, with models that a plan may not call, and a balance.
//! Sources: docs.ollama.com/cloud and /api/balance (2026-08), user reports for the texts.

use serde_json::json;

use super::ollama::Host;
use super::recorded::{CLOUD_MODELS, CLOUD_SUBSCRIPTION, CLOUD_TAGS, CLOUD_UNAUTHORIZED};
use super::request::Received;
use super::script::{Answer, Script};
use super::upstream::{DATE, Setup};

/// A model that is listed, but that the fake plan may not call.
const NEEDS_SUBSCRIPTION: &str = "qwen3-coder:480b";

const CLOUD: Host = Host {
    who: "Ollama Cloud",
    tags: &CLOUD_TAGS,
    models: &CLOUD_MODELS,
    headers: &[
        ("date", DATE),
        ("server", "Google Frontend"),
        ("strict-transport-security", "max-age=31536000; includeSubDomains"),
        ("alt-svc", "h3=\":443\"; ma=2592000,h3-29=\":443\"; ma=2592000"),
    ],
};

/// What ollama.com does with a request. The lists need no key, all else does.
pub(super) fn answer(setup: &Setup, received: &Received) -> Script {
    let listing = received.method == "GET" && received.path() != "/api/balance";
    if !listing && !setup.admits(received) {
        return CLOUD_UNAUTHORIZED.script();
    }
    if received.method == "GET" && received.path() == "/api/balance" {
        let balance = json!({"included": {"balance_usd": 72.5, "allowance_usd": 100, "period":
            {"from": "2026-11-01T00:00:00Z", "until": "2026-12-01T00:00:00Z"}}, "purchased": {"balance_usd": 25}});
        return Answer::json(200).header("date", DATE).value(&balance);
    }
    if received.json().get("model").is_some_and(|model| model == NEEDS_SUBSCRIPTION)
        && received.path().starts_with("/v1/")
    {
        return CLOUD_SUBSCRIPTION.script();
    }
    CLOUD.answer(setup, received)
}
