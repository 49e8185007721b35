//! What a client that is to see a part of the models only is told of who answers it: ids that the model list does not show it
//! are in no error, no header and no answer that it gets. Where they would be, there is what it asked for. The log and the
//! metrics tell all of it.

use std::borrow::Cow;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::edge::Edge;
use super::{gate, models};
use crate::backend::{Backend, Frame, Frames, ReplyBody, ReplyStream, Served};
use crate::config::settings::{ClientKey, Listener};
use crate::dialect::{renamed, renamed_events};
use crate::error::{Fault, ProxyError};
use crate::metrics::ModelMeters;
use crate::router::in_force::InForce;

/// What lies over the answer to one request.
pub struct Veil {
    now: Arc<InForce>,
    listener: Arc<Listener>,
    /// The client's place among the keys.
    client: Option<usize>,
    /// What it asked for, as it wrote it.
    asked: String,
}

/// Who answers, as a client is told.
#[derive(Debug, PartialEq, Eq)]
pub struct Shown<'s> {
    /// The backend.
    pub provider: &'s str,
    /// The model there.
    pub model: &'s str,
    /// Those that were passed over on the way, and why.
    pub hops: Vec<(&'s str, &'static str)>,
}

/// A stream that is told to be of what was asked for.
struct Renamed {
    stream: ReplyStream,
    model: String,
}

// === impl Veil ===

impl Veil {
    /// For a client that is to see a part of the models; `None`: it sees all of them.
    pub fn of(edge: &Edge<'_>, client: Option<&ClientKey>, asked: &str) -> Option<Box<Veil>> {
        if !gate::sees_a_part(&edge.listener, client) {
            return None;
        }
        let (now, listener) = (Arc::clone(&edge.now), Arc::clone(&edge.listener));
        let client = client.and_then(|client| now.access.keys.iter().position(|key| key.id == client.id));
        Some(Box::new(Veil { now, listener, client, asked: asked.to_owned() }))
    }

    /// Whether the client may read this id: `provider`, `provider/model`, that of a group or router, or what it wrote itself.
    pub fn shows(&self, name: &str) -> bool {
        let is_asked =
            self.asked.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let client = self.client.and_then(|at| self.now.access.keys.get(at));
        let (head, model) = name.split_once('/').map_or((name, None), |(head, model)| (head, Some(model)));
        let provider = || self.now.table.providers().iter().find(|provider| provider.id() == head);
        let is_shown = match (self.now.table.find_virtual(head), provider(), model) {
            (Some(found), ..) => models::is_shown(found, &self.listener, client),
            (None, Some(provider), Some(model)) => models::shows(provider, model, &self.listener, client),
            (None, Some(provider), None) => models::shows_any(provider, &self.listener, client),
            (None, None, _) => false,
        };
        is_asked || is_shown
    }

    /// Whether it is the id of a backend that the client may not read.
    fn hides(&self, name: &str) -> bool {
        let head = name.split_once('/').map_or(name, |(head, _)| head);
        let is_known = self.now.table.find_virtual(head).is_some()
            || self.now.table.providers().iter().any(|provider| provider.id() == head);
        is_known && !self.shows(name)
    }

    /// The error as the client is told.
    pub fn error<'e>(&self, error: &'e ProxyError) -> Cow<'e, ProxyError> {
        // Ids are in back-ticks.
        let named = error.message.split('`').skip(1).step_by(2).any(|name| self.hides(name));
        let hidden = error.attempts.iter().any(|hop| !self.shows(&hop.backend))
            || error.provider.as_deref().is_some_and(|id| !self.shows(id));
        if !named && !hidden {
            return Cow::Borrowed(error);
        }
        let mut told = error.clone();
        told.attempts.retain(|hop| self.shows(&hop.backend));
        told.provider = error.provider.as_ref().map(|_| self.asked.clone());
        if named {
            let what = match error {
                ProxyError { denial: Some(_), .. } => "has no capacity now",
                ProxyError { fault: Fault::Client, .. } => "cannot serve this request",
                _ => "could not answer",
            };
            told.message = format!("`{}` {what} ({})", self.asked, error.kind.label());
        }
        Cow::Owned(told)
    }

    /// The routes that were taken, as the client is told.
    pub fn routes(&self, routes: &str) -> String {
        let shown =
            routes.split(", ").filter(|taken| self.shows(taken.split(' ').next().unwrap_or_default()));
        shown.collect::<Vec<_>>().join(", ")
    }

    /// Who answers, as the client is told.
    pub fn shown<'s>(&'s self, served: &'s Served) -> Shown<'s> {
        let hops = served.attempts.iter().filter(|hop| self.shows(&hop.backend));
        let (provider, model) = match self.hides_answer(served) {
            true => (self.asked.as_str(), self.asked.as_str()),
            false => (&*served.provider, &*served.model),
        };
        Shown { provider, model, hops: hops.map(|hop| (&*hop.backend, hop.label)).collect() }
    }

    /// Whether who answers is not to be told.
    fn hides_answer(&self, served: &Served) -> bool {
        match self.now.table.find_virtual(&served.provider) {
            // A panel tells whose answer it took, a cache whose it keeps.
            Some(_) if *served.model == *served.provider => !self.shows(&served.provider),
            Some(_) => !self.shows(&served.provider) || !self.shows(&served.model),
            None => !self.shows(&gate::full_id(&served.provider, &served.model)),
        }
    }

    /// The answer as the client gets it.
    pub fn body(&self, served: &Served, body: ReplyBody) -> ReplyBody {
        if !self.hides_answer(served) {
            return body;
        }
        match body {
            ReplyBody::Whole { bytes, usage } => {
                ReplyBody::Whole { bytes: renamed(&bytes, &self.asked), usage }
            }
            ReplyBody::Stream(stream) => {
                let first = stream.time_to_first_token;
                let model = self.asked.clone();
                ReplyBody::Stream(ReplyStream::made(Renamed { stream, model }, first))
            }
        }
    }
}

// === impl Shown ===

impl<'s> Shown<'s> {
    /// All of it.
    pub fn all(served: &'s Served) -> Self {
        let hops = served.attempts.iter().map(|hop| (&*hop.backend, hop.label));
        Shown { provider: &served.provider, model: &served.model, hops: hops.collect() }
    }
}

// === impl Renamed ===

impl Frames for Renamed {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Frame> {
        let Poll::Ready(frame) = self.stream.poll_frame(cx) else { return Poll::Pending };
        Poll::Ready(match frame {
            Frame::Data(events) => Frame::Data(renamed_events(&events, &self.model)),
            end => end,
        })
    }

    fn shut_down(&mut self) {
        Frames::shut_down(&mut self.stream);
    }

    fn may_be_continued(&self) -> bool {
        self.stream.may_be_continued()
    }

    fn answering(&self) -> Option<Arc<ModelMeters>> {
        self.stream.answering()
    }
}
