//! A panel: a backend that asks its members side by side and makes one answer of theirs, by a judge or by a rule. It knows
//! its members and the judge only by the seam, so that they can be providers, groups or routers.
//!
//! The way of a request is `consult.rs`, the judge's part `judging.rs`, what a client sees of it while it goes on `made.rs`.
//! Pure are the plan of who is asked, the order in which members are shown, the frames that the judge gets their answers in,
//! the rules, and the bill.

mod assured;
pub(crate) mod combine;
mod consult;
mod explain;
pub(crate) mod frame;
mod gathering;
mod judging;
mod made;
pub(crate) mod plan;
mod session;
mod stage;
mod tally;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use jiff::Timestamp;

use super::explain::Decision;
use super::group::Member;
use super::lease::Lease;
use super::modifier::price::{Price, Prices};
use super::strategy::Availability;
use super::virtual_model::{
    About, Below, VirtualModel, dearest_of, each_price, leaves_of, most_input_tokens,
};
use super::{Backend, Call, Frame, Frames, Marks, Outlook, Reply, ReplyBody, ReplyStream, Served};
use crate::dialect::{Composer, Request, Task};
use crate::error::{ErrorKind, ProxyError};
use crate::metrics::consensus::PanelEnded;
use crate::metrics::{Metrics, ModelMeters};
use crate::provider::Capabilities;
use combine::Combine;
use consult::{Verdict, ask, consult};
use made::{ANALYSIS, FINAL, Made};
use plan::{OnQuota, Refusal, Standing, plan};
use session::Session;

/// How a client sees what the members say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Show {
    /// As `reasoning_content`.
    Reasoning,
    /// In the text, as Harmony's analysis channel.
    Harmony,
    /// Not at all.
    Nothing,
}

/// A panel as a backend. Cheap to clone.
#[derive(Clone)]
pub struct PanelBackend {
    panel: Arc<Panel>,
}

/// What a panel is made of.
pub struct Panel {
    /// What it is called.
    pub about: About,
    /// Who is asked.
    pub members: Vec<Member>,
    /// Who writes or chooses the answer, and answers alone what a panel cannot.
    pub judge: Option<Member>,
    /// What makes one answer of several.
    pub combine: Combine,
    /// So many members must answer.
    pub quorum: usize,
    /// How long each member may take.
    pub deadline: Duration,
    /// How long the others may take once the quorum has answered.
    pub grace: Duration,
    /// What happens where some members have no capacity.
    pub on_quota: OnQuota,
    /// What takes the judge's place when it fails.
    pub fallback: Option<Combine>,
    /// How a client sees what the members say.
    pub show: Show,
    /// What the judge is told, if not the usual.
    pub prompt: Option<String>,
    /// Tells the time.
    pub clock: fn() -> Timestamp,
    /// Where is recorded.
    pub metrics: Arc<Metrics>,
    /// Held by the request that counts on capacity which the judge will have.
    pub hope: Arc<tokio::sync::Mutex<()>>,
    /// The judge may be asked of a provider that members are asked of, too. Found out when it is made a backend.
    pub shares: bool,
}

// === impl PanelBackend ===

impl PanelBackend {
    /// The panel as a backend.
    pub fn new(mut panel: Panel) -> Self {
        let judges = panel.judge.as_ref().map(|judge| judge.backend.leaves()).unwrap_or_default();
        panel.shares = panel.members.iter().any(|member| !member.backend.leaves().is_disjoint(&judges));
        PanelBackend { panel: Arc::new(panel) }
    }
}

impl Backend for PanelBackend {
    fn id(&self) -> &str {
        &self.panel.about.id
    }

    fn outlook(&self, call: &Call) -> Result<Outlook, String> {
        let panel = &self.panel;
        if let Some(error) = panel.objection(call) {
            return Err(error.message);
        }
        if alone(&call.request).is_some() {
            let judge = panel.judge.as_ref().ok_or_else(String::new)?;
            return judge.backend.outlook(&panel.judge_call(call, Arc::clone(&call.request)));
        }
        panel.outlook(call)
    }

    /// All members are asked, and then the judge, who reads all of their answers.
    fn dearest(&self, model: &str, request: &Request, prices: &Prices) -> Result<Price, String> {
        let judge = match &self.panel.judge {
            Some(judge) => dearest_of(&[judge.below("")], "", request, prices)?,
            None => Price::default(),
        };
        if alone(request).is_some() {
            return Ok(judge);
        }
        let members: Vec<Below<'_>> = self.panel.members.iter().map(|member| member.below(model)).collect();
        let each = each_price(&members, model, request, prices)?;
        Ok(Price::of_so_many(&each, each.len()).and(judge).and(judge.reading(each.len())))
    }

    fn meters(&self, _model: &str) -> Arc<ModelMeters> {
        // A panel's answer is nobody's alone; who takes part in it is counted there.
        self.panel.metrics.meters("none", "none")
    }

    fn input_tokens(&self, model: &str, request: &Request) -> Option<u64> {
        most_input_tokens(&self.below(model), model, request)
    }

    fn leaves(&self) -> BTreeSet<String> {
        leaves_of(&self.below(""))
    }

    fn waits(&self) -> Option<Duration> {
        self.panel.members.iter().chain(&self.panel.judge).filter_map(|member| member.backend.waits()).max()
    }

    fn forward(&self, call: Call) -> BoxFuture<'static, Result<Reply, ProxyError>> {
        let panel = Arc::clone(&self.panel);
        if let Some(error) = panel.objection(&call) {
            return ready(Err(error)).boxed();
        }
        if let Some(why) = alone(&call.request) {
            return panel.by_the_judge(call, why);
        }
        if call.request.stream { streamed(panel, call).boxed() } else { whole(panel, call).boxed() }
    }
}

impl VirtualModel for PanelBackend {
    fn about(&self) -> &About {
        &self.panel.about
    }

    fn below(&self, asked: &str) -> Vec<Below<'_>> {
        self.panel.members.iter().chain(&self.panel.judge).map(|member| member.below(asked)).collect()
    }

    fn decide(&self, call: &Call) -> Decision<'_> {
        self.panel.decide(call)
    }

    fn narrow(&self, capabilities: &mut Capabilities) {
        for other in [&mut capabilities.completion, &mut capabilities.fim, &mut capabilities.embedding] {
            *other = Some(false);
        }
    }
}

// === impl Panel ===

impl Panel {
    /// What a panel does not answer at all.
    fn objection(&self, call: &Call) -> Option<ProxyError> {
        let id = &self.about.id;
        let text = if call.request.task != Task::Chat {
            format!(
                "`{id}` is a panel of models and answers chats alone, no {} requests; ask one of its members",
                call.request.task.label()
            )
        } else if call.so_far.is_some() {
            format!("`{id}` does not go on with what another upstream began")
        } else if self.judge.is_none()
            && let Some(why) = alone(&call.request)
        {
            format!(
                "`{id}` cannot combine answers to a request with `{why}`; a `judge` would answer it alone"
            )
        } else {
            return None;
        };
        Some(ProxyError::new(ErrorKind::Unsupported, text).with_param("model"))
    }

    /// The judge, where nothing comes of a request without one.
    fn needed_judge(&self) -> Option<&Member> {
        self.judge.as_ref().filter(|_| self.combine.asks_judge() && self.fallback.is_none())
    }

    /// Whether a client sees what the members say.
    fn shows(&self) -> bool {
        self.show != Show::Nothing
    }

    /// The request as each member gets it: for a stream, so that a long answer costs bounded memory and a member that
    /// hangs is found out by its provider's `idle`.
    fn calls(&self, call: &Call) -> Vec<Call> {
        let request = match call.request.stream {
            true => Arc::clone(&call.request),
            false => Arc::new(call.request.streamed()),
        };
        let asked = Call { request, opened: call.opened.in_part(), ..call.clone() };
        self.members.iter().map(|member| member.call(&asked, call.round.clone())).collect()
    }

    /// This request as the judge gets it: by itself, since whoever is above would ask the whole panel again.
    fn judge_call(&self, call: &Call, request: Arc<Request>) -> Call {
        let own = Call {
            request,
            model: Arc::from(""),
            received: std::time::Instant::now(),
            gate: None,
            opened: call.opened.in_part(),
            ..call.clone()
        };
        self.judge.as_ref().map_or_else(|| own.clone(), |judge| judge.call(&own, None))
    }

    /// How each member stands, or why it cannot serve the request.
    fn outlooks(&self, call: &Call, calls: &[Call]) -> Vec<Result<Outlook, String>> {
        let asked = &*call.model;
        let of = |(member, own): (&Member, &Call)| match member.takes(asked) {
            true => member.backend.outlook(own),
            false => Err(format!("names a model of its own, which is not `{asked}`")),
        };
        self.members.iter().zip(calls).map(of).collect()
    }

    /// How the panel stands as a whole: as the scarcest of those that it needs.
    fn outlook(&self, call: &Call) -> Result<Outlook, String> {
        let outlooks = self.outlooks(call, &self.calls(call));
        let members: Vec<Standing> = outlooks.iter().map(standing).collect();
        let needs_judge = self.combine.asks_judge() && self.fallback.is_none();
        let judge = self
            .judge
            .as_ref()
            .filter(|_| needs_judge)
            .map(|judge| judge.backend.outlook(&self.judge_call(call, Arc::clone(&call.request))));
        if let Some(Err(reason)) = &judge {
            return Err(format!("its judge: {reason}"));
        }
        let judge_stands = judge.as_ref().map(|outlook| self.judge_standing(outlook));
        let planned = plan(&members, judge_stands, self.quorum, self.on_quota);
        let availability = match planned {
            Ok(_) => Availability::Now,
            Err(Refusal::Judge(until) | Refusal::Member(_, until)) => Availability::At(until),
            Err(Refusal::Unfit) => {
                let reasons = self.members.iter().zip(&outlooks).filter_map(|(member, outlook)| {
                    Some(format!("`{}`: {}", member.label, outlook.as_ref().err()?))
                });
                let reasons: Vec<String> = reasons.collect();
                return Err(format!("fewer than {} members can: {}", self.quorum, reasons.join("; ")));
            }
        };
        let mut shares: Vec<f64> = outlooks.iter().flatten().map(|outlook| outlook.share_left).collect();
        shares.sort_by(|one, other| other.total_cmp(one));
        let of_quorum = self.quorum.checked_sub(1).and_then(|last| shares.get(last)).copied().unwrap_or(1.0);
        let all = || outlooks.iter().flatten().chain(judge.iter().flatten());
        Ok(Outlook {
            model: Arc::clone(&call.model),
            availability,
            share_left: judge.iter().flatten().fold(of_quorum, |share, judge| share.min(judge.share_left)),
            next_reset: all().filter_map(|outlook| outlook.next_reset).min(),
            in_flight: all().map(|outlook| outlook.in_flight).fold(0, usize::saturating_add),
        })
    }

    /// How the judge stands. It is needed when the members have answered, and not before.
    fn judge_standing(&self, outlook: &Result<Outlook, String>) -> Standing {
        let deadline = i64::try_from(self.deadline.as_millis()).unwrap_or(i64::MAX);
        let soon = (self.clock)().as_millisecond().saturating_add(deadline);
        match standing(outlook) {
            Standing::Lacks(Some(until)) if until <= soon => Standing::Ready,
            standing => standing,
        }
    }

    /// How long it is until then.
    fn time_until(&self, until: Option<i64>) -> Option<Duration> {
        let left = until?.saturating_sub((self.clock)().as_millisecond());
        Some(Duration::from_millis(u64::try_from(left).unwrap_or(0)))
    }

    /// What only the judge can answer.
    fn by_the_judge(&self, call: Call, why: &'static str) -> BoxFuture<'static, Result<Reply, ProxyError>> {
        let Some(judge) = &self.judge else {
            let text = format!("`{}` has no judge", self.about.id);
            return ready(Err(ProxyError::new(ErrorKind::Internal, text))).boxed();
        };
        let event = PanelEnded {
            group: &self.about.id,
            combine: self.combine.word(),
            outcome: "judge_alone",
            members: Vec::new(),
            duration: Duration::ZERO,
        };
        event.emit(&self.metrics, &call.request_id);
        let edits = call.edits.iter().cloned().chain([format!("judge-alone:{why}")]);
        let own = Call { model: Arc::from(""), edits: Arc::new(edits.collect()), ..call.clone() };
        ask(judge, judge.call(&own, call.round))
    }

    /// The names of an answer of its own.
    fn composer(&self, call: &Call) -> Composer {
        let id = format!("chatcmpl-{}@{}", call.request_id, self.about.id);
        Composer::new(id, (self.clock)().as_second(), self.about.id.to_string())
    }

    /// What the members said, as it stands before a whole answer.
    fn shown(&self, session: &Session) -> (Option<String>, Option<String>) {
        let text = session.take_shown();
        match self.show {
            Show::Reasoning => (text, None),
            Show::Harmony => {
                let analysis = text.map(|text| format!("{ANALYSIS}{}{FINAL}", frame::disarmed(&text)));
                (None, analysis)
            }
            Show::Nothing => (None, None),
        }
    }
}

/// The field for which a request goes to the judge alone: several answers, calls of tools and sounds cannot be made one of.
fn alone(request: &Request) -> Option<&'static str> {
    if request.needs().tools {
        return Some("tools");
    }
    if request.answers() > 1 {
        return Some("n");
    }
    request.wants_audio().then_some("audio")
}

/// How an outlook counts in the plan.
fn standing(outlook: &Result<Outlook, String>) -> Standing {
    match outlook.as_ref().map(|outlook| outlook.availability) {
        Ok(Availability::Now) => Standing::Ready,
        Ok(Availability::At(until)) => Standing::Lacks(until),
        Ok(Availability::Never) => Standing::Lacks(None),
        Err(_) => Standing::Unfit,
    }
}

/// Answers with a stream. Its first word, be it a member's, is the commit point.
async fn streamed(panel: Arc<Panel>, call: Call) -> Result<Reply, ProxyError> {
    let session = Session::new(Arc::clone(&panel), call);
    let mut made = Made::new(Arc::clone(&session), panel.composer(&session.call));
    match poll_fn(|cx| made.poll_frame(cx)).await {
        Frame::End(end) => {
            let nothing = || ProxyError::new(ErrorKind::Internal, "a panel ended without a word");
            return Err(end.error.unwrap_or_else(nothing));
        }
        first => made.put_back(first),
    }
    let waited = session.began.elapsed();
    let served = session.served(made.take_served(), None);
    let time_to_first_token = session.call.received.elapsed();
    Ok(Reply {
        status: 200,
        headers: Vec::new(),
        body: ReplyBody::Stream(ReplyStream::made(made, time_to_first_token)),
        served,
        waited,
        lease: Lease::nothing(),
    })
}

/// Answers with a whole answer.
async fn whole(panel: Arc<Panel>, call: Call) -> Result<Reply, ProxyError> {
    let session = Session::new(Arc::clone(&panel), call);
    let composer = panel.composer(&session.call);
    let verdict = consult(Arc::clone(&session)).await?;
    let waited = session.began.elapsed();
    let (reasoning, before) = panel.shown(&session);
    let (bill, usage) = (session.bill(), session.lock().tally.sum());
    let (bytes, served, headers, lease) = match verdict {
        Verdict::Judged { reply, .. } => {
            let Reply { headers, body, served, lease, .. } = *reply;
            let ReplyBody::Whole { bytes, .. } = body else {
                let text = "the judge answered a request for a whole answer with a stream";
                return Err(ProxyError::new(ErrorKind::Internal, text));
            };
            let bytes = composer.adopt_whole(&bytes, reasoning.as_deref(), before.as_deref(), bill);
            (bytes, session.served(Some(served), None), headers, lease)
        }
        Verdict::Chosen { label, draft } => {
            let text = [before.as_deref().unwrap_or_default(), &draft.text].concat();
            let finish = draft.finish.as_deref().unwrap_or_default();
            let bytes = composer.whole(&text, reasoning.as_deref(), finish, &bill);
            (bytes, session.served(None, Some(label)), Vec::new(), Lease::nothing())
        }
    };
    session.finished();
    Ok(Reply {
        status: 200,
        headers,
        body: ReplyBody::Whole { bytes: bytes.into(), usage },
        served,
        waited,
        lease,
    })
}

// === impl Session ===

impl Session {
    /// Who answers: the judge, a member, or the panel while it is not known; with all hops until then.
    fn served(&self, judge: Option<Served>, chosen: Option<Arc<str>>) -> Served {
        let panel = &self.panel;
        let mut served = judge.unwrap_or_else(|| Served {
            provider: Arc::clone(&panel.about.id),
            model: chosen.unwrap_or_else(|| Arc::clone(&panel.about.id)),
            edits: self.call.edits.to_vec(),
            attempts: Vec::new(),
            meters: panel.metrics.meters("none", "none"),
            marks: Marks::default(),
        });
        let mut hops = self.lock().trail.hops().to_vec();
        hops.append(&mut served.attempts);
        served.attempts = hops;
        served
    }

    /// How long it is until then.
    fn time_until(&self, until: Option<i64>) -> Option<Duration> {
        self.panel.time_until(until)
    }

    /// The moment in so long a time.
    fn moment_in(&self, wait: Option<Duration>) -> Option<i64> {
        let wait = i64::try_from(wait?.as_millis()).unwrap_or(i64::MAX);
        Some((self.panel.clock)().as_millisecond().saturating_add(wait))
    }
}
