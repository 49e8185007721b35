//! What becomes of a request at a panel, in virtual time and with backends that do as they are told.

mod asking;
mod fakes;
mod judges;

use std::sync::Arc;

use super::super::group::{Group, GroupBackend, Turns};
use super::super::strategy::strategy;
use super::super::virtual_model::Section;
use super::*;
use crate::config::settings::FailOn;
use fakes::{Fake, Heard, Step, call, hear, say};

fn about(id: &str) -> About {
    About {
        id: id.into(),
        section: Section::Group,
        kind: "consensus",
        name: None,
        description: None,
        hidden: false,
    }
}

fn member(backend: Arc<dyn Backend>) -> Member {
    Member { label: backend.id().into(), backend, model: None, weight: 1, set: Vec::new() }
}

/// Noon, in milliseconds since the epoch, too.
const NOON: i64 = 1_795_867_200_000;

fn noon() -> Timestamp {
    Timestamp::from_millisecond(NOON).unwrap()
}

/// A panel of these members, two of which must answer.
fn panel(members: &[&Arc<Fake>], judge: &Arc<Fake>) -> Panel {
    judged_by(members, Arc::clone(judge) as Arc<dyn Backend>)
}

fn judged_by(members: &[&Arc<Fake>], judge: Arc<dyn Backend>) -> Panel {
    Panel {
        about: about("panel"),
        members: members.iter().map(|fake| member(Arc::clone(fake) as Arc<dyn Backend>)).collect(),
        judge: Some(member(judge)),
        combine: Combine::Judge,
        quorum: 2,
        deadline: Duration::from_secs(60),
        grace: Duration::from_secs(10),
        on_quota: OnQuota::Shrink,
        fallback: None,
        show: Show::Reasoning,
        prompt: None,
        clock: noon,
        metrics: Arc::new(Metrics::new().unwrap()),
        hope: Arc::default(),
        shares: false,
    }
}

/// A failover group over these.
fn failover(id: &str, members: Vec<Arc<dyn Backend>>, metrics: &Arc<Metrics>) -> Arc<dyn Backend> {
    Arc::new(GroupBackend::new(Group {
        about: about(id),
        members: members.into_iter().map(member).collect(),
        attempts: 4,
        timeout: None,
        fail_on: FailOn::Default,
        wait: None,
        resume: false,
        same_space: false,
        racing: None,
        turns: Arc::new(Turns::new(strategy("failover").unwrap(), fastrand::Rng::with_seed(1))),
        sticky: None,
        metrics: Arc::clone(metrics),
    }))
}

async fn stream(panel: Panel) -> Result<Heard, ProxyError> {
    let reply = PanelBackend::new(panel).forward(call(r#","stream":true"#)).await?;
    Ok(hear(reply).await)
}

async fn whole(panel: Panel, fields: &str) -> Result<(Reply, serde_json::Value), ProxyError> {
    let reply = PanelBackend::new(panel).forward(call(fields)).await?;
    let ReplyBody::Whole { bytes, .. } = &reply.body else { panic!("a whole answer") };
    let body = serde_json::from_slice(bytes).unwrap();
    Ok((reply, body))
}

fn hops(attempts: &[crate::error::Attempt]) -> Vec<(&str, &str)> {
    attempts.iter().map(|hop| (&*hop.backend, hop.label)).collect()
}

fn metric(metrics: &Metrics, series: &str) -> bool {
    let text = String::from_utf8(metrics.encode().unwrap()).unwrap();
    text.lines().any(|line| line == series)
}
