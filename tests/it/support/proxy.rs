//! The whole daemon, on port 0, in a thread of its own. Dropping it stops it and fails the test if it does not stop.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use demuxai::app::reloader::Load;
use demuxai::app::{App, AppHandle, Source};
use demuxai::cli::load::read;
use demuxai::config::Sources;
use demuxai::provider::registry::Registry;
use demuxai::telemetry::Level;
use serde_json::Value;

use super::client::{self, Answer, Reading};
use super::eventually;

/// A running daemon.
pub struct Proxy {
    pub address: SocketAddr,
    pub handle: AppHandle,
    thread: Option<JoinHandle<()>>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
}

impl Proxy {
    /// Starts the daemon with this configuration; a listener on port 0 is added unless the text names one.
    pub fn start(text: &str) -> Proxy {
        Proxy::with_registry(text, Registry::builtin())
    }

    /// With kinds of the test's own.
    pub fn with_registry(text: &str, registry: Registry) -> Proxy {
        let text = if text.contains("[listeners.") {
            text.to_owned()
        } else {
            format!("{text}\n[listeners.test]\naddress = \"127.0.0.1:0\"\nworkers = 1\ndrain = 1\n")
        };
        let sources = Sources { texts: vec![("test".to_owned(), text)], ..Sources::default() };
        Proxy::from_sources(sources, registry)
    }

    /// With everything that a configuration is made from; it must name a listener on port 0.
    pub fn from_sources(sources: Sources, registry: Registry) -> Proxy {
        Proxy::serving(move || {
            let config =
                read(&sources, &registry).unwrap_or_else(|report| panic!("configuration is good: {report}"));
            App::build(config, &registry).unwrap_or_else(|error| panic!("daemon starts: {error}"))
        })
    }

    /// With a configuration that can be read anew: this text, as it is then.
    pub fn reading(text: &Arc<Mutex<String>>) -> Proxy {
        Proxy::reading_with(text, Registry::builtin())
    }

    /// The same with kinds of the test's own.
    pub fn reading_with(text: &Arc<Mutex<String>>, registry: Registry) -> Proxy {
        let (text, kinds) = (Arc::clone(text), registry.clone());
        let load: Load = Arc::new(move |_files| {
            let now = text.lock().expect("no panic").clone();
            let sources = Sources { texts: vec![("test".to_owned(), now)], ..Sources::default() };
            read(&sources, &kinds)
        });
        Proxy::serving(move || {
            let config = load(&[]).unwrap_or_else(|report| panic!("configuration is good: {report}"));
            let source = Source { load, registry, level: Level::default() };
            App::build_from(config, source).unwrap_or_else(|error| panic!("daemon starts: {error}"))
        })
    }

    fn serving(build: impl FnOnce() -> App + Send + 'static) -> Proxy {
        let (started, wait) = mpsc::channel();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let thread = std::thread::spawn(move || {
            actix_rt::System::new().block_on(async move {
                let app = build();
                started.send((app.addresses()[0].1, app.handle())).expect("test waits");
                let handle = app.handle();
                actix_rt::spawn(async move {
                    let _ = stopped.await;
                    handle.stop().await;
                });
                app.run_until_stopped().await.expect("daemon ends well");
            });
        });
        let (address, handle) = wait.recv_timeout(Duration::from_secs(30)).expect("daemon starts in time");
        Proxy { address, handle, thread: Some(thread), stop: Some(stop) }
    }

    pub fn get(&self, path: &str) -> Answer {
        client::get(self.address, path)
    }

    pub fn post(&self, path: &str, body: &str) -> Answer {
        client::post(self.address, path, body)
    }

    /// As a client with this key.
    pub fn get_as(&self, key: &str, path: &str) -> Answer {
        let bearer = format!("Bearer {key}");
        client::open(self.address, "GET", path, &[("authorization", &bearer)], b"").finish()
    }

    /// As a client with this key.
    pub fn post_as(&self, key: &str, path: &str, body: &str) -> Answer {
        let bearer = format!("Bearer {key}");
        client::open(self.address, "POST", path, &[("authorization", &bearer)], body.as_bytes()).finish()
    }

    /// Opens a request and leaves the body to be read step by step.
    pub fn open(&self, path: &str, body: &str) -> Reading {
        client::open(self.address, "POST", path, &[("content-type", "application/json")], body.as_bytes())
    }

    /// What the daemon says of a provider.
    pub fn status_of(&self, provider: &str) -> Value {
        let status = self.get("/demuxai/status").json();
        let all = status["providers"].as_array().expect("providers").clone();
        all.into_iter().find(|entry| entry["id"] == provider).expect("provider is there")
    }

    /// Waits until this provider's list is there.
    #[track_caller]
    pub fn until_up(&self, provider: &str) {
        eventually("the provider is up", || self.status_of(provider), |status| status["health"] == "up");
    }

    /// What a client has used of the first limit of a group or key (`of`: `limit`, `budget` or `key`), or nothing.
    pub fn used(&self, of: &str, id: &str, client: &str) -> Value {
        let status = self.get("/demuxai/status").json();
        let mut clients = status["clients"].as_array().expect("clients").iter();
        let found = clients.find(|entry| entry["of"] == of && entry["id"] == id && entry["client"] == client);
        found.map_or(Value::Null, |entry| entry["limits"][0]["used"].clone())
    }

    /// The value of one metric's series, which must be there.
    pub fn metric(&self, series: &str) -> f64 {
        self.find_metric(series)
            .unwrap_or_else(|| panic!("no series `{series}` in\n{}", self.get("/metrics").text()))
    }

    /// The value of one metric's series, if it is there.
    pub fn find_metric(&self, series: &str) -> Option<f64> {
        let text = self.get("/metrics").text();
        let line =
            text.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')))?;
        line.rsplit(' ').next()?.parse().ok()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        let ended = self.thread.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            assert!(matches!(ended, Some(Ok(()))), "the daemon's thread ended well");
        }
    }
}

/// The text of one provider's table.
pub fn provider(id: &str, kind: &str, url: &str) -> String {
    format!("[providers.{id}]\ntype = \"{kind}\"\nurl = \"{url}\"\napi_key = \"test-key-{id}\"\n")
}
