//! The type `cache`: answers that were given are given again.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::modifier::cache::{Cache, Disk, Kept, Options, Pace};
use super::super::modifier::{Among, Modified, Wrapped};
use super::super::virtual_model::VirtualModel;
use super::{Build, Kind, Read, Site};
use crate::config::spec::{MemberSpec, Size, Span};
use crate::config::{Form, Reading};
use crate::state::now;

const TTL: Duration = Duration::from_secs(3600);
const SECOND: Duration = Duration::from_secs(1);
const YEAR: Duration = Duration::from_secs(366 * 86_400);
const KB: u64 = 1024;
const MB: u64 = 1024 * KB;
const GB: u64 = 1024 * MB;

/// The row.
pub(super) const CACHE: Kind =
    Kind { word: "cache", options: &[<CacheSpec as JsonSchema>::json_schema], read };

/// Which answers are given again, to whom, and where they are kept.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
struct CacheSpec {
    /// The one backend that a modifier is over, named as a member is. Required.
    to: Option<MemberSpec>,
    /// cache: how long an answer is good. Default: 1 h.
    ttl: Option<Span>,
    /// cache: most memory that answers take. Default: "64MB".
    memory: Option<Size>,
    /// cache: largest answer that is kept. Default: "1MB".
    max_entry: Option<Size>,
    /// cache: answers are kept that would be others the next time, too. Default: false, only those to embeddings,
    /// `temperature` 0, a `seed`, or a client that asks for it by `x-demuxai-cache: use`.
    all: bool,
    /// cache, dedupe: no client gets an answer that was another one's. Default: true.
    per_client: Option<bool>,
    /// cache: streams are given again "at-once" or in the "original" pieces with their pauses. Default: "at-once".
    replay: Option<Replay>,
    /// The file: of a cache a SQLite file (default: none, answers are in memory only), of a tee the one that is written
    /// to (required). Absolute, ~/…, or relative to the configuration's file.
    path: Option<String>,
    /// The largest file: a cache forgets its oldest answers (default: "1GB"), a tee puts the file aside and begins
    /// another (default: "64MB").
    max_file: Option<Size>,
}

/// How streams are given again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Replay {
    AtOnce,
    Original,
}

/// A cache, as configured.
#[derive(Debug, Clone, PartialEq)]
struct Configured {
    options: Options,
    file: Option<(PathBuf, u64)>,
}

/// Whose requests count as the same.
pub(super) fn among(per_client: Option<bool>) -> Among {
    if per_client.unwrap_or(true) { Among::OneClients } else { Among::AllClients }
}

fn read(reading: &mut Reading<'_, '_>) -> Option<Read> {
    let spec: CacheSpec = reading.options()?;
    let member = reading.member("to", spec.to.as_ref());
    let memory = reading.size(&["memory"], spec.memory.as_ref(), 64 * MB, 64 * KB..=64 * GB);
    let max_entry = reading.size(&["max_entry"], spec.max_entry.as_ref(), MB, KB..=GB);
    if max_entry > memory {
        let text =
            "is more than `memory`, so that such an answer would never be kept; lower it, or raise that";
        let key = if spec.max_entry.is_some() { "max_entry" } else { "memory" };
        let text = if key == "memory" {
            "is less than `max_entry` (default: 1 MB), so that such an answer would never be kept; raise it, or lower that"
        } else {
            text
        };
        reading.problem(&[key], text);
    }
    let file = spec.path.as_deref().and_then(|written| reading.file("path", written, Form::Database));
    if spec.max_file.is_some() && spec.path.is_none() {
        reading.problem(&["max_file"], "has a meaning only with a `path`; add one, or take this out");
    }
    let max_file = reading.size(&["max_file"], spec.max_file.as_ref(), GB, MB..=1024 * GB);
    let options = Options {
        ttl: reading.span(&["ttl"], spec.ttl.as_ref(), TTL, SECOND, YEAR),
        memory: usize::try_from(memory).unwrap_or(usize::MAX),
        max_entry: usize::try_from(max_entry).unwrap_or(usize::MAX),
        all: spec.all,
        among: among(spec.per_client),
        pace: match spec.replay.unwrap_or(Replay::AtOnce) {
            Replay::AtOnce => Pace::AtOnce,
            Replay::Original => Pace::Original,
        },
    };
    let build = Configured { options, file: file.map(|path| (path, max_file)) };
    Some(Read { members: vec![member?], build: Arc::new(build) })
}

impl Build for Configured {
    fn build(&self, site: Site) -> Result<Arc<dyn VirtualModel>, String> {
        let kept = site.memory.clone().and_then(|memory| memory.downcast::<Kept>().ok());
        let wrapped = Wrapped::of(site)?;
        if let Some(kept) = kept {
            return Ok(Arc::new(Modified::new(Cache::over(wrapped, self.options.clone(), kept, now))));
        }
        let disk = self.file.as_ref().map(|(path, most)| {
            Disk::new(path.clone(), *most, now, wrapped.metrics.cache_disk(&wrapped.about.id))
        });
        let cache = Cache::new(wrapped, self.options.clone(), disk, now);
        Ok(Arc::new(Modified::new(cache)))
    }
}
