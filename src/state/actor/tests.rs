//! What a `SyncArbiter` does with a panic, and what the crew makes of it.

use super::*;
use crate::quota::Moment;
use crate::state::tests::faulty::{Faulty, Mishap, OnFaulty};

const PATIENCE: Duration = Duration::from_secs(1);

fn batch(number: i64) -> Arc<Batch> {
    Arc::new(Batch { journal: 1, number, whole: true, at: Moment(0), ledger: vec![], usage: vec![] })
}

fn crew(faulty: &Arc<Faulty>) -> Crew {
    Crew::new(Arc::new(OnFaulty(Arc::clone(faulty))), None)
}

async fn eventually(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..4000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never: {what}");
}

/// The reason for all of this file: actix restarts nothing here, and shows it late.
#[actix_rt::test]
async fn a_panic_ends_the_sync_arbiters_thread_and_its_address_shows_it_one_message_later() {
    struct Falls;
    impl Actor for Falls {
        type Context = SyncContext<Self>;
    }
    #[derive(Message)]
    #[rtype(result = "()")]
    struct Fall;
    impl Handler<Fall> for Falls {
        type Result = ();
        fn handle(&mut self, _message: Fall, _ctx: &mut Self::Context) {
            panic!("injected");
        }
    }
    let address = SyncArbiter::start(1, || Falls);
    let (fallen, queued) = (address.send(Fall), address.send(Fall));
    assert!(fallen.await.is_err() && queued.await.is_err(), "what waits in the queue is lost as well");
    assert!(address.send(Fall).await.is_err());
    assert!(!address.connected());
}

#[actix_rt::test]
async fn an_actor_that_falls_is_replaced_with_the_next_message() {
    let faulty = Faulty::new();
    let crew = crew(&faulty);
    assert_eq!(crew.write(batch(1), PATIENCE).await, Ok(Written::Done));
    let first = crew.current().unwrap();
    faulty.next(&[Mishap::Panic]);
    assert_eq!(crew.write(batch(2), PATIENCE).await, Err(Trouble::Fell));
    assert_eq!(crew.write(batch(2), PATIENCE).await, Ok(Written::Done));
    assert!(!Arc::ptr_eq(&first, &crew.current().unwrap()));
    eventually("the first thread is gone", || !first.lives()).await;
    assert_eq!(crew.threads.load(Ordering::Relaxed), 1);
    assert_eq!(faulty.disk().opened, 2, "with a store of its own");
}

#[actix_rt::test]
async fn an_actor_that_hangs_is_replaced_and_its_thread_ends_when_it_wakes() {
    let faulty = Faulty::new();
    let crew = crew(&faulty);
    faulty.next(&[Mishap::Hang]);
    assert_eq!(crew.write(batch(1), PATIENCE).await, Err(Trouble::Hangs));
    assert_eq!(crew.write(batch(1), PATIENCE).await, Ok(Written::Done), "by a fresh one");
    assert_eq!(crew.threads.load(Ordering::Relaxed), 2);
    faulty.let_go();
    eventually("the old thread ends", || crew.threads.load(Ordering::Relaxed) == 1).await;
    assert_eq!(faulty.disk().commits.len(), 1, "what it still wrote was known by its number");
}

#[actix_rt::test]
async fn a_disk_that_never_answers_does_not_collect_threads() {
    let faulty = Faulty::new();
    let crew = crew(&faulty);
    faulty.next(&[const { Mishap::Hang }; 10]);
    for _ in 0..10 {
        assert_eq!(crew.write(batch(1), Duration::from_millis(10)).await, Err(Trouble::Hangs));
    }
    assert_eq!(crew.threads.load(Ordering::Relaxed), MOST_THREADS);
    faulty.let_go();
    eventually("all are gone", || crew.threads.load(Ordering::Relaxed) == 0).await;
    assert_eq!(crew.write(batch(1), PATIENCE).await, Ok(Written::Done));
}

#[actix_rt::test]
async fn who_waits_for_an_actor_that_is_given_up_waits_no_longer() {
    let faulty = Faulty::new();
    let crew = Arc::new(crew(&faulty));
    faulty.next(&[Mishap::Hang]);
    let waiting = Arc::clone(&crew);
    let write = actix_rt::spawn(async move { waiting.write(batch(1), Duration::from_secs(3600)).await });
    eventually("it is busy", || crew.current().is_some_and(|worker| worker.is_busy())).await;
    crew.give_up(&crew.current().unwrap());
    assert_eq!(write.await.unwrap(), Err(Trouble::Hangs));
    faulty.let_go();
}

#[actix_rt::test]
async fn a_corrupt_store_is_put_aside_and_the_next_write_meets_a_fresh_one() {
    let faulty = Faulty::new();
    let crew = crew(&faulty);
    assert_eq!(crew.write(batch(1), PATIENCE).await, Ok(Written::Done));
    faulty.next(&[Mishap::Refuse(Fault::Corrupt, "malformed")]);
    assert!(matches!(crew.write(batch(2), PATIENCE).await, Err(Trouble::Store(_))));
    assert_eq!(crew.write(batch(2), PATIENCE).await, Ok(Written::Done));
    assert_eq!((faulty.disk().opened, faulty.disk().put_aside), (2, 1));
}

#[actix_rt::test]
async fn a_full_store_stays_open() {
    let faulty = Faulty::new();
    let crew = crew(&faulty);
    faulty.next(&[Mishap::Refuse(Fault::Full, "full"), Mishap::Refuse(Fault::Locked, "locked")]);
    for _ in 0..2 {
        assert!(matches!(crew.write(batch(1), PATIENCE).await, Err(Trouble::Store(_))));
    }
    assert_eq!(crew.write(batch(1), PATIENCE).await, Ok(Written::Done));
    assert_eq!(faulty.disk().opened, 1);
}
