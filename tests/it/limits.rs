//! What limits of clients count, for whom, and what they say when they refuse. The whole daemon in front of scripted
//! upstreams.

use serde_json::json;

use super::support::several::{SMALL, SMALL_TALK, ask_with, budget, chat, daemon, gated, good, group, limit};
use super::support::{asked, content, eventually};

#[test]
fn each_client_has_a_limit_for_itself_and_the_refusal_names_limit_client_and_moment() {
    let a = good("a");
    let proxy = daemon(
        &[&a],
        &(limit("fair", "a/m", r#"{ requests = 2, per = "hour" }"#)
            + "[keys.ide]\nkey = \"k-ide\"\n[keys.agent]\nkey = \"k-agent\"\n"),
    );
    let ide = [("authorization", "Bearer k-ide")];
    for _ in 0..2 {
        assert_eq!(ask_with(&proxy, &ide, "fair").status, 200);
    }
    let refused = ask_with(&proxy, &ide, "fair");
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
    assert_eq!(ask_with(&proxy, &agent, "fair").status, 200);
    assert_eq!(asked(&a), 3);
}

#[test]
fn what_is_beyond_a_limit_overflows_and_all_without_a_key_share_it() {
    let (a, b) = (good("a"), good("b"));
    let proxy = daemon(
        &[&a, &b],
        &(limit("fair", "a/m", r#"{ tokens = 100, per = "hour" }"#) + "overflow = \"b/m\"\n"),
    );
    assert_eq!(content(&chat(&proxy, "fair", SMALL)), "a");
    assert_eq!(
        proxy.used("limit", "fair", "anonymous"),
        8,
        "what was reported takes the place of what was reserved"
    );
    let streamed = chat(&proxy, "fair", r#","max_tokens":20,"stream":true"#);
    assert!(streamed.complete && streamed.text().contains("\"content\":\"a\""), "{}", streamed.text());
    eventually("the stream's end settles", || proxy.used("limit", "fair", "anonymous"), |used| *used == 16);
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
        &[
            group("sorry", "static", r#"answer = "later""#),
            limit("team", "sorry", r#"{ tokens = 10000, per = "day" }"#) + "by = \"group\"\n",
        ]
        .concat(),
    );
    for more in [SMALL_TALK.to_owned(), format!("{SMALL_TALK},\"stream\":true")] {
        assert!(chat(&proxy, "team", &more).text().contains("later"));
    }
    eventually("nothing is used", || proxy.used("limit", "team", "all"), |used| *used == 0);
}

#[test]
fn a_limit_by_a_header_counts_each_of_its_values() {
    let a = good("a");
    let proxy = daemon(
        &[&a],
        &(limit("teams", "a/m", r#"{ requests = 1, per = "hour" }"#) + "by = \"header:x-team\"\n"),
    );
    for team in ["red", "blue"] {
        assert_eq!(ask_with(&proxy, &[("x-team", team)], "teams").status, 200);
        let refused = ask_with(&proxy, &[("x-team", team)], "teams");
        assert_eq!(refused.status, 429);
        assert!(refused.error().starts_with(&format!("`x-team: {team}` has used up")), "{}", refused.error());
    }
    assert_eq!(ask_with(&proxy, &[], "teams").status, 200);
    assert_eq!(ask_with(&proxy, &[], "teams").status, 429);
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
        assert_eq!(ask_with(&first, &ide, model).status, 200);
    }
    assert_eq!(first.used("key", "ide", "ide"), 2);
    drop(first);
    let second = daemon(&[&a], &text);
    assert_eq!(second.used("key", "ide", "ide"), 2, "it is told before the key is used again");
    assert_eq!(ask_with(&second, &ide, "a/other").status, 200);
    let refused = ask_with(&second, &ide, "a/m");
    assert_eq!(refused.status, 429);
    assert!(
        refused.error().starts_with("client `ide` has used up 3 requests per day (`limits` of keys.ide)"),
        "{}",
        refused.error()
    );
    assert_eq!(ask_with(&second, &[("authorization", "Bearer k-free")], "a/m").status, 200);
}

#[test]
fn a_limit_counts_what_its_clients_get_whoever_answers() {
    let a = good("a");
    let proxy = daemon(
        &[&a],
        &[
            group("kept", "cache", r#"to = "a/m""#),
            limit("few", "kept", r#"{ tokens = 1000, per = "day" }, { requests = 3, per = "day" }"#),
            limit("bought", "a/other", r#"{ requests = 1, per = "day" }"#),
            group("free", "cache", r#"to = "bought""#),
        ]
        .concat(),
    );
    let same = r#","max_tokens":20,"temperature":0"#;
    for number in 1..=3 {
        assert_eq!(content(&chat(&proxy, "few", same)), "a");
        assert_eq!(
            proxy.used("limit", "few", "anonymous"),
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
fn of_two_limits_the_one_that_is_used_up_is_named() {
    let a = good("a");
    let proxy = daemon(
        &[&a],
        &limit("few", "a/m", r#"{ requests = 2, per = "hour" }, { tokens = 100, per = "hour" }"#),
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
        &[
            limit("one", "a/m", "{ concurrent = 1 }") + "by = \"group\"\n",
            limit("first", "a/m", "{ concurrent = 1 }") + "overflow = \"one\"\nby = \"group\"\n",
        ]
        .concat(),
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
    let proxy = daemon(&[&a], &limit("few", "a/m", r#"{ output_tokens = 8, per = "hour" }"#));
    assert_eq!(content(&chat(&proxy, "few", r#","max_tokens":0"#)), "a");
    assert_eq!(proxy.used("limit", "few", "anonymous"), json!(5));
    assert_eq!(chat(&proxy, "few", r#","max_tokens":4"#).status, 429);
}

#[test]
fn what_requests_in_flight_may_take_is_said_to_be_theirs_and_may_be_free_in_a_moment() {
    let a = gated("a");
    let proxy = daemon(
        &[&a],
        &[
            limit("few", "a/m", r#"{ tokens = 400, per = "day" }"#),
            budget("paid", "a/m", &[(0.01, "day")], &[("*", 0, 100)]),
        ]
        .concat(),
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
        &[
            limit("few", "a/m", r#"{ tokens = 100, per = "hour" }"#),
            budget("paid", "a/m", &[(0.001, "month")], &[("*", 0, 100)]),
        ]
        .concat(),
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
