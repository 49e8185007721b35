//! `input_tokens`: how long the prompt is. Once upstreams have reported what prompts took, by the bytes to a token that
//! were learned of the models that may answer, as admission estimates it; until then by its text at four bytes a token.
//! Images and other media do not count: what they come to is each upstream's own affair.

use serde_json::Value;

use super::comparison::Comparison;
use super::reading::{self, Fault};
use super::{Condition, Facts, Names};

/// Bytes of text to a token, as for a model of which nothing is known yet.
const BYTES_PER_TOKEN: f64 = 4.0;

struct InputTokens(Comparison);

fn digits(text: &str) -> Option<f64> {
    let plain = text.replace('_', "");
    let whole = !plain.is_empty() && plain.len() <= 15 && plain.bytes().all(|byte| byte.is_ascii_digit());
    whole.then(|| plain.parse::<f64>().ok()).flatten()
}

/// Whether a comparison holds wherever another one does.
pub(super) fn within(wide: &Value, narrow: &Value) -> bool {
    let read = |value: &Value| Comparison::read(value.as_str()?, digits);
    read(wide).zip(read(narrow)).is_some_and(|(wide, narrow)| narrow.is_within(wide))
}

/// Reads a comparison.
pub(super) fn read(value: &Value, _names: &Names<'_>) -> Result<Box<dyn Condition>, Fault> {
    let comparison = Comparison::read(reading::text(value)?, digits).ok_or_else(|| {
        Fault::from(
            "is no comparison of whole numbers; write one such as \">8000\", \"<=500\" or \"1000-8000\"",
        )
    })?;
    if comparison.is_impossible(0.0, f64::INFINITY) {
        return Err(Fault::from("can never be; write the smaller number first, and none below 0"));
    }
    Ok(Box::new(InputTokens(comparison)))
}

/// The tokens of a prompt: learned, or estimated by its bytes.
#[expect(clippy::cast_precision_loss, reason = "an estimate")]
pub(super) fn of(learned: Option<u64>, bytes: impl FnOnce() -> usize) -> f64 {
    learned.map_or_else(|| (bytes() as f64 / BYTES_PER_TOKEN).ceil(), |tokens| tokens as f64)
}

impl Condition for InputTokens {
    fn holds(&self, facts: &Facts<'_>) -> bool {
        self.0.holds(facts.input_tokens())
    }

    fn seen(&self, facts: &Facts<'_>) -> Option<String> {
        Some(format!("its prompt is estimated at {} tokens", facts.input_tokens()))
    }
}
