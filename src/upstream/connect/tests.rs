//! Which address is taken, and how long nobody is waited for.

use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

use super::super::failure::FailureKind;
use super::{MAX_ADDRESSES, Target, Wire, race};

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

async fn refusing() -> SocketAddr {
    listener().await.1
}

/// An address that answers no connection attempt: its queue is full. Lives as long as what is returned with it.
fn silent() -> (SocketAddr, Vec<Socket>) {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let mut held = vec![listener];
    // The queue of a backlog of 0 takes one or two; the others wait for their handshake for ever.
    for _ in 0..4 {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        let _ = socket.connect(&address);
        held.push(socket);
    }
    (address.as_socket().unwrap(), held)
}

fn target(address: SocketAddr, timeout: Duration) -> Target {
    Target { host: address.ip().to_string(), port: address.port(), tls: None, timeout }
}

#[actix_rt::test]
async fn the_next_address_is_tried_when_one_refuses() {
    let (_held, good) = listener().await;
    let stream = race(vec![refusing().await, refusing().await, good]).await.unwrap();
    assert_eq!(stream.peer_addr().unwrap(), good);
}

#[cfg(target_os = "linux")]
#[actix_rt::test]
async fn the_next_address_is_tried_beside_one_that_is_silent() {
    let (silent, _held) = silent();
    let (_listener, good) = listener().await;
    let stream = race(vec![silent, good]).await.unwrap();
    assert_eq!(stream.peer_addr().unwrap(), good);
}

#[cfg(target_os = "linux")]
#[actix_rt::test]
async fn an_address_that_is_silent_is_a_timeout_that_says_so() {
    let (silent, _held) = silent();
    let failure = target(silent, Duration::from_millis(50)).dial().await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::TimedOut);
    assert_eq!(failure.cause, "within 50ms (timeouts.connect): tcp was not connected yet");
}

#[actix_rt::test]
async fn when_all_addresses_refuse_the_last_error_is_told() {
    let mut addresses = Vec::new();
    for _ in 0..MAX_ADDRESSES {
        addresses.push(refusing().await);
    }
    assert_eq!(race(addresses).await.unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
}

#[actix_rt::test]
async fn connections_have_no_delay_and_are_probed() {
    let (_listener, address) = listener().await;
    let wire = target(address, Duration::from_secs(5)).dial().await.unwrap();
    let Wire::Plain(tcp) = &wire else { panic!("no tls was asked for") };
    assert!(tcp.nodelay().unwrap());
    assert!(SockRef::from(tcp as &TcpStream).keepalive().unwrap());
}
