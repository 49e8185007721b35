//! One client's connection over HTTP/1.1: its requests one after another, each answered before the next is read.
//! What a request and an answer look like on the wire is the codec's to know ([`actix_http::h1::Codec`]); when to read,
//! how much at once and when to stop is decided here. `src/ARCHITECTURE.md` says why.
//!
//! 1. A body is read when the handler asks for it, and into one piece of memory: see `link`.
//! 2. A client that closes its sending half has left: its request is dropped, and with it all that works on it.
//! 3. What cannot be read is answered with a bare status, and the connection is closed: 400 for bytes that are no HTTP,
//!    431 for a head over 128 KB or 96 headers, 408 for one that is not complete in time.
//! 4. A request whose body was not read, and is not all here, is the last one.
//! 5. Before a connection is closed after an answer, what still comes is read and dropped for a moment: bytes that nobody
//!    read make the kernel reset the connection and forget what it has not sent yet (RFC 9112 §9.6).
//! 6. While a stream waits for its next event and all before it is sent, the provider's thread may write the event to the
//!    socket itself: see [`Lane`]. Before anything is sent from here, that way is closed.
//! 7. When the daemon drains, connections that wait for a request are closed, others after their answer.

mod exit;
mod link;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use actix_http::h1::Message;
use actix_http::{Request, Response, ServiceConfig, StatusCode};
use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::Service;
use actix_web::http::ConnectionType;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use super::closing::Closing;
use crate::backend::lane::Lane;
use link::Link;

/// How long a head may take from its first byte, and the first one of a connection from its beginning.
const HEAD: Duration = Duration::from_secs(10);
/// How long a connection may wait for its next request.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// A connection that waits for longer than this keeps no large buffer.
const REST: Duration = Duration::from_secs(2);
/// How long what a client still sends is read and dropped before the connection is closed.
const LINGER: Duration = Duration::from_secs(1);
/// With so many bytes to send, no more of an answer is fetched.
const MOST_UNSENT: usize = 32 * 1024;

/// Serves the requests of one connection until it ends.
pub async fn serve<S, B>(socket: TcpStream, app: &S, config: ServiceConfig, closing: &Closing)
where
    S: Service<Request>,
    S::Response: Into<Response<B>>,
    S::Error: Into<Response<BoxBody>>,
    B: MessageBody,
{
    let Ok(link) = Link::new(socket, config) else { return };
    let link = Rc::new(RefCell::new(link));
    let mut drained = pin!(closing.drained());
    let mut patience = Patience::new();
    loop {
        let next = poll_fn(|cx| patience.poll_next(&link, drained.as_mut(), cx)).await;
        let answered = match next {
            Next::Request(request) => match call(&link, app, request).await {
                Some(Ok(response)) => answer(&link, response.into(), closing.is_draining()).await,
                Some(Err(error)) => answer(&link, error.into(), closing.is_draining()).await,
                None => return,
            },
            Next::Unreadable(status) => {
                answer(&link, Response::with_body(status, BoxBody::new(())), true).await
            }
            Next::Left => return,
        };
        match answered {
            Ok(After::Next) => patience.renew(),
            Ok(After::Close) => return close(&link).await,
            Err(_) => return,
        }
    }
}

/// What comes next on a connection.
enum Next {
    Request(Request),
    /// What came is no request: this status, then the end.
    Unreadable(StatusCode),
    Left,
}

/// What becomes of a connection after an answer.
enum After {
    Next,
    Close,
}

/// How long a connection waits for a head.
struct Patience {
    deadline: Instant,
    /// A part of a head is here, or the connection is new.
    begun: bool,
    timer: Pin<Box<Sleep>>,
}

// === impl Patience ===

impl Patience {
    fn new() -> Self {
        let deadline = Instant::now() + HEAD;
        Patience { deadline, begun: true, timer: Box::pin(sleep_until(deadline)) }
    }

    /// After an answer.
    fn renew(&mut self) {
        (self.deadline, self.begun) = (Instant::now() + KEEP_ALIVE, false);
    }

    fn poll_next(
        &mut self,
        link: &Rc<RefCell<Link>>,
        drained: Pin<&mut impl Future>,
        cx: &mut Context<'_>,
    ) -> Poll<Next> {
        let next = link.borrow_mut().poll_head(cx);
        match next {
            Poll::Ready(Next::Request(request)) => {
                return Poll::Ready(Next::Request(link::with_body(link, request)));
            }
            Poll::Ready(next) => return Poll::Ready(next),
            Poll::Pending => {}
        }
        if drained.poll(cx).is_ready() {
            return Poll::Ready(Next::Left);
        }
        if !self.begun && link.borrow().has_begun() {
            (self.deadline, self.begun) = (Instant::now() + HEAD, true);
        }
        // The timer is moved only where it would come too late, or came too early.
        let next = self.next(&link.borrow());
        if self.timer.deadline() > next {
            self.timer.as_mut().reset(next);
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            if self.timer.deadline() >= self.deadline {
                let late = Next::Unreadable(StatusCode::REQUEST_TIMEOUT);
                return Poll::Ready(if self.begun { late } else { Next::Left });
            }
            let mut link = link.borrow_mut();
            if self.timer.deadline() >= self.next(&link) {
                link.rest();
            }
            let next = self.next(&link);
            self.timer.as_mut().reset(next);
        }
        Poll::Pending
    }

    /// When something is to be done without the client's doing.
    fn next(&self, link: &Link) -> Instant {
        let rests = !self.begun && link.holds_much();
        if rests { self.deadline - KEEP_ALIVE + REST } else { self.deadline }
    }
}

// === the way of a request ===

/// Lets the application answer; none when the client leaves before.
async fn call<S: Service<Request>>(
    link: &RefCell<Link>,
    app: &S,
    request: Request,
) -> Option<Result<S::Response, S::Error>> {
    let mut response = pin!(app.call(request));
    poll_fn(|cx| {
        if let Poll::Ready(response) = response.as_mut().poll(cx) {
            return Poll::Ready(Some(response));
        }
        let mut link = link.borrow_mut();
        // A `100 Continue`, if anything.
        let flushed = link.poll_flush(cx);
        if matches!(flushed, Poll::Ready(Err(_))) || link.poll_left(cx).is_ready() {
            return Poll::Ready(None);
        }
        Poll::Pending
    })
    .await
}

/// Sends the answer.
///
/// # Errors
/// When the client leaves, or the answer cannot be written.
async fn answer<B: MessageBody>(
    link: &RefCell<Link>,
    response: Response<B>,
    last: bool,
) -> Result<After, Broken> {
    let (mut head, body) = response.into_parts();
    let mut body = pin!(body);
    if last || !link.borrow_mut().body_is_read() {
        head.head_mut().set_connection_type(ConnectionType::Close);
    }
    let size = body.size();
    let in_chunks = size == BodySize::Stream && head.head().chunked();
    let lane = head.extensions_mut().remove::<Arc<Lane>>().filter(|_| in_chunks);
    link.borrow_mut().send(Message::Item((head, size)))?;
    link.borrow_mut().begin_lane(lane);
    let mut more = !matches!(size, BodySize::None | BodySize::Sized(0));
    let whole = poll_fn(|cx| {
        loop {
            link.borrow_mut().take_rest();
            let mut waits = false;
            while more && !waits && link.borrow().unsent() < MOST_UNSENT {
                match body.as_mut().poll_next(cx) {
                    Poll::Ready(Some(Ok(bytes))) => link.borrow_mut().send(Message::Chunk(Some(bytes)))?,
                    // It is closed without an end, so that it does not look complete.
                    Poll::Ready(Some(Err(_))) => return Poll::Ready(Ok(false)),
                    Poll::Ready(None) => {
                        more = false;
                        link.borrow_mut().send(Message::Chunk(None))?;
                    }
                    Poll::Pending => waits = true,
                }
            }
            let mut link = link.borrow_mut();
            if link.poll_flush(cx)?.is_ready() {
                if !more {
                    return Poll::Ready(Ok(true));
                }
                if !waits {
                    continue;
                }
                link.open_lane(cx);
            }
            return link.poll_left(cx).map(|()| Err(Broken));
        }
    })
    .await?;
    link.borrow_mut().end_lane();
    Ok(if whole && link.borrow_mut().goes_on() { After::Next } else { After::Close })
}

/// Sends what is left, says that nothing more comes, and takes what the client still sends for a moment.
async fn close(link: &RefCell<Link>) {
    let mut shut = false;
    let ended = poll_fn(|cx| {
        let mut link = link.borrow_mut();
        ready!(link.poll_flush(cx))?;
        if !std::mem::replace(&mut shut, true) {
            link.shut_down()?;
        }
        link.poll_discard(cx)
    });
    // Whether it went well is nobody's business any more.
    let _: Result<io::Result<()>, _> = timeout(LINGER, ended).await;
}

/// An answer that did not get to its end.
struct Broken;

impl From<io::Error> for Broken {
    fn from(_: io::Error) -> Self {
        Broken
    }
}
