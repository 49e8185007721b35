//! What is not on disk yet, coalesced: the latest text of each ledger row and the sums of each hour's usage, so that it
//! is bounded however long the store is away. Pure: time is an argument, and it neither waits nor writes.
//!
//! A batch leaves the journal only when the store has acknowledged it. Until then it is given out again and again as
//! it is, under the same number; the store writes each number once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::store::{
    Batch, Change, DAY_MS, Kept, MOST_LEDGER_ROWS, MOST_USAGE_ROWS, RowId, Saved, SavedRow, Spent, UsageId,
    UsageRow, Written,
};
use crate::quota::Moment;

/// Longest name of a row, provider and key together.
const MOST_NAME_BYTES: usize = 1024;
/// Longest row.
const MOST_ROW_BYTES: usize = 64 * 1024;

/// What is to be kept.
pub struct Journal {
    id: i64,
    /// Every row as it is to be in the store, whether it is already or not.
    rows: BTreeMap<RowId, Kept>,
    /// Which rows the store does not have so; those that are not in `rows` are to be deleted.
    changed: BTreeSet<RowId>,
    usage: BTreeMap<UsageId, Spent>,
    in_flight: Option<Arc<Batch>>,
    next_number: i64,
    /// The next batch is to hold every row: the store knows nothing of this journal.
    whole: bool,
    lost: u64,
}

// === impl Journal ===

impl Journal {
    /// An empty one; `id` is to be different in each process.
    pub fn new(id: i64) -> Self {
        Journal {
            id,
            rows: BTreeMap::new(),
            changed: BTreeSet::new(),
            usage: BTreeMap::new(),
            in_flight: None,
            next_number: 1,
            whole: true,
            lost: 0,
        }
    }

    /// Takes over what the store holds.
    pub fn loaded(&mut self, saved: &Saved) {
        for row in saved.ledger.iter().take(MOST_LEDGER_ROWS) {
            let id = id_of(row);
            let kept = Kept { json: Arc::from(row.json.as_str()), updated: Moment(row.updated_ms) };
            self.rows.insert(id, kept);
        }
    }

    /// What is in the store now, where `before` is what was known of it so far: another process wrote there meanwhile.
    /// Rows that nobody changed here are as that one left them. Gives how many it changed.
    pub fn found(&mut self, before: &Saved, found: &Saved) -> usize {
        let texts = |saved: &Saved| -> BTreeMap<RowId, (Arc<str>, Moment)> {
            let rows = saved.ledger.iter().take(MOST_LEDGER_ROWS);
            rows.map(|row| (id_of(row), (Arc::from(row.json.as_str()), Moment(row.updated_ms)))).collect()
        };
        let (before, found) = (texts(before), texts(found));
        let was = |id: &RowId| before.get(id).map(|(json, _)| json);
        let untouched = |id: &RowId, kept: &Kept| was(id) == Some(&kept.json);
        self.rows.retain(|id, kept| found.contains_key(id) || !untouched(id, kept));
        let mut changed = 0;
        for (id, (json, updated)) in &found {
            changed += usize::from(was(id) != Some(json));
            let is_free = match self.rows.get(id) {
                Some(kept) => untouched(id, kept),
                None => !self.changed.contains(id) && self.rows.len() < MOST_LEDGER_ROWS,
            };
            if is_free {
                self.rows.insert(id.clone(), Kept { json: Arc::clone(json), updated: *updated });
            }
        }
        changed
    }

    /// The latest text of a row.
    pub fn save(&mut self, id: RowId, json: &str, now: Moment) {
        if json.len() > MOST_ROW_BYTES || id.provider.len() + id.key.len() > MOST_NAME_BYTES {
            self.lost += 1;
            return;
        }
        if let Some(known) = self.rows.get_mut(&id) {
            let age = now.0.saturating_sub(known.updated.0);
            // Its age matters only when it is let go, so once a day is enough.
            if *known.json == *json && (0..DAY_MS).contains(&age) {
                return;
            }
            *known = Kept { json: Arc::from(json), updated: now };
        } else if self.rows.len() >= MOST_LEDGER_ROWS {
            self.lost += 1;
            return;
        } else {
            self.rows.insert(id.clone(), Kept { json: Arc::from(json), updated: now });
        }
        self.change(id);
    }

    /// The row is to be deleted.
    pub fn forget(&mut self, id: RowId) {
        self.rows.remove(&id);
        self.change(id);
    }

    fn change(&mut self, id: RowId) {
        // Deleted rows are not in `rows`: they need a bound of their own.
        if self.changed.len() < 2 * MOST_LEDGER_ROWS || self.changed.contains(&id) {
            self.changed.insert(id);
        } else {
            self.lost += 1;
        }
    }

    /// Adds to an hour's usage. When there are too many rows, the oldest goes.
    pub fn count(&mut self, id: UsageId, spent: Spent) {
        if id.provider.len() + id.model.len() > MOST_NAME_BYTES {
            self.lost += 1;
            return;
        }
        self.usage.entry(id).or_default().add(spent);
        if self.usage.len() > MOST_USAGE_ROWS {
            self.usage.pop_first();
            self.lost += 1;
        }
    }

    /// The batch that is to be written: the one that was not acknowledged yet, else one of all that waits. `None` when
    /// nothing waits.
    pub fn batch(&mut self, now: Moment) -> Option<Arc<Batch>> {
        if self.in_flight.is_none() && self.changed.is_empty() && self.usage.is_empty() {
            return None;
        }
        Some(self.any_batch(now))
    }

    /// The same, but an empty one when nothing waits: whether the store can be written to again shows only so.
    pub fn any_batch(&mut self, now: Moment) -> Arc<Batch> {
        if let Some(batch) = &self.in_flight {
            return Arc::clone(batch);
        }
        let mut changed = std::mem::take(&mut self.changed);
        if self.whole {
            changed.extend(self.rows.keys().cloned());
        }
        let ledger = changed.into_iter().map(|id| Change { kept: self.rows.get(&id).cloned(), id }).collect();
        let usage = std::mem::take(&mut self.usage);
        let batch = Arc::new(Batch {
            journal: self.id,
            number: self.next_number,
            whole: self.whole,
            at: now,
            ledger,
            usage: usage.into_iter().map(|(id, spent)| UsageRow { id, spent }).collect(),
        });
        self.next_number += 1;
        self.in_flight = Some(Arc::clone(&batch));
        batch
    }

    /// What the store said of the batch with this number.
    pub fn answered(&mut self, number: i64, written: Written) {
        let Some(batch) = self.in_flight.take_if(|batch| batch.number == number) else { return };
        match written {
            Written::Done => self.whole = false,
            Written::WantsAll => {
                // Not written: it goes back, and comes again under another number with everything else.
                self.whole = true;
                for change in &batch.ledger {
                    self.changed.insert(change.id.clone());
                }
                for row in &batch.usage {
                    self.usage.entry(row.id.clone()).or_default().add(row.spent);
                }
            }
        }
    }

    /// How many rows wait for the store.
    pub fn waiting(&self) -> usize {
        let in_flight = self.in_flight.as_ref().map_or(0, |batch| batch.ledger.len() + batch.usage.len());
        in_flight + self.changed.len() + self.usage.len()
    }

    /// How many rows were given up because there were too many, or they were too large.
    pub fn lost(&self) -> u64 {
        self.lost
    }
}

fn id_of(row: &SavedRow) -> RowId {
    RowId { provider: Arc::from(row.provider.as_str()), key: Arc::from(row.key.as_str()) }
}

#[cfg(test)]
mod tests;
