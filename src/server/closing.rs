//! The end of a listener, as its requests see it: first nothing new is taken; and when the time that the answers in
//! flight had is over, they are told, so that each ends with an error and none is cut without a word.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use tokio::sync::{Notify, watch};

use crate::error::{ErrorKind, ProxyError};

/// How far a listener's end has come. Shared by all that serve it.
#[derive(Debug, Default)]
pub struct Closing {
    draining: AtomicBool,
    nothing_new: Notify,
    over: AtomicBool,
    told: watch::Sender<bool>,
}

/// Ready when the time of the answers in flight is over. Made to be polled with each event of a stream: after the first
/// time that is a look at a flag.
pub struct Over {
    closing: Arc<Closing>,
    told: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// Who is woken.
    waker: Option<Waker>,
}

// === impl Closing ===

impl Closing {
    /// From now on no new requests are taken.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
        self.nothing_new.notify_waiters();
    }

    /// Waits until no new requests are taken.
    pub async fn drained(&self) {
        // In this order: who looks first could be told in between, and would wait for ever.
        let told = self.nothing_new.notified();
        if !self.draining.load(Ordering::SeqCst) {
            told.await;
        }
    }

    /// Whether no new requests are taken.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Tells everything that is in flight to end. Returns how many streams and requests hear of it.
    pub fn end(&self) -> usize {
        self.drain();
        // Who hears of it may be gone a moment later.
        let hearing = self.told.receiver_count();
        self.over.store(true, Ordering::Release);
        self.told.send_replace(true);
        hearing
    }

    /// Waits until the time of the answers in flight is over.
    pub fn over(self: &Arc<Self>) -> Over {
        let mut told = self.told.subscribe();
        let wait = async move {
            // The sender lives as long as this.
            let _ = told.wait_for(|told| *told).await;
        };
        // Unconstrained: told to wait, it must really be waiting, and not put off to the task's next turn.
        let told = Box::pin(tokio::task::coop::unconstrained(wait));
        Over { closing: Arc::clone(self), told, waker: None }
    }

    /// What new requests hear.
    pub fn refusal() -> ProxyError {
        ProxyError::new(ErrorKind::ShuttingDown, "demuxai is shutting down")
    }

    /// What those in flight hear when their time is over.
    pub fn cut() -> ProxyError {
        let text = "demuxai is shutting down, and this answer took longer than it waits for (`drain`)";
        ProxyError::new(ErrorKind::ShuttingDown, text)
    }
}

// === impl Over ===

impl Future for Over {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.closing.over.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        if self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            return Poll::Pending;
        }
        self.waker = Some(cx.waker().clone());
        self.told.as_mut().poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;
    use std::time::Duration;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn looks(over: &mut Over, woken: &Arc<Woken>) -> bool {
        let waker = Waker::from(Arc::clone(woken));
        Pin::new(over).poll(&mut Context::from_waker(&waker)).is_ready()
    }

    #[test]
    fn whoever_looked_last_is_woken_however_often_it_looked() {
        let closing = Arc::new(Closing::default());
        let (first, second) = (Arc::new(Woken::default()), Arc::new(Woken::default()));
        let mut over = closing.over();
        for looking in [&first, &first, &second, &second] {
            assert!(!looks(&mut over, looking));
        }
        closing.drain();
        assert!(closing.is_draining() && !looks(&mut over, &second), "draining is not the end yet");
        assert_eq!(closing.end(), 1);
        assert_eq!(second.0.load(Ordering::SeqCst), 1);
        assert!(looks(&mut over, &second) && looks(&mut closing.over(), &first));
    }

    #[actix_rt::test]
    async fn it_wakes_a_task_whose_turn_was_used_up_when_it_looked() {
        let closing = Arc::new(Closing::default());
        let mut over = closing.over();
        let mut looked = false;
        let task = actix_rt::spawn(poll_fn(move |cx| {
            // What is always ready uses up a task's turn, here before the first look.
            let mut spent = pin!(async {
                loop {
                    tokio::task::coop::consume_budget().await;
                }
            });
            if !std::mem::replace(&mut looked, true) {
                let _ = spent.as_mut().poll(cx);
            }
            Pin::new(&mut over).poll(cx)
        }));
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        closing.end();
        tokio::time::timeout(Duration::from_secs(10), task).await.expect("it was not woken").unwrap();
    }
}
