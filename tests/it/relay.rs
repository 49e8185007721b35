//! What client and upstream say to each other passes byte for byte, but for the model's prefix and the origin behind
//! the completion's id; headers pass as far as they concern the other side; and an answer that is none is an error.

use demuxai::demo::{Answer, Fake, Options, Script, faults};

use crate::support::client;
use crate::support::stage::{CHAT, PATH, STREAM, Stage, chunk, finish, named};

/// Everything that a program that reads and prints JSON again would change.
const ODD: &str = concat!(
    "\n{ \"zeta\" : 1.10,\t\"big\":12345678901234567890123, \"exp\": 1e2, \"neg\": -0, \"tiny\":1E-400,\r\n",
    "  \"dup\":1, \"dup\" :{\"dup\":[ ], \"dup\":2 } ,\"esc\":\"\\u00e9\\/\\ud83d\\ude00 é😀\u{2028}\",\n",
    "  \"id\":\"c1\",\"object\":\"chat.completion\",\"model\":\"m\", \"x_vendor\":{\"model\":\"m\",\"id\":\"c1\"},\n",
    "  \"choices\":[{\"logprobs\":null,\"index\":0,\"message\":{\"content\":\"a\\nb\",\"role\":\"assistant\",\"annotations\":[]},",
    "\"finish_reason\":\"stop\" }],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":5,\"total_tokens\":8,\"cost\":0.000100} } \n"
);

#[test]
fn a_plain_answer_keeps_every_byte_but_the_models_prefix_and_the_ids_origin() {
    let stage = Stage::new(|_| Answer::json(200).body(ODD));
    let answer = stage.chat();
    assert_eq!(answer.status, 200);
    let wanted = ODD.replacen("\"id\":\"c1\",\"object\"", "\"id\":\"c1@up\",\"object\"", 1).replacen(
        "\"model\":\"m\", ",
        "\"model\":\"up/m\", ",
        1,
    );
    assert_eq!(answer.text(), wanted);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("content-length"), Some(wanted.len().to_string().as_str()));
    assert_eq!((stage.tokens("input"), stage.tokens("output")), (3.0, 5.0));
    assert_eq!((stage.outcomes("ok"), stage.attempts("ok", "none")), (1.0, 1.0));
    stage.assert_settled();
}

#[test]
fn a_request_keeps_every_byte_but_the_model() {
    let stage = Stage::new(|_| Answer::json(200).body(ODD));
    for (sent, wanted) in [
        (
            "\r\n{\"temperature\": 0.70, \"seed\":12345678901234567890123,\t\"messages\" : [ {\"role\":\"user\",\"content\":\"\\u00e9 é\\/\\ud83d\\ude00\",\"model\":\"up/m\"} ],\n\"x\":1,\"x\":[1.0e+2,{\"x\":1,\"x\":2}], \"model\" :\"up/m\" ,\"user\":\"\"}\n ",
            "\r\n{\"temperature\": 0.70, \"seed\":12345678901234567890123,\t\"messages\" : [ {\"role\":\"user\",\"content\":\"\\u00e9 é\\/\\ud83d\\ude00\",\"model\":\"up/m\"} ],\n\"x\":1,\"x\":[1.0e+2,{\"x\":1,\"x\":2}], \"model\" :\"m\" ,\"user\":\"\"}\n ",
        ),
        (
            "{\"mod\\u0065l\":\"up\\/m\",\"messages\":[],\"stream\":false}",
            "{\"mod\\u0065l\":\"m\",\"messages\":[],\"stream\":false}",
        ),
        (
            "{\"messages\":[],\"model\":\"up/vendor/Model:120b@x\"}",
            "{\"messages\":[],\"model\":\"vendor/Model:120b@x\"}",
        ),
    ] {
        let before = stage.asked().len();
        let answer = stage.proxy.post(PATH, sent);
        if wanted.contains("vendor") {
            // The list is complete, and this model is not in it.
            assert_eq!(answer.status, 404, "{}", answer.text());
            assert_eq!(stage.asked().len(), before);
            continue;
        }
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(String::from_utf8_lossy(&stage.asked()[before].body), wanted);
        assert_eq!(answer.header("x-demuxai-edits"), None);
    }
}

#[test]
fn a_body_of_many_megabytes_passes_whole_in_both_directions() {
    let long = "é😀\\n".repeat(1_000_000);
    let body = format!(
        "{{\"id\":\"c1\",\"model\":\"m\",\"choices\":[{{\"message\":{{\"content\":\"{long}\"}},\"finish_reason\":\"stop\"}}]}}"
    );
    let sent = body.clone();
    let stage = Stage::new(move |_| Answer::json(200).body(sent.clone()));
    let request =
        format!("{{\"model\":\"up/m\",\"messages\":[{{\"role\":\"user\",\"content\":\"{long}\"}}]}}");
    let answer = stage.proxy.post(PATH, &request);
    assert_eq!(answer.status, 200);
    assert!(answer.body == named(&body).into_bytes(), "the answer is changed");
    assert!(stage.asked()[0].body == request.replacen("up/m", "m", 1), "the request is changed");
}

#[test]
fn a_stream_keeps_every_byte_of_its_payloads() {
    let odd = [
        r#"{"id":"c1","model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}],"created":1.0e9,"p":"\u2028"}"#,
        "{ \"choices\" :[{\"delta\":{\"content\":\"h\u{e9}\u{1f600}\\u00e9\\/\"},\"index\":0}] , \"n\":1.10,\"model\" : \"m\",\"id\":\"c1\",\"dup\":1,\"dup\":2 }",
        r#"{"model":"m","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"t1","type":"function","function":{"name":"f","arguments":"{\"a\": 1"}},{"index":0,"function":{"arguments":"}"}}]}}],"id":"c1"}"#,
        r#"{"id":"c1","model":"m","x_odd":null,"choices":[]}"#,
        r#"{"id":"c1","model":"m","choices":[{"index":0,"delta":{},"finish_reason":"tool_calls","native_finish_reason":"x"}]}"#,
    ];
    let stage = Stage::new(move |_| {
        odd.iter()
            .fold(Answer::events().chunked(), |script, data| script.event(data))
            .event("[DONE]")
            .last_chunk()
    });
    let answer = stage.stream();
    let wanted: String = odd
        .iter()
        .map(|payload| {
            let payload = payload.replacen("\"c1\"", "\"c1@up\"", 1).replacen("\"m\"", "\"up/m\"", 1);
            format!("data: {payload}\n\n")
        })
        .collect();
    assert_eq!(answer.text(), format!("{wanted}data: [DONE]\n\n"));
    assert!(answer.complete);
}

#[test]
fn a_model_whose_own_name_begins_like_the_provider_gets_its_prefix_too_and_no_id_is_invented() {
    // `up/m` at provider `up` is listed as `up/up/m`: what is answered must be what can be asked for again.
    let stage = Stage::new(|_| Answer::json(200).body(r#"{"model":"up/m","id":"","choices":[]}"#));
    assert_eq!(stage.chat().text(), r#"{"model":"up/up/m","id":"","choices":[]}"#);
    let bare = r#"{"choices":[{"message":{"content":"x"}}]}"#;
    let stage = Stage::new(move |_| Answer::json(200).body(bare));
    assert_eq!(stage.chat().text(), bare);
}

// --- headers -------------------------------------------------------------------------------------------------------

#[test]
fn the_clients_credentials_and_cookies_stay_here_and_what_the_upstream_may_know_goes_up() {
    let stage = Stage::new(|_| Answer::json(200).body(ODD));
    let headers = [
        ("Authorization", "Bearer CLIENT-SECRET"),
        ("X-Api-Key", "CLIENT-SECRET"),
        ("Api-Key", "CLIENT-SECRET"),
        ("OpenAI-Api-Key", "CLIENT-SECRET"),
        ("Anthropic-Api-Key", "CLIENT-SECRET"),
        ("X-Goog-Api-Key", "CLIENT-SECRET"),
        ("Proxy-Authorization", "Basic CLIENT-SECRET"),
        ("Cookie", "session=CLIENT-SECRET"),
        ("X-Forwarded-For", "10.0.0.1"),
        ("X-Request-Id", "the-clients"),
        ("User-Agent", "client/1"),
        ("Accept", "text/plain"),
        ("Accept-Encoding", "gzip, br"),
        ("Content-Type", "text/plain"),
        ("OpenAI-Organization", "org-1"),
        ("OpenAI-Beta", "assistants=v2"),
        ("Idempotency-Key", "idem-1"),
        ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        ("anthropic-version", "2023-06-01"),
        ("anthropic-beta", "one"),
        ("anthropic-beta", "two"),
    ];
    let answer = client::open(stage.proxy.address, "POST", PATH, &headers, CHAT.as_bytes()).finish();
    assert_eq!(answer.status, 200, "{}", answer.text());

    let received = &stage.asked()[0];
    let all = |name: &str| -> Vec<&str> {
        received
            .headers
            .iter()
            .filter(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
            .collect()
    };
    assert!(
        !received.headers.iter().any(|(_, value)| value.contains("CLIENT-SECRET")),
        "{:?}",
        received.headers
    );
    assert_eq!(all("authorization"), ["Bearer test-key-up"]);
    for stopped in
        ["cookie", "x-api-key", "x-forwarded-for", "x-request-id", "accept-encoding", "proxy-authorization"]
    {
        assert_eq!(all(stopped), [""; 0], "{stopped}");
    }
    assert_eq!(all("user-agent"), [concat!("demuxai/", env!("CARGO_PKG_VERSION"))]);
    assert_eq!(all("content-type"), ["application/json"]);
    assert_eq!(all("accept"), ["application/json"]);
    assert_eq!(all("host"), [stage.fake.address().to_string().as_str()]);
    assert_eq!(all("openai-organization"), ["org-1"]);
    assert_eq!(all("openai-beta"), ["assistants=v2"]);
    assert_eq!(all("idempotency-key"), ["idem-1"]);
    assert_eq!(all("traceparent"), ["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"]);
    assert_eq!(all("anthropic-version"), ["2023-06-01"]);
    assert_eq!(all("anthropic-beta"), ["one", "two"], "a header may be there more than once");
}

#[test]
fn the_configured_headers_of_a_provider_go_up_and_no_client_can_replace_them() {
    let extra = "headers = { \"openai-organization\" = \"ours\", \"x-title\" = \"demuxai\" }";
    let stage = Stage::with(extra, "", |_| Answer::json(200).body(ODD));
    let headers = [("openai-organization", "theirs"), ("x-title", "theirs")];
    client::open(stage.proxy.address, "POST", PATH, &headers, CHAT.as_bytes()).finish();
    let received = &stage.asked()[0];
    assert_eq!(received.header("openai-organization"), Some("ours"));
    assert_eq!(received.header("x-title"), Some("demuxai"));
    assert!(!received.headers.iter().any(|(_, value)| value == "theirs"));
}

#[test]
fn what_concerns_only_the_upstreams_own_connection_or_site_does_not_come_down() {
    let answer_of = |answer: Answer| {
        answer
            .header("Server", "cloudflare")
            .header("Set-Cookie", "__cf=1; HttpOnly")
            .header("Set-Cookie", "b=2")
            .header("Alt-Svc", "h3=\":443\"")
            .header("Strict-Transport-Security", "max-age=1")
            .header("Connection", "keep-alive, X-Private-Hop")
            .header("X-Private-Hop", "1")
            .header("Keep-Alive", "timeout=5")
            .header("Proxy-Authenticate", "Basic")
            .header("WWW-Authenticate", "Bearer")
            .header("Upgrade", "h2c")
            .header("Trailer", "x-t")
            .header("Access-Control-Allow-Origin", "*")
            .header("x-demuxai-provider", "forged")
            .header("Date", "Thu, 01 Jan 1970 00:00:00 GMT")
            .header("X-Request-Id", "req_upstream")
            .header("OpenAI-Processing-Ms", "12")
            .header("x-ratelimit-remaining-requests", "59")
            .header("x-multi", "a")
            .header("x-multi", "b")
    };
    let stage = Stage::new(move |received| {
        if received.json()["stream"] == true {
            let head = answer_of(Answer::events()).header("Cache-Control", "max-age=600").chunked();
            return head.event(chunk("x")).event(finish()).event("[DONE]").last_chunk();
        }
        answer_of(Answer::json(200)).body(ODD)
    });
    for answer in [stage.chat(), stage.stream()] {
        for name in [
            "server",
            "set-cookie",
            "alt-svc",
            "strict-transport-security",
            "keep-alive",
            "proxy-authenticate",
            "www-authenticate",
            "upgrade",
            "trailer",
            "access-control-allow-origin",
            "x-private-hop",
        ] {
            assert_eq!(answer.header(name), None, "{name}");
        }
        let values = |name: &str| -> Vec<&str> {
            let named = answer.headers.iter().filter(|(key, _)| key == name);
            named.map(|(_, value)| value.as_str()).collect()
        };
        assert_eq!(values("x-demuxai-upstream-request-id"), ["req_upstream"]);
        let ours = values("x-request-id");
        assert!(ours.len() == 1 && ours[0].len() == 32 && ours[0] != "req_upstream", "{ours:?}");
        assert_eq!(values("x-demuxai-provider"), ["up"]);
        assert_eq!(values("x-demuxai-model"), ["m"]);
        assert_eq!(values("x-demuxai-attempts"), ["up ok"]);
        assert_eq!(values("openai-processing-ms"), ["12"]);
        assert_eq!(values("x-ratelimit-remaining-requests"), ["59"]);
        assert_eq!(values("x-multi"), ["a", "b"]);
        assert_eq!(values("date").len(), 1);
        assert_ne!(values("date"), ["Thu, 01 Jan 1970 00:00:00 GMT"]);
        assert_eq!(values("content-type").len(), 1);
    }
    let stream = stage.stream();
    assert_eq!(stream.header("content-type"), Some("text/event-stream; charset=utf-8"));
    assert_eq!(stream.header("cache-control"), Some("no-cache"));
    assert_eq!(stream.header("x-accel-buffering"), Some("no"));
    assert_eq!(stream.header("content-length"), None);
    assert_eq!(stream.header("content-encoding"), None);
}

#[test]
fn what_was_changed_in_the_request_is_named_in_a_header() {
    let stage =
        Stage::before(crate::support::stage::upstream(|_| Answer::json(200).body(ODD)), "mistral", "", "");
    let request = r#"{"model":"up/m","messages":[],"store":true,"max_completion_tokens":7,"logit_bias":{}}"#;
    let answer = stage.proxy.post(PATH, request);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let edits = answer.header("x-demuxai-edits").expect("edits are named").to_owned();
    assert!(edits.contains("drop:store") && edits.contains("rename:max_completion_tokens"), "{edits}");
    assert!(!edits.contains('7') && !edits.contains("true"), "a value is in it: {edits}");
    let received = stage.asked()[0].json();
    assert_eq!(received["max_tokens"], 7);
    assert!(received.get("store").is_none() && received.get("max_completion_tokens").is_none());
}

// --- framings of a plain answer -------------------------------------------------------------------------------------

const PLAIN: &str =
    r#"{"id":"c1","model":"m","choices":[{"message":{"content":"é"},"finish_reason":"stop"}]}"#;

#[test]
fn a_plain_answer_is_whole_however_it_is_framed() {
    type Framing = (&'static str, fn() -> Script, &'static str);
    let framings: [Framing; 7] = [
        ("content-length", || Answer::json(200).body(PLAIN), ""),
        ("until close", || faults::close_delimited_json(PLAIN), ""),
        ("chunks of one byte", || faults::chunked_json(PLAIN, 1), ""),
        ("chunks of seven bytes", || faults::chunked_json(PLAIN, 7), ""),
        ("blank lines first", || faults::blank_lines_then_json(PLAIN), "\n\n\n"),
        ("103 first", || faults::early_hints(Answer::json(200).body(PLAIN)), ""),
        ("100 first", || faults::unasked_continue(Answer::json(200).body(PLAIN)), ""),
    ];
    for (name, script, before) in framings {
        let stage = Stage::new(move |_| script());
        let answer = stage.chat();
        assert_eq!(answer.status, 200, "{name}: {}", answer.text());
        assert_eq!(answer.text(), format!("{before}{}", named(PLAIN)), "{name}");
        assert_eq!(answer.header("link"), None, "{name}: the hints are not the answer's");
        stage.assert_settled();
    }
}

#[test]
fn a_plain_answer_that_is_none_is_an_error_that_says_why() {
    type Case = (&'static str, fn() -> Script, u16, &'static str);
    let cases: [Case; 14] = [
        ("cut by FIN", || faults::short_body(PLAIN, 5), 502, "broke off"),
        ("complete JSON, cut by FIN", || faults::short_body(PLAIN, 1), 502, "broke off"),
        ("half of it until close", || faults::close_delimited_json(&PLAIN[..40]), 502, "ends too early"),
        ("error in a 200", faults::error_in_json_200, 502, "The server had an error"),
        ("page in a 200", faults::html_200, 502, "cannot be read"),
        ("nothing in a 200", faults::empty_200, 502, "ends too early"),
        ("a gateway's page", faults::html_502, 502, "502"),
        ("error with a status", || faults::json_error(503), 503, "The server had an error"),
        ("RST before the head", faults::reset_before_head, 502, "before it answered"),
        ("FIN before the head", faults::close_before_head, 502, "before it answered"),
        ("FIN within the head", faults::close_within_head, 502, "broke off"),
        ("not HTTP", faults::not_http, 502, "does not answer with HTTP/1.1"),
        ("endless head", faults::endless_head, 502, "larger than 64 KB"),
        ("redirect", || faults::redirect("http://127.0.0.1:1/".to_owned()), 502, "redirect"),
    ];
    for (name, script, status, said) in cases {
        let stage = Stage::new(move |_| script());
        let answer = stage.chat();
        assert_eq!(answer.status, status, "{name}: {}", answer.text());
        assert!(answer.error().contains(said), "{name}: {}", answer.error());
        assert!(answer.complete && answer.header("content-type") == Some("application/json"), "{name}");
        assert_eq!(stage.asked().len(), 1, "{name}: a POST is sent once");
        assert_eq!(stage.outcomes("ok"), 0.0, "{name}");
    }
}

#[test]
fn an_answer_that_never_ends_is_given_up_within_its_time() {
    // Byte by byte, or a fast machine reads as much as an answer may have before its time is over.
    let endless = || Answer::json(200).chunked().repeat("1\r\n \r\n", u64::MAX);
    let stage = Stage::with("timeouts = { total = \"300ms\" }", "", move |_| endless());
    let answer = stage.chat();
    assert_eq!(answer.status, 504, "{}", answer.text());
    assert!(answer.error().contains("timeouts.total"), "{}", answer.error());
    stage.assert_settled();
}

#[test]
fn a_refusal_that_comes_before_the_body_is_sent_reaches_the_client() {
    let refused = r#"{"error":{"message":"too large for us","type":"invalid_request_error"}}"#;
    let options =
        Options::new(|_| Answer::json(200).body(r#"{"data":[{"id":"m"}]}"#)).early(move |received| {
            (received.method == "POST").then(|| Answer::json(413).header("connection", "close").body(refused))
        });
    let stage = Stage::before(Fake::start_with(options).unwrap(), "openai", "", "");
    let long = "x".repeat(8 * 1024 * 1024);
    for _ in 0..3 {
        let request = CHAT.replace("hi", &long);
        let answer = stage.proxy.post(PATH, &request);
        assert_eq!((answer.status, answer.text().as_str()), (413, refused));
    }
    stage.assert_settled();
}

#[test]
fn one_connection_of_a_client_serves_one_request_after_another() {
    let stage = Stage::new(|received| {
        let json = received.json();
        let word = json["user"].as_str().unwrap().to_owned();
        if json["stream"] == true {
            return Answer::events()
                .chunked()
                .event(chunk(&word))
                .event(finish())
                .event("[DONE]")
                .last_chunk();
        }
        Answer::json(200).body(format!("{{\"choices\":[{{\"message\":{{\"content\":\"{word}\"}}}}]}}"))
    });
    let ask = |word: &str, stream: bool, last: bool| {
        let body = format!("{{\"model\":\"up/m\",\"user\":\"{word}\",\"stream\":{stream},\"messages\":[]}}");
        let close = if last { "connection: close\r\n" } else { "" };
        let length = body.len();
        format!("POST {PATH} HTTP/1.1\r\nhost: localhost\r\n{close}content-length: {length}\r\n\r\n{body}")
    };
    // All at once, before any answer: they are answered in their order, and none is lost.
    let requests = [
        ask("one", false, false),
        ask("two", true, false),
        ask("three", true, false),
        ask("four", false, true),
    ];
    let answers = String::from_utf8(client::raw(stage.proxy.address, requests.concat().as_bytes())).unwrap();
    let places: Vec<usize> = ["one", "two", "three", "four"]
        .iter()
        .map(|word| {
            answers.find(&format!("\"content\":\"{word}\"")).unwrap_or_else(|| panic!("{word}: {answers}"))
        })
        .collect();
    assert!(places.is_sorted(), "{places:?}");
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 4);
    assert_eq!(answers.matches("data: [DONE]").count(), 2);
    stage.assert_settled();
}

#[test]
fn models_that_no_list_knows_do_not_become_series_of_their_own() {
    let fake = crate::support::stage::upstream(|_| Answer::json(200).body(ODD));
    let stage = Stage::before(fake, "fireworks", "", "");
    let series = || stage.proxy.get("/metrics").text().lines().count();
    let ask = |model: &str| stage.proxy.post(PATH, &CHAT.replace("up/m", &format!("up/{model}"))).status;
    assert_eq!(ask("accounts/fireworks/models/first"), 200);
    let before = series();
    for number in 0..50 {
        assert_eq!(ask(&format!("accounts/fireworks/models/never-seen-{number}")), 200);
    }
    assert_eq!(series(), before);
    assert!(!stage.proxy.get("/metrics").text().contains("never-seen"));
}

#[test]
fn an_upstreams_own_error_passes_unchanged() {
    let body =
        "{\"error\": {\"type\":\"rate_limit\",\"message\":\"Slow down é\",\"code\":null, \"param\":1.10}}\n";
    for path in [CHAT, STREAM] {
        let stage = Stage::new(move |_| {
            Answer::json(429)
                .header("retry-after", "7")
                .header("x-ratelimit-remaining-tokens", "0")
                .header("x-request-id", "req_7")
                .header("set-cookie", "a=b")
                .body(body)
        });
        let answer = stage.proxy.post(PATH, path);
        assert_eq!((answer.status, answer.text().as_str()), (429, body));
        let values = |name: &str| -> Vec<&str> {
            let named = answer.headers.iter().filter(|(key, _)| key == name);
            named.map(|(_, value)| value.as_str()).collect()
        };
        assert_eq!(values("retry-after"), ["7"]);
        assert_eq!(values("x-ratelimit-remaining-tokens"), ["0"]);
        assert_eq!(values("x-demuxai-upstream-request-id"), ["req_7"]);
        assert_eq!(values("x-demuxai-provider"), ["up"]);
        assert_eq!(values("x-demuxai-attempts"), ["up upstream_status"]);
        assert_eq!(values("content-type"), ["application/json"]);
        assert!(values("x-request-id").len() == 1 && values("set-cookie").is_empty());
        stage.assert_settled();
    }
}

#[test]
fn a_client_that_knows_no_chunks_gets_none() {
    let stage = Stage::new(|_| {
        Answer::events().chunked().event(chunk("word")).event(finish()).event("[DONE]").last_chunk()
    });
    let length = STREAM.len();
    let request = format!(
        "POST {PATH} HTTP/1.0\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{STREAM}"
    );
    let answer = String::from_utf8(client::raw(stage.proxy.address, request.as_bytes())).expect("text");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.0 200 "), "{head}");
    assert!(!head.to_ascii_lowercase().contains("transfer-encoding"), "{head}");
    assert!(body.starts_with("data: {") && body.contains("word"), "{body}");
    assert!(body.ends_with("data: [DONE]\n\n"), "{body}");
    stage.assert_settled();
}
