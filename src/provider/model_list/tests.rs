//! Model lists in every form that servers write, and in forms that they should not.

use serde_json::json;

use super::*;

fn one(entry: serde_json::Value) -> Model {
    model(&entry).unwrap()
}

#[test]
fn a_list_may_be_bare_or_enveloped_or_null() {
    let keys = &["data", "models"];
    assert_eq!(entries(br#"[{"id":"a"}]"#, keys).unwrap().len(), 1);
    assert_eq!(entries(br#"{"object":"list","data":[{"id":"a"},{"id":"b"}]}"#, keys).unwrap().len(), 2);
    assert_eq!(entries(br#"{"models":[{"id":"a"}]}"#, keys).unwrap().len(), 1);
    assert_eq!(entries(br#"{"object":"list","data":null}"#, keys).unwrap().len(), 0);
}

#[test]
fn an_error_body_is_an_error_and_never_an_empty_list() {
    // The original cached such a body as a list without models.
    let keys = &["data"];
    for body in [
        &br#"{"message":"Unauthorized","request_id":"9d1c"}"#[..],
        br#"{"error":{"message":"Incorrect API key provided","type":"invalid_request_error"}}"#,
        br#"{"data":{"error":"x"}}"#,
        br#""data""#,
        b"<html>502 Bad Gateway</html>",
        b"",
    ] {
        assert!(entries(body, keys).is_err(), "{}", String::from_utf8_lossy(body));
    }
}

#[test]
fn a_nested_bomb_is_an_error() {
    let mut bomb = b"{\"data\":".to_vec();
    bomb.extend(std::iter::repeat_n(b'[', 200_000));
    assert!(entries(&bomb, &["data"]).is_err());
}

#[test]
fn entries_without_a_usable_id_are_skipped_and_the_rest_kept() {
    let long = "x".repeat(MAX_ID_BYTES + 1);
    let list = json!([{"name": "no id"}, {"id": 7}, {"id": ""}, {"id": "a\nb"}, {"id": long}, "text", null, {"id": "good"}]);
    let models = collect(list.as_array().unwrap(), model);
    assert_eq!(models.iter().map(|model| model.id.as_str()).collect::<Vec<_>>(), ["good"]);
}

#[test]
fn a_list_is_cut_at_the_cap() {
    let many: Vec<_> = (0..MAX_MODELS + 5).map(|n| json!({ "id": n.to_string() })).collect();
    let body = serde_json::to_vec(&json!({ "data": many })).unwrap();
    assert_eq!(entries(&body, &["data"]).unwrap().len(), MAX_MODELS);
}

#[test]
fn ids_keep_case_slashes_colons_and_at_signs() {
    for id in
        ["accounts/fireworks/models/X", "@cf/openai/gpt-oss-120b", "qwen/qwen3-coder:free", "gpt-oss:120b"]
    {
        assert_eq!(one(json!({ "id": id })).id, id);
    }
}

#[test]
fn context_length_is_read_wherever_a_server_writes_it() {
    for entry in [
        json!({"id": "m", "context_length": 4096}),
        json!({"id": "m", "context_window": 4096}),
        json!({"id": "m", "max_context_length": 4096}),
        json!({"id": "m", "max_model_len": 4096}),
        json!({"id": "m", "meta": {"n_ctx_train": 4096}}),
        json!({"id": "m", "meta": {"n_ctx": 4096, "n_ctx_train": 131_072}}),
        json!({"id": "m", "limits": {"max_input_tokens": 4096}}),
        json!({"id": "m", "context_length": 8192, "top_provider": {"context_length": 4096}}),
        json!({"id": "m", "max_context_length": 8192, "loaded_context_length": 4096}),
        json!({"id": "m", "providers": [{"context_length": 2048}, {"context_length": 4096}]}),
    ] {
        assert_eq!(one(entry.clone()).context_length, Some(4096), "{entry}");
    }
    assert_eq!(one(json!({"id": "m", "context_length": 0})).context_length, None);
    assert_eq!(one(json!({"id": "m", "context_length": "many"})).context_length, None);
    assert_eq!(one(json!({"id": "m", "context_length": -1})).context_length, None);
}

#[test]
fn the_longest_answer_is_read_wherever_a_server_writes_it() {
    for entry in [
        json!({"id": "m", "max_completion_tokens": 65_536}),
        json!({"id": "m", "max_output_tokens": 65_536}),
        json!({"id": "m", "top_provider": {"max_completion_tokens": 65_536}}),
        json!({"id": "m", "limits": {"max_output_tokens": 65_536}}),
    ] {
        assert_eq!(one(entry.clone()).max_output_tokens, Some(65_536), "{entry}");
    }
}

#[test]
fn words_of_several_vocabularies_mean_the_same() {
    let listed =
        one(json!({"id": "m", "capabilities": ["tool_use", "vision", "chat", "unheard-of"]})).capabilities;
    assert_eq!((listed.tools, listed.vision, listed.chat), (Some(true), Some(true), Some(true)));
    assert_eq!((listed.fim, listed.reasoning), (None, None), "a missing word says nothing");

    let object = one(json!({"id": "m", "capabilities":
        {"completion_chat": true, "completion_fim": false, "function_calling": true, "image_input": {"supported": true}}}))
    .capabilities;
    assert_eq!(
        (object.chat, object.fim, object.tools, object.vision),
        (Some(true), Some(false), Some(true), Some(true))
    );

    let text_model = one(json!({"id": "m", "capabilities": ["completion"]})).capabilities;
    assert_eq!((text_model.chat, text_model.completion), (Some(true), Some(true)));
}

#[test]
fn types_tell_chat_from_embeddings() {
    let embedding = one(json!({"id": "m", "type": "embedding"})).capabilities;
    assert_eq!((embedding.chat, embedding.embedding), (Some(false), Some(true)));
    let seeing = one(json!({"id": "m", "type": "vlm"})).capabilities;
    assert_eq!((seeing.chat, seeing.vision), (Some(true), Some(true)));
    assert_eq!(one(json!({"id": "m", "type": "base"})).capabilities, Capabilities::default());
}

#[test]
fn created_takes_seconds_or_a_timestamp() {
    assert_eq!(one(json!({"id": "m", "created": 1_757_018_994})).created, Some(1_757_018_994));
    assert_eq!(one(json!({"id": "m", "created": 1_757_018_994.7})).created, Some(1_757_018_994));
    assert_eq!(one(json!({"id": "m", "created_at": "2025-05-22T00:00:00Z"})).created, Some(1_747_872_000));
    assert_eq!(one(json!({"id": "m", "created": 0})).created, None);
}

#[test]
fn texts_are_cleaned_and_cut_at_a_character() {
    let mapped = one(json!({"id": "m", "name": " a\nname ", "description": "é".repeat(5_000)}));
    assert_eq!(mapped.name.as_deref(), Some("a name"));
    assert_eq!(mapped.description.unwrap().len(), MAX_DESCRIPTION_BYTES);
    assert_eq!(one(json!({"id": "m", "name": " "})).name, None);
}

#[test]
fn inactive_entries_are_left_out() {
    assert_eq!(model(&json!({"id": "m", "active": false})), None);
    assert!(model(&json!({"id": "m", "active": true})).is_some());
}
