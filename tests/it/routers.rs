//! Routers: which way a request goes and what the client is told of it, how they nest with groups, and what happens
//! where no route matches. The whole daemon in front of scripted upstreams.

use demuxai::demo::{Answer, Fake};

use super::support::client;
use super::support::program::Program;
use super::support::proxy::{Proxy, provider};
use super::support::several::{PATH, ask_with, chat, daemon, failing, good, says};
use super::support::upstreams::last_call;
use super::support::{asked, content, eventually};

#[test]
fn each_request_goes_the_first_way_that_matches_and_is_told_which() {
    let (a, b, c) = (good("a"), good("b"), good("c"));
    let proxy = daemon(
        &[&a, &b, &c],
        r#"
[routers.auto]
routes = [
    { endpoint = "embedding", to = "a/m" },
    { has = ["tools", "response_format"], to = "b/m" },
    { input_tokens = ">1000", not = { has = "images" }, to = "c/m" },
    { to = "a/m" },
]
"#,
    );
    let long = format!(r#","messages2":0,"user":"{}""#, "x".repeat(9000));
    assert_eq!(content(&chat(&proxy, "auto", &long)), "a", "only the prompt counts");
    let tools = chat(&proxy, "auto", r#","tools":[{"type":"function","function":{"name":"f"}}]"#);
    assert_eq!(content(&tools), "b");
    assert_eq!(tools.header("x-demuxai-route"), Some("auto 2"));
    assert_eq!(tools.header("x-demuxai-provider"), Some("b"));
    assert_eq!(tools.json()["model"], "b/m");
    let prompt = "x".repeat(9000);
    let long = proxy
        .post(PATH, &format!(r#"{{"model":"auto","messages":[{{"role":"user","content":"{prompt}"}}]}}"#));
    assert_eq!(content(&long), "c");
    let embedded = proxy.post("/v1/embeddings", r#"{"model":"auto","input":"x"}"#);
    assert_eq!((embedded.status, embedded.header("x-demuxai-route")), (200, Some("auto 1")));
    let streamed = chat(&proxy, "auto", r#","stream":true"#);
    assert!(streamed.complete && streamed.text().contains("\"content\":\"a\""), "{}", streamed.text());
    assert_eq!(streamed.header("x-demuxai-route"), Some("auto 4"));
    let series = "demuxai_routed_requests_total{route=\"4\",router=\"auto\",to=\"a/m\"}";
    assert!((proxy.metric(series) - 2.0).abs() < 0.1);
    let requests = "demuxai_requests_total{backend=\"auto\",endpoint=\"chat\",listener=\"test\",model=\"m\",outcome=\"ok\",provider=\"b\"}";
    eventually("it is counted for the router", || proxy.find_metric(requests), |count| *count == Some(1.0));
}

#[test]
fn a_request_that_no_route_takes_is_told_so_and_how_to_add_one_that_does() {
    let a = good("a");
    let proxy = daemon(&[&a], "[routers.auto]\nroutes = [{ endpoint = \"fim\", to = \"a/m\" }]\n");
    let refused = chat(&proxy, "auto", "");
    assert_eq!(refused.status, 400, "{}", refused.text());
    let message = refused.error();
    assert!(message.contains("router `auto`") && message.contains("{ to = \"BACKEND\" }"), "{message}");
    assert_eq!(refused.json()["error"]["code"], "no_route_matches");
    assert_eq!(refused.header("x-demuxai-route"), Some("auto none"));
    assert_eq!(asked(&a), 0);
    let series = "demuxai_routed_requests_total{route=\"none\",router=\"auto\",to=\"none\"}";
    assert!((proxy.metric(series) - 1.0).abs() < 0.1);
}

#[test]
fn clients_listeners_headers_and_paths_decide() {
    let (a, b, c) = (good("a"), good("b"), good("c"));
    let proxy = daemon(
        &[&a, &b, &c],
        r#"
[keys.ide]
key = "ide-key"
[keys.phone]
key = "phone-key"
[routers.auto]
routes = [
    { client = "ide", to = "a/m" },
    { header = { X-Team = ["ml-*", "ops"] }, listener = "test", to = "b/m" },
    { path = "/chat/*", to = "a/m" },
    { to = "c/m" },
]
"#,
    );
    let ide = ("authorization", "Bearer ide-key");
    let phone = ("authorization", "Bearer phone-key");
    assert_eq!(content(&ask_with(&proxy, &[ide], "auto")), "a");
    assert_eq!(content(&ask_with(&proxy, &[phone], "auto")), "c");
    assert_eq!(content(&ask_with(&proxy, &[phone, ("x-team", "ml-vision")], "auto")), "b");
    assert_eq!(content(&ask_with(&proxy, &[phone, ("x-team", "web")], "auto")), "c");
    let body = r#"{"model":"auto","messages":[{"role":"user","content":"hi"}]}"#;
    let short =
        client::open(proxy.address, "POST", "//chat/completions/", &[phone], body.as_bytes()).finish();
    assert_eq!(content(&short), "a");
    let up: Vec<_> = b.received().into_iter().filter(|received| received.method == "POST").collect();
    assert!(
        up.iter().all(|received| received.header("x-team").is_none()),
        "what decides here goes no further"
    );
}

#[test]
fn the_model_that_is_asked_for_is_renamed_passed_on_or_denied() {
    let (a, b) = (good("a"), good("b"));
    let proxy = daemon(
        &[&a, &b],
        r#"
[routers.auto]
routes = [
    { model = "gpt-*", to = "a/m" },
    { endpoint = "chat", to = "b" },
    { to = "a/m" },
]
[routers.fixed]
routes = [{ endpoint = "chat", to = "a/m" }, { to = "b" }]
"#,
    );
    let renamed = chat(&proxy, "auto/gpt-4o", "");
    assert_eq!((content(&renamed).as_str(), renamed.json()["model"].as_str()), ("a", Some("a/m")));
    let passed = chat(&proxy, "auto/other", "");
    assert_eq!(content(&passed), "b");
    let up = last_call(&b);
    assert_eq!(up.json()["model"], "other");
    let nobody = chat(&proxy, "auto/nothing", "");
    assert_eq!(nobody.status, 404, "{}", nobody.text());
    let unnamed = chat(&proxy, "auto", "");
    assert_eq!(unnamed.status, 400, "{}", unnamed.text());
    let message = unnamed.error();
    assert!(message.contains("route 2 of router `auto`") && message.contains("`auto/MODEL`"), "{message}");
    let another = chat(&proxy, "fixed/other", "");
    assert_eq!(another.status, 400, "{}", another.text());
    assert!(another.error().contains("goes to `a/m`, which is not `other`"), "{}", another.error());
    assert_eq!(content(&chat(&proxy, "fixed/m", "")), "a", "its own model is no other");
}

#[test]
fn routers_groups_and_providers_nest_in_each_other() {
    let (bad, b, c) = (failing(500), good("b"), good("c"));
    let proxy = daemon(
        &[&bad, &b, &c],
        r#"
[routers.outer]
routes = [{ has = "tools", to = "inner" }, { to = "mixed" }]
[routers.inner]
routes = [{ model = "outer*", to = "safe" }]
[routers.never]
routes = [{ endpoint = "fim", to = "c/m" }]
[groups.safe]
type = "failover"
members = ["a/m", "b/m"]
[groups.mixed]
type = "failover"
members = ["never", "other", "c/m"]
[routers.other]
routes = [{ to = "a/m" }]
"#,
    );
    let tools = chat(&proxy, "outer", r#","tools":[{"type":"function","function":{"name":"f"}}]"#);
    assert_eq!(content(&tools), "b");
    assert_eq!(tools.header("x-demuxai-route"), Some("outer 1, inner 1"));
    assert_eq!(tools.header("x-demuxai-attempts"), Some("a/m upstream_status, b ok"));
    let mixed = chat(&proxy, "outer", "");
    assert_eq!(content(&mixed), "c");
    assert_eq!(mixed.header("x-demuxai-attempts"), Some("never skipped, other upstream_status, c ok"));
    assert_eq!(mixed.header("x-demuxai-route"), Some("outer 2, other 1"));
}

#[test]
fn what_is_left_of_a_quota_decides() {
    let (a, b) = (good("a"), good("b"));
    let text = format!(
        "{}limits = [{{ requests = 4, per = \"day\" }}]\n{}{}",
        provider("a", "openai", &a.url()),
        provider("b", "openai", &b.url()),
        r#"
[routers.auto]
routes = [
    { quota = { of = "a", left = ">=60%" }, to = "a/m" },
    { quota = { of = "a", state = "exhausted" }, to = "b/other" },
    { has = "reasoning", to = "a/m" },
    { to = "b/m" },
]
[state]
path = "none"
"#
    );
    let proxy = Proxy::start(&text);
    for id in ["a", "b"] {
        proxy.until_up(id);
    }
    let mut answers = Vec::new();
    for _ in 0..3 {
        answers.push(content(&chat(&proxy, "auto", "")));
    }
    assert_eq!(answers, ["a", "a", "b"], "two of four are more than is to be left");
    for _ in 0..2 {
        assert_eq!(content(&chat(&proxy, "auto", r#","reasoning_effort":"low""#)), "a");
    }
    let last = chat(&proxy, "auto", r#","reasoning_effort":"low""#);
    assert_eq!((content(&last).as_str(), last.header("x-demuxai-route")), ("b", Some("auto 2")));
    assert_eq!(asked(&a), 4);
}

#[test]
fn the_line_of_a_request_says_which_way_it_went_and_nothing_of_what_decided() {
    let a = good("a");
    let text = format!(
        "{}[routers.auto]\nroutes = [{{ regex = \"PROMPT\", header = {{ x-team = \"HEADER*\" }}, to = \"a/m\" }}]\n\
         [log]\nformat = \"json\"\n",
        provider("a", "openai", &a.url())
    );
    let program = Program::serve(&text);
    program.until_ready();
    let body = r#"{"model":"auto","messages":[{"role":"user","content":"PROMPT-TEXT"}]}"#;
    let headers = [("x-team", "HEADER-TEXT"), ("authorization", "Bearer any-key")];
    let told = client::open(program.address(), "POST", PATH, &headers, body.as_bytes()).finish();
    assert_eq!(content(&told), "a");
    let line = || {
        let log = program.stderr();
        log.lines().find(|line| line.contains("\"message\":\"request\"")).map(str::to_owned)
    };
    let line = eventually("it is told", line, Option::is_some).expect("a line");
    let line: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!((&line["router"], &line["route"]), (&"auto".into(), &"auto 1".into()), "{line}");
    assert!(line.get("group").is_none(), "{line}");
    let log = program.stderr();
    assert!(
        !log.contains("PROMPT-TEXT") && !log.contains("HEADER-TEXT") && !log.contains("any-key"),
        "{log}"
    );
}

#[test]
fn a_router_is_in_the_model_list_with_its_routes() {
    let (a, b) = (good("a"), good("b"));
    let proxy = daemon(
        &[&a, &b],
        "[routers.auto]\nname = \"Auto\"\ndescription = \"the right one\"\nroutes = [{ endpoint = \"fim\", to = \"a/m\" }, { to = \"b/m\" }]\n",
    );
    let list = proxy.get("/v1/models").json();
    let entries = list["data"].as_array().expect("a list");
    let entry = entries.iter().find(|entry| entry["id"] == "auto").expect("it is listed");
    assert_eq!(entry["routes"], serde_json::json!(["a/m", "b/m"]));
    assert_eq!(entry["owned_by"], "demuxai");
    assert_eq!(proxy.get("/v1/models/auto").json()["id"], "auto");
    let near = chat(&proxy, "autoo", "");
    assert!(near.status == 404 && near.error().contains("`auto`"), "{}", near.text());
}

/// Conditions for now and for any other time, as what lies about this moment, hours wide, so that no test runs across
/// an edge of it.
fn now_and_other_times() -> Vec<(String, String)> {
    let hour = |zone: &str, add: i64| {
        let then = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(add);
        format!("{:02}:00", jiff::tz::TimeZone::get(zone).expect("a zone").to_datetime(then).hour())
    };
    let day = |add: i64| {
        let then = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24 * add);
        jiff::tz::TimeZone::UTC.to_datetime(then).strftime("%a").to_string().to_lowercase()
    };
    let hours = |zone: &str, from: i64, to: i64| {
        format!(r#"{{ from = "{}", to = "{}", time_zone = "{zone}" }}"#, hour(zone, from), hour(zone, to))
    };
    let days = |from: i64, to: i64| format!(r#"{{ days = "{}-{}" }}"#, day(from), day(to));
    vec![
        (hours("UTC", -3, 4), hours("UTC", 5, 20)),
        (hours("Asia/Tokyo", -3, 4), hours("Asia/Tokyo", 5, 20)),
        (days(-1, 1), days(2, -2)),
    ]
}

#[test]
fn the_hour_and_the_day_decide_by_the_daemon_s_clock_in_the_zone_that_is_named() {
    let (a, b) = (good("a"), good("b"));
    let mut routers = String::new();
    for (number, (now, other)) in now_and_other_times().into_iter().enumerate() {
        routers += &format!(
            "[routers.r{number}]\nroutes = [{{ time = {other}, to = \"b/m\" }}, {{ time = {now}, to = \"a/m\" }}]\n"
        );
    }
    let proxy = daemon(&[&a, &b], &routers);
    for number in 0..3 {
        let told = chat(&proxy, &format!("r{number}"), "");
        let route = format!("r{number} 2");
        assert_eq!(told.header("x-demuxai-route"), Some(&*route), "{routers}\n{}", told.text());
    }
    assert_eq!((asked(&a), asked(&b)), (3, 0));
}

#[test]
fn what_a_route_sets_is_what_its_target_gets_and_the_client_is_told() {
    let (a, b) = (good("a"), good("b"));
    let proxy = daemon(
        &[&a, &b],
        r#"
[routers.auto]
routes = [
    { language = "python", to = "safe", set = { temperature = 0.1, stop = ["END"] } },
    { to = "b/m", set = { reasoning_effort = "low" } },
]
[groups.safe]
type = "failover"
members = [{ to = "a/m", set = { top_p = 0.5 } }]
"#,
    );
    let python = r#"{"model":"auto","temperature":1.0,"messages":[{"role":"user","content":"Why?\n```python\nx = 1\n```"}]}"#;
    let told = proxy.post(PATH, python);
    assert_eq!(content(&told), "a");
    let edits = told.header("x-demuxai-edits").unwrap_or_default();
    for edit in ["set:temperature", "set:stop", "set:top_p"] {
        assert!(edits.contains(edit), "{edit}: {edits}");
    }
    let last = |fake: &Fake| fake.received().into_iter().rfind(|received| received.method == "POST");
    let up = last(&a).expect("it was asked").json();
    assert_eq!((&up["temperature"], &up["top_p"], &up["stop"][0]), (&0.1.into(), &0.5.into(), &"END".into()));
    let told = chat(&proxy, "auto", "");
    assert_eq!(told.header("x-demuxai-edits"), Some("set:reasoning_effort"));
    let up = last(&b).expect("it was asked").json();
    assert_eq!((&up["reasoning_effort"], &up["temperature"]), (&"low".into(), &serde_json::Value::Null));
}

#[test]
fn a_prompt_s_length_is_told_by_what_upstreams_reported_of_others() {
    // Two bytes to a token, as of a script that the tokenizer hardly knows.
    let dense = Fake::start(|received| {
        if received.path().ends_with("/models") {
            return says("", received);
        }
        let tokens = received.body.len() / 2;
        Answer::json(200).body(format!(
            r#"{{"id":"c","object":"chat.completion","model":"m","choices":[{{"index":0,"message":{{"role":"assistant","content":"a"}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":{tokens},"completion_tokens":5,"total_tokens":{}}}}}"#,
            tokens + 5
        ))
    })
    .expect("fake upstream starts");
    let b = good("b");
    let proxy = daemon(
        &[&dense, &b],
        "[routers.auto]\nroutes = [{ input_tokens = \">1000\", to = \"b/m\" }, { to = \"a/m\" }]\n",
    );
    let prompt = "x".repeat(3000);
    let body = format!(r#"{{"model":"auto","messages":[{{"role":"user","content":"{prompt}"}}]}}"#);
    assert_eq!(content(&proxy.post(PATH, &body)), "a", "750 at four bytes a token");
    eventually("it is learned", || content(&proxy.post(PATH, &body)), |name| name == "b");
}
