//! By whom is counted: names of clients are none of values of a header, and values of one header none of another's.

use super::rows::row_key;
use super::{Inner, Tally};
use crate::quota::{Ledger, LimitView};
use crate::state::Row;

/// The key of the row that says by whom is counted.
const KEY: &str = "by";

/// By whom is counted, if anybody said.
#[derive(Default)]
pub(super) struct Counted {
    by: Option<String>,
    dirty: bool,
}

// === impl Counted ===

impl Counted {
    /// As it was left.
    pub(super) fn restored(rows: &[(&str, &str)]) -> Self {
        let row = rows.iter().find(|(key, _)| *key == KEY);
        Counted { by: row.and_then(|(_, json)| serde_json::from_str(json).ok()), dirty: false }
    }

    /// The row, if it changed since it was asked for.
    pub(super) fn changed_row(&mut self) -> Option<Row> {
        let by = self.by.as_ref().filter(|_| std::mem::take(&mut self.dirty))?;
        Some(Row { key: KEY.to_owned(), json: serde_json::Value::from(by.as_str()).to_string() })
    }
}

// === impl Tally ===

impl Tally {
    /// From now on it is counted by this, as the configuration writes it. What was counted by something else is forgotten:
    /// nobody has those names any more.
    pub(super) fn count_by(&self, by: &str) {
        let mut inner = self.lock();
        let before = inner.counted.by.as_deref();
        if before == Some(by) {
            return;
        }
        let gone = if before.is_some() { inner.forget_all() } else { Vec::new() };
        inner.counted = Counted { by: Some(by.to_owned()), dirty: true };
        drop(inner);
        self.state.forget(&self.owner, &gone);
        self.state.changed();
    }

    /// How the limits stand for somebody who has used nothing of them.
    pub fn unused(&self) -> Vec<LimitView> {
        Ledger::new(self.lock().limits.clone()).views(self.now())
    }
}

// === impl Inner ===

impl Inner {
    /// Forgets all buckets and gives the keys of their rows.
    fn forget_all(&mut self) -> Vec<String> {
        let mut gone = Vec::new();
        for (name, ledger) in self.buckets.drain() {
            gone.extend(ledger.rows().into_iter().map(|(key, _)| row_key(&name, &key)));
        }
        gone
    }
}
