//! What is served without a file, and that `init` writes the same down.

use super::*;

const ALL_KEYS: &[&str] =
    &["OLLAMA_API_KEY", "MISTRAL_API_KEY", "CODESTRAL_API_KEY", "FIREWORKS_API_KEY", "GITHUB_TOKEN"];

fn with_keys() -> Case {
    ALL_KEYS.iter().fold(Case::empty(), |case, name| case.env(name, &format!("key-of-{name}")))
}

fn ids(config: &Config) -> Vec<&str> {
    config.providers.iter().map(|provider| provider.id.as_str()).collect()
}

#[test]
fn a_local_ollama_and_every_key_that_is_set_are_served_but_never_github() {
    let case = with_keys();
    let config = load(&case.sources, KINDS, &|url| url == "http://localhost:11434").unwrap();
    assert_eq!(ids(&config), ["ollama", "ollama-cloud", "mistral", "codestral", "fireworks"]);
    assert_eq!(key(provider(&config, "mistral")), Some("key-of-MISTRAL_API_KEY"));
    assert_eq!(config.listeners[0].address.to_string(), "127.0.0.1:6041");
    for why in [
        "provider ollama: Ollama answers at http://localhost:11434",
        "provider mistral: MISTRAL_API_KEY is set",
    ] {
        assert!(config.notes.iter().any(|note| note == why), "{:?}", config.notes);
    }
    assert!(!config.notes.join(" ").contains("key-of"), "no key in the notes");
}

#[test]
fn ollama_host_says_where_to_look() {
    let case = Case::empty().env("OLLAMA_HOST", "0.0.0.0:1234");
    let config = load(&case.sources, KINDS, &|url| url == "http://127.0.0.1:1234").unwrap();
    assert_eq!(provider(&config, "ollama").url, "http://127.0.0.1:1234");
    assert!(config.notes.iter().any(|note| note.contains("OLLAMA_HOST")));
}

#[test]
fn an_empty_key_is_no_key_and_nothing_found_is_said() {
    let config = Case::empty().env("MISTRAL_API_KEY", " ").config();
    assert!(config.providers.is_empty());
    let last = config.notes.last().unwrap();
    assert!(
        last.starts_with("nothing to serve was found: start Ollama, set one of OLLAMA_API_KEY"),
        "{last}"
    );
}

#[test]
fn the_key_of_one_account_is_no_reason_to_serve_another() {
    let config = Case::empty().env("MISTRAL_API_KEY", "k").env("GROQ_API_KEY", "k").config();
    assert_eq!(ids(&config), ["mistral"]);
}

#[test]
fn discovery_stops_at_a_file_or_a_provider_in_the_environment_and_at_nothing_else() {
    let keys =
        || with_keys().env("DEMUXAI__LOG__LEVEL", "debug").option("listeners.<first>.address", "127.0.0.1:0");
    assert_eq!(keys().config().providers.len(), 4);
    assert_eq!(keys().config().log.level, "debug");
    assert!(keys().file("x.toml", "").config().providers.is_empty());
    assert_eq!(ids(&keys().env("DEMUXAI__PROVIDERS__BOX__TYPE", "ollama").config()), ["box"]);
}

#[test]
fn a_variable_adjusts_what_was_found() {
    let case = with_keys()
        .env("DEMUXAI__PROVIDERS__OLLAMA_CLOUD__URL", "http://127.0.0.1:1")
        .env("DEMUXAI__PROVIDERS__MISTRAL__MAX_IN_FLIGHT", "3");
    let config = case.config();
    assert_eq!(ids(&config), ["ollama-cloud", "mistral", "codestral", "fireworks"]);
    assert_eq!(provider(&config, "ollama-cloud").url, "http://127.0.0.1:1");
    assert_eq!(provider(&config, "mistral").max_in_flight, Some(3));
}

#[test]
fn the_starting_configuration_loads_and_serves_what_was_found() {
    // An odd address, to see that the text quotes it.
    let case = with_keys().env("OLLAMA_HOST", "https://nas/a\"b$");
    let served = load(&case.sources, KINDS, &|_| true).unwrap();
    let text = starting_configuration(&discover(&case.sources.env, KINDS, &|_| true), KINDS);
    assert!(!text.contains("key-of"), "no key in the text:\n{text}");
    let written = case.file("init.toml", &text).config();
    let facts = |config: &Config| {
        let of = |provider: &ProviderConfig| {
            (
                provider.id.clone(),
                provider.kind.clone(),
                provider.url.clone(),
                key(provider).map(str::to_owned),
            )
        };
        config.providers.iter().map(of).collect::<Vec<_>>()
    };
    assert_eq!(facts(&served), facts(&written));
    assert_eq!(written.providers.len(), 5);
    assert!(written.notes.is_empty(), "{:?}", written.notes);
}

#[test]
fn the_starting_configuration_of_nothing_loads_also_with_its_comments_taken_away() {
    let text = starting_configuration(&[], KINDS);
    assert!(Case::of(&text).config().providers.is_empty());
    let all: String = text.lines().map(|line| format!("{}\n", is_option(line).unwrap_or(line))).collect();
    let case = ALL_KEYS.iter().fold(Case::of(&all), |case, name| case.env(name, "k"));
    let config = case.env("DEMUXAI_IDE_KEY", "ide").config();
    assert_eq!(ids(&config), ["ollama", "ollama-cloud", "mistral", "codestral", "fireworks", "other"]);
    assert_eq!((config.keys.len(), config.groups.len()), (1, 1));
}

#[test]
fn the_starting_configuration_reads_well() {
    let case = with_keys();
    let found = discover(&case.sources.env, KINDS, &|_| true);
    assert_reads!(starting_configuration(&found[..2], KINDS), "");
}

fn is_option(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("# ")?;
    let is_pair = rest.split_once(" = ").is_some_and(|(name, _)| !name.contains(' '));
    (rest.starts_with('[') || is_pair).then_some(rest)
}
