//! What a configuration without a problem becomes.

use std::time::Duration;

use super::super::settings::Limit;
use super::*;

#[test]
fn defaults_are_those_of_the_design() {
    let config =
        Case::of("[providers.ollama]\ntype = 'ollama'\n[providers.x]\ntype = 'openai'\nurl = 'http://h/v1'")
            .config();
    let listener = &config.listeners[0];
    assert_eq!((listener.id.as_str(), listener.address.to_string().as_str()), ("local", "127.0.0.1:6041"));
    assert!(listener.api && listener.metrics && listener.admin);
    assert_eq!(listener.max_body, 64 * 1024 * 1024);
    assert!((1..=4).contains(&listener.workers));
    let seconds = Duration::from_secs;
    assert_eq!(
        (listener.keep_alive, listener.stalled_reader, listener.drain),
        (seconds(15), seconds(60), seconds(120))
    );
    let ollama = provider(&config, "ollama");
    assert_eq!(
        (ollama.url.as_str(), ollama.kind.as_str(), ollama.local),
        ("http://localhost:11434", "ollama", true)
    );
    assert_eq!((ollama.cache, ollama.replicas, ollama.max_in_flight), (seconds(3600), 1, None));
    assert_eq!(ollama.timeouts.first_token, seconds(600));
    assert!(ollama.limits.is_none() && ollama.api_key.is_none() && ollama.models.is_empty());
    let other = provider(&config, "x").timeouts;
    assert_eq!((other.connect, other.first_token, other.idle), (seconds(10), seconds(120), seconds(120)));
    assert_eq!((other.total_plain, other.total_stream), (seconds(600), None));
    assert_eq!((config.log.level.as_str(), config.log.json), ("info", false));
    assert!(config.keys.is_empty() && config.admin_key.is_none() && config.notes.is_empty());
}

#[test]
fn every_option_of_a_provider_arrives() {
    let case = Case::of(
        r#"
        [providers.lab]
        type = "openai"
        name = "Lab"
        description = "vLLM in the lab"
        url = "https://lab.example/v1/"
        api_key = "pre-${KEY}"
        headers = { X-Team = "ide", api-key = { env = "KEY" } }
        include_models = ["q*", "org/[!x]*"]
        exclude_models = ["*-{old,test}"]
        cache_seconds = 0
        timeouts = { connect = "500ms", first_token = 1.5, idle = "2m", total = "1h", total_stream = "1d" }
        max_in_flight = 8
        models = ["qwen", { id = "embed/e@5:1", capabilities = ["embedding"], context_length = 512 }]
        ca_file = "ca.pem"
        replicas = 64
        local = true
        limits = [{ requests = 60, per = "minute" }, { concurrent = 2, models = "q*" },
                  { tokens = 5, per = "day", window = "calendar", time_zone = "America/Los_Angeles" }]
        "#,
    )
    .env("KEY", "k");
    let ca_file = case.write("ca.pem", "-----BEGIN CERTIFICATE-----\n");
    let config = case.config();
    let lab = provider(&config, "lab");
    assert_eq!((lab.url.as_str(), key(lab)), ("https://lab.example", Some("pre-k")));
    let headers: Vec<_> = lab.headers.iter().map(|(name, value)| (name.as_str(), value.expose())).collect();
    assert_eq!(headers, [("x-team", "ide"), ("api-key", "k")]);
    let included = lab.include_models.as_ref().unwrap();
    assert!(included.is_match("qwen/3") && included.is_match("org/yes") && !included.is_match("org/xno"));
    let excluded = lab.exclude_models.as_ref().unwrap();
    assert!(excluded.is_match("a/b-old") && !excluded.is_match("a/b-new"));
    assert_eq!(lab.cache, Duration::ZERO);
    let times = lab.timeouts;
    assert_eq!((times.connect.as_millis(), times.first_token.as_millis()), (500, 1500));
    assert_eq!((times.idle.as_secs(), times.total_plain.as_secs()), (120, 3600));
    assert_eq!(times.total_stream, Some(Duration::from_secs(86_400)));
    assert_eq!((lab.max_in_flight, lab.replicas, lab.local), (Some(8), 64, true));
    assert_eq!(lab.models[0].id, "qwen");
    assert_eq!((lab.models[1].id.as_str(), lab.models[1].context_length), ("embed/e@5:1", Some(512)));
    assert_eq!(lab.models[1].capabilities, ["embedding"]);
    assert_eq!(lab.ca_file.as_deref(), Some(ca_file.as_path()));
    let limits = lab.limits.as_ref().unwrap();
    assert_eq!(limits.len(), 3);
    assert_eq!(
        limits[2],
        Limit {
            unit: "tokens".to_owned(),
            amount: 5,
            per: Some("day".to_owned()),
            models: None,
            window: Some("calendar".to_owned()),
            time_zone: Some("America/Los_Angeles".to_owned()),
        }
    );
    assert!(config.notes.is_empty(), "{:?}", config.notes);
}

#[test]
fn no_limits_differ_from_an_empty_list() {
    let config =
        Case::of("[providers.a]\ntype = 'ollama'\nlimits = []\n[providers.b]\ntype = 'ollama'").config();
    assert_eq!(provider(&config, "a").limits, Some(Vec::new()));
    assert_eq!(provider(&config, "b").limits, None);
    assert!(config.notes.is_empty());
}

#[test]
fn listeners_and_keys_arrive() {
    let config = Case::of(
        r#"
        [listeners.lan]
        address = "0.0.0.0:6041"
        serves = ["api"]
        hosts = ["AI.example.com."]
        origins = ["https://Chat.example.com/", "*", "vscode-webview://abc", "http://localhost:3000"]
        max_body = "1MB"
        workers = 3
        keep_alive = 5
        stalled_reader = "2m"
        drain = 0
        [listeners.metrics]
        address = "localhost:9100"
        serves = ["metrics"]
        [keys.ide]
        key = "a"
        models = ["ollama/*"]
        [keys.agent]
        key = "b"
        limits = [{ tokens = 1000, per = "5h" }]
        [admin]
        key = "c"
        [log]
        level = "warn,demuxai::quota=debug"
        "#,
    )
    .config();
    let [lan, metrics] = config.listeners.as_slice() else { panic!() };
    assert_eq!((lan.api, lan.metrics, lan.admin), (true, false, false));
    assert_eq!(lan.hosts, ["ai.example.com"]);
    assert_eq!(
        lan.origins,
        ["https://chat.example.com", "*", "vscode-webview://abc", "http://localhost:3000"]
    );
    assert_eq!((lan.max_body, lan.workers, lan.keep_alive.as_secs()), (1024 * 1024, 3, 5));
    assert_eq!((lan.stalled_reader.as_secs(), lan.drain.as_secs()), (120, 0));
    assert_eq!(
        (metrics.address.to_string().as_str(), metrics.api, metrics.metrics),
        ("127.0.0.1:9100", false, true)
    );
    assert!(config.keys[0].models.as_ref().unwrap().is_match("ollama/a/b"));
    assert!(config.keys[1].models.is_none());
    assert!(config.admin_key.unwrap().matches("c"));
    assert_eq!(config.log.level, "warn,demuxai::quota=debug");
}

#[test]
fn aliases_of_types_and_retired_types_load_with_a_note() {
    let config = Case::of("[providers.gh]\ntype = 'github-models'\napi_key = '${GITHUB_TOKEN}'").config();
    assert_eq!(provider(&config, "gh").kind, "github");
    let notes = config.notes.join("\n");
    assert!(notes.contains("providers.gh: GitHub Models was shut down"), "{notes}");
    let warnings = crate::config::warned(&config.warnings);
    assert!(warnings.contains("variable GITHUB_TOKEN is not set: no key is sent"), "{warnings}");
}

#[test]
fn a_kind_that_needs_no_key_does_without_one() {
    for written in ["''", "'${NOT_SET}'", "{ env = 'NOT_SET' }", "'${EMPTY}'"] {
        let config = Case::of(&format!("[providers.o]\ntype = 'ollama'\napi_key = {written}"))
            .env("EMPTY", "")
            .config();
        assert_eq!(key(provider(&config, "o")), None, "{written}");
    }
}

#[test]
fn a_key_over_plain_http_to_the_internet_is_noted() {
    let text = "[providers.o]\ntype = 'openai'\napi_key = 'k'\nurl = ";
    let far = Case::of(&format!("{text}'http://api.example.com'")).config();
    assert_eq!(far.notes, ["providers.o.api_key: is sent unencrypted: the url begins with http://"]);
    assert!(Case::of(&format!("{text}'http://192.168.1.9'")).config().notes.is_empty());
}

#[test]
fn a_group_takes_variables_and_sets_fields_of_any_depth() {
    let text = "[providers.o]\ntype = 'ollama'\n[groups.g]\ntype = 'failover'\n\
                members = [{ to = 'o/${MODEL}', set = { options = { num_ctx = 8192, stop = ['a'] } } }]";
    let config = Case::of(text).env("MODEL", "qwen3:8b").config();
    let member = &config.groups[0].members[0];
    assert_eq!((member.backend.as_str(), member.model.as_deref()), ("o", Some("qwen3:8b")));
    let (key, value) = &member.set[0];
    assert_eq!((key.as_str(), &value[..]), ("options", &br#"{"num_ctx":8192,"stop":["a"]}"#[..]));
    assert!(Case::of(text).report().contains("MODEL"), "a variable that is not set is a problem here, too");
}

#[test]
fn a_router_takes_variables_and_its_targets_come_before_it() {
    let text = "[routers.auto]\nroutes = [{ model = '${GLOB}', to = 'g' }, { to = 'inner' }]\n\
                [routers.inner]\nroutes = [{ quota = { of = 'o/m', left = '<20%' }, to = 'o/m' }]\n\
                [groups.g]\ntype = 'failover'\nmembers = ['inner', 'o/m']\n\
                [providers.o]\ntype = 'ollama'";
    let config = Case::of(text).env("GLOB", "gpt-*").config();
    let ids: Vec<&str> = config.routers.iter().map(|router| router.id.as_str()).collect();
    assert_eq!(ids, ["inner", "auto"]);
    let routes = &config.routers[1].routes;
    assert_eq!((routes[0].label().as_str(), routes[0].renames, routes[1].renames), ("g", true, false));
    assert_eq!(config.routers[0].routes[0].conditions.backends(), ["o/m"].into());
    assert!(Case::of(text).report().contains("GLOB"), "a variable that is not set is a problem here, too");
}

#[test]
fn state_is_kept_where_the_configuration_says() {
    let mut case = Case::of("[state]\npath = 'beside.db'");
    case.sources.state_dir = Some(PathBuf::from("/state/demuxai"));
    assert_eq!(case.config().state.file, Some(case.directory.path().join("beside.db")));
    let by_variable = |path| Case::of("").env("HOME", "/home/me").env("DEMUXAI__STATE__PATH", path);
    for (written, expected) in
        [("/var/x.db", Some("/var/x.db")), ("~/x.db", Some("/home/me/x.db")), ("none", None)]
    {
        assert_eq!(by_variable(written).config().state.file, expected.map(PathBuf::from), "{written}");
    }
    let report = by_variable("x.db").report();
    assert!(report.contains("outside a file a path must be absolute"), "{report}");
    assert_eq!(Case::of("[state]\npath = 'none'").config().state, settings::StateConfig::default());
    assert!(Case::of("[state]\npath = './none'").config().state.file.is_some(), "a file may be called so");
}

#[test]
fn state_is_in_the_platform_s_directory_unless_the_configuration_says_otherwise() {
    for mut case in [Case::empty(), Case::of(""), Case::of("[state]")] {
        assert!(case.config().state.homeless, "without one it is in memory, and that was not asked for");
        case.sources.state_dir = Some(PathBuf::from("/state/demuxai"));
        assert_eq!(case.config().state.file, Some(PathBuf::from("/state/demuxai/state.db")));
    }
}

#[test]
fn a_state_that_cannot_be_meant_is_reported() {
    let report = Case::of("[state]\npath = ''\nurl = 'redis://x'").report();
    assert!(report.contains("state.url: is for a later version"), "{report}");
    assert!(
        report.contains("state.path: the path is empty; write that of a file, or \"none\" for no file"),
        "{report}"
    );
    let case = Case::empty();
    let directory = case.directory.path().display().to_string();
    let report = case.file("a.toml", format!("[state]\npath = '{directory}'")).report();
    assert!(report.contains("is a directory; name a file in it"), "{report}");
    assert!(Case::of("[state]\npath = false").report().contains("state.path"));
}

#[test]
fn the_default_listener_makes_room_for_a_provider_of_its_name() {
    let config = Case::of("[providers.local]\ntype = 'ollama'").config();
    assert_eq!(config.listeners[0].id, "listener");
}

#[test]
fn secrets_come_from_files_beside_the_configuration_and_from_programs() {
    let case = Case::empty()
        .file(
            "etc/demuxai.toml",
            "[providers.m]\ntype = 'mistral'\napi_key = { file = 'keys/mistral' }\n\
              [providers.c]\ntype = 'codestral'\napi_key = { command = ['echo', 'from program'] }",
        )
        .env("PATH", "/usr/bin:/bin");
    let file = case.write("etc/keys/mistral", "from file\n");
    if cfg!(unix) {
        let config = case.config();
        assert_eq!(key(provider(&config, "m")), Some("from file"));
        assert_eq!(key(provider(&config, "c")), Some("from program"));
        // Written with the usual umask, so others can read it.
        assert!(
            config.notes.iter().any(|note| note.contains(&file.display().to_string())),
            "{:?}",
            config.notes
        );
    }
}
