//! The state as the rest of demuxai uses it: over a store that fails on demand, and over a real file.

pub(in crate::state) mod faulty;

use std::time::Instant;

use tempfile::TempDir;

use super::*;
use faulty::{Faulty, Mishap, OnFaulty};

/// The product's pace, but for what a test would have to wait for.
const QUICK: Pace = Pace {
    between: Duration::from_millis(5),
    patience: Duration::from_secs(1),
    first_pause: Duration::from_millis(1),
    longest_pause: Duration::from_millis(20),
    longest_in_use: Duration::from_millis(20),
};
const LONG: Duration = Duration::from_secs(20);

fn on(faulty: &Arc<Faulty>, metrics: &Metrics) -> (State, Saved) {
    State::on(Arc::new(OnFaulty(Arc::clone(faulty))), PathBuf::from("state.db"), QUICK, metrics)
}

fn row(key: &str, json: &str) -> Row {
    Row { key: key.to_owned(), json: json.to_owned() }
}

fn requests(requests: u64) -> Spent {
    Spent { requests, ..Spent::default() }
}

fn everything() -> Asked {
    Asked { from: Moment(0), until: Moment(i64::MAX), provider: None }
}

fn value(metrics: &Metrics, series: &str) -> Option<f64> {
    let text = String::from_utf8(metrics.encode().unwrap()).unwrap();
    let line =
        text.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')))?;
    line.rsplit(' ').next()?.parse().ok()
}

async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + LONG;
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[actix_rt::test]
async fn what_is_saved_is_written_soon_and_in_groups() {
    let (faulty, metrics) = (Faulty::new(), Metrics::new().unwrap());
    let (state, _) = on(&faulty, &metrics);
    for number in 0..2000 {
        state.save("p", vec![row("a", &number.to_string()), row("b", "same")]);
        state.count_usage(Moment(0), "p", "m", requests(1));
    }
    eventually("all is written", || state.status().waiting == 0).await;
    assert_eq!(faulty.text("p", "a").as_deref(), Some("1999"));
    assert_eq!(state.history(everything()).await.unwrap()[0].spent, requests(2000));
    assert!(faulty.disk().commits.len() <= 3, "{:?}", faulty.disk().commits);
    state.forget("p", &["a".to_owned(), "never-there".to_owned()]);
    eventually("it is deleted", || faulty.text("p", "a").is_none()).await;
    eventually("it is acknowledged", || value(&metrics, "demuxai_state_journal_rows") == Some(0.0)).await;
    assert_eq!(value(&metrics, "demuxai_state_up"), Some(1.0));
}

#[actix_rt::test]
async fn while_nothing_changes_nothing_is_written() {
    let (faulty, metrics) = (Faulty::new(), Metrics::new().unwrap());
    let (state, _) = on(&faulty, &metrics);
    state.save("p", vec![row("a", "1")]);
    eventually("it is written", || faulty.disk().commits.len() == 1).await;
    for _ in 0..20 {
        state.save("p", vec![row("a", "1")]);
        state.guard().await;
        tokio::time::sleep(QUICK.between).await;
    }
    assert_eq!(faulty.disk().commits.len(), 1);
    assert_eq!(value(&metrics, "demuxai_state_writes_total{outcome=\"ok\"}"), Some(1.0));
}

#[actix_rt::test]
async fn a_panic_of_the_actor_loses_and_doubles_nothing() {
    let (faulty, metrics) = (Faulty::new(), Metrics::new().unwrap());
    let (state, _) = on(&faulty, &metrics);
    faulty.next(&[Mishap::Panic, Mishap::WriteThenPanic, Mishap::Panic]);
    for number in 0..50 {
        state.save("p", vec![row("a", &number.to_string())]);
        state.count_usage(Moment(0), "p", "m", requests(1));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    eventually("all is written", || state.status().waiting == 0).await;
    assert_eq!(faulty.text("p", "a").as_deref(), Some("49"));
    assert_eq!(state.history(everything()).await.unwrap()[0].spent, requests(50));
    assert_eq!(value(&metrics, "demuxai_state_writes_total{outcome=\"panic\"}"), Some(3.0));
    assert_eq!(state.status().trouble, None);
}

#[actix_rt::test]
async fn a_hang_of_the_actor_loses_and_doubles_nothing() {
    let (faulty, metrics) = (Faulty::new(), Metrics::new().unwrap());
    let (state, _) = on(&faulty, &metrics);
    faulty.next(&[Mishap::Hang]);
    state.count_usage(Moment(0), "p", "m", requests(1));
    let hang = "demuxai_state_writes_total{outcome=\"hang\"}";
    eventually("it is counted", || value(&metrics, hang) == Some(1.0)).await;
    state.count_usage(Moment(0), "p", "m", requests(2));
    eventually("a fresh one writes all", || state.status().waiting == 0).await;
    assert_eq!(value(&metrics, hang), Some(1.0));
    let before = faulty.disk();
    faulty.let_go();
    assert!(state.ping().await);
    state.drain(LONG).await;
    assert_eq!(faulty.disk(), before, "what the old one wakes to write is written already");
    assert_eq!(before.usage.values().next(), Some(&requests(3)));
}

#[actix_rt::test]
async fn the_guard_replaces_an_actor_that_is_stuck_and_the_watchdog_goes_on() {
    let (faulty, metrics) = (Faulty::new(), Metrics::new().unwrap());
    let pace = Pace { patience: Duration::from_millis(50), ..QUICK };
    let (state, _) = State::on(Arc::new(OnFaulty(Arc::clone(&faulty))), PathBuf::from("x"), pace, &metrics);
    faulty.next(&[const { Mishap::Hang }; 20]);
    state.save("p", vec![row("a", "1")]);
    eventually("it hangs for good", || state.status().trouble.is_some()).await;
    for _ in 0..3 {
        state.guard().await;
        state.save("p", vec![row("b", "1")]);
    }
    eventually("it is known not to answer", || state.keeper.as_ref().unwrap().crew.current().is_none()).await;
    assert!(state.ping().await, "a disk that hangs is no reason to end the daemon");
    faulty.let_go();
    eventually("all is written", || state.status().waiting == 0).await;
}

#[actix_rt::test]
async fn a_store_that_fails_is_tried_again_until_it_works_and_meanwhile_nothing_is_lost() {
    let (faulty, metrics) = (Faulty::new(), Metrics::new().unwrap());
    *faulty.closed.lock().unwrap() = Some((Fault::ReadOnly, "read-only"));
    let (state, saved) = on(&faulty, &metrics);
    assert!(saved.ledger.is_empty());
    let status = state.status();
    assert_eq!(
        (status.trouble.as_deref(), status.file),
        (Some("read-only"), Some(PathBuf::from("state.db")))
    );
    for number in 0..100 {
        state.save("p", vec![row("a", &number.to_string())]);
        state.count_usage(Moment(0), "p", "m", requests(1));
    }
    *faulty.closed.lock().unwrap() = Some((Fault::Full, "full"));
    eventually("the new reason is known", || state.status().trouble.as_deref() == Some("full")).await;
    assert_eq!(state.status().since, status.since, "it is in trouble since the start");
    assert!(state.status().waiting <= 4, "{}", state.status().waiting);
    assert!(state.history(everything()).await.unwrap_err().contains("full"));
    *faulty.closed.lock().unwrap() = None;
    eventually("it is well, with nothing more to write", || state.status().trouble.is_none()).await;
    eventually("all is written", || state.status().waiting == 0).await;
    assert_eq!(faulty.text("p", "a").as_deref(), Some("99"));
    assert_eq!(value(&metrics, "demuxai_state_up"), Some(1.0));
}

#[actix_rt::test]
async fn what_was_counted_is_not_forgotten_where_nothing_can_be_written() {
    let (faulty, metrics) = (Faulty::new(), Metrics::new().unwrap());
    let (state, _) = on(&faulty, &metrics);
    state.save("p", vec![row("a", "12 used")]);
    eventually("it is written", || state.status().waiting == 0).await;
    state.drain(LONG).await;
    for (fault, is_read) in
        [(Fault::ReadOnly, true), (Fault::Full, true), (Fault::InUse, true), (Fault::Locked, false)]
    {
        *faulty.closed.lock().unwrap() = Some((fault, "closed"));
        let (state, saved) = on(&faulty, &metrics);
        assert_eq!(
            saved.rows_of("p").collect::<Vec<_>>(),
            if is_read { vec![("a", "12 used")] } else { vec![] }
        );
        assert_eq!(state.status().trouble.as_deref(), Some("closed"), "and it is said all the same");
    }
}

/// Counts what another process wrote as its own.
#[derive(Default)]
struct Merging {
    merged: std::sync::Mutex<Option<(Vec<String>, Vec<String>)>>,
}

impl Source for Merging {
    fn changed_rows(&self) -> Vec<Row> {
        let merged = self.merged.lock().unwrap().is_some();
        merged.then(|| row("a", "7")).into_iter().collect()
    }

    fn spent(&self) -> Vec<(UsageId, Spent)> {
        Vec::new()
    }

    fn merge(&self, before: &[(&str, &str)], found: &[(&str, &str)]) {
        let texts = |rows: &[(&str, &str)]| rows.iter().map(|(key, json)| format!("{key}={json}")).collect();
        *self.merged.lock().unwrap() = Some((texts(before), texts(found)));
    }
}

#[actix_rt::test]
async fn what_the_one_before_wrote_at_its_end_is_taken_over_before_anything_is_written() {
    let (faulty, metrics) = (Faulty::new(), Metrics::new().unwrap());
    let (old, _) = on(&faulty, &metrics);
    old.save("p", vec![row("a", "1"), row("b", "1"), row("c", "1")]);
    old.save("gone", vec![row("x", "1")]);
    eventually("it is written", || old.status().waiting == 0).await;
    *faulty.closed.lock().unwrap() = Some((Fault::InUse, "in use"));
    let (new, saved) = on(&faulty, &metrics);
    assert_eq!(saved.ledger.len(), 4, "it begins with what can be read");
    let source = Arc::new(Merging::default());
    let weak: Weak<dyn Source> = Arc::<Merging>::downgrade(&source);
    new.watch(&Arc::from("p"), weak);
    new.save("p", vec![row("a", "2"), row("c", "2")]);
    old.save("p", vec![row("a", "6"), row("b", "6")]);
    old.save("gone", vec![row("x", "6")]);
    old.drain(LONG).await;
    assert_eq!(new.status().trouble.as_deref(), Some("in use"));
    *faulty.closed.lock().unwrap() = None;
    eventually("it is well", || new.status().trouble.is_none()).await;
    eventually("all is written", || new.status().waiting == 0).await;
    let texts: Vec<_> = [("p", "a"), ("p", "b"), ("p", "c"), ("gone", "x")]
        .map(|(provider, key)| faulty.text(provider, key).unwrap())
        .into_iter()
        .collect();
    assert_eq!(texts, ["7", "6", "2", "6"], "merged; only the old one's; only the new one's; nobody's here");
    let (before, found) = source.merged.lock().unwrap().clone().unwrap();
    assert_eq!((before, found), (rows_of(["1", "1", "1"]), rows_of(["6", "6", "1"])));
}

fn rows_of(texts: [&str; 3]) -> Vec<String> {
    ["a", "b", "c"].iter().zip(texts).map(|(key, text)| format!("{key}={text}")).collect()
}

#[actix_rt::test]
async fn a_file_that_another_has_is_asked_for_again_and_again_without_ever_longer_pauses() {
    let (faulty, metrics) = (Faulty::new(), Metrics::new().unwrap());
    *faulty.closed.lock().unwrap() = Some((Fault::InUse, "in use"));
    let pace = Pace { longest_pause: Duration::from_secs(3600), ..QUICK };
    let (state, _) = State::on(Arc::new(OnFaulty(Arc::clone(&faulty))), PathBuf::from("x"), pace, &metrics);
    let failed = "demuxai_state_writes_total{outcome=\"error\"}";
    // Doubled each time, the pauses until then would be of more than a minute.
    eventually("it is asked for often", || value(&metrics, failed) >= Some(17.0)).await;
    *faulty.closed.lock().unwrap() = None;
    eventually("it is taken over", || state.status().trouble.is_none()).await;
}

#[actix_rt::test]
async fn what_the_old_one_has_in_a_real_file_is_read_while_it_has_it() {
    let directory = TempDir::new().unwrap();
    let config = StateConfig { file: Some(directory.path().join("state.db")), homeless: false };
    let metrics = Metrics::new().unwrap();
    let (old, _) = State::open(&config, &metrics);
    old.save("p", vec![row("a", "1")]);
    eventually("it is written", || old.status().waiting == 0).await;
    let (new, saved) = State::open(&config, &metrics);
    assert_eq!(saved.rows_of("p").collect::<Vec<_>>(), [("a", "1")]);
    assert!(new.status().trouble.is_some_and(|why| why.contains("is taken over when that ends")));
    old.drain(LONG).await;
    eventually("it is taken over", || new.status().trouble.is_none()).await;
}

#[actix_rt::test]
async fn a_store_that_is_replaced_by_an_empty_one_gets_every_row_again() {
    let (faulty, metrics) = (Faulty::new(), Metrics::new().unwrap());
    let (state, _) = on(&faulty, &metrics);
    state.save("p", vec![row("a", "1"), row("b", "1")]);
    eventually("it is written", || state.status().waiting == 0).await;
    faulty.next(&[Mishap::Refuse(Fault::Corrupt, "malformed")]);
    state.save("p", vec![row("b", "2")]);
    eventually("all is written", || faulty.disk().put_aside == 1 && state.status().waiting == 0).await;
    assert_eq!((faulty.text("p", "a").as_deref(), faulty.text("p", "b").as_deref()), (Some("1"), Some("2")));
}

#[actix_rt::test]
async fn drain_writes_what_waits_and_has_an_end() {
    let (faulty, metrics) = (Faulty::new(), Metrics::new().unwrap());
    let slow = Pace { between: Duration::from_secs(3600), ..QUICK };
    let (state, _) = State::on(Arc::new(OnFaulty(Arc::clone(&faulty))), PathBuf::from("x"), slow, &metrics);
    state.save("p", vec![row("a", "1")]);
    eventually("the first is written at once", || state.status().waiting == 0).await;
    state.save("p", vec![row("a", "2")]);
    let begun = Instant::now();
    state.drain(LONG).await;
    assert_eq!(faulty.text("p", "a").as_deref(), Some("2"), "without waiting for its time");
    state.drain(LONG).await;
    assert!(begun.elapsed() < LONG / 2, "and it ends when all is written");

    let (faulty, metrics) = (Faulty::new(), Metrics::new().unwrap());
    *faulty.closed.lock().unwrap() = Some((Fault::Full, "full"));
    let (state, _) = on(&faulty, &metrics);
    state.save("p", vec![row("a", "1")]);
    let begun = Instant::now();
    state.drain(Duration::from_millis(50)).await;
    assert!(begun.elapsed() < LONG && state.status().waiting == 1);
}

#[actix_rt::test]
async fn a_state_that_is_nowhere_takes_everything_and_keeps_nothing() {
    let metrics = Metrics::new().unwrap();
    let (state, saved) = State::open(&StateConfig::default(), &metrics);
    state.save("p", vec![row("a", "1")]);
    state.forget("p", &["a".to_owned()]);
    state.count_usage(Moment(0), "p", "m", requests(1));
    assert!(saved.ledger.is_empty() && state.history(everything()).await.unwrap().is_empty());
    state.guard().await;
    state.drain(LONG).await;
    assert!(state.ping().await && state.status().file.is_none());
    assert_eq!(value(&metrics, "demuxai_state_up"), None, "what is not asked for is not down");
}

#[actix_rt::test]
async fn a_real_file_holds_everything_over_a_restart() {
    let directory = TempDir::new().unwrap();
    let config = StateConfig { file: Some(directory.path().join("deep/state.db")), homeless: false };
    let metrics = Metrics::new().unwrap();
    for round in 1..4_u64 {
        let (state, saved) = State::open(&config, &metrics);
        let found: Vec<String> = saved.ledger.into_iter().map(|row| row.json).collect();
        let expected = (round > 1).then(|| (round - 1).to_string());
        assert_eq!(found, expected.into_iter().collect::<Vec<_>>(), "round {round}");
        state.save("p", vec![row("a", &round.to_string())]);
        let at = now();
        state.count_usage(at, "p", "m", requests(round));
        state.drain(LONG).await;
        assert_eq!((state.status().waiting, state.status().trouble), (0, None));
        drop(state);
    }
}

#[cfg(unix)]
#[actix_rt::test]
async fn deleting_the_file_while_it_is_in_use_costs_the_history_and_nothing_else() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("state.db");
    let config = StateConfig { file: Some(file.clone()), homeless: false };
    let (state, _) = State::open(&config, &Metrics::new().unwrap());
    state.save("p", vec![row("a", "1")]);
    eventually("it is written", || state.status().waiting == 0).await;
    for entry in std::fs::read_dir(directory.path()).unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }
    state.save("p", vec![row("b", "2")]);
    state.drain(LONG).await;
    assert_eq!(state.status().trouble, None);
    let (_, saved) = State::open(&config, &Metrics::new().unwrap());
    let keys: Vec<String> = saved.ledger.into_iter().map(|row| row.key).collect();
    assert_eq!(keys, ["a", "b"], "the counts are written again as a whole");
}
