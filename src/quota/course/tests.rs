//! What is found out of a window that nobody told of, named after what must not happen. The upstreams keep the true
//! limits of `demo/allowance.rs`.

use super::super::admission::{Actual, Mode, Need};
use super::super::limit::{Source, Unit};
use super::super::said::{Refusal, RefusalClass, Statement};
use super::super::{Ledger, Moment};
use super::*;
use crate::demo::allowance::{Admission, Allowance, TrueLimit, Unit as TrueUnit, Window as TrueWindow};

mod minutes;
mod worlds;

/// A Monday, in UTC.
const BEGIN: i64 = 1_793_577_600_000;
const WEEK: Period = Period::Millis(604_800_000);

/// An upstream, what is thought of it, and what came of asking.
struct World {
    ledger: Ledger,
    truth: Allowance,
    served: u64,
    refused: u64,
    /// Not asked, although it would have answered.
    missed: u64,
}

impl World {
    fn new(amount: u64, window: TrueWindow) -> World {
        let truth = Allowance::new(vec![TrueLimit::new(TrueUnit::Requests, amount, window)]);
        World { ledger: Ledger::new(Vec::new()), truth, served: 0, refused: 0, missed: 0 }
    }

    /// Asks where nobody else has capacity.
    fn ask(&mut self, no: &Refusal, stated: Option<&Statement>, at: i64) {
        let (need, now) = (need(), Moment(at));
        let admitted = self.ledger.admit(&need, Mode::Keep, now);
        let Ok(charge) = admitted.or_else(|_| self.ledger.admit(&need, Mode::Probe, now)) else {
            self.missed += u64::from(self.truth.check(at, "m", 1).is_none());
            return;
        };
        let refused = self.truth.admit(at, "m", 1) != Admission::Admitted;
        if refused {
            self.refused += 1;
            if let Some(statement) = stated {
                self.ledger.state_refusing(statement, Source::Header, "m", &charge, now);
            }
            self.ledger.refuse(no, "m", None, Some(&charge), now);
        } else {
            self.served += 1;
            self.truth.done(at, "m", 1);
            self.ledger.succeeded(&charge, "m", now);
        }
        let tokens = Some(u64::from(!refused));
        self.ledger.settle(charge, Actual { input_tokens: tokens, output_tokens: tokens, refused }, now);
    }

    /// Asks every so often within these hours.
    fn ask_for(&mut self, hours: std::ops::Range<i64>, every: i64, no: &Refusal, stated: Option<&Statement>) {
        let mut at = BEGIN + hours.start * HOUR + 17_000;
        while at < BEGIN + hours.end * HOUR {
            self.ask(no, stated, at);
            at += every;
        }
    }

    /// What came of it, from now on.
    fn counts_anew(&mut self) {
        (self.served, self.refused, self.missed) = (0, 0, 0);
    }

    /// `kill -9`, and a start.
    fn restart(&mut self, at: i64) {
        let rows = self.ledger.rows();
        let rows: Vec<(&str, &str)> = rows.iter().map(|(key, json)| (key.as_str(), json.as_str())).collect();
        self.ledger = Ledger::new(Vec::new());
        self.ledger.restore(&rows, Moment(at));
    }
}

fn need() -> Need<'static> {
    Need {
        model: "m",
        input_tokens: 1,
        output_tokens: 1,
        off: 0,
        answer_off: 0,
        most_output: None,
        stream: false,
    }
}

fn no(period: Option<Period>) -> Refusal {
    Refusal { class: RefusalClass::Window(period), per_model: true, unit: None, retry_after: None }
}

/// Gemini's: how many a day, but not which day.
fn a_day_of(amount: u64) -> Statement {
    Statement {
        unit: Unit::Requests,
        period: Some(Period::DAY),
        per_model: true,
        amount: Some(amount),
        remaining: None,
        resets_in: None,
        refills: false,
    }
}

#[test]
fn a_day_that_ends_at_californias_midnight_is_not_waited_for_once_that_was_seen() {
    let zone = TimeZone::get("America/Los_Angeles").unwrap();
    let mut world = World::new(100, TrueWindow::Day(zone));
    let (refusal, stated) = (no(Some(Period::DAY)), a_day_of(100));
    world.ask_for(0..72, 5 * MINUTE, &refusal, Some(&stated));
    assert!(world.refused <= 10, "refused {} times until it was known", world.refused);
    world.counts_anew();
    world.ask_for(72..168, 5 * MINUTE, &refusal, Some(&stated));
    assert_eq!((world.refused, world.missed), (0, 0));
    assert!(world.served >= 400, "served {}", world.served);
    world.restart(BEGIN + 168 * HOUR);
    world.counts_anew();
    world.ask_for(168..240, 5 * MINUTE, &refusal, Some(&stated));
    assert_eq!((world.refused, world.missed), (0, 0), "nor is that forgotten");
}

#[test]
fn a_day_that_refuses_without_a_word_is_not_asked_for_each_hour_nor_missed_when_it_is_free() {
    let mut world = World::new(100, TrueWindow::Rolling(DAY));
    world.ask_for(0..72, 5 * MINUTE, &no(None), None);
    assert!(world.refused <= 24, "refused {} times until it was known", world.refused);
    world.counts_anew();
    world.ask_for(72..240, 5 * MINUTE, &no(None), None);
    assert!(world.refused <= 7, "refused {} times, more than once a day", world.refused);
    assert!(world.missed <= 7, "missed {} of {}", world.missed, world.served);
}

#[test]
fn a_week_of_unknown_size_that_begins_with_a_request_is_not_missed_by_a_day() {
    let mut world = World::new(700, TrueWindow::FromFirst(7 * DAY));
    let refusal = no(Some(WEEK));
    world.ask_for(3..16 * 24, 10 * MINUTE, &refusal, None);
    world.counts_anew();
    world.ask_for(16 * 24..36 * 24, 10 * MINUTE, &refusal, None);
    assert!(world.missed <= 8, "missed {} of {}", world.missed, world.served);
    assert!(world.refused <= 20, "refused {} times, more than once a day", world.refused);
}

#[test]
fn a_month_that_refuses_without_a_word_is_not_asked_for_each_hour() {
    let mut world = World::new(500, TrueWindow::Rolling(31 * DAY));
    world.ask_for(0..29 * 24, 5 * MINUTE, &no(None), None);
    assert_eq!((world.served, world.missed), (500, 0));
    assert!(world.refused <= 60, "refused {} times", world.refused);
}

#[test]
fn a_day_whose_limit_is_raised_does_not_stay_as_it_was() {
    let mut world = World::new(50, TrueWindow::Day(TimeZone::UTC));
    world.ask_for(0..120, 5 * MINUTE, &no(None), None);
    world.truth =
        Allowance::new(vec![TrueLimit::new(TrueUnit::Requests, 150, TrueWindow::Day(TimeZone::UTC))]);
    world.ask_for(120..240, 5 * MINUTE, &no(None), None);
    world.counts_anew();
    world.ask_for(240..288, 5 * MINUTE, &no(None), None);
    assert!(world.served >= 280, "served {}", world.served);
}

fn says(used: u64, whole_in: i64) -> Statement {
    Statement {
        remaining: Some(1_000 - used),
        resets_in: Some(std::time::Duration::from_millis(whole_in.unsigned_abs())),
        ..a_day_of(1_000)
    }
}

/// Whether there is room ten minutes after all of a day was used; by then a bucket has given some back.
fn has_room_soon(said: &[Statement]) -> bool {
    let mut ledger = Ledger::new(Vec::new());
    for (minute, statement) in (0..).zip(said) {
        ledger.state(statement, Source::Header, "m", None, Moment(BEGIN + minute * MINUTE));
    }
    let full = BEGIN + HOUR;
    ledger.state(&says(1_000, DAY - HOUR), Source::Header, "m", None, Moment(full));
    ledger.check(&need(), Moment(full + 10 * MINUTE)).is_ok()
}

#[test]
fn what_refills_all_the_time_is_not_waited_for_till_it_is_full() {
    let refilling: Vec<Statement> =
        (1..8).map(|step: i64| says(step.unsigned_abs() * 100, step * DAY / 10)).collect();
    assert!(has_room_soon(&refilling));
    let ending: Vec<Statement> =
        (1..8).map(|step: i64| says(step.unsigned_abs() * 100, DAY / 2 - step * MINUTE)).collect();
    assert!(!has_room_soon(&ending), "a day that ends is no bucket");
}

/// Asks on these days, in some hours more often than in others.
fn ask_on_days(world: &mut World, days: std::ops::Range<i64>, no: &Refusal, rng: &mut fastrand::Rng) {
    for hour in (days.start * 24..days.end * 24).filter(|hour| (7..22).contains(&(hour % 24))) {
        if rng.bool() {
            world.ask_for(hour..hour + 1, rng.i64(8_000..60_000), no, None);
        }
    }
}

#[test]
fn a_day_that_refills_all_the_time_is_not_asked_in_vain_nor_left_alone_till_midnight() {
    let (refusal, mut rng) = (no(Some(Period::DAY)), fastrand::Rng::with_seed(7));
    let mut world = World::new(700, TrueWindow::Bucket(DAY));
    ask_on_days(&mut world, 0..4, &refusal, &mut rng);
    world.counts_anew();
    ask_on_days(&mut world, 4..14, &refusal, &mut rng);
    assert!(world.refused <= 15, "refused {} times in ten days", world.refused);
    assert!(world.missed <= 4_500, "missed {} of {}", world.missed, world.served);

    // One day it ends at midnight.
    let midnight = TrueWindow::Day(TimeZone::UTC);
    world.truth = Allowance::new(vec![TrueLimit::new(TrueUnit::Requests, 350, midnight)]);
    ask_on_days(&mut world, 14..20, &refusal, &mut rng);
    world.counts_anew();
    ask_on_days(&mut world, 20..30, &refusal, &mut rng);
    assert!(world.refused <= 15, "refused {} times in ten days", world.refused);
    assert!(world.served >= 3_300, "served {} of 3,500", world.served);
}

#[test]
fn an_hour_that_refuses_without_a_word_is_not_taken_for_a_day() {
    let mut world = World::new(60, TrueWindow::Aligned(HOUR));
    world.ask_for(0..48, 30_000, &no(None), None);
    world.counts_anew();
    world.ask_for(48..96, 30_000, &no(None), None);
    assert!(world.missed <= 48, "missed {} of {}", world.missed, world.served);
    assert!(world.refused <= 48, "refused {} times", world.refused);
}
