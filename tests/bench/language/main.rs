//! `cargo bench --bench language`: how often the language of a request's content is found, and what finding it costs.
//!
//! First `python3 tests/bench/language/fetch.py` fetches the sources (packages.tsv) into a cache outside of the
//! repository. This prints which packages serve training and which evaluation, the confusion matrix, the shares of
//! snippets of 5, 20 and 80 lines that are named rightly, and the medians of the cost, also of choosing a router's route
//! (`-- --routing`: that alone); it exits 1 when a bound is missed.
//!
//! `-- --train` makes `src/language/model.bin` anew from the training side; `-- --made` makes it in memory and exits 1 unless
//! it is the committed one, byte for byte; `-- --validate` trains without every fourth of
//! those packages and measures with them, for choosing how to train without a look at the evaluation side.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark prints")]
#![expect(
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "indices come from the very tables that they index"
)]
#![expect(clippy::expect_used, reason = "what is made here is valid")]

mod corpus;
mod cost;
mod evaluate;
mod routing;
mod train;

use std::error::Error;
use std::process::ExitCode;
use std::time::Instant;

/// Whatever fails ends the run.
type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo test --all-targets` and nextest's listing run this file too, without the flag.
    if !arguments.iter().any(|argument| argument == "--bench") {
        return ExitCode::SUCCESS;
    }
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    if has("--routing") {
        return if routing::measure() { ExitCode::SUCCESS } else { ExitCode::from(1) };
    }
    if has("--made") {
        return match is_made() {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::from(1),
            Err(error) => {
                eprintln!("cannot train: {error}");
                ExitCode::from(1)
            }
        };
    }
    match run(has("--train"), has("--validate")) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("cannot measure: {error}");
            ExitCode::from(1)
        }
    }
}

/// Whether training makes the committed model, byte for byte, of this corpus.
fn is_made() -> Outcome<bool> {
    let start = Instant::now();
    let made = train::train(&corpus::read("train")?, |_| false)?.write();
    let kept = include_bytes!("../../../src/language/model.bin").as_slice();
    let differ =
        made.iter().zip(kept).filter(|(new, old)| new != old).count() + made.len().abs_diff(kept.len());
    println!(
        "made in {:.0?}: {} bytes, of which {differ} differ from model.bin",
        start.elapsed(),
        made.len()
    );
    Ok(differ == 0)
}

fn run(train: bool, validate: bool) -> Outcome<bool> {
    let training = corpus::read("train")?;
    if validate {
        let model = train::train(&training, |package| package % 4 == 3)?;
        train::quick(&model, &training, |package| package % 4 == 3);
        return Ok(true);
    }
    if train {
        let file = train::train(&training, |_| false)?.write();
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/language/model.bin");
        std::fs::write(path, &file)?;
        println!("{path}: {} bytes", file.len());
        return Ok(true);
    }
    let mut eval = corpus::read("eval")?;
    let shared = corpus::drop_shared(&mut eval, &training);
    println!("{shared} files of the evaluation are in the training too and left out");
    evaluate::print_split(&training, &eval)?;
    let right = evaluate::evaluate(&eval);
    let cheap = cost::measure(&eval);
    Ok(routing::measure() && cheap && right)
}
