//! An account's capacity when the configuration changes: other limits over the same counts, and what becomes of the
//! counts while another account stands under the provider's id.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Capacity, Waiting, moment};
use crate::backend::lease::Generation;
use crate::quota::{Breaker, Limit};
use crate::state::Row;

/// Whether an upstream is a server on this machine or network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Local {
    /// It is: it costs nothing to ask, and nobody else has its models.
    Yes,
    /// It is not.
    No,
}

// === impl Capacity ===

impl Capacity {
    /// A number for a replica that no other one of this account has or had.
    pub fn next_generation(&self) -> Generation {
        self.generations.fetch_add(1, Ordering::Relaxed)
    }

    /// Whether a replica holds anything.
    pub fn is_held_by(&self, generation: Generation) -> bool {
        self.lock().open.values().any(|open| open.generation == Some(generation))
    }

    /// The configuration changed: these are the limits now, and this is how long is waited. What was counted stays
    /// counted. `local`: it is never left alone.
    pub fn reconfigure(self: &Arc<Self>, limits: Vec<Limit>, waiting: Waiting, local: Local) {
        let gone: Vec<String> = {
            let mut inner = self.lock();
            let before: HashSet<String> = inner.ledger.rows().into_iter().map(|(key, _)| key).collect();
            inner.waiting = waiting;
            inner.ledger.reconfigure(limits, moment());
            if inner.breaker.may_open() != (local == Local::No) {
                inner.breaker = breaker(local);
            }
            let after: HashSet<String> = inner.ledger.rows().into_iter().map(|(key, _)| key).collect();
            before.difference(&after).cloned().collect()
        };
        if self.is_kept() {
            self.state.forget(&self.id, &gone);
        }
        self.state.changed();
        // There may be more places than before.
        self.hand_over();
    }

    /// It is asked with another key from now on. That may be another account's: what the upstream said to the old one,
    /// its pauses among it, is forgotten; what was counted stays, for it may as well be a new key of the same.
    pub fn has_new_key(&self) {
        self.forget(None);
        let mut inner = self.lock();
        inner.breaker = if inner.breaker.may_open() { breaker(Local::No) } else { breaker(Local::Yes) };
    }

    /// Another account stands under this provider's id from now on: what is still counted here is in no row.
    pub fn set_aside(&self) {
        let keys: Vec<String> = self.lock().ledger.rows().into_iter().map(|(key, _)| key).collect();
        if self.kept.swap(false, Ordering::Relaxed) {
            self.state.forget(&self.id, &keys);
        }
    }

    /// This account stands under its provider's id again.
    pub fn bring_back(&self) {
        let rows = self.lock().ledger.rows();
        self.kept.store(true, Ordering::Relaxed);
        self.state.save(&self.id, rows.into_iter().map(|(key, json)| Row { key, json }).collect());
    }

    pub(super) fn is_kept(&self) -> bool {
        self.kept.load(Ordering::Relaxed)
    }
}

/// The breaker of an upstream.
pub fn breaker(local: Local) -> Breaker {
    match local {
        Local::Yes => Breaker::never_opens(),
        Local::No => Breaker::new(),
    }
}
