//! The contract that every kind of provider keeps: each row of the registry in front of the fake of its name.
//! What is peculiar to one of them is tested elsewhere.

use demuxai::demo::{Answer as Script, Fake, Upstream};
use demuxai::dialect::Task;
use demuxai::provider::registry::{PROVIDERS, Registry};
use serde_json::{Value, json};

use crate::support::client::{self, Answer};
use crate::support::proxy::{Proxy, provider};
use crate::support::upstreams::{calls, heard, ids, key_of, last_call, playing};

/// What one kind can do, and where it is asked for it.
struct Case {
    upstream: Upstream,
    chat: (&'static str, &'static str),
    completion: Option<(&'static str, &'static str)>,
    fim: Option<(&'static str, &'static str)>,
    embedding: Option<(&'static str, &'static str)>,
    /// Models that are not listed are sent, for the upstream to judge.
    open: Option<u16>,
}

/// Path below the upstream's host, and a model that can do it.
const CASES: [Case; 7] = [
    Case {
        upstream: Upstream::Ollama,
        chat: ("/v1/chat/completions", "llama3.2:3b"),
        completion: Some(("/v1/completions", "llama3.2:3b")),
        fim: Some(("/v1/completions", "qwen2.5-coder:7b")),
        embedding: Some(("/v1/embeddings", "nomic-embed-text:latest")),
        open: None,
    },
    Case {
        upstream: Upstream::OllamaCloud,
        chat: ("/v1/chat/completions", "gemma4:31b"),
        completion: Some(("/v1/completions", "gemma4:31b")),
        fim: None,
        embedding: None,
        open: None,
    },
    Case {
        upstream: Upstream::Github,
        chat: ("/inference/chat/completions", "openai/gpt-4.1-mini"),
        completion: None,
        fim: None,
        embedding: Some(("/inference/embeddings", "openai/text-embedding-3-small")),
        open: None,
    },
    Case {
        upstream: Upstream::Mistral,
        chat: ("/v1/chat/completions", "mistral-small-latest"),
        completion: Some(("/v1/fim/completions", "codestral-latest")),
        fim: Some(("/v1/fim/completions", "codestral-latest")),
        embedding: Some(("/v1/embeddings", "mistral-embed")),
        open: None,
    },
    Case {
        upstream: Upstream::Codestral,
        chat: ("/v1/chat/completions", "codestral-latest"),
        completion: Some(("/v1/fim/completions", "codestral-latest")),
        fim: Some(("/v1/fim/completions", "codestral-2508")),
        embedding: None,
        open: Some(400),
    },
    Case {
        upstream: Upstream::Fireworks,
        chat: ("/inference/v1/chat/completions", "accounts/fireworks/models/kimi-k2-instruct-0905"),
        completion: Some(("/inference/v1/completions", "accounts/fireworks/models/kimi-k2-instruct-0905")),
        fim: Some(("/inference/v1/completions", "accounts/fireworks/models/kimi-k2-instruct-0905")),
        embedding: Some(("/inference/v1/embeddings", "accounts/fireworks/models/qwen3-embedding-8b")),
        open: Some(404),
    },
    Case {
        upstream: Upstream::Openai,
        chat: ("/v1/chat/completions", "gpt-4.1-mini"),
        completion: Some(("/v1/completions", "gpt-3.5-turbo-instruct")),
        fim: Some(("/v1/completions", "gpt-3.5-turbo-instruct")),
        embedding: Some(("/v1/embeddings", "text-embedding-3-small")),
        open: None,
    },
];

impl Case {
    fn id(&self) -> &'static str {
        self.upstream.label()
    }

    fn of(&self, task: Task) -> Option<(&'static str, &'static str)> {
        match task {
            Task::Chat => Some(self.chat),
            Task::Completion => self.completion,
            Task::Fim => self.fim,
            Task::Embedding => self.embedding,
        }
    }
}

/// All kinds at once behind one daemon, which has heard of all of them.
struct House {
    fakes: Vec<Fake>,
    proxy: Proxy,
}

impl House {
    fn start() -> House {
        let (fakes, tables): (Vec<_>, Vec<_>) = CASES.iter().map(|case| playing(case.upstream)).unzip();
        House { fakes, proxy: heard(&tables.join("\n")) }
    }

    fn cases(&self) -> impl Iterator<Item = (&'static Case, &Fake)> {
        CASES.iter().zip(&self.fakes)
    }

    fn chat(&self, model: &str, more: &Value) -> Answer {
        let mut body = json!({"model": model, "messages": [{"role": "user", "content": "Say hi"}]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.proxy.post("/v1/chat/completions", &body.to_string())
    }
}

#[test]
fn every_adapter_is_under_this_contract() {
    let rows: Vec<&str> = PROVIDERS.iter().map(|row| row.name).collect();
    let cases: Vec<&str> = CASES.iter().map(Case::id).collect();
    assert_eq!(rows, cases, "a new row in the registry needs a fake and a case here");
    assert!(rows.iter().all(|row| Registry::builtin().kind(row).is_some()));
}

#[test]
fn every_model_is_listed_with_its_prefix_and_only_there() {
    let house = House::start();
    let listed = ids(&house.proxy);
    for (case, _) in house.cases() {
        let own: Vec<&String> =
            listed.iter().filter(|id| id.starts_with(&format!("{}/", case.id()))).collect();
        assert!(own.len() >= 2, "{}: {own:?}", case.id());
        for task in [Task::Chat, Task::Completion, Task::Fim, Task::Embedding] {
            let Some((_, model)) = case.of(task) else { continue };
            let full = format!("{}/{model}", case.id());
            assert_eq!(listed.iter().filter(|id| **id == full).count(), 1, "{full} in {listed:?}");
            let one = house.proxy.get(&format!("/v1/models/{full}"));
            assert_eq!((one.status, &one.json()["id"]), (200, &json!(full)));
        }
    }
    let known = |id: &&String| CASES.iter().any(|case| id.starts_with(&format!("{}/", case.id())));
    assert!(listed.iter().all(|id| known(&id)), "{listed:?}");
    assert!(house.proxy.get("/v1/models").json().get("notices").is_none(), "all are well");
}

#[test]
fn a_plain_answer_names_its_origin_and_upstream_sees_its_own_names() {
    let house = House::start();
    for (case, fake) in house.cases() {
        let (path, model) = case.chat;
        let full = format!("{}/{model}", case.id());
        let answer = house.chat(&full, &json!({}));
        assert_eq!(answer.status, 200, "{full}: {}", answer.text());
        assert_eq!(answer.header("x-demuxai-provider"), Some(case.id()));
        assert_eq!(answer.header("x-demuxai-model"), Some(model));
        let body = answer.json();
        let prefix = format!("{}/", case.id());
        assert!(body["model"].as_str().unwrap().starts_with(&prefix), "{}", body["model"]);
        let id = body["id"].as_str().unwrap();
        assert!(id.ends_with(&format!("@{}", case.id())) && id.matches('@').count() == 1, "{id}");
        let content = body["choices"][0]["message"]["content"].as_str().expect("content");
        assert!(content.contains("Say hi"), "{content}");
        assert!(body["usage"]["total_tokens"].as_u64().unwrap() > 0);

        let received = last_call(fake);
        assert_eq!(received.path(), path, "{full}");
        assert_eq!(received.json()["model"], model);
        assert_eq!(received.bearer(), Some(key_of(case.id()).as_str()), "our key, not the client's");
        assert_eq!(received.header("user-agent").map(|agent| agent.starts_with("demuxai/")), Some(true));
        let github = case.upstream == Upstream::Github;
        assert_eq!(received.header("x-github-api-version"), github.then_some("2022-11-28"));
        assert_eq!(received.header("accept") == Some("application/vnd.github+json"), github);
    }
}

#[test]
fn a_stream_names_its_origin_in_every_chunk_and_ends_once() {
    let house = House::start();
    for (case, fake) in house.cases() {
        let (path, model) = case.chat;
        let full = format!("{}/{model}", case.id());
        for asked in [false, true] {
            let more = if asked {
                json!({"stream": true, "stream_options": {"include_usage": true}})
            } else {
                json!({"stream": true})
            };
            let answer = house.chat(&full, &more);
            assert_eq!((answer.status, answer.complete), (200, true), "{full}: {}", answer.text());
            assert_eq!(answer.header("content-type"), Some("text/event-stream; charset=utf-8"));
            let mut events = answer.events();
            assert_eq!(events.pop().as_deref(), Some("[DONE]"), "{full}");
            let chunks: Vec<Value> =
                events.iter().map(|event| serde_json::from_str(event).unwrap()).collect();
            let mut content = String::new();
            for chunk in &chunks {
                let (id, name) = (chunk["id"].as_str().unwrap(), chunk["model"].as_str().unwrap());
                // Azure's verdict on the prompt has neither.
                let verdict = case.upstream == Upstream::Github && id.is_empty() && name.is_empty();
                assert!(verdict || id.ends_with(&format!("@{}", case.id())), "{full}: {chunk}");
                assert!(verdict || name.starts_with(&format!("{}/", case.id())), "{full}: {chunk}");
                content.push_str(chunk["choices"][0]["delta"]["content"].as_str().unwrap_or_default());
            }
            assert!(content.contains("Say hi"), "{full}: {content}");
            let finished = |chunk: &&Value| chunk["choices"][0]["finish_reason"].is_string();
            assert_eq!(chunks.iter().filter(finished).count(), 1, "{full}");
            let usage =
                |chunk: &&Value| chunk["usage"]["total_tokens"].as_u64().is_some_and(|total| total > 0);
            let bare = |chunk: &&Value| {
                chunk["choices"].as_array().is_some_and(Vec::is_empty) && chunk["usage"].is_object()
            };
            assert!(asked || !chunks.iter().any(|chunk| bare(&chunk)), "{full}: nobody asked for usage");
            assert!(!asked || chunks.iter().any(|chunk| usage(&chunk)), "{full}: usage was asked for");
            let received = last_call(fake);
            assert_eq!((received.path(), &received.json()["stream"]), (path, &json!(true)));
        }
        let tokens = format!(
            "demuxai_tokens_total{{model=\"{model}\",provider=\"{}\",source=\"upstream\",type=\"output\"}}",
            case.id()
        );
        assert!(house.proxy.metric(&tokens) > 0.0, "asked or not, tokens are counted");
    }
}

#[test]
fn each_endpoint_works_or_is_a_clear_400() {
    let house = House::start();
    for (case, fake) in house.cases() {
        let chat_model = case.chat.1;
        for task in [Task::Completion, Task::Fim, Task::Embedding] {
            let place = case.of(task);
            let model = format!("{}/{}", case.id(), place.map_or(chat_model, |(_, model)| model));
            let requests: Vec<(&str, Value)> = match task {
                Task::Completion => vec![("/v1/completions", json!({"model": model, "prompt": "once"}))],
                Task::Fim => vec![
                    ("/v1/completions", json!({"model": model, "prompt": "a = ", "suffix": "\n"})),
                    ("/v1/fim/completions", json!({"model": model, "prompt": "a = ", "suffix": "\n"})),
                ],
                _ => vec![("/v1/embeddings", json!({"model": model, "input": "a"}))],
            };
            for (endpoint, body) in requests {
                let before = calls(fake).len();
                let answer = house.proxy.post(endpoint, &body.to_string());
                let what = format!("{endpoint} of {model}: {}", answer.text());
                if let Some((path, own)) = place {
                    assert_eq!(answer.status, 200, "{what}");
                    let received = last_call(fake);
                    assert_eq!((received.path(), &received.json()["model"]), (path, &json!(own)), "{what}");
                } else {
                    assert_eq!(answer.status, 400, "{what}");
                    let error = answer.error();
                    // Ollama makes embeddings with any model that it thinks fit, so it is asked.
                    let asked = case.upstream == Upstream::OllamaCloud && task == Task::Embedding;
                    assert!(asked || (error.contains(&model) && error.contains("use ")), "{what}");
                    assert_eq!(calls(fake).len() - before, usize::from(asked), "{what}");
                }
            }
        }
    }
}

#[test]
fn our_wrong_key_is_not_the_clients_401_and_the_setting_is_named() {
    for case in CASES.iter().filter(|case| case.upstream.wants_key()) {
        let (fake, table) = playing(case.upstream);
        let wrong = table.replace(&key_of(case.id()), "wrong-key");
        let proxy = heard(&wrong);
        let body = format!(r#"{{"model":"{}/{}","messages":[]}}"#, case.id(), case.chat.1);
        for stream in [false, true] {
            let body = body.replace("[]}", &format!("[],\"stream\":{stream}}}"));
            let answer = proxy.post("/v1/chat/completions", &body);
            assert_eq!(answer.status, 502, "{}: {}", case.id(), answer.text());
            let error = answer.error();
            assert!(error.contains(&format!("providers.{}.api_key", case.id())), "{error}");
            assert_eq!(answer.json()["error"]["code"], "upstream_authentication");
            assert!(!answer.text().contains("wrong-key"), "{error}");
            assert_eq!(answer.header("www-authenticate"), None);
        }
        assert_eq!(proxy.status_of(case.id())["health"], "refused");
        assert_eq!(proxy.get("/readyz").status, 503);
        let notices = proxy.get("/v1/models").json()["notices"].clone();
        assert_eq!((&notices[0]["provider"], &notices[0]["state"]), (&json!(case.id()), &json!("refused")));
        drop(fake);
    }
}

#[test]
fn an_unknown_model_is_a_404_that_names_the_nearest_or_the_upstreams_own_word() {
    let house = House::start();
    for (case, fake) in house.cases() {
        let (_, model) = case.chat;
        let missing = format!("{}/{model}-x", case.id());
        let before = calls(fake).len();
        let answer = house.chat(&missing, &json!({}));
        if let Some(status) = case.open {
            assert_eq!(answer.status, status, "{missing}: {}", answer.text());
            assert_eq!(last_call(fake).json()["model"], format!("{model}-x"), "sent unchecked");
            continue;
        }
        assert_eq!(answer.status, 404, "{missing}: {}", answer.text());
        assert_eq!(answer.json()["error"]["code"], "model_not_found");
        assert_eq!(answer.json()["error"]["param"], "model");
        let error = answer.error();
        assert!(error.contains(&missing) && error.contains(&format!("`{}/{model}`", case.id())), "{error}");
        assert_eq!(calls(fake).len(), before, "nothing reached {}", case.id());
    }
}

/// What a client may send that is written for OpenAI alone; all of it harmless.
fn openai_extras() -> Value {
    json!({
        "stream": true, "stream_options": {"include_usage": true}, "max_completion_tokens": 64, "store": false,
        "seed": 7, "user": "u-1", "logprobs": false, "top_logprobs": null, "logit_bias": {}, "n": 1,
        "presence_penalty": 0, "frequency_penalty": 0, "service_tier": "auto", "metadata": {"a": "b"},
        "response_format": {"type": "text"}, "modalities": ["text"], "safety_identifier": "s", "top_p": 1,
        "prompt_cache_key": "k", "verbosity": "medium", "temperature": 0.5, "stop": null, "some_future_field": [1],
    })
}

#[test]
fn what_only_openai_knows_never_makes_another_provider_fail() {
    let house = House::start();
    for (case, fake) in house.cases() {
        let full = format!("{}/{}", case.id(), case.chat.1);
        let answer = house.chat(&full, &openai_extras());
        assert_eq!(answer.status, 200, "{full}: {}", answer.text());
        assert_eq!(answer.events().last().map(String::as_str), Some("[DONE]"));
        let edits: Vec<&str> =
            answer.header("x-demuxai-edits").map(|all| all.split(", ").collect()).unwrap_or_default();
        let mut expected = match case.upstream {
            Upstream::Ollama | Upstream::OllamaCloud => vec!["rename:max_completion_tokens"],
            Upstream::Mistral | Upstream::Codestral => vec![
                "drop:stream_options",
                "rename:max_completion_tokens",
                "drop:store",
                "rename:seed",
                "drop:user",
                "drop:logprobs",
                "drop:top_logprobs",
                "drop:logit_bias",
                "drop:service_tier",
                "drop:response_format",
                "drop:modalities",
                "drop:safety_identifier",
                "drop:verbosity",
                "drop:stop",
                "drop:some_future_field",
            ],
            Upstream::Github | Upstream::Fireworks | Upstream::Openai => Vec::new(),
        };
        let mut told = edits.clone();
        told.sort_unstable();
        expected.sort_unstable();
        assert_eq!(told, expected, "{full}");

        let sent = last_call(fake).json();
        let strict = matches!(case.upstream, Upstream::Mistral | Upstream::Codestral);
        let renamed = strict || matches!(case.upstream, Upstream::Ollama | Upstream::OllamaCloud);
        assert_eq!(sent["max_tokens"] == 64, renamed, "{sent}");
        assert_eq!(sent["max_completion_tokens"] == 64, !renamed, "{sent}");
        assert_eq!(sent["random_seed"] == 7, strict, "{sent}");
        assert_eq!(
            sent["some_future_field"] == json!([1]),
            !strict,
            "what is not known to be refused is kept"
        );
        assert_eq!(sent["temperature"], 0.5);
        assert_eq!(calls(fake).len(), 1, "right at the first try");
    }
}

#[test]
fn bodies_that_need_no_edit_pass_byte_for_byte_but_for_the_model() {
    let house = House::start();
    for (case, fake) in house.cases() {
        let body = format!(
            "{{ \"temperature\" : 1.50e0,\n\"messages\":[{{\"role\":\"user\",\"content\":\"\\u00e9 \\/ é\"}}],\t\"model\": \"{}/{}\" , \"top_p\":0.10 }}",
            case.id(),
            case.chat.1
        );
        let answer = house.proxy.post("/v1/chat/completions", &body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let wanted = body.replace(&format!("{}/{}", case.id(), case.chat.1), case.chat.1);
        assert_eq!(String::from_utf8(last_call(fake).body.to_vec()).unwrap(), wanted);
        assert_eq!(answer.header("x-demuxai-edits"), None);
    }
}

#[test]
fn a_completion_id_carries_its_origin_and_no_other_id_does() {
    let whole = r#"{"id":"ID","object":"chat.completion","model":"m","system_fingerprint":"fp@x","choices":[{"index":0,"message":{"role":"assistant","content":null,"tool_calls":[{"id":"call_1","type":"function","function":{"name":"f","arguments":"{\"id\":\"ID\",\"model\":\"m\"}"}}]},"finish_reason":"tool_calls"}]}"#;
    let chunk = whole.replace("message", "delta").replace("chat.completion", "chat.completion.chunk");
    for id in ["chatcmpl-1", "a@b", "a@up", "0", "é"] {
        let (plain, event) = (
            whole.replace("\"ID\"", &json!(id).to_string()),
            chunk.replace("\"ID\"", &json!(id).to_string()),
        );
        let (answer, streamed) = (plain.clone(), event.clone());
        let fake = Fake::start(move |received| {
            if received.json()["stream"] == true {
                return Script::events().chunked().event(streamed.clone()).event("[DONE]").last_chunk();
            }
            Script::json(200).body(answer.clone())
        })
        .expect("fake upstream starts");
        let proxy = heard(&provider("up", "openai", &fake.url()));
        // The quoted ones inside the arguments are text of the model.
        let marked = |text: &str| {
            let id = json!(id).to_string();
            text.replacen(
                &format!("\"id\":{id}"),
                &format!("\"id\":{}", json!(format!("{}@up", id.trim_matches('"')))),
                1,
            )
            .replacen("\"model\":\"m\"", "\"model\":\"up/m\"", 1)
        };
        for stream in [false, true] {
            let body = format!(r#"{{"model":"up/m","messages":[],"stream":{stream}}}"#);
            let got = proxy.post("/v1/chat/completions", &body);
            let wanted =
                if stream { format!("data: {}\n\ndata: [DONE]\n\n", marked(&event)) } else { marked(&plain) };
            assert_eq!((got.status, got.text()), (200, wanted), "{id}");
        }
    }
}

#[test]
fn the_clients_key_and_cookies_reach_no_upstream() {
    let (fake, table) = playing(Upstream::Ollama);
    let keyless = table.lines().filter(|line| !line.starts_with("api_key")).collect::<Vec<_>>().join("\n");
    let (other, with_key) = playing(Upstream::Mistral);
    let proxy = heard(&format!("{keyless}\n{with_key}"));
    for (fake, model, bearer) in [
        (&fake, "ollama/llama3.2:3b", None),
        (&other, "mistral/mistral-small-latest", Some("test-key-mistral")),
    ] {
        let body = format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"x"}}]}}"#);
        let headers = [
            ("authorization", "Bearer client-secret"),
            ("x-api-key", "client-secret"),
            ("api-key", "client-secret"),
            ("cookie", "session=client-secret"),
            ("openai-organization", "org-1"),
        ];
        let answer =
            client::open(proxy.address, "POST", "/v1/chat/completions", &headers, body.as_bytes()).finish();
        assert_eq!(answer.status, 200, "{}", answer.text());
        let received = last_call(fake);
        assert_eq!(received.bearer(), bearer);
        assert_eq!(received.header("openai-organization"), Some("org-1"));
        assert!(!format!("{:?}", received.headers).contains("client-secret"), "{:?}", received.headers);
    }
}

#[test]
fn a_model_that_the_plan_may_not_call_is_neither_our_key_at_fault_nor_the_providers_illness() {
    let (fake, table) = playing(Upstream::OllamaCloud);
    let proxy = heard(&table);
    let body = r#"{"model":"ollama-cloud/qwen3-coder:480b","messages":[{"role":"user","content":"x"}]}"#;
    let answer = proxy.post("/v1/chat/completions", body);
    assert_eq!(answer.status, 403, "{}", answer.text());
    assert!(answer.text().contains("requires a subscription"), "{}", answer.text());
    assert_eq!((proxy.status_of("ollama-cloud")["health"].as_str(), calls(&fake).len()), (Some("up"), 1));
    assert_eq!(proxy.get("/readyz").status, 200);
}

/// A server that answers every endpoint in OpenAI's shape, whatever stands before it in the path.
fn compatible() -> Fake {
    Fake::start(|received| {
        let sent = received.json();
        let body = match received.path().rsplit('/').next() {
            Some("models") => json!({"data": [{"id": "m"}]}),
            Some("embeddings") => json!({"data": [{"index": 0, "embedding": [1.0]}], "model": "m"}),
            _ if sent.get("messages").is_some() => {
                json!({"id": "c", "object": "chat.completion", "model": "m", "choices": [{"index": 0,
                    "message": {"role": "assistant", "content": "ok"}, "finish_reason": "stop"}]})
            }
            _ => {
                json!({"id": "c", "object": "text_completion", "model": "m", "choices": [{"index": 0,
                    "text": "ok", "finish_reason": "stop"}]})
            }
        };
        Script::json(200).value(&body)
    })
    .expect("fake upstream starts")
}

#[test]
fn every_preset_serves_what_its_table_says_and_refuses_the_rest_itself() {
    let registry = Registry::builtin();
    let presets: Vec<&str> =
        registry.names().into_iter().filter(|name| PROVIDERS.iter().all(|row| row.name != *name)).collect();
    assert!(presets.len() >= 15, "{presets:?}");
    for name in presets {
        let kind = registry.kind(name).expect("a preset");
        let fake = compatible();
        let proxy = heard(&provider("up", name, &fake.url()));
        let requests = [
            (Task::Chat, "chat/completions", json!({"messages": [{"role": "user", "content": "x"}]})),
            (Task::Completion, "completions", json!({"prompt": "x"})),
            (Task::Fim, "completions", json!({"prompt": "x", "suffix": "y"})),
            (Task::Fim, "fim/completions", json!({"prompt": "x", "suffix": "y"})),
            (Task::Embedding, "embeddings", json!({"input": "x"})),
        ];
        for (task, endpoint, mut body) in requests {
            body["model"] = json!("up/m");
            let before = calls(&fake).len();
            let answer = proxy.post(&format!("/v1/{endpoint}"), &body.to_string());
            let what = format!("{name}, {endpoint}: {}", answer.text());
            match kind.facts.route(kind.adapter, task) {
                Some(route) => {
                    assert_eq!(answer.status, 200, "{what}");
                    assert_eq!(last_call(&fake).path(), route.path, "{what}");
                    let shape = &answer.json()["object"];
                    let wanted = match endpoint {
                        "completions" => json!("text_completion"),
                        "embeddings" => Value::Null,
                        _ => json!("chat.completion"),
                    };
                    assert_eq!(*shape, wanted, "{what}");
                }
                None => {
                    assert_eq!(answer.status, 400, "{what}");
                    assert!(answer.error().contains("has no"), "{what}");
                    assert_eq!(calls(&fake).len(), before, "{what}");
                }
            }
        }
    }
}

#[test]
fn an_alias_of_a_kind_is_the_kind() {
    for row in PROVIDERS {
        for alias in row.aliases {
            let upstream = Upstream::ALL.into_iter().find(|one| one.label() == row.name).unwrap();
            let (fake, table) = playing(upstream);
            let proxy =
                heard(&table.replace(&format!("type = \"{}\"", row.name), &format!("type = \"{alias}\"")));
            assert_eq!(proxy.status_of(row.name)["type"], row.name, "{alias}");
            assert!(ids(&proxy).len() > 2, "{alias}");
            drop(fake);
        }
    }
}
