//! What tests of modifiers need: calls, and a backend that does as it is told on paused time and says what became of it.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::header::{HeaderName, HeaderValue};
use tokio::time::{Sleep, sleep};

use super::{Modifier, Wrapped};
use crate::backend::arrival::Arrival;
use crate::backend::group::Member;
use crate::backend::lease::{Hold, Lease};
use crate::backend::strategy::Availability;
use crate::backend::virtual_model::{About, Section};
use crate::backend::{
    Backend, Call, Frame, Frames, Marks, Outlook, Reply, ReplyBody, ReplyStream, Served, StreamEnd,
};
use crate::dialect::{CHAT_COMPLETIONS, Endpoint, Usage, read};
use crate::error::{ErrorKind, ProxyError};
use crate::metrics::{EndReason, Metrics, ModelMeters};
use crate::wire::json::Digester;

/// What an answer is said to have cost.
pub(super) const USAGE: Usage = Usage { input: Some(3), output: Some(2), reasoning: None, cached: None };

/// A plain answer that is good.
pub(super) const WHOLE: &str =
    r#"{"id":"c1@up","choices":[{"index":0,"message":{"content":"hi"},"finish_reason":"stop"}]}"#;

/// A chat request with these fields beside its model.
pub(in crate::backend) fn call(fields: &str) -> Call {
    call_at(&CHAT_COMPLETIONS, fields)
}

/// A request to this endpoint.
pub(super) fn call_at(endpoint: &Endpoint, fields: &str) -> Call {
    let body = Bytes::from(format!(r#"{{"model":"asked",{fields}}}"#));
    Call::bare(read(endpoint, body).unwrap(), "m")
}

/// The same request with a header.
pub(super) fn with_header(mut call: Call, name: &'static str, value: &'static str) -> Call {
    let header = (HeaderName::from_static(name), HeaderValue::from_static(value));
    call.arrival = Some(Arc::new(Arrival::new(Arc::from("l"), "/v1/chat/completions", vec![header])));
    call
}

/// A chunk of a stream that says this.
pub(super) fn chunk(text: &str) -> String {
    let choice = serde_json::json!({"index": 0, "delta": {"content": text}, "finish_reason": null});
    format!("data: {}\n\n", serde_json::json!({"id": "c1@up", "choices": [choice]}))
}

/// The events that end a stream.
pub(super) fn finish() -> String {
    "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n"
        .to_owned()
}

/// What the backend is to answer.
#[derive(Clone)]
pub(super) enum Script {
    /// An error, after a while.
    Fail(Duration, ErrorKind),
    /// A plain answer, after a while.
    Whole(Duration, String),
    /// A stream: each piece after its pause, then the end.
    Stream(Vec<(Duration, String)>, Option<ErrorKind>),
}

/// A stream that says "hello" in two words, the second after a second.
pub(super) fn hello() -> Script {
    Script::Stream(
        vec![
            (Duration::ZERO, chunk("hel")),
            (Duration::from_secs(1), chunk("lo")),
            (Duration::ZERO, finish()),
        ],
        None,
    )
}

/// A backend that does as it is told.
pub(super) struct Upstream {
    scripts: Mutex<VecDeque<Script>>,
    last: Script,
    pub(super) asked: Mutex<Vec<Call>>,
    pub(super) tally: Arc<Tally>,
    pub(super) availability: Mutex<Availability>,
    metrics: Arc<Metrics>,
}

/// What became of what was asked.
#[derive(Default)]
pub(super) struct Tally {
    /// Admissions that are held.
    pub(super) held: AtomicUsize,
    /// Answers that were left before their end.
    pub(super) cancelled: AtomicUsize,
    /// Streams that were told of the daemon's end.
    pub(super) shut_down: AtomicUsize,
}

/// One admission.
struct Held(Arc<Tally>, AtomicUsize);

/// An answer that counts as cancelled unless it comes to its end.
struct Unless(Arc<Tally>, bool);

struct Pieces {
    left: VecDeque<(Duration, String)>,
    pause: Option<Pin<Box<Sleep>>>,
    end: Option<ErrorKind>,
    unless: Unless,
}

impl Hold for Held {
    fn release(&self) {
        if self.1.swap(1, Ordering::Relaxed) == 0 {
            self.0.held.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Unless {
    fn drop(&mut self) {
        if !self.1 {
            self.0.cancelled.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Frames for Pieces {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Frame> {
        let Some((pause, _)) = self.left.front() else {
            self.unless.1 = true;
            let (reason, error) = match self.end {
                None => (EndReason::Done, None),
                Some(kind) => (EndReason::Truncated, Some(ProxyError::new(kind, "broke off"))),
            };
            return Poll::Ready(Frame::End(Box::new(StreamEnd { reason, error, usage: USAGE })));
        };
        let pause = *pause;
        if !pause.is_zero() {
            ready!(self.pause.get_or_insert_with(|| Box::pin(sleep(pause))).as_mut().poll(cx));
        }
        self.pause = None;
        let (_, piece) = self.left.pop_front().unwrap();
        Poll::Ready(Frame::Data(Bytes::from(piece)))
    }

    fn shut_down(&mut self) {
        self.unless.0.shut_down.fetch_add(1, Ordering::Relaxed);
    }

    fn may_be_continued(&self) -> bool {
        true
    }
}

impl Upstream {
    /// That answers so, the last one again and again.
    pub(super) fn new(scripts: impl IntoIterator<Item = Script>) -> Arc<Self> {
        let scripts: VecDeque<Script> = scripts.into_iter().collect();
        Arc::new(Upstream {
            last: scripts.back().unwrap().clone(),
            scripts: Mutex::new(scripts),
            asked: Mutex::default(),
            tally: Arc::default(),
            availability: Mutex::new(Availability::Now),
            metrics: Arc::new(Metrics::new().unwrap()),
        })
    }

    /// As a modifier's own.
    pub(super) fn wrapped(self: &Arc<Self>, kind: &'static str) -> Wrapped {
        Wrapped {
            about: About {
                id: Arc::from("g"),
                section: Section::Group,
                kind,
                name: None,
                description: None,
                hidden: false,
            },
            inner: Member {
                label: Arc::from("up/m"),
                backend: Arc::new(Arc::clone(self)),
                model: Some(Arc::from("m")),
                weight: 1,
                set: Vec::new(),
            },
            below: Digester::default().finish(),
            metrics: Arc::clone(&self.metrics),
        }
    }

    /// From now on its next script begins so much later.
    pub(super) fn slow_down(&self, more: Duration) {
        match self.scripts.lock().unwrap().front_mut() {
            Some(Script::Fail(pause, _) | Script::Whole(pause, _)) => *pause += more,
            Some(Script::Stream(pieces, _)) => pieces[0].0 += more,
            None => panic!("no script is left"),
        }
    }

    pub(super) fn count(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    pub(super) fn held(&self) -> usize {
        self.tally.held.load(Ordering::Relaxed)
    }

    pub(super) fn cancelled(&self) -> usize {
        self.tally.cancelled.load(Ordering::Relaxed)
    }

    /// The value of a series, zero if it is not there.
    pub(super) fn metric(&self, series: &str) -> u64 {
        let text = String::from_utf8(self.metrics.encode().unwrap()).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map_or(0, |value| value.parse().unwrap())
    }

    /// How many requests this outcome of a modifier of this type has.
    pub(super) fn outcomes(&self, kind: &str, outcome: &str) -> u64 {
        self.metric(&format!(
            "demuxai_modified_requests_total{{backend=\"g\",outcome=\"{outcome}\",type=\"{kind}\"}}"
        ))
    }

    fn reply(self: &Arc<Self>, call: &Call, body: ReplyBody) -> Reply {
        self.tally.held.fetch_add(1, Ordering::Relaxed);
        Reply {
            status: 200,
            headers: vec![(HeaderName::from_static("x-left"), HeaderValue::from_static("7"))],
            body,
            served: Served {
                provider: Arc::from("up"),
                model: Arc::clone(&call.model),
                edits: call.edits.iter().cloned().chain(["drop:seed".to_owned()]).collect(),
                attempts: Vec::new(),
                meters: self.metrics.meters("up", "m"),
                marks: Marks::default(),
            },
            waited: Duration::from_millis(10),
            lease: Lease::new(Arc::new(Held(Arc::clone(&self.tally), AtomicUsize::new(0)))),
        }
    }

    async fn answer(self: Arc<Self>, call: Call) -> Result<Reply, ProxyError> {
        let script = self.scripts.lock().unwrap().pop_front().unwrap_or_else(|| self.last.clone());
        let mut unless = Unless(Arc::clone(&self.tally), false);
        match script {
            Script::Fail(pause, kind) => {
                sleep(pause).await;
                unless.1 = true;
                Err(ProxyError::new(kind, "failed").at("up"))
            }
            Script::Whole(pause, text) => {
                sleep(pause).await;
                unless.1 = true;
                Ok(self.reply(&call, ReplyBody::Whole { bytes: Bytes::from(text), usage: USAGE }))
            }
            Script::Stream(mut pieces, end) => {
                let Some((first, _)) = pieces.first_mut() else { panic!("a stream says something") };
                sleep(std::mem::take(first)).await;
                let pieces = Pieces { left: pieces.into(), pause: None, end, unless };
                Ok(self.reply(&call, ReplyBody::Stream(ReplyStream::made(pieces, Duration::ZERO))))
            }
        }
    }
}

impl Backend for Arc<Upstream> {
    fn id(&self) -> &str {
        "up"
    }

    fn outlook(&self, call: &Call) -> Result<Outlook, String> {
        Ok(Outlook {
            model: Arc::clone(&call.model),
            availability: *self.availability.lock().unwrap(),
            share_left: 0.5,
            next_reset: None,
            in_flight: 0,
        })
    }

    fn meters(&self, model: &str) -> Arc<ModelMeters> {
        self.metrics.meters("up", model)
    }

    fn forward(&self, call: Call) -> BoxFuture<'static, Result<Reply, ProxyError>> {
        self.asked.lock().unwrap().push(call.clone());
        Arc::clone(self).answer(call).boxed()
    }
}

/// What a client gets: the head of the reply, and all that came before the end of its body, or what it failed with.
pub(super) struct Got {
    pub(super) reply: Reply,
    pub(super) text: String,
    pub(super) usage: Usage,
    pub(super) error: Option<ErrorKind>,
    /// When each piece came, counted from the first.
    pub(super) times: Vec<Duration>,
}

/// Asks a modifier and reads all of the answer.
pub(super) async fn ask<M: Modifier>(modifier: &Arc<M>, call: Call) -> Result<Got, ProxyError> {
    Ok(read_all(Arc::clone(modifier).forward(call).await?).await)
}

/// Reads all of an answer.
pub(super) async fn read_all(mut reply: Reply) -> Got {
    let (mut text, mut times) = (String::new(), Vec::new());
    let (mut error, begun) = (None, tokio::time::Instant::now());
    let usage = match &mut reply.body {
        ReplyBody::Whole { bytes, usage } => {
            text.push_str(std::str::from_utf8(bytes).unwrap());
            *usage
        }
        ReplyBody::Stream(stream) => loop {
            match std::future::poll_fn(|cx| stream.poll_frame(cx)).await {
                Frame::Data(bytes) => {
                    text.push_str(std::str::from_utf8(&bytes).unwrap());
                    times.push(begun.elapsed());
                }
                Frame::End(end) => {
                    error = end.error.map(|error| error.kind);
                    break end.usage;
                }
            }
        },
    };
    Got { reply, text, usage, error, times }
}

/// Polls a call once: whether it is still on its way.
pub(super) async fn is_asking(call: &mut BoxFuture<'static, Result<Reply, ProxyError>>) -> bool {
    std::future::poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx).is_pending())).await
}

/// Reads one piece of a stream.
pub(super) async fn read_piece(reply: &mut Reply) -> String {
    let ReplyBody::Stream(stream) = &mut reply.body else { panic!("not a stream") };
    match std::future::poll_fn(|cx| stream.poll_frame(cx)).await {
        Frame::Data(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
        Frame::End(_) => panic!("ended"),
    }
}
