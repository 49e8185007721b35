//! `demuxai serve`: build, announce, wait for signals, drain.

use std::time::Duration;

use actix::Addr;
use tokio::time::timeout;
use tracing::{info, warn};

use super::load::{self, registry};
use super::{Exit, ServeArgs, complain};
use crate::app::{App, AppHandle};
use crate::config::process_environment;
use crate::config::settings::Config;
use crate::notify::ServiceManager;
use crate::router::{RoundTrip, RouterActor};
use crate::telemetry;

/// After an actor did not answer, it is asked again this soon.
const WATCHDOG_RETRY: Duration = Duration::from_secs(1);

/// Serves what the configuration says.
pub fn run(args: &ServeArgs) -> Exit {
    match load::load(&args.files, args.listen) {
        Ok(config) => serve(config, |_app| {}),
        Err(exit) => exit,
    }
}

/// Serves this configuration; `announce` is called once everything listens.
pub fn serve(config: Config, announce: impl FnOnce(&App)) -> Exit {
    let _farewell = match telemetry::install(&config.log) {
        Ok(farewell) => farewell,
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
    actix_rt::System::new().block_on(async move {
        match App::build(config, &registry()) {
            Ok(app) => {
                announce(&app);
                until_stopped(app).await
            }
            Err(error) => {
                complain(&error.to_string());
                Exit::of(&error)
            }
        }
    })
}

async fn until_stopped(app: App) -> Exit {
    // Before anyone can know that we are there: a signal that comes now is a wish to drain already.
    let signals = Signals::new();
    let handle = app.handle();
    let environment = process_environment();
    let variable = |name: &str| environment.get(name).map(String::as_str);
    let manager = ServiceManager::new(variable("NOTIFY_SOCKET"), variable("WATCHDOG_USEC"));
    manager.tell("READY=1");
    let feeding = manager
        .watchdog_interval()
        .map(|interval| actix_rt::spawn(feed_watchdog(manager.clone(), handle.router().clone(), interval)));
    let serving = app.run_until_stopped();
    tokio::pin!(serving);
    let exit = tokio::select! {
        ended = &mut serving => ended_by_itself(ended),
        stopped = stop_on_signals(signals, &handle, &manager) => {
            match stopped {
                Exit::Success => ended_by_itself(serving.await),
                early => {
                    handle.keep_state().await;
                    early
                }
            }
        }
    };
    if let Some(feeding) = feeding {
        feeding.abort();
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

/// The first SIGINT or SIGTERM drains, the second ends at once.
async fn stop_on_signals(mut signals: Signals, handle: &AppHandle, manager: &ServiceManager) -> Exit {
    signals.next().await;
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
