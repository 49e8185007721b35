//! `fail_on = ["empty"]`: an answer that ends without a word is a failure. Its commit point is its first content, not
//! its finish reason; what came before is kept for the client. And whoever goes on with another's answer has to say
//! something, or that there is nothing more to say: else what broke off would be passed off as whole.

use std::future::poll_fn;

use bytes::Bytes;

use super::{Frame, Reply, ReplyBody, ReplyStream};
use crate::dialect::{events_say_or_finish, events_say_something, says_something};
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
        ReplyBody::Stream(stream) => until(stream, events_say_something).await?,
    };
    if says { Ok(reply) } else { Err(empty(&reply.served.provider)) }
}

/// Gives a reply that goes on with another one back once it has said something new, or why the answer ends.
///
/// # Errors
/// As [`refuse_empty`].
pub(super) async fn refuse_mute(mut reply: Reply) -> Result<Reply, ProxyError> {
    let goes_on = match &mut reply.body {
        ReplyBody::Whole { .. } => true,
        ReplyBody::Stream(stream) => until(stream, events_say_or_finish).await?,
    };
    if goes_on { Ok(reply) } else { Err(empty(&reply.served.provider)) }
}

/// Reads on to the first events that are what is wanted, and whether there are any; nothing is lost of the stream.
async fn until(stream: &mut ReplyStream, wanted: fn(&Bytes) -> bool) -> Result<bool, ProxyError> {
    let mut held = Vec::new();
    let mut size = 0;
    loop {
        match poll_fn(|cx| stream.poll_frame(cx)).await {
            Frame::Data(bytes) => {
                size += bytes.len();
                let says = size > MOST_HELD || wanted(&bytes);
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
