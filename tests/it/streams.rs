//! Streams: every fault of an upstream and what the client is told of it, before and after the commit point; the
//! framing that is normalised and the payloads that are not; keep-alive comments; the usage chunk.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use demuxai::demo::faults::{self, good_stream};
use demuxai::demo::{Answer, EventStream, Script, Upstream};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

use crate::support::client;
use crate::support::eventually;
use crate::support::proxy::{Proxy, provider};
use crate::support::stage::{PATH, STREAM, Stage, chunk, finish, named};

const DONE: &str = "data: [DONE]\n\n";
const PLAIN: &str =
    r#"{"id":"c1","model":"m","choices":[{"message":{"content":"x"},"finish_reason":"stop"}]}"#;
const MEGABYTE: usize = 1024 * 1024;

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

/// What becomes of a stream.
enum Then {
    /// 200, and exactly this.
    Whole(String),
    /// A status before anything was sent, and a message with this in it.
    Refused(u16, &'static str),
    /// 200, the first so many frames exactly, an error event with this in its message, and the connection is cut.
    Broken(usize, &'static str),
}

use Then::{Broken, Refused, Whole};

/// A row of a table: a script by name, and what becomes of it.
type Row = (&'static str, fn() -> Script, Then);

fn whole() -> Then {
    Whole(relayed(5))
}

/// Plays all rows against one daemon; no row leaves anything behind.
fn play(rows: Vec<Row>) {
    let scripts: BTreeMap<&str, fn() -> Script> =
        rows.iter().map(|(name, script, _)| (*name, *script)).collect();
    assert_eq!(scripts.len(), rows.len(), "two rows have one name");
    let stage =
        Stage::with("timeouts = { first_token = \"300ms\", idle = \"300ms\" }", "", move |received| {
            scripts[received.json()["user"].as_str().expect("a row's name")]()
        });
    stage.fake.open_gate("open");
    for (name, _, then) in rows {
        let request = STREAM.replace("\"stream\"", &format!("\"user\":\"{name}\",\"stream\""));
        let answer = stage.proxy.post(PATH, &request);
        check(name, &answer, &then);
    }
    stage.assert_settled();
}

fn check(name: &str, answer: &client::Answer, then: &Then) {
    let text = answer.text();
    match then {
        Whole(wanted) => {
            assert_eq!((answer.status, &text), (200, wanted), "{name}");
            assert!(answer.complete, "{name}: the body ends as it should");
        }
        Refused(status, said) => {
            assert_eq!(answer.status, *status, "{name}: {text}");
            assert_eq!(answer.header("content-type"), Some("application/json"), "{name}");
            assert!(answer.error().contains(said), "{name}: {text}");
            assert!(answer.complete && !text.contains("data:"), "{name}");
        }
        Broken(frames, said) => {
            assert_eq!(answer.status, 200, "{name}: {text}");
            let rest = text.strip_prefix(&relayed(*frames)).unwrap_or_else(|| panic!("{name}: {text}"));
            assert!(!answer.complete, "{name}: the connection is cut: {text}");
            let event = rest.strip_prefix("data: ").and_then(|rest| rest.strip_suffix("\n\n"));
            let event = event.unwrap_or_else(|| panic!("{name}: one event and nothing behind it: {rest:?}"));
            let error: Value =
                serde_json::from_str(event).unwrap_or_else(|error| panic!("{name}: {error}: {event}"));
            let message = error["error"]["message"].as_str().unwrap_or_else(|| panic!("{name}: {error}"));
            assert!(message.contains(said), "{name}: {message}");
            assert!(!rest.contains("[DONE]") && !rest.contains("finish_reason"), "{name}: {rest}");
        }
    }
}

#[test]
fn a_stream_that_waits_is_relayed_and_one_that_hangs_is_given_up() {
    play(vec![
        ("slow", || faults::slow_first_token(good(), Duration::from_millis(50)), whole()),
        ("head late", || faults::gated_head(good(), "open"), whole()),
        ("first late", || faults::gated_first_token(good(), "open"), whole()),
        ("middle late", || faults::gated_mid_stream(good(), 2, "open"), whole()),
        ("no head", faults::hang_before_head, Refused(504, "timeouts.first_token")),
        ("no event", faults::hang_after_head, Refused(504, "timeouts.first_token")),
        ("role alone", || faults::hang_mid_stream(good(), 1), Refused(504, "timeouts.first_token")),
        ("one word", || faults::hang_mid_stream(good(), 2), Broken(2, "timeouts.idle")),
    ]);
}

#[test]
fn a_stream_that_breaks_off_is_never_passed_off_as_whole() {
    play(vec![
        ("FIN before the head", faults::close_before_head, Refused(502, "before it answered")),
        ("RST before the head", faults::reset_before_head, Refused(502, "before it answered")),
        ("FIN within the head", faults::close_within_head, Refused(502, "broke off")),
        ("RST after nothing", || faults::reset_mid_stream(good(), 0), Refused(502, "broke off")),
        ("RST after the role", || faults::reset_mid_stream(good(), 1), Refused(502, "broke off")),
        ("RST after a word", || faults::reset_mid_stream(good(), 2), Broken(2, "broke off")),
        ("FIN after the role", || faults::close_mid_stream(good(), 1), Refused(502, "broke off")),
        ("FIN after a word", || faults::close_mid_stream(good(), 2), Broken(2, "broke off")),
        ("FIN within a chunk", || faults::close_within_chunk(good(), 2), Broken(2, "broke off")),
        ("FIN within the first chunk", || faults::close_within_chunk(good(), 0), Refused(502, "broke off")),
        (
            "a good end after nothing",
            || faults::end_without_finish(good(), 0),
            Refused(502, "before the answer was"),
        ),
        (
            "a good end after the role",
            || faults::end_without_finish(good(), 1),
            Refused(502, "before the answer was"),
        ),
        (
            "a good end after words",
            || faults::end_without_finish(good(), 3),
            Broken(3, "before the answer was"),
        ),
        ("a short body", || faults::short_body(PLAIN, 5), Refused(502, "broke off")),
    ]);
}

#[test]
fn an_answer_that_was_finished_is_whole_whatever_happens_to_the_connection_after_it() {
    play(vec![
        ("without [DONE]", || faults::without_done(good()), whole()),
        ("FIN after the finish", || faults::close_mid_stream(good(), 4), whole()),
        ("RST after the finish", || faults::reset_mid_stream(good(), 4), whole()),
        ("FIN within [DONE]", || faults::close_within_chunk(good(), 4), whole()),
        ("FIN after [DONE]", || faults::close_mid_stream(good(), 5), whole()),
        ("RST after [DONE]", || faults::reset_mid_stream(good(), 5), whole()),
        ("silence after [DONE]", || good().open().hang(), whole()),
        ("silence after the finish", || faults::hang_mid_stream(good(), 4), whole()),
    ]);
}

#[test]
fn no_finish_reason_is_ever_invented() {
    let without = format!("{}{DONE}", relayed(3));
    play(vec![
        ("without a finish reason", || faults::without_finish(good()), Whole(without)),
        ("[DONE] alone", faults::only_done, Whole(DONE.to_owned())),
    ]);
}

#[test]
fn an_error_inside_a_200_is_a_status_before_the_first_token_and_an_event_after_it() {
    play(vec![
        ("first", faults::error_first, Refused(502, "The server had an error")),
        ("after the role", || faults::role_then_error(good()), Refused(502, "The server had an error")),
        (
            "after a comment",
            || Answer::events().chunked().chunk(": hi\n\n").event(faults::error_object()).last_chunk(),
            Refused(502, "The server had an error"),
        ),
        (
            "after empty choices",
            || {
                let filter = r#"{"id":"chatcmpl-fault","model":"m","choices":[],"prompt_filter_results":[]}"#;
                Answer::events().chunked().event(filter).event(faults::error_object()).last_chunk()
            },
            Refused(502, "The server had an error"),
        ),
        ("after a word", || faults::error_mid_stream(good(), 2), Broken(2, "The server had an error")),
        ("after the finish", || faults::error_mid_stream(good(), 4), Broken(4, "The server had an error")),
        (
            "with a name, after the role",
            || faults::named_error_mid_stream(good(), 1),
            Refused(502, "The server had"),
        ),
        (
            "with a name, after a word",
            || faults::named_error_mid_stream(good(), 3),
            Broken(3, "The server had"),
        ),
        ("as a document", faults::error_in_json_200, Refused(502, "The server had an error")),
        ("with a status", || faults::json_error(503), Refused(503, "The server had an error")),
    ]);
}

#[test]
fn the_finish_reason_error_is_an_error() {
    let stage = Stage::new(|_| faults::finish_reason_error("m"));
    let answer = stage.stream();
    let events = answer.events();
    assert!(!answer.complete && events.len() == 3, "{events:?}");
    let last: Value = serde_json::from_str(&events[2]).unwrap();
    assert!(last["error"]["message"].is_string(), "{last}");
    assert!(!answer.text().contains("[DONE]") && !answer.text().contains("\"finish_reason\":\"error\""));
}

#[test]
fn garbage_is_neither_relayed_nor_followed_by_an_end() {
    play(vec![
        ("no JSON, first", || faults::garbage_event(good(), 0), Refused(502, "cannot be read")),
        ("no JSON, after a word", || faults::garbage_event(good(), 2), Broken(2, "cannot be read")),
        ("no UTF-8, after the role", || faults::invalid_utf8(good(), 1), Refused(502, "cannot be read")),
        ("no UTF-8, after a word", || faults::invalid_utf8(good(), 2), Broken(2, "cannot be read")),
        ("no chunk, after the role", || faults::garbage_chunk(good(), 1), Refused(502, "size")),
        ("no chunk, after words", || faults::garbage_chunk(good(), 3), Broken(3, "size")),
        ("a page", faults::html_200, Refused(502, "cannot be read")),
        ("a gateway's page", faults::html_502, Refused(502, "502")),
        ("nothing", faults::empty_200, Refused(502, "ends too early")),
        ("no events", faults::empty_stream, Refused(502, "before the answer was complete")),
        ("not HTTP", faults::not_http, Refused(502, "HTTP/1.1")),
        ("an endless head", faults::endless_head, Refused(502, "64 KB")),
        ("an endless line", faults::endless_line, Refused(502, "too much at once")),
        ("an endless document", faults::endless_body, Refused(504, "timeouts.first_token")),
        ("a document", || Answer::json(200).body(PLAIN), Refused(502, "a plain document")),
        ("a chunked document", || faults::chunked_json(PLAIN, 9), Refused(502, "a plain document")),
        ("a document to the end", || faults::close_delimited_json(PLAIN), Refused(502, "a plain document")),
        ("a padded document", || faults::blank_lines_then_json(PLAIN), Refused(502, "a plain document")),
        ("a redirect", || faults::redirect("http://127.0.0.1:1/".to_owned()), Refused(502, "redirect")),
    ]);
}

#[test]
fn every_framing_that_the_specification_allows_comes_out_the_same() {
    play(vec![
        ("plain", || good().script(), whole()),
        ("comments", || faults::comments(good()), whole()),
        ("CRLF", || faults::crlf(good()), whole()),
        ("CR", || faults::cr_only(good()), whole()),
        ("no space", || faults::without_space(good()), whole()),
        ("byte order mark", || faults::byte_order_mark(good()), whole()),
        ("other fields", || faults::other_fields(good()), whole()),
        ("one chunk", || faults::one_chunk(good()), whole()),
        ("chunks of 1", || faults::cut_every(good(), 1), whole()),
        ("chunks of 7", || faults::cut_every(good(), 7), whole()),
        ("split characters", || faults::split_utf8(good()), whole()),
        ("byte by byte", || faults::byte_by_byte(good(), Duration::ZERO), whole()),
        ("content-length", || Answer::events().body(good().frames.concat()), whole()),
        ("until close", || faults::close_delimited_stream(good()), whole()),
        ("103 first", || faults::early_hints(good().script()), whole()),
        ("100 first", || faults::unasked_continue(good().script()), whole()),
        (
            "no content type",
            || {
                let stream = EventStream { answer: Answer::new(200), ..good() };
                stream.script()
            },
            whole(),
        ),
        ("several data lines", || faults::many_data_lines(good()), {
            let lines =
                relayed(5).split_inclusive("\n\n").map(|event| event.replacen(',', ",\ndata: ", 1)).collect();
            Whole(lines)
        }),
    ]);
}

#[test]
fn a_huge_event_passes_whole_and_one_beyond_the_bound_is_refused() {
    let stage = Stage::new(|received| {
        let size = if received.json()["user"] == "large" { MEGABYTE } else { 9 * MEGABYTE };
        faults::huge_event("m", size)
    });
    let large = stage.proxy.post(PATH, &STREAM.replace("\"stream\"", "\"user\":\"large\",\"stream\""));
    assert!(large.status == 200 && large.complete && large.text().ends_with(DONE));
    assert!(large.text().contains(&format!("\"{}\"", "x".repeat(MEGABYTE))));
    let beyond = stage.stream();
    assert_eq!(beyond.status, 502, "{}", beyond.text());
    assert!(beyond.error().contains("too much at once"), "{}", beyond.error());
    stage.assert_settled();
}

#[test]
fn an_upstreams_error_object_is_the_last_event_as_it_was() {
    let stage = Stage::new(|_| faults::error_mid_stream(good(), 2));
    let answer = stage.stream();
    assert_eq!(answer.text(), format!("{}data: {}\n\n", relayed(2), faults::error_object()));
    eventually("it is counted", || stage.stream_ends("upstream_error"), |count| *count == 1.0);
    assert_eq!((stage.outcomes("upstream_error"), stage.attempts("error", "upstream_error")), (1.0, 1.0));
    assert_eq!(stage.stream_ends("done"), 0.0);
    stage.assert_settled();
}

#[test]
fn a_truncated_stream_counts_against_the_upstream_and_a_finished_one_does_not() {
    let stage = Stage::new(|received| match received.json()["user"].as_str() {
        Some("cut") => faults::close_mid_stream(good(), 2),
        _ => faults::without_done(good()),
    });
    stage.proxy.post(PATH, &STREAM.replace("\"stream\"", "\"user\":\"cut\",\"stream\""));
    eventually("the cut is counted", || stage.stream_ends("truncated"), |count| *count == 1.0);
    assert_eq!((stage.outcomes("truncated"), stage.attempts("error", "truncated")), (1.0, 1.0));
    assert!(stage.stream().complete);
    eventually("the end is counted", || stage.stream_ends("done"), |count| *count == 1.0);
    assert_eq!((stage.outcomes("ok"), stage.attempts("ok", "none")), (1.0, 1.0));
    stage.assert_settled();
}

#[test]
fn no_fault_of_the_fakes_is_left_untested() {
    let faults = include_str!("../../src/demo/faults.rs");
    let tests = [include_str!("streams.rs"), include_str!("relay.rs")].concat();
    let names: Vec<&str> = faults
        .lines()
        .filter(|line| line.starts_with("pub fn ") && line.ends_with("-> Script {"))
        .filter_map(|line| line.strip_prefix("pub fn ")?.split('(').next())
        .collect();
    assert!(names.len() > 40, "{names:?}");
    for name in names {
        assert!(tests.contains(&format!("faults::{name}")), "nothing plays {name}");
    }
}

#[test]
fn reasoning_and_tool_calls_commit_as_content_does() {
    for delta in [
        r#""reasoning_content":"hm""#,
        r#""reasoning":"hm""#,
        r#""role":"assistant","content":null,"tool_calls":[{"index":0,"id":"t","type":"function","function":{"name":"f","arguments":""}}]"#,
        r#""refusal":"no""#,
    ] {
        let event = format!(
            r#"{{"id":"c1","model":"m","choices":[{{"index":0,"delta":{{{delta}}},"finish_reason":null}}]}}"#
        );
        let sent = event.clone();
        let stage = Stage::new(move |_| {
            Answer::events().chunked().event(&sent).event(faults::error_object()).last_chunk()
        });
        let answer = stage.stream();
        assert_eq!(answer.status, 200, "{delta}");
        assert_eq!(answer.text(), format!("data: {}\n\ndata: {}\n\n", named(&event), faults::error_object()));
    }
}

#[test]
fn what_never_commits_is_held_back_only_up_to_a_bound() {
    let role = good().frames[0].clone();
    let frame = [format!("{:x}\r\n", role.len()).as_bytes(), &role, b"\r\n"].concat();
    let stage = Stage::new(move |_| Answer::events().chunked().repeat(frame.clone(), u64::MAX));
    let answer = stage.stream();
    assert_eq!(answer.status, 502, "{}", answer.text());
    assert!(answer.error().contains("events without content"), "{}", answer.error());
    eventually("the upstream is left", || stage.fake.counts(), |counts| counts.cancelled == 1);
    stage.assert_settled();
}

#[test]
fn one_of_two_choices_that_never_finished_is_a_truncated_answer() {
    let second = chunk("b").replace("\"index\":0", "\"index\":1");
    let sent = second.clone();
    let stage = Stage::new(move |_| {
        Answer::events().chunked().event(chunk("a")).event(&sent).event(finish()).last_chunk()
    });
    let answer = stage.stream();
    let relayed: String =
        [chunk("a"), second, finish()].iter().map(|event| format!("data: {}\n\n", named(event))).collect();
    let rest = answer.text().strip_prefix(&relayed).map(str::to_owned);
    assert!(rest.is_some_and(|rest| rest.contains("before the answer was complete")), "{}", answer.text());
    assert!(!answer.complete);
}

// --- what comes when ------------------------------------------------------------------------------------------------

#[test]
fn every_event_is_there_before_the_next_one_is_sent() {
    let stage = Stage::new(|_| {
        let tool = r#"{"id":"c1","model":"m","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{"}}]}}]}"#;
        Answer::events()
            .chunked()
            .event(chunk("one"))
            .gate("1")
            .event(tool)
            .gate("2")
            .event(chunk("three"))
            .gate("3")
            .event(finish())
            .event("[DONE]")
            .last_chunk()
    });
    let mut reading = stage.open_stream();
    for (seen, gate) in [("one", "1"), ("arguments", "2"), ("three", "3")] {
        reading.until(seen);
        assert!(reading.so_far().ends_with("\n\n"), "whole events only");
        stage.fake.open_gate(gate);
    }
    assert!(reading.finish().complete);
}

#[test]
fn a_done_stream_ends_at_once_though_the_upstream_keeps_its_body_open() {
    let stage = Stage::new(|_| good().open().hang());
    let started = std::time::Instant::now();
    assert!(stage.stream().complete);
    assert!(started.elapsed() < Duration::from_millis(900), "{:?}", started.elapsed());
    stage.assert_settled();
}

#[test]
fn any_cutting_of_the_same_bytes_gives_the_same_bytes() {
    let broken = |wire: Script| wire.then(Script::new().close());
    let variants: Vec<(Script, String)> = vec![
        (good().script(), relayed(5)),
        (faults::comments(faults_crlf()), relayed(5)),
        (faults::without_done(good()), relayed(5)),
        (
            broken(faults::error_mid_stream(good(), 3)),
            format!("{}data: {}\n\n", relayed(3), faults::error_object()),
        ),
    ];
    let script = Arc::new(Mutex::new(Script::new()));
    let playing = Arc::clone(&script);
    let stage = Stage::new(move |_| playing.lock().unwrap().clone());
    let mut runner = TestRunner::new(Config { cases: 16, failure_persistence: None, ..Config::default() });
    let cuts = proptest::collection::vec(any::<prop::sample::Index>(), 1..12);
    runner
        .run(&(0..variants.len(), cuts), |(variant, cuts)| {
            let (whole, wanted) = &variants[variant];
            let wire = whole.wire();
            let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(wire.len())).collect();
            places.extend([0, wire.len()]);
            places.sort_unstable();
            places.dedup();
            let cut = places.windows(2).fold(Script::new(), |script, place| {
                script.write(wire.slice(place[0]..place[1])).pause(Duration::from_millis(1))
            });
            *script.lock().unwrap() = cut;
            let answer = stage.stream();
            prop_assert_eq!(answer.text(), wanted.clone());
            Ok(())
        })
        .unwrap();
}

/// The good stream with CRLF, still to be framed.
fn faults_crlf() -> EventStream {
    let mut stream = good();
    for frame in &mut stream.frames {
        *frame = String::from_utf8_lossy(frame).replace('\n', "\r\n").into();
    }
    stream
}

// --- keep-alive -----------------------------------------------------------------------------------------------------

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
    assert!(reading.so_far().trim_end_matches(COMMENT).ends_with("\n\n"), "{:?}", reading.so_far());
    stage.fake.open_gate("go");
    assert_comments_between_events(&reading.finish().text(), &relayed(5));
}

#[test]
fn a_stream_that_flows_gets_no_comments_and_the_upstreams_own_are_dropped() {
    let stage = Stage::with("", "keep_alive = \"1s\"", |_| faults::comments(good()));
    assert_eq!(stage.stream().text(), relayed(5));
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

// --- usage ----------------------------------------------------------------------------------------------------------

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
    eventually("the inner one is known", || outer.status_of("outer"), |status| status["health"] == "up");
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
