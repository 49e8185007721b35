//! What is, for people and machines: `/healthz`, `/readyz`, `/metrics` and `/demuxai/status`.

use std::time::Instant;

use actix_web::http::header::{CONTENT_TYPE, HeaderValue};
use actix_web::{HttpResponse, web};
use serde_json::{Value, json};

use super::edge::Edge;
use super::respond::error_response;
use crate::backend::Backend;
use crate::error::{ErrorKind, ProxyError};
use crate::provider::handle::Provider;
use crate::router::table::Table;

/// Alive: the worker answers.
pub fn health() -> HttpResponse {
    HttpResponse::Ok().content_type("text/plain; charset=utf-8").body("ok\n")
}

/// Ready: not draining, and at least one provider is usable.
pub fn ready(edge: &Edge) -> HttpResponse {
    if edge.draining() {
        return not_ready("draining\n");
    }
    if edge.routes.table().ready() {
        return HttpResponse::Ok().content_type("text/plain; charset=utf-8").body("ready\n");
    }
    not_ready("no provider is usable\n")
}

fn not_ready(text: &'static str) -> HttpResponse {
    HttpResponse::ServiceUnavailable().content_type("text/plain; charset=utf-8").body(text)
}

/// The Prometheus text format. Encoding is off the worker: it takes milliseconds with many series.
pub async fn metrics(edge: &Edge) -> HttpResponse {
    let metrics = std::sync::Arc::clone(&edge.metrics);
    match web::block(move || metrics.encode()).await {
        Ok(Ok(text)) => HttpResponse::Ok()
            .insert_header((
                CONTENT_TYPE,
                HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"),
            ))
            .body(text),
        _ => error_response(&ProxyError::new(ErrorKind::Internal, "the metrics could not be encoded")),
    }
}

/// A picture of every provider: what its actor and its lasting state say.
pub fn status(edge: &Edge) -> HttpResponse {
    let table = edge.routes.table();
    let providers: Vec<Value> = table.providers().iter().map(|provider| picture(provider)).collect();
    let body = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "draining": edge.draining(),
        "ready": table.ready(),
        "providers": providers,
    });
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, HeaderValue::from_static("application/json")))
        .body(body.to_string())
}

fn picture(provider: &Provider) -> Value {
    let vitals = provider.vitals();
    let age = Table::list_age(provider, Instant::now());
    json!({
        "id": provider.id(),
        "type": provider.about().config.kind,
        "name": provider.about().config.name,
        "description": provider.about().config.description,
        "url": provider.about().config.url,
        "health": vitals.health().label(),
        "remark": vitals.remark(),
        "usable": provider.usable(),
        "models": vitals.models.load().models().len(),
        "list_age_seconds": age.map(|age| age.as_secs()),
        "in_flight": vitals.seats.taken(),
        "max_in_flight": provider.about().config.max_in_flight,
        "replicas": provider.about().config.replicas,
        "restarts": vitals.restarts(),
    })
}
