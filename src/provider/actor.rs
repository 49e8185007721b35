//! ProviderActor: owns the HTTP client of one upstream account and its model list, and admits requests.
//! Handlers are synchronous and tiny; every exchange is a task of the arbiter, and what must outlive the actor
//! is in [`Vitals`]. No I/O lives in the actor's context.

mod list;

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use actix::{Actor, AsyncContext, Context, Handler, Message};
use tokio::sync::{oneshot, watch};
use tracing::warn;

use super::about::About;
use super::call::{Job, ReplySender, carry};
use super::capacity::Ask;
use super::prepare::{Target, check_route};
use super::vitals::{Health, Vitals};
use crate::backend::costs::Slip;
use crate::backend::lease::Generation;
use crate::backend::size::Size;
use crate::backend::{Call, Guesses};
use crate::error::ProxyError;
use crate::metrics::ModelMeters;
use crate::upstream::Client;
use list::Refresh;

/// How often the actor looks whether its model list is due. Each look wakes a thread that may have nothing else to do.
const TICK: Duration = Duration::from_secs(2);

/// One upstream account's actor.
pub struct ProviderActor {
    about: Arc<About>,
    vitals: Arc<Vitals>,
    generation: Generation,
    gone: watch::Receiver<bool>,
    /// It only ends what is in flight: another one asks for lists and says how the upstream is.
    draining: Arc<AtomicBool>,
    client: Result<Rc<Client>, ProxyError>,
    refresh: Refresh,
}

/// Admit this call and answer it on `reply`. Has no result: the reply comes by its own channel, so that the sender
/// can cancel by dropping its end.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Forward {
    /// The request.
    pub call: Call,
    /// The metric handles for its model.
    pub meters: Arc<ModelMeters>,
    /// Where the reply goes.
    pub reply: ReplySender,
}

/// Fetch the model list now, unless that is under way; `done` hears when it is over.
#[derive(Message)]
#[rtype(result = "()")]
pub struct RefreshModels {
    /// Told when a list was had or could not be had.
    pub done: oneshot::Sender<()>,
}

/// Are you alive? The answer is the proof.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Ping;

// === impl ProviderActor ===

impl ProviderActor {
    /// An actor for this provider; must be made on the arbiter where it is to live, as its client cannot move.
    pub fn new(
        about: Arc<About>,
        vitals: Arc<Vitals>,
        generation: Generation,
        gone: watch::Receiver<bool>,
        draining: Arc<AtomicBool>,
    ) -> Self {
        let client = about.client().map(Rc::new).map_err(|error| error.at(&about.id));
        if let Err(error) = &client {
            warn!(provider = &*about.id, error = error.message, "provider has no client");
            vitals.set_health(Health::Unreachable, Some(error.message.clone()));
        }
        ProviderActor { about, vitals, generation, gone, draining, client, refresh: Refresh::default() }
    }

    /// The admission of one call.
    ///
    /// # Errors
    /// `unsupported` when the kind has no such endpoint; when there is no capacity as [`Capacity::admit`] says.
    ///
    /// [`Capacity::admit`]: super::capacity::Capacity::admit
    fn admit(&self, call: Call, meters: Arc<ModelMeters>) -> Result<Job, ProxyError> {
        let target = Target { provider: &self.about.id, model: &call.model };
        check_route(&call.request, self.about.adapter, &self.about.facts, target)?;
        let client = Rc::clone(self.client.as_ref().map_err(Clone::clone)?);
        let round = call.round.as_ref();
        let size = Size::of(&call.request);
        let reserved = call.place.as_ref().and_then(|place| place.take(&self.about.id, &call.model));
        let ask = Ask {
            model: &call.model,
            size,
            client: call.client.as_ref(),
            guesses: round.map_or(Guesses::Hold, |round| round.guesses),
            waiter: round.and_then(|round| round.waiter.as_ref()),
            generation: Some(self.generation),
        };
        let lease = match reserved {
            Some(lease) => {
                lease.assign(self.generation);
                lease.resized(size)?;
                lease
            }
            None => self.vitals.capacity.admit(&ask)?,
        };
        let slip = Slip::of(&call, &self.about.id, &meters);
        Ok(Job {
            call,
            client,
            about: Arc::clone(&self.about),
            vitals: Arc::clone(&self.vitals),
            meters,
            lease,
            slip,
            gone: self.gone.clone(),
        })
    }

    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
}

impl Actor for ProviderActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(TICK, |actor, ctx| actor.tick(ctx, Instant::now()));
        if self.is_draining() {
            return;
        }
        self.publish(None, Instant::now());
        if self.refresh.next.is_none() {
            self.start_refresh(ctx);
        }
    }
}

impl Handler<Forward> for ProviderActor {
    type Result = ();

    fn handle(&mut self, message: Forward, _ctx: &mut Self::Context) {
        let Forward { call, meters, reply } = message;
        if reply.is_closed() {
            return;
        }
        match self.admit(call, meters) {
            Ok(job) => {
                // In a box: a task's future is moved several times before it runs and after it ended.
                actix_rt::spawn(Box::pin(carry(job, reply)));
            }
            Err(error) => {
                // A client that left has no use for the error.
                let _ = reply.send(Err(error));
            }
        }
    }
}

impl Handler<Ping> for ProviderActor {
    type Result = ();

    fn handle(&mut self, _message: Ping, _ctx: &mut Self::Context) {}
}
