//! Backends that say what a test tells them to, in virtual time, and take note of what happens to them.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::time::Sleep;

use super::super::super::lease::Hold;
use super::super::super::strategy::Availability;
use super::super::*;
use crate::backend::StreamEnd;
use crate::backend::waiter::Waiter;
use crate::dialect::{CHAT_COMPLETIONS, Usage, read};
use crate::metrics::EndReason;

/// One step of a fake's answer.
#[derive(Clone)]
pub(super) enum Step {
    /// Nothing for so many milliseconds.
    Wait(u64),
    /// A piece of its text. The first one is its commit point.
    Say(String),
    /// It fails so.
    Fail(ErrorKind),
}

/// What comes of it when a fake is to be admitted, after so many milliseconds.
#[derive(Clone, Copy)]
enum Admission {
    Granted(u64),
    /// It waits for a place.
    Queued(u64),
    /// For want of quota.
    Denied(u64),
}

/// A fake backend.
pub(super) struct Fake {
    pub(super) id: &'static str,
    steps: Vec<Step>,
    admission: Admission,
    outlook: Result<Availability, &'static str>,
    /// It has nothing left to reserve until so much later.
    frees_in: Option<Duration>,
    /// The calls that were sent: not those that were only admitted.
    sent: Arc<Mutex<Vec<Call>>>,
    open: Arc<AtomicUsize>,
    /// Its stream reports what it cost.
    usage: Usage,
}

pub(super) fn say(text: &str) -> Step {
    Step::Say(text.to_owned())
}

// === impl Fake ===

impl Fake {
    pub(super) fn new(id: &'static str, steps: impl IntoIterator<Item = Step>) -> Fake {
        Fake {
            id,
            steps: steps.into_iter().collect(),
            admission: Admission::Granted(0),
            outlook: Ok(Availability::Now),
            frees_in: None,
            sent: Arc::default(),
            open: Arc::default(),
            usage: Usage { input: Some(10), output: Some(2), ..Usage::default() },
        }
    }

    /// It says this at once.
    pub(super) fn says(id: &'static str, text: &str) -> Fake {
        Fake::new(id, [say(text)])
    }

    /// It says this after so many milliseconds.
    pub(super) fn late(id: &'static str, wait: u64, text: &str) -> Fake {
        Fake::new(id, [Step::Wait(wait), say(text)])
    }

    pub(super) fn fails(id: &'static str, kind: ErrorKind) -> Fake {
        Fake::new(id, [Step::Fail(kind)])
    }

    pub(super) fn stands(self, outlook: Result<Availability, &'static str>) -> Fake {
        Fake { outlook, ..self }
    }

    pub(super) fn frees_in(self, wait: Duration) -> Fake {
        Fake { frees_in: Some(wait), ..self }
    }

    pub(super) fn admitted_after(self, wait: u64) -> Fake {
        Fake { admission: Admission::Granted(wait), ..self }
    }

    pub(super) fn queued_for(self, wait: u64) -> Fake {
        Fake { admission: Admission::Queued(wait), ..self }
    }

    pub(super) fn denied_after(self, wait: u64) -> Fake {
        Fake { admission: Admission::Denied(wait), ..self }
    }

    pub(super) fn times_sent(&self) -> usize {
        self.sent.lock().unwrap().len()
    }

    /// The body of the last request.
    pub(super) fn asked(&self) -> String {
        let sent = self.sent.lock().unwrap();
        String::from_utf8(sent.last().expect("was asked").request.body.to_vec()).unwrap()
    }

    /// What was changed on the way of the last request.
    pub(super) fn edits(&self) -> Vec<String> {
        self.sent.lock().unwrap().last().expect("was asked").edits.to_vec()
    }

    /// Admissions that are still held.
    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }
}

/// Counts one admission.
struct Held {
    open: Arc<AtomicUsize>,
    released: AtomicBool,
}

fn lease(open: &Arc<AtomicUsize>) -> Lease {
    open.fetch_add(1, Ordering::SeqCst);
    Lease::new(Arc::new(Held { open: Arc::clone(open), released: AtomicBool::new(false) }))
}

impl Hold for Held {
    fn release(&self) {
        if !self.released.swap(true, Ordering::SeqCst) {
            self.open.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

/// A stream of these steps.
struct Steps {
    id: &'static str,
    steps: std::vec::IntoIter<Step>,
    sleep: Option<Pin<Box<Sleep>>>,
    role_given: bool,
    usage: Usage,
    include_usage: bool,
    finished: bool,
}

impl Steps {
    fn chunk(&self, delta: &str, finish: &str) -> String {
        let id = self.id;
        format!(
            "data: {{\"id\":\"c@{id}\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"{id}/m\",\"choices\":[{{\"index\":0,\"delta\":{delta},\"finish_reason\":{finish}}}]}}\n\n"
        )
    }
}

impl Frames for Steps {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Frame> {
        loop {
            if let Some(sleep) = &mut self.sleep {
                if sleep.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                self.sleep = None;
            }
            let step = self.steps.next();
            return Poll::Ready(match step {
                Some(Step::Wait(milliseconds)) => {
                    self.sleep = Some(Box::pin(tokio::time::sleep(Duration::from_millis(milliseconds))));
                    continue;
                }
                Some(Step::Say(text)) => {
                    let role = if std::mem::replace(&mut self.role_given, true) {
                        ""
                    } else {
                        "\"role\":\"assistant\","
                    };
                    let delta = format!("{{{role}\"content\":{}}}", serde_json::to_string(&text).unwrap());
                    Frame::Data(Bytes::from(self.chunk(&delta, "null")))
                }
                Some(Step::Fail(kind)) => Frame::End(Box::new(StreamEnd {
                    reason: EndReason::UpstreamError,
                    error: Some(ProxyError::new(kind, "broke off")),
                    usage: Usage::default(),
                })),
                None if !std::mem::replace(&mut self.finished, true) => {
                    let mut events = self.chunk("{}", "\"stop\"");
                    if self.include_usage {
                        events.push_str("data: {\"id\":\"c\",\"choices\":[],\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":2,\"total_tokens\":12}}\n\n");
                    }
                    events.push_str("data: [DONE]\n\n");
                    Frame::Data(Bytes::from(events))
                }
                None => Frame::End(Box::new(StreamEnd {
                    reason: EndReason::Done,
                    error: None,
                    usage: self.usage,
                })),
            });
        }
    }
}

impl Backend for Fake {
    fn id(&self) -> &str {
        self.id
    }

    fn outlook(&self, call: &Call) -> Result<Outlook, String> {
        Ok(Outlook {
            model: Arc::clone(&call.model),
            availability: self.outlook.map_err(str::to_owned)?,
            share_left: 0.5,
            next_reset: None,
            in_flight: 1,
        })
    }

    fn reserve(&self, _call: &Call, _place: &Arc<Waiter>) -> Option<Result<(), ProxyError>> {
        let wait = self.frees_in?;
        let mut denied = ProxyError::new(ErrorKind::QuotaExhausted, "20 requests per minute are used up");
        denied.denial = Some(crate::error::Denial::default());
        denied.retry_after = Some(wait);
        Some(Err(denied))
    }

    fn meters(&self, model: &str) -> Arc<ModelMeters> {
        Metrics::new().unwrap().meters(self.id, model)
    }

    fn forward(&self, call: Call) -> BoxFuture<'static, Result<Reply, ProxyError>> {
        let (id, usage, admission) = (self.id, self.usage, self.admission);
        let (meters, steps) = (self.meters("m"), self.steps.clone());
        let (open, sent) = (Arc::clone(&self.open), Arc::clone(&self.sent));
        async move {
            let (Admission::Granted(wait) | Admission::Queued(wait) | Admission::Denied(wait)) = admission;
            if let (Admission::Queued(_), Some(gate)) = (admission, &call.gate) {
                gate.waits(true);
            }
            tokio::time::sleep(Duration::from_millis(wait)).await;
            if let Admission::Denied(_) = admission {
                let mut denied = ProxyError::new(ErrorKind::QuotaExhausted, "20 requests per minute are used up");
                denied.denial = Some(crate::error::Denial::default());
                denied.retry_after = Some(Duration::from_secs(20));
                return Err(denied);
            }
            let lease = lease(&open);
            if let Some(gate) = call.gate.clone() {
                assert!(gate.pass().await, "whoever asks is still there");
            }
            sent.lock().unwrap().push(call.clone());
            let mut steps = steps.into_iter().peekable();
            loop {
                match steps.peek() {
                    Some(Step::Wait(milliseconds)) => {
                        tokio::time::sleep(Duration::from_millis(*milliseconds)).await;
                        steps.next();
                    }
                    Some(Step::Fail(kind)) => return Err(ProxyError::new(*kind, "failed")),
                    Some(Step::Say(_)) | None => break,
                }
            }
            let rest: Vec<Step> = steps.collect();
            let body = if call.request.stream {
                let include_usage = call.request.include_usage;
                let steps =
                    Steps { id, steps: rest.into_iter(), sleep: None, role_given: false, usage, include_usage, finished: false };
                ReplyBody::Stream(ReplyStream::made(steps, Duration::ZERO))
            } else {
                let text: String = rest.iter().map(|step| if let Step::Say(text) = step { text.as_str() } else { "" }).collect();
                let body = serde_json::json!({"id": format!("c@{id}"), "object": "chat.completion", "created": 1, "model": format!("{id}/m"),
                    "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
                    "usage": {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}});
                ReplyBody::Whole { bytes: Bytes::from(body.to_string()), usage }
            };
            let served = Served { provider: id.into(), model: "m".into(), edits: Vec::new(), attempts: Vec::new(), meters, marks: Marks::default() };
            Ok(Reply { status: 200, headers: Vec::new(), body, served, waited: Duration::ZERO, lease })
        }
        .boxed()
    }
}

/// A call for this chat.
pub(super) fn call(fields: &str) -> Call {
    let body =
        format!(r#"{{"model":"panel","messages":[{{"role":"user","content":"What is it?"}}]{fields}}}"#);
    Call::bare(read(&CHAT_COMPLETIONS, Bytes::from(body)).unwrap(), "")
}

/// What a client made of a stream.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub(super) reasoning: String,
    pub(super) content: String,
    pub(super) events: Vec<serde_json::Value>,
    pub(super) done: bool,
    pub(super) error: Option<ProxyError>,
    pub(super) usage: Usage,
}

/// Reads a reply's stream to its end.
pub(super) async fn hear(reply: Reply) -> Heard {
    let ReplyBody::Stream(mut stream) = reply.body else { panic!("a stream") };
    let mut heard = Heard::default();
    loop {
        match poll_fn(|cx| stream.poll_frame(cx)).await {
            Frame::Data(bytes) => {
                let text = String::from_utf8(bytes.to_vec()).unwrap();
                for event in text.split_terminator("\n\n") {
                    let payload = event.strip_prefix("data: ").unwrap();
                    assert!(!heard.done, "nothing follows the end: {event}");
                    if payload == "[DONE]" {
                        heard.done = true;
                        continue;
                    }
                    let event: serde_json::Value = serde_json::from_str(payload).unwrap();
                    let delta = &event["choices"][0]["delta"];
                    heard.reasoning.push_str(delta["reasoning_content"].as_str().unwrap_or_default());
                    heard.content.push_str(delta["content"].as_str().unwrap_or_default());
                    heard.events.push(event);
                }
            }
            Frame::End(end) => {
                heard.error = end.error;
                heard.usage = end.usage;
                return heard;
            }
        }
    }
}
