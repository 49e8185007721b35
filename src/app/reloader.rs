//! Reads the configuration anew and puts it in force while demuxai serves: all of it, or nothing. One wish after another.

use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use actix::Addr;
use actix_rt::task::spawn_blocking;
use futures_util::FutureExt;
use tokio::sync::mpsc;
use tracing::{error, info, warn};

use super::{BuildError, admin_token, described};
use crate::backend::kind::Means;
use crate::base_url::BaseUrl;
use crate::config::image::Image;
use crate::config::settings::{Config, ProviderConfig};
use crate::config::{Difference, Fate, Report};
use crate::metrics::reload::{ConfigLoaded, ConfigRefused, ConfigReloaded, ReloadPutOff};
use crate::provider::registry::Registry;
use crate::provider::scrub::Scrub;
use crate::reload::{Answer, Outcome, Refusal, What, Wish};
use crate::router::RouterActor;
use crate::router::in_force::Access;
use crate::router::replacing::{Next, Replace};
use crate::server::edge::{Door, Place};
use crate::state::State;
use crate::telemetry::Level;

/// Reads the configuration; with files, these instead of the daemon's own. It may block.
pub type Load = Arc<dyn Fn(&[PathBuf]) -> Result<Config, Report> + Send + Sync>;

/// What a reload needs to know of the daemon.
pub struct Reloader {
    /// Reads the configuration.
    pub load: Load,
    /// The kinds of providers.
    pub registry: Registry,
    /// What is logged.
    pub level: Level,
    pub(super) router: Addr<RouterActor>,
    pub(super) doors: Vec<Arc<Door>>,
    pub(super) means: Means,
    pub(super) state: State,
    /// What is in force.
    pub(super) image: Image,
}

/// A configuration that was read, and what it would change.
struct Read {
    config: Config,
    difference: Difference,
}

// === impl Reloader ===

impl Reloader {
    /// Grants wishes as long as somebody can have one. A panic of its own is the end of one wish, not of the reloads.
    pub async fn run(mut self, mut wishes: mpsc::Receiver<Wish>) {
        while let Some(Wish { what, answer }) = wishes.recv().await {
            let granted = AssertUnwindSafe(self.grant(what)).catch_unwind().await;
            let fell = |_| {
                error!("a reload fell");
                Err(Refusal::Impossible("the reload fell, which is demuxai's fault".to_owned()))
            };
            // Whoever left does not care.
            let _ = answer.send(granted.unwrap_or_else(fell));
        }
    }

    async fn grant(&mut self, what: What) -> Answer {
        match what {
            What::Compare(files) => {
                let Read { config, difference } = self.read(files).await?;
                let config = self.checked(config, &difference).await?.0;
                let warnings = config.warnings.iter().map(ToString::to_string).collect();
                Ok(Outcome { difference, notes: config.notes, warnings, files: config.files })
            }
            What::Reload(cause) => {
                let granted = self.reload().await;
                let cause = cause.label();
                match &granted {
                    Ok(Outcome { difference, .. }) => {
                        ConfigLoaded { metrics: &self.means.metrics, at: seconds_now() }.emit();
                        ConfigReloaded { cause, difference }.emit();
                    }
                    Err(Refusal::NotNow(why)) => ReloadPutOff { cause, why }.emit(),
                    Err(Refusal::Bad { problems, .. } | Refusal::Impossible(problems)) => {
                        ConfigRefused { metrics: &self.means.metrics, cause, problems }.emit();
                    }
                }
                granted
            }
        }
    }

    async fn reload(&mut self) -> Answer {
        if self.doors.iter().any(|door| door.edge().draining()) {
            return Err(Refusal::NotNow("demuxai is shutting down".to_owned()));
        }
        let Read { config, difference } = self.read(Vec::new()).await?;
        // Before the providers are taken out of it.
        let secrets = Scrub::of_all(&config);
        let (mut config, providers) = self.checked(config, &difference).await?;
        let (notes, files) = (std::mem::take(&mut config.notes), std::mem::take(&mut config.files));
        let image = self.image.with(&config.image);
        let same =
            ["groups", "routers"].into_iter().flat_map(|section| difference.ids(section, Fate::Unchanged));
        // Before anything passes that may hold one.
        self.means.secrets.change(secrets);
        let replace = Replace {
            providers,
            groups: std::mem::take(&mut config.groups),
            routers: std::mem::take(&mut config.routers),
            same: same.map(str::to_owned).collect(),
            aliases: std::mem::take(&mut config.aliases),
            access: self.access(&mut config),
            means: self.means.clone(),
        };
        let replaced = self.router.send(replace).await.map_err(|error| error.to_string());
        replaced.and_then(|replaced| replaced).map_err(Refusal::Impossible)?;
        // Before the level: what is remarked was as good as said at start.
        for note in &notes {
            info!("{note}");
        }
        let warnings: Vec<String> = config.warnings.iter().map(ToString::to_string).collect();
        for warning in &warnings {
            warn!("{warning}");
        }
        if let Err(problem) = self.level.set(&config.log.level) {
            error!(problem, "the log's level stays as it was");
        }
        self.image = image;
        Ok(Outcome { difference, notes, warnings, files })
    }

    /// Reads the configuration where blocking does not matter.
    async fn read(&self, files: Vec<PathBuf>) -> Result<Read, Refusal> {
        let load = Arc::clone(&self.load);
        let config = spawn_blocking(move || load(&files))
            .await
            .map_err(|_| Refusal::Impossible("the configuration could not be read: no thread".to_owned()))?
            .map_err(|report| Refusal::Bad { problems: report.to_string(), files: report.files })?;
        let difference = Difference::between(&self.image, &config.image);
        Ok(Read { config, difference })
    }

    /// What is left to check: that providers can be made, and that nothing is opened up by what stays as it was.
    async fn checked(
        &self,
        mut config: Config,
        difference: &Difference,
    ) -> Result<(Config, Vec<Next>), Refusal> {
        let mut problems = self.left_open(&config);
        let same: Vec<String> =
            difference.ids("providers", Fate::Unchanged).into_iter().map(str::to_owned).collect();
        let (providers, registry, metrics) =
            (std::mem::take(&mut config.providers), self.registry.clone(), Arc::clone(&self.means.metrics));
        let level = config.log.level.clone();
        let described = spawn_blocking(move || {
            let next = |provider: ProviderConfig| {
                if same.contains(&provider.id) {
                    return Ok(Next::Same(provider.id));
                }
                described(&provider, &registry, &metrics).map(|about| Next::New(Box::new(about)))
            };
            let level = crate::telemetry::filter(&level).map(|_| None);
            let all = providers.into_iter().map(|provider| next(provider).map(Some)).chain([level]);
            let (good, bad): (Vec<_>, Vec<_>) = all.partition(Result::is_ok);
            let bad: Vec<String> = bad.into_iter().filter_map(Result::err).collect();
            (good.into_iter().flatten().flatten().collect::<Vec<Next>>(), bad)
        })
        .await;
        let Ok((providers, bad)) = described else {
            return Err(Refusal::Impossible("the providers could not be described: no thread".to_owned()));
        };
        problems.extend(bad);
        if problems.is_empty() {
            Ok((config, providers))
        } else {
            let problems = BuildError::Unusable(problems).to_string();
            Err(Refusal::Bad { problems, files: config.files })
        }
    }

    /// What the check of the configuration ruled out for the addresses that are written now, and is not for those that
    /// demuxai goes on listening on.
    fn left_open(&self, config: &Config) -> Vec<String> {
        let mut problems = Vec::new();
        for door in &self.doors {
            let Place { id, address, .. } = door.place();
            if config.keys.is_empty() && !address.ip().is_loopback() {
                problems.push(format!(
                    "listeners.{id}: goes on listening on {address} until a restart, and without [keys] everybody could \
                     use it there; leave a key in, or restart demuxai"
                ));
            }
            for provider in &config.providers {
                if BaseUrl::parse(&provider.url).is_ok_and(|url| url.reaches(*address)) {
                    problems.push(format!(
                        "providers.{}.url: is demuxai itself, which goes on listening on {address} until a restart",
                        provider.id
                    ));
                }
            }
        }
        problems
    }

    /// Who may ask from now on. A listener that is there no more goes on as it was, and what it was bound with stays.
    fn access(&self, config: &mut Config) -> Access {
        let listener = |door: &Arc<Door>| {
            let next = config.listeners.iter().find(|next| next.id == *door.place().id);
            next.map_or_else(|| door.edge().listener, |next| Arc::new(door.place().as_bound(next)))
        };
        let listeners = self.doors.iter().map(listener).collect();
        Access {
            listeners,
            keys: std::mem::take(&mut config.keys),
            admin_key: config.admin_key.take().or_else(|| admin_token(&self.state)),
        }
    }
}

/// Now, in seconds since the Unix epoch.
pub(super) fn seconds_now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Whether two lists of files name the same files, whatever the spelling.
pub fn same_files(one: &[PathBuf], other: &[PathBuf]) -> bool {
    let found = |path: &PathBuf| std::fs::canonicalize(path).unwrap_or_else(|_| Path::new(path).to_owned());
    one.len() == other.len() && one.iter().map(found).eq(other.iter().map(found))
}
