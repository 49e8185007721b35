//! What a provider would do with a call now, and why: which model is meant, what is known of the upstream, which limit
//! binds. Nothing is admitted or sent.

use std::sync::Arc;
use std::time::Instant;

use super::super::capacity::Insight;
use super::super::models::{FRESH, Lookup};
use super::super::prepare::missing_route;
use super::super::vitals::Health;
use super::{Provider, Unoffered, down};
use crate::backend::explain::{Account, Now, moment};
use crate::backend::size::Size;
use crate::backend::{Backend, Call};
use crate::error::{ErrorKind, ProxyError};

impl Provider {
    pub(super) fn explain(&self, call: &Call) -> Account {
        let mut account = Account {
            kind: self.about.config.kind.clone(),
            model: Arc::clone(&call.model),
            why: Vec::new(),
            now: Now::Sends,
            sure: true,
        };
        // Whoever is above asks somebody else; without anybody there it is tried in more cases.
        let direct = call.round.is_none();
        if let Err(now) = self.meant(call, direct, &mut account) {
            account.now = now;
            return account;
        }
        let there = Call { model: Arc::clone(&account.model), ..call.clone() };
        if let Some(now) = self.inability(&there, direct) {
            account.now = now;
            return account;
        }
        let down = self.health(&mut account);
        let model = Arc::clone(&account.model);
        let insight = self.vitals.capacity.insight(&model, Size::of(&call.request), call.moment());
        account.now = settled(&insight, direct, down, &mut account);
        account
    }

    /// What a call would fail with now for want of an upstream that answers, or of capacity.
    pub(super) fn ailment(&self, call: &Call) -> Option<ProxyError> {
        let (id, model) = (&self.about.id, self.offered(&call.model).ok()?);
        if self.usable_or_unknown() {
            return self.vitals.capacity.insight(&model, Size::of(&call.request), call.moment()).denial;
        }
        let health = self.vitals.health();
        let kind = match health {
            Health::Unreachable => ErrorKind::Connect,
            Health::Refused => ErrorKind::UpstreamAuthentication,
            Health::Retired => ErrorKind::ProviderRetired,
            Health::Up | Health::Unknown => return Some(down(id)),
        };
        let text = self.vitals.remark().unwrap_or_else(|| format!("`{id}` is {}", health.label()));
        Some(ProxyError::new(kind, text).at(id))
    }

    /// The model that is meant, in the account; or why none is.
    fn meant(&self, call: &Call, direct: bool, account: &mut Account) -> Result<(), Now> {
        let asked = &call.model;
        let models = self.vitals.models.load();
        match self.offered(asked) {
            Ok(model) => {
                account.why.push(match models.find(&model) {
                    Some(_) if model == *asked => format!("`{asked}` is in its list"),
                    Some(_) => format!("`{asked}` is `{model}` in its list"),
                    None if models.fetched().is_none() => {
                        format!("no list of its models is known: `{asked}` is sent as it is")
                    }
                    None => {
                        format!("`{asked}` is not in its list, which is not complete: it is sent as it is")
                    }
                });
                account.model = model;
                Ok(())
            }
            Err(Unoffered { reason, .. }) if !direct => Err(Now::cannot(ErrorKind::Unsupported, reason)),
            Err(Unoffered { reason, absent }) => match models.look_up(asked, Instant::now(), FRESH) {
                Lookup::Listed(_) | Lookup::Unlisted => Ok(()),
                Lookup::Stale => {
                    account.sure = false;
                    let text = format!("{reason}; before it is denied, the list is fetched anew");
                    Err(Now::cannot(ErrorKind::ModelNotFound, text))
                }
                Lookup::Absent | Lookup::Excluded if absent => {
                    Err(Now::cannot(ErrorKind::ModelNotFound, reason))
                }
                Lookup::Absent | Lookup::Excluded => Err(Now::cannot(ErrorKind::InvalidRequest, reason)),
            },
        }
    }

    /// Why it cannot serve the call at all, whatever its capacity.
    fn inability(&self, call: &Call, direct: bool) -> Option<Now> {
        let id = self.id();
        if !direct {
            let reason = self.outlook(call).err()?;
            return Some(Now::cannot(ErrorKind::Unsupported, reason));
        }
        let without_route = || {
            let what = missing_route(&call.request, self.about.adapter, &self.about.facts)?;
            Some(ProxyError::new(ErrorKind::Unsupported, format!("`{id}` {what}")).at(id))
        };
        self.objection(call).or_else(without_route).map(|error| Now::Cannot(Box::new(error)))
    }

    /// What is known of the upstream; and what a group would fail with there that has others to ask before those that
    /// are down.
    fn health(&self, account: &mut Account) -> Option<ProxyError> {
        let health = self.vitals.health();
        let remark = self.vitals.remark().map_or_else(String::new, |remark| format!(": {remark}"));
        match health {
            Health::Up => account.why.push("it answers".to_owned()),
            Health::Unknown if self.is_at_rest() => {}
            Health::Unknown => account.why.push("nothing was heard of it yet".to_owned()),
            other => {
                account.why.push(format!("it is {}{remark}", other.label()));
                account.sure = false;
            }
        }
        let id = self.id();
        let down = || ProxyError::new(ErrorKind::Connect, format!("`{id}` is {}", health.label())).at(id);
        (!self.usable_or_unknown()).then(down)
    }
}

/// What an account's standing comes to.
fn settled(insight: &Insight, direct: bool, down: Option<ProxyError>, account: &mut Account) -> Now {
    let (prompt, answer) = insight.estimate;
    account.why.push(format!("estimated at {prompt} tokens for the prompt and {answer} for the answer"));
    if insight.in_flight > 0 || insight.waiting > 0 {
        account.why.push(format!("{} in flight, {} wait for a place", insight.in_flight, insight.waiting));
    }
    let denial = if direct { insight.denied_alone.as_ref() } else { insight.denial.as_ref() };
    if let Some(error) = denial {
        let until = insight.until.map_or_else(String::new, |until| format!(", until {}", moment(until)));
        account.why.push(format!("{}{until}", error.message));
        // A place may be free before the wait is over; then it answers after all.
        account.sure &= error.kind != ErrorKind::Overloaded;
        let last_resort = insight.last_resort && !direct;
        return Now::Later { error: Box::new(error.clone()), until: insight.until, last_resort };
    }
    match &insight.tightest {
        Some((limit, Some(at))) => account.why.push(format!("{limit}, whole again at {}", moment(at.0))),
        Some((limit, None)) => account.why.push(limit.clone()),
        None => account.why.push("no limit of it is known".to_owned()),
    }
    if let Some(error) = insight.denial.as_ref().filter(|_| direct) {
        account.why.push(format!("{}, but there is nobody else: it is tried all the same", error.message));
    }
    match down.filter(|_| !direct) {
        Some(error) => Now::Later { error: Box::new(error), until: None, last_resort: true },
        None => Now::Sends,
    }
}
