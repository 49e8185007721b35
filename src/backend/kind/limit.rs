//! The type `limit`: how much of a backend each client may have.

use std::sync::Arc;

use http::header::HeaderName;
use schemars::JsonSchema;
use serde::Deserialize;

use super::super::condition::is_secret;
use super::super::modifier::limit::{By, Limited};
use super::super::modifier::{Modified, Wrapped};
use super::super::virtual_model::VirtualModel;
use super::{Build, Kind, Read, Site};
use crate::config::Reading;
use crate::config::settings::{Limit, MemberConfig};
use crate::config::spec::{LimitSpec, MemberSpec};

/// The row.
pub(super) const LIMIT: Kind =
    Kind { word: "limit", options: &[<LimitingSpec as JsonSchema>::json_schema], read };

/// Who may have how much.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
struct LimitingSpec {
    /// The one backend that is wrapped, as a member is named. Required by types that wrap one.
    to: Option<MemberSpec>,
    /// limit, budget: who answers what is beyond it, as a member is named. Default: nobody, it is refused.
    overflow: Option<MemberSpec>,
    /// limit: how much each may have, in the words of a provider's limits. Required.
    #[schemars(extend("x-expects" = "a list like [{ requests = 20, per = \"minute\" }]"))]
    limits: Vec<LimitSpec>,
    /// limit, budget: who has it for himself: "client" (each client's key), "group" (all together), or "header:NAME" (each
    /// value of a header). Default: "client" for limit, "group" for budget.
    by: Option<String>,
}

/// As configured.
#[derive(Debug)]
struct Limiting {
    limits: Vec<Limit>,
    by: By,
}

fn read(reading: &mut Reading<'_, '_>) -> Option<Read> {
    let spec: LimitingSpec = reading.options()?;
    let members = wrapped_and_overflow(reading, spec.to.as_ref(), spec.overflow.as_ref());
    let by = by(reading, spec.by.as_deref(), By::Client);
    if spec.limits.is_empty() {
        reading.missing(&["limits"], "is missing: such as [{ requests = 20, per = \"minute\" }]");
    }
    let limits = reading.limits("limits", &spec.limits);
    Some(Read { members: members?, build: Arc::new(Limiting { limits, by: by? }) })
}

/// The backend that is wrapped, and the one for what is beyond it.
pub(super) fn wrapped_and_overflow(
    reading: &mut Reading<'_, '_>,
    to: Option<&MemberSpec>,
    overflow: Option<&MemberSpec>,
) -> Option<Vec<MemberConfig>> {
    let to = reading.member("to", to);
    let overflow = match overflow {
        None => None,
        Some(written) => Some(reading.member("overflow", Some(written))?),
    };
    Some([to?].into_iter().chain(overflow).collect())
}

/// Who has a limit for himself.
pub(super) fn by(reading: &mut Reading<'_, '_>, written: Option<&str>, default: By) -> Option<By> {
    let Some(written) = written else { return Some(default) };
    match written {
        "client" => return Some(By::Client),
        "group" => return Some(By::Group),
        _ => {}
    }
    let Some(name) = written.strip_prefix("header:") else {
        let known = ["client", "group", "header:NAME"];
        reading.unknown_word(&["by"], None, written, "nobody: write", &known);
        return None;
    };
    let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else {
        reading
            .problem(&["by"], "has no name of a header behind `header:`; write it as in \"header:x-team\"");
        return None;
    };
    if is_secret(&name) {
        reading.problem(
            &["by"],
            "names a header that holds a secret; use \"client\", which counts by the key's name",
        );
        return None;
    }
    Some(By::Header(name))
}

impl Build for Limiting {
    fn build(&self, site: Site) -> Result<Arc<dyn VirtualModel>, String> {
        let owner = format!("limit:{}", site.about.id);
        let tally = site.means.tallies.of_group(&owner, &self.by.word(), &self.limits)?;
        let (wrapped, mut others) = Wrapped::with_others(site)?;
        let overflow = if others.is_empty() { None } else { Some(others.remove(0)) };
        Ok(Arc::new(Modified::new(Limited { wrapped, overflow, by: self.by.clone(), tally })))
    }
}
