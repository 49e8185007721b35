//! `rewrite`: sets, defaults, caps or removes parameters, adds to what the system says, and gives models other names. Only
//! what is changed is touched; every change is in `x-demuxai-edits`.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use super::super::explain::Decision;
use super::super::group::Member;
use super::super::virtual_model::Below;
use super::super::{Call, Outlook, Reply};
use super::{Modifier, Wrapped, explain};
use crate::dialect::{Request, SystemText, Task};
use crate::error::ProxyError;
use crate::quota::Glob;
use crate::wire::json;
use crate::wire::splice::{Edits, ObjectEdit};

/// Two words for one parameter: what is said of one is meant of both.
const TWINS: [(&str, &str); 1] = [("max_tokens", "max_completion_tokens")];

/// What is said of an answer that is generated: embeddings have none, and strict servers refuse the field.
const OF_ANSWERS: [&str; 24] = [
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "n",
    "best_of",
    "stop",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "logprobs",
    "top_logprobs",
    "logit_bias",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "response_format",
    "reasoning_effort",
    "verbosity",
    "modalities",
    "stream_options",
];

/// What is changed in a request.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Changes {
    /// Fields that are taken out.
    pub remove: Vec<String>,
    /// Fields that get a value where they have none: name and JSON.
    pub default: Vec<(String, Bytes)>,
    /// Fields that get a value.
    pub set: Vec<(String, Bytes)>,
    /// Fields that are no larger than this number: name, number, JSON. What is no number is, and so is what is below zero,
    /// which means without a bound; penalties alone are negative in earnest. `null` is as good as not there.
    pub cap: Vec<(String, f64, Bytes)>,
    /// What is added to what the system says.
    pub system: SystemText,
}

/// A model by another name.
pub struct Renamed {
    /// The names that are meant.
    pub names: Glob,
    /// Who answers for them; by its own model there, a group without one by its own choice.
    pub to: Member,
}

/// The backend.
pub struct Rewriting {
    /// Whom it hands requests to.
    pub wrapped: Wrapped,
    /// What is changed in a request.
    pub changes: Changes,
    /// Models by other names; the first that matches counts.
    pub renamed: Vec<Renamed>,
}

// === impl Changes ===

impl Changes {
    /// The request with all changes, and what they are. Fields are taken out first, then defaults, values and caps are put
    /// in, so that a cap holds for each of them. `None`: there is nothing to change.
    pub fn apply(&self, request: &Request) -> Option<(Request, Vec<String>)> {
        let mut top = ObjectEdit::top(&request.body, &request.members);
        let mut told = Vec::new();
        for key in &self.remove {
            if top.remove(key) {
                told.push(format!("drop:{key}"));
            }
        }
        let removed = |key: &str| self.remove.iter().any(|removed| removed == key);
        let value = |key: &str| request.value(key).filter(|raw| !removed(key) && !json::is_null(raw));
        let mut put: Vec<(&str, &[u8])> = Vec::new();
        let meant = |key: &str| request.task != Task::Embedding || !OF_ANSWERS.contains(&key);
        for (key, raw) in self.default.iter().filter(|(key, _)| meant(key)) {
            if twins(key).all(|twin| value(twin).is_none()) {
                top.set(key.as_str(), &raw[..]);
                put.push((key, raw));
                told.push(format!("default:{key}"));
            }
        }
        for (key, raw) in self.set.iter().filter(|(key, _)| meant(key)) {
            if value(key) != Some(&raw[..]) || written(request, key).any(|theirs| theirs != raw) {
                top.set(key.as_str(), &raw[..]);
                told.push(format!("set:{key}"));
            }
            put.push((key, raw));
            // The other word for the same would say something else beside it.
            for twin in twins(key).filter(|twin| twin != key) {
                if top.remove(twin) {
                    put.retain(|(name, _)| *name != twin);
                    told.push(format!("drop:{twin}"));
                }
            }
        }
        for (key, most, raw) in &self.cap {
            for twin in twins(key) {
                let ours = put.iter().rev().find(|(name, _)| *name == twin).map(|(_, raw)| *raw);
                let exceeds = |raw: &[u8]| exceeds(twin, raw, *most);
                if top.has(twin) && ours.map_or_else(|| written(request, twin).any(exceeds), exceeds) {
                    top.set(twin.to_owned(), &raw[..]);
                    told.push(format!("cap:{twin}"));
                }
            }
        }
        let mut edits = Edits::new();
        edits.object(top);
        if self.system.add(request, &mut edits) {
            told.extend(self.system.prepend.is_some().then(|| "system:prepend".to_owned()));
            told.extend(self.system.append.is_some().then(|| "system:append".to_owned()));
        }
        if told.is_empty() {
            return None;
        }
        Some((request.edited(edits), told))
    }
}

/// All values of a key: written twice, either may be what counts upstream.
fn written<'r>(request: &'r Request, key: &'r str) -> impl Iterator<Item = &'r [u8]> {
    let members = request.members.iter().filter(move |member| member.key == key);
    members.filter_map(|member| request.body.get(member.value.clone()))
}

/// The words for the same as this one, itself among them.
fn twins(key: &str) -> impl Iterator<Item = &str> {
    let twin = TWINS.iter().find_map(|(one, other)| match key {
        _ if key == *one => Some(*other),
        _ if key == *other => Some(*one),
        _ => None,
    });
    std::iter::once(key).chain(twin)
}

/// Whether a value is not known to be within a cap.
fn exceeds(key: &str, raw: &[u8], most: f64) -> bool {
    let stated: Option<f64> = std::str::from_utf8(raw).ok().and_then(|text| text.trim().parse().ok());
    let least = if key.ends_with("_penalty") { f64::NEG_INFINITY } else { 0.0 };
    !json::is_null(raw) && stated.is_none_or(|stated| !(least..=most).contains(&stated))
}

// === impl Rewriting ===

impl Rewriting {
    /// Who answers for this model, and by what name it goes there, if by another one.
    fn target(&self, asked: &str) -> (&Member, Option<Arc<str>>) {
        let names = |renamed: &&Renamed| !asked.is_empty() && renamed.names.matcher.is_match(asked);
        match self.renamed.iter().find(names) {
            Some(renamed) => (&renamed.to, Some(renamed.to.model.clone().unwrap_or_else(|| Arc::from("")))),
            None => (&self.wrapped.inner, None),
        }
    }

    /// The call as it goes on, and what was changed.
    fn changed<'s>(&'s self, call: &Call) -> (&'s Member, Call, Vec<String>) {
        let (member, renamed) = self.target(&call.model);
        let mut own = call.clone();
        let mut told = Vec::new();
        if let Some(model) = renamed {
            own.model = model;
            told.push("rename:model".to_owned());
        }
        if let Some((request, changes)) = self.changes.apply(&call.request) {
            own.request = Arc::new(request);
            told.extend(changes);
        }
        if !told.is_empty() {
            own.edits = Arc::new(call.edits.iter().chain(&told).cloned().collect());
        }
        (member, own, told)
    }
}

impl Modifier for Rewriting {
    fn wrapped(&self) -> &Wrapped {
        &self.wrapped
    }

    fn forward(self: Arc<Self>, call: Call) -> BoxFuture<'static, Result<Reply, ProxyError>> {
        let (member, own, changed) = self.changed(&call);
        self.wrapped.acted(&call, if changed.is_empty() { "unchanged" } else { "changed" });
        member.ask(&own)
    }

    fn outlook(&self, call: &Call) -> Result<Outlook, String> {
        let (member, own, _) = self.changed(call);
        member.outlook(&own)
    }

    fn standing(&self, call: &Call) -> Option<Outlook> {
        let (member, renamed) = self.target(&call.model);
        let model = renamed.unwrap_or_else(|| Arc::clone(&call.model));
        member.standing(&Call { model, ..call.clone() })
    }

    fn below(&self, asked: &str) -> Vec<Below<'_>> {
        if asked.is_empty() {
            let others = self.renamed.iter().map(|renamed| &renamed.to);
            return [&self.wrapped.inner]
                .into_iter()
                .chain(others)
                .map(|member| member.below(asked))
                .collect();
        }
        let (member, renamed) = self.target(asked);
        // By its other name it is meant, whatever its own.
        let takes = renamed.is_some() || member.takes(asked);
        // A group that chooses by itself is asked for no model.
        let model = renamed
            .is_some()
            .then(|| member.model.as_deref().unwrap_or_default())
            .or(member.model.as_deref());
        vec![Below { model, takes, ..member.below(asked) }]
    }

    fn decide(&self, call: &Call) -> Decision<'_> {
        let (member, own, changed) = self.changed(call);
        let why = match changed.is_empty() {
            true => "changes nothing of this request".to_owned(),
            false => format!("changes the request: {}", changed.join(", ")),
        };
        let others = self.renamed.iter().map(|renamed| &renamed.to);
        explain::handed_on(member, [&self.wrapped.inner].into_iter().chain(others), &own, vec![why])
    }
}

#[cfg(test)]
mod tests;
