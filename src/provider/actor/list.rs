//! The model list of a [`ProviderActor`]: when it is fetched, what becomes of it, and what its failure says of the upstream.
//! Fetching is a task of the arbiter; only its result is the actor's.

use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use actix::{ActorFutureExt, AsyncContext, Context, Handler, Supervised, WrapFuture};
use bytes::Bytes;
use http::Method;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::{debug, info, warn};

use super::{ProviderActor, RefreshModels};
use crate::error::{ErrorKind, ProxyError};
use crate::provider::models::{FRESH, ModelList, with_static};
use crate::provider::vitals::Health;
use crate::provider::{Model, fetch, usage};
use crate::quota::Source;
use crate::upstream::{Client, NO_CONNECTION};

/// A list that failed is tried again after this long at first, doubled up to the list's lifetime or ten minutes.
const FIRST_RETRY: Duration = Duration::from_secs(5);
const LONGEST_RETRY: Duration = Duration::from_secs(600);
/// Of what cannot be reached no longer than this, as nobody else finds out that it is back; a local server sooner.
const LOST_RETRY: Duration = Duration::from_secs(30);
const LOCAL_RETRY: Duration = Duration::from_secs(5);
/// Fetching a list takes no longer than this, and neither does completing it.
const LIST_TIMEOUT: Duration = Duration::from_secs(60);
/// Nor does asking what is left of the account.
const USAGE_TIMEOUT: Duration = Duration::from_secs(10);

/// Where the model list's refresh stands.
#[derive(Default)]
pub(super) struct Refresh {
    running: bool,
    failures: u32,
    /// When the last one ended, well or not.
    ended: Option<Instant>,
    pub(super) next: Option<Instant>,
    waiters: Vec<oneshot::Sender<()>>,
}

// === impl ProviderActor ===

impl ProviderActor {
    /// Fetches the list if it is due; called by the timer.
    pub(super) fn tick(&mut self, ctx: &mut Context<Self>, now: Instant) {
        if self.is_draining() {
            return;
        }
        // What a request could not reach is asked for its list soon, so that it is known when it is back.
        let lost = self.vitals.health() == Health::Unreachable;
        let config = &self.about.config;
        let wait = lost_retry(self.refresh.failures, config.cache, config.local);
        let soon = self.refresh.ended.map(|at| at + wait);
        let due = if lost { soon.min(self.refresh.next) } else { self.refresh.next };
        if due.is_none_or(|due| now >= due) {
            self.start_refresh(ctx);
        }
    }

    pub(super) fn start_refresh(&mut self, ctx: &mut Context<Self>) {
        if self.refresh.running {
            return;
        }
        let Ok(client) = self.client.as_ref().map(Rc::clone) else {
            self.refresh.waiters.clear();
            return;
        };
        let about = Arc::clone(&self.about);
        let Some(path) = about.facts.models_path(about.adapter).map(str::to_owned) else {
            self.finish(Ok(Vec::new()), Instant::now());
            return;
        };
        self.refresh.running = true;
        let fetch = async move { fetch::ask(&client, &about, Method::GET, &path, Vec::new()).await };
        self.then(ctx, fetch, |actor, ctx, list| actor.read_list(ctx, list, Instant::now()));
    }

    /// Reads the list and puts it out; entries that need more are completed behind that.
    fn read_list(&mut self, ctx: &mut Context<Self>, list: Result<Bytes, ProxyError>, now: Instant) {
        let about = Arc::clone(&self.about);
        let read = |body: Bytes| {
            about.adapter.models(&body).map_err(|reason| {
                let text = format!("the model list of `{}`: {reason}", about.id);
                ProxyError::new(ErrorKind::UpstreamProtocol, text)
            })
        };
        let known = self.vitals.models.load_full();
        let models = match list.and_then(read) {
            Ok(models) => fetch::recall(models, &known, about.adapter),
            Err(error) => return self.finish(Err(error), now),
        };
        let incomplete = fetch::incomplete(&models, &known, about.adapter);
        self.finish(Ok(models.clone()), now);
        let Ok(client) = self.client.as_ref().map(Rc::clone) else { return };
        self.ask_usage(&client);
        if !incomplete {
            return;
        }
        self.refresh.running = true;
        let details = async move { Ok(fetch::complete(&client, &about, models, &known).await) };
        self.then(ctx, details, move |actor, _ctx, models| {
            actor.refresh.running = false;
            if let Ok(models) = models
                && !actor.is_draining()
            {
                actor.publish(Some(models), now);
            }
            actor.tell_waiters();
        });
    }

    /// Asks what is left of the account, where the upstream tells. What cannot be had or read changes nothing.
    fn ask_usage(&self, client: &Rc<Client>) {
        let Some(path) = self.about.facts.usage_path().filter(|_| self.about.config.api_key.is_some()) else {
            return;
        };
        let (client, path) = (Rc::clone(client), path.to_owned());
        let (about, vitals) = (Arc::clone(&self.about), Arc::clone(&self.vitals));
        actix_rt::spawn(async move {
            let asked = fetch::ask(&client, &about, Method::GET, &path, Vec::new());
            match timeout(USAGE_TIMEOUT, asked).await {
                Ok(Ok(body)) => {
                    for told in usage::read(&body, SystemTime::now()) {
                        vitals.capacity.stated(&[told.statement], Source::Probe, told.model);
                    }
                    if let Some(is_left) = usage::has_credit(&body) {
                        vitals.capacity.credit(is_left, about.facts.free_models().as_ref());
                    }
                }
                Ok(Err(error)) => debug!(provider = &*about.id, error = error.message, "usage is not told"),
                Err(_) => debug!(provider = &*about.id, "usage is not told in time"),
            }
        });
    }

    /// Runs I/O as a task of the arbiter; only what is done with its result belongs to the actor.
    fn then<T: 'static>(
        &self,
        ctx: &mut Context<Self>,
        work: impl Future<Output = Result<T, ProxyError>> + 'static,
        next: impl FnOnce(&mut Self, &mut Context<Self>, Result<T, ProxyError>) + 'static,
    ) {
        let (done, result) = oneshot::channel();
        actix_rt::spawn(async move {
            let late = || Err(ProxyError::new(ErrorKind::Timeout, "the model list did not come within 60 s"));
            // An actor that restarted meanwhile asks anew.
            let _ = done.send(timeout(LIST_TIMEOUT, work).await.unwrap_or_else(|_| late()));
        });
        ctx.spawn(result.into_actor(self).map(|result, actor, ctx| {
            let gone =
                |_| Err(ProxyError::new(ErrorKind::Internal, "the task that fetched the model list fell"));
            next(actor, ctx, result.unwrap_or_else(gone));
        }));
    }

    /// The refresh is over, with a list or without.
    fn finish(&mut self, fetched: Result<Vec<Model>, ProxyError>, now: Instant) {
        self.refresh.running = false;
        if self.is_draining() {
            return self.tell_waiters();
        }
        self.refresh.ended = Some(now);
        let lifetime = self.about.config.cache;
        let next = match fetched {
            Ok(models) => {
                self.refresh.failures = 0;
                let count = models.len();
                let first = self.vitals.models.load().fetched().is_none();
                // Before it counts as up, so that nobody finds it up and its models missing.
                self.publish(Some(models), now);
                self.vitals.capacity.listed();
                if self.vitals.set_health(Health::Up, None) || first {
                    info!(provider = &*self.about.id, models = count, "provider is up");
                }
                lifetime
            }
            Err(error) => {
                self.note_list_failure(&error);
                self.refresh.failures = self.refresh.failures.saturating_add(1);
                self.publish(None, now);
                retry_after(self.refresh.failures, lifetime)
            }
        };
        self.refresh.next = Some(now + next);
        self.tell_waiters();
    }

    fn tell_waiters(&mut self) {
        for waiter in self.refresh.waiters.drain(..) {
            // A request that left does not care.
            let _ = waiter.send(());
        }
    }

    /// Puts the list out: the fresh one, else the last good one stays; static models are always there.
    pub(super) fn publish(&self, fresh: Option<Vec<Model>>, now: Instant) {
        let config = &self.about.config;
        let current = self.vitals.models.load();
        let (listed, fetched) = match fresh {
            Some(models) => (models, Some(now)),
            None if current.fetched().is_some() => return,
            None => (Vec::new(), None),
        };
        let models = with_static(listed, &config.models, self.about.facts.static_models());
        let list = ModelList::new(
            models,
            fetched,
            self.about.facts.open_list,
            config.include_models.clone(),
            config.exclude_models.clone(),
        );
        self.vitals.models.store(Arc::new(list));
    }

    fn has_static_models(&self) -> bool {
        !self.about.facts.models.is_empty() || !self.about.config.models.is_empty()
    }

    /// It answers, but with no list.
    fn note_no_list(&self, error: &ProxyError) {
        let id = &*self.about.id;
        let first = self.vitals.remark().is_none();
        if self.vitals.set_health(Health::Up, Some(error.message.clone())) || first {
            warn!(provider = id, error = error.message, "provider is up, but its model list cannot be had");
        } else {
            debug!(provider = id, error = error.message, "model list failed again");
        }
    }

    fn note_list_failure(&self, error: &ProxyError) {
        let id = &*self.about.id;
        let health = match error.kind {
            ErrorKind::ProviderRetired => Health::Retired,
            ErrorKind::UpstreamAuthentication => Health::Refused,
            ErrorKind::UpstreamStatus if self.has_static_models() => {
                // Some hosts serve models but no list of them.
                debug!(provider = id, error = error.message, "no model list, the static one serves");
                self.vitals.set_health(Health::Up, None);
                return;
            }
            kind => match reached(kind, error.code.as_deref()) {
                Some(false) => Health::Unreachable,
                // Whoever answers can be reached; whether he answers requests, they find out.
                Some(true) if self.vitals.health() != Health::Refused => return self.note_no_list(error),
                _ => {
                    if self.vitals.health() == Health::Unknown {
                        self.vitals.set_health(Health::Unknown, Some(error.message.clone()));
                    }
                    return debug!(provider = id, error = error.message, "model list failed");
                }
            },
        };
        if self.vitals.set_health(health, Some(error.message.clone())) {
            warn!(provider = id, health = health.label(), error = error.message, "provider is not usable");
        } else {
            debug!(provider = id, health = health.label(), error = error.message, "model list failed again");
        }
    }
}

impl Supervised for ProviderActor {
    fn restarting(&mut self, _ctx: &mut Self::Context) {
        // The future that would have adopted a list was cancelled with the context.
        self.refresh = Refresh { next: self.refresh.next, ..Refresh::default() };
    }
}

impl Handler<RefreshModels> for ProviderActor {
    type Result = ();

    fn handle(&mut self, message: RefreshModels, ctx: &mut Self::Context) {
        let now = Instant::now();
        let is_draining = self.is_draining();
        if is_draining || !self.refresh.running && self.refresh.ended.is_some_and(|ended| now < ended + FRESH)
        {
            // A list that cannot be had is not asked for with every request, and none by one that drains.
            let _ = message.done.send(());
            return;
        }
        self.refresh.waiters.retain(|waiter| !waiter.is_closed());
        self.refresh.waiters.push(message.done);
        self.start_refresh(ctx);
    }
}

/// Whether an error shows that the upstream can be reached. `None`: it shows neither.
fn reached(kind: ErrorKind, code: Option<&str>) -> Option<bool> {
    match kind {
        ErrorKind::Connect => Some(false),
        ErrorKind::Timeout if code == Some(NO_CONNECTION) => Some(false),
        ErrorKind::UpstreamStatus | ErrorKind::UpstreamProtocol | ErrorKind::Truncated => Some(true),
        _ => None,
    }
}

/// How long after a list that failed so often one that cannot be reached is asked again.
fn lost_retry(failures: u32, lifetime: Duration, local: bool) -> Duration {
    retry_after(failures.max(1), lifetime).min(if local { LOCAL_RETRY } else { LOST_RETRY })
}

fn retry_after(failures: u32, lifetime: Duration) -> Duration {
    let doublings = failures.saturating_sub(1).min(10);
    FIRST_RETRY.saturating_mul(1 << doublings).min(LONGEST_RETRY).min(lifetime)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_however_long_does_not_keep_a_provider_that_is_back_unknown_for_minutes() {
        let hour = Duration::from_secs(3600);
        for failures in [0, 1, 5, 20, u32::MAX] {
            assert!(lost_retry(failures, hour, true) <= LOCAL_RETRY);
            assert!(lost_retry(failures, hour, false) <= LOST_RETRY);
        }
        assert_eq!(retry_after(20, hour), LONGEST_RETRY, "others are not asked that often");
    }

    #[test]
    fn no_answer_to_the_list_is_taken_for_a_lost_provider() {
        for kind in [ErrorKind::UpstreamStatus, ErrorKind::UpstreamProtocol, ErrorKind::Truncated] {
            assert_eq!(reached(kind, None), Some(true));
        }
        assert_eq!(reached(ErrorKind::Timeout, None), None, "it was reached, and is slow");
        assert_eq!(reached(ErrorKind::Timeout, Some(NO_CONNECTION)), Some(false));
        assert_eq!(reached(ErrorKind::Connect, None), Some(false));
    }
}
