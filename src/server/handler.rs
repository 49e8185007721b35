//! THE inference handler: read the request, resolve its model, forward it. The answer is `reply.rs`'s and `relay.rs`'s.
//! Knows no provider and no upstream client.

use std::sync::Arc;
use std::time::Instant;

use actix_web::body::{BodySize, MessageBody};
use actix_web::http::header::HeaderValue;
use actix_web::http::{ConnectionType, Version, header};
use actix_web::{HttpRequest, HttpResponse, web};
use http::header::HeaderName;

use super::body::read_body;
use super::closing::Closing;
use super::edge::Edge;
use super::gate;
use super::models;
use super::record::Record;
use super::relay::PendingReply;
use super::reply::{ROUTE, late, respond};
use super::respond::{error_response, status};
use super::veil::Veil;
use crate::backend::arrival::{Arrival, session};
use crate::backend::condition::is_secret;
use crate::backend::opened::{Opened, close_by};
use crate::backend::size::Size;
use crate::backend::tally::{Ticket, key_refused};
use crate::backend::{Call, Reply};
use crate::config::settings::ClientKey;
use crate::dialect::{self, Endpoint};
use crate::error::{ErrorKind, ProxyError};
use crate::provider::headers::goes_up;

/// Counts how often a request went through a demuxai; stops loops that no check at start can see.
const HOPS: &str = "x-demuxai-hops";
/// A chain of demuxais may be this long.
const MAX_HOPS: u64 = 4;
/// The most characters of a model id in a log line.
const MAX_SHOWN: usize = 200;

/// Answers one request to an endpoint.
pub async fn infer(
    request: &HttpRequest,
    payload: web::Payload,
    edge: &Edge<'_>,
    client: Option<&ClientKey>,
    endpoint: &'static Endpoint,
    request_id: Arc<str>,
) -> HttpResponse {
    let mut record = Record::new(Arc::clone(&edge.place.metrics), Arc::clone(&edge.place.id), request_id);
    record.client = client.map(|key| key.id.clone());
    record.task = Some(endpoint.task);
    let answered = tokio::select! {
        biased;
        answered = answer(request, payload, edge, client, endpoint, &mut record) => answered,
        () = edge.place.closing.over() => Err(Closing::cut()),
    };
    let mut response = match answered {
        Ok(Answer::Reply(reply)) => respond(*reply, record, edge),
        Ok(Answer::Late(pending)) => late(pending, record, edge),
        Err(error) => {
            record.answering(status(&error).as_u16());
            record.failed(&error);
            let mut response = error_response(&record.told(&error));
            if let Some(routes) = record.routes_told().and_then(|routes| HeaderValue::from_str(&routes).ok())
            {
                response.headers_mut().insert(HeaderName::from_static(ROUTE), routes);
            }
            response
        }
    };
    if request.version() < Version::HTTP_11 && response.body().size() == BodySize::Stream {
        // It knows no chunks (RFC 9112 §7.1): the stream ends with the connection. nginx asks so by default.
        response.head_mut().no_chunking(true);
        response.head_mut().set_connection_type(ConnectionType::Close);
    }
    response
}

enum Answer {
    Reply(Box<Reply>),
    /// The quiet time passed before the commit point; the client is to be kept alive meanwhile.
    Late(PendingReply),
}

async fn answer(
    http: &HttpRequest,
    payload: web::Payload,
    edge: &Edge<'_>,
    client: Option<&ClientKey>,
    endpoint: &'static Endpoint,
    record: &mut Record,
) -> Result<Answer, ProxyError> {
    if edge.draining() {
        return Err(Closing::refusal());
    }
    let body = read_body(http, payload, edge.listener.max_body).await?;
    record.received = Instant::now();
    let request = dialect::read(endpoint, body)?;
    record.task = Some(request.task);
    record.model = Some(request.model.chars().take(MAX_SHOWN).collect());
    let hops = hops(http)?;
    let asked = Instant::now();
    let table = &edge.now.table;
    let target = table.resolve(&request.model).await;
    // Only a list that has to be fetched takes time here, and that is the upstream's.
    record.resolving = asked.elapsed();
    record.veil = Veil::of(edge, client, &request.model);
    let target = target.map_err(|error| models::veiled(edge, client, &request.model, error))?;
    gate::check_model(client, target.alias.as_deref(), target.backend.id(), &target.model)?;
    let full_id: Arc<str> = Arc::from(gate::full_id(target.backend.id(), &target.model));
    record.meters = Some(target.backend.meters(&target.model));
    record.group = target.group.clone();
    record.router = target.router.clone();
    let stream = request.stream;
    // Only routers, caches and what counts by a header look at it.
    record.arrival = table.reads_arrivals().then(|| Arc::new(arrival(http, edge)));
    let call = Call {
        request: Arc::new(request),
        model: target.model,
        headers: Arc::new(headers_up(http, hops)),
        received: record.received,
        request_id: Arc::clone(&record.request_id),
        stalled_reader: edge.listener.stalled_reader,
        client: record.client.as_deref().map(Arc::from),
        session: session(|name| http.headers().get(name)?.to_str().ok()),
        arrival: record.arrival.clone(),
        edits: Arc::default(),
        so_far: None,
        round: None,
        gate: None,
        costs: None,
        opened: Opened::default(),
        place: None,
    };
    let ticket = admit(edge, client, &full_id, &call.request)?;
    let mut pending = match ticket {
        Some(ticket) => close_by(ticket, call, |call| target.backend.forward(call)),
        None => target.backend.forward(call),
    };
    if !stream {
        return pending.await.map(|reply| Answer::Reply(Box::new(reply)));
    }
    match tokio::time::timeout(edge.listener.keep_alive, &mut pending).await {
        Ok(reply) => reply.map(|reply| Answer::Reply(Box::new(reply))),
        Err(_) => Ok(Answer::Late(pending)),
    }
}

/// Reserves what a request takes of its client's own limits, if there are any.
///
/// # Errors
/// Which one is used up, and when it frees.
fn admit(
    edge: &Edge<'_>,
    client: Option<&ClientKey>,
    model: &Arc<str>,
    request: &dialect::Request,
) -> Result<Option<Ticket>, ProxyError> {
    let limited = client.and_then(|key| edge.now.tallies.get(&key.id).map(|tally| (key, tally)));
    let Some((key, tally)) = limited else { return Ok(None) };
    let admitted = tally.admit(&key.id, model, Size::of(request), |need| need);
    admitted.map(Some).map_err(|denial| key_refused(&key.id, &denial, tally.now()))
}

/// How often the request went through a demuxai already.
///
/// # Errors
/// `loop` when that is too often to be meant.
fn hops(http: &HttpRequest) -> Result<u64, ProxyError> {
    let hops =
        http.headers().get(HOPS).and_then(|value| value.to_str().ok()?.parse::<u64>().ok()).unwrap_or(0);
    if hops < MAX_HOPS {
        return Ok(hops);
    }
    let text = format!("the request went through demuxai {hops} times; a provider's url leads back here");
    Err(ProxyError::new(ErrorKind::Loop, text).with_code("loop_detected"))
}

/// How the request came in, for routers.
fn arrival(http: &HttpRequest, edge: &Edge<'_>) -> Arrival {
    let open = http.headers().iter().filter(|(name, _)| !is_secret(name));
    let headers = open.map(|(name, value)| (name.clone(), value.clone()));
    Arrival::new(Arc::clone(&edge.place.id), http.path(), headers.collect())
}

/// The client's headers that go upstream, and how often the request went through a demuxai.
fn headers_up(http: &HttpRequest, hops: u64) -> Vec<(HeaderName, HeaderValue)> {
    let kept = |name: &HeaderName| {
        goes_up(name.as_str()) && *name != header::CONTENT_TYPE && *name != header::ACCEPT
    };
    let clients = http.headers().iter().filter(|(name, _)| kept(name));
    let mut headers: Vec<_> = clients.map(|(name, value)| (name.clone(), value.clone())).collect();
    headers.push((HeaderName::from_static(HOPS), HeaderValue::from(hops + 1)));
    headers
}
