//! What waits, for how long, and who closes it.

use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::super::connect::Wire;
use super::{KEEP_ALIVE, MAX_IDLE, Pool};

/// Both ends of a connection: ours and the upstream's.
async fn pair() -> (Wire, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (ours, theirs) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    (Wire::Plain(ours.unwrap()), theirs.unwrap().0)
}

/// Lets `time` pass for everything that waits for it.
async fn pass(time: Duration) {
    // What was spawned just now has to look at the clock first.
    tokio::task::yield_now().await;
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

fn port(wire: &Wire) -> u16 {
    wire.tcp().local_addr().unwrap().port()
}

#[actix_rt::test]
async fn the_newest_connection_is_taken_first() {
    let pool = Rc::new(Pool::default());
    let (first, _first_end) = pair().await;
    let (second, _second_end) = pair().await;
    let ports = [port(&second), port(&first)];
    pool.put(first);
    pool.put(second);
    let taken = [pool.take().unwrap(), pool.take().unwrap()];
    assert_eq!(taken.each_ref().map(port), ports);
    assert!(pool.take().is_none());
}

#[actix_rt::test]
async fn a_connection_on_which_anything_arrived_is_not_taken() {
    let pool = Rc::new(Pool::default());
    let (ours, mut theirs) = pair().await;
    let Wire::Plain(tcp) = &ours else { unreachable!() };
    theirs.write_all(b"HTTP/1.1 408 Request Timeout\r\n\r\n").await.unwrap();
    tcp.readable().await.unwrap();
    pool.put(ours);
    assert!(pool.take().is_none());

    let (ours, theirs) = pair().await;
    let Wire::Plain(tcp) = &ours else { unreachable!() };
    drop(theirs);
    tcp.readable().await.unwrap();
    pool.put(ours);
    assert!(pool.take().is_none());
}

#[actix_rt::test]
async fn a_connection_that_waited_too_long_is_closed() {
    let pool = Rc::new(Pool::default());
    let (ours, mut theirs) = pair().await;
    pool.put(ours);
    pass(KEEP_ALIVE + Duration::from_secs(2)).await;
    assert_eq!(theirs.read(&mut [0_u8; 1]).await.unwrap(), 0);
    assert!(pool.take().is_none());
}

#[actix_rt::test]
async fn no_more_connections_wait_than_allowed_and_none_outlives_the_pool() {
    let pool = Rc::new(Pool::default());
    let mut ends = Vec::new();
    for _ in 0..=MAX_IDLE {
        let (ours, theirs) = pair().await;
        pool.put(ours);
        ends.push(theirs);
    }
    let mut surplus = ends.pop().unwrap();
    assert_eq!(surplus.read(&mut [0_u8; 1]).await.unwrap(), 0);
    assert_eq!(pool.idle.borrow().len(), MAX_IDLE);
    drop(pool);
    for mut end in ends {
        assert_eq!(end.read(&mut [0_u8; 1]).await.unwrap(), 0);
    }
}

#[actix_rt::test]
async fn looking_after_the_connections_begins_again_after_the_pool_was_empty() {
    let pool = Rc::new(Pool::default());
    for _ in 0..2 {
        let (ours, theirs) = pair().await;
        let Wire::Plain(tcp) = &ours else { unreachable!() };
        drop(theirs);
        tcp.readable().await.unwrap();
        pool.put(ours);
        assert!(pool.sweeping.get());
        pass(Duration::from_secs(2)).await;
        // The sweep is a task of its own: it has run when it says so.
        while pool.sweeping.get() {
            tokio::task::yield_now().await;
        }
        assert!(pool.idle.borrow().is_empty());
    }
}
