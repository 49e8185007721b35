//! The loads, one function each: what is sent, and what is measured while it is sent.
//!
//! All of them run on one thread against one address and are bounded in time and count. CPU is read over a window
//! in which the load is steady: connections stand, streams have begun and none has ended.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until, timeout};

use crate::Outcome;
use crate::client::Connection;
use crate::process::Proxy;
use crate::report::percentile;
use crate::upstream::Event;

/// How long the load runs before it is measured.
const WARM_UP: Duration = Duration::from_millis(200);
/// Room for all streams of a run to be opened before the window, and to end after it.
const MARGIN: Duration = Duration::from_millis(600);
/// Delays that look like a delayed acknowledgement waiting for Nagle's algorithm (40 ms on Linux).
const STEP: std::ops::Range<f64> = 35.0..60.0;

/// Where the load goes, and whose CPU it costs.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    pub address: SocketAddr,
    pub proxy: Option<&'a Proxy>,
}

/// What a run of whole answers gave.
pub struct Answers {
    pub cpu_us: f64,
    pub per_second: f64,
    pub p50_us: f64,
    pub p99_us: f64,
}

/// What a run of paced streams gave.
pub struct Chunks {
    pub cpu_us: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    /// Share of chunks, in per cent, whose delay looks like a delayed acknowledgement.
    pub step_percent: f64,
    pub resident_mb: f64,
}

/// What a run of streams without pauses gave.
pub struct Flood {
    pub cpu_us: f64,
    pub per_second: f64,
    /// Share of streams, in per cent, with a pause that looks like a delayed acknowledgement.
    pub step_percent: f64,
}

/// Time from the client's close to the upstream's.
pub struct Cancels {
    pub p50_ms: f64,
    pub max_ms: f64,
}

struct Window {
    cpu_us: f64,
    seconds: f64,
    count: f64,
}

/// What the tasks of one run share.
#[derive(Default)]
struct Tally {
    count: AtomicU64,
    begun: AtomicU64,
    measuring: AtomicBool,
    values: Mutex<Vec<f64>>,
}

// === impl Target ===

impl Target<'_> {
    fn cpu(&self) -> u64 {
        self.proxy.map_or(0, Proxy::cpu)
    }

    /// Measures for `length`, from now.
    async fn window(&self, tally: &Tally, length: Duration) -> Window {
        let (cpu, count, begin) = (self.cpu(), tally.count.load(Ordering::Relaxed), Instant::now());
        tally.measuring.store(true, Ordering::Relaxed);
        sleep(length).await;
        tally.measuring.store(false, Ordering::Relaxed);
        Window {
            cpu_us: (self.cpu() - cpu) as f64 / 1000.0,
            seconds: begin.elapsed().as_secs_f64(),
            count: (tally.count.load(Ordering::Relaxed) - count) as f64,
        }
    }
}

// === impl Tally ===

impl Tally {
    fn counted(&self, value: f64) -> Outcome<()> {
        self.count.fetch_add(1, Ordering::Relaxed);
        if self.measuring.load(Ordering::Relaxed) {
            self.values.lock().map_err(|_| "a task panicked")?.push(value);
        }
        Ok(())
    }

    fn sorted(&self) -> Outcome<Vec<f64>> {
        let mut values = std::mem::take(&mut *self.values.lock().map_err(|_| "a task panicked")?);
        if values.is_empty() {
            return Err("nothing was measured".into());
        }
        values.sort_by(f64::total_cmp);
        Ok(values)
    }

    fn step_percent(values: &[f64]) -> f64 {
        let stalled = values.iter().filter(|delay| STEP.contains(delay)).count();
        stalled as f64 * 100.0 / values.len().max(1) as f64
    }
}

// === requests ===

/// A chat request; `script` is what the upstream is to do.
pub fn request(script: &str, stream: bool, content: &str) -> Arc<[u8]> {
    request_with("up/bench", "", script, stream, content)
}

/// The same for this model, with these lines more in its head.
pub fn request_with(model: &str, headers: &str, script: &str, stream: bool, content: &str) -> Arc<[u8]> {
    let flag = if stream { r#""stream":true,"# } else { "" };
    let body = format!(
        r#"{{"model":"{model}",{flag}"user":"{script}","temperature":0.7,"messages":[{{"role":"system","content":"You are a helpful assistant."}},{{"role":"user","content":"{content}"}}]}}"#
    );
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n\
         Authorization: Bearer none\r\nAccept: */*\r\nUser-Agent: bench\r\n{headers}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
    .into()
}

/// Text as an editor sends it: lines of prose and code with escaped line ends and quotes.
pub fn long_text(bytes: usize) -> String {
    let line = r#"    let greeting = \"hello\"; // the quick brown fox jumps over the lazy dog and on\n"#;
    line.repeat(bytes / line.len() + 1)
}

// === loads ===

/// Each connection sends as soon as it has its answer.
pub async fn closed(
    target: Target<'_>,
    connections: usize,
    request: Arc<[u8]>,
    length: Duration,
) -> Outcome<Answers> {
    let tally = Arc::new(Tally::default());
    let mut tasks = JoinSet::new();
    let deadline = Instant::now() + WARM_UP + length + Duration::from_millis(20);
    for _ in 0..connections {
        let (tally, request) = (tally.clone(), request.clone());
        let address = target.address;
        tasks.spawn(async move {
            let mut connection = Connection::open(address).await?;
            while Instant::now() < deadline {
                let begin = Instant::now();
                connection.plain(&request).await?;
                tally.counted(microseconds(begin.elapsed()))?;
            }
            Outcome::Ok(())
        });
    }
    answers(target, &tally, tasks, length).await
}

/// A request each `1 / per_second`, whether or not earlier ones have been answered.
///
/// Each connection has its own share of the schedule. A request that had to wait for its connection's earlier
/// answer counts from the moment it was due; otherwise from when it is written, so that timer slack is left out.
pub async fn fixed_rate(
    target: Target<'_>,
    per_second: u32,
    request: Arc<[u8]>,
    length: Duration,
) -> Outcome<Answers> {
    const CONNECTIONS: u32 = 32;
    let tally = Arc::new(Tally::default());
    let mut tasks = JoinSet::new();
    let gap = Duration::from_secs(1) / per_second;
    let begin = tokio::time::Instant::now() + Duration::from_millis(10);
    let rounds = ((WARM_UP + length).as_micros() / (gap * CONNECTIONS).as_micros()) as u32;
    for index in 0..CONNECTIONS {
        let (tally, request) = (tally.clone(), request.clone());
        let address = target.address;
        tasks.spawn(async move {
            let mut connection = Connection::open(address).await?;
            for round in 0..rounds {
                let due = begin + gap * (round * CONNECTIONS + index);
                let late = tokio::time::Instant::now() > due;
                sleep_until(due).await;
                let counted_from = if late { due.into_std() } else { Instant::now() };
                connection.plain(&request).await?;
                tally.counted(microseconds(counted_from.elapsed()))?;
            }
            Outcome::Ok(())
        });
    }
    answers(target, &tally, tasks, length.saturating_sub(Duration::from_millis(40))).await
}

/// `count` streams at the same time, each with an event each `pace`; their starts are spread over one pace.
pub async fn paced(target: Target<'_>, count: u32, pace: Duration, length: Duration) -> Outcome<Chunks> {
    let events = ((length + MARGIN).as_micros() / pace.as_micros()) as u32;
    let request = request(&format!("stream:{events}:{}", pace.as_micros()), true, "Tell me a story.");
    let tally = Arc::new(Tally::default());
    let mut tasks = JoinSet::new();
    let begin = tokio::time::Instant::now();
    for index in 0..count {
        let (tally, request) = (tally.clone(), request.clone());
        let address = target.address;
        tasks.spawn(async move {
            sleep_until(begin + pace * index / count).await;
            let mut connection = Connection::open(address).await?;
            let mut first = true;
            let mut failed = None;
            let seen = |arrival: crate::client::Arrival| {
                if std::mem::take(&mut first) {
                    tally.begun.fetch_add(1, Ordering::Relaxed);
                }
                failed = tally.counted(microseconds(arrival.delay) / 1000.0).err();
            };
            connection.stream(&request, events, seen).await?;
            failed.map_or(Ok(()), Err)
        });
    }
    while tally.begun.load(Ordering::Relaxed) < u64::from(count) {
        if let Some(ended) = tasks.try_join_next() {
            ended??;
            return Err("a stream ended before all had begun".into());
        }
        sleep(Duration::from_millis(5)).await;
    }
    let window = target.window(&tally, length).await;
    let resident_mb = target.proxy.map_or(0.0, Proxy::resident);
    all(tasks).await?;
    let delays = tally.sorted()?;
    Ok(Chunks {
        cpu_us: window.cpu_us / window.count.max(1.0),
        p50_ms: percentile(&delays, 50.0),
        p99_ms: percentile(&delays, 99.0),
        step_percent: Tally::step_percent(&delays),
        resident_mb,
    })
}

/// Streams of `events` without a pause, one after the other on each connection.
pub async fn flood(target: Target<'_>, connections: usize, events: u32, length: Duration) -> Outcome<Flood> {
    let request = request(&format!("stream:{events}:0"), true, "Tell me a story.");
    let tally = Arc::new(Tally::default());
    let pauses = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = JoinSet::new();
    let deadline = Instant::now() + WARM_UP + length + Duration::from_millis(20);
    for _ in 0..connections {
        let (tally, pauses, request) = (tally.clone(), pauses.clone(), request.clone());
        let address = target.address;
        tasks.spawn(async move {
            let mut connection = Connection::open(address).await?;
            while Instant::now() < deadline {
                let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
                let seen = |arrival: crate::client::Arrival| {
                    tally.count.fetch_add(1, Ordering::Relaxed);
                    longest = longest.max(arrival.at - last);
                    last = arrival.at;
                };
                connection.stream(&request, events, seen).await?;
                pauses.lock().map_err(|_| "a task panicked")?.push(microseconds(longest) / 1000.0);
            }
            Outcome::Ok(())
        });
    }
    sleep(WARM_UP).await;
    let window = target.window(&tally, length).await;
    all(tasks).await?;
    let pauses = pauses.lock().map_err(|_| "a task panicked")?;
    Ok(Flood {
        cpu_us: window.cpu_us / window.count.max(1.0),
        per_second: window.count / window.seconds,
        step_percent: Tally::step_percent(&pauses),
    })
}

/// `count` clients close at once: after their first token, or before it (half of those without `stream`).
pub async fn cancels(
    target: Target<'_>,
    count: u64,
    after_first_token: bool,
    events: &mut mpsc::Receiver<Event>,
) -> Outcome<Cancels> {
    let script = if after_first_token { "token-then-hang" } else { "hang" };
    let mut open = Vec::new();
    for id in 0..count {
        let mut connection = Connection::open(target.address).await?;
        let stream = after_first_token || id % 2 == 0;
        connection.send(&request(&format!("{script}:{id}"), stream, "Tell me a story.")).await?;
        if after_first_token {
            connection.first_event().await?;
        }
        match timeout(Duration::from_secs(5), events.recv()).await? {
            Some(Event::Arrived(arrived)) if arrived == id => {}
            other => return Err(format!("request {id} did not arrive upstream, but {other:?}").into()),
        }
        open.push(connection);
    }
    let mut closed = Vec::new();
    for connection in open {
        closed.push(Instant::now());
        drop(connection);
    }
    let mut delays = Vec::new();
    for _ in 0..count {
        match timeout(Duration::from_secs(5), events.recv()).await {
            Ok(Some(Event::Closed(id, at))) => {
                let begin = closed.get(id as usize).ok_or("an unknown request was closed")?;
                delays.push(microseconds(at.saturating_duration_since(*begin)) / 1000.0);
            }
            Ok(other) => return Err(format!("the upstream reports {other:?}").into()),
            Err(_) => {
                return Err(format!("{} of {count} cancels reached the upstream in 5 s", delays.len()).into());
            }
        }
    }
    delays.sort_by(f64::total_cmp);
    Ok(Cancels { p50_ms: percentile(&delays, 50.0), max_ms: percentile(&delays, 100.0) })
}

async fn answers(
    target: Target<'_>,
    tally: &Tally,
    tasks: JoinSet<Outcome<()>>,
    length: Duration,
) -> Outcome<Answers> {
    sleep(WARM_UP).await;
    let window = target.window(tally, length).await;
    all(tasks).await?;
    let latencies = tally.sorted()?;
    Ok(Answers {
        cpu_us: window.cpu_us / window.count.max(1.0),
        per_second: window.count / window.seconds,
        p50_us: percentile(&latencies, 50.0),
        p99_us: percentile(&latencies, 99.0),
    })
}

async fn all(mut tasks: JoinSet<Outcome<()>>) -> Outcome<()> {
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(())
}

fn microseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}
