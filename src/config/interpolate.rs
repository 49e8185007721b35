//! `${VAR}` inside text: pure, over an environment that is passed in. `$${` stands for `${`.

use std::collections::BTreeMap;

/// Longest text that may come out.
const MOST_BYTES: usize = 64 * 1024;

/// More variables of one text than this are not named.
const MOST_NAMES: usize = 20;

/// A text with its variables filled in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Expanded {
    /// The text.
    pub(crate) text: String,
    /// The variables that are in it.
    pub(crate) variables: Vec<String>,
}

/// Why a text cannot be filled in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// These variables are not set.
    Unset(Vec<String>),
    /// A `${` that is not followed by a name and `}`.
    Malformed,
    /// What comes out is longer than 64 KiB.
    TooLong,
}

/// Fills in all variables of a text; `None` when there is nothing to do.
pub(crate) fn expand(text: &str, env: &BTreeMap<String, String>) -> Option<Result<Expanded, Fault>> {
    text.contains("${").then(|| filled(text, env))
}

fn filled(text: &str, env: &BTreeMap<String, String>) -> Result<Expanded, Fault> {
    let mut expanded = Expanded { text: String::new(), variables: Vec::new() };
    let mut unset = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        if let Some(literal) = before.strip_suffix('$') {
            expanded.text.push_str(literal);
            expanded.text.push_str("${");
            rest = after;
            continue;
        }
        expanded.text.push_str(before);
        let (name, behind) = after.split_once('}').ok_or(Fault::Malformed)?;
        if !is_name(name) {
            return Err(Fault::Malformed);
        }
        let names = match env.get(name) {
            Some(value) => {
                expanded.text.push_str(value);
                &mut expanded.variables
            }
            None => &mut unset,
        };
        if names.len() < MOST_NAMES && !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
        if expanded.text.len() > MOST_BYTES {
            return Err(Fault::TooLong);
        }
        rest = behind;
    }
    expanded.text.push_str(rest);
    if unset.is_empty() { Ok(expanded) } else { Err(Fault::Unset(unset)) }
}

/// Whether it can be the name of a variable.
pub(crate) fn is_name(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.len() <= 256
        && text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(text: &str) -> Result<String, Fault> {
        let env = [("A", "1"), ("_B2", "two"), ("EMPTY", ""), ("NESTED", "${A}")];
        let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        match expand(text, &env) {
            None => Ok(text.to_owned()),
            Some(outcome) => outcome.map(|found| found.text),
        }
    }

    #[test]
    fn variables_are_filled_in_once() {
        assert_eq!(expanded("x ${A}-${_B2}${EMPTY}!").unwrap(), "x 1-two!");
        assert_eq!(expanded("${NESTED}").unwrap(), "${A}", "values are not expanded again");
        assert_eq!(expanded("$A {A} $ {A}").unwrap(), "$A {A} $ {A}");
    }

    #[test]
    fn a_doubled_dollar_escapes() {
        assert_eq!(expanded("$${A}").unwrap(), "${A}");
        assert_eq!(expanded("$${A} ${A}").unwrap(), "${A} 1");
        assert_eq!(expanded("$$").unwrap(), "$$");
    }

    #[test]
    fn faults_name_all_unset_variables_or_say_what_is_malformed() {
        assert_eq!(expanded("${X}${A}${Y}"), Err(Fault::Unset(vec!["X".to_owned(), "Y".to_owned()])));
        for text in ["${", "${}", "${A", "${A:-b}", "${1A}", "${A B}", "${Ä}"] {
            assert_eq!(expanded(text), Err(Fault::Malformed), "{text}");
        }
    }

    #[test]
    fn what_comes_out_is_bounded() {
        let env = BTreeMap::from([("A".to_owned(), "x".repeat(1000))]);
        assert_eq!(expand(&"${A}".repeat(1000), &env), Some(Err(Fault::TooLong)));
    }
}
