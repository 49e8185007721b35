//! Stages for tests of single providers: an upstream that lists models and answers, the daemon in front of it, and
//! what arrived upstream.

use std::sync::{Arc, Mutex};

use demuxai::demo::{Answer, Fake, Received, Script, Setup, Upstream};
use serde_json::{Value, json};

use super::eventually;
use super::proxy::{Proxy, provider};

/// The key that [`provider`] configures for a provider of this id.
pub fn key_of(id: &str) -> String {
    format!("test-key-{id}")
}

/// A fake of this kind that wants the key of the provider named like the kind; and that provider's table.
pub fn playing(kind: Upstream) -> (Fake, String) {
    let key = kind.wants_key().then(|| key_of(kind.label()));
    let fake = kind.start(Setup { key, ..Setup::default() }).expect("fake upstream starts");
    let table = provider(kind.label(), kind.label(), &format!("{}{}", fake.url(), kind.base_path()));
    (fake, table)
}

/// The daemon with this configuration, once it has heard of every provider, good or bad.
pub fn heard(text: &str) -> Proxy {
    let proxy = Proxy::start(text);
    wait_until_heard(&proxy);
    proxy
}

/// Waits until every provider was heard of, good or bad.
pub fn wait_until_heard(proxy: &Proxy) {
    let health = || -> Vec<String> {
        let status = proxy.get("/demuxai/status").json();
        let providers = status["providers"].as_array().expect("providers").clone();
        providers.iter().map(|one| one["health"].as_str().expect("health").to_owned()).collect()
    };
    eventually("every provider was heard of", health, |all| all.iter().all(|one| one != "unknown"));
}

/// An upstream that lists these entries wherever a list is asked for, and lets `answer` do the rest.
pub fn listing(entries: Value, answer: impl Fn(&Received) -> Script + Send + Sync + 'static) -> Fake {
    let list = Arc::new(Mutex::new(json!({"object": "list", "data": entries}).to_string()));
    listing_from(list, answer)
}

/// An upstream whose list is what the text says at the moment; an empty one is refused with a 500.
pub fn listing_from(
    list: Arc<Mutex<String>>,
    answer: impl Fn(&Received) -> Script + Send + Sync + 'static,
) -> Fake {
    let handler = move |received: &Received| {
        if !is_list(received) {
            return answer(received);
        }
        let text = list.lock().unwrap().clone();
        if text.is_empty() { Answer::json(500).body("{}") } else { Answer::json(200).body(text) }
    };
    Fake::start(handler).expect("fake upstream starts")
}

/// Whether this asks for a list of models.
pub fn is_list(received: &Received) -> bool {
    received.method == "GET"
        && ["/models", "/api/tags", "/catalog/models"].iter().any(|end| received.path().ends_with(end))
}

/// How often the list was asked for.
pub fn lists(fake: &Fake) -> usize {
    fake.received().iter().filter(|received| is_list(received)).count()
}

/// What arrived apart from lists, oldest first.
pub fn calls(fake: &Fake) -> Vec<Received> {
    fake.received().into_iter().filter(|received| received.method == "POST").collect()
}

/// The last call that arrived.
#[track_caller]
pub fn last_call(fake: &Fake) -> Received {
    calls(fake).pop().expect("a call arrived")
}

/// A chat answer in OpenAI's shape that says `ok`.
pub fn ok_chat() -> Script {
    Answer::json(200).body(
        r#"{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"ok"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}"#,
    )
}

/// The body of a chat request.
pub fn chat(model: &str) -> String {
    json!({"model": model, "messages": [{"role": "user", "content": "hi"}]}).to_string()
}

/// The ids of `GET /v1/models`, in its order.
pub fn ids(proxy: &Proxy) -> Vec<String> {
    ids_of(&proxy.get("/v1/models").json())
}

/// The ids of a list of models, in its order.
pub fn ids_of(list: &Value) -> Vec<String> {
    let entries = list["data"].as_array().expect("data is an array").iter();
    entries.map(|entry| entry["id"].as_str().expect("id").to_owned()).collect()
}
