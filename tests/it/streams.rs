//! Streams: every fault of an upstream and what the client is told of it, before and after the commit point; the
//! framing that is normalised and the payloads that are not.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use demuxai::demo::faults::{self, good_stream};
use demuxai::demo::{Answer, EventStream, Script};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::Value;

use crate::support::client;
use crate::support::eventually;
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
        ("an endless document", faults::endless_body, Refused(502, "larger than 1048576 bytes")),
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
