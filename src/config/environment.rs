//! The layer of `DEMUXAI__…` variables: `DEMUXAI__PROVIDERS__MY_BOX__URL` is `providers.my-box.url`.
//! The environment is passed in; nothing here reads the process's own.

use std::collections::BTreeMap;

use config::{Value, ValueKind};

use super::place::{Place, Places, Tree};
use super::read;
use super::report::{Findings, Problem};
use super::schema::{Node, Type};

/// What the variables' names begin with.
pub(crate) const PREFIX: &str = "DEMUXAI__";

/// Whether the variables name a provider of their own, one with a type or a whole table. Those that only adjust one
/// (`DEMUXAI__PROVIDERS__MISTRAL__URL`) do not.
pub(crate) fn names_providers(env: &BTreeMap<String, String>) -> bool {
    let steps = env.keys().filter_map(|name| name.strip_prefix(PREFIX)).map(|name| name.split("__"));
    steps.map(Iterator::collect::<Vec<_>>).any(|steps| match steps.as_slice() {
        [table, rest @ ..] if fold(table) == "providers" => {
            rest.len() < 2 || rest.get(1).is_some_and(|key| fold(key) == "type")
        }
        _ => false,
    })
}

/// Builds the layer. `below` is what the files say: names in variables are matched against the keys there.
pub(crate) fn layer(
    env: &BTreeMap<String, String>,
    below: &Tree,
    root: Node<'_>,
    places: &mut Places,
    findings: &mut Findings,
) -> Tree {
    let mut tree = Tree::new();
    for (name, text) in env.iter().filter(|(name, _)| name.starts_with(PREFIX)) {
        let place = places.add(Place::Variable(name.clone(), text.clone()));
        let steps: Vec<&str> = name.strip_prefix(PREFIX).unwrap_or_default().split("__").collect();
        let outcome = if steps.iter().any(|step| step.is_empty()) || steps.len() > 16 {
            Err("names no option; write DEMUXAI__TABLE__ID__OPTION, for example DEMUXAI__LOG__LEVEL"
                .to_owned())
        } else {
            let value = read::toml_value(text, place).unwrap_or_else(|| plain(text, place));
            insert(&mut tree, Some(below), Some(root), &steps, value, place)
        };
        if let Err(message) = outcome {
            let spot = (place, 0);
            findings.add(spot, || Problem { origin: places.name(spot), key: String::new(), message });
        }
    }
    tree
}

fn plain(text: &str, place: usize) -> Value {
    Value::new(Some(&Places::origin(place, 0)), ValueKind::String(text.to_owned()))
}

fn insert(
    tree: &mut Tree,
    below: Option<&Tree>,
    node: Option<Node<'_>>,
    steps: &[&str],
    value: Value,
    place: usize,
) -> Result<(), String> {
    let Some((step, rest)) = steps.split_first() else { return Ok(()) };
    let form = node.and_then(|node| node.forms().into_iter().find(|form| form.kind() == Type::Table));
    let key = key_for(step, tree, below, form);
    let inner_node = form.and_then(|form| form.field(&key));
    let inner_below = below.and_then(|table| table.get(&key)).and_then(as_table);
    if rest.is_empty() {
        if let ValueKind::Table(incoming) = value.kind {
            let slot = table_at(tree, key, place)?;
            slot.extend(incoming);
            return Ok(());
        }
        if let Some(known) = tree.get(&key) {
            return Err(match &known.kind {
                ValueKind::Table(_) => {
                    format!("contradicts another variable that sets a part of `{key}`; keep one of the two")
                }
                _ => format!("contradicts another variable that sets `{key}`, too; keep one of the two"),
            });
        }
        tree.insert(key, value);
        return Ok(());
    }
    insert(table_at(tree, key, place)?, inner_below, inner_node, rest, value, place)
}

/// The table at a key, made if nothing is there.
fn table_at(tree: &mut Tree, key: String, place: usize) -> Result<&mut Tree, String> {
    let message = format!("contradicts another variable that sets `{key}` as a whole; keep one of the two");
    let origin = Places::origin(place, 1);
    let slot = tree.entry(key).or_insert_with(|| Value::new(Some(&origin), ValueKind::Table(Tree::new())));
    match &mut slot.kind {
        ValueKind::Table(table) => Ok(table),
        _ => Err(message),
    }
}

fn as_table(value: &Value) -> Option<&Tree> {
    match &value.kind {
        ValueKind::Table(table) => Some(table),
        _ => None,
    }
}

/// The key that a step of a name stands for: one that exists, else the step in lower case.
fn key_for(step: &str, tree: &Tree, below: Option<&Tree>, form: Option<Node<'_>>) -> String {
    let folded = fold(step);
    let fields = form.and_then(Node::fields).into_iter().flat_map(|fields| fields.keys());
    let existing = below.into_iter().flat_map(|table| table.keys()).chain(tree.keys());
    if let Some(found) = fields.chain(existing).find(|key| fold(key) == folded) {
        return found.clone();
    }
    let lower = step.to_lowercase();
    if form.is_some_and(|form| form.has("x-header-names")) { lower.replace('_', "-") } else { lower }
}

/// Keys and steps that differ only in case and in `_` and `-` are the same.
pub(crate) fn fold(key: &str) -> String {
    key.to_lowercase().replace('_', "-")
}
