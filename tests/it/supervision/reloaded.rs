//! Who is guarded after a reload: the successor of a provider that changed, and the one that still ends what it had.

use std::sync::{Arc, Mutex};

use super::*;

const REST: &str = "[admin]\nkey = \"changes\"\n[state]\npath = \"none\"\n[listeners.test]\naddress = \"127.0.0.1:0\"\nworkers = 1\ndrain = 1\n";

struct Scene {
    faulty: &'static Faulty,
    fake: Fake,
    text: Arc<Mutex<String>>,
    proxy: Proxy,
}

impl Scene {
    fn start() -> Scene {
        let (faulty, fake) = (Faulty::leak(), upstream());
        let kind = ProviderKind { name: "faulty", aliases: &[], adapter: faulty };
        let text = Arc::new(Mutex::new(Scene::text(&fake, "first")));
        let proxy = Proxy::reading_with(&text, Registry::builtin().with(kind));
        let scene = Scene { faulty, fake, text, proxy };
        scene.until_it_is("first");
        scene
    }

    fn text(fake: &Fake, name: &str) -> String {
        format!("{}name = \"{name}\"\n{REST}", provider("faulty", "faulty", &fake.url()))
    }

    fn reload(&self, name: &str) {
        *self.text.lock().unwrap() = Scene::text(&self.fake, name);
        let key = [("authorization", "Bearer changes")];
        let said = client::open(self.proxy.address, "POST", "/demuxai/reload", &key, b"").finish();
        assert_eq!(said.status, 200, "{}", said.text());
    }

    fn until_it_is(&self, name: &str) {
        let status = || self.proxy.status_of("faulty");
        eventually("it is up", status, |status| status["health"] == "up" && status["name"] == name);
    }

    fn chat(&self) -> u16 {
        self.proxy.post("/v1/chat/completions", CHAT).status
    }

    /// Has the next request strike its actor so.
    fn strike(&self, fault: Fault) -> client::Asked {
        self.faulty.strikes(Place::Handler, fault);
        let asked = client::ask(self.proxy.address, "/v1/chat/completions", CHAT);
        eventually("it is struck", || self.faulty.has_struck(Place::Handler), |struck| *struck);
        asked
    }
}

#[test]
fn the_successor_of_a_provider_that_changed_is_guarded() {
    let scene = Scene::start();
    scene.reload("second");
    scene.until_it_is("second");
    assert_eq!(scene.chat(), 200);
    let thread = scene.faulty.thread();
    let _struck = scene.strike(Fault::Die);
    eventually("it serves on a fresh arbiter", || scene.chat(), |status| *status == 200);
    assert_ne!(scene.faulty.thread(), thread);
}

#[test]
fn one_that_ends_what_it_has_is_guarded_as_long_as_it_does() {
    let scene = Scene::start();
    let mut stream = scene.proxy.open("/v1/chat/completions", &STREAM.replace("ID", "faulty"));
    stream.until("first");
    let struck = scene.strike(Fault::Block);
    scene.reload("second");
    // The successor has an arbiter of its own, and serves; nobody but a guard ends what hangs with the old one.
    eventually("it serves", || scene.chat(), |status| *status == 200);
    let stream = stream.finish();
    assert!(!stream.complete && stream.text().contains("error"), "{}", stream.text());
    assert!(!stream.text().contains("[DONE]"), "{}", stream.text());
    assert_eq!(struck.answer().status, 503);
    let seats = || scene.proxy.status_of("faulty")["in_flight"].clone();
    eventually("its seats are free", seats, |seats| *seats == 0);
    scene.faulty.release();
}
