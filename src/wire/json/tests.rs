//! Every condition that `json.rs` documents, and agreement with `serde_json`.

use proptest::prelude::*;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::*;

fn keys(source: &str) -> Vec<String> {
    scan_object(source.as_bytes()).unwrap().into_iter().map(|member| member.key).collect()
}

#[test]
fn members_are_listed_with_their_ranges() {
    let source = br#" { "model" : "a/b", "n":[1, {"x":2}],"t" : -1.5e+3 } "#;
    let members = scan_object(source).unwrap();
    let written: Vec<(&str, &[u8], &[u8])> = members
        .iter()
        .map(|member| (member.key.as_str(), &source[member.key_range.clone()], &source[member.value.clone()]))
        .collect();
    assert_eq!(
        written,
        [
            ("model", b"\"model\"".as_slice(), b"\"a/b\"".as_slice()),
            ("n", b"\"n\"", br#"[1, {"x":2}]"#),
            ("t", b"\"t\"", b"-1.5e+3"),
        ]
    );
}

#[test]
fn how_deep_a_value_is_nested_is_told() {
    let source = br#"{"a":"[[","b":[],"c":[{}],"d":[1,{"x":[{"y":2},[3]]},[4]],"e":[{"x":[5]}],"f":0}"#;
    let depths: Vec<u32> = scan_object(source).unwrap().iter().map(|member| member.depth).collect();
    assert_eq!(depths, [0, 1, 2, 4, 3, 0]);
}

#[test]
fn keys_are_unescaped_and_doubles_kept() {
    assert_eq!(
        keys(r#"{"mod\u0065l":1,"model":2,"\ud83d\ude00\n":3,"\ud83d":4}"#),
        ["model", "model", "😀\n", "\u{fffd}"]
    );
}

#[test]
fn an_empty_object_has_no_members() {
    assert_eq!(scan_object(b"{ }"), Ok(vec![]));
}

#[test]
fn bytes_that_are_not_utf8_are_refused() {
    assert_eq!(scan_object(b"{\"a\":\"\xff\"}"), Err(JsonError::NotUtf8 { at: 6 }));
    // The same in a document that is checked in the way of long ones.
    let long = [b"{\"a\":\"".as_slice(), "é".repeat(LONG).as_bytes(), b"\xff\"}"].concat();
    assert_eq!(scan_object(&long), Err(JsonError::NotUtf8 { at: 6 + 2 * LONG }));
    let cut = [&long[..6 + 2 * LONG], b"\xc3"].concat();
    assert!(matches!(scan_object(&cut), Err(JsonError::Incomplete { at, .. }) if at == cut.len()));
}

#[test]
fn a_document_that_ends_early_is_incomplete() {
    for source in [
        "",
        " ",
        "{",
        "{\"a",
        "{\"a\"",
        "{\"a\":",
        "{\"a\":1",
        "{\"a\":1,",
        "{\"a\":-",
        "{\"a\":1e",
        "{\"a\":tr",
        "{\"a\":[",
        "{\"a\":[1,",
        "{\"a\":\"\\",
        "{\"a\":\"\\u00",
        "{\"a\":{\"b\":null}",
    ] {
        let error = scan_object(source.as_bytes()).unwrap_err();
        assert!(matches!(error, JsonError::Incomplete { at, .. } if at == source.len()), "{source}: {error}");
    }
    assert!(matches!(scan_object(b"{\"a\":\"\xc3"), Err(JsonError::Incomplete { at: 7, .. })));
}

#[test]
fn a_wrong_byte_is_named() {
    for (source, at) in [
        ("{a:1}", 1),
        ("{\"a\" 1}", 5),
        ("{\"a\":01}", 6),
        ("{\"a\":1,}", 7),
        ("{\"a\":[1,]}", 8),
        ("{\"a\":1 \"b\":2}", 7),
        ("{\"a\":.5}", 5),
        ("{\"a\":+1}", 5),
        ("{\"a\":1.}", 7),
        ("{\"a\":nul1}", 5),
        ("{\"a\":\"\n\"}", 6),
        ("{\"a\":\"\\x\"}", 7),
        ("{\"a\":\"\\u12g4\"}", 10),
        ("{\"a\":1}}", 7),
        ("{\"a\":1]", 6),
        ("\u{feff}{}", 0),
        ("nope", 0),
    ] {
        let error = scan_object(source.as_bytes()).unwrap_err();
        assert!(matches!(error, JsonError::Syntax { at: found, .. } if found == at), "{source}: {error}");
    }
}

#[test]
fn control_characters_deep_in_a_long_string_are_found() {
    for place in 0..100 {
        let mut text = "x".repeat(100);
        text.replace_range(place..=place, "\u{1f}");
        let error = scan_object(format!("{{\"a\":\"{text}\"}}").as_bytes()).unwrap_err();
        assert!(matches!(error, JsonError::Syntax { at, .. } if at == 6 + place), "{place}: {error}");
    }
}

/// Strings long enough to be read in blocks, with what matters at every place of a block.
#[test]
fn long_strings_with_escapes_end_where_they_end() {
    for lead in 0..70 {
        for escape in [r"\n", r#"\""#, r"\\\\", r#"\\\""#, r"\u00e9", r"\ud83d\ude00"] {
            for tail in [0, 1, 63, 64, 65, 300] {
                let text = format!("{}{escape}{}{escape}{}", r"\t", "x".repeat(lead), "y".repeat(tail));
                let source = format!("{{\"a\":\"{text}\",\n\"b\":\"{text}\"}}");
                let members = scan_object(source.as_bytes()).unwrap();
                let ranges: Vec<_> = members.iter().map(|member| member.value.clone()).collect();
                assert_eq!(ranges, [5..7 + text.len(), 13 + text.len()..15 + 2 * text.len()], "{source}");
            }
        }
    }
}

#[test]
fn what_is_wrong_in_a_long_string_with_escapes_is_named() {
    for place in 0..200 {
        for (wrong, distance) in [("\u{1f}", 0), (r"\x", 1), (r"\u12g4", 4)] {
            let text =
                format!("{}{}{wrong}{}", r#"\""#.repeat(place / 7), "x".repeat(place), r"\n".repeat(50));
            let error = scan_object(format!("{{\"a\":\"{text}\"}}").as_bytes()).unwrap_err();
            let expected = 6 + place / 7 * 2 + place + distance;
            assert!(matches!(error, JsonError::Syntax { at, .. } if at == expected), "{text}: {error}");
        }
        let open = format!("{{\"a\":\"{}{}", r"\n".repeat(20), "x".repeat(place));
        for end in ["", r"\", r"\u", r"\u00", r#"\""#] {
            let source = format!("{open}{end}");
            let error = scan_object(source.as_bytes()).unwrap_err();
            assert!(
                matches!(error, JsonError::Incomplete { at, .. } if at == source.len()),
                "{source}: {error}"
            );
        }
    }
}

#[test]
fn nesting_is_bounded_where_serde_json_bounds_it() {
    for (levels, fits) in [(MAX_DEPTH as usize, true), (MAX_DEPTH as usize + 1, false)] {
        let arrays = levels - 1;
        let source = format!("{{\"a\":{}{}}}", "[".repeat(arrays), "]".repeat(arrays));
        assert_eq!(scan_object(source.as_bytes()).is_ok(), fits, "{levels}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&source).is_ok(), fits, "{levels}");
    }
    let bomb = "[".repeat(1_000_000);
    assert_eq!(check(bomb.as_bytes()), Err(JsonError::TooDeep { at: MAX_DEPTH as usize }));
}

#[test]
fn members_are_bounded() {
    let object = |count: usize| format!("{{{}}}", vec!["\"\":0"; count].join(","));
    assert_eq!(scan_object(object(MAX_MEMBERS).as_bytes()).map(|members| members.len()), Ok(MAX_MEMBERS));
    assert!(matches!(scan_object(object(MAX_MEMBERS + 1).as_bytes()), Err(JsonError::TooManyMembers { .. })));
}

#[test]
fn what_is_no_object_is_said_so_only_if_it_is_json() {
    for source in ["[{}]", "1", "\"{}\"", "null", " true "] {
        assert_eq!(scan_object(source.as_bytes()), Err(JsonError::NotAnObject), "{source}");
    }
    assert!(matches!(scan_object(b"[1"), Err(JsonError::Incomplete { .. })));
}

#[test]
fn strings_are_unescaped() {
    assert_eq!(string_value(br#""plain""#), Some(Cow::Borrowed("plain")));
    let written = br#""\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00\ud83dx\ude00\ud83d\u0041""#;
    let expected = "\"\\/\u{8}\u{c}\n\r\té😀\u{fffd}x\u{fffd}\u{fffd}A";
    assert_eq!(string_value(written).as_deref(), Some(expected));
    for raw in ["1", "null", "", "\"", "{}", r#""\u+123""#] {
        assert_eq!(string_value(raw.as_bytes()), None, "{raw}");
    }
}

#[test]
fn a_string_is_compared_with_and_without_escapes() {
    assert!(string_is(br#""model""#, "model"));
    assert!(string_is(br#""mod\u0065l""#, "model"));
    assert!(!string_is(br#""models""#, "model"));
    assert!(!string_is(b"model", "model"));
}

#[test]
fn scalars_are_read() {
    assert_eq!(as_u64(b"18446744073709551615"), Some(u64::MAX));
    for raw in ["18446744073709551616", "-1", "1.0", "1e3", "\"1\"", "", "null"] {
        assert_eq!(as_u64(raw.as_bytes()), None, "{raw}");
    }
    assert_eq!((as_bool(b"true"), as_bool(b"false"), as_bool(b"null")), (Some(true), Some(false), None));
    assert!(is_null(b"null") && !is_null(b"0"));
    for (raw, empty) in [
        ("null", true),
        ("\"\"", true),
        ("[ \n]", true),
        ("{}", true),
        ("[0]", false),
        ("0", false),
        ("\" \"", false),
    ] {
        assert_eq!(is_empty(raw.as_bytes()), empty, "{raw}");
    }
}

#[test]
fn iterators_give_nothing_for_what_is_not_theirs() {
    for source in ["1", "\"x\"", "null", ""] {
        assert_eq!(members_of(source.as_bytes(), 0..source.len()).count(), 0, "{source}");
        assert_eq!(elements_of(source.as_bytes(), 0..source.len()).count(), 0, "{source}");
    }
    assert_eq!(members_of(b"[1]", 0..3).count(), 0);
    assert_eq!(elements_of(b"{\"a\":1}", 0..7).count(), 0);
    assert_eq!(elements_of(b"[1]", 5..9).count(), 0);
}

fn any_json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("false".to_owned()),
        "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,3})?([eE][+-]?[0-9]{1,3})?",
        any_string(),
    ];
    let space = "[ \n\r\t]{0,2}";
    leaf.prop_recursive(4, 32, 5, move |inner| {
        prop_oneof![
            prop::collection::vec((inner.clone(), space), 0..5).prop_map(|list| {
                let parts: Vec<String> =
                    list.into_iter().map(|(value, gap)| format!("{gap}{value}{gap}")).collect();
                format!("[{}]", parts.join(","))
            }),
            prop::collection::vec((any_string(), inner, space), 0..5).prop_map(object_text),
        ]
    })
}

fn any_string() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z]{0,40}".prop_map(|text| format!("\"{text}\"")),
        "(\\\\[\"\\\\/bfnrt]|\\\\u[0-9a-fA-F]{4}|[ !#-\\[\\]-~é€😀]){0,50}"
            .prop_map(|text| format!("\"{text}\"")),
    ]
}

fn object_text(list: Vec<(String, String, String)>) -> String {
    let parts: Vec<String> =
        list.into_iter().map(|(key, value, gap)| format!("{gap}{key}{gap}:{gap}{value}{gap}")).collect();
    format!("{{{}}}", parts.join(","))
}

/// Keys of lone surrogates are left out: `serde_json` takes them only where it ignores the object as a whole.
fn any_object() -> impl Strategy<Value = String> {
    let key = any::<String>().prop_map(|text| String::from_utf8(quoted(&text)).unwrap());
    prop::collection::vec((key, any_json(), "[ \n]{0,2}".prop_map(String::from)), 0..6).prop_map(object_text)
}

fn agrees_with_serde_json(bytes: &[u8]) -> Result<(), TestCaseError> {
    let theirs = serde_json::from_slice::<IgnoredAny>(bytes).is_ok() && std::str::from_utf8(bytes).is_ok();
    prop_assert_eq!(check(bytes).is_ok(), theirs, "{:?}", String::from_utf8_lossy(bytes));
    Ok(())
}

proptest! {
    #[test]
    fn exactly_what_serde_json_accepts_is_accepted(source in any_json()) {
        prop_assert!(check(source.as_bytes()).is_ok(), "{}", source);
        agrees_with_serde_json(source.as_bytes())?;
    }

    #[test]
    fn truncations_are_judged_as_serde_json_does_and_called_incomplete(source in any_object()) {
        for end in (0..source.len()).step_by(1 + source.len() / 40) {
            let part = &source.as_bytes()[..end];
            agrees_with_serde_json(part)?;
            let incomplete = matches!(scan_object(part), Err(JsonError::Incomplete { .. }));
            prop_assert!(incomplete, "{:?}", String::from_utf8_lossy(part));
        }
    }

    #[test]
    fn mutations_are_judged_as_serde_json_does(
        source in any_json(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = source.into_bytes();
        for (place, byte) in changes {
            let index = place.index(bytes.len());
            bytes[index] = byte;
        }
        agrees_with_serde_json(&bytes)?;
        let _ = scan_object(&bytes);
        let length = bytes.len();
        prop_assert!(members_of(&bytes, 0..length).count() <= length);
        prop_assert!(elements_of(&bytes, 0..length).count() <= length);
    }

    #[test]
    fn random_bytes_are_judged_as_serde_json_does(source in "[\\[\\]{}\",:0-9.eE+ntrufals\\\\ -]{0,24}") {
        agrees_with_serde_json(source.as_bytes())?;
    }

    #[test]
    fn ranges_are_those_of_raw_values(source in any_object()) {
        struct Raws<'a>(Vec<&'a RawValue>);
        impl<'de> serde::Deserialize<'de> for Raws<'de> {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl<'de> serde::de::Visitor<'de> for Visitor {
                    type Value = Raws<'de>;
                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("an object")
                    }
                    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Raws<'de>, A::Error> {
                        let mut raws = Vec::new();
                        while let Some((_, raw)) = map.next_entry::<IgnoredAny, &'de RawValue>()? {
                            raws.push(raw);
                        }
                        Ok(Raws(raws))
                    }
                }
                deserializer.deserialize_map(Visitor)
            }
        }
        let theirs = serde_json::from_str::<Raws<'_>>(&source).unwrap().0;
        let members = scan_object(source.as_bytes()).unwrap();
        let ours: Vec<&str> = members.iter().map(|member| source.get(member.value.clone()).unwrap()).collect();
        let lazily: Vec<&[u8]> = members_of(source.as_bytes(), 0..source.len()).map(|field| field.raw).collect();
        prop_assert_eq!(&ours, &theirs.iter().map(|raw| raw.get()).collect::<Vec<_>>());
        prop_assert_eq!(lazily, ours.iter().map(|raw| raw.as_bytes()).collect::<Vec<_>>());
        for (member, field) in members.iter().zip(members_of(source.as_bytes(), 0..source.len())) {
            prop_assert_eq!(member.key.as_str(), field.key());
            prop_assert_eq!(&member.value, &field.range);
            prop_assert_eq!(&member.key_range, &field.key_range);
        }
    }

    #[test]
    fn elements_are_those_of_raw_values(list in prop::collection::vec(any_json(), 0..6)) {
        let source = format!("[ {} ]", list.join(" , "));
        let ours: Vec<String> = elements_of(source.as_bytes(), 0..source.len())
            .map(|element| String::from_utf8(element.raw.to_vec()).unwrap())
            .collect();
        prop_assert_eq!(ours, list);
    }

    #[test]
    fn strings_are_unescaped_as_serde_json_does(raw in any_string()) {
        if let Ok(theirs) = serde_json::from_str::<String>(&raw) {
            prop_assert_eq!(string_value(raw.as_bytes()).unwrap().into_owned(), theirs);
        } else {
            prop_assert!(string_value(raw.as_bytes()).unwrap().contains('\u{fffd}'), "{}", raw);
        }
    }

    #[test]
    fn quoting_and_reading_is_the_identity(text in any::<String>()) {
        let raw = quoted(&text);
        prop_assert_eq!(serde_json::from_slice::<String>(&raw).unwrap(), text.as_str());
        prop_assert_eq!(string_value(&raw).unwrap(), text.as_str());
    }
}
