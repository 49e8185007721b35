//! What ends, or begins, without any request: a fresh model list lifts what was put off because a model was not served, and
//! what is told of the account's credits puts off what costs some. Pure.

use super::Moment;
use super::learn::Change;
use super::ledger::Ledger;
use super::limit::Glob;
use super::said::RefusalClass;

/// The account's credits are used up.
#[derive(Debug)]
pub(super) struct Broke {
    /// Models that cost none.
    free: Option<Glob>,
}

// === impl Ledger ===

impl Ledger {
    /// The upstream listed its models anew: what it would not serve before, it may serve now.
    pub fn listed(&mut self, now: Moment) {
        self.lift(RefusalClass::NotServed, now);
    }

    /// Whether any credits are left, as the upstream tells. While none are, whoever can be asked instead is; models that
    /// match `free` cost none.
    pub fn credit(&mut self, is_left: bool, free: Option<&Glob>, now: Moment) -> Option<Change> {
        let was_broke = self.broke.is_some();
        self.broke = (!is_left).then(|| Broke { free: free.cloned() });
        match (was_broke, is_left) {
            (true, true) => {
                // It wants no payment any more for what it wanted some before.
                self.lift(RefusalClass::Payment, now);
                Some(Change { what: "there are credits again".to_owned() })
            }
            (false, false) => {
                let free = free.map_or_else(String::new, |free| format!(", but for {}", free.text));
                let what =
                    format!("the credits are used up: others are asked first{free}, until there are some");
                Some(Change { what })
            }
            _ => None,
        }
    }

    /// Whether this model costs credits of which none are left.
    pub(super) fn is_broke_for(&self, model: &str) -> bool {
        let is_free = |broke: &Broke| broke.free.as_ref().is_some_and(|free| free.matcher.is_match(model));
        self.broke.as_ref().is_some_and(|broke| !is_free(broke))
    }

    fn lift(&mut self, class: RefusalClass, now: Moment) {
        let now = self.heed(now);
        for block in self.blocks.values_mut().filter(|block| block.class == class && block.until > now) {
            block.until = now;
            block.dirty = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::admission::{Cause, Mode, Need};
    use super::super::said::Refusal;
    use super::*;

    fn need(model: &str) -> Need<'_> {
        Need {
            model,
            input_tokens: 1,
            output_tokens: 1,
            off: 0,
            answer_off: 0,
            most_output: None,
            stream: false,
        }
    }

    fn refused(class: RefusalClass, per_model: bool) -> Ledger {
        let mut ledger = Ledger::new(Vec::new());
        let refusal = Refusal { class, per_model, unit: None, retry_after: None };
        ledger.refuse(&refusal, "m", None, None, Moment(0));
        assert!(ledger.check(&need("m"), Moment(1)).is_err());
        ledger
    }

    #[test]
    fn a_model_that_was_not_served_is_asked_for_again_after_the_next_list() {
        let mut ledger = refused(RefusalClass::NotServed, true);
        ledger.listed(Moment(2));
        assert!(ledger.check(&need("m"), Moment(2)).is_ok());
        let rows = ledger.dirty();
        let rows: Vec<(&str, &str)> = rows.iter().map(|(key, json)| (key.as_str(), json.as_str())).collect();
        let mut after = Ledger::new(Vec::new());
        after.restore(&rows, Moment(3));
        assert!(after.check(&need("m"), Moment(3)).is_ok(), "nor is it put off again by a restart");
        let mut ledger = refused(RefusalClass::Payment, true);
        ledger.listed(Moment(2));
        assert!(ledger.check(&need("m"), Moment(2)).is_err(), "a list says nothing of money");
    }

    #[test]
    fn without_credits_free_models_are_asked_and_others_only_where_nobody_else_can() {
        let free = Glob::parse("*:free").unwrap();
        let mut ledger = Ledger::new(Vec::new());
        assert!(ledger.credit(true, Some(&free), Moment(0)).is_none());
        assert!(ledger.credit(false, Some(&free), Moment(0)).is_some());
        assert!(ledger.credit(false, Some(&free), Moment(1)).is_none(), "that is no news");
        assert!(ledger.check(&need("x:free"), Moment(1)).is_ok());
        let denial = ledger.check(&need("x"), Moment(1)).unwrap_err();
        assert_eq!((denial.cause, denial.until, denial.probe), (Cause::Payment, None, true));
        assert!(ledger.admit(&need("x"), Mode::Probe, Moment(1)).is_ok(), "the upstream has the last word");
        let refusal =
            Refusal { class: RefusalClass::Payment, per_model: true, unit: None, retry_after: None };
        ledger.refuse(&refusal, "x", None, None, Moment(2));
        assert!(ledger.credit(true, Some(&free), Moment(3)).is_some());
        assert!(ledger.check(&need("x"), Moment(3)).is_ok());
    }
}
