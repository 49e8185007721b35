//! What tells apart languages of which one is nearly a part of the other, C and C++, JavaScript and TypeScript; and endings
//! of file names that languages share, and which of them a file is in. What only one of them can have decides;
//! without any such sign a header is in the language of the files it is named with, or else C, as such headers have been
//! since there is no other, unless it looks very much like C++.

use memchr::memmem;

use super::names::Language;

/// So much what has no sign of either must look more like C++ than like C: half of any header is comments, licences,
/// macros and numbers, which are in both alike. Chosen on packages of the training side that a model had not seen.
const LOOKS_LIKE_CPP: f32 = 1.0;

/// What only C++ has, wherever it stands in code.
const CPP: [&[u8]; 19] = [
    b"::",
    b"static_cast<",
    b"reinterpret_cast<",
    b"nullptr",
    b" noexcept",
    b" override;",
    b" override {",
    b"= default;",
    b"= delete;",
    b"typename ",
    b" operator=",
    b" operator(",
    b" operator[",
    b"decltype(",
    b") const;",
    b") const {",
    b"= new ",
    b"try {",
    b"catch (",
];
/// What only C++ begins a line with.
const CPP_LINES: [&[u8]; 15] = [
    b"template <t",
    b"template <c",
    b"template <>",
    b"template<",
    b"namespace ",
    b"using ",
    b"public:",
    b"private:",
    b"protected:",
    b"virtual ",
    b"explicit ",
    b"friend ",
    b"constexpr ",
    b"enum class ",
    b"mutable ",
];
/// What is C, or meant for C as well as for C++.
const C: [&[u8]; 9] = [
    b"typedef struct",
    b"typedef enum",
    b"typedef union",
    b"(void);",
    b"__cplusplus",
    b"_Bool ",
    b" restrict ",
    b"#include <stdio.h>",
    b"#include <stdbool.h>",
];

/// By how much the content looks more like one language than like another.
pub(super) type Lead<'a> = &'a dyn Fn(Language, Language) -> f32;

/// Whether a path's ending is shared.
pub(super) fn has_shared_ending(path: &[u8]) -> bool {
    [&b"h"[..], b"m", b"ts"].iter().any(|ending| self::ending(path).eq_ignore_ascii_case(ending))
}

/// The language of a file with such an ending, by its content and by the one that is named beside it. `None` when that
/// says nothing, and for other endings.
pub(super) fn of(path: &[u8], content: &[u8], beside: Option<Language>, lead: Lead<'_>) -> Option<Language> {
    match ending(path) {
        b"h" | b"H" => of_header(content, beside, lead),
        b"m" | b"M" => is_matlab(content).then(|| Language::named("matlab")).flatten(),
        // Translations of Qt.
        b"ts" | b"TS" => memmem::find(content, b"<!DOCTYPE TS").and_then(|_| Language::named("xml")),
        _ => None,
    }
}

/// The other of two languages of which one is nearly a part of the other.
pub(super) fn other_of(language: Language) -> Option<Language> {
    let other = match language.name() {
        "c" => "cpp",
        "cpp" => "c",
        "javascript" => "typescript",
        "typescript" => "javascript",
        _ => return None,
    };
    Language::named(other)
}

/// What a text is that looks like this language: what has something that C or JavaScript has not is in the other.
pub(super) fn told_apart(language: Language, content: &[u8], lead: Lead<'_>) -> Language {
    let name = match language.name() {
        "c" | "cpp" if is_cpp(content, None, lead) => "cpp",
        "c" | "cpp" => "c",
        "javascript" if has_types(&without_comments(content)) => "typescript",
        _ => return language,
    };
    Language::named(name).unwrap_or(language)
}

fn of_header(content: &[u8], beside: Option<Language>, lead: Lead<'_>) -> Option<Language> {
    let name = if content.split(|byte| *byte == b'\n').any(is_objective) {
        "objective-c"
    } else if is_cpp(content, beside, lead) {
        "cpp"
    } else {
        "c"
    };
    Language::named(name)
}

/// Whether what is C or C++ is C++.
fn is_cpp(content: &[u8], beside: Option<Language>, lead: Lead<'_>) -> bool {
    let code = without_comments(content);
    let (for_c, for_cpp) = (signs_of_c(&code), signs_of_cpp(&code));
    if for_cpp > for_c {
        return true;
    }
    // A header that C could have, too, is still part of a program in C++.
    if let Some(beside) = beside {
        return beside.name() == "cpp";
    }
    let both = Language::named("cpp").zip(Language::named("c"));
    for_c == for_cpp && both.is_some_and(|(cpp, c)| lead(cpp, c) > LOOKS_LIKE_CPP)
}

/// Whether a line can be of nothing but Objective-C.
fn is_objective(line: &[u8]) -> bool {
    [
        &b"@interface "[..],
        b"@property ",
        b"@property(",
        b"@protocol ",
        b"@end",
        b"@implementation ",
        b"#import ",
    ]
    .iter()
    .any(|sign| line.starts_with(sign))
}

/// Whether it has lines that MATLAB has and Objective-C has not, and none of its own.
fn is_matlab(content: &[u8]) -> bool {
    let mut lines = content.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let own = |line: &[u8]| {
        line.starts_with(b"%") || line.starts_with(b"function ") || line == b"end" || line.ends_with(b"...")
    };
    let other = |line: &[u8]| is_objective(line) || line.starts_with(b"#include ") || line.ends_with(b"{");
    let mut found = false;
    lines.all(|line| {
        found |= own(line);
        !other(line)
    }) && found
}

/// How many kinds of signs of C there are.
fn signs_of_c(code: &[u8]) -> usize {
    let all = C.iter().filter(|sign| memmem::find(code, sign).is_some()).count();
    // `struct point *` is a type only where that is no class.
    let pointer = memmem::find_iter(code, b"struct ").any(|at| {
        let behind = code.get(at + 7..).unwrap_or_default();
        let name = behind.iter().take_while(|byte| is_identifier(**byte)).count();
        name > 0 && behind.get(name..).unwrap_or_default().trim_ascii_start().starts_with(b"*")
    });
    all + usize::from(pointer)
}

/// How many kinds of signs of C++ there are.
fn signs_of_cpp(code: &[u8]) -> usize {
    let mut lines = [false; CPP_LINES.len()];
    let (mut class, mut header) = (false, false);
    for line in code.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii) {
        for (seen, sign) in lines.iter_mut().zip(CPP_LINES) {
            // A line of a licence may begin with such a word, too.
            let word = sign.ends_with(b" ")
                && !line.ends_with(b";")
                && !line.ends_with(b"{")
                && !line.ends_with(b")");
            *seen |= line.starts_with(sign) && !word;
        }
        class |= line.starts_with(b"class ")
            && (line.ends_with(b"{")
                || line.ends_with(b";")
                || !line.iter().skip(6).any(|byte| *byte == b' '));
        // `#include <vector>`: the headers of C's own library have endings.
        header |= line
            .strip_prefix(b"#include <")
            .is_some_and(|name| !name.contains(&b'.') && !name.contains(&b'/'));
        let word = line.split(u8::is_ascii_whitespace).nth(1).unwrap_or_default();
        header |= line.starts_with(b"#")
            && [&b"_HPP"[..], b"_HPP_", b".hpp\"", b".hpp>"].iter().any(|end| word.ends_with(end));
    }
    let anywhere = CPP.iter().filter(|sign| memmem::find(code, sign).is_some()).count();
    let lines = lines.iter().filter(|seen| **seen).count();
    let others = [class, header, has_reference(code), has_arguments(code)];
    anywhere + lines + others.iter().filter(|seen| **seen).count()
}

/// Whether something is taken by reference: `const Word& x`, `Word& x,`, `const Word &x`.
fn has_reference(code: &[u8]) -> bool {
    memchr::memchr_iter(b'&', code).any(|at| {
        let before = code.get(..at).unwrap_or_default();
        let mut behind = code.get(at + 1..).unwrap_or_default().iter().copied();
        let next = behind.next().unwrap_or_default();
        let far = behind.next().unwrap_or_default();
        let last = before.last().copied().unwrap_or_default();
        let near = is_identifier(last) || last == b'>';
        let constant = || {
            let before = before.trim_ascii_end();
            let name = before.iter().rev().take_while(|byte| is_identifier(**byte)).count();
            name > 0 && before.get(..before.len() - name).is_some_and(|before| before.ends_with(b"const "))
        };
        near && (next == b' ' && is_identifier(far) || matches!(next, b')' | b','))
            || last == b' ' && next != b'&' && next != b' ' && constant()
    })
}

/// Whether a template is given its arguments where something is declared: `vector<int> x`, `Map<Key, Value>& x`.
fn has_arguments(code: &[u8]) -> bool {
    memchr::memchr_iter(b'<', code).any(|at| {
        let name =
            at.checked_sub(1).and_then(|before| code.get(before)).is_some_and(|byte| is_identifier(*byte));
        let behind = code.get(at + 1..).unwrap_or_default();
        let inside = |byte: &u8| is_identifier(*byte) || b", *:<".contains(byte);
        let length = behind.iter().take(64).take_while(|byte| inside(byte)).count();
        let mut end =
            behind.get(length..).unwrap_or_default().iter().copied().skip_while(|byte| *byte == b'>');
        let closed = behind.get(length) == Some(&b'>') && length > 0;
        let next = end.next().unwrap_or_default();
        let far = end.next().unwrap_or_default();
        name && closed
            && (next == b'&' || next == b' ' && (is_identifier(far) && !far.is_ascii_digit() || far == b'&'))
    })
}

/// What only TypeScript begins a line with, after `export` and `default`.
const TS_LINES: [&[u8]; 13] = [
    b"interface ",
    b"type ",
    b"enum ",
    b"const enum ",
    b"declare ",
    b"namespace ",
    b"abstract ",
    b"import type ",
    b"public ",
    b"private ",
    b"protected ",
    b"readonly ",
    b"| ",
];
/// What only TypeScript has, wherever it stands in code.
const TS: [&[u8]; 10] = [
    b" as const",
    b" as any",
    b" as unknown",
    b" implements ",
    b" satisfies ",
    b"keyof ",
    b": string",
    b": number",
    b": boolean",
    b": void",
];

/// Whether there is anything of TypeScript's that JavaScript has not.
fn has_types(code: &[u8]) -> bool {
    TS.iter().any(|sign| memmem::find(code, sign).is_some())
        || code.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).any(is_typed)
}

fn is_typed(line: &[u8]) -> bool {
    let line = line.strip_prefix(b"export ").unwrap_or(line);
    let line = line.strip_prefix(b"default ").unwrap_or(line);
    let begin = TS_LINES.iter().any(|sign| {
        line.strip_prefix(*sign).is_some_and(|rest| rest.first().is_some_and(|byte| !b"=.:(".contains(byte)))
    });
    begin || has_annotation(line) || has_member(line) || has_parameters(line)
}

/// `): Type`, `(name: Type`, `const name: Type`.
fn has_annotation(line: &[u8]) -> bool {
    memchr::memchr_iter(b':', line).any(|at| {
        let (before, behind) = line.split_at(at);
        let typed = behind.get(1) == Some(&b' ')
            && behind.get(2).is_some_and(|byte| is_identifier(*byte) || b"{[(".contains(byte));
        // Not in a string.
        if !typed || before.iter().filter(|byte| b"\"'`".contains(byte)).count() % 2 == 1 {
            return false;
        }
        if before.ends_with(b")") {
            return !before.starts_with(b"case ") && !before.contains(&b'?');
        }
        let before = before.strip_suffix(b"?").unwrap_or(before);
        let name = before.iter().rev().take_while(|byte| is_identifier(**byte) || **byte == b'$').count();
        let lead = before.get(..before.len() - name).unwrap_or_default();
        name > 0 && [&b"("[..], b"const ", b"let ", b"..."].iter().any(|start| lead.ends_with(start))
    })
}

/// `name?: Type;`, as a class or an interface has it.
fn has_member(line: &[u8]) -> bool {
    let name = line.iter().take_while(|byte| is_identifier(**byte)).count();
    let behind = line.get(name..).unwrap_or_default();
    let behind = behind.strip_prefix(b"?").or_else(|| behind.strip_prefix(b"!")).unwrap_or(behind);
    name > 0 && line.get(..name) != Some(b"default") && behind.starts_with(b": ") && line.ends_with(b";")
}

/// `Map<Key, Value>`, `useState<string>(`.
fn has_parameters(line: &[u8]) -> bool {
    memchr::memchr_iter(b'<', line).any(|at| {
        let name =
            at.checked_sub(1).and_then(|before| line.get(before)).is_some_and(|byte| is_identifier(*byte));
        let behind = line.get(at + 1..).unwrap_or_default();
        let length =
            behind.iter().take_while(|byte| is_identifier(**byte) || b", |[]<".contains(byte)).count();
        name && length > 0 && behind.get(length) == Some(&b'>') && behind.get(length + 1) != Some(&b'=')
    })
}

fn is_identifier(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// The code without comments. Where it begins in the middle of one, so does the code behind that.
fn without_comments(text: &[u8]) -> Vec<u8> {
    let (open, close) = (memmem::find(text, b"/*"), memmem::find(text, b"*/"));
    let begun = close.filter(|close| open.is_none_or(|open| *close < open)).map_or(0, |close| close + 2);
    let mut rest = text.get(begun..).unwrap_or_default();
    let mut code = Vec::with_capacity(rest.len());
    while let Some(at) = memchr::memchr(b'/', rest) {
        let (before, comment) = rest.split_at(at);
        code.extend_from_slice(before);
        let end = match comment.get(1) {
            Some(b'*') => memmem::find(comment, b"*/").map(|end| end + 2),
            Some(b'/') => memchr::memchr(b'\n', comment),
            _ => {
                code.push(b'/');
                Some(1)
            }
        };
        rest = end.and_then(|end| comment.get(end..)).unwrap_or_default();
    }
    code.extend_from_slice(rest);
    // Lines of a comment that begins before and ends behind all of this.
    let of_comment = |line: &[u8]| line == b"*" || line.starts_with(b"* ");
    let lines = code.split(|byte| *byte == b'\n').filter(|line| !of_comment(line.trim_ascii()));
    lines.collect::<Vec<_>>().join(&b'\n')
}

fn ending(path: &[u8]) -> &[u8] {
    let dot = path.iter().rposition(|byte| *byte == b'.').map_or(path.len(), |dot| dot + 1);
    let behind = path.get(dot..).unwrap_or_default();
    behind.split(|byte| !byte.is_ascii_alphanumeric()).next().unwrap_or_default()
}
