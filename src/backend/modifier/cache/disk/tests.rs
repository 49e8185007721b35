//! What is on disk outlives the cache; a disk that fails, lies or hangs costs nobody more than a moment.

use bytes::Bytes;

use super::super::super::scene::{Script, Upstream, WHOLE, ask, call};
use super::super::{Among, Cache, CacheUse, Options, Pace};
use super::*;
use crate::backend::Call;
use crate::dialect::Usage;
use crate::metrics::Metrics;
use crate::state::now;
use crate::wire::json::Digester;

fn cache(upstream: &Arc<Upstream>, path: PathBuf) -> Arc<Cache> {
    let wrapped = upstream.wrapped("cache");
    let mut disk = Disk::new(path, 1 << 30, now, wrapped.metrics.cache_disk(&Arc::from("g")));
    disk.patience = Duration::from_secs(20);
    let options = Options {
        ttl: Duration::from_secs(600),
        memory: 1 << 20,
        max_entry: 1 << 16,
        all: false,
        among: Among::OneClients,
        pace: Pace::AtOnce,
    };
    Arc::new(Cache::new(wrapped, options, Some(disk), now))
}

/// Over a backend that is configured in this way.
fn cache_over(upstream: &Arc<Upstream>, path: PathBuf, how: &str) -> Arc<Cache> {
    let mut cache = cache(upstream, path);
    let mut digester = Digester::default();
    digester.part("below", how.as_bytes());
    Arc::get_mut(&mut cache).unwrap().wrapped.below = digester.finish();
    cache
}

fn upstream() -> Arc<Upstream> {
    Upstream::new([Script::Whole(Duration::ZERO, WHOLE.to_owned())])
}

fn zero() -> Call {
    call(r#""messages":[],"temperature":0"#)
}

async fn used(cache: &Arc<Cache>) -> Option<CacheUse> {
    ask(cache, zero()).await.unwrap().reply.served.marks.cache
}

fn disk(upstream: &Upstream, outcome: &str) -> u64 {
    upstream.metric(&format!("demuxai_cache_disk_total{{backend=\"g\",outcome=\"{outcome}\"}}"))
}

#[tokio::test]
async fn an_answer_is_not_given_where_what_is_below_is_configured_in_another_way() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("answers.db");
    let upstream = upstream();
    for (how, expected) in [("one", CacheUse::Miss), ("one", CacheUse::Hit), ("other", CacheUse::Miss)] {
        let cache = cache_over(&upstream, path.clone(), how);
        assert_eq!(used(&cache).await, Some(expected), "{how}");
        cache.kept.disk.as_ref().unwrap().settle().await;
    }
}

#[tokio::test]
async fn an_answer_on_disk_is_given_by_the_next_cache_on_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("answers.db");
    let first = upstream();
    let one = cache(&first, path.clone());
    assert_eq!(used(&one).await, Some(CacheUse::Miss));
    one.kept.disk.as_ref().unwrap().settle().await;
    assert_eq!(disk(&first, "kept"), 1);
    drop(one);
    let second = upstream();
    let other = cache(&second, path);
    assert_eq!(used(&other).await, Some(CacheUse::Hit));
    assert_eq!(second.count(), 0);
    other.kept.disk.as_ref().unwrap().settle().await;
    std::fs::remove_dir_all(directory.path()).unwrap();
    assert_eq!(used(&other).await, Some(CacheUse::Hit), "it is in memory now, too");
}

#[tokio::test]
async fn nothing_is_touched_before_the_first_request() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("answers.db");
    let upstream = upstream();
    let cache = cache(&upstream, path.clone());
    cache.kept.disk.as_ref().unwrap().settle().await;
    assert!(!path.exists() && cache.kept.disk.as_ref().unwrap().jobs.get().is_none());
    used(&cache).await;
    cache.kept.disk.as_ref().unwrap().settle().await;
    assert!(path.exists());
}

#[tokio::test]
async fn a_corrupt_file_is_left_alone_and_the_cache_works_in_memory() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("answers.db");
    let garbage = "no database at all, and long enough to be taken for one ".repeat(100);
    std::fs::write(&path, &garbage).unwrap();
    let upstream = upstream();
    let cache = cache(&upstream, path.clone());
    assert_eq!(used(&cache).await, Some(CacheUse::Miss));
    assert_eq!(used(&cache).await, Some(CacheUse::Hit));
    cache.kept.disk.as_ref().unwrap().settle().await;
    assert_eq!((disk(&upstream, "failed"), disk(&upstream, "kept")), (1, 0), "it is not tried again at once");
    assert_eq!(upstream.metric("demuxai_cache_disk_up{backend=\"g\"}"), 0);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), garbage);
}

/// A disk whose thread takes nothing.
fn hanging(metrics: &Metrics) -> (Disk, Receiver<Job>) {
    let (jobs, waiting) = sync_channel(MOST_JOBS);
    let meters = metrics.cache_disk(&Arc::from("g"));
    let disk = Disk { jobs: OnceLock::from(Some(jobs)), ..Disk::new(PathBuf::new(), 1 << 30, now, meters) };
    (disk, waiting)
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_hangs_costs_one_request_a_moment_and_the_others_nothing() {
    let metrics = Metrics::new().unwrap();
    let (disk, waiting) = hanging(&metrics);
    let key = crate::wire::json::Digester::default().finish();
    let begun = tokio::time::Instant::now();
    assert_eq!(disk.find(&key).await, None);
    assert_eq!(begun.elapsed(), PATIENCE);
    for _ in 0..10 {
        assert_eq!(disk.find(&key).await, None);
    }
    assert_eq!(begun.elapsed(), PATIENCE);
    let entry = Arc::new(Entry {
        made: now(),
        bytes: Bytes::new(),
        pieces: None,
        model: String::new(),
        edits: Vec::new(),
        usage: Usage::default(),
    });
    for _ in 0..MOST_JOBS + 5 {
        disk.keep(key, Arc::clone(&entry), Duration::from_secs(1));
    }
    assert_eq!(waiting.try_iter().count(), MOST_JOBS, "what waits is bounded");
    let text = String::from_utf8(metrics.encode().unwrap()).unwrap();
    assert!(text.contains("demuxai_cache_disk_total{backend=\"g\",outcome=\"late\"} 1"), "{text}");
    assert!(text.contains("demuxai_cache_disk_total{backend=\"g\",outcome=\"busy\"} 6"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_works_again_is_asked_again() {
    let metrics = Metrics::new().unwrap();
    let (disk, waiting) = hanging(&metrics);
    let key = crate::wire::json::Digester::default().finish();
    assert_eq!(disk.find(&key).await, None);
    let directory = tempfile::tempdir().unwrap();
    let mut worker = Worker {
        path: directory.path().join("answers.db"),
        most: 1 << 30,
        answers: None,
        failed: None,
        clock: now,
        meters: metrics.cache_disk(&Arc::from("g")),
    };
    let late = Arc::clone(&disk.late);
    assert!(late.load(Ordering::Relaxed));
    let settled = disk.settle();
    let thread = std::thread::spawn(move || {
        worker.work(waiting.recv().unwrap());
        late.store(false, Ordering::Relaxed);
        worker.run(&waiting, &late);
    });
    settled.await;
    assert!(!disk.late.load(Ordering::Relaxed));
    drop(disk);
    thread.join().unwrap();
}
