//! Adapters that panic now and then in the thread of their provider's actor: in its message handler, in its exchange
//! tasks, in its timer, in a future of its context; and that stop its arbiter. The product has no hook for them.

use std::collections::HashSet;
use std::panic::resume_unwind;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, ThreadId};

use demuxai::dialect::Task;
use demuxai::provider::registry::{PROVIDERS, ProviderKind, Registry};
use demuxai::provider::{Adapter, DetailRequest, Model, Route};
use http::header::{HeaderName, HeaderValue};

/// An adapter of the product with faults on demand.
pub struct Shaky {
    inner: &'static dyn Adapter,
    /// The threads on which its actor lives or has lived: elsewhere it does not panic.
    actors: Mutex<HashSet<ThreadId>>,
    /// Falls of message handlers and exchange tasks.
    calls: Mutex<Dice>,
    /// Falls of the timer.
    timer: Mutex<Dice>,
    /// Falls of the context's futures.
    future: Mutex<Dice>,
    /// Ends of the arbiter.
    death: Mutex<Dice>,
    fallen: AtomicU32,
}

/// When it strikes.
pub struct Dice {
    rng: fastrand::Rng,
    skip: u32,
    percent: u32,
    left: u32,
}

impl Dice {
    /// Never.
    pub fn never() -> Dice {
        Dice { rng: fastrand::Rng::with_seed(0), skip: 0, percent: 0, left: 0 }
    }

    /// Once, after so many times.
    pub fn once_after(skip: u32) -> Dice {
        Dice { skip, percent: 100, left: 1, ..Dice::never() }
    }

    /// At random, but no more than so often.
    pub fn at_random(seed: u64, percent: u32, most: u32) -> Dice {
        Dice { rng: fastrand::Rng::with_seed(seed), skip: 0, percent, left: most }
    }

    fn strikes(&mut self) -> bool {
        if self.left == 0 {
            return false;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        let struck = self.rng.u32(..100) < self.percent;
        self.left -= u32::from(struck);
        struck
    }
}

impl Shaky {
    /// Around the adapter of this kind, for as long as the tests run. Nothing happens before it is told so.
    pub fn around(kind: &str) -> &'static Shaky {
        let row = PROVIDERS.iter().find(|row| row.name == kind).expect("a kind of the product");
        let never = || Mutex::new(Dice::never());
        Box::leak(Box::new(Shaky {
            inner: row.adapter,
            actors: Mutex::default(),
            calls: never(),
            timer: never(),
            future: never(),
            death: never(),
            fallen: AtomicU32::new(0),
        }))
    }

    /// This registry with the shaky adapter as the one of this kind.
    pub fn within(&'static self, registry: Registry, kind: &'static str) -> Registry {
        registry.with(ProviderKind { name: kind, aliases: &[], adapter: self })
    }

    pub fn let_calls_fall(&self, dice: Dice) {
        *self.calls.lock().unwrap() = dice;
    }

    /// Lets everything fall at random, by this seed; the arbiter once, if it is to die.
    pub fn let_all_fall(&self, seed: u64, dies: bool) {
        self.let_calls_fall(Dice::at_random(seed, 4, 8));
        *self.timer.lock().unwrap() = Dice::at_random(seed ^ 1, 50, 1);
        *self.future.lock().unwrap() = Dice::at_random(seed ^ 2, 50, 1);
        if dies {
            *self.death.lock().unwrap() = Dice::once_after(60);
        }
    }

    /// Lets nothing fall any more.
    pub fn calm(&self) {
        for dice in [&self.calls, &self.timer, &self.future, &self.death] {
            *dice.lock().unwrap() = Dice::never();
        }
    }

    /// How often it fell.
    pub fn fallen(&self) -> u32 {
        self.fallen.load(Ordering::SeqCst)
    }

    fn roll(&self, dice: &Mutex<Dice>) {
        if dice.lock().unwrap().strikes() {
            self.fallen.fetch_add(1, Ordering::SeqCst);
            // As a panic, but without its lines on stderr.
            resume_unwind(Box::new("injected"));
        }
    }
}

impl Adapter for Shaky {
    fn route(&self, task: Task) -> Option<Route> {
        if self.actors.lock().unwrap().contains(&thread::current().id()) {
            if self.death.lock().unwrap().strikes() {
                actix_rt::Arbiter::current().stop();
            }
            self.roll(&self.calls);
        }
        self.inner.route(task)
    }

    fn models_path(&self) -> &'static str {
        // Nobody but the actor asks for it, when it starts and by its timer.
        if !self.actors.lock().unwrap().insert(thread::current().id()) {
            self.roll(&self.timer);
        }
        self.inner.models_path()
    }

    fn headers(&self) -> Vec<(HeaderName, HeaderValue)> {
        self.inner.headers()
    }

    fn models(&self, body: &[u8]) -> Result<Vec<Model>, String> {
        self.roll(&self.future);
        self.inner.models(body)
    }

    fn detail(&self, model: &Model) -> Option<DetailRequest> {
        self.inner.detail(model)
    }

    fn apply_detail(&self, model: &mut Model, body: &[u8]) {
        self.inner.apply_detail(model, body);
    }
}
