//! `endpoint`: what is wanted. Fill in the middle is told from completion by the request, whichever path it took.

use serde_json::Value;

use super::reading::{self, Fault};
use super::{Condition, Facts, Names};
use crate::dialect::Task;

/// The words for them.
const WORDS: [(&str, Task); 4] = [
    ("chat", Task::Chat),
    ("completion", Task::Completion),
    ("fim", Task::Fim),
    ("embedding", Task::Embedding),
];

struct Endpoint(Task);

/// Reads a word.
pub(super) fn read(value: &Value, _names: &Names<'_>) -> Result<Box<dyn Condition>, Fault> {
    Ok(Box::new(Endpoint(reading::word(value, &WORDS)?)))
}

impl Condition for Endpoint {
    fn holds(&self, facts: &Facts<'_>) -> bool {
        facts.request.task == self.0
    }

    fn certainly(&self, task: Task) -> Option<bool> {
        Some(task == self.0)
    }

    fn seen(&self, facts: &Facts<'_>) -> Option<String> {
        Some(format!("the endpoint is {}", facts.request.task.label()))
    }
}
