//! Rewrites a whole answer: checks that it is complete, finds an error inside of it, and makes the few changes that
//! the client must see. Streams are `stream.rs`.

#[cfg(test)]
mod tests;

use std::ops::Range;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use memchr::memmem::find;

use super::choices::{Choices, Form, read_choices};
use super::rewrite::{Marks, Parts, Rewrite, in_band_error};
use super::{Shape, Usage};
use crate::error::{ErrorKind, ProxyError};
use crate::wire::json::{JsonError, elements_of, members_of, scan_spans};
use crate::wire::splice::Edits;

/// A whole answer, ready for the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plain {
    /// The body.
    pub bytes: Bytes,
    /// The token counts it reports.
    pub usage: Usage,
}

/// Rewrites the body of an answer with a status of success. Whitespace around it stays (DeepSeek pads while it thinks).
///
/// # Errors
/// - [`ErrorKind::Truncated`] when the body is empty or ends too early;
/// - [`ErrorKind::UpstreamProtocol`] when it is not a JSON object;
/// - [`ErrorKind::UpstreamInBand`] when it is an error: an `error` and neither `choices` nor `data`, Mistral's
///   `"object":"error"`, or choices of which one finished with `error` and none has content.
pub fn rewrite_plain(body: &Bytes, plan: &Rewrite) -> Result<Plain, ProxyError> {
    let mut spans = Vec::with_capacity(16);
    scan_spans(body, &mut spans).map_err(|error| unreadable(plan, error))?;
    let marks = Marks::new(&plan.provider);
    let mut edits = Edits::new();
    let parts = Parts::read(body, &spans, &marks, &mut edits);
    // They are read only where one of them may have failed: most answers say nothing of the kind.
    let doubtful =
        |range: &Range<usize>| body.get(range.clone()).is_some_and(|raw| find(raw, b"error").is_some());
    let suspect = parts.choices.clone().filter(doubtful);
    let choices = suspect.map_or_else(Choices::default, |range| read_choices(body, range));
    let is_answer = parts.choices.is_some() || parts.data.is_some();
    if (!is_answer && parts.says_error(body)) || (choices.failed && !choices.content) {
        return Err(in_band_error(plan, body));
    }
    parts.translate(body, plan, Form::Whole, |_| true, &mut edits);
    if let Some(data) = parts.data.clone().filter(|_| plan.client == Shape::Embedding && plan.base64) {
        encode_embeddings(body, data, &mut edits);
    }
    let usage = parts.usage(body);
    let bytes = if edits.is_empty() { body.clone() } else { Bytes::from(edits.apply(body)) };
    Ok(Plain { bytes, usage })
}

fn unreadable(plan: &Rewrite, error: JsonError) -> ProxyError {
    let provider = &plan.provider;
    let (kind, what) = match error {
        JsonError::Incomplete { at, .. } => {
            (ErrorKind::Truncated, format!("sent an answer that ends too early, after {at} bytes"))
        }
        error => (ErrorKind::UpstreamProtocol, format!("sent an answer that cannot be read: {error}")),
    };
    ProxyError::new(kind, format!("`{provider}` {what}")).at(provider)
}

/// Arrays of numbers in `data[].embedding` become base64 of little-endian 32-bit floats, which is what the OpenAI
/// SDKs ask for by default and decode (openai-python 3.54, openai-node 6.49). Anything else stays.
fn encode_embeddings<'a>(body: &'a [u8], data: Range<usize>, edits: &mut Edits<'a>) {
    for entry in elements_of(body, data) {
        for field in members_of(body, entry.range).filter(|field| field.is("embedding")) {
            if let Some(encoded) = encode_floats(body, field.range.clone()) {
                edits.replace(field.range, encoded);
            }
        }
    }
}

/// `None` unless it is an array of numbers that such floats can hold, with at least one.
fn encode_floats(body: &[u8], array: Range<usize>) -> Option<Vec<u8>> {
    let mut floats = Vec::with_capacity(array.len() / 3);
    for element in elements_of(body, array) {
        let number =
            std::str::from_utf8(element.raw).ok()?.parse().ok().filter(|number: &f32| number.is_finite())?;
        floats.extend_from_slice(&number.to_le_bytes());
    }
    if floats.is_empty() {
        return None;
    }
    let mut encoded = String::with_capacity(floats.len().div_ceil(3) * 4 + 2);
    encoded.push('"');
    STANDARD.encode_string(&floats, &mut encoded);
    encoded.push('"');
    Some(encoded.into_bytes())
}
