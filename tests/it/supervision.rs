//! A provider's actor that falls, or whose arbiter hangs or dies, is back at once; nothing else notices.

mod faulty;
mod neighbour;
mod reloaded;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use demuxai::demo::script::{Answer, Script};
use demuxai::demo::server::Fake;
use demuxai::provider::registry::{ProviderKind, Registry};

use crate::support::client;
use crate::support::eventually;
use crate::support::proxy::{Proxy, provider};
use faulty::{Fault, Faulty, Place};
use neighbour::Neighbour;

const LIST: &str = r#"{"object":"list","data":[{"id":"m","object":"model"}]}"#;
const CHAT: &str = r#"{"model":"faulty/m","messages":[{"role":"user","content":"hi"}]}"#;
const STREAM: &str = r#"{"model":"ID/m","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
const ANSWER: &str = r#"{"id":"c","object":"chat.completion","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"ok"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}"#;

/// An upstream that answers at once, and streams in two parts with a gate between them.
fn upstream() -> Fake {
    Fake::start(|received| {
        if received.path().ends_with("/models") {
            return Answer::json(200).body(LIST);
        }
        if received.json()["stream"] == true {
            return streamed(received.json()["messages"][0]["content"] == "linger");
        }
        Answer::json(200).body(ANSWER)
    })
    .expect("fake upstream starts")
}

/// With `lingers` there is a gate before the end is said, too.
fn streamed(lingers: bool) -> Script {
    let part = |text: &str| {
        format!(
            r#"{{"id":"c","object":"chat.completion.chunk","model":"m","choices":[{{"index":0,"delta":{{"content":"{text}"}},"finish_reason":null}}]}}"#
        )
    };
    let last = r#"{"id":"c","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
    let parts =
        Answer::events().chunked().event(part("first")).gate("second half").event(part("second")).event(last);
    let parts = if lingers { parts.gate("end") } else { parts };
    parts.event("[DONE]").last_chunk()
}

struct Stage {
    faulty: &'static Faulty,
    fake: Fake,
    proxy: Proxy,
    /// The neighbour's upstream.
    _other: Fake,
}

/// A daemon with the faulty provider and a healthy one beside it, each with an upstream of its own.
fn stage(extra: &str) -> Stage {
    let faulty = Faulty::leak();
    let (fake, other) = (upstream(), neighbour::upstream());
    let registry = Registry::builtin().with(ProviderKind { name: "faulty", aliases: &[], adapter: faulty });
    let text = format!(
        "{}limits = [{{ requests = 1000, per = \"day\" }}]\n{extra}\n{}",
        provider("faulty", "faulty", &fake.url()),
        provider("well", "openai", &other.url())
    );
    let proxy = Proxy::with_registry(&text, registry);
    eventually(
        "both providers are up",
        || (proxy.status_of("faulty"), proxy.status_of("well")),
        |(faulty, well)| faulty["health"] == "up" && well["health"] == "up",
    );
    Stage { faulty, fake, proxy, _other: other }
}

fn restarts(proxy: &Proxy) -> u64 {
    proxy.status_of("faulty")["restarts"].as_u64().expect("restarts")
}

/// What is counted of the faulty provider. None of it may be lost or counted twice, whatever becomes of the actor.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Counters {
    /// Requests that ended well.
    ok: f64,
    /// Calls to the upstream that ended well.
    attempts: f64,
    output_tokens: f64,
    streams_done: f64,
    streams_failed: f64,
    /// Requests that the ledger knows of.
    used: u64,
    in_flight: u64,
}

impl Counters {
    fn of(proxy: &Proxy) -> Counters {
        let series = |name: &str| proxy.find_metric(name).unwrap_or(0.0);
        let ends = |reason: &str| {
            series(&format!("demuxai_stream_ends_total{{provider=\"faulty\",reason=\"{reason}\"}}"))
        };
        let status = proxy.status_of("faulty");
        Counters {
            ok: series(
                "demuxai_requests_total{backend=\"faulty\",endpoint=\"chat\",listener=\"test\",model=\"m\",outcome=\"ok\",provider=\"faulty\"}",
            ),
            attempts: series(
                "demuxai_upstream_attempts_total{model=\"m\",outcome=\"ok\",provider=\"faulty\",reason=\"none\"}",
            ),
            output_tokens: series(
                "demuxai_tokens_total{model=\"m\",provider=\"faulty\",source=\"upstream\",type=\"output\"}",
            ),
            streams_done: ends("done"),
            streams_failed: ends("upstream_error"),
            used: status["limits"][0]["used"].as_u64().expect("used"),
            in_flight: status["in_flight"].as_u64().expect("in_flight"),
        }
    }

    /// Waits until they are so.
    #[track_caller]
    fn become_of(proxy: &Proxy, wanted: Counters) {
        eventually("all is counted, and once", || Counters::of(proxy), |seen| *seen == wanted);
    }
}

#[test]
fn a_panic_in_a_handler_costs_its_own_request_only() {
    survives_a_panic(Place::Handler);
}

#[test]
fn a_panic_in_a_timer_costs_nobody_anything() {
    survives_a_panic(Place::Timer);
}

#[test]
fn a_panic_in_a_future_of_the_context_costs_nobody_anything() {
    survives_a_panic(Place::Future);
}

/// After three answers a stream that has begun, and what is counted then.
fn busy(proxy: &Proxy) -> (client::Reading, Counters) {
    for _ in 0..3 {
        assert_eq!(proxy.post("/v1/chat/completions", CHAT).status, 200);
    }
    let mut stream = proxy.open("/v1/chat/completions", &STREAM.replace("ID", "faulty"));
    stream.until("first");
    let counted = Counters {
        ok: 3.0,
        attempts: 3.0,
        output_tokens: 3.0,
        streams_done: 0.0,
        streams_failed: 0.0,
        used: 4,
        in_flight: 1,
    };
    Counters::become_of(proxy, counted);
    (stream, counted)
}

fn survives_a_panic(place: Place) {
    let Stage { faulty, fake, proxy, _other } = stage("cache_seconds = 1");
    let (running, before) = busy(&proxy);
    let thread = faulty.thread();
    let neighbour = Neighbour::watch(proxy.address, "well");

    faulty.strikes(place, Fault::WaitThenPanic);
    let struck = (place == Place::Handler).then(|| client::ask(proxy.address, "/v1/chat/completions", CHAT));
    eventually("the actor waits before it falls", || faulty.waiting(), |waiting| *waiting == 1);
    let queued: Vec<_> = (0..5).map(|_| client::ask(proxy.address, "/v1/chat/completions", CHAT)).collect();
    // The listener has one thread, so what was asked before this has been sent on when it is answered.
    assert_eq!(proxy.get("/v1/models").status, 200);
    neighbour.for_a_while();
    assert_eq!(restarts(&proxy), 0);
    faulty.release();
    for request in queued {
        assert_eq!(request.answer().status, 200, "queued behind a panic in the {place:?}");
    }
    if let Some(struck) = struck {
        assert_eq!(struck.answer().status, 503);
    }

    assert_eq!(restarts(&proxy), 1);
    assert_eq!(proxy.metric("demuxai_actor_restarts_total{provider=\"faulty\"}"), 1.0);
    assert_eq!(faulty.thread(), thread, "the arbiter is the same: its actor fell, and nothing else");
    let after = Counters {
        ok: before.ok + 5.0,
        attempts: before.attempts + 5.0,
        output_tokens: before.output_tokens + 5.0,
        used: before.used + 5,
        ..before
    };
    Counters::become_of(&proxy, after);

    fake.open_gate("second half");
    let answer = running.finish();
    assert!(answer.complete && answer.text().contains("second"), "the stream goes on");
    assert!(answer.text().ends_with("data: [DONE]\n\n"), "{}", answer.text());
    Counters::become_of(
        &proxy,
        Counters {
            ok: after.ok + 1.0,
            attempts: after.attempts + 1.0,
            streams_done: 1.0,
            in_flight: 0,
            ..after
        },
    );
    neighbour.stop().assert_unhurt(&format!("a panic in the {place:?}"));

    let lists = || fake.received().iter().filter(|received| received.path().ends_with("/models")).count();
    let listed = lists();
    eventually("the list is fetched again", lists, |now| *now > listed);
    assert_eq!(proxy.status_of("faulty")["health"], "up");
}

#[test]
fn an_actor_that_falls_again_and_again_is_down_while_it_pauses_and_then_back() {
    let Stage { faulty, fake: _fake, proxy, _other } = stage("");
    for _ in 0..4 {
        faulty.strikes(Place::Handler, Fault::Panic);
        assert_eq!(proxy.post("/v1/chat/completions", CHAT).status, 503);
    }
    eventually("all falls are counted", || restarts(&proxy), |count| *count == 4);
    // After the pause it serves again; meanwhile it refuses at once instead of queueing.
    let back = eventually(
        "it serves again",
        || proxy.post("/v1/chat/completions", CHAT).status,
        |code| *code == 200,
    );
    assert_eq!(back, 200);
}

#[test]
fn a_blocked_arbiter_is_replaced_and_its_streams_end_honestly() {
    // Five seconds without an answer, and up to two until the next look.
    replaced(Fault::Block, Duration::from_secs(10));
}

#[test]
fn a_dead_arbiter_is_replaced_and_its_streams_end_honestly() {
    replaced(Fault::Die, Duration::from_secs(5));
}

#[test]
fn an_answer_that_is_whole_does_not_end_as_a_broken_one_when_its_arbiter_dies() {
    let Stage { faulty, fake, proxy, _other } = stage("");
    let body = STREAM.replace("ID", "faulty").replace("\"hi\"", "\"linger\"");
    let mut own = proxy.open("/v1/chat/completions", &body);
    fake.open_gate("second half");
    own.until("\"finish_reason\":\"stop\"");
    faulty.strikes(Place::Handler, Fault::Die);
    proxy.post("/v1/chat/completions", CHAT);
    let own = own.finish();
    assert!(own.complete && own.text().ends_with("\"stop\"}]}\n\ndata: [DONE]\n\n"), "{}", own.text());
    assert!(!own.text().contains("error"), "{}", own.text());
    eventually(
        "its seats are settled",
        || proxy.status_of("faulty")["in_flight"].clone(),
        |seats| *seats == 0,
    );
}

/// An arbiter that is struck so serves no more; a fresh one does, within this time.
#[expect(clippy::print_stdout, reason = "what was measured is shown on demand")]
fn replaced(fault: Fault, within: Duration) {
    let Stage { faulty, fake, proxy, _other } = stage("");
    let (own, before) = busy(&proxy);
    let thread = faulty.thread();
    let neighbour = Neighbour::watch(proxy.address, "well");

    faulty.strikes(Place::Handler, fault);
    let struck = client::ask(proxy.address, "/v1/chat/completions", CHAT);
    eventually("it is struck", || faulty.has_struck(Place::Handler), |struck| *struck);
    let began = Instant::now();
    let own = own.finish();
    let ended = began.elapsed();
    let fresh = eventually(
        "the provider serves on a fresh arbiter",
        || proxy.post("/v1/chat/completions", CHAT).status,
        |code| *code == 200,
    );
    let served = began.elapsed();
    println!("{fault:?}: its stream ended after {ended:?}, a fresh arbiter served after {served:?}");
    assert!(fresh == 200 && served <= within, "{fault:?}: it took {served:?}");
    assert_ne!(faulty.thread(), thread, "the arbiter is a fresh one");
    let struck = struck.answer();
    assert!(struck.status == 503 || struck.status == 200, "{}", struck.text());
    neighbour.stop().assert_unhurt(&format!("{fault:?}"));

    assert!(!own.complete, "the connection ends without a proper end");
    let events = own.events();
    let last: serde_json::Value = serde_json::from_str(events.last().expect("an event")).expect("JSON");
    assert!(last["error"]["message"].is_string(), "{last}");
    assert!(!own.text().contains("[DONE]") && !own.text().contains("finish_reason\":\"stop"));

    assert_eq!(restarts(&proxy), 1);
    let settled = eventually("its seats are settled", || Counters::of(&proxy), |seen| seen.in_flight == 0);
    // The one that was struck may have got through to the upstream before its arbiter was gone.
    let lucky = u64::from(struck.status == 200);
    assert_eq!(settled.streams_failed, 1.0);
    assert_eq!(settled.ok, before.ok + 1.0 + lucky as f64, "{settled:?}");
    assert_eq!(settled.output_tokens, before.output_tokens + 1.0 + lucky as f64, "{settled:?}");
    assert!((before.used + 1..=before.used + 2).contains(&settled.used), "{settled:?}");
    assert_eq!(proxy.metric("demuxai_streams_active{provider=\"faulty\"}"), 0.0);

    assert_eq!(proxy.post("/v1/chat/completions", CHAT).status, 200);
    let one_more = Counters {
        ok: settled.ok + 1.0,
        attempts: settled.attempts + 1.0,
        output_tokens: settled.output_tokens + 1.0,
        used: settled.used + 1,
        ..settled
    };
    Counters::become_of(&proxy, one_more);
    // One that was only blocked wakes, and finds that nothing is its own any more.
    let asked = fake.counts().requests;
    faulty.release();
    assert_eq!(proxy.post("/v1/chat/completions", CHAT).status, 200);
    assert_eq!(fake.counts().requests, asked + 1);
}

#[test]
fn an_arbiter_that_dies_while_its_actor_pauses_is_replaced_all_the_same() {
    let Stage { faulty, fake: _fake, proxy, _other } = stage("");
    for _ in 0..4 {
        faulty.strikes(Place::Handler, Fault::Panic);
        assert_eq!(proxy.post("/v1/chat/completions", CHAT).status, 503);
    }
    // Longer and longer pauses: each request that gets through falls, until one of them takes the arbiter along.
    eventually(
        "an arbiter dies",
        || {
            faulty.strikes(Place::Handler, Fault::Die);
            proxy.post("/v1/chat/completions", CHAT);
            faulty.has_struck(Place::Handler)
        },
        |struck| *struck,
    );
    faulty.strikes(Place::Handler, Fault::None);
    eventually("it serves again", || proxy.post("/v1/chat/completions", CHAT).status, |code| *code == 200);
}

#[test]
fn a_failed_request_marks_the_provider_down_and_the_next_good_one_marks_it_up() {
    let faulty = Faulty::leak();
    let fake = upstream();
    let address = fake.address();
    let registry = Registry::builtin().with(ProviderKind { name: "faulty", aliases: &[], adapter: faulty });
    let proxy = Proxy::with_registry(&provider("faulty", "faulty", &fake.url()), registry);
    let up = "demuxai_provider_up{provider=\"faulty\"}";
    eventually("up", || proxy.find_metric(up), |value| *value == Some(1.0));
    drop(fake);
    assert_eq!(proxy.post("/v1/chat/completions", CHAT).status, 502);
    assert_eq!(proxy.metric(up), 0.0);
    assert_eq!(proxy.get("/readyz").status, 503);
    // Nobody asks it for an answer, yet it is found to be back within seconds and not when its list is due.
    let back =
        Fake::start_with(demuxai::demo::Options::new(|_| Answer::json(200).body(LIST)).address(address))
            .expect("the address is free again");
    eventually("it is up again", || proxy.find_metric(up), |value| *value == Some(1.0));
    assert_eq!(proxy.get("/readyz").status, 200);
    drop(back);
}

/// Ends a flood, also when its test fails.
struct Dam<'f>(&'f AtomicBool);

impl Drop for Dam<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn a_flood_of_one_provider_leaves_the_others_as_they_were() {
    let fake = Fake::start(|received| {
        if received.path().ends_with("/models") {
            return Answer::json(200).body(LIST);
        }
        let chunk = r#"data: {"id":"c","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{"content":"word"},"finish_reason":null}]}"#;
        let chunk = format!("{chunk}\n\n").repeat(20);
        Answer::events().chunked().repeat(format!("{:x}\r\n{chunk}\r\n", chunk.len()), u64::MAX)
    })
    .expect("fake upstream starts");
    let other = neighbour::upstream();
    let text = format!(
        "{}max_in_flight = 10\n{}",
        provider("flooded", "openai", &fake.url()),
        provider("well", "openai", &other.url())
    );
    let proxy = Proxy::start(&text);
    for id in ["flooded", "well"] {
        proxy.until_up(id);
    }
    let stop = AtomicBool::new(false);
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let dam = Dam(&stop);
        let flood: Vec<_> = (0..60)
            .map(|_| {
                scope.spawn(|| {
                    let mut reading = proxy.open("/v1/chat/completions", &STREAM.replace("ID", "flooded"));
                    // Those that got a seat read as fast as they can.
                    while reading.status == 200 && !stop.load(Ordering::SeqCst) {
                        reading.skip();
                    }
                    reading.status
                })
            })
            .collect();
        eventually("all seats are taken", || fake.counts().open_requests, |open| *open == 10);
        let neighbour = Neighbour::watch(proxy.address, "well");
        let from = fake.written();
        eventually("the flood flows", || fake.written() - from, |written| *written > 10 << 20);
        neighbour.for_a_while();
        let seen = neighbour.stop();
        println!("{} MB flowed meanwhile", (fake.written() - from) >> 20);
        drop(dam);
        seen.assert_unhurt("a flood");
        flood.into_iter().map(|request| request.join().unwrap()).collect()
    });
    assert!(statuses.iter().all(|code| *code == 200 || *code == 429), "{statuses:?}");
    eventually("all seats are free", || proxy.status_of("flooded")["in_flight"].clone(), |seats| *seats == 0);
}
