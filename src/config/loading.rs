//! The steps of a load: which files, each file into a layer, what is found without one, and the checks at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use config::ValueKind;
use serde::Deserialize;

use super::image::{Image, Veiled};
use super::layers::{merged, set};
use super::place::{KeyPath, Place, Places, Tree};
use super::report::{Findings, Problem, Report};
use super::schema::Node;
use super::settings::Config;
use super::spec::Spec;
use super::validate::{self, Check};
use super::walk::Walk;
use super::{Kind, Sources, discover, fill, legacy, read};

/// The variable that names a configuration file.
const FILE_VARIABLE: &str = "DEMUXAI_CONFIG_FILE";
/// What stands for the first listener in the path of an override.
const FIRST: &str = "<first>";

/// What gathers while the layers are read.
#[derive(Default)]
pub(super) struct Loading {
    pub(super) places: Places,
    pub(super) findings: Findings,
    removed: BTreeSet<KeyPath>,
    pub(super) whole: BTreeSet<KeyPath>,
    notes: Vec<String>,
    /// A file could not be read: what it says is not known, so nothing is missed.
    pub(super) incomplete: bool,
    /// There was nothing to read; what was found is served.
    discovered: bool,
}

/// The configuration files of these sources, lowest first: named ones, else the variable's, else those of the platform's
/// directory.
///
/// # Errors
/// The path and a sentence, when a directory exists and cannot be listed.
pub fn named_files(sources: &Sources) -> Result<Vec<PathBuf>, (PathBuf, String)> {
    if !sources.files.is_empty() {
        return Ok(sources.files.clone());
    }
    if let Some(path) = sources.env.get(FILE_VARIABLE).filter(|path| !path.is_empty()) {
        return Ok(vec![PathBuf::from(path)]);
    }
    sources.config_dir.as_ref().map_or(Ok(Vec::new()), |directory| read::default_files(directory))
}

// === impl Loading ===

impl Loading {
    /// The files to read.
    pub(super) fn files(&mut self, sources: &Sources) -> Vec<PathBuf> {
        match named_files(sources) {
            Ok(files) => files,
            Err((path, message)) => {
                let place = self.places.add(Place::File(path, None));
                self.problem(place, None, message);
                Vec::new()
            }
        }
    }

    /// Reads one file into a layer.
    pub(super) fn file(
        &mut self,
        path: &Path,
        root: Node<'_>,
        env: &BTreeMap<String, String>,
    ) -> Option<Tree> {
        let text = match read::configuration_text(path) {
            Ok(text) => text,
            Err(message) => {
                let place = self.places.add(Place::File(path.to_owned(), None));
                self.problem(place, None, message);
                return None;
            }
        };
        self.text(path, text, root, env)
    }

    /// Reads the text of a file into a layer.
    pub(super) fn text(
        &mut self,
        path: &Path,
        text: String,
        root: Node<'_>,
        env: &BTreeMap<String, String>,
    ) -> Option<Tree> {
        if legacy::is_legacy(path, &text) {
            return self.legacy_file(path, &text, root, env);
        }
        let place = self.places.add(Place::File(path.to_owned(), Some(text.clone())));
        match read::toml_table(&text, place) {
            Ok(mut tree) => {
                self.walk(root, &mut tree);
                Some(tree)
            }
            Err(problems) => {
                for (offset, message) in problems {
                    self.problem(place, Some(offset), message);
                }
                None
            }
        }
    }

    fn legacy_file(
        &mut self,
        path: &Path,
        text: &str,
        root: Node<'_>,
        env: &BTreeMap<String, String>,
    ) -> Option<Tree> {
        let place = self.places.add(Place::File(path.to_owned(), Some(text.to_owned())));
        match legacy::read(text, place, env) {
            Ok(legacy::Converted { mut tree, notes }) => {
                self.notes.extend(notes.iter().map(|note| format!("{}: {note}", path.display())));
                self.walk_with(root, &mut tree, true);
                Some(tree)
            }
            Err(problems) => {
                for (key, message, offset) in problems {
                    let spot = (place, offset.unwrap_or(usize::MAX));
                    let origin = self.places.name(spot);
                    self.findings.add(spot, || Problem { origin, key, message });
                }
                self.incomplete = true;
                None
            }
        }
    }

    /// A problem of a file as a whole.
    fn problem(&mut self, place: usize, offset: Option<usize>, message: String) {
        let spot = (place, offset.unwrap_or(0));
        self.findings.add(spot, || Problem { origin: self.places.name(spot), key: String::new(), message });
        self.incomplete = true;
    }

    pub(super) fn walk(&mut self, root: Node<'_>, tree: &mut Tree) {
        self.walk_with(root, tree, false);
    }

    fn walk_with(&mut self, root: Node<'_>, tree: &mut Tree, lenient: bool) {
        let mut walk = Walk {
            places: &self.places,
            findings: &mut self.findings,
            removed: &mut self.removed,
            whole: &mut self.whole,
            lenient,
        };
        walk.table(root, tree, &mut Vec::new(), (0, 0));
    }

    pub(super) fn discovered(
        &mut self,
        env: &BTreeMap<String, String>,
        kinds: &[Kind<'_>],
        probe: &dyn Fn(&str) -> bool,
    ) -> Tree {
        self.discovered = true;
        let found = discover::discover(env, kinds, probe);
        self.notes
            .push("no configuration file: serving what was found (`demuxai init` writes one)".to_owned());
        self.notes.extend(found.iter().map(|found| format!("provider {}: {}", found.id, found.why)));
        if found.is_empty() {
            self.notes.push(discover::nothing_found(kinds));
        }
        let place = self.places.add(Place::BuiltIn);
        discover::layer(&found, place)
    }

    /// The layer of the command line.
    pub(super) fn overrides(&mut self, overrides: &[(String, toml::Value)], below: &Tree) -> Tree {
        let mut tree = Tree::new();
        if overrides.is_empty() {
            return tree;
        }
        let place = self.places.add(Place::CommandLine);
        let first = match below.get("listeners").map(|value| &value.kind) {
            Some(ValueKind::Table(listeners)) => listeners.keys().next().map(String::as_str),
            _ => None,
        };
        let taken = |id: &str| {
            ["providers", "groups", "routers"].iter().any(|section| {
                matches!(below.get(*section).map(|value| &value.kind),
                    Some(ValueKind::Table(table)) if table.contains_key(id))
            })
        };
        let first = first.unwrap_or_else(|| validate::free_id(taken));
        for (path, value) in overrides {
            let steps: Vec<&str> =
                path.split('.').map(|step| if step == FIRST { first } else { step }).collect();
            set(&mut tree, &steps, read::value_of(value, place), place);
        }
        tree
    }

    /// Merges, fills in variables, checks all that is left to check.
    pub(super) fn finish(
        mut self,
        root: Node<'_>,
        layers: &[Tree],
        sources: &Sources,
        kinds: &[Kind<'_>],
    ) -> (Option<Config>, Report) {
        if self.incomplete {
            let files = self.places.files().collect();
            return (None, Report { files, ..self.findings.into_report() });
        }
        let mut tree = merged(layers, &self.whole);
        let mut check = Check {
            env: &sources.env,
            kinds,
            state_dir: sources.state_dir.as_deref(),
            places: &self.places,
            layers,
            removed: self.removed,
            filled: BTreeMap::new(),
            unset: BTreeMap::new(),
            veiled: Veiled::default(),
            files: BTreeSet::new(),
            written: Vec::new(),
            programs: sources.programs,
            findings: self.findings,
            warnings: Findings::default(),
            notes: self.notes,
        };
        fill::fill(&mut check, &mut tree);
        // Once more: a word may have come out of a variable.
        let mut walk = Walk {
            places: check.places,
            findings: &mut check.findings,
            removed: &mut check.removed,
            whole: &mut self.whole,
            lenient: false,
        };
        walk.table(root, &mut tree, &mut Vec::new(), (0, 0));
        // The walk has taken out what would not fit; a failure here is ours, and then says so.
        let plain = validate::plain_table(tree);
        let spec = Spec::deserialize(&plain).unwrap_or_else(|_| {
            check.problem(&[], "cannot be read");
            Spec::default()
        });
        let mut config = validate::configuration(&mut check, &spec);
        if config.providers.is_empty() && !self.discovered {
            config.notes.push("no providers are configured: add a [providers.NAME] table".to_owned());
        }
        if let serde_json::Value::Object(written) = &plain {
            check.veiled.filled = check.filled.keys().cloned().collect();
            config.image = Image::of(&config, written, &check.veiled);
        }
        let files: Vec<PathBuf> = self.places.files().chain(check.files).collect();
        config.files.clone_from(&files);
        let report = check.findings.into_report();
        let warnings = if report.problems.is_empty() { Vec::new() } else { config.warnings.clone() };
        (Some(config), Report { warnings, files, ..report })
    }
}
