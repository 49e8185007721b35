//! The log: one line for each request that tells all of it, however it ended, and nothing of what was said.

use std::io::Write;
use std::net::TcpStream;

use demuxai::demo::faults::{self, good_stream};
use demuxai::demo::{Answer, Fake, Received, Script};
use serde_json::{Value, json};

use crate::support::client;
use crate::support::program::Program;
use crate::support::proxy::provider;
use crate::support::stage::{PATH, chunk, finish, upstream};
use crate::support::{eventually, nowhere};

/// The program in front of this upstream, with JSON lines of this level.
fn logging(fake: &Fake, level: &str) -> Program {
    let timeouts = "timeouts = { total = \"300ms\", first_token = \"300ms\", idle = \"300ms\" }";
    let log = format!("[log]\nlevel = \"{level}\"\nformat = \"json\"\n");
    let program = Program::serve(&format!("{}{timeouts}\n{log}", provider("up", "openai", &fake.url())));
    program.until_ready();
    program
}

fn request(case: &str, stream: bool) -> String {
    json!({"model": "up/m", "user": case, "stream": stream, "messages": [{"role": "user", "content": "PROMPT-TEXT, in a sentence"}]})
        .to_string()
}

/// All lines that tell of a request.
fn told(program: &Program) -> Vec<Value> {
    let log = program.stderr();
    let whole = log.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    let lines =
        whole.map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")));
    lines.filter(|line: &Value| line["message"] == "request").collect()
}

const USAGE: &str = r#""usage":{"prompt_tokens":11,"completion_tokens":7}"#;

fn play(received: &Received) -> Script {
    match received.json()["user"].as_str().unwrap() {
        "plain" => Answer::json(200).body(format!(
            "{{\"id\":\"c1\",\"model\":\"m\",\"choices\":[{{\"message\":{{\"content\":\"ANSWER-TEXT\"}}}}],{USAGE}}}"
        )),
        "stream" => {
            let last = finish().replace("\"choices\"", &format!("{USAGE},\"choices\""));
            Answer::events().chunked().event(chunk("ANSWER-TEXT")).event(last).event("[DONE]").last_chunk()
        }
        "refused" => faults::json_error(429),
        "in band" => faults::error_mid_stream(good_stream("m", &["ANSWER-TEXT"]), 2),
        "truncated" => faults::close_mid_stream(good_stream("m", &["ANSWER-TEXT"]), 2),
        "reset" => faults::reset_before_head(),
        "slow" => faults::hang_before_head(),
        "left" => faults::hang_mid_stream(good_stream("m", &["ANSWER-TEXT"]), 2),
        other => panic!("{other}"),
    }
}

#[test]
fn every_request_is_told_in_exactly_one_line_however_it_ends() {
    let fake = upstream(play);
    let program = logging(&fake, "info");
    let address = program.address();
    let cases: [(&str, bool, u16, &str); 8] = [
        ("plain", false, 200, "ok"),
        ("stream", true, 200, "ok"),
        ("refused", false, 429, "upstream_status"),
        ("refused", true, 429, "upstream_status"),
        ("in band", true, 200, "upstream_error"),
        ("truncated", true, 200, "truncated"),
        ("reset", false, 502, "connect"),
        ("slow", true, 504, "timeout"),
    ];
    for (number, (case, stream, status, outcome)) in cases.iter().enumerate() {
        let answer = client::post(address, PATH, &request(case, *stream));
        assert_eq!(answer.status, *status, "{case}: {}", answer.text());
        let lines = eventually("it is told", || told(&program), |lines| lines.len() == number + 1);
        let line = &lines[number];
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["request_id"], answer.header("x-request-id").unwrap(), "{case}");
        assert_eq!((&line["outcome"], &line["status"]), (&json!(outcome), &json!(status)), "{case}: {line}");
        for (name, value) in
            [("listener", "test"), ("endpoint", "chat"), ("provider", "up"), ("model", "up/m")]
        {
            assert_eq!(line[name], value, "{case}: {line}");
        }
        assert!(line["duration_ms"].as_f64().is_some_and(|time| time >= 0.0), "{case}: {line}");
        let begun = *stream && *status == 200;
        assert_eq!(line["ttft_ms"].is_number(), begun, "{case}: {line}");
        let counted = matches!(*case, "plain" | "stream");
        assert_eq!(
            (line["input_tokens"] == 11, line["output_tokens"] == 7),
            (counted, counted),
            "{case}: {line}"
        );
        assert_eq!(line["error"].is_string(), *outcome != "ok", "{case}: {line}");
    }

    // Those that nobody heard the end of.
    let mut stays = client::open(address, "POST", PATH, &[], request("left", true).as_bytes());
    stays.until("ANSWER-TEXT");
    let id = stays.header("x-request-id").unwrap().to_owned();
    stays.leave();
    let lines = eventually("it is told", || told(&program), |lines| lines.len() == 9);
    assert_eq!((&lines[8]["request_id"], &lines[8]["outcome"]), (&json!(id), &json!("cancelled")));
    assert_eq!((&lines[8]["status"], &lines[8]["provider"]), (&json!(200), &json!("up")));
    assert!(lines[8]["ttft_ms"].is_number());

    let mut leaves = TcpStream::connect(address).unwrap();
    let body = request("slow", false);
    let head =
        format!("POST {PATH} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    leaves.write_all(head.as_bytes()).unwrap();
    eventually("it is asked", || fake.counts(), |counts| counts.open_requests == 1);
    drop(leaves);
    let lines = eventually("it is told", || told(&program), |lines| lines.len() == 10);
    assert_eq!((&lines[9]["outcome"], &lines[9]["provider"]), (&json!("cancelled"), &json!("up")));
    assert_eq!(lines[9]["status"], 0, "nothing was answered");

    // And those that reached nobody.
    for body in ["no JSON", r#"{"model":"up/none","messages":[]}"#] {
        client::post(address, PATH, body);
    }
    let lines = eventually("they are told", || told(&program), |lines| lines.len() == 12);
    assert_eq!((&lines[10]["outcome"], &lines[10]["status"]), (&json!("invalid_request"), &json!(400)));
    assert_eq!((&lines[11]["outcome"], &lines[11]["status"]), (&json!("model_not_found"), &json!(404)));
    assert!(lines[10]["provider"].is_null() && lines[11]["provider"].is_null());
    let log = program.stderr();
    assert!(!log.contains("PROMPT-TEXT") && !log.contains("ANSWER-TEXT"), "{log}");
}

#[test]
fn an_upstream_that_repeats_the_prompt_in_its_errors_does_not_get_it_into_the_log() {
    let fake = upstream(|received| {
        let json = received.json();
        let said = json["messages"][0]["content"].as_str().unwrap();
        let error = json!({"error": {"message": format!("cannot answer {said}"), "type": said, "param": said, "code": said}});
        let detail = json!({"detail": [{"loc": ["body", said], "msg": said, "input": said}]});
        match json["user"].as_str().unwrap() {
            "status" => Answer::json(400).value(&error),
            "detail" => Answer::json(422).value(&detail),
            "in band" => Answer::json(200).value(&error),
            "first" => Answer::events().chunked().event(error.to_string()).last_chunk(),
            "later" => {
                Answer::events().chunked().event(chunk("ANSWER-TEXT")).event(error.to_string()).last_chunk()
            }
            "garbage" => {
                Answer::events().chunked().event(chunk("ANSWER-TEXT")).event(format!("{{{said}")).last_chunk()
            }
            "no answer" => Answer::json(200).body(format!("{{{said}")),
            "no JSON" => Answer::json(500).body(said.to_owned()),
            other => panic!("{other}"),
        }
    });
    let program = logging(&fake, "trace,actix_http=trace");
    let cases = ["status", "detail", "in band", "first", "later", "garbage", "no answer", "no JSON"];
    for case in cases {
        for stream in [false, true] {
            let answer = client::post(program.address(), PATH, &request(case, stream));
            if matches!(case, "status" | "in band") {
                assert!(
                    answer.text().contains("cannot answer PROMPT-TEXT"),
                    "the client is told: {}",
                    answer.text()
                );
            }
        }
    }
    eventually("all are told", || told(&program), |lines| lines.len() == 2 * cases.len());
    let log = program.stderr();
    for word in ["PROMPT-TEXT", "ANSWER-TEXT", "test-key-up"] {
        let found: Vec<&str> = log.lines().filter(|line| line.contains(word)).collect();
        assert!(found.is_empty(), "`{word}`: {found:#?}");
    }
    let metrics = client::get(program.address(), "/metrics").text();
    assert!(!metrics.contains("PROMPT-TEXT"), "{metrics}");
}

#[test]
fn a_line_about_an_unreachable_upstream_names_the_model_that_was_asked_for_and_the_metric_does_not() {
    let text = format!("{}[log]\nformat = \"json\"\n", provider("up", "openai", &nowhere()));
    let program = Program::serve(&text);
    client::post(program.address(), PATH, &request("plain", false));
    let failed = || -> Vec<Value> {
        let log = program.stderr();
        let whole = log.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        let lines = whole.map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        lines.filter(|line| line["message"] == "upstream failed").collect()
    };
    let lines = eventually("it is told", failed, |lines| !lines.is_empty());
    assert_eq!(lines[0]["model"], "m", "{}", lines[0]);
    let metrics = client::get(program.address(), "/metrics").text();
    assert!(metrics.contains("demuxai_upstream_attempts_total{model=\"other\""), "{metrics}");
}
