//! A digest of what a document says: the same whatever its whitespace, the order of members and how its strings are
//! escaped. Numbers count as they are written (`1`, `1.0` and `1e0` are three), since what an upstream makes of them is
//! its own affair. SHA-256, so that no two documents that anybody finds have the same; from `ring`, which TLS needs anyway.

use std::ops::Range;

use ring::digest::{Context, SHA256, SHA256_OUTPUT_LEN};

use super::scanner::Scanner;
use super::{key_bytes, string_value};

/// 32 bytes that stand for what was digested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; SHA256_OUTPUT_LEN]);

/// Makes a digest of several parts, each of which has a name.
pub struct Digester {
    context: Context,
}

/// A container whose end was not reached yet.
enum Open<'a> {
    Array(Digester),
    Object { members: Vec<(std::borrow::Cow<'a, [u8]>, Digest)>, key: std::borrow::Cow<'a, [u8]> },
}

// === impl Digest ===

impl Digest {
    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

// === impl Digester ===

impl Default for Digester {
    fn default() -> Self {
        Digester::of(b"parts")
    }
}

impl Digester {
    fn of(kind: &[u8]) -> Self {
        let mut digester = Digester { context: Context::new(&SHA256) };
        digester.bytes(kind);
        digester
    }

    /// The length first, so that no two sequences of parts are one sequence of bytes.
    fn bytes(&mut self, bytes: &[u8]) {
        self.context.update(&(bytes.len() as u64).to_be_bytes());
        self.context.update(bytes);
    }

    /// Adds bytes as they are.
    pub fn part(&mut self, name: &str, bytes: &[u8]) {
        self.bytes(name.as_bytes());
        self.bytes(bytes);
    }

    /// Adds what the value at `range` of a validated document says.
    pub fn value(&mut self, name: &str, document: &[u8], range: Range<usize>) {
        let value = digest_at(document, range);
        self.part(name, value.as_ref().map_or(b"", Digest::as_bytes));
    }

    /// The digest of all that was added.
    pub fn finish(self) -> Digest {
        let digest = self.context.finish();
        let mut bytes = [0; SHA256_OUTPUT_LEN];
        for (to, from) in bytes.iter_mut().zip(digest.as_ref()) {
            *to = *from;
        }
        Digest(bytes)
    }
}

fn leaf(kind: &[u8], bytes: &[u8]) -> Digest {
    let mut digester = Digester::of(kind);
    digester.bytes(bytes);
    digester.finish()
}

fn scalar(raw: &[u8]) -> Digest {
    match string_value(raw) {
        // An escape of a lone surrogate is no character; such a string is itself alone.
        Some(text) if !(raw.contains(&b'\\') && text.contains(char::REPLACEMENT_CHARACTER)) => {
            leaf(b"string", text.as_bytes())
        }
        _ => leaf(b"raw", raw),
    }
}

impl Open<'_> {
    fn add(&mut self, value: Digest) {
        match self {
            Open::Array(digester) => digester.bytes(value.as_bytes()),
            Open::Object { members, key } => members.push((std::mem::take(key), value)),
        }
    }

    fn close(self) -> Digest {
        match self {
            Open::Array(digester) => digester.finish(),
            Open::Object { mut members, .. } => {
                // Stable: where a key is written twice, the order of its values counts.
                members.sort_by(|(one, _), (other, _)| one.cmp(other));
                let mut digester = Digester::of(b"object");
                for (key, value) in members {
                    digester.bytes(&key);
                    digester.bytes(value.as_bytes());
                }
                digester.finish()
            }
        }
    }
}

/// The digest of the value at `range`, in one pass; `None` if it is no value, which a validated one cannot be.
fn digest_at(document: &[u8], range: Range<usize>) -> Option<Digest> {
    let bytes = document.get(..range.end)?;
    let mut scanner = Scanner::new(bytes, range.start);
    let mut open: Vec<Open<'_>> = Vec::new();
    loop {
        let mut value = match scanner.skip_whitespace()? {
            b'{' => {
                if scanner.open_object().ok()? {
                    let key = key_bytes(bytes.get(scanner.key().ok()?)?);
                    open.push(Open::Object { members: Vec::new(), key });
                    continue;
                }
                Open::Object { members: Vec::new(), key: Default::default() }.close()
            }
            b'[' => {
                if scanner.open_array().ok()? {
                    open.push(Open::Array(Digester::of(b"array")));
                    continue;
                }
                Open::Array(Digester::of(b"array")).close()
            }
            _ => scalar(bytes.get(scanner.ranged_value(0).ok()?)?),
        };
        // Up to the first container that goes on.
        loop {
            let Some(innermost) = open.last_mut() else { return Some(value) };
            innermost.add(value);
            let more = match innermost {
                Open::Array(_) => scanner.next_element().ok()?,
                Open::Object { key, .. } => {
                    let more = scanner.next_member().ok()?;
                    if more {
                        *key = key_bytes(bytes.get(scanner.key().ok()?)?);
                    }
                    more
                }
            };
            if more {
                break;
            }
            value = open.pop()?.close();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::wire::json::check;

    fn digest(document: &str) -> Digest {
        check(document.as_bytes()).unwrap();
        let start = document.len() - document.trim_start().len();
        digest_at(document.as_bytes(), start..document.len()).unwrap()
    }

    #[test]
    fn whitespace_order_and_escapes_do_not_count() {
        for (one, other) in [
            (r#"{"a":1,"b":[true,null,{}]}"#, " { \"b\" : [ true , null , { } ] ,\n\"a\":1 }"),
            (r#"{"é":"é\n"}"#, r#"{"\u00e9":"\u00E9\u000a"}"#),
            (r#""😀/""#, r#""\ud83d\ude00\/""#),
            (r#"[{"x":{"b":1,"a":2}}]"#, r#"[{"x":{"a":2,"b":1}}]"#),
        ] {
            assert_eq!(digest(one), digest(other), "{one} {other}");
        }
    }

    #[test]
    fn what_says_something_else_has_another_digest() {
        let different = [
            "1",
            "1.0",
            "1e0",
            "\"1\"",
            "null",
            "\"null\"",
            "[]",
            "{}",
            "[[]]",
            "[1]",
            "[1,1]",
            "[[1],1]",
            "[[1,1]]",
            r#"{"a":1}"#,
            r#"{"a":[1]}"#,
            r#"{"a":{"a":1}}"#,
            r#"{"a":1,"a":2}"#,
            r#"{"a":2,"a":1}"#,
            r#"["a",1]"#,
            r#"["ab"]"#,
            r#"["a","b"]"#,
            r#"["\ud800"]"#,
            r#"["\ud801"]"#,
            r#"["\ufffd"]"#,
            r#"{"ab":"c"}"#,
            r#"{"a":"bc"}"#,
        ];
        for (index, one) in different.iter().enumerate() {
            for other in &different[index + 1..] {
                assert_ne!(digest(one), digest(other), "{one} {other}");
            }
        }
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        let of = |parts: &[(&str, &str)]| {
            let mut digester = Digester::default();
            for (name, bytes) in parts {
                digester.part(name, bytes.as_bytes());
            }
            digester.finish()
        };
        assert_ne!(of(&[("a", "b"), ("c", "d")]), of(&[("a", "bc"), ("", "d")]));
        assert_ne!(of(&[("a", "")]), of(&[("", "a")]));
        assert_ne!(of(&[]), of(&[("", "")]));
    }

    #[test]
    fn the_deepest_document_that_is_read_is_digested() {
        let deep = format!("{}{}", "[".repeat(127), "]".repeat(127));
        let less = format!("{}{}", "[".repeat(126), "]".repeat(126));
        assert_ne!(digest(&deep), digest(&less));
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            "\\PC{0,6}|[\"\\\\\n\u{1}é]{0,4}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[ab\"é]{0,2}", inner, 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    fn reversed(value: &Value) -> Value {
        match value {
            Value::Array(items) => items.iter().map(reversed).collect(),
            Value::Object(members) => Value::Object(
                members.iter().rev().map(|(key, value)| (key.clone(), reversed(value))).collect(),
            ),
            other => other.clone(),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn two_documents_have_one_digest_exactly_if_they_are_one_value(one in any_json(), other in any_json()) {
            prop_assert_eq!(digest(&one.to_string()) == digest(&other.to_string()), one == other);
            let pretty = serde_json::to_string_pretty(&reversed(&one)).unwrap();
            prop_assert_eq!(digest(&one.to_string()), digest(&pretty));
        }
    }
}
