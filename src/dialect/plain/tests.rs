//! Whole answers as providers send them, and each documented error.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::dialect::openai_error;

fn plan() -> Rewrite {
    Rewrite::new("prov", Shape::Chat)
}

fn rewritten(plan: &Rewrite, body: &str) -> Result<Plain, ProxyError> {
    rewrite_plain(&Bytes::copy_from_slice(body.as_bytes()), plan)
}

fn text(plan: &Rewrite, body: &str) -> String {
    String::from_utf8(rewritten(plan, body).unwrap().bytes.to_vec()).unwrap()
}

fn refusal(body: &str) -> ProxyError {
    let error = rewritten(&plan(), body).unwrap_err();
    assert_eq!(error.provider.as_deref(), Some("prov"));
    error
}

const CHAT: &str = r#"{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"h\u00e9","reasoning":"r"},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11},"x":1.10}"#;

#[test]
fn an_answer_keeps_its_bytes_but_for_model_and_id() {
    let body = format!("\n\n  {CHAT}\n");
    let plain = rewritten(&plan(), &body).unwrap();
    let expected = body.replace("chatcmpl-1", "chatcmpl-1@prov").replace("\"m\"", "\"prov/m\"");
    assert_eq!(plain.bytes, expected);
    assert_eq!(plain.usage, Usage { input: Some(9), output: Some(2), ..Usage::default() });
}

#[test]
fn an_answer_without_anything_to_change_is_not_copied() {
    let body = Bytes::from_static(br#"{"data":[]}"#);
    assert_eq!(rewrite_plain(&body, &plan()).unwrap().bytes.as_ptr(), body.as_ptr());
}

#[test]
fn an_incomplete_answer_is_truncated() {
    for body in ["", "  \n", "{", CHAT.get(..CHAT.len() - 1).unwrap(), CHAT.get(..150).unwrap()] {
        assert_eq!(refusal(body).kind, ErrorKind::Truncated, "{body}");
    }
    let cut = rewrite_plain(&Bytes::from_static(b"{\"a\":\"\xc3"), &plan()).unwrap_err();
    assert_eq!(cut.kind, ErrorKind::Truncated);
}

#[test]
fn garbage_is_a_protocol_error_that_does_not_quote_it() {
    for body in ["<html>secret</html>", "secret", "[]", "null", "{\"secret\":}", "{}{}"] {
        let error = refusal(body);
        assert_eq!(error.kind, ErrorKind::UpstreamProtocol, "{body}");
        assert!(!error.message.contains("secret"), "{}", error.message);
    }
}

#[test]
fn an_error_inside_a_successful_answer_is_found() {
    for (body, message, status) in [
        (r#"{"error":{"message":"no","code":429}}"#, "no", 429),
        (r#"{"error":"no","usage":{}}"#, "no", 502),
        (r#"{"object":"error","message":"no"}"#, "no", 502),
        (
            r#"{"choices":[{"message":{"content":""},"finish_reason":"error"}]}"#,
            "`prov` reported an error inside its answer",
            502,
        ),
    ] {
        let error = refusal(body);
        assert_eq!(error.kind, ErrorKind::UpstreamInBand);
        let shown = String::from_utf8(openai_error(&error)).unwrap();
        assert!(shown.contains(&format!("\"message\":\"{message}\"")), "{shown}");
        let upstream = error.upstream.unwrap();
        assert_eq!((upstream.status, upstream.body.as_ref()), (status, body.as_bytes()));
    }
}

#[test]
fn an_answer_beside_an_error_is_an_answer() {
    for body in [
        r#"{"error":null,"x":1}"#,
        r#"{"error":{"message":"note"},"choices":[]}"#,
        r#"{"error":"note","data":[]}"#,
        r#"{"choices":[{"message":{"content":"half"},"finish_reason":"error"}]}"#,
    ] {
        assert_eq!(text(&plan(), body), body);
    }
}

#[test]
fn a_chat_shaped_answer_becomes_text() {
    let to_text = Rewrite { client: Shape::Text, ..plan() };
    assert_eq!(
        text(&to_text, CHAT),
        r#"{"id":"chatcmpl-1@prov","object":"text_completion","created":1,"model":"prov/m","choices":[{"index":0,"text":"h\u00e9","finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11},"x":1.10}"#
    );
}

#[test]
fn a_text_answer_becomes_chat() {
    let to_chat = Rewrite { upstream: Shape::Text, ..plan() };
    assert_eq!(
        text(
            &to_chat,
            r#"{"object":"text_completion","choices":[{"text":"a","index":0,"finish_reason":"stop"},{"text":"b","index":1}]}"#
        ),
        r#"{"object":"chat.completion","choices":[{"message":{"role":"assistant","content":"a"},"index":0,"finish_reason":"stop"},{"message":{"role":"assistant","content":"b"},"index":1,"finish_reason":null}]}"#
    );
}

#[test]
fn embeddings_become_base64_when_asked_for() {
    let floats = Rewrite::new("prov", Shape::Embedding);
    let base64 = Rewrite { base64: true, ..floats.clone() };
    let body =
        r#"{"object":"list","data":[{"index":0,"embedding":[0.5, -1, 1e-3]},{"embedding":[2]}],"model":"m"}"#;
    assert_eq!(text(&floats, body), body.replace("\"m\"", "\"prov/m\""));
    let answer: Value = serde_json::from_str(&text(&base64, body)).unwrap();
    let decoded = STANDARD.decode(answer["data"][0]["embedding"].as_str().unwrap()).unwrap();
    let numbers: Vec<f32> =
        decoded.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    assert_eq!(numbers, [0.5, -1.0, 1e-3]);
    assert_eq!(answer["data"][1]["embedding"], "AAAAQA==");
}

#[test]
fn embeddings_that_are_no_numbers_stay() {
    let base64 = Rewrite { base64: true, ..Rewrite::new("prov", Shape::Embedding) };
    for value in ["\"AAAAQA==\"", "[]", "[1,null]", "[\"1\"]", "[1e999]", "null", "[[1]]"] {
        let body = format!(r#"{{"data":[{{"embedding":{value}}}]}}"#);
        assert_eq!(text(&base64, &body), body);
    }
}

proptest! {
    #[test]
    fn floats_survive_base64(numbers in prop::collection::vec(prop::num::f32::NORMAL, 1..20)) {
        let base64 = Rewrite { base64: true, ..Rewrite::new("prov", Shape::Embedding) };
        let body = json!({"data": [{"embedding": numbers}]}).to_string();
        let answer: Value = serde_json::from_str(&text(&base64, &body)).unwrap();
        let decoded = STANDARD.decode(answer["data"][0]["embedding"].as_str().unwrap()).unwrap();
        let back: Vec<f32> = decoded.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        prop_assert_eq!(back, numbers);
    }

    #[test]
    fn mutated_answers_never_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        client in prop::sample::select(vec![Shape::Chat, Shape::Text, Shape::Embedding]),
        upstream in prop::sample::select(vec![Shape::Chat, Shape::Text, Shape::Embedding]),
    ) {
        let mut bytes = CHAT.as_bytes().to_vec();
        for (place, byte) in changes {
            let index = place.index(bytes.len());
            bytes[index] = byte;
        }
        let plan = Rewrite { client, upstream, base64: true, ..plan() };
        if let Ok(plain) = rewrite_plain(&Bytes::from(bytes), &plan) {
            prop_assert!(crate::wire::json::scan_object(&plain.bytes).is_ok());
        }
    }
}
