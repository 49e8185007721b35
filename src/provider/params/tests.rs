//! What each parameter policy makes of a request, and how it is named.

use super::*;
use crate::dialect::{self, CHAT_COMPLETIONS, COMPLETIONS, EMBEDDINGS, Endpoint, FIM_COMPLETIONS};
use crate::provider::prepare::{Prepared, prepare};
use crate::provider::registry::Registry;
use bytes::Bytes;

fn attempt(kind: &str, model: &str, endpoint: &Endpoint, body: &str) -> Result<Prepared, ProxyError> {
    let kind = Registry::builtin().kind(kind).unwrap();
    let request = dialect::read(endpoint, Bytes::copy_from_slice(body.as_bytes())).unwrap();
    prepare(&request, model, kind.adapter, &kind.facts, &[])
}

/// What is sent for this body, and the names of the edits.
fn sent(kind: &str, endpoint: &Endpoint, body: &str) -> (String, Vec<String>) {
    let prepared = attempt(kind, "m", endpoint, body).unwrap();
    (String::from_utf8(prepared.body.to_bytes().to_vec()).unwrap(), prepared.edits)
}

#[test]
fn sdk_extras_do_not_reach_mistrals_strict_body() {
    // The original sent them, and every call of the OpenAI SDK with one of them was a 422.
    let (body, edits) = sent(
        "mistral",
        &CHAT_COMPLETIONS,
        r#"{"model":"p/m","messages":[{"role":"user","content":"hi"}],"max_completion_tokens":5,"seed":7,"user":"u","stream":true,"stream_options":{"include_usage":true},"logit_bias":{},"store":false,"temperature":0.5,"tool_choice":"required"}"#,
    );
    assert_eq!(
        body,
        r#"{"model":"m","messages":[{"role":"user","content":"hi"}],"max_tokens":5,"random_seed":7,"stream":true,"temperature":0.5,"tool_choice":"required"}"#
    );
    assert_eq!(
        edits,
        [
            "rename:max_completion_tokens",
            "rename:seed",
            "drop:user",
            "drop:stream_options",
            "drop:logit_bias",
            "drop:store"
        ]
    );
}

#[test]
fn messages_lose_what_mistral_refuses_and_keep_the_rest() {
    let (body, edits) = sent(
        "mistral",
        &CHAT_COMPLETIONS,
        r#"{"model":"p/m","messages":[ {"role":"assistant","content":null,"reasoning_content":"r","refusal":null,"tool_calls":[]}, {"annotations":[],"role":"user","content":"\u00e9"} ]}"#,
    );
    assert_eq!(
        body,
        r#"{"model":"m","messages":[ {"role":"assistant","tool_calls":[]}, {"role":"user","content":"\u00e9"} ]}"#
    );
    assert_eq!(
        edits,
        [
            "drop:messages[].content",
            "drop:messages[].reasoning_content",
            "drop:messages[].refusal",
            "drop:messages[].annotations"
        ]
    );
}

#[test]
fn an_edit_that_is_made_often_is_named_once() {
    let message = r#"{"role":"assistant","content":"a","reasoning":"r"}"#;
    let list = vec![message; 50].join(",");
    let (body, edits) =
        sent("mistral", &CHAT_COMPLETIONS, &format!(r#"{{"model":"p/m","messages":[{list}]}}"#));
    assert!(!body.contains("reasoning"));
    assert_eq!(edits, ["drop:messages[].reasoning"]);
}

#[test]
fn ids_of_tool_calls_are_replaced_alike_wherever_they_stand() {
    let (body, edits) = sent(
        "mistral",
        &CHAT_COMPLETIONS,
        r#"{"model":"p/m","messages":[{"role":"assistant","tool_calls":[{"id":"call_abc-1","type":"function","function":{"name":"f","arguments":"{\"id\":\"call_abc-1\"}"}},{"id":"D681PevKs","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"call_abc-1","content":"1"},{"role":"tool","tool_call_id":"D681PevKs","content":"2"}]}"#,
    );
    let value: Value = serde_json::from_str(&body).unwrap();
    let new = value["messages"][0]["tool_calls"][0]["id"].as_str().unwrap();
    assert!(new.len() == 9 && new.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{new}");
    assert_eq!(value["messages"][1]["tool_call_id"], new);
    assert_eq!(value["messages"][0]["tool_calls"][1]["id"], "D681PevKs");
    assert_eq!(value["messages"][2]["tool_call_id"], "D681PevKs");
    assert!(body.contains(r#""arguments":"{\"id\":\"call_abc-1\"}""#), "arguments are the model's own text");
    assert_eq!(edits, ["replace:tool_call_id"]);
    let again =
        sent("mistral", &CHAT_COMPLETIONS, r#"{"model":"p/m","messages":[{"tool_call_id":"call_abc-1"}]}"#);
    assert!(again.0.contains(new), "the same in every request");
}

#[test]
fn ids_stay_where_any_text_is_accepted() {
    let body = r#"{"model":"m","messages":[{"role":"tool","tool_call_id":"call_1","content":null,"reasoning":"r"}]}"#;
    assert_eq!(sent("openai", &CHAT_COMPLETIONS, body), (body.to_owned(), Vec::new()));
}

#[test]
fn the_default_format_is_left_out_and_others_stay() {
    let (body, edits) = sent(
        "mistral",
        &CHAT_COMPLETIONS,
        r#"{"response_format":{ "type" : "text" },"model":"p/m","messages":[]}"#,
    );
    assert_eq!(
        (body.as_str(), edits),
        (r#"{"model":"m","messages":[]}"#, vec!["drop:response_format".to_owned()])
    );
    let json = r#"{"response_format":{"type":"json_object"},"model":"m","messages":[]}"#;
    assert_eq!(sent("mistral", &CHAT_COMPLETIONS, json).0, json);
}

#[test]
fn where_the_client_sent_both_words_the_upstreams_own_counts() {
    let (body, edits) = sent(
        "ollama",
        &CHAT_COMPLETIONS,
        r#"{"model":"p/m","max_completion_tokens":9,"messages":[],"max_tokens":5}"#,
    );
    assert_eq!(body, r#"{"model":"m","messages":[],"max_tokens":5}"#);
    assert_eq!(edits, ["drop:max_completion_tokens"]);
}

#[test]
fn ollama_gets_its_bound_under_its_own_name() {
    let (body, edits) =
        sent("ollama", &CHAT_COMPLETIONS, r#"{"model":"p/m","max_completion_tokens":9,"messages":[]}"#);
    assert_eq!(body, r#"{"model":"m","max_tokens":9,"messages":[]}"#);
    assert_eq!(edits, ["rename:max_completion_tokens"]);
}

#[test]
fn a_completion_with_a_suffix_becomes_mistrals_fim_body() {
    let (body, edits) = sent(
        "codestral",
        &COMPLETIONS,
        r#"{"model":"p/m","prompt":["def f("],"suffix":"return x","echo":false,"logprobs":null,"n":1,"best_of":1,"seed":3,"max_tokens":64,"stop":["\n\n"],"user":"u"}"#,
    );
    assert_eq!(
        body,
        r#"{"model":"m","prompt":"def f(","suffix":"return x","random_seed":3,"max_tokens":64,"stop":["\n\n"]}"#
    );
    assert_eq!(
        edits,
        ["drop:echo", "drop:logprobs", "drop:n", "drop:best_of", "rename:seed", "drop:user", "unwrap:prompt"]
    );
}

#[test]
fn a_prompt_that_is_not_one_text_is_refused_where_only_one_is_taken() {
    for prompt in [r#"["a","b"]"#, "[1,2,3]", "[[1],[2]]", "[]", "7", "{}"] {
        let body = format!(r#"{{"model":"p/m","prompt":{prompt}}}"#);
        for kind in ["mistral", "codestral", "ollama"] {
            let error = attempt(kind, "m", &COMPLETIONS, &body).unwrap_err();
            assert_eq!(
                (error.kind, error.param.as_deref()),
                (ErrorKind::Unsupported, Some("prompt")),
                "{kind} {prompt}"
            );
        }
        assert!(attempt("fireworks", "m", &COMPLETIONS, &body).is_ok(), "{prompt}");
    }
}

#[test]
fn a_fim_request_becomes_an_openai_style_completion() {
    let (body, edits) = sent(
        "fireworks",
        &FIM_COMPLETIONS,
        r#"{"model":"p/m","prompt":"a","suffix":"b","random_seed":3,"min_tokens":2,"max_tokens":9}"#,
    );
    assert_eq!(body, r#"{"model":"m","prompt":"a","suffix":"b","seed":3,"max_tokens":9}"#);
    assert_eq!(edits, ["rename:random_seed", "drop:min_tokens"]);
    // On a completions route of its own the client's words are the upstream's.
    let own = r#"{"model":"m","prompt":"a","suffix":"b","random_seed":3,"min_tokens":2}"#;
    assert_eq!(sent("fireworks", &COMPLETIONS, own).0, own);
    let native = r#"{"model":"m","prompt":"a","suffix":"b","random_seed":3,"min_tokens":2}"#;
    assert_eq!(sent("mistral", &FIM_COMPLETIONS, native).0, native);
}

#[test]
fn embeddings_keep_their_own_fields() {
    let (body, edits) = sent(
        "mistral",
        &EMBEDDINGS,
        r#"{"input":["a"],"model":"p/m","encoding_format":"base64","dimensions":256,"user":"u"}"#,
    );
    assert_eq!(body, r#"{"input":["a"],"model":"m","encoding_format":"base64","output_dimension":256}"#);
    assert_eq!(edits, ["rename:dimensions", "drop:user"]);
}

#[test]
fn reasoning_models_of_openai_get_their_own_words_and_others_do_not() {
    let body = r#"{"model":"p/m","messages":[],"max_tokens":5,"temperature":0.2,"top_p":1}"#;
    for model in ["o3", "o4-mini", "gpt-5", "gpt-5.1-codex"] {
        let prepared = attempt("openai", model, &CHAT_COMPLETIONS, body).unwrap();
        let expected = format!(r#"{{"model":"{model}","messages":[],"max_completion_tokens":5}}"#);
        assert_eq!(prepared.body.to_bytes(), expected.as_bytes());
        assert_eq!(prepared.edits, ["rename:max_tokens", "drop:temperature", "drop:top_p"]);
    }
    for model in ["gpt-4o", "gpt-5-chat-latest", "gpt-oss-120b", "olmo", "o3x", "openai/o3"] {
        assert_eq!(
            attempt("openai", model, &CHAT_COMPLETIONS, body).unwrap().edits,
            Vec::<String>::new(),
            "{model}"
        );
    }
}

#[test]
fn nvidia_never_gets_parallel_tool_calls() {
    let body = r#"{"model":"p/m","messages":[],"tools":[{"type":"function"}],"parallel_tool_calls":true}"#;
    let (sent_body, edits) = sent("nvidia", &CHAT_COMPLETIONS, body);
    assert!(sent_body.contains(r#""parallel_tool_calls":false"#));
    assert_eq!(edits, ["set:parallel_tool_calls"]);
    for quiet in [
        r#"{"model":"m","messages":[],"tools":[]}"#,
        r#"{"model":"m","messages":[],"tools":[{}],"parallel_tool_calls":false}"#,
    ] {
        assert_eq!(sent("nvidia", &CHAT_COMPLETIONS, quiet), (quiet.to_owned(), Vec::new()));
    }
}

#[test]
fn cloudflare_gets_a_longer_answer_unless_the_client_bounds_it() {
    let (body, edits) = sent("cloudflare", &CHAT_COMPLETIONS, r#"{"model":"p/m","messages":[]}"#);
    assert_eq!(body, r#"{"model":"m","messages":[],"max_tokens":8192}"#);
    assert_eq!(edits, ["add:max_tokens"]);
    for bounded in [
        r#"{"model":"m","messages":[],"max_tokens":5}"#,
        r#"{"model":"m","messages":[],"max_completion_tokens":5}"#,
    ] {
        assert_eq!(sent("cloudflare", &CHAT_COMPLETIONS, bounded).0, bounded);
    }
}

#[test]
fn schemas_of_tools_lose_keywords_but_no_property_of_that_name() {
    let (body, edits) = sent(
        "cohere",
        &CHAT_COMPLETIONS,
        r#"{"model":"p/m","messages":[],"tools":[{"type":"function","function":{"name":"f","parameters":{"$schema":"s","type":"object","additionalProperties":false,"properties":{"additionalProperties":{"type":"string"},"list":{"type":"array","items":{"type":"object","additionalProperties":true}},"any":{"anyOf":[{"$schema":"t","type":"null"}]}}}}}]}"#,
    );
    assert_eq!(
        body,
        r#"{"model":"m","messages":[],"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{"additionalProperties":{"type":"string"},"list":{"type":"array","items":{"type":"object"}},"any":{"anyOf":[{"type":"null"}]}}}}}]}"#
    );
    assert_eq!(edits, ["drop:tools[].additionalProperties", "drop:tools[].$schema"]);
}

#[test]
fn the_names_of_edits_can_stand_in_a_header() {
    let (_, edits) =
        sent("mistral", &CHAT_COMPLETIONS, "{\"model\":\"p/m\",\"messages\":[],\"x\\r\\nset-cookie: é\":1}");
    assert_eq!(edits, ["drop:x??set-cookie???"]);

    let many: String = (0..500).map(|n| format!(",\"field{n}\":1")).collect();
    let (body, edits) =
        sent("mistral", &CHAT_COMPLETIONS, &format!(r#"{{"model":"p/m","messages":[]{many}}}"#));
    assert_eq!(body, r#"{"model":"m","messages":[]}"#);
    assert_eq!((edits.len(), edits[MAX_NAMED].as_str()), (MAX_NAMED + 1, "more"));
}

#[test]
fn a_flood_of_odd_messages_is_edited_only_so_far() {
    let messages = vec![r#"{"tool_call_id":"x"}"#; MAX_NESTED + 10].join(",");
    let (body, _) =
        sent("mistral", &CHAT_COMPLETIONS, &format!(r#"{{"model":"p/m","messages":[{messages}]}}"#));
    assert_eq!(body.matches(r#""x""#).count(), 10);
    let (body, _) = sent("mistral", &CHAT_COMPLETIONS, r#"{"model":"p/m","messages":[1,null,"x",[],{}]}"#);
    assert_eq!(body, r#"{"model":"m","messages":[1,null,"x",[],{}]}"#);
}
