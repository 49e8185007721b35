//! Raw sockets play the upstream, byte by byte; no HTTP library stands between the test and the wire.

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

// === answers ===

#[actix_rt::test]
async fn status_and_headers_come_as_they_are_and_hop_by_hop_ones_do_not() {
    let address = answers(
        b"HTTP/1.1 429 Slow Down\r\nX-A: 1\r\nx-a: 2\r\nKeep-Alive: timeout=5\r\nConnection: keep-alive\r\n\
          Transfer-Encoding: chunked\r\n\r\n3\r\nno \r\n4;x=y\r\nmore\r\n0\r\nx-trailer: 1\r\n\r\n",
    )
    .await;
    let answer = client_of(address).send(post("{}")).await.unwrap();
    assert_eq!(answer.status, 429);
    let all: Vec<_> = answer.headers.get_all("x-a").iter().collect();
    assert_eq!(all, ["1", "2"]);
    assert_eq!(answer.headers.len(), 2, "{:?}", answer.headers);
    assert_eq!(text_of(answer).await.unwrap(), "no more");
}

#[actix_rt::test]
async fn a_body_that_ends_with_the_connection_is_complete() {
    let address = answers(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\nall of it").await;
    assert_eq!(text_of(client_of(address).send(post("{}")).await.unwrap()).await.unwrap(), "all of it");
}

#[actix_rt::test]
async fn an_http_1_0_answer_is_complete_with_and_without_a_length() {
    let address = answers(b"HTTP/1.0 200 OK\r\n\r\nold").await;
    assert_eq!(text_of(client_of(address).send(post("{}")).await.unwrap()).await.unwrap(), "old");
    let address = answers(b"HTTP/1.0 200 OK\r\ncontent-length: 3\r\n\r\nold").await;
    assert_eq!(text_of(client_of(address).send(post("{}")).await.unwrap()).await.unwrap(), "old");
}

#[actix_rt::test]
async fn informational_heads_are_not_the_answer() {
    let address = answers(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n\
          HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nreal",
    )
    .await;
    let answer = client_of(address).send(post("{}")).await.unwrap();
    assert_eq!(answer.status, 200);
    assert!(answer.headers.get("link").is_none());
    assert_eq!(text_of(answer).await.unwrap(), "real");
}

#[actix_rt::test]
async fn answers_without_a_body_end_at_once_and_leave_the_connection_usable() {
    for head in [
        "204 No Content\r\n\r\n",
        "304 Not Modified\r\ncontent-length: 10\r\n\r\n",
        "200 OK\r\ncontent-length: 0\r\n\r\n",
    ] {
        let (address, count) = serve(move |mut socket, _| async move {
            while read_request(&mut socket).await.is_some() {
                socket.write_all(format!("HTTP/1.1 {head}").as_bytes()).await.unwrap();
            }
        })
        .await;
        let client = client_of(address);
        for _ in 0..2 {
            assert_eq!(text_of(client.send(post("{}")).await.unwrap()).await.unwrap(), "");
        }
        assert_eq!(count.get(), 1, "{head}");
    }
}

#[actix_rt::test]
async fn a_truncated_body_is_an_error_after_the_bytes_that_came() {
    for bytes in [
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf".as_slice(),
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nhalf",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\n",
    ] {
        let mut answer = client_of(answers(bytes).await).send(post("{}")).await.unwrap();
        assert_eq!(answer.body.chunk().await.unwrap().unwrap(), "half");
        let error = answer.body.chunk().await.unwrap().unwrap_err();
        assert_eq!(error.kind, ErrorKind::Truncated, "{error}");
        assert!(answer.body.chunk().await.is_none());
    }
}

#[actix_rt::test]
async fn a_reset_in_the_middle_of_a_body_is_a_truncation() {
    let (address, _) = serve(|mut socket, _| async move {
        read_request(&mut socket).await;
        socket.write_all(b"HTTP/1.1 200 OK\r\n\r\nhalf").await.unwrap();
        socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO)).unwrap();
    })
    .await;
    let error = match client_of(address).send(post("{}")).await {
        Ok(answer) => text_of(answer).await.unwrap_err(),
        Err(error) => error,
    };
    assert!(matches!(error.kind, ErrorKind::Truncated | ErrorKind::Connect), "{error}");
}

#[actix_rt::test]
async fn a_head_that_breaks_off_is_a_truncation() {
    let error = client_of(answers(b"HTTP/1.1 200 OK\r\ncont").await).send(post("{}")).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Truncated, "{error}");
}

#[actix_rt::test]
async fn what_is_not_http_is_a_protocol_error() {
    for (bytes, said) in [
        (b"SSH-2.0-OpenSSH_9.2\r\n".as_slice(), "HTTP/1.1"),
        (b"\x15\x03\x03\x00\x02\x02\x28", "https"),
        (b"HTTP/1.1 OK\r\n\r\n", "status"),
        (b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\n", "switches"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab", "content-length"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: +2\r\n\r\nab", "content-length"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "transfer-encoding"),
    ] {
        let error = client_of(answers(bytes).await).send(post("{}")).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::UpstreamProtocol, "{error}");
        assert!(error.message.contains(said), "{error}");
    }
}

#[actix_rt::test]
async fn an_endless_head_is_cut_off() {
    let (address, _) = serve(|mut socket, _| async move {
        read_request(&mut socket).await;
        let _ = socket.write_all(b"HTTP/1.1 200 OK\r\n").await;
        while socket.write_all(b"x-filler: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n").await.is_ok() {}
    })
    .await;
    let error = client_of(address).send(post("{}")).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::UpstreamProtocol, "{error}");
    assert!(error.message.contains("64 KB"), "{error}");
}

#[actix_rt::test]
async fn an_unasked_content_encoding_is_named() {
    let address = answers(b"HTTP/1.1 200 OK\r\ncontent-encoding: br\r\ncontent-length: 2\r\n\r\nxx").await;
    let error = client_of(address).send(post("{}")).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::UpstreamProtocol);
    assert!(error.message.contains("`br`"), "{error}");

    let address = answers(b"HTTP/1.1 429 No\r\ncontent-encoding: br\r\ncontent-length: 2\r\n\r\nxx").await;
    let answer = client_of(address).send(post("{}")).await.unwrap();
    assert_eq!(answer.status, 429);
    assert_eq!(text_of(answer).await.unwrap(), "");
}

#[actix_rt::test]
async fn a_redirect_is_not_followed() {
    let (address, count) = serve(|mut socket, _| async move {
        while read_request(&mut socket).await.is_some() {
            let moved = b"HTTP/1.1 307 Moved\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n";
            socket.write_all(moved).await.unwrap();
        }
    })
    .await;
    let answer = client_of(address).send(post("{}")).await.unwrap();
    assert_eq!(answer.status, 307);
    assert_eq!(answer.headers.get("location").unwrap(), "/elsewhere");
    assert_eq!(count.get(), 1);
}

#[actix_rt::test]
async fn collect_refuses_a_body_over_the_limit() {
    let bytes = b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\n12345678";
    let answer = client_of(answers(bytes).await).send(post("{}")).await.unwrap();
    assert_eq!(answer.body.collect(8).await.unwrap(), "12345678");
    let answer = client_of(answers(bytes).await).send(post("{}")).await.unwrap();
    let error = answer.body.collect(7).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::UpstreamProtocol);
    assert!(error.message.contains("larger than 7 bytes"), "{error}");
}

// === connections ===

#[actix_rt::test]
async fn one_connection_serves_request_after_request() {
    let (address, count) = serve(|socket, _| answer_all(socket)).await;
    let client = client_of(address);
    for _ in 0..5 {
        assert_eq!(text_of(client.send(post("{}")).await.unwrap()).await.unwrap(), "ok");
    }
    assert_eq!(count.get(), 1);
}

#[actix_rt::test]
async fn a_connection_is_not_reused_when_the_upstream_says_so_or_sends_too_much() {
    for bytes in [
        b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok".as_slice(),
        b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    ] {
        let (address, count) = serve(move |mut socket, _| async move {
            while read_request(&mut socket).await.is_some() {
                socket.write_all(bytes).await.unwrap();
            }
        })
        .await;
        let client = client_of(address);
        for _ in 0..2 {
            assert_eq!(text_of(client.send(post("{}")).await.unwrap()).await.unwrap(), "ok");
        }
        assert_eq!(count.get(), 2, "{}", String::from_utf8_lossy(bytes));
    }
}

#[actix_rt::test]
async fn a_reused_connection_that_is_dead_is_retried_exactly_once_on_a_fresh_one() {
    // Connection 0 answers once and dies on the second request; connection 1 answers.
    let (address, count) = serve(|mut socket, number| async move {
        read_request(&mut socket).await;
        socket.write_all(OK).await.unwrap();
        read_request(&mut socket).await;
        if number > 0 {
            socket.write_all(OK).await.unwrap();
        }
    })
    .await;
    let client = client_of(address);
    assert_eq!(text_of(client.send(post("{}")).await.unwrap()).await.unwrap(), "ok");
    assert_eq!(text_of(client.send(post("{}")).await.unwrap()).await.unwrap(), "ok");
    assert_eq!(count.get(), 2);
}

#[actix_rt::test]
async fn a_reused_connection_that_dies_after_a_while_is_not_retried() {
    // The second request may have been worked on when the upstream fell: asking again could cost twice.
    let (address, count) = serve(|mut socket, _| async move {
        read_request(&mut socket).await;
        socket.write_all(OK).await.unwrap();
        read_request(&mut socket).await;
        actix_rt::time::sleep(Duration::from_millis(2200)).await;
    })
    .await;
    let client = client_of(address);
    text_of(client.send(post("{}")).await.unwrap()).await.unwrap();
    let error = client.send(post("{}")).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Connect, "{error}");
    assert_eq!(count.get(), 1);
}

#[actix_rt::test]
async fn the_retry_takes_no_other_waiting_connection_and_is_the_last() {
    // Two connections wait, both answer once and then never again; every later one dies at once.
    let (address, count) = serve(|mut socket, number| async move {
        read_request(&mut socket).await;
        if number < 2 {
            socket.write_all(OK).await.unwrap();
            read_request(&mut socket).await;
        }
    })
    .await;
    let client = client_of(address);
    let (first, second) = tokio::join!(client.send(post("{}")), client.send(post("{}")));
    text_of(first.unwrap()).await.unwrap();
    text_of(second.unwrap()).await.unwrap();
    assert_eq!(count.get(), 2);
    let error = client.send(post("{}")).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Connect, "{error}");
    assert_eq!(count.get(), 3);
}

#[actix_rt::test]
async fn a_fresh_connection_that_dies_is_not_retried() {
    let (address, count) = serve(|mut socket, _| async move { drop(read_request(&mut socket).await) }).await;
    let error = client_of(address).send(post("{}")).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Connect, "{error}");
    assert!(error.message.contains(&address.to_string()), "{error}");
    assert_eq!(count.get(), 1);
}

#[actix_rt::test]
async fn a_waiting_connection_that_the_upstream_closes_is_closed_here_too() {
    let (tx, rx) = oneshot::channel();
    let tx = Rc::new(Cell::new(Some(tx)));
    let (address, _) = serve(move |mut socket, _| {
        let tx = tx.take().unwrap();
        async move {
            read_request(&mut socket).await;
            socket.write_all(OK).await.unwrap();
            socket.shutdown().await.unwrap();
            // Our own end is closed only when the client has closed its.
            tx.send(socket.read(&mut [0_u8; 8]).await.unwrap()).unwrap();
        }
    })
    .await;
    let client = client_of(address);
    text_of(client.send(post("{}")).await.unwrap()).await.unwrap();
    let read = tokio::time::timeout(Duration::from_secs(5), rx).await.expect("the socket lingers").unwrap();
    assert_eq!(read, 0);
    drop(client);
}

#[actix_rt::test]
async fn an_early_refusal_is_read_while_a_large_body_is_on_its_way() {
    const REFUSAL: &[u8] =
        b"HTTP/1.1 413 Too Large\r\ncontent-length: 9\r\nconnection: close\r\n\r\ntoo large";
    // Three ways in which servers do it: read on to the end, say goodbye and close, just close.
    for way in 0..3 {
        let (address, count) = serve(move |mut socket, _| async move {
            let mut some = [0_u8; 1000];
            socket.read_exact(&mut some).await.unwrap();
            socket.write_all(REFUSAL).await.unwrap();
            match way {
                0 => drop(socket.read_to_end(&mut Vec::with_capacity(0)).await.map(|_| ())),
                1 => socket.shutdown().await.unwrap(),
                _ => {}
            }
        })
        .await;
        for _ in 0..5 {
            let answer = client_of(address).send(post(vec![b'x'; 5 << 20])).await.unwrap();
            assert_eq!(answer.status, 413);
            assert_eq!(text_of(answer).await.unwrap(), "too large");
        }
        assert_eq!(count.get(), 5);
    }
}

#[actix_rt::test]
async fn an_early_refusal_needs_no_upstream_that_reads_on_and_spends_the_connection() {
    let (address, count) = serve(|mut socket, number| async move {
        if number > 0 {
            return answer_all(socket).await;
        }
        socket.read_exact(&mut [0_u8; 1000]).await.unwrap();
        socket.write_all(b"HTTP/1.1 401 No\r\ncontent-length: 2\r\n\r\nno").await.unwrap();
        std::future::pending::<()>().await;
    })
    .await;
    let client = client_of(address);
    let answer = client.send(post(vec![b'x'; 5 << 20])).await.unwrap();
    assert_eq!(answer.status, 401);
    assert_eq!(text_of(answer).await.unwrap(), "no");
    assert_eq!(text_of(client.send(post("{}")).await.unwrap()).await.unwrap(), "ok");
    assert_eq!(count.get(), 2);
}

/// An upstream on a thread of its own, so that what it does falls between any two steps of ours. It answers each
/// connection after the first kilobyte, and then reads on or closes at once.
fn hasty(answer: Vec<u8>, reads_on: bool) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let (mut socket, answer) = (socket.unwrap(), answer.clone());
            std::thread::spawn(move || {
                socket.read_exact(&mut [0_u8; 1000]).unwrap();
                let written = socket.write_all(&answer);
                if written.is_ok() && reads_on {
                    let _ = std::io::copy(&mut socket, &mut std::io::sink());
                }
            });
        }
    });
    address
}

#[actix_rt::test]
async fn a_refusal_is_not_lost_when_the_upstream_closes_while_the_body_is_on_its_way() {
    let refusal = b"HTTP/1.1 413 Too Large\r\ncontent-length: 9\r\nconnection: close\r\n\r\ntoo large";
    let address = hasty(refusal.to_vec(), false);
    for _ in 0..20 {
        let answer = client_of(address).send(post(vec![b'x'; 6 << 20])).await.unwrap();
        assert_eq!((answer.status, text_of(answer).await.unwrap()), (413, "too large".to_owned()));
    }
}

#[actix_rt::test]
async fn a_whole_answer_before_the_request_is_read_does_not_hang() {
    for (head, status, text) in [
        ("200 OK\r\ncontent-length: 2\r\n\r\nok", 200, "ok"),
        ("200 OK\r\ncontent-length: 0\r\n\r\n", 200, ""),
        ("204 No Content\r\n\r\n", 204, ""),
    ] {
        for reads_on in [true, false] {
            let address = hasty(format!("HTTP/1.1 {head}").into_bytes(), reads_on);
            let client = client_of(address);
            let sent = async {
                let answer = client.send(post(vec![b'x'; 20 << 20])).await?;
                Ok::<_, ProxyError>((answer.status, text_of(answer).await?))
            };
            let answered = tokio::time::timeout(Duration::from_secs(20), sent).await.expect("it hangs");
            assert_eq!(answered.unwrap(), (status, text.to_owned()), "{head:?}, reads on: {reads_on}");
        }
    }
}

#[actix_rt::test]
async fn a_long_answer_that_begins_before_the_request_is_read_blocks_nobody() {
    const LENGTH: usize = 20 << 20;
    let mut answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {LENGTH}\r\n\r\n").into_bytes();
    answer.resize(answer.len() + LENGTH, b'y');
    let client = client_of(hasty(answer, true));
    let sent = async { client.send(post(vec![b'x'; 20 << 20])).await?.body.collect(LENGTH).await };
    let body = tokio::time::timeout(Duration::from_secs(30), sent).await.expect("it hangs").unwrap();
    assert_eq!(body.len(), LENGTH);
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
