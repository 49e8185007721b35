//! What was counted of upstream accounts that no provider stands for at the moment: it counts again when one comes back.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::backend::Backend;
use crate::config::settings::ProviderConfig;
use crate::provider::about::About;
use crate::provider::capacity::Capacity;
use crate::provider::handle::Provider;
use crate::state::{Saved, State};

/// An account: the provider's id, its type, its url.
type Account = (String, String, String);

/// No more accounts are remembered. More than anybody configures; it only bounds what a program does that rewrites the
/// file for ever.
const MOST: usize = 1_000;

/// The accounts that were there, and what is needed to start one.
pub struct Accounts {
    state: State,
    /// What was there at start, for providers that were not.
    saved: Saved,
    /// Ids for which what was there at start has been taken.
    started: BTreeSet<String>,
    former: HashMap<Account, Arc<Capacity>>,
}

// === impl Accounts ===

impl Accounts {
    /// Beside these providers, which were started with what `saved` says of them.
    pub fn new(state: State, saved: Saved, providers: &[Arc<Provider>]) -> Self {
        let started = providers.iter().map(|provider| provider.id().to_owned()).collect();
        Accounts { state, saved, started, former: HashMap::new() }
    }

    /// Starts a provider for an account that none stands for, with what was counted for it before. Must be called
    /// inside an actix system.
    pub fn start(&mut self, about: About) -> Arc<Provider> {
        let account = account(&about.config);
        let known = self.former.remove(&account);
        // Rows are kept by the provider's id.
        for (other, capacity) in &self.former {
            if other.0 == account.0 {
                capacity.set_aside();
            }
        }
        let is_first = self.started.insert(account.0);
        match known {
            Some(capacity) => {
                let provider = Provider::start_again(about, Arc::clone(&capacity));
                capacity.bring_back();
                provider
            }
            None if is_first => Provider::start(about, &self.state, &self.saved),
            None => Provider::start(about, &self.state, &Saved::default()),
        }
    }

    /// No provider stands for this one's account any more.
    pub fn leave(&mut self, provider: &Provider) {
        if self.former.len() < MOST {
            let capacity = Arc::clone(&provider.vitals().capacity);
            self.former.insert(account(&provider.about().config), capacity);
        }
    }
}

fn account(config: &ProviderConfig) -> Account {
    (config.id.clone(), config.kind.clone(), config.url.clone())
}
