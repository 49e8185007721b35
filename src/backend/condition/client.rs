//! `client`: whose key it came with.

use serde_json::Value;

use super::reading::{self, Fault};
use super::{Condition, Facts, Names};

struct Client(String);

/// Reads the id of a key.
pub(super) fn read(value: &Value, names: &Names<'_>) -> Result<Box<dyn Condition>, Fault> {
    let id = reading::text(value)?;
    if !names.clients.contains(id) {
        let text = reading::unknown("client", id, &names.clients);
        return Err(Fault::from(format!("{text}; a client is named by its [keys.NAME]")));
    }
    Ok(Box::new(Client(id.to_owned())))
}

impl Condition for Client {
    fn holds(&self, facts: &Facts<'_>) -> bool {
        facts.client == Some(self.0.as_str())
    }

    fn seen(&self, facts: &Facts<'_>) -> Option<String> {
        Some(
            facts
                .client
                .map_or_else(|| "no client is named".to_owned(), |id| format!("the client is `{id}`")),
        )
    }
}
