//! The type of groups that ask all of their members and make one answer of theirs.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;

use super::super::consensus::combine::Combine;
use super::super::consensus::plan::OnQuota;
use super::super::consensus::{Panel, PanelBackend, Show};
use super::super::virtual_model::VirtualModel;
use super::{Build, Kind, Read, Site};
use crate::config::Reading;
use crate::config::spec::{MemberSpec, Span};
use crate::dialect::Task;

/// How long a member may take, and the most that can be asked for.
const DEADLINE: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(600);
/// How long the others may take once the quorum has answered.
const GRACE: Duration = Duration::from_secs(10);
const MILLISECOND: Duration = Duration::from_millis(1);
/// All members are asked for each request, and all their answers kept until one is made of them.
const MOST_MEMBERS: usize = 16;

/// The row of panels.
pub(super) const CONSENSUS: Kind =
    Kind { word: "consensus", options: &[<ConsensusSpec as JsonSchema>::json_schema], read };

/// What a panel's table says.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
struct ConsensusSpec {
    /// Who answers: "provider/model", "provider", the id of a group or router, "group/model", or a table that says more.
    /// Required, but for types that ask one backend or none.
    members: Vec<MemberSpec>,
    /// consensus: who writes the final answer or chooses it: any backend (of a provider one of its
    /// models), best a group that fails over. It also answers alone what cannot be combined: requests with tools or n > 1.
    /// Required for combine = "judge" and "best".
    judge: Option<MemberSpec>,
    /// consensus: what makes one answer of several: "judge" (it writes one), "best" (it chooses one), "first", "longest",
    /// "majority" (the same text or JSON from more than half). Default: "judge".
    combine: Option<CombineWord>,
    /// consensus: so many members must answer; empty answers do not count. Default: more than half, 1 for "first".
    #[schemars(range(min = 1, max = 16))]
    quorum: Option<u64>,
    /// consensus: the longest time that each member may take. Default: 60 s; at most 10 min.
    deadline: Option<Span>,
    /// consensus: how long the other members may take once the quorum has answered. Default: 10 s.
    grace: Option<Span>,
    /// consensus: when members have no capacity: "shrink" (the others are asked, if they are a quorum), "refuse" (nobody
    /// is). Default: "shrink".
    on_quota: Option<QuotaWord>,
    /// consensus: what takes the judge's place when it fails: "first", "longest", "majority". Default: none, an error.
    fallback: Option<FallbackWord>,
    /// consensus: how clients see what the members say: "reasoning" (reasoning_content), "harmony" (the analysis channel
    /// in the text), "nothing". Default: "reasoning" with a judge that writes or chooses, else "nothing".
    show: Option<ShowWord>,
    /// consensus: what the judge is told before it gets the answers, in place of the usual. Default: to write one answer of
    /// them without facts of its own.
    prompt: Option<String>,
}

/// What makes one answer of several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum CombineWord {
    Judge,
    Best,
    First,
    Longest,
    Majority,
}

/// What happens where members have no capacity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum QuotaWord {
    Shrink,
    Refuse,
}

/// What takes the judge's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum FallbackWord {
    First,
    Longest,
    Majority,
}

/// How clients see what the members say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum ShowWord {
    Reasoning,
    Harmony,
    Nothing,
}

/// A panel as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consensus {
    /// Its last member is the judge.
    pub judge: bool,
    /// What makes one answer of several.
    pub combine: Combine,
    /// So many members must answer.
    pub quorum: usize,
    /// How long each member may take.
    pub deadline: Duration,
    /// How long the others may take once the quorum has answered.
    pub grace: Duration,
    /// What happens where members have no capacity.
    pub on_quota: OnQuota,
    /// What takes the judge's place when it fails.
    pub fallback: Option<Combine>,
    /// How clients see what the members say.
    pub show: Show,
    /// What the judge is told, if not the usual.
    pub prompt: Option<String>,
}

fn read(reading: &mut Reading<'_, '_>) -> Option<Read> {
    let spec: ConsensusSpec = reading.options()?;
    let mut members = reading.members("members", &spec.members);
    let count = spec.members.len();
    if count > MOST_MEMBERS {
        let text = format!("has {count} members, and all are asked for each request: at most {MOST_MEMBERS}");
        reading.problem(&["members"], text);
    }
    let combine = match spec.combine {
        None | Some(CombineWord::Judge) => Combine::Judge,
        Some(CombineWord::Best) => Combine::Best,
        Some(CombineWord::First) => Combine::First,
        Some(CombineWord::Longest) => Combine::Longest,
        Some(CombineWord::Majority) => Combine::Majority,
    };
    let judge = judge(reading, spec.judge.as_ref(), combine);
    let quorum = quorum(reading, spec.quorum, count, combine);
    let consensus = Consensus {
        judge: judge.is_some(),
        combine,
        quorum,
        deadline: reading.span(&["deadline"], spec.deadline.as_ref(), DEADLINE, MILLISECOND, LONGEST),
        grace: reading.span(&["grace"], spec.grace.as_ref(), GRACE, Duration::ZERO, LONGEST),
        on_quota: match spec.on_quota {
            None | Some(QuotaWord::Shrink) => OnQuota::Shrink,
            Some(QuotaWord::Refuse) => OnQuota::Refuse,
        },
        fallback: spec.fallback.map(|word| match word {
            FallbackWord::First => Combine::First,
            FallbackWord::Longest => Combine::Longest,
            FallbackWord::Majority => Combine::Majority,
        }),
        show: match spec.show {
            Some(ShowWord::Reasoning) => Show::Reasoning,
            Some(ShowWord::Harmony) => Show::Harmony,
            Some(ShowWord::Nothing) => Show::Nothing,
            None if combine.asks_judge() => Show::Reasoning,
            None => Show::Nothing,
        },
        prompt: spec.prompt.clone(),
    };
    for (key, written) in [("prompt", spec.prompt.is_some()), ("fallback", spec.fallback.is_some())] {
        if written && !combine.asks_judge() {
            let text = format!(
                "has a meaning only where a judge is asked, by combine = \"judge\" or \"best\", not \"{}\"",
                combine.word()
            );
            reading.problem(&[key], text);
        }
    }
    if spec.prompt.as_ref().is_some_and(|prompt| prompt.trim().is_empty()) {
        reading.problem(&["prompt"], "is empty; leave it out for the usual one");
    }
    members.extend(judge);
    Some(Read { members, build: Arc::new(consensus) })
}

/// The judge, if there is one; and that it is missing where there must be.
fn judge(
    reading: &mut Reading<'_, '_>,
    written: Option<&MemberSpec>,
    combine: Combine,
) -> Option<crate::config::settings::MemberConfig> {
    if written.is_none() {
        if combine.asks_judge() {
            let text = format!(
                "is missing: who {}, best a group that fails over; or combine = \"majority\", \"longest\" or \"first\", \
                 which need none",
                if combine == Combine::Best { "chooses the best answer" } else { "writes the final answer" }
            );
            reading.missing(&["judge"], text);
        }
        return None;
    }
    let judge = reading.member("judge", written)?;
    if judge.model.is_none() && reading.is_provider(&judge.backend) {
        let text = format!("is a provider; name one of its models, as in \"{}/MODEL\"", judge.backend);
        reading.problem(&["judge"], text);
    }
    Some(judge)
}

fn quorum(reading: &mut Reading<'_, '_>, written: Option<u64>, members: usize, combine: Combine) -> usize {
    let usual = if combine == Combine::First { 1 } else { members / 2 + 1 };
    let quorum = written.and_then(|number| usize::try_from(number).ok()).unwrap_or(usual);
    if quorum > members && members > 0 {
        let text = format!("{quorum} members must answer, and there are {members}: at most that many can");
        reading.problem(&["quorum"], text);
    }
    quorum.max(1)
}

impl Build for Consensus {
    fn build(&self, site: Site) -> Result<Arc<dyn VirtualModel>, String> {
        let mut members = site.members;
        let judge = if self.judge { members.pop() } else { None };
        Ok(Arc::new(PanelBackend::new(Panel {
            about: site.about,
            members,
            judge,
            combine: self.combine,
            quorum: self.quorum,
            deadline: self.deadline,
            grace: self.grace,
            on_quota: self.on_quota,
            fallback: self.fallback,
            show: self.show,
            prompt: self.prompt.clone(),
            clock: Timestamp::now,
            metrics: site.means.metrics,
            hope: Arc::default(),
            shares: false,
        })))
    }

    fn repeats(&self) -> bool {
        // Several answers of one model are worth a vote.
        true
    }

    fn serves(&self, task: Task, below: bool) -> bool {
        task == Task::Chat && below
    }
}
