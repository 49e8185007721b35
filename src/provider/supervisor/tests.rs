//! The supervising future over a small actor of its own, in one arbiter, under paused time.

use std::cell::RefCell;
use std::rc::Rc;

use actix::{Addr, Handler, Message, WrapFuture};

use super::*;

/// What the observer heard.
#[derive(Default, Clone)]
struct Heard(Rc<RefCell<Vec<String>>>);

impl Observer for Heard {
    fn fell(&self, cause: &str) {
        self.0.borrow_mut().push(format!("fell: {cause}"));
    }

    fn pausing(&self, pause: Option<Duration>) {
        let text = pause.map_or("runs".to_owned(), |pause| format!("pauses {} ms", pause.as_millis()));
        self.0.borrow_mut().push(text);
    }
}

/// Counts what it is asked, and falls when told to.
#[derive(Default)]
struct Fragile {
    asked: u32,
    starts: Rc<RefCell<u32>>,
    ticking: bool,
}

impl Actor for Fragile {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        *self.starts.borrow_mut() += 1;
        if self.ticking {
            ctx.run_interval(Duration::from_secs(3600), |_, _| panic!("timer"));
        }
    }
}

impl Supervised for Fragile {}

#[derive(Message)]
#[rtype(result = "u32")]
struct Ask;

#[derive(Message)]
#[rtype(result = "()")]
enum Fall {
    InHandler,
    InFuture,
    ByStopping,
}

impl Handler<Ask> for Fragile {
    type Result = u32;

    fn handle(&mut self, _message: Ask, _ctx: &mut Self::Context) -> u32 {
        self.asked += 1;
        self.asked
    }
}

impl Handler<Fall> for Fragile {
    type Result = ();

    fn handle(&mut self, message: Fall, ctx: &mut Self::Context) {
        match message {
            Fall::InHandler => panic!("handler"),
            Fall::InFuture => {
                ctx.spawn(async { panic!("future") }.into_actor(self));
            }
            Fall::ByStopping => ctx.stop(),
        }
    }
}

struct Stage {
    address: Addr<Fragile>,
    heard: Heard,
    starts: Rc<RefCell<u32>>,
    supervising: actix_rt::task::JoinHandle<()>,
}

fn stage(ticking: bool) -> Stage {
    let (sender, receiver) = channel::channel(16);
    let (heard, starts) = (Heard::default(), Rc::new(RefCell::new(0)));
    let actor = Fragile { ticking, starts: Rc::clone(&starts), ..Fragile::default() };
    let supervision = supervise(receiver, Intensity::default(), heard.clone(), |_context| actor);
    Stage { address: Addr::new(sender), heard, starts, supervising: actix_rt::spawn(supervision) }
}

#[actix_rt::test]
async fn each_kind_of_fall_keeps_address_instance_and_queued_messages() {
    tokio::time::pause();
    for (fall, cause) in
        [(Fall::InHandler, "handler"), (Fall::InFuture, "future"), (Fall::ByStopping, "orderly stop")]
    {
        let Stage { address, heard, starts, .. } = stage(false);
        assert_eq!(address.send(Ask).await, Ok(1));
        address.do_send(fall);
        let queued = [address.send(Ask), address.send(Ask), address.send(Ask)];
        for (number, answer) in (2..).zip(queued) {
            assert_eq!(
                answer.await,
                Ok(number),
                "the same instance answers what was queued behind `{cause}`"
            );
        }
        assert_eq!(address.send(Ask).await, Ok(5), "and so it does afterwards");
        assert!(address.connected());
        assert_eq!(*starts.borrow(), 2);
        assert_eq!(*heard.0.borrow(), [format!("fell: {cause}"), "runs".to_owned()]);
    }
}

#[actix_rt::test]
async fn a_fall_in_a_timer_is_survived_and_the_timer_starts_anew() {
    tokio::time::pause();
    let Stage { address, heard, .. } = stage(true);
    assert_eq!(address.send(Ask).await, Ok(1));
    tokio::time::sleep(Duration::from_secs(2 * 3600 + 60)).await;
    assert_eq!(address.send(Ask).await, Ok(2));
    let falls = heard.0.borrow().iter().filter(|line| *line == "fell: timer").count();
    assert_eq!(falls, 2);
}

#[actix_rt::test]
async fn falls_in_quick_succession_are_paused_longer_and_longer() {
    tokio::time::pause();
    let Stage { address, heard, .. } = stage(false);
    let begin = Instant::now();
    for _ in 0..6 {
        // The one that falls gets no answer.
        assert!(address.send(Fall::InHandler).await.is_err());
    }
    assert_eq!(address.send(Ask).await, Ok(1));
    // Three restarts are free; then 50, 100 and 200 ms.
    assert!(begin.elapsed() >= Duration::from_millis(350), "{:?}", begin.elapsed());
    let pauses: Vec<String> =
        heard.0.borrow().iter().filter(|line| line.starts_with("pauses")).cloned().collect();
    assert_eq!(pauses, ["pauses 50 ms", "pauses 100 ms", "pauses 200 ms"]);
}

#[actix_rt::test]
async fn falls_long_ago_are_forgotten() {
    tokio::time::pause();
    let Stage { address, heard, .. } = stage(false);
    for _ in 0..8 {
        assert!(address.send(Fall::InHandler).await.is_err());
        tokio::time::sleep(Duration::from_secs(11)).await;
    }
    assert!(heard.0.borrow().iter().all(|line| !line.starts_with("pauses")));
}

#[actix_rt::test]
async fn it_ends_with_the_last_address_even_while_a_timer_runs() {
    tokio::time::pause();
    let Stage { address, heard, supervising, .. } = stage(true);
    assert_eq!(address.send(Ask).await, Ok(1));
    drop(address);
    assert!(supervising.await.is_ok());
    assert!(heard.0.borrow().is_empty(), "an end is no fall");
}

#[test]
fn the_pause_doubles_up_to_its_bound_whatever_the_count() {
    let intensity = Intensity::default();
    let pauses: Vec<u128> = (1..=12).map(|falls| pause_after(falls, intensity).as_millis()).collect();
    assert_eq!(pauses, [0, 0, 0, 50, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
    assert_eq!(pause_after(usize::MAX, intensity), intensity.longest_pause);
}
