//! The composition root: configuration → providers → router → listeners; and the way out: drain, then stop.
//! `plan` is all of the start-up that needs no socket and no thread; `demuxai check` stops there.

pub mod reloader;

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use actix::Addr;
use actix_web::dev::{Server, ServerHandle};
use futures_util::future::join_all;
use tracing::{info, warn};

use crate::backend::kind::Means;
use crate::backend::tally::Tallies;
use crate::config::secret::Secret;
use crate::config::settings::{Config, Listener, ProviderConfig};
use crate::metrics::Metrics;
use crate::metrics::reload::ConfigLoaded;
use crate::provider::about::About;
use crate::provider::handle::Provider;
use crate::provider::registry::Registry;
use crate::provider::scrub::Scrub;
use crate::provider::supervisor::{Intensity, Observer, supervise};
use crate::reload::Reloads;
use crate::router::RouterActor;
use crate::router::accounts::Accounts;
use crate::router::graph::{Before, Graph};
use crate::router::in_force::{Access, InForce, Published};
use crate::router::table::Table;
use crate::server::closing::Closing;
use crate::server::edge::{Door, Place};
use crate::server::{listener, token};
use crate::state::{Saved, State};
use crate::telemetry::Level;
use reloader::{Load, Reloader};

/// How long the state may take to be written at the end.
const STATE_DRAIN: Duration = Duration::from_secs(2);

/// Why the daemon cannot start.
#[derive(Debug)]
pub enum BuildError {
    /// The configuration is well-formed, but something in it cannot be used; all such things.
    Unusable(Vec<String>),
    /// An address cannot be listened on.
    Bind {
        /// The listener's id.
        listener: String,
        /// Its address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// Anything else.
    Internal(String),
}

/// A configuration that is ready to be started.
pub struct Plan {
    config: Config,
    abouts: Vec<About>,
    metrics: Arc<Metrics>,
}

/// A running daemon.
pub struct App {
    servers: Vec<Server>,
    handle: AppHandle,
    addresses: Vec<(String, SocketAddr)>,
}

/// A running daemon's controls; cheap to clone.
#[derive(Clone)]
pub struct AppHandle {
    ends: Vec<End>,
    router: Addr<RouterActor>,
    published: Arc<Published>,
    metrics: Arc<Metrics>,
    state: State,
    reloads: Reloads,
}

/// Where the configuration is read anew, while the daemon runs.
pub struct Source {
    /// Reads it.
    pub load: Load,
    /// The kinds of providers.
    pub registry: Registry,
    /// What is logged.
    pub level: Level,
}

/// What ends one listener.
#[derive(Clone)]
struct End {
    listener: Arc<Listener>,
    server: ServerHandle,
    closing: Arc<Closing>,
}

/// Tells of the router's falls.
struct RouterFalls;

// === impl Plan ===

impl Plan {
    /// Puts together what the configuration asks for. Starts nothing.
    ///
    /// # Errors
    /// All the things in the configuration that cannot be used.
    pub fn new(config: Config, registry: &Registry) -> Result<Self, BuildError> {
        let metrics = Metrics::new().map_err(|error| BuildError::Internal(error.to_string()))?;
        let metrics = Arc::new(metrics);
        let mut problems = Vec::new();
        if let Err(problem) = crate::telemetry::filter(&config.log.level) {
            problems.push(problem);
        }
        let mut abouts = Vec::new();
        for provider in &config.providers {
            match described(provider, registry, &metrics) {
                Ok(about) => abouts.push(about),
                Err(problem) => problems.push(problem),
            }
        }
        if problems.is_empty() {
            Ok(Plan { config, abouts, metrics })
        } else {
            Err(BuildError::Unusable(problems))
        }
    }

    /// The configuration that is to be started.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Starts the providers alone, without router and listeners. Must be called inside an actix system.
    pub fn start_providers(self) -> Vec<Arc<Provider>> {
        let (state, saved) = (State::nowhere(), Saved::default());
        self.abouts.into_iter().map(|about| Provider::start(about, &state, &saved)).collect()
    }

    /// The routing table with providers at rest, for questions of what would happen: no thread is started, and of the
    /// state it is only read; and what clients have used. Says whether there was a state to read.
    ///
    /// # Errors
    /// What the configuration's own check rules out.
    pub fn at_rest(self) -> Result<(Table, Arc<Tallies>, bool), BuildError> {
        let read = State::peek(&self.config.state);
        let (state, known) = (State::nowhere(), read.is_some());
        let saved = read.unwrap_or_default();
        let at_rest = |about| Provider::at_rest(about, &state, &saved);
        let providers: Vec<Arc<Provider>> = self.abouts.into_iter().map(at_rest).collect();
        providers.iter().for_each(|provider| provider.list_static());
        let tallies = Tallies::new(State::nowhere(), &saved);
        let means = Means::new(&self.metrics, Scrub::of_all(&self.config), tallies);
        let Config { groups, routers, .. } = &self.config;
        let graph = Graph::build(groups, routers, &providers, &means, &Before::default())
            .map_err(BuildError::Internal)?;
        let table = Table::new(providers, graph.into_virtuals());
        Ok((table.with_aliases(self.config.aliases), means.tallies, known))
    }

    /// Binds all listeners, then starts everything; with a source, the configuration can be read anew. Must be called
    /// inside an actix system.
    ///
    /// # Errors
    /// When an address cannot be listened on; nothing was started then.
    pub fn start(self, source: Option<Source>) -> Result<App, BuildError> {
        let sockets = bind_all(&self.config.listeners)?;
        // After the sockets: who cannot have them has no business with the file.
        let (state, saved) = State::open(&self.config.state, &self.metrics);
        let providers: Vec<Arc<Provider>> =
            self.abouts.into_iter().map(|about| Provider::start(about, &state, &saved)).collect();
        let tallies = Tallies::new(state.clone(), &saved);
        let means = Means::new(&self.metrics, Scrub::of_all(&self.config), tallies);
        let Config { groups, routers, .. } = &self.config;
        let graph = Graph::build(groups, routers, &providers, &means, &Before::default())
            .map_err(BuildError::Internal)?;
        let accounts = Accounts::new(state.clone(), saved, &providers);
        let table = Table::new(providers, graph.into_virtuals()).with_aliases(self.config.aliases);
        let tallies = means.tallies.of_keys(&self.config.keys).map_err(BuildError::Internal)?;
        let access = Access {
            keys: self.config.keys,
            admin_key: self.config.admin_key.or_else(|| admin_token(&state)),
            listeners: self.config.listeners.into_iter().map(Arc::new).collect(),
        };
        let bound_listeners = access.listeners.clone();
        let ids = bound_listeners.iter().map(|listener| Arc::from(listener.id.as_str()));
        let listeners: Arc<[Arc<str>]> = ids.collect();
        let published = Arc::new(Published::default());
        let first = InForce { table: Arc::new(table), access, tallies };
        let router = start_router(Arc::clone(&published), first, accounts, state.clone());
        let (reloads, wishes) = Reloads::new();
        let mut doors = Vec::new();
        let mut servers = Vec::new();
        let mut ends = Vec::new();
        let mut addresses = Vec::new();
        for (number, (listener, socket)) in bound_listeners.into_iter().zip(sockets).enumerate() {
            let bound = |source| BuildError::Bind {
                listener: listener.id.clone(),
                address: listener.address,
                source,
            };
            let address = socket.local_addr().map_err(bound)?;
            addresses.push((listener.id.clone(), address));
            let closing = Arc::new(Closing::default());
            let place = Place {
                id: Arc::from(listener.id.as_str()),
                bound: Arc::clone(&listener),
                address,
                number,
                listeners: Arc::clone(&listeners),
                metrics: Arc::clone(&self.metrics),
                state: state.clone(),
                tallies: Arc::clone(&means.tallies),
                closing: Arc::clone(&closing),
                reloads: reloads.clone(),
            };
            let door = Arc::new(Door::new(place, Arc::clone(&published)));
            let server = listener::server(socket, Arc::clone(&door)).map_err(bound)?;
            doors.push(door);
            ends.push(End { listener, server: server.handle(), closing });
            servers.push(server);
        }
        ConfigLoaded { metrics: &self.metrics, at: reloader::seconds_now() }.emit();
        if let Some(Source { load, registry, level }) = source {
            let (router, state, image) = (router.clone(), state.clone(), self.config.image);
            let reloader = Reloader { load, registry, level, router, doors, means, state, image };
            actix_rt::spawn(reloader.run(wishes));
        }
        let handle = AppHandle { ends, router, published, metrics: self.metrics, state, reloads };
        Ok(App { servers, handle, addresses })
    }
}

/// The description of one provider.
fn described(config: &ProviderConfig, registry: &Registry, metrics: &Arc<Metrics>) -> Result<About, String> {
    let Some(kind) = registry.kind(&config.kind) else {
        let known = registry.names().join(", ");
        return Err(format!("provider `{}`: no type `{}` (known: {known})", config.id, config.kind));
    };
    About::new(config.clone(), &kind, Arc::clone(metrics))
}

fn bind_all(listeners: &[Listener]) -> Result<Vec<TcpListener>, BuildError> {
    let bind = |listener: &Listener| {
        listener::bind(listener.address, listener.stalled_reader).map_err(|source| BuildError::Bind {
            listener: listener.id.clone(),
            address: listener.address,
            source,
        })
    };
    listeners.iter().map(bind).collect()
}

/// The token for changes where no key is configured; without a file for the state there is none.
fn admin_token(state: &State) -> Option<Secret> {
    let file = token::place(&state.status().file?);
    match token::obtain(&file) {
        Ok(token) => Some(token),
        Err(error) => {
            warn!(file = %file.display(), %error, "no token for changes from the command line can be kept");
            None
        }
    }
}

fn start_router(
    published: Arc<Published>,
    first: InForce,
    accounts: Accounts,
    state: State,
) -> Addr<RouterActor> {
    let (sender, receiver) = actix::dev::channel::channel(16);
    let supervision = supervise(receiver, Intensity::default(), RouterFalls, |_context| {
        RouterActor::new(published, first, accounts, state)
    });
    actix_rt::spawn(supervision);
    Addr::new(sender)
}

impl Observer for RouterFalls {
    fn fell(&self, cause: &str) {
        tracing::error!(cause, "router's actor fell");
    }

    fn pausing(&self, _pause: Option<Duration>) {}
}

// === impl App ===

impl App {
    /// Plans and starts in one go.
    ///
    /// # Errors
    /// As [`Plan::new`] and [`Plan::start`].
    pub fn build(config: Config, registry: &Registry) -> Result<App, BuildError> {
        Plan::new(config, registry)?.start(None)
    }

    /// The same, of a configuration that can be read anew.
    ///
    /// # Errors
    /// As [`Plan::new`] and [`Plan::start`].
    pub fn build_from(config: Config, source: Source) -> Result<App, BuildError> {
        Plan::new(config, &source.registry)?.start(Some(source))
    }

    /// The listeners' ids with the addresses they are bound to.
    pub fn addresses(&self) -> &[(String, SocketAddr)] {
        &self.addresses
    }

    /// The controls.
    pub fn handle(&self) -> AppHandle {
        self.handle.clone()
    }

    /// Serves until stopped through the handle.
    ///
    /// # Errors
    /// When a listener fails.
    pub async fn run_until_stopped(self) -> io::Result<()> {
        for (listener, address) in &self.addresses {
            info!(listener, %address, "listening");
        }
        let ended = join_all(self.servers).await;
        self.handle.keep_state().await;
        ended.into_iter().collect()
    }
}

// === impl AppHandle ===

impl AppHandle {
    /// Takes no new requests and lets those in flight go on, up to the listeners' `drain`. What takes longer ends with
    /// an error.
    pub async fn drain(&self) {
        self.take_nothing_new();
        join_all(self.ends.iter().map(End::drain)).await;
    }

    /// Ends everything at once.
    pub async fn stop(&self) {
        self.take_nothing_new();
        join_all(self.ends.iter().map(|end| end.server.stop(false))).await;
    }

    /// At all listeners at once: the status of one tells of all.
    fn take_nothing_new(&self) {
        for end in &self.ends {
            end.closing.drain();
        }
    }

    /// Writes to disk what is not there yet, within bounds; nothing is kept afterwards.
    pub async fn keep_state(&self) {
        let table = self.published.table();
        let settling = join_all(table.virtuals().map(|found| found.settle()));
        // A disk that hangs keeps nobody here.
        let _ = tokio::time::timeout(STATE_DRAIN, settling).await;
        self.state.drain(STATE_DRAIN).await;
    }

    /// What outlives the process.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Where reloads are asked for.
    pub fn reloads(&self) -> &Reloads {
        &self.reloads
    }

    /// The router's address.
    pub fn router(&self) -> &Addr<RouterActor> {
        &self.router
    }

    /// Where is recorded.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }
}

// === impl End ===

impl End {
    async fn drain(&self) {
        let mut stopped = pin!(self.server.stop(true));
        if tokio::time::timeout(self.listener.drain, &mut stopped).await.is_ok() {
            return;
        }
        let answers = self.closing.end();
        if answers > 0 {
            warn!(
                listener = self.listener.id,
                answers, "drain is over; what is still in flight ends with an error"
            );
        }
        stopped.await;
    }
}

// === impl BuildError ===

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BuildError::Unusable(problems) => f.write_str(&problems.join("\n")),
            BuildError::Bind { listener, address, source } if source.kind() == io::ErrorKind::AddrInUse => {
                let port = address.port();
                write!(
                    f,
                    "listener `{listener}`: {address} is in use, perhaps by another demuxai; stop that, or choose \
                     another address with --listen 127.0.0.1:{}",
                    port.checked_add(1).unwrap_or(6042)
                )
            }
            BuildError::Bind { listener, address, source } => {
                write!(
                    f,
                    "listener `{listener}`: cannot listen on {address}: {source}; choose another with --listen"
                )
            }
            BuildError::Internal(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for BuildError {}
