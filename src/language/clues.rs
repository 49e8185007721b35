//! What a text says of its own language in so many words: tags of fences, `language` and `path` fields, headers with a
//! path, shebangs, file names in prose. One pass over its lines, no regular expressions.

use std::ops::Range;

use memchr::{memchr_iter, memmem};

use super::names::Language;
use super::natural::{is_plain, is_prose, names_things};
use super::shared;

/// What is longer is no path and no name; a line is looked at so far.
const MOST: usize = 400;
/// Fields looked at in one line of JSON.
const MOST_FIELDS: usize = 64;

/// Keys of fields that hold a path, in lower case, without spaces, `_` and `-`.
const FILE_KEYS: [&[u8]; 20] = [
    b"file",
    b"filename",
    b"filepath",
    b"path",
    b"targetfile",
    b"currentfile",
    b"activefile",
    b"relativepath",
    b"fsname",
    b"absolutepath",
    b"relativeworkspacepath",
    b"uri",
    b"fileuri",
    b"documenturi",
    b"document",
    b"openfile",
    b"fspath",
    b"sourcefile",
    b"currentlyopenfile",
    b"name",
];
/// Keys of fields that hold a language.
const LANGUAGE_KEYS: [&[u8]; 7] = [
    b"language",
    b"lang",
    b"languageid",
    b"programminglanguage",
    b"codelanguage",
    b"filetype",
    b"languagename",
];
/// Elements whose attribute `name` is a file's; elsewhere that is anything.
const FILE_ELEMENTS: [&[u8]; 4] = [b"file", b"document", b"source", b"attachment"];
/// How the header of a list of open files ends, in lower case.
const HEADERS: [&[u8]; 5] = [b"visible files", b"open tabs", b"open files", b"current file", b"active file"];

/// A language, and where that is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Clue {
    /// The language.
    pub language: Language,
    /// The words that say so.
    pub said: Range<usize>,
    /// Whether those are a path, whose ending may be another language's as well.
    pub path: bool,
}

/// What a text says; of each kind the last, but that what only accompanies others gives way.
#[derive(Debug, Default)]
pub(super) struct Clues {
    /// The tag of a fence.
    pub fence: Option<Clue>,
    /// A `language` field.
    pub field: Option<Clue>,
    /// A path in a field, in a header, or in a comment of its own; of those in a comment none goes before one that a
    /// field or a header declares.
    pub path: Option<Clue>,
    /// C or C++, when files are named whose endings are of that language alone: the last of them.
    pub beside: Option<Language>,
    /// The interpreter of a script.
    pub shebang: Option<Clue>,
    /// The file names in prose and lists, if most are of one language.
    pub mention: Option<Clue>,
    /// A path in the sentence that a text begins or ends with.
    pub pointed: Option<Clue>,
    /// Whether all of it is prose, with the names of files or code in backticks.
    pub names_only: bool,
    /// The last block inside a fence without a tag.
    pub block: Option<Range<usize>>,
}

fn prefer(old: &mut Option<Clue>, new: Clue) {
    let gives_way =
        new.language.accompanies() && old.as_ref().is_some_and(|clue| !clue.language.accompanies());
    if !gives_way {
        *old = Some(new);
    }
}

/// Reads the clues of a text.
pub(super) fn read(text: &[u8]) -> Clues {
    let mut reader = Reader { text, ..Reader::default() };
    let mut start = 0;
    for end in memchr_iter(b'\n', text).chain([text.len()]) {
        reader.line(start..end);
        start = end + 1;
    }
    reader.clues.mention = reader.mention();
    let pointed = |line: Option<&[u8]>| reader.pointed(line?);
    reader.clues.pointed = pointed(reader.last).or_else(|| pointed(reader.first));
    reader.clues.names_only = reader.names && !reader.code;
    if let Some(fence) = reader.fence.filter(|fence| !fence.tagged && fence.start < text.len()) {
        reader.clues.block = Some(fence.start..text.len());
    }
    reader.clues
}

/// Of so many lines it is looked whether they are sentences with names of files in them.
const MOST_NAMING: usize = 500;

/// An open fence.
#[derive(Debug, Clone, Copy)]
struct Fence {
    mark: u8,
    length: usize,
    tagged: bool,
    /// Where what is inside begins.
    start: usize,
    /// Lines of it so far.
    lines: usize,
}

#[derive(Debug)]
struct Reader<'a> {
    text: &'a [u8],
    clues: Clues,
    fence: Option<Fence>,
    /// Whether the line before was blank, a header of files, or none.
    fresh: bool,
    votes: [u16; Language::COUNT],
    voted: Option<Range<usize>>,
    /// The first line and the last one that was read, where they are sentences that may name a file.
    first: Option<&'a [u8]>,
    last: Option<&'a [u8]>,
    /// How many lines may have named one.
    naming: usize,
    /// Whether the path so far is declared, not only in a comment.
    declared: bool,
    /// Whether any line was prose that names a file or code, and whether any was no prose.
    names: bool,
    code: bool,
}

impl Default for Reader<'_> {
    fn default() -> Self {
        Reader {
            text: &[],
            clues: Clues::default(),
            fence: None,
            fresh: true,
            votes: [0; Language::COUNT],
            voted: None,
            first: None,
            last: None,
            naming: 0,
            declared: false,
            names: false,
            code: false,
        }
    }
}

// === impl Clues ===

impl Clues {
    /// The strongest: a fence, a `language` field, a path, a shebang; the first of them that does not only accompany
    /// others, else the first.
    pub(super) fn strongest(&self) -> Option<(super::Evidence, &Clue)> {
        use super::Evidence::{Fence, Field, Path, Shebang};
        let kinds =
            [(Fence, &self.fence), (Field, &self.field), (Path, &self.path), (Shebang, &self.shebang)];
        let mut said = kinds.into_iter().filter_map(|(kind, clue)| Some((kind, clue.as_ref()?)));
        let first = said.clone().next();
        said.find(|(_, clue)| !clue.language.accompanies()).or(first)
    }
}

// === impl Reader ===

impl<'a> Reader<'a> {
    fn line(&mut self, range: Range<usize>) {
        let start = range.start;
        let text = self.text;
        let whole = text.get(range.clone()).unwrap_or_default();
        let line = whole.get(..MOST).unwrap_or(whole);
        let line = line.trim_ascii_start();
        let line = line.strip_prefix(b">").map_or(line, <[u8]>::trim_ascii_start).trim_ascii_end();
        let fresh = std::mem::replace(&mut self.fresh, line.is_empty());
        let Some(first) = line.first().copied() else { return };
        self.last = None;
        if matches!(first, b'`' | b'~') && self.fence_line(line, &range) {
            return;
        }
        if let Some(fence) = &mut self.fence {
            fence.lines += 1;
            let header = fence.lines <= 2 || line.starts_with(b"+++ ") || line.starts_with(b"--- ");
            if !header {
                return;
            }
        }
        let indented = whole.first().is_some_and(u8::is_ascii_whitespace);
        match first {
            b'#' if line.starts_with(b"#!") => {
                if let Some(language) = Language::of_shebang(line)
                    && (start == 0 || self.fence.is_some() || fresh)
                {
                    let said = self.place(line);
                    self.clues.shebang = Some(Clue { language, said, path: false });
                }
                return;
            }
            b'<' => self.element(line),
            b'{' | b'[' => self.json(whole.get(..10 * MOST).unwrap_or(whole)),
            b'"' if indented => self.json(line),
            _ => {}
        }
        self.header(line, indented, fresh, start == 0);
        if self.fence.is_some() {
            return;
        }
        let named = names_things(line);
        self.naming += usize::from(named);
        // Lists of files are no sentences, however long.
        let prose = if self.naming > MOST_NAMING { is_plain(line) } else { is_prose(line) };
        if !prose {
            self.code = true;
            return;
        }
        for word in line.split(u8::is_ascii_whitespace).filter(|word| word.len() > 3) {
            self.vote(word);
        }
        self.names |= named || self.voted.is_some();
        if named && !indented {
            self.last = Some(line);
            if start == 0 {
                self.first = self.last;
            }
        }
    }

    /// Where a part of the text is in it.
    fn place(&self, part: &[u8]) -> Range<usize> {
        let start = (part.as_ptr() as usize).saturating_sub(self.text.as_ptr() as usize);
        start..start + part.len()
    }

    /// Whether that line opens or closes a fence.
    fn fence_line(&mut self, line: &[u8], range: &Range<usize>) -> bool {
        let mark = line.first().copied().unwrap_or_default();
        let length = line.iter().take_while(|byte| **byte == mark).count();
        let info = line.get(length..).unwrap_or_default().trim_ascii();
        if length < 3 || info.contains(&b'`') {
            return false;
        }
        if let Some(open) = self.fence
            && info.is_empty()
            && open.mark == mark
            && length >= open.length
        {
            if !open.tagged && range.start > open.start {
                self.clues.block = Some(open.start..range.start);
            }
            self.fence = None;
            self.fresh = true;
            return true;
        }
        if let Some((language, path)) = of_info(info) {
            let said = self.place(info);
            self.beside(language, info);
            prefer(&mut self.clues.fence, Clue { language, said, path });
        }
        self.fence = Some(Fence { mark, length, tagged: !info.is_empty(), start: range.end + 1, lines: 0 });
        true
    }

    /// Takes a path that a field or a header declares, or a comment has; what is on the web is no file.
    fn path(&mut self, value: &[u8], declared: bool) -> bool {
        let Some(language) = of_path(value) else { return false };
        if is_on_the_web(value) {
            return false;
        }
        self.beside(language, value);
        let said = self.place(value);
        let clue = Clue { language, said, path: true };
        if declared && !self.declared {
            self.clues.path = Some(clue);
        } else if declared == self.declared {
            prefer(&mut self.clues.path, clue);
        }
        self.declared |= declared;
        true
    }

    /// Notes that a file of this language is named.
    fn beside(&mut self, language: Language, path: &[u8]) {
        if matches!(language.name(), "c" | "cpp") && !shared::has_shared_ending(path) {
            self.clues.beside = Some(language);
        }
    }

    /// A field's key and value, if the key is one that tells.
    fn field(&mut self, key: &[u8], value: &[u8]) -> bool {
        let Some((small, length)) = squeezed(key) else { return false };
        let key = small.get(..length).unwrap_or_default();
        let value = value.trim_ascii();
        if LANGUAGE_KEYS.contains(&key) {
            let word = trimmed(value);
            let Some(language) = Language::of_tag(word) else { return false };
            let said = self.place(word);
            prefer(&mut self.clues.field, Clue { language, said, path: false });
            return true;
        }
        let file = FILE_KEYS.contains(&key) || [&b"file"[..], b"path"].iter().any(|end| key.ends_with(end));
        file && self.path(value, true)
    }

    /// `<path>src/main.rs</path>`, `<file_content path="src/main.rs">`, `<|file_sep|>src/main.rs`.
    fn element(&mut self, line: &[u8]) {
        for mark in [&b"file_sep"[..], b"fim_prefix", b"filename>", b"file_name>"] {
            if memchr::memchr(b'_', line).is_none() && mark != b"filename>" {
                continue;
            }
            if let Some(at) = line.windows(mark.len()).rposition(|part| part == mark) {
                let behind = line.get(at..).unwrap_or_default();
                let behind =
                    behind.iter().position(|byte| *byte == b'>').and_then(|end| behind.get(end + 1..));
                let behind = behind.unwrap_or_default();
                let end = behind.iter().position(|byte| *byte == b'<').unwrap_or(behind.len());
                self.path(behind.get(..end).unwrap_or_default(), true);
            }
        }
        let Some(inside) = line.get(1..) else { return };
        let name_end = inside.iter().position(|byte| !is_key(*byte)).unwrap_or(inside.len());
        let (name, mut rest) = inside.split_at(name_end);
        if name == b"script" || name == b"html" {
            return;
        }
        if let Some(content) = rest.strip_prefix(b">") {
            let end = content.iter().position(|byte| *byte == b'<').unwrap_or(content.len());
            self.field(name, content.get(..end).unwrap_or_default());
        }
        // Attributes: `key="value"`, one after another.
        while let Some(at) = rest.iter().position(|byte| *byte == b'=') {
            let (before, behind) = rest.split_at(at);
            let start = before.iter().rposition(|byte| !is_key(*byte)).map_or(0, |at| at + 1);
            let key = before.get(start..).unwrap_or_default();
            let Some(quote @ (b'"' | b'\'')) = behind.get(1).copied() else { return };
            let value = behind.get(2..).unwrap_or_default();
            let Some(end) = value.iter().position(|byte| *byte == quote) else { return };
            if key != b"lang" && (key != b"name" || FILE_ELEMENTS.contains(&name)) {
                self.field(key, value.get(..end).unwrap_or_default());
            }
            rest = value.get(end..).unwrap_or_default();
        }
    }

    /// `"path": "src/main.rs"`, anywhere in a line of JSON, as in the arguments of a tool's call.
    fn json(&mut self, line: &[u8]) {
        for at in memmem::find_iter(line, b"\":").take(MOST_FIELDS) {
            let (before, behind) =
                (line.get(..at).unwrap_or_default(), line.get(at + 2..).unwrap_or_default());
            let near = before.get(before.len().saturating_sub(40)..).unwrap_or_default();
            let Some(start) = near.iter().rposition(|byte| *byte == b'"') else { continue };
            let key = near.get(start + 1..).unwrap_or_default();
            let value = behind.get(..MOST).unwrap_or(behind).trim_ascii_start();
            let Some(value) = value.strip_prefix(b"\"") else { continue };
            let end =
                value.iter().position(|byte| matches!(byte, b'"' | b'\\' | b'\n')).unwrap_or(value.len());
            if key != b"name" {
                self.field(key, value.get(..end).unwrap_or_default());
            }
        }
    }

    /// `File: src/main.rs`, `// filepath: src/main.rs`, `# src/main.rs`, `+++ b/src/main.rs`, `src/main.rs:`.
    fn header(&mut self, line: &[u8], indented: bool, fresh: bool, first: bool) {
        let lead = line.iter().take_while(|byte| b"#/*-;%<!+=@`".contains(byte) || **byte == b' ').count();
        let (leader, core) = line.split_at(lead);
        let comment = [&b"//"[..], b"#", b"--", b"/*", b"<!--", b";", b"%", b"++", b"==", b"**", b"@", b"`"]
            .iter()
            .any(|mark| leader.starts_with(mark))
            || leader.contains(&b'`');
        let core =
            core.strip_suffix(b"-->").or_else(|| core.strip_suffix(b"*/")).unwrap_or(core).trim_ascii();
        if core.len() < 3 || (indented && !comment) {
            return;
        }
        if let Some(colon) = core.iter().take(40).position(|byte| *byte == b':')
            && matches!(core.get(colon + 1), Some(b' ' | b'*'))
        {
            let (key, value) = core.split_at(colon);
            let key = key.strip_suffix(b"**").unwrap_or(key);
            if key != b"name" && self.field(key, value.get(1..).unwrap_or_default()) {
                return;
            }
        }
        let last = core.last().copied().unwrap_or_default();
        let end = core.len() < 64
            && matches!(last, b's' | b'e' | b'S' | b'E' | b':')
            && HEADERS.iter().any(|header| {
                let tail = core.strip_suffix(b":").unwrap_or(core);
                tail.get(tail.len().saturating_sub(header.len())..)
                    .is_some_and(|end| end.eq_ignore_ascii_case(header))
            });
        if end {
            self.fresh = true;
            return;
        }
        let named = core.strip_suffix(b":").is_some() && !core.contains(&b' ');
        let lone =
            fresh && first && !core.contains(&b' ') && core.iter().any(|byte| matches!(byte, b'/' | b'\\'));
        let headed = fresh && !first && self.follows_header(core);
        if comment || named || lone || headed {
            let end = core.windows(2).position(|two| two == b" (").unwrap_or(core.len());
            let words = core.get(..end).unwrap_or(core);
            let section = leader.starts_with(b"++") || leader.starts_with(b"--- ");
            // A comment amid of code may name any file; one that heads a section stands apart or has a folder.
            let heads = !comment
                || section
                || fresh
                || self.fence.is_some()
                || core.contains(&b'/')
                || core.contains(&b'\\');
            if heads && !words.contains(&b' ') {
                self.path(core, !comment && (headed || lone) || section);
            }
        }
    }

    /// Whether the line before this one ended as the header of a list of files does.
    fn follows_header(&self, core: &[u8]) -> bool {
        let start = self.place(core).start;
        let before = self.text.get(start.saturating_sub(32)..start).unwrap_or_default().trim_ascii_end();
        let before = before.strip_suffix(b":").unwrap_or(before);
        HEADERS.iter().any(|header| {
            before
                .get(before.len().saturating_sub(header.len())..)
                .is_some_and(|end| end.eq_ignore_ascii_case(header))
        })
    }

    /// The last path with a folder that a sentence names.
    fn pointed(&self, line: &[u8]) -> Option<Clue> {
        let words = line.split(u8::is_ascii_whitespace).filter(|word| word.contains(&b'/'));
        let paths = words.filter(|word| memmem::find(word, b"://").is_none());
        let (word, language) = paths.filter_map(|word| Some((word, of_path(word)?))).next_back()?;
        Some(Clue { language, said: self.place(word), path: true })
    }

    fn vote(&mut self, word: &[u8]) {
        if word.len() < MOST
            && memchr::memchr(b'.', word).is_some()
            && let Some(language) = of_path(word)
            && !is_on_the_web(word)
            && let Some(votes) = self.votes.get_mut(language.index())
        {
            *votes = votes.saturating_add(1);
            if self.voted.is_none() {
                self.voted = Some(self.place(word));
            }
            self.beside(language, word);
        }
    }

    /// The language of more than half of the files in prose.
    fn mention(&self) -> Option<Clue> {
        let said = self.voted.clone()?;
        let all: u32 = self.votes.iter().map(|votes| u32::from(*votes)).sum();
        let most = Language::all().find(|language| {
            self.votes.get(language.index()).is_some_and(|votes| u32::from(*votes) * 2 > all)
        })?;
        Some(Clue { language: most, said, path: true })
    }
}

/// Whether it is the address of a page, whose ending says nothing of anybody's files.
fn is_on_the_web(path: &[u8]) -> bool {
    let scheme = memmem::find(path, b"://").and_then(|at| path.get(..at)).unwrap_or_default();
    [&b"http"[..], b"https", b"ftp"].iter().any(|web| scheme.ends_with(web))
}

fn is_key(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'|')
}

/// A key in lower case without what words are joined with; `None` if it is too long for one.
fn squeezed(key: &[u8]) -> Option<([u8; 32], usize)> {
    let mut small = [0; 32];
    let mut length = 0;
    for byte in key.get(..key.len().min(64))? {
        if !matches!(byte, b' ' | b'_' | b'-' | b'*' | b'`' | b'"' | b'\'') {
            *small.get_mut(length)? = byte.to_ascii_lowercase();
            length += 1;
        }
    }
    (key.len() <= 64 && length > 0).then_some((small, length))
}

fn trimmed(value: &[u8]) -> &[u8] {
    let other = |byte: &u8| !b" \t\"'`*,;.()[]<>".contains(byte);
    let Some(start) = value.iter().position(other) else { return &[] };
    let end = value.iter().rposition(other).map_or(start, |at| at + 1);
    value.get(start..end).unwrap_or_default()
}

/// The language of a path that may have quotes about it and lines behind it: `a.rs:3-9`, `a.rs#L3`, `a.rs (3-9)`.
pub(super) fn of_path(value: &[u8]) -> Option<Language> {
    if value.len() > MOST {
        return None;
    }
    let mut path = trimmed(value);
    path = path.strip_suffix(b":").unwrap_or(path);
    for _ in 0..3 {
        if let Some(language) = Language::of_path(path) {
            return Some(language);
        }
        let digits = path.iter().rev().take_while(|byte| byte.is_ascii_digit() || **byte == b'-').count();
        let before = path.get(..path.len() - digits).unwrap_or_default();
        path = [&b":"[..], b"#L", b"#", b" (", b":L", b"-L"]
            .iter()
            .find_map(|mark| before.strip_suffix(*mark))?;
    }
    None
}

/// The language of what stands behind the marks of a fence, and whether a path says so.
fn of_info(info: &[u8]) -> Option<(Language, bool)> {
    let info = info.get(..MOST).unwrap_or(info);
    let bare = info.strip_prefix(b"{").unwrap_or(info);
    let bare = bare.strip_prefix(b".").unwrap_or(bare);
    let end = bare.iter().position(|byte| b" \t,:{}[](=".contains(byte)).unwrap_or(bare.len());
    if let Some(language) = bare.get(..end).and_then(Language::of_tag) {
        return Some((language, false));
    }
    let mut words = info.split(|byte| matches!(byte, b' ' | b'=')).take(8).filter_map(of_path);
    words.next().or_else(|| of_path(info)).map(|language| (language, true))
}

#[cfg(test)]
mod tests;
