//! Refusals as the providers write them, and those that must not be taken for one.

use bytes::Bytes;

use super::rejected_fields;

const SENT: [&str; 14] = [
    "model",
    "messages",
    "prompt",
    "input",
    "stream",
    "tools",
    "seed",
    "temperature",
    "logprobs",
    "reasoning_effort",
    "max_completion_tokens",
    "strict",
    "web_search_options",
    "stop",
];

fn all_rejected(status: u16, body: &str) -> Vec<String> {
    rejected_fields(status, &Bytes::copy_from_slice(body.as_bytes()), &SENT)
}

/// The one field, where there is at most one.
fn rejected(status: u16, body: &str) -> Option<String> {
    let mut fields = all_rejected(status, body);
    assert!(fields.len() < 2, "{fields:?}");
    fields.pop()
}

#[test]
fn a_field_refused_by_name_is_found_in_each_provider_s_words() {
    for (body, field) in [
        // Mistral, vLLM (pydantic 2), bare and wrapped.
        (
            r#"{"detail":[{"type":"extra_forbidden","loc":["body","seed"],"msg":"Extra inputs are not permitted","input":1}]}"#,
            "seed",
        ),
        (
            r#"{"object":"error","message":{"detail":[{"type":"extra_forbidden","loc":["body","seed"],"msg":"Extra inputs are not permitted","input":1}]},"type":"invalid_request_error"}"#,
            "seed",
        ),
        (
            r#"{"detail":[{"type":"literal_error","loc":["body","reasoning_effort"],"msg":"Input should be 'none' or 'high'"}]}"#,
            "reasoning_effort",
        ),
        (
            r#"{"detail":[{"type":"missing","loc":["body","x"],"msg":"Field required"},{"type":"extra_forbidden","loc":["body","seed"],"msg":"Extra"}]}"#,
            "seed",
        ),
        // pydantic 1.
        (
            r#"{"detail":[{"loc":["body","seed"],"msg":"extra fields not permitted","type":"value_error.extra"}]}"#,
            "seed",
        ),
        // OpenAI.
        (
            r#"{"error":{"message":"Unsupported parameter: 'temperature' is not supported with this model.","type":"invalid_request_error","param":"temperature","code":"unsupported_parameter"}}"#,
            "temperature",
        ),
        (
            r#"{"error":{"message":"Unsupported value: 'temperature' does not support 0.2 with this model. Only the default (1) value is supported.","type":"invalid_request_error","param":"temperature","code":"unsupported_value"}}"#,
            "temperature",
        ),
        (
            r#"{"error":{"message":"Unknown parameter: 'seed'.","type":"invalid_request_error","param":"seed","code":"unknown_parameter"}}"#,
            "seed",
        ),
        (
            r#"{"error":{"message":"Unrecognized request argument supplied: seed","type":"invalid_request_error","param":null,"code":null}}"#,
            "seed",
        ),
        (
            r#"{"error":{"message":"Unrecognized request arguments supplied: foo, seed","type":"invalid_request_error","param":null,"code":null}}"#,
            "seed",
        ),
        // Gemini.
        (
            r#"[{"error":{"code":400,"message":"Invalid JSON payload received. Unknown name \"web_search_options\": Cannot find field.","status":"INVALID_ARGUMENT"}}]"#,
            "web_search_options",
        ),
        (
            r#"[{"error":{"code":400,"message":"Invalid JSON payload received. Unknown name \"seed\" at '': Cannot find field."}}]"#,
            "seed",
        ),
        // Groq, Go servers, JSON schema.
        (
            r#"{"error":{"message":"property 'logprobs' is unsupported","type":"invalid_request_error"}}"#,
            "logprobs",
        ),
        (r#"{"error":"json: unknown field \"seed\""}"#, "seed"),
        (r#"{"message":"Additional properties are not allowed ('seed' was unexpected)"}"#, "seed"),
    ] {
        assert_eq!(rejected(400, body).as_deref(), Some(field), "{body}");
        assert_eq!(rejected(422, body).as_deref(), Some(field), "{body}");
    }
}

#[test]
fn all_fields_that_one_answer_refuses_are_found() {
    for body in [
        r#"{"detail":[{"type":"extra_forbidden","loc":["body","seed"],"msg":"x"},{"type":"less_than","loc":["body","temperature"],"msg":"x"},{"type":"extra_forbidden","loc":["body","stop"],"msg":"x"},{"type":"extra_forbidden","loc":["body","stop"],"msg":"x"}]}"#,
        r#"{"error":{"message":"Unrecognized request arguments supplied: stop, seed","type":"invalid_request_error"}}"#,
    ] {
        assert_eq!(all_rejected(422, body), ["seed", "stop"], "{body}");
    }
}

#[test]
fn another_status_refuses_no_field() {
    let body = r#"{"error":{"message":"Unknown parameter: 'seed'."}}"#;
    for status in [200, 401, 404, 413, 429, 500] {
        assert_eq!(rejected(status, body), None);
    }
}

#[test]
fn a_body_that_names_nothing_refuses_no_field() {
    for body in [
        "",
        "not json",
        "{}",
        "[]",
        "null",
        r#"{"error":{"message":"bad request"}}"#,
        r#"{"detail":[1,{"loc":3}]}"#,
    ] {
        assert_eq!(rejected(400, body), None, "{body}");
    }
}

#[test]
fn a_field_inside_another_is_not_a_refused_field() {
    for body in [
        r#"{"detail":[{"type":"extra_forbidden","loc":["body","tools",0,"function","strict"],"msg":"Extra inputs are not permitted"}]}"#,
        r#"{"error":{"message":"Unknown parameter: 'tools[0].function.strict'.","param":"tools[0].function.strict","code":"unknown_parameter"}}"#,
        r#"{"error":{"message":"Unknown parameter: 'stop.strict'."}}"#,
        r#"[{"error":{"message":"Unknown name \"strict\" at 'tools[0].function': Cannot find field."}}]"#,
    ] {
        assert_eq!(rejected(400, body), None, "{body}");
    }
}

#[test]
fn a_field_that_was_not_sent_is_not_a_refused_field() {
    assert_eq!(rejected(400, r#"{"error":{"message":"Unknown parameter: 'foo'."}}"#), None);
}

#[test]
fn the_fields_that_carry_the_task_are_never_dropped() {
    for field in ["model", "messages", "prompt", "input", "stream", "tools"] {
        let body = format!(r#"{{"error":{{"message":"Unknown parameter: '{field}'.","param":"{field}"}}}}"#);
        assert_eq!(rejected(400, &body), None, "{field}");
    }
}

#[test]
fn a_value_that_is_wrong_is_the_client_s_to_know() {
    for body in [
        r#"{"error":{"message":"Invalid 'temperature': decimal above maximum value. Expected a value <= 2, but got 3 instead.","param":"temperature","code":"decimal_above_max_value"}}"#,
        r#"{"detail":[{"type":"less_than_equal","loc":["body","temperature"],"msg":"Input should be less than or equal to 1.5"}]}"#,
        r#"{"detail":[{"type":"int_type","loc":["body","seed"],"msg":"Input should be a valid integer"}]}"#,
        r#"{"error":{"message":"Missing required parameter: 'seed'.","param":"seed","code":"missing_required_parameter"}}"#,
    ] {
        assert_eq!(rejected(400, body), None, "{body}");
    }
}
