//! The `demuxai` program: reads the command line and ends with a documented exit code.

use std::process::ExitCode;

use demuxai::cli::{Cli, run};

/// What one thread reads another sends on and frees, and bodies of hundreds of kilobytes come and go with each request.
/// glibc's allocator locks for the first, and gives pages back for the second, to fault them in again.
#[cfg(all(unix, target_pointer_width = "64"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    match Cli::read(std::env::args_os()) {
        Ok(cli) => ExitCode::from(run(cli).code()),
        Err(error) => error.exit(),
    }
}
