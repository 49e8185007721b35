//! `cargo bench --bench relay`: what the relay costs, beside nginx, on the same upstream, in one run.
//!
//! Starts an upstream of its own, then in turns nginx (`proxy_pass`, kept-alive connections) and the daemon, one
//! worker each, afresh in every round, and sends both the same loads. Prints a table with each ratio to nginx and
//! exits 1 when a bound does not hold. It is no test of what the daemon answers, beyond refusing a wrong one.
//!
//! Needs Linux, nginx and taskset. All traffic stays on 127.0.0.1; a run takes about two and a half minutes.
//! `-- --rounds N` changes the number of rounds; `-- --only NAME,…` runs these loads alone (closed, rate, one, fifty, many,
//! flood, body, cancel) and looks at their bounds; `-- --calibrate` puts a second nginx in the daemon's place, which shows
//! how far from 1.00 this machine's noise takes a ratio; `-- --modifiers` measures in place of all that what caches and other
//! modifiers cost a request that has nothing of them (about a minute; needs no nginx).
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark prints")]

mod client;
mod load;
mod modifiers;
mod process;
mod report;
mod upstream;

use std::error::Error;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::{Duration, Instant};

use load::{Target, long_text, request};
use process::{Cores, Launcher, Subject};
use report::Samples;
use upstream::Upstream;

/// Whatever fails ends the run.
type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const ROUNDS: usize = 5;
/// No run may take longer, whatever hangs.
const TIME_LIMIT: Duration = Duration::from_secs(300);
const LOADS: [&str; 8] = ["closed", "rate", "one", "fifty", "many", "flood", "body", "cancel"];
const SECOND: Duration = Duration::from_secs(1);

struct Options {
    rounds: usize,
    calibrate: bool,
    modifiers: bool,
    only: Vec<String>,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo test --all-targets` and nextest's listing run this file too, without the flag.
    if !arguments.iter().any(|argument| argument == "--bench") {
        return ExitCode::SUCCESS;
    }
    match options(&arguments).and_then(|options| run(&options)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("the benchmark could not be finished: {error}");
            ExitCode::from(1)
        }
    }
}

fn options(arguments: &[String]) -> Outcome<Options> {
    let mut options = Options { rounds: ROUNDS, calibrate: false, modifiers: false, only: Vec::new() };
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--bench" => {}
            "--calibrate" => options.calibrate = true,
            "--modifiers" => options.modifiers = true,
            "--rounds" => options.rounds = words.next().ok_or("--rounds needs a number")?.parse()?,
            "--only" => {
                let names: Vec<&str> =
                    words.next().map(|names| names.split(',').collect()).unwrap_or_default();
                if names.is_empty() || !names.iter().all(|name| LOADS.contains(name)) {
                    return Err(format!("--only needs some of {LOADS:?}").into());
                }
                options.only = names.into_iter().map(str::to_owned).collect();
            }
            other => {
                return Err(format!(
                    "unknown option {other} (known: --rounds N, --only NAME,…, --calibrate, --modifiers)"
                )
                .into());
            }
        }
    }
    Ok(options)
}

fn run(options: &Options) -> Outcome<bool> {
    let begin = Instant::now();
    let nginx = match options.modifiers {
        true => "no nginx".to_owned(),
        false => said(&["nginx", "-v"]).ok_or("nginx is missing: apt-get install nginx-light")?,
    };
    // 500 streams are 1,000 descriptors here; the proxies inherit the limit.
    let own = std::process::id().to_string();
    said(&["prlimit", "--pid", &own, "--nofile=8192:8192"]);
    let cores = Cores::reserve();
    let directory = tempfile::tempdir()?;
    let mut upstream = upstream::start()?;
    let launcher = Launcher {
        upstream: upstream.address,
        cores,
        directory: directory.path().to_owned(),
        calibrate: options.calibrate,
        groups: "",
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if options.modifiers {
        let measured =
            async { tokio::time::timeout(TIME_LIMIT, modifiers::measure(&launcher, options.rounds)).await };
        let table = runtime.block_on(measured).map_err(|_| "it takes too long")??;
        println!("{}", about(options, cores, &nginx, begin.elapsed()));
        println!("{table}");
        return Ok(true);
    }
    let samples = runtime.block_on(async {
        let rounds = rounds(options, &launcher, &mut upstream);
        tokio::time::timeout(TIME_LIMIT, rounds).await.map_err(|_| "it takes too long")?
    })?;
    println!("{}", about(options, cores, &nginx, begin.elapsed()));
    println!("{}", samples.table());
    let (verdict, holds) = samples.verdict(options.only.is_empty());
    println!("{verdict}");
    Ok(holds)
}

async fn rounds(options: &Options, launcher: &Launcher, upstream: &mut Upstream) -> Outcome<Samples> {
    let mut samples = Samples::default();
    let count = options.rounds;
    for round in 0..count {
        direct(&mut samples, options, upstream).await?;
        // Who comes first changes, so that neither always follows the other's load.
        let turns = [Subject::Nginx, Subject::Demuxai];
        for turn in 0..turns.len() {
            let Some(subject) = turns.get((round + turn) % turns.len()) else { continue };
            eprintln!("round {} of {count}: {subject:?}", round + 1);
            proxied(&mut samples, options, *subject, launcher, upstream)
                .await
                .map_err(|error| format!("{subject:?}: {error}"))?;
        }
        added_latency(&mut samples);
    }
    Ok(samples)
}

/// What the loads cost without a proxy: the floor of every latency.
async fn direct(samples: &mut Samples, options: &Options, upstream: &Upstream) -> Outcome<()> {
    let target = Target { address: upstream.address, proxy: None };
    if options.wants("rate") {
        let rated = load::fixed_rate(target, 1000, plain_request(), SECOND).await?;
        samples.add("plain_rate_p50", Subject::Direct, rated.p50_us);
        samples.add("plain_rate_p99", Subject::Direct, rated.p99_us);
    }
    if options.wants("fifty") {
        let chunks = load::paced(target, 50, Duration::from_millis(20), SECOND).await?;
        samples.add("stream_50_p50", Subject::Direct, chunks.p50_ms);
        samples.add("stream_50_p99", Subject::Direct, chunks.p99_ms);
        samples.add("stream_50_step", Subject::Direct, chunks.step_percent);
    }
    Ok(())
}

/// One proxy, from its start to its end.
async fn proxied(
    samples: &mut Samples,
    options: &Options,
    subject: Subject,
    launcher: &Launcher,
    upstream: &mut Upstream,
) -> Outcome<()> {
    let proxy = launcher.start(subject, &plain_request())?;
    let target = Target { address: proxy.address, proxy: Some(&proxy) };
    let mut add = |key, value| samples.add(key, subject, value);
    add("start", proxy.first_answer.as_secs_f64() * 1e3);
    tokio::time::sleep(Duration::from_millis(300)).await;
    add("idle_rss", proxy.resident());

    if options.wants("closed") {
        let closed = load::closed(target, 16, plain_request(), SECOND * 12 / 10).await?;
        add("plain_closed_cpu", closed.cpu_us);
        add("plain_closed_rate", closed.per_second);
    }
    if options.wants("rate") {
        let rated = load::fixed_rate(target, 1000, plain_request(), SECOND * 15 / 10).await?;
        add("plain_rate_cpu", rated.cpu_us);
        add("plain_rate_p50", rated.p50_us);
        add("plain_rate_p99", rated.p99_us);
    }
    if options.wants("one") {
        let one = load::paced(target, 1, Duration::from_millis(20), SECOND).await?;
        add("stream_1_cpu", one.cpu_us);
        add("stream_1_p50", one.p50_ms);
        add("stream_1_p99", one.p99_ms);
    }
    if options.wants("fifty") {
        let fifty = load::paced(target, 50, Duration::from_millis(20), SECOND * 15 / 10).await?;
        add("stream_50_cpu", fifty.cpu_us);
        add("stream_50_p50", fifty.p50_ms);
        add("stream_50_p99", fifty.p99_ms);
        add("stream_50_step", fifty.step_percent);
    }
    if options.wants("many") {
        let many = load::paced(target, 500, Duration::from_millis(50), SECOND * 15 / 10).await?;
        add("stream_500_cpu", many.cpu_us);
        add("stream_500_p50", many.p50_ms);
        add("stream_500_p99", many.p99_ms);
        add("stream_500_rss", many.resident_mb);
    }
    if options.wants("flood") {
        let flood = load::flood(target, 4, 200, SECOND).await?;
        add("flood_cpu", flood.cpu_us);
        add("flood_rate", flood.per_second);
        add("flood_step", flood.step_percent);
    }
    if options.wants("body") {
        let large = request("plain", false, &long_text(256 * 1024));
        let bodies = load::closed(target, 4, large, SECOND).await?;
        add("body_cpu", bodies.cpu_us);
        add("body_p50", bodies.p50_us);
    }
    if options.wants("cancel") {
        let late = load::cancels(target, 50, true, &mut upstream.events).await?;
        add("cancel_p50", late.p50_ms);
        add("cancel_max", late.max_ms);
        let early = load::cancels(target, 50, false, &mut upstream.events).await?;
        add("early_cancel_p50", early.p50_ms);
        add("early_cancel_max", early.max_ms);
    }
    Ok(())
}

fn plain_request() -> Arc<[u8]> {
    request("plain", false, "Say something about a cat.")
}

/// Latency less the same round's latency without a proxy.
fn added_latency(samples: &mut Samples) {
    for subject in [Subject::Nginx, Subject::Demuxai] {
        for (from, to) in [("plain_rate_p50", "added_p50"), ("plain_rate_p99", "added_p99")] {
            if let (Some(with), Some(without)) =
                (samples.last(from, subject), samples.last(from, Subject::Direct))
            {
                samples.add(to, subject, with - without);
            }
        }
    }
}

impl Options {
    fn wants(&self, load: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == load)
    }
}

/// Where and how it was measured, as one paragraph.
fn about(options: &Options, cores: Option<Cores>, nginx: &str, took: Duration) -> String {
    let or_unknown = |text: Option<String>| text.unwrap_or_else(|| "unknown".to_owned());
    let date = or_unknown(said(&["date", "-u", "+%Y-%m-%d"]));
    let kernel = or_unknown(said(&["uname", "-sr"]));
    let processors = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processors.lines().find_map(|line| line.strip_prefix("model name"));
    let model = model.unwrap_or("unknown processor").trim_start_matches([' ', '\t', ':']);
    let placed = match cores {
        Some(Cores { proxy, load }) => format!("the proxy on core {proxy}, upstream and load on core {load}"),
        None => "nothing pinned to a core".to_owned(),
    };
    let stand_in = if options.calibrate { " CALIBRATION: `demuxai` is a second nginx here." } else { "" };
    format!(
        "{date}, {model}, {kernel}; demuxai {}, {nginx}, one worker each, {placed}; {} rounds in turns, {} s in all. \
         CPU is that of all threads of all processes of the proxy (schedstat); a ratio is the median of the rounds' own.{stand_in}\n",
        env!("CARGO_PKG_VERSION"),
        options.rounds,
        took.as_secs(),
    )
}

/// What a command says on one line, or `None` if it cannot be run.
fn said(words: &[&str]) -> Option<String> {
    let (program, arguments) = words.split_first()?;
    let output =
        Command::new(program).args(arguments).output().ok().filter(|output| output.status.success())?;
    let text = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    Some(String::from_utf8_lossy(&text).trim().to_owned())
}
