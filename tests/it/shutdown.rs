//! The end of the program, and what the service manager hears of its life.
#![cfg(unix)]

use std::io::Write as _;
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use demuxai::cli::serve::feed_watchdog;
use demuxai::demo::script::{Answer as Plain, Script};
use demuxai::demo::server::Fake;
use demuxai::dialect::Task;
use demuxai::notify::ServiceManager;
use demuxai::provider::registry::{ProviderKind, Registry};
use demuxai::provider::{Adapter, Model, Route, openai};

use crate::support::client;
use crate::support::edge::{self, CHAT, STREAM};
use crate::support::eventually;
use crate::support::program::{Home, Program};
use crate::support::proxy::{Proxy, provider};

const PATH: &str = "/v1/chat/completions";

fn listener(more: &str) -> String {
    format!("[listeners.test]\naddress = \"127.0.0.1:0\"\nworkers = 1\n{more}\n")
}

fn serve(fake: &Fake, more: &str) -> Program {
    let program = Program::serve(&format!("{}{}", provider("up", "openai", &fake.url()), listener(more)));
    program.until_ready();
    program
}

/// Waits until nobody can connect any more.
fn until_closed(program: &Program) {
    let address = program.address();
    eventually("new connections are refused", || TcpStream::connect(address).is_err(), |refused| *refused);
}

#[test]
fn the_first_signal_lets_a_stream_finish_and_refuses_what_is_new() {
    for name in ["TERM", "INT"] {
        let fake = edge::upstream();
        let program = serve(&fake, "");
        let address = program.address();
        let mut running = client::open(address, "POST", PATH, &[], STREAM.as_bytes());
        running.until("first");
        let idle = TcpStream::connect(address).unwrap();

        program.signal(name);
        until_closed(&program);
        fake.open_gate("second");
        let answer = running.finish();
        assert!(answer.complete, "{name}");
        assert!(answer.text().contains("second") && answer.text().ends_with("data: [DONE]\n\n"), "{name}");
        let ended = program.ended();
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        let last = ended.stderr.lines().rfind(|line| line.contains("request_id=")).unwrap();
        assert!(last.contains("outcome=\"ok\""), "the last request is told, too: {last}");
        drop(idle);
    }
}

#[test]
fn the_first_signal_lets_a_plain_answer_finish() {
    let fake = Fake::start(|received| match received.method.as_str() {
        "GET" => Plain::json(200).body(r#"{"object":"list","data":[{"id":"m"}]}"#),
        _ => Plain::json(200)
            .chunked()
            .gate("answer")
            .chunk(r#"{"id":"c","object":"chat.completion","model":"m","choices":[]}"#)
            .last_chunk(),
    })
    .unwrap();
    let program = serve(&fake, "");
    let address = program.address();
    std::thread::scope(|scope| {
        let asked = scope.spawn(move || client::post(address, PATH, CHAT));
        eventually("it is upstream", || fake.counts().open_requests, |open| *open == 1);
        program.signal("TERM");
        until_closed(&program);
        fake.open_gate("answer");
        let answer = asked.join().unwrap();
        assert_eq!((answer.status, answer.complete), (200, true));
    });
    assert_eq!(program.ended().code, 0);
}

#[test]
fn with_nothing_in_flight_it_ends_at_once_whatever_is_connected() {
    let fake = edge::upstream();
    let program = serve(&fake, "");
    let address = program.address();
    let silent = TcpStream::connect(address).unwrap();
    let mut kept = TcpStream::connect(address).unwrap();
    kept.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    let mut begun = TcpStream::connect(address).unwrap();
    begun.write_all(b"GET /healthz HT").unwrap();
    let before = Instant::now();
    program.signal("TERM");
    assert_eq!(program.ended().code, 0);
    assert!(before.elapsed() < Duration::from_secs(5), "{:?}", before.elapsed());
    drop((silent, kept, begun));
}

#[test]
fn the_second_signal_ends_everything_at_once() {
    let fake = edge::upstream();
    let program = serve(&fake, "");
    let mut running = client::open(program.address(), "POST", PATH, &[], STREAM.as_bytes());
    running.until("first");
    program.signal("TERM");
    eventually("it drains", || program.stderr(), |log| log.contains("draining"));
    let before = Instant::now();
    program.signal("INT");
    let ended = program.ended();
    assert_eq!(ended.code, 130, "{}", ended.stderr);
    assert!(before.elapsed() < Duration::from_millis(900), "{:?}", before.elapsed());
    assert!(!running.finish().complete, "the stream is cut, not ended");
}

#[test]
fn draining_takes_no_longer_than_it_may_and_what_outlasts_it_ends_with_an_error() {
    let fake = edge::upstream();
    let program = serve(&fake, "drain = 1");
    let mut running = client::open(program.address(), "POST", PATH, &[], STREAM.as_bytes());
    running.until("first");
    let before = Instant::now();
    program.signal("TERM");
    let answer = running.finish();
    let cut = before.elapsed();
    assert!(cut >= Duration::from_millis(900) && cut < Duration::from_secs(3), "{cut:?}");
    assert_cut_by_shutdown(&answer);
    let ended = program.ended();
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(before.elapsed() < Duration::from_secs(4), "{:?}", before.elapsed());
    assert!(ended.stderr.contains("drain is over"), "{}", ended.stderr);
    let line = ended.stderr.lines().rfind(|line| line.contains("request_id=")).unwrap();
    for said in
        ["status=200", "outcome=\"shutting_down\"", "error=\"demuxai is shutting down", "provider=\"up\""]
    {
        assert!(line.contains(said), "{said}: {line}");
    }
    eventually("the upstream is let go", || fake.counts().open_requests, |open| *open == 0);
}

/// A stream that the daemon's end broke off says so, and is not ended as if it were whole.
#[track_caller]
fn assert_cut_by_shutdown(answer: &client::Answer) {
    assert_eq!(answer.status, 200);
    assert!(!answer.complete && !answer.text().contains("[DONE]"), "the stream is cut, not ended");
    let last: serde_json::Value = serde_json::from_str(answer.events().last().expect("an event")).unwrap();
    let message = last["error"]["message"].as_str().unwrap_or_else(|| panic!("no error: {last}"));
    assert!(message.contains("shutting down") && message.contains("`drain`"), "{message}");
    assert_eq!(last["error"]["type"], "server_error");
    assert!(answer.text().ends_with("\n\n"), "the event is whole");
}

#[test]
fn whatever_outlasts_the_drain_is_told_and_counted_as_what_it_is() {
    let asking = |text: &str, stream: bool| {
        format!(r#"{{"model":"up/m","stream":{stream},"messages":[{{"role":"user","content":"{text}"}}]}}"#)
    };
    let fake = Fake::start(|received| {
        if received.method == "GET" {
            return Plain::json(200).body(r#"{"object":"list","data":[{"id":"m"}]}"#);
        }
        let frame = format!("data: {}\n\n", edge::delta("words"));
        match received.json()["messages"][0]["content"].as_str() {
            Some("pausing") => Plain::events().chunked().event(edge::delta("words")).hang(),
            Some("flooding") => {
                Plain::events().chunked().repeat(format!("{:x}\r\n{frame}\r\n", frame.len()), u64::MAX)
            }
            _ => Script::new().hang(),
        }
    })
    .unwrap();
    let text = format!(
        "{}{}",
        provider("up", "openai", &fake.url()),
        listener("drain = \"400ms\"\nkeep_alive = \"50ms\"")
    );
    let proxy = Proxy::start(&text);
    proxy.until_up("up");
    let mut pausing = proxy.open(PATH, &asking("pausing", true));
    pausing.until("words");
    let mut waiting = proxy.open(PATH, &asking("silent", true));
    waiting.until(": keep-alive\n");
    let plain = client::ask(proxy.address, PATH, &asking("silent", false));
    let mut flooding = proxy.open(PATH, &asking("flooding", true));
    flooding.until("words");
    eventually("all are upstream", || fake.counts().open_requests, |open| *open == 4);

    let handle = proxy.handle.clone();
    let began = Instant::now();
    let draining =
        std::thread::spawn(move || actix_rt::System::new().block_on(async move { handle.drain().await }));
    assert_cut_by_shutdown(&flooding.finish());
    assert!(began.elapsed() >= Duration::from_millis(350), "{:?}", began.elapsed());
    for reading in [pausing, waiting] {
        assert_cut_by_shutdown(&reading.finish());
    }
    let refused = edge::refusal(&plain.answer(), 503, "a plain answer");
    assert!(refused["message"].as_str().unwrap().contains("`drain`"), "{refused}");
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    draining.join().unwrap();
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());

    eventually("the upstream is let go", || fake.counts().open_requests, |open| *open == 0);
    let metrics = String::from_utf8(proxy.handle.metrics().encode().unwrap()).unwrap();
    for series in [
        r#"demuxai_requests_total{backend="up",endpoint="chat",listener="test",model="m",outcome="shutting_down",provider="up"} 4"#,
        r#"demuxai_stream_ends_total{provider="up",reason="shutdown"} 2"#,
        r#"demuxai_streams_active{provider="up"} 0"#,
        r#"demuxai_upstream_attempts_total{model="m",outcome="cancelled",provider="up",reason="cancelled"} 4"#,
        r#"demuxai_provider_up{provider="up"} 1"#,
    ] {
        assert!(metrics.lines().any(|line| line == series), "{series} is not in\n{metrics}");
    }
}

#[test]
fn it_is_over_soon_after_the_last_stream_not_after_the_limit() {
    let fake = edge::upstream();
    let program = serve(&fake, "drain = \"1h\"");
    let mut running = client::open(program.address(), "POST", PATH, &[], STREAM.as_bytes());
    running.until("first");
    program.signal("TERM");
    running.leave();
    assert_eq!(program.ended().code, 0);
}

/// A service manager of the test's own.
struct Manager {
    socket: UnixDatagram,
}

impl Manager {
    fn at(path: &Path) -> Manager {
        let socket = UnixDatagram::bind(path).expect("a socket");
        Manager { socket }
    }

    /// The next message, if one comes within this time.
    fn hears(&self, within: Duration) -> Option<String> {
        self.socket.set_read_timeout(Some(within)).expect("a time-out");
        let mut buffer = [0; 256];
        let length = self.socket.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
    }
}

#[test]
fn the_service_manager_hears_of_start_life_and_end() {
    let fake = edge::upstream();
    let home = Home::new();
    let path = home.path().join("notify");
    let manager = Manager::at(&path);
    let home = home.with("NOTIFY_SOCKET", path.to_str().unwrap()).with("WATCHDOG_USEC", "200000");
    let text = format!("{}{}", provider("up", "openai", &fake.url()), listener(""));
    let program = Program::serve_in(home, &text, &[]);
    let patience = Duration::from_secs(20);
    assert_eq!(manager.hears(patience).as_deref(), Some("READY=1"));
    assert_eq!(client::get(program.address(), "/healthz").status, 200, "ready means that it answers");
    for _ in 0..3 {
        assert_eq!(manager.hears(patience).as_deref(), Some("WATCHDOG=1"));
    }
    program.signal("TERM");
    let mut last = manager.hears(patience);
    while last.as_deref() == Some("WATCHDOG=1") {
        last = manager.hears(patience);
    }
    assert_eq!(last.as_deref(), Some("STOPPING=1"));
    assert_eq!(program.ended().code, 0);
}

#[test]
fn a_start_that_fails_is_never_ready() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let home = Home::new();
    let path = home.path().join("notify");
    let manager = Manager::at(&path);
    let config = home.write("c.toml", "");
    let home = home.with("NOTIFY_SOCKET", path.to_str().unwrap());
    let address = taken.local_addr().unwrap().to_string();
    assert_eq!(home.run(&["serve", "--config", config.to_str().unwrap(), "--listen", &address]).code, 3);
    assert_eq!(manager.hears(Duration::from_millis(1)), None);
}

/// Plain OpenAI whose actor can be held in its message handler.
struct Held {
    wanted: Mutex<bool>,
    let_go: Condvar,
    waiting: AtomicUsize,
}

impl Held {
    fn leak() -> &'static Held {
        Box::leak(Box::new(Held {
            wanted: Mutex::new(false),
            let_go: Condvar::new(),
            waiting: AtomicUsize::new(0),
        }))
    }

    fn hold(&self, wanted: bool) {
        *self.wanted.lock().unwrap() = wanted;
        self.let_go.notify_all();
    }
}

impl Adapter for Held {
    fn route(&self, task: Task) -> Option<Route> {
        let mut wanted = self.wanted.lock().unwrap();
        while *wanted {
            self.waiting.store(1, Ordering::SeqCst);
            wanted = self.let_go.wait(wanted).unwrap();
        }
        openai::OpenAi.route(task)
    }

    fn models(&self, body: &[u8]) -> Result<Vec<Model>, String> {
        openai::OpenAi.models(body)
    }
}

#[test]
fn the_watchdog_goes_hungry_while_an_actor_hangs_and_is_fed_again_after() {
    let held = Held::leak();
    let fake = edge::upstream();
    let registry = Registry::builtin().with(ProviderKind { name: "held", aliases: &[], adapter: held });
    let text = provider("up", "held", &fake.url());
    let proxy = Proxy::with_registry(&text, registry);
    proxy.until_up("up");
    let home = Home::new();
    let path = home.path().join("notify");
    let manager = Manager::at(&path);
    let router = proxy.handle.router().clone();
    let service = ServiceManager::new(path.to_str(), Some("100000"));
    let interval = service.watchdog_interval().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let feeding = std::thread::spawn(move || {
        actix_rt::System::new().block_on(async move {
            tokio::select! {
                () = feed_watchdog(service, router, interval) => {}
                _ = stopped => {}
            }
        });
    });
    let patience = Duration::from_secs(20);
    assert_eq!(manager.hears(patience).as_deref(), Some("WATCHDOG=1"));

    held.hold(true);
    std::thread::scope(|scope| {
        let struck = scope.spawn(|| proxy.post(PATH, CHAT));
        eventually("the actor hangs", || held.waiting.load(Ordering::SeqCst), |waiting| *waiting == 1);
        // One message may have been on its way.
        let _ = manager.hears(Duration::from_millis(10));
        assert_eq!(manager.hears(interval * 6), None, "nothing is sent in three periods");
        held.hold(false);
        assert_eq!(manager.hears(patience).as_deref(), Some("WATCHDOG=1"), "and then it is fed again");
        assert_eq!(struck.join().unwrap().status, 200);
    });
    let _ = stop.send(());
    feeding.join().unwrap();
}
