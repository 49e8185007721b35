//! The meter of one streamed answer: times, tokens and how it ended, told once when it is over or dropped.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::events::{AttemptEnded, StreamEnded, StreamStarted};
use super::{EndReason, ModelMeters};
use crate::dialect::Usage;

/// Meters one stream from its first semantic event on; settles when dropped, on whatever side.
pub struct StreamMeter {
    meters: Arc<ModelMeters>,
    model: Arc<str>,
    first: Instant,
    last: Instant,
    time_to_first_token: Duration,
    end: Option<(EndReason, Usage)>,
}

// === impl StreamMeter ===

impl StreamMeter {
    /// Starts metering at the first semantic event; `model` is the one that was asked for.
    pub(crate) fn start(meters: Arc<ModelMeters>, model: Arc<str>, received: Instant) -> Self {
        let first = Instant::now();
        let time_to_first_token = first.saturating_duration_since(received);
        StreamStarted { meters: &meters, time_to_first_token }.emit();
        StreamMeter { meters, model, first, last: first, time_to_first_token, end: None }
    }

    /// Request fully read → first semantic event.
    pub(crate) fn time_to_first_token(&self) -> Duration {
        self.time_to_first_token
    }

    /// Notes that an event passed.
    pub(crate) fn event(&mut self) {
        self.last = Instant::now();
    }

    /// Notes that an event passed at that time.
    pub(crate) fn event_at(&mut self, at: Instant) {
        self.last = self.last.max(at);
    }

    /// How long ago the last event passed.
    pub(crate) fn quiet(&self) -> Duration {
        self.last.elapsed()
    }

    /// Whether it is known how the stream ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.end.is_some()
    }

    /// Notes how the stream ended.
    pub(crate) fn ended(&mut self, reason: EndReason, usage: Usage) {
        self.end = Some((reason, usage));
    }
}

impl Drop for StreamMeter {
    fn drop(&mut self) {
        let (reason, usage) = self.end.unwrap_or((EndReason::Cancelled, Usage::default()));
        let span = self.last.saturating_duration_since(self.first);
        StreamEnded { meters: &self.meters, reason, span, usage }.emit();
        let failure = match reason {
            EndReason::Done => None,
            EndReason::Cancelled | EndReason::StalledReader | EndReason::Shutdown => Some(("cancelled", "")),
            _ => Some((reason.label(), "stream did not end well")),
        };
        AttemptEnded { meters: &self.meters, model: &self.model, failure }.emit();
    }
}
