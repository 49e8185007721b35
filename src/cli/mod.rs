//! The command line: what can be asked of the program, and which exit code means what.

pub mod demo;
pub mod load;
pub mod models;
pub mod serve;
pub mod status;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use crate::app::BuildError;

/// How the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// All is well.
    Success,
    /// It failed while running.
    Failure,
    /// The command line or the configuration cannot be used.
    Configuration,
    /// An address cannot be listened on.
    Address,
    /// A second signal ended it before all requests were answered.
    Interrupted,
}

impl Exit {
    /// How a start that failed ends.
    pub fn of(error: &BuildError) -> Self {
        match error {
            BuildError::Unusable(_) => Exit::Configuration,
            BuildError::Bind { .. } => Exit::Address,
            BuildError::Internal(_) => Exit::Failure,
        }
    }

    /// The exit code.
    pub fn code(self) -> u8 {
        match self {
            Exit::Success => 0,
            Exit::Failure => 1,
            Exit::Configuration => 2,
            Exit::Address => 3,
            Exit::Interrupted => 130,
        }
    }
}

/// One OpenAI-compatible endpoint on your own machine for every AI service you use.
#[derive(Debug, Parser)]
#[command(name = "demuxai", version, about, after_help = AFTER_HELP, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What to do; without it: serve.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Options of `serve`, for when no command is named.
    #[command(flatten)]
    pub serve: ServeArgs,
}

const AFTER_HELP: &str = "\
Exit codes: 0 success, 1 failure while running, 2 unusable command line or configuration,
3 an address cannot be listened on, 130 ended by a second signal.
Logs go to stderr, answers to stdout.";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the API (the default command).
    Serve(ServeArgs),
    /// Check the configuration exactly as `serve` would, without listening.
    Check(ConfigArgs),
    /// Ask all providers for their models and print them.
    Models(ConfigArgs),
    /// Show what a running demuxai says of its providers: health, what is left of each limit, until when.
    Status(StatusArgs),
    /// Show the limits, or forget what was learned of them.
    Quota(QuotaArgs),
    /// Serve in front of built-in fake upstreams: no key and no network needed.
    Demo(DemoArgs),
    /// Write a commented starting configuration from what is found on this machine.
    Init(InitArgs),
    /// Print the completion script for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
}

/// Where the configuration comes from.
#[derive(Debug, Args, Default)]
pub struct ConfigArgs {
    /// Configuration files, later ones win (default: $DEMUXAI_CONFIG_FILE, else the platform's directory).
    #[arg(long, short, value_name = "FILE", num_args = 1..)]
    pub config: Vec<PathBuf>,
}

/// Options of `serve`.
#[derive(Debug, Args, Default)]
pub struct ServeArgs {
    /// Where the configuration comes from.
    #[command(flatten)]
    pub files: ConfigArgs,
    /// Listen here instead of at the first listener's address.
    #[arg(long, short, value_name = "ADDR")]
    pub listen: Option<SocketAddr>,
}

/// Options of `status`.
#[derive(Debug, Args, Default)]
pub struct StatusArgs {
    /// Where the configuration comes from, which says where demuxai listens.
    #[command(flatten)]
    pub files: ConfigArgs,
    /// Where demuxai is, instead of what the configuration says.
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// Print what the daemon says as it is.
    #[arg(long)]
    pub json: bool,
    /// Look again every two seconds.
    #[arg(long)]
    pub watch: bool,
}

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
    Reset {
        /// Of this provider alone.
        provider: Option<String>,
        /// Of this model of it alone.
        model: Option<String>,
    },
}

/// Options of `demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Listen here.
    #[arg(long, short, value_name = "ADDR", default_value = "127.0.0.1:6041")]
    pub listen: SocketAddr,
}

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

/// Runs what was asked for.
pub fn run(cli: Cli) -> Exit {
    match cli.command.unwrap_or(Command::Serve(cli.serve)) {
        Command::Serve(args) => serve::run(&args),
        Command::Check(args) => load::check(&args),
        Command::Models(args) => models::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Quota(args) => status::quota(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Init(args) => load::init(&args),
        Command::Completions { shell } => completions(shell),
    }
}

fn completions(shell: Shell) -> Exit {
    let mut command = Cli::command();
    let name = command.get_name().to_owned();
    // By way of a buffer: the generator panics when it cannot write.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    answer(String::from_utf8_lossy(&script).trim_end())
}

/// What was asked for, on stdout. A reader that went away (`demuxai models | head`) is no error, a full disk is:
/// nobody should find half a file where the exit code said success.
pub(crate) fn answer(text: &str) -> Exit {
    use std::io::{ErrorKind, Write};
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
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// One line on stderr, for what goes wrong before there are logs.
pub(crate) fn complain(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn without_a_command_it_serves_and_takes_its_options() {
        let cli = Cli::parse_from(["demuxai", "--listen", "127.0.0.1:0", "--config", "a.toml", "b.toml"]);
        assert!(cli.command.is_none());
        assert_eq!(cli.serve.listen, "127.0.0.1:0".parse().ok());
        assert_eq!(cli.serve.files.config.len(), 2);
    }
}
