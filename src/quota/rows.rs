//! The ledger as others see it: views for people and metrics, and rows that outlive the process. Pure.

use serde::{Deserialize, Serialize};

use super::Moment;
use super::course::{Course, Way};
use super::evidence::LONGEST_REST;
use super::learn::{MOST_BLOCKS, MOST_STATED, any_model};
use super::ledger::{LONGEST, Ledger};
use super::limit::{Limit, Period, Scope, Source, Unit, Window};
use super::said::RefusalClass;
use super::standing::{Block, Evidence, MOST_MODELS, Rule, State};
use super::window::{Count, DAY};

/// How one limit stands.
#[derive(Debug, Clone, PartialEq)]
pub struct LimitView {
    /// `account`, or the glob that it is for.
    pub scope: String,
    /// The model, where each has it for itself.
    pub model: Option<String>,
    /// What is counted.
    pub unit: Unit,
    /// `minute`, `5h`, `request`; empty for requests at a time.
    pub window: String,
    /// How demuxai knows.
    pub source: Source,
    /// The limit.
    pub amount: u64,
    /// What of it is used, or reserved.
    pub used: u64,
    /// When all of it is free again, if something is used.
    pub resets_at: Option<Moment>,
    /// When it was learned or stated.
    pub since: Option<Moment>,
}

/// A scope that is not asked for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockView {
    /// The model; `None`: the whole account.
    pub model: Option<String>,
    /// Until when.
    pub until: Moment,
    /// Why.
    pub class: RefusalClass,
    /// The upstream did not say how long.
    pub guess: bool,
}

/// A limit's state as a row.
#[derive(Serialize, Deserialize)]
pub(super) struct Saved {
    pub(super) count: Count,
    pub(super) amount: u64,
    pub(super) source: Source,
    pub(super) since: Option<i64>,
    #[serde(default)]
    pub(super) evidence: Evidence,
    /// What was seen of how its window moves, where that was not told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    course: Option<Course>,
    /// What is needed to make the limit again, where neither configuration nor catalogue has it.
    #[serde(default)]
    own: Option<Own>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Own {
    unit: Unit,
    period: Period,
    window: String,
    each: bool,
    /// It was shown how its minute moves.
    #[serde(default)]
    shown: bool,
    /// The ways in which its window may move.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    ways: Vec<Way>,
    /// Its length is a guess.
    #[serde(default)]
    unnamed: bool,
}

// === impl Ledger ===

impl Ledger {
    /// All limits that something is known of, or that are for the whole account.
    pub fn views(&self, now: Moment) -> Vec<LimitView> {
        let at = self.steady(now);
        let mut views = Vec::new();
        for rule in &self.rules {
            let limit = &rule.limit;
            let view = |model: Option<&str>, state: &State| LimitView {
                scope: limit.scope_word().to_owned(),
                model: model.filter(|model| !model.is_empty()).map(str::to_owned),
                unit: limit.unit,
                window: if limit.unit == Unit::Concurrent { String::new() } else { limit.period.word() },
                source: state.source,
                amount: state.amount,
                used: state.count.used(limit, state.amount, at),
                resets_at: state.count.whole_at(limit, state.amount, at).map(Moment),
                since: state.since.map(Moment),
            };
            if rule.states.is_empty() {
                views.push(view(None, &State::new(limit, at)));
            }
            let mut states: Vec<_> = rule.states.iter().collect();
            states.sort_by_key(|(key, _)| key.as_str());
            views.extend(states.into_iter().map(|(key, state)| view(Some(key), state)));
        }
        views
    }

    /// The scopes that are put off now.
    pub fn blocks(&self, now: Moment) -> Vec<BlockView> {
        let at = self.steady(now);
        let blocks = self.blocks.iter().filter(|(_, block)| block.until > at);
        blocks
            .map(|(scope, block)| BlockView {
                model: (!scope.is_empty()).then(|| scope.clone()),
                until: Moment(block.until),
                class: block.class,
                guess: block.guess,
            })
            .collect()
    }

    /// The rows that changed since the last call.
    pub fn dirty(&mut self) -> Vec<(String, String)> {
        // A row that is no more says nothing.
        let mut rows: Vec<_> = self.gone.drain(..).map(|key| (key, "null".to_owned())).collect();
        for rule in &mut self.rules {
            let own = own_of(rule);
            let limit = &rule.limit;
            for (key, state) in rule.states.iter_mut().filter(|(_, state)| state.dirty) {
                state.dirty = false;
                rows.extend(row(limit, own.as_ref(), key, state));
            }
        }
        for (scope, block) in self.blocks.iter_mut().filter(|(_, block)| block.dirty) {
            block.dirty = false;
            rows.extend(block_row(scope, block));
        }
        rows
    }

    /// All rows.
    pub fn rows(&self) -> Vec<(String, String)> {
        let of_rules = self.rules.iter().flat_map(|rule| {
            let own = own_of(rule);
            rule.states.iter().filter_map(move |(key, state)| row(&rule.limit, own.as_ref(), key, state))
        });
        of_rules.chain(self.blocks.iter().filter_map(|(scope, block)| block_row(scope, block))).collect()
    }

    /// Takes over what was known before. What was reserved then counts as used. Rows that mean nothing are left out.
    pub fn restore(&mut self, rows: &[(&str, &str)], now: Moment) {
        let at = self.heed(now);
        for (key, json) in rows {
            if let Some(scope) = key.strip_prefix("block:") {
                if let Ok(block) = serde_json::from_str::<Block>(json)
                    && block.until > at
                    && self.blocks.len() < MOST_BLOCKS
                {
                    let until = block.until.min(at.saturating_add(LONGEST));
                    self.blocks.insert(scope.to_owned(), Block { until, ..block });
                }
                continue;
            }
            let Some(name) = key.strip_prefix("limit:") else { continue };
            let Ok(saved) = serde_json::from_str::<Saved>(json) else { continue };
            self.restore_limit(name, saved, at);
        }
    }

    pub(super) fn restore_limit(&mut self, name: &str, saved: Saved, at: i64) {
        let Some((name, key)) = name.split_once('|') else { return };
        let known = self.rules.iter().position(|rule| name_of(&rule.limit) == name);
        let index = match (known, &saved.own) {
            (Some(index), _) => index,
            (None, Some(own)) => match remade(own, saved.amount, saved.source) {
                Some(limit) if name_of(&limit) == name && self.rules.len() < MOST_STATED => {
                    self.add_rule(limit)
                }
                _ => return,
            },
            (None, None) => return,
        };
        let Some(rule) = self.rules.get_mut(index) else { return };
        if let Some(own) = saved.own {
            rule.shown |= own.shown;
            if rule.states.is_empty() {
                (rule.ways, rule.unnamed) = (own.ways, own.unnamed);
            }
        }
        if rule.states.len() >= MOST_MODELS {
            return;
        }
        if matches!(saved.count, Count::Bucket { .. }) && rule.limit.source.is_guess() {
            // The upstream had stated that what was taken for a window refills.
            rule.refills(at);
        }
        let mut state = State::new(&rule.limit, at);
        if saved.count.fits(&rule.limit) && rule.limit.unit != Unit::Concurrent {
            state.count = saved.count;
            // A clock that was ahead when it was written must not keep it for ever.
            state.count.not_after(&rule.limit, at);
        }
        // What the configuration says now is what counts.
        let learned = saved.source != Source::Catalogue;
        if rule.limit.source != Source::Configured && (learned || saved.amount == state.amount) {
            state.amount = saved.amount;
            state.source = saved.source;
            state.since = saved.since;
        }
        if rule.limit.source != Source::Configured {
            state.evidence = saved.evidence;
            state.course = saved.course.unwrap_or_default();
            let evidence = &mut state.evidence;
            evidence.rest_until = evidence.rest_until.min(at.saturating_add(LONGEST_REST));
            evidence.strict_until = evidence.strict_until.min(at.saturating_add(DAY));
        }
        rule.states.insert(key.to_owned(), state);
    }

    /// Forgets what was learned, stated and put off, of one model or of all; what was counted under configured limits
    /// and guesses stays. Gives the keys of rows that are no more.
    pub fn forget_learned(&mut self, model: Option<&str>) -> Vec<String> {
        let mut gone = Vec::new();
        let meant = |key: &str| model.is_none_or(|model| key == model);
        self.rules.retain_mut(|rule| {
            let own = rule.limit.source.is_own();
            let limit = &rule.limit;
            rule.states.retain(|key, state| {
                if !meant(key) && model.is_some() {
                    return true;
                }
                if own {
                    gone.push(key_of(limit, key));
                    return false;
                }
                if state.source != limit.source {
                    state.amount = limit.amount;
                    state.source = limit.source;
                    state.since = None;
                }
                // What refusals taught of a guess is learned, too, even where its amount is as it was.
                state.evidence = Evidence::default();
                state.promise = None;
                state.probe = None;
                state.dirty = true;
                true
            });
            !own || !rule.states.is_empty()
        });
        self.blocks.retain(|scope, _| {
            let goes = meant(scope);
            if goes {
                gone.push(format!("block:{scope}"));
            }
            !goes
        });
        gone
    }
}

pub(super) fn key_of(limit: &Limit, key: &str) -> String {
    format!("limit:{}|{key}", name_of(limit))
}

/// A limit's name, the same across restarts and whatever the order of the configuration.
pub(super) fn name_of(limit: &Limit) -> String {
    let scope = match &limit.scope {
        Scope::Account => "account".to_owned(),
        Scope::Pool(glob) => format!("pool {}", glob.text),
        Scope::Each(glob) => format!("each {}", glob.text),
    };
    let origin = match limit.source {
        Source::Configured => "own",
        Source::Catalogue => "guess",
        _ => "said",
    };
    format!("{origin} {} {} {scope}", limit.unit.word(), limit.period.word()).replace('|', "/")
}

fn window_word(window: &Window) -> &'static str {
    match window {
        Window::Rolling => "rolling",
        Window::Fixed => "fixed",
        Window::Bucket => "bucket",
        Window::Session => "session",
        Window::Calendar(_) => "calendar",
    }
}

fn own_of(rule: &Rule) -> Option<Own> {
    let limit = &rule.limit;
    limit.source.is_own().then(|| Own {
        unit: limit.unit,
        period: limit.period,
        window: window_word(&limit.window).to_owned(),
        each: matches!(limit.scope, Scope::Each(_)),
        shown: rule.shown,
        ways: rule.ways.clone(),
        unnamed: rule.unnamed,
    })
}

fn row(limit: &Limit, own: Option<&Own>, key: &str, state: &State) -> Option<(String, String)> {
    let saved = Saved {
        count: state.count.clone(),
        amount: state.amount,
        source: state.source,
        since: state.since,
        evidence: state.evidence,
        course: own.filter(|own| !own.ways.is_empty()).map(|_| state.course.clone()),
        own: own.cloned(),
    };
    Some((key_of(limit, key), serde_json::to_string(&saved).ok()?))
}

fn block_row(scope: &str, block: &Block) -> Option<(String, String)> {
    Some((format!("block:{scope}"), serde_json::to_string(block).ok()?))
}

fn remade(own: &Own, amount: u64, source: Source) -> Option<Limit> {
    let window = match own.window.as_str() {
        "calendar" => own.ways.first()?.window(own.period)?,
        "fixed" => Window::Fixed,
        "bucket" => Window::Bucket,
        "session" => Window::Session,
        _ => Window::Rolling,
    };
    let scope = if own.each { any_model()? } else { Scope::Account };
    Some(Limit { unit: own.unit, amount, period: own.period, window, scope, source })
}

#[cfg(test)]
mod tests;
