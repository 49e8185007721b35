//! How a provider begins, and how it ends while others serve on or with the daemon.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;

use super::Provider;
use crate::provider::about::About;
use crate::provider::capacity::{Capacity, breaker};
use crate::provider::models::{ModelList, with_static};
use crate::provider::vitals::Vitals;
use crate::state::{Saved, State};

impl Provider {
    /// Starts the provider's replicas, each on a fresh arbiter. Must be called inside an actix system.
    pub fn start(about: About, state: &State, saved: &Saved) -> Arc<Self> {
        Provider::at_rest(about, state, saved).running()
    }

    /// The provider without anybody who could send: it answers questions of what it would do, and no requests.
    pub fn at_rest(about: About, state: &State, saved: &Saved) -> Arc<Self> {
        let about = Arc::new(about);
        let capacity = capacity(&about, state, saved);
        let vitals = Vitals::new(about.metrics.up(&about.id), capacity);
        Provider::over(about, Arc::new(vitals))
    }

    /// The same over a lasting state that is there already.
    pub(in crate::provider) fn over(about: Arc<About>, vitals: Arc<Vitals>) -> Arc<Self> {
        about.metrics.announce(&about.id);
        Arc::new_cyclic(|this| Provider {
            this: Weak::clone(this),
            vitals,
            about,
            replicas: ArcSwap::from_pointee(Vec::new()),
            next: AtomicUsize::new(0),
            draining: Arc::default(),
        })
    }

    /// Puts out the models that are known without asking anybody.
    pub fn list_static(&self) {
        let config = &self.about.config;
        let models = with_static(Vec::new(), &config.models, self.about.facts.static_models());
        let (include, exclude) = (config.include_models.clone(), config.exclude_models.clone());
        let list = ModelList::new(models, None, self.about.facts.open_list, include, exclude);
        self.vitals.models.store(Arc::new(list));
    }

    /// With its replicas started.
    pub(in crate::provider) fn running(self: Arc<Self>) -> Arc<Self> {
        let replicas = self.about.config.replicas.max(1);
        let started = (0..replicas).map(|_| self.start_replica()).collect();
        self.replicas.store(Arc::new(started));
        self
    }

    /// It is taken out, or another one stands in its place: it only ends what is in flight, and asks for nothing of
    /// its own any more.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Whether nothing is in flight here, and nobody but the caller can send it anything. Asked for one that drains.
    pub fn is_idle(this: &Arc<Provider>) -> bool {
        let capacity = &this.vitals.capacity;
        Arc::strong_count(this) == 1
            && !this.replicas.load().iter().any(|replica| capacity.is_held_by(replica.generation))
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        for replica in self.replicas.load().iter() {
            replica.stop();
        }
    }
}

/// The account's capacity, with what was known of it before.
fn capacity(about: &About, state: &State, saved: &Saved) -> Arc<Capacity> {
    let rows: Vec<(&str, &str)> = saved.rows_of(&about.id).collect();
    let (waiting, breaker) = (about.waiting(), breaker(about.local()));
    Capacity::new(Arc::clone(&about.id), about.limits(), breaker, waiting, state.clone(), &rows)
}
