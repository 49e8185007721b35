//! Logs: one subscriber, composed from the configuration, writing lines to stderr.
//! The request's root span is quiet at the default level; the one line per request is an event of its own.

mod clock;
mod fields;
mod lines;

use std::io;
use std::str::FromStr;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::{Error, HttpMessage};
use tracing::{Span, Subscriber};
use tracing_actix_web::{RequestId, RootSpanBuilder};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, Registry, reload};

use crate::config::settings::Log;

pub use lines::{Farewell, Lines};

/// A subscriber of whatever it is composed of.
type Composed = Box<dyn Subscriber + Send + Sync>;

/// What is logged, while the daemon runs. The default is of a process that has no subscriber of ours.
#[derive(Clone, Default)]
pub struct Level(Option<reload::Handle<Targets, Registry>>);

/// Builds the root span of a request: at debug level, so that it costs nothing by default.
pub struct RootSpan;

impl RootSpanBuilder for RootSpan {
    fn on_request_start(request: &ServiceRequest) -> Span {
        // Not the library's own: that costs some microseconds even when it is off, and names the query, in which
        // careless clients put keys.
        let id = request.extensions().get::<RequestId>().copied();
        tracing::debug_span!(
            "request",
            request_id = id.map(|id| id.simple().to_string()),
            method = %request.method(),
            path = request.path(),
            peer = request.peer_addr().map(tracing::field::display),
        )
    }

    fn on_request_end<B: MessageBody>(_span: Span, _outcome: &Result<ServiceResponse<B>, Error>) {
        // The answer's end is told by the request's record, which knows when the last byte was taken.
    }
}

impl Level {
    /// From now on this is logged.
    ///
    /// # Errors
    /// When the level cannot be read.
    pub fn set(&self, level: &str) -> Result<(), String> {
        let filter = filter(level)?;
        match &self.0 {
            Some(handle) => handle.reload(filter).map_err(|error| error.to_string()),
            None => Ok(()),
        }
    }
}

/// Reads a level (`info`) or `target=level` pairs.
///
/// # Errors
/// A sentence that names the text.
pub fn filter(level: &str) -> Result<Targets, String> {
    // The server library tells at `info` what our own lines tell already.
    let quiet = Targets::new()
        .with_target("actix_server", LevelFilter::WARN)
        .with_target("actix_http", LevelFilter::WARN);
    let named =
        Targets::from_str(level).map_err(|error| format!("log level `{level}` cannot be read: {error}"))?;
    let mut filter = quiet.with_default(named.default_level().unwrap_or(LevelFilter::OFF));
    for (target, level) in named.iter() {
        filter = filter.with_target(target, level);
    }
    Ok(filter)
}

/// Composes the subscriber: what is logged, in which form, to where.
///
/// # Errors
/// When the level cannot be read.
pub fn subscriber<W>(log: &Log, writer: W, colours: bool) -> Result<(Composed, Level), String>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(filter(&log.level)?);
    // A stderr that nobody reads any more (`demuxai 2>&1 | head`) is no reason to fall: by default the layer would
    // complain of it on stderr, and panic.
    let lines =
        tracing_subscriber::fmt::layer().with_writer(writer).with_target(false).log_internal_errors(false);
    let layer: Box<dyn Layer<Registry> + Send + Sync> = if log.json {
        Box::new(lines.json().flatten_event(true).with_filter(filter))
    } else if colours {
        Box::new(lines.with_ansi(true).with_filter(filter))
    } else {
        Box::new(
            lines
                .with_timer(clock::Clock)
                .with_ansi(false)
                .fmt_fields(fields::PlainFields)
                .with_filter(filter),
        )
    };
    Ok((Box::new(Registry::default().with(layer)), Level(Some(handle))))
}

/// Makes the subscriber the process's own. The last lines are written when the result is dropped.
///
/// # Errors
/// When the level cannot be read, or a subscriber is there already.
pub fn install(log: &Log) -> Result<(Farewell, Level), String> {
    let colours = io::IsTerminal::is_terminal(&io::stderr());
    let (lines, farewell) = Lines::start(io::stderr()).map_err(|error| error.to_string())?;
    let (subscriber, level) = subscriber(log, lines, colours)?;
    tracing::subscriber::set_global_default(subscriber).map_err(|error| error.to_string())?;
    Ok((farewell, level))
}

#[cfg(test)]
mod tests {
    use tracing::Level as Severity;

    use super::*;

    #[test]
    fn the_server_library_is_quiet_unless_it_is_named() {
        let library = "actix_server::worker";
        let usual = filter("info").unwrap();
        assert!(usual.would_enable("demuxai::server", &Severity::INFO));
        assert!(
            usual.would_enable(library, &Severity::WARN) && !usual.would_enable(library, &Severity::INFO)
        );
        assert!(usual.would_enable("actix_http::h1", &Severity::WARN));
        let named = filter("info,actix_server=debug").unwrap();
        assert!(named.would_enable(library, &Severity::DEBUG));
    }
}
