//! Everything that can go wrong with an upstream's answer, as scripts: made from a good stream where the fault is in a
//! stream, from nothing otherwise. Pure; what a client should make of a fault is not said here.

use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};

use super::script::{Answer, EventStream, LAST_CHUNK, Script, Step, chunk_frame, event_frame};

/// A good chat stream in OpenAI's shape: a role chunk, one chunk for each word, a finish chunk, `[DONE]`.
pub fn good_stream(model: &str, words: &[&str]) -> EventStream {
    let chunk = |delta: Value, finish: Option<&str>| {
        json!({"id": "chatcmpl-fault", "object": "chat.completion.chunk", "created": 1_795_348_800, "model": model,
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
        .to_string()
    };
    let mut stream = EventStream::new(Answer::events(), Duration::ZERO);
    stream.push(&chunk(json!({"role": "assistant", "content": ""}), None));
    for word in words {
        stream.push(&chunk(json!({"content": word}), None));
    }
    stream.push(&chunk(json!({}), Some("stop")));
    stream.push("[DONE]");
    stream
}

/// An error object as OpenAI-compatible servers put it into a stream.
pub fn error_object() -> String {
    json!({"error": {"message": "The server had an error while processing your request", "type": "server_error",
        "param": null, "code": null}})
    .to_string()
}

// --- waiting -------------------------------------------------------------------------------------------------------

/// The head comes at once, the first event after this pause.
pub fn slow_first_token(stream: EventStream, pause: Duration) -> Script {
    insert(stream.script(), 1, Step::Pause(pause))
}

/// The head comes at once, the first event when the gate is opened.
pub fn gated_first_token(stream: EventStream, gate: &'static str) -> Script {
    insert(stream.script(), 1, Step::Gate(gate.into()))
}

/// Nothing at all comes until the gate is opened.
pub fn gated_head(stream: EventStream, gate: &'static str) -> Script {
    insert(stream.script(), 0, Step::Gate(gate.into()))
}

/// Nothing ever comes.
pub fn hang_before_head() -> Script {
    Script::new().hang()
}

/// The head comes and nothing else.
pub fn hang_after_head() -> Script {
    Answer::events().chunked().hang()
}

/// Nothing comes after so many events.
pub fn hang_mid_stream(stream: EventStream, after: usize) -> Script {
    cut(stream, after).open().hang()
}

/// After so many events the stream waits for the gate, and then goes on.
pub fn gated_mid_stream(stream: EventStream, after: usize, gate: &'static str) -> Script {
    let (first, rest) = split(stream, after);
    let rest = rest.into_iter().fold(Script::new(), Script::chunk);
    first.open().gate(gate).then(rest).last_chunk()
}

// --- ends ----------------------------------------------------------------------------------------------------------

/// The connection is closed before a single byte, as pooled connections are that have been idle too long.
pub fn close_before_head() -> Script {
    Script::new().close()
}

/// The connection is reset before a single byte.
pub fn reset_before_head() -> Script {
    Script::new().reset()
}

/// The connection is closed within the head.
pub fn close_within_head() -> Script {
    Script::new().write("HTTP/1.1 200 OK\r\ncontent-ty").close()
}

/// RST after so many events.
pub fn reset_mid_stream(stream: EventStream, after: usize) -> Script {
    cut(stream, after).open().reset()
}

/// FIN after so many events, without the last chunk.
pub fn close_mid_stream(stream: EventStream, after: usize) -> Script {
    cut(stream, after).open().close()
}

/// FIN in the middle of a chunk: the size line promises more than comes.
pub fn close_within_chunk(stream: EventStream, after: usize) -> Script {
    let (first, rest) = split(stream, after);
    let broken = chunk_frame(rest.first().map_or(&b"data: {}\n\n"[..], |frame| frame));
    let half = broken.len() / 2;
    first.open().write(broken.slice(..half)).close()
}

/// The last chunk comes after so many events: well framed, and yet not whole.
pub fn end_without_finish(stream: EventStream, after: usize) -> Script {
    cut(stream, after).script()
}

/// A body with a length that is cut by FIN.
pub fn short_body(body: &'static str, missing: usize) -> Script {
    Script::new().write(Answer::json(200).declared(body.len() + missing).head()).write(body).close()
}

/// A finish reason, but no `[DONE]`.
pub fn without_done(mut stream: EventStream) -> Script {
    stream.frames.retain(|frame| frame.as_ref() != b"data: [DONE]\n\n");
    stream.script()
}

/// `[DONE]`, but no finish reason.
pub fn without_finish(mut stream: EventStream) -> Script {
    let finish = |frame: &Bytes| {
        let text = String::from_utf8_lossy(frame);
        text.contains("finish_reason") && !text.contains("\"finish_reason\":null")
    };
    stream.frames.retain(|frame| !finish(frame));
    stream.script()
}

// --- errors in a 200 -----------------------------------------------------------------------------------------------

/// The stream's first event is an error object, and its last.
pub fn error_first() -> Script {
    Answer::events().chunked().event(error_object()).last_chunk()
}

/// A role-only chunk, then an error object: still nothing that a person would see.
pub fn role_then_error(stream: EventStream) -> Script {
    error_mid_stream(stream, 1)
}

/// After so many events an error object, then the end.
pub fn error_mid_stream(stream: EventStream, after: usize) -> Script {
    let mut stream = cut(stream, after);
    stream.push(&error_object());
    stream.script()
}

/// After so many events an error in Anthropic's form, with an event name.
pub fn named_error_mid_stream(stream: EventStream, after: usize) -> Script {
    let mut stream = cut(stream, after);
    stream.frames.push(Bytes::from(format!("event: error\ndata: {}\n\n", error_object())));
    stream.script()
}

/// The last chunk has `finish_reason: "error"`, as Mistral's and OpenRouter's do.
pub fn finish_reason_error(model: &str) -> Script {
    let mut stream = cut(good_stream(model, &["The"]), 2);
    stream.push(
        &json!({"id": "chatcmpl-fault", "object": "chat.completion.chunk", "created": 1_795_348_800, "model": model,
            "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "error"}]})
        .to_string(),
    );
    stream.push("[DONE]");
    stream.script()
}

/// A JSON error with status 200 where a plain answer was asked for.
pub fn error_in_json_200() -> Script {
    Answer::json(200).body(error_object())
}

/// A JSON error with a status, where a stream was asked for.
pub fn json_error(status: u16) -> Script {
    Answer::json(status).body(error_object())
}

// --- garbage -------------------------------------------------------------------------------------------------------

/// After so many events an event that is no JSON, then the rest.
pub fn garbage_event(stream: EventStream, after: usize) -> Script {
    with_frame(stream, after, event_frame("{\"id\":\"chatcmpl-fault\",\"choices\":[{]}")).script()
}

/// After so many events bytes that are no UTF-8, then the rest.
pub fn invalid_utf8(stream: EventStream, after: usize) -> Script {
    with_frame(
        stream,
        after,
        Bytes::from_static(b"data: {\"choices\":[{\"delta\":{\"content\":\"\xff\xfe\"}}]}\n\n"),
    )
    .script()
}

/// After so many events a chunk whose size line is no number.
pub fn garbage_chunk(stream: EventStream, after: usize) -> Script {
    cut(stream, after).open().write("zz\r\ndata: {}\n\n\r\n").write(LAST_CHUNK)
}

/// One event with a payload of so many bytes, in good JSON.
pub fn huge_event(model: &str, bytes: usize) -> Script {
    let text = "x".repeat(bytes);
    good_stream(model, &[&text]).script()
}

/// One line that never ends, as long as the reader takes it.
pub fn endless_line() -> Script {
    Script::new()
        .write(Answer::events().header("connection", "close").head())
        .write("data: {\"x\":\"")
        .repeat(Bytes::from(vec![b'x'; 64 * 1024]), u64::MAX)
}

/// A gateway's HTML page.
pub fn html_502() -> Script {
    let page = "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n<hr><center>cloudflare</center>\r\n</body>\r\n</html>\r\n";
    Answer::new(502).header("content-type", "text/html").header("server", "cloudflare").body(page)
}

/// An HTML page with status 200, as captive portals and wrong addresses give.
pub fn html_200() -> Script {
    Answer::new(200).header("content-type", "text/html").body("<!doctype html><title>Welcome</title>\n")
}

/// A 200 with nothing in it.
pub fn empty_200() -> Script {
    Answer::json(200).body("")
}

/// A 200 stream with nothing in it.
pub fn empty_stream() -> Script {
    Answer::events().chunked().last_chunk()
}

/// `[DONE]` and nothing else.
pub fn only_done() -> Script {
    Answer::events().chunked().event("[DONE]").last_chunk()
}

/// Something that is not HTTP.
pub fn not_http() -> Script {
    Script::new().write("SSH-2.0-OpenSSH_9.2\r\n").close()
}

/// A head that never ends.
pub fn endless_head() -> Script {
    Script::new().write("HTTP/1.1 200 OK\r\n").repeat("x-padding: 0123456789abcdef\r\n", u64::MAX)
}

/// A JSON body that never ends.
pub fn endless_body() -> Script {
    Answer::json(200).chunked().repeat(chunk_frame(&[b' '; 16 * 1024]), u64::MAX)
}

// --- unusual, and yet allowed --------------------------------------------------------------------------------------

/// Comments and keep-alives before and between the events.
pub fn comments(mut stream: EventStream) -> Script {
    let comments: [&[u8]; 4] = [b": OPENROUTER PROCESSING\n\n", b":\n\n", b": keep-alive\n", b":ping\n\n"];
    let comments = comments.iter().cycle().map(|comment| Bytes::from_static(comment));
    stream.frames = comments.zip(stream.frames).flat_map(|(comment, frame)| [comment, frame]).collect();
    stream.script()
}

/// CRLF instead of LF.
pub fn crlf(stream: EventStream) -> Script {
    reframed(stream, |text| text.replace('\n', "\r\n"))
}

/// CR alone, which the specification allows too.
pub fn cr_only(stream: EventStream) -> Script {
    reframed(stream, |text| text.replace('\n', "\r"))
}

/// `data:` without the space.
pub fn without_space(stream: EventStream) -> Script {
    reframed(stream, |text| text.replace("data: ", "data:"))
}

/// A byte order mark before everything.
pub fn byte_order_mark(mut stream: EventStream) -> Script {
    stream.frames.insert(0, Bytes::from_static(b"\xef\xbb\xbf"));
    stream.script()
}

/// Each payload over several `data:` lines, cut after its first comma.
pub fn many_data_lines(stream: EventStream) -> Script {
    reframed(stream, |text| text.replacen(',', ",\ndata: ", 1))
}

/// `event:`, `id:` and `retry:` fields beside the data.
pub fn other_fields(stream: EventStream) -> Script {
    reframed(stream, |text| format!("event: message\nid: 7\nretry: 3000\n{text}"))
}

/// The whole stream in one chunk.
pub fn one_chunk(mut stream: EventStream) -> Script {
    stream.frames = vec![stream.frames.concat().into()];
    stream.script()
}

/// The body in chunks of so many bytes, wherever that cuts: events, UTF-8, CRLF.
pub fn cut_every(stream: EventStream, bytes: usize) -> Script {
    let body = Bytes::from(stream.frames.concat());
    let pieces = body.chunks(bytes.max(1)).map(Bytes::copy_from_slice);
    pieces.fold(stream.answer.chunked(), Script::chunk).last_chunk()
}

/// Every byte of the answer, head and framing included, in a write of its own, with so long a pause between.
pub fn byte_by_byte(stream: EventStream, pause: Duration) -> Script {
    let wire = stream.script().wire();
    (0..wire.len()).fold(Script::new(), |script, at| script.pause(pause).write(wire.slice(at..=at)))
}

/// A chunk boundary in the middle of every character that has more than one byte.
pub fn split_utf8(stream: EventStream) -> Script {
    let body = Bytes::from(stream.frames.concat());
    let mut script = stream.answer.chunked();
    let mut start = 0;
    for (at, byte) in body.iter().enumerate() {
        if byte & 0b1100_0000 == 0b1000_0000 {
            script = script.chunk(body.slice(start..at));
            start = at;
        }
    }
    script.chunk(body.slice(start..)).last_chunk()
}

/// A stream without any framing but the end of the connection.
pub fn close_delimited_stream(stream: EventStream) -> Script {
    stream.frames.into_iter().fold(stream.answer.until_close(), Script::write).close()
}

/// JSON without any framing but the end of the connection.
pub fn close_delimited_json(body: &'static str) -> Script {
    Answer::json(200).until_close().write(body).close()
}

/// JSON in chunks, cut anywhere.
pub fn chunked_json(body: &'static str, bytes: usize) -> Script {
    let pieces = body.as_bytes().chunks(bytes.max(1)).map(Bytes::from_static);
    pieces.fold(Answer::json(200).chunked(), Script::chunk).last_chunk()
}

/// Blank lines before the JSON, as DeepSeek keeps plain requests alive.
pub fn blank_lines_then_json(body: &'static str) -> Script {
    Answer::json(200).chunked().chunk("\n\n").chunk("\n").chunk(body).last_chunk()
}

/// A redirect to another address.
pub fn redirect(location: String) -> Script {
    Answer::new(307).header("location", location).body("")
}

/// 103 Early Hints before the answer.
pub fn early_hints(answer: Script) -> Script {
    Script::new().write("HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload\r\n\r\n").then(answer)
}

/// An interim 100 that nobody asked for, before the answer.
pub fn unasked_continue(answer: Script) -> Script {
    Script::new().write("HTTP/1.1 100 Continue\r\n\r\n").then(answer)
}

// --- pieces --------------------------------------------------------------------------------------------------------

fn insert(script: Script, at: usize, step: Step) -> Script {
    let (before, after) = script.steps().split_at(at.min(script.steps().len()));
    before.iter().chain([&step]).chain(after).cloned().fold(Script::new(), Script::step)
}

fn split(mut stream: EventStream, after: usize) -> (EventStream, Vec<Bytes>) {
    let rest = stream.frames.split_off(after.min(stream.frames.len()));
    (stream, rest)
}

fn cut(stream: EventStream, after: usize) -> EventStream {
    split(stream, after).0
}

fn with_frame(mut stream: EventStream, after: usize, frame: Bytes) -> EventStream {
    stream.frames.insert(after.min(stream.frames.len()), frame);
    stream
}

fn reframed(mut stream: EventStream, change: impl Fn(&str) -> String) -> Script {
    for frame in &mut stream.frames {
        *frame = Bytes::from(change(&String::from_utf8_lossy(frame)));
    }
    stream.script()
}

#[cfg(test)]
mod tests;
