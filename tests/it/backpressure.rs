//! A client that does not read slows its own upstream down and nobody else's, costs bounded memory, and is dropped
//! when it takes nothing for too long. And many streams at once are each exactly what they should be.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use demuxai::demo::{Answer, Received, Script};

use crate::support::client::{self, Reading};
use crate::support::eventually;
use crate::support::program::Program;
use crate::support::proxy::provider;
use crate::support::stage::{PATH, SOON, STREAM, Stage, chunk, finish, named, upstream};

const MEGABYTE: usize = 1024 * 1024;

/// A stream without end whose events have this size, as fast as the reader takes them.
fn flood(size: usize) -> Script {
    let event = format!("data: {}\n\n", chunk(&"x".repeat(size)));
    Answer::events().chunked().repeat(Bytes::from(format!("{:x}\r\n{event}\r\n", event.len())), u64::MAX)
}

/// A flood, or for those that ask as `other` a short stream.
fn flood_or_words(size: usize) -> impl Fn(&Received) -> Script + Send + Sync + 'static {
    move |received| if received.json()["user"] == "other" { words(0) } else { flood(size) }
}

fn words(number: usize) -> Script {
    let start = Answer::events().chunked().event(chunk(&format!("n{number}")));
    start.event(chunk("word")).event(finish()).event("[DONE]").last_chunk()
}

/// Waits until the upstream gets nothing more off its hands, and says how much it had sent until then.
#[track_caller]
fn until_stalled(written: impl Fn() -> u64) -> u64 {
    let started = Instant::now();
    let mut last = (written(), Instant::now());
    loop {
        let now = written();
        if now != last.0 {
            last = (now, Instant::now());
        } else if last.1.elapsed() > Duration::from_millis(300) {
            return now;
        }
        assert!(started.elapsed() < Duration::from_secs(15), "it never stalls: {now} bytes");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn other_stream(stage: &Stage) {
    let started = Instant::now();
    let answer = stage.proxy.post(PATH, &STREAM.replace("\"stream\"", "\"user\":\"other\",\"stream\""));
    assert!(answer.complete && answer.text().ends_with("[DONE]\n\n"), "{}", answer.text());
    assert!(started.elapsed() < SOON, "it took {:?}", started.elapsed());
}

#[test]
fn a_reader_that_stops_stalls_its_own_upstream_and_nobody_elses() {
    let stage = Stage::new(flood_or_words(500));
    let mut reading = stage.open_stream();
    reading.until("xxx");
    let stalled = until_stalled(|| stage.fake.written());
    // What the kernel holds of two connections, and a channel.
    assert!(stalled < 32 * MEGABYTE as u64, "the upstream sent {stalled} bytes");
    other_stream(&stage);
    assert_eq!(stage.fake.counts().cancelled, 0, "it waits for its reader");

    let read = reading.so_far().len();
    reading.until_length(read + stalled as usize);
    assert!(stage.fake.written() > stalled, "it goes on when its reader does");
    reading.leave();
    eventually("the upstream is left", || stage.fake.counts(), |counts| counts.cancelled == 1);
    stage.assert_settled();
}

#[cfg(target_os = "linux")]
#[test]
fn readers_that_stop_cost_bounded_memory_however_large_the_events_are() {
    for (size, streams, each) in [(500, 4, MEGABYTE), (MEGABYTE / 4, 4, 5 * MEGABYTE / 2)] {
        let fake = upstream(flood_or_words(size));
        let program = Program::serve(&provider("up", "openai", &fake.url()));
        program.until_ready();
        let json = [("content-type", "application/json")];
        // Once through, so that what is there for good is there.
        client::post(program.address(), PATH, &STREAM.replace("\"stream\"", "\"user\":\"other\",\"stream\""));
        let before = program.resident_bytes();
        let readers: Vec<Reading> = (0..streams)
            .map(|_| {
                let mut reading = client::open(program.address(), "POST", PATH, &json, STREAM.as_bytes());
                reading.until("xxx");
                reading
            })
            .collect();
        until_stalled(|| fake.written());
        let grown = program.resident_bytes().saturating_sub(before) as usize;
        assert!(
            grown < streams * each,
            "{} KB for each stream with events of {size}",
            grown / streams / 1024
        );
        drop(readers);
        eventually("all are left", || fake.counts(), |counts| counts.cancelled == streams as u64);
    }
}

#[test]
fn a_reader_that_takes_nothing_for_too_long_is_dropped_with_its_seat_and_its_upstream() {
    let stage = Stage::with("max_in_flight = 2", "stalled_reader = \"1s\"", flood_or_words(20_000));
    let mut reading = client::open_narrow(stage.proxy.address, "POST", PATH, STREAM.as_bytes());
    reading.until("xxx");
    let started = Instant::now();
    until_stalled(|| stage.fake.written());
    eventually("the upstream is left", || stage.fake.counts(), |counts| counts.cancelled == 1);
    assert!(started.elapsed() < Duration::from_secs(5), "it took {:?}", started.elapsed());
    stage.assert_settled();
    eventually("it is counted", || stage.stream_ends("stalled_reader"), |count| *count == 1.0);
    assert_eq!((stage.stream_ends("upstream_error"), stage.stream_ends("cancelled")), (0.0, 0.0));
    assert_eq!((stage.outcomes("cancelled"), stage.attempts("cancelled", "cancelled")), (1.0, 1.0));
    other_stream(&stage);
    assert!(!reading.finish().complete, "what was under way is not passed off as whole");
}

#[test]
fn a_reader_that_reads_slowly_but_steadily_is_not_dropped() {
    let stage = Stage::with("", "stalled_reader = \"600ms\"", |_| {
        let event = format!("data: {}\n\n", chunk(&"x".repeat(500)));
        let frame = format!("{:x}\r\n{event}\r\n", event.len());
        let flood = Answer::events().chunked().repeat(Bytes::from(frame), 40_000);
        flood.event(finish()).event("[DONE]").last_chunk()
    });
    let started = Instant::now();
    let mut reading = stage.open_stream();
    let mut rest = 0;
    while started.elapsed() < Duration::from_millis(1500) {
        rest += 256 * 1024;
        reading.until_length(rest);
        std::thread::sleep(Duration::from_millis(50));
    }
    let answer = reading.finish();
    assert!(answer.complete, "{} bytes came", answer.body.len());
    assert_eq!(answer.text().matches("\"delta\":{\"content\"").count(), 40_000);
    stage.assert_settled();
}

#[test]
fn a_client_that_rests_longer_than_idle_is_not_taken_for_a_silent_upstream() {
    let stage = Stage::with("timeouts = { idle = \"200ms\", first_token = \"5s\" }", "", |_| {
        let event = format!("data: {}\n\n", chunk(&"x".repeat(500)));
        let frame = format!("{:x}\r\n{event}\r\n", event.len());
        let flood = Answer::events().chunked().repeat(Bytes::from(frame), 30_000);
        flood.event(finish()).event("[DONE]").last_chunk()
    });
    let mut reading = stage.open_stream();
    reading.until("xxx");
    until_stalled(|| stage.fake.written());
    let answer = reading.finish();
    assert!(answer.complete, "{} bytes came", answer.body.len());
    assert_eq!(answer.text().matches("\"delta\":{\"content\"").count(), 30_000);
    stage.assert_settled();
}

#[test]
fn streams_spread_over_replicas_share_one_account() {
    let stage = Stage::with("replicas = 3\nmax_in_flight = 30\nmax_wait = 0", "", |_| {
        Answer::events()
            .chunked()
            .event(chunk("word"))
            .gate("go")
            .event(finish())
            .event("[DONE]")
            .last_chunk()
    });
    let mut readings: Vec<Reading> = (0..30).map(|_| stage.open_stream()).collect();
    for reading in &mut readings {
        reading.until("word");
    }
    assert_eq!(stage.proxy.status_of("up")["in_flight"], 30);
    assert_eq!(stage.stream().status, 429, "the bound is the account's, not each replica's");
    stage.fake.open_gate("go");
    assert!(readings.into_iter().all(|reading| reading.finish().complete));
    stage.assert_settled();
    assert_eq!(stage.outcomes("ok"), 30.0);
}

#[test]
fn two_hundred_streams_at_once_are_each_exactly_what_they_should_be() {
    const STREAMS: usize = 200;
    const EVENTS: usize = 20;
    let text = |number: &str, event: usize| chunk(&format!("stream {number} é event {event}"));
    let stage = Stage::new(move |received| {
        let json = received.json();
        let number = json["user"].as_str().expect("number");
        let begun = Answer::events().chunked().event(text(number, 0)).gate("all are there");
        let events = (1..EVENTS)
            .fold(begun, |script, event| script.pause(Duration::from_millis(20)).event(text(number, event)));
        events.event(finish()).event("[DONE]").last_chunk()
    });
    std::thread::scope(|scope| {
        let streams: Vec<_> = (0..STREAMS)
            .map(|number| {
                let request = STREAM.replace("\"stream\"", &format!("\"user\":\"{number}\",\"stream\""));
                let proxy = &stage.proxy;
                scope.spawn(move || proxy.post(PATH, &request))
            })
            .collect();
        eventually(
            "all flow at once",
            || stage.fake.counts(),
            |counts| counts.open_requests == STREAMS as u64,
        );
        stage.fake.open_gate("all are there");
        for (number, stream) in streams.into_iter().enumerate() {
            let answer = stream.join().unwrap();
            let number = number.to_string();
            let events = (0..EVENTS).map(|event| text(&number, event)).chain([finish()]);
            let wanted: String = events.map(|event| format!("data: {}\n\n", named(&event))).collect();
            assert_eq!(answer.text(), format!("{wanted}data: [DONE]\n\n"), "stream {number}");
            assert!(answer.complete);
        }
    });
    eventually("all are counted", || stage.stream_ends("done"), |count| *count == STREAMS as f64);
    assert_eq!(stage.outcomes("ok"), STREAMS as f64);
    stage.assert_settled();
}

#[test]
fn a_stream_that_never_pauses_leaves_the_other_requests_of_its_provider_their_turn() {
    let stage = Stage::with("", "", flood_or_words(20_000));
    let (passed, done) = (AtomicUsize::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let mut flood = stage.open_stream();
        flood.until("xxx");
        scope.spawn(|| {
            let mut flood = flood;
            let mut length = 0;
            while !done.load(Ordering::Relaxed) {
                length += 64 * 1024;
                flood.until_length(length);
                passed.store(length, Ordering::Relaxed);
            }
            flood.leave();
        });
        for _ in 0..5 {
            let before = passed.load(Ordering::Relaxed);
            other_stream(&stage);
            let meanwhile = passed.load(Ordering::Relaxed) - before;
            assert!(meanwhile < 16 * MEGABYTE, "it waited for {meanwhile} bytes of the flood");
        }
        done.store(true, Ordering::Relaxed);
    });
    stage.assert_settled();
}
