//! What clients of a healthy provider see while another one is in trouble: the time that plain answers take, and the
//! pace of a stream.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use demuxai::demo::script::Answer;
use demuxai::demo::server::Fake;
use serde_json::json;

use super::{ANSWER, LIST};
use crate::support::{client, eventually};

/// The time between two chunks of the stream, as it is upstream.
const PACE: Duration = Duration::from_millis(20);
/// What both may take in the middle; demuxai adds less than a millisecond, the rest is for a machine that is busy.
const USUAL: Duration = Duration::from_millis(100);
/// What none may take. A blocked thread is held for more than five seconds, a flood lasts as long as it is looked at.
const WORST: Duration = Duration::from_secs(1);

/// From so many of each on it is judged.
const FEWEST: usize = 10;

/// Clients that ask until they are told to stop.
pub struct Neighbour {
    stop: Arc<AtomicBool>,
    pieces: Arc<AtomicUsize>,
    asking: JoinHandle<Vec<Duration>>,
    reading: JoinHandle<Vec<Duration>>,
}

/// What they saw.
pub struct Seen {
    /// How long plain answers took.
    latencies: Vec<Duration>,
    /// The times between two pieces of the stream.
    gaps: Vec<Duration>,
}

/// An upstream of the neighbour's own: it answers at once, and streams at its pace until nobody reads any more.
pub fn upstream() -> Fake {
    Fake::start(|received| {
        if received.path().ends_with("/models") {
            return Answer::json(200).body(LIST);
        }
        if received.json()["stream"] != true {
            return Answer::json(200).body(ANSWER);
        }
        let chunk = json!({"id": "c", "object": "chat.completion.chunk", "model": "m",
            "choices": [{"index": 0, "delta": {"content": "tick"}, "finish_reason": null}]});
        let script = Answer::events().chunked();
        (0..3_000).fold(script, |script, _| script.event(chunk.to_string()).pause(PACE)).hang()
    })
    .expect("fake upstream starts")
}

impl Neighbour {
    /// Begins to ask this provider.
    pub fn watch(address: SocketAddr, provider: &str) -> Neighbour {
        let (stop, pieces) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let body = |stream: bool| {
            json!({"model": format!("{provider}/m"), "stream": stream,
                "messages": [{"role": "user", "content": "hi"}]})
            .to_string()
        };
        let (plain, streamed) = (body(false), body(true));
        let mut reading = client::open(address, "POST", "/v1/chat/completions", &[], streamed.as_bytes());
        reading.until("tick");
        // Each piece of the stream sets off a plain request, unless one is still on its way.
        let (tick, ticks) = mpsc::sync_channel(1);
        let asking = std::thread::spawn(move || {
            let mut latencies = Vec::new();
            while ticks.recv().is_ok() {
                let asked = Instant::now();
                let answer = client::post(address, "/v1/chat/completions", &plain);
                assert_eq!(answer.status, 200, "{}", answer.text());
                latencies.push(asked.elapsed());
            }
            latencies
        });
        let (stopped, counter) = (Arc::clone(&stop), Arc::clone(&pieces));
        let reading = std::thread::spawn(move || {
            let mut gaps = Vec::new();
            let mut last = Instant::now();
            while !stopped.load(Ordering::SeqCst) {
                reading.until_length(reading.so_far().len() + 1);
                gaps.push(last.elapsed());
                counter.fetch_add(1, Ordering::SeqCst);
                last = Instant::now();
                let _ = tick.try_send(());
            }
            reading.leave();
            gaps
        });
        Neighbour { stop, pieces, asking, reading }
    }

    /// Waits until so much of its stream came that its pace can be judged.
    #[track_caller]
    pub fn for_a_while(&self) {
        let wanted = self.pieces.load(Ordering::SeqCst) + 2 * FEWEST;
        eventually(
            "the neighbour's stream goes on",
            || self.pieces.load(Ordering::SeqCst),
            |seen| *seen >= wanted,
        );
    }

    /// Stops asking.
    pub fn stop(self) -> Seen {
        self.stop.store(true, Ordering::SeqCst);
        Seen { latencies: self.asking.join().unwrap(), gaps: self.reading.join().unwrap() }
    }
}

impl Seen {
    /// Nobody had to wait because of what happened elsewhere.
    #[track_caller]
    #[expect(clippy::print_stdout, reason = "what was measured is shown on demand")]
    pub fn assert_unhurt(mut self, during: &str) {
        for (what, times) in [("plain answers", &mut self.latencies), ("pieces of a stream", &mut self.gaps)]
        {
            times.sort_unstable();
            assert!(times.len() >= FEWEST, "{during}: too few {what} to judge: {}", times.len());
            let (usual, worst) = (times[times.len() / 2], times[times.len() - 1]);
            println!("{during}: {} {what}, usually {usual:?}, at worst {worst:?}", times.len());
            assert!(
                usual <= USUAL && worst <= WORST,
                "{during}: {what}: usually {usual:?}, at worst {worst:?}"
            );
        }
    }
}
