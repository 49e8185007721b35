//! The breaker of one provider: one that fails again and again is left alone for a moment, then asked by one request
//! alone. Pure; what counts as failure is the error's own word (`error.rs`).

use super::Moment;

/// So many failures in a row open it.
const FAILURES: u32 = 5;
/// How long it stays open at first and at most, in milliseconds.
const FIRST: i64 = 5_000;
const LONGEST: i64 = 120_000;
/// A probe is out until its request is over, however long its answer; this only keeps one that got lost from shutting
/// the breaker for ever.
const LOST: i64 = 30 * 60_000;

/// A breaker.
#[derive(Debug, Clone)]
pub struct Breaker {
    opens: bool,
    failures: u32,
    stand: Stand,
    /// How often it opened in a row.
    opened: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stand {
    Closed,
    Open {
        until: i64,
    },
    /// One request is out that finds out.
    Probing {
        since: i64,
    },
}

/// Whether a request may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// Yes.
    Pass,
    /// Yes, as the one that finds out; told by [`Breaker::succeeded`], [`Breaker::failed`] or [`Breaker::dropped`].
    Probe,
    /// Not before that moment.
    Shut {
        /// When the next one may try.
        until: Moment,
    },
}

/// How it stands, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerView {
    /// `closed`, `open` or `half_open`.
    pub state: &'static str,
    /// Until when it is open.
    pub until: Option<Moment>,
    /// Failures in a row.
    pub failures: u32,
}

// === impl Breaker ===

impl Breaker {
    /// A closed one.
    pub fn new() -> Self {
        Breaker { opens: true, failures: 0, stand: Stand::Closed, opened: 0 }
    }

    /// One for a local server, which is never left alone: it costs nothing to ask, and nobody else has its models.
    pub fn never_opens() -> Self {
        Breaker { opens: false, ..Breaker::new() }
    }

    /// Whether it ever opens.
    pub fn may_open(&self) -> bool {
        self.opens
    }

    /// Whether a request would be let through. Changes nothing.
    pub fn check(&self, now: Moment) -> Gate {
        match self.stand {
            Stand::Closed => Gate::Pass,
            Stand::Open { until } if now.0 < until && until - now.0 <= LONGEST => {
                Gate::Shut { until: Moment(until) }
            }
            Stand::Probing { since } if (0..LOST).contains(&now.0.saturating_sub(since)) => {
                // When it is over nobody knows; asking again soon is cheap.
                Gate::Shut { until: Moment(now.0.saturating_add(FIRST)) }
            }
            // A probe that got lost, or a clock that was set back.
            Stand::Open { .. } | Stand::Probing { .. } => Gate::Probe,
        }
    }

    /// Lets a request through, or not.
    pub fn admit(&mut self, now: Moment) -> Gate {
        let gate = self.check(now);
        if gate == Gate::Probe {
            self.stand = Stand::Probing { since: now.0 };
        }
        gate
    }

    /// An answer was complete, or a probe got one.
    pub fn succeeded(&mut self) {
        self.failures = 0;
        self.opened = 0;
        self.stand = Stand::Closed;
    }

    /// The upstream failed.
    pub fn failed(&mut self, now: Moment) {
        self.failures = self.failures.saturating_add(1);
        if !self.opens {
            return;
        }
        match self.stand {
            Stand::Closed if self.failures < FAILURES => {}
            // Those that were under way when it opened do not open it again.
            Stand::Open { .. } => {}
            Stand::Closed | Stand::Probing { .. } => {
                let until = now.0.saturating_add(self.pause());
                self.opened = self.opened.saturating_add(1);
                self.stand = Stand::Open { until };
            }
        }
    }

    /// It failed a request that others served. The probe of it may be over already.
    pub fn blamed(&mut self, now: Moment) {
        if let Stand::Open { until } = self.stand
            && until <= now.0
        {
            self.stand = Stand::Probing { since: now.0 };
        }
        self.failed(now);
    }

    /// The probe was cancelled: the next request is one.
    pub fn dropped(&mut self, now: Moment) {
        if matches!(self.stand, Stand::Probing { .. }) {
            self.stand = Stand::Open { until: now.0 };
        }
    }

    /// How it stands.
    pub fn view(&self, now: Moment) -> BreakerView {
        let (state, until) = match (self.stand, self.check(now)) {
            (Stand::Closed, _) => ("closed", None),
            (Stand::Open { .. }, Gate::Shut { until }) => ("open", Some(until)),
            _ => ("half_open", None),
        };
        BreakerView { state, until, failures: self.failures }
    }

    fn pause(&self) -> i64 {
        (FIRST << self.opened.min(8)).min(LONGEST)
    }
}

impl Default for Breaker {
    fn default() -> Self {
        Breaker::new()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn opened(at: i64) -> Breaker {
        let mut breaker = Breaker::new();
        for _ in 0..FAILURES {
            assert_eq!(breaker.admit(Moment(at)), Gate::Pass);
            breaker.failed(Moment(at));
        }
        breaker
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_lets_one_request_find_out() {
        let mut breaker = opened(0);
        assert_eq!(breaker.admit(Moment(10)), Gate::Shut { until: Moment(FIRST) });
        assert_eq!(breaker.admit(Moment(FIRST)), Gate::Probe);
        assert!(matches!(breaker.admit(Moment(FIRST)), Gate::Shut { .. }), "one probe at a time");
        breaker.failed(Moment(FIRST + 1));
        assert_eq!(breaker.check(Moment(FIRST + 2)), Gate::Shut { until: Moment(FIRST + 1 + 2 * FIRST) });
        assert_eq!(breaker.admit(Moment(FIRST + 1 + 2 * FIRST)), Gate::Probe);
        breaker.succeeded();
        assert_eq!(breaker.admit(Moment(0)), Gate::Pass);
    }

    #[test]
    fn success_between_failures_keeps_it_closed() {
        let mut breaker = Breaker::new();
        for _ in 0..100 {
            for _ in 1..FAILURES {
                breaker.failed(Moment(0));
            }
            breaker.succeeded();
        }
        assert_eq!(breaker.admit(Moment(0)), Gate::Pass);
    }

    #[test]
    fn one_that_fails_what_others_serve_is_not_probed_by_every_request() {
        let mut breaker = opened(0);
        assert_eq!(breaker.admit(Moment(FIRST)), Gate::Probe);
        breaker.dropped(Moment(FIRST));
        breaker.blamed(Moment(FIRST + 1));
        assert!(matches!(breaker.admit(Moment(FIRST + 2)), Gate::Shut { .. }));
        breaker.blamed(Moment(FIRST + 3));
        assert_eq!(breaker.admit(Moment(FIRST + 1 + 2 * FIRST)), Gate::Probe, "late news prolong nothing");
    }

    #[test]
    fn a_cancelled_probe_leaves_its_place_to_the_next_request() {
        let mut breaker = opened(0);
        assert_eq!(breaker.admit(Moment(FIRST)), Gate::Probe);
        breaker.dropped(Moment(FIRST));
        assert_eq!(breaker.admit(Moment(FIRST)), Gate::Probe);
    }

    #[test]
    fn a_probe_that_takes_long_is_still_the_only_one() {
        let mut breaker = opened(0);
        assert_eq!(breaker.admit(Moment(FIRST)), Gate::Probe);
        assert!(matches!(breaker.admit(Moment(FIRST + 10 * LONGEST)), Gate::Shut { .. }));
        breaker.succeeded();
        assert_eq!(breaker.admit(Moment(FIRST + 10 * LONGEST)), Gate::Pass);
    }

    #[test]
    fn a_local_server_is_never_left_alone() {
        let mut breaker = Breaker::never_opens();
        for _ in 0..1000 {
            breaker.failed(Moment(0));
            assert_eq!(breaker.admit(Moment(0)), Gate::Pass);
        }
    }

    proptest! {
        #[test]
        fn it_lets_a_request_through_again_whatever_the_clock_does(steps in prop::collection::vec((0u8..4, -1_000_000i64..1_000_000), 0..200)) {
            let (mut breaker, mut now) = (Breaker::new(), 0i64);
            for (what, jump) in steps {
                now += jump;
                match what {
                    0 => breaker.failed(Moment(now)),
                    1 => breaker.succeeded(),
                    2 => breaker.dropped(Moment(now)),
                    _ => { breaker.admit(Moment(now)); }
                }
                // A clock that was set back may leave the end of a pause in the future, once.
                let shut = |at| matches!(breaker.check(Moment(at)), Gate::Shut { .. });
                prop_assert!(!shut(now + LOST + 1) || !shut(now + 2 * LOST + 2));
            }
        }
    }
}
