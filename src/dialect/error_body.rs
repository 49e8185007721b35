//! Error bodies in OpenAI's shape, and the search for the message in whatever shape an upstream wrote its own.
//! It picks no status: that is the server's.

#[cfg(test)]
mod tests;

use std::ops::Range;

use bytes::Bytes;

use crate::error::{ErrorKind, Fault, ProxyError};
use crate::wire::json::{self, elements_of, members_of, push_quoted, string_value};

/// The longest message taken over from an upstream, in characters.
const MAX_MESSAGE: usize = 2000;

/// The longest error text that is not JSON, in characters: what is longer is a page, not a message.
const MAX_PLAIN: usize = 500;

/// The largest error body of an upstream that is passed on as it is.
const MAX_PASSED: usize = 8 * 1024;

/// The longest error code that is taken for a word.
const MAX_WORD: usize = 64;

/// How many entries of a list of errors are told.
const MAX_ENTRIES: usize = 5;

/// How deep a message is searched for.
const MAX_LEVELS: u8 = 5;

/// The response body for an error: `{"error":{"message","type","param","code"}}`.
///
/// What an upstream said in that shape already is returned unchanged, other words of an upstream are wrapped. Not for
/// an upstream that refused *our* key or is gone for good: there our own message says what to do.
pub fn openai_error(error: &ProxyError) -> Vec<u8> {
    if let Some((body, object)) = passable(error) {
        if !has_member(body, "choices") {
            return body.to_vec();
        }
        return wrapped(object);
    }
    wrapped(&error_object(error))
}

/// The error as the last event of a stream: `data: {"error":{…}}` and a blank line.
/// Zed needs an object with a string `message` (its `open_ai` crate, 2026), others read that too.
pub fn error_event(error: &ProxyError) -> Bytes {
    let object = passable(error).map_or_else(|| error_object(error), |(_, object)| on_one_line(object));
    let mut event = b"data: ".to_vec();
    event.extend_from_slice(&wrapped(&object));
    event.extend_from_slice(b"\n\n");
    Bytes::from(event)
}

/// The message in an upstream's error body, wherever it put it: `error.message`, `error` (Ollama), `message` (Mistral,
/// Cerebras), `detail` as text or as a list (Mistral, NIM), `errors[0].message` (Cloudflare), `title` (NIM),
/// `[0].error.message` (Gemini), with `error.metadata.raw` behind it (OpenRouter); or a short text that is not JSON.
/// At most 2000 characters.
///
/// `None` when the body is empty, a page of HTML, too long to be a message, or JSON with none of these.
pub fn upstream_message(body: &[u8]) -> Option<String> {
    let found = message_in_document(body, MAX_LEVELS)?;
    Some(match found.char_indices().nth(MAX_MESSAGE) {
        Some((end, _)) => found.get(..end).unwrap_or_default().to_owned(),
        None => found,
    })
}

/// `error.code` or `code` of an upstream's body, as text.
fn upstream_code(body: &[u8]) -> Option<String> {
    json::check(body).ok()?;
    let top = trimmed_range(body);
    let code = field(body, top.clone(), "error")
        .and_then(|error| field(body, error, "code"))
        .or_else(|| field(body, top, "code"))?;
    let raw = body.get(code)?;
    let text = string_value(raw)
        .map_or_else(|| json::as_u64(raw).map(|code| code.to_string()), |text| Some(text.into()));
    text.filter(|code| !code.is_empty() && code.len() <= 100)
}

/// The code of an upstream's error, if it is one word: that can be told in a log, a sentence may hold anything.
pub(super) fn error_word(body: &[u8]) -> Option<String> {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    upstream_code(body).filter(|code| code.len() <= MAX_WORD && code.bytes().all(is_part))
}

/// The upstream's own body and its error object, where that has OpenAI's shape and may be shown.
fn passable(error: &ProxyError) -> Option<(&[u8], &[u8])> {
    if !matches!(error.kind, ErrorKind::UpstreamStatus | ErrorKind::UpstreamInBand) {
        return None;
    }
    let body = error.upstream.as_ref()?.body.as_ref();
    if body.len() > MAX_PASSED || json::check(body).is_err() {
        return None;
    }
    let object = field(body, trimmed_range(body), "error")?;
    let message = field(body, object.clone(), "message")?;
    string_value(body.get(message)?)?;
    Some((body, body.get(object)?))
}

fn error_object(error: &ProxyError) -> Vec<u8> {
    let shown = matches!(error.kind, ErrorKind::UpstreamStatus | ErrorKind::UpstreamInBand);
    let upstream = error.upstream.as_ref().filter(|_| shown);
    let message =
        upstream.and_then(|answer| upstream_message(&answer.body)).unwrap_or_else(|| own_message(error));
    let code = error
        .code
        .clone()
        .or_else(|| upstream.and_then(|answer| upstream_code(&answer.body)))
        .unwrap_or_else(|| error.kind.label().to_owned());
    let mut object = b"{\"message\":".to_vec();
    push_quoted(&mut object, &message);
    object.extend_from_slice(b",\"type\":");
    push_quoted(&mut object, error_type(error));
    object.extend_from_slice(b",\"param\":");
    match &error.param {
        Some(param) => push_quoted(&mut object, param),
        None => object.extend_from_slice(b"null"),
    }
    object.extend_from_slice(b",\"code\":");
    push_quoted(&mut object, &code);
    object.push(b'}');
    object
}

fn own_message(error: &ProxyError) -> String {
    match &error.upstream {
        Some(answer) if error.message.is_empty() => {
            format!("the upstream answered with status {}", answer.status)
        }
        _ => error.message.clone(),
    }
}

fn error_type(error: &ProxyError) -> &'static str {
    match error.kind {
        ErrorKind::InvalidRequest
        | ErrorKind::BodyTooLarge
        | ErrorKind::Loop
        | ErrorKind::MethodNotAllowed
        | ErrorKind::Unsupported => "invalid_request_error",
        ErrorKind::Unauthorized => "authentication_error",
        ErrorKind::Forbidden => "permission_error",
        ErrorKind::NotFound | ErrorKind::ModelNotFound | ErrorKind::ProviderRetired => "not_found_error",
        ErrorKind::Overloaded | ErrorKind::QuotaExhausted => "rate_limit_error",
        ErrorKind::Exhausted if error.denial.is_some() => "rate_limit_error",
        ErrorKind::ShuttingDown
        | ErrorKind::Internal
        | ErrorKind::ProviderDown
        | ErrorKind::BreakerOpen
        | ErrorKind::Exhausted => "server_error",
        ErrorKind::UpstreamStatus | ErrorKind::UpstreamInBand | ErrorKind::Static => {
            let told = error.upstream.as_ref().map(|answer| answer.status);
            // A sick model, told as a bad request.
            let told = told.filter(|status| *status != 400 || error.fault == Fault::Client);
            told.map_or("api_error", status_type)
        }
        ErrorKind::UpstreamAuthentication
        | ErrorKind::Connect
        | ErrorKind::Timeout
        | ErrorKind::Truncated
        | ErrorKind::EmptyAnswer
        | ErrorKind::UpstreamProtocol => "api_error",
    }
}

fn status_type(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        402 => "insufficient_quota",
        403 => "permission_error",
        404 | 410 => "not_found_error",
        408 => "api_error",
        429 => "rate_limit_error",
        400..=499 => "invalid_request_error",
        _ => "api_error",
    }
}

fn wrapped(object: &[u8]) -> Vec<u8> {
    [b"{\"error\":", object, b"}"].concat()
}

/// Line ends in validated JSON are whitespace, but in an event they would end the line.
fn on_one_line(object: &[u8]) -> Vec<u8> {
    object.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }).collect()
}

/// Where the one value of a document begins and ends.
fn trimmed_range(body: &[u8]) -> Range<usize> {
    let start = body.len() - body.trim_ascii_start().len();
    start..body.trim_ascii_end().len().max(start)
}

fn has_member(body: &[u8], key: &str) -> bool {
    field(body, trimmed_range(body), key).is_some()
}

fn field(body: &[u8], object: Range<usize>, key: &str) -> Option<Range<usize>> {
    members_of(body, object).find(|member| member.is(key)).map(|member| member.range)
}

fn message_in_document(body: &[u8], levels: u8) -> Option<String> {
    if json::check(body).is_ok() {
        return message_in_value(body, trimmed_range(body), levels);
    }
    let text = std::str::from_utf8(body).ok()?.trim();
    let is_message =
        !text.is_empty() && !text.starts_with(['<', '{', '[']) && text.chars().count() <= MAX_PLAIN;
    is_message.then(|| text.to_owned())
}

fn message_in_value(body: &[u8], range: Range<usize>, levels: u8) -> Option<String> {
    let levels = levels.checked_sub(1)?;
    let raw = body.get(range.clone())?;
    match raw.first()? {
        b'"' => string_value(raw).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()),
        b'[' => {
            let entries = elements_of(body, range).take(MAX_ENTRIES);
            let messages: Vec<String> =
                entries.filter_map(|entry| message_in_value(body, entry.range, levels)).collect();
            (!messages.is_empty()).then(|| messages.join("; "))
        }
        b'{' => message_in_object(body, range, levels),
        _ => None,
    }
}

fn message_in_object(body: &[u8], object: Range<usize>, levels: u8) -> Option<String> {
    let found = ["error", "message", "detail", "errors", "msg", "title"].into_iter().find_map(|key| {
        let value = field(body, object.clone(), key)?;
        message_in_value(body, value, levels)
    });
    let behind = field(body, object.clone(), "metadata")
        .and_then(|metadata| field(body, metadata, "raw"))
        .and_then(|raw| string_value(body.get(raw)?))
        .and_then(|raw| message_in_document(raw.as_bytes(), levels));
    match (found, behind) {
        (Some(message), Some(cause)) => Some(format!("{message}: {cause}")),
        (Some(message), None) => Some(match location(body, object) {
            Some(place) => format!("{place}: {message}"),
            None => message,
        }),
        (None, behind) => behind,
    }
}

/// `loc` of an entry in a list of invalid fields (`["body","stream_options"]` of pydantic), with dots.
fn location(body: &[u8], entry: Range<usize>) -> Option<String> {
    let path = field(body, entry, "loc")?;
    let parts: Vec<String> = elements_of(body, path)
        .take(10)
        .map(|part| string_value(part.raw).unwrap_or_else(|| String::from_utf8_lossy(part.raw)).into_owned())
        .collect();
    (!parts.is_empty()).then(|| parts.join("."))
}
