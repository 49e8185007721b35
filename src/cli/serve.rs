//! `demuxai serve`: build, announce, wait for signals, drain.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use actix::Addr;
use clap::Args;
use tokio::time::timeout;
use tracing::{info, warn};

use super::load::{self, registry};
use super::watch::{Watch, reload_on_change};
use super::{ConfigArgs, Exit, complain};
use crate::app::{App, AppHandle, Source};
use crate::config::settings::Config;
use crate::config::{Sources, process_environment};
use crate::notify::ServiceManager;
use crate::reload::{Cause, Reloads, What};
use crate::router::{RoundTrip, RouterActor};
use crate::telemetry;

/// Options of `serve`.
#[derive(Debug, Args, Default)]
pub struct ServeArgs {
    /// Where the configuration comes from.
    #[command(flatten)]
    pub files: ConfigArgs,
    /// Listen here instead of at the first listener's address.
    #[arg(long, short, value_name = "ADDR")]
    pub listen: Option<SocketAddr>,
    /// Reload when a file of the configuration changes.
    #[arg(long)]
    pub watch: bool,
}

/// After an actor did not answer, it is asked again this soon.
const WATCHDOG_RETRY: Duration = Duration::from_secs(1);

/// Serves what the configuration says.
pub fn run(args: &ServeArgs) -> Exit {
    let system = actix_rt::System::new();
    // Before the files are read: from now on a SIGHUP is a wish to read them again, and ends nothing.
    let hangups = system.block_on(async { Hangups::new() });
    let sources = load::sources(&args.files, args.listen);
    let since = SystemTime::now();
    let mut watch = args.watch.then(|| Watch::new(&sources));
    match load::load_from(&sources) {
        Ok(config) => {
            if let Some(watch) = &mut watch {
                watch.reads(config.files.clone(), since);
            }
            serve_on(&system, config, Some(Again { sources, watch, hangups }), |_app| {})
        }
        Err(exit) => exit,
    }
}

/// How the configuration is read anew.
pub struct Again {
    /// What it is made from.
    pub sources: Sources,
    /// Its files are watched.
    pub watch: Option<Watch>,
    /// What asks for it by a signal.
    hangups: Hangups,
}

/// Serves this configuration, which is never read anew; `announce` is called once everything listens.
pub fn serve(config: Config, announce: impl FnOnce(&App)) -> Exit {
    serve_on(&actix_rt::System::new(), config, None, announce)
}

fn serve_on(
    system: &actix_rt::SystemRunner,
    config: Config,
    again: Option<Again>,
    announce: impl FnOnce(&App),
) -> Exit {
    let (_farewell, level) = match telemetry::install(&config.log) {
        Ok(installed) => installed,
        Err(problem) => {
            complain(&problem);
            return Exit::Configuration;
        }
    };
    for note in &config.notes {
        info!("{note}");
    }
    for warning in &config.warnings {
        warn!("{warning}");
    }
    system.block_on(async move {
        let registry = registry();
        let (built, watch) = match again {
            Some(Again { sources, watch, hangups }) => {
                let load = load::loader(sources, registry.clone());
                (App::build_from(config, Source { load, registry, level }), Some((watch, hangups)))
            }
            None => (App::build(config, &registry), None),
        };
        match built {
            Ok(app) => {
                announce(&app);
                until_stopped(app, watch).await
            }
            Err(error) => {
                complain(&error.to_string());
                Exit::of(&error)
            }
        }
    })
}

/// With `again` the configuration can be read anew, and perhaps is watched.
async fn until_stopped(app: App, again: Option<(Option<Watch>, Hangups)>) -> Exit {
    // Before anyone can know that we are there: a signal that comes now is a wish to drain already.
    let signals = Signals::new();
    let (watch, hangups) = again.map_or((None, None), |(watch, hangups)| (watch, Some(hangups)));
    let handle = app.handle();
    let environment = process_environment();
    let variable = |name: &str| environment.get(name).map(String::as_str);
    let manager = ServiceManager::new(variable("NOTIFY_SOCKET"), variable("WATCHDOG_USEC"));
    manager.tell("READY=1");
    let feeding = manager
        .watchdog_interval()
        .map(|interval| actix_rt::spawn(feed_watchdog(manager.clone(), handle.router().clone(), interval)));
    let watching = watch.map(|watch| actix_rt::spawn(reload_on_change(watch, handle.reloads().clone())));
    let serving = app.run_until_stopped();
    tokio::pin!(serving);
    let exit = tokio::select! {
        ended = &mut serving => ended_by_itself(ended),
        stopped = stop_on_signals(signals, hangups, &handle, &manager) => {
            match stopped {
                Exit::Success => ended_by_itself(serving.await),
                early => {
                    handle.keep_state().await;
                    early
                }
            }
        }
    };
    for task in feeding.into_iter().chain(watching) {
        task.abort();
    }
    exit
}

fn ended_by_itself(ended: std::io::Result<()>) -> Exit {
    match ended {
        Ok(()) => Exit::Success,
        Err(error) => {
            complain(&format!("a listener failed: {error}"));
            Exit::Failure
        }
    }
}

/// The first SIGINT or SIGTERM drains, the second ends at once. Each SIGHUP reads the configuration anew; but one that
/// says that the terminal is gone in which demuxai was started drains, too.
async fn stop_on_signals(
    mut signals: Signals,
    hangups: Option<Hangups>,
    handle: &AppHandle,
    manager: &ServiceManager,
) -> Exit {
    tokio::select! {
        () = signals.next() => {}
        () = reload_on_hangups(hangups, handle.reloads()) => info!("the terminal is gone"),
    }
    info!("draining; a second signal ends at once");
    manager.tell("STOPPING=1");
    tokio::select! {
        () = handle.drain() => Exit::Success,
        () = signals.next() => {
            warn!("ending at once");
            Exit::Interrupted
        }
    }
}

/// Reads the configuration anew at each SIGHUP, until that says that the terminal is gone.
async fn reload_on_hangups(hangups: Option<Hangups>, reloads: &Reloads) {
    let Some(mut hangups) = hangups else { return std::future::pending().await };
    loop {
        hangups.next().await;
        if hangups.had_terminal && !in_terminal() {
            return;
        }
        // What comes of it is logged.
        let _ = reloads.ask(What::Reload(Cause::Signal)).await;
    }
}

fn in_terminal() -> bool {
    std::io::IsTerminal::is_terminal(&std::io::stdin())
}

/// SIGHUP as it comes.
#[cfg(unix)]
struct Hangups {
    signal: Option<tokio::signal::unix::Signal>,
    had_terminal: bool,
}

#[cfg(unix)]
impl Hangups {
    fn new() -> Self {
        use tokio::signal::unix::{SignalKind, signal};
        Hangups { signal: signal(SignalKind::hangup()).ok(), had_terminal: in_terminal() }
    }

    async fn next(&mut self) {
        match &mut self.signal {
            Some(hangups) => {
                hangups.recv().await;
            }
            None => std::future::pending().await,
        }
    }
}

/// There is no SIGHUP.
#[cfg(not(unix))]
struct Hangups {
    had_terminal: bool,
}

#[cfg(not(unix))]
impl Hangups {
    fn new() -> Self {
        Hangups { had_terminal: in_terminal() }
    }

    async fn next(&mut self) {
        std::future::pending::<()>().await;
    }
}

/// SIGINT and SIGTERM as they come.
#[cfg(unix)]
struct Signals(Option<(tokio::signal::unix::Signal, tokio::signal::unix::Signal)>);

#[cfg(unix)]
impl Signals {
    fn new() -> Self {
        use tokio::signal::unix::{SignalKind, signal};
        let interrupt = signal(SignalKind::interrupt());
        Signals(interrupt.ok().zip(signal(SignalKind::terminate()).ok()))
    }

    async fn next(&mut self) {
        let Some((interrupt, terminate)) = &mut self.0 else { return std::future::pending().await };
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    }
}

/// Ctrl-C as it comes.
#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> Self {
        Signals
    }

    async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Feeds systemd's watchdog from a round trip through the router and every provider's actor, never from a bare timer.
/// After one that failed it soon tries again: a provider whose thread hangs is replaced within seconds, and that is no
/// reason for systemd to end the others' streams.
pub async fn feed_watchdog(manager: ServiceManager, router: Addr<RouterActor>, interval: Duration) {
    let mut pause = interval;
    loop {
        tokio::time::sleep(pause).await;
        pause = match timeout(interval, router.send(RoundTrip)).await {
            Ok(Ok(true)) => {
                manager.tell("WATCHDOG=1");
                interval
            }
            _ => {
                warn!("an actor did not answer in time; the watchdog goes hungry");
                interval.min(WATCHDOG_RETRY)
            }
        };
    }
}
