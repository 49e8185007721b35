//! What all calls of one request cost together, and each of them. Pure.

use std::sync::Arc;

use crate::dialect::{Bill, Usage, usage_object};
use crate::wire::json::push_quoted;

/// The calls of one request.
#[derive(Debug, Default)]
pub(super) struct Tally {
    items: Vec<Item>,
}

#[derive(Debug)]
struct Item {
    backend: Arc<str>,
    role: &'static str,
    state: &'static str,
    usage: Usage,
}

// === impl Tally ===

impl Tally {
    /// Notes a call that was sent, with what it is called in the itemised bill; gives its number.
    pub(super) fn asked(&mut self, backend: &Arc<str>, role: &'static str) -> usize {
        let item = Item { backend: Arc::clone(backend), role, state: "cancelled", usage: Usage::default() };
        self.items.push(item);
        self.items.len() - 1
    }

    /// Notes how it ended.
    pub(super) fn ended(&mut self, number: usize, state: &'static str) {
        if let Some(item) = self.items.get_mut(number) {
            item.state = state;
        }
    }

    /// Notes what it cost, as its upstream says; later counts take the place of those before.
    pub(super) fn used(&mut self, number: usize, usage: Usage) {
        if let Some(item) = self.items.get_mut(number) {
            item.usage.merge(usage);
        }
    }

    /// The sum of all that was reported. What nobody reported is not known.
    pub(super) fn sum(&self) -> Usage {
        let add = |one: Option<u64>, other: Option<u64>| match (one, other) {
            (Some(one), Some(other)) => Some(one.saturating_add(other)),
            (one, other) => one.or(other),
        };
        self.items.iter().fold(Usage::default(), |sum, item| Usage {
            input: add(sum.input, item.usage.input),
            output: add(sum.output, item.usage.output),
            reasoning: add(sum.reasoning, item.usage.reasoning),
            cached: add(sum.cached, item.usage.cached),
        })
    }

    /// The bill: the sum, and `{"consensus":[{"backend","role","state","prompt_tokens","completion_tokens"}]}`, with null
    /// for what was not reported.
    pub(super) fn bill(&self) -> Bill {
        let mut items = b"{\"consensus\":[".to_vec();
        for (index, item) in self.items.iter().enumerate() {
            items.extend_from_slice(if index == 0 { b"{\"backend\":" } else { b",{\"backend\":" });
            push_quoted(&mut items, &item.backend);
            let count =
                |count: Option<u64>| count.map_or_else(|| "null".to_owned(), |count| count.to_string());
            items.extend_from_slice(
                format!(
                    ",\"role\":\"{}\",\"state\":\"{}\",\"prompt_tokens\":{},\"completion_tokens\":{}}}",
                    item.role,
                    item.state,
                    count(item.usage.input),
                    count(item.usage.output)
                )
                .as_bytes(),
            );
        }
        items.extend_from_slice(b"]}");
        Bill { usage: usage_object(self.sum()), items }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn the_sum_is_of_what_was_reported_and_every_call_is_an_item() {
        let mut tally = Tally::default();
        let [one, _, judge] = [("a/m", "member"), ("b/m", "member"), ("coder", "judge")]
            .map(|(label, role)| tally.asked(&Arc::from(label), role));
        assert!(tally.sum().is_empty());
        tally.used(one, Usage { input: Some(10), output: Some(3), reasoning: Some(2), cached: None });
        tally.ended(one, "answered");
        tally.used(judge, Usage { input: Some(1), output: Some(1), ..Usage::default() });
        tally.used(judge, Usage { input: Some(30), output: Some(7), ..Usage::default() });
        tally.ended(judge, "answered");
        let sum = Usage { input: Some(40), output: Some(10), reasoning: Some(2), cached: None };
        assert_eq!(tally.sum(), sum);
        let bill = tally.bill();
        let items: Value = serde_json::from_slice(&bill.items).unwrap();
        assert_eq!(
            items["consensus"],
            json!([
                {"backend": "a/m", "role": "member", "state": "answered", "prompt_tokens": 10, "completion_tokens": 3},
                {"backend": "b/m", "role": "member", "state": "cancelled", "prompt_tokens": null, "completion_tokens": null},
                {"backend": "coder", "role": "judge", "state": "answered", "prompt_tokens": 30, "completion_tokens": 7},
            ])
        );
        let usage: Value = serde_json::from_slice(&bill.usage).unwrap();
        assert_eq!(usage["total_tokens"], 50);
    }
}
