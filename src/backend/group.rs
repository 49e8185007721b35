//! A group: a backend over members. It knows its members only by the seam, so that they can be providers or groups.
//! Which member is next is the strategy's affair, the loop over them that of `attempts.rs`.

mod explain;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::attempts;
use super::explain::{Decision, round_below};
use super::modifier::price::{Price, Prices};
use super::sticky::Sticky;
use super::strategy::{Availability, MemberView, Strategy, StrategyState};
use super::trail::Trail;
use super::virtual_model::{About, Below, Memory, VirtualModel, each_price, leaves_of, most_input_tokens};
use super::waiter::Waiter;
use super::{Backend, Call, Outlook, Reply};
use crate::config::settings::FailOn;
use crate::dialect::{Request, Task};
use crate::error::{ErrorKind, ProxyError};
use crate::metrics::{Metrics, ModelMeters};
use crate::model_id::same_model;

/// A backend over members. Cheap to clone.
#[derive(Clone)]
pub struct GroupBackend {
    group: Arc<Group>,
}

/// What a group is made of.
pub struct Group {
    /// What it is called.
    pub about: About,
    /// Its members, in the configured order.
    pub members: Vec<Member>,
    /// Most calls sent for one request.
    pub attempts: usize,
    /// How long it may take to the commit point.
    pub timeout: Option<Duration>,
    /// What makes a request go to the next member.
    pub fail_on: FailOn,
    /// How long a request waits when every member is exhausted. `None`: it is rejected at once.
    pub wait: Option<Duration>,
    /// Another member goes on with a stream that breaks off.
    pub resume: bool,
    /// Members' embeddings are of one space, so that a request may move to another model.
    pub same_space: bool,
    /// Members are asked side by side.
    pub racing: Option<Racing>,
    /// Whose turn it is.
    pub turns: Arc<Turns>,
    /// Where conversations are.
    pub sticky: Option<Arc<Sticky>>,
    /// Where is recorded.
    pub metrics: Arc<Metrics>,
}

/// One member of a group.
#[derive(Clone)]
pub struct Member {
    /// As configured: `mistral/codestral-latest`.
    pub label: Arc<str>,
    /// Who answers.
    pub backend: Arc<dyn Backend>,
    /// The model there. `None`: the one that was asked for.
    pub model: Option<Arc<str>>,
    /// Its share, for strategies that weigh.
    pub weight: u32,
    /// Request fields that it sets: name and JSON.
    pub set: Vec<(String, Bytes)>,
}

/// Members asked side by side.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Racing {
    /// The next one is asked after this long.
    pub delay: Duration,
    /// Most of them at once.
    pub width: usize,
}

/// The strategy and what it remembers.
pub struct Turns {
    strategy: &'static dyn Strategy,
    state: Mutex<(StrategyState, fastrand::Rng)>,
}

/// What a group remembers of its members, by their places.
pub struct Remembered {
    /// Whose turn it is.
    pub turns: Arc<Turns>,
    /// Where conversations are.
    pub sticky: Option<Arc<Sticky>>,
}

// === impl GroupBackend ===

impl GroupBackend {
    /// The group as a backend.
    pub fn new(group: Group) -> Self {
        GroupBackend { group: Arc::new(group) }
    }

    /// What it is made of.
    pub fn group(&self) -> &Group {
        &self.group
    }
}

impl Backend for GroupBackend {
    fn id(&self) -> &str {
        &self.group.about.id
    }

    fn outlook(&self, call: &Call) -> Result<Outlook, String> {
        let calls: Vec<Call> = self.group.members.iter().map(|member| member.call(call, None)).collect();
        let outlooks = self.group.outlooks(&call.model, &calls);
        let mut reasons = Vec::new();
        let mut best: Option<Outlook> = None;
        for (member, outlook) in self.group.members.iter().zip(outlooks) {
            match outlook {
                Ok(outlook) => {
                    best = Some(match best {
                        None => outlook,
                        Some(best) => better(best, outlook),
                    });
                }
                Err(reason) => reasons.push(format!("`{}`: {reason}", member.label)),
            }
        }
        let found = best.ok_or_else(|| reasons.join("; "))?;
        Ok(Outlook { model: Arc::clone(&call.model), ..found })
    }

    /// As if it had asked all of them: what each one fails with. `None`: one of them does not say.
    fn ails(&self, call: &Call) -> Option<ProxyError> {
        let calls: Vec<Call> = self.group.members.iter().map(|member| member.call(call, None)).collect();
        let mut trail = Trail::default();
        for ((member, own), outlook) in
            self.group.members.iter().zip(&calls).zip(self.group.outlooks(&call.model, &calls))
        {
            match outlook {
                Ok(_) => trail.failed(&member.label, &member.backend.ails(own)?),
                Err(reason) => trail.skipped(&member.label, reason),
            }
        }
        Some(trail.exhausted(&self.group.about.id))
    }

    fn input_tokens(&self, model: &str, request: &Request) -> Option<u64> {
        most_input_tokens(&self.below(model), model, request)
    }

    fn dearest(&self, model: &str, request: &Request, prices: &Prices) -> Result<Price, String> {
        let each = each_price(&self.below(model), model, request, prices)?;
        // Those that race are all bought.
        Ok(Price::of_so_many(&each, self.group.racing.map_or(1, |racing| racing.width)))
    }

    fn meters(&self, _model: &str) -> Arc<ModelMeters> {
        // Nobody answered yet; who does is known with the reply.
        self.group.metrics.meters("none", "none")
    }

    fn leaves(&self) -> BTreeSet<String> {
        leaves_of(&self.below(""))
    }

    /// At the first member that has room for it.
    fn reserve(&self, call: &Call, place: &Arc<Waiter>) -> Option<Result<(), ProxyError>> {
        let group = &self.group;
        let round = Some(round_below(call));
        let calls: Vec<Call> = group.members.iter().map(|member| member.call(call, round.clone())).collect();
        let (mut trail, mut is_known) = (Trail::default(), true);
        for ((member, own), outlook) in
            group.members.iter().zip(&calls).zip(group.outlooks(&call.model, &calls))
        {
            if outlook.is_err() {
                continue;
            }
            match member.backend.reserve(own, place) {
                Some(Ok(())) => return Some(Ok(())),
                Some(Err(error)) if error.denial.is_some() && error.kind != ErrorKind::BreakerOpen => {
                    trail.failed(&member.label, &error);
                }
                // It may answer all the same.
                None | Some(Err(_)) => is_known = false,
            }
        }
        (is_known && trail.is_denied()).then(|| Err(trail.exhausted(&group.about.id)))
    }

    fn waits(&self) -> Option<Duration> {
        let below = self.group.members.iter().filter_map(|member| member.backend.waits());
        self.group.wait.into_iter().chain(below).max()
    }

    fn forward(&self, call: Call) -> BoxFuture<'static, Result<Reply, ProxyError>> {
        let group = Arc::clone(&self.group);
        async move { attempts::walk(&group, call).await }.boxed()
    }
}

impl VirtualModel for GroupBackend {
    fn about(&self) -> &About {
        &self.group.about
    }

    fn below(&self, asked: &str) -> Vec<Below<'_>> {
        self.group.members.iter().map(|member| member.below(asked)).collect()
    }

    fn decide(&self, call: &Call) -> Decision<'_> {
        self.group.decide(call)
    }

    fn memory(&self) -> Option<Memory> {
        let remembered =
            Remembered { turns: Arc::clone(&self.group.turns), sticky: self.group.sticky.clone() };
        Some(Arc::new(remembered))
    }
}

/// What two members come to: as available as the better one, as much left as the fuller one.
fn better(one: Outlook, other: Outlook) -> Outlook {
    Outlook {
        availability: one.availability.sooner(other.availability),
        share_left: one.share_left.max(other.share_left),
        next_reset: match (one.next_reset, other.next_reset) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        },
        in_flight: one.in_flight.saturating_add(other.in_flight),
        model: one.model,
    }
}

/// The first member that can serve the request says whose embeddings it gets; those of others would be other vectors.
fn stay_in_one_space(outlooks: &mut [Result<Outlook, String>]) {
    let mut space: Option<Arc<str>> = None;
    for outlook in outlooks {
        let Ok(found) = &*outlook else { continue };
        match &space {
            None => space = Some(Arc::clone(&found.model)),
            Some(first) if same_model(first, &found.model) => {}
            Some(first) => {
                let text = format!(
                    "its embeddings are not those of `{first}` (same_space = true says that they are)"
                );
                *outlook = Err(text);
            }
        }
    }
}

// === impl Member ===

impl Member {
    /// Whether it may answer a request for this model: what names another one is no answer to it.
    pub fn takes(&self, asked: &str) -> bool {
        asked.is_empty() || self.model.as_deref().is_none_or(|own| same_model(own, asked))
    }

    /// As the one above it tells of it.
    pub fn below(&self, asked: &str) -> Below<'_> {
        Below {
            label: &self.label,
            backend: &*self.backend,
            model: self.model.as_deref(),
            takes: self.takes(asked),
        }
    }
}

// === impl Group ===

impl Group {
    /// How each member stands towards its call, or why it cannot serve it at all; `asked` is the model that was asked
    /// for, if one was.
    pub(super) fn outlooks(&self, asked: &str, calls: &[Call]) -> Vec<Result<Outlook, String>> {
        let of = |(member, call): (&Member, &Call)| match member.takes(asked) {
            true => member.backend.outlook(call),
            false => Err(format!("names a model of its own, which is not `{asked}`")),
        };
        let mut outlooks: Vec<Result<Outlook, String>> = self.members.iter().zip(calls).map(of).collect();
        let embeds = calls.first().is_some_and(|call| call.request.task == Task::Embedding);
        if embeds && !self.same_space {
            stay_in_one_space(&mut outlooks);
        }
        outlooks
    }

    /// The order in which members are asked, whether they are available or not. Asked for once for each request: a
    /// turn of the strategy is spent, unless the conversation has a home that can be asked.
    pub(super) fn preference(&self, call: &Call, views: &[MemberView]) -> Vec<usize> {
        let now = Instant::now();
        let home = self.home(call, now).filter(|home| *home < views.len());
        let available =
            |index: usize| views.get(index).is_some_and(|view| view.availability == Availability::Now);
        let stays = home.is_some_and(available);
        self.turns.with(|strategy, state, rng| {
            let mut order = strategy.order(views, state, now, rng);
            if !stays && let Some(first) = order.iter().copied().find(|index| available(*index)) {
                strategy.took(views, state, first, now);
            }
            if let Some(home) = home {
                order.retain(|index| *index != home);
                order.insert(0, home);
            }
            order
        })
    }

    /// Notes that a member answered, with its time to the first token.
    pub(super) fn succeeded(&self, call: &Call, index: usize, first: Duration, now: Instant) {
        self.turns.with(|strategy, state, _| strategy.succeeded(state, index, first, now));
        if let Some(sticky) = &self.sticky {
            sticky.answered(call, index, now);
        }
    }

    /// The member where this conversation was answered last.
    fn home(&self, call: &Call, now: Instant) -> Option<usize> {
        self.sticky.as_ref()?.home(call, now)
    }

    /// Notes that a member failed.
    pub(super) fn failed(&self, index: usize, now: Instant) {
        self.turns.with(|strategy, state, _| strategy.failed(state, index, now));
    }
}

// === impl Turns ===

impl Turns {
    /// A strategy that remembers nothing yet.
    pub fn new(strategy: &'static dyn Strategy, rng: fastrand::Rng) -> Self {
        Turns { strategy, state: Mutex::new((StrategyState::default(), rng)) }
    }

    fn with<T>(&self, act: impl FnOnce(&dyn Strategy, &mut StrategyState, &mut fastrand::Rng) -> T) -> T {
        let mut guard = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (state, rng) = &mut *guard;
        act(self.strategy, state, rng)
    }
}
