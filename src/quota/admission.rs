//! What goes into the ledger and what comes out of it: what a request needs, what it has reserved, why it has to wait.
//! Pure data.

use super::Moment;
use super::limit::Unit;
use super::window::Counted;

/// What a request will take, as far as one can tell.
#[derive(Debug, Clone, Copy)]
pub struct Need<'a> {
    /// The model's id at the upstream.
    pub model: &'a str,
    /// Tokens in the prompt.
    pub input_tokens: u64,
    /// Tokens in the answer.
    pub output_tokens: u64,
    /// By how many tokens the prompt may be wrong, as a rule.
    pub off: u64,
    /// And the answer.
    pub answer_off: u64,
    /// The most tokens that the answer can have, where the request bounds it.
    pub most_output: Option<u64>,
    /// The answer comes piece by piece: its head tells nothing of its length.
    pub stream: bool,
}

/// How far a request may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Guesses hold.
    Keep,
    /// Nobody else has capacity: a lone request may exceed a guess, and what is only reserved is lent.
    Probe,
    /// And it cannot wait any longer: that is lent even where it is not likely to be free.
    Last,
    /// There is nobody else: it may also try what was put off without the upstream saying for how long.
    Alone,
}

/// What was used, as the upstream reports; `None` keeps the estimate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Actual {
    /// Tokens in the prompt.
    pub input_tokens: Option<u64>,
    /// Tokens in the answer.
    pub output_tokens: Option<u64>,
    /// It was refused for reasons of quota: upstreams do not count that.
    pub refused: bool,
}

/// What is in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Requests in flight.
    Full,
    /// A window is used up.
    Window,
    /// The upstream asked us to wait.
    Cooldown,
    /// It refused, and how long that lasts is a guess.
    Refused,
    /// The request is larger than the limit.
    NeverFits,
    /// The key has no allowance for this model.
    NoAllowance,
    /// It wants money.
    Payment,
    /// It no longer has the model.
    ModelGone,
    /// It is overloaded, and said for how long.
    Overloaded,
    /// It has no such model, or not for this key.
    NotServed,
}

/// Why a request is not admitted, and when it may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// What is in the way.
    pub cause: Cause,
    /// When all of it is out of the way, as far as that is a matter of time.
    pub until: Option<Moment>,
    /// The limit that binds longest, for people: `20 requests per minute`.
    pub limit: String,
    /// Only guesses are in the way, and no probe of them is out.
    pub probe: bool,
    /// Where a window of the user's own is in the way that is not used up. `None`: it is, or it is no window.
    pub short: Option<Short>,
}

/// What a request is thought to take of a window, and what is left of that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Short {
    /// What it may take, with what the estimate may be wrong by.
    pub takes: u64,
    /// What of that is not its answer.
    pub prompt: u64,
    /// What is used by nobody for certain; requests in flight may take some of it.
    pub left: u64,
    /// The request bounds its answer.
    pub bounded: bool,
}

/// What a request has reserved. Given back to [`settle`](super::Ledger::settle) or [`refund`](super::Ledger::refund), once.
#[derive(Debug)]
pub struct Charge {
    pub(super) sequence: u64,
    pub(super) at: i64,
    pub(super) parts: Vec<Part>,
    pub(super) input_tokens: u64,
    pub(super) output_tokens: u64,
    pub(super) stream: bool,
}

/// What is reserved under one limit.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) rule: u32,
    pub(super) key: String,
    pub(super) n: u64,
    pub(super) unit: Unit,
    /// What was used then, without what was only reserved.
    pub(super) before: u64,
}

#[expect(clippy::cast_precision_loss, reason = "an estimate's error")]
fn square(n: u64) -> f64 {
    (n as f64).powi(2)
}

/// How much of a unit so many tokens in prompt and answer are.
fn share(unit: Unit, input_tokens: u64, output_tokens: u64) -> u64 {
    match unit {
        Unit::Requests | Unit::Concurrent => 1,
        Unit::InputTokens => input_tokens,
        Unit::OutputTokens => output_tokens,
        Unit::Tokens => input_tokens.saturating_add(output_tokens),
        Unit::Percent => 0,
    }
}

// === impl Need ===

impl Need<'_> {
    /// How much of a unit it takes.
    pub(super) fn of(&self, unit: Unit) -> u64 {
        share(unit, self.input_tokens, self.output_tokens)
    }

    /// Whether it takes nothing of a unit, whatever is reported later: an answer that is thought to be empty may not be.
    pub(super) fn is_nothing(&self, unit: Unit) -> bool {
        let may_answer = unit == Unit::OutputTokens && self.most_output != Some(0);
        self.of(unit) == 0 && unit != Unit::Concurrent && !may_answer
    }

    /// What it takes of a unit in any case: what is only thought of its answer is not among it.
    pub(super) fn at_least(&self, unit: Unit) -> u64 {
        match unit {
            Unit::Requests | Unit::Concurrent | Unit::OutputTokens => 1,
            Unit::InputTokens | Unit::Tokens => self.input_tokens,
            Unit::Percent => 0,
        }
    }

    /// What it reserves under a limit. An estimate that is larger than the whole limit waits until all of it is free: it
    /// may be wrong, and nothing would ever correct it.
    pub(super) fn reserves(&self, unit: Unit, amount: u64, hard: bool) -> u64 {
        let n = if hard { self.at_most(unit, amount) } else { self.of(unit) };
        n.min(amount.max(self.at_least(unit)))
    }

    /// The square of what its share of a unit may be wrong by. Errors of several requests make up for one another in
    /// part: their squares add up.
    pub(super) fn spread(&self, unit: Unit) -> f64 {
        match unit {
            Unit::Tokens => square(self.off) + square(self.answer_off),
            Unit::OutputTokens => square(self.answer_off),
            Unit::InputTokens | Unit::Requests | Unit::Concurrent | Unit::Percent => self.prompt_spread(unit),
        }
    }

    /// The same for its prompt alone.
    pub(super) fn prompt_spread(&self, unit: Unit) -> f64 {
        match unit {
            Unit::Tokens | Unit::InputTokens => square(self.off),
            Unit::OutputTokens | Unit::Requests | Unit::Concurrent | Unit::Percent => 0.0,
        }
    }

    /// The same for what it reserves: where the longest answer that it allows is reserved, it is not wrong by any.
    pub(super) fn reserved_spread(&self, unit: Unit, hard: bool) -> f64 {
        if hard && self.longest(unit).is_some() { self.prompt_spread(unit) } else { self.spread(unit) }
    }

    /// What it may take of a unit that counts its answer, where it bounds that.
    pub(super) fn longest(&self, unit: Unit) -> Option<u64> {
        let answers = matches!(unit, Unit::OutputTokens | Unit::Tokens);
        self.most_output.filter(|_| answers).map(|most| Need { output_tokens: most, ..*self }.of(unit))
    }

    /// How it exceeds the whole of a limit of this name, and what helps: in words that follow the name.
    pub(super) fn exceeding(&self, name: &str, unit: Unit, amount: u64, own: bool) -> String {
        let (prompt, answer) = (self.input_tokens, self.output_tokens);
        let of_prompt = match unit {
            Unit::InputTokens | Unit::Tokens => prompt,
            Unit::OutputTokens => 0,
            Unit::Requests | Unit::Concurrent | Unit::Percent => return name.to_owned(),
        };
        let estimated = match unit {
            Unit::Tokens if prompt < amount => {
                format!(
                    "it is estimated to take {}, {prompt} for its prompt and {answer} for the answer",
                    self.of(unit)
                )
            }
            Unit::OutputTokens => format!("its answer is estimated at {answer}"),
            _ => format!("its prompt is estimated at {prompt}"),
        };
        let room = amount.saturating_sub(of_prompt);
        let remedy = match (unit, self.most_output) {
            (Unit::InputTokens, _) => "shorten it".to_owned(),
            _ if room == 0 => "shorten it".to_owned(),
            (_, None) => format!("it names no max_tokens: set that to at most {room}"),
            (_, Some(_)) => format!("lower max_tokens to at most {room}"),
        };
        let or = if own { ", or raise the limit" } else { "" };
        format!("{name}, and {estimated}; {remedy}{or}")
    }

    /// How much of a unit it reserves under a limit that must never be exceeded: the longest answer that it allows,
    /// if there is one. Where that is more than the whole limit it is not admitted.
    pub(super) fn at_most(&self, unit: Unit, amount: u64) -> u64 {
        let likely = self.of(unit);
        let most = self.output_tokens.max(self.most_output.unwrap_or(0));
        let longest = Need { output_tokens: most, ..*self }.of(unit);
        likely.max(longest.min(amount))
    }
}

// === impl Short ===

impl Short {
    /// It would fit, were it not for what requests in flight may take.
    pub fn is_reserved(&self) -> bool {
        self.takes <= self.left
    }

    /// What is in the way and what helps, in words around the limit's name; `room` is how many tokens an answer may have,
    /// where that can be said.
    pub fn words(&self, limit: &str, does: &str, show: impl Fn(u64) -> String, in_tokens: bool) -> String {
        if self.is_reserved() {
            return format!("what is left of {limit} is reserved for requests in flight");
        }
        let room = self.left.saturating_sub(self.prompt);
        let remedy = match (room, self.bounded, in_tokens) {
            (0, ..) => "shorten it".to_owned(),
            (_, false, true) => format!("it names no max_tokens: set that to at most {room}"),
            (_, true, true) => format!("lower max_tokens to at most {room}"),
            (_, false, false) => "it names no max_tokens: set that".to_owned(),
            (_, true, false) => "lower max_tokens".to_owned(),
        };
        let (left, takes) = (show(self.left), show(self.takes));
        format!("{left} of {limit} are left, and the request is estimated to {does} {takes}; {remedy}")
    }
}

// === impl Charge ===

impl Charge {
    /// How much of a unit its prompt was thought to take.
    pub(super) fn at_least(&self, unit: Unit) -> u64 {
        match unit {
            Unit::Requests | Unit::Concurrent | Unit::OutputTokens => 1,
            Unit::InputTokens | Unit::Tokens => self.input_tokens,
            Unit::Percent => 0,
        }
    }

    /// How much of a unit the request was thought to take.
    pub(super) fn likely(&self, unit: Unit) -> u64 {
        share(unit, self.input_tokens, self.output_tokens)
    }

    /// How much of a unit the request was thought to take, and takes if nothing more is reported.
    pub(super) fn used(&self, part: &Part, actual: Actual) -> u64 {
        let input = actual.input_tokens.unwrap_or(self.input_tokens);
        let output = actual.output_tokens.unwrap_or(self.output_tokens);
        match part.unit {
            Unit::Concurrent | Unit::Percent => 0,
            Unit::Requests => u64::from(!actual.refused),
            Unit::InputTokens if actual.input_tokens.is_some() => input,
            Unit::OutputTokens if actual.output_tokens.is_some() => output,
            Unit::Tokens if actual.output_tokens.is_some() => input.saturating_add(output),
            // Nothing is known of the answer: it may have been as long as it could.
            Unit::InputTokens | Unit::OutputTokens | Unit::Tokens => part.n,
        }
    }
}

// === impl Part ===

impl Part {
    /// So much of it, as it was counted at that moment.
    pub(super) fn counted(&self, at: i64, n: u64) -> Counted {
        Counted { at, n, before: self.before, all: n == self.n }
    }

    /// What of it is the answer's, where the prompt is of so many tokens.
    pub(super) fn output(&self, input_tokens: u64) -> u64 {
        match self.unit {
            Unit::OutputTokens => self.n,
            Unit::Tokens => self.n.saturating_sub(input_tokens),
            Unit::Requests | Unit::Concurrent | Unit::InputTokens | Unit::Percent => 0,
        }
    }
}
