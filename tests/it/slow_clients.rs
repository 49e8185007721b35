//! A client that connects and does not say what it wants, or says it too slowly, is let go after ten seconds; others are
//! served meanwhile. The one test here that waits for so long: it waits for the sockets to be closed, and for nothing else.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::support::edge;

/// Longer than anybody is waited for here.
const PATIENCE: Duration = Duration::from_secs(25);
/// How often a slow client sends a byte.
const DRIP: Duration = Duration::from_millis(250);

/// Connects, sends these bytes one by one, each after a while, and reads until the connection is closed: what was read,
/// and how long that took.
fn until_closed(address: SocketAddr, mut bytes: impl Iterator<Item = u8>) -> (String, Duration) {
    let mut stream = TcpStream::connect(address).expect("daemon accepts");
    let connected = Instant::now();
    stream.set_read_timeout(Some(DRIP)).expect("timeout is set");
    let mut read = Vec::new();
    let mut chunk = [0; 1024];
    loop {
        if let Some(byte) = bytes.next() {
            // What comes too late finds the connection closed.
            let _ = stream.write_all(&[byte]);
        }
        match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => read.extend_from_slice(&chunk[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
            Err(error) => panic!("{error}"),
        }
        assert!(connected.elapsed() < PATIENCE, "never let go; it read {:?}", String::from_utf8_lossy(&read));
    }
    (String::from_utf8(read).expect("text"), connected.elapsed())
}

#[test]
fn a_client_that_does_not_send_its_head_in_ten_seconds_is_let_go() {
    let stage = edge::stage("");
    let address = stage.proxy.address;
    let begun = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n".iter().copied();
    let endless = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nx-filler: ";
    let endless = endless.iter().copied().chain(std::iter::repeat(b'a'));
    std::thread::scope(|scope| {
        let slow = [
            ("silent", scope.spawn(move || until_closed(address, std::iter::empty()))),
            ("silent after half a head", scope.spawn(move || until_closed(address, begun))),
            ("byte by byte", scope.spawn(move || until_closed(address, endless))),
        ];
        while slow.iter().any(|(_, client)| !client.is_finished()) {
            let asked = Instant::now();
            assert_eq!(stage.proxy.post("/v1/chat/completions", edge::CHAT).status, 200);
            assert!(asked.elapsed() < Duration::from_secs(1), "others are served: {:?}", asked.elapsed());
            std::thread::park_timeout(DRIP);
        }
        for (how, client) in slow {
            let (said, took) = client.join().unwrap();
            println!("{how}: let go after {took:?}");
            assert!(
                took >= Duration::from_millis(9_900) && took < Duration::from_secs(13),
                "{how}: {took:?}"
            );
            assert!(said.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{how}: {said:?}");
        }
    });
    assert!(
        stage.fake.received().iter().all(|received| received.method == "GET" || !received.body.is_empty())
    );
}
