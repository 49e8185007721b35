//! An explanation for people: what comes of it first, then the way down the graph as a tree.

use serde_json::Value;

/// The explanation in lines; `by`: whose it is.
pub(super) fn told(explanation: &Value, by: &str) -> String {
    let mut lines = Vec::new();
    let (model, endpoint) = (text(explanation, "model"), text(explanation, "endpoint"));
    lines.push(format!("`{model}`, {endpoint}, at {}: by {by}", text(explanation, "at")));
    lines.extend(list(explanation, "notes").filter_map(Value::as_str).map(str::to_owned));
    lines.push(outcome(explanation.get("prediction").unwrap_or(&Value::Null)));
    if let Some(step) = explanation.get("step").filter(|step| !step.is_null()) {
        lines.push(String::new());
        lines.push(name(step));
        below(step, "", &mut lines);
    }
    lines.join("\n")
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn list<'v>(value: &'v Value, key: &str) -> impl Iterator<Item = &'v Value> {
    value.get(key).and_then(Value::as_array).into_iter().flatten()
}

/// What becomes of the request.
fn outcome(prediction: &Value) -> String {
    let sure = prediction.get("sure").and_then(Value::as_bool).unwrap_or(false);
    let unsure = if sure { "" } else { " (not for sure)" };
    let mut told = match prediction.get("provider").and_then(Value::as_str) {
        Some(provider) => {
            let model = text(prediction, "model");
            let what = if model.is_empty() { String::new() } else { format!(" with `{model}`") };
            format!("=> `{provider}` answers{what}{unsure}")
        }
        None => format!("=> fails: {}{unsure}: {}", text(prediction, "error"), text(prediction, "why")),
    };
    if let Some(status) = prediction.get("status").and_then(Value::as_u64) {
        let number = |key: &str| prediction.get(key).and_then(Value::as_u64);
        let wait = number("retry_after").map_or_else(String::new, |wait| format!(", Retry-After {wait} s"));
        let until = match text(prediction, "until") {
            "" => String::new(),
            until => format!("; not before {until}"),
        };
        told.push_str(&format!("\n   the client gets {status}{wait}{until}"));
    }
    for (key, header) in [("route", "x-demuxai-route"), ("attempts", "x-demuxai-attempts")] {
        if !text(prediction, key).is_empty() {
            told.push_str(&format!("\n   {header}: {}", text(prediction, key)));
        }
    }
    told
}

/// A backend, and what it does.
fn name(step: &Value) -> String {
    let (section, id, kind) = (text(step, "section"), text(step, "id"), text(step, "type"));
    let kind = if kind == section { String::new() } else { format!(" ({kind})") };
    let model = match text(step, "model") {
        "" => String::new(),
        model => format!(", model `{model}`"),
    };
    let state = match text(step, "state") {
        "sends" => ": sends it".to_owned(),
        "later" if text(step, "until").is_empty() => ": not now".to_owned(),
        "later" => format!(": not before {}", text(step, "until")),
        "cannot" => ": cannot".to_owned(),
        "answers" => ": answers by itself".to_owned(),
        "combines" => ": makes one answer of theirs".to_owned(),
        _ => String::new(),
    };
    format!("{section} `{id}`{kind}{model}{state}")
}

/// The reasons of a step, and those below it.
fn below(step: &Value, indent: &str, lines: &mut Vec<String>) {
    let ways: Vec<&Value> = list(step, "ways").collect();
    let bar = if ways.is_empty() { ' ' } else { '│' };
    lines.extend(list(step, "why").filter_map(Value::as_str).map(|why| format!("{indent}{bar} {why}")));
    for (index, way) in ways.iter().enumerate() {
        let last = index + 1 == ways.len();
        let (corner, down) = if last { ("└── ", "    ") } else { ("├── ", "│   ") };
        let (mark, turn) = match (text(way, "turn"), way.get("order").and_then(Value::as_u64)) {
            ("asked", Some(order)) => ("▶", format!("asked as number {order}")),
            ("skipped", _) => ("✗", "skipped".to_owned()),
            _ => ("·", "not taken".to_owned()),
        };
        let why = match text(way, "why") {
            "" => String::new(),
            why => format!(": {why}"),
        };
        lines.push(format!("{indent}{corner}{mark} {}. {} - {turn}{why}", index + 1, text(way, "to")));
        let indent = format!("{indent}{down}");
        for condition in list(way, "conditions") {
            lines.push(format!("{indent}{}", conditional(condition)));
        }
        if let Some(step) = way.get("step").filter(|step| !step.is_null()) {
            lines.push(format!("{indent}{}", name(step)));
            below(step, &indent, lines);
        }
    }
}

fn conditional(condition: &Value) -> String {
    let mark = match condition.get("holds").and_then(Value::as_bool) {
        Some(true) => "yes",
        Some(false) => "no ",
        None => "?  ",
    };
    let seen = match text(condition, "seen") {
        "" => String::new(),
        seen => format!(" ({seen})"),
    };
    format!("{mark} {}{seen}", text(condition, "condition"))
}
