//! The load generator's HTTP/1.1 client: one kept-alive connection, plain answers and event streams, nothing else.
//!
//! It is deliberately small, so that little of what is measured is its own. It checks what it reads: a wrong
//! status, a lost or reordered event or a stream without its end is an error, never a fast answer.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use memchr::{memchr, memmem};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Outcome;
use crate::upstream::{STAMP, STAMP_DIGITS, content_length, epoch};

/// One connection to a proxy, or to the upstream itself.
pub struct Connection {
    socket: TcpStream,
    buffer: BytesMut,
}

/// One content event as the client saw it.
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    /// When its bytes were read.
    pub at: Instant,
    /// From the upstream's write to the client's read.
    pub delay: Duration,
}

/// Takes `Transfer-Encoding: chunked` off.
enum Chunked {
    Size,
    Data(usize),
    /// The line end after a chunk's data; the flag says that the chunk was the last.
    LineEnd(bool),
    End,
}

struct Head {
    length: usize,
    status: u16,
    chunked: bool,
    body: usize,
}

// === impl Connection ===

impl Connection {
    /// Connects, without Nagle's delay.
    pub async fn open(address: SocketAddr) -> Outcome<Self> {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        Ok(Self { socket, buffer: BytesMut::with_capacity(16 * 1024) })
    }

    /// Sends a request whose answer will be read, or not, by the caller.
    pub async fn send(&mut self, request: &[u8]) -> Outcome<()> {
        Ok(self.socket.write_all(request).await?)
    }

    /// One whole exchange; anything but a 200 is an error.
    pub async fn plain(&mut self, request: &[u8]) -> Outcome<()> {
        self.send(request).await?;
        let head = self.head().await?;
        if head.chunked {
            let mut decoder = Chunked::Size;
            let mut body = Vec::new();
            while !decoder.feed(&mut self.buffer, &mut body)? {
                self.fill().await?;
            }
            return Ok(());
        }
        while self.buffer.len() < head.body {
            self.fill().await?;
        }
        self.buffer.advance(head.body);
        Ok(())
    }

    /// Reads a stream's head and its first content event, and leaves the rest.
    pub async fn first_event(&mut self) -> Outcome<()> {
        self.head().await?;
        while memmem::find(&self.buffer, STAMP).is_none() {
            self.fill().await?;
        }
        Ok(())
    }

    /// Sends the request and reads the whole stream; `seen` is called for each content event.
    ///
    /// Errors: not a 200, not chunked, a stamp older than the one before, another number of events than `expected`,
    /// or no `[DONE]`.
    pub async fn stream(
        &mut self,
        request: &[u8],
        expected: u32,
        mut seen: impl FnMut(Arrival),
    ) -> Outcome<()> {
        self.send(request).await?;
        if !self.head().await?.chunked {
            return Err("the stream's answer is not chunked".into());
        }
        let mut decoder = Chunked::Size;
        let mut text = Vec::with_capacity(8 * 1024);
        let (mut count, mut newest, mut done) = (0, 0, false);
        loop {
            let ended = decoder.feed(&mut self.buffer, &mut text)?;
            let at = Instant::now();
            let mut used = 0;
            while let Some(length) = text.get(used..).and_then(|rest| memmem::find(rest, b"\n\n")) {
                let event = text.get(used..used + length).unwrap_or_default();
                used += length + 2;
                if let Some(stamp) = stamp(event) {
                    if stamp < newest {
                        return Err("events came out of order".into());
                    }
                    newest = stamp;
                    count += 1;
                    let sent = epoch() + Duration::from_nanos(stamp);
                    seen(Arrival { at, delay: at.saturating_duration_since(sent) });
                }
                done = done || event == b"data: [DONE]";
            }
            text.drain(..used);
            if ended {
                break;
            }
            self.fill().await?;
        }
        if count != expected || !done {
            return Err(format!("{count} of {expected} events came, [DONE]: {done}").into());
        }
        Ok(())
    }

    async fn head(&mut self) -> Outcome<Head> {
        loop {
            if let Some(end) = memmem::find(&self.buffer, b"\r\n\r\n") {
                let head = Head::parse(self.buffer.get(..end).unwrap_or_default())?;
                if head.status != 200 {
                    let text = String::from_utf8_lossy(&self.buffer).into_owned();
                    return Err(format!("status {} instead of 200: {text}", head.status).into());
                }
                self.buffer.advance(head.length);
                return Ok(head);
            }
            self.fill().await?;
        }
    }

    async fn fill(&mut self) -> Outcome<()> {
        match self.socket.read_buf(&mut self.buffer).await? {
            0 => Err("the connection was closed in the middle of an answer".into()),
            _ => Ok(()),
        }
    }
}

// === impl Head ===

impl Head {
    fn parse(bytes: &[u8]) -> Outcome<Self> {
        let status =
            bytes.get(9..12).and_then(|code| str::from_utf8(code).ok()).and_then(|code| code.parse().ok());
        let lower = bytes.to_ascii_lowercase();
        Ok(Self {
            length: bytes.len() + 4,
            status: status.ok_or("an answer without a status")?,
            chunked: memmem::find(&lower, b"transfer-encoding: chunked").is_some(),
            body: content_length(bytes),
        })
    }
}

// === impl Chunked ===

impl Chunked {
    /// Moves what can be decoded from `input` to `output`; true after the last chunk.
    fn feed(&mut self, input: &mut BytesMut, output: &mut Vec<u8>) -> Outcome<bool> {
        loop {
            match self {
                Self::Size => {
                    let Some(end) = memchr(b'\n', input) else { return Ok(false) };
                    let line = String::from_utf8_lossy(input.get(..end).unwrap_or_default()).into_owned();
                    let size =
                        usize::from_str_radix(line.trim(), 16).map_err(|_| format!("chunk size {line:?}"))?;
                    input.advance(end + 1);
                    *self = if size == 0 { Self::LineEnd(true) } else { Self::Data(size) };
                }
                Self::Data(left) => {
                    let take = input.len().min(*left);
                    output.extend_from_slice(input.get(..take).unwrap_or_default());
                    input.advance(take);
                    *left -= take;
                    if *left > 0 {
                        return Ok(false);
                    }
                    *self = Self::LineEnd(false);
                }
                Self::LineEnd(last) => {
                    if input.len() < 2 {
                        return Ok(false);
                    }
                    input.advance(2);
                    *self = if *last { Self::End } else { Self::Size };
                }
                Self::End => return Ok(true),
            }
        }
    }
}

fn stamp(event: &[u8]) -> Option<u64> {
    let at = memmem::find(event, STAMP)? + STAMP.len();
    str::from_utf8(event.get(at..at + STAMP_DIGITS)?).ok()?.parse().ok()
}
