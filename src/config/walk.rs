//! Compares a tree of values with the schema: unknown keys, wrong types, unknown words, all of them.
//! What does not fit is reported and taken out, so that the rest can still be judged. Never quotes a value.

mod said;

use std::collections::BTreeSet;

use config::{Value, ValueKind};

use super::place::{KeyPath, Places, Spot, Tree, index_step, show};
use super::report::{Findings, Problem};
use super::schema::{Node, Type};
use said::{unknown_key, wrong_type, wrong_value};

/// What a walk looks at and what it gathers.
pub(crate) struct Walk<'a> {
    /// Where values come from.
    pub(crate) places: &'a Places,
    /// What is wrong.
    pub(crate) findings: &'a mut Findings,
    /// Paths where something was taken out; what misses there is not missed again.
    pub(crate) removed: &'a mut BTreeSet<KeyPath>,
    /// Paths of tables that a later layer replaces as a whole.
    pub(crate) whole: &'a mut BTreeSet<KeyPath>,
    /// Numbers in quotes and text without quotes are taken for what is wanted.
    pub(crate) lenient: bool,
}

// === impl Walk ===

impl Walk<'_> {
    /// Checks a table and takes out what does not fit.
    pub(crate) fn table(&mut self, node: Node<'_>, table: &mut Tree, path: &mut KeyPath, around: Spot) {
        let own = own_options(node, table);
        table.retain(|key, value| {
            let spot = Places::spot(value).unwrap_or(around);
            path.push(key.clone());
            let keep = match node.field(key) {
                // Of another type: that is what is wrong with it, and is told where options are read.
                Some(_) if own.as_ref().is_some_and(|own| !own.contains(&key.as_str())) => true,
                Some(field) => self.value(field, value, path, spot),
                None => {
                    self.remove(path, spot, || unknown_key(node, own.as_deref(), key));
                    false
                }
            };
            path.pop();
            keep
        });
    }

    fn value(&mut self, node: Node<'_>, value: &mut Value, path: &mut KeyPath, spot: Spot) -> bool {
        let forms = node.forms();
        let mut fitting = forms.iter().find(|form| fits(form.kind(), &value.kind));
        if fitting.is_none()
            && let Some((form, kind)) = self.coerced(&forms, value)
        {
            value.kind = kind;
            fitting = Some(form);
        }
        let Some(form) = fitting else {
            self.remove(path, spot, || wrong_type(node, &forms, &value.kind));
            return false;
        };
        if form.has("x-whole") {
            self.whole.insert(path.clone());
        }
        match &mut value.kind {
            // What may be anything is the upstream's to judge, however deep it goes.
            _ if form.kind() == Type::Anything => {}
            ValueKind::Table(table) => self.table(*form, table, path, spot),
            ValueKind::Array(items) => return self.list(*form, items, path, spot),
            kind => {
                if let Some(message) = wrong_value(*form, kind) {
                    self.remove(path, spot, || message);
                    return false;
                }
            }
        }
        true
    }

    /// A list with one bad element is taken out as a whole: its other elements alone may mean something else. But where
    /// each is judged by itself, an empty table takes the place of the bad one.
    fn list(&mut self, form: Node<'_>, items: &mut [Value], path: &mut KeyPath, around: Spot) -> bool {
        let Some(element) = form.items() else { return true };
        let mut all_fit = true;
        for (index, item) in items.iter_mut().enumerate() {
            let spot = Places::spot(item).unwrap_or(around);
            path.push(index_step(index));
            let fit = self.value(element, item, path, spot);
            if !fit && form.has("x-each") {
                item.kind = ValueKind::Table(Tree::default());
            } else {
                all_fit &= fit;
            }
            path.pop();
        }
        if !all_fit {
            self.removed.insert(path.clone());
        }
        all_fit
    }

    /// A variable's text, or in a lenient file any scalar, as what is wanted.
    fn coerced<'n>(&self, forms: &'n [Node<'n>], value: &Value) -> Option<(&'n Node<'n>, ValueKind)> {
        let text = match (self.places.variable_text(value), &value.kind) {
            (Some(text), _) => text.to_owned(),
            (None, ValueKind::String(text)) if self.lenient => text.clone(),
            (None, ValueKind::I64(_) | ValueKind::Float(_) | ValueKind::Boolean(_)) if self.lenient => {
                value.kind.to_string()
            }
            _ => return None,
        };
        forms.iter().find_map(|form| Some((form, scalar(form.kind(), &text)?)))
    }

    fn remove(&mut self, path: &KeyPath, spot: Spot, message: impl FnOnce() -> String) {
        self.removed.insert(path.clone());
        let steps: Vec<&str> = path.iter().map(String::as_str).collect();
        let origin = || self.places.name(spot);
        self.findings.add(spot, || Problem { origin: origin(), key: show(&steps), message: message() });
    }
}

/// The options of a table whose `type` says which ones it has.
fn own_options<'n>(node: Node<'n>, table: &Tree) -> Option<Vec<&'n str>> {
    match &table.get("type")?.kind {
        ValueKind::String(word) => node.options_of(word),
        _ => None,
    }
}

fn fits(wanted: Type, found: &ValueKind) -> bool {
    match wanted {
        Type::Table => matches!(found, ValueKind::Table(_)),
        Type::List => matches!(found, ValueKind::Array(_)),
        Type::Text => matches!(found, ValueKind::String(_)),
        Type::Boolean => matches!(found, ValueKind::Boolean(_)),
        Type::Integer => matches!(found, ValueKind::I64(_)),
        Type::Number => matches!(found, ValueKind::I64(_) | ValueKind::Float(_)),
        Type::Anything => true,
    }
}

/// A text as a scalar of the type that is wanted.
fn scalar(wanted: Type, text: &str) -> Option<ValueKind> {
    let trimmed = text.trim();
    match wanted {
        Type::Text => Some(ValueKind::String(text.to_owned())),
        Type::Integer => trimmed.parse().ok().map(ValueKind::I64),
        Type::Number => trimmed.parse::<f64>().ok().filter(|number| number.is_finite()).map(ValueKind::Float),
        Type::Boolean => match trimmed.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => Some(ValueKind::Boolean(true)),
            "false" | "no" | "off" | "0" => Some(ValueKind::Boolean(false)),
            _ => None,
        },
        Type::Table | Type::List | Type::Anything => None,
    }
}
