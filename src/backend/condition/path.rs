//! `path`: a glob on the HTTP path of the request, without the query; doubled and trailing slashes do not count.

use globset::GlobMatcher;
use serde_json::Value;

use super::reading::{self, Fault};
use super::{Condition, Facts, Names};
use crate::dialect::{ENDPOINTS, Task};

struct Path(GlobMatcher);

/// Reads a glob.
pub(super) fn read(value: &Value, _names: &Names<'_>) -> Result<Box<dyn Condition>, Fault> {
    let path = Path(reading::glob(reading::text(value)?)?);
    if ENDPOINTS.iter().all(|endpoint| path.excludes(endpoint.path)) {
        let known: Vec<String> = ENDPOINTS.iter().map(|endpoint| format!("/v1/{}", endpoint.path)).collect();
        return Err(Fault::from(format!(
            "matches no path there is: {}, each also without /v1",
            known.join(", ")
        )));
    }
    Ok(Box::new(path))
}

// === impl Path ===

impl Path {
    fn excludes(&self, endpoint: &str) -> bool {
        !self.0.is_match(format!("/v1/{endpoint}")) && !self.0.is_match(format!("/{endpoint}"))
    }
}

impl Condition for Path {
    fn holds(&self, facts: &Facts<'_>) -> bool {
        facts.arrival.is_some_and(|arrival| self.0.is_match(&arrival.path))
    }

    fn certainly(&self, task: Task) -> Option<bool> {
        // A completion may turn out to be fill in the middle.
        let comes_by =
            |endpoint: Task| endpoint == task || (task == Task::Fim && endpoint == Task::Completion);
        let mut paths = ENDPOINTS.iter().filter(|endpoint| comes_by(endpoint.task));
        paths.all(|endpoint| self.excludes(endpoint.path)).then_some(false)
    }

    fn seen(&self, facts: &Facts<'_>) -> Option<String> {
        let shown: String = facts.arrival?.path.chars().take(200).collect();
        Some(format!("the path is {shown}"))
    }
}
