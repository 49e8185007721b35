//! The languages there are names for: their tags in fences, endings of file names, whole file names, interpreters.

use std::fmt;

/// A programming language, or a form of data or text that files are written in. Its name is canonical and lower-case.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Language(u8);

/// What one language is known by; all of it in lower case, but for whole file names.
struct Row {
    name: &'static str,
    /// Other names, as in a fence's tag or a `language` field, besides [`Row::name`].
    tags: &'static [&'static str],
    /// Endings of file names without the dot.
    endings: &'static [&'static str],
    /// Whole file names in lower case.
    files: &'static [&'static str],
    /// Programs in a shebang, without a version.
    interpreters: &'static [&'static str],
    /// Whether others are often accompanied by it: commands to run, configuration, output, data.
    accompanies: bool,
}

const fn row(name: &'static str, tags: &'static [&'static str], endings: &'static [&'static str]) -> Row {
    Row { name, tags, endings, files: &[], interpreters: &[], accompanies: false }
}

impl Row {
    const fn files(mut self, files: &'static [&'static str]) -> Row {
        self.files = files;
        self
    }

    const fn run_by(mut self, interpreters: &'static [&'static str]) -> Row {
        self.interpreters = interpreters;
        self
    }

    const fn accompanying(mut self) -> Row {
        self.accompanies = true;
        self
    }
}

/// An ending that languages share is with one of them; `shared.rs` knows the others.
const ROWS: &[Row] = &[
    row("python", &["py", "python3", "py3", "python2", "ipython", "pycon"], &["py", "pyi", "pyw"])
        .files(&["sconstruct", "wscript"])
        .run_by(&["python", "pypy", "uv"]),
    row("rust", &["rs"], &["rs"]),
    row(
        "javascript",
        &["js", "jsx", "mjs", "cjs", "node", "javascriptreact", "ecmascript"],
        &["js", "mjs", "cjs", "jsx"],
    )
    .run_by(&["node", "nodejs", "bun"]),
    row("typescript", &["ts", "tsx", "mts", "cts", "typescriptreact"], &["ts", "tsx", "mts", "cts"])
        .run_by(&["deno", "ts-node", "tsx"]),
    row("c", &["ansi c", "c99", "c11"], &["c", "h"]),
    row(
        "cpp",
        &["c++", "cc", "cxx", "hpp", "cplusplus", "c++11", "c++17", "c++20"],
        &["cpp", "cc", "cxx", "c++", "hpp", "hh", "hxx", "h++", "ipp", "inl", "tcc"],
    ),
    row("go", &["golang"], &["go"]),
    row("java", &[], &["java"]),
    row("csharp", &["cs", "c#", "c-sharp"], &["cs", "csx"]),
    row("ruby", &["rb", "irb"], &["rb", "rake", "gemspec", "ru"])
        .files(&["gemfile", "rakefile", "podfile", "fastfile", "vagrantfile", "brewfile"])
        .run_by(&["ruby", "jruby"]),
    row("php", &["php8", "php7"], &["php", "phtml", "php5"]).run_by(&["php"]),
    row(
        "shell",
        &[
            "sh",
            "bash",
            "zsh",
            "ksh",
            "dash",
            "shellscript",
            "shell-script",
            "console",
            "shell-session",
            "terminal",
        ],
        &["sh", "bash", "zsh", "ksh", "bats"],
    )
    .files(&[".bashrc", ".zshrc", ".profile", ".bash_profile", ".envrc", "pkgbuild"])
    .run_by(&["sh", "bash", "zsh", "ksh", "dash", "ash"])
    .accompanying(),
    row(
        "sql",
        &["mysql", "postgresql", "postgres", "pgsql", "plpgsql", "sqlite", "tsql", "plsql"],
        &["sql", "psql", "ddl"],
    ),
    row("html", &["htm", "xhtml", "html5"], &["html", "htm", "xhtml"]),
    row("css", &["css3"], &["css"]),
    row("kotlin", &["kt", "kts"], &["kt", "kts"]),
    row("swift", &[], &["swift"]).run_by(&["swift"]),
    row("lua", &["luau"], &["lua"]).run_by(&["lua", "luajit"]),
    row("perl", &["pl", "perl5"], &["pl", "pm", "t"]).run_by(&["perl"]),
    row("yaml", &["yml"], &["yaml", "yml"]).accompanying(),
    row("json", &["jsonc", "json5", "jsonl", "ndjson"], &["json", "jsonc", "json5", "jsonl"]).accompanying(),
    row("toml", &[], &["toml"]).files(&["cargo.lock", "poetry.lock"]).accompanying(),
    row("markdown", &["md", "mdx"], &["md", "markdown", "mdx"]).accompanying(),
    row("makefile", &["make", "mk"], &["mk", "mak"]).files(&[
        "makefile",
        "gnumakefile",
        "makefile.am",
        "makefile.in",
    ]),
    row("dockerfile", &["docker", "containerfile"], &["dockerfile"]).files(&["dockerfile", "containerfile"]),
    row("scala", &[], &["scala", "sc", "sbt"]).run_by(&["scala"]),
    row("haskell", &["hs"], &["hs", "lhs"]).run_by(&["runhaskell", "stack"]),
    row("elixir", &["ex", "exs", "iex"], &["ex", "exs"]).run_by(&["elixir"]),
    row("erlang", &["erl"], &["erl", "hrl"]).run_by(&["escript"]),
    row("clojure", &["clj", "cljs", "cljc", "edn"], &["clj", "cljs", "cljc", "edn"]),
    row("dart", &[], &["dart"]).run_by(&["dart"]),
    row("r", &["rlang"], &["r", "rmd"]).run_by(&["rscript"]),
    row("julia", &["jl"], &["jl"]).run_by(&["julia"]),
    row("objective-c", &["objc", "objectivec", "obj-c"], &["m", "mm"]),
    row("zig", &[], &["zig", "zon"]),
    row("nim", &[], &["nim", "nims"]),
    row("ocaml", &["ml"], &["ml", "mli"]).run_by(&["ocaml"]),
    row("fsharp", &["fs", "f#"], &["fs", "fsx", "fsi"]),
    row("visual-basic", &["vb", "vbnet", "vb.net", "vba"], &["vb", "bas"]),
    row("groovy", &["gradle"], &["groovy", "gradle"]).files(&["jenkinsfile"]).run_by(&["groovy"]),
    row("powershell", &["ps1", "pwsh", "ps"], &["ps1", "psm1", "psd1"]).run_by(&["pwsh"]).accompanying(),
    row("batch", &["bat", "cmd", "dosbatch"], &["bat", "cmd"]).accompanying(),
    row("scss", &["sass"], &["scss", "sass"]),
    row("less", &[], &["less"]),
    row("vue", &[], &["vue"]),
    row("svelte", &[], &["svelte"]),
    row("astro", &[], &["astro"]),
    row("xml", &["xsd", "xslt", "svg"], &["xml", "xsd", "xsl", "xslt", "svg", "csproj", "plist"])
        .accompanying(),
    row("graphql", &["gql"], &["graphql", "gql"]),
    row("protobuf", &["proto", "proto3"], &["proto"]),
    row("terraform", &["hcl", "tf"], &["tf", "tfvars", "hcl"]),
    row("nix", &[], &["nix"]),
    row("cmake", &[], &["cmake"]).files(&["cmakelists.txt"]),
    row("assembly", &["asm", "nasm", "x86asm", "armasm"], &["asm", "s", "nasm"]),
    row("latex", &["tex"], &["tex", "sty", "bib"]),
    row("vimscript", &["vim", "viml"], &["vim"]).files(&[".vimrc"]),
    row("elisp", &["emacs-lisp", "el"], &["el"]),
    row("lisp", &["common-lisp", "cl", "scheme", "scm", "racket"], &["lisp", "lsp", "scm", "rkt"]),
    row("solidity", &["sol"], &["sol"]),
    row("fortran", &["f90", "f95"], &["f90", "f95", "f03", "f", "for"]),
    row("pascal", &["delphi"], &["pas", "dpr", "pp"]),
    row("matlab", &["octave"], &["mlx"]),
    row("cuda", &["cu"], &["cu", "cuh"]),
    row("glsl", &["hlsl", "wgsl"], &["glsl", "vert", "frag", "hlsl", "wgsl"]),
    row("ini", &["cfg", "conf", "properties", "dotenv"], &["ini", "cfg", "properties", "env"]).accompanying(),
    row("nginx", &["nginxconf"], &[]).files(&["nginx.conf"]),
    row("jinja", &["jinja2", "j2"], &["j2", "jinja", "jinja2"]),
    row("erb", &[], &["erb"]),
];

/// The longest name, tag, ending or file name in the table; what is longer is none.
const LONGEST: usize = 24;

/// In lower case on the stack; `None` if it is longer than any name.
fn lower(word: &[u8]) -> Option<([u8; LONGEST], usize)> {
    let mut small = [0; LONGEST];
    small.get_mut(..word.len())?.copy_from_slice(word);
    small.make_ascii_lowercase();
    Some((small, word.len()))
}

fn find(word: &[u8], holds: impl Fn(&Row, &str) -> bool) -> Option<Language> {
    let (small, length) = lower(word)?;
    let word = std::str::from_utf8(small.get(..length)?).ok().filter(|word| !word.is_empty())?;
    let index = ROWS.iter().position(|row| holds(row, word))?;
    u8::try_from(index).ok().map(Language)
}

// === impl Language ===

impl Language {
    /// How many there are.
    pub const COUNT: usize = ROWS.len();

    /// All of them.
    pub fn all() -> impl Iterator<Item = Language> {
        (0..Self::COUNT).filter_map(|index| u8::try_from(index).ok().map(Language))
    }

    /// Its canonical name.
    pub fn name(self) -> &'static str {
        ROWS.get(usize::from(self.0)).map_or("", |row| row.name)
    }

    /// Its place in the table, below [`Language::COUNT`].
    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    /// The language of this name, canonical or not, in any case: what a fence's tag or a `language` field says, and
    /// what a configuration may.
    pub fn named(name: &str) -> Option<Language> {
        Self::of_tag(name.as_bytes())
    }

    /// [`Language::named`] of bytes.
    pub(super) fn of_tag(tag: &[u8]) -> Option<Language> {
        find(tag, |row, word| row.name == word || row.tags.contains(&word))
    }

    /// The language of a file, by its name or ending; `None` also for what is no path.
    pub(super) fn of_path(path: &[u8]) -> Option<Language> {
        let start = path.iter().rposition(|byte| matches!(byte, b'/' | b'\\')).map_or(0, |at| at + 1);
        let file = path.get(start..)?;
        let dot = file.iter().rposition(|byte| *byte == b'.');
        let parts = dot.and_then(|dot| Some((file.get(..dot)?, file.get(dot + 1..)?)));
        // `@SOURCE@.c` is a place for a name.
        if let Some((stem, ending)) = parts
            && !stem.is_empty()
            && !stem.ends_with(b"@")
            && let Some(found) = find(ending, |row, word| row.endings.contains(&word))
        {
            return Some(found);
        }
        if let Some(found) = find(file, |row, word| row.files.contains(&word)) {
            return Some(found);
        }
        parts.and_then(|(stem, _)| find(stem, |row, word| row.name == "dockerfile" && word == row.name))
    }

    /// The language of a script, by what its shebang names: a path, or `env` and a name; versions do not matter.
    pub(super) fn of_shebang(line: &[u8]) -> Option<Language> {
        let mut words =
            line.strip_prefix(b"#!")?.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let program = |word: &[u8]| -> Option<Language> {
            let name = word.rsplit(|byte| *byte == b'/').next()?;
            let end = name.iter().position(|byte| byte.is_ascii_digit()).unwrap_or(name.len());
            find(name.get(..end)?, |row, word| row.interpreters.contains(&word))
        };
        let first = words.next()?;
        if !first.ends_with(b"/env") && first != b"env" {
            return program(first);
        }
        words.take(4).find(|word| !word.starts_with(b"-") && !word.contains(&b'=')).and_then(program)
    }

    /// Whether it often accompanies another: commands to run, configuration, output, data.
    pub(super) fn accompanies(self) -> bool {
        ROWS.get(usize::from(self.0)).is_some_and(|row| row.accompanies)
    }
}

impl fmt::Debug for Language {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl fmt::Display for Language {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_name_ending_or_file_stands_for_two_languages_and_none_is_too_long() {
        let mut seen = HashSet::new();
        for row in ROWS {
            for tag in [row.name].iter().chain(row.tags) {
                assert!(seen.insert(("tag", *tag)), "{tag}");
            }
            for ending in row.endings {
                assert!(seen.insert(("ending", *ending)), "{ending}");
            }
            for name in row.files.iter().chain(row.interpreters) {
                assert!(seen.insert(("file or program", *name)), "{name}");
            }
        }
        for (_, word) in seen {
            assert!(word.len() <= LONGEST && !word.chars().any(char::is_uppercase), "{word}");
        }
    }

    #[test]
    fn every_language_is_found_by_its_own_name_in_any_case() {
        for language in Language::all() {
            assert_eq!(Language::named(language.name()), Some(language));
            assert_eq!(Language::named(&language.name().to_uppercase()), Some(language));
        }
        assert_eq!(Language::named("klingon"), None);
        assert_eq!(Language::named(""), None);
        assert_eq!(Language::named(&"c".repeat(1000)), None);
    }

    #[test]
    fn a_path_tells_by_its_file_name_and_by_its_last_ending() {
        let of = |path: &str| Language::of_path(path.as_bytes()).map(Language::name);
        assert_eq!(of("src/main.rs"), Some("rust"));
        assert_eq!(of(r"C:\work\App.Test.CS"), Some("csharp"));
        assert_eq!(of("a/Dockerfile"), Some("dockerfile"));
        assert_eq!(of("Dockerfile.dev"), Some("dockerfile"));
        assert_eq!(of("CMakeLists.txt"), Some("cmake"));
        assert_eq!(of("types.d.ts"), Some("typescript"));
        for none in ["", ".", "/", "rs", ".rs", "notes.txt", "src/", "a.rs/", "a.unknown"] {
            assert_eq!(of(none), None, "{none}");
        }
    }

    #[test]
    fn a_shebang_tells_through_env_flags_and_versions() {
        let of = |line: &str| Language::of_shebang(line.as_bytes()).map(Language::name);
        assert_eq!(of("#!/bin/sh"), Some("shell"));
        assert_eq!(of("#!/usr/bin/env python3.12"), Some("python"));
        assert_eq!(of("#!/usr/bin/env -S FOO=1 node --harmony"), Some("javascript"));
        assert_eq!(of("#! /usr/bin/perl -w"), Some("perl"));
        for none in ["#!", "#!/usr/bin/env", "#!/opt/thing", "#![allow(x)]", "/bin/sh"] {
            assert_eq!(of(none), None, "{none}");
        }
    }
}
