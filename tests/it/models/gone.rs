//! Providers that their owners shut down for good, as GitHub Models was.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use demuxai::demo::{Answer, Fake, Received, Setup, Upstream};
use serde_json::json;

use super::{plain, sent_as, status_of_chat};
use crate::support::client;
use crate::support::eventually;
use crate::support::proxy::provider;
use crate::support::upstreams::{calls, chat, heard, ids, listing, lists, ok_chat, wait_until_heard};

fn retired() -> Fake {
    Upstream::Github.start(Setup { retired: true, ..Setup::default() }).expect("fake upstream starts")
}

#[test]
fn a_provider_that_is_gone_says_so_once_and_is_not_asked_for_each_request() {
    let fake = retired();
    let good = plain(&["m"]);
    let text =
        format!("{}\n{}", provider("gh", "github", &fake.url()), provider("good", "openai", &good.url()));
    let proxy = heard(&text);
    assert_eq!(fake.counts().requests, 1, "its list");
    for stream in [false, true] {
        for _ in 0..10 {
            let body =
                json!({"model": "gh/openai/gpt-4.1-mini", "messages": [], "stream": stream}).to_string();
            let answer = proxy.post("/v1/chat/completions", &body);
            assert_eq!((answer.status, &answer.json()["error"]["code"]), (410, &json!("provider_retired")));
            assert_eq!(answer.header("x-should-retry"), Some("false"));
            let error = answer.error();
            assert!(
                error.contains("`gh`") && error.contains("shut down by its owner on 2026-07-30"),
                "{error}"
            );
            assert!(error.contains("remove this provider") && !error.contains("temporarily"), "{error}");
        }
    }
    assert_eq!(fake.counts().requests, 1, "nothing more was asked");
    let list = proxy.get("/v1/models").json();
    let notices = list["notices"].as_array().unwrap();
    assert_eq!(
        (notices.len(), &notices[0]["provider"], &notices[0]["state"]),
        (1, &json!("gh"), &json!("retired"))
    );
    assert!(notices[0]["message"].as_str().unwrap().contains("remove this provider"));
    assert_eq!(ids(&proxy), ["good/m"]);
    assert_eq!(proxy.get("/readyz").status, 200, "the others serve");
    assert_eq!(proxy.metric("demuxai_provider_up{provider=\"gh\"}"), 0.0);
}

/// A program that ends with the test, however that ends.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_provider_that_is_gone_is_one_line_in_the_log() {
    let fake = retired();
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("config.toml");
    let text = format!(
        "{}cache_seconds = 1\n[listeners.test]\naddress = \"127.0.0.1:0\"\n",
        provider("gh", "github", &fake.url())
    );
    std::fs::write(&path, text).expect("file is written");
    let child = Command::new(env!("CARGO_BIN_EXE_demuxai"))
        .args(["serve", "--config"])
        .arg(&path)
        .env_clear()
        .env("HOME", folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let Ended(child) = &mut Ended(child.expect("demuxai runs"));
    let (sender, lines) = std::sync::mpsc::channel();
    let stderr = BufReader::new(child.stderr.take().expect("stderr"));
    let reading = std::thread::spawn(move || {
        stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
    });
    let mut log: Vec<String> = Vec::new();
    let address = loop {
        let line = lines.recv_timeout(client::PATIENCE).expect("it says where it listens");
        let found = line.split_once("address=").map(|(_, address)| address.trim().parse().expect("address"));
        log.push(line);
        if let Some(address) = found {
            break address;
        }
    };
    eventually("the list was asked for again and again", || lists(&fake), |count| *count >= 3);
    for _ in 0..5 {
        assert_eq!(
            client::post(address, "/v1/chat/completions", &chat("gh/openai/gpt-4.1-mini")).status,
            410
        );
    }
    child.kill().expect("it is ended");
    child.wait().expect("it ends");
    let _ = reading.join();
    log.extend(lines.iter());
    let loud: Vec<&String> =
        log.iter().filter(|line| line.contains("WARN") || line.contains("ERROR")).collect();
    assert_eq!(loud.len(), 1, "{log:#?}");
    assert!(
        loud[0].contains("shut down by its owner on 2026-07-30") && loud[0].contains("remove this provider")
    );
}

#[test]
fn a_provider_that_goes_while_we_run_is_not_retried_and_its_models_go() {
    let gone = Arc::new(Mutex::new(false));
    let (live, dead) = (Setup::default(), Setup { retired: true, ..Setup::default() });
    let switch = Arc::clone(&gone);
    let fake = Fake::start(move |received: &Received| {
        let setup = if *switch.lock().unwrap() { &dead } else { &live };
        Upstream::Github.answer(setup, received)
    })
    .expect("fake upstream starts");
    let other = plain(&["openai/gpt-4.1-mini"]);
    let text =
        format!("{}\n{}", provider("gh", "github", &fake.url()), provider("other", "openai", &other.url()));
    let proxy = heard(&text);
    assert_eq!(status_of_chat(&proxy, "gh/openai/gpt-4.1-mini"), 200);
    assert_eq!(status_of_chat(&proxy, "openai/gpt-4.1-mini"), 400, "two providers have it");
    *gone.lock().unwrap() = true;
    let before = fake.counts().requests;
    for _ in 0..5 {
        assert_eq!(status_of_chat(&proxy, "gh/openai/gpt-4.1-mini"), 410);
        assert_eq!(status_of_chat(&proxy, "gh/no-such-model"), 410);
    }
    assert_eq!(fake.counts().requests, before + 1, "asked once, and not again");
    assert_eq!(ids(&proxy), ["other/openai/gpt-4.1-mini"]);
    assert_eq!(proxy.get("/v1/models/gh/openai/gpt-4.1-mini").status, 404);
    assert_eq!(sent_as(&proxy, &other, "openai/gpt-4.1-mini"), "openai/gpt-4.1-mini", "only one is left");
}

#[test]
fn a_410_for_one_model_is_not_the_end_of_its_provider() {
    // Ollama Cloud retires models often.
    let fake = listing(json!([{"id": "old"}, {"id": "new"}]), |received: &Received| {
        if received.json()["model"] == "old" {
            return Answer::json(410).body(r#"{"error":"model \"old\" was retired on 2026-07-15"}"#);
        }
        ok_chat()
    });
    let proxy = heard(&provider("up", "openai", &fake.url()));
    for sent in [1, 2] {
        let answer = proxy.post("/v1/chat/completions", &chat("up/old"));
        assert_eq!(answer.status, 410);
        assert!(answer.error().contains("retired on 2026-07-15"), "{}", answer.text());
        assert_eq!(calls(&fake).len(), sent, "not retried");
    }
    assert_eq!(status_of_chat(&proxy, "up/new"), 200);
    assert!(proxy.get("/v1/models").json().get("notices").is_none());
    wait_until_heard(&proxy);
}
