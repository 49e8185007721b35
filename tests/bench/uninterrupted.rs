//! `cargo bench --bench uninterrupted`: the whole program at the limit of seven tiers that keep their true limits, and killed
//! in the middle, for ten minutes (`-- --seconds N`: for so long). The test of the same name runs the same for a minute.
//!
//! Prints what each tier served, and the three figures: how much of what they allowed was used, how often they refused,
//! and how many clients failed while there was capacity. Exits 1 when a bound fails.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark prints")]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "shared with tests: what cannot go on fails"
)]

#[path = "../it/uninterrupted/scene.rs"]
mod scene;
#[expect(dead_code, reason = "what only tests use of it")]
#[path = "../it/support/mod.rs"]
mod support;

use std::process::ExitCode;
use std::time::Duration;

/// How long the clients work, if nothing else is asked for.
const RUN: Duration = Duration::from_secs(600);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo test --all-targets` and nextest's listing run this file too, without the flag.
    if !arguments.iter().any(|argument| argument == "--bench") {
        return ExitCode::SUCCESS;
    }
    let run = match length(&arguments) {
        Ok(run) => run,
        Err(problem) => {
            eprintln!("{problem}");
            return ExitCode::from(1);
        }
    };
    println!("{} s at the limit of seven tiers, killed in the middle", run.as_secs());
    let figures = scene::run(run);
    println!("{}", figures.text());
    let missed = figures.missed();
    for bound in &missed {
        println!("FAILED: {bound}");
    }
    ExitCode::from(u8::from(!missed.is_empty()))
}

fn length(arguments: &[String]) -> Result<Duration, String> {
    let mut run = RUN;
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--bench" => {}
            "--seconds" => {
                let seconds = words.next().and_then(|seconds| seconds.parse().ok());
                run = Duration::from_secs(seconds.ok_or("--seconds needs a number")?);
            }
            other => return Err(format!("unknown option {other} (known: --seconds N)")),
        }
    }
    Ok(run)
}
