//! Comparisons as they are written: `">8000"`, `"<=10%"`, `"1000-8000"`.

/// A comparison of a number with one or two others.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Comparison {
    Over(f64),
    From(f64),
    Under(f64),
    Upto(f64),
    Is(f64),
    Between(f64, f64),
}

// === impl Comparison ===

impl Comparison {
    /// Reads one, with `number` for the numbers in it. `None`: it is none.
    pub(super) fn read(written: &str, number: impl Fn(&str) -> Option<f64>) -> Option<Comparison> {
        type Make = fn(f64) -> Comparison;
        let written = written.trim();
        let operators: [(&str, Make); 5] = [
            (">=", Comparison::From),
            ("<=", Comparison::Upto),
            (">", Comparison::Over),
            ("<", Comparison::Under),
            ("=", Comparison::Is),
        ];
        for (operator, make) in operators {
            if let Some(rest) = written.strip_prefix(operator) {
                return number(rest.trim()).map(make);
            }
        }
        let (low, high) = written.split_once('-')?;
        Some(Comparison::Between(number(low.trim())?, number(high.trim())?))
    }

    /// Whether it holds for this number.
    pub(super) fn holds(self, value: f64) -> bool {
        match self {
            Comparison::Over(bound) => value > bound,
            Comparison::From(bound) => value >= bound,
            Comparison::Under(bound) => value < bound,
            Comparison::Upto(bound) => value <= bound,
            Comparison::Is(bound) => (value - bound).abs() < f64::EPSILON,
            Comparison::Between(low, high) => (low..=high).contains(&value),
        }
    }

    /// Whether another one holds wherever this one does.
    pub(super) fn is_within(self, wide: Comparison) -> bool {
        let ((low, from), (high, upto)) = self.bounds();
        let ((least, with_least), (most, with_most)) = wide.bounds();
        let above = low > least || (low == least && (with_least || !from));
        let below = high < most || (high == most && (with_most || !upto));
        above && below
    }

    /// Its lower and its upper bound, each with whether it holds for the bound itself.
    fn bounds(self) -> ((f64, bool), (f64, bool)) {
        let (none, all) = ((f64::NEG_INFINITY, true), (f64::INFINITY, true));
        match self {
            Comparison::Over(bound) => ((bound, false), all),
            Comparison::From(bound) => ((bound, true), all),
            Comparison::Under(bound) => (none, (bound, false)),
            Comparison::Upto(bound) => (none, (bound, true)),
            Comparison::Is(bound) => ((bound, true), (bound, true)),
            Comparison::Between(low, high) => ((low, true), (high, true)),
        }
    }

    /// Whether it holds for no number from `least` to `most`.
    pub(super) fn is_impossible(self, least: f64, most: f64) -> bool {
        match self {
            Comparison::Over(bound) => bound >= most,
            Comparison::From(bound) => bound > most,
            Comparison::Under(bound) => bound <= least,
            Comparison::Upto(bound) => bound < least,
            Comparison::Is(bound) => !(least..=most).contains(&bound),
            Comparison::Between(low, high) => low > high || low > most || high < least,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(written: &str) -> Option<Comparison> {
        Comparison::read(written, |text| text.parse().ok())
    }

    #[test]
    fn what_is_within_another_one_holds_nowhere_where_that_does_not() {
        let all =
            [">8", ">=8", "<8", "<=8", "=8", "8-9", "7-8", "=9", ">9", "<=7"].map(|text| read(text).unwrap());
        for (one, other) in all.iter().flat_map(|one| all.iter().map(move |other| (*one, *other))) {
            // Enough numbers to tell these apart.
            let holds = (0..40).map(|half| f64::from(half) / 2.0).all(|n| !one.holds(n) || other.holds(n));
            assert_eq!(one.is_within(other), holds, "{one:?} within {other:?}");
        }
    }

    #[test]
    fn every_operator_has_its_side_of_the_bound() {
        let cases = [
            (">8", [false, false, true]),
            (">=8", [false, true, true]),
            ("<8", [true, false, false]),
            ("<= 8", [true, true, false]),
            ("=8", [false, true, false]),
            ("8-9", [false, true, true]),
            ("1 - 7", [true, false, false]),
        ];
        for (written, expected) in cases {
            let comparison = read(written).unwrap();
            assert_eq!([7.0, 8.0, 9.0].map(|value| comparison.holds(value)), expected, "{written}");
        }
    }

    #[test]
    fn what_is_no_comparison_is_none() {
        for written in ["", "8", ">", "8000 tokens", ">x", "=>8", "1-", "-1", "1-2-3"] {
            assert_eq!(read(written), None, "{written}");
        }
    }

    #[test]
    fn what_no_number_can_be_is_impossible() {
        for written in ["<0", ">100", ">=101", "=101", "9-8", "101-200"] {
            assert!(read(written).unwrap().is_impossible(0.0, 100.0), "{written}");
        }
        for written in ["<=0", "<1", ">99", ">=100", "=0", "=100", "0-0", "100-101"] {
            assert!(!read(written).unwrap().is_impossible(0.0, 100.0), "{written}");
        }
    }
}
