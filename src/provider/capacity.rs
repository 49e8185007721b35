//! What one upstream account can still take: its ledger, its breaker, and the queue of those who wait for a place.
//! Lives in an `Arc` outside every actor, so that it outlasts panics, restarts and arbiters. Decisions are the
//! ledger's and the breaker's; here is the lock around them, the clock, and who is woken.

mod denied;
mod insight;
mod queue;
mod renewal;
mod rows;
mod seat;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use tracing::info;

use crate::backend::Guesses;
use crate::backend::lease::{Generation, Hold, Lease};
use crate::backend::size::Size;
use crate::backend::waiter::Waiter;
use crate::error::ProxyError;
use crate::quota::{
    BlockView, Breaker, BreakerView, Cause, Change, Charge, Denial, Estimator, Gate, Glob, Ledger, Limit,
    LimitView, Mode, Moment, Need, Source, Statement,
};
use crate::state::{Source as RowSource, Spent, State};
use denied::{Patience, denied, shut};
pub use insight::Insight;
use queue::Queue;
pub use renewal::{Local, breaker};
use seat::Seat;

/// How a full provider treats those who come.
#[derive(Debug, Clone, Copy)]
pub struct Waiting {
    /// A request waits no longer than this for a place.
    pub most: Duration,
    /// No more requests than this wait.
    pub queue: usize,
}

/// One account's capacity.
pub struct Capacity {
    id: Arc<str>,
    state: State,
    /// Its rows are those of the provider; not while another account stands under that id.
    kept: AtomicBool,
    generations: AtomicU64,
    /// How often what is known of its limits changed.
    changes: AtomicU64,
    inner: Mutex<Inner>,
}

struct Inner {
    waiting: Waiting,
    ledger: Ledger,
    breaker: Breaker,
    estimator: Estimator,
    queue: Queue,
    open: HashMap<u64, Open>,
    next: u64,
    /// What was used and is not in the history yet, by hour and model.
    spent: BTreeMap<(i64, Arc<str>), Spent>,
    /// When what was learned of sizes was last written down: it changes with every answer and is worth little.
    sizes_written: Moment,
}

/// An admission that is not released yet.
struct Open {
    seat: Weak<Seat>,
    generation: Option<Generation>,
}

/// What is asked for.
pub struct Ask<'a> {
    /// The model's id at the upstream.
    pub model: &'a Arc<str>,
    /// How large it is.
    pub size: Size,
    /// Whose request it is.
    pub client: Option<&'a Arc<str>>,
    /// Whether a guess may be exceeded.
    pub guesses: Guesses,
    /// Who waits when there is no place.
    pub waiter: Option<&'a Arc<Waiter>>,
    /// The replica that would carry it out; not known yet of one that waits.
    pub generation: Option<Generation>,
}

/// How an account stands towards a request.
pub struct View {
    /// It would be admitted now.
    pub free: bool,
    /// When it may be, if that is known and not now.
    pub until: Option<Moment>,
    /// The smallest share left of all limits that apply.
    pub share_left: f64,
    /// When what is left of the longest window is lost or given back.
    pub next_reset: Option<Moment>,
    /// Requests in flight.
    pub in_flight: usize,
}

/// Everything that is known of an account's capacity.
pub struct Picture {
    /// Its limits.
    pub limits: Vec<LimitView>,
    /// What is not asked for a while.
    pub blocks: Vec<BlockView>,
    /// Its breaker.
    pub breaker: BreakerView,
    /// Requests that wait for a place.
    pub waiting: usize,
    /// How often what is known of its limits changed.
    pub changes: u64,
}

// === impl Capacity ===

impl Capacity {
    /// The capacity of an account with these limits, as it was left.
    pub fn new(
        id: Arc<str>,
        limits: Vec<Limit>,
        breaker: Breaker,
        waiting: Waiting,
        state: State,
        saved: &[(&str, &str)],
    ) -> Arc<Self> {
        let now = moment();
        let (mut ledger, mut estimator) = (Ledger::new(limits), Estimator::new());
        ledger.restore(saved, now);
        estimator.restore(saved);
        let inner = Inner {
            waiting,
            ledger,
            breaker,
            estimator,
            queue: Queue::default(),
            open: HashMap::new(),
            next: 0,
            spent: BTreeMap::new(),
            sizes_written: now,
        };
        let capacity = Arc::new(Capacity {
            id,
            state,
            kept: AtomicBool::new(true),
            generations: AtomicU64::new(0),
            changes: AtomicU64::new(0),
            inner: Mutex::new(inner),
        });
        let source: Weak<dyn RowSource> = Arc::<Capacity>::downgrade(&capacity);
        capacity.state.watch(&capacity.id, source);
        capacity
    }

    /// Admits a request, or says what is in the way; a full provider lets the waiter wait.
    ///
    /// # Errors
    /// `overloaded` without a free place, `quota_exhausted` for every other limit, `breaker_open`, each with its
    /// [`crate::error::Denial`] and, where it is known, the moment it passes; `unsupported` for a request that never fits.
    pub fn admit(self: &Arc<Self>, ask: &Ask<'_>) -> Result<Lease, ProxyError> {
        if let Some(lease) = ask.waiter.and_then(|waiter| waiter.take(&self.id, ask.model)) {
            if let Some(generation) = ask.generation {
                lease.assign(generation);
            }
            return Ok(lease);
        }
        let now = moment();
        let mut inner = self.lock();
        // Where nobody else can answer, trying beats failing, and the upstream's own error beats ours.
        let gate = if ask.guesses != Guesses::Hold { Gate::Pass } else { inner.breaker.admit(now) };
        if let Gate::Shut { until } = gate {
            return Err(shut(&self.id, until, now));
        }
        let need = inner.need(ask.model, ask.size);
        let mode = match ask.guesses {
            Guesses::Hold => Mode::Keep,
            Guesses::Probe => Mode::Probe,
            Guesses::Last => Mode::Last,
            Guesses::Alone => Mode::Alone,
        };
        // While nothing is in flight no place will be handed over, so that whoever asks may try.
        let Inner { queue, ledger, open, .. } = &mut *inner;
        let behind = !open.is_empty()
            && queue.others_first(ask.waiter, |waiting| ledger.takes_place_of(waiting, ask.model));
        let admitted = if behind {
            Err(Denial {
                cause: Cause::Full,
                until: None,
                limit: "others wait".to_owned(),
                probe: false,
                short: None,
            })
        } else {
            inner.ledger.admit(&need, mode, now)
        };
        match admitted {
            Ok(charge) => {
                let lease = self.seat(&mut inner, ask, gate == Gate::Probe, charge);
                self.state.changed();
                Ok(lease)
            }
            Err(denial) => {
                if gate == Gate::Probe {
                    inner.breaker.dropped(now);
                }
                let patience = self.patience(&mut inner, ask, &denial);
                Err(denied(&self.id, &denial, now, patience))
            }
        }
    }

    /// How long it is worth waiting for a place, having joined the queue if the request can wait.
    fn patience(&self, inner: &mut Inner, ask: &Ask<'_>, denial: &Denial) -> Patience {
        let Waiting { most, queue } = inner.waiting;
        if denial.cause != Cause::Full || most.is_zero() {
            return Patience::None;
        }
        let Some(waiter) = ask.waiter else { return Patience::Worth(most) };
        let place =
            queue::Place { waiter: Arc::downgrade(waiter), model: Arc::clone(ask.model), size: ask.size };
        if inner.queue.join(ask.client, place, queue) { Patience::Worth(most) } else { Patience::Crowded }
    }

    /// Tokens of a request's text, by what was learned of this model; `None` before anything was.
    pub fn input_tokens(&self, model: &str, size: Size) -> Option<u64> {
        self.lock().estimator.learned(model, size.bytes)
    }

    /// How the account stands towards a request, without admitting it.
    ///
    /// # Errors
    /// Why it never fits.
    pub fn outlook(&self, model: &str, size: Size) -> Result<View, String> {
        self.outlook_at(model, size, moment())
    }

    /// The same for another moment, as far as it can be foreseen.
    ///
    /// # Errors
    /// As [`Capacity::outlook`].
    pub fn outlook_at(&self, model: &str, size: Size, now: Moment) -> Result<View, String> {
        let inner = self.lock();
        let need = inner.need(model, size);
        let denial = inner.ledger.check(&need, now).err();
        // What is only guessed to be too small may be tried, once nobody else can.
        if let Some(Denial { cause: Cause::NeverFits, probe: false, limit, .. }) = &denial {
            return Err(format!("is too large for {limit}"));
        }
        let shut = match inner.breaker.check(now) {
            Gate::Shut { until } => Some(until),
            _ => None,
        };
        Ok(View {
            free: denial.is_none() && shut.is_none(),
            until: denial.and_then(|denial| denial.until).max(shut),
            share_left: inner.ledger.share_left(&need, now),
            next_reset: inner.ledger.next_reset(&need, now),
            in_flight: inner.open.len(),
        })
    }

    /// Requests in flight.
    pub fn in_flight(&self) -> usize {
        self.lock().open.len()
    }

    /// Releases all that a replica holds that was given up; its leases settle nothing any more.
    pub fn give_up(&self, generation: Generation) {
        let seats: Vec<Arc<Seat>> = {
            let inner = self.lock();
            let of_it = inner.open.values().filter(|open| open.generation == Some(generation));
            of_it.filter_map(|open| open.seat.upgrade()).collect()
        };
        for seat in seats {
            seat.release();
        }
    }

    /// What the upstream stated, in the head of an answer or by its usage endpoint.
    pub fn stated(&self, statements: &[Statement], source: Source, model: &str) {
        if statements.is_empty() {
            return;
        }
        let mut inner = self.lock();
        self.note(&mut inner, statements, source, model, None, false);
        self.state.changed();
    }

    /// Notes what the upstream stated; `charge` is the request whose answer says so, or whose refusal.
    fn note(
        &self,
        inner: &mut Inner,
        statements: &[Statement],
        source: Source,
        model: &str,
        charge: Option<&Charge>,
        refused: bool,
    ) {
        let now = moment();
        for statement in statements {
            let change = match charge.filter(|_| refused) {
                Some(charge) => inner.ledger.state_refusing(statement, source, model, charge, now),
                None => inner.ledger.state(statement, source, model, charge, now),
            };
            self.tell(change, model);
        }
    }

    /// The upstream listed its models anew: what it would not serve before, it may serve now.
    pub fn listed(&self) {
        self.lock().ledger.listed(moment());
        self.state.changed();
    }

    /// Whether any credits of the account are left, as the upstream tells; models that match `free` cost none.
    pub fn credit(&self, is_left: bool, free: Option<&Glob>) {
        let change = self.lock().ledger.credit(is_left, free, moment());
        self.tell(change, "");
        self.state.changed();
    }

    /// The upstream completed an answer.
    pub fn is_well(&self) {
        self.lock().breaker.succeeded();
    }

    /// The upstream failed in a way that counts against it.
    pub fn fell_sick(&self) {
        self.lock().breaker.failed(moment());
    }

    /// It failed a request that another upstream then served.
    pub fn blamed(&self) {
        self.lock().breaker.blamed(moment());
    }

    /// What is known, for people and metrics.
    pub fn picture(&self) -> Picture {
        let now = moment();
        let mut inner = self.lock();
        Picture {
            limits: inner.ledger.views(now),
            blocks: inner.ledger.blocks(now),
            breaker: inner.breaker.view(now),
            waiting: inner.queue.waiting(),
            changes: self.changes.load(Ordering::Relaxed),
        }
    }

    /// Forgets what was learned, of one model or of all.
    pub fn forget(&self, model: Option<&str>) -> usize {
        let mut inner = self.lock();
        let keys = inner.ledger.forget_learned(model);
        if self.is_kept() {
            self.state.forget(&self.id, &keys);
        }
        self.state.changed();
        keys.len()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing in there can be half-changed by a panic that would matter more than going on.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, change: Option<Change>, model: &str) {
        if let Some(change) = change {
            self.changes.fetch_add(1, Ordering::Relaxed);
            info!(provider = &*self.id, model, change = change.what, "limits changed");
        }
    }

    fn seat(
        self: &Arc<Self>,
        inner: &mut Inner,
        ask: &Ask<'_>,
        probes_health: bool,
        charge: Charge,
    ) -> Lease {
        let number = inner.next;
        inner.next += 1;
        let seat = Arc::new(Seat::new(Arc::clone(self), number, ask, probes_health, charge));
        inner.open.insert(number, Open { seat: Arc::downgrade(&seat), generation: ask.generation });
        Lease::new(seat)
    }

    /// Hands free places to those who wait longest.
    fn hand_over(self: &Arc<Self>) {
        // What is dropped may lock again, so it is dropped after the lock.
        let mut met = Vec::new();
        let mut inner = self.lock();
        let now = moment();
        // Those who wait for one model's places hold nobody up who wants another model.
        let mut full: HashSet<Arc<str>> = HashSet::new();
        while let Some((turn, waiter, place)) = inner.queue.next(&full) {
            let (model, size) = (Arc::clone(&place.model), place.size);
            met.push(Arc::clone(&waiter));
            let need = inner.need(&model, size);
            let charge = match inner.ledger.admit(&need, Mode::Keep, now) {
                Ok(charge) => charge,
                Err(denial) if denial.cause == Cause::Full => {
                    full.insert(model);
                    continue;
                }
                Err(_) => {
                    // It is not a place that is missing any more: others may have what it needs, or it never fits.
                    inner.queue.served(turn);
                    waiter.look_again();
                    continue;
                }
            };
            let ask = Ask {
                model: &model,
                size,
                client: None,
                guesses: Guesses::Hold,
                waiter: None,
                generation: None,
            };
            let lease = self.seat(&mut inner, &ask, false, charge);
            inner.queue.served(turn);
            waiter.give(Arc::clone(&self.id), model, lease);
        }
        self.state.changed();
        drop(inner);
        drop(met);
    }
}

// === impl Inner ===

impl Inner {
    /// What a request of this size takes, as far as one can tell.
    fn need<'m>(&self, model: &'m str, size: Size) -> Need<'m> {
        size.need(&self.estimator, model)
    }
}

/// Wall-clock time: the windows of upstreams follow it.
fn moment() -> Moment {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Moment(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests;
