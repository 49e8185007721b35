//! What a session carries when it is under strain: more than fits into buffers, in both directions, at any pace, and
//! answers that come before the request was read. The server is a thread of its own, so that what it does falls between
//! any two steps of ours.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::*;
use crate::wire::rope::Rope;

type Session = TlsStream<TcpStream>;

const REFUSAL: &[u8] = b"HTTP/1.1 413 Too Large\r\ncontent-length: 9\r\nconnection: close\r\n\r\ntoo large";

/// A server whose kernel takes next to nothing that is not read, and plays this with each session; a client that trusts
/// it; and the number of sessions.
fn play<F>(script: impl Fn(Session) -> F + Send + 'static) -> (Client, Arc<AtomicUsize>)
where
    F: Future<Output = ()> + 'static,
{
    let authority = authority("ours");
    let acceptor = acceptor(&authority, &["localhost"]);
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(16 * 1024).unwrap();
    socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(16).unwrap();
    socket.set_nonblocking(true).unwrap();
    let listener = std::net::TcpListener::from(socket);
    let port = listener.local_addr().unwrap().port();
    let sessions = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&sessions);
    std::thread::spawn(move || {
        actix_rt::System::new().block_on(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                // What waits for an acknowledgement when the socket is closed would be lost.
                socket.set_nodelay(true).unwrap();
                // A client that leaves in the middle of the handshake is nobody's fault.
                let Ok(session) = acceptor.accept(socket).await else { continue };
                counter.fetch_add(1, Ordering::SeqCst);
                actix_rt::spawn(script(session));
            }
        });
    });
    let ca = pem_file(&authority.pem());
    let client =
        Client::new(&options(format!("https://localhost:{port}"), Some(ca.path().to_owned()))).unwrap();
    (client, sessions)
}

/// Bytes of which no two stretches are alike, so that none can be lost, doubled or moved unnoticed.
fn noise(length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(7);
    (0..length).map(|_| random.u8(..)).collect()
}

fn post(body: impl Into<Rope>) -> Outgoing {
    Outgoing { method: Method::POST, path: "/".to_owned(), headers: Vec::new(), body: body.into() }
}

async fn read_head(session: &mut Session) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(session.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}

/// Reads one request, the body in pieces of at most this many bytes.
async fn read_request(session: &mut Session, piece: usize) -> Option<Vec<u8>> {
    let head = read_head(session).await?;
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?.parse().ok()?;
    let mut body = Vec::with_capacity(length);
    let mut buffer = vec![0; piece];
    while body.len() < length {
        let count = session.read(&mut buffer).await.ok().filter(|count| *count > 0)?;
        body.extend_from_slice(&buffer[..count]);
    }
    Some(body)
}

/// Answers each request with its own body.
async fn echo(mut session: Session) {
    while let Some(body) = read_request(&mut session, 64 * 1024).await {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
        session.write_all(head.as_bytes()).await.unwrap();
        session.write_all(&body).await.unwrap();
        session.flush().await.unwrap();
    }
}

#[actix_rt::test]
async fn a_long_body_comes_back_as_it_went_on_one_session_whatever_its_pieces() {
    let (client, sessions) = play(echo);
    let body = noise(3 << 20);
    // In one piece; in more pieces than go out in one call; in small ones, as an edited request has.
    for pieces in [1, 100, 5_000] {
        let mut rope = Rope::default();
        for piece in body.chunks(body.len().div_ceil(pieces)) {
            rope.push(Bytes::copy_from_slice(piece));
        }
        let answer = client.send(post(rope)).await.unwrap();
        let back = answer.body.collect(body.len()).await.unwrap();
        assert!(back == body, "{pieces} pieces: what came back is something else");
    }
    assert_eq!(sessions.load(Ordering::SeqCst), 1);
}

#[actix_rt::test]
async fn an_upstream_that_reads_slowly_gets_all_of_it() {
    let (begin, begun) = tokio::sync::watch::channel(false);
    let (client, _) = play(move |mut session: Session| {
        let mut begun = begun.clone();
        async move {
            // Nothing is read until the client can get nothing more rid of.
            begun.wait_for(|begun| *begun).await.unwrap();
            let body = read_request(&mut session, 1000).await.unwrap();
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
            session.write_all(head.as_bytes()).await.unwrap();
            for piece in body.chunks(1000) {
                session.write_all(piece).await.unwrap();
            }
            session.flush().await.unwrap();
        }
    });
    // More than any buffer on the way holds, so that writes must wait.
    let body = noise(12 << 20);
    let mut sent = std::pin::pin!(client.send(post(Bytes::from(body.clone()))));
    let stuck = tokio::time::timeout(Duration::from_millis(300), &mut sent).await;
    assert!(stuck.is_err(), "it is still to be read, and has no answer");
    begin.send_replace(true);
    let answer = sent.await.unwrap();
    assert!(answer.body.collect(body.len()).await.unwrap() == body, "what came back is something else");
}

#[actix_rt::test]
async fn the_end_of_a_request_that_the_session_holds_back_goes_out_when_there_is_room() {
    let (begin, begun) = tokio::sync::watch::channel(0);
    let number = Arc::new(AtomicUsize::new(0));
    let (client, _) = play(move |mut session: Session| {
        let (mut begun, own) = (begun.clone(), number.fetch_add(1, Ordering::SeqCst));
        async move {
            begun.wait_for(|begun| *begun > own).await.unwrap();
            read_request(&mut session, 1 << 20).await.unwrap();
            let answer = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok";
            session.write_all(answer).await.unwrap();
            session.flush().await.unwrap();
        }
    });
    // A session takes 64 KB more than the kernel does. Wherever the kernel's room ends, one of these bodies ends within
    // that stretch.
    for (done, size) in (512..4096).step_by(40).enumerate() {
        let mut sent = std::pin::pin!(client.send(post(Bytes::from(vec![b'x'; size << 10]))));
        let stuck = tokio::time::timeout(Duration::from_millis(10), &mut sent).await;
        assert!(stuck.is_err(), "it is still to be read, and has no answer");
        begin.send_replace(done + 1);
        let answer = tokio::time::timeout(Duration::from_secs(20), sent).await;
        let answer = answer.unwrap_or_else(|_| panic!("the end of {size} KB was kept back"));
        assert_eq!(answer.unwrap().body.collect(100).await.unwrap(), "ok");
    }
}

#[actix_rt::test]
async fn a_refusal_is_read_while_the_body_is_on_its_way_however_the_upstream_goes() {
    for way in ["reads on", "says goodbye", "just goes"] {
        let (client, sessions) = play(move |mut session: Session| async move {
            session.read_exact(&mut [0; 1000]).await.unwrap();
            session.write_all(REFUSAL).await.unwrap();
            session.flush().await.unwrap();
            match way {
                "reads on" => {
                    let _ = tokio::io::copy(&mut session, &mut tokio::io::sink()).await;
                }
                "says goodbye" => {
                    let _ = session.shutdown().await;
                }
                _ => {}
            }
        });
        for round in 0..10 {
            let answer = client.send(post(Bytes::from(vec![b'x'; 6 << 20]))).await;
            let answer = answer.unwrap_or_else(|error| panic!("{way}, {round}: {error}"));
            assert_eq!(answer.status, 413, "{way}, {round}");
            assert_eq!(answer.body.collect(100).await.unwrap(), "too large", "{way}, {round}");
        }
        assert_eq!(sessions.load(Ordering::SeqCst), 10, "{way}: none is used again");
    }
}

#[actix_rt::test]
async fn a_long_answer_that_begins_before_the_request_is_read_blocks_nobody() {
    const LENGTH: usize = 12 << 20;
    let (client, _) = play(|mut session: Session| async move {
        session.read_exact(&mut [0; 1000]).await.unwrap();
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {LENGTH}\r\n\r\n");
        session.write_all(head.as_bytes()).await.unwrap();
        session.write_all(&noise(LENGTH)).await.unwrap();
        session.flush().await.unwrap();
        let _ = tokio::io::copy(&mut session, &mut tokio::io::sink()).await;
    });
    let sent = async { client.send(post(Bytes::from(noise(LENGTH)))).await?.body.collect(LENGTH).await };
    let body = tokio::time::timeout(Duration::from_secs(60), sent).await.expect("it hangs").unwrap();
    assert!(body == noise(LENGTH));
}

#[actix_rt::test]
async fn a_kept_session_that_died_is_replaced_once_whether_or_not_its_end_was_said() {
    for said in [true, false] {
        let number = Arc::new(AtomicUsize::new(0));
        // The first session answers once and dies with the second request, the second answers.
        let (client, sessions) = play(move |mut session: Session| {
            let first = number.fetch_add(1, Ordering::SeqCst) == 0;
            async move {
                while read_request(&mut session, 1000).await.is_some() {
                    session.write_all(OK).await.unwrap();
                    session.flush().await.unwrap();
                    if first {
                        let _ = read_request(&mut session, 1000).await;
                        if said {
                            let _ = session.shutdown().await;
                        }
                        return;
                    }
                }
            }
        });
        for _ in 0..3 {
            let answer = client.send(post(Bytes::from_static(b"{}"))).await.unwrap();
            assert_eq!(answer.body.collect(100).await.unwrap(), "ok");
        }
        assert_eq!(sessions.load(Ordering::SeqCst), 2, "said: {said}");
    }
}

#[actix_rt::test]
async fn dropping_an_answer_closes_its_session_at_once() {
    let (closed, mut seen) = tokio::sync::mpsc::channel(1);
    let (client, _) = play(move |mut session: Session| {
        let closed = closed.clone();
        async move {
            read_head(&mut session).await.unwrap();
            session
                .write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n")
                .await
                .unwrap();
            session.flush().await.unwrap();
            let _ = tokio::io::copy(&mut session, &mut tokio::io::sink()).await;
            closed.send(Instant::now()).await.unwrap();
        }
    });
    let mut answer = client.send(post(Bytes::new())).await.unwrap();
    assert_eq!(answer.body.chunk().await.unwrap().unwrap(), "x");
    let dropped = Instant::now();
    drop(answer);
    let closed = tokio::time::timeout(Duration::from_secs(10), seen.recv()).await.expect("it stays open");
    let took = closed.unwrap().duration_since(dropped);
    assert!(took < Duration::from_millis(500), "{took:?}");
}
