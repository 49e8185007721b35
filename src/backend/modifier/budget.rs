//! `budget`: how much money one backend may cost, and who answers beyond that. An estimate is reserved before a request is
//! sent, and what was bought takes its place, each call at its own price: of a panel all of them, of a race those that lost,
//! too, of an answer that a cache had none. Money is counted as the tally counts tokens, in nano-dollars.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};

use super::super::costs::{Became, Cost, Costs};
use super::super::explain::{Decision, Own};
use super::super::group::Member;
use super::super::kind::Leaf;
use super::super::opened::close_by;
use super::super::tally::{Open, Tally, Ticket, Words};
use super::super::virtual_model::{Below, dearest_of};
use super::super::{Call, Outlook, Reply};
use super::limit::{By, ails, beyond, bounded, turned_away};
use super::price::{Price, Prices, dollars};
use super::{Modifier, Wrapped, explain};
use crate::backend::size::Size;
use crate::dialect::Usage;
use crate::error::{ErrorKind, ProxyError};
use crate::metrics::events::Spending;
use crate::model_id::same_model;
use crate::quota::{Denial, Need};

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

/// What is reserved for one request, until what was bought for it takes its place. Dropped, it is what was bought by then.
struct Paying {
    budget: Arc<Budget>,
    ticket: Option<Ticket>,
    /// The price that was reserved for a token.
    reserved: Price,
    costs: Arc<Costs>,
}

// === impl Budget ===

impl Budget {
    /// What a token of a request may cost, all calls together.
    ///
    /// # Errors
    /// Which model has no price: what cannot be counted is not sent.
    fn dearest(&self, call: &Call) -> Result<Price, ProxyError> {
        let below = [self.wrapped.inner.below(&call.model)];
        dearest_of(&below, &call.model, &call.request, &self.prices).map_err(|unknown| {
            let shown: String = unknown.chars().take(200).collect();
            let text = format!(
                "no price is known for `{shown}`, so that group `{}` cannot count what it costs; add it to `prices` there",
                self.wrapped.about.id
            );
            ProxyError::new(ErrorKind::Unsupported, text).with_param("model").with_code("price_unknown")
        })
    }

    /// What a token of this call costs. A provider may call a model otherwise than it was asked for.
    fn price_of(&self, cost: &Cost) -> Option<Price> {
        let leaves = || self.leaves.iter().filter(|leaf| *leaf.provider == *cost.provider);
        leaves().find_map(|leaf| self.prices.of(leaf, &cost.model)).or_else(|| {
            leaves().find_map(|leaf| {
                let asked = leaf.model.as_deref().filter(|model| same_model(model, &cost.model))?;
                self.prices.of(leaf, asked)
            })
        })
    }

    fn words(&self, denial: &Denial) -> Option<String> {
        let (_, shown) = self.caps.iter().find(|(name, _)| denial.limit.starts_with(name))?;
        Some(shown.clone())
    }

    fn refuse(&self, call: &Call, denial: &Denial) -> ProxyError {
        let id = &self.wrapped.about.id;
        let who = self.by.who(&self.tally, self.by.bucket(call), id);
        let whose = format!("`caps` of group `{id}`");
        let now = call.moment().unwrap_or_else(|| self.tally.now());
        let words = Words { who: &who, whose: &whose, limit: self.words(denial), money: true };
        let mut error = words.refuse(denial, now);
        error.code = Some("budget_exceeded".to_owned());
        error
    }

    fn check(&self, call: &Call, price: Price) -> Result<f64, Denial> {
        let (size, at) = (Size::of(&call.request), call.moment());
        self.tally.check(self.by.bucket(call), &call.request.model, size, at, |need| price.need(need))
    }
}

impl Modifier for Budget {
    fn wrapped(&self) -> &Wrapped {
        &self.wrapped
    }

    fn forward(self: Arc<Self>, call: Call) -> BoxFuture<'static, Result<Reply, ProxyError>> {
        let price = match self.dearest(&call) {
            Ok(price) => price,
            Err(error) => {
                self.wrapped.acted(&call, "unpriced");
                return ready(Err(error)).boxed();
            }
        };
        let model = Arc::from(call.request.model.as_str());
        let size = Size::of(&call.request);
        match self.tally.admit(self.by.bucket(&call), &model, size, |need| price.need(need)) {
            Ok(ticket) => {
                self.wrapped.acted(&call, "passed");
                let costs = Costs::below(call.costs.as_ref());
                let own = Call { costs: Some(Arc::clone(&costs)), ..call };
                let budget = Arc::clone(&self);
                let paying = Paying { budget, ticket: Some(ticket), reserved: price, costs };
                close_by(paying, own, |call| self.wrapped.inner.ask(&call))
            }
            Err(denial) => {
                let refusal = self.refuse(&call, &denial);
                turned_away(&self.wrapped, self.overflow.as_ref(), &call, refusal)
            }
        }
    }

    fn outlook(&self, call: &Call) -> Result<Outlook, String> {
        let price = self.dearest(call).map_err(|error| error.message)?;
        let inner = self.wrapped.inner.outlook(call);
        let checked = self.check(call, price).map_err(|denial| {
            let limit = self.words(&denial).unwrap_or_else(|| denial.limit.clone());
            Denial { limit, ..denial }
        });
        beyond(inner, checked, self.overflow.as_ref(), call)
    }

    fn ails(&self, call: &Call) -> Option<ProxyError> {
        let checked = self.check(call, self.dearest(call).ok()?);
        let refused = checked.err().map(|denial| self.refuse(call, &denial));
        ails(&self.wrapped, self.overflow.as_ref(), call, refused)
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

    fn decide(&self, call: &Call) -> Decision<'_> {
        let price = match self.dearest(call) {
            Ok(price) => price,
            Err(error) => {
                let members = [&self.wrapped.inner].into_iter().chain(&self.overflow);
                return explain::kept(members, call, Vec::new(), Own::fails(error, None));
            }
        };
        let (bucket, model, size) = (self.by.bucket(call), &call.request.model, Size::of(&call.request));
        let (limits, (prompt, answer)) =
            self.tally.stands(bucket, model, size, call.moment(), |need| price.need(need));
        let who = self.by.who(&self.tally, bucket, &self.wrapped.about.id);
        let mut why = explain::standing(&who, &limits, model, |amount| format!("${}", dollars(amount)));
        let (prompt, answer) = (dollars(prompt), dollars(answer));
        why.push(format!("estimated at ${prompt} for the prompt and ${answer} for the answer"));
        let refusal = self.check(call, price).err().map(|denial| (self.refuse(call, &denial), denial.until));
        explain::limited(&self.wrapped, self.overflow.as_ref(), call, why, refusal)
    }
}

// === impl Paying ===

impl Paying {
    /// Pays what was bought until now, and tells it. What an upstream does not report counts as it was reserved.
    fn pay(&mut self) {
        let Some(ticket) = self.ticket.take() else { return };
        let about = &self.budget.wrapped;
        let (mut input, mut output, mut sent, mut calls) = (0_u64, 0_u64, false, Vec::new());
        for cost in self.costs.told() {
            sent |= cost.became != Became::Unsent;
            let usage = match cost.became {
                Became::Unsent | Became::Failed => continue,
                Became::Sent => Usage::default(),
                Became::Answered(usage) => usage,
            };
            let price = self.budget.price_of(&cost).unwrap_or(self.reserved);
            let (told_input, told_output) = price.paid(usage);
            let (prompt, answer) = ticket.expected(cost.size);
            input = input.saturating_add(told_input.unwrap_or_else(|| price.of_input(prompt)));
            output = output.saturating_add(told_output.unwrap_or_else(|| price.of_output(answer)));
            if cost.became != Became::Sent {
                let nanodollars = told_input.unwrap_or(0).saturating_add(told_output.unwrap_or(0));
                Spending { group: &about.about.id, meters: &cost.meters, nanodollars }.emit(&about.metrics);
            }
            calls.push((cost.size, usage));
        }
        if sent {
            ticket.settle_all(input, output, &calls);
        } else {
            ticket.refund();
        }
    }
}

impl Open for Paying {
    fn answered(mut self, _usage: Usage) {
        self.pay();
    }

    fn failed(mut self, _error: &ProxyError) {
        self.pay();
    }
}

impl Drop for Paying {
    fn drop(&mut self) {
        self.pay();
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
            off: self.of_input(need.off),
            answer_off: self.of_output(need.answer_off),
            most_output: most,
            ..need
        }
    }

    /// What prompt and answer took, in money, as far as the upstream says.
    fn paid(self, usage: Usage) -> (Option<u64>, Option<u64>) {
        let input = usage.input.map(|input| {
            let cached = usage.cached.unwrap_or(0).min(input);
            self.of_input(input - cached).saturating_add(self.of_cached(cached))
        });
        (input, usage.output.map(|output| self.of_output(output)))
    }
}

/// A cap as people call it.
pub fn cap_name(nanodollars: u64, per: &str) -> String {
    format!("${} per {per}", dollars(nanodollars))
}

#[cfg(test)]
mod tests;
