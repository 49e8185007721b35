//! What a provider's actor knows that must outlive it: health, models, restarts, refused fields.
//! Shared through an `Arc`; read by the router and the status page, written by the actor and its requests.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use super::capacity::Capacity;
use super::models::ModelList;
use crate::metrics::Switch;

/// How the upstream was when last heard of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Nothing was heard yet.
    Unknown,
    /// It answers.
    Up,
    /// It cannot be reached.
    Unreachable,
    /// It refuses our key.
    Refused,
    /// Its owner shut it down for good.
    Retired,
}

impl Health {
    /// The word in status and logs.
    pub fn label(self) -> &'static str {
        match self {
            Health::Unknown => "unknown",
            Health::Up => "up",
            Health::Unreachable => "unreachable",
            Health::Refused => "refused",
            Health::Retired => "retired",
        }
    }
}

/// The lasting state of one provider.
pub struct Vitals {
    /// What it can still take.
    pub capacity: Arc<Capacity>,
    /// The model list as it stands.
    pub models: ArcSwap<ModelList>,
    health: AtomicU8,
    restarts: AtomicU64,
    remark: Mutex<Option<String>>,
    up: Switch,
    /// Another one's health is shown under this id now.
    muted: AtomicBool,
    loading: AtomicBool,
    refused_fields: Mutex<HashMap<String, Vec<String>>>,
}

/// How many models may have refused fields, and how many fields each: a bound, never reached by honest upstreams.
const MAX_REMEMBERED: usize = 1_000;
const MAX_FIELDS: usize = 32;

// === impl Vitals ===

impl Vitals {
    /// Of a provider that nothing was heard of; `up` follows the health.
    pub fn new(up: Switch, capacity: Arc<Capacity>) -> Self {
        Vitals {
            capacity,
            models: ArcSwap::default(),
            health: AtomicU8::new(0),
            restarts: AtomicU64::new(0),
            remark: Mutex::new(None),
            up,
            muted: AtomicBool::new(false),
            loading: AtomicBool::new(false),
            refused_fields: Mutex::new(HashMap::new()),
        }
    }

    /// How the upstream was when last heard of.
    pub fn health(&self) -> Health {
        match self.health.load(Ordering::Relaxed) {
            1 => Health::Up,
            2 => Health::Unreachable,
            3 => Health::Refused,
            4 => Health::Retired,
            _ => Health::Unknown,
        }
    }

    /// Sets the health and what there is to say about it. Returns whether the health changed.
    pub fn set_health(&self, health: Health, remark: Option<String>) -> bool {
        let code = match health {
            Health::Unknown => 0,
            Health::Up => 1,
            Health::Unreachable => 2,
            Health::Refused => 3,
            Health::Retired => 4,
        };
        *self.remark.lock().unwrap_or_else(PoisonError::into_inner) = remark;
        self.show_up(health == Health::Up);
        self.health.swap(code, Ordering::Relaxed) != code
    }

    /// Shows in the metrics whether it is usable.
    pub fn show_up(&self, is_up: bool) {
        if !self.muted.load(Ordering::Relaxed) {
            self.up.set(is_up);
        }
    }

    /// From now on its health is shown no more: it is removed, or another account stands under its id.
    pub fn mute(&self) {
        self.muted.store(true, Ordering::Relaxed);
    }

    /// Notes that it loads a model. Returns whether that is news.
    pub fn loads(&self) -> bool {
        !self.loading.swap(true, Ordering::Relaxed)
    }

    /// Notes success: cheap when the provider is up already.
    pub fn answered(&self) -> bool {
        if self.loading.load(Ordering::Relaxed) {
            self.loading.store(false, Ordering::Relaxed);
        }
        self.health() != Health::Up && self.set_health(Health::Up, None)
    }

    /// What there is to say about the health.
    pub fn remark(&self) -> Option<String> {
        self.remark.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Counts a restart of the actor or a fresh arbiter for it.
    pub fn count_restart(&self) -> u64 {
        self.restarts.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Restarts so far.
    pub fn restarts(&self) -> u64 {
        self.restarts.load(Ordering::Relaxed)
    }

    /// The request fields that the upstream refused by name for this model.
    pub fn refused_fields(&self, model: &str) -> Vec<String> {
        let refused = self.refused_fields.lock().unwrap_or_else(PoisonError::into_inner);
        if refused.is_empty() { Vec::new() } else { refused.get(model).cloned().unwrap_or_default() }
    }

    /// Remembers that the upstream refuses this field for this model.
    pub fn refuse_field(&self, model: &str, field: &str) {
        let mut refused = self.refused_fields.lock().unwrap_or_else(PoisonError::into_inner);
        if refused.len() >= MAX_REMEMBERED && !refused.contains_key(model) {
            return;
        }
        let fields = refused.entry(model.to_owned()).or_default();
        if fields.len() < MAX_FIELDS && !fields.iter().any(|known| known == field) {
            fields.push(field.to_owned());
        }
    }
}
