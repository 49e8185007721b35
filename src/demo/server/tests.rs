//! The engine driven by raw sockets: every assertion is about bytes and counts.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::demo::script::{Answer, Script};

const GET: &[u8] = b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n";

fn ok(body: &'static str) -> Script {
    Answer::new(200).body(body)
}

async fn connect(fake: &Fake) -> TcpStream {
    TcpStream::connect(fake.address()).await.unwrap()
}

/// Sends and reads until the fake closes.
async fn exchange(fake: &Fake, request: &[u8]) -> Vec<u8> {
    let mut stream = connect(fake).await;
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    answer
}

async fn read_exactly(stream: &mut TcpStream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await.unwrap();
    bytes
}

#[tokio::test]
async fn the_exact_bytes_of_a_script_arrive_and_a_close_is_a_clean_end() {
    let fake = Fake::start(|_| Script::new().write("anything\r\n").chunk("ab").last_chunk().close()).unwrap();
    assert_eq!(exchange(&fake, GET).await, b"anything\r\n2\r\nab\r\n0\r\n\r\n");
    let counts = fake.wait_for(|counts| counts.open_connections == 0).await.unwrap();
    assert_eq!((counts.requests, counts.completed, counts.cancelled, counts.open_requests), (1, 1, 0, 0));
}

#[tokio::test]
async fn requests_are_recorded_with_order_and_connection() {
    let fake = Fake::start(|_| ok("y")).unwrap();
    let expected = Answer::new(200).body("y").wire();
    let mut first = connect(&fake).await;
    for round in 0..2 {
        let request =
            format!("POST /a?r={round} HTTP/1.1\r\nX-Key: V {round}\r\nContent-Length: 3\r\n\r\n[1]");
        first.write_all(request.as_bytes()).await.unwrap();
        assert_eq!(read_exactly(&mut first, expected.len()).await, expected);
    }
    let chunked =
        b"POST /b HTTP/1.1\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
    assert_eq!(exchange(&fake, chunked).await, expected);
    let received = fake.received();
    let places: Vec<(u64, u64)> = received.iter().map(|one| (one.order, one.connection)).collect();
    assert_eq!(places, [(0, 0), (1, 0), (2, 1)]);
    assert_eq!(received[1].header("x-key"), Some("V 1"));
    assert_eq!((received[1].path(), received[1].target.as_str()), ("/a", "/a?r=1"));
    assert_eq!(received[0].json(), serde_json::json!([1]));
    assert_eq!(received[2].body, "hi");
    assert_eq!(fake.counts().connections, 2);
}

#[tokio::test]
async fn expect_100_continue_is_answered_before_the_body_comes() {
    let fake = Fake::start(|_| ok("done")).unwrap();
    let mut stream = connect(&fake).await;
    stream.write_all(b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n").await.unwrap();
    let interim = b"HTTP/1.1 100 Continue\r\n\r\n";
    assert_eq!(read_exactly(&mut stream, interim.len()).await, interim);
    stream.write_all(b"{}").await.unwrap();
    let expected = ok("done").wire();
    assert_eq!(read_exactly(&mut stream, expected.len()).await, expected);
}

#[tokio::test]
async fn a_gate_holds_the_script_until_it_is_opened() {
    let fake = Fake::start(|_| Script::new().write("a").gate("x").write("b").close()).unwrap();
    let mut stream = connect(&fake).await;
    stream.write_all(GET).await.unwrap();
    assert_eq!(read_exactly(&mut stream, 1).await, b"a");
    assert_eq!(fake.counts().open_requests, 1);
    let mut one = [0; 1];
    let early = stream.try_read(&mut one).unwrap_err();
    assert_eq!(early.kind(), io::ErrorKind::WouldBlock);
    fake.open_gate("x");
    assert_eq!(read_exactly(&mut stream, 1).await, b"b");
    assert_eq!(stream.read(&mut one).await.unwrap(), 0);
}

#[tokio::test]
async fn a_client_that_leaves_is_counted_as_cancelled_wherever_the_script_stands() {
    let scripts: [fn() -> Script; 4] = [
        || Script::new().hang(),
        || Script::new().write("a").pause(Duration::from_secs(3600)),
        || Script::new().write("a").gate("never"),
        || Script::new().write("a").repeat(vec![b'x'; 65536], u64::MAX),
    ];
    for script in scripts {
        let fake = Fake::start(move |_| script()).unwrap();
        let mut stream = connect(&fake).await;
        stream.write_all(GET).await.unwrap();
        fake.wait_for(|counts| counts.open_requests == 1).await.unwrap();
        drop(stream);
        let counts = fake.wait_for(|counts| counts.cancelled == 1).await.unwrap();
        assert_eq!((counts.completed, counts.open_requests), (0, 0));
    }
}

#[tokio::test]
async fn a_reset_reaches_the_client_as_a_reset() {
    let fake = Fake::start(|_| Script::new().write("part").gate("read").reset()).unwrap();
    let mut stream = connect(&fake).await;
    stream.write_all(GET).await.unwrap();
    assert_eq!(read_exactly(&mut stream, 4).await, b"part");
    fake.open_gate("read");
    let error = stream.read(&mut [0; 1]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(fake.wait_for(|counts| counts.completed == 1).await.unwrap().cancelled, 0);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let next = AtomicUsize::new(0);
    let fake = Fake::start(move |_| match next.fetch_add(1, Ordering::Relaxed) {
        0 => Script::new().write("first "),
        _ => Script::new().write("second").close(),
    })
    .unwrap();
    assert_eq!(exchange(&fake, &[GET, GET].concat()).await, b"first second");
}

#[tokio::test]
async fn an_early_answer_is_given_without_reading_the_body() {
    let options = Options::new(|_| ok("late")).early(|received| {
        (received.header("content-length") == Some("1000000")).then(|| Answer::new(413).body("too big"))
    });
    let fake = Fake::start_with(options).unwrap();
    let head = b"POST / HTTP/1.1\r\nContent-Length: 1000000\r\n\r\nonly a part";
    assert_eq!(exchange(&fake, head).await, Answer::new(413).body("too big").wire());
    assert_eq!(fake.last_received().unwrap().body, "");
}

#[tokio::test]
async fn unreadable_cut_and_oversized_requests_are_counted_and_refused() {
    let limits = Limits { max_body: 10, ..Limits::default() };
    let fake = Fake::start_with(Options::new(|_| ok("")).limits(limits)).unwrap();
    assert!(exchange(&fake, b"nonsense\r\n\r\n").await.starts_with(b"HTTP/1.1 400 "));
    let large = b"POST / HTTP/1.1\r\nContent-Length: 11\r\n\r\n";
    assert!(exchange(&fake, large).await.starts_with(b"HTTP/1.1 413 "));
    let mut stream = connect(&fake).await;
    stream.write_all(b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nab").await.unwrap();
    drop(stream);
    let counts = fake.wait_for(|counts| counts.cut_uploads == 1).await.unwrap();
    assert_eq!((counts.malformed, counts.requests), (2, 0));
}

#[tokio::test]
async fn what_is_kept_is_bounded_by_number_and_by_bytes() {
    for limits in
        [Limits { kept_requests: 2, ..Limits::default() }, Limits { kept_bytes: 5, ..Limits::default() }]
    {
        let fake = Fake::start_with(Options::new(|_| ok("").close()).limits(limits)).unwrap();
        for round in 0..4 {
            let request = format!("POST /{round} HTTP/1.1\r\nContent-Length: 2\r\n\r\nab");
            exchange(&fake, request.as_bytes()).await;
        }
        let targets: Vec<String> = fake.received().into_iter().map(|one| one.target).collect();
        assert_eq!(targets, ["/2", "/3"]);
        assert_eq!(fake.counts().requests, 4);
    }
}

#[tokio::test]
async fn connections_over_the_limit_are_closed_at_once() {
    let limits = Limits { max_connections: 1, ..Limits::default() };
    let fake = Fake::start_with(Options::new(|_| ok("")).limits(limits)).unwrap();
    let first = connect(&fake).await;
    fake.wait_for(|counts| counts.open_connections == 1).await.unwrap();
    assert_eq!(exchange_or_nothing(&fake).await, b"");
    assert_eq!(fake.counts().refused_connections, 1);
    drop(first);
    fake.wait_for(|counts| counts.open_connections == 0).await.unwrap();
}

async fn exchange_or_nothing(fake: &Fake) -> Vec<u8> {
    let mut answer = Vec::new();
    let _ = connect(fake).await.read_to_end(&mut answer).await;
    answer
}

#[tokio::test]
async fn hanging_up_closes_idle_connections_and_takes_new_ones() {
    let fake = Fake::start(|_| ok("x")).unwrap();
    let mut stream = connect(&fake).await;
    stream.write_all(GET).await.unwrap();
    read_exactly(&mut stream, ok("x").wire().len()).await;
    fake.hang_up();
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
    let closing = b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n";
    assert_eq!(exchange(&fake, closing).await, ok("x").wire());
}

#[tokio::test(start_paused = true)]
async fn a_fake_on_the_callers_runtime_follows_its_paused_clock() {
    let hour = Duration::from_secs(3600);
    let options = Options::new(move |_| Script::new().write("a").pause(hour).write("b").close());
    let fake = Fake::start_here(options).await.unwrap();
    let start = tokio::time::Instant::now();
    assert_eq!(exchange(&fake, GET).await, b"ab");
    assert!(start.elapsed() >= hour);
}

#[tokio::test(start_paused = true)]
async fn waiting_for_a_fake_in_its_own_thread_works_under_a_paused_clock() {
    let fake = Fake::start(|_| ok("x")).unwrap();
    let address = fake.address();
    let client = std::thread::spawn(move || {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        std::io::Write::write_all(&mut stream, GET).unwrap();
        let mut answer = vec![0; ok("x").wire().len()];
        std::io::Read::read_exact(&mut stream, &mut answer).unwrap();
        answer
    });
    fake.wait_for(|counts| counts.completed == 1).await.unwrap();
    assert_eq!(client.join().unwrap(), ok("x").wire());
}

#[tokio::test]
async fn dropping_the_fake_frees_its_port_and_it_can_come_back_there() {
    let fake = Fake::start(|_| ok("1")).unwrap();
    let address = fake.address();
    drop(fake);
    assert!(TcpStream::connect(address).await.is_err());
    let again = Fake::start_with(Options::new(|_| ok("2").close()).address(address)).unwrap();
    assert_eq!(exchange(&again, GET).await, ok("2").wire());
}

#[tokio::test]
async fn written_stands_still_while_the_reader_does() {
    let fake = Fake::start(|_| Script::new().repeat(vec![b'x'; 65536], 1024).close()).unwrap();
    let mut stream = connect(&fake).await;
    stream.write_all(GET).await.unwrap();
    read_exactly(&mut stream, 1).await;
    let total = 65536 * 1024;
    assert!(fake.written() < total);
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest.len() as u64 + 1, total);
    assert_eq!(fake.written(), total);
}
