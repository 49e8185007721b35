//! Lengths of time and numbers of bytes as people write them. Pure.

use std::time::Duration;

use crate::quota::Period;

use super::spec::{Size, Span};

/// What a length of time may look like, for messages.
const SPAN_FORMS: &str = "write seconds as a number, or text such as \"90s\", \"5m\", \"500ms\", \"1h30m\"";
/// What is said of a length of time below zero.
const NEGATIVE: &str = "must not be negative";
/// What a size may look like, for messages.
const SIZE_FORMS: &str = "write bytes as a number, or text such as \"64MB\"";

/// A length of time of at most a thousand years, so that it can always be computed with.
///
/// # Errors
/// A sentence for text that is none, for a negative number and for one that is too large.
pub(crate) fn span(written: &Span) -> Result<Duration, String> {
    match written {
        Span::Seconds(seconds) => from_seconds(*seconds),
        Span::Text(text) => {
            if text.trim_start().strip_prefix('-').is_some_and(|rest| from_text(rest.trim()).is_some()) {
                return Err(NEGATIVE.to_owned());
            }
            from_text(text.trim()).ok_or_else(|| format!("not a length of time; {SPAN_FORMS}"))?
        }
    }
}

fn from_seconds(seconds: f64) -> Result<Duration, String> {
    if seconds < 0.0 {
        return Err(NEGATIVE.to_owned());
    }
    let most = 1000.0 * 366.0 * 86_400.0;
    let fitting = Some(seconds).filter(|seconds| *seconds <= most);
    fitting
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| "is too long".to_owned())
}

/// `None` when the text is no length of time.
fn from_text(text: &str) -> Option<Result<Duration, String>> {
    if let Some(seconds) = number(text) {
        return Some(from_seconds(seconds));
    }
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (amount, behind) = rest.split_at_checked(digits)?;
        let unit_end = behind.find(|c: char| c.is_ascii_digit()).unwrap_or(behind.len());
        let (unit, next) = behind.split_at_checked(unit_end)?;
        total += number(amount)? * unit_seconds(unit.trim())?;
        rest = next;
    }
    (!text.is_empty()).then(|| from_seconds(total))
}

/// Plain decimal digits with at most one point; not what else `f64` can read (`inf`, `1e9`).
fn number(text: &str) -> Option<f64> {
    let plain = !text.is_empty() && text.len() <= 20 && text.chars().all(|c| c.is_ascii_digit() || c == '.');
    plain.then(|| text.parse().ok()).flatten()
}

fn unit_seconds(unit: &str) -> Option<f64> {
    Some(match unit {
        "ms" => 0.001,
        "s" | "sec" | "secs" | "second" | "seconds" => 1.0,
        "m" | "min" | "mins" | "minute" | "minutes" => 60.0,
        "h" | "hr" | "hrs" | "hour" | "hours" => 3600.0,
        "d" | "day" | "days" => 86_400.0,
        "w" | "week" | "weeks" => 7.0 * 86_400.0,
        _ => return None,
    })
}

/// A number of bytes; KB, MB and GB count in steps of 1024.
///
/// # Errors
/// A sentence for text that is none and for a number that is too large.
pub(crate) fn size(written: &Size) -> Result<u64, String> {
    let text = match written {
        Size::Bytes(bytes) => return Ok(*bytes),
        Size::Text(text) => text.trim(),
    };
    let unknown = || format!("not a number of bytes; {SIZE_FORMS}");
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (amount, unit) = text.split_at_checked(digits).ok_or_else(unknown)?;
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1024,
        "m" | "mb" | "mib" => 1024 * 1024,
        "g" | "gb" | "gib" => 1024 * 1024 * 1024,
        "t" | "tb" | "tib" => 1024 * 1024 * 1024 * 1024,
        _ => return Err(unknown()),
    };
    if amount.is_empty() {
        return Err(unknown());
    }
    let bytes = amount.parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
    bytes.ok_or_else(|| "is too large".to_owned())
}

/// A number of bytes as people write it: in the largest unit that goes in evenly.
pub(crate) fn shown_size(bytes: u64) -> String {
    let units = [("GB", 1024 * 1024 * 1024), ("MB", 1024 * 1024), ("KB", 1024)];
    let even = units.iter().find(|(_, factor)| bytes >= *factor && bytes.is_multiple_of(*factor));
    even.map_or_else(|| format!("{bytes} bytes"), |(unit, factor)| format!("{} {unit}", bytes / factor))
}

/// A length of time as people write it: in the largest unit that goes in evenly.
pub(crate) fn shown_span(length: Duration) -> String {
    let units = [
        ("days", 2 * 86_400_000, 86_400_000),
        ("h", 3_600_000, 3_600_000),
        ("min", 60_000, 60_000),
        ("s", 1000, 1000),
    ];
    let millis = length.as_millis();
    let even = units.iter().find(|(_, least, unit)| millis >= *least && millis.is_multiple_of(*unit));
    even.map_or_else(|| format!("{millis} ms"), |(name, _, unit)| format!("{} {name}", millis / unit))
}

/// Whether a text names the window of a limit: a word, or a length of 1 second to 366 days.
pub(crate) fn is_window(text: &str) -> bool {
    matches!(Period::read(text), Some(Period::Millis(_) | Period::Month))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(written: &str) -> Result<Duration, String> {
        span(&Span::Text(written.to_owned()))
    }

    #[test]
    fn lengths_of_time_have_many_forms() {
        let cases = [("90s", 90_000), ("5m", 300_000), ("500ms", 500), ("1h30m", 5_400_000), ("1.5s", 1500)];
        for (written, millis) in
            cases.into_iter().chain([("2d", 172_800_000), ("10 s", 10_000), ("30", 30_000)])
        {
            assert_eq!(text(written), Ok(Duration::from_millis(millis)), "{written}");
        }
        assert_eq!(span(&Span::Seconds(0.25)), Ok(Duration::from_millis(250)));
    }

    #[test]
    fn what_is_no_length_of_time_is_refused() {
        assert_eq!(text("-5s").unwrap_err(), "must not be negative");
        for written in ["", "s", "fast", "5x", "5m3", "-5s", "-", "--5s", "1..5s", "1e9", "inf", "NaN", "５s"]
        {
            assert!(text(written).is_err(), "{written}");
        }
        assert_eq!(span(&Span::Seconds(-1.0)).unwrap_err(), "must not be negative");
        assert!(span(&Span::Seconds(f64::NAN)).is_err());
        assert_eq!(text("99999999999999999999").unwrap_err(), "is too long");
        assert_eq!(text("99999999999999999999d").unwrap_err(), "is too long");
    }

    #[test]
    fn lengths_of_time_are_shown_in_the_largest_unit() {
        let shown = |millis| shown_span(Duration::from_millis(millis));
        assert_eq!(
            [1, 1500, 60_000, 86_400_000, 366 * 86_400_000].map(shown),
            ["1 ms", "1500 ms", "1 min", "24 h", "366 days"]
        );
    }

    #[test]
    fn sizes_count_in_steps_of_1024() {
        let size = |written: &str| size(&Size::Text(written.to_owned()));
        assert_eq!(size("64MB"), Ok(64 * 1024 * 1024));
        assert_eq!(size("64 mib"), Ok(64 * 1024 * 1024));
        assert_eq!(size("1k"), Ok(1024));
        assert_eq!(size("77"), Ok(77));
        assert_eq!(size("1TB"), Ok(1 << 40));
        for written in ["", "MB", "1PB", "1.5MB", "-1"] {
            assert!(size(written).is_err(), "{written}");
        }
        assert_eq!(size("99999999999GB").unwrap_err(), "is too large");
    }

    #[test]
    fn windows_are_words_or_bounded_lengths() {
        for written in ["minute", "hour", "day", "week", "month", "5h", "30s", "1d12h"] {
            assert!(is_window(written), "{written}");
        }
        for written in ["", "60", "fortnight", "minutes", "500ms", "0s", "400d", "Minute"] {
            assert!(!is_window(written), "{written}");
        }
    }
}
