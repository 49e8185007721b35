//! `budget`: how much money one backend may cost, and who answers beyond that. An estimate is reserved before a request is
//! sent, and what its upstream reports takes its place. Money is counted as the tally counts tokens, in nano-dollars.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};

use super::super::group::Member;
use super::super::kind::Leaf;
use super::super::tally::{Bill, Tally, Words};
use super::super::virtual_model::Below;
use super::super::{Call, Outlook, Reply, Served};
use super::limit::{By, beyond, bounded, turned_away};
use super::price::{Price, Prices, dollars};
use super::{Modifier, Wrapped};
use crate::dialect::Usage;
use crate::error::{ErrorKind, ProxyError};
use crate::metrics::events::Spending;
use crate::provider::capacity::Size;
use crate::quota::{Actual, Denial, Need};

/// The backend.
pub struct Budget {
    /// Whom it hands requests to.
    pub wrapped: Wrapped,
    /// Who answers what is beyond it. `None`: nobody, it is refused.
    pub overflow: Option<Member>,
    /// Who has it for himself.
    pub by: By,
    /// What a token costs.
    pub prices: Prices,
    /// The providers that it may come to, each with its model if that is fixed.
    pub leaves: Vec<Leaf>,
    /// Its caps: the ledger's name of each, and what it is called.
    pub caps: Vec<(String, String)>,
    /// What is spent of them.
    pub tally: Arc<Tally>,
}

// === impl Budget ===

impl Budget {
    /// What a request may cost: the dearest price of all who may answer it.
    ///
    /// # Errors
    /// Which model has no price: what cannot be counted is not sent.
    fn dearest(&self, call: &Call) -> Result<Price, String> {
        let asked = self.wrapped.inner.model.as_deref().unwrap_or(&call.model);
        let mut dearest = Price::default();
        for leaf in &self.leaves {
            let model = leaf.model.as_deref().unwrap_or(asked);
            if model.is_empty() {
                continue;
            }
            let price = self.prices.of(leaf, model).ok_or_else(|| {
                let shown: String = model.chars().take(200).collect();
                format!(
                    "no price is known for `{}/{shown}`, so that group `{}` cannot count what it costs; add it to \
                     `prices` there",
                    leaf.provider, self.wrapped.about.id
                )
            })?;
            dearest = dearest.max(price);
        }
        Ok(dearest)
    }

    /// What the answer of this provider and model costs.
    fn price_of(&self, served: &Served, reserved: Price) -> Price {
        let leaf = self.leaves.iter().find(|leaf| *leaf.provider == *served.provider);
        leaf.and_then(|leaf| self.prices.of(leaf, &served.model)).unwrap_or(reserved)
    }

    fn bill(&self, served: &Served, reserved: Price) -> Bill {
        let price = self.price_of(served, reserved);
        let (group, metrics) = (Arc::clone(&self.wrapped.about.id), Arc::clone(&self.wrapped.metrics));
        let meters = Arc::clone(&served.meters);
        Box::new(move |usage: Usage| {
            let actual = price.actual(usage);
            let spent = actual.input_tokens.unwrap_or(0).saturating_add(actual.output_tokens.unwrap_or(0));
            Spending { group: &group, meters: &meters, nanodollars: spent }.emit(&metrics);
            actual
        })
    }

    fn words(&self, denial: &Denial) -> Option<String> {
        let (_, shown) = self.caps.iter().find(|(name, _)| denial.limit.starts_with(name))?;
        Some(shown.clone())
    }

    fn refuse(&self, call: &Call, denial: &Denial) -> ProxyError {
        let id = &self.wrapped.about.id;
        let who = self.by.who(self.by.bucket(call), id);
        let whose = format!("`caps` of group `{id}`");
        let mut error =
            Words { who: &who, whose: &whose, limit: self.words(denial) }.refuse(denial, self.tally.now());
        error.code = Some("budget_exceeded".to_owned());
        error
    }

    fn check(&self, call: &Call, price: Price) -> Result<f64, Denial> {
        let size = Size::of(&call.request);
        self.tally.check(self.by.bucket(call), &call.request.model, size, |need| price.need(need))
    }
}

impl Modifier for Budget {
    fn wrapped(&self) -> &Wrapped {
        &self.wrapped
    }

    fn forward(self: Arc<Self>, call: Call) -> BoxFuture<'static, Result<Reply, ProxyError>> {
        let price = match self.dearest(&call) {
            Ok(price) => price,
            Err(why) => {
                self.wrapped.acted(&call, "unpriced");
                let error = ProxyError::new(ErrorKind::Unsupported, why);
                return ready(Err(error.with_param("model").with_code("price_unknown"))).boxed();
            }
        };
        let model = Arc::from(call.request.model.as_str());
        let size = Size::of(&call.request);
        match self.tally.admit(self.by.bucket(&call), &model, size, |need| price.need(need)) {
            Ok(ticket) => {
                self.wrapped.acted(&call, "passed");
                let asked = self.wrapped.inner.ask(&call);
                async move {
                    let answered = asked.await;
                    ticket.settled_by(answered, |served| self.bill(served, price))
                }
                .boxed()
            }
            Err(denial) => {
                let refusal = self.refuse(&call, &denial);
                turned_away(&self.wrapped, self.overflow.as_ref(), &call, refusal)
            }
        }
    }

    fn outlook(&self, call: &Call) -> Result<Outlook, String> {
        let price = self.dearest(call)?;
        let inner = self.wrapped.inner.outlook(call);
        let checked = self.check(call, price).map_err(|denial| {
            let limit = self.words(&denial).unwrap_or_else(|| denial.limit.clone());
            Denial { limit, ..denial }
        });
        beyond(inner, checked, self.overflow.as_ref(), call)
    }

    fn standing(&self, call: &Call) -> Option<Outlook> {
        let inner = self.wrapped.inner.standing(call)?;
        let price = self.dearest(call).ok()?;
        Some(bounded(inner, self.check(call, price)))
    }

    fn below(&self, asked: &str) -> Vec<Below<'_>> {
        [&self.wrapped.inner].into_iter().chain(&self.overflow).map(|member| member.below(asked)).collect()
    }

    fn reads_arrival(&self) -> bool {
        self.by.reads_arrival()
    }
}

// === impl Price ===

impl Price {
    /// What a request takes, in money.
    fn need(self, need: Need<'_>) -> Need<'_> {
        let most = need.most_output.map(|most| self.of_output(most));
        Need {
            input_tokens: self.of_input(need.input_tokens),
            output_tokens: self.of_output(need.output_tokens),
            off: self.of_output(need.off).max(self.of_input(need.off)),
            most_output: most,
            ..need
        }
    }

    /// What an answer took, in money. Without a count of its answer it counts as it was reserved.
    fn actual(self, usage: Usage) -> Actual {
        let input = usage.input.map(|input| {
            let cached = usage.cached.unwrap_or(0).min(input);
            self.of_input(input - cached).saturating_add(self.of_cached(cached))
        });
        Actual {
            input_tokens: input,
            output_tokens: usage.output.map(|output| self.of_output(output)),
            refused: false,
        }
    }
}

/// A cap as people call it.
pub fn cap_name(nanodollars: u64, per: &str) -> String {
    format!("${} per {per}", dollars(nanodollars))
}
