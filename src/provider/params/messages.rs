//! The policy inside `messages` and `tools`: members that are taken out, ids of tool calls that an upstream refuses,
//! keywords of schemas it does not know. Everything else in them keeps its bytes.

use std::borrow::Cow;
use std::ops::Range;

use super::Changes;
use crate::provider::catalogue::{ParamPolicy, ToolCallIds};
use crate::wire::json::{Field, MAX_MEMBERS, elements_of, is_null, members_of, quoted, string_value};
use crate::wire::splice::ObjectEdit;

/// Schemas are read once per level of nesting; what is larger than this in all is left as it is.
const MAX_SCHEMA_BYTES: usize = 1024 * 1024;

/// Applies what the policy says about messages and tools.
pub fn apply(changes: &mut Changes<'_>, policy: &ParamPolicy) {
    let request = changes.request;
    let ids = policy.tool_call_ids == ToolCallIds::Alphanumeric9;
    if let Some(messages) = request.member("messages")
        && (ids || policy.drop_null || !policy.message_drop.is_empty())
    {
        for message in elements_of(&request.body, messages.value.clone()) {
            clean_message(changes, message.range, policy, ids);
        }
    }
    if let Some(tools) = request.member("tools").filter(|tools| tools.value.len() <= MAX_SCHEMA_BYTES)
        && !policy.tool_schema_drop.is_empty()
    {
        for tool in elements_of(&request.body, tools.value.clone()) {
            if let Some(schema) = schema_of(&request.body, tool.range) {
                clean_schema(changes, schema, &policy.tool_schema_drop);
            }
        }
    }
}

fn clean_message(changes: &mut Changes<'_>, message: Range<usize>, policy: &ParamPolicy, ids: bool) {
    let request = changes.request;
    let mut unwanted: Vec<Cow<'_, str>> = Vec::new();
    for field in members_of(&request.body, message.clone()) {
        let key = field.key();
        if (policy.drop_null && is_null(field.raw)) || policy.message_drop.iter().any(|drop| *drop == key) {
            unwanted.push(key);
        } else if ids && key == "tool_call_id" {
            replace_id(changes, &field);
        } else if ids && key == "tool_calls" {
            for call in elements_of(&request.body, field.range.clone()) {
                for id in members_of(&request.body, call.range).filter(|member| member.is("id")) {
                    replace_id(changes, &id);
                }
            }
        }
        if unwanted.len() > MAX_MEMBERS {
            return;
        }
    }
    remove(changes, message, &unwanted, "messages[].");
}

/// Takes these keys out of one object.
fn remove(changes: &mut Changes<'_>, object: Range<usize>, keys: &[Cow<'_, str>], prefix: &str) {
    if keys.is_empty() || !changes.take_nested() {
        return;
    }
    let Some(mut edit) = ObjectEdit::nested(&changes.request.body, object) else { return };
    for key in keys {
        if edit.remove(key) {
            changes.name("drop", &format!("{prefix}{key}"));
        }
    }
    changes.nested.object(edit);
}

fn replace_id(changes: &mut Changes<'_>, field: &Field<'_>) {
    let Some(id) = string_value(field.raw) else { return };
    let accepted = id.len() == 9 && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if accepted || !changes.take_nested() {
        return;
    }
    changes.nested.replace(field.range.clone(), quoted(&nine_alphanumerics(&id)));
    changes.name("replace", "tool_call_id");
}

/// The same nine letters and digits for the same id, always and everywhere, so that a call and its result still
/// belong together, in this request and in the next.
fn nine_alphanumerics(id: &str) -> String {
    const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    // FNV-1a, with the finaliser of SplitMix64 so that similar ids differ everywhere.
    let mut hash = id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^= hash >> 31;
    let mut text = String::with_capacity(9);
    for _ in 0..9 {
        let digit = ALPHABET.get((hash % 62) as usize).copied().unwrap_or(b'0');
        text.push(char::from(digit));
        hash /= 62;
    }
    text
}

/// `function.parameters` of one tool.
fn schema_of(body: &[u8], tool: Range<usize>) -> Option<Range<usize>> {
    let function = members_of(body, tool).find(|field| field.is("function"))?;
    members_of(body, function.range).find(|field| field.is("parameters")).map(|field| field.range)
}

/// Takes the keywords out of a schema and all schemas within. The members of `properties` and the like are names that
/// the tool's author chose, not keywords. Validated bodies are nested at most 127 deep, and so is this.
fn clean_schema(changes: &mut Changes<'_>, schema: Range<usize>, keywords: &[String]) {
    const OF_NAMES: [&str; 4] = ["properties", "patternProperties", "$defs", "definitions"];
    let body = &changes.request.body;
    let mut unwanted: Vec<Cow<'_, str>> = Vec::new();
    for field in members_of(body, schema.clone()) {
        let key = field.key();
        if keywords.iter().any(|keyword| *keyword == key) {
            unwanted.push(key);
        } else if OF_NAMES.contains(&key.as_ref()) {
            for inner in members_of(body, field.range) {
                clean_schema(changes, inner.range, keywords);
            }
        } else {
            clean_schema(changes, field.range.clone(), keywords);
            for element in elements_of(body, field.range) {
                clean_schema(changes, element.range, keywords);
            }
        }
    }
    remove(changes, schema, &unwanted, "tools[].");
}
