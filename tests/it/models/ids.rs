//! What a model id means: bare names, prefixes, tags, aliases, and ids that a key may not use.

use demuxai::demo::{Answer, Fake, Received, Upstream};
use serde_json::json;

use super::{not_found, plain, sent_as};
use crate::support::client;
use crate::support::proxy::provider;
use crate::support::upstreams::{calls, chat, heard, ids, is_list, last_call, listing, ok_chat, playing};

#[test]
fn a_bare_name_means_the_one_provider_that_lists_it() {
    let (first, second) =
        (plain(&["shared", "only-first", "org/deep/name"]), plain(&["shared", "only-second"]));
    let text = format!(
        "{}\n{}",
        provider("first", "openai", &first.url()),
        provider("second", "openai", &second.url())
    );
    let proxy = heard(&text);
    assert_eq!(sent_as(&proxy, &first, "only-first"), "only-first");
    assert_eq!(sent_as(&proxy, &second, "only-second"), "only-second");
    assert_eq!(sent_as(&proxy, &first, "org/deep/name"), "org/deep/name", "its first part is no provider");
    assert_eq!(sent_as(&proxy, &second, "second/shared"), "shared");

    let answer = proxy.post("/v1/chat/completions", &chat("shared"));
    assert_eq!(answer.status, 400, "{}", answer.text());
    let error = answer.error();
    assert!(error.contains("`first/shared`") && error.contains("`second/shared`"), "{error}");
    assert!(not_found(&proxy, "only-frst").contains("`first/only-first`"));
    assert!(not_found(&proxy, "third/only-first").contains("`first/only-first`"));
    let answer = proxy.post("/v1/chat/completions", &chat("first"));
    assert!(answer.status == 400 && answer.error().contains("`first/MODEL`"), "{}", answer.text());
}

#[test]
fn a_providers_id_wins_over_a_models_name() {
    let (first, second) = (plain(&["second/x", "second"]), plain(&["x"]));
    let text = format!(
        "{}\n{}",
        provider("first", "openai", &first.url()),
        provider("second", "openai", &second.url())
    );
    let proxy = heard(&text);
    assert_eq!(sent_as(&proxy, &second, "second/x"), "x");
    assert_eq!(sent_as(&proxy, &first, "first/second/x"), "second/x", "only the first slash splits");
    assert_eq!(proxy.post("/v1/chat/completions", &chat("second")).status, 400);
}

#[test]
fn a_model_whose_own_name_begins_like_our_prefix_keeps_all_of_it() {
    // As with a provider called `openai` in front of a router that lists `openai/gpt-4.1`.
    let answer = r#"{"id":"c","object":"chat.completion","model":"openai/gpt-4.1","choices":[{"index":0,"message":{"role":"assistant","content":"x"},"finish_reason":"stop"}]}"#;
    let fake = listing(json!([{"id": "openai/gpt-4.1"}]), move |_| Answer::json(200).body(answer));
    let proxy = heard(&provider("openai", "openai", &fake.url()));
    assert_eq!(ids(&proxy), ["openai/openai/gpt-4.1"]);
    let got = proxy.post("/v1/chat/completions", &chat("openai/openai/gpt-4.1"));
    assert_eq!(last_call(&fake).json()["model"], "openai/gpt-4.1");
    assert_eq!(got.json()["model"], "openai/openai/gpt-4.1", "what comes back can be asked for again");
}

#[test]
fn a_latest_tag_may_be_there_or_not() {
    let (fake, table) = playing(Upstream::Ollama);
    let proxy = heard(&table);
    for model in ["ollama/nomic-embed-text", "ollama/nomic-embed-text:latest", "nomic-embed-text"] {
        let answer = proxy.post("/v1/embeddings", &json!({"model": model, "input": "x"}).to_string());
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(last_call(&fake).json()["model"], "nomic-embed-text:latest");
        assert_eq!(proxy.get(&format!("/v1/models/{model}")).json()["id"], "ollama/nomic-embed-text:latest");
    }
    assert_eq!(
        sent_as(&proxy, &fake, "ollama/qwen3:8b:latest"),
        "qwen3:8b",
        "some clients add it to everything"
    );
    not_found(&proxy, "ollama/qwen3");
}

#[test]
fn an_alias_that_the_upstream_lists_is_as_good_as_the_id() {
    let entries = json!([{"id": "codestral-2508", "capabilities": {"completion_chat": true, "completion_fim": true}, "aliases": ["codestral-latest", "codestral"]},
        {"id": "codestral", "capabilities": {"completion_chat": true}, "aliases": ["codestral-2508"]}]);
    let fake = listing(entries, |_| ok_chat());
    let proxy = heard(&format!(
        "{}exclude_models = [\"codestral-lates*\"]\n",
        provider("up", "mistral", &fake.url())
    ));
    not_found(&proxy, "up/codestral-latest");
    drop(proxy);
    let proxy = heard(&provider("up", "mistral", &fake.url()));
    assert_eq!(sent_as(&proxy, &fake, "up/codestral-latest"), "codestral-2508");
    assert_eq!(sent_as(&proxy, &fake, "up/codestral"), "codestral", "an id of its own wins");
    assert_eq!(sent_as(&proxy, &fake, "codestral-latest"), "codestral-2508");
    assert_eq!(ids(&proxy), ["up/codestral-2508", "up/codestral"]);
    let one = proxy.get("/v1/models/up/codestral-2508").json();
    assert_eq!(one["aliases"], json!(["codestral-latest", "codestral"]));
}

#[test]
fn models_of_the_configuration_are_added_or_stand_in_for_the_list() {
    let models = "models = [{ id = \"mine\", capabilities = [\"embedding\"], context_length = 512 }, { id = \"both\", context_length = 9 }]\n";
    let listed = listing(json!([{"id": "both", "context_length": 5}, {"id": "theirs"}]), |_| ok_chat());
    let proxy = heard(&format!("{}{models}", provider("up", "openai", &listed.url())));
    assert_eq!(ids(&proxy), ["up/both", "up/theirs", "up/mine"]);
    let list = proxy.get("/v1/models").json();
    assert_eq!(
        (&list["data"][0]["context_length"], &list["data"][2]["context_length"]),
        (&json!(9), &json!(512))
    );
    let answer = proxy.post("/v1/chat/completions", &chat("up/mine"));
    assert!(answer.status == 400 && answer.error().contains("cannot chat"), "{}", answer.text());

    // A server without a list is usable all the same, and nothing is wrong with it.
    let silent = Fake::start(|received: &Received| {
        if is_list(received) { Answer::json(404).body(r#"{"detail":"Not Found"}"#) } else { ok_chat() }
    })
    .expect("fake upstream starts");
    let proxy = heard(&format!("{}{models}", provider("up", "openai", &silent.url())));
    assert_eq!(ids(&proxy), ["up/mine", "up/both"]);
    assert_eq!(proxy.get("/readyz").status, 200);
    assert!(proxy.get("/v1/models").json().get("notices").is_none());
    assert_eq!(sent_as(&proxy, &silent, "up/both"), "both");
    assert_eq!(sent_as(&proxy, &silent, "up/other"), "other", "unchecked, as there is no list");
}

#[test]
fn a_key_for_some_models_lists_and_uses_those_only() {
    let fake = plain(&["small", "large"]);
    let text = format!(
        "{}[keys.ide]\nkey = \"secret\"\nmodels = [\"up/small\"]\n",
        provider("up", "openai", &fake.url())
    );
    let proxy = heard(&text);
    let headers = [("authorization", "Bearer secret")];
    let list = client::open(proxy.address, "GET", "/v1/models", &headers, b"").finish().json();
    assert_eq!(list["data"].as_array().unwrap().len(), 1);
    let ask = |model: &str| {
        client::open(proxy.address, "POST", "/v1/chat/completions", &headers, chat(model).as_bytes())
            .finish()
            .status
    };
    assert_eq!((ask("up/small"), ask("up/large")), (200, 403));
    assert_ne!(ask("large"), 200, "not by its bare name either");
    let one = client::open(proxy.address, "GET", "/v1/models/up/large", &headers, b"").finish();
    assert_eq!(one.status, 404);
    assert_eq!(calls(&fake).len(), 1);
}
