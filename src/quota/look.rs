//! What is in the way of a request: pauses, limits that are used up, and what of those is only a guess or only reserved.
//! Looking changes nothing. Pure.

use super::Moment;
use super::admission::{Cause, Denial, Mode, Need};
use super::again::AT_ONCE;
use super::borrow::{Room, is_lent};
use super::ledger::{Ledger, safety};
use super::limit::{Period, Source, Unit, Window};
use super::standing::{Block, State};
use super::window::IN_TRANSIT;

/// While one request finds out whether a pause is really over, or what is reserved is taken, the others come again
/// after this.
pub(super) const TRY: i64 = 250;

/// What stands in the way, with the guesses among it.
pub(super) struct Found {
    pub(super) denial: Denial,
    pub(super) guesses: Vec<u32>,
}

// === impl Ledger ===

impl Ledger {
    /// What is in the way of a request, and under which limits it goes into room that is only reserved.
    pub(super) fn look(&self, need: &Need<'_>, now: i64, mode: Mode) -> (Option<Found>, Vec<u32>) {
        let mut found: Option<Found> = None;
        let mut lent = Vec::new();
        let mut met = |cause: Cause,
                       until: Option<i64>,
                       limit: &dyn Fn() -> String,
                       guess: Option<(u32, bool)>,
                       short| {
            let probe = guess.is_some_and(|(_, free)| free);
            let new = Denial { cause, until: until.map(Moment), limit: limit(), probe, short };
            let known = found.take();
            found = Some(match known {
                None => Found { denial: new, guesses: guess.map(|(id, _)| id).into_iter().collect() },
                Some(mut known) => {
                    known.guesses.extend(guess.map(|(id, _)| id));
                    let probe = known.denial.probe && new.probe;
                    // What lasts longer counts; what no time frees, longest.
                    let mut other = new;
                    if rank(&other) > rank(&known.denial) {
                        std::mem::swap(&mut known.denial, &mut other);
                    }
                    // And what is used up is named before what is only thought to be too little.
                    if known.denial.short.is_some() && other.cause == Cause::Window && other.short.is_none() {
                        (known.denial.limit, known.denial.short) = (other.limit, None);
                    }
                    known.denial.probe = probe;
                    known
                }
            });
        };
        // Who cannot wait does not wait for the one that finds out, and goes as soon as it may fit: what left a window
        // here has left it at the upstream, too, or does before this one is there.
        let cannot_wait = matches!(mode, Mode::Last | Mode::Alone);
        // When a lone request may try what was put off without a word, whatever that taught of a minute.
        let mut lone: Option<i64> = None;
        if mode == Mode::Keep && self.is_broke_for(need.model) {
            met(Cause::Payment, None, &String::new, Some((0, true)), None);
        }
        for scope in ["", need.model] {
            if let Some(block) = self.blocks.get(scope).filter(|block| block.until > now) {
                if block.is_soft() {
                    if mode == Mode::Keep {
                        met(block.cause(), Some(block.until), &String::new, Some((0, true)), None);
                    }
                    continue;
                }
                if mode == Mode::Last && block.may_fit(need.input_tokens) {
                    continue;
                }
                let tried_at = block.tried_at();
                lone = lone.max(tried_at);
                let may = block.guess && (mode == Mode::Alone || tried_at.is_some_and(|at| at <= now));
                let guess = may.then_some((0, block.probe.is_none()));
                let until =
                    tried_at.map_or(block.until, |at| at.max(now.saturating_add(TRY)).min(block.until));
                let words = || "refused a request without saying for how long".to_owned();
                met(block.cause(), Some(until), &words, guess, None);
            } else if !cannot_wait && self.blocks.get(scope).is_some_and(Block::is_tried) {
                let words =
                    || "refused a request, and another one finds out whether it still would".to_owned();
                met(Cause::Refused, Some(now.saturating_add(TRY)), &words, None, None);
            }
        }
        for (rule, key) in self.applying(need.model) {
            let limit = &rule.limit;
            let known = rule.states.get(key);
            let (amount, source) =
                known.map_or((limit.amount, limit.source), |state| (state.amount, state.source));
            let guess = source.is_guess();
            let likely = need.of(limit.unit);
            let n = need.reserves(limit.unit, amount, source == Source::Configured);
            let out: f64 = known.map_or(0.0, |state| state.out.iter().map(|out| out.spread).sum());
            // No request is held up for ever by what it might be wrong by.
            let own = need.reserved_spread(limit.unit, source == Source::Configured);
            let n = n.max(n.saturating_add(safety(out + own)).min(amount));
            let name = || limit.named(amount);
            let beyond = || need.exceeding(&name(), limit.unit, amount, source == Source::Configured);
            if source == Source::Configured
                && let Some(longest) = need.longest(limit.unit).filter(|longest| *longest > amount)
                && need.at_least(limit.unit) <= amount
            {
                let words = || {
                    let most = need.most_output.unwrap_or(0);
                    format!("{} (with max_tokens = {most} it may take {longest}; lower max_tokens)", name())
                };
                met(Cause::NeverFits, None, &words, None, None);
                continue;
            }
            if limit.period == Period::Request {
                if likely > amount {
                    // What was drawn from a refusal is a guess at the size of what was refused.
                    let probing = (source == Source::Learned).then(|| {
                        let rests = |state: &State| mode != Mode::Alone && state.evidence.rest_until > now;
                        (rule.id, known.is_none_or(|state| state.probe.is_none() && !rests(state)))
                    });
                    met(Cause::NeverFits, None, &beyond, probing, None);
                }
                continue;
            }
            // The user's own counts from its sending on, whenever it arrives.
            let arrived = now.saturating_sub(match source {
                Source::Configured if cannot_wait => AT_ONCE,
                _ if mode == Mode::Alone => 0,
                _ => IN_TRANSIT,
            });
            let used = known.map_or(0, |state| {
                let used =
                    state.count.used(limit, amount, arrived).saturating_add(state.crossing(limit, now));
                // What was sent in the window before is none of this one's, where the user says what is sent, and it is known
                // when windows begin.
                let own = source == Source::Configured && cannot_wait && limit.window != Window::Session;
                used.saturating_sub(if own { state.count.carried(arrived) } else { 0 })
            });
            let over = if limit.unit == Unit::Percent {
                used >= amount
            } else {
                n > 0 && used.saturating_add(n) > amount
            };
            let promise =
                known.and_then(|state| state.promise).filter(|promise| promise.is_for(need, limit.unit));
            if !over || promise.is_some_and(|promise| promise.at <= now) {
                continue;
            }
            let room = known.map_or(Room::Taken, |state| state.room(need, limit, used, mode, now));
            if room == Room::Lent && mode != Mode::Keep {
                lent.push(rule.id);
                continue;
            }
            // Where there is nobody else at all, trying beats waiting.
            let lone =
                lone.filter(|_| guess && limit.period == Period::MINUTE && limit.unit != Unit::Concurrent);
            let rests = |state: &State| {
                let tries = mode == Mode::Alone
                    || lone.is_some_and(|at| at <= now)
                    || state.has_turned(limit, now)
                    || state.is_half_way(used.saturating_add(need.at_least(limit.unit)));
                state.evidence.rest_until > now && !tries
            };
            let free = |state: &State| state.probe.is_none() && !rests(state);
            let probing = guess.then(|| (rule.id, known.is_none_or(free)));
            let turned = known.is_some_and(|state| rule.may_have_turned(state, now));
            let moved = known.is_some_and(|state| rule.may_have_moved(state, n, now));
            let probing = if turned || moved { Some((rule.id, true)) } else { probing };
            if limit.unit == Unit::Concurrent {
                met(Cause::Full, None, &name, probing, None);
            } else if n > amount && source != Source::Learned {
                met(Cause::NeverFits, None, &beyond, probing, None);
            } else {
                // What is kept for its answer is lent, so that its prompt is what has to fit.
                let prompt = need.at_least(limit.unit).saturating_add(safety(need.prompt_spread(limit.unit)));
                let least = match limit.unit {
                    Unit::Percent => 1,
                    _ if is_lent(limit.unit, source) => n.min(prompt).min(amount),
                    _ => n.min(amount),
                };
                let frees = known.and_then(|state| state.count.frees_at(limit, amount, least, arrived));
                let until = frees.map_or(now, |frees| frees.saturating_add(IN_TRANSIT));
                // A guess may be exceeded when its rest is over, which may be before that.
                let rest =
                    known.map(|state| state.rests_until(limit, now)).filter(|rest| guess && *rest > now);
                let until = rest.map_or(until, |rest| rest.min(until));
                let until = promise.map_or(until, |promise| promise.at.min(until));
                let until = known.map_or(until, |state| rule.may_turn_at(state, now).min(until));
                let until = known.map_or(until, |state| rule.may_have_room_at(state, now).min(until));
                let until = lone.map_or(until, |at| at.max(now.saturating_add(TRY)).min(until));
                let is_tried = known.is_some_and(|state| state.probe.is_some());
                let soon = Some(now.saturating_add(TRY)).filter(|_| room != Room::Taken || is_tried);
                let until = soon.map_or(until, |soon| soon.min(until));
                let own = (source == Source::Configured).then_some(safety(own));
                let short = known.zip(own).and_then(|(state, off)| state.short(need, limit, off, now));
                met(Cause::Window, Some(until), &name, probing, short);
            }
        }
        (found, lent)
    }
}

/// How long a denial lasts, for comparison.
fn rank(denial: &Denial) -> (u8, i64) {
    match (denial.cause, denial.until) {
        (Cause::NeverFits, _) => (3, 0),
        (Cause::Full, _) => (0, 0),
        (_, Some(until)) => (1, until.0),
        (_, None) => (2, 0),
    }
}
