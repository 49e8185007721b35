//! Which programming language a request is about, and which language its user writes. Pure; nothing is read but what
//! decides, and that is bounded: what it costs does not grow with the body.
//!
//! What is looked at, in this order, until something is found:
//!
//! - chat: the user's last message; then the messages before it and behind it, from the last one back, answers and
//!   results of tools included, the system's left out (it has examples in languages that the user never saw);
//! - completions and fill in the middle: the prompt, and for the classifier also the begin of the suffix;
//! - embeddings: the input, or its first string.
//!
//! Within one text the strongest evidence decides, and of equally strong evidence the last: see [`Evidence`]. A path with
//! a folder in the sentence that the user's last message begins or ends with goes before what the message looks like, and
//! a short message that is all sentences with names of files in them is not judged by its looks at all. What a file is whose
//! ending languages share (`.h`) its content decides: see `shared.rs`. Only
//! what merely accompanies others (shell, JSON, YAML, TOML, Markdown, XML and the like, in which commands, configuration
//! and output are quoted) gives way to any other language that the same text names.

mod classifier;
mod clues;
mod features;
mod names;
mod natural;
mod shared;
mod texts;

#[cfg(test)]
mod tests;

use crate::dialect::Request;
pub use classifier::{LANES, MOST as MOST_CLASSIFIED, Model, PLACES, PROSE, Row, Verdict, mark, place};
use clues::{Clue, Clues};
pub use features::each as each_feature;
pub use names::Language;
use texts::Kind;

/// What a finding rests on, the strongest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Evidence {
    /// The tag of a fence, or the path beside it: ```` ```rust ````.
    Fence,
    /// A `language` field.
    Field,
    /// A path in a field, an attribute, a header or a comment of its own.
    Path,
    /// The first line of a script.
    Shebang,
    /// What stands before and behind the cursor of a completion, by the classifier.
    Cursor,
    /// What the text looks like, by the classifier.
    Looks,
    /// Names of files in prose.
    Mention,
}

impl Evidence {
    /// The word in explanations.
    pub fn label(self) -> &'static str {
        match self {
            Evidence::Fence => "fence",
            Evidence::Field => "field",
            Evidence::Path => "path",
            Evidence::Shebang => "shebang",
            Evidence::Cursor => "cursor",
            Evidence::Looks => "looks",
            Evidence::Mention => "mention",
        }
    }
}

/// The language of a request, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The language.
    pub language: Language,
    /// What that rests on.
    pub evidence: Evidence,
    /// The words that say so, shortened; empty where the classifier does.
    pub said: String,
    /// How probable it is to the classifier, or that of two that are much alike (C and C++, JavaScript and TypeScript) it
    /// is one; 1 where the text says so itself.
    pub probability: f32,
}

/// Below that the classifier's best is no finding, and above the other neither: prose that happens to look like it. Of a
/// few words it must be surer.
const SURE: f32 = 0.5;
const SURE_OF_FEW: f32 = 0.7;
const FEW: usize = 64;
/// What people write about files without any code is this long; a page of documentation is longer.
const SENTENCES: usize = 200;
const PROSE_AT_MOST: f32 = 0.2;
/// Fewer bytes say nothing to the classifier.
const LEAST: usize = 16;
/// Texts of a request that are classified.
const CLASSIFIED: usize = 3;
/// The longest of [`Found::said`].
const SAID: usize = 80;

/// The programming language of a request's content. `None` when nothing is sure enough.
pub fn of(request: &Request) -> Option<Found> {
    let mut left = CLASSIFIED;
    texts::each(request, |kind, text, suffix| {
        let clues = clues::read(text);
        if let Some((evidence, clue)) = clues.strongest() {
            return Some(told(text, evidence, clue, clues.beside));
        }
        // What a user points at is what the question is about, whatever it looks like.
        if let Some(clue) = clues.pointed.as_ref().filter(|_| kind == Kind::Asked) {
            return Some(told(text, Evidence::Mention, clue, clues.beside));
        }
        let looks = if left > 0 { looks(kind, text, suffix, &clues) } else { None };
        left = left.saturating_sub(1);
        let mention = || clues.mention.as_ref().map(|clue| told(text, Evidence::Mention, clue, clues.beside));
        looks.or_else(mention)
    })
}

/// The language that the user's last message is written in, as its ISO 639 code (`en`); what is code is left out. `None`
/// when there is too little of it, and for what is no chat.
pub fn natural(request: &Request) -> Option<&'static str> {
    natural::of(&texts::asked(request)?)
}

/// The codes that [`natural()`] may tell.
pub fn natural_languages() -> impl Iterator<Item = &'static str> {
    natural::all()
}

/// The code of a language by its English name or its longer code, in lower case: `german`, `deu`.
pub fn natural_language_called(name: &str) -> Option<&'static str> {
    natural::called(name)
}

fn told(text: &[u8], evidence: Evidence, clue: &Clue, beside: Option<Language>) -> Found {
    let words = text.get(clue.said.clone()).unwrap_or_default();
    let said = String::from_utf8_lossy(words.get(..SAID).unwrap_or(words)).into_owned();
    let language = if clue.path && shared::has_shared_ending(words) {
        // What the file has in it comes behind its path; of what comes before, nothing may be its own.
        let content = text.get(clue.said.end..).filter(|content| content.len() >= LEAST).unwrap_or(text);
        let content = window(content, &[]);
        shared::of(words, &content, beside, &|one, other| lead(&content, one, other)).unwrap_or(clue.language)
    } else {
        clue.language
    };
    Found { language, evidence, said, probability: 1.0 }
}

/// By how much a text looks more like one language than like another.
fn lead(text: &[u8], one: Language, other: Language) -> f32 {
    Model::built_in().map_or(0.0, |model| model.lead(text, one, other))
}

fn looks(kind: Kind, text: &[u8], suffix: &[u8], clues: &Clues) -> Option<Found> {
    let block = clues.block.clone().and_then(|block| text.get(block)).filter(|block| block.len() >= LEAST);
    let content = block.unwrap_or(text);
    let sentence = block.is_none() && kind != Kind::Prompt && clues.names_only && text.len() <= SENTENCES;
    // At the begin of a file what comes after the cursor is all that there is.
    let length = content.len().saturating_add(suffix.len());
    if length < LEAST || kind == Kind::Cut || sentence {
        return None;
    }
    let window = window(content, suffix);
    // Whole sentences in a script of their own: no program has so many of those.
    if window.iter().filter(|byte| !byte.is_ascii()).count() * 4 > window.len() {
        return None;
    }
    let verdict = Model::built_in()?.classify(&window)?;
    let evidence = if kind == Kind::Prompt { Evidence::Cursor } else { Evidence::Looks };
    let language = sure(verdict, kind == Kind::Prompt || block.is_some(), length)?;
    if kind == Kind::Said && language.accompanies() {
        return None;
    }
    let language = shared::told_apart(language, &window, &|one, other| lead(&window, one, other));
    let probability = (verdict.probability + verdict.kin).min(1.0);
    Some(Found { language, evidence, said: String::new(), probability })
}

/// The language of a verdict that is sure enough. What is code for another reason may look like prose as well.
fn sure(verdict: Verdict, is_code: bool, length: usize) -> Option<Language> {
    let code = is_code || verdict.prose <= PROSE_AT_MOST;
    let least = if length < FEW { SURE_OF_FEW } else { SURE };
    verdict.language.filter(|_| code && verdict.probability + verdict.kin >= least)
}

/// What is classified of a text: all of a short one, of a longer one some of its begin and more of its end.
fn window(text: &[u8], suffix: &[u8]) -> Vec<u8> {
    let room = MOST_CLASSIFIED - suffix.len().min(MOST_CLASSIFIED / 4);
    let mut window = Vec::with_capacity(MOST_CLASSIFIED);
    if text.len() <= room {
        window.extend_from_slice(text);
    } else {
        let last = room - room / 4 - 1;
        window.extend_from_slice(text.get(..room / 4).unwrap_or_default());
        window.push(b'\n');
        window.extend_from_slice(text.get(text.len() - last..).unwrap_or_default());
    }
    window.extend_from_slice(suffix.get(..MOST_CLASSIFIED - window.len()).unwrap_or(suffix));
    window
}
