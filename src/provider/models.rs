//! A provider's model list as it stands: what is listed, how old it is, and whether it can be trusted to be complete.
//! Pure; the actor fetches, this decides.

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::{Duration, Instant};

use globset::GlobSet;

use super::{Model, capability};
use crate::config::settings::StaticModel;

/// A list older than this is fetched anew before it denies a model, and no list is asked for twice within it.
pub const FRESH: Duration = Duration::from_secs(2);

/// The models of one provider, after filters. Immutable: a refresh makes a new one.
#[derive(Default)]
pub struct ModelList {
    models: Vec<Model>,
    by_id: HashMap<String, usize>,
    /// Other ids that the upstream has for them, as far as they are no ids of their own.
    by_alias: HashMap<String, usize>,
    /// When the upstream last gave its list; `None`: it never did.
    fetched: Option<Instant>,
    /// The upstream serves models that it does not list.
    open: bool,
    include: Option<GlobSet>,
    exclude: Option<GlobSet>,
}

/// What a list says of one model id.
#[derive(Debug, PartialEq)]
pub enum Lookup<'a> {
    /// It is listed; the id to send upstream is the listed one.
    Listed(&'a Model),
    /// It is not listed, but the list does not settle it: send it as it is.
    Unlisted,
    /// It is not listed in a list that is complete but no longer fresh enough to deny it: refresh, then ask again.
    Stale,
    /// It is not there.
    Absent,
    /// The configuration excludes it.
    Excluded,
}

impl ModelList {
    /// A list of these models, less those that the globs hide. Of two models with one id the first counts.
    pub fn new(
        models: Vec<Model>,
        fetched: Option<Instant>,
        open: bool,
        include: Option<GlobSet>,
        exclude: Option<GlobSet>,
    ) -> Self {
        let mut list = ModelList { fetched, open, include, exclude, ..ModelList::default() };
        for model in models {
            if list.allows(&model.id) && !list.by_id.contains_key(&model.id) {
                list.by_id.insert(model.id.clone(), list.models.len());
                list.models.push(model);
            }
        }
        for (index, model) in list.models.iter().enumerate() {
            for alias in model.aliases.iter().filter(|alias| !list.by_id.contains_key(*alias)) {
                list.by_alias.entry(alias.clone()).or_insert(index);
            }
        }
        list
    }

    /// The same models as another configuration has them. Before it is fetched anew it denies nothing: what was hidden
    /// is not in it.
    pub fn as_configured(
        &self,
        configured: &[StaticModel],
        catalogue: Vec<Model>,
        open: bool,
        include: Option<GlobSet>,
        exclude: Option<GlobSet>,
    ) -> ModelList {
        let models = with_static(self.models.clone(), configured, catalogue);
        let fetched = self.fetched.and_then(|at| at.checked_sub(FRESH * 2));
        ModelList::new(models, fetched, open, include, exclude)
    }

    /// The models, in the upstream's order.
    pub fn models(&self) -> &[Model] {
        &self.models
    }

    /// When the upstream last gave its list.
    pub fn fetched(&self) -> Option<Instant> {
        self.fetched
    }

    /// Whether the configuration's globs allow this id. Exclusion wins. A name without a tag and the same with
    /// `:latest` are one model.
    pub fn allows(&self, id: &str) -> bool {
        if self.include.is_none() && self.exclude.is_none() {
            return true;
        }
        let other = twin(id);
        let matches = |globs: &GlobSet| {
            globs.is_match(id) || other.as_deref().is_some_and(|other| globs.is_match(other))
        };
        self.include.as_ref().is_none_or(matches) && !self.exclude.as_ref().is_some_and(matches)
    }

    /// The listed model of this id or alias. Ollama's clients append `:latest` at will, and its server does too.
    pub fn find(&self, id: &str) -> Option<&Model> {
        let exact = self.by_id.get(id).or_else(|| match id.strip_suffix(":latest") {
            Some(bare) => self.by_id.get(bare),
            None => self.by_id.get(&format!("{id}:latest")),
        });
        exact.or_else(|| self.by_alias.get(id)).and_then(|index| self.models.get(*index))
    }

    /// What this list says of a model id at `now`. A denial needs a list not older than `fresh`.
    pub fn look_up(&self, id: &str, now: Instant, fresh: Duration) -> Lookup<'_> {
        if !self.allows(id) {
            return Lookup::Excluded;
        }
        if let Some(model) = self.find(id) {
            return Lookup::Listed(model);
        }
        match self.fetched {
            _ if self.open => Lookup::Unlisted,
            None => Lookup::Unlisted,
            Some(at) if now.saturating_duration_since(at) > fresh => Lookup::Stale,
            Some(_) => Lookup::Absent,
        }
    }
}

/// Each model once where an upstream lists one under several names that are aliases of each other (Mistral does,
/// 2026-11): under a name that ends with `latest` if there is one, else under the first; the others are its aliases.
pub fn each_once<'m>(models: &[&'m Model]) -> Vec<Cow<'m, Model>> {
    let mut places: HashMap<&str, usize> = HashMap::new();
    let mut kinds: Vec<Vec<&'m Model>> = Vec::new();
    for model in models {
        let names = || std::iter::once(&model.id).chain(&model.aliases).map(String::as_str);
        let place = names().find_map(|name| places.get(name).copied()).unwrap_or(kinds.len());
        if place == kinds.len() {
            kinds.push(Vec::new());
        }
        for name in names() {
            places.entry(name).or_insert(place);
        }
        if let Some(kind) = kinds.get_mut(place) {
            kind.push(model);
        }
    }
    kinds.iter().filter_map(|kind| merged(kind)).collect()
}

/// Several entries of one model as one.
fn merged<'m>(kind: &[&'m Model]) -> Option<Cow<'m, Model>> {
    let shown = kind.iter().find(|model| model.id.ends_with("latest")).or_else(|| kind.first())?;
    if kind.len() == 1 {
        return Some(Cow::Borrowed(shown));
    }
    let mut aliases: Vec<String> = Vec::new();
    for name in kind.iter().flat_map(|model| std::iter::once(&model.id).chain(&model.aliases)) {
        if *name != shown.id && !aliases.contains(name) {
            aliases.push(name.clone());
        }
    }
    Some(Cow::Owned(Model { aliases, ..(*shown).clone() }))
}

/// The other spelling of an id with or without the tag `:latest`; none for an id with another tag.
fn twin(id: &str) -> Option<Cow<'_, str>> {
    match id.strip_suffix(":latest") {
        Some(bare) => Some(Cow::Borrowed(bare)),
        None if id.contains(':') => None,
        None => Some(Cow::Owned(format!("{id}:latest"))),
    }
}

/// The upstream's list with the configured and the catalogue's models added. What is configured says more than
/// what is listed, and what is listed more than the catalogue.
pub fn with_static(listed: Vec<Model>, configured: &[StaticModel], catalogue: Vec<Model>) -> Vec<Model> {
    let mut models = listed;
    for wanted in configured {
        let position = models.iter().position(|model| model.id == wanted.id).unwrap_or_else(|| {
            models.push(Model { id: wanted.id.clone(), ..Model::default() });
            models.len() - 1
        });
        let Some(model) = models.get_mut(position) else { continue };
        if !wanted.capabilities.is_empty() {
            model.capabilities = capability::from_words(&wanted.capabilities);
        }
        model.context_length = wanted.context_length.or(model.context_length);
    }
    for known in catalogue {
        if !models.iter().any(|model| model.id == known.id) {
            models.push(known);
        }
    }
    models
}

#[cfg(test)]
mod tests {
    use globset::{Glob, GlobSetBuilder};

    use super::*;

    fn model(id: &str) -> Model {
        Model { id: id.to_owned(), ..Model::default() }
    }

    fn globs(pattern: &str) -> Option<GlobSet> {
        let glob = Glob::new(pattern).ok()?;
        GlobSetBuilder::new().add(glob).build().ok()
    }

    #[test]
    fn exclusion_wins_over_inclusion_and_hides_what_the_upstream_lists() {
        let now = Instant::now();
        let list = ModelList::new(
            vec![model("voxtral-mini"), model("mistral-small")],
            Some(now),
            false,
            globs("*"),
            globs("voxtral-*"),
        );
        assert_eq!(list.models().len(), 1);
        assert_eq!(list.look_up("voxtral-mini", now, FRESH), Lookup::Excluded);
        assert_eq!(list.look_up("voxtral-unheard-of", now, FRESH), Lookup::Excluded);
    }

    #[test]
    fn an_unlisted_model_is_sent_unchecked_while_no_list_could_be_had() {
        let list = ModelList::default();
        assert_eq!(list.look_up("any", Instant::now(), FRESH), Lookup::Unlisted);
    }

    #[test]
    fn an_unlisted_model_is_sent_unchecked_where_the_list_is_open() {
        let now = Instant::now();
        let list = ModelList::new(vec![model("a")], Some(now), true, None, None);
        assert_eq!(list.look_up("b", now, FRESH), Lookup::Unlisted);
    }

    #[test]
    fn only_a_fresh_list_denies_a_model() {
        let then = Instant::now();
        let list = ModelList::new(vec![model("a")], Some(then), false, None, None);
        assert_eq!(list.look_up("b", then + Duration::from_secs(1), FRESH), Lookup::Absent);
        assert_eq!(list.look_up("b", then + Duration::from_secs(3), FRESH), Lookup::Stale);
    }

    #[test]
    fn the_latest_tag_may_be_there_or_not() {
        let list = ModelList::new(vec![model("qwen3:latest"), model("bare")], None, false, None, None);
        assert_eq!(list.find("qwen3").map(|found| found.id.as_str()), Some("qwen3:latest"));
        assert_eq!(list.find("bare:latest").map(|found| found.id.as_str()), Some("bare"));
        assert_eq!(list.find("qwen3:8b"), None);
    }

    #[test]
    fn an_exclusion_covers_both_spellings_of_the_latest_tag_and_no_other_tag() {
        for pattern in ["qwen3", "qwen3:latest"] {
            let list = ModelList::new(Vec::new(), None, false, None, globs(pattern));
            assert!(!list.allows("qwen3") && !list.allows("qwen3:latest") && list.allows("qwen3:8b"));
            let list = ModelList::new(Vec::new(), None, false, globs(pattern), None);
            assert!(list.allows("qwen3") && list.allows("qwen3:latest") && !list.allows("qwen3:8b"));
        }
    }

    #[test]
    fn each_model_is_there_once_under_its_latest_name_or_its_first() {
        let aliased = |id: &str, aliases: &[&str]| Model {
            aliases: aliases.iter().map(|alias| (*alias).to_owned()).collect(),
            ..model(id)
        };
        let listed = [
            aliased("large-2411", &["large-latest", "large"]),
            aliased("tiny", &[]),
            aliased("large-latest", &["large-2411"]),
            aliased("code-2508", &["code"]),
            aliased("code", &["code-2508"]),
        ];
        let once = each_once(&listed.iter().collect::<Vec<_>>());
        let shown: Vec<(&str, Vec<&str>)> = once
            .iter()
            .map(|model| (model.id.as_str(), model.aliases.iter().map(String::as_str).collect()))
            .collect();
        assert_eq!(
            shown,
            [("large-latest", vec!["large-2411", "large"]), ("tiny", vec![]), ("code-2508", vec!["code"])]
        );
    }

    #[test]
    fn an_alias_means_its_model_unless_it_is_an_id() {
        let aliased = |id: &str, aliases: &[&str]| Model {
            aliases: aliases.iter().map(|alias| (*alias).to_owned()).collect(),
            ..model(id)
        };
        let list = ModelList::new(
            vec![aliased("a-2508", &["a", "b"]), aliased("b", &["a-2508"])],
            None,
            false,
            None,
            None,
        );
        assert_eq!(list.find("a").map(|found| found.id.as_str()), Some("a-2508"));
        assert_eq!(list.find("b").map(|found| found.id.as_str()), Some("b"));
        assert_eq!(list.find("a-2508").map(|found| found.id.as_str()), Some("a-2508"));
    }
}
