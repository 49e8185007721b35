//! What people write is told by what they write beside their code, however short.

use std::collections::BTreeMap;

use super::*;

#[test]
fn the_language_of_a_question_is_found_beside_code_and_not_taken_from_it() {
    let english = "Why does this function return nothing when the list is empty?";
    let german = "Warum gibt diese Funktion nichts zurück, wenn die Liste leer ist?";
    let code = "```python\ndef first(values):\n    return values[0] if values else None\n```\n";
    assert_eq!(of(english.as_bytes()), Some("en"));
    assert_eq!(of(format!("{code}{german}").as_bytes()), Some("de"));
    assert_eq!(of("この関数は空のリストに対して何を返しますか".as_bytes()), Some("ja"));
    assert_eq!(of("Почему эта функция ничего не возвращает?".as_bytes()), Some("ru"));
    assert_eq!(of(code.as_bytes()), None);
}

#[test]
fn what_a_fence_quotes_is_not_the_users_language_and_what_comes_behind_it_is() {
    let german = "Die Verbindung wurde unerwartet geschlossen, bitte versuchen Sie es später noch einmal";
    let english = "Where does this message come from, and what can I do about it?";
    for mark in ["```", "~~~"] {
        let quoted = format!("{mark}text\n{german}\n{german}\n{mark}\n");
        assert_eq!(of(format!("{quoted}{english}").as_bytes()), Some("en"), "{mark}");
        assert_eq!(of(quoted.as_bytes()), None, "{mark}");
    }
    assert_eq!(
        of(format!("{german}\n{german}\n{english}").as_bytes()),
        Some("de"),
        "without one it would be that of most words"
    );
}

#[test]
fn too_little_prose_says_nothing() {
    for text in ["", "ok", "fix this", "x = y + z", "\u{FFFD}"] {
        assert_eq!(of(text.as_bytes()), None, "{text}");
    }
}

#[test]
fn short_prompts_are_told_alone_and_beside_code() {
    // Percent of them that must be told, and that may be told wrongly: 96.8 and 0 were measured.
    const LEAST_RIGHT: usize = 96;
    const MOST_WRONG: usize = 1;
    let fence = "```python\ndef first(values):\n    return values[0] if values else None\n```";
    let bare = "for (const value of values) {\n    total += value.size;\n}";
    let prompts: Vec<(&str, &str)> =
        include_str!("prompts.tsv").lines().filter_map(|line| line.split_once('\t')).collect();
    let mut languages = BTreeMap::new();
    for form in ["{}", "{}\n{fence}", "{fence}\n{}", "{}\n\n{bare}", "src/app.py: {}"] {
        let (mut right, mut wrong) = (0, Vec::new());
        for (language, prompt) in &prompts {
            *languages.entry(language).or_insert(0) += 1;
            let text = form.replace("{fence}", fence).replace("{bare}", bare).replace("{}", prompt);
            match of(text.as_bytes()) {
                Some(told) if told == *language => right += 1,
                told => wrong.push((language, told, prompt)),
            }
        }
        let mistaken = wrong.iter().filter(|(_, told, _)| told.is_some()).count();
        assert!(right * 100 >= prompts.len() * LEAST_RIGHT, "{form:?}: {wrong:?}");
        assert!(mistaken * 100 <= prompts.len() * MOST_WRONG, "{form:?}: {wrong:?}");
    }
    assert!(languages.len() >= 16, "{languages:?}");
}

#[test]
fn paths_and_code_in_a_sentence_are_not_what_its_language_is_told_by() {
    assert_eq!(of("Warum gibt `first(values)[0]` in src/app.py nichts zurück?".as_bytes()), Some("de"));
    assert!(is_prose(b"src/foo/bar.ts has a bug") && is_prose(b"edit `src/app.py`"));
    for code in
        ["cp src/a.py lib/b.py", "import \"src/foo.go\"", "let a = require('./src/foo.js')", "src/app.py"]
    {
        assert!(!is_prose(code.as_bytes()), "{code}");
    }
}
