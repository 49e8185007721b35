//! One request to one upstream, as a task of the provider's arbiter: prepare, send, read until the commit point,
//! hand over the reply, then pump the rest. The actor is not involved; what outlives it is in [`Vitals`].

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::Method;
use http::header::CONTENT_TYPE;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout_at};
use tracing::info;

use super::about::About;
use super::headers;
use super::prepare::{Prepared, prepare};
use super::pump::{Ended, Pump};
use super::vitals::{Health, Vitals};
use crate::backend::costs::Slip;
use crate::backend::frames::Sent;
use crate::backend::gate::Gate;
use crate::backend::lease::{Lease, Recall};
use crate::backend::{Call, Marks, Reply, ReplyBody, ReplyStream, Served};
use crate::dialect::{Plain, Rewrite, Shape, rewrite_plain};
use crate::error::{ErrorKind, ProxyError};
use crate::metrics::ModelMeters;
use crate::metrics::events::{AnswerCompleted, AttemptEnded};
use crate::metrics::stream::StreamMeter;
use crate::quota::{Refusal, RefusalClass};
use crate::upstream::{Answer, Client, NO_CONNECTION, Outgoing, is_loading, rejected_fields};

/// Largest plain answer that is relayed: embeddings of large batches come close to it.
const MAX_ANSWER: usize = 256 * 1024 * 1024;
/// Most that is read of a document that is no answer: of an error, and of a document where a stream was asked for.
const MAX_ERROR_BODY: usize = 1024 * 1024;

/// Where the reply goes.
pub(super) type ReplySender = oneshot::Sender<Result<Reply, ProxyError>>;

/// All that a call needs; made by the actor on admission.
pub(super) struct Job {
    pub call: Call,
    pub client: Rc<Client>,
    pub about: Arc<About>,
    pub vitals: Arc<Vitals>,
    pub meters: Arc<ModelMeters>,
    pub lease: Lease,
    pub slip: Slip,
    pub gone: watch::Receiver<bool>,
}

/// What the exchange with the upstream gave at the commit point.
struct Committed {
    status: u16,
    headers: Vec<(http::header::HeaderName, http::header::HeaderValue)>,
    edits: Vec<String>,
    waited: Duration,
    content: Content,
}

enum Content {
    Whole(Plain),
    Stream(Box<Pump>),
}

/// Carries out one call. The reply's receiver going away cancels it at once, at every point.
pub(super) async fn carry(job: Job, mut reply: ReplySender) {
    if let Some(gate) = job.call.gate.clone()
        && !may_go(gate, &mut reply).await
    {
        return;
    }
    let exchanged = tokio::select! {
        biased;
        () = reply.closed() => {
            AttemptEnded { meters: &job.meters, model: &job.call.model, failure: Some(("cancelled", "")) }.emit();
            return;
        }
        exchanged = exchange(&job) => exchanged,
    };
    let committed = match exchanged {
        Ok(committed) => committed,
        Err(error) => {
            let error = failed(&job, error);
            // A receiver that left meanwhile has no use for the error.
            drop(job.lease);
            let _ = reply.send(Err(error));
            return;
        }
    };
    job.vitals.answered();
    let (body, pumping) = match committed.content {
        Content::Whole(plain) => (whole(&job, plain), None),
        Content::Stream(pump) => {
            let meter =
                StreamMeter::start(Arc::clone(&job.meters), Arc::clone(&job.call.model), job.call.received);
            let (stream, sender) = ReplyStream::channel(meter, job.gone.clone(), job.call.stalled_reader);
            (ReplyBody::Stream(stream), Some((pump, sender)))
        }
    };
    let recall = job.lease.recall();
    let answer = Reply {
        status: committed.status,
        headers: committed.headers,
        body,
        served: Served {
            provider: Arc::clone(&job.about.id),
            model: Arc::clone(&job.call.model),
            edits: job.call.edits.iter().cloned().chain(committed.edits).collect(),
            attempts: Vec::new(),
            meters: job.meters,
            marks: Marks::default(),
        },
        waited: committed.waited,
        lease: job.lease,
    };
    if reply.send(Ok(answer)).is_err() {
        return;
    }
    if let Some((pump, sender)) = pumping {
        let told = |ended: &Ended, usage| {
            recall.used(usage);
            job.slip.answered(usage);
            note_end(&job.vitals, &job.about, &recall, ended);
        };
        let read = |error| read(&job.about, error);
        let timeouts = &job.about.config.timeouts;
        let running = pump.run(sender, timeouts, job.call.stalled_reader, read, told);
        // In a box, so that the calls that stream nothing need not carry its room around.
        let sent = Box::pin(running).await;
        if sent == Sent::Stalled {
            // The client's connection may hang on for long, and nothing is done for it at the upstream any more.
            recall.release();
        }
    }
}

/// Waits until all that belong together are admitted. Nothing was sent yet: who leaves here gives back all that was
/// admitted.
async fn may_go(gate: Gate, reply: &mut ReplySender) -> bool {
    tokio::select! {
        biased;
        () = reply.closed() => false,
        open = gate.pass() => open,
    }
}

/// The error of a call that reached no commit point, as it is told; what it says of the upstream is noted.
fn failed(job: &Job, error: ProxyError) -> ProxyError {
    let error = read(&job.about, error);
    note_failure(job, &error);
    let error = loading(job, named(error, &job.about.id));
    // What was given up after it was sent may have cost something all the same.
    if error.kind != ErrorKind::Timeout || error.code.as_deref() == Some(NO_CONNECTION) {
        job.slip.failed();
    }
    error
}

/// A plain answer, which is over when it is there: what it cost is noted.
fn whole(job: &Job, plain: Plain) -> ReplyBody {
    AttemptEnded { meters: &job.meters, model: &job.call.model, failure: None }.emit();
    AnswerCompleted { meters: &job.meters, usage: plain.usage }.emit();
    job.lease.used(plain.usage);
    job.slip.answered(plain.usage);
    job.vitals.capacity.is_well();
    ReplyBody::Whole { bytes: plain.bytes, usage: plain.usage }
}

/// Notes how a stream ended that had passed its commit point.
fn note_end(vitals: &Vitals, about: &About, recall: &Recall, ended: &Ended) {
    match ended {
        Ok(()) => vitals.capacity.is_well(),
        Err(error) => {
            recall.stated(&error.statements, error.refusal.is_some());
            note_fault(vitals, about, error, |refusal| recall.refused(refusal));
        }
    }
}

/// The same error with the provider in its text: the only part of it that many clients show.
fn named(mut error: ProxyError, id: &str) -> ProxyError {
    if !error.message.contains(&format!("`{id}`")) {
        error.message = format!("`{id}`: {}", error.message);
    }
    error.provider.get_or_insert_with(|| id.to_owned());
    error
}

/// The same error with how long it is worth waiting for, if a local server is loading the model, or may be starting.
fn loading(job: &Job, mut error: ProxyError) -> ProxyError {
    error.starting = job.about.config.local && error.kind == ErrorKind::Connect;
    if job.about.config.local && is_loading(&error) {
        error.patience = Some(job.about.config.timeouts.first_token);
        if job.vitals.loads() {
            info!(
                provider = &*job.about.id,
                model = &*job.call.model,
                "the model is loading, waiting for it"
            );
        }
    }
    error
}

/// The error as it concerns us and may be told: what it means if it came inside an answer, and no secret in it.
fn read(about: &About, error: ProxyError) -> ProxyError {
    about.scrub.error(about.inside(error, SystemTime::now()))
}

/// What an error says of the account: a refusal is the ledger's, sickness the breaker's.
fn note_fault(vitals: &Vitals, about: &About, error: &ProxyError, refused: impl FnOnce(&Refusal)) {
    // A local server has no quota; but what it does not have, it does not have.
    let heeded = |refusal: &&Refusal| !about.config.local || refusal.class == RefusalClass::NotServed;
    if let Some(refusal) = error.refusal.as_deref().filter(heeded) {
        refused(refusal);
    } else if error.counts_against_upstream() {
        vitals.capacity.fell_sick();
    }
}

/// Counts a failed attempt and draws what it says about the provider's health.
fn note_failure(job: &Job, error: &ProxyError) {
    AttemptEnded {
        meters: &job.meters,
        model: &job.call.model,
        failure: Some((error.kind.label(), &error.message)),
    }
    .emit();
    job.lease.stated(&error.statements, error.refusal.is_some());
    note_fault(&job.vitals, &job.about, error, |refusal| job.lease.refused(refusal));
    let status = error.upstream.as_ref().map(|answer| answer.status);
    let health = match error.kind {
        ErrorKind::Connect => Health::Unreachable,
        ErrorKind::Timeout if error.code.as_deref() == Some(NO_CONNECTION) => Health::Unreachable,
        // Without a key of ours it is one model that wants one, or the list would have been refused.
        // And a 403 may be about one model or one operation.
        ErrorKind::UpstreamAuthentication if job.about.config.api_key.is_some() && status == Some(401) => {
            Health::Refused
        }
        ErrorKind::ProviderRetired => Health::Retired,
        _ => return,
    };
    job.vitals.set_health(health, Some(error.message.clone()));
}

/// The exchange up to the commit point, with one repetition when fields are refused by name. What is refused then
/// is remembered for the next call, so that no upstream can keep one call going round.
async fn exchange(job: &Job) -> Result<Committed, ProxyError> {
    let begun = Instant::now();
    let mut refused = job.vitals.refused_fields(&job.call.model);
    let Failed { error, fields } = match attempt(job, &refused).await {
        Ok(committed) => return Ok(committed),
        Err(failed) => failed,
    };
    let fresh: Vec<String> = fields.into_iter().filter(|field| !refused.contains(field)).collect();
    if fresh.is_empty() {
        return Err(error);
    }
    AttemptEnded {
        meters: &job.meters,
        model: &job.call.model,
        failure: Some((error.kind.label(), &error.message)),
    }
    .emit();
    remember(job, &fresh);
    refused.extend(fresh);
    // In a box, as it hardly ever happens, so that the calls that need it not do not carry its room around.
    match Box::pin(attempt(job, &refused)).await {
        // Both times were the upstream's.
        Ok(committed) => Ok(Committed { waited: begun.elapsed(), ..committed }),
        Err(Failed { error, fields }) => {
            remember(job, &fields);
            Err(error)
        }
    }
}

fn remember(job: &Job, refused: &[String]) {
    for field in refused {
        job.vitals.refuse_field(&job.call.model, field);
    }
}

/// A failed attempt, with the request fields that the upstream refused by name.
struct Failed {
    error: ProxyError,
    fields: Vec<String>,
}

impl From<ProxyError> for Failed {
    fn from(error: ProxyError) -> Self {
        Failed { error, fields: Vec::new() }
    }
}

async fn attempt(job: &Job, refused: &[String]) -> Result<Committed, Failed> {
    let request = &job.call.request;
    let about = &job.about;
    let prepared = prepare(request, &job.call.model, about.adapter, &about.facts, refused)?;
    let timeouts = &about.config.timeouts;
    let sent = Instant::now();
    let (limit, name) = match timeouts.total_stream {
        _ if !request.stream => (timeouts.total_plain, "total"),
        Some(total) if total < timeouts.first_token => (total, "total_stream"),
        _ => (timeouts.first_token, "first_token"),
    };
    let deadline = sent + limit;
    let outgoing = Outgoing {
        method: Method::POST,
        path: prepared.path.to_string(),
        headers: headers::going_up(&about.headers, &job.call.headers, request.stream),
        body: prepared.body.clone(),
    };
    let late = || timed_out(about, name, limit);
    let sending = job.client.send_telling(outgoing, || {
        job.lease.sent();
        job.slip.sent();
    });
    let answer = timeout_at(deadline, sending).await.map_err(|_| late())??;
    if !(200..300).contains(&answer.status) {
        let failed = timeout_at(deadline, refusal(job, &prepared, answer)).await.map_err(|_| late())?;
        return Err(failed);
    }
    job.lease.stated(&about.statements(&answer.headers, SystemTime::now()), false);
    let status = answer.status;
    let mut down = headers::coming_down(&answer.headers);
    about.scrub.headers(&mut down);
    let rewrite = rewrite_plan(job, &prepared);
    let content = if request.stream && is_event_stream(&answer) {
        let mut pump = Pump::new(answer.body, rewrite, sent);
        timeout_at(deadline, pump.until_commit()).await.map_err(|_| late())??;
        Content::Stream(Box::new(pump))
    } else {
        let most = if request.stream { MAX_ERROR_BODY } else { MAX_ANSWER };
        let body = timeout_at(deadline, answer.body.collect(most)).await.map_err(|_| late())??;
        let plain = rewrite_plain(&body, &rewrite)?;
        if request.stream {
            let text = "answered a request for a stream with a plain document";
            return Err(ProxyError::new(ErrorKind::UpstreamProtocol, format!("`{}` {text}", about.id)).into());
        }
        Content::Whole(plain)
    };
    job.lease.succeeded();
    Ok(Committed { status, headers: down, edits: prepared.edits, waited: sent.elapsed(), content })
}

fn rewrite_plan(job: &Job, prepared: &Prepared) -> Rewrite {
    let request = &job.call.request;
    Rewrite {
        provider: job.about.id.to_string(),
        upstream: prepared.upstream_shape,
        client: request.shape,
        strip_usage: prepared.strip_usage,
        base64: request.base64 && request.shape == Shape::Embedding,
    }
}

/// Reads an answer that is not a success and says what it means.
async fn refusal(job: &Job, prepared: &Prepared, answer: Answer) -> Failed {
    let Answer { status, headers, body } = answer;
    let body = match body.collect(MAX_ERROR_BODY).await {
        Ok(bytes) => bytes,
        // The status alone says enough.
        Err(_) => Bytes::new(),
    };
    let sent = prepared.fields();
    let sent: Vec<&str> = sent.iter().map(|field| &**field).collect();
    let fields = rejected_fields(status, &body, &sent);
    let now = SystemTime::now();
    let mut error = job.about.refusal(status, &headers, &body, now);
    if let Some(answer) = &mut error.upstream {
        answer.headers = headers::coming_down(&headers);
    }
    Failed { error, fields }
}

fn is_event_stream(answer: &Answer) -> bool {
    let kind = answer.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    // Servers that forget the type on a stream are taken at their word: only JSON and HTML are documents.
    let kind = kind.to_ascii_lowercase();
    !(kind.starts_with("application/json") || kind.starts_with("text/html"))
}

fn timed_out(about: &About, which: &str, limit: Duration) -> ProxyError {
    let text = format!(
        "`{}` did not answer within {limit:?} (timeouts.{which}); raise it for this provider if it is that slow",
        about.id,
    );
    ProxyError::new(ErrorKind::Timeout, text)
}
