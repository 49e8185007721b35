//! Reading a request's body: up to the listener's limit, and only as long as something of it comes.

use std::time::Duration;

use actix_web::http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use actix_web::{HttpRequest, web};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;

use crate::error::{ErrorKind, ProxyError};

/// A client that sends nothing of its body for this long is given up.
const BODY_IDLE: Duration = Duration::from_secs(30);

/// Reads the body up to the limit.
pub(super) async fn read_body(
    http: &HttpRequest,
    mut payload: web::Payload,
    limit: usize,
) -> Result<Bytes, ProxyError> {
    let too_large = || {
        let text = format!("the request body is over {limit} bytes; raise `max_body` of the listener");
        ProxyError::new(ErrorKind::BodyTooLarge, text)
    };
    let announced =
        http.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > limit) {
        return Err(too_large());
    }
    if let Some(coding) = http.headers().get(CONTENT_ENCODING).filter(|coding| *coding != "identity") {
        let coding: String = String::from_utf8_lossy(coding.as_bytes()).chars().take(50).collect();
        let text = format!("content-encoding `{coding}` is not read here: send the body as it is");
        return Err(ProxyError::new(ErrorKind::InvalidRequest, text));
    }
    let mut whole = BytesMut::new();
    let mut first: Option<Bytes> = None;
    loop {
        let chunk = tokio::time::timeout(BODY_IDLE, payload.next()).await.map_err(|_| {
            ProxyError::new(ErrorKind::InvalidRequest, "the request body did not come within 30 s")
        })?;
        let Some(chunk) = chunk else { break };
        let chunk = chunk.map_err(|_| {
            ProxyError::new(ErrorKind::InvalidRequest, "the request body ended before it was complete")
        })?;
        let so_far = whole.len() + first.as_ref().map_or(0, Bytes::len);
        if so_far + chunk.len() > limit {
            return Err(too_large());
        }
        // Most bodies come in one piece and need no copy.
        match first.take() {
            None if whole.is_empty() => first = Some(chunk),
            None => whole.extend_from_slice(&chunk),
            Some(head) => {
                whole.reserve(announced.unwrap_or(0).max(head.len() + chunk.len()));
                whole.extend_from_slice(&head);
                whole.extend_from_slice(&chunk);
            }
        }
    }
    Ok(first.unwrap_or_else(|| whole.freeze()))
}

#[cfg(test)]
mod tests;
