//! One account as the daemon has it: ledger, estimator, breaker, the queue of those who wait for a place, just as
//! `provider/capacity.rs` puts them together; and beside it the truth about the same account.

use std::collections::{BTreeMap, VecDeque};

use demuxai::demo::allowance::{Allowance, Unit};
use demuxai::quota::{
    Actual, Breaker, Cause, Charge, Estimator, Gate, Ledger, Limit, Mode, Moment, Need, Refusal, Source,
    Statement,
};

use crate::traffic::Request;

/// How long a request waits for a place, and how many may (the configuration's defaults).
const MAX_WAIT: i64 = 30_000;
const MAX_QUEUE: usize = 100;

/// One account.
pub struct Account {
    limits: Vec<Limit>,
    pub ledger: Ledger,
    estimator: Estimator,
    sizes: BTreeMap<String, String>,
    breaker: Breaker,
    pub queue: VecDeque<Place>,
    open: usize,
    pub truth: Allowance,
    /// The truth, had the failures that capacity could have avoided been served.
    pub shadow: Allowance,
    /// Requests that were sent and whose end nobody here has seen yet.
    pub out: Vec<Out>,
    /// What the user allowed.
    pub ceiling: Option<Allowance>,
    /// The same, had those failures been served.
    spare: Option<Allowance>,
    pub tally: Tally,
}

/// What happened at one account.
#[derive(Default, Clone)]
pub struct Tally {
    pub served: u64,
    pub refused: u64,
    /// Of these, requests that exceeded a guess knowingly.
    pub probes: u64,
    /// Sent although the user's own limits were used up.
    pub above: u64,
    /// Failed requests that it could have served.
    pub missed: u64,
    /// Refusals by the limit that was hit.
    pub hit: BTreeMap<String, u64>,
}

/// A request that was sent.
pub struct Out {
    pub flight: usize,
    pub model: &'static str,
    pub input: u64,
    pub output: u64,
    /// By how many tokens it might have been larger than it is, by all that could be known when it was sent.
    pub more: u64,
    pub stand: Stand,
}

/// How far it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Stand {
    OnTheWay,
    Answering,
    /// The upstream is done with it.
    Back,
}

/// What is known of a request's size before it is sent.
#[derive(Clone, Copy)]
pub struct Size {
    pub bytes: usize,
    pub max_tokens: Option<u64>,
    pub stream: bool,
}

/// One who waits for a place.
pub struct Place {
    pub walk: usize,
    pub model: &'static str,
    pub size: Size,
}

/// What is asked for.
#[derive(Clone, Copy)]
pub struct Ask {
    pub model: &'static str,
    pub size: Size,
    pub walk: usize,
    pub mode: Mode,
    /// It may wait for a place.
    pub waits: bool,
}

/// What an admitted request holds.
pub struct Seat {
    pub charge: Charge,
    pub probes_health: bool,
    /// It exceeds a guess.
    pub probes_guess: bool,
    /// How far it went, for a trace.
    pub mode: Mode,
}

/// Why nothing was admitted, as the failover loop is told.
#[derive(Clone, Copy)]
pub struct Denied {
    /// It never fits: no denial, but the request's own fault.
    pub never: bool,
    pub full: Option<i64>,
    pub probe: bool,
    /// In how many milliseconds it may be admitted.
    pub wait: Option<i64>,
}

/// Whether a member could take a request, for the strategy.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outlook {
    Now,
    Later,
    Never,
}

// === impl Account ===

impl Account {
    pub fn new(limits: Vec<Limit>, truth: Allowance, ceiling: Option<Allowance>) -> Self {
        Account {
            ledger: Ledger::new(limits.clone()),
            limits,
            estimator: Estimator::new(),
            sizes: BTreeMap::new(),
            breaker: Breaker::new(),
            queue: VecDeque::new(),
            open: 0,
            shadow: truth.clone(),
            out: Vec::new(),
            truth,
            spare: ceiling.clone(),
            ceiling,
            tally: Tally::default(),
        }
    }

    /// `kill -9` and a start: what was on disk is all that is left.
    pub fn restart(&mut self, now: i64) {
        let mut kept = self.ledger.rows();
        kept.extend(std::mem::take(&mut self.sizes));
        let rows: Vec<(&str, &str)> = kept.iter().map(|(key, json)| (key.as_str(), json.as_str())).collect();
        self.ledger = Ledger::new(self.limits.clone());
        self.ledger.restore(&rows, Moment(now));
        self.estimator = Estimator::new();
        self.estimator.restore(&rows);
        self.breaker = Breaker::new();
        self.queue.clear();
        self.open = 0;
    }

    /// What a request of this size takes, as far as one can tell.
    fn need<'m>(&self, model: &'m str, size: Size) -> Need<'m> {
        let Size { bytes, max_tokens, stream } = size;
        let (input_tokens, output_tokens, off, answer_off) =
            self.estimator.estimate(model, bytes, max_tokens);
        Need { model, input_tokens, output_tokens, off, answer_off, most_output: max_tokens, stream }
    }

    pub fn outlook(&self, model: &str, size: Size, now: i64) -> Outlook {
        let need = self.need(model, size);
        let shut = matches!(self.breaker.check(Moment(now)), Gate::Shut { .. });
        match self.ledger.check(&need, Moment(now)) {
            Err(denial) if denial.cause == Cause::NeverFits && !denial.probe => Outlook::Never,
            Ok(()) if !shut => Outlook::Now,
            _ => Outlook::Later,
        }
    }

    pub fn admit(&mut self, ask: &Ask, now: i64) -> Result<Seat, Denied> {
        let gate = if ask.mode == Mode::Keep { self.breaker.admit(Moment(now)) } else { Gate::Pass };
        if let Gate::Shut { until } = gate {
            // Where nobody else can answer, it is tried all the same.
            return Err(Denied { never: false, full: None, probe: true, wait: Some(until.0 - now) });
        }
        let behind = self.open > 0 && self.queue.front().is_some_and(|first| first.walk != ask.walk);
        let probes_guess = self.outlook(ask.model, ask.size, now) != Outlook::Now;
        let admitted = if behind {
            Err((Cause::Full, None, false))
        } else {
            self.charge(ask, now).map_err(|denial| (denial.cause, denial.until, denial.probe))
        };
        match admitted {
            Ok(charge) => {
                self.open += 1;
                Ok(Seat { charge, probes_health: gate == Gate::Probe, probes_guess, mode: ask.mode })
            }
            Err((cause, until, probe)) => {
                if gate == Gate::Probe {
                    self.breaker.dropped(Moment(now));
                }
                let full = (cause == Cause::Full && (!ask.waits || self.join(ask))).then_some(MAX_WAIT);
                let wait = until.map(|until| (until.0 - now).max(0));
                let wait = wait.or((cause == Cause::Full).then_some(1_000));
                Err(Denied { never: cause == Cause::NeverFits && !probe, full, probe, wait })
            }
        }
    }

    fn charge(&mut self, ask: &Ask, now: i64) -> Result<Charge, demuxai::quota::Denial> {
        let need = self.need(ask.model, ask.size);
        self.ledger.admit(&need, ask.mode, Moment(now))
    }

    fn join(&mut self, ask: &Ask) -> bool {
        if self.queue.iter().any(|place| place.walk == ask.walk && place.model == ask.model) {
            return true;
        }
        if self.queue.len() >= MAX_QUEUE {
            return false;
        }
        let Ask { model, size, walk, .. } = *ask;
        self.queue.push_back(Place { walk, model, size });
        true
    }

    /// A place for the one that waits longest, if there is one.
    pub fn hand_over(&mut self, now: i64) -> Option<(usize, &'static str, Seat)> {
        let place = self.queue.front()?;
        let Place { walk, model, size } = *place;
        let ask = Ask { model, size, walk, mode: Mode::Keep, waits: false };
        let charge = self.charge(&ask, now).ok()?;
        self.open += 1;
        self.queue.pop_front();
        Some((walk, model, Seat { charge, probes_health: false, probes_guess: false, mode: Mode::Keep }))
    }

    /// The head of a good answer is here.
    pub fn succeeded(&mut self, seat: &Seat, statements: &[Statement], model: &str, now: i64) -> Vec<String> {
        let mut changes = self.stated(statements, Some(&seat.charge), false, model, now);
        if seat.probes_health {
            self.breaker.succeeded();
        }
        if let Some(change) = self.ledger.succeeded(&seat.charge, model, Moment(now)) {
            changes.push(change.what);
            // What is drawn from a success gives way to what the upstream stated.
            let amounts = statements.iter().filter(|statement| statement.amount.is_some());
            let amounts: Vec<Statement> =
                amounts.map(|statement| Statement { remaining: None, ..statement.clone() }).collect();
            changes.extend(self.stated(&amounts, None, false, model, now));
        }
        changes
    }

    fn stated(
        &mut self,
        statements: &[Statement],
        charge: Option<&Charge>,
        refused: bool,
        model: &str,
        now: i64,
    ) -> Vec<String> {
        let (source, ledger, now) = (Source::Header, &mut self.ledger, Moment(now));
        let note = |statement| match charge.filter(|_| refused) {
            Some(charge) => ledger.state_refusing(statement, source, model, charge, now),
            None => ledger.state(statement, source, model, charge, now),
        };
        statements.iter().filter_map(note).map(|change| change.what).collect()
    }

    /// The upstream refused, and said this.
    pub fn refused(
        &mut self,
        refusal: Option<&Refusal>,
        sick: bool,
        statements: &[Statement],
        seat: &Seat,
        (model, size): (&str, Size),
        now: i64,
    ) -> Vec<String> {
        let mut changes = self.stated(statements, Some(&seat.charge), refusal.is_some(), model, now);
        if let Some(refusal) = refusal {
            let size = Some(self.need(model, size).input_tokens);
            let change = self.ledger.refuse(refusal, model, size, Some(&seat.charge), Moment(now));
            changes.extend(change.map(|change| change.what));
        } else if sick {
            self.breaker.failed(Moment(now));
        }
        changes
    }

    /// The answer was complete.
    pub fn completed(&mut self) {
        self.breaker.succeeded();
    }

    /// The request is over, with this usage, or refused.
    pub fn settle(&mut self, seat: Seat, model: &str, bytes: usize, usage: Option<(u64, u64)>, now: i64) {
        self.open = self.open.saturating_sub(1);
        if seat.probes_health {
            self.breaker.dropped(Moment(now));
        }
        let (input, output) = usage.unzip();
        self.estimator.learn(model, bytes, input, output);
        self.sizes.extend(self.estimator.dirty());
        let refused = input.is_none() && output.is_none();
        let actual = Actual { input_tokens: input.or(Some(0)), output_tokens: output.or(Some(0)), refused };
        self.ledger.settle(seat.charge, actual, Moment(now));
    }

    /// A place that was handed over is not needed.
    pub fn give_back(&mut self, seat: Seat, now: i64) {
        self.open = self.open.saturating_sub(1);
        self.ledger.refund(seat.charge, Moment(now));
    }

    /// A request that went out is over, whoever still knows of it.
    pub fn ended(&mut self, flight: usize, model: &str, output: u64, now: i64) {
        self.out.retain(|out| out.flight != flight);
        for allowed in self.ceiling.iter_mut().chain(&mut self.spare) {
            allowed.done(now, model, output);
        }
    }

    /// The upstream has this request, or is done with it.
    pub fn moves(&mut self, flight: usize, stand: Stand) {
        self.out.iter_mut().filter(|out| out.flight == flight).for_each(|out| out.stand = stand);
    }

    /// Whether a request that nobody serves now could have been; then it counts as served for the next such question.
    ///
    /// There is capacity where a scheduler that knows the true limits, but not what will be asked, would have served it:
    /// - The upstream would take it now, and also when those that were sent before it are there.
    /// - It would take it when those are answered, too. What answers on their way will take is not there for others:
    ///   who takes it spends what they were promised. (The oracle does that, so that a few more than its own are served.)
    /// - It fits under the user's own limits, which are not the upstream's and hard. A prompt's tokens are known only
    ///   when the upstream has counted them, and an answer's length when it is given. Until then there is room for what
    ///   a request may take at most: the prompt as the densest text there is, the longest answer that it allows. Only
    ///   who keeps that free never goes above.
    pub fn could_serve(&mut self, model: &str, request: &Request, now: i64) -> bool {
        let (input, output) = (request.input, request.output);
        if self.shadow.check(now, model, input).is_some() || !self.is_below(model, request, now) {
            return false;
        }
        let mut soon = self.shadow.clone();
        for out in self.out.iter().filter(|out| out.stand == Stand::OnTheWay) {
            soon.count(now, out.model, out.input);
        }
        if soon.check(now, model, input).is_some() {
            return false;
        }
        for out in self.out.iter().filter(|out| out.stand != Stand::Back) {
            soon.done(now, out.model, out.output);
        }
        if soon.check(now, model, input).is_some() {
            return false;
        }
        for allowed in self.spare.iter_mut().chain([&mut self.shadow]) {
            allowed.count(now, model, input);
            allowed.done(now, model, output);
        }
        true
    }

    /// Whether a request fits under the user's own limits, whatever it turns out to take.
    fn is_below(&self, model: &str, request: &Request, now: i64) -> bool {
        let Some(mut spare) = self.spare.clone() else { return true };
        if spare.check(now, model, request.input).is_some() {
            return false;
        }
        for out in &self.out {
            spare.done(now, out.model, out.output + out.more);
        }
        spare.done(now, model, request.output + request.more());
        spare.check(now, model, request.input).is_none()
    }

    /// What is in the way of a request, for a trace.
    pub fn denial(&self, model: &str, size: Size, now: i64) -> String {
        let need = self.need(model, size);
        match self.ledger.check(&need, Moment(now)) {
            Ok(()) => "free".to_owned(),
            Err(denial) => {
                let until = denial.until.map(|until| until.0 - now);
                let estimate = (need.input_tokens, need.output_tokens, need.off, need.answer_off);
                format!("{:?} in {until:?} by {}, needs {estimate:?}", denial.cause, denial.limit)
            }
        }
    }

    /// What the ledger thinks, and what is true, for a trace.
    pub fn print(&self, model: &str, now: i64) {
        for standing in self.truth.clone().standings(now, model) {
            if standing.used * 2 > standing.limit.amount {
                println!("    in truth {} of {}", standing.used, standing.limit.amount);
            }
        }
        let stands = |stand| self.out.iter().filter(|out| out.stand == stand).count();
        let (coming, answering) = (stands(Stand::OnTheWay), stands(Stand::Answering));
        println!(
            "    {coming} on the way, {answering} being answered, {} wait for a place",
            self.queue.len()
        );
        let spare = self.spare.clone().into_iter().flat_map(|mut spare| spare.standings(now, model));
        for standing in spare.filter(|standing| standing.used * 2 > standing.limit.amount) {
            let limit = standing.limit;
            println!(
                "    of the user's {} of {} ({:?} of {:?})",
                standing.used, limit.amount, limit.unit, limit.window
            );
        }
        for view in self.ledger.views(Moment(now)).into_iter().filter(|view| view.used * 2 > view.amount) {
            let name = (view.model.unwrap_or(view.scope), view.unit.word(), view.window);
            println!("    {name:?}: {} of {} ({:?})", view.used, view.amount, view.source);
        }
        for block in self.ledger.blocks(Moment(now)) {
            println!("    {block:?} in {}", block.until.0 - now);
        }
    }

    /// Judges a request that goes out now by the user's own limits on requests.
    pub fn judge(&mut self, model: &str, input: u64, now: i64) {
        let Some(ceiling) = &mut self.ceiling else { return };
        let over = ceiling.check(now, model, input);
        let counts = |unit| matches!(unit, Unit::Requests | Unit::Concurrent);
        self.tally.above += u64::from(over.is_some_and(|over| counts(over.standing.limit.unit)));
        ceiling.count(now, model, input);
        if let Some(spare) = &mut self.spare {
            spare.count(now, model, input);
        }
    }
}
