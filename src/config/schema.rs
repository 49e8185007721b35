//! The JSON schema of the configuration, generated from `spec`, and the few questions that are asked of it.
//! It knows nothing of values; `walk` compares a value with it.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::spec::{GroupSpec, Spec};
use crate::backend::kind::{KINDS, Kind, words};

/// The JSON schema (draft 2020-12) of a configuration file.
///
/// `x-expects` says in words what a value of several types looks like, `x-whole` marks tables that a later file
/// replaces instead of merging, `x-header-names` tables whose keys are header names, `x-options` which keys each type of
/// such a table has.
pub fn schema() -> Value {
    let mut generated =
        SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Spec>().to_value();
    without_null(&mut generated);
    if let Some(Value::Object(group)) = generated.pointer_mut("/$defs/GroupSpec") {
        let options: Map<String, Value> =
            group_options().into_iter().map(|(word, keys)| (word.to_owned(), json!(keys))).collect();
        group.insert("x-options".to_owned(), Value::Object(options));
    }
    if let Some(table) = generated.as_object_mut() {
        table.insert("title".to_owned(), Value::from("demuxai configuration"));
    }
    generated
}

/// The same for editors: an option of a group is offered and accepted only with the types that have it.
///
/// It is not what files are checked against here: our own walk says more than a validator does, and reads no conditions.
pub fn published() -> Value {
    let mut whole = schema();
    if let Some(table) = whole.as_object_mut() {
        table.insert("$id".to_owned(), Value::from(ID));
    }
    let mut by_type = Vec::new();
    for (word, keys) in group_options() {
        let known: Map<String, Value> = keys.into_iter().map(|key| (key, Value::Bool(true))).collect();
        by_type.push(json!({
            "if": {"properties": {"type": {"const": word}}, "required": ["type"]},
            "then": {"properties": known, "additionalProperties": false},
        }));
    }
    let words: Vec<&str> = words().collect();
    if let Some(Value::Object(group)) = whole.pointer_mut("/$defs/GroupSpec") {
        group.remove("x-options");
        group.insert("allOf".to_owned(), Value::Array(by_type));
        if let Some(Value::Object(kind)) = group.get_mut("properties").and_then(|all| all.get_mut("type")) {
            kind.insert("enum".to_owned(), json!(words));
        }
    }
    whole
}

/// The keys of each type of group: those that all have, then its own.
fn group_options() -> Vec<(&'static str, Vec<String>)> {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let common = keys_of(GroupSpec::json_schema(&mut generator).get("properties"));
    let mut of = |kind: &Kind| {
        let mut keys = common.clone();
        for options in kind.options {
            for key in keys_of(options(&mut generator).get("properties")) {
                if !keys.contains(&key) {
                    keys.push(key);
                }
            }
        }
        keys
    };
    KINDS.iter().map(|kind| (kind.word, of(kind))).collect()
}

/// What the published schema is called; nothing is fetched from there.
const ID: &str = "https://demuxai.invalid/schema.json";

fn keys_of(properties: Option<&Value>) -> Vec<String> {
    properties.and_then(Value::as_object).into_iter().flat_map(|table| table.keys().cloned()).collect()
}

/// TOML has no null: an option that may be left out is simply not required.
fn without_null(schema: &mut Value) {
    let is_null = |branch: &Value| branch.get("type").is_some_and(|kind| kind == "null");
    match schema {
        Value::Array(items) => items.iter_mut().for_each(without_null),
        Value::Object(table) => {
            if table.get("default").is_some_and(Value::is_null) {
                table.remove("default");
            }
            if let Some(Value::Array(kinds)) = table.get_mut("type") {
                kinds.retain(|kind| kind != "null");
                if let [only] = kinds.as_slice() {
                    let kind = only.clone();
                    table.insert("type".to_owned(), kind);
                }
            }
            if let Some(Value::Array(branches)) = table.get_mut("anyOf") {
                branches.retain(|branch| !is_null(branch));
                if let [Value::Object(only)] = branches.as_slice() {
                    let inner = only.clone();
                    table.remove("anyOf");
                    for (key, value) in inner {
                        table.entry(key).or_insert(value);
                    }
                }
            }
            table.values_mut().for_each(without_null);
        }
        _ => {}
    }
}

/// A place in the schema: the root, for references, and the node.
#[derive(Clone, Copy)]
pub(crate) struct Node<'a> {
    root: &'a Value,
    node: &'a Value,
}

/// What a value may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Type {
    Table,
    List,
    Text,
    Integer,
    Number,
    Boolean,
    Anything,
}

// === impl Node ===

impl<'a> Node<'a> {
    /// The root of a schema.
    pub(crate) fn root(root: &'a Value) -> Self {
        Node { root, node: root }
    }

    fn to(self, node: &'a Value) -> Self {
        Node { root: self.root, node }
    }

    /// The node that a `$ref` leads to, itself when it is none.
    fn resolved(self) -> Self {
        let mut node = self.node;
        // References of a generated schema are not circular; the bound only makes that certain.
        for _ in 0..16 {
            let target = node.get("$ref").and_then(Value::as_str).and_then(|name| name.strip_prefix('#'));
            match target.and_then(|pointer| self.root.pointer(pointer)) {
                Some(found) => node = found,
                None => break,
            }
        }
        self.to(node)
    }

    /// All the forms that a value may have: the node itself, or its alternatives.
    pub(crate) fn forms(self) -> Vec<Node<'a>> {
        let resolved = self.resolved();
        match resolved.node.get("anyOf").or_else(|| resolved.node.get("oneOf")).and_then(Value::as_array) {
            Some(branches) => branches.iter().flat_map(|branch| resolved.to(branch).forms()).collect(),
            None => vec![resolved],
        }
    }

    /// The type of a form.
    pub(crate) fn kind(self) -> Type {
        match self.node.get("type").and_then(Value::as_str) {
            Some("object") => Type::Table,
            Some("array") => Type::List,
            Some("string") => Type::Text,
            Some("integer") => Type::Integer,
            Some("number") => Type::Number,
            Some("boolean") => Type::Boolean,
            _ => Type::Anything,
        }
    }

    /// What a value looks like, in words, where the schema says so.
    pub(crate) fn expects(self) -> Option<&'a str> {
        [self, self.resolved()].iter().find_map(|place| place.node.get("x-expects")?.as_str())
    }

    /// Whether the extension is set at a form.
    pub(crate) fn has(self, extension: &str) -> bool {
        let set = |place: Node<'a>| place.node.get(extension).is_some_and(|value| value == true);
        set(self) || set(self.resolved())
    }

    /// The words that a text may be, where the schema lists them.
    pub(crate) fn words(self) -> Option<Vec<&'a str>> {
        let listed = self.node.get("enum")?.as_array()?;
        Some(listed.iter().filter_map(Value::as_str).collect())
    }

    /// The least that a number may be.
    pub(crate) fn minimum(self) -> Option<i64> {
        self.node.get("minimum")?.as_i64()
    }

    /// The most that a number may be.
    pub(crate) fn maximum(self) -> Option<i64> {
        self.node.get("maximum")?.as_i64()
    }

    /// The node of a list's elements.
    pub(crate) fn items(self) -> Option<Node<'a>> {
        Some(self.to(self.node.get("items")?))
    }

    /// The names of a table's fields; `None` when its keys are free.
    pub(crate) fn fields(self) -> Option<&'a Map<String, Value>> {
        self.node.get("properties")?.as_object()
    }

    /// The keys that a table has whose `type` is this word, where that depends on it.
    pub(crate) fn options_of(self, word: &str) -> Option<Vec<&'a str>> {
        let keys = self.node.get("x-options")?.get(word)?.as_array()?;
        Some(keys.iter().filter_map(Value::as_str).collect())
    }

    /// The node of one key of a table, if the key may be there.
    pub(crate) fn field(self, key: &str) -> Option<Node<'a>> {
        if let Some(found) = self.fields().and_then(|fields| fields.get(key)) {
            return Some(self.to(found));
        }
        match self.node.get("additionalProperties") {
            None | Some(Value::Bool(false)) => None,
            Some(any) => Some(self.to(any)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any_null(value: &Value) -> bool {
        match value {
            Value::Null => true,
            Value::String(text) => text == "null",
            Value::Array(items) => items.iter().any(any_null),
            Value::Object(table) => table.values().any(any_null),
            _ => false,
        }
    }

    #[test]
    fn the_schema_has_no_null_and_every_option_has_a_description() {
        let whole = schema();
        assert!(!any_null(&whole), "{whole}");
        let mut options = 0;
        for (name, table) in whole["$defs"].as_object().unwrap() {
            for (field, node) in table["properties"].as_object().into_iter().flatten() {
                assert!(node["description"].is_string(), "{name}.{field}");
                options += 1;
            }
        }
        assert!(options > 45, "{options}");
    }

    #[test]
    fn forms_follow_references_and_alternatives() {
        let whole = schema();
        let root = Node::root(&whole);
        let provider = root.field("providers").unwrap().forms()[0].field("any-id").unwrap().forms()[0];
        let kinds =
            |key| provider.field(key).unwrap().forms().iter().map(|form| form.kind()).collect::<Vec<_>>();
        assert_eq!(kinds("api_key"), [Type::Text, Type::Table]);
        assert_eq!(kinds("cache_seconds"), [Type::Number, Type::Text]);
        assert_eq!(kinds("local"), [Type::Boolean]);
        assert!(provider.field("api_key").unwrap().expects().unwrap().contains("${VAR}"));
        assert!(provider.field("api_key").unwrap().forms()[1].has("x-whole"));
        assert!(provider.field("nothing").is_none());
        let router = root.field("routers").unwrap().forms()[0].field("any-id").unwrap().forms()[0];
        let route = router.field("routes").unwrap().forms()[0].items().unwrap().forms()[0];
        let endpoint = route.field("endpoint").unwrap().forms();
        assert_eq!((endpoint[0].kind(), endpoint[1].kind()), (Type::Text, Type::List));
        assert_eq!(endpoint[0].words().unwrap(), ["chat", "completion", "fim", "embedding"]);
        let not = route.field("not").unwrap().forms()[0];
        assert!(
            not.field("regex").is_some() && not.field("to").is_none() && route.field("nothing").is_none()
        );
    }
}
