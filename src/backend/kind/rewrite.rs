//! The type `rewrite`: what is changed in a request on its way to one backend.

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::super::group::Member;
use super::super::modifier::rewrite::{Changes, Renamed, Rewriting};
use super::super::modifier::{Modified, Wrapped};
use super::super::virtual_model::VirtualModel;
use super::{Build, Kind, Read, Site};
use crate::config::Reading;
use crate::config::settings::MemberConfig;
use crate::config::spec::MemberSpec;
use crate::dialect::SystemText;
use crate::quota::Glob;

/// What makes a name a glob.
const GLOB: [char; 4] = ['*', '?', '[', '{'];

/// The row.
pub(super) const REWRITE: Kind =
    Kind { word: "rewrite", options: &[<RewriteSpec as JsonSchema>::json_schema], read };

/// What is changed.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
struct RewriteSpec {
    /// The one backend that is wrapped, as a member is named. Required by types that wrap one.
    to: Option<MemberSpec>,
    /// rewrite: request fields that get this value. Default: none.
    #[schemars(with = "BTreeMap<String, Value>", extend("x-whole" = true, "x-expects" = "a table like { temperature = 0.1 }"))]
    set: Map<String, Value>,
    /// rewrite: request fields that get this value where the client sends none. Default: none.
    #[schemars(with = "BTreeMap<String, Value>", extend("x-whole" = true, "x-expects" = "a table like { temperature = 0.1 }"))]
    default: Map<String, Value>,
    /// rewrite: request fields that are numbers, and the largest that each may be. Default: none.
    #[schemars(with = "BTreeMap<String, f64>", extend("x-whole" = true, "x-expects" = "a table like { max_tokens = 1000 }"))]
    cap: Map<String, Value>,
    /// rewrite: request fields that are taken out. Default: none.
    remove: Vec<String>,
    /// rewrite: what is added to what the system says. Default: nothing.
    system: Option<SystemSpec>,
    /// rewrite: models by other names: globs on what is asked for behind this group's id, and what is meant: a model of
    /// `to`, "provider/model", or a group or router. Default: none.
    #[schemars(with = "BTreeMap<String, String>", extend("x-whole" = true, "x-expects" = "a table like { \"gpt-*\" = \"mistral-large-latest\" }"))]
    rename: Map<String, Value>,
}

/// What is added to what the system says.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("x-expects" = "a table like { prepend = \"Be brief.\" }"))]
struct SystemSpec {
    /// Before it. Default: nothing.
    prepend: Option<String>,
    /// Behind it. Default: nothing.
    append: Option<String>,
}

/// As configured.
#[derive(Debug)]
struct Rewrite {
    changes: Changes,
    /// Globs, and the model of the wrapped backend or the place of another one.
    renames: Vec<(Glob, Target)>,
}

#[derive(Debug)]
enum Target {
    Model(String),
    Place(usize),
}

fn read(reading: &mut Reading<'_, '_>) -> Option<Read> {
    let spec: RewriteSpec = reading.options()?;
    let to = reading.member("to", spec.to.as_ref());
    let set = reading.fields("set", &spec.set);
    let default = reading.fields("default", &spec.default);
    let mut cap = Vec::new();
    for (key, raw) in reading.fields("cap", &spec.cap) {
        match spec.cap.get(&key).and_then(Value::as_f64) {
            Some(most) => cap.push((key, most, raw)),
            None => reading.problem(&["cap", &key], "is no number"),
        }
    }
    for key in &spec.remove {
        if reading.is_essential(key) {
            reading.problem(&["remove"], format!("names `{key}`, without which it is another request"));
        }
    }
    let text = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let system = spec.system.as_ref().map_or_else(SystemText::default, |system| SystemText {
        prepend: text(&system.prepend),
        append: text(&system.append),
    });
    let mut members: Vec<_> = to.into_iter().collect();
    let renames = renames(reading, &spec.rename, &mut members);
    let changes = Changes { remove: spec.remove, default, set, cap, system };
    if changes == Changes::default() && spec.rename.is_empty() {
        reading
            .missing(&[], "changes nothing: write `set`, `default`, `cap`, `remove`, `system` or `rename`");
    }
    (!members.is_empty()).then(|| Read { members, build: Arc::new(Rewrite { changes, renames }) })
}

fn renames(
    reading: &mut Reading<'_, '_>,
    written: &Map<String, Value>,
    members: &mut Vec<MemberConfig>,
) -> Vec<(Glob, Target)> {
    let mut renames = Vec::new();
    for (names, to) in written {
        let glob = match Glob::parse(names) {
            Ok(glob) => glob,
            Err(why) => {
                reading.problem(&["rename", names], format!("not a glob: {why}"));
                continue;
            }
        };
        let Some(to) = to.as_str().filter(|to| !to.is_empty()) else {
            reading
                .problem(&["rename", names], "names no model; write the one that is to be asked for instead");
            continue;
        };
        let first = to.split_once('/').map_or(to, |(first, _)| first);
        if reading.is_known(first) {
            let Some(member) = reading.named_member(&["rename", names], to) else { continue };
            members.push(member);
            renames.push((glob, Target::Place(members.len() - 1)));
        } else {
            renames.push((glob, Target::Model(to.to_owned())));
        }
    }
    // What says more comes before what says less, and a name before all globs.
    renames.sort_by_key(|(glob, _)| (glob.text.contains(GLOB), std::cmp::Reverse(glob.text.len())));
    renames
}

impl Build for Rewrite {
    fn build(&self, site: Site) -> Result<Arc<dyn VirtualModel>, String> {
        let (wrapped, others) = Wrapped::with_others(site)?;
        let renamed = self.renames.iter().map(|(names, to)| {
            let to = match to {
                Target::Model(model) => Some(Member {
                    label: Arc::from(format!("{}/{model}", wrapped.inner.backend.id())),
                    model: Some(Arc::from(model.as_str())),
                    ..wrapped.inner.clone()
                }),
                // The first place is that of the backend that is wrapped.
                Target::Place(place) => place.checked_sub(1).and_then(|place| others.get(place)).cloned(),
            };
            let to =
                to.ok_or_else(|| format!("group `{}`: nobody for `{}`", wrapped.about.id, names.text))?;
            Ok(Renamed { names: names.clone(), to })
        });
        let renamed = renamed.collect::<Result<Vec<_>, String>>()?;
        Ok(Arc::new(Modified::new(Rewriting { wrapped, changes: self.changes.clone(), renamed })))
    }
}
