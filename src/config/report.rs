//! Every problem of a configuration at once, in the words that a person needs to mend it.
//! Never contains a secret: whoever adds a problem names the key and the variable, not the value.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;

use super::place::Origin;

/// More problems than this are counted, not kept.
const MOST_KEPT: usize = 200;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where it was written.
    pub origin: Origin,
    /// The key path, empty when the file as a whole is meant.
    pub key: String,
    /// What is wrong and how to mend it; lowercase, no full stop.
    pub message: String,
}

/// Why a configuration cannot be used: all problems, sorted by file and line.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// The problems, at most 200.
    pub problems: Vec<Problem>,
    /// How many more there were.
    pub more: usize,
    /// What is probably not meant beside that.
    pub warnings: Vec<Problem>,
    /// The files that were read or should have been: one of them has to change.
    pub files: Vec<PathBuf>,
}

/// Gathers problems in the order of their places.
#[derive(Default)]
pub(crate) struct Findings {
    found: Vec<((usize, usize), Problem)>,
    seen: BTreeSet<(String, String)>,
    more: usize,
}

// === impl Findings ===

impl Findings {
    /// Keeps a problem, unless the same was said of the same key before. It is made only if there is room for it:
    /// finding the line of each of a million problems would take minutes.
    pub(crate) fn add(&mut self, order: (usize, usize), problem: impl FnOnce() -> Problem) {
        if self.found.len() >= MOST_KEPT {
            self.more += 1;
            return;
        }
        let made = problem();
        if self.seen.insert((made.key.clone(), made.message.clone())) {
            self.found.push((order, made));
        }
    }

    /// Whether nothing was found.
    pub(crate) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// The report.
    pub(crate) fn into_report(mut self) -> Report {
        self.found.sort_by_key(|(order, _)| *order);
        let problems = self.found.into_iter().map(|(_, problem)| problem).collect();
        Report { problems, more: self.more, ..Report::default() }
    }
}

// === impl Report ===

impl Report {
    /// One problem of all of it, or of this file.
    pub fn of(file: Option<PathBuf>, message: String) -> Report {
        let in_file = |path| Origin::File { path, line: None, column: None };
        let origin = file.clone().map_or(Origin::BuiltIn, in_file);
        let problems = vec![Problem { origin, key: String::new(), message }];
        Report { problems, files: file.into_iter().collect(), ..Report::default() }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.problems.len() + self.more;
        let noun = if count == 1 { "problem" } else { "problems" };
        write!(f, "the configuration has {count} {noun}")?;
        f.write_str(&listed(&self.problems))?;
        if self.more > 0 {
            write!(f, "\nand {} more", self.more)?;
        }
        if !self.warnings.is_empty() {
            write!(f, "\n{}", warned(&self.warnings))?;
        }
        Ok(())
    }
}

/// Warnings for people, under a heading of their own.
pub fn warned(warnings: &[Problem]) -> String {
    let noun = if warnings.len() == 1 { "warning" } else { "warnings" };
    format!("{} {noun}{}", warnings.len(), listed(warnings))
}

/// Problems by file and line, each on a line of its own.
fn listed(problems: &[Problem]) -> String {
    let (mut text, mut heading) = (String::new(), String::new());
    for problem in problems {
        let (place, line) = heading_and_line(&problem.origin);
        if place != heading {
            text.push_str(&format!("\n{place}"));
            heading = place;
        }
        text.push_str("\n  ");
        if let Some(line) = line {
            text.push_str(&format!("{line}: "));
        }
        if !problem.key.is_empty() {
            text.push_str(&format!("{}: ", problem.key));
        }
        text.push_str(&problem.message);
    }
    text
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (place, line) = heading_and_line(&self.origin);
        let line = line.map_or_else(String::new, |line| format!(":{line}"));
        let key = if self.key.is_empty() { String::new() } else { format!("{}: ", self.key) };
        write!(f, "{place}{line}: {key}{}", self.message)
    }
}

impl std::error::Error for Report {}

fn heading_and_line(origin: &Origin) -> (String, Option<String>) {
    match origin {
        Origin::File { path, line, column } => {
            let position = line.zip(*column).map(|(line, column)| format!("{line}:{column}"));
            (path.display().to_string(), position)
        }
        other => (other.to_string(), None),
    }
}

/// The most similar of the known words, if one is similar enough to be meant.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.is_empty() || word.len() > 64 {
        return None;
    }
    let lower = word.to_lowercase().replace('_', "-");
    let mut best: Option<(f64, &'a str)> = None;
    for candidate in known {
        let score = strsim::normalized_damerau_levenshtein(&lower, &candidate.replace('_', "-"));
        if score >= 0.6 && best.is_none_or(|(high, _)| score > high) {
            best = Some((score, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// `; did you mean ...?` or nothing.
pub(crate) fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, known).map_or_else(String::new, |found| format!("; did you mean `{found}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_finds_typos_and_leaves_strangers_alone() {
        let known = ["exclude_models", "include_models", "url"];
        assert_eq!(nearest("exlude_models", known), Some("exclude_models"));
        assert_eq!(nearest("INCLUDE-MODELS", known), Some("include_models"));
        assert_eq!(nearest("colour", known), None);
        assert_eq!(nearest(&"u".repeat(10_000), known), None);
    }

    #[test]
    fn problems_beyond_the_bound_are_counted_not_kept() {
        let mut findings = Findings::default();
        for number in 0..MOST_KEPT + 7 {
            let key = number.to_string();
            findings.add((0, 0), || Problem { origin: Origin::CommandLine, key, message: String::new() });
        }
        let report = findings.into_report();
        assert_eq!((report.problems.len(), report.more), (MOST_KEPT, 7));
        assert!(report.to_string().ends_with("and 7 more"));
    }
}
