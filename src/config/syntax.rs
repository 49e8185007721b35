//! What is wrong with the syntax of a TOML file, in the words of those who write one. The parser's own words are meant for
//! those who know the grammar. No piece of the text is quoted but keys: it may hold a secret.

use super::read::SyntaxProblem;

/// Quotes that editors for prose make of straight ones.
const TYPOGRAPHIC: [char; 7] =
    ['\u{201c}', '\u{201d}', '\u{201e}', '\u{2018}', '\u{2019}', '\u{ab}', '\u{bb}'];
/// The longest key that is named.
const MOST_KEY: usize = 64;

/// What the parser complains of, and where.
pub(crate) fn problem(text: &str, error: &toml::de::Error) -> SyntaxProblem {
    let span = error.span().unwrap_or(0..0);
    let theirs = error.message().trim_end_matches('.').replace('\n', ", ").replace(", expected nothing", "");
    let spot = Spot {
        theirs: &theirs,
        line: line_at(text, span.start),
        behind: text.get(span.start..).unwrap_or_default(),
        span: text.get(span.clone()).unwrap_or_default(),
    };
    let message =
        another_format(text).or_else(|| said(&spot)).unwrap_or_else(|| format!("not valid TOML: {theirs}"));
    (span.start, message)
}

/// What is at the place that the parser complains of.
struct Spot<'t> {
    /// The parser's words.
    theirs: &'t str,
    /// The whole line.
    line: &'t str,
    /// All that follows.
    behind: &'t str,
    /// What is meant of it.
    span: &'t str,
}

fn line_at(text: &str, offset: usize) -> &str {
    let (before, behind) = text.split_at_checked(offset).unwrap_or((text, ""));
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let end = behind.find('\n').map_or(text.len(), |newline| offset + newline);
    text.get(start..end).unwrap_or_default().trim()
}

/// A key as it is written without quotes.
fn is_key(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
}

/// A file that was not meant to be TOML.
fn another_format(text: &str) -> Option<String> {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let first = lines.next()?;
    if first.starts_with('{') {
        return Some(
            "is JSON, it seems; the configuration is TOML: [providers.ollama], then type = \"ollama\""
                .to_owned(),
        );
    }
    let key = first.strip_suffix(':')?;
    is_key(key).then(|| {
        "is YAML, it seems; the configuration is TOML: [providers.ollama], then type = \"ollama\" (the Python demuxai's \
         config.yml is read if its name ends in .yml)"
            .to_owned()
    })
}

/// What was probably meant.
fn said(spot: &Spot<'_>) -> Option<String> {
    let Spot { theirs, line, behind, span } = *spot;
    let is = |begin: &str| theirs.starts_with(begin);
    let word: String = behind.chars().take_while(char::is_ascii_alphabetic).collect();
    let truth = ["true", "false", "yes", "no", "on", "off"].contains(&word.to_ascii_lowercase().as_str());
    let no_value = is("key with no value") || (is("string values must be quoted") && line.ends_with('='));
    let text = if behind.starts_with(TYPOGRAPHIC) {
        "a typographic quote; write straight ones, as in type = \"ollama\""
    } else if truth && (is("string values must be quoted") || is("invalid")) {
        "write true or false, in lower case and without quotes"
    } else if no_value && line.split_once(':').is_some_and(|(key, _)| is_key(key.trim())) {
        "a key and its value have `=` between them, not `:`"
    } else if no_value {
        "a key without a value; write it as in type = \"ollama\""
    } else if is("string values must be quoted") {
        "text must be in quotes, as in type = \"ollama\""
    } else if is("duplicate key") {
        let key = span.trim_matches(['"', '\'']);
        let key: String = key.chars().take(MOST_KEY).flat_map(char::escape_debug).collect();
        return Some(format!(
            "not valid TOML: `{key}` is there already, further up; take one of the two out"
        ));
    } else if is("unexpected key or value") {
        "a value ends before this, and nothing may follow it on its line; a quote inside of quotes is written \\\""
    } else if is("unclosed table") || is("unclosed array table") {
        "a `]` is missing, or the name in the brackets has other characters than a-z, 0-9, `_` and `-`"
    } else if theirs.contains("recursion") {
        return Some("is nested too deeply; a configuration needs no more than ten levels".to_owned());
    } else if is("missing escaped value") || is("too few unicode") {
        "a backslash in quotes begins a character such as \\n; write \\\\, or take '...' instead of \"...\""
    } else if is("carriage return") {
        "the lines end as on an old Macintosh; save the file with the line ends of Unix or Windows"
    } else if is("invalid basic string") && behind.chars().next().is_none_or(|c| matches!(c, '\n' | '\r')) {
        "the text has no quote at its end"
    } else if is("invalid basic string") || is("invalid literal string") {
        "text has a character that cannot be seen; take it out, or write it like \\u001b"
    } else {
        return None;
    };
    Some(format!("not valid TOML: {text}"))
}
