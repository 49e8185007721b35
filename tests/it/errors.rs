//! Bad input: each kind has its documented status in OpenAI's shape, reaches no upstream, and costs nothing that stays.

use std::io::{Read, Write};
use std::net::TcpStream;

use demuxai::demo::upstream::{Setup, Upstream};

use crate::support::client::{self, PATIENCE};
use crate::support::edge::{self, CHAT, STREAM, refusal, stage};
use crate::support::program::Program;
use crate::support::proxy::{Proxy, provider};
use crate::support::{asked, eventually};

const PATH: &str = "/v1/chat/completions";

/// A bad body: what it is, its bytes, the `param` and a part of the message.
type BadBody = (&'static str, Vec<u8>, Option<&'static str>, &'static str);

fn bad_bodies() -> Vec<BadBody> {
    let body = |text: &str| text.as_bytes().to_vec();
    let depth = 10 * 1024 * 1024;
    vec![
        ("no body", body(""), None, "body is empty"),
        ("only spaces", body(" \r\n\t "), None, "body is empty"),
        ("not JSON", body("hello"), None, "not valid JSON at byte 0"),
        ("a form", body("model=up/m&messages=hi"), None, "not valid JSON"),
        ("half of it", body(&CHAT[..30]), None, "not complete JSON"),
        ("more behind it", body(&format!("{CHAT}x")), None, "not valid JSON"),
        ("an array", body("[]"), None, "must be a JSON object"),
        ("a string", body("\"model\""), None, "must be a JSON object"),
        ("null", body("null"), None, "must be a JSON object"),
        ("a trailing comma", body(r#"{"model":"up/m",}"#), None, "not valid JSON"),
        ("no model", body(r#"{"messages":[]}"#), Some("model"), "`model` is missing"),
        ("model null", body(r#"{"model":null,"messages":[]}"#), Some("model"), "`model` is missing"),
        ("model a number", body(r#"{"model":7,"messages":[]}"#), Some("model"), "`model` must be a string"),
        ("model a list", body(r#"{"model":["up/m"],"messages":[]}"#), Some("model"), "must be a string"),
        ("model empty", body(r#"{"model":"","messages":[]}"#), Some("model"), "`model` is empty"),
        ("model blank", body(r#"{"model":"  ","messages":[]}"#), Some("model"), "`model` is empty"),
        (
            "model twice",
            body(r#"{"model":"up/m","messages":[],"model":"x/y"}"#),
            Some("model"),
            "given twice",
        ),
        (
            "model twice, once escaped",
            body(r#"{"model":"up/m","messages":[],"mo\u0064el":"x/y"}"#),
            Some("model"),
            "given twice",
        ),
        (
            "stream twice",
            body(r#"{"model":"up/m","stream":true,"stream":false,"messages":[]}"#),
            Some("stream"),
            "twice",
        ),
        (
            "stream a word",
            body(r#"{"model":"up/m","stream":"yes","messages":[]}"#),
            Some("stream"),
            "true or false",
        ),
        ("no messages", body(r#"{"model":"up/m"}"#), Some("messages"), "`messages` is missing"),
        (
            "messages a string",
            body(r#"{"model":"up/m","messages":"hi"}"#),
            Some("messages"),
            "must be an array",
        ),
        ("a provider alone", body(r#"{"model":"up","messages":[]}"#), Some("model"), "`up` is a provider"),
        (
            "invalid UTF-8",
            b"{\"model\":\"up/m\",\"messages\":[\"\xff\xfe\"]}".to_vec(),
            None,
            "not valid UTF-8 at byte 29",
        ),
        ("UTF-16", b"\xff\xfe{\0\"\0".to_vec(), None, "not valid UTF-8"),
        ("NUL bytes", vec![0; 1000], None, "not valid JSON"),
        ("a nesting bomb", vec![b'['; depth], None, "nested too deep"),
        (
            "a nesting bomb inside",
            [br#"{"model":"up/m","messages":"#.to_vec(), vec![b'['; depth]].concat(),
            None,
            "nested too deep",
        ),
        (
            "a nesting bomb of objects",
            [br#"{"model":"up/m","x":"#.to_vec(), br#"{"a":"#.repeat(depth / 5)].concat(),
            None,
            "nested too deep",
        ),
        (
            "very many fields",
            [&b"{\"model\":\"up/m\""[..], &b",\"a\":1".repeat(1_000_000), b"}"].concat(),
            None,
            "more than",
        ),
    ]
}

#[test]
fn a_bad_body_is_a_400_that_says_what_is_wrong_and_reaches_no_upstream() {
    let stage = stage("");
    for (what, body, param, message) in bad_bodies() {
        let answer = stage.post_with(PATH, "content-type: application/json\r\n", &body);
        let error = refusal(&answer, 400, what);
        assert_eq!(error["param"].as_str(), param, "{what}: {error}");
        assert_eq!(error["type"], "invalid_request_error", "{what}");
        let text = error["message"].as_str().unwrap();
        assert!(text.contains(message), "{what}: {text}");
        assert!(text.len() < 400, "{what}: {} bytes of message", text.len());
    }
    assert_eq!(stage.reached(), 0);
    assert_eq!(stage.proxy.post(PATH, CHAT).status, 200, "and then all is well");
}

#[test]
fn every_endpoint_refuses_a_body_without_what_it_needs() {
    let stage = stage("");
    for (path, param) in [
        ("/v1/chat/completions", "messages"),
        ("/v1/completions", "prompt"),
        ("/v1/fim/completions", "prompt"),
        ("/v1/embeddings", "input"),
    ] {
        let answer = stage.proxy.post(path, r#"{"model":"up/m"}"#);
        assert_eq!(refusal(&answer, 400, path)["param"], param);
    }
    assert_eq!(stage.reached(), 0);
}

#[test]
fn an_unknown_model_or_provider_is_a_404_that_names_what_is_near() {
    let stage = stage("");
    for (model, message) in [
        ("up/other-modle", "`up/other-model`"),
        ("upp/other-model", "`up/other-model`"),
        ("nobody/nothing-like-it-at-all", "providers: `up`"),
        ("gpt-4o", "no model `gpt-4o`"),
        ("up/", "no model `up/`"),
        ("/m", "no model `/m`"),
        ("up/m\\u0000\\r\\nx: y", "no model"),
        ("UP/m", "no model `UP/m`"),
    ] {
        let body = CHAT.replace("up/m", model);
        let error = refusal(&stage.proxy.post(PATH, &body), 404, model);
        assert_eq!(
            (&error["param"], &error["code"]),
            (&"model".into(), &"model_not_found".into()),
            "{model}"
        );
        assert!(error["message"].as_str().unwrap().contains(message), "{error}");
    }
    let long = CHAT.replace("up/m", &"x".repeat(1_000_000));
    let error = refusal(&stage.proxy.post(PATH, &long), 404, "a model id of a megabyte");
    assert!(error["message"].as_str().unwrap().len() < 1000);
    assert_eq!(stage.reached(), 0);
}

#[test]
fn a_model_of_the_wrong_kind_is_a_400_before_anything_is_sent() {
    let fake = Upstream::Mistral.start(Setup::default()).unwrap();
    let ollama = Upstream::Ollama.start(Setup::default()).unwrap();
    let proxy = Proxy::start(&format!(
        "{}{}",
        provider("mistral", "mistral", &fake.url()),
        provider("ollama", "ollama", &ollama.url())
    ));
    proxy.until_up("mistral");
    proxy.until_up("ollama");
    let before = fake.counts().requests + ollama.counts().requests;
    for (path, model, rest) in [
        ("/v1/chat/completions", "mistral/mistral-embed", r#""messages":[]"#),
        ("/v1/embeddings", "mistral/mistral-small-latest", r#""input":"hi""#),
        ("/v1/fim/completions", "mistral/mistral-small-latest", r#""prompt":"a","suffix":"b""#),
        ("/v1/completions", "ollama/qwen3:8b", r#""prompt":"a","suffix":"b""#),
    ] {
        let answer = proxy.post(path, &format!(r#"{{"model":"{model}",{rest}}}"#));
        let error = refusal(&answer, 400, model);
        assert!(error["message"].as_str().unwrap().contains(model.split_once('/').unwrap().1), "{error}");
    }
    assert_eq!(fake.counts().requests + ollama.counts().requests, before, "nothing was sent");
}

#[test]
fn a_path_or_method_that_is_not_there_says_what_is() {
    let stage = stage("");
    for (method, path, status, message) in [
        ("GET", "/v1/chat/completions", 405, "POST only"),
        ("DELETE", "/v1/models", 405, "GET, HEAD only"),
        ("PUT", "/v1/embeddings", 405, "POST only"),
        ("POST", "/", 405, "GET, HEAD only"),
        ("POST", "/metrics", 405, "GET, HEAD only"),
        ("BREW", "/v1/models", 405, "GET, HEAD only"),
        ("GET", "/nothing", 404, "GET /nothing"),
        ("POST", "/v1/responses", 404, "/v1/models"),
        ("POST", "/openai/v1/chat/completions", 404, "did you mean /v1/chat/completions?"),
        ("POST", "/api/chat", 404, "POST /api/chat"),
        ("GET", "/../../etc/passwd", 404, "nothing is served"),
        ("GET", "/%2e%2e/%00", 404, "nothing is served"),
    ] {
        let what = format!("{method} {path}");
        let answer = stage.send(format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").as_bytes());
        let error = refusal(&answer, status, &what);
        assert!(error["message"].as_str().unwrap().contains(message), "{what}: {error}");
        let allow = answer.header("allow");
        match status {
            405 => assert!(message.starts_with(allow.expect("405 names the methods")), "{what}: {allow:?}"),
            _ => assert_eq!(allow, None, "{what}"),
        }
    }
    assert_eq!(stage.reached(), 0);
}

#[test]
fn a_body_over_the_limit_is_a_413_announced_or_not() {
    let stage = stage("[listeners.test]\naddress = \"127.0.0.1:0\"\nmax_body = \"1KB\"\n");
    let fits = format!("{{\"model\":\"up/m\",\"messages\":[],\"x\":\"{}\"}}", "a".repeat(1024 - 37));
    assert_eq!(fits.len(), 1024);
    assert_eq!(stage.post_with(PATH, "", fits.as_bytes()).status, 200, "1 KB is allowed");

    let over = format!("{fits} ");
    let error = refusal(&stage.post_with(PATH, "", over.as_bytes()), 413, "announced");
    assert!(error["message"].as_str().unwrap().contains("1024 bytes; raise `max_body`"), "{error}");
    let chunked = |body: &str| {
        let head = format!("POST {PATH} HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n");
        let half = body.len() / 2;
        let chunks = [&body[..half], &body[half..], ""].map(|part| format!("{:x}\r\n{part}\r\n", part.len()));
        stage.send(format!("{head}{}", chunks.concat()).as_bytes())
    };
    assert_eq!(chunked(&fits).status, 200, "1 KB in chunks is allowed");
    refusal(&chunked(&over), 413, "in chunks");
    assert_eq!(stage.reached(), 2);
}

#[test]
fn a_client_that_sends_a_far_too_large_body_still_hears_why() {
    let stage = stage("[listeners.test]\naddress = \"127.0.0.1:0\"\nmax_body = \"1MB\"\nworkers = 1\n");
    let body = vec![b' '; 20 * 1024 * 1024];
    for path in [PATH, "/v1/nothing"] {
        for _ in 0..5 {
            let answer = stage.post_with(path, "", &body);
            refusal(&answer, if path == PATH { 413 } else { 404 }, path);
        }
    }
    assert_eq!(stage.reached(), 0);
}

#[test]
fn a_listener_s_default_takes_64_megabytes_and_not_more() {
    let stage = stage("");
    let limit = 64 * 1024 * 1024;
    let mut body = CHAT.as_bytes().to_vec();
    body.resize(limit, b' ');
    assert_eq!(stage.post_with(PATH, "", &body).status, 200);
    assert_eq!(stage.fake.last_received().unwrap().body.len(), limit - "up/".len(), "every byte went up");
    body.push(b' ');
    refusal(&stage.post_with(PATH, "", &body), 413, "64 MB and a byte");
}

#[test]
fn bytes_that_are_not_http_are_a_bare_400_and_the_connection_ends() {
    let stage = stage("");
    for (what, bytes) in [
        ("a TLS hello", &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"[..]),
        ("words", b"hello there\r\n\r\n"),
        ("HTTP/2 without asking", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        ("two lengths", b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab"),
        ("a negative length", b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n"),
        (
            "a length beyond all numbers",
            b"POST / HTTP/1.1\r\ncontent-length: 99999999999999999999999\r\n\r\n",
        ),
        ("two hosts", b"GET / HTTP/1.1\r\nhost: localhost\r\nhost: evil.example\r\n\r\n"),
        (
            "a length and chunks",
            b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        ("a path of raw bytes", b"GET /\xff\xfe HTTP/1.1\r\nhost: localhost\r\n\r\n"),
    ] {
        let answer = client::exchange(stage.proxy.address, bytes).finish();
        assert_eq!((answer.status, answer.body.len()), (400, 0), "{what}: {}", answer.text());
        assert_eq!(answer.header("connection"), Some("close"), "{what}");
    }
    assert_eq!(stage.proxy.get("/healthz").status, 200);
    assert_eq!(stage.reached(), 0);
}

#[test]
fn headers_that_are_too_large_or_too_many_are_a_431() {
    let stage = stage("");
    let large = format!("GET /healthz HTTP/1.1\r\nhost: localhost\r\nx-a: {}\r\n\r\n", "a".repeat(200_000));
    assert_eq!(client::exchange(stage.proxy.address, large.as_bytes()).status, 431);
    let many: String = (0..200).map(|number| format!("x-{number}: a\r\n")).collect();
    let many = format!("GET /healthz HTTP/1.1\r\nhost: localhost\r\n{many}\r\n");
    assert_eq!(client::exchange(stage.proxy.address, many.as_bytes()).status, 431);
    // What agents really send is far below.
    let some = format!("x-a: {}\r\n", "a".repeat(30_000));
    assert_eq!(stage.get_with("/healthz", &some).status, 200);
}

#[test]
fn a_client_that_stops_in_the_middle_of_its_body_costs_nothing_when_it_leaves() {
    let stage = stage("");
    for _ in 0..50 {
        let mut stream = TcpStream::connect(stage.proxy.address).unwrap();
        let head =
            format!("POST {PATH} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 60000000\r\n\r\n{{\"mod");
        stream.write_all(head.as_bytes()).unwrap();
    }
    let gone = "demuxai_requests_total{backend=\"none\",endpoint=\"chat\",listener=\"test\",model=\"none\",outcome=\"invalid_request\",provider=\"none\"}";
    let left = gone.replace("invalid_request", "cancelled");
    let count =
        || stage.proxy.find_metric(gone).unwrap_or(0.0) + stage.proxy.find_metric(&left).unwrap_or(0.0);
    eventually("all fifty are counted", count, |count| *count == 50.0);
    assert_eq!(stage.proxy.post(PATH, CHAT).status, 200);
    assert_eq!(stage.reached(), 1);
}

#[test]
fn a_body_with_broken_chunks_is_a_400_and_the_connection_ends() {
    let stage = stage("");
    let head = format!("POST {PATH} HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n");
    for broken in ["zz\r\n{}\r\n0\r\n\r\n", "ffffffffffffffffff\r\n{}", "5\r\n{}\r\n0\r\n\r\n"] {
        let answer = stage.send(format!("{head}{broken}").as_bytes());
        refusal(&answer, 400, broken);
    }
    assert_eq!(stage.reached(), 0);
}

#[test]
fn a_client_that_expects_100_continue_gets_it_and_then_the_answer() {
    let stage = stage("");
    let mut stream = TcpStream::connect(stage.proxy.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        CHAT.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(CHAT.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
}

#[test]
fn a_chunked_request_arrives_whole_however_it_is_cut() {
    let stage = stage("");
    for size in [1, 7, 1000] {
        let chunks: String = CHAT
            .as_bytes()
            .chunks(size)
            .map(|part| format!("{:x}\r\n{}\r\n", part.len(), String::from_utf8_lossy(part)))
            .collect();
        let request = format!(
            "POST {PATH} HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n{chunks}0\r\n\r\n"
        );
        assert_eq!(stage.send(request.as_bytes()).status, 200);
        let sent = stage.fake.last_received().unwrap();
        assert_eq!(sent.body, CHAT.replace("up/m", "m"));
        assert_eq!(sent.header("content-length"), Some((CHAT.len() - 3).to_string().as_str()));
    }
}

#[test]
fn any_content_type_will_do_and_json_goes_up() {
    let stage = stage("");
    for header in [
        "",
        "content-type: \r\n",
        "content-type: text/plain\r\n",
        "content-type: application/x-www-form-urlencoded\r\n",
        "content-type: application/json; charset=UTF-8\r\n",
        "content-type: \"};\r\n",
        "content-type: a\r\ncontent-type: b\r\n",
    ] {
        let answer = stage.post_with(PATH, header, CHAT.as_bytes());
        assert_eq!(answer.status, 200, "{header}: {}", answer.text());
        assert_eq!(stage.fake.last_received().unwrap().header("content-type"), Some("application/json"));
    }
}

#[test]
fn a_compressed_body_is_refused_with_words_that_help() {
    let stage = stage("");
    let gzip = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03";
    for coding in ["gzip", "zstd", "br"] {
        let answer = stage.post_with(PATH, &format!("content-encoding: {coding}\r\n"), gzip);
        let error = refusal(&answer, 400, coding);
        assert!(
            error["message"].as_str().unwrap().contains(&format!("content-encoding `{coding}`")),
            "{error}"
        );
    }
    assert_eq!(stage.post_with(PATH, "content-encoding: identity\r\n", CHAT.as_bytes()).status, 200);
    assert_eq!(stage.reached(), 1);
}

#[test]
fn every_spelling_of_a_path_works() {
    let stage = stage("");
    for path in [
        "/v1/chat/completions",
        "/chat/completions",
        "/v1/chat/completions/",
        "//v1//chat/completions",
        "/v1/chat/completions?api-version=2024-10-21",
        "/v1/chat/completions/?beta=true&autoload=false",
        "/chat/completions?",
    ] {
        assert_eq!(stage.proxy.post(path, CHAT).status, 200, "{path}");
        assert_eq!(stage.fake.last_received().unwrap().target, "/v1/chat/completions", "{path}");
    }
    for path in ["/v1/models", "/models", "/models/", "//v1/models?limit=1000"] {
        assert_eq!(stage.proxy.get(path).json()["data"][0]["id"], "up/m", "{path}");
    }
    for path in ["/v1/models/up/m", "/models/up%2Fm", "/v1/models/up%2fm?x=1", "/v1//models//up/m/"] {
        assert_eq!(stage.proxy.get(path).json()["id"], "up/m", "{path}");
    }
    for path in ["/v1/models/up/none", "/v1/models/nobody%2Fm", "/v1/models/up", "/v1/models/%ff%fe"] {
        refusal(&stage.proxy.get(path), 404, path);
    }
}

#[test]
fn the_root_answers_clients_that_look_for_a_server() {
    let stage = stage("");
    let answer = stage.proxy.get("/");
    assert_eq!((answer.status, answer.text().as_str()), (200, "Ollama is running"));
    assert!(answer.header("x-request-id").is_some());
    let head =
        client::raw(stage.proxy.address, b"HEAD / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    let head = String::from_utf8(head).unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    assert!(head.contains("x-request-id: "), "{head}");
}

#[test]
fn every_answer_has_a_request_id_of_its_own() {
    let stage = stage("");
    stage.fake.open_gate("second");
    let mut seen = std::collections::BTreeSet::new();
    for path in ["/", "/healthz", "/readyz", "/metrics", "/demuxai/status", "/v1/models", "/nothing"] {
        let answer = stage.get_with(path, "x-request-id: chosen-by-the-client\r\n");
        assert!(seen.insert(answer.header("x-request-id").expect("an id").to_owned()), "{path}");
    }
    for body in [CHAT, STREAM, "{}"] {
        let answer = stage.proxy.post(PATH, body);
        assert!(seen.insert(answer.header("x-request-id").expect("an id").to_owned()), "{body}");
    }
    assert!(seen.iter().all(|id| id.len() == 32), "{seen:?}");
}

/// Java's HTTP client offers HTTP/2 on every plain connection; servers that take the offer at its word hang.
#[test]
fn an_offer_to_upgrade_is_answered_as_if_it_were_not_there() {
    let stage = stage("");
    let offer = "connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\r\n";
    for _ in 0..2 {
        let answer = stage.post_with(PATH, offer, CHAT.as_bytes());
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.header("connection"), Some("close"), "no upgrade is confirmed");
        let answer = stage.get_with("/v1/models", offer);
        assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    }
    stage.fake.open_gate("second");
    let answer = stage.post_with(PATH, offer, STREAM.as_bytes());
    assert!(answer.complete && answer.text().ends_with("data: [DONE]\n\n"), "{}", answer.text());
}

#[test]
fn requests_behind_one_another_on_one_connection_are_answered_in_order() {
    let stage = stage("");
    let mut stream = TcpStream::connect(stage.proxy.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let post = |body: &str, more: &str| {
        format!(
            "POST {PATH} HTTP/1.1\r\nhost: localhost\r\n{more}content-length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let all = [post(CHAT, ""), post("{}", ""), post(CHAT, "connection: close\r\n")].concat();
    stream.write_all(all.as_bytes()).unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).unwrap();
    let statuses: Vec<&str> =
        answers.matches("HTTP/1.1 200").chain(answers.matches("HTTP/1.1 400")).collect();
    assert_eq!(statuses.len(), 3, "{answers}");
    let order = [answers.find("200 OK"), answers.find("400 Bad"), answers.rfind("200 OK")];
    assert!(order[0] < order[1] && order[1] < order[2], "{answers}");
}

fn bad_round(address: std::net::SocketAddr, large: &[u8], round: usize) {
    let send = |head: String, body: &[u8]| {
        client::exchange(address, &[head.as_bytes(), body].concat()).finish().status
    };
    let head = |path: &str, length: usize| {
        format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
        )
    };
    let bodies = bad_bodies();
    let (what, body, ..) = &bodies[round % bodies.len()];
    assert_eq!(send(head(PATH, body.len()), body), 400, "{what}");
    let model = CHAT.replace("up/m", &format!("up/unknown-{round}"));
    assert_eq!(send(head(PATH, model.len()), model.as_bytes()), 404);
    assert_eq!(send(head(&format!("/v1/nothing-{round}"), 2), b"{}"), 404);
    assert_eq!(send(head(PATH, 100_000_000), b""), 413);
    if round.is_multiple_of(bodies.len()) {
        assert_eq!(send(head(PATH, large.len()), large), 400);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn memory_is_what_it_was_after_hundreds_of_rounds_of_bad_input() {
    let fake = edge::upstream();
    let program = Program::serve(&provider("up", "openai", &fake.url()));
    program.until_ready();
    let large = vec![b'a'; 60 * 1024 * 1024];
    for round in 0..31 {
        bad_round(program.address(), &large, round);
    }
    let before = program.resident_bytes();
    for round in 31..300 {
        bad_round(program.address(), &large, round);
    }
    // What was freed goes back to the system at once or soon.
    let most = before + 16 * 1024 * 1024;
    eventually("memory is what it was", || program.resident_bytes(), |now| *now <= most);
    assert!(before < 64 * 1024 * 1024, "{before} bytes after the first rounds");
    assert_eq!(asked(&fake), 0);
}
