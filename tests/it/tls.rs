//! An upstream over TLS is served like any other: long bodies, refusals, kept connections, cancels. And the end of an
//! answer is believed only where it is proved: whoever cuts the line must not make half an answer look whole.

use std::time::{Duration, Instant};

use demuxai::demo::faults::{self, good_stream};
use demuxai::demo::{Answer, Fake, Options, Received, Script};

use crate::support::proxy::Proxy;
use crate::support::stage::{self, CHAT, PATH, STREAM, chunk, finish, named};
use crate::support::tls::{Farewell, Front};
use crate::support::{asked, eventually};

const PLAIN: &str =
    r#"{"id":"c1","model":"m","choices":[{"message":{"content":"x"},"finish_reason":"stop"}]}"#;

/// A daemon whose provider `up` is reached over TLS.
struct Stage {
    proxy: Proxy,
    front: Front,
    fake: Fake,
}

fn stage(farewell: Farewell, answer: impl Fn(&Received) -> Script + Send + Sync + 'static) -> Stage {
    before(stage::upstream(answer), farewell)
}

fn before(fake: Fake, farewell: Farewell) -> Stage {
    let front = Front::before(fake.address(), farewell);
    let proxy = Proxy::start(&front.provider("up", "openai"));
    proxy.until_up("up");
    Stage { proxy, front, fake }
}

impl Stage {
    /// Of the metrics of provider `up` and model `m`.
    fn attempts(&self, outcome: &str, reason: &str) -> f64 {
        let series = format!(
            "demuxai_upstream_attempts_total{{model=\"m\",outcome=\"{outcome}\",provider=\"up\",reason=\"{reason}\"}}"
        );
        self.proxy.find_metric(&series).unwrap_or(0.0)
    }
}

#[test]
fn a_long_request_and_a_long_answer_pass_whole() {
    let stage = stage(Farewell::Said, |received| {
        let asked = received.json()["messages"][0]["content"].as_str().expect("text").to_owned();
        Answer::json(200).body(PLAIN.replace("\"x\"", &format!("\"{asked}\"")))
    });
    let long: String = (0..1_500_000).map(|n| char::from(b'a' + (n % 23) as u8)).collect();
    for _ in 0..3 {
        let answer = stage.proxy.post(PATH, &CHAT.replace("\"hi\"", &format!("\"{long}\"")));
        assert_eq!(answer.status, 200);
        assert!(
            answer.json()["choices"][0]["message"]["content"] == long.as_str(),
            "the text is another one"
        );
    }
    assert_eq!(stage.front.sessions(), 2, "the list's, which was closed, and one for the three");
}

#[test]
fn a_stream_passes_chunk_by_chunk_and_a_client_that_leaves_is_told_upstream_at_once() {
    let stage = stage(Farewell::Said, |_| {
        let parts = Answer::events().chunked().event(chunk("one")).gate("two").event(chunk("two"));
        parts.gate("three").event(chunk("three")).event(finish()).event("[DONE]").last_chunk()
    });
    let mut whole = stage.proxy.open(PATH, STREAM);
    whole.until("one");
    let mut left = stage.proxy.open(PATH, STREAM);
    left.until("one");
    assert!(!whole.so_far().contains("two"), "nothing waits for what comes after it");
    stage.fake.open_gate("two");
    whole.until("two");
    left.until("two");

    let leaving = Instant::now();
    left.leave();
    eventually("the upstream is left", || stage.fake.counts().cancelled, |cancelled| *cancelled == 1);
    let took = leaving.elapsed();
    println!("the upstream was left after {took:?}");
    assert!(took < Duration::from_millis(500), "{took:?}");

    stage.fake.open_gate("three");
    let events = [chunk("one"), chunk("two"), chunk("three"), finish()].map(|event| named(&event));
    let answer = whole.finish();
    assert!(answer.complete);
    assert_eq!(
        answer.text(),
        events.iter().map(|event| format!("data: {event}\n\n")).collect::<String>() + "data: [DONE]\n\n"
    );
}

#[test]
fn a_client_that_leaves_before_the_first_token_is_told_upstream_at_once() {
    let stage = stage(Farewell::Said, |_| faults::hang_before_head());
    let asked = crate::support::client::ask(stage.proxy.address, PATH, STREAM);
    eventually("the upstream is asked", || stage.fake.counts().open_requests, |open| *open == 1);
    let leaving = Instant::now();
    drop(asked);
    eventually("the upstream is left", || stage.fake.counts().cancelled, |cancelled| *cancelled == 1);
    assert!(leaving.elapsed() < Duration::from_millis(500), "{:?}", leaving.elapsed());
}

#[test]
fn a_kept_connection_that_the_upstream_closed_is_never_noticed_by_the_client() {
    for farewell in [Farewell::Said, Farewell::Missing] {
        let stage = stage(farewell, |_| Answer::json(200).body(PLAIN));
        for _ in 0..5 {
            assert_eq!(stage.proxy.post(PATH, CHAT).status, 200, "{farewell:?}");
            stage.fake.hang_up();
            eventually("it is closed", || stage.fake.counts().open_connections, |open| *open == 0);
        }
        assert_eq!((stage.attempts("ok", "none"), stage.attempts("error", "connect")), (5.0, 0.0));
        assert_eq!(
            stage.front.sessions(),
            6,
            "{farewell:?}: the list's, and a fresh one after each that was closed"
        );
    }
}

#[test]
fn a_kept_connection_that_dies_with_the_next_request_is_replaced_exactly_once() {
    for farewell in [Farewell::Said, Farewell::Missing] {
        let seen = std::sync::Mutex::new(std::collections::HashSet::new());
        let stage = stage(farewell, move |received| {
            if seen.lock().unwrap().insert(received.connection) {
                Answer::json(200).body(PLAIN)
            } else {
                faults::close_before_head()
            }
        });
        assert_eq!(stage.proxy.post(PATH, CHAT).status, 200);
        let second = stage.proxy.post(PATH, CHAT);
        assert_eq!(second.status, 200, "{farewell:?}: {}", second.text());
        assert_eq!(second.header("x-demuxai-attempts"), Some("up ok"));
        assert_eq!(asked(&stage.fake), 3, "{farewell:?}: the first, the one that died, and once more");
    }
}

#[test]
fn a_refusal_that_comes_before_the_request_was_read_arrives() {
    let too_large = r#"{"error":{"message":"too large for me","type":"invalid_request_error"}}"#;
    let options = Options::new(|received| {
        if received.method == "GET" {
            return Answer::json(200).body(r#"{"object":"list","data":[{"id":"m"}]}"#);
        }
        Answer::json(200).body(PLAIN)
    });
    let early = move |received: &Received| {
        (received.method == "POST").then(|| Answer::json(413).header("connection", "close").body(too_large))
    };
    let stage = before(Fake::start_with(options.early(early)).expect("fake upstream starts"), Farewell::Said);
    let long = CHAT.replace("\"hi\"", &format!("\"{}\"", "x".repeat(6 << 20)));
    for _ in 0..3 {
        let answer = stage.proxy.post(PATH, &long);
        assert_eq!(answer.status, 413, "{}", answer.text());
        assert_eq!(answer.error(), "too large for me");
    }
}

#[test]
fn an_answer_whose_end_only_the_connection_shows_needs_the_session_s_end() {
    for (farewell, status) in [(Farewell::Said, 200), (Farewell::Missing, 502)] {
        let stage = stage(farewell, |_| Answer::json(200).until_close().write(PLAIN).close());
        let answer = stage.proxy.post(PATH, CHAT);
        assert_eq!(answer.status, status, "{farewell:?}: {}", answer.text());
        if status == 502 {
            assert!(answer.error().contains("close_notify"), "{}", answer.error());
            assert_eq!(stage.attempts("error", "truncated"), 1.0);
        }
    }
}

#[test]
fn an_answer_that_says_itself_where_it_ends_needs_no_end_of_the_session() {
    let whole: [fn() -> Script; 3] = [
        || Answer::json(200).body(PLAIN).close(),
        || Answer::json(200).chunked().chunk(PLAIN).last_chunk().close(),
        || Answer::json(200).header("connection", "close").body(PLAIN).close(),
    ];
    for script in whole {
        let stage = stage(Farewell::Missing, move |_| script());
        let answer = stage.proxy.post(PATH, CHAT);
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    // And where it does not come to that place, the session's proper end makes it no better.
    let broken: [fn() -> Script; 2] =
        [|| faults::short_body(PLAIN, 9), || Answer::json(200).chunked().chunk(PLAIN).close()];
    for script in broken {
        for farewell in [Farewell::Said, Farewell::Missing] {
            let stage = stage(farewell, move |_| script());
            assert_eq!(stage.proxy.post(PATH, CHAT).status, 502, "{farewell:?}");
            assert_eq!(stage.attempts("error", "truncated"), 1.0, "{farewell:?}");
        }
    }
}

#[test]
fn a_stream_is_whole_by_its_finish_reason_and_not_by_the_end_of_the_connection() {
    let unframed = |events: Vec<String>| {
        let script = Answer::events().until_close();
        events.into_iter().fold(script, |script, event| script.write(format!("data: {event}\n\n"))).close()
    };
    for farewell in [Farewell::Said, Farewell::Missing] {
        for (events, complete) in [
            (vec![chunk("a"), finish(), "[DONE]".to_owned()], true),
            (vec![chunk("a"), finish()], true),
            (vec![chunk("a")], false),
        ] {
            let sent = events.clone();
            let stage = stage(farewell, move |_| unframed(sent.clone()));
            let answer = stage.proxy.open(PATH, STREAM).finish();
            assert_eq!(answer.complete, complete, "{farewell:?}, {events:?}: {}", answer.text());
            assert_eq!(
                answer.text().ends_with("data: [DONE]\n\n"),
                complete,
                "{farewell:?}: {}",
                answer.text()
            );
            let reason = if complete { "done" } else { "truncated" };
            let series = format!("demuxai_stream_ends_total{{provider=\"up\",reason=\"{reason}\"}}");
            eventually(
                "its end is counted",
                || stage.proxy.find_metric(&series),
                |count| *count == Some(1.0),
            );
        }
    }
    // In chunks it is the same.
    let stage = stage(Farewell::Missing, |_| good_stream("m", &["a"]).open().close());
    assert!(stage.proxy.open(PATH, STREAM).finish().complete);
}
