//! Which models there are: what is excluded, what a list that is fetched anew brings, and that nobody waits for it in vain.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use demuxai::demo::{Answer, Fake, Received, Upstream, faults};
use serde_json::json;

use super::{list_of, list_text, not_found, plain, sent_as, status_of_chat, until_stale};
use crate::support::eventually;
use crate::support::proxy::{Proxy, provider};
use crate::support::upstreams::{calls, heard, ids, is_list, listing_from, lists, ok_chat, playing};

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
