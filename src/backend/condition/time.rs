//! `time`: weekdays and a part of the day, in a time zone. A part that goes over midnight belongs to the day on which it
//! begins.

use jiff::civil::Weekday;
use jiff::tz::TimeZone;
use serde_json::Value;

use super::reading::{self, Fault};
use super::{Condition, Facts, Names};
use crate::config::zone;

const DAYS: [(&str, Weekday); 7] = [
    ("mon", Weekday::Monday),
    ("tue", Weekday::Tuesday),
    ("wed", Weekday::Wednesday),
    ("thu", Weekday::Thursday),
    ("fri", Weekday::Friday),
    ("sat", Weekday::Saturday),
    ("sun", Weekday::Sunday),
];
/// Minutes of a day.
const DAY: u16 = 24 * 60;

struct Time {
    days: Vec<Weekday>,
    /// Minutes from midnight.
    from: u16,
    to: u16,
    zone: TimeZone,
}

/// Reads a table; all that is wrong in it is told.
pub(super) fn read(value: &Value, _names: &Names<'_>) -> Result<Box<dyn Condition>, Vec<Fault>> {
    Ok(Box::new(time(value)?))
}

fn time(value: &Value) -> Result<Time, Vec<Fault>> {
    let (found, wrong) = match value.get("days") {
        None => (Vec::new(), Vec::new()),
        Some(written) => reading::each(written, |days| span_of_days(reading::text(days)?)),
    };
    let mut faults: Vec<Fault> = wrong.into_iter().map(|fault| fault.below("days")).collect();
    let mut at = |key: &str, default: u16| {
        let read = value.get(key).map_or(Ok(default), |written| clock(reading::text(written)?));
        reading::kept(read, key, &mut faults)
    };
    let (from, to) = (at("from", 0), at("to", DAY));
    let named = value.get("time_zone");
    let zone = named.map_or(Ok(TimeZone::UTC), |name| zone(reading::text(name)?).map_err(Fault::from));
    let zone = reading::kept(zone, "time_zone", &mut faults);
    if let (Some(from), Some(to)) = (from, to) {
        if value.get("days").is_none() && from == 0 && to == DAY {
            faults.push(Fault::from(
                "says nothing: add days = \"mon-fri\", or from = \"09:00\" and to = \"17:00\"",
            ));
        } else if from % DAY == to % DAY && !(from == 0 && to == DAY) {
            faults.push(Fault::from(
                "can never be: it ends when it begins; leave `from` and `to` out for a whole day",
            ));
        }
    }
    match (from, to, zone) {
        (Some(from), Some(to), Some(zone)) if faults.is_empty() => {
            Ok(Time { days: found.concat(), from, to: if to == 0 { DAY } else { to }, zone })
        }
        _ => Err(faults),
    }
}

/// Whether one is a part of the other: on no other days, and no longer; in one time zone.
pub(super) fn within(wide: &Value, narrow: &Value) -> bool {
    let (Ok(narrow), Ok(wide)) = (time(narrow), time(wide)) else { return false };
    let days = wide.days.is_empty()
        || (!narrow.days.is_empty() && narrow.days.iter().all(|day| wide.days.contains(day)));
    // What goes over midnight is compared only with what does, too: it belongs to the day before.
    let over_midnight = |time: &Time| time.from >= time.to;
    days && narrow.zone == wide.zone
        && over_midnight(&narrow) == over_midnight(&wide)
        && wide.from <= narrow.from
        && narrow.to <= wide.to
}

/// `mon`, or `mon-fri`; over the end of the week as well.
fn span_of_days(written: &str) -> Result<Vec<Weekday>, Fault> {
    let day = |word: &str| {
        let word = word.trim().to_ascii_lowercase();
        DAYS.iter().find(|(short, _)| *short == word).map(|(_, day)| *day)
    };
    let (first, last) = written.split_once('-').unwrap_or((written, written));
    let (Some(first), Some(last)) = (day(first), day(last)) else {
        return Err(Fault::from(
            "is no day: write mon, tue, wed, thu, fri, sat, sun, or a span such as \"mon-fri\"",
        ));
    };
    let mut days = vec![first];
    while let Some(day) = days.last().filter(|day| **day != last).copied() {
        days.push(day.next());
    }
    Ok(days)
}

/// `09:30` in minutes.
fn clock(written: &str) -> Result<u16, Fault> {
    let two = |digits: &str| {
        let plain = (1..=2).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| digits.parse::<u16>().ok()).flatten()
    };
    let minutes = written.split_once(':').and_then(|(hours, minutes)| {
        let (hours, minutes) = (two(hours)?, two(minutes).filter(|_| minutes.len() == 2)?);
        (minutes < 60).then(|| hours * 60 + minutes).filter(|total| *total <= DAY)
    });
    minutes.ok_or_else(|| Fault::from("is no time of day; write \"09:00\", from \"00:00\" to \"24:00\""))
}

// === impl Time ===

impl Time {
    fn is_day(&self, day: Weekday) -> bool {
        self.days.is_empty() || self.days.contains(&day)
    }
}

impl Condition for Time {
    fn holds(&self, facts: &Facts<'_>) -> bool {
        let local = self.zone.to_datetime(facts.now);
        let today = local.weekday();
        let minute = u16::from(local.hour().unsigned_abs()) * 60 + u16::from(local.minute().unsigned_abs());
        if self.from < self.to {
            return self.is_day(today) && (self.from..self.to).contains(&minute);
        }
        (minute >= self.from && self.is_day(today)) || (minute < self.to && self.is_day(today.previous()))
    }

    fn seen(&self, facts: &Facts<'_>) -> Option<String> {
        let local = self.zone.to_datetime(facts.now);
        let day = DAYS.iter().find(|(_, day)| *day == local.weekday()).map_or("", |(short, _)| short);
        let zone = self.zone.iana_name().unwrap_or("UTC");
        Some(format!("it is {day} {:02}:{:02} in {zone}", local.hour(), local.minute()))
    }
}
