//! What the ledger draws from a refusal: which window was used up and until when, what that teaches of its limit, and
//! which scope is put off for how long. What it is evidence of where little is said is in `evidence.rs`. Pure.

use super::Moment;
use super::admission::Charge;
use super::borrow::is_settled;
use super::learn::{Change, HOUR, MINUTE, MOST_BLOCKS, SECOND, is_long, millis};
use super::ledger::{LONGEST, Ledger};
use super::limit::{Period, Unit, Window};
use super::said::{Refusal, RefusalClass};
use super::standing::{Block, Rule, State};
use super::watch::Signs;
use super::window::{DAY, IN_TRANSIT, length};

/// So often in a row what names no window is taken for a minute's, and asked again in the next one.
const WHOLE_MINUTES: u32 = 2;

/// And after so many in a row, a quarter of an hour, a longer one is used up.
const LONGER: u32 = WHOLE_MINUTES + 3;

/// What a refusal says of the window that was used up, as far as it does.
pub(super) struct Asked {
    pub(super) period: Option<Period>,
    pub(super) unit: Option<Unit>,
    /// In how many milliseconds it wants to be asked again.
    pub(super) wait: Option<i64>,
}

// === impl Ledger ===

impl Ledger {
    /// The upstream refused a request for reasons of quota; `size` is about its prompt's, in tokens, `charge` what it
    /// has reserved.
    pub fn refuse(
        &mut self,
        refusal: &Refusal,
        model: &str,
        size: Option<u64>,
        charge: Option<&Charge>,
        now: Moment,
    ) -> Option<Change> {
        let now = self.heed(now);
        let scope = if refusal.per_model { model } else { "" };
        let asked = refusal.retry_after.map(|wait| millis(wait.as_millis()).min(LONGEST));
        match refusal.class {
            RefusalClass::Overloaded => {
                // What it does not say is the breaker's to find out. Others are asked so long; alone it is tried.
                let wait = asked.filter(|wait| *wait > 0)?.min(10 * MINUTE);
                self.put_off(scope, refusal.class, now.saturating_add(wait), true, now)
            }
            RefusalClass::NotServed => {
                let until = now.saturating_add(asked.unwrap_or(5 * MINUTE).min(HOUR));
                self.put_off(model, refusal.class, until, true, now)
            }
            RefusalClass::Concurrency => {
                let learned = self.fix(Some(Unit::Concurrent), None, model, charge, None, now);
                let learned = learned.or_else(|| self.learn_places(scope, model, now));
                if asked == Some(0) {
                    // At once, it says.
                    return learned;
                }
                let wait = asked.unwrap_or(SECOND).clamp(SECOND / 4, MINUTE);
                let off = self.put_off(scope, refusal.class, now.saturating_add(wait), asked.is_none(), now);
                learned.or(off)
            }
            RefusalClass::NoAllowance => {
                let until = now.saturating_add(asked.unwrap_or(DAY).max(HOUR));
                self.put_off(model, refusal.class, until, true, now)
            }
            RefusalClass::ModelGone => {
                self.put_off(model, refusal.class, now.saturating_add(asked.unwrap_or(HOUR)), true, now)
            }
            RefusalClass::Payment => {
                let until = now.saturating_add(asked.unwrap_or(DAY).max(HOUR));
                self.put_off(scope, refusal.class, until, true, now)
            }
            RefusalClass::TooLarge if self.states(refusal.unit, model) => None,
            RefusalClass::TooLarge => self.learn_ceiling(model, size?, charge, now),
            RefusalClass::Window(None) if asked.is_none() && self.tried_in_vain(scope, charge, now) => None,
            RefusalClass::Window(period) => {
                let asked_of = Asked { period, unit: refusal.unit, wait: asked };
                self.refuse_window(refusal.class, &asked_of, scope, model, charge, now)
            }
        }
    }

    /// Whether the request was the lone one that tried whether what was put off is over: it teaches nothing but that it
    /// is not, and the next one comes later.
    fn tried_in_vain(&mut self, scope: &str, charge: Option<&Charge>, now: i64) -> bool {
        let (Some(block), Some(charge)) = (self.blocks.get_mut(scope), charge) else { return false };
        let tried = block.until > now && block.probe == Some(charge.sequence) && block.tried_at().is_some();
        if tried {
            block.tries = block.tries.saturating_add(1);
            block.try_at = Block::next_try(block.tries, now);
            (block.after, block.dirty) = (self.sequence, true);
        }
        tried
    }

    /// A window was used up, by the upstream's count.
    fn refuse_window(
        &mut self,
        class: RefusalClass,
        said: &Asked,
        scope: &str,
        model: &str,
        charge: Option<&Charge>,
        now: i64,
    ) -> Option<Change> {
        let Asked { period, unit, wait } = *said;
        for (part, charge) in
            charge.iter().flat_map(|charge| charge.parts.iter().zip(std::iter::repeat(*charge)))
        {
            if let Some(rule) = self.rules.iter_mut().find(|rule| rule.id == part.rule) {
                rule.has_not_turned(&part.key, charge);
            }
        }
        let is_long = period.is_some_and(is_long);
        // What names no window is the one that was exceeded knowingly, else most likely the shortest.
        let exceeded = charge.and_then(|charge| self.exceeded_by(charge));
        // Where more was served in other minutes, a longer window is used up.
        let longer = period.is_none() && unit.is_none() && exceeded.is_none();
        let used_up = self.used_up_until(None, model, charge, now);
        let elsewhere = longer && used_up.is_some_and(|(_, own)| !own);
        let shared = if elsewhere { self.refused_elsewhere(unit, model, charge, now) } else { None };
        let longer = longer && used_up.is_none();
        let longer = longer && self.minute.get_mut(scope).is_some_and(|minute| minute.took_more_before(now));
        let suspect = charge.filter(|_| exceeded.is_none() && !is_long && !longer);
        let crowded = suspect.is_some_and(|charge| self.was_crowded_out(unit, period, model, charge, now));
        let first = self.blocks.get(scope).is_none_or(|block| block.strikes == 0) && wait.is_none();
        if crowded && first {
            return None;
        }
        let full = charge.is_some_and(|charge| self.is_full_without(charge, now));
        let (unit, window) = match exceeded {
            Some((exceeded, window)) if unit.is_none() && period.is_none() => (Some(exceeded), window),
            _ => (unit, period.unwrap_or(Period::MINUTE)),
        };
        let in_vain = self.blocks.get(scope).is_some_and(|block| block.in_a_row() >= LONGER);
        let worn = period.is_none() && exceeded.is_none() && wait.is_none() && in_vain;
        let worn = worn.then(|| self.longer_window(unit, model, now)).flatten();
        let in_vain = in_vain && exceeded.is_none();
        let signs =
            Signs { said, exceeded, is_minute: used_up.is_some() || crowded, is_quiet: longer, in_vain };
        if worn.is_none()
            && let Some(kind) = self.course_of(&signs, (scope, model), now)
        {
            return self.refuse_course(kind, (scope, model), charge, now).or(shared);
        }
        let learned = if let Some((unit, period)) = worn {
            self.fix(Some(unit), Some(period), model, charge, None, now)
        } else if crowded || longer || shared.is_some() {
            None
        } else {
            self.learn_window(unit, said, window, scope, model, charge, now)
        };
        if let (Some(asked), Some(charge)) = (wait, charge) {
            self.promised(unit, window, model, charge, asked, now);
        }
        if full && first && !is_long {
            // Our own count says so, too, and lets nobody through before there is room.
            return learned;
        }
        let (until, counted) = self.window_ends(period, wait, scope, model, charge, now);
        let guess = wait.is_none() && !is_long;
        // Who was let in for being smaller, while our own count says how long it lasts, shows nothing else.
        let known = self.blocks.get(scope).filter(|block| block.until > now);
        let known = known.is_some_and(|block| guess && block.is_sure() && block.settled);
        let off = self.put_off(scope, class, until, guess, now);
        let settled = self.applying(model).all(|(rule, _)| rule.limit.period != window || is_settled(rule));
        if let Some(block) = self.blocks.get_mut(scope).filter(|block| block.until == until || known) {
            (block.counted, block.settled) = (counted || known, known || counted && settled);
        }
        if let (Some(block), Some(charge)) = (self.blocks.get_mut(scope), charge) {
            block.refuses(charge.input_tokens);
            block.of_tokens = matches!(said.unit, Some(Unit::Tokens | Unit::InputTokens)) && wait.is_some();
        }
        shared.or(learned).or(off)
    }

    /// The guess at more than a minute that most likely was used up, where waiting for minutes did not help: one of which
    /// at least half is used, and more than ever before.
    fn longer_window(&self, unit: Option<Unit>, model: &str, now: i64) -> Option<(Unit, Period)> {
        let shares = self.applying(model).filter_map(|(rule, key)| {
            let (limit, state) = (&rule.limit, rule.states.get(key).filter(|state| state.source.is_guess())?);
            let counts = !matches!(limit.unit, Unit::Concurrent | Unit::Percent);
            let is_longer = counts && limit.period != Period::Request && length(limit.period) > MINUTE;
            let used = state.count.used(limit, state.amount, now);
            let most = used > state.evidence.best && used.saturating_mul(2) >= state.amount;
            let meant =
                is_longer && most && rule.ways.is_empty() && unit.is_none_or(|unit| limit.unit == unit);
            let share = u128::from(used) * 1_000_000 / u128::from(state.amount.max(1));
            meant.then_some((share, limit.unit, limit.period))
        });
        shares.max().map(|(_, unit, period)| (unit, period))
    }

    /// What a refusal teaches of this window: that a guess was too high, or a limit that nobody knew.
    #[expect(clippy::too_many_arguments, reason = "all that is known of one refusal")]
    fn learn_window(
        &mut self,
        unit: Option<Unit>,
        said: &Asked,
        window: Period,
        scope: &str,
        model: &str,
        charge: Option<&Charge>,
        now: i64,
    ) -> Option<Change> {
        // What was used up by our own count is the reason, and no limit that nobody knows; nor one of this model, where
        // that was learned for another.
        let used_up = self.used_up_until(said.period, model, charge, now);
        let elsewhere = unit.is_none() && used_up.is_some_and(|(_, own)| !own);
        // Short waits for a long window are no promise (Gemini).
        let believed = said.wait.filter(|wait| !is_long(window) || *wait >= HOUR);
        let mut learned = None;
        if !elsewhere {
            learned = self.fix(unit, Some(window), model, charge, believed, now);
        }
        if used_up.is_some() || window != Period::MINUTE {
            return learned;
        }
        // More requests than these went well before: then it is their tokens.
        for of in [Unit::Requests, Unit::Tokens] {
            if learned.is_none() && unit.is_none_or(|unit| unit == of) {
                learned = self.learn_minute(of, scope, model, charge, believed, now);
            }
        }
        learned
    }

    /// When a window that was refused is free again, and whether our own count says so: the upstream's word, else the
    /// window's own end, else longer each time. A refusal that names no window, or a minute, never lasts longer than an
    /// hour.
    fn window_ends(
        &self,
        period: Option<Period>,
        asked: Option<i64>,
        scope: &str,
        model: &str,
        charge: Option<&Charge>,
        now: i64,
    ) -> (i64, bool) {
        let bare = asked.is_none() && !period.is_some_and(is_long);
        let strikes = |block: &Block| if bare { block.in_a_row() } else { block.strikes };
        let strikes = self.blocks.get(scope).map_or(0, strikes).min(8);
        let is_long = period.is_some_and(is_long);
        // Where a day refills continuously (Groq), the next request fits long before the day is over.
        let refills = || {
            self.applying(model).any(|(rule, _)| {
                Some(rule.limit.period) == period && matches!(rule.limit.window, Window::Bucket)
            })
        };
        if let Some(asked) = asked
            // A day's refusal with a minute's advice (Gemini) is a day's refusal.
            && (!is_long || asked >= HOUR || refills())
        {
            // And what is said to be a minute's is not a day's, whatever is asked for.
            let most = if period == Some(Period::MINUTE) { HOUR } else { LONGEST };
            return (now.saturating_add(asked.clamp(SECOND / 4, most)), false);
        }
        if strikes < 1
            && let Some((frees, _)) = self.used_up_until(period, model, charge, now)
        {
            return (frees.max(now.saturating_add(SECOND / 4)), true);
        }
        let of_rule = self.applying(model).filter(|(rule, _)| Some(rule.limit.period) == period).find_map(
            |(rule, key)| {
                let state = rule.states.get(key)?;
                match rule.limit.window {
                    Window::Fixed | Window::Calendar(_) | Window::Session => {
                        state.count.whole_at(&rule.limit, state.amount, now)
                    }
                    Window::Rolling | Window::Bucket => None,
                }
            },
        );
        if let Some(ends) = of_rule.filter(|ends| *ends > now) {
            return (ends, true);
        }
        if is_long && refills() {
            let least = self.used_up_until(period, model, charge, now).map_or(now, |(frees, _)| frees);
            return (now.saturating_add(((10 * SECOND) << strikes).min(HOUR)).max(least), false);
        }
        if is_long {
            return (now.saturating_add((HOUR << strikes).min(DAY)), false);
        }
        if strikes < WHOLE_MINUTES {
            // The next wall-clock minute; where the window is another one, the next refusals say so.
            return ((now / MINUTE + 1) * MINUTE, false);
        }
        (now.saturating_add((MINUTE << (strikes - WHOLE_MINUTES + 1)).min(HOUR)), false)
    }

    /// When there is room again under the limits of this window that are as good as used up by our own count; and
    /// whether they are the model's own. Otherwise they were learned for another, and may be for all.
    fn used_up_until(
        &self,
        period: Option<Period>,
        model: &str,
        charge: Option<&Charge>,
        now: i64,
    ) -> Option<(i64, bool)> {
        let window = period.unwrap_or(Period::MINUTE);
        let meant = |rule: &Rule| {
            rule.limit.period == window && !matches!(rule.limit.unit, Unit::Concurrent | Unit::Percent)
        };
        let frees = |rule: &Rule, state: &State| {
            let is_full = state.is_as_good_as_full(&rule.limit, now);
            let part = charge.and_then(|charge| charge.parts.iter().find(|part| part.rule == rule.id));
            let Some((charge, part)) = charge.zip(part) else {
                return is_full.then(|| state.count.frees_at(&rule.limit, state.amount, 1, now))?;
            };
            // What was refused is not counted.
            let mut count = state.count.clone();
            let counted = part.counted(charge.at.min(now), part.n);
            count.take_back(&rule.limit, state.amount, counted, now);
            is_full.then(|| count.frees_at(&rule.limit, state.amount, 1, now))?
        };
        let own = self.applying(model).filter(|(rule, _)| meant(rule));
        let own = own.filter_map(|(rule, key)| frees(rule, rule.states.get(key)?)).max();
        let others = || {
            let learned = self.rules.iter().filter(|rule| meant(rule) && rule.limit.source.is_own());
            learned.flat_map(|rule| rule.states.values().filter_map(move |state| frees(rule, state))).max()
        };
        let own = own.map(|frees| (frees, true));
        let found = own.or_else(|| others().map(|frees| (frees, false)));
        found.map(|(frees, own)| (frees.saturating_add(IN_TRANSIT), own))
    }

    /// Does not ask a scope before that moment.
    pub(super) fn put_off(
        &mut self,
        scope: &str,
        class: RefusalClass,
        until: i64,
        guess: bool,
        now: i64,
    ) -> Option<Change> {
        if self.blocks.len() >= MOST_BLOCKS && !self.blocks.contains_key(scope) {
            self.blocks.retain(|_, block| block.until > now);
            if self.blocks.len() >= MOST_BLOCKS {
                return None;
            }
        }
        let until = until.min(now.saturating_add(LONGEST));
        let known = self.blocks.get(scope);
        if known.is_some_and(|block| block.until > until && block.class != class) {
            // Another reason lasts longer.
            return None;
        }
        let running = known.is_some_and(|block| block.until > now && block.class == class);
        let bare = guess && matches!(class, RefusalClass::Window(_));
        let strikes = known.map_or(0, |block| if bare { block.in_a_row() } else { block.strikes });
        let strikes = strikes.saturating_add(u32::from(!running));
        let longest = known.filter(|_| running).map_or(until, |block| block.until.max(until));
        // What was waited out in vain is not tried any sooner than that.
        let tries =
            known.map_or(0, |block| block.tries).max(if bare { strikes.saturating_sub(1) } else { 0 });
        let try_at = known.filter(|_| running).map_or(Block::next_try(tries, now), |block| block.try_at);
        let after = self.sequence;
        self.blocks.insert(
            scope.to_owned(),
            Block {
                until: longest,
                class,
                strikes,
                guess,
                try_at,
                tries,
                size: known.filter(|_| running).and_then(|block| block.size),
                before: known.map_or(0, |block| block.before),
                served: 0,
                counted: false,
                settled: false,
                of_tokens: false,
                probe: None,
                after,
                dirty: true,
            },
        );
        let whom = if scope.is_empty() { "the account" } else { scope };
        (!running).then(|| Change {
            what: format!(
                "{whom} is put off for {} s ({}, {})",
                (longest - now + SECOND - 1) / SECOND,
                class.label(),
                if guess { "guessed" } else { "told" }
            ),
        })
    }
}

#[cfg(test)]
mod tests;
