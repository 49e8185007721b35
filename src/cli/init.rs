//! `demuxai init`: a first configuration from what is found on this machine.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;

use super::load::{answers, registry, with_kinds};
use super::{Exit, answer, complain, say};
use crate::config;

/// Options of `init`.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// Write to this file instead of the platform's place; `-` prints it.
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Replace a file that is there already.
    #[arg(long)]
    pub force: bool,
}

/// Writes a starting configuration, never over an existing one unless told to.
pub fn run(args: &InitArgs) -> Exit {
    let environment = config::process_environment();
    let text = with_kinds(&registry(), |kinds| {
        config::starting_configuration(&config::discover(&environment, kinds, &answers), kinds)
    });
    let default = || config::platform_directory().map(|folder| folder.join("config.toml"));
    let path = match args.output.clone().or_else(default) {
        Some(path) if path == Path::new("-") => {
            return answer(text.trim_end());
        }
        Some(path) => path,
        None => {
            complain("this platform has no configuration directory; name a file with --output FILE");
            return Exit::Failure;
        }
    };
    if let Err(problem) = write_new(&path, &text, args.force) {
        complain(&problem);
        return Exit::Failure;
    }
    say(&format!("wrote {}; `demuxai check` checks it, `demuxai` serves it", path.display()));
    Exit::Success
}

fn write_new(path: &Path, text: &str, force: bool) -> Result<(), String> {
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            format!("{} is there already; --force replaces it, --output - prints instead", path.display())
        }
        _ => format!("cannot write {}: {error}", path.display()),
    };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(force).truncate(force).create_new(!force);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        // Keys may be written into it by hand later.
        options.mode(0o600);
    }
    let mut file = options.open(path).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)
}
