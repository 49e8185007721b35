//! Whether several routes together take all requests of one behind them: a search for a request that takes it and none of
//! those before. What is found to be impossible is impossible; what the search does not know, or gives up on, is taken to
//! be possible. Pure.
//!
//! What conditions look at is taken apart into choices (the endpoint, a language, a client: one value at a time, and of most
//! another one than those that are named) and into flags that hold or do not, of which one may imply another.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{KINDS, NOT, has, list, within};
use crate::dialect::Task;
use crate::language::Language;

/// The endpoints, which are all that there are.
const TASKS: [Task; 4] = [Task::Chat, Task::Completion, Task::Fim, Task::Embedding];
/// The one condition that need not be the same for two routes.
const QUOTA: &str = "quota";
/// So many decisions deep is searched.
const DEEPEST: usize = 64;
/// So many conditions may be looked at for all routes of a router together.
const MOST_LOOKS: usize = 5_000_000;
/// No more flags than this are compared with each other.
const MOST_FLAGS: usize = 400;

/// The routes of one router, taken apart.
pub struct Routes {
    choices: Vec<Choice>,
    flags: Vec<Flag>,
    routes: Vec<Option<Form>>,
    /// What is not decided is taken not to hold.
    assume: bool,
    /// How many looks at a condition are left.
    left: usize,
}

/// What has one value at a time.
struct Choice {
    kind: &'static str,
    values: Vec<String>,
    /// Nothing but these.
    is_closed: bool,
    known: Option<usize>,
}

/// What holds or does not.
struct Flag {
    kind: &'static str,
    value: Value,
    /// Those that hold where this one does.
    wider: Vec<usize>,
    /// Those that hold only where this one does.
    narrower: Vec<usize>,
    /// The endpoints at which it never holds.
    never: Vec<usize>,
    known: Option<bool>,
}

/// A condition with one value.
#[derive(Clone, Copy)]
enum Atom {
    /// This choice has this value.
    Is(usize, usize),
    /// This flag holds.
    Holds(usize),
}

/// The conditions of a route.
struct Form {
    /// Of each list one.
    all: Vec<Vec<Atom>>,
    /// None of these.
    none: Vec<Form>,
    /// How many conditions there are in it.
    size: usize,
}

/// What the search came to.
enum Found {
    /// A request takes the route.
    Request,
    /// None does.
    Nothing,
    /// It was given up.
    Unknown,
}

// === impl Routes ===

impl Routes {
    /// These routes as they are written; `None`: what of one could not be read.
    pub fn read<'r>(routes: impl Iterator<Item = Option<&'r Map<String, Value>>>) -> Routes {
        let endpoints = TASKS.map(|task| task.label().to_owned()).to_vec();
        let endpoint = Choice { kind: "endpoint", values: endpoints, is_closed: true, known: None };
        let (flags, routes_read) = (Vec::new(), Vec::new());
        let choices = vec![endpoint];
        let mut read = Routes { choices, flags, routes: routes_read, assume: false, left: MOST_LOOKS };
        for route in routes {
            let form = route.map(|written| read.form(written));
            read.routes.push(form);
        }
        read.relate();
        read
    }

    /// The routes before this one that take all of its requests together, as few of them as are enough; none of them: it
    /// excludes itself. `None`: nobody knows that they do.
    pub fn takers(&mut self, index: usize) -> Option<Vec<usize>> {
        self.routes.get(index)?.as_ref()?;
        let earlier = (0..index).filter(|earlier| self.routes.get(*earlier).is_some_and(Option::is_some));
        let earlier: Vec<usize> = earlier.collect();
        let mut takers = self.refuted(index, &earlier)?;
        // The first ones are kept where others would do as well.
        for one in takers.clone().into_iter().rev() {
            let others: Vec<usize> = takers.iter().copied().filter(|other| *other != one).collect();
            if let Some(fewer) = self.refuted(index, &others) {
                takers = fewer;
            }
        }
        Some(takers)
    }

    /// Those of these routes that were in the way of each request of this one, if they were in the way of all.
    fn refuted(&mut self, index: usize, earlier: &[usize]) -> Option<Vec<usize>> {
        let mut used = BTreeSet::new();
        let routes = std::mem::take(&mut self.routes);
        let found = self.search(&routes, index, earlier, &mut used, 0);
        self.routes = routes;
        self.choices.iter_mut().for_each(|choice| choice.known = None);
        self.flags.iter_mut().for_each(|flag| flag.known = None);
        matches!(found, Found::Nothing).then(|| used.into_iter().collect())
    }

    fn search(
        &mut self,
        routes: &[Option<Form>],
        index: usize,
        earlier: &[usize],
        used: &mut BTreeSet<usize>,
        depth: usize,
    ) -> Found {
        let read = |index: &usize| routes.get(*index).and_then(Option::as_ref);
        let Some(route) = read(&index) else { return Found::Unknown };
        let looks = earlier.iter().filter_map(read).map(|form| 2 * form.size).sum::<usize>() + route.size;
        if self.left < looks || depth > DEEPEST {
            return Found::Unknown;
        }
        self.left -= looks;
        let mut open = match self.holds(route) {
            Some(false) => return Found::Nothing,
            Some(true) => None,
            None => Some((route, true)),
        };
        let is_taken = open.is_none();
        for (number, form) in earlier.iter().filter_map(|number| Some((number, read(number)?))) {
            match self.holds(form) {
                Some(true) => {
                    used.insert(*number);
                    return Found::Nothing;
                }
                Some(false) => {}
                None => open = open.or(Some((form, false))),
            }
        }
        let Some((form, wanted)) = open else { return Found::Request };
        self.assume = true;
        let none_takes =
            is_taken && earlier.iter().filter_map(read).all(|form| self.holds(form) == Some(false));
        self.assume = false;
        if none_takes {
            return Found::Request;
        }
        // Much hangs on the endpoint, so that it is decided first.
        let endpoint = self.choices.first().is_some_and(|endpoint| endpoint.known.is_none());
        let atom = if endpoint { Some(Atom::Is(0, 0)) } else { self.undecided(form) };
        let Some(atom) = atom else { return Found::Unknown };
        for value in self.values(atom, wanted) {
            self.set(atom, Some(value));
            let found = self.search(routes, index, earlier, used, depth + 1);
            self.set(atom, None);
            if !matches!(found, Found::Nothing) {
                return found;
            }
        }
        Found::Nothing
    }

    /// Whether a route's conditions hold, by what is decided.
    fn holds(&self, form: &Form) -> Option<bool> {
        let mut known = Some(true);
        for any in &form.all {
            match super::one_of(any.iter().map(|atom| self.is(*atom))) {
                Some(false) => return Some(false),
                Some(true) => {}
                None => known = None,
            }
        }
        for other in &form.none {
            match self.holds(other) {
                Some(true) => return Some(false),
                Some(false) => {}
                None => known = None,
            }
        }
        known
    }

    /// Whether one condition holds, by what is decided and what follows from it.
    fn is(&self, atom: Atom) -> Option<bool> {
        let flag = match atom {
            Atom::Is(choice, value) => {
                let choice = self.choices.get(choice)?;
                let assumed = (self.assume && !choice.is_closed).then_some(false);
                return choice.known.map(|known| known == value).or(assumed);
            }
            Atom::Holds(flag) => self.flags.get(flag)?,
        };
        let known = |of: &usize| self.flags.get(*of).and_then(|other| other.known);
        let endpoint = self.choices.first().and_then(|endpoint| endpoint.known);
        if flag.known.is_some() {
            return flag.known;
        }
        if flag.narrower.iter().any(|other| known(other) == Some(true)) {
            return Some(true);
        }
        let never = self.assume || endpoint.is_some_and(|endpoint| flag.never.contains(&endpoint));
        (never || flag.wider.iter().any(|other| known(other) == Some(false))).then_some(false)
    }

    /// A condition on which it hangs whether these hold.
    fn undecided(&self, form: &Form) -> Option<Atom> {
        let own =
            form.all.iter().filter(|any| super::one_of(any.iter().map(|atom| self.is(*atom))).is_none());
        let atom = own.flatten().copied().find(|atom| self.is(*atom).is_none());
        let below = || {
            let open = form.none.iter().filter(|other| self.holds(other).is_none());
            open.filter_map(|other| self.undecided(other)).next()
        };
        atom.or_else(below)
    }

    /// What can be decided there, the likeliest to lead to a request first.
    fn values(&self, atom: Atom, wanted: bool) -> Vec<usize> {
        let (value, count) = match atom {
            Atom::Holds(_) => (1, 2),
            Atom::Is(choice, value) => {
                let Some(choice) = self.choices.get(choice) else { return Vec::new() };
                (value, choice.values.len() + usize::from(!choice.is_closed))
            }
        };
        let others = (0..count).rev().filter(|other| *other != value);
        if wanted { std::iter::once(value).chain(others).collect() } else { others.chain([value]).collect() }
    }

    fn set(&mut self, atom: Atom, value: Option<usize>) {
        match atom {
            Atom::Is(choice, _) => {
                if let Some(choice) = self.choices.get_mut(choice) {
                    choice.known = value;
                }
            }
            Atom::Holds(flag) => {
                if let Some(flag) = self.flags.get_mut(flag) {
                    flag.known = value.map(|value| value == 1);
                }
            }
        }
    }

    fn form(&mut self, written: &Map<String, Value>) -> Form {
        let mut all: Vec<Vec<Atom>> = Vec::new();
        for kind in &KINDS {
            if let Some(value) = written.get(kind.name) {
                all.push(list(value).iter().map(|one| self.atom(kind.name, one)).collect());
            }
        }
        let not = written.get(NOT).map(list).unwrap_or_default();
        let none: Vec<Form> = not.iter().filter_map(Value::as_object).map(|table| self.form(table)).collect();
        let size =
            1 + all.iter().map(Vec::len).sum::<usize>() + none.iter().map(|form| form.size).sum::<usize>();
        Form { all, none, size }
    }

    fn atom(&mut self, kind: &'static str, value: &Value) -> Atom {
        if let Some(named) = named(kind, value) {
            let choice = self.choices.iter().position(|choice| choice.kind == kind).unwrap_or_else(|| {
                self.choices.push(Choice { kind, values: Vec::new(), is_closed: false, known: None });
                self.choices.len() - 1
            });
            let values = self.choices.get_mut(choice).map(|choice| &mut choice.values);
            let at = values.map_or(0, |values| {
                values.iter().position(|known| *known == named).unwrap_or_else(|| {
                    values.push(named);
                    values.len() - 1
                })
            });
            return Atom::Is(choice, at);
        }
        // How a backend stands may change between two looks.
        let same = |flag: &Flag| kind != QUOTA && flag.kind == kind && flag.value == *value;
        let known = self.flags.iter().position(same);
        Atom::Holds(known.unwrap_or_else(|| {
            let never = (0..TASKS.len()).filter(|at| {
                kind == "has" && TASKS.get(*at).is_some_and(|task| has::is_impossible(value, *task))
            });
            let (wider, narrower, never) = (Vec::new(), Vec::new(), never.collect());
            self.flags.push(Flag { kind, value: value.clone(), wider, narrower, never, known: None });
            self.flags.len() - 1
        }))
    }

    /// Notes which flags imply which others.
    fn relate(&mut self) {
        if self.flags.len() > MOST_FLAGS {
            return;
        }
        let mut pairs = Vec::new();
        for (wide, one) in self.flags.iter().enumerate() {
            for (narrow, other) in self.flags.iter().enumerate() {
                if wide != narrow
                    && one.kind == other.kind
                    && one.kind != QUOTA
                    && within(one.kind, &one.value, &other.value)
                {
                    pairs.push((wide, narrow));
                }
            }
        }
        for (wide, narrow) in pairs {
            if let Some(flag) = self.flags.get_mut(narrow) {
                flag.wider.push(wide);
            }
            if let Some(flag) = self.flags.get_mut(wide) {
                flag.narrower.push(narrow);
            }
        }
    }
}

/// The value of a choice by the one name that it has here. `None`: it is none, and holds or not beside others.
fn named(kind: &str, value: &Value) -> Option<String> {
    let text = value.as_str()?;
    match kind {
        "endpoint" => TASKS.iter().map(|task| task.label()).find(|label| *label == text).map(str::to_owned),
        "listener" | "client" => Some(text.to_owned()),
        "language" => Language::named(text).map(|language| language.name().to_owned()),
        "natural_language" => Some(text.trim().to_ascii_lowercase()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// As much of a request as the routes below look at.
    #[derive(Debug, Clone, Copy)]
    struct Asked {
        task: usize,
        has: [bool; 2],
        client: &'static str,
        language: Option<&'static str>,
    }

    const HAS: [&str; 2] = ["tools", "images"];

    /// All that there can be.
    fn all() -> Vec<Asked> {
        let mut all = Vec::new();
        for (task, endpoint) in TASKS.iter().enumerate() {
            for bits in 0..4_u8 {
                let has = [bits & 1 != 0, bits & 2 != 0];
                let impossible =
                    HAS.iter().zip(has).any(|(word, has)| has && has::is_impossible(&json!(word), *endpoint));
                for client in ["a", "b", "other"] {
                    for language in [Some("python"), Some("rust"), None] {
                        all.extend((!impossible).then_some(Asked { task, has, client, language }));
                    }
                }
            }
        }
        all
    }

    /// Whether a request takes a route, by what the documentation says of conditions.
    fn takes(route: &Map<String, Value>, asked: Asked) -> bool {
        let holds = |kind: &str, value: &Value| match (kind, value.as_str().unwrap_or_default()) {
            ("endpoint", word) => TASKS[asked.task].label() == word,
            ("has", word) => HAS.iter().zip(asked.has).any(|(known, has)| has && *known == word),
            ("client", id) => asked.client == id,
            ("language", "py") => asked.language == Some("python"),
            (_, name) => asked.language == Some(name),
        };
        let not = route.get(NOT).map(list).unwrap_or_default();
        route
            .iter()
            .filter(|(kind, _)| *kind != NOT)
            .all(|(kind, values)| list(values).iter().any(|value| holds(kind, value)))
            && !not.iter().filter_map(Value::as_object).any(|table| takes(table, asked))
    }

    fn words(words: &'static [&'static str]) -> impl Strategy<Value = Option<Value>> {
        let some = prop::sample::subsequence(words, 1..=2).prop_map(|words| Some(json!(words)));
        prop_oneof![3 => Just(None), 2 => some]
    }

    fn table(depth: u32) -> BoxedStrategy<Map<String, Value>> {
        let own = (
            words(&["chat", "completion", "fim", "embedding"]),
            words(&HAS),
            words(&["a", "b"]),
            words(&["python", "py", "rust"]),
        );
        let nots = match depth {
            0 => Just(Vec::new()).boxed(),
            _ => prop::collection::vec(table(depth - 1), 0..3).boxed(),
        };
        (own, nots)
            .prop_map(|((endpoint, has, client, language), nots)| {
                let own = [("endpoint", endpoint), ("has", has), ("client", client), ("language", language)];
                let mut table: Map<String, Value> =
                    own.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect();
                if !nots.is_empty() {
                    table.insert(NOT.to_owned(), json!(nots));
                }
                table
            })
            .boxed()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

        /// What is said to be taken is taken, by those that are named, and what is not is not.
        #[test]
        fn a_route_is_taken_before_if_no_request_is_left_for_it(routes in prop::collection::vec(table(2), 1..7)) {
            let mut read = Routes::read(routes.iter().map(Some));
            for (index, route) in routes.iter().enumerate() {
                let own: Vec<Asked> = all().into_iter().filter(|asked| takes(route, *asked)).collect();
                let left = |earlier: &mut dyn Iterator<Item = &Map<String, Value>>| {
                    let earlier: Vec<_> = earlier.collect();
                    own.iter().any(|asked| !earlier.iter().any(|route| takes(route, *asked)))
                };
                match read.takers(index) {
                    None => prop_assert!(left(&mut routes.iter().take(index)), "{routes:?}: {index}"),
                    Some(takers) => {
                        let named = &mut takers.iter().filter_map(|taker| routes.get(*taker));
                        prop_assert!(!left(named), "{routes:?}: {index} by {takers:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_it_costs_is_bounded_however_many_routes_there_are() {
        let route = |at: usize| {
            let values: Vec<String> = (0..50).map(|value| format!("x{}*", at * 7 + value)).collect();
            let json = json!({"model": values, "has": ["tools", "audio"], "not": {"path": format!("/{at}")}});
            json.as_object().cloned().unwrap_or_default()
        };
        let routes: Vec<Map<String, Value>> = (0..200).map(route).collect();
        let mut read = Routes::read(routes.iter().map(Some));
        let looks = |read: &Routes| MOST_LOOKS - read.left;
        for index in 0..routes.len() {
            assert_eq!(read.takers(index), None);
        }
        assert!(looks(&read) <= MOST_LOOKS);
    }
}
