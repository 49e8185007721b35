//! Lists as recent and as old servers write them (`api/types.go`, 2026-08-21).

use super::*;

const NEW_SERVER: &[u8] = br#"{"models":[
  {"name":"qwen2.5-coder:7b","model":"qwen2.5-coder:7b","modified_at":"2024-08-05T16:35:41.123456789-07:00","size":4683087332,
   "digest":"dae161e27b0e90dd1856c8bb3209201fd6736d8eb66298e75ed87571486f4364",
   "details":{"parent_model":"","format":"gguf","family":"qwen2","families":["qwen2"],"parameter_size":"7.6B",
    "quantization_level":"Q4_K_M","context_length":32768,"embedding_length":3584},
   "capabilities":["completion","tools","insert"]},
  {"name":"qwen3:8b","model":"qwen3:8b","modified_at":"2025-05-01T00:00:00Z","details":{"context_length":40960},
   "capabilities":["completion","tools","thinking"]},
  {"name":"gemma3:4b","model":"gemma3:4b","details":{"context_length":131072},"capabilities":["completion","vision"]},
  {"name":"nomic-embed-text:latest","model":"nomic-embed-text:latest","details":{"context_length":2048},
   "capabilities":["embedding"]},
  {"name":"gpt-oss:120b-cloud","model":"gpt-oss:120b-cloud","remote_model":"gpt-oss:120b","remote_host":"https://ollama.com:443",
   "capabilities":["completion","tools","thinking"]}]}"#;

const OLD_SERVER: &[u8] =
    br#"{"models":[{"name":"llama3.2:3b","model":"llama3.2:3b","modified_at":"2024-10-01T00:00:00Z",
  "size":2019393189,"digest":"a80c4f17acd5","details":{"format":"gguf","family":"llama","families":["llama"],
  "parameter_size":"3.2B","quantization_level":"Q4_K_M"}}]}"#;

#[test]
fn a_server_without_models_lists_none() {
    // Go writes a list that was never made as null; the original crashed on it.
    for body in
        [&br#"{"models":null}"#[..], br#"{"models":[]}"#, br#"{"object":"list","data":null}"#, b"{}", b" {} "]
    {
        assert_eq!(models(body), Ok(Vec::new()), "{}", String::from_utf8_lossy(body));
    }
}

#[test]
fn an_error_body_is_no_list() {
    assert!(models(br#"{"error":"unauthorized","signin_url":"https://ollama.com/connect"}"#).is_err());
    assert!(models(b"Ollama is running").is_err());
}

#[test]
fn the_list_tells_capabilities_and_context_without_a_call_per_model() {
    // The original asked `/api/show` for every model on every list.
    let list = models(NEW_SERVER).unwrap();
    assert_eq!(list.len(), 5);
    assert!(list.iter().all(|model| detail(model).is_none()));
    let coder = &list[0];
    assert_eq!(coder.context_length, Some(32_768));
    assert_eq!(coder.created, Some(1_722_900_941));
    let can = coder.capabilities;
    assert_eq!(
        (can.chat, can.completion, can.fim, can.tools),
        (Some(true), Some(true), Some(true), Some(true))
    );
    assert_eq!((can.vision, can.reasoning), (Some(false), Some(false)));
    assert_eq!(can.embedding, None, "the server embeds with every model");
}

#[test]
fn thinking_is_a_capability_and_not_a_template() {
    // The original looked for `{{ .Thinking }}` in the template.
    let list = models(NEW_SERVER).unwrap();
    assert_eq!(list[1].capabilities.reasoning, Some(true));
    let mut old = models(OLD_SERVER).unwrap().remove(0);
    apply_detail(&mut old, br#"{"template":"{{ .Thinking }}","capabilities":["completion"]}"#);
    assert_eq!(old.capabilities.reasoning, Some(false));
}

#[test]
fn modalities_follow_the_capabilities() {
    let list = models(NEW_SERVER).unwrap();
    assert_eq!(list[2].input_modalities, ["text", "image"]);
    assert_eq!(list[2].output_modalities, ["text"]);
    assert_eq!(list[3].output_modalities, ["embeddings"]);
    assert_eq!(list[3].capabilities.chat, Some(false));
    assert_eq!(list[3].capabilities.embedding, Some(true));
}

#[test]
fn an_old_server_is_asked_once_per_model() {
    let mut model = models(OLD_SERVER).unwrap().remove(0);
    assert_eq!(model.capabilities, Capabilities::default());
    let ask = detail(&model).unwrap();
    assert_eq!((ask.path, ask.body.as_slice()), ("/api/show", &br#"{"model":"llama3.2:3b"}"#[..]));

    let shown = br#"{"license":"x","modelfile":"FROM x","capabilities":["completion","tools"],
        "model_info":{"general.architecture":"llama","llama.context_length":131072,"llama.block_count":28}}"#;
    apply_detail(&mut model, shown);
    assert_eq!(model.context_length, Some(131_072));
    assert_eq!(model.capabilities.tools, Some(true));
    assert_eq!(model.capabilities.fim, Some(false));
    assert_eq!(detail(&model), None);
}

#[test]
fn an_answer_that_cannot_be_read_changes_nothing() {
    let before = models(OLD_SERVER).unwrap().remove(0);
    for body in [
        &b"not json"[..],
        br#"{"error":"model 'x' not found"}"#,
        br#"{"capabilities":null,"model_info":[]}"#,
        b"",
    ] {
        let mut model = before.clone();
        apply_detail(&mut model, body);
        assert_eq!(model, before);
    }
}
