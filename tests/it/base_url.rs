//! However a user writes the base URL of an upstream, its paths come out right: `/v1` is there once where the upstream
//! has it, and a prefix stays.

use demuxai::demo::{Answer, Fake, Received};
use serde_json::json;

use crate::support::proxy::provider;
use crate::support::upstreams::{calls, chat, heard, is_list, ok_chat};

/// An upstream that lists one model in every form at once.
fn upstream() -> Fake {
    Fake::start(|received: &Received| {
        if !is_list(received) {
            return ok_chat();
        }
        if received.path().ends_with("/catalog/models") {
            return Answer::json(200).value(&json!([{"id": "m"}]));
        }
        let model = json!({"id": "m", "name": "m", "capabilities": ["completion"]});
        let key = if received.path().ends_with("/tags") { "models" } else { "data" };
        let mut list = json!({});
        list[key] = json!([model]);
        Answer::json(200).value(&list)
    })
    .expect("fake upstream starts")
}

/// Sends one chat and looks at the two paths that arrived.
fn check(kind: &str, written: &str, list: &str, chat_path: &str) {
    let fake = upstream();
    let proxy = heard(&provider("up", kind, &format!("{}{written}", fake.url())));
    let answer = proxy.post("/v1/chat/completions", &chat("up/m"));
    assert_eq!(answer.status, 200, "{kind} at {written:?}: {}", answer.text());
    let listed = fake.received().into_iter().find(is_list).expect("a list was asked for");
    assert_eq!(
        (listed.target.as_str(), calls(&fake)[0].target.as_str()),
        (list, chat_path),
        "{kind} at {written:?}"
    );
    assert_eq!(listed.header("host"), Some(fake.address().to_string().as_str()));
}

#[test]
fn v1_is_never_doubled_and_never_missing() {
    for written in ["", "/", "//", "/v1", "/v1/", "/v1//", "//v1/"] {
        check("openai", written, "/v1/models", "/v1/chat/completions");
        check("mistral", written, "/v1/models", "/v1/chat/completions");
        check("codestral", written, "/v1/models", "/v1/chat/completions");
        check("ollama", written, "/api/tags", "/v1/chat/completions");
        check("ollama-cloud", written, "/api/tags", "/v1/chat/completions");
    }
}

#[test]
fn a_path_before_it_is_kept() {
    for written in ["/a/b", "/a/b/", "/a/b/v1", "/a/b/v1/"] {
        check("openai", written, "/a/b/v1/models", "/a/b/v1/chat/completions");
        check("ollama", written, "/a/b/api/tags", "/a/b/v1/chat/completions");
    }
    for written in ["/inference", "/inference/", "/inference/v1", "/inference/v1/"] {
        check("fireworks", written, "/inference/v1/models", "/inference/v1/chat/completions");
    }
    for written in ["", "/"] {
        check("github", written, "/catalog/models", "/inference/chat/completions");
    }
    check("github", "/proxy/", "/proxy/catalog/models", "/proxy/inference/chat/completions");
    check("openai", "/v1/v1", "/v1/v1/models", "/v1/v1/chat/completions");
    check("openai", "/V1", "/V1/v1/models", "/V1/v1/chat/completions");
    check("groq", "/openai/v1", "/openai/v1/models", "/openai/v1/chat/completions");
}

#[test]
fn an_upstream_without_v1_gets_none() {
    for written in ["/api/paas/v4", "/api/paas/v4/"] {
        check("zai", written, "/api/paas/v4/models", "/api/paas/v4/chat/completions");
    }
    for written in ["/v1beta/openai", "/v1beta/openai/"] {
        check("gemini", written, "/v1beta/openai/models", "/v1beta/openai/chat/completions");
    }
    check("lmstudio", "/v1", "/api/v0/models", "/v1/chat/completions");
}
