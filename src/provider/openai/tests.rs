//! Lists of the upstreams that are data alone, as captured or documented.

use super::*;
use crate::dialect::{Shape, Task};
use crate::provider::Capabilities;

#[test]
fn openais_own_list_tells_nothing_but_ids() {
    let body = br#"{"object":"list","data":[
        {"id":"gpt-5","object":"model","created":1686935002,"owned_by":"openai","shutdown_date":null},
        {"id":"text-embedding-3-small","object":"model","created":1705948997,"owned_by":"system"}]}"#;
    let models = OpenAi.models(body).unwrap();
    assert_eq!(models.len(), 2);
    assert_eq!(models[0].capabilities, Capabilities::default(), "unknown stays unknown");
    assert_eq!(models[0].created, Some(1_686_935_002));
}

#[test]
fn groq_tells_context_window_and_longest_answer() {
    let body = br#"{"object":"list","data":[
        {"id":"openai/gpt-oss-120b","object":"model","created":1754408224,"owned_by":"OpenAI","active":true,
         "context_window":131072,"public_apps":null,"max_completion_tokens":65536},
        {"id":"old","object":"model","active":false}]}"#;
    let models = OpenAi.models(body).unwrap();
    assert_eq!(models.len(), 1);
    assert_eq!((models[0].context_length, models[0].max_output_tokens), (Some(131_072), Some(65_536)));
}

#[test]
fn openrouter_tells_capabilities_by_parameters_and_modalities() {
    let body = br#"{"data":[{"id":"qwen/qwen3-coder:free","canonical_slug":"qwen/qwen3-coder-480b-a35b-07-25",
        "name":"Qwen: Qwen3 Coder (free)","created":1753230546,"description":"A code model","context_length":262144,
        "architecture":{"modality":"text->text","input_modalities":["text"],"output_modalities":["text"],"tokenizer":"Qwen3"},
        "pricing":{"prompt":"0","completion":"0"},
        "top_provider":{"context_length":262000,"max_completion_tokens":null,"is_moderated":false},
        "supported_parameters":["max_tokens","tools","tool_choice"]}]}"#;
    let model = OpenAi.models(body).unwrap().remove(0);
    assert_eq!(model.id, "qwen/qwen3-coder:free");
    assert_eq!(model.context_length, Some(262_000));
    assert_eq!(model.name.as_deref(), Some("Qwen: Qwen3 Coder (free)"));
    let can = model.capabilities;
    assert_eq!(
        (can.chat, can.tools, can.reasoning, can.vision),
        (Some(true), Some(true), Some(false), Some(false))
    );
}

#[test]
fn together_lists_a_bare_array_with_types() {
    let body = br#"[{"id":"Qwen/Qwen3-235B","object":"model","created":1,"type":"chat","display_name":"Qwen3 235B",
        "organization":"Qwen","context_length":131072,"pricing":{"hourly":0,"input":0.2},"config":{"stop":[]}},
        {"id":"BAAI/bge-base-en-v1.5","type":"embedding","context_length":512}]"#;
    let models = OpenAi.models(body).unwrap();
    assert_eq!(models[0].capabilities.chat, Some(true));
    assert_eq!(models[0].name.as_deref(), Some("Qwen3 235B"));
    assert_eq!(models[1].capabilities.embedding, Some(true));
    assert_eq!(models[1].capabilities.chat, Some(false));
}

#[test]
fn hugging_face_tools_are_any_backends_tools() {
    let body = br#"{"object":"list","data":[{"id":"openai/gpt-oss-20b","created":1754400000,
        "architecture":{"input_modalities":["text"],"output_modalities":["text"]},
        "providers":[{"provider":"a","status":"live","context_length":32768,"supports_tools":false},
                     {"provider":"b","status":"live","context_length":131072,"supports_tools":true}]}]}"#;
    let model = OpenAi.models(body).unwrap().remove(0);
    assert_eq!(model.context_length, Some(131_072));
    assert_eq!(model.capabilities.tools, Some(true));
}

#[test]
fn llama_cpp_and_vllm_tell_their_context() {
    let llama = br#"{"models":[{"name":"tiny","model":"tiny","capabilities":["completion"]}],"object":"list",
        "data":[{"id":"tiny","object":"model","created":1763848000,"owned_by":"llamacpp",
                 "meta":{"vocab_type":1,"n_vocab":300,"n_ctx_train":4096,"n_embd":64,"n_params":1000}}]}"#;
    assert_eq!(OpenAi.models(llama).unwrap()[0].context_length, Some(4_096));
    let vllm = br#"{"object":"list","data":[{"id":"Qwen/Qwen3-8B","object":"model","owned_by":"vllm","root":"Qwen/Qwen3-8B",
        "parent":null,"max_model_len":40960,"permission":[]}]}"#;
    assert_eq!(OpenAi.models(vllm).unwrap()[0].context_length, Some(40_960));
}

#[test]
fn a_model_that_chats_and_does_not_complete_chats_as_our_own_list_and_mistrals_say() {
    let list = r#"{"data":[
        {"id":"chats","capabilities":{"completion_chat":true,"completion":false,"embedding":false}},
        {"id":"completes","capabilities":{"completion":true,"completion_chat":false}},
        {"id":"llama","capabilities":["completion"]}]}"#;
    let models = OpenAi.models(list.as_bytes()).unwrap();
    let able: Vec<_> =
        models.iter().map(|model| (model.capabilities.chat, model.capabilities.completion)).collect();
    let (yes, no) = (Some(true), Some(false));
    assert_eq!(able, [(yes, no), (no, yes), (yes, yes)]);
}

#[test]
fn a_null_list_is_empty_and_an_error_is_an_error() {
    assert_eq!(OpenAi.models(br#"{"object":"list","data":null}"#), Ok(Vec::new()));
    assert!(OpenAi.models(br#"{"error":{"message":"no"}}"#).is_err());
}

#[test]
fn every_path_is_the_upstreams_own_whatever_the_client_called() {
    // The original sent the client's path, so that `/chat/completions` went upstream without `/v1`.
    for task in [Task::Chat, Task::Completion, Task::Fim, Task::Embedding] {
        assert!(OpenAi.route(task).unwrap().path.starts_with("/v1/"), "{task:?}");
    }
    assert_eq!(OpenAi.route(Task::Fim).unwrap().shape, Shape::Text);
}
