//! The Python demuxai: its configuration starts and serves as it is, and none of its known faults is here.

use std::collections::BTreeMap;
use std::process::Command;

use demuxai::config::Sources;
use demuxai::demo::{Answer, Fake, Received, Setup, Upstream, faults, limits};
use demuxai::provider::registry::Registry;
use serde_json::{Value, json};

use crate::support::client;
use crate::support::eventually;
use crate::support::proxy::{Proxy, provider};
use crate::support::upstreams::{
    calls, chat, heard, ids, is_list, last_call, listing, lists, ok_chat, playing, wait_until_heard,
};

// --- its configuration -----------------------------------------------------------------------------------------------

/// A `config.yml` with every key that the original knew; `PORT` and the urls are ours.
const CONFIG: &str = r#"
# demuxai
demuxai:
  listen: 127.0.0.1
  port: PORT
  cache_seconds: 3600
  timeout_seconds: 300
  api_key: ${DEMUXAI_KEY}
  providers:
    local:
      type: ollama
      name: Ollama on this machine
      url: OLLAMA
    cloud:
      type: ollama-cloud
      url: CLOUD
      api_key: ${OLLAMA_API_KEY}
    gh:
      type: github
      description: Free tier
      url: GITHUB
      api_key: ${GITHUB_TOKEN}
    mistral:
      type: mistralai
      url: MISTRAL/v1
      api_key: ${MISTRAL_API_KEY}
      cache_seconds: 60
      timeout_seconds: 20
      exclude_models: ["voxtral-*", "mistral-ocr-*", "mistral-large-*"]
    codestral:
      type: codestral
      url: CODESTRAL
      api_key: ${CODESTRAL_API_KEY}
    fw:
      type: fireworks
      url: FIREWORKS/inference
      api_key: ${FIREWORKS_API_KEY}
      include_models: ["accounts/fireworks/models/*"]
      exclude_models: []
  composites:
    coder:
      type: failover
      name: Coder
      temperature: 0.2
      metadata: {}
      providers:
        - id: codestral-latest
          provider_id: codestral
          temperature: 0.1
        - remote_id: qwen2.5-coder:7b
          provider_id: local
"#;

const KEYS: [(&str, &str); 6] = [
    ("DEMUXAI_KEY", "client-key"),
    ("OLLAMA_API_KEY", "key-cloud"),
    ("GITHUB_TOKEN", "key-github"),
    ("MISTRAL_API_KEY", "key-mistral"),
    ("CODESTRAL_API_KEY", "key-codestral"),
    ("FIREWORKS_API_KEY", "key-fireworks"),
];

/// Provider id, word for its url in [`CONFIG`], upstream, its key, and a model that chats.
const PROVIDERS: [(&str, &str, Upstream, &str, &str); 6] = [
    ("local", "OLLAMA", Upstream::Ollama, "", "llama3.2:3b"),
    ("cloud", "CLOUD", Upstream::OllamaCloud, "key-cloud", "gemma4:31b"),
    ("gh", "GITHUB", Upstream::Github, "key-github", "openai/gpt-4.1-mini"),
    ("mistral", "MISTRAL", Upstream::Mistral, "key-mistral", "mistral-small-latest"),
    ("codestral", "CODESTRAL", Upstream::Codestral, "key-codestral", "codestral-latest"),
    (
        "fw",
        "FIREWORKS",
        Upstream::Fireworks,
        "key-fireworks",
        "accounts/fireworks/models/kimi-k2-instruct-0905",
    ),
];

fn configured(fakes: &[Fake]) -> String {
    // The url is what stands behind `url: `, so that `CODESTRAL_API_KEY` stays.
    PROVIDERS.iter().zip(fakes).fold(CONFIG.replace("PORT", "0"), |text, ((_, word, ..), fake)| {
        text.replace(&format!("url: {word}"), &format!("url: {}", fake.url()))
    })
}

/// Fake upstreams of its providers, each with the key that it is configured with.
fn fakes() -> Vec<Fake> {
    let start = |(_, _, upstream, key, _): &(_, _, Upstream, &str, _)| {
        let key = (!key.is_empty()).then(|| (*key).to_owned());
        upstream.start(Setup { key, ..Setup::default() }).expect("fake upstream starts")
    };
    PROVIDERS.iter().map(start).collect()
}

fn environment() -> BTreeMap<String, String> {
    KEYS.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn its_configuration_starts_and_serves_as_it_is() {
    let fakes = fakes();
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("config.yml");
    std::fs::write(&path, configured(&fakes)).expect("file is written");

    // Named by the variable that the original read, too.
    let mut by_variable = environment();
    by_variable.insert("DEMUXAI_CONFIG_FILE".to_owned(), path.display().to_string());
    for sources in [
        Sources { files: vec![path.clone()], env: environment(), ..Sources::default() },
        Sources { env: by_variable, ..Sources::default() },
    ] {
        let proxy = Proxy::from_sources(sources, Registry::builtin());
        wait_until_heard(&proxy);
        assert_eq!(proxy.get("/v1/models").status, 401, "its api_key counts");
        let headers = [("authorization", "Bearer client-key")];
        let get = |path: &str| client::open(proxy.address, "GET", path, &headers, b"").finish();
        let list = get("/models").json();
        let listed: Vec<&str> =
            list["data"].as_array().unwrap().iter().map(|entry| entry["id"].as_str().unwrap()).collect();
        assert!(!listed.iter().any(|id| id.starts_with("mistral/mistral-large")), "{listed:?}");
        for ((id, _, _, key, model), fake) in PROVIDERS.iter().zip(&fakes) {
            let full = format!("{id}/{model}");
            assert!(listed.contains(&full.as_str()), "{full} in {listed:?}");
            for path in ["/chat/completions", "/v1/chat/completions"] {
                let answer =
                    client::open(proxy.address, "POST", path, &headers, chat(&full).as_bytes()).finish();
                assert_eq!(answer.status, 200, "{full}: {}", answer.text());
                assert_eq!(answer.header("x-demuxai-provider"), Some(*id));
                assert_eq!(last_call(fake).bearer(), (!key.is_empty()).then_some(*key));
            }
        }
        let fim = json!({"model": "local/qwen2.5-coder:7b", "prompt": "a", "suffix": "b"}).to_string();
        assert_eq!(
            client::open(proxy.address, "POST", "/completions", &headers, fim.as_bytes()).finish().status,
            200
        );
        let gone = chat("mistral/mistral-large-latest");
        assert_eq!(
            client::open(proxy.address, "POST", "/chat/completions", &headers, gone.as_bytes())
                .finish()
                .status,
            404
        );
    }
}

#[test]
fn its_composites_do_not_stop_at_a_member_that_fails() {
    let failing = Fake::start(|received: &Received| {
        if received.path().ends_with("/models") {
            return Answer::json(200).body(r#"{"object":"list","data":[]}"#);
        }
        Answer::json(500).body(r#"{"message":"no"}"#)
    })
    .expect("fake upstream starts");
    let fakes = fakes();
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("config.yml");
    let serving = |text: String| {
        std::fs::write(&path, text).expect("file is written");
        let sources = Sources { files: vec![path.clone()], env: environment(), ..Sources::default() };
        let proxy = Proxy::from_sources(sources, Registry::builtin());
        wait_until_heard(&proxy);
        proxy
    };
    let headers = [("authorization", "Bearer client-key")];
    let ask = |proxy: &Proxy| {
        client::open(proxy.address, "POST", "/chat/completions", &headers, chat("coder").as_bytes()).finish()
    };
    let temperature = |fake: &Fake| {
        serde_json::from_slice::<Value>(&last_call(fake).body).expect("JSON")["temperature"].clone()
    };

    let proxy = serving(configured(&fakes));
    let answer = ask(&proxy);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("x-demuxai-provider"), Some("codestral"));
    assert_eq!(temperature(&fakes[4]), 0.1, "a member's own temperature wins");
    let list = client::open(proxy.address, "GET", "/models", &headers, b"").finish().json();
    let listed = list["data"].as_array().expect("data").iter().find(|entry| entry["id"] == "coder");
    assert_eq!(listed.expect("it is a model")["display_name"], "Coder");
    drop(proxy);

    let text = configured(&fakes).replace(&fakes[4].url(), &failing.url());
    let answer = ask(&serving(text));
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("x-demuxai-provider"), Some("local"));
    assert_eq!(temperature(&fakes[0]), 0.2, "the composite's temperature is for all the others");
}

#[test]
fn its_composites_are_no_warning_and_its_port_and_default_are_kept() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("config.yml");
    let text = PROVIDERS.iter().fold(CONFIG.replace("PORT", "6042"), |text, (_, word, ..)| {
        text.replace(&format!("url: {word}"), "url: http://127.0.0.1:9")
    });
    std::fs::write(&path, text).expect("file is written");
    let output = Command::new(env!("CARGO_BIN_EXE_demuxai"))
        .args(["check", "--config"])
        .arg(&path)
        .env_clear()
        .envs(KEYS)
        .output()
        .expect("demuxai runs");
    let said = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("127.0.0.1:6042"), "{said}");
    assert!(!said.contains("composites"), "{said}");
    let group = "failover over codestral/codestral-latest (sets temperature), local/qwen2.5-coder:7b (sets temperature)";
    assert!(
        said.lines().any(|line| line.trim_start().starts_with("group    coder ") && line.ends_with(group)),
        "{said}"
    );
    for (id, ..) in PROVIDERS {
        assert!(said.lines().any(|line| line.trim_start().starts_with(&format!("provider {id} "))), "{said}");
    }
    assert!(!said.contains("key-") && !said.contains("client-key"), "no secret is shown: {said}");

    // A variable that is not set is named, with its place.
    let output = Command::new(env!("CARGO_BIN_EXE_demuxai"))
        .args(["check", "--config"])
        .arg(&path)
        .env_clear()
        .envs(KEYS.iter().filter(|(name, _)| *name != "MISTRAL_API_KEY").copied())
        .output()
        .expect("demuxai runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("MISTRAL_API_KEY"), "{said}");
    assert!(said.contains("providers.mistral"), "{said}");
}

// --- its faults, numbered as in the survey of it -----------------------------------------------------------------------

#[test]
fn fault_1_github_is_not_asked_below_v1_and_its_bare_array_is_a_list() {
    let (fake, table) = playing(Upstream::Github);
    let proxy = heard(&table);
    assert!(ids(&proxy).contains(&"github/openai/gpt-4.1-mini".to_owned()));
    for path in ["/chat/completions", "/v1/chat/completions"] {
        assert_eq!(proxy.post(path, &chat("github/openai/gpt-4.1-mini")).status, 200);
    }
    for received in fake.received() {
        assert!(
            ["/catalog/models", "/inference/chat/completions"].contains(&received.path()),
            "{}",
            received.path()
        );
        assert_eq!(received.header("x-github-api-version"), Some("2022-11-28"));
    }
}

#[test]
fn fault_2_ollama_cloud_is_not_an_unknown_type_and_its_variable_is_read() {
    let fake = Upstream::OllamaCloud
        .start(Setup { key: Some("from-env".to_owned()), ..Setup::default() })
        .expect("fake upstream starts");
    let text = format!(
        "demuxai:\n  port: 0\n  providers:\n    c:\n      type: ollama-cloud\n      url: {}\n      api_key: ${{OLLAMA_API_KEY}}\n",
        fake.url()
    );
    let env = [("OLLAMA_API_KEY".to_owned(), "from-env".to_owned())].into();
    let sources = Sources { texts: vec![("config.yml".to_owned(), text)], env, ..Sources::default() };
    let proxy = Proxy::from_sources(sources, Registry::builtin());
    wait_until_heard(&proxy);
    let answer = proxy.post("/v1/chat/completions", &chat("c/gemma4:31b"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(last_call(&fake).bearer(), Some("from-env"));
}

#[test]
fn fault_3_the_clients_path_is_not_the_upstreams() {
    for (upstream, model) in [
        (Upstream::Ollama, "llama3.2:3b"),
        (Upstream::Mistral, "mistral-small-latest"),
        (Upstream::Fireworks, "accounts/fireworks/models/kimi-k2-instruct-0905"),
        (Upstream::Openai, "gpt-4.1-mini"),
    ] {
        let (fake, table) = playing(upstream);
        let proxy = heard(&table);
        let body = chat(&format!("{}/{model}", upstream.label()));
        let paths = [
            "/chat/completions",
            "/v1/chat/completions",
            "//v1//chat//completions/",
            "/chat/completions?a=b",
        ];
        for path in paths {
            assert_eq!(proxy.post(path, &body).status, 200, "{path}");
        }
        let wanted = format!("{}/v1/chat/completions", upstream.base_path());
        assert!(calls(&fake).iter().all(|received| received.target == wanted));
        assert_eq!(calls(&fake).len(), paths.len());
    }
}

#[test]
fn fault_4_mistrals_embedding_and_reasoning_models_extras_fim_and_aliases_are_not_lost() {
    let (fake, table) = playing(Upstream::Mistral);
    let proxy = heard(&table);
    let listed = ids(&proxy);
    for model in ["mistral/mistral-embed", "mistral/codestral-embed"] {
        assert!(listed.contains(&model.to_owned()), "{model}");
        let answer = proxy.post("/v1/embeddings", &json!({"model": model, "input": "x"}).to_string());
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let magistral = proxy.get("/v1/models/mistral/magistral-medium-latest").json();
    assert!(magistral["features"].as_array().unwrap().contains(&json!("reasoning")));
    let mut unique = listed.clone();
    unique.sort();
    unique.dedup();
    assert_eq!(unique.len(), listed.len(), "no model is listed twice");
    let body = json!({"model": "mistral/mistral-small-latest", "messages": [{"role": "user", "content": "x"}],
        "user": "u", "store": true, "stream": true, "stream_options": {"include_usage": true}});
    let answer = proxy.post("/v1/chat/completions", &body.to_string());
    assert_eq!(answer.status, 200, "no 422 for what OpenAI's clients send: {}", answer.text());
    let body = json!({"model": "mistral/codestral-latest", "prompt": "a", "suffix": "b"}).to_string();
    let answer = proxy.post("/v1/completions", &body).json();
    assert!(answer["choices"][0]["text"].as_str().unwrap().starts_with("42"), "{answer}");
    assert_eq!(answer["object"], "text_completion");
    drop(fake);
}

#[test]
fn fault_5_codestral_is_not_listed_without_chat_or_with_an_invented_date() {
    let (fake, table) = playing(Upstream::Codestral);
    let proxy = heard(&table);
    let entry = proxy.get("/v1/models/codestral/codestral-latest").json();
    for word in ["chat", "fim", "completion"] {
        assert!(entry["features"].as_array().unwrap().contains(&json!(word)), "{word} in {entry}");
    }
    assert_eq!(entry["created"], 1_795_348_800, "as upstream says");
    assert_eq!(proxy.post("/v1/chat/completions", &chat("codestral/codestral-latest")).status, 200);
    drop((proxy, fake));

    // Where it serves no list, nothing is invented either.
    let silent = Fake::start(|_| faults::json_error(404)).expect("fake upstream starts");
    let proxy = heard(&provider("codestral", "codestral", &silent.url()));
    let entry = proxy.get("/v1/models/codestral/codestral-latest").json();
    assert_eq!((&entry["created"], &entry["context_length"]), (&json!(0), &json!(256_000)));
    assert!(entry["features"].as_array().unwrap().contains(&json!("chat")));
}

#[test]
fn fault_6_ollama_is_not_asked_for_each_model_and_an_empty_one_is_no_crash() {
    let (fake, table) = playing(Upstream::Ollama);
    let proxy = heard(&table);
    let thinking = proxy.get("/v1/models/ollama/qwen3:8b").json();
    assert_eq!(thinking["capabilities"]["reasoning"], true, "told by the capability, not by a template");
    assert_eq!(fake.counts().requests, 1, "one list, and nothing for each model");
    drop(proxy);
    let empty = Fake::start(|_| Answer::json(200).body(r#"{"models":null,"data":null}"#))
        .expect("fake upstream starts");
    let proxy = heard(&format!(
        "{}\n{}",
        provider("a", "ollama", &empty.url()),
        provider("b", "openai", &empty.url())
    ));
    assert_eq!(ids(&proxy), Vec::<String>::new());
    for id in ["a", "b"] {
        assert_eq!(
            (&proxy.status_of(id)["health"], &proxy.status_of(id)["restarts"]),
            (&json!("up"), &json!(0))
        );
    }
}

#[test]
fn fault_7_one_failing_list_does_not_fail_all_and_a_401_is_not_kept_as_an_empty_list() {
    let failing = Fake::start(|received: &Received| {
        if is_list(received) {
            return Answer::json(401).body(r#"{"message":"Unauthorized","data":[]}"#);
        }
        ok_chat()
    })
    .expect("fake upstream starts");
    let good = listing(json!([{"id": "m"}]), |_| ok_chat());
    let proxy = heard(&format!(
        "{}cache_seconds = 2\n{}",
        provider("bad", "openai", &failing.url()),
        provider("good", "openai", &good.url())
    ));
    assert_eq!(ids(&proxy), ["good/m"]);
    let status = proxy.status_of("bad");
    assert_eq!((&status["health"], &status["list_age_seconds"]), (&json!("refused"), &Value::Null));
    let notice = &proxy.get("/v1/models").json()["notices"][0];
    assert!(notice["message"].as_str().unwrap().contains("providers.bad.api_key"), "{notice}");
    // Nothing is denied on the strength of a list that was never had.
    assert_eq!(proxy.post("/v1/chat/completions", &chat("bad/anything")).status, 200);
    eventually("it is asked for again", || lists(&failing), |count| *count >= 2);
}

#[test]
fn fault_8_a_429_is_not_swallowed_and_says_when_to_come_back() {
    for (kind, script, after) in [
        ("mistral", limits::mistral::rate_limited(), None),
        ("github", limits::github::user_by_model_by_day(), Some("5631")),
        ("github", limits::github::concurrent(), Some("0")),
        ("openai", Answer::json(429).header("Retry-After", "7").body("{}"), Some("7")),
        ("openai", Answer::json(429).header("retry-after-ms", "1500").body("{}"), Some("2")),
    ] {
        let fake = Fake::start(
            move |received: &Received| {
                if is_list(received) { faults::json_error(500) } else { script.clone() }
            },
        )
        .expect("fake upstream starts");
        let proxy = heard(&provider("up", kind, &fake.url()));
        for stream in [false, true] {
            let body =
                json!({"model": "up/m", "messages": [{"role": "user", "content": "x"}], "stream": stream});
            let answer = proxy.post("/v1/chat/completions", &body.to_string());
            assert_eq!(answer.status, 429, "{}", answer.text());
            if kind == "mistral" && stream {
                // It says that nothing is left of the minute, so it is not asked again within it.
                let wait = answer.header("retry-after").and_then(|text| text.parse::<u64>().ok());
                assert!(wait.is_some_and(|wait| wait <= 61), "{wait:?}");
                continue;
            }
            // The second answer is ours, with a quarter of a second for what is on its way.
            let seconds = |text: Option<&str>| text.and_then(|text| text.parse::<u64>().ok());
            let (told, expected) = (seconds(answer.header("retry-after")), seconds(after));
            let late = u64::from(stream && expected.is_some_and(|wait| wait > 60));
            let right = told == expected || told == expected.map(|wait| wait + late);
            assert!(right, "{kind}: {told:?} instead of {expected:?}");
            assert_eq!(answer.header("x-should-retry"), (after == Some("5631")).then_some("false"));
            assert!(answer.json()["error"]["message"].is_string(), "{}", answer.text());
        }
        // Where the upstream said for how long, or that nothing is left, it is not asked again before that.
        let sent = if after == Some("0") { 2 } else { 1 };
        assert_eq!(calls(&fake).len(), sent, "{kind}: the client decides");
    }
}

#[test]
fn fault_9_an_error_instead_of_a_stream_is_not_lost_and_no_done_follows_an_abort() {
    let body = r#"{"model":"up/m","messages":[],"stream":true}"#;
    let start = |script: demuxai::demo::Script| {
        let fake = Fake::start(
            move |received: &Received| {
                if is_list(received) { faults::json_error(500) } else { script.clone() }
            },
        )
        .expect("fake upstream starts");
        let proxy = heard(&provider("up", "openai", &fake.url()));
        (proxy, fake)
    };
    let said = r#"{"error":{"message":"context too long","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}"#;
    let (proxy, _fake) = start(Answer::json(400).body(said));
    let answer = proxy.post("/v1/chat/completions", body);
    assert_eq!((answer.status, answer.text().as_str()), (400, said));
    assert_eq!(answer.header("content-type"), Some("application/json"));

    let words = faults::good_stream("m", &["Hello", " you"]);
    for script in [
        faults::reset_mid_stream(words.clone(), 2),
        faults::close_mid_stream(words.clone(), 2),
        faults::end_without_finish(words.clone(), 2),
        faults::error_mid_stream(words, 2),
    ] {
        let (proxy, _fake) = start(script);
        let answer = proxy.post("/v1/chat/completions", body);
        assert!(answer.text().contains("Hello") && !answer.text().contains("[DONE]"), "{}", answer.text());
        let events = answer.events();
        let last: Value = serde_json::from_str(events.last().unwrap()).unwrap();
        assert!(last["error"]["message"].is_string(), "{last}");
        assert!(!answer.complete);
    }
}

#[test]
fn fault_10_a_configured_key_is_not_ignored() {
    let fake = listing(json!([{"id": "m"}]), |_| ok_chat());
    let text = format!("{}[keys.ide]\nkey = \"secret\"\n", provider("up", "openai", &fake.url()));
    let proxy = heard(&text);
    let ask = |headers: &[(&str, &str)]| {
        client::open(proxy.address, "POST", "/v1/chat/completions", headers, chat("up/m").as_bytes()).finish()
    };
    for headers in [
        &[][..],
        &[("authorization", "Bearer")][..],
        &[("authorization", "Bearer wrong")][..],
        &[("authorization", "Bearer secretx")][..],
        &[("x-api-key", "wrong")][..],
    ] {
        let answer = ask(headers);
        assert_eq!(
            (answer.status, answer.json()["error"]["type"].as_str()),
            (401, Some("authentication_error"))
        );
    }
    assert_eq!(calls(&fake).len(), 0);
    for headers in [[("authorization", "Bearer secret")], [("x-api-key", "secret")]] {
        assert_eq!(ask(&headers).status, 200);
    }
    assert_eq!(proxy.get("/v1/models").status, 401);
}
