//! Modifiers: a fixed answer and changed requests. The whole daemon in front of scripted upstreams.

use serde_json::json;

use super::support::several::{chat, daemon, good};
use super::support::upstreams::last_call;
use super::support::{asked, content};

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
    let raw = String::from_utf8(last_call(&a).body.to_vec()).expect("text");
    assert!(raw.contains(r#""x":{"n" : 1e3}"#), "what is not named keeps its bytes: {raw}");
    let sent_to_a = last_call(&a).json();
    assert_eq!(sent_to_a["messages"][0], json!({"role": "system", "content": "Be kind.\n\nBe brief."}));
    assert_eq!((&sent_to_a["temperature"], &sent_to_a["max_completion_tokens"]), (&json!(0.2), &json!(64)));
    assert!(sent_to_a.get("seed").is_none());

    let renamed = chat(&proxy, "names/gpt-4o-mini", "");
    assert_eq!(
        (content(&renamed), renamed.header("x-demuxai-edits")),
        ("a".to_owned(), Some("rename:model"))
    );
    assert_eq!(last_call(&a).json()["model"], "other");
    assert_eq!(content(&chat(&proxy, "names/fast", "")), "b", "a name comes before globs of its length");
    let own = chat(&proxy, "names", "");
    assert_eq!((content(&own), own.header("x-demuxai-edits")), ("a".to_owned(), None));
    assert_eq!(chat(&proxy, "names/unheard-of", "").status, 404);
    let series = r#"demuxai_modified_requests_total{backend="names",outcome="changed",type="rewrite"}"#;
    assert!((proxy.metric(series) - 2.0).abs() < 0.1);
}
