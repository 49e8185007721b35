//! What memory a connection holds, from inside.

use std::future::{pending, poll_fn};
use std::pin::pin;

use actix_http::ServiceConfigBuilder;
use futures_util::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::super::tests::{post, wire};
use super::super::{Patience, REST};
use super::*;

async fn link(room: Option<u32>) -> (Link, TcpStream) {
    let (socket, client) = wire(room).await;
    (Link::new(socket, ServiceConfigBuilder::new().build()).unwrap(), client)
}

#[actix_rt::test]
async fn memory_for_a_large_answer_is_given_back_also_when_it_was_sent_in_parts() {
    let (mut link, mut client) = link(Some(4096)).await;
    let size = 1 << 20;
    let head = Response::with_body(StatusCode::OK, ());
    link.send(Message::Item((head, BodySize::Sized(size as u64)))).unwrap();
    link.send(Message::Chunk(Some(Bytes::from(vec![b'x'; size])))).unwrap();
    let reader = actix_rt::spawn(async move { client.read_to_end(&mut Vec::new()).await.unwrap() });
    let mut parts = 0;
    poll_fn(|cx| {
        parts += 1;
        link.poll_flush(cx)
    })
    .await
    .unwrap();
    assert!(parts > 1, "the kernel takes all of it at once");
    assert!(!link.unsent.try_reclaim(MOST_KEPT + 1));
    drop(link);
    assert!(reader.await.unwrap() > size);
}

#[actix_rt::test]
async fn a_connection_that_waits_gives_the_memory_of_a_large_body_back() {
    tokio::time::pause();
    let (link, mut client) = link(None).await;
    let (link, mut patience) = (Rc::new(RefCell::new(link)), Patience::new());
    client.write_all(post("/a", "", &"x".repeat(300_000)).as_bytes()).await.unwrap();
    let mut never = pin!(pending::<()>());
    let next = poll_fn(|cx| patience.poll_next(&link, never.as_mut(), cx)).await;
    let Next::Request(mut request) = next else { panic!("no request") };
    let length = request.take_payload().fold(0, async |length, piece| length + piece.unwrap().len()).await;
    assert_eq!(length, 300_000);
    drop(request);
    patience.renew();
    let mut waits = async |time| {
        let next = poll_fn(|cx| patience.poll_next(&link, never.as_mut(), cx));
        assert!(timeout(time, next).await.is_err());
        link.borrow_mut().arrived.try_reclaim(MOST_KEPT + 1)
    };
    assert!(waits(REST / 2).await, "a request that follows at once finds its memory");
    assert!(!waits(REST).await);
    drop(client);
}

#[actix_rt::test]
async fn a_large_request_is_read_into_the_memory_of_the_one_before() {
    let (link, mut client) = link(None).await;
    let (link, mut patience) = (Rc::new(RefCell::new(link)), Patience::new());
    let mut never = pin!(pending::<()>());
    let mut places = Vec::new();
    for _ in 0..4 {
        let text = post("/a", "", &"x".repeat(300_000));
        let sender = async { client.write_all(text.as_bytes()).await.unwrap() };
        let reader = async {
            let next = poll_fn(|cx| patience.poll_next(&link, never.as_mut(), cx)).await;
            let Next::Request(mut request) = next else { panic!("no request") };
            let mut body = request.take_payload();
            let piece = body.next().await.unwrap().unwrap();
            assert!(piece.len() == 300_000 && body.next().await.is_none());
            places.push(piece.as_ptr().addr());
        };
        tokio::join!(sender, reader);
        patience.renew();
    }
    // The first body stands alone in its memory, each later one behind its head.
    assert!(places[1] > places[0] && places[1] - places[0] < 200, "{places:?}");
    assert!(places[1] == places[2] && places[2] == places[3], "{places:?}");
}

#[actix_rt::test]
async fn the_memory_of_a_large_body_is_known_to_be_large_also_when_it_came_in_small_pieces() {
    tokio::time::pause();
    let (link, mut client) = link(None).await;
    let (link, mut patience) = (Rc::new(RefCell::new(link)), Patience::new());
    let mut never = pin!(pending::<()>());
    let (pieces, piece) = (20, vec![b'x'; 16 * 1024]);
    let head = format!("POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", pieces * piece.len());
    client.write_all(head.as_bytes()).await.unwrap();
    let next = poll_fn(|cx| patience.poll_next(&link, never.as_mut(), cx)).await;
    let Next::Request(mut request) = next else { panic!("no request") };
    let mut body = request.take_payload();
    for _ in 0..pieces {
        let next = async {
            // Longer than a piece is waited for.
            tokio::time::sleep(SLOW * 2).await;
            client.write_all(&piece).await.unwrap();
        };
        let (come, ()) = tokio::join!(body.next(), next);
        assert_eq!(come.unwrap().unwrap().len(), piece.len());
    }
    assert!(body.next().await.is_none());
    assert!(link.borrow().holds_much(), "a connection that waits would keep it");
}
