//! Model lists: what is listed and in which shape, and that one provider's trouble with its list is nobody else's.

mod gone;
mod ids;
mod known;
mod old_ollama;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use demuxai::demo::{Answer, Fake, Upstream, faults};
use serde_json::{Value, json};

use crate::support::client;
use crate::support::proxy::{Proxy, provider};
use crate::support::upstreams::{chat, heard, ids, last_call, listing_from, ok_chat, playing};
use crate::support::{eventually, nowhere};

/// A list of these ids as text, to be changed while the upstream runs.
fn list_of(models: &[&str]) -> Arc<Mutex<String>> {
    Arc::new(Mutex::new(list_text(models)))
}

fn list_text(models: &[&str]) -> String {
    let entries: Vec<Value> = models.iter().map(|id| json!({"id": id, "object": "model"})).collect();
    json!({"object": "list", "data": entries}).to_string()
}

fn plain(models: &[&str]) -> Fake {
    listing_from(list_of(models), |_| ok_chat())
}

fn status_of_chat(proxy: &Proxy, model: &str) -> u16 {
    proxy.post("/v1/chat/completions", &chat(model)).status
}

/// The model that upstream was asked for in a chat with `model`.
#[track_caller]
fn sent_as(proxy: &Proxy, fake: &Fake, model: &str) -> String {
    let answer = proxy.post("/v1/chat/completions", &chat(model));
    assert_eq!(answer.status, 200, "{model}: {}", answer.text());
    last_call(fake).json()["model"].as_str().expect("model").to_owned()
}

#[track_caller]
fn not_found(proxy: &Proxy, model: &str) -> String {
    let answer = proxy.post("/v1/chat/completions", &chat(model));
    assert_eq!(answer.status, 404, "{model}: {}", answer.text());
    assert_eq!(answer.json()["error"]["code"], "model_not_found");
    answer.error()
}

/// Waits until the list is too old to deny a model without another look.
fn until_stale(proxy: &Proxy) {
    let age = || proxy.status_of("up")["list_age_seconds"].as_u64();
    eventually("the list is two seconds old", age, |age| age.is_some_and(|age| age >= 2));
}

#[test]
fn an_entry_has_what_every_client_needs() {
    let (fake, table) = playing(Upstream::Ollama);
    let (other, second) = playing(Upstream::Mistral);
    let proxy = heard(&format!("{table}\n{second}"));
    let list = proxy.get("/v1/models?limit=1000&beta=true").json();
    assert_eq!((&list["object"], &list["has_more"]), (&json!("list"), &json!(false)));
    let data = list["data"].as_array().unwrap();
    assert_eq!(list["first_id"], data[0]["id"]);
    assert_eq!(list["last_id"], data[data.len() - 1]["id"]);
    for entry in data {
        assert_eq!(entry["object"], "model");
        assert!(
            entry["created"].is_u64()
                && entry["display_name"].is_string()
                && entry["capabilities"].is_object()
        );
        assert!(entry["created_at"].as_str().unwrap().ends_with('Z'), "{entry}");
        let owner = entry["owned_by"].as_str().unwrap();
        assert!(entry["id"].as_str().unwrap().starts_with(&format!("{owner}/")), "{entry}");
        assert_eq!(entry["type"], "base", "what Mistral's SDK wants");
        let length = entry["context_length"].as_u64().unwrap();
        assert_eq!(
            (entry["max_context_length"].as_u64(), entry["max_input_tokens"].as_u64()),
            (Some(length), Some(length))
        );
    }
    let find = |id: &str| data.iter().find(|entry| entry["id"] == id).unwrap_or_else(|| panic!("{id}"));
    let coder = find("ollama/qwen2.5-coder:7b");
    assert_eq!(coder["context_length"], 32768);
    assert_eq!(
        coder["capabilities"],
        json!({"completion_chat": true, "completion": true, "completion_fim": true, "function_calling": true,
            "vision": false, "reasoning": false, "streaming": true})
    );
    assert_eq!(coder["features"], json!(["chat", "completion", "fim", "tools", "streaming"]));
    assert_eq!(find("ollama/gemma3:4b")["architecture"]["input_modalities"], json!(["text", "image"]));
    let embed = find("mistral/mistral-embed");
    assert_eq!(
        (&embed["capabilities"]["embedding"], &embed["capabilities"]["completion_chat"]),
        (&json!(true), &json!(false))
    );
    assert_eq!(embed["architecture"]["output_modalities"], json!(["embeddings"]));
    assert_eq!(find("mistral/magistral-medium-latest")["capabilities"]["reasoning"], true);

    // Anthropic's SDK wants another word in the same place.
    let headers = [("anthropic-version", "2023-06-01")];
    let theirs = client::open(proxy.address, "GET", "/v1/models", &headers, b"").finish().json();
    assert!(theirs["data"].as_array().unwrap().iter().all(|entry| entry["type"] == "model"));
    let one = client::open(proxy.address, "GET", "/v1/models/ollama/qwen3:8b", &headers, b"").finish().json();
    assert_eq!((&one["type"], &one["display_name"]), (&json!("model"), &json!("qwen3:8b")));
    drop((fake, other));
}

#[test]
fn an_empty_list_is_a_list() {
    let proxy = Proxy::start("");
    let list = proxy.get("/models").json();
    assert_eq!(
        list,
        json!({"object": "list", "data": [], "has_more": false, "first_id": null, "last_id": null})
    );
}

#[test]
fn one_provider_that_fails_or_hangs_neither_fails_nor_delays_the_list() {
    let troubles: Vec<(&str, Fake)> = [
        ("hangs", faults::hang_before_head()),
        ("trickles", faults::endless_body()),
        ("resets", faults::reset_before_head()),
        ("breaks", faults::json_error(500)),
        ("lies", faults::html_200()),
        ("denies", Answer::json(401).body(r#"{"message":"Unauthorized","data":[]}"#)),
        ("redirects", faults::redirect("http://127.0.0.1:1/".to_owned())),
        ("refuses", Answer::json(200).body(r#"{"error":"no"}"#)),
    ]
    .into_iter()
    .map(|(id, script)| (id, Fake::start(move |_| script.clone()).expect("fake upstream starts")))
    .collect();
    let good = plain(&["m"]);
    let mut text = provider("good", "openai", &good.url());
    for (id, fake) in &troubles {
        text.push_str(&provider(id, "openai", &fake.url()));
    }
    text.push_str(&provider("nobody", "openai", &nowhere()));
    let started = Instant::now();
    let proxy = Proxy::start(&text);
    eventually("the good one is listed", || ids(&proxy), |listed| *listed == ["good/m"]);
    let notices = eventually(
        "all that can be known is told",
        || proxy.get("/v1/models").json()["notices"].as_array().cloned().unwrap_or_default(),
        |notices| notices.len() >= 7,
    );
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    for notice in &notices {
        let id = notice["provider"].as_str().unwrap();
        assert_ne!(id, "good");
        let state = match id {
            "denies" => "refused",
            "resets" | "nobody" => "unreachable",
            _ => "up",
        };
        assert_eq!(notice["state"], state, "{notice}");
        assert!(notice["message"].as_str().unwrap().len() > 20, "{notice}");
    }
    let told: Vec<&str> = notices.iter().map(|notice| notice["provider"].as_str().unwrap()).collect();
    for id in ["resets", "breaks", "lies", "denies", "redirects", "refuses", "nobody"] {
        assert!(told.contains(&id), "{id} in {told:?}");
    }
    let before = Instant::now();
    assert_eq!(status_of_chat(&proxy, "good/m"), 200);
    assert_eq!(proxy.get("/v1/models").status, 200);
    assert!(before.elapsed() < Duration::from_secs(1));
    assert_eq!(proxy.get("/readyz").status, 200);
}

#[test]
fn the_last_good_list_stays_while_later_ones_fail_and_is_replaced_by_the_next_good_one() {
    // One is refused, the other answered with something that is no list.
    let broken = [("up", ""), ("two", r#"{"error":{"message":"gone fishing"}}"#)];
    let text = list_of(&["a", "b"]);
    let stages = broken.map(|(id, broken)| {
        let list = Arc::new(Mutex::new(text.lock().unwrap().clone()));
        (id, broken, Arc::clone(&list), listing_from(list, |_| ok_chat()))
    });
    let tables: Vec<String> = stages
        .iter()
        .map(|(id, _, _, fake)| format!("{}cache_seconds = 1\n", provider(id, "openai", &fake.url())))
        .collect();
    let proxy = heard(&tables.join("\n"));
    assert_eq!(ids(&proxy), ["up/a", "up/b", "two/a", "two/b"]);
    for (_, broken, list, _) in &stages {
        *list.lock().unwrap() = (*broken).to_owned();
    }
    for (id, _, _, fake) in &stages {
        let notices = || proxy.get("/v1/models").json()["notices"].to_string();
        eventually("a fetch failed", notices, |notices| notices.contains(&format!("\"{id}\"")));
        assert_eq!(proxy.status_of(id)["health"], "up");
        assert_eq!(ids(&proxy), ["up/a", "up/b", "two/a", "two/b"]);
        assert_eq!(sent_as(&proxy, fake, &format!("{id}/a")), "a");
    }
    *stages[0].2.lock().unwrap() = list_text(&["c"]);
    let new = ["up/c", "two/a", "two/b"];
    eventually("the next good list counts", || ids(&proxy), |listed| *listed == new);
}

#[test]
fn one_model_is_found_by_its_id_raw_or_encoded() {
    let odd = [
        "accounts/x/models/Kimi-K2",
        "@cf/openai/gpt-oss-120b",
        "gpt-oss:120b",
        "Qwen/Qwen3",
        "a b",
        "ü+1",
        "50%",
    ];
    let fake = plain(&odd);
    let proxy = heard(&provider("up", "openai", &fake.url()));
    for id in odd {
        let full = format!("up/{id}");
        let all: String = full.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let slash = full.replace('%', "%25").replace('/', "%2F").replace(' ', "%20").replace('ü', "%c3%bc");
        let raw = full.replace('%', "%25").replace(' ', "%20").replace('ü', "%C3%BC");
        for path in [&all, &slash, &raw] {
            for prefix in ["/v1/models/", "/models/"] {
                let answer = proxy.get(&format!("{prefix}{path}"));
                assert_eq!((answer.status, &answer.json()["id"]), (200, &json!(full)), "{prefix}{path}");
            }
        }
        assert_eq!(sent_as(&proxy, &fake, &full), id);
        let answer = proxy.post("/v1/chat/completions", &chat(&full));
        assert_eq!(answer.json()["model"], "up/m", "what upstream calls it, with our prefix");
    }
    for missing in ["up/nothing", "up", "up/", "nothing", "up%2F", "%FF"] {
        let answer = proxy.get(&format!("/v1/models/{missing}"));
        assert_eq!(
            (answer.status, &answer.json()["error"]["code"]),
            (404, &json!("model_not_found")),
            "{missing}"
        );
    }
    assert_eq!(
        proxy.get("/v1/models/gpt-oss:120b").json()["id"],
        "up/gpt-oss:120b",
        "a bare name that one has"
    );
}

#[test]
fn a_list_without_models_is_not_an_illness() {
    for (kind, body) in [
        ("openai", r#"{"object":"list","data":null}"#),
        ("openai", r#"{"object":"list","data":[]}"#),
        ("openai", "[]"),
        ("ollama", r#"{"models":null}"#),
        ("ollama", r#"{"models":[]}"#),
        ("ollama", "{}"),
        ("mistral", r#"{"object":"list","data":null}"#),
        ("fireworks", r#"{"object":"list","data":null}"#),
        ("github", "[]"),
    ] {
        let fake = Fake::start(move |_| Answer::json(200).body(body)).expect("fake upstream starts");
        let proxy = heard(&provider("up", kind, &fake.url()));
        assert_eq!(proxy.status_of("up")["health"], "up", "{kind} {body}");
        assert_eq!(ids(&proxy), Vec::<String>::new());
        assert!(proxy.get("/v1/models").json().get("notices").is_none());
    }
}

#[test]
fn odd_entries_of_a_list_do_not_spoil_the_others() {
    let body = format!(
        r#"{{"data":[7,null,{{}},{{"id":null}},{{"id":""}},{{"id":"a\nb"}},{{"id":"{}"}},{{"id":"good","created":"soon","context_length":-1,"capabilities":9}},{{"id":"good"}},{{"id":"too"}}]}}"#,
        "x".repeat(600)
    );
    let fake = listing_from(Arc::new(Mutex::new(body)), |_| ok_chat());
    let proxy = heard(&provider("up", "openai", &fake.url()));
    assert_eq!(ids(&proxy), ["up/good", "up/too"]);
}
