//! The downstream edge: listeners, the gate, and the way from a request to its route.
//! Names no provider kind, no upstream client and no quota.
//!
//! What is no HTTP never gets here: the connection answers it with a bare status and closes. Everything else is answered
//! here, with an `x-request-id`, and every refusal in OpenAI's error shape.

pub mod body;
pub mod closing;
pub mod connection;
pub mod cors;
pub mod edge;
pub mod explain;
pub mod gate;
pub mod handler;
pub mod listener;
pub mod models;
pub mod record;
pub mod relay;
pub mod reload;
pub mod reply;
pub mod respond;
pub mod routes;
pub mod status;
pub mod token;
pub mod veil;

use std::sync::Arc;

use actix_web::http::header::{HOST, HeaderValue, ORIGIN};
use actix_web::http::{ConnectionType, Method};
use actix_web::{HttpMessage, HttpRequest, HttpResponse, web};
use futures_util::StreamExt;
use http::header::HeaderName;
use tracing::info;
use tracing_actix_web::RequestId;

use crate::dialect::ENDPOINTS;
use crate::error::{ErrorKind, ProxyError};
use cors::{allow_origin, preflight};
use edge::{Door, Edge};
use gate::Origin;
use respond::{allow, error_response};
use routes::{Route, route};

/// Answers every request of a listener.
pub async fn serve(request: HttpRequest, payload: web::Payload, door: web::Data<Door>) -> HttpResponse {
    let edge = door.edge();
    let request_id = request_id(&request);
    let mut response = match admitted(&request, &edge) {
        Ok(origin) if *request.method() == Method::OPTIONS => preflight(&request, origin),
        Ok(origin) => {
            let mut response = dispatch(&request, payload, &edge, Arc::clone(&request_id)).await;
            allow_origin(&mut response, &request, origin);
            response
        }
        Err(error) => refuse(&edge, &request_id, &error),
    };
    if let Ok(value) = HeaderValue::from_str(&request_id) {
        response.headers_mut().insert(HeaderName::from_static("x-request-id"), value);
    }
    if request.head().upgrade() {
        // Java's client offers HTTP/2 this way (`Upgrade: h2c`). The codec would confirm the upgrade that
        // nobody makes, and read nothing more as a request.
        response.head_mut().set_connection_type(ConnectionType::Close);
    }
    response
}

/// The answer to a request that goes no further than the edge: one metric, one line.
fn refuse(edge: &Edge<'_>, request_id: &str, error: &ProxyError) -> HttpResponse {
    info!(
        request_id,
        listener = &*edge.place.id,
        outcome = error.kind.label(),
        error = error.message,
        "refused"
    );
    edge.place.metrics.refused(&edge.place.id, "none", error.kind.label());
    error_response(error)
}

fn request_id(request: &HttpRequest) -> Arc<str> {
    let id = request.extensions().get::<RequestId>().map(|id| id.simple().to_string());
    Arc::from(id.unwrap_or_default())
}

fn header<'r>(request: &'r HttpRequest, name: &str) -> Option<&'r str> {
    request.headers().get(name).and_then(|value| value.to_str().ok())
}

/// A header that is there but is no text, which must not pass for one that is not there.
const UNREADABLE: &str = "(unreadable)";

fn admitted(request: &HttpRequest, edge: &Edge<'_>) -> Result<Origin, ProxyError> {
    let given = |name| request.headers().get(name).map(|value| value.to_str().unwrap_or(UNREADABLE));
    gate::check_host(&edge.listener, given(HOST))?;
    gate::check_host(&edge.listener, request.uri().authority().map(|name| name.as_str()))?;
    gate::check_origin(&edge.listener, given(ORIGIN))
}

async fn dispatch(
    request: &HttpRequest,
    payload: web::Payload,
    edge: &Edge<'_>,
    id: Arc<str>,
) -> HttpResponse {
    let route = route(request.method().as_str(), request.uri().path());
    if !served(&route, edge) {
        let text = format!("listener `{}` does not serve this; see its `serves`", edge.place.id);
        return refuse(edge, &id, &ProxyError::new(ErrorKind::NotFound, text));
    }
    match &route {
        Route::Root => return root(),
        Route::Health => return status::health(),
        Route::Ready => return status::ready(edge),
        Route::Status => return status(request, edge, &id),
        Route::ForgetLimits | Route::Reload | Route::Compare => {
            return change(&route, request, payload, edge, &id).await;
        }
        Route::Explain => return explained(request, payload, edge, &id).await,
        Route::WrongMethod(allowed) => return allow(refuse(edge, &id, &wrong_method(allowed)), allowed),
        Route::Unknown => return refuse(edge, &id, &unknown(request)),
        // Prometheus on this machine needs no key; what is measured is not for everyone in the network.
        Route::Metrics if local(request) => return status::metrics(edge).await,
        Route::Metrics | Route::Models | Route::Model(_) | Route::Infer(_) => {}
    }
    let client =
        match gate::authenticate(&edge.now.access.keys, gate::given_key(|name| header(request, name))) {
            Ok(client) => client,
            Err(error) => return refuse(edge, &id, &error),
        };
    match route {
        Route::Metrics => status::metrics(edge).await,
        Route::Models => models::list(request, edge, client),
        Route::Model(model) => models::one(request, edge, client, &model),
        Route::Infer(endpoint) => handler::infer(request, payload, edge, client, endpoint, id).await,
        _ => refuse(edge, &id, &unknown(request)),
    }
}

/// Whether this listener serves the route at all.
fn served(route: &Route, edge: &Edge<'_>) -> bool {
    match route {
        Route::Models | Route::Model(_) | Route::Infer(_) => edge.listener.api,
        Route::Metrics => edge.listener.metrics,
        Route::Status | Route::ForgetLimits | Route::Reload | Route::Compare | Route::Explain => {
            edge.listener.admin
        }
        _ => true,
    }
}

/// Claude Code begins with `HEAD /`, JetBrains' Ollama provider with `GET /` and reads this very text.
fn root() -> HttpResponse {
    HttpResponse::Ok().content_type("text/plain; charset=utf-8").body("Ollama is running")
}

fn wrong_method(allowed: &str) -> ProxyError {
    ProxyError::new(ErrorKind::MethodNotAllowed, format!("this path answers {allowed} only"))
}

/// What is not there, and what is instead.
fn unknown(request: &HttpRequest) -> ProxyError {
    let (method, path) = (request.method(), request.uri().path());
    let meant = ENDPOINTS.iter().find(|endpoint| path.trim_end_matches('/').ends_with(endpoint.path));
    let remedy = match meant {
        Some(endpoint) => format!("did you mean /v1/{}? The base URL ends in /v1", endpoint.path),
        None => {
            let paths: Vec<&str> = ENDPOINTS.iter().map(|endpoint| endpoint.path).collect();
            format!("there are /v1/models and, below /v1/: {}", paths.join(", "))
        }
    };
    let shown: String = path.chars().take(200).collect();
    ProxyError::new(ErrorKind::NotFound, format!("nothing is served at {method} {shown}; {remedy}"))
}

/// Whether the request comes from this machine.
fn local(request: &HttpRequest) -> bool {
    request.peer_addr().is_some_and(|peer| peer.ip().to_canonical().is_loopback())
}

/// Reading the status is open on loopback, but not to pages in a browser.
fn status(request: &HttpRequest, edge: &Edge<'_>, id: &str) -> HttpResponse {
    if !local(request) || request.headers().contains_key(ORIGIN) {
        let text = "the status is open to local programs only";
        return refuse(edge, id, &ProxyError::new(ErrorKind::Forbidden, text));
    }
    status::status(edge)
}

/// So is asking what would become of a request: nothing is changed by it, and nothing is sent.
async fn explained(request: &HttpRequest, payload: web::Payload, edge: &Edge<'_>, id: &str) -> HttpResponse {
    if !local(request) || request.headers().contains_key(ORIGIN) {
        let text = "explanations are for local programs only";
        return refuse(edge, id, &ProxyError::new(ErrorKind::Forbidden, text));
    }
    match explain::answer(request, payload, edge).await {
        Ok(response) => response,
        Err(error) => refuse(edge, id, &error),
    }
}

/// Changing wants the key of `[admin]`, and is nothing for pages in a browser.
async fn change(
    route: &Route,
    request: &HttpRequest,
    mut payload: web::Payload,
    edge: &Edge<'_>,
    id: &str,
) -> HttpResponse {
    let given = gate::given_key(|name| header(request, name));
    let allowed = gate::check_admin(edge.now.access.admin_key.as_ref(), given).and_then(|()| {
        match request.headers().contains_key(ORIGIN) {
            true => Err(ProxyError::new(ErrorKind::Forbidden, "changes are not for web pages")),
            false => Ok(()),
        }
    });
    match allowed {
        Ok(()) => match route {
            Route::Reload => reload::reload(edge).await,
            Route::Compare => reload::compare(edge, request.query_string()).await,
            _ => {
                let has_body = payload.next().await.is_some();
                status::forget(edge, request.query_string(), has_body)
            }
        },
        Err(error) => refuse(edge, id, &error),
    }
}
