//! What is shown of members that speak at the same time: one is on the stage and shown as it speaks, the others wait and
//! are shown whole, in the order in which they end. So the first word comes as early as it can, and everybody can be read.
//! Pure.

use std::sync::Arc;

/// What is shown of the members of one request.
#[derive(Debug, Default)]
pub(super) struct Stage {
    parts: Vec<Part>,
    on: Option<usize>,
    /// Somebody said something. That somebody failed is shown only then: it would commit the answer to nothing.
    begun: bool,
    /// Those that ended while another one was on the stage, in that order.
    ended: Vec<usize>,
}

#[derive(Debug)]
struct Part {
    label: Arc<str>,
    /// What it said while another one was on the stage.
    waiting: String,
    /// It was on the stage, or is.
    shown: bool,
    ended: bool,
}

// === impl Stage ===

impl Stage {
    /// A stage for these members.
    pub(super) fn new(labels: impl Iterator<Item = Arc<str>>) -> Self {
        let part = |label| Part { label, waiting: String::new(), shown: false, ended: false };
        Stage { parts: labels.map(part).collect(), ..Stage::default() }
    }

    /// A member says something; what is to be shown now.
    pub(super) fn said(&mut self, who: usize, text: &str) -> String {
        let empty = self.on.is_none();
        let Some(part) = self.parts.get_mut(who) else { return String::new() };
        if self.on == Some(who) {
            return text.to_owned();
        }
        part.waiting.push_str(text);
        if !empty {
            return String::new();
        }
        self.on = Some(who);
        self.begun = true;
        part.begin()
    }

    /// A member has ended, with a note if it did not end well; what is to be shown now.
    pub(super) fn ended(&mut self, who: usize, note: Option<&str>) -> String {
        let Some(part) = self.parts.get_mut(who) else { return String::new() };
        part.ended = true;
        let end = match note {
            Some(note) => format!("[{note}]\n\n"),
            None => "\n\n".to_owned(),
        };
        if self.on != Some(who) {
            part.waiting.push_str(&end);
            self.ended.push(who);
            return if self.begun && self.on.is_none() { self.next() } else { String::new() };
        }
        self.on = None;
        format!("{end}{}", self.next())
    }

    /// Those that ended, whole; then the first of those that began to speak.
    fn next(&mut self) -> String {
        let mut text = String::new();
        for who in std::mem::take(&mut self.ended) {
            text.extend(self.parts.get_mut(who).map(Part::begin));
        }
        let speaks = |part: &Part| !part.ended && !part.shown && !part.waiting.is_empty();
        self.on = self.parts.iter().position(speaks);
        text.extend(self.on.and_then(|who| self.parts.get_mut(who)).map(Part::begin));
        text
    }
}

// === impl Part ===

impl Part {
    /// Its name and all that it said so far.
    fn begin(&mut self) -> String {
        self.shown = true;
        format!("**{}**\n\n{}", self.label, std::mem::take(&mut self.waiting))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage() -> Stage {
        Stage::new(["a", "b", "c"].into_iter().map(Arc::from))
    }

    #[test]
    fn one_speaks_and_the_others_follow_whole_in_the_order_in_which_they_ended() {
        let mut stage = stage();
        assert_eq!(stage.said(1, "B1"), "**b**\n\nB1");
        assert_eq!(stage.said(0, "A1 "), "");
        assert_eq!(stage.said(1, " B2"), " B2");
        assert_eq!(stage.said(2, "C"), "");
        assert_eq!(stage.ended(2, None), "");
        assert_eq!(stage.said(0, "A2 "), "");
        assert_eq!(stage.ended(1, None), "\n\n**c**\n\nC\n\n**a**\n\nA1 A2 ", "who still speaks comes last");
        assert_eq!(stage.said(0, "A3"), "A3");
        assert_eq!(stage.ended(0, Some("broke off")), "[broke off]\n\n");
    }

    #[test]
    fn who_fails_without_a_word_is_named_once_somebody_said_something() {
        let mut stage = stage();
        assert_eq!(stage.ended(0, Some("timeout")), "");
        assert_eq!(stage.said(1, "B"), "**b**\n\nB");
        assert_eq!(stage.ended(1, None), "\n\n**a**\n\n[timeout]\n\n");
        assert_eq!(stage.ended(2, Some("connect")), "**c**\n\n[connect]\n\n");
        assert_eq!(stage.said(7, "x"), "", "who is not there is not shown");
    }
}
