//! What is, for people and machines: `/healthz`, `/readyz`, `/metrics` and `/demuxai/status`.

use std::sync::Arc;
use std::time::Instant;

use actix_web::http::header::{CONTENT_TYPE, HeaderValue};
use actix_web::{HttpResponse, web};
use serde_json::{Value, json};

use super::edge::Edge;
use super::respond::error_response;
use crate::backend::Backend;
use crate::backend::tally::BucketView;
use crate::error::{ErrorKind, ProxyError};
use crate::metrics::quota::AccountView;
use crate::provider::capacity::Picture;
use crate::provider::handle::Provider;
use crate::quota::{BlockView, LimitView};
use crate::router::table::Table;
use crate::state::Status;

/// Alive: the worker answers.
pub fn health() -> HttpResponse {
    HttpResponse::Ok().content_type("text/plain; charset=utf-8").body("ok\n")
}

/// Ready: not draining, and at least one provider is usable.
pub fn ready(edge: &Edge<'_>) -> HttpResponse {
    if edge.draining() {
        return not_ready("draining\n");
    }
    if edge.now.table.ready() {
        return HttpResponse::Ok().content_type("text/plain; charset=utf-8").body("ready\n");
    }
    not_ready("no provider is usable\n")
}

fn not_ready(text: &'static str) -> HttpResponse {
    HttpResponse::ServiceUnavailable().content_type("text/plain; charset=utf-8").body(text)
}

/// The Prometheus text format. Encoding is off the worker: it takes milliseconds with many series.
pub async fn metrics(edge: &Edge<'_>) -> HttpResponse {
    let metrics = std::sync::Arc::clone(&edge.place.metrics);
    let table = &edge.now.table;
    let accounts = table.providers().iter().map(|provider| {
        let Picture { limits, blocks, breaker, waiting, changes } = provider.vitals().capacity.picture();
        AccountView { provider: provider.id(), limits, blocks, breaker, waiting, changes }
    });
    metrics.quota().show(accounts);
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
pub fn status(edge: &Edge<'_>) -> HttpResponse {
    let table = &edge.now.table;
    let providers: Vec<Value> = table.providers().iter().map(|provider| picture(provider)).collect();
    let body = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "draining": edge.draining(),
        "ready": table.ready(),
        "state": state(&edge.place.state.status()),
        "providers": providers,
        "clients": clients(edge),
    });
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, HeaderValue::from_static("application/json")))
        .body(body.to_string())
}

/// Where the state is: `disk`, or `memory` with the reason unless that was asked for.
fn state(status: &Status) -> Value {
    let on_disk = status.file.is_some() && status.trouble.is_none();
    let since = status.since.and_then(|since| jiff::Timestamp::from_millisecond(since.0).ok());
    json!({
        "kept": if on_disk { "disk" } else { "memory" },
        "file": status.file.as_ref().map(|file| file.display().to_string()),
        "since": since.and_then(|since| since.round(jiff::Unit::Second).ok()).map(|since| since.to_string()),
        "error": status.trouble,
        "waiting_rows": status.waiting,
        "lost_rows": status.lost,
    })
}

fn picture(provider: &Provider) -> Value {
    let vitals = provider.vitals();
    let age = Table::list_age(provider, Instant::now());
    let picture = vitals.capacity.picture();
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
        "in_flight": vitals.capacity.in_flight(),
        "max_in_flight": provider.about().config.max_in_flight,
        "waiting": picture.waiting,
        "breaker": picture.breaker.state,
        "limits": picture.limits.iter().map(limit).collect::<Vec<_>>(),
        "put_off": picture.blocks.iter().map(block).collect::<Vec<_>>(),
        "replicas": provider.about().config.replicas,
        "restarts": vitals.restarts(),
    })
}

/// How one limit stands; times in milliseconds since the epoch.
fn limit(view: &LimitView) -> Value {
    json!({
        "scope": view.scope,
        "model": view.model,
        "unit": view.unit.word(),
        "window": view.window,
        "source": view.source,
        "limit": view.amount,
        "used": view.used,
        "remaining": view.amount.saturating_sub(view.used),
        "resets_at_ms": view.resets_at.map(|at| at.0),
        "since_ms": view.since.map(|at| at.0),
    })
}

/// What clients have used of limits of theirs: those of their keys, of `limit` groups and of budgets, as they are
/// configured now.
fn clients(edge: &Edge<'_>) -> Vec<Value> {
    let mut clients = Vec::new();
    for key in &edge.now.access.keys {
        let Some(tally) = edge.now.tallies.get(&key.id) else { continue };
        let mut buckets = tally.views();
        if buckets.is_empty() {
            buckets.push(BucketView { name: Arc::from(key.id.as_str()), limits: tally.unused() });
        }
        clients.extend(buckets.iter().map(|bucket| client("key", &key.id, bucket)));
    }
    let table = &edge.now.table;
    for tally in edge.place.tallies.all() {
        let (of, id) = tally.owner().split_once(':').unwrap_or_default();
        // What is gone is remembered in case it comes back.
        if table.find_virtual(id).is_some_and(|found| found.about().kind == of) {
            clients.extend(tally.views().iter().map(|bucket| client(of, id, bucket)));
        }
    }
    clients
}

fn client(of: &str, id: &str, bucket: &BucketView) -> Value {
    let limits = bucket.limits.iter().map(|view| if of == "budget" { money(view) } else { limit(view) });
    json!({"of": of, "id": id, "client": &*bucket.name, "limits": limits.collect::<Vec<_>>()})
}

/// How a cap stands, in dollars.
fn money(view: &LimitView) -> Value {
    let mut shown = limit(view);
    if let Some(object) = shown.as_object_mut() {
        let left = view.amount.saturating_sub(view.used);
        object.insert("unit".to_owned(), Value::from("usd"));
        for (key, nanodollars) in [("limit", view.amount), ("used", view.used), ("remaining", left)] {
            #[expect(clippy::cast_precision_loss, reason = "dollars, for people")]
            object.insert(key.to_owned(), Value::from(nanodollars as f64 / 1e9));
        }
    }
    shown
}

/// What is not asked for a while, and whether the upstream said for how long or demuxai guesses.
fn block(view: &BlockView) -> Value {
    let source = if view.guess { "guess" } else { "upstream" };
    json!({"model": view.model, "until_ms": view.until.0, "reason": view.class.label(), "source": source})
}

/// Of whom limits are to be forgotten.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Forgotten {
    provider: Option<String>,
    model: Option<String>,
}

/// Forgets what was learned of limits: of all providers, or of `provider`, and of one `model` of it. Who names them
/// elsewhere than in the query, or otherwise, means less than all.
pub fn forget(edge: &Edge<'_>, query: &str, has_body: bool) -> HttpResponse {
    const MEANT: &str =
        "say what is to be forgotten in the query: ?provider=ID&model=MODEL, or neither for all";
    let refused =
        |why: &str| error_response(&ProxyError::new(ErrorKind::InvalidRequest, format!("{why}; {MEANT}")));
    if has_body {
        return refused("a body is not read here");
    }
    let Ok(web::Query(Forgotten { provider, model })) = web::Query::from_query(query) else {
        return refused("the query cannot be read");
    };
    let table = &edge.now.table;
    let meant: Vec<_> = table
        .providers()
        .iter()
        .filter(|known| provider.as_deref().is_none_or(|id| known.id() == id))
        .collect();
    if meant.is_empty() {
        let shown: String = provider.unwrap_or_default().chars().take(64).collect();
        let text = format!("no provider `{shown}`; /demuxai/status names those there are");
        return error_response(&ProxyError::new(ErrorKind::NotFound, text));
    }
    let forgotten: usize =
        meant.iter().map(|provider| provider.vitals().capacity.forget(model.as_deref())).sum();
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, HeaderValue::from_static("application/json")))
        .body(json!({"providers": meant.len(), "forgotten": forgotten}).to_string())
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Duration;

    use actix_web::body::to_bytes;

    use super::*;
    use crate::config::settings::Listener;
    use crate::metrics::Metrics;
    use crate::server::closing::Closing;
    use crate::server::edge::{Door, Place};
    use crate::state::State;

    fn door(draining: bool) -> Door {
        let second = Duration::from_secs(1);
        let listener = Listener {
            listed: None,
            id: "local".to_owned(),
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            api: true,
            metrics: true,
            admin: true,
            hosts: Vec::new(),
            origins: Vec::new(),
            max_body: 1024,
            workers: 1,
            keep_alive: second,
            stalled_reader: second,
            drain: second,
        };
        let closing = Closing::default();
        if draining {
            closing.drain();
        }
        let place = Place {
            id: Arc::from("local"),
            address: listener.address,
            bound: Arc::new(listener),
            number: 0,
            listeners: Arc::new([Arc::from("local")]),
            metrics: Arc::new(Metrics::new().unwrap()),
            state: State::nowhere(),
            tallies: Arc::new(crate::backend::tally::Tallies::nowhere()),
            closing: Arc::new(closing),
            reloads: crate::reload::Reloads::new().0,
        };
        Door::new(place, Arc::default())
    }

    #[actix_rt::test]
    async fn it_is_not_ready_without_a_provider_or_while_it_drains_and_says_which() {
        for (draining, said) in [(false, "no provider is usable\n"), (true, "draining\n")] {
            let response = ready(&door(draining).edge());
            assert_eq!(response.status(), 503);
            assert_eq!(to_bytes(response.into_body()).await.unwrap(), said);
        }
        assert_eq!(health().status(), 200, "alive it is nonetheless");
    }
}
