//! Every file in `config/` is good: the program checks it, serves it, and every provider in it answers.
#![cfg(unix)]

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use demuxai::demo::server::Fake;
use demuxai::demo::upstream::{Setup, Upstream};
use serde_json::Value;

use crate::support::client;
use crate::support::eventually;
use crate::support::program::{Home, Program};

/// The variables that the files name.
const VARIABLES: [&str; 9] = [
    "OLLAMA_API_KEY",
    "MISTRAL_API_KEY",
    "CODESTRAL_API_KEY",
    "FIREWORKS_API_KEY",
    "GATEWAY_API_KEY",
    "LAB_API_KEY",
    "DEMUXAI_IDE_KEY",
    "DEMUXAI_PHONE_KEY",
    "DEMUXAI_AGENT_KEY",
];

fn examples() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let mut files: Vec<PathBuf> = folder
        .join("examples")
        .read_dir()
        .expect("examples")
        .map(|entry| entry.expect("a file").path())
        .collect();
    files.push(folder.join("demuxai.toml"));
    files.sort();
    files
}

/// A home with all that the files expect to be there.
fn furnished() -> Home {
    let home = VARIABLES.iter().fold(Home::new(), |home, name| home.with(name, &format!("value-of-{name}")));
    home.write(".config/demuxai/fireworks.key", "from-file\n");
    let pass = home.write("bin/pass", "#!/bin/sh\necho \"$1 $2\"\n");
    std::fs::set_permissions(&pass, std::fs::Permissions::from_mode(0o700)).expect("it may be run");
    let path = format!("{}:/usr/bin:/bin", home.path().join("bin").display());
    home.with("PATH", &path)
}

fn table(file: &Path) -> toml::Table {
    std::fs::read_to_string(file).expect("text").parse().expect("TOML")
}

fn ids_of(tables: &toml::Table, section: &str) -> Vec<String> {
    let section = tables.get(section).and_then(toml::Value::as_table);
    section.into_iter().flat_map(|section| section.keys().cloned()).collect()
}

#[test]
fn every_file_is_good_to_the_program_as_it_is() {
    let files = examples();
    assert!(files.len() >= 10, "{files:?}");
    for file in files {
        let ended = furnished().run(&["check", "--config", file.to_str().unwrap()]);
        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{}: {}", file.display(), ended.stderr);
        for id in ids_of(&table(&file), "providers") {
            assert!(
                ended.stdout.contains(&format!("provider {id} ")),
                "{}: {}",
                file.display(),
                ended.stdout
            );
        }
        for name in VARIABLES {
            assert!(!ended.stdout.contains(&format!("value-of-{name}")), "{}", ended.stdout);
        }
    }
}

/// A fake upstream of the type that a provider has.
fn fake_of(provider: &toml::Value) -> (Fake, &'static str) {
    let kind = provider.get("type").and_then(toml::Value::as_str).expect("a type");
    let upstream =
        Upstream::ALL.into_iter().find(|upstream| upstream.label() == kind).expect("a fake of this type");
    (upstream.start(Setup::default()).expect("fake upstream starts"), upstream.base_path())
}

/// A file as it is served, with fakes of all its providers.
pub struct Served {
    pub program: Program,
    pub fakes: Vec<(String, Fake)>,
    _home: Home,
}

/// Serves a file of `config/`.
pub fn served(file: &Path) -> Served {
    served_with(file, &[])
}

/// The same with more variables.
pub fn served_with(file: &Path, variables: &[(&str, &str)]) -> Served {
    let tables = table(file);
    let mut home = variables.iter().fold(furnished(), |home, (name, value)| home.with(name, value));
    for id in ids_of(&tables, "listeners").iter().chain(&["local".to_owned()]) {
        if tables.get("listeners").is_none_or(|listeners| listeners.get(id).is_some()) {
            home = home.with(&format!("DEMUXAI__LISTENERS__{}__ADDRESS", id.to_uppercase()), "127.0.0.1:0");
        }
    }
    let mut fakes = Vec::new();
    for (id, provider) in tables["providers"].as_table().expect("providers") {
        let (fake, base) = fake_of(provider);
        let variable = id.to_uppercase().replace('-', "_");
        home = home.with(&format!("DEMUXAI__PROVIDERS__{variable}__URL"), &format!("{}{base}", fake.url()));
        fakes.push((id.clone(), fake));
    }
    let program = home.start(&["--config", file.to_str().unwrap()]);
    Served { program, fakes, _home: home }
}

#[test]
fn every_file_is_served_and_all_its_providers_answer() {
    let mut explained = 0;
    let mut driven = BTreeSet::new();
    for file in examples() {
        let tables = table(&file);
        let Served { program, fakes, .. } = &served(&file);
        let key =
            ids_of(&tables, "keys").first().map(|id| format!("value-of-DEMUXAI_{}_KEY", id.to_uppercase()));
        answers(program, &file, key.as_deref(), fakes);
        for (id, group) in tables.get("groups").and_then(toml::Value::as_table).into_iter().flatten() {
            modifies(program, &file, key.as_deref(), id, group);
            driven.insert(group["type"].as_str().expect("a type").to_owned());
        }
        for id in ids_of(&tables, "routers") {
            sends_on(program, &file, key.as_deref(), &id);
        }
        for id in ids_of(&tables, "groups") {
            if tables["groups"][&id]["type"].as_str() == Some("consensus") {
                makes_one_answer(program, &file, key.as_deref(), &id);
            }
        }
        for (id, group) in tables.get("groups").and_then(toml::Value::as_table).into_iter().flatten() {
            is_asked(program, &file, key.as_deref(), id, group);
        }
        for section in ["groups", "routers"] {
            for id in ids_of(&tables, section) {
                explained += usize::from(does_what_was_explained(program, &file, key.as_deref(), &id));
            }
        }
    }
    assert!(explained > 8, "{explained} were foretold for sure");
    let types = &demuxai::config::published_schema()["$defs"]["GroupSpec"]["properties"]["type"]["enum"];
    let types = types.as_array().expect("all types").iter().filter_map(Value::as_str).map(str::to_owned);
    assert_eq!(driven, types.collect(), "a request was driven through each type of group");
}

/// What is explained of a group or router is what a request then does, unless that is not for sure. Whether it was.
fn does_what_was_explained(program: &Program, file: &Path, key: Option<&str>, id: &str) -> bool {
    let bearer = format!("Bearer {}", key.unwrap_or("any"));
    let headers = [("authorization", bearer.as_str())];
    let body = format!(r#"{{"model":"{id}","messages":[{{"role":"user","content":"explain yourself"}}]}}"#);
    let client = key.and_then(|key| key.strip_prefix("value-of-DEMUXAI_")?.strip_suffix("_KEY"));
    let question = serde_json::json!({"body": body, "client": client.map(str::to_lowercase)}).to_string();
    let asked = client::post(program.address(), "/demuxai/explain", &question);
    let foretold = asked.json()["prediction"].clone();
    assert_eq!(asked.status, 200, "{id} of {}: {}", file.display(), asked.text());
    let told =
        client::open(program.address(), "POST", "/v1/chat/completions", &headers, body.as_bytes()).finish();
    if foretold["sure"] != true {
        return false;
    }
    let what = format!("{id} of {}: {}", file.display(), asked.text());
    assert_eq!(foretold["provider"].is_null(), told.status != 200, "{what}: {}", told.text());
    for key in ["provider", "attempts", "route"] {
        let header = told.header(&format!("x-demuxai-{key}"));
        assert!(told.status != 200 || foretold[key].as_str() == header, "{what}: {header:?}");
    }
    true
}

/// A group of whatever type answers what it is made for: a chat, embeddings or a completion; for a model of its own where
/// its members name none.
fn is_asked(program: &Program, file: &Path, key: Option<&str>, id: &str, group: &toml::Value) {
    if group.get("status").is_some() || group.get("rename").is_some() {
        return;
    }
    let bearer = format!("Bearer {}", key.unwrap_or("any"));
    let headers = [("authorization", bearer.as_str())];
    let list = client::open(program.address(), "GET", "/v1/models", &headers, b"").finish().json();
    let listed = list["data"].as_array().expect("a list").iter().filter_map(|entry| entry["id"].as_str());
    let bare = listed.filter_map(|full| full.split_once('/')).map(|(_, model)| format!("{id}/{model}"));
    let mut told = Vec::new();
    for model in std::iter::once(id.to_owned()).chain(bare) {
        for (path, rest) in [
            ("/v1/chat/completions", r#""messages":[{"role":"user","content":"hi"}]"#),
            ("/v1/embeddings", r#""input":"hi""#),
            ("/v1/fim/completions", r#""prompt":"a","suffix":"b""#),
        ] {
            let body = format!(r#"{{"model":"{model}",{rest}}}"#);
            let answer = client::open(program.address(), "POST", path, &headers, body.as_bytes()).finish();
            if answer.status == 200 {
                return;
            }
            told.push(format!("{model} {path}: {}", answer.text()));
        }
    }
    panic!("{id} of {} answers nothing: {told:#?}", file.display());
}

/// A modifier answers: with its error, if it is one that has one.
fn modifies(program: &Program, file: &Path, key: Option<&str>, id: &str, group: &toml::Value) {
    let kind = group.get("type").and_then(toml::Value::as_str).expect("a type");
    if !["static", "rewrite", "limit", "budget"].contains(&kind) {
        return;
    }
    let bearer = format!("Bearer {}", key.unwrap_or("any"));
    let headers = [("authorization", bearer.as_str())];
    let renamed = group.get("rename").and_then(toml::Value::as_table).and_then(|names| names.keys().next());
    let model = renamed.map_or_else(|| id.to_owned(), |name| format!("{id}/{}", name.replace('*', "")));
    let body =
        format!(r#"{{"model":"{model}","max_tokens":5,"messages":[{{"role":"user","content":"hi"}}]}}"#);
    let answer =
        client::open(program.address(), "POST", "/v1/chat/completions", &headers, body.as_bytes()).finish();
    let status = group.get("status").and_then(toml::Value::as_integer).unwrap_or(200);
    assert_eq!(i64::from(answer.status), status, "{model} of {}: {}", file.display(), answer.text());
    let series = format!(r#"demuxai_modified_requests_total{{backend="{id}""#);
    let metrics = client::open(program.address(), "GET", "/metrics", &headers, b"").finish().text();
    assert!(metrics.contains(&series), "{id} of {} is counted", file.display());
}

/// A router answers, and says which of its routes it took.
fn sends_on(program: &Program, file: &Path, key: Option<&str>, id: &str) {
    let bearer = format!("Bearer {}", key.unwrap_or("any"));
    let headers = [("authorization", bearer.as_str())];
    let body = format!(r#"{{"model":"{id}","messages":[{{"role":"user","content":"hi"}}]}}"#);
    let answer =
        client::open(program.address(), "POST", "/v1/chat/completions", &headers, body.as_bytes()).finish();
    assert_eq!(answer.status, 200, "{id} of {}: {}", file.display(), answer.text());
    let route = answer.header("x-demuxai-route").expect("which way it went");
    assert!(route.starts_with(&format!("{id} ")), "{route}");
}

/// A panel answers, and says what it is made of.
fn makes_one_answer(program: &Program, file: &Path, key: Option<&str>, id: &str) {
    let bearer = format!("Bearer {}", key.unwrap_or("any"));
    let headers = [("authorization", bearer.as_str())];
    let body = format!(r#"{{"model":"{id}","messages":[{{"role":"user","content":"hi"}}]}}"#);
    let answer =
        client::open(program.address(), "POST", "/v1/chat/completions", &headers, body.as_bytes()).finish();
    assert_eq!(answer.status, 200, "{id} of {}: {}", file.display(), answer.text());
    let answer = answer.json();
    assert!(
        answer["choices"][0]["message"]["content"].as_str().is_some_and(|text| !text.is_empty()),
        "{answer}"
    );
    let calls = answer["x_demuxai"]["consensus"].as_array().expect("what it is made of");
    assert!(calls.iter().any(|call| call["state"] == "answered"), "{answer}");
}

fn answers(program: &Program, file: &Path, key: Option<&str>, fakes: &[(String, Fake)]) {
    let address = program.address();
    let bearer = format!("Bearer {}", key.unwrap_or("any"));
    let headers = [("authorization", bearer.as_str())];
    for (id, fake) in fakes {
        let listed = || client::open(address, "GET", "/v1/models", &headers, b"").finish().json();
        let prefix = format!("{id}/");
        let of_provider = |list: &Value| -> Vec<Value> {
            let all = list["data"].as_array().expect("a list");
            all.iter()
                .filter(|entry| entry["id"].as_str().is_some_and(|full| full.starts_with(&prefix)))
                .cloned()
                .collect()
        };
        let what = format!("{id} of {} lists models", file.display());
        let list = eventually(&what, listed, |list| !of_provider(list).is_empty());
        let chats =
            of_provider(&list).into_iter().find(|entry| entry["capabilities"]["completion_chat"] == true);
        // The generic type knows nothing of what its models can do.
        let model = chats
            .map_or_else(|| format!("{id}/gpt-4.1-mini"), |entry| entry["id"].as_str().unwrap().to_owned());
        let body =
            format!(r#"{{"model":"{model}","stream":true,"messages":[{{"role":"user","content":"hi"}}]}}"#);
        let answer =
            client::open(address, "POST", "/v1/chat/completions", &headers, body.as_bytes()).finish();
        assert!(
            answer.complete && answer.text().ends_with("data: [DONE]\n\n"),
            "{what}, {model}: {}",
            answer.text()
        );
        assert!(fake.counts().requests >= 2, "{what}: it was this upstream");
    }
}
