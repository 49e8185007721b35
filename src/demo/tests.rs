//! The demo as a whole, over real sockets.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

fn request(method: &str, path: &str, key: &str, body: &str) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nHost: demo\r\nConnection: close\r\nAuthorization: Bearer {key}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

async fn exchange(fake: &Fake, request: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect(fake.address()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn the_demo_has_all_six_types_and_each_lists_its_models_to_its_key() {
    let demo = Demo::start(Duration::ZERO).unwrap();
    let ids: Vec<&str> = demo.providers().iter().map(|provider| provider.id).collect();
    assert_eq!(ids, ["ollama", "ollama-cloud", "github", "mistral", "codestral", "fireworks"]);
    for provider in demo.providers() {
        let base = provider.url.strip_prefix(&provider.fake.url()).unwrap();
        let path = if provider.kind == "github" { "/catalog/models" } else { "/v1/models" };
        let key = provider.api_key.unwrap_or("any");
        let answer = exchange(&provider.fake, &request("GET", &format!("{base}{path}"), key, "")).await;
        let transcript = format!("tests/transcripts/{}/models.http", provider.kind);
        let transcript = std::fs::read_to_string(transcript).unwrap();
        assert_eq!(answer, Transcript::parse(&transcript).unwrap().script().wire(), "{}", provider.id);
        assert_eq!(provider.fake.counts().requests, 1);
        assert!(provider.fake.received().is_empty(), "{} keeps nothing", provider.id);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_takes_its_pace_and_arrives_byte_by_byte_as_scripted() {
    let pace = Duration::from_millis(25);
    let setup = Setup { pace, ..Setup::default() };
    let fake = Fake::start_here(Upstream::Fireworks.options(setup.clone())).await.unwrap();
    let body = r#"{"model":"accounts/fireworks/models/glm-5","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
    let start = tokio::time::Instant::now();
    let answer = exchange(&fake, &request("POST", "/inference/v1/chat/completions", "", body)).await;
    let expected = Upstream::Fireworks.answer(&setup, &fake.last_received().unwrap());
    assert_eq!(answer, expected.wire());
    let pauses = expected.steps().iter().filter(|step| matches!(step, Step::Pause(_))).count();
    assert!(pauses > 20 && start.elapsed() >= pace * u32::try_from(pauses).unwrap());
}

#[tokio::test]
async fn every_fault_reaches_a_client_as_bytes_or_as_an_error_and_never_kills_the_fake() {
    let stream = || faults::good_stream("m", &["a", "b"]);
    let scripts: Vec<(Script, bool)> = vec![
        (faults::close_before_head(), true),
        (faults::close_mid_stream(stream(), 2), true),
        (faults::close_within_chunk(stream(), 2), true),
        (faults::short_body("{}", 3), true),
        (faults::close_delimited_stream(stream()), true),
        (faults::not_http(), true),
        (faults::html_502().close(), true),
        (faults::crlf(stream()).close(), true),
        (faults::byte_by_byte(stream(), Duration::ZERO).close(), true),
        (faults::reset_before_head(), false),
        (faults::reset_mid_stream(stream(), 2), false),
    ];
    let count = scripts.len();
    let played = scripts.clone();
    let fake = Fake::start(move |received| {
        let order = usize::try_from(received.order).unwrap();
        played[order % played.len()].0.clone()
    })
    .unwrap();
    for (script, clean) in scripts {
        let mut socket = TcpStream::connect(fake.address()).await.unwrap();
        socket.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        let end = socket.read_to_end(&mut answer).await;
        assert_eq!(end.is_ok(), clean, "{script:?}");
        if clean {
            assert_eq!(answer, script.wire());
        }
    }
    let all = u64::try_from(count).unwrap();
    let counts = fake.wait_for(move |counts| counts.completed == all).await.unwrap();
    assert_eq!(counts.cancelled, 0);
}
