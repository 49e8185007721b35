//! A stream's short way beside the ordinary one, over a real socket.

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;

use actix_http::{KeepAlive, Request, Response, ServiceConfigBuilder};
use actix_web::HttpResponse;
use actix_web::body::BoxBody;
use actix_web::dev::{ServiceFactory, fn_service};
use actix_web::error::Error;
use bytes::Bytes;
use futures_util::stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, yield_now};

use super::super::tests::wire;
use super::super::{KEEP_ALIVE, serve};
use super::*;
use crate::backend::lane::Lane;
use crate::server::closing::Closing;

const GET: &[u8] = b"GET /a HTTP/1.1\r\nhost: a\r\n\r\n";

/// A client, the connection that serves it, and who sends a stream.
struct Stage {
    client: TcpStream,
    served: JoinHandle<()>,
    lane: Arc<Lane>,
    channel: Option<mpsc::Sender<Bytes>>,
}

impl Stage {
    /// A stream that has begun; the kernel has little room for it.
    async fn new(request: &[u8], chunked: bool) -> Stage {
        let (socket, mut client) = wire(Some(4096)).await;
        let (lane, (channel, frames)) = (Arc::new(Lane::default()), mpsc::channel::<Bytes>(16));
        let (of_app, first) = (Arc::clone(&lane), Rc::new(RefCell::new(Some(frames))));
        let served = actix_rt::spawn(async move {
            let app = fn_service(move |_: Request| {
                let (lane, frames) = (Arc::clone(&of_app), first.borrow_mut().take());
                async move { Ok::<_, Error>(application(lane, frames, chunked)) }
            });
            let config = ServiceConfigBuilder::new().keep_alive(KeepAlive::Timeout(KEEP_ALIVE)).build();
            let app = ServiceFactory::<Request>::new_service(&app, ()).await.unwrap();
            serve(socket, &app, config, &Closing::default()).await;
        });
        client.write_all(request).await.unwrap();
        let mut stage = Stage { client, served, lane, channel: Some(channel) };
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            head += &stage.text(1).await;
        }
        stage
    }

    /// As the provider's thread sends. True if it went the short way.
    async fn send(&self, events: impl Into<Bytes>) -> bool {
        let events = events.into();
        let short = self.lane.pass(&events);
        if !short {
            self.channel.as_ref().unwrap().send(events).await.unwrap();
        }
        short
    }

    async fn until_open(&self) {
        while !self.lane.is_open() {
            yield_now().await;
        }
    }

    async fn text(&mut self, length: usize) -> String {
        let mut text = vec![0; length];
        self.client.read_exact(&mut text).await.unwrap();
        String::from_utf8(text).unwrap()
    }

    async fn comes(&mut self, text: &str) {
        assert_eq!(self.text(text.len()).await, text);
    }
}

/// The first answer is the stream, each later one is empty.
fn application(lane: Arc<Lane>, frames: Option<mpsc::Receiver<Bytes>>, chunked: bool) -> Response<BoxBody> {
    let Some(frames) = frames else { return HttpResponse::Ok().finish().into() };
    let received = Arc::clone(&lane);
    let body = stream::unfold(frames, move |mut frames| {
        let lane = Arc::clone(&received);
        async move {
            let frame = frames.recv().await?;
            lane.came_round();
            Some((Ok::<_, Infallible>(frame), frames))
        }
    });
    let mut response = HttpResponse::Ok().streaming(body);
    response.head_mut().no_chunking(!chunked);
    response.extensions_mut().insert(lane);
    response.into()
}

#[actix_rt::test]
async fn events_arrive_in_their_order_whichever_way_they_take() {
    let mut stage = Stage::new(GET, true).await;
    stage.until_open().await;
    for turn in 0..3 {
        assert!(stage.send("one\n").await, "{turn}");
        stage.comes("4\r\none\n\r\n").await;
        stage.lane.go_round();
        stage.channel.as_ref().unwrap().send(Bytes::from_static(b"round")).await.unwrap();
        assert!(!stage.send("behind it").await, "it would overtake");
        stage.comes("5\r\nround\r\n9\r\nbehind it\r\n").await;
        stage.until_open().await;
    }
}

#[actix_rt::test]
async fn what_the_socket_does_not_take_is_sent_before_what_follows_and_then_the_way_is_open_again() {
    let mut stage = Stage::new(GET, true).await;
    stage.until_open().await;
    let large = "x".repeat(1 << 20);
    assert!(stage.send(large.clone()).await);
    assert!(!stage.lane.is_open());
    assert!(!stage.send("behind it").await, "it would overtake");
    stage.comes(&format!("100000\r\n{large}\r\n9\r\nbehind it\r\n")).await;
    stage.until_open().await;
    assert!(stage.send(large.clone()).await, "without anything behind it");
    stage.comes(&format!("100000\r\n{large}\r\n")).await;
    stage.until_open().await;
}

#[actix_rt::test]
async fn no_event_comes_between_what_the_connection_sends_itself() {
    let mut stage = Stage::new(GET, true).await;
    stage.until_open().await;
    let comment = "x".repeat(1 << 20);
    // Nobody on the other side knows of it.
    stage.channel.as_ref().unwrap().send(Bytes::from(comment.clone())).await.unwrap();
    for _ in 0..100 {
        yield_now().await;
    }
    assert!(!stage.send("event").await);
    stage.comes(&format!("100000\r\n{comment}\r\n5\r\nevent\r\n")).await;
}

#[actix_rt::test]
async fn nothing_is_lost_and_nothing_waits_when_both_threads_are_at_it() {
    const EVENTS: usize = 4000;
    // Sizes that the kernel takes now as a whole, now in part, now not at all.
    let event = |number: usize| format!("{number}:{}\n", "x".repeat(number * 7919 % 3001));
    let mut stage = Stage::new(GET, true).await;
    stage.until_open().await;
    let (lane, channel) = (Arc::clone(&stage.lane), stage.channel.take().unwrap());
    let sender = std::thread::spawn(move || {
        let mut short = 0;
        for number in 0..EVENTS {
            let events = Bytes::from(event(number));
            if lane.pass(&events) {
                short += 1;
            } else {
                channel.blocking_send(events).unwrap();
            }
        }
        short
    });
    let expected = (0..EVENTS).map(|number| {
        let event = event(number);
        format!("{:X}\r\n{event}\r\n", event.len())
    });
    for chunk in expected.chain(["0\r\n\r\n".to_owned()]) {
        let comes = tokio::time::timeout(std::time::Duration::from_secs(10), stage.comes(&chunk));
        comes.await.expect("it waits for ever");
    }
    let short = sender.join().unwrap();
    assert!(0 < short && short < EVENTS, "{short} went the short way");
}

#[actix_rt::test]
async fn a_client_that_leaves_is_noticed_also_when_its_next_request_waits() {
    let mut stage = Stage::new(GET, true).await;
    stage.until_open().await;
    stage.client.write_all(GET).await.unwrap();
    // The connection wakes up for the request, and sees nothing more of what its client does.
    for _ in 0..100 {
        yield_now().await;
    }
    drop(stage.client);
    while !stage.served.is_finished() {
        stage.lane.pass(b"event");
        yield_now().await;
    }
    assert!(!stage.lane.is_open() && stage.channel.unwrap().is_closed());
}

#[actix_rt::test]
async fn the_way_ends_with_the_answer() {
    let mut stage = Stage::new(GET, true).await;
    stage.until_open().await;
    stage.channel = None;
    stage.comes("0\r\n\r\n").await;
    assert!(!stage.lane.is_open());
    stage.client.write_all(GET).await.unwrap();
    let head = stage.text(15).await;
    assert_eq!(head, "HTTP/1.1 200 OK");
    assert!(!stage.lane.is_open() && !stage.lane.pass(b"late"));
}

#[actix_rt::test]
async fn the_way_ends_with_a_client_that_leaves_also_when_it_has_not_taken_all() {
    for size in [1, 1 << 20] {
        let stage = Stage::new(GET, true).await;
        stage.until_open().await;
        assert!(stage.send("x".repeat(size)).await);
        drop(stage.client);
        stage.served.await.unwrap();
        assert!(!stage.lane.is_open());
        assert!(stage.channel.unwrap().is_closed());
    }
}

#[actix_rt::test]
async fn an_answer_without_chunks_goes_the_long_way() {
    let mut stage = Stage::new(b"GET /a HTTP/1.0\r\n\r\n", false).await;
    for text in ["one", "two"] {
        assert!(!stage.send(text).await);
        stage.comes(text).await;
    }
    yield_now().await;
    assert!(!stage.lane.is_open());
}
