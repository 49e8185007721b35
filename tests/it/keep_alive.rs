//! A client that waits gets comments: before the first token, which settles that a later error is an event, and between
//! two tokens; one newline each, and only where an event may begin.

use std::collections::BTreeMap;
use std::time::Duration;

use demuxai::demo::faults::{self, good_stream};
use demuxai::demo::{Answer, EventStream, Script};
use serde_json::Value;

use crate::support::stage::{PATH, STREAM, Stage};

/// Role, two words, finish, `[DONE]`: five frames.
fn good() -> EventStream {
    good_stream("m", &["Hé 😀", " you"])
}

/// What a client gets of the first frames of an upstream's stream.
fn relayed(frames: usize) -> String {
    let upstream: String =
        good().frames[..frames].iter().map(|frame| std::str::from_utf8(frame).unwrap()).collect();
    upstream.replace("\"chatcmpl-fault\"", "\"chatcmpl-fault@up\"").replace("\"m\"", "\"up/m\"")
}

const COMMENT: &str = ": keep-alive\n";
const OFTEN: &str = "keep_alive = \"40ms\"";

/// The events of a stream as the WHATWG specification reads them; written anew, so as to share no mistake.
fn parse(stream: &str) -> Vec<String> {
    let mut events = Vec::new();
    let mut data: Option<String> = None;
    for line in stream.split('\n') {
        if line.is_empty() {
            events.extend(data.take());
        } else if let Some(value) = line.strip_prefix("data:") {
            let value = value.strip_prefix(' ').unwrap_or(value);
            data = Some(data.map_or_else(|| value.to_owned(), |before| format!("{before}\n{value}")));
        } else {
            assert!(line.starts_with(':'), "neither data nor a comment: {line:?}");
        }
    }
    assert_eq!(data, None, "the last event is whole");
    events
}

/// Comments stand only where an event may begin, and nothing but comments was put in.
fn assert_comments_between_events(text: &str, without: &str) {
    assert_eq!(text.replace(COMMENT, ""), without);
    assert_eq!(parse(text), parse(without));
    for (at, _) in text.match_indices(COMMENT) {
        let before = &text[..at];
        assert!(
            before.is_empty() || before.ends_with("\n\n") || before.ends_with(COMMENT),
            "within an event: {text}"
        );
    }
    assert!(!text.contains(": keep-alive\n\n"), "one newline, not two: {text:?}");
}

#[test]
fn a_client_that_waits_for_the_first_token_is_kept_alive_with_comments() {
    let stage = Stage::with("", OFTEN, |_| faults::gated_first_token(good(), "go"));
    let mut reading = stage.open_stream();
    reading.until(&COMMENT.repeat(3));
    assert_eq!(reading.status, 200);
    assert_eq!(reading.header("content-type"), Some("text/event-stream; charset=utf-8"));
    assert!(reading.header("x-request-id").is_some());
    assert_eq!(reading.header("x-demuxai-provider"), None, "it is not known yet");
    stage.fake.open_gate("go");
    let answer = reading.finish();
    assert!(answer.complete);
    assert_comments_between_events(&answer.text(), &relayed(5));
    stage.assert_settled();
    assert_eq!(stage.outcomes("ok"), 1.0);
}

#[test]
fn a_client_that_waits_between_two_tokens_is_kept_alive_with_comments() {
    let stage = Stage::with("", OFTEN, |_| faults::gated_mid_stream(good(), 3, "go"));
    let mut reading = stage.open_stream();
    reading.until(&format!("{}{}", relayed(3), COMMENT.repeat(2)));
    assert_eq!(reading.header("x-demuxai-provider"), Some("up"));
    stage.fake.open_gate("go");
    let answer = reading.finish();
    assert!(answer.complete);
    assert_comments_between_events(&answer.text(), &relayed(5));
}

#[test]
fn no_comment_is_put_into_an_event_that_comes_in_pieces() {
    let stage = Stage::with("", OFTEN, |_| {
        let body = good().frames.concat();
        // Within the second word's event.
        let cut = good().frames[..2].concat().len() + 20;
        Answer::events()
            .chunked()
            .chunk(body[..cut].to_vec())
            .gate("go")
            .chunk(body[cut..].to_vec())
            .last_chunk()
    });
    let mut reading = stage.open_stream();
    reading.until(&COMMENT.repeat(2));
    // The next comment may have come in part.
    let so_far = reading.so_far();
    let whole = so_far.rfind(COMMENT).map_or(0, |at| at + COMMENT.len());
    assert!(so_far[..whole].trim_end_matches(COMMENT).ends_with("\n\n"), "{so_far:?}");
    stage.fake.open_gate("go");
    assert_comments_between_events(&reading.finish().text(), &relayed(5));
}

#[test]
fn a_stream_that_flows_gets_no_comments_and_the_upstreams_own_are_dropped() {
    let stage = Stage::with("", "keep_alive = \"1s\"", |_| faults::comments(good()));
    assert_eq!(stage.stream().text(), relayed(5));
}

#[test]
fn a_stream_that_flows_for_longer_than_the_quiet_time_gets_no_comments() {
    let stage = Stage::with("", "keep_alive = \"500ms\"", |_| {
        EventStream { pace: Duration::from_millis(25), ..good_stream("m", &["word "; 40]) }.script()
    });
    let text = stage.stream().text();
    assert!(text.ends_with("data: [DONE]\n\n") && !text.contains(COMMENT), "{text}");
}

#[test]
fn an_error_after_the_client_was_kept_alive_comes_as_an_event_and_the_connection_is_cut() {
    type Late = (&'static str, fn() -> Script, &'static str);
    let rows: [Late; 5] = [
        ("status", || Script::new().gate("go").then(faults::json_error(503)), "The server had an error"),
        (
            "in band",
            || Script::new().gate("go").then(faults::role_then_error(good())),
            "The server had an error",
        ),
        ("cut", || Script::new().gate("go").then(faults::close_mid_stream(good(), 1)), "broke off"),
        ("page", || Script::new().gate("go").then(faults::html_502()), "502"),
        ("never", faults::hang_before_head, "timeouts.first_token"),
    ];
    let scripts: BTreeMap<&str, fn() -> Script> =
        rows.iter().map(|(name, script, _)| (*name, *script)).collect();
    let stage = Stage::with("timeouts = { first_token = \"400ms\" }", OFTEN, move |received| {
        scripts[received.json()["user"].as_str().unwrap()]()
    });
    for (name, _, said) in rows {
        let mut reading =
            stage.proxy.open(PATH, &STREAM.replace("\"stream\"", &format!("\"user\":\"{name}\",\"stream\"")));
        reading.until(COMMENT);
        assert_eq!(reading.status, 200, "{name}");
        stage.fake.open_gate("go");
        let answer = reading.finish();
        stage.fake.close_gate("go");
        let text = answer.text();
        assert!(!answer.complete && !text.contains("[DONE]"), "{name}: {text}");
        let events = parse(&text);
        assert_eq!(events.len(), 1, "{name}: {text}");
        let event: Value = serde_json::from_str(&events[0]).unwrap();
        assert!(event["error"]["message"].as_str().unwrap().contains(said), "{name}: {event}");
        assert!(event["error"]["type"].is_string(), "{name}: {event}");
    }
    stage.assert_settled();
    assert_eq!(stage.outcomes("ok"), 0.0);
}
