//! What budgets and limits count, and what they say when they refuse. The whole daemon in front of scripted upstreams.

use demuxai::demo::{Answer, Fake, Script};
use serde_json::json;

use super::modifiers::{chat, daemon, good, says, used};
use super::support::{asked, content, eventually, nowhere};

const SMALL: &str = r#","max_tokens":20"#;

/// An upstream that lists its models at once, and answers when the gate is opened.
fn gated(name: &'static str) -> Fake {
    let fake = Fake::start(move |received| {
        let says = says(name, received);
        if received.path().ends_with("/models") { says } else { Script::new().gate("go").then(says) }
    });
    fake.expect("fake upstream starts")
}

/// What is spent of this budget, in millionths of a dollar.
fn spent(proxy: &super::support::proxy::Proxy, id: &str) -> f64 {
    (used(proxy, "budget", id, "all").as_f64().unwrap_or(0.0) * 1e6).round()
}

#[test]
fn who_loses_a_race_is_paid_as_it_was_reserved() {
    let (a, b) = (gated("a"), gated("b"));
    let proxy = daemon(
        &[&a, &b],
        r#"
[groups.fast]
type = "race"
members = ["b/m", "a/m"]
delay = "0s"
[groups.paid]
type = "budget"
to = "fast"
caps = [{ usd = 1, per = "day" }]
prices = { "a/m" = { input = 100, output = 100 }, "b/m" = { input = 0, output = 1000 } }
"#,
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
    let text = |cap: &str| {
        format!(
            r#"
[groups.panel]
type = "consensus"
members = ["a/m", "a/other"]
judge = "b/m"
[groups.paid]
type = "budget"
to = "panel"
caps = [{{ usd = {cap}, per = "day" }}]
prices = {{ "*" = {{ input = 0, output = 100 }}, "b/m" = {{ input = 100, output = 100 }} }}
"#
        )
    };
    // Three answers of up to 20 tokens, and two of them are read by the judge beside the question.
    let proxy = daemon(&[&a, &b], &text("0.0099"));
    let refused = chat(&proxy, "paid", SMALL);
    assert_eq!((refused.status, asked(&a) + asked(&b)), (400, 0), "{}", refused.text());
    assert_eq!(refused.json()["error"]["code"], "budget_exceeded");
    let tools = r#","max_tokens":20,"tools":[{"type":"function","function":{"name":"f"}}]"#;
    assert_eq!(content(&chat(&proxy, "paid", tools)), "b", "the judge alone costs less");
    assert_eq!(spent(&proxy, "paid"), 800.0);

    let proxy = daemon(&[&a, &b], &text("0.05"));
    assert_eq!(content(&chat(&proxy, "paid", SMALL)), "b");
    assert_eq!(spent(&proxy, "paid"), 500.0 + 500.0 + 800.0);
}

#[test]
fn a_budget_in_a_budget_counts_what_is_bought_through_groups_between_them_each_at_its_own_prices() {
    let (a, b) = (good("a"), Fake::start(|_| Answer::json(500).body("{}")).expect("fake upstream starts"));
    let proxy = daemon(
        &[&a],
        &format!(
            r#"
[providers.b]
type = "openai"
url = "{}"
[groups.panel]
type = "consensus"
members = ["a/m", "a/other"]
combine = "longest"
[groups.inner]
type = "budget"
to = "panel"
caps = [{{ usd = 1, per = "day" }}]
prices = {{ "*" = {{ input = 100, output = 100 }} }}
[groups.either]
type = "failover"
members = ["b/m", "inner"]
[groups.outer]
type = "budget"
to = "either"
caps = [{{ usd = 1, per = "day" }}]
prices = {{ "*" = {{ input = 1000, output = 1000 }} }}
"#,
            b.url()
        ),
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
    let (a, b) = (
        good("a"),
        Fake::start(|received| {
            if received.path().ends_with("/models") {
                says("b", received)
            } else {
                Answer::json(500).body("{}")
            }
        })
        .expect("fake upstream starts"),
    );
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
prices = { "*" = { input = 100, output = 100 } }
"#,
    );
    let failed = chat(&proxy, "paid", SMALL);
    assert_eq!(failed.status, 503, "{}", failed.text());
    assert_eq!(spent(&proxy, "paid"), 1_600.0);
}

#[test]
fn a_limit_counts_what_its_clients_get_whoever_answers() {
    let a = good("a");
    let proxy = daemon(
        &[&a],
        r#"
[groups.kept]
type = "cache"
to = "a/m"
[groups.few]
type = "limit"
to = "kept"
limits = [{ tokens = 1000, per = "day" }, { requests = 3, per = "day" }]
[groups.bought]
type = "limit"
to = "a/other"
limits = [{ requests = 1, per = "day" }]
[groups.free]
type = "cache"
to = "bought"
"#,
    );
    let same = r#","max_tokens":20,"temperature":0"#;
    for number in 1..=3 {
        assert_eq!(content(&chat(&proxy, "few", same)), "a");
        assert_eq!(
            used(&proxy, "limit", "few", "anonymous"),
            json!(8 * number),
            "a hit counts as its answer says"
        );
    }
    assert_eq!(chat(&proxy, "few", same).status, 429);
    for _ in 0..3 {
        assert_eq!(content(&chat(&proxy, "free", same)), "a", "a limit below a cache counts what is asked");
    }
    assert_eq!(asked(&a), 2);
}

#[test]
fn what_requests_in_flight_may_take_is_said_to_be_theirs_and_may_be_free_in_a_moment() {
    let a = gated("a");
    let proxy = daemon(
        &[&a],
        r#"
[groups.few]
type = "limit"
to = "a/m"
limits = [{ tokens = 400, per = "day" }]
[groups.paid]
type = "budget"
to = "a/m"
caps = [{ usd = 0.01, per = "day" }]
prices = { "*" = { input = 0, output = 100 } }
"#,
    );
    let large = r#","max_tokens":90"#;
    std::thread::scope(|scope| {
        let (open, bounded) =
            (scope.spawn(|| chat(&proxy, "few", "")), scope.spawn(|| chat(&proxy, "paid", large)));
        eventually("both are on their way", || asked(&a), |count| *count == 2);
        let refused = chat(&proxy, "few", "");
        assert_eq!((refused.status, refused.header("retry-after")), (429, Some("1")), "{}", refused.error());
        assert!(refused.error().contains("it names no max_tokens: set that"), "{}", refused.error());
        let refused = chat(&proxy, "paid", large);
        assert_eq!((refused.status, refused.header("retry-after")), (429, Some("1")), "{}", refused.error());
        assert_eq!(
            refused.error(),
            "group `paid`: what is left of $0.01 per day (`caps` of group `paid`) is reserved for requests in \
             flight; it may fit in 1 s"
        );
        a.open_gate("go");
        assert_eq!(content(&open.join().expect("an answer")), "a");
        assert_eq!(content(&bounded.join().expect("an answer")), "a");
    });
    assert_eq!(content(&chat(&proxy, "few", "")), "a", "answers are known to be short");
    assert_eq!(content(&chat(&proxy, "paid", large)), "a");
}

#[test]
fn what_is_left_and_what_a_request_may_take_is_said_where_it_is_not_used_up() {
    let a = good("a");
    let proxy = daemon(
        &[&a],
        r#"
[groups.few]
type = "limit"
to = "a/m"
limits = [{ tokens = 100, per = "hour" }]
[groups.paid]
type = "budget"
to = "a/m"
caps = [{ usd = 0.001, per = "month" }]
prices = { "*" = { input = 0, output = 100 } }
"#,
    );
    for group in ["few", "paid"] {
        assert_eq!(content(&chat(&proxy, group, r#","max_tokens":5"#)), "a");
    }
    let refused = chat(&proxy, "few", r#","max_tokens":75"#);
    assert_eq!(refused.status, 429);
    let text = refused.error();
    assert!(
        text.starts_with(
            "everybody without a key: 92 of 100 tokens per hour (`limits` of group `few`) are left, and the \
             request is estimated to take "
        ) && text.contains("; lower max_tokens to at most "),
        "{text}"
    );
    let refused = chat(&proxy, "paid", r#","max_tokens":8"#);
    assert_eq!((refused.status, refused.json()["error"]["code"].clone()), (429, json!("budget_exceeded")));
    assert!(
        refused.error().starts_with(
            "group `paid`: $0.000500 of $0.001000 per month (`caps` of group `paid`) are left, and the request \
             is estimated to cost $0.000800; lower max_tokens; it may fit in "
        ),
        "{}",
        refused.error()
    );
}

#[test]
fn of_two_limits_the_one_that_is_used_up_is_named() {
    let a = good("a");
    let proxy = daemon(
        &[&a],
        r#"
[groups.few]
type = "limit"
to = "a/m"
limits = [{ requests = 2, per = "hour" }, { tokens = 100, per = "hour" }]
"#,
    );
    for _ in 0..2 {
        assert_eq!(content(&chat(&proxy, "few", r#","max_tokens":5"#)), "a");
    }
    let refused = chat(&proxy, "few", r#","max_tokens":80"#);
    assert_eq!(refused.status, 429);
    assert!(
        refused.error().starts_with("everybody without a key has used up 2 requests per hour"),
        "{}",
        refused.error()
    );
}

#[test]
fn an_overflow_that_is_full_as_well_is_named() {
    let a = gated("a");
    let proxy = daemon(
        &[&a],
        r#"
[groups.one]
type = "limit"
to = "a/m"
by = "group"
limits = [{ concurrent = 1 }]
[groups.first]
type = "limit"
to = "a/m"
overflow = "one"
by = "group"
limits = [{ concurrent = 1 }]
"#,
    );
    std::thread::scope(|scope| {
        let held = [0, 1].map(|_| scope.spawn(|| chat(&proxy, "first", SMALL)));
        eventually("both places are taken", || asked(&a), |count| *count == 2);
        let refused = chat(&proxy, "first", SMALL);
        assert_eq!(refused.status, 429);
        assert_eq!(refused.header("x-demuxai-attempts"), Some("first overloaded, one overloaded"));
        a.open_gate("go");
        for held in held {
            assert_eq!(content(&held.join().expect("an answer")), "a");
        }
    });
}

#[test]
fn a_bound_of_zero_is_none_and_what_is_answered_counts() {
    let a = good("a");
    let proxy = daemon(
        &[&a],
        r#"
[groups.few]
type = "limit"
to = "a/m"
limits = [{ output_tokens = 8, per = "hour" }]
"#,
    );
    assert_eq!(content(&chat(&proxy, "few", r#","max_tokens":0"#)), "a");
    assert_eq!(used(&proxy, "limit", "few", "anonymous"), json!(5));
    assert_eq!(chat(&proxy, "few", r#","max_tokens":4"#).status, 429);
}

#[test]
fn a_panels_member_that_cannot_be_reached_is_told_so_and_lacks_no_quota() {
    let a = good("a");
    let mute = Fake::start(|received| {
        if received.path().ends_with("/models") {
            return says("b", received);
        }
        Answer::events().chunked().event("[DONE]").last_chunk()
    })
    .expect("fake upstream starts");
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
        let failed = chat(&proxy, panel, SMALL);
        assert_eq!((failed.status, failed.header("retry-after")), (503, None), "{}", failed.text());
        let attempts = failed.header("x-demuxai-attempts").expect("attempts").to_owned();
        assert!(attempts.contains("gone/m connect"), "{attempts}");
        assert!(failed.error().contains("cannot connect to"), "{}", failed.error());
        assert!(!failed.error().contains("capacity"), "{}", failed.error());
    }
}
