//! How many tokens a request will take, before it is sent: learned from what upstreams reported for the same model.
//! No tokenizer; never reported as usage. Pure.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

/// No more models are learned apart.
const MOST: usize = 2_000;
/// Bytes of a request's JSON to a token of its prompt, before anything is known.
const BYTES_PER_TOKEN: f64 = 4.0;
/// Tokens in an answer, before anything is known.
const ANSWER: f64 = 500.0;
/// How much the newest report weighs, at least: the first ones weigh as much as those before together.
const WEIGHT: f64 = 0.02;
/// No real tokenizer is outside of these, with what JSON adds; more bytes to a token are something else than text.
const LEAST_BYTES: f64 = 0.5;
const MOST_BYTES: f64 = 8.0;
/// In a shorter body keys and quotes outweigh the text, so that a first one tells less of how few tokens a longer one has.
const LONG: f64 = 4_000.0;

/// What was learned of sizes, by model.
#[derive(Debug, Default)]
pub struct Estimator {
    models: HashMap<String, Sizes>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Sizes {
    bytes_per_token: f64,
    answer: f64,
    /// How far reports are from these, on average.
    #[serde(default)]
    bytes_off: f64,
    #[serde(default)]
    answer_off: f64,
    /// How many reports there were, as far as that matters.
    #[serde(default)]
    reports: f64,
    #[serde(skip)]
    dirty: bool,
}

// === impl Estimator ===

impl Estimator {
    /// Nothing is known.
    pub fn new() -> Self {
        Estimator::default()
    }

    /// Tokens in prompt and answer of a request with a body of so many bytes, and by how many tokens each may be wrong.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an estimate, bounded on both sides"
    )]
    pub fn estimate(&self, model: &str, bytes: usize, max_tokens: Option<u64>) -> (u64, u64, u64, u64) {
        let sizes = self.models.get(model).copied().unwrap_or_default();
        let (length, ratio) = (bytes as f64, sizes.bytes_per_token);
        let input = (length / ratio).ceil().max(1.0) as u64;
        let answer = sizes.answer.ceil().max(1.0) as u64;
        let input_off = length / (ratio - sizes.bytes_off).max(LEAST_BYTES) - length / ratio;
        let answer_off = max_tokens.map_or(sizes.answer_off, |most| sizes.answer_off.min(most as f64));
        let answer = max_tokens.map_or(answer, |most| answer.min(most));
        (input, answer, input_off.max(0.0) as u64, answer_off as u64)
    }

    /// Tokens in a prompt with a body of so many bytes, if anything was learned of this model.
    pub fn learned(&self, model: &str, bytes: usize) -> Option<u64> {
        self.models.contains_key(model).then(|| self.estimate(model, bytes, None).0)
    }

    /// Learns from what an upstream reported.
    #[expect(clippy::cast_precision_loss, reason = "an average")]
    pub fn learn(&mut self, model: &str, bytes: usize, input: Option<u64>, output: Option<u64>) {
        if input.is_none() && output.is_none() {
            return;
        }
        if self.models.len() >= MOST && !self.models.contains_key(model) {
            return;
        }
        let first = !self.models.contains_key(model);
        let sizes = match self.models.get_mut(model) {
            Some(sizes) => sizes,
            None => self.models.entry(model.to_owned()).or_default(),
        };
        sizes.reports = (sizes.reports + 1.0).min(1.0 / WEIGHT);
        let weight = 1.0 / sizes.reports;
        if let Some(tokens) = input.filter(|tokens| *tokens > 0 && bytes > 0) {
            let ratio = (bytes as f64 / tokens as f64).clamp(LEAST_BYTES, MOST_BYTES);
            let off = (ratio - sizes.bytes_per_token).abs();
            sizes.bytes_off += (if first { 0.0 } else { off } - sizes.bytes_off) * weight;
            // What makes estimates larger is believed at once: too small a one lets limits be exceeded.
            let doubted = first && ratio > sizes.bytes_per_token;
            let told = if doubted { (bytes as f64 / LONG).clamp(WEIGHT, 1.0) } else { weight };
            sizes.bytes_per_token += (ratio - sizes.bytes_per_token) * told;
        }
        if let Some(tokens) = output {
            let off = (tokens as f64 - sizes.answer).abs();
            sizes.answer_off += (if first { 0.0 } else { off } - sizes.answer_off) * weight;
            sizes.answer += (tokens as f64 - sizes.answer) * weight;
        }
        sizes.dirty = true;
    }

    /// The rows that changed since the last call.
    pub fn dirty(&mut self) -> Vec<(String, String)> {
        let changed = self.models.iter_mut().filter(|(_, sizes)| sizes.dirty);
        changed
            .filter_map(|(model, sizes)| {
                sizes.dirty = false;
                Some((format!("size:{model}"), serde_json::to_string(sizes).ok()?))
            })
            .collect()
    }

    /// Takes over what was learned before.
    pub fn restore(&mut self, rows: &[(&str, &str)]) {
        for (key, json) in rows.iter().take(MOST * 4) {
            if let Some(model) = key.strip_prefix("size:")
                && let Ok(sizes) = serde_json::from_str::<Sizes>(json)
                && (LEAST_BYTES..=MOST_BYTES).contains(&sizes.bytes_per_token)
                && (0.0..1e9).contains(&sizes.answer)
                && (0.0..MOST_BYTES).contains(&sizes.bytes_off)
                && (0.0..1e9).contains(&sizes.answer_off)
                && (0.0..=1.0 / WEIGHT).contains(&sizes.reports)
                && self.models.len() < MOST
            {
                self.models.insert(model.to_owned(), sizes);
            }
        }
    }
}

impl Default for Sizes {
    fn default() -> Self {
        Sizes {
            bytes_per_token: BYTES_PER_TOKEN,
            answer: ANSWER,
            bytes_off: 0.0,
            answer_off: 0.0,
            reports: 0.0,
            dirty: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_estimate_comes_close_to_what_is_reported_and_survives_a_restart() {
        let mut sizes = Estimator::new();
        assert_eq!(sizes.estimate("m", 400, None), (100, 500, 0, 0));
        assert_eq!(sizes.learned("m", 400), None);
        for _ in 0..30 {
            sizes.learn("m", 300, Some(100), Some(40));
        }
        assert_eq!(sizes.estimate("m", 300, None), (100, 40, 0, 0));
        assert_eq!(sizes.estimate("m", 300, Some(10)), (100, 10, 0, 0));
        assert_eq!((sizes.learned("m", 300), sizes.learned("other", 300)), (Some(100), None));
        let rows = sizes.dirty();
        assert!(sizes.dirty().is_empty());
        let mut after = Estimator::new();
        let borrowed: Vec<(&str, &str)> =
            rows.iter().map(|(key, json)| (key.as_str(), json.as_str())).collect();
        after.restore(&borrowed);
        assert_eq!(after.estimate("m", 300, None), (100, 40, 0, 0));
    }

    #[test]
    fn how_uneven_answers_are_is_known() {
        let mut sizes = Estimator::new();
        for round in 0..200 {
            sizes.learn("m", 400, Some(100), Some(if round % 2 == 0 { 100 } else { 300 }));
        }
        let (input, output, _, off) = sizes.estimate("m", 400, None);
        assert_eq!(input, 100);
        assert!((170..=230).contains(&output) && (80..=120).contains(&off), "{output} ± {off}");
        assert!(sizes.estimate("m", 400, Some(50)).3 <= 50);
    }

    #[test]
    fn reports_that_make_no_sense_do_no_harm() {
        let mut sizes = Estimator::new();
        sizes.learn("m", 0, Some(u64::MAX), None);
        sizes.learn("m", 10, Some(0), Some(0));
        sizes.learn("m", usize::MAX, Some(1), Some(u64::MAX));
        let (input, output, ..) = sizes.estimate("m", 1000, Some(7));
        assert!(input >= 20 && output <= 7);
        sizes.restore(&[("size:x", "{}"), ("size:y", r#"{"bytes_per_token":0,"answer":1}"#)]);
        assert_eq!(sizes.estimate("y", 400, None), (100, 500, 0, 0));
    }

    #[test]
    fn nothing_that_is_reported_lets_long_prompts_pass_for_short_ones() {
        for bytes in [60, 400, 100_000] {
            let mut sizes = Estimator::new();
            for _ in 0..1_000 {
                sizes.learn("m", bytes, Some(1), None);
            }
            assert!(sizes.estimate("m", 40_000, None).0 >= 5_000, "{bytes}");
        }
        let mut sizes = Estimator::new();
        sizes.learn("m", 120, Some(8), None);
        assert!(sizes.estimate("m", 40_000, None).0 > 9_500, "one short prompt says little of long ones");
    }
}
