//! Groups: what all types have in common, and the means by which a type reads its own options (`backend/kind`). How groups
//! hang together is `nesting.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use schemars::generate::SchemaSettings;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::super::place::{KeyPath, index_step, spot_of};
use super::super::quantity;
use super::super::reference::{Surroundings, located};
use super::super::report::did_you_mean;
use super::super::settings::{GroupConfig, Limit, MemberConfig};
use super::super::spec::{DescribedMember, GroupSpec, LimitSpec, MemberSpec, Size, Span, Spec};
use super::{Check, Form, Written, limits, target};
use crate::backend::kind::{KINDS, Kind, words};

/// Most members of a group.
const MOST_MEMBERS: usize = 100;

/// Words for types that people bring from elsewhere, and ours.
const OTHER_WORDS: &[(&str, &str)] = &[
    ("fallback", "failover"),
    ("fail-over", "failover"),
    ("priority", "failover"),
    ("load-balance", "round-robin"),
    ("loadbalance", "round-robin"),
    ("balance", "round-robin"),
    ("weighted", "random"),
    ("shuffle", "random"),
    ("simple-shuffle", "random"),
    ("fastest", "least-latency"),
    ("latency", "least-latency"),
    ("latency-based-routing", "least-latency"),
    ("usage-based-routing", "most-quota"),
    ("parallel", "race"),
    ("hedge", "race"),
    ("hedged", "race"),
    ("panel", "consensus"),
    ("judge", "consensus"),
    ("ensemble", "consensus"),
    ("vote", "consensus"),
    ("fusion", "consensus"),
    ("fixed", "static"),
    ("mock", "static"),
    ("log", "tee"),
    ("record", "tee"),
    ("ratelimit", "limit"),
    ("rate-limit", "limit"),
    ("quota", "limit"),
    ("cost", "budget"),
    ("spend", "budget"),
    ("transform", "rewrite"),
    ("deduplicate", "dedupe"),
];

/// Checks all groups and gives those that are valid.
pub(super) fn all(check: &mut Check<'_>, spec: &Spec) -> Vec<GroupConfig> {
    let entries: Vec<(String, GroupSpec)> = check.entries("groups", &spec.groups);
    let known = target::backends(spec);
    let options = options();
    let mut groups = Vec::new();
    for (id, entry) in &entries {
        groups.extend(one(check, id, entry, (&known, &spec.providers), &options));
    }
    groups
}

/// The names of each type's own options.
type Options = BTreeMap<&'static str, BTreeSet<String>>;

fn options() -> Options {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let mut names = |kind: &Kind| {
        let schemas = kind.options.iter().map(|schema| schema(&mut generator));
        let tables = schemas.filter_map(|schema| schema.get("properties")?.as_object().cloned());
        tables.flat_map(|table| table.into_iter().map(|(key, _)| key)).collect()
    };
    KINDS.iter().map(|kind| (kind.word, names(kind))).collect()
}

fn one(
    check: &mut Check<'_>,
    id: &str,
    entry: &GroupSpec,
    (known, providers): (&BTreeSet<&str>, &Map<String, Value>),
    options: &Options,
) -> Option<GroupConfig> {
    // Without a type it is no group, but the problems that most types would have are told all the same.
    let kind = kind(check, id, entry.kind.as_deref());
    if let Some(kind) = kind {
        for key in entry.options.keys() {
            let has = |word: &str| options.get(word).is_some_and(|keys| keys.contains(key));
            let has_own = |key: &str| options.get(kind.word).is_some_and(|keys| keys.contains(key));
            if has(kind.word) {
                continue;
            }
            let types: Vec<String> =
                words().filter(|word| has(word)).map(|word| format!("\"{word}\"")).collect();
            let own = options.get(kind.word).into_iter().flatten().map(String::as_str);
            let hint = match (key.as_str(), has_own("members"), has_own("to")) {
                ("to", true, _) => "; write members = [\"...\"]".to_owned(),
                ("members", _, true) => "; write to = \"...\"".to_owned(),
                _ => did_you_mean(key, own),
            };
            let text = format!("has a meaning only for type = {}, not {}{hint}", types.join(", "), kind.word);
            check.problem(&["groups", id, key], text);
        }
    }
    // Most types have members; of one that names a single backend nothing is certain.
    let kind = kind.or_else(|| KINDS.first().filter(|_| !entry.options.contains_key("to")))?;
    let mut reading = Reading { check, id, kind: kind.word, options: &entry.options, known, providers };
    let read = (kind.read)(&mut reading)?;
    Some(GroupConfig {
        id: id.to_owned(),
        kind: kind.word,
        name: entry.name.clone(),
        description: entry.description.clone(),
        hidden: entry.hidden,
        members: read.members,
        build: read.build,
        options: entry.options.clone(),
    })
}

fn kind(check: &mut Check<'_>, id: &str, written: Option<&str>) -> Option<&'static Kind> {
    let place = ["groups", id, "type"];
    let all: Vec<&str> = words().collect();
    let Some(written) = written else {
        check.missing(&place, format!("is missing: one of {}", all.join(", ")));
        return None;
    };
    let known = KINDS.iter().find(|kind| kind.word == written);
    if known.is_none() {
        let quoted = check.quote(&place, written);
        let lower = written.trim().to_lowercase().replace(['_', ' '], "-");
        let theirs = OTHER_WORDS.iter().find(|(theirs, _)| *theirs == lower);
        let hint = match theirs {
            Some((_, ours)) => format!("; did you mean `{ours}`?"),
            None => did_you_mean(written, all.iter().copied()),
        };
        check.problem(&place, format!("{quoted} is no type of group (known: {}){hint}", all.join(", ")));
    }
    known
}

/// A group that is being read by its type: its options, and where to report what is wrong with them. Paths are those
/// inside the group.
pub(crate) struct Reading<'c, 'a> {
    check: &'c mut Check<'a>,
    id: &'c str,
    kind: &'static str,
    options: &'c Map<String, Value>,
    known: &'c BTreeSet<&'c str>,
    providers: &'c Map<String, Value>,
}

// === impl Reading ===

impl Reading<'_, '_> {
    /// The group's type.
    pub(crate) fn kind(&self) -> &'static str {
        self.kind
    }

    /// Whether this is a provider's id.
    pub(crate) fn is_provider(&self, id: &str) -> bool {
        self.providers.contains_key(id)
    }

    /// Some of the options, as a table of them; others are not looked at.
    pub(crate) fn options<T: DeserializeOwned>(&mut self) -> Option<T> {
        let read = T::deserialize(self.options).ok();
        if read.is_none() {
            // Cannot be after the walk; said without serde's words, which quote values.
            self.problem(&[], "cannot be read");
        }
        read
    }

    /// Reports what is wrong.
    pub(crate) fn problem(&mut self, path: &[&str], message: impl Into<String>) {
        self.check.problem(&within(self.id, path), message);
    }

    /// Reports what is missing, unless something was taken out there as wrong.
    pub(crate) fn missing(&mut self, path: &[&str], message: impl Into<String>) {
        self.check.missing(&within(self.id, path), message);
    }

    /// Reports a word, or that of a list's element, that is not among the known ones: "`x` is no failure: …".
    pub(crate) fn unknown_word(
        &mut self,
        path: &[&str],
        index: Option<usize>,
        word: &str,
        what: &str,
        known: &[&str],
    ) {
        let step = index.map(index_step);
        let path: Vec<&str> = path.iter().copied().chain(step.as_deref()).collect();
        let quoted = self.check.quote(&within(self.id, &path), word);
        let hint = did_you_mean(word, known.iter().copied());
        self.problem(&path, format!("{quoted} is {what} {}{hint}", known.join(", ")));
    }

    /// A length of time within bounds, or its default.
    pub(crate) fn span(
        &mut self,
        path: &[&str],
        written: Option<&Span>,
        default: Duration,
        least: Duration,
        most: Duration,
    ) -> Duration {
        self.check.span(&within(self.id, path), written, default, least, most)
    }

    /// A text as a length of time.
    pub(crate) fn parsed_span(&self, text: &str) -> Option<Duration> {
        quantity::span(&Span::Text(text.to_owned())).ok()
    }

    /// A number of bytes within bounds, or its default.
    pub(crate) fn size(
        &mut self,
        path: &[&str],
        written: Option<&Size>,
        default: u64,
        bounds: RangeInclusive<u64>,
    ) -> u64 {
        let Some(written) = written else { return default };
        match quantity::size(written) {
            Ok(size) if bounds.contains(&size) => return size,
            Ok(_) => {
                let (least, most) =
                    (quantity::shown_size(*bounds.start()), quantity::shown_size(*bounds.end()));
                self.problem(path, format!("must be at least {least} and at most {most}"));
            }
            Err(why) => self.problem(path, why),
        }
        default
    }

    /// Where a file is that the group writes to, and that is named under this key; relative to the file that names it.
    pub(crate) fn file(&mut self, key: &'static str, written: &str, form: Form) -> Option<PathBuf> {
        let at = within(self.id, &[key]);
        let directory = spot_of(self.check.layers, &at).and_then(|spot| self.check.places.directory(spot));
        match located(written, &Surroundings::new(self.check.env, directory)) {
            Ok(file) if written.ends_with(['/', '\\']) || file.is_dir() => {
                let quoted = self.check.quote(&at, written);
                self.problem(&[key], format!("{quoted} is a directory; name a file in it"));
                None
            }
            Ok(file) => {
                let group = self.id.to_owned();
                let path: KeyPath = at.iter().map(|step| (*step).to_owned()).collect();
                let absolute = std::path::absolute(&file).unwrap_or_else(|_| file.clone());
                self.check.veiled.located.insert(path, absolute);
                self.check.written.push(Written { group, key, file: file.clone(), form });
                Some(file)
            }
            Err(why) => {
                self.problem(&[key], why);
                None
            }
        }
    }

    /// A list of 1 to 100 members under this key.
    pub(crate) fn members(&mut self, key: &'static str, written: &[MemberSpec]) -> Vec<MemberConfig> {
        if written.is_empty() || written.len() > MOST_MEMBERS {
            let text = format!("needs 1 to {MOST_MEMBERS} members, such as \"mistral/mistral-small-latest\"");
            self.missing(&[key], text);
        }
        let members = written.iter().enumerate();
        members.filter_map(|(index, written)| self.member_at(&[key, &index_step(index)], written)).collect()
    }

    /// The one backend under this key, which must be there.
    pub(crate) fn member(&mut self, key: &'static str, written: Option<&MemberSpec>) -> Option<MemberConfig> {
        let Some(written) = written else {
            self.missing(&[key], target::MISSING);
            return None;
        };
        self.member_at(&[key], written)
    }

    /// A backend that stands for itself under this path, which must be there.
    pub(crate) fn named_member(&mut self, at: &[&str], to: &str) -> Option<MemberConfig> {
        self.member_at(at, &MemberSpec::Id(to.to_owned()))
    }

    /// Whether there is a provider, group or router of this id.
    pub(crate) fn is_known(&self, id: &str) -> bool {
        self.known.contains(id)
    }

    /// The limits under this key that are valid.
    pub(crate) fn limits(&mut self, key: &str, written: &[LimitSpec]) -> Vec<Limit> {
        limits::all(self.check, &within(self.id, &[key]), written)
    }

    /// Keeps in mind that something there is wrong, which was told: nothing is missed there.
    pub(crate) fn told(&mut self, path: &[&str]) {
        let path = within(self.id, path).into_iter().map(str::to_owned).collect();
        self.check.removed.insert(path);
    }

    /// Whether something was taken out there as wrong.
    pub(crate) fn was_removed(&self, path: &[&str]) -> bool {
        self.check.was_removed(&within(self.id, path))
    }

    /// Whether a field cannot be changed: without it, it is another request.
    pub(crate) fn is_essential(&self, field: &str) -> bool {
        target::ESSENTIAL.contains(&field)
    }

    /// Request fields and their values under this key, but those that cannot be changed.
    pub(crate) fn fields(&mut self, key: &str, written: &Map<String, Value>) -> Vec<(String, Bytes)> {
        target::set(self.check, &within(self.id, &[key]), written)
    }

    fn member_at(&mut self, at: &[&str], written: &MemberSpec) -> Option<MemberConfig> {
        let nothing = DescribedMember::default();
        let (to, described, place) = match written {
            MemberSpec::Id(to) => (Some(to), &nothing, at.to_vec()),
            MemberSpec::Described(described) => (described.to.as_ref(), described, [at, &["to"]].concat()),
        };
        let Some(to) = to else {
            self.missing(&place, target::MISSING);
            return None;
        };
        let path = within(self.id, &place);
        let (backend, model) = target::read(self.check, &path, to, self.known)?;
        let set = target::set(self.check, &within(self.id, &[at, &["set"]].concat()), &described.set);
        let weight = described.weight.and_then(|weight| u32::try_from(weight).ok()).unwrap_or(1);
        let place = at.iter().map(|step| (*step).to_owned()).collect();
        Some(MemberConfig { backend, model, weight, set, place })
    }
}

/// A path inside a group, from the top.
fn within<'p>(id: &'p str, path: &[&'p str]) -> Vec<&'p str> {
    [&["groups", id], path].concat()
}
