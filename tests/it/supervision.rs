//! A provider's actor that falls, or whose arbiter hangs or dies, is back at once; nothing else notices.
//! The faults enter through an adapter of the test's own; the product has no hook for them.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};

use demuxai::demo::script::{Answer, Script};
use demuxai::demo::server::Fake;
use demuxai::dialect::Task;
use demuxai::provider::registry::{ProviderKind, Registry};
use demuxai::provider::{Adapter, Model, Route, openai};

use crate::support::eventually;
use crate::support::proxy::{Proxy, provider};

/// What the next call of a method does.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Fault {
    None,
    Panic,
    /// Wait until the test lets go, then panic.
    WaitThenPanic,
    /// Hold the thread until the test lets go.
    Block,
    /// Stop the arbiter.
    Die,
}

/// Plain OpenAI, with faults on demand: `route` is called by the actor's message handler, `models_path` by its
/// timer, `models` by a future of its context.
struct Faulty {
    handler: Mutex<Fault>,
    timer: Mutex<Fault>,
    future: Mutex<Fault>,
    waiting: AtomicUsize,
    calls: AtomicU32,
    held: Mutex<bool>,
    let_go: Condvar,
}

impl Faulty {
    fn leak() -> &'static Faulty {
        Box::leak(Box::new(Faulty {
            handler: Mutex::new(Fault::None),
            timer: Mutex::new(Fault::None),
            future: Mutex::new(Fault::None),
            waiting: AtomicUsize::new(0),
            calls: AtomicU32::new(0),
            held: Mutex::new(true),
            let_go: Condvar::new(),
        }))
    }

    fn strike(&self, place: &Mutex<Fault>) {
        let fault = std::mem::replace(&mut *place.lock().unwrap(), Fault::None);
        match fault {
            Fault::None => {}
            Fault::Panic => panic!("injected"),
            Fault::WaitThenPanic => {
                self.wait();
                panic!("injected after waiting");
            }
            Fault::Block => self.wait(),
            Fault::Die => {
                actix_rt::Arbiter::current().stop();
            }
        }
    }

    fn wait(&self) {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let mut held = self.held.lock().unwrap();
        while *held {
            held = self.let_go.wait(held).unwrap();
        }
    }

    fn release(&self) {
        *self.held.lock().unwrap() = false;
        self.let_go.notify_all();
    }
}

impl Adapter for Faulty {
    fn route(&self, task: Task) -> Option<Route> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.strike(&self.handler);
        openai::OpenAi.route(task)
    }

    fn models_path(&self) -> &'static str {
        self.strike(&self.timer);
        "/v1/models"
    }

    fn models(&self, body: &[u8]) -> Result<Vec<Model>, String> {
        self.strike(&self.future);
        openai::OpenAi.models(body)
    }
}

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
}

/// A daemon with the faulty provider and a healthy one beside it.
fn stage(extra: &str) -> Stage {
    let faulty = Faulty::leak();
    let fake = upstream();
    let registry = Registry::builtin().with(ProviderKind { name: "faulty", aliases: &[], adapter: faulty });
    let text = format!(
        "{}{extra}\n{}",
        provider("faulty", "faulty", &fake.url()),
        provider("well", "openai", &fake.url())
    );
    let proxy = Proxy::with_registry(&text, registry);
    eventually(
        "both providers are up",
        || (proxy.status_of("faulty"), proxy.status_of("well")),
        |(faulty, well)| faulty["health"] == "up" && well["health"] == "up",
    );
    Stage { faulty, fake, proxy }
}

fn restarts(proxy: &Proxy) -> u64 {
    proxy.status_of("faulty")["restarts"].as_u64().expect("restarts")
}

#[test]
fn a_panic_in_a_handler_costs_its_own_request_only() {
    let Stage { faulty, fake, proxy } = stage("");
    let mut running = proxy.open("/v1/chat/completions", &STREAM.replace("ID", "faulty"));
    running.until("first");

    *faulty.handler.lock().unwrap() = Fault::WaitThenPanic;
    std::thread::scope(|scope| {
        let struck = scope.spawn(|| proxy.post("/v1/chat/completions", CHAT));
        eventually("the handler waits", || faulty.waiting.load(Ordering::SeqCst), |waiting| *waiting == 1);
        let queued: Vec<_> =
            (0..5).map(|_| scope.spawn(|| proxy.post("/v1/chat/completions", CHAT))).collect();
        // The healthy neighbour answers while the other actor hangs in its handler.
        let well = proxy.post("/v1/chat/completions", &CHAT.replace("faulty", "well"));
        assert_eq!(well.status, 200);
        faulty.release();
        assert_eq!(struck.join().unwrap().status, 503);
        for request in queued {
            assert_eq!(request.join().unwrap().status, 200, "queued behind the panic");
        }
    });

    fake.open_gate("second half");
    let answer = running.finish();
    assert!(
        answer.complete && answer.text().contains("second") && answer.text().ends_with("data: [DONE]\n\n")
    );
    assert_eq!(restarts(&proxy), 1);
    assert_eq!(proxy.metric("demuxai_actor_restarts_total{provider=\"faulty\"}"), 1.0);
    let ok = "demuxai_requests_total{backend=\"faulty\",endpoint=\"chat\",listener=\"test\",model=\"m\",outcome=\"ok\",provider=\"faulty\"}";
    eventually("all are counted", || proxy.find_metric(ok), |count| *count == Some(6.0));
    eventually("no seat is lost", || proxy.status_of("faulty")["in_flight"].clone(), |seats| *seats == 0);
}

#[test]
fn a_panic_in_a_timer_or_a_context_future_is_survived() {
    for place in ["timer", "future"] {
        let Stage { faulty, fake, proxy } = stage("cache_seconds = 1");
        let mut running = proxy.open("/v1/chat/completions", &STREAM.replace("ID", "faulty"));
        running.until("first");

        *(if place == "timer" { &faulty.timer } else { &faulty.future }).lock().unwrap() = Fault::Panic;
        eventually("the actor was restarted", || restarts(&proxy), |count| *count == 1);
        assert_eq!(proxy.post("/v1/chat/completions", CHAT).status, 200, "after a panic in a {place}");

        fake.open_gate("second half");
        let answer = running.finish();
        assert!(
            answer.complete && answer.text().contains("second"),
            "the stream goes on after a panic in a {place}"
        );
        let before = fake.counts().requests;
        eventually("the list is fetched again", || fake.counts().requests, |now| *now > before);
        assert_eq!(proxy.status_of("faulty")["health"], "up");
    }
}

#[test]
fn an_actor_that_falls_again_and_again_is_down_while_it_pauses_and_then_back() {
    let Stage { faulty, fake: _fake, proxy } = stage("");
    for _ in 0..4 {
        *faulty.handler.lock().unwrap() = Fault::Panic;
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
    replaced(Fault::Block);
}

#[test]
fn a_dead_arbiter_is_replaced_and_its_streams_end_honestly() {
    replaced(Fault::Die);
}

#[test]
fn an_answer_that_is_whole_does_not_end_as_a_broken_one_when_its_arbiter_dies() {
    let Stage { faulty, fake, proxy } = stage("");
    let body = STREAM.replace("ID", "faulty").replace("\"hi\"", "\"linger\"");
    let mut own = proxy.open("/v1/chat/completions", &body);
    fake.open_gate("second half");
    own.until("\"finish_reason\":\"stop\"");
    *faulty.handler.lock().unwrap() = Fault::Die;
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

fn replaced(fault: Fault) {
    let Stage { faulty, fake, proxy } = stage("");
    assert_eq!(proxy.post("/v1/chat/completions", CHAT).status, 200);
    let mut own = proxy.open("/v1/chat/completions", &STREAM.replace("ID", "faulty"));
    own.until("first");
    let mut other = proxy.open("/v1/chat/completions", &STREAM.replace("ID", "well"));
    other.until("first");

    *faulty.handler.lock().unwrap() = fault;
    let struck =
        std::thread::scope(|scope| scope.spawn(|| proxy.post("/v1/chat/completions", CHAT)).join().unwrap());
    assert!(struck.status == 503 || struck.status == 200, "{}", struck.text());

    let own = own.finish();
    assert!(!own.complete, "the connection ends without a proper end");
    let events = own.events();
    let last: serde_json::Value = serde_json::from_str(events.last().expect("an event")).expect("JSON");
    assert!(last["error"]["message"].is_string(), "{last}");
    assert!(!own.text().contains("[DONE]") && !own.text().contains("finish_reason\":\"stop"));

    eventually(
        "the provider serves on a fresh arbiter",
        || proxy.post("/v1/chat/completions", CHAT).status,
        |code| *code == 200,
    );
    assert!(restarts(&proxy) >= 1);
    eventually(
        "its seats are settled",
        || proxy.status_of("faulty")["in_flight"].clone(),
        |seats| *seats == 0,
    );

    fake.open_gate("second half");
    let other = other.finish();
    assert!(other.complete && other.text().contains("second"), "another provider's stream is untouched");
    let ok = "demuxai_requests_total{backend=\"faulty\",endpoint=\"chat\",listener=\"test\",model=\"m\",outcome=\"ok\",provider=\"faulty\"}";
    assert!(proxy.metric(ok) >= 2.0, "counters are kept");
    assert_eq!(proxy.metric("demuxai_streams_active{provider=\"faulty\"}"), 0.0);
    faulty.release();
}

#[test]
fn an_arbiter_that_dies_while_its_actor_pauses_is_replaced_all_the_same() {
    let Stage { faulty, fake: _fake, proxy } = stage("");
    for _ in 0..4 {
        *faulty.handler.lock().unwrap() = Fault::Panic;
        assert_eq!(proxy.post("/v1/chat/completions", CHAT).status, 503);
    }
    // Longer and longer pauses: each request that gets through falls, until one of them takes the arbiter along.
    eventually(
        "an arbiter dies",
        || {
            *faulty.handler.lock().unwrap() = Fault::Die;
            proxy.post("/v1/chat/completions", CHAT);
            *faulty.handler.lock().unwrap() == Fault::None
        },
        |struck| *struck,
    );
    *faulty.handler.lock().unwrap() = Fault::None;
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

#[test]
fn a_flood_of_requests_to_one_provider_leaves_the_others_answering() {
    let faulty = Faulty::leak();
    let fake = upstream();
    let registry = Registry::builtin().with(ProviderKind { name: "faulty", aliases: &[], adapter: faulty });
    let text = format!(
        "{}max_in_flight = 10\n{}",
        provider("faulty", "faulty", &fake.url()),
        provider("well", "openai", &fake.url())
    );
    let proxy = Proxy::with_registry(&text, registry);
    eventually("up", || proxy.status_of("faulty"), |status| status["health"] == "up");
    std::thread::scope(|scope| {
        let flood: Vec<_> = (0..60)
            .map(|_| {
                scope.spawn(|| {
                    let mut reading = proxy.open("/v1/chat/completions", &STREAM.replace("ID", "faulty"));
                    if reading.status == 200 {
                        reading.until("first");
                    }
                    reading.status
                })
            })
            .collect();
        let well = proxy.post("/v1/chat/completions", &CHAT.replace("faulty", "well"));
        assert_eq!(well.status, 200);
        let statuses: Vec<u16> = flood.into_iter().map(|request| request.join().unwrap()).collect();
        assert!(statuses.iter().all(|code| *code == 200 || *code == 429), "{statuses:?}");
        assert!(statuses.contains(&200));
    });
    eventually("all seats are free", || proxy.status_of("faulty")["in_flight"].clone(), |seats| *seats == 0);
}
