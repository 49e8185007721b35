//! Compares a tree of values with the schema: unknown keys, wrong types, unknown words, all of them.
//! What does not fit is reported and taken out, so that the rest can still be judged. Never quotes a value.

use std::collections::BTreeSet;

use config::{Value, ValueKind};

use super::place::{KeyPath, Places, Spot, Tree, index_step, show};
use super::report::{Findings, Problem, did_you_mean, nearest};
use super::schema::{Node, Type};

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

/// Words for values that people bring from elsewhere, and ours.
const WORDS: &[(&str, &str)] = &[
    ("vision", "images"),
    ("image", "images"),
    ("image_url", "images"),
    ("sound", "audio"),
    ("speech", "audio"),
    ("functions", "tools"),
    ("function_calling", "tools"),
    ("json", "response_format"),
    ("json_schema", "response_format"),
    ("structured_output", "response_format"),
    ("structured_outputs", "response_format"),
    ("thinking", "reasoning"),
    ("embed", "embedding"),
    ("infill", "fim"),
    ("fill_in_the_middle", "fim"),
];

/// Names that people bring from elsewhere, and ours.
const SYNONYMS: &[(&str, &str)] = &[
    ("api_base", "url"),
    ("base_url", "url"),
    ("baseurl", "url"),
    ("endpoint", "url"),
    ("host", "address"),
    ("port", "address"),
    ("listen", "address"),
    ("bind", "address"),
    ("key", "api_key"),
    ("apikey", "api_key"),
    ("token", "api_key"),
    ("api_key", "key"),
    ("token", "key"),
    ("name", "id"),
    ("model", "id"),
    ("kind", "type"),
    ("provider", "type"),
    ("timeout", "timeouts"),
    ("timeout_seconds", "timeouts"),
    ("cache", "cache_seconds"),
    ("max_concurrent", "max_in_flight"),
    ("concurrency", "max_in_flight"),
    ("resolvers", "providers"),
    ("composites", "groups"),
];

// === impl Walk ===

impl Walk<'_> {
    /// Checks a table and takes out what does not fit.
    pub(crate) fn table(&mut self, node: Node<'_>, table: &mut Tree, path: &mut KeyPath, around: Spot) {
        table.retain(|key, value| {
            let spot = Places::spot(value).unwrap_or(around);
            path.push(key.clone());
            let keep = match node.field(key) {
                Some(field) => self.value(field, value, path, spot),
                None => {
                    self.remove(path, spot, || unknown_key(node, key));
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

fn unknown_key(node: Node<'_>, key: &str) -> String {
    let Some(fields) = node.fields() else { return "unknown key".to_owned() };
    let known = || fields.keys().map(String::as_str);
    let lower = key.to_lowercase().replace('-', "_");
    let ours = SYNONYMS
        .iter()
        .find(|(theirs, ours)| *theirs == lower && fields.contains_key(*ours))
        .map(|(_, ours)| *ours);
    match ours.or_else(|| nearest(key, known())) {
        Some("address") if lower != "adress" && ours.is_some() => {
            "unknown key; write `address = \"127.0.0.1:6041\"` instead".to_owned()
        }
        Some(found) => format!("unknown key; did you mean `{found}`?"),
        None => format!("unknown key (known: {})", known().collect::<Vec<_>>().join(", ")),
    }
}

fn wrong_type(node: Node<'_>, forms: &[Node<'_>], found: &ValueKind) -> String {
    let wanted: Vec<Type> = forms.iter().map(|form| form.kind()).collect();
    let expected = match node.expects() {
        Some(words) => words.to_owned(),
        None => wanted.iter().map(|kind| type_name(*kind)).collect::<Vec<_>>().join(" or "),
    };
    let hint = match (wanted.as_slice(), found) {
        ([Type::Integer | Type::Number], ValueKind::String(text)) if text.trim().parse::<f64>().is_ok() => {
            "; take it out of the quotes"
        }
        ([Type::Boolean], ValueKind::String(text)) if text == "true" || text == "false" => {
            "; take it out of the quotes"
        }
        ([Type::Text], ValueKind::I64(_) | ValueKind::Float(_) | ValueKind::Boolean(_)) => {
            "; put it in quotes"
        }
        ([Type::List], ValueKind::String(_)) => "; put it in brackets: [\"...\"]",
        _ => "",
    };
    format!("expected {expected}, found {}{hint}", found_name(found))
}

/// What is wrong with a scalar of the right type.
fn wrong_value(form: Node<'_>, found: &ValueKind) -> Option<String> {
    match found {
        // What a variable says is known only after all layers are merged; then the walk comes by again.
        ValueKind::String(text) if !text.contains("${") => {
            let words = form.words()?;
            if words.contains(&text.as_str()) {
                return None;
            }
            let lower = text.to_lowercase().replace('-', "_");
            let ours = WORDS.iter().find(|(theirs, ours)| *theirs == lower && words.contains(ours));
            let hint = match ours {
                Some((_, ours)) => format!("; did you mean `{ours}`?"),
                None => did_you_mean(text, words.iter().copied()),
            };
            Some(format!("unknown word (one of: {}){hint}", words.join(", ")))
        }
        ValueKind::I64(number) => {
            let (least, most) = (form.minimum().unwrap_or(i64::MIN), form.maximum().unwrap_or(i64::MAX));
            if (least..=most).contains(number) {
                None
            } else if most == i64::MAX {
                Some(format!("must be at least {least}"))
            } else {
                Some(format!("must be {least} to {most}"))
            }
        }
        ValueKind::Float(number) if !number.is_finite() => Some("must be a finite number".to_owned()),
        _ => None,
    }
}

fn type_name(kind: Type) -> &'static str {
    match kind {
        Type::Table => "a table",
        Type::List => "a list",
        Type::Text => "text in quotes",
        Type::Integer => "an integer",
        Type::Number => "a number",
        Type::Boolean => "true or false",
        Type::Anything => "anything",
    }
}

fn found_name(kind: &ValueKind) -> &'static str {
    match kind {
        ValueKind::Nil => "nothing",
        ValueKind::Boolean(true) => "true",
        ValueKind::Boolean(false) => "false",
        ValueKind::I64(_) | ValueKind::I128(_) | ValueKind::U64(_) | ValueKind::U128(_) => "an integer",
        ValueKind::Float(_) => "a number with a fraction",
        ValueKind::String(_) => "text",
        ValueKind::Table(_) => "a table",
        ValueKind::Array(_) => "a list",
    }
}
