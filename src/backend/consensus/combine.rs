//! How one answer comes of several without a judge, and how a judge's choice is read. Pure.

use serde_json::Value;

/// What makes one answer of several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Combine {
    /// A judge writes it.
    Judge,
    /// A judge chooses one.
    Best,
    /// The one that was there first.
    First,
    /// The longest one.
    Longest,
    /// The one that more than half of them give.
    Majority,
}

impl Combine {
    /// The word in the configuration.
    pub fn word(self) -> &'static str {
        match self {
            Combine::Judge => "judge",
            Combine::Best => "best",
            Combine::First => "first",
            Combine::Longest => "longest",
            Combine::Majority => "majority",
        }
    }

    /// Whether a judge is asked.
    pub fn asks_judge(self) -> bool {
        matches!(self, Combine::Judge | Combine::Best)
    }

    /// Which of these answers, in the order in which they came, it is. `None`: none, or a judge has to say.
    pub(super) fn choose(self, answers: &[&str]) -> Option<usize> {
        match self {
            Combine::Judge | Combine::Best => None,
            Combine::First => (!answers.is_empty()).then_some(0),
            Combine::Longest => longest(answers),
            Combine::Majority => agreed(answers, answers.len()),
        }
    }

    /// Whether more answers cannot change anything, of so many members in all.
    pub(super) fn settled(self, answers: &[&str], members: usize) -> bool {
        match self {
            Combine::First => !answers.is_empty(),
            Combine::Majority => agreed(answers, members).is_some(),
            Combine::Judge | Combine::Best | Combine::Longest => false,
        }
    }
}

/// Of several that are as long, the first.
fn longest(answers: &[&str]) -> Option<usize> {
    let length = |index: &usize| answers.get(*index).map_or(0, |answer| answer.chars().count());
    (0..answers.len()).rev().max_by_key(length)
}

/// The first of the answers that are the same in more than half of `all`.
fn agreed(answers: &[&str], all: usize) -> Option<usize> {
    let read: Vec<Meaning<'_>> = answers.iter().map(|answer| Meaning::of(answer)).collect();
    (0..read.len()).find(|index| {
        let same = read.get(*index).map_or(0, |one| read.iter().filter(|other| *other == one).count());
        same * 2 > all
    })
}

/// What is compared of an answer: its JSON, without the fence that models put around it, else its text without the
/// white space around it.
#[derive(PartialEq)]
enum Meaning<'a> {
    Json(Value),
    Text(&'a str),
}

impl<'a> Meaning<'a> {
    fn of(answer: &'a str) -> Self {
        let text = answer.trim();
        match serde_json::from_str(unfenced(text)) {
            Ok(value) => Meaning::Json(value),
            Err(_) => Meaning::Text(text),
        }
    }
}

fn unfenced(text: &str) -> &str {
    let inner = text.strip_prefix("```").and_then(|text| text.strip_suffix("```"));
    inner.and_then(|inner| inner.split_once('\n')).map_or(text, |(_, body)| body)
}

/// Which of so many answers a judge chose: the first number in its text, counted from 1. `None`: none of them.
pub(super) fn choice(text: &str, count: usize) -> Option<usize> {
    let digits = text.trim_start_matches(|letter: char| !letter.is_ascii_digit());
    let end = digits.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(digits.len());
    let number: usize = digits.get(..end)?.parse().ok()?;
    (1..=count).contains(&number).then(|| number - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_and_the_longest_are_found() {
        assert_eq!(Combine::First.choose(&["a", "bbb"]), Some(0));
        assert_eq!(Combine::Longest.choose(&["a", "éé", "bb"]), Some(1), "of two as long the first");
        for combine in [Combine::First, Combine::Longest, Combine::Majority] {
            assert_eq!(combine.choose(&[]), None);
        }
        assert!(Combine::First.settled(&["a"], 3) && !Combine::Longest.settled(&["a"], 1));
    }

    #[test]
    fn a_majority_is_more_than_half_of_equal_answers() {
        let choose = |answers: &[&str]| Combine::Majority.choose(answers);
        assert_eq!(choose(&["4", " 4\n", "5"]), Some(0));
        assert_eq!(choose(&["5", "4", "4"]), Some(1));
        assert_eq!(choose(&["4", "5"]), None, "half is no majority");
        assert_eq!(choose(&["Yes", "yes", "no"]), None);
        assert_eq!(
            choose(&[r#"{"a":1,"b":[2]}"#, "```json\n{ \"b\": [2], \"a\": 1 }\n```", r#"{"a":2}"#]),
            Some(0),
            "JSON is compared by what it says"
        );
        assert_eq!(choose(&["[1,2]", "[2,1]", "x"]), None, "the order of a list says something");
    }

    #[test]
    fn a_majority_of_all_members_needs_no_more_of_them() {
        let settled = |answers: &[&str], members| Combine::Majority.settled(answers, members);
        assert!(settled(&["4", "4"], 3) && !settled(&["4", "4"], 4) && !settled(&["4", "5"], 3));
    }

    #[test]
    fn a_judge_s_choice_is_the_first_number_it_says() {
        assert_eq!(choice("2", 3), Some(1));
        assert_eq!(choice("**Answer 3** is better than 1.", 3), Some(2));
        for text in ["", "none", "0", "4", "99999999999999999999999"] {
            assert_eq!(choice(text, 3), None, "{text}");
        }
    }
}
