//! Which language people write in, told by the prose of a text: what is no code in it.

use whatlang::{Lang, detect};

/// How much prose is looked at, and how little is too little to say anything.
const MOST: usize = 400;
const LEAST: usize = 24;
/// Below that whatlang guesses.
const SURE: f64 = 0.8;

/// The ISO 639-1 code of the language that the prose of a text is in (639-3 where there is none of two letters). `None`
/// - for fewer than 24 bytes of prose;
/// - when two languages are about as likely.
pub(super) fn of(text: &[u8]) -> Option<&'static str> {
    let prose = prose(text);
    if prose.len() < LEAST {
        return None;
    }
    let found = detect(&prose)?;
    (found.is_reliable() || found.confidence() >= SURE).then(|| code(found.lang()))
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

/// Mostly letters and spaces, and more than one word unless it is in a script without spaces.
pub(super) fn is_prose(line: &[u8]) -> bool {
    let line = line.get(..MOST).unwrap_or(line);
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
mod tests {
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
            of(format!("{german}\n{english}").as_bytes()),
            Some("de"),
            "without one it would be the first"
        );
    }

    #[test]
    fn too_little_prose_says_nothing() {
        for text in ["", "ok", "fix this", "x = y + z", "\u{FFFD}"] {
            assert_eq!(of(text.as_bytes()), None, "{text}");
        }
    }
}
