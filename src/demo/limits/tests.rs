//! Every limit is a whole answer, and says no more than the real one does.

use super::*;

#[test]
fn every_limit_is_a_complete_answer_with_its_status() {
    let all: &[(u16, Script)] = &[
        (429, mistral::rate_limited()),
        (429, mistral::no_allowance()),
        (429, mistral::capacity_exceeded()),
        (429, mistral::rate_limited_2025()),
        (402, mistral::payment_required()),
        (429, codestral::rate_limited()),
        (503, ollama::busy_503()),
        (429, ollama_cloud::session_limit()),
        (429, ollama_cloud::hourly_limit()),
        (403, ollama_cloud::subscription_required()),
        (429, github::user_by_model_by_day()),
        (429, github::user_by_minute()),
        (429, github::concurrent()),
        (429, fireworks::rate_limited()),
        (503, fireworks::overloaded_503()),
        (200, fireworks::over_limit_200(&json!({}))),
        (412, fireworks::suspended_412()),
        (429, openai::rate_limited()),
        (429, openai::insufficient_quota()),
        (429, groq::requests_per_minute()),
        (429, groq::tokens_per_day()),
        (413, groq::too_large_413()),
        (429, cerebras::token_quota()),
        (429, cerebras::request_quota()),
        (429, cerebras::queue_exceeded()),
        (429, openrouter::free_models_per_day()),
        (429, openrouter::upstream_limited()),
        (200, openrouter::error_in_200()),
        (200, openrouter::error_in_stream()),
        (429, gemini::per_day()),
        (429, gemini::per_minute()),
        (400, gemini::bad_key_400()),
        (429, others::nvidia()),
        (429, others::zai()),
        (429, others::cohere()),
        (429, others::cloudflare()),
        (402, others::huggingface()),
    ];
    for (status, script) in all {
        let wire = String::from_utf8(script.wire().to_vec()).unwrap();
        assert!(wire.starts_with(&format!("HTTP/1.1 {status} ")), "{wire}");
        assert!(!wire.contains("Unknown\r\n"), "no reason phrase for {status}");
        let (_, body) = wire.split_once("\r\n\r\n").unwrap();
        if !wire.contains("transfer-encoding") {
            serde_json::from_str::<Value>(body).unwrap();
        }
    }
}

#[test]
fn mistral_says_no_time_and_github_says_hours() {
    let mistral = mistral::rate_limited().wire().to_ascii_lowercase();
    let mistral = String::from_utf8(mistral).unwrap();
    assert!(!mistral.contains("retry-after") && !mistral.contains("reset"));
    assert!(mistral.contains("x-ratelimit-remaining-req-minute: 0\r\n"));
    let github = String::from_utf8(github::user_by_model_by_day().wire().to_vec()).unwrap();
    assert!(github.contains("Retry-After: 5631\r\n") && github.contains("per 86400s"));
}
