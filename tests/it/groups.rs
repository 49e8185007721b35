//! Groups of providers: failover and its order, what moves a request on and what does not, racing, waiting for a
//! place, and what the client is told. The whole daemon in front of scripted upstreams.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use demuxai::demo::{Answer, Fake, Script};

use super::support::several::{
    PATH, ask, chunk, daemon, daemon_with, failing, gated, good, limited, listing, listing_text, says,
    stream, upstream,
};
use super::support::upstreams::last_call;
use super::support::{asked, content, eventually};

#[test]
fn a_failed_member_is_passed_over_and_the_answer_says_who_was_asked() {
    let (bad, well) = (failing(500), good("b"));
    let proxy = daemon(&[&bad, &well], "[groups.coder]\ntype = \"failover\"\nmembers = [\"a/m\", \"b/m\"]\n");
    let got = ask(&proxy, "coder");
    assert_eq!(content(&got), "b");
    assert_eq!(got.header("x-demuxai-provider"), Some("b"));
    assert_eq!(got.header("x-demuxai-attempts"), Some("a/m upstream_status, b ok"));
    assert_eq!(got.json()["model"], "b/m");
    assert_eq!((asked(&bad), asked(&well)), (1, 1));
    let series =
        "demuxai_failovers_total{backend=\"coder\",from=\"a/m\",reason=\"upstream_status\",to=\"b/m\"}";
    assert!((proxy.metric(series) - 1.0).abs() < 0.1);
    let requests = "demuxai_requests_total{backend=\"coder\",endpoint=\"chat\",listener=\"test\",model=\"m\",outcome=\"ok\",provider=\"b\"}";
    eventually("it is counted for the group", || proxy.find_metric(requests), |count| *count == Some(1.0));
}

#[test]
fn an_error_inside_a_stream_before_its_first_word_moves_the_request_on_unseen() {
    let bad = upstream(|_| {
        let role = r#"{"id":"x","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#;
        Answer::events()
            .chunked()
            .event(role)
            .event(r#"{"error":{"message":"overloaded","code":503}}"#)
            .last_chunk()
    });
    let well = good("b");
    let proxy = daemon(&[&bad, &well], "[groups.coder]\ntype = \"failover\"\nmembers = [\"a/m\", \"b/m\"]\n");
    let got = stream(&proxy, "coder");
    assert_eq!(got.status, 200);
    let text = got.text();
    assert!(text.contains("\"b\"") && text.ends_with("data: [DONE]\n\n"), "{text}");
    assert!(!text.contains("overloaded") && !text.contains("\"role\""), "nothing of the first one: {text}");
}

#[test]
fn a_stream_that_breaks_after_its_first_word_is_an_error_and_is_not_begun_again() {
    let bad = upstream(|_| Answer::events().chunked().event(chunk("half", "null")).last_chunk());
    let well = good("b");
    let proxy = daemon(&[&bad, &well], "[groups.coder]\ntype = \"failover\"\nmembers = [\"a/m\", \"b/m\"]\n");
    let got = stream(&proxy, "coder");
    let text = got.text();
    assert!(text.contains("half") && text.contains("\"error\"") && !text.contains("[DONE]"), "{text}");
    assert_eq!(asked(&well), 0);
}

#[test]
fn a_request_that_is_itself_at_fault_is_answered_by_the_first_and_goes_nowhere_else() {
    let (bad, well) = (failing(400), good("b"));
    let proxy = daemon(&[&bad, &well], "[groups.coder]\ntype = \"failover\"\nmembers = [\"a/m\", \"b/m\"]\n");
    assert_eq!(ask(&proxy, "coder").status, 400);
    assert_eq!(asked(&well), 0);
}

#[test]
fn when_nobody_can_answer_every_reason_is_told_and_quota_makes_it_a_429_with_the_soonest_moment() {
    let (one, other, broken) = (limited("40"), limited("90"), failing(503));
    let proxy = daemon(
        &[&one, &other, &broken],
        "[groups.free]\ntype = \"failover\"\nmembers = [\"a/m\", \"b/m\", \"c/m\"]\nattempts = 3\n",
    );
    let got = ask(&proxy, "free");
    assert_eq!(got.status, 429, "{}", got.text());
    let wait: u64 = got.header("retry-after").and_then(|text| text.parse().ok()).expect("retry-after");
    assert!((38..=40).contains(&wait), "{wait}");
    let message = got.error();
    assert!(["`a", "`b", "`c"].iter().all(|id| message.contains(id)), "{message}");
}

#[test]
fn without_quota_in_the_way_it_is_a_503() {
    let (one, other) = (failing(500), failing(502));
    let proxy = daemon(
        &[&one, &other],
        "[groups.g]\ntype = \"failover\"\nmembers = [\"a/m\", \"b/m\"]\nattempts = 2\n",
    );
    let got = ask(&proxy, "g");
    assert_eq!(got.status, 503, "{}", got.text());
    assert_eq!(got.header("retry-after"), None);
}

#[test]
fn a_group_that_gives_up_does_not_keep_to_itself_whom_it_asked() {
    let (bad, slow) = (failing(500), upstream(|_| Script::new().gate("never")));
    for kind in ["failover", "race"] {
        let group =
            format!("[groups.g]\ntype = \"{kind}\"\nmembers = [\"a/m\", \"b/m\"]\ntimeout = \"300ms\"\n");
        let proxy = daemon(&[&bad, &slow], &group);
        let answer = ask(&proxy, "g");
        assert_eq!(answer.status, 504, "{}", answer.text());
        assert_eq!(answer.header("x-demuxai-attempts"), Some("a/m upstream_status, b/m timeout"), "{kind}");
    }
}

#[test]
fn round_robin_takes_turns_by_weight() {
    let (one, other) = (good("a"), good("b"));
    let proxy = daemon(
        &[&one, &other],
        "[groups.g]\ntype = \"round-robin\"\nmembers = [{ to = \"a/m\", weight = 2 }, \"b/m\"]\n",
    );
    for _ in 0..9 {
        assert_eq!(ask(&proxy, "g").status, 200);
    }
    assert_eq!((asked(&one), asked(&other)), (6, 3));
}

#[test]
fn a_member_without_a_model_gets_the_one_that_was_asked_for_under_its_own_name() {
    let one = listing("openai/gpt-oss-120b", |received| says("a", received));
    let other = listing("something-else", |received| says("b", received));
    let proxy = daemon(&[&other, &one], "[groups.free]\ntype = \"failover\"\nmembers = [\"a\", \"b\"]\n");
    let got = ask(&proxy, "free/gpt-oss:120b");
    assert_eq!(content(&got), "a");
    assert_eq!(got.header("x-demuxai-attempts"), Some("a skipped, b ok"));
    let sent = last_call(&one);
    assert!(String::from_utf8_lossy(&sent.body).contains("\"openai/gpt-oss-120b\""));
    let nameless = ask(&proxy, "free");
    assert_eq!(nameless.status, 400, "{}", nameless.text());
    assert!(nameless.error().contains("no model was named"));
}

#[test]
fn a_model_that_a_group_has_not_is_never_answered_by_another_one() {
    let (one, other) = (good("a"), good("b"));
    let third = listing("some-model", |received| says("c", received));
    let groups = "[groups.near]\ntype = \"failover\"\nmembers = [\"c\"]\n\
        [groups.own]\ntype = \"failover\"\nmembers = [\"a/m\", \"b/m\"]\n\
        [groups.free]\ntype = \"failover\"\nmembers = [\"a\", \"b\"]\n\
        [groups.mixed]\ntype = \"failover\"\nmembers = [\"a/other\", \"b\"]\n\
        [groups.outer]\ntype = \"failover\"\nmembers = [\"own\", \"free\"]\n";
    let proxy = daemon(&[&one, &other, &third], groups);
    for (model, told) in [
        ("near/some-modell", "group `near` has no model `some-modell`; nearest: `near/some-model`"),
        ("own/gpt-5", "group `own` has no model `gpt-5`; ask for `own` alone, which is `a/m`, `b/m`"),
        (
            "free/gpt-5",
            "group `free` has no model `gpt-5`; `free/MODEL` is what one of these lists: `a`, `b`",
        ),
        ("outer/gpt-5", "group `outer` has no model `gpt-5`; "),
    ] {
        let answer = ask(&proxy, model);
        assert_eq!(
            (answer.status, &*answer.json()["error"]["code"].to_string()),
            (404, "\"model_not_found\"")
        );
        assert!(answer.error().starts_with(told), "{}", answer.error());
    }
    assert_eq!((asked(&one), asked(&other)), (0, 0));
    let passed = ask(&proxy, "mixed/m");
    assert_eq!(content(&passed), "b", "who names another model is left out");
    assert_eq!(passed.header("x-demuxai-attempts"), Some("a/other skipped, b ok"));
    for model in ["own", "own/m", "free/m", "outer/m"] {
        assert_eq!(content(&ask(&proxy, model)), "a", "{model}");
    }
}

#[test]
fn groups_nest_and_each_level_fails_over() {
    let (bad, worse, well) = (failing(500), failing(502), good("c"));
    let proxy = daemon(
        &[&bad, &worse, &well],
        "[groups.inner]\ntype = \"failover\"\nmembers = [\"a/m\", \"b/m\"]\n\
         [groups.outer]\ntype = \"failover\"\nmembers = [\"inner\", \"c/m\"]\n",
    );
    let got = ask(&proxy, "outer");
    assert_eq!(content(&got), "c");
    assert_eq!(got.header("x-demuxai-attempts"), Some("a/m upstream_status, b/m upstream_status, c ok"));
}

#[test]
fn what_a_member_sets_is_sent_and_named() {
    let well = good("a");
    let proxy = daemon(
        &[&well],
        "[groups.g]\ntype = \"failover\"\nmembers = [{ to = \"a/m\", set = { temperature = 0.1 } }]\n",
    );
    let got = ask(&proxy, "g");
    assert_eq!(got.status, 200);
    assert_eq!(got.header("x-demuxai-edits"), Some("set:temperature"));
    let sent = last_call(&well);
    let body = sent.json();
    assert_eq!(body["temperature"], 0.1);
    assert_eq!(body["messages"][0]["content"], "hi");
}

#[test]
fn in_a_race_the_first_word_wins_and_the_losers_are_cancelled() {
    let slow =
        upstream(|_| Answer::events().chunked().gate("never").event(chunk("slow", "null")).last_chunk());
    let fast = good("b");
    let proxy = daemon(
        &[&slow, &fast],
        "[groups.g]\ntype = \"race\"\ndelay = \"20ms\"\nmembers = [\"a/m\", \"b/m\"]\n",
    );
    let got = stream(&proxy, "g");
    assert_eq!(got.header("x-demuxai-provider"), Some("b"));
    assert_eq!(got.header("x-demuxai-attempts"), Some("a/m cancelled, b ok"));
    assert_eq!((asked(&slow), asked(&fast)), (1, 1));
    eventually("the loser is cancelled", || proxy.status_of("a")["in_flight"].clone(), |count| *count == 0);
    let cancelled = "demuxai_upstream_attempts_total{model=\"m\",outcome=\"cancelled\",provider=\"a\",reason=\"cancelled\"}";
    eventually("and counted as such", || proxy.find_metric(cancelled), |count| *count == Some(1.0));
}

#[test]
fn in_a_race_a_fast_first_member_leaves_the_others_alone() {
    let (fast, other) = (good("a"), good("b"));
    let proxy = daemon(
        &[&fast, &other],
        "[groups.g]\ntype = \"race\"\ndelay = \"5s\"\nmembers = [\"a/m\", \"b/m\"]\n",
    );
    assert_eq!(content(&ask(&proxy, "g")), "a");
    assert_eq!(asked(&other), 0);
}

#[test]
fn a_full_member_is_passed_over_and_a_full_group_hands_the_freed_place_on_at_once() {
    let busy = gated("a");
    let proxy = daemon_with(
        &[(&busy, "max_in_flight = 1")],
        "[groups.g]\ntype = \"failover\"\nmembers = [\"a/m\"]\n",
    );
    let address = proxy.address;
    let waiting: Vec<_> = (0..3)
        .map(|_| {
            std::thread::spawn(move || {
                let body = r#"{"model":"g","messages":[{"role":"user","content":"hi"}]}"#;
                super::support::client::post(address, PATH, body)
            })
        })
        .collect();
    eventually(
        "one is served, the others wait",
        || proxy.status_of("a")["waiting"].clone(),
        |count| *count == 2,
    );
    eventually("the first one has come", || asked(&busy), |count| *count == 1);
    busy.open_gate("go");
    let begun = Instant::now();
    for one in waiting {
        assert_eq!(one.join().expect("client").status, 200);
    }
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert_eq!(asked(&busy), 3);
}

#[test]
fn a_member_that_failed_for_a_moment_is_tried_again_when_nobody_else_is_left() {
    let count = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&count);
    let shaky = upstream(move |received| {
        if seen.fetch_add(1, Ordering::Relaxed) == 0 {
            return Answer::json(503)
                .body(r#"{"error":{"message":"busy","type":"x","code":null,"param":null}}"#);
        }
        says("a", received)
    });
    let proxy = daemon(&[&shaky], "[groups.g]\ntype = \"failover\"\nmembers = [\"a/m\"]\n");
    let got = ask(&proxy, "g");
    assert_eq!(content(&got), "a");
    assert_eq!(got.header("x-demuxai-attempts"), Some("a/m upstream_status, a ok"));
    assert_eq!(count.load(Ordering::Relaxed), 2);
}

#[test]
fn a_conversation_stays_where_it_was_answered() {
    let (one, other) = (good("a"), good("b"));
    let proxy = daemon(
        &[&one, &other],
        "[groups.g]\ntype = \"round-robin\"\nsticky = { by = \"conversation\" }\nmembers = [\"a/m\", \"b/m\"]\n",
    );
    let first = content(&ask(&proxy, "g"));
    for _ in 0..4 {
        assert_eq!(content(&ask(&proxy, "g")), first);
    }
    let another = r#"{"model":"g","messages":[{"role":"user","content":"something else"}]}"#;
    assert_ne!(proxy.post(PATH, another).json()["choices"][0]["message"]["content"], first.as_str());
}

#[test]
fn a_conversation_does_not_move_as_it_grows() {
    let (one, other) = (good("a"), good("b"));
    let proxy = daemon(
        &[&one, &other],
        "[groups.g]\ntype = \"round-robin\"\nsticky = { by = \"conversation\" }\nmembers = [\"a/m\", \"b/m\"]\n",
    );
    let ask = |messages: &str| {
        let body =
            format!(r#"{{"model":"g","messages":[{{"role":"system","content":"be short"}},{messages}]}}"#);
        content(&proxy.post(PATH, &body))
    };
    let mut told = String::from(r#"{"role":"user","content":"a question"}"#);
    let first = ask(&told);
    let other = ask(r#"{"role":"user","content":"another one"}"#);
    assert_ne!(first, other, "each conversation takes its turn");
    for _ in 0..3 {
        told += r#",{"role":"assistant","content":"an answer"},{"role":"user","content":"and then?"}"#;
        assert_eq!(ask(&told), first);
    }
}

#[test]
fn a_member_whose_purse_is_empty_is_not_asked_again_by_every_request() {
    let broke = upstream(|_| {
        Answer::json(402)
            .body(r#"{"error":{"message":"Insufficient credits","type":"payment_required","code":402}}"#)
    });
    let well = good("b");
    let proxy = daemon(&[&broke, &well], "[groups.g]\ntype = \"failover\"\nmembers = [\"a/m\", \"b/m\"]\n");
    for _ in 0..4 {
        assert_eq!(content(&ask(&proxy, "g")), "b");
    }
    assert_eq!((asked(&broke), asked(&well)), (1, 4));
}

#[test]
fn embeddings_do_not_move_to_another_model_unless_the_group_says_that_they_may() {
    let bad = listing("embed-one", |_| Answer::json(500).body("{}"));
    let well = listing("embed-two", |_| {
        Answer::json(200).body(
            r#"{"object":"list","model":"embed-two","data":[{"object":"embedding","index":0,"embedding":[0.5]}],"usage":{"prompt_tokens":1,"total_tokens":1}}"#,
        )
    });
    let group = |name: &str, more: &str| {
        format!(
            "[groups.{name}]\ntype = \"failover\"\nmembers = [\"a/embed-one\", \"b/embed-two\"]\nattempts = 2\n{more}"
        )
    };
    let proxy =
        daemon(&[&bad, &well], &format!("{}{}", group("apart", ""), group("alike", "same_space = true\n")));
    let embed = |model: &str| proxy.post("/v1/embeddings", &format!(r#"{{"model":"{model}","input":"hi"}}"#));
    assert_eq!(embed("apart").status, 503);
    assert_eq!(asked(&well), 0);
    assert_eq!(embed("alike").status, 200);
}

/// An upstream whose list says of `m` what it can do, and that answers with its name.
fn able(name: &'static str, facts: &str) -> Fake {
    let list = format!(r#"{{"object":"list","data":[{{"id":"m","object":"model",{facts}}}]}}"#);
    listing_text(list, move |received| says(name, received))
}

const IMAGE: &str = r#"{"model":"g","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,AA"}}]}]}"#;
const TOOLS: &str = r#"{"model":"g","tools":[{"type":"function","function":{"name":"f"}}],"messages":[{"role":"user","content":"hi"}]}"#;

#[test]
fn members_that_cannot_serve_the_request_are_not_asked_and_the_way_says_so() {
    let small = able("a", r#""context_length":2000"#);
    let blind = able("b", r#""capabilities":{"vision":false,"function_calling":false}"#);
    let well = good("c");
    let proxy = daemon(
        &[&small, &blind, &well],
        "[groups.g]\ntype = \"failover\"\nmembers = [\"a/m\", \"b/m\", \"c/m\"]\n",
    );
    let long =
        format!(r#"{{"model":"g","messages":[{{"role":"user","content":"{}"}}]}}"#, "word ".repeat(3000));
    let got = proxy.post(PATH, &long);
    assert_eq!(content(&got), "b");
    assert_eq!(got.header("x-demuxai-attempts"), Some("a/m skipped, b ok"));
    assert_eq!(content(&proxy.post(PATH, TOOLS)), "a");
    let large = r#"{"model":"g","max_tokens":4096,"tools":[{}],"messages":[{"role":"user","content":"hi"}]}"#;
    let got = proxy.post(PATH, large);
    assert_eq!(content(&got), "c");
    assert_eq!(got.header("x-demuxai-attempts"), Some("a/m skipped, b/m skipped, c ok"));
    assert_eq!((asked(&small), asked(&blind), asked(&well)), (1, 1, 1));
    // Asked for by name, without a choice, it is the upstream's to say.
    assert_eq!(proxy.post(PATH, &IMAGE.replace("\"g\"", "\"b/m\"")).status, 200);
}

#[test]
fn when_nobody_can_serve_it_the_client_is_not_told_to_come_back() {
    let blind = able("a", r#""capabilities":{"vision":false}"#);
    let inner = able("b", r#""architecture":{"input_modalities":["text"],"output_modalities":["text"]}"#);
    let proxy = daemon(
        &[&blind, &inner],
        "[groups.inner]\ntype = \"failover\"\nmembers = [\"b/m\"]\n\
         [groups.g]\ntype = \"failover\"\nmembers = [\"a/m\", \"inner\"]\n",
    );
    let got = proxy.post(PATH, IMAGE);
    assert_eq!(got.status, 400, "{}", got.text());
    let wanted = "no member of `g` could answer: `a/m`: takes no images; `inner`: `b/m`: takes no images";
    assert_eq!(got.error(), wanted);
    assert_eq!((asked(&blind), asked(&inner)), (0, 0));
}

#[test]
fn a_conversation_that_stays_spends_no_turn_of_the_others() {
    let (one, other) = (good("a"), good("b"));
    let proxy = daemon(
        &[&one, &other],
        "[groups.g]\ntype = \"round-robin\"\nsticky = {}\nmembers = [\"a/m\", \"b/m\"]\n",
    );
    let begin = |text: &str| {
        let body = format!(r#"{{"model":"g","messages":[{{"role":"user","content":"{text}"}}]}}"#);
        content(&proxy.post(PATH, &body))
    };
    assert_eq!(begin("one"), "a");
    for _ in 0..3 {
        assert_eq!(begin("one"), "a");
    }
    assert_eq!(begin("two"), "b");
    assert_eq!(begin("two"), "b");
    assert_eq!(begin("three"), "a");
}

#[test]
fn a_request_that_comes_by_again_spends_no_second_turn() {
    let shaky = |name: &'static str| {
        let count = AtomicUsize::new(0);
        upstream(move |received| {
            if count.fetch_add(1, Ordering::Relaxed) == 0 {
                return Answer::json(503)
                    .body(r#"{"error":{"message":"busy","type":"x","code":null,"param":null}}"#);
            }
            says(name, received)
        })
    };
    let (one, other) = (shaky("a"), shaky("b"));
    let proxy = daemon(&[&one, &other], "[groups.g]\ntype = \"round-robin\"\nmembers = [\"a/m\", \"b/m\"]\n");
    let got = ask(&proxy, "g");
    let way = got.header("x-demuxai-attempts").expect("the way").to_owned();
    assert!(way.starts_with("a/m upstream_status, b/m upstream_status, "), "{way}");
    assert_eq!(content(&ask(&proxy, "g")), "b");
    assert_eq!(content(&ask(&proxy, "g")), "a");
}

#[test]
fn an_answer_without_a_word_is_no_answer_where_the_group_says_so() {
    let silent = good("");
    let well = good("b");
    let group = |id: &str, fail_on: &str| {
        format!("[groups.{id}]\ntype = \"failover\"\nmembers = [\"a/m\", \"b/m\"]\n{fail_on}")
    };
    let proxy = daemon(
        &[&silent, &well],
        &format!("{}{}", group("strict", "fail_on = [\"default\", \"empty\"]\n"), group("lax", "")),
    );
    let got = ask(&proxy, "strict");
    assert_eq!(content(&got), "b");
    assert_eq!(got.header("x-demuxai-attempts"), Some("a/m empty_answer, b ok"));
    let streamed = stream(&proxy, "strict").text();
    assert!(
        streamed.contains("\"b\"") && streamed.matches("finish_reason\":\"stop").count() == 1,
        "{streamed}"
    );
    assert!(streamed.ends_with("data: [DONE]\n\n"), "{streamed}");
    assert_eq!(content(&ask(&proxy, "lax")), "");
    assert!(stream(&proxy, "lax").text().ends_with("data: [DONE]\n\n"));
    eventually("nothing is held on to", || proxy.status_of("a")["in_flight"].clone(), |count| *count == 0);
}

#[test]
fn nobody_is_asked_twice_for_want_of_words_and_the_client_learns_of_it() {
    let (one, other) = (good(""), good(""));
    let proxy = daemon(
        &[&one, &other],
        "[groups.g]\ntype = \"failover\"\nmembers = [\"a/m\", \"b/m\"]\nfail_on = [\"empty\"]\n",
    );
    let got = ask(&proxy, "g");
    assert_eq!(got.status, 503, "{}", got.text());
    assert!(got.error().contains("`a` answered without any content"), "{}", got.error());
    assert_eq!((asked(&one), asked(&other)), (1, 1));
}

#[test]
fn groups_are_listed_and_can_be_asked_for_by_id() {
    let well = good("a");
    let proxy =
        daemon(&[&well], "[groups.g]\ntype = \"failover\"\nmembers = [\"a/m\"]\ndescription = \"mine\"\n");
    let list = proxy.get("/v1/models").json();
    let entry =
        list["data"].as_array().expect("data").iter().find(|entry| entry["id"] == "g").expect("listed");
    assert_eq!((&entry["owned_by"], &entry["description"]), (&"demuxai".into(), &"mine".into()));
    assert_eq!(entry["members"], serde_json::json!(["a/m"]));
    assert_eq!(proxy.get("/v1/models/g").json()["members"], entry["members"]);
    assert_eq!(proxy.get("/v1/models/g").json()["id"], "g");
}
