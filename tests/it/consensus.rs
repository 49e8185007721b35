//! Panels: the whole daemon in front of scripted upstreams. What clients see of the members and the judge, what it costs,
//! and that nothing is left over, whatever ends it.

use std::time::{Duration, Instant};

use demuxai::demo::{Answer, Fake, Received, Script};
use serde_json::{Value, json};

use super::support::client::{self, Answer as Got};
use super::support::program::Program;
use super::support::proxy::{Proxy, provider};
use super::support::several::{self, daemon, daemon_with, upstream};
use super::support::upstreams::last_call;
use super::support::{asked, content, eventually, nowhere};

const PATH: &str = "/v1/chat/completions";
const USAGE: &str = r#""usage":{"prompt_tokens":10,"completion_tokens":2,"total_tokens":12}"#;

fn chunk(text: &str, finish: &str) -> String {
    let text = Value::from(text);
    format!(
        r#"{{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{{"index":0,"delta":{{"role":"assistant","content":{text}}},"finish_reason":{finish}}}]}}"#
    )
}

/// One that says this, streamed or not, with what it cost.
fn says(text: &'static str) -> Fake {
    upstream(move |received| answer(text, received))
}

fn answer(text: &str, received: &Received) -> Script {
    let body = String::from_utf8_lossy(&received.body);
    if !body.contains("\"stream\":true") {
        return Answer::json(200).body(format!(
            r#"{{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{{"index":0,"message":{{"role":"assistant","content":{}}},"finish_reason":"stop"}}],{USAGE}}}"#,
            Value::from(text)
        ));
    }
    Answer::events()
        .chunked()
        .event(chunk(text, "null"))
        .event(chunk("", "\"stop\""))
        .event(format!(
            r#"{{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[],{USAGE}}}"#
        ))
        .event("[DONE]")
        .last_chunk()
}

/// One that fails after a second: later than others answer.
fn failing() -> Fake {
    upstream(|_| {
        let error = r#"{"error":{"message":"no","type":"x","code":null,"param":null}}"#;
        Script::new().pause(Duration::from_secs(1)).then(Answer::json(500).body(error))
    })
}

/// One whose stream says this and then nothing, until it is cancelled.
fn hanging(text: &'static str) -> Fake {
    upstream(move |_| Answer::events().chunked().event(chunk(text, "null")).step(demuxai::demo::Step::Hang))
}

const PANEL: &str = "[groups.panel]\ntype = \"consensus\"\nmembers = [\"a/m\", \"b/m\"]\njudge = \"c/m\"\n";

fn body(more: &Value) -> String {
    let mut body = json!({"model": "panel", "messages": [{"role": "user", "content": "What is it?"}]});
    for (key, value) in more.as_object().expect("fields") {
        body[key] = value.clone();
    }
    body.to_string()
}

fn ask(proxy: &Proxy, more: &Value) -> Got {
    proxy.post(PATH, &body(more))
}

/// What the deltas of a stream say under this key.
fn joined(got: &Got, key: &str) -> String {
    let events = got.events();
    let payloads = events.iter().filter_map(|event| serde_json::from_str::<Value>(event).ok());
    payloads.filter_map(|event| event["choices"][0]["delta"][key].as_str().map(str::to_owned)).collect()
}

fn settled(proxy: &Proxy, ids: &[&str]) {
    for id in ids {
        eventually("nothing is in flight", || proxy.status_of(id), |status| status["in_flight"] == 0);
    }
}

#[test]
fn a_whole_answer_is_the_judge_s_and_its_cost_is_summed_and_itemised() {
    let (a, b, judge) = (says("Alpha"), says("Beta"), says("Both."));
    let proxy = daemon(&[&a, &b, &judge], PANEL);
    let got = ask(&proxy, &json!({}));
    assert_eq!(content(&got), "Both.");
    let answer = got.json();
    assert_eq!(answer["usage"], json!({"prompt_tokens": 30, "completion_tokens": 6, "total_tokens": 36}));
    let items = answer["x_demuxai"]["consensus"].as_array().expect("items");
    let roles: Vec<_> =
        items.iter().map(|item| (&item["backend"], &item["role"], &item["prompt_tokens"])).collect();
    assert_eq!(
        roles,
        [
            (&json!("a/m"), &json!("member"), &json!(10)),
            (&json!("b/m"), &json!("member"), &json!(10)),
            (&json!("c/m"), &json!("judge"), &json!(10))
        ]
    );
    let reasoning = answer["choices"][0]["message"]["reasoning_content"].as_str().expect("the members");
    assert!(
        reasoning.contains("**a/m**\n\nAlpha\n\n") && reasoning.contains("**b/m**\n\nBeta\n\n"),
        "{reasoning}"
    );
    assert_eq!((got.header("x-demuxai-provider"), &answer["model"]), (Some("c"), &json!("panel")));
    let attempts = got.header("x-demuxai-attempts").expect("attempts");
    assert!(attempts.contains("a/m answered") && attempts.ends_with("c ok"), "{attempts}");
    let told = last_call(&judge);
    let told = told.json()["messages"][0]["content"].as_str().expect("text").to_owned();
    assert!(told.starts_with("What is it?\n\n") && told.contains("]\nAlpha\n[end of answer"), "{told}");
    for id in ["a", "b", "c"] {
        let counted = format!(
            "demuxai_tokens_total{{model=\"m\",provider=\"{id}\",source=\"upstream\",type=\"input\"}}"
        );
        assert!((proxy.metric(&counted) - 10.0).abs() < 0.1, "{id}: each provider's tokens count once");
    }
    let series = "demuxai_consensus_requests_total{combine=\"judge\",group=\"panel\",outcome=\"ok\"}";
    eventually("it is counted", || proxy.find_metric(series), |count| *count == Some(1.0));
    settled(&proxy, &["a", "b", "c"]);
}

#[test]
fn the_members_are_streamed_as_reasoning_while_they_speak_and_the_judge_as_content() {
    let a = upstream(|_| {
        Answer::events()
            .chunked()
            .event(chunk("Al", "null"))
            .gate("a")
            .event(chunk("pha", "null"))
            .event(chunk("", "\"stop\""))
            .event("[DONE]")
            .last_chunk()
    });
    let (b, judge) = (says("Beta"), says("Both."));
    let proxy = daemon(
        &[&a, &b, &judge],
        &format!(
            "{PANEL}\n[listeners.test]\naddress = \"127.0.0.1:0\"\nworkers = 1\ndrain = 1\nkeep_alive = \"50ms\"\n"
        ),
    );
    let asked_for = json!({"stream": true, "stream_options": {"include_usage": true}});
    let mut reading = proxy.open(PATH, &body(&asked_for));
    assert_eq!(reading.header("x-demuxai-provider"), Some("panel"));
    reading.until("\"reasoning_content\":");
    reading.until(": keep-alive\n");
    assert_eq!(asked(&judge), 0);
    a.open_gate("a");
    let got = reading.finish();
    assert!(got.complete && got.text().ends_with("data: [DONE]\n\n"), "{}", got.text());
    let reasoning = joined(&got, "reasoning_content");
    assert!(
        reasoning.contains("**a/m**\n\nAlpha\n\n") && reasoning.contains("**b/m**\n\nBeta\n\n"),
        "{reasoning}"
    );
    assert_eq!(joined(&got, "content"), "Both.");
    assert_eq!(got.text().matches("\"role\":\"assistant\"").count(), 1);
    assert_eq!(got.text().matches("\"finish_reason\":\"stop\"").count(), 1);
    let ids = got.text().matches("@panel\"").count();
    assert_eq!(ids, got.events().len() - 1, "every chunk has the one id");
    let last: Value = serde_json::from_str(&got.events()[got.events().len() - 2]).expect("JSON");
    assert_eq!((&last["choices"], &last["usage"]["completion_tokens"]), (&json!([]), &json!(4)), "{last}");
    let answered = "demuxai_requests_total{backend=\"panel\",endpoint=\"chat\",listener=\"test\",model=\"m\",outcome=\"ok\",provider=\"c\"}";
    eventually("the judge answered it", || proxy.find_metric(answered), |count| *count == Some(1.0));
    settled(&proxy, &["a", "b", "c"]);
}

#[test]
fn the_judge_fails_over_after_the_members_were_shown() {
    let (a, b, dead, judge) = (says("Alpha"), says("Beta"), failing(), says("Both."));
    let groups = "[groups.judges]\ntype = \"failover\"\nmembers = [\"c/m\", \"d/m\"]\n".to_owned()
        + &PANEL.replace("c/m", "judges");
    let proxy = daemon(&[&a, &b, &dead, &judge], &groups);
    let got = ask(&proxy, &json!({"stream": true}));
    assert_eq!((joined(&got, "content").as_str(), asked(&dead)), ("Both.", 1));
    assert!(joined(&got, "reasoning_content").contains("Alpha"));
}

#[test]
fn below_the_quorum_the_error_says_what_became_of_each() {
    let (a, b, judge) = (says("Alpha"), failing(), says("Both."));
    let proxy = daemon(&[&a, &b, &judge], PANEL);
    let got = ask(&proxy, &json!({}));
    assert_eq!(got.status, 503, "{}", got.text());
    let error = &got.json()["error"];
    assert_eq!(error["code"], "below_quorum");
    let message = error["message"].as_str().expect("a message");
    assert!(
        message.starts_with("1 of 2 members of `panel` answered, and 2 must (its `quorum`): "),
        "{message}"
    );
    let attempts = got.header("x-demuxai-attempts").expect("attempts");
    assert!(attempts.contains("a/m answered") && attempts.contains("b/m upstream_status"), "{attempts}");
    assert_eq!(asked(&judge), 0);
    let streamed = ask(&proxy, &json!({"stream": true}));
    assert!(joined(&streamed, "reasoning_content").contains("Alpha"), "{}", streamed.text());
    assert!(
        streamed.text().contains("below_quorum") && !streamed.text().contains("[DONE]"),
        "{}",
        streamed.text()
    );
    settled(&proxy, &["a", "b", "c"]);
}

#[test]
fn a_limit_that_holds_only_some_of_the_members_is_not_spent_on_them() {
    let (one, judge) = (says("Alpha"), says("Both."));
    let limit = "limits = [{ requests = 3, per = \"hour\" }]";
    let groups = "[groups.panel]\ntype = \"consensus\"\nmembers = [\"a/m\", \"a/m\"]\njudge = \"b/m\"\n";
    let proxy = daemon_with(&[(&one, limit), (&judge, "")], groups);
    assert_eq!(content(&ask(&proxy, &json!({}))), "Both.");
    assert_eq!(asked(&one), 2);
    // There is room for one more, and each of the two members sees it.
    let got = ask(&proxy, &json!({}));
    assert_eq!(got.status, 429, "{}", got.text());
    let wait: u64 = got.header("retry-after").expect("when").parse().expect("seconds");
    assert!((3500..=3610).contains(&wait), "{wait}");
    assert_eq!((asked(&one), asked(&judge)), (2, 1), "nobody was sent anything");
    settled(&proxy, &["a", "b"]);
    let alone = proxy.post(PATH, &body(&json!({"model": "a/m"})));
    assert_eq!(alone.status, 200, "what was not spent is still there: {}", alone.text());
}

#[test]
fn members_of_one_local_server_take_turns_where_it_has_one_place() {
    let (one, judge) = (says("Alpha"), says("Both."));
    // As members themselves, and behind a group, which waits for a place in its own way.
    for (member, times) in [("a/m", 2), ("local", 4)] {
        let groups = format!(
            "[groups.panel]\ntype = \"consensus\"\nmembers = [\"{member}\", \"{member}\"]\njudge = \"b/m\"\ndeadline = \"10s\"\n\
             [groups.local]\ntype = \"failover\"\nmembers = [\"a/m\"]\n"
        );
        let proxy = daemon_with(&[(&one, "max_in_flight = 1"), (&judge, "")], &groups);
        assert_eq!(content(&ask(&proxy, &json!({}))), "Both.", "{member}");
        assert_eq!(asked(&one), times);
    }
}

#[test]
fn refuse_asks_nobody_unless_all_can_be() {
    let (a, b, judge) = (says("Alpha"), says("Beta"), says("Both."));
    let groups = format!("{PANEL}quorum = 1\non_quota = \"refuse\"\n");
    let proxy =
        daemon_with(&[(&a, "limits = [{ requests = 1, per = \"hour\" }]"), (&b, ""), (&judge, "")], &groups);
    assert_eq!(content(&ask(&proxy, &json!({}))), "Both.");
    let got = ask(&proxy, &json!({}));
    assert_eq!((got.status, asked(&b), asked(&judge)), (429, 1, 1), "{}", got.text());
    assert!(got.error().contains("it waits for `a/m`"), "{}", got.error());
    assert_eq!(got.header("x-should-retry"), Some("false"));
}

#[test]
fn a_straggler_is_cancelled_and_a_client_that_leaves_cancels_all() {
    let (a, b, judge) = (says("Alpha"), hanging("Be"), says("Both."));
    let groups = format!("{PANEL}quorum = 1\ngrace = \"50ms\"\n");
    let proxy = daemon(&[&a, &b, &judge], &groups);
    let began = Instant::now();
    assert_eq!(content(&ask(&proxy, &json!({}))), "Both.");
    assert!(began.elapsed() < Duration::from_secs(5));
    settled(&proxy, &["b"]);
    eventually("the upstream sees it", || b.counts().cancelled, |left| *left == 1);
    let (a, b) = (hanging("Al"), hanging("Be"));
    let proxy = daemon(&[&a, &b, &judge], PANEL);
    let mut reading = proxy.open(PATH, &body(&json!({"stream": true})));
    reading.until("reasoning_content");
    reading.leave();
    eventually(
        "both upstreams see it",
        || (a.counts().cancelled, b.counts().cancelled),
        |left| *left == (1, 1),
    );
    settled(&proxy, &["a", "b"]);
    let series = "demuxai_consensus_requests_total{combine=\"judge\",group=\"panel\",outcome=\"cancelled\"}";
    eventually("it is counted", || proxy.find_metric(series), |count| *count == Some(1.0));
}

#[test]
fn a_client_that_leaves_while_the_judge_speaks_leaves_the_judge() {
    let (a, b, judge) = (says("Alpha"), says("Beta"), hanging("Bo"));
    let proxy = daemon(&[&a, &b, &judge], PANEL);
    let mut reading = proxy.open(PATH, &body(&json!({"stream": true})));
    reading.until("\"content\":\"Bo\"");
    reading.leave();
    eventually("the judge's upstream sees it", || judge.counts().cancelled, |left| *left == 1);
    let left = "demuxai_requests_total{backend=\"panel\",endpoint=\"chat\",listener=\"test\",model=\"m\",outcome=\"cancelled\",provider=\"c\"}";
    eventually("it was the judge's request", || proxy.find_metric(left), |count| *count == Some(1.0));
    settled(&proxy, &["a", "b", "c"]);
}

#[test]
fn when_the_daemon_ends_a_panel_ends_with_an_error_and_is_counted_so() {
    let (a, b, judge) = (hanging("Al"), hanging("Be"), says("Both."));
    let proxy = daemon(&[&a, &b, &judge], PANEL);
    let mut reading = proxy.open(PATH, &body(&json!({"stream": true})));
    reading.until("reasoning_content");
    let handle = proxy.handle.clone();
    let draining =
        std::thread::spawn(move || actix_rt::System::new().block_on(async move { handle.drain().await }));
    let got = reading.finish();
    draining.join().expect("it drains");
    assert!(got.text().contains("shutting down") && !got.text().contains("[DONE]"), "{}", got.text());
    let text = String::from_utf8(proxy.handle.metrics().encode().expect("metrics")).expect("text");
    for id in ["a", "b"] {
        let series = format!("demuxai_stream_ends_total{{provider=\"{id}\",reason=\"shutdown\"}} 1");
        assert!(text.contains(&series), "{text}");
        eventually(
            "the upstream sees it",
            || if id == "a" { a.counts() } else { b.counts() },
            |counts| counts.cancelled == 1,
        );
    }
}

#[test]
fn tools_and_several_answers_go_to_the_judge_alone_and_other_endpoints_are_refused() {
    let (a, b, judge) = (says("Alpha"), says("Beta"), says("Both."));
    let proxy = daemon(&[&a, &b, &judge], PANEL);
    let got = ask(&proxy, &json!({"tools": [{"type": "function", "function": {"name": "f"}}]}));
    assert_eq!((content(&got).as_str(), got.header("x-demuxai-edits")), ("Both.", Some("judge-alone:tools")));
    let got = ask(&proxy, &json!({"n": 2}));
    assert_eq!(got.header("x-demuxai-edits"), Some("judge-alone:n"));
    assert_eq!((asked(&a), asked(&b), asked(&judge)), (0, 0, 2));
    for (path, body) in [
        ("/v1/embeddings", r#"{"model":"panel","input":"x"}"#),
        ("/v1/completions", r#"{"model":"panel","prompt":"x"}"#),
        ("/v1/fim/completions", r#"{"model":"panel","prompt":"x","suffix":"y"}"#),
    ] {
        let got = proxy.post(path, body);
        assert_eq!(got.status, 400, "{path}: {}", got.text());
        assert!(
            got.error().contains("`panel` is a panel of models and answers chats alone"),
            "{}",
            got.error()
        );
    }
}

#[test]
fn a_vote_needs_no_judge() {
    let (a, b, c) = (says(r#"{"x": 1}"#), says("{\"x\":1}"), says("no"));
    let groups = "[groups.panel]\ntype = \"consensus\"\ncombine = \"majority\"\nmembers = [\"a/m\", \"b/m\", \"c/m\"]\n";
    let proxy = daemon(&[&a, &b, &c], groups);
    let said = content(&ask(&proxy, &json!({})));
    assert_eq!(serde_json::from_str::<Value>(&said).expect("JSON"), json!({"x": 1}));
    let streamed = ask(&proxy, &json!({"stream": true, "stream_options": {"include_usage": true}}));
    assert!(streamed.text().ends_with("data: [DONE]\n\n") && !streamed.text().contains("reasoning_content"));
    assert!(streamed.text().contains("\"x_demuxai\""), "{}", streamed.text());
}

#[test]
fn a_panel_is_in_the_model_list_and_has_a_place_in_other_groups() {
    let (a, dead, judge, other) = (says("Alpha"), failing(), says("Both."), says("Other."));
    let groups = format!(
        "{PANEL}show = \"nothing\"\n[groups.outer]\ntype = \"failover\"\nmembers = [\"panel\", \"d/m\"]\n"
    );
    let proxy = daemon(&[&a, &dead, &judge, &other], &groups);
    let list = proxy.get("/v1/models").json();
    let entry = list["data"].as_array().expect("a list").iter().find(|entry| entry["id"] == "panel");
    let entry = entry.expect("is listed");
    assert_eq!(entry["members"], json!(["a/m", "b/m", "c/m"]));
    assert_eq!(entry["capabilities"]["completion_fim"], json!(false), "a panel chats: {entry}");
    let got = ask(&proxy, &json!({"model": "outer"}));
    assert_eq!((content(&got).as_str(), got.header("x-demuxai-provider")), ("Other.", Some("d")));
    let attempts = got.header("x-demuxai-attempts").expect("attempts");
    assert!(attempts.contains("b/m upstream_status") && attempts.ends_with("d ok"), "{attempts}");
    settled(&proxy, &["a", "b", "c", "d"]);
}

#[test]
fn the_log_tells_what_became_of_the_members_and_nothing_of_what_was_said() {
    let (a, b, judge) = (says("ANSWER-A"), failing(), says("ANSWER-J"));
    let tables: Vec<String> = [("a", &a), ("b", &b), ("c", &judge)]
        .iter()
        .map(|(id, fake)| provider(id, "openai", &fake.url()))
        .collect();
    let log = "[log]\nlevel = \"debug\"\nformat = \"json\"\n";
    let program = Program::serve(&format!("{}{PANEL}quorum = 1\n{log}", tables.concat()));
    program.until_ready();
    let prompt = json!([{"role": "user", "content": "PROMPT-TEXT"}]);
    let got = client::post(program.address(), PATH, &body(&json!({"messages": prompt})));
    assert_eq!(content(&got), "ANSWER-J");
    let lines = |message: &str| -> Vec<Value> {
        let log = program.stderr();
        let whole = log.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        let parsed = whole.map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        parsed.filter(|line| line["message"] == message).collect()
    };
    let request = eventually("it is told", || lines("request"), |lines| lines.len() == 1).remove(0);
    assert_eq!(
        (&request["group"], &request["provider"], &request["outcome"]),
        (&json!("panel"), &json!("c"), &json!("ok"))
    );
    assert_eq!(
        (&request["input_tokens"], &request["output_tokens"]),
        (&json!(20), &json!(4)),
        "the sum: {request}"
    );
    let panel = eventually("the panel is told", || lines("panel"), |lines| lines.len() == 1).remove(0);
    assert_eq!((&panel["members"], &panel["combine"]), (&json!("a/m answered, b/m failed"), &json!("judge")));
    let log = program.stderr();
    assert!(!log.contains("ANSWER-") && !log.contains("PROMPT-TEXT"), "{log}");
}

#[test]
fn an_answer_without_a_finish_reason_is_none_and_no_reason_is_invented_for_it() {
    let a =
        upstream(|_| Answer::events().chunked().event(chunk("Alpha", "null")).event("[DONE]").last_chunk());
    let b = says("Beta");
    let proxy = daemon(
        &[&a, &b],
        "[groups.panel]\ntype = \"consensus\"\nmembers = [\"a/m\", \"b/m\"]\ncombine = \"longest\"\nquorum = 1\n",
    );
    let got = ask(&proxy, &json!({}));
    assert_eq!(content(&got), "Beta", "it would be the longest");
    let attempts = got.header("x-demuxai-attempts").expect("attempts");
    assert!(attempts.contains("a/m upstream_protocol"), "{attempts}");
    drop(b);
    let proxy =
        daemon(&[&a], "[groups.panel]\ntype = \"consensus\"\nmembers = [\"a/m\"]\ncombine = \"first\"\n");
    let failed = ask(&proxy, &json!({}));
    assert_eq!(failed.status, 503, "{}", failed.text());
    assert!(failed.error().contains("without a finish reason"), "{}", failed.error());
}

#[test]
fn a_panels_member_that_cannot_be_reached_is_told_so_and_lacks_no_quota() {
    let a = says("Alpha");
    let mute = upstream(|_| Answer::events().chunked().event("[DONE]").last_chunk());
    let proxy = daemon(
        &[&a, &mute],
        &format!(
            r#"
[providers.gone]
type = "openai"
url = "{}"
[groups.panel]
type = "consensus"
members = ["a/m", "b/m", "gone/m"]
judge = "a/m"
quorum = 2
[groups.all]
type = "consensus"
members = ["a/m", "gone/m"]
judge = "a/m"
on_quota = "refuse"
"#,
            nowhere()
        ),
    );
    eventually("it is missed", || proxy.status_of("gone"), |status| status["health"] == "unreachable");
    for panel in ["panel", "all"] {
        let failed = several::chat(&proxy, panel, several::SMALL);
        assert_eq!((failed.status, failed.header("retry-after")), (503, None), "{}", failed.text());
        let attempts = failed.header("x-demuxai-attempts").expect("attempts").to_owned();
        assert!(attempts.contains("gone/m connect"), "{attempts}");
        assert!(failed.error().contains("cannot connect to"), "{}", failed.error());
        assert!(!failed.error().contains("capacity"), "{}", failed.error());
    }
}

/// The status of each of so many requests to the panel that are made at once, once all of them have ended.
fn statuses(proxy: &Proxy, panel: &str, count: usize) -> Vec<u16> {
    let body = format!(r#"{{"model":"{panel}","messages":[{{"role":"user","content":"hi"}}]}}"#);
    std::thread::scope(|scope| {
        let asking: Vec<_> = (0..count).map(|_| scope.spawn(|| proxy.post(PATH, &body).status)).collect();
        let mut statuses: Vec<u16> = asking.into_iter().map(|one| one.join().expect("an answer")).collect();
        statuses.sort_unstable();
        statuses
    })
}

/// One that says this when its gate is opened.
fn gated(text: &'static str) -> Fake {
    upstream(move |received| Script::new().gate("go").then(answer(text, received)))
}

#[test]
fn who_gets_no_place_at_a_scarce_judge_spends_nothing_of_the_members() {
    for (combine, on_quota) in [("judge", "shrink"), ("best", "refuse")] {
        // Nobody has answered before all have asked.
        let (a, b, judge) = (gated("one"), gated("two"), says("1"));
        let proxy = daemon_with(
            &[(&a, ""), (&b, ""), (&judge, "limits = [{ requests = 1, per = \"day\" }]")],
            &format!(
                "[groups.panel]\ntype = \"consensus\"\nmembers = [\"a/m\", \"b/m\"]\njudge = \"c/m\"\ncombine = \"{combine}\"\non_quota = \"{on_quota}\"\n"
            ),
        );
        std::thread::scope(|scope| {
            let asking = scope.spawn(|| statuses(&proxy, "panel", 4));
            let refused =
                "demuxai_consensus_requests_total{combine=\"COMBINE\",group=\"panel\",outcome=\"refused\"}";
            let refused = refused.replace("COMBINE", combine);
            eventually(
                "all but one are refused",
                || proxy.find_metric(&refused),
                |count| *count == Some(3.0),
            );
            a.open_gate("go");
            b.open_gate("go");
            assert_eq!(asking.join().expect("statuses"), [200, 429, 429, 429]);
        });
        assert_eq!([asked(&a), asked(&b), asked(&judge)], [1, 1, 1], "{combine}");
        let body = r#"{"model":"panel","messages":[]}"#;
        let error = proxy.post(PATH, body);
        assert_eq!((error.status, &error.json()["error"]["code"]), (429, &Value::from("refused")));
        assert!(error.error().contains("its judge has no capacity"), "{}", error.error());
        assert!(error.header("retry-after").is_some());
    }
}

#[test]
fn requests_wait_for_the_one_place_of_a_judge_before_their_members_are_asked() {
    let (a, b, judge) = (says("one"), says("two"), gated("final"));
    let proxy = daemon_with(
        &[(&a, ""), (&b, ""), (&judge, "max_in_flight = 1")],
        "[groups.panel]\ntype = \"consensus\"\nmembers = [\"a/m\", \"b/m\"]\njudge = \"pool\"\n[groups.pool]\ntype = \"failover\"\nmembers = [\"c/m\"]\n",
    );
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| statuses(&proxy, "panel", 3));
        eventually("the judge is asked", || asked(&judge), |count| *count == 1);
        let waiting = || proxy.status_of("c")["waiting"].clone();
        eventually("the others wait for it", waiting, |count| *count == 2);
        assert_eq!([asked(&a), asked(&b)], [1, 1]);
        judge.open_gate("go");
        assert_eq!(asking.join().expect("statuses"), [200, 200, 200]);
    });
    assert_eq!([asked(&a), asked(&b), asked(&judge)], [3, 3, 3]);
    eventually("nothing is held", || proxy.status_of("c")["in_flight"].clone(), |count| *count == 0);
}

#[test]
fn a_judge_that_is_a_member_as_well_needs_no_second_place() {
    let (a, b) = (says("one"), says("two"));
    let proxy = daemon_with(
        &[(&a, "max_in_flight = 1"), (&b, "")],
        "[groups.panel]\ntype = \"consensus\"\nmembers = [\"a/m\", \"b/m\"]\njudge = \"a/m\"\nquorum = 2\n",
    );
    assert_eq!(statuses(&proxy, "panel", 3), [200, 200, 200]);
    assert_eq!([asked(&a), asked(&b)], [6, 3]);
}

#[test]
fn a_member_s_account_that_has_nothing_left_for_the_judge_is_not_asked() {
    let (a, b) = (says("one"), says("two"));
    let proxy = daemon_with(
        &[(&a, "limits = [{ requests = 1, per = \"day\" }]"), (&b, "")],
        "[groups.panel]\ntype = \"consensus\"\nmembers = [\"a/m\", \"b/m\"]\njudge = \"a/m\"\nquorum = 2\n",
    );
    assert_eq!(statuses(&proxy, "panel", 1), [429]);
    assert_eq!([asked(&a), asked(&b)], [0, 0]);
}
