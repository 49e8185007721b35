//! Embeddings: the encoding that was asked for whether or not the upstream knows it, inputs of every form, and answers
//! of ten megabytes.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use demuxai::demo::{Answer, Received, Upstream};
use serde_json::{Value, json};

use crate::support::proxy::{Proxy, provider};
use crate::support::upstreams::{calls, heard, last_call, listing, playing};

/// A provider and one of its models that embeds.
const EMBEDDERS: [(Upstream, &str); 5] = [
    (Upstream::Ollama, "nomic-embed-text"),
    (Upstream::Github, "openai/text-embedding-3-small"),
    (Upstream::Mistral, "mistral-embed"),
    (Upstream::Fireworks, "accounts/fireworks/models/qwen3-embedding-8b"),
    (Upstream::Openai, "text-embedding-3-small"),
];

fn embed(proxy: &Proxy, body: &Value) -> Value {
    let answer = proxy.post("/v1/embeddings", &body.to_string());
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

/// The bits of a vector, however it is written.
fn bits(vector: &Value) -> Vec<u32> {
    if let Some(encoded) = vector.as_str() {
        let bytes = STANDARD.decode(encoded).expect("base64");
        let (words, rest) = bytes.as_chunks::<4>();
        assert!(rest.is_empty(), "whole floats");
        return words.iter().map(|word| u32::from_le_bytes(*word)).collect();
    }
    let numbers = vector.as_array().expect("a list of numbers");
    numbers.iter().map(|number| (number.as_f64().expect("number") as f32).to_bits()).collect()
}

#[test]
fn base64_is_the_very_same_vector_as_floats_at_every_provider() {
    for (upstream, model) in EMBEDDERS {
        let (fake, table) = playing(upstream);
        let proxy = heard(&table);
        let id = upstream.label();
        let body = |format: &str| json!({"model": format!("{id}/{model}"), "input": ["one", "two"], "encoding_format": format});
        let floats = embed(&proxy, &body("float"));
        let encoded = embed(&proxy, &body("base64"));
        assert!(floats["model"].as_str().unwrap().starts_with(&format!("{id}/")), "{id}");
        for index in [0, 1] {
            let (plain, packed) = (&floats["data"][index]["embedding"], &encoded["data"][index]["embedding"]);
            assert!(plain.is_array() && packed.is_string(), "{id}: {plain} {packed}");
            assert_eq!(bits(plain), bits(packed), "{id}");
            assert!(bits(plain).len() >= 256, "{id}");
        }
        assert_ne!(bits(&floats["data"][0]["embedding"]), bits(&floats["data"][1]["embedding"]));
        let plain = embed(&proxy, &json!({"model": format!("{id}/{model}"), "input": "one"}));
        assert_eq!(bits(&plain["data"][0]["embedding"]), bits(&floats["data"][0]["embedding"]), "{id}");
        assert_eq!(calls(&fake).len(), 3, "{id}: each at the first try");
        let tokens = format!(
            "demuxai_tokens_total{{model=\"{}\",provider=\"{id}\",source=\"upstream\",type=\"input\"}}",
            last_call(&fake).json()["model"].as_str().unwrap()
        );
        assert!(
            proxy.find_metric(&tokens).is_some_and(|count| count > 0.0),
            "{}",
            proxy.get("/metrics").text()
        );
    }
}

#[test]
fn floats_become_little_endian_32_bit_base64_exactly() {
    let answer = r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":[1,-2.5,0.1, 1e-9 ,3.4028235e38,-0.0]},{"index":1,"embedding":[]},{"index":2,"embedding":"AACAPw=="},{"index":3,"embedding":[1e39]}],"model":"e","usage":{"prompt_tokens":2,"total_tokens":2}}"#;
    let fake = listing(json!([{"id": "e"}]), move |_| Answer::json(200).body(answer));
    let proxy = heard(&provider("up", "openai", &fake.url()));
    let asked = r#"{"model":"up/e","input":"x","encoding_format":"base64"}"#;
    let got = proxy.post("/v1/embeddings", asked);
    assert_eq!(
        got.text(),
        // What no such float can hold, and what is encoded already, stays as it is.
        r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":"AACAPwAAIMDNzMw9X3CJMP//f38AAACA"},{"index":1,"embedding":[]},{"index":2,"embedding":"AACAPw=="},{"index":3,"embedding":[1e39]}],"model":"up/e","usage":{"prompt_tokens":2,"total_tokens":2}}"#
    );
    let got = proxy.post("/v1/embeddings", &asked.replace("base64", "float"));
    assert_eq!(got.text(), answer.replace("\"e\"", "\"up/e\""), "nobody asked for it");
}

#[test]
fn an_upstream_that_refuses_the_encoding_by_name_still_gives_base64() {
    let fake = listing(json!([{"id": "e"}]), |received: &Received| {
        if received.json().get("encoding_format").is_some() {
            return Answer::json(400).body(
                r#"{"error":{"message":"Unsupported parameter: 'encoding_format'","type":"invalid_request_error","param":"encoding_format","code":"unsupported_parameter"}}"#,
            );
        }
        Answer::json(200).body(r#"{"data":[{"index":0,"embedding":[1.0,-2.5]}],"model":"e"}"#)
    });
    let proxy = heard(&provider("up", "openai", &fake.url()));
    for (round, count) in [(0, 2), (1, 3)] {
        let answer =
            proxy.post("/v1/embeddings", r#"{"model":"up/e","input":"x","encoding_format":"base64"}"#);
        assert_eq!(answer.json()["data"][0]["embedding"], "AACAPwAAIMA=", "round {round}");
        assert_eq!(answer.header("x-demuxai-edits"), Some("drop:encoding_format"));
        assert_eq!(calls(&fake).len(), count);
    }
}

#[test]
fn inputs_of_every_form_reach_upstream_as_they_are() {
    let fake = listing(json!([{"id": "e"}]), |_| {
        Answer::json(200).body(r#"{"data":[{"index":0,"embedding":[1.0]}],"model":"e"}"#)
    });
    let proxy = heard(&provider("up", "openai", &fake.url()));
    for input in [r#""caf\u00e9""#, r#"["a","b"]"#, "[1,2,3]", "[[9906,1917],[ 15 ]]"] {
        let body = format!(r#"{{"input":{input},"model":"up/e","user":"u"}}"#);
        assert_eq!(proxy.post("/v1/embeddings", &body).status, 200, "{input}");
        assert_eq!(String::from_utf8(last_call(&fake).body.to_vec()).unwrap(), body.replace("up/e", "e"));
        assert_eq!(last_call(&fake).path(), "/v1/embeddings");
    }
}

#[test]
fn a_batch_with_ten_megabytes_of_answer_arrives_whole() {
    let vector = |row: u32| -> String {
        let numbers: Vec<String> = (0..1024).map(|at| format!("0.{:09}", row * 1024 + at + 1)).collect();
        format!(r#"{{"object":"embedding","index":{row},"embedding":[{}]}}"#, numbers.join(","))
    };
    let rows: Vec<String> = (0..850).map(vector).collect();
    let body = format!(
        r#"{{"object":"list","data":[{}],"model":"e","usage":{{"prompt_tokens":9,"total_tokens":9}}}}"#,
        rows.join(",")
    );
    assert!(body.len() > 10_000_000, "{}", body.len());
    let answer = body.clone();
    let fake = listing(json!([{"id": "e"}]), move |_| Answer::json(200).body(answer.clone()));
    let proxy = heard(&provider("up", "openai", &fake.url()));
    let input: Vec<String> = (0..850).map(|row| format!("text {row}")).collect();
    let mut request = json!({"model": "up/e", "input": input});
    let plain = proxy.post("/v1/embeddings", &request.to_string());
    assert_eq!((plain.status, plain.complete), (200, true));
    assert!(plain.text() == body.replace("\"model\":\"e\"", "\"model\":\"up/e\""), "the bytes differ");
    request["encoding_format"] = json!("base64");
    let packed = embed(&proxy, &request);
    let data = packed["data"].as_array().unwrap();
    assert_eq!(data.len(), 850);
    assert_eq!(bits(&data[849]["embedding"]).last(), Some(&"0.000870400".parse::<f32>().unwrap().to_bits()));
    assert!(data.iter().all(|entry| bits(&entry["embedding"]).len() == 1024));
}

#[test]
fn dimensions_have_the_upstreams_name() {
    let (fake, table) = playing(Upstream::Mistral);
    let proxy = heard(&table);
    let body = json!({"model": "mistral/codestral-embed", "input": "x", "dimensions": 8, "user": "u", "encoding_format": "base64"});
    let answer = proxy.post("/v1/embeddings", &body.to_string());
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(bits(&answer.json()["data"][0]["embedding"]).len(), 8);
    assert_eq!(last_call(&fake).json()["output_dimension"], 8);
    assert_eq!(answer.header("x-demuxai-edits"), Some("rename:dimensions, drop:user"));
    assert!(answer.json()["id"].as_str().unwrap().ends_with("@mistral"));
}

#[test]
fn a_model_that_cannot_embed_is_not_asked() {
    let (fake, table) = playing(Upstream::Mistral);
    let (other, second) = playing(Upstream::Github);
    let proxy = heard(&format!("{table}\n{second}"));
    for model in ["mistral/mistral-small-latest", "github/openai/gpt-4.1-mini"] {
        let answer = proxy.post("/v1/embeddings", &json!({"model": model, "input": "x"}).to_string());
        assert_eq!(answer.status, 400, "{}", answer.text());
        let error = answer.error();
        assert!(error.contains(model) && error.contains("cannot make embeddings"), "{error}");
        assert!(error.contains("embedding capability"), "what to do: {error}");
    }
    for model in ["mistral/mistral-embed", "github/openai/text-embedding-3-small"] {
        let body = json!({"model": model, "messages": [{"role": "user", "content": "x"}]});
        let answer = proxy.post("/v1/chat/completions", &body.to_string());
        assert_eq!(answer.status, 400, "{}", answer.text());
        let error = answer.error();
        assert!(error.contains(model) && error.contains("cannot chat"), "{error}");
        assert!(error.contains("chat capability"), "what to do: {error}");
        assert_eq!(answer.json()["error"]["param"], "model");
    }
    assert_eq!(calls(&fake).len() + calls(&other).len(), 0, "nothing reached an upstream");
}
