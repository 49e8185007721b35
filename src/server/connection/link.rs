//! The wire to one client: its socket, the codec, what has arrived and what is still to be sent; shared by the
//! connection and the body of the request it is at.
//!
//! A body of known length is handed over in one piece, read straight into its place, or in pieces of [`PIECE`] when it
//! is longer: the kernel's copy is the only one. A slow client's comes as it comes, so that who waits for it sees that
//! it does.

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use actix_http::body::BodySize;
use actix_http::error::{ParseError, PayloadError};
use actix_http::h1::{Codec, Message, MessageType};
use actix_http::{Payload, Request, Response, ServiceConfig, StatusCode};
use actix_web::http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use bytes::{Buf, Bytes, BytesMut};
use futures_util::Stream;
use memchr::memmem;
use socket2::SockRef;
use tokio::io::ReadBuf;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::Instant;
use tokio_util::codec::{Decoder, Encoder};
use tokio_util::io::poll_read_buf;

use super::Next;
use super::exit::Exit;
use crate::backend::lane::Lane;

/// Room for a head.
const HEAD_ROOM: usize = 8 * 1024;
/// With less room than this left, more is made.
const LEAST_ROOM: usize = 1024;
/// Room for a part of a body that does not say how long it is.
const PART_ROOM: usize = 32 * 1024;
/// The largest piece of a body that is waited for. It bounds what a client that announces much and sends nothing costs.
const PIECE: u64 = 1024 * 1024;
/// A piece that takes longer than this is handed over as far as it is here.
const SLOW: Duration = Duration::from_secs(1);
/// A buffer that grew larger than this is not kept: for answers, beyond the answer; for requests, beyond a short rest.
const MOST_KEPT: usize = 64 * 1024;

const HEAD_END: &[u8] = b"\r\n\r\n";
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// One client's wire.
pub(super) struct Link {
    incoming: OwnedReadHalf,
    /// Written here, and at the end of the [`Lane`].
    outgoing: Arc<OwnedWriteHalf>,
    /// The short way of the stream that is the answer.
    lane: Option<Arc<Lane>>,
    peer: SocketAddr,
    codec: Codec,
    arrived: BytesMut,
    /// The memory of `arrived` is more than an idle connection keeps: it is shared with the bodies that came in it.
    large: bool,
    unsent: BytesMut,
    /// The memory of `unsent` is more than is kept. Its capacity does not tell, as it is that of the rest only.
    swollen: bool,
    body: Body,
    /// Counts requests, so that the body of an earlier one gets nothing of a later one's.
    request: u64,
}

/// The body of the request that a connection is at.
enum Body {
    /// There is none, or all of it was taken.
    Read,
    Due {
        /// How much is still to be handed over, if it was said.
        left: Option<u64>,
        /// Since when the next piece is waited for.
        since: Instant,
        /// The client waits for a word before it sends any of it.
        unasked: bool,
    },
    /// It ended too early or is no body.
    Broken,
}

/// A request's body, as its handler reads it.
struct Intake {
    link: Rc<RefCell<Link>>,
    request: u64,
}

/// The request with a body that is read from the wire when it is asked for.
pub(super) fn with_body(link: &Rc<RefCell<Link>>, mut request: Request) -> Request {
    let number = link.borrow_mut().begin(&mut request);
    if let Some(number) = number {
        *request.payload() =
            Payload::Stream { payload: Box::pin(Intake { link: Rc::clone(link), request: number }) };
    }
    request
}

// === impl Link ===

impl Link {
    /// # Errors
    /// When the client has left already.
    pub(super) fn new(socket: TcpStream, config: ServiceConfig) -> io::Result<Self> {
        socket.set_nodelay(true)?;
        let peer = socket.peer_addr()?;
        let (incoming, outgoing) = socket.into_split();
        Ok(Link {
            incoming,
            outgoing: Arc::new(outgoing),
            lane: None,
            peer,
            codec: Codec::new(config),
            arrived: BytesMut::new(),
            large: false,
            unsent: BytesMut::new(),
            swollen: false,
            body: Body::Read,
            request: 0,
        })
    }

    /// The next head, or what came instead of one.
    pub(super) fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        loop {
            // Empty lines before a request do not begin it (RFC 9112 §2.2).
            while self.arrived.starts_with(b"\r\n") {
                self.arrived.advance(2);
            }
            if !self.arrived.is_empty() {
                match self.decode_head() {
                    Ok(Some(Message::Item(request))) => return Poll::Ready(Next::Request(request)),
                    Ok(None) => {}
                    Err(ParseError::Io(_)) => return Poll::Ready(Next::Left),
                    Err(ParseError::TooLarge) => {
                        return Poll::Ready(Next::Unreadable(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE));
                    }
                    Ok(Some(Message::Chunk(_))) | Err(_) => {
                        return Poll::Ready(Next::Unreadable(StatusCode::BAD_REQUEST));
                    }
                }
            }
            if self.large && self.arrived.is_empty() {
                // The memory of the body before, if it is free again: a request like it is then read in one go.
                let _ = self.arrived.try_reclaim(MOST_KEPT + 1);
            }
            match ready!(self.poll_read(HEAD_ROOM, LEAST_ROOM, cx)) {
                Ok(0) | Err(_) => return Poll::Ready(Next::Left),
                Ok(_) => {}
            }
        }
    }

    /// A head that lies in the memory of a body is taken out of it first: actix-http keeps heads that are done with for
    /// later requests, and with them what they lie in.
    fn decode_head(&mut self) -> Result<Option<Message<Request>>, ParseError> {
        let end = if self.large { memmem::find(&self.arrived, HEAD_END) } else { None };
        let Some(head) = end.and_then(|end| self.arrived.get(..end + HEAD_END.len())) else {
            return self.codec.decode(&mut self.arrived);
        };
        let (mut apart, length) = (BytesMut::from(head), head.len());
        let decoded = self.codec.decode(&mut apart);
        self.arrived.advance(length - apart.len());
        decoded
    }

    /// Whether a part of the next request is here.
    pub(super) fn has_begun(&self) -> bool {
        !self.arrived.is_empty()
    }

    /// Whether more memory is held than is good for a connection that waits.
    pub(super) fn holds_much(&self) -> bool {
        self.large
    }

    /// Gives back what an earlier request needed. Nothing of the next one may be here.
    pub(super) fn rest(&mut self) {
        self.arrived = BytesMut::new();
        self.large = false;
    }

    /// Takes note of what the head says of its body; its number, if it has one.
    fn begin(&mut self, request: &mut Request) -> Option<u64> {
        let head = request.head_mut();
        head.peer_addr = Some(self.peer);
        self.request += 1;
        if self.codec.message_type() == MessageType::None {
            return None;
        }
        // The codec has judged them; this is only how much it is worth to wait for.
        let length =
            head.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let left = length.filter(|_| {
            self.codec.message_type() == MessageType::Payload && !head.headers.contains_key(TRANSFER_ENCODING)
        });
        self.body = Body::Due { left, since: Instant::now(), unasked: head.expect() };
        Some(self.request)
    }

    /// The next piece of the body.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, PayloadError>>> {
        loop {
            let (left, since) = match &mut self.body {
                Body::Read => return Poll::Ready(None),
                Body::Broken => return Poll::Ready(Some(Err(PayloadError::Incomplete(None)))),
                Body::Due { left, since, unasked } => {
                    if std::mem::take(unasked) && self.arrived.is_empty() {
                        self.unsent.extend_from_slice(CONTINUE);
                    }
                    (*left, *since)
                }
            };
            if !self.unsent.is_empty() && matches!(self.poll_flush(cx), Poll::Ready(Err(_))) {
                self.body = Body::Broken;
                continue;
            }
            let wanted = left.map_or(1, |left| usize::try_from(left.min(PIECE)).unwrap_or(usize::MAX));
            let here = self.arrived.len();
            if here >= wanted || (here > 0 && since.elapsed() > SLOW) {
                match self.codec.decode(&mut self.arrived) {
                    Ok(Some(Message::Chunk(Some(bytes)))) => {
                        let left = left.map(|left| left.saturating_sub(bytes.len() as u64));
                        self.body = Body::Due { left, since: Instant::now(), unasked: false };
                        return Poll::Ready(Some(Ok(bytes)));
                    }
                    Ok(Some(Message::Chunk(None))) => {
                        self.body = Body::Read;
                        return Poll::Ready(None);
                    }
                    Ok(None) => {}
                    Ok(Some(Message::Item(_))) | Err(_) => {
                        self.body = Body::Broken;
                        return Poll::Ready(Some(Err(PayloadError::EncodingCorrupted)));
                    }
                }
            }
            // With a byte more than is there to come, as a read that fills its room would ask once more; and with room
            // for the next head, so that another request of this size finds enough for all of it.
            let (room, least) = match left {
                Some(_) => (wanted.saturating_sub(here) + HEAD_ROOM, wanted.saturating_sub(here) + 1),
                None => (PART_ROOM, LEAST_ROOM),
            };
            match ready!(self.poll_read(room, least, cx)) {
                Ok(0) | Err(_) => self.body = Body::Broken,
                Ok(_) => {}
            }
        }
    }

    /// Whether nothing of the request is left to read. What is here of its body and was not asked for is passed over.
    pub(super) fn body_is_read(&mut self) -> bool {
        if let Body::Due { left: Some(left), .. } = self.body
            && left <= self.arrived.len() as u64
        {
            let mut part = self.codec.decode(&mut self.arrived);
            if left > 0 {
                part = self.codec.decode(&mut self.arrived);
            }
            self.body = match part {
                Ok(Some(Message::Chunk(None))) => Body::Read,
                _ => Body::Broken,
            };
        }
        matches!(self.body, Body::Read)
    }

    /// Whether another request may follow the answer that was sent.
    pub(super) fn goes_on(&mut self) -> bool {
        self.codec.keep_alive() && self.body_is_read()
    }

    /// Ready when the client has closed its sending half, or all of it. Looked for only where nothing is left to read.
    pub(super) fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.arrived.is_empty() || !matches!(self.body, Body::Read) {
            return Poll::Pending;
        }
        let mut byte = [0];
        match ready!(self.incoming.poll_peek(cx, &mut ReadBuf::new(&mut byte))) {
            Ok(0) | Err(_) => Poll::Ready(()),
            // The next request, before this one is answered: it waits in the kernel.
            Ok(_) => Poll::Pending,
        }
    }

    fn poll_read(&mut self, room: usize, least: usize, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.arrived.capacity() - self.arrived.len() < least {
            self.arrived.reserve(room);
            // Here and nowhere else: later its capacity is that of the rest only.
            self.large |= self.arrived.capacity() > MOST_KEPT;
        }
        poll_read_buf(Pin::new(&mut self.incoming), cx, &mut self.arrived)
    }

    /// Encodes a part of an answer, to be sent with the next flush.
    ///
    /// # Errors
    /// When it cannot be written in this protocol.
    pub(super) fn send(&mut self, part: Message<(Response<()>, BodySize)>) -> io::Result<()> {
        if let Some(lane) = &self.lane {
            lane.close(&mut self.unsent);
        }
        self.codec.encode(part, &mut self.unsent)
    }

    /// The short way of the answer that was begun, if it has one. It is closed.
    pub(super) fn begin_lane(&mut self, lane: Option<Arc<Lane>>) {
        self.lane = lane;
    }

    /// Opens the short way: all that was here to be sent is.
    pub(super) fn open_lane(&self, cx: &Context<'_>) {
        if let Some(lane) = &self.lane {
            lane.open(|| Box::new(Exit::new(Arc::clone(&self.outgoing), cx.waker().clone())));
        }
    }

    /// Takes over what came by the short way and could not be sent there.
    pub(super) fn take_rest(&mut self) {
        if let Some(lane) = &self.lane {
            lane.take_rest(&mut self.unsent);
        }
    }

    /// Closes the short way for good.
    pub(super) fn end_lane(&mut self) {
        if let Some(lane) = self.lane.take() {
            lane.close(&mut self.unsent);
        }
    }

    /// How many bytes are encoded, but not sent.
    pub(super) fn unsent(&self) -> usize {
        self.unsent.len()
    }

    /// Sends what is encoded.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.unsent.is_empty() {
            return Poll::Ready(Ok(()));
        }
        self.swollen |= self.unsent.capacity() > MOST_KEPT;
        let mut sent = 0;
        while let Some(rest) = self.unsent.get(sent..).filter(|rest| !rest.is_empty()) {
            match self.outgoing.try_write(rest) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(count) => sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if self.tcp().poll_write_ready(cx)?.is_pending() {
                        let _ = self.unsent.split_to(sent);
                        return Poll::Pending;
                    }
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        self.unsent.clear();
        if std::mem::take(&mut self.swollen) {
            self.unsent = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }

    /// Closes the sending half.
    ///
    /// # Errors
    /// When the client has left.
    pub(super) fn shut_down(&self) -> io::Result<()> {
        SockRef::from(self.tcp()).shutdown(Shutdown::Write)
    }

    fn tcp(&self) -> &TcpStream {
        self.incoming.as_ref()
    }

    /// Reads and drops what the client sends until it ends.
    pub(super) fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            self.arrived.clear();
            if ready!(self.poll_read(HEAD_ROOM, LEAST_ROOM, cx))? == 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.end_lane();
    }
}

// === impl Intake ===

impl Stream for Intake {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut link = self.link.borrow_mut();
        if link.request != self.request {
            return Poll::Ready(None);
        }
        link.poll_body(cx)
    }
}
