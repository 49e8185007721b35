//! What web pages of allowed origins need: the answer to their preflight, and the headers that let them read others.
//! Which origins those are is `gate.rs`'s to say.

use actix_web::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, HeaderValue,
    ORIGIN, VARY,
};
use actix_web::{HttpRequest, HttpResponse};
use http::header::HeaderName;

use super::gate::Origin;

const PRIVATE_NETWORK_ASKED: &str = "access-control-request-private-network";

/// The answer to a browser that asks before it sends.
pub(super) fn preflight(request: &HttpRequest, origin: Origin) -> HttpResponse {
    let mut response = HttpResponse::NoContent().finish();
    allow_origin(&mut response, request, origin);
    if origin == Origin::Allowed {
        let headers = response.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, OPTIONS"));
        headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
        // `*` does not cover Authorization, so what is asked for is echoed.
        if let Some(wanted) = request.headers().get(ACCESS_CONTROL_REQUEST_HEADERS) {
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
        }
        // Chromium asks on behalf of public pages (Private Network Access, WICG draft, 2024).
        if request.headers().contains_key(PRIVATE_NETWORK_ASKED) {
            headers.insert(
                HeaderName::from_static("access-control-allow-private-network"),
                HeaderValue::from_static("true"),
            );
        }
    }
    response
}

/// Lets a page of an allowed origin read the answer.
pub(super) fn allow_origin(response: &mut HttpResponse, request: &HttpRequest, origin: Origin) {
    let (Origin::Allowed, Some(value)) = (origin, request.headers().get(ORIGIN)) else { return };
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, value.clone());
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("*"));
    headers.append(VARY, HeaderValue::from_static("Origin"));
}
