//! Raw sockets play the upstream, byte by byte; no HTTP library stands between the test and the wire.

mod answers;
mod connections;

use std::cell::Cell;
use std::future::Future;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Method;
use http::header::{HeaderName, HeaderValue};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use super::{Answer, Client, ClientOptions, Outgoing};
use crate::error::{ErrorKind, ProxyError};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

// === the kit ===

fn options(url: &str) -> ClientOptions {
    ClientOptions {
        url: url.to_owned(),
        connect_timeout: Duration::from_secs(10),
        ca_file: None,
        user_agent: "demuxai/test".to_owned(),
    }
}

fn client_of(address: SocketAddr) -> Client {
    Client::new(&options(&format!("http://{address}"))).unwrap()
}

fn post(body: impl Into<Bytes>) -> Outgoing {
    Outgoing {
        method: Method::POST,
        path: "/v1/chat".to_owned(),
        headers: Vec::new(),
        body: body.into().into(),
    }
}

fn get(path: &str) -> Outgoing {
    Outgoing { method: Method::GET, path: path.to_owned(), headers: Vec::new(), body: Bytes::new().into() }
}

/// A server that plays `script` with each connection and its number, starting with 0; returns its address and count.
async fn serve<S, F>(script: S) -> (SocketAddr, Rc<Cell<usize>>)
where
    S: Fn(TcpStream, usize) -> F + 'static,
    F: Future<Output = ()> + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let count = Rc::new(Cell::new(0));
    let counter = Rc::clone(&count);
    actix_rt::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let number = counter.replace(counter.get() + 1);
            actix_rt::spawn(script(socket, number));
        }
    });
    (address, count)
}

/// Reads one request, head and body, as text; `None` when the connection ends first.
async fn read_request(socket: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut request = Vec::new();
    let mut byte = [0_u8; 1];
    while !request.ends_with(b"\r\n\r\n") {
        match socket.read(&mut byte).await {
            Ok(1) => request.push(byte[0]),
            _ => return None,
        }
    }
    let head = String::from_utf8(request).unwrap();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .map_or(0, |length| length.parse::<usize>().unwrap());
    let mut body = vec![0_u8; length];
    socket.read_exact(&mut body).await.ok()?;
    Some(head + &String::from_utf8(body).unwrap())
}

async fn text_of(answer: Answer) -> Result<String, ProxyError> {
    answer.body.collect(1 << 20).await.map(|body| String::from_utf8(body.to_vec()).unwrap())
}

/// Sends `OK` after each request of a connection, for ever.
async fn answer_all(mut socket: TcpStream) {
    while read_request(&mut socket).await.is_some() {
        socket.write_all(OK).await.unwrap();
    }
}

/// An upstream that answers the first request with exactly these bytes and closes.
async fn answers(bytes: &'static [u8]) -> SocketAddr {
    let script = move |mut socket: TcpStream, _| async move {
        read_request(&mut socket).await;
        socket.write_all(bytes).await.unwrap();
        socket.shutdown().await.unwrap();
    };
    serve(script).await.0
}

// === requests ===

#[actix_rt::test]
async fn a_request_goes_out_with_our_host_user_agent_and_headers_and_nothing_else() {
    let (tx, rx) = oneshot::channel();
    let tx = Rc::new(Cell::new(Some(tx)));
    let (address, _) = serve(move |mut socket, _| {
        let tx = tx.take().unwrap();
        async move {
            tx.send(read_request(&mut socket).await).unwrap();
            socket.write_all(OK).await.unwrap();
        }
    })
    .await;
    let client = Client::new(&options(&format!("http://{address}/base/"))).unwrap();
    let mut request = post("{}");
    request.path = "/v1/chat?x=1".to_owned();
    request.headers = vec![
        (HeaderName::from_static("x-one"), HeaderValue::from_static("1")),
        (HeaderName::from_static("accept-encoding"), HeaderValue::from_static("gzip")),
        (HeaderName::from_static("expect"), HeaderValue::from_static("100-continue")),
        (HeaderName::from_static("connection"), HeaderValue::from_static("close")),
        (HeaderName::from_static("content-length"), HeaderValue::from_static("7")),
        (HeaderName::from_static("x-one"), HeaderValue::from_static("2")),
    ];
    assert_eq!(text_of(client.send(request).await.unwrap()).await.unwrap(), "ok");
    let seen = rx.await.unwrap().unwrap();
    let (head, body) = seen.split_once("\r\n\r\n").unwrap();
    let mut lines: Vec<&str> = head.lines().collect();
    assert_eq!(lines.remove(0), "POST /base/v1/chat?x=1 HTTP/1.1");
    lines.sort_unstable();
    let host = format!("host: {address}");
    assert_eq!(lines, ["content-length: 2", &host, "user-agent: demuxai/test", "x-one: 1", "x-one: 2"]);
    assert_eq!(body, "{}");
}

#[actix_rt::test]
async fn a_get_has_no_body_and_a_given_host_and_user_agent_replace_ours() {
    let (tx, rx) = oneshot::channel();
    let tx = Rc::new(Cell::new(Some(tx)));
    let (address, _) = serve(move |mut socket, _| {
        let tx = tx.take().unwrap();
        async move {
            tx.send(read_request(&mut socket).await).unwrap();
            socket.write_all(OK).await.unwrap();
        }
    })
    .await;
    let mut request = get("/v1/models");
    request.headers = vec![
        (HeaderName::from_static("host"), HeaderValue::from_static("other.example")),
        (HeaderName::from_static("user-agent"), HeaderValue::from_static("other/1")),
    ];
    client_of(address).send(request).await.unwrap();
    let seen = rx.await.unwrap().unwrap();
    let mut lines: Vec<&str> = seen.trim_end().lines().filter(|line| !line.starts_with("date: ")).collect();
    lines.sort_unstable();
    assert_eq!(lines, ["GET /v1/models HTTP/1.1", "host: other.example", "user-agent: other/1"]);
}

#[actix_rt::test]
async fn a_large_body_arrives_whole() {
    let body: String = (0..300_000).map(|n| char::from(b'a' + (n % 26) as u8)).collect();
    let (tx, rx) = oneshot::channel();
    let tx = Rc::new(Cell::new(Some(tx)));
    let (address, _) = serve(move |mut socket, _| {
        let tx = tx.take().unwrap();
        async move {
            tx.send(read_request(&mut socket).await).unwrap();
            socket.write_all(OK).await.unwrap();
        }
    })
    .await;
    let answer = client_of(address).send(post(body.clone())).await.unwrap();
    assert_eq!(answer.status, 200);
    assert!(rx.await.unwrap().unwrap().ends_with(&format!("\r\n\r\n{body}")));
}

#[actix_rt::test]
async fn what_no_header_or_path_may_hold_is_refused() {
    let bad_agent = ClientOptions { user_agent: "a\r\nx-evil: 1".to_owned(), ..options("http://localhost") };
    let error = Client::new(&bad_agent).err().unwrap();
    assert!(error.message.contains("user agent"), "{}", error.message);
    assert!(HeaderValue::from_bytes(b"a\r\nx-evil: 1").is_err());

    let (address, count) = serve(|socket, _| answer_all(socket)).await;
    let error = client_of(address).send(get("/a b\r\nx-evil: 1")).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Internal);
    assert_eq!(count.get(), 0);
}

#[test]
fn a_url_that_cannot_be_used_is_an_error_that_says_so() {
    for (url, said) in [
        ("localhost:1234", "url"),
        ("/v1", "not a whole URL"),
        ("ftp://host", "http:// or https://"),
        ("http://host?key=1", "query"),
        ("http://user:secret@host", "user or password"),
        ("http://host:99999", "url"),
        ("http://", "url"),
        ("", "url"),
    ] {
        let error = Client::new(&options(url)).err().unwrap();
        assert!(error.message.contains(said), "{url}: {}", error.message);
        assert!(!error.message.contains("secret"), "{}", error.message);
    }
}

#[test]
fn the_host_header_has_the_port_only_where_it_is_not_the_scheme_s_own() {
    for (url, host, peer) in [
        ("http://api.example", "api.example", "api.example:80"),
        ("http://api.example:80/x", "api.example", "api.example:80"),
        ("http://API.example:443", "api.example:443", "api.example:443"),
        ("https://api.example/v1/", "api.example", "api.example:443"),
        ("https://api.example:443", "api.example", "api.example:443"),
        ("https://api.example:80", "api.example:80", "api.example:80"),
        ("http://[::1]:8080", "[::1]:8080", "[::1]:8080"),
        ("https://[::1]", "[::1]", "[::1]:443"),
    ] {
        let client = Client::new(&options(url)).unwrap();
        assert_eq!(client.host, host, "{url}");
        assert_eq!(&*client.peer, peer, "{url}");
    }
}

// === cancelling ===

/// Whether the server's end of the connection sees it closed, and how long that takes from `since`.
async fn closed_after(socket: &mut TcpStream, since: Instant) -> Duration {
    let mut rest = [0_u8; 64];
    while !matches!(socket.read(&mut rest).await, Ok(0) | Err(_)) {}
    since.elapsed()
}

#[actix_rt::test]
async fn dropping_the_body_closes_the_connection_at_once() {
    let (tx, rx) = oneshot::channel();
    let tx = Rc::new(Cell::new(Some(tx)));
    let (address, _) = serve(move |mut socket, _| {
        let tx = tx.take().unwrap();
        async move {
            read_request(&mut socket).await;
            socket
                .write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n")
                .await
                .unwrap();
            closed_after(&mut socket, Instant::now()).await;
            tx.send(Instant::now()).unwrap();
        }
    })
    .await;
    let client = client_of(address);
    let mut answer = client.send(post("{}")).await.unwrap();
    assert_eq!(answer.body.chunk().await.unwrap().unwrap(), "x");
    let dropped = Instant::now();
    drop(answer);
    assert!(rx.await.unwrap().duration_since(dropped) < Duration::from_millis(100));
}

#[actix_rt::test]
async fn dropping_the_request_before_the_head_closes_the_connection_at_once() {
    let (asked_tx, asked_rx) = oneshot::channel();
    let (closed_tx, closed_rx) = oneshot::channel();
    let channels = Rc::new(Cell::new(Some((asked_tx, closed_tx))));
    let (address, _) = serve(move |mut socket, _| {
        let (asked, closed) = channels.take().unwrap();
        async move {
            read_request(&mut socket).await;
            asked.send(()).unwrap();
            closed_after(&mut socket, Instant::now()).await;
            closed.send(Instant::now()).unwrap();
        }
    })
    .await;
    let client = client_of(address);
    tokio::select! {
        _ = client.send(post("{}")) => panic!("nobody answered"),
        asked = asked_rx => asked.unwrap(),
    }
    let dropped = Instant::now();
    assert!(closed_rx.await.unwrap().duration_since(dropped) < Duration::from_millis(100));
}

// === connecting ===

#[actix_rt::test]
async fn a_refused_connection_names_the_address_and_not_more() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = client_of(address).send(post("{}")).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Connect);
    assert_eq!(error.message, format!("cannot connect to {address}: connection refused; is it running?"));
}

#[actix_rt::test]
async fn a_name_without_an_address_is_told_apart() {
    let client = Client::new(&options("http://no-such-host.invalid:80")).unwrap();
    let error = client.send(post("{}")).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Connect);
    assert!(error.message.starts_with("cannot resolve the host of no-such-host.invalid:80"), "{error}");
}

#[actix_rt::test]
async fn the_next_address_of_a_name_is_tried_when_the_first_refuses() {
    // `localhost` is ::1 and 127.0.0.1 on most machines; the server listens on one of them only.
    let (address, _) = serve(|socket, _| answer_all(socket)).await;
    let client = Client::new(&options(&format!("http://localhost:{}", address.port()))).unwrap();
    assert_eq!(text_of(client.send(post("{}")).await.unwrap()).await.unwrap(), "ok");
}
