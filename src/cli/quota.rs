//! `demuxai quota`: the limits as `status` shows them, and having a running demuxai forget what it learned of them.

use clap::{Args, Subcommand};
use http::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::daemon::{Failed, ask, daemon};
use super::status::{self, StatusArgs};
use super::{ConfigArgs, Exit, answer, complain};

/// Options of `quota`.
#[derive(Debug, Args)]
pub struct QuotaArgs {
    /// What to do; without it, show.
    #[command(subcommand)]
    pub command: Option<QuotaCommand>,
    /// Which daemon, and how it is shown.
    #[command(flatten)]
    pub status: StatusArgs,
}

/// What can be done about quotas.
#[derive(Debug, Subcommand)]
pub enum QuotaCommand {
    /// Forget learned limits and pauses; needs the token beside the state file, or `key` of `[admin]`.
    Reset(ResetArgs),
}

/// What is to be forgotten, and by which daemon.
#[derive(Debug, Args)]
pub struct ResetArgs {
    /// Of this provider alone.
    pub provider: Option<String>,
    /// Of this model of it alone.
    pub model: Option<String>,
    /// Where the configuration comes from, which says where demuxai listens.
    #[command(flatten)]
    pub files: ConfigArgs,
    /// Where demuxai is, instead of what the configuration says.
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
}

// === impl QuotaArgs ===

impl QuotaArgs {
    /// Which daemon is meant: its configuration files, or its URL.
    pub fn daemon(&self) -> (ConfigArgs, Option<String>) {
        let mut config = self.status.files.config.clone();
        let mut url = self.status.url.clone();
        if let Some(QuotaCommand::Reset(reset)) = &self.command {
            config.extend(reset.files.config.iter().cloned());
            url = reset.url.clone().or(url);
        }
        (ConfigArgs { config }, url)
    }
}

/// Prints the limits, or has the daemon forget what it learned of them.
pub fn run(args: &QuotaArgs) -> Exit {
    let Some(QuotaCommand::Reset(reset)) = &args.command else {
        return status::run(&args.status);
    };
    let (files, url) = args.daemon();
    let (url, key) = match daemon(url.as_deref(), &files) {
        Ok(found) => found,
        Err(exit) => return exit,
    };
    let mut path = "/demuxai/quota/reset?".to_owned();
    for (name, value) in [("provider", &reset.provider), ("model", &reset.model)] {
        if let Some(value) = value {
            path.push_str(&format!("{name}={}&", utf8_percent_encode(value, NON_ALPHANUMERIC)));
        }
    }
    let asked = ask(&url, Method::POST, &path, key.as_deref(), String::new());
    match actix_rt::System::new().block_on(asked).map_err(Failed::told) {
        Ok(said) => {
            let count = said.get("forgotten").and_then(Value::as_u64).unwrap_or(0);
            answer(&format!("forgotten: {count} learned limits and pauses"))
        }
        Err(problem) => {
            complain(&problem);
            Exit::Failure
        }
    }
}
