//! What texts say of their language, in the forms that editors and agents write.

use super::*;
use crate::language::Evidence;

fn strongest(text: &str) -> Option<(Evidence, &'static str)> {
    let clues = read(text.as_bytes());
    clues.strongest().map(|(evidence, clue)| (evidence, clue.language.name()))
}

#[test]
fn tags_of_fences_are_found_in_all_their_spellings() {
    for (fence, language) in [
        ("```rust\nlet x;\n```", "rust"),
        ("look:\n\n   ~~~py\nx = 1\n~~~", "python"),
        ("> ```TSX\n> <A/>\n> ```", "typescript"),
        ("````c++\nint x;\n````", "cpp"),
        ("```{.haskell .numberLines}\nmain\n```", "haskell"),
        ("```js title=\"a.py\"\nx\n```", "javascript"),
        ("```python:src/app.py\nx\n```", "python"),
        ("```12:40:src/view.kt\nx\n```", "kotlin"),
        ("```src/main.go#L1-9\nx\n```", "go"),
        ("```/home/me/My Files/a.swift\nx\n```", "swift"),
        ("```rs src/other.rs (1-20)\nx\n```", "rust"),
        ("```C#\nx\n```", "csharp"),
    ] {
        assert_eq!(strongest(fence), Some((Evidence::Fence, language)), "{fence}");
    }
}

#[test]
fn what_is_no_tag_is_not_taken_for_one() {
    for text in
        ["```\nx\n```", "```text\nx\n```", "``rust``", "```rust``` is a tag", "``\nrust", "```output\nx\n```"]
    {
        assert_eq!(strongest(text), None, "{text}");
    }
}

#[test]
fn the_last_fence_decides_and_what_only_accompanies_gives_way() {
    assert_eq!(strongest("```rust\n1\n```\n```python\n2\n```"), Some((Evidence::Fence, "python")));
    assert_eq!(
        strongest("```rust\n1\n```\n```bash\ncargo test\n```\n```json\n{}\n```"),
        Some((Evidence::Fence, "rust"))
    );
    assert_eq!(strongest("```bash\nls\n```"), Some((Evidence::Fence, "shell")));
    assert_eq!(strongest("File: src/a.rb\n```bash\nrake\n```"), Some((Evidence::Path, "ruby")));
}

#[test]
fn paths_are_found_where_editors_write_them() {
    for (text, language) in [
        ("<file_content path=\"src/a.rs\">\nx\n</file_content>", "rust"),
        ("<path>src/a.py</path>", "python"),
        ("<read_file><path>a.rb</path>", "none"),
        ("<attachment id=\"1\" filePath=\"/w/a.cs\">", "csharp"),
        ("<file name='a.lua'>", "lua"),
        ("// filepath: c:\\Users\\a b\\x.ts", "typescript"),
        ("# Path: src/x.py", "python"),
        ("/* src/x.css */", "css"),
        ("<!-- index.html -->", "html"),
        ("#utils.py\nimport os", "python"),
        ("-- schema.sql", "sql"),
        ("File: `src/a.kt`", "kotlin"),
        ("**Current file:** src/a.php", "php"),
        ("*** Update File: src/a.go", "go"),
        ("+++++ lib/a.pl\nx", "perl"),
        ("--- a/x.c\n+++ b/x.c\n@@ -1 +1 @@", "c"),
        ("<|repo_name|>r\n<|file_sep|>src/a.java\nx", "java"),
        ("<repo_name>r<file_sep>src/a.swift\nx", "swift"),
        ("src/main.rs:\nfn main() {}", "rust"),
        ("# VSCode Visible Files\nsrc/app.vue", "vue"),
        ("@src/app.dart", "dart"),
        ("{\"tool\":\"read\",\"arguments\":\"{\"path\":\"a/b.rs\"}\"}", "rust"),
        ("  \"filename\": \"x.py\"", "python"),
        ("```\n// src/a.zig\nx\n```", "zig"),
    ] {
        let found = strongest(text).map_or("none", |(evidence, name)| {
            assert_eq!(evidence, Evidence::Path, "{text}");
            name
        });
        assert_eq!(found, language, "{text}");
    }
}

#[test]
fn file_names_inside_of_code_do_not_tell_its_language() {
    for text in [
        "#include \"foo.h\"\nint main() { return self.c; }",
        "import x from './foo.js';\nexport * from './bar.js';",
        "const files = [\n  './a.js',\n  'b/c.py',\n];",
        "SOURCES = \\\n\tsrc/a.c \\\n\tsrc/b.c\n",
        "on:\n  - src/a.py\n",
        "<script src=\"app.js\" language=\"javascript\">",
        "<html lang=\"go\">",
        "name: thing.rs",
        "node app.js",
        "```\nx\ny\n// z.rs\n```",
    ] {
        assert_eq!(strongest(text), None, "{text}");
    }
}

#[test]
fn language_fields_tell_and_languages_people_speak_do_not() {
    for (text, language) in [
        ("Language: Rust", Some("rust")),
        ("<language>python</language>", Some("python")),
        ("{\"languageId\": \"typescriptreact\", \"x\": 1}", Some("typescript")),
        ("<code language=\"go\">", Some("go")),
        ("// Language: C++", Some("cpp")),
        ("Language: German", None),
        ("language: en", None),
    ] {
        assert_eq!(strongest(text).map(|(_, name)| name), language, "{text}");
    }
}

#[test]
fn a_shebang_tells_at_the_begin_and_not_in_the_middle() {
    assert_eq!(strongest("#!/usr/bin/env python3\nx"), Some((Evidence::Shebang, "python")));
    assert_eq!(strongest("Fix this:\n\n#!/bin/bash\nls"), Some((Evidence::Shebang, "shell")));
    assert_eq!(strongest("cat <<E\n#!/usr/bin/perl\nE"), None);
}

#[test]
fn files_in_prose_are_a_mention_if_most_agree() {
    let mention = |text: &str| read(text.as_bytes()).mention.map(|clue| clue.language.name());
    assert_eq!(mention("Why does the function in src/load.rs return early?"), Some("rust"));
    assert_eq!(mention("Move a.py and b.py into one file like c.go please"), Some("python"));
    assert_eq!(mention("Is a.py or b.go better for that?"), None);
    assert_eq!(mention("let x = load(\"a.py\");"), None);
    assert_eq!(mention("e.g. this and that. And more"), None);
}

#[test]
fn the_last_block_without_a_tag_is_kept_and_no_other() {
    let block = |text: &'static str| read(text.as_bytes()).block.and_then(|range| text.get(range));
    assert_eq!(block("a\n```\nx = 1\n```\nb"), Some("x = 1\n"));
    assert_eq!(block("a\n```\nx = 1"), Some("x = 1"));
    assert_eq!(block("```rust\nx\n```"), None);
    assert_eq!(block("no block"), None);
}

#[test]
fn a_bare_path_counts_where_a_line_begins_and_not_inside_of_what_is_indented() {
    for (text, language) in [
        ("look at this\nsrc/main.rs:\nx", "rust"),
        ("look at this\n    src/main.rs:\nx", "none"),
        ("changed:\n\tlib/a.rb:\n", "none"),
        ("    // src/main.rs\nx", "rust"),
        ("    src/app.py\nx", "none"),
        ("src/app.py\nx", "python"),
    ] {
        let told = strongest(text).map_or("none", |(_, language)| language);
        assert_eq!(told, language, "{text:?}");
    }
}

#[test]
fn the_address_of_a_page_is_no_file() {
    for text in [
        "# http://www.gnu.org/licenses/old-licenses/gpl-2.0.html.\nx = 1",
        "// https://doc.rust-lang.org/src/core/str/mod.rs.html#1429\nx",
        "{\"path\": \"https://example.org/index.php\"}",
        "x\n\n@FILEMAP@.c\ny",
    ] {
        assert_eq!(strongest(text), None, "{text}");
    }
    let mention = |text: &str| read(text.as_bytes()).mention.map(|clue| clue.language.name());
    assert_eq!(mention("Please summarise what https://example.org/a/index.html says."), None);
    assert_eq!(strongest("uri: file:///home/me/app.py"), Some((Evidence::Path, "python")));
}

#[test]
fn a_declared_path_goes_before_one_that_a_comment_names() {
    for (text, language) in [
        ("File: a.lua\nx\n\n-- constants.h\ny", "lua"),
        ("<file_content path=\"a.go\">\nx\n\n// lib/asm.s:20\ny\n</file_content>", "go"),
        ("File: ci.yaml\n\n# src/app.py\nx", "yaml"),
        ("# src/app.py\nx\n\nFile: ci.yaml\ny", "yaml"),
        ("+++++ a.py\nx\n\n# lib/b.c\ny", "python"),
        ("# src/app.py\nx\n\n# src/b.rb\ny", "ruby"),
    ] {
        assert_eq!(strongest(text), Some((Evidence::Path, language)), "{text:?}");
    }
}

#[test]
fn a_name_in_a_comment_amid_of_code_heads_nothing() {
    assert_eq!(strongest("x = 1\n-- constants.h\ny = 2"), None);
    assert_eq!(strongest("x = 1\n\n-- constants.lua\ny = 2"), Some((Evidence::Path, "lua")));
    assert_eq!(strongest("x = 1\n# lib/other.rb\ny = 2"), Some((Evidence::Path, "ruby")));
}
