//! What of an account's capacity outlives the process: the ledger's rows, what was learned of sizes, and the history of
//! what was used.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use super::{Capacity, Inner, moment};
use crate::quota::Moment;
use crate::state::{Row, Source, Spent, UsageId, hour_of};

/// No more rows of history wait to be fetched.
const MOST_SPENT: usize = 1_000;
/// Milliseconds between two times that what was learned of sizes is written down.
const SIZES_EVERY: u64 = 10_000;

// === impl Capacity ===

impl Capacity {
    fn named(&self, spent: BTreeMap<(i64, Arc<str>), Spent>) -> Vec<(UsageId, Spent)> {
        let named = |((hour, model), spent)| (UsageId { hour, provider: Arc::clone(&self.id), model }, spent);
        spent.into_iter().map(named).collect()
    }
}

// === impl Inner ===

impl Inner {
    /// Notes for the history what a request used. Whoever makes up model names shares one row.
    pub(super) fn spend(&mut self, model: &Arc<str>, spent: Spent, now: Moment) {
        let full = self.spent.len() >= MOST_SPENT;
        let hour = hour_of(now);
        match self.spent.get_mut(&(hour, Arc::clone(model))) {
            Some(known) => known.add(spent),
            None => {
                let model = if full { Arc::from("other") } else { Arc::clone(model) };
                self.spent.entry((hour, model)).or_default().add(spent);
            }
        }
    }

    /// The rows that changed; what was learned of sizes only now and then, or when it is the last time.
    fn changed_rows(&mut self, last: bool) -> Vec<Row> {
        let mut rows = self.ledger.dirty();
        let now = moment();
        if last || now.0.abs_diff(self.sizes_written.0) >= SIZES_EVERY {
            self.sizes_written = now;
            rows.extend(self.estimator.dirty());
        }
        rows.into_iter().map(|(key, json)| Row { key, json }).collect()
    }
}

impl Source for Capacity {
    fn changed_rows(&self) -> Vec<Row> {
        if self.is_kept() { self.lock().changed_rows(false) } else { Vec::new() }
    }

    fn spent(&self) -> Vec<(UsageId, Spent)> {
        let spent = std::mem::take(&mut self.lock().spent);
        self.named(spent)
    }

    fn merge(&self, before: &[(&str, &str)], found: &[(&str, &str)]) {
        if self.is_kept() {
            self.lock().ledger.merge(before, found, moment());
        }
    }
}

impl Drop for Capacity {
    fn drop(&mut self) {
        let inner = self.inner.get_mut().unwrap_or_else(PoisonError::into_inner);
        let (rows, spent) = (inner.changed_rows(true), std::mem::take(&mut inner.spent));
        if !rows.is_empty() && *self.kept.get_mut() {
            self.state.save(&self.id, rows);
        }
        if !spent.is_empty() {
            self.state.count_all(self.named(spent));
        }
    }
}
