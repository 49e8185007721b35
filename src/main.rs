//! The `demuxai` program: reads the command line and ends with a documented exit code.

use std::process::ExitCode;

use clap::Parser;
use demuxai::cli::{Cli, run};

fn main() -> ExitCode {
    ExitCode::from(run(Cli::parse()).code())
}
