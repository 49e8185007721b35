//! The type `dedupe`: requests that ask the same at the same time share one call.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::modifier::dedupe::{Dedupe, InFlight, Options};
use super::super::modifier::{Modified, Wrapped};
use super::super::virtual_model::VirtualModel;
use super::cache::among;
use super::{Build, Kind, Read, Site};
use crate::config::Reading;
use crate::config::spec::{MemberSpec, Size};

const KB: u64 = 1024;
const MB: u64 = 1024 * KB;

/// The row.
pub(super) const DEDUPE: Kind =
    Kind { word: "dedupe", options: &[<DedupeSpec as JsonSchema>::json_schema], read };

/// Which requests share a call.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
struct DedupeSpec {
    /// The one backend that a modifier is over, named as a member is. Required.
    to: Option<MemberSpec>,
    /// cache, dedupe: no client gets an answer that was another one's. Default: true.
    per_client: Option<bool>,
    /// dedupe: most that is kept of an answer for those that join later, and for those that read slowly. Default: "4MB".
    max_buffer: Option<Size>,
}

fn read(reading: &mut Reading<'_, '_>) -> Option<Read> {
    let spec: DedupeSpec = reading.options()?;
    let member = reading.member("to", spec.to.as_ref());
    let max_buffer = reading.size(&["max_buffer"], spec.max_buffer.as_ref(), 4 * MB, 64 * KB..=1024 * MB);
    let options = Options {
        among: among(spec.per_client),
        max_buffer: usize::try_from(max_buffer).unwrap_or(usize::MAX),
    };
    Some(Read { members: vec![member?], build: Arc::new(options) })
}

impl Build for Options {
    fn build(&self, site: Site) -> Result<Arc<dyn VirtualModel>, String> {
        let flights = site.memory.clone().and_then(|memory| memory.downcast::<InFlight>().ok());
        let flights = flights.unwrap_or_default();
        Ok(Arc::new(Modified::new(Dedupe::over(Wrapped::of(site)?, self.clone(), flights))))
    }
}
