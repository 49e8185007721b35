//! A client that leaves cancels its request at the upstream at once, whenever that is: it costs no seat, counts as
//! cancelled, and is no failure of the upstream.

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use demuxai::demo::faults::{self, good_stream};
use demuxai::demo::{Answer, Script};

use crate::support::eventually;
use crate::support::stage::{CHAT, PATH, SOON, STREAM, Stage, chunk, finish};

/// Sends a request and shows nothing of the answer; dropping it leaves.
fn ask(stage: &Stage, body: &str) -> TcpStream {
    let mut stream = TcpStream::connect(stage.proxy.address).expect("daemon accepts");
    let head = format!("POST {PATH} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n", body.len());
    stream
        .write_all(head.as_bytes())
        .and_then(|()| stream.write_all(body.as_bytes()))
        .expect("request is sent");
    stream
}

/// Waits until the upstream works on so many requests at once.
fn until_asked(stage: &Stage, open: u64) {
    eventually("the upstream is asked", || stage.fake.counts(), |counts| counts.open_requests == open);
}

/// The upstream sees its clients leave at once, and the daemon keeps nothing of them.
#[track_caller]
fn assert_cancelled(stage: &Stage, left: Instant, count: u64) {
    eventually("the upstream is left", || stage.fake.counts(), |counts| counts.cancelled == count);
    assert!(left.elapsed() < SOON, "it took {:?}", left.elapsed());
    eventually("it is counted", || stage.outcomes("cancelled"), |seen| *seen == count as f64);
    assert_eq!(stage.attempts("cancelled", "cancelled"), count as f64);
    assert_eq!(stage.outcomes("ok"), 0.0);
    stage.assert_settled();
    assert_eq!(stage.proxy.metric("demuxai_provider_up{provider=\"up\"}"), 1.0);
    assert_eq!(stage.asked().len() as u64, count, "nothing was sent again");
}

#[test]
fn leaving_before_the_head_cancels_a_plain_request() {
    let stage = Stage::new(|_| faults::hang_before_head());
    let client = ask(&stage, CHAT);
    until_asked(&stage, 1);
    let left = Instant::now();
    drop(client);
    assert_cancelled(&stage, left, 1);
}

#[test]
fn leaving_while_a_plain_answer_trickles_in_cancels_it() {
    let stage = Stage::new(|_| Answer::json(200).chunked().chunk("{\"id\":").hang());
    let client = ask(&stage, CHAT);
    until_asked(&stage, 1);
    let left = Instant::now();
    drop(client);
    assert_cancelled(&stage, left, 1);
}

#[test]
fn leaving_before_the_first_token_cancels_a_stream() {
    let scripts: [fn() -> Script; 3] = [faults::hang_before_head, faults::hang_after_head, || {
        faults::hang_mid_stream(good_stream("m", &["a"]), 1)
    }];
    for script in scripts {
        let stage = Stage::new(move |_| script());
        let client = ask(&stage, STREAM);
        until_asked(&stage, 1);
        let left = Instant::now();
        drop(client);
        assert_cancelled(&stage, left, 1);
        assert_eq!(stage.stream_ends("cancelled"), 0.0, "no stream had begun");
    }
}

#[test]
fn leaving_while_kept_alive_before_the_first_token_cancels_a_stream() {
    let stage = Stage::with("", "keep_alive = \"20ms\"", |_| faults::hang_after_head());
    let mut reading = stage.open_stream();
    reading.until(": keep-alive\n: keep-alive\n");
    let left = Instant::now();
    reading.leave();
    assert_cancelled(&stage, left, 1);
}

#[test]
fn leaving_a_silent_stream_cancels_it() {
    let stage = Stage::new(|_| faults::hang_mid_stream(good_stream("m", &["word"]), 2));
    let mut reading = stage.open_stream();
    reading.until("word");
    let left = Instant::now();
    reading.leave();
    assert_cancelled(&stage, left, 1);
    assert_eq!(stage.stream_ends("cancelled"), 1.0);
}

#[test]
fn leaving_a_stream_that_flows_cancels_it() {
    let stage = Stage::new(|_| {
        let flow = (0..10_000).fold(Answer::events().chunked(), |script, number| {
            script.event(chunk(&format!("w{number}"))).pause(Duration::from_millis(2))
        });
        flow.event(finish()).last_chunk()
    });
    let mut reading = stage.open_stream();
    reading.until("w20");
    let left = Instant::now();
    reading.leave();
    assert_cancelled(&stage, left, 1);
    assert_eq!(stage.stream_ends("cancelled"), 1.0);
}

#[test]
fn leaving_a_stream_that_floods_cancels_it() {
    let stage = Stage::new(|_| {
        let frame = format!("data: {}\n\n", chunk("flood"));
        let frame = format!("{:x}\r\n{frame}\r\n", frame.len());
        Answer::events().chunked().repeat(frame, u64::MAX)
    });
    let mut reading = stage.open_stream();
    reading.until("flood");
    let left = Instant::now();
    reading.leave();
    assert_cancelled(&stage, left, 1);
}

#[test]
fn a_client_that_closes_only_its_sending_half_has_left() {
    // No client does that and goes on reading; and a FIN is all that is seen of one that was closed.
    let stage = Stage::new(|_| faults::hang_after_head());
    let client = ask(&stage, STREAM);
    until_asked(&stage, 1);
    let left = Instant::now();
    client.shutdown(Shutdown::Write).unwrap();
    assert_cancelled(&stage, left, 1);
}

#[test]
fn many_clients_that_leave_at_once_free_every_seat_and_cost_others_nothing() {
    let stage = Stage::with("max_in_flight = 60", "", |received| {
        if received.json()["user"] == "stays" {
            return faults::gated_mid_stream(good_stream("m", &["word", "more"]), 2, "go");
        }
        if received.order % 2 == 0 { faults::hang_after_head() } else { faults::hang_before_head() }
    });
    let mut stays = stage.proxy.open(PATH, &STREAM.replace("\"stream\"", "\"user\":\"stays\",\"stream\""));
    stays.until("word");
    let clients: Vec<TcpStream> =
        (0..50).map(|number| ask(&stage, if number % 3 == 0 { CHAT } else { STREAM })).collect();
    until_asked(&stage, 51);
    assert_eq!(stage.proxy.status_of("up")["in_flight"], 51);
    let left = Instant::now();
    drop(clients);
    eventually("all are cancelled", || stage.fake.counts(), |counts| counts.cancelled == 50);
    assert!(left.elapsed() < SOON, "it took {:?}", left.elapsed());
    eventually("all are counted", || stage.outcomes("cancelled"), |count| *count == 50.0);
    assert_eq!(stage.proxy.status_of("up")["in_flight"], 1);

    stage.fake.open_gate("go");
    assert!(stays.finish().complete, "the one that stayed is served to its end");
    stage.assert_settled();
}

#[test]
fn a_request_that_was_cut_off_in_its_body_reaches_no_upstream() {
    let stage = Stage::new(|_| Answer::json(200).body("{}"));
    let mut client = TcpStream::connect(stage.proxy.address).unwrap();
    let head = format!("POST {PATH} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000\r\n\r\n{CHAT}");
    client.write_all(head.as_bytes()).unwrap();
    drop(client);
    let refused = "demuxai_requests_total{backend=\"none\",endpoint=\"chat\",listener=\"test\",model=\"none\",outcome=\"invalid_request\",provider=\"none\"}";
    eventually("it is counted", || stage.proxy.get("/metrics").text(), |text| text.contains(refused));
    assert!(stage.asked().is_empty());
    stage.assert_settled();
}

#[test]
fn a_connection_to_an_upstream_is_used_again_after_a_whole_answer_and_never_after_a_cancelled_one() {
    let stage = Stage::new(|received| {
        if received.json()["user"] == "hang" {
            return faults::hang_mid_stream(good_stream("m", &["word"]), 2);
        }
        good_stream("m", &["word"]).script()
    });
    assert!(stage.stream().complete && stage.stream().complete);
    let mut reading = stage.proxy.open(PATH, &STREAM.replace("\"stream\"", "\"user\":\"hang\",\"stream\""));
    reading.until("word");
    reading.leave();
    eventually("it is cancelled", || stage.fake.counts(), |counts| counts.cancelled == 1);
    assert!(stage.stream().complete);
    let connections: Vec<u64> = stage.asked().iter().map(|received| received.connection).collect();
    assert_eq!(connections[0], connections[1], "{connections:?}");
    assert_eq!(connections[1], connections[2], "{connections:?}");
    assert_ne!(connections[2], connections[3], "{connections:?}");
}
