//! What budgets count, and what they say when they refuse. The whole daemon in front of scripted upstreams.

use demuxai::demo::{Answer, Script};
use serde_json::json;

use super::support::client;
use super::support::proxy::Proxy;
use super::support::several::{
    PATH, SMALL, SMALL_TALK, budget, chat, daemon, failing, gated, good, group, says, upstream,
};
use super::support::{asked, content, eventually};

/// What is spent of this budget, in millionths of a dollar.
fn spent(proxy: &Proxy, id: &str) -> f64 {
    (proxy.used("budget", id, "all").as_f64().unwrap_or(0.0) * 1e6).round()
}

/// Two members at the first upstream, and this.
fn panel(more: &str) -> String {
    group("panel", "consensus", &format!("members = [\"a/m\", \"a/other\"]\n{more}"))
}

#[test]
fn a_budget_counts_money_refuses_what_it_cannot_count_and_overflows() {
    let (a, b) = (good("a"), good("b"));
    let proxy = daemon(
        &[&a, &b],
        &[
            budget("paid", "a", &[(0.01, "day")], &[("a/m", 100, 100)]) + "overflow = \"b/m\"\n",
            budget("strict", "a/m", &[(0.0001, "month"), (1.0, "day")], &[("*", 100, 100)]),
        ]
        .concat(),
    );
    assert_eq!(content(&chat(&proxy, "paid/m", SMALL)), "a");
    let spent = r#"demuxai_cost_usd_total{backend="paid",model="m",provider="a"}"#;
    assert!((proxy.metric(spent) - 0.0008).abs() < 1e-9, "8 tokens at 100 dollars a million");
    assert_eq!(proxy.used("budget", "paid", "all"), 0.0008);
    let streamed = chat(&proxy, "paid/m", r#","max_tokens":20,"stream":true"#);
    assert!(streamed.complete && streamed.text().contains("\"content\":\"a\""), "{}", streamed.text());
    eventually("the stream's end is paid", || proxy.used("budget", "paid", "all"), |used| *used == 0.0016);
    let over = chat(&proxy, "paid/m", r#","max_tokens":80"#);
    assert_eq!(
        (content(&over), over.header("x-demuxai-attempts")),
        ("b".to_owned(), Some("paid quota_exhausted, b ok"))
    );
    let unknown = chat(&proxy, "paid/other", SMALL);
    assert_eq!(unknown.status, 400);
    assert!(unknown.error().starts_with("no price is known for `a/other`"), "{}", unknown.error());
    assert_eq!(unknown.json()["error"]["code"], "price_unknown");

    let refused = chat(&proxy, "strict", SMALL);
    assert_eq!(refused.status, 400, "it never fits");
    assert!(refused.error().contains("$0.000100 per month"), "{}", refused.error());
    assert_eq!(refused.json()["error"]["code"], "budget_exceeded");
}

#[test]
fn a_budget_counts_each_upstream_s_part_of_an_answer_at_its_own_price() {
    let (a, b) = (good("a"), good("b"));
    let proxy = daemon(
        &[&a, &b],
        &[
            panel("judge = \"b/m\""),
            budget(
                "paid",
                "panel",
                &[(1.0, "day")],
                &[("a/m", 100, 100), ("a/other", 200, 200), ("b/m", 0, 0)],
            ),
        ]
        .concat(),
    );
    // 8 tokens each: at 100 and 200 dollars a million, and the judge's for nothing.
    assert_eq!(content(&chat(&proxy, "paid", SMALL)), "b");
    assert_eq!(proxy.used("budget", "paid", "all"), 0.0024);
    let cost = |provider: &str, model: &str| {
        let series =
            format!("demuxai_cost_usd_total{{backend=\"paid\",model=\"{model}\",provider=\"{provider}\"}}");
        (proxy.metric(&series) * 1e6).round()
    };
    assert_eq!((cost("a", "m"), cost("a", "other"), cost("b", "m")), (800.0, 1600.0, 0.0));
    let streamed = chat(&proxy, "paid", r#","max_tokens":20,"stream":true"#);
    assert!(streamed.complete, "{}", streamed.text());
    eventually("the stream's end is paid", || proxy.used("budget", "paid", "all"), |used| *used == 0.0048);
}

#[test]
fn what_no_upstream_was_asked_for_costs_a_budget_nothing() {
    let gate = gated("a");
    let proxy = daemon(
        &[&gate],
        &[
            group("once", "dedupe", r#"to = "a/m""#),
            group("kept", "cache", r#"to = "once""#),
            budget("paid", "kept", &[(1.0, "day")], &[("*", 100, 100)]),
            group("sorry", "static", r#"answer = "later""#),
            budget("free", "sorry", &[(1.0, "day")], &[]),
        ]
        .concat(),
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
    assert_eq!((asked(&gate), proxy.used("budget", "paid", "all")), (1, json!(0.0008)));
    let hit = chat(&proxy, "paid", asks);
    assert_eq!(hit.header("x-demuxai-cache"), Some("hit"));
    assert_eq!((asked(&gate), proxy.used("budget", "paid", "all")), (1, json!(0.0008)));
    assert_eq!(content(&chat(&proxy, "free", SMALL_TALK)), "later");
    assert_eq!(proxy.used("budget", "free", "all"), 0.0);
}

#[test]
fn cached_tokens_have_their_own_price_and_a_cap_is_by_the_calendar_of_its_zone() {
    let caching = upstream(|_| {
        Answer::json(200).body(
            r#"{"id":"c","object":"chat.completion","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"a"},"finish_reason":"stop"}],"usage":{"prompt_tokens":10,"completion_tokens":1,"total_tokens":11,"prompt_tokens_details":{"cached_tokens":4}}}"#,
        )
    });
    let budget = |id: &str, price: &str| {
        format!(
            "[groups.{id}]\ntype = \"budget\"\nto = \"a/m\"\nprices = {{ \"*\" = {{ input = 100, output = 0{price} }} }}\n\
             caps = [{{ usd = 1, per = \"day\", time_zone = \"Asia/Tokyo\" }}]\n"
        )
    };
    let proxy = daemon(&[&caching], &(budget("cheaper", ", cached = 10") + &budget("same", "")));
    for (id, cost) in [("cheaper", 0.00064), ("same", 0.001)] {
        assert_eq!(content(&chat(&proxy, id, r#","max_tokens":1"#)), "a");
        assert_eq!(proxy.used("budget", id, "all"), cost, "{id}");
    }
    let status = proxy.get("/demuxai/status").json();
    let clients = status["clients"].as_array().expect("clients");
    // Midnight in Tokyo, which has no summer time, is 15:00 UTC.
    let resets = clients.iter().map(|client| client["limits"][0]["resets_at_ms"].as_i64().expect("a moment"));
    assert!(resets.map(|at| at % 86_400_000).all(|at| at == 54_000_000), "{status}");
}

#[test]
fn an_answer_that_nobody_reports_counts_as_it_was_reserved() {
    let mute = upstream(|_| {
        Answer::json(200).body(
            r#"{"id":"c","object":"chat.completion","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"a"},"finish_reason":"stop"}]}"#,
        )
    });
    let proxy = daemon(&[&mute], &budget("paid", "a/m", &[(1.0, "day")], &[("*", 0, 100)]));
    assert_eq!(content(&chat(&proxy, "paid", SMALL)), "a");
    assert_eq!(proxy.used("budget", "paid", "all"), 0.002);
}

#[test]
fn a_budget_that_is_used_up_says_which_cap_and_until_when() {
    let a = good("a");
    let proxy = daemon(&[&a], &budget("paid", "a/m", &[(0.004, "day")], &[("*", 100, 100)]));
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

#[test]
fn who_loses_a_race_is_paid_as_it_was_reserved() {
    let (a, b) = (gated("a"), gated("b"));
    let proxy = daemon(
        &[&a, &b],
        &[
            group("fast", "race", "members = [\"b/m\", \"a/m\"]\ndelay = \"0s\""),
            budget("paid", "fast", &[(1.0, "day")], &[("a/m", 100, 100), ("b/m", 0, 1000)]),
        ]
        .concat(),
    );
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| chat(&proxy, "paid", SMALL));
        eventually("both are asked", || asked(&a) + asked(&b), |count| *count == 2);
        a.open_gate("go");
        assert_eq!(content(&asking.join().expect("an answer")), "a");
    });
    // Eight tokens of the one, and the twenty that the other one could have taken.
    assert_eq!(spent(&proxy, "paid"), 20_800.0);
    let told = proxy.find_metric("demuxai_cost_usd_total{backend=\"paid\",model=\"m\",provider=\"b\"}");
    assert_eq!(told, None, "nobody reported what it took");
}

#[test]
fn a_panel_that_may_cost_more_than_is_left_is_not_asked() {
    let (a, b) = (good("a"), good("b"));
    let text = |cap: f64| {
        panel("judge = \"b/m\"")
            + &budget("paid", "panel", &[(cap, "day")], &[("*", 0, 100), ("b/m", 100, 100)])
    };
    // Three answers of up to 20 tokens, and two of them are read by the judge beside the question.
    let proxy = daemon(&[&a, &b], &text(0.0099));
    let refused = chat(&proxy, "paid", SMALL);
    assert_eq!((refused.status, asked(&a) + asked(&b)), (400, 0), "{}", refused.text());
    assert_eq!(refused.json()["error"]["code"], "budget_exceeded");
    let tools = r#","max_tokens":20,"tools":[{"type":"function","function":{"name":"f"}}]"#;
    assert_eq!(content(&chat(&proxy, "paid", tools)), "b", "the judge alone costs less");
    assert_eq!(spent(&proxy, "paid"), 800.0);

    let proxy = daemon(&[&a, &b], &text(0.05));
    assert_eq!(content(&chat(&proxy, "paid", SMALL)), "b");
    assert_eq!(spent(&proxy, "paid"), 500.0 + 500.0 + 800.0);
}

#[test]
fn a_budget_in_a_budget_counts_what_is_bought_through_groups_between_them_each_at_its_own_prices() {
    let (a, b) = (good("a"), failing(500));
    let proxy = daemon(
        &[&a, &b],
        &[
            panel("combine = \"longest\""),
            budget("inner", "panel", &[(1.0, "day")], &[("*", 100, 100)]),
            group("either", "failover", r#"members = ["b/m", "inner"]"#),
            budget("outer", "either", &[(1.0, "day")], &[("*", 1000, 1000)]),
        ]
        .concat(),
    );
    assert_eq!(content(&chat(&proxy, "outer", SMALL)), "a");
    assert_eq!((spent(&proxy, "inner"), spent(&proxy, "outer")), (1_600.0, 16_000.0));
    let streamed = chat(&proxy, "outer", r#","max_tokens":20,"stream":true"#);
    assert!(streamed.complete, "{}", streamed.text());
    eventually(
        "it is paid",
        || (spent(&proxy, "inner"), spent(&proxy, "outer")),
        |spent| *spent == (3_200.0, 32_000.0),
    );
}

#[test]
fn what_members_took_is_paid_where_the_judge_fails() {
    let (a, b) = (good("a"), failing(500));
    let proxy = daemon(
        &[&a, &b],
        &[panel("judge = \"b/m\""), budget("paid", "panel", &[(1.0, "day")], &[("*", 100, 100)])].concat(),
    );
    let failed = chat(&proxy, "paid", SMALL);
    assert_eq!(failed.status, 503, "{}", failed.text());
    assert_eq!(spent(&proxy, "paid"), 1_600.0);
}

#[test]
fn a_call_that_goes_on_for_others_costs_what_its_upstream_says_though_who_began_it_has_left() {
    let a = upstream(|received| {
        if String::from_utf8_lossy(&received.body).contains("\"stream\":true") {
            let begin = r#"{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":"begin"},"finish_reason":null}]}"#;
            let end = r#"{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":5,"total_tokens":8}}"#;
            Answer::events().chunked().event(begin).gate("go").event(end).event("[DONE]").last_chunk()
        } else {
            Script::new().gate("go").then(says("a", received))
        }
    });
    let proxy = daemon(
        &[&a],
        r#"
[groups.once]
type = "dedupe"
to = "a/m"
[groups.few]
type = "limit"
to = "once"
by = "group"
limits = [{ tokens = 10000, per = "day" }]
[groups.paid]
type = "budget"
to = "few"
caps = [{ usd = 1, per = "day" }]
prices = { "a/m" = { input = 100, output = 100 } }
"#,
    );
    let metric = |series: &str| proxy.find_metric(series).unwrap_or(0.0);
    let shared = "demuxai_modified_requests_total{backend=\"once\",outcome=\"follower\",type=\"dedupe\"}";
    let left = "demuxai_requests_total{backend=\"paid\",endpoint=\"chat\",listener=\"test\",model=\"m\",outcome=\"cancelled\",provider=\"a\"}";
    let mut calls = 0.0;
    // Before there is any answer, and in the middle of it.
    for more in ["", r#","stream":true"#] {
        let body = format!(
            r#"{{"model":"paid","messages":[{{"role":"user","content":"hi"}}],"max_tokens":200{more}}}"#
        );
        let before = asked(&a);
        let leader = client::ask(proxy.address, PATH, &body);
        eventually("it is asked", || asked(&a), |count| *count == before + 1);
        std::thread::scope(|scope| {
            let following = scope.spawn(|| proxy.post(PATH, &body));
            eventually("another one follows", || metric(shared), |count| *count == calls + 1.0);
            drop(leader);
            eventually("who began it has left", || metric(left), |count| *count == calls + 1.0);
            a.open_gate("go");
            let got = following.join().expect("an answer");
            assert!(got.status == 200 && got.complete, "{}", got.text());
        });
        a.close_gate("go");
        calls += 1.0;
        // Eight tokens: bought once, and told to both.
        eventually("it is paid", || spent(&proxy, "paid"), |spent| *spent == 800.0 * calls);
        let counted = || proxy.used("limit", "few", "all").as_f64().unwrap_or(0.0);
        eventually("it is counted", counted, |tokens| *tokens == 16.0 * calls);
    }
    assert_eq!(asked(&a), 2);
}
