//! The rule: which text of a request decides, and by what.

use std::time::{Duration, Instant};

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::dialect::{CHAT_COMPLETIONS, COMPLETIONS, EMBEDDINGS, Endpoint, FIM_COMPLETIONS, read};

const RUST: &str = "pub fn first<T: Clone>(values: &[T]) -> Option<T> {\n    let mut sorted = values.to_vec();\n    \
                    match sorted.pop() {\n        Some(value) => Some(value),\n        None => None,\n    }\n}\n";
const PYTHON: &str = "def first(values):\n    if not values:\n        return None\n    for index, value in \
                      enumerate(values):\n        self.seen[index] = value\n    return values[0]\n";

fn request(endpoint: &Endpoint, body: Value) -> Request {
    read(endpoint, Bytes::from(body.to_string())).unwrap()
}

fn chat(messages: Value) -> Request {
    request(&CHAT_COMPLETIONS, json!({ "model": "m", "messages": messages }))
}

fn user(content: &str) -> Value {
    json!({ "role": "user", "content": content })
}

fn found(request: &Request) -> Option<(&'static str, Evidence)> {
    of(request).map(|found| (found.language.name(), found.evidence))
}

#[test]
fn the_users_last_message_decides_before_all_others() {
    let messages = json!([
        { "role": "system", "content": "Answer with ```perl blocks." },
        user("```python\nx\n```"),
        { "role": "assistant", "content": "```go\nx\n```" },
        user("```ruby\nx\n```"),
        { "role": "assistant", "content": "```java\nx\n```" },
    ]);
    assert_eq!(found(&chat(messages)), Some(("ruby", Evidence::Fence)));
}

#[test]
fn where_that_says_nothing_the_latest_other_message_decides_and_never_the_systems() {
    let system = json!({ "role": "system", "content": "```perl\nx\n```" });
    let go_on = user("Thanks, and now?");
    let messages = json!([system, user("```python\nx\n```"), { "role": "assistant", "content": "```go\nx\n```" }, go_on]);
    assert_eq!(found(&chat(messages)), Some(("go", Evidence::Fence)));
    assert_eq!(found(&chat(json!([system, go_on]))), None);
    let developer = json!({ "role": "developer", "content": "```perl\nx\n```" });
    assert_eq!(found(&chat(json!([developer, go_on]))), None);
}

#[test]
fn calls_of_tools_and_their_results_tell_what_an_agent_works_on() {
    let call = json!({ "role": "assistant", "content": null, "tool_calls": [{ "id": "1", "type": "function",
        "function": { "name": "read_file", "arguments": "{\"path\": \"lib/parse.ex\"}" } }] });
    let result = json!({ "role": "tool", "tool_call_id": "1", "content": "ok" });
    let messages = json!([user("Fix the parser."), call, result]);
    assert_eq!(found(&chat(messages)), Some(("elixir", Evidence::Path)));
    let result = json!({ "role": "tool", "tool_call_id": "1", "content": RUST });
    assert_eq!(found(&chat(json!([user("Fix it."), result]))), Some(("rust", Evidence::Looks)));
}

#[test]
fn stronger_evidence_beats_weaker_of_the_same_message() {
    let text = format!("File: a.py\n\n{RUST}\n```go\nx\n```");
    assert_eq!(found(&chat(json!([user(&text)]))), Some(("go", Evidence::Fence)));
    let text = format!("Language: kotlin\nFile: a.py\n\n{RUST}");
    assert_eq!(found(&chat(json!([user(&text)]))), Some(("kotlin", Evidence::Field)));
    let text = format!("File: a.py\n\n{RUST}");
    assert_eq!(found(&chat(json!([user(&text)]))), Some(("python", Evidence::Path)));
    let text = format!("Translate it as it is done in old.py please.\n\n{RUST}");
    assert_eq!(found(&chat(json!([user(&text)]))), Some(("rust", Evidence::Looks)));
    assert_eq!(
        found(&chat(json!([user("Make load.py faster, it is too slow.")]))),
        Some(("python", Evidence::Mention))
    );
}

#[test]
fn prose_is_no_language() {
    for text in [
        "Write a poem about the sea, in four lines, and make it rhyme.",
        "What is the difference between a process and a thread?",
        "Fasse unsere Unterhaltung zusammen und nenne die offenen Fragen.",
        "这个函数为什么不返回任何东西？请解释一下，谢谢。",
        "Почему эта функция ничего не возвращает?",
        "hi",
        "",
    ] {
        assert_eq!(found(&chat(json!([user(text)]))), None, "{text}");
    }
}

#[test]
fn what_may_well_be_prose_is_no_finding_unless_it_is_code_anyway() {
    let verdict =
        |probability, prose| Verdict { language: Language::named("ruby"), probability, prose, kin: 0.0 };
    let sure_of = |probability, prose, is_code| sure(verdict(probability, prose), is_code, 400).is_some();
    assert!(sure_of(0.7, 0.2, false) && sure_of(0.5, 0.1, false));
    assert!(!sure_of(0.7, 0.25, false), "one in four is too much");
    assert!(sure_of(0.7, 0.25, true), "of a block or a prompt that is no question");
    assert!(!sure_of(0.49, 0.0, false) && !sure_of(0.49, 0.0, true));
    assert_eq!(sure(verdict(0.69, 0.0), true, 63), None, "of a few words it must be surer");
    assert_eq!(sure(Verdict { language: None, probability: 0.9, prose: 0.9, kin: 0.0 }, true, 400), None);
    let between = Verdict { kin: 0.3, ..verdict(0.4, 0.0) };
    assert!(
        sure(between, false, 400).is_some(),
        "it is one of two of which one is nearly a part of the other"
    );
}

#[test]
fn a_path_in_the_users_sentence_goes_before_what_the_sentence_looks_like() {
    for (text, language) in [
        ("fix src/app.py please", "python"),
        ("look at src/app.py please", "python"),
        ("fix src/main.rs please", "rust"),
        ("open src/lib.rs and fix", "rust"),
        ("edit `src/app.py`", "python"),
        ("src/foo/bar.ts has a bug", "typescript"),
        ("fix app.py", "python"),
        ("Schau dir bitte lib/parse.ex an, da stimmt was nicht", "elixir"),
    ] {
        assert_eq!(found(&chat(json!([user(text)]))), Some((language, Evidence::Mention)), "{text}");
    }
    let asked = format!("Port this to src/load.go please:\n\n{RUST}");
    assert_eq!(found(&chat(json!([user(&asked)]))), Some(("go", Evidence::Mention)), "before its looks");
    let behind = format!("{RUST}\nWhy does src/lib.rs do that?");
    assert_eq!(found(&chat(json!([user(&behind)]))), Some(("rust", Evidence::Mention)));
    let within = format!("{RUST}\nsee src/load.go for more\n\n{RUST}");
    assert_eq!(
        found(&chat(json!([user(&within)]))),
        Some(("rust", Evidence::Looks)),
        "but not from amid of code"
    );
}

#[test]
fn sentences_that_name_files_are_not_judged_by_their_looks() {
    for text in
        ["make src/tools build again", "run the tests in tests/unit and fix", "open `foo_bar` and mend it"]
    {
        assert_eq!(found(&chat(json!([user(text)]))), None, "{text}");
    }
}

#[test]
fn parts_and_files_of_a_message_are_read_and_images_passed_over() {
    let image = json!({ "type": "image_url", "image_url": { "url": format!("data:image/png;base64,{}", "A".repeat(300_000)) } });
    let text = json!({ "type": "text", "text": "```rust\nx\n```" });
    assert_eq!(
        found(&chat(json!([{ "role": "user", "content": [text, image] }]))),
        Some(("rust", Evidence::Fence))
    );
    let file = json!({ "type": "file", "file": { "filename": "a.scala", "file_data": "AAAA" } });
    let parts = json!([{ "role": "user", "content": [{ "type": "text", "text": "Review." }, file] }]);
    assert_eq!(found(&chat(parts)), Some(("scala", Evidence::Path)));
}

#[test]
fn completions_tell_by_their_headers_and_by_what_is_about_the_cursor() {
    let fim = |prompt: &str, suffix: &str| {
        request(&FIM_COMPLETIONS, json!({ "model": "m", "prompt": prompt, "suffix": suffix }))
    };
    assert_eq!(found(&fim("+++++ a.py\nx\n+++++ b.ts\nlet x", "")), Some(("typescript", Evidence::Path)));
    assert_eq!(found(&fim("#!/usr/bin/perl\nx", "")), Some(("perl", Evidence::Shebang)));
    let (before, after) = PYTHON.split_at(60);
    assert_eq!(found(&fim(before, after)), Some(("python", Evidence::Cursor)));
    assert_eq!(found(&fim("", PYTHON)), Some(("python", Evidence::Cursor)), "what comes after it tells, too");
    let plain = request(&COMPLETIONS, json!({ "model": "m", "prompt": RUST }));
    assert_eq!(found(&plain), Some(("rust", Evidence::Cursor)));
    assert_eq!(found(&request(&COMPLETIONS, json!({ "model": "m", "prompt": [1, 2, 3] }))), None);
}

#[test]
fn what_is_embedded_tells_by_its_looks() {
    let embedding = |input: Value| request(&EMBEDDINGS, json!({ "model": "m", "input": input }));
    assert_eq!(found(&embedding(json!(RUST))), Some(("rust", Evidence::Looks)));
    assert_eq!(found(&embedding(json!([PYTHON, "x"]))), Some(("python", Evidence::Looks)));
    assert_eq!(found(&embedding(json!([[1, 2], [3]]))), None);
}

#[test]
fn a_header_file_is_the_likelier_of_its_two_languages() {
    let cpp = "File: list.h\n\nnamespace list {\ntemplate <typename T>\nclass List : public Base {\n public:\n  explicit \
               List(std::string name);\n  virtual ~List() = default;\n private:\n  std::vector<T> items_;\n};\n}";
    let c = "File: list.h\n\n#ifndef LIST_H\n#define LIST_H\n#include <stdio.h>\nstruct list {\n\tstruct list *next;\n\t\
             char *name;\n};\nextern int list_add(struct list *, const char *);\n#endif\n";
    assert_eq!(found(&chat(json!([user(cpp)]))), Some(("cpp", Evidence::Path)));
    assert_eq!(found(&chat(json!([user(c)]))), Some(("c", Evidence::Path)));
    let fence = format!("```src/list.h#L1-20\n{cpp}\n```");
    assert_eq!(found(&chat(json!([user(&fence)]))), Some(("cpp", Evidence::Fence)));
}

#[test]
fn a_header_that_both_could_have_is_c_or_what_it_is_named_with() {
    let licence = "/* Copyright (C) 2001 Free Software Foundation, Inc.\n   This file is free software: you can\n   use it \
                   as you like. */\n#ifndef LIST_H\n#define LIST_H\n#define LIST_SIZE 16\n#define LIST_LAST 0x0F\n";
    let in_file = |text: &str| of(&chat(json!([user(text)]))).map(|found| found.language.name());
    assert_eq!(in_file(&format!("File: src/list.h\n{licence}")), Some("c"));
    assert_eq!(in_file(&format!("File: src/list.cc\nx\n\nFile: src/list.h\n{licence}")), Some("cpp"));
    assert_eq!(
        in_file(&format!("Why does main.cpp not see this?\nFile: src/list.h\n{licence}")),
        Some("cpp")
    );
    assert_eq!(in_file(&format!("File: src/list.cc\nx\n\nFile: src/list.c\n{licence}")), Some("c"));
    for only_cpp in [
        "bool empty() const;",
        "using Size = unsigned;",
        "#include <vector>",
        "void add(const Item &item);",
        "Map<Key, Item> items;",
        "class List;",
        "public:",
    ] {
        assert_eq!(in_file(&format!("File: src/list.h\n{licence}{only_cpp}\n")), Some("cpp"), "{only_cpp}");
    }
}

#[test]
fn other_endings_that_are_shared_tell_by_what_is_in_the_file() {
    let in_file = |text: &str| of(&chat(json!([user(text)]))).map(|found| found.language.name());
    let objective =
        "#import <Foundation/Foundation.h>\n\n@interface List : NSObject\n@property int size;\n@end\n";
    assert_eq!(in_file(&format!("File: List.h\n{objective}")), Some("objective-c"));
    assert_eq!(in_file(&format!("File: List.m\n{objective}")), Some("objective-c"));
    let matlab =
        "% Sums up.\nfunction s = total(v)\n  s = 0;\n  for i = 1:numel(v)\n    s = s + v(i);\n  end\nend\n";
    assert_eq!(in_file(&format!("File: total.m\n{matlab}")), Some("matlab"));
    assert_eq!(in_file("File: total.m\nint x = 1;\nint y = x;\n"), Some("objective-c"));
    let qt = "<?xml version=\"1.0\"?>\n<!DOCTYPE TS>\n<TS version=\"2.1\">\n<context/>\n</TS>\n";
    assert_eq!(in_file(&format!("File: app_de.ts\n{qt}")), Some("xml"));
    assert_eq!(in_file("File: app.ts\nconst x = 1;\nexport default x;\n"), Some("typescript"));
}

#[test]
fn what_only_one_of_two_alike_has_tells_them_apart() {
    let language = |name| Language::named(name).unwrap();
    let apart = |name, text: &str, lead: f32| {
        shared::told_apart(language(name), text.as_bytes(), &|_, _| lead).name()
    };
    for typed in [
        "function size(of: List) {",
        "size(list): Size {",
        "const size: Size = 1;",
        "  readonly size = 1;",
        "  size?: Size;",
        "interface List {",
        "const sizes = new Map<Key, Size>();",
        "export type Size = 1;",
        "x = y as unknown;",
    ] {
        assert_eq!(apart("javascript", typed, 0.0), "typescript", "{typed}");
    }
    for plain in [
        "const x = { size: 1, of: list };",
        "case size(x): run();",
        "a ? size(x) : y;",
        "log('size(x): none');",
        "/** @type {Map<Key, Size>} */",
        "default: return 1;",
        "if (a < b && c > d) {",
        "type = 1;",
        "<div>size</div>",
    ] {
        assert_eq!(apart("javascript", plain, 0.0), "javascript", "{plain}");
    }
    assert_eq!(apart("typescript", "const x = 1;", 0.0), "typescript", "which is left to its looks");
    assert_eq!(apart("c", "std::string name;", -9.0), "cpp");
    assert_eq!(apart("c", "/* std::string name; */\nint size;", -9.0), "c", "not in a comment");
    assert_eq!(apart("c", " * class List;\n */\nint size; // std::string", -9.0), "c", "nor in half of one");
    assert_eq!(apart("cpp", "typedef struct list { int size; } list;", 9.0), "c");
    assert_eq!(apart("c", "int size = 1;", 1.5), "cpp");
    assert_eq!(apart("cpp", "int size = 1;", 0.5), "c");
    assert_eq!(apart("python", "std::string", 9.0), "python");
}

#[test]
fn what_is_found_says_what_it_rests_on() {
    let found = of(&chat(json!([user(&format!("```rust {}\nx\n```", "x".repeat(300)))]))).unwrap();
    assert!(found.said.starts_with("rust xxx") && found.said.len() == SAID, "{}", found.said);
    assert!((found.probability - 1.0).abs() < f32::EPSILON);
    let looks = of(&chat(json!([user(RUST)]))).unwrap();
    assert!(looks.said.is_empty() && looks.probability > SURE && looks.probability <= 1.0, "{looks:?}");
}

#[test]
fn the_language_of_the_last_question_is_told_and_not_that_of_an_older_one() {
    let messages = json!([
        user("Why does this function return nothing when the list is empty?"),
        { "role": "assistant", "content": "Because it has no elements, of course." },
        user(&format!("```rust\n{RUST}\n```\nUnd warum ist diese Funktion so langsam, wenn die Liste lang ist?")),
    ]);
    assert_eq!(natural(&chat(messages)), Some("de"));
    assert_eq!(natural(&chat(json!([user("ok")]))), None);
    assert_eq!(
        natural(&request(&COMPLETIONS, json!({ "model": "m", "prompt": "Why does it do nothing at all?" }))),
        None
    );
}

#[test]
fn keys_in_any_order_escaped_and_spaced_are_read() {
    let body = "{ \"model\" : \"m\" , \"messages\" : [ { \"content\" : \"\\u0060``rust\\nx\\n```\" , \
                \"x\" : { \"role\" : [ \"}\\\"\" ] } , \"r\\u006fle\" : \"user\" } ] }";
    let request = read(&CHAT_COMPLETIONS, Bytes::from(body)).unwrap();
    assert_eq!(found(&request), Some(("rust", Evidence::Fence)));
}

#[test]
fn of_a_message_that_is_too_long_the_end_is_read() {
    let long = format!("{}\n```rust\nx\n```\n", "x".repeat(3_000_000));
    assert_eq!(found(&chat(json!([user(&long)]))), Some(("rust", Evidence::Fence)));
    let quotes = format!("{}\n```rust\nx\n```\n", "\"".repeat(100_000));
    assert_eq!(found(&chat(json!([user(&quotes)]))), Some(("rust", Evidence::Fence)));
}

#[test]
fn the_model_is_read_back_as_it_was_written_and_nothing_else_is() {
    let model = Model::built_in().expect("model.bin is a model");
    assert!(model.classes.iter().all(|class| class == PROSE || Language::named(class).is_some()));
    let file = model.write();
    assert_eq!(Model::read(&file).as_ref(), Some(model));
    assert!(file.len() < 500_000, "{} bytes", file.len());
    assert_eq!(Model::read(file.get(..file.len() - 1).unwrap()), None);
    assert_eq!(Model::read(&[file.as_slice(), b"x"].concat()), None);
    assert_eq!(Model::read(b""), None);
}

/// Far above what it takes even without optimisation and on a busy machine, far below what a walk of a whole body takes.
const LONGEST: Duration = Duration::from_millis(500);

#[test]
fn the_length_of_a_body_does_not_matter() {
    let turns = vec![
        json!({ "role": "assistant", "content": "That is so because it was so before. ".repeat(150) });
        4_000
    ];
    let request = chat(Value::Array([vec![user("go on")], turns].concat()));
    assert!(request.body.len() > 20_000_000);
    let start = Instant::now();
    assert_eq!(found(&request), None);
    assert!(start.elapsed() < LONGEST, "{:?}", start.elapsed());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn no_text_makes_it_panic_or_run_on(bytes in prop::collection::vec(any::<u8>(), 0..20_000), piece in ".{0,12}") {
        let text = String::from_utf8_lossy(&bytes);
        for content in [text.to_string(), piece.repeat(2_000), format!("```{piece}\n{text}")] {
            let chat = chat(json!([user(&content), { "role": "tool", "content": [{ "type": "text", "text": piece }] }]));
            let fim = request(&FIM_COMPLETIONS, json!({ "model": "m", "prompt": content, "suffix": piece }));
            for request in [chat, fim] {
                let start = Instant::now();
                if let Some(found) = of(&request) {
                    prop_assert!(found.said.len() <= SAID * 3 && found.probability <= 1.0);
                }
                natural(&request);
                prop_assert!(start.elapsed() < LONGEST);
            }
        }
        clues::read(&bytes);
        each_feature(&bytes, |_| {});
    }

    #[test]
    fn no_shape_of_messages_makes_it_panic(value in json_value()) {
        for messages in [json!([value]), json!([{ "role": "user", "content": value }])] {
            let request = chat(messages);
            of(&request);
            natural(&request);
        }
    }
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
            prop::collection::vec(("(role|content|text|type|tool_calls|.{0,3})", inner), 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}
