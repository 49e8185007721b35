//! The limits that an upstream really has: what it admits, what it refuses, and when that ends. The fake upstreams keep
//! them, and the simulation judges the ledger by them, so that nothing of the ledger is used here. Pure: time is passed
//! in. How a provider tells of its limits is in `telling.rs`.

mod count;
mod telling;

use std::collections::HashMap;

use jiff::tz::TimeZone;

use count::Count;

pub(super) use telling::with_headers;
pub use telling::{Form, Frankness, refusal, success};

/// What a limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unit {
    /// Requests that were admitted.
    Requests,
    /// Tokens in prompts.
    InputTokens,
    /// Tokens in answers.
    OutputTokens,
    /// Both.
    Tokens,
    /// Requests at the same time; its window means nothing.
    Concurrent,
}

/// How the window of a limit moves. Lengths are milliseconds.
#[derive(Debug, Clone, PartialEq)]
pub enum Window {
    /// The last so-many milliseconds.
    Rolling(i64),
    /// Begins at multiples of its length since the epoch.
    Aligned(i64),
    /// Begins with the first request after the last one ended (Ollama Cloud's session).
    FromFirst(i64),
    /// A day of that time zone.
    Day(TimeZone),
    /// A month of that time zone.
    Month(TimeZone),
    /// Refills all the time, by its amount in so many milliseconds.
    Bucket(i64),
    /// Each request for itself: a ceiling on its prompt.
    Request,
}

/// Whom a limit is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// All requests together.
    Account,
    /// Every model for itself.
    EachModel,
    /// Each of these models for itself.
    Each(Vec<String>),
    /// These models together.
    Shared(Vec<String>),
}

/// One true limit.
#[derive(Debug, Clone, PartialEq)]
pub struct TrueLimit {
    /// What is counted.
    pub unit: Unit,
    /// How many.
    pub amount: u64,
    /// How long.
    pub window: Window,
    /// For whom.
    pub scope: Scope,
}

/// What an upstream says to a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Admission {
    /// It is answered; tell [`Allowance::done`] when that is over.
    Admitted,
    /// It is refused, and nothing is counted.
    Refused(Refused),
}

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq)]
pub struct Refused {
    /// The limit that is in the way longest, as it stands.
    pub standing: Standing,
    /// What the request would take of it.
    pub requested: u64,
    /// When the request would be admitted, if nothing else came; `None`: when others end, or never.
    pub frees_at: Option<i64>,
    /// It is larger than the whole limit.
    pub never: bool,
}

/// How one limit stands for a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    /// The limit.
    pub limit: TrueLimit,
    /// What of it is used.
    pub used: u64,
    /// When all of it is free again, in milliseconds from now.
    pub whole_in: i64,
}

/// All limits of one account at an upstream, and what was counted under them.
#[derive(Debug, Clone)]
pub struct Allowance {
    limits: Vec<(TrueLimit, HashMap<String, Count>)>,
}

// === impl Allowance ===

impl Allowance {
    /// An account with these limits, unused.
    pub fn new(limits: Vec<TrueLimit>) -> Self {
        Allowance { limits: limits.into_iter().map(|limit| (limit, HashMap::new())).collect() }
    }

    /// Admits a request and counts it, or refuses it and counts nothing. What its answer will take is not known yet, so
    /// that the last one before a limit may go beyond it.
    pub fn admit(&mut self, now: i64, model: &str, input_tokens: u64) -> Admission {
        if let Some(refused) = self.check(now, model, input_tokens) {
            return Admission::Refused(refused);
        }
        self.count(now, model, input_tokens);
        Admission::Admitted
    }

    /// Counts a request whatever the limits say.
    pub fn count(&mut self, now: i64, model: &str, input_tokens: u64) {
        for (limit, count) in self.applying(model, now) {
            count.add(limit, limit.unit.of_prompt(input_tokens), now);
        }
    }

    /// What is in the way of a request; counts nothing.
    pub fn check(&mut self, now: i64, model: &str, input_tokens: u64) -> Option<Refused> {
        let mut longest: Option<Refused> = None;
        for (limit, count) in self.applying(model, now) {
            // An answer takes at least one token.
            let n = if limit.unit == Unit::OutputTokens { 1 } else { limit.unit.of_prompt(input_tokens) };
            let used = count.used(limit, now);
            let never = n > limit.amount;
            if !never && (limit.is_ceiling() || used.saturating_add(n) <= limit.amount) {
                continue;
            }
            let frees_at = if never { None } else { count.frees_at(limit, n, now) };
            let later = longest.as_ref().is_none_or(|known| {
                let rank = |never: bool, at: Option<i64>| (never, at.unwrap_or(now));
                rank(never, frees_at) > rank(known.never, known.frees_at)
            });
            if later {
                let standing = Standing { limit: limit.clone(), used, whole_in: count.whole_in(limit, now) };
                longest = Some(Refused { standing, requested: n, frees_at, never });
            }
        }
        longest
    }

    /// An admitted request is over, having answered with so many tokens.
    pub fn done(&mut self, now: i64, model: &str, output_tokens: u64) {
        for (limit, count) in self.applying(model, now) {
            match limit.unit {
                Unit::Concurrent => count.give_back(1),
                Unit::OutputTokens | Unit::Tokens => count.add(limit, output_tokens, now),
                Unit::Requests | Unit::InputTokens => {}
            }
        }
    }

    /// How all limits stand that apply to a model.
    pub fn standings(&mut self, now: i64, model: &str) -> Vec<Standing> {
        let all = self.applying(model, now);
        all.map(|(limit, count)| Standing {
            limit: limit.clone(),
            used: count.used(limit, now),
            whole_in: count.whole_in(limit, now),
        })
        .collect()
    }

    fn applying(&mut self, model: &str, now: i64) -> impl Iterator<Item = (&TrueLimit, &mut Count)> {
        self.limits.iter_mut().filter_map(move |(limit, counts)| {
            let key = limit.scope.key_for(model)?;
            if !counts.contains_key(key) {
                counts.insert(key.to_owned(), Count::new(limit));
            }
            let count = counts.get_mut(key)?;
            count.move_on(limit, now);
            Some((&*limit, count))
        })
    }
}

// === impl TrueLimit ===

impl TrueLimit {
    /// So much of a unit in a window, for the whole account.
    pub fn new(unit: Unit, amount: u64, window: Window) -> Self {
        TrueLimit { unit, amount, window, scope: Scope::Account }
    }

    /// Whether it is about each request alone.
    fn is_ceiling(&self) -> bool {
        self.window == Window::Request && self.unit != Unit::Concurrent
    }

    /// The same for others.
    pub fn scoped(mut self, scope: Scope) -> Self {
        self.scope = scope;
        self
    }
}

// === impl Scope ===

impl Scope {
    /// Where a model is counted; `None`: the limit is not for it.
    fn key_for<'m>(&self, model: &'m str) -> Option<&'m str> {
        let among = |models: &[String]| models.iter().any(|known| known == model);
        match self {
            Scope::Account => Some(""),
            Scope::EachModel => Some(model),
            Scope::Each(models) => among(models).then_some(model),
            Scope::Shared(models) => among(models).then_some(""),
        }
    }
}

// === impl Unit ===

impl Unit {
    /// What a request takes when it is admitted.
    fn of_prompt(self, input_tokens: u64) -> u64 {
        match self {
            Unit::Requests | Unit::Concurrent => 1,
            Unit::InputTokens | Unit::Tokens => input_tokens,
            Unit::OutputTokens => 0,
        }
    }

    /// Whether it counts tokens.
    pub fn is_tokens(self) -> bool {
        matches!(self, Unit::InputTokens | Unit::OutputTokens | Unit::Tokens)
    }
}

// === impl Window ===

impl Window {
    /// About how long it is, in milliseconds; none for a single request.
    pub fn length(&self) -> i64 {
        const DAY: i64 = 86_400_000;
        match self {
            Window::Rolling(length)
            | Window::Aligned(length)
            | Window::FromFirst(length)
            | Window::Bucket(length) => (*length).max(1),
            Window::Day(_) => DAY,
            Window::Month(_) => 30 * DAY,
            Window::Request => 0,
        }
    }
}

#[cfg(test)]
mod tests;
