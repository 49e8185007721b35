//! Groups: their options, and that their members are there. How groups hang together is `nesting.rs`.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Map, Value};

use super::super::place::index_step;
use super::super::quantity;
use super::super::report::did_you_mean;
use super::super::settings::{
    FailOn, FailWord, GroupConfig, GroupKind, MemberConfig, StickyBy, StickyConfig,
};
use super::super::spec::{DescribedMember, GroupSpec, MemberSpec, ResumeWord, Span, Spec, StickyWord};
use super::Check;

/// Most members of a group.
const MOST_MEMBERS: usize = 100;
/// How long `on_exhausted = "wait"` waits, and the most that can be asked for.
const WAIT: Duration = Duration::from_secs(30);
const LONGEST_WAIT: Duration = Duration::from_secs(600);
/// When the next member of a race is asked.
const DELAY: Duration = Duration::from_secs(1);
/// How long a conversation stays where it is.
const KEEP: Duration = Duration::from_secs(30 * 60);
const DAY: Duration = Duration::from_secs(86_400);
const MILLISECOND: Duration = Duration::from_millis(1);
/// Fields that a member cannot set: without them it is another request.
const ESSENTIAL: [&str; 6] = ["model", "messages", "prompt", "input", "stream", "suffix"];

/// Checks all groups and gives those that are valid.
pub(super) fn all(check: &mut Check<'_>, spec: &Spec) -> Vec<GroupConfig> {
    let entries: Vec<(String, GroupSpec)> = check.entries("groups", &spec.groups);
    let sections = [&spec.providers, &spec.groups, &spec.routers];
    let known: BTreeSet<&str> =
        sections.iter().flat_map(|section| section.keys()).map(String::as_str).collect();
    let mut groups = Vec::new();
    for (id, entry) in &entries {
        groups.push(one(check, id, entry, &known));
    }
    groups
}

fn one(check: &mut Check<'_>, id: &str, entry: &GroupSpec, known: &BTreeSet<&str>) -> GroupConfig {
    let at = |key: &'static str| ["groups", id, key];
    let kind = kind(check, id, entry.kind.as_deref());
    for (key, given) in [("delay", entry.delay.is_some()), ("width", entry.width.is_some())] {
        if let Some(kind) = kind.filter(|kind| given && *kind != GroupKind::Race) {
            check.problem(&at(key), format!("has a meaning only for type = \"race\", not {}", kind.label()));
        }
    }
    if entry.members.is_empty() || entry.members.len() > MOST_MEMBERS {
        let text = format!("needs 1 to {MOST_MEMBERS} members, such as \"mistral/mistral-small-latest\"");
        check.missing(&at("members"), text);
    }
    let mut members = Vec::new();
    for (index, written) in entry.members.iter().enumerate() {
        members.extend(member(check, id, index, written, known));
    }
    let sticky = entry.sticky.as_ref().map(|written| StickyConfig {
        by: match written.by.unwrap_or(StickyWord::Conversation) {
            StickyWord::Conversation => StickyBy::Conversation,
            StickyWord::User => StickyBy::User,
            StickyWord::Session => StickyBy::Session,
        },
        keep: check.span(&["groups", id, "sticky", "keep"], written.keep.as_ref(), KEEP, MILLISECOND, DAY),
    });
    let attempts = entry.attempts.and_then(|number| usize::try_from(number).ok());
    let count = members.len();
    let width = entry.width.and_then(|number| usize::try_from(number).ok()).unwrap_or(count);
    GroupConfig {
        id: id.to_owned(),
        // Without a type it is no group, but its other problems are told all the same.
        kind: kind.unwrap_or(GroupKind::Failover),
        name: entry.name.clone(),
        description: entry.description.clone(),
        fail_on: fail_on(check, id, entry.fail_on.as_ref()),
        wait: on_exhausted(check, id, entry.on_exhausted.as_deref()),
        attempts: attempts.unwrap_or(count.saturating_mul(2)).clamp(1, 50),
        timeout: entry
            .timeout
            .as_ref()
            .map(|written| check.span(&at("timeout"), Some(written), DAY, MILLISECOND, DAY)),
        resume: entry.resume == Some(ResumeWord::Continue),
        same_space: entry.same_space,
        sticky,
        delay: check.span(&at("delay"), entry.delay.as_ref(), DELAY, Duration::ZERO, LONGEST_WAIT),
        width: width.clamp(1, count.max(1)),
        members,
    }
}

fn kind(check: &mut Check<'_>, id: &str, written: Option<&str>) -> Option<GroupKind> {
    let place = ["groups", id, "type"];
    let words: Vec<&str> = GroupKind::ALL.iter().map(|(word, _)| *word).collect();
    let Some(written) = written else {
        check.missing(&place, format!("is missing: one of {}", words.join(", ")));
        return None;
    };
    let known = GroupKind::ALL.iter().find(|(word, _)| *word == written).map(|(_, kind)| *kind);
    if known.is_none() {
        let quoted = check.quote(&place, written);
        let hint = did_you_mean(written, words.iter().copied());
        check.problem(&place, format!("{quoted} is no type of group (known: {}){hint}", words.join(", ")));
    }
    known
}

fn member(
    check: &mut Check<'_>,
    id: &str,
    index: usize,
    written: &MemberSpec,
    known: &BTreeSet<&str>,
) -> Option<MemberConfig> {
    let step = index_step(index);
    let nothing = DescribedMember::default();
    let (to, described, is_table) = match written {
        MemberSpec::Id(to) => (Some(to), &nothing, false),
        MemberSpec::Described(described) => (described.to.as_ref(), described, true),
    };
    let place: Vec<&str> = if is_table {
        vec!["groups", id, "members", &step, "to"]
    } else {
        vec!["groups", id, "members", &step]
    };
    let Some(to) = to else {
        check.missing(&place, "is missing: the id of a provider, group or router, with or without a model");
        return None;
    };
    let (backend, model) = match to.split_once('/') {
        Some((backend, model)) if !model.is_empty() => (backend, Some(model.to_owned())),
        Some(_) => {
            check.problem(
                &place,
                "has no model behind the `/`; leave the `/` out for the model that is asked for",
            );
            return None;
        }
        None => (to.as_str(), None),
    };
    let taken_out =
        ["providers", "groups", "routers"].iter().any(|section| check.was_removed(&[section, backend]));
    if !known.contains(backend) && taken_out {
        // What is wrong with it was said where it is.
        return None;
    }
    if !known.contains(backend) {
        let quoted = check.quote(&place, backend);
        let hint = did_you_mean(backend, known.iter().copied());
        let all: Vec<&str> = known.iter().copied().collect();
        let text =
            format!("no provider, group or router has the id {quoted} (known: {}){hint}", all.join(", "));
        check.problem(&place, text);
        return None;
    }
    let set = set(check, &["groups", id, "members", &step, "set"], &described.set);
    let weight = described.weight.and_then(|weight| u32::try_from(weight).ok()).unwrap_or(1);
    Some(MemberConfig { backend: backend.to_owned(), model, weight, set })
}

fn set(check: &mut Check<'_>, place: &[&str], written: &Map<String, Value>) -> Vec<(String, Bytes)> {
    let mut set = Vec::new();
    for (key, value) in written {
        if ESSENTIAL.contains(&key.as_str()) {
            let path = [place, &[key.as_str()]].concat();
            check.problem(&path, "cannot be set: without it, it is another request");
            continue;
        }
        set.push((key.clone(), Bytes::from(value.to_string())));
    }
    set
}

fn fail_on(check: &mut Check<'_>, id: &str, written: Option<&Vec<String>>) -> FailOn {
    let Some(written) = written else { return FailOn::Default };
    if written.is_empty() {
        let text =
            "is empty, so that no failure would count; leave it out for the default, or use one member";
        check.problem(&["groups", id, "fail_on"], text);
    }
    let named = [
        ("timeout", FailWord::Timeout),
        ("connect", FailWord::Connect),
        ("truncated", FailWord::Truncated),
        ("auth", FailWord::Auth),
        ("quota", FailWord::Quota),
        ("protocol", FailWord::Protocol),
        ("empty", FailWord::Empty),
        ("default", FailWord::Default),
        ("any", FailWord::Any),
        ("4xx", FailWord::Status(400, 499)),
        ("5xx", FailWord::Status(500, 599)),
    ];
    let mut words = Vec::new();
    for (index, text) in written.iter().enumerate() {
        let status = text.parse::<u16>().ok().filter(|status| (400..600).contains(status));
        let word = named.iter().find(|(name, _)| name == text).map(|(_, word)| *word);
        match word.or_else(|| status.map(|status| FailWord::Status(status, status))) {
            Some(word) => words.push(word),
            None => {
                let step = index_step(index);
                let known: Vec<&str> = named.iter().map(|(name, _)| *name).collect();
                let place = ["groups", id, "fail_on", &step];
                let quoted = check.quote(&place, text);
                let hint = did_you_mean(text, known.iter().copied());
                let text = format!(
                    "{quoted} is no failure: a status from 400 to 599, or {}{hint}",
                    known.join(", ")
                );
                check.problem(&place, text);
            }
        }
    }
    FailOn::These(words)
}

fn on_exhausted(check: &mut Check<'_>, id: &str, written: Option<&str>) -> Option<Duration> {
    match written {
        None | Some("reject") => None,
        Some("wait") => Some(WAIT),
        Some(text) => match quantity::span(&Span::Text(text.to_owned())) {
            Ok(wait) if !wait.is_zero() && wait <= LONGEST_WAIT => Some(wait),
            _ => {
                let text =
                    "write \"reject\", \"wait\", or how long to wait, such as \"60s\" (at most 10 min)";
                check.problem(&["groups", id, "on_exhausted"], text);
                None
            }
        },
    }
}
