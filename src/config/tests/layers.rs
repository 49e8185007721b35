//! Which layer wins, how variables name keys, where files are looked for.

use super::*;

#[test]
fn tables_merge_key_by_key_and_lists_are_replaced_whole() {
    let config = Case::empty()
        .file(
            "1.toml",
            "[providers.b-box]\ntype = 'ollama'\ncache_seconds = 10\nexclude_models = ['a', 'b']\n\
             [providers.a]\ntype = 'ollama'",
        )
        .file("2.toml", "[providers.b-box]\ncache_seconds = '1m'\nexclude_models = ['c']\nname = 'Box'")
        .env("DEMUXAI__PROVIDERS__B_BOX__NAME", "Bigger box")
        .option("listeners.<first>.address", "127.0.0.1:7000")
        .config();
    let ids: Vec<_> = config.providers.iter().map(|provider| provider.id.as_str()).collect();
    assert_eq!(ids, ["b-box", "a"], "the order of the files is kept");
    let box_ = provider(&config, "b-box");
    assert_eq!(box_.cache.as_secs(), 60);
    assert_eq!(box_.name.as_deref(), Some("Bigger box"));
    let excluded = box_.exclude_models.as_ref().unwrap();
    assert!(excluded.is_match("c") && !excluded.is_match("a"));
    assert_eq!(config.listeners[0].address.port(), 7000);
    assert_eq!(config.listeners[0].id, "local");
}

#[test]
fn the_command_line_names_the_first_listener_of_the_file() {
    let text = "[listeners.web]\naddress = '127.0.0.1:1'\n[listeners.also]\naddress = '127.0.0.1:2'";
    let config = Case::of(text)
        .env("DEMUXAI__LISTENERS__WEB__ADDRESS", "127.0.0.1:3")
        .option("listeners.<first>.address", "127.0.0.1:4")
        .config();
    let listeners: Vec<_> = config.listeners.iter().map(|l| (l.id.as_str(), l.address.port())).collect();
    assert_eq!(listeners, [("web", 4), ("also", 2)]);
}

#[test]
fn the_command_lines_listener_takes_no_providers_id() {
    let text = "[providers.local]\ntype = 'ollama'";
    let config = Case::of(text).option("listeners.<first>.address", "127.0.0.1:4").config();
    let listeners: Vec<_> = config.listeners.iter().map(|l| (l.id.as_str(), l.address.port())).collect();
    assert_eq!(listeners, [("listener", 4)]);
}

#[test]
fn variables_find_keys_that_exist_whatever_their_case_and_dashes() {
    let config =
        Case::of("[providers.my_big-box]\ntype = 'ollama'\n[providers.my_big-box.headers]\nX-Title = 'a'")
            .env("DEMUXAI__PROVIDERS__MY_BIG_BOX__MAX_IN_FLIGHT", "3")
            .env("DEMUXAI__PROVIDERS__MY_BIG_BOX__HEADERS__X_TITLE", "b")
            .env("DEMUXAI__PROVIDERS__MY_BIG_BOX__HEADERS__X_NEW_ONE", "c")
            .env("DEMUXAI__PROVIDERS__NEW_BOX__TYPE", "ollama")
            .env("DEMUXAI__PROVIDERS__NEW_BOX__INCLUDE_MODELS", "[\"q*\", \"g*\"]")
            .env("DEMUXAI__providers__new_box__timeouts", "{ connect = 3, idle = '4s' }")
            .config();
    let old = provider(&config, "my_big-box");
    assert_eq!(old.max_in_flight, Some(3));
    let headers: Vec<_> = old.headers.iter().map(|(name, value)| (name.as_str(), value.expose())).collect();
    assert_eq!(headers, [("x-title", "b"), ("x-new-one", "c")]);
    let new = provider(&config, "new_box");
    assert!(new.include_models.as_ref().unwrap().is_match("gemma"));
    assert_eq!((new.timeouts.connect.as_secs(), new.timeouts.idle.as_secs()), (3, 4));
}

#[test]
fn a_variable_is_toml_else_text_and_fits_itself_to_what_is_wanted() {
    let config = Case::of("[providers.o]\ntype = 'ollama'\n[keys.a]\nkey = 'x'\n[keys.b]\nkey = 'x2'")
        .env("DEMUXAI__KEYS__A__KEY", "12345")
        .env("DEMUXAI__KEYS__B__KEY", "\"quoted\"")
        .env("DEMUXAI__KEYS__C__KEY", "sk-[a]='b'")
        .env("DEMUXAI__KEYS__D__KEY", "true")
        .env("DEMUXAI__PROVIDERS__O__LOCAL", "False")
        .env("DEMUXAI__PROVIDERS__O__NAME", "2024-01-01")
        .env("DEMUXAI__PROVIDERS__O__REPLICAS", " 2 ")
        .env("DEMUXAI__LOG__FORMAT", "json")
        .config();
    let keys: Vec<_> = config.keys.iter().map(|key| key.key.expose()).collect();
    assert_eq!(keys, ["12345", "quoted", "sk-[a]='b'", "true"]);
    let ollama = provider(&config, "o");
    assert!(!ollama.local && config.log.json);
    assert_eq!((ollama.name.as_deref(), ollama.replicas), (Some("2024-01-01"), 2));
}

#[test]
fn a_file_is_strict_where_a_variable_is_not() {
    let report =
        Case::of("[providers.o]\ntype = 'ollama'\nreplicas = '2'\nname = 5\nlocal = 'true'").report();
    for expected in [
        "3:1: providers.o.replicas: expected an integer, found text; take it out of the quotes",
        "4:1: providers.o.name: expected text in quotes, found an integer; put it in quotes",
        "5:1: providers.o.local: expected true or false, found text; take it out of the quotes",
    ] {
        assert!(report.contains(expected), "{report}");
    }
}

#[test]
fn a_secret_reference_of_a_later_layer_replaces_the_earlier_one() {
    let case = Case::of("[providers.m]\ntype = 'mistral'\napi_key = { file = 'none' }")
        .file("2.toml", "[providers.m]\napi_key = { env = 'KEY' }")
        .env("KEY", "from-variable");
    assert_eq!(key(provider(&case.config(), "m")), Some("from-variable"));
    let case = case.file("3.toml", "[providers.m]\napi_key = 'plain'");
    assert_eq!(key(provider(&case.config(), "m")), Some("plain"));
    let case = case.env("DEMUXAI__PROVIDERS__M__API_KEY__ENV", "KEY");
    assert_eq!(key(provider(&case.config(), "m")), Some("from-variable"));
}

#[test]
fn a_text_that_another_layer_replaces_asks_for_no_variable() {
    let config = Case::of("[providers.o]\ntype = 'ollama'\nurl = '${NOT_SET}'")
        .file("2.toml", "[providers.o]\nurl = 'http://localhost:1'")
        .config();
    assert_eq!(provider(&config, "o").url, "http://localhost:1");
}

#[test]
fn named_files_come_before_the_variable_and_that_before_the_platform_directory() {
    let mut case = Case::empty();
    let ollama = |id: &str| format!("[providers.{id}]\ntype = 'ollama'");
    case.write("demuxai/config.toml", ollama("main"));
    case.write("demuxai/conf.d/20.toml", ollama("second"));
    case.write("demuxai/conf.d/10.toml", ollama("first"));
    case.sources.config_dir = Some(case.directory.path().join("demuxai"));
    let ids =
        |case: &Case| case.config().providers.iter().map(|provider| provider.id.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&case), ["main", "first", "second"]);
    let by_variable = case.write("variable.toml", ollama("by-variable"));
    let case = case.env("DEMUXAI_CONFIG_FILE", by_variable.to_str().unwrap());
    assert_eq!(ids(&case), ["by-variable"]);
    assert_eq!(ids(&case.file("named.toml", ollama("named"))), ["named"]);
}

#[test]
fn an_empty_file_is_a_configuration_without_providers() {
    let config = Case::of("").env("MISTRAL_API_KEY", "k").config();
    assert!(config.providers.is_empty());
    assert_eq!(config.notes, ["no providers are configured: add a [providers.NAME] table"]);
    let mut null = Case::empty();
    null.sources.files.push(PathBuf::from("/dev/null"));
    if cfg!(unix) {
        assert!(null.config().providers.is_empty());
    }
}

#[test]
fn text_from_variables_is_filled_in_after_parsing() {
    let config = Case::of(
        "[providers.o]\ntype = '${TYPE}'\nurl = 'http://${HOST}/v1'\nname = '$${HOST}'\n\
         include_models = ['${GLOB}*']\n[log]\nformat = '${FORMAT}'",
    )
    .env("TYPE", "ollama")
    .env("HOST", "nas:1")
    .env("GLOB", "it's \"q\"\\\n")
    .env("FORMAT", "json")
    .config();
    let ollama = provider(&config, "o");
    assert_eq!((ollama.url.as_str(), ollama.name.as_deref()), ("http://nas:1", Some("${HOST}")));
    assert!(config.log.json);
}
