//! An Ollama from before lists told capabilities.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use demuxai::demo::{Answer, Fake, Received, faults};
use serde_json::{Value, json};

use super::sent_as;
use crate::support::eventually;
use crate::support::proxy::{Proxy, provider};
use crate::support::upstreams::{chat, heard, ids, lists, ok_chat};

/// A server from before lists told capabilities: `/api/show` does.
fn old_ollama(tags: Arc<Mutex<Value>>) -> Fake {
    Fake::start(move |received: &Received| match received.path() {
        "/api/tags" => Answer::json(200).value(&json!({"models": *tags.lock().unwrap()})),
        "/api/show" => {
            let model = received.json()["model"].as_str().unwrap_or_default().to_owned();
            if model == "stuck" {
                return faults::hang_before_head();
            }
            if model == "broken" {
                return Answer::json(500).body(r#"{"error":"no"}"#);
            }
            let words =
                if model == "embedder" { json!(["embedding"]) } else { json!(["completion", "insert"]) };
            Answer::json(200).value(&json!({"capabilities": words,
                "model_info": {"general.architecture": "qwen2", "qwen2.context_length": 32768}}))
        }
        _ => ok_chat(),
    })
    .expect("fake upstream starts")
}

fn tag(name: &str, modified: &str) -> Value {
    json!({"name": name, "model": name, "modified_at": modified, "size": 1, "digest": "d", "details": {"family": "qwen2"}})
}

fn shown(fake: &Fake) -> Vec<String> {
    let shows = fake.received().into_iter().filter(|received| received.path() == "/api/show");
    shows.map(|received| received.json()["model"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn an_old_ollama_is_asked_for_what_its_list_does_not_tell_and_not_again_each_time() {
    let day = "2026-10-02T08:15:30Z";
    let tags = Arc::new(Mutex::new(json!([tag("coder", day), tag("embedder", day), tag("hidden", day)])));
    let fake = old_ollama(Arc::clone(&tags));
    let proxy = heard(&format!(
        "{}cache_seconds = 1\nexclude_models = [\"hidden\"]\n",
        provider("up", "ollama", &fake.url())
    ));
    let capability = |model: &str, word: &str| {
        proxy.get(&format!("/v1/models/up/{model}")).json()["capabilities"][word].clone()
    };
    eventually("details are known", || capability("embedder", "completion_chat"), |known| *known == false);
    assert_eq!(capability("coder", "completion_fim"), true);
    assert_eq!(proxy.get("/v1/models/up/coder").json()["context_length"], 32768);
    let answer = proxy.post("/v1/chat/completions", &chat("up/embedder"));
    assert!(answer.status == 400 && answer.error().contains("cannot chat"), "{}", answer.text());

    let count = lists(&fake);
    eventually("more lists were fetched", || lists(&fake), |now| *now > count);
    assert_eq!(shown(&fake), ["coder", "embedder"], "each once, and what is hidden never");
    assert_eq!(capability("coder", "completion_fim"), true, "still known");
    // A model pulled anew may be another.
    *tags.lock().unwrap() = json!([tag("coder", "2026-11-01T00:00:00Z"), tag("embedder", day)]);
    eventually("it is asked about again", || shown(&fake), |all| *all == ["coder", "embedder", "coder"]);
}

#[test]
fn one_model_that_does_not_show_its_details_does_not_keep_the_list_back() {
    let day = "2026-10-02T08:15:30Z";
    let tags = json!([tag("stuck", day), tag("broken", day), tag("coder", day)]);
    let fake = old_ollama(Arc::new(Mutex::new(tags)));
    let started = Instant::now();
    let proxy = Proxy::start(&provider("up", "ollama", &fake.url()));
    eventually("all are listed", || ids(&proxy), |listed| listed.len() == 3);
    assert_eq!(sent_as(&proxy, &fake, "up/stuck"), "stuck");
    assert_eq!(sent_as(&proxy, &fake, "broken"), "broken");
    assert_eq!(proxy.status_of("up")["health"], "up");
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
}
