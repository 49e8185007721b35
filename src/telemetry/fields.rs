//! The fields of a log line without colours, in the form of the subscriber's own formatter (`message key=value …`),
//! at a fraction of its cost: it formats each key and value through layers of styles, and every request has a line.

use std::fmt::{self, Debug};

use tracing::field::{Field, Visit};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::Writer;

/// Writes fields plainly.
pub(super) struct PlainFields;

struct Visitor<'w> {
    writer: Writer<'w>,
    first: bool,
    result: fmt::Result,
}

impl<'w> FormatFields<'w> for PlainFields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut visitor = Visitor { writer, first: true, result: Ok(()) };
        fields.record(&mut visitor);
        visitor.result
    }
}

// === impl Visitor ===

impl Visitor<'_> {
    fn field(&mut self, field: &Field, value: impl FnOnce(&mut Writer<'_>) -> fmt::Result) {
        if self.result.is_err() || field.name().starts_with("log.") {
            return;
        }
        self.result = self.key(field.name()).and_then(|()| value(&mut self.writer));
    }

    fn key(&mut self, name: &str) -> fmt::Result {
        if !std::mem::take(&mut self.first) {
            self.writer.write_char(' ')?;
        }
        if name == "message" {
            return Ok(());
        }
        self.writer.write_str(name.strip_prefix("r#").unwrap_or(name))?;
        self.writer.write_char('=')
    }
}

impl Visit for Visitor<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.field(field, |writer| writer.write_str(value));
        } else if value.bytes().all(is_plain) {
            self.field(field, |writer| {
                writer.write_char('"')?;
                writer.write_str(value)?;
                writer.write_char('"')
            });
        } else {
            self.record_debug(field, &value);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.field(field, |writer| write!(writer, "{value:?}"));
    }
}

/// Whether it is written between quotes as it is.
fn is_plain(byte: u8) -> bool {
    (b' '..=b'~').contains(&byte) && byte != b'"' && byte != b'\\'
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::fmt::MakeWriter;

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Kept {
        type Writer = Kept;
        fn make_writer(&'a self) -> Kept {
            self.clone()
        }
    }

    #[test]
    fn lines_are_those_of_the_subscribers_own_formatter() {
        let written = |plain: bool| {
            let kept = Kept::default();
            let lines = tracing_subscriber::fmt().with_writer(kept.clone()).with_ansi(false).without_time();
            let tell = || {
                let (nothing, some): (Option<u64>, Option<&str>) = (None, Some("x y"));
                tracing::info!(id = "a-1", quoted = "say \"no\"\\\n", umlaut = "ä", nothing, some, "request");
                tracing::warn!(count = 3_u64, less = -1_i64, share = 2.0_f64, tenth = 0.5, yes = true, r#type = ?Some(1));
                tracing::error!(text = %"shown as it is", "{} of {}", 1, 2);
                let span = tracing::info_span!("request", path = "/v1", peer = 7);
                let _inside = span.enter();
                tracing::info!("inside");
            };
            if plain {
                tracing::subscriber::with_default(lines.fmt_fields(PlainFields).finish(), tell);
            } else {
                tracing::subscriber::with_default(lines.finish(), tell);
            }
            String::from_utf8(kept.0.lock().unwrap().clone()).unwrap()
        };
        let plain = written(true);
        assert_eq!(plain, written(false));
        assert_eq!(plain.lines().count(), 4, "{plain}");
    }
}
