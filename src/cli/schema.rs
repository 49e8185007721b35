//! `demuxai schema`: the JSON Schema of the configuration, by which editors complete and check it.

use std::path::PathBuf;

use clap::Args;

use super::{Exit, answer, complain, say};
use crate::config::published_schema;

/// Options of `schema`.
#[derive(Debug, Args, Default)]
pub struct SchemaArgs {
    /// Write to this file instead of printing it.
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Prints the schema, or writes it.
pub fn run(args: &SchemaArgs) -> Exit {
    let text = match serde_json::to_string_pretty(&published_schema()) {
        Ok(text) => text,
        Err(error) => {
            complain(&format!("the schema cannot be written: {error}"));
            return Exit::Failure;
        }
    };
    let Some(path) = &args.output else { return answer(&text) };
    if let Err(error) = std::fs::write(path, format!("{text}\n")) {
        complain(&format!("cannot write {}: {error}", path.display()));
        return Exit::Failure;
    }
    say(&format!("wrote {}; begin a configuration with `#:schema {}`", path.display(), path.display()));
    Exit::Success
}
