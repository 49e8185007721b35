//! `demuxai reload` and `demuxai diff`: the running daemon reads its configuration anew, or says what that would change.

use clap::Args;
use http::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::daemon::{Failed, ask_within, key_for, listener};
use super::{ConfigArgs, Exit, answer, complain, load};
use crate::config::{Difference, Report};

/// Options of `reload` and `diff`.
#[derive(Debug, Args, Default)]
pub struct ReloadArgs {
    /// Where the configuration comes from, which says where demuxai listens.
    #[command(flatten)]
    pub files: ConfigArgs,
    /// Where demuxai is, instead of what the configuration says.
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// Print what the daemon says as it is.
    #[arg(long)]
    pub json: bool,
}

/// Where demuxai listens when nothing says otherwise.
const USUAL: &str = "http://127.0.0.1:6041";

/// Has the daemon read its configuration anew.
pub fn run(args: &ReloadArgs) -> Exit {
    told(args, "/demuxai/reload", "reloaded")
}

/// Prints what a reload would change.
pub fn diff(args: &ReloadArgs) -> Exit {
    let mut path = "/demuxai/diff".to_owned();
    for (index, file) in args.files.config.iter().enumerate() {
        let absolute = match std::path::absolute(file) {
            Ok(absolute) => absolute,
            Err(error) => {
                complain(&format!("{}: {error}", file.display()));
                return Exit::Configuration;
            }
        };
        let separator = if index == 0 { '?' } else { '&' };
        let escaped = utf8_percent_encode(&absolute.to_string_lossy(), NON_ALPHANUMERIC).to_string();
        path.push_str(&format!("{separator}file={escaped}"));
    }
    told(args, &path, "")
}

/// Asks the daemon and prints what it says; `done` stands above.
fn told(args: &ReloadArgs, path: &str, done: &str) -> Exit {
    let (url, key, report) = whereabouts(args);
    let asked = ask_within(PATIENCE, &url, Method::POST, path, key.as_deref(), String::new());
    let failed = match actix_rt::System::new().block_on(asked) {
        Ok(said) if args.json => return answer(&said.to_string()),
        Ok(said) => return answer(&in_words(&said, done)),
        Err(failed) => failed,
    };
    let hint = hint(&failed, args.url.is_some(), report.is_some());
    let exit = match &failed {
        Failed::Bad(_) => Exit::Configuration,
        Failed::NotThere(_) | Failed::NotAllowed(_) if report.is_some() => Exit::Configuration,
        _ => Exit::Failure,
    };
    // What the files say of where it is, and of its key, cannot be relied on.
    let report = report.filter(|_| matches!(failed, Failed::NotThere(_) | Failed::NotAllowed(_)));
    complain(&failed.told());
    complain_of(hint);
    complain_of(report.map(|report| report.to_string()).as_deref());
    exit
}

/// What may help where the files say something else than what is in force.
fn hint(failed: &Failed, by_url: bool, bad_files: bool) -> Option<&'static str> {
    match failed {
        Failed::NotAllowed(_) if bad_files => {
            Some("where that key is stands in the configuration, and with that something is wrong:")
        }
        Failed::NotAllowed(_) => Some(
            "if `key` of [admin] was changed in the files, the daemon does not know it yet: send it a SIGHUP; if [state] \
             path was, the token is beside the old one until a restart",
        ),
        Failed::NotThere(_) if !by_url => Some(
            "if the listener's address was changed in the files, the daemon still listens on the old one: --url names it",
        ),
        _ => None,
    }
}

fn complain_of(hint: Option<&str>) {
    if let Some(hint) = hint {
        complain(hint);
    }
}

/// Secrets may be fetched by programs, one after another.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(120);

/// Where the daemon is, and the key for changes, as far as the files tell, which may be bad: it serves an earlier version
/// of them. And what is wrong with them.
fn whereabouts(args: &ReloadArgs) -> (String, Option<String>, Option<Report>) {
    let ReloadArgs { files: ConfigArgs { config }, url, .. } = args;
    let (config, report) = load::glimpse(config);
    let report = Some(report).filter(|report| !report.problems.is_empty());
    let found = config.as_ref().and_then(listener).unwrap_or_else(|| USUAL.to_owned());
    let url = url.as_deref().map_or(found, |url| url.trim_end_matches('/').to_owned());
    let key = config.as_ref().and_then(key_for).or_else(load::usual_token);
    (url, key, report)
}

/// What the daemon said, for people.
fn in_words(said: &Value, done: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    let difference = Difference::from_json(said);
    lines.extend((!done.is_empty()).then(|| done.to_owned()));
    lines.push(difference.to_string());
    if !done.is_empty() && !difference.for_restart().is_empty() {
        lines.push("what needs a restart stays as it was until then".to_owned());
    }
    for (section, word) in [("notes", "note"), ("warnings", "warning")] {
        let told = said.get(section).and_then(Value::as_array).into_iter().flatten();
        lines.extend(told.filter_map(Value::as_str).map(|text| format!("{word}: {text}")));
    }
    lines.join("\n")
}
