//! Caches, dedupes and tees: what clients get of them, what reaches the upstream, and what is kept. The whole daemon in
//! front of scripted upstreams, and the real program with the example files.

use std::path::Path;

use demuxai::demo::{Answer, Fake, Received, Script};
use serde_json::{Value, json};

use super::support::client::{self, Answer as Got, Reading};
use super::support::program::{Home, Program};
use super::support::proxy::{Proxy, provider};
use super::support::stage::{PATH, chunk, finish, named, upstream};
use super::support::{asked, content, eventually};

const USAGE: &str = r#""usage":{"prompt_tokens":11,"completion_tokens":7}"#;

/// Answers chats, streamed or not, and embeddings; a stream waits for the gate after its first word.
fn plays(received: &Received) -> Script {
    if received.path().ends_with("/embeddings") {
        return Answer::json(200).body(
            r#"{"object":"list","model":"m","data":[{"object":"embedding","index":0,"embedding":[0.5]}],"usage":{"prompt_tokens":1,"total_tokens":1}}"#,
        );
    }
    let body = received.json();
    if body["stream"] == true {
        let last = finish().replace("\"choices\"", &format!("{USAGE},\"choices\""));
        let begun = Answer::events().chunked().event(chunk("hel"));
        // Some providers are known to refuse `user`; there the question asks for it.
        let gated = body["user"] == "gated" || body["messages"][0]["content"] == "gated";
        let begun = if gated { begun.gate("go") } else { begun };
        return begun.event(chunk("lo")).event(last).event("[DONE]").last_chunk();
    }
    if body["user"] == "fails" {
        return Answer::json(500).body(r#"{"error":{"message":"no","type":"x","code":null,"param":null}}"#);
    }
    Answer::json(200).header("x-ratelimit-remaining-requests", "9").body(format!(
        r#"{{"id":"c1","object":"chat.completion","created":7,"model":"m","choices":[{{"index":0,"message":{{"role":"assistant","content":"{}"}},"finish_reason":"stop"}}],{USAGE}}}"#,
        received.order
    ))
}

fn daemon(fake: &Fake, more: &str) -> Proxy {
    let proxy =
        Proxy::start(&format!("{}{more}\n[state]\npath = \"none\"\n", provider("up", "openai", &fake.url())));
    proxy.until_up("up");
    proxy
}

fn request(model: &str, more: &str) -> String {
    format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"hi"}}]{more}}}"#)
}

fn chat(proxy: &Proxy, model: &str, more: &str) -> Got {
    proxy.post(PATH, &request(model, more))
}

fn with_header(proxy: &Proxy, body: &str, name: &str, value: &str) -> Got {
    client::open(proxy.address, "POST", PATH, &[(name, value)], body.as_bytes()).finish()
}

fn cache_of(got: &Got) -> (u16, Option<&str>) {
    (got.status, got.header("x-demuxai-cache"))
}

fn tokens(proxy: &Proxy, kind: &str) -> f64 {
    let series =
        format!("demuxai_tokens_total{{model=\"m\",provider=\"up\",source=\"upstream\",type=\"{kind}\"}}");
    proxy.find_metric(&series).unwrap_or(0.0)
}

const KEPT: &str = "[groups.kept]\ntype = \"cache\"\nto = \"up/m\"\n";

#[test]
fn the_same_question_gets_the_same_bytes_from_the_cache_and_the_upstream_is_asked_once() {
    let fake = upstream(plays);
    let proxy = daemon(&fake, KEPT);
    let first = chat(&proxy, "kept", r#","temperature":0"#);
    assert_eq!(cache_of(&first), (200, Some("miss")));
    assert_eq!(first.header("x-demuxai-provider"), Some("up"));
    let spaced = "{ \"temperature\" : 0, \"user\":\"me\", \"messages\":[{\"content\":\"h\\u0069\",\"role\":\"user\"}], \"model\":\"kept\"}";
    let again = proxy.post(PATH, spaced);
    assert_eq!((cache_of(&again), &again.body), ((200, Some("hit")), &first.body));
    assert_eq!(again.json()["id"], "c1@up", "a later call with that id goes where it came from");
    assert_eq!(again.header("x-demuxai-provider"), Some("kept"));
    assert_eq!(again.header("x-demuxai-attempts"), Some("kept ok"));
    assert!(again.header("age").is_some() && again.header("x-ratelimit-remaining-requests").is_none());
    assert_eq!((asked(&fake), tokens(&proxy, "input")), (1, 11.0));
    assert!(
        (proxy.metric("demuxai_cache_saved_tokens_total{backend=\"kept\",type=\"input\"}") - 11.0).abs()
            < 0.1
    );
    let hits = "demuxai_modified_requests_total{backend=\"kept\",outcome=\"hit\",type=\"cache\"}";
    assert!((proxy.metric(hits) - 1.0).abs() < 0.1);
    let ok = "demuxai_requests_total{backend=\"kept\",endpoint=\"chat\",listener=\"test\",model=\"kept\",outcome=\"ok\",provider=\"kept\"}";
    eventually(
        "a hit is no request of the provider's",
        || proxy.find_metric(ok),
        |count| *count == Some(1.0),
    );
}

#[test]
fn a_kept_stream_comes_again_byte_for_byte_with_and_without_its_usage() {
    let fake = upstream(plays);
    let proxy = daemon(&fake, KEPT);
    for more in ["", r#","stream_options":{"include_usage":true}"#] {
        let body = format!(r#","temperature":0,"stream":true{more}"#);
        let first = chat(&proxy, "kept", &body);
        let again = chat(&proxy, "kept", &body);
        assert_eq!((cache_of(&first), cache_of(&again)), ((200, Some("miss")), (200, Some("hit"))), "{more}");
        assert!(again.complete && again.text().ends_with("data: [DONE]\n\n"), "{}", again.text());
        assert_eq!(again.body, first.body);
    }
    assert_eq!(asked(&fake), 2);
}

#[test]
fn embeddings_are_kept_and_what_is_not_said_to_be_the_same_again_is_not() {
    let fake = upstream(plays);
    let proxy = daemon(&fake, KEPT);
    let embed = || proxy.post("/v1/embeddings", r#"{"model":"kept","input":"x"}"#);
    assert_eq!(cache_of(&embed()), (200, Some("miss")));
    assert_eq!(cache_of(&embed()), (200, Some("hit")));
    let warm = request("kept", "");
    assert_eq!(cache_of(&proxy.post(PATH, &warm)), (200, Some("bypass")));
    assert_eq!(cache_of(&with_header(&proxy, &warm, "x-demuxai-cache", "use")), (200, Some("miss")));
    assert_eq!(cache_of(&with_header(&proxy, &warm, "x-demuxai-cache", "use")), (200, Some("hit")));
    let cold = request("kept", r#","temperature":0"#);
    assert_eq!(cache_of(&with_header(&proxy, &cold, "cache-control", "no-store")), (200, Some("bypass")));
    assert_eq!(cache_of(&with_header(&proxy, &cold, "cache-control", "no-cache")), (200, Some("miss")));
    assert_eq!(cache_of(&proxy.post(PATH, &cold)), (200, Some("hit")));
}

#[test]
fn errors_are_not_kept_and_clients_do_not_see_each_others_answers() {
    let fake = upstream(plays);
    let keys = "[keys.ide]\nkey = \"ide-key-0123456789\"\n[keys.phone]\nkey = \"phone-key-0123456789\"\n";
    let text = format!("{keys}{KEPT}[groups.common]\ntype = \"cache\"\nto = \"up/m\"\nper_client = false\n");
    let proxy = Proxy::start(&format!("{}{text}", provider("up", "openai", &fake.url())));
    let (ide, phone) = ("Bearer ide-key-0123456789", "Bearer phone-key-0123456789");
    let ask = |model: &str, more: &str, key: &str| {
        with_header(&proxy, &request(model, &format!(r#","temperature":0{more}"#)), "authorization", key)
    };
    eventually("it is served", || ask("kept", "", ide).status, |status| *status == 200);
    assert_eq!(cache_of(&ask("kept", "", ide)), (200, Some("hit")));
    assert_eq!(cache_of(&ask("kept", "", phone)), (200, Some("miss")));
    assert_eq!(cache_of(&ask("common", "", ide)), (200, Some("miss")));
    assert_eq!(cache_of(&ask("common", "", phone)), (200, Some("hit")));
    for _ in 0..2 {
        let failed = ask("kept", r#","user":"fails","seed":5"#, ide);
        assert_eq!((failed.status, failed.header("x-demuxai-cache")), (500, None));
    }
}

#[test]
fn answers_on_disk_outlive_the_daemon() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("below/answers.db");
    let fake = upstream(plays);
    let kept = format!("{KEPT}path = \"{}\"\n", path.display());
    let proxy = daemon(&fake, &kept);
    let ask = |proxy: &Proxy, seed: usize| chat(proxy, "kept", &format!(r#","seed":{seed}"#));
    let first: Vec<Got> = (0..20).map(|seed| ask(&proxy, seed)).collect();
    let written = "demuxai_cache_disk_total{backend=\"kept\",outcome=\"kept\"}";
    eventually("they are on disk", || proxy.find_metric(written), |count| *count == Some(20.0));
    drop(proxy);
    let proxy = daemon(&fake, &kept);
    ask(&proxy, 100);
    let up = "demuxai_cache_disk_up{backend=\"kept\"}";
    eventually("the file is open", || proxy.find_metric(up), |is| *is == Some(1.0));
    // None of them is in memory. One that the disk does not say in time is asked for anew: it may be slow for a moment.
    let found = first.iter().enumerate().map(|(seed, first)| (ask(&proxy, seed), first));
    let hits: Vec<_> = found.filter(|(again, _)| cache_of(again) == (200, Some("hit"))).collect();
    assert!(!hits.is_empty() && hits.iter().all(|(again, first)| again.body == first.body));
}

#[test]
fn answers_on_disk_are_not_given_once_what_is_below_the_cache_is_configured_in_another_way() {
    let directory = tempfile::tempdir().unwrap();
    let fake = upstream(plays);
    let told = |prompt: &str| {
        format!(
            "[groups.told]\ntype = \"rewrite\"\nto = \"up/m\"\nsystem = {{ prepend = \"{prompt}\" }}\n{}path = \"{}\"\n",
            KEPT.replace("up/m", "told"),
            directory.path().join("answers.db").display()
        )
    };
    let proxy = daemon(&fake, &told("Be brief."));
    let ask = |proxy: &Proxy, seed: usize| chat(proxy, "kept", &format!(r#","seed":{seed}"#));
    for seed in 0..20 {
        ask(&proxy, seed);
    }
    let written = "demuxai_cache_disk_total{backend=\"kept\",outcome=\"kept\"}";
    eventually("they are on disk", || proxy.find_metric(written), |count| *count == Some(20.0));
    drop(proxy);
    for (prompt, found) in [("Be brief.", true), ("Be kind.", false)] {
        let proxy = daemon(&fake, &told(prompt));
        ask(&proxy, 100);
        let up = "demuxai_cache_disk_up{backend=\"kept\"}";
        eventually("the file is open", || proxy.find_metric(up), |is| *is == Some(1.0));
        // One that the disk does not say in time is asked for anew.
        let hits = (0..20).filter(|seed| cache_of(&ask(&proxy, *seed)) == (200, Some("hit"))).count();
        assert_eq!(hits > 0, found, "{prompt}");
    }
}

const ONCE: &str = "[groups.once]\ntype = \"dedupe\"\nto = \"up/m\"\n";

fn gated(proxy: &Proxy) -> Reading {
    proxy.open(PATH, &request("once", r#","stream":true,"user":"gated""#))
}

fn whole_stream() -> String {
    let events = [chunk("hel"), chunk("lo")].map(|payload| format!("data: {}\n\n", named(&payload))).concat();
    let last = finish().replace("\"choices\"", &format!("{USAGE},\"choices\""));
    format!("{events}data: {}\n\ndata: [DONE]\n\n", named(&last))
}

#[test]
fn clients_that_ask_the_same_at_once_share_a_call_and_each_gets_all_of_it() {
    let fake = upstream(plays);
    let proxy = daemon(&fake, ONCE);
    let mut leader = gated(&proxy);
    leader.until("hel");
    let followers: Vec<Reading> = (0..5).map(|_| gated(&proxy)).collect();
    assert_eq!(leader.header("x-demuxai-dedupe"), Some("leader"));
    leader.leave();
    let requests = |outcome: &str| {
        proxy.find_metric(&format!(
            "demuxai_requests_total{{backend=\"once\",endpoint=\"chat\",listener=\"test\",model=\"m\",outcome=\"{outcome}\",provider=\"up\"}}"
        ))
    };
    eventually("who left is counted", || requests("cancelled"), |count| *count == Some(1.0));
    fake.open_gate("go");
    for follower in followers {
        assert_eq!(follower.header("x-demuxai-dedupe"), Some("follower"));
        assert_eq!(follower.header("x-demuxai-provider"), Some("up"));
        let got = follower.finish();
        assert_eq!((got.complete, got.text()), (true, whole_stream()));
    }
    assert_eq!(asked(&fake), 1);
    let attempts =
        "demuxai_upstream_attempts_total{model=\"m\",outcome=\"ok\",provider=\"up\",reason=\"none\"}";
    eventually("one call is counted", || proxy.find_metric(attempts), |count| *count == Some(1.0));
    assert!((tokens(&proxy, "output") - 7.0).abs() < 0.1, "and its tokens once");
    eventually("each request is counted", || requests("ok"), |count| *count == Some(5.0));
}

#[test]
fn the_last_client_to_leave_cancels_the_call() {
    let fake = upstream(plays);
    let proxy = daemon(&fake, ONCE);
    let mut clients: Vec<Reading> = (0..3).map(|_| gated(&proxy)).collect();
    clients.iter_mut().for_each(|client| client.until("hel"));
    let cancelled = "demuxai_stream_ends_total{provider=\"up\",reason=\"cancelled\"}";
    let last = clients.pop();
    clients.into_iter().for_each(Reading::leave);
    let left = "demuxai_requests_total{backend=\"once\",endpoint=\"chat\",listener=\"test\",model=\"m\",outcome=\"cancelled\",provider=\"up\"}";
    eventually("two have left", || proxy.find_metric(left), |count| *count == Some(2.0));
    assert_eq!((proxy.find_metric(cancelled), proxy.status_of("up")["in_flight"].as_u64()), (None, Some(1)));
    last.into_iter().for_each(Reading::leave);
    eventually(
        "the upstream's stream is cancelled",
        || proxy.find_metric(cancelled),
        |count| *count == Some(1.0),
    );
    eventually("its seat is free", || proxy.status_of("up")["in_flight"].clone(), |seats| *seats == 0);
    assert_eq!(asked(&fake), 1);
}

#[test]
fn streams_that_are_late_are_kept_alive_each_on_its_own() {
    let fake = upstream(|_| {
        let held = Answer::events().chunked().gate("go");
        held.event(chunk("hello")).event(finish()).event("[DONE]").last_chunk()
    });
    let listener = "[listeners.test]\naddress = \"127.0.0.1:0\"\nworkers = 2\ndrain = 1\nkeep_alive = 0.05\n";
    let proxy = daemon(&fake, &format!("{ONCE}{listener}"));
    let open = || proxy.open(PATH, &request("once", r#","stream":true"#));
    let mut clients = [open(), open()];
    clients.iter_mut().for_each(|client| client.until(": keep-alive\n: keep-alive\n"));
    fake.open_gate("go");
    for client in clients {
        let got = client.finish();
        assert!(got.complete && got.text().contains("hello") && got.text().ends_with("data: [DONE]\n\n"));
    }
    assert_eq!(asked(&fake), 1);
}

#[test]
fn a_cache_over_a_dedupe_asks_once_for_many_and_keeps_the_answer() {
    let fake = upstream(plays);
    let proxy = daemon(&fake, &format!("{ONCE}[groups.kept]\ntype = \"cache\"\nto = \"once\"\nall = true\n"));
    let open = || proxy.open(PATH, &request("kept", r#","stream":true,"user":"gated""#));
    let mut clients: Vec<Reading> = (0..4).map(|_| open()).collect();
    clients.iter_mut().for_each(|client| client.until("hel"));
    fake.open_gate("go");
    let texts: Vec<String> = clients.into_iter().map(|client| client.finish().text()).collect();
    assert!(texts.iter().all(|text| *text == whole_stream()), "{texts:?}");
    let again = open().finish();
    assert_eq!((cache_of(&again), again.text()), ((200, Some("hit")), whole_stream()));
    assert_eq!(asked(&fake), 1);
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    whole.map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

#[test]
fn a_tee_writes_what_was_asked_and_said_without_secrets() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("below/tee.jsonl");
    let fake = upstream(plays);
    let tee = format!("[groups.written]\ntype = \"tee\"\nto = \"up/m\"\npath = \"{}\"\n", path.display());
    let keys = "[keys.ide]\nkey = \"ide-key-0123456789\"\n";
    let proxy = Proxy::start(&format!("{}{keys}{tee}", provider("up", "openai", &fake.url())));
    let image = format!("data:image/png;base64,{}", "QUJD".repeat(1000));
    let secrets =
        "of mine: ide-key-0123456789, of the provider: test-key-up, of others: sk-proj-0123456789abcdefghij";
    let ask = |more: Value| {
        let mut body = json!({"model": "written", "messages": [{"role": "user", "content": [
            {"type": "text", "text": secrets}, {"type": "image_url", "image_url": {"url": image}}]}]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        with_header(&proxy, &body.to_string(), "authorization", "Bearer ide-key-0123456789")
    };
    let plain = eventually("it is served", || ask(json!({})), |got| got.status == 200);
    let streamed = ask(json!({"stream": true}));
    assert!(streamed.complete);
    assert_eq!(ask(json!({"user": "fails"})).status, 500);
    let ok = |lines: &Vec<Value>| lines.iter().any(|line| line["outcome"] == "upstream_status");
    let lines = eventually("all is written", || lines(&path), ok);
    let text = std::fs::read_to_string(&path).unwrap();
    for secret in ["ide-key-0123456789", "sk-proj-0123456789", "QUJDQUJD", "Bearer", "authorization"] {
        assert!(!text.contains(secret), "{secret}: {text}");
    }
    let told = lines.iter().find(|line| line["outcome"] == "ok").unwrap();
    assert_eq!(
        (&told["client"], &told["provider"], &told["model"]),
        (&json!("ide"), &json!("up"), &json!("m"))
    );
    assert_eq!(told["request_id"].as_str(), plain.header("x-request-id"));
    assert_eq!(told["answer"], plain.json());
    let parts = &told["request"]["messages"][0]["content"];
    let clean = "of mine: (secret), of the provider: test-key-up, of others: (secret)";
    assert_eq!(parts[0]["text"], clean, "what is shorter than a key is a word");
    assert_eq!(parts[1]["image_url"]["url"], "data:image/png;base64,(4000 bytes of base64)");
    let stream = lines.iter().find(|line| line["stream"] == true).unwrap();
    assert_eq!(stream["answer"]["choices"][0]["message"]["content"], "hello");
    assert_eq!(
        (&stream["tokens"]["input"], &stream["answer"]["usage"]["prompt_tokens"]),
        (&json!(11), &json!(11))
    );
    assert!(stream["latency_ms"].as_f64() >= stream["ttft_ms"].as_f64());
    let failed = lines.iter().find(|line| line["outcome"] == "upstream_status").unwrap();
    assert!(failed.get("answer").is_none() && failed["error"].is_string(), "{failed}");
}

#[test]
fn the_line_of_a_request_tells_of_cache_and_dedupe_and_the_last_records_are_written_before_the_end() {
    let fake = upstream(plays);
    let groups = format!(
        "{}{ONCE}[groups.written]\ntype = \"tee\"\nto = \"once\"\npath = \"tee.jsonl\"\n[groups.kept]\ntype = \"cache\"\nto = \"written\"\n",
        provider("up", "openai", &fake.url())
    );
    let more = "[log]\nformat = \"json\"\n[listeners.test]\naddress = \"127.0.0.1:0\"\nworkers = 1\n";
    let home = Home::new();
    let file = home.path().join("tee.jsonl");
    let configuration = home.write("served.toml", &format!("{groups}{more}"));
    let program = home.start(&["serve", "--config", configuration.to_str().unwrap()]);
    program.until_ready();
    for _ in 0..2 {
        let got = client::post(program.address(), PATH, &request("kept", r#","temperature":0"#));
        assert_eq!(got.status, 200, "{}", got.text());
    }
    let told = || -> Vec<Value> {
        let log = program.stderr();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line["message"] == "request").collect()
    };
    let told = eventually("both are told", told, |told| told.len() == 2);
    let of = |line: &Value| (line["cache"].clone(), line["dedupe"].clone(), line["provider"].clone());
    assert_eq!(of(&told[0]), (json!("miss"), json!("leader"), json!("up")));
    assert_eq!(of(&told[1]), (json!("hit"), Value::Null, json!("kept")));
    program.signal("TERM");
    assert_eq!(program.ended().code, 0);
    assert_eq!(lines(&file).len(), 1, "it is beside the configuration, and whole");
}

/// Drives the groups of an example file in front of a fake Mistral and Ollama.
fn example(name: &str) -> (Program, Fake, Home) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples").join(name);
    const LIST: &str =
        r#"{"object":"list","data":[{"id":"mistral-small-latest"},{"id":"nomic-embed-text"}]}"#;
    let listed = |path: &str| path.ends_with("/models") || path == "/api/tags";
    let fake = Fake::start(move |received| match listed(received.path()) {
        true => Answer::json(200).body(LIST),
        false => plays(received),
    })
    .expect("fake upstream starts");
    let home = Home::new()
        .with("MISTRAL_API_KEY", "value-of-MISTRAL_API_KEY")
        .with("DEMUXAI__PROVIDERS__MISTRAL__URL", &fake.url())
        .with("DEMUXAI__LISTENERS__LOCAL__ADDRESS", "127.0.0.1:0");
    let home = match name {
        "cache.toml" => home.with("DEMUXAI__PROVIDERS__OLLAMA__URL", &fake.url()),
        _ => home,
    };
    let program = home.start(&["--config", file.to_str().unwrap()]);
    program.until_ready();
    (program, fake, home)
}

#[test]
fn the_examples_do_what_they_say() {
    let (program, fake, home) = example("cache.toml");
    let ask = |model: &str, more: &str| client::post(program.address(), PATH, &request(model, more));
    for (model, more) in [("chat", r#","temperature":0"#), ("demo", r#","stream":true"#)] {
        assert_eq!(cache_of(&ask(model, more)), (200, Some("miss")), "{model}");
        assert_eq!(cache_of(&ask(model, more)), (200, Some("hit")), "{model}");
    }
    let embed = || client::post(program.address(), "/v1/embeddings", r#"{"model":"vectors","input":"x"}"#);
    assert_eq!(cache_of(&embed()), (200, Some("miss")));
    assert_eq!(cache_of(&embed()), (200, Some("hit")));
    let inference = |received: &Received| {
        received.path().ends_with("/completions") || received.path().ends_with("/embeddings")
    };
    assert_eq!(fake.received().iter().filter(|received| inference(received)).count(), 3);
    assert!(home.path().join("demuxai/vectors.db").exists());

    let (program, fake, _home) = example("dedupe.toml");
    let open = |model: &str| {
        let body = request(model, r#","temperature":0,"stream":true"#).replace("\"hi\"", "\"gated\"");
        client::open(program.address(), "POST", PATH, &[], body.as_bytes())
    };
    for model in ["once", "cached"] {
        let mut both = [open(model), open(model)];
        both.iter_mut().for_each(|client| client.until("hel"));
        fake.open_gate("go");
        assert!(both.into_iter().all(|client| client.finish().complete));
        fake.close_gate("go");
    }
    assert_eq!(asked(&fake), 2);

    let (program, _fake, home) = example("tee.toml");
    let said = content(&client::post(program.address(), PATH, &request("chat", "")));
    let file = home.path().join("demuxai/chat.jsonl");
    let lines = eventually("it is written", || lines(&file), |lines| !lines.is_empty());
    assert_eq!(lines[0]["answer"]["choices"][0]["message"]["content"], said);
}

#[test]
fn a_tee_in_front_of_a_flood_of_requests_slows_none_down() {
    let fake = upstream(plays);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tee.jsonl");
    let tee = format!("[groups.written]\ntype = \"tee\"\nto = \"up/m\"\npath = \"{}\"\n", path.display());
    let proxy = daemon(&fake, &tee);
    for _ in 0..100 {
        assert_eq!(chat(&proxy, "written", "").status, 200);
    }
    let series = |outcome: &str| {
        let series = format!("demuxai_tee_records_total{{backend=\"written\",outcome=\"{outcome}\"}}");
        proxy.find_metric(&series).unwrap_or(0.0)
    };
    eventually(
        "each is written or counted as dropped",
        || series("written") + series("dropped"),
        |sum| *sum == 100.0,
    );
    assert_eq!(lines(&path).len() as f64, series("written"));
}
