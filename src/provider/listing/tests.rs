//! Exact entries, since each key is there for some client.

use globset::{Glob, GlobSetBuilder};

use super::*;
use crate::provider::Capabilities;

fn codestral() -> Model {
    Model {
        id: "codestral-2501".into(),
        description: Some("for code".into()),
        created: Some(1_768_405_801),
        capabilities: Capabilities {
            chat: Some(true),
            completion: Some(true),
            fim: Some(true),
            embedding: Some(false),
            tools: Some(true),
            vision: Some(false),
            reasoning: None,
            streaming: Some(true),
        },
        input_modalities: vec!["text".into()],
        output_modalities: vec!["text".into()],
        context_length: Some(256_000),
        aliases: vec!["codestral-2412".into()],
        ..Model::default()
    }
}

fn globs(patterns: &[&str]) -> Option<GlobSet> {
    let mut builder = GlobSetBuilder::new();
    for pattern in patterns {
        builder.add(Glob::new(pattern).unwrap());
    }
    Some(builder.build().unwrap())
}

#[test]
fn a_known_model_has_every_key_that_some_client_reads() {
    let expected = json!({
        "id": "mistral/codestral-2501",
        "object": "model",
        "created": 1_768_405_801,
        "owned_by": "mistral",
        "type": "base",
        "display_name": "codestral-2501",
        "created_at": "2026-01-14T15:50:01Z",
        "description": "for code",
        "context_length": 256_000,
        "max_context_length": 256_000,
        "max_input_tokens": 256_000,
        "capabilities": {
            "completion_chat": true, "completion": true, "completion_fim": true, "embedding": false,
            "function_calling": true, "vision": false, "streaming": true
        },
        "features": ["chat", "completion", "fim", "tools", "streaming"],
        "architecture": {"input_modalities": ["text"], "output_modalities": ["text"]},
        "supported_input_modalities": ["text"],
        "supported_output_modalities": ["text"],
        "aliases": ["codestral-2412"]
    });
    let entry = provider_entry("mistral", &codestral(), EntryType::Base);
    assert_eq!(serde_json::to_string(&entry).unwrap(), serde_json::to_string(&expected).unwrap());
}

#[test]
fn an_unknown_model_has_what_clients_cannot_do_without_and_no_more() {
    let model = Model { id: "accounts/fireworks/models/x".into(), ..Model::default() };
    let entry = provider_entry("fireworks", &model, EntryType::Base);
    let expected = json!({
        "id": "fireworks/accounts/fireworks/models/x",
        "object": "model",
        "created": 0,
        "owned_by": "fireworks",
        "type": "base",
        "display_name": "accounts/fireworks/models/x",
        "created_at": "1970-01-01T00:00:00Z",
        "capabilities": {},
        "features": []
    });
    assert_eq!(entry, expected);
}

#[test]
fn anthropic_clients_get_their_own_type() {
    let entry = provider_entry("p", &codestral(), EntryType::Model);
    assert_eq!(entry["type"], "model");
    assert_eq!(entry["created_at"], "2026-01-14T15:50:01Z");
}

#[test]
fn groups_are_listed_under_their_bare_id() {
    let entry = entry("coder", "demuxai", &codestral(), EntryType::Base);
    assert_eq!((entry["id"].as_str(), entry["owned_by"].as_str()), (Some("coder"), Some("demuxai")));
}

#[test]
fn the_list_names_its_first_and_last_entry() {
    let list = list_body(vec![json!({"id": "a"}), json!({"id": "b"})]);
    assert_eq!(
        serde_json::to_string(&list).unwrap(),
        r#"{"object":"list","data":[{"id":"a"},{"id":"b"}],"has_more":false,"first_id":"a","last_id":"b"}"#
    );
    assert_eq!(list_body(Vec::new())["first_id"], Value::Null);
}

#[test]
fn exclusion_wins_over_inclusion() {
    let include = globs(&["mistral-*", "codestral-*"]);
    let exclude = globs(&["*-embed*", "mistral-ocr-*"]);
    assert!(visible("mistral-large-latest", &include, &exclude));
    assert!(!visible("mistral-ocr-latest", &include, &exclude));
    assert!(!visible("voxtral-mini", &include, &exclude));
    assert!(visible("voxtral-mini", &None, &exclude));
    assert!(visible("anything/at:all", &None, &None));
    assert!(visible("accounts/fireworks/models/x", &globs(&["accounts/*"]), &None), "a star crosses slashes");
}

#[test]
fn near_ids_are_found_by_typo_by_wrong_provider_and_by_bare_name() {
    let ids = [
        "mistral/codestral-latest",
        "mistral/mistral-large-latest",
        "ollama/qwen3:8b",
        "fireworks/accounts/fireworks/models/glm-5",
    ];
    assert_eq!(nearest(ids, "mistral/codstral-latest", 1), ["mistral/codestral-latest"]);
    assert_eq!(nearest(ids, "ollama/codestral-latest", 1), ["mistral/codestral-latest"]);
    assert_eq!(nearest(ids, "QWEN3:8B", 1), ["ollama/qwen3:8b"]);
    assert_eq!(nearest(ids, "glm-5", 3)[0], "fireworks/accounts/fireworks/models/glm-5");
    assert_eq!(nearest(ids, "zzz", 3), Vec::<&str>::new());
    assert_eq!(nearest(ids, "mistral/mistral", 9).len(), 2);
}

#[test]
fn a_long_name_costs_no_more_than_a_short_one() {
    let ids: Vec<String> = (0..2_000).map(|n| format!("provider/model-{n}")).collect();
    let wanted = "provider/model-1".repeat(100_000);
    assert!(nearest(ids.iter().map(String::as_str), &wanted, 3).len() <= 3);
}
