//! What the fakes say is what the real ones said: byte for byte as in `tests/transcripts`.

use std::path::PathBuf;

use super::*;
use crate::demo::Transcript;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts")
}

pub(super) fn transcript(provider: &str, case: &str) -> Option<Transcript> {
    let text = std::fs::read_to_string(folder().join(provider).join(format!("{case}.http"))).ok()?;
    Some(Transcript::parse(&text).unwrap())
}

/// The answers that are both made by a fake and kept as a transcript, with the request that gets them.
fn mirrored() -> Vec<(Upstream, &'static str, &'static str, Value)> {
    let mut cases = Vec::new();
    let usage = json!({"include_usage": true});
    for upstream in Upstream::ALL {
        let (path, model) = chat_of(upstream);
        let takes_options = !matches!(upstream, Upstream::Mistral | Upstream::Codestral);
        let streamed = if takes_options {
            json!({"stream": true, "stream_options": usage})
        } else {
            json!({"stream": true})
        };
        let mut calling = streamed.clone();
        calling["tools"] = tools();
        cases.push((upstream, "chat", path, chat(model, json!({}))));
        cases.push((upstream, "chat_stream", path, chat(model, streamed)));
        cases.push((upstream, "tools_stream", path, chat(model, calling)));
        cases.push((upstream, "unknown_model", path, chat("nothing", json!({}))));
    }
    let fim = |model: &str, stream: bool| {
        let mut request = json!({"model": model, "prompt": "def answer():\n    return ", "suffix": "\n"});
        if stream {
            request["stream"] = json!(true);
        }
        request
    };
    let kimi = chat_of(Upstream::Fireworks).1;
    let fireworks = "/inference/v1/completions";
    for (case, stream) in [("fim", false), ("fim_stream", true)] {
        cases.push((Upstream::Ollama, case, "/v1/completions", fim("qwen2.5-coder:7b", stream)));
        cases.push((Upstream::Mistral, case, "/v1/fim/completions", fim("codestral-latest", stream)));
        cases.push((Upstream::Codestral, case, "/v1/fim/completions", fim("codestral-latest", stream)));
        cases.push((Upstream::Fireworks, case, fireworks, fim(kimi, stream)));
    }
    let thinking = |model: &str| chat(model, json!({"stream": true}));
    let path = "/v1/chat/completions";
    cases.push((Upstream::Ollama, "reasoning_stream", path, thinking("qwen3:8b")));
    cases.push((Upstream::OllamaCloud, "reasoning_stream", path, thinking("gpt-oss:120b")));
    cases.push((Upstream::Mistral, "reasoning_stream", path, thinking("magistral-medium-latest")));
    cases.push((
        Upstream::Fireworks,
        "reasoning_stream",
        "/inference/v1/chat/completions",
        thinking("accounts/fireworks/models/glm-5"),
    ));
    let extra = json!({"stream": true, "stream_options": {"include_usage": true}});
    cases.push((Upstream::Mistral, "error_422", path, chat("mistral-small-latest", extra)));
    let embed = |model: &str, key: &str| json!({"model": model, "input": ["Say hi"], key: 8});
    let path = "/v1/embeddings";
    cases.push((Upstream::Ollama, "embeddings", path, embed("nomic-embed-text", "dimensions")));
    cases.push((Upstream::Mistral, "embeddings", path, embed("codestral-embed", "output_dimension")));
    cases.push((Upstream::Openai, "embeddings", path, embed("text-embedding-3-small", "dimensions")));
    let small = "openai/text-embedding-3-small";
    cases.push((Upstream::Github, "embeddings", "/inference/embeddings", embed(small, "dimensions")));
    let qwen = "accounts/fireworks/models/qwen3-embedding-8b";
    cases.push((Upstream::Fireworks, "embeddings", "/inference/v1/embeddings", embed(qwen, "dimensions")));
    cases
}

/// A script in the syntax of transcripts, so that a changed one can be copied over.
fn rendered(script: &Script, path: &str, request: &Value) -> String {
    let wire = String::from_utf8(
        script
            .steps()
            .iter()
            .find_map(|step| match step {
                Step::Write(bytes) => Some(bytes.to_vec()),
                _ => None,
            })
            .unwrap(),
    )
    .unwrap();
    let (head, body) = wire.split_once("\r\n\r\n").unwrap();
    let mut text = format!("@# POST {path} {request}\n");
    for line in head.split("\r\n") {
        let name = line.split(':').next().unwrap();
        let length = name.eq_ignore_ascii_case("content-length");
        text.push_str(&if length { format!("{name}: *\n") } else { format!("{line}\n") });
    }
    text.push('\n');
    text.push_str(body);
    if script.steps().len() == 1 {
        text.push_str(if body.ends_with('\n') { "@end\n" } else { "\n" });
        return text;
    }
    text.push_str("@events 25ms\n");
    for step in script.steps() {
        if let Step::Chunk(bytes) = step {
            text.push_str(std::str::from_utf8(bytes).unwrap());
        }
    }
    text + "@end\n"
}

#[test]
fn transcripts_and_fakes_say_the_same_bytes() {
    let fresh = std::env::temp_dir().join("demuxai-transcripts");
    let mut stale = Vec::new();
    for (upstream, case, path, request) in mirrored() {
        let script = post(upstream, path, &request);
        if transcript(upstream.label(), case).is_some_and(|kept| kept.script() == script) {
            continue;
        }
        let file = fresh.join(upstream.label()).join(format!("{case}.http"));
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, rendered(&script, path, &request)).unwrap();
        stale.push(format!("{}/{case}", upstream.label()));
    }
    assert!(
        stale.is_empty(),
        "differ from what the fakes answer: {stale:?}; the fresh ones are in {}",
        fresh.display()
    );
}

#[test]
fn every_transcript_can_be_read_and_each_provider_has_the_cases_that_tests_rely_on() {
    let mut seen = BTreeSet::new();
    for provider in std::fs::read_dir(folder()).unwrap() {
        let provider = provider.unwrap();
        for file in std::fs::read_dir(provider.path()).unwrap() {
            let path = file.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            let transcript =
                Transcript::parse(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            assert!(text.starts_with("@# "), "{} does not say where it is from", path.display());
            let wire = transcript.script().wire();
            let head = String::from_utf8_lossy(&wire).to_ascii_lowercase();
            if head.contains("content-type: application/json") && !head.contains("transfer-encoding") {
                serde_json::from_slice::<Value>(&transcript.body()).unwrap();
            }
            seen.insert(format!(
                "{}/{}",
                provider.file_name().display(),
                path.file_stem().unwrap().display()
            ));
        }
    }
    for upstream in Upstream::ALL {
        for case in ["models", "chat", "chat_stream", "error_401", "error_429", "unknown_model"] {
            let name = format!("{}/{case}", upstream.label());
            assert!(seen.contains(&name), "no transcript {name}");
        }
    }
    assert!(seen.contains("github/gone_410"));
}
