//! Fill in the middle: both endpoints in front of upstreams that have it natively and of those that take a `suffix`,
//! plain and streamed, with the shape of the answer that was asked for, byte for byte.

use demuxai::demo::{Answer, Fake, Received, Script, Upstream};
use serde_json::{Value, json};

use crate::support::proxy::{Proxy, provider};
use crate::support::upstreams::{calls, heard, is_list, last_call, playing};

/// What Mistral's FIM route answers: the shape of chat.
const NATIVE: &str = r#"{"id":"f1","created":7,"model":"codestral-latest","usage":{"prompt_tokens":8,"total_tokens":10,"completion_tokens":2},"object":"chat.completion","choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","tool_calls":null,"content":"4\u00322\n"}}]}"#;
const NATIVE_EVENTS: [&str; 3] = [
    r#"{"id":"f1","object":"chat.completion.chunk","created":7,"model":"codestral-latest","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}],"p":"a"}"#,
    r#"{"id":"f1","object":"chat.completion.chunk","created":7,"model":"codestral-latest","choices":[{"index":0,"delta":{"content":"42"},"finish_reason":null}],"p":"abc"}"#,
    r#"{"id":"f1","object":"chat.completion.chunk","created":7,"model":"codestral-latest","choices":[{"index":0,"delta":{"content":""},"finish_reason":"stop"}],"usage":{"prompt_tokens":8,"total_tokens":10,"completion_tokens":2},"p":"ab"}"#,
];

/// What `/v1/completions` of the others answers.
const TEXT: &str = r#"{"id":"cmpl-1","object":"text_completion","created":7,"model":"coder:7b","system_fingerprint":"fp","choices":[{"text":"4\u00322\n","index":0,"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":8,"completion_tokens":2,"total_tokens":10}}"#;
const TEXT_EVENTS: [&str; 3] = [
    r#"{"id":"cmpl-1","object":"text_completion","created":7,"choices":[{"text":"4","index":0,"finish_reason":null}],"model":"coder:7b"}"#,
    r#"{"id":"cmpl-1","object":"text_completion","created":7,"choices":[{"text":"2","index":0,"finish_reason":null}],"model":"coder:7b"}"#,
    r#"{"id":"cmpl-1","object":"text_completion","created":7,"choices":[{"text":"","index":0,"finish_reason":"stop"}],"model":"coder:7b"}"#,
];

/// An upstream without a list that answers every call with this document, or streams these events.
fn answering(whole: &'static str, events: [&'static str; 3]) -> Fake {
    Fake::start(move |received: &Received| {
        if is_list(received) {
            return Answer::json(500).body("{}");
        }
        if received.json()["stream"] != true {
            return Answer::json(200).body(whole);
        }
        let stream = events.iter().fold(Answer::events().chunked(), |script, event| script.event(event));
        stream.event("[DONE]").last_chunk()
    })
    .expect("fake upstream starts")
}

fn before(kind: &str, fake: &Fake) -> Proxy {
    heard(&provider("up", kind, &fake.url()))
}

fn ask(endpoint: &str, proxy: &Proxy, model: &str, stream: bool) -> crate::support::client::Answer {
    let body = json!({"model": format!("up/{model}"), "prompt": "def f():\n    return ", "suffix": "\n", "stream": stream});
    let answer = proxy.post(endpoint, &body.to_string());
    assert_eq!((answer.status, answer.complete), (200, true), "{}", answer.text());
    answer
}

/// Events as the client gets them.
fn framed(events: &[String]) -> String {
    let done = "[DONE]".to_owned();
    events.iter().chain([&done]).map(|event| format!("data: {event}\n\n")).collect()
}

#[test]
fn a_native_upstream_answers_the_fim_endpoint_in_its_own_shape() {
    for kind in ["mistral", "codestral"] {
        let fake = answering(NATIVE, NATIVE_EVENTS);
        let proxy = before(kind, &fake);
        let mark = |text: &str| {
            text.replace("\"f1\"", "\"f1@up\"").replace("\"codestral-latest\"", "\"up/codestral-latest\"")
        };
        let answer = ask("/v1/fim/completions", &proxy, "codestral-latest", false);
        assert_eq!(answer.text(), mark(NATIVE));
        let answer = ask("/fim/completions/", &proxy, "codestral-latest", true);
        assert_eq!(answer.text(), framed(&NATIVE_EVENTS.map(mark)));
        for received in calls(&fake) {
            assert_eq!(received.path(), "/v1/fim/completions");
            assert_eq!(received.json()["suffix"], "\n");
        }
    }
}

#[test]
fn a_native_upstream_answers_the_completions_endpoint_as_text() {
    for kind in ["mistral", "codestral"] {
        let fake = answering(NATIVE, NATIVE_EVENTS);
        let proxy = before(kind, &fake);
        let answer = ask("/v1/completions", &proxy, "codestral-latest", false);
        assert_eq!(
            answer.text(),
            r#"{"id":"f1@up","created":7,"model":"up/codestral-latest","usage":{"prompt_tokens":8,"total_tokens":10,"completion_tokens":2},"object":"text_completion","choices":[{"index":0,"finish_reason":"stop","text":"4\u00322\n"}]}"#
        );
        let answer = ask("/completions", &proxy, "codestral-latest", true);
        let events = [
            r#"{"id":"f1@up","object":"text_completion","created":7,"model":"up/codestral-latest","choices":[{"index":0,"text":"","finish_reason":null}],"p":"a"}"#,
            r#"{"id":"f1@up","object":"text_completion","created":7,"model":"up/codestral-latest","choices":[{"index":0,"text":"42","finish_reason":null}],"p":"abc"}"#,
            r#"{"id":"f1@up","object":"text_completion","created":7,"model":"up/codestral-latest","choices":[{"index":0,"text":"","finish_reason":"stop"}],"usage":{"prompt_tokens":8,"total_tokens":10,"completion_tokens":2},"p":"ab"}"#,
        ];
        assert_eq!(answer.text(), framed(&events.map(str::to_owned)));
        assert!(calls(&fake).iter().all(|received| received.path() == "/v1/fim/completions"));
    }
}

#[test]
fn an_upstream_with_suffix_answers_the_completions_endpoint_in_its_own_shape() {
    for kind in ["ollama", "fireworks", "openai"] {
        let fake = answering(TEXT, TEXT_EVENTS);
        let proxy = before(kind, &fake);
        let mark = |text: &str| {
            text.replace("\"cmpl-1\"", "\"cmpl-1@up\"").replace("\"coder:7b\"", "\"up/coder:7b\"")
        };
        let answer = ask("/v1/completions", &proxy, "coder:7b", false);
        assert_eq!(answer.text(), mark(TEXT));
        let answer = ask("/v1/completions", &proxy, "coder:7b", true);
        assert_eq!(answer.text(), framed(&TEXT_EVENTS.map(mark)));
        for received in calls(&fake) {
            assert_eq!(received.path(), "/v1/completions");
            assert_eq!(received.json()["suffix"], "\n");
        }
    }
}

#[test]
fn an_upstream_with_suffix_answers_the_fim_endpoint_as_chat() {
    for kind in ["ollama", "fireworks", "openai"] {
        let fake = answering(TEXT, TEXT_EVENTS);
        let proxy = before(kind, &fake);
        let answer = ask("/v1/fim/completions", &proxy, "coder:7b", false);
        assert_eq!(
            answer.text(),
            r#"{"id":"cmpl-1@up","object":"chat.completion","created":7,"model":"up/coder:7b","system_fingerprint":"fp","choices":[{"message":{"role":"assistant","content":"4\u00322\n"},"index":0,"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":8,"completion_tokens":2,"total_tokens":10}}"#
        );
        let answer = ask("/v1/fim/completions", &proxy, "coder:7b", true);
        let events = [
            r#"{"id":"cmpl-1@up","object":"chat.completion.chunk","created":7,"choices":[{"delta":{"role":"assistant","content":"4"},"index":0,"finish_reason":null}],"model":"up/coder:7b"}"#,
            r#"{"id":"cmpl-1@up","object":"chat.completion.chunk","created":7,"choices":[{"delta":{"content":"2"},"index":0,"finish_reason":null}],"model":"up/coder:7b"}"#,
            r#"{"id":"cmpl-1@up","object":"chat.completion.chunk","created":7,"choices":[{"delta":{"content":""},"index":0,"finish_reason":"stop"}],"model":"up/coder:7b"}"#,
        ];
        assert_eq!(answer.text(), framed(&events.map(str::to_owned)));
        assert!(calls(&fake).iter().all(|received| received.path() == "/v1/completions"));
    }
}

#[test]
fn fields_of_the_fim_endpoint_have_openais_names_where_it_becomes_a_completion() {
    let body = r#"{"model":"up/coder:7b","prompt":"a","suffix":"b","random_seed":7,"min_tokens":1,"max_tokens":5,"stop":["\n\n"]}"#;
    let fake = answering(TEXT, TEXT_EVENTS);
    let proxy = before("fireworks", &fake);
    let answer = proxy.post("/v1/fim/completions", body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(
        String::from_utf8(last_call(&fake).body.to_vec()).unwrap(),
        r#"{"model":"coder:7b","prompt":"a","suffix":"b","seed":7,"max_tokens":5,"stop":["\n\n"]}"#
    );
    assert_eq!(answer.header("x-demuxai-edits"), Some("rename:random_seed, drop:min_tokens"));

    let fake = answering(NATIVE, NATIVE_EVENTS);
    let proxy = before("mistral", &fake);
    let asked = body.replace("random_seed", "seed").replace("\"min_tokens\":1", "\"echo\":false");
    let answer = proxy.post("/v1/completions", &asked);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(
        String::from_utf8(last_call(&fake).body.to_vec()).unwrap(),
        r#"{"model":"coder:7b","prompt":"a","suffix":"b","random_seed":7,"max_tokens":5,"stop":["\n\n"]}"#
    );
    assert_eq!(answer.header("x-demuxai-edits"), Some("rename:seed, drop:echo"));
}

#[test]
fn the_suffix_mark_among_the_stops_means_fim() {
    let (fake, table) = playing(Upstream::Ollama);
    let proxy = heard(&table);
    let body = |model: &str, suffix: &str, stop: Value| {
        json!({"model": format!("ollama/{model}"), "prompt": "[SUFFIX]\n}[PREFIX]fn f() {", "suffix": suffix, "stop": stop})
            .to_string()
    };
    // A model that fills gaps gets it, mark and all.
    for stop in [json!("[SUFFIX]"), json!(["\n\n", "[SUFFIX]"])] {
        let answer = proxy.post("/v1/completions", &body("qwen2.5-coder:7b", "", stop.clone()));
        assert_eq!(answer.status, 200, "{}", answer.text());
        let received = last_call(&fake);
        assert_eq!((received.path(), &received.json()["stop"]), ("/v1/completions", &stop));
        assert_eq!(received.json()["prompt"], "[SUFFIX]\n}[PREFIX]fn f() {");
    }
    let fim = "demuxai_requests_total{backend=\"ollama\",endpoint=\"fim\",listener=\"test\",model=\"qwen2.5-coder:7b\",outcome=\"ok\",provider=\"ollama\"}";
    assert_eq!(proxy.metric(fim), 2.0, "counted as what it is");
    // With nothing behind the gap it is a plain completion, which any model can do.
    let answer = proxy.post("/v1/completions", &body("llama3.2:3b", "", json!(["[SUFFIX]"])));
    assert_eq!(answer.status, 200, "{}", answer.text());
    // Another stop means nothing.
    assert_eq!(proxy.post("/v1/completions", &body("llama3.2:3b", "", json!(["[suffix]"]))).status, 200);
}

#[test]
fn a_model_that_cannot_fill_gaps_is_not_asked_and_not_given_the_gap_as_a_chat() {
    let (ollama, first) = playing(Upstream::Ollama);
    let (mistral, second) = playing(Upstream::Mistral);
    let proxy = heard(&format!("{first}\n{second}"));
    for model in
        ["ollama/llama3.2:3b", "ollama/qwen3:8b", "mistral/mistral-small-latest", "mistral/mistral-embed"]
    {
        for endpoint in ["/v1/completions", "/v1/fim/completions"] {
            for stream in [false, true] {
                let body =
                    json!({"model": model, "prompt": "a", "suffix": "b", "stream": stream}).to_string();
                let answer = proxy.post(endpoint, &body);
                assert_eq!(answer.status, 400, "{model}: {}", answer.text());
                let error = answer.error();
                assert!(error.contains(model) && error.contains("fill in the middle"), "{error}");
                assert!(error.contains("fim capability"), "what to do: {error}");
                assert_eq!(answer.json()["error"]["code"], "unsupported");
            }
        }
    }
    assert_eq!(calls(&ollama).len() + calls(&mistral).len(), 0, "nothing reached an upstream");
}

#[test]
fn a_gap_never_reaches_a_chat_route() {
    for kind in Upstream::ALL {
        let (fake, table) = playing(kind);
        let proxy = heard(&table);
        let list = proxy.get("/v1/models").json();
        for entry in list["data"].as_array().unwrap() {
            for endpoint in ["/v1/completions", "/v1/fim/completions"] {
                let body = json!({"model": entry["id"], "prompt": "a = ", "suffix": "\nb"}).to_string();
                let answer = proxy.post(endpoint, &body);
                assert!([200, 400, 403, 404].contains(&answer.status), "{}", answer.text());
            }
        }
        for received in calls(&fake) {
            assert!(!received.path().contains("chat"), "{}", received.path());
            let sent = received.json();
            assert_eq!((&sent["prompt"], &sent["suffix"]), (&json!("a = "), &json!("\nb")));
            assert!(sent.get("messages").is_none());
        }
    }
}

#[test]
fn fim_tokens_inside_a_prompt_pass_untouched() {
    let prompt = r#""<|fim_prefix|>caf\u00e9 \/ é\n<|fim_suffix|>\n<|fim_middle|>""#;
    for (kind, path, whole, events) in [
        ("ollama", "/v1/completions", TEXT, TEXT_EVENTS),
        ("fireworks", "/v1/completions", TEXT, TEXT_EVENTS),
        ("openai", "/v1/completions", TEXT, TEXT_EVENTS),
        ("codestral", "/v1/fim/completions", NATIVE, NATIVE_EVENTS),
    ] {
        let fake = answering(whole, events);
        let proxy = before(kind, &fake);
        let body = format!(r#"{{"model":"up/m","prompt":{prompt},"temperature":0.10,"stream":false}}"#);
        let answer = proxy.post("/v1/completions", &body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let received = last_call(&fake);
        assert_eq!(received.path(), path);
        assert_eq!(String::from_utf8(received.body.to_vec()).unwrap(), body.replace("up/m", "m"));
    }
}

#[test]
fn several_prompts_at_once_are_refused_where_the_upstream_takes_one() {
    let fake = answering(NATIVE, NATIVE_EVENTS);
    let proxy = before("mistral", &fake);
    let answer =
        proxy.post("/v1/completions", r#"{"model":"up/codestral-latest","prompt":["a"],"suffix":"b"}"#);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(last_call(&fake).json()["prompt"], "a", "a list of one is one");
    assert_eq!(answer.header("x-demuxai-edits"), Some("unwrap:prompt"));
    for prompt in [r#"["a","b"]"#, "[1,2,3]", "[]", "7"] {
        let body = format!(r#"{{"model":"up/codestral-latest","prompt":{prompt},"suffix":"b"}}"#);
        let answer = proxy.post("/v1/completions", &body);
        assert_eq!((answer.status, &answer.json()["error"]["param"]), (400, &json!("prompt")), "{prompt}");
    }
    assert_eq!(calls(&fake).len(), 1);
}

#[test]
fn a_broken_fim_stream_is_not_made_to_look_whole_in_the_other_shape() {
    let fake = Fake::start(|received: &Received| -> Script {
        if is_list(received) {
            return Answer::json(500).body("{}");
        }
        Answer::events().chunked().event(NATIVE_EVENTS[0]).event(NATIVE_EVENTS[1]).last_chunk()
    })
    .expect("fake upstream starts");
    let proxy = before("mistral", &fake);
    let body = r#"{"model":"up/codestral-latest","prompt":"a","suffix":"b","stream":true}"#;
    let answer = proxy.post("/v1/completions", body);
    assert!(!answer.complete && answer.text().contains(r#""text":"42""#), "{}", answer.text());
    let events = answer.events();
    let last: Value = serde_json::from_str(events.last().unwrap()).unwrap();
    assert_eq!(last["error"]["code"], "truncated");
    assert!(!answer.text().contains("[DONE]") && !answer.text().contains(r#""finish_reason":"stop""#));
}
