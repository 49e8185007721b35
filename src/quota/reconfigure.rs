//! The limits of an account are others from now on, while it is in use: what was counted stays counted wherever the new
//! limits can still mean it. Pure; time is passed in.

use super::Moment;
use super::admission::Charge;
use super::borrow::Loans;
use super::ledger::Ledger;
use super::limit::{Limit, Period, Scope, Source, Unit};
use super::rows::name_of;
use super::standing::{Evidence, MOST_MODELS, Rule, State};
use super::window::{Count, Counted, length};

/// No more limits that were taken out are remembered, for when they come back.
const MOST_FORMER: usize = 100;

// === impl Ledger ===

impl Ledger {
    /// Puts these configured limits and guesses in place of those there were. What the upstream stated and what was
    /// drawn from refusals stays. A limit that was there, in any window of that length, keeps its count; a new one of
    /// the same unit and scope begins with what is known to be in its window; one that is taken out is remembered, and
    /// comes back with what it had counted.
    pub fn reconfigure(&mut self, limits: Vec<Limit>, now: Moment) {
        let at = self.heed(now);
        let (own, mut former): (Vec<Rule>, Vec<Rule>) =
            std::mem::take(&mut self.rules).into_iter().partition(|rule| rule.limit.source.is_own());
        let mut limits: Vec<Option<Limit>> = limits.into_iter().map(Some).collect();
        let mut rules: Vec<Option<Rule>> = limits.iter().map(|_| None).collect();
        // The same limit first, so that none takes what is another one's.
        for is_same in [same_name as fn(&Limit, &Limit) -> bool, same_window] {
            for (limit, rule) in limits.iter_mut().zip(&mut rules) {
                let found = limit.as_ref().and_then(|new| take(&mut former, is_same, new));
                if let Some(mut kept) = found
                    && let Some(new) = limit.take()
                {
                    kept.becomes(new, at);
                    *rule = Some(kept);
                }
            }
        }
        for (limit, rule) in limits.iter_mut().zip(&mut rules) {
            let Some(limit) = limit.take() else { continue };
            let mut new = self.new_or_back(limit, at);
            for counted in &former {
                if same_scope(&counted.limit, &new.limit) {
                    new.knows(counted, at);
                }
            }
            *rule = Some(new);
        }
        self.rules = own;
        self.rules.extend(rules.into_iter().flatten());
        // Who holds a place of those that are gone, and who does not, is known of no later time.
        former.retain(|rule| rule.limit.unit != Unit::Concurrent);
        former.iter_mut().for_each(Rule::rests);
        self.former.append(&mut former);
        let surplus = self.former.len().saturating_sub(MOST_FORMER);
        self.former.drain(..surplus);
    }

    /// A limit that was not there before, or comes back.
    fn new_or_back(&mut self, limit: Limit, at: i64) -> Rule {
        let back = take(&mut self.former, same_name, &limit);
        if let Some(mut rule) = back.or_else(|| take(&mut self.former, same_window, &limit)) {
            rule.becomes(limit, at);
            return rule;
        }
        let mut rule = self.new_rule(limit);
        if rule.limit.unit == Unit::Concurrent && matches!(rule.limit.scope, Scope::Account) && self.out > 0 {
            // Those that are out hold places, too.
            let mut state = State::new(&rule.limit, at);
            state.count = Count::Held { used: self.out };
            state.dirty = true;
            rule.joined = Some(self.sequence);
            rule.states.insert(String::new(), state);
        }
        rule
    }

    /// A request that was out before a limit on how many may be gives its place back.
    pub(super) fn leaves(&mut self, charge: &Charge, at: i64) {
        for rule in &mut self.rules {
            let earlier = rule.joined.is_some_and(|joined| charge.sequence <= joined);
            if !earlier || charge.parts.iter().any(|part| part.rule == rule.id) {
                continue;
            }
            if let Some(state) = rule.states.get_mut("") {
                let place = Counted { at, n: 1, before: 0, all: true };
                state.count.take_back(&rule.limit, state.amount, place, at);
                state.dirty = true;
            }
        }
    }
}

/// Takes the first of these that is the same in this sense.
fn take(rules: &mut Vec<Rule>, is_same: fn(&Limit, &Limit) -> bool, limit: &Limit) -> Option<Rule> {
    let place = rules.iter().position(|rule| is_same(&rule.limit, limit))?;
    Some(rules.remove(place))
}

fn same_name(one: &Limit, other: &Limit) -> bool {
    name_of(one) == name_of(other)
}

/// The user now says himself what was a guess, or the other way round.
fn same_window(one: &Limit, other: &Limit) -> bool {
    one.period == other.period && same_scope(one, other)
}

fn same_scope(one: &Limit, other: &Limit) -> bool {
    let scopes = match (&one.scope, &other.scope) {
        (Scope::Account, Scope::Account) => true,
        (Scope::Pool(one), Scope::Pool(other)) | (Scope::Each(one), Scope::Each(other)) => {
            one.text == other.text
        }
        _ => false,
    };
    scopes && one.unit == other.unit
}

// === impl Rule ===

impl Rule {
    /// Another limit counted the same, in windows of another length: what of that is in this one's is the least that is
    /// used of it.
    fn knows(&mut self, counted: &Rule, at: i64) {
        for (key, old) in &counted.states {
            let count = old.count.moved(&counted.limit, old.amount, &self.limit, at);
            let room = self.states.len() < MOST_MODELS || self.states.contains_key(key);
            if count.used(&self.limit, self.limit.amount, at) == 0 || !room {
                continue;
            }
            let state = self.states.entry(key.clone()).or_insert_with(|| State::new(&self.limit, at));
            let used = |count: &Count| count.used(&self.limit, state.amount, at);
            if used(&count) > used(&state.count) {
                (state.count, state.dirty) = (count, true);
            }
        }
    }

    /// It is not in force any more: what is out ends without a word to it, and what it reserved counts as used.
    fn rests(&mut self) {
        for state in self.states.values_mut() {
            (state.probe, state.promise, state.loans) = (None, None, Loans::default());
            state.out.clear();
        }
    }

    /// The limit is this one now; what was counted is kept.
    fn becomes(&mut self, limit: Limit, at: i64) {
        for state in self.states.values_mut() {
            state.dirty = true;
            let is_other = self.limit.window != limit.window || !state.count.fits(&limit);
            // A guess that turned out to refill counts in a bucket, whatever it says.
            let refills = matches!(state.count, Count::Bucket { .. }) && limit.source.is_guess();
            if is_other && !refills {
                state.count = state.count.moved(&self.limit, state.amount, &limit, at);
            }
            let is_learned = !matches!(state.source, Source::Configured | Source::Catalogue);
            if limit.source == Source::Configured || !is_learned {
                (state.amount, state.source, state.since) = (limit.amount, limit.source, None);
            }
            if limit.source == Source::Configured {
                (state.evidence, state.promise, state.probe) = (Evidence::default(), None, None);
            }
        }
        self.limit = limit;
    }
}

// === impl Count ===

impl Count {
    /// What of this count is in the window of another limit, as far as that is known: at least what was counted in a
    /// shorter window is in a longer one, and what has no moment of its own counts as of now.
    fn moved(&self, from: &Limit, amount: u64, to: &Limit, now: i64) -> Count {
        let mut moved = Count::new(to, now);
        let is_kept = length(to.period) >= length(from.period) || to.period == from.period;
        match (self, &mut moved) {
            (Count::Held { used }, Count::Held { used: held }) if to.period != Period::Request => {
                *held = *used
            }
            (_, Count::Held { .. }) | (Count::Held { .. }, _) => {}
            (Count::Rolling { log }, Count::Rolling { log: newer }) => {
                *newer = log.clone();
                moved.not_after(to, now);
            }
            (Count::Rolling { log }, _) => {
                let used = log.after(now.saturating_sub(length(to.period)));
                moved.add(to, to.amount, used, now);
            }
            _ if is_kept => moved.add(to, to.amount, self.used(from, amount, now), now),
            _ => {}
        }
        moved
    }
}

#[cfg(test)]
mod tests;
