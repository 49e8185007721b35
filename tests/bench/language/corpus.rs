//! The sources that were fetched, and snippets cut from them.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::Outcome;

/// One file of a package.
pub struct File {
    pub extension: String,
    pub lines: Vec<String>,
}

/// Files by language and package.
pub type Corpus = BTreeMap<String, BTreeMap<String, Vec<File>>>;

/// Where `fetch.py` puts them.
#[expect(clippy::disallowed_methods, reason = "a benchmark has no configuration")]
pub fn folder() -> PathBuf {
    if let Some(folder) = std::env::var_os("DEMUXAI_LANGUAGE_CORPUS") {
        return PathBuf::from(folder);
    }
    PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache/demuxai-language")
}

/// Reads one side of them, `train` or `eval`.
pub fn read(side: &str) -> Outcome<Corpus> {
    let root = folder().join("corpus").join(side);
    let mut corpus = Corpus::new();
    for language in entries(&root)? {
        let mut packages = BTreeMap::new();
        for package in entries(&language)? {
            let mut files = Vec::new();
            for path in entries(&package)? {
                let text = String::from_utf8_lossy(&fs::read(&path)?).replace('\r', "");
                let lines = text.lines().map(|line| line.chars().take(300).collect()).collect();
                files.push(File { extension: extension(&path), lines });
            }
            packages.insert(name(&package), files);
        }
        corpus.insert(name(&language), packages);
    }
    Ok(corpus)
}

/// Drops the files of one side that the other has too, word for word, however their packages are called; says how many.
pub fn drop_shared(corpus: &mut Corpus, other: &Corpus) -> usize {
    let known: HashSet<&[String]> =
        other.values().flat_map(BTreeMap::values).flatten().map(|file| file.lines.as_slice()).collect();
    let mut dropped = 0;
    for files in corpus.values_mut().flat_map(BTreeMap::values_mut) {
        let before = files.len();
        files.retain(|file| !known.contains(file.lines.as_slice()));
        dropped += before - files.len();
    }
    dropped
}

fn entries(folder: &Path) -> Outcome<Vec<PathBuf>> {
    let listed = fs::read_dir(folder)
        .map_err(|error| format!("{}: {error}; run tests/bench/language/fetch.py first", folder.display()))?;
    let mut paths = listed.map(|entry| Ok(entry?.path())).collect::<Outcome<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn extension(path: &Path) -> String {
    path.extension().unwrap_or_default().to_string_lossy().into_owned()
}

/// So many lines in a row of a file, drawn; most of them not blank, and no shebang among them.
pub fn cut(file: &File, length: usize, rng: &mut fastrand::Rng) -> Option<String> {
    for _ in 0..4 {
        let start = rng.usize(..=file.lines.len().checked_sub(length)?);
        let lines = &file.lines[start..start + length];
        let filled = lines.iter().filter(|line| !line.trim().is_empty()).count();
        if filled * 5 >= length * 3 && !lines[0].starts_with("#!") {
            return Some(lines.join("\n"));
        }
    }
    None
}

/// Snippets of these lengths, as many from each package as can be, so that `wanted` come together. Each comes with its
/// file's extension.
pub fn snippets(
    packages: &[&Vec<File>],
    wanted: usize,
    length: impl Fn(&mut fastrand::Rng) -> usize,
    rng: &mut fastrand::Rng,
) -> Vec<(usize, String, String)> {
    let mut found = Vec::new();
    for draw in 0..wanted * 4 {
        if found.len() == wanted {
            break;
        }
        let package = draw % packages.len();
        let files = packages[package];
        if files.is_empty() {
            continue;
        }
        let file = &files[rng.usize(..files.len())];
        let lines = length(rng);
        if let Some(text) = cut(file, lines, rng) {
            found.push((package, file.extension.clone(), text));
        }
    }
    found
}
