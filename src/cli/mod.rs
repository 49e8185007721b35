//! The command line: what can be asked of the program, and which exit code means what. The options of a command stand
//! beside what it does.

pub mod check;
mod daemon;
pub mod demo;
pub mod explain;
pub mod graph;
pub mod init;
pub mod load;
pub mod models;
mod output;
pub mod quota;
pub mod reload;
pub mod schema;
pub mod serve;
pub mod status;
pub mod watch;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use crate::app::BuildError;
use check::CheckArgs;
use demo::DemoArgs;
use explain::ExplainArgs;
use graph::GraphArgs;
use init::InitArgs;
use output::{answer, complain, say};
use quota::QuotaArgs;
use reload::ReloadArgs;
use schema::SchemaArgs;
use serve::ServeArgs;
use status::StatusArgs;

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
#[command(name = "demuxai", version, about, after_help = AFTER_HELP)]
pub struct Cli {
    /// What to do; without it: serve.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Options of `serve`, for when no command is named.
    #[command(flatten)]
    pub serve: ServeArgs,
}

const AFTER_HELP: &str = "\
Exit codes: 0 success, 1 failure while running, 2 unusable command line or configuration (with
`check --strict` also one with warnings), 3 an address cannot be listened on, 130 ended by a second signal.
Logs go to stderr, answers to stdout.";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the API (the default command).
    Serve(ServeArgs),
    /// Check the configuration exactly as `serve` would, without listening.
    Check(CheckArgs),
    /// Show how providers, groups and routers hang together.
    Graph(GraphArgs),
    /// Explain what would become of a request: which way it goes, who would answer, and why. Nothing is sent.
    Explain(ExplainArgs),
    /// Print the JSON Schema of the configuration, by which editors complete and check it.
    Schema(SchemaArgs),
    /// Ask all providers for their models and print them.
    Models(ConfigArgs),
    /// Show what a running demuxai says of its providers: health, what is left of each limit, until when.
    Status(StatusArgs),
    /// Show the limits, or forget what was learned of them.
    Quota(QuotaArgs),
    /// Have a running demuxai read its configuration anew: all of it, or nothing if something is wrong with it.
    Reload(ReloadArgs),
    /// Show what a reload would change, and what needs a restart. With --config: what these files would change.
    Diff(ReloadArgs),
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
    /// A configuration file; may be given several times, later ones win (default: $DEMUXAI_CONFIG_FILE, else the
    /// platform's directory).
    #[arg(long, short, value_name = "FILE")]
    pub config: Vec<PathBuf>,
}

// === impl Cli ===

impl Cli {
    /// Reads the words of a command line, the program's name first.
    ///
    /// # Errors
    /// What is wrong with them, or what was asked for with `--help` or `--version`.
    pub fn read(words: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
        let words: Vec<OsString> = words.into_iter().collect();
        let cli = Cli::try_parse_from(&words).map_err(|error| with_remedy(error, &words))?;
        cli.settled()
    }

    /// The options before a command become the command's own, the files before those behind it.
    fn settled(mut self) -> Result<Cli, clap::Error> {
        let ServeArgs { files, listen, watch } = std::mem::take(&mut self.serve);
        let mut unwanted = Vec::new();
        let own = match &mut self.command {
            None => {
                self.serve = ServeArgs { files, listen, watch };
                return Ok(self);
            }
            Some(Command::Serve(args)) => {
                args.listen = args.listen.or(listen);
                args.watch |= watch;
                Some(&mut args.files)
            }
            Some(other) => {
                unwanted.extend(listen.map(|_| "--listen <ADDR>"));
                unwanted.extend(watch.then_some("--watch"));
                other.files()
            }
        };
        match own {
            Some(own) => own.config.splice(..0, files.config).for_each(drop),
            None if !files.config.is_empty() => unwanted.push("--config <FILE>"),
            None => {}
        }
        match (self.command.as_ref(), unwanted.first()) {
            (Some(command), Some(option)) => {
                let text = format!("the subcommand '{}' cannot be used with '{option}'", command.word());
                Err(Cli::command().error(ErrorKind::ArgumentConflict, text))
            }
            _ => Ok(self),
        }
    }
}

/// Words behind a file's name are no more files: it says how to name several.
fn with_remedy(mut error: clap::Error, words: &[OsString]) -> clap::Error {
    let stray = [ContextKind::InvalidArg, ContextKind::InvalidSubcommand].iter().find_map(|kind| match error
        .get(*kind)
    {
        Some(ContextValue::String(word)) if !word.starts_with('-') => Some(word.clone()),
        _ => None,
    });
    let named = words.iter().any(|word| {
        let word = word.to_string_lossy();
        word.starts_with("--config") || (word.starts_with("-c") && !word.starts_with("--"))
    });
    if let Some(stray) = stray.filter(|_| named) {
        let tip = format!("each configuration file needs an option of its own: `-c FILE -c {stray}`");
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
    error
}

// === impl Command ===

impl Command {
    /// The word that asks for it.
    fn word(&self) -> &'static str {
        match self {
            Command::Serve(_) => "serve",
            Command::Check(_) => "check",
            Command::Graph(_) => "graph",
            Command::Explain(_) => "explain",
            Command::Schema(_) => "schema",
            Command::Models(_) => "models",
            Command::Status(_) => "status",
            Command::Quota(_) => "quota",
            Command::Reload(_) => "reload",
            Command::Diff(_) => "diff",
            Command::Demo(_) => "demo",
            Command::Init(_) => "init",
            Command::Completions { .. } => "completions",
        }
    }

    /// Its configuration files, if it reads any.
    fn files(&mut self) -> Option<&mut ConfigArgs> {
        match self {
            Command::Serve(args) => Some(&mut args.files),
            Command::Check(args) => Some(&mut args.files),
            Command::Graph(args) => Some(&mut args.files),
            Command::Explain(args) => Some(&mut args.files),
            Command::Models(files) => Some(files),
            Command::Status(args) => Some(&mut args.files),
            Command::Quota(args) => Some(&mut args.status.files),
            Command::Reload(args) | Command::Diff(args) => Some(&mut args.files),
            Command::Schema(_) | Command::Demo(_) | Command::Init(_) | Command::Completions { .. } => None,
        }
    }
}

/// Runs what was asked for.
pub fn run(cli: Cli) -> Exit {
    match cli.command.unwrap_or(Command::Serve(cli.serve)) {
        Command::Serve(args) => serve::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Graph(args) => graph::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Schema(args) => schema::run(&args),
        Command::Models(args) => models::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Quota(args) => quota::run(&args),
        Command::Reload(args) => reload::run(&args),
        Command::Diff(args) => reload::diff(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Init(args) => init::run(&args),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    fn read(words: &str) -> Result<Cli, clap::Error> {
        Cli::read(words.split(' ').map(OsString::from))
    }

    #[test]
    fn without_a_command_it_serves_and_takes_its_options() {
        let cli = read("demuxai --listen 127.0.0.1:0 --config a.toml -c b.toml").unwrap();
        assert!(cli.command.is_none());
        assert_eq!(cli.serve.listen, "127.0.0.1:0".parse().ok());
        assert_eq!(cli.serve.files.config, [PathBuf::from("a.toml"), PathBuf::from("b.toml")]);
    }

    #[test]
    fn a_file_before_a_command_does_not_swallow_it_nor_get_lost() {
        for words in [
            "demuxai -c a -c b serve",
            "demuxai -c a serve -c b",
            "demuxai check -c a -c b",
            "demuxai -c a check -c b",
            "demuxai --config=a models --config b",
            "demuxai -c a status -c b",
            "demuxai quota -c a -c b",
        ] {
            let mut cli = read(words).unwrap();
            let files = cli.command.as_mut().and_then(Command::files).map(|files| &files.config);
            assert_eq!(files, Some(&vec![PathBuf::from("a"), PathBuf::from("b")]), "{words}");
        }
        let Some(Command::Serve(serve)) = read("demuxai --listen 127.0.0.1:0 serve").unwrap().command else {
            panic!("it serves")
        };
        assert_eq!(serve.listen, "127.0.0.1:0".parse().ok());
    }

    #[test]
    fn a_reset_takes_its_options_wherever_they_stand() {
        for words in [
            "demuxai -c a quota -c b --url u reset -c c groq",
            "demuxai -c a -c b quota reset groq -c c --url u",
        ] {
            let Some(Command::Quota(args)) = read(words).unwrap().command else { panic!("{words}") };
            let (files, url) = args.daemon();
            let named: Vec<_> = files.config.iter().map(|file| file.display().to_string()).collect();
            assert_eq!((named, url.as_deref()), (["a", "b", "c"].map(str::to_owned).to_vec(), Some("u")));
        }
    }

    #[test]
    fn a_second_word_behind_an_option_is_not_taken_for_a_file() {
        for words in ["demuxai -c a b", "demuxai check --config a b", "demuxai models -c a b"] {
            let said = read(words).unwrap_err().to_string();
            assert!(said.contains("'b'") && said.contains("-c FILE -c b"), "{words}: {said}");
        }
        let said = read("demuxai serv").unwrap_err().to_string();
        assert!(said.contains("'serve'") && !said.contains("-c FILE"), "{said}");
    }

    #[test]
    fn an_option_that_a_command_would_ignore_is_refused() {
        for (words, option) in [
            ("demuxai -c a init", "--config"),
            ("demuxai -c a demo", "--config"),
            ("demuxai --listen 127.0.0.1:0 check", "--listen"),
            ("demuxai --listen 127.0.0.1:0 demo", "--listen"),
        ] {
            let error = read(words).unwrap_err();
            assert!(error.exit_code() == 2 && error.to_string().contains(option), "{words}: {error}");
        }
    }
}
