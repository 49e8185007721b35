//! Reads the text of an upstream's refusal: where providers put their words, and which request field they name.
//! Pure; it decides nothing about status or retry (`classify.rs` does).

use bytes::Bytes;
use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use serde_json::Value;

/// Largest refusal that is looked into.
const MAX_READ: usize = 256 * 1024;
/// Looks into no more entries than these of one list.
const MOST_ENTRIES: usize = 16;
/// Fields that carry the task itself: without them it would be another request.
const NEVER: [&str; 7] = ["model", "messages", "prompt", "suffix", "input", "stream", "tools"];

/// What announces the name of a refused field, in lower case: the words of the providers that are known (2026-11).
const ANNOUNCED_BY: [&str; 11] = [
    "unknown name ",                            // Gemini: Unknown name "x": Cannot find field.
    "unsupported parameter: ", // OpenAI: Unsupported parameter: 'x' is not supported with this model.
    "unsupported parameter ",  // the same without a colon
    "unsupported value: ",     // OpenAI: Unsupported value: 'x' does not support 0.2 with this model.
    "unknown parameter: ",     // OpenAI: Unknown parameter: 'x'.
    "unrecognized request argument supplied: ", // OpenAI, older: without quotes
    "unrecognized request arguments supplied: ",
    "unknown field: parameter ", // Cohere: unknown field: parameter 'x' is not a valid field
    "unknown field ",            // Go and serde servers: unknown field "x"
    "additional properties are not allowed (", // JSON schema: ('x' was unexpected)
    "property ",                 // Groq: property 'x' is unsupported
];

/// Words that say a field as such is not wanted, rather than its value being malformed.
const UNWANTED: [&str; 11] = [
    "unsupported",
    "not supported",
    "does not support",
    "not_supported",
    "unrecognized",
    "unknown",
    "unexpected",
    "not permitted",
    "not allowed",
    "forbidden",
    "value_error.extra",
];

/// The texts and codes of a refusal, from all the places where providers put them, in lower case:
/// `error.message`, `error` as a string (Ollama), `message` (Mistral, Cerebras), `detail` (Mistral, NIM),
/// `errors[].message` (Cloudflare), `title` (NIM), the first of an array (Gemini), `error.metadata.raw` (OpenRouter),
/// `error.details[]` with its `quotaId`s and its `retryDelay` (Gemini). Empty for what is not JSON.
pub(super) struct Words {
    value: Option<Value>,
    text: String,
}

/// One quota that a request violated, as Gemini names it (`google.rpc.QuotaFailure`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Violation {
    /// `quotaId` in lower case: `generaterequestsperdayperprojectpermodel-freetier`.
    pub(super) id: String,
    /// `quotaValue`, the quota itself.
    pub(super) value: Option<u64>,
}

// === impl Words ===

impl Words {
    pub(super) fn read(body: &Bytes) -> Words {
        let value = body.get(..body.len().min(MAX_READ)).and_then(|body| serde_json::from_slice(body).ok());
        let value = match value {
            Some(Value::Array(entries)) => entries.into_iter().next(),
            other => other,
        };
        let mut text = String::new();
        if let Some(value) = &value {
            gather(value, &mut text);
        }
        Words { value, text: text.to_lowercase() }
    }

    /// Whether the body was a JSON object at all.
    pub(super) fn is_json(&self) -> bool {
        self.value.as_ref().is_some_and(Value::is_object)
    }

    /// Whether any of these is said; all in lower case.
    pub(super) fn say(&self, any: &[&str]) -> bool {
        any.iter().any(|phrase| self.text.contains(phrase))
    }

    /// All that is said, in lower case.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The upstream's own code for the error: `error.code`, `error.type`, `code`, `type`; only if it is a plain word.
    pub(super) fn code(&self) -> Option<&str> {
        let top = self.value.as_ref()?;
        let error = top.get("error");
        [error.and_then(|error| error.get("code")), error.and_then(|error| error.get("type"))]
            .into_iter()
            .chain([top.get("code"), top.get("type")])
            .flatten()
            .filter_map(Value::as_str)
            .find(|code| is_word(code))
    }

    /// Whether one of the upstream's own codes, words or numbers, is one of these; all in lower case.
    pub(super) fn is_coded(&self, any: &[&str]) -> bool {
        const KEYS: [&str; 3] = ["code", "type", "status"];
        let top = self.value.as_ref();
        let objects = [top.and_then(|top| top.get("error")), top];
        let mut codes =
            objects.into_iter().flatten().flat_map(|object| KEYS.iter().filter_map(|key| object.get(key)));
        codes.any(|code| match code {
            Value::String(word) => any.iter().any(|one| word.eq_ignore_ascii_case(one)),
            Value::Number(number) => any.contains(&number.to_string().as_str()),
            _ => false,
        })
    }

    /// The quotas that were violated, where the upstream lists them.
    pub(super) fn violations(&self) -> Vec<Violation> {
        let error = self.value.as_ref().and_then(|top| top.get("error"));
        let details = error.into_iter().flat_map(|error| entries(error, "details"));
        let listed = details.flat_map(|detail| entries(detail, "violations"));
        let read = |violation: &Value| {
            let value = violation.get("quotaValue");
            Some(Violation {
                id: violation.get("quotaId")?.as_str()?.to_ascii_lowercase(),
                value: value.and_then(|value| value.as_u64().or_else(|| value.as_str()?.trim().parse().ok())),
            })
        };
        listed.filter_map(read).take(MOST_ENTRIES).collect()
    }

    /// The headers that OpenRouter repeats in `error.metadata.headers`.
    pub(super) fn headers(&self) -> HeaderMap {
        let headers = self.value.as_ref().and_then(|top| top.pointer("/error/metadata/headers"));
        let entries = headers.and_then(Value::as_object).into_iter().flatten();
        let read = |(name, value): (&String, &Value)| {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            Some((HeaderName::try_from(name).ok()?, HeaderValue::try_from(text).ok()?))
        };
        entries.take(MOST_ENTRIES).filter_map(read).collect()
    }

    /// `error.param` or `param`.
    fn param(&self) -> Option<&str> {
        let top = self.value.as_ref()?;
        let error = top.get("error").unwrap_or(top);
        error.get("param").or_else(|| top.get("param")).and_then(Value::as_str)
    }

    /// The entries of a validation report in the manner of pydantic, wherever it is.
    fn report(&self) -> impl Iterator<Item = &Value> {
        let top = self.value.as_ref();
        let places = ["detail", "message"].into_iter().filter_map(move |key| top?.get(key));
        let nested = top
            .and_then(|top| top.get("message"))
            .and_then(|message| message.get("detail"))
            .into_iter()
            .chain(top.and_then(|top| top.get("error")).and_then(|error| error.get("detail")));
        places.chain(nested).filter_map(Value::as_array).flatten()
    }
}

fn gather(value: &Value, text: &mut String) {
    const KEYS: [&str; 8] = ["message", "code", "type", "status", "detail", "title", "msg", "reason"];
    for key in KEYS {
        match value.get(key) {
            Some(Value::String(words)) => add(words, text),
            Some(Value::Number(number)) => add(&number.to_string(), text),
            Some(Value::Array(entries)) => entries.iter().for_each(|entry| gather_entry(entry, text)),
            Some(nested @ Value::Object(_)) => gather_entry(nested, text),
            _ => {}
        }
    }
    match value.get("error") {
        Some(Value::String(words)) => add(words, text),
        Some(error @ Value::Object(_)) => {
            gather_entry(error, text);
            for detail in entries(error, "details") {
                gather_entry(detail, text);
                for violation in entries(detail, "violations") {
                    if let Some(id) = violation.get("quotaId").and_then(Value::as_str) {
                        add(id, text);
                    }
                }
                if let Some(delay) = detail.get("retryDelay").and_then(Value::as_str) {
                    add(&format!("retryDelay {delay}"), text);
                }
            }
            if let Some(raw) = error.get("metadata").and_then(|metadata| metadata.get("raw")) {
                match raw {
                    Value::String(words) => add(words, text),
                    other => gather_entry(other, text),
                }
            }
        }
        _ => {}
    }
    for error in value.get("errors").and_then(Value::as_array).into_iter().flatten() {
        gather_entry(error, text);
    }
}

/// The entries of the array under this key.
fn entries<'v>(value: &'v Value, key: &str) -> impl Iterator<Item = &'v Value> {
    value.get(key).and_then(Value::as_array).into_iter().flatten().take(MOST_ENTRIES)
}

/// The plain texts of one object; a validation report's `input`, which repeats the prompt, is not among them.
fn gather_entry(value: &Value, text: &mut String) {
    if let Value::String(words) = value {
        add(words, text);
    }
    for key in ["message", "code", "type", "status", "msg", "reason", "detail"] {
        match value.get(key) {
            Some(Value::String(words)) => add(words, text),
            Some(Value::Number(number)) => add(&number.to_string(), text),
            Some(Value::Array(entries)) => {
                for words in entries.iter().filter_map(|entry| entry.get("msg")).filter_map(Value::as_str) {
                    add(words, text);
                }
            }
            _ => {}
        }
    }
}

fn add(words: &str, text: &mut String) {
    text.push_str(words);
    text.push('\n');
}

fn is_word(code: &str) -> bool {
    !code.is_empty()
        && code.len() <= 64
        && code.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
}

/// The request fields that the upstream refused by name, so that the call can be repeated without them. A report of
/// invalid fields names all of them at once, others one at a time.
///
/// None when
/// - the status is neither 400 nor 422;
/// - no field is named, or only one inside another (`tools[0].function.strict`);
/// - the named field is not one of the top-level keys in `sent`;
/// - it carries the task itself (`model`, `messages`, `prompt`, `suffix`, `input`, `stream`, `tools`);
/// - its value is at fault, not the field (out of range, wrong type): the client has to know that.
pub fn rejected_fields(status: u16, body: &Bytes, sent: &[&str]) -> Vec<String> {
    if !matches!(status, 400 | 422) {
        return Vec::new();
    }
    let words = Words::read(body);
    let droppable = |names: Vec<&str>| -> Vec<String> {
        let known = sent.iter().filter(|name| names.contains(name) && !NEVER.contains(name));
        known.map(|name| (*name).to_owned()).collect()
    };
    [by_report(&words), by_param(&words).into_iter().collect(), by_text(&words.text)]
        .into_iter()
        .map(droppable)
        .find(|names| !names.is_empty())
        .unwrap_or_default()
}

/// `{"detail":[{"type":"extra_forbidden","loc":["body","x"],"msg":"Extra inputs are not permitted"}]}` (Mistral, vLLM).
fn by_report(words: &Words) -> Vec<&str> {
    words.report().filter_map(named_by).collect()
}

/// The top-level field that one entry of a report does not want.
fn named_by(entry: &Value) -> Option<&str> {
    let name = match entry.get("loc")?.as_array()?.as_slice() {
        [Value::String(place), Value::String(name)] if place == "body" => name,
        [Value::String(name)] => name,
        _ => return None,
    };
    let field = |key| entry.get(key).and_then(Value::as_str).unwrap_or_default().to_lowercase();
    // An enumeration that this upstream has shorter than OpenAI's is its refusal too.
    let narrower = matches!(field("type").as_str(), "literal_error" | "enum");
    (narrower || is_unwanted(&field("type")) || is_unwanted(&field("msg"))).then_some(name.as_str())
}

/// `{"error":{"message":"…not supported…","param":"x","code":"unsupported_parameter"}}` (OpenAI).
fn by_param(words: &Words) -> Option<&str> {
    words.param().filter(|_| is_unwanted(&words.text))
}

/// Names that follow one of the known phrases. The text is in lower case, as all known fields are.
fn by_text(text: &str) -> Vec<&str> {
    let mut names = Vec::new();
    for phrase in ANNOUNCED_BY {
        let Some((_, rest)) = text.split_once(phrase) else { continue };
        let line = rest.split_once('\n').map_or(rest, |(line, _)| line);
        if phrase == "property " && !line.contains("is unsupported") {
            continue;
        }
        match phrase.contains("arguments") {
            true => names.extend(line.split(", ").filter_map(leading_name)),
            false => names.extend(leading_name(line)),
        }
    }
    names
}

/// The name at the start of `text`, quoted or not, unless it is one inside another field:
/// `tools[0].strict`, or `"x" at 'tools[0]'`.
fn leading_name(text: &str) -> Option<&str> {
    const QUOTES: [char; 3] = ['\'', '"', '`'];
    let bare = text.strip_prefix(QUOTES).unwrap_or(text);
    let end = bare.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(bare.len());
    let (name, after) = bare.split_at(end);
    let place = after.trim_start_matches(QUOTES).strip_prefix(" at '");
    let nested = after.starts_with(['.', '[']) || place.is_some_and(|place| !place.starts_with('\''));
    (!name.is_empty() && !nested).then_some(name)
}

fn is_unwanted(text: &str) -> bool {
    UNWANTED.iter().any(|word| text.contains(word))
}

#[cfg(test)]
mod tests;
