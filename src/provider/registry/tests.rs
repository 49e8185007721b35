//! The rows, and the contract that every kind of upstream keeps.

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::dialect::Task;
use crate::provider::Model;
use crate::provider::model_list::{MAX_ID_BYTES, MAX_MODELS};

#[test]
fn every_row_has_a_catalogue_table_and_names_itself() {
    let registry = Registry::builtin();
    for row in PROVIDERS {
        let kind = registry.kind(row.name).unwrap();
        assert_eq!(kind.name, row.name);
        assert!(!kind.facts.as_of.is_empty(), "{} has no table", row.name);
        assert_eq!(kind.facts.adapter, None, "{} is its own adapter", row.name);
    }
}

#[test]
fn every_type_of_the_python_demuxai_is_registered() {
    // Its `ollama-cloud` was written and never registered.
    let registry = Registry::builtin();
    for name in ["ollama", "ollama-cloud", "github", "mistralai", "codestral", "fireworks"] {
        assert!(registry.kind(name).is_some(), "{name}");
    }
    let cloud = registry.kind("ollama-cloud").unwrap();
    assert_eq!(cloud.facts.api_key_env, ["OLLAMA_API_KEY"]);
    assert!(cloud.facts.requires_key);
}

#[test]
fn aliases_mean_their_row() {
    let registry = Registry::builtin();
    assert_eq!(registry.kind("mistralai").unwrap().name, "mistral");
    assert_eq!(registry.kind("github-models").unwrap().name, "github");
    assert!(registry.kind("gropq").is_none());
}

#[test]
fn presets_are_data_over_an_adapter() {
    let registry = Registry::builtin();
    let groq = registry.kind("groq").unwrap();
    assert_eq!(groq.name, "groq");
    assert_eq!(groq.facts.url.as_deref(), Some("https://api.groq.com/openai"));
    assert_eq!(groq.adapter.route(Task::Chat).unwrap().path, "/v1/chat/completions");
    for name in registry.names() {
        assert!(registry.kind(name).is_some(), "{name} names an adapter that is no row");
    }
    assert!(registry.names().len() > PROVIDERS.len() + 10);
}

#[test]
fn a_test_can_bring_its_own_adapter() {
    struct Odd;
    impl Adapter for Odd {
        fn models(&self, _body: &[u8]) -> Result<Vec<Model>, String> {
            Ok(Vec::new())
        }
    }
    let registry =
        Registry::builtin().with(ProviderKind { name: "odd", aliases: &["mistralai"], adapter: &Odd });
    let kind = registry.kind("odd").unwrap();
    assert_eq!(kind.adapter.models(b"x"), Ok(Vec::new()));
    assert_eq!(*kind.facts, KindFacts::default());
    assert_eq!(registry.kind("mistralai").unwrap().name, "odd");
}

// === The contract that every kind keeps, those that are data alone included ===

fn every_kind() -> Vec<Kind> {
    let registry = Registry::builtin();
    registry.names().into_iter().map(|name| registry.kind(name).unwrap()).collect()
}

#[test]
fn every_kind_chats_and_all_its_paths_begin_with_a_slash() {
    for kind in every_kind() {
        assert!(kind.facts.route(kind.adapter, Task::Chat).is_some(), "{}", kind.name);
        for task in [Task::Chat, Task::Completion, Task::Fim, Task::Embedding] {
            let route = kind.facts.route(kind.adapter, task);
            assert!(route.is_none_or(|route| route.path.starts_with('/')), "{} {task:?}", kind.name);
        }
        assert!(
            kind.facts.models_path(kind.adapter).is_none_or(|path| path.starts_with('/')),
            "{}",
            kind.name
        );
        // What cannot be listed must be named, or nothing would be offered at all.
        assert!(
            kind.facts.models_path(kind.adapter).is_some() || !kind.facts.models.is_empty(),
            "{}",
            kind.name
        );
    }
}

#[test]
fn every_kind_that_wants_a_key_says_where_it_usually_is() {
    for kind in every_kind() {
        assert!(!kind.facts.requires_key || !kind.facts.api_key_env.is_empty(), "{}", kind.name);
        assert!(!(kind.facts.local && kind.facts.requires_key), "{}", kind.name);
        assert!(
            !kind.facts.local || kind.facts.limits.is_empty(),
            "{}: a local server has no quota",
            kind.name
        );
    }
}

#[test]
fn an_error_body_is_never_a_list_whatever_the_kind() {
    for kind in every_kind() {
        for body in [
            &br#"{"message":"Unauthorized","request_id":"1"}"#[..],
            br#"{"error":{"message":"bad key","type":"invalid_request_error","param":null,"code":"invalid_api_key"}}"#,
            br#"{"error":"unauthorized"}"#,
            br#"{"detail":"Unauthorized"}"#,
            br#"{"success":false,"errors":[{"code":10000,"message":"Authentication error"}]}"#,
            b"<html></html>",
            b"",
        ] {
            assert!(kind.adapter.models(body).is_err(), "{}: {}", kind.name, String::from_utf8_lossy(body));
        }
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 48, 6, |inner| {
        let keys = prop::sample::select(vec![
            "data",
            "models",
            "id",
            "name",
            "model",
            "capabilities",
            "details",
            "context_length",
            "created",
            "type",
            "modified_at",
            "limits",
            "meta",
            "providers",
            "architecture",
            "input_modalities",
            "aliases",
            "kind",
            "supports_chat",
            "supported_parameters",
            "model_info",
            "general.architecture",
            "tags",
            "active",
        ]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((keys, inner), 0..6).prop_map(|pairs| {
                Value::Object(pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
            }),
        ]
    })
}

proptest! {
    #[test]
    fn no_list_makes_an_adapter_panic_or_keep_an_unusable_model(list in any_json(), detail in any_json()) {
        let body = list.to_string();
        for row in PROVIDERS {
            let Ok(models) = row.adapter.models(body.as_bytes()) else { continue };
            prop_assert!(models.len() <= MAX_MODELS);
            let mut ids = std::collections::HashSet::new();
            for mut model in models {
                prop_assert!(!model.id.is_empty() && model.id.len() <= MAX_ID_BYTES);
                prop_assert!(!model.id.chars().any(char::is_control));
                prop_assert!(ids.insert(model.id.clone()), "{} twice", model.id);
                if let Some(ask) = row.adapter.detail(&model) {
                    let asked: Value = serde_json::from_slice(&ask.body).unwrap();
                    prop_assert_eq!(asked["model"].as_str(), Some(model.id.as_str()));
                }
                row.adapter.apply_detail(&mut model, detail.to_string().as_bytes());
                prop_assert!(model.context_length != Some(0));
            }
        }
    }

    #[test]
    fn no_bytes_make_an_adapter_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for row in PROVIDERS {
            let _ = row.adapter.models(&bytes);
            row.adapter.apply_detail(&mut Model::default(), &bytes);
        }
    }
}
