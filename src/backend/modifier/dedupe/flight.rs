//! One call in flight and those that it is for. There is no task that carries it: whoever of them is polled polls it, and
//! what comes is there for all of them. So nobody's leaving ends it but the last one's, which drops it; and nobody holds
//! up another: who reads slowly finds what came meanwhile, up to a bound.
//!
//! While all of the answer is kept, others may join and get it from its begin. An answer that outgrows the bound takes
//! nobody in any more; of it is kept what somebody has not read yet, and who lags behind by more than the bound is told
//! that it is left behind. One that reads alone holds up the upstream, as without all this.
//!
//! Locks are taken in this order: the flights, what a flight shares, its wakers; what is settled for those that have left
//! takes those of who counts.

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::{HeaderName, HeaderValue};

use super::super::Wrapped;
use crate::backend::lease::Lease;
use crate::backend::opened::Kept;
use crate::backend::{Call, Frame, Frames, Reply, ReplyBody, ReplyStream, Served, StreamEnd};
use crate::dialect::Usage;
use crate::error::{ErrorKind, ProxyError};
use crate::metrics::caching::{FollowerCut, Share, SharedMeters};
use crate::metrics::{EndReason, Metrics, ModelMeters};
use crate::wire::json::Digest;

/// A call in flight.
pub struct Flight {
    shared: Mutex<Shared>,
    wakers: Arc<Wakers>,
    /// The most bytes that are kept.
    most: usize,
    meters: SharedMeters,
    /// Where it is found, as long as it is there.
    place: Place,
}

/// Its key among the calls in flight.
type Place = (Digest, Weak<Mutex<HashMap<Digest, Weak<Flight>>>>);

/// What those that share a call share.
struct Shared {
    state: State,
    /// The pieces that are kept, and the number of the first of them.
    kept: VecDeque<Bytes>,
    first: usize,
    bytes: usize,
    /// All of the answer is kept, and more of it comes.
    open: bool,
    /// Which piece each of them reads next. Who is not here any more was left behind.
    readers: HashMap<u64, usize>,
    next_reader: u64,
    /// What was opened for those that have left.
    bequeathed: Vec<Kept>,
}

enum State {
    /// Nobody answered yet.
    Asking(BoxFuture<'static, Result<Reply, ProxyError>>),
    /// It failed before its commit point.
    Failed(ProxyError),
    /// A plain answer.
    Whole(Head, Bytes, Usage),
    /// A stream that goes on; what it holds at the upstream is settled when it ends.
    Streaming(Head, ReplyStream, Lease),
    /// A stream that is over.
    Over(Head, StreamEnd),
    /// It is being looked at.
    Looked,
}

/// What every reply to it begins with.
#[derive(Clone)]
struct Head {
    status: u16,
    headers: Vec<(HeaderName, HeaderValue)>,
    served: Served,
    waited: Duration,
    may_be_continued: bool,
}

/// What a reply begins with, and all of a plain answer.
type Begin = (Head, Option<(Bytes, Usage)>);

/// One request's place in a flight.
pub(super) struct Seat {
    flight: Arc<Flight>,
    reader: u64,
    /// What was opened for it.
    kept: Kept,
}

/// One request's stream.
struct Stream {
    seat: Seat,
    group: Arc<str>,
    request_id: Arc<str>,
    metrics: Arc<Metrics>,
    may_be_continued: bool,
}

/// Those that wait for more.
#[derive(Default)]
struct Wakers(Mutex<HashMap<u64, Waker>>);

// === impl Wakers ===

impl Wakers {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Waker>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake_all(&self) {
        let waiting = std::mem::take(&mut *self.lock());
        waiting.into_values().for_each(Waker::wake);
    }
}

impl Wake for Wakers {
    fn wake(self: Arc<Self>) {
        self.wake_all();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.wake_all();
    }
}

// === impl Flight ===

impl Flight {
    /// A call that begins, and the place of whoever begins it. It is asked when that is polled.
    pub(super) fn begin(
        asking: BoxFuture<'static, Result<Reply, ProxyError>>,
        most: usize,
        meters: SharedMeters,
        place: Place,
        kept: Kept,
    ) -> (Arc<Flight>, Seat) {
        let shared = Shared {
            state: State::Asking(asking),
            kept: VecDeque::new(),
            first: 0,
            bytes: 0,
            open: true,
            readers: HashMap::from([(0, 0)]),
            next_reader: 1,
            bequeathed: Vec::new(),
        };
        let shared = Mutex::new(shared);
        let flight = Arc::new(Flight { shared, wakers: Arc::default(), most, meters, place });
        let seat = Seat { flight: Arc::clone(&flight), reader: 0, kept };
        (flight, seat)
    }

    /// A place in it, if all of its answer is still to be had.
    pub(super) fn join(self: &Arc<Self>, kept: Kept) -> Option<Seat> {
        let mut shared = self.shared();
        if !shared.open {
            return None;
        }
        let reader = shared.next_reader;
        shared.next_reader += 1;
        shared.readers.insert(reader, 0);
        Some(Seat { flight: Arc::clone(self), reader, kept })
    }

    /// Whether another one may join.
    pub(super) fn is_open(&self) -> bool {
        self.shared().open
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what came for those that have not read it.
    fn keep(&self, shared: &mut Shared, bytes: Bytes) {
        self.meters.keeps(bytes.len());
        shared.bytes += bytes.len();
        shared.kept.push_back(bytes);
        if shared.bytes > self.most {
            shared.open = false;
        }
        self.tidy(shared);
    }

    /// Lets go of what nobody reads any more; and of those that lag behind by more than is kept.
    fn tidy(&self, shared: &mut Shared) {
        while !shared.open {
            let slowest = shared.readers.values().min().copied().unwrap_or(usize::MAX);
            while shared.first < slowest {
                let Some(bytes) = shared.kept.pop_front() else { break };
                shared.first += 1;
                shared.bytes -= bytes.len();
                self.meters.lets_go(bytes.len());
            }
            let end = shared.first + shared.kept.len();
            // Somebody wants what came last, or it would not have been asked for.
            if shared.bytes <= self.most || slowest + 1 >= end {
                return;
            }
            shared.readers.retain(|_, next| *next > slowest);
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let shared = self.shared.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.meters.lets_go(shared.bytes);
        let (key, flights) = &self.place;
        let Some(flights) = flights.upgrade() else { return };
        let mut flights: MutexGuard<'_, HashMap<Digest, Weak<Flight>>> =
            flights.lock().unwrap_or_else(PoisonError::into_inner);
        // Another one may have taken its place.
        if flights.get(key).is_some_and(|known| known.strong_count() == 0) {
            flights.remove(key);
        }
    }
}

// === impl Seat ===

impl Seat {
    /// The reply as this request gets it.
    ///
    /// # Errors
    /// What the call failed with.
    pub(super) async fn reply(
        self,
        wrapped: &Wrapped,
        call: &Call,
        share: Share,
    ) -> Result<Reply, ProxyError> {
        let (head, whole) = poll_fn(|cx| self.poll_head(cx)).await?;
        let Head { status, headers, mut served, waited, may_be_continued } = head;
        served.marks.share = Some(share);
        let elapsed = call.received.elapsed();
        // Who joined waited for nothing but the upstream.
        let waited = if share == Share::Leader { waited } else { elapsed };
        let body = match whole {
            Some((bytes, usage)) => ReplyBody::Whole { bytes, usage },
            None => {
                let stream = Stream {
                    seat: self,
                    group: Arc::clone(&wrapped.about.id),
                    request_id: Arc::clone(&call.request_id),
                    metrics: Arc::clone(&wrapped.metrics),
                    may_be_continued,
                };
                ReplyBody::Stream(ReplyStream::made(stream, elapsed))
            }
        };
        Ok(Reply { status, headers, body, served, waited, lease: Lease::nothing() })
    }

    /// What the reply begins with, and all of a plain answer.
    fn poll_head(&self, cx: &mut Context<'_>) -> Poll<Result<Begin, ProxyError>> {
        let mut shared = self.flight.shared();
        match shared.look() {
            State::Asking(mut asking) => {
                let waker = self.wait(cx);
                match guarded(|| asking.as_mut().poll(&mut Context::from_waker(&waker))) {
                    Err(fell) => {
                        shared.answered(Err(fell));
                        self.flight.wakers.wake_all();
                    }
                    Ok(Poll::Pending) => {
                        shared.state = State::Asking(asking);
                        return Poll::Pending;
                    }
                    Ok(Poll::Ready(answered)) => {
                        shared.answered(answered);
                        self.flight.wakers.wake_all();
                    }
                }
            }
            known => shared.state = known,
        }
        Poll::Ready(match &shared.state {
            State::Failed(error) => Err(error.clone()),
            State::Whole(head, bytes, usage) => Ok((head.clone(), Some((bytes.clone(), *usage)))),
            State::Streaming(head, ..) | State::Over(head, _) => Ok((head.clone(), None)),
            State::Asking(_) | State::Looked => Err(fell()),
        })
    }

    /// The next frame of a stream; `None`: this one was left behind.
    fn poll_frame(&self, cx: &mut Context<'_>) -> Poll<Option<Frame>> {
        let flight = &self.flight;
        let mut guard = flight.shared();
        let shared = &mut *guard;
        loop {
            let Some(next) = shared.readers.get(&self.reader).copied() else { return Poll::Ready(None) };
            let kept = next.checked_sub(shared.first).and_then(|at| shared.kept.get(at));
            if let Some(bytes) = kept.cloned() {
                shared.readers.insert(self.reader, next + 1);
                flight.tidy(shared);
                return Poll::Ready(Some(Frame::Data(bytes)));
            }
            match shared.look() {
                State::Streaming(head, mut stream, lease) => {
                    let waker = self.wait(cx);
                    match guarded(|| stream.poll_frame(&mut Context::from_waker(&waker))) {
                        Err(fell) => {
                            shared.state = State::Over(head, end_with(EndReason::UpstreamError, fell));
                            shared.open = false;
                        }
                        Ok(Poll::Pending) => {
                            shared.state = State::Streaming(head, stream, lease);
                            return Poll::Pending;
                        }
                        Ok(Poll::Ready(Frame::Data(bytes))) => {
                            shared.state = State::Streaming(head, stream, lease);
                            flight.keep(shared, bytes);
                        }
                        Ok(Poll::Ready(Frame::End(end))) => {
                            let mut head = head;
                            head.served.meters = stream.answering().unwrap_or(head.served.meters);
                            // Of one that broke off nobody knows.
                            if end.error.is_none() || !end.usage.is_empty() {
                                shared.settle(Ok(end.usage));
                            }
                            shared.state = State::Over(head, *end);
                            shared.open = false;
                        }
                    }
                    flight.wakers.wake_all();
                }
                over => {
                    shared.state = over;
                    let end = match &shared.state {
                        State::Over(_, end) => copy_of(end),
                        _ => end_with(EndReason::UpstreamError, fell()),
                    };
                    return Poll::Ready(Some(Frame::End(Box::new(end))));
                }
            }
        }
    }

    /// Has this one woken when there is more; and gives the waker of all.
    fn wait(&self, cx: &Context<'_>) -> Waker {
        self.flight.wakers.lock().insert(self.reader, cx.waker().clone());
        Waker::from(Arc::clone(&self.flight.wakers))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut shared = self.flight.shared();
        shared.readers.remove(&self.reader);
        self.flight.tidy(&mut shared);
        if matches!(shared.state, State::Asking(_) | State::Streaming(..)) {
            shared.bequeathed.push(std::mem::take(&mut self.kept));
        }
        drop(shared);
        self.flight.wakers.lock().remove(&self.reader);
    }
}

// === impl Shared ===

impl Shared {
    /// Takes the state out while it is polled; what falls then is not put back.
    fn look(&mut self) -> State {
        std::mem::replace(&mut self.state, State::Looked)
    }

    /// Closes what was opened for those that have left.
    fn settle(&mut self, came: Result<Usage, &ProxyError>) {
        self.bequeathed.drain(..).for_each(|kept| kept.over(came));
    }

    fn answered(&mut self, answered: Result<Reply, ProxyError>) {
        let reply = match answered {
            Ok(reply) => reply,
            Err(error) => {
                self.settle(Err(&error));
                self.open = false;
                self.state = State::Failed(error);
                return;
            }
        };
        let Reply { status, headers, body, served, waited, lease } = reply;
        let mut head = Head { status, headers, served, waited, may_be_continued: false };
        self.state = match body {
            ReplyBody::Whole { bytes, usage } => {
                self.settle(Ok(usage));
                self.open = false;
                State::Whole(head, bytes, usage)
            }
            ReplyBody::Stream(stream) => {
                head.may_be_continued = stream.may_be_continued();
                State::Streaming(head, stream, lease)
            }
        };
    }
}

// === impl Stream ===

impl Frames for Stream {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Frame> {
        let Poll::Ready(frame) = self.seat.poll_frame(cx) else { return Poll::Pending };
        Poll::Ready(frame.unwrap_or_else(|| {
            FollowerCut { group: &self.group }.emit(&self.metrics, &self.request_id);
            let text = format!(
                "the client fell too far behind others that share this answer (stalled_reader; `max_buffer` of `{}`)",
                self.group
            );
            let error = ProxyError::new(ErrorKind::Timeout, text);
            Frame::End(Box::new(end_with(EndReason::StalledReader, error)))
        }))
    }

    fn shut_down(&mut self) {
        if let State::Streaming(_, stream, _) = &mut self.seat.flight.shared().state {
            stream.shut_down();
        }
    }

    fn may_be_continued(&self) -> bool {
        self.may_be_continued
    }

    fn answering(&self) -> Option<Arc<ModelMeters>> {
        match &self.seat.flight.shared().state {
            State::Streaming(_, stream, _) => stream.answering(),
            State::Over(head, _) => Some(Arc::clone(&head.served.meters)),
            State::Asking(_) | State::Failed(_) | State::Whole(..) | State::Looked => None,
        }
    }
}

fn copy_of(end: &StreamEnd) -> StreamEnd {
    StreamEnd { reason: end.reason, error: end.error.clone(), usage: end.usage }
}

fn end_with(reason: EndReason, error: ProxyError) -> StreamEnd {
    StreamEnd { reason, error: Some(error), usage: Usage::default() }
}

/// Polls what all share. It runs on the thread of whoever polls, and may hold a timer of another one, whose end is a panic
/// where the timer is polled: that is the call's fault, and not that of the request which happened to look.
///
/// # Errors
/// When it fell.
fn guarded<T>(poll: impl FnOnce() -> Poll<T>) -> Result<Poll<T>, ProxyError> {
    catch_unwind(AssertUnwindSafe(poll)).map_err(|_panic| fell())
}

/// The error of those whose call fell while one of them looked at it.
fn fell() -> ProxyError {
    ProxyError::new(ErrorKind::Internal, "a call that several requests shared fell over itself; try again")
}
