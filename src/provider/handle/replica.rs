//! A provider's replicas: each an arbiter of its own with an actor and a client. They are started, asked in turn, guarded,
//! and replaced when they no longer answer.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use actix::Addr;
use actix_rt::{Arbiter, ArbiterHandle};
use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::{error, warn};

use super::Provider;
use crate::backend::lease::Generation;
use crate::provider::about::About;
use crate::provider::actor::{Ping, ProviderActor};
use crate::provider::supervisor::{Intensity, Observer, supervise};
use crate::provider::vitals::{Health, Vitals};

/// An arbiter that does not answer a [`Ping`] for this long is given up.
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// One arbiter with one actor and one client.
pub(super) struct Replica {
    pub(super) generation: Generation,
    pub(super) address: Addr<ProviderActor>,
    arbiter: ArbiterHandle,
    /// The actor fell too often and waits before its restart.
    pause: Arc<Pause>,
    /// Set when this replica is given up: everything that waits for it ends.
    pub(super) gone: watch::Sender<bool>,
}

/// Tells the world about one actor's falls.
struct Falls {
    about: Arc<About>,
    vitals: Arc<Vitals>,
    pause: Arc<Pause>,
}

/// Until when an actor waits before its restart. While it does, its silence means nothing.
#[derive(Default)]
struct Pause {
    until: Mutex<Option<Instant>>,
}

// === impl Provider ===

impl Provider {
    pub(super) fn start_replica(&self) -> Arc<Replica> {
        let generation = self.vitals.capacity.next_generation();
        let arbiter = Arbiter::new().handle();
        let pause = Arc::new(Pause::default());
        let (gone, seen_gone) = watch::channel(false);
        let (sender, receiver) = actix::dev::channel::channel(16);
        let (about, vitals) = (Arc::clone(&self.about), Arc::clone(&self.vitals));
        let draining = Arc::clone(&self.draining);
        let observer =
            Falls { about: Arc::clone(&about), vitals: Arc::clone(&vitals), pause: Arc::clone(&pause) };
        arbiter.spawn_fn(move || {
            let supervision = supervise(receiver, Intensity::default(), observer, |_context| {
                ProviderActor::new(about, vitals, generation, seen_gone, draining)
            });
            actix_rt::spawn(supervision);
        });
        Arc::new(Replica { generation, address: Addr::new(sender), arbiter, pause, gone })
    }

    /// Asks each replica for a sign of life and replaces those that give none.
    pub async fn guard(&self) {
        let replicas = self.replicas.load_full();
        for replica in replicas.iter() {
            if !replica.alive().await {
                self.replace(replica);
            }
        }
    }

    /// Whether every replica answers now.
    pub async fn ping(&self) -> bool {
        let replicas = self.replicas.load_full();
        join_all(replicas.iter().map(|replica| replica.alive())).await.into_iter().all(|alive| alive)
    }

    fn replace(&self, dead: &Arc<Replica>) {
        error!(provider = &*self.about.id, "provider's arbiter does not answer, starting it anew");
        let fresh = self.start_replica();
        self.replicas.rcu(|replicas| {
            let swap = |replica: &Arc<Replica>| {
                if replica.generation == dead.generation { Arc::clone(&fresh) } else { Arc::clone(replica) }
            };
            replicas.iter().map(swap).collect::<Vec<_>>()
        });
        dead.give_up(&self.vitals);
        self.vitals.count_restart();
        self.about.metrics.restarted(&self.about.id);
    }

    /// The next replica in turn that takes requests.
    pub(super) fn replica(&self) -> Option<Arc<Replica>> {
        let replicas = self.replicas.load();
        let start = self.next.fetch_add(1, Ordering::Relaxed);
        let count = replicas.len();
        (0..count)
            .filter_map(|step| replicas.get(start.wrapping_add(step) % count))
            .find(|replica| replica.address.connected() && !replica.pause.is_on())
            .map(Arc::clone)
    }
}

// === impl Replica ===

impl Replica {
    /// Whether it gives a sign of life, or need not.
    async fn alive(&self) -> bool {
        if !self.address.connected() {
            return false;
        }
        // A pausing actor does not answer, but it will; unless its arbiter died or hangs meanwhile.
        self.pause.excuses(Instant::now())
            || matches!(timeout(PING_TIMEOUT, self.address.send(Ping)).await, Ok(Ok(())))
    }

    /// Ends all that waits for this replica and settles what it holds.
    fn give_up(&self, vitals: &Vitals) {
        vitals.capacity.give_up(self.generation);
        self.gone.send_replace(true);
        self.stop();
    }

    /// Ends its arbiter, when that runs again, if it ever does.
    pub(super) fn stop(&self) {
        self.arbiter.stop();
    }
}

// === impl Pause ===

impl Pause {
    fn set(&self, until: Option<Instant>) {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }

    fn until(&self) -> Option<Instant> {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_on(&self) -> bool {
        self.until().is_some()
    }

    /// Whether silence at `now` is to be expected: the pause is on, and not long over.
    fn excuses(&self, now: Instant) -> bool {
        self.until().is_some_and(|until| now < until + PING_TIMEOUT)
    }
}

// === impl Falls ===

impl Observer for Falls {
    fn fell(&self, cause: &str) {
        let restarts = self.vitals.count_restart();
        self.about.metrics.restarted(&self.about.id);
        warn!(provider = &*self.about.id, cause, restarts, "provider's actor fell");
    }

    fn pausing(&self, pause: Option<Duration>) {
        self.pause.set(pause.map(|pause| Instant::now() + pause));
        match pause {
            Some(pause) => {
                self.vitals.show_up(false);
                let milliseconds = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
                warn!(provider = &*self.about.id, milliseconds, "provider's actor falls too often, pausing");
            }
            None => self.vitals.show_up(self.vitals.health() == Health::Up),
        }
    }
}
