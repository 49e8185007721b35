//! The database itself: versions, batches, and what SQLite says when it cannot.

use tempfile::TempDir;

use super::*;
use crate::state::store::{Change, DAY_MS, Kept, RowId};

const NOW: Moment = Moment(1_750_000_000_000);

/// A database of each released version.
const FIXTURES: &[&str] = &[include_str!("../../../tests/state/v1.sql")];

fn folder() -> (TempDir, PathBuf) {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("state.db");
    (directory, path)
}

fn row(key: &str, json: Option<&str>) -> Change {
    let kept = json.map(|json| Kept { json: Arc::from(json), updated: NOW });
    Change { id: RowId { provider: Arc::from("p"), key: Arc::from(key) }, kept }
}

fn used(hour: i64, requests: u64) -> UsageRow {
    let id = UsageId { hour, provider: Arc::from("p"), model: Arc::from("m") };
    UsageRow { id, spent: Spent { requests, input_tokens: 10 * requests, ..Spent::default() } }
}

fn batch(number: i64, ledger: Vec<Change>, usage: Vec<UsageRow>) -> Batch {
    Batch { journal: 1, number, whole: number == 1, at: NOW, ledger, usage }
}

fn everything() -> Asked {
    Asked { from: Moment(0), until: Moment(i64::MAX), provider: None }
}

fn texts(store: &mut SqliteStore) -> Vec<(String, String)> {
    store.load(NOW).unwrap().ledger.into_iter().map(|row| (row.key, row.json)).collect()
}

#[test]
fn a_database_of_every_version_is_brought_to_the_latest_with_all_that_it_holds() {
    assert_eq!(FIXTURES.len(), migrations::MIGRATIONS.len(), "each version has its fixture");
    for fixture in FIXTURES {
        let (_directory, path) = folder();
        Connection::open(&path).unwrap().execute_batch(fixture).unwrap();
        let mut store = SqliteStore::open(&path).unwrap();
        let ledger = store.load(NOW).unwrap().ledger;
        assert_eq!(ledger.len(), 3);
        assert_eq!((ledger[2].provider.as_str(), ledger[2].updated_ms), ("ollama-cloud", 1_750_000_000_002));
        assert_eq!(ledger[0].json, r#"{"used":7}"#);
        let usage = store.history(&everything()).unwrap();
        assert_eq!((usage.len(), usage[0].spent.cached, usage[1].spent.reasoning), (2, 500, 3000));
        assert_eq!(store.write(&batch(1, vec![row("k", Some("1"))], vec![])).unwrap(), Written::Done);
        drop(store);
        let version = version(&Connection::open(&path).unwrap(), &path).unwrap();
        assert_eq!(version, migrations::latest());
    }
}

#[test]
fn a_fresh_database_has_the_tables_of_the_last_fixture() {
    let tables = |connection: &Connection| -> Vec<String> {
        let mut statement = connection.prepare("SELECT sql FROM sqlite_schema ORDER BY name").unwrap();
        let rows = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
        rows.map(|sql| sql.unwrap().split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    };
    let (_directory, path) = folder();
    let fresh = SqliteStore::open(&path).unwrap();
    let fixture = Connection::open_in_memory().unwrap();
    fixture.execute_batch(FIXTURES.last().unwrap()).unwrap();
    assert_eq!(tables(&fresh.connection), tables(&fixture));
}

#[test]
fn a_batch_is_written_once_and_in_order() {
    let (_directory, path) = folder();
    let mut store = SqliteStore::open(&path).unwrap();
    let hour = hour_of(NOW);
    let first = batch(1, vec![row("a", Some("1")), row("b", Some("1"))], vec![used(hour, 2)]);
    let second = batch(2, vec![row("a", Some("2")), row("b", None)], vec![used(hour, 3), used(hour + 1, 1)]);
    for _ in 0..2 {
        assert_eq!(store.write(&first).unwrap(), Written::Done);
    }
    for late in [&second, &first, &second] {
        assert_eq!(store.write(late).unwrap(), Written::Done);
    }
    drop(store);
    let mut again = SqliteStore::open(&path).unwrap();
    assert_eq!(texts(&mut again), [("a".to_owned(), "2".to_owned())]);
    assert_eq!(again.history(&everything()).unwrap(), [used(hour, 5), used(hour + 1, 1)]);
}

#[test]
fn a_database_that_does_not_know_the_journal_wants_all_of_it() {
    let (_directory, path) = folder();
    let mut store = SqliteStore::open(&path).unwrap();
    let part = batch(2, vec![row("a", Some("1"))], vec![used(1, 1)]);
    assert_eq!(store.write(&part).unwrap(), Written::WantsAll);
    assert_eq!((texts(&mut store), store.history(&everything()).unwrap()), (vec![], vec![]));
    assert_eq!(store.write(&Batch { whole: true, number: 3, ..part }).unwrap(), Written::Done);
    assert_eq!(texts(&mut store).len(), 1);
}

#[test]
fn the_history_is_asked_by_time_and_provider() {
    let (_directory, path) = folder();
    let mut store = SqliteStore::open(&path).unwrap();
    let mut other = used(2, 9);
    other.id.provider = Arc::from("q");
    let at = hour_of(NOW);
    let rows = vec![used(at - 2, 1), used(at - 1, 2), used(at, 3)];
    other.id.hour = at;
    store.write(&batch(1, vec![], [rows.clone(), vec![other.clone()]].concat())).unwrap();
    let from = Moment(NOW.0 - 3_600_000);
    let asked = Asked { from, until: NOW, provider: Some("p".to_owned()) };
    assert_eq!(store.history(&asked).unwrap(), rows[1..]);
    assert_eq!(store.history(&Asked { provider: None, ..asked }).unwrap().last(), Some(&other));
}

#[test]
fn what_is_older_than_four_hundred_days_is_let_go() {
    let (_directory, path) = folder();
    let mut store = SqliteStore::open(&path).unwrap();
    let at = hour_of(NOW);
    let rows = vec![used(at - 400 * 24 - 1, 1), used(at - 400 * 24, 2), used(at, 3)];
    store.write(&batch(1, vec![row("old", Some("1"))], rows.clone())).unwrap();
    let tomorrow = Moment(NOW.0 + DAY_MS);
    store.write(&Batch { at: tomorrow, ..batch(2, vec![], vec![]) }).unwrap();
    assert_eq!(store.history(&everything()).unwrap(), rows[1..]);

    let much_later = Moment(NOW.0 + 401 * DAY_MS);
    assert!(store.load(much_later).unwrap().ledger.is_empty(), "not loaded either");
    let mut new = row("new", Some("1"));
    new.kept.as_mut().unwrap().updated = much_later;
    store.write(&Batch { at: much_later, ..batch(3, vec![new], vec![]) }).unwrap();
    assert_eq!(texts(&mut store).len(), 2, "a clock that is ahead for a moment costs nothing");
    let day_after = Moment(much_later.0 + DAY_MS);
    store.write(&Batch { at: day_after, ..batch(4, vec![], vec![]) }).unwrap();
    assert_eq!(texts(&mut store), [("new".to_owned(), "1".to_owned())]);
}

#[test]
fn counts_beyond_all_bounds_stay_at_the_bound() {
    let (_directory, path) = folder();
    let mut store = SqliteStore::open(&path).unwrap();
    for number in 1..4 {
        store.write(&batch(number, vec![], vec![used(hour_of(NOW), 1 << 53)])).unwrap();
    }
    assert_eq!(store.history(&everything()).unwrap()[0].spent.requests, 1 << 53);
}

#[test]
fn a_database_of_another_program_or_a_newer_demuxai_is_left_alone() {
    for (sql, word) in [
        ("CREATE TABLE theirs (a)", "another program"),
        ("CREATE TABLE theirs (a); PRAGMA application_id = 1684895096; PRAGMA user_version = 99", "newer"),
    ] {
        let (_directory, path) = folder();
        Connection::open(&path).unwrap().execute_batch(sql).unwrap();
        let before = std::fs::read(&path).unwrap();
        let error = SqliteStore::open(&path).err().unwrap();
        assert_eq!(error.fault, Fault::NotOurs);
        assert!(error.text.contains(word) && error.text.contains("[state] path"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), before, "not a byte is changed");
    }
}

#[test]
fn what_sqlite_says_becomes_a_fault_with_the_file_s_name() {
    let (_directory, path) = folder();
    let mut store = SqliteStore::open(&path).unwrap();
    let large = batch(1, vec![row("a", Some(&"x".repeat(60_000)))], vec![]);
    store.connection.pragma_update(None, "max_page_count", 10).unwrap();
    let full = store.write(&large).unwrap_err();
    assert_eq!(full.fault, Fault::Full, "{full}");
    assert!(full.text.contains(path.to_str().unwrap()) && full.text.contains("free some space"), "{full}");
    store.connection.pragma_update(None, "max_page_count", 1_000_000).unwrap();

    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert_eq!(store.write(&large).unwrap_err().fault, Fault::Locked);
    drop(other);

    store.connection.pragma_update(None, "query_only", true).unwrap();
    assert_eq!(store.write(&large).unwrap_err().fault, Fault::ReadOnly);
    store.connection.pragma_update(None, "query_only", false).unwrap();
    assert_eq!(store.write(&large).unwrap(), Written::Done, "and afterwards it works again");
}

#[test]
fn what_is_no_database_or_lacks_its_tables_is_corrupt() {
    let (_directory, path) = folder();
    std::fs::write(&path, "certainly not a database, but long enough to be read as a header".repeat(100))
        .unwrap();
    assert_eq!(SqliteStore::open(&path).err().unwrap().fault, Fault::Corrupt);
    std::fs::remove_file(&path).unwrap();
    drop(SqliteStore::open(&path).unwrap());
    Connection::open(&path).unwrap().execute_batch("DROP TABLE usage").unwrap();
    assert_eq!(SqliteStore::open(&path).err().unwrap().fault, Fault::Corrupt);
}
