//! What would become of a call now, without any of it: no turn of a strategy is spent, nothing is reserved, nothing is
//! sent. Each backend tells its own part ([`Account`], [`Decision`]); here they are put together, down the graph, into
//! [`Step`]s that a person can read and a [`Course`] that a test can compare with what a real request then does.
//!
//! A course is what happens if every upstream that is asked answers: who would be next if it does not is among the steps.

use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

use super::trail::Trail;
use super::virtual_model::{Below, VirtualModel};
use super::{Backend, Call, Guesses, Outlook, Round};
use crate::error::{ErrorKind, ProxyError};
use crate::quota::Moment;

/// No configuration nests so deep; what did would not be followed without end.
const MOST_DEPTH: usize = 32;

/// How a backend that hands nothing on would treat a call.
#[derive(Debug, Clone, PartialEq)]
pub struct Account {
    /// Its type, for people.
    pub kind: String,
    /// The model that it would ask for.
    pub model: Arc<str>,
    /// What was looked at, and what it came to, in sentences.
    pub why: Vec<String>,
    /// What it would do.
    pub now: Now,
    /// Nothing but its upstream's own answer can make this untrue.
    pub sure: bool,
}

/// What a backend would do with a call now.
#[derive(Debug, Clone, PartialEq)]
pub enum Now {
    /// Send it.
    Sends,
    /// It has no capacity.
    Later {
        /// What it fails with.
        error: Box<ProxyError>,
        /// When it has, in milliseconds since the epoch, where that is known.
        until: Option<i64>,
        /// It is tried all the same where nobody else can answer.
        last_resort: bool,
    },
    /// It cannot serve it at all: what it fails with.
    Cannot(Box<ProxyError>),
}

/// What a virtual model would do with a call.
pub struct Decision<'a> {
    /// What decides, in sentences.
    pub why: Vec<String>,
    /// Those below, in the order of the configuration.
    pub ways: Vec<Way<'a>>,
    /// Of a router: which of its routes is taken, counted from 1; `Some(None)`: none.
    pub route: Option<Option<usize>>,
    /// What it says itself, so that nobody below is asked.
    pub own: Option<Own>,
    /// It hands the call on to one alone, whose answer or failure is then its own; else it asks one after the other.
    pub hands_on: bool,
    /// Why it is told of itself on the way, as `x-demuxai-attempts` has it, though it hands the call on.
    pub hop: Option<&'static str>,
    /// Nothing but the upstreams' own answers can make this untrue.
    pub sure: bool,
}

/// What a virtual model says to a call by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Own {
    /// An answer, of this model.
    Answers(Arc<str>),
    /// One that it makes, in its own name, of what those say whom it consults; unless somebody who is asked answers.
    Combines {
        /// The model that it is told to be of. `None`: the one whose answer is taken.
        model: Option<Arc<str>>,
        /// Its head goes out with the first word of theirs, before anything is to be told of them.
        at_once: bool,
    },
    /// A failure.
    Fails {
        /// As a client would be told.
        error: Box<ProxyError>,
        /// When it would not fail any more, in milliseconds since the epoch, where that is known.
        until: Option<i64>,
    },
}

/// One backend below a virtual model, and whether it is asked.
pub struct Way<'a> {
    /// As it is configured.
    pub label: &'a str,
    /// Who it is.
    pub backend: &'a dyn Backend,
    /// The call as it would get it.
    pub call: Call,
    /// Whether, and as which one, it is asked.
    pub turn: Turn,
    /// Why so.
    pub why: Option<String>,
    /// The conditions on the way to it.
    pub conditions: Vec<Told>,
}

/// Whether one of those below is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// As the first one, the second one …, counted from 1.
    Asked(usize),
    /// The same, and what it says is not the answer, but what another one makes it of.
    Consulted(usize),
    /// The same, and it has no place among those that the answer names.
    Judges(usize),
    /// The others are asked without it, since it would fail so.
    Lacks(&'static str),
    /// It cannot serve this request.
    Skipped,
    /// Another way is taken.
    Passed,
}

/// A condition, and whether it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Told {
    /// The condition in words.
    pub condition: String,
    /// Whether it holds; `None`: nobody looked.
    pub holds: Option<bool>,
    /// What was seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seen: Option<String>,
}

/// One backend in an explanation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Step {
    /// Its id.
    pub id: String,
    /// `provider`, `group` or `router`.
    pub section: &'static str,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// The model that is asked of it; empty: none was named.
    pub model: String,
    /// `sends`, `later`, `cannot`, `hands_on`, `combines` or `answers`, which is by itself.
    pub state: &'static str,
    /// When it can, where it cannot now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// Why, in sentences.
    pub why: Vec<String>,
    /// Those below it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ways: Vec<Branch>,
}

/// One way from a step to the next.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Branch {
    /// As it is configured.
    pub to: String,
    /// `asked`, `skipped` or `passed`.
    pub turn: &'static str,
    /// As which one it is asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<usize>,
    /// Why so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The conditions on the way.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Told>,
    /// What happens there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<Step>,
}

/// What becomes of a request if every upstream that is asked answers.
#[derive(Debug, Clone, PartialEq)]
pub struct Course {
    /// Those that are passed over on the way, as `x-demuxai-attempts` tells them: id and label.
    pub hops: Vec<(String, &'static str)>,
    /// The routers on the way, and which of their routes were taken.
    pub routes: Vec<(String, Option<usize>)>,
    /// How it ends.
    pub end: End,
    /// Nothing but the upstreams' own answers can make this untrue.
    pub sure: bool,
}

/// How a course ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// This one answers.
    Answers {
        /// Its id.
        by: String,
        /// The model there; empty: that is not known.
        model: String,
    },
    /// Nobody does.
    Fails {
        /// As a client would be told.
        error: Box<ProxyError>,
        /// When somebody would, in milliseconds since the epoch, where that is known.
        until: Option<i64>,
        /// Who would be tried all the same where nobody else can answer, and with which model.
        last_resort: Option<(String, String)>,
    },
}

/// Finds a virtual model by its id.
pub type Find<'a> = &'a dyn Fn(&str) -> Option<Arc<dyn VirtualModel>>;

/// Walks from a backend down to those that would answer.
pub fn explain(backend: &dyn Backend, call: &Call, find: Find<'_>) -> (Step, Course) {
    walk(backend, call, find, 0)
}

fn walk(backend: &dyn Backend, call: &Call, find: Find<'_>, depth: usize) -> (Step, Course) {
    match find(backend.id()).filter(|_| depth < MOST_DEPTH) {
        Some(found) => hands_on(&*found, call, find, depth),
        None => answers(backend, call),
    }
}

fn answers(backend: &dyn Backend, call: &Call) -> (Step, Course) {
    let Account { kind, model, mut why, now, sure } = backend.account(call);
    let by = || (backend.id().to_owned(), model.to_string());
    let (state, until, end) = match now {
        Now::Sends => {
            let (by, model) = by();
            ("sends", None, End::Answers { by, model })
        }
        Now::Later { error, until, last_resort } => {
            let end = End::Fails { error, until, last_resort: last_resort.then(by) };
            ("later", until.map(moment), end)
        }
        Now::Cannot(error) => {
            why.push(error.message.clone());
            ("cannot", None, End::Fails { error, until: None, last_resort: None })
        }
    };
    let step = Step {
        id: backend.id().to_owned(),
        section: "provider",
        kind,
        model: model.to_string(),
        state,
        until,
        why,
        ways: Vec::new(),
    };
    (step, Course { hops: Vec::new(), routes: Vec::new(), end, sure })
}

fn hands_on(found: &dyn VirtualModel, call: &Call, find: Find<'_>, depth: usize) -> (Step, Course) {
    let about = found.about();
    let decision = found.decide(call);
    let id = about.id.to_string();
    let mut course = Course {
        hops: Vec::new(),
        routes: decision.route.iter().map(|route| (id.clone(), *route)).collect(),
        end: ended(&id, decision.own.as_ref()),
        sure: decision.sure,
    };
    course.hops.extend(decision.hop.map(|label| (id.clone(), label)));
    let (mut asked, mut consulted, mut trail) = (Vec::new(), Vec::new(), Trail::default());
    let mut ways = Vec::new();
    for way in &decision.ways {
        let below = |way: &Way<'_>| walk(way.backend, &way.call, find, depth + 1);
        let (turn, order, step) = match way.turn {
            Turn::Asked(order) => {
                let (step, below) = below(way);
                asked.push((order, way.label, below));
                ("asked", Some(order), Some(step))
            }
            Turn::Consulted(order) => {
                let (step, below) = below(way);
                consulted.push((order, below.told_as(way.label)));
                ("asked", Some(order), Some(step))
            }
            Turn::Judges(order) => ("asked", Some(order), Some(below(way).0)),
            Turn::Skipped => {
                course.hops.push((way.label.to_owned(), "skipped"));
                trail.skipped(&Arc::from(way.label), way.why.clone().unwrap_or_default());
                ("skipped", None, Some(below(way).0))
            }
            Turn::Lacks(label) => {
                consulted.push((0, vec![(way.label.to_owned(), label)]));
                ("passed", None, Some(below(way).0))
            }
            Turn::Passed => ("passed", None, None),
        };
        ways.push(Branch {
            to: way.label.to_owned(),
            turn,
            order,
            why: way.why.clone(),
            conditions: way.conditions.clone(),
            step,
        });
    }
    asked.sort_by_key(|(order, ..)| *order);
    consulted.sort_by_key(|(order, _)| *order);
    if !matches!(decision.own, Some(Own::Combines { at_once: true, .. })) {
        course.hops.extend(consulted.into_iter().flat_map(|(_, hops)| hops));
    }
    if decision.own.is_none() && !decision.hands_on {
        course.end = End::Fails { error: Box::new(trail.exhausted(&id)), until: None, last_resort: None };
    }
    follow(&mut course, &id, asked, trail, decision.hands_on, call.round.is_none());
    let (state, until, fails) = match decision.own {
        None => ("hands_on", None, None),
        Some(Own::Answers(_)) => ("answers", None, None),
        Some(Own::Combines { .. }) => ("combines", None, None),
        Some(Own::Fails { error, until: None }) => ("cannot", None, Some(error.message)),
        Some(Own::Fails { error, until }) => ("later", until.map(moment), Some(error.message)),
    };
    let step = Step {
        id,
        section: about.section.word(),
        kind: about.kind.to_owned(),
        model: call.model.to_string(),
        state,
        until,
        why: decision.why.into_iter().chain(fails).collect(),
        ways,
    };
    (step, course)
}

/// How it ends at a virtual model if nobody below answers.
fn ended(id: &str, own: Option<&Own>) -> End {
    match own {
        Some(Own::Answers(model)) => End::Answers { by: id.to_owned(), model: model.to_string() },
        Some(Own::Combines { model, .. }) => {
            End::Answers { by: id.to_owned(), model: model.as_deref().unwrap_or_default().to_owned() }
        }
        Some(Own::Fails { error, until }) => {
            End::Fails { error: error.clone(), until: *until, last_resort: None }
        }
        None => {
            let text = format!("none of those below `{id}` can serve this request");
            let error = Box::new(ProxyError::new(ErrorKind::Unsupported, text));
            End::Fails { error, until: None, last_resort: None }
        }
    }
}

/// Asks one after the other until one answers. Where nobody does and nobody above has others to ask, those that are
/// tried all the same come to it. Who hands on to one alone fails as that one does.
fn follow(
    course: &mut Course,
    id: &str,
    asked: Vec<(usize, &str, Course)>,
    mut trail: Trail,
    hands_on: bool,
    is_top: bool,
) {
    let combines = matches!(course.end, End::Answers { .. });
    let mut resort: Option<(String, String)> = None;
    let mut soonest: Option<i64> = None;
    for (_, label, below) in asked {
        let told = if hands_on { below.hops.clone() } else { below.told_as(label) };
        course.sure &= below.sure;
        course.routes.extend(below.routes);
        match below.end {
            End::Answers { .. } => {
                course.hops.extend(below.hops);
                course.end = below.end;
                return;
            }
            End::Fails { error, until, last_resort } => {
                course.hops.extend(told);
                resort = resort.or(last_resort);
                soonest = soonest.into_iter().chain(until).min();
                // Whether that is a failure to go on after is the group's `fail_on`.
                course.sure &= hands_on || error.kind != ErrorKind::Static;
                trail.failed(&Arc::from(label), &error);
                let error = if hands_on { error } else { Box::new(trail.exhausted(id)) };
                if !combines {
                    course.end = End::Fails { error, until: soonest, last_resort: resort.clone() };
                }
            }
        }
    }
    if let (Some((by, model)), true, false, false) = (resort, is_top, hands_on, combines) {
        course.end = End::Answers { by, model };
        course.sure = false;
    }
}

/// A moment as people and programs read it.
pub fn moment(milliseconds: i64) -> String {
    let at = Timestamp::from_millisecond(milliseconds).unwrap_or_default();
    at.round(jiff::Unit::Second).unwrap_or(at).to_string()
}

// === impl Account ===

impl Account {
    /// As far as a backend's outlook tells.
    pub fn of(outlook: Result<Outlook, String>, call: &Call) -> Account {
        let account = |model: &Arc<str>, now| Account {
            kind: "backend".to_owned(),
            model: Arc::clone(model),
            why: Vec::new(),
            now,
            sure: true,
        };
        use super::strategy::Availability;
        match outlook {
            Ok(Outlook { model, availability: Availability::Now, .. }) => account(&model, Now::Sends),
            Ok(Outlook { model, availability, .. }) => {
                let until = if let Availability::At(until) = availability { until } else { None };
                let error = Box::new(ProxyError::new(ErrorKind::QuotaExhausted, "has no capacity now"));
                account(&model, Now::Later { error, until, last_resort: false })
            }
            Err(reason) => account(&call.model, Now::cannot(ErrorKind::Unsupported, reason)),
        }
    }
}

// === impl Now ===

impl Now {
    /// It can never serve the call, for this reason.
    pub fn cannot(kind: ErrorKind, reason: String) -> Now {
        Now::Cannot(Box::new(ProxyError::new(kind, reason)))
    }
}

// === impl Own ===

impl Own {
    /// The failure that a client would be told.
    pub fn fails(error: ProxyError, until: Option<i64>) -> Own {
        Own::Fails { error: Box::new(error), until }
    }

    /// It can never serve the call, for this reason.
    pub fn cannot(why: String) -> Own {
        Own::fails(ProxyError::new(ErrorKind::Unsupported, why), None)
    }
}

// === impl Decision ===

impl<'a> Decision<'a> {
    /// Of one that hands a call on to these, or to none if it has an end of its own.
    pub fn handing_on(why: Vec<String>, ways: Vec<Way<'a>>, own: Option<Own>) -> Decision<'a> {
        Decision { why, ways, route: None, own, hands_on: true, hop: None, sure: true }
    }

    /// Of a virtual model of which nothing is known but whom it can hand a request to: in their order, as far as they
    /// can serve it.
    pub fn of(below: Vec<Below<'a>>, call: &Call) -> Decision<'a> {
        let (mut next, alone) = (0, below.len() == 1);
        let ways = below.into_iter().map(|below| {
            // Who wraps one backend passes the call on as it came.
            let round = if alone { call.round.clone() } else { Some(round_below(call)) };
            let mut there = Call { round, ..call.clone() };
            if let Some(model) = below.model {
                there.model = Arc::from(model);
            }
            let cannot = match below.takes {
                true => below.backend.outlook(&there).err(),
                false => Some(format!("names a model of its own, which is not `{}`", call.model)),
            };
            let turn = match cannot {
                Some(_) => Turn::Skipped,
                None => {
                    next += 1;
                    Turn::Asked(next)
                }
            };
            Way {
                label: below.label,
                backend: below.backend,
                call: there,
                turn,
                why: cannot,
                conditions: Vec::new(),
            }
        });
        let ways: Vec<Way<'a>> = ways.collect();
        let (why, own) = if ways.is_empty() {
            ("answers by itself", Some(Own::Answers(Arc::clone(&call.model))))
        } else {
            ("hands the request on to one or more of those below, as its type does", None)
        };
        let why = vec![why.to_owned()];
        Decision { why, ways, route: None, own, hands_on: false, hop: None, sure: false }
    }
}

/// The round that those below a group would be asked in now.
pub(super) fn round_below(call: &Call) -> Round {
    call.round.clone().unwrap_or(Round { guesses: Guesses::Hold, waiter: None })
}

// === impl Call ===

impl Call {
    /// The moment that is asked about. `None`: now.
    pub fn at(&self) -> Option<Timestamp> {
        self.arrival.as_ref().and_then(|arrival| arrival.at)
    }

    /// The same for those who count.
    pub fn moment(&self) -> Option<Moment> {
        self.at().map(|at| Moment(at.as_millisecond()))
    }
}

// === impl Course ===

impl Course {
    /// What is told of one that was asked under this name: that it answered, or how it failed.
    fn told_as(&self, label: &str) -> Vec<(String, &'static str)> {
        match &self.end {
            End::Answers { .. } => vec![(label.to_owned(), "answered")],
            End::Fails { error, .. } if self.hops.is_empty() => vec![(label.to_owned(), error.kind.label())],
            End::Fails { .. } => self.hops.clone(),
        }
    }

    /// As `x-demuxai-attempts` would have it. `None`: nobody answers.
    pub fn attempts(&self) -> Option<String> {
        let End::Answers { by, .. } = &self.end else { return None };
        let hops = self.hops.iter().map(|(id, label)| format!("{id} {label}, "));
        Some(hops.chain([format!("{by} ok")]).collect())
    }

    /// As `x-demuxai-route` would have it. `None`: no router is asked.
    pub fn routes(&self) -> Option<String> {
        let told = self.routes.iter().map(|(router, route)| match route {
            Some(number) => format!("{router} {number}"),
            None => format!("{router} none"),
        });
        let told: Vec<String> = told.collect();
        (!told.is_empty()).then(|| told.join(", "))
    }
}
