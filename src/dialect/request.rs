//! Reads a client's request: only what decides where it goes and how the answer comes back.
//! Everything else passes through unread; whether a value makes sense is the upstream's to say.

#[cfg(test)]
mod tests;

use std::sync::OnceLock;

use bytes::Bytes;

use super::{Endpoint, Member, Request, Task};
use crate::error::{ErrorKind, ProxyError};
use crate::wire::json::{self, JsonError};

/// Keys that decide something here. Two of them in one body could be read one way by us and another way upstream.
const DECIDING: [&str; 9] =
    ["model", "stream", "stream_options", "messages", "prompt", "suffix", "stop", "input", "encoding_format"];

/// Among the `stop` strings of a completion it marks fill in the middle, as editors' prompt templates do.
const SUFFIX_MARK: &str = "[SUFFIX]";

/// Reads a request body that came in at `endpoint`.
///
/// `/completions` is [`Task::Fim`] when it has a `prompt` and a `suffix` that are not empty, or when `[SUFFIX]` is
/// among its `stop` strings.
///
/// # Errors
/// [`ErrorKind::InvalidRequest`], naming the field where there is one, when
/// - the body is empty, not UTF-8, not JSON, not an object, or nested too deep;
/// - a key that decides something is there twice;
/// - `model` is missing, not a string, or empty;
/// - the endpoint's required field is missing or null, or `messages` is not an array;
/// - `stream` is neither a boolean nor null (not looked at for embeddings, which cannot be streamed).
pub fn read(endpoint: &Endpoint, body: Bytes) -> Result<Request, ProxyError> {
    let members = scan(endpoint, &body)?;
    refuse_duplicates(&members)?;
    let reader = Reader { body: &body, members: &members };
    let model = reader.model()?;
    reader.check_required(endpoint)?;
    let embedding = endpoint.task == Task::Embedding;
    let stream = !embedding && reader.stream()?;
    let task =
        if endpoint.task == Task::Completion && reader.wants_fim() { Task::Fim } else { endpoint.task };
    let include_usage = reader.include_usage();
    let base64 = embedding && reader.raw("encoding_format").is_some_and(|raw| json::string_is(raw, "base64"));
    let (shape, needs) = (endpoint.shape, OnceLock::new());
    Ok(Request { task, shape, model, stream, include_usage, base64, body, members, needs })
}

fn invalid(message: impl Into<String>) -> ProxyError {
    ProxyError::new(ErrorKind::InvalidRequest, message)
}

fn scan(endpoint: &Endpoint, body: &[u8]) -> Result<Vec<Member>, ProxyError> {
    if body.trim_ascii().is_empty() {
        return Err(invalid(format!(
            "the request body is empty: send a JSON object with `model` and `{}`",
            endpoint.required
        )));
    }
    json::scan_object(body).map_err(|error| {
        invalid(match error {
            JsonError::NotAnObject => {
                "the request body must be a JSON object, such as {\"model\": …}".to_owned()
            }
            JsonError::NotUtf8 { at } => format!("the request body is not valid UTF-8 at byte {at}"),
            error @ JsonError::Incomplete { .. } => {
                format!("the request body is not complete JSON: it {error}")
            }
            error @ JsonError::Syntax { .. } => format!("the request body is {error}"),
            JsonError::TooDeep { at } => format!(
                "the request body is nested too deep at byte {at}: at most {} levels are allowed",
                json::MAX_DEPTH
            ),
            JsonError::TooManyMembers { .. } => {
                format!("the request body has more than {} fields", json::MAX_MEMBERS)
            }
        })
    })
}

fn refuse_duplicates(members: &[Member]) -> Result<(), ProxyError> {
    for key in DECIDING {
        if members.iter().filter(|member| member.key == key).nth(1).is_some() {
            return Err(invalid(format!("`{key}` is given twice: send it once")).with_param(key));
        }
    }
    Ok(())
}

struct Reader<'a> {
    body: &'a [u8],
    members: &'a [Member],
}

impl Reader<'_> {
    fn member(&self, key: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.key == key)
    }

    /// The value as written; a null counts as absent.
    fn raw(&self, key: &str) -> Option<&[u8]> {
        self.body.get(self.member(key)?.value.clone()).filter(|raw| !json::is_null(raw))
    }

    fn model(&self) -> Result<String, ProxyError> {
        const REMEDY: &str = "name one that GET /v1/models lists, such as `provider/model`";
        let Some(raw) = self.raw("model") else {
            return Err(invalid(format!("`model` is missing: {REMEDY}")).with_param("model"));
        };
        let Some(model) = json::string_value(raw) else {
            return Err(invalid(format!("`model` must be a string: {REMEDY}")).with_param("model"));
        };
        if model.trim().is_empty() {
            return Err(invalid(format!("`model` is empty: {REMEDY}")).with_param("model"));
        }
        Ok(model.into_owned())
    }

    fn check_required(&self, endpoint: &Endpoint) -> Result<(), ProxyError> {
        let key = endpoint.required;
        let Some(raw) = self.raw(key) else {
            let path = endpoint.path;
            return Err(invalid(format!("`{key}` is missing: /v1/{path} needs it")).with_param(key));
        };
        if endpoint.task == Task::Chat && !raw.starts_with(b"[") {
            return Err(invalid(format!("`{key}` must be an array of messages")).with_param(key));
        }
        Ok(())
    }

    fn stream(&self) -> Result<bool, ProxyError> {
        let Some(raw) = self.raw("stream") else {
            return Ok(false);
        };
        json::as_bool(raw).ok_or_else(|| invalid("`stream` must be true or false").with_param("stream"))
    }

    fn include_usage(&self) -> bool {
        let Some(options) = self.member("stream_options") else {
            return false;
        };
        json::members_of(self.body, options.value.clone())
            .filter(|field| field.is("include_usage"))
            .last()
            .is_some_and(|field| json::as_bool(field.raw) == Some(true))
    }

    fn wants_fim(&self) -> bool {
        let filled = |key| self.raw(key).is_some_and(|raw| !json::is_empty(raw));
        (filled("prompt") && filled("suffix")) || self.has_suffix_mark()
    }

    fn has_suffix_mark(&self) -> bool {
        let Some(stop) = self.member("stop") else {
            return false;
        };
        let is_mark = |raw: &[u8]| json::string_is(raw, SUFFIX_MARK);
        self.body.get(stop.value.clone()).is_some_and(is_mark)
            || json::elements_of(self.body, stop.value.clone()).any(|element| is_mark(element.raw))
    }
}
