//! `has`: what a request brings along or asks for besides text.

use serde_json::Value;

use super::reading::{self, Fault};
use super::{Condition, Facts, Names};
use crate::dialect::Task;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Has {
    Tools,
    Images,
    Audio,
    ResponseFormat,
    Reasoning,
}

/// The words for them.
const WORDS: [(&str, Has); 5] = [
    ("tools", Has::Tools),
    ("images", Has::Images),
    ("audio", Has::Audio),
    ("response_format", Has::ResponseFormat),
    ("reasoning", Has::Reasoning),
];

/// Reads a word.
pub(super) fn read(value: &Value, _names: &Names<'_>) -> Result<Box<dyn Condition>, Fault> {
    Ok(Box::new(reading::word(value, &WORDS)?))
}

/// Whether no request to this endpoint has what the word says.
pub(super) fn is_impossible(word: &Value, task: Task) -> bool {
    reading::word(word, &WORDS).is_ok_and(|has| has.certainly(task) == Some(false))
}

impl Condition for Has {
    fn holds(&self, facts: &Facts<'_>) -> bool {
        let request = facts.request;
        match self {
            Has::Tools => request.needs().tools,
            Has::Images => request.needs().vision,
            Has::Audio => request.needs().audio || request.wants_audio(),
            Has::ResponseFormat => request.wants_format(),
            Has::Reasoning => request.wants_reasoning(),
        }
    }

    fn certainly(&self, task: Task) -> Option<bool> {
        let possible = match self {
            Has::Images | Has::Audio => task == Task::Chat,
            Has::Tools | Has::ResponseFormat | Has::Reasoning => task != Task::Embedding,
        };
        (!possible).then_some(false)
    }
}
