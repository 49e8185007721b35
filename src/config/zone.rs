//! Time zones by their names, and the name that was probably meant.

use jiff::tz::TimeZone;

use super::report::nearest;

/// Longest name that is looked up.
const MOST_BYTES: usize = 64;
/// What people write for zones and no database has, or what it has in another way.
const MEANT: [(&str, &str); 9] = [
    ("pst", "America/Los_Angeles"),
    ("pdt", "America/Los_Angeles"),
    ("edt", "America/New_York"),
    ("cst", "America/Chicago"),
    ("cdt", "America/Chicago"),
    ("cest", "Europe/Berlin"),
    ("bst", "Europe/London"),
    ("ist", "Asia/Kolkata"),
    ("jst", "Asia/Tokyo"),
];

/// A time zone by its IANA name. What has not the form of one is not looked up.
///
/// # Errors
/// That there is none, and the nearest one.
pub(crate) fn zone(name: &str) -> Result<TimeZone, String> {
    let found = is_name(name).then(|| TimeZone::get(name).ok()).flatten();
    found.ok_or_else(|| {
        let hint = match meant(name) {
            Some(meant) => format!("; did you mean \"{meant}\"?"),
            None => "; write \"UTC\" or one such as \"Europe/Berlin\"".to_owned(),
        };
        format!("no time zone has this name{hint}")
    })
}

fn is_name(name: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '+');
    let part = |part: &str| part.starts_with(|c: char| c.is_ascii_alphabetic()) && part.chars().all(inner);
    name.len() <= MOST_BYTES && name.split('/').count() <= 3 && name.split('/').all(part)
}

/// The zone that a name which is none was meant for.
fn meant(name: &str) -> Option<String> {
    let name = name.trim();
    if name.len() < 3 || name.len() > MOST_BYTES {
        return None;
    }
    let lower = name.to_lowercase().replace(' ', "_");
    if let Some((_, meant)) = MEANT.iter().find(|(theirs, _)| *theirs == lower) {
        return Some((*meant).to_owned());
    }
    let fixed = lower.strip_prefix("utc").or_else(|| lower.strip_prefix("gmt")).unwrap_or(&lower);
    if let Some(offset) = offset(fixed) {
        return Some(offset);
    }
    let known: Vec<String> = jiff::tz::db().available().map(|known| known.to_string()).collect();
    let named = |known: &&String| {
        let small = known.to_lowercase();
        small == lower || small.rsplit('/').next() == Some(lower.as_str())
    };
    if let Some(found) = known.iter().filter(|known| known.contains('/')).find(named) {
        return Some(found.clone());
    }
    let small: Vec<String> = known.iter().map(|known| known.to_lowercase()).collect();
    let near = nearest(&lower, small.iter().map(String::as_str))?;
    let at = small.iter().position(|known| known == near)?;
    known.get(at).cloned()
}

/// The zone of a fixed distance from UTC, in whole hours; the database counts them the other way round.
fn offset(written: &str) -> Option<String> {
    let (sign, digits) = match written.split_at_checked(1)? {
        ("+", digits) => ('-', digits),
        ("-", digits) => ('+', digits),
        _ => return None,
    };
    let hours: u8 = digits.strip_suffix(":00").unwrap_or(digits).parse().ok()?;
    (hours <= 14).then(|| if hours == 0 { "UTC".to_owned() } else { format!("Etc/GMT{sign}{hours}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_zone_that_was_meant_is_told() {
        for (written, meant) in [
            ("Berlin", "Europe/Berlin"),
            ("Europe/Belin", "Europe/Berlin"),
            ("Europe/Berlin ", "Europe/Berlin"),
            ("America/New York", "America/New_York"),
            ("new york", "America/New_York"),
            ("UTC+2", "Etc/GMT-2"),
            ("+02:00", "Etc/GMT-2"),
            ("GMT-05:00", "Etc/GMT+5"),
            ("PST", "America/Los_Angeles"),
        ] {
            let told = zone(written).unwrap_err();
            assert_eq!(told, format!("no time zone has this name; did you mean \"{meant}\"?"), "{written}");
            assert!(zone(meant).is_ok(), "{meant}");
        }
        for written in ["", "Mars/Olympus_Mons", "../../etc/passwd", "+99:00", "\u{221e}", &"x".repeat(1000)]
        {
            let told = zone(written).unwrap_err();
            assert!(told.ends_with("write \"UTC\" or one such as \"Europe/Berlin\""), "{written}: {told}");
        }
        for written in ["UTC", "CET", "europe/berlin", "America/Argentina/Buenos_Aires", "Etc/GMT+5"] {
            assert!(zone(written).is_ok(), "{written}");
        }
    }
}
