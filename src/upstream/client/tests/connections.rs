//! Which connection a request takes, what becomes of it, and answers that come before the request is read.

use super::*;

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
