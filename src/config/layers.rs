//! Layers of values on top of each other: the `config` crate merges, what must not merge is replaced here.

use std::collections::BTreeSet;

use config::{Map, Source, Value, ValueKind};

use super::place::{self, KeyPath, Places, Tree};

/// One layer of values for the `config` crate.
#[derive(Debug, Clone)]
struct Layer(Tree);

/// Merges layers with the `config` crate.
pub(crate) fn merged(layers: &[Tree], whole: &BTreeSet<KeyPath>) -> Tree {
    let mut builder = config::Config::builder();
    for layer in layers {
        builder = builder.add_source(Layer(layer.clone()));
    }
    // No source of ours can fail.
    let mut tree = match builder.build().map(|built| built.cache.kind) {
        Ok(ValueKind::Table(tree)) => tree,
        _ => Tree::new(),
    };
    for path in whole {
        let steps: Vec<&str> = path.iter().map(String::as_str).collect();
        let uppermost = layers.iter().rev().find_map(|layer| place::at(layer, &steps));
        if let Some(value) = uppermost
            && let Some(slot) = slot(&mut tree, &steps)
        {
            *slot = value.clone();
        }
    }
    tree
}

/// The place of a value below tables.
fn slot<'a>(tree: &'a mut Tree, path: &[&str]) -> Option<&'a mut Value> {
    let (first, rest) = path.split_first()?;
    let value = tree.get_mut(*first)?;
    if rest.is_empty() {
        return Some(value);
    }
    match &mut value.kind {
        ValueKind::Table(inner) => slot(inner, rest),
        _ => None,
    }
}

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, config::ConfigError> {
        Ok(self.0.clone())
    }
}

/// Puts a value at a path, making the tables on the way.
pub(crate) fn set(tree: &mut Tree, path: &[&str], value: Value, place: usize) {
    let Some((first, rest)) = path.split_first() else { return };
    if rest.is_empty() {
        tree.insert((*first).to_owned(), value);
        return;
    }
    let origin = Places::origin(place, 0);
    let slot = tree
        .entry((*first).to_owned())
        .or_insert_with(|| Value::new(Some(&origin), ValueKind::Table(Tree::new())));
    if let ValueKind::Table(inner) = &mut slot.kind {
        set(inner, rest, value, place);
    }
}
