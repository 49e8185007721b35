//! Safe by default: who may call, from where, and that no secret leaves by any door.

use demuxai::demo::faults;
use demuxai::demo::script::Answer as Plain;
use demuxai::demo::server::Fake;

use crate::support::client::{self, Answer};
use crate::support::edge::{self, CHAT, STREAM, Stage, refusal, stage};
use crate::support::eventually;
use crate::support::program::{Home, Program};
use crate::support::proxy::{Proxy, provider};

const PATH: &str = "/v1/chat/completions";
const KEYS: &str = r#"
[keys.ide]
key = "key-of-the-ide"

[keys.phone]
key = "key-of-the-phone"
models = ["up/m"]
"#;

fn chat_with(stage: &Stage, headers: &str) -> Answer {
    stage.post_with(PATH, headers, CHAT.as_bytes())
}

#[test]
fn a_key_is_taken_from_any_of_the_headers_that_clients_use() {
    let stage = stage(KEYS);
    for headers in [
        "authorization: Bearer key-of-the-ide\r\n",
        "authorization: bearer   key-of-the-ide  \r\n",
        "x-api-key: key-of-the-ide\r\n",
        "api-key: key-of-the-phone\r\n",
        "authorization: Bearer \r\nx-api-key: key-of-the-ide\r\n",
        "authorization: Bearer\r\nx-api-key: \r\napi-key: key-of-the-ide\r\n",
    ] {
        assert_eq!(chat_with(&stage, headers).status, 200, "{headers}");
        assert_eq!(stage.get_with("/v1/models", headers).status, 200, "{headers}");
    }
}

#[test]
fn a_missing_blank_or_wrong_key_is_a_401_that_does_not_repeat_it() {
    let stage = stage(KEYS);
    for (headers, code) in [
        ("", "missing_api_key"),
        ("authorization: Bearer \r\n", "missing_api_key"),
        ("authorization: Basic a2V5LW9mLXRoZS1pZGU=\r\n", "missing_api_key"),
        ("x-api-key: \r\napi-key:\r\n", "missing_api_key"),
        ("cookie: key-of-the-ide\r\n", "missing_api_key"),
        ("authorization: Bearer undefined\r\n", "invalid_api_key"),
        ("authorization: Bearer key-of-the-ide2\r\n", "invalid_api_key"),
        ("authorization: Bearer key-of-the-id\r\n", "invalid_api_key"),
        ("authorization: Bearer KEY-OF-THE-IDE\r\n", "invalid_api_key"),
        ("x-api-key: key-of-nobody\r\n", "invalid_api_key"),
    ] {
        for answer in [
            chat_with(&stage, headers),
            stage.get_with("/v1/models", headers),
            stage.get_with("/v1/models/up/m", headers),
        ] {
            let error = refusal(&answer, 401, headers);
            assert_eq!(
                (error["code"].as_str(), error["type"].as_str()),
                (Some(code), Some("authentication_error")),
                "{headers}"
            );
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
            assert!(!answer.text().contains("key-of"), "{}", answer.text());
        }
    }
    // A key in the query is none: it would be in the logs of whatever is in between.
    refusal(
        &stage.post_with(&format!("{PATH}?api_key=key-of-the-ide&key=key-of-the-ide"), "", CHAT.as_bytes()),
        401,
        "query",
    );
    for open in ["/", "/healthz", "/readyz", "/metrics", "/demuxai/status"] {
        assert_eq!(stage.get_with(open, "").status, 200, "{open} needs no key");
    }
    assert_eq!(stage.reached(), 0);
}

#[test]
fn without_keys_any_key_or_none_is_accepted() {
    let stage = stage("");
    for headers in [
        "",
        "authorization: Bearer \r\n",
        "authorization: Bearer undefined\r\n",
        "x-api-key: \r\napi-key: x\r\n",
        "authorization: Basic eDp5\r\n",
        "authorization: \u{e9}\r\n",
    ] {
        assert_eq!(chat_with(&stage, headers).status, 200, "{headers}");
    }
}

#[test]
fn a_restricted_key_sees_and_uses_only_its_models_however_they_are_named() {
    let stage = stage(KEYS);
    let phone = "x-api-key: key-of-the-phone\r\n";
    let list = stage.get_with("/v1/models", phone).json();
    let ids: Vec<_> = list["data"].as_array().unwrap().iter().map(|entry| entry["id"].clone()).collect();
    assert_eq!(ids, ["up/m"]);
    let all = stage.get_with("/v1/models", "x-api-key: key-of-the-ide\r\n").json();
    assert_eq!(all["data"].as_array().unwrap().len(), 2);
    assert_eq!(stage.get_with("/v1/models/up%2Fm", phone).status, 200);
    refusal(&stage.get_with("/v1/models/up%2Fother-model", phone), 404, "another's entry");

    let ask = |model: &str| stage.post_with(PATH, phone, CHAT.replace("up/m", model).as_bytes());
    assert_eq!(ask("up/m").status, 200);
    assert_eq!(ask("m").status, 200, "the bare name of an allowed model");
    for model in ["up/other-model", "other-model"] {
        let error = refusal(&ask(model), 403, model);
        assert_eq!(
            (error["param"].as_str(), error["code"].as_str()),
            (Some("model"), Some("model_not_allowed"))
        );
        assert!(error["message"].as_str().unwrap().contains("[keys.phone]"), "{error}");
    }
    let error = refusal(&ask("up/other-modle"), 404, "a typo");
    assert!(!error.to_string().contains("other-model"), "names of other models stay unknown: {error}");
    assert_eq!(stage.reached(), 2);
}

#[test]
fn no_credential_or_cookie_of_a_client_goes_upstream() {
    let stage = stage(KEYS);
    let headers = "authorization: Bearer key-of-the-ide\r\nx-api-key: key-of-the-ide\r\napi-key: key-of-the-ide\r\n\
        cookie: session=key-of-the-ide\r\nproxy-authorization: Basic key-of-the-ide\r\nx-goog-api-key: key-of-the-ide\r\n\
        openai-api-key: key-of-the-ide\r\nanthropic-api-key: key-of-the-ide\r\nx-auth-token: key-of-the-ide\r\n\
        x-forwarded-for: 10.1.2.3\r\nreferer: http://localhost/key-of-the-ide\r\nuser-agent: key-of-the-ide\r\n\
        openai-organization: org-1\r\nidempotency-key: once\r\n";
    let answer = stage.post_with(&format!("{PATH}?key=key-of-the-ide"), headers, CHAT.as_bytes());
    assert_eq!(answer.status, 200);
    let sent = stage.fake.last_received().unwrap();
    let seen = format!("{} {:?} {}", sent.target, sent.headers, String::from_utf8_lossy(&sent.body));
    assert!(!seen.contains("key-of-the-ide") && !seen.contains("10.1.2.3"), "{seen}");
    assert_eq!(sent.bearer(), Some("test-key-up"));
    assert_eq!(sent.header("openai-organization"), Some("org-1"));
    assert_eq!(sent.header("idempotency-key"), Some("once"));
}

/// An upstream that repeats our key wherever it can.
fn echoing() -> Fake {
    Fake::start(|received| {
        let key = received.header("authorization").unwrap_or_default().to_owned();
        let extra = received.header("x-team-secret").unwrap_or_default().to_owned();
        let error = |kind: &str| {
            format!(r#"{{"error":{{"message":"you sent {key} and {extra}","type":"{kind}","param":"{key}","code":"{kind}"}}}}"#)
        };
        let headers = |plain: Plain| plain.header("x-echo", key.clone()).header("set-cookie", key.clone());
        match received.json()["messages"][0]["content"].as_str().unwrap_or("list") {
            "list" if received.order == 0 => Plain::json(500).body(error("server_error")),
            "list" => Plain::json(200).body(r#"{"object":"list","data":[{"id":"m"}]}"#),
            "ok" => headers(Plain::json(200)).body(r#"{"id":"c","object":"chat.completion","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"ANSWER-TEXT"},"finish_reason":"stop"}]}"#),
            "stream" => Plain::events().chunked().event(edge::delta("ANSWER-TEXT")).event(error("late")).last_chunk(),
            "plain" => headers(Plain::new(400)).body(format!("no good: {key} {extra}")),
            code => headers(Plain::json(code.parse().unwrap_or(400))).body(error("some_error")),
        }
    })
    .expect("fake upstream starts")
}

const SECRETS: [&str; 5] =
    ["upstream-secret-1", "header-secret-2", "client-secret-3", "wrong-secret-4", "admin-secret-5"];

#[test]
fn no_secret_prompt_or_answer_is_in_any_log_answer_header_metric_or_status() {
    let fake = echoing();
    let home = Home::new()
        .with("UPSTREAM_KEY", SECRETS[0])
        .with("CLIENT_KEY", SECRETS[2])
        .with("DEMUXAI__LOG__LEVEL", "trace,actix_http=trace,actix_server=trace");
    home.write("team.key", SECRETS[1]);
    let text = format!(
        "[providers.up]\ntype = \"openai\"\nurl = \"{}\"\napi_key = \"${{UPSTREAM_KEY}}\"\n\
         headers = {{ X-Team-Secret = {{ file = \"team.key\" }} }}\n\
         [keys.ide]\nkey = {{ env = \"CLIENT_KEY\" }}\n[admin]\nkey = {{ command = [\"echo\", \"{}\"] }}\n",
        fake.url(),
        SECRETS[4]
    );
    let program = Program::serve_in(home, &text, &[]);
    let address = program.address();
    let mut seen = String::new();
    let mut keep = |what: &str, answer: Answer| {
        seen.push_str(&format!("{what}: {} {:?}\n", answer.status, answer.headers));
        seen.push_str(&answer.text().replace("ANSWER-TEXT", "(the answer)"));
        seen.push('\n');
    };
    let headers = [
        ("authorization", "Bearer client-secret-3"),
        ("x-api-key", "client-secret-3"),
        ("cookie", "client-secret-3"),
    ];
    let get = |path: &str| client::open(address, "GET", path, &headers, b"").finish();
    let chat = |path: &str, content: &str, stream: bool| {
        let body = format!(
            r#"{{"model":"up/m","stream":{stream},"user":"PROMPT-TEXT","messages":[{{"role":"user","content":"{content}"}},{{"role":"user","content":"PROMPT-TEXT"}}]}}"#
        );
        client::open(address, "POST", path, &headers, body.as_bytes()).finish()
    };
    // The first list failed and named the key; that is on the status page and in the list's notices until the next.
    keep("first list", get("/v1/models"));
    keep("first status", get("/demuxai/status"));
    for content in ["ok", "plain", "400", "401", "403", "404", "422", "429", "500", "503"] {
        keep(content, chat("/v1/chat/completions?api_key=client-secret-3", content, false));
        keep(content, chat("/v1/chat/completions", content, true));
    }
    keep("stream", chat("/v1/chat/completions", "stream", true));
    keep(
        "wrong key",
        client::open(
            address,
            "GET",
            "/v1/models?key=wrong-secret-4",
            &[("x-api-key", "wrong-secret-4")],
            b"",
        )
        .finish(),
    );
    keep("bad body", client::open(address, "POST", PATH, &headers, b"client-secret-3").finish());
    for path in ["/v1/models", "/metrics", "/demuxai/status", "/nothing?key=client-secret-3"] {
        keep(path.split('?').next().unwrap(), get(path));
    }
    eventually("the log is there", || program.stderr().matches("request_id").count(), |lines| *lines > 20);
    program.signal("TERM");
    let ended = program.ended();
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(ended.stderr.contains("TRACE") && ended.stderr.contains("DEBUG"), "all levels are in the log");
    assert!(seen.contains("you sent"), "the upstream's words come through: {seen}");
    for (place, text) in [("answers", &seen), ("stdout", &ended.stdout), ("log", &ended.stderr)] {
        for secret in SECRETS.iter().chain(&["PROMPT-TEXT", "ANSWER-TEXT"]) {
            let found: Vec<&str> = text.lines().filter(|line| line.contains(secret)).collect();
            assert!(found.is_empty(), "`{secret}` in {place}: {found:#?}");
        }
    }
}

#[test]
fn a_client_is_in_the_log_by_its_name() {
    let fake = edge::upstream();
    let program = Program::serve(&format!("{}{KEYS}", provider("up", "openai", &fake.url())));
    program.until_ready();
    let headers = [("x-api-key", "key-of-the-phone")];
    assert_eq!(client::open(program.address(), "POST", PATH, &headers, CHAT.as_bytes()).finish().status, 200);
    let log = eventually("it is told", || program.stderr(), |log| log.contains("outcome=\"ok\""));
    let line = log.lines().find(|line| line.contains("outcome=\"ok\"")).unwrap();
    for part in [
        "client=\"phone\"",
        "provider=\"up\"",
        "model=\"up/m\"",
        "status=200",
        "input_tokens=3",
        "output_tokens=5",
        "endpoint=\"chat\"",
        "duration_ms=",
    ] {
        assert!(line.contains(part), "{part}: {line}");
    }
}

#[test]
fn a_client_cannot_write_lines_of_its_own_into_the_log() {
    let fake = edge::upstream();
    let program = Program::serve(&provider("up", "openai", &fake.url()));
    program.until_ready();
    let model = "x\\n2026-01-01T00:00:00Z  INFO forged\\r\\u001b[31m\\u0000\\u2028";
    let body = CHAT.replace("up/m", model);
    refusal(&client::post(program.address(), PATH, &body), 404, model);
    let path = format!("{PATH}/%0aforged%1b%00");
    assert_eq!(client::get(program.address(), &path).status, 404);
    let log = eventually(
        "both are told",
        || program.stderr(),
        |log| log.contains("refused") && log.contains("model_not_found"),
    );
    for line in log.lines() {
        assert!(
            !line.starts_with("2026-01-01") && line.get(4..5) == Some("-"),
            "a line of the client's: {line}"
        );
    }
    assert!(!log.contains(['\u{1b}', '\0', '\r', '\u{2028}']), "{log}");
}

#[test]
fn a_redirect_of_an_upstream_is_not_followed() {
    let elsewhere = edge::upstream();
    let url = elsewhere.url();
    let fake = Fake::start(move |received| match received.method.as_str() {
        "GET" => Plain::json(200).body(r#"{"object":"list","data":[{"id":"m"}]}"#),
        _ => faults::redirect(format!("{url}/v1/chat/completions")),
    })
    .unwrap();
    let proxy = Proxy::start(&provider("up", "openai", &fake.url()));
    proxy.until_up("up");
    for body in [CHAT, STREAM] {
        refusal(&proxy.post(PATH, body), 502, "a redirect");
    }
    assert_eq!(elsewhere.counts().connections, 0, "our key went nowhere else");
}

/// A page elsewhere whose name was pointed at this machine (DNS rebinding) sends that name.
#[test]
fn a_foreign_host_is_refused_everywhere() {
    let stage = stage("[listeners.test]\naddress = \"127.0.0.1:0\"\nhosts = [\"box.example\"]\n");
    let ask = |method: &str, path: &str, host: &[u8]| {
        let head = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\nhost: ");
        stage.send(&[head.as_bytes(), host, b"\r\n\r\n"].concat())
    };
    for host in [
        &b"evil.example"[..],
        b"evil.example:6041",
        b"box.example.evil.example",
        b"\xe9vil.example",
        b"evil@localhost",
        b"localhost/evil",
        b"[::1]evil.example",
        b"",
        b"127.0.0.1.evil.example",
    ] {
        for (method, path) in [
            ("GET", "/v1/models"),
            ("GET", "/"),
            ("GET", "/metrics"),
            ("GET", "/demuxai/status"),
            ("OPTIONS", PATH),
            ("POST", PATH),
        ] {
            let what = format!("{method} {path} at {}", String::from_utf8_lossy(host));
            let answer = ask(method, path, host);
            assert_eq!(refusal(&answer, 403, &what)["code"], "host_not_allowed", "{what}");
        }
    }
    for host in [
        "localhost",
        "127.0.0.1:6041",
        "[::1]:6041",
        "box.example",
        "BOX.example:80",
        "nas.local",
        "host.docker.internal:6041",
    ] {
        assert_eq!(ask("GET", "/v1/models", host.as_bytes()).status, 200, "{host}");
    }
    let absolute = "GET http://evil.example/v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n";
    refusal(&stage.send(absolute.as_bytes()), 403, "the request line names another host");
    let none = "GET /v1/models HTTP/1.0\r\n\r\n";
    assert_eq!(stage.send(none.as_bytes()).status, 200, "no browser leaves the host away");
    assert_eq!(stage.reached(), 0);
}

#[test]
fn a_page_of_a_foreign_origin_is_refused_and_gets_no_leave() {
    let stage = stage("[listeners.test]\naddress = \"127.0.0.1:0\"\norigins = [\"https://chat.example\"]\n");
    for origin in [
        "https://evil.example",
        "null",
        "http://chat.example",
        "https://chat.example.evil.example",
        "https://localhost.evil.example",
        "chrome-extension://abc",
        "file://",
        "\u{e9}vil",
        "",
    ] {
        let header = format!("origin: {origin}\r\n");
        let simple = stage.post_with(PATH, &format!("{header}content-type: text/plain\r\n"), CHAT.as_bytes());
        let preflight = stage.send(
            format!("OPTIONS {PATH} HTTP/1.1\r\nhost: localhost\r\n{header}access-control-request-method: POST\r\n\r\n")
                .as_bytes(),
        );
        for answer in [
            simple,
            preflight,
            stage.get_with("/v1/models", &header),
            stage.get_with("/metrics", &header),
            stage.get_with("/demuxai/status", &header),
        ] {
            assert_eq!(refusal(&answer, 403, origin)["code"], "origin_not_allowed", "{origin}");
            let leave = answer.headers.iter().find(|(name, _)| name.starts_with("access-control"));
            assert_eq!(leave, None, "{origin}");
        }
    }
    assert_eq!(stage.reached(), 0);
}

#[test]
fn pages_that_may_call_get_their_preflight_and_their_answers() {
    let stage = stage(
        "[listeners.test]\naddress = \"127.0.0.1:0\"\norigins = [\"https://chat.example\"]\n[keys.web]\nkey = \"k\"\n",
    );
    stage.fake.open_gate("second");
    for origin in [
        "https://chat.example",
        "http://localhost:3000",
        "http://127.0.0.1",
        "https://[::1]:8443",
        "vscode-webview://1a2b",
        "app://obsidian.md",
    ] {
        let preflight = stage.send(
            format!(
                "OPTIONS {PATH} HTTP/1.1\r\nhost: localhost\r\norigin: {origin}\r\naccess-control-request-method: POST\r\n\
                 access-control-request-headers: authorization,content-type,x-stainless-os\r\n\
                 access-control-request-private-network: true\r\nconnection: close\r\n\r\n"
            )
            .as_bytes(),
        );
        assert_eq!(preflight.status, 204, "a preflight carries no key: {origin}");
        assert_eq!(preflight.header("access-control-allow-origin"), Some(origin));
        assert_eq!(
            preflight.header("access-control-allow-headers"),
            Some("authorization,content-type,x-stainless-os")
        );
        assert_eq!(preflight.header("access-control-allow-private-network"), Some("true"));
        assert!(preflight.header("access-control-allow-methods").unwrap().contains("POST"));
        assert!(preflight.header("vary").unwrap().contains("Origin"));

        let headers = format!("origin: {origin}\r\nauthorization: Bearer k\r\n");
        for (body, status) in [(CHAT, 200), (STREAM, 200), ("{}", 400)] {
            let answer = stage.post_with(PATH, &headers, body.as_bytes());
            assert_eq!(answer.status, status, "{origin}: {}", answer.text());
            assert_eq!(answer.header("access-control-allow-origin"), Some(origin), "{body}");
            assert_eq!(answer.header("access-control-expose-headers"), Some("*"));
            assert!(answer.header("access-control-allow-credentials").is_none());
        }
        let without_key = stage.get_with("/v1/models", &format!("origin: {origin}\r\n"));
        refusal(&without_key, 401, "an allowed page needs the key, too");
        assert_eq!(without_key.header("access-control-allow-origin"), Some(origin), "and can read why");
        let status = stage.get_with("/demuxai/status", &headers);
        refusal(&status, 403, "no page reads the status");
    }
}

#[test]
fn an_origin_of_star_lets_any_page_call() {
    let stage = stage("[listeners.test]\naddress = \"127.0.0.1:0\"\norigins = [\"*\"]\n");
    let answer = stage.get_with("/v1/models", "origin: https://anything.example\r\n");
    assert_eq!(
        (answer.status, answer.header("access-control-allow-origin")),
        (200, Some("https://anything.example"))
    );
}

#[test]
fn a_listener_serves_only_what_it_is_for() {
    let text = "[listeners.api]\naddress = \"127.0.0.1:0\"\nserves = [\"api\"]\nworkers = 1\n";
    let fake = edge::upstream();
    let proxy = Proxy::start(&format!("{}{text}", provider("up", "openai", &fake.url())));
    eventually("it is ready", || proxy.get("/readyz").status, |status| *status == 200);
    assert_eq!(proxy.post(PATH, CHAT).status, 200);
    for path in ["/metrics", "/demuxai/status"] {
        let error = refusal(&proxy.get(path), 404, path);
        assert!(error["message"].as_str().unwrap().contains("listener `api`"), "{error}");
    }
    assert_eq!(proxy.get("/healthz").status, 200, "whether it lives may be asked anywhere");
}
