//! What all integration tests share: the whole daemon on port 0 in its own thread, and a client that shows bytes.

pub mod client;
pub mod edge;
pub mod program;
pub mod proxy;
pub mod several;
pub mod stage;
pub mod tls;
pub mod upstreams;

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use demuxai::demo::Fake;
use socket2::{Domain, Socket, Type};

/// How many requests that want an answer, and not a list, an upstream received.
pub fn asked(fake: &Fake) -> usize {
    fake.received().iter().filter(|received| received.method == "POST").count()
}

/// What a chat's answer says; the scenes' upstreams say their own names.
#[track_caller]
pub fn content(got: &client::Answer) -> String {
    assert_eq!(got.status, 200, "{}", got.text());
    got.json()["choices"][0]["message"]["content"].as_str().expect("content").to_owned()
}

/// Waits until something holds, looking often, and fails with what it was when it never does.
#[track_caller]
pub fn eventually<T: std::fmt::Debug>(
    what: &str,
    mut look: impl FnMut() -> T,
    holds: impl Fn(&T) -> bool,
) -> T {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let seen = look();
        if holds(&seen) {
            return seen;
        }
        assert!(Instant::now() < deadline, "never: {what}; last seen {seen:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A url where nobody listens and nobody else can begin to, for as long as the test runs: the port is taken, but
/// never listened on.
pub fn nowhere() -> String {
    static TAKEN: OnceLock<(Socket, SocketAddr)> = OnceLock::new();
    let (_, address) = TAKEN.get_or_init(|| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a port");
        let address = socket.local_addr().expect("an address").as_socket().expect("an IP address");
        (socket, address)
    });
    format!("http://{address}")
}
