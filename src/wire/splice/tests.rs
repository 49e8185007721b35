//! Commas, order and untouched bytes, by example and against edits of parsed values.

use std::io::IoSlice;

use bytes::Buf;
use proptest::prelude::*;
use serde_json::{Map, Value};

use super::*;
use crate::wire::json::scan_object;

fn edited(source: &str, change: impl FnOnce(&mut ObjectEdit<'_>)) -> String {
    let members = scan_object(source.as_bytes()).unwrap();
    let mut object = ObjectEdit::top(source.as_bytes(), &members);
    change(&mut object);
    let mut edits = Edits::new();
    edits.object(object);
    String::from_utf8(edits.apply(source.as_bytes())).unwrap()
}

#[test]
fn edits_are_applied_in_the_order_of_their_places() {
    let mut edits = Edits::new();
    edits.insert(6, b" C".as_slice());
    edits.replace(0..1, b"x".as_slice());
    edits.insert(0, b"<".as_slice());
    edits.insert(0, b"<".as_slice());
    edits.delete(2..4);
    assert_eq!(edits.apply(b"abcdef"), b"<<xbef C");
}

#[test]
fn an_edit_that_overlaps_an_earlier_place_is_left_out() {
    let mut edits = Edits::new();
    edits.replace(2..4, b"Z".as_slice());
    edits.replace(1..3, b"Y".as_slice());
    assert_eq!(edits.apply(b"abcdef"), b"aYdef");
}

#[test]
fn an_edit_beyond_the_buffer_is_left_out() {
    let mut edits = Edits::new();
    edits.replace(4..9, b"Z".as_slice());
    edits.insert(7, b"Z".as_slice());
    #[expect(clippy::reversed_empty_ranges, reason = "a broken range is what is tested")]
    edits.replace(3..1, b"Z".as_slice());
    assert_eq!(edits.apply(b"abc"), b"abc");
}

#[test]
fn removing_takes_the_right_comma() {
    let source = r#"{ "a": 1 , "b": 2 , "c": 3 }"#;
    for (keys, expected) in [
        (vec!["a"], r#"{ "b": 2 , "c": 3 }"#),
        (vec!["b"], r#"{ "a": 1 , "c": 3 }"#),
        (vec!["c"], r#"{ "a": 1 , "b": 2 }"#),
        (vec!["a", "b"], r#"{ "c": 3 }"#),
        (vec!["b", "c"], r#"{ "a": 1 }"#),
        (vec!["a", "c"], r#"{ "b": 2 }"#),
        (vec!["a", "b", "c"], r#"{  }"#),
        (vec!["x"], source),
    ] {
        let result =
            edited(source, |object| keys.iter().for_each(|key| assert_eq!(object.remove(key), *key != "x")));
        assert_eq!(result, expected, "without {keys:?}");
    }
}

#[test]
fn setting_replaces_in_place_or_appends() {
    assert_eq!(edited(r#"{"a":1,"b":2}"#, |object| object.set("a", b"[]".as_slice())), r#"{"a":[],"b":2}"#);
    assert_eq!(edited(r#"{"a":1}"#, |object| object.set("b\n", b"2".as_slice())), r#"{"a":1,"b\n":2}"#);
    assert_eq!(edited(" {} ", |object| object.set("b", b"2".as_slice())), r#" {"b":2} "#);
}

#[test]
fn removing_all_and_appending_leaves_only_the_new() {
    let result = edited(r#"{"a":1,"b":2}"#, |object| {
        object.remove("a");
        object.set("c", b"3".as_slice());
        object.remove("b");
        object.set("d", b"4".as_slice());
    });
    assert_eq!(result, r#"{"c":3,"d":4}"#);
}

#[test]
fn removing_the_last_and_appending_keeps_one_comma() {
    let result = edited(r#"{"a":1,"b":2}"#, |object| {
        object.remove("b");
        object.set("c", b"3".as_slice());
    });
    assert_eq!(result, r#"{"a":1,"c":3}"#);
}

#[test]
fn renaming_keeps_place_and_value() {
    let result = edited(r#"{"a":1,"max_completion_tokens" : 1.10e2,"b":2}"#, |object| {
        assert!(object.rename("max_completion_tokens", "max_tokens"));
        assert!(!object.rename("absent", "other"));
    });
    assert_eq!(result, r#"{"a":1,"max_tokens" : 1.10e2,"b":2}"#);
}

#[test]
fn renaming_to_a_key_that_exists_keeps_that_one() {
    let result = edited(r#"{"a":1,"b":2}"#, |object| assert!(object.rename("a", "b")));
    assert_eq!(result, r#"{"b":2}"#);
}

#[test]
fn a_key_written_twice_is_one_afterwards() {
    let source = r#"{"a":1,"x":0,"\u0061":2}"#;
    assert_eq!(edited(source, |object| assert!(object.remove("a"))), r#"{"x":0}"#);
    assert_eq!(edited(source, |object| object.set("a", b"3".as_slice())), r#"{"a":3,"x":0}"#);
    assert_eq!(edited(source, |object| assert!(object.rename("a", "b"))), r#"{"x":0,"b":2}"#);
}

#[test]
fn nested_objects_are_edited_in_place() {
    let source = br#"{"messages":[{"role":"user","name":"x"},{"name":"y"}, 7],"n":1.0}"#;
    let messages = scan_object(source).unwrap().remove(0).value;
    let mut edits = Edits::new();
    for message in crate::wire::json::elements_of(source, messages) {
        if let Some(mut object) = ObjectEdit::nested(source, message.range) {
            object.remove("name");
            edits.object(object);
        }
    }
    assert_eq!(edits.apply(source), br#"{"messages":[{"role":"user"},{}, 7],"n":1.0}"#);
}

#[test]
fn an_object_with_too_many_members_is_not_edited() {
    let members: Vec<String> = (0..=MAX_MEMBERS).map(|index| format!("\"{index}\":0")).collect();
    let source = format!("{{{}}}", members.join(","));
    assert!(ObjectEdit::nested(source.as_bytes(), 0..source.len()).is_none());
}

#[derive(Debug, Clone)]
enum Change {
    Remove(String),
    Rename(String, String),
    Set(String, Value),
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from),
        "[\"\\\\\n\u{1}é]{0,4}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((any_key(), inner), 0..4)
                .prop_map(|list| Value::Object(list.into_iter().collect())),
        ]
    })
}

fn any_key() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), "[a-e]", Just("a\"\\\né".to_owned())]
}

fn any_object() -> impl Strategy<Value = Map<String, Value>> {
    prop::collection::vec((any_key(), any_value()), 0..7).prop_map(|list| list.into_iter().collect())
}

fn any_change() -> impl Strategy<Value = Change> {
    prop_oneof![
        any_key().prop_map(Change::Remove),
        (any_key(), any_key()).prop_map(|(old, new)| Change::Rename(old, new)),
        (any_key(), any_value()).prop_map(|(key, value)| Change::Set(key, value)),
    ]
}

/// The same changes made to a parsed object.
fn change_map(map: Map<String, Value>, change: &Change) -> Map<String, Value> {
    let mut map = map;
    match change {
        Change::Remove(key) => drop(map.shift_remove(key)),
        Change::Set(key, value) => drop(map.insert(key.clone(), value.clone())),
        Change::Rename(old, new) if old == new => {}
        Change::Rename(old, new) if map.contains_key(new) => drop(map.shift_remove(old)),
        Change::Rename(old, new) => {
            let renamed = |(key, value)| (if &key == old { new.clone() } else { key }, value);
            map = map.into_iter().map(renamed).collect();
        }
    }
    map
}

proptest! {
    #[test]
    fn parsing_the_edited_is_editing_the_parsed(
        map in any_object(),
        changes in prop::collection::vec(any_change(), 0..8),
        pretty in any::<bool>(),
        nested in any::<bool>(),
    ) {
        let whole = if nested { serde_json::json!([0, map, 1]) } else { Value::Object(map.clone()) };
        let text = if pretty { serde_json::to_string_pretty(&whole) } else { serde_json::to_string(&whole) }.unwrap();
        let source = text.as_bytes();
        let members;
        let mut object = if nested {
            let range = crate::wire::json::elements_of(source, 0..source.len()).nth(1).unwrap().range;
            ObjectEdit::nested(source, range).unwrap()
        } else {
            members = scan_object(source).unwrap();
            ObjectEdit::top(source, &members)
        };
        let mut expected = map;
        for change in &changes {
            expected = change_map(expected, change);
            match change {
                Change::Remove(key) => { object.remove(key); }
                Change::Rename(old, new) => { object.rename(old, new.clone()); }
                Change::Set(key, value) => object.set(key.clone(), serde_json::to_vec(value).unwrap()),
            }
        }
        let mut edits = Edits::new();
        edits.object(object);
        let result = edits.apply(source);
        let wanted = if nested { serde_json::json!([0, expected, 1]) } else { Value::Object(expected) };
        // Compared as text, because maps compare without order.
        let parsed: Value = serde_json::from_slice(&result).unwrap();
        prop_assert_eq!(parsed.to_string(), wanted.to_string());
    }

    #[test]
    fn what_no_edit_names_stays_byte_for_byte(
        source in prop::collection::vec(any::<u8>(), 0..40),
        places in prop::collection::vec((0usize..48, 0usize..6, prop::collection::vec(any::<u8>(), 0..4)), 0..6),
    ) {
        let mut edits = Edits::new();
        for (start, length, bytes) in &places {
            edits.replace(*start..*start + *length, bytes.clone());
        }
        let result = edits.apply(&source);
        let mut sorted = places;
        sorted.sort_by_key(|(start, length, _)| (*start, *length > 0));
        let (mut expected, mut at) = (Vec::new(), 0);
        for (start, length, bytes) in sorted {
            if start >= at && start + length <= source.len() {
                expected.extend_from_slice(&source[at..start]);
                expected.extend(bytes);
                at = start + length;
            }
        }
        expected.extend_from_slice(&source[at..]);
        prop_assert_eq!(result, expected);
    }
}

#[test]
fn a_long_buffer_is_shared_and_comes_out_the_same() {
    let long = format!("{{\"model\":\"a\",\"text\":\"{}\",\"seed\":1}}", "x".repeat(WORTH_SHARING));
    let source = Bytes::from(long);
    let members = crate::wire::json::scan_object(&source).unwrap();
    let edits = || {
        let mut object = ObjectEdit::top(&source, &members);
        object.set("model", &b"\"up/longer\""[..]);
        object.remove("seed");
        let mut edits = Edits::new();
        edits.object(object);
        edits
    };
    let shared = edits().apply_shared(&source);
    assert_eq!(shared.to_bytes(), edits().apply(&source));
    let mut pieces = [IoSlice::new(&[]); 8];
    shared.chunks_vectored(&mut pieces);
    let stretch = pieces.iter().find(|piece| piece.len() > 1000).unwrap();
    assert!(source.as_ptr_range().contains(&stretch.as_ptr()), "the long stretch is not copied");
}
