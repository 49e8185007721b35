//! `listener`: where the client connected.

use serde_json::Value;

use super::reading::{self, Fault};
use super::{Condition, Facts, Names};

struct Listener(String);

/// Reads a listener's id.
pub(super) fn read(value: &Value, names: &Names<'_>) -> Result<Box<dyn Condition>, Fault> {
    let id = reading::text(value)?;
    if !names.listeners.contains(id) {
        return Err(Fault::from(reading::unknown("listener that serves the api", id, &names.listeners)));
    }
    Ok(Box::new(Listener(id.to_owned())))
}

impl Condition for Listener {
    fn holds(&self, facts: &Facts<'_>) -> bool {
        facts.arrival.is_some_and(|arrival| *arrival.listener == *self.0)
    }

    fn seen(&self, facts: &Facts<'_>) -> Option<String> {
        Some(format!("it came in at `{}`", facts.arrival?.listener))
    }
}
