//! `POST /demuxai/explain`: what would become of a request, by the daemon's own lists, ledgers and breakers.

use actix_web::http::header::{CONTENT_TYPE, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, web};
use tracing::debug;

use super::body::read_body;
use super::edge::Edge;
use super::respond::refused;
use crate::error::{ErrorKind, ProxyError};
use crate::router::explain::{Question, Surroundings, explain};

/// Answers the question in the body.
///
/// # Errors
/// When it makes no sense.
pub async fn answer(
    request: &HttpRequest,
    payload: web::Payload,
    edge: &Edge<'_>,
) -> Result<HttpResponse, ProxyError> {
    let body = read_body(request, payload, edge.listener.max_body).await?;
    let question: Question = serde_json::from_slice(&body).map_err(|error| {
        // What serde says may quote what was sent; where it stands is enough.
        let (line, column) = (error.line(), error.column());
        let text = format!(
            "the question cannot be read (line {line}, column {column}): send {{\"model\": ID}} and, as you need \
             them, body (text), endpoint, headers (pairs), client, listener, at"
        );
        ProxyError::new(ErrorKind::InvalidRequest, text)
    })?;
    let around = Surroundings {
        table: &edge.now.table,
        keys: &edge.now.access.keys,
        tallies: &edge.now.tallies,
        listener: &edge.place.id,
        listeners: &edge.place.listeners,
        refused,
    };
    let explanation = explain(&question, &around)?;
    debug!(
        model = explanation.model,
        provider = explanation.prediction.provider.as_deref().unwrap_or("none"),
        "explained"
    );
    let text = serde_json::to_string(&explanation)
        .map_err(|_| ProxyError::new(ErrorKind::Internal, "the explanation cannot be written"))?;
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, HeaderValue::from_static("application/json")))
        .body(text))
}
