//! What the program says on stdout and, before there are logs, on stderr.

use std::io::{ErrorKind, Write};

use super::Exit;

/// What was asked for, on stdout. A reader that went away (`demuxai models | head`) is no error, a full disk is:
/// nobody should find half a file where the exit code said success.
pub(crate) fn answer(text: &str) -> Exit {
    let mut stdout = std::io::stdout().lock();
    match writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            complain(&format!("cannot write to stdout: {error}"));
            Exit::Failure
        }
        _ => Exit::Success,
    }
}

/// A line on stdout that nobody has to read.
pub(crate) fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// One line on stderr, for what goes wrong before there are logs.
pub(crate) fn complain(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
