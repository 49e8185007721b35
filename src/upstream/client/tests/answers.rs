//! Answers as they come, whole, cut and odd, over real sockets.

use super::*;

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
