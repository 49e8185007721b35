//! What of a tally outlives the process: the rows of each bucket's ledger, under the bucket's name.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Inner, MOST_BUCKETS, Tally};
use crate::quota::Ledger;
use crate::state::{Row, Source, Spent, UsageId};

/// Around a bucket's name, before the ledger's own key in a row's key.
const OF: &str = "of:";
const MARK: &str = "|";

fn rows(inner: &mut Inner, of: fn(&mut Ledger) -> Vec<(String, String)>) -> Vec<(String, String)> {
    let buckets = inner.buckets.iter_mut();
    buckets
        .flat_map(|(name, ledger)| of(ledger).into_iter().map(move |(key, json)| (row_key(name, &key), json)))
        .collect()
}

pub(super) fn row_key(name: &str, key: &str) -> String {
    format!("{OF}{name}{MARK}{key}")
}

/// A row's bucket and the ledger's own key.
pub(super) fn parts(key: &str) -> Option<(&str, &str)> {
    key.strip_prefix(OF)?.split_once(MARK)
}

impl Source for Tally {
    fn changed_rows(&self) -> Vec<Row> {
        let mut inner = self.lock();
        let mut changed = rows(&mut inner, Ledger::dirty);
        changed.extend(inner.estimator.dirty());
        let by = inner.counted.changed_row();
        changed.into_iter().map(|(key, json)| Row { key, json }).chain(by).collect()
    }

    fn spent(&self) -> Vec<(UsageId, Spent)> {
        Vec::new()
    }

    fn merge(&self, before: &[(&str, &str)], found: &[(&str, &str)]) {
        let now = self.now();
        let mut inner = self.lock();
        let of = |rows: &[(&str, &str)], bucket: &str| -> Vec<(String, String)> {
            let own = rows.iter().filter_map(|(key, json)| {
                let (name, key) = parts(key)?;
                (name == bucket).then(|| (key.to_owned(), (*json).to_owned()))
            });
            own.collect()
        };
        let names: BTreeSet<&str> =
            found.iter().filter_map(|(key, _)| parts(key).map(|(name, _)| name)).collect();
        for name in names.into_iter().take(MOST_BUCKETS) {
            let (before, found) = (of(before, name), of(found, name));
            let Inner { buckets, limits, .. } = &mut *inner;
            let ledger = buckets.entry(Arc::from(name)).or_insert_with(|| Ledger::new(limits.clone()));
            ledger.merge(&pairs(&before), &pairs(&found), now);
        }
    }
}

fn pairs(rows: &[(String, String)]) -> Vec<(&str, &str)> {
    rows.iter().map(|(key, json)| (key.as_str(), json.as_str())).collect()
}

impl Drop for Tally {
    fn drop(&mut self) {
        let rows = Source::changed_rows(self);
        if !rows.is_empty() {
            self.state.save(&self.owner, rows);
        }
    }
}
