//! `cache`: an answer that was given is given again to whoever asks exactly the same. What may be answered so is
//! `policy.rs`, which requests are the same `identity.rs`; where answers are kept `memory.rs`, and beyond it `disk.rs`.
//!
//! An answer is given as it was, byte for byte: its id and `created` say truly whence and when it is, and a later call
//! with that id goes where it came from. The upstream's headers are not: what they say of limits is long untrue.
//! Nothing is kept but answers that are whole and ended well (`dialect/ending.rs`), of one upstream, and not too large.

mod disk;
mod entry;
mod memory;
mod policy;
mod replay;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::header::{AGE, HeaderValue};
use memchr::memmem;
use tokio::time::Instant;

use super::identity::{Among, identity};
use super::recording::Recorder;
use super::{Modifier, Wrapped, explain};
use crate::backend::explain::{Decision, Own};
use crate::backend::lease::Lease;
use crate::backend::strategy::Availability;
use crate::backend::virtual_model::Memory as Remembered;
use crate::backend::{Call, Frame, Frames, Marks, Outlook, Reply, ReplyBody, ReplyStream, Served};
use crate::dialect::{Ending, Usage};
use crate::error::ProxyError;
use crate::metrics::caching::{CacheMeters, CacheUse};
use crate::metrics::{EndReason, ModelMeters};
use crate::quota::Moment;
use crate::wire::json::Digest;
pub use disk::Disk;
use entry::Entry;
use memory::Memory;
pub(super) use policy::wants_fresh;
use policy::{Verdict, verdict};
pub use replay::Pace;
use replay::Replay;

/// What an answer has in it that one upstream began and another one went on with: two models' words.
const STITCHED: &[u8] = b"\"x_demuxai\":{\"continued_by\":";

/// How a cache is configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// How long an answer is good.
    pub ttl: Duration,
    /// The most bytes in memory.
    pub memory: usize,
    /// The most bytes of one answer.
    pub max_entry: usize,
    /// Keeps answers that would be others the next time, too.
    pub all: bool,
    /// Whose answers are given to whom.
    pub among: Among,
    /// How streams are given again.
    pub pace: Pace,
}

/// A backend that answers from what it was answered.
pub struct Cache {
    wrapped: Wrapped,
    options: Options,
    kept: Arc<Kept>,
    clock: fn() -> Moment,
    meters: CacheMeters,
}

/// What is kept, and is known again when the configuration is reloaded and has the cache unchanged.
pub struct Kept {
    memory: Mutex<Memory>,
    disk: Option<Disk>,
}

/// A stream on its way to the client that may be kept when it is whole.
struct Keeping {
    stream: ReplyStream,
    recorder: Recorder,
    ending: Ending,
    /// Who keeps it, under which key, and what of it is known already.
    keeper: Option<(Arc<Cache>, Digest, Entry)>,
}

// === impl Cache ===

impl Cache {
    /// Over this backend; `clock` tells the time by the wall, since answers on disk outlive the process.
    pub fn new(wrapped: Wrapped, options: Options, disk: Option<Disk>, clock: fn() -> Moment) -> Self {
        let memory = Mutex::new(Memory::new(options.memory));
        Self::over(wrapped, options, Arc::new(Kept { memory, disk }), clock)
    }

    /// The same with what one before it kept, whose options were these.
    pub fn over(wrapped: Wrapped, options: Options, kept: Arc<Kept>, clock: fn() -> Moment) -> Self {
        let meters = wrapped.metrics.cache(&wrapped.about.id);
        let cache = Cache { wrapped, options, kept, clock, meters };
        cache.tell_size(&cache.in_memory());
        cache
    }

    fn tell_size(&self, memory: &Memory) {
        self.meters.holds(memory.len(), memory.bytes());
    }

    fn verdict(&self, call: &Call) -> Verdict {
        // Who goes on with another's answer does not begin anew.
        if call.so_far.is_some() {
            return Verdict::Bypass;
        }
        let headers = call.arrival.as_ref().map_or(&[][..], |arrival| &arrival.headers);
        verdict(&call.request, headers, self.options.all)
    }

    fn key(&self, call: &Call) -> Digest {
        let below = self.wrapped.inner.call(call, None);
        let Wrapped { about, inner, below: print, .. } = &self.wrapped;
        // Answers on disk outlive the configuration that they came of.
        let scope = [about.id.as_bytes(), inner.label.as_bytes(), print.as_bytes()];
        identity(&scope, &below, self.options.among)
    }

    /// Whether an answer may still be given.
    fn is_good(&self, entry: &Entry, max_age: Option<Duration>) -> bool {
        self.is_good_at((self.clock)(), entry, max_age)
    }

    fn is_good_at(&self, now: Moment, entry: &Entry, max_age: Option<Duration>) -> bool {
        let most = max_age.map_or(self.options.ttl, |limit| limit.min(self.options.ttl));
        entry.age(now).is_some_and(|age| age < most)
    }

    fn in_memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.kept.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn find(&self, key: &Digest, max_age: Option<Duration>) -> Option<Arc<Entry>> {
        if max_age.is_some_and(|limit| limit.is_zero()) {
            return None;
        }
        // One that is too old for this client is not for the next one.
        let found = self.in_memory().find(key, |entry| self.is_good(entry, None));
        if let Some(found) = found {
            return self.is_good(&found, max_age).then_some(found);
        }
        let found = Arc::new(self.kept.disk.as_ref()?.find(key).await?);
        if !self.is_good(&found, max_age) {
            return None;
        }
        self.put(*key, Arc::clone(&found));
        Some(found)
    }

    fn put(&self, key: Digest, entry: Arc<Entry>) {
        let mut memory = self.in_memory();
        memory.put(key, entry);
        self.tell_size(&memory);
    }

    /// Keeps an answer, here and on disk.
    fn keep(&self, key: Digest, entry: Entry) {
        let entry = Arc::new(entry);
        if let Some(disk) = &self.kept.disk {
            disk.keep(key, Arc::clone(&entry), self.options.ttl);
        }
        self.put(key, entry);
    }

    fn counted(&self, how: CacheUse, call: &Call) {
        how.emit(&self.wrapped.metrics, &self.wrapped.about.id, &call.request_id);
    }

    /// A kept answer as a reply.
    fn replay(&self, entry: Arc<Entry>, call: &Call) -> Reply {
        self.meters.saved(entry.usage);
        let age = entry.age((self.clock)()).unwrap_or_default();
        let (model, usage) = (Arc::from(entry.model.as_str()), entry.usage);
        let edits = call.edits.iter().chain(&entry.edits).cloned().collect();
        let body = match entry.pieces {
            None => ReplyBody::Whole { bytes: entry.bytes.clone(), usage },
            Some(_) => {
                let frames = Replay::new(entry, self.options.pace);
                ReplyBody::Stream(ReplyStream::made(frames, call.received.elapsed()))
            }
        };
        let id = &self.wrapped.about.id;
        let served = Served {
            provider: Arc::clone(id),
            model,
            edits,
            attempts: Vec::new(),
            meters: self.wrapped.metrics.meters(id, id),
            marks: Marks { cache: Some(CacheUse::Hit), share: None },
        };
        Reply {
            status: 200,
            headers: vec![(AGE, HeaderValue::from(age.as_secs()))],
            body,
            served,
            waited: Duration::ZERO,
            lease: Lease::nothing(),
        }
    }

    /// The reply on its way, kept when it is whole if it can be; `above`: so many changes of the request were made before
    /// it came here, which are none of the answer's.
    fn keeping(self: Arc<Self>, key: Digest, reply: Reply, above: usize) -> Reply {
        let mut reply = reply;
        if reply.status != 200 {
            return reply;
        }
        let served = &reply.served;
        let entry = |bytes: Bytes, usage: Usage| Entry {
            made: (self.clock)(),
            bytes,
            pieces: None,
            model: served.model.to_string(),
            edits: served.edits.iter().skip(above).cloned().collect(),
            usage,
        };
        reply.body = match reply.body {
            ReplyBody::Whole { bytes, usage } => {
                if bytes.len() <= self.options.max_entry && Ending::of(&bytes).is_good() {
                    // The answer's own buffer may be a part of a larger one.
                    self.keep(key, entry(Bytes::copy_from_slice(&bytes), usage));
                }
                ReplyBody::Whole { bytes, usage }
            }
            ReplyBody::Stream(stream) => {
                let time_to_first_token = stream.time_to_first_token;
                let entry = entry(Bytes::new(), Usage::default());
                let keeping = Keeping {
                    stream,
                    recorder: Recorder::new(self.options.max_entry, Instant::now().into_std()),
                    ending: Ending::default(),
                    keeper: Some((self, key, entry)),
                };
                ReplyBody::Stream(ReplyStream::made(keeping, time_to_first_token))
            }
        };
        reply
    }
}

impl Modifier for Cache {
    fn wrapped(&self) -> &Wrapped {
        &self.wrapped
    }

    fn forward(self: Arc<Self>, call: Call) -> BoxFuture<'static, Result<Reply, ProxyError>> {
        async move {
            let Verdict::Keep { max_age } = self.verdict(&call) else {
                self.counted(CacheUse::Bypass, &call);
                let mut reply = self.wrapped.inner.ask(&call).await?;
                reply.served.marks.cache.get_or_insert(CacheUse::Bypass);
                return Ok(reply);
            };
            let key = self.key(&call);
            if let Some(entry) = self.find(&key, max_age).await {
                self.counted(CacheUse::Hit, &call);
                return Ok(self.replay(entry, &call));
            }
            self.counted(CacheUse::Miss, &call);
            let mut reply = self.wrapped.inner.ask(&call).await?;
            // One below that has it counts for all.
            if reply.served.marks.cache != Some(CacheUse::Hit) {
                reply.served.marks.cache = Some(CacheUse::Miss);
            }
            Ok(self.keeping(key, reply, call.edits.len()))
        }
        .boxed()
    }

    /// What is in memory can be had whatever the backend below can do.
    fn outlook(&self, call: &Call) -> Result<Outlook, String> {
        let outlook = self.wrapped.inner.outlook(call);
        if outlook.as_ref().is_ok_and(|outlook| outlook.availability == Availability::Now) {
            return outlook;
        }
        let Verdict::Keep { max_age } = self.verdict(call) else { return outlook };
        let now = call.moment().unwrap_or_else(self.clock);
        let has = self.in_memory().peek(&self.key(call), |entry| self.is_good_at(now, entry, max_age));
        if has.is_none() {
            return outlook;
        }
        Ok(Outlook {
            model: Arc::clone(&call.model),
            availability: Availability::Now,
            share_left: 1.0,
            next_reset: None,
            in_flight: 0,
        })
    }

    fn decide(&self, call: &Call) -> Decision<'_> {
        let inner = &self.wrapped.inner;
        let passed = |why: &str| explain::handed_on(inner, [inner], call, vec![why.to_owned()]);
        let Verdict::Keep { max_age } = self.verdict(call) else {
            return passed(
                "is passed by (bypass): the answer would be another one the next time (no `temperature` of 0, no `seed`, \
                 no `x-demuxai-cache: use`), or the client keeps it out",
            );
        };
        if max_age.is_some_and(|limit| limit.is_zero()) {
            return passed(
                "is asked for nothing kept (miss): the client wants a fresh answer, which is then kept",
            );
        }
        let now = call.moment().unwrap_or_else(self.clock);
        let found = self.in_memory().peek(&self.key(call), |entry| self.is_good_at(now, entry, max_age));
        if let Some(entry) = found {
            let age = entry.age(now).unwrap_or_default().as_secs();
            let why = format!("has the answer in memory (hit), from {age} s ago");
            let own = Own::Answers(Arc::from(entry.model.as_str()));
            return explain::kept([inner], call, vec![why], own);
        }
        match &self.kept.disk {
            None => passed("has no answer to it (miss), and keeps the one that comes"),
            Some(_) => {
                let why =
                    "has no answer to it in memory; its file, which is not looked at here, may have one";
                Decision { sure: false, ..passed(why) }
            }
        }
    }

    fn reads_arrival(&self) -> bool {
        true
    }

    fn memory(&self) -> Option<Remembered> {
        Some(Arc::clone(&self.kept) as Remembered)
    }

    fn settle(&self) -> BoxFuture<'static, ()> {
        match &self.kept.disk {
            Some(disk) => disk.settle(),
            None => std::future::ready(()).boxed(),
        }
    }
}

// === impl Keeping ===

impl Frames for Keeping {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Frame> {
        let Poll::Ready(frame) = self.stream.poll_frame(cx) else { return Poll::Pending };
        match &frame {
            _ if self.keeper.is_none() => {}
            Frame::Data(bytes) => {
                self.recorder.note(bytes, Instant::now().into_std());
                self.ending.note_events(bytes);
                if self.recorder.overflowed() {
                    self.recorder.take();
                    self.keeper = None;
                }
            }
            Frame::End(end) => {
                let good = end.error.is_none() && end.reason == EndReason::Done && self.ending.is_good();
                let (bytes, pieces) = self.recorder.take();
                let stitched = memmem::find(&bytes, STITCHED).is_some();
                if let Some((cache, key, entry)) = self.keeper.take()
                    && good
                    && !stitched
                {
                    cache.keep(key, Entry { bytes, pieces: Some(pieces), usage: end.usage, ..entry });
                }
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
