//! What an upstream says about its limits, already read: by headers and usage endpoints ([`Statement`]) and by
//! refusing ([`Refusal`]). Pure data; `upstream/` reads it off the wire, the ledger draws the conclusions.

use std::time::Duration;

use super::limit::{Period, Unit};

/// What an upstream states about one limit. What it leaves out is `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// What is counted.
    pub unit: Unit,
    /// The window's length, where it is known. `None`: match an existing limit of that unit by `amount`, or ignore.
    pub period: Option<Period>,
    /// It is for the model that was asked, not for the whole account.
    pub per_model: bool,
    /// The limit itself. Zero is "no allowance".
    pub amount: Option<u64>,
    /// What is left of it. Negative values of the wire never come here.
    pub remaining: Option<u64>,
    /// When it is whole again (fixed and rolling windows), or when one more is there (`refills`).
    pub resets_in: Option<Duration>,
    /// The upstream is known to refill this one continuously (Groq, OpenAI); `resets_in` is then the time until it
    /// is full.
    pub refills: bool,
}

/// What a refusal for reasons of quota or load means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalClass {
    /// Too many requests at the same time: try again in about a second.
    Concurrency,
    /// A window is used up. `None`: which one is not said, taken for a minute.
    Window(Option<Period>),
    /// The key has no allowance for this model: never retried before it changes.
    NoAllowance,
    /// No money, no plan: at least a day.
    Payment,
    /// The request alone is larger than the whole window or the tier's ceiling: never here, whatever is left.
    TooLarge,
    /// The upstream is overloaded, whoever asks.
    Overloaded,
    /// The model is gone, or not in this plan: until the next model list.
    ModelGone,
    /// There is no such model here, or not for this key: for some minutes, or until the next model list.
    NotServed,
}

impl RefusalClass {
    /// The word in metrics.
    pub fn label(self) -> &'static str {
        match self {
            RefusalClass::Concurrency => "concurrency",
            RefusalClass::Window(_) => "window",
            RefusalClass::NoAllowance => "no_allowance",
            RefusalClass::Payment => "payment",
            RefusalClass::TooLarge => "too_large",
            RefusalClass::Overloaded => "overloaded",
            RefusalClass::ModelGone => "model_gone",
            RefusalClass::NotServed => "not_served",
        }
    }
}

/// A refusal as the ledger takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What it means.
    pub class: RefusalClass,
    /// It is about the model that was asked, not about the whole account.
    pub per_model: bool,
    /// Which unit ran out, where the upstream says so.
    pub unit: Option<Unit>,
    /// When a retry makes sense, as the upstream says, capped by the reader.
    pub retry_after: Option<Duration>,
}
