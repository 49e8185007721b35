//! Fetches secrets from where a reference points: a variable, a file, a program's output.
//! Messages name the variable, file or program, never what came from it.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::interpolate::is_name;
use super::quantity::{shown_size, shown_span};
use super::read;
use super::spec::SecretReference;

/// Longest secret.
const MOST_BYTES: u64 = 64 * 1024;
/// How long a program may take to print a secret.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a program that closed its output is asked whether it has ended.
const POLL: Duration = Duration::from_millis(10);

/// What a reference is resolved against.
pub(crate) struct Surroundings<'a> {
    /// The whole environment.
    pub(crate) env: &'a BTreeMap<String, String>,
    /// The directory that relative paths start from; `None` outside files.
    pub(crate) directory: Option<&'a Path>,
    /// How long a program may take.
    pub(crate) patience: Duration,
}

/// A secret that was fetched.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fetched {
    /// Its text, and a warning about where it came from.
    Text(String, Option<String>),
    /// The variable is not set or empty.
    Unset(String),
}

impl<'a> Surroundings<'a> {
    /// The usual surroundings.
    pub(crate) fn new(env: &'a BTreeMap<String, String>, directory: Option<&'a Path>) -> Self {
        Surroundings { env, directory, patience: PATIENCE }
    }
}

/// Fetches what a reference points to.
///
/// # Errors
/// A sentence when the reference is not exactly one of the three, or the file or program fails.
pub(crate) fn fetch(reference: &SecretReference, around: &Surroundings<'_>) -> Result<Fetched, String> {
    match (&reference.env, &reference.file, &reference.command) {
        (Some(name), None, None) => from_variable(name, around),
        (None, Some(path), None) => from_file(path, around),
        (None, None, Some(words)) => from_program(words, around).map(|text| Fetched::Text(text, None)),
        _ => Err("needs exactly one of env, file, command".to_owned()),
    }
}

fn from_variable(name: &str, around: &Surroundings<'_>) -> Result<Fetched, String> {
    if !is_name(name) {
        return Err("env takes the name of a variable, such as { env = \"MISTRAL_API_KEY\" }".to_owned());
    }
    Ok(match around.env.get(name) {
        Some(text) if !text.is_empty() => Fetched::Text(text.clone(), None),
        _ => Fetched::Unset(name.to_owned()),
    })
}

fn from_file(written: &str, around: &Surroundings<'_>) -> Result<Fetched, String> {
    let path = located(written, around)?;
    let (text, metadata) =
        read::text(&path, MOST_BYTES).map_err(|why| format!("secret file {}: {why}", path.display()))?;
    let trimmed = text.trim_end_matches(['\n', '\r']);
    if trimmed.is_empty() {
        return Err(format!("secret file {} is empty; put the secret into it", path.display()));
    }
    let warning = open_to_others(&metadata)
        .then(|| format!("secret file {} can be read by others; `chmod 600` it", path.display()));
    Ok(Fetched::Text(trimmed.to_owned(), warning))
}

/// A path as written: absolute, below the home directory, or relative to the configuration file.
///
/// # Errors
/// A sentence when there is nothing that the path could be relative to.
pub(crate) fn located(written: &str, around: &Surroundings<'_>) -> Result<PathBuf, String> {
    if written.is_empty() {
        return Err("the path is empty; write that of a file".to_owned());
    }
    if let Some(rest) = written.strip_prefix("~/") {
        let home = ["HOME", "USERPROFILE"].iter().find_map(|name| around.env.get(*name));
        let home = home.filter(|path| !path.is_empty());
        return match home {
            Some(path) => Ok(Path::new(path).join(rest)),
            None => Err("`~/` needs the variable HOME; write the whole path".to_owned()),
        };
    }
    let path = Path::new(written);
    match around.directory {
        _ if path.is_absolute() => Ok(path.to_owned()),
        Some(directory) => Ok(directory.join(path)),
        None => Err("outside a file a path must be absolute or begin with `~/`".to_owned()),
    }
}

#[cfg(unix)]
fn open_to_others(metadata: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt;
    metadata.permissions().mode() & 0o077 != 0
}

#[cfg(not(unix))]
fn open_to_others(_metadata: &std::fs::Metadata) -> bool {
    false
}

fn from_program(words: &[String], around: &Surroundings<'_>) -> Result<String, String> {
    let Some((program, arguments)) = words.split_first().filter(|(program, _)| !program.is_empty()) else {
        return Err("command is empty; name a program, such as [\"pass\", \"show\", \"mistral\"]".to_owned());
    };
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(around.env)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| cannot_start(program, arguments, &error))?;
    let outcome = output(&mut child, program, around.patience);
    if outcome.is_err() {
        // It may have ended by itself meanwhile; that is as good.
        let _ = child.kill();
        let _ = child.wait();
    }
    outcome
}

/// Why a program did not start, with what helps.
fn cannot_start(program: &str, arguments: &[String], error: &std::io::Error) -> String {
    let missing = error.kind() == std::io::ErrorKind::NotFound;
    if missing && arguments.is_empty() && program.contains(' ') {
        let words: Vec<String> = program.split_whitespace().map(|word| format!("\"{word}\"")).collect();
        return format!("there is no program `{program}`; write each word by itself: [{}]", words.join(", "));
    }
    if missing {
        return format!(
            "there is no program `{program}`; write its whole path, or put its directory into PATH"
        );
    }
    let hint = match error.kind() {
        std::io::ErrorKind::PermissionDenied => "; may the user run it (chmod +x) that demuxai runs as?",
        _ => "",
    };
    format!("program `{program}` cannot be started: {error}{hint}")
}

fn output(child: &mut Child, program: &str, patience: Duration) -> Result<String, String> {
    let started = Instant::now();
    let late = || {
        let bound = shown_span(patience);
        format!(
            "program `{program}` took longer than {bound}; does it wait for a passphrase or for the network?"
        )
    };
    let Some(stdout) = child.stdout.take() else { return Err(format!("program `{program}` has no output")) };
    // A thread of its own, because a pipe cannot be read with a deadline; it ends when the pipe is closed.
    let (sender, receiver) = mpsc::sync_channel(1);
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let read = stdout.take(MOST_BYTES + 1).read_to_end(&mut bytes);
        // Nobody listens after the deadline.
        let _ = sender.send(read.map(|_| bytes));
    });
    let bytes = match receiver.recv_timeout(patience) {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(error)) => return Err(format!("output of program `{program}` cannot be read: {error}")),
        Err(_) => return Err(late()),
    };
    if bytes.len() as u64 > MOST_BYTES {
        return Err(format!(
            "program `{program}` printed more than {}, and not a key alone",
            shown_size(MOST_BYTES)
        ));
    }
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if started.elapsed() >= patience => return Err(late()),
            Ok(None) => std::thread::sleep(POLL),
            Err(error) => return Err(format!("program `{program}`: {error}")),
        }
    };
    if !status.success() {
        return Err(format!("program `{program}` failed ({status}); run it by hand to see why"));
    }
    let text = String::from_utf8(bytes)
        .map_err(|_| format!("program `{program}` printed what is no text in UTF-8"))?;
    let trimmed = text.trim_end_matches(['\n', '\r']);
    if trimmed.is_empty() {
        return Err(format!("program `{program}` printed nothing; run it by hand to see why"));
    }
    Ok(trimmed.to_owned())
}

#[cfg(test)]
mod tests;
