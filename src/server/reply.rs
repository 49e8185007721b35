//! The response to a backend's reply: its head says who answered and what was changed on the way, its body is the relay's.

use std::fmt::Write as _;
use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use actix_web::{HttpResponse, HttpResponseBuilder};
use http::header::HeaderName;

use super::edge::Edge;
use super::record::Record;
use super::relay::{PendingReply, StreamBody, WholeBody};
use super::veil::{Shown, Veil};
use crate::backend::{Marks, Reply, ReplyBody, Served};
use crate::metrics::caching::{CacheUse, Share};

/// Which routes of routers a request took.
pub(super) const ROUTE: &str = "x-demuxai-route";
/// The longest `x-demuxai-*` header.
pub(super) const MAX_HEADER: usize = 2048;

/// The response to a reply that reached its commit point in time.
pub(super) fn respond(reply: Reply, mut record: Record, edge: &Edge<'_>) -> HttpResponse {
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
    record.answered(served.meters, served.marks, waited);
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
pub(super) fn late(pending: PendingReply, mut record: Record, edge: &Edge<'_>) -> HttpResponse {
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
