//! `demuxai explain`: what would become of a request, by the running daemon if one answers, else by the files. Nothing is
//! sent to an upstream either way.

mod told;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use http::Method;
use serde_json::Value;

use super::daemon::{Failed, ask, listener};
use super::{ConfigArgs, Exit, answer, complain, load};
use crate::app::Plan;
use crate::config::settings::Config;
use crate::router::explain::{Question, Surroundings, explain};
use crate::server::respond::refused;

/// Options of `explain`.
#[derive(Debug, Args, Default)]
pub struct ExplainArgs {
    /// The model that is asked for; instead of that in the body, if there is one.
    #[arg(long, short, value_name = "MODEL", required_unless_present = "body")]
    pub model: Option<String>,
    /// A file with the request's body; `-` reads it from stdin. Without it, a short request is made up.
    #[arg(long, short, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub body: Option<PathBuf>,
    /// chat, completion, fim or embedding (default: what the body looks like, else chat).
    #[arg(long, value_name = "ENDPOINT", value_parser = ["chat", "completion", "fim", "embedding"])]
    pub endpoint: Option<String>,
    /// A header of the request; may be given several times.
    #[arg(long, value_name = "NAME:VALUE")]
    pub header: Vec<String>,
    /// The client that asks: the id of a key.
    #[arg(long, value_name = "ID")]
    pub client: Option<String>,
    /// The listener at which it asks.
    #[arg(long, value_name = "ID")]
    pub listener: Option<String>,
    /// The moment in question, such as 2026-12-24T18:00:00Z (default: now).
    #[arg(long, value_name = "TIME")]
    pub at: Option<jiff::Timestamp>,
    /// Print the explanation as JSON.
    #[arg(long)]
    pub json: bool,
    /// By the files alone, whether a daemon runs or not.
    #[arg(long, conflicts_with = "url")]
    pub offline: bool,
    /// Where demuxai is, instead of what the configuration says; if it does not answer, that is an error.
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// Where the configuration comes from.
    #[command(flatten)]
    pub files: ConfigArgs,
}

/// No request body is longer.
const MOST_BODY: u64 = 64 * 1024 * 1024;

/// Explains, and says by what.
pub fn run(args: &ExplainArgs) -> Exit {
    let config = match load::load(&args.files, None) {
        Ok(config) => config,
        Err(exit) => return exit,
    };
    let question = match question(args) {
        Ok(question) => question,
        Err(problem) => {
            complain(&problem);
            return Exit::Configuration;
        }
    };
    match explained(args, config, &question) {
        Ok((value, by)) if args.json => {
            let mut value = value;
            if let Some(table) = value.as_object_mut() {
                table.insert("by".to_owned(), Value::from(by));
            }
            answer(&value.to_string())
        }
        Ok((value, by)) => answer(&told::told(&value, &by)),
        Err((exit, problem)) => {
            complain(&problem);
            exit
        }
    }
}

/// The explanation, and whose it is.
fn explained(
    args: &ExplainArgs,
    config: Config,
    question: &Question,
) -> Result<(Value, String), (Exit, String)> {
    let url = match &args.url {
        Some(url) => Some(url.trim_end_matches('/').to_owned()),
        None => listener(&config).filter(|_| !args.offline),
    };
    let Some(url) = url else { return by_files(config, question, "") };
    let body = serde_json::to_string(question).map_err(|error| (Exit::Failure, error.to_string()))?;
    let asked = ask(&url, Method::POST, "/demuxai/explain", None, body);
    match actix_rt::System::new().block_on(asked) {
        Ok(said) => Ok((said, format!("the running demuxai at {url}"))),
        Err(Failed::NotThere(_)) if args.url.is_none() => {
            by_files(config, question, &format!("; no demuxai answers at {url}"))
        }
        Err(failed) => Err((Exit::Failure, failed.told())),
    }
}

fn by_files(config: Config, question: &Question, why: &str) -> Result<(Value, String), (Exit, String)> {
    let listeners: Vec<Arc<str>> = config.listeners.iter().map(|one| Arc::from(one.id.as_str())).collect();
    let listener = config.listeners.iter().find(|listener| listener.api).map(|listener| listener.id.clone());
    let (keys, listener) = (config.keys.clone(), listener.unwrap_or_default());
    let plan = Plan::new(config, &load::registry()).map_err(|error| (Exit::of(&error), error.to_string()))?;
    let (table, tallies, state) = plan.at_rest().map_err(|error| (Exit::of(&error), error.to_string()))?;
    let tallies = tallies.of_keys(&keys).map_err(|problem| (Exit::Configuration, problem))?;
    let (tallies, listeners) = (&tallies, &listeners);
    let around =
        Surroundings { table: &table, keys: &keys, tallies, listener: &listener, listeners, refused };
    let explanation = explain(question, &around).map_err(|error| (Exit::Configuration, error.message))?;
    let value = serde_json::to_value(&explanation).map_err(|error| (Exit::Failure, error.to_string()))?;
    let state = if state { "the files and the state of the last run" } else { "the files alone" };
    let unknown = "what upstreams list, how they are, and what caches have in memory is not known";
    Ok((value, format!("{state}{why}; {unknown}")))
}

fn question(args: &ExplainArgs) -> Result<Question, String> {
    let header = |text: &String| {
        let pair =
            text.split_once(':').map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()));
        pair.ok_or_else(|| format!("`{text}` is no header: write NAME:VALUE"))
    };
    Ok(Question {
        model: args.model.clone(),
        endpoint: args.endpoint.clone(),
        body: args.body.as_deref().map(body).transpose()?,
        headers: args.header.iter().map(header).collect::<Result<_, String>>()?,
        client: args.client.clone(),
        listener: args.listener.clone(),
        at: args.at.map(|at| at.to_string()),
    })
}

fn body(path: &Path) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
    let mut text = String::new();
    let read = if path == Path::new("-") {
        std::io::stdin().take(MOST_BODY).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(MOST_BODY).read_to_string(&mut text))
    };
    read.map_err(failed)?;
    Ok(text)
}
