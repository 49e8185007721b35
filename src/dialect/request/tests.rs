//! One test for each condition that `read` documents.

use proptest::prelude::*;

use super::*;
use crate::dialect::{CHAT_COMPLETIONS, COMPLETIONS, EMBEDDINGS, ENDPOINTS, FIM_COMPLETIONS, Shape};

fn chat(body: &str) -> Result<Request, ProxyError> {
    read(&CHAT_COMPLETIONS, Bytes::copy_from_slice(body.as_bytes()))
}

fn completion(body: &str) -> Request {
    read(&COMPLETIONS, Bytes::copy_from_slice(body.as_bytes())).unwrap()
}

/// The message and the parameter of the error, which must be an invalid request.
fn refusal(endpoint: &Endpoint, body: impl AsRef<[u8]>) -> (String, Option<String>) {
    let error = read(endpoint, Bytes::copy_from_slice(body.as_ref())).unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidRequest);
    (error.message, error.param)
}

#[test]
fn what_decides_is_read_and_the_body_is_kept() {
    let body = r#"{"mod\u0065l":"mistral/large","messages":[],"stream":true,"stream_options":{"include_usage":true},"x":1.10}"#;
    let request = chat(body).unwrap();
    assert_eq!((request.task, request.shape), (Task::Chat, Shape::Chat));
    assert_eq!(request.model, "mistral/large");
    assert!(request.stream && request.include_usage && !request.base64);
    assert_eq!(request.body, body);
    assert_eq!(request.value("x"), Some(b"1.10".as_slice()));
    assert_eq!(request.members.len(), 5);
}

#[test]
fn absent_and_null_options_are_off() {
    for options in ["", r#","stream":null,"stream_options":null"#, r#","stream":false,"stream_options":{}"#] {
        let request = chat(&format!(r#"{{"model":"m","messages":[]{options}}}"#)).unwrap();
        assert!(!request.stream && !request.include_usage, "{options}");
    }
}

#[test]
fn an_empty_body_is_refused() {
    for body in ["", " \n"] {
        assert_eq!(
            refusal(&CHAT_COMPLETIONS, body).0,
            "the request body is empty: send a JSON object with `model` and `messages`"
        );
    }
}

#[test]
fn a_body_that_is_not_utf8_is_refused() {
    let (message, param) = refusal(&CHAT_COMPLETIONS, b"{\"model\":\"\xff\"}");
    assert_eq!((message.as_str(), param), ("the request body is not valid UTF-8 at byte 10", None));
}

#[test]
fn a_body_that_is_not_json_is_refused() {
    assert_eq!(
        refusal(&CHAT_COMPLETIONS, "model=x").0,
        "the request body is not valid JSON at byte 0: expected a value"
    );
    assert_eq!(
        refusal(&CHAT_COMPLETIONS, r#"{"model":"x""#).0,
        "the request body is not complete JSON: it ends too early, at byte 12, where `,` or `}` is missing"
    );
}

#[test]
fn a_body_that_is_no_object_is_refused() {
    for body in ["[]", "null", "\"x\""] {
        assert!(refusal(&CHAT_COMPLETIONS, body).0.contains("must be a JSON object"), "{body}");
    }
}

#[test]
fn a_body_nested_too_deep_is_refused() {
    let (message, _) =
        refusal(&CHAT_COMPLETIONS, format!(r#"{{"model":"m","messages":{}"#, "[".repeat(100_000)));
    assert!(message.contains("nested too deep at byte 150: at most 127 levels"), "{message}");
}

#[test]
fn a_body_with_too_many_fields_is_refused() {
    let fields: Vec<String> = (0..2000).map(|index| format!("\"{index}\":0")).collect();
    assert_eq!(
        refusal(&CHAT_COMPLETIONS, format!("{{{}}}", fields.join(","))).0,
        "the request body has more than 1024 fields"
    );
}

#[test]
fn a_deciding_key_given_twice_is_refused() {
    for key in DECIDING {
        let escaped = format!("\\u{:04x}{}", u32::from(key.as_bytes()[0]), key.get(1..).unwrap());
        let body = format!(r#"{{"{key}":null,"{escaped}":null}}"#);
        let expected = (format!("`{key}` is given twice: send it once"), Some(key.to_owned()));
        assert_eq!(refusal(&CHAT_COMPLETIONS, body), expected);
    }
}

#[test]
fn other_keys_given_twice_pass() {
    assert!(chat(r#"{"model":"m","messages":[{"model":1,"model":2}],"seed":1,"seed":2}"#).is_ok());
}

#[test]
fn a_missing_or_wrong_model_is_refused() {
    for (value, what) in [
        ("", "`model` is missing"),
        (r#""model":null,"#, "`model` is missing"),
        (r#""model":7,"#, "`model` must be a string"),
        (r#""model":["m"],"#, "`model` must be a string"),
        (r#""model":"","#, "`model` is empty"),
        (r#""model":" ","#, "`model` is empty"),
    ] {
        let (message, param) = refusal(&CHAT_COMPLETIONS, format!(r#"{{{value}"messages":[]}}"#));
        assert!(message.starts_with(what) && message.contains("/v1/models"), "{message}");
        assert_eq!(param.as_deref(), Some("model"));
    }
}

#[test]
fn the_required_field_of_each_endpoint_is_required() {
    for endpoint in ENDPOINTS {
        let key = endpoint.required;
        let expected = (format!("`{key}` is missing: /v1/{} needs it", endpoint.path), Some(key.to_owned()));
        assert_eq!(refusal(&endpoint, r#"{"model":"m"}"#), expected);
        assert_eq!(refusal(&endpoint, format!(r#"{{"model":"m","{key}":null}}"#)), expected);
    }
}

#[test]
fn messages_must_be_an_array_and_nothing_else_is_validated() {
    let (message, param) = refusal(&CHAT_COMPLETIONS, r#"{"model":"m","messages":"hi"}"#);
    assert_eq!(
        (message.as_str(), param.as_deref()),
        ("`messages` must be an array of messages", Some("messages"))
    );
    assert!(chat(r#"{"model":"m","messages":[7],"temperature":"hot","stream_options":9}"#).is_ok());
    assert!(read(&EMBEDDINGS, Bytes::from_static(br#"{"model":"m","input":{}}"#)).is_ok());
}

#[test]
fn stream_must_be_a_boolean() {
    for value in ["1", "\"true\"", "[]"] {
        let (message, param) =
            refusal(&CHAT_COMPLETIONS, format!(r#"{{"model":"m","messages":[],"stream":{value}}}"#));
        assert_eq!((message.as_str(), param.as_deref()), ("`stream` must be true or false", Some("stream")));
    }
}

#[test]
fn a_completion_with_prompt_and_suffix_is_fim() {
    for (fields, task) in [
        (r#""prompt":"a","suffix":"b""#, Task::Fim),
        (r#""prompt":["a"],"suffix":"b""#, Task::Fim),
        (r#""prompt":"a""#, Task::Completion),
        (r#""prompt":"a","suffix":null"#, Task::Completion),
        (r#""prompt":"a","suffix":"""#, Task::Completion),
        (r#""prompt":"","suffix":"b""#, Task::Completion),
        (r#""prompt":[],"suffix":"b""#, Task::Completion),
    ] {
        let request = completion(&format!(r#"{{"model":"m",{fields}}}"#));
        assert_eq!((request.task, request.shape), (task, Shape::Text), "{fields}");
    }
}

#[test]
fn a_completion_that_stops_at_the_suffix_mark_is_fim() {
    for (stop, task) in [
        (r#""[SUFFIX]""#, Task::Fim),
        (r#"["x","[SUFFIX]"]"#, Task::Fim),
        (r#"["[suffix]"]"#, Task::Completion),
        ("null", Task::Completion),
    ] {
        assert_eq!(
            completion(&format!(r#"{{"model":"m","prompt":"a","stop":{stop}}}"#)).task,
            task,
            "{stop}"
        );
    }
}

#[test]
fn a_fim_request_is_answered_in_the_shape_of_chat() {
    let request = read(&FIM_COMPLETIONS, Bytes::from_static(br#"{"model":"m","prompt":"a"}"#)).unwrap();
    assert_eq!((request.task, request.shape), (Task::Fim, Shape::Chat));
}

#[test]
fn embeddings_are_not_streamed_and_know_base64() {
    let body = br#"{"model":"m","input":"a","stream":"yes","encoding_format":"base64"}"#;
    let request = read(&EMBEDDINGS, Bytes::from_static(body)).unwrap();
    assert!(!request.stream && request.base64);
    let floats = br#"{"model":"m","input":"a","encoding_format":"float"}"#;
    assert!(!read(&EMBEDDINGS, Bytes::from_static(floats)).unwrap().base64);
    assert!(!chat(r#"{"model":"m","messages":[],"encoding_format":"base64"}"#).unwrap().base64);
}

proptest! {
    #[test]
    fn mutated_bodies_never_panic_and_keep_their_bytes(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..5),
        endpoint in prop::sample::select(ENDPOINTS.to_vec()),
    ) {
        let source = r#"{"model":"a/b","messages":[{"role":"user"}],"prompt":"x","suffix":"y","input":["z"],"stop":["s"],
            "stream":true,"stream_options":{"include_usage":true},"encoding_format":"base64"}"#;
        let mut body = source.as_bytes().to_vec();
        for (place, byte) in changes {
            let index = place.index(body.len());
            body[index] = byte;
        }
        match read(&endpoint, Bytes::from(body.clone())) {
            Ok(request) => prop_assert_eq!(request.body, body),
            Err(error) => prop_assert_eq!(error.kind, ErrorKind::InvalidRequest),
        }
    }
}

#[test]
fn only_messages_with_parts_may_have_media() {
    let may =
        |messages: &str| chat(&format!(r#"{{"model":"m","messages":{messages}}}"#)).unwrap().may_have_media();
    assert!(!may(r#"[]"#));
    assert!(!may(r#"[{"role":"user","content":"an image, a file: [[[[{\"type\":\"image_url\"}]]]]"}]"#));
    assert!(may(r#"[{"role":"user","content":"x"},{"role":"user","content":[{"type":"image_url"}]}]"#));
    assert!(!completion(r#"{"model":"m","prompt":"image"}"#).may_have_media());
}
