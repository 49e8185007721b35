//! The system under test in virtual time: a queue of events, the accounts, the walks of all requests, and upstreams that
//! answer after a while.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use demuxai::demo::Script;
use demuxai::demo::allowance::{Admission, Allowance, refusal, success};
use demuxai::error::Retry;
use demuxai::quota::{Moment, Statement};
use demuxai::upstream::{Respondent, classify, statements};
use fastrand::Rng;
use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::Outcome;
use crate::account::{Account, Out, Seat, Stand, Tally};
use crate::scenario::Scenario;
use crate::tiers::World;
use crate::traffic::{BEGIN, DAY, Request};
use crate::walk::{Failure, Step, Walk};

/// What came of a run.
#[derive(Default)]
pub struct Totals {
    pub served: u64,
    pub tokens: u64,
    pub failed: u64,
    /// Failed although the true limits would have let it through.
    pub missed: u64,
    pub refused: u64,
    pub above: u64,
    pub tiers: Vec<Tally>,
}

/// A request that is at an upstream.
struct Flight {
    walk: usize,
    member: usize,
    tier: usize,
    model: &'static str,
    seat: Option<Seat>,
    /// Of which life of the program it is.
    life: u32,
}

/// An answer that is no success, on its way back.
struct No {
    status: u16,
    headers: HeaderMap,
    body: Bytes,
}

enum Event {
    Arrive(usize),
    Alarm(usize, u64),
    Reach(usize),
    Head(usize, HeaderMap),
    No(usize, Box<No>),
    Leave(usize),
    Complete(usize),
    Restart,
}

struct Simulation<'w> {
    world: &'w World,
    requests: &'w [Request],
    scenario: &'w Scenario,
    accounts: Vec<Account>,
    walks: Vec<Walk>,
    flights: Vec<Flight>,
    events: BTreeMap<(i64, u64), Event>,
    next: u64,
    now: i64,
    life: u32,
    rng: Rng,
    result: Totals,
    trace: bool,
}

/// Runs all requests through the system under test.
pub fn run(
    world: &World,
    requests: &[Request],
    scenario: &Scenario,
    days: u32,
    trace: bool,
) -> Outcome<Totals> {
    let mut accounts = Vec::new();
    for tier in &world.tiers {
        let truth = Allowance::new(tier.truth(1.0)?);
        let ceiling = scenario.is_configured().then(|| tier.truth(scenario.ceiling())).transpose()?;
        accounts.push(Account::new(tier.told(scenario.knowledge)?, truth, ceiling.map(Allowance::new)));
    }
    let mut simulation = Simulation {
        world,
        requests,
        scenario,
        accounts,
        walks: Vec::new(),
        flights: Vec::new(),
        events: BTreeMap::new(),
        next: 0,
        now: BEGIN,
        life: 0,
        rng: Rng::with_seed(1),
        result: Totals::default(),
        trace,
    };
    let length = DAY * i64::from(days);
    for part in 1..=i64::from(scenario.restarts) {
        // At no round hour.
        let at = BEGIN + length * part / (i64::from(scenario.restarts) + 1) + 1_234_567;
        simulation.at(at, Event::Restart);
    }
    if !requests.is_empty() {
        simulation.at(requests[0].at, Event::Arrive(0));
    }
    while let Some(((at, _), event)) = simulation.events.pop_first() {
        simulation.now = at;
        simulation.on(event);
    }
    let Simulation { accounts, mut result, .. } = simulation;
    for account in &accounts {
        result.refused += account.tally.refused;
        result.above += account.tally.above;
    }
    result.tiers = accounts.into_iter().map(|account| account.tally).collect();
    Ok(result)
}

impl Simulation<'_> {
    fn at(&mut self, at: i64, event: Event) {
        self.next += 1;
        self.events.insert((at, self.next), event);
    }

    /// The way there or back.
    fn latency(&mut self) -> i64 {
        self.rng.i64(15..120)
    }

    fn on(&mut self, event: Event) {
        match event {
            Event::Arrive(request) => {
                if let Some(next) = self.requests.get(request + 1) {
                    self.at(next.at, Event::Arrive(request + 1));
                }
                self.start(request);
            }
            Event::Alarm(walk, pause) => {
                if self.walks[walk].pausing.is_some() && self.walks[walk].pauses == pause {
                    self.resume(walk);
                }
            }
            Event::Reach(flight) => self.reach(flight),
            Event::Head(flight, headers) => self.head(flight, &headers),
            Event::No(flight, no) => self.no(flight, &no),
            Event::Leave(flight) => {
                let Flight { tier, model, walk, .. } = self.flights[flight];
                let output = self.requests[self.walks[walk].request].output;
                let account = &mut self.accounts[tier];
                account.truth.done(self.now, model, output);
                account.shadow.done(self.now, model, output);
                account.moves(flight, Stand::Back);
            }
            Event::Complete(flight) => self.complete(flight),
            Event::Restart => self.restart(),
        }
    }

    fn start(&mut self, request: usize) {
        let asked = &self.requests[request];
        let group = &self.world.groups[asked.group];
        let mut walk = Walk::new(request, self.now, group);
        walk.begin(group, asked, &self.accounts, self.now);
        self.walks.push(walk);
        self.go_on(self.walks.len() - 1);
    }

    fn resume(&mut self, number: usize) {
        let walk = &mut self.walks[number];
        let asked = &self.requests[walk.request];
        walk.resume(&self.world.groups[asked.group], asked, &self.accounts, self.now);
        self.go_on(number);
    }

    fn go_on(&mut self, number: usize) {
        let walk = &mut self.walks[number];
        let asked = &self.requests[walk.request];
        let group = &self.world.groups[asked.group];
        match walk.go_on(number, group, asked, &mut self.accounts, self.now) {
            Step::Ask(member, mut seat) => {
                let (tier, model) = group.members[member];
                let account = &mut self.accounts[tier];
                account.ledger.departs(&mut seat.charge, Moment(self.now));
                account.judge(model, asked.input, self.now);
                account.out.push(Out {
                    flight: self.flights.len(),
                    model,
                    input: asked.input,
                    output: asked.output,
                    more: asked.more(),
                    stand: Stand::OnTheWay,
                });
                let life = self.life;
                self.flights.push(Flight { walk: number, member, tier, model, seat: Some(seat), life });
                let at = self.now + self.latency();
                self.at(at, Event::Reach(self.flights.len() - 1));
            }
            Step::Pause(until) => {
                let alarm = Event::Alarm(number, walk.pauses);
                self.at(until, alarm);
            }
            Step::GiveUp => self.give_up(number),
        }
    }

    fn give_up(&mut self, number: usize) {
        let now = self.now;
        let asked = &self.requests[self.walks[number].request];
        self.result.failed += 1;
        for (tier, model) in &self.world.groups[asked.group].members {
            let account = &mut self.accounts[*tier];
            if account.could_serve(model, asked, now) {
                account.tally.missed += 1;
                self.result.missed += 1;
                if self.trace {
                    let id = self.world.tiers[*tier].id;
                    let (at, waited) = ((now - BEGIN) as f64 / 1000.0, now - asked.at);
                    let size = format!("{} + {} tokens", asked.input, asked.output);
                    println!("{at} missed: {id} {model} {size}, waited {waited} ms");
                    for (tier, model) in &self.world.groups[asked.group].members {
                        let (id, account) = (self.world.tiers[*tier].id, &self.accounts[*tier]);
                        println!("  {id} {model}: {}", account.denial(model, asked.size(), now));
                        account.print(model, now);
                    }
                }
                break;
            }
        }
        self.end(number);
    }

    /// The request is over; what was handed over to it and not used goes to others.
    fn end(&mut self, number: usize) {
        let walk = &mut self.walks[number];
        walk.over = true;
        let given: Vec<_> = walk.given.drain(..).collect();
        for account in &mut self.accounts {
            account.queue.retain(|place| place.walk != number);
        }
        for (tier, _, seat) in given {
            self.accounts[tier].give_back(seat, self.now);
            self.hand_over(tier);
        }
    }

    fn hand_over(&mut self, tier: usize) {
        while let Some((number, model, seat)) = self.accounts[tier].hand_over(self.now) {
            let walk = &mut self.walks[number];
            walk.given.push((tier, model, seat));
            walk.woken = true;
            if walk.pausing == Some(true) {
                // At once, but after what happens now.
                walk.pauses += 1;
                let alarm = Event::Alarm(number, walk.pauses);
                self.at(self.now, alarm);
            }
        }
    }

    /// The request is at the upstream.
    fn reach(&mut self, number: usize) {
        let Flight { tier, model, walk, .. } = self.flights[number];
        let asked = &self.requests[self.walks[walk].request];
        let (now, of_tier) = (self.now, &self.world.tiers[tier]);
        let account = &mut self.accounts[tier];
        let frankness = self.scenario.frankness;
        let admission = account.truth.admit(now, model, asked.input);
        let standings = account.truth.standings(now, model);
        match admission {
            Admission::Admitted => {
                account.shadow.count(now, model, asked.input);
                account.tally.served += 1;
                account.moves(number, Stand::Answering);
                let told = success(of_tier.form, frankness, &standings, asked.stream);
                let headers = headers(told.iter().map(|(name, value)| (name.as_str(), value.as_str())));
                let (first, last) = of_tier.pace(asked.output);
                let back = self.latency();
                self.at(now + if asked.stream { first } else { last } + back, Event::Head(number, headers));
                self.at(now + last, Event::Leave(number));
                self.at(now + last + back, Event::Complete(number));
            }
            Admission::Refused(refused) => {
                account.moves(number, Stand::Back);
                account.tally.refused += 1;
                let probe = self.flights[number].seat.as_ref().is_some_and(|seat| seat.probes_guess);
                account.tally.probes += u64::from(probe);
                let limit = &refused.standing.limit;
                let hit = format!("{} {:?} of {:?}", limit.amount, limit.unit, limit.window);
                if self.trace {
                    let id = of_tier.id;
                    let kind = if probe { "probe" } else { "in good faith" };
                    let mode = self.flights[number].seat.as_ref().map(|seat| seat.mode);
                    let (at, input) = ((now - BEGIN) as f64 / 1000.0, asked.input);
                    println!("{at} refused: {id} {model} {hit} ({kind}, {mode:?}), {input} tokens");
                    println!("    now: {}", account.denial(model, asked.size(), now));
                    account.print(model, now);
                }
                *account.tally.hit.entry(hit).or_default() += 1;
                let no = no(&refusal(of_tier.form, frankness, &refused, &standings, now));
                let back = self.latency();
                self.at(now + back, Event::No(number, Box::new(no)));
            }
        }
    }

    /// What these headers state at the tier of a flight.
    fn statements(&self, tier: usize, headers: &HeaderMap) -> Vec<Statement> {
        statements(headers, self.world.tiers[tier].rate_form, clock(self.now))
    }

    fn say(&self, tier: usize, changes: &[String]) {
        if self.trace {
            for change in changes {
                println!("{} {}: {change}", (self.now - BEGIN) as f64 / 1000.0, self.world.tiers[tier].id);
            }
        }
    }

    fn head(&mut self, number: usize, headers: &HeaderMap) {
        let stated = self.statements(self.flights[number].tier, headers);
        let Flight { tier, model, ref seat, life, .. } = self.flights[number];
        if life == self.life
            && let Some(seat) = seat
        {
            let changes = self.accounts[tier].succeeded(seat, &stated, model, self.now);
            self.say(tier, &changes);
        }
    }

    fn complete(&mut self, number: usize) {
        let flight = &mut self.flights[number];
        let (tier, model, walk) = (flight.tier, flight.model, flight.walk);
        let output = self.requests[self.walks[walk].request].output;
        self.accounts[tier].ended(number, model, output, self.now);
        let Some(seat) = flight.seat.take().filter(|_| flight.life == self.life) else { return };
        let asked = &self.requests[self.walks[walk].request];
        self.result.served += 1;
        self.result.tokens += asked.input + asked.output;
        let account = &mut self.accounts[tier];
        account.completed();
        account.settle(seat, model, asked.bytes, Some((asked.input, asked.output)), self.now);
        self.hand_over(tier);
        self.end(walk);
    }

    /// The answer of an upstream that refused.
    fn no(&mut self, number: usize, no: &No) {
        let flight = &mut self.flights[number];
        let (tier, model, walk, member) = (flight.tier, flight.model, flight.walk, flight.member);
        self.accounts[tier].ended(number, model, 0, self.now);
        let Some(seat) = flight.seat.take().filter(|_| flight.life == self.life) else { return };
        let asked = &self.requests[self.walks[walk].request];
        let world = &self.world.tiers[tier];
        let who = Respondent { sent_key: true, rate_headers: world.rate_form, shared: world.shared };
        let error = classify(no.status, &no.headers, &no.body, who, clock(self.now));
        let stated = &error.statements;
        let account = &mut self.accounts[tier];
        let sick = error.counts_against_upstream();
        let changes =
            account.refused(error.refusal.as_deref(), sick, stated, &seat, (model, asked.size()), self.now);
        account.settle(seat, model, asked.bytes, None, self.now);
        self.say(tier, &changes);
        self.hand_over(tier);
        let failure = Failure {
            here: error.retry == Retry::Here,
            fatal: error.retry == Retry::No,
            retry_after: error
                .retry_after
                .map(|wait| i64::try_from(wait.as_millis()).unwrap_or(i64::MAX / 4)),
        };
        if failure.fatal {
            return self.give_up(walk);
        }
        self.walks[walk].failed(member, failure, self.now);
        self.go_on(walk);
    }

    /// The program is killed and started: clients whose request was under way ask again.
    fn restart(&mut self) {
        self.life += 1;
        for account in &mut self.accounts {
            account.restart(self.now);
        }
        let under_way: Vec<usize> = (0..self.walks.len()).filter(|walk| !self.walks[*walk].over).collect();
        for walk in under_way {
            self.walks[walk].over = true;
            self.walks[walk].pausing = None;
            self.walks[walk].given.clear();
            self.start(self.walks[walk].request);
        }
    }
}

/// A refusal as it comes off the wire.
fn no(script: &Script) -> No {
    let wire = script.wire();
    let end = wire.windows(4).position(|window| window == b"\r\n\r\n").unwrap_or(wire.len());
    let head = String::from_utf8_lossy(&wire[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(500);
    let lines = head.split("\r\n").skip(1).filter_map(|line| line.split_once(':'));
    No { status, headers: headers(lines), body: wire.slice((end + 4).min(wire.len())..) }
}

fn headers<'h>(all: impl Iterator<Item = (&'h str, &'h str)>) -> HeaderMap {
    let read = |(name, value): (&str, &str)| {
        Some((HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_str(value.trim()).ok()?))
    };
    all.filter_map(read).collect()
}

fn clock(now: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(now.unsigned_abs())
}
