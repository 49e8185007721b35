//! The type `tee`: requests and answers are written to a file, too.

use std::sync::Arc;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;

use super::super::modifier::tee::{Media, Options, Tee};
use super::super::modifier::{Modified, Wrapped};
use super::super::virtual_model::VirtualModel;
use super::{Build, Kind, Read, Site};
use crate::config::spec::{MemberSpec, Size};
use crate::config::{Form, Reading};

const KB: u64 = 1024;
const MB: u64 = 1024 * KB;

/// The row.
pub(super) const TEE: Kind = Kind { word: "tee", options: &[<TeeSpec as JsonSchema>::json_schema], read };

/// What is written, and where.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
struct TeeSpec {
    /// The one backend that a modifier is over, named as a member is. Required.
    to: Option<MemberSpec>,
    /// The file: of a cache a SQLite file (default: none, answers are in memory only), of a tee the one that is written
    /// to (required). Absolute, ~/…, or relative to the configuration's file.
    path: Option<String>,
    /// The largest file: a cache forgets its oldest answers (default: "1GB"), a tee puts the file aside and begins
    /// another (default: "64MB").
    max_file: Option<Size>,
    /// tee: so many files that were put aside are kept. Default: 5.
    #[schemars(range(min = 1, max = 1000))]
    keep_files: Option<u64>,
    /// tee: largest request, and largest answer, that is written. Default: "4MB".
    max_record: Option<Size>,
    /// tee: what becomes of base64 of images, audio and files: "cut" (only its length is written) or "keep". Default:
    /// "cut".
    media: Option<MediaWord>,
}

/// What becomes of media.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum MediaWord {
    Cut,
    Keep,
}

fn read(reading: &mut Reading<'_, '_>) -> Option<Read> {
    let spec: TeeSpec = reading.options()?;
    let member = reading.member("to", spec.to.as_ref());
    if spec.path.is_none() {
        reading.missing(&["path"], "is missing: the file that requests and answers are written to");
    }
    let path = spec.path.as_deref().and_then(|written| reading.file("path", written, Form::Lines));
    let max_file = reading.size(&["max_file"], spec.max_file.as_ref(), 64 * MB, 64 * KB..=1024 * 1024 * MB);
    let max_record = reading.size(&["max_record"], spec.max_record.as_ref(), 4 * MB, KB..=256 * MB);
    let options = Options {
        path: path?,
        max_file,
        keep_files: usize::try_from(spec.keep_files.unwrap_or(5)).unwrap_or(1),
        max_record: usize::try_from(max_record).unwrap_or(usize::MAX),
        media: match spec.media.unwrap_or(MediaWord::Cut) {
            MediaWord::Cut => Media::Cut,
            MediaWord::Keep => Media::Keep,
        },
    };
    Some(Read { members: vec![member?], build: Arc::new(options) })
}

impl Build for Options {
    fn build(&self, site: Site) -> Result<Arc<dyn VirtualModel>, String> {
        let (id, means) = (Arc::clone(&site.about.id), site.means.clone());
        let tee = Tee::new(Wrapped::of(site)?, self.clone(), means.secrets, &means.tees, Timestamp::now)
            .map_err(|why| format!("group `{id}`: {why}"))?;
        Ok(Arc::new(Modified::new(tee)))
    }
}
