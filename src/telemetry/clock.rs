//! The time before a log line, as the subscriber's own clock writes it (RFC 3339, UTC, microseconds), but with the
//! calendar asked only once a second.

use std::cell::RefCell;
use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

/// Writes the time of the system's clock.
pub(super) struct Clock;

thread_local! {
    /// The second that was written last, and its text up to the dot.
    static SECOND: RefCell<(u64, String)> = const { RefCell::new((u64::MAX, String::new())) };
}

impl FormatTime for Clock {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        write_time(SystemTime::now(), writer)
    }
}

fn write_time(now: SystemTime, writer: &mut impl fmt::Write) -> fmt::Result {
    // A clock before 1970 is not worth a branch.
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    SECOND.with_borrow_mut(|(second, text)| {
        if *second != since.as_secs() {
            let stamp = jiff::Timestamp::from_second(i64::try_from(since.as_secs()).unwrap_or(0));
            *text = stamp.unwrap_or_default().strftime("%Y-%m-%dT%H:%M:%S").to_string();
            *second = since.as_secs();
        }
        writer.write_str(text)
    })?;
    let mut digits = *b".000000Z";
    let mut rest = since.subsec_micros();
    for digit in digits.iter_mut().skip(1).take(6).rev() {
        *digit += u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
    }
    writer.write_str(std::str::from_utf8(&digits).unwrap_or(".Z"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn it_writes_what_everybody_writes() {
        let written = |micros: u64| {
            let mut text = String::new();
            write_time(UNIX_EPOCH + Duration::from_micros(micros), &mut text).unwrap();
            text
        };
        assert_eq!(written(0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(written(1_795_824_835_000_042), "2026-11-28T00:13:55.000042Z");
        assert_eq!(written(1_795_824_835_999_999), "2026-11-28T00:13:55.999999Z");
        assert_eq!(written(1_795_824_836_100_000), "2026-11-28T00:13:56.100000Z");
    }
}
