//! The original's configuration loads as it is.

use super::super::tests::{Case, key, provider};

const WHOLE: &str = r#"
# The original's own example, everything in it.
demuxai:
  listen: 127.0.0.1
  port: ${PORT}
  cache_seconds: 1800
  timeout_seconds: 300
  api_key: 12345
  providers:
    ollama:
      type: ollama
      name: Local
      description: "My own: fast"
      url: http://localhost:11434
      api_key: ${NOT_SET}
      cache_seconds: 60
      timeout_seconds: 900.5
      include_models: ["qwen*", 'gemma*']
      exclude_models: []
    cloud:
      type: ollama-cloud
      api_key: ${OLLAMA_API_KEY}
      name: null
    gh:
      type: github-models
    mistral:
      type: mistralai
      api_key: ${MISTRAL_API_KEY}
      exclude_models: [voxtral-*, ${GLOB}]
      colour: red
    ${FIREWORKS_ID}:
      type: fireworks
      api_key: "${FIREWORKS_API_KEY}"
  composites:
    coder:
      type: roundrobin
      temperature: 0.2
      metadata: {}
      providers:
        - id: codestral-latest
          provider_id: mistral
other: 1
"#;

fn whole() -> Case {
    Case::empty()
        .file("config.yml", WHOLE)
        .env("PORT", "7041")
        .env("OLLAMA_API_KEY", "o: [k")
        .env("MISTRAL_API_KEY", "123")
        .env("FIREWORKS_API_KEY", "f")
        .env("FIREWORKS_ID", "fireworks")
        .env("GLOB", "mistral-ocr-*")
}

#[test]
fn a_full_file_loads_as_it_is() {
    let config = whole().config();
    assert_eq!(config.listeners[0].address.to_string(), "127.0.0.1:7041");
    assert!(config.keys[0].key.matches("12345"));
    let ids: Vec<_> = config.providers.iter().map(|provider| provider.id.as_str()).collect();
    assert_eq!(ids, ["ollama", "cloud", "gh", "mistral", "fireworks"]);
    let ollama = provider(&config, "ollama");
    assert_eq!(
        (ollama.name.as_deref(), ollama.description.as_deref()),
        (Some("Local"), Some("My own: fast"))
    );
    assert_eq!((key(ollama), ollama.cache.as_secs()), (None, 60));
    let times = ollama.timeouts;
    assert_eq!([times.first_token, times.idle, times.total_plain].map(|time| time.as_millis()), [900_500; 3]);
    assert_eq!((times.connect.as_secs(), times.total_stream), (10, None));
    assert!(ollama.include_models.as_ref().unwrap().is_match("qwen3:8b"));
    assert!(ollama.exclude_models.is_none());
    let mistral = provider(&config, "mistral");
    assert_eq!((mistral.kind.as_str(), key(mistral)), ("mistral", Some("123")));
    assert_eq!((mistral.cache.as_secs(), mistral.timeouts.idle.as_secs()), (1800, 300));
    let excluded = mistral.exclude_models.as_ref().unwrap();
    assert!(excluded.is_match("voxtral-mini") && excluded.is_match("mistral-ocr-2"));
    assert_eq!(key(provider(&config, "cloud")), Some("o: [k"));
    assert_eq!(provider(&config, "gh").kind, "github");
    assert_eq!(provider(&config, "fireworks").timeouts.first_token.as_secs(), 300);
}

#[test]
fn what_is_left_out_is_said_once_each() {
    let case = whole();
    let config = case.config();
    let notes = config.notes.join("\n").replace(&case.directory.path().display().to_string(), "DIR");
    assert!(!notes.contains("composites"), "{notes}");
    assert!(notes.contains("demuxai.providers.mistral.colour is not known: ignored"), "{notes}");
    assert!(notes.contains("`other` is not known: ignored"), "{notes}");
    assert_eq!(config.notes.len(), 3, "{notes}");
    let warned = crate::config::warned(&config.warnings);
    assert!(warned.contains("is not set: no key is sent"), "{warned}");
}

#[test]
fn no_composite_is_left_out() {
    let group = &whole().config().groups[0];
    assert_eq!((group.id.as_str(), group.kind), ("coder", "round-robin"));
    assert_eq!(group.members[0].label(), "mistral/codestral-latest");
    assert_eq!(group.members[0].set, [("temperature".to_owned(), "0.2".into())]);
}

#[test]
fn no_key_of_a_composite_is_lost() {
    let text = "demuxai:\n  providers: {o: {type: ollama}}\n  composites:\n    inner:\n      type: failover\n      name: Inner\n\
                \x20     description: A sentence\n      temperature: ${TEMPERATURE}\n      metadata: {team: a}\n      colour: red\n\
                \x20     providers:\n        - {remote_id: 'qwen3:8b', provider_id: o, temperature: 1}\n\
                \x20       - {id: '${MODEL}', provider_id: o}\n        - {id: a/b, provider_id: o, weight: 2}\n";
    let config =
        Case::empty().file("config.yml", text).env("TEMPERATURE", "0.5").env("MODEL", "gemma4:31b").config();
    let group = &config.groups[0];
    assert_eq!(
        (group.kind, group.name.as_deref(), group.description.as_deref()),
        ("failover", Some("Inner"), Some("A sentence"))
    );
    let members: Vec<(String, &[u8])> =
        group.members.iter().map(|member| (member.label(), &member.set[0].1[..])).collect();
    let wanted: [(&str, &[u8]); 3] = [("o/qwen3:8b", b"1"), ("o/gemma4:31b", b"0.5"), ("o/a/b", b"0.5")];
    assert_eq!(members, wanted.map(|(label, set)| (label.to_owned(), set)));
    let notes = config.notes.join("\n");
    for said in ["inner.metadata has no use", "inner.colour is not known", "providers[2].weight is not known"]
    {
        assert!(notes.contains(said), "{notes}");
    }
    assert_eq!(config.notes.len(), 3, "{notes}");
}

#[test]
fn no_fault_of_a_composite_passes_unsaid() {
    let text = "demuxai:\n  providers: {o: {type: ollama}}\n  composites:\n    a: 5\n    b:\n      type: failover\n\
                \x20     temperature: warm\n      providers: [{id: m}, 7, {provider_id: o}]\n    c: {type: failover, providers: o}\n";
    let report = Case::empty().file("config.yml", text).report();
    for said in [
        "demuxai.composites.a: expected a table",
        "demuxai.composites.b.temperature: expected a number",
        "demuxai.composites.b.providers[0]: needs `provider_id`",
        "demuxai.composites.b.providers[1]: expected a table",
        "demuxai.composites.b.providers[2]: needs `provider_id`",
        "demuxai.composites.c.providers: expected a list",
    ] {
        assert!(report.contains(said), "{said}: {report}");
    }
    let text = "demuxai:\n  providers: {o: {type: ollama}}\n  composites:\n    a: {type: fastest, providers: [{id: m, provider_id: p}]}\n    b: {type: failover}\n";
    let report = Case::empty().file("config.yml", text).report();
    for said in ["groups.a.type", "no provider, group or router has the id `p`", "groups.b.members"] {
        assert!(report.contains(said), "{said}: {report}");
    }
}

#[test]
fn little_is_needed() {
    let config =
        Case::empty().file("config.yaml", "demuxai:\n  providers:\n    ollama: {type: ollama}\n").config();
    assert_eq!(config.listeners[0].address.to_string(), "127.0.0.1:6041");
    assert!(config.keys.is_empty());
    assert_eq!(provider(&config, "ollama").timeouts.first_token.as_secs(), 600);
    assert!(Case::empty().file("c", "# x\n---\ndemuxai:\n").load().is_err(), "nothing is no table");
}

#[test]
fn a_provider_may_be_called_as_our_listener_would_be() {
    let text = "demuxai:\n  port: 6042\n  providers:\n    local: {type: ollama}\n";
    let config = Case::empty().file("config.yml", text).config();
    assert_eq!((config.listeners[0].id.as_str(), config.listeners[0].address.port()), ("listener", 6042));
    assert_eq!(config.providers[0].id, "local");
}

#[test]
fn it_loads_beside_toml_and_by_the_variable() {
    let case = whole().file("more.toml", "[providers.mistral]\nname = 'M'\n[providers.box]\ntype = 'ollama'");
    let config = case.config();
    assert_eq!(provider(&config, "mistral").name.as_deref(), Some("M"));
    assert_eq!(config.providers.len(), 6);

    let case = Case::empty();
    let path = case.write("demuxai-config", "demuxai:\n  listen: '::1'\n  providers: {o: {type: ollama}}");
    let config = case.env("DEMUXAI_CONFIG_FILE", path.to_str().unwrap()).config();
    assert_eq!(config.listeners[0].address.to_string(), "[::1]:6041");
    assert_eq!(config.providers[0].id, "o");
}

#[test]
fn a_variable_that_is_not_set_and_an_open_address_are_problems_as_everywhere() {
    let text = "demuxai:\n  listen: 0.0.0.0\n  providers:\n    m: {type: mistralai, api_key: '${NOT_SET}'}";
    let report = Case::empty().file("config.yml", text).report();
    assert!(report.contains("providers.m.api_key: variable NOT_SET is not set"), "{report}");
    assert!(report.contains("listeners.local.address: others could use your accounts"), "{report}");
}

#[test]
fn hostile_yaml_is_bounded() {
    let bomb: String = (0..12)
        .map(|level| {
            format!(
                "  a{level}: &a{level} [{}]\n",
                vec![format!("*a{}", level - 1 + i32::from(level == 0)); 10].join(", ")
            )
        })
        .collect();
    let cases = [
        format!("demuxai:\n{}", "- ".repeat(500_000)),
        format!("demuxai:\n  a: {}", "[".repeat(500_000)),
        format!("demuxai:\n{}", "? ".repeat(100_000)),
        format!("demuxai:\n  a: {}", "{a: ".repeat(100_000)),
        format!("demuxai:\n{bomb}"),
        format!("demuxai: {}", "x".repeat(2_000_000)),
        (0..1300).fold("demuxai:\n".to_owned(), |text, depth| format!("{text}{}a:\n", " ".repeat(depth + 1))),
    ];
    for text in cases {
        let report = Case::empty().file("config.yml", &text).report();
        assert!(report.len() < 2000, "{report}");
    }
}

/// Compares with a file in `tests/snapshots`.
macro_rules! reads {
    ($text:expr, $about:expr) => {
        insta::with_settings!({
            snapshot_path => concat!(env!("CARGO_MANIFEST_DIR"), "/tests/snapshots"),
            description => $about,
            omit_expression => true,
        }, { insta::assert_snapshot!($text) })
    };
}

#[test]
fn problems_of_the_original_s_values() {
    let text = r#"demuxai:
  port: [1]
  cache_seconds: 1 hour
  timeout_seconds: ${NOT_SET}
  api_key: [a]
  providers:
    a: ollama
    b:
      type: ollama
      timeout_seconds: soon
  composites:
    c: [a]
    d:
      type: failover
      temperature: warm
      providers: b
    e:
      type: failover
      temperature: ${NOT_SET}
      providers:
        - id: m
        - qwen3
        - {provider_id: b}
"#;
    reads!(Case::empty().file("config.yml", text).report(), text);
}

#[test]
fn problems_of_the_original_s_providers_and_composites() {
    let text = r#"demuxai:
  listen: nohost
  port: 70000
  prot: 5
  providers:
    a: {type: mistralai, api_key: "${NOT_SET}"}
    b: {type: ollama, exclude_models: "x"}
    c: {typ: ollama}
    E_f:
      type: ollama
      timeout_seconds: -5
    g: {type: openai}
    h: {type: mistrall}
  composites:
    i:
      type: failover
      providers:
        - {id: m, provider_id: zz}
    j: {type: random, providers: []}
    k: {type: round robin, providers: [{id: m, provider_id: b}]}
    a: {type: failover, providers: [{id: m, provider_id: b}]}
"#;
    reads!(Case::empty().file("config.yml", text).report(), text);
}

#[test]
fn what_is_no_configuration_of_the_original_is_told_in_words() {
    let nested =
        (0..250).fold("demuxai:\n".to_owned(), |text, depth| format!("{text}{}a:\n", " ".repeat(depth + 1)));
    let case = Case::empty()
        .file("large.yml", "# x\n".repeat(300_000))
        .file("deep.yml", nested)
        .file("aliases.yml", format!("demuxai:\n  a: &a 1\n  b: [{}]\n", ["*a"; 20].join(", ")))
        .file("lists.yml", "demuxai:\n  providers:\n    - type: ollama\n  composites:\n    - x\n")
        .file("open.yml", "demuxai:\n  providers:\n    a: {type: ollama\n");
    reads!(
        case.report(),
        "too large, too deep, too many aliases, lists instead of tables, and a brace that is not closed"
    );
}
