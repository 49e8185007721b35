//! What clients have used of limits that are theirs, and not an upstream's: those of a client's key, of a `limit` group,
//! and of a `budget`. Each bucket (a client, a group, a header's value) has a ledger of its own (`quota`), so that counting,
//! windows and reservations are those of upstreams' limits. All of them are hard. Here is the lock, the clock, the bound
//! on the number of buckets, and what outlives the process.

mod by;
mod counted;
mod left;
mod refused;
mod rows;
#[cfg(test)]
mod tests;
mod ticket;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::SystemTime;

use crate::backend::size::Size;
use crate::config::settings;
use crate::quota::{Denial, Estimator, Ledger, Limit, LimitView, Mode, Moment, Need, Source};
use crate::state::{Saved, Source as RowSource, State};
pub use counted::Open;
pub use left::left_of;
pub use refused::{Words, key_refused};
use rows::{parts, row_key};
pub use ticket::Ticket;

/// No more buckets are counted apart: a header can have any value.
const MOST_BUCKETS: usize = 1_000;
/// No more owners are remembered of which nobody knows any more. More than anybody configures; it only bounds what a
/// program does that renames keys for ever.
const MOST_OWNERS: usize = 1_000;
/// After so many milliseconds a request that is out may be over.
const SOON: i64 = 1_000;
/// Who comes when there are as many shares this one. Its name is none that a client or a value can have.
const OTHERS: &str = "(others)";
/// The longest name of a bucket.
const LONGEST_NAME: usize = 64;

/// All tallies, by who they belong to. They outlive a change of the configuration.
pub struct Tallies {
    state: State,
    saved: Saved,
    known: Mutex<BTreeMap<String, Arc<Tally>>>,
}

/// The tallies of clients' keys, by the keys' ids. To have one changes nothing of it, whatever has changed meanwhile.
#[derive(Default)]
pub struct OfKeys(HashMap<String, Arc<Tally>>);

/// What is used of one list of limits, by bucket.
pub struct Tally {
    owner: Arc<str>,
    state: State,
    clock: fn() -> Moment,
    inner: Mutex<Inner>,
}

struct Inner {
    /// As configured, and as it was read.
    written: Vec<settings::Limit>,
    limits: Vec<Limit>,
    buckets: HashMap<Arc<str>, Ledger>,
    estimator: Estimator,
    /// When buckets of which nothing is used were last looked for.
    swept: i64,
    /// What their names are.
    counted: by::Counted,
}

/// How one bucket stands.
pub struct BucketView {
    /// Its name: a client's, a header's value.
    pub name: Arc<str>,
    /// Its limits.
    pub limits: Vec<LimitView>,
}

// === impl Tallies ===

impl Tallies {
    /// None yet; what they were when the process ended before is among `saved`.
    pub fn new(state: State, saved: &Saved) -> Self {
        // An id of a provider has no colon, an owner's name has.
        let own = saved.ledger.iter().filter(|row| row.provider.contains(':')).cloned().collect();
        Tallies { state, saved: Saved { ledger: own }, known: Mutex::default() }
    }

    /// Nothing is kept.
    pub fn nowhere() -> Self {
        Tallies::new(State::nowhere(), &Saved::default())
    }

    /// The tally of this owner under these limits. Where they are others than before, what was counted stays, as far as
    /// a limit of the same unit and window is among them.
    ///
    /// # Errors
    /// What of a limit cannot be read, which the check of the configuration rules out.
    pub fn of(&self, owner: &str, limits: &[settings::Limit]) -> Result<Arc<Tally>, String> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST_OWNERS && !known.contains_key(owner) {
            known.retain(|_, tally| Arc::strong_count(tally) > 1);
        }
        if let Some(tally) = known.get(owner) {
            tally.reconfigure(limits)?;
            return Ok(Arc::clone(tally));
        }
        let rows: Vec<(&str, &str)> = self.saved.rows_of(owner).collect();
        let tally = Tally::new(owner, limits, self.state.clone(), moment, &rows)?;
        known.insert(owner.to_owned(), Arc::clone(&tally));
        Ok(tally)
    }

    /// The tally of a group whose limits are counted by this, as the configuration writes it.
    ///
    /// # Errors
    /// As [`Tallies::of`].
    pub fn of_group(&self, owner: &str, by: &str, limits: &[settings::Limit]) -> Result<Arc<Tally>, String> {
        let tally = self.of(owner, limits)?;
        tally.count_by(by);
        Ok(tally)
    }

    /// The tallies of those clients' keys that have limits.
    ///
    /// # Errors
    /// As [`Tallies::of`].
    pub fn of_keys(&self, keys: &[settings::ClientKey]) -> Result<OfKeys, String> {
        let limited = keys.iter().filter(|key| !key.limits.is_empty());
        let tally = |key: &settings::ClientKey| {
            Ok((key.id.clone(), self.of(&format!("key:{}", key.id), &key.limits)?))
        };
        limited.map(tally).collect::<Result<_, _>>().map(OfKeys)
    }

    /// All that there are, by owner.
    pub fn all(&self) -> Vec<Arc<Tally>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

// === impl OfKeys ===

impl OfKeys {
    /// That of a client's key; `None`: it has no limits.
    pub fn get(&self, key: &str) -> Option<&Arc<Tally>> {
        self.0.get(key)
    }
}

// === impl Tally ===

impl Tally {
    /// A tally of these limits, as it was left.
    ///
    /// # Errors
    /// What of a limit cannot be read.
    pub(super) fn new(
        owner: &str,
        written: &[settings::Limit],
        state: State,
        clock: fn() -> Moment,
        rows: &[(&str, &str)],
    ) -> Result<Arc<Tally>, String> {
        let limits = all_parsed(owner, written)?;
        let now = clock();
        let mut estimator = Estimator::new();
        estimator.restore(rows);
        let mut of_buckets: BTreeMap<&str, Vec<(&str, &str)>> = BTreeMap::new();
        for (key, json) in rows {
            if let Some((bucket, key)) = parts(key) {
                of_buckets.entry(bucket).or_default().push((key, json));
            }
        }
        let mut buckets = HashMap::new();
        for (bucket, rows) in of_buckets.into_iter().take(MOST_BUCKETS) {
            let mut ledger = Ledger::new(limits.clone());
            ledger.restore(&rows, now);
            buckets.insert(Arc::from(bucket), ledger);
        }
        let tally = Arc::new(Tally {
            owner: Arc::from(owner),
            state,
            clock,
            inner: Mutex::new(Inner {
                written: written.to_vec(),
                limits,
                buckets,
                estimator,
                swept: i64::MIN,
                counted: by::Counted::restored(rows),
            }),
        });
        let source: Weak<dyn RowSource> = Arc::<Tally>::downgrade(&tally);
        tally.state.watch(&tally.owner, source);
        Ok(tally)
    }

    /// Whom it belongs to: `key:ide`, `limit:team`.
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// The moment it goes by.
    pub fn now(&self) -> Moment {
        (self.clock)()
    }

    /// Reserves what a request takes, counted under this name. `priced` says what it is in the unit of the limits: tokens
    /// are passed as they are, a budget makes money of them.
    ///
    /// # Errors
    /// What is in the way.
    pub fn admit(
        self: &Arc<Self>,
        name: &str,
        model: &Arc<str>,
        size: Size,
        priced: impl FnOnce(Need<'_>) -> Need<'_>,
    ) -> Result<Ticket, Denial> {
        let now = self.now();
        let mut inner = self.lock();
        let bucket = self.bucket(&mut inner, name, now);
        let Inner { buckets, estimator, limits, .. } = &mut *inner;
        let need = priced(size.need(estimator, model));
        let ledger = buckets.entry(Arc::clone(&bucket)).or_insert_with(|| Ledger::new(limits.clone()));
        let charge = ledger.admit(&need, Mode::Keep, now).or_else(|denial| {
            let learned = estimator.learned(model, size.bytes).is_some();
            match first(&need, &denial, learned, ledger) {
                Some(need) => ledger.admit(&need, Mode::Keep, now).map_err(|_| denial),
                None => Err(sooner(denial, ledger, now)),
            }
        })?;
        drop(inner);
        self.state.changed();
        Ok(Ticket { tally: Arc::clone(self), bucket, model: Arc::clone(model), size, charge: Some(charge) })
    }

    /// Whether a request would be admitted now or at another moment, and how much is left of what binds it most. Changes
    /// nothing.
    ///
    /// # Errors
    /// What is in the way.
    pub fn check(
        &self,
        name: &str,
        model: &str,
        size: Size,
        at: Option<Moment>,
        priced: impl FnOnce(Need<'_>) -> Need<'_>,
    ) -> Result<f64, Denial> {
        let now = at.unwrap_or_else(|| self.now());
        let inner = self.lock();
        let need = priced(size.need(&inner.estimator, model));
        let Some(ledger) = inner.ledger(name) else {
            return Ledger::new(inner.limits.clone()).check(&need, now).map(|()| 1.0);
        };
        let learned = inner.estimator.learned(model, size.bytes).is_some();
        let checked = ledger.check(&need, now).or_else(|denial| {
            let fits =
                first(&need, &denial, learned, ledger).is_some_and(|need| ledger.check(&need, now).is_ok());
            if fits { Ok(()) } else { Err(sooner(denial, ledger, now)) }
        });
        checked.map(|()| ledger.share_left(&need, now))
    }

    /// Whether this name is not counted for itself, as there are too many.
    pub fn is_crowded_out(&self, name: &str) -> bool {
        let inner = self.lock();
        inner.buckets.len() >= MOST_BUCKETS && !inner.buckets.contains_key(&*named(name))
    }

    /// How the limits stand under which this name is counted, and what a request is estimated to take of them: of its
    /// prompt and of its answer. Changes nothing.
    pub fn stands(
        &self,
        name: &str,
        model: &str,
        size: Size,
        at: Option<Moment>,
        priced: impl FnOnce(Need<'_>) -> Need<'_>,
    ) -> (Vec<LimitView>, (u64, u64)) {
        let now = at.unwrap_or_else(|| self.now());
        let inner = self.lock();
        let need = priced(size.need(&inner.estimator, model));
        let views = match inner.ledger(name) {
            Some(ledger) => ledger.views(now),
            None => Ledger::new(inner.limits.clone()).views(now),
        };
        (views, (need.input_tokens, need.output_tokens))
    }

    /// How the buckets stand, by name.
    pub fn views(&self) -> Vec<BucketView> {
        let now = self.now();
        let inner = self.lock();
        let mut views: Vec<BucketView> = inner
            .buckets
            .iter()
            .map(|(name, ledger)| BucketView { name: Arc::clone(name), limits: ledger.views(now) })
            .collect();
        views.sort_by(|one, other| one.name.cmp(&other.name));
        views
    }

    /// Where this name is counted. When there are too many, those of which nothing is used make room, and if there are
    /// none, who is new shares one with others: that can only be stricter.
    fn bucket(&self, inner: &mut Inner, name: &str, now: Moment) -> Arc<str> {
        const SWEEP: i64 = 1_000;
        let name = named(name);
        if inner.buckets.contains_key(&*name) {
            return name;
        }
        if inner.buckets.len() >= MOST_BUCKETS && now.0.saturating_sub(inner.swept) >= SWEEP {
            inner.swept = now.0;
            let mut gone = Vec::new();
            inner.buckets.retain(|name, ledger| {
                let used = ledger.views(now).iter().any(|view| view.used > 0);
                if !used {
                    gone.extend(ledger.rows().into_iter().map(|(key, _)| row_key(name, &key)));
                }
                used
            });
            self.state.forget(&self.owner, &gone);
        }
        if inner.buckets.len() >= MOST_BUCKETS { Arc::from(OTHERS) } else { name }
    }

    /// Puts these limits in place of those there were. What was counted stays, and what is in flight goes on counting.
    fn reconfigure(&self, written: &[settings::Limit]) -> Result<(), String> {
        let now = self.now();
        let mut inner = self.lock();
        if inner.written == written {
            return Ok(());
        }
        let limits = all_parsed(&self.owner, written)?;
        inner.buckets.values_mut().for_each(|ledger| ledger.reconfigure(limits.clone(), now));
        (inner.written, inner.limits) = (written.to_vec(), limits);
        drop(inner);
        self.state.changed();
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing in there can be half-changed by a panic that would matter more than going on.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The same request with no more for its answer than is left. What is guessed of answers of which none was seen yet keeps
/// nobody out for a whole window, since nothing would ever correct it: the first one is let in alone, and shows how long
/// they are.
fn first<'n>(need: &Need<'n>, denial: &Denial, learned: bool, ledger: &Ledger) -> Option<Need<'n>> {
    let short = denial.short.filter(|short| !short.bounded && !short.is_reserved())?;
    let output_tokens = short.left.saturating_sub(short.prompt);
    (!learned && ledger.is_idle() && output_tokens > 0).then_some(Need { output_tokens, ..*need })
}

/// A request that does not bound its answer may fit as soon as one that is out is over: what that took shows how long
/// answers are, and the rest of what it reserved is free.
fn sooner(denial: Denial, ledger: &Ledger, now: Moment) -> Denial {
    let may_fit = denial.short.is_some_and(|short| !short.bounded && short.prompt <= short.left);
    let until = denial.until.filter(|_| may_fit && !ledger.is_idle());
    match until {
        Some(until) => Denial { until: Some(Moment(until.0.min(now.0.saturating_add(SOON)))), ..denial },
        None => denial,
    }
}

fn all_parsed(owner: &str, written: &[settings::Limit]) -> Result<Vec<Limit>, String> {
    let limits = written.iter().map(parsed).collect::<Result<Vec<_>, _>>();
    limits.map_err(|problem| format!("limits of `{owner}`: {problem}"))
}

fn parsed(written: &settings::Limit) -> Result<Limit, String> {
    Limit::parse(
        &written.unit,
        written.amount,
        written.per.as_deref(),
        written.models.as_deref(),
        true,
        written.window.as_deref(),
        written.time_zone.as_deref(),
        Source::Configured,
    )
}

/// A name as a bucket bears it: bounded, and without what rows or terminals could take for something else. Two long ones
/// that begin alike stay two.
fn named(name: &str) -> Arc<str> {
    let plain = |c: char| !c.is_control() && c != '|';
    if name.len() <= LONGEST_NAME && name.chars().all(plain) && name != OTHERS {
        return Arc::from(name);
    }
    let begin: String = name.chars().filter(|c| plain(*c)).take(LONGEST_NAME / 4).collect();
    let hash = super::sticky::key(None, &[name.as_bytes()]);
    Arc::from(format!("{begin}~{hash:016x}"))
}

/// Wall-clock time: windows follow it, and counts outlive the process.
fn moment() -> Moment {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Moment(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

// === impl Inner ===

impl Inner {
    /// Where this name is counted, if anything was.
    fn ledger(&self, name: &str) -> Option<&Ledger> {
        let others = || (self.buckets.len() >= MOST_BUCKETS).then(|| self.buckets.get(OTHERS)).flatten();
        self.buckets.get(&*named(name)).or_else(others)
    }

    fn learn(&mut self, model: &str, size: Size, input: Option<u64>, output: Option<u64>) {
        // Of what cost nothing nothing is learned.
        let answer = output.filter(|output| *output > 0).map(|output| output.div_ceil(size.answers.max(1)));
        let prompt = input.filter(|input| *input > 0 && size.media == 0);
        self.estimator.learn(model, size.bytes, prompt, answer);
    }
}
