//! `tee`: passes requests and answers on as they are, and writes a copy of both to a file, one line of JSON each, for
//! one's own evaluation. What is written is `record.rs`, without what `redact.rs` takes out; headers are not part of it.
//! Writing is `writer.rs`' affair and never that of a request: it is not waited for, and its failures are not told here.

mod file;
mod record;
mod redact;
#[cfg(test)]
mod tests;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use jiff::Timestamp;

use super::recording::Recorder;
use super::{Modifier, Wrapped, explain};
use crate::backend::explain::Decision;
use crate::backend::secrets::Secrets;
use crate::backend::{Call, Frame, Frames, Reply, ReplyBody, ReplyStream};
use crate::dialect::Usage;
use crate::error::ProxyError;
use crate::metrics::ModelMeters;
use record::{Answer, Record};
pub use redact::Media;
use redact::Redact;
pub use writer::Files;
use writer::{How, Writer};

/// The events of a stream take several times the room of what they say.
const EVENTS_TO_TEXT: usize = 4;

/// How a tee is configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The file.
    pub path: PathBuf,
    /// A file of so many bytes is put aside.
    pub max_file: u64,
    /// So many that were put aside are kept.
    pub keep_files: usize,
    /// The most bytes of a request and of an answer that are written.
    pub max_record: usize,
    /// What becomes of the bytes of images and the like.
    pub media: Media,
}

/// A backend whose requests and answers are written down.
pub struct Tee {
    wrapped: Wrapped,
    path: PathBuf,
    max_record: usize,
    writer: Writer,
    clock: fn() -> Timestamp,
}

/// A record that is written once: when it is complete, or when it goes, whatever way.
struct Pending {
    tee: Arc<Tee>,
    received: Instant,
    record: Option<Record>,
}

/// A stream on its way to the client, noted as it goes.
struct Noting {
    stream: ReplyStream,
    recorder: Recorder,
    pending: Pending,
}

// === impl Tee ===

impl Tee {
    /// Over this backend; `secrets` are in no record, `files` are those that other tees write to.
    ///
    /// # Errors
    /// When the pattern of what is secret is none, which tests rule out.
    pub fn new(
        wrapped: Wrapped,
        options: Options,
        secrets: Arc<Secrets>,
        files: &Files,
        clock: fn() -> Timestamp,
    ) -> Result<Self, String> {
        let Options { path, max_file, keep_files, max_record, media } = options;
        let redact = Redact::new(secrets, media)?;
        let meters = wrapped.metrics.tee(&wrapped.about.id);
        let writer = files.writer(path.clone(), How { redact, max_record, max_file, keep_files, meters });
        Ok(Tee { wrapped, path, max_record, writer, clock })
    }

    fn pending(self: &Arc<Self>, call: &Call) -> Pending {
        let record = Record {
            time: (self.clock)(),
            request_id: Arc::clone(&call.request_id),
            client: call.client.clone(),
            request: Arc::clone(&call.request),
            served: None,
            edits: Vec::new(),
            answer: Answer::Nothing,
            usage: Usage::default(),
            outcome: "cancelled",
            error: None,
            latency: Duration::ZERO,
            time_to_first_token: None,
        };
        Pending { tee: Arc::clone(self), received: call.received, record: Some(record) }
    }
}

impl Modifier for Tee {
    fn wrapped(&self) -> &Wrapped {
        &self.wrapped
    }

    fn decide(&self, call: &Call) -> Decision<'_> {
        let why = format!("request and answer are copied to {}", self.path.display());
        explain::handed_on(&self.wrapped.inner, [&self.wrapped.inner], call, vec![why])
    }

    fn forward(self: Arc<Self>, call: Call) -> BoxFuture<'static, Result<Reply, ProxyError>> {
        async move {
            let mut pending = self.pending(&call);
            let mut reply = self.wrapped.inner.ask(&call).await.inspect_err(|error| pending.failed(error))?;
            let Some(record) = &mut pending.record else { return Ok(reply) };
            record.served = Some((Arc::clone(&reply.served.provider), Arc::clone(&reply.served.model)));
            record.edits = reply.served.edits.clone();
            reply.body = match reply.body {
                ReplyBody::Whole { bytes, usage } => {
                    record.answer = Answer::Whole(bytes.clone());
                    pending.ended(usage, None);
                    ReplyBody::Whole { bytes, usage }
                }
                ReplyBody::Stream(stream) => {
                    let time_to_first_token = stream.time_to_first_token;
                    record.time_to_first_token = Some(time_to_first_token);
                    let most = self.max_record.saturating_mul(EVENTS_TO_TEXT);
                    let recorder = Recorder::new(most, Instant::now());
                    ReplyBody::Stream(ReplyStream::made(
                        Noting { stream, recorder, pending },
                        time_to_first_token,
                    ))
                }
            };
            Ok(reply)
        }
        .boxed()
    }

    fn settle(&self) -> BoxFuture<'static, ()> {
        self.writer.settle()
    }
}

// === impl Pending ===

impl Pending {
    fn ended(&mut self, usage: Usage, error: Option<&ProxyError>) {
        if let Some(record) = &mut self.record {
            record.usage = usage;
            record.outcome = "ok";
        }
        if let Some(error) = error {
            self.failed(error);
        }
    }

    fn failed(&mut self, error: &ProxyError) {
        if let Some(record) = &mut self.record {
            record.outcome = error.kind.label();
            record.error = Some(error.message.clone());
            if let (None, Some(provider)) = (&record.served, &error.provider) {
                record.served = Some((Arc::from(provider.as_str()), Arc::from("")));
            }
        }
    }
}

impl Pending {
    /// Hands the record over, once.
    fn write(&mut self) {
        if let Some(mut record) = self.record.take() {
            record.latency = self.received.elapsed();
            self.tee.writer.write(record);
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.write();
    }
}

// === impl Noting ===

impl Frames for Noting {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Frame> {
        let Poll::Ready(frame) = self.stream.poll_frame(cx) else { return Poll::Pending };
        match &frame {
            Frame::Data(bytes) => self.recorder.note(bytes, Instant::now()),
            Frame::End(end) => {
                self.pending.ended(end.usage, end.error.as_ref());
                self.write();
            }
        }
        Poll::Ready(frame)
    }

    fn shut_down(&mut self) {
        self.stream.shut_down();
    }

    fn may_be_continued(&self) -> bool {
        self.stream.may_be_continued()
    }

    fn answering(&self) -> Option<Arc<ModelMeters>> {
        self.stream.answering()
    }
}

impl Noting {
    /// Hands the record over with what was noted.
    fn write(&mut self) {
        let cut = self.recorder.overflowed();
        let (events, _) = self.recorder.take();
        if let Some(record) = &mut self.pending.record {
            record.answer = Answer::Events { events, cut };
        }
        self.pending.write();
    }
}

impl Drop for Noting {
    fn drop(&mut self) {
        // One that came to its end is written.
        if self.pending.record.is_some() {
            self.write();
        }
    }
}
