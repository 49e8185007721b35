//! `fail_on = ["empty"]`: an answer that ends without a word is a failure. Its commit point is its first content, not
//! its finish reason; what came before is kept for the client.

use std::future::poll_fn;

use super::{Frame, Reply, ReplyBody, ReplyStream};
use crate::dialect::{events_say_something, says_something};
use crate::error::{ErrorKind, ProxyError};

/// So much without content is content enough: nothing more is held back.
const MOST_HELD: usize = 256 * 1024;

/// Gives the reply back once it has said something.
///
/// # Errors
/// [`ErrorKind::EmptyAnswer`] when it ends before that, or whatever else ends it.
pub(super) async fn refuse_empty(mut reply: Reply) -> Result<Reply, ProxyError> {
    let says = match &mut reply.body {
        ReplyBody::Whole { bytes, .. } => says_something(bytes),
        ReplyBody::Stream(stream) => until_content(stream).await?,
    };
    if says { Ok(reply) } else { Err(empty(&reply.served.provider)) }
}

async fn until_content(stream: &mut ReplyStream) -> Result<bool, ProxyError> {
    let mut held = Vec::new();
    let mut size = 0;
    loop {
        match poll_fn(|cx| stream.poll_frame(cx)).await {
            Frame::Data(bytes) => {
                size += bytes.len();
                let says = size > MOST_HELD || events_say_something(&bytes);
                held.push(Frame::Data(bytes));
                if says {
                    stream.put_back(held);
                    return Ok(true);
                }
            }
            Frame::End(end) => return end.error.map_or(Ok(false), Err),
        }
    }
}

fn empty(provider: &str) -> ProxyError {
    ProxyError::new(ErrorKind::EmptyAnswer, format!("`{provider}` answered without any content")).at(provider)
}
