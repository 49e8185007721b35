//! One request at a panel: what is known of it so far, shared by whoever asks and whoever shows the answer. Told once, when
//! it is over or dropped.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::super::trail::Trail;
use super::super::{Call, Frame, StreamEnd};
use super::Panel;
use super::gathering::{Draft, Gathering};
use super::stage::Stage;
use super::tally::Tally;
use crate::dialect::Bill;
use crate::error::{ErrorKind, ProxyError};
use crate::metrics::EndReason;
use crate::metrics::consensus::PanelEnded;

/// One request at a panel.
pub(super) struct Session {
    pub(super) panel: Arc<Panel>,
    pub(super) call: Call,
    pub(super) began: Instant,
    inner: Mutex<Inner>,
}

/// What changes of it.
pub(super) struct Inner {
    pub(super) gathering: Gathering,
    pub(super) trail: Trail,
    pub(super) tally: Tally,
    /// The members' number in the tally, once they are asked.
    pub(super) numbers: Vec<Option<usize>>,
    /// The answers that count, by their members, in the order in which they came.
    pub(super) answers: Vec<(usize, Draft)>,
    /// What became of each member.
    pub(super) states: Vec<&'static str>,
    pub(super) outcome: &'static str,
    stage: Option<Stage>,
    /// What is to be shown and was not taken yet.
    shown: String,
}

// === impl Session ===

impl Session {
    /// A request that nobody was asked for yet.
    pub(super) fn new(panel: Arc<Panel>, call: Call) -> Arc<Self> {
        let labels = panel.members.iter().map(|member| Arc::clone(&member.label));
        let inner = Inner {
            gathering: Gathering::default(),
            trail: Trail::default(),
            tally: Tally::default(),
            numbers: vec![None; panel.members.len()],
            answers: Vec::new(),
            states: vec!["skipped"; panel.members.len()],
            outcome: "cancelled",
            stage: panel.shows().then(|| Stage::new(labels)),
            shown: String::new(),
        };
        Arc::new(Session { panel, call, began: Instant::now(), inner: Mutex::new(inner) })
    }

    /// Never held while something is waited for.
    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is to be shown of the members since the last time.
    pub(super) fn take_shown(&self) -> Option<String> {
        let mut inner = self.lock();
        (!inner.shown.is_empty()).then(|| std::mem::take(&mut inner.shown))
    }

    /// What it cost so far.
    pub(super) fn bill(&self) -> Bill {
        self.lock().tally.bill()
    }

    /// The end of the stream as a frame, with what all of it cost.
    pub(super) fn end(&self, reason: EndReason, error: Option<ProxyError>) -> Frame {
        let usage = self.lock().tally.sum();
        Frame::End(Box::new(StreamEnd { reason, error, usage }))
    }

    /// The answer is complete.
    pub(super) fn finished(&self) {
        let mut inner = self.lock();
        if inner.outcome == "cancelled" {
            inner.outcome = "ok";
        }
    }

    /// It comes to nothing, for this reason: an error that says so and then what became of each.
    pub(super) fn failed(&self, outcome: &'static str, head: &str) -> ProxyError {
        let mut inner = self.lock();
        inner.outcome = outcome;
        let error = inner.trail.told(head);
        if error.kind == ErrorKind::Exhausted { error.with_code(outcome) } else { error }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let inner = self.lock();
        PanelEnded {
            group: &self.panel.about.id,
            combine: self.panel.combine.word(),
            outcome: inner.outcome,
            members: self
                .panel
                .members
                .iter()
                .zip(&inner.states)
                .map(|(member, state)| (&*member.label, *state))
                .collect(),
            duration: self.began.elapsed(),
        }
        .emit(&self.panel.metrics, &self.call.request_id);
    }
}

// === impl Inner ===

impl Inner {
    /// A member says something.
    pub(super) fn said(&mut self, member: usize, text: &str) {
        if let Some(stage) = &mut self.stage {
            self.shown.push_str(&stage.said(member, text));
        }
    }

    /// A member's answer counts.
    pub(super) fn answered(&mut self, member: usize, label: &Arc<str>, draft: Draft) {
        self.trail.answered(label);
        self.over(member, "answered", None);
        self.answers.push((member, draft));
    }

    /// A member failed.
    pub(super) fn failed(&mut self, member: usize, label: &Arc<str>, error: &ProxyError) {
        self.trail.failed(label, error);
        let state = match error.kind {
            ErrorKind::EmptyAnswer => "empty",
            ErrorKind::Timeout => "timeout",
            _ if error.denial.is_some() => "no_capacity",
            _ => "failed",
        };
        self.over(member, state, Some(error.kind.label()));
    }

    /// A member had not ended when nobody waited for it any more.
    pub(super) fn cancelled(&mut self, member: usize, label: &Arc<str>) {
        self.trail.cancelled(label);
        self.over(member, "cancelled", Some("cancelled"));
    }

    /// A note of our own.
    pub(super) fn remark(&mut self, text: &str) {
        if self.stage.is_some() {
            self.shown.push_str(text);
        }
    }

    fn over(&mut self, member: usize, state: &'static str, note: Option<&str>) {
        if let Some(known) = self.states.get_mut(member) {
            *known = state;
        }
        if let Some(number) = self.numbers.get(member).copied().flatten() {
            self.tally.ended(number, state);
        }
        if let Some(stage) = &mut self.stage {
            self.shown.push_str(&stage.ended(member, note));
        }
    }

    /// The texts of the answers that count.
    pub(super) fn texts(&self) -> Vec<&str> {
        self.answers.iter().map(|(_, draft)| draft.text.as_str()).collect()
    }
}
