//! `cargo bench --bench yield`: how much of what upstreams really allow is used, and how often they refuse, simulated.
//!
//! A day (`-- --days N`: so many) of mixed traffic goes through the real ledger, estimator, breaker, header parser and
//! classifier of refusals, and through the failover loop's policy, against upstreams that keep true limits. Beside it:
//! an oracle that knows the true limits and serves whatever they allow, and plain round robin that goes to the next
//! member on an error. Time is virtual and everything is drawn from a fixed seed, so that two runs are the same.
//!
//! Prints a line for each scenario and exits 1 when a target is missed. `-- --only NAME` runs those scenarios whose name
//! begins so; `-- --detail` shows each tier; `-- --trace` also every refusal.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark prints")]
#![expect(clippy::indexing_slicing, reason = "indices come from the very tables that they index")]

mod account;
mod naive;
mod oracle;
mod report;
mod scenario;
mod simulation;
mod tiers;
mod traffic;
mod walk;

use std::error::Error;
use std::process::ExitCode;
use std::time::Instant;

use scenario::Scenario;
use tiers::World;

/// Whatever fails ends the run.
type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// What is run.
struct Options {
    days: u32,
    only: Option<String>,
    detail: bool,
    trace: bool,
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
            eprintln!("the simulation could not be finished: {error}");
            ExitCode::from(1)
        }
    }
}

fn options(arguments: &[String]) -> Outcome<Options> {
    let mut options = Options { days: 1, only: None, detail: false, trace: false };
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--bench" => {}
            "--days" => options.days = words.next().ok_or("--days needs a number")?.parse()?,
            "--only" => options.only = Some(words.next().ok_or("--only needs a name")?.clone()),
            "--detail" => options.detail = true,
            "--trace" => options.trace = true,
            other => {
                let known = "--days N, --only NAME, --detail, --trace";
                return Err(format!("unknown option {other} (known: {known})").into());
            }
        }
    }
    Ok(options)
}

fn run(options: &Options) -> Outcome<bool> {
    let begin = Instant::now();
    let world = World::new()?;
    let requests = traffic::requests(options.days);
    println!("{}", report::heading(options.days, requests.len()));
    let naive = naive::run(&world, &requests);
    let mut oracles: Vec<(f64, simulation::Totals)> = Vec::new();
    let mut holds = true;
    let wanted = |scenario: &&Scenario| {
        options.only.as_ref().is_none_or(|only| scenario.name.starts_with(only.as_str()))
    };
    for scenario in scenario::all().iter().filter(wanted) {
        let share = scenario.ceiling();
        if !oracles.iter().any(|(of, _)| of == &share) {
            oracles.push((share, oracle::run(&world, &requests, share)));
        }
        let Some((_, oracle)) = oracles.iter().find(|(of, _)| of == &share) else { continue };
        let system = simulation::run(&world, &requests, scenario, options.days, options.trace)?;
        let line = report::Line { scenario, oracle, system: &system, naive: &naive };
        let (text, kept) = line.text();
        println!("{text}");
        if options.detail || options.trace {
            println!("{}", line.detail(&world));
        }
        holds &= kept;
    }
    println!("{:.1} s", begin.elapsed().as_secs_f64());
    Ok(holds)
}
