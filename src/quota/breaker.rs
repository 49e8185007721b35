//! The breaker of one provider: after failures in a row it is left alone for a while, then asked once. Pure.
//! It counts faults of the upstream and of the way to it, never refusals for reasons of quota: those are the ledger's.

use super::Moment;

/// Failures in a row that open it.
const FAILURES: u32 = 5;
/// How long it is open the first time, in milliseconds.
const FIRST_REST: i64 = 5_000;
/// How long it is open at most, in milliseconds.
const LONGEST_REST: i64 = 120_000;

/// Whether a request may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// It may.
    Pass,
    /// It may, as the one that finds out whether the upstream is back. Its end must be reported:
    /// [`Breaker::succeeded`], [`Breaker::failed`] or [`Breaker::dropped`].
    Probe,
    /// It may not, before this moment. While a probe is under way the moment is `now`: ask again when it has ended.
    Shut {
        /// When it is worth asking again.
        until: Moment,
    },
}

/// Whether a breaker ever opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Temper {
    /// After failures in a row.
    Opens,
    /// Never: a server of one's own is asked as often as the user asks.
    NeverOpens,
}

/// What people see of a breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerView {
    /// `closed`, `open` or `half_open`.
    pub state: &'static str,
    /// When it will be asked again, while it is open.
    pub until: Option<Moment>,
    /// Failures in a row.
    pub failures: u32,
}

/// Lets requests pass until an upstream has failed some times in a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breaker {
    temper: Temper,
    failures: u32,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed,
    /// Left alone from `since` for `rest` milliseconds.
    Open {
        since: Moment,
        rest: i64,
    },
    /// One probe is under way. It was asked for after a rest of `rest` milliseconds.
    HalfOpen {
        rest: i64,
    },
}

// === impl Breaker ===

impl Breaker {
    /// A closed one.
    pub fn new(temper: Temper) -> Self {
        Breaker { temper, failures: 0, state: State::Closed }
    }

    /// Whether a request may pass now; takes the probe if that is what it would be.
    pub fn admit(&mut self, now: Moment) -> Gate {
        let gate = self.check(now);
        if let (Gate::Probe, State::Open { rest, .. }) = (gate, self.state) {
            self.state = State::HalfOpen { rest };
        }
        gate
    }

    /// What [`Breaker::admit`] would say, without taking the probe.
    pub fn check(&self, now: Moment) -> Gate {
        match self.state {
            State::Closed => Gate::Pass,
            State::HalfOpen { .. } => Gate::Shut { until: now },
            State::Open { since, rest } => match remaining(since, rest, now) {
                0 => Gate::Probe,
                left => Gate::Shut { until: Moment(now.0.saturating_add(left)) },
            },
        }
    }

    /// An answer came, whatever it says: the upstream is there.
    ///
    /// A request that was sent before it opened closes it too: that is news that is at least as good as a probe's.
    pub fn succeeded(&mut self, _now: Moment) {
        self.failures = 0;
        self.state = State::Closed;
    }

    /// A fault of the upstream ([`crate::error::ProxyError::counts_against_upstream`]).
    pub fn failed(&mut self, now: Moment) {
        self.failures = self.failures.saturating_add(1);
        if self.temper == Temper::NeverOpens {
            return;
        }
        self.state = match self.state {
            State::Closed if self.failures < FAILURES => State::Closed,
            State::Closed => State::Open { since: now, rest: FIRST_REST },
            // Those that were under way when it opened say nothing new.
            open @ State::Open { .. } => open,
            State::HalfOpen { rest } => {
                State::Open { since: now, rest: rest.saturating_mul(2).min(LONGEST_REST) }
            }
        };
    }

    /// The probe was cancelled, or ended in a way that tells nothing of the upstream: the next request is the probe.
    pub fn dropped(&mut self) {
        if let State::HalfOpen { rest } = self.state {
            // Over at once, wherever the clock is by then.
            self.state = State::Open { since: Moment(i64::MIN), rest };
        }
    }

    /// What people see.
    pub fn view(&self, now: Moment) -> BreakerView {
        let (state, until) = match (self.state, self.check(now)) {
            (State::Closed, _) => ("closed", None),
            (State::HalfOpen { .. }, _) => ("half_open", None),
            (State::Open { .. }, Gate::Shut { until }) => ("open", Some(until)),
            (State::Open { .. }, _) => ("open", Some(now)),
        };
        BreakerView { state, until, failures: self.failures }
    }
}

/// What is left of a rest: never more than the whole of it, even when the clock was set back meanwhile.
fn remaining(since: Moment, rest: i64, now: Moment) -> i64 {
    let passed = now.0.saturating_sub(since.0);
    match passed {
        // The clock was set back behind the beginning: how long it has been is not known, so the rest is over.
        ..0 => 0,
        _ => rest.saturating_sub(passed).max(0),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Moment = Moment(1_790_000_000_000);

    fn after(ms: i64) -> Moment {
        Moment(NOW.0 + ms)
    }

    fn open() -> Breaker {
        let mut breaker = Breaker::new(Temper::Opens);
        (0..FAILURES).for_each(|_| breaker.failed(NOW));
        breaker
    }

    #[test]
    fn it_opens_after_the_fifth_failure_in_a_row_and_not_before() {
        let mut breaker = Breaker::new(Temper::Opens);
        for _ in 0..4 {
            breaker.failed(NOW);
            assert_eq!(breaker.admit(NOW), Gate::Pass);
        }
        breaker.succeeded(NOW);
        (0..4).for_each(|_| breaker.failed(NOW));
        assert_eq!(breaker.admit(NOW), Gate::Pass);
        breaker.failed(NOW);
        assert_eq!(breaker.admit(NOW), Gate::Shut { until: after(5_000) });
        assert_eq!(
            breaker.view(NOW),
            BreakerView { state: "open", until: Some(after(5_000)), failures: 5 }
        );
    }

    #[test]
    fn exactly_one_probe_goes_and_only_when_the_rest_is_over() {
        let mut breaker = open();
        assert!(matches!(breaker.admit(after(4_999)), Gate::Shut { .. }));
        assert_eq!(breaker.check(after(5_000)), Gate::Probe);
        assert_eq!(breaker.admit(after(5_000)), Gate::Probe);
        assert_eq!(breaker.admit(after(5_000)), Gate::Shut { until: after(5_000) });
        assert_eq!(breaker.view(after(5_000)).state, "half_open");
        breaker.succeeded(after(6_000));
        assert_eq!(breaker.admit(after(6_000)), Gate::Pass);
        assert_eq!(breaker.view(after(6_000)), BreakerView { state: "closed", until: None, failures: 0 });
    }

    #[test]
    fn the_rest_doubles_up_to_two_minutes_and_starts_anew_after_a_success() {
        let (mut breaker, mut now) = (open(), NOW);
        for rest in [5_000, 10_000, 20_000, 40_000, 80_000, 120_000, 120_000] {
            now = Moment(now.0 + rest);
            assert!(matches!(breaker.check(Moment(now.0 - 1)), Gate::Shut { .. }), "{rest}");
            assert_eq!(breaker.admit(now), Gate::Probe, "{rest}");
            breaker.failed(now);
        }
        breaker.succeeded(now);
        (0..FAILURES).for_each(|_| breaker.failed(now));
        assert_eq!(breaker.check(now), Gate::Shut { until: Moment(now.0 + 5_000) });
    }

    #[test]
    fn failures_that_were_under_way_when_it_opened_do_not_prolong_it() {
        let mut breaker = open();
        breaker.failed(after(4_000));
        assert_eq!(breaker.admit(after(5_000)), Gate::Probe);
    }

    #[test]
    fn a_cancelled_probe_lets_the_next_request_be_the_probe() {
        let mut breaker = open();
        assert_eq!(breaker.admit(after(5_000)), Gate::Probe);
        breaker.dropped();
        assert_eq!(breaker.admit(after(5_000)), Gate::Probe);
        breaker.failed(after(5_000));
        assert_eq!(breaker.check(after(5_000)), Gate::Shut { until: after(15_000) });
    }

    #[test]
    fn a_local_provider_is_never_left_alone() {
        let mut breaker = Breaker::new(Temper::NeverOpens);
        for _ in 0..1000 {
            breaker.failed(NOW);
            assert_eq!(breaker.admit(NOW), Gate::Pass);
        }
        assert_eq!(breaker.view(NOW).state, "closed");
    }

    #[derive(Debug, Clone)]
    enum Step {
        Admit,
        Succeeded,
        Failed,
        Dropped,
    }

    fn steps() -> impl Strategy<Value = Vec<(Step, i64)>> {
        let step = prop_oneof![
            3 => Just(Step::Admit),
            1 => Just(Step::Succeeded),
            6 => Just(Step::Failed),
            1 => Just(Step::Dropped),
        ];
        let moment = prop_oneof![0..600_000_i64, any::<i64>(), Just(i64::MIN), Just(i64::MAX)];
        proptest::collection::vec((step, moment), 0..60)
    }

    proptest! {
        #[test]
        fn no_clock_parks_it_for_more_than_two_minutes_and_no_second_probe_goes(steps in steps(), end in any::<i64>()) {
            let mut breaker = Breaker::new(Temper::Opens);
            let mut probing = false;
            for (step, now) in steps {
                match step {
                    Step::Admit => {
                        let seen = breaker.check(Moment(now));
                        let gate = breaker.admit(Moment(now));
                        prop_assert_eq!(gate, seen);
                        match gate {
                            Gate::Probe => {
                                prop_assert!(!probing);
                                probing = true;
                            }
                            Gate::Pass => prop_assert!(!probing),
                            Gate::Shut { until } => {
                                prop_assert!(until.0 >= now && until.0.saturating_sub(now) <= LONGEST_REST);
                            }
                        }
                    }
                    Step::Succeeded => { breaker.succeeded(Moment(now)); probing = false; }
                    Step::Failed => { breaker.failed(Moment(now)); probing = false; }
                    Step::Dropped => { breaker.dropped(); probing = false; }
                }
                let view = breaker.view(Moment(now));
                prop_assert_eq!(view.state == "half_open", probing);
            }
            // However it got there, a probe that ends well makes it pass again.
            breaker.succeeded(Moment(end));
            prop_assert_eq!(breaker.admit(Moment(end)), Gate::Pass);
        }

        #[test]
        fn one_failure_after_a_success_never_opens_it(steps in steps(), now in any::<i64>()) {
            let mut breaker = Breaker::new(Temper::Opens);
            for (step, at) in steps {
                match step {
                    Step::Admit => { breaker.admit(Moment(at)); }
                    Step::Succeeded => breaker.succeeded(Moment(at)),
                    Step::Failed => breaker.failed(Moment(at)),
                    Step::Dropped => breaker.dropped(),
                }
            }
            breaker.succeeded(Moment(now));
            breaker.failed(Moment(now));
            prop_assert_eq!(breaker.admit(Moment(now)), Gate::Pass);
        }
    }
}
