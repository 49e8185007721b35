//! Requests that share a call to a backend that does as it is told, on paused time.

use std::time::Duration;

use futures_util::future::join;
use tokio::time::{advance, timeout};

use super::super::scene::{
    Got, Script, USAGE, Upstream, WHOLE, ask, call, chunk, finish, hello, is_asking, read_all, read_piece,
    with_header,
};
use super::*;
use crate::backend::gate::Gatekeeper;
use crate::backend::{Guesses, ReplyBody, Round};
use crate::error::ErrorKind;

const SECOND: Duration = Duration::from_secs(1);

fn options() -> Options {
    Options { among: Among::OneClients, max_buffer: 64 * 1024 }
}

fn dedupe(upstream: &Arc<Upstream>, options: Options) -> Arc<Dedupe> {
    Arc::new(Dedupe::new(upstream.wrapped("dedupe"), options))
}

fn plain() -> Call {
    call(r#""messages":[]"#)
}

fn stream() -> Call {
    call(r#""messages":[],"stream":true"#)
}

fn share(got: &Got) -> Option<&'static str> {
    got.reply.served.marks.share.map(Share::label)
}

fn in_flight(dedupe: &Dedupe) -> usize {
    dedupe.flights.lock().unwrap().len()
}

async fn begin(dedupe: &Arc<Dedupe>, call: Call) -> Reply {
    Arc::clone(dedupe).forward(call).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_plain_answer_is_asked_for_once_and_given_to_all() {
    let upstream = Upstream::new([Script::Whole(SECOND, WHOLE.to_owned())]);
    let dedupe = dedupe(&upstream, options());
    let (one, other) = join(ask(&dedupe, plain()), ask(&dedupe, plain())).await;
    let (one, other) = (one.unwrap(), other.unwrap());
    assert_eq!((share(&one), share(&other)), (Some("leader"), Some("follower")));
    for got in [&one, &other] {
        assert_eq!((got.text.as_str(), got.usage, got.reply.headers.len()), (WHOLE, USAGE, 1));
        assert_eq!(&*got.reply.served.provider, "up");
    }
    assert_eq!((upstream.count(), upstream.held(), in_flight(&dedupe)), (1, 0, 0));
    assert_eq!((upstream.outcomes("dedupe", "leader"), upstream.outcomes("dedupe", "follower")), (1, 1));
    assert_eq!(share(&ask(&dedupe, plain()).await.unwrap()), Some("leader"), "what is over is asked anew");
    assert_eq!(upstream.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn who_joins_a_stream_late_gets_all_of_it_from_its_begin() {
    let upstream = Upstream::new([hello()]);
    let dedupe = dedupe(&upstream, options());
    let mut leader = begin(&dedupe, stream()).await;
    assert_eq!(read_piece(&mut leader).await, chunk("hel"));
    advance(SECOND / 2).await;
    assert_eq!(upstream.metric("demuxai_dedupe_bytes{backend=\"g\"}"), chunk("hel").len() as u64);
    let follower = begin(&dedupe, stream()).await;
    let (leader, follower) = join(read_all(leader), read_all(follower)).await;
    let whole = [chunk("hel"), chunk("lo"), finish()].concat();
    assert_eq!(follower.text, whole);
    assert_eq!(whole.strip_prefix(&chunk("hel")), Some(leader.text.as_str()));
    assert_eq!((leader.usage, follower.usage), (USAGE, USAGE));
    assert_eq!((upstream.count(), upstream.held(), upstream.cancelled()), (1, 0, 0));
    assert_eq!(upstream.metric("demuxai_dedupe_bytes{backend=\"g\"}"), 0, "what all have read is let go");
}

#[tokio::test(start_paused = true)]
async fn a_request_waits_for_its_answer_though_the_one_that_asked_first_has_left() {
    let upstream = Upstream::new([Script::Whole(SECOND, WHOLE.to_owned())]);
    let dedupe = dedupe(&upstream, options());
    let mut leader = Arc::clone(&dedupe).forward(plain());
    assert!(is_asking(&mut leader).await);
    let mut follower = Arc::clone(&dedupe).forward(plain());
    assert!(is_asking(&mut follower).await);
    drop(leader);
    let got = read_all(follower.await.unwrap()).await;
    assert_eq!((got.text.as_str(), upstream.count(), upstream.cancelled()), (WHOLE, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_stream_goes_on_though_the_one_that_asked_first_has_left_and_ends_with_the_last_one() {
    let upstream = Upstream::new([hello()]);
    let dedupe = dedupe(&upstream, options());
    let mut leader = begin(&dedupe, stream()).await;
    let mut follower = begin(&dedupe, stream()).await;
    read_piece(&mut leader).await;
    drop(leader);
    assert_eq!((upstream.cancelled(), upstream.held()), (0, 1));
    assert_eq!(read_piece(&mut follower).await, chunk("hel"));
    assert_eq!(read_piece(&mut follower).await, chunk("lo"));
    drop(follower);
    assert_eq!((upstream.cancelled(), upstream.held(), in_flight(&dedupe)), (1, 0, 0));
    let again = ask(&dedupe, stream()).await.unwrap();
    assert_eq!((share(&again), again.error, upstream.count()), (Some("leader"), None, 2));
}

#[tokio::test(start_paused = true)]
async fn before_anybody_answered_the_last_one_to_leave_cancels_the_call() {
    let upstream = Upstream::new([hello()]);
    upstream.slow_down(SECOND);
    let dedupe = dedupe(&upstream, options());
    let mut one = Arc::clone(&dedupe).forward(stream());
    let mut other = Arc::clone(&dedupe).forward(stream());
    assert!(is_asking(&mut one).await && is_asking(&mut other).await);
    drop(one);
    assert_eq!(upstream.cancelled(), 0);
    drop(other);
    assert_eq!((upstream.cancelled(), in_flight(&dedupe)), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_does_not_read_holds_up_nobody() {
    let upstream = Upstream::new([hello()]);
    let dedupe = dedupe(&upstream, options());
    let lazy = begin(&dedupe, stream()).await;
    let eager = ask(&dedupe, stream()).await.unwrap();
    assert_eq!(eager.error, None);
    let lazy = timeout(Duration::from_millis(1), read_all(lazy)).await.expect("all of it is there");
    assert_eq!((lazy.text == eager.text, lazy.error), (true, None));
}

/// A stream of so many pieces of 10 kB, one each millisecond.
fn long(pieces: usize) -> Script {
    let piece = (Duration::from_millis(1), chunk(&"x".repeat(10_000)));
    let mut all = vec![piece; pieces];
    all.push((Duration::ZERO, finish()));
    Script::Stream(all, None)
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_outgrows_the_bound_takes_nobody_in_and_leaves_behind_who_lags_too_far() {
    let upstream = Upstream::new([long(20)]);
    let dedupe = dedupe(&upstream, options());
    let mut eager = begin(&dedupe, stream()).await;
    let mut lazy = begin(&dedupe, stream()).await;
    read_piece(&mut lazy).await;
    for _ in 0..10 {
        read_piece(&mut eager).await;
    }
    let kept = upstream.metric("demuxai_dedupe_bytes{backend=\"g\"}");
    assert!(kept <= 64 * 1024, "{kept}");
    let late = ask(&dedupe, stream()).await.unwrap();
    assert_eq!((share(&late), upstream.count()), (Some("leader"), 2));
    let lazy = read_all(lazy).await;
    assert_eq!((lazy.error, lazy.text.as_str()), (Some(ErrorKind::Timeout), ""));
    let eager = read_all(eager).await;
    assert_eq!((eager.error, eager.times.len()), (None, 11));
    assert_eq!(upstream.outcomes("dedupe", "cut"), 1);
}

#[tokio::test(start_paused = true)]
async fn one_that_reads_alone_holds_up_the_upstream_and_gets_all_of_a_long_answer() {
    let upstream = Upstream::new([long(40)]);
    let dedupe = dedupe(&upstream, options());
    let leaver = begin(&dedupe, stream()).await;
    let mut alone = begin(&dedupe, stream()).await;
    drop(leaver);
    for _ in 0..20 {
        advance(SECOND).await;
        read_piece(&mut alone).await;
        assert!(upstream.metric("demuxai_dedupe_bytes{backend=\"g\"}") <= 80 * 1024);
    }
    let rest = read_all(alone).await;
    assert_eq!((rest.error, rest.times.len(), upstream.count()), (None, 21, 1));
}

#[tokio::test(start_paused = true)]
async fn an_error_before_the_commit_point_is_everybodys_and_the_next_request_tries_again() {
    let upstream = Upstream::new([Script::Fail(SECOND, ErrorKind::Connect), hello()]);
    let dedupe = dedupe(&upstream, options());
    let (one, other) = join(ask(&dedupe, stream()), ask(&dedupe, stream())).await;
    for failed in [one, other] {
        let error = failed.err().unwrap();
        assert_eq!((error.kind, error.provider.as_deref()), (ErrorKind::Connect, Some("up")));
    }
    assert_eq!(upstream.count(), 1);
    assert_eq!(ask(&dedupe, stream()).await.unwrap().error, None);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_breaks_off_breaks_off_for_all() {
    let pieces = vec![(Duration::ZERO, chunk("a")), (SECOND, chunk("b"))];
    let upstream = Upstream::new([Script::Stream(pieces, Some(ErrorKind::Truncated))]);
    let dedupe = dedupe(&upstream, options());
    let (one, other) = join(ask(&dedupe, stream()), ask(&dedupe, stream())).await;
    for got in [one.unwrap(), other.unwrap()] {
        assert_eq!((got.text, got.error), ([chunk("a"), chunk("b")].concat(), Some(ErrorKind::Truncated)));
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_the_same_or_wants_its_own_answer_is_not_shared() {
    let upstream = Upstream::new([Script::Whole(SECOND, WHOLE.to_owned())]);
    let dedupe = dedupe(&upstream, options());
    let of = |client: &str| Call { client: Some(Arc::from(client)), ..plain() };
    let round = Round { guesses: Guesses::Hold, waiter: None };
    let calls = [
        plain(),
        call(r#""messages":[],"seed":1"#),
        of("me"),
        of("you"),
        with_header(plain(), "cache-control", "no-cache"),
        with_header(plain(), "cache-control", "no-store"),
        Call { so_far: Some(Arc::from("x")), ..plain() },
        // It waits for others of a panel, and who shared its call would wait with it.
        Call { gate: Some(Gatekeeper::default().gate()), ..plain() },
        Call { round: Some(round), ..plain() },
    ];
    let mut all: Vec<_> = calls.iter().map(|call| Arc::clone(&dedupe).forward(call.clone())).collect();
    for asking in &mut all {
        assert!(is_asking(asking).await);
    }
    assert_eq!(upstream.count(), calls.len());
    assert_eq!(upstream.outcomes("dedupe", "alone"), 4);
    assert_eq!(upstream.outcomes("dedupe", "follower"), 0);
}

#[tokio::test(start_paused = true)]
async fn each_reply_says_whether_it_may_be_continued_and_who_joined_waited_in_its_own_time() {
    let upstream = Upstream::new([hello()]);
    let dedupe = dedupe(&upstream, options());
    let (leader, follower) = (begin(&dedupe, stream()).await, begin(&dedupe, stream()).await);
    for reply in [&leader, &follower] {
        let ReplyBody::Stream(stream) = &reply.body else { panic!("not a stream") };
        assert!(stream.may_be_continued());
    }
    assert_eq!(leader.waited, Duration::from_millis(10));
    assert_ne!(follower.waited, leader.waited);
}

#[tokio::test(start_paused = true)]
async fn all_clients_share_a_call_where_they_may() {
    let upstream = Upstream::new([hello()]);
    let dedupe = dedupe(&upstream, Options { among: Among::AllClients, ..options() });
    let of = |client: &str| Call { client: Some(Arc::from(client)), ..stream() };
    let (me, you) = join(ask(&dedupe, of("me")), ask(&dedupe, of("you"))).await;
    assert_eq!((me.unwrap().text == you.unwrap().text, upstream.count()), (true, 1));
}

#[tokio::test(start_paused = true)]
async fn the_daemons_end_is_told_to_the_stream_that_is_shared() {
    let upstream = Upstream::new([hello()]);
    let dedupe = dedupe(&upstream, options());
    let mut reply = begin(&dedupe, stream()).await;
    let ReplyBody::Stream(stream) = &mut reply.body else { panic!("not a stream") };
    assert!(stream.may_be_continued(), "what a group below may do is still told");
    stream.shut_down();
    assert_eq!(upstream.tally.shut_down.load(std::sync::atomic::Ordering::Relaxed), 1);
}

/// A call that holds a timer of a thread that has ended.
#[test]
fn a_call_that_falls_over_itself_is_an_error_for_all_and_no_panic() {
    let upstream = Upstream::new([hello()]);
    let dedupe = dedupe(&upstream, options());
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let first = runtime();
    let mut leader = first.block_on(begin(&dedupe, stream()));
    let follower = first.block_on(begin(&dedupe, stream()));
    first.block_on(async {
        read_piece(&mut leader).await;
        let waits = timeout(Duration::from_millis(1), read_piece(&mut leader)).await;
        assert!(waits.is_err(), "the next one comes a second later");
    });
    drop(first);
    let got = runtime().block_on(read_all(follower));
    assert_eq!((got.text.as_str(), got.error), (chunk("hel").as_str(), Some(ErrorKind::Internal)));
    let last = runtime().block_on(read_all(leader));
    assert_eq!((last.text.as_str(), last.error), ("", Some(ErrorKind::Internal)));
    drop((got, last));
    assert_eq!((upstream.held(), in_flight(&dedupe)), (0, 0));
}

/// Runs a future on this thread, without timers of its own.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let (mut future, mut context) = (std::pin::pin!(future), std::task::Context::from_waker(&waker));
    loop {
        if let std::task::Poll::Ready(done) = future.as_mut().poll(&mut context) {
            return done;
        }
        std::thread::park();
    }
}

/// Many readers on several threads, some of which leave: everybody who stays gets all of it.
#[test]
fn readers_on_many_threads_each_get_all_of_it() {
    let pieces: Vec<_> =
        (0..200).map(|number| (Duration::from_millis(1), chunk(&format!("{number} ")))).collect();
    let whole: String = pieces.iter().map(|(_, piece)| piece.as_str()).collect::<String>() + &finish();
    let script = Script::Stream([pieces, vec![(Duration::ZERO, finish())]].concat(), None);
    let upstream = Upstream::new([script]);
    let dedupe = dedupe(&upstream, Options { max_buffer: 1 << 20, ..options() });
    // Its timers are those of a thread that stays as long as the readers.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let (handle, (over, wait)) = (runtime.handle().clone(), tokio::sync::oneshot::channel::<()>());
    let timers = std::thread::spawn(move || runtime.block_on(wait));
    let readers: Vec<_> = (0..8)
        .map(|number| {
            let (dedupe, whole, handle) = (Arc::clone(&dedupe), whole.clone(), handle.clone());
            std::thread::spawn(move || {
                let _timers = handle.enter();
                block_on(async {
                    let mut reply = begin(&dedupe, stream()).await;
                    if number % 4 == 3 {
                        read_piece(&mut reply).await;
                        return 0;
                    }
                    let got = read_all(reply).await;
                    assert_eq!((got.error, got.text == whole), (None, true));
                    1
                })
            })
        })
        .collect();
    let stayed: usize = readers.into_iter().map(|reader| reader.join().unwrap()).sum();
    assert_eq!((stayed, upstream.held(), in_flight(&dedupe)), (6, 0, 0));
    over.send(()).unwrap();
    timers.join().unwrap().unwrap();
}
