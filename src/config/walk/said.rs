//! What is said of keys, types and words that do not fit: with the one that was probably meant, where there is one.
//! Never quotes a value.

use config::ValueKind;

use super::super::report::{did_you_mean, nearest};
use super::super::schema::{Node, Type};

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
    ("vote", "majority"),
    ("none", "nothing"),
    ("off", "nothing"),
    ("reject", "refuse"),
    ("drop", "cut"),
];

/// Names that people bring from elsewhere, and ours.
const SYNONYMS: &[(&str, &str)] = &[
    ("api_base", "url"),
    ("base_url", "url"),
    ("baseurl", "url"),
    ("endpoint", "url"),
    ("uri", "url"),
    ("host", "address"),
    ("host", "url"),
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
    ("logging", "log"),
    ("target", "to"),
    ("backend", "to"),
    ("then", "to"),
    ("model", "to"),
    ("provider", "to"),
    ("member", "to"),
    ("members", "to"),
    ("providers", "members"),
    ("backends", "members"),
    ("models", "members"),
    ("file", "path"),
    ("filename", "path"),
    ("text", "answer"),
    ("var", "env"),
    ("variable", "env"),
    ("cmd", "command"),
    ("exec", "command"),
    ("path", "file"),
    ("rpm", "requests"),
    ("rpd", "requests"),
    ("tpm", "tokens"),
    ("tpd", "tokens"),
    ("prompt", "input"),
    ("in", "input"),
    ("completion", "output"),
    ("out", "output"),
    ("eur", "usd"),
    ("amount", "usd"),
    ("dollars", "usd"),
    ("before", "prepend"),
    ("after", "append"),
    ("prefix", "prepend"),
    ("suffix", "append"),
    ("ttl_seconds", "ttl"),
];

/// Fields of requests that people want to set.
const REQUEST_FIELDS: &[&str] = &[
    "temperature",
    "top_p",
    "top_k",
    "max_tokens",
    "max_completion_tokens",
    "seed",
    "stop",
    "reasoning_effort",
    "presence_penalty",
    "frequency_penalty",
];

/// What is said of a key that is not there; `own`: the keys that belong to the table's type.
pub(super) fn unknown_key(node: Node<'_>, own: Option<&[&str]>, key: &str) -> String {
    let Some(fields) = node.fields() else { return "unknown key".to_owned() };
    let fits = |name: &&str| own.is_none_or(|own| own.contains(name));
    let known: Vec<&str> = fields.keys().map(String::as_str).filter(fits).collect();
    let lower = key.to_lowercase().replace('-', "_");
    let theirs = SYNONYMS.iter().filter(|(theirs, _)| *theirs == lower);
    let ours = theirs.map(|(_, ours)| *ours).find(|ours| known.contains(ours));
    if ours == Some("address") {
        return "unknown key; write `address = \"127.0.0.1:6041\"` instead".to_owned();
    }
    if let Some(found) = ours {
        return format!("unknown key; did you mean `{found}`?");
    }
    if let Some(inside) = known.iter().find(|field| is_inside(node, field, &lower)) {
        return format!("unknown key; it belongs into `{inside}`");
    }
    if REQUEST_FIELDS.contains(&lower.as_str()) {
        if known.contains(&"set") {
            return format!("unknown key; fields of requests are set by set = {{ {lower} = ... }}");
        }
        if known.contains(&"members") {
            let member = format!("{{ to = \"...\", set = {{ {lower} = ... }} }}");
            return format!("unknown key; fields of requests are set for a member: {member}");
        }
    }
    match nearest(key, known.iter().copied()) {
        Some(found) => format!("unknown key; did you mean `{found}`?"),
        None => format!("unknown key (known: {})", known.join(", ")),
    }
}

/// Whether a key is one of those inside this field: of a table, or of the tables of a list.
fn is_inside(node: Node<'_>, field: &str, key: &str) -> bool {
    if key == "id" {
        // Whoever writes it means the thing itself, whose name is its table's.
        return false;
    }
    let forms = node.field(field).map(Node::forms).unwrap_or_default();
    forms.into_iter().any(|form| {
        let tables = form.items().map_or_else(|| vec![form], Node::forms);
        tables.iter().any(|table| table.fields().is_some_and(|fields| fields.contains_key(key)))
    })
}

/// What is said of a value whose type is none of those that are wanted.
pub(super) fn wrong_type(node: Node<'_>, forms: &[Node<'_>], found: &ValueKind) -> String {
    let wanted: Vec<Type> = forms.iter().map(|form| form.kind()).collect();
    let expected = match node.expects() {
        Some(words) => words.to_owned(),
        None => wanted.iter().map(|kind| type_name(*kind)).collect::<Vec<_>>().join(" or "),
    };
    let plain = node.expects().is_none();
    let hint = match (wanted.as_slice(), found) {
        ([Type::Integer | Type::Number], ValueKind::String(text)) => in_quotes(text),
        ([Type::Integer], ValueKind::Float(number)) => whole(*number),
        ([Type::Boolean], ValueKind::String(text)) if text == "true" || text == "false" => {
            "; take it out of the quotes".to_owned()
        }
        ([Type::Text], ValueKind::I64(_) | ValueKind::Float(_) | ValueKind::Boolean(_)) if plain => {
            "; put it in quotes".to_owned()
        }
        ([Type::List], ValueKind::String(_)) if plain => "; put it in brackets: [\"...\"]".to_owned(),
        ([Type::List], _) => "; put it in brackets: [ ... ]".to_owned(),
        _ => String::new(),
    };
    format!("expected {expected}, found {}{hint}", found_name(found))
}

/// How a number that stands in quotes is written.
fn in_quotes(text: &str) -> String {
    let text = text.trim();
    if text.parse::<f64>().is_ok() {
        return "; take it out of the quotes".to_owned();
    }
    let zeroes = match text.chars().next_back().map(|unit| unit.to_ascii_lowercase()) {
        Some('k') => "000",
        Some('m') => "000000",
        _ => return String::new(),
    };
    let digits = text.get(..text.len() - 1).unwrap_or_default().trim_end();
    let fits = (1..=9).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    if fits { format!("; write the number out: {digits}{zeroes}") } else { String::new() }
}

/// How a whole number that was written with an exponent is written.
fn whole(number: f64) -> String {
    if number.fract() == 0.0 && number.abs() < 1e15 {
        format!("; write the number out: {number:.0}")
    } else {
        String::new()
    }
}

/// What is wrong with a scalar of the right type.
pub(super) fn wrong_value(form: Node<'_>, found: &ValueKind) -> Option<String> {
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
        ValueKind::Float(number) if number.fract() != 0.0 => "a number with a fraction",
        ValueKind::Float(_) => "a number with a point or an exponent",
        ValueKind::String(_) => "text",
        ValueKind::Table(_) => "a table",
        ValueKind::Array(_) => "a list",
    }
}
