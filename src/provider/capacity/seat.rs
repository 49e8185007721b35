//! One admitted request: what it holds of the account's capacity, and how that is settled, whatever becomes of it.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::denied::{Patience, denied};
use super::{Ask, Capacity, Size, moment};
use crate::backend::lease::{Generation, Hold};
use crate::dialect::Usage;
use crate::error::ProxyError;
use crate::quota::{Actual, Charge, Mode, Refusal, Source, Statement};
use crate::state::Spent;

/// One admitted request.
pub(super) struct Seat {
    capacity: Arc<Capacity>,
    number: u64,
    model: Arc<str>,
    /// It is the lone request that finds out whether a sick upstream is well again.
    probes_health: bool,
    /// How often it was sent.
    sent: AtomicU32,
    released: AtomicBool,
    held: Mutex<Held>,
}

struct Held {
    charge: Option<Charge>,
    size: Size,
    usage: Usage,
    /// The commit point was reached.
    answered: bool,
    /// The upstream took nothing of it.
    refused: bool,
    /// The amounts that the upstream stated.
    amounts: Vec<Statement>,
}

// === impl Seat ===

impl Seat {
    /// A seat of this number, which holds what was charged.
    pub(super) fn new(
        capacity: Arc<Capacity>,
        number: u64,
        ask: &Ask<'_>,
        probes_health: bool,
        charge: Charge,
    ) -> Self {
        Seat {
            capacity,
            number,
            model: Arc::clone(ask.model),
            probes_health,
            sent: AtomicU32::new(0),
            released: AtomicBool::new(false),
            held: Mutex::new(Held {
                charge: Some(charge),
                size: ask.size,
                usage: Usage::default(),
                answered: false,
                refused: false,
                amounts: Vec::new(),
            }),
        }
    }

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

    fn resized(&self, size: Size) -> Result<(), ProxyError> {
        let now = moment();
        let mut held = self.held();
        held.size = size;
        let Some(charge) = held.charge.take() else { return Ok(()) };
        let mut inner = self.capacity.lock();
        inner.ledger.refund(charge, now);
        let need = inner.need(&self.model, size);
        // Others spent for this one already, and nobody else may have capacity.
        let admitted = inner.ledger.admit(&need, Mode::Alone, now);
        drop(inner);
        self.capacity.state.changed();
        match admitted {
            Ok(charge) => {
                held.charge = Some(charge);
                Ok(())
            }
            Err(denial) => Err(denied(&self.capacity.id, &denial, now, Patience::None)),
        }
    }

    fn sent(&self) {
        let first = self.sent.fetch_add(1, Ordering::Relaxed) == 0;
        let now = moment();
        let mut held = self.held();
        let Some(charge) = &mut held.charge else { return };
        if first && !charge.waited(now) {
            // It is charged, as nearly every request is when it goes.
            return;
        }
        let mut inner = self.capacity.lock();
        if first {
            inner.ledger.departs(charge, now);
        } else {
            inner.ledger.again(charge, &self.model, now);
        }
        drop(inner);
        self.capacity.state.changed();
    }

    fn stated(&self, statements: &[Statement], refused: bool) {
        if statements.is_empty() {
            return;
        }
        let mut held = self.held();
        let mut inner = self.capacity.lock();
        self.capacity.note(
            &mut inner,
            statements,
            Source::Header,
            &self.model,
            held.charge.as_ref(),
            refused,
        );
        drop(inner);
        self.capacity.state.changed();
        let amounts = statements.iter().filter(|statement| statement.amount.is_some());
        held.amounts = amounts.map(|statement| Statement { remaining: None, ..statement.clone() }).collect();
    }

    fn succeeded(&self) {
        let now = moment();
        let mut held = self.held();
        held.answered = true;
        let mut inner = self.capacity.lock();
        if self.probes_health {
            // Others need not wait until a long answer is complete.
            inner.breaker.succeeded();
        }
        if let Some(charge) = &held.charge
            && let Some(change) = inner.ledger.succeeded(charge, &self.model, now)
        {
            self.capacity.tell(Some(change), &self.model);
            // What is drawn from a success gives way to what the upstream stated.
            self.capacity.note(&mut inner, &held.amounts, Source::Header, &self.model, None, false);
        }
        drop(inner);
        self.capacity.state.changed();
    }

    fn refused(&self, refusal: &Refusal) {
        let now = moment();
        let mut held = self.held();
        held.refused = !held.answered;
        let mut inner = self.capacity.lock();
        let size = Some(inner.need(&self.model, held.size).input_tokens);
        let change = inner.ledger.refuse(refusal, &self.model, size, held.charge.as_ref(), now);
        drop(inner);
        self.capacity.tell(change, &self.model);
        self.capacity.state.changed();
    }

    fn used(&self, usage: Usage) {
        self.held().usage = usage;
    }

    fn release(&self) {
        if self.released.swap(true, Ordering::Relaxed) {
            return;
        }
        let (charge, size, usage, refused, answered) = {
            let mut held = self.held();
            (held.charge.take(), held.size, held.usage, held.refused, held.answered)
        };
        let now = moment();
        let somebody_waits = {
            let mut inner = self.capacity.lock();
            inner.open.remove(&self.number);
            if self.probes_health {
                // Unless it was settled by an answer; then this changes nothing.
                inner.breaker.dropped(now);
            }
            if let Some(charge) = charge {
                let sent = self.sent.load(Ordering::Relaxed);
                if sent > 0 {
                    if self.capacity.state.is_kept() {
                        let spent = Spent {
                            requests: u64::from(sent),
                            input_tokens: usage.input.unwrap_or(0),
                            output_tokens: usage.output.unwrap_or(0),
                            reasoning: usage.reasoning.unwrap_or(0),
                            cached: usage.cached.unwrap_or(0),
                            errors: u64::from(!answered),
                        };
                        inner.spend(&self.model, spent, now);
                    }
                    let Size { bytes, media, max_tokens, answers, .. } = size;
                    // Of a prompt with more than text in it nobody knows what the text took.
                    let input = usage.input.filter(|_| media == 0);
                    let answer = usage.output.map(|output| output.div_ceil(answers.max(1)));
                    inner.estimator.learn(&self.model, bytes, input, answer);
                    let nothing = refused.then_some(0);
                    let output = usage.output.or(max_tokens.filter(|most| *most == 0));
                    let (input_tokens, output_tokens) = (nothing.or(usage.input), nothing.or(output));
                    inner.ledger.settle(charge, Actual { input_tokens, output_tokens, refused }, now);
                } else {
                    inner.ledger.refund(charge, now);
                }
            }
            !inner.queue.is_empty()
        };
        self.capacity.state.changed();
        if somebody_waits {
            self.capacity.hand_over();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Guesses;
    use crate::backend::lease::Lease;
    use crate::provider::capacity::Waiting;
    use crate::quota::{Breaker, Limit, LimitView, Period, Unit};
    use crate::state::State;

    /// An account of which one request per hour is a guess.
    fn guessed() -> Arc<Capacity> {
        let limit =
            Limit::parse("requests", 1, Some("hour"), None, false, None, None, Source::Catalogue).unwrap();
        let waiting = Waiting { most: std::time::Duration::ZERO, queue: 0 };
        Capacity::new(Arc::from("p"), vec![limit], Breaker::new(), waiting, State::nowhere(), &[])
    }

    fn admitted(capacity: &Arc<Capacity>) -> Lease {
        let ask = Ask {
            model: &Arc::from("m"),
            size: Size { bytes: 10, media: 0, max_tokens: Some(1), answers: 1, stream: false },
            client: None,
            guesses: Guesses::Probe,
            waiter: None,
            generation: None,
        };
        capacity.admit(&ask).unwrap()
    }

    fn view(capacity: &Capacity) -> LimitView {
        capacity.picture().limits.remove(0)
    }

    fn statement(amount: u64, remaining: u64) -> Statement {
        Statement {
            unit: Unit::Requests,
            period: Some(Period::Millis(3_600_000)),
            per_model: false,
            amount: Some(amount),
            remaining: Some(remaining),
            resets_in: None,
            refills: false,
        }
    }

    #[test]
    fn what_the_upstream_stated_is_not_raised_by_its_own_success() {
        let capacity = guessed();
        let first = admitted(&capacity);
        first.sent();
        drop(first);
        let exceeds = admitted(&capacity);
        exceeds.stated(&[statement(20, 15)], false);
        exceeds.succeeded();
        let known = view(&capacity);
        assert_eq!((known.amount, known.used, known.source), (20, 5, Source::Header));
    }

    #[test]
    fn an_answer_that_turned_out_to_be_a_refusal_raises_no_guess() {
        let capacity = guessed();
        for _ in 0..2 {
            let lease = admitted(&capacity);
            lease.sent();
            // Its head was that of a success, but the commit point never came.
            lease.stated(&[], false);
            drop(lease);
        }
        let known = view(&capacity);
        assert_eq!((known.amount, known.source), (1, Source::Catalogue));
    }

    #[test]
    fn who_waits_for_a_place_is_not_left_waiting_when_a_window_is_in_the_way() {
        let places =
            Limit::parse("concurrent", 1, None, None, false, None, None, Source::Configured).unwrap();
        let waiting = Waiting { most: std::time::Duration::from_secs(30), queue: 9 };
        let capacity =
            Capacity::new(Arc::from("p"), vec![places], Breaker::new(), waiting, State::nowhere(), &[]);
        let first = admitted(&capacity);
        first.sent();
        let waiter = Arc::new(crate::backend::waiter::Waiter::default());
        let model = Arc::from("m");
        let ask = || Ask {
            model: &model,
            size: Size { bytes: 10, media: 0, max_tokens: Some(1), answers: 1, stream: false },
            client: None,
            guesses: Guesses::Probe,
            waiter: Some(&waiter),
            generation: None,
        };
        let full = capacity.admit(&ask()).err().and_then(|error| error.denial);
        assert!(full.is_some_and(|denial| denial.full.is_some()));
        first.refused(&crate::quota::Refusal {
            class: crate::quota::RefusalClass::Window(None),
            per_model: false,
            unit: None,
            retry_after: Some(std::time::Duration::from_secs(300)),
        });
        drop(first);
        let woken = std::pin::pin!(waiter.woken());
        assert!(futures_util::FutureExt::now_or_never(woken).is_some(), "it looks again");
        let denial = capacity.admit(&ask()).err().and_then(|error| error.denial).unwrap();
        assert!(denial.full.is_none());
        assert_eq!(capacity.picture().waiting, 0);
    }

    #[test]
    fn who_cannot_wait_any_longer_does_not_fail_for_room_that_is_only_reserved() {
        let tokens =
            Limit::parse("tokens", 1_000, Some("hour"), None, false, None, None, Source::Catalogue).unwrap();
        let waiting = Waiting { most: std::time::Duration::ZERO, queue: 0 };
        let capacity =
            Capacity::new(Arc::from("p"), vec![tokens], Breaker::new(), waiting, State::nowhere(), &[]);
        let model = Arc::from("m");
        let ask = |guesses, bytes| Ask {
            model: &model,
            size: Size { bytes, media: 0, answers: 1, max_tokens: Some(400), stream: false },
            client: None,
            guesses,
            waiter: None,
            generation: None,
        };
        let first = capacity.admit(&ask(Guesses::Hold, 2_000)).unwrap();
        first.sent();
        assert!(capacity.admit(&ask(Guesses::Hold, 1_600)).is_err());
        assert!(capacity.admit(&ask(Guesses::Last, 1_600)).is_ok());
    }

    #[test]
    fn a_request_that_was_sent_twice_is_not_counted_once() {
        let capacity = guessed();
        let lease = admitted(&capacity);
        lease.sent();
        lease.sent();
        assert_eq!(view(&capacity).used, 2);
        drop(lease);
        assert_eq!(view(&capacity).used, 2);
    }
}
