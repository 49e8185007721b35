//! Relays a streamed answer: upstream's bytes in, whole events for the client out, in normalised framing.
//! No clock and no channel: who pumps, who waits and who gives up is decided elsewhere.

#[cfg(test)]
mod tests;

use bytes::Bytes;

use super::Usage;
use super::choices::{Choices, Form, bit_of, read_choices};
use super::rewrite::{Marks, Parts, Rewrite, in_band_error};
use crate::error::{ErrorKind, ProxyError};
use crate::wire::json::{JsonError, Span, is_null, scan_spans};
use crate::wire::splice::Edits;
use crate::wire::sse;

/// The last event of every complete stream.
pub const DONE_EVENT: &[u8] = b"data: [DONE]\n\n";

/// What the relay does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// One event for the client.
    Event {
        /// `data: …` with its blank line.
        bytes: Bytes,
        /// It has content, a tool call, reasoning or a finish reason: with the first of these the stream commits.
        semantic: bool,
    },
    /// The stream is complete: the client gets [`DONE_EVENT`]. Nothing follows.
    Done,
    /// The stream failed: an error inside it, garbage, or its end before it was complete. Nothing follows.
    Failed(ProxyError),
}

/// The state of one stream. Push chunks, take steps until there are none, push again; at the upstream's end call
/// [`StreamRewriter::finish`] and take the last steps.
///
/// - Events are changed as [`Rewrite`] says; a payload of several lines stays one of several lines.
/// - An error object, `event: error`, or the finish reason `error` without content ends it ([`ErrorKind::UpstreamInBand`]).
/// - A payload that is no JSON object, or an event over 8 MiB, ends it ([`ErrorKind::UpstreamProtocol`]).
/// - After `[DONE]` nothing is read any more. Without it, the end of a stream in which every choice had its
///   finish reason is [`Step::Done`] as well, of any other it is [`ErrorKind::Truncated`].
/// - Events without data are dropped.
#[derive(Debug)]
pub struct StreamRewriter {
    plan: Rewrite,
    marks: Marks,
    decoder: sse::Decoder,
    spans: Vec<Span>,
    progress: Progress,
    /// One bit for each choice that was seen, and for each that has its finish reason.
    choices_seen: u128,
    choices_ended: u128,
    done_seen: bool,
    semantic_events: u64,
    usage: Usage,
    /// One bit for each choice that got its role.
    roles_given: u128,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// More may come.
    Open,
    /// Upstream's end is known; what was pushed is still being read.
    Ending,
    /// The last event, whose blank line never came, was read.
    Ended,
    /// The last step was given.
    Over,
}

impl StreamRewriter {
    /// The rewriter of a stream that has not begun.
    pub fn new(plan: Rewrite) -> Self {
        StreamRewriter {
            marks: Marks::new(&plan.provider),
            plan,
            decoder: sse::Decoder::default(),
            spans: Vec::with_capacity(16),
            progress: Progress::Open,
            choices_seen: 0,
            choices_ended: 0,
            done_seen: false,
            semantic_events: 0,
            usage: Usage::default(),
            roles_given: 0,
        }
    }

    /// Takes the next bytes of the upstream.
    pub fn push(&mut self, chunk: Bytes) {
        if self.progress == Progress::Open {
            self.decoder.push(chunk);
        }
    }

    /// Tells that the upstream's body ended in good order. A body that broke off is the caller's error to report.
    pub fn finish(&mut self) {
        if self.progress == Progress::Open {
            self.progress = Progress::Ending;
        }
    }

    /// The next step, or `None` until more is pushed; after [`Step::Done`] and [`Step::Failed`] always `None`.
    pub fn next_step(&mut self) -> Option<Step> {
        loop {
            let decoded = match self.progress {
                Progress::Over => return None,
                Progress::Ended => return Some(self.conclude()),
                Progress::Open | Progress::Ending => self.decoder.next_event(),
            };
            let decoded = match decoded {
                Ok(None) if self.progress == Progress::Open => return None,
                Ok(None) => {
                    self.progress = Progress::Ended;
                    self.decoder.finish()
                }
                other => other,
            };
            let step = match decoded {
                Ok(Some(event)) => self.relay(&event),
                Ok(None) => None,
                Err(error) => {
                    Some(self.fail(ErrorKind::UpstreamProtocol, format!("sent too much at once: {error}")))
                }
            };
            if step.is_some() {
                return step;
            }
        }
    }

    /// Whether a finish reason came for every choice that was seen.
    pub fn finish_seen(&self) -> bool {
        self.choices_ended != 0 && self.choices_seen & !self.choices_ended == 0
    }

    /// Whether the upstream sent `[DONE]`.
    pub fn done_seen(&self) -> bool {
        self.done_seen
    }

    /// How many semantic events were given so far.
    pub fn semantic_events(&self) -> u64 {
        self.semantic_events
    }

    /// The token counts reported so far: the last ones that were not zero.
    pub fn usage(&self) -> Usage {
        self.usage
    }

    fn conclude(&mut self) -> Step {
        if self.finish_seen() {
            self.progress = Progress::Over;
            return Step::Done;
        }
        self.fail(ErrorKind::Truncated, "ended the stream before the answer was complete".to_owned())
    }

    fn fail(&mut self, kind: ErrorKind, what: String) -> Step {
        self.progress = Progress::Over;
        let provider = &self.plan.provider;
        Step::Failed(ProxyError::new(kind, format!("`{provider}` {what}")).at(provider))
    }

    /// `None` when the event is not for the client.
    fn relay(&mut self, event: &sse::Event) -> Option<Step> {
        let payload = &event.data;
        let trimmed = payload.trim_ascii();
        if trimmed.is_empty() {
            return None;
        }
        if trimmed == b"[DONE]" {
            self.done_seen = true;
            self.progress = Progress::Over;
            return Some(Step::Done);
        }
        let named_error = event.name.as_deref() == Some(b"error");
        if let Err(error) = scan_spans(payload, &mut self.spans) {
            return Some(self.refuse(payload, named_error, error));
        }
        let mut edits = Edits::new();
        let parts = Parts::read(payload, &self.spans, &self.marks, &mut edits);
        self.usage.merge(parts.usage(payload));
        let choices =
            parts.choices.clone().map_or_else(Choices::default, |range| read_choices(payload, range));
        if named_error || parts.says_error(payload) || (choices.failed && !choices.content) {
            self.progress = Progress::Over;
            return Some(Step::Failed(in_band_error(&self.plan, payload)));
        }
        if self.plan.strip_usage && is_usage_chunk(payload, &parts, choices) {
            return None;
        }
        self.choices_seen |= choices.seen;
        self.choices_ended |= choices.ended;
        let semantic = choices.content || choices.finished;
        self.semantic_events += u64::from(semantic);
        let roles_given = &mut self.roles_given;
        parts.translate(payload, &self.plan, Form::Chunk, |index| take_role(roles_given, index), &mut edits);
        Some(Step::Event { bytes: framed(edits, payload), semantic })
    }

    /// The step for a payload that is no JSON object.
    fn refuse(&mut self, payload: &Bytes, named_error: bool, error: JsonError) -> Step {
        if named_error {
            self.progress = Progress::Over;
            return Step::Failed(in_band_error(&self.plan, payload));
        }
        let is_cut =
            matches!(error, JsonError::Incomplete { .. }) || b"[DONE]".starts_with(payload.trim_ascii());
        if self.progress == Progress::Ended && is_cut {
            // Upstream ended in the middle of this event; what came before decides.
            return self.conclude();
        }
        self.fail(ErrorKind::UpstreamProtocol, format!("sent an event that cannot be read: {error}"))
    }
}

/// Whether it is the extra chunk that `stream_options.include_usage` asks for: an empty `choices` and a `usage`.
fn is_usage_chunk(payload: &[u8], parts: &Parts, choices: Choices) -> bool {
    let raw = |range: &Option<std::ops::Range<usize>>| range.clone().and_then(|range| payload.get(range));
    !choices.any
        && raw(&parts.choices).is_some_and(|raw| raw.starts_with(b"["))
        && raw(&parts.usage).is_some_and(|raw| !is_null(raw))
}

/// True the first time it is asked for an index. Indices that nobody uses get no role.
fn take_role(given: &mut u128, index: u64) -> bool {
    let bit = bit_of(index);
    let first = bit & !*given != 0;
    *given |= bit;
    first
}

/// The edited payload as an event, with as many `data:` lines as it has lines.
pub(super) fn framed(edits: Edits<'_>, payload: &[u8]) -> Bytes {
    if memchr::memchr(b'\n', payload).is_none() {
        return Bytes::from(edits.apply_between(b"data: ", payload, b"\n\n"));
    }
    let mut event = Vec::with_capacity(payload.len() + 64);
    for line in edits.apply(payload).split(|byte| *byte == b'\n') {
        event.extend_from_slice(b"data: ");
        event.extend_from_slice(line);
        event.push(b'\n');
    }
    event.push(b'\n');
    Bytes::from(event)
}
