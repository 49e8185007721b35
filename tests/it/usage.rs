//! Token counts: asked for where the client did not, taken out again, kept as the client wants them, and counted once.

use demuxai::demo::{Answer, Script, Upstream};
use serde_json::json;

use crate::support::eventually;
use crate::support::proxy::{Proxy, provider};
use crate::support::stage::{PATH, STREAM, Stage, chunk, finish, named};

const DONE: &str = "data: [DONE]\n\n";

const USAGE: &str = r#"{"id":"c1","object":"chat.completion.chunk","model":"m","choices":[],"usage":{"prompt_tokens":11,"completion_tokens":7,"total_tokens":18,"prompt_tokens_details":{"cached_tokens":4},"completion_tokens_details":{"reasoning_tokens":2}}}"#;

fn with_usage(frames: &[&str]) -> Script {
    frames
        .iter()
        .fold(Answer::events().chunked(), |script, data| script.event(data))
        .event("[DONE]")
        .last_chunk()
}

fn events_of(payloads: &[&str]) -> String {
    let events: String = payloads.iter().map(|payload| format!("data: {}\n\n", named(payload))).collect();
    format!("{events}{DONE}")
}

#[test]
fn usage_is_asked_for_when_the_client_did_not_and_taken_out_again() {
    let nulls = chunk("a").replace("\"choices\"", "\"usage\":null,\"choices\"");
    let filter = r#"{"id":"","model":"","choices":[],"prompt_filter_results":[]}"#;
    let sent = (nulls.clone(), finish());
    let stage = Stage::new(move |_| with_usage(&[filter, &sent.0, &sent.1, USAGE]));
    let answer = stage.stream();
    assert_eq!(answer.text(), events_of(&[filter, &nulls, &finish()]), "and nothing else is taken out");
    assert_eq!(answer.header("x-demuxai-edits"), Some("add:stream_options.include_usage"));
    let asked = stage.asked()[0].json();
    assert_eq!(asked["stream_options"], json!({"include_usage": true}));
    eventually("it is counted", || stage.tokens("input"), |count| *count == 11.0);
    assert_eq!((stage.tokens("output"), stage.tokens("cached"), stage.tokens("reasoning")), (7.0, 4.0, 2.0));
}

#[test]
fn usage_that_the_client_asked_for_stays_and_its_request_is_not_touched() {
    let stage = Stage::new(|_| with_usage(&[&chunk("a"), &finish(), USAGE]));
    let request =
        r#"{"model":"up/m","stream_options" : {"include_usage":true , "x":1},"stream":true,"messages":[]}"#;
    let answer = stage.proxy.post(PATH, request);
    assert_eq!(answer.text(), events_of(&[&chunk("a"), &finish(), USAGE]));
    assert_eq!(stage.asked()[0].body, request.replace("up/m", "m"));
    assert_eq!(answer.header("x-demuxai-edits"), None);
    eventually("it is counted", || stage.tokens("output"), |count| *count == 7.0);
}

#[test]
fn usage_is_asked_for_beside_other_stream_options() {
    let stage = Stage::new(|_| with_usage(&[&chunk("a"), &finish(), USAGE]));
    for options in [
        r#"{"include_usage":false,"include_obfuscation":false}"#,
        r#"{"include_obfuscation":false}"#,
        "{}",
        "null",
    ] {
        let request = format!(r#"{{"model":"up/m","stream":true,"messages":[],"stream_options":{options}}}"#);
        let answer = stage.proxy.post(PATH, &request);
        assert_eq!(answer.text(), events_of(&[&chunk("a"), &finish()]), "{options}");
        let asked = stage.asked().last().unwrap().json();
        assert_eq!(asked["stream_options"]["include_usage"], true, "{options}");
        if options.contains("obfuscation") {
            assert_eq!(asked["stream_options"]["include_obfuscation"], false, "{options}");
        }
    }
}

#[test]
fn usage_in_a_chunk_with_choices_stays_and_is_counted_once() {
    let with = |payload: &str, output: u32| {
        let usage = format!("\"usage\":{{\"prompt_tokens\":3,\"completion_tokens\":{output}}},\"choices\"");
        payload.replace("\"choices\"", &usage)
    };
    // A running count, zeros at the end, and the usage chunk once more.
    let payloads = [with(&chunk("a"), 1), with(&chunk("b"), 2), with(&finish(), 0)];
    let sent = payloads.clone();
    let stage = Stage::new(move |_| with_usage(&[&sent[0], &sent[1], &sent[2]]));
    let answer = stage.stream();
    assert_eq!(answer.text(), events_of(&[&payloads[0], &payloads[1], &payloads[2]]));
    eventually("it is counted", || stage.tokens("output"), |count| *count == 2.0);
    assert_eq!(stage.tokens("input"), 3.0);
}

#[test]
fn mistral_is_never_asked_for_usage_and_its_own_is_kept() {
    let fake = Upstream::Mistral.start(demuxai::demo::Setup::default()).unwrap();
    let stage = Stage::before(fake, "mistral", "", "");
    let request = STREAM.replace("up/m", "up/mistral-large-latest");
    let answer = stage.proxy.post(PATH, &request);
    assert!(answer.status == 200 && answer.complete, "{}", answer.text());
    let asked = stage.asked()[0].json();
    assert!(asked.get("stream_options").is_none(), "{asked}");
    assert!(answer.text().contains("\"usage\":{"), "{}", answer.text());
    let asked_for = request.replace("\"stream\"", "\"stream_options\":{\"include_usage\":true},\"stream\"");
    let answer = stage.proxy.post(PATH, &asked_for);
    assert!(answer.status == 200 && answer.complete, "{}", answer.text());
    assert!(stage.asked()[1].json().get("stream_options").is_none());
    assert!(answer.header("x-demuxai-edits").is_some_and(|edits| edits.contains("drop:stream_options")));
    let series = "demuxai_tokens_total{model=\"mistral-large-latest\",provider=\"up\",source=\"upstream\",type=\"output\"}";
    eventually("it is counted", || stage.proxy.find_metric(series).unwrap_or(0.0), |count| *count > 0.0);
}

#[test]
fn daemons_behind_each_other_count_the_same_tokens_and_each_takes_out_what_it_asked_for() {
    let inner = Stage::new(|received| {
        assert_eq!(received.json()["stream_options"]["include_usage"], true);
        with_usage(&[&chunk("a"), &finish(), USAGE])
    });
    let url = format!("http://{}", inner.proxy.address);
    let outer = Proxy::start(&provider("outer", "openai", &url));
    let request = STREAM.replace("up/m", "outer/up/m");
    outer.until_up("outer");
    let twice =
        |payload: &str| payload.replace("\"c1\"", "\"c1@up@outer\"").replace("\"m\"", "\"outer/up/m\"");
    let expected = |payloads: &[&str]| -> String {
        payloads
            .iter()
            .map(|payload| format!("data: {}\n\n", twice(payload)))
            .chain([DONE.to_owned()])
            .collect()
    };
    let answer = outer.post(PATH, &request);
    assert_eq!(answer.text(), expected(&[&chunk("a"), &finish()]));
    let asked = request.replace("\"stream\"", "\"stream_options\":{\"include_usage\":true},\"stream\"");
    assert_eq!(outer.post(PATH, &asked).text(), expected(&[&chunk("a"), &finish(), USAGE]));
    let series =
        "demuxai_tokens_total{model=\"up/m\",provider=\"outer\",source=\"upstream\",type=\"output\"}";
    eventually(
        "both count",
        || (outer.find_metric(series), inner.tokens("output")),
        |both| *both == (Some(14.0), 14.0),
    );
}

#[test]
fn usage_that_came_before_the_stream_broke_is_counted_though_the_client_left() {
    let early = chunk("a")
        .replace("\"choices\"", "\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2},\"choices\"");
    let stage = Stage::new(move |_| Answer::events().chunked().event(&early).event(&early).reset());
    assert!(!stage.stream().complete);
    eventually("it is counted", || stage.tokens("output"), |count| *count == 2.0);
}
