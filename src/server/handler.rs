//! THE inference handler: read the request, resolve its model, forward it, relay the answer.
//! Knows no provider, no quota and no upstream client.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::body::{BodySize, MessageBody};
use actix_web::http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use actix_web::http::{ConnectionType, StatusCode, Version, header};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, web};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use http::header::{HeaderName, HeaderValue as PlainValue};

use super::closing::Closing;
use super::edge::Edge;
use super::gate;
use super::models;
use super::record::Record;
use super::relay::{StreamBody, WholeBody};
use super::respond::{error_response, status};
use super::veil::{Shown, Veil};
use crate::backend::arrival::{Arrival, session};
use crate::backend::condition::is_secret;
use crate::backend::opened::{Opened, close_by};
use crate::backend::size::Size;
use crate::backend::tally::{Ticket, key_refused};
use crate::backend::{Call, Marks, Reply, ReplyBody, Served};
use crate::config::settings::ClientKey;
use crate::dialect::{self, Endpoint};
use crate::error::{ErrorKind, ProxyError};
use crate::metrics::caching::{CacheUse, Share};
use crate::provider::headers::goes_up;

/// A client that sends nothing of its body for this long is given up.
const BODY_IDLE: Duration = Duration::from_secs(30);
/// Counts how often a request went through a demuxai; stops loops that no check at start can see.
const HOPS: &str = "x-demuxai-hops";
/// Which routes of routers a request took.
const ROUTE: &str = "x-demuxai-route";
/// A chain of demuxais may be this long.
const MAX_HOPS: u64 = 4;
/// The most characters of a model id in a log line.
const MAX_SHOWN: usize = 200;
/// The longest `x-demuxai-*` header.
const MAX_HEADER: usize = 2048;

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

type PendingReply = futures_util::future::BoxFuture<'static, Result<Reply, ProxyError>>;

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

/// Reads the body up to the limit.
pub(super) async fn read_body(
    http: &HttpRequest,
    mut payload: web::Payload,
    limit: usize,
) -> Result<Bytes, ProxyError> {
    let too_large = || {
        let text = format!("the request body is over {limit} bytes; raise `max_body` of the listener");
        ProxyError::new(ErrorKind::BodyTooLarge, text)
    };
    let announced =
        http.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > limit) {
        return Err(too_large());
    }
    if let Some(coding) = http.headers().get(CONTENT_ENCODING).filter(|coding| *coding != "identity") {
        let coding: String = String::from_utf8_lossy(coding.as_bytes()).chars().take(50).collect();
        let text = format!("content-encoding `{coding}` is not read here: send the body as it is");
        return Err(ProxyError::new(ErrorKind::InvalidRequest, text));
    }
    let mut whole = BytesMut::new();
    let mut first: Option<Bytes> = None;
    loop {
        let chunk = tokio::time::timeout(BODY_IDLE, payload.next()).await.map_err(|_| {
            ProxyError::new(ErrorKind::InvalidRequest, "the request body did not come within 30 s")
        })?;
        let Some(chunk) = chunk else { break };
        let chunk = chunk.map_err(|_| {
            ProxyError::new(ErrorKind::InvalidRequest, "the request body ended before it was complete")
        })?;
        let so_far = whole.len() + first.as_ref().map_or(0, Bytes::len);
        if so_far + chunk.len() > limit {
            return Err(too_large());
        }
        // Most bodies come in one piece and need no copy.
        match first.take() {
            None if whole.is_empty() => first = Some(chunk),
            None => whole.extend_from_slice(&chunk),
            Some(head) => {
                whole.reserve(announced.unwrap_or(0).max(head.len() + chunk.len()));
                whole.extend_from_slice(&head);
                whole.extend_from_slice(&chunk);
            }
        }
    }
    Ok(first.unwrap_or_else(|| whole.freeze()))
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
fn headers_up(http: &HttpRequest, hops: u64) -> Vec<(HeaderName, PlainValue)> {
    let kept = |name: &HeaderName| {
        goes_up(name.as_str()) && *name != header::CONTENT_TYPE && *name != header::ACCEPT
    };
    let clients = http.headers().iter().filter(|(name, _)| kept(name));
    let mut headers: Vec<_> = clients.map(|(name, value)| (name.clone(), value.clone())).collect();
    headers.push((HeaderName::from_static(HOPS), PlainValue::from(hops + 1)));
    headers
}

/// The response to a reply that reached its commit point in time.
fn respond(reply: Reply, mut record: Record, edge: &Edge<'_>) -> HttpResponse {
    let Reply { status, headers, body, served, waited, lease } = reply;
    let mut response = HttpResponse::build(StatusCode::from_u16(status).unwrap_or(StatusCode::OK));
    for (name, value) in headers {
        response.append_header((name, value));
    }
    name_server(&mut response, &served, record.veil.as_deref());
    let body = match &record.veil {
        Some(veil) => veil.body(&served, body),
        None => body,
    };
    if let Some(routes) = record.routes_told() {
        insert(&mut response, ROUTE, &routes);
    }
    record.answering(status);
    record.overhead = Some(record.received.elapsed().saturating_sub(waited + record.resolving));
    record.meters = Some(served.meters);
    record.marks = served.marks;
    match body {
        ReplyBody::Whole { bytes, usage } => {
            // The upstream is done with it; only the client still reads.
            drop(lease);
            record.usage = usage;
            response.insert_header((CONTENT_TYPE, HeaderValue::from_static("application/json")));
            response.body(WholeBody::new(bytes, record))
        }
        ReplyBody::Stream(stream) => {
            record.time_to_first_token = Some(stream.time_to_first_token);
            stream_headers(&mut response);
            if stream.may_be_continued() {
                // Who went on is told in the stream; the head is gone by then.
                response.insert_header(("x-demuxai-resume", HeaderValue::from_static("continue")));
            }
            if let Some(lane) = stream.lane() {
                // The connection's, which knows when it may be taken.
                response.extensions_mut().insert(Arc::clone(lane));
            }
            response.body(StreamBody::committed(
                stream,
                lease,
                record,
                edge.listener.keep_alive,
                edge.place.closing.over(),
            ))
        }
    }
}

/// The response to a stream whose backend is not there yet: headers go out now, without the server's name.
fn late(pending: PendingReply, mut record: Record, edge: &Edge<'_>) -> HttpResponse {
    record.answering(200);
    let mut response = HttpResponse::Ok();
    stream_headers(&mut response);
    response.body(StreamBody::waiting(pending, record, edge.listener.keep_alive, edge.place.closing.over()))
}

fn stream_headers(response: &mut HttpResponseBuilder) {
    response.insert_header((CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8")));
    response.insert_header((CACHE_CONTROL, HeaderValue::from_static("no-cache")));
    response.insert_header(("x-accel-buffering", "no"));
}

/// Says who served it: ids and labels only.
fn name_server(response: &mut HttpResponseBuilder, served: &Served, veil: Option<&Veil>) {
    let Shown { provider, model, hops } = veil.map_or_else(|| Shown::all(served), |veil| veil.shown(served));
    let mut attempts = String::new();
    for (backend, label) in hops {
        let _ = write!(attempts, "{backend} {label}, ");
    }
    let _ = write!(attempts, "{provider} ok");
    for (name, value) in [
        ("x-demuxai-provider", provider),
        ("x-demuxai-model", model),
        ("x-demuxai-attempts", attempts.as_str()),
    ] {
        insert(response, name, value);
    }
    if !served.edits.is_empty() {
        insert(response, "x-demuxai-edits", &edits_in_brief(&served.edits));
    }
    let Marks { cache, share } = served.marks;
    for (name, word) in
        [("x-demuxai-cache", cache.map(CacheUse::label)), ("x-demuxai-dedupe", share.map(Share::label))]
    {
        if let Some(word) = word {
            insert(response, name, word);
        }
    }
}

/// Whole names only, as many as the header holds.
fn edits_in_brief(edits: &[String]) -> String {
    const MORE: &str = ", more";
    let mut brief = String::new();
    for edit in edits {
        let separator = if brief.is_empty() { "" } else { ", " };
        if brief.len() + separator.len() + edit.len() + MORE.len() > MAX_HEADER {
            brief.push_str(MORE);
            break;
        }
        brief.push_str(separator);
        brief.push_str(edit);
    }
    brief
}

fn insert(response: &mut HttpResponseBuilder, name: &'static str, value: &str) {
    let bounded = value.as_bytes().get(..MAX_HEADER).unwrap_or(value.as_bytes());
    // A model id with characters that no header carries goes without.
    if let Ok(value) = HeaderValue::from_bytes(bounded) {
        response.insert_header((HeaderName::from_static(name), value));
    }
}

#[cfg(test)]
mod tests;
