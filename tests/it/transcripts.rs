//! Every transcript, played to the daemon as the answer of the provider in whose folder it is. What must come out is
//! derived from the transcript itself: its bytes with the provider's mark on model and id, or its error as a client may
//! see it. The request is the one in its first lines. A transcript that no rule knows fails its folder's test.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use demuxai::demo::{Fake, Script, Transcript};
use serde_json::{Value, json};

use crate::support::client::{self, Answer};
use crate::support::proxy::{Proxy, provider};
use crate::support::upstreams::{calls, chat, heard, ids, is_list, last_call};

const FOLDERS: [&str; 8] =
    ["codestral", "fireworks", "github", "llamacpp", "mistral", "ollama", "ollama-cloud", "openai"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts")
}

/// One transcript and what its file says of the request that it answers.
struct Played {
    name: String,
    transcript: Transcript,
    /// Upstream path and body, where the file has them.
    request: Option<(String, Value)>,
}

impl Played {
    fn read(path: &Path) -> Played {
        let text = std::fs::read_to_string(path).expect("transcript is text");
        let transcript =
            Transcript::parse(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let request = text.lines().find_map(|line| {
            let (target, body) = line.strip_prefix("@# POST ")?.split_once(' ')?;
            Some((target.to_owned(), serde_json::from_str(body).expect("the request in the comment is JSON")))
        });
        let name = path.file_stem().expect("name").to_string_lossy().into_owned();
        Played { name, transcript, request }
    }

    fn body(&self) -> String {
        String::from_utf8(self.transcript.body().to_vec()).expect("transcripts are UTF-8")
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.transcript.body())
            .unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }
}

/// All transcripts of a folder by name.
fn folder(id: &str) -> BTreeMap<String, Played> {
    let entries = std::fs::read_dir(root().join(id)).expect("folder is there");
    let played = entries.map(|entry| Played::read(&entry.expect("entry").path()));
    played.map(|one| (one.name.clone(), one)).collect()
}

/// An upstream whose list and whose answer to everything else can be changed, and the daemon in front of it.
struct Stage {
    id: &'static str,
    answer: Arc<Mutex<Script>>,
    fake: Fake,
    proxy: Proxy,
}

impl Stage {
    /// `list` is what the upstream answers when it is asked for its models.
    fn set(id: &'static str, kind: &str, list: Script) -> Stage {
        let answer = Arc::new(Mutex::new(Script::new().close()));
        let played = Arc::clone(&answer);
        let fake = Fake::start(
            move |received| {
                if is_list(received) { list.clone() } else { played.lock().unwrap().clone() }
            },
        )
        .expect("fake upstream starts");
        let base = if id == "fireworks" { "/inference" } else { "" };
        let table = provider(id, kind, &format!("{}{base}", fake.url()));
        let proxy = heard(&format!("{table}[admin]\nkey = \"changes\"\n"));
        Stage { id, answer, fake, proxy }
    }

    /// Plays a transcript in answer to the request of its file, or to this one.
    fn play(&self, played: &Played, otherwise: &Value) -> Answer {
        *self.answer.lock().unwrap() = played.transcript.script().without_pauses();
        let (path, mut body) = played
            .request
            .clone()
            .filter(|(_, body)| body["messages"].is_array() || body["messages"].is_null())
            .unwrap_or_else(|| (String::new(), otherwise.clone()));
        let endpoint = ["/fim/completions", "/chat/completions", "/completions", "/embeddings"]
            .into_iter()
            .find(|end| path.ends_with(end))
            .unwrap_or("/chat/completions");
        let model = body["model"].as_str().expect("model").to_owned();
        body["model"] = json!(format!("{}/{model}", self.id));
        let before = calls(&self.fake).len();
        // A limit in one transcript says nothing about the next one.
        let key = [("authorization", "Bearer changes")];
        let forgotten = client::open(self.proxy.address, "POST", "/demuxai/quota/reset", &key, b"").finish();
        assert_eq!(forgotten.status, 200, "{}", forgotten.text());
        let answer = self.proxy.post(&format!("/v1{endpoint}"), &body.to_string());
        assert_eq!(calls(&self.fake).len(), before + 1, "{}/{} reached upstream once", self.id, played.name);
        if !path.is_empty() {
            assert_eq!(last_call(&self.fake).path(), path, "{}/{}", self.id, played.name);
        }
        answer
    }
}

/// One document with the provider's mark on its model and its id, and nothing else changed.
fn marked(text: &str, id: &str) -> String {
    let value: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let mut text = text.to_owned();
    if let Some(model) = value["model"].as_str().filter(|model| !model.is_empty()) {
        let quoted = json!(model).to_string();
        for colon in [":", ": "] {
            let written = format!("\"model\"{colon}{quoted}");
            text = text
                .replace(&written, &written.replace(&quoted, &json!(format!("{id}/{model}")).to_string()));
        }
    }
    if let Some(own) = value["id"].as_str().filter(|own| !own.is_empty()) {
        // Ids of tool calls and the like are others.
        text = text.replacen(&format!("\"{own}\""), &format!("\"{own}@{id}\""), 1);
    }
    text
}

/// What a client must see of a transcript that is a success.
fn check_success(id: &str, played: &Played, answer: &Answer) {
    let what = format!("{id}/{}", played.name);
    assert_eq!((answer.status, answer.complete), (200, true), "{what}: {}", answer.text());
    if !answer.header("content-type").expect("type").starts_with("text/event-stream") {
        assert_eq!(answer.text(), marked(&played.body(), id), "{what}");
        return;
    }
    let sent = played.body();
    let payloads: Vec<&str> = sent.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    assert!(payloads.len() > 2 && payloads.last() == Some(&"[DONE]"), "{what}");
    let wanted: String = payloads
        .iter()
        .map(|payload| if *payload == "[DONE]" { (*payload).to_owned() } else { marked(payload, id) })
        .map(|payload| format!("data: {payload}\n\n"))
        .collect();
    assert_eq!(answer.text(), wanted, "{what}");
}

/// What a client must see of a transcript that is an error.
fn check_error(id: &str, played: &Played, answer: &Answer) {
    let what = format!("{id}/{}: {}", played.name, answer.text());
    let status = played.transcript.status();
    let error = answer.json()["error"]["message"].as_str().expect("error.message").to_owned();
    match status {
        401 => {
            assert_eq!(
                (answer.status, &answer.json()["error"]["code"]),
                (502, &json!("upstream_authentication"))
            );
            let signed_out = played.body().contains("signin_url");
            let remedy =
                if signed_out { "ollama signin".to_owned() } else { format!("providers.{id}.api_key") };
            assert!(error.contains(&remedy), "{what}");
            assert!(!answer.text().contains("connect?name"), "{what}");
        }
        410 => {
            assert_eq!((answer.status, &answer.json()["error"]["code"]), (410, &json!("provider_retired")));
            assert!(error.contains("shut down") && error.contains("remove this provider"), "{what}");
            assert_eq!(answer.header("x-should-retry"), Some("false"), "{what}");
        }
        _ => {
            assert_eq!(answer.status, status, "{what}");
            let said = played.json();
            if said["error"]["message"].is_string() {
                // One file has a newline that its content-length does not cover.
                let body = played.body();
                assert_eq!(answer.text().trim_end(), body.trim_end(), "{what}: OpenAI's shape is unchanged");
            } else {
                let places = ["error", "message"].map(|key| said[key].as_str().map(str::to_owned));
                let detail = said["detail"][0]["msg"].as_str().map(str::to_owned);
                let message = places.into_iter().flatten().next().or(detail).expect("a message");
                assert!(error.contains(&message), "{what}");
            }
        }
    }
    let told = played.transcript.script().wire();
    let head = String::from_utf8_lossy(&told).to_ascii_lowercase();
    let stated =
        head.lines().take_while(|line| !line.is_empty()).find_map(|line| line.strip_prefix("retry-after: "));
    assert_eq!(answer.header("retry-after"), stated, "{what}");
}

fn is_list_case(name: &str) -> bool {
    name.starts_with("models") || name.starts_with("tags")
}

/// Plays a list to a daemon of its own and looks at what is listed.
fn check_list(id: &'static str, played: &Played) {
    let what = format!("{id}/{}", played.name);
    // Ollama's OpenAI list is read when it is configured as any OpenAI-compatible server.
    let plain = id.starts_with("ollama") && played.name.starts_with("models");
    let stage = Stage::set(id, if plain { "openai" } else { id }, played.transcript.script());
    let listed = ids(&stage.proxy);
    if played.transcript.status() != 200 {
        assert_eq!(id, "codestral", "the only host that serves models but no list");
        assert_eq!(listed, ["codestral/codestral-latest", "codestral/codestral-2508"], "{what}");
        assert_eq!(stage.proxy.status_of(id)["health"], "up", "{what}");
        return;
    }
    let body = played.json();
    let entries = [&body, &body["data"], &body["models"]].into_iter().find(|list| list.is_array());
    let wanted: Vec<String> = entries
        .map(|list| list.as_array().unwrap().as_slice())
        .unwrap_or_default()
        .iter()
        .map(|entry| entry["id"].as_str().or(entry["name"].as_str()).expect("id"))
        .map(|model| format!("{id}/{model}"))
        .collect();
    // The catalogue's models come behind the listed ones.
    assert_eq!(listed[..wanted.len().min(listed.len())], wanted, "{what}");
    assert!(listed.len() == wanted.len() || id == "codestral", "{what}: {listed:?}");
    assert_eq!(stage.proxy.status_of(id)["health"], "up", "{what}");
    assert_eq!(calls(&stage.fake).len(), 0, "{what}: no follow-up was needed");
}

fn play_folder(id: &'static str) {
    let all = folder(id);
    let list = &all[if id.starts_with("ollama") { "tags" } else { "models" }];
    let listed = Stage::set(id, id, list.transcript.script());
    // Without a list every model is sent unchecked, so that upstream's own words are heard.
    let unlisted = Stage::set(id, id, demuxai::demo::faults::json_error(500));
    let some_model = all["chat"].request.clone().expect("chat says what was asked").1["model"].clone();
    let otherwise: Value = serde_json::from_str(&chat(some_model.as_str().unwrap())).expect("chat is JSON");
    for (name, played) in &all {
        if is_list_case(name) {
            check_list(id, played);
        } else if name == "chat_stream_broken" {
            let mut body = otherwise.clone();
            body["stream"] = json!(true);
            check_broken(&listed.play(played, &body));
        } else if played.transcript.status() == 200 {
            assert!(played.request.is_some(), "{id}/{name} does not say what was asked");
            // The recorded llama.cpp embeds in a server of its own, whose list is not the one recorded.
            let elsewhere = id == "llamacpp" && name.starts_with("embeddings");
            let stage = if elsewhere { &unlisted } else { &listed };
            check_success(id, played, &stage.play(played, &otherwise));
        } else {
            assert!(
                name.starts_with("error_") || name.starts_with("unknown_") || name == "gone_410",
                "no rule knows {id}/{name}"
            );
            // An upstream that is gone is not asked again, so that it needs a stage of its own.
            let own = (name == "gone_410").then(|| Stage::set(id, id, list.transcript.script()));
            check_error(id, played, &own.as_ref().unwrap_or(&unlisted).play(played, &otherwise));
        }
    }
}

/// What was said arrives, then an error, and never an end that looks well.
fn check_broken(answer: &Answer) {
    let events = answer.events();
    assert_eq!((answer.status, answer.complete), (200, false), "{}", answer.text());
    assert!(events[0].contains("The") && events[1].contains(" answer"), "{events:?}");
    let last: Value = serde_json::from_str(events.last().unwrap()).unwrap();
    assert_eq!(last["error"]["code"], "truncated");
    assert!(!answer.text().contains("[DONE]") && !answer.text().contains("\"finish_reason\":\"stop\""));
}

#[test]
fn every_folder_of_transcripts_is_played() {
    let mut folders: Vec<String> = std::fs::read_dir(root())
        .expect("transcripts are there")
        .map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned())
        .collect();
    folders.sort();
    assert_eq!(folders, FOLDERS);
    assert!(FOLDERS.iter().map(|id| folder(id).len()).sum::<usize>() >= 88);
}

#[test]
fn codestral_is_relayed_as_recorded() {
    play_folder("codestral");
}

#[test]
fn fireworks_is_relayed_as_recorded() {
    play_folder("fireworks");
}

#[test]
fn github_is_relayed_as_recorded() {
    play_folder("github");
}

#[test]
fn llamacpp_is_relayed_as_recorded() {
    play_folder("llamacpp");
}

#[test]
fn mistral_is_relayed_as_recorded() {
    play_folder("mistral");
}

#[test]
fn ollama_is_relayed_as_recorded() {
    play_folder("ollama");
}

#[test]
fn ollama_cloud_is_relayed_as_recorded() {
    play_folder("ollama-cloud");
}

#[test]
fn openai_is_relayed_as_recorded() {
    play_folder("openai");
}
