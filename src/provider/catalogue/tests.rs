//! The file that is compiled in, and files that make no sense.

use super::*;
use crate::provider::registry::Registry;

fn parse(table: &str) -> Result<Catalogue, String> {
    Catalogue::parse(&format!("[x]\nas_of = \"2026-11-22\"\n{table}"))
}

fn facts(table: &str) -> Arc<KindFacts> {
    parse(table).unwrap().facts("x").unwrap()
}

#[test]
fn the_compiled_in_catalogue_is_valid() {
    let parsed = Catalogue::parse(BUILTIN).unwrap();
    assert_eq!(&parsed, Catalogue::builtin());
    assert!(parsed.names().count() >= 20);
}

#[test]
fn every_name_can_be_a_provider_type() {
    for name in Catalogue::builtin().names() {
        let rest =
            name.strip_prefix(|first: char| first.is_ascii_lowercase() || first.is_ascii_digit()).unwrap();
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
        assert!(rest.chars().all(plain), "{name}");
    }
}

#[test]
fn keys_are_read_from_the_variables_that_their_owners_document() {
    let catalogue = Catalogue::builtin();
    let first = |name: &str| catalogue.facts(name).unwrap().api_key_env.first().cloned();
    assert_eq!(first("mistral").as_deref(), Some("MISTRAL_API_KEY"));
    assert_eq!(first("ollama"), None);
    assert_eq!(catalogue.facts("codestral").unwrap().api_key_env, ["CODESTRAL_API_KEY", "MISTRAL_API_KEY"]);
    assert!(catalogue.facts("ollama").unwrap().local);
    assert!(!catalogue.facts("mistral").unwrap().local);
}

#[test]
fn codestral_serves_its_static_models_with_chat_and_fim() {
    let facts = Catalogue::builtin().facts("codestral").unwrap();
    let models = facts.static_models();
    assert_eq!(
        models.iter().map(|model| model.id.as_str()).collect::<Vec<_>>(),
        ["codestral-latest", "codestral-2508"]
    );
    for model in models {
        assert_eq!(model.context_length, Some(256_000));
        assert_eq!((model.capabilities.chat, model.capabilities.fim), (Some(true), Some(true)));
        assert_eq!(model.capabilities.embedding, Some(false));
    }
    assert!(facts.open_list);
}

#[test]
fn the_retirement_of_github_is_recognised_and_a_missing_model_is_not() {
    let facts = Catalogue::builtin().facts("github").unwrap();
    let retired = facts.retired.as_ref().unwrap();
    let body = br#"{"error":{"code":"github_models_retirement_brownout","message":"GitHub Models is temporarily unavailable as part of a scheduled retirement brownout."}}"#;
    assert!(retired.announced_by(410, body));
    assert!(!retired.announced_by(503, body));
    assert!(!retired.announced_by(410, br#"{"error":{"code":"model_gone"}}"#));
    assert_eq!(retired.since, "2026-07-30");
}

#[test]
fn paths_override_the_adapters_routes_and_an_empty_one_removes_them() {
    let registry = Registry::builtin();
    let gemini = registry.kind("gemini").unwrap();
    let chat = gemini.facts.route(gemini.adapter, Task::Chat).unwrap();
    assert_eq!((chat.path, chat.shape), ("/chat/completions", Shape::Chat));
    assert_eq!(gemini.facts.models_path(gemini.adapter), Some("/models"));
    assert_eq!(gemini.facts.route(gemini.adapter, Task::Fim), None);

    let deepseek = registry.kind("deepseek").unwrap();
    assert_eq!(deepseek.facts.route(deepseek.adapter, Task::Chat).unwrap().path, "/v1/chat/completions");
    assert_eq!(deepseek.facts.route(deepseek.adapter, Task::Fim).unwrap().path, "/beta/completions");

    let cloudflare = registry.kind("cloudflare").unwrap();
    assert_eq!(cloudflare.facts.models_path(cloudflare.adapter), None);
}

#[test]
fn no_full_address_has_v1_twice_or_not_at_all_by_accident() {
    let registry = Registry::builtin();
    for name in registry.names() {
        let kind = registry.kind(name).unwrap();
        let Some(url) = &kind.facts.url else { continue };
        let route = kind.facts.route(kind.adapter, Task::Chat).unwrap();
        let address = format!("{url}{}", route.path);
        assert!(address.ends_with("/chat/completions"), "{address}");
        assert!(address.matches("/v1/").count() <= 1, "{address}");
        let versioned =
            ["/v1/", "/v1beta/", "/v4/", "/inference/"].iter().any(|version| address.contains(version));
        assert!(versioned, "{address}");
    }
}

#[test]
fn limits_keep_what_the_file_says() {
    let catalogue = Catalogue::builtin();
    let openrouter = catalogue.facts("openrouter").unwrap();
    let daily = openrouter.limits.iter().find(|guess| guess.limit.per.as_deref() == Some("day")).unwrap();
    assert_eq!((daily.limit.unit.as_str(), daily.limit.amount), ("requests", 50));
    assert_eq!(daily.limit.models.as_deref(), Some("*:free"));
    assert_eq!(daily.limit.time_zone.as_deref(), Some("UTC"));
    assert_eq!((daily.each_model, daily.certainty), (false, Certainty::Documented));
    let groq = catalogue.facts("groq").unwrap();
    assert!(
        groq.limits.iter().all(|guess| guess.each_model && guess.limit.window.as_deref() == Some("bucket"))
    );
    assert!(catalogue.facts("ollama").unwrap().limits.is_empty());
}

#[test]
fn guesses_about_gemini_are_for_its_models_with_and_without_their_prefix() {
    let gemini = Catalogue::builtin().facts("gemini").unwrap();
    for (name, amounts) in [
        ("gemini-3.5-flash", [5, 20]),
        ("gemini-3.1-flash-lite", [15, 500]),
        ("gemini-2.5-flash-lite", [10, 20]),
        ("gemma-3-27b-it", [30, 14_400]),
    ] {
        for model in [name.to_owned(), format!("models/{name}")] {
            let matches = |glob: &str| globset::Glob::new(glob).unwrap().compile_matcher().is_match(&model);
            let its = gemini.limits.iter().filter(|guess| guess.limit.models.as_deref().is_some_and(matches));
            let requests = its.filter(|guess| guess.limit.unit == "requests");
            let found: Vec<u64> = requests.map(|guess| guess.limit.amount).collect();
            assert_eq!(found, amounts, "{model}");
        }
    }
}

#[test]
fn limits_that_make_no_sense_are_refused() {
    let source = "source_date = \"2026-01-01\", certainty = \"recalled\"";
    for (limit, part) in [
        ("per = \"day\"", "needs one of"),
        ("requests = 1, tokens = 2, per = \"day\"", "not both"),
        ("requests = 0, per = \"day\"", "limit of 0"),
        ("requests = 1", "needs `per`"),
        ("concurrent = 1, per = \"day\"", "needs `per`"),
        ("requests = 1, per = \"fortnight\"", "fortnight"),
        ("requests = 1, per = \"0h\"", "0h"),
        ("requests = 1, per = \"day\", window = \"calendar\"", "time_zone"),
        ("requests = 1, per = \"day\", time_zone = \"UTC\"", "time_zone"),
        ("requests = 1, per = \"day\", window = \"sliding\"", "sliding"),
        ("requests = 1, per = \"day\", models = \"[\"", "["),
        ("requests = 1, per = \"day\", each_model = true", "each_model"),
        ("requests = 1, per = \"day\", colour = \"red\"", "colour"),
    ] {
        let error = parse(&format!("limits = [{{ {limit}, {source} }}]")).unwrap_err();
        assert!(error.contains(part), "{limit}: {error}");
    }
    let limits = &facts(&format!(
        "limits = [{{ requests = 3, per = \"5h\", {source} }}, {{ concurrent = 2, {source} }}]"
    ))
    .limits;
    assert_eq!(limits.len(), 2);
    assert_eq!(limits[1].limit.unit, "concurrent");
}

#[test]
fn tables_that_make_no_sense_are_refused_by_name() {
    for (table, part) in [
        ("colour = \"red\"", "colour"),
        ("url = \"https://h/v1\"", "https://h"),
        ("url = \"h\"", "http"),
        ("paths = { chat = \"chat\" }", "slash"),
        ("paths = { chats = \"/chat\" }", "chats"),
        ("models = [{ id = \"\" }]", "model id"),
        ("models = [{ id = \"m\", capabilities = [\"chatting\"] }]", "chatting"),
        ("usage_in_stream = \"sometimes\"", "sometimes"),
        ("params = { models = [{ only = [\"[\"] }] }", "["),
    ] {
        let error = parse(table).unwrap_err();
        assert!(error.contains(part) && error.contains("`x`"), "{table}: {error}");
    }
    assert!(Catalogue::parse("[x]\nurl = \"https://h\"").unwrap_err().contains("as_of"));
}
