//! A provider as a [`Backend`]: what it would do with a call, and the call's way to one of its actors. What lasts is in its
//! [`Vitals`]; how it begins and ends is `life.rs`'s, and how its actors are kept alive `replica.rs`'s.

mod explain;
mod life;
mod replica;
mod reserve;

use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::about::About;
use super::actor::{Forward, RefreshModels};
use super::fitness::misfit;
use super::models::{FRESH, Lookup};
use super::prefix::continued;
use super::prepare::{Target, check_capability, missing_route};
use super::vitals::{Health, Vitals};
use crate::backend::explain::Account;
use crate::backend::size::Size;
use crate::backend::strategy::Availability;
use crate::backend::waiter::Waiter;
use crate::backend::{Backend, Call, Guesses, LOADING_PAUSE, Outlook, Reply, ReplyBody, Round, Whereabouts};
use crate::base_url::BaseUrl;
use crate::dialect::{Continuation, Request};
use crate::error::{ErrorKind, ProxyError};
use crate::metrics::ModelMeters;
use crate::metrics::events::AttemptEnded;
use crate::model_id::same_model;
use crate::quota::Moment;
use replica::Replica;

/// How long a request waits for a list that is fetched anew before it denies a model.
const REFRESH_WAIT: Duration = Duration::from_secs(10);

/// Of a kind of upstream that is not known to continue an answer that was begun, in words that follow its name.
const CANNOT_GO_ON: &str = "is not known to go on with what another upstream began";

/// One configured provider.
pub struct Provider {
    /// Itself, for calls that outlive the borrow.
    this: Weak<Provider>,
    about: Arc<About>,
    vitals: Arc<Vitals>,
    replicas: ArcSwap<Vec<Arc<Replica>>>,
    next: AtomicUsize,
    /// It is taken out, or another one stands in its place: it only ends what is in flight.
    draining: Arc<AtomicBool>,
}

/// Why a group's request means no model here.
struct Unoffered {
    /// There is no such model, or it is excluded; else it is only not clear which one is meant.
    absent: bool,
    /// In words that follow the provider's name.
    reason: String,
}

// === impl Provider ===

impl Provider {
    fn is_at_rest(&self) -> bool {
        self.replicas.load().is_empty()
    }

    /// What is known of the provider.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// The provider's lasting state.
    pub fn vitals(&self) -> &Arc<Vitals> {
        &self.vitals
    }

    /// Whether its owner shut it down for good: it is not asked, and what it listed is not there any more.
    pub fn retired(&self) -> bool {
        self.vitals.health() == Health::Retired
    }

    /// Whether requests can be sent to it: nothing speaks against it, and something for it.
    pub fn usable(&self) -> bool {
        self.vitals.health() == Health::Up && self.replica().is_some()
    }

    /// The model that a request for `id` means here, after at most one refresh of the list.
    ///
    /// # Errors
    /// `model_not_found` when it is excluded, or absent from a complete and fresh list.
    pub async fn resolve(&self, id: &str) -> Result<Arc<str>, ProxyError> {
        if self.retired() {
            // It says so itself when it is asked.
            return Ok(Arc::from(id));
        }
        for last in [false, true] {
            let models = self.vitals.models.load_full();
            match models.look_up(id, Instant::now(), FRESH) {
                Lookup::Listed(model) => return Ok(Arc::from(model.id.as_str())),
                Lookup::Unlisted => return Ok(Arc::from(id)),
                Lookup::Stale if !last => self.refresh().await,
                // No fresh list is to be had, so nothing denies it.
                Lookup::Stale => return Ok(Arc::from(id)),
                Lookup::Absent | Lookup::Excluded => break,
            }
        }
        let text = format!("provider `{}` has no model `{id}`", self.about.id);
        Err(ProxyError::new(ErrorKind::ModelNotFound, text).with_param("model"))
    }

    /// Fetches the model list now and waits, within bounds, until that is over.
    pub async fn refresh(&self) {
        let Some(replica) = self.replica() else { return };
        let (done, heard) = oneshot::channel();
        replica.address.do_send(RefreshModels { done });
        // Whether it succeeded, the list tells.
        let _ = timeout(REFRESH_WAIT, heard).await;
    }

    /// Whether nothing is known that keeps it from answering.
    fn usable_or_unknown(&self) -> bool {
        let reachable = matches!(self.vitals.health(), Health::Up | Health::Unknown);
        reachable && (self.is_at_rest() || self.replica().is_some())
    }

    /// The model that a group's request means here: what is listed under that id, or under the one name that is the
    /// same model's elsewhere.
    fn offered(&self, asked: &str) -> Result<Arc<str>, Unoffered> {
        let unclear = |reason: String| Unoffered { absent: false, reason };
        let absent = |reason: String| Unoffered { absent: true, reason };
        if asked.is_empty() {
            let text = "no model was named; ask for GROUP/MODEL, or name one in `members`";
            return Err(unclear(text.to_owned()));
        }
        let models = self.vitals.models.load();
        if !models.allows(asked) {
            return Err(absent(format!("excludes `{asked}`")));
        }
        if let Some(model) = models.find(asked) {
            return Ok(Arc::from(model.id.as_str()));
        }
        let mut same = models.models().iter().filter(|model| same_model(&model.id, asked));
        match (same.next(), same.next()) {
            (Some(model), None) => Ok(Arc::from(model.id.as_str())),
            // No list that could deny it.
            (None, _) if models.fetched().is_none() || self.about.facts.open_list => Ok(Arc::from(asked)),
            (None, _) => Err(absent(format!("does not list `{asked}`"))),
            (Some(one), Some(other)) => {
                Err(unclear(format!("lists several models of that name: `{}`, `{}`", one.id, other.id)))
            }
        }
    }

    /// Whether it has no model that a group's request for this one could mean, as far as is known.
    pub fn lacks(&self, asked: &str) -> bool {
        self.offered(asked).is_err_and(|unoffered| unoffered.absent)
    }

    /// How much of it a request for this model would find.
    fn capacity_for(
        &self,
        model: Arc<str>,
        request: &Request,
        at: Option<Moment>,
    ) -> Result<Outlook, String> {
        let size = Size::of(request);
        let view = match at {
            None => self.vitals.capacity.outlook(&model, size)?,
            Some(at) => self.vitals.capacity.outlook_at(&model, size, at)?,
        };
        let availability = match (view.free && self.usable_or_unknown(), view.until) {
            (true, _) => Availability::Now,
            (false, until) => Availability::At(until.map(|until| until.0)),
        };
        Ok(Outlook {
            model,
            availability,
            share_left: view.share_left,
            next_reset: view.next_reset.map(|reset| reset.0),
            in_flight: view.in_flight,
        })
    }

    /// What its owner said when it was shut down for good.
    fn obituary(&self) -> Option<String> {
        let text = || format!("`{}` was shut down by its owner", self.about.id);
        self.retired().then(|| self.vitals.remark().unwrap_or_else(text))
    }

    /// What speaks against sending this call at all.
    fn objection(&self, call: &Call) -> Option<ProxyError> {
        let id = &*self.about.id;
        if let Some(text) = self.obituary() {
            return Some(ProxyError::new(ErrorKind::ProviderRetired, text).at(id));
        }
        let models = self.vitals.models.load();
        let listed = models.find(&call.model)?;
        let target = Target { provider: id, model: &call.model };
        check_capability(&call.request, listed, target).err().map(|error| error.at(id))
    }

    /// Answers a call that nobody above tries elsewhere; a server that loads the model is waited for.
    async fn alone(self: Arc<Self>, call: Call) -> Result<Reply, ProxyError> {
        let began = tokio::time::Instant::now();
        loop {
            let error = match self.placed(call.clone(), began).await {
                Err(error) => error,
                answered => return answered,
            };
            let again = tokio::time::Instant::now() + LOADING_PAUSE;
            if error.patience.is_none_or(|patience| again > began + patience) {
                return Err(error);
            }
            tokio::time::sleep_until(again).await;
        }
    }

    /// Sends a call that nobody above tries elsewhere: guesses are probed at once, and a place is waited for.
    async fn placed(&self, mut call: Call, began: tokio::time::Instant) -> Result<Reply, ProxyError> {
        call.round = Some(Round { guesses: Guesses::Alone, waiter: None });
        match self.attempt(call.clone()).await {
            Err(error) if error.denial.is_some_and(|denial| denial.full.is_some()) => {}
            answered => return answered,
        }
        let waiter = Arc::new(Waiter::default());
        let until = began + self.about.config.max_wait;
        call.round = Some(Round { guesses: Guesses::Alone, waiter: Some(Arc::clone(&waiter)) });
        loop {
            let last = match self.attempt(call.clone()).await {
                Err(error) if error.denial.is_some_and(|denial| denial.full.is_some()) => error,
                answered => return answered,
            };
            if let Some(gate) = &call.gate {
                gate.waits(true);
            }
            if tokio::time::timeout_at(until, waiter.woken()).await.is_err() {
                return Err(last);
            }
        }
    }

    /// Sends the call as one that goes on with what another upstream began.
    fn go_on(&self, mut call: Call) -> BoxFuture<'static, Result<Reply, ProxyError>> {
        let so_far = call.so_far.take().unwrap_or_default();
        let facts = self.about.facts.prefix;
        let asked = facts.and_then(|facts| Some((facts, continued(&call.request, &so_far, facts.form)?)));
        let Some((facts, request)) = asked else {
            let text = format!("`{}` {CANNOT_GO_ON}", self.about.id);
            return ready(Err(ProxyError::new(ErrorKind::Unsupported, text))).boxed();
        };
        call.request = Arc::new(request);
        let by = format!("{}/{}", self.about.id, call.model);
        let sent = self.attempt(call);
        async move {
            let mut reply = sent.await?;
            if let ReplyBody::Stream(stream) = &mut reply.body {
                stream.continues(Continuation::new(&by, &so_far, facts.echo));
            }
            Ok(reply)
        }
        .boxed()
    }

    /// Sends the call to an actor once.
    fn attempt(&self, call: Call) -> BoxFuture<'static, Result<Reply, ProxyError>> {
        if let Some(objection) = self.objection(&call) {
            return ready(Err(objection)).boxed();
        }
        let meters = self.meters(&call.model);
        let Some(replica) = self.replica() else {
            let down = down(&self.about.id);
            let failure = Some((down.kind.label(), &*down.message));
            AttemptEnded { meters: &meters, model: &call.model, failure }.emit();
            return ready(Err(down)).boxed();
        };
        let (reply, answer) = oneshot::channel();
        let mut gone = replica.gone.subscribe();
        let model = Arc::clone(&call.model);
        replica.address.do_send(Forward { call, meters: Arc::clone(&meters), reply });
        let about = Arc::clone(&self.about);
        // So that nobody takes it for idle before the request is admitted.
        let this = self.this.upgrade();
        async move {
            let _this = this;
            let answered = tokio::select! {
                biased;
                answered = answer => answered.ok(),
                _ = gone.wait_for(|given_up| *given_up) => None,
            };
            answered.unwrap_or_else(|| {
                let down = down(&about.id);
                let failure = Some((down.kind.label(), &*down.message));
                AttemptEnded { meters: &meters, model: &model, failure }.emit();
                Err(down)
            })
        }
        .boxed()
    }

    fn label_of(&self, model: &str) -> Option<String> {
        self.vitals.models.load().find(model).map(|listed| listed.id.clone())
    }
}

impl Backend for Provider {
    fn id(&self) -> &str {
        &self.about.id
    }

    fn whereabouts(&self) -> Whereabouts {
        let config = &self.about.config;
        Whereabouts { host: BaseUrl::parse(&config.url).ok().map(|url| url.host), local: config.local }
    }

    fn meters(&self, model: &str) -> Arc<ModelMeters> {
        let label = self.label_of(model);
        self.about.metrics.meters(&self.about.id, label.as_deref().unwrap_or("other"))
    }

    fn outlook(&self, call: &Call) -> Result<Outlook, String> {
        let model = self.offered(&call.model).map_err(|unoffered| unoffered.reason)?;
        if let Some(text) = self.obituary() {
            return Err(text);
        }
        let request = &call.request;
        if let Some(what) = missing_route(request, self.about.adapter, &self.about.facts) {
            return Err(what.to_owned());
        }
        if call.so_far.is_some() && self.about.facts.prefix.is_none() {
            return Err(CANNOT_GO_ON.to_owned());
        }
        if let Some(reason) =
            self.vitals.models.load().find(&model).and_then(|listed| misfit(request, listed))
        {
            return Err(reason);
        }
        self.capacity_for(model, request, call.moment())
    }

    fn ails(&self, call: &Call) -> Option<ProxyError> {
        self.ailment(call)
    }

    fn standing(&self, call: &Call) -> Option<Outlook> {
        // Of an account all models together, of which none has this id.
        let model =
            if call.model.is_empty() { Arc::clone(&call.model) } else { self.offered(&call.model).ok()? };
        self.capacity_for(model, &call.request, call.moment()).ok()
    }

    fn input_tokens(&self, model: &str, request: &Request) -> Option<u64> {
        let model = self.offered(model).ok()?;
        self.vitals.capacity.input_tokens(&model, Size::of(request))
    }

    fn forward(&self, call: Call) -> BoxFuture<'static, Result<Reply, ProxyError>> {
        let Some(this) = self.this.upgrade() else { return ready(Err(down(&self.about.id))).boxed() };
        if call.round.is_some() {
            // A group's request means the model by whatever name it has here.
            return match this.offered(&call.model) {
                Ok(model) if call.so_far.is_some() => this.go_on(Call { model, ..call }),
                Ok(model) => this.attempt(Call { model, ..call }),
                Err(Unoffered { reason, .. }) => {
                    let text = format!("`{}` {reason}", self.about.id);
                    ready(Err(ProxyError::new(ErrorKind::Unsupported, text))).boxed()
                }
            };
        }
        async move { this.alone(call).await }.boxed()
    }

    fn known_as(&self, model: Arc<str>) -> BoxFuture<'static, Result<Arc<str>, ProxyError>> {
        let Some(this) = self.this.upgrade() else { return ready(Err(down(&self.about.id))).boxed() };
        async move {
            if let Ok(known) = this.offered(&model) {
                return Ok(known);
            }
            // Denied only by a list that is fresh; it may have the model by another name, too.
            this.resolve(&model).await.or_else(|absent| this.offered(&model).map_err(|_| absent))
        }
        .boxed()
    }

    fn reserve(&self, call: &Call, place: &Arc<Waiter>) -> Option<Result<(), ProxyError>> {
        self.reserved(call, place)
    }

    fn blamed(&self) {
        self.vitals.capacity.blamed();
    }

    fn account(&self, call: &Call) -> Account {
        self.explain(call)
    }
}

fn down(id: &str) -> ProxyError {
    ProxyError::new(
        ErrorKind::ProviderDown,
        format!("provider `{id}` fell and is being restarted; try again"),
    )
    .at(id)
}
