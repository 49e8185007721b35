//! What `demuxai explain` foretells of modifiers and of the limits of clients' keys: what a limit or a budget has left and
//! whether this request overflows, what a cache has, what is changed, copied or answered by itself.

use demuxai::demo::{Answer, Fake};
use serde_json::{Value, json};

use super::support::client::{self, Answer as Got};
use super::support::program::Home;
use super::support::proxy::{Proxy, provider};
use super::support::several::gated;
use super::support::{asked, eventually};

const CHAT: &str = "/v1/chat/completions";

fn good(name: &'static str) -> Fake {
    let start = Fake::start(move |received| {
        if received.path().ends_with("/models") {
            return Answer::json(200).body(
                r#"{"object":"list","data":[{"id":"m","object":"model"},{"id":"other","object":"model"}]}"#,
            );
        }
        if String::from_utf8_lossy(&received.body).contains("\"stream\":true") {
            return Answer::events()
                .chunked()
                .event(format!(
                    r#"{{"id":"c","object":"chat.completion.chunk","model":"m","choices":[{{"index":0,"delta":{{"content":"{name}"}},"finish_reason":"stop"}}]}}"#
                ))
                .event("[DONE]")
                .last_chunk();
        }
        Answer::json(200).body(format!(
            r#"{{"id":"c","object":"chat.completion","model":"m","choices":[{{"index":0,"message":{{"role":"assistant","content":"{name}"}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":3,"completion_tokens":5,"total_tokens":8}}}}"#
        ))
    });
    start.expect("fake upstream starts")
}

fn daemon(fakes: &[&Fake], more: &str) -> Proxy {
    let tables = ["a", "b", "c"].iter().zip(fakes).map(|(id, fake)| provider(id, "openai", &fake.url()));
    let proxy =
        Proxy::start(&format!("{}{more}\n[state]\npath = \"none\"\n", tables.collect::<Vec<_>>().concat()));
    for (id, _) in ["a", "b", "c"].iter().zip(fakes) {
        eventually("the provider is up", || proxy.status_of(id), |status| status["health"] == "up");
    }
    proxy
}

fn explained(proxy: &Proxy, question: &Value) -> Value {
    let answer = proxy.post("/demuxai/explain", &question.to_string());
    assert_eq!(answer.status, 200, "{question}: {}", answer.text());
    answer.json()
}

/// Asks what would become of a request, then sends it: both must say the same.
fn foretold(proxy: &Proxy, model: &str, more: &str, headers: &[(&str, &str)]) -> (Value, Got) {
    let body = format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"hi"}}]{more}}}"#);
    let said = explained(proxy, &json!({"body": body, "headers": headers}));
    let got = client::open(proxy.address, "POST", CHAT, headers, body.as_bytes()).finish();
    let prediction = &said["prediction"];
    assert_eq!(prediction["sure"], true, "{model}: {said}");
    if got.status == 200 {
        for (key, header) in [("provider", "x-demuxai-provider"), ("attempts", "x-demuxai-attempts")] {
            assert_eq!(prediction[key].as_str(), got.header(header), "{model}, {header}: {said}");
        }
        assert_eq!(prediction["model"].as_str(), got.header("x-demuxai-model"), "{model}: {said}");
    } else {
        assert_eq!(prediction["provider"], Value::Null, "{model}: {said}: {}", got.text());
        assert_eq!(prediction["error"], got.json()["error"]["code"], "{model}: {said}");
    }
    (said, got)
}

fn why(step: &Value) -> String {
    let lines = step["why"].as_array().expect("reasons").iter().filter_map(Value::as_str);
    lines.collect::<Vec<_>>().join("; ")
}

#[test]
fn a_limit_says_what_is_left_of_it_and_foretells_its_overflow() {
    let fakes = ["a", "b"].map(good);
    let [a, b] = &fakes;
    let proxy = daemon(
        &[a, b],
        r#"
[groups.few]
type = "limit"
to = "a/m"
by = "group"
limits = [{ requests = 2, per = "day" }]
overflow = "b/m"
[groups.hard]
type = "limit"
to = "a/m"
by = "header:x-team"
limits = [{ requests = 1, per = "day" }]
[groups.pool]
type = "failover"
members = ["hard", "few"]
"#,
    );
    let (first, _) = foretold(&proxy, "few", "", &[]);
    assert!(why(&first["step"]).contains("group `few`: 2 of 2 requests per day left; "), "{first}");
    assert!(why(&first["step"]).contains("this request is within them"), "{first}");
    foretold(&proxy, "few", "", &[]);
    let (third, got) = foretold(&proxy, "few", "", &[]);
    assert_eq!(got.header("x-demuxai-attempts"), Some("few quota_exhausted, b ok"));
    let step = &third["step"];
    assert!(why(step).contains("group `few`: 0 of 2 requests per day left, whole again at 20"), "{third}");
    assert!(
        why(step).contains("group `few` has used up 2 requests per day (`limits` of group `few`)"),
        "{step}"
    );
    assert!(why(step).contains("its overflow answers"), "{step}");
    assert_eq!((&step["ways"][0]["turn"], &step["ways"][1]["turn"]), (&json!("passed"), &json!("asked")));

    let ml = [("x-team", "ml")];
    foretold(&proxy, "pool", "", &ml);
    let (over, got) = foretold(&proxy, "hard", "", &ml);
    assert_eq!((got.status, &over["step"]["state"]), (429, &json!("later")));
    assert!(why(&over["step"]).contains("`x-team: ml`: 0 of 1 requests per day left"), "{over}");
    assert!(over["step"]["until"].as_str().is_some_and(|until| until.starts_with("20")), "{over}");
    let (_, others) = foretold(&proxy, "hard", "", &[("x-team", "web")]);
    assert_eq!(others.status, 200, "each value has its own");
    foretold(&proxy, "pool", "", &ml);
    // In two days all is free again.
    let later = (jiff::Timestamp::now() + jiff::SignedDuration::from_hours(48)).to_string();
    for (model, question) in [("few", json!([])), ("hard", json!([["x-team", "ml"]]))] {
        let then = explained(&proxy, &json!({"model": model, "headers": question, "at": later}));
        assert_eq!(then["prediction"]["provider"], "a", "{then}");
    }
}

#[test]
fn a_budget_says_what_a_request_may_cost_and_what_is_left() {
    let fakes = ["a", "b"].map(good);
    let [a, b] = &fakes;
    let proxy = daemon(
        &[a, b],
        r#"
[groups.paid]
type = "budget"
to = "a"
caps = [{ usd = 0.05, per = "day" }]
prices = { "a/m" = { input = 1000, output = 1000 } }
overflow = "b/m"
[groups.strict]
type = "budget"
to = "a/m"
caps = [{ usd = 0.0001, per = "month" }]
prices = { "*" = { input = 1000, output = 1000 } }
"#,
    );
    let mut by = Vec::new();
    for _ in 0..6 {
        let (said, got) = foretold(&proxy, "paid/m", r#","max_tokens":20"#, &[]);
        assert!(why(&said["step"]).contains("of $0.05 per day left"), "{said}");
        // Not all of `max_tokens`, once answers were shorter.
        let dearest = if by.is_empty() { "$0.02 for the answer" } else { " for the answer" };
        assert!(why(&said["step"]).contains(dearest), "{said}");
        by.push(got.header("x-demuxai-provider").unwrap_or_default().to_owned());
    }
    assert_eq!((by.first().map(String::as_str), by.last().map(String::as_str)), (Some("a"), Some("b")));
    for (model, code, reason) in [
        ("paid/other", "price_unknown", "no price is known for `a/other`"),
        ("strict", "budget_exceeded", "too large for group `strict`"),
    ] {
        let (said, got) = foretold(&proxy, model, "", &[]);
        let told = (&said["prediction"]["error"], &said["prediction"]["status"], &said["step"]["state"]);
        assert_eq!(told, (&json!(code), &json!(got.status), &json!("cannot")), "{said}");
        assert!(why(&said["step"]).contains(reason), "{said}");
    }
}

#[test]
fn a_cache_says_whether_it_has_the_answer_and_why_it_would_not_look() {
    let a = good("a");
    let proxy = daemon(&[&a], "[groups.kept]\ntype = \"cache\"\nto = \"a/m\"\nttl = \"1h\"\n");
    let zero = r#","temperature":0"#;
    let (miss, _) = foretold(&proxy, "kept", zero, &[]);
    assert!(why(&miss["step"]).contains("has no answer to it (miss)"), "{miss}");
    let (hit, got) = foretold(&proxy, "kept", zero, &[]);
    assert_eq!(got.header("x-demuxai-cache"), Some("hit"));
    assert!(why(&hit["step"]).contains("has the answer in memory (hit)"), "{hit}");
    assert_eq!((&hit["step"]["state"], &hit["prediction"]["provider"]), (&json!("answers"), &json!("kept")));
    // What goes up with a request is part of the question.
    let (other, got) = foretold(&proxy, "kept", zero, &[("openai-beta", "x")]);
    assert_eq!(got.header("x-demuxai-cache"), Some("miss"), "{other}");
    let (fresh, _) = foretold(&proxy, "kept", zero, &[("cache-control", "no-cache")]);
    assert!(why(&fresh["step"]).contains("the client wants a fresh answer"), "{fresh}");
    let (bypass, got) = foretold(&proxy, "kept", "", &[]);
    assert_eq!(got.header("x-demuxai-cache"), Some("bypass"));
    assert!(why(&bypass["step"]).contains("(bypass)"), "{bypass}");
    let asked_so_far = asked(&a);
    let body = json!({"model": "kept", "messages": [{"role": "user", "content": "hi"}], "temperature": 0});
    let later = (jiff::Timestamp::now() + jiff::SignedDuration::from_hours(2)).to_string();
    let then = explained(&proxy, &json!({"body": body.to_string(), "at": later}));
    assert_eq!(then["prediction"]["provider"], "a", "it is too old by then: {then}");
    assert_eq!(asked(&a), asked_so_far);
}

#[test]
fn what_is_changed_copied_shared_or_answered_by_itself_is_told_and_foretold() {
    let home = Home::new();
    let a = good("a");
    let copies = home.path().join("copies.jsonl");
    let more = r#"
[groups.changed]
type = "rewrite"
to = "a/m"
set = { temperature = 0 }
cap = { max_tokens = 10 }
[groups.once]
type = "dedupe"
to = "changed"
[groups.noted]
type = "tee"
to = "once"
path = "COPIES"
[groups.sorry]
type = "static"
answer = "later"
[groups.closed]
type = "static"
status = 503
message = "closed until noon"
[groups.pool]
type = "failover"
members = ["closed", "sorry"]
[groups.by_name]
type = "rewrite"
to = "sorry"
rename = { "gpt-*" = "a/m" }
"#;
    let proxy = daemon(&[&a], &more.replace("COPIES", &copies.display().to_string()));
    let (said, got) = foretold(&proxy, "noted", r#","max_tokens":50"#, &[]);
    assert!(got.header("x-demuxai-edits").is_some_and(|edits| edits.contains("cap:max_tokens")));
    let tee = &said["step"];
    assert!(why(tee).contains(&format!("are copied to {}", copies.display())), "{said}");
    let once = &tee["ways"][0]["step"];
    assert!(why(once).contains("no call that asks the same is in flight"), "{said}");
    let changed = &once["ways"][0]["step"];
    assert_eq!(why(changed), "changes the request: set:temperature, cap:max_tokens");
    let (same, _) = foretold(&proxy, "changed", r#","temperature":0"#, &[]);
    assert_eq!(why(&same["step"]), "changes nothing of this request");

    let (sorry, _) = foretold(&proxy, "sorry", "", &[]);
    assert_eq!(
        (&sorry["step"]["state"], why(&sorry["step"]).as_str()),
        (&json!("answers"), "answers with its own text")
    );
    let (closed, got) = foretold(&proxy, "closed", "", &[]);
    assert_eq!((got.status, &closed["prediction"]["why"]), (503, &json!("closed until noon")));
    let embedded = explained(&proxy, &json!({"model": "sorry", "endpoint": "embedding"}));
    assert!(embedded["prediction"]["why"].as_str().is_some_and(|why| why.contains("has no embeddings")));
    // Whether a failure is one to go on after is the group's affair; who would be next is told.
    let pool = explained(&proxy, &json!({"model": "pool"}));
    assert_eq!(
        (&pool["prediction"]["attempts"], &pool["prediction"]["sure"]),
        (&json!("closed static, sorry ok"), &json!(false))
    );
    foretold(&proxy, "by_name", "", &[]);
    let (named, _) = foretold(&proxy, "by_name/gpt-4o", "", &[]);
    assert_eq!(named["prediction"]["provider"], "a", "{named}");
}

#[test]
fn the_limits_of_a_client_s_key_are_told_and_foretold() {
    let a = good("a");
    let proxy = daemon(
        &[&a],
        "[keys.me]\nkey = \"k\"\nlimits = [{ requests = 1, per = \"day\" }]\n[keys.you]\nkey = \"other\"\n",
    );
    let question = json!({"model": "a/m", "client": "me"});
    let before = explained(&proxy, &question);
    assert_eq!(before["prediction"]["provider"], "a", "{before}");
    assert_eq!(before["notes"], json!(["client `me`: 1 of 1 requests per day left"]));
    let body = r#"{"model":"a/m","messages":[]}"#;
    let ask = || client::open(proxy.address, "POST", CHAT, &[("authorization", "Bearer k")], body.as_bytes());
    assert_eq!(ask().finish().status, 200);
    let full = explained(&proxy, &question);
    let told = ask().finish();
    assert_eq!((told.status, &full["prediction"]["error"]), (429, &told.json()["error"]["code"]));
    assert!(
        full["prediction"]["why"].as_str().is_some_and(|why| why.contains("`limits` of keys.me")),
        "{full}"
    );
    assert_eq!(explained(&proxy, &json!({"model": "a/m", "client": "you"}))["prediction"]["provider"], "a");
    let nobody = explained(&proxy, &json!({"model": "a/m"}));
    assert!(nobody["notes"].to_string().contains("no client is named"), "{nobody}");
}

/// The hops of a header, in some order.
fn hops(attempts: &str) -> Vec<&str> {
    let mut hops: Vec<&str> = attempts.split(", ").collect();
    hops.sort_unstable();
    hops
}

#[test]
fn a_panel_answers_in_its_own_name_or_its_judge_does_and_that_is_foretold() {
    // All say the same, which has a majority and chooses the first answer.
    let fakes = ["1", "1"].map(good);
    let [a, b] = &fakes;
    let c = gated("1");
    let combiners = [
        ("judge", "combine = \"judge\"\njudge = \"c/m\""),
        ("helped", "combine = \"judge\"\njudge = \"c/m\"\nfallback = \"longest\""),
        ("best", "combine = \"best\"\njudge = \"c/m\""),
        ("first", "combine = \"first\""),
        ("longest", "combine = \"longest\""),
        ("majority", "combine = \"majority\""),
    ];
    let shows = ["reasoning", "harmony", "nothing"];
    let mut groups = String::new();
    for (name, options) in combiners {
        for show in shows {
            groups.push_str(&format!(
                "[groups.{name}-{show}]\ntype = \"consensus\"\nmembers = [\"a/m\", \"b/m\"]\nquorum = 2\nshow = \"{show}\"\n{options}\n"
            ));
        }
    }
    groups.push_str(
        "[groups.one]\ntype = \"consensus\"\nmembers = [\"a/m\", \"b/m\"]\ncombine = \"longest\"\n",
    );
    let proxy = daemon(&[a, b, &c], &groups);
    let ask = |panel: &str, fields: &str| {
        let body = format!(r#"{{"model":"{panel}","messages":[{{"role":"user","content":"hi"}}]{fields}}}"#);
        let said = explained(&proxy, &json!({"body": body}));
        // A head that goes out with the members' words does so before the judge says any.
        let at_once = !panel.ends_with("nothing") && fields.contains("stream");
        if at_once {
            c.close_gate("go");
        } else {
            c.open_gate("go");
        }
        let reading = proxy.open(CHAT, &body);
        c.open_gate("go");
        let got = reading.finish();
        assert_eq!(got.status, 200, "{panel}: {}", got.text());
        assert_eq!(
            said["prediction"]["provider"].as_str(),
            got.header("x-demuxai-provider"),
            "{panel}: {said}"
        );
        if let Some(model) = said["prediction"]["model"].as_str() {
            assert_eq!(Some(model), got.header("x-demuxai-model"), "{panel}: {said}");
        }
        (said, got)
    };
    for (name, _) in combiners {
        for show in shows {
            for fields in ["", r#","stream":true"#] {
                let panel = format!("{name}-{show}");
                let (said, got) = ask(&panel, fields);
                let foretold = said["prediction"]["attempts"].as_str().expect("attempts");
                let told = got.header("x-demuxai-attempts").expect("attempts");
                // Who is early enough to be told, if not all are waited for, nobody knows.
                if !(name == "first" || (show != "nothing" && !fields.is_empty())) {
                    assert_eq!(hops(foretold), hops(told), "{panel}{fields}: {said}");
                }
                assert_eq!(said["prediction"]["sure"], false, "{said}");
            }
        }
    }
    let (said, _) = ask("judge-nothing", r#","stream":true"#);
    assert_eq!((&said["prediction"]["provider"], &said["step"]["state"]), (&json!("c"), &json!("hands_on")));
    let (said, _) = ask("longest-nothing", "");
    assert_eq!((&said["prediction"]["model"], &said["step"]["state"]), (&Value::Null, &json!("combines")));
    let (said, got) = ask("best-nothing", r#","tools":[{"type":"function","function":{"name":"f"}}]"#);
    assert_eq!((&said["prediction"]["provider"], &said["prediction"]["sure"]), (&json!("c"), &json!(true)));
    assert_eq!(said["prediction"]["attempts"].as_str(), got.header("x-demuxai-attempts"));
}

#[test]
fn what_a_client_gets_for_want_of_capacity_is_foretold_with_the_moment_when_there_is_some() {
    let fakes = ["1", "1"].map(good);
    let [a, b] = &fakes;
    let limited = |id: &str, fake: &Fake| {
        format!("{}limits = [{{ requests = 1, per = \"day\" }}]\n", provider(id, "openai", &fake.url()))
    };
    let proxy = Proxy::start(&format!(
        "{}{}{}",
        limited("a", a),
        provider("b", "openai", &b.url()),
        r#"
[groups.pool]
type = "failover"
members = ["a/m"]
[groups.loose]
type = "consensus"
members = ["a/m", "b/m"]
combine = "longest"
quorum = 1
[groups.strict]
type = "consensus"
members = ["a/m", "b/m"]
combine = "longest"
on_quota = "refuse"
[groups.judged]
type = "consensus"
members = ["b/m"]
judge = "a/m"
[groups.copied]
type = "rewrite"
to = "a/m"
default = { temperature = 0 }
[state]
path = "none"
"#
    ));
    for id in ["a", "b"] {
        eventually("the provider is up", || proxy.status_of(id), |status| status["health"] == "up");
    }
    let body = |model: &str| format!(r#"{{"model":"{model}","messages":[]}}"#);
    assert_eq!(proxy.post(CHAT, &body("a/m")).status, 200);
    for model in ["a/m", "copied", "pool", "strict", "judged"] {
        let said = explained(&proxy, &json!({"body": body(model)}));
        let got = proxy.post(CHAT, &body(model));
        let prediction = &said["prediction"];
        assert_eq!((got.status, &prediction["status"]), (429, &json!(429)), "{model}: {said}");
        assert_eq!(prediction["error"], got.json()["error"]["code"], "{model}: {said}");
        let wait: u64 = got.header("retry-after").expect("Retry-After").parse().expect("seconds");
        let foretold = prediction["retry_after"].as_u64().expect("seconds");
        assert!(foretold.abs_diff(wait) <= 60, "{model}: {foretold} and {wait}");
        let until: jiff::Timestamp =
            prediction["until"].as_str().expect("a moment").parse().expect("a moment");
        let left = until.as_second() - jiff::Timestamp::now().as_second();
        assert!(left.abs_diff(wait as i64) <= 60, "{model}: {said}");
        if ["a/m", "copied"].contains(&model) {
            assert_eq!(prediction["attempts"].as_str(), got.header("x-demuxai-attempts"), "{model}: {said}");
            let why = prediction["why"].as_str().expect("why");
            assert!(why.contains("`a` has used up its 1 requests per day; free in "), "{said}");
        }
    }
    let said = explained(&proxy, &json!({"body": body("loose")}));
    let got = proxy.post(CHAT, &body("loose"));
    let told =
        [&said["prediction"]["provider"], &said["prediction"]["model"], &said["prediction"]["attempts"]];
    let headers =
        ["x-demuxai-provider", "x-demuxai-model", "x-demuxai-attempts"].map(|name| got.header(name));
    assert_eq!(told.map(Value::as_str), headers, "{said}");
    assert_eq!(headers, [Some("loose"), Some("b/m"), Some("a/m quota_exhausted, b/m answered, loose ok")]);
}
