//! A connection from the client's side, over a real socket, with the clock in hand.

use std::cell::Cell;
use std::future::pending;
use std::sync::Arc;

use actix_http::{KeepAlive, ServiceConfigBuilder};
use actix_web::dev::fn_service;
use actix_web::error::Error;
use actix_web::{HttpResponse, web};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::task::JoinHandle;

use super::*;

/// A client and the connection that serves it.
struct Stage {
    client: TcpStream,
    served: JoinHandle<()>,
    closing: Arc<Closing>,
    /// The sizes of the pieces in which bodies came.
    pieces: Rc<RefCell<Vec<usize>>>,
    /// How many requests were dropped before they were answered.
    dropped: Rc<Cell<u32>>,
}

/// Counts when it is dropped.
struct Tally(Rc<Cell<u32>>);

impl Drop for Tally {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

// === impl Stage ===

impl Stage {
    /// The application answers with the path and the length of the body; `/hang` never, `/early` before it reads,
    /// `/stream` in two parts, `/broken` with a part and an error, `/cut` with many parts and an error, `/large` with a
    /// megabyte.
    async fn new() -> Stage {
        Stage::over(wire(None).await)
    }

    /// With so little room in the kernel that what the client does not read stays with the connection.
    async fn narrow() -> Stage {
        Stage::over(wire(Some(4096)).await)
    }

    fn over((socket, client): (TcpStream, TcpStream)) -> Stage {
        let (closing, pieces, dropped) = (Arc::new(Closing::default()), Rc::default(), Rc::default());
        let (seen, gone, told) = (Rc::clone(&pieces), Rc::clone(&dropped), Arc::clone(&closing));
        let served = actix_rt::spawn(async move {
            let app = fn_service(move |request: Request| {
                let (seen, gone) = (Rc::clone(&seen), Rc::clone(&gone));
                async move { Ok::<_, Error>(application(request, &seen, gone).await) }
            });
            let config = ServiceConfigBuilder::new().keep_alive(KeepAlive::Timeout(KEEP_ALIVE)).build();
            let app = actix_web::dev::ServiceFactory::<Request>::new_service(&app, ()).await.unwrap();
            serve(socket, &app, config, &told).await;
        });
        Stage { client, served, closing, pieces, dropped }
    }

    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.client.write_all(bytes.as_ref()).await.unwrap();
    }

    /// What comes until a text does, that included.
    async fn until(&mut self, end: &str) -> String {
        let mut text = Vec::new();
        while !text.ends_with(end.as_bytes()) {
            text.push(self.client.read_u8().await.unwrap());
        }
        String::from_utf8(text).unwrap()
    }

    /// What comes until the connection is closed, and that it is then served no more.
    async fn rest(mut self) -> String {
        let mut text = String::new();
        self.client.read_to_string(&mut text).await.unwrap();
        drop(self.client);
        self.served.await.unwrap();
        text
    }
}

/// The two ends of a connection, the server's first; with buffers of this size for what the server sends.
pub(super) async fn wire(room: Option<u32>) -> (TcpStream, TcpStream) {
    let (server, client) = (TcpSocket::new_v4().unwrap(), TcpSocket::new_v4().unwrap());
    if let Some(room) = room {
        // Who is accepted inherits it.
        server.set_send_buffer_size(room).unwrap();
        client.set_recv_buffer_size(room).unwrap();
    }
    server.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = server.listen(1).unwrap();
    let client = client.connect(listener.local_addr().unwrap()).await.unwrap();
    (listener.accept().await.unwrap().0, client)
}

async fn application(
    mut request: Request,
    seen: &RefCell<Vec<usize>>,
    gone: Rc<Cell<u32>>,
) -> Response<BoxBody> {
    let path = request.path().to_owned();
    if path == "/hang" {
        let _tally = Tally(gone);
        pending::<()>().await;
    }
    let mut body = request.take_payload();
    let mut length = 0;
    while path != "/early"
        && let Some(piece) = body.next().await
    {
        let Ok(piece) = piece else {
            return HttpResponse::BadRequest().body("broken").into();
        };
        seen.borrow_mut().push(piece.len());
        length += piece.len();
    }
    let parts = |parts: Vec<Result<&'static str, io::Error>>| {
        stream::iter(parts.into_iter().map(|part| part.map(|text| Bytes::from_static(text.as_bytes()))))
    };
    match path.as_str() {
        "/stream" => HttpResponse::Ok().streaming(parts(vec![Ok("one"), Ok("two")])).into(),
        "/broken" => {
            let broken = parts(vec![Ok("one"), Err(io::Error::other("broke"))]);
            // A pause lets the connection send what it has.
            let paused = broken.then(|part| async {
                tokio::task::yield_now().await;
                part
            });
            HttpResponse::Ok().streaming(paused).into()
        }
        "/cut" => {
            let part = Bytes::from(vec![b'x'; 1024]);
            let parts = stream::repeat(part).take(256).chain(stream::iter([Bytes::from_static(b"event")]));
            let cut = parts.map(Ok).chain(stream::iter([Err(io::Error::other("broke"))]));
            HttpResponse::Ok().streaming(cut).into()
        }
        "/large" => HttpResponse::Ok().body(web::Bytes::from(vec![b'x'; 1 << 20])).into(),
        _ => HttpResponse::Ok().body(format!("<{path} {length}>")).into(),
    }
}

pub(super) fn post(path: &str, more: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n{more}\r\n{body}", body.len())
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n")
}

#[actix_rt::test]
async fn requests_are_answered_one_after_another_also_when_they_come_together() {
    let mut stage = Stage::new().await;
    stage.send(post("/a", "", "xyz") + &get("/b") + &post("/c", "", "") + &get("/stream")).await;
    let text = stage.until("</c 0>").await;
    let order: Vec<_> =
        ["</a 3>", "</b 0>", "</c 0>"].iter().map(|answer| text.find(answer).unwrap()).collect();
    assert!(order.is_sorted(), "{text}");
    let text = stage.until("0\r\n\r\n").await;
    assert!(
        text.contains("transfer-encoding: chunked") && text.contains("3\r\none\r\n3\r\ntwo\r\n"),
        "{text}"
    );
    stage.send(post("/d", "connection: close\r\n", "1")).await;
    assert!(stage.rest().await.ends_with("</d 1>"));
}

#[actix_rt::test]
async fn a_body_of_known_length_comes_in_one_piece_and_a_longer_one_in_large_ones() {
    let mut stage = Stage::new().await;
    let body = "x".repeat(300_000);
    stage.send(post("/a", "", &body)).await;
    stage.until("</a 300000>").await;
    assert_eq!(*stage.pieces.borrow(), [300_000]);
    let body = "x".repeat(3_000_000);
    stage.send(post("/b", "connection: close\r\n", &body)).await;
    let pieces = Rc::clone(&stage.pieces);
    assert!(stage.rest().await.ends_with("</b 3000000>"));
    assert!(pieces.borrow().len() < 6, "{pieces:?}");
}

#[actix_rt::test]
async fn a_slow_body_is_handed_over_as_it_comes() {
    tokio::time::pause();
    let mut stage = Stage::new().await;
    stage.send("POST /a HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 3\r\n\r\n").await;
    for byte in ["x", "y", "z"] {
        tokio::time::sleep(Duration::from_secs(2)).await;
        stage.send(byte).await;
    }
    let pieces = Rc::clone(&stage.pieces);
    assert!(stage.rest().await.ends_with("</a 3>"));
    assert_eq!(*pieces.borrow(), [1, 1, 1]);
}

#[actix_rt::test]
async fn a_body_in_chunks_is_read_and_one_that_is_none_is_told() {
    let mut stage = Stage::new().await;
    let head = "POST /a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    stage.send(format!("{head}3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")).await;
    stage.until("</a 5>").await;
    stage.send(format!("{head}3\r\nabc\r\nzz\r\n")).await;
    assert!(stage.rest().await.ends_with("broken"));
}

#[actix_rt::test]
async fn a_body_that_ends_too_early_is_told_to_who_reads_it() {
    let mut stage = Stage::new().await;
    stage.send("POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nabc").await;
    stage.client.shutdown().await.unwrap();
    assert!(stage.rest().await.ends_with("broken"));
}

#[actix_rt::test]
async fn a_client_that_asks_is_told_to_go_on_when_its_body_is_wanted() {
    let mut stage = Stage::new().await;
    let head = |path: &str| {
        format!("POST {path} HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n")
    };
    stage.send(head("/a")).await;
    assert_eq!(stage.until("\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
    stage.send("abc").await;
    stage.until("</a 3>").await;
    stage.send(head("/early")).await;
    let text = stage.rest().await;
    assert!(text.starts_with("HTTP/1.1 200") && text.contains("connection: close"), "{text}");
}

#[actix_rt::test]
async fn an_answer_before_the_body_was_read_arrives_and_is_the_last() {
    let mut stage = Stage::new().await;
    let body = "x".repeat(200_000);
    stage.send(post("/early", "", &body)).await;
    let text = stage.rest().await;
    assert!(text.contains("connection: close") && text.ends_with("</early 0>"), "{text}");
}

#[actix_rt::test]
async fn a_body_that_is_here_but_not_wanted_does_not_end_the_connection() {
    let mut stage = Stage::new().await;
    stage.send(post("/early", "", "abc") + &get("/b")).await;
    let text = stage.until("</b 0>").await;
    assert!(text.contains("</early 0>") && !text.contains("connection: close"), "{text}");
}

#[actix_rt::test]
async fn what_a_client_sends_after_its_last_request_does_not_cut_the_answer() {
    let mut stage = Stage::narrow().await;
    stage.send("GET /large HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    stage.until("\r\n\r\n").await;
    stage.send(get("/b")).await;
    assert_eq!(stage.rest().await.len(), 1 << 20);
}

#[actix_rt::test]
async fn a_client_that_leaves_takes_its_request_with_it() {
    let mut stage = Stage::new().await;
    stage.send(post("/hang", "", "")).await;
    stage.client.shutdown().await.unwrap();
    let dropped = Rc::clone(&stage.dropped);
    assert_eq!(stage.rest().await, "");
    assert_eq!(dropped.get(), 1);
}

#[actix_rt::test]
async fn a_client_that_stops_reading_and_leaves_is_noticed() {
    let mut stage = Stage::new().await;
    for _ in 0..16 {
        stage.send(get("/large")).await;
    }
    stage.until("\r\n\r\n").await;
    drop(stage.client);
    stage.served.await.unwrap();
}

#[actix_rt::test]
async fn an_answer_that_breaks_off_does_not_look_complete() {
    let mut stage = Stage::new().await;
    stage.send(get("/broken")).await;
    let text = stage.rest().await;
    assert!(text.ends_with("3\r\none\r\n"), "{text}");
}

#[actix_rt::test]
async fn an_answer_that_breaks_off_is_sent_as_far_as_it_came_also_to_a_slow_reader() {
    let mut stage = Stage::narrow().await;
    stage.send(get("/cut")).await;
    let text = stage.rest().await;
    assert!(text.ends_with("xxx\r\n5\r\nevent\r\n"), "{} bytes", text.len());
}

#[actix_rt::test]
async fn what_is_no_http_is_a_400_and_a_head_without_end_a_431() {
    for (bytes, status) in [
        ("\u{1}\u{2}\u{3} nothing\r\n\r\n".to_owned(), "400"),
        ("GET / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n".to_owned(), "400"),
        (format!("GET / HTTP/1.1\r\na: {}", "x".repeat(140_000)), "431"),
    ] {
        let mut stage = Stage::new().await;
        stage.send(bytes).await;
        let text = stage.rest().await;
        assert!(
            text.starts_with(&format!("HTTP/1.1 {status} ")) && text.contains("connection: close"),
            "{text}"
        );
    }
}

#[actix_rt::test]
async fn a_head_that_does_not_come_is_a_408_after_ten_seconds() {
    tokio::time::pause();
    for begin in ["", "GET / HTTP/1.1\r\nho"] {
        let mut stage = Stage::new().await;
        let start = Instant::now();
        stage.send(begin).await;
        let text = stage.rest().await;
        assert!(text.starts_with("HTTP/1.1 408 "), "{text}");
        assert_eq!(start.elapsed().as_secs(), 10);
    }
}

#[actix_rt::test]
async fn a_later_head_has_ten_seconds_of_its_own_and_silence_has_longer() {
    tokio::time::pause();
    let mut stage = Stage::new().await;
    stage.send(get("/a")).await;
    stage.until("</a 0>").await;
    let start = Instant::now();
    tokio::time::sleep(Duration::from_secs(50)).await;
    for byte in b"GET / HTTP" {
        stage.send([*byte]).await;
        tokio::time::sleep(Duration::from_millis(900)).await;
    }
    assert!(stage.rest().await.starts_with("HTTP/1.1 408 "));
    assert_eq!(start.elapsed().as_secs(), 60);

    let mut stage = Stage::new().await;
    stage.send(get("/a")).await;
    stage.until("</a 0>").await;
    let start = Instant::now();
    assert_eq!(stage.rest().await, "", "a silent connection is closed without a word");
    assert_eq!(start.elapsed().as_secs(), KEEP_ALIVE.as_secs());
}

#[actix_rt::test]
async fn empty_lines_before_a_request_do_not_begin_it() {
    tokio::time::pause();
    let mut stage = Stage::new().await;
    stage.send(post("/a", "", "abc") + "\r\n").await;
    stage.until("</a 3>").await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    stage.send("\r\n".to_owned() + &get("/b")).await;
    stage.until("</b 0>").await;
}

#[actix_rt::test]
async fn draining_closes_who_waits_and_lets_who_is_answered_end() {
    let mut waiting = Stage::new().await;
    waiting.send(get("/a")).await;
    waiting.until("</a 0>").await;
    waiting.closing.drain();
    assert_eq!(waiting.rest().await, "");

    let mut busy = Stage::new().await;
    busy.send("POST /a HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n").await;
    busy.until("100 Continue\r\n\r\n").await;
    busy.closing.drain();
    busy.send("abc").await;
    let text = busy.rest().await;
    assert!(text.contains("connection: close") && text.ends_with("</a 3>"), "{text}");
}

#[actix_rt::test]
async fn an_old_client_is_answered_and_left() {
    let mut stage = Stage::new().await;
    stage.send("GET /a HTTP/1.0\r\n\r\n").await;
    let text = stage.rest().await;
    assert!(text.starts_with("HTTP/1.0 200") && text.ends_with("</a 0>"), "{text}");
    let mut stage = Stage::new().await;
    stage.send("GET /a HTTP/1.0\r\nconnection: keep-alive\r\n\r\n").await;
    stage.until("</a 0>").await;
    stage.send("GET /b HTTP/1.0\r\n\r\n").await;
    assert!(stage.rest().await.ends_with("</b 0>"));
}
