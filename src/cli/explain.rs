//! `demuxai explain`: what would become of a request, by the running daemon if one answers, else by the files. Nothing is
//! sent to an upstream either way.

mod told;

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use http::Method;
use serde_json::Value;

use super::status::{Failed, ask, listener};
use super::{Exit, ExplainArgs, answer, complain, load};
use crate::app::Plan;
use crate::config::settings::Config;
use crate::router::explain::{Question, Surroundings, explain};

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
    let (tallies, listeners) = (&tallies, &listeners);
    let around = Surroundings { table: &table, keys: &keys, tallies, listener: &listener, listeners };
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
