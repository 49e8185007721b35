//! Model lists and model ids: what is listed and in which shape, what an id means, and that one provider's trouble with
//! its list is nobody else's.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use demuxai::demo::{Answer, Fake, Received, Setup, Upstream, faults};
use serde_json::{Value, json};

use crate::support::client;
use crate::support::proxy::{Proxy, provider};
use crate::support::upstreams::{
    calls, chat, heard, ids, is_list, last_call, listing, listing_from, lists, ok_chat, playing,
    wait_until_heard,
};
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

// --- the list --------------------------------------------------------------------------------------------------------

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

// --- which models there are ------------------------------------------------------------------------------------------

#[test]
fn excluded_models_are_not_there_however_they_are_asked_for() {
    let (fake, table) = playing(Upstream::Mistral);
    let proxy = heard(&format!(
        "{table}include_models = [\"mistral-*\", \"codestral-*\"]\nexclude_models = [\"*-embed*\", \"mistral-large-*\"]\n"
    ));
    let listed = ids(&proxy);
    assert!(
        listed.contains(&"mistral/mistral-small-latest".to_owned())
            && listed.contains(&"mistral/codestral-latest".to_owned())
    );
    assert!(
        listed.iter().all(|id| !id.contains("embed") && !id.contains("large") && !id.contains("magistral")),
        "{listed:?}"
    );
    for model in
        ["mistral-large-latest", "mistral-large-2512", "magistral-medium-latest", "mistral-large-of-tomorrow"]
    {
        for id in [format!("mistral/{model}"), model.to_owned()] {
            let error = not_found(&proxy, &id);
            let (what, advice) = error.split_once(';').expect("advice");
            assert!(what.contains(&id), "{error}");
            assert!(!advice.contains("large") && !advice.contains("magistral"), "no advice: {error}");
            assert_eq!(proxy.get(&format!("/v1/models/{id}")).status, 404);
        }
    }
    let embed = json!({"model": "mistral/mistral-embed", "input": "x"}).to_string();
    assert_eq!(proxy.post("/v1/embeddings", &embed).status, 404);
    assert_eq!(calls(&fake).len(), 0, "nothing reached upstream");
    assert_eq!(status_of_chat(&proxy, "mistral/mistral-small-latest"), 200);
}

#[test]
fn excluded_models_are_not_there_where_no_list_settles_it_either() {
    let silent = Fake::start(
        |received: &Received| if is_list(received) { faults::json_error(500) } else { ok_chat() },
    )
    .expect("fake upstream starts");
    let (open, table) = playing(Upstream::Fireworks);
    let text = format!(
        "{}exclude_models = [\"secret*\"]\n{table}exclude_models = [\"*deepseek*\"]\n",
        provider("up", "openai", &silent.url())
    );
    let proxy = heard(&text);
    not_found(&proxy, "up/secret-model");
    not_found(&proxy, "up/secret");
    not_found(&proxy, "fireworks/accounts/fireworks/models/deepseek-v3p1");
    assert_eq!((calls(&silent).len(), calls(&open).len()), (0, 0));
    assert_eq!(sent_as(&proxy, &silent, "up/other"), "other");
}

#[test]
fn a_latest_tag_gets_round_no_exclusion() {
    let silent = Fake::start(
        |received: &Received| if is_list(received) { faults::json_error(500) } else { ok_chat() },
    )
    .expect("fake upstream starts");
    let text =
        format!("{}exclude_models = [\"big\", \"small:latest\"]\n", provider("up", "ollama", &silent.url()));
    let proxy = heard(&text);
    for model in ["up/big", "up/big:latest", "up/small", "up/small:latest"] {
        not_found(&proxy, model);
    }
    assert_eq!(sent_as(&proxy, &silent, "up/small:3b"), "small:3b");
}

#[test]
fn an_unknown_model_makes_the_list_be_fetched_once_more_and_then_names_the_nearest() {
    let fake = plain(&["qwen3:8b", "llama3.2:3b"]);
    let proxy = heard(&provider("up", "openai", &fake.url()));
    // A list just fetched denies at once.
    assert!(not_found(&proxy, "up/qwen3:14b").contains("`up/qwen3:8b`"));
    assert_eq!(lists(&fake), 1);
    until_stale(&proxy);
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..20).map(|_| scope.spawn(|| not_found(&proxy, "up/qwen3:14b"))).collect();
        for one in all {
            assert!(one.join().unwrap().contains("`up/qwen3:8b`"));
        }
    });
    assert_eq!(lists(&fake), 2, "once for all of them");
    assert_eq!(calls(&fake).len(), 0);
    // What nobody can mean gets the providers' names.
    assert!(not_found(&proxy, "zzzzzz").contains("providers: `up`"));
}

#[test]
fn a_model_pulled_meanwhile_is_found_without_a_restart() {
    let list = list_of(&["old"]);
    let fake = listing_from(Arc::clone(&list), |_| ok_chat());
    let proxy = heard(&provider("up", "openai", &fake.url()));
    until_stale(&proxy);
    *list.lock().unwrap() = list_text(&["old", "new"]);
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..20).map(|_| scope.spawn(|| status_of_chat(&proxy, "up/new"))).collect();
        assert!(all.into_iter().all(|one| one.join().unwrap() == 200));
    });
    assert_eq!((lists(&fake), calls(&fake).len()), (2, 20));
    assert_eq!(ids(&proxy), ["up/old", "up/new"]);
}

#[test]
fn a_model_that_is_listed_never_waits_for_a_list() {
    let turn = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&turn);
    let fake = Fake::start(move |received: &Received| {
        if !is_list(received) {
            return ok_chat();
        }
        match counted.fetch_add(1, Ordering::SeqCst) {
            0 => Answer::json(200).body(list_text(&["m"])),
            _ => faults::hang_before_head(),
        }
    })
    .expect("fake upstream starts");
    let proxy = heard(&format!("{}cache_seconds = 1\n", provider("up", "openai", &fake.url())));
    eventually("the list is being fetched again", || turn.load(Ordering::SeqCst), |count| *count == 2);
    let before = Instant::now();
    assert_eq!(status_of_chat(&proxy, "up/m"), 200);
    assert_eq!(status_of_chat(&proxy, "m"), 200);
    assert_eq!(ids(&proxy), ["up/m"]);
    assert!(before.elapsed() < Duration::from_secs(1), "{:?}", before.elapsed());
}

#[test]
fn a_request_never_waits_for_another_providers_list() {
    let hanging = Fake::start(
        |received: &Received| if is_list(received) { faults::hang_before_head() } else { ok_chat() },
    )
    .expect("fake upstream starts");
    let good = plain(&["m"]);
    let text = format!(
        "{}\n{}",
        provider("slow", "openai", &hanging.url()),
        provider("good", "openai", &good.url())
    );
    let proxy = Proxy::start(&text);
    eventually("the good one was heard", || ids(&proxy), |listed| *listed == ["good/m"]);
    let before = Instant::now();
    assert_eq!(sent_as(&proxy, &good, "good/m"), "m");
    assert_eq!(sent_as(&proxy, &good, "m"), "m");
    not_found(&proxy, "nobody-has-this");
    not_found(&proxy, "good/nothing");
    assert_eq!(proxy.get("/v1/models/slow/x").status, 404);
    // Its own requests go unchecked while it has no list.
    assert_eq!(sent_as(&proxy, &hanging, "slow/anything"), "anything");
    assert!(before.elapsed() < Duration::from_secs(2), "{:?}", before.elapsed());
}

#[test]
fn a_broken_list_is_not_asked_for_with_every_unlisted_model() {
    let list = list_of(&["m"]);
    let fake = listing_from(Arc::clone(&list), |_| ok_chat());
    let proxy = heard(&provider("up", "openai", &fake.url()));
    until_stale(&proxy);
    list.lock().unwrap().clear();
    let before = Instant::now();
    for _ in 0..30 {
        assert_eq!(sent_as(&proxy, &fake, "up/unlisted"), "unlisted", "nothing denies it");
    }
    let rounds = 2 + before.elapsed().as_secs() as usize / 2;
    assert!(lists(&fake) <= 1 + rounds, "{} lists for 30 requests", lists(&fake));
}

#[test]
fn an_unlisted_model_is_sent_unchecked_where_the_list_is_not_all_there_is() {
    let (fake, table) = playing(Upstream::Fireworks);
    let proxy = heard(&table);
    let unlisted = "fireworks/accounts/fireworks/models/deepseek-v3p1";
    assert!(!ids(&proxy).contains(&unlisted.to_owned()));
    assert_eq!(sent_as(&proxy, &fake, unlisted), "accounts/fireworks/models/deepseek-v3p1");
    assert_eq!(lists(&fake), 1, "an open list is not worth another look");
    let series = "demuxai_requests_total{backend=\"fireworks\",endpoint=\"chat\",listener=\"test\",model=\"other\",outcome=\"ok\",provider=\"fireworks\"}";
    assert_eq!(proxy.metric(series), 1.0, "only listed models are label values");
}

// --- what an id means ------------------------------------------------------------------------------------------------

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

// --- old Ollama ------------------------------------------------------------------------------------------------------

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

// --- GitHub Models is gone -------------------------------------------------------------------------------------------

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

/// `demuxai init -o - > config.toml` on a full disk must not end with success.
#[test]
#[cfg(target_os = "linux")]
fn what_cannot_be_written_to_stdout_is_a_failure_and_a_reader_that_left_is_none() {
    let fake = plain(&["m"]);
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("config.toml");
    std::fs::write(&path, provider("up", "openai", &fake.url())).expect("file is written");
    let config = path.to_str().expect("a path in UTF-8");
    for arguments in [
        ["init", "--output", "-"].as_slice(),
        &["check", "--config", config],
        &["models", "--config", config],
        &["completions", "bash"],
    ] {
        let ended = |stdout: Stdio| {
            Command::new(env!("CARGO_BIN_EXE_demuxai"))
                .args(arguments)
                .env_clear()
                .stdout(stdout)
                .output()
                .expect("demuxai runs")
        };
        let full = std::fs::File::options().write(true).open("/dev/full").expect("/dev/full");
        let output = ended(full.into());
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        assert!(said.contains("cannot write to stdout"), "{arguments:?}: {said}");

        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        assert_eq!(ended(writer.into()).status.code(), Some(0), "{arguments:?}");
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
