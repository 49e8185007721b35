//! Our own supervising future: it keeps an actor alive through panics with the same address, the same instance
//! and the queued messages. Actix's `Supervisor` does so only after an orderly stop; a panic there is the actor's end.
//! It knows nothing about providers.

use std::any::Any;
use std::collections::VecDeque;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use actix::dev::{ContextFut, channel};
use actix::{Actor, ActorContext, AsyncContext, Context, Supervised};
use tokio::time::{Instant, Sleep};

/// How often an actor may fall before it has to wait.
#[derive(Debug, Clone, Copy)]
pub struct Intensity {
    /// Restarts at once, within `window`.
    pub free_restarts: usize,
    /// The sliding window in which restarts are counted.
    pub window: Duration,
    /// The first pause after that; doubled for each further fall.
    pub first_pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
}

impl Default for Intensity {
    fn default() -> Self {
        Intensity {
            free_restarts: 3,
            window: Duration::from_secs(10),
            first_pause: Duration::from_millis(50),
            longest_pause: Duration::from_secs(5),
        }
    }
}

/// What the supervisor tells about its actor. Called on the actor's arbiter.
pub trait Observer: 'static {
    /// The actor fell, by a panic with this message or by an orderly stop.
    fn fell(&self, cause: &str);
    /// The actor waits this long before it is restarted; `None`: it runs again.
    fn pausing(&self, pause: Option<Duration>);
}

/// A supervised actor as a future: spawn it on the arbiter where the actor is to live.
/// It ends when the last address is dropped.
pub struct Supervision<A, O>
where
    A: Supervised + Actor<Context = Context<A>>,
{
    running: ContextFut<A, Context<A>>,
    observer: O,
    intensity: Intensity,
    falls: VecDeque<Instant>,
    pause: Option<Pin<Box<Sleep>>>,
}

/// Makes an actor that answers what `receiver` receives; the returned future must be spawned on this arbiter.
pub fn supervise<A, O>(
    receiver: channel::AddressReceiver<A>,
    intensity: Intensity,
    observer: O,
    make: impl FnOnce(&mut Context<A>) -> A,
) -> Supervision<A, O>
where
    A: Supervised + Actor<Context = Context<A>>,
    O: Observer,
{
    let mut context = Context::with_receiver(receiver);
    let actor = make(&mut context);
    let running = context.into_future(actor);
    Supervision { running, observer, intensity, falls: VecDeque::new(), pause: None }
}

// === impl Supervision ===

impl<A, O> Supervision<A, O>
where
    A: Supervised + Actor<Context = Context<A>>,
    O: Observer,
{
    /// Records a fall and says how long to wait before the restart.
    fn fall(&mut self, cause: &str) -> Duration {
        let now = Instant::now();
        self.observer.fell(cause);
        self.falls.push_back(now);
        while self.falls.front().is_some_and(|first| now.duration_since(*first) > self.intensity.window) {
            self.falls.pop_front();
        }
        pause_after(self.falls.len(), self.intensity)
    }
}

/// The pause after the n-th fall within the window.
fn pause_after(falls: usize, intensity: Intensity) -> Duration {
    let Some(excess) = falls.checked_sub(intensity.free_restarts + 1) else {
        return Duration::ZERO;
    };
    let factor = 1_u32.checked_shl(u32::try_from(excess).unwrap_or(u32::MAX)).unwrap_or(u32::MAX);
    intensity.first_pause.saturating_mul(factor).min(intensity.longest_pause)
}

/// What a panic said.
fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("panic without a message")
}

impl<A, O> Future for Supervision<A, O>
where
    A: Supervised + Actor<Context = Context<A>> + Unpin,
    A::Context: ActorContext + AsyncContext<A>,
    O: Observer + Unpin,
{
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<()> {
        let this = &mut *self;
        loop {
            if let Some(pause) = this.pause.as_mut() {
                if pause.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                this.pause = None;
                this.observer.pausing(None);
                // `restarting` and `started` are the actor's own code and may fall too.
                let restarted = catch_unwind(AssertUnwindSafe(|| this.running.restart()));
                match restarted {
                    Ok(true) => {}
                    Ok(false) => return Poll::Ready(()),
                    Err(panic) => {
                        let wait = this.fall(panic_text(panic.as_ref()));
                        this.schedule(wait);
                        continue;
                    }
                }
            }
            let polled = catch_unwind(AssertUnwindSafe(|| Pin::new(&mut this.running).poll(cx)));
            // A timer of the actor would keep it alive for ever after its last address is gone.
            if !this.running.ctx().connected() {
                return Poll::Ready(());
            }
            let cause = match polled {
                Ok(Poll::Pending) => return Poll::Pending,
                Ok(Poll::Ready(())) => "orderly stop".to_owned(),
                Err(panic) => panic_text(panic.as_ref()).to_owned(),
            };
            let wait = this.fall(&cause);
            this.schedule(wait);
        }
    }
}

impl<A, O> Supervision<A, O>
where
    A: Supervised + Actor<Context = Context<A>>,
    O: Observer,
{
    fn schedule(&mut self, wait: Duration) {
        if !wait.is_zero() {
            self.observer.pausing(Some(wait));
        }
        self.pause = Some(Box::pin(tokio::time::sleep(wait)));
    }
}

#[cfg(test)]
mod tests;
