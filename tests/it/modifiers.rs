//! Modifiers: a fixed answer, changed requests, limits of clients and budgets. The whole daemon in front of scripted
//! upstreams.

use demuxai::demo::{Answer, Fake, Received, Script};
use serde_json::{Value, json};

use super::support::client::{self, Answer as Got};
use super::support::proxy::{Proxy, provider};
use super::support::{asked, content, eventually};

const CHAT: &str = "/v1/chat/completions";

/// An upstream that lists `m` and `other` and answers with its name; each answer takes 3 tokens and gives 5.
pub(super) fn good(name: &'static str) -> Fake {
    Fake::start(move |received| says(name, received)).expect("fake upstream starts")
}

pub(super) fn says(name: &str, received: &Received) -> Script {
    if received.path().ends_with("/models") {
        return Answer::json(200).body(
            r#"{"object":"list","data":[{"id":"m","object":"model"},{"id":"other","object":"model"}]}"#,
        );
    }
    let usage = r#"{"prompt_tokens":3,"completion_tokens":5,"total_tokens":8}"#;
    if String::from_utf8_lossy(&received.body).contains("\"stream\":true") {
        let chunk = |choices: String, usage: &str| {
            format!(
                r#"{{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":{choices},"usage":{usage}}}"#
            )
        };
        let choice = |text: &str, finish: &str| {
            format!(r#"[{{"index":0,"delta":{{"content":"{text}"}},"finish_reason":{finish}}}]"#)
        };
        return Answer::events()
            .chunked()
            .event(chunk(choice(name, "null"), "null"))
            .event(chunk(choice("", "\"stop\""), "null"))
            .event(chunk("[]".to_owned(), usage))
            .event("[DONE]")
            .last_chunk();
    }
    Answer::json(200).body(format!(
        r#"{{"id":"c","object":"chat.completion","model":"m","choices":[{{"index":0,"message":{{"role":"assistant","content":"{name}"}},"finish_reason":"stop"}}],"usage":{usage}}}"#
    ))
}

/// The daemon with these upstreams as providers `a`, `b` and this configuration, once all are up.
pub(super) fn daemon(fakes: &[&Fake], more: &str) -> Proxy {
    let ids = ["a", "b"];
    let tables: Vec<String> =
        ids.iter().zip(fakes).map(|(id, fake)| provider(id, "openai", &fake.url())).collect();
    let state = if more.contains("[state]") { "" } else { "[state]\npath = \"none\"\n" };
    let proxy = Proxy::start(&format!("{}{more}\n{state}", tables.concat()));
    for (id, _) in ids.iter().zip(fakes) {
        eventually("the provider is up", || proxy.status_of(id), |status| status["health"] == "up");
    }
    proxy
}

fn body(model: &str, more: &str) -> String {
    format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"hi"}}]{more}}}"#)
}

pub(super) fn chat(proxy: &Proxy, model: &str, more: &str) -> Got {
    proxy.post(CHAT, &body(model, more))
}

pub(super) fn chat_with(proxy: &Proxy, headers: &[(&str, &str)], model: &str) -> Got {
    client::open(proxy.address, "POST", CHAT, headers, body(model, "").as_bytes()).finish()
}

fn sent(fake: &Fake) -> Value {
    let received = fake.received();
    let posts = received.iter().filter(|received| received.method == "POST");
    posts.last().expect("a request").json()
}

/// What is used of the limits of this owner's client, as the status tells it.
pub(super) fn used(proxy: &Proxy, of: &str, id: &str, client: &str) -> Value {
    let status = proxy.get("/demuxai/status").json();
    let clients = status["clients"].as_array().expect("clients").clone();
    let found =
        clients.into_iter().find(|entry| entry["of"] == of && entry["id"] == id && entry["client"] == client);
    found.map_or(Value::Null, |entry| entry["limits"][0]["used"].clone())
}

#[test]
fn a_fixed_answer_comes_in_every_shape_and_is_listed() {
    let a = good("a");
    let proxy = daemon(&[&a], "[groups.sorry]\ntype = \"static\"\nanswer = \"later\"\n");
    let plain = chat(&proxy, "sorry", "");
    assert_eq!(content(&plain), "later");
    assert_eq!(
        (&plain.json()["usage"]["total_tokens"], plain.header("x-demuxai-provider")),
        (&json!(0), Some("sorry"))
    );
    let streamed = chat(&proxy, "sorry", r#","stream":true,"stream_options":{"include_usage":true}"#);
    assert!(streamed.complete && streamed.text().ends_with("data: [DONE]\n\n"), "{}", streamed.text());
    assert!(
        streamed.text().contains("\"content\":\"later\"") && streamed.text().contains("\"total_tokens\":0")
    );
    let quiet = chat(&proxy, "sorry", r#","stream":true"#);
    assert!(!quiet.text().contains("usage"), "{}", quiet.text());
    let text = proxy.post("/v1/completions", r#"{"model":"sorry","prompt":"x"}"#).json();
    assert_eq!((&text["object"], &text["choices"][0]["text"]), (&json!("text_completion"), &json!("later")));
    let fim = proxy.post("/v1/fim/completions", r#"{"model":"sorry","prompt":"x","suffix":"y"}"#).json();
    assert_eq!(fim["choices"][0]["message"]["content"], "later");
    let embedded = proxy.post("/v1/embeddings", r#"{"model":"sorry","input":"x"}"#);
    assert_eq!(embedded.status, 400);
    assert!(embedded.error().contains("has no embeddings"), "{}", embedded.error());
    let listed = proxy.get("/v1/models/sorry").json();
    assert_eq!(listed["capabilities"]["completion_chat"], true, "{listed}");
    assert_eq!(listed["capabilities"]["completion_fim"], true, "{listed}");
    assert_eq!(asked(&a), 0);
    let series = r#"demuxai_modified_requests_total{backend="sorry",outcome="answered",type="static"}"#;
    assert!((proxy.metric(series) - 5.0).abs() < 0.1);
}

#[test]
fn a_fixed_error_is_told_as_it_is_configured_and_a_fixed_answer_is_the_last_member() {
    let a = good("a");
    let proxy = daemon(
        &[&a],
        "[groups.closed]\ntype = \"static\"\nstatus = 503\nmessage = \"closed until noon\"\nretry_after = \"10m\"\n\
         [groups.sorry]\ntype = \"static\"\nanswer = \"later\"\n\
         [groups.pool]\ntype = \"failover\"\nmembers = [\"closed\", \"sorry\"]\n",
    );
    let closed = chat(&proxy, "closed", "");
    assert_eq!((closed.status, closed.header("retry-after")), (503, Some("600")));
    assert_eq!(closed.error(), "closed until noon");
    assert_eq!(closed.json()["error"]["code"], "static");
    let pool = chat(&proxy, "pool", "");
    assert_eq!(content(&pool), "later");
    assert_eq!(pool.header("x-demuxai-attempts"), Some("closed static, sorry ok"));
}

#[test]
fn a_request_is_changed_as_configured_and_every_change_is_named() {
    let (a, b) = (good("a"), good("b"));
    let proxy = daemon(
        &[&a, &b],
        r#"
[groups.polite]
type = "rewrite"
to = "a/m"
set = { temperature = 0.2 }
default = { top_p = 0.5 }
cap = { max_tokens = 64 }
remove = ["seed"]
system = { prepend = "Be kind.", append = "Be brief." }
[groups.names]
type = "rewrite"
to = "a/m"
rename = { "gpt-4o*" = "other", "fas*" = "other", "fast" = "b/m" }
"#,
    );
    let got = chat(&proxy, "polite", r#", "seed" : 7,"max_completion_tokens":4096, "x":{"n" : 1e3}"#);
    assert_eq!(content(&got), "a");
    assert_eq!(
        got.header("x-demuxai-edits"),
        Some(
            "drop:seed, default:top_p, set:temperature, cap:max_completion_tokens, system:prepend, system:append"
        )
    );
    let raw = String::from_utf8(a.received().last().expect("a request").body.to_vec()).expect("text");
    assert!(raw.contains(r#""x":{"n" : 1e3}"#), "what is not named keeps its bytes: {raw}");
    let sent_to_a = sent(&a);
    assert_eq!(sent_to_a["messages"][0], json!({"role": "system", "content": "Be kind.\n\nBe brief."}));
    assert_eq!((&sent_to_a["temperature"], &sent_to_a["max_completion_tokens"]), (&json!(0.2), &json!(64)));
    assert!(sent_to_a.get("seed").is_none());

    let renamed = chat(&proxy, "names/gpt-4o-mini", "");
    assert_eq!(
        (content(&renamed), renamed.header("x-demuxai-edits")),
        ("a".to_owned(), Some("rename:model"))
    );
    assert_eq!(sent(&a)["model"], "other");
    assert_eq!(content(&chat(&proxy, "names/fast", "")), "b", "a name comes before globs of its length");
    let own = chat(&proxy, "names", "");
    assert_eq!((content(&own), own.header("x-demuxai-edits")), ("a".to_owned(), None));
    assert_eq!(chat(&proxy, "names/unheard-of", "").status, 404);
    let series = r#"demuxai_modified_requests_total{backend="names",outcome="changed",type="rewrite"}"#;
    assert!((proxy.metric(series) - 2.0).abs() < 0.1);
}

#[test]
fn each_client_has_a_limit_for_itself_and_the_refusal_names_limit_client_and_moment() {
    let a = good("a");
    let proxy = daemon(
        &[&a],
        "[keys.ide]\nkey = \"k-ide\"\n[keys.agent]\nkey = \"k-agent\"\n\
         [groups.fair]\ntype = \"limit\"\nto = \"a/m\"\nlimits = [{ requests = 2, per = \"hour\" }]\n",
    );
    let ide = [("authorization", "Bearer k-ide")];
    for _ in 0..2 {
        assert_eq!(chat_with(&proxy, &ide, "fair").status, 200);
    }
    let refused = chat_with(&proxy, &ide, "fair");
    assert_eq!(refused.status, 429);
    let text = refused.error();
    assert!(
        text.starts_with("client `ide` has used up 2 requests per hour (`limits` of group `fair`)"),
        "{text}"
    );
    let wait: u64 = refused.header("retry-after").and_then(|wait| wait.parse().ok()).expect("a moment");
    assert!((3_500..=3_700).contains(&wait), "{wait}");
    assert!(text.ends_with(&format!("it frees in {wait} s")), "{text}");
    let agent = [("authorization", "Bearer k-agent")];
    assert_eq!(chat_with(&proxy, &agent, "fair").status, 200);
    assert_eq!(asked(&a), 3);
}

#[test]
fn what_is_beyond_a_limit_overflows_and_all_without_a_key_share_it() {
    let (a, b) = (good("a"), good("b"));
    let proxy = daemon(
        &[&a, &b],
        "[groups.fair]\ntype = \"limit\"\nto = \"a/m\"\noverflow = \"b/m\"\nlimits = [{ tokens = 100, per = \"hour\" }]\n",
    );
    let small = r#","max_tokens":20"#;
    assert_eq!(content(&chat(&proxy, "fair", small)), "a");
    assert_eq!(
        used(&proxy, "limit", "fair", "anonymous"),
        8,
        "what was reported takes the place of what was reserved"
    );
    let streamed = chat(&proxy, "fair", r#","max_tokens":20,"stream":true"#);
    assert!(streamed.complete && streamed.text().contains("\"content\":\"a\""), "{}", streamed.text());
    eventually("the stream's end settles", || used(&proxy, "limit", "fair", "anonymous"), |used| *used == 16);
    let over = chat(&proxy, "fair", r#","max_tokens":80"#);
    assert_eq!(content(&over), "b");
    assert_eq!(over.header("x-demuxai-attempts"), Some("fair quota_exhausted, b ok"));
    let series = r#"demuxai_modified_requests_total{backend="fair",outcome="overflowed",type="limit"}"#;
    assert!((proxy.metric(series) - 1.0).abs() < 0.1);
}

#[test]
fn a_fixed_answer_takes_none_of_a_limit_in_tokens() {
    let a = good("a");
    let proxy = daemon(
        &[&a],
        "[groups.sorry]\ntype = \"static\"\nanswer = \"later\"\n\
         [groups.team]\ntype = \"limit\"\nto = \"sorry\"\nby = \"group\"\nlimits = [{ tokens = 10000, per = \"day\" }]\n",
    );
    for more in [SMALL_TALK.to_owned(), format!("{SMALL_TALK},\"stream\":true")] {
        assert!(chat(&proxy, "team", &more).text().contains("later"));
    }
    eventually("nothing is used", || used(&proxy, "limit", "team", "all"), |used| *used == 0);
}

#[test]
fn a_limit_by_a_header_counts_each_of_its_values() {
    let a = good("a");
    let proxy = daemon(
        &[&a],
        "[groups.teams]\ntype = \"limit\"\nto = \"a/m\"\nby = \"header:x-team\"\nlimits = [{ requests = 1, per = \"hour\" }]\n",
    );
    for team in ["red", "blue"] {
        assert_eq!(chat_with(&proxy, &[("x-team", team)], "teams").status, 200);
        let refused = chat_with(&proxy, &[("x-team", team)], "teams");
        assert_eq!(refused.status, 429);
        assert!(refused.error().starts_with(&format!("`x-team: {team}` has used up")), "{}", refused.error());
    }
    assert_eq!(chat_with(&proxy, &[], "teams").status, 200);
    assert_eq!(chat_with(&proxy, &[], "teams").status, 429);
}

#[test]
fn the_limits_of_a_key_hold_whatever_it_asks_for_and_survive_a_restart() {
    let a = good("a");
    let folder = tempfile::tempdir().expect("a folder");
    let text = format!(
        "[keys.ide]\nkey = \"k-ide\"\nlimits = [{{ requests = 3, per = \"day\" }}]\n[keys.free]\nkey = \"k-free\"\n\
         [groups.g]\ntype = \"failover\"\nmembers = [\"a/m\"]\n[state]\npath = \"{}\"\n",
        folder.path().join("state.db").display()
    );
    let ide = [("authorization", "Bearer k-ide")];
    let first = daemon(&[&a], &text);
    for model in ["a/m", "g"] {
        assert_eq!(chat_with(&first, &ide, model).status, 200);
    }
    assert_eq!(used(&first, "key", "ide", "ide"), 2);
    drop(first);
    let second = daemon(&[&a], &text);
    assert_eq!(used(&second, "key", "ide", "ide"), 2, "it is told before the key is used again");
    assert_eq!(chat_with(&second, &ide, "a/other").status, 200);
    let refused = chat_with(&second, &ide, "a/m");
    assert_eq!(refused.status, 429);
    assert!(
        refused.error().starts_with("client `ide` has used up 3 requests per day (`limits` of keys.ide)"),
        "{}",
        refused.error()
    );
    assert_eq!(chat_with(&second, &[("authorization", "Bearer k-free")], "a/m").status, 200);
}

#[test]
fn a_budget_counts_money_refuses_what_it_cannot_count_and_overflows() {
    let (a, b) = (good("a"), good("b"));
    let proxy = daemon(
        &[&a, &b],
        r#"
[groups.paid]
type = "budget"
to = "a"
overflow = "b/m"
caps = [{ usd = 0.01, per = "day" }]
prices = { "a/m" = { input = 100, output = 100 } }
[groups.strict]
type = "budget"
to = "a/m"
caps = [{ usd = 0.0001, per = "month" }, { usd = 1, per = "day" }]
prices = { "*" = { input = 100, output = 100 } }
"#,
    );
    let small = r#","max_tokens":20"#;
    assert_eq!(content(&chat(&proxy, "paid/m", small)), "a");
    let spent = r#"demuxai_cost_usd_total{backend="paid",model="m",provider="a"}"#;
    assert!((proxy.metric(spent) - 0.0008).abs() < 1e-9, "8 tokens at 100 dollars a million");
    assert_eq!(used(&proxy, "budget", "paid", "all"), 0.0008);
    let streamed = chat(&proxy, "paid/m", r#","max_tokens":20,"stream":true"#);
    assert!(streamed.complete && streamed.text().contains("\"content\":\"a\""), "{}", streamed.text());
    eventually("the stream's end is paid", || used(&proxy, "budget", "paid", "all"), |used| *used == 0.0016);
    let over = chat(&proxy, "paid/m", r#","max_tokens":80"#);
    assert_eq!(
        (content(&over), over.header("x-demuxai-attempts")),
        ("b".to_owned(), Some("paid quota_exhausted, b ok"))
    );
    let unknown = chat(&proxy, "paid/other", small);
    assert_eq!(unknown.status, 400);
    assert!(unknown.error().starts_with("no price is known for `a/other`"), "{}", unknown.error());
    assert_eq!(unknown.json()["error"]["code"], "price_unknown");

    let refused = chat(&proxy, "strict", small);
    assert_eq!(refused.status, 400, "it never fits");
    assert!(refused.error().contains("$0.000100 per month"), "{}", refused.error());
    assert_eq!(refused.json()["error"]["code"], "budget_exceeded");
}

#[test]
fn a_budget_counts_each_upstream_s_part_of_an_answer_at_its_own_price() {
    let (a, b) = (good("a"), good("b"));
    let proxy = daemon(
        &[&a, &b],
        r#"
[groups.panel]
type = "consensus"
members = ["a/m", "a/other"]
judge = "b/m"
[groups.paid]
type = "budget"
to = "panel"
caps = [{ usd = 1, per = "day" }]
prices = { "a/m" = { input = 100, output = 100 }, "a/other" = { input = 200, output = 200 }, "b/m" = { input = 0, output = 0 } }
"#,
    );
    let small = r#","max_tokens":20"#;
    // 8 tokens each: at 100 and 200 dollars a million, and the judge's for nothing.
    assert_eq!(content(&chat(&proxy, "paid", small)), "b");
    assert_eq!(used(&proxy, "budget", "paid", "all"), 0.0024);
    let cost = |provider: &str, model: &str| {
        let series =
            format!("demuxai_cost_usd_total{{backend=\"paid\",model=\"{model}\",provider=\"{provider}\"}}");
        (proxy.metric(&series) * 1e6).round()
    };
    assert_eq!((cost("a", "m"), cost("a", "other"), cost("b", "m")), (800.0, 1600.0, 0.0));
    let streamed = chat(&proxy, "paid", r#","max_tokens":20,"stream":true"#);
    assert!(streamed.complete, "{}", streamed.text());
    eventually("the stream's end is paid", || used(&proxy, "budget", "paid", "all"), |used| *used == 0.0048);
}

#[test]
fn what_no_upstream_was_asked_for_costs_a_budget_nothing() {
    let gate = Fake::start(|received| {
        let says = says("a", received);
        if received.path().ends_with("/models") { says } else { Script::new().gate("go").then(says) }
    })
    .expect("fake upstream starts");
    let proxy = daemon(
        &[&gate],
        r#"
[groups.once]
type = "dedupe"
to = "a/m"
[groups.kept]
type = "cache"
to = "once"
[groups.paid]
type = "budget"
to = "kept"
caps = [{ usd = 1, per = "day" }]
prices = { "*" = { input = 100, output = 100 } }
[groups.sorry]
type = "static"
answer = "later"
[groups.free]
type = "budget"
to = "sorry"
caps = [{ usd = 1, per = "day" }]
"#,
    );
    let asks = r#","max_tokens":20,"temperature":0"#;
    std::thread::scope(|scope| {
        let both = [0, 1].map(|_| scope.spawn(|| chat(&proxy, "paid", asks)));
        let shared = "demuxai_modified_requests_total{backend=\"once\",outcome=\"follower\",type=\"dedupe\"}";
        eventually("they share a call", || proxy.find_metric(shared), |count| *count == Some(1.0));
        gate.open_gate("go");
        for asking in both {
            assert_eq!(content(&asking.join().expect("an answer")), "a");
        }
    });
    assert_eq!((asked(&gate), used(&proxy, "budget", "paid", "all")), (1, json!(0.0008)));
    let hit = chat(&proxy, "paid", asks);
    assert_eq!(hit.header("x-demuxai-cache"), Some("hit"));
    assert_eq!((asked(&gate), used(&proxy, "budget", "paid", "all")), (1, json!(0.0008)));
    assert_eq!(content(&chat(&proxy, "free", SMALL_TALK)), "later");
    assert_eq!(used(&proxy, "budget", "free", "all"), 0.0);
}

/// Long enough that it would cost something.
const SMALL_TALK: &str = r#","user":"somebody","max_tokens":1000"#;

#[test]
fn cached_tokens_have_their_own_price_and_a_cap_is_by_the_calendar_of_its_zone() {
    let caching = Fake::start(|received| {
        if received.path().ends_with("/models") {
            return says("a", received);
        }
        Answer::json(200).body(
            r#"{"id":"c","object":"chat.completion","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"a"},"finish_reason":"stop"}],"usage":{"prompt_tokens":10,"completion_tokens":1,"total_tokens":11,"prompt_tokens_details":{"cached_tokens":4}}}"#,
        )
    })
    .expect("fake upstream starts");
    let budget = |id: &str, price: &str| {
        format!(
            "[groups.{id}]\ntype = \"budget\"\nto = \"a/m\"\nprices = {{ \"*\" = {{ input = 100, output = 0{price} }} }}\n\
             caps = [{{ usd = 1, per = \"day\", time_zone = \"Asia/Tokyo\" }}]\n"
        )
    };
    let proxy = daemon(&[&caching], &(budget("cheaper", ", cached = 10") + &budget("same", "")));
    for (id, cost) in [("cheaper", 0.00064), ("same", 0.001)] {
        assert_eq!(content(&chat(&proxy, id, r#","max_tokens":1"#)), "a");
        assert_eq!(used(&proxy, "budget", id, "all"), cost, "{id}");
    }
    let status = proxy.get("/demuxai/status").json();
    let clients = status["clients"].as_array().expect("clients");
    // Midnight in Tokyo, which has no summer time, is 15:00 UTC.
    let resets = clients.iter().map(|client| client["limits"][0]["resets_at_ms"].as_i64().expect("a moment"));
    assert!(resets.map(|at| at % 86_400_000).all(|at| at == 54_000_000), "{status}");
}

#[test]
fn an_answer_that_nobody_reports_counts_as_it_was_reserved() {
    let mute = Fake::start(|received| {
        if received.path().ends_with("/models") {
            return says("a", received);
        }
        Answer::json(200).body(
            r#"{"id":"c","object":"chat.completion","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"a"},"finish_reason":"stop"}]}"#,
        )
    })
    .expect("fake upstream starts");
    let proxy = daemon(
        &[&mute],
        "[groups.paid]\ntype = \"budget\"\nto = \"a/m\"\ncaps = [{ usd = 1, per = \"day\" }]\n\
         prices = { \"*\" = { input = 0, output = 100 } }\n",
    );
    assert_eq!(content(&chat(&proxy, "paid", r#","max_tokens":20"#)), "a");
    assert_eq!(used(&proxy, "budget", "paid", "all"), 0.002);
}

#[test]
fn a_budget_that_is_used_up_says_which_cap_and_until_when() {
    let a = good("a");
    let proxy = daemon(
        &[&a],
        "[groups.paid]\ntype = \"budget\"\nto = \"a/m\"\ncaps = [{ usd = 0.004, per = \"day\" }]\n\
         prices = { \"*\" = { input = 100, output = 100 } }\n",
    );
    let mut last = chat(&proxy, "paid", r#","max_tokens":1"#);
    for _ in 0..6 {
        if last.status != 200 {
            break;
        }
        last = chat(&proxy, "paid", r#","max_tokens":1"#);
    }
    assert_eq!(last.status, 429, "{}", last.text());
    let text = last.error();
    assert!(
        text.starts_with(
            "group `paid`: $0.001600 of $0.004000 per day (`caps` of group `paid`) are left, and the request is \
             estimated to cost $"
        ) && text.contains("; shorten it; it may fit in "),
        "{text}"
    );
    assert!(last.header("retry-after").is_some());
    assert!(asked(&a) <= 5, "8 tokens cost 0.0008: never above");
}
