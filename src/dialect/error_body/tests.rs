//! Error bodies by kind, and the message of every provider's own shape.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::error::UpstreamAnswer;

fn with_answer(kind: ErrorKind, status: u16, body: &str) -> ProxyError {
    let mut error = ProxyError::new(kind, "our own words");
    error.upstream = Some(Box::new(UpstreamAnswer {
        status,
        body: Bytes::copy_from_slice(body.as_bytes()),
        headers: Vec::new(),
        retry_after: None,
    }));
    error
}

fn parsed(body: &[u8]) -> Value {
    serde_json::from_slice(body).unwrap()
}

#[test]
fn our_errors_have_the_four_fields() {
    let error = ProxyError::new(ErrorKind::InvalidRequest, "`model` is \"missing\"").with_param("model");
    assert_eq!(
        String::from_utf8(openai_error(&error)).unwrap(),
        r#"{"error":{"message":"`model` is \"missing\"","type":"invalid_request_error","param":"model","code":"invalid_request"}}"#
    );
    let coded = ProxyError::new(ErrorKind::ModelNotFound, "no such model").with_code("gone");
    assert_eq!(
        parsed(&openai_error(&coded)),
        json!({"error": {"message": "no such model", "type": "not_found_error", "param": null, "code": "gone"}})
    );
}

#[test]
fn every_kind_has_a_type() {
    for (kind, expected) in [
        (ErrorKind::BodyTooLarge, "invalid_request_error"),
        (ErrorKind::Unsupported, "invalid_request_error"),
        (ErrorKind::Unauthorized, "authentication_error"),
        (ErrorKind::Forbidden, "permission_error"),
        (ErrorKind::NotFound, "not_found_error"),
        (ErrorKind::Overloaded, "rate_limit_error"),
        (ErrorKind::ShuttingDown, "server_error"),
        (ErrorKind::Timeout, "api_error"),
        (ErrorKind::UpstreamAuthentication, "api_error"),
    ] {
        let body = parsed(&openai_error(&ProxyError::new(kind, "x")));
        assert_eq!(
            (&body["error"]["type"], &body["error"]["code"]),
            (&json!(expected), &json!(kind.label()))
        );
    }
}

#[test]
fn an_openai_shaped_body_passes_unchanged() {
    let body =
        "{ \"error\" : {\"message\":\"model 'x' not found\",\"type\":\"not_found_error\",\"x\":1.10} }\n";
    assert_eq!(openai_error(&with_answer(ErrorKind::UpstreamStatus, 404, body)), body.as_bytes());
}

#[test]
fn another_shape_is_wrapped_with_its_message_and_code() {
    let body = r#"{"object":"error","message":"Rate limit exceeded","type":"rate_limited","param":null,"code":"1300"}"#;
    let wanted = json!({"error": {"message": "Rate limit exceeded", "type": "rate_limit_error", "param": null, "code": "1300"}});
    assert_eq!(parsed(&openai_error(&with_answer(ErrorKind::UpstreamStatus, 429, body))), wanted);
    let numbered = r#"[{"error":{"code":400,"message":"Unknown name"}}]"#;
    let mut error = with_answer(ErrorKind::UpstreamStatus, 400, numbered);
    error.fault = Fault::Client;
    let result = parsed(&openai_error(&error));
    assert_eq!(result["error"]["message"], "Unknown name");
    assert_eq!(result["error"]["type"], "invalid_request_error");
}

#[test]
fn a_sick_model_is_not_called_an_invalid_request() {
    let body = r#"{"status":400,"title":"Bad Request","detail":"DEGRADED function cannot be invoked"}"#;
    let error = with_answer(ErrorKind::UpstreamStatus, 400, body);
    assert_eq!(
        (error.fault, parsed(&openai_error(&error))["error"]["type"].as_str()),
        (Fault::Upstream, Some("api_error"))
    );
}

#[test]
fn a_body_without_a_message_gets_ours_or_the_status() {
    let mut error = with_answer(ErrorKind::UpstreamStatus, 503, "<html><body>busy</body></html>");
    assert_eq!(parsed(&openai_error(&error))["error"]["message"], "our own words");
    error.message.clear();
    assert_eq!(parsed(&openai_error(&error))["error"]["message"], "the upstream answered with status 503");
    assert_eq!(parsed(&openai_error(&error))["error"]["code"], "upstream_status");
}

#[test]
fn a_huge_body_is_wrapped_and_cut() {
    let body = json!({"error": {"message": "é".repeat(100_000)}}).to_string();
    let result = openai_error(&with_answer(ErrorKind::UpstreamStatus, 500, &body));
    assert!(result.len() < 5000, "{}", result.len());
    assert_eq!(parsed(&result)["error"]["message"].as_str().unwrap().chars().count(), MAX_MESSAGE);
}

#[test]
fn what_an_upstream_says_about_our_key_or_its_end_is_not_shown() {
    let body = r#"{"error":{"message":"Incorrect API key provided: sk-1234"}}"#;
    for kind in [ErrorKind::UpstreamAuthentication, ErrorKind::ProviderRetired] {
        assert_eq!(parsed(&openai_error(&with_answer(kind, 401, body)))["error"]["message"], "our own words");
        assert!(!error_event(&with_answer(kind, 401, body)).windows(7).any(|part| part == b"sk-1234"));
    }
}

#[test]
fn an_error_inside_a_chunk_comes_without_the_chunk() {
    let body = r#"{"id":"1","error":{"code":502,"message":"gone"},"choices":[{"finish_reason":"error"}]}"#;
    let error = with_answer(ErrorKind::UpstreamInBand, 502, body);
    assert_eq!(openai_error(&error), br#"{"error":{"code":502,"message":"gone"}}"#);
    assert_eq!(error_event(&error), "data: {\"error\":{\"code\":502,\"message\":\"gone\"}}\n\n");
}

#[test]
fn an_error_event_is_one_line_with_an_object() {
    let pretty = "{\n  \"error\": {\n    \"message\": \"a\\nb\"\r\n  }\n}";
    for error in [
        with_answer(ErrorKind::UpstreamInBand, 500, pretty),
        with_answer(ErrorKind::UpstreamInBand, 500, r#"{"error":"a\nb"}"#),
        ProxyError::new(ErrorKind::Truncated, "a\nb"),
    ] {
        let event = error_event(&error);
        let payload = event.strip_prefix(b"data: ").unwrap().strip_suffix(b"\n\n").unwrap();
        assert!(!payload.contains(&b'\n') && !payload.contains(&b'\r'));
        assert_eq!(parsed(payload)["error"]["message"], "a\nb");
    }
}

#[test]
fn the_message_is_found_in_every_shape() {
    for (body, expected) in [
        (r#" {"error":{"message":"a","type":"t"}}"#, "a"),
        (r#"{"error":"unauthorized","signin_url":"x"}"#, "unauthorized"),
        (r#"{"message":"Unauthorized","request_id":"r"}"#, "Unauthorized"),
        (r#"{"detail":"Unauthorized"}"#, "Unauthorized"),
        (
            r#"{"detail":[{"type":"extra_forbidden","loc":["body","messages",0,"x"],"msg":"Extra inputs","input":"secret"}]}"#,
            "body.messages.0.x: Extra inputs",
        ),
        (
            r#"{"object":"error","message":{"detail":[{"loc":["body","a"],"msg":"m"},{"loc":["body","b"],"msg":"n"}]}}"#,
            "body.a: m; body.b: n",
        ),
        (
            r#"{"success":false,"errors":[{"code":10000,"message":"Authentication error"}]}"#,
            "Authentication error",
        ),
        (r#"{"status":429,"title":"Too Many Requests"}"#, "Too Many Requests"),
        (r#"{"title":"Bad Request","detail":"DEGRADED function","status":400}"#, "DEGRADED function"),
        (
            r#"[{"error":{"code":429,"message":"Resource has been exhausted"}}]"#,
            "Resource has been exhausted",
        ),
        (
            r#"{"error":{"message":"Provider returned error","code":429,"metadata":{"raw":"{\"error\":{\"message\":\"slow down\"}}"}}}"#,
            "Provider returned error: slow down",
        ),
        (r#"{"error":{"code":500,"metadata":{"raw":"upstream broke"}}}"#, "upstream broke"),
        (r#"{"type":"error","error":{"type":"permission_error","message":"no"}}"#, "no"),
        (r#"{"error":{"message":null},"message":"outer"}"#, "outer"),
        (r#""just text""#, "just text"),
        ("Service Overloaded\n", "Service Overloaded"),
    ] {
        assert_eq!(upstream_message(body.as_bytes()).as_deref(), Some(expected), "{body}");
    }
}

#[test]
fn where_there_is_no_message_none_is_made_up() {
    let page = "x".repeat(MAX_PLAIN + 1);
    for body in [
        "",
        "  ",
        "{}",
        "[]",
        "null",
        "7",
        r#"{"error":null}"#,
        r#"{"error":{"code":1}}"#,
        "<html>",
        "{\"error\"",
        &page,
    ] {
        assert_eq!(upstream_message(body.as_bytes()), None, "{body}");
    }
    assert_eq!(upstream_message(b"\xff\xfe"), None);
    let deep = format!("{}\"x\"{}", "{\"error\":".repeat(100), "}".repeat(100));
    assert_eq!(upstream_message(deep.as_bytes()), None);
}

proptest! {
    #[test]
    fn whatever_an_upstream_sends_the_client_gets_an_error_object(
        body in "(\\PC{0,20}|[\\[\\]{}\":, a-z0-9\\\\\n]{0,30})",
        depth in 0usize..8,
        key in prop::sample::select(vec!["error", "message", "detail", "errors", "metadata", "raw", "loc", "msg"]),
    ) {
        let wrapped_body = format!("{}{body}{}", format!("{{\"{key}\":[").repeat(depth), "]}".repeat(depth));
        for kind in [ErrorKind::UpstreamStatus, ErrorKind::UpstreamInBand] {
            let error = with_answer(kind, 500, &wrapped_body);
            prop_assert!(parsed(&openai_error(&error))["error"]["message"].is_string());
            let event = error_event(&error);
            let payload = event.strip_prefix(b"data: ").unwrap().strip_suffix(b"\n\n").unwrap();
            prop_assert!(parsed(payload)["error"]["message"].is_string() && !payload.contains(&b'\n'));
        }
    }
}
