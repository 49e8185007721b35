//! Which language people write in, told by the prose of a text: what is no code in it. Small words decide where they are
//! clear (`words.rs`), since of short sentences letters say little; else the letters, by whatlang.

mod words;

use memchr::memchr2;
use whatlang::{Lang, Script, detect};

use super::clues::of_path;
use words::Weight;

/// How much prose is looked at, and how little is too little to say anything: in bytes, and for the letters of scripts
/// that many languages share.
const MOST: usize = 400;
const LEAST: usize = 10;
const LEAST_SHARED: usize = 24;
/// Below that whatlang guesses.
const SURE: f64 = 0.8;

/// The ISO 639-1 code of the language that the prose of a text is in (639-3 where there is none of two letters). `None`
/// - for fewer than 10 bytes of prose;
/// - when two languages are about as likely.
pub(super) fn of(text: &[u8]) -> Option<&'static str> {
    let prose = prose(text);
    if prose.trim_ascii().len() < LEAST {
        return None;
    }
    let letters = detect(&prose)?;
    let own_script = !matches!(letters.script(), Script::Latin | Script::Cyrillic);
    let enough = own_script || prose.len() >= LEAST_SHARED;
    let sure = enough && (letters.is_reliable() || letters.confidence() >= SURE);
    let language = match words::of(&prose) {
        Some((language, weight)) if !own_script => {
            let told =
                language == letters.lang() || weight == Weight::Clear || weight == Weight::Likely && !sure;
            told.then_some(language)
        }
        _ => sure.then(|| letters.lang()),
    };
    language.map(code)
}

/// The codes of all languages that can be told.
pub(super) fn all() -> impl Iterator<Item = &'static str> {
    Lang::all().iter().map(|language| code(*language))
}

/// The code of the one with this English name or code of three letters.
pub(super) fn called(name: &str) -> Option<&'static str> {
    let known =
        Lang::all().iter().find(|lang| lang.eng_name().eq_ignore_ascii_case(name) || lang.code() == name)?;
    Some(code(*known))
}

/// The first lines that are neither inside a fence nor look like code.
fn prose(text: &[u8]) -> String {
    let mut prose = String::with_capacity(MOST);
    let mut fenced = false;
    for line in text.split(|byte| *byte == b'\n') {
        let line = line.trim_ascii();
        if line.starts_with(b"```") || line.starts_with(b"~~~") {
            fenced = !fenced;
            continue;
        }
        if fenced || !is_prose(line) {
            continue;
        }
        let plain = names_things(line).then(|| without_names(line));
        let line = plain.as_deref().unwrap_or(line);
        let room = MOST.saturating_sub(prose.len());
        let part = line.get(..room).unwrap_or(line);
        prose.push_str(&String::from_utf8_lossy(part));
        prose.push(' ');
        if part.len() < line.len() || prose.len() >= MOST {
            break;
        }
    }
    prose
}

/// What each byte is: 1 a letter, 2 a space, 3 what code is full of, 4 the begin of a character of three bytes or more.
#[expect(clippy::indexing_slicing, reason = "a byte is below 256")]
const KINDS: [u8; 256] = {
    let mut kinds = [0; 256];
    let mut byte = 0_u8;
    loop {
        kinds[byte as usize] = match byte {
            b'a'..=b'z' | b'A'..=b'Z' | 0x80..0xE0 => 1,
            b' ' => 2,
            b'{' | b'}' | b'[' | b']' | b'(' | b')' | b';' | b'=' | b'<' | b'>' | b'_' | b'$' | b'\\'
            | b'|' | b'&' | b'*' | b'#' | b'/' => 3,
            0xE0.. => 4,
            _ => 0,
        };
        if byte == u8::MAX {
            break kinds;
        }
        byte += 1;
    }
};

/// Mostly letters and spaces, and more than one word unless it is in a script without spaces. The paths and the code in
/// backticks that a sentence names do not count.
pub(super) fn is_prose(line: &[u8]) -> bool {
    let line = line.get(..MOST).unwrap_or(line);
    if is_plain(line) {
        return true;
    }
    // A path alone is no sentence.
    if !names_things(line) || memchr2(b' ', b'`', line).is_none() {
        return false;
    }
    let rest = without_names(line);
    let words =
        rest.split(|byte| *byte == b' ').filter(|word| word.iter().any(u8::is_ascii_alphabetic)).count();
    (words > 1 || words == 1 && line.contains(&b'`')) && is_plain(&rest)
}

/// Whether a line is prose that names no files and has no code in it.
pub(super) fn is_plain(line: &[u8]) -> bool {
    let mut counts = [0_usize; 5];
    for byte in line {
        let kind = KINDS.get(usize::from(*byte)).copied().unwrap_or_default();
        if let Some(count) = counts.get_mut(usize::from(kind)) {
            *count += 1;
        }
    }
    let [_, letters, spaces, code, foreign] = counts;
    (spaces > 0 || foreign > 0)
        && (letters + foreign + spaces) * 10 >= line.len() * 8
        && code * 20 <= line.len()
}

/// Whether a line may be a sentence with a path or code in backticks in it: it begins as sentences do.
pub(super) fn names_things(line: &[u8]) -> bool {
    line.first().is_some_and(|byte| byte.is_ascii_alphabetic() || !byte.is_ascii() || *byte == b'`')
        && memchr2(b'`', b'/', line).is_some()
}

/// A line without code in backticks and paths.
fn without_names(line: &[u8]) -> Vec<u8> {
    let mut rest = Vec::with_capacity(line.len());
    for outside in line.split(|byte| *byte == b'`').step_by(2) {
        for word in outside.split(|byte| *byte == b' ') {
            if word.is_empty() || word.contains(&b'/') && of_path(word).is_some() {
                continue;
            }
            rest.extend_from_slice(word);
            rest.push(b' ');
        }
    }
    rest
}

fn code(language: Lang) -> &'static str {
    match language {
        Lang::Epo => "eo",
        Lang::Eng => "en",
        Lang::Rus => "ru",
        Lang::Cmn => "zh",
        Lang::Spa => "es",
        Lang::Por => "pt",
        Lang::Ita => "it",
        Lang::Ben => "bn",
        Lang::Fra => "fr",
        Lang::Deu => "de",
        Lang::Ukr => "uk",
        Lang::Kat => "ka",
        Lang::Ara => "ar",
        Lang::Hin => "hi",
        Lang::Jpn => "ja",
        Lang::Heb => "he",
        Lang::Yid => "yi",
        Lang::Pol => "pl",
        Lang::Amh => "am",
        Lang::Jav => "jv",
        Lang::Kor => "ko",
        Lang::Nob => "nb",
        Lang::Dan => "da",
        Lang::Swe => "sv",
        Lang::Fin => "fi",
        Lang::Tur => "tr",
        Lang::Nld => "nl",
        Lang::Hun => "hu",
        Lang::Ces => "cs",
        Lang::Ell => "el",
        Lang::Bul => "bg",
        Lang::Bel => "be",
        Lang::Mar => "mr",
        Lang::Kan => "kn",
        Lang::Ron => "ro",
        Lang::Slv => "sl",
        Lang::Hrv => "hr",
        Lang::Srp => "sr",
        Lang::Mkd => "mk",
        Lang::Lit => "lt",
        Lang::Lav => "lv",
        Lang::Est => "et",
        Lang::Tam => "ta",
        Lang::Vie => "vi",
        Lang::Urd => "ur",
        Lang::Tha => "th",
        Lang::Guj => "gu",
        Lang::Uzb => "uz",
        Lang::Pan => "pa",
        Lang::Aze => "az",
        Lang::Ind => "id",
        Lang::Tel => "te",
        Lang::Pes => "fa",
        Lang::Mal => "ml",
        Lang::Ori => "or",
        Lang::Mya => "my",
        Lang::Nep => "ne",
        Lang::Sin => "si",
        Lang::Khm => "km",
        Lang::Tuk => "tk",
        Lang::Aka => "ak",
        Lang::Zul => "zu",
        Lang::Sna => "sn",
        Lang::Afr => "af",
        Lang::Lat => "la",
        Lang::Slk => "sk",
        Lang::Cat => "ca",
        Lang::Tgl => "tl",
        Lang::Hye => "hy",
        other => other.code(),
    }
}

#[cfg(test)]
mod tests;
