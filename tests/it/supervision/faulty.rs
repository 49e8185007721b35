//! A provider whose actor falls, hangs or dies on demand. The faults enter through an adapter of the test's own; the
//! product has no hook for them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};
use std::thread::ThreadId;

use demuxai::dialect::Task;
use demuxai::provider::{Adapter, Model, Route, openai};

/// What the next call of a method does.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Fault {
    None,
    Panic,
    /// Wait until the test lets go, then panic.
    WaitThenPanic,
    /// Hold the thread until the test lets go.
    Block,
    /// Stop the arbiter.
    Die,
}

/// Where a fault strikes.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Place {
    /// The actor's message handler.
    Handler,
    /// The actor's timer.
    Timer,
    /// A future that the actor's context spawned.
    Future,
}

/// Plain OpenAI, with faults on demand: `route` is called by the actor's message handler, `models_path` by its
/// timer, `models` by a future of its context.
pub struct Faulty {
    handler: Mutex<Fault>,
    timer: Mutex<Fault>,
    future: Mutex<Fault>,
    waiting: AtomicUsize,
    held: Mutex<bool>,
    let_go: Condvar,
    /// The thread that handled the last message.
    thread: Mutex<Option<ThreadId>>,
}

impl Faulty {
    pub fn leak() -> &'static Faulty {
        Box::leak(Box::new(Faulty {
            handler: Mutex::new(Fault::None),
            timer: Mutex::new(Fault::None),
            future: Mutex::new(Fault::None),
            waiting: AtomicUsize::new(0),
            held: Mutex::new(true),
            let_go: Condvar::new(),
            thread: Mutex::new(None),
        }))
    }

    fn at(&self, place: Place) -> &Mutex<Fault> {
        match place {
            Place::Handler => &self.handler,
            Place::Timer => &self.timer,
            Place::Future => &self.future,
        }
    }

    /// The next call there does this.
    pub fn strikes(&self, place: Place, fault: Fault) {
        *self.at(place).lock().unwrap() = fault;
    }

    /// Whether the fault has struck, or was never asked for.
    pub fn has_struck(&self, place: Place) -> bool {
        *self.at(place).lock().unwrap() == Fault::None
    }

    /// How many calls have waited until the test let go, or still do.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }

    /// Lets go of those that wait.
    pub fn release(&self) {
        *self.held.lock().unwrap() = false;
        self.let_go.notify_all();
    }

    /// The thread that handled the last message: the arbiter's.
    pub fn thread(&self) -> ThreadId {
        self.thread.lock().unwrap().expect("a message was handled")
    }

    fn strike(&self, place: Place) {
        let fault = std::mem::replace(&mut *self.at(place).lock().unwrap(), Fault::None);
        match fault {
            Fault::None => {}
            Fault::Panic => panic!("injected"),
            Fault::WaitThenPanic => {
                self.wait();
                panic!("injected after waiting");
            }
            Fault::Block => self.wait(),
            Fault::Die => {
                actix_rt::Arbiter::current().stop();
            }
        }
    }

    fn wait(&self) {
        let mut held = self.held.lock().unwrap();
        self.waiting.fetch_add(1, Ordering::SeqCst);
        while *held {
            held = self.let_go.wait(held).unwrap();
        }
    }
}

impl Adapter for Faulty {
    fn route(&self, task: Task) -> Option<Route> {
        *self.thread.lock().unwrap() = Some(std::thread::current().id());
        self.strike(Place::Handler);
        openai::OpenAi.route(task)
    }

    fn models_path(&self) -> &'static str {
        self.strike(Place::Timer);
        "/v1/models"
    }

    fn models(&self, body: &[u8]) -> Result<Vec<Model>, String> {
        self.strike(Place::Future);
        openai::OpenAi.models(body)
    }
}
