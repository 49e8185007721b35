//! What one upstream account can still take: its ledger, its breaker, and the queue of those who wait for a place.
//! Lives in an `Arc` outside every actor, so that it outlasts panics, restarts and arbiters. Decisions are the
//! ledger's and the breaker's; here is the lock around them, the clock, and who is woken.

mod queue;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use tracing::info;

use crate::backend::Guesses;
use crate::backend::lease::{Generation, Hold, Lease};
use crate::backend::waiter::Waiter;
use crate::dialect::Usage;
use crate::error::{Denial as Reason, ErrorKind, ProxyError};
use crate::quota::{
    Actual, Breaker, Cause, Change, Charge, Denial, Estimator, Gate, Ledger, Limit, Mode, Moment, Need,
    Refusal, Source, Statement,
};
use crate::state::{Row, State};
use queue::Queue;

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
    waiting: Waiting,
    state: State,
    inner: Mutex<Inner>,
}

struct Inner {
    ledger: Ledger,
    breaker: Breaker,
    estimator: Estimator,
    queue: Queue,
    open: HashMap<u64, Open>,
    next: u64,
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
    /// The size of the body.
    pub bytes: usize,
    /// The answer's bound in tokens, if the request names one.
    pub max_tokens: Option<u64>,
    /// Whose request it is.
    pub client: Option<&'a Arc<str>>,
    /// Whether a guess may be exceeded.
    pub guesses: Guesses,
    /// Who waits when there is no place.
    pub waiter: Option<&'a Arc<Waiter>>,
}

/// One admitted request.
struct Seat {
    capacity: Arc<Capacity>,
    number: u64,
    model: Arc<str>,
    bytes: usize,
    /// It is the lone request that finds out whether a sick upstream is well again.
    probes_health: bool,
    sent: AtomicBool,
    released: AtomicBool,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    charge: Option<Charge>,
    usage: Usage,
}

// === impl Inner ===

impl Inner {
    /// Whether somebody else comes first. While nothing is in flight no place will be handed over, so that whoever
    /// asks may try.
    fn others_wait(&mut self, asking: Option<&Arc<Waiter>>) -> bool {
        let first = self.queue.next().map(|(waiter, _)| waiter);
        !self.open.is_empty()
            && first.is_some_and(|first| asking.is_none_or(|asking| !Arc::ptr_eq(asking, &first)))
    }
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
            ledger,
            breaker,
            estimator,
            queue: Queue::default(),
            open: HashMap::new(),
            next: 0,
            sizes_written: now,
        };
        Arc::new(Capacity { id, waiting, state, inner: Mutex::new(inner) })
    }

    /// Admits a request, or says what is in the way; a full provider lets the waiter wait.
    ///
    /// # Errors
    /// `overloaded` without a free place, `quota_exhausted` for every other limit, `breaker_open`, each with its
    /// [`Reason`] and, where it is known, the moment it passes; `unsupported` for a request that never fits.
    pub fn admit(self: &Arc<Self>, ask: &Ask<'_>) -> Result<Lease, ProxyError> {
        if let Some(lease) = ask.waiter.and_then(|waiter| waiter.take(&self.id, ask.model)) {
            return Ok(lease);
        }
        let now = moment();
        let mut inner = self.lock();
        // Where nobody else can answer, trying beats failing, and the upstream's own error beats ours.
        let gate = if ask.guesses != Guesses::Hold { Gate::Pass } else { inner.breaker.admit(now) };
        if let Gate::Shut { until } = gate {
            return Err(self.shut(until, now));
        }
        let (input_tokens, output_tokens) = inner.estimator.estimate(ask.model, ask.bytes, ask.max_tokens);
        let need = Need { model: ask.model, input_tokens, output_tokens };
        let mode = match ask.guesses {
            Guesses::Hold => Mode::Keep,
            Guesses::Probe => Mode::Probe,
            Guesses::Alone => Mode::Alone,
        };
        let admitted = if inner.others_wait(ask.waiter) {
            Err(Denial { cause: Cause::Full, until: None, limit: "others wait".to_owned(), probe: false })
        } else {
            inner.ledger.admit(&need, mode, now)
        };
        match admitted {
            Ok(charge) => {
                let lease = self.seat(&mut inner, ask, gate == Gate::Probe, charge);
                self.journal(&mut inner);
                Ok(lease)
            }
            Err(denial) => {
                if gate == Gate::Probe {
                    inner.breaker.dropped(now);
                }
                let mut waits = false;
                if denial.cause == Cause::Full
                    && !self.waiting.most.is_zero()
                    && let Some(waiter) = ask.waiter
                {
                    let place = queue::Place {
                        waiter: Arc::downgrade(waiter),
                        model: Arc::clone(ask.model),
                        bytes: ask.bytes,
                        max_tokens: ask.max_tokens,
                    };
                    waits = inner.queue.join(ask.client, place, self.waiting.queue);
                }
                let asked_to_wait = ask.waiter.is_some();
                Err(self.denied(&denial, now, if asked_to_wait { waits } else { true }))
            }
        }
    }

    /// How the account stands towards a request, without admitting it.
    ///
    /// # Errors
    /// Why it never fits.
    pub fn outlook(&self, model: &str, bytes: usize, max_tokens: Option<u64>) -> Result<View, String> {
        let now = moment();
        let inner = self.lock();
        let (input_tokens, output_tokens) = inner.estimator.estimate(model, bytes, max_tokens);
        let need = Need { model, input_tokens, output_tokens };
        let denial = inner.ledger.check(&need, now).err();
        if let Some(Denial { cause: Cause::NeverFits, limit, .. }) = &denial {
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
        let now = moment();
        let mut inner = self.lock();
        for statement in statements {
            let change = inner.ledger.state(statement, source, model, None, now);
            self.tell(change, model);
        }
        self.journal(&mut inner);
    }

    /// The upstream refused a request for reasons of quota.
    pub fn refused(&self, refusal: &Refusal, model: &str, bytes: usize) {
        let now = moment();
        let mut inner = self.lock();
        let size = Some(inner.estimator.estimate(model, bytes, None).0);
        let change = inner.ledger.refuse(refusal, model, size, now);
        self.tell(change, model);
        self.journal(&mut inner);
    }

    /// The upstream completed an answer.
    pub fn is_well(&self) {
        self.lock().breaker.succeeded();
    }

    /// The upstream failed in a way that counts against it.
    pub fn fell_sick(&self) {
        self.lock().breaker.failed(moment());
    }

    /// What is known, for people and metrics.
    pub fn picture(&self) -> Picture {
        let now = moment();
        let inner = self.lock();
        Picture {
            limits: inner.ledger.views(now),
            blocks: inner.ledger.blocks(now),
            breaker: inner.breaker.view(now),
            waiting: inner.queue.len(),
        }
    }

    /// Forgets what was learned, of one model or of all.
    pub fn forget(&self, model: Option<&str>) -> usize {
        let mut inner = self.lock();
        let keys = inner.ledger.forget_learned(model);
        self.state.forget(&self.id, &keys);
        self.journal(&mut inner);
        keys.len()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing in there can be half-changed by a panic that would matter more than going on.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, change: Option<Change>, model: &str) {
        if let Some(change) = change {
            info!(provider = &*self.id, model, change = change.what, "limits changed");
        }
    }

    fn journal(&self, inner: &mut Inner) {
        let mut rows = inner.ledger.dirty();
        let now = moment();
        if now.0.abs_diff(inner.sizes_written.0) >= SIZES_EVERY {
            inner.sizes_written = now;
            rows.extend(inner.estimator.dirty());
        }
        let rows: Vec<Row> = rows.into_iter().map(|(key, json)| Row { key, json }).collect();
        if !rows.is_empty() {
            self.state.save(&self.id, rows);
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
        let seat = Arc::new(Seat {
            capacity: Arc::clone(self),
            number,
            model: Arc::clone(ask.model),
            bytes: ask.bytes,
            probes_health,
            sent: AtomicBool::new(false),
            released: AtomicBool::new(false),
            held: Mutex::new(Held { charge: Some(charge), usage: Usage::default() }),
        });
        inner.open.insert(number, Open { seat: Arc::downgrade(&seat), generation: None });
        Lease::new(seat)
    }

    /// Hands free places to those who wait longest.
    fn hand_over(self: &Arc<Self>) {
        // What is dropped may lock again, so it is dropped after the lock.
        let mut met = Vec::new();
        let mut inner = self.lock();
        let now = moment();
        while let Some((waiter, place)) = inner.queue.next() {
            let (model, bytes, max_tokens) = (Arc::clone(&place.model), place.bytes, place.max_tokens);
            met.push(Arc::clone(&waiter));
            let (input_tokens, output_tokens) = inner.estimator.estimate(&model, bytes, max_tokens);
            let need = Need { model: &model, input_tokens, output_tokens };
            let Ok(charge) = inner.ledger.admit(&need, Mode::Keep, now) else { break };
            let ask =
                Ask { model: &model, bytes, max_tokens, client: None, guesses: Guesses::Hold, waiter: None };
            let lease = self.seat(&mut inner, &ask, false, charge);
            inner.queue.served();
            waiter.give(Arc::clone(&self.id), model, lease);
        }
        self.journal(&mut inner);
        drop(inner);
        drop(met);
    }

    fn shut(&self, until: Moment, now: Moment) -> ProxyError {
        let text = format!("`{}` failed again and again and is left alone for a moment", self.id);
        let mut error = ProxyError::new(ErrorKind::BreakerOpen, text).at(&self.id);
        error.retry_after = Some(between(now, until));
        error.denial = Some(Reason::default());
        error
    }

    fn denied(&self, denial: &Denial, now: Moment, waits: bool) -> ProxyError {
        let id = &self.id;
        let limit = &denial.limit;
        let when = denial.until.map(|until| between(now, until));
        let (kind, text) = match denial.cause {
            Cause::Full if waits => (ErrorKind::Overloaded, format!("`{id}` has no free place: {limit}")),
            Cause::Full => (
                ErrorKind::Overloaded,
                format!("`{id}` has no free place ({limit}), and as many wait as may (max_queue)"),
            ),
            Cause::NeverFits => {
                (ErrorKind::Unsupported, format!("the request is too large for `{id}`: {limit}"))
            }
            Cause::NoAllowance => {
                (ErrorKind::QuotaExhausted, format!("the key of `{id}` has no allowance for this model"))
            }
            Cause::Payment => (ErrorKind::QuotaExhausted, format!("`{id}` wants payment")),
            Cause::ModelGone => (ErrorKind::QuotaExhausted, format!("`{id}` no longer serves this model")),
            Cause::Cooldown => (ErrorKind::QuotaExhausted, format!("`{id}` asked us to wait: {limit}")),
            Cause::Window => (ErrorKind::QuotaExhausted, format!("`{id}` has used up its {limit}")),
        };
        let text = match when.filter(|_| kind == ErrorKind::QuotaExhausted) {
            Some(wait) => {
                format!("{text}; free in {} s", wait.as_secs() + u64::from(wait.subsec_nanos() > 0))
            }
            None => text,
        };
        let mut error = ProxyError::new(kind, text).at(id);
        if kind == ErrorKind::Unsupported {
            return error;
        }
        let full = denial.cause == Cause::Full;
        error.retry_after = when.or(full.then_some(OVERLOAD_RETRY));
        let patience = self.waiting.most;
        error.denial = Some(Reason {
            full: (full && waits && !patience.is_zero()).then_some(patience),
            probe: denial.probe,
        });
        error
    }
}

/// Milliseconds between two times that what was learned of sizes is written down.
const SIZES_EVERY: u64 = 10_000;
/// What a client that met a full provider is told to wait.
const OVERLOAD_RETRY: Duration = Duration::from_secs(1);

/// How an account stands towards a request.
pub struct View {
    /// It would be admitted now.
    pub free: bool,
    /// When it may be, if that is known and not now.
    pub until: Option<Moment>,
    /// The smallest share left of all limits that apply.
    pub share_left: f64,
    /// When the first of the used windows is whole again.
    pub next_reset: Option<Moment>,
    /// Requests in flight.
    pub in_flight: usize,
}

/// Everything that is known of an account's capacity.
pub struct Picture {
    /// Its limits.
    pub limits: Vec<crate::quota::LimitView>,
    /// What is not asked for a while.
    pub blocks: Vec<crate::quota::BlockView>,
    /// Its breaker.
    pub breaker: crate::quota::BreakerView,
    /// Requests that wait for a place.
    pub waiting: usize,
}

/// Wall-clock time: the windows of upstreams follow it.
fn moment() -> Moment {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Moment(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

fn between(now: Moment, until: Moment) -> Duration {
    Duration::from_millis(u64::try_from(until.0.saturating_sub(now.0)).unwrap_or(0))
}

// === impl Seat ===

impl Seat {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hold for Seat {
    fn assign(&self, generation: Generation) {
        if let Some(open) = self.capacity.lock().open.get_mut(&self.number) {
            open.generation = Some(generation);
        }
    }

    fn sent(&self) {
        self.sent.store(true, Ordering::Relaxed);
    }

    fn succeeded(&self, statements: &[Statement]) {
        let now = moment();
        let held = self.held();
        let mut inner = self.capacity.lock();
        if self.probes_health {
            // Others need not wait until a long answer is complete.
            inner.breaker.succeeded();
        }
        if let Some(charge) = &held.charge {
            let change = inner.ledger.succeeded(charge, &self.model, now);
            self.capacity.tell(change, &self.model);
        }
        for statement in statements {
            let change =
                inner.ledger.state(statement, Source::Header, &self.model, held.charge.as_ref(), now);
            self.capacity.tell(change, &self.model);
        }
        self.capacity.journal(&mut inner);
    }

    fn used(&self, usage: Usage) {
        self.held().usage = usage;
    }

    fn release(&self) {
        if self.released.swap(true, Ordering::Relaxed) {
            return;
        }
        let (charge, usage) = {
            let mut held = self.held();
            (held.charge.take(), held.usage)
        };
        let now = moment();
        {
            let mut inner = self.capacity.lock();
            inner.open.remove(&self.number);
            if self.probes_health {
                // Unless it was settled by an answer; then this changes nothing.
                inner.breaker.dropped(now);
            }
            if let Some(charge) = charge {
                if self.sent.load(Ordering::Relaxed) {
                    inner.estimator.learn(&self.model, self.bytes, usage.input, usage.output);
                    let actual = Actual { input_tokens: usage.input, output_tokens: usage.output };
                    inner.ledger.settle(charge, actual, now);
                } else {
                    inner.ledger.refund(charge, now);
                }
            }
            self.capacity.journal(&mut inner);
        }
        self.capacity.hand_over();
    }
}
