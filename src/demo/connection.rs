//! One connection of a fake upstream: reads requests, asks the handler what to do, and plays the script while watching
//! for the client to leave. Knows sockets and tokio's clock; knows no provider.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

use super::request::{BodyReader, Framing, Head, MAX_HEAD, Malformed, Received, take_head};
use super::script::{Answer, LAST_CHUNK, Script, Step, chunk_frame};
use super::shared::Shared;

/// How long and how much is still read from a client after an orderly close, so that the kernel does not turn the
/// close into a reset that takes the answer with it.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 8 * 1024 * 1024;

/// How the playing of a script ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// All steps played, the connection is as it was.
    Played,
    /// The script closes the connection.
    Close,
    /// The script resets the connection.
    Reset,
    /// The client left before all steps were played.
    PeerLeft,
}

/// What the connection brought next.
enum Next {
    /// A whole request, and whether the connection ends after it.
    Request(Received, bool),
    /// A request that is answered before its body was read.
    Early(Received, Script),
    /// The client closed the connection between two requests.
    Gone,
    /// The client closed the connection within a request.
    Cut,
    /// No request that can be read.
    Malformed(Malformed),
}

/// Serves one connection until either side ends it.
pub(super) async fn serve(mut stream: TcpStream, number: u64, shared: Arc<Shared>) {
    // Without this, small writes wait for the client's delayed acknowledgement and no pause is what it says.
    let _ = stream.set_nodelay(true);
    let mut inbox = BytesMut::new();
    loop {
        let (received, early, last) = match next(&mut stream, &mut inbox, number, &shared).await {
            Ok(Next::Request(received, last)) => (received, None, last),
            Ok(Next::Early(received, script)) => (received, Some(script), true),
            Ok(Next::Gone) => return,
            Ok(Next::Cut) | Err(_) => return shared.count(|counts| counts.cut_uploads += 1),
            Ok(Next::Malformed(error)) => {
                shared.count(|counts| counts.malformed += 1);
                let _ = stream.write_all(&refusal(error).wire()).await;
                return linger(stream).await;
            }
        };
        let received = shared.stamp(received);
        let open = shared.open(&received);
        let script = early.unwrap_or_else(|| shared.answer(&received));
        let (script, pass) = shared.limited(&received, script);
        let end = play(&mut stream, &mut inbox, &script, &shared).await;
        drop(pass);
        match end {
            End::Played if !last => open.complete(),
            End::Played | End::Close => {
                open.complete();
                return linger(stream).await;
            }
            End::Reset => {
                let _ = stream.set_zero_linger();
                // The socket first: who waits for the count may look at the connection at once.
                drop(stream);
                return open.complete();
            }
            End::PeerLeft => return,
        }
    }
}

async fn next(
    stream: &mut TcpStream,
    inbox: &mut BytesMut,
    number: u64,
    shared: &Shared,
) -> io::Result<Next> {
    let head = loop {
        match take_head(inbox) {
            Ok(Some(head)) => break head,
            Ok(None) => {}
            Err(error) => return Ok(Next::Malformed(error)),
        }
        if stream.read_buf(inbox).await? == 0 {
            return Ok(if inbox.is_empty() { Next::Gone } else { Next::Cut });
        }
    };
    let Head { mut received, framing, expects_continue, close } = head;
    received.connection = number;
    if let Some(script) = shared.answer_early(&received) {
        return Ok(Next::Early(received, script));
    }
    let mut reader = BodyReader::new(framing, shared.limits.max_body);
    let mut told = !expects_continue || framing == Framing::Length(0);
    loop {
        match reader.take(inbox) {
            Ok(Some(body)) => {
                received.body = body;
                return Ok(Next::Request(received, close));
            }
            Ok(None) => {}
            Err(error) => return Ok(Next::Malformed(error)),
        }
        if !told {
            told = true;
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        inbox.reserve(MAX_HEAD);
        if stream.read_buf(inbox).await? == 0 {
            return Ok(Next::Cut);
        }
    }
}

async fn play(stream: &mut TcpStream, inbox: &mut BytesMut, script: &Script, shared: &Shared) -> End {
    let (mut reader, mut writer) = stream.split();
    for step in script.steps() {
        let done = match step {
            Step::Write(bytes) => {
                watched(&mut reader, inbox, put(&mut writer, bytes.clone(), 1, shared)).await
            }
            Step::Chunk(bytes) => {
                watched(&mut reader, inbox, put(&mut writer, chunk_frame(bytes), 1, shared)).await
            }
            Step::LastChunk => {
                let last = Bytes::from_static(LAST_CHUNK);
                watched(&mut reader, inbox, put(&mut writer, last, 1, shared)).await
            }
            Step::Repeat(bytes, times) => {
                watched(&mut reader, inbox, put(&mut writer, bytes.clone(), *times, shared)).await
            }
            Step::Pause(duration) => watched(&mut reader, inbox, pause(*duration)).await,
            Step::Gate(name) => watched(&mut reader, inbox, shared.pass_gate(name)).await,
            Step::Hang => watched(&mut reader, inbox, std::future::pending()).await,
            Step::Close => return End::Close,
            Step::Reset => return End::Reset,
        };
        if !matches!(done, Some(Ok(()))) {
            return End::PeerLeft;
        }
    }
    End::Played
}

/// Drives `work`, and gives up on it when the client leaves. What a client sends meanwhile is kept for later.
async fn watched<F>(reader: &mut ReadHalf<'_>, inbox: &mut BytesMut, work: F) -> Option<io::Result<()>>
where
    F: Future<Output = io::Result<()>>,
{
    let mut work = pin!(work);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return Some(done),
            read = reader.read_buf(inbox), if inbox.len() < MAX_HEAD => match read {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            },
        }
    }
}

async fn put(writer: &mut WriteHalf<'_>, bytes: Bytes, times: u64, shared: &Shared) -> io::Result<()> {
    for _ in 0..times {
        writer.write_all(&bytes).await?;
        shared.wrote(bytes.len());
    }
    Ok(())
}

async fn pause(duration: Duration) -> io::Result<()> {
    tokio::time::sleep(duration).await;
    Ok(())
}

/// Closes in order: FIN now, and what the client still sends is read away for a moment.
async fn linger(mut stream: TcpStream) {
    if stream.shutdown().await.is_err() {
        return;
    }
    let drain = async {
        let mut rest = BytesMut::with_capacity(MAX_HEAD);
        let mut left = LINGER_BYTES;
        while let Ok(read) = stream.read_buf(&mut rest).await {
            if read == 0 || read > left {
                return;
            }
            left -= read;
            rest.clear();
        }
    };
    let _ = tokio::time::timeout(LINGER, drain).await;
}

fn refusal(error: Malformed) -> Script {
    let status = match error {
        Malformed::BodyTooLarge => 413,
        Malformed::HeadTooLarge | Malformed::Head | Malformed::Framing | Malformed::Chunk => 400,
    };
    Answer::new(status)
        .header("content-type", "text/plain")
        .header("connection", "close")
        .body(error.to_string())
}
