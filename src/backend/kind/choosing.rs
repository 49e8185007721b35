//! The types of groups that choose one of their members for each request, and the next one when it fails. They differ in
//! the strategy; a race asks several side by side.

use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::group::{Group, GroupBackend, Racing, Remembered, Turns};
use super::super::sticky::Sticky;
use super::super::strategy::strategy;
use super::super::virtual_model::VirtualModel;
use super::{Build, Kind, Read, Site};
use crate::config::Reading;
use crate::config::settings::{FailOn, FailWord, MemberConfig, StickyBy, StickyConfig};
use crate::config::spec::{MemberSpec, Span};

/// How long `on_exhausted = "wait"` waits, and the most that can be asked for.
const WAIT: Duration = Duration::from_secs(30);
const LONGEST_WAIT: Duration = Duration::from_secs(600);
/// When the next member of a race is asked.
const DELAY: Duration = Duration::from_secs(1);
/// How long a conversation stays where it is.
const KEEP: Duration = Duration::from_secs(30 * 60);
const DAY: Duration = Duration::from_secs(86_400);
const MILLISECOND: Duration = Duration::from_millis(1);

/// The row of a type that asks one member after the other.
pub(super) const fn kind(word: &'static str) -> Kind {
    Kind { word, options: &[<ChoosingSpec as JsonSchema>::json_schema], read }
}

/// The row of races.
pub(super) const RACE: Kind = Kind {
    word: "race",
    options: &[<ChoosingSpec as JsonSchema>::json_schema, <RaceSpec as JsonSchema>::json_schema],
    read,
};

/// What all types that choose have in common.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
struct ChoosingSpec {
    /// Who answers: "provider/model", "provider", the id of a group or router, "group/model", or a table that says more.
    /// Required, but for types that ask one backend or none.
    members: Vec<MemberSpec>,
    /// What makes a request go to the next member: statuses such as 429, "4xx", "5xx", and timeout, connect,
    /// truncated, auth, quota, protocol, empty (an answer without content), default, any. Default: "default", all that
    /// another upstream may do better.
    fail_on: Option<Vec<String>>,
    /// When no member has capacity: "reject", "wait" (30 s at most), or how long to wait. Default: "reject".
    on_exhausted: Option<String>,
    /// Most calls sent for one request. Default: twice the number of members.
    #[schemars(range(min = 1, max = 50))]
    attempts: Option<u64>,
    /// Longest time to the first part of the answer, whoever is asked. Default: none.
    timeout: Option<Span>,
    /// "continue": when a stream of plain text breaks off after its first word, another member goes on from there, if its
    /// upstream can. Default: none, the stream ends with an error.
    resume: Option<ResumeWord>,
    /// Embeddings of all members are of one space, so that a request may move to another model. Default: false.
    same_space: bool,
    /// Conversations stay where they were answered. Default: none.
    sticky: Option<StickySpec>,
}

/// What races have beside that.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
struct RaceSpec {
    /// race: after so long the next member is asked as well. Default: 1 s.
    delay: Option<Span>,
    /// race: most members at once. Default: all.
    #[schemars(range(min = 2, max = 50))]
    width: Option<u64>,
}

/// Conversations stay where their prompt cache is.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("x-expects" = "a table like { by = \"conversation\" }"))]
struct StickySpec {
    /// What tells them apart: "conversation" (how it begins), "user" (the request's field), "session" (a header:
    /// x-demuxai-session, or what agents send). Default: "conversation".
    by: Option<StickyWord>,
    /// How long after the last answer. Default: 30 min.
    keep: Option<Span>,
}

/// What happens to a stream that breaks off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum ResumeWord {
    Continue,
}

/// What tells conversations apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum StickyWord {
    Conversation,
    User,
    Session,
}

/// A group that chooses, as configured.
#[derive(Debug, Clone, PartialEq)]
pub struct Choosing {
    /// The strategy's name.
    pub strategy: &'static str,
    /// What makes a request go to the next member.
    pub fail_on: FailOn,
    /// How long a request waits when no member has capacity; `None` = it is rejected at once.
    pub wait: Option<Duration>,
    /// Most calls sent for one request.
    pub attempts: usize,
    /// Longest time to the commit point; `None` = no bound beside the members' own.
    pub timeout: Option<Duration>,
    /// Another member goes on with a stream that breaks off.
    pub resume: bool,
    /// Embeddings may move to another model.
    pub same_space: bool,
    /// Conversations stay where they were answered.
    pub sticky: Option<StickyConfig>,
    /// Members are asked side by side.
    pub racing: Option<Racing>,
}

fn read(reading: &mut Reading<'_, '_>) -> Option<Read> {
    let spec: ChoosingSpec = reading.options()?;
    let members: Vec<MemberConfig> = reading.members("members", &spec.members);
    let sticky = spec.sticky.as_ref().map(|written| StickyConfig {
        by: match written.by.unwrap_or(StickyWord::Conversation) {
            StickyWord::Conversation => StickyBy::Conversation,
            StickyWord::User => StickyBy::User,
            StickyWord::Session => StickyBy::Session,
        },
        keep: reading.span(&["sticky", "keep"], written.keep.as_ref(), KEEP, MILLISECOND, DAY),
    });
    let attempts = spec.attempts.and_then(|number| usize::try_from(number).ok());
    let count = members.len();
    let racing = match reading.kind() {
        "race" => Some(racing(reading, count)?),
        _ => None,
    };
    let choosing = Choosing {
        strategy: reading.kind(),
        fail_on: fail_on(reading, spec.fail_on.as_ref()),
        wait: on_exhausted(reading, spec.on_exhausted.as_deref()),
        attempts: attempts.unwrap_or(count.saturating_mul(2)).clamp(1, 50),
        timeout: spec
            .timeout
            .as_ref()
            .map(|written| reading.span(&["timeout"], Some(written), DAY, MILLISECOND, DAY)),
        resume: spec.resume == Some(ResumeWord::Continue),
        same_space: spec.same_space,
        sticky,
        racing,
    };
    Some(Read { members, build: Arc::new(choosing) })
}

fn racing(reading: &mut Reading<'_, '_>, members: usize) -> Option<Racing> {
    let spec: RaceSpec = reading.options()?;
    let width = spec.width.and_then(|number| usize::try_from(number).ok()).unwrap_or(members);
    let delay = reading.span(&["delay"], spec.delay.as_ref(), DELAY, Duration::ZERO, LONGEST_WAIT);
    Some(Racing { delay, width: width.clamp(1, members.max(1)) })
}

fn fail_on(reading: &mut Reading<'_, '_>, written: Option<&Vec<String>>) -> FailOn {
    let Some(written) = written else { return FailOn::Default };
    if written.is_empty() {
        let text =
            "is empty, so that no failure would count; leave it out for the default, or use one member";
        reading.problem(&["fail_on"], text);
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
            None => reading.unknown_word(
                &["fail_on"],
                Some(index),
                text,
                "no failure: a status from 400 to 599, or",
                &named.map(|(name, _)| name),
            ),
        }
    }
    FailOn::These(words)
}

fn on_exhausted(reading: &mut Reading<'_, '_>, written: Option<&str>) -> Option<Duration> {
    match written {
        None | Some("reject") => None,
        Some("wait") => Some(WAIT),
        Some(text) => {
            let least = Duration::from_nanos(1);
            let wait = reading.parsed_span(text).filter(|wait| (least..=LONGEST_WAIT).contains(wait));
            if wait.is_none() {
                let text =
                    "write \"reject\", \"wait\", or how long to wait, such as \"60s\" (at most 10 min)";
                reading.problem(&["on_exhausted"], text);
            }
            wait
        }
    }
}

impl Build for Choosing {
    fn build(&self, site: Site) -> Result<Arc<dyn VirtualModel>, String> {
        let rule = strategy(self.strategy)
            .ok_or_else(|| format!("group `{}`: no type `{}`", site.about.id, self.strategy))?;
        let memory = site.memory.and_then(|memory| memory.downcast::<Remembered>().ok());
        let (turns, sticky) = match memory {
            Some(memory) => (Arc::clone(&memory.turns), memory.sticky.clone()),
            None => {
                let sticky = self.sticky.as_ref().map(|sticky| Arc::new(Sticky::new(sticky.by, sticky.keep)));
                (Arc::new(Turns::new(rule, fastrand::Rng::new())), sticky)
            }
        };
        Ok(Arc::new(GroupBackend::new(Group {
            about: site.about,
            members: site.members,
            attempts: self.attempts,
            timeout: self.timeout,
            fail_on: self.fail_on.clone(),
            wait: self.wait,
            resume: self.resume,
            same_space: self.same_space,
            racing: self.racing,
            turns,
            sticky,
            metrics: site.means.metrics,
        })))
    }
}
