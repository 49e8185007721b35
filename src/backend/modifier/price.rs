//! What tokens cost: the user's own prices by glob, and those that are shipped (`config/prices.toml`). Pure.

use std::sync::OnceLock;

use serde::Deserialize;

#[cfg(test)]
use super::super::Whereabouts;
use super::super::kind::Leaf;
use crate::quota::Glob;

/// The shipped prices: each with its source and date.
const SHIPPED: &str = include_str!("../../../config/prices.toml");
/// Nano-dollars of a token that costs one dollar per million.
const NANO: f64 = 1_000.0;

/// What a token costs, in dollars per million.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Price {
    /// Of a prompt.
    pub input: f64,
    /// Of an answer, reasoning included.
    pub output: f64,
    /// Of a prompt that the upstream had cached.
    pub cached: f64,
}

/// Prices by globs on `provider/model`.
#[derive(Debug, Clone, Default)]
pub struct Prices {
    own: Vec<(Glob, Price)>,
}

/// A shipped price.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Shipped {
    /// The upstream's host.
    host: String,
    /// Models that have it, by their ids there.
    models: Vec<String>,
    /// Dollars per million tokens.
    input: f64,
    output: f64,
    cached: f64,
    /// When it was so, and who says so.
    #[serde(rename = "as_of")]
    _as_of: String,
    #[serde(rename = "source")]
    _source: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Shelf {
    #[serde(default)]
    price: Vec<Shipped>,
}

// === impl Price ===

impl Price {
    /// What so many tokens of prompts cost, in nano-dollars, rounded up.
    pub fn of_input(self, tokens: u64) -> u64 {
        cost(self.input, tokens)
    }

    /// What so many tokens of answers cost.
    pub fn of_output(self, tokens: u64) -> u64 {
        cost(self.output, tokens)
    }

    /// What so many cached tokens of prompts cost.
    pub fn of_cached(self, tokens: u64) -> u64 {
        cost(self.cached, tokens)
    }

    /// Both together.
    #[must_use]
    pub fn and(self, other: Price) -> Price {
        Price {
            input: self.input + other.input,
            output: self.output + other.output,
            cached: self.cached + other.cached,
        }
    }

    /// What it costs, by the token of an answer, to read so many answers.
    #[must_use]
    pub fn reading(self, answers: usize) -> Price {
        #[expect(clippy::cast_precision_loss, reason = "as many as a group has members")]
        let answers = answers as f64;
        Price { output: self.input * answers, ..Price::default() }
    }

    /// What so many of these cost together at most, in each respect.
    pub fn of_so_many(all: &[Price], count: usize) -> Price {
        let most = |of: fn(&Price) -> f64| {
            let mut each: Vec<f64> = all.iter().map(of).collect();
            each.sort_by(|one, other| other.total_cmp(one));
            each.into_iter().take(count).sum()
        };
        Price {
            input: most(|price| price.input),
            output: most(|price| price.output),
            cached: most(|price| price.cached),
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "prices are not negative; a nano-dollar more or less of a billion tokens is nothing"
)]
fn cost(per_million: f64, tokens: u64) -> u64 {
    (per_million * NANO * tokens as f64).ceil() as u64
}

/// Nano-dollars as dollars, with as many digits as matter.
pub fn dollars(nanodollars: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "shown with few digits")]
    let dollars = nanodollars as f64 / 1e9;
    let digits = if dollars >= 0.01 || nanodollars == 0 { 2 } else { 6 };
    format!("{dollars:.digits$}")
}

// === impl Prices ===

impl Prices {
    /// These prices, each with its glob; the longest glob that matches counts.
    pub fn new(mut own: Vec<(Glob, Price)>) -> Self {
        own.sort_by_key(|(glob, _)| std::cmp::Reverse(glob.text.len()));
        Prices { own }
    }

    /// The price of a model there: the user's own word, else the shipped one; a local server costs nothing. `None`: it is
    /// not known.
    pub fn of(&self, leaf: &Leaf, model: &str) -> Option<Price> {
        let full = format!("{}/{model}", leaf.provider);
        let own = self.own.iter().find(|(glob, _)| glob.matcher.is_match(&full));
        own.map(|(_, price)| *price)
            .or_else(|| leaf.whereabouts.local.then(Price::default))
            .or_else(|| shipped(leaf.whereabouts.host.as_deref()?, model))
    }
}

/// What is shipped for a model of an upstream's host.
fn shipped(host: &str, model: &str) -> Option<Price> {
    static SHELF: OnceLock<Vec<Shipped>> = OnceLock::new();
    // That it can be read is tested.
    let shelf =
        SHELF.get_or_init(|| toml::from_str::<Shelf>(SHIPPED).map(|shelf| shelf.price).unwrap_or_default());
    let found =
        shelf.iter().find(|known| known.host == host && known.models.iter().any(|one| one == model))?;
    Some(Price { input: found.input, output: found.output, cached: found.cached })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(provider: &str, host: &str, local: bool) -> Leaf {
        let whereabouts = Whereabouts { host: Some(host.to_owned()), local };
        Leaf { provider: provider.to_owned(), model: None, whereabouts }
    }

    fn price(input: f64) -> Price {
        Price { input, output: 2.0 * input, cached: input }
    }

    #[test]
    fn the_longest_glob_counts_and_an_unknown_price_is_none() {
        let own = [("mistral/*", 1.0), ("mistral/mistral-small-*", 0.1)];
        let prices =
            Prices::new(own.map(|(glob, input)| (Glob::parse(glob).unwrap(), price(input))).to_vec());
        let mistral = leaf("mistral", "api.mistral.ai", false);
        assert_eq!(prices.of(&mistral, "mistral-small-latest"), Some(price(0.1)));
        assert_eq!(prices.of(&mistral, "codestral-latest"), Some(price(1.0)));
        assert_eq!(prices.of(&leaf("other", "api.example.com", false), "m"), None);
        assert_eq!(prices.of(&leaf("ollama", "localhost", true), "m"), Some(Price::default()));
    }

    #[test]
    fn the_shipped_prices_can_be_read_and_are_found_by_host_and_model() {
        let shelf: Shelf = toml::from_str(SHIPPED).unwrap();
        assert!(!shelf.price.is_empty());
        for known in &shelf.price {
            assert!(known._as_of.parse::<jiff::civil::Date>().is_ok(), "{}", known._as_of);
            assert!(!known._source.is_empty() && known.input >= 0.0 && !known.models.is_empty());
        }
        let none = Prices::default();
        assert_eq!(none.of(&leaf("z", "api.z.ai", false), "glm-4.7-flash"), Some(Price::default()));
        assert_eq!(none.of(&leaf("z", "api.z.ai", false), "glm-5"), None);
    }

    #[test]
    fn what_is_asked_together_is_paid_together() {
        let all = [price(1.0), price(3.0), price(2.0)];
        assert_eq!(Price::of_so_many(&all, 1), price(3.0));
        assert_eq!(Price::of_so_many(&all, 2), price(5.0));
        assert_eq!(Price::of_so_many(&all, 9), price(6.0));
        assert_eq!(Price::of_so_many(&[], 1), Price::default());
        assert_eq!(price(1.0).and(price(2.0)), price(3.0));
        assert_eq!(price(5.0).reading(3), Price { input: 0.0, output: 15.0, cached: 0.0 });
    }

    #[test]
    fn money_is_counted_in_nanodollars_and_rounded_up() {
        let price = Price { input: 0.15, output: 0.6, cached: 0.015 };
        assert_eq!(
            (price.of_input(1), price.of_output(1_000_000), price.of_cached(1)),
            (150, 600_000_000, 15)
        );
        assert_eq!(Price { input: 0.0001, ..price }.of_input(1), 1);
        assert_eq!(
            (dollars(5_000_000_000), dollars(1_500), dollars(0)),
            ("5.00".into(), "0.000002".into(), "0.00".into())
        );
    }
}
