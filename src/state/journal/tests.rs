//! The journal as the store sees it.

use proptest::prelude::*;

use super::*;
use crate::state::tests::faulty::Disk;

const NOW: Moment = Moment(1_750_000_000_000);

fn id(provider: &str, key: &str) -> RowId {
    RowId { provider: Arc::from(provider), key: Arc::from(key) }
}

fn hour(hour: i64) -> UsageId {
    UsageId { hour, provider: Arc::from("p"), model: Arc::from("m") }
}

fn requests(requests: u64) -> Spent {
    Spent { requests, ..Spent::default() }
}

fn texts(batch: &Batch) -> Vec<(String, Option<String>)> {
    let text = |change: &Change| change.kept.as_ref().map(|kept| kept.json.to_string());
    batch.ledger.iter().map(|change| (change.id.key.to_string(), text(change))).collect()
}

#[test]
fn only_the_latest_text_of_a_row_and_the_sum_of_an_hour_are_written() {
    let mut journal = Journal::new(1);
    for round in 0..100 {
        journal.save(id("p", "a"), &round.to_string(), NOW);
        journal.count(hour(5), requests(2));
    }
    assert_eq!(journal.waiting(), 2);
    let batch = journal.batch(NOW).unwrap();
    assert_eq!(texts(&batch), [("a".to_owned(), Some("99".to_owned()))]);
    assert_eq!(batch.usage, [UsageRow { id: hour(5), spent: requests(200) }]);
}

#[test]
fn nothing_leaves_before_it_is_acknowledged() {
    let mut journal = Journal::new(1);
    journal.save(id("p", "a"), "1", NOW);
    let first = journal.batch(NOW).unwrap();
    journal.save(id("p", "a"), "2", NOW);
    assert_eq!(journal.batch(NOW).unwrap(), first, "the same again, under the same number");
    assert_eq!(journal.waiting(), 2);
    journal.answered(first.number + 1, Written::Done);
    assert_eq!(journal.batch(NOW).unwrap(), first, "an answer to something else changes nothing");
    journal.answered(first.number, Written::Done);
    let second = journal.batch(NOW).unwrap();
    assert_eq!(texts(&second), [("a".to_owned(), Some("2".to_owned()))]);
    assert!(second.number > first.number && first.whole && !second.whole);
    journal.answered(second.number, Written::Done);
    assert_eq!((journal.waiting(), journal.batch(NOW)), (0, None));
}

#[test]
fn a_store_that_is_new_gets_everything_that_is_known() {
    let mut journal = Journal::new(1);
    journal.save(id("p", "old"), "1", NOW);
    let first = journal.batch(NOW).unwrap();
    journal.answered(first.number, Written::Done);
    journal.save(id("p", "new"), "2", NOW);
    journal.count(hour(1), requests(3));
    let refused = journal.batch(NOW).unwrap();
    journal.answered(refused.number, Written::WantsAll);
    let all = journal.batch(NOW).unwrap();
    assert!(all.whole);
    assert_eq!(texts(&all).iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), ["new", "old"]);
    assert_eq!(all.usage, refused.usage, "usage that was not written is not lost, nor doubled");
}

#[test]
fn a_text_that_did_not_change_is_not_written_again_within_a_day() {
    let mut journal = Journal::new(1);
    journal.save(id("p", "a"), "1", NOW);
    let batch = journal.batch(NOW).unwrap();
    journal.answered(batch.number, Written::Done);
    journal.save(id("p", "a"), "1", Moment(NOW.0 + DAY_MS - 1));
    assert_eq!(journal.waiting(), 0);
    journal.save(id("p", "a"), "1", Moment(NOW.0 + DAY_MS));
    assert_eq!(journal.waiting(), 1, "or it would be let go as forgotten one day");
}

#[test]
fn it_is_bounded_however_long_the_store_is_away() {
    let mut journal = Journal::new(1);
    for number in 0..MOST_LEDGER_ROWS + 10 {
        journal.save(id("p", &number.to_string()), "1", NOW);
        journal.forget(id("q", &number.to_string()));
    }
    for number in 0..MOST_USAGE_ROWS + 10 {
        journal.count(hour(number.try_into().unwrap()), requests(1));
    }
    assert_eq!(journal.lost(), 30);
    let batch = journal.batch(NOW).unwrap();
    assert!(batch.ledger.len() <= 2 * MOST_LEDGER_ROWS, "{}", batch.ledger.len());
    assert_eq!(batch.usage.len(), MOST_USAGE_ROWS);
    assert_eq!(batch.usage[0].id.hour, 10, "the oldest hours went");
    journal.save(id("p", "huge"), &"x".repeat(MOST_ROW_BYTES + 1), NOW);
    journal.save(id("p", &"k".repeat(MOST_NAME_BYTES)), "1", NOW);
    assert_eq!((journal.lost(), journal.rows.len()), (32, MOST_LEDGER_ROWS));
}

#[test]
fn sums_have_an_end() {
    let mut spent = requests(u64::MAX);
    spent.add(requests(u64::MAX));
    assert_eq!(spent.requests, 1 << 53);
}

/// What can happen, in any order.
#[derive(Debug, Clone)]
enum Event {
    Save(u8, u8),
    Forget(u8),
    Count(u8, u8),
    /// A batch is written and acknowledged.
    Write,
    /// A batch is written, and the acknowledgement is lost.
    WriteUnheard,
    /// A batch is given out, and the store fails.
    Fail,
    /// The store is replaced by an empty one.
    Replace,
    /// A batch that was given up long ago is written after all.
    WriteLate,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0..6_u8, any::<u8>()).prop_map(|(key, text)| Event::Save(key, text)),
        1 => (0..6_u8).prop_map(Event::Forget),
        3 => (0..4_u8, any::<u8>()).prop_map(|(hour, count)| Event::Count(hour, count)),
        3 => Just(Event::Write),
        1 => Just(Event::WriteUnheard),
        1 => Just(Event::Fail),
        1 => Just(Event::Replace),
        1 => Just(Event::WriteLate),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever goes wrong in between: in the end the store holds the rows as they were saved last, and what was
    /// counted since the store was replaced, once.
    #[test]
    fn in_the_end_the_store_holds_what_was_saved(events in proptest::collection::vec(event(), 0..60)) {
        let mut journal = Journal::new(7);
        let mut disk = Disk::default();
        let mut rows: BTreeMap<RowId, String> = BTreeMap::new();
        let mut counted = 0_u64;
        let mut gone = 0_u64;
        let mut stale: Vec<Arc<Batch>> = Vec::new();
        let total = |disk: &Disk| disk.usage.values().map(|spent| spent.requests).sum::<u64>();
        for event in events {
            match event {
                Event::Save(key, text) => {
                    let id = id("p", &key.to_string());
                    journal.save(id.clone(), &text.to_string(), NOW);
                    rows.insert(id, text.to_string());
                }
                Event::Forget(key) => {
                    let id = id("p", &key.to_string());
                    journal.forget(id.clone());
                    rows.remove(&id);
                }
                Event::Count(number, count) => {
                    journal.count(hour(number.into()), requests(count.into()));
                    counted += u64::from(count);
                }
                Event::Write => {
                    if let Some(batch) = journal.batch(NOW) {
                        let written = disk.write(&batch);
                        journal.answered(batch.number, written);
                    }
                }
                Event::WriteUnheard => {
                    if let Some(batch) = journal.batch(NOW) {
                        disk.write(&batch);
                        stale.push(batch);
                    }
                }
                Event::Fail => stale.extend(journal.batch(NOW)),
                Event::Replace => {
                    // What is in flight and was written unheard goes with the old store, and comes again.
                    let again = journal.in_flight.as_ref().filter(|batch| disk.written == Some((7, batch.number)));
                    let again = again.map_or(0, |batch| batch.usage.iter().map(|row| row.spent.requests).sum());
                    gone += total(&disk) - again;
                    disk = Disk::default();
                    stale.clear();
                }
                Event::WriteLate => {
                    if let Some(batch) = stale.pop() {
                        disk.write(&batch);
                    }
                }
            }
        }
        for _ in 0..3 {
            let batch = journal.any_batch(NOW);
            let written = disk.write(&batch);
            journal.answered(batch.number, written);
        }
        prop_assert_eq!(journal.waiting(), 0);
        let kept: BTreeMap<_, _> = disk.ledger.iter().map(|(id, kept)| (id.clone(), kept.json.to_string())).collect();
        prop_assert_eq!(kept, rows);
        prop_assert_eq!(total(&disk) + gone, counted);
    }
}
