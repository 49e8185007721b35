//! The bench's own upstream: canned chat answers as fast as one thread can write them, and scripted streams.
//!
//! It is not a test double for correctness (`src/demo/` is): it knows one request shape, and takes its orders from
//! the request's `user` field, which every proxy passes on untouched.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::time::sleep_until;

use crate::Outcome;

/// What comes before the time stamp in each content event; the load generator looks for it.
pub const STAMP: &[u8] = br#""content":"@"#;
/// Nanoseconds since [`epoch`], zero-padded.
pub const STAMP_DIGITS: usize = 16;

const PLAIN: &str = r#"{"id":"chatcmpl-Q2hhdENvbXBsZXRpb24","object":"chat.completion","created":1700000000,"model":"bench","system_fingerprint":"fp_bench","choices":[{"index":0,"message":{"role":"assistant","content":"A small cat sat on the mat, and a large dog ran."},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":12,"completion_tokens":14,"total_tokens":26}}"#;
const MODELS: &str =
    r#"{"object":"list","data":[{"id":"bench","object":"model","created":1700000000,"owned_by":"bench"}]}"#;
const STREAM_HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n";

/// What the upstream tells the load generator, for the cancel runs.
#[derive(Debug, Clone, Copy)]
pub enum Event {
    /// A request that will never be answered in full has been read.
    Arrived(u64),
    /// The connection of that request was closed by the proxy.
    Closed(u64, Instant),
}

/// A running upstream.
pub struct Upstream {
    /// Where it listens.
    pub address: SocketAddr,
    /// What it sees, in order.
    pub events: mpsc::Receiver<Event>,
}

/// What one request asks for in its `user` field.
enum Script {
    Plain,
    /// `stream:EVENTS:MICROSECONDS`; a pace of zero is a flood.
    Stream {
        events: u32,
        pace: Duration,
    },
    /// `hang:ID`, `token-then-hang:ID`
    Hang {
        id: u64,
        first_token: bool,
    },
}

/// The instant that all stamps count from.
pub fn epoch() -> Instant {
    static EPOCH: OnceLock<Instant> = OnceLock::new();
    *EPOCH.get_or_init(Instant::now)
}

/// Starts the upstream on a thread of its own. It ends with the process.
pub fn start() -> Outcome<Upstream> {
    epoch();
    let (events, receiver) = mpsc::channel(4096);
    let (bound, address) = std::sync::mpsc::channel();
    std::thread::Builder::new().name("upstream".into()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let served = runtime.and_then(|runtime| {
            runtime.block_on(async {
                let socket = TcpSocket::new_v4()?;
                socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
                let listener = socket.listen(1024)?;
                bound.send(listener.local_addr()).map_err(io::Error::other)?;
                accept(listener, events).await
            })
        });
        if let Err(error) = served {
            eprintln!("the upstream ended: {error}");
        }
    })?;
    Ok(Upstream { address: address.recv()??, events: receiver })
}

async fn accept(listener: TcpListener, events: mpsc::Sender<Event>) -> io::Result<()> {
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let events = events.clone();
        // A connection that fails ends alone: the client side counts what it misses.
        tokio::spawn(async move { serve(socket, events).await.ok() });
    }
}

async fn serve(mut socket: TcpStream, events: mpsc::Sender<Event>) -> io::Result<()> {
    let plain = answer("application/json", PLAIN);
    let models = answer("application/json", MODELS);
    let mut buffer = BytesMut::with_capacity(64 * 1024);
    loop {
        let Some((head, body)) = read_request(&mut socket, &mut buffer).await? else { return Ok(()) };
        let is_get = buffer.starts_with(b"GET ");
        let script = script(buffer.get(head..head + body).unwrap_or_default());
        let wants_usage = memmem::find(&buffer, br#""include_usage":true"#).is_some();
        buffer.advance(head + body);
        if is_get {
            socket.write_all(&models).await?;
            continue;
        }
        match script {
            Script::Plain => socket.write_all(&plain).await?,
            Script::Stream { events: count, pace } => stream(&mut socket, count, pace, wants_usage).await?,
            Script::Hang { id, first_token } => {
                if first_token {
                    let mut opening = STREAM_HEAD.as_bytes().to_vec();
                    opening.extend(chunk(&role_event()));
                    opening.extend(chunk(&content_event()));
                    socket.write_all(&opening).await?;
                }
                events.try_send(Event::Arrived(id)).map_err(io::Error::other)?;
                // Nothing more is due from the proxy, so whatever ends this read is the close.
                socket.read_buf(&mut buffer).await.ok();
                return events.try_send(Event::Closed(id, Instant::now())).map_err(io::Error::other);
            }
        }
    }
}

/// Reads until one whole request is in the buffer: the lengths of its head and body, or `None` at a clean end.
async fn read_request(socket: &mut TcpStream, buffer: &mut BytesMut) -> io::Result<Option<(usize, usize)>> {
    let mut need = None;
    loop {
        if need.is_none()
            && let Some(end) = memmem::find(buffer, b"\r\n\r\n")
        {
            let body = content_length(buffer.get(..end).unwrap_or_default());
            buffer.reserve((end + 4 + body).saturating_sub(buffer.len()));
            need = Some((end + 4, body));
        }
        if let Some((head, body)) = need
            && buffer.len() >= head + body
        {
            return Ok(need);
        }
        if socket.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}

/// The value of `Content-Length`, 0 without one.
pub fn content_length(head: &[u8]) -> usize {
    let name = b"content-length:";
    head.split(|&byte| byte == b'\n')
        .find(|line| line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name)))
        .and_then(|line| line.get(name.len()..))
        .and_then(|value| str::from_utf8(value).ok())
        .and_then(|value| value.trim().parse().ok())
        .unwrap_or(0)
}

fn script(body: &[u8]) -> Script {
    let key = br#""user":""#;
    let value = memmem::find(body, key)
        .and_then(|at| body.get(at + key.len()..))
        .and_then(|rest| rest.split(|&byte| byte == b'"').next())
        .and_then(|value| str::from_utf8(value).ok())
        .unwrap_or("plain");
    let mut words = value.split(':');
    let kind = words.next().unwrap_or_default();
    let mut number = || words.next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
    match kind {
        "stream" => {
            let events = u32::try_from(number()).unwrap_or(u32::MAX);
            Script::Stream { events, pace: Duration::from_micros(number()) }
        }
        "hang" => Script::Hang { id: number(), first_token: false },
        "token-then-hang" => Script::Hang { id: number(), first_token: true },
        _ => Script::Plain,
    }
}

/// One event for each write, as an inference server writes them, on an absolute schedule.
async fn stream(socket: &mut TcpStream, events: u32, pace: Duration, wants_usage: bool) -> io::Result<()> {
    let mut opening = STREAM_HEAD.as_bytes().to_vec();
    opening.extend(chunk(&role_event()));
    socket.write_all(&opening).await?;
    let mut piece = chunk(&content_event());
    let at = memmem::find(&piece, STAMP).map_or(0, |found| found + STAMP.len());
    let begin = tokio::time::Instant::now();
    for index in 0..events {
        if !pace.is_zero() {
            sleep_until(begin + pace * index).await;
        }
        let stamp = format!("{:0STAMP_DIGITS$}", epoch().elapsed().as_nanos());
        if let Some(place) = piece.get_mut(at..at + STAMP_DIGITS) {
            place.copy_from_slice(stamp.as_bytes());
        }
        socket.write_all(&piece).await?;
    }
    let mut ending = chunk(&event(r#"[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}]"#, ""));
    if wants_usage {
        let usage = format!(
            r#","usage":{{"prompt_tokens":12,"completion_tokens":{events},"total_tokens":{}}}"#,
            events.saturating_add(12)
        );
        ending.extend(chunk(&event("[]", &usage)));
    }
    ending.extend(chunk("data: [DONE]\n\n"));
    ending.extend_from_slice(b"0\r\n\r\n");
    socket.write_all(&ending).await
}

fn answer(content_type: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        .into_bytes()
}

fn event(choices: &str, more: &str) -> String {
    format!(
        "data: {{\"id\":\"chatcmpl-Q2hhdENvbXBsZXRpb24\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\
         \"model\":\"bench\",\"system_fingerprint\":\"fp_bench\",\"choices\":{choices}{more}}}\n\n"
    )
}

fn role_event() -> String {
    event(
        r#"[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]"#,
        "",
    )
}

fn content_event() -> String {
    let stamp = "0".repeat(STAMP_DIGITS);
    event(
        &format!(r#"[{{"index":0,"delta":{{"content":"@{stamp} "}},"logprobs":null,"finish_reason":null}}]"#),
        "",
    )
}

fn chunk(text: &str) -> Vec<u8> {
    format!("{:x}\r\n{text}\r\n", text.len()).into_bytes()
}
