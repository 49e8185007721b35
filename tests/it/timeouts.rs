//! The five times after which an upstream is given up, each by its name; and the one retry: on a fresh connection,
//! when a reused one turns out dead.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use demuxai::demo::faults::{self, good_stream};
use demuxai::demo::{Answer, Fake, Script};
use serde_json::Value;
use socket2::{Domain, Socket, Type};

use crate::support::client;
use crate::support::eventually;
use crate::support::proxy::{Proxy, provider};
use crate::support::stage::{CHAT, PATH, STREAM, Stage, chunk, finish};

const PLAIN: &str =
    r#"{"id":"c1","model":"m","choices":[{"message":{"content":"x"},"finish_reason":"stop"}]}"#;

/// A time-out that struck in time, and says which it was.
#[track_caller]
fn assert_timed_out(answer: &client::Answer, started: Instant, setting: &str) {
    assert_eq!(answer.status, 504, "{}", answer.text());
    assert!(answer.error().contains(&format!("timeouts.{setting}")), "{}", answer.error());
    assert_eq!(
        answer.json()["error"]["code"],
        if setting == "connect" { "connect_timeout" } else { "timeout" }
    );
    assert!(started.elapsed() >= Duration::from_millis(200), "too early: {:?}", started.elapsed());
    assert!(started.elapsed() < Duration::from_secs(2), "too late: {:?}", started.elapsed());
}

/// A daemon whose provider `up` has this address and this much patience for connecting.
fn unreachable(url: &str) -> Proxy {
    let timeouts = "models = [\"m\"]\ntimeouts = { connect = \"250ms\", first_token = 20, total = 20 }\n";
    Proxy::start(&format!("{}{timeouts}", provider("up", "openai", url)))
}

#[test]
fn an_upstream_whose_tls_never_answers_is_given_up_after_connect() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = unreachable(&format!("https://{}", silent.local_addr().unwrap()));
    for body in [CHAT, STREAM] {
        let started = Instant::now();
        assert_timed_out(&proxy.post(PATH, body), started, "connect");
    }
}

#[test]
fn an_upstream_that_takes_no_connections_is_given_up_after_connect() {
    // A full backlog: the kernel drops what comes to it, as a firewall does.
    let full = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    full.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    full.listen(0).unwrap();
    let address = full.local_addr().unwrap().as_socket().unwrap();
    let fill = || std::net::TcpStream::connect_timeout(&address, Duration::from_millis(100));
    let _filling: Vec<_> = (0..8).map(|_| fill()).take_while(Result::is_ok).collect();
    let proxy = unreachable(&format!("http://{address}"));
    let started = Instant::now();
    assert_timed_out(&proxy.post(PATH, STREAM), started, "connect");
    assert_eq!(proxy.status_of("up")["health"], "unreachable");
}

#[test]
fn an_upstream_that_is_not_there_is_said_to_be_so_at_once() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let proxy = unreachable(&format!("http://{gone}"));
    let answer = proxy.post(PATH, CHAT);
    assert_eq!(answer.status, 502);
    assert!(
        answer.error().contains(&format!("cannot connect to {gone}: connection refused")),
        "{}",
        answer.error()
    );
    assert_eq!(proxy.status_of("up")["health"], "unreachable");
}

#[test]
fn a_stream_without_a_first_token_is_given_up_and_the_upstream_left() {
    let scripts: [fn() -> Script; 4] = [
        faults::hang_before_head,
        faults::hang_after_head,
        || faults::hang_mid_stream(good_stream("m", &["a"]), 1),
        // Comments are no tokens, however many there are.
        || Answer::events().chunked().repeat("b\r\n: waiting\n\n\r\n", u64::MAX),
    ];
    for script in scripts {
        let stage = Stage::with("timeouts = { first_token = \"250ms\" }", "", move |_| script());
        let started = Instant::now();
        assert_timed_out(&stage.stream(), started, "first_token");
        eventually("the upstream is left", || stage.fake.counts(), |counts| counts.cancelled == 1);
        assert_eq!((stage.outcomes("timeout"), stage.attempts("error", "timeout")), (1.0, 1.0));
        stage.assert_settled();
    }
}

#[test]
fn a_slow_prefill_is_not_given_up_for_the_time_between_tokens() {
    let stage = Stage::with("timeouts = { first_token = 20, idle = \"100ms\" }", "", |_| {
        let late = Duration::from_millis(300);
        Script::new().pause(late).then(faults::slow_first_token(good_stream("m", &["a"]), late))
    });
    let answer = stage.stream();
    assert_eq!(
        answer.status,
        200,
        "the time between tokens begins with the first of them: {}",
        answer.text()
    );
    assert!(answer.text().ends_with("data: [DONE]\n\n"), "{}", answer.text());
}

#[test]
fn the_time_to_the_first_token_does_not_bind_plain_answers() {
    let stage = Stage::with("timeouts = { first_token = \"50ms\", idle = \"50ms\" }", "", |_| {
        let late = Duration::from_millis(200);
        Script::new().pause(late).then(
            Answer::json(200).chunked().chunk(&PLAIN[..20]).pause(late).chunk(&PLAIN[20..]).last_chunk(),
        )
    });
    assert_eq!(stage.chat().status, 200);
}

#[test]
fn a_plain_answer_is_given_up_after_total_wherever_it_hangs() {
    let scripts: [fn() -> Script; 3] = [
        faults::hang_before_head,
        || Answer::json(200).chunked().hang(),
        || Answer::json(200).chunked().chunk(&PLAIN[..20]).hang(),
    ];
    for script in scripts {
        let stage = Stage::with("timeouts = { total = \"250ms\" }", "", move |_| script());
        let started = Instant::now();
        assert_timed_out(&stage.chat(), started, "total");
        eventually("the upstream is left", || stage.fake.counts(), |counts| counts.cancelled == 1);
        stage.assert_settled();
    }
}

#[test]
fn the_total_of_plain_answers_does_not_bind_streams() {
    let stage = Stage::with("timeouts = { total = \"50ms\" }", "", |_| {
        let late = Duration::from_millis(100);
        Script::new().pause(late).then(faults::slow_first_token(good_stream("m", &["a"]), late))
    });
    let answer = stage.stream();
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.text().ends_with("data: [DONE]\n\n"), "{}", answer.text());
}

/// A stream that was given up after its first token: an error event with the setting's name, and a cut.
#[track_caller]
fn assert_cut(answer: &client::Answer, setting: &str) {
    assert_eq!(answer.status, 200);
    assert!(!answer.complete && !answer.text().contains("[DONE]"), "{}", answer.text());
    let last: Value = serde_json::from_str(answer.events().last().unwrap()).unwrap();
    let message = last["error"]["message"].as_str().unwrap_or_else(|| panic!("no error: {last}"));
    assert!(message.contains(&format!("timeouts.{setting}")), "{message}");
}

#[test]
fn a_stream_that_falls_silent_is_given_up_after_idle_and_the_upstream_left() {
    let stage = Stage::with("timeouts = { idle = \"250ms\" }", "", |_| {
        faults::hang_mid_stream(good_stream("m", &["word"]), 2)
    });
    let started = Instant::now();
    let answer = stage.stream();
    assert_cut(&answer, "idle");
    assert!(answer.text().contains("word"));
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    eventually("the upstream is left", || stage.fake.counts(), |counts| counts.cancelled == 1);
    eventually("it is counted", || stage.stream_ends("idle"), |count| *count == 1.0);
    assert_eq!(stage.outcomes("timeout"), 1.0);
    stage.assert_settled();
}

#[test]
fn a_slow_stream_that_never_rests_longer_than_idle_is_not_given_up() {
    let stage = Stage::with("timeouts = { idle = \"400ms\", first_token = \"400ms\" }", "", |_| {
        let flow = (0..8).fold(Answer::events().chunked(), |script, _| {
            script.event(chunk("w")).pause(Duration::from_millis(100))
        });
        flow.event(finish()).event("[DONE]").last_chunk()
    });
    assert!(stage.stream().complete, "each event begins the time anew");
}

#[test]
fn a_stream_is_given_up_after_its_own_total_whether_it_drips_floods_or_waits() {
    let drip: fn() -> Script = || {
        (0..1000).fold(Answer::events().chunked(), |script, _| {
            script.event(chunk("w")).pause(Duration::from_millis(20))
        })
    };
    let flood: fn() -> Script = || {
        let frame = format!("data: {}\n\n", chunk("w"));
        Answer::events().chunked().repeat(format!("{:x}\r\n{frame}\r\n", frame.len()), u64::MAX)
    };
    for script in [drip, flood] {
        let stage = Stage::with("timeouts = { total_stream = \"300ms\" }", "", move |_| script());
        let started = Instant::now();
        let answer = stage.stream();
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
        assert_cut(&answer, "total_stream");
        stage.assert_settled();
    }
    let stage = Stage::with("timeouts = { total_stream = \"250ms\" }", "", |_| faults::hang_after_head());
    let started = Instant::now();
    assert_timed_out(&stage.stream(), started, "total_stream");
}

// --- the one retry --------------------------------------------------------------------------------------------------

/// An upstream that answers well on the first request of every connection, and then does this.
fn second_time(then: fn() -> Script) -> Stage {
    let seen = std::sync::Mutex::new(std::collections::HashSet::new());
    Stage::new(move |received| {
        if seen.lock().unwrap().insert(received.connection) { Answer::json(200).body(PLAIN) } else { then() }
    })
}

#[test]
fn a_reused_connection_that_died_is_replaced_by_a_fresh_one_exactly_once() {
    for then in [faults::close_before_head, faults::reset_before_head] {
        let stage = second_time(then);
        assert_eq!(stage.chat().status, 200);
        let second = stage.chat();
        assert_eq!(second.status, 200, "{}", second.text());
        let asked = stage.asked();
        assert_eq!(asked.len(), 3, "the dead connection and the fresh one");
        assert_eq!(asked[0].connection, asked[1].connection);
        assert_ne!(asked[1].connection, asked[2].connection);
        assert_eq!(asked[1].body, asked[2].body);
        assert_eq!(second.header("x-demuxai-attempts"), Some("up ok"));
        assert_eq!((stage.attempts("ok", "none"), stage.outcomes("ok")), (2.0, 2.0));
        stage.assert_settled();
    }
}

#[test]
fn a_stale_connection_closed_while_idle_is_never_noticed_by_the_client() {
    let stage = Stage::new(|_| Answer::json(200).body(PLAIN));
    for _ in 0..5 {
        assert_eq!(stage.chat().status, 200);
        stage.fake.hang_up();
    }
    assert_eq!(stage.asked().len(), 5);
}

#[test]
fn a_fresh_connection_that_dies_is_not_tried_again() {
    for script in [faults::close_before_head, faults::reset_before_head] {
        let stage = Stage::new(move |_| script());
        for _ in 0..2 {
            assert_eq!(stage.chat().status, 502);
        }
        assert_eq!(stage.asked().len(), 2, "one for each request of the client");
    }
}

#[test]
fn a_fresh_connection_that_dies_in_the_retry_is_not_tried_a_third_time() {
    let stage = Stage::new(|received| match received.order {
        // The list, and the answer that leaves a connection behind.
        0 | 1 => Answer::json(200).body(PLAIN),
        _ => faults::close_before_head(),
    });
    assert_eq!(stage.chat().status, 200);
    assert_eq!(stage.chat().status, 502);
    assert_eq!(stage.asked().len(), 3);
}

#[test]
fn a_request_is_not_sent_twice_when_its_answer_had_begun() {
    let begun: [fn() -> Script; 4] = [
        faults::close_within_head,
        || Script::new().write("H").reset(),
        || faults::short_body(PLAIN, 9),
        || Answer::json(200).chunked().chunk("{").reset(),
    ];
    for then in begun {
        let stage = second_time(then);
        assert_eq!(stage.chat().status, 200);
        assert_eq!(stage.chat().status, 502);
        assert_eq!(stage.asked().len(), 2);
        stage.assert_settled();
    }
}

#[test]
fn a_status_is_never_retried_by_itself() {
    for status in [408, 409, 429, 500, 502, 503, 504, 529] {
        let stage = Stage::new(move |_| faults::json_error(status));
        assert_eq!(stage.chat().status, status);
        assert_eq!(stage.stream().status, status);
        assert_eq!(stage.asked().len(), 2);
    }
}

#[test]
fn a_restarted_upstream_is_found_again_at_once() {
    let stage = Stage::new(|_| Answer::json(200).body(PLAIN));
    assert_eq!(stage.chat().status, 200);
    let Stage { proxy, fake } = stage;
    let address = fake.address();
    drop(fake);
    assert_eq!(proxy.post(PATH, CHAT).status, 502);
    assert_eq!(proxy.metric("demuxai_provider_up{provider=\"up\"}"), 0.0);
    let options = demuxai::demo::Options::new(|_| Answer::json(200).body(PLAIN)).address(address);
    let _again = Fake::start_with(options).unwrap();
    assert_eq!(proxy.post(PATH, CHAT).status, 200);
    assert_eq!(proxy.status_of("up")["health"], "up");
    assert_eq!(proxy.metric("demuxai_provider_up{provider=\"up\"}"), 1.0);
}
