//! A cache over a backend that does as it is told, on paused time.

use super::super::scene::{
    Got, Script, USAGE, Upstream, WHOLE, ask, call, chunk, finish, hello, read_all, read_piece, with_header,
};
use super::*;
use crate::error::ErrorKind;

/// The time by the wall, which follows the paused clock.
fn clock() -> Moment {
    use std::sync::OnceLock;
    thread_local! { static BEGIN: OnceLock<tokio::time::Instant> = const { OnceLock::new() }; }
    let elapsed = BEGIN.with(|begin| begin.get_or_init(tokio::time::Instant::now).elapsed());
    Moment(1_000_000 + i64::try_from(elapsed.as_millis()).unwrap())
}

fn options() -> Options {
    Options {
        ttl: Duration::from_secs(60),
        memory: 1024 * 1024,
        max_entry: 64 * 1024,
        all: false,
        among: Among::OneClients,
        pace: Pace::AtOnce,
    }
}

fn cache(upstream: &Arc<Upstream>, options: Options) -> Arc<Cache> {
    Arc::new(Cache::new(upstream.wrapped("cache"), options, None, clock))
}

fn whole() -> Script {
    Script::Whole(Duration::ZERO, WHOLE.to_owned())
}

/// A request whose answer is kept.
fn zero(more: &str) -> Call {
    call(&format!(r#""messages":[],"temperature":0{more}"#))
}

fn stream() -> Call {
    zero(r#","stream":true"#)
}

fn used(got: &Got) -> Option<&'static str> {
    got.reply.served.marks.cache.map(CacheUse::label)
}

#[tokio::test(start_paused = true)]
async fn a_plain_answer_is_given_again_as_it_was_and_costs_nothing() {
    let upstream = Upstream::new([whole()]);
    let cache = cache(&upstream, options());
    let first = ask(&cache, zero("")).await.unwrap();
    assert_eq!((used(&first), first.text.as_str()), (Some("miss"), WHOLE));
    drop(first);
    tokio::time::advance(Duration::from_millis(5400)).await;
    let again = ask(&cache, zero(r#","user":"me""#)).await.unwrap();
    assert_eq!((used(&again), again.text.as_str(), again.usage), (Some("hit"), WHOLE, USAGE));
    assert_eq!((upstream.count(), upstream.held()), (1, 0));
    let served = &again.reply.served;
    assert_eq!((&*served.provider, &*served.model, served.edits.len()), ("g", "m", 1));
    assert_eq!(served.meters.provider, "g", "nobody's time and tokens are counted");
    let headers: Vec<_> = again.reply.headers.iter().map(|(name, value)| (name.as_str(), value)).collect();
    assert_eq!(headers, [("age", &HeaderValue::from_static("5"))], "what the upstream said of limits is old");
    assert_eq!((upstream.outcomes("cache", "hit"), upstream.outcomes("cache", "miss")), (1, 1));
    let saved = |kind| format!("demuxai_cache_saved_tokens_total{{backend=\"g\",type=\"{kind}\"}}");
    assert_eq!((upstream.metric(&saved("input")), upstream.metric(&saved("output"))), (3, 2));
    assert_eq!(upstream.metric("demuxai_cache_entries{backend=\"g\"}"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_given_again_at_once_or_as_it_came() {
    for (pace, times) in [(Pace::AtOnce, vec![0]), (Pace::Original, vec![0, 1000, 1000])] {
        let upstream = Upstream::new([hello()]);
        let cache = cache(&upstream, Options { pace, ..options() });
        let first = ask(&cache, stream()).await.unwrap();
        let again = ask(&cache, stream()).await.unwrap();
        assert_eq!((used(&again), &again.text, again.usage), (Some("hit"), &first.text, USAGE));
        let pauses: Vec<_> = again.times.iter().map(Duration::as_millis).collect();
        assert_eq!(pauses, times, "{pace:?}");
        assert_eq!(upstream.count(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn streams_and_plain_answers_are_not_made_of_each_other() {
    let upstream = Upstream::new([hello(), whole()]);
    let cache = cache(&upstream, options());
    ask(&cache, stream()).await.unwrap();
    assert_eq!(used(&ask(&cache, zero("")).await.unwrap()), Some("miss"));
    assert_eq!(used(&ask(&cache, zero("")).await.unwrap()), Some("hit"));
    let counted = zero(r#","stream":true,"stream_options":{"include_usage":true}"#);
    assert_eq!(used(&ask(&cache, counted).await.unwrap()), Some("miss"), "its stream has one event more");
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_good_for_its_time_and_no_longer() {
    let upstream = Upstream::new([whole()]);
    let cache = cache(&upstream, options());
    ask(&cache, zero("")).await.unwrap();
    tokio::time::advance(Duration::from_millis(59_999)).await;
    assert_eq!(used(&ask(&cache, zero("")).await.unwrap()), Some("hit"));
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_eq!(used(&ask(&cache, zero("")).await.unwrap()), Some("miss"));
    assert_eq!(used(&ask(&cache, zero("")).await.unwrap()), Some("hit"), "the new one is kept");
}

#[tokio::test(start_paused = true)]
async fn what_would_be_another_answer_the_next_time_is_not_for_the_cache_unless_somebody_says_so() {
    let upstream = Upstream::new([whole()]);
    let only_some = cache(&upstream, options());
    let warm = || call(r#""messages":[]"#);
    for _ in 0..2 {
        assert_eq!(used(&ask(&only_some, warm()).await.unwrap()), Some("bypass"));
    }
    let asks = || with_header(warm(), "x-demuxai-cache", "use");
    assert_eq!(used(&ask(&only_some, asks()).await.unwrap()), Some("miss"));
    assert_eq!(used(&ask(&only_some, asks()).await.unwrap()), Some("hit"));
    assert_eq!(upstream.outcomes("cache", "bypass"), 2);
    let all = cache(&upstream, Options { all: true, ..options() });
    ask(&all, warm()).await.unwrap();
    assert_eq!(used(&ask(&all, warm()).await.unwrap()), Some("hit"));
}

#[tokio::test(start_paused = true)]
async fn what_the_client_says_of_caching_is_honoured() {
    let upstream = Upstream::new([whole()]);
    let cache = cache(&upstream, options());
    let said = |value| with_header(zero(""), "cache-control", value);
    assert_eq!(used(&ask(&cache, said("no-store")).await.unwrap()), Some("bypass"));
    assert_eq!(used(&ask(&cache, zero("")).await.unwrap()), Some("miss"), "nothing was kept");
    assert_eq!(used(&ask(&cache, said("no-cache")).await.unwrap()), Some("miss"));
    tokio::time::advance(Duration::from_secs(10)).await;
    assert_eq!(used(&ask(&cache, said("max-age=11")).await.unwrap()), Some("hit"));
    assert_eq!(used(&ask(&cache, said("max-age=10")).await.unwrap()), Some("miss"));
    assert_eq!(used(&ask(&cache, said("max-age=1")).await.unwrap()), Some("hit"), "the fresh one is kept");
    assert_eq!(upstream.count(), 4);
}

#[tokio::test(start_paused = true)]
async fn clients_are_kept_apart_unless_they_are_to_share() {
    for (among, expected) in [(Among::OneClients, "miss"), (Among::AllClients, "hit")] {
        let upstream = Upstream::new([whole()]);
        let cache = cache(&upstream, Options { among, ..options() });
        let of = |client: &str| Call { client: Some(Arc::from(client)), ..zero("") };
        ask(&cache, of("me")).await.unwrap();
        assert_eq!(used(&ask(&cache, of("me")).await.unwrap()), Some("hit"));
        assert_eq!(used(&ask(&cache, of("you")).await.unwrap()), Some(expected));
    }
}

#[tokio::test(start_paused = true)]
async fn errors_and_answers_that_are_not_whole_are_never_kept() {
    let zero_time = Duration::ZERO;
    let filtered = WHOLE.replace("\"stop\"", "\"content_filter\"");
    let resumed = "data: {\"x_demuxai\":{\"continued_by\":\"b/m\"},\"choices\":[]}\n\n";
    let long = "x".repeat(options().max_entry);
    let pieces = |words: &[&str]| words.iter().map(|word| (zero_time, (*word).to_owned())).collect();
    let (word, end) = (chunk("a"), finish());
    for (script, request) in [
        (Script::Fail(zero_time, ErrorKind::UpstreamStatus), zero("")),
        (Script::Whole(zero_time, filtered), zero("")),
        (Script::Whole(zero_time, WHOLE.replace("hi", &long)), zero("")),
        (Script::Stream(pieces(&[&word]), Some(ErrorKind::Truncated)), stream()),
        (Script::Stream(pieces(&[&word, "data: [DONE]\n\n"]), None), stream()),
        (Script::Stream(pieces(&[&word, &end]), Some(ErrorKind::UpstreamInBand)), stream()),
        (Script::Stream(pieces(&[&word, resumed, &end]), None), stream()),
        (Script::Stream(pieces(&[&word, &chunk(&long), &end]), None), stream()),
    ] {
        let upstream = Upstream::new([script]);
        let cache = cache(&upstream, options());
        for _ in 0..2 {
            let _ = ask(&cache, request.clone()).await;
        }
        assert_eq!((upstream.count(), cache.in_memory().len()), (2, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_panel_s_answer_is_kept_though_several_had_a_part_in_it() {
    let bill = "data: {\"choices\":[],\"usage\":{},\"x_demuxai\":{\"consensus\":[]}}\n\n".to_owned();
    let pieces = [chunk("a"), bill, finish()].map(|piece| (Duration::ZERO, piece)).to_vec();
    let upstream = Upstream::new([Script::Stream(pieces, None)]);
    let cache = cache(&upstream, options());
    for how in ["miss", "hit"] {
        assert_eq!(used(&ask(&cache, stream()).await.unwrap()), Some(how));
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_cancels_the_upstream_and_nothing_is_kept() {
    let upstream = Upstream::new([hello()]);
    let cache = cache(&upstream, options());
    let mut reply = Arc::clone(&cache).forward(stream()).await.unwrap();
    assert_eq!(read_piece(&mut reply).await, chunk("hel"));
    drop(reply);
    assert_eq!((upstream.cancelled(), upstream.held(), cache.in_memory().len()), (1, 0, 0));
    let mut reply = Arc::clone(&cache).forward(stream()).await.unwrap();
    let ReplyBody::Stream(stream) = &mut reply.body else { panic!("not a stream") };
    assert!(stream.may_be_continued(), "what a group below may do is still told");
    stream.shut_down();
    assert_eq!(upstream.tally.shut_down.load(std::sync::atomic::Ordering::Relaxed), 1);
    drop(reply);
}

#[tokio::test(start_paused = true)]
async fn who_goes_on_with_anothers_answer_is_not_answered_from_the_cache() {
    let upstream = Upstream::new([hello()]);
    let cache = cache(&upstream, options());
    ask(&cache, stream()).await.unwrap();
    let going_on = Call { so_far: Some(Arc::from("hel")), ..stream() };
    assert_eq!(used(&ask(&cache, going_on).await.unwrap()), Some("bypass"));
}

#[tokio::test(start_paused = true)]
async fn a_cache_below_that_has_it_counts_for_the_one_above() {
    let upstream = Upstream::new([whole()]);
    let inner = cache(&upstream, options());
    ask(&inner, zero("")).await.unwrap();
    let outer = Wrapped {
        inner: crate::backend::group::Member {
            label: Arc::from("inner"),
            backend: Arc::new(super::super::Modified(inner)),
            model: None,
            weight: 1,
            set: Vec::new(),
        },
        ..upstream.wrapped("cache")
    };
    let outer = Arc::new(Cache::new(outer, options(), None, clock));
    assert_eq!(used(&ask(&outer, zero("")).await.unwrap()), Some("hit"));
    assert_eq!(used(&ask(&outer, call(r#""messages":[]"#)).await.unwrap()), Some("bypass"));
}

#[tokio::test(start_paused = true)]
async fn a_hit_tells_the_changes_of_its_own_request_and_those_that_the_answer_came_of() {
    let upstream = Upstream::new([whole()]);
    let cache = cache(&upstream, options());
    let changed = |by: &[&str]| {
        let edits: Vec<String> = by.iter().map(|edit| (*edit).to_owned()).collect();
        Call { edits: Arc::new(edits), ..zero("") }
    };
    ask(&cache, changed(&["default:top_p"])).await.unwrap();
    let hit = ask(&cache, changed(&["set:temperature"])).await.unwrap();
    assert_eq!(
        (used(&hit), hit.reply.served.edits),
        (Some("hit"), vec!["set:temperature".to_owned(), "drop:seed".to_owned()])
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_in_memory_can_be_had_though_the_backend_has_no_capacity() {
    let upstream = Upstream::new([whole()]);
    let cache = cache(&upstream, options());
    ask(&cache, zero("")).await.unwrap();
    *upstream.availability.lock().unwrap() = Availability::Never;
    let stands = |call: &Call| cache.outlook(call).unwrap().availability;
    assert_eq!(stands(&zero("")), Availability::Now);
    assert_eq!(stands(&zero(r#","top_p":1"#)), Availability::Never);
    assert_eq!(stands(&call(r#""messages":[]"#)), Availability::Never);
}

#[tokio::test(start_paused = true)]
async fn memory_is_bounded() {
    let upstream = Upstream::new([whole()]);
    let small = Options { memory: 2000, ..options() };
    let cache = cache(&upstream, small);
    for number in 0..50 {
        ask(&cache, zero(&format!(r#","seed":{number}"#))).await.unwrap();
    }
    assert!(cache.in_memory().bytes() <= 2000 && cache.in_memory().len() > 1);
    let got = read_all(Arc::clone(&cache).forward(zero(r#","seed":49"#)).await.unwrap()).await;
    assert_eq!(used(&got), Some("hit"), "the last ones are there");
}
