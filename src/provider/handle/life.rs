//! How a provider begins, and how it ends while others serve on.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Provider;
use crate::provider::models::{ModelList, with_static};

impl Provider {
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
