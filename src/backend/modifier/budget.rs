//! `budget`: how much money one backend may cost, and who answers beyond that. An estimate is reserved before a request is
//! sent, and what the upstreams below report takes its place, each at its own price: of a panel all its calls, of an answer
//! that a cache had none. Money is counted as the tally counts tokens, in nano-dollars.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};

use super::super::costs::{Costs, Part};
use super::super::explain::{Decision, Own};
use super::super::group::Member;
use super::super::kind::Leaf;
use super::super::tally::{Bill, Tally, Ticket, Words};
use super::super::virtual_model::Below;
use super::super::{Call, Outlook, Reply};
use super::limit::{By, beyond, bounded, turned_away};
use super::price::{Price, Prices, dollars};
use super::{Modifier, Wrapped, explain};
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

/// What is reserved for one answer, in nano-dollars, and at which price.
#[derive(Clone, Copy)]
struct Reserved {
    price: Price,
    input: u64,
    output: u64,
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
    fn price_of(&self, part: &Part, dearest: Price) -> Price {
        let leaf = self.leaves.iter().find(|leaf| *leaf.provider == *part.provider);
        leaf.and_then(|leaf| self.prices.of(leaf, &part.model)).unwrap_or(dearest)
    }

    /// What all that was told costs, and tells it. What an upstream did not report counts as it was reserved.
    fn spent(&self, costs: &Costs, reserved: Reserved) -> Actual {
        let told = costs.told();
        let mut input = reserved.input.saturating_mul(told.open);
        let mut output = reserved.output.saturating_mul(told.open);
        for part in &told.parts {
            let actual = self.price_of(part, reserved.price).actual(part.usage);
            let sum = actual.input_tokens.unwrap_or(0).saturating_add(actual.output_tokens.unwrap_or(0));
            Spending { group: &self.wrapped.about.id, meters: &part.meters, nanodollars: sum }
                .emit(&self.wrapped.metrics);
            input = input.saturating_add(actual.input_tokens.unwrap_or(reserved.input));
            output = output.saturating_add(actual.output_tokens.unwrap_or(reserved.output));
        }
        Actual { input_tokens: Some(input), output_tokens: Some(output), refused: false }
    }

    /// Asks the backend that is wrapped, and counts what that costs.
    async fn ask(
        self: Arc<Self>,
        call: Call,
        ticket: Ticket,
        reserved: Reserved,
    ) -> Result<Reply, ProxyError> {
        let costs = Costs::below(call.costs.as_ref());
        let own = Call { costs: Some(Arc::clone(&costs)), ..call };
        let answered = self.wrapped.inner.ask(&own).await;
        let has_cost = !costs.told().parts.is_empty();
        let bill: Bill = Box::new(move |_| self.spent(&costs, reserved));
        match answered {
            // Some of those below answered, and it came to nothing.
            Err(error) if has_cost => {
                ticket.unreported(bill);
                Err(error)
            }
            answered => ticket.settled_by(answered, || bill),
        }
    }

    fn words(&self, denial: &Denial) -> Option<String> {
        let (_, shown) = self.caps.iter().find(|(name, _)| denial.limit.starts_with(name))?;
        Some(shown.clone())
    }

    fn refuse(&self, call: &Call, denial: &Denial) -> ProxyError {
        let id = &self.wrapped.about.id;
        let who = self.by.who(self.by.bucket(call), id);
        let whose = format!("`caps` of group `{id}`");
        let now = call.moment().unwrap_or_else(|| self.tally.now());
        let mut error = Words { who: &who, whose: &whose, limit: self.words(denial) }.refuse(denial, now);
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
            Err(why) => {
                self.wrapped.acted(&call, "unpriced");
                let error = ProxyError::new(ErrorKind::Unsupported, why);
                return ready(Err(error.with_param("model").with_code("price_unknown"))).boxed();
            }
        };
        let model = Arc::from(call.request.model.as_str());
        let size = Size::of(&call.request);
        let mut reserved = Reserved { price, input: 0, output: 0 };
        let admitted = self.tally.admit(self.by.bucket(&call), &model, size, |need| {
            let need = price.need(need);
            (reserved.input, reserved.output) = (need.input_tokens, need.output_tokens);
            need
        });
        match admitted {
            Ok(ticket) => {
                self.wrapped.acted(&call, "passed");
                self.ask(call, ticket, reserved).boxed()
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

    fn decide(&self, call: &Call) -> Decision<'_> {
        let price = match self.dearest(call) {
            Ok(price) => price,
            Err(why) => {
                let members = [&self.wrapped.inner].into_iter().chain(&self.overflow);
                return explain::kept(members, call, Vec::new(), Own::cannot(why));
            }
        };
        let (bucket, model, size) = (self.by.bucket(call), &call.request.model, Size::of(&call.request));
        let (limits, (prompt, answer)) =
            self.tally.stands(bucket, model, size, call.moment(), |need| price.need(need));
        let who = self.by.who(bucket, &self.wrapped.about.id);
        let mut why = explain::standing(&who, &limits, model, |amount| format!("${}", dollars(amount)));
        let (prompt, answer) = (dollars(prompt), dollars(answer));
        why.push(format!("estimated at ${prompt} for the prompt and ${answer} for the answer"));
        let refusal = self.check(call, price).err().map(|denial| (self.refuse(call, &denial), denial.until));
        explain::limited(&self.wrapped, self.overflow.as_ref(), call, why, refusal)
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
