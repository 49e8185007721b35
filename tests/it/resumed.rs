//! Streams that break off after their first word and that another member of the group goes on with.

use demuxai::demo::{Answer, Fake};
use serde_json::{Value, json};

use super::support::proxy::{Proxy, provider};
use super::support::several::{chunk, good, stream, upstream};
use super::support::upstreams::last_call;
use super::support::{asked, eventually};

/// The daemon with `a`, which breaks off after these events, and `b` of this type.
fn broken_off(events: &'static [&'static str], kind: &str, goes_on: &Fake, group: &str) -> Proxy {
    let breaks = upstream(move |_| {
        let script = Answer::events().chunked();
        events.iter().fold(script, |script, event| script.event(*event)).last_chunk()
    });
    let text = format!(
        "{}{}[groups.g]\ntype = \"failover\"\nmembers = [\"a/m\", \"b/m\"]\n{group}\n[state]\npath = \"none\"\n",
        provider("a", "openai", &breaks.url()),
        provider("b", kind, &goes_on.url())
    );
    let proxy = Proxy::start(&text);
    for id in ["a", "b"] {
        proxy.until_up(id);
    }
    // It must answer as long as the daemon runs.
    std::mem::forget(breaks);
    proxy
}

const ROLE: &str =
    r#"{"id":"1","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#;
const HALF: &str = r#"{"id":"1","choices":[{"index":0,"delta":{"content":"One two"},"finish_reason":null}]}"#;

/// What a client joins.
fn joined(stream: &str) -> String {
    let payloads =
        stream.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]");
    payloads
        .map(|data| serde_json::from_str::<Value>(data).expect("JSON"))
        .filter_map(|event| event["choices"][0]["delta"]["content"].as_str().map(str::to_owned))
        .collect()
}

#[test]
fn a_stream_that_breaks_off_is_not_lost_where_another_one_may_go_on() {
    let goes_on = upstream(|_| {
        Answer::events()
            .chunked()
            .event(r#"{"id":"2","choices":[{"index":0,"delta":{"role":"assistant","content":"One "},"finish_reason":null}]}"#)
            .event(r#"{"id":"2","choices":[{"index":0,"delta":{"content":"two three"},"finish_reason":null}]}"#)
            .event(r#"{"id":"2","choices":[{"index":0,"delta":{"content":"."},"finish_reason":"stop"}]}"#)
            .event("[DONE]")
            .last_chunk()
    });
    let proxy = broken_off(&[ROLE, HALF], "mistral", &goes_on, "resume = \"continue\"");
    let got = stream(&proxy, "g");
    assert_eq!(got.header("x-demuxai-resume"), Some("continue"));
    let text = got.text();
    assert_eq!(joined(&text), "One two three.", "{text}");
    assert!(text.ends_with("data: [DONE]\n\n") && !text.contains("\"error\""), "{text}");
    assert_eq!(text.matches("\"role\"").count(), 1, "{text}");
    assert_eq!(text.matches(r#""x_demuxai":{"continued_by":"b/m"}"#).count(), 1, "{text}");
    let sent = last_call(&goes_on);
    let body = sent.json();
    let last = json!({"role": "assistant", "content": "One two", "prefix": true});
    assert_eq!(body["messages"].as_array().and_then(|messages| messages.last()), Some(&last));
    for id in ["a", "b"] {
        eventually("nothing is held on to", || proxy.status_of(id)["in_flight"].clone(), |count| *count == 0);
    }
    let series = "demuxai_failovers_total{backend=\"g\",from=\"a/m\",reason=\"truncated\",to=\"b/m\"}";
    assert!((proxy.metric(series) - 1.0).abs() < 0.1);
}

#[test]
fn what_cannot_be_continued_ends_with_the_error_it_had() {
    const TOOL: &str = r#"{"id":"1","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"c"}]},"finish_reason":null}]}"#;
    let well = good("b");
    for (events, kind, group) in [
        (&[ROLE, HALF][..], "openai", "resume = \"continue\""),
        (&[ROLE, TOOL][..], "mistral", "resume = \"continue\""),
        (&[ROLE, HALF][..], "mistral", ""),
    ] {
        let proxy = broken_off(events, kind, &well, group);
        let got = stream(&proxy, "g");
        let text = got.text();
        assert!(text.contains("\"error\"") && !text.contains("[DONE]"), "{kind} {group}: {text}");
        assert_eq!(got.header("x-demuxai-resume").is_some(), !group.is_empty());
        assert_eq!(asked(&well), 0, "{kind} {group}");
    }
    let proxy = broken_off(&[ROLE, HALF], "openai", &well, "resume = \"continue\"");
    let text = stream(&proxy, "g").text();
    assert!(text.contains("nobody went on with it") && text.contains("is not known to go on"), "{text}");
}

#[test]
fn whoever_goes_on_without_a_word_has_to_say_that_the_answer_ends() {
    const ECHO: &str =
        r#"{"id":"2","choices":[{"index":0,"delta":{"content":"One two"},"finish_reason":null}]}"#;
    let ends = [chunk("", "\"stop\""), "[DONE]".to_owned()];
    for (events, goes_on) in [
        (&["[DONE]".to_owned()][..], false),
        (&[ECHO.to_owned(), "[DONE]".to_owned()][..], false),
        (&ends[..], true),
    ] {
        let events = events.to_vec();
        let mute = upstream(move |_| {
            events.iter().fold(Answer::events().chunked(), |script, event| script.event(event)).last_chunk()
        });
        let proxy = broken_off(&[ROLE, HALF], "mistral", &mute, "resume = \"continue\"");
        let text = stream(&proxy, "g").text();
        assert_eq!(joined(&text), "One two", "{text}");
        assert_eq!(text.ends_with("data: [DONE]\n\n"), goes_on, "{text}");
        assert_eq!(text.contains("\"finish_reason\":\"stop\""), goes_on, "{text}");
        assert_eq!(text.contains("answered without any content"), !goes_on, "{text}");
    }
}

#[test]
fn whoever_goes_on_and_breaks_off_too_is_not_asked_again() {
    let breaks = upstream(|_| {
        Answer::events()
            .chunked()
            .event(r#"{"id":"2","choices":[{"index":0,"delta":{"content":" three"},"finish_reason":null}]}"#)
            .last_chunk()
    });
    let proxy = broken_off(&[ROLE, HALF], "vllm", &breaks, "resume = \"continue\"");
    let text = stream(&proxy, "g").text();
    assert_eq!(joined(&text), "One two three", "{text}");
    assert!(text.contains("\"error\"") && !text.contains("[DONE]"), "{text}");
    assert_eq!(asked(&breaks), 1);
}
