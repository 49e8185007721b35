//! The type `static`: a fixed answer, or a fixed error.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;

use super::super::modifier::fixed::{Answer, Fixed};
use super::super::virtual_model::VirtualModel;
use super::{Build, Kind, Read, Site};
use crate::config::Reading;
use crate::config::spec::Span;
use crate::dialect::Task;

const SECOND: Duration = Duration::from_secs(1);
const MONTH: Duration = Duration::from_secs(31 * 86_400);

/// The row.
pub(super) const STATIC: Kind =
    Kind { word: "static", options: &[<FixedSpec as JsonSchema>::json_schema], read };

/// What it answers: a text, or an error.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
struct FixedSpec {
    /// static: the text of every answer. This or `status` is required.
    answer: Option<String>,
    /// static: instead of an answer, an error with this HTTP status.
    #[schemars(range(min = 400, max = 599))]
    status: Option<u64>,
    /// static: the error's message. Required with `status`.
    message: Option<String>,
    /// static: when the error says to come again. Default: it does not say.
    retry_after: Option<Span>,
}

fn read(reading: &mut Reading<'_, '_>) -> Option<Read> {
    let spec: FixedSpec = reading.options()?;
    let status = spec.status.and_then(|status| u16::try_from(status).ok());
    let retry_after = spec
        .retry_after
        .as_ref()
        .map(|written| reading.span(&["retry_after"], Some(written), SECOND, SECOND, MONTH));
    let answer = match (spec.answer, status) {
        (Some(text), None) => {
            for (key, written) in
                [("message", spec.message.is_some()), ("retry_after", retry_after.is_some())]
            {
                if written {
                    reading.problem(
                        &[key],
                        "belongs to an error, which needs a `status`; take it or `answer` out",
                    );
                }
            }
            Answer::Text(Arc::from(text))
        }
        (None, Some(status)) => {
            let Some(message) = spec.message else {
                reading.missing(&["message"], "is missing: what the error says, for people");
                return None;
            };
            Answer::Error { status, message: Arc::from(message), retry_after }
        }
        (Some(_), Some(_)) => {
            reading.problem(
                &["status"],
                "makes an error of every answer, so that `answer` is never given; take one out",
            );
            return None;
        }
        // What was meant to be there was wrong.
        (None, None) if reading.was_removed(&["status"]) => return None,
        (None, None) => {
            reading.missing(
                &["answer"],
                "is missing: the text to answer with, or `status` and `message` for an error",
            );
            return None;
        }
    };
    Some(Read { members: Vec::new(), build: Arc::new(answer) })
}

impl Build for Answer {
    fn build(&self, site: Site) -> Result<Arc<dyn VirtualModel>, String> {
        Ok(Arc::new(Fixed {
            about: site.about,
            answer: self.clone(),
            clock: Timestamp::now,
            metrics: site.means.metrics,
        }))
    }

    fn serves(&self, task: Task, _below: bool) -> bool {
        // A text is no vector, and it needs nobody for it.
        task != Task::Embedding
    }
}
