//! What is in force: all that a request reads of the configuration, in one piece. A reload puts the next one in its place
//! by one store, so that a request sees all of the old configuration or all of the new one, and never old keys in front
//! of new backends.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::table::Table;
use crate::backend::tally::OfKeys;
use crate::config::secret::Secret;
use crate::config::settings::{ClientKey, Listener};

/// What is in force, as one request sees it from its begin to its end.
#[derive(Default)]
pub struct InForce {
    /// What model ids mean.
    pub table: Arc<Table>,
    /// Who may ask.
    pub access: Access,
    /// What clients have used of the limits of their keys.
    pub tallies: OfKeys,
}

/// Who may ask, and how that is taken.
#[derive(Default)]
pub struct Access {
    /// The clients' keys.
    pub keys: Vec<ClientKey>,
    /// The key for changes, if there is one.
    pub admin_key: Option<Secret>,
    /// The listeners, in the order in which they were bound at start.
    pub listeners: Vec<Arc<Listener>>,
}

/// Where what is in force is to be found. Reading is one atomic load.
#[derive(Default)]
pub struct Published(ArcSwap<InForce>);

// === impl Published ===

impl Published {
    /// What is in force now. Who needs several things of it takes them from one such picture.
    pub fn now(&self) -> Arc<InForce> {
        self.0.load_full()
    }

    /// The routing table as it stands.
    pub fn table(&self) -> Arc<Table> {
        Arc::clone(&self.0.load().table)
    }

    /// From now on this is in force.
    pub(super) fn publish(&self, next: InForce) {
        self.0.store(Arc::new(next));
    }
}
