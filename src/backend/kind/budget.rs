//! The type `budget`: how much money a backend may cost.

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::super::modifier::budget::{Budget, cap_name};
use super::super::modifier::limit::By;
use super::super::modifier::price::{Price, Prices};
use super::super::modifier::{Modified, Wrapped};
use super::super::virtual_model::VirtualModel;
use super::limit::{by, wrapped_and_overflow};
use super::{Build, Kind, Read, Site};
use crate::config::settings::Limit;
use crate::config::spec::MemberSpec;
use crate::config::{Reading, zone};
use crate::quota::{Glob, Period, Unit};

/// The row.
pub(super) const BUDGET: Kind =
    Kind { word: "budget", options: &[<BudgetSpec as JsonSchema>::json_schema], read };

/// Nobody spends more than this by accident, and its nano-dollars are counted exactly.
const MOST_DOLLARS: f64 = 1_000_000.0;

/// What may be spent, and what tokens cost.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
struct BudgetSpec {
    /// The one backend that is wrapped, as a member is named. Required by types that wrap one.
    to: Option<MemberSpec>,
    /// limit, budget: who answers what is beyond it, as a member is named. Default: nobody, it is refused.
    overflow: Option<MemberSpec>,
    /// limit, budget: who has it for himself: "client" (each client's key), "group" (all together), or "header:NAME" (each
    /// value of a header). Default: "client" for limit, "group" for budget.
    by: Option<String>,
    /// budget: how much money in which window; several hold together. Required.
    #[schemars(extend("x-expects" = "a list like [{ usd = 5, per = \"month\" }]"))]
    caps: Vec<CapSpec>,
    /// budget: what tokens cost, by globs on "provider/model"; the longest one that matches counts. Default: the shipped
    /// prices (`config/prices.toml`), and nothing for local servers. A model without a price is refused.
    #[schemars(with = "BTreeMap<String, PriceSpec>", extend("x-whole" = true, "x-expects" = "a table like { \"mistral/*\" = { input = 0.1, output = 0.3 } }"))]
    prices: Map<String, Value>,
}

/// A cap: so many dollars in a window of the calendar.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("x-expects" = "a table like { usd = 5, per = \"month\" }"))]
struct CapSpec {
    /// US dollars. Required.
    usd: Option<f64>,
    /// "hour", "day", "week" or "month", of the calendar. Required.
    per: Option<String>,
    /// IANA time zone in which it begins. Default: "UTC".
    time_zone: Option<String>,
}

/// A price: US dollars per million tokens.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("x-expects" = "a table like { input = 0.1, output = 0.3 }, in dollars per million tokens"))]
struct PriceSpec {
    /// Of prompts. Required.
    input: Option<f64>,
    /// Of answers, reasoning included. Required.
    output: Option<f64>,
    /// Of prompts that the upstream had cached. Default: that of prompts.
    cached: Option<f64>,
}

/// As configured.
#[derive(Debug)]
pub(crate) struct Budgeting {
    caps: Vec<Limit>,
    by: By,
    pub(crate) prices: Prices,
}

fn read(reading: &mut Reading<'_, '_>) -> Option<Read> {
    let spec: BudgetSpec = reading.options()?;
    let members = wrapped_and_overflow(reading, spec.to.as_ref(), spec.overflow.as_ref());
    let by = by(reading, spec.by.as_deref(), By::Group);
    if spec.caps.is_empty() {
        reading.missing(&["caps"], "is missing: such as [{ usd = 5, per = \"month\" }]");
    }
    let mut caps: Vec<Limit> = Vec::new();
    for (index, written) in spec.caps.iter().enumerate() {
        if let Some(cap) = cap(reading, index, written) {
            caps.push(cap);
        }
    }
    let prices = prices(reading, &spec.prices);
    Some(Read { members: members?, build: Arc::new(Budgeting { caps, by: by?, prices }) })
}

fn cap(reading: &mut Reading<'_, '_>, index: usize, written: &CapSpec) -> Option<Limit> {
    let step = format!("[{index}]");
    let at = |key: &'static str| ["caps", step.as_str(), key];
    let mut valid = true;
    let usd = written.usd.filter(|usd| *usd > 0.0 && *usd <= MOST_DOLLARS);
    match (written.usd, usd) {
        (_, Some(_)) => {}
        (None, None) => {
            reading.missing(&at("usd"), "is missing: how many dollars, such as usd = 5 or usd = 0.5")
        }
        (Some(_), None) => reading.problem(&at("usd"), "must be above 0 and at most 1000000"),
    }
    valid &= usd.is_some();
    let per = written.per.as_deref().filter(|per| ["hour", "day", "week", "month"].contains(per));
    if per.is_none() {
        let missing = if written.per.is_none() { "is missing: it " } else { "" };
        let text = format!(
            "{missing}must be \"hour\", \"day\", \"week\" or \"month\", which are those of the calendar"
        );
        reading.missing(&at("per"), text);
        valid = false;
    }
    if let Some(Err(why)) = written.time_zone.as_deref().map(zone) {
        reading.problem(&at("time_zone"), why);
        valid = false;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "within bounds, and above zero"
    )]
    let amount = (usd? * 1e9) as u64;
    valid.then(|| Limit {
        unit: Unit::Tokens.word().to_owned(),
        amount: amount.max(1),
        per: per.map(str::to_owned),
        models: None,
        window: Some("calendar".to_owned()),
        time_zone: written.time_zone.clone(),
    })
}

fn prices(reading: &mut Reading<'_, '_>, written: &Map<String, Value>) -> Prices {
    let mut prices = Vec::new();
    for (key, value) in written {
        let glob = match Glob::parse(key) {
            Ok(glob) => glob,
            Err(why) => {
                reading.problem(&["prices", key], format!("not a glob: {why}"));
                reading.told(&["prices", key]);
                continue;
            }
        };
        let Ok(spec) = PriceSpec::deserialize(value) else { continue };
        let (Some(input), Some(output)) = (spec.input, spec.output) else {
            let text = "needs `input` and `output`, in dollars per million tokens, such as { input = 0.1, output = 0.3 }";
            reading.missing(&["prices", key], text);
            reading.told(&["prices", key]);
            continue;
        };
        let cached = spec.cached.unwrap_or(input);
        if [input, output, cached].iter().any(|price| !(0.0..=MOST_DOLLARS).contains(price)) {
            reading.problem(&["prices", key], "has a price that is below 0 or above 1000000");
            reading.told(&["prices", key]);
            continue;
        }
        prices.push((glob, Price { input, output, cached }));
    }
    Prices::new(prices)
}

impl Build for Budgeting {
    fn build(&self, site: Site) -> Result<Arc<dyn VirtualModel>, String> {
        let owner = format!("budget:{}", site.about.id);
        let tally = site.means.tallies.of_group(&owner, &self.by.word(), &self.caps)?;
        let caps = self.caps.iter().map(|cap| {
            let per = cap.per.as_deref().unwrap_or_default();
            // As the ledger names it, which counts tokens.
            let period = Period::read(per).unwrap_or(Period::Month);
            (format!("{} tokens per {}", cap.amount, period.word()), cap_name(cap.amount, per))
        });
        let caps = caps.collect();
        let leaves = site.leaves.clone();
        let (wrapped, mut others) = Wrapped::with_others(site)?;
        let overflow = if others.is_empty() { None } else { Some(others.remove(0)) };
        let (by, prices) = (self.by.clone(), self.prices.clone());
        Ok(Arc::new(Modified::new(Budget { wrapped, overflow, by, prices, leaves, caps, tally })))
    }
}
