//! The original's composites as groups: the same order, the same members, and the temperature that each of them gets.

use config::{Value, ValueKind};

use super::super::interpolate::expand;
use super::super::place::Tree;
use super::{Conversion, shown};

/// The keys of a composite, and those of its members.
const COMPOSITE_KEYS: &[&str] = &["type", "name", "description", "temperature", "metadata", "providers"];
const MEMBER_KEYS: &[&str] = &["id", "remote_id", "provider_id", "temperature"];
/// Its names of types, and those of groups.
const TYPES: &[(&str, &str)] = &[("roundrobin", "round-robin"), ("round_robin", "round-robin")];

// === impl Conversion ===

impl Conversion<'_> {
    /// All composites, as groups of the same ids.
    pub(super) fn composites(&mut self, composites: Tree) {
        let mut groups = Tree::new();
        for (id, value) in composites {
            let place = format!("demuxai.composites.{}", shown(&id));
            let ValueKind::Table(composite) = value.kind else {
                self.problem(place, "expected a table with type, providers …");
                continue;
            };
            let group = self.composite(&place, composite);
            groups.insert(id, self.value_at(&place, ValueKind::Table(group)));
        }
        let groups = self.value(ValueKind::Table(groups));
        self.tree.insert("groups".to_owned(), groups);
    }

    fn composite(&mut self, place: &str, mut composite: Tree) -> Tree {
        self.unknown(place, &composite, COMPOSITE_KEYS);
        if let Some(ValueKind::Table(metadata)) =
            composite.shift_remove("metadata").as_ref().map(|value| &value.kind)
            && !metadata.is_empty()
        {
            self.notes.push(format!("{place}.metadata has no use here: ignored"));
        }
        let temperature = self.number(&mut composite, place, "temperature");
        if let Some(ValueKind::String(kind)) = composite.get_mut("type").map(|value| &mut value.kind)
            && let Some((_, today)) = TYPES.iter().find(|(theirs, _)| *theirs == kind.as_str())
        {
            *kind = (*today).to_owned();
        }
        let members = match composite.shift_remove("providers").map(|value| value.kind) {
            Some(ValueKind::Array(members)) => members,
            None => Vec::new(),
            Some(_) => {
                self.problem(
                    format!("{place}.providers"),
                    "expected a list, as in `- {id: codestral-latest, provider_id: mistral}`",
                );
                Vec::new()
            }
        };
        let members = members.into_iter().enumerate();
        let members = members
            .filter_map(|(index, member)| {
                self.member(&format!("{place}.providers[{index}]"), member, temperature.as_ref())
            })
            .collect();
        composite.retain(|key, _| ["type", "name", "description"].contains(&key.as_str()));
        let members = self.value_at(&format!("{place}.providers"), ValueKind::Array(members));
        composite.insert("members".to_owned(), members);
        composite
    }

    fn member(&mut self, place: &str, member: Value, temperature: Option<&Value>) -> Option<Value> {
        let ValueKind::Table(mut member) = member.kind else {
            self.problem(place.to_owned(), "expected a table with id and provider_id");
            return None;
        };
        self.unknown(place, &member, MEMBER_KEYS);
        let own = self.number(&mut member, place, "temperature");
        let provider = self.text(&mut member, place, "provider_id");
        // Its code read the one, its documentation told the other.
        let remote = self.text(&mut member, place, "remote_id");
        let named = self.text(&mut member, place, "id");
        let (Some(provider), Some(model)) = (provider, remote.or(named)) else {
            let text = "needs `provider_id` and the upstream's model as `id` (or `remote_id`)";
            self.problem(place.to_owned(), text);
            return None;
        };
        let mut table = Tree::from_iter([(
            "to".to_owned(),
            self.value_at(place, ValueKind::String(format!("{provider}/{model}"))),
        )]);
        if let Some(temperature) = own.or_else(|| temperature.cloned()) {
            table.insert("set".to_owned(), self.table([("temperature", temperature)]));
        }
        Some(self.value_at(place, ValueKind::Table(table)))
    }

    /// A number as it is written; a variable counts with its value.
    fn number(&mut self, table: &mut Tree, place: &str, key: &str) -> Option<Value> {
        let value = table.shift_remove(key)?;
        let parsed = match &value.kind {
            ValueKind::I64(_) | ValueKind::Float(_) => return Some(value),
            ValueKind::String(text) => match expand(text, self.env) {
                None => text.trim().parse::<f64>().ok(),
                Some(Ok(expanded)) => expanded.text.trim().parse::<f64>().ok(),
                Some(Err(_)) => {
                    self.problem(format!("{place}.{key}"), "a variable in it is not set");
                    return None;
                }
            },
            _ => None,
        };
        match parsed.filter(|number| number.is_finite()) {
            Some(number) => Some(self.value_at(&format!("{place}.{key}"), ValueKind::Float(number))),
            None => {
                self.problem(format!("{place}.{key}"), "expected a number, such as 0.2");
                None
            }
        }
    }
}
