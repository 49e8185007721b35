//! Errors as HTTP responses: the only place that picks a status. The dialect gives the body's shape.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{HttpResponse, HttpResponseBuilder};

use super::reply::MAX_HEADER;
use crate::dialect::openai_error;
use crate::error::{ErrorKind, Fault, ProxyError};
use crate::router::explain::Refused;

/// Clients retry by themselves on 429 and 5xx; beyond this they should not.
const LONGEST_CLIENT_RETRY_SECONDS: u64 = 60;

/// The status of an error.
pub fn status(error: &ProxyError) -> StatusCode {
    match error.kind {
        ErrorKind::InvalidRequest | ErrorKind::Unsupported => StatusCode::BAD_REQUEST,
        ErrorKind::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorKind::Unauthorized => StatusCode::UNAUTHORIZED,
        ErrorKind::Forbidden => StatusCode::FORBIDDEN,
        ErrorKind::Loop => StatusCode::LOOP_DETECTED,
        ErrorKind::NotFound | ErrorKind::ModelNotFound => StatusCode::NOT_FOUND,
        ErrorKind::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        ErrorKind::Overloaded | ErrorKind::QuotaExhausted => StatusCode::TOO_MANY_REQUESTS,
        // Somebody's quota was the reason, so waiting helps.
        ErrorKind::Exhausted if error.denial.is_some() => StatusCode::TOO_MANY_REQUESTS,
        ErrorKind::ShuttingDown | ErrorKind::ProviderDown | ErrorKind::BreakerOpen | ErrorKind::Exhausted => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        ErrorKind::ProviderRetired => StatusCode::GONE,
        ErrorKind::UpstreamStatus | ErrorKind::UpstreamInBand | ErrorKind::Static => upstream_status(error),
        ErrorKind::UpstreamAuthentication
        | ErrorKind::Connect
        | ErrorKind::Truncated
        | ErrorKind::EmptyAnswer
        | ErrorKind::UpstreamProtocol => StatusCode::BAD_GATEWAY,
        ErrorKind::Timeout => StatusCode::GATEWAY_TIMEOUT,
    }
}

/// The upstream's own status, if it is one that an error answer can have. A 400 that tells of a sick upstream would keep
/// the client from trying again.
fn upstream_status(error: &ProxyError) -> StatusCode {
    let misleads = |code: &u16| *code == 400 && error.fault == Fault::Upstream && error.refusal.is_none();
    let code = error.upstream.as_ref().map(|answer| answer.status);
    let code = code.filter(|code| (400..600).contains(code) && !misleads(code));
    code.and_then(|code| StatusCode::from_u16(code).ok()).unwrap_or(StatusCode::BAD_GATEWAY)
}

/// The response to an error.
pub fn error_response(error: &ProxyError) -> HttpResponse {
    let mut response = HttpResponse::build(status(error));
    response.insert_header((CONTENT_TYPE, HeaderValue::from_static("application/json")));
    match error.kind {
        ErrorKind::Unauthorized => {
            response.insert_header((WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")));
        }
        ErrorKind::BodyTooLarge => {
            // What is still on its way is not read.
            response.force_close();
        }
        _ => {}
    }
    upstream_headers(&mut response, error);
    retry_headers(&mut response, error);
    response.body(openai_error(error))
}

/// Who failed and how; and beside an upstream's own error its headers, such as what is left of a rate limit.
fn upstream_headers(response: &mut HttpResponseBuilder, error: &ProxyError) {
    if error.kind == ErrorKind::UpstreamStatus
        && let Some(answer) = &error.upstream
    {
        let own = |name: &HeaderName| *name == CONTENT_TYPE || *name == RETRY_AFTER;
        for (name, value) in answer.headers.iter().filter(|(name, _)| !own(name)) {
            response.append_header((name.clone(), value.clone()));
        }
    }
    if let Some(provider) = &error.provider {
        response.insert_header(("x-demuxai-provider", provider.as_str()));
    }
    let attempts = attempts(error);
    // A model id with characters that no header carries goes without.
    if !attempts.is_empty()
        && let Ok(value) = HeaderValue::from_str(&attempts)
    {
        response.insert_header((HeaderName::from_static("x-demuxai-attempts"), value));
    }
}

/// The error as its client gets it, for those who foretell it.
pub fn refused(error: &ProxyError) -> Refused {
    let code = error.code.clone().unwrap_or_else(|| error.kind.label().to_owned());
    Refused {
        status: status(error).as_u16(),
        code,
        retry_after: error.retry_after.map(in_seconds),
        attempts: attempts(error),
    }
}

/// In whole seconds, rounded up.
fn in_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

/// The hops as a header tells them, as many whole ones as it holds.
fn attempts(error: &ProxyError) -> String {
    if error.attempts.is_empty() {
        return error.provider.as_ref().map(|id| format!("{id} {}", error.kind.label())).unwrap_or_default();
    }
    let mut text = String::new();
    for hop in &error.attempts {
        let separator = if text.is_empty() { "" } else { ", " };
        if text.len() + hop.backend.len() + hop.label.len() + 3 > MAX_HEADER {
            break;
        }
        text.push_str(&format!("{separator}{} {}", hop.backend, hop.label));
    }
    text
}

fn retry_headers(response: &mut HttpResponseBuilder, error: &ProxyError) {
    if let Some(after) = error.retry_after {
        let seconds = in_seconds(after);
        response.insert_header((RETRY_AFTER, seconds.to_string()));
        if seconds > LONGEST_CLIENT_RETRY_SECONDS {
            response.insert_header(("x-should-retry", "false"));
        }
    } else if let Some(text) = error.upstream.as_ref().and_then(|answer| answer.retry_after.as_deref()) {
        response.insert_header((RETRY_AFTER, text));
    }
    if error.kind == ErrorKind::ProviderRetired {
        response.insert_header(("x-should-retry", "false"));
    }
}

/// The same response, naming the methods that are right: a 405 must (RFC 9110 §15.5.6).
pub fn allow(mut response: HttpResponse, methods: &'static str) -> HttpResponse {
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
    response
}
