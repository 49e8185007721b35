//! Two processes counted for one account at a time: the one that began with what the other had counted by then takes over
//! what that one counted since. What is there twice is counted once; where that cannot be told, it is counted. Pure.

use std::collections::HashMap;

use super::Moment;
use super::learn::MOST_BLOCKS;
use super::ledger::{LONGEST, Ledger};
use super::limit::{Limit, Source};
use super::rows::{Saved, name_of};
use super::standing::Block;
use super::window::{Count, emptied, length, precise};

// === impl Ledger ===

impl Ledger {
    /// Takes over what another process wrote: `before` are the rows that this ledger began with, `found` those that the
    /// other one left behind.
    pub fn merge(&mut self, before: &[(&str, &str)], found: &[(&str, &str)], now: Moment) {
        let at = self.heed(now);
        let before: HashMap<&str, &str> = before.iter().copied().collect();
        for (key, json) in found {
            let known = before.get(key).copied();
            if known == Some(*json) {
                continue;
            }
            if let Some(scope) = key.strip_prefix("block:") {
                if let Ok(block) = serde_json::from_str::<Block>(json) {
                    self.merge_block(scope, block, at);
                }
            } else if let Some(name) = key.strip_prefix("limit:")
                && let Ok(saved) = serde_json::from_str::<Saved>(json)
            {
                let known = known.and_then(|json| serde_json::from_str::<Saved>(json).ok());
                self.merge_limit(name, known.map(|saved| saved.count).as_ref(), saved, at);
            }
        }
    }

    /// Of two pauses the one that lasts longer holds.
    fn merge_block(&mut self, scope: &str, block: Block, at: i64) {
        let until = block.until.min(at.saturating_add(LONGEST));
        let ours = self.blocks.get(scope).map(|ours| ours.until);
        let room = ours.is_some() || self.blocks.len() < MOST_BLOCKS;
        if until > ours.unwrap_or(at).max(at) && room {
            self.blocks.insert(scope.to_owned(), Block { until, dirty: true, ..block });
        }
    }

    fn merge_limit(&mut self, name: &str, known: Option<&Count>, saved: Saved, at: i64) {
        let Some((named, key)) = name.split_once('|') else { return };
        let index = self.rules.iter().position(|rule| name_of(&rule.limit) == named);
        let place = index.filter(|index| self.rules.get(*index).is_some_and(|rule| rule.has(key)));
        let Some(index) = place else {
            // Nothing was counted for it here.
            self.restore_limit(name, saved, at);
            let restored = self.rules.iter_mut().filter(|rule| name_of(&rule.limit) == named);
            for state in restored.filter_map(|rule| rule.states.get_mut(key)) {
                state.dirty = true;
            }
            return;
        };
        let Some(rule) = self.rules.get_mut(index) else { return };
        if matches!(saved.count, Count::Bucket { .. }) && rule.limit.source.is_guess() {
            // The upstream had stated that what was taken for a window refills.
            rule.refills(at);
        }
        let Some(state) = rule.states.get_mut(key) else { return };
        let limit = &rule.limit;
        if limit.source != Source::Configured && saved.since > state.since {
            // It learned it later.
            state.amount = saved.amount;
            state.source = saved.source;
            state.since = saved.since;
            state.evidence = saved.evidence;
        }
        state.count.take_over(limit, state.amount, known, saved.count, at);
        state.dirty = true;
    }
}

// === impl Count ===

impl Count {
    /// Adds what another count has more, or less, than both had before.
    fn take_over(&mut self, limit: &Limit, amount: u64, before: Option<&Count>, mut theirs: Count, now: i64) {
        theirs.not_after(limit, now);
        // A window that is over begins anew.
        self.add(limit, amount, 0, now);
        match (&mut *self, &theirs) {
            (Count::Rolling { log }, Count::Rolling { log: theirs }) => {
                let length = length(limit.period);
                let before = before.and_then(|before| match before {
                    Count::Rolling { log } => Some(log),
                    _ => None,
                });
                log.take_over(before, theirs, length, now.saturating_sub(length));
            }
            (Count::Span { used, .. }, Count::Span { starts, ends, used: theirs, .. }) => {
                if now < *ends {
                    let same = before.and_then(|before| match before {
                        Count::Span { ends, used, .. } if *ends > *starts => Some(*used),
                        _ => None,
                    });
                    *used = used.saturating_add(*theirs).saturating_sub(same.unwrap_or(0));
                }
            }
            (Count::Bucket { used, at }, Count::Bucket { used: theirs, at: theirs_at }) => {
                let before = match before {
                    Some(Count::Bucket { used, at }) => emptied(*used, *at, limit, amount, now),
                    _ => 0.0,
                };
                let more = emptied(*theirs, *theirs_at, limit, amount, now) - before;
                *used = (emptied(*used, *at, limit, amount, now) + more).clamp(0.0, 2.0 * precise(amount));
                *at = now;
            }
            // What is held, nobody holds any more.
            (Count::Held { .. }, _) | (_, Count::Held { .. }) => {}
            // One of the two has found out how the window moves.
            _ => {
                let before = before.map_or(0, |before| before.used(limit, amount, now));
                let more = theirs.used(limit, amount, now).saturating_sub(before);
                self.add(limit, amount, more, now);
            }
        }
    }
}

#[cfg(test)]
mod tests;
