//! Each fault is what its name says, on the wire.

use super::*;

fn good() -> EventStream {
    good_stream("m", &["Hé", " you"])
}

fn wire(script: &Script) -> String {
    String::from_utf8_lossy(&script.wire()).into_owned()
}

fn last(script: &Script) -> &Step {
    script.steps().last().unwrap()
}

/// The payloads of a body, with chunk framing taken off.
fn body(script: &Script) -> Vec<u8> {
    let mut body = Vec::new();
    for step in script.steps().iter().skip(1) {
        if let Step::Chunk(bytes) = step {
            body.extend_from_slice(bytes);
        }
    }
    body
}

#[test]
fn the_good_stream_has_five_events_and_ends_well() {
    let script = good().script();
    let text = wire(&script);
    assert_eq!(text.matches("data: ").count(), 5);
    assert!(text.contains("\"finish_reason\":\"stop\"") && text.contains("data: [DONE]"));
    assert_eq!(last(&script), &Step::LastChunk);
}

#[test]
fn waits_stand_before_the_head_after_it_or_between_events() {
    let pause = Duration::from_secs(3);
    assert_eq!(slow_first_token(good(), pause).steps()[1], Step::Pause(pause));
    assert_eq!(gated_first_token(good(), "g").steps()[1], Step::Gate("g".into()));
    assert_eq!(gated_head(good(), "g").steps()[0], Step::Gate("g".into()));
    let middle = gated_mid_stream(good(), 2, "g");
    assert_eq!(middle.steps()[3], Step::Gate("g".into()));
    assert_eq!(middle.wire(), good().script().wire());
    assert_eq!(hang_mid_stream(good(), 2).steps().len(), 4);
    assert_eq!(last(&hang_after_head()), &Step::Hang);
    assert_eq!(hang_before_head().wire(), "");
}

#[test]
fn broken_ends_lack_what_they_should_lack() {
    assert_eq!(last(&reset_mid_stream(good(), 2)), &Step::Reset);
    let closed = close_mid_stream(good(), 2);
    assert_eq!((last(&closed), wire(&closed).contains("\r\n0\r\n")), (&Step::Close, false));
    let half = close_within_chunk(good(), 1);
    assert!(wire(&half).matches("data: ").count() == 2 && !wire(&half).ends_with("\n\n\r\n"));
    let unfinished = wire(&end_without_finish(good(), 2));
    assert!(
        unfinished.ends_with("0\r\n\r\n") && !unfinished.contains("stop") && !unfinished.contains("DONE")
    );
    assert!(wire(&short_body("{}", 5)).ends_with("content-length: 7\r\n\r\n{}"));
    let without = wire(&without_done(good()));
    assert!(without.contains("\"stop\"") && !without.contains("DONE"));
    let without = wire(&without_finish(good()));
    assert!(!without.contains("\"stop\"") && without.contains("DONE"));
}

#[test]
fn errors_inside_a_200_come_where_they_should() {
    assert_eq!(wire(&error_first()).matches("data: ").count(), 1);
    let role = wire(&role_then_error(good()));
    assert!(role.contains("\"role\"") && role.contains("server_error") && !role.contains(" you\""));
    let middle = wire(&error_mid_stream(good(), 2));
    assert!(middle.contains("Hé") && !middle.contains(" you\"") && middle.contains("server_error"));
    assert!(wire(&named_error_mid_stream(good(), 2)).contains("event: error\ndata: {\"error\""));
    assert!(wire(&finish_reason_error("m")).contains("\"finish_reason\":\"error\""));
}

#[test]
fn any_cutting_leaves_the_same_body() {
    let whole = body(&good().script());
    assert_eq!(body(&one_chunk(good())), whole);
    for size in [1, 2, 3, 7, 100] {
        assert_eq!(body(&cut_every(good(), size)), whole);
    }
    let split = split_utf8(good());
    assert_eq!(body(&split), whole);
    assert!(split.steps().iter().any(|step| matches!(step, Step::Chunk(bytes) if bytes.ends_with(b"\xc3"))));
    let bytes = byte_by_byte(good(), Duration::from_millis(1));
    assert_eq!(bytes.wire(), good().script().wire());
    assert_eq!(bytes.steps().len(), 2 * bytes.wire().len());
}

#[test]
fn unusual_framings_change_the_framing_only() {
    let lines = |script: &Script| String::from_utf8(body(script)).unwrap();
    let plain = lines(&good().script());
    assert_eq!(lines(&crlf(good())).replace("\r\n", "\n"), plain);
    assert_eq!(lines(&cr_only(good())).replace('\r', "\n"), plain);
    assert_eq!(lines(&without_space(good())).replace("data:", "data: "), plain);
    assert_eq!(lines(&many_data_lines(good())).replace(",\ndata: ", ","), plain);
    let kept: String =
        lines(&comments(good())).split_inclusive('\n').filter(|line| !line.starts_with(':')).collect();
    assert_eq!(kept.replace("\n\n\n", "\n\n").trim_start(), plain);
    assert!(body(&byte_order_mark(good())).starts_with(b"\xef\xbb\xbfdata: "));
    assert!(lines(&other_fields(good())).starts_with("event: message\nid: 7\nretry: 3000\ndata: {"));
}

#[test]
fn answers_without_length_end_with_the_connection() {
    for script in [close_delimited_stream(good()), close_delimited_json("{}")] {
        assert_eq!(last(&script), &Step::Close);
        let text = wire(&script);
        assert!(text.contains("connection: close") && !text.contains("content-length"));
    }
    assert_eq!(body(&chunked_json("{\"a\":1}", 2)), b"{\"a\":1}");
    assert_eq!(body(&blank_lines_then_json("{}")), b"\n\n\n{}");
}

#[test]
fn interim_answers_come_before_the_real_one() {
    let answer = || Answer::json(200).body("{}");
    assert!(wire(&early_hints(answer())).starts_with("HTTP/1.1 103 Early Hints\r\n"));
    assert!(wire(&unasked_continue(answer())).ends_with(&wire(&answer())));
    assert!(wire(&redirect("http://other/".to_owned())).contains("location: http://other/\r\n"));
}

#[test]
fn garbage_is_garbage() {
    assert!(wire(&garbage_event(good(), 1)).contains("[{]}"));
    assert!(wire(&garbage_chunk(good(), 1)).contains("zz\r\n"));
    assert!(std::str::from_utf8(&invalid_utf8(good(), 1).wire()).is_err());
    assert!(huge_event("m", 1 << 20).wire().len() > 1 << 20);
    assert!(wire(&html_502()).contains("<html>"));
    assert!(wire(&empty_200()).ends_with("content-length: 0\r\n\r\n"));
    for endless in [endless_line(), endless_head(), endless_body()] {
        assert!(matches!(last(&endless), Step::Repeat(_, u64::MAX)));
    }
}
